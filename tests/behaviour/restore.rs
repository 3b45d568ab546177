//! Copies and what becomes of them: DB-3, RS.

use std::sync::Arc;

use strandline::backup::{self, RestoreOptions};
use strandline::{BackupOptions, ErrorKind, Recovery, RecoveryKind};
use strandline_vfs::Vfs;

use crate::stage::*;

/// A database with two tables and a named checkpoint, and a copy of it in `copy`.
fn copied() -> Stage {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "one", 500, "old");
    fill(&db, "two", 300, "old");
    named(&db, "x");
    fill(&db, "one", 500, "new");
    back_up(&db, "copy");
    db.close().unwrap();
    stage
}

fn check(db: &strandline::Database) {
    assert_eq!(rows(db, "one"), filled(500, "new"));
    assert_eq!(rows(db, "two"), filled(300, "old"));
    assert_eq!(named_rows(db, "x", "one"), filled(500, "old"));
    assert_eq!(named_rows(db, "x", "two"), filled(300, "old"));
}

/// Covers: RS-1, RS-3, RS-4, DB-3. Opening restores; the second and third open do nothing more.
#[test]
fn opening_a_copy_restores_it() {
    let stage = copied();
    let source = stage.open();
    let db = stage.open_at("copy");
    assert!(matches!(db.recovery().kind, RecoveryKind::Restored { .. }));
    assert_ne!(db.lineage(), source.lineage(), "the history forks");
    check(&db);
    let lineage = db.lineage();
    db.close().unwrap();
    assert!(!stage.files("copy").contains(&"Strandline.manifest".to_owned()));
    for _ in 0..2 {
        let db = stage.open_at("copy");
        assert!(matches!(db.recovery().kind, RecoveryKind::Newest));
        assert_eq!(db.lineage(), lineage);
        check(&db);
        db.close().unwrap();
    }
    let db = stage.open_at("copy");
    fill(&db, "one", 500, "on");
    db.drop_table("two", true).unwrap();
    db.close().unwrap();
    check(&source);
}

/// Covers: RS-3, B44, B47. A crash anywhere in a restore: repeat it from the start.
#[test]
fn a_restore_can_be_interrupted() {
    let stage = copied();
    assert_eq!(kind(stage.options().unit(77).open("copy")), ErrorKind::InvalidArgument);
    let db = stage.open_at("copy");
    let image = stage.crash();
    check(&image.open_at("copy"));
    fill(&db, "one", 500, "unsaved");
    check(&stage.crash().open_at("copy"));
}

/// Covers: RS-5, B36, K6. Everything missing or short is named, and nothing is written.
#[test]
fn a_copy_with_missing_pieces_is_refused() {
    let stage = copied();
    let files: Vec<String> = stage.files("copy").into_iter().filter(|f| f != "Strandline.manifest").collect();
    assert_eq!(files.len(), 3);
    for name in &files {
        for short in [false, true] {
            let damaged = stage.crash();
            let path = format!("copy/{name}");
            if short {
                let bytes = damaged.read(&path);
                damaged.write(&path, &bytes[..bytes.len() / 2]);
            } else {
                damaged.remove(&path);
            }
            let before = damaged.contents("copy");
            let e = damaged.options().open("copy").unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Corrupt);
            assert!(e.to_string().contains(name.as_str()), "{e}");
            unchanged(&damaged, "copy", &before);
        }
    }
    for name in &files {
        stage.remove(&format!("copy/{name}"));
    }
    let e = text(stage.options().open("copy"));
    assert!(files.iter().all(|f| e.contains(f.as_str())), "all of them: {e}");
}

/// Covers: RS-5.
#[test]
fn damaged_tables_are_tolerated_on_request() {
    let stage = copied();
    let file = stage.open().table("two").unwrap().id().file_name();
    stage.remove(&format!("copy/{file}"));
    let db = stage.options().tolerate_damaged_tables(true).open("copy").unwrap();
    assert_eq!(rows(&db, "one"), filled(500, "new"));
    let e = try_rows(&db, "two").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    assert!(e.to_string().contains(&file), "{e}");
    assert_eq!(rows(&db, "one"), filled(500, "new"));
}

