//! Covers: K6 (no damaged manifest is believed), M1.

use strandline_vfs::mem::MemVfs;

use super::*;
use crate::catalog::RootRecord;
use crate::options::Settings;
use crate::types::LogPosition;

fn example(sealed: bool) -> Manifest {
    let pieces = |crcs: &[u32]| if sealed { crcs.to_vec() } else { Vec::new() };
    Manifest {
        kind: CopyKind::Full,
        rolled: None,
        sealed,
        lineage: Lineage(0x1122_3344_5566_7788),
        sequence: CheckpointSeq::major(7),
        backup: 42,
        time_ms: 1_000,
        root: vec![1, 2, 3],
        checkpoints: vec![CheckpointSeq::major(2), CheckpointSeq::major(5)],
        tables: vec![
            ManifestTable { name: "a".into(), id: TableId(3) },
            ManifestTable { name: "b".into(), id: TableId(1) },
            ManifestTable { name: "empty".into(), id: TableId(9) },
        ],
        files: vec![
            ManifestFile {
                name: "Strandline.catalog".into(),
                role: FileRole::Catalog,
                size: 8192,
                content: Content::Whole,
                pieces: pieces(&[0xdead_beef]),
            },
            ManifestFile {
                name: "table-00000003.sl".into(),
                role: FileRole::Table(TableId(3)),
                size: (1 << 20) + 1,
                content: Content::Whole,
                pieces: pieces(&[1, 2]),
            },
            ManifestFile {
                name: "table-00000001.sl".into(),
                role: FileRole::Table(TableId(1)),
                size: 0,
                content: Content::Whole,
                pieces: Vec::new(),
            },
        ],
        log_end: None,
        removed: vec!["table-00000002.sl".into()],
    }
}

fn segment(number: u32, sealed: bool) -> ManifestFile {
    let role = FileRole::Segment(number);
    let pieces = if sealed { vec![number] } else { Vec::new() };
    ManifestFile { name: role.file_name(), role, size: 8192, content: Content::Whole, pieces }
}

/// A full copy whose log is that of segments 4 and 5.
fn logged(sealed: bool) -> Manifest {
    let mut m = example(sealed);
    let mut root = RootRecord::new(Settings::default(), m.lineage);
    root.newest.seq = m.sequence;
    root.newest.log = Some(LogPosition { lineage: m.lineage, lsn: Lsn { segment: 4, offset: 512 } });
    m.root = root.encode(0);
    m.files.extend([segment(4, sealed), segment(5, sealed)]);
    m.log_end = Some(Lsn { segment: 5, offset: 8000 });
    m
}

fn log_increment(first: u32, next: u32, sealed: bool) -> Manifest {
    Manifest {
        kind: CopyKind::Log { previous: Lsn::default(), complete: Lsn::default(), first, next },
        sealed,
        lineage: example(true).lineage,
        backup: 43,
        time_ms: 2_000,
        files: (first..next).map(|n| segment(n, sealed)).collect(),
        log_end: (first < next).then_some(Lsn { segment: next - 1, offset: 7000 }),
        ..Manifest::empty()
    }
}

#[test]
fn round_trip_is_canonical() {
    let mut rolled = logged(true);
    rolled.rolled = Some(Rolled::Log);
    let more = [logged(true), logged(false), rolled, log_increment(3, 7, true), log_increment(9, 9, false)];
    for m in more.into_iter().chain([example(true), example(false)]) {
        let bytes = m.encode();
        let again = Manifest::decode(&bytes).unwrap();
        assert_eq!(again, m);
        assert_eq!(again.encode(), bytes);
    }
}

fn increment() -> Manifest {
    let mut m = example(true);
    m.kind = CopyKind::Increment(Origin { lineage: m.lineage, sequence: CheckpointSeq::major(4) });
    let ranges = vec![Extent { offset: 0, len: 4096 }, Extent { offset: 8192, len: 512 }];
    m.files[1].content = Content::Ranges(ranges);
    m.files[1].pieces = vec![5];
    m.files[2].content = Content::Unchanged;
    m
}

#[test]
fn an_increment_tells_what_is_stored() {
    let m = increment();
    assert_eq!(Manifest::decode(&m.encode()).unwrap(), m);
    assert_eq!(m.bytes(), 8192 + 4608);
    assert_eq!(m.check_opens().unwrap_err().kind(), ErrorKind::WrongBase);
    let mut full = m;
    full.kind = CopyKind::Full;
    assert!(Manifest::decode(&full.encode()).is_err(), "a full copy has whole files");
}

