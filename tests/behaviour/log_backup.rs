//! Backups of a database with a log: what a copy opens with, what increments from the log carry, and what is refused.

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

/// Covers: LI-1, LI-3, LI-6. Conformance G01.
#[test]
fn a_chain_of_increments_equals_the_source() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 200, "a");
    put(&db, "u", "k", "0");
    checkpoint(&db);
    full(&db, "copy");
    mkdir(&stage, "hand");
    lay(&stage, "copy", "hand");
    for round in 0..5 {
        fill(&db, "t", 200, &format!("r{round}"));
        put(&db, "u", "k", &round.to_string());
        checkpoint(&db);
        fill(&db, "t", 20, &format!("s{round}"));
        let inc = format!("inc{round}");
        increment(&db, &inc);
        sound(&stage, &inc);
        assert!(apply(&stage, &inc, "copy").unwrap().bytes > 0);
        lay(&stage, &inc, "hand");
        sound(&stage, "copy");
        assert!(verify(&stage, "hand").is_sound());
        assert_eq!(restored(&stage, "copy"), contents(&db), "round {round}");
        assert_eq!(restored(&stage, "hand"), contents(&db), "round {round}, by hand");
    }
    full(&db, "fresh");
    assert_eq!(restored(&stage, "fresh"), contents(&db));
    let kept = stage.files(HOME).iter().filter(|f| f.starts_with("StrandlineLog.")).count();
    assert!(kept < 10, "{kept} segments were kept");
}

