//! Running transactions: snapshots, overlays, and who conflicts with whom.
//!
//! - **X1** A transaction sees what had been committed when it began, plus its own writes.
//! - **X2** The first updater wins: a write of a key that another running transaction wrote, or that was committed after
//!   the snapshot, is refused, and the transaction can only be rolled back.
//! - **X3** Nothing else is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::rows::{Bytes, Rows};

/// Why a call was refused; the model's own word for the engine's kinds of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// Another transaction was first.
    Conflict,
    /// Something holds what the call would remove.
    Busy,
    /// No such thing.
    NotFound,
    /// It is there already.
    Exists,
    /// The call makes no sense as given.
    Invalid,
    /// The memory allowed is used up.
    Full,
    /// The disk refused, or gave wrong bytes, or a piece is missing.
    Damage,
    /// The copy does not fit.
    WrongBase,
    /// Anything else.
    Other,
}

/// Rows by the number of their table; numbers are never given twice.
pub type RowsById = BTreeMap<u32, Rows>;

/// One running transaction.
#[derive(Clone, Debug)]
pub struct Txn {
    snapshot: RowsById,
    began: u64,
    writes: BTreeMap<u32, BTreeMap<Bytes, Option<Bytes>>>,
    /// A write was refused: only a rollback is left.
    pub doomed: bool,
    /// Keys that a call may have written before it was refused.
    touched: BTreeSet<(u32, Bytes)>,
}

/// All running transactions and the committed contents.
#[derive(Clone, Default)]
pub struct Transactions {
    committed: RowsById,
    commits: u64,
    last_write: BTreeMap<(u32, Bytes), u64>,
    /// Running transactions by slot.
    pub running: BTreeMap<u8, Txn>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.digest())
    }
}

impl Transactions {
    /// Starts from the contents that a database shows when it is opened.
    #[must_use]
    pub fn resume(committed: RowsById) -> Self {
        Self { committed, ..Self::default() }
    }

    /// Committed contents of one table.
    #[must_use]
    pub fn committed(&self, table: u32) -> Rows {
        self.committed.get(&table).cloned().unwrap_or_else(|| Rows::of(table))
    }

    /// Committed contents of all tables.
    #[must_use]
    pub fn all(&self) -> RowsById {
        self.committed.clone()
    }

    /// Committed contents of all tables as they will be when `slot` has committed.
    #[must_use]
    pub fn all_after(&self, slot: u8) -> RowsById {
        let mut rows = self.committed.clone();
        for (table, writes) in self.running.get(&slot).into_iter().flat_map(|t| &t.writes) {
            let rows = rows.entry(*table).or_insert_with(|| Rows::of(*table));
            writes.iter().for_each(|(key, value)| rows.set(key, value.as_ref()));
        }
        rows
    }

    /// Commits so far in this session.
    #[must_use]
    pub const fn commits(&self) -> u64 {
        self.commits
    }

    /// Starts a transaction in a free slot.
    pub fn begin(&mut self, slot: u8) {
        let txn = Txn {
            snapshot: self.committed.clone(),
            began: self.commits,
            writes: BTreeMap::new(),
            doomed: false,
            touched: BTreeSet::new(),
        };
        self.running.insert(slot, txn);
    }

    /// True when a write of `key` by `slot` must be refused (X2).
    #[must_use]
    pub fn conflicts(&self, slot: u8, table: u32, key: &Bytes) -> bool {
        let Some(me) = self.running.get(&slot) else { return false };
        let newer = self.last_write.get(&(table, key.clone())).is_some_and(|&at| at > me.began);
        newer || self.running.iter().any(|(&other, t)| other != slot && t.wrote(table, key))
    }

    /// True when a write of `key` by `slot` may be refused because of a transaction that lost half way through a range.
    #[must_use]
    pub fn may_conflict(&self, slot: u8, table: u32, key: &Bytes) -> bool {
        let at = (table, key.clone());
        self.running.iter().any(|(&other, t)| other != slot && t.touched.contains(&at))
    }

    /// A call of `slot` was refused that may have written these keys first.
    pub fn touch(&mut self, slot: u8, table: u32, keys: &[Bytes]) {
        if let Some(txn) = self.running.get_mut(&slot) {
            txn.touched.extend(keys.iter().map(|k| (table, k.clone())));
        }
    }

    /// Notes a write of `slot`; `None` deletes.
    pub fn write(&mut self, slot: u8, table: u32, key: &Bytes, value: Option<Bytes>) {
        if let Some(txn) = self.running.get_mut(&slot) {
            txn.writes.entry(table).or_default().insert(key.clone(), value);
        }
    }

