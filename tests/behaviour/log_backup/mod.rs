//! Backups of a database with a log: what a copy opens with.

mod chains;
mod damage;
mod increments;
mod random;

use std::path::Path;
use std::sync::Arc;

use strandline::backup::{self, ApplyReport, CopyKind, ItemKind, Manifest, Rolled, VerifyCopyOptions};
use strandline::{
    Backup, BackupOptions, Contract, Database, Durability, ErrorKind, Options, RecoveryKind, RestoreOptions, Result,
    TableOptions,
};
use strandline_vfs::fault::{Fault, FaultVfs};
use strandline_vfs::{Call, OpenOptions, Vfs};

use super::stage::{
    HOME, Rows, Stage, back_up, checkpoint, copy, fill, filled, get, kind, named, names, put, quietly, rows, table,
    table_names, text, unchanged,
};

fn logged(stage: &Stage) -> Options {
    stage.options().create(true).log(true).keep_log(true).log_segment_bytes_unchecked(16 << 10)
}

fn create(stage: &Stage) -> Database {
    logged(stage).open(HOME).unwrap()
}

fn full(db: &Database, dir: &str) {
    let backup = db.backup(BackupOptions::new()).unwrap();
    copy(&backup, dir);
    backup.finish().unwrap();
}

/// An increment from the log into `dir`; what may go afterwards goes.
fn increment(db: &Database, dir: &str) {
    let mut backup = db.backup(BackupOptions::new().log_only()).unwrap();
    copy(&backup, dir);
    backup.remove_log().unwrap();
    backup.finish().unwrap();
}

fn apply(stage: &Stage, increment: &str, copy: &str) -> Result<ApplyReport> {
    backup::apply(&stage.vfs, Path::new(increment), Path::new(copy), &mut quietly)
}

fn verify(stage: &Stage, dir: &str) -> backup::CopyReport {
    let vfs: Arc<dyn Vfs> = Arc::new(stage.vfs.clone());
    backup::verify_copy(&vfs, Path::new(dir), VerifyCopyOptions::default(), &mut quietly).unwrap()
}

fn sound(stage: &Stage, dir: &str) {
    let report = verify(stage, dir);
    assert_eq!(report.findings, []);
    assert_eq!(report.strangers, Vec::<String>::new());
}

/// All tables of the database, with their rows.
fn contents(db: &Database) -> Vec<(String, Rows)> {
    table_names(db).into_iter().map(|name| (name.clone(), rows(db, &name))).collect()
}

/// What the copy opens with, read-only and for writing; the copy itself stays as it is.
fn restored(stage: &Stage, dir: &str) -> Vec<(String, Rows)> {
    let before = stage.contents(dir);
    let read_only = stage.options().read_only(true).open(dir).unwrap();
    let seen = contents(&read_only);
    drop(read_only);
    unchanged(stage, dir, &before);
    let written = stage.crash();
    let db = written.open_at(dir);
    assert_eq!(contents(&db), seen, "the same read-only and for writing");
    assert!(db.verify(&strandline::VerifyOptions::new()).unwrap().is_sound());
    put(&db, "after", "k", "v");
    drop(db);
    let crashed = written.crash().open_at(dir);
    assert_eq!(get(&crashed, "after", "k").unwrap(), "v");
    assert_eq!(contents(&crashed).into_iter().filter(|(name, _)| name != "after").collect::<Vec<_>>(), seen);
    let left: Vec<String> = written.files(dir).into_iter().filter(|f| f.contains("manifest")).collect();
    assert_eq!(left, Vec::<String>::new());
    seen
}

/// As `cp FROM/* TO/`.
fn lay(stage: &Stage, from: &str, to: &str) {
    for (name, bytes) in stage.contents(from) {
        stage.write(&format!("{to}/{name}"), &bytes);
    }
}

fn mkdir(stage: &Stage, dir: &str) {
    stage.vfs.create_dir(Path::new(dir)).unwrap();
}

/// Every item copied by hand.
fn lay_items(stage: &Stage, backup: &Backup<'_>, dir: &str) {
    for item in backup.items() {
        let bytes = match item.kind() {
            ItemKind::Manifest => backup.manifest(),
            _ => {
                let mut bytes = stage.read(item.source().to_str().unwrap());
                bytes.resize(item.size() as usize, 0);
                bytes
            }
        };
        stage.write(&format!("{dir}/{}", item.name()), &bytes);
    }
}