/// Covers: LI-3, LG-7. Conformance G02.
#[test]
fn without_a_checkpoint_the_same_segments_are_listed_again() {
    let stage = Stage::new();
    let db = create(&stage);
    for round in 0..3 {
        fill(&db, "t", 300, &format!("a{round}"));
    }
    let listed = |backup: &Backup<'_>| backup.plan().manifest().segments().map(|(n, _)| n).collect::<Vec<_>>();
    let mut first = db.backup(BackupOptions::new().log_only()).unwrap();
    let (one, plan) = (listed(&first), first.plan().manifest().clone());
    assert!(one.len() > 1, "{one:?}");
    assert_eq!(first.remove_log().unwrap(), Vec::<u32>::new());
    first.finish().unwrap();
    fill(&db, "t", 10, "b");
    let mut second = db.backup(BackupOptions::new().log_only()).unwrap();
    let two = listed(&second);
    assert_eq!(two[..one.len()], one);
    assert_eq!(two.len(), one.len() + 1);
    assert_eq!(plan.files[..], second.plan().manifest().files[..one.len()], "of the same sizes");
    checkpoint(&db);
    fill(&db, "t", 10, "c");
    assert_eq!(db.remove_log().unwrap(), Vec::<u32>::new(), "the open backup has listed them");
    let gone = second.remove_log().unwrap();
    assert_eq!(gone, two, "all before the checkpoint");
    second.finish().unwrap();
    let third = db.backup(BackupOptions::new().log_only()).unwrap();
    assert!(listed(&third).iter().all(|n| !two.contains(n)), "{:?}", listed(&third));
    third.finish().unwrap();
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

/// Covers: LI-4, LG-11. Conformance G06.
#[test]
fn tables_made_renamed_and_dropped_travel() {
    let stage = Stage::new();
    let db = create(&stage);
    for name in ["stays", "renamed", "dropped", "again"] {
        fill(&db, name, 20, name);
    }
    checkpoint(&db);
    full(&db, "copy");
    fill(&db, "made", 30, "m");
    db.rename_table("renamed", "other").unwrap();
    fill(&db, "other", 5, "o");
    db.drop_table("dropped", false).unwrap();
    fill(&db, "again", 25, "x");
    db.drop_table("again", true).unwrap();
    fill(&db, "again", 3, "y");
    increment(&db, "one");
    db.rename_table("made", "renamed").unwrap();
    put(&db, "renamed", "k", "v");
    checkpoint(&db);
    increment(&db, "two");
    apply(&stage, "one", "copy").unwrap();
    apply(&stage, "two", "copy").unwrap();
    assert_eq!(restored(&stage, "copy"), contents(&db));
    sound(&stage, "copy");
}

/// Covers: LI-2, LI-8, TG-3, LG-7, FB-4. Conformance G10. What is refused leaves no trace: the next backup works.
#[test]
fn an_increment_that_makes_no_sense_is_refused_at_once() {
    let stage = Stage::new();
    let db = stage.options().create(true).open(HOME).unwrap();
    put(&db, "t", "k", "v");
    let log_only = || BackupOptions::new().log_only();
    assert!(text(db.backup(log_only())).contains("no log"));
    assert_eq!(kind(db.backup(log_only())), ErrorKind::InvalidArgument);
    let mut backup = db.backup(BackupOptions::new()).unwrap();
    assert_eq!(kind(backup.catch_up()), ErrorKind::InvalidArgument);
    assert_eq!(backup.remove_log().unwrap(), Vec::<u32>::new());
    backup.finish().unwrap();
    db.close().unwrap();

    let db = stage.options().log(true).open(HOME).unwrap();
    assert_eq!(kind(db.backup(log_only())), ErrorKind::InvalidArgument);
    assert!(text(db.backup(log_only())).contains("removed automatically"));
    let mut backup = db.backup(BackupOptions::new()).unwrap();
    assert_eq!(kind(backup.remove_log()), ErrorKind::InvalidArgument);
    backup.finish().unwrap();
    db.close().unwrap();

    let db = stage.options().keep_log(true).open(HOME).unwrap();
    put(&db, "t", "k", "w");
    named(&db, "n");
    let backup = db.backup(BackupOptions::new()).unwrap();
    let origin = backup.origin();
    assert_eq!(kind(db.backup(log_only())), ErrorKind::Busy);
    backup.finish().unwrap();
    for both in [
        log_only().incremental_from(origin),
        log_only().tables(["t"]),
        log_only().checkpoint("n"),
        log_only().fresh_checkpoint(true),
    ] {
        assert_eq!(kind(db.backup(both)), ErrorKind::InvalidArgument);
    }
    let mut backup = db.backup(log_only()).unwrap();
    assert_eq!(kind(db.backup(BackupOptions::new())), ErrorKind::Busy);
    assert_eq!(kind(backup.catch_up()), ErrorKind::InvalidArgument);
    db.drop_table("t", false).unwrap();
    drop(backup);
    for options in [BackupOptions::new().checkpoint("n"), BackupOptions::new().tables(["u"])] {
        put(&db, "u", "k", "v");
        checkpoint(&db);
        let mut backup = db.backup(options).unwrap();
        assert_eq!(kind(backup.catch_up()), ErrorKind::InvalidArgument);
        backup.finish().unwrap();
    }
    full(&db, "copy");
    drop(db);
    let read_only = stage.options().read_only(true).open(HOME).unwrap();
    assert_eq!(kind(read_only.backup(log_only())), ErrorKind::ReadOnly);
}

/// Covers: LI-8. Conformance I30.
#[test]
fn chains_of_both_kinds_are_refused() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 50, "a");
    checkpoint(&db);
    let backup = db.backup(BackupOptions::new()).unwrap();
    for dir in ["log", "blocks", "both"] {
        copy(&backup, dir);
    }
    let origin = backup.origin();
    backup.finish().unwrap();
    fill(&db, "t", 60, "b");
    increment(&db, "inc-log");
    checkpoint(&db);
    let backup = db.backup(BackupOptions::new().incremental_from(origin)).unwrap();
    copy(&backup, "inc-blocks");
    backup.finish().unwrap();
    fill(&db, "t", 70, "c");
    increment(&db, "inc-log2");
    let before = contents(&db);

    apply(&stage, "inc-log", "log").unwrap();
    apply(&stage, "inc-blocks", "blocks").unwrap();
    sound(&stage, "blocks");
    let (log, blocks) = (stage.contents("log"), stage.contents("blocks"));
    assert_eq!(kind(apply(&stage, "inc-blocks", "log")), ErrorKind::InvalidArgument);
    assert_eq!(kind(apply(&stage, "inc-log2", "blocks")), ErrorKind::InvalidArgument);
    unchanged(&stage, "log", &log);
    unchanged(&stage, "blocks", &blocks);
    lay(&stage, "inc-log", "both");
    assert_eq!(kind(apply(&stage, "inc-blocks", "both")), ErrorKind::InvalidArgument);
    apply(&stage, "inc-log2", "both").unwrap();
    apply(&stage, "inc-log2", "log").unwrap();
    assert_eq!(restored(&stage, "log"), before);
    assert_eq!(restored(&stage, "both"), before);
    sound(&stage, "both");
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

