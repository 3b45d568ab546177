//! Read-only views of checkpoints: all tables as one checkpoint holds them, whatever is checkpointed later.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use parking_lot::Mutex;

use super::core::Core;
use super::cursor::{Cursor, Range, Source, as_slices, bounds, prefix_bounds};
use super::merge::Merge;
use super::table::TableInfo;
use crate::block::BlockSource;
use crate::btree::TreeReader;
use crate::catalog::{CheckpointRecord, RootRecord, TableEntry, TableLog, TableUse};
use crate::checkpoint::Pin;
use crate::error::{Error, ErrorKind, Result};
use crate::page::Value;
use crate::types::{CheckpointSeq, TableId};

/// Which checkpoint is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointRef<'a> {
    /// The newest complete one, named or not.
    Latest,
    /// The one of that name.
    Named(&'a str),
}

/// One checkpoint of all tables. It stays as it is, and its checkpoint stays, until the view is dropped.
#[derive(Debug)]
pub struct View {
    core: Arc<Core>,
    record: CheckpointRecord,
    tables: BTreeMap<String, TableEntry>,
    readers: Mutex<BTreeMap<String, Arc<TreeReader>>>,
    _uses: Vec<TableUse>,
    _pin: Pin,
}

impl View {
    /// `pin` was taken, and all tables were entered, while it was decided which checkpoint to view.
    pub(super) fn new(core: Arc<Core>, record: CheckpointRecord, pin: Pin, mut uses: Vec<TableUse>) -> Result<Self> {
        let (tables, _) = core.catalog.read_at(&record)?;
        let held: BTreeSet<TableId> = tables.values().map(|e| e.id).collect();
        uses.retain(|table| held.contains(&table.slot().id()));
        Ok(Self { core, record, tables, readers: Mutex::default(), _uses: uses, _pin: pin })
    }

    /// The checkpoint's number.
    #[must_use]
    pub fn seq(&self) -> CheckpointSeq {
        self.record.seq
    }

    /// The checkpoint's name; `None` for an unnamed one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.record.name.as_deref()
    }

    /// The tables that the checkpoint holds, by name.
    pub fn tables(&self) -> impl Iterator<Item = TableInfo> {
        self.tables.iter().map(|(name, e)| TableInfo {
            name: name.clone(),
            id: e.id,
            config: e.config.clone(),
            logged: e.log != TableLog::Off,
            file_bytes: e.newest().map_or(0, |s| s.size),
        })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// `NotFound` for a table that the checkpoint does not hold; `Corrupt` with file and offset; `Io`; `Closed`.
    pub fn get(&self, table: &str, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        self.reader(table)?.get(key.as_ref())
    }

    /// The rows of a range of keys, in order, from both ends.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn range<K: AsRef<[u8]>>(&self, table: &str, range: impl RangeBounds<K>) -> Result<Range<'_>> {
        let (lo, hi) = bounds(&range);
        self.rows(table, lo, hi)
    }

    /// All rows of a table, in order, from both ends.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn scan(&self, table: &str) -> Result<Range<'_>> {
        self.rows(table, Bound::Unbounded, Bound::Unbounded)
    }

    /// The rows whose keys begin with `prefix`, in order, from both ends.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn prefix(&self, table: &str, prefix: impl AsRef<[u8]>) -> Result<Range<'_>> {
        let (lo, hi) = prefix_bounds(prefix.as_ref());
        self.rows(table, lo, hi)
    }

    /// A cursor over all rows of a table.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn cursor(&self, table: &str) -> Result<Cursor<'_>> {
        self.one(table, Bound::Unbounded, Bound::Unbounded)
    }

    fn rows(&self, table: &str, lo: Bound<Vec<u8>>, hi: Bound<Vec<u8>>) -> Result<Range<'_>> {
        Range::new(Source::Stored(self, table.to_owned()), lo, hi)
    }

    pub(super) fn one(&self, table: &str, lo: Bound<Vec<u8>>, hi: Bound<Vec<u8>>) -> Result<Cursor<'_>> {
        let (from, to) = as_slices(&lo, &hi);
        let run = self.reader(table)?.scan(from, to);
        Ok(Cursor::stored(Merge::new(run, None, lo, hi)))
    }

    /// The root record of the database that the view is of.
    pub(super) fn root(&self) -> RootRecord {
        self.core.catalog.root()
    }

    pub(super) fn table_id(&self, table: &str) -> Option<TableId> {
        self.tables.get(table).map(|entry| entry.id)
    }

    pub(super) fn reader(&self, table: &str) -> Result<Arc<TreeReader>> {
        self.core.check_open()?;
        let mut readers = self.readers.lock();
        if let Some(reader) = readers.get(table) {
            return Ok(Arc::clone(reader));
        }
        let entry = self.tables.get(table).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the checkpoint holds no table `{table}`"))
                .remedy("list the tables of the view")
        })?;
        let slot = self.core.catalog.find_id(entry.id);
        let slot = slot.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("table `{table}` was dropped")))?;
        let source: Arc<dyn BlockSource> = Arc::clone(&self.core.catalog.open(&slot)?.store) as _;
        let root = entry.state_at(self.record.seq).and_then(|s| s.root);
        let reader = TreeReader::open(source, root);
        readers.insert(table.to_owned(), Arc::clone(&reader));
        Ok(reader)
    }
}
