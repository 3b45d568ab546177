//! A database whose checksums are all right and whose contents were made up.
//!
//! Damage by chance stops at a checksum. Whoever writes files on purpose does not: here pages, rows of the catalog, lists and
//! the root record carry what the input says, each under a correct checksum, with correct addresses. Reading such a home may
//! give errors or nonsense, but must not panic, hang, or take memory without measure.

use std::path::Path;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use strandline::block::{BlockStore, Dead, DeadList, SpaceState};
use strandline::btree::TreeRoot;
use strandline::catalog::{
    CheckpointEntry, CheckpointRecord, Lists, RootRecord, RootSlots, TableEntry, TableState, checkpoint_key, table_key,
};
use strandline::options::Settings;
use strandline::page::{CellValue, LeafBuilder, OverflowRef, PageAddr, Patch, encode_inner, encode_piece};
use strandline::{BlockAddr, CheckpointSeq, Extent, Lineage, Result, TableId};
use strandline_vfs::Vfs;
use strandline_vfs::mem::MemVfs;

use crate::stage;

const UNIT: u32 = 512;
const SEQ: CheckpointSeq = CheckpointSeq::major(3);

/// What a page of the table holds.
#[derive(Arbitrary, Debug)]
enum Page {
    Leaf(Vec<(Vec<u8>, Cell)>),
    Inner {
        level: u8,
        children: Vec<(Vec<u8>, u8)>,
    },
    /// An inner page above leaves of which some are patched.
    Patched {
        children: Vec<Leaf>,
    },
    Piece(Vec<u8>),
    Raw(Vec<u8>),
}

/// A leaf as its parent speaks of it: the smallest key, the block, and what has changed.
type Leaf = (Vec<u8>, u8, Vec<(Vec<u8>, Option<Vec<u8>>)>);

#[derive(Arbitrary, Debug)]
enum Cell {
    Value(Vec<u8>),
    Overflow { len: u64, pieces: Vec<u8> },
    Raw(Vec<u8>),
}

/// What the catalog says of the table and of the checkpoint before.
#[derive(Arbitrary, Debug)]
struct Claims {
    pages: Vec<Page>,
    root: u8,
    level: u8,
    overflow: bool,
    older_root: Option<(u8, u8)>,
    size: Option<u32>,
    available: Vec<(u16, u16)>,
    dead: Vec<(u16, u16, u8)>,
    seqs: [u8; 3],
    row: Option<Vec<u8>>,
    lists: Option<Vec<u8>>,
    max_seq: u64,
    next_table: u64,
}

/// A home that was made up under correct checksums.
pub fn hostile(bytes: &[u8]) {
    let Ok(claims) = Claims::arbitrary(&mut Unstructured::new(bytes)) else { return };
    let vfs = MemVfs::new();
    if build(&vfs, &claims).is_err() {
        return;
    }
    stage::inspect(&vfs, "home");
    if let Ok(db) = stage::options(&vfs).read_only(true).open("home") {
        stage::look_everywhere(&vfs, "home", &db);
    }
}

/// The block that a number stands for: one that was written, or nonsense.
fn at(blocks: &[BlockAddr], n: u8) -> BlockAddr {
    let nonsense = BlockAddr { offset: u64::from(n) << (n % 56), size: u32::from(n) * 300, checksum: 1, birth: SEQ };
    blocks.get(usize::from(n)).copied().unwrap_or(nonsense)
}

fn encode(page: &Page, blocks: &[BlockAddr]) -> Vec<u8> {
    match page {
        Page::Leaf(cells) => {
            let mut cells: Vec<&(Vec<u8>, Cell)> = cells.iter().collect();
            cells.sort_by(|a, b| a.0.cmp(&b.0));
            cells.dedup_by(|a, b| a.0 == b.0);
            let mut leaf = LeafBuilder::new(b"");
            for (key, cell) in cells {
                match cell {
                    Cell::Value(bytes) => leaf.push(key, CellValue::Inline(bytes)),
                    Cell::Raw(bytes) => leaf.push(key, CellValue::Overflow(bytes)),
                    Cell::Overflow { len, pieces } => {
                        let pieces = pieces.iter().map(|n| at(blocks, *n)).collect();
                        let mut bytes = Vec::new();
                        OverflowRef { len: *len, pieces }.encode(&mut bytes);
                        leaf.push(key, CellValue::Overflow(&bytes));
                    }
                }
            }
            leaf.finish().bytes().to_vec()
        }
        Page::Inner { level, children } if !children.is_empty() => {
            let child = |n: u8| PageAddr::whole(at(blocks, n));
            inner((*level).max(1), children.iter().map(|(key, n)| (key.as_slice(), child(*n))).collect())
        }
        Page::Patched { children } if !children.is_empty() => {
            let child = |n: u8, changes: &[_]| PageAddr { addr: at(blocks, n), patch: patch(changes) };
            inner(1, children.iter().map(|(key, n, changes)| (key.as_slice(), child(*n, changes))).collect())
        }
        Page::Inner { .. } | Page::Patched { .. } => Vec::new(),
        Page::Piece(bytes) => encode_piece(bytes),
        Page::Raw(bytes) => bytes.clone(),
    }
}

