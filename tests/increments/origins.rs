//! Which origins an increment can start from, and what it then lists.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use strandline::backup::{self, ItemContent};
use strandline::sync::SeededEntropy;
use strandline::{BackupOptions, CheckpointOptions, Contract, Database, ErrorKind, Origin, TableOptions};
use strandline_vfs::Call;
use strandline_vfs::fault::{Fault, FaultVfs};
use strandline_vfs::mem::MemVfs;

use crate::stage::*;

fn change(db: &Database, i: u64) {
    write(db, "t", (0..60).map(|n| row(n * 31 + i, 60 + i as usize)));
    db.checkpoint(CheckpointOptions::new()).unwrap();
}

fn with_table(vfs: &MemVfs) -> Database {
    let db = open(vfs);
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", (0..2_000).map(|i| row(i, 50)));
    db.checkpoint(CheckpointOptions::new()).unwrap();
    db
}

fn kind_of(db: &Database, options: BackupOptions) -> ErrorKind {
    let e = db.backup(options).unwrap_err();
    let full = e.remedy_text().is_some_and(|remedy| remedy.contains("full backup"));
    assert!(full || e.kind() == ErrorKind::InvalidArgument, "{e}");
    e.kind()
}

fn since(origin: Origin) -> BackupOptions {
    BackupOptions::new().incremental_from(origin)
}

/// Covers: BI-2, BI-3, BI-11. All files are listed. What did not change is said to be unchanged, be it empty, after a restart, a
/// crash, or a rename of its table; what is new comes with its header.
#[test]
fn every_file_is_listed_and_idle_ones_carry_nothing() {
    let vfs = MemVfs::new();
    let db = with_table(&vfs);
    for (table, rows) in [("idle", 500), ("renamed", 500), ("empty", 0), ("emptied", 20)] {
        db.create_table(table, TableOptions::new()).unwrap();
        write(&db, table, (0..rows).map(|i| row(i, 50)));
    }
    db.checkpoint(CheckpointOptions::new()).unwrap();
    write(&db, "emptied", (0..20).map(|i| (row(i, 0).0, None)));
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let origin = take(&db, "/copy", None).origin();
    db.rename_table("renamed", "other").unwrap();
    drop(db);
    let vfs = vfs.duplicate();
    let db = open(&vfs);
    change(&db, 1);
    db.create_table("new", TableOptions::new()).unwrap();
    write(&db, "new", [row(1, 10)]);
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let backup = db.backup(since(origin)).unwrap();
    let items = backup.items();
    let of = |table: &str| items.iter().find(|i| i.table() == Some(table)).map(|i| (i.content(), i.size()));
    assert_eq!(of("idle"), Some((ItemContent::Unchanged, 0)));
    assert_eq!(of("other"), Some((ItemContent::Unchanged, 0)));
    assert!(of("empty").is_none_or(|i| i == (ItemContent::Unchanged, 0)), "a table without a file has no item");
    assert!(of("emptied").is_none_or(|i| i == (ItemContent::Unchanged, 0)));
    assert!(of("t").is_some_and(|(content, size)| content == ItemContent::Ranges && size > 0));
    let new = items.iter().find(|i| i.table() == Some("new")).unwrap();
    assert_eq!(new.ranges()[0].offset, 0, "with its header");
    assert_eq!(items.last().unwrap().content(), ItemContent::Whole, "the manifest");
    backup.copy_to("/inc", go_on).unwrap();
    backup.finish().unwrap();
    apply(&vfs, "/inc", "/copy").unwrap();
    assert_eq!(restored(&vfs, "/copy"), contents(&db));
}

/// Covers: BI-5, BI-6. An increment that failed is taken again from the same origin, as often as one likes, although newer ones were
/// taken meanwhile; and an older origin fits a newer copy.
#[test]
fn an_origin_serves_again_and_again() {
    let memory = MemVfs::new();
    drop(with_table(&memory));
    let vfs = FaultVfs::new(Arc::new(memory.clone()));
    let db = options(&memory).vfs(Arc::new(vfs.clone())).open("/db").unwrap();
    let first = take(&db, "/copy", None).origin();
    change(&db, 1);
    let second = take(&db, "/first", Some(first)).origin();
    change(&db, 2);
    // Cancelled, and out of space: nothing of it stays, and the source works on.
    let stopped = db.backup(since(first)).unwrap();
    assert_eq!(stopped.copy_to("/inc", |_| ControlFlow::Break(())).unwrap_err().kind(), ErrorKind::Cancelled);
    vfs.inject(Fault::on(Call::Write).in_path("inc").after(1).error(std::io::ErrorKind::StorageFull));
    assert_eq!(stopped.copy_to("/inc", go_on).unwrap_err().kind(), ErrorKind::Io);
    drop(stopped);
    apply(&memory, "/first", "/copy").unwrap();
    for (n, origin) in [first, second, first].into_iter().enumerate() {
        change(&db, 3 + n as u64);
        let dir = format!("/inc{n}");
        take(&db, &dir, Some(origin));
        apply(&memory, &dir, "/copy").unwrap();
        assert_sound(&memory, "/copy");
        assert_eq!(restored(&memory, "/copy"), contents(&db));
    }
}

