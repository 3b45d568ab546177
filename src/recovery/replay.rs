//! The log over the checkpoint.
//!
//! First the log is *surveyed*: read through once, so that damage is found before anything happens. What it holds beyond the
//! checkpoint is then replayed in order through the same commits as those of a live transaction, in batches: a batch is
//! applied under one commit number, because nobody reads meanwhile. Schema records change the set of tables in memory; the
//! checkpoint that ends the recovery records both, in one step. Until then the old root record and the old log say the same
//! thing again, so a crash at any point repeats the recovery from the start (L5).
//!
//! A table skips what it holds: all tables of a checkpoint hold exactly what was committed before its position in the log
//! (C3), and a schema record carries the number under which the catalog recorded it. Records for tables that are no more are
//! skipped and counted, never applied to another table: ids are not given twice.
//!
//! - **L5** Replaying twice equals once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::Request;
use crate::catalog::{Catalog, Change, Noted, RootRecord, TableEntry, TableLog, TableSlot, noted};
use crate::error::{Error, ErrorKind, Result};
use crate::log::{LogEnd, ScanOptions, Scanner, segment_name, segment_number, survey};
use crate::manifest::is_log_manifest;
use crate::record::{Op, Record, SchemaChange};
use crate::types::{CheckpointSeq, CommitSeq, LogPosition, Lsn, TableId};

/// What the log brought back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Records that were replayed: commits and changes of the set of tables.
    pub records: u64,
    /// Writes to single keys among them.
    pub writes: u64,
    /// Bytes of the log that were read.
    pub bytes: u64,
    /// Writes for tables that do not exist any more, or that were not logged.
    pub skipped: u64,
    /// Where and why the log ends, when its end was torn by a crash or, in a salvage, damaged.
    pub torn: Option<String>,
}

/// Where the segments to replay are.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Their directory.
    pub dir: PathBuf,
    /// Of a copy, where its log ends; of a home, everything in the directory belongs to it.
    pub copied: Option<Copied>,
    /// Only these tables are brought up, others are to be forgotten; `None` for all.
    pub only: Option<BTreeSet<TableId>>,
}

/// The log of a copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    /// No segment above this one belongs to it.
    pub last: u32,
    /// Where its last record ends; `None` when nothing was copied.
    pub end: Option<Lsn>,
    /// Less of it is better than nothing.
    pub tolerant: bool,
}

impl Source {
    /// The log of a home.
    pub const fn home(dir: PathBuf) -> Self {
        Self { dir, copied: None, only: None }
    }

    /// Whether a file of the home is a part of this log.
    pub fn owns(&self, request: &Request, from: Option<LogPosition>, name: &str) -> bool {
        if is_log_manifest(name) {
            return self.copied.is_some();
        }
        let Some(number) = segment_number(name).filter(|_| self.dir == request.home) else { return false };
        match (self.copied, from) {
            (Some(copied), Some(from)) => (from.lsn.segment..=copied.last).contains(&number),
            (_, from) => from.is_some(),
        }
    }
}

/// What a log holds beyond a checkpoint.
#[derive(Debug)]
pub(super) struct Tail {
    pub options: ScanOptions,
    pub end: LogEnd,
    /// There is something to replay.
    pub work: bool,
    /// The log is damaged before its end, and a salvage keeps what is before the damage.
    pub cut: bool,
}

impl Tail {
    /// Reads the log that `root`'s newest checkpoint needs; `None` without a log. Changes nothing.
    ///
    /// # Errors
    /// `Corrupt` with file and offset when a part that was promised is damaged or missing; `WrongBase`; `Unsupported`; `Io`.
    pub fn read(request: &Request, root: &RootRecord, source: &Source) -> Result<Option<Self>> {
        let Some(from) = root.newest.log else { return Ok(None) };
        let mut options = scan_options(request, root, source, from);
        let tolerant = request.salvage || source.copied.is_some_and(|copied| copied.tolerant);
        let read = survey(&options).and_then(|end| source.check_end(&options, &end).map(|()| end));
        let (end, cut) = match read {
            Err(e) if e.kind() == ErrorKind::Corrupt && tolerant => {
                options.salvage = true;
                (survey(&options)?, true)
            }
            end => (end?, false),
        };
        let work = cut || has_work(&options, &end, root.newest.seq)?;
        Ok(Some(Self { options, end, work, cut }))
    }

