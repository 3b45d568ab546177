//! Covers: K6 (no damaged manifest is believed), M1.

use strandline_vfs::mem::MemVfs;

use super::*;

fn example(sealed: bool) -> Manifest {
    let pieces = |crcs: &[u32]| if sealed { crcs.to_vec() } else { Vec::new() };
    Manifest {
        kind: CopyKind::Full,
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
                table: TableId(0),
                size: 8192,
                content: Content::Whole,
                pieces: pieces(&[0xdead_beef]),
            },
            ManifestFile {
                name: "table-00000003.sl".into(),
                table: TableId(3),
                size: (1 << 20) + 1,
                content: Content::Whole,
                pieces: pieces(&[1, 2]),
            },
            ManifestFile {
                name: "table-00000001.sl".into(),
                table: TableId(1),
                size: 0,
                content: Content::Whole,
                pieces: Vec::new(),
            },
        ],
        removed: vec!["table-00000002.sl".into()],
    }
}

#[test]
fn round_trip_is_canonical() {
    for m in [example(true), example(false)] {
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
    for bytes in [example(true).encode(), increment().encode()] {
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

quickcheck::quickcheck! {
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) -> bool {
        let _ = Manifest::decode(&bytes);
        true
    }
}
