//! The order in which commits and changes of the catalog stand in the log, and what replaying it makes of a checkpoint.
//!
//! Replay begins where a checkpoint says, and adds what the log holds of each table from there on. A table that was out of
//! the log at the checkpoint keeps the checkpoint's rows until the next one, even if it was taken into the log meanwhile:
//! what came between the checkpoint and that moment is nowhere (G2). A table that left the log afterwards has what the log
//! holds of it up to that moment.
//!
//! - **G1** Entries become durable in order: a promise for one is a promise for all before it.
//! - **G2** Of a table, replay applies all records since the checkpoint up to the last one before a gap, or none.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::Rows;
use super::txn::RowsById;
use super::visible::Visible;

/// How safe a commit is when its call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// On the medium.
    Sync,
    /// With the operating system: it survives the process, not the power.
    Write,
    /// In memory.
    Buffered,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sync, Self::Write, Self::Buffered];

    /// The word in cases and configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Write => "write",
            Self::Buffered => "buffered",
        }
    }

    /// The level of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|l| l.name() == name)
    }
}

/// All that replay up to some record can rely on.
#[derive(Clone, Debug, Default)]
pub struct Logged {
    /// Rows of all tables, whether logged or not.
    pub rows: RowsById,
    /// Tables: name to number.
    pub names: BTreeMap<String, u32>,
    /// Tables with checkpoint durability only.
    pub unlogged: BTreeSet<u32>,
}

/// One record of the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The database once it is replayed.
    pub state: Logged,
    /// The event at which the call began.
    pub begun: u64,
    /// The event at which it was acknowledged to be with the operating system.
    pub written: Option<u64>,
    /// The event at which it was acknowledged to be on the medium.
    pub durable: Option<u64>,
    /// The call, for the report.
    pub why: String,
}

/// The log from the last open on. Its first entry stands for what was there before.
#[derive(Clone, Debug)]
pub struct LogChain {
    on: bool,
    entries: Vec<Entry>,
}

impl LogChain {
    /// An empty log of a database that shows `visible`.
    #[must_use]
    pub fn new(visible: &Visible, on: bool, at: u64) -> Self {
        let rows = visible.latest.values().map(|rows| (rows.table(), rows.clone())).collect();
        let names = visible.latest.iter().map(|(name, rows)| (name.clone(), rows.table())).collect();
        let state = Logged { rows, names, unlogged: visible.unlogged.clone() };
        let first = Entry { state, begun: at, written: Some(at), durable: Some(at), why: "as opened".to_owned() };
        Self { on, entries: vec![first] }
    }

