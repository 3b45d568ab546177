//! Handles on tables.

use std::sync::Arc;

use super::core::Core;
use crate::catalog::{NAME_MAX, OpenTable, TableSlot};
use crate::error::{Error, Result};
use crate::types::TableId;

/// A table of one database. Cheap to clone; any number of threads may use it at once.
#[derive(Clone, Debug)]
pub struct Table {
    pub(super) core_id: u64,
    pub(super) slot: Arc<TableSlot>,
}

impl Table {
    /// The table's name as it is now.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        self.slot.name()
    }

    /// The table's id, never given to another table of the database.
    #[must_use]
    pub fn id(&self) -> TableId {
        self.slot.id()
    }

    /// The text that was given when the table was made.
    #[must_use]
    pub fn config(&self) -> String {
        self.slot.with_entry(|e| e.config.clone())
    }

    /// File and tree, if the table is one of `core`.
    pub(super) fn open(&self, core: &Core) -> Result<&OpenTable> {
        if self.core_id != core.id {
            return Err(Error::invalid(format!("table `{}` belongs to another database", self.name()))
                .remedy("open the table through the database that the transaction is of"));
        }
        core.catalog.open(&self.slot)
    }
}

/// How a table is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableOptions {
    pub(super) config: String,
    pub(super) exclusive: bool,
    pub(super) unlogged: bool,
}

impl TableOptions {
    /// A table of plain bytes; one that exists already will do.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Text that is kept with the table for whoever made it; the engine does not look at it.
    #[must_use]
    pub fn config(mut self, config: impl Into<String>) -> Self {
        self.config = config.into();
        self
    }

    /// Whether the table's commits go into the log, if the database has one; they do by default. Without, the table has the
    /// durability of checkpoints, also for its part of a transaction that writes logged tables as well.
    #[must_use]
    pub const fn log(mut self, log: bool) -> Self {
        self.unlogged = !log;
        self
    }

    /// The table must not exist yet.
    #[must_use]
    pub const fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }
}

/// What is known of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TableId,
    /// The text given when it was made.
    pub config: String,
    /// Its commits go into the log, if the database has one.
    pub logged: bool,
    /// Bytes of its file at the newest checkpoint; 0 for a table without a file.
    pub file_bytes: u64,
}

/// Checks the name of a table (TB-1).
///
/// # Errors
/// `InvalidArgument` saying which rule it breaks.
pub fn check_table_name(name: &str) -> Result<()> {
    let bad = |why: &str| Err(Error::invalid(format!("table name `{name}` {why}")).remedy("choose another name"));
    if name.is_empty() {
        return bad("is empty");
    }
    if name.starts_with("Strandline") {
        return bad("is reserved: it begins with `Strandline`");
    }
    if name.len() > NAME_MAX {
        return bad(&format!("is longer than {NAME_MAX} bytes"));
    }
    match name.chars().find(|c| "{},:[]\\\"'".contains(*c) || c.is_control()) {
        Some(c) => bad(&format!("contains {c:?}")),
        None => Ok(()),
    }
}
