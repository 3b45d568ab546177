//! The guard that holds a backup open.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use strandline_vfs::Vfs;

use super::core::Core;
use super::log_backup::{HeldLog, check_log_base, check_log_only, log_increment};
use crate::backup::{
    BackupItem, BackupReport, CopyOptions, FilesAt, OnProgress, Plan, PlanHead, PlanTable, Progress, Shape, WalkCost,
    check_origin, copy_to, increment, stream_to,
};
use crate::block::data_start;
use crate::catalog::{
    Change, CheckpointEntry, CheckpointRecord, OriginChange, PinnedRoot, RootRecord, TableEntry, TableLog, TableSlot,
    check_label,
};
use crate::checkpoint::CheckpointOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Manifest;
use crate::options::Contract;
use crate::types::{CheckpointSeq, LogPosition, Lsn, Origin};

/// The tables of a checkpoint, and the older checkpoints that its catalog names.
type CatalogRows = (BTreeMap<String, TableEntry>, Vec<CheckpointEntry>);

/// What a backup copies.
///
/// ```
/// # use strandline::BackupOptions;
/// let now = BackupOptions::new().fresh_checkpoint(true);
/// let june = BackupOptions::new().checkpoint("June01").tables(["people"]);
/// let rest = |last: strandline::Origin| BackupOptions::new().incremental_from(last);
/// let since_the_last_one = BackupOptions::new().log_only();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupOptions {
    checkpoint: Option<String>,
    fresh_checkpoint: bool,
    tables: Vec<String>,
    since: Option<OriginRef>,
    gap: u64,
    granularity: u64,
    consolidate: bool,
    label: Option<String>,
    log_only: bool,
}

/// The smallest granule of an increment's ranges, in bytes.
const GRANULE_MIN: u64 = 4 << 10;

/// The largest granule of an increment's ranges, in bytes.
const GRANULE_MAX: u64 = 2 << 30;

/// Where an increment starts: an origin, or a name for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginRef {
    /// The origin itself.
    Origin(Origin),
    /// A label, or the name of a checkpoint as [`Backup::checkpoint`] gives it.
    Name(String),
}

impl From<Origin> for OriginRef {
    fn from(origin: Origin) -> Self {
        Self::Origin(origin)
    }
}

impl From<&str> for OriginRef {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for OriginRef {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl BackupOptions {
    /// All tables, as the newest complete checkpoint holds them.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies the checkpoint of that name instead of the newest.
    #[must_use]
    pub fn checkpoint(mut self, name: impl Into<String>) -> Self {
        self.checkpoint = Some(name.into());
        self
    }

    /// Takes a checkpoint first, so that the copy has everything that was committed before the call.
    #[must_use]
    pub const fn fresh_checkpoint(mut self, fresh: bool) -> Self {
        self.fresh_checkpoint = fresh;
        self
    }

    /// Copies only these tables; none named means all.
    #[must_use]
    pub fn tables<S: Into<String>>(mut self, tables: impl IntoIterator<Item = S>) -> Self {
        self.tables = tables.into_iter().map(Into::into).collect();
        self
    }

    /// Copies only what changed since `origin`: the [`Backup::origin`] of an earlier backup of this database, full or
    /// incremental, its label, or its [`Backup::checkpoint`]. Nothing has to be prepared for that, and any origin serves again
    /// and again, until it is released. What is copied goes into a directory of its own, for [`crate::backup::apply`].
    #[must_use]
    pub fn incremental_from(mut self, origin: impl Into<OriginRef>) -> Self {
        self.since = Some(origin.into());
        self
    }

    /// Gives the origin of this backup a name, which [`Backup::finish`] makes durable: see [`crate::Database::origins`].
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// In an increment, lets ranges begin and end at multiples of `bytes`, from 4 KiB to 2 GiB, and be at most that long. By
    /// default they are exact: changed blocks, neighbours merged.
    #[must_use]
    pub const fn granularity(mut self, bytes: u64) -> Self {
        self.granularity = bytes;
        self
    }

