//! The truth table of failing syncs: every way in which a sync can fail, at every call site, and what may follow: the program
//! goes on, it is started again without a power cut, the power goes, or both.
//!
//! One small workload with a log, checkpoints, a backup and an increment is run once for each sync in it and each way to
//! fail. Its promises are numbers: commit `n` puts row `n`, so what a database shows is a length, and rows with a gap are no
//! state at all. Whatever was acknowledged, before the failure or after it, must be there; on a disk that takes back what it
//! said (`LateReport`) a refusal is as good where it is the tables that lack something.
#![cfg(feature = "strandline")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use strandline::sync::{ManualClock, SeededEntropy};
use strandline::{BackupOptions, CheckpointOptions, Database, Durability, ErrorKind, Options, TableOptions, Workers};
use strandline_sim::disk::{Act, Barrier, Call, Fault, Limits, Profile, SimDisk, SyncFailure, canonical};
use strandline_vfs::Vfs;

const MODES: [SyncFailure; 5] = [
    SyncFailure::CleanKeepNew,
    SyncFailure::CleanRevert,
    SyncFailure::DirtyRetry,
    SyncFailure::LateReport,
    SyncFailure::EnospcAtSync,
];
const SYNCS: [Call; 3] = [Call::SyncData, Call::SyncAll, Call::SyncDir];
const COLUMNS: [&str; 4] = ["goes on", "restart", "power cut", "both"];

/// What was promised: at which event how many rows.
#[derive(Clone, Default)]
struct Promises {
    rows: u32,
    acked: Vec<(u64, u32)>,
}

impl Promises {
    fn at(&self, event: u64) -> u32 {
        self.acked.iter().filter(|(e, _)| *e < event).map(|(_, n)| *n).max().unwrap_or(0)
    }
}

fn open(disk: &SimDisk, log: bool) -> strandline::Result<Database> {
    Options::new()
        .vfs(Arc::new(disk.clone()))
        .clock(Arc::new(ManualClock::new(1)))
        .entropy(Arc::new(SeededEntropy::new(5 + disk.event())))
        .workers(Workers::Manual)
        .unit(512)
        .create(true)
        .log(log)
        .durability(Durability::Sync)
        .log_segment_bytes_unchecked(4096)
        .open("/db")
}

/// One run of the workload.
struct Run {
    disk: SimDisk,
    log: bool,
    promises: Promises,
    /// Something was refused.
    refused: bool,
}

impl Run {
    fn new(log: bool, fault: Option<(SyncFailure, u64)>) -> Self {
        let disk = SimDisk::new(Profile::strict());
        disk.create_dir(Path::new("/db")).expect("an empty disk");
        disk.settle();
        disk.record_barriers(true);
        if let Some((mode, n)) = fault {
            disk.inject(Fault::nth(&SYNCS, n, Act::Sync(mode, Vec::new())));
        }
        Self { disk, log, promises: Promises::default(), refused: false }
    }

    fn done<T>(&mut self, rows: Option<u32>, result: strandline::Result<T>) {
        match (result, rows) {
            (Ok(_), Some(rows)) => self.promises.acked.push((self.disk.event(), rows)),
            (Ok(_), None) => {}
            (Err(_), _) => self.refused = true,
        }
    }

    fn put(&mut self, db: &Database) {
        let n = self.promises.rows;
        let put = || -> strandline::Result<()> {
            let table = db.table("t")?;
            let mut txn = db.begin()?;
            txn.put(&table, n.to_be_bytes(), [n as u8; 40])?;
            // From here on it may be there.
            txn.commit().map(drop)
        };
        let result = put();
        if result.is_ok() || db.table("t").is_ok() {
            // A refused row may be there or not, and then so may those behind it: nobody writes on over a gap.
            self.promises.rows += u32::from(result.is_ok());
        }
        let rows = (self.log && result.is_ok()).then_some(self.promises.rows);
        self.done(rows, result);
    }

    fn checkpoint(&mut self, db: &Database) {
        let rows = self.promises.rows;
        let result = db.checkpoint(CheckpointOptions::new().force(true));
        self.done(Some(rows), result);
    }