/// Covers: RS-1, DB-2, DB-3, K6. Without a whole manifest there is no copy, and nothing is laid over it.
#[test]
fn a_copy_without_its_manifest() {
    let stage = copied();
    let manifest = stage.read("copy/Strandline.manifest");
    for cut in [0, 1, 7, manifest.len() / 2, manifest.len() - 1] {
        let damaged = stage.crash();
        damaged.write("copy/Strandline.manifest", &manifest[..cut]);
        let before = damaged.contents("copy");
        for create in [false, true] {
            assert_eq!(kind(damaged.options().create(create).open("copy")), ErrorKind::Corrupt);
        }
        unchanged(&damaged, "copy", &before);
    }
    stage.remove("copy/Strandline.manifest");
    assert_eq!(kind(stage.options().create(true).open("copy")), ErrorKind::Corrupt);
}

/// Covers: DB-3, K6. A copy laid over a database, or a manifest that belongs to nothing here.
#[test]
fn a_copy_laid_over_a_database() {
    let stage = copied();
    let manifest = stage.read("copy/Strandline.manifest");
    stage.write("home/Strandline.manifest", &manifest);
    let before = stage.contents(HOME);
    let e = stage.options().open(HOME).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongBase);
    assert!(e.to_string().contains("Strandline.manifest"), "names the file to remove: {e}");
    unchanged(&stage, HOME, &before);
    stage.remove("home/Strandline.manifest");
    check(&stage.open());
}

/// Covers: DB-3, B12. A whole directory copied while a backup is open: the source died, as it were.
#[test]
fn a_whole_directory_copied_during_a_backup() {
    let stage = copied();
    let db = stage.open();
    let backup = db.backup(BackupOptions::new()).unwrap();
    fill(&db, "one", 500, "meanwhile");
    checkpoint(&db);
    stage.vfs.create_dir(std::path::Path::new("rsync")).unwrap();
    for (name, bytes) in stage.contents(HOME) {
        stage.write(&format!("rsync/{name}"), &bytes);
    }
    stage.write("rsync/Strandline.manifest", &backup.manifest());
    backup.finish().unwrap();
    let copy = stage.open_at("rsync");
    check(&copy);
    assert!(!stage.files("rsync").contains(&"Strandline.manifest".to_owned()));
}

/// Covers: RS-6.
#[test]
fn strangers_are_ignored_and_reported() {
    let stage = copied();
    stage.write("copy/notes.txt", b"hello");
    stage.write("copy/table-00000099.sl", b"stale");
    let db = stage.open_at("copy");
    check(&db);
    assert!(db.recovery().strangers.iter().any(|s| s.contains("notes.txt")), "{:?}", db.recovery());
    assert_eq!(stage.read("copy/notes.txt"), b"hello");
}

/// Covers: RS-7, R01, R02, R03, R05.
#[test]
fn chosen_tables_of_a_copy() {
    let stage = Stage::new();
    let db = stage.create();
    let all: Vec<String> = (0..40).map(|i| format!("t{i:02}")).collect();
    for name in &all {
        fill(&db, name, 20, name);
    }
    named(&db, "x");
    back_up(&db, "copy");
    let file = |i: usize| db.table(&all[i]).unwrap().id().file_name();
    assert_eq!(kind(stage.options().restore_only(["t01", "typo"]).open("copy")), ErrorKind::NotFound);
    assert_eq!(kind(stage.crash().options().restore_only(["t01"]).open(HOME)), ErrorKind::InvalidArgument);
    // The files of the others need not even be there.
    let chosen: Vec<String> = all.iter().rev().step_by(3).cloned().collect();
    for (i, name) in all.iter().enumerate() {
        if !chosen.contains(name) && i % 2 == 0 {
            stage.remove(&format!("copy/{}", file(i)));
        }
    }
    let restored = stage.options().restore_only(chosen.clone()).open("copy").unwrap();
    let mut expected = chosen.clone();
    expected.sort();
    assert_eq!(table_names(&restored), expected);
    for name in &all {
        if chosen.contains(name) {
            assert_eq!(rows(&restored, name), filled(20, name));
            assert_eq!(named_rows(&restored, "x", name), filled(20, name));
        } else {
            assert_eq!(kind(restored.table(name)), ErrorKind::NotFound);
            assert!(rows(&restored, &table(&restored, name).name()).is_empty());
        }
    }
    restored.close().unwrap();
    for (i, name) in all.iter().enumerate() {
        let there = stage.files("copy").contains(&file(i));
        assert!(!there || chosen.contains(name), "the file of `{name}` is still there");
    }
}