/// Covers: FB-16. Conformance I04: a catch-up belongs to its backup and hinders no later increment.
#[test]
fn a_catch_up_brings_a_copy_up_to_now() {
    let stage = Stage::new();
    let db = stage.options().create(true).log(true).log_segment_bytes_unchecked(16 << 10).open(HOME).unwrap();
    fill(&db, "t", 50, "a");
    let mut backup = db.backup(BackupOptions::new()).unwrap();
    copy(&backup, "copy");
    copy(&backup, "hand");
    let (items, origin) = (backup.items(), backup.origin());
    let mut expected = Vec::new();
    for (round, dir) in ["up0", "up1"].into_iter().enumerate() {
        fill(&db, "t", 60, &format!("c{round}"));
        checkpoint(&db);
        put(&db, "made", &round.to_string(), "v");
        let up = backup.catch_up().unwrap();
        expected = contents(&db);
        put(&db, "made", "later", "v");
        up.copy_to(dir, quietly).unwrap();
        assert_eq!(up.items().last().unwrap().size() as usize, up.manifest().len());
    }
    assert_eq!(backup.items(), items, "the list of the backup itself stays");
    backup.finish().unwrap();
    apply(&stage, "up0", "copy").unwrap();
    apply(&stage, "up1", "copy").unwrap();
    lay(&stage, "up1", "hand");
    sound(&stage, "copy");
    assert_eq!(restored(&stage, "copy"), expected);
    assert_eq!(restored(&stage, "hand"), expected);
    assert_eq!(Manifest::load(&stage.vfs, Path::new("copy")).unwrap().rolled, None);

    db.drop_table("made", true).unwrap();
    checkpoint(&db);
    let backup = db.backup(BackupOptions::new().incremental_from(origin)).unwrap();
    copy(&backup, "inc");
    backup.finish().unwrap();
    for dir in ["copy", "hand"] {
        apply(&stage, "inc", dir).unwrap();
        sound(&stage, dir);
        assert_eq!(restored(&stage, dir), contents(&db), "{dir}");
        assert_eq!(Manifest::load(&stage.vfs, Path::new(dir)).unwrap().rolled, Some(Rolled::Blocks));
    }
}

/// Covers: LI-7. Conformance G04.
#[test]
fn a_copy_that_was_opened_takes_no_increment() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 50, "a");
    full(&db, "copy");
    fill(&db, "t", 60, "b");
    increment(&db, "inc");
    drop(stage.options().read_only(true).open("copy").unwrap());
    let untouched = stage.crash();
    apply(&untouched, "inc", "copy").unwrap();

    let opened = stage.open_at("copy");
    put(&opened, "t", "own", "v");
    opened.close().unwrap();
    let before = stage.contents("copy");
    assert_eq!(kind(apply(&stage, "inc", "copy")), ErrorKind::WrongBase);
    unchanged(&stage, "copy", &before);
    lay(&stage, "inc", "copy");
    let laid = stage.contents("copy");
    for read_only in [true, false] {
        let refused = text(stage.options().read_only(read_only).open("copy"));
        assert!(refused.contains("another history") && refused.contains("Strandline.manifest.log."), "{refused}");
    }
    assert_eq!(kind(stage.options().open("copy")), ErrorKind::WrongBase);
    unchanged(&stage, "copy", &laid);
    for name in stage.files("copy").into_iter().filter(|name| !before.contains_key(name)) {
        stage.remove(&format!("copy/{name}"));
    }
    for (name, bytes) in &before {
        stage.write(&format!("copy/{name}"), bytes);
    }
    assert_eq!(get(&stage.open_at("copy"), "t", "own").unwrap(), "v");
}

