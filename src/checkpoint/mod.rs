//! The database-wide checkpoint: one transaction-consistent, durable state of all tables.
//!
//! | step | after a crash here |
//! | --- | --- |
//! | 1 take the checkpoint lock; check names and pins | old root |
//! | 2 close the commit gate for a moment: fix snapshot, sequence and position in the log together | old root |
//! | 3 each dirty table: reconcile what the snapshot sees into available or new space | old root; the new blocks are unreachable, hence free |
//! | 4 sync each table file written, and the directory once if files appeared | old root |
//! | 5 sync the log; each: settle the dead lists of dropped checkpoints | old root |
//! | 6 rows into the catalog; 3 to 5 for its own tree | old root |
//! | 7 write and sync the root record | old **or** new, both complete |
//! | 8 mirror the record to the second slot; what is now unreachable becomes available | new root |
//! | 9 remove segments of the log that no recovery needs | new root |
//!
//! - **C1** A checkpoint holds exactly what its snapshot sees. **C2** All tables, one snapshot. **C3** A commit is wholly in
//!   it or wholly after it.
//!
//! A table that did not change costs nothing: its newest state serves the new checkpoint too. Commits go on all the time;
//! they wait only for step 2, which does no I/O.
//!
//! A change of the set of tables is a checkpoint of the catalog alone: steps 6, 7, 8 under a *minor* number. The tables
//! keep their newest states, and what was committed to them since stays as volatile as it was. It waits for no checkpoint
//! that is still at steps 2 to 4: its number is below the running one's, and the catalog gets both in order.
//!
//! # The log
//!
//! The position is fixed in step 2, while nobody is between appending a record and applying it: what was appended before it
//! is in the checkpoint, what comes after it is not (C3). The log is synced up to there before the root record is written
//! (L7): otherwise a crash could leave a checkpoint that holds a commit, and a log that does not and goes on with others.
//!
//! A change of the set of tables becomes a record of the log too, for those who roll forward an older state: a copy, or
//! the checkpoint that a backup has pinned. The catalog comes first and the log second. Space in the log is taken before,
//! so that what has become durable in the one cannot be refused by the other. The record is appended before anybody can find
//! the table, so its rows come after it.
//!
//! # When it fails
//!
//! Up to step 6 the old root is the truth and nothing that it reaches was touched. A full device is therefore survived: the
//! checkpoint is abandoned, the roots it wrote are remembered, and the next one, under a higher number, records them.
//! So is a page that cannot be read back because it is damaged. A failed sync, or any other error of the disk, leaves
//! unknown what is on it: the database is poisoned.

mod choice;
mod pins;

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

pub use choice::{CheckpointOptions, Dropped, check_name};
pub use pins::{Pin, PinKind, Pins};

use crate::block::{BlockStore, drop_entry};
use crate::catalog::{Catalog, Change, CheckpointRecord, Recording, Row, TableEntry, TableLog, TableSlot, TableState};
use crate::error::{Error, ErrorKind, Result};
use crate::log::{Log, Reservation, Ticket};
use crate::options::Durability;
use crate::record::{Record, SchemaChange};
use crate::sync::Clock;
use crate::types::{CheckpointSeq, CommitSeq, Extent, LogPosition, Lsn};

/// What a checkpoint did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointReport {
    /// The newest checkpoint now.
    pub seq: CheckpointSeq,
    /// False when nothing had changed and no new checkpoint was needed.
    pub taken: bool,
    /// Checkpoints that this call dropped, unnamed ones that were merely succeeded left out.
    pub dropped: Vec<Dropped>,
    /// How many tables had changed.
    pub tables: usize,
}

/// Takes checkpoints, one at a time.
#[derive(Debug)]
pub struct Checkpointer {
    catalog: Arc<Catalog>,
    pins: Arc<Pins>,
    clock: Arc<dyn Clock>,
    log: Option<Arc<Log>>,
    /// One checkpoint at a time.
    lock: Mutex<()>,
    /// One recording in the catalog at a time, of a checkpoint or of a change of the set of tables. Taken after `lock`.
    recording: Mutex<()>,
}

