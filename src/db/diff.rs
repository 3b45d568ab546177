//! Whether two states are the same, and where they differ.
//!
//! Two views, of one database or of two, are compared table by table, by name. Tables of histories that were once one share
//! blocks, and what is shared is not read: comparing a copy with the copy of a week ago costs what has changed since.

use std::collections::BTreeSet;

use super::view::View;
use crate::btree::{Difference, diff};
use crate::error::Result;
use crate::types::CheckpointSeq;

/// Ranges that are told of one table; what differs behind them is counted only.
const RANGES_MAX: usize = 64;

/// What differs between two states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateDiff {
    /// Tables that only the first state has, by name.
    pub only_first: Vec<String>,
    /// Tables that only the second state has, by name.
    pub only_second: Vec<String>,
    /// Tables that both have and that differ, by name.
    pub tables: Vec<TableDiff>,
}

/// What differs in one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableDiff {
    /// The table.
    pub name: String,
    /// Keys that only the first state has.
    pub only_first: u64,
    /// Keys that only the second state has.
    pub only_second: u64,
    /// Keys with different values.
    pub values: u64,
    /// Where that is: the first 64 ranges, ascending.
    pub ranges: Vec<KeyRange>,
}

/// Keys that differ, with none the same between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first of them.
    pub first: Vec<u8>,
    /// The last of them.
    pub last: Vec<u8>,
    /// How many there are.
    pub keys: u64,
}

impl StateDiff {
    /// True when both states hold the same.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.only_first.is_empty() && self.only_second.is_empty() && self.tables.is_empty()
    }
}

impl TableDiff {
    fn note(&mut self, key: &[u8], difference: Difference, adjoins: bool) {
        match difference {
            Difference::OnlyFirst => self.only_first += 1,
            Difference::OnlySecond => self.only_second += 1,
            Difference::Value => self.values += 1,
        }
        let told = self.only_first + self.only_second + self.values;
        let in_ranges: u64 = self.ranges.iter().map(|r| r.keys).sum();
        let room = self.ranges.len() < RANGES_MAX;
        match self.ranges.last_mut() {
            // Only while every key so far is in a range does the last range reach up to here.
            Some(last) if adjoins && in_ranges + 1 == told => {
                last.last = key.to_vec();
                last.keys += 1;
            }
            _ if room => {
                self.ranges.push(KeyRange { first: key.to_vec(), last: key.to_vec(), keys: 1 });
            }
            _ => {}
        }
    }
}

impl View {
    /// Compares this state with another, of this database or of another one.
    ///
    /// ```
    /// # fn main() -> strandline::Result<()> {
    /// # use strandline::{CheckpointOptions, CheckpointRef, Options, TableOptions};
    /// # let vfs = std::sync::Arc::new(strandline_vfs::mem::MemVfs::new());
    /// let db = Options::new().create(true).vfs(vfs).open("db")?;
    /// let people = db.create_table("people", TableOptions::new())?;
    /// db.checkpoint(CheckpointOptions::new().name("monday"))?;
    /// let mut tx = db.begin()?;
    /// tx.put(&people, "ann", "paris")?;
    /// tx.commit()?;
    /// db.checkpoint(CheckpointOptions::new())?;
    /// let diff = db.view(CheckpointRef::Named("monday"))?.diff(&db.view(CheckpointRef::Latest)?)?;
    /// assert_eq!(diff.tables[0].only_second, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Corrupt` with file and offset; `Io`; `Closed`.
    pub fn diff(&self, other: &Self) -> Result<StateDiff> {
        let names = |view: &Self| view.tables().map(|t| t.name).collect::<BTreeSet<String>>();
        let (mine, theirs) = (names(self), names(other));
        let mut out = StateDiff {
            only_first: mine.difference(&theirs).cloned().collect(),
            only_second: theirs.difference(&mine).cloned().collect(),
            tables: Vec::new(),
        };
        let common = self.root().common(&other.root());
        for name in mine.intersection(&theirs) {
            let same_file = self.table_id(name) == other.table_id(name);
            let common = common.filter(|_| same_file).unwrap_or(CheckpointSeq::ZERO);
            let mut found = TableDiff { name: name.clone(), ..TableDiff::default() };
            diff(&self.reader(name)?, &other.reader(name)?, |addr| addr.birth <= common, &mut |key, how, adjoins| {
                found.note(key, how, adjoins);
                Ok(true)
            })?;
            if found.only_first + found.only_second + found.values > 0 {
                out.tables.push(found);
            }
        }
        Ok(out)
    }
}