/// Covers: LI-6. A chain goes on over a restart and over a crash, not over a time without a log.
#[test]
fn a_chain_goes_on_while_the_log_does() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 50, "a");
    full(&db, "copy");
    fill(&db, "t", 60, "b");
    db.close().unwrap();
    let db = stage.open();
    fill(&db, "t", 70, "c");
    db.remove_log().unwrap();
    increment(&db, "closed");
    checkpoint(&db);
    increment(&db, "idle");
    db.close().unwrap();
    let db = stage.open();
    db.remove_log().unwrap();
    fill(&db, "t", 80, "d");
    let after = stage.crash();
    drop(db);
    let db = after.open();
    fill(&db, "t", 90, "e");
    increment(&db, "crashed");
    for inc in ["closed", "idle", "crashed"] {
        apply(&after, inc, "copy").unwrap();
    }
    sound(&after, "copy");
    assert_eq!(restored(&after, "copy"), contents(&db));
    db.close().unwrap();

    let db = after.options().log(false).open(HOME).unwrap();
    fill(&db, "t", 5, "unlogged");
    db.close().unwrap();
    let db = after.options().log(true).keep_log(true).open(HOME).unwrap();
    fill(&db, "t", 6, "logged");
    increment(&db, "over");
    let refused = text(apply(&after, "over", "copy"));
    assert!(refused.contains("lineage"), "{refused}");
    full(&db, "new");
    fill(&db, "t", 7, "more");
    increment(&db, "more");
    apply(&after, "more", "new").unwrap();
    assert_eq!(restored(&after, "new"), contents(&db));
}

/// Covers: LI-5 in spirit: what the log does not hold is never left out in silence.
#[test]
fn a_table_taken_into_the_log_needs_a_new_full_backup() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 10, "a");
    db.create_table("late", TableOptions::new().log(false)).unwrap();
    fill(&db, "late", 10, "a");
    checkpoint(&db);
    full(&db, "copy");
    fill(&db, "late", 20, "b");
    fill(&db, "t", 20, "b");
    increment(&db, "before");
    db.set_table_log("late", true).unwrap();
    fill(&db, "late", 30, "c");
    increment(&db, "after");
    apply(&stage, "before", "copy").unwrap();
    let refused = text(apply(&stage, "after", "copy"));
    assert!(refused.contains("taken into the log") && refused.contains("full backup"), "{refused}");
    assert_eq!(kind(apply(&stage, "after", "copy")), ErrorKind::WrongBase);
    full(&db, "new");
    fill(&db, "late", 40, "d");
    increment(&db, "later");
    apply(&stage, "later", "new").unwrap();
    assert_eq!(restored(&stage, "new"), contents(&db));
}

/// Covers: LI-6.
#[test]
fn a_gap_is_refused_by_name() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 50, "a");
    full(&db, "copy");
    mkdir(&stage, "hand");
    lay(&stage, "copy", "hand");
    for (round, inc) in ["one", "two"].into_iter().enumerate() {
        fill(&db, "t", 300, &format!("r{round}"));
        checkpoint(&db);
        increment(&db, inc);
    }
    fill(&db, "t", 10, "z");
    increment(&db, "three");
    let before = stage.contents("copy");
    let refused = text(apply(&stage, "three", "copy"));
    assert!(refused.contains("ends before segment"), "{refused}");
    assert_eq!(kind(apply(&stage, "three", "copy")), ErrorKind::WrongBase);
    unchanged(&stage, "copy", &before);
    lay(&stage, "three", "hand");
    let laid = stage.contents("hand");
    assert_eq!(kind(stage.options().open("hand")), ErrorKind::WrongBase);
    unchanged(&stage, "hand", &laid);
    lay(&stage, "two", "hand");
    lay(&stage, "one", "hand");
    assert_eq!(restored(&stage, "hand"), contents(&db));
    for inc in ["one", "two", "three", "one"] {
        apply(&stage, inc, "copy").unwrap();
    }
    assert_eq!(restored(&stage, "copy"), contents(&db));
}

