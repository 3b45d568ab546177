//! Ranges moved by hand: straight from the files of the source into a copy, while the source works.

use std::path::Path;

use strandline::backup::{self, Manifest};
use strandline::{Backup, BackupItem, BackupOptions, CheckpointOptions, Database, ErrorKind, TableOptions};
use strandline_sim::oracle::structure::State;
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{OpenOptions, Vfs};

use crate::stage::*;

/// Copies one range; what the source has not of it is left out.
fn move_range(vfs: &MemVfs, item: &BackupItem, range: usize, copy: &str) {
    let range = item.ranges()[range];
    let source = vfs.open(item.source(), OpenOptions::read()).unwrap();
    let mut bytes = vec![0; range.len as usize];
    let mut got = 0;
    while got < bytes.len() {
        match source.read_at(&mut bytes[got..], range.offset + got as u64).unwrap() {
            0 => break,
            n => got += n,
        }
    }
    let target = vfs.open(&Path::new(copy).join(item.name()), OpenOptions::create()).unwrap();
    target.write_all_at(&bytes[..got], range.offset).unwrap();
}

fn without_manifest<'a>(backup: &Backup<'_>, items: &'a [BackupItem]) -> &'a [BackupItem] {
    assert_eq!(items.last().unwrap().name(), backup.plan().manifest().file_name());
    &items[..items.len() - 1]
}

fn work(db: &Database, i: u64) {
    write(db, "t", (0..50).map(|n| row(n * 37 + i, 80 + i as usize)));
    db.checkpoint(CheckpointOptions::new()).unwrap();
}

/// Covers: BI-2, BI-4, BI-14, FB-8. The ranges of several items at once, in any order, each of them twice, while the source goes on
/// writing; the copy is then the checkpoint that was pinned, block for block.
#[test]
fn ranges_of_several_items_at_once_in_any_order_and_again() {
    for (granularity, consolidate) in [(0, false), (4096, false), (65_536, true)] {
        let vfs = MemVfs::new();
        let db = open(&vfs);
        for table in ["t", "u", "gone"] {
            db.create_table(table, TableOptions::new()).unwrap();
            write(&db, table, (0..3_000).map(|i| row(i, 50)));
        }
        db.checkpoint(CheckpointOptions::new()).unwrap();
        let origin = take(&db, "/copy", None).origin();
        write(&db, "u", (0..3_000).step_by(2).map(|i| row(i, 70)));
        write(&db, "t", [row(5, 200_000)]);
        db.drop_table("gone", false).unwrap();
        db.create_table("new", TableOptions::new()).unwrap();
        write(&db, "new", (0..100).map(|i| row(i, 50)));
        work(&db, 1);

        let options = BackupOptions::new().incremental_from(origin).granularity(granularity).consolidate(consolidate);
        let backup = db.backup(options).unwrap();
        let expected = contents(&db);
        let becomes = backup::accepts(&vfs, backup.plan().manifest(), Path::new("/copy")).unwrap();
        vfs.remove_file(&Manifest::path(Path::new("/copy"))).unwrap();
        assert!(options_of(&vfs).open("/copy").is_err(), "nothing opens it meanwhile");
        let items = backup.items();
        let files = without_manifest(&backup, &items);
        assert!(files.len() > 3 && files.iter().map(|i| i.ranges().len()).max() > Some(1));
        for again in 0..2 {
            let rounds = files.iter().map(|item| item.ranges().len()).max().unwrap();
            for round in (0..rounds).rev() {
                for item in files.iter().filter(|item| round < item.ranges().len()) {
                    move_range(&vfs, item, round, "/copy");
                }
                if round % 7 == 0 && round < 50 {
                    work(&db, 2 + round as u64 + again);
                }
            }
        }
        take_shadow(&vfs, &backup);
        backup.finish().unwrap();
        becomes.store(&vfs, Path::new("/copy")).unwrap();
        Manifest::seal(&vfs, Path::new("/copy")).unwrap();
        assert_eq!(becomes.removed, ["table-00000003.sl"]);
        for name in &becomes.removed {
            vfs.remove_file(&Path::new("/copy").join(name)).unwrap();
        }
        assert_sound(&vfs, "/copy");
        assert_same_blocks(&vfs, "/copy", "/shadow");
        assert_eq!(restored(&vfs, "/copy"), expected);
        // And it takes what comes next.
        take(&db, "/next", Some(becomes.origin()));
        apply(&vfs, "/next", "/copy").unwrap();
        assert_eq!(restored(&vfs, "/copy"), contents(&db));
    }
}

