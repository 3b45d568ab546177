//! Views of checkpoints: CK-15 to CK-18.

use strandline::{CheckpointOptions, CheckpointRef, ErrorKind};

use crate::stage::*;

/// Covers: CK-15, C04.
#[test]
fn views_of_nothing() {
    let db = Stage::new().create();
    assert_eq!(kind(db.view(CheckpointRef::Latest)), ErrorKind::NotFound);
    assert_eq!(kind(db.view(CheckpointRef::Named("x"))), ErrorKind::NotFound);
    put(&db, "t", "k", "v");
    assert_eq!(kind(db.view(CheckpointRef::Latest)), ErrorKind::NotFound, "a table that was made is no checkpoint");
    checkpoint(&db);
    assert_eq!(kind(db.view(CheckpointRef::Named("x"))), ErrorKind::NotFound);
    assert_eq!(kind(db.view(CheckpointRef::Named("StrandlineCheckpoint.1"))), ErrorKind::InvalidArgument);
    assert_eq!(db.view(CheckpointRef::Latest).unwrap().name(), None);
}

/// Covers: CK-16, C05, C16, C20, C45. A view stays as it is whatever happens.
#[test]
fn a_view_does_not_change() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 1000, "a");
    fill(&db, "gone", 10, "a");
    named(&db, "x");
    let view = db.view(CheckpointRef::Named("x")).unwrap();
    let latest = db.view(CheckpointRef::Latest).unwrap();
    let (second, tx) = (db.view(CheckpointRef::Named("x")).unwrap(), db.begin().unwrap());
    for round in 0..10 {
        fill(&db, "t", 1000, &format!("{round}"));
        db.checkpoint(CheckpointOptions::new().name("y").force(true)).unwrap();
        assert_eq!(view_rows(&view, "t"), filled(1000, "a"));
        assert_eq!(view_rows(&latest, "t"), filled(1000, "a"));
    }
    assert_eq!(kind(db.drop_table("gone", true)), ErrorKind::Busy);
    assert_eq!(second.get("t", key(7)).unwrap().unwrap().as_ref(), value(7, "a"));
    drop(tx);
    assert_eq!((view.name(), view.seq()), (Some("x"), latest.seq()));
    drop((view, latest, second));
    db.drop_table("gone", true).unwrap();
}

/// Covers: CK-15. Two tables through one view are of one state, while writers and checkpoints run.
#[test]
fn a_view_is_of_one_state() {
    let db = Stage::new().create();
    let (one, two) = (table(&db, "one"), table(&db, "two"));
    put(&db, "one", "k", "\0\0\0\0");
    put(&db, "two", "k", "\0\0\0\0");
    checkpoint(&db);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for i in 0..200_u32 {
                let mut tx = db.begin().unwrap();
                tx.put(&one, "k", i.to_be_bytes()).unwrap();
                tx.put(&two, "k", i.to_be_bytes()).unwrap();
                tx.commit().unwrap();
                if i % 3 == 0 {
                    checkpoint(&db);
                }
            }
        });
        while !writer.is_finished() {
            let view = db.view(CheckpointRef::Latest).unwrap();
            let a = view.get("one", "k").unwrap().unwrap();
            std::thread::yield_now();
            assert_eq!(a.as_ref(), view.get("two", "k").unwrap().unwrap().as_ref());
        }
    });
    assert!(db.checkpoints().unwrap().len() <= 2);
}

/// Covers: CK-17.
#[test]
fn tables_that_were_not_there_and_tables_that_were_empty() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "full", 10, "a");
    table(&db, "empty");
    named(&db, "x");
    fill(&db, "empty", 10, "b");
    fill(&db, "later", 10, "b");
    checkpoint(&db);
    for db in [db, stage.crash().open()] {
        let view = db.view(CheckpointRef::Named("x")).unwrap();
        assert_eq!(view.tables().map(|t| t.name).collect::<Vec<_>>(), ["empty", "full"]);
        assert!(view_rows(&view, "empty").is_empty());
        assert_eq!(view_rows(&view, "full"), filled(10, "a"));
        assert_eq!(kind(view.get("later", "k")), ErrorKind::NotFound);
        assert_eq!(kind(view.scan("never")), ErrorKind::NotFound);
    }
}

/// Covers: CK-17, TB-7. A view knows a table by the name that it had then.
#[test]
fn a_view_knows_old_names() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "old", 100, "a");
    named(&db, "x");
    db.rename_table("old", "new").unwrap();
    fill(&db, "old", 5, "other");
    fill(&db, "new", 100, "b");
    checkpoint(&db);
    for db in [db, stage.crash().open()] {
        assert_eq!(named_rows(&db, "x", "old"), filled(100, "a"));
        let view = db.view(CheckpointRef::Named("x")).unwrap();
        assert_eq!(kind(view.get("new", "k")), ErrorKind::NotFound);
        assert_eq!((rows(&db, "old").len(), rows(&db, "new")), (5, filled(100, "b")));
    }
}

/// Covers: CK-16, CU-1. All ways to read through a view.
#[test]
fn ranges_and_cursors_of_a_view() {
    let db = Stage::new().create();
    fill(&db, "t", 500, "a");
    checkpoint(&db);
    let view = db.view(CheckpointRef::Latest).unwrap();
    fill(&db, "t", 500, "b");
    let range = collect(view.range("t", key(100)..=key(200)).unwrap()).unwrap();
    assert_eq!(range, filled(500, "a").range(key(100)..=key(200)).map(|(k, v)| (k.clone(), v.clone())).collect());
    assert_eq!(view.scan("t").unwrap().next_back().unwrap().unwrap().0, key(499));
    assert_eq!(view.prefix("t", "key-0001").unwrap().count(), 100);
    let mut c = view.cursor("t").unwrap();
    assert!(c.seek(key(250)).unwrap() && c.prev().unwrap());
    assert_eq!(c.value().unwrap().unwrap().as_ref(), value(249, "a"));
    assert!(view.get("t", "none").unwrap().is_none());
}

/// Covers: CK-18.
#[test]
fn views_on_a_read_only_database() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 300, "a");
    named(&db, "x");
    fill(&db, "t", 300, "b");
    db.close().unwrap();
    let db = stage.options().read_only(true).open(HOME).unwrap();
    assert_eq!(named_rows(&db, "x", "t"), filled(300, "a"));
    let latest = db.view(CheckpointRef::Latest).unwrap();
    assert_eq!(view_rows(&latest, "t"), filled(300, "b"));
}
