//! The copy engine over plain memory. Covers: K1, K6, K7, S1, S2.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::mem::MemVfs;
use strandline_vfs::trace::TraceVfs;
use strandline_vfs::{OpenOptions, Vfs};

use super::restore::{restore_files, restore_stream_files};
use super::*;
use crate::audit::fixture::{self, Wrong};
use crate::catalog::RootRecord;
use crate::error::ErrorKind;
use crate::options::Settings;
use crate::types::{CheckpointSeq, Lineage, Lsn, TableId};

const HOME: &str = "home";
const COPY: &str = "copy";

fn go_on(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn fill(vfs: &MemVfs, path: &Path, len: usize) {
    let bytes: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
    vfs.open(path, OpenOptions::create()).unwrap().write_all_at(&bytes, 0).unwrap();
}

fn contents(vfs: &MemVfs, path: &Path) -> Vec<u8> {
    let file = vfs.open(path, OpenOptions::read()).unwrap();
    let mut out = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut out, 0).unwrap();
    out
}

fn names(vfs: &MemVfs, dir: &str) -> Vec<String> {
    vfs.read_dir(Path::new(dir)).unwrap().into_iter().map(|e| e.name.to_string_lossy().into_owned()).collect()
}

/// A home of three tables: `a` of a few pieces, `b` small, `empty` without a file. All grow beyond the checkpoint.
fn home(vfs: &MemVfs, size_a: usize) -> Plan {
    vfs.create_dir(Path::new(HOME)).unwrap();
    let at = |name: &str| Path::new(HOME).join(name);
    fill(vfs, &at("Strandline.catalog"), 8192 + 100);
    fill(vfs, &at("table-00000001.sl"), size_a + 4096);
    fill(vfs, &at("table-00000002.sl"), 4096);
    let head = PlanHead {
        lineage: Lineage(5),
        sequence: CheckpointSeq::major(3),
        backup: 9,
        time_ms: 77,
        root: vec![9; 40],
        checkpoints: Vec::new(),
        catalog_size: Some(8192),
        log_end: Lsn::default(),
    };
    Plan::new(Path::new(HOME), head, tables(size_a), &[], &[]).unwrap()
}

fn tables(size_a: usize) -> Vec<PlanTable> {
    let table = |name: &str, id, size| PlanTable { name: name.into(), id: TableId(id), size };
    vec![table("b", 2, Some(4096)), table("a", 1, Some(size_a as u64)), table("empty", 3, None)]
}

fn copy(vfs: &MemVfs, plan: &Plan) -> crate::Result<BackupReport> {
    copy_to(vfs, plan, vfs, Path::new(COPY), CopyOptions::default(), &mut go_on)
}

fn stream(vfs: &MemVfs, plan: &Plan) -> Vec<u8> {
    let mut out = Vec::new();
    stream_to(vfs, plan, &mut out, CopyOptions::default(), &mut go_on).unwrap();
    out
}