    /// Whether the log tells of the change of the set of tables that was made durable under `seq`.
    ///
    /// # Errors
    /// Those of [`Tail::read`].
    pub fn tells(&self, seq: CheckpointSeq) -> Result<bool> {
        let mut scanner = Scanner::new(&self.options, &self.end);
        while let Some((lsn, payload)) = scanner.next_record()? {
            let record = decode(&self.options, lsn, payload)?;
            if matches!(record, Record::Schema { seq: told, .. } | Record::Checkpoint { seq: told, .. } if told == seq)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Source {
    /// A copy says where its log ends: one that ends sooner is not whole, however good it looks.
    fn check_end(&self, options: &ScanOptions, found: &LogEnd) -> Result<()> {
        match self.copied.and_then(|copied| copied.end) {
            Some(end) if found.end != end => {
                let what = format!("the log of the copy ends at {}, and should at {end}", found.end);
                Err(at(options, found.end, Error::corrupt(what))
                    .remedy("copy the segment again, restore from another copy, or open it with salvage"))
            }
            _ => Ok(()),
        }
    }
}

fn scan_options(request: &Request, root: &RootRecord, source: &Source, from: LogPosition) -> ScanOptions {
    let noted = beside(request, root, source, from);
    ScanOptions {
        vfs: Arc::clone(&request.vfs),
        dir: source.dir.clone(),
        unit: root.settings.unit,
        from,
        last: source.copied.map(|copied| copied.last),
        made: noted.made,
        closed: noted.closed,
        salvage: false,
    }
}

/// What the home has noted of its log, as far as recovery needs it.
fn beside(request: &Request, root: &RootRecord, source: &Source, from: LogPosition) -> Noted {
    if source.copied.is_some() || root.settings.log.is_none() {
        return Noted::default();
    }
    let noted = noted(&*request.vfs, &request.home, from.lineage);
    Noted { made: noted.made.filter(|last| *last >= from.lsn.segment), ..noted }
}

/// True when the log tells of anything that the checkpoint `newest` does not hold.
fn has_work(options: &ScanOptions, end: &LogEnd, newest: CheckpointSeq) -> Result<bool> {
    let mut scanner = Scanner::new(options, end);
    while let Some((lsn, payload)) = scanner.next_record()? {
        match decode(options, lsn, payload)? {
            Record::Commit(_) => return Ok(true),
            Record::Schema { seq, .. } if seq > newest => return Ok(true),
            _ => {}
        }
    }
    Ok(false)
}

fn decode<'p>(options: &ScanOptions, lsn: Lsn, payload: &'p [u8]) -> Result<Record<'p>> {
    Record::decode(payload).map_err(|e| at(options, lsn, e))
}

fn at(options: &ScanOptions, lsn: Lsn, e: Error) -> Error {
    e.at(&options.dir.join(segment_name(lsn.segment)), Some(lsn.offset.into()))
}

/// Bytes of records that are applied as one commit: a sixteenth of the cache, within limits. The larger a batch is, the
/// more of its writes meet in a leaf, and a leaf is found and lengthened once for all of them.
const BATCH_BYTES: (usize, usize) = (256 << 10, 8 << 20);

/// A write of one batch.
type Write<'p> = (TableId, &'p [u8], Option<&'p [u8]>);

/// Replays one log over one catalog.
struct Replay<'a> {
    catalog: &'a Catalog,
    options: &'a ScanOptions,
    only: Option<&'a BTreeSet<TableId>>,
    /// Schema records up to this number are in the catalog already.
    newest: CheckpointSeq,
    tables: BTreeMap<TableId, Arc<TableSlot>>,
    done: Replayed,
    /// The records gathered: where each stands in the log, and where it ends in `batch`.
    records: Vec<(Lsn, usize)>,
    batch: Vec<u8>,
    batch_bytes: usize,
}

/// Replays the log over the catalog, in memory: the next checkpoint makes it durable.
///
/// # Errors
/// `Corrupt` with file and offset for a record that means nothing; what a commit returns.
pub(super) fn replay(catalog: &Catalog, tail: &Tail, source: &Source) -> Result<Replayed> {
    let torn = tail.end.torn.as_ref().map(|t| format!("{} at {}", t.what, t.lsn));
    let done = Replayed { bytes: tail.end.bytes, torn, ..Replayed::default() };
    let newest = catalog.newest().seq;
    let only = source.only.as_ref();
    if let Some(only) = only {
        // Their files need not be there.
        let others = catalog.tables().into_iter().filter(|slot| !only.contains(&slot.id())).collect();
        catalog.replay(Change::Drop(others));
    }
    let tables = catalog.tables().into_iter().map(|slot| (slot.id(), slot)).collect();
    let batch_bytes = (catalog.context().cache.target() / 16).clamp(BATCH_BYTES.0, BATCH_BYTES.1);
    let (options, records, batch) = (&tail.options, Vec::new(), Vec::new());
    let mut replay = Replay { catalog, options, only, newest, tables, done, records, batch, batch_bytes };
    let mut scanner = Scanner::new(&tail.options, &tail.end);
    while let Some((lsn, payload)) = scanner.next_record()? {
        replay.take(lsn, payload)?;
    }
    replay.apply()?;
    Ok(replay.done)
}