/// The tables that could not be written, each with the reason.
type Failures = Vec<(Arc<TableSlot>, Error)>;

impl Checkpointer {
    /// For the tables of `catalog`; `pins` says which checkpoints may not go.
    #[must_use]
    pub fn new(catalog: Arc<Catalog>, pins: Arc<Pins>, clock: Arc<dyn Clock>, log: Option<Arc<Log>>) -> Self {
        Self { catalog, pins, clock, log, lock: Mutex::new(()), recording: Mutex::new(()) }
    }

    /// The log, if the database has one and may be written.
    #[must_use]
    pub const fn log(&self) -> Option<&Arc<Log>> {
        self.log.as_ref()
    }

    /// Which checkpoints may not go, and why.
    #[must_use]
    pub const fn pins(&self) -> &Arc<Pins> {
        &self.pins
    }

    /// True when a checkpoint would find something to do.
    #[must_use]
    pub fn is_due(&self) -> bool {
        !self.surplus().is_empty() || self.holds_log() || self.catalog.tables().iter().any(|t| is_changed(t))
    }

    /// True when the newest checkpoint keeps segments of the log that a new one would not need.
    fn holds_log(&self) -> bool {
        let (Some(log), Some(position)) = (&self.log, self.catalog.newest().log) else { return false };
        let end = log.end();
        end.offset > 0 && end.segment > position.lsn.segment
    }

    /// Takes a checkpoint of the whole database.
    ///
    /// # Errors
    /// `InvalidArgument` for a reserved or malformed name; `Busy` when a checkpoint to be dropped or replaced is read or
    /// pinned, and then nothing was done; `Poisoned`; `Io`.
    pub fn take(&self, options: &CheckpointOptions) -> Result<CheckpointReport> {
        self.catalog.context().health.check()?;
        let lock = self.lock.lock();
        self.catalog.context().health.check()?;
        // Refuse early what would be refused in the end; pins may still come, so the choice is made again in step 5.
        options.resolve(&self.catalog.checkpoints(), &self.pins)?;
        let newest = self.catalog.newest();
        if options.may_skip() && newest.seq >= CheckpointSeq::major(1) && !self.is_due() {
            return Ok(CheckpointReport { seq: newest.seq, taken: false, dropped: Vec::new(), tables: 0 });
        }
        let report = self.take_now(options)?;
        drop(lock);
        Ok(report)
    }

    /// Steps 2 to 9; the caller holds the checkpoint lock.
    fn take_now(&self, options: &CheckpointOptions) -> Result<CheckpointReport> {
        let ctx = self.catalog.context();
        let mut end = Lsn::default();
        let (seq, snapshot) = ctx.epoch.begin(|| {
            end = self.log.as_ref().map_or(end, |log| log.end());
            ctx.registry.visible()
        });
        let done = self.write(seq, snapshot, end, options);
        ctx.epoch.finish();
        if done.is_err() {
            self.abandon(seq);
        }
        let (tables, dropped) = done.map_err(|e| self.failed(e))?;
        self.trim_log(seq, end);
        Ok(CheckpointReport { seq, taken: true, dropped, tables })
    }

    /// Step 9. The checkpoint is complete: that segments stay is no failure of it, and the next one tries again.
    fn trim_log(&self, seq: CheckpointSeq, position: Lsn) {
        let (Some(log), Some(settings)) = (&self.log, self.catalog.root().settings.log) else { return };
        if position.offset > 0 {
            let mark = Record::Checkpoint { seq, position };
            let _ = log.append(&mark.encode(), Durability::Buffered);
        }
        if !settings.keep {
            let _ = log.remove_before(position.segment);
        }
    }