/// Covers: LI-9. A failed increment leaves the copy as good as it was; and RS-2: killed anywhere, the call is repeated.
#[test]
fn an_apply_that_dies_at_any_call_is_repeated() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 50, "a");
    full(&db, "copy");
    let base = contents(&db);
    fill(&db, "t", 400, "b");
    increment(&db, "inc");
    let expected = contents(&db);
    let changes =
        [Call::Create, Call::Write, Call::SetLen, Call::SyncAll, Call::SyncDir, Call::Rename, Call::RemoveFile];
    for nth in 0.. {
        let run = stage.crash();
        let faulty = FaultVfs::new(Arc::new(run.vfs.clone()));
        faulty.inject(Fault::on_any(changes).after(nth).for_ever().error(std::io::ErrorKind::Other));
        let done = backup::apply(&faulty, Path::new("inc"), Path::new("copy"), &mut quietly);
        let seen = contents(&run.crash().options().read_only(true).open("copy").unwrap());
        assert!(seen == base || seen == expected, "call {nth}");
        apply(&run, "inc", "copy").unwrap();
        sound(&run, "copy");
        assert_eq!(contents(&run.options().read_only(true).open("copy").unwrap()), expected, "call {nth}");
        if done.is_ok() {
            assert!(nth > 5);
            break;
        }
    }
}

/// A full device at any byte: nothing that could be taken for a copy stays, and the next attempt works.
#[test]
fn a_full_destination_leaves_nothing() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 50, "a");
    full(&db, "base");
    fill(&db, "t", 200, "b");
    for log_only in [false, true] {
        let mut options = BackupOptions::new();
        if log_only {
            options = options.log_only();
        }
        let backup = db.backup(options).unwrap();
        let bytes = backup.plan().bytes() + 8_000;
        for space in (0..bytes).step_by(1_777) {
            let target = Stage::new();
            let device = FaultVfs::new(Arc::new(target.vfs.clone()));
            device.limit_space(Some(space));
            let copied = backup.copy_to_vfs(&device, Path::new("copy"), Default::default(), quietly);
            match copied {
                Ok(_) => assert!(space > bytes - 8_000),
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Io);
                    assert!(target.vfs.metadata(Path::new("copy")).unwrap().is_none(), "at {space}");
                }
            }
            device.limit_space(None);
            if target.vfs.metadata(Path::new("copy")).unwrap().is_none() {
                backup.copy_to_vfs(&device, Path::new("copy"), Default::default(), quietly).unwrap();
            }
            sound(&target, "copy");
        }
        if log_only {
            copy(&backup, "inc");
        }
        backup.finish().unwrap();
    }
    // The copy's own device fills up while an increment is applied.
    let need = Manifest::load_any(&stage.vfs, Path::new("inc")).unwrap().bytes() + 8_000;
    for space in (0..need).step_by(1_777) {
        let run = stage.crash();
        let device = FaultVfs::new(Arc::new(run.vfs.clone()));
        device.limit_space(Some(space));
        let done = backup::apply(&device, Path::new("inc"), Path::new("base"), &mut quietly);
        assert!(verify(&run, "base").is_sound(), "at {space}");
        assert!(done.is_ok() || done.unwrap_err().kind() == ErrorKind::Io);
        apply(&run, "inc", "base").unwrap();
        sound(&run, "base");
        assert_eq!(contents(&run.open_at("base")), contents(&db));
    }
}

