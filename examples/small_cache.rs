//! A database several times larger than its cache, under load, and what memory it takes.
//!
//! ```text
//! cargo run --release --example small_cache [CACHE_MIB]     # 32 by default; the data are four times that
//! ```
//!
//! Three phases, each ending with the cache's own account and the process's peak resident memory: loading in random
//! order; two writers and two readers for some seconds with a checkpoint every second; and a reader that holds its
//! snapshot while writers go on until they get `Full`, roll back, and go on once the reader is gone. The peak is Linux's
//! `VmHWM`; elsewhere only the account is printed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use strandline::{Database, ErrorKind, Options, Result, Table, TableOptions};

/// Bytes of a row: a key of 16 and a value of 112.
const ROW: u64 = 128;
const BATCH: u64 = 1000;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mib: u64 = match std::env::args().nth(1) {
        None => 32,
        Some(text) => text.parse().map_err(|_| format!("usage: small_cache [CACHE_MIB]; `{text}` is no number"))?,
    };
    let rows = mib.clamp(1, 4096) * 4 * (1 << 20) / ROW / BATCH * BATCH;
    let work = tempfile::tempdir_in(if Path::new("target").is_dir() { "target" } else { "." })?;
    let options = Options::new().create(true).cache_bytes((mib as usize) << 20);
    let db = options.checkpoint_every(Some(Duration::from_secs(1))).open(work.path().join("db"))?;
    let table = db.create_table("rows", TableOptions::new())?;
    println!("cache {mib} MiB, {rows} rows of {ROW} bytes: {} MiB", (rows * ROW) >> 20);

    let begun = Instant::now();
    for batch in 0..rows / BATCH {
        put(&db, &table, (0..BATCH).map(|i| batch * BATCH + i), 1)?;
    }
    report(&db, &format!("loaded, {} rows/s", (rows as f64 / begun.elapsed().as_secs_f64()) as u64))?;
    mixed(&db, &table, rows)?;
    long_reader(&db, &table, rows)?;
    db.close()?;
    Ok(())
}

/// Spreads consecutive numbers over the whole key space.
fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

fn put(db: &Database, table: &Table, rows: impl Iterator<Item = u64>, stamp: u8) -> Result<()> {
    let mut tx = db.begin()?;
    for n in rows {
        tx.put(table, key(n), [stamp; 112])?;
    }
    tx.commit().map(|_| ())
}

fn mixed(db: &Database, table: &Table, rows: u64) -> Result<()> {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let worker = |mut seed: u64, writes: bool| -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let mut next = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 20) % rows
            };
            if writes {
                match put(db, table, (0..20).map(|_| next()), 2) {
                    Err(e) if !matches!(e.kind(), ErrorKind::Conflict | ErrorKind::Full) => return Err(e),
                    _ => {}
                }
            } else {
                let tx = db.begin()?;
                for _ in 0..20 {
                    assert!(tx.get(table, key(next()))?.is_some(), "a row is missing");
                }
            }
            done.fetch_add(20, Ordering::Relaxed);
        }
        Ok(())
    };
    let seconds = 6;
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || worker(n + 1, n % 2 == 0))).collect();
        for _ in 0..seconds {
            thread::sleep(Duration::from_secs(1));
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().try_for_each(|t| t.join().expect("a worker panicked"))
    })?;
    report(db, &format!("2 writers and 2 readers, {} operations/s", done.load(Ordering::Relaxed) / seconds))
}

fn long_reader(db: &Database, table: &Table, rows: u64) -> Result<()> {
    let reader = db.begin()?;
    let before = reader.get(table, key(0))?;
    let (mut committed, mut full) = (0u64, 0u64);
    for batch in 0..rows / BATCH {
        match put(db, table, (0..BATCH).map(|i| batch * BATCH + i), 3) {
            Ok(()) => committed += 1,
            Err(e) if e.kind() == ErrorKind::Full => full += 1,
            Err(e) => return Err(e),
        }
        if full >= 3 {
            break;
        }
    }
    assert_eq!(reader.get(table, key(0))?, before, "the reader's snapshot moved");
    report(db, &format!("a reader held its snapshot: {committed} commits of {BATCH} rows, then Full {full} times"))?;
    drop(reader);
    put(db, table, 0..BATCH, 4)?;
    report(db, "the reader is gone, and writing goes on")
}

fn report(db: &Database, what: &str) -> Result<()> {
    let stats = db.stats()?;
    let of = |name: &str| stats.iter().find(|(n, _)| *n == name).map_or(0, |(_, v)| v >> 20);
    let peak = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find(|l| l.starts_with("VmHWM"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let peak = peak.map_or(String::new(), |kib| format!(", peak resident {} MiB", kib >> 10));
    println!(
        "{what}: cache {} of {} MiB, files {} MiB{peak}",
        of("cache_bytes"),
        of("cache_bytes_max"),
        of("file_bytes")
    );
    Ok(())
}
