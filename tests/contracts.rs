//! Durability contracts: which calls of the file system an operation makes, in which order, and what they cost.
//!
//! An engine is durable because a sync stands between this write and that rename, and nowhere else can that be seen better
//! than in the plain list of calls. Each snapshot below is such a list: a change of it is a change of what a crash can
//! leave, and is reviewed as that. Reads are left out of the lists and counted instead.
//!
//! Covers: V4, R1, R2, C1 (order of syncs), K1, K3 (the pin is durable before the backup is open), K7.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use strandline::backup::{self, RestoreOptions};
use strandline::progress::Progress;
use strandline::sync::{ManualClock, SeededEntropy};
use strandline::{BackupOptions, CheckpointOptions, Contract, Database, Options, TableOptions, Workers};
use strandline_vfs::Vfs;
use strandline_vfs::mem::MemVfs;
use strandline_vfs::trace::TraceVfs;

fn go_on(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn traced() -> TraceVfs {
    TraceVfs::new(Arc::new(MemVfs::new()), "/")
}

fn options(trace: &TraceVfs) -> Options {
    Options::new()
        .vfs(Arc::new(trace.clone()))
        .clock(Arc::new(ManualClock::new(1_000)))
        .entropy(Arc::new(SeededEntropy::new(1)))
        .workers(Workers::Manual)
}

fn open(trace: &TraceVfs) -> Database {
    options(trace).create(true).open("/db").unwrap()
}

fn put(db: &Database, table: &str, rows: u32) {
    let table = db.table(table).unwrap();
    let mut txn = db.begin().unwrap();
    for i in 0..rows {
        txn.put(&table, i.to_be_bytes(), [7; 100]).unwrap();
    }
    txn.commit().unwrap();
}

/// A database with two tables of some rows, checkpointed.
fn filled(trace: &TraceVfs) -> Database {
    let db = open(trace);
    for table in ["a", "b"] {
        db.create_table(table, TableOptions::new()).unwrap();
        put(&db, table, 100);
    }
    db.checkpoint(CheckpointOptions::new()).unwrap();
    db
}

/// What `run` asks of the file system: the calls that matter for durability, and the totals.
fn contract<T>(trace: &TraceVfs, run: impl FnOnce() -> T) -> String {
    trace.reset();
    let kept = run();
    let t = trace.total();
    let text = format!(
        "{}syncs {}, {} bytes in {} writes, {} bytes in {} reads",
        trace.durability_text(),
        t.syncs,
        t.bytes_written,
        t.writes,
        t.bytes_read,
        t.reads
    );
    drop(kept);
    text
}

#[test]
fn creating_a_database() {
    let trace = traced();
    insta::assert_snapshot!(contract(&trace, || open(&trace)), @r"
    create_dir  db
    sync_dir    .
    create      db/Strandline.root.new
    set_len     db/Strandline.root.new 0
    write       db/Strandline.root.new 0+4096
    write       db/Strandline.root.new 65536+4096
    sync_all    db/Strandline.root.new
    rename      db/Strandline.root.new -> db/Strandline.root
    sync_dir    db
    syncs 3, 8192 bytes in 2 writes, 0 bytes in 0 reads
    ");
}

#[test]
fn opening_what_was_closed_cleanly() {
    let trace = traced();
    filled(&trace).close().unwrap();
    insta::assert_snapshot!(contract(&trace, || open(&trace)), @r"
    sync_dir    db
    syncs 1, 0 bytes in 0 writes, 24576 bytes in 6 reads
    ");
    let read_only = contract(&trace, || options(&trace).read_only(true).open("/db").unwrap());
    insta::assert_snapshot!(read_only, @"syncs 0, 0 bytes in 0 writes, 24576 bytes in 6 reads");
}

#[test]
fn a_commit_without_a_log_does_no_io() {
    let trace = traced();
    let db = filled(&trace);
    insta::assert_snapshot!(contract(&trace, || put(&db, "a", 10)), @"syncs 0, 0 bytes in 0 writes, 0 bytes in 0 reads");
}

#[test]
fn a_table_made_and_dropped() {
    let trace = traced();
    let db = filled(&trace);
    insta::assert_snapshot!(contract(&trace, || db.create_table("c", TableOptions::new()).unwrap()), @r"
    write       db/Strandline.catalog 12288+8192
    sync_data   db/Strandline.catalog
    write       db/Strandline.root.new 65536+4096
    sync_data   db/Strandline.root.new
    write       db/Strandline.root.new 0+4096
    sync_data   db/Strandline.root.new
    syncs 3, 16384 bytes in 4 writes, 0 bytes in 0 reads
    ");
    insta::assert_snapshot!(contract(&trace, || db.drop_table("a", false).unwrap()), @r"
    write       db/Strandline.catalog 4096+8192
    sync_data   db/Strandline.catalog
    write       db/Strandline.root.new 0+4096
    sync_data   db/Strandline.root.new
    write       db/Strandline.root.new 65536+4096
    sync_data   db/Strandline.root.new
    remove_file db/table-00000001.sl
    syncs 3, 16384 bytes in 4 writes, 0 bytes in 0 reads
    ");
}

#[test]
fn a_checkpoint() {
    let trace = traced();
    let db = filled(&trace);
    put(&db, "a", 1);
    insta::assert_snapshot!(contract(&trace, || db.checkpoint(CheckpointOptions::new()).unwrap()), @r"
    write       db/table-00000001.sl 20480+4096
    sync_data   db/table-00000001.sl
    write       db/Strandline.catalog 12288+8192
    sync_data   db/Strandline.catalog
    write       db/Strandline.root.new 65536+4096
    sync_data   db/Strandline.root.new
    write       db/Strandline.root.new 0+4096
    sync_data   db/Strandline.root.new
    syncs 4, 20480 bytes in 5 writes, 0 bytes in 0 reads
    ");
    let nothing_changed = contract(&trace, || db.checkpoint(CheckpointOptions::new()).unwrap());
    insta::assert_snapshot!(nothing_changed, @"syncs 0, 0 bytes in 0 writes, 0 bytes in 0 reads");
    let named = contract(&trace, || db.checkpoint(CheckpointOptions::new().name("monday")).unwrap());
    insta::assert_snapshot!(named, @r"
    write       db/Strandline.catalog 4096+8192
    sync_data   db/Strandline.catalog
    write       db/Strandline.root.new 0+4096
    sync_data   db/Strandline.root.new
    write       db/Strandline.root.new 65536+4096
    sync_data   db/Strandline.root.new
    syncs 3, 16384 bytes in 4 writes, 0 bytes in 0 reads
    ");
}

#[test]
fn the_first_checkpoint_of_a_table_makes_its_file() {
    let trace = traced();
    let db = filled(&trace);
    db.create_table("c", TableOptions::new()).unwrap();
    put(&db, "c", 10);
    insta::assert_snapshot!(contract(&trace, || db.checkpoint(CheckpointOptions::new()).unwrap()), @r"
    create      db/table-00000003.sl
    write       db/table-00000003.sl 0+8192
    sync_data   db/table-00000003.sl
    sync_dir    db
    write       db/Strandline.catalog 4096+8192
    sync_data   db/Strandline.catalog
    write       db/Strandline.root.new 0+4096
    sync_data   db/Strandline.root.new
    write       db/Strandline.root.new 65536+4096
    sync_data   db/Strandline.root.new
    syncs 5, 24576 bytes in 6 writes, 0 bytes in 0 reads
    ");
}

#[test]
fn a_backup_opened_copied_and_finished() {
    let trace = traced();
    let db = filled(&trace);
    let mut opened = None;
    insta::assert_snapshot!(contract(&trace, || opened = Some(db.backup(BackupOptions::new()).unwrap())), @r"
    write       db/Strandline.root.new 65536+4096
    sync_data   db/Strandline.root.new
    write       db/Strandline.root.new 0+4096
    sync_data   db/Strandline.root.new
    syncs 2, 8192 bytes in 2 writes, 4096 bytes in 1 reads
    ");
    let open = opened.unwrap();
    insta::assert_snapshot!(contract(&trace, || open.copy_to("/copy", go_on).unwrap()), @r"
    create_dir  copy
    sync_dir    .
    create      copy/Strandline.catalog.copy
    write       copy/Strandline.catalog.copy 0+12288
    create      copy/table-00000001.sl.copy
    write       copy/table-00000001.sl.copy 0+20480
    create      copy/table-00000002.sl.copy
    write       copy/table-00000002.sl.copy 0+20480
    sync_all    copy/Strandline.catalog.copy
    sync_all    copy/table-00000001.sl.copy
    sync_all    copy/table-00000002.sl.copy
    rename      copy/Strandline.catalog.copy -> copy/Strandline.catalog
    rename      copy/table-00000001.sl.copy -> copy/table-00000001.sl
    rename      copy/table-00000002.sl.copy -> copy/table-00000002.sl
    sync_dir    copy
    create      copy/Strandline.manifest.copy
    set_len     copy/Strandline.manifest.copy 0
    write       copy/Strandline.manifest.copy 0+4254
    sync_all    copy/Strandline.manifest.copy
    rename      copy/Strandline.manifest.copy -> copy/Strandline.manifest
    sync_dir    copy
    syncs 7, 57502 bytes in 4 writes, 53248 bytes in 3 reads
    ");
    let mut stream = Vec::new();
    insta::assert_snapshot!(contract(&trace, || open.stream_to(&mut stream, go_on).unwrap()), @"syncs 0, 0 bytes in 0 writes, 53248 bytes in 3 reads");
    insta::assert_snapshot!(contract(&trace, || open.finish().unwrap()), @r"
    write       db/Strandline.root.new 0+4096
    sync_data   db/Strandline.root.new
    write       db/Strandline.root.new 65536+4096
    sync_data   db/Strandline.root.new
    syncs 2, 8192 bytes in 2 writes, 0 bytes in 0 reads
    ");
}

#[test]
fn under_latest_a_backup_writes_no_pin() {
    let trace = traced();
    let db = options(&trace).create(true).contract(Contract::Latest).open("/db").unwrap();
    db.create_table("a", TableOptions::new()).unwrap();
    put(&db, "a", 1);
    db.checkpoint(CheckpointOptions::new()).unwrap();
    insta::assert_snapshot!(contract(&trace, || db.backup(BackupOptions::new()).unwrap().finish().unwrap()), @"syncs 0, 0 bytes in 0 writes, 4096 bytes in 1 reads");
}

#[test]
fn restoring_and_opening_a_copy() {
    let trace = traced();
    let db = filled(&trace);
    let open = db.backup(BackupOptions::new()).unwrap();
    open.copy_to("/copy", go_on).unwrap();
    open.finish().unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(trace.clone());
    let (copy, dest) = (Path::new("/copy"), Path::new("/dest"));
    let restore = || backup::restore(&vfs, copy, dest, &RestoreOptions::default(), &mut go_on).unwrap();
    insta::assert_snapshot!(contract(&trace, restore), @r"
    create_dir  dest
    sync_dir    .
    create      dest/Strandline.catalog.copy
    write       dest/Strandline.catalog.copy 0+12288
    create      dest/table-00000001.sl.copy
    write       dest/table-00000001.sl.copy 0+20480
    create      dest/table-00000002.sl.copy
    write       dest/table-00000002.sl.copy 0+20480
    sync_all    dest/Strandline.catalog.copy
    sync_all    dest/table-00000001.sl.copy
    sync_all    dest/table-00000002.sl.copy
    rename      dest/Strandline.catalog.copy -> dest/Strandline.catalog
    rename      dest/table-00000001.sl.copy -> dest/table-00000001.sl
    rename      dest/table-00000002.sl.copy -> dest/table-00000002.sl
    sync_dir    dest
    create      dest/Strandline.manifest.copy
    set_len     dest/Strandline.manifest.copy 0
    write       dest/Strandline.manifest.copy 0+4254
    sync_all    dest/Strandline.manifest.copy
    rename      dest/Strandline.manifest.copy -> dest/Strandline.manifest
    sync_dir    dest
    syncs 7, 57502 bytes in 4 writes, 123038 bytes in 18 reads
    ");
    insta::assert_snapshot!(contract(&trace, || options(&trace).open("/dest").unwrap()), @r"
    create      dest/Strandline.root.new
    set_len     dest/Strandline.root.new 0
    write       dest/Strandline.root.new 0+4096
    write       dest/Strandline.root.new 65536+4096
    sync_all    dest/Strandline.root.new
    rename      dest/Strandline.root.new -> dest/Strandline.root
    sync_dir    dest
    remove_file dest/Strandline.manifest
    sync_dir    dest
    write       dest/Strandline.root.new 65536+4096
    sync_data   dest/Strandline.root.new
    write       dest/Strandline.root.new 0+4096
    sync_data   dest/Strandline.root.new
    syncs 5, 16384 bytes in 4 writes, 41276 bytes in 10 reads
    ");
}

#[test]
fn an_increment_taken_and_applied() {
    let trace = traced();
    let db = filled(&trace);
    let full = db.backup(BackupOptions::new()).unwrap();
    full.copy_to("/copy", go_on).unwrap();
    let origin = full.origin();
    full.finish().unwrap();
    put(&db, "a", 1);
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let mut opened = None;
    let since = BackupOptions::new().incremental_from(origin);
    insta::assert_snapshot!(contract(&trace, || opened = Some(db.backup(since).unwrap())), @r"
    write       db/Strandline.root.new 0+4096
    sync_data   db/Strandline.root.new
    write       db/Strandline.root.new 65536+4096
    sync_data   db/Strandline.root.new
    syncs 2, 8192 bytes in 2 writes, 12288 bytes in 3 reads
    ");
    let open = opened.unwrap();
    insta::assert_snapshot!(contract(&trace, || open.copy_to("/inc", go_on).unwrap()), @r"
    create_dir  inc
    sync_dir    .
    create      inc/Strandline.catalog.copy
    write       inc/Strandline.catalog.copy 0+8192
    create      inc/table-00000001.sl.copy
    write       inc/table-00000001.sl.copy 0+4096
    sync_all    inc/Strandline.catalog.copy
    sync_all    inc/table-00000001.sl.copy
    rename      inc/Strandline.catalog.copy -> inc/Strandline.catalog
    rename      inc/table-00000001.sl.copy -> inc/table-00000001.sl
    sync_dir    inc
    create      inc/Strandline.manifest.copy
    set_len     inc/Strandline.manifest.copy 0
    write       inc/Strandline.manifest.copy 0+4278
    sync_all    inc/Strandline.manifest.copy
    rename      inc/Strandline.manifest.copy -> inc/Strandline.manifest
    sync_dir    inc
    syncs 6, 16566 bytes in 3 writes, 12288 bytes in 2 reads
    ");
    open.finish().unwrap();
    let (inc, copy) = (Path::new("/inc"), Path::new("/copy"));
    insta::assert_snapshot!(contract(&trace, || backup::apply(&trace, inc, copy, &mut go_on).unwrap()), @r"
    create      copy/Strandline.manifest.next.copy
    set_len     copy/Strandline.manifest.next.copy 0
    write       copy/Strandline.manifest.next.copy 0+4278
    sync_all    copy/Strandline.manifest.next.copy
    rename      copy/Strandline.manifest.next.copy -> copy/Strandline.manifest.next
    sync_dir    copy
    create      copy/Strandline.manifest.base.copy
    set_len     copy/Strandline.manifest.base.copy 0
    write       copy/Strandline.manifest.base.copy 0+4254
    sync_all    copy/Strandline.manifest.base.copy
    rename      copy/Strandline.manifest.base.copy -> copy/Strandline.manifest.base
    sync_dir    copy
    remove_file copy/Strandline.manifest
    sync_dir    copy
    create      copy/Strandline.catalog
    write       copy/Strandline.catalog 12288+8192
    sync_all    copy/Strandline.catalog
    create      copy/table-00000001.sl
    write       copy/table-00000001.sl 20480+4096
    sync_all    copy/table-00000001.sl
    sync_dir    copy
    create      copy/Strandline.manifest.copy
    set_len     copy/Strandline.manifest.copy 0
    write       copy/Strandline.manifest.copy 0+4255
    sync_all    copy/Strandline.manifest.copy
    rename      copy/Strandline.manifest.copy -> copy/Strandline.manifest
    sync_dir    copy
    remove_file copy/Strandline.manifest.base
    remove_file copy/Strandline.manifest.next
    sync_dir    copy
    syncs 11, 25075 bytes in 5 writes, 78164 bytes in 8 reads
    ");
}