/// What can happen to a segment of a copy.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Harm {
    Missing,
    Cut,
    Empty,
    Flipped(u64),
    Zeroed,
    OtherNumber,
    OtherHistory,
    Grown,
}

/// A copy with three segments at least, and another of another history with the same numbers.
fn with_segments() -> (Stage, Vec<String>, Vec<(String, Rows)>) {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 50, "a");
    checkpoint(&db);
    for round in 0..3 {
        fill(&db, "t", 300, &format!("r{round}"));
    }
    full(&db, "copy");
    let other = logged(&stage).open("other").unwrap();
    for round in 0..9 {
        fill(&other, "t", 300, &format!("r{round}"));
    }
    let manifest = Manifest::load(&stage.vfs, Path::new("copy")).unwrap();
    let names: Vec<String> = manifest.segments().map(|(_, file)| file.name.clone()).collect();
    assert!(names.len() >= 3, "{names:?}");
    let expected = contents(&db);
    drop((db, other));
    (stage, names, expected)
}

/// Where replay begins in the first segment.
fn position(stage: &Stage, dir: &str) -> usize {
    let manifest = Manifest::load(&stage.vfs, Path::new(dir)).unwrap();
    manifest.log().unwrap().unwrap().position.lsn.offset as usize
}

fn harm(stage: &Stage, dir: &str, names: &[String], at: usize, harm: Harm) {
    let path = format!("{dir}/{}", names[at]);
    let mut bytes = stage.read(&path);
    match harm {
        Harm::Missing => return stage.remove(&path),
        Harm::Cut => bytes.truncate(bytes.len() - 512),
        Harm::Empty => bytes.clear(),
        Harm::Flipped(place) => {
            // What is before the position of the checkpoint does not matter.
            let place = if place > 512 && at == 0 { place as usize + position(stage, dir) } else { place as usize };
            bytes[place] ^= 0x10;
        }
        Harm::Zeroed => bytes.fill(0),
        Harm::OtherNumber => bytes = stage.read(&format!("{dir}/{}", names[(at + 1) % names.len()])),
        Harm::OtherHistory => bytes = stage.read(&format!("other/{}", names[at])),
        Harm::Grown => bytes.extend([0; 5_000]),
    }
    stage.write(&path, &bytes);
}

/// Covers: K6, RS-5, LG-10. No damage to a listed segment passes: the open refuses it, names the file, and writes nothing.
#[test]
fn a_damaged_segment_of_a_copy_is_refused_by_name() {
    let (stage, names, expected) = with_segments();
    let harms = [
        Harm::Missing,
        Harm::Cut,
        Harm::Empty,
        Harm::Flipped(5),
        Harm::Flipped(513),
        Harm::Flipped(700),
        Harm::Flipped(2_000),
        Harm::Zeroed,
        Harm::OtherNumber,
        Harm::OtherHistory,
        Harm::Grown,
    ];
    for at in [0, 1, names.len() - 1] {
        for what in harms {
            let run = stage.crash();
            harm(&run, "copy", &names, at, what);
            let before = run.contents("copy");
            let found = verify(&run, "copy");
            if what == Harm::Grown {
                assert!(found.is_sound());
                assert_eq!(restored(&run, "copy"), expected, "a longer file does no harm");
                continue;
            }
            assert!(!found.is_sound(), "{what:?} of {}", names[at]);
            for read_only in [true, false] {
                let opened = run.options().read_only(read_only).open("copy").map(drop);
                let e = opened.expect_err(&format!("{what:?} of {}", names[at]));
                let told = format!("{what:?} of {}: {e}", names[at]);
                assert!(matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::WrongBase), "{told}");
                assert!(e.to_string().contains("StrandlineLog."), "{told}");
            }
            let mut now = run.contents("copy");
            now.remove("Strandline.lock");
            assert!(now == before, "{what:?}: something was written");
            let whole = RestoreOptions::default();
            let vfs: Arc<dyn Vfs> = Arc::new(run.vfs.clone());
            let to = Path::new("there");
            assert!(backup::restore(&vfs, Path::new("copy"), to, &whole, &mut quietly).is_err(), "{what:?}");
            assert!(run.vfs.metadata(to).unwrap().is_none());
        }
    }
}