    /// With [`BackupOptions::granularity`], merges neighbouring ranges: fewer of them, of the same bytes.
    #[must_use]
    pub const fn consolidate(mut self, consolidate: bool) -> Self {
        self.consolidate = consolidate;
        self
    }

    /// In an increment, carries gaps of up to that many bytes between changed blocks along, so that there are fewer ranges;
    /// 0, the default, copies changed blocks only.
    #[must_use]
    pub const fn merge_gaps(mut self, bytes: u64) -> Self {
        self.gap = bytes;
        self
    }

    /// Copies only the log, as far as it is kept: what a copy needs that was taken earlier of the same database, with the
    /// increments from the log that were applied to it since. It takes no checkpoint and copies no table; what is committed
    /// to tables that are not logged does not travel. The database must keep its log ([`crate::Options::keep_log`]); when
    /// the increment is safe, [`Backup::remove_log`] lets go what nobody needs any more. Where there can be no copy that it
    /// joins - no full backup was opened since the log began, or since a table was taken into it - opening it is `WrongBase`.
    #[must_use]
    pub const fn log_only(mut self) -> Self {
        self.log_only = true;
        self
    }

    /// What can be refused before anything is held.
    fn check(&self, core: &Core) -> Result<()> {
        if self.granularity != 0 && !(GRANULE_MIN..=GRANULE_MAX).contains(&self.granularity) {
            return Err(Error::invalid(format!("a granularity of {} bytes", self.granularity))
                .remedy(format!("choose one from {GRANULE_MIN} to {GRANULE_MAX}")));
        }
        let Some(label) = &self.label else { return Ok(()) };
        check_label(label)?;
        if self.log_only || !self.tables.is_empty() {
            return Err(Error::invalid(
                "increments by blocks start from a backup of all tables, so only that gets a label",
            )
            .remedy("leave out the label"));
        }
        if core.catalog.origins().find(label).is_some() {
            return Err(Error::invalid(format!("the label `{label}` is in use"))
                .remedy("choose another one, or release it first"));
        }
        Ok(())
    }

    /// What of these options says that it shall be more than the log.
    pub(super) fn besides_log(&self) -> Option<&'static str> {
        let asked = [
            (self.since.is_some(), "an increment by blocks"),
            (self.checkpoint.is_some(), "a named checkpoint"),
            (!self.tables.is_empty(), "chosen tables"),
            (self.fresh_checkpoint, "a fresh checkpoint"),
        ];
        asked.into_iter().find_map(|(asked, what)| asked.then_some(what))
    }
}

/// An open backup: one checkpoint stays as it is, and so does every file that existed when the backup was opened, until
/// this guard goes.
///
/// Dropping it ends the backup without a word; [`Backup::finish`] does the same and tells what went wrong.
#[derive(Debug)]
pub struct Backup<'db> {
    pub(super) core: &'db Core,
    pub(super) record: CheckpointRecord,
    pub(super) plan: Plan,
    /// The segments that stay for this backup, if the database has a log.
    pub(super) held: Option<HeldLog>,
    /// A name for the origin, to be remembered when the backup has ended well.
    label: Option<String>,
    open: bool,
}

