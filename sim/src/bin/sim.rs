//! `cargo sim`: campaigns, replays, small scopes, and the score of the planted bugs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{fs, thread};

use clap::{Parser, Subcommand};
use strandline_sim::campaign::{Budget, Case, Found, Progress, run_case, run_tape, shrink, swarm};
use strandline_sim::disk::Profile;
use strandline_sim::exhaustive::{BACKUP, CHAIN, LOG, STORE, exhaustive};
use strandline_sim::oracle::Count;
use strandline_sim::planted::{self, Trial};
use strandline_sim::tape::Tape;
use strandline_sim::workload::Config;

/// Crashes Strandline on simulated disks and judges what is left.
#[derive(Parser)]
#[command(name = "cargo sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs random workloads, crashes them everywhere, and stops at the first promise that breaks.
    Run {
        /// Ends after so many seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Ends after so many judged crash states.
        #[arg(long)]
        states: Option<u64>,
        /// The first seed; the runs take this one and the following.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        jobs: u32,
        /// The kind of disk, instead of one drawn for each run.
        #[arg(long, value_parser = profile)]
        profile: Option<&'static str>,
        /// Does not shorten a failing run; prints one line for scripts.
        #[arg(long)]
        terse: bool,
    },
    /// Runs one case again: a file, a tape's token, or a seed.
    Replay {
        /// `path/to/file.case`, `t1....`, or a number.
        what: String,
    },
    /// Runs every workload up to a length.
    Exhaust {
        /// Operations at most.
        #[arg(long, default_value_t = 3)]
        length: usize,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// Plants known bugs one by one, in a copy of the sources, and measures how long a campaign needs to catch each.
    Planted {
        /// Which ones; all when none is named.
        ids: Vec<String>,
        /// Seconds for each.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Leaves the run without any bug out.
        #[arg(long)]
        no_control: bool,
        /// Prints one JSON document.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let ok = match Cli::parse().command {
        Command::Run { seconds, states, seed, jobs, profile, terse } => {
            let (time, states) = (Duration::from_secs(seconds), states.unwrap_or(u64::MAX));
            run(seed, Budget { time, states, jobs, profile }, terse)
        }
        Command::Replay { what } => replay(&what),
        Command::Exhaust { length, jobs } => exhaust(length, jobs),
        Command::Planted { ids, seconds, seed, no_control, json } => {
            let trial = Trial { ids, time: Duration::from_secs(seconds), seed, control: !no_control, json };
            planted::score(&trial).unwrap_or_else(|e| {
                eprintln!("cannot plant: {e}");
                false
            })
        }
    };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A run that is at work for longer than this hangs.
const HANG: Duration = Duration::from_secs(60);

fn profile(name: &str) -> Result<&'static str, String> {
    let names = || Profile::presets().iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
    Profile::by_name(name).map(|p| p.name).ok_or_else(|| format!("no such disk; there are {}", names()))
}

fn run(seed: u64, budget: Budget, terse: bool) -> bool {
    // A run that hangs cannot be stopped from within; so the campaign has a thread of its own, and this one watches.
    let progress: &'static Progress = Box::leak(Box::new(Progress::new(budget.jobs)));
    let began = Instant::now();
    let campaign = thread::spawn(move || swarm(seed, budget, progress));
    let mut said = Instant::now();
    while !campaign.is_finished() {
        thread::sleep(Duration::from_millis(50));
        let (slowest, since) = progress.slowest();
        if since > HANG {
            println!("HANG live: seed {slowest} is at work for {} s", since.as_secs());
            return false;
        }
        if !terse && said.elapsed() > Duration::from_secs(5) {
            said = Instant::now();
            let (states, runs) = (progress.states.load(Ordering::Relaxed), progress.runs.load(Ordering::Relaxed));
            eprintln!("{:>5} s  {runs} runs  {states} states", began.elapsed().as_secs());
        }
    }
    let Ok((count, found)) = campaign.join() else {
        println!("the campaign itself panicked");
        return false;
    };
    if terse {
        let states = progress.states.load(Ordering::Relaxed);
        match &found {
            Some(f) => println!("CAUGHT {} {:.2} {states} {}", f.failure.rule, f.after.as_secs_f64(), f.seed),
            None => println!("CLEAN {:.2} {states}", began.elapsed().as_secs_f64()),
        }
    } else {
        summary(&count, began.elapsed());
        if let Some(found) = &found {
            report(found);
        }
    }
    found.is_none()
}