/// Covers: RS-5: on request a short log ends at its last whole record.
#[test]
fn a_damaged_log_is_tolerated_on_request() {
    let (stage, names, expected) = with_segments();
    for what in [Harm::Missing, Harm::Cut, Harm::Flipped(700)] {
        let run = stage.crash();
        harm(&run, "copy", &names, names.len() - 1, what);
        let db = run.options().tolerate_damaged_tables(true).open("copy").unwrap();
        let seen = rows(&db, "t");
        assert!(seen.len() >= 50 && seen.keys().all(|key| expected[0].1.contains_key(key)), "{what:?}");
        put(&db, "t", "k", "v");
        drop(db);
        assert_eq!(get(&run.crash().open_at("copy"), "t", "k").unwrap(), "v");
    }
}

/// Covers: RS-6. Conformance G11.
#[test]
fn strange_segments_are_ignored_and_reported() {
    let (stage, names, expected) = with_segments();
    let manifest = Manifest::load(&stage.vfs, Path::new("copy")).unwrap();
    let last = manifest.log_end.unwrap().segment;
    let stranger = format!("StrandlineLog.{:010}", last + 1);
    for bytes in [stage.read(&format!("copy/{}", names[0])), stage.read(&format!("other/{}", names[0])), vec![7; 9_999]]
    {
        let run = stage.crash();
        run.write(&format!("copy/{stranger}"), &bytes);
        assert_eq!(verify(&run, "copy").strangers, [stranger.as_str()]);
        assert_eq!(restored(&run, "copy"), expected);
        let db = run.open_at("copy");
        assert_eq!(db.recovery().strangers, [stranger.as_str()]);
        put(&db, "t", "k", "v");
        drop(db);
        assert_eq!(get(&run.crash().open_at("copy"), "t", "k").unwrap(), "v");
    }
}

/// Covers: RS-3, LG-9. The restore of a copy with a log dies at any call, and the next open finishes it.
#[test]
fn a_restore_that_dies_at_any_call_is_finished_by_the_next_open() {
    let stage = Stage::new();
    let db = logged(&stage).log_dir("wal").open(HOME).unwrap();
    fill(&db, "t", 20, "a");
    named(&db, "n");
    put(&db, "made", "k", "v");
    full(&db, "copy");
    for (round, inc) in ["one", "two", "three"].into_iter().enumerate() {
        fill(&db, "t", 30 + round, inc);
        put(&db, "late", inc, "v");
        checkpoint(&db);
        increment(&db, inc);
        lay(&stage, inc, "copy");
    }
    let expected = contents(&db);
    drop(db);
    let changes = [
        Call::Create,
        Call::Write,
        Call::SetLen,
        Call::Allocate,
        Call::SyncData,
        Call::SyncAll,
        Call::SyncDir,
        Call::Rename,
        Call::RemoveFile,
        Call::CreateDir,
    ];
    for nth in 0.. {
        let run = stage.crash();
        let faulty = FaultVfs::new(Arc::new(run.vfs.clone()));
        faulty.inject(Fault::on_any(changes).after(nth).for_ever().error(std::io::ErrorKind::Other));
        let done = run.options().vfs(Arc::new(faulty)).open("copy").map(std::mem::forget);
        let after = run.crash();
        let db = after.options().open("copy").unwrap_or_else(|e| panic!("call {nth}: {e}"));
        assert_eq!(contents(&db), expected, "call {nth}");
        assert_eq!(names(&db), ["n"], "call {nth}");
        put(&db, "t", "k", "v");
        drop(db);
        let again = after.crash();
        let db = again.open_at("copy");
        assert_eq!(get(&db, "t", "k").unwrap(), "v", "call {nth}");
        drop(db);
        let left = again.files("copy").into_iter().filter(|f| f.contains("manifest") || f.contains("Log."));
        assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new(), "call {nth}");
        if done.is_ok() {
            assert!(nth > 10);
            break;
        }
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

/// Conformance G08: a segment that was copied while it grew, and again when it was closed.
#[test]
fn a_segment_copied_too_early_is_copied_again() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 30, "a");
    full(&db, "copy");
    fill(&db, "t", 31, "b");
    let growing = stage.files(HOME).into_iter().rfind(|f| f.starts_with("StrandlineLog.")).unwrap();
    stage.write(&format!("copy/{growing}"), &stage.read(&format!("{HOME}/{growing}")));
    fill(&db, "t", 32, "c");
    assert_eq!(restored(&stage, "copy"), [("t".to_owned(), filled(30, "a"))], "it is a stranger yet");
    increment(&db, "inc");
    apply(&stage, "inc", "copy").unwrap();
    sound(&stage, "copy");
    assert_eq!(restored(&stage, "copy"), contents(&db));
}

