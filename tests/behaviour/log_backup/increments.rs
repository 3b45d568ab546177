//! Increments from the log: what they carry, and which copies they fit.

use super::*;

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
    full(&db, "copy");
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
    full(&db, "new");
    fill(&db, "t", 7, "more");
    increment(&db, "more");
    let refused = text(apply(&after, "more", "copy"));
    assert!(refused.contains("lineage"), "{refused}");
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
    full(&db, "new");
    increment(&db, "after");
    apply(&stage, "before", "copy").unwrap();
    let refused = text(apply(&stage, "after", "copy"));
    assert!(refused.contains("taken into the log") && refused.contains("full backup"), "{refused}");
    assert_eq!(kind(apply(&stage, "after", "copy")), ErrorKind::WrongBase);
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

/// Covers: K8, FB-6. Conformance B10, B21: backups of both kinds while tables come and go and transactions span two tables.
#[test]
fn every_copy_of_a_busy_database_is_one_state() {
    let stage = Stage::new();
    let db = logged(&stage).cache_bytes(32 << 20).open(HOME).unwrap();
    for name in ["a", "b"] {
        table(&db, name);
    }
    checkpoint(&db);
    full(&db, "base");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let go_on = |n: u32, most: u32| n < most && !stop.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (a, b) = (db.table("a").unwrap(), db.table("b").unwrap());
            let mut n = 0_u32;
            while go_on(n, 20_000) {
                n += 1;
                let mut tx = db.begin().unwrap();
                tx.put(&a, "n", n.to_be_bytes()).unwrap();
                tx.put(&b, "n", n.to_be_bytes()).unwrap();
                tx.put(&b, n.to_be_bytes(), [1; 50]).unwrap();
                tx.commit().unwrap();
            }
        });
        scope.spawn(|| {
            let mut n = 0_u32;
            while go_on(n, 500) {
                n += 1;
                let name = format!("x{}", n % 3);
                put(&db, &name, "k", &n.to_string());
                if n.is_multiple_of(7) {
                    checkpoint(&db);
                }
                // Refused while a backup has it.
                let _ = db.drop_table(&name, true);
            }
        });
        let mut last = 0;
        for round in 0..8 {
            let dir = if round % 2 == 0 { format!("full{round}") } else { "base".to_owned() };
            if round % 2 == 0 {
                full(&db, &dir);
            } else {
                increment(&db, &format!("inc{round}"));
                apply(&stage, &format!("inc{round}"), "base").unwrap();
            }
            sound(&stage, &dir);
            let copied = stage.options().read_only(true).open(&dir).unwrap();
            let (a, mut b) = (rows(&copied, "a"), rows(&copied, "b"));
            let n = b.remove(&b"n"[..]).map_or(0, |n| u32::from_be_bytes(n.try_into().unwrap()));
            assert_eq!(a.get(&b"n"[..]).map_or(0, |n| u32::from_be_bytes(n.clone().try_into().unwrap())), n);
            assert_eq!(b.len(), n as usize);
            assert!(n >= last, "a later copy is of a later state");
            last = n;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Covers: LI-4, LI-5 in spirit. A change of the set of tables that is durable, and that the log does not tell of because the
/// database died before it could, is never left out in silence.
#[test]
fn a_change_that_the_log_never_told_needs_a_new_full_backup() {
    let stage = Stage::new();
    let vfs = FaultVfs::new(Arc::new(stage.vfs.clone()));
    let options = || stage.options().vfs(Arc::new(vfs.clone())).keep_log(true).log_segment_bytes_unchecked(16 << 10);
    let db = options().create(true).log(true).open(HOME).unwrap();
    fill(&db, "t", 10, "a");
    full(&db, "copy");
    put(&db, "t", "k", "in the segment that takes the record");
    vfs.inject(Fault::on(Call::Write).in_path("StrandlineLog").error(std::io::ErrorKind::Other));
    assert_eq!(kind(db.rename_table("t", "renamed")), ErrorKind::Io);
    drop(db);
    vfs.heal();
    let db = options().open(HOME).unwrap();
    assert_eq!(table_names(&db), ["renamed"], "the change is durable");
    fill(&db, "renamed", 20, "b");
    let refused = text(db.backup(BackupOptions::new().log_only()));
    assert!(refused.contains("full backup needed: the history forked after checkpoint"), "{refused}");
    full(&db, "new");
    increment(&db, "after");
    assert_eq!(kind(apply(&stage, "after", "copy")), ErrorKind::WrongBase);
    drop(db);
    let db = options().open(HOME).unwrap();
    fill(&db, "renamed", 30, "c");
    increment(&db, "later");
    apply(&stage, "later", "new").unwrap();
    assert_eq!(restored(&stage, "new"), contents(&db));
}

/// Covers: LI-1. A log that begins on top of a change of the set of tables rolls copies forward, however often the database
/// is opened meanwhile.
#[test]
fn a_log_that_begins_after_a_change_is_whole() {
    let stage = Stage::new();
    for name in ["first", "t"] {
        let db = stage.options().create(true).open(HOME).unwrap();
        db.create_table(name, TableOptions::new()).unwrap();
        db.close().unwrap();
    }
    let db = create(&stage);
    full(&db, "copy");
    drop(db);
    let db = create(&stage);
    fill(&db, "t", 20, "b");
    increment(&db, "after");
    apply(&stage, "after", "copy").unwrap();
    assert_eq!(restored(&stage, "copy"), contents(&db));
}
