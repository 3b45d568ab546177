//! Steps 6 to 8 of a checkpoint: the rows, the catalog's own tree and lists, and the root record.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::entry::{CatalogKey, CheckpointEntry, Lists, TableEntry, TableLog, checkpoint_key, table_key};
use super::origins::{OriginChange, Origins};
use super::record::CheckpointRecord;
use super::table::TableSlot;
use super::{Catalog, Roots};
use crate::block::{BlockStore, DeadList, drop_entry};
use crate::error::Result;
use crate::types::{BlockAddr, CheckpointSeq, CommitSeq, Extent, LogPosition};

/// A change of the set of tables, made durable with a checkpoint of the catalog alone.
#[derive(Clone, Debug)]
pub enum Change {
    /// A table appears.
    Create(Arc<TableSlot>, String),
    /// A table gets another name.
    Rename(Arc<TableSlot>, String),
    /// Tables vanish, from every checkpoint.
    Drop(Vec<Arc<TableSlot>>),
    /// The commits of a table go into the log from now on, or no more.
    Log(Arc<TableSlot>, TableLog),
    /// Origins get labels or lose them, or are released.
    Origin(OriginChange),
}

/// A table with a new state, or with states that go.
#[derive(Debug)]
pub struct Row {
    /// The table.
    pub slot: Arc<TableSlot>,
    /// Its row from now on.
    pub entry: TableEntry,
    /// Its file.
    pub store: Arc<BlockStore>,
    /// The table has a new state.
    pub written: bool,
    /// Bytes of the file that only dropped checkpoints reached.
    pub freed: Vec<Extent>,
}

/// What one checkpoint records.
#[derive(Debug)]
pub struct Recording {
    /// Its number.
    pub seq: CheckpointSeq,
    /// Its name.
    pub name: Option<String>,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// Where replay begins on top of it.
    pub log: Option<LogPosition>,
    /// Rows that change.
    pub rows: Vec<Row>,
    /// Tables that come, go or change their name.
    pub change: Option<Change>,
    /// Retained checkpoints that go.
    pub drop: BTreeSet<CheckpointSeq>,
}

impl Catalog {
    /// Makes the checkpoint the truth. When this returns, both slots of the root record hold it, and what only dropped
    /// checkpoints reached of the catalog's file is available; the caller settles the table files.
    ///
    /// `tell` is called when the checkpoint is durable and before anybody can see what it changes.
    ///
    /// # Errors
    /// What `tell` returns, and then the checkpoint is the truth all the same. `Io` and others. Unless the database is poisoned
    /// thereby, the old checkpoint is still the truth and the call may be repeated with a higher number.
    ///
    /// # Panics
    /// When the number was used before.
    pub fn record(&self, recording: Recording, tell: impl FnOnce() -> Result<()>) -> Result<CheckpointRecord> {
        let mut roots = self.roots.lock();
        let Recording { seq, name, time_ms, log, rows, change, drop } = recording;
        assert!(seq > roots.root.max_seq.max(roots.tried), "checkpoint number {seq} was used before");
        roots.tried = seq;
        let drops = Drops::resolve(&roots, &drop);
        let table_bytes = bytes_after(&roots, &rows, change.as_ref());
        let written = self.write_rows(&mut roots, seq, &rows, change.as_ref(), &drops);
        let (lists, catalog, freed) = match written.and_then(|()| self.write_lists(&mut roots, seq, &drops)) {
            Ok(done) => done,
            Err(e) => {
                roots.rows_stale = true;
                self.tree.abandon(seq);
                self.store.abandon_checkpoint(seq);
                return Err(e);
            }
        };
        let mut root = roots.root.clone();
        root.max_seq = root.max_seq.max(seq);
        root.newest = CheckpointRecord {
            seq,
            name,
            time_ms,
            bytes: table_bytes + catalog.space.size,
            catalog: roots.tree_root,
            lists: Some(lists),
            catalog_bytes: catalog.space.size,
            log,
        };
        if let Some(Change::Create(slot, _)) = &change {
            root.next_table = root.next_table.max(slot.id().0 + 1);
        }
        // From here on the old record or the new one may be the truth after a crash: what only the old one reaches is
        // pending until both slots hold the new one (B3).
        self.store.complete_checkpoint(seq);
        self.store.retire(&freed);
        for row in &rows {
            if row.written {
                row.store.complete_checkpoint(seq);
            }
            row.store.retire(&row.freed);
        }
        self.publish(&mut roots, root)?;
        self.store.release_pending();
        rows.iter().for_each(|row| row.store.release_pending());
        roots.older = drops.older;
        roots.newest_dead = catalog.dead;
        roots.lists_given_up = false;
        roots.rows_stale = false;
        roots.table_bytes = table_bytes;
        let record = roots.root.newest.clone();
        let told = tell();
        self.take_effect(rows, change);
        told.map(|()| record)
    }

