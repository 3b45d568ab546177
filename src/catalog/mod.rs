//! The table of tables and checkpoints, and the root record that locates it.
//!
//! The catalog is itself a table: the same tree, over the file `Strandline.catalog`. Its rows (module `entry`) say for every
//! table, and for every retained checkpoint that needs one, where the root is, and hold the space lists of every table
//! file; so a table file has nothing in it but its header and the blocks of its tree, and the lists are accounted for like
//! any other row. One list cannot be a row of the tree that it describes: that of the catalog's own file. It is a block
//! of its own ([`Lists`]), reserved first, filled with what holds after its own reservation, and located by
//! the root record.
//!
//! # What is written when
//!
//! Rows change only while a checkpoint is recorded ([`Catalog::record`]), under the checkpoint lock, in this order:
//! rows into the tree, the tree into fresh blocks, the list block, a sync of the file, the root record into one slot (the
//! instant of truth), then into the other. Until the first slot is durable nothing that the old record reaches was
//! touched; until the second is, nothing that it reached is reused.
//!
//! # Why not one row per state
//!
//! A row per table and checkpoint would make listing and dropping a checkpoint a range operation, but every view and
//! every open would then read many rows per table. States are few: one per retained checkpoint that found the table
//! changed.

mod context;
mod entry;
mod notes;
mod origins;
mod record;
mod recording;
mod slots;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

pub use context::{Context, Health};
pub use entry::{
    CatalogKey, CheckpointEntry, Lists, TableEntry, TableLog, TableState, checkpoint_key, label_key, table_key,
};
pub use notes::{Noted, SegmentNotes, noted};
pub use origins::{OriginChange, Origins, check_label};
pub use record::{CheckpointRecord, FORMAT_VERSION, NAME_MAX, PinnedRoot, RootRecord, SLOT_BYTES};
pub use recording::{Change, Recording, Row};
pub use slots::{ROOT_FILE, ROOT_FILE_NEW, RootSlots, SLOT_OFFSETS, read as read_slot};
pub use table::{OpenTable, TableSlot, TableUse, UseKind};

use crate::block::{BlockSource, BlockStore, DeadList};
use crate::btree::{Tree, TreeReader, TreeRoot};
use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::txn::{Epoch, TxnRegistry};
use crate::types::{CheckpointSeq, CommitSeq, TableId};

/// What the root record says, and what of the checkpoints stands in the catalog.
#[derive(Debug)]
struct Roots {
    /// `None` when nothing may be written: the database is read-only, or a record may or may not have been written.
    slots: Option<RootSlots>,
    root: RootRecord,
    /// Retained checkpoints before the newest, oldest first.
    older: Vec<CheckpointEntry>,
    /// What the catalog's tree gave up between the checkpoint before the newest and the newest.
    newest_dead: DeadList,
    /// The root that the last checkpoint of the catalog's tree returned, recorded or not.
    tree_root: Option<TreeRoot>,
    /// The newest list block was given up already by a checkpoint that could not be recorded.
    lists_given_up: bool,
    /// A checkpoint that could not be recorded left rows in the tree that are not true.
    rows_stale: bool,
    /// The highest number under which a recording was tried: blocks may have been born under it, so it is never used again.
    tried: CheckpointSeq,
    /// Bytes of live blocks over all table files.
    table_bytes: u64,
}

/// The catalog of an open database.
#[derive(Debug)]
pub struct Catalog {
    ctx: Arc<Context>,
    store: Arc<BlockStore>,
    tree: Arc<Tree>,
    epoch: Arc<Epoch>,
    registry: Arc<TxnRegistry>,
    tables: RwLock<BTreeMap<String, Arc<TableSlot>>>,
    origins: RwLock<Origins>,
    roots: Mutex<Roots>,
}

