//! A small home for tests, laid down block by block: a table of two levels with a large value, in two retained states; an
//! empty table; a catalog with two retained checkpoints.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::Vfs;
use strandline_vfs::mem::MemVfs;

use crate::block::{BlockStore, DeadList, SpaceState};
use crate::btree::TreeRoot;
use crate::catalog::{CheckpointEntry, CheckpointRecord, Lists, TableEntry, TableState, checkpoint_key, table_key};
use crate::page::{CellValue, LeafBuilder, OverflowRef, PageAddr, encode_inner, encode_piece};
use crate::types::{BlockAddr, CheckpointSeq, TableId};

/// Allocation unit of the fixture.
pub const UNIT: u32 = 512;

/// The fixture: where it is, and its newest checkpoint.
pub struct Home {
    pub mem: MemVfs,
    pub vfs: Arc<dyn Vfs>,
    pub dir: PathBuf,
    pub older: CheckpointRecord,
    pub record: CheckpointRecord,
    pub entry: TableEntry,
}

/// What can be wrong with the fixture, beside damage of bytes.
#[derive(Clone, Copy, Default)]
pub struct Wrong {
    pub leak: bool,
    pub freed_too_early: bool,
    pub key_outside: bool,
    pub birth_above_parent: bool,
}

fn one() -> CheckpointSeq {
    CheckpointSeq::major(1)
}

fn two() -> CheckpointSeq {
    CheckpointSeq::major(2)
}

