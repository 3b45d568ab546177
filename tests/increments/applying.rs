//! Applying: interrupted anywhere, repeated, and refused.

use std::path::Path;
use std::sync::Arc;

use strandline::backup::{self, Manifest, VerifyCopyOptions};
use strandline::manifest::MANIFEST_FILE;
use strandline::sync::SeededEntropy;
use strandline::{CheckpointOptions, ErrorKind, TableOptions};
use strandline_vfs::fault::{Fault, FaultVfs};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{Call, OpenOptions, Vfs};

use crate::stage::*;

/// A copy of two tables, and an increment in which one changed, one went and one came.
fn small_chain() -> (MemVfs, Manifest, Contents) {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    for table in ["a", "b"] {
        db.create_table(table, TableOptions::new()).unwrap();
        write(&db, table, (0..500).map(|i| row(i, 50)));
    }
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let full = take(&db, "/copy", None);
    write(&db, "a", (0..500).step_by(9).map(|i| row(i, 60)));
    db.drop_table("b", false).unwrap();
    db.create_table("c", TableOptions::new()).unwrap();
    write(&db, "c", (0..500).map(|i| row(i, 50)));
    db.checkpoint(CheckpointOptions::new()).unwrap();
    take(&db, "/inc", Some(full.origin()));
    let expected = contents(&db);
    (vfs, full, expected)
}

/// After an `apply` that failed: the copy is what it was, or what it is to be, or nothing that opens; and the same call again
/// makes it what it is to be.
fn assert_converges(copy: &MemVfs, full: &Manifest, expected: &Contents, what: &str) {
    match Manifest::load(copy, Path::new("/copy")) {
        Ok(readable) if readable.origin() == full.origin() => {
            assert_eq!(readable, *full, "{what}");
            assert_sound_but_for_strangers(copy, what);
        }
        Ok(_) => assert_sound_but_for_strangers(copy, what),
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::NotFound, "{what}: {e}");
            assert!(options(&copy.duplicate()).read_only(true).open("/copy").is_err(), "{what}");
        }
    }
    apply(copy, "/inc", "/copy").unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_sound(copy, "/copy");
    assert_eq!(restored(copy, "/copy"), *expected, "{what}");
}

fn assert_sound_but_for_strangers(vfs: &MemVfs, what: &str) {
    assert!(sound(vfs, "/copy"), "{what}");
}

/// Covers: RS-2, K6. Each call of the file system fails: once or from then on, with the device's error or for want of space.
#[test]
fn an_apply_in_which_any_call_fails_can_be_repeated() {
    let (vfs, full, expected) = small_chain();
    let faults: [fn(u64) -> Fault; 4] = [
        |calls| Fault::on_any(Call::ALL).after(calls),
        |calls| Fault::on_any(Call::CHANGES).after(calls).for_ever(),
        |calls| Fault::on_any(Call::SYNCS).after(calls).system_error(5),
        |calls| {
            let full = Fault::on_any([Call::Create, Call::Write, Call::SetLen]).after(calls).for_ever();
            full.error(std::io::ErrorKind::StorageFull)
        },
    ];
    for (kind, fault) in faults.iter().enumerate() {
        for calls in 0.. {
            let what = format!("kind {kind} after {calls} calls");
            let copy = vfs.duplicate();
            let faulty = FaultVfs::new(Arc::new(copy.clone()));
            faulty.limit_transfers(Some(900), Some(700));
            faulty.inject(fault(calls));
            let failed = backup::apply(&faulty, Path::new("/inc"), Path::new("/copy"), &mut go_on);
            if failed.is_ok() {
                assert!(calls > [60, 40, 8, 30][kind], "{what}");
                break;
            }
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::Io, "{what}");
            assert_converges(&copy, &full, &expected, &what);
        }
    }
}

/// Covers: RS-2, K6. The device fills up at every kilobyte.
#[test]
fn an_apply_onto_a_device_that_fills_up_can_be_repeated() {
    let (vfs, full, expected) = small_chain();
    for kilobytes in 0.. {
        let copy = vfs.duplicate();
        let faulty = FaultVfs::new(Arc::new(copy.clone()));
        faulty.limit_space(Some(kilobytes << 10));
        match backup::apply(&faulty, Path::new("/inc"), Path::new("/copy"), &mut go_on) {
            Ok(_) => {
                assert!(kilobytes > 10, "{kilobytes}");
                break;
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::Io, "{e}"),
        }
        assert_converges(&copy, &full, &expected, &format!("{kilobytes} KiB"));
    }
}