impl Catalog {
    /// Reads the catalog that `root.newest` locates. `slots` is `None` for a read-only database.
    ///
    /// # Errors
    /// `Corrupt` with file and offset, `Unsupported`, `Io`.
    pub fn load(ctx: Arc<Context>, slots: Option<RootSlots>, root: RootRecord) -> Result<Self> {
        let newest = &root.newest;
        let lists = Self::read_lists(&ctx, newest)?;
        let (space, newest_dead) = lists.map_or((None, DeadList::default()), |l| (Some(l.space), l.dead));
        let live = CheckpointSeq::from_raw(root.max_seq.max(newest.seq).to_raw() + 1);
        let store = Arc::new(ctx.store(TableId::CATALOG, space, live)?);
        let (epoch, registry) = (Arc::new(Epoch::new(live)), Arc::new(TxnRegistry::new(CommitSeq(0))));
        // A cache of its own: what a user's load evicts must never be a page of the catalog, which is written under the
        // checkpoint lock only.
        let cache = Cache::new(usize::MAX / 4);
        let tree = Tree::new(
            TableId::CATALOG,
            Arc::clone(&store),
            cache,
            Arc::clone(&epoch),
            Arc::clone(&registry),
            newest.catalog,
            ctx.tree,
        );
        let Rows { tables, older, origins } = read_rows(&store, newest)?;
        let table_bytes = tables.values().map(|t| t.with_entry(TableEntry::live_bytes)).sum();
        let roots = Roots {
            slots,
            tree_root: newest.catalog,
            root,
            older,
            newest_dead,
            lists_given_up: false,
            rows_stale: false,
            tried: CheckpointSeq::ZERO,
            table_bytes,
        };
        let (tables, origins) = (RwLock::new(tables), RwLock::new(origins));
        Ok(Self { ctx, store, tree, epoch, registry, tables, origins, roots: Mutex::new(roots) })
    }

    /// The lists of the catalog's own file as of `record`; `None` before the first checkpoint.
    ///
    /// # Errors
    /// `Corrupt` with file and offset, `Io`.
    pub fn read_lists(ctx: &Context, record: &CheckpointRecord) -> Result<Option<Lists>> {
        let Some(addr) = record.lists else { return Ok(None) };
        let body = ctx.reader(TableId::CATALOG, record.catalog_bytes)?.read(addr)?;
        Lists::decode(&body).map(Some).map_err(|e| e.at(&ctx.path(TableId::CATALOG), Some(addr.offset)))
    }

    /// What the catalog shares with the rooms above.
    #[must_use]
    pub const fn context(&self) -> &Arc<Context> {
        &self.ctx
    }

    /// The file of the catalog.
    #[must_use]
    pub const fn store(&self) -> &Arc<BlockStore> {
        &self.store
    }

    /// A copy of the root record that holds.
    #[must_use]
    pub fn root(&self) -> RootRecord {
        self.roots.lock().root.clone()
    }

    /// The number for the next change of the catalog alone; `None` when a checkpoint of the whole database must come first:
    /// the numbers between two of those are used up, or the last one could not be recorded. Tables then have blocks born
    /// under its number that no record reaches, and an increment since a change with a higher number would take them for old.
    #[must_use]
    pub fn next_minor(&self) -> Option<CheckpointSeq> {
        let roots = self.roots.lock();
        let recorded = roots.root.max_seq;
        if roots.tried.next_major() > recorded.next_major() { None } else { recorded.max(roots.tried).next_minor() }
    }

    /// The newest complete checkpoint.
    #[must_use]
    pub fn newest(&self) -> CheckpointRecord {
        self.roots.lock().root.newest.clone()
    }

