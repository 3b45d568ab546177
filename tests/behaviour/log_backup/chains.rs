//! When increments from the log go on, and when the backup itself says that they cannot.

use strandline_vfs::fault::Fault;

use super::*;

fn log_only(db: &Database) -> Result<Backup<'_>> {
    db.backup(BackupOptions::new().log_only())
}

/// Dies with a full backup open, after work that falls back and work that the log alone holds, and is opened again.
fn fall(stage: Stage, db: Database, round: usize) -> (Stage, Database) {
    let backup = db.backup(BackupOptions::new()).unwrap();
    fill(&db, "t", 40 + round, &format!("open{round}"));
    put(&db, &format!("made{round}"), "k", "v");
    named(&db, &format!("lost{round}"));
    fill(&db, "t", 20, &format!("late{round}"));
    let after = stage.crash();
    drop(backup);
    drop(db);
    let db = after.open();
    assert!(matches!(db.recovery().kind, RecoveryKind::FellBack { .. }));
    (after, db)
}

/// Covers: FB-13, LI-1, LI-4. What a crash with a backup open gives up are checkpoints, and no record of the log: the chain
/// goes on, by call and by hand, however often that happens.
#[test]
fn a_crash_with_a_backup_open_breaks_no_chain() {
    let mut stage = Stage::new();
    let mut db = create(&stage);
    fill(&db, "t", 50, "a");
    checkpoint(&db);
    full(&db, "copy");
    mkdir(&stage, "hand");
    lay(&stage, "copy", "hand");
    for round in 0..3 {
        fill(&db, "t", 30, &format!("before{round}"));
        let lineage = db.lineage();
        let kept = stage.files(HOME).into_iter().filter(|f| f.starts_with("StrandlineLog.")).count();
        (stage, db) = fall(stage, db, round);
        assert_ne!(db.lineage(), lineage, "checkpoints are gone, and increments by blocks know");
        assert!(stage.files(HOME).iter().filter(|f| f.starts_with("StrandlineLog.")).count() > kept);
        fill(&db, "t", 10, &format!("after{round}"));
        let inc = format!("inc{round}");
        increment(&db, &inc);
        sound(&stage, &inc);
        apply(&stage, &inc, "copy").unwrap();
        lay(&stage, &inc, "hand");
        sound(&stage, "copy");
        assert_eq!(restored(&stage, "copy"), contents(&db), "round {round}");
        assert_eq!(restored(&stage, "hand"), contents(&db), "round {round}, by hand");
    }
    db.close().unwrap();
    let db = stage.open();
    fill(&db, "t", 5, "closed");
    increment(&db, "last");
    apply(&stage, "last", "copy").unwrap();
    assert_eq!(restored(&stage, "copy"), contents(&db));
}

/// Covers: FB-13, LI-1. The fall back dies itself, at any call.
#[test]
fn a_fall_back_that_dies_at_any_call_breaks_no_chain() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 50, "a");
    full(&db, "copy");
    let backup = db.backup(BackupOptions::new()).unwrap();
    fill(&db, "t", 30, "b");
    checkpoint(&db);
    let t = db.table("t").unwrap();
    let mut tx = db.begin().unwrap();
    tx.put(&t, "written", "x").unwrap();
    tx.commit_with(Durability::Write).unwrap();
    let crashed = stage.crash();
    drop(backup);
    for n in 0.. {
        let stage = crashed.crash();
        let vfs = FaultVfs::new(Arc::new(stage.vfs.clone()));
        vfs.inject(Fault::on_any(Call::ALL).after(n).error(std::io::ErrorKind::Other).for_ever());
        let died = stage.options().vfs(Arc::new(vfs.clone())).open(HOME).is_err();
        let db = stage.open();
        fill(&db, "t", 10, "after");
        increment(&db, "inc");
        apply(&stage, "inc", "copy").unwrap_or_else(|e| panic!("call {n}: {e}"));
        assert_eq!(restored(&stage, "copy"), contents(&db), "call {n}");
        if !died {
            return;
        }
    }
}