    fn backup(&mut self, db: &Database, name: &str) {
        let rows = self.promises.rows;
        let result = db.backup(BackupOptions::new()).and_then(|b| {
            b.copy_to(name, |_| ControlFlow::Continue(()))?;
            b.finish()
        });
        // Whoever opened it took a checkpoint; nothing is promised that was not before.
        self.done(None, result.map(|_| rows));
    }

    /// The workload; ends at the first sign of the failure, unless it is to go on.
    fn work(&mut self, goes_on: bool) {
        let db = match open(&self.disk, self.log) {
            Ok(db) => db,
            Err(_) => return self.refused = true,
        };
        let steps: [fn(&mut Self, &Database); 10] = [
            |run, db| {
                let made = db.create_table("t", TableOptions::new());
                run.done(Some(0), made);
            },
            Self::put,
            Self::put,
            Self::checkpoint,
            Self::put,
            |run, db| run.backup(db, "/copy"),
            Self::put,
            Self::checkpoint,
            Self::put,
            Self::checkpoint,
        ];
        for step in steps {
            step(self, &db);
            let struck = self.disk.faults_struck() > 0 && !self.waits();
            if !goes_on && (self.refused || struck) {
                break;
            }
        }
        if !goes_on && self.refused {
            self.disk.kill();
            return;
        }
        let rows = self.promises.rows;
        let closed = db.close();
        self.done(Some(rows), closed);
    }

    /// A failure has happened of which nobody heard yet.
    fn waits(&self) -> bool {
        let told = self.disk.events().iter().any(|e| e.call.is_sync() && e.error.is_some());
        !told && self.disk.late_reports().is_empty()
    }

    /// After the failure, in the same boot: what was promised is there, and work goes on.
    fn again(&mut self) -> Result<(), String> {
        self.disk.clear_faults();
        self.disk.remount();
        let db = open(&self.disk, self.log).map_err(|e| format!("it does not open again: {e}"))?;
        let rows = shown(&db)?;
        let least = self.promises.at(u64::MAX);
        if rows < least || rows > self.promises.rows + 1 {
            return Err(format!("{rows} rows after the restart, promised {least}"));
        }
        // What was seen is promised.
        self.promises.rows = rows;
        self.promises.acked.push((self.disk.event(), rows));
        self.refused = false;
        db.create_table("t", TableOptions::new()).map_err(|e| e.to_string())?;
        self.put(&db);
        self.checkpoint(&db);
        self.put(&db);
        if self.refused { Err("work after the restart is refused".to_owned()) } else { Ok(()) }
    }
}

/// How many rows there are; an error when there is a gap.
fn shown(db: &Database) -> Result<u32, String> {
    let Ok(table) = db.table("t") else { return Ok(0) };
    let txn = db.begin().map_err(|e| e.to_string())?;
    let get = |n: u32| txn.get(&table, n.to_be_bytes()).map(|v| v.is_some()).map_err(|e| e.to_string());
    let mut rows = 0;
    while get(rows)? {
        rows += 1;
    }
    for later in rows..rows + 8 {
        if get(later)? {
            return Err(format!("row {later} is there and row {rows} is not"));
        }
    }
    Ok(rows)
}

/// Opens every image of a barrier. `seen`: the event of an open that has seen what the disk showed before it.
fn cut(run: &Run, barrier: &Barrier, seen: u64) -> Result<u64, String> {
    let frame = barrier.frame();
    let (late, mut judged) = (run.disk.late_reports(), 0);
    for choice in canonical(&frame, &Limits::canonical(12)) {
        let lacks = frame.broken_promises(&choice, None);
        let log_alone = lacks.iter().flatten().all(|p| p.to_string_lossy().contains("StrandlineLog."));
        let ok = late.iter().map(|(ok, ..)| *ok).min().unwrap_or(u64::MAX);
        // The open has made durable in another way what the log alone had.
        let kept = lacks.is_none() || (log_alone && barrier.event >= seen);
        let least = run.promises.at(if kept { barrier.event } else { ok.min(barrier.event) });
        judged += 1;
        let disk = frame.image(&choice).boot();
        let result = open(&disk, run.log).map_err(|e| (e.kind(), e.to_string()));
        match result.and_then(|db| shown(&db).map_err(|e| (ErrorKind::Corrupt, e))) {
            Ok(rows) if rows >= least && rows <= run.promises.rows + 1 => {}
            Ok(rows) if !kept && !log_alone && rows < least => {}
            Err((ErrorKind::Corrupt, _)) if !kept => {}
            other => {
                return Err(format!(
                    "cut at event {} ({}): promised {least}, got {other:?}",
                    barrier.event, barrier.why
                ));
            }
        }
    }
    Ok(judged)
}