#[test]
fn every_changed_byte_and_every_cut_is_seen() {
    let bytes = example(true).encode();
    for i in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[i] ^= flip;
            let e = Manifest::decode(&damaged).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Corrupt, "byte {i}: {e}");
        }
        assert_eq!(Manifest::decode(&bytes[..i]).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    let mut longer = bytes;
    longer.push(0);
    assert_eq!(Manifest::decode(&longer).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// The same damage under a checksum made to fit: the decoder must refuse or understand, never panic or allocate wildly.
#[test]
fn a_forged_checksum_leads_to_no_panic() {
    for bytes in
        [example(true).encode(), increment().encode(), logged(true).encode(), log_increment(3, 5, true).encode()]
    {
        let end = bytes.len() - 4;
        for i in 8..end {
            for value in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let mut forged = bytes.clone();
                forged[i] = value;
                let crc = crc32fast::hash(&forged[..end]);
                forged[end..].copy_from_slice(&crc.to_le_bytes());
                if let Ok(m) = Manifest::decode(&forged) {
                    assert_eq!(m.encode(), forged, "byte {i} = {value}");
                }
            }
        }
    }
}

#[test]
fn a_newer_version_is_named() {
    let mut bytes = example(true).encode();
    bytes[8] = 2;
    let end = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    let e = Manifest::decode(&bytes).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("version 2"), "{e}");
}

