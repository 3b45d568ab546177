//! What the handles share: the state of one open database.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use strandline_vfs::Lock;

use crate::catalog::{Catalog, Context};
use crate::checkpoint::Checkpointer;
use crate::error::{Error, ErrorKind, Result};
use crate::recovery::RecoveryReport;
use crate::sync::{Clock, Entropy};
use crate::txn::Claims;
use crate::types::TableId;

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
    /// One commit at a time is applied; its number is drawn and published inside.
    pub commit: Mutex<()>,
    pub next_txn: AtomicU64,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub recovery: RecoveryReport,
    pub timer: Timer,
    /// The tables that existed when the open backup was opened.
    pub backed_up: Mutex<Option<BTreeSet<TableId>>>,
    pub open_files_max: usize,
    closed: AtomicBool,
    locks: Mutex<Vec<Box<dyn Lock>>>,
}

impl Core {
    pub fn new(
        opened: crate::recovery::Opened,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        timer: Timer,
        open_files_max: usize,
    ) -> Self {
        Self {
            id: NEXT_CORE.fetch_add(1, Ordering::Relaxed),
            ctx: Arc::clone(opened.catalog.context()),
            catalog: opened.catalog,
            checkpointer: opened.checkpointer,
            claims: Claims::new(),
            commit: Mutex::new(()),
            next_txn: AtomicU64::new(1),
            clock,
            entropy,
            recovery: opened.report,
            timer,
            backed_up: Mutex::new(None),
            open_files_max,
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
        if self.ctx.read_only {
            return Err(Error::new(ErrorKind::ReadOnly, "the database is open read-only").remedy("open it for writing"));
        }
        self.ctx.health.check()
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