fn summary(count: &Count, took: Duration) {
    let rate = |n: u64| n as f64 / took.as_secs_f64();
    println!("{} states judged in {:.1} s ({:.0} per second)", count.states, took.as_secs_f64(), rate(count.states));
    println!(
        "{} different images, {} recoveries ({:.0} per second)",
        count.images,
        count.recoveries,
        rate(count.recoveries)
    );
    println!("{} runs judged, {} recoveries crashed themselves", count.worlds, count.nested);
    for (mark, n) in &count.marks {
        println!("  {n:>9}  {mark}");
    }
}

fn report(found: &Found) {
    println!("\n{}", found.failure);
    println!(
        "seed {} after {:.1} s; replay it with: cargo sim replay {}",
        found.seed,
        found.after.as_secs_f64(),
        found.seed
    );
    println!("\nshortening ...");
    let (case, failure) = shrink(&found.case, found.failure.clone(), Case::judge, Duration::from_secs(30));
    println!("{failure}\n{case}");
    let path = PathBuf::from("target/sim").join(format!("{}-{}.case", failure.rule, found.seed));
    let kept = fs::create_dir_all("target/sim").and_then(|()| fs::write(&path, case.to_string()));
    if kept.is_ok() {
        println!("kept as {}; replay it with: cargo sim replay {}", path.display(), path.display());
    }
}

fn replay(what: &str) -> bool {
    let mut judge = Case::judge();
    let result = if let Ok(seed) = what.parse::<u64>() {
        tape(Tape::seeded(seed), &mut judge)
    } else if what.starts_with("t1.") {
        match Tape::from_token(what) {
            Ok(t) => tape(t, &mut judge),
            Err(e) => Err(e.to_string()),
        }
    } else {
        fs::read_to_string(what)
            .map_err(|e| format!("{what}: {e}"))
            .and_then(|text| Case::parse(&text))
            .and_then(|case| run_case(&case, &mut judge).map_err(|f| f.to_string()))
    };
    match result {
        Ok(hash) => println!("pass; trace {hash:016x}; {} states, {} images", judge.count.states, judge.count.images),
        Err(text) => {
            println!("{text}");
            return false;
        }
    }
    true
}

fn tape(mut tape: Tape, judge: &mut strandline_sim::oracle::Judge) -> Result<u64, String> {
    let (case, result) = run_tape(&mut tape, judge);
    println!("{case}");
    result.map_err(|f| f.to_string())
}

fn exhaust(length: usize, jobs: usize) -> bool {
    let logged = Config { log: true, segment: 2048, ..Config::default() };
    let walks = [
        ("store", &STORE[..], Config::default()),
        ("backup", &BACKUP[..], Config::default()),
        ("chain", &CHAIN[..], Config::default()),
        ("log", &LOG[..], logged.clone()),
        ("log, contract Latest", &LOG[..], Config { pinned: false, ..logged }),
    ];
    for (what, alphabet, config) in walks {
        let began = Instant::now();
        match exhaustive(alphabet, length, &config, jobs) {
            Ok((walked, count)) => {
                println!("{what}: all {walked} workloads of up to {length} operations");
                summary(&count, began.elapsed());
            }
            Err(found) => {
                found.ops.iter().for_each(|op| println!("{op}"));
                println!("{}", found.failure);
                return false;
            }
        }
    }
    true
}
