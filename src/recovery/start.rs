//! From a root record and a log to an open database: survey, load, replay, checkpoint, and only then what cannot be undone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::{OpenOptions, Vfs};

use super::replay::{Source, Tail, replay};
use super::{Opened, RecoveryKind, Refused, Request, lock, make_home, needs_recovery, survey};
use crate::catalog::{Catalog, Context, Health, RootRecord, RootSlots, SegmentNotes, TableLog};
use crate::checkpoint::{CheckpointOptions, Checkpointer, Pins};
use crate::error::{Error, Result};
use crate::log::{
    Log, LogEnd, LogOptions, Notes, SEGMENT_HEADER, ScanOptions, SegmentHeader, SegmentInfo, seal_tail, segments,
};
use crate::manifest::{LOCK_FILE, belongs};
use crate::options::{LogSettings, Settings};
use crate::txn::{Epoch, TxnRegistry};
use crate::types::{CommitSeq, Lineage, LogPosition, Lsn};

/// What an open starts from.
pub(super) struct Start {
    /// Where the root record is written; `None` when nothing may be written.
    pub slots: Option<RootSlots>,
    /// The record as it will be: the history may fork, a pin go.
    pub root: RootRecord,
    /// What has to be done.
    pub kind: RecoveryKind,
    /// The log of the state.
    pub source: Source,
    /// `root` differs from what is on disk.
    pub changed: bool,
}

impl Start {
    /// Finds what would keep the log from being read.
    ///
    /// # Errors
    /// As [`Start::check`].
    pub fn check_log(&self, request: &Request) -> Result<()> {
        Tail::read(request, &self.root, &self.source).map(drop)
    }

    /// Finds, without changing anything, what would keep the start from succeeding.
    ///
    /// # Errors
    /// Those of [`bring_up`] that come before the first change.
    pub fn check(&self, request: &Request) -> Result<()> {
        Tail::read(request, &self.root, &self.source)?;
        restate(request, &mut self.root.clone())?;
        load(request, None, self.root.clone(), self.kind.clone(), None).map(drop)
    }
}

/// The directory of the log of the database in `home`.
pub(super) fn log_dir(home: &Path, settings: &Settings) -> PathBuf {
    let dir = settings.log.as_ref().and_then(|log| log.dir.as_deref());
    dir.map_or_else(|| home.to_owned(), |dir| home.join(dir))
}