fn leaf(rows: &[(&str, CellValue<'_>)]) -> Vec<u8> {
    let shared = match (rows.first(), rows.last()) {
        (Some((a, _)), Some((b, _))) if rows.len() > 1 => crate::page::shared_len(a.as_bytes(), b.as_bytes()),
        (Some((a, _)), _) => a.len(),
        _ => 0,
    };
    let prefix = rows.first().map_or("", |r| &r.0[..shared]);
    let mut out = LeafBuilder::new(prefix.as_bytes());
    for (key, value) in rows {
        out.push(key.as_bytes(), *value);
    }
    out.finish().bytes().to_vec()
}

fn inline(value: &str) -> CellValue<'_> {
    CellValue::Inline(value.as_bytes())
}

fn store(vfs: &Arc<dyn Vfs>, dir: &Path, table: TableId) -> BlockStore {
    BlockStore::new(Arc::clone(vfs), dir.join(table.file_name()), table, UNIT, None, one()).unwrap()
}

/// Lays the fixture down in `dir`.
pub fn home(dir: &str, wrong: Wrong) -> Home {
    let mem = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::new(mem.clone());
    let dir = PathBuf::from(dir);
    vfs.create_dir(&dir).unwrap();
    let entries = table(&store(&vfs, &dir, TableId(1)), wrong);
    let (older, record) = catalog(&store(&vfs, &dir, TableId::CATALOG), &entries);
    let [_, entry] = entries;
    Home { mem, vfs, dir, older, record, entry }
}

/// The table's entry at checkpoint 1 and at checkpoint 2.
fn table(s: &BlockStore, wrong: Wrong) -> [TableEntry; 2] {
    let large: Vec<u8> = (0..1500u32).map(|i| i as u8).collect();
    let birth = if wrong.birth_above_parent { two() } else { one() };
    let pieces: Vec<BlockAddr> =
        large.chunks(1000).map(|piece| s.write(&encode_piece(piece), birth).unwrap()).collect();
    let mut stored = Vec::new();
    OverflowRef { len: 1500, pieces }.encode(&mut stored);
    let a = s.write(&leaf(&[("a1", inline("x")), ("a2", CellValue::Overflow(&stored))]), one()).unwrap();
    let b = s.write(&leaf(&[("b1", inline("y")), ("b2", inline("z"))]), one()).unwrap();
    let root = s.write(&encode_inner(1, &[(b"", PageAddr::whole(a)), (b"b", PageAddr::whole(b))]), one()).unwrap();
    let settled = s.finish_checkpoint(one());
    s.complete_checkpoint(one());
    let first = state(one(), root, &settled.state, settled.dead);
    let at_one = TableEntry { states: vec![first.clone()], space: Some(settled.state), ..entry() };

    let key = if wrong.key_outside { "a9" } else { "b3" };
    let b2 = s.write(&leaf(&[(key, inline("new"))]), two()).unwrap();
    let root2 = s.write(&encode_inner(1, &[(b"", PageAddr::whole(a)), (b"b", PageAddr::whole(b2))]), two()).unwrap();
    s.give_up(b, two());
    if !wrong.leak {
        s.give_up(root, two());
    }
    // A block that comes and goes within the interval leaves a hole.
    let hole = s.write(&[7; 600], two()).unwrap();
    let end = s.write(&leaf(&[("tail", inline("t"))]), two()).unwrap();
    s.give_up(hole, two());
    s.give_up(end, two());
    let mut settled = s.finish_checkpoint(two());
    s.complete_checkpoint(two());
    if wrong.freed_too_early {
        let freed: Vec<_> = settled.dead.entries().iter().map(|d| d.extent).collect();
        settled.dead = DeadList::default();
        settled.state.free(&freed);
    }
    let second = state(two(), root2, &settled.state, settled.dead);
    let at_two = TableEntry { states: vec![first, second], space: Some(settled.state), ..entry() };
    [at_one, at_two]
}

fn entry() -> TableEntry {
    TableEntry::new(TableId(1), "a config".into())
}

fn state(seq: CheckpointSeq, root: BlockAddr, space: &SpaceState, dead: DeadList) -> TableState {
    TableState { seq, root: Some(TreeRoot { addr: root, level: 1, overflow: true }), size: space.size, dead }
}

/// The records of checkpoint 1, which is named, and checkpoint 2.
fn catalog(s: &BlockStore, [at_one, at_two]: &[TableEntry; 2]) -> (CheckpointRecord, CheckpointRecord) {
    let empty = TableEntry::new(TableId(2), String::new());
    let rows = vec![(table_key("empty"), empty.encode()), (table_key("t"), at_one.encode())];
    let (older, dead) = checkpoint(s, one(), Some("monday"), &rows);
    let tree = older.catalog.unwrap();
    s.give_up(tree.addr, two());
    s.give_up(older.lists.unwrap(), two());
    let mut rows = vec![(table_key("empty"), empty.encode()), (table_key("t"), at_two.encode())];
    rows.push((checkpoint_key(one()), CheckpointEntry { record: older.clone(), dead }.encode()));
    let (record, _) = checkpoint(s, two(), None, &rows);
    (older, record)
}

fn checkpoint(
    s: &BlockStore,
    seq: CheckpointSeq,
    name: Option<&str>,
    rows: &[(Vec<u8>, Vec<u8>)],
) -> (CheckpointRecord, DeadList) {
    let (first, last) = (&rows[0].0, &rows[rows.len() - 1].0);
    let mut page = LeafBuilder::new(&first[..crate::page::shared_len(first, last)]);
    for (key, value) in rows {
        page.push(key, CellValue::Inline(value));
    }
    let addr = s.write(page.finish().bytes(), seq).unwrap();
    let (lists_at, lists) = s
        .write_lists(seq, |settled| {
            let lists = Lists { space: settled.state, dead: settled.dead };
            (lists.encode(), lists)
        })
        .unwrap();
    s.complete_checkpoint(seq);
    s.sync().unwrap();
    let record = CheckpointRecord {
        seq,
        name: name.map(str::to_owned),
        time_ms: 1_000 * (seq.to_raw() >> 20),
        bytes: 0,
        catalog: Some(TreeRoot { addr, level: 0, overflow: false }),
        lists: Some(lists_at),
        catalog_bytes: lists.space.size,
        log: None,
    };
    (record, lists.dead)
}