/// Covers: DB-7.
#[test]
fn recovery_can_be_refused() {
    let stage = copied();
    let before = stage.contents("copy");
    assert_eq!(kind(stage.options().recovery(Recovery::Refuse).open("copy")), ErrorKind::NeedsRecovery);
    unchanged(&stage, "copy", &before);
    stage.options().recovery(Recovery::Refuse).open(HOME).unwrap().close().unwrap();
    let db = stage.open();
    let backup = db.backup(BackupOptions::new()).unwrap();
    let crashed = stage.crash();
    for read_only in [false, true] {
        let refused = crashed.options().recovery(Recovery::Refuse).read_only(read_only).open(HOME);
        assert_eq!(kind(refused), ErrorKind::NeedsRecovery);
    }
    check(&crashed.open());
    drop(backup);
}
/// Covers: RS-1, RS-2. Restore to another place, from a directory and from a stream, whole or in part.
#[test]
fn restoring_to_another_place() {
    let stage = copied();
    let vfs: Arc<dyn Vfs> = Arc::new(stage.vfs.clone());
    let (copy, dest) = (std::path::Path::new("copy"), |d: &'static str| std::path::Path::new(d));
    backup::restore(&vfs, copy, dest("whole"), &RestoreOptions::default(), &mut quietly).unwrap();
    check(&stage.open_at("whole"));
    let part = RestoreOptions { tables: vec!["two".into()], ..RestoreOptions::default() };
    backup::restore(&vfs, copy, dest("part"), &part, &mut quietly).unwrap();
    let db = stage.open_at("part");
    assert_eq!(table_names(&db), ["two"]);
    assert_eq!(rows(&db, "two"), filled(300, "old"));
    let again = backup::restore(&vfs, copy, dest("whole"), &RestoreOptions::default(), &mut quietly);
    assert_eq!(kind(again), ErrorKind::Exists);

    let db = stage.open();
    let open = db.backup(BackupOptions::new()).unwrap();
    let mut stream = Vec::new();
    open.stream_to(&mut stream, quietly).unwrap();
    open.finish().unwrap();
    backup::restore_stream(&vfs, &mut &stream[..], dest("unpacked"), &RestoreOptions::default(), &mut quietly).unwrap();
    check(&stage.open_at("unpacked"));
    // A stream that was cut is refused wherever it was cut, and leaves no copy.
    for (n, cut) in (0..stream.len()).step_by(stream.len() / 40).chain([stream.len() - 1]).enumerate() {
        let dir = format!("cut{n}");
        let dir = std::path::Path::new(&dir);
        let done = backup::restore_stream(&vfs, &mut &stream[..cut], dir, &RestoreOptions::default(), &mut quietly);
        assert_eq!(kind(done), ErrorKind::Corrupt, "cut at {cut}");
        assert!(stage.options().open(dir).is_err());
    }
}

/// Covers: RS-2, K6. A copy is proven without being opened, and every kind of damage is seen.
#[test]
fn a_copy_is_verified_without_opening() {
    let stage = copied();
    let vfs: Arc<dyn Vfs> = Arc::new(stage.vfs.clone());
    let before = stage.contents("copy");
    let verify = |vfs: &Arc<dyn Vfs>| {
        backup::verify_copy(vfs, std::path::Path::new("copy"), backup::VerifyCopyOptions::default(), &mut quietly)
    };
    assert!(verify(&vfs).unwrap().is_sound());
    unchanged(&stage, "copy", &before);
    let file = stage.open().table("one").unwrap().id().file_name();
    let path = format!("copy/{file}");
    let good = stage.read(&path);
    type Damage<'a> = (&'a str, &'a dyn Fn(&Stage));
    let damages: [Damage<'_>; 4] = [
        ("flipped", &|s| {
            let mut bytes = good.clone();
            bytes[good.len() / 2] ^= 1;
            s.write(&path, &bytes);
        }),
        ("cut", &|s| s.write(&path, &good[..good.len() - 1])),
        ("missing", &|s| s.remove(&path)),
        ("zeroed", &|s| s.write(&path, &vec![0; good.len()])),
    ];
    for (what, damage) in damages {
        let damaged = stage.crash();
        damage(&damaged);
        let vfs: Arc<dyn Vfs> = Arc::new(damaged.vfs.clone());
        match verify(&vfs) {
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Corrupt, "{what}: {e}");
                assert!(e.to_string().contains(&file), "{what}: {e}");
            }
            Ok(report) => {
                assert!(!report.is_sound(), "{what}");
                assert!(format!("{:?}", report.findings).contains(&file), "{what}: {report:?}");
            }
        }
    }
}