/// Covers: K1, K8, FB-5, FB-6, FB-14.
#[test]
fn a_copy_opens_with_the_commits_up_to_the_open_of_the_backup_and_no_other() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 50, "a");
    db.create_table("plain", TableOptions::new().log(false)).unwrap();
    put(&db, "plain", "old", "1");
    checkpoint(&db);
    fill(&db, "t", 30, "b");
    put(&db, "late", "k", "v");
    put(&db, "plain", "new", "2");
    let expected = contents(&db);
    let backup = db.backup(BackupOptions::new()).unwrap();
    fill(&db, "t", 60, "c");
    put(&db, "later", "k", "v");
    checkpoint(&db);
    put(&db, "late", "k", "w");
    copy(&backup, "copy");
    mkdir(&stage, "hand");
    lay_items(&stage, &backup, "hand");
    backup.finish().unwrap();

    sound(&stage, "copy");
    for dir in ["copy", "hand"] {
        let seen = restored(&stage, dir);
        let of = |name: &str| seen.iter().find(|(n, _)| n == name).map(|(_, rows)| rows.clone()).unwrap();
        assert_eq!(seen.len(), 3, "t, late, plain; `later` is later");
        assert_eq!(of("t"), expected.iter().find(|(n, _)| n == "t").unwrap().1);
        assert_eq!(of("late").len(), 1);
        assert_eq!(of("plain").len(), 1, "what is not logged is at its checkpoint");
    }
    assert!(verify(&stage, "copy").log_records >= 2);
    let db = stage.crash().open_at("copy");
    let report = db.recovery().clone();
    assert!(matches!(report.kind, RecoveryKind::Restored { .. }));
    assert_eq!(report.strangers, Vec::<String>::new());
    assert_eq!(get(&db, "late", "k").unwrap(), "v");
}

#[test]
fn an_idle_log_lists_nothing_and_a_new_database_can_be_backed_up() {
    let stage = Stage::new();
    let db = create(&stage);
    full(&db, "empty");
    assert_eq!(restored(&stage, "empty"), []);
    fill(&db, "t", 20, "a");
    db.close().unwrap();
    let db = stage.open();
    full(&db, "copy");
    let manifest = Manifest::load(&stage.vfs, Path::new("copy")).unwrap();
    assert_eq!(manifest.segments().count(), 1, "the one that the position is in");
    assert!(verify(&stage, "copy").log_records <= 1, "the mark of the checkpoint");
    increment(&db, "nothing");
    assert_eq!(apply(&stage, "nothing", "copy").unwrap().bytes, 0);
    assert!(apply(&stage, "nothing", "empty").unwrap().bytes > 0, "there it is something");
    assert_eq!(restored(&stage, "empty"), contents(&db));
    put(&db, "t", "k", "v");
    increment(&db, "something");
    apply(&stage, "something", "copy").unwrap();
    assert_eq!(restored(&stage, "copy"), contents(&db));
    sound(&stage, "copy");
}

/// Covers: FB-3, TG-1.
#[test]
fn a_copy_of_a_chosen_checkpoint_or_of_chosen_tables_is_that_and_no_more() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 40, "a");
    put(&db, "u", "k", "1");
    named(&db, "monday");
    let monday = contents(&db);
    fill(&db, "t", 40, "b");
    checkpoint(&db);
    fill(&db, "t", 10, "c");
    let backup = db.backup(BackupOptions::new().checkpoint("monday")).unwrap();
    copy(&backup, "monday");
    backup.finish().unwrap();
    let backup = db.backup(BackupOptions::new().tables(["t"])).unwrap();
    copy(&backup, "some");
    backup.finish().unwrap();
    for dir in ["monday", "some"] {
        let manifest = Manifest::load(&stage.vfs, Path::new(dir)).unwrap();
        assert_eq!((manifest.segments().count(), manifest.log().unwrap()), (0, None));
        sound(&stage, dir);
    }
    assert_eq!(restored(&stage, "monday"), monday);
    assert_eq!(restored(&stage, "some"), [("t".to_owned(), filled(40, "b"))]);
    let refused = text(db.backup(BackupOptions::new().log_only()));
    assert!(refused.contains("full backup needed"), "neither has the log: {refused}");
    full(&db, "full");
    increment(&db, "inc");
    assert_eq!(kind(apply(&stage, "inc", "monday")), ErrorKind::WrongBase);
    assert_eq!(kind(apply(&stage, "inc", "some")), ErrorKind::WrongBase);
}