    /// Lets the commits of a table go into the log from now on, or no more, durably. Every committed state of the table
    /// stays: before the one, all that is not in the log comes into a checkpoint; after the other, all that was in it.
    ///
    /// # Errors
    /// `NotFound`; `Busy` when the table is to be logged and a backup is open; those of [`Checkpointer::take`].
    pub fn set_table_log(&self, name: &str, on: bool) -> Result<()> {
        self.catalog.context().health.check()?;
        let _lock = self.lock.lock();
        let slot = self.catalog.table(name)?;
        if slot.with_entry(|e| e.log) == if on { TableLog::On } else { TableLog::Off } {
            return Ok(());
        }
        let allowed = || {
            if !on || self.pins.backup().is_none() {
                return Ok(());
            }
            let what = format!("table `{name}` cannot be taken into the log: a backup is open");
            Err(Error::new(ErrorKind::Busy, what).remedy("end the backup and try again"))
        };
        allowed()?;
        let forced = CheckpointOptions::new().force(true);
        self.take_now(&forced)?;
        let log = if on { TableLog::Starting } else { TableLog::Off };
        // Asked again while no backup can open; and none opens while the table is between the two.
        let make = |_: &Catalog| allowed().map(|()| Some(Change::Log(slot, log)));
        self.change_with(make, || self.take_now(&forced).map(drop))?;
        self.take_now(&forced).map(drop)
    }

    /// Makes a change of the set of tables durable, with a checkpoint of the catalog alone.
    ///
    /// `make` is called when no other change, and no recording of a checkpoint, can come between; what it refuses is refused.
    ///
    /// # Errors
    /// What `make` returns; `Poisoned`; `Io`.
    pub fn change(&self, make: impl FnOnce(&Catalog) -> Result<Option<Change>>) -> Result<()> {
        self.change_with(make, || self.take(&CheckpointOptions::new().force(true)).map(drop))
    }

    /// As [`Checkpointer::change`]; `take` takes the checkpoint that may have to come first.
    fn change_with(
        &self,
        make: impl FnOnce(&Catalog) -> Result<Option<Change>>,
        take: impl Fn() -> Result<()>,
    ) -> Result<()> {
        self.catalog.context().health.check()?;
        let (_recording, seq) = loop {
            let recording = self.recording.lock();
            if let Some(seq) = self.catalog.next_minor() {
                break (recording, seq);
            }
            drop(recording);
            take()?;
        };
        self.catalog.context().health.check()?;
        let _decided = self.pins.decide();
        let Some(change) = make(&self.catalog)? else { return Ok(()) };
        let newest = self.catalog.newest();
        let succeeded = newest.name.is_none() && !self.pins.is_pinned(newest.seq);
        let drop = if succeeded { BTreeSet::from([newest.seq]) } else { BTreeSet::new() };
        let time_ms = self.clock.now_ms();
        let told = self.tell(seq, &change)?;
        let recording =
            Recording { seq, name: None, time_ms, log: newest.log, rows: Vec::new(), change: Some(change), drop };
        let mut ticket = None;
        let append = || told.map_or(Ok(None), Told::append).map(|last| ticket = last);
        self.catalog.record(recording, append).map_err(|e| self.failed(e))?;
        match (&self.log, ticket) {
            (Some(log), Some(ticket)) => log.wait(&ticket).map_err(|e| self.failed(e)),
            _ => Ok(()),
        }
    }

