//! Schedules with fixed seeds.

use std::time::{Duration, Instant};

use strandline_sim::tape::Tape;
use strandline_threads::campaign::{Count, run_tape};
use strandline_threads::plan::Plan;
use strandline_threads::run::run;
use strandline_threads::schedule::Policy;

#[test]
fn every_promise_holds_under_all_these_schedules() {
    let mut count = Count::default();
    let began = Instant::now();
    for seed in 0..300 {
        if let Err(found) = run_tape(&Tape::seeded(seed), seed, &mut count) {
            panic!("seed {seed}\n{}", found.shrink(seed, Duration::from_secs(20)));
        }
    }
    println!("{count:?} {:?}", began.elapsed());
}

#[test]
fn equal_tapes_give_equal_runs() {
    for seed in 0..50 {
        let hash = || {
            let mut tape = Tape::seeded(seed);
            let policy = Policy::draw(&mut tape);
            let plan = Plan::draw(&mut tape, policy);
            run(&plan, tape).hash
        };
        assert_eq!(hash(), hash(), "seed {seed}");
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