    /// Whether there is a log at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.on
    }

    /// The number of the newest entry.
    #[must_use]
    pub const fn last(&self) -> usize {
        self.entries.len() - 1
    }

    /// All entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// A call that appends a record begins.
    pub fn begin(&mut self, state: Logged, at: u64, why: impl Into<String>) {
        self.entries.push(Entry { state, begun: at, written: None, durable: None, why: why.into() });
    }

    /// The last call that began turned out to append nothing.
    pub fn cancel(&mut self) {
        if self.entries.len() > 1 {
            self.entries.pop();
        }
    }

    /// Everything up to entry `upto` is promised (G1).
    pub fn ack(&mut self, upto: usize, level: Level, at: u64) {
        for entry in self.entries.iter_mut().take(upto + 1) {
            if level != Level::Buffered {
                entry.written.get_or_insert(at);
            }
            if level == Level::Sync {
                entry.durable.get_or_insert(at);
            }
        }
    }

    /// The newest entry that a power cut at `at` must leave; with `same_boot`, one that the death of the process must leave.
    #[must_use]
    pub fn promised(&self, at: u64, same_boot: bool) -> usize {
        let acked = |e: &Entry| if same_boot { e.written } else { e.durable };
        self.entries.iter().rposition(|e| acked(e).is_some_and(|a| a <= at)).unwrap_or(0)
    }

    /// The newest entry that anything durable at `at` may hold.
    #[must_use]
    pub fn newest(&self, at: u64) -> usize {
        self.entries.iter().rposition(|e| e.begun <= at).unwrap_or(0)
    }

    /// The newest entry that damage in one place of the log must not take with it in silence: a later record that is promised
    /// itself tells that it was on the medium.
    #[must_use]
    pub fn witnessed(&self, at: u64) -> usize {
        let last = self.promised(at, false);
        let told = |n: &usize| {
            let durable = self.entries[*n].durable.unwrap_or(u64::MAX);
            self.entries[*n + 1..=last].iter().any(|e| e.begun >= durable)
        };
        (0..last).rev().find(told).unwrap_or(0)
    }

    /// What replay up to entry `n` makes of the rows of a table, as the checkpoint `base` with position `from` has them (G2).
    #[must_use]
    pub fn rows(&self, id: u32, base: &Rows, from: usize, n: usize) -> Rows {
        if !self.on {
            return base.clone();
        }
        let here = |e: &&Entry| e.state.names.values().any(|t| *t == id);
        let first = self.entries[from..].iter().find(here);
        if first.is_none_or(|e| e.state.unlogged.contains(&id)) {
            return base.clone();
        }
        let left = self.entries[from..].iter().position(|e| here(&e) && e.state.unlogged.contains(&id));
        let upto = left.map_or(n, |gap| n.min(from + gap));
        let known = self.entries[..=upto].iter().rev().find_map(|e| e.state.rows.get(&id));
        known.cloned().unwrap_or_else(|| Rows::of(id))
    }

    /// What a database shows that starts from `base`, a checkpoint with position `from`, and replays up to `n`. With
    /// `catalog`, changes of the catalog come from the log too; otherwise `base` holds those that count.
    #[must_use]
    pub fn replayed(&self, base: &Visible, from: usize, n: usize, catalog: bool) -> Visible {
        if !self.on {
            return base.clone();
        }
        let state = &self.entries[n].state;
        let empty = |id| Rows::of(id);
        let based: BTreeMap<u32, &Rows> = base.latest.values().map(|rows| (rows.table(), rows)).collect();
        let rows = |id: u32| {
            let base = based.get(&id).map_or_else(|| empty(id), |rows| (*rows).clone());
            self.rows(id, &base, from, n)
        };
        if !catalog {
            let latest = base.latest.iter().map(|(name, old)| (name.clone(), rows(old.table()))).collect();
            // What was replayed is in a newer checkpoint, without a name.
            let newest = base.newest.clone().filter(|_| n == from);
            return Visible { latest, newest, ..base.clone() };
        }
        let latest = state.names.iter().map(|(name, id)| (name.clone(), rows(*id))).collect();
        let alive: BTreeSet<u32> = state.names.values().copied().collect();
        let mut named = base.named.clone();
        for (_, tables) in &mut named {
            tables.retain(|_, rows| alive.contains(&rows.table()));
        }
        Visible { latest, newest: None, named, unlogged: state.unlogged.clone(), ..base.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Bytes;

    fn bytes(s: &str) -> Bytes {
        s.as_bytes().into()
    }

    /// A log of a table `t` with one row after another, of which some entries take the table out of the log.
    fn chain(out: &[bool]) -> (LogChain, Vec<Rows>) {
        let mut rows = Rows::of(0);
        let first = Visible { latest: [("t".to_owned(), rows.clone())].into(), ..Visible::default() };
        let mut log = LogChain::new(&first, true, 0);
        let mut all = vec![rows.clone()];
        for (n, out) in out.iter().enumerate() {
            rows.set(&bytes(&format!("k{n}")), Some(&bytes("v")));
            let unlogged = if *out { BTreeSet::from([0]) } else { BTreeSet::new() };
            let names = [("t".to_owned(), 0)].into();
            log.begin(Logged { rows: [(0, rows.clone())].into(), names, unlogged }, 10 * (n as u64 + 1), "commit");
            all.push(rows.clone());
        }
        (log, all)
    }

    #[test]
    fn promises_cover_what_came_before() {
        let (mut log, _) = chain(&[false, false, false]);
        log.ack(2, Level::Write, 25);
        assert_eq!((log.promised(30, false), log.promised(30, true), log.newest(20)), (0, 2, 2));
        log.ack(1, Level::Sync, 27);
        assert_eq!((log.promised(26, false), log.promised(27, false)), (0, 1));
        log.ack(3, Level::Sync, 35);
        assert_eq!(log.witnessed(40), 1, "entry 3 began when 1 was durable and 2 was not");
    }

    #[test]
    fn a_gap_in_the_log_hides_what_follows() {
        let (log, all) = chain(&[false, true, true, false]);
        let digest = |rows: &Rows| rows.digest();
        assert_eq!(digest(&log.rows(0, &all[0], 0, 1)), digest(&all[1]));
        assert_eq!(digest(&log.rows(0, &all[0], 0, 4)), digest(&all[2]), "what it had when it left");
        assert_eq!(digest(&log.rows(0, &all[0], 2, 4)), digest(&all[0]), "it was out at the checkpoint");
        assert_eq!(digest(&log.rows(0, &all[4], 4, 4)), digest(&all[4]));
    }
}
