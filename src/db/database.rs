//! The handle on an open database.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::backup::{Backup, BackupOptions, OriginRef};
use super::core::Core;
use super::table::{Table, TableInfo, TableOptions, check_table_name};
use super::transaction::Transaction;
use super::view::{CheckpointRef, View};
use super::workers;
use crate::catalog::{Catalog, Change, OriginChange, TableEntry, TableLog, TableSlot, TableUse, UseKind};
use crate::checkpoint::{CheckpointOptions, CheckpointReport, PinKind, check_name};
use crate::error::{Error, ErrorKind, Result};
use crate::options::{Durability, Settings};
use crate::record::Record;
use crate::recovery::RecoveryReport;
use crate::types::{CheckpointSeq, Lineage, Origin, TableId};

/// An open database. Any number of threads may share it; one process owns its directory.
#[derive(Debug)]
pub struct Database {
    pub(super) core: Arc<Core>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What is known of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Its number; all order is by number.
    pub seq: CheckpointSeq,
    /// Its name; `None` for an unnamed one.
    pub name: Option<String>,
    /// When it was taken, in milliseconds since 1970; for people only.
    pub time_ms: u64,
    /// Bytes that it reaches, over all files.
    pub bytes: u64,
    /// Bytes that dropping it would free.
    pub exclusive_bytes: u64,
    /// Who forbids dropping it.
    pub pinned_by: Vec<PinKind>,
}

impl Database {
    pub(super) fn new(core: Arc<Core>, thread: Option<JoinHandle<()>>) -> Self {
        Self { core, thread: Mutex::new(thread) }
    }

