//! Increments by blocks: a base and its increments equal the source, whatever happened in between.
//!
//! Covers: K4, K5, K6 of increments. Rule by rule:
//!
//! | rule | shown by |
//! | --- | --- |
//! | BI-1 an origin needs no preparation, and has a name | `behaviour::origins` |
//! | BI-2 all files are listed; ranges again, and of several at once | `origins`, `by_hand`, `chains` |
//! | BI-3 what is new is whole, what is idle is nothing | `origins`, here |
//! | BI-4 granules, gaps, sizes | `chains`, `by_hand`, `behaviour::origins` |
//! | BI-5 repeated from one origin | `origins`, `chains` |
//! | BI-6 an older origin onto a newer copy | `histories`, `chains`, `origins` |
//! | BI-7 to BI-9 labels, their durability, release | `behaviour::origins`, `origins`, `cli::increments` |
//! | BI-10 what is not on this history | `origins`, here |
//! | BI-11 restarts, crashes, idle tables | `chains`, `origins` |
//! | BI-12 what went from the source goes from the copy | `chains`, `applying`, here |
//! | BI-13 an opened copy | `applying`, `by_hand`, here |
//! | BI-14 a directory of its own, or ranges by hand | `by_hand` |
//! | RS-2 refused or repeated | `applying`, and under power cuts `sim/tests/copies.rs` |

mod applying;
mod births;
mod by_hand;
mod chains;
mod cost;
mod histories;
mod origins;
mod stage;

use strandline::backup::{Content, CopyKind};
use strandline::{BackupOptions, CheckpointOptions, ErrorKind, Origin, TableOptions};
use strandline_sim::oracle::structure::Allowance;
use strandline_vfs::mem::MemVfs;

use stage::*;

#[test]
fn an_increment_carries_what_changed() {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    for table in ["large", "idle", "gone"] {
        db.create_table(table, TableOptions::new()).unwrap();
        write(&db, table, (0..5_000).map(|i| row(i, 50)));
    }
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let full = take(&db, "/copy", None);
    assert_eq!(full.kind, CopyKind::Full);
    write(&db, "large", [row(77, 60), row(99_999, 3_000_000)]);
    db.drop_table("gone", false).unwrap();
    db.create_table("late", TableOptions::new()).unwrap();
    write(&db, "late", [row(1, 10)]);
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let increment = take(&db, "/inc", Some(full.origin()));
    assert_eq!(increment.kind, CopyKind::Increment(full.origin()));
    let content: Vec<(&str, bool, u64)> =
        increment.files.iter().map(|f| (f.name.as_str(), matches!(f.content, Content::Whole), f.stored())).collect();
    let [catalog, large, late, idle] =
        ["Strandline.catalog", "table-00000001.sl", "table-00000004.sl", "table-00000002.sl"]
            .map(|name| *content.iter().find(|c| c.0 == name).unwrap());
    assert!(catalog.2 < 10_000, "{catalog:?}");
    assert!(!large.1 && (3_000_000..3_050_000).contains(&large.2), "{large:?}");
    assert!(!late.1 && late.2 < 10_000, "a new table travels with its header: {late:?}");
    assert_eq!(idle.2, 0, "an idle table does not travel");
    let report = apply(&vfs, "/inc", "/copy").unwrap();
    assert_eq!(report.removed, ["table-00000003.sl"]);
    assert_sound(&vfs, "/copy");
    assert_eq!(restored(&vfs, "/copy"), contents(&db));
    let again = apply(&vfs, "/inc", "/copy").unwrap();
    assert_eq!(again.bytes, 0, "it was there already");
}