/// Covers: RS-2, K6. After an interruption another increment takes the place of the one that was being applied if it leads at
/// least as far; one that ends earlier is refused, since what it needs of the copy may have been written over.
#[test]
fn another_increment_after_an_interruption() {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", (0..300).map(|i| row(i, 100)));
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let full = take(&db, "/copy", None);
    // What the near one needs of the base is given up, and written over, on the way to the middle one.
    for (n, (dir, changed)) in [("/near", 200..300), ("/middle", 0..300), ("/far", 0..100)].into_iter().enumerate() {
        if n == 1 {
            db.create_table("passing", TableOptions::new()).unwrap();
            write(&db, "passing", [row(1, 10)]);
        } else if n == 2 {
            db.drop_table("passing", true).unwrap();
        }
        // Twice, so that what is given up first is written over then.
        for value in [101, 102] {
            write(&db, "t", changed.clone().map(|i| row(i, value + 2 * n)));
            db.checkpoint(CheckpointOptions::new()).unwrap();
        }
        take(&db, dir, Some(full.origin()));
    }
    let expected = contents(&db);
    let mut refused = 0;
    for calls in 0.. {
        let copy = vfs.duplicate();
        let faulty = FaultVfs::new(Arc::new(copy.clone()));
        faulty.inject(Fault::on_any(Call::CHANGES).after(calls));
        if backup::apply(&faulty, Path::new("/middle"), Path::new("/copy"), &mut go_on).is_ok() {
            break;
        }
        let before = copy.duplicate();
        match apply(&copy, "/near", "/copy") {
            Ok(_) => assert_sound(&copy, "/copy"),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::WrongBase, "after {calls} calls: {e}");
                assert!(same_files(&before, &copy, "/copy"), "after {calls} calls");
                refused += u64::from(e.to_string().contains("was being applied"));
            }
        }
        apply(&copy, "/far", "/copy").unwrap_or_else(|e| panic!("after {calls} calls: {e}"));
        assert_sound(&copy, "/copy");
        assert_eq!(restored(&copy, "/copy"), expected, "after {calls} calls");
    }
    assert!(refused > 3, "{refused}");
}

/// Everything that the damage tests need: a copy and an increment for it; the increment after it; those of another database.
struct Members {
    vfs: MemVfs,
    expected: Contents,
}

fn members() -> Members {
    let vfs = MemVfs::new();
    let chain = |home: &str, [copy, inc, later]: [&str; 3], salt: usize| {
        let db = options(&vfs).entropy(Arc::new(SeededEntropy::new(salt as u64))).create(true).open(home).unwrap();
        for table in ["a", "gone", "idle"] {
            db.create_table(table, TableOptions::new()).unwrap();
            write(&db, table, (0..200).map(|i| row(i, 50 + salt)));
        }
        db.checkpoint(CheckpointOptions::new()).unwrap();
        let mut origin = take(&db, copy, None).origin();
        let mut then = None;
        for (n, dir) in [inc, later].into_iter().enumerate() {
            write(&db, "a", (0..200).step_by(2).map(|i| row(i, 60 + n + salt)));
            if n == 0 {
                db.drop_table("gone", false).unwrap();
                db.create_table("new", TableOptions::new()).unwrap();
            }
            write(&db, "new", (0..200).map(|i| row(i, 70 + n + salt)));
            db.checkpoint(CheckpointOptions::new()).unwrap();
            then.get_or_insert_with(|| contents(&db));
            origin = take(&db, dir, Some(origin)).origin();
        }
        then.unwrap()
    };
    let expected = chain("/db", ["/copy", "/inc", "/later"], 0);
    chain("/other", ["/other-copy", "/other-inc", "/other-later"], 3);
    Members { vfs, expected }
}

/// What can befall one file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Harm {
    Missing,
    Empty,
    Cut,
    Flipped,
    Doubled,
    Swapped,
    OfAnotherDatabase,
    OfTheNextIncrement,
}

impl Harm {
    const ALL: [Self; 8] = [
        Self::Missing,
        Self::Empty,
        Self::Cut,
        Self::Flipped,
        Self::Doubled,
        Self::Swapped,
        Self::OfAnotherDatabase,
        Self::OfTheNextIncrement,
    ];

