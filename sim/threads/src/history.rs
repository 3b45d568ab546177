//! What the threads saw and were told, in the order in which it happened.

use std::collections::{BTreeMap, BTreeSet};

use strandline_sim::oracle::Rule;

use crate::plan::{APPENDS, Element, Key, Level, Txn};

/// A moment of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Its place among all moments that anybody noted.
    pub tick: u64,
    /// The number that the next call to the database's disk would take.
    pub event: u64,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has not.
    Open,
    /// It was committed.
    Committed {
        /// Its number in the engine's order; that of its snapshot when it wrote nothing.
        seq: u64,
        /// Before the call.
        called: Moment,
        /// After it.
        acked: Moment,
    },
    /// It rolled back, by itself or after a conflict.
    RolledBack,
}

/// A list that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Where.
    pub key: Key,
    /// How many appends the transaction had made before.
    pub own: usize,
    /// What it saw.
    pub list: Vec<Element>,
}

/// A transaction that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its number.
    pub id: u16,
    /// What it asked for.
    pub level: Option<Level>,
    /// Before it began.
    pub began: Moment,
    /// After it had.
    pub opened: Moment,
    /// The newest commit that it sees, by the engine's word.
    pub snapshot: u64,
    /// What it read, in order.
    pub reads: Vec<Read>,
    /// What it appended to, in order.
    pub appends: Vec<Key>,
    /// What became of it.
    pub end: End,
}

impl Ran {
    /// A transaction that has just begun.
    #[must_use]
    pub fn new(txn: &Txn, began: Moment, opened: Moment, snapshot: u64) -> Self {
        let (reads, appends) = (Vec::new(), Vec::new());
        Self { id: txn.id, level: txn.level, began, opened, snapshot, reads, appends, end: End::Open }
    }

    /// What it appended, in order.
    pub fn elements(&self) -> impl Iterator<Item = (Key, Element)> {
        (0..).zip(&self.appends).map(|(n, key)| (*key, self.id * APPENDS + n))
    }

    /// The number and the moments of its commit, if it was committed and wrote something.
    #[must_use]
    pub fn commit(&self) -> Option<(u64, Moment, Moment)> {
        match self.end {
            End::Committed { seq, called, acked } if !self.appends.is_empty() => Some((seq, called, acked)),
            _ => None,
        }
    }
}

/// The call and the answer of something that is not a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Before it.
    pub called: Moment,
    /// After it; `None` while it has not returned, or when it was refused.
    pub acked: Option<Moment>,
}

/// A promise that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which one.
    pub rule: Rule,
    /// What was expected and what was seen.
    pub text: String,
}

impl Failure {
    /// A failure.
    pub fn new(rule: Rule, text: impl Into<String>) -> Self {
        Self { rule, text: text.into() }
    }
}

/// Lists by table and key.
pub type Lists = BTreeMap<Key, Vec<Element>>;

/// What is left of lists without those of some tables.
#[must_use]
pub fn without(lists: &Lists, tables: &BTreeSet<u8>) -> Lists {
    lists.iter().filter(|(key, _)| !tables.contains(&key.0)).map(|(key, list)| (*key, list.clone())).collect()
}

/// Everything that happened.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Moments so far.
    tick: u64,
    /// Transactions, in the order in which they began.
    pub txns: Vec<Ran>,
    /// Tables, each with the call that made it. None is made a second time.
    pub tables: BTreeMap<u8, Call>,
    /// Tables, each with the call that dropped it; one that was refused has changed nothing.
    pub drops: BTreeMap<u8, Call>,
    /// Tables, each with the call that gave it its other name; one that was refused has changed nothing.
    pub renames: BTreeMap<u8, Call>,
    /// Calls after which all that was committed before them is durable.
    pub syncs: Vec<Call>,
    /// Checkpoints that were taken.
    pub checkpoints: Vec<Call>,
    /// What views of the newest checkpoint showed.
    pub views: Vec<(Call, Lists)>,
    /// Copies: when the backup was opened, or its log was closed again; and whether the copy was finished.
    pub copies: BTreeMap<u8, (Call, bool)>,
    /// What the database holds in the end.
    pub last: Lists,
    /// A call was answered as it must not be.
    pub failure: Option<Failure>,
    /// How often something worth counting happened.
    pub marks: BTreeMap<&'static str, u64>,
}

impl History {
    /// A new moment.
    pub fn moment(&mut self, event: u64) -> Moment {
        self.tick += 1;
        Moment { tick: self.tick, event }
    }

    /// Counts something.
    pub fn mark(&mut self, what: &'static str) {
        *self.marks.entry(what).or_default() += 1;
    }

    /// Notes a failure; the first one stays.
    pub fn fail(&mut self, rule: Rule, text: impl Into<String>) {
        self.failure.get_or_insert_with(|| Failure::new(rule, text));
    }

    /// The tables of which a drop had been called for by an event of the disk.
    #[must_use]
    pub fn dropped(&self, by: u64) -> BTreeSet<u8> {
        self.drops.iter().filter(|(_, call)| call.called.event <= by).map(|(table, _)| *table).collect()
    }

    /// The committed transactions that wrote something, in the engine's order.
    #[must_use]
    pub fn commits(&self) -> Vec<&Ran> {
        let mut all: Vec<&Ran> = self.txns.iter().filter(|t| t.commit().is_some()).collect();
        all.sort_by_key(|t| t.commit().map(|(seq, ..)| seq));
        all
    }
}