    /// Takes space in the log for the records of a change.
    fn tell(&self, seq: CheckpointSeq, change: &Change) -> Result<Option<Told<'_>>> {
        let Some(log) = &self.log else { return Ok(None) };
        let changes = describe(change);
        let records: Vec<Vec<u8>> = changes.into_iter().map(|change| Record::Schema { seq, change }.encode()).collect();
        // What does not concern the tables is told all the same: the log says of every number that it was given.
        let position = self.catalog.newest().log.map_or(Lsn::default(), |log| log.lsn);
        let records = if records.is_empty() { vec![Record::Checkpoint { seq, position }.encode()] } else { records };
        let space = records.iter().map(|record| log.reserve(record.len())).collect::<Result<Vec<_>>>();
        Ok(Some(Told { log, records, space: space.map_err(|e| self.failed(e))? }))
    }

    /// Steps 3 to 8. Returns how many tables had changed, and what was dropped.
    fn write(
        &self,
        seq: CheckpointSeq,
        snapshot: CommitSeq,
        end: Lsn,
        options: &CheckpointOptions,
    ) -> Result<(usize, Vec<Dropped>)> {
        let (tables, vanishing) = self.reconcile(seq, snapshot)?;
        self.sync()?;
        if let Some(log) = &self.log {
            log.sync(Durability::Sync)?;
        }
        let _recording = self.recording.lock();
        if let Some((_, e)) = vanishing.into_iter().find(|(slot, _)| !slot.is_dropped()) {
            return Err(e);
        }
        // From here to the end no checkpoint can be pinned that is about to go.
        let _decided = self.pins.decide();
        let choice = options.resolve(&self.catalog.checkpoints(), &self.pins)?;
        let mut drop = choice.drop;
        drop.extend(self.surplus());
        let newest = self.catalog.newest();
        if newest.name.is_none() && !self.pins.is_pinned(newest.seq) {
            drop.insert(newest.seq);
        }
        let mut retained: Vec<CheckpointSeq> =
            self.catalog.checkpoints().iter().map(|c| c.seq).filter(|s| !drop.contains(s)).collect();
        retained.push(seq);
        let rows = self.settle_rows(seq, end, &retained)?;
        let log = self.log.as_ref().map(|log| LogPosition { lineage: log.lineage(), lsn: end });
        let name = options.name_wanted().map(str::to_owned);
        self.catalog
            .record(Recording { seq, name, time_ms: self.clock.now_ms(), log, rows, change: None, drop }, || Ok(()))?;
        Ok((tables, choice.report))
    }

    /// Step 3: every table that changed writes what the snapshot sees. Returns how many these were, and the tables that could
    /// not, because they are being dropped and their files are gone: if the drop fails, so must the checkpoint.
    fn reconcile(&self, seq: CheckpointSeq, snapshot: CommitSeq) -> Result<(usize, Failures)> {
        let (mut changed, mut vanishing) = (0, Vec::new());
        for slot in self.catalog.tables() {
            let Some(table) = slot.if_open() else { continue };
            match table.tree.checkpoint(seq, snapshot) {
                Ok(None) => {}
                Ok(Some(root)) => {
                    changed += 1;
                    slot.set_unrecorded(root);
                }
                Err(e) => {
                    let e = e.context(format!("checkpoint of table `{}`", slot.name()));
                    if !slot.is_dropped() {
                        return Err(e);
                    }
                    vanishing.push((slot, e));
                }
            }
        }
        Ok((changed, vanishing))
    }

    /// Step 4. Nothing more is written for this checkpoint afterwards but rows of the catalog.
    fn sync(&self) -> Result<()> {
        let ctx = self.catalog.context();
        let tables = self.catalog.tables();
        let written = tables.iter().filter(|slot| slot.unrecorded().is_some()).filter_map(|slot| slot.if_open());
        let stores: Vec<&BlockStore> = written.map(|table| &*table.store).collect();
        if ctx.must_sync(BlockStore::sync_all(&stores))? { ctx.sync_home() } else { Ok(()) }
    }

    /// Step 5: the rows that change. Nothing is decided yet.
    fn settle_rows(&self, seq: CheckpointSeq, end: Lsn, retained: &[CheckpointSeq]) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for slot in self.catalog.tables() {
            let root = slot.unrecorded();
            let started = slot.with_entry(|e| e.log == TableLog::Starting);
            if root.is_none() && !started && slot.with_entry(|e| surplus_states(e, retained).is_empty()) {
                continue;
            }
            let store = Arc::clone(&self.catalog.open(&slot)?.store);
            let mut entry = slot.entry();
            if started {
                // All that the table holds is in this checkpoint, and what comes after it is in the log.
                (entry.log, entry.logged_from) = (TableLog::On, end);
            }
            let space = match root {
                Some(root) => {
                    let settled = store.finish_checkpoint(seq);
                    let size = settled.state.size;
                    entry.states.push(TableState { seq, root, size, dead: settled.dead });
                    Some(settled.state)
                }
                None if entry.states.is_empty() => None,
                None => Some(store.space()),
            };
            let freed = drop_states(&mut entry, retained);
            entry.space = space;
            if let Some(space) = &mut entry.space {
                space.free(&freed);
            }
            rows.push(Row { slot, entry, store, written: root.is_some(), freed });
        }
        Ok(rows)
    }

    /// Unnamed checkpoints before the newest that nobody holds any more.
    fn surplus(&self) -> Vec<CheckpointSeq> {
        let all = self.catalog.checkpoints();
        let older = all[..all.len() - 1].iter();
        older.filter(|c| c.name.is_none() && !self.pins.is_pinned(c.seq)).map(|c| c.seq).collect()
    }

    /// What was written for `seq` belongs to the next checkpoint.
    fn abandon(&self, seq: CheckpointSeq) {
        for slot in self.catalog.tables() {
            let Some(table) = slot.if_open() else { continue };
            table.tree.abandon(seq);
            table.store.abandon_checkpoint(seq);
        }
    }

    /// After a failure: what was refused, a full device and a damaged page are survived; any other error of the disk leaves
    /// unknown what is on it.
    fn failed(&self, e: Error) -> Error {
        let full = e
            .io_source()
            .is_some_and(|s| matches!(s.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded));
        // A log that had no space for what it was promised space for is not to be believed any more.
        let full = full && self.log.as_ref().is_none_or(|log| log.check().is_ok());
        if !full && matches!(e.kind(), ErrorKind::Io | ErrorKind::Poisoned) {
            self.catalog.context().health.poison(&e);
        }
        e
    }

    /// The checkpoint of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<CheckpointRecord> {
        self.catalog.checkpoints().into_iter().find(|c| c.name.as_deref() == Some(name))
    }
}

