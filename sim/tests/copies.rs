//! Power cuts while a copy is made, restored, sealed or rolled forward: a manifest that can be read stands for a copy that
//! is whole, and whatever was interrupted can be done again.
//!
//! Covers: K4, K6, K7 under crashes.
#![cfg(feature = "strandline")]

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use strandline::backup::{self, CopyOptions, Manifest, Plan, RestoreOptions, VerifyCopyOptions};
use strandline::sync::{ManualClock, SeededEntropy};
use strandline::{
    BackupOptions, CheckpointOptions, Database, ErrorKind, Options, Origin, Progress, TableOptions, Workers,
};
use strandline_sim::disk::{Profile, SimDisk};
use strandline_sim::explore::{Crash, Found, Limits, explore};
use strandline_sim::tape::Tape;
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{OpenOptions, Vfs};

fn go_on(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn limits() -> Limits {
    Limits { damage: Vec::new(), ..Limits::default() }
}

fn put(db: &Database, table: &str, rows: std::ops::Range<u32>, len: usize) {
    let table = db.table(table).unwrap();
    let mut txn = db.begin().unwrap();
    for i in rows {
        txn.put(&table, i.to_be_bytes(), vec![i as u8; len]).unwrap();
    }
    txn.commit().unwrap();
}

/// A full copy in `copy`, increments on top of it in `increment` and, leading further, in `later`; the full copy as a stream.
struct Source {
    vfs: MemVfs,
    old: Origin,
    new: Origin,
    /// Where `later` leads, which starts from `old` too.
    later: Origin,
    stream: Vec<u8>,
}

fn source() -> Source {
    let vfs = MemVfs::new();
    let db = Options::new()
        .vfs(Arc::new(vfs.clone()))
        .clock(Arc::new(ManualClock::new(1)))
        .entropy(Arc::new(SeededEntropy::new(3)))
        .workers(Workers::Manual)
        .unit(512)
        .create(true)
        .open("/db")
        .unwrap();
    for table in ["a", "b"] {
        db.create_table(table, TableOptions::new()).unwrap();
        put(&db, table, 0..40, 20);
    }
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let full = db.backup(BackupOptions::new()).unwrap();
    full.copy_to("/copy", go_on).unwrap();
    let mut stream = Vec::new();
    full.stream_to(&mut stream, go_on).unwrap();
    let old = full.origin();
    full.finish().unwrap();
    // New blocks come to stand where the copy still has old ones.
    for round in 0..4 {
        put(&db, "a", 7..9, 30 + round);
        db.checkpoint(CheckpointOptions::new()).unwrap();
    }
    db.drop_table("b", false).unwrap();
    db.create_table("c", TableOptions::new()).unwrap();
    put(&db, "c", 0..3, 20);
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let increment = db.backup(BackupOptions::new().incremental_from(old)).unwrap();
    increment.copy_to("/increment", go_on).unwrap();
    let new = increment.origin();
    increment.finish().unwrap();
    for round in 0..3 {
        put(&db, "a", 20..30, 40 + round);
        db.checkpoint(CheckpointOptions::new()).unwrap();
    }
    let increment = db.backup(BackupOptions::new().incremental_from(old)).unwrap();
    increment.copy_to("/later", go_on).unwrap();
    let later = increment.origin();
    increment.finish().unwrap();
    Source { vfs, old, new, later, stream }
}

/// Puts directories of the source on the disk, durably.
fn lay_down(source: &Source, disk: &SimDisk, dirs: &[&str]) {
    disk.record_barriers(false);
    for dir in dirs {
        let from = Path::new("/").join(dir);
        disk.create_dir(Path::new(dir)).unwrap();
        for entry in source.vfs.read_dir(&from).unwrap() {
            let file = source.vfs.open(&from.join(&entry.name), OpenOptions::read()).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            let copy = disk.open(&Path::new(dir).join(&entry.name), OpenOptions::create_new()).unwrap();
            copy.write_all_at(&bytes, 0).unwrap();
            copy.sync_all().unwrap();
        }
        disk.sync_dir(Path::new(dir)).unwrap();
    }
    disk.sync_dir(Path::new("")).unwrap();
    disk.settle();
    disk.record_barriers(true);
}

/// The origin of the copy in `dir`; `None` when it has no manifest. A copy with a manifest must be sound.
fn judge(disk: &SimDisk, dir: &str) -> Result<Option<Origin>, String> {
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    match backup::verify_copy(&vfs, Path::new(dir), VerifyCopyOptions::default(), &mut go_on) {
        Ok(report) if report.is_sound() => Ok(Some(report.manifest.origin())),
        Ok(report) => Err(format!("{dir} has a manifest and is damaged: {}", report.findings[0])),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(None),
        Err(e) => Err(format!("{dir}: {e}")),
    }
}

fn passes(found: &Found) {
    assert!(found.failures.is_empty(), "{}", found.failures[0]);
    assert!(found.checks > 20, "{found:?}");
}

/// Runs `make` on a disk that has `dirs`, and demands after a crash at any moment that `out` is a sound copy of one of
/// `allowed`, or none at all; the last of them once `make` has returned.
fn crash(
    source: &Source,
    dirs: &[&str],
    out: &str,
    allowed: &[Origin],
    make: impl Fn(&SimDisk) -> strandline::Result<()>,
    again: impl Fn(&Crash, Option<Origin>) -> Result<(), String>,
) -> Found {
    let done = Cell::new(u64::MAX);
    let program = |disk: &SimDisk, _: &mut Tape| {
        lay_down(source, disk, dirs);
        make(disk).map_err(std::io::Error::other)?;
        done.set(disk.event());
        Ok(())
    };
    explore(Profile::strict(), Tape::dull(), &limits(), program, |crash| {
        let origin = judge(&crash.disk, out)?;
        if origin.is_some_and(|o| !allowed.contains(&o)) {
            return Err(format!("a copy of {origin:?}"));
        }
        if crash.death >= done.get() && origin != allowed.last().copied() {
            return Err(format!("it was done, and there is {origin:?}"));
        }
        again(crash, origin)
    })
}

#[test]
fn a_copy_in_the_making() {
    let source = source();
    let manifest = Manifest::load(&source.vfs, Path::new("/copy")).unwrap();
    let plan = Plan::of_copy(Path::new("copy"), manifest);
    let make = |disk: &SimDisk| {
        backup::copy_to(disk, &plan, disk, Path::new("out"), CopyOptions::default(), &mut go_on).map(|_| ())
    };
    passes(&crash(&source, &["copy"], "out", &[source.old], make, |_, _| Ok(())));
}

#[test]
fn a_stream_being_restored() {
    let source = source();
    let make = |disk: &SimDisk| {
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let whole = RestoreOptions::default();
        backup::restore_stream(&vfs, &mut &source.stream[..], Path::new("out"), &whole, &mut go_on).map(|_| ())
    };
    passes(&crash(&source, &[], "out", &[source.old], make, |_, _| Ok(())));
}

#[test]
fn an_increment_being_applied() {
    let source = source();
    let apply = |disk: &SimDisk| backup::apply(disk, Path::new("increment"), Path::new("copy"), &mut go_on).map(|_| ());
    let again = |crash: &Crash, _: Option<Origin>| {
        apply(&crash.disk).map_err(|e| format!("it cannot be repeated: {e}"))?;
        match judge(&crash.disk, "copy")? {
            Some(origin) if origin == source.new => Ok(()),
            other => Err(format!("repeated, and there is {other:?}")),
        }
    };
    let allowed = [source.old, source.new];
    passes(&crash(&source, &["copy", "increment"], "copy", &allowed, apply, again));
}

/// After a cut in the middle of an increment another one that leads further takes its place, and is cut as well.
#[test]
fn an_increment_in_place_of_one_that_was_cut() {
    let source = source();
    let apply = |disk: &SimDisk, increment: &str| {
        backup::apply(disk, Path::new(increment), Path::new("copy"), &mut go_on).map(|_| ())
    };
    let again = |crash: &Crash, _: Option<Origin>| {
        apply(&crash.disk, "later").map_err(|e| format!("nothing takes its place: {e}"))?;
        match judge(&crash.disk, "copy")? {
            Some(origin) if origin == source.later => Ok(()),
            other => Err(format!("replaced, and there is {other:?}")),
        }
    };
    // A second cut finds the copy on its way to the later state, or there.
    let done = Cell::new(u64::MAX);
    let program = |disk: &SimDisk, _: &mut Tape| {
        lay_down(&source, disk, &["copy", "increment", "later"]);
        apply(disk, "increment").map_err(std::io::Error::other)?;
        done.set(disk.event());
        Ok(())
    };
    passes(&explore(Profile::strict(), Tape::dull(), &limits(), program, |crash| {
        let origin = judge(&crash.disk, "copy")?;
        if origin.is_some_and(|o| ![source.old, source.new, source.later].contains(&o)) {
            return Err(format!("a copy of {origin:?}"));
        }
        if crash.depth == 1 && crash.death >= done.get() && origin != Some(source.new) {
            return Err(format!("it was done, and there is {origin:?}"));
        }
        again(crash, origin)
    }));
}