#[test]
fn an_increment_since_now_carries_nothing_of_the_tables() {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", (0..100).map(|i| row(i, 50)));
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let full = take(&db, "/copy", None);
    let nothing = take(&db, "/inc", Some(full.origin()));
    assert_eq!(nothing.bytes(), 0);
    assert_eq!(nothing.origin(), full.origin());
    apply(&vfs, "/inc", "/copy").unwrap();
    assert_sound(&vfs, "/copy");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    db.create_table("t", TableOptions::new()).unwrap();
    let mut origins = Vec::new();
    for i in 0..4 {
        write(&db, "t", [row(i, 50)]);
        db.checkpoint(CheckpointOptions::new()).unwrap();
        origins.push(take(&db, &format!("/full{i}"), None).origin());
    }
    take(&db, "/late", Some(origins[2]));
    let e = apply(&vfs, "/late", "/full1").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongBase, "a gap: {e}");
    assert_eq!(apply(&vfs, "/full3", "/full1").unwrap_err().kind(), ErrorKind::WrongBase, "no increment");
    assert_sound(&vfs, "/full1");
    apply(&vfs, "/late", "/full2").unwrap();
    assert_eq!(options(&vfs).open("/late").unwrap_err().kind(), ErrorKind::WrongBase, "an increment is no copy");

    let stranger = Origin { lineage: strandline::Lineage(1), ..origins[0] };
    let to_come = Origin { sequence: strandline::CheckpointSeq::major(1000), ..origins[0] };
    for (origin, kind) in [(stranger, ErrorKind::WrongBase), (to_come, ErrorKind::NotFound)] {
        let e = db.backup(BackupOptions::new().incremental_from(origin)).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
    }
    let tables = BackupOptions::new().incremental_from(origins[0]).tables(["t"]);
    assert_eq!(db.backup(tables).unwrap_err().kind(), ErrorKind::InvalidArgument);

    take(&db, "/inc", Some(origins[0]));
    options(&vfs).open("/full0").unwrap().close().unwrap();
    let e = apply(&vfs, "/inc", "/full0").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongBase, "an opened copy: {e}");
    options(&vfs).read_only(true).open("/full1").unwrap().close().unwrap();
    apply(&vfs, "/inc", "/full1").unwrap();
}

/// Covers: BI-2, K4. Of a database with a log an increment may lead to the checkpoint that the copy has, and further into the log.
#[test]
fn an_increment_that_has_only_more_of_the_log_is_applied() {
    let vfs = MemVfs::new();
    let db = options(&vfs).create(true).log(true).open("/db").unwrap();
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", [row(1, 50)]);
    let first = take(&db, "/copy", None);
    let early = take(&db, "/early", Some(first.origin()));
    write(&db, "t", [row(2, 50)]);
    let more = take(&db, "/more", Some(first.origin()));
    assert_eq!(more.origin(), first.origin());
    apply(&vfs, "/more", "/copy").unwrap();
    assert_sound(&vfs, "/copy");
    assert_eq!(rows_of(&vfs, "/copy", "t"), 2);
    let behind = apply(&vfs, "/early", "/copy").unwrap();
    assert_eq!((behind.bytes, rows_of(&vfs, "/copy", "t")), (0, 2), "what it had already it keeps");
    assert!(early.log_end < more.log_end);
}

/// Covers: BI-2, FB-3. The catalog of a named checkpoint lists one that was dropped since and written over: an increment to the
/// named one does not look at it.
#[test]
fn an_increment_to_an_older_checkpoint_passes_what_was_dropped_since() {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", (0..300).map(|i| row(i, 100)));
    let base = take(&db, "/copy", None).origin();
    for (name, value) in [("a", 101), ("p", 102)] {
        write(&db, "t", (0..300).map(|i| row(i, value)));
        db.checkpoint(CheckpointOptions::new().name(name)).unwrap();
    }
    db.checkpoint(CheckpointOptions::new().drop("a")).unwrap();
    for value in 103..108 {
        write(&db, "t", (0..300).map(|i| row(i, value)));
        db.checkpoint(CheckpointOptions::new()).unwrap();
    }
    let backup = db.backup(BackupOptions::new().checkpoint("p").incremental_from(base)).unwrap();
    backup.copy_to("/more", go_on).unwrap();
    backup.finish().unwrap();
    apply(&vfs, "/more", "/copy").unwrap();
    assert_sound(&vfs, "/copy");
    assert!(restored(&vfs, "/copy").values().all(|rows| rows.iter().all(|(_, value)| value.len() == 102)));
}

/// Covers: K5, BI-2. A named checkpoint holds a large value that the newest state has replaced, in a leaf that both share: by then
/// the newest state has a patch over it.
#[test]
fn a_large_value_that_only_an_older_checkpoint_has() {
    let vfs = MemVfs::new();
    let db = deep(&vfs).create(true).open("/db").unwrap();
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", (0..20).map(|i| row(i, 20)));
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let full = take(&db, "/copy", None);
    write(&db, "t", (0..20).map(|i| row(i, 21)));
    write(&db, "t", [row(3, 30_000)]);
    db.checkpoint(CheckpointOptions::new().name("june")).unwrap();
    write(&db, "t", [row(3, 5)]);
    db.checkpoint(CheckpointOptions::new()).unwrap();
    take(&db, "/inc", Some(full.origin()));
    take(&db, "/shadow", None);
    assert_exact(&vfs, "/copy", "/inc", "/shadow", Allowance::default());
    apply(&vfs, "/inc", "/copy").unwrap();
    assert_sound(&vfs, "/copy");
    assert_same_blocks(&vfs, "/copy", "/shadow");
    assert_eq!(restored(&vfs, "/copy"), contents(&db));
}