    /// Makes the writes of `slot` committed. True when there were any.
    pub fn commit(&mut self, slot: u8) -> bool {
        let Some(txn) = self.running.remove(&slot) else { return false };
        let writes = txn.writes.iter().flat_map(|(t, w)| w.iter().map(move |(k, v)| (*t, k, v)));
        let before = self.commits;
        for (table, key, value) in writes {
            self.commits = before + 1;
            self.committed.entry(table).or_insert_with(|| Rows::of(table)).set(key, value.as_ref());
            self.last_write.insert((table, key.clone()), self.commits);
        }
        self.commits > before
    }

    /// Forgets `slot`.
    pub fn roll_back(&mut self, slot: u8) {
        self.running.remove(&slot);
    }

    /// True when a running transaction has writes in `table`.
    #[must_use]
    pub fn writes_in(&self, table: u32) -> bool {
        self.running.values().any(|t| t.writes(table))
    }

    /// Forgets a dropped table.
    pub fn forget(&mut self, table: u32) {
        self.committed.remove(&table);
    }
}

impl Txn {
    fn wrote(&self, table: u32, key: &Bytes) -> bool {
        self.writes.get(&table).is_some_and(|w| w.contains_key(key))
    }

    /// True when this transaction wrote in `table`.
    #[must_use]
    pub fn writes(&self, table: u32) -> bool {
        self.writes.get(&table).is_some_and(|w| !w.is_empty())
    }

    /// What this transaction reads for `key` (X1).
    #[must_use]
    pub fn get(&self, table: u32, key: &[u8]) -> Option<Bytes> {
        if let Some(own) = self.writes.get(&table).and_then(|w| w.get(key)) {
            return own.clone();
        }
        self.snapshot.get(&table).and_then(|rows| rows.get(key)).cloned()
    }

    /// All rows this transaction sees in `table`.
    #[must_use]
    pub fn rows(&self, table: u32) -> Rows {
        let mut rows = self.snapshot.get(&table).cloned().unwrap_or_else(|| Rows::of(table));
        for (key, value) in self.writes.get(&table).into_iter().flatten() {
            rows.set(key, value.as_ref());
        }
        rows
    }

    /// The keys this transaction sees within bounds.
    #[must_use]
    pub fn keys(&self, table: u32, lo: Bound<&[u8]>, hi: Bound<&[u8]>) -> Vec<Bytes> {
        self.rows(table).range(lo, hi).map(|(k, _)| k.clone()).collect()
    }

    /// Rows written so far, over all tables.
    #[must_use]
    pub fn written(&self) -> usize {
        self.writes.values().map(BTreeMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(s: &str) -> Bytes {
        s.as_bytes().into()
    }

    #[test]
    fn first_updater_wins() {
        let mut t = Transactions::default();
        let (k, v) = (bytes("k"), bytes("v"));
        t.begin(0);
        t.begin(1);
        t.write(0, 1, &k, Some(v.clone()));
        assert!(t.conflicts(1, 1, &k) && !t.conflicts(0, 1, &k));
        assert!(!t.conflicts(1, 2, &k), "another table");
        assert!(t.commit(0));
        assert!(t.conflicts(1, 1, &k), "committed after the snapshot");
        t.begin(2);
        assert!(!t.conflicts(2, 1, &k));
        assert_eq!(t.running[&1].get(1, b"k"), None);
        assert_eq!(t.running[&2].get(1, b"k"), Some(v));
        t.roll_back(2);
        t.begin(3);
        assert!(!t.conflicts(3, 1, &k));
    }

    #[test]
    fn own_writes_overlay_the_snapshot() {
        let mut t = Transactions::default();
        t.begin(0);
        t.write(0, 1, &bytes("a"), Some(bytes("1")));
        t.write(0, 1, &bytes("b"), Some(bytes("2")));
        t.commit(0);
        t.begin(0);
        t.write(0, 1, &bytes("a"), None);
        t.write(0, 1, &bytes("c"), Some(bytes("3")));
        let keys = t.running[&0].keys(1, Bound::Unbounded, Bound::Unbounded);
        assert_eq!(keys, [bytes("b"), bytes("c")]);
        t.roll_back(0);
        assert_eq!(t.committed(1).digest().rows, 2);
        t.begin(0);
        assert!(!t.commit(0), "a reader commits nothing");
    }
}