/// Covers: BI-10. Origins that are not on this history, not there yet, or later than what is copied; the origin that is copied itself.
#[test]
fn what_is_not_on_this_history_is_refused() {
    let vfs = MemVfs::new();
    let db = with_table(&vfs);
    let first = take(&db, "/copy", None).origin();
    db.checkpoint(CheckpointOptions::new().name("june")).unwrap();
    change(&db, 1);
    let newest = take_empty(&db);
    assert_eq!(kind_of(&db, since(newest).checkpoint("june")), ErrorKind::InvalidArgument, "later than what is copied");
    let same = db.backup(since(newest)).unwrap();
    assert!(same.items().iter().all(|i| i.content() != ItemContent::Ranges), "nothing changed");
    same.finish().unwrap();
    let to_come = Origin { sequence: strandline::CheckpointSeq::major(77), ..first };
    assert_eq!(kind_of(&db, since(to_come)), ErrorKind::NotFound);
    let foreign = Origin { lineage: strandline::Lineage(5), ..first };
    assert_eq!(kind_of(&db, since(foreign)), ErrorKind::WrongBase);
    // Half of a history: a copy that was opened for writing goes on from where it left, and only so far is it the same.
    let other = options(&vfs).entropy(Arc::new(SeededEntropy::new(8))).open("/copy").unwrap();
    change(&other, 2);
    assert_eq!(kind_of(&other, since(newest)), ErrorKind::WrongBase, "the source left this history behind");
    other.backup(since(first)).unwrap().finish().unwrap();
    assert_eq!(kind_of(&db, since(take_empty(&other))), ErrorKind::WrongBase, "and the other way round");
}

/// Covers: BI-10, FB-13, BI-11. A checkpoint that a fall back has lost is no origin any more; those before it are, after any
/// number of crashes.
#[test]
fn a_fall_back_loses_the_origins_that_it_loses() {
    let vfs = MemVfs::new();
    let db = with_table(&vfs);
    let before = take(&db, "/copy", None).origin();
    let pinned = db.backup(BackupOptions::new()).unwrap();
    change(&db, 1);
    let lost = db.checkpoints().unwrap().last().map(|c| Origin { sequence: c.seq, ..before }).unwrap();
    assert!(lost.sequence > before.sequence);
    let crashed = vfs.duplicate();
    drop(pinned);
    let entropy = Arc::new(SeededEntropy::new(8));
    let db = options(&crashed).entropy(entropy).contract(Contract::Pinned).open("/db").unwrap();
    assert_eq!(kind_of(&db, since(lost)), ErrorKind::WrongBase);
    for round in 2..5 {
        change(&db, round);
    }
    assert_eq!(kind_of(&db, since(lost)), ErrorKind::WrongBase, "not even when the numbers have come so far again");
    let crashed = crashed.duplicate();
    let db = open(&crashed);
    take(&db, "/inc", Some(before));
    apply(&crashed, "/inc", "/copy").unwrap();
    assert_sound(&crashed, "/copy");
    assert_eq!(restored(&crashed, "/copy"), contents(&db));
}

/// Covers: BI-7, BI-9. A label equal to the source is in use; what is released while its increment is open goes on to its end,
/// and no further.
#[test]
fn a_release_while_an_increment_is_open() {
    let vfs = MemVfs::new();
    let db = with_table(&vfs);
    let backup = db.backup(BackupOptions::new().label("monday")).unwrap();
    backup.copy_to("/copy", go_on).unwrap();
    backup.finish().unwrap();
    change(&db, 1);
    let from_monday = BackupOptions::new().incremental_from("monday");
    assert_eq!(kind_of(&db, from_monday.clone().label("monday")), ErrorKind::InvalidArgument);
    let open_one = db.backup(from_monday.clone()).unwrap();
    db.release_origins().unwrap();
    assert_eq!(db.origins().unwrap(), []);
    open_one.copy_to("/inc", go_on).unwrap();
    open_one.finish().unwrap();
    assert_eq!(kind_of(&db, from_monday), ErrorKind::NotFound);
    backup::apply(&vfs, Path::new("/inc"), Path::new("/copy"), &mut go_on).unwrap();
    assert_eq!(restored(&vfs, "/copy"), contents(&db));
}
