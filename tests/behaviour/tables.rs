//! Databases and tables: DB and TB.

use std::sync::Arc;
use strandline::{BackupOptions, CheckpointRef, ErrorKind, Options, TableOptions};
use strandline_vfs::Call;
use strandline_vfs::fault::FaultVfs;

use crate::stage::*;

/// Covers: DB-1.
#[test]
fn one_owner_at_a_time() {
    let stage = Stage::new();
    let db = stage.create();
    assert_eq!(kind(stage.options().open(HOME)), ErrorKind::Busy);
    assert_eq!(kind(stage.options().read_only(true).open(HOME)), ErrorKind::Busy);
    db.close().unwrap();
    stage.open().close().unwrap();
    // A lock left by a dead process does not count.
    let db = stage.open();
    stage.crash().open();
    drop(db);
    stage.open();
}

/// Covers: DB-2.
#[test]
fn a_database_is_made_only_when_asked_for() {
    let stage = Stage::new();
    assert_eq!(kind(stage.options().open(HOME)), ErrorKind::NotFound);
    assert!(stage.contents("").is_empty() || !stage.files("").contains(&HOME.to_owned()), "nothing was written");
    stage.create().close().unwrap();
    stage.options().create(true).open(HOME).unwrap().close().unwrap();
    assert_eq!(kind(stage.options().open("elsewhere")), ErrorKind::NotFound);
}

/// Covers: DB-2.
#[test]
fn files_without_a_root_are_never_laid_over() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 100, "a");
    db.close().unwrap();
    stage.remove("home/Strandline.root");
    let before = stage.contents(HOME);
    for create in [false, true] {
        let e = stage.options().create(create).open(HOME).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt);
        assert!(e.to_string().contains("Strandline.catalog"), "lists what was found: {e}");
    }
    unchanged(&stage, HOME, &before);
}

/// Covers: DB-5.
#[test]
fn settings_that_decide_what_files_mean_are_remembered() {
    let stage = Stage::new();
    let db = stage.options().create(true).unit(2048).contract(strandline::Contract::Latest).open(HOME).unwrap();
    fill(&db, "t", 10, "a");
    db.close().unwrap();
    let plain = Options::new().vfs(Arc::new(stage.vfs.clone()));
    let db = plain.open(HOME).unwrap();
    assert_eq!(db.settings().unit, 2048);
    assert_eq!(db.settings().contract, strandline::Contract::Latest);
    assert_eq!(rows(&db, "t"), filled(10, "a"));
}

/// Covers: DB-4. A close takes a checkpoint; a drop does the same.
#[test]
fn closing_keeps_everything() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 500, "a");
    db.close().unwrap();
    let db = stage.open();
    assert_eq!(rows(&db, "t"), filled(500, "a"));
    fill(&db, "t", 500, "b");
    drop(db);
    assert_eq!(rows(&stage.open(), "t"), filled(500, "b"));
}

/// Covers: DB-4.
#[test]
fn views_end_with_the_database() {
    let stage = Stage::new();
    let db = stage.create();
    put(&db, "t", "k", "v");
    checkpoint(&db);
    let view = db.view(CheckpointRef::Latest).unwrap();
    db.close().unwrap();
    assert_eq!(kind(view.get("t", "k")), ErrorKind::Closed);
    let db = stage.open();
    assert!(db.checkpoints().unwrap().iter().all(|c| c.pinned_by.is_empty()));
}

/// Covers: TB-1.
#[test]
fn names_of_tables() {
    let db = Stage::new().create();
    let long = "x".repeat(10_000);
    for bad in [
        "",
        "a{",
        "}",
        "a,b",
        "a:b",
        "[",
        "]",
        "a\\b",
        "a\"",
        "'",
        "a\nb",
        "\u{7f}",
        "Strandline",
        "Strandline1",
        &long,
    ] {
        assert_eq!(kind(db.create_table(bad, TableOptions::new())), ErrorKind::InvalidArgument, "{bad:?}");
    }
    for good in ["t", "Strand", "strandline", "a b", "W", "Wired", "größe", ".", "..", "a/b", "all", "latest"] {
        db.create_table(good, TableOptions::new()).unwrap();
        put(&db, good, "k", good);
    }
    for name in table_names(&db) {
        assert_eq!(get(&db, &name, "k").as_deref(), Some(&*name));
    }
}