/// Records of a change of the set of tables, with the space for them.
struct Told<'a> {
    log: &'a Log,
    records: Vec<Vec<u8>>,
    space: Vec<Reservation<'a>>,
}

impl Told<'_> {
    /// Appends the records; returns what to wait for.
    fn append(self) -> Result<Option<Ticket>> {
        let mut last = None;
        for (space, record) in self.space.into_iter().zip(&self.records) {
            last = Some(self.log.append_reserved(space, record, Durability::Sync)?);
        }
        Ok(last)
    }
}

/// A change of the set of tables in the words of the log.
fn describe(change: &Change) -> Vec<SchemaChange> {
    match change {
        Change::Create(slot, name) => {
            let (config, log) = slot.with_entry(|e| (e.config.clone(), e.log != TableLog::Off));
            vec![SchemaChange::Create { id: slot.id(), name: name.clone(), config, log }]
        }
        Change::Rename(slot, name) => vec![SchemaChange::Rename { id: slot.id(), name: name.clone() }],
        Change::Drop(slots) => slots.iter().map(|slot| SchemaChange::Drop { id: slot.id() }).collect(),
        // What increments start from is no part of the state that a log rolls forward.
        Change::Origin(_) => Vec::new(),
        Change::Log(slot, log) => vec![SchemaChange::Log { id: slot.id(), on: *log != TableLog::Off }],
    }
}

/// True when the table changed since its newest recorded state, or waits for a checkpoint to be logged from.
fn is_changed(slot: &TableSlot) -> bool {
    slot.unrecorded().is_some()
        || slot.with_entry(|e| e.log == TableLog::Starting)
        || slot.if_open().is_some_and(|t| t.tree.is_dirty())
}

/// Which states no retained checkpoint needs: state `i` serves the checkpoints from its own up to the next state's. The
/// newest always serves the newest checkpoint.
fn surplus_states(entry: &TableEntry, retained: &[CheckpointSeq]) -> Vec<usize> {
    let needed = |from: CheckpointSeq, to: CheckpointSeq| retained.iter().any(|c| (from..to).contains(c));
    (1..entry.states.len()).filter(|&i| !needed(entry.states[i - 1].seq, entry.states[i].seq)).map(|i| i - 1).collect()
}

/// Drops the states that nothing needs and returns what that frees of the file.
fn drop_states(entry: &mut TableEntry, retained: &[CheckpointSeq]) -> Vec<Extent> {
    let mut freed = Vec::new();
    for at in surplus_states(entry, retained).into_iter().rev() {
        let own = entry.states.remove(at).dead;
        let pred = at.checked_sub(1).map(|p| entry.states[p].seq);
        freed.extend(drop_entry(pred, own, &mut entry.states[at].dead));
    }
    freed
}