    /// Puts the rows into the tree and the tree into fresh blocks.
    fn write_rows(
        &self,
        roots: &mut Roots,
        seq: CheckpointSeq,
        rows: &[Row],
        change: Option<&Change>,
        drops: &Drops,
    ) -> Result<()> {
        let mut batch = RowBatch::default();
        if roots.rows_stale {
            self.rewrite_all(&mut batch, roots)?;
        }
        for row in rows {
            batch.put(table_key(&row.slot.name()), row.entry.encode());
        }
        match change {
            None => {}
            Some(Change::Create(slot, name)) => batch.put(table_key(name), slot.entry().encode()),
            Some(Change::Rename(slot, name)) => {
                batch.delete(table_key(&slot.name()));
                batch.put(table_key(name), slot.entry().encode());
            }
            Some(Change::Drop(slots)) => slots.iter().for_each(|s| batch.delete(table_key(&s.name()))),
            Some(Change::Log(slot, log)) => {
                let entry = TableEntry { log: *log, ..slot.entry() };
                batch.put(table_key(&slot.name()), entry.encode());
            }
            Some(Change::Origin(change)) => {
                let before = self.origins.read();
                before.after(change).rows_since(&before).into_iter().for_each(|(key, row)| batch.set(key, row));
            }
        }
        for gone in &drops.gone {
            batch.delete(checkpoint_key(*gone));
        }
        for entry in drops.older.iter().filter(|e| drops.changed.contains(&e.record.seq)) {
            batch.put(checkpoint_key(entry.record.seq), entry.encode());
        }
        // The rows, and blocks of their large values, belong to this checkpoint: they are born under its number.
        self.epoch.set_live(seq);
        let commit = CommitSeq(self.registry.visible().0 + 1);
        let gate = self.epoch.enter();
        let writes = batch.0.iter().map(|(key, row)| (key.as_slice(), row.as_deref()));
        let mut prepared = self.tree.prepare(&gate, writes)?;
        self.tree.apply(&gate, &mut prepared, commit);
        self.registry.publish(commit);
        self.tree.tidy(&gate, prepared);
        drop(gate);
        self.epoch.begin_as(seq, CheckpointSeq::from_raw(seq.to_raw() + 1), || commit);
        let root = self.tree.checkpoint(seq, commit);
        self.epoch.finish();
        if let Some(root) = root? {
            roots.tree_root = root;
        }
        Ok(())
    }

