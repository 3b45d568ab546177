//! What every table of a database shares: file system, home, settings, cache, clocks of transactions and checkpoints.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use strandline_vfs::Vfs;

use super::entry::TableEntry;
use super::table::OpenTable;
use crate::block::{BlockStore, SpaceState, data_start};
use crate::btree::{Tree, TreeOptions};
use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Settings;
use crate::txn::{Epoch, TxnRegistry};
use crate::types::{CheckpointSeq, TableId};

/// Whether what is on disk is still known (DB-8). After a failed sync, or a root record that may or may not have been
/// written, nothing that a later call reports could be believed; so every later writing call is refused.
#[derive(Debug, Default)]
pub struct Health(OnceLock<String>);

impl Health {
    /// Remembers the first failure that made the state on disk unknown.
    pub fn poison(&self, cause: &Error) {
        let _ = self.0.set(cause.to_string());
    }

    /// Errs after such a failure.
    ///
    /// # Errors
    /// `Poisoned`, naming the failure.
    pub fn check(&self) -> Result<()> {
        match self.0.get() {
            None => Ok(()),
            Some(cause) => Err(Error::new(
                ErrorKind::Poisoned,
                format!("an earlier failure left the state on disk unknown: {cause}"),
            )
            .remedy("close the database and open it again")),
        }
    }

    /// True after such a failure.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.0.get().is_some()
    }
}

/// What every table of a database shares.
#[derive(Debug)]
pub struct Context {
    /// The file system.
    pub vfs: Arc<dyn Vfs>,
    /// The directory.
    pub home: PathBuf,
    /// What was decided when the database was made.
    pub settings: Settings,
    /// Pages in memory, of all tables.
    pub cache: Arc<Cache>,
    /// Which checkpoint blocks are born for, and which is being taken.
    pub epoch: Arc<Epoch>,
    /// Which transactions run, and what is visible.
    pub registry: Arc<TxnRegistry>,
    /// Shape of trees.
    pub tree: TreeOptions,
    /// Nothing may be written.
    pub read_only: bool,
    /// Whether the state on disk is known.
    pub health: Health,
}

impl Context {
    /// The path of a table's file.
    #[must_use]
    pub fn path(&self, table: TableId) -> PathBuf {
        self.home.join(table.file_name())
    }

    /// The directory of the database.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Makes the names in the directory durable.
    ///
    /// # Errors
    /// As [`Context::must_sync`].
    pub fn sync_home(&self) -> Result<()> {
        let synced = self.vfs.sync_dir(&self.home);
        self.must_sync(synced.map_err(|e| Error::io(e, "sync the directory", &self.home)))
    }

    /// Passes the result of a sync on. One that failed, for whatever reason, leaves unknown what is on disk (V5), and a later
    /// one proves nothing.
    ///
    /// # Errors
    /// The sync's; the database is then poisoned.
    pub fn must_sync<T>(&self, synced: Result<T>) -> Result<T> {
        synced.inspect_err(|e| self.health.poison(e))
    }

    /// The file of a table; opened when it is first read or written.
    ///
    /// # Errors
    /// `Corrupt` when `state` cannot be that of a file of this database.
    pub fn store(&self, table: TableId, state: Option<SpaceState>, live: CheckpointSeq) -> Result<BlockStore> {
        if self.read_only {
            return self.reader(table, state.map_or(0, |s| s.size));
        }
        BlockStore::new(Arc::clone(&self.vfs), self.path(table), table, self.settings.unit, state, live)
    }

    /// The first `size` bytes of the file of a table, for reading only.
    ///
    /// # Errors
    /// As [`Context::store`].
    pub fn reader(&self, table: TableId, size: u64) -> Result<BlockStore> {
        // A table that never had a state has no file, and nothing is read of it.
        let size = size.max(data_start(self.settings.unit));
        BlockStore::read_only(Arc::clone(&self.vfs), self.path(table), table, self.settings.unit, size)
    }

    /// File and tree of a table in its newest state.
    ///
    /// # Errors
    /// As [`Context::store`].
    pub fn open_table(&self, entry: &TableEntry) -> Result<OpenTable> {
        let store = Arc::new(self.store(entry.id, entry.space.clone(), self.epoch.live())?);
        let tree = Tree::new(
            entry.id,
            Arc::clone(&store),
            Arc::clone(&self.cache),
            Arc::clone(&self.epoch),
            Arc::clone(&self.registry),
            entry.newest().and_then(|s| s.root),
            self.tree,
        );
        Ok(OpenTable { store, tree })
    }
}
