//! Everything at once: commits, readers, checkpoints, views, backups and changes of tables on threads of their own.
//!
//! Money moves between accounts of two tables, so whatever anybody reads at one instant must add up: in a transaction, in
//! a view, in a copy. The cache is far smaller than the data, so pages leave memory all the time. In the second storm the
//! device is full now and then: calls fail, checkpoints are abandoned, and still everything adds up.
//!
//! A storm lasts a second and a half, or as many milliseconds as `STRANDLINE_STORM_MS` says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use strandline::maintenance::VerifyOptions;
use strandline::{BackupOptions, CheckpointOptions, CheckpointRef, Database, ErrorKind, Result, Table, TableOptions};
use strandline_vfs::Call;
use strandline_vfs::fault::{Fault, FaultVfs};
use strandline_vfs::mem::MemVfs;

use super::stage::{HOME, copy, small};

const ACCOUNTS: u64 = 600;
const START: u64 = 1000;
const TABLES: [&str; 2] = ["left", "right"];

/// A small generator: which accounts, how much.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

fn account(n: u64) -> String {
    format!("account-{n:05}")
}

/// A balance, among bytes that make pages of it; sometimes so many that they go to blocks of their own.
fn value(balance: u64, dice: &mut Dice) -> Vec<u8> {
    let more = if dice.roll(20) == 0 { 3000 } else { dice.roll(60) };
    [balance.to_be_bytes().to_vec(), vec![7; more as usize]].concat()
}

fn balance(value: &[u8]) -> u64 {
    u64::from_be_bytes(value[..8].try_into().unwrap())
}

/// True when the call did its work, false when it lost to others in a way that calls can lose.
fn done<T>(result: Result<T>, may: &[ErrorKind]) -> bool {
    match result {
        Ok(_) => true,
        Err(e) if may.contains(&e.kind()) => false,
        Err(e) => panic!("{e}"),
    }
}

fn transfer(db: &Database, tables: &[Table; 2], dice: &mut Dice) -> Result<()> {
    let mut tx = db.begin()?;
    for _ in 0..=dice.roll(8) {
        let (from, to) = (account(dice.roll(ACCOUNTS)), account(dice.roll(ACCOUNTS)));
        let (one, two) = (&tables[dice.roll(2) as usize], &tables[dice.roll(2) as usize]);
        let have = tx.get(one, &from)?.map_or(0, |v| balance(&v));
        let sum = dice.roll(have + 1);
        // An account with nothing on it goes.
        match have - sum {
            0 => drop(tx.delete(one, &from)?),
            left => tx.put(one, &from, value(left, dice))?,
        }
        let had = tx.get(two, &to)?.map_or(0, |v| balance(&v));
        if had + sum > 0 {
            tx.put(two, &to, value(had + sum, dice))?;
        }
    }
    tx.commit().map(drop)
}

fn all(db: &Database, tables: &[Table; 2]) -> Result<u64> {
    let tx = db.begin()?;
    let mut sum = 0;
    for table in tables {
        for row in tx.scan(table)? {
            sum += balance(&row?.1);
        }
    }
    Ok(sum)
}

fn all_viewed(db: &Database, which: CheckpointRef<'_>) -> Result<u64> {
    let view = db.view(which)?;
    let mut sum = 0;
    for table in TABLES {
        for row in view.scan(table)? {
            sum += balance(&row?.1);
        }
    }
    Ok(sum)
}

fn checkpoints(db: &Database, dice: &mut Dice) -> Result<()> {
    let options = match dice.roll(4) {
        0 => CheckpointOptions::new().name(format!("name{}", dice.roll(3))),
        1 => CheckpointOptions::new().drop(format!("name{}", dice.roll(3))),
        _ => CheckpointOptions::new(),
    };
    db.checkpoint(options).map(drop)
}

fn schema(db: &Database, dice: &mut Dice) -> Result<()> {
    let name = |dice: &mut Dice| format!("table{}", dice.roll(4));
    match dice.roll(4) {
        0 => db.rename_table(&name(dice), &name(dice)),
        1 => db.drop_table(&name(dice), dice.roll(2) == 0),
        _ => {
            let table = db.create_table(&name(dice), TableOptions::new())?;
            let mut tx = db.begin()?;
            for _ in 0..dice.roll(50) {
                tx.put(&table, account(dice.roll(ACCOUNTS)), value(1, dice))?;
            }
            tx.commit().map(drop)
        }
    }
}

fn backup(db: &Database, vfs: &FaultVfs, dir: &str, dice: &mut Dice) -> Result<()> {
    let backup = db.backup(BackupOptions::new().fresh_checkpoint(dice.roll(2) == 0))?;
    copy(&backup, dir);
    backup.finish()?;
    let copied = small(Arc::new(vfs.clone())).open(dir)?;
    assert_eq!(all_viewed(&copied, CheckpointRef::Latest)?, 2 * ACCOUNTS * START, "in a copy");
    let report = copied.verify(&VerifyOptions::new())?;
    assert!(report.is_sound(), "{:?}", report.findings);
    Ok(())
}