/// Loads the catalog, replays the log over it, and makes the outcome durable with all else that this open decides.
pub(super) fn bring_up(request: &Request, start: Start) -> std::result::Result<Opened, Refused> {
    let Start { mut slots, mut root, kind, source, mut changed } = start;
    let tail = Tail::read(request, &root, &source)?;
    let work = tail.as_ref().is_some_and(|t| t.work);
    if work && request.refuse_recovery {
        return Err(needs_recovery(request, "its log holds what its newest checkpoint does not").into());
    }
    let (logged, from) = (root.settings.log.is_some(), root.newest.log);
    // A copy's log is its source's, and the source goes on with it.
    let mut lineage = from.map(|log| log.lineage).filter(|_| source.copied.is_none());
    changed |= restate(request, &mut root)?;
    if !keeps(&root) {
        // Segments go before anybody copies them.
        changed |= root.backed_up_from.take().is_some();
    }
    if !logged && root.settings.log.is_some() {
        // What was committed without a log is in no segment, so no copy can be rolled forward across it.
        root.fork(Lineage(request.entropy.next_u64()));
    }
    if request.read_only {
        if work {
            return Err(Refused::Replay);
        }
        let mut opened = load(request, None, root.clone(), kind, None)?;
        opened.report.strangers.retain(|name| !source.owns(request, from, name));
        return Ok(opened);
    }
    if tail.as_ref().is_some_and(|t| t.cut) || (lineage.is_some() && lacks_newest(&root, tail.as_ref())?) {
        root.fork(Lineage(request.entropy.next_u64()));
        lineage = None;
    }
    prepare_log_dir(request, &root.settings)?;
    let dir = log_dir(&request.home, &root.settings);
    let locks = if dir == request.home { None } else { lock(request, &dir.join(LOCK_FILE))? };
    let next = Next::after(request, &root, tail.as_ref(), &source, &dir, lineage)?;
    let entered = next.enter(&mut root, work);
    changed |= entered;
    let log = root.settings.log.is_some().then(|| Arc::new(next.log(request, &root, &dir)));
    let fallen = matches!(kind, RecoveryKind::FellBack { .. });
    let settled = slots.as_mut().map_or(Ok(None), RootSlots::settle)?;
    root.generation = settled.unwrap_or(root.generation);
    let mut opened = load(request, slots, root.clone(), kind, log)?;
    opened.report.slot_repaired |= settled.is_some();
    opened.report.strangers.retain(|name| !source.owns(request, from, name));
    opened.locks.extend(locks);
    if let Some(log) = opened.checkpointer.log() {
        log.note_with(Beside(SegmentNotes::open(&*request.vfs, &request.home, log.lineage())?));
    }
    match tail.as_ref().filter(|_| work) {
        Some(tail) => {
            if fallen {
                // Files of the history that is given up: the log may make tables of the same ids again. The root record
                // that reaches them has its pin still, so nobody comes back to it.
                survey::remove_debris(request, &opened.catalog)?;
            }
            opened.report.replayed = Some(replay(&opened.catalog, tail, &source)?);
            opened.checkpointer.take(&CheckpointOptions::new().force(true))?;
        }
        // Nothing to replay, but the last segment was left by a process that died, and what a sync of it has promised may have
        // been taken back (V5): the next recovery must not need it.
        None if next.doubt.is_some() => {
            opened.checkpointer.take(&CheckpointOptions::new().force(true))?;
        }
        // The log begins here and does not tell of the newest change of the set of tables: see `lacks_newest`.
        None if entered && keeps(&root) && root.newest.seq.is_minor() => {
            opened.checkpointer.take(&CheckpointOptions::new().force(true))?;
        }
        None if changed => opened
            .catalog
            .update_root(|on_disk| *on_disk = RootRecord { generation: on_disk.generation, ..root.clone() })?,
        None => {}
    }
    if opened.catalog.tables().iter().any(|t| t.with_entry(|e| e.log == TableLog::Starting)) {
        // A crash cut short how it was taken into the log: until a checkpoint its commits would be as volatile as before.
        opened.checkpointer.take(&CheckpointOptions::new().force(true))?;
    }
    opened.catalog.repair_slots()?;
    next.retire(request, &opened, tail.as_ref())?;
    Ok(opened)
}

/// What the log has remembered beside the root record.
struct Beside(SegmentNotes);

impl Notes for Beside {
    fn made(&self, number: u32) -> Result<()> {
        self.0.made(number)
    }

    fn closed(&self, end: Lsn) -> Result<()> {
        self.0.closed(end)
    }
}

fn keeps(root: &RootRecord) -> bool {
    root.settings.log.as_ref().is_some_and(|log| log.keep)
}

/// True when the log lacks the newest change of the set of tables. A change is durable in the catalog first and then in the
/// log, and the database died in between. Nothing is lost here, but whoever rolls a copy forward with such a log would never
/// learn of the change: no copy may, so the history forks. Only a log that is kept rolls copies forward.
fn lacks_newest(root: &RootRecord, tail: Option<&Tail>) -> Result<bool> {
    let newest = root.newest.seq;
    match tail {
        Some(tail) if keeps(root) && newest.is_minor() => tail.tells(newest).map(|told| !told),
        _ => Ok(false),
    }
}

/// Settings that the caller states: the allocation unit and the log's directory stay, the rest may change.
fn restate(request: &Request, root: &mut RootRecord) -> Result<bool> {
    let before = root.settings.clone();
    let settings = &mut root.settings;
    if let Some(unit) = request.unit.filter(|u| *u != settings.unit) {
        return Err(Error::invalid(format!(
            "allocation unit {unit} was asked for, the database has {}",
            settings.unit
        ))
        .remedy("leave the unit out: it is remembered"));
    }
    if request.read_only {
        return Ok(false);
    }
    settings.contract = request.contract.unwrap_or(settings.contract);
    settings.log = log_settings(request, settings.log.take())?;
    settings.validate()?;
    Ok(*settings != before)
}

