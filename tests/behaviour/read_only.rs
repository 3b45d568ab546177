//! Read-only databases: DB-6, DB-7.

use std::sync::Arc;
use strandline::{BackupOptions, CheckpointOptions, CheckpointRef, Database, ErrorKind, TableOptions};
use strandline_vfs::Call;
use strandline_vfs::fault::FaultVfs;

use crate::stage::*;

fn refuses_every_write(db: &Database) {
    let t = db.table("t").unwrap();
    let mut tx = db.begin().unwrap();
    assert_eq!(kind(tx.put(&t, "k", "v")), ErrorKind::ReadOnly);
    assert_eq!(kind(tx.insert(&t, "k", "v")), ErrorKind::ReadOnly);
    assert_eq!(kind(tx.update(&t, key(1), "v")), ErrorKind::ReadOnly);
    assert_eq!(kind(tx.delete(&t, key(1))), ErrorKind::ReadOnly);
    assert_eq!(kind(tx.truncate::<&[u8]>(&t, ..)), ErrorKind::ReadOnly);
    tx.rollback();
    assert_eq!(kind(db.create_table("new", TableOptions::new())), ErrorKind::ReadOnly);
    assert_eq!(kind(db.drop_table("t", true)), ErrorKind::ReadOnly);
    assert_eq!(kind(db.rename_table("t", "u")), ErrorKind::ReadOnly);
    assert_eq!(kind(db.checkpoint(CheckpointOptions::new())), ErrorKind::ReadOnly);
    assert_eq!(kind(db.checkpoint(CheckpointOptions::new().name("x").force(true))), ErrorKind::ReadOnly);
    assert_eq!(kind(db.backup(BackupOptions::new())), ErrorKind::ReadOnly);
    db.begin().unwrap().commit().unwrap();
}

/// Covers: DB-6, L26. A clean home, one whose owner died, one that must fall back, and a fresh copy.
#[test]
fn reading_writes_nothing() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 300, "a");
    named(&db, "x");
    let open = db.backup(BackupOptions::new()).unwrap();
    copy(&open, "copy");
    fill(&db, "t", 300, "b");
    checkpoint(&db);
    fill(&db, "t", 300, "lost");
    let pinned = stage.crash();
    open.finish().unwrap();
    let died = stage.crash();
    db.close().unwrap();
    for (stage, dir, tag) in [(&stage, HOME, "lost"), (&died, HOME, "b"), (&pinned, HOME, "a"), (&stage, "copy", "a")] {
        let before = stage.contents(dir);
        let vfs = FaultVfs::new(Arc::new(stage.vfs.clone()));
        let db = small(Arc::new(vfs.clone())).read_only(true).open(dir).unwrap();
        assert_eq!(rows(&db, "t"), filled(300, tag));
        assert_eq!(named_rows(&db, "x", "t"), filled(300, "a"));
        assert!(db.view(CheckpointRef::Latest).is_ok());
        refuses_every_write(&db);
        db.close().unwrap();
        unchanged(stage, dir, &before);
        let writes = vfs.count_any([Call::Write, Call::Create, Call::SetLen, Call::RemoveFile, Call::Rename]);
        assert_eq!(writes, 0, "{dir} {tag}");
    }
    // The same homes still recover when they are opened for writing.
    assert_eq!(rows(&pinned.open(), "t"), filled(300, "a"));
    assert_eq!(rows(&stage.open_at("copy"), "t"), filled(300, "a"));
}

/// Covers: DB-6. On a medium that refuses every write.
#[test]
fn a_medium_that_cannot_be_written() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 300, "a");
    let died = stage.crash();
    drop(db);
    let vfs = FaultVfs::new(Arc::new(died.vfs.clone()));
    let refused = strandline_vfs::fault::Fault::on_any(Call::CHANGES).for_ever();
    vfs.inject(refused.error(std::io::ErrorKind::ReadOnlyFilesystem));
    let db = small(Arc::new(vfs)).read_only(true).open(HOME).unwrap();
    assert!(rows(&db, "t").is_empty());
    drop(db);
    stage.options().read_only(true).open(HOME).unwrap();
}

/// Covers: DB-2, DB-6.
#[test]
fn nothing_to_read() {
    let stage = Stage::new();
    assert_eq!(kind(stage.options().read_only(true).open(HOME)), ErrorKind::NotFound);
    assert_eq!(kind(stage.options().read_only(true).create(true).open(HOME)), ErrorKind::NotFound);
    assert!(!stage.files("").contains(&HOME.to_owned()));
}
