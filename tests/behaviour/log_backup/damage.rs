//! Copies with a log that are damaged, and work on them that is cut short.

use super::*;

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

/// Manifests that were made up under correct checksums: they are refused or understood, and nothing panics, hangs, or takes
/// memory without measure.
#[test]
fn a_forged_manifest_is_refused_or_understood() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 20, "a");
    full(&db, "copy");
    fill(&db, "t", 21, "b");
    increment(&db, "inc");
    drop(db);
    mkdir(&stage, "both");
    lay(&stage, "copy", "both");
    lay(&stage, "inc", "both");
    let of_increment = stage.files("inc").into_iter().find(|f| f.contains("manifest")).unwrap();
    for name in ["Strandline.manifest", &of_increment] {
        let whole = stage.read(&format!("both/{name}"));
        let end = whole.len() - 4;
        // The root record inside has a checksum of its own.
        let places = (8..end).filter(|i| end < 1_000 || *i < 80 || *i > 4_150);
        for (place, value) in places.flat_map(|i| [(i, 0), (i, 1), (i, 0x7f), (i, 0xff)]) {
            let mut forged = whole.clone();
            forged[place] = value;
            let crc = crc32fast::hash(&forged[..end]);
            forged[end..].copy_from_slice(&crc.to_le_bytes());
            if forged == whole {
                continue;
            }
            let run = stage.crash();
            run.write(&format!("both/{name}"), &forged);
            if let Ok(db) = run.options().read_only(true).open("both") {
                let _ = super::super::stage::try_rows(&db, "t");
            }
            let vfs: Arc<dyn Vfs> = Arc::new(run.vfs.clone());
            let _ = backup::verify_copy(&vfs, Path::new("both"), VerifyCopyOptions::default(), &mut quietly);
            if name == of_increment {
                run.write(&format!("inc/{name}"), &forged);
                let _ = apply(&run, "inc", "copy");
                let _ = run.options().read_only(true).open("copy").map(drop);
            }
        }
    }
}