/// The settings of the log that were asked for, on top of those remembered.
///
/// # Errors
/// `InvalidArgument` when something is asked of a log that there is not, or another directory than the remembered one.
pub(super) fn log_settings(request: &Request, remembered: Option<LogSettings>) -> Result<Option<LogSettings>> {
    let on = request.log.unwrap_or(remembered.is_some());
    if !on {
        return match (&request.log_dir, request.keep_log) {
            (None, None | Some(false)) => Ok(None),
            _ => Err(Error::invalid("settings of the log were given, and the database has none")
                .remedy("switch the log on as well, or leave them out")),
        };
    }
    let was_on = remembered.is_some();
    let mut log = remembered.unwrap_or_default();
    log.keep = request.keep_log.unwrap_or(log.keep);
    match &request.log_dir {
        Some(dir) if was_on && log.dir.as_deref().unwrap_or(".") != dir => {
            return Err(Error::invalid(format!(
                "the log's directory is `{}`, not `{dir}`",
                log.dir.as_deref().unwrap_or(".")
            ))
            .remedy("leave the directory out: it is remembered; to move it, switch the log off and on again"));
        }
        Some(dir) if !was_on => log.dir = (dir != ".").then(|| dir.clone()),
        _ => {}
    }
    Ok(Some(log))
}

/// The file that is locked is also what tells the log's directory from one that merely has its name: an empty place where the
/// device with the log was not mounted must not be taken for a log that holds nothing.
fn mark_log_dir(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    let mark = dir.join(LOCK_FILE);
    if vfs.metadata(&mark).map_err(|e| Error::io(e, "look for", &mark))?.is_none() {
        vfs.open(&mark, OpenOptions::create()).map_err(|e| Error::io(e, "create", &mark))?;
        vfs.sync_dir(dir).map_err(|e| Error::io(e, "sync the log's directory", dir))?;
    }
    Ok(())
}

/// Errs when the directory of a log that was begun is not there.
///
/// # Errors
/// `Corrupt`; `Io`.
pub(super) fn check_log_dir(request: &Request, root: &RootRecord, source: &Source) -> Result<()> {
    if source.dir == request.home || root.newest.log.is_none() {
        return Ok(());
    }
    let mark = source.dir.join(LOCK_FILE);
    if request.vfs.metadata(&mark).map_err(|e| Error::io(e, "look for", &mark))?.is_some() {
        return Ok(());
    }
    Err(Error::corrupt("the log's directory is not there, or another one stands in its place")
        .at(&source.dir, None)
        .remedy("mount it, or put it back with all its files"))
}

/// Whether the directory of the log is there; `None` when it is the home. Changes nothing.
///
/// # Errors
/// `InvalidArgument` when something else is there, `Io`.
pub(super) fn look_at_log_dir(request: &Request, settings: &Settings) -> Result<Option<bool>> {
    let (vfs, dir) = (&*request.vfs, &log_dir(&request.home, settings));
    if *dir == request.home {
        return Ok(None);
    }
    let first = dir.strip_prefix(&request.home).ok().and_then(|inside| inside.components().next());
    if first.and_then(|part| part.as_os_str().to_str()).is_some_and(belongs) {
        return Err(Error::invalid("the log's directory would take the place of a file of the database")
            .at(dir, None)
            .remedy("give it another name"));
    }
    match vfs.metadata(dir).map_err(|e| Error::io(e, "look at the log's directory", dir))? {
        Some(meta) if meta.kind == strandline_vfs::FileKind::Directory => Ok(Some(true)),
        Some(_) => Err(Error::invalid("the log's directory is a file").at(dir, None).remedy("name a directory")),
        None => Ok(Some(false)),
    }
}

/// Makes the directory of the log if it is not there.
///
/// # Errors
/// As [`look_at_log_dir`].
pub(super) fn prepare_log_dir(request: &Request, settings: &Settings) -> Result<()> {
    let (vfs, dir) = (&*request.vfs, &log_dir(&request.home, settings));
    match look_at_log_dir(request, settings)? {
        None => return Ok(()),
        Some(true) => {}
        Some(false) => make_home(vfs, dir)?,
    }
    mark_log_dir(vfs, dir)
}

/// The log of a restored copy begins at a multiple of this: at 64 MiB a segment, 64 TiB of log behind its source.
const COPY_STRIDE: u32 = 1 << 20;

