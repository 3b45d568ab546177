//! Full devices, failing syncs and damaged pages: what is survived, what is refused from then on, and that nothing is
//! recorded twice or half.

use std::io::ErrorKind::StorageFull;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use strandline::backup::apply;
use strandline::maintenance::VerifyOptions;
use strandline::{BackupOptions, CheckpointOptions, Database, ErrorKind, TableOptions};
use strandline_vfs::fault::{Fault, FaultVfs};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{Call, OpenOptions, Vfs};

use super::stage::{HOME, checkpoint, copy, fill, key, kind, rows, small, table, table_names};

fn failing() -> (FaultVfs, Database) {
    let vfs = FaultVfs::new(Arc::new(MemVfs::new()));
    let db = small(Arc::new(vfs.clone())).create(true).open(HOME).unwrap();
    (vfs, db)
}

fn sound(db: &Database) {
    let report = db.verify(&VerifyOptions::new()).unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
}

/// What makes the catalog write large values too.
fn large() -> TableOptions {
    TableOptions::new().config("x".repeat(5000))
}

/// Covers: TB-9, B2. A number under which a recording failed, at whatever write, is not used again: nothing that was born
/// under it is taken for available.
#[test]
fn after_a_full_device_tables_are_made_dropped_and_renamed_as_before() {
    for write in 0..12 {
        let (vfs, db) = failing();
        db.create_table("old", large()).unwrap();
        fill(&db, "old", 50, "a");
        let full = || Fault::on(Call::Write).in_path("catalog").after(write).error(StorageFull);
        vfs.inject(full());
        let made = db.create_table("new", large());
        assert!(vfs.struck() == 0 || kind(made) == ErrorKind::Io, "write {write}");
        vfs.heal();
        table(&db, "other");
        vfs.inject(full());
        let _ = db.checkpoint(CheckpointOptions::new().name("june"));
        vfs.heal();
        db.create_table("new", large()).unwrap();
        db.rename_table("new", "newer").unwrap();
        db.drop_table("other", false).unwrap();
        sound(&db);
        checkpoint(&db);
        sound(&db);
        assert_eq!(table_names(&db), ["newer", "old"]);
        let before = rows(&db, "old");
        db.close().unwrap();
        let db = small(Arc::new(vfs.clone())).open(HOME).unwrap();
        assert_eq!(table_names(&db), ["newer", "old"]);
        assert_eq!(rows(&db, "old"), before);
        db.create_table("last", large()).unwrap();
        checkpoint(&db);
        sound(&db);
    }
}

/// Covers: K4, TB-9. Between a checkpoint that could not be recorded and the next one, no number is given out above what the
/// tables have already written under: an increment since it would take those blocks for old.
#[test]
fn an_increment_holds_what_an_abandoned_checkpoint_wrote() {
    for write in 0..6 {
        let (vfs, db) = failing();
        fill(&db, "t", 200, "a");
        checkpoint(&db);
        fill(&db, "t", 200, "b");
        vfs.inject(Fault::on(Call::Write).in_path("catalog").after(write).error(StorageFull));
        let _ = db.checkpoint(CheckpointOptions::new().name("june"));
        vfs.heal();
        table(&db, "other");
        let full = db.backup(BackupOptions::new()).unwrap();
        let origin = full.origin();
        copy(&full, "copy");
        full.finish().unwrap();
        let changes = db.backup(BackupOptions::new().fresh_checkpoint(true).incremental_from(origin)).unwrap();
        copy(&changes, "changes");
        changes.finish().unwrap();
        apply(&vfs, Path::new("changes"), Path::new("copy"), &mut |_| ControlFlow::Continue(())).unwrap();
        let copied = small(Arc::new(vfs.clone())).open("copy").unwrap();
        assert_eq!(rows(&copied, "t"), rows(&db, "t"), "write {write}");
        sound(&copied);
    }
}

/// Covers: DB-8. A device that is full when it is asked to sync has failed to sync: nothing after that is believed.
#[test]
fn a_sync_that_fails_for_want_of_space_poisons() {
    for call in [Call::SyncData, Call::SyncDir] {
        let (vfs, db) = failing();
        fill(&db, "t", 50, "a");
        vfs.inject(Fault::on(call).error(StorageFull));
        assert_eq!(kind(db.checkpoint(CheckpointOptions::new())), ErrorKind::Io, "{call:?}");
        assert_eq!(kind(db.create_table("u", TableOptions::new())), ErrorKind::Poisoned, "{call:?}");
        drop(db);
        sound(&small(Arc::new(vfs.clone())).open(HOME).unwrap());
    }
}

/// Covers: R1, DB-8. Where the disk failed in the middle of a root record, no other record is written beside it, not even to
/// take out the pin of a backup.
#[test]
fn a_root_record_half_mirrored_is_left_as_it_is() {
    let (vfs, db) = failing();
    fill(&db, "t", 50, "a");
    checkpoint(&db);
    let backup = db.backup(BackupOptions::new()).unwrap();
    fill(&db, "t", 50, "b");
    vfs.inject(Fault::on(Call::SyncData).in_path("root").after(1).for_ever());
    assert_eq!(kind(db.checkpoint(CheckpointOptions::new())), ErrorKind::Io);
    assert_eq!(kind(backup.finish()), ErrorKind::Poisoned);
    drop(db);
    vfs.heal();
    sound(&small(Arc::new(vfs.clone())).open(HOME).unwrap());
}

/// Covers: NB-1, DB-8. What cannot be read back is damage of one table, not of the knowledge what is on disk.
#[test]
fn a_damaged_page_stops_checkpoints_but_not_the_database() {
    let vfs = MemVfs::new();
    let open = || small(Arc::new(vfs.clone())).create(true).open(HOME).unwrap();
    let db = open();
    fill(&db, "t", 400, "a");
    fill(&db, "u", 400, "a");
    db.close().unwrap();
    let path = Path::new(HOME).join("table-00000001.sl");
    let file = vfs.open(&path, OpenOptions::write()).unwrap();
    let end = file.len().unwrap();
    let mut bytes = vec![0; (end - 4096) as usize];
    file.read_exact_at(&mut bytes, 4096).unwrap();
    // Every leaf, but not the root, which stands last.
    let leaves = bytes.len() - 1024;
    bytes[..leaves].iter_mut().for_each(|b| *b ^= 1);
    file.write_all_at(&bytes, 4096).unwrap();
    let db = open();
    let t = db.table("t").unwrap();
    let mut tx = db.begin().unwrap();
    tx.put(&t, key(7), "new").unwrap();
    tx.commit().unwrap();
    assert_eq!(kind(db.checkpoint(CheckpointOptions::new())), ErrorKind::Corrupt);
    fill(&db, "u", 400, "b");
    assert_eq!(kind(db.checkpoint(CheckpointOptions::new())), ErrorKind::Corrupt);
    db.drop_table("t", true).unwrap();
    checkpoint(&db);
    sound(&db);
}

/// Covers: TX-6. Memory is charged for what a transaction holds, not for every write that it ever made.
#[test]
fn a_transaction_may_write_one_key_for_ever() {
    let (_, db) = failing();
    let t = table(&db, "t");
    let mut tx = db.begin().unwrap();
    for i in 0..20_000u32 {
        tx.put(&t, "counter", format!("{i:0200}")).unwrap();
    }
    tx.commit().unwrap();
}