/// The role of a file.
fn site(path: &Path) -> &'static str {
    let path = path.to_string_lossy();
    match path.rsplit('/').next().unwrap_or_default() {
        _ if path.contains("copy") => "copy",
        name if name.starts_with("StrandlineLog") => "log",
        name if name.starts_with("Strandline.root") => "root",
        name if name.starts_with("Strandline.catalog") => "catalog",
        name if name.starts_with("table") => "table",
        _ => "directory",
    }
}

/// One way to fail, once: how much was judged in each column.
fn tried(log: bool, mode: SyncFailure, n: u64) -> Result<[u64; 4], String> {
    let mut cells = [0; 4];
    let mut on = Run::new(log, Some((mode, n)));
    on.work(true);
    for barrier in on.disk.take_barriers().iter().rev().step_by(6).chain([&on.disk.snapshot()]) {
        cells[0] += cut(&on, barrier, u64::MAX).map_err(|e| format!("it went on; {e}"))?;
    }
    let mut run = Run::new(log, Some((mode, n)));
    run.work(false);
    drop(run.disk.take_barriers());
    cells[2] = cut(&run, &run.disk.snapshot(), u64::MAX)?;
    let before = run.disk.event();
    run.again()?;
    cells[1] = 1;
    let seen = run.promises.acked.iter().map(|(e, _)| *e).find(|e| *e >= before).unwrap_or(before);
    for barrier in run.disk.take_barriers().iter().step_by(4).chain([&run.disk.snapshot()]) {
        cells[3] += cut(&run, barrier, seen).map_err(|e| format!("after the restart: {e}"))?;
    }
    Ok(cells)
}

#[test]
fn every_failure_of_every_sync_is_survived() {
    let mut table: BTreeMap<(&str, bool, String), [u64; 4]> = BTreeMap::new();
    let mut wrong = Vec::new();
    for log in [true, false] {
        let mut plain = Run::new(log, None);
        plain.work(true);
        assert!(!plain.refused, "nothing fails without a fault");
        let events = plain.disk.events();
        let syncs: Vec<_> = events.iter().filter(|e| SYNCS.contains(&e.call)).collect();
        let sites: BTreeSet<&str> = syncs.iter().map(|e| site(&e.path)).collect();
        assert!(sites.len() >= 5, "{sites:?}");
        for mode in MODES {
            for (n, sync) in syncs.iter().enumerate() {
                let cell = table.entry((site(&sync.path), log, format!("{mode:?}"))).or_default();
                match tried(log, mode, n as u64) {
                    Ok(cells) => cell.iter_mut().zip(cells).for_each(|(sum, n)| *sum += n),
                    Err(e) => wrong.push(format!("log {log}, {mode:?}, sync {n} ({sync}): {e}")),
                }
            }
        }
    }
    println!(
        "{:10} {:4} {:14} {:>9} {:>9} {:>9} {:>9}",
        "site", "log", "mode", COLUMNS[0], COLUMNS[1], COLUMNS[2], COLUMNS[3]
    );
    for ((site, log, mode), cells) in &table {
        let log = if *log { "on" } else { "off" };
        println!("{site:10} {log:4} {mode:14} {:>9} {:>9} {:>9} {:>9}", cells[0], cells[1], cells[2], cells[3]);
    }
    assert!(wrong.is_empty(), "{} cells break a promise:\n{}", wrong.len(), wrong.join("\n"));
    for (row, cells) in &table {
        assert!(cells.iter().all(|n| *n > 0), "an empty cell: {row:?} {cells:?}");
    }
}
