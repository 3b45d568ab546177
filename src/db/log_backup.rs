//! The log in a backup: which segments a backup holds and lists, increments from the log, and the catch-up of an open one.
//!
//! When a backup is opened, the segment in use is closed, so that nothing in the list grows. Listed are the segments from the
//! position of the checkpoint on that is copied; they stay until the backup ends. An increment from the log lists all that
//! is kept; whoever applies it skips what the copy has. A catch-up closes the segment in use again, and lists what came since
//! with what was listed before.
//!
//! - **K1** What is listed exists, unchanged, until the backup ends: a closed segment is never written again, and the hold
//!   comes before the look.
//! - **K8** A copy opens with exactly the commits up to the closed end of the log: no later checkpoint completes between the
//!   close and the choice of the one that is copied.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use strandline_vfs::Vfs;

use super::backup::{Backup, BackupOptions};
use super::core::Core;
use crate::backup::{
    BackupItem, BackupReport, CopyOptions, LogHead, OnProgress, Plan, PlanSegment, Progress, copy_to, header_of,
    of_one_history,
};
use crate::catalog::{TableLog, TableSlot};
use crate::error::{Error, ErrorKind, Result};
use crate::log::{Hold, Log, SegmentInfo};
use crate::types::{LogPosition, Lsn};

/// The segments that a backup keeps from going, and those that it lists.
#[derive(Debug)]
pub(super) struct HeldLog {
    log: Arc<Log>,
    hold: Hold,
    /// Where replay begins in what is listed; `None` when the log does not go along.
    position: Option<LogPosition>,
    /// Everything from this segment on is needed until the backup ends, whatever the caller says to be safe.
    first: u32,
    listed: Vec<PlanSegment>,
    end: Lsn,
}

impl HeldLog {
    /// Holds everything.
    pub fn all(log: &Arc<Log>) -> Self {
        let (hold, listed) = (log.hold(0), Vec::new());
        Self { log: Arc::clone(log), hold, position: None, first: 0, listed, end: Lsn::default() }
    }

    /// Holds what a recovery from `position` needs, and lists it up to the record that ends at `closed`, if it goes along.
    pub fn list(&mut self, position: LogPosition, closed: Lsn, goes_along: bool) {
        self.first = position.lsn.segment;
        self.hold.raise(self.first);
        if goes_along {
            self.position = Some(position);
            self.listed = closed_segments(&self.log, self.first, closed);
            self.end = closed;
        }
    }

    /// The log is part of the copy.
    pub const fn goes_along(&self) -> bool {
        self.position.is_some()
    }

    /// The segments of the copy, and where the last record in them ends.
    pub fn listed(&self) -> (&[PlanSegment], Lsn) {
        (&self.listed, self.end)
    }
}

/// The segments from `first` up to the one that holds the record that ends at `closed`. All of them are closed.
fn closed_segments(log: &Log, first: u32, closed: Lsn) -> Vec<PlanSegment> {
    let held = |s: &SegmentInfo| (first..=closed.segment).contains(&s.number);
    let plan = |s: SegmentInfo| PlanSegment { number: s.number, source: s.path, size: s.bytes };
    log.segments().into_iter().filter(held).map(plan).collect()
}

/// Whether an increment from the log can be taken.
///
/// # Errors
/// `InvalidArgument` when something else is asked for besides, when there is no log, or when it is not kept.
pub(super) fn check_log_only(core: &Core, options: &BackupOptions) -> Result<()> {
    if let Some(what) = options.besides_log() {
        return Err(Error::invalid(format!("an increment from the log cannot be {what} as well"))
            .remedy("ask for one of the two"));
    }
    core.needs_log()?;
    if core.catalog.root().settings.log.is_some_and(|log| log.keep) {
        return Ok(());
    }
    Err(Error::invalid("segments of the log are removed automatically, so increments from it would have gaps")
        .remedy("open the database with `keep_log`, and take a full backup first"))
}

/// Whether there can be a copy that an increment from the log builds on.
///
/// # Errors
/// `WrongBase` when no full backup was opened since the log began, or since a table was taken into it.
pub(super) fn check_log_base(core: &Core, log: &Log) -> Result<()> {
    let needed = |why: String| {
        Err(Error::new(ErrorKind::WrongBase, format!("full backup needed: {why}"))
            .remedy("take a full backup: increments from the log go on from there"))
    };
    let root = core.catalog.root();
    let Some(base) = root.backed_up_from else {
        return needed("none was opened since the log began to be kept".to_owned());
    };
    if base.lineage != log.lineage() {
        let since = root.forks.last().map_or_else(String::new, |fork| format!(" after checkpoint {}", fork.sequence));
        return needed(format!("the history forked{since}, and none was opened since"));
    }
    match complete(core, log.end()) {
        (begun, Some(name)) if begun > base.lsn => {
            needed(format!("table `{name}` was taken into the log at {begun}, and none was opened since"))
        }
        _ => Ok(()),
    }
}

/// Everything that is kept of the present history, up to the record that ends at `closed`.
pub(super) fn log_increment(core: &Core, held: &mut HeldLog, closed: Lsn) -> Result<Plan> {
    let vfs = &*core.ctx.vfs;
    let lineage = held.log.lineage();
    let mut segments = closed_segments(&held.log, 0, closed);
    let ours = of_one_history(vfs, segments.iter().map(|s| &*s.source), lineage)?;
    segments.drain(..segments.len() - ours);
    let (previous, first) = match segments.first() {
        Some(first) => (header_of(vfs, &first.source)?.previous, first.number),
        // The segment to come, whatever came between.
        None => (closed, closed.segment.saturating_add(1)),
    };
    let head = LogHead {
        lineage,
        backup: core.entropy.next_u64(),
        time_ms: core.clock.now_ms(),
        previous,
        complete: complete(core, closed).0,
        first,
        end: closed,
    };
    let plan = Plan::log(core.ctx.home(), &head, &segments);
    held.first = u32::MAX;
    (held.listed, held.end) = (segments, closed);
    Ok(plan)
}

