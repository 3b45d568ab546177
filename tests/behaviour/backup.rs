//! Full and targeted backups: FB and TG. What a copy is worth when it is opened is in `restore`.

use std::ops::ControlFlow;

use strandline::{BackupOptions, CheckpointOptions, CheckpointRef, Contract, ErrorKind, RecoveryKind};

use crate::stage::*;

/// Covers: FB-5, B01. An empty database can be backed up; the list ends with the manifest.
#[test]
fn an_empty_database() {
    let stage = Stage::new();
    let db = stage.create();
    let backup = db.backup(BackupOptions::new()).unwrap();
    assert_eq!(backup.items().last().unwrap().name(), "Strandline.manifest");
    copy(&backup, "copy");
    backup.finish().unwrap();
    let restored = stage.open_at("copy");
    assert!(restored.tables().unwrap().is_empty());
    put(&restored, "t", "k", "v");
}

/// Covers: FB-4, B02.
#[test]
fn one_backup_at_a_time() {
    let db = Stage::new().create();
    put(&db, "t", "k", "v");
    let first = db.backup(BackupOptions::new()).unwrap();
    assert_eq!(kind(db.backup(BackupOptions::new())), ErrorKind::Busy);
    std::thread::scope(|s| {
        s.spawn(|| assert_eq!(kind(db.backup(BackupOptions::new())), ErrorKind::Busy));
    });
    first.finish().unwrap();
    // A refused or failed open leaves nothing held.
    assert_eq!(kind(db.backup(BackupOptions::new().checkpoint("none"))), ErrorKind::NotFound);
    assert_eq!(kind(db.backup(BackupOptions::new().tables(["none"]))), ErrorKind::NotFound);
    assert_eq!(
        kind(db.backup(BackupOptions::new().checkpoint("x").fresh_checkpoint(true))),
        ErrorKind::InvalidArgument
    );
    drop(db.backup(BackupOptions::new()).unwrap());
    db.backup(BackupOptions::new()).unwrap().finish().unwrap();
}

/// Covers: FB-2. Opening takes no checkpoint unless asked.
#[test]
fn a_backup_is_not_now() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 100, "a");
    checkpoint(&db);
    fill(&db, "t", 100, "b");
    let backup = db.backup(BackupOptions::new()).unwrap();
    copy(&backup, "old");
    drop(backup);
    let backup = db.backup(BackupOptions::new().fresh_checkpoint(true)).unwrap();
    copy(&backup, "new");
    drop(backup);
    assert_eq!(rows(&stage.open_at("old"), "t"), filled(100, "a"));
    assert_eq!(rows(&stage.open_at("new"), "t"), filled(100, "b"));
}

/// Covers: FB-3, RS-4. An older checkpoint, and the named ones before it, and none after.
#[test]
fn a_backup_of_an_older_checkpoint() {
    let stage = Stage::new();
    let db = stage.create();
    for n in ["May", "June", "July"] {
        fill(&db, "t", 200, n);
        fill(&db, n, 20, n);
        named(&db, n);
    }
    fill(&db, "t", 200, "now");
    checkpoint(&db);
    let backup = db.backup(BackupOptions::new().checkpoint("June")).unwrap();
    copy(&backup, "copy");
    backup.finish().unwrap();
    let restored = stage.open_at("copy");
    assert_eq!(rows(&restored, "t"), filled(200, "June"));
    assert_eq!(table_names(&restored), ["June", "May", "t"]);
    assert_eq!(names(&restored), ["May", "June"]);
    assert_eq!(named_rows(&restored, "May", "t"), filled(200, "May"));
    fill(&restored, "t", 200, "on");
    checkpoint(&restored);
    assert_eq!(named_rows(&restored, "May", "t"), filled(200, "May"));
}