/// Covers: FB-6, FB-13. Conformance B18, B23, B25: the whole home is copied while a backup is open, log and all.
#[test]
fn a_copy_of_the_whole_directory_has_the_later_commits_too() {
    for contract in [Contract::Pinned, Contract::Latest] {
        let stage = Stage::new();
        let db = logged(&stage).contract(contract).open(HOME).unwrap();
        fill(&db, "t", 10, "a");
        checkpoint(&db);
        fill(&db, "t", 11, "b");
        let backup = db.backup(BackupOptions::new()).unwrap();
        for round in 12..15 {
            fill(&db, "t", round, "c");
            named(&db, &format!("mid{round}"));
        }
        put(&db, "made", "k", "v");
        put(&db, "t", "last", "v");
        mkdir(&stage, "cp");
        lay(&stage, HOME, "cp");
        let expected = contents(&db);
        backup.finish().unwrap();
        let db = stage.open_at("cp");
        assert_eq!(contents(&db), expected, "{contract:?}");
        let kept = if contract == Contract::Latest { 3 } else { 0 };
        assert_eq!(names(&db).len(), kept, "{contract:?}");
        db.close().unwrap();
        assert_eq!(contents(&stage.open_at("cp")), expected);
    }
}

/// A full backup keeps the segments of its checkpoint whatever is said to be safe.
#[test]
fn a_full_backup_keeps_what_its_checkpoint_needs() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 300, "a");
    checkpoint(&db);
    fill(&db, "t", 300, "b");
    let mut backup = db.backup(BackupOptions::new()).unwrap();
    checkpoint(&db);
    backup.remove_log().unwrap();
    assert_eq!(db.remove_log().unwrap(), Vec::<u32>::new());
    copy(&backup, "copy");
    let expected = contents(&db);
    drop(stage.crash().open());
    assert_eq!(contents(&stage.crash().open()), expected, "a crash falls back to what needs them");
    backup.finish().unwrap();
    assert_eq!(restored(&stage, "copy"), expected);
    assert!(!db.remove_log().unwrap().is_empty());
}

/// A copy made by blocks carries its log too.
#[test]
fn increments_by_blocks_carry_the_log_whole() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 200, "a");
    checkpoint(&db);
    fill(&db, "t", 20, "b");
    let backup = db.backup(BackupOptions::new()).unwrap();
    copy(&backup, "copy");
    let mut origin = backup.origin();
    backup.finish().unwrap();
    for round in 0..3 {
        fill(&db, "t", 10, &format!("r{round}"));
        if round != 1 {
            checkpoint(&db);
        }
        fill(&db, "t", 20, &format!("s{round}"));
        put(&db, &format!("new{round}"), "k", "v");
        let inc = format!("inc{round}");
        let backup = db.backup(BackupOptions::new().incremental_from(origin)).unwrap();
        copy(&backup, &inc);
        origin = backup.origin();
        backup.finish().unwrap();
        sound(&stage, &inc);
        apply(&stage, &inc, "copy").unwrap();
        sound(&stage, "copy");
        assert_eq!(restored(&stage, "copy"), contents(&db), "round {round}");
    }
}

/// Covers: DB-5. The log stands elsewhere: beside the copy's files in the copy, and in a place of its own again afterwards.
#[test]
fn a_log_elsewhere_travels_and_is_not_shared() {
    for dir in ["wal", "/elsewhere"] {
        let stage = Stage::new();
        let db = logged(&stage).log_dir(dir).open(HOME).unwrap();
        fill(&db, "t", 30, "a");
        let backup = db.backup(BackupOptions::new()).unwrap();
        let item = backup.items().into_iter().find(|i| i.kind() == ItemKind::Segment).unwrap();
        assert!(item.source().to_str().unwrap().contains(dir), "{item:?}");
        assert!(!item.name().contains('/'));
        copy(&backup, "copy");
        backup.finish().unwrap();
        fill(&db, "t", 40, "b");
        increment(&db, "inc");
        apply(&stage, "inc", "copy").unwrap();
        assert_eq!(restored(&stage, "copy"), contents(&db));
        let copied = stage.open_at("copy");
        put(&copied, "t", "copied", "v");
        put(&db, "t", "source", "v");
        drop((copied, db));
        let after = stage.crash();
        let (source, copied) = (after.open(), after.open_at("copy"));
        assert_eq!((get(&source, "t", "copied"), get(&copied, "t", "source")), (None, None));
        assert_eq!(
            (get(&source, "t", "source").unwrap(), get(&copied, "t", "copied").unwrap()),
            ("v".into(), "v".into())
        );
        let own = if dir == "wal" { "copy/wal" } else { "copy" };
        assert!(after.files(own).iter().any(|f| f.starts_with("StrandlineLog.")), "{dir}");
    }
}

