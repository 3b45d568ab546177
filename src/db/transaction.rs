//! Transactions: snapshot isolation over any number of tables.
//!
//! A transaction keeps its writes to itself until it commits. A write first claims its key, then asks the tree whether a
//! commit newer than the snapshot wrote it; either way the first updater has won and the write gives `Conflict` at once
//! (T2). A commit prepares everything that can fail (pages to read, large values to write), then applies all writes under
//! one number and publishes it with one store (T1): a reader sees the whole transaction or none of it.
//!
//! With a log, the commit's record is appended together with applying it, so both orders are the same. What cannot be
//! appended, because the device is full, is not applied either. Then, with nothing locked but the gate of the checkpoint, the
//! commit waits for what its durability asks for; whoever leads the sync makes durable what all others have appended
//! meanwhile. Only then is it published: nobody sees a durable commit that a crash could still take away (T4).

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::Core;
use super::cursor::{Cursor, Range, Source, as_slices, bounds, prefix_bounds};
use super::merge::Merge;
use super::table::Table;
use crate::btree::TreeCursor;
use crate::catalog::{OpenTable, TableSlot, TableUse, UseKind};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{KEY_MAX, VALUE_MAX};
use crate::options::Durability;
use crate::page::Value;
use crate::record::CommitEncoder;
use crate::txn::{SnapshotGuard, WriteBuffer};
use crate::types::{CommitSeq, TableId};

/// What a buffered write is charged beside its bytes.
const WRITE_OVERHEAD: usize = 96;

/// A transaction. Dropping it rolls it back.
#[derive(Debug)]
pub struct Transaction<'db> {
    core: &'db Core,
    id: u64,
    at: CommitSeq,
    /// Held until the commit is visible; what follows may then fold what this transaction kept alive.
    snapshot: Option<SnapshotGuard>,
    writes: WriteBuffer,
    /// Bytes charged to the cache for the buffer.
    charged: usize,
    /// The tables written: they can be neither dropped nor renamed meanwhile.
    /// In order of ids, as the tables of the writes are.
    tables: Vec<TableUse>,
    /// A write failed in a way after which the transaction must not commit.
    failed: bool,
    /// What the commit waits for, where the transaction was begun with that.
    durability: Option<Durability>,
}

/// What a truncation has taken so far.
#[derive(Default)]
struct Taken {
    keys: Vec<Arc<[u8]>>,
    /// Those that the transaction had not claimed before.
    claimed: Vec<Arc<[u8]>>,
    /// Bytes charged to the cache.
    bytes: usize,
}

impl<'db> Transaction<'db> {
    pub(super) fn begin(core: &'db Core, durability: Option<Durability>) -> Self {
        let snapshot = core.ctx.registry.register();
        Self {
            core,
            id: core.next_txn.fetch_add(1, Ordering::Relaxed),
            at: snapshot.seq(),
            snapshot: Some(snapshot),
            writes: WriteBuffer::new(),
            charged: 0,
            tables: Vec::new(),
            failed: false,
            durability,
        }
    }

    /// The commit that the transaction reads at: it sees that one and all before it.
    #[must_use]
    pub const fn snapshot(&self) -> CommitSeq {
        self.at
    }

    /// The value of a key.
    ///
    /// # Errors
    /// `NotFound` when the table was dropped; `Corrupt` with file and offset; `Io`; `Closed`.
    #[inline]
    pub fn get(&self, table: &Table, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let (key, open) = (key.as_ref(), table.open(self.core)?);
        if !self.writes.is_empty()
            && let Some(own) = self.writes.get(table.id(), key)
        {
            return Ok(own.clone().map(Value::from));
        }
        open.tree.get(self.at, key)
    }