/// Where the log goes on.
struct Next {
    /// The history that its segments say they are of; `goes_on` when it is that of the segments that were replayed.
    lineage: Lineage,
    goes_on: bool,
    /// The number of the next segment.
    number: u32,
    /// Where the records end that it goes on from, when both are of one history.
    previous: Lsn,
    previous_writer: u64,
    /// Segments before it: those of the history that goes on, and others.
    kept: Vec<SegmentInfo>,
    obsolete: Vec<PathBuf>,
    /// Records that the log goes on from and that may not be durable, when no checkpoint makes them so.
    doubt: Option<(ScanOptions, LogEnd)>,
}

impl Next {
    /// `lineage`: that of the log so far, if it goes on.
    fn after(
        request: &Request,
        root: &RootRecord,
        tail: Option<&Tail>,
        source: &Source,
        dir: &Path,
        lineage: Option<Lineage>,
    ) -> Result<Self> {
        let mut next = Self {
            lineage: lineage.unwrap_or(root.lineage),
            goes_on: lineage.is_some(),
            number: root.next_segment.max(1),
            previous: Lsn::default(),
            previous_writer: 0,
            kept: Vec::new(),
            obsolete: Vec::new(),
            doubt: None,
        };
        let all = || -> Result<Vec<SegmentInfo>> {
            let mut found = segments(&*request.vfs, dir)?;
            if source.dir != dir {
                found.extend(segments(&*request.vfs, &source.dir)?);
            }
            Ok(found)
        };
        match tail {
            Some(tail) if next.goes_on => {
                let here = source.dir == dir && source.copied.is_none() && root.settings.log.is_some();
                let end = match &root.settings.log {
                    // The checkpoint to come will not need these records, but increments will.
                    Some(log) if here && log.keep && tail.work => seal_tail(&tail.options, &tail.end)?,
                    _ => tail.end.clone(),
                };
                (next.number, next.previous, next.previous_writer) = (end.next, end.previous, end.previous_writer);
                next.doubt = (here && !tail.work && end.is_in_doubt()).then(|| (tail.options.clone(), end));
            }
            tail => {
                // A file that is no segment takes no number: it is made anew when its turn comes.
                for segment in all()? {
                    if lineage_of(&*request.vfs, &segment.path)?.is_some() {
                        next.number = next.number.max(segment.number + 1);
                    }
                }
                next.number = next
                    .number
                    .max(tail.map_or(0, |t| t.end.next.max(t.options.made.map_or(0, |n| n.saturating_add(1)))));
                if source.copied.is_some() {
                    // Far from the numbers that the source goes on with: what is laid here by mistake must not take the
                    // place of a segment of our own.
                    next.number = next.number.next_multiple_of(COPY_STRIDE);
                }
            }
        }
        // A log that was off for a while is a new one: what the old one left serves nobody, and neither does what a history
        // left that this one forked from.
        let replayed = tail.map(|t| t.options.from.lineage);
        let goes_on = lineage.filter(|_| root.settings.log.is_some());
        let was_ours = |lineage| {
            lineage == root.lineage
                || replayed == Some(lineage)
                || root.forks.iter().any(|fork| fork.lineage == lineage)
        };
        let copied = source.copied.map(|copied| copied.last);
        let known = |s: &SegmentInfo| s.number < next.number && copied.is_none_or(|last| s.number <= last);
        for segment in all()?.into_iter().filter(known) {
            match lineage_of(&*request.vfs, &segment.path)? {
                Some(lineage) if goes_on == Some(lineage) => next.kept.push(segment),
                Some(lineage) if was_ours(lineage) => next.obsolete.push(segment.path),
                // Not written by this database: left where it is.
                _ => {}
            }
        }
        Ok(next)
    }

    /// Lets the record say where replay begins from now on. A replay leaves that to the checkpoint after it. True when the
    /// record changed.
    fn enter(&self, root: &mut RootRecord, work: bool) -> bool {
        let before = (root.newest.log, root.next_segment);
        if root.settings.log.is_none() {
            if root.newest.log.is_some() {
                root.next_segment = self.number;
            }
            if !work {
                root.newest.log = None;
            }
        } else if !work && !self.goes_on {
            let lsn = Lsn { segment: self.number, offset: 0 };
            root.newest.log = Some(LogPosition { lineage: self.lineage, lsn });
        }
        before != (root.newest.log, root.next_segment)
    }