/// Covers: RS-1, RS-2, RS-7. Restore to another place, in whole or in part, from a directory and from a stream.
#[test]
fn restores_carry_the_log_and_its_increments() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 30, "a");
    fill(&db, "u", 30, "u");
    checkpoint(&db);
    fill(&db, "t", 35, "b");
    let backup = db.backup(BackupOptions::new()).unwrap();
    copy(&backup, "copy");
    let mut stream = Vec::new();
    backup.stream_to(&mut stream, quietly).unwrap();
    let at_open = contents(&db);
    backup.finish().unwrap();
    fill(&db, "t", 40, "c");
    put(&db, "late", "k", "v");
    let backup = db.backup(BackupOptions::new().log_only()).unwrap();
    copy(&backup, "inc");
    let mut inc_stream = Vec::new();
    backup.stream_to(&mut inc_stream, quietly).unwrap();
    backup.finish().unwrap();

    let vfs: Arc<dyn Vfs> = Arc::new(stage.vfs.clone());
    let whole = RestoreOptions::default();
    let dir = Path::new;
    backup::restore_stream(&vfs, &mut &stream[..], dir("streamed"), &whole, &mut quietly).unwrap();
    assert_eq!(restored(&stage, "streamed"), at_open);
    backup::restore_stream(&vfs, &mut &inc_stream[..], dir("inc-streamed"), &whole, &mut quietly).unwrap();
    assert_eq!(stage.contents("inc-streamed"), stage.contents("inc"));
    apply(&stage, "inc-streamed", "streamed").unwrap();
    lay(&stage, "inc", "copy");
    backup::restore(&vfs, dir("copy"), dir("there"), &whole, &mut quietly).unwrap();
    for copy in ["copy", "there", "streamed"] {
        assert_eq!(restored(&stage, copy), contents(&db), "{copy}");
    }
    sound(&stage, "there");
    assert_eq!(kind(backup::restore(&vfs, dir("inc"), dir("no"), &whole, &mut quietly)), ErrorKind::WrongBase);
    let opened = text(stage.options().open("inc"));
    assert!(opened.contains("increment from the log"), "{opened}");
    assert_eq!(kind(stage.options().open("inc")), ErrorKind::WrongBase);

    let some = RestoreOptions { tables: vec!["t".into()], ..whole };
    backup::restore(&vfs, dir("copy"), dir("some"), &some, &mut quietly).unwrap();
    let only_t = [("t".to_owned(), rows(&db, "t"))];
    assert_eq!(restored(&stage, "some"), only_t, "and no table that the log has made since");
    stage.remove("copy/table-00000002.sl");
    let partly = stage.crash();
    let opened = partly.options().restore_only(["t"]).open("copy").unwrap();
    assert_eq!(contents(&opened), only_t);
    drop(opened);
    assert_eq!(contents(&partly.crash().open_at("copy")), only_t);
}

/// Covers: LG-3. What was only buffered when the backup was opened is in the copy: the switch writes it.
#[test]
fn buffered_commits_are_in_the_copy() {
    let stage = Stage::new();
    let db = logged(&stage).durability(Durability::Buffered).open(HOME).unwrap();
    table(&db, "t");
    for i in 0..10 {
        put(&db, "t", &i.to_string(), "v");
    }
    full(&db, "copy");
    assert_eq!(restored(&stage, "copy"), contents(&db));
}

/// Covers: L3, LG-6. Segments stay while a backup is open, and go with the first checkpoint afterwards.
#[test]
fn an_open_backup_holds_the_log() {
    let stage = Stage::new();
    let db = stage.options().create(true).log(true).log_segment_bytes_unchecked(16 << 10).open(HOME).unwrap();
    let segments = || stage.files(HOME).into_iter().filter(|f| f.starts_with("StrandlineLog.")).count();
    fill(&db, "t", 200, "a");
    let backup = db.backup(BackupOptions::new()).unwrap();
    let before = segments();
    for round in 0..4 {
        fill(&db, "t", 300, &format!("r{round}"));
        checkpoint(&db);
    }
    assert!(segments() >= before + 3, "{}", segments());
    copy(&backup, "copy");
    backup.finish().unwrap();
    fill(&db, "t", 10, "z");
    checkpoint(&db);
    assert!(segments() <= 2, "{}", segments());
    assert_eq!(restored(&stage, "copy"), [("t".to_owned(), filled(200, "a"))]);
}