    /// True when the key has a value.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn contains(&self, table: &Table, key: impl AsRef<[u8]>) -> Result<bool> {
        let (key, open) = (key.as_ref(), table.open(self.core)?);
        match self.writes.get(table.id(), key) {
            Some(own) => Ok(own.is_some()),
            None => open.tree.contains(self.at, key),
        }
    }

    /// Sets the value of a key, whether it had one or not.
    ///
    /// # Errors
    /// `Conflict` when another transaction wrote the key first; `Full` when the memory allowed is used up: after either, the
    /// transaction must be rolled back. `InvalidArgument` for a key or value above the limits, `ReadOnly`, `Poisoned`,
    /// and as [`Transaction::get`]: after these it may go on.
    pub fn put(&mut self, table: &Table, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        if value.len() > VALUE_MAX {
            return Err(Error::invalid(format!("a value of {} bytes is above the limit of {VALUE_MAX}", value.len()))
                .remedy("store it in pieces"));
        }
        self.write(table, key, Some(value))
    }

    /// Sets the value of a key that has none.
    ///
    /// # Errors
    /// `Exists` when it has one, and then nothing changed; else as [`Transaction::put`].
    pub fn insert(&mut self, table: &Table, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let key = key.as_ref();
        if self.contains(table, key)? {
            return Err(
                Error::new(ErrorKind::Exists, "attempt to insert an existing key").remedy("put replaces a value")
            );
        }
        self.put(table, key, value)
    }

    /// Sets the value of a key that has one.
    ///
    /// # Errors
    /// `NotFound` when it has none, and then nothing changed; else as [`Transaction::put`].
    pub fn update(&mut self, table: &Table, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let key = key.as_ref();
        if !self.contains(table, key)? {
            return Err(Error::new(ErrorKind::NotFound, "attempt to update a missing key").remedy("put makes one"));
        }
        self.put(table, key, value)
    }

    /// Removes a key and its value; tells whether there was one.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn delete(&mut self, table: &Table, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        let there = self.contains(table, key)?;
        if there {
            self.write(table, key, None)?;
        }
        Ok(there)
    }

    /// Removes every key of the range that the transaction sees; returns how many.
    ///
    /// # Errors
    /// As [`Transaction::put`]; after an error the transaction must be rolled back, so that the range survives or vanishes
    /// as a whole.
    pub fn truncate<K: AsRef<[u8]>>(&mut self, table: &Table, range: impl RangeBounds<K>) -> Result<u64> {
        let mut taken = Taken::default();
        if let Err(e) = self.take_range(table, &range, &mut taken) {
            // As if the call had not been made: others may write the keys that it came to.
            self.failed = true;
            self.core.claims.release(self.id, table.id(), &taken.claimed);
            self.core.ctx.cache.discharge(taken.bytes);
            return Err(e);
        }
        self.charged += taken.bytes;
        let removed = taken.keys.len() as u64;
        for key in taken.keys {
            self.buffer(table, key, None);
        }
        Ok(removed)
    }

    /// Claims every key of the range that the transaction sees, and memory for its deletion.
    fn take_range<K: AsRef<[u8]>>(
        &mut self,
        table: &Table,
        range: &impl RangeBounds<K>,
        taken: &mut Taken,
    ) -> Result<()> {
        self.core.check_writable()?;
        let (mut lo, hi) = bounds(range);
        // In batches, because the rows of a transaction cannot be walked while it claims.
        loop {
            let from = taken.keys.len();
            {
                let mut cursor = self.merged(table, lo, hi.clone())?;
                while taken.keys.len() - from < 1024 && cursor.next()? {
                    taken.keys.extend(cursor.key().map(Arc::from));
                }
            }
            let Some(last) = taken.keys[from..].last() else { return Ok(()) };
            lo = Bound::Excluded(last.to_vec());
            self.enter(table)?;
            let open = table.open(self.core)?;
            for key in &taken.keys[from..] {
                if self.claim(table, open, key)? {
                    taken.claimed.push(Arc::clone(key));
                }
                let bytes = WRITE_OVERHEAD + key.len();
                self.core.ctx.cache.admit_write(bytes)?;
                taken.bytes += bytes;
            }
        }
    }

    /// The rows of a range of keys, in order, from both ends. `..` needs a type: `tx.range::<&[u8]>(&table, ..)`.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn range<K: AsRef<[u8]>>(&self, table: &Table, range: impl RangeBounds<K>) -> Result<Range<'_>> {
        let (lo, hi) = bounds(&range);
        self.rows(table, lo, hi)
    }

    /// All rows of a table, in order, from both ends.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn scan(&self, table: &Table) -> Result<Range<'_>> {
        self.rows(table, Bound::Unbounded, Bound::Unbounded)
    }

    /// The rows whose keys begin with `prefix`, in order, from both ends.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn prefix(&self, table: &Table, prefix: impl AsRef<[u8]>) -> Result<Range<'_>> {
        let (lo, hi) = prefix_bounds(prefix.as_ref());
        self.rows(table, lo, hi)
    }

    /// A cursor over all rows of a table.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn cursor(&self, table: &Table) -> Result<Cursor<'_>> {
        self.merged(table, Bound::Unbounded, Bound::Unbounded)
    }

    fn rows(&self, table: &Table, lo: Bound<Vec<u8>>, hi: Bound<Vec<u8>>) -> Result<Range<'_>> {
        Range::new(Source::Live(self, table.clone()), lo, hi)
    }

    pub(super) fn merged(&self, table: &Table, lo: Bound<Vec<u8>>, hi: Bound<Vec<u8>>) -> Result<Cursor<'_>> {
        let in_use = table.slot.enter(UseKind::Cursor)?;
        let (from, to) = as_slices(&lo, &hi);
        let run: TreeCursor = table.open(self.core)?.tree.scan(self.at, from, to);
        Ok(Cursor::live(Merge::new(run, self.writes.table(table.id()), lo, hi), in_use))
    }

    fn write(&mut self, table: &Table, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.core.check_writable()?;
        let open = table.open(self.core)?;
        if key.len() > KEY_MAX {
            return Err(Error::invalid(format!("a key of {} bytes is above the limit of {KEY_MAX}", key.len()))
                .remedy("shorten the key"));
        }
        self.enter(table)?;
        let key: Arc<[u8]> = Arc::from(key);
        let claimed = self.claim(table, open, &key)?;
        let bytes = WRITE_OVERHEAD + key.len() + value.map_or(0, <[u8]>::len);
        if let Err(e) = self.core.ctx.cache.admit_write(bytes) {
            self.failed = true;
            if claimed {
                self.core.claims.release(self.id, table.id(), [&key]);
            }
            return Err(e);
        }
        self.charged += bytes;
        self.buffer(table, key, value.map(Arc::from));
        Ok(())
    }

    /// Uses the table, from the first write on: it can be neither dropped nor renamed meanwhile.
    fn enter(&mut self, table: &Table) -> Result<()> {
        if let Err(at) = self.tables.binary_search_by_key(&table.id(), |used| used.slot().id()) {
            self.tables.insert(at, table.slot.enter(UseKind::Transaction)?);
        }
        Ok(())
    }

    /// Remembers a write that is claimed and charged; what it takes the place of is given back.
    fn buffer(&mut self, table: &Table, key: Arc<[u8]>, value: Option<Arc<[u8]>>) {
        self.writes.put(table.id(), key, value);
        let surplus = self.charged.saturating_sub(self.writes.bytes());
        self.core.ctx.cache.discharge(surplus);
        self.charged -= surplus;
    }

    /// First updater wins: the key is ours, newly or since an earlier write, or the transaction has lost.
    fn claim(&mut self, table: &Table, open: &OpenTable, key: &Arc<[u8]>) -> Result<bool> {
        match self.core.claims.claim(self.id, table.id(), key) {
            Ok(false) => return Ok(false),
            Ok(true) => {}
            Err(e) => {
                self.failed = true;
                return Err(e);
            }
        }
        if !open.tree.newer_than(self.at, key) {
            return Ok(true);
        }
        self.core.claims.release(self.id, table.id(), [key]);
        self.failed = true;
        Err(Error::new(ErrorKind::Conflict, "the key was written by a commit that this transaction does not see")
            .remedy("roll back and run the transaction again"))
    }

    /// Makes all writes visible at once, under one number. With a log the commit is as durable as the database was opened
    /// for, or as the transaction was begun with; without one it is durable with the next checkpoint.
    ///
    /// # Errors
    /// `InvalidArgument` after a `Conflict` or `Full`; `Poisoned`, `Closed`, `Io`. The transaction is then rolled back,
    /// except after a failed write or sync of the log: then the database is poisoned, and the next open tells whether the
    /// commit is there. When the device is full the database goes on, and commits succeed again once there is space.
    pub fn commit(self) -> Result<CommitSeq> {
        let durability = self.durability.unwrap_or(self.core.durability);
        self.commit_as(durability)
    }

    /// As [`Transaction::commit`], waiting for `durability` and no more.
    ///
    /// # Errors
    /// As [`Transaction::commit`]; `InvalidArgument` when the transaction was begun with a durability, or without a log.
    pub fn commit_with(self, durability: Durability) -> Result<CommitSeq> {
        self.core.needs_log()?;
        if self.durability.is_some() {
            return Err(Error::invalid("the durability was chosen when the transaction was begun")
                .remedy("choose it there or here, not at both"));
        }
        self.commit_as(durability)
    }

    fn commit_as(mut self, durability: Durability) -> Result<CommitSeq> {
        if self.failed {
            return Err(Error::invalid("a write of the transaction was refused, so it cannot be committed")
                .remedy("roll back and run the transaction again"));
        }
        if self.writes.is_empty() {
            return Ok(self.at);
        }
        self.core.check_writable()?;
        let ctx = &self.core.ctx;
        let gate = ctx.epoch.enter();
        // Inside the gate: whether a table is logged changes only between two checkpoints.
        let record = self.core.log().and_then(|_| self.record());
        let mut prepared = Vec::with_capacity(self.tables.len());
        for (id, writes) in self.writes.tables() {
            let open = self.core.catalog.open(slot_of(&self.tables, id))?;
            let rows = writes.iter().map(|(key, value)| (&**key, value.as_deref()));
            prepared.push((&open.tree, open.tree.prepare(&gate, rows)?));
        }
        // Space is made sure of before: to take it may last, and everybody would wait.
        let space = match (self.core.log(), &record) {
            (Some(log), Some(record)) => Some(self.core.logged(log.reserve(record.len()))?),
            _ => None,
        };
        let (seq, ticket) = {
            let mut last = self.core.commit.lock();
            let ticket = match (self.core.log(), &record, space) {
                (Some(log), Some(record), Some(space)) => {
                    Some(self.core.logged(log.append_reserved(space, record, durability))?)
                }
                (Some(log), ..) => Some(log.pending(Durability::Buffered)),
                (None, ..) => None,
            };
            let seq = CommitSeq(last.0 + 1);
            *last = seq;
            for (tree, writes) in &mut prepared {
                tree.apply(&gate, writes, seq);
            }
            (seq, ticket)
        };
        if let (Some(log), Some(ticket)) = (self.core.log(), &ticket) {
            self.core.logged(log.wait(ticket))?;
        }
        ctx.registry.publish(seq);
        self.release_claims();
        self.snapshot = None;
        for (tree, writes) in prepared {
            tree.tidy(&gate, writes);
        }
        drop(gate);
        ctx.cache.relieve();
        self.core.timer.logged(self.core.log());
        Ok(seq)
    }

    /// The writes to logged tables as a record of the log, if there are any.
    fn record(&self) -> Option<Vec<u8>> {
        let mut record = CommitEncoder::new(self.id, self.writes.bytes());
        for (id, writes) in self.writes.tables().filter(|(id, _)| slot_of(&self.tables, *id).is_logged()) {
            for (key, value) in writes {
                match value {
                    Some(value) => record.put(id, key, value),
                    None => record.remove(id, key),
                }
            }
        }
        (!record.is_empty()).then(|| record.finish())
    }

    /// Gives all writes up.
    pub fn rollback(self) {}

    fn release_claims(&self) {
        for (id, writes) in self.writes.tables() {
            self.core.claims.release(self.id, id, writes.keys());
        }
    }
}

/// One of the tables that a transaction has entered.
fn slot_of(tables: &[TableUse], id: TableId) -> &Arc<TableSlot> {
    let at = tables.partition_point(|used| used.slot().id() < id);
    tables[at].slot()
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // A commit that became visible has given back both.
        if self.snapshot.is_some() {
            self.release_claims();
        }
        self.core.ctx.cache.discharge(self.charged);
    }
}