/// Covers: T1, T2, T3, C2, CK-1, CK-15, TB-9, K1, K2.
#[test]
fn whatever_anybody_reads_adds_up() {
    storm(false);
}

/// Covers: T1, T3, C2, B2.
#[test]
fn whatever_anybody_reads_adds_up_while_the_device_is_full_now_and_then() {
    storm(true);
}

fn fill_up(vfs: &FaultVfs, dice: &mut Dice) {
    let file = if dice.roll(3) == 0 { "home/Strandline.catalog" } else { "home/table" };
    let fault = Fault::on(Call::Write).in_path(file).after(dice.roll(60)).times(1 + dice.roll(8));
    vfs.inject(fault.error(std::io::ErrorKind::StorageFull));
    thread::sleep(Duration::from_millis(dice.roll(20)));
    vfs.heal();
}

fn storm(full: bool) {
    let vfs = FaultVfs::new(Arc::new(MemVfs::new()));
    let db = small(Arc::new(vfs.clone())).cache_bytes(48 << 10).open_files_max(1).create(true).open(HOME).unwrap();
    let tables = TABLES.map(|name| db.create_table(name, TableOptions::new()).unwrap());
    for table in &tables {
        let (mut tx, mut dice) = (db.begin().unwrap(), Dice(1));
        (0..ACCOUNTS).for_each(|n| tx.put(table, account(n), value(START, &mut dice)).unwrap());
        tx.commit().unwrap();
    }
    db.checkpoint(CheckpointOptions::new().name("name0")).unwrap();
    let (stop, work) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 7]);
    let end = Instant::now()
        + Duration::from_millis(std::env::var("STRANDLINE_STORM_MS").ok().and_then(|n| n.parse().ok()).unwrap_or(1500));
    let sum = 2 * ACCOUNTS * START;
    let with = |kinds: &[ErrorKind]| [kinds, if full { &[ErrorKind::Io] } else { &[] }].concat();
    let (lost, busy) = (with(&[ErrorKind::Conflict, ErrorKind::Full]), with(&[ErrorKind::Busy]));
    let schema_may = [ErrorKind::Busy, ErrorKind::NotFound, ErrorKind::Exists, ErrorKind::Conflict, ErrorKind::Full];
    let gone = with(&schema_may);
    let run = |kind: usize, seed: u64, step: &dyn Fn(&mut Dice) -> bool| {
        let mut dice = Dice(seed);
        while !stop.load(Ordering::Relaxed) && Instant::now() < end {
            work[kind].fetch_add(u64::from(step(&mut dice)), Ordering::Relaxed);
        }
        // A panic on one thread ends the others soon, and the scope tells of it.
        stop.store(true, Ordering::Relaxed);
    };
    thread::scope(|s| {
        for seed in 0..2 {
            s.spawn({
                let (run, db, tables, lost) = (&run, &db, &tables, &lost);
                move || run(0, seed, &|dice| done(transfer(db, tables, dice), lost))
            });
        }
        s.spawn(|| run(1, 2, &|_| all(&db, &tables).unwrap() == sum || panic!("in a transaction")));
        s.spawn(|| {
            run(2, 3, &|dice| {
                let name = format!("name{}", dice.roll(3));
                let which = if dice.roll(2) == 0 { CheckpointRef::Latest } else { CheckpointRef::Named(&name) };
                let seen = all_viewed(&db, which);
                assert!(seen.as_ref().map_or(true, |seen| *seen == sum), "in a view");
                done(seen, &[ErrorKind::NotFound])
            });
        });
        s.spawn(|| run(3, 4, &|dice| done(checkpoints(&db, dice), &busy)));
        s.spawn(|| run(4, 5, &|dice| done(schema(&db, dice), &gone)));
        if full {
            s.spawn(|| {
                run(6, 7, &|dice| {
                    fill_up(&vfs, dice);
                    true
                })
            });
        }
        s.spawn(|| {
            let copies = AtomicU64::new(0);
            run(5, 6, &|dice| {
                let dir = format!("copy{}", copies.fetch_add(1, Ordering::Relaxed));
                done(backup(&db, &vfs, &dir, dice), &busy)
            });
        });
    });
    let work = work.map(|n| n.load(Ordering::Relaxed));
    println!("commits, sums, views, checkpoints, schema, backups: {work:?}");
    assert!(work[..6].iter().all(|n| *n > 0), "everybody came to work: {work:?}");
    vfs.heal();
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let report = db.verify(&VerifyOptions::new()).unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
    db.close().unwrap();
    let db = small(Arc::new(vfs)).open(HOME).unwrap();
    let tables = TABLES.map(|name| db.table(name).unwrap());
    assert_eq!(all(&db, &tables).unwrap(), sum);
    assert_eq!(all_viewed(&db, CheckpointRef::Latest).unwrap(), sum);
}