    /// All retained checkpoints, oldest first; the newest is the last.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<CheckpointRecord> {
        let roots = self.roots.lock();
        let mut all: Vec<_> = roots.older.iter().map(|c| c.record.clone()).collect();
        all.push(roots.root.newest.clone());
        all
    }

    /// Blocks of the catalog's file that retained checkpoints hold beside the newest.
    #[must_use]
    pub fn dead_lists(&self) -> Vec<(CheckpointSeq, DeadList)> {
        let roots = self.roots.lock();
        let mut all: Vec<_> = roots.older.iter().map(|c| (c.record.seq, c.dead.clone())).collect();
        all.push((roots.root.newest.seq, roots.newest_dead.clone()));
        all
    }

    /// Bytes that dropping the `at`-th retained checkpoint would free: what its successor does not reach and its
    /// predecessor did not have.
    #[must_use]
    pub fn exclusive_bytes(&self, at: usize) -> u64 {
        let all = self.dead_lists();
        let retained: Vec<CheckpointSeq> = all.iter().map(|(seq, _)| *seq).collect();
        let Some(next) = all.get(at + 1) else { return 0 };
        let pred = at.checked_sub(1).map(|p| retained[p]);
        let own = retained[at];
        let mut bytes = next.1.bytes_born_after(pred);
        for slot in self.tables() {
            bytes += slot.with_entry(|e| {
                let Some(i) = e.states.iter().rposition(|s| s.seq <= own) else { return 0 };
                let Some(next) = e.states.get(i + 1) else { return 0 };
                let shared = retained.iter().any(|c| *c != own && (e.states[i].seq..next.seq).contains(c));
                if shared { 0 } else { next.dead.bytes_born_after(i.checked_sub(1).map(|p| e.states[p].seq)) }
            });
        }
        bytes
    }

    /// The labels of origins, and which origins were released.
    #[must_use]
    pub fn origins(&self) -> Origins {
        self.origins.read().clone()
    }

    /// A table by name.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn table(&self, name: &str) -> Result<Arc<TableSlot>> {
        self.find(name).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no table `{name}`"))
                .remedy("create it, or list the tables to see their names")
        })
    }

    /// A table by name, if there is one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<TableSlot>> {
        self.tables.read().get(name).cloned()
    }

    /// A table by id, if there is one.
    #[must_use]
    pub fn find_id(&self, id: TableId) -> Option<Arc<TableSlot>> {
        self.tables.read().values().find(|t| t.id() == id).cloned()
    }

    /// All tables, by name.
    #[must_use]
    pub fn tables(&self) -> Vec<Arc<TableSlot>> {
        self.tables.read().values().cloned().collect()
    }

    /// File and tree of a table, opened at the first touch.
    ///
    /// # Errors
    /// `NotFound` when the table was dropped.
    pub fn open<'a>(&self, slot: &'a TableSlot) -> Result<&'a OpenTable> {
        slot.open(|entry| self.ctx.open_table(entry))
    }

    /// Closes files of tables above `max` that hold nothing unsynced; they are opened again when needed.
    pub fn close_surplus_files(&self, max: usize) {
        let tables = self.tables();
        let open: Vec<_> = tables.iter().filter_map(|t| t.if_open()).filter(|t| t.store.is_open()).collect();
        for table in open.iter().take(open.len().saturating_sub(max)) {
            table.store.close_handle();
        }
    }

    /// The tables and the older retained checkpoints that `record` names; tables dropped since are left out.
    ///
    /// # Errors
    /// `Corrupt` with file and offset, `Io`.
    pub fn read_at(&self, record: &CheckpointRecord) -> Result<(BTreeMap<String, TableEntry>, Vec<CheckpointEntry>)> {
        let Rows { tables, older, .. } = read_rows(&self.store, record)?;
        let live: BTreeSet<TableId> = self.tables.read().values().map(|t| t.id()).collect();
        let rows = tables.into_iter().map(|(name, slot)| (name, slot.entry()));
        Ok((rows.filter(|(_, e)| live.contains(&e.id)).collect(), older))
    }

    /// Bytes of the catalog's file that were read since it was opened.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.store.counters().bytes_read
    }

    /// From now on the root record is written to these slots, which hold it as it is.
    pub fn write_to(&self, slots: RootSlots) {
        self.roots.lock().slots = Some(slots);
    }

    /// Makes a change of the set of tables again that the log tells of, in memory only: the next checkpoint records it. No
    /// other change may run, and nobody uses the tables yet. `next_table` is raised above the id of a table that appears.
    pub fn replay(&self, change: Change) {
        let mut roots = self.roots.lock();
        // Every row anew: those that changed are no rows of the checkpoint.
        roots.rows_stale = true;
        match &change {
            Change::Create(slot, _) => roots.root.next_table = roots.root.next_table.max(slot.id().0 + 1),
            Change::Drop(slots) => {
                let bytes: u64 = slots.iter().map(|s| s.with_entry(TableEntry::live_bytes)).sum();
                roots.table_bytes = roots.table_bytes.saturating_sub(bytes);
                slots.iter().for_each(|s| s.set_dropped(true));
            }
            Change::Rename(..) | Change::Log(..) | Change::Origin(_) => {}
        }
        drop(roots);
        self.take_effect(Vec::new(), Some(change));
    }

    /// Takes tables out of sight, in memory only.
    pub fn forget(&self, slots: &[Arc<TableSlot>]) {
        let mut tables = self.tables.write();
        for slot in slots {
            slot.set_dropped(true);
            tables.remove(&*slot.name());
        }
    }

    /// Takes older checkpoints out of sight, in memory only.
    pub fn forget_checkpoints(&self, gone: &BTreeSet<CheckpointSeq>) {
        self.roots.lock().older.retain(|c| !gone.contains(&c.record.seq));
    }

    /// Sets or removes the pin of an open backup in the root record, durably.
    ///
    /// # Errors
    /// `Io`; the database is then poisoned, because which record is the truth is unknown.
    pub fn set_pin(&self, pinned: Option<PinnedRoot>) -> Result<()> {
        let mut roots = self.roots.lock();
        let mut root = roots.root.clone();
        root.pinned = pinned;
        self.publish(&mut roots, root)
    }

    /// Replaces the root record by what `change` makes of it, durably.
    ///
    /// # Errors
    /// As [`Catalog::set_pin`].
    pub fn update_root(&self, change: impl FnOnce(&mut RootRecord)) -> Result<()> {
        let mut roots = self.roots.lock();
        let mut root = roots.root.clone();
        change(&mut root);
        self.publish(&mut roots, root)
    }

    /// Makes both slots hold the truth again when one of them does not.
    ///
    /// # Errors
    /// `Io`.
    pub fn repair_slots(&self) -> Result<()> {
        let mut roots = self.roots.lock();
        // Not the same record once more: the slot that it was read from may stand in the cache only, after a sync that
        // failed. A record of its own generation goes first to the other slot, and there it is synced (R3).
        if roots.slots.as_ref().is_some_and(RootSlots::needs_mirror) {
            let root = roots.root.clone();
            return self.publish(&mut roots, root);
        }
        Ok(())
    }

    /// Writes `root` to one slot and then to the other; nothing that only the old record reached may be reused before.
    fn publish(&self, roots: &mut Roots, mut root: RootRecord) -> Result<()> {
        root.generation += 1;
        let Some(slots) = roots.slots.as_mut() else {
            self.ctx.health.check()?;
            return Err(Error::new(ErrorKind::ReadOnly, "the database is open read-only"));
        };
        if slots.next_slot().is_some_and(|slot| slot as u64 != root.generation % 2) {
            root.generation += 1;
        }
        let written = slots.publish(&root).and_then(|()| slots.mirror(&root));
        if let Err(e) = written {
            self.ctx.health.poison(&e);
            // Which record is the truth is unknown, so another one of this generation must not come beside it (R1).
            roots.slots = None;
            return Err(e);
        }
        roots.root = root;
        Ok(())
    }
}

