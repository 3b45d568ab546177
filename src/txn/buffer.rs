//! The writes of one transaction before it commits.
//!
//! Private to the transaction, hence without locks. Keys and values are shared slices, so that the claims, the buffer and
//! the commit need one copy of each between them. The buffer knows how many bytes it holds, because they are charged to the
//! database's memory like pages are.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::TableId;

/// The writes to one table in order of keys: the new value, or `None` for a deletion.
pub type TableWrites = BTreeMap<Arc<[u8]>, Option<Arc<[u8]>>>;

/// Bytes of bookkeeping that one buffered write is charged beside its key and value.
const PER_WRITE: usize = 96;

/// The writes of one transaction to all tables.
#[derive(Debug, Default)]
pub struct WriteBuffer {
    /// In order of ids. Few transactions write to more tables than a search through a row of them can bear.
    tables: Vec<(TableId, TableWrites)>,
    bytes: usize,
}

/// What a write is charged.
fn cost(key: &[u8], value: Option<&[u8]>) -> usize {
    PER_WRITE + key.len() + value.map_or(0, <[u8]>::len)
}

impl WriteBuffer {
    /// Nothing written yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers a write, in place of an earlier one to the same key.
    pub fn put(&mut self, table: TableId, key: Arc<[u8]>, value: Option<Arc<[u8]>>) {
        let added = cost(&key, value.as_deref());
        let key_bytes = key.len();
        let at = self.tables.binary_search_by_key(&table, |(id, _)| *id).unwrap_or_else(|at| {
            self.tables.insert(at, (table, TableWrites::new()));
            at
        });
        if let Some(former) = self.tables[at].1.insert(key, value) {
            self.bytes -= PER_WRITE + key_bytes + former.map_or(0, |v| v.len());
        }
        self.bytes += added;
    }

    /// The buffered write to a key: `Some(None)` is a deletion.
    #[must_use]
    pub fn get(&self, table: TableId, key: &[u8]) -> Option<&Option<Arc<[u8]>>> {
        self.table(table)?.get(key)
    }

    /// The writes to one table.
    #[must_use]
    pub fn table(&self, table: TableId) -> Option<&TableWrites> {
        let at = self.tables.binary_search_by_key(&table, |(id, _)| *id).ok()?;
        Some(&self.tables[at].1)
    }

    /// The tables written, each with its writes, in order of ids.
    pub fn tables(&self) -> impl Iterator<Item = (TableId, &TableWrites)> {
        self.tables.iter().map(|(id, writes)| (*id, writes))
    }

    /// True when nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Bytes of memory that the buffer is charged.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_write_counts_and_is_charged_once() {
        let mut buffer = WriteBuffer::new();
        let t = TableId(1);
        buffer.put(t, Arc::from(*b"k"), Some(Arc::from(*b"0123456789")));
        let first = buffer.bytes();
        buffer.put(t, Arc::from(*b"k"), None);
        assert_eq!(buffer.bytes(), first - 10);
        assert_eq!(buffer.get(t, b"k"), Some(&None));
        assert_eq!(buffer.get(TableId(2), b"k"), None);
        assert_eq!(buffer.tables().count(), 1);
    }
}