/// Covers: FB-5, FB-7, FB-8. The list is the same each time; bytes up to the size suffice; any order will do.
#[test]
fn items_are_copied_by_hand() {
    let stage = Stage::new();
    let db = stage.create();
    for i in 0..4 {
        fill(&db, &format!("t{i}"), 400, "a");
    }
    table(&db, "empty");
    checkpoint(&db);
    let backup = db.backup(BackupOptions::new()).unwrap();
    let items = backup.items();
    for round in 0..3 {
        for i in 0..4 {
            fill(&db, &format!("t{i}"), 500, &format!("{round}"));
        }
        fill(&db, "later", 100, "a");
        checkpoint(&db);
    }
    assert_eq!(backup.items(), items);
    let names: Vec<_> = items.iter().map(|i| i.name().to_owned()).collect();
    for left_out in ["Strandline.lock", "Strandline.root"] {
        assert!(!names.iter().any(|n| n == left_out));
    }
    let later = db.table("later").unwrap().id().file_name();
    assert!(!names.contains(&later), "made after the open");
    strandline_vfs::Vfs::create_dir(&stage.vfs, std::path::Path::new("copy")).unwrap();
    for (at, item) in items.iter().enumerate().rev() {
        let name = format!("copy/{}", item.name());
        if at + 1 == items.len() {
            stage.write(&name, &backup.manifest());
            continue;
        }
        let bytes = stage.read(item.source().to_str().unwrap());
        // Some a copier reads to the end, some exactly as long as they must be.
        let len = if at % 2 == 0 { bytes.len() } else { item.size() as usize };
        stage.write(&name, &bytes[..len]);
    }
    backup.finish().unwrap();
    let restored = stage.open_at("copy");
    for i in 0..4 {
        assert_eq!(rows(&restored, &format!("t{i}")), filled(400, "a"));
    }
    assert_eq!(table_names(&restored), ["empty", "t0", "t1", "t2", "t3"]);
}

/// Covers: FB-8, FB-9, FB-10, B14.
#[test]
fn what_goes_on_while_a_backup_is_open() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 300, "a");
    named(&db, "before");
    put(&db, "t", "k", "v");
    checkpoint(&db);
    let backup = db.backup(BackupOptions::new()).unwrap();
    assert_eq!(kind(db.drop_table("t", true)), ErrorKind::Busy);
    assert_eq!(kind(db.rename_table("t", "u")), ErrorKind::Busy);
    for blocked in [
        CheckpointOptions::new().drop("before"),
        CheckpointOptions::new().name("before"),
        CheckpointOptions::new().drop_all(),
        CheckpointOptions::new().drop_from("before"),
    ] {
        assert_eq!(kind(db.checkpoint(blocked)), ErrorKind::Busy);
    }
    fill(&db, "t", 300, "b");
    fill(&db, "new", 10, "a");
    named(&db, "during");
    named(&db, "during");
    db.checkpoint(CheckpointOptions::new().drop("during")).unwrap();
    db.rename_table("new", "newer").unwrap();
    db.drop_table("newer", true).unwrap();
    let t = db.table("t").unwrap();
    let mut tx = db.begin().unwrap();
    tx.truncate(&t, key(100)..).unwrap();
    tx.commit().unwrap();
    checkpoint(&db);
    copy(&backup, "copy");
    backup.finish().unwrap();
    db.checkpoint(CheckpointOptions::new().drop("before")).unwrap();
    db.rename_table("t", "u").unwrap();
    db.drop_table("u", true).unwrap();
    let mut expected = filled(300, "a");
    expected.insert(b"k".to_vec(), b"v".to_vec());
    let restored = stage.open_at("copy");
    assert_eq!(rows(&restored, "t"), expected);
    assert_eq!(names(&restored), ["before"]);
}

/// Covers: FB-11, B28. Checkpoints made meanwhile replace each other; afterwards the space comes back.
#[test]
fn fifty_checkpoints_under_an_open_backup() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 500, "a");
    checkpoint(&db);
    let backup = db.backup(BackupOptions::new()).unwrap();
    for round in 0..50 {
        fill(&db, "t", 500, &format!("{round}"));
        db.checkpoint(CheckpointOptions::new().force(true)).unwrap();
        assert!(db.checkpoints().unwrap().len() <= 2);
    }
    copy(&backup, "copy");
    backup.finish().unwrap();
    checkpoint(&db);
    assert_eq!(db.checkpoints().unwrap().len(), 1);
    assert_eq!(rows(&stage.open_at("copy"), "t"), filled(500, "a"));
    assert_eq!(rows(&db, "t"), filled(500, "49"));
}

