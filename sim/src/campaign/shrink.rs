//! Makes a failing case short: fewer operations, the default settings, as long as the same rule breaks.

use std::time::{Duration, Instant};

use super::case::{Case, run_case};
use crate::driver::Failure;
use crate::oracle::{Judge, Rule};
use crate::workload::Config;

/// Tries for at most `cap` to make `case` smaller. Gives the smallest one found and its failure.
///
/// Operations go in runs, the longest first; then single ones; then settings go back to their defaults. The latest are
/// tried first: what comes after the failure cannot matter.
pub fn shrink(case: &Case, failure: Failure, judge: fn() -> Judge, cap: Duration) -> (Case, Failure) {
    let end = Instant::now() + cap;
    let mut best = (case.clone(), failure);
    let rule = best.1.rule;
    let mut step = best.0.ops.len().div_ceil(2);
    while step > 0 && Instant::now() < end {
        let mut at = best.0.ops.len();
        let mut shorter = false;
        while at > 0 && Instant::now() < end {
            let from = at.saturating_sub(step);
            let mut tried = best.0.clone();
            tried.ops.drain(from..at);
            if let Some(failure) = fails(&tried, rule, judge) {
                best = (tried, failure);
                shorter = true;
            }
            at = from;
        }
        if step > 1 || !shorter {
            step /= 2;
        }
    }
    let plain = Config::default();
    let simpler: [fn(&mut Config, &Config); 6] = [
        |c, d| c.profile.clone_from(&d.profile),
        |c, d| c.cache = d.cache,
        |c, d| c.leaf = d.leaf,
        |c, d| c.patch = d.patch,
        |c, d| c.unit = d.unit,
        |c, d| c.pinned = d.pinned,
    ];
    for set in simpler {
        let mut tried = best.0.clone();
        set(&mut tried.config, &plain);
        if tried != best.0
            && Instant::now() < end
            && let Some(failure) = fails(&tried, rule, judge)
        {
            best = (tried, failure);
        }
    }
    best
}

fn fails(case: &Case, rule: Rule, judge: fn() -> Judge) -> Option<Failure> {
    run_case(case, &mut judge()).err().filter(|f| f.rule == rule)
}