    /// What opening had to do.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.core.recovery
    }

    /// The settings that the database remembers.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.core.catalog.root().settings
    }

    /// The identity of the database's history.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        self.core.catalog.root().lineage
    }

    /// Begins a transaction at what is committed now.
    ///
    /// # Errors
    /// `Closed`.
    pub fn begin(&self) -> Result<Transaction<'_>> {
        self.core.check_open()?;
        Ok(Transaction::begin(&self.core, None))
    }

    /// Begins a transaction whose commit waits for `durability` and no more.
    ///
    /// # Errors
    /// `InvalidArgument` without a log; `Closed`.
    pub fn begin_with(&self, durability: Durability) -> Result<Transaction<'_>> {
        self.core.check_open()?;
        if !self.core.read_only {
            self.core.needs_log()?;
        }
        Ok(Transaction::begin(&self.core, Some(durability)))
    }

    /// Makes everything that was committed before the call as durable as `durability` says: `Write` or `Sync`.
    ///
    /// # Errors
    /// `InvalidArgument` for `Buffered`, and without a log; `ReadOnly`; `Closed`; `Io`, after which the database is poisoned; `Poisoned`.
    pub fn sync_log(&self, durability: Durability) -> Result<()> {
        self.core.check_writable()?;
        let log = self.core.needs_log()?;
        if durability == Durability::Buffered {
            return Err(Error::invalid("every commit is at least buffered").remedy("ask for `Write` or `Sync`"));
        }
        self.core.logged(log.sync(durability))
    }

    /// Writes a text of the application's into the log, where `strandline printlog` shows it. It is as durable as a commit.
    ///
    /// # Errors
    /// As [`Database::sync_log`].
    pub fn log_message(&self, text: &str) -> Result<()> {
        self.core.check_writable()?;
        let log = self.core.needs_log()?;
        let ticket = self.core.logged(log.append(&Record::Message(text).encode(), self.core.durability))?;
        self.core.logged(log.wait(&ticket))
    }

    /// Removes the segments of the log that lie wholly before the last checkpoint; returns their numbers. For databases that
    /// keep them ([`crate::Options::keep_log`]); an open backup holds those that it listed. Without a log there are none.
    ///
    /// # Errors
    /// `InvalidArgument` when segments are removed automatically; `ReadOnly`; `Closed`; `Poisoned`; `Io`.
    pub fn remove_log(&self) -> Result<Vec<u32>> {
        self.core.check_writable()?;
        self.core.remove_log(u32::MAX)
    }

    /// Takes a table into the log, or out of it, durably; every committed state stays. Takes checkpoints inside.
    ///
    /// # Errors
    /// `NotFound`; `Busy` while a backup is open, if the table is to be logged: the state that a crash would fall back to
    /// could not be brought up from the log; `InvalidArgument` without a log; those of [`Database::checkpoint`].
    pub fn set_table_log(&self, name: &str, on: bool) -> Result<()> {
        self.core.check_writable()?;
        self.core.needs_log()?;
        self.core.checkpointer.set_table_log(name, on)
    }

    /// Makes a table, durably, and opens it. One that exists already is opened.
    ///
    /// # Errors
    /// `InvalidArgument` for a bad name, or for a config that differs from that of the existing table; `Exists` with
    /// [`TableOptions::exclusive`]; `ReadOnly`; `Poisoned`; `Closed`; `Io`.
    pub fn create_table(&self, name: &str, options: TableOptions) -> Result<Table> {
        self.core.check_writable()?;
        check_table_name(name)?;
        if let Some(slot) = self.core.catalog.find(name) {
            return self.existing(slot, &options);
        }
        let mut made = None;
        self.core.checkpointer.change(|catalog| {
            if catalog.find(name).is_some() {
                return Ok(None);
            }
            let id = TableId(catalog.root().next_table);
            let log = if options.unlogged { TableLog::Off } else { TableLog::On };
            let entry = TableEntry { log, ..TableEntry::new(id, options.config.clone()) };
            let slot = Arc::new(TableSlot::new(name, entry));
            made = Some(Arc::clone(&slot));
            Ok(Some(Change::Create(slot, name.to_owned())))
        })?;
        match made {
            Some(slot) => Ok(self.handle(slot)),
            // Another thread was faster.
            None => self.existing(self.core.catalog.table(name)?, &options),
        }
    }

    fn existing(&self, slot: Arc<TableSlot>, options: &TableOptions) -> Result<Table> {
        let name = slot.name();
        if options.exclusive {
            return Err(Error::new(ErrorKind::Exists, format!("table `{name}` exists"))
                .remedy("choose another name, or leave `exclusive` out to open it"));
        }
        let table = self.handle(slot);
        if !options.config.is_empty() && options.config != table.config() {
            return Err(Error::invalid(format!("table `{name}` exists with the config `{}`", table.config()))
                .remedy("open it without a config, or choose another name"));
        }
        Ok(table)
    }

    fn handle(&self, slot: Arc<TableSlot>) -> Table {
        Table { core_id: self.core.id, slot }
    }

    /// Opens a table.
    ///
    /// # Errors
    /// `NotFound`, `Closed`.
    pub fn table(&self, name: &str) -> Result<Table> {
        self.core.check_open()?;
        Ok(self.handle(self.core.catalog.table(name)?))
    }

    /// Removes a table, its file, and it from every checkpoint, durably.
    ///
    /// # Errors
    /// `NotFound`, unless forced; `Busy`, saying why: a cursor or a view uses it, a transaction has uncommitted changes in
    /// it, it has changes since the last checkpoint (unless forced), or an open backup pins its file; `ReadOnly`;
    /// `Poisoned`; `Closed`; `Io`.
    pub fn drop_table(&self, name: &str, force: bool) -> Result<()> {
        self.core.check_writable()?;
        let mut dropped = None;
        let done = self.core.checkpointer.change(|catalog| {
            let slot = match catalog.table(name) {
                Err(e) if e.kind() == ErrorKind::NotFound && force => return Ok(None),
                slot => slot?,
            };
            slot.drop_if(|user| {
                self.refuse_used(&slot, user, "dropped")?;
                if !force && changed(&slot) {
                    return Err(busy(&slot, "dropped", "it has changes since the last checkpoint")
                        .remedy("take a checkpoint first, or force the drop"));
                }
                Ok(())
            })?;
            dropped = Some(Arc::clone(&slot));
            Ok(Some(Change::Drop(vec![slot])))
        });
        let Some(slot) = dropped else { return done };
        if done.is_err() {
            slot.set_dropped(false);
            return done;
        }
        self.remove_file(&slot)
    }

    /// The row is gone durably; if a crash keeps the file, the next open removes it.
    fn remove_file(&self, slot: &TableSlot) -> Result<()> {
        let path = self.core.ctx.path(slot.id());
        match self.core.ctx.vfs.remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(e, "remove the table's file", &path)),
            _ => Ok(()),
        }
    }

    /// Gives a table another name, durably.
    ///
    /// # Errors
    /// `NotFound`; `Exists` when the new name is taken; `Busy` when a cursor, a view, a transaction or a backup uses the
    /// table; `InvalidArgument` for a bad name; `ReadOnly`; `Poisoned`; `Closed`; `Io`.
    pub fn rename_table(&self, from: &str, to: &str) -> Result<()> {
        self.core.check_writable()?;
        check_table_name(to)?;
        self.core.checkpointer.change(|catalog: &Catalog| {
            let slot = catalog.table(from)?;
            if catalog.find(to).is_some() {
                return Err(Error::new(ErrorKind::Exists, format!("table `{to}` exists")).remedy("choose another name"));
            }
            self.refuse_used(&slot, slot.user(), "renamed")?;
            Ok(Some(Change::Rename(slot, to.to_owned())))
        })
    }

    fn refuse_used(&self, slot: &TableSlot, user: Option<UseKind>, what: &str) -> Result<()> {
        if let Some(user) = user {
            return Err(busy(slot, what, user.as_str()).remedy("end that and try again"));
        }
        if self.core.backed_up.lock().as_ref().is_some_and(|tables| tables.contains(&slot.id())) {
            return Err(busy(slot, what, "an open backup pins its file").remedy("end the backup and try again"));
        }
        Ok(())
    }

    /// Every table, by name. Opens none.
    ///
    /// # Errors
    /// `Closed`.
    pub fn tables(&self) -> Result<Vec<TableInfo>> {
        self.core.check_open()?;
        let tables = self.core.catalog.tables();
        let info = |slot: Arc<TableSlot>| {
            let name = slot.name().to_string();
            slot.with_entry(|e| TableInfo {
                name,
                id: e.id,
                config: e.config.clone(),
                logged: e.log != TableLog::Off,
                file_bytes: e.newest().map_or(0, |s| s.size),
            })
        };
        Ok(tables.into_iter().map(info).collect())
    }

    /// Takes a checkpoint: one durable, transaction-consistent state of all tables.
    ///
    /// # Errors
    /// `InvalidArgument` for a reserved or malformed name; `Busy` when a checkpoint to be dropped or replaced is read or
    /// pinned, and then nothing was done; `ReadOnly`; `Poisoned`; `Closed`; `Io`. After a full device the call may be
    /// repeated.
    pub fn checkpoint(&self, options: CheckpointOptions) -> Result<CheckpointReport> {
        self.core.check_writable()?;
        self.core.checkpoint(&options)
    }

    /// All retained checkpoints, oldest first; empty while there is none.
    ///
    /// # Errors
    /// `Closed`.
    pub fn checkpoints(&self) -> Result<Vec<CheckpointInfo>> {
        self.core.check_open()?;
        let catalog = &self.core.catalog;
        let all = catalog.checkpoints();
        // Below 1 there are only tables that were made before the first checkpoint.
        let taken = all.iter().enumerate().filter(|(_, c)| c.seq >= CheckpointSeq::major(1));
        let infos = taken.map(|(at, c)| CheckpointInfo {
            seq: c.seq,
            name: c.name.clone(),
            time_ms: c.time_ms,
            bytes: c.bytes,
            exclusive_bytes: catalog.exclusive_bytes(at),
            pinned_by: self.core.checkpointer.pins().holders(c.seq),
        });
        Ok(infos.collect())
    }

    /// Opens a view of one checkpoint of all tables.
    ///
    /// # Errors
    /// `NotFound` without such a checkpoint, or without any; `InvalidArgument` for a reserved name; `Closed`; `Corrupt`;
    /// `Io`.
    pub fn view(&self, which: CheckpointRef<'_>) -> Result<View> {
        self.core.check_open()?;
        if let CheckpointRef::Named(name) = which {
            check_name(name)?;
        }
        let decided = self.core.checkpointer.pins().decide();
        let record = match which {
            CheckpointRef::Latest => Some(self.core.catalog.newest()).filter(|c| c.seq >= CheckpointSeq::major(1)),
            CheckpointRef::Named(name) => self.core.checkpointer.find(name),
        };
        let record = record.ok_or_else(|| {
            let what = match which {
                CheckpointRef::Latest => "there is no checkpoint yet".to_owned(),
                CheckpointRef::Named(name) => format!("there is no checkpoint `{name}`"),
            };
            Error::new(ErrorKind::NotFound, what).remedy("take one, or list the checkpoints to see their names")
        })?;
        let pin = self.core.checkpointer.pins().pin_view(record.seq);
        // All that there are; the view lets go of those that its checkpoint does not hold.
        let slots = self.core.catalog.tables().into_iter();
        let uses = slots.map(|slot| slot.enter(UseKind::View)).collect::<Result<Vec<TableUse>>>()?;
        drop(decided);
        View::new(Arc::clone(&self.core), record, pin, uses)
    }

    /// Opens a backup. It waits for no running checkpoint and takes none unless asked: rows committed since the last
    /// checkpoint are not in it.
    ///
    /// # Errors
    /// `Busy` when one is open; `NotFound` for an unknown checkpoint or table; `InvalidArgument`; `ReadOnly`; `Poisoned`;
    /// `Closed`; `Io`. Nothing stays held.
    pub fn backup(&self, options: BackupOptions) -> Result<Backup<'_>> {
        Backup::open(&self.core, &options)
    }

    /// The labels that backups have left, each with the origin that an increment can start from, in the order of the labels.
    ///
    /// # Errors
    /// `Closed`.
    pub fn origins(&self) -> Result<Vec<(String, Origin)>> {
        self.core.check_open()?;
        let origins = self.core.catalog.origins();
        Ok(origins.labels().map(|(label, origin)| (label.to_owned(), origin)).collect())
    }

    /// Forgets a label, durably; or, given an origin, refuses it from now on and forgets its labels. It is allowed while a
    /// backup runs.
    ///
    /// # Errors
    /// `NotFound` for an unknown label; `ReadOnly`; `Poisoned`; `Closed`; `Io`.
    pub fn release_origin(&self, which: impl Into<OriginRef>) -> Result<()> {
        self.core.check_writable()?;
        let which = which.into();
        self.core.checkpointer.change(|catalog| match &which {
            OriginRef::Name(label) if catalog.origins().find(label).is_some() => {
                Ok(Some(Change::Origin(OriginChange::Unlabel(label.clone()))))
            }
            which => {
                let origin = self.core.resolve_origin(&catalog.root(), which)?;
                Ok(Some(Change::Origin(OriginChange::Release(origin))))
            }
        })
    }

    /// Forgets all labels, and refuses every origin up to now, durably: the next chain of increments starts with a full backup.
    ///
    /// # Errors
    /// `ReadOnly`; `Poisoned`; `Closed`; `Io`.
    pub fn release_origins(&self) -> Result<()> {
        self.core.check_writable()?;
        // This very change is a checkpoint with a higher number: what is backed up from now on is not refused.
        self.core.checkpointer.change(|catalog| {
            let root = catalog.root();
            Ok(Some(Change::Origin(OriginChange::ReleaseAll(root.max_seq.max(root.newest.seq)))))
        })
    }

    /// Gauges and counters, each a name and a number, in the order of their names.
    ///
    /// # Errors
    /// `Closed`.
    pub fn stats(&self) -> Result<Vec<(&'static str, u64)>> {
        self.core.check_open()?;
        Ok(super::stats::collect(&self.core))
    }

    /// Takes a checkpoint whenever that long has passed since the last one ended; `None` switches that off.
    pub fn set_checkpoint_every(&self, every: Option<Duration>) {
        self.core.timer.set(every);
    }

    /// Takes a checkpoint whenever that many bytes have been logged since the last one; `None` switches that off. Less than the
    /// smallest segment, 100 KiB, is raised to it.
    ///
    /// # Errors
    /// `InvalidArgument` without a log.
    pub fn set_checkpoint_every_log_bytes(&self, every: Option<u64>) -> Result<()> {
        if every.is_some() {
            self.core.needs_log()?;
        }
        self.core.timer.set_bytes(every);
        Ok(())
    }

    /// Runs what is due of the background services, with [`crate::Workers::Manual`]; true when there was something.
    ///
    /// # Errors
    /// As [`Database::checkpoint`].
    pub fn drive(&self) -> Result<bool> {
        self.core.check_writable()?;
        workers::step(&self.core)
    }

    /// Takes a last checkpoint and lets go of the directory. Views that are still held give `Closed`.
    ///
    /// # Errors
    /// As [`Database::checkpoint`]; the directory is let go all the same.
    pub fn close(self) -> Result<()> {
        self.shut()
    }

    fn shut(&self) -> Result<()> {
        let thread = self.thread.lock().take();
        self.core.timer.stop();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        let last = match self.core.check_writable() {
            Ok(()) => {
                let taken = self.end_backup().and_then(|()| self.core.checkpointer.take(&CheckpointOptions::new()));
                // Without that checkpoint all the more: the log has what it would have held.
                let closed = self.core.log().map_or(Ok(()), |log| self.core.logged(log.close()));
                taken.and(closed)
            }
            Err(e) if matches!(e.kind(), ErrorKind::ReadOnly | ErrorKind::Closed) => Ok(()),
            Err(e) => Err(e),
        };
        if self.core.mark_closed() {
            self.core.unlock();
        }
        last
    }
}

impl Database {
    /// Takes back the pin of a backup whose guard was leaked, so that the next open does not take this for a crash.
    fn end_backup(&self) -> Result<()> {
        if self.core.checkpointer.pins().backup().is_none() {
            return Ok(());
        }
        self.core.checkpointer.pins().close_backup();
        match self.core.catalog.root().pinned {
            Some(_) => self.core.catalog.set_pin(None),
            None => Ok(()),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Nobody is left to tell; `close` tells.
        let _ = self.shut();
    }
}

fn changed(slot: &TableSlot) -> bool {
    slot.unrecorded().is_some() || slot.if_open().is_some_and(|t| t.tree.is_dirty())
}

fn busy(slot: &TableSlot, what: &str, why: &str) -> Error {
    Error::new(ErrorKind::Busy, format!("table `{}` cannot be {what}: {why}", slot.name()))
}