/// Covers: TB-2, D10.
#[test]
fn creating_a_table_that_exists() {
    let db = Stage::new().create();
    let config = || TableOptions::new().config("key_format=S");
    db.create_table("t", config()).unwrap();
    put(&db, "t", "k", "v");
    assert_eq!(db.create_table("t", config()).unwrap().config(), "key_format=S");
    assert_eq!(db.create_table("t", TableOptions::new()).unwrap().config(), "key_format=S");
    assert_eq!(kind(db.create_table("t", config().exclusive(true))), ErrorKind::Exists);
    assert_eq!(kind(db.create_table("t", TableOptions::new().config("key_format=i"))), ErrorKind::InvalidArgument);
    assert_eq!(get(&db, "t", "k").as_deref(), Some("v"));
}

/// Covers: TB-6.
#[test]
fn dropping_a_table() {
    let stage = Stage::new();
    let db = stage.create();
    assert_eq!(kind(db.drop_table("t", false)), ErrorKind::NotFound);
    db.drop_table("t", true).unwrap();
    fill(&db, "t", 200, "a");
    named(&db, "before");
    db.drop_table("t", false).unwrap();
    assert_eq!(kind(db.table("t")), ErrorKind::NotFound);
    let view = db.view(CheckpointRef::Named("before")).unwrap();
    assert_eq!(kind(view.get("t", "k")), ErrorKind::NotFound, "it is gone from every checkpoint");
    assert!(!stage.files(HOME).iter().any(|f| f.starts_with("table-")), "its file is gone");
}

/// Covers: TB-6. Each of the four reasons is named; `force` helps against the third alone.
#[test]
fn a_table_in_use_is_not_dropped() {
    let db = Stage::new().create();
    let t = table(&db, "t");
    put(&db, "t", "k", "v");
    assert!(text(db.drop_table("t", false)).contains("changes since the last checkpoint"));
    checkpoint(&db);

    let tx = db.begin().unwrap();
    let cursor = tx.cursor(&t).unwrap();
    assert!(text(db.drop_table("t", true)).contains("cursor"));
    assert_eq!(kind(db.rename_table("t", "u")), ErrorKind::Busy);
    drop(cursor);
    drop(tx);

    let view = db.view(CheckpointRef::Latest).unwrap();
    assert!(text(db.drop_table("t", true)).contains("view"));
    assert_eq!(kind(db.rename_table("t", "u")), ErrorKind::Busy);
    drop(view);

    let mut tx = db.begin().unwrap();
    tx.put(&t, "k", "w").unwrap();
    assert!(text(db.drop_table("t", true)).contains("transaction"));
    assert_eq!(kind(db.rename_table("t", "u")), ErrorKind::Busy);
    drop(tx);

    let backup = db.backup(BackupOptions::new()).unwrap();
    let e = db.drop_table("t", true).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Busy);
    assert!(e.to_string().contains("backup"));
    backup.finish().unwrap();

    put(&db, "t", "k", "x");
    assert_eq!(kind(db.drop_table("t", false)), ErrorKind::Busy);
    db.drop_table("t", true).unwrap();
    assert_eq!(kind(db.begin().unwrap().get(&t, "k")), ErrorKind::NotFound, "the old handle finds nothing");
}

/// Covers: TB-7.
#[test]
fn renaming_a_table() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 300, "a");
    put(&db, "taken", "k", "v");
    assert_eq!(kind(db.rename_table("none", "u")), ErrorKind::NotFound);
    assert_eq!(kind(db.rename_table("t", "taken")), ErrorKind::Exists);
    assert_eq!(kind(db.rename_table("t", "a:b")), ErrorKind::InvalidArgument);
    db.rename_table("t", "u").unwrap();
    assert_eq!(rows(&db, "u"), filled(300, "a"));
    assert_eq!(kind(db.table("t")), ErrorKind::NotFound);
    fill(&db, "t", 5, "new");
    db.close().unwrap();
    let db = stage.open();
    assert_eq!((rows(&db, "u"), rows(&db, "t")), (filled(300, "a"), filled(5, "new")));
}