/// Covers: B10, B21. A writer, a checkpointer and a maker of tables run; every copy is one state.
#[test]
fn copies_under_load() {
    let stage = Stage::new();
    let db = stage.create();
    let tables = ["a", "b", "c"].map(|name| table(&db, name));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0_u32.. {
                let mut tx = db.begin().unwrap();
                for t in &tables {
                    tx.put(t, "round", round.to_be_bytes()).unwrap();
                    tx.put(t, key(round as usize % 300), round.to_be_bytes()).unwrap();
                }
                tx.commit().unwrap();
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
            }
        });
        scope.spawn(|| {
            for n in 0_u32.. {
                let name = format!("temp{n}");
                table(&db, &name);
                checkpoint(&db);
                match db.drop_table(&name, true) {
                    Ok(()) => {}
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Busy, "{e}"),
                }
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
            }
        });
        for n in 0..8 {
            back_up(&db, &format!("copy{n}"));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let mut last = 0;
    for n in 0..8 {
        let restored = stage.open_at(&format!("copy{n}"));
        let seen = ["a", "b", "c"].map(|name| rows(&restored, name));
        assert!(seen[0] == seen[1] && seen[1] == seen[2], "copy {n} is not of one state");
        if let Some(round) = seen[0].get(&b"round"[..]) {
            let round = u32::from_be_bytes(round[..].try_into().unwrap());
            assert!(round >= last, "copies go forward");
            last = round;
        }
    }
}

/// Covers: FB-13, K3, B25. Contract `Pinned`: a crash with a backup open leaves what was complete at the open.
#[test]
fn a_crash_under_an_open_backup() {
    for contract in [Contract::Pinned, Contract::Latest] {
        let stage = Stage::new();
        let db = stage.options().create(true).contract(contract).open(HOME).unwrap();
        fill(&db, "t", 300, "before");
        named(&db, "early");
        fill(&db, "t", 300, "at the open");
        checkpoint(&db);
        // A backup of an older checkpoint falls back to the newest one all the same (FB-3).
        let backup = db.backup(BackupOptions::new().checkpoint("early")).unwrap();
        let at_once = stage.crash();
        fill(&db, "t", 400, "meanwhile");
        fill(&db, "new", 10, "meanwhile");
        named(&db, "mid");
        fill(&db, "t", 400, "lost");
        let during = stage.crash();
        backup.finish().unwrap();
        let after = stage.crash();

        assert_eq!(rows(&at_once.open(), "t"), filled(300, "at the open"));
        let db = during.open();
        if contract == Contract::Pinned {
            assert!(matches!(db.recovery().kind, RecoveryKind::FellBack { .. }), "{:?}", db.recovery());
            assert_eq!(rows(&db, "t"), filled(300, "at the open"));
            assert_eq!(names(&db), ["early"]);
            assert_eq!(table_names(&db), ["t"], "tables created since are gone");
        } else {
            assert_eq!(rows(&db, "t"), filled(400, "meanwhile"));
            assert_eq!(names(&db), ["early", "mid"]);
            assert_eq!(table_names(&db), ["new", "t"]);
        }
        assert_eq!(named_rows(&db, "early", "t"), filled(300, "before"));
        fill(&db, "t", 50, "on");
        fill(&db, "new", 5, "on");
        checkpoint(&db);
        // The fall back happened once; from now on the newest holds.
        let db = during.crash().open();
        assert_eq!(rows(&db, "t")[&key(0)], value(0, "on"));
        assert_eq!(rows(&after.open(), "t"), filled(400, "meanwhile"), "the backup had ended");
    }
}

/// Covers: FB-14, B40.
#[test]
fn a_table_never_checkpointed() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 100, "a");
    let backup = db.backup(BackupOptions::new()).unwrap();
    copy(&backup, "copy");
    backup.finish().unwrap();
    let restored = stage.open_at("copy");
    assert_eq!(table_names(&restored), ["t"]);
    assert!(rows(&restored, "t").is_empty());
}

/// Covers: FB-17, TX-5.
#[test]
fn a_copy_goes_into_an_empty_place() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 100, "a");
    let t = db.table("t").unwrap();
    let mut tx = db.begin().unwrap();
    tx.put(&t, "uncommitted", "x").unwrap();
    let backup = db.backup(BackupOptions::new().fresh_checkpoint(true)).unwrap();
    copy(&backup, "copy");
    let before = stage.contents("copy");
    assert_eq!(kind(backup.copy_to("copy", quietly)), ErrorKind::Exists);
    assert_eq!(kind(backup.copy_to(HOME, quietly)), ErrorKind::Exists);
    unchanged(&stage, "copy", &before);
    copy(&backup, "second");
    backup.finish().unwrap();
    tx.commit().unwrap();
    for dir in ["copy", "second"] {
        assert_eq!(rows(&stage.open_at(dir), "t"), filled(100, "a"));
    }
}

