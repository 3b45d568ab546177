//! `cargo threads`: campaigns over schedules, and replays.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use strandline_sim::tape::Tape;
use strandline_threads::campaign::{Count, run_tape, swarm};

/// Runs the engine's threads under random schedules, crashes what they leave, and stops at the first promise that breaks.
#[derive(Parser)]
#[command(name = "cargo threads", version)]
struct Cli {
    /// Ends after so many seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The first seed; the runs take this one and the following.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// System threads.
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// Does not make a failing schedule shorter; prints one line for scripts.
    #[arg(long)]
    terse: bool,
    /// Runs one tape again, by its token or its seed.
    #[arg(long)]
    replay: Option<String>,
}

/// How long a failing schedule is made shorter.
const SHRINK: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ok = match &cli.replay {
        Some(what) => replay(what),
        None => campaign(&cli),
    };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn campaign(cli: &Cli) -> bool {
    let began = Instant::now();
    let (count, found) = swarm(cli.seed, Duration::from_secs(cli.seconds), cli.jobs.max(1));
    let seconds = began.elapsed().as_secs_f64();
    let Some((seed, found, after)) = found else {
        if cli.terse {
            println!("CLEAN {seconds:.2} {}", count.images);
        } else {
            println!("{} runs of {} decisions, {} images, in {seconds:.0} s", count.runs, count.steps, count.images);
            count.marks.iter().for_each(|(what, n)| println!("  {n:>9} {what}"));
        }
        return true;
    };
    if cli.terse {
        println!("CAUGHT {} {:.2} {} {seed}", found.failure.rule, after.as_secs_f64(), count.images);
    } else {
        println!("seed {seed}\n{}", found.shrink(seed, SHRINK));
    }
    false
}

fn replay(what: &str) -> bool {
    let tape = what.parse().map(Tape::seeded).or_else(|_| Tape::from_token(what));
    let Ok(tape) = tape else {
        println!("{what} is neither a token nor a seed");
        return false;
    };
    let (salt, mut count) = (what.parse().unwrap_or(0), Count::default());
    match run_tape(&tape, salt, &mut count) {
        Ok(()) => {
            println!("all promises hold: {} decisions, {} images", count.steps, count.images);
            true
        }
        Err(found) => {
            println!("{found}");
            false
        }
    }
}
