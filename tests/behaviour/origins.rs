//! Names for where increments start, and the shape of what they carry.

use strandline::backup::apply;
use strandline::manifest::Content;
use strandline::{BackupOptions, Database, ErrorKind, OriginRef};

use super::stage::{Stage, back_up, checkpoint, copy, fill, filled, kind, named, quietly, rows, table};

fn labelled(db: &Database, dir: &str, label: &str) {
    let backup = db.backup(BackupOptions::new().fresh_checkpoint(true).label(label)).unwrap();
    copy(&backup, dir);
    backup.finish().unwrap();
}

fn since(db: &Database, from: impl Into<OriginRef>) -> strandline::Result<strandline::Origin> {
    db.backup(BackupOptions::new().incremental_from(from)).map(|b| b.origin())
}

fn labels(db: &Database) -> Vec<String> {
    db.origins().unwrap().into_iter().map(|(label, _)| label).collect()
}

/// Covers: BI-7, BI-8.
#[test]
fn a_label_is_there_when_the_backup_has_ended_and_after_a_crash() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 300, "a");
    let backup = db.backup(BackupOptions::new().fresh_checkpoint(true).label("monday")).unwrap();
    copy(&backup, "monday");
    assert_eq!(labels(&db), Vec::<String>::new());
    assert_eq!(kind(since(&stage.crash().open(), "monday")), ErrorKind::NotFound, "a crash before the end");
    backup.finish().unwrap();
    let db = stage.crash().open();
    assert_eq!(labels(&db), ["monday"]);
    fill(&db, "t", 50, "b");
    checkpoint(&db);
    let increment = db.backup(BackupOptions::new().incremental_from("monday").label("tuesday")).unwrap();
    increment.finish().unwrap();
    assert_eq!(labels(&db), ["monday", "tuesday"]);
    assert_eq!(kind(db.backup(BackupOptions::new().label("monday")).map(drop)), ErrorKind::InvalidArgument);
    for bad in ["", "latest", "all", "StrandlineX", "a,b", "a{"] {
        assert_eq!(kind(db.backup(BackupOptions::new().label(bad)).map(drop)), ErrorKind::InvalidArgument, "{bad}");
    }
    let targeted = BackupOptions::new().label("x").tables(["t"]);
    assert_eq!(kind(db.backup(targeted).map(drop)), ErrorKind::InvalidArgument);
    db.backup(BackupOptions::new()).unwrap().finish().unwrap();
}

/// Covers: BI-1, BI-5, BI-9, BI-10.
#[test]
fn what_was_released_is_refused_and_what_comes_after_is_not() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 300, "a");
    labelled(&db, "1", "one");
    fill(&db, "t", 30, "b");
    labelled(&db, "2", "two");
    let (one, two) = (db.origins().unwrap()[0].1, db.origins().unwrap()[1].1);
    since(&db, one).unwrap();
    since(&db, format!("StrandlineCheckpoint.{}", one.sequence)).unwrap();
    db.release_origin("one").unwrap();
    assert_eq!(labels(&db), ["two"]);
    assert_eq!(kind(since(&db, "one")), ErrorKind::NotFound);
    assert_eq!(kind(db.release_origin("one")), ErrorKind::NotFound);
    since(&db, one).expect("the origin works without its label");
    db.release_origin(one).unwrap();
    assert_eq!(kind(since(&db, one)), ErrorKind::NotFound);
    let db = stage.crash().open();
    assert_eq!(kind(since(&db, one)), ErrorKind::NotFound, "durably");
    since(&db, two).unwrap();
    db.release_origins().unwrap();
    assert_eq!(labels(&db), Vec::<String>::new());
    assert_eq!(kind(since(&db, two)), ErrorKind::NotFound);
    let new = db.backup(BackupOptions::new()).unwrap();
    let origin = new.origin();
    new.finish().unwrap();
    since(&db, origin).expect("of the same rows, but backed up later");
    db.release_origins().unwrap();
    assert_eq!(kind(since(&db, origin)), ErrorKind::NotFound);
}