/// A copy that was stopped is no copy, and the next attempt works.
#[test]
fn cancelling() {
    let stage = Stage::new();
    let db = stage.create();
    for i in 0..5 {
        fill(&db, &format!("t{i}"), 1000, "a");
    }
    let backup = db.backup(BackupOptions::new().fresh_checkpoint(true)).unwrap();
    let plan = backup.plan().bytes();
    let mut seen = Vec::new();
    let report = backup
        .copy_to("whole", |p| {
            seen.push(p.bytes_done);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(seen.is_sorted() && *seen.last().unwrap() >= plan, "{seen:?} of {plan}");
    assert!(report.bytes >= plan);
    for stop in 1..seen.len().min(6) {
        let (dir, mut calls) = (format!("stopped{stop}"), 0);
        let stopped = backup.copy_to(&dir, |_| {
            calls += 1;
            if calls == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(kind(stopped), ErrorKind::Cancelled);
        assert!(stage.options().open(&dir).is_err());
        let mut stream = Vec::new();
        let stopped = backup.stream_to(&mut stream, |_| ControlFlow::Break(()));
        assert_eq!(kind(stopped), ErrorKind::Cancelled);
    }
    backup.finish().unwrap();
    assert_eq!(rows(&stage.open_at("whole"), "t3"), filled(1000, "a"));
}

/// Covers: TG-1, TG-2, B11.
#[test]
fn chosen_tables() {
    let stage = Stage::new();
    let db = stage.create();
    let all = ["a", "b", "c", "d"];
    for (i, name) in all.iter().enumerate() {
        fill(&db, name, 1 + i * 400, name);
    }
    named(&db, "x");
    for n in 0..=4 {
        let dir = format!("copy{n}");
        let backup = db.backup(BackupOptions::new().tables(all[..n].to_vec())).unwrap();
        copy(&backup, &dir);
        backup.finish().unwrap();
        let restored = stage.open_at(&dir);
        let chosen = if n == 0 { &all[..] } else { &all[..n] };
        assert_eq!(table_names(&restored), chosen, "an empty list is a full backup");
        for (i, name) in chosen.iter().enumerate() {
            assert_eq!(rows(&restored, name), filled(1 + i * 400, name));
        }
        // What was left out may be made anew and inherits nothing.
        for name in all.iter().filter(|n| !chosen.contains(n)) {
            assert_eq!(kind(restored.table(name)), ErrorKind::NotFound);
            assert!(rows(&restored, &table(&restored, name).name()).is_empty());
        }
        let view = restored.view(CheckpointRef::Named("x")).unwrap();
        assert_eq!(view_rows(&view, chosen[0]), rows(&restored, chosen[0]));
    }
    assert_eq!(kind(db.backup(BackupOptions::new().tables(["a", "z"]))), ErrorKind::NotFound);
}

/// Covers: B20, TB-6.
#[test]
fn a_dropped_table_is_not_in_the_copy() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "main", 100, "a");
    fill(&db, "extra", 100, "a");
    named(&db, "x");
    db.drop_table("main", false).unwrap();
    fill(&db, "more", 10, "a");
    back_up(&db, "copy");
    let restored = stage.open_at("copy");
    assert_eq!(table_names(&restored), ["extra", "more"]);
    assert_eq!(named_rows(&restored, "x", "extra"), filled(100, "a"));
}

/// Covers: FB-12. Ending a backup lets everything go at once.
#[test]
fn the_end_of_a_backup() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 100, "a");
    named(&db, "x");
    let backup = db.backup(BackupOptions::new()).unwrap();
    let held = db.checkpoints().unwrap();
    assert!(held.iter().any(|c| !c.pinned_by.is_empty()));
    drop(backup);
    assert!(db.checkpoints().unwrap().iter().all(|c| c.pinned_by.is_empty()));
    db.checkpoint(CheckpointOptions::new().drop("x")).unwrap();
    assert!(matches!(stage.crash().open().recovery().kind, RecoveryKind::Newest));
}

/// Covers: DB-4, FB-12. A guard that was leaked pins nothing beyond the life of the handle.
#[test]
fn closing_ends_a_backup_whose_guard_was_leaked() {
    let stage = Stage::new();
    let db = stage.create();
    put(&db, "t", "k", "before");
    checkpoint(&db);
    std::mem::forget(db.backup(BackupOptions::new()).unwrap());
    put(&db, "t", "k", "after");
    db.close().unwrap();
    let db = stage.open();
    assert_eq!(get(&db, "t", "k").as_deref(), Some("after"));
}