/// Covers: TB-9. Schema calls are durable when they return, and no part of any transaction.
#[test]
fn schema_changes_are_durable_at_once() {
    let stage = Stage::new();
    let db = stage.create();
    let mut tx = db.begin().unwrap();
    let old = table(&db, "old");
    tx.put(&old, "k", "v").unwrap();
    db.create_table("new", TableOptions::new().config("text")).unwrap();
    drop(tx);
    db.rename_table("old", "older").unwrap();
    assert_eq!(table_names(&stage.crash().open()), ["new", "older"]);
    assert_eq!(stage.crash().open().table("new").unwrap().config(), "text");
    db.drop_table("new", false).unwrap();
    assert_eq!(table_names(&stage.crash().open()), ["older"]);
}

/// Covers: TB-9, L10, G05. A file id is never used again, so nothing of a dead table shows up in a new one.
#[test]
fn ids_are_not_used_again() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 100, "a");
    let first = db.table("t").unwrap().id();
    checkpoint(&db);
    db.drop_table("t", false).unwrap();
    db.close().unwrap();
    let db = stage.open();
    let second = table(&db, "t").id();
    assert!(second > first);
    assert!(rows(&db, "t").is_empty());
    let crashed = stage.crash().open();
    assert!(table(&crashed, "u").id() > second);
}

/// Covers: TB-10, TB-11, B13. Listing and opening a backup opens no table file.
#[test]
fn tables_open_lazily() {
    let stage = Stage::new();
    let db = stage.create();
    for i in 0..80 {
        fill(&db, &format!("t{i:02}"), 3, "a");
    }
    db.close().unwrap();
    let vfs = FaultVfs::new(Arc::new(stage.vfs.clone()));
    let db = small(Arc::new(vfs.clone())).open(HOME).unwrap();
    let opened = vfs.count(Call::Open) + vfs.count(Call::Create);
    assert!(opened < 20, "{opened} files were opened for 80 tables");
    let before = vfs.count(Call::Open);
    assert_eq!(db.tables().unwrap().len(), 80);
    let backup = db.backup(BackupOptions::new()).unwrap();
    assert_eq!(backup.items().len(), 82, "80 tables, the catalog, the manifest");
    backup.finish().unwrap();
    assert!(vfs.count(Call::Open) - before < 10);
    assert_eq!(rows(&db, "t42"), filled(3, "a"));
}

/// Covers: TB-11. Without any checkpoint a table opens empty.
#[test]
fn a_table_never_checkpointed_opens_empty() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 50, "a");
    let crashed = stage.crash().open();
    assert!(rows(&crashed, "t").is_empty());
    drop(db);
}

#[test]
fn a_table_of_another_database_is_refused() {
    let (one, two) = (Stage::new().create(), Stage::new().create());
    let t = table(&one, "t");
    table(&two, "t");
    assert_eq!(kind(two.begin().unwrap().get(&t, "k")), ErrorKind::InvalidArgument);
    assert_eq!(kind(two.begin().unwrap().put(&t, "k", "v")), ErrorKind::InvalidArgument);
}

/// A table with few files open works like any other.
#[test]
fn more_tables_than_open_files() {
    let stage = Stage::new();
    let db = stage.options().create(true).open_files_max(3).open(HOME).unwrap();
    for round in ["a", "b"] {
        for i in 0..20 {
            fill(&db, &format!("t{i}"), 50, round);
        }
        checkpoint(&db);
        let open = db.stats().unwrap().into_iter().find(|(name, _)| *name == "files_open").unwrap().1;
        assert!(open <= 3, "{open} files are open");
    }
    for i in 0..20 {
        assert_eq!(rows(&db, &format!("t{i}")), filled(50, "b"));
    }
}
