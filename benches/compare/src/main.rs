//! Strandline beside the stores one would pick instead, on the same work.
//!
//! ```text
//! cargo run --release --manifest-path benches/compare/Cargo.toml -- --quick
//! ```
//!
//! Prints the limits of the machine and one table: a line for each workload, a
//! column for each store, and how Strandline stands against the best of the
//! others. What is the same for all is written down at `engine`, what each line
//! means at `rows`, how it is measured at `stories` and `backup`.

#![deny(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{CommandFactory, Parser};
use serde_json::json;

mod backup;
mod data;
mod engine;
mod files;
mod killed;
mod ledger;
mod limits;
mod report;
mod rows;
mod stories;

use data::Data;
use engine::{AfterKill, Peer};
use ledger::Ledger;
use rows::ROWS;
use stories::{Case, Needs, STORIES, Story};

/// Compares Strandline with other embedded stores on the same work.
#[derive(Parser)]
#[command(version, after_help = after_help())]
struct Arguments {
    /// Fewer records and rounds: done in under two minutes.
    #[arg(long)]
    quick: bool,
    /// Rows of 120 bytes in each store [default: 1000000, quick: 100000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1000..))]
    records: Option<u32>,
    /// Rounds; a figure is the median of them [default: 5, quick: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Only these rows, by name.
    #[arg(long, value_name = "ROW,..", value_delimiter = ',')]
    only: Vec<String>,
    /// Only these stores, by name.
    #[arg(long, value_name = "STORE,..", value_delimiter = ',')]
    peers: Vec<String>,
    /// Where to put the stores; on the disk that is to be measured.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// For the program's own use: fill this store and wait to be killed.
    #[arg(long, hide = true, value_name = "STORE")]
    be_killed: Option<String>,
    /// Print one JSON document with every sample instead of the table.
    #[arg(long)]
    json: bool,
}

fn after_help() -> String {
    let rows: Vec<&str> = ROWS.iter().map(|row| row.id).collect();
    let stores: Vec<&str> = engine::peers().iter().map(|peer| peer.name).collect();
    format!("Rows: {}\n\nStores: {}", rows.join(", "), stores.join(", "))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let only = chosen_rows(&arguments.only).unwrap_or_else(|error| usage(&error));
    let peers = chosen_peers(&arguments.peers).unwrap_or_else(|error| usage(&error));
    let done = match &arguments.be_killed {
        Some(_) => be_killed(&arguments, &peers),
        None => compare(&arguments, &only, &peers),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nstrandline-compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends the program as the argument parser does for arguments that make no sense.
fn usage(error: &anyhow::Error) -> ! {
    Arguments::command().error(clap::error::ErrorKind::InvalidValue, error).exit()
}

/// The process that [`killed::story`] kills.
fn be_killed(arguments: &Arguments, peers: &[Peer]) -> Result<()> {
    let peer = peers.iter().find(|peer| Some(peer.name) == arguments.be_killed.as_deref());
    let dir = arguments.dir.as_deref().context("no directory")?;
    killed::fill(peer.context("no such store")?, dir, arguments.records.context("no number of records")? as usize)
}

fn compare(arguments: &Arguments, only: &[&'static str], peers: &[Peer]) -> Result<()> {
    let names: Vec<&'static str> = peers.iter().map(|peer| peer.name).collect();
    let default = if arguments.quick { (100_000, 3) } else { (1_000_000, 5) };
    let records = arguments.records.unwrap_or(default.0);
    let rounds = arguments.rounds.unwrap_or(default.1);

    let base = arguments.dir.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"));
    std::fs::create_dir_all(&base)?;
    let work = tempfile::Builder::new().prefix("compare-").tempdir_in(&base)?;

    let (kind, device) = files::file_system(work.path())?;
    if matches!(kind.as_str(), "tmpfs" | "ramfs") {
        bail!("{} is on {kind}, where a sync means nothing; --dir names another directory", base.display());
    }
    let limits = limits::measure(work.path())?;
    let data = Data::new(records as usize);
    let mut ledger = Ledger::default();
    for round in 0..rounds {
        run_round(&data, peers, only, round, rounds, work.path(), &mut ledger)?;
    }
    eprintln!();
    if arguments.json {
        let about = json!({"records": records, "rounds": rounds, "key_bytes": data::KEY_BYTES,
            "value_bytes": data::VALUE_BYTES, "file_system": kind, "device": device});
        println!("{:#}", report::json(&ledger, &limits, &names, about));
    } else {
        println!("{records} records of {} + {} bytes, {rounds} rounds.", data::KEY_BYTES, data::VALUE_BYTES);
        println!("In {}: {kind} on {device}.\n", base.display());
        report::print(&ledger, &limits, &names);
    }
    Ok(())
}

fn chosen_rows(names: &[String]) -> Result<Vec<&'static str>> {
    names
        .iter()
        .map(|name| {
            let row = ROWS.iter().find(|row| row.id == name);
            row.map(|row| row.id).with_context(|| format!("there is no row {name:?}; --help lists them"))
        })
        .collect()
}

fn chosen_peers(names: &[String]) -> Result<Vec<Peer>> {
    let mut peers = engine::peers();
    if let Some(name) = names.iter().find(|&name| !peers.iter().any(|peer| peer.name == name)) {
        bail!("there is no store {name:?} in this build; --help lists them");
    }
    peers.retain(|peer| names.is_empty() || names.iter().any(|name| name == peer.name));
    Ok(peers)
}

/// Every story with every store once; the stores' order rotates with the round.
fn run_round(
    data: &Data,
    peers: &[Peer],
    only: &[&'static str],
    round: u32,
    rounds: u32,
    work: &Path,
    ledger: &mut Ledger,
) -> Result<()> {
    let wanted = |story: &&Story| only.is_empty() || story.rows.iter().any(|row| only.contains(row));
    for story in STORIES.iter().filter(wanted) {
        for turn in 0..peers.len() {
            let peer = &peers[(turn + round as usize) % peers.len()];
            let fit = match story.needs {
                Needs::Nothing => true,
                Needs::Cache => peer.has_cache,
                Needs::Increments => peer.has_increments,
                Needs::SurvivesKill => peer.after_kill != AfterKill::Lost,
            };
            if !fit {
                continue;
            }
            eprint!("\r\x1b[Kround {} of {rounds}: {} .. {}", round + 1, story.rows[0], peer.name);
            let mut case =
                Case { data, peer, dir: stories::fresh(work)?, ledger, only, seed: u64::from(round) * 1000 + 11 };
            (story.run)(&mut case).with_context(|| format!("{} with {}", story.rows[0], peer.name))?;
        }
    }
    Ok(())
}