fn options_of(vfs: &MemVfs) -> strandline::Options {
    options(&vfs.duplicate())
}

/// The same blocks by another way: every live block of the pinned checkpoint, from the home.
fn take_shadow(vfs: &MemVfs, backup: &Backup<'_>) {
    let manifest = backup.plan().manifest();
    vfs.create_dir(Path::new("/shadow")).unwrap();
    for file in &manifest.files {
        let source = vfs.open(&Path::new("/db").join(&file.name), OpenOptions::read()).unwrap();
        let mut bytes = vec![0; file.size as usize];
        source.read_exact_at(&mut bytes, 0).unwrap();
        vfs.open(&Path::new("/shadow").join(&file.name), OpenOptions::create())
            .unwrap()
            .write_all_at(&bytes, 0)
            .unwrap();
    }
    let whole = Manifest {
        kind: backup::CopyKind::Full,
        files: manifest
            .files
            .iter()
            .map(|f| backup::ManifestFile { content: backup::Content::Whole, ..f.clone() })
            .collect(),
        ..manifest.clone()
    };
    whole.store(vfs, Path::new("/shadow")).unwrap();
    State::of_copy(vfs, Path::new("/shadow")).unwrap();
}

/// Covers: BI-13, BI-14, K6. Whoever asks first is told; whoever did not is stopped at the next open (DB-3).
#[test]
fn what_does_not_fit_is_told_before_or_found_at_the_open() {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", (0..200).map(|i| row(i, 50)));
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let first = take(&db, "/copy", None);
    work(&db, 1);
    let second = take(&db, "/second", Some(first.origin()));
    work(&db, 2);
    let third = take(&db, "/third", Some(second.origin()));
    let refused = |manifest: &Manifest, copy: &str| {
        let before = files(&vfs, copy);
        let e = backup::accepts(&vfs, manifest, Path::new(copy)).unwrap_err();
        assert!(files(&vfs, copy) == before, "{e}");
        e.kind()
    };
    assert_eq!(refused(&third, "/copy"), ErrorKind::WrongBase, "a gap");
    assert_eq!(refused(&first, "/copy"), ErrorKind::WrongBase, "no increment");
    assert_eq!(refused(&third, "/second"), ErrorKind::WrongBase, "no copy");
    assert_eq!(refused(&second, "/db"), ErrorKind::WrongBase, "a home");
    assert_eq!(backup::accepts(&vfs, &second, Path::new("/copy")).unwrap().origin(), second.origin());
    assert_eq!(files(&vfs, "/copy")[strandline::manifest::MANIFEST_FILE], first.encode());
    // An increment laid over the copy makes no copy of it, and over an opened one neither.
    let laid = vfs.duplicate();
    for (name, bytes) in files(&vfs, "/second") {
        laid.open(&Path::new("/copy").join(name), OpenOptions::create()).unwrap().write_all_at(&bytes, 0).unwrap();
    }
    assert_eq!(options(&laid).open("/copy").unwrap_err().kind(), ErrorKind::WrongBase);
    options(&vfs).open("/copy").unwrap().close().unwrap();
    assert_eq!(refused(&second, "/copy"), ErrorKind::WrongBase, "opened");
    second.store(&vfs, Path::new("/copy")).unwrap();
    let before = files(&vfs, "/copy");
    let e = options(&vfs).open("/copy").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongBase);
    assert!(e.to_string().contains("Strandline.manifest"), "{e}");
    let lock = strandline::manifest::LOCK_FILE;
    let but_lock = |mut all: std::collections::BTreeMap<String, Vec<u8>>| (all.remove(lock), all).1;
    assert!(but_lock(files(&vfs, "/copy")) == but_lock(before), "{e}");
}
