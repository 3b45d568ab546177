//! One table of an open database: its row in the catalog, and, once touched, its file and its tree.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::entry::{TableEntry, TableLog};
use crate::block::BlockStore;
use crate::btree::{Tree, TreeRoot};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::racy::{AtomicBool, Ordering};
use crate::types::TableId;

/// The file and the tree of a table that was touched since the database was opened.
#[derive(Debug)]
pub struct OpenTable {
    /// The file.
    pub store: Arc<BlockStore>,
    /// The tree over it.
    pub tree: Arc<Tree>,
}

#[derive(Debug)]
struct State {
    name: Arc<str>,
    entry: TableEntry,
    unrecorded: Option<Option<TreeRoot>>,
}

/// How somebody uses a table so that it can be neither dropped nor renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseKind {
    /// A cursor or an iterator is on it.
    Cursor,
    /// A view of a checkpoint holds it.
    View,
    /// A transaction has uncommitted changes in it.
    Transaction,
}

impl UseKind {
    const ALL: [Self; 3] = [Self::Cursor, Self::View, Self::Transaction];

    /// Who it is, in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cursor => "a cursor is open on it",
            Self::View => "a view of a checkpoint holds it",
            Self::Transaction => "a transaction has uncommitted changes in it",
        }
    }
}

/// A table, shared by all who use it.
#[derive(Debug)]
pub struct TableSlot {
    id: TableId,
    /// Cursors, views, and transactions with uncommitted changes. Whoever drops the table decides under this lock.
    users: Mutex<[usize; 3]>,
    /// Every read comes by here, so it takes no lock once the table was touched.
    open: OnceLock<OpenTable>,
    dropped: AtomicBool,
    state: Mutex<State>,
}

impl TableSlot {
    /// A table that nobody has touched yet.
    #[must_use]
    pub fn new(name: &str, entry: TableEntry) -> Self {
        let id = entry.id;
        let state = State { name: name.into(), entry, unrecorded: None };
        Self {
            id,
            users: Mutex::default(),
            open: OnceLock::new(),
            dropped: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// The id of the table and of its file.
    #[must_use]
    pub const fn id(&self) -> TableId {
        self.id
    }

    /// The table's name.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        Arc::clone(&self.state.lock().name)
    }

    /// Gives the table another name.
    pub fn set_name(&self, name: &str) {
        self.state.lock().name = name.into();
    }

    /// A copy of the table's row.
    #[must_use]
    pub fn entry(&self) -> TableEntry {
        self.state.lock().entry.clone()
    }

    /// Looks at the table's row without copying it.
    pub fn with_entry<T>(&self, look: impl FnOnce(&TableEntry) -> T) -> T {
        look(&self.state.lock().entry)
    }

    /// Whether the table's commits go into the log, if there is one.
    #[must_use]
    pub fn is_logged(&self) -> bool {
        self.state.lock().entry.log != TableLog::Off
    }

    /// Remembers whether the table's commits go into the log.
    pub fn set_log(&self, log: TableLog) {
        self.state.lock().entry.log = log;
    }

    /// Puts the row that a checkpoint recorded in place.
    pub fn recorded(&self, entry: TableEntry) {
        let mut state = self.state.lock();
        state.entry = entry;
        state.unrecorded = None;
    }

    /// The root that a checkpoint wrote and that no root record reaches yet.
    #[must_use]
    pub fn unrecorded(&self) -> Option<Option<TreeRoot>> {
        self.state.lock().unrecorded
    }

    /// Remembers the root that a checkpoint wrote.
    pub fn set_unrecorded(&self, root: Option<TreeRoot>) {
        self.state.lock().unrecorded = Some(root);
    }

    /// File and tree, if the table was touched.
    #[must_use]
    pub fn if_open(&self) -> Option<&OpenTable> {
        self.open.get()
    }

    /// File and tree, made by `open` at the first touch.
    ///
    /// # Errors
    /// `NotFound` when the table was dropped; what `open` returns.
    pub fn open(&self, open: impl FnOnce(&TableEntry) -> Result<OpenTable>) -> Result<&OpenTable> {
        if self.is_dropped() {
            return Err(self.gone());
        }
        if let Some(table) = self.open.get() {
            return Ok(table);
        }
        // Under the lock, so that only one of two who come first opens the file.
        let state = self.state.lock();
        if self.open.get().is_none() {
            let _ = self.open.set(open(&state.entry)?);
        }
        self.open.get().ok_or_else(|| Error::invalid("the table did not open"))
    }

    /// Marks the table as dropped, so that nobody can open it any more, or takes that back.
    pub fn set_dropped(&self, dropped: bool) {
        self.dropped.store(dropped, Ordering::SeqCst);
    }

    /// True when the table was dropped.
    #[must_use]
    pub fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::SeqCst)
    }

    /// Counts one more user, until the guard goes.
    ///
    /// # Errors
    /// `NotFound` when the table was dropped.
    pub fn enter(self: &Arc<Self>, kind: UseKind) -> Result<TableUse> {
        let mut users = self.users.lock();
        if self.is_dropped() {
            return Err(self.gone());
        }
        users[kind as usize] += 1;
        Ok(TableUse { slot: Arc::clone(self), kind })
    }

    /// Marks the table as dropped if `allow`, which is told who uses it, has no objection; nobody comes to use it meanwhile.
    ///
    /// # Errors
    /// What `allow` returns.
    pub fn drop_if(&self, allow: impl FnOnce(Option<UseKind>) -> Result<()>) -> Result<()> {
        let users = self.users.lock();
        allow(user_of(&users))?;
        self.set_dropped(true);
        Ok(())
    }

    /// Who uses the table in a way that forbids a drop.
    #[must_use]
    pub fn user(&self) -> Option<UseKind> {
        user_of(&self.users.lock())
    }

    fn gone(&self) -> Error {
        Error::new(ErrorKind::NotFound, format!("table `{}` was dropped", self.name()))
            .remedy("open the table again by its name")
    }
}

fn user_of(users: &[usize; 3]) -> Option<UseKind> {
    UseKind::ALL.into_iter().find(|kind| users[*kind as usize] > 0)
}

/// Keeps a table from being dropped or renamed.
#[derive(Debug)]
pub struct TableUse {
    slot: Arc<TableSlot>,
    kind: UseKind,
}

impl TableUse {
    /// The table.
    #[must_use]
    pub const fn slot(&self) -> &Arc<TableSlot> {
        &self.slot
    }
}

impl Drop for TableUse {
    fn drop(&mut self) {
        self.slot.users.lock()[self.kind as usize] -= 1;
    }
}