#[test]
fn a_copy_has_what_the_checkpoint_had() {
    let vfs = MemVfs::new();
    let plan = home(&vfs, (2 << 20) + 4096);
    let report = copy(&vfs, &plan).unwrap();
    assert_eq!((report.files, report.bytes, report.filled), (3, plan.bytes(), 0));
    assert_eq!(
        names(&vfs, COPY),
        ["Strandline.catalog", "Strandline.manifest", "table-00000001.sl", "table-00000002.sl"]
    );
    for f in &report.manifest.files {
        let whole = contents(&vfs, &Path::new(HOME).join(&f.name));
        assert_eq!(contents(&vfs, &Path::new(COPY).join(&f.name)), whole[..f.size as usize]);
    }
    assert_eq!(Manifest::load(&vfs, Path::new(COPY)).unwrap(), report.manifest);
    assert!(report.manifest.sealed);
    let kinds: Vec<_> = plan.items(Path::new(HOME)).iter().map(|i| (i.kind(), i.table().map(str::to_owned))).collect();
    let expected = [
        (ItemKind::Catalog, None),
        (ItemKind::Table, Some("a".to_owned())),
        (ItemKind::Table, Some("b".to_owned())),
        (ItemKind::Manifest, None),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn the_target_must_be_vacant() {
    let vfs = MemVfs::new();
    let plan = home(&vfs, 4096);
    vfs.create_dir(Path::new(COPY)).unwrap();
    fill(&vfs, &Path::new(COPY).join("mine"), 3);
    assert_eq!(copy(&vfs, &plan).unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(names(&vfs, COPY), ["mine"]);
    vfs.remove_file(&Path::new(COPY).join("mine")).unwrap();
    copy(&vfs, &plan).unwrap();
}

#[test]
fn a_short_source_is_filled_and_a_missing_one_refused() {
    let vfs = MemVfs::new();
    let plan = home(&vfs, 3 << 20);
    let table = Path::new(HOME).join("table-00000001.sl");
    vfs.open(&table, OpenOptions::write()).unwrap().set_len(1_500_000).unwrap();
    let report = copy(&vfs, &plan).unwrap();
    assert_eq!(report.filled, (3 << 20) - 1_500_000);
    assert_eq!(contents(&vfs, &Path::new(COPY).join("table-00000001.sl")).len(), 3 << 20);
    vfs.remove_file(&table).unwrap();
    let e = copy_to(&vfs, &plan, &vfs, Path::new("other"), CopyOptions::default(), &mut go_on).unwrap_err();
    assert_eq!((e.kind(), &e.location().unwrap().file), (ErrorKind::Corrupt, &table));
    assert!(vfs.metadata(Path::new("other")).unwrap().is_none(), "nothing is left of it");
}

#[test]
fn stopping_leaves_nothing() {
    let vfs = MemVfs::new();
    let plan = home(&vfs, 3 << 20);
    for calls in 0.. {
        let mut left = calls;
        let mut stop = |p: &Progress<'_>| {
            assert!(p.bytes_done <= p.bytes_total && p.files_done <= p.files_total);
            left -= 1;
            if left < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match copy_to(&vfs, &plan, &vfs, Path::new(COPY), CopyOptions::default(), &mut stop) {
            Ok(_) => {
                assert_eq!(calls, 8, "one call per piece and one per file");
                break;
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::Cancelled),
        }
        assert!(vfs.metadata(Path::new(COPY)).unwrap().is_none());
    }
}

#[test]
fn targeted_lists_only_the_named() {
    let vfs = MemVfs::new();
    let head = |plan: &Plan| PlanHead {
        lineage: plan.manifest().lineage,
        sequence: plan.manifest().sequence,
        backup: 1,
        time_ms: 0,
        root: Vec::new(),
        checkpoints: Vec::new(),
        catalog_size: Some(8192),
        log_end: Lsn::default(),
    };
    let full = home(&vfs, 4096);
    let plan = Plan::new(Path::new(HOME), head(&full), tables(4096), &[], &["b".into(), "empty".into()]).unwrap();
    assert_eq!(plan.manifest().kind, CopyKind::Targeted);
    assert_eq!(
        plan.files().iter().map(BackupItem::name).collect::<Vec<_>>(),
        ["Strandline.catalog", "table-00000002.sl"]
    );
    assert_eq!(plan.manifest().tables.iter().map(|t| &*t.name).collect::<Vec<_>>(), ["b", "empty"]);
    let e = Plan::new(Path::new(HOME), head(&full), tables(4096), &[], &["nope".into()]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
}

#[test]
fn restore_equals_the_copy_or_refuses() {
    let vfs = MemVfs::new();
    let plan = home(&vfs, (1 << 20) + 8192);
    copy(&vfs, &plan).unwrap();
    let (from, to) = (Path::new(COPY), Path::new("dest"));
    restore_files(&vfs, from, to, &RestoreOptions::default(), &mut go_on).unwrap();
    for name in names(&vfs, COPY) {
        assert_eq!(contents(&vfs, &from.join(&name)), contents(&vfs, &to.join(&name)), "{name}");
    }
    let only = RestoreOptions { tables: vec!["b".into()], ..Default::default() };
    let report = restore_files(&vfs, from, Path::new("only"), &only, &mut go_on).unwrap();
    assert_eq!(names(&vfs, "only"), ["Strandline.catalog", "Strandline.manifest", "table-00000002.sl"]);
    assert_eq!(report.manifest.kind, CopyKind::Targeted);

    let table = from.join("table-00000001.sl");
    vfs.open(&table, OpenOptions::write()).unwrap().write_all_at(&[0xAA], (1 << 20) + 5).unwrap();
    let e = restore_files(&vfs, from, Path::new("bad"), &RestoreOptions::default(), &mut go_on).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    assert_eq!((&e.location().unwrap().file, e.location().unwrap().offset), (&table, Some(1 << 20)));
    assert!(vfs.metadata(Path::new("bad")).unwrap().is_none());
}

#[test]
fn a_stream_restores_to_the_same_copy() {
    let vfs = MemVfs::new();
    let plan = home(&vfs, (1 << 20) + 4096);
    copy(&vfs, &plan).unwrap();
    let mut bytes = stream(&vfs, &plan);
    bytes.extend_from_slice(b"something else");
    let mut input = &bytes[..];
    restore_stream_files(&vfs, &mut input, Path::new("dest"), &RestoreOptions::default(), &mut go_on).unwrap();
    assert_eq!(input, b"something else", "S2");
    assert_eq!(names(&vfs, COPY), names(&vfs, "dest"));
    for name in names(&vfs, COPY) {
        assert_eq!(contents(&vfs, &Path::new(COPY).join(&name)), contents(&vfs, &Path::new("dest").join(&name)));
    }
    let only = RestoreOptions { tables: vec!["a".into()], ..Default::default() };
    restore_stream_files(&vfs, &mut &bytes[..], Path::new("only"), &only, &mut go_on).unwrap();
    assert_eq!(names(&vfs, "only"), ["Strandline.catalog", "Strandline.manifest", "table-00000001.sl"]);
}

#[test]
fn every_changed_byte_and_every_cut_of_a_stream_is_seen() {
    let vfs = MemVfs::new();
    vfs.create_dir(Path::new(HOME)).unwrap();
    fill(&vfs, &PathBuf::from(HOME).join("Strandline.catalog"), 60);
    fill(&vfs, &PathBuf::from(HOME).join("table-00000001.sl"), 70);
    let (lineage, sequence) = (Lineage(1), CheckpointSeq::major(1));
    let head = PlanHead {
        lineage,
        sequence,
        backup: 1,
        time_ms: 1,
        root: vec![1; 10],
        checkpoints: Vec::new(),
        catalog_size: Some(60),
        log_end: Lsn::default(),
    };
    let table = PlanTable { name: "t".into(), id: TableId(1), size: Some(70) };
    let bytes = stream(&vfs, &Plan::new(Path::new(HOME), head, vec![table], &[], &[]).unwrap());
    let refuse = |input: &[u8], what: &str| {
        let restored =
            restore_stream_files(&vfs, &mut &*input, Path::new("dest"), &RestoreOptions::default(), &mut go_on);
        let e = restored.err().unwrap_or_else(|| panic!("{what} went unseen"));
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{what}: {e}");
        assert!(vfs.metadata(Path::new("dest")).unwrap().is_none(), "{what}");
        e
    };
    for i in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[i] ^= flip;
            refuse(&damaged, &format!("byte {i}"));
        }
        refuse(&bytes[..i], &format!("a cut at {i}"));
    }
    let cut = refuse(&bytes[..150], "a cut").to_string();
    insta::assert_snapshot!(cut, @"(stream) at byte 138: the stream is cut or damaged in Strandline.catalog after 60 bytes: the stream ends too early; send the backup again, or restore from another copy");
    // Whole frames lost, doubled, exchanged.
    let frames = frames_of(&bytes);
    for i in 1..frames.len() {
        let without: Vec<u8> =
            frames.iter().enumerate().filter(|(n, _)| *n != i).flat_map(|(_, f)| f.clone()).collect();
        refuse(&without, &format!("frame {i} lost"));
        let mut moved = frames.clone();
        moved.swap(i, i - 1);
        refuse(&moved.concat(), &format!("frame {i} moved"));
        if i + 1 < frames.len() {
            let mut doubled = frames.clone();
            doubled.insert(i, frames[i].clone());
            refuse(&doubled.concat(), &format!("frame {i} doubled"));
        }
    }
}

/// The head and the frames of a stream.
fn frames_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut out = vec![bytes[..16].to_vec()];
    let mut at = 16;
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at + 1..at + 5].try_into().unwrap()) as usize;
        out.push(bytes[at..at + 9 + len].to_vec());
        at += 9 + len;
    }
    out
}

