//! The open database as its callers see it.

use std::collections::{BTreeMap, BTreeSet};

use super::checkpoint::{Checkpoints, Taken};
use super::log::Logged;
use super::rows::{Rows, TableSet};
use super::txn::{RowsById, Transactions};
use super::visible::{Origin, Visible};

/// The backup that is open.
#[derive(Clone)]
pub struct OpenBackup {
    /// What a copy of it must show.
    pub copy: Visible,
    /// Tables that existed when it was opened; they can be neither dropped nor renamed.
    pub tables: BTreeSet<u32>,
    /// Where the log goes on that its copies hold: the era, and the entry of the checkpoint. `None`: they hold no log.
    pub log: Option<(usize, usize)>,
    /// Where an increment on top of it starts.
    pub origin: Origin,
    /// Where it starts itself, if it is an increment.
    pub since: Option<Origin>,
    /// How its ranges are shaped.
    pub shape: u8,
    /// The label that it leaves when it ends well.
    pub label: Option<String>,
}

/// Everything that a live call may depend on.
#[derive(Clone, Default)]
pub struct Live {
    /// Running transactions and committed contents.
    pub txns: Transactions,
    /// Retained checkpoints and views.
    pub checkpoints: Checkpoints,
    /// Tables: name to number.
    pub tables: BTreeMap<String, u32>,
    /// Numbers of tables with commits since the last checkpoint of the whole database.
    pub changed: BTreeSet<u32>,
    /// The backup that is open.
    pub backup: Option<OpenBackup>,
    /// No checkpoint of the whole database was ever taken: there may be none to view.
    pub untouched: bool,
    next: u32,
}

impl Live {
    /// The database right after it was opened in this state.
    #[must_use]
    pub fn resume(visible: &Visible) -> Self {
        let mut live = Self::default();
        let mut contents = RowsById::new();
        for (name, rows) in &visible.latest {
            live.tables.insert(name.clone(), rows.table());
            contents.insert(rows.table(), rows.clone());
        }
        let named = visible.named.iter().flat_map(|(_, tables)| tables.values());
        live.next = visible.latest.values().chain(named).map(|rows| rows.table() + 1).max().unwrap_or(0);
        live.txns = Transactions::resume(contents);
        live.checkpoints = Checkpoints::resume(visible);
        live
    }

    /// Makes a table.
    pub fn add_table(&mut self, name: &str) -> u32 {
        let id = self.next;
        self.next += 1;
        self.tables.insert(name.to_owned(), id);
        id
    }

    /// What has been committed, by name.
    #[must_use]
    pub fn committed(&self) -> TableSet {
        self.tables.iter().map(|(name, id)| (name.clone(), self.txns.committed(*id))).collect()
    }

    /// The number that the next table gets.
    #[must_use]
    pub const fn next_table(&self) -> u32 {
        self.next
    }

    /// What a database opened after a crash now would show.
    #[must_use]
    pub fn durable(&self) -> Visible {
        self.checkpoints.visible()
    }

    /// What it would show once a checkpoint is taken that removes what `taken` says.
    #[must_use]
    pub fn after_checkpoint(&self, name: Option<&str>, taken: &Taken) -> Visible {
        let mut next = self.checkpoints.clone();
        next.take(name, taken, self.committed());
        next.visible()
    }

    /// Takes the checkpoint.
    pub fn checkpoint(&mut self, name: Option<&str>, taken: &Taken) {
        let tables = self.committed();
        self.checkpoints.take(name, taken, tables);
        self.changed.clear();
        self.untouched = false;
    }

    /// What the log can rely on now.
    #[must_use]
    pub fn logged(&self) -> Logged {
        Logged { rows: self.txns.all(), names: self.tables.clone(), unlogged: self.checkpoints.unlogged.clone() }
    }

    /// What it can rely on once the transaction of `slot` has committed; `None` when that writes no record.
    #[must_use]
    pub fn logged_after(&self, slot: u8) -> Option<Logged> {
        let txn = self.txns.running.get(&slot)?;
        let logged = self.tables.values().any(|id| txn.writes(*id) && !self.checkpoints.unlogged.contains(id));
        logged.then(|| Logged { rows: self.txns.all_after(slot), ..self.logged() })
    }

    /// True when the transaction of `slot` writes to a table that is out of the log.
    #[must_use]
    pub fn writes_unlogged(&self, slot: u8) -> bool {
        let Some(txn) = self.txns.running.get(&slot) else { return false };
        self.checkpoints.unlogged.iter().any(|id| txn.writes(*id))
    }

    /// Commits a transaction and remembers which tables changed.
    pub fn commit(&mut self, slot: u8) {
        let ids: Vec<u32> = self.tables.values().copied().collect();
        let wrote: Vec<u32> =
            ids.into_iter().filter(|id| self.txns.running.get(&slot).is_some_and(|t| t.writes(*id))).collect();
        self.txns.commit(slot);
        self.changed.extend(wrote);
    }

    /// Pins the newest checkpoint, or the one of this name, for a backup. `None` when there is no such checkpoint.
    pub fn open_backup(&mut self, name: Option<&str>) -> Option<()> {
        let at = match name {
            Some(name) => self.checkpoints.named(name)?,
            None => self.checkpoints.newest()?,
        };
        let unlogged = if name.is_some() { &at.unlogged } else { &self.checkpoints.unlogged };
        let held: BTreeSet<u32> = at.tables.values().map(Rows::table).collect();
        let copy = Visible {
            latest: at.tables.clone(),
            newest: at.name.clone(),
            named: self.checkpoints.named_up_to(at.ord),
            unlogged: unlogged.intersection(&held).copied().collect(),
            labels: if name.is_some() { at.labels.clone() } else { self.checkpoints.labels.clone() },
            then: self.checkpoints.then(at.ord),
        };
        let tables = self.tables.values().copied().collect();
        let (log, origin) = (None, Origin::default());
        self.backup = Some(OpenBackup { copy, tables, log, origin, since: None, shape: 0, label: None });
        self.checkpoints.pin();
        Some(())
    }

    /// The backup is over.
    pub fn end_backup(&mut self) {
        self.backup = None;
        self.checkpoints.unpin();
    }
}