/// The manifest of an increment that was laid by hand and is damaged: refused by name, and without it the copy is what it was.
#[test]
fn a_damaged_manifest_of_an_increment_is_refused_by_name() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 30, "a");
    let base = contents(&db);
    full(&db, "copy");
    fill(&db, "t", 31, "b");
    increment(&db, "inc");
    lay(&stage, "inc", "copy");
    let name = stage.files("inc").into_iter().find(|f| f.contains("manifest")).unwrap();
    let path = format!("copy/{name}");
    let whole = stage.read(&path);
    for cut in [0, 10, whole.len() - 1] {
        stage.write(&path, &whole[..cut]);
        let before = stage.contents("copy");
        let refused = text(stage.options().open("copy"));
        assert!(refused.contains(&name) && refused.contains("incomplete"), "{refused}");
        unchanged(&stage, "copy", &before);
        assert!(apply(&stage, "inc", "copy").is_err());
    }
    stage.remove(&path);
    assert_eq!(restored(&stage, "copy"), base);
    stage.write(&path, &whole);
    assert_eq!(restored(&stage, "copy"), contents(&db));
    let manifest = Manifest::load_any(&stage.vfs, Path::new("inc")).unwrap();
    assert!(matches!(manifest.kind, CopyKind::Log { .. }));
    assert_eq!(manifest.file_name(), name);
}

/// Increments while commits go on in other threads: each copy is a prefix of what was committed.
#[test]
fn increments_of_a_busy_database_are_prefixes() {
    let stage = Stage::new();
    let db = logged(&stage).cache_bytes(32 << 20).open(HOME).unwrap();
    table(&db, "t");
    back_up(&db, "copy");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let t = db.table("t").unwrap();
            let mut i = 0_u32;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) && i < 20_000 {
                let mut tx = db.begin().unwrap();
                tx.put(&t, i.to_be_bytes(), [7; 100]).unwrap();
                tx.commit().unwrap();
                i += 1;
                if i.is_multiple_of(500) {
                    checkpoint(&db);
                }
            }
        });
        let mut before = 0;
        for round in 0..6 {
            let committed = rows(&db, "t").len();
            let inc = format!("inc{round}");
            increment(&db, &inc);
            apply(&stage, &inc, "copy").unwrap();
            sound(&stage, "copy");
            let copied = stage.crash();
            let seen = rows(&copied.options().read_only(true).open("copy").unwrap(), "t");
            assert!(seen.len() >= committed && seen.len() >= before);
            assert!(seen.keys().zip(0_u32..).all(|(key, i)| *key == i.to_be_bytes()), "no gap");
            before = seen.len();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    drop(stage.vfs.open(Path::new("copy/Strandline.manifest"), OpenOptions::read()).unwrap());
}