fn patch(changes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Option<Patch> {
    let mut changes: Vec<_> =
        changes.iter().map(|(k, v)| (k.as_slice(), v.as_deref().map(CellValue::Inline))).collect();
    changes.sort_by_key(|c| c.0);
    changes.dedup_by_key(|c| c.0);
    (!changes.is_empty()).then(|| Patch::new(&changes))
}

fn inner(level: u8, mut children: Vec<(&[u8], PageAddr)>) -> Vec<u8> {
    children[0].0 = b"";
    children.sort_by_key(|c| c.0);
    children.dedup_by_key(|c| c.0);
    encode_inner(level, &children)
}

fn build(vfs: &MemVfs, claims: &Claims) -> Result<()> {
    let shared: Arc<dyn Vfs> = Arc::new(vfs.clone());
    let home = Path::new("home");
    vfs.create_dir(home).expect("memory does not fail");
    let store = |id: TableId| BlockStore::new(Arc::clone(&shared), home.join(id.file_name()), id, UNIT, None, SEQ);
    let table = store(TableId(1))?;
    let mut blocks = Vec::new();
    for page in &claims.pages {
        blocks.push(table.write(&encode(page, &blocks), SEQ)?);
    }
    let row = claims.row.clone().unwrap_or_else(|| entry(claims, &blocks, &table).encode());
    let catalog = store(TableId::CATALOG)?;
    let mut leaf = LeafBuilder::new(b"");
    leaf.push(&table_key("t"), CellValue::Inline(&row));
    let older = CheckpointSeq::major(2);
    let record = CheckpointRecord { seq: older, name: Some("older".into()), ..CheckpointRecord::empty() };
    let record = CheckpointEntry { record, dead: DeadList::default() };
    leaf.push(&checkpoint_key(older), CellValue::Inline(&record.encode()));
    let rows = catalog.write(leaf.finish().bytes(), SEQ)?;
    let space = SpaceState { size: 1 << 13, available: Vec::new() };
    let lists = claims.lists.clone().unwrap_or_else(|| Lists { space, dead: DeadList::default() }.encode());
    let lists = catalog.write(&lists, SEQ)?;
    let newest = CheckpointRecord {
        seq: SEQ,
        catalog: Some(TreeRoot { addr: rows, level: 0, overflow: false }),
        lists: Some(lists),
        catalog_bytes: lists.extent().end(),
        ..CheckpointRecord::empty()
    };
    let mut root = RootRecord::new(Settings { unit: UNIT, ..Settings::default() }, Lineage(1));
    root.newest = newest;
    root.max_seq = SEQ.max(CheckpointSeq::from_raw(claims.max_seq));
    root.next_table = claims.next_table.max(2);
    RootSlots::create(vfs, home, &root).map(|_| ())
}

/// The table's row.
fn entry(claims: &Claims, blocks: &[BlockAddr], store: &BlockStore) -> TableEntry {
    let unit = u64::from(UNIT);
    let extent = |(at, len): (u16, u16)| Extent { offset: u64::from(at) * unit, len: u64::from(len) * unit };
    let mut last = 0;
    let mut available = Vec::new();
    for range in &claims.available {
        let e = extent(*range);
        if e.len > 0 && e.offset > last {
            last = e.end();
            available.push(e);
        }
    }
    let mut last = 0;
    let mut dead = Vec::new();
    for (at, len, birth) in &claims.dead {
        let e = extent((*at, *len));
        if e.len > 0 && e.offset >= last {
            last = e.end();
            dead.push(Dead { extent: e, birth: CheckpointSeq::major(u64::from(*birth)) });
        }
    }
    let size = claims.size.map_or(store.sizes().0, u64::from);
    let state = |seq: u8, root: Option<TreeRoot>, dead: Vec<Dead>| TableState {
        seq: CheckpointSeq::major(u64::from(seq)),
        root,
        size,
        dead: DeadList::new(dead),
    };
    let root = TreeRoot { addr: at(blocks, claims.root), level: claims.level, overflow: claims.overflow };
    let older = claims.older_root.map(|(n, level)| TreeRoot { addr: at(blocks, n), level, overflow: true });
    let mut entry = TableEntry::new(TableId(1), "config".into());
    entry.states = vec![state(claims.seqs[0], older, Vec::new()), state(claims.seqs[1], Some(root), dead)];
    entry.space = Some(SpaceState { size, available });
    entry
}
