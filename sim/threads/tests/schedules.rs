//! Schedules with fixed seeds.

use strandline_sim::tape::Tape;
use strandline_threads::plan::Plan;
use strandline_threads::run::{Outcome, run};

fn seeded(seed: u64) -> (Plan, Outcome) {
    let mut tape = Tape::seeded(seed);
    let plan = Plan::draw(&mut tape);
    let outcome = run(&plan, tape);
    (plan, outcome)
}

#[test]
fn threads_come_to_their_end_and_equal_tapes_give_equal_runs() {
    for seed in 0..200 {
        let (plan, outcome) = seeded(seed);
        let failure = outcome.broken.or(outcome.history.failure);
        assert!(failure.is_none(), "seed {seed}\n{plan}{failure:?}");
        assert_eq!(outcome.hash, seeded(seed).1.hash, "seed {seed}\n{plan}");
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