/// All rows of the catalog.
#[derive(Default)]
struct Rows {
    tables: BTreeMap<String, Arc<TableSlot>>,
    older: Vec<CheckpointEntry>,
    origins: Origins,
}

/// Reads every row of the catalog as `record` found it.
fn read_rows(store: &Arc<BlockStore>, record: &CheckpointRecord) -> Result<Rows> {
    let mut rows = Rows::default();
    let source: Arc<dyn BlockSource> = Arc::<BlockStore>::clone(store);
    let reader = TreeReader::open(source, record.catalog);
    let mut cursor = reader.scan(Bound::Unbounded, Bound::Unbounded);
    while cursor.next()? {
        let (key, value) = (cursor.key(), cursor.value()?);
        let at_file = |e: Error| e.at(store.path(), record.catalog.map(|r| r.addr.offset));
        match CatalogKey::decode(key).map_err(at_file)? {
            CatalogKey::Table(name) => {
                let entry = TableEntry::decode(&value).map_err(at_file)?;
                rows.tables.insert(name.clone(), Arc::new(TableSlot::new(&name, entry)));
            }
            CatalogKey::Checkpoint(_) => rows.older.push(CheckpointEntry::decode(&value).map_err(at_file)?),
            CatalogKey::Label(label) => rows.origins.read_label(label, &value).map_err(at_file)?,
            CatalogKey::Released => rows.origins.read_released(&value).map_err(at_file)?,
        }
    }
    Ok(rows)
}