#[test]
fn a_forged_stream_cannot_leave_the_directory() {
    let vfs = MemVfs::new();
    for name in ["../evil", "/evil", "Strandline.root", "notes.txt", ""] {
        let mut bytes = Vec::new();
        let mut sink = StreamSink::new(&mut bytes).unwrap();
        sink.begin(name, 0).unwrap();
        let e = restore_stream_files(&vfs, &mut &bytes[..], Path::new("dest"), &RestoreOptions::default(), &mut go_on);
        assert_eq!(e.unwrap_err().kind(), ErrorKind::Corrupt, "{name}");
    }
    assert!(vfs.read_dir(Path::new("/")).unwrap().is_empty());
}

#[test]
fn sizes_in_a_stream_allocate_nothing() {
    let mut bytes = Vec::new();
    let mut sink = StreamSink::new(&mut bytes).unwrap();
    sink.begin("Strandline.catalog", u64::MAX).unwrap();
    sink.piece(0, b"x", crc32fast::hash(b"x")).unwrap();
    let vfs = MemVfs::new();
    let e = restore_stream_files(&vfs, &mut &bytes[..], Path::new("dest"), &RestoreOptions::default(), &mut go_on);
    assert_eq!(e.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn files_of_many_tables_stay_in_order() {
    let vfs = MemVfs::new();
    vfs.create_dir(Path::new(HOME)).unwrap();
    fill(&vfs, &Path::new(HOME).join("Strandline.catalog"), 4096);
    let mut tables = Vec::new();
    let mut expected = BTreeMap::new();
    for id in 1..=50u64 {
        let file = TableId(id).file_name();
        fill(&vfs, &Path::new(HOME).join(&file), 4096 + id as usize);
        expected.insert(file, 4096 + id);
        tables.push(PlanTable { name: format!("t{id}"), id: TableId(id), size: Some(4096 + id) });
    }
    let (lineage, sequence) = (Lineage(1), CheckpointSeq::major(1));
    let head = PlanHead {
        lineage,
        sequence,
        backup: 1,
        time_ms: 1,
        root: Vec::new(),
        checkpoints: Vec::new(),
        catalog_size: Some(4096),
        log_end: Lsn::default(),
    };
    let plan = Plan::new(Path::new(HOME), head, tables, &[], &[]).unwrap();
    copy(&vfs, &plan).unwrap();
    for (name, size) in expected {
        assert_eq!(vfs.metadata(&Path::new(COPY).join(name)).unwrap().unwrap().len, size);
    }
    assert_eq!(names(&vfs, COPY).len(), 52);
}

/// The order that K7 rests on: files synced, renamed, directory synced, manifest synced, renamed, directory synced.
#[test]
fn the_manifest_comes_last_and_everything_is_synced_before() {
    let vfs = MemVfs::new();
    let plan = home(&vfs, (1 << 20) + 4096);
    let trace = TraceVfs::new(Arc::new(vfs), "/");
    copy_to(&trace, &plan, &trace, Path::new("/copy"), CopyOptions::default(), &mut go_on).unwrap();
    insta::assert_snapshot!(trace.durability_text(), @r"
    create_dir  copy
    sync_dir    .
    create      copy/Strandline.catalog.copy
    write       copy/Strandline.catalog.copy 0+8192
    create      copy/table-00000001.sl.copy
    write       copy/table-00000001.sl.copy 0+1052672
    create      copy/table-00000002.sl.copy
    write       copy/table-00000002.sl.copy 0+4096
    sync_all    copy/Strandline.catalog.copy
    sync_all    copy/table-00000001.sl.copy
    sync_all    copy/table-00000002.sl.copy
    rename      copy/Strandline.catalog.copy -> copy/Strandline.catalog
    rename      copy/table-00000001.sl.copy -> copy/table-00000001.sl
    rename      copy/table-00000002.sl.copy -> copy/table-00000002.sl
    sync_dir    copy
    create      copy/Strandline.manifest.copy
    set_len     copy/Strandline.manifest.copy 0
    write       copy/Strandline.manifest.copy 0+207
    sync_all    copy/Strandline.manifest.copy
    rename      copy/Strandline.manifest.copy -> copy/Strandline.manifest
    sync_dir    copy
    ");
}

/// The plan of a backup of the small real home of the audit's tests.
fn real_home() -> (fixture::Home, Plan) {
    let home = fixture::home(HOME, Wrong::default());
    let mut root = RootRecord::new(Settings { unit: fixture::UNIT, ..Settings::default() }, Lineage(5));
    root.newest = home.record.clone();
    let head = PlanHead {
        lineage: Lineage(5),
        sequence: home.record.seq,
        backup: 9,
        time_ms: 77,
        root: root.encode(0),
        checkpoints: vec![home.older.seq],
        catalog_size: Some(home.record.catalog_bytes),
        log_end: Lsn::default(),
    };
    let tables = vec![
        PlanTable { name: "t".into(), id: TableId(1), size: home.entry.space.as_ref().map(|s| s.size) },
        PlanTable { name: "empty".into(), id: TableId(2), size: None },
    ];
    let plan = Plan::new(Path::new(HOME), head, tables, &[], &[]).unwrap();
    (home, plan)
}

fn verified(vfs: &Arc<dyn Vfs>, dir: &str) -> CopyReport {
    verify_copy(vfs, Path::new(dir), VerifyCopyOptions::default(), &mut go_on).unwrap()
}

#[test]
fn a_good_copy_verifies_and_restores() {
    let (home, plan) = real_home();
    copy(&home.mem, &plan).unwrap();
    let report = verified(&home.vfs, COPY);
    assert_eq!((report.findings.len(), report.rows), (0, 3));
    assert!(report.strangers.is_empty() && report.is_sound());
    restore(&home.vfs, Path::new(COPY), Path::new("dest"), &RestoreOptions::default(), &mut go_on).unwrap();
    assert_eq!(verified(&home.vfs, "dest").findings, []);
    let bytes = stream(&home.mem, &plan);
    let only = RestoreOptions { tables: vec!["empty".into()], ..Default::default() };
    restore_stream(&home.vfs, &mut &bytes[..], Path::new("piped"), &only, &mut go_on).unwrap();
    assert_eq!(names(&home.mem, "piped"), ["Strandline.catalog", "Strandline.manifest"]);
    assert_eq!(verified(&home.vfs, "piped").findings, []);
}

#[test]
fn every_changed_byte_of_a_copy_is_seen_by_its_piece() {
    let (home, plan) = real_home();
    copy(&home.mem, &plan).unwrap();
    for f in &plan.manifest().files {
        let file = home.mem.open(&Path::new(COPY).join(&f.name), OpenOptions::write()).unwrap();
        for offset in (0..f.size).step_by(7) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            file.write_all_at(&[!byte[0]], offset).unwrap();
            let report = verified(&home.vfs, COPY);
            assert!(!report.is_sound(), "byte {offset} of {}", f.name);
            assert!(report.into_result().unwrap_err().to_string().contains(&f.name));
            file.write_all_at(&byte, offset).unwrap();
        }
    }
    assert!(verified(&home.vfs, COPY).is_sound());
}

#[test]
fn quick_verification_looks_at_sizes_and_strangers_are_no_damage() {
    let (home, plan) = real_home();
    copy(&home.mem, &plan).unwrap();
    fill(&home.mem, &Path::new(COPY).join("notes.txt"), 5);
    let table = home.mem.open(&Path::new(COPY).join("table-00000001.sl"), OpenOptions::write()).unwrap();
    table.write_all_at(&[0xFF; 10], 4200).unwrap();
    let quick = VerifyCopyOptions { quick: true, ..Default::default() };
    let report = verify_copy(&home.vfs, Path::new(COPY), quick, &mut go_on).unwrap();
    assert!(report.is_sound());
    assert_eq!(report.strangers, ["notes.txt"]);
    table.set_len(4300).unwrap();
    let report = verify_copy(&home.vfs, Path::new(COPY), quick, &mut go_on).unwrap();
    assert!(report.findings[0].to_string().contains("has 4300 of"), "{}", report.findings[0]);
}

/// A foreign copier brings damage before anybody summed the pieces: the blocks still tell.
#[test]
fn blocks_vouch_for_an_unsealed_copy() {
    let (home, plan) = real_home();
    home.vfs.create_dir(Path::new(COPY)).unwrap();
    for item in plan.files() {
        let bytes = contents(&home.mem, item.source());
        let file = home.mem.open(&Path::new(COPY).join(item.name()), OpenOptions::create_new()).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        if item.kind() == ItemKind::Table {
            file.write_all_at(&[0xFF; 10], 4200).unwrap();
        }
    }
    plan.manifest().store(&home.mem, Path::new(COPY)).unwrap();
    let report = verified(&home.vfs, COPY);
    assert_eq!(report.findings[0].severity, Severity::Warning, "it is not sealed");
    assert!(!report.is_sound());
    Manifest::seal(&home.mem, Path::new(COPY)).unwrap();
    assert!(!verified(&home.vfs, COPY).is_sound(), "sealing damage does not make it good");
    let e = restore(&home.vfs, Path::new(COPY), Path::new("dest"), &RestoreOptions::default(), &mut go_on).unwrap_err();
    assert_eq!((e.kind(), e.location().unwrap().offset), (ErrorKind::Corrupt, Some(4096)));
    assert!(home.vfs.metadata(Path::new("dest")).unwrap().is_none());
}
