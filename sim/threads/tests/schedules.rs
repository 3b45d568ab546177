//! Schedules with fixed seeds.

use std::time::Duration;

use strandline_sim::tape::{Lists, Subject, Tape};
use strandline_threads::campaign::{Count, run_tape};
use strandline_threads::plan::Plan;
use strandline_threads::run::{Outcome, run};
use strandline_threads::schedule::Policy;

/// How many seeds; a few seconds of schedules.
const SEEDS: u64 = 240;

#[test]
fn every_promise_holds_under_all_these_schedules() {
    let mut count = Count::default();
    for seed in 0..SEEDS {
        if let Err(found) = run_tape(&Tape::seeded(seed), seed, &mut count) {
            panic!("seed {seed}\n{}", found.shrink(seed, Duration::from_secs(20)));
        }
    }
    println!("{count:?}");
    // A rule that never met what it is about has not been checked.
    for what in [
        "commit",
        "conflict",
        "checkpoint",
        "scan",
        "write skew",
        "copy opened",
        "caught up",
        "increment",
        "view",
        "drop",
        "rename",
    ] {
        assert!(count.marks.get(what).is_some_and(|n| *n > 0), "{what}: {count:?}");
    }
    assert!(count.images > SEEDS);
}

fn run_by(lists: Option<Lists>, seed: u64) -> (Outcome, Lists) {
    let mut tape = lists.map_or_else(|| Tape::seeded(seed), Tape::from_lists);
    let policy = Policy::draw(&mut tape);
    let drawn = tape.drawn()[Subject::Config as usize].len();
    let plan = Plan::draw(&mut tape, policy);
    let mut lists = tape.drawn().clone();
    let outcome = run(&plan, tape);
    lists[Subject::Config as usize].splice(..drawn, [0]);
    lists[Subject::Schedule as usize].clone_from(&outcome.choices);
    (outcome, lists)
}

/// Covers: S1, S2 of the scheduler.
#[test]
fn equal_tapes_give_equal_runs_and_the_choices_alone_give_the_same() {
    for seed in 0..50 {
        let ((first, lists), (second, _)) = (run_by(None, seed), run_by(None, seed));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.hash, run_by(Some(lists), seed).0.hash, "seed {seed}, by its choices");
    }
}

/// The engine that is shipped depends on nothing of this.
#[test]
fn the_shipped_engine_knows_no_scheduler() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = std::process::Command::new(cargo)
        .args(["tree", "--offline", "--edges", "normal,build", "--prefix", "none", "--package", "strandline@0.1.0"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .expect("cargo can be started");
    let tree = String::from_utf8_lossy(&tree.stdout);
    assert!(tree.contains("strandline-vfs") && tree.contains("parking_lot"), "{tree}");
    assert!(!tree.contains("shuttle") && !tree.contains("strandline-locks"), "{tree}");
}
