//! Durability contracts of the log: what a commit, a segment, a checkpoint and a recovery ask of the file system.
//!
//! See `contracts.rs` for what such a list is good for. Covers: L2 (one write and one sync, of space that is there already),
//! L6 (a synced write begins where no synced one ended within a unit), LG-12 (the log before the root record), L3.

use std::sync::Arc;

use strandline::sync::{ManualClock, SeededEntropy};
use strandline::{BackupOptions, CheckpointOptions, Database, Durability, Options, TableOptions, Workers};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::trace::TraceVfs;

fn options(trace: &TraceVfs) -> Options {
    Options::new()
        .vfs(Arc::new(trace.clone()))
        .clock(Arc::new(ManualClock::new(1_000)))
        .entropy(Arc::new(SeededEntropy::new(1)))
        .workers(Workers::Manual)
        .log_segment_bytes_unchecked(64 << 10)
}

/// A database with a log and one table, checkpointed, whose next commits need no new segment.
fn filled(trace: &TraceVfs) -> Database {
    let db = options(trace).create(true).log(true).open("/db").unwrap();
    db.create_table("a", TableOptions::new()).unwrap();
    put(&db, "first", Durability::Sync);
    db.checkpoint(CheckpointOptions::new()).unwrap();
    put(&db, "warm", Durability::Sync);
    db
}

fn put(db: &Database, key: &str, durability: Durability) {
    let table = db.table("a").unwrap();
    let mut txn = db.begin().unwrap();
    txn.put(&table, key, [7; 100]).unwrap();
    txn.commit_with(durability).unwrap();
}

fn contract<T>(trace: &TraceVfs, run: impl FnOnce() -> T) -> String {
    trace.reset();
    let kept = run();
    let t = trace.total();
    let text =
        format!("{}syncs {}, {} bytes in {} writes", trace.durability_text(), t.syncs, t.bytes_written, t.writes);
    drop(kept);
    text
}

#[test]
fn a_commit_of_each_durability() {
    let trace = TraceVfs::new(Arc::new(MemVfs::new()), "/");
    let db = filled(&trace);
    insta::assert_snapshot!(contract(&trace, || put(&db, "b", Durability::Buffered)), @"syncs 0, 0 bytes in 0 writes");
    insta::assert_snapshot!(contract(&trace, || put(&db, "w", Durability::Write)), @r"
    write       db/StrandlineLog.0000000001 16384+256
    syncs 0, 256 bytes in 1 writes
    ");
    insta::assert_snapshot!(contract(&trace, || put(&db, "s", Durability::Sync)), @r"
    write       db/StrandlineLog.0000000001 16640+3840
    sync_data   db/StrandlineLog.0000000001
    syncs 1, 3840 bytes in 1 writes
    ");
    insta::assert_snapshot!(contract(&trace, || put(&db, "t", Durability::Sync)), @r"
    write       db/StrandlineLog.0000000001 20480+4096
    sync_data   db/StrandlineLog.0000000001
    syncs 1, 4096 bytes in 1 writes
    ");
    insta::assert_snapshot!(contract(&trace, || db.sync_log(Durability::Sync).unwrap()), @"syncs 0, 0 bytes in 0 writes");
}

#[test]
fn the_first_segment_and_the_next_one() {
    let trace = TraceVfs::new(Arc::new(MemVfs::new()), "/");
    let db = options(&trace).create(true).log(true).open("/db").unwrap();
    insta::assert_snapshot!(contract(&trace, || db.create_table("a", TableOptions::new()).unwrap()), @r"
    create      db/StrandlineLog.0000000001
    allocate    db/StrandlineLog.0000000001 0+65536
    write       db/StrandlineLog.0000000001 0+65536
    write       db/StrandlineLog.0000000001 0+4096
    sync_all    db/StrandlineLog.0000000001
    sync_dir    db
    write       db/Strandline.root 49152+28
    sync_data   db/Strandline.root
    create      db/Strandline.catalog
    write       db/Strandline.catalog 0+12288
    sync_data   db/Strandline.catalog
    sync_dir    db
    write       db/Strandline.root.new 0+4096
    sync_data   db/Strandline.root.new
    write       db/Strandline.root.new 65536+4096
    sync_data   db/Strandline.root.new
    write       db/StrandlineLog.0000000001 4096+4096
    sync_data   db/StrandlineLog.0000000001
    syncs 8, 94236 bytes in 9 writes
    ");
    put(&db, "x", Durability::Sync);
    let backup = db.backup(BackupOptions::new()).unwrap();
    insta::assert_snapshot!(contract(&trace, || put(&db, "y", Durability::Sync)), @r"
    create      db/StrandlineLog.0000000002
    allocate    db/StrandlineLog.0000000002 0+65536
    write       db/StrandlineLog.0000000002 0+65536
    write       db/StrandlineLog.0000000002 0+4096
    sync_all    db/StrandlineLog.0000000002
    sync_dir    db
    write       db/Strandline.root 16384+28
    sync_data   db/Strandline.root
    write       db/StrandlineLog.0000000002 4096+4096
    sync_data   db/StrandlineLog.0000000002
    syncs 4, 73756 bytes in 4 writes
    ");
    backup.finish().unwrap();
}

/// Covers: LG-12.
#[test]
fn a_checkpoint_syncs_the_log_before_the_root_record() {
    let trace = TraceVfs::new(Arc::new(MemVfs::new()), "/");
    let db = filled(&trace);
    put(&db, "b", Durability::Buffered);
    insta::assert_snapshot!(contract(&trace, || db.checkpoint(CheckpointOptions::new()).unwrap()), @r"
    write       db/table-00000001.sl 8192+4096
    sync_data   db/table-00000001.sl
    write       db/StrandlineLog.0000000001 16384+4096
    sync_data   db/StrandlineLog.0000000001
    write       db/Strandline.catalog 4096+8192
    sync_data   db/Strandline.catalog
    write       db/Strandline.root.new 0+4096
    sync_data   db/Strandline.root.new
    write       db/Strandline.root.new 65536+4096
    sync_data   db/Strandline.root.new
    syncs 5, 24576 bytes in 6 writes
    ");
}

#[test]
fn a_recovery_writes_its_checkpoint_before_it_removes_the_log() {
    let mem = MemVfs::new();
    let db = filled(&TraceVfs::new(Arc::new(mem.clone()), "/"));
    let trace = TraceVfs::new(Arc::new(mem.duplicate()), "/");
    drop(db);
    insta::assert_snapshot!(contract(&trace, || options(&trace).open("/db").unwrap()), @r"
    sync_dir    db
    write       db/table-00000001.sl 8192+4096
    sync_data   db/table-00000001.sl
    write       db/Strandline.catalog 4096+8192
    sync_data   db/Strandline.catalog
    write       db/Strandline.root 0+4096
    sync_data   db/Strandline.root
    write       db/Strandline.root 0+4096
    sync_data   db/Strandline.root
    write       db/Strandline.root 65536+4096
    sync_data   db/Strandline.root
    remove_file db/StrandlineLog.0000000001
    sync_dir    db
    syncs 7, 24576 bytes in 6 writes
    ");
}