impl Replay<'_> {
    fn take(&mut self, lsn: Lsn, payload: &[u8]) -> Result<()> {
        match decode(self.options, lsn, payload)? {
            Record::Commit(_) => {
                self.done.records += 1;
                self.batch.extend_from_slice(payload);
                self.records.push((lsn, self.batch.len()));
                if self.batch.len() >= self.batch_bytes { self.apply() } else { Ok(()) }
            }
            Record::Schema { seq, change } if seq > self.newest => {
                self.apply()?;
                self.done.records += 1;
                self.change(&change).map_err(|e| at(self.options, lsn, e))
            }
            Record::Schema { .. } | Record::Checkpoint { .. } | Record::Message(_) => Ok(()),
        }
    }

    /// Applies what was gathered as one commit.
    fn apply(&mut self) -> Result<()> {
        let (mut records, mut batch) = (std::mem::take(&mut self.records), std::mem::take(&mut self.batch));
        let mut writes: Vec<Write<'_>> = Vec::new();
        let mut from = 0;
        for &(lsn, end) in &records {
            let payload = &batch[from..end];
            from = end;
            let Record::Commit(commit) = decode(self.options, lsn, payload)? else { continue };
            for op in commit.ops() {
                let (table, op) = op.map_err(|e| at(self.options, lsn, e))?;
                writes.push(match op {
                    Op::Put { key, value } => (table, key, Some(value)),
                    Op::Remove { key } => (table, key, None),
                });
            }
        }
        self.done.writes += writes.len() as u64;
        // Newest first, and stable: of several writes to a key the last holds.
        writes.reverse();
        writes.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        writes.dedup_by(|a, b| (a.0, a.1) == (b.0, b.1));
        self.commit(&writes)?;
        records.clear();
        batch.clear();
        (self.records, self.batch) = (records, batch);
        Ok(())
    }

    fn commit(&mut self, writes: &[Write<'_>]) -> Result<()> {
        let ctx = self.catalog.context();
        let gate = ctx.epoch.enter();
        let mut slots = Vec::new();
        for writes in writes.chunk_by(|a, b| a.0 == b.0) {
            match self.tables.get(&writes[0].0).filter(|slot| slot.with_entry(|e| e.log) != TableLog::Starting) {
                Some(slot) => slots.push((slot, writes)),
                None => self.done.skipped += writes.len() as u64,
            }
        }
        let mut prepared = Vec::with_capacity(slots.len());
        for (slot, writes) in &slots {
            let tree = &self.catalog.open(slot)?.tree;
            prepared.push((tree, tree.prepare(&gate, writes.iter().map(|&(_, key, value)| (key, value)))?));
        }
        let seq = CommitSeq(ctx.registry.visible().0 + 1);
        for (tree, writes) in &mut prepared {
            tree.apply(&gate, writes, seq);
        }
        ctx.registry.publish(seq);
        for (tree, writes) in prepared {
            tree.tidy(&gate, writes);
        }
        drop(gate);
        ctx.cache.relieve();
        Ok(())
    }

    /// Changes the set of tables as it was changed then.
    fn change(&mut self, change: &SchemaChange) -> Result<()> {
        let change = match change {
            SchemaChange::Create { id, .. } if self.only.is_some_and(|only| !only.contains(id)) => return Ok(()),
            SchemaChange::Create { id, name, config, log } => {
                if self.tables.contains_key(id) || self.catalog.find(name).is_some() {
                    return Err(Error::corrupt(format!("the log makes table `{name}` (id {}) a second time", id.0)));
                }
                let log = if *log { TableLog::On } else { TableLog::Off };
                let slot = Arc::new(TableSlot::new(name, TableEntry { log, ..TableEntry::new(*id, config.clone()) }));
                self.tables.insert(*id, Arc::clone(&slot));
                Change::Create(slot, name.clone())
            }
            SchemaChange::Rename { id, name } => match self.tables.get(id) {
                Some(slot) if self.catalog.find(name).is_some_and(|other| other.id() != *id) => {
                    return Err(Error::corrupt(format!("the log gives two tables the name `{name}`, {}", slot.name())));
                }
                Some(slot) => Change::Rename(Arc::clone(slot), name.clone()),
                None => return Ok(()),
            },
            SchemaChange::Drop { id } => match self.tables.remove(id) {
                Some(slot) => Change::Drop(vec![slot]),
                None => return Ok(()),
            },
            SchemaChange::Log { id, on } => match self.tables.get(id) {
                Some(slot) => Change::Log(Arc::clone(slot), if *on { TableLog::Starting } else { TableLog::Off }),
                None => return Ok(()),
            },
        };
        self.catalog.replay(change);
        Ok(())
    }
}
