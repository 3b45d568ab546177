//! What was measured: samples by row and store, and their medians.
//!
//! A machine's speed drifts by a third within an hour, so a figure is the
//! median over rounds, and in each round the stores take turns, so that drift
//! meets all of them alike.

use std::collections::BTreeMap;

/// All samples of a run.
#[derive(Default)]
pub struct Ledger {
    samples: BTreeMap<(&'static str, &'static str), Vec<f64>>,
}

impl Ledger {
    /// Notes one sample.
    pub fn note(&mut self, row: &'static str, peer: &'static str, figure: f64) {
        self.samples.entry((row, peer)).or_default().push(figure);
    }

    /// The samples of one store in one row, in the order they were taken.
    pub fn samples(&self, row: &'static str, peer: &'static str) -> &[f64] {
        self.samples.get(&(row, peer)).map_or(&[], Vec::as_slice)
    }

    /// The median of those samples, if there are any.
    pub fn median(&self, row: &'static str, peer: &'static str) -> Option<f64> {
        median(self.samples(row, peer))
    }
}

/// The middle sample, or the mean of the middle two.
pub fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}
