//! What an increment costs: bytes moved by bytes changed, bytes read by bytes moved, and the time to open it.
//!
//! ```text
//! cargo run --release --example increment_cost                        # 200 000 records
//! cargo run --release --example increment_cost -- --records 2000000   # as in the README
//! ```
//!
//! Problem. An increment is worth what it leaves out, and what it costs to find that out. Both must follow the change and not
//! the database.
//!
//! Algorithm. Records of 20 + 100 bytes are loaded, made durable and backed up. Then one record in a hundred is changed, drawn
//! at random or all side by side, a checkpoint is taken, and an increment is opened, timed, copied and counted. The same number
//! of records is then changed in a database twice as large: if the figures stay, the cost is that of the change. Counts come
//! from the engine's own report; only the time to open is the clock's.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use strandline::{BackupOptions, BackupReport, CheckpointOptions, Database, Options, Origin, TableOptions};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const KEY_BYTES: u64 = 20;
const VALUE_BYTES: u64 = 100;
/// Records that one transaction writes.
const BATCH: usize = 1000;
/// Each increment is opened so many times, and the shortest time counts.
const OPENED: usize = 5;

/// Measures increments by blocks.
#[derive(Parser)]
#[command(name = "increment_cost")]
struct Arguments {
    /// Records of the smaller database.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    records: u64,
    /// Bytes of a leaf.
    #[arg(long, default_value_t = 8192)]
    leaf: usize,
    /// Bytes of the allocation unit: no block takes less.
    #[arg(long, default_value_t = 4096)]
    unit: u32,
    /// Where to put the databases; removed at the end [default: below target].
    #[arg(long, value_name = "DIR")]
    work: Option<std::path::PathBuf>,
}

/// Which records change.
#[derive(Clone, Copy)]
enum Change {
    Random,
    Clustered,
}

impl Change {
    /// In this order. What a change leaves behind can make the next one dearer, so the random one comes more than once.
    const ALL: [Self; 5] = [Self::Random, Self::Random, Self::Random, Self::Random, Self::Clustered];

    const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Clustered => "clustered",
        }
    }

    /// `count` different records of so many, others in each round.
    fn records(self, count: u64, of: u64, round: u64) -> Vec<u64> {
        match self {
            Self::Random => {
                let mut drawn = BTreeSet::new();
                (0..)
                    .map(|i| scramble(i ^ round << 40) % of)
                    .filter(|record| drawn.insert(*record))
                    .take(count as usize)
                    .collect()
            }
            Self::Clustered => (of / 2..of / 2 + count).collect(),
        }
    }
}

/// Numbers without visible pattern from numbers with one (SplitMix64).
const fn scramble(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One line of the table.
struct Line {
    opened: Duration,
    report: BackupReport,
    changed: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("increment_cost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let base = arguments.work.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"));
    std::fs::create_dir_all(&base)?;
    let changed = arguments.records / 100;
    let (row, leaf, unit) = (KEY_BYTES + VALUE_BYTES, arguments.leaf, arguments.unit);
    println!("{changed} records of {row} bytes changed, leaves of {leaf} bytes, blocks of multiples of {unit}");
    println!("| records | change | moved / changed | read / moved | inner pages | bytes of the walk | to open |");
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: |");
    for records in [arguments.records, 2 * arguments.records] {
        let work = tempfile::Builder::new().prefix("increment_cost-").tempdir_in(&base)?;
        let db = Options::new()
            .create(true)
            .unit(arguments.unit)
            .leaf_bytes(arguments.leaf)
            .open(work.path().join("home"))?;
        put(&db, 0..records, 0)?;
        for (round, change) in Change::ALL.into_iter().enumerate() {
            let origin = checkpoint(&db)?;
            let (round, to) = (round as u64, work.path().join(format!("{round}")));
            put(&db, change.records(changed, records, round), 1 + round)?;
            checkpoint(&db)?;
            let line = increment(&db, origin, changed, &to)?;
            std::fs::remove_dir_all(to)?;
            println!("{}", line.text(records, change));
        }
        db.close()?;
    }
    Ok(())
}

fn key(record: u64) -> String {
    format!("key-{record:016x}")
}

fn value(record: u64, version: u64) -> Vec<u8> {
    let seed = scramble(record << 8 | version);
    (0..VALUE_BYTES).map(|i| (seed >> (i % 57)) as u8 ^ i as u8).collect()
}

fn put(db: &Database, records: impl IntoIterator<Item = u64>, version: u64) -> Result<(), Failure> {
    let table = db.create_table("records", TableOptions::new())?;
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        let mut txn = db.begin()?;
        for record in records.by_ref().take(BATCH) {
            txn.put(&table, key(record), value(record, version))?;
        }
        txn.commit()?;
    }
    Ok(())
}

/// Takes a checkpoint; where an increment from there starts.
fn checkpoint(db: &Database) -> Result<Origin, Failure> {
    db.checkpoint(CheckpointOptions::new())?;
    let backup = db.backup(BackupOptions::new())?;
    let origin = backup.origin();
    backup.finish()?;
    Ok(origin)
}

fn increment(db: &Database, origin: Origin, changed: u64, to: &Path) -> Result<Line, Failure> {
    let mut opened = Duration::MAX;
    for _ in 1..OPENED {
        let start = Instant::now();
        let backup = db.backup(BackupOptions::new().incremental_from(origin))?;
        opened = opened.min(start.elapsed());
        backup.finish()?;
    }
    let backup = db.backup(BackupOptions::new().incremental_from(origin))?;
    let report = backup.copy_to(to, |_| ControlFlow::Continue(()))?;
    backup.finish()?;
    Ok(Line { opened, report, changed: changed * (KEY_BYTES + VALUE_BYTES) })
}

impl Line {
    fn text(&self, records: u64, change: Change) -> String {
        let Self { opened, report, changed } = self;
        let (moved, read) = (report.bytes as f64, report.read as f64);
        format!(
            "| {records} | {} | {:.1} | {:.3} | {} | {} | {:.1} ms |",
            change.name(),
            moved / *changed as f64,
            read / moved,
            report.walk.inner_pages,
            report.walk.bytes_read,
            opened.as_secs_f64() * 1e3
        )
    }
}