/// Covers: LI-1, LI-5, LI-6, LG-7. An increment that could join no copy is refused before it is made, and nothing stays held.
#[test]
fn an_increment_that_can_join_nothing_is_refused_when_it_is_opened() {
    let stage = Stage::new();
    let refused = |db: &Database, why: &str| {
        let before = stage.contents(HOME);
        let said = text(log_only(db));
        assert!(said.contains("full backup needed") && said.contains(why), "{said}");
        assert_eq!(kind(log_only(db)), ErrorKind::WrongBase);
        unchanged(&stage, HOME, &before);
    };
    let again = |db: &Database, dir: &str| {
        full(db, &format!("{dir}-full"));
        fill(db, "t", 10, dir);
        increment(db, &format!("{dir}-inc"));
        apply(&stage, &format!("{dir}-inc"), &format!("{dir}-full")).unwrap();
        assert_eq!(restored(&stage, &format!("{dir}-full")), contents(db), "{dir}");
    };
    let db = create(&stage);
    fill(&db, "t", 50, "a");
    refused(&db, "none was opened");
    for options in [BackupOptions::new().tables(["t"]), BackupOptions::new().checkpoint("c")] {
        named(&db, "c");
        db.backup(options).unwrap().finish().unwrap();
        refused(&db, "none was opened");
    }
    again(&db, "first");
    let origin = db.backup(BackupOptions::new()).unwrap().origin();
    db.close().unwrap();

    let db = stage.options().keep_log(false).open(HOME).unwrap();
    assert_eq!(kind(log_only(&db)), ErrorKind::InvalidArgument);
    db.close().unwrap();
    let db = stage.options().keep_log(true).open(HOME).unwrap();
    refused(&db, "none was opened");
    db.backup(BackupOptions::new().incremental_from(origin)).unwrap().finish().unwrap();
    refused(&db, "none was opened");
    again(&db, "kept");
    db.close().unwrap();

    stage.options().log(false).open(HOME).unwrap().close().unwrap();
    let db = stage.options().log(true).keep_log(true).open(HOME).unwrap();
    refused(&db, "none was opened");
    again(&db, "on");
    db.create_table("late", TableOptions::new().log(false)).unwrap();
    db.set_table_log("late", true).unwrap();
    refused(&db, "table `late` was taken into the log");
    again(&db, "taken");
    db.close().unwrap();
    let db = stage.open();
    increment(&db, "reopened");
    drop(db);
}

/// Covers: LI-6, LG-10. A salvage gives records up: what was copied before does not join what comes after.
#[test]
fn after_a_salvage_a_full_backup_is_needed() {
    let stage = Stage::new();
    let db = create(&stage);
    for round in 0..20 {
        fill(&db, "t", 20, &format!("a{round}"));
    }
    full(&db, "copy");
    fill(&db, "t", 20, "b");
    fill(&db, "t", 20, "c");
    let crashed = stage.crash();
    let newest = crashed.files(HOME).into_iter().rfind(|f| f.starts_with("StrandlineLog.")).unwrap();
    let mut bytes = crashed.read(&format!("{HOME}/{newest}"));
    bytes[600] ^= 1;
    crashed.write(&format!("{HOME}/{newest}"), &bytes);
    assert_eq!(kind(crashed.options().open(HOME)), ErrorKind::Corrupt);
    let db = crashed.options().salvage(true).open(HOME).unwrap();
    let said = text(log_only(&db));
    assert!(said.contains("full backup needed: the history forked after checkpoint"), "{said}");
    full(&db, "new");
    fill(&db, "t", 5, "d");
    increment(&db, "inc");
    assert_eq!(kind(apply(&crashed, "inc", "copy")), ErrorKind::WrongBase);
    apply(&crashed, "inc", "new").unwrap();
    assert_eq!(restored(&crashed, "new"), contents(&db));
}

/// Covers: LI-6, FB-6. Two databases that were one when somebody copied the files: their segments have the same lineage,
/// numbers and ends, and still those of the one do not join those of the other.
#[test]
fn twins_do_not_take_each_others_increments() {
    for open in [false, true] {
        let stage = Stage::new();
        let db = create(&stage);
        fill(&db, "t", 50, "a");
        full(&db, "copy");
        let backup = open.then(|| db.backup(BackupOptions::new()).unwrap());
        mkdir(&stage, "twin");
        lay(&stage, HOME, "twin");
        drop(backup);
        drop(db);
        stage.remove("twin/Strandline.lock");
        for (home, value) in [(HOME, "one"), ("twin", "two")] {
            for round in ["x", "y"] {
                let db = stage.open_at(home);
                put(&db, "t", "k", value);
                increment(&db, &format!("{value}-{round}"));
                db.close().unwrap();
            }
        }
        mkdir(&stage, "hand");
        lay(&stage, "copy", "hand");
        apply(&stage, "one-x", "copy").unwrap();
        let before = stage.contents("copy");
        assert_eq!(kind(apply(&stage, "two-y", "copy")), ErrorKind::WrongBase, "open: {open}");
        unchanged(&stage, "copy", &before);
        for inc in ["one-x", "two-y", "one-x"] {
            lay(&stage, inc, "hand");
        }
        assert!(
            matches!(kind(stage.options().open("hand")), ErrorKind::WrongBase | ErrorKind::Corrupt),
            "open: {open}"
        );
        apply(&stage, "one-y", "copy").unwrap();
        assert_eq!(get(&stage.open_at("copy"), "t", "k").unwrap(), "one");
    }
}