#[test]
fn narrowing_keeps_the_catalog_and_the_named() {
    let m = example(true).narrowed(&["a".into()]).unwrap();
    assert_eq!(m.kind, CopyKind::Targeted);
    let files: Vec<&str> = m.files.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(files, ["Strandline.catalog", "table-00000003.sl"]);
    let e = example(true).narrowed(&["a".into(), "zz".into()]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert!(e.to_string().contains("zz"));
}

#[test]
fn store_load_seal() {
    let vfs = MemVfs::new();
    let dir = Path::new("copy");
    vfs.create_dir(dir).unwrap();
    assert_eq!(Manifest::load(&vfs, dir).unwrap_err().kind(), ErrorKind::NotFound);
    let m = example(false);
    m.store(&vfs, dir).unwrap();
    assert_eq!(Manifest::load(&vfs, dir).unwrap(), m);
    let e = Manifest::seal(&vfs, dir).unwrap_err();
    for f in &m.files {
        assert!(e.to_string().contains(&format!("{} is missing", f.name)), "{e}");
    }
    for f in &m.files {
        let file = vfs.open(&dir.join(&f.name), OpenOptions::create()).unwrap();
        file.write_all_at(&vec![7; f.size as usize], 0).unwrap();
    }
    let sealed = Manifest::seal(&vfs, dir).unwrap();
    assert!(sealed.sealed);
    assert_eq!(sealed.files[1].pieces, [crc32fast::hash(&vec![7; 1 << 20]), crc32fast::hash(&[7])]);
    assert_eq!(Manifest::load(&vfs, dir).unwrap(), sealed);
    assert_eq!(Manifest::seal(&vfs, dir).unwrap(), sealed);
    assert!(sealed.strangers(&vfs, dir).unwrap().is_empty());
}

#[test]
fn a_short_file_is_named_with_both_lengths() {
    let vfs = MemVfs::new();
    let dir = Path::new("copy");
    vfs.create_dir(dir).unwrap();
    let m = example(false);
    for f in &m.files {
        vfs.open(&dir.join(&f.name), OpenOptions::create()).unwrap().set_len(100).unwrap();
    }
    let e = m.check_present(&vfs, dir).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    assert!(e.to_string().contains("Strandline.catalog has 100 of 8192 bytes"), "{e}");
    assert!(!e.to_string().contains("table-00000001.sl"), "{e}");
}

#[test]
fn printed_for_people() {
    insta::assert_snapshot!(example(true).to_string(), @r"
    manifest version 1, full, sealed
    origin 1122334455667788:7
    backup 000000000000002a, time 1000 ms
    checkpoint 2
    checkpoint 5
    table a id 3
    table b id 1
    table empty id 9
    file Strandline.catalog size 8192 pieces 1
    file table-00000003.sl size 1048577 pieces 2
    file table-00000001.sl size 0 pieces 0
    removed table-00000002.sl
    total 1056769 bytes in 3 files
    ");
}

#[test]
fn segments_stand_in_order_and_an_increment_from_the_log_is_nothing_else() {
    let refused = |m: &Manifest| Manifest::decode(&m.encode()).unwrap_err().to_string();
    let mut m = logged(true);
    m.files.swap(3, 4);
    assert!(refused(&m).contains("out of order"));
    m.files.swap(0, 4);
    assert!(refused(&m).contains("out of order"));
    let mut m = logged(true);
    m.files[4] = segment(4, true);
    assert!(refused(&m).contains("out of order") || refused(&m).contains("twice"));
    for end in [None, Some((4, 8000)), Some((5, 0)), Some((5, 8193))] {
        let log_end = end.map(|(segment, offset)| Lsn { segment, offset });
        assert!(refused(&Manifest { log_end, ..logged(true) }).contains("does not end in its last segment"));
    }
    m.files[4] = ManifestFile { name: "StrandlineLog.0000000006".into(), ..segment(5, true) };
    assert!(refused(&m).contains("StrandlineLog.0000000006"));
    m.files[4] = ManifestFile { size: 1 << 33, pieces: vec![0; 1 << 13], ..segment(5, true) };
    assert!(refused(&m).contains("cannot be a segment"));
    let kind = |first, next| CopyKind::Log { previous: Lsn::default(), complete: Lsn::default(), first, next };
    for (first, next) in [(3, 5), (2, 7), (4, 7), (3, 8), (7, 3)] {
        refused(&Manifest { kind: kind(first, next), ..log_increment(3, 7, true) });
    }
    refused(&Manifest { kind: kind(3, 4), ..log_increment(3, 3, true) });
    let wrong: [fn(&mut Manifest); 5] = [
        |m| m.sequence = CheckpointSeq::major(1),
        |m| m.root = vec![1],
        |m| m.removed = vec!["table-00000002.sl".into()],
        |m| m.files.insert(0, example(true).files[0].clone()),
        |m| m.rolled = Some(Rolled::Log),
    ];
    for change in wrong {
        let mut m = log_increment(3, 7, true);
        change(&mut m);
        refused(&m);
    }
}

#[test]
fn a_copy_goes_on_with_the_log_that_joins() {
    let base = logged(true);
    assert_eq!(base.log().unwrap().unwrap().next, 6);
    assert_eq!(base.log_end, Some(Lsn { segment: 5, offset: 8000 }));
    for first in [1, 4, 5, 6] {
        let longer = base.extended(&log_increment(first, 9, true)).unwrap();
        assert_eq!(longer.segments().map(|(n, _)| n).collect::<Vec<_>>(), [4, 5, 6, 7, 8]);
        assert_eq!((longer.rolled, longer.sealed), (Some(Rolled::Log), true));
        assert_eq!(longer.log_end, Some(Lsn { segment: 8, offset: 7000 }));
        assert_eq!(Manifest::decode(&longer.encode()).unwrap(), longer);
        assert_eq!(longer.extended(&log_increment(2, 6, true)).unwrap(), longer, "it has that already");
    }
    assert_eq!(base.extended(&log_increment(3, 6, true)).unwrap(), base);
    assert_eq!(base.extended(&log_increment(6, 6, true)).unwrap(), base);
    assert!(!base.extended(&log_increment(6, 7, false)).unwrap().sealed);
    let catch_up = Manifest { backup: base.backup, ..log_increment(4, 7, true) };
    assert_eq!(base.extended(&catch_up).unwrap().rolled, None);
}

#[test]
fn a_log_that_does_not_join_is_refused_by_name() {
    let base = logged(true);
    let refused = |base: &Manifest, by: &Manifest| {
        let e = base.extended(by).unwrap_err();
        (e.kind(), e.to_string())
    };
    let (kind, text) = refused(&base, &log_increment(7, 9, true));
    assert_eq!(kind, ErrorKind::WrongBase);
    assert!(text.contains("ends before segment 6") && text.contains("begins with 7"), "{text}");
    let late = |offset| {
        let complete = Lsn { segment: 4, offset };
        Manifest {
            kind: CopyKind::Log { previous: Lsn::default(), complete, first: 4, next: 9 },
            ..log_increment(4, 9, true)
        }
    };
    base.extended(&late(512)).unwrap();
    assert!(refused(&base, &late(513)).1.contains("taken into the log at 4:513"));
    // A number was passed over, and the segment after it says so.
    let mut over = log_increment(7, 9, true);
    over.kind =
        CopyKind::Log { previous: Lsn { segment: 5, offset: 8000 }, complete: Lsn::default(), first: 7, next: 9 };
    let longer = base.extended(&over).unwrap();
    assert_eq!(longer.segments().map(|(n, _)| n).collect::<Vec<_>>(), [4, 5, 7, 8]);
    assert_eq!(Manifest::decode(&longer.encode()).unwrap(), longer);
    over.kind =
        CopyKind::Log { previous: Lsn { segment: 5, offset: 7999 }, complete: Lsn::default(), first: 7, next: 9 };
    assert_eq!(refused(&base, &over).0, ErrorKind::WrongBase);
    let foreign = Manifest { lineage: Lineage(1), ..log_increment(4, 9, true) };
    assert!(refused(&base, &foreign).1.contains("lineage 0000000000000001"));
    let mut other = log_increment(4, 9, true);
    other.files[1].pieces = vec![77];
    assert!(refused(&base, &other).1.contains("StrandlineLog.0000000005 is not the one"));
    other.files[1] = ManifestFile { size: 512, ..segment(5, true) };
    assert!(refused(&base, &other).1.contains("StrandlineLog.0000000005 is not the one"));
    assert_eq!(refused(&base, &logged(true)).0, ErrorKind::WrongBase);
    let targeted = Manifest { kind: CopyKind::Targeted, ..base.clone() };
    assert_eq!(refused(&targeted, &log_increment(4, 9, true)).0, ErrorKind::WrongBase);
    let blocks = Manifest { rolled: Some(Rolled::Blocks), ..base };
    assert_eq!(refused(&blocks, &log_increment(4, 9, true)).0, ErrorKind::InvalidArgument);
    let catch_up = Manifest { backup: blocks.backup, ..log_increment(4, 9, true) };
    assert_eq!(blocks.extended(&catch_up).unwrap().rolled, Some(Rolled::Blocks));

    let mut without = logged(true);
    let mut root = without.root_record().unwrap();
    root.newest.log = None;
    without.root = root.encode(0);
    assert_eq!(without.log().unwrap_err().kind(), ErrorKind::Corrupt, "segments of nothing");
    without.files.truncate(3);
    without.log_end = None;
    assert_eq!(without.log().unwrap(), None);
    assert!(refused(&without, &log_increment(4, 9, true)).1.contains("has no log"));
    let mut headless = logged(true);
    headless.files.truncate(3);
    assert_eq!(headless.log().unwrap_err().kind(), ErrorKind::Corrupt, "replay begins inside of a missing segment");
}

#[test]
fn increments_laid_beside_a_copy_are_read_with_it() {
    let vfs = MemVfs::new();
    let dir = Path::new("copy");
    vfs.create_dir(dir).unwrap();
    logged(true).store(&vfs, dir).unwrap();
    log_increment(5, 8, true).store(&vfs, dir).unwrap();
    log_increment(8, 11, true).store(&vfs, dir).unwrap();
    let both = Manifest::load_copy(&vfs, dir).unwrap();
    assert_eq!(both.segments().map(|(n, _)| n).collect::<Vec<_>>(), (4..11).collect::<Vec<_>>());
    assert_eq!(Manifest::load(&vfs, dir).unwrap(), logged(true), "each has its own file");

    vfs.remove_file(&dir.join(log_manifest_name(5, 8))).unwrap();
    let e = Manifest::load_copy(&vfs, dir).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongBase);
    assert_eq!(e.location().unwrap().file, dir.join("Strandline.manifest.log.0000000008-0000000010"));
    vfs.remove_file(&Manifest::path(dir)).unwrap();
    assert_eq!(Manifest::load_any(&vfs, dir).unwrap(), log_increment(8, 11, true));
    log_increment(5, 8, true).store(&vfs, dir).unwrap();
    assert_eq!(Manifest::load_any(&vfs, dir).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

quickcheck::quickcheck! {
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) -> bool {
        let _ = Manifest::decode(&bytes);
        true
    }
}
