//! Copies with a log and increments from the log, over plain memory. Covers: K6, K7.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use strandline_vfs::fault::{Fault, FaultVfs};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{Call, OpenOptions, Vfs};

use super::restore::restore_files;
use super::*;
use crate::catalog::RootRecord;
use crate::error::ErrorKind;
use crate::log::{Log, LogOptions, SegmentInfo};
use crate::options::{Durability, Settings};
use crate::types::{CheckpointSeq, Lineage, LogPosition, Lsn, TableId};

const LINEAGE: Lineage = Lineage(5);
const UNIT: u32 = crate::options::UNIT_DEFAULT;

fn go_on(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn write(vfs: &dyn Vfs, path: &Path, byte: u8, len: usize) {
    let file = vfs.open(path, OpenOptions::create()).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(&vec![byte; len], 0).unwrap();
}

fn names(vfs: &dyn Vfs, dir: &str) -> Vec<String> {
    vfs.read_dir(Path::new(dir)).unwrap().into_iter().map(|e| e.name.to_string_lossy().into_owned()).collect()
}

/// A log of segments 1 to 12, in a directory of its own; segment N holds N records of 500 bytes.
fn write_log(vfs: &MemVfs) -> Vec<(PlanSegment, Lsn)> {
    let dir = Path::new("wal");
    let _ = vfs.create_dir(dir);
    let log = Log::start(LogOptions {
        vfs: Arc::new(vfs.clone()),
        dir: dir.to_owned(),
        lineage: LINEAGE,
        unit: UNIT,
        segment_bytes: 1 << 20,
        next: 1,
        previous: Lsn::default(),
        previous_writer: 0,
        writer: 1,
        kept: Vec::new(),
        doubt: None,
    });
    let mut ends = Vec::new();
    for number in 1..=12 {
        for _ in 0..number {
            log.append(&[number as u8; 500], Durability::Sync).unwrap();
        }
        ends.push(log.switch().unwrap());
    }
    let segment = |s: SegmentInfo| PlanSegment { number: s.number, source: s.path, size: s.bytes };
    log.segments().into_iter().map(segment).zip(ends).collect()
}

/// The chosen segments, and where the last of them ends.
fn segments(vfs: &MemVfs, numbers: std::ops::Range<u32>) -> (Vec<PlanSegment>, Lsn) {
    let there = vfs.metadata(Path::new("wal")).unwrap().is_some();
    let scratch = MemVfs::new();
    let all = write_log(if there { &scratch } else { vfs });
    let chosen: Vec<_> = all.into_iter().filter(|(s, _)| numbers.contains(&s.number)).collect();
    let end = chosen.last().map_or(Lsn::default(), |(_, end)| *end);
    (chosen.into_iter().map(|(s, _)| s).collect(), end)
}

fn size(vfs: &MemVfs, numbers: std::ops::Range<u32>) -> u64 {
    segments(vfs, numbers).0.iter().map(|s| s.size).sum()
}

/// A home with one table whose checkpoint says that replay begins in segment 4, and the full plan with `segments` of it.
fn full(vfs: &MemVfs, numbers: std::ops::Range<u32>) -> Plan {
    let _ = vfs.create_dir(Path::new("home"));
    let (segments, log_end) = segments(vfs, numbers);
    write(vfs, Path::new("home/Strandline.catalog"), 1, 8_192);
    write(vfs, Path::new("home/table-00000001.sl"), 2, 8_192);
    let mut root = RootRecord::new(Settings::default(), LINEAGE);
    root.newest.seq = CheckpointSeq::major(3);
    root.newest.log = Some(LogPosition { lineage: LINEAGE, lsn: Lsn { segment: 4, offset: 0 } });
    let head = PlanHead {
        lineage: LINEAGE,
        sequence: root.newest.seq,
        backup: 9,
        time_ms: 77,
        root: root.encode(0),
        checkpoints: Vec::new(),
        catalog_size: Some(8_192),
        log_end,
    };
    let tables = vec![PlanTable { name: "t".into(), id: TableId(1), size: Some(8_192) }];
    Plan::new(Path::new("home"), head, tables, &segments, &[]).unwrap()
}

fn increment(vfs: &MemVfs, numbers: std::ops::Range<u32>) -> Plan {
    let first = numbers.start;
    let (segments, end) = segments(vfs, numbers);
    let head = LogHead {
        lineage: LINEAGE,
        backup: 10,
        time_ms: 78,
        previous: Lsn::default(),
        complete: Lsn::default(),
        first,
        end,
    };
    Plan::log(Path::new("home"), &head, &segments)
}

fn copy(vfs: &dyn Vfs, plan: &Plan, dir: &str) -> crate::Result<BackupReport> {
    copy_to(vfs, plan, vfs, Path::new(dir), CopyOptions::default(), &mut go_on)
}

fn roll(vfs: &dyn Vfs, increment: &str, copy: &str) -> crate::Result<ApplyReport> {
    apply(vfs, Path::new(increment), Path::new(copy), &mut go_on)
}

/// A copy that ends with segment 5, and an increment with segments 3 to 7.
fn stage() -> MemVfs {
    let vfs = MemVfs::new();
    copy(&vfs, &full(&vfs, 4..6), "copy").unwrap();
    copy(&vfs, &increment(&vfs, 3..8), "inc").unwrap();
    vfs
}

fn listed(vfs: &dyn Vfs, dir: &str) -> Vec<u32> {
    Manifest::load_copy(vfs, Path::new(dir)).unwrap().segments().map(|(n, _)| n).collect()
}

fn assert_whole(vfs: &dyn Vfs, dir: &str) {
    let manifest = Manifest::load_copy(vfs, Path::new(dir)).unwrap();
    assert!(manifest.sealed);
    manifest.check_present(vfs, Path::new(dir)).unwrap();
    for file in &manifest.files {
        assert_eq!(crate::manifest::checksums(vfs, &Path::new(dir).join(&file.name), file.size).unwrap(), file.pieces);
    }
    assert_eq!(manifest.strangers(vfs, Path::new(dir)).unwrap(), Vec::<String>::new());
}

#[test]
fn segments_travel_from_where_they_are_and_come_before_the_manifest() {
    let vfs = MemVfs::new();
    let plan = full(&vfs, 4..6);
    let items = plan.items(Path::new("home"));
    let kinds: Vec<_> = items.iter().map(BackupItem::kind).collect();
    use ItemKind::{Catalog, Manifest as List, Segment, Table};
    assert_eq!(kinds, [Catalog, Table, Segment, Segment, List]);
    assert_eq!(
        (items[2].name(), items[2].source()),
        ("StrandlineLog.0000000004", Path::new("wal/StrandlineLog.0000000004"))
    );
    let report = copy(&vfs, &plan, "copy").unwrap();
    assert_eq!(report.bytes, 2 * 8_192 + size(&vfs, 4..6));
    assert_whole(&vfs, "copy");
    assert_eq!(listed(&vfs, "copy"), [4, 5]);

    let base = plan.origin();
    let since = plan.since(Path::new("home"), base, |_| Ok(Content::Unchanged)).unwrap();
    let sources: Vec<_> = since.files().iter().map(BackupItem::source).collect();
    assert_eq!(sources, ["wal/StrandlineLog.0000000004", "wal/StrandlineLog.0000000005"].map(Path::new));

    let plan = increment(&vfs, 5..7);
    let names: Vec<_> = plan.items(Path::new("home")).iter().map(|i| i.name().to_owned()).collect();
    assert_eq!(
        names,
        ["StrandlineLog.0000000005", "StrandlineLog.0000000006", "Strandline.manifest.log.0000000005-0000000006"]
    );
}

#[test]
fn applying_adds_what_is_new_and_may_be_repeated() {
    let vfs = stage();
    let report = roll(&vfs, "inc", "copy").unwrap();
    assert_eq!(report.bytes, size(&vfs, 6..8), "segments 6 and 7");
    assert_eq!(listed(&vfs, "copy"), [4, 5, 6, 7]);
    assert_whole(&vfs, "copy");
    assert_eq!(report.manifest.rolled, Some(Rolled::Log));
    assert_eq!(roll(&vfs, "inc", "copy").unwrap().bytes, 0);
    copy(&vfs, &increment(&vfs, 7..10), "next").unwrap();
    assert_eq!(roll(&vfs, "next", "copy").unwrap().bytes, size(&vfs, 8..10));
    assert_eq!(roll(&vfs, "inc", "copy").unwrap().bytes, 0, "an older one has nothing to give");
    assert_eq!(listed(&vfs, "copy"), [4, 5, 6, 7, 8, 9]);
    assert_whole(&vfs, "copy");
}

#[test]
fn files_laid_beside_a_copy_by_hand_become_part_of_it() {
    let vfs = stage();
    for entry in vfs.read_dir(Path::new("inc")).unwrap() {
        let from = Path::new("inc").join(&entry.name);
        let bytes = crate::manifest::checksums(&vfs, &from, 1).unwrap();
        assert_eq!(bytes.len(), 1);
        vfs.rename(&from, &Path::new("copy").join(&entry.name)).unwrap();
    }
    vfs.remove_dir(Path::new("inc")).unwrap();
    assert_eq!(listed(&vfs, "copy"), [4, 5, 6, 7]);
    copy(&vfs, &increment(&vfs, 8..9), "inc").unwrap();
    restore_files(&vfs, Path::new("copy"), Path::new("there"), &RestoreOptions::default(), &mut go_on).unwrap();
    assert_eq!(listed(&vfs, "there"), [4, 5, 6, 7]);
    assert_whole(&vfs, "there");
    // Segment 3 came by hand and is none of the copy.
    vfs.remove_file(Path::new("copy/StrandlineLog.0000000003")).unwrap();
    roll(&vfs, "inc", "copy").unwrap();
    assert_eq!(listed(&vfs, "copy"), [4, 5, 6, 7, 8]);
    assert_whole(&vfs, "copy");
    assert!(names(&vfs, "copy").iter().all(|n| !n.starts_with("Strandline.manifest.log")));
}

/// Whatever call fails, the copy is what it was or what it will be, and the same call again finishes.
#[test]
fn an_apply_that_dies_anywhere_is_repeated() {
    let changes =
        [Call::Write, Call::SetLen, Call::SyncAll, Call::SyncDir, Call::Rename, Call::RemoveFile, Call::Create];
    let mut cut = 0;
    loop {
        let vfs = stage();
        // One increment lies there by hand already, so that there is something to clean up as well.
        copy(&vfs, &increment(&vfs, 6..7), "hand").unwrap();
        for name in names(&vfs, "hand") {
            vfs.rename(&Path::new("hand").join(&name), &Path::new("copy").join(&name)).unwrap();
        }
        let faulty = FaultVfs::new(Arc::new(vfs.clone()));
        faulty.inject(Fault::on_any(changes).after(cut).for_ever().error(std::io::ErrorKind::Other));
        let done = roll(&faulty, "inc", "copy");
        let now = listed(&vfs, "copy");
        assert!(now == [4, 5, 6] || now == [4, 5, 6, 7], "{cut}: {now:?}");
        let manifest = Manifest::load_copy(&vfs, Path::new("copy")).unwrap();
        manifest.check_present(&vfs, Path::new("copy")).unwrap();
        roll(&vfs, "inc", "copy").unwrap();
        assert_eq!(listed(&vfs, "copy"), [4, 5, 6, 7], "{cut}");
        assert_whole(&vfs, "copy");
        if done.is_ok() {
            break;
        }
        cut += 1;
    }
    assert!(cut > 8, "{cut}");
}

#[test]
fn what_does_not_fit_is_refused_before_the_copy_changes() {
    type Harm = fn(&MemVfs);
    let wrong: [(Harm, ErrorKind, &str); 9] = [
        (|v| vfs_remove(v, "inc/StrandlineLog.0000000006"), ErrorKind::Corrupt, "StrandlineLog.0000000006 is missing"),
        (|v| cut(v, "inc/StrandlineLog.0000000007"), ErrorKind::Corrupt, "StrandlineLog.0000000007 has 10 of "),
        (|v| flip(v, "inc/StrandlineLog.0000000007", 5_000), ErrorKind::Corrupt, "checksum"),
        (|v| vfs_remove(v, "copy/StrandlineLog.0000000005"), ErrorKind::Corrupt, "StrandlineLog.0000000005 is missing"),
        (|v| write(v, Path::new("copy/Strandline.root"), 9, 7), ErrorKind::WrongBase, "opened as a database"),
        (|v| cut(v, "inc/Strandline.manifest.log.0000000003-0000000007"), ErrorKind::Corrupt, "incomplete"),
        (|v| vfs_remove(v, "copy/Strandline.manifest"), ErrorKind::NotFound, "no manifest"),
        (
            |v| v.rename(Path::new("copy/Strandline.manifest"), Path::new("copy/Strandline.manifest.base")).unwrap(),
            ErrorKind::WrongBase,
            "not finished",
        ),
        (
            |v| {
                vfs_remove(v, "inc/Strandline.manifest.log.0000000003-0000000007");
                let far = increment(v, 7..8).manifest().clone();
                far.store(v, Path::new("inc")).unwrap();
            },
            ErrorKind::WrongBase,
            "ends before segment 6",
        ),
    ];
    for (harm, kind, text) in wrong {
        let vfs = stage();
        harm(&vfs);
        let before = names(&vfs, "copy");
        let e = roll(&vfs, "inc", "copy").unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(text), "{e}");
        assert_eq!(names(&vfs, "copy"), before, "{e}");
    }
}

