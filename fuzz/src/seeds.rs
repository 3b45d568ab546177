//! Small valid inputs to start from, made by the engine itself.
//!
//! They are committed under `corpus/fuzz/<target>/`, so they are also golden files: an engine that no longer reads them
//! has changed a format.

use std::path::Path;
use std::sync::Arc;

use strandline::backup::{Sink, StreamSink};
use strandline::block::{BlockStore, Dead, DeadList, FileHeader, SpaceState};
use strandline::btree::TreeRoot;
use strandline::catalog::{
    CheckpointEntry, CheckpointRecord, Lists, PinnedRoot, RootRecord, TableEntry, TableState, table_key,
};
use strandline::manifest::{Content, CopyKind, FileRole, Manifest, ManifestFile, ManifestTable};
use strandline::options::Settings;
use strandline::page::{CellValue, LeafBuilder, PageAddr, Patch, encode_inner, encode_piece};
use strandline::record::CommitEncoder;
use strandline::{BlockAddr, CheckpointSeq, Extent, Lineage, LogPosition, Lsn, TableId};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{OpenOptions, Vfs};

/// One input: the target, a name, the bytes.
pub type Seed = (&'static str, &'static str, Vec<u8>);

/// All seeds, the same on every machine.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let mut out = Vec::new();
    block(&mut out);
    page(&mut out);
    catalog(&mut out);
    // Programs and made-up contents are numbers without a form of their own.
    let mut numbers = crate::Mutations::new(&[], 1);
    for (target, name, len) in [("home", "some", 40), ("hostile", "some", 600), ("tape", "some", 800)] {
        out.push((target, name, numbers.noise(len)));
    }
    out.push(("log", "two-segments", crate::log::a_log()));
    out.push(("log", "commit", a_commit()));
    out.push(("manifest", "full", a_manifest().encode()));
    out.push(("manifest", "log", a_log_increment().encode()));
    out.push(("stream", "one-file", a_stream()));
    out
}

fn addr(n: u64) -> BlockAddr {
    BlockAddr { offset: n * 4096, size: 4096, checksum: 0x5eed, birth: CheckpointSeq::major(n) }
}

fn block(out: &mut Vec<Seed>) {
    let header = FileHeader { table: TableId(7), unit: 512 };
    out.push(("block", "file-header", header.encode()));
    let vfs: Arc<dyn Vfs> = Arc::new(MemVfs::new());
    let store = BlockStore::new(Arc::clone(&vfs), "t", header.table, header.unit, None, CheckpointSeq::major(1));
    let addr = store.and_then(|s| s.write(b"the line of wrack", CheckpointSeq::major(1))).expect("memory has room");
    let mut bytes = vec![0; addr.size as usize];
    let file = vfs.open(Path::new("t"), OpenOptions::read());
    file.and_then(|f| f.read_exact_at(&mut bytes, addr.offset)).expect("it was just written");
    out.push(("block", "block", bytes));
    let ranges = [(4096, 512), (8192, 1024), (1 << 20, 4096)].map(|(offset, len)| Extent { offset, len });
    let mut state = Vec::new();
    SpaceState::new(2 << 20, ranges.to_vec()).encode(&mut state);
    out.push(("block", "space", state));
    let dead = ranges.iter().zip(1..).map(|(&extent, n)| Dead { extent, birth: CheckpointSeq::major(n) });
    let mut list = Vec::new();
    DeadList::new(dead.collect()).encode(&mut list);
    out.push(("block", "dead", list));
}