    /// Does it; false when that changes nothing.
    fn befall(self, vfs: &MemVfs, dir: &str, name: &str) -> bool {
        let before = files(vfs, dir);
        let mut bytes = before[name].clone();
        let middle = bytes.len() / 2;
        let of = |dir: &str| files(vfs, dir).get(name).cloned().unwrap_or_else(|| before[name].clone());
        match self {
            Self::Missing => vfs.remove_file(&Path::new(dir).join(name)).unwrap(),
            Self::Empty => bytes.clear(),
            Self::Cut => bytes.truncate(middle),
            Self::Flipped => bytes[middle] ^= 1,
            Self::Doubled => bytes.extend(before[name].clone()),
            Self::Swapped => {
                let other = before.keys().find(|other| *other != name && !other.starts_with("Strandline")).unwrap();
                put_file(vfs, &format!("{dir}/{other}"), &bytes);
                bytes = before[other].clone();
            }
            Self::OfAnotherDatabase => bytes = of(&dir.replace('/', "/other-")),
            Self::OfTheNextIncrement => bytes = of("/later"),
        }
        if self != Self::Missing {
            put_file(vfs, &format!("{dir}/{name}"), &bytes);
        }
        files(vfs, dir) != before
    }
}

fn put_file(vfs: &MemVfs, path: &str, bytes: &[u8]) {
    let file = vfs.open(Path::new(path), OpenOptions::create()).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

/// Covers: RS-2, RS-6, K6. Whatever befalls one file of the copy or of the increment: it is refused, the file is named, and the
/// copy stays as it was; or it does no harm. Only what the increment does not touch is not looked at, and verification
/// finds it there.
#[test]
fn damage_to_any_member_is_refused_by_name() {
    let Members { vfs, expected } = members();
    let untouched = ["table-00000002.sl", "table-00000003.sl"];
    let mut refused = 0;
    for dir in ["/copy", "/inc"] {
        for name in files(&vfs, dir).into_keys() {
            for harm in Harm::ALL {
                let now = vfs.duplicate();
                if !harm.befall(&now, dir, &name) {
                    continue;
                }
                let what = format!("{dir}/{name} {harm:?}");
                let before = files(&now, "/copy");
                match apply(&now, "/inc", "/copy") {
                    Err(e) => {
                        let kinds = [ErrorKind::Corrupt, ErrorKind::WrongBase, ErrorKind::NotFound];
                        assert!(kinds.contains(&e.kind()), "{what}: {e}");
                        let names = e.to_string().contains(&name) || harm == Harm::Swapped;
                        assert!(names || name == MANIFEST_FILE && e.to_string().contains("manifest"), "{what}: {e}");
                        assert!(files(&now, "/copy") == before, "{what}: the copy was changed");
                        refused += 1;
                    }
                    Ok(_) if harm == Harm::Doubled && name != MANIFEST_FILE => {
                        assert_sound(&now, "/copy");
                        assert_eq!(restored(&now, "/copy"), expected, "{what}");
                    }
                    Ok(_) => {
                        assert!(dir == "/copy" && untouched.contains(&name.as_str()), "{what}: nobody noticed");
                        assert_eq!(sound(&now, "/copy"), name == untouched[0], "{what}: one of them has gone");
                    }
                }
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

fn sound(vfs: &MemVfs, copy: &str) -> bool {
    let vfs: Arc<dyn Vfs> = Arc::new(vfs.duplicate());
    backup::verify_copy(&vfs, Path::new(copy), VerifyCopyOptions::default(), &mut go_on).unwrap().is_sound()
}

/// Covers: RS-6, BI-12, BI-13. Files that belong to neither do no harm and stay; a copy that was opened for writing is refused, one that
/// was only read is not.
#[test]
fn strangers_stay_and_an_opened_copy_is_refused() {
    let Members { vfs, expected } = members();
    for dir in ["/copy", "/inc"] {
        put_file(&vfs, &format!("{dir}/diary"), b"mine");
        put_file(&vfs, &format!("{dir}/table-00000099.sl"), b"a table of nobody");
    }
    options(&vfs).read_only(true).open("/copy").unwrap().close().unwrap();
    let opened = vfs.duplicate();
    options(&opened).open("/copy").unwrap().close().unwrap();
    let before = files(&opened, "/copy");
    let e = apply(&opened, "/inc", "/copy").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongBase, "{e}");
    assert!(e.to_string().contains("Strandline.root") && files(&opened, "/copy") == before, "{e}");
    apply(&vfs, "/inc", "/copy").unwrap();
    assert_eq!(files(&vfs, "/copy")["diary"], b"mine");
    assert!(sound(&vfs, "/copy"));
    assert_eq!(restored(&vfs, "/copy"), expected);
}