fn vfs_remove(vfs: &MemVfs, path: &str) {
    vfs.remove_file(Path::new(path)).unwrap();
}

fn flip(vfs: &MemVfs, path: &str, at: u64) {
    let file = vfs.open(Path::new(path), OpenOptions::write()).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn cut(vfs: &MemVfs, path: &str) {
    vfs.open(Path::new(path), OpenOptions::write()).unwrap().set_len(10).unwrap();
}

#[test]
fn an_increment_alone_is_no_copy() {
    let vfs = stage();
    let whole = RestoreOptions::default();
    let e = restore_files(&vfs, Path::new("inc"), Path::new("there"), &whole, &mut go_on).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongBase);
    assert!(e.to_string().contains("segments 3 to 7"), "{e}");
    let e = roll(&vfs, "copy", "inc").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongBase, "{e}");
}

#[test]
fn chains_are_of_one_kind() {
    let vfs = stage();
    roll(&vfs, "inc", "copy").unwrap();
    let base = full(&vfs, 4..8);
    let since = base.origin();
    let blocks = base.since(Path::new("home"), since, |_| Ok(Content::Unchanged)).unwrap();
    copy(&vfs, &blocks, "blocks").unwrap();
    let e = roll(&vfs, "blocks", "copy").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
}

/// Another log of the same numbers, or the same log under other numbers, is seen by its segments' heads even when nothing
/// else could tell.
#[test]
fn segments_that_do_not_join_are_refused_by_name() {
    let unsealed = |vfs: &MemVfs| {
        let mut manifest = Manifest::load_any(vfs, Path::new("inc")).unwrap();
        manifest.sealed = false;
        manifest.store(vfs, Path::new("inc")).unwrap();
    };
    let swap = |vfs: &MemVfs, from: &str, to: &str| {
        let size = vfs.metadata(Path::new(to)).unwrap().unwrap().len;
        vfs.rename(Path::new(from), Path::new(to)).unwrap();
        vfs.open(Path::new(to), OpenOptions::write()).unwrap().set_len(size).unwrap();
    };
    let vfs = stage();
    unsealed(&vfs);
    swap(&vfs, "wal/StrandlineLog.0000000009", "inc/StrandlineLog.0000000006");
    let e = roll(&vfs, "inc", "copy").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    assert!(e.to_string().contains("segment 9") && e.to_string().contains("0000000006"), "{e}");

    // A history that forked after segment 4: its segment 6 continues another segment 5.
    let (vfs, other) = (stage(), MemVfs::new());
    unsealed(&vfs);
    let (segments, _) = segments(&other, 4..7);
    let mut head = header_of(&other, &segments[2].source).unwrap();
    let target = Path::new("inc/StrandlineLog.0000000006");
    for (previous, lineage) in [(Lsn { segment: 5, offset: 7_777 }, LINEAGE), (head.previous, Lineage(6))] {
        (head.previous, head.lineage) = (previous, lineage);
        vfs.open(target, OpenOptions::write()).unwrap().write_all_at(&head.encode(), 0).unwrap();
        let e = roll(&vfs, "inc", "copy").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::WrongBase);
        assert_eq!(e.location().unwrap().file, target, "{e}");
    }
    write(&vfs, target, 0, 100_000);
    assert_eq!(roll(&vfs, "inc", "copy").unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Every byte that a record needs is looked at.
#[test]
fn verification_reads_the_log() {
    let vfs = stage();
    let dynamic: Arc<dyn Vfs> = Arc::new(vfs.clone());
    let inc = || verify_copy(&dynamic, Path::new("inc"), VerifyCopyOptions::default(), &mut go_on).unwrap();
    let report = inc();
    assert_eq!((report.findings.len(), report.log_records), (0, 3 + 4 + 5 + 6 + 7));
    // Unsealed, so that only the log itself can tell.
    let mut manifest = report.manifest;
    manifest.sealed = false;
    manifest.store(&vfs, Path::new("inc")).unwrap();
    let last = "inc/StrandlineLog.0000000007";
    for at in [0, 9, 20, 4_096, 4_100, 4_400, 5_000, 7_500] {
        flip(&vfs, last, at);
        let report = inc();
        assert!(!report.is_sound(), "byte {at}");
        let found = report.findings.iter().find(|f| f.severity == Severity::Damage).unwrap();
        assert_eq!(found.file, Path::new(last), "{}", found.what);
        flip(&vfs, last, at);
    }
    assert!(inc().is_sound());
    vfs_remove(&vfs, "inc/StrandlineLog.0000000005");
    assert!(!inc().is_sound());
}