impl<'db> Backup<'db> {
    /// Chooses the checkpoint, pins it, and under contract `Pinned` makes the pin durable before it returns.
    pub(super) fn open(core: &'db Core, options: &BackupOptions) -> Result<Self> {
        core.check_writable()?;
        if options.log_only {
            check_log_only(core, options)?;
        }
        let busy = || Error::new(ErrorKind::Busy, "another backup is open").remedy("end it first");
        if core.checkpointer.pins().backup().is_some() {
            // Before the fresh checkpoint: a call that fails changes nothing.
            return Err(busy());
        }
        if options.since.is_some() && !options.tables.is_empty() {
            return Err(Error::invalid("an increment is of all tables").remedy("leave out the tables, or the origin"));
        }
        options.check(core)?;
        if options.log_only {
            return Self::open_log(core);
        }
        if options.fresh_checkpoint {
            if options.checkpoint.is_some() {
                return Err(Error::invalid("a fresh checkpoint and a named one cannot both be copied")
                    .remedy("ask for one of the two"));
            }
            core.checkpointer.take(&CheckpointOptions::new())?;
        }
        // Segments stay from here on; those before the checkpoint may go again once it is chosen.
        let held = core.log().map(HeldLog::all);
        // No checkpoint completes until the choice is durable. So the log that is closed now reaches beyond the position of
        // the one that is chosen.
        let decided = core.checkpointer.pins().decide();
        let root = core.catalog.root();
        let newest = root.newest.clone();
        refuse_starting(core)?;
        let record = match options.checkpoint.as_deref() {
            None => newest.clone(),
            Some(name) => core.checkpointer.find(name).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("there is no checkpoint `{name}`"))
                    .remedy("list the checkpoints to see their names")
            })?,
        };
        let since = options.since.as_ref().map(|since| core.resolve_origin(&root, since)).transpose()?;
        if let Some(origin) = since {
            check_origin(&root, record.seq, origin)?;
        }
        let closed = core.log().map(|log| core.logged(log.switch())).transpose()?;
        if !core.checkpointer.pins().open_backup(record.seq, newest.seq) {
            return Err(busy());
        }
        // From here on dropping the guard takes the pins back.
        let mut backup = Self {
            core,
            record,
            plan: Plan::of_manifest(core.ctx.home(), empty_manifest()),
            held,
            label: None,
            open: true,
        };
        *core.backed_up.lock() = Some(core.catalog.tables().iter().map(|t| t.id()).collect());
        if let (Some(held), Some(position), Some(closed)) = (&mut backup.held, newest.log, closed) {
            // A copy of a chosen checkpoint is that checkpoint and no more: it goes without the log.
            let whole = options.checkpoint.is_none() && options.tables.is_empty();
            held.list(position, closed, whole);
        }
        let id = core.entropy.next_u64();
        let before = core.catalog.bytes_read();
        let rows = core.catalog.read_at(&backup.record)?;
        // Whoever else reads the catalog in this moment is counted too; nobody does so often.
        let walk = WalkCost { bytes_read: core.catalog.bytes_read() - before, ..WalkCost::default() };
        let base = backup.log_base(&newest, since.is_none());
        backup.plan = backup.make_plan(root, id, &options.tables, &rows)?.with_walk(walk);
        backup.note_open(PinnedRoot { backup: id, record: newest }, base)?;
        // What follows reads, for as long as it takes; nobody needs to wait for it any more.
        drop(decided);
        if let Some(origin) = since {
            let shape = Shape { gap: options.gap, granule: options.granularity };
            backup.plan = backup.since(origin, shape, rows)?;
            if !options.consolidate {
                backup.plan = backup.plan.clone().in_pieces(options.granularity);
            }
        }
        backup.label.clone_from(&options.label);
        Ok(backup)
    }

    /// Takes the place of the one backup, pins no checkpoint, and lists what there is of the log.
    fn open_log(core: &'db Core) -> Result<Self> {
        let log = core.needs_log()?;
        check_log_base(core, log)?;
        let mut held = HeldLog::all(log);
        let closed = core.logged(log.switch())?;
        if !core.checkpointer.pins().open_backup(CheckpointSeq::ZERO, CheckpointSeq::ZERO) {
            return Err(Error::new(ErrorKind::Busy, "another backup is open").remedy("end it first"));
        }
        let plan = Plan::of_manifest(core.ctx.home(), empty_manifest());
        let mut backup = Self { core, record: CheckpointRecord::empty(), plan, held: None, label: None, open: true };
        backup.plan = log_increment(core, &mut held, closed)?;
        backup.held = Some(held);
        Ok(backup)
    }

    /// Where the log of this backup begins, if increments from the log will build on it.
    fn log_base(&self, newest: &CheckpointRecord, full: bool) -> Option<LogPosition> {
        let keeps = self.core.ctx.settings.log.as_ref().is_some_and(|log| log.keep);
        newest.log.filter(|_| keeps && full && self.held.as_ref().is_some_and(HeldLog::goes_along))
    }

    /// Says in the root record that this backup is open, if a crash shall fall back to its checkpoint, and that increments from
    /// the log have something to build on.
    fn note_open(&self, pin: PinnedRoot, base: Option<LogPosition>) -> Result<()> {
        let pinned = self.core.ctx.settings.contract == Contract::Pinned;
        if !pinned && (base.is_none() || base == self.core.catalog.root().backed_up_from) {
            return Ok(());
        }
        self.core.catalog.update_root(|root| {
            root.pinned = pinned.then_some(pin);
            root.backed_up_from = base.or(root.backed_up_from);
        })
    }

    /// The plan, less what a copy of `origin` has.
    fn since(&self, origin: Origin, shape: Shape, (tables, mut older): CatalogRows) -> Result<Plan> {
        let ctx = &self.core.ctx;
        // What was dropped since is not in the copy, and may have been written over.
        older.retain(|entry| self.plan.manifest().checkpoints.contains(&entry.record.seq));
        let tables: Vec<TableEntry> = tables.into_values().collect();
        let at = FilesAt {
            vfs: &ctx.vfs,
            home: ctx.home(),
            unit: ctx.settings.unit,
            record: &self.record,
            older: &older,
            tables: &tables,
        };
        increment(self.plan.clone(), &at, origin, shape)
    }

    /// `root` is the root record at the instant when the checkpoint was chosen.
    fn make_plan(&self, root: RootRecord, backup: u64, only: &[String], rows: &CatalogRows) -> Result<Plan> {
        let catalog = &self.core.catalog;
        let (tables, older) = rows;
        // The catalog of a named checkpoint knows checkpoints that were dropped since.
        let retained: BTreeSet<CheckpointSeq> = catalog.checkpoints().iter().map(|c| c.seq).collect();
        let fresh = RootRecord { pinned: None, restored_from: None, backed_up_from: None, ..root };
        let mut root = RootRecord { newest: self.record.clone(), ..fresh };
        let (segments, log_end) = self.held.as_ref().map_or((&[][..], Lsn::default()), HeldLog::listed);
        if self.held.as_ref().is_none_or(|held| !held.goes_along()) {
            if let Some(log) = self.core.log() {
                // The log of the copy begins anew, with numbers that were never given.
                root.next_segment = root.next_segment.max(log.end().segment.saturating_add(1));
            }
            root.newest.log = None;
        }
        let head = PlanHead {
            lineage: root.lineage,
            sequence: self.record.seq,
            backup,
            time_ms: self.core.clock.now_ms(),
            root: root.encode(0),
            checkpoints: older.iter().map(|c| c.record.seq).filter(|seq| retained.contains(seq)).collect(),
            catalog_size: self.record.lists.map(|_| self.record.catalog_bytes),
            log_end,
        };
        // A file with nothing but its header need not exist, neither here nor in the copy.
        let empty = data_start(self.core.ctx.settings.unit);
        let size = |entry: &TableEntry| entry.space.as_ref().map(|s| s.size).filter(|size| *size > empty);
        let tables =
            tables.iter().map(|(name, entry)| PlanTable { name: name.clone(), id: entry.id, size: size(entry) });
        Plan::new(self.core.ctx.home(), head, tables.collect(), segments, only)
    }

    /// Totals, before a byte moves.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What to copy, for those who move the bytes themselves: in any order, with any tool, the manifest last. The manifest
    /// is no file of the database: write [`Backup::manifest`] under the item's name.
    #[must_use]
    pub fn items(&self) -> Vec<BackupItem> {
        self.plan.items(self.core.ctx.home())
    }

    /// The bytes of the manifest, which make a directory of copied files a database.
    #[must_use]
    pub fn manifest(&self) -> Vec<u8> {
        self.plan.manifest().encode()
    }

    /// Where an increment by blocks on top of this backup would start. A backup of the log alone is of no checkpoint: its
    /// origin is before all of them.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.plan.origin()
    }

    /// The number of the checkpoint that is copied.
    #[must_use]
    pub const fn sequence(&self) -> CheckpointSeq {
        self.record.seq
    }

    /// The name by which increments know the checkpoint that is copied: `StrandlineCheckpoint.N`.
    #[must_use]
    pub fn checkpoint(&self) -> String {
        format!("StrandlineCheckpoint.{}", self.record.seq)
    }

    /// Copies everything into the directory `dir`, which is made or must be empty, on the database's own file system. The
    /// manifest is written last and all is synced.
    ///
    /// # Errors
    /// `Exists` when `dir` holds something; `Cancelled` when `progress` asked to stop; `Closed`; `Corrupt`; `Io`. No
    /// manifest is left then, so nothing opens what was written.
    pub fn copy_to(
        &self,
        dir: impl AsRef<Path>,
        progress: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<BackupReport> {
        self.copy_to_vfs(&*self.core.ctx.vfs, dir.as_ref(), CopyOptions::default(), progress)
    }

    /// As [`Backup::copy_to`], onto another file system.
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

    /// Writes everything as one stream, which [`crate::restore_stream`] unpacks.
    ///
    /// # Errors
    /// As [`Backup::copy_to`]; what was written has no end mark and is refused by a restore.
    pub fn stream_to(
        &self,
        out: &mut dyn io::Write,
        mut progress: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<BackupReport> {
        self.core.check_open()?;
        let call: &mut OnProgress<'_> = &mut progress;
        stream_to(&*self.core.ctx.vfs, &self.plan, out, CopyOptions::default(), call)
    }

    /// Ends the backup: the pin leaves the root record durably, then all that was held may go. A label is remembered, durably,
    /// when this returns; after a crash before that it is unknown, and the origin works all the same.
    ///
    /// # Errors
    /// `Io`, after which the database is poisoned: whether the pin is still in the root record is unknown.
    pub fn finish(mut self) -> Result<()> {
        self.close()?;
        let Some(label) = self.label.take() else { return Ok(()) };
        self.core.checkpointer.change(|catalog| {
            if catalog.origins().find(&label).is_some() {
                return Err(Error::invalid(format!("the label `{label}` is in use")).remedy("choose another one"));
            }
            Ok(Some(Change::Origin(OriginChange::Label(label, self.plan.origin()))))
        })
    }

    fn close(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.open) {
            return Ok(());
        }
        let pinned = self.core.catalog.root().pinned.is_some();
        let unpinned = if pinned { self.core.catalog.set_pin(None) } else { Ok(()) };
        *self.core.backed_up.lock() = None;
        self.core.checkpointer.pins().close_backup();
        self.held = None;
        unpinned
    }
}

impl Drop for Backup<'_> {
    fn drop(&mut self) {
        // A failure poisons the database, so that it is not lost.
        let _ = self.close();
    }
}

/// A table on its way into the log has rows that are in neither the log nor a checkpoint. What a copy, or a crash while it is
/// made, would go back to could not be brought up from the log.
fn refuse_starting(core: &Core) -> Result<()> {
    let starting = |slot: &Arc<TableSlot>| slot.with_entry(|entry| entry.log == TableLog::Starting);
    match core.catalog.tables().into_iter().find(starting) {
        Some(slot) => Err(Error::new(ErrorKind::Busy, format!("table `{}` is being taken into the log", slot.name()))
            .remedy("wait for that, or take a checkpoint if it had failed, and try again")),
        None => Ok(()),
    }
}

/// Stands in until the plan is made.
fn empty_manifest() -> Manifest {
    Manifest::empty()
}
