//! What the machine itself can do, measured in the same run.
//!
//! A store can be no faster than these; a figure beside them says how much
//! of the distance is the store's own.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

/// One limit: what, how much, in which unit.
pub struct Limit {
    pub title: &'static str,
    pub figure: f64,
    pub unit: &'static str,
}

/// Measures all limits in a directory; takes about two seconds.
pub fn measure(dir: &Path) -> Result<Vec<Limit>> {
    Ok(vec![
        Limit { title: "fdatasync after overwriting 4 KiB", figure: syncs(&dir.join("overwrite"), false)?, unit: "us" },
        Limit { title: "fdatasync after appending 4 KiB", figure: syncs(&dir.join("append"), true)?, unit: "us" },
        Limit { title: "random 4 KiB read from the page cache", figure: reads(&dir.join("read"))?, unit: "us" },
        Limit { title: "memory copy", figure: copies(), unit: "GB/s" },
        Limit { title: "cp of 64 MiB and sync", figure: file_copy(dir)?, unit: "GB/s" },
    ])
}

/// Microseconds of a 4 KiB write and its sync.
fn syncs(path: &Path, append: bool) -> Result<f64> {
    const ROUNDS: u64 = 1000;
    let file = create(path, if append { 0 } else { 4096 })?;
    let block = [7u8; 4096];
    let start = Instant::now();
    for round in 0..ROUNDS {
        file.write_all_at(&block, if append { round * 4096 } else { 0 })?;
        file.sync_data()?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / ROUNDS as f64)
}

/// Microseconds of a read of 4 KiB at a random place of a cached file.
fn reads(path: &Path) -> Result<f64> {
    const BLOCKS: u64 = 16 << 10;
    const ROUNDS: u64 = 200_000;
    let file = create(path, BLOCKS * 4096)?;
    let mut die = fastrand::Rng::with_seed(5);
    let mut block = [0u8; 4096];
    let start = Instant::now();
    for _ in 0..ROUNDS {
        file.read_exact_at(&mut block, die.u64(0..BLOCKS) * 4096)?;
        black_box(&block);
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / ROUNDS as f64)
}

/// Gigabytes a second of copying memory too large for the caches.
fn copies() -> f64 {
    const BYTES: usize = 64 << 20;
    const ROUNDS: usize = 8;
    let from = vec![1u8; BYTES];
    let mut to = vec![2u8; BYTES];
    let start = Instant::now();
    for _ in 0..ROUNDS {
        black_box(&mut to).copy_from_slice(black_box(&from));
    }
    (BYTES * ROUNDS) as f64 / start.elapsed().as_secs_f64() / 1e9
}

/// Gigabytes a second of copying a file and syncing the copy.
fn file_copy(dir: &Path) -> Result<f64> {
    const BYTES: u64 = 64 << 20;
    let from = dir.join("copy-from");
    create(&from, BYTES)?;
    let start = Instant::now();
    let to = dir.join("copy-to");
    std::fs::copy(&from, &to)?;
    File::open(&to)?.sync_all()?;
    Ok(BYTES as f64 / start.elapsed().as_secs_f64() / 1e9)
}

/// A file of so many random bytes, synced.
fn create(path: &Path, bytes: u64) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
    let mut die = fastrand::Rng::with_seed(3);
    let chunk: Vec<u8> = std::iter::repeat_with(|| die.u8(..)).take(bytes.min(1 << 20) as usize).collect();
    let mut at = 0;
    while at < bytes {
        file.write_all_at(&chunk, at)?;
        at += chunk.len() as u64;
    }
    file.sync_all()?;
    Ok(file)
}
