//! The engine on simulated disks, crashed everywhere: what every `cargo test` asks of it.
//!
//! About a minute: all small workloads, a minute's share of random ones, equal runs twice, and every case that ever failed.
//! `cargo sim run` goes on for as long as it is let.

use std::fs;
use std::path::Path;
use std::time::Duration;

use strandline_sim::campaign::{Budget, Case, Progress, run_case, run_tape, swarm};
use strandline_sim::exhaustive::{BACKUP, CHAIN, Counterexample, LOG, STORE, exhaustive};
use strandline_sim::oracle::{Count, Effort, Judge};
use strandline_sim::tape::Tape;
use strandline_sim::workload::Config;

fn small_scope(what: &str, alphabet: &[&str], length: usize, config: &Config) {
    match exhaustive(alphabet, length, config, 2) {
        Ok((walked, count)) => {
            println!(
                "{what}: {walked} workloads of up to {length} operations, {} crash states, {} different images, {} crashed recoveries",
                count.states, count.images, count.nested
            );
            assert!(count.images > 100, "the walk met hardly any image");
        }
        Err(found) => {
            let Counterexample { ops, failure } = *found;
            let ops: Vec<String> = ops.iter().map(ToString::to_string).collect();
            panic!("{failure}\nconfig {config}\n{}", ops.join("\n"));
        }
    }
}

#[test]
fn every_small_workload_survives_every_crash() {
    small_scope("store", &STORE, 4, &Config::default());
}

#[test]
fn every_small_backup_survives_every_crash() {
    small_scope("backup, pinned", &BACKUP, 4, &Config::default());
    small_scope("backup, latest", &BACKUP, 4, &Config { pinned: false, ..Config::default() });
}

#[test]
fn every_small_chain_survives_every_crash() {
    small_scope("chain, pinned", &CHAIN, 3, &Config::default());
    let log = Config { log: true, segment: 2048, ..Config::default() };
    small_scope("chain with a log, latest", &CHAIN, 2, &Config { pinned: false, ..log });
}

#[test]
fn every_small_log_survives_every_crash() {
    let config = Config { log: true, segment: 2048, ..Config::default() };
    small_scope("log, pinned", &LOG, 2, &config);
    small_scope("log, latest, kept", &LOG, 2, &Config { pinned: false, keep: true, ..config });
}

#[test]
fn random_workloads_survive_crashes() {
    let marks = [
        "several points allowed",
        "backup open at the cut",
        "copy",
        "conflict",
        "restart",
        "damaged images",
        "killed",
        "commits at stake at the cut",
        "commits promised at the cut",
        "backup open and commits in the log at the cut",
        "log switched off",
        "recovery after a failure in the same boot",
        "chain of 3",
        "increment from an older origin",
        "increment after a power cut",
        "increment refused by a copy",
        "interrupted apply",
        "apply repeated after a power cut",
        "restore of one table",
        "origins released",
        "log increment",
        "catch-up",
    ];
    let jobs = 2;
    let budget = Budget { time: Duration::from_secs(20), states: u64::MAX, jobs, profile: None };
    let mut all = Count::default();
    let missing = |all: &Count| marks.into_iter().find(|mark| !all.marks.contains_key(mark));
    // A busy machine gets through fewer runs, and then the rare ones are still to come.
    for round in 1..=4 {
        let (count, found) = swarm(round * 1_000_000, budget, &Progress::new(jobs));
        if let Some(found) = found {
            panic!("{}\nseed {}\n{}", found.failure, found.seed, found.case);
        }
        all.add(&count);
        if missing(&all).is_none() {
            break;
        }
    }
    println!("{all:#?}");
    assert_eq!(missing(&all), None, "no run met it");
}

#[test]
fn equal_runs_have_equal_traces() {
    for seed in 0..20 {
        let run = || {
            let mut judge = Judge::new(Effort { nested: 0, verify: 0, ..Effort::swarm(0) });
            let (case, result) = run_tape(&mut Tape::seeded(seed), &mut judge);
            (case, result.map_err(|f| f.to_string()), judge.count.states, judge.count.images)
        };
        let (first, second) = (run(), run());
        assert_eq!(first, second, "seed {seed}");
        assert!(first.1.is_ok(), "{}\n{}", first.1.unwrap_err(), first.0);
    }
}

#[test]
fn what_once_failed_passes() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/regress");
    let mut files: Vec<_> = fs::read_dir(&dir).map(|d| d.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    files.retain(|f: &std::path::PathBuf| f.extension().is_some_and(|e| e == "case"));
    files.sort();
    for file in files {
        let name = file.display();
        let text = fs::read_to_string(&file).unwrap();
        let case = Case::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!case.why.is_empty(), "{name} does not say why it is kept");
        if let Err(failure) = run_case(&case, &mut Case::judge()) {
            panic!("{name}: {failure}");
        }
    }
}
