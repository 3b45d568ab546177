//! How many images a second: `cargo run --release -p strandline-sim --example rate`.
//!
//! The program is shaped like a storage engine: four files of 1 MiB, log records of some hundred bytes with a sync each, and
//! now and then a checkpoint of 4 KiB pages with a root written after them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use strandline_sim::disk::{Barrier, Limits, SimDisk, canonical};
use strandline_vfs::{File, OpenOptions, Vfs};

fn create(disk: &SimDisk, name: &str) -> Arc<dyn File> {
    disk.open(Path::new(name), OpenOptions::create()).expect("an empty disk")
}

fn program(disk: &SimDisk) -> std::io::Result<(u64, Duration)> {
    let tables: Vec<_> = (0..4).map(|i| create(disk, &format!("table{i}"))).collect();
    let (log, root) = (create(disk, "log"), create(disk, "root"));
    for t in &tables {
        t.write_all_at(&vec![7; 1 << 20], 0)?;
    }
    disk.settle();
    disk.record_barriers(true);
    let (before, started) = (disk.event(), Instant::now());
    for i in 0..400_u64 {
        log.write_all_at(&[i as u8; 300], i * 300)?;
        log.sync_data()?;
        if i % 50 == 49 {
            for page in 0..16 {
                tables[page % 4].write_all_at(&[i as u8; 4096], (page as u64 * 37 + i) % 256 * 4096)?;
            }
            tables.iter().try_for_each(|t| t.sync_data())?;
            root.write_all_at(&[i as u8; 512], i % 2 * 4096)?;
            root.sync_all()?;
        }
    }
    Ok((disk.event() - before, started.elapsed()))
}

fn rate(what: &str, n: u64, took: Duration) {
    let s = took.as_secs_f64();
    println!("{what:<28} {n:>8} in {s:.3} s = {:>10.0} /s", n as f64 / s);
}

fn main() {
    let (mut calls, mut took) = (0, Duration::ZERO);
    let mut barriers: Vec<Barrier> = Vec::new();
    for _ in 0..20 {
        let disk = SimDisk::strict();
        let (n, time) = program(&disk).expect("no faults are planned");
        (calls, took) = (calls + n, took + time);
        barriers = disk.take_barriers();
    }
    rate("calls, recorded", calls, took);

    let limits = Limits::canonical(256);
    let started = Instant::now();
    let mut n = 0;
    for _ in 0..5 {
        n += barriers.iter().map(|b| canonical(&b.frame(), &limits).len() as u64).sum::<u64>();
    }
    rate("choices", n, started.elapsed());

    let started = Instant::now();
    let (mut images, mut hashes) = (0, std::collections::BTreeSet::new());
    for _ in 0..5 {
        for barrier in &barriers {
            let frame = barrier.frame();
            for choice in canonical(&frame, &limits) {
                hashes.insert(frame.hash_and_birth(&choice).0);
                images += 1;
            }
        }
    }
    rate("images, hashed", images, started.elapsed());
    println!("{} different", hashes.len());

    let started = Instant::now();
    let mut boots = 0;
    for barrier in &barriers {
        let frame = barrier.frame();
        for choice in canonical(&frame, &limits) {
            let disk = frame.image(&choice).boot();
            let log = disk.open(Path::new("log"), OpenOptions::read()).expect("it was durable");
            let mut buf = [0; 4096];
            let _ = log.read_at(&mut buf, 0);
            boots += 1;
        }
    }
    rate("images, booted and opened", boots, started.elapsed());
}
