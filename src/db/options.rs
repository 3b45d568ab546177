//! How a database is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use strandline_vfs::Vfs;
use strandline_vfs::os::OsVfs;

use super::core::Core;
use super::database::Database;
use super::workers::{self, Timer};
use crate::btree::TreeOptions;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::options::{Contract, Durability};
use crate::recovery::{self, Request};
use crate::sync::{Clock, Entropy, SystemClock, SystemEntropy};

/// Memory for pages where none is asked for: 256 MiB.
pub const CACHE_BYTES_DEFAULT: usize = 256 << 20;

/// The smallest cache; less is raised to it. Enough to work, for simulation; a real load wants megabytes.
pub const CACHE_BYTES_MIN: usize = 4 << 10;

/// Bytes of a segment of the log where nothing else is asked for: 64 MiB.
pub const LOG_SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;

/// The smallest segment of the log.
pub const LOG_SEGMENT_BYTES_MIN: u64 = 100 << 10;

/// The largest segment of the log.
pub const LOG_SEGMENT_BYTES_MAX: u64 = 2 << 30;

/// Who runs the services in the background.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// Threads of the engine's own.
    #[default]
    Threads,
    /// The embedder, by [`Database::drive`]. The engine then starts no thread.
    Manual,
}

/// Whether opening may recover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recovery {
    /// It may.
    #[default]
    Allow,
    /// A database that would have to recover is refused with `NeedsRecovery` and left as it is.
    Refuse,
}