fn catalog(out: &mut Vec<Seed>) {
    let seq = CheckpointSeq::major(5);
    let record = CheckpointRecord {
        seq,
        name: Some("June".into()),
        time_ms: 1,
        bytes: 20_480,
        catalog: Some(TreeRoot { addr: addr(2), level: 0, overflow: false }),
        lists: Some(addr(3)),
        catalog_bytes: 16_384,
        log: Some(LogPosition { lineage: Lineage(0x11), lsn: Lsn { segment: 3, offset: 8192 } }),
    };
    let mut root = RootRecord::new(Settings::default(), Lineage(0x11));
    root.newest = record.clone();
    root.max_seq = seq;
    root.pinned = Some(PinnedRoot { backup: 99, record: record.clone() });
    root.fork(Lineage(0x12));
    out.push(("catalog", "slot-0", root.encode(0)));
    let dead = DeadList::new(vec![Dead { extent: addr(7).extent(), birth: seq }]);
    let space = SpaceState { size: 1 << 16, available: vec![Extent { offset: 8192, len: 4096 }] };
    let mut row = TableEntry::new(TableId(1), "key_format=S".into());
    let tree = TreeRoot { addr: addr(4), level: 1, overflow: true };
    row.states = vec![TableState { seq, root: Some(tree), size: 1 << 16, dead: dead.clone() }];
    row.space = Some(space.clone());
    out.push(("catalog", "table", row.encode()));
    out.push(("catalog", "checkpoint", CheckpointEntry { record, dead: dead.clone() }.encode()));
    out.push(("catalog", "lists", Lists { space, dead }.encode()));
    out.push(("catalog", "key", table_key("tides")));
}

fn page(out: &mut Vec<Seed>) {
    let mut leaf = LeafBuilder::new(b"tide/");
    for (key, value) in [("tide/ebb", "low"), ("tide/flood", ""), ("tide/spring", "high")] {
        leaf.push(key.as_bytes(), CellValue::Inline(value.as_bytes()));
    }
    out.push(("page", "leaf", leaf.finish().bytes().to_vec()));
    out.push(("page", "empty-leaf", LeafBuilder::new(b"").finish().bytes().to_vec()));
    let whole = |n| PageAddr::whole(addr(n));
    let children = [(&b""[..], whole(3)), (b"tide/f", whole(5)), (b"tide/s", whole(4))];
    out.push(("page", "inner", encode_inner(1, &children)));
    let changes = [(&b"tide/ebb"[..], None), (b"tide/neap", Some(CellValue::Inline(b"weak")))];
    let patch = Patch::new(&changes);
    out.push(("page", "patch", patch.bytes().to_vec()));
    let patched = PageAddr { addr: addr(5), patch: Some(patch) };
    out.push(("page", "patched", encode_inner(1, &[(&b""[..], whole(3)), (b"tide/f", patched)])));
    out.push(("page", "piece", encode_piece(b"part of a large value")));
}

fn a_commit() -> Vec<u8> {
    let mut commit = CommitEncoder::new(300, 0);
    commit.put(TableId(1), b"tide", b"low");
    commit.remove(TableId(1), b"ebb");
    commit.put(TableId(200), b"", b"");
    commit.finish()
}

fn a_manifest() -> Manifest {
    Manifest {
        kind: CopyKind::Full,
        rolled: None,
        sealed: true,
        lineage: Lineage(0x11),
        sequence: CheckpointSeq::major(5),
        backup: 99,
        time_ms: 1,
        root: b"root".to_vec(),
        checkpoints: vec![CheckpointSeq::major(2)],
        tables: vec![ManifestTable { name: "tides".into(), id: TableId(1) }],
        files: vec![ManifestFile {
            name: TableId(1).file_name(),
            role: FileRole::Table(TableId(1)),
            size: 5,
            content: Content::Whole,
            pieces: vec![crc32fast::hash(b"wrack")],
        }],
        log_end: None,
        removed: Vec::new(),
    }
}

fn a_log_increment() -> Manifest {
    let segment = |number| ManifestFile {
        name: FileRole::Segment(number).file_name(),
        role: FileRole::Segment(number),
        size: 4,
        content: Content::Whole,
        pieces: vec![crc32fast::hash(b"kelp")],
    };
    Manifest {
        kind: CopyKind::Log { previous: Lsn { segment: 2, offset: 600 }, complete: Lsn::default(), first: 3, next: 5 },
        sealed: true,
        lineage: Lineage(0x11),
        backup: 100,
        time_ms: 2,
        files: vec![segment(3), segment(4)],
        log_end: Some(Lsn { segment: 4, offset: 4 }),
        ..Manifest::empty()
    }
}

fn a_stream() -> Vec<u8> {
    let mut out = Vec::new();
    let mut sink = StreamSink::new(&mut out).expect("memory has room");
    let name = TableId(1).file_name();
    let done = sink
        .begin(&name, 5)
        .and_then(|()| sink.piece(0, b"wrack", crc32fast::hash(b"wrack")))
        .and_then(|()| sink.end())
        .and_then(|()| sink.seal(&a_manifest()));
    done.expect("memory has room");
    out
}
