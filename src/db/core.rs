//! What the handles share: the state of one open database.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use strandline_vfs::Lock;

use crate::catalog::{Catalog, Context, RootRecord};
use crate::checkpoint::{CheckpointOptions, CheckpointReport, Checkpointer};
use crate::error::{Error, ErrorKind, Result};
use crate::log::Log;
use crate::options::Durability;
use crate::recovery::RecoveryReport;
use crate::sync::{Clock, Entropy};
use crate::txn::Claims;
use crate::types::{CommitSeq, Origin, TableId};

use super::backup::OriginRef;
use super::workers::Timer;

/// Tells databases of one process apart, so that a table of one is not used with another.
static NEXT_CORE: AtomicU64 = AtomicU64::new(1);

#[derive(Debug)]
pub(super) struct Core {
    pub id: u64,
    pub ctx: Arc<Context>,
    pub catalog: Arc<Catalog>,
    pub checkpointer: Checkpointer,
    pub claims: Claims,
    /// The number of the last commit that was applied. One at a time is appended to the log and applied, so the order of
    /// numbers is the order of the log.
    pub commit: Mutex<CommitSeq>,
    /// What a commit waits for unless its transaction says otherwise.
    pub durability: Durability,
    pub next_txn: AtomicU64,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub recovery: RecoveryReport,
    pub timer: Timer,
    /// The tables that existed when the open backup was opened.
    pub backed_up: Mutex<Option<BTreeSet<TableId>>>,
    pub open_files_max: usize,
    pub read_only: bool,
    closed: AtomicBool,
    locks: Mutex<Vec<Box<dyn Lock>>>,
}

impl Core {
    pub fn new(
        opened: crate::recovery::Opened,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        timer: Timer,
        durability: Durability,
        open_files_max: usize,
    ) -> Self {
        let visible = opened.catalog.context().registry.visible();
        Self {
            id: NEXT_CORE.fetch_add(1, Ordering::Relaxed),
            ctx: Arc::clone(opened.catalog.context()),
            catalog: opened.catalog,
            checkpointer: opened.checkpointer,
            claims: Claims::new(),
            commit: Mutex::new(visible),
            durability,
            next_txn: AtomicU64::new(1),
            clock,
            entropy,
            recovery: opened.report,
            timer,
            backed_up: Mutex::new(None),
            open_files_max,
            read_only: opened.read_only,
            closed: AtomicBool::new(false),
            locks: Mutex::new(opened.locks),
        }
    }

    /// Errs when the database was closed under this handle.
    pub fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the database was closed").remedy("open it again"));
        }
        Ok(())
    }

    /// Errs when nothing may be written.
    pub fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if self.read_only {
            return Err(Error::new(ErrorKind::ReadOnly, "the database is open read-only").remedy("open it for writing"));
        }
        self.ctx.health.check()
    }

    /// The log of a database that has one and may be written.
    pub fn log(&self) -> Option<&Arc<Log>> {
        self.checkpointer.log()
    }

    /// The log, for a call that makes no sense without one.
    ///
    /// # Errors
    /// `InvalidArgument` without a log.
    pub fn needs_log(&self) -> Result<&Arc<Log>> {
        self.log().ok_or_else(|| {
            Error::invalid("the database has no log").remedy("open it with the log switched on: it is remembered")
        })
    }

    /// The origin that is meant, unless it was released.
    ///
    /// # Errors
    /// `NotFound` for an unknown name, or a released origin.
    pub fn resolve_origin(&self, root: &RootRecord, which: &OriginRef) -> Result<Origin> {
        let remedy = "list the origins, or take a full backup";
        let origins = self.catalog.origins();
        let origin = match which {
            OriginRef::Origin(origin) => *origin,
            OriginRef::Name(name) => match (origins.find(name), name.strip_prefix("StrandlineCheckpoint.")) {
                (Some(origin), _) => origin,
                (None, Some(sequence)) => Origin { lineage: root.lineage, sequence: sequence.parse()? },
                (None, None) => {
                    let what = format!("no origin has the label `{name}`");
                    return Err(Error::new(ErrorKind::NotFound, what).remedy(remedy));
                }
            },
        };
        // Of another history it was never ours to release: that is what the caller is told.
        let ours = origin.lineage == root.lineage || root.forks.iter().any(|fork| fork.lineage == origin.lineage);
        if ours && origins.is_released(origin) {
            return Err(Error::new(ErrorKind::NotFound, format!("origin {origin} was released")).remedy(remedy));
        }
        Ok(origin)
    }

    /// Takes a checkpoint.
    ///
    /// # Errors
    /// Those of [`Checkpointer::take`].
    pub fn checkpoint(&self, options: &CheckpointOptions) -> Result<CheckpointReport> {
        self.timer.begins(self.log());
        let report = self.checkpointer.take(options)?;
        self.catalog.close_surplus_files(self.open_files_max);
        Ok(report)
    }

    /// Removes segments of the log before the last checkpoint, and before number `below`; never the newest.
    ///
    /// # Errors
    /// `InvalidArgument` when segments are removed automatically; `Io`.
    pub fn remove_log(&self, below: u32) -> Result<Vec<u32>> {
        let (Some(log), root) = (self.log(), self.catalog.root()) else { return Ok(Vec::new()) };
        if root.settings.log.as_ref().is_some_and(|settings| !settings.keep) {
            return Err(Error::invalid("segments of the log are removed automatically")
                .remedy("open the database with `keep_log` to remove them by call"));
        }
        let needed = root.newest.log.map_or(0, |log| log.lsn.segment);
        // The newest stays: what it ends with is what the next one continues, and increments join by that.
        let newest = log.segments().last().map_or(0, |segment| segment.number);
        log.remove_before(needed.min(below).min(newest))
    }

    /// Passes the result of a call to the log on. When the log cannot be believed any more, neither can the database.
    ///
    /// # Errors
    /// The call's.
    pub fn logged<T>(&self, done: Result<T>) -> Result<T> {
        done.inspect_err(|e| {
            if self.log().is_some_and(|log| log.check().is_err()) {
                self.ctx.health.poison(e);
            }
        })
    }

    /// Marks the database as closed; false when it was already.
    pub fn mark_closed(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }

    /// Lets others own the home.
    pub fn unlock(&self) {
        self.locks.lock().clear();
    }
}