/// Where the last of the tables began to be logged, and its name; of one that is just beginning, not before `closed`.
fn complete(core: &Core, closed: Lsn) -> (Lsn, Option<Arc<str>>) {
    let began = |slot: Arc<TableSlot>| {
        let began = slot.with_entry(|entry| match entry.log {
            TableLog::On => entry.logged_from,
            TableLog::Starting => closed,
            TableLog::Off => Lsn::default(),
        });
        (began, Some(slot.name()))
    };
    core.catalog.tables().into_iter().map(began).fold((Lsn::default(), None), |a, b| if b.0 > a.0 { b } else { a })
}

impl Backup<'_> {
    /// Closes the log again and lists all of it that there is now since the checkpoint of this backup: with it the copy has
    /// everything that was committed before this call. Its files go where those of an increment from the log go: into a
    /// directory of their own, for [`crate::backup::apply`], or beside those of the copy. Nothing of what this backup
    /// lists itself changes.
    ///
    /// # Errors
    /// `InvalidArgument` when the copy has no log: that of a named checkpoint or of chosen tables, an increment from the log
    /// itself, or of a database without one; `Closed`; `Io`, after which the database is poisoned.
    pub fn catch_up(&mut self) -> Result<CatchUp<'_>> {
        self.core.check_writable()?;
        let core = self.core;
        let (Some(held), Some(log)) = (&mut self.held, core.log()) else { return Err(no_log()) };
        let Some(position) = held.position else { return Err(no_log()) };
        let closed = core.logged(log.switch())?;
        held.list(position, closed, true);
        let (listed, end) = held.listed();
        let first = listed.first().map_or(position.lsn.segment, |s| s.number);
        let manifest = self.plan.manifest();
        let head = LogHead {
            lineage: position.lineage,
            backup: manifest.backup,
            time_ms: core.clock.now_ms(),
            previous: Lsn::default(),
            // No table is taken into the log while a backup is open.
            complete: Lsn::default(),
            first,
            end,
        };
        let plan = Plan::log(core.ctx.home(), &head, listed);
        Ok(CatchUp { core, plan, _backup: std::marker::PhantomData })
    }

    /// Removes segments of the log that are wholly before the last checkpoint and that this backup has listed: what it copied
    /// is safe, and no recovery needs them. Returns their numbers. Without a checkpoint since, nothing goes, and the next
    /// increment lists the same segments again. A full backup keeps those that its own checkpoint needs.
    ///
    /// # Errors
    /// `InvalidArgument` when segments are removed automatically; `ReadOnly`; `Closed`; `Poisoned`; `Io`.
    pub fn remove_log(&mut self) -> Result<Vec<u32>> {
        self.core.check_writable()?;
        let Some(held) = &self.held else { return Ok(Vec::new()) };
        let root = self.core.catalog.root();
        let beyond = held.listed.last().map_or(held.end.segment, |s| s.number.saturating_add(1));
        let needed = root.newest.log.map_or(0, |log| log.lsn.segment);
        let below = beyond.min(needed).min(held.first);
        if root.settings.log.is_some_and(|log| log.keep) {
            held.hold.raise(below);
        }
        self.core.remove_log(below)
    }
}

fn no_log() -> Error {
    Error::invalid("the copy has no log that could catch up")
        .remedy("back up all tables at the newest checkpoint, of a database with a log")
}

/// What was logged since a backup was opened, as an increment on top of it. It borrows the backup, so there is one at a time,
/// and the backup cannot end before it.
#[derive(Debug)]
pub struct CatchUp<'b> {
    core: &'b Core,
    plan: Plan,
    _backup: std::marker::PhantomData<&'b mut ()>,
}

impl CatchUp<'_> {
    /// Totals, before a byte moves.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What to copy, the manifest last: see [`Backup::items`].
    #[must_use]
    pub fn items(&self) -> Vec<BackupItem> {
        self.plan.items(self.core.ctx.home())
    }

    /// The bytes of the manifest, which stand under the name of the last item.
    #[must_use]
    pub fn manifest(&self) -> Vec<u8> {
        self.plan.manifest().encode()
    }

    /// Copies everything into the directory `dir`, which is made or must be empty.
    ///
    /// # Errors
    /// As [`Backup::copy_to`].
    pub fn copy_to(
        &self,
        dir: impl AsRef<Path>,
        progress: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<BackupReport> {
        self.copy_to_vfs(&*self.core.ctx.vfs, dir.as_ref(), CopyOptions::default(), progress)
    }

    /// As [`CatchUp::copy_to`], onto another file system.
    ///
    /// # Errors
    /// As [`Backup::copy_to`].
    pub fn copy_to_vfs(
        &self,
        target: &dyn Vfs,
        dir: &Path,
        options: CopyOptions,
        mut progress: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<BackupReport> {
        self.core.check_open()?;
        let call: &mut OnProgress<'_> = &mut progress;
        copy_to(&*self.core.ctx.vfs, &self.plan, target, dir, options, call)
    }
}