/// Covers: BI-7. A label given to an older checkpoint after everything was released works like any other, for as long as it
/// is there.
#[test]
fn a_label_of_an_older_checkpoint_works_although_all_were_released() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 300, "a");
    named(&db, "june");
    fill(&db, "t", 30, "b");
    checkpoint(&db);
    db.release_origins().unwrap();
    let backup = db.backup(BackupOptions::new().checkpoint("june").label("june-copy")).unwrap();
    let origin = backup.origin();
    copy(&backup, "june");
    backup.finish().unwrap();
    for db in [&db, &stage.crash().open()] {
        assert_eq!(labels(db), ["june-copy"]);
        since(db, "june-copy").unwrap();
        since(db, origin).unwrap();
    }
    db.release_origin("june-copy").unwrap();
    assert_eq!(kind(since(&db, origin)), ErrorKind::NotFound);
}

/// Covers: BI-4, K4.
#[test]
fn ranges_of_every_granularity_make_the_same_copy() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 2000, "a");
    labelled(&db, "base", "base");
    let t = table(&db, "t");
    let mut tx = db.begin().unwrap();
    for i in (0..2000).step_by(97) {
        tx.put(&t, super::stage::key(i), "changed").unwrap();
    }
    tx.commit().unwrap();
    checkpoint(&db);
    for bytes in [0, (4 << 10) - 1, (2 << 30) + 1] {
        let refused = db.backup(BackupOptions::new().incremental_from("base").granularity(bytes));
        assert_eq!(refused.is_ok(), bytes == 0);
    }
    let mut least = u64::MAX;
    for (granularity, consolidate) in
        [(0, false), (4 << 10, false), (4 << 10, true), (64 << 10, false), (1 << 30, true)]
    {
        let now = stage.crash();
        let db = now.open();
        let options = BackupOptions::new().incremental_from("base").granularity(granularity).consolidate(consolidate);
        let increment = db.backup(options).unwrap();
        let size = |name: &str| increment.plan().manifest().files.iter().find(|f| f.name == name).unwrap().size;
        for item in increment.items().iter().filter(|i| i.name().starts_with("table")) {
            for range in item.ranges().iter().filter(|_| granularity > 0) {
                assert_eq!(range.offset % granularity, 0);
                assert!(range.end() % granularity == 0 || range.end() == size(item.name()));
                assert!(consolidate || range.len <= granularity);
            }
            let apart = item.ranges().windows(2).all(|w| w[0].end() < w[1].offset);
            assert!(apart || !consolidate);
        }
        let bytes = increment.plan().bytes();
        assert!(granularity == 0 || bytes >= least);
        least = least.min(bytes);
        let mut merged = 0;
        for file in &increment.plan().manifest().files {
            if let Content::Ranges(ranges) = &file.content {
                merged += ranges.len();
            }
        }
        assert!(merged > 0);
        copy(&increment, "inc");
        increment.finish().unwrap();
        apply(&now.vfs, "inc".as_ref(), "base".as_ref(), &mut quietly).unwrap();
        assert_eq!(rows(&now.open_at("base"), "t"), rows(&db, "t"), "{granularity} {consolidate}");
    }
    back_up(&db, "other");
    assert_eq!(rows(&stage.open_at("other"), "t").len(), filled(2000, "a").len());
}

/// Covers: BI-8, LI-6. A label says nothing of tables, and a crash after it ends no chain of increments from the log.
#[test]
fn a_label_does_not_part_a_kept_log() {
    let stage = Stage::new();
    let db = stage.options().create(true).log(true).keep_log(true).open(super::stage::HOME).unwrap();
    fill(&db, "t", 50, "a");
    labelled(&db, "base", "base");
    let db = stage.crash().open();
    assert_eq!(labels(&db), ["base"]);
    assert_eq!(db.lineage(), stage.crash().open().lineage(), "the history did not fork");
    assert_ne!(stage.open_at("base").lineage(), db.lineage());
}