/// How a database is opened. All settings have defaults.
///
/// ```
/// # fn main() -> strandline::Result<()> {
/// # let dir = std::env::temp_dir().join(format!("strandline-doc-{}", std::process::id()));
/// let db = strandline::Options::new().create(true).cache_bytes(64 << 20).open(&dir)?;
/// db.close()?;
/// # std::fs::remove_dir_all(dir).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    vfs: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    create: bool,
    read_only: bool,
    recovery: Recovery,
    tolerate_damage: bool,
    restore_only: Vec<String>,
    unit: Option<u32>,
    contract: Option<Contract>,
    log: Option<bool>,
    log_dir: Option<String>,
    keep_log: Option<bool>,
    segment_bytes: u64,
    any_segment_bytes: bool,
    durability: Durability,
    salvage: bool,
    cache_bytes: usize,
    checkpoint_every: Option<Duration>,
    checkpoint_every_log_bytes: Option<u64>,
    workers: Workers,
    tree: TreeOptions,
    open_files_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// The defaults: an existing database, for reading and writing, on the operating system's files.
    #[must_use]
    pub fn new() -> Self {
        Self {
            vfs: Arc::new(OsVfs::new()),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            create: false,
            read_only: false,
            recovery: Recovery::Allow,
            tolerate_damage: false,
            restore_only: Vec::new(),
            unit: None,
            contract: None,
            log: None,
            log_dir: None,
            keep_log: None,
            segment_bytes: LOG_SEGMENT_BYTES_DEFAULT,
            any_segment_bytes: false,
            durability: Durability::Sync,
            salvage: false,
            cache_bytes: CACHE_BYTES_DEFAULT,
            checkpoint_every: None,
            checkpoint_every_log_bytes: None,
            workers: Workers::Threads,
            tree: TreeOptions::default(),
            open_files_max: 256,
        }
    }

    /// Makes a database if the directory is missing or holds none.
    #[must_use]
    pub const fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Writes nothing: recovery happens in memory, and every call that would write gives `ReadOnly`. What a log has to be
    /// replayed for then stays in memory until the close, beside the cache: a home or a copy with a long log is read with
    /// less after it was opened for writing once.
    #[must_use]
    pub const fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Whether opening may recover.
    #[must_use]
    pub const fn recovery(mut self, recovery: Recovery) -> Self {
        self.recovery = recovery;
        self
    }

    /// Opens what is whole of a copy of which files are missing or short; a damaged table errs when it is used.
    #[must_use]
    pub const fn tolerate_damaged_tables(mut self, tolerate: bool) -> Self {
        self.tolerate_damage = tolerate;
        self
    }

    /// Restores only these tables of a copy; the others are gone from the database then.
    #[must_use]
    pub fn restore_only<S: Into<String>>(mut self, tables: impl IntoIterator<Item = S>) -> Self {
        self.restore_only = tables.into_iter().map(Into::into).collect();
        self
    }

    /// The file system that the database lives on.
    #[must_use]
    pub fn vfs(mut self, vfs: Arc<dyn Vfs>) -> Self {
        self.vfs = vfs;
        self
    }

    /// Where the time comes from.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where chance comes from.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Memory for pages and for what transactions have not committed, in bytes; 256 MiB by default.
    #[must_use]
    pub const fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// What a crash leaves while a backup is open; remembered, [`Contract::Pinned`] in a new database.
    #[must_use]
    pub const fn contract(mut self, contract: Contract) -> Self {
        self.contract = Some(contract);
        self
    }

    /// Allocation unit of the files in bytes, a power of two from 512 to 1 MiB; fixed when the database is made, 4096 by
    /// default.
    #[must_use]
    pub const fn unit(mut self, bytes: u32) -> Self {
        self.unit = Some(bytes);
        self
    }

    /// Whether there is a log: with one, a commit that has returned is there after a crash. Remembered; off in a new database.
    /// Switching it keeps every committed state.
    ///
    /// A log that is damaged, or that lacks a file, is refused when the database is opened (`Corrupt`, with the file). What
    /// nothing can tell is a last segment whose records, or whose last synced records, were wiped out behind its header: that
    /// looks like a write that a crash cut short. So do all files of a home put back together as they were at an earlier time.
    #[must_use]
    pub const fn log(mut self, log: bool) -> Self {
        self.log = Some(log);
        self
    }

    /// The directory of the log's segments, relative to the home or absolute; made if it is missing. Remembered; the home
    /// itself where none is given. It holds the log of one database.
    #[must_use]
    pub fn log_dir(mut self, dir: impl Into<String>) -> Self {
        self.log_dir = Some(dir.into());
        self
    }

    /// Keeps the segments of the log that no recovery needs, so that increments of the log can carry them, until
    /// [`Database::remove_log`] or a backup removes them. Remembered; off in a new database.
    #[must_use]
    pub const fn keep_log(mut self, keep: bool) -> Self {
        self.keep_log = Some(keep);
        self
    }

    /// Size that a segment of the log is ended at, in bytes, from 100 KiB to 2 GiB; 64 MiB by default. A larger record gets a
    /// segment of its own.
    #[must_use]
    pub const fn log_segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self.any_segment_bytes = false;
        self
    }

    /// As [`Options::log_segment_bytes`] without its limits; for simulation, which wants all boundaries close.
    #[must_use]
    pub const fn log_segment_bytes_unchecked(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self.any_segment_bytes = true;
        self
    }

    /// What a commit waits for when there is a log, unless its transaction says otherwise; [`Durability::Sync`] by default. Not
    /// remembered.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Opens a database whose log is damaged: what stands before the damage is kept, what stands behind it is given up, and
    /// the history forks.
    #[must_use]
    pub const fn salvage(mut self, salvage: bool) -> Self {
        self.salvage = salvage;
        self
    }

    /// Takes a checkpoint whenever that many bytes have been logged since the last one; off by default. Less than the smallest
    /// segment, 100 KiB, is raised to it.
    #[must_use]
    pub const fn checkpoint_every_log_bytes(mut self, bytes: Option<u64>) -> Self {
        self.checkpoint_every_log_bytes = bytes;
        self
    }

    /// Takes a checkpoint whenever that long has passed since the last one ended; off by default.
    #[must_use]
    pub const fn checkpoint_every(mut self, every: Option<Duration>) -> Self {
        self.checkpoint_every = every;
        self
    }

    /// Who runs the services in the background.
    #[must_use]
    pub const fn workers(mut self, workers: Workers) -> Self {
        self.workers = workers;
        self
    }

    /// Size that a leaf page is split at, in bytes, from 128 to 1 MiB; 8 KiB by default. Small leaves suit random changes and increments, large
    /// ones scans.
    #[must_use]
    pub fn leaf_bytes(mut self, bytes: usize) -> Self {
        self.tree = TreeOptions::with_leaf_bytes(bytes);
        self
    }

    /// Every parameter of the trees' shape; for simulation, which wants all boundaries close.
    #[must_use]
    pub fn tree(mut self, tree: TreeOptions) -> Self {
        self.tree = tree;
        self
    }

    /// How many table files may stay open at once, 256 by default; more are closed after a checkpoint.
    #[must_use]
    pub const fn open_files_max(mut self, files: usize) -> Self {
        self.open_files_max = files;
        self
    }

    /// Opens the database in the directory `home`.
    ///
    /// # Errors
    /// `NotFound` without a database and without [`Options::create`]; `Busy` when another process or handle owns it;
    /// `Corrupt` with file and offset; `WrongBase` when two databases lie over each other; `NeedsRecovery`;
    /// `Unsupported` for files of a newer release; `InvalidArgument`; `Io`. Nothing stays taken.
    pub fn open(self, home: impl AsRef<Path>) -> Result<Database> {
        if !self.any_segment_bytes && !(LOG_SEGMENT_BYTES_MIN..=LOG_SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Err(Error::invalid(format!("segments of the log of {} bytes", self.segment_bytes))
                .remedy(format!("choose a size from {LOG_SEGMENT_BYTES_MIN} to {LOG_SEGMENT_BYTES_MAX} bytes")));
        }
        let opened = recovery::open(Request {
            vfs: self.vfs,
            home: home.as_ref().to_owned(),
            create: self.create,
            read_only: self.read_only,
            refuse_recovery: self.recovery == Recovery::Refuse,
            tolerate_damage: self.tolerate_damage,
            restore_only: self.restore_only,
            unit: self.unit,
            contract: self.contract,
            log: self.log,
            log_dir: self.log_dir,
            keep_log: self.keep_log,
            segment_bytes: self.segment_bytes,
            salvage: self.salvage,
            cache: Cache::new(self.cache_bytes.max(CACHE_BYTES_MIN)),
            tree: self.tree.within_limits(),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
        })?;
        let timer = Timer::new(self.checkpoint_every.filter(|_| !self.read_only));
        let core = Core::new(opened, self.clock, self.entropy, timer, self.durability, self.open_files_max);
        if self.checkpoint_every_log_bytes.is_some() && !self.read_only {
            core.needs_log()?;
            core.timer.set_bytes(self.checkpoint_every_log_bytes);
        }
        let core = Arc::new(core);
        let thread = match self.workers {
            Workers::Threads if !self.read_only => {
                Some(workers::spawn(&core).map_err(|e| Error::io(e, "start a thread for", home.as_ref()))?)
            }
            _ => None,
        };
        Ok(Database::new(core, thread))
    }
}