    fn log(&self, request: &Request, root: &RootRecord, dir: &Path) -> Log {
        Log::start(LogOptions {
            vfs: Arc::clone(&request.vfs),
            dir: dir.to_owned(),
            lineage: self.lineage,
            unit: root.settings.unit,
            segment_bytes: request.segment_bytes,
            next: self.number,
            previous: self.previous,
            previous_writer: self.previous_writer,
            writer: request.entropy.next_u64(),
            kept: self.kept.clone(),
            doubt: self.doubt.clone(),
        })
    }

    /// The new root record is durable: segments that no recovery needs go.
    fn retire(&self, request: &Request, opened: &Opened, tail: Option<&Tail>) -> Result<()> {
        let salvaged = tail.is_some_and(|t| t.cut);
        for path in &self.obsolete {
            if salvaged { set_aside(&*request.vfs, path) } else { remove(&*request.vfs, path) }?;
        }
        if salvaged && let Some(dir) = self.obsolete.first().and_then(|path| path.parent()) {
            // The next open would take a name that came back for that of a segment which nobody needs.
            request.vfs.sync_dir(dir).map_err(|e| Error::io(e, "sync the log's directory", dir))?;
        }
        let root = opened.catalog.root();
        if let (Some(settings), Some(log), Some(position)) =
            (&root.settings.log, opened.checkpointer.log(), root.newest.log)
            && !settings.keep
        {
            log.remove_before(position.lsn.segment)?;
        }
        Ok(())
    }
}

/// Behind the damage there may be records that somebody wants to look at.
fn set_aside(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".salvaged");
    vfs.rename(path, Path::new(&aside)).map_err(|e| Error::io(e, "set a damaged segment of the log aside", path))
}

fn remove(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    match vfs.remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(e, "remove a segment of the log", path)),
        _ => Ok(()),
    }
}

/// The history that a segment says it is of; `None` when its header cannot be believed, or not be read: what recovery needs
/// has been read by now, and the rest does not matter (LG-10).
fn lineage_of(vfs: &dyn Vfs, path: &Path) -> Result<Option<Lineage>> {
    let file = vfs.open(path, OpenOptions::read()).map_err(|e| Error::io(e, "open a segment of the log", path))?;
    let mut header = [0; SEGMENT_HEADER];
    let read = file.read_exact_at(&mut header, 0);
    Ok(read.ok().and_then(|()| SegmentHeader::decode(&header).ok()).map(|h| h.lineage))
}

/// Loads the catalog that `root` locates.
fn load(
    request: &Request,
    slots: Option<RootSlots>,
    root: RootRecord,
    kind: RecoveryKind,
    log: Option<Arc<Log>>,
) -> Result<Opened> {
    let slot_repaired = slots.as_ref().is_some_and(RootSlots::needs_mirror);
    let checkpoint = root.newest.seq;
    // The first commit after opening is number 2: what the checkpoint holds counts as commit 1.
    let ctx = Arc::new(Context {
        vfs: Arc::clone(&request.vfs),
        home: request.home.clone(),
        settings: root.settings.clone(),
        cache: Arc::clone(&request.cache),
        epoch: Arc::new(Epoch::new(root.max_seq.max(checkpoint).next_major())),
        registry: Arc::new(TxnRegistry::new(CommitSeq(1))),
        tree: request.tree,
        read_only: request.read_only,
        health: Health::default(),
    });
    let slots = slots.filter(|_| !request.read_only);
    let catalog = Arc::new(Catalog::load(ctx, slots, root)?);
    let strangers = survey::strangers(request, &catalog)?;
    let pins = Arc::new(Pins::default());
    let checkpointer = Checkpointer::new(Arc::clone(&catalog), pins, Arc::clone(&request.clock), log);
    let report = super::RecoveryReport { kind, checkpoint, slot_repaired, strangers, replayed: None };
    Ok(Opened { catalog, checkpointer, report, locks: Vec::new(), read_only: request.read_only })
}