    /// After a checkpoint that could not be recorded: every row once more, and away with those that are not true.
    fn rewrite_all(&self, batch: &mut RowBatch, roots: &Roots) -> Result<()> {
        let snapshot = self.registry.visible();
        let mut cursor = self.tree.scan(snapshot, std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        while cursor.next()? {
            CatalogKey::decode(cursor.key())?;
            batch.delete(cursor.key().to_vec());
        }
        for slot in self.tables() {
            batch.put(table_key(&slot.name()), slot.entry().encode());
        }
        for entry in &roots.older {
            batch.put(checkpoint_key(entry.record.seq), entry.encode());
        }
        let rows = self.origins.read().rows_since(&Origins::default());
        rows.into_iter().for_each(|(key, row)| batch.set(key, row));
        Ok(())
    }

    /// Writes the lists of the catalog's file and syncs it. Returns the address of the list block, the lists, and what
    /// dropped checkpoints free of the file.
    fn write_lists(
        &self,
        roots: &mut Roots,
        seq: CheckpointSeq,
        drops: &Drops,
    ) -> Result<(BlockAddr, Lists, Vec<Extent>)> {
        if let Some(old) = roots.root.newest.lists.filter(|_| !roots.lists_given_up) {
            self.store.give_up(old, seq);
            roots.lists_given_up = true;
        }
        let (addr, (lists, freed)) = self.store.write_lists(seq, |settled| {
            let (mut space, mut dead) = (settled.state, settled.dead);
            let mut freed = drops.freed.clone();
            if let Some((pred, own)) = &drops.last {
                freed.extend(drop_entry(*pred, own.clone(), &mut dead));
            }
            space.free(&freed);
            let lists = Lists { space, dead };
            (lists.encode(), (lists, freed))
        })?;
        if self.ctx.must_sync(self.store.sync())? {
            self.ctx.sync_home()?;
        }
        Ok((addr, lists, freed))
    }

    /// The checkpoint is the truth: now memory says so too.
    pub(super) fn take_effect(&self, rows: Vec<Row>, change: Option<Change>) {
        for row in rows {
            row.slot.recorded(row.entry);
        }
        let mut tables = self.tables.write();
        match change {
            None => {}
            Some(Change::Create(slot, name)) => {
                tables.insert(name, slot);
            }
            Some(Change::Rename(slot, name)) => {
                tables.remove(&*slot.name());
                slot.set_name(&name);
                tables.insert(name, slot);
            }
            Some(Change::Drop(slots)) => {
                for slot in slots {
                    tables.remove(&*slot.name());
                }
            }
            Some(Change::Log(slot, log)) => slot.set_log(log),
            Some(Change::Origin(change)) => {
                let mut origins = self.origins.write();
                *origins = origins.after(&change);
            }
        }
    }
}

/// Which checkpoints stay in the catalog, and what those that go give back of the catalog's file.
struct Drops {
    older: Vec<CheckpointEntry>,
    changed: BTreeSet<CheckpointSeq>,
    gone: Vec<CheckpointSeq>,
    freed: Vec<Extent>,
    /// The dropped checkpoint whose successor is the one being recorded, and the sequence before it.
    last: Option<(Option<CheckpointSeq>, DeadList)>,
}

impl Drops {
    fn resolve(roots: &Roots, drop: &BTreeSet<CheckpointSeq>) -> Self {
        let mut older = roots.older.clone();
        let previous = roots.root.newest.clone();
        // The newest until now becomes a row, unless it goes.
        let mut changed = BTreeSet::from([previous.seq]);
        older.push(CheckpointEntry { record: previous, dead: roots.newest_dead.clone() });
        let (mut gone, mut freed, mut last) = (Vec::new(), Vec::new(), None);
        for seq in drop {
            let Some(at) = older.iter().position(|e| e.record.seq == *seq) else { continue };
            let own = older.remove(at).dead;
            let pred = at.checked_sub(1).map(|p| older[p].record.seq);
            gone.push(*seq);
            match older.get_mut(at) {
                Some(successor) => {
                    freed.extend(drop_entry(pred, own, &mut successor.dead));
                    changed.insert(successor.record.seq);
                }
                None => last = Some((pred, own)),
            }
        }
        Self { older, changed, gone, freed, last }
    }
}

/// Bytes of live blocks over all table files once the rows are recorded.
fn bytes_after(roots: &Roots, rows: &[Row], change: Option<&Change>) -> u64 {
    let mut bytes = roots.table_bytes;
    for row in rows {
        bytes = (bytes + row.entry.live_bytes()).saturating_sub(row.slot.with_entry(TableEntry::live_bytes));
    }
    if let Some(Change::Drop(slots)) = change {
        for slot in slots {
            bytes = bytes.saturating_sub(slot.with_entry(TableEntry::live_bytes));
        }
    }
    bytes
}

/// Rows to write, the last word on each key holding.
#[derive(Default)]
struct RowBatch(std::collections::BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl RowBatch {
    fn put(&mut self, key: Vec<u8>, row: Vec<u8>) {
        self.0.insert(key, Some(row));
    }

    fn set(&mut self, key: Vec<u8>, row: Option<Vec<u8>>) {
        self.0.insert(key, row);
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.0.insert(key, None);
    }
}
