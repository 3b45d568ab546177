//! From a directory to an open database.
//!
//! ```text
//! what is there                          what is done (read-only: the same in memory, nothing written)
//! nothing                                a new database, if asked for; else NotFound
//! root record                            its newest checkpoint
//! root record with a pin                 a backup was open when the database died: its pinned checkpoint, and the
//!                                        history of checkpoints forks there (contract Pinned); the log goes on
//! manifest, no root record               a copy: what the manifest says, and the increments from the log beside it; the
//!                                        history forks
//! both                                   a restore that was interrupted, or a source that died with this backup open:
//!                                        finish it; any other pair: WrongBase
//! root record, increment from the log    an increment that was laid over a copy that had been opened: WrongBase
//! increment, no manifest of a copy       WrongBase: it is no copy
//! Strandline files, none of these        Corrupt, with the list of what was found
//! ```
//!
//! No data file is scanned: the cost does not depend on how large the tables are, only on what the log holds beyond the
//! checkpoint. Every step can be repeated: until the new root record is durable in both slots the old one says the same
//! thing again, and what is written before that goes where nothing true is.
//!
//! - **R1** and **R2** make the newest record true; **K3** says which record holds after a crash with a backup open.
//!
//! # The log
//!
//! 1. The log is surveyed from the position that the checkpoint remembers. Damage is found here, before a byte changes.
//! 2. The catalog is loaded, and what the log holds is replayed over it, in memory.
//! 3. A checkpoint makes that durable, in blocks of its own: what stood in the log may stand in the system's cache only, if a
//!    sync failed before, and nothing may rest on it (V5). Its position is the start of a segment that does not exist yet.
//!    The same root record carries everything else that this recovery decides: the fork of the history, the settings.
//! 4. Only then do a pin or a manifest go, and what no recovery needs any more is removed.
//!
//! A segment is appended to only by the process that made it. So a torn end is never written over, and nothing written
//! later can come to stand behind it; the next segment says in its header where the data of this one ends.
//!
//! The log of a copy lies beside its tables, wherever that of its source was, and ends where the manifest says: segments
//! above that are strangers, and a log that ends sooner is damage, however whole it looks. It goes with the manifest; the log
//! that is begun belongs to the new history, under numbers that are above all that were there. When only chosen tables are
//! restored, the log brings back those and makes no others.
//!
//! The lineage in the segments is that of the log, which is not always that of the checkpoints: a fall back to a pinned
//! checkpoint gives up checkpoints and no record, so the log keeps its lineage and copies that were made before go on to be
//! rolled forward by it. Where records are given up too, or are in no segment - a salvage, a copy that is opened, a time
//! without a log - both fork.
//!
//! A read-only open that has anything to replay does the same over an overlay of the file system: what recovery writes
//! stays in memory.

mod replay;
mod start;
mod survey;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::overlay::OverlayVfs;
use strandline_vfs::{Lock, Vfs};

use crate::btree::TreeOptions;
use crate::cache::Cache;
use crate::catalog::{Catalog, Change, CheckpointRecord, RootRecord, RootSlots, TableSlot};
use crate::checkpoint::{CheckpointOptions, Checkpointer};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{CopyKind, LOCK_FILE, Manifest, log_manifests};
use crate::options::{Contract, Settings};
use crate::sync::{Clock, Entropy};
use crate::types::{CheckpointSeq, Lineage, LogPosition, Lsn};

pub use replay::Replayed;
use replay::{Copied, Source};
use start::{Start, bring_up, check_log_dir, log_dir, log_settings, look_at_log_dir, prepare_log_dir};
use survey::{Found, survey};

/// What an open asks for.
#[derive(Debug)]
pub struct Request {
    /// The file system.
    pub vfs: Arc<dyn Vfs>,
    /// The directory.
    pub home: PathBuf,
    /// Make a database where there is none.
    pub create: bool,
    /// Write nothing.
    pub read_only: bool,
    /// Fail with `NeedsRecovery` instead of recovering.
    pub refuse_recovery: bool,
    /// Open what is whole of a copy with damaged or missing files.
    pub tolerate_damage: bool,
    /// Restore only these tables of a copy; empty for all.
    pub restore_only: Vec<String>,
    /// Allocation unit, where the caller states one.
    pub unit: Option<u32>,
    /// Contract, where the caller states one.
    pub contract: Option<Contract>,
    /// Whether there is a log, where the caller states it.
    pub log: Option<bool>,
    /// Directory of the log, where the caller states one.
    pub log_dir: Option<String>,
    /// Whether segments stay until they are removed by a call, where the caller states it.
    pub keep_log: Option<bool>,
    /// Bytes of a segment of the log.
    pub segment_bytes: u64,
    /// Keep what is before damage in the log instead of refusing it.
    pub salvage: bool,
    /// Pages in memory.
    pub cache: Arc<Cache>,
    /// Shape of trees.
    pub tree: TreeOptions,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
}

/// What opening had to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryKind {
    /// A new database was made.
    Created,
    /// The newest checkpoint holds.
    Newest,
    /// A backup was open under contract `Pinned`: the checkpoint it pinned holds, later ones are gone.
    FellBack {
        /// The newest checkpoint that was given up.
        from: CheckpointSeq,
    },
    /// A copy was restored.
    Restored {
        /// The backup's id.
        backup: u64,
    },
}

/// What opening found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// What had to be done.
    pub kind: RecoveryKind,
    /// The checkpoint that the database was opened in.
    pub checkpoint: CheckpointSeq,
    /// One slot of the root record was torn, old or rotten, and the other held.
    pub slot_repaired: bool,
    /// Files in the directory that do not belong to the database.
    pub strangers: Vec<String>,
    /// What the log brought back beyond the checkpoint; `None` when there was nothing to bring back.
    pub replayed: Option<Replayed>,
}

/// An open database, as far as the rooms below it go.
#[derive(Debug)]
pub struct Opened {
    /// Tables and checkpoints.
    pub catalog: Arc<Catalog>,
    /// Takes checkpoints.
    pub checkpointer: Checkpointer,
    /// What was done.
    pub report: RecoveryReport,
    /// Keeps other owners out.
    pub locks: Vec<Box<dyn Lock>>,
    /// Nothing may be written.
    pub read_only: bool,
}

/// Opens the directory.
///
/// # Errors
/// `NotFound`, `Busy`, `Corrupt`, `WrongBase`, `NeedsRecovery`, `Unsupported`, `InvalidArgument`, `Io`; what was taken
/// is released, and the directory is as recoverable as before.
pub fn open(request: Request) -> Result<Opened> {
    let found = survey(&request)?;
    refuse_early(&request, &found)?;
    let mut locks = take_locks(&request, &found)?;
    // Another owner may have finished its work between the look and the lock.
    let found = survey(&request)?;
    refuse_early(&request, &found)?;
    let mut opened = match open_found(&request, found) {
        Err(Refused::Replay) => open_in_memory(request)?,
        Err(Refused::Error(e)) => return Err(e),
        Ok(opened) => opened,
    };
    opened.locks.append(&mut locks);
    Ok(opened)
}

/// Why an open came to nothing.
enum Refused {
    Error(Error),
    /// The log must be replayed, and nothing may be written.
    Replay,
}

impl From<Error> for Refused {
    fn from(e: Error) -> Self {
        Self::Error(e)
    }
}

fn open_found(request: &Request, found: Found) -> std::result::Result<Opened, Refused> {
    match found {
        Found::Nothing { .. } => create(request),
        Found::Home { manifest: None } => open_home(request),
        Found::Home { manifest: Some(manifest) } => open_with_manifest(request, manifest),
        Found::Copy { manifest } => open_copy(request, manifest),
    }
}

/// A read-only open that has to replay: recovery as ever, but all that it writes stays in memory.
fn open_in_memory(request: Request) -> Result<Opened> {
    let vfs: Arc<dyn Vfs> = Arc::new(OverlayVfs::new(Arc::clone(&request.vfs)));
    let (log, log_dir, keep_log) = (None, None, None);
    let request = Request { vfs, read_only: false, log, log_dir, keep_log, contract: None, ..request };
    match open_found(&request, survey(&request)?) {
        Ok(opened) => Ok(Opened { read_only: true, ..opened }),
        Err(Refused::Error(e)) => Err(e),
        Err(Refused::Replay) => Err(Error::invalid("the database cannot be recovered in memory")),
    }
}

/// What can be refused without taking a lock, hence without leaving a trace.
fn refuse_early(request: &Request, found: &Found) -> Result<()> {
    match found {
        Found::Nothing { .. } if !request.create || request.read_only => {
            Err(Error::new(ErrorKind::NotFound, "there is no database here")
                .at(&request.home, None)
                .remedy("check the path, or ask for the database to be created"))
        }
        Found::Home { manifest: None } | Found::Nothing { .. } if !request.restore_only.is_empty() => {
            Err(Error::invalid("only tables of a copy can be chosen, and this is no copy").at(&request.home, None))
        }
        Found::Nothing { .. } => check_beginning(request),
        Found::Copy { .. } if request.refuse_recovery => Err(needs_recovery(request, "it is a copy")),
        Found::Copy { manifest } => {
            manifest.check_opens()?;
            let manifest = narrow(request, manifest.clone())?;
            if request.tolerate_damage { Ok(()) } else { manifest.check_present(&*request.vfs, &request.home) }
        }
        _ => Ok(()),
    }
}

fn needs_recovery(request: &Request, why: &str) -> Error {
    Error::new(ErrorKind::NeedsRecovery, format!("the database needs recovery: {why}"))
        .at(&request.home, None)
        .remedy("open it with recovery allowed")
}

/// One process owns a home (DB-1). A read-only open makes no lock file where none is, so that it leaves no trace; it
/// locks what is there.
fn take_locks(request: &Request, found: &Found) -> Result<Vec<Box<dyn Lock>>> {
    let vfs = &*request.vfs;
    let lock_file = request.home.join(LOCK_FILE);
    let mut paths = Vec::new();
    if !request.read_only {
        if let Found::Nothing { directory: false } = found {
            make_home(vfs, &request.home)?;
        }
        paths.push(lock_file);
    } else if vfs.metadata(&lock_file).map_err(|e| Error::io(e, "look for the lock file", &lock_file))?.is_some() {
        paths.push(lock_file);
    }
    if let Found::Copy { .. } = found {
        paths.push(Manifest::path(&request.home));
    }
    let mut locks = Vec::new();
    for path in paths {
        locks.extend(lock(request, &path)?);
    }
    Ok(locks)
}

fn lock(request: &Request, path: &Path) -> Result<Option<Box<dyn Lock>>> {
    match request.vfs.lock(path) {
        Ok(lock) => Ok(Some(lock)),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
            Err(Error::new(ErrorKind::Busy, "another owner has the database open")
                .at(path.parent().unwrap_or(path), None)
                .remedy("close it there first"))
        }
        // On a medium that cannot be written nobody else can own the home either.
        Err(_) if request.read_only => Ok(None),
        Err(e) => Err(Error::io(e, "lock the database", path)),
    }
}

fn make_home(vfs: &dyn Vfs, home: &Path) -> Result<()> {
    vfs.create_dir(home).map_err(|e| Error::io(e, "create the directory", home))?;
    match home.parent() {
        Some(parent) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            vfs.sync_dir(parent).map_err(|e| Error::io(e, "sync the directory", parent))
        }
        None => Ok(()),
    }
}

/// The state that a database begins with.
fn beginning(request: &Request, lineage: Lineage) -> Result<Start> {
    let defaults = Settings::default();
    let settings = Settings {
        unit: request.unit.unwrap_or(defaults.unit),
        contract: request.contract.unwrap_or(defaults.contract),
        log: log_settings(request, None)?,
    };
    settings.validate()?;
    let mut root = RootRecord::new(settings, lineage);
    if root.settings.log.is_some() {
        root.newest.log = Some(LogPosition { lineage: root.lineage, lsn: Lsn { segment: 1, offset: 0 } });
    }
    let source = Source::home(log_dir(&request.home, &root.settings));
    Ok(Start { slots: None, root, kind: RecoveryKind::Created, source, changed: false })
}

/// What would keep a database from being made, found before there is a trace of it: settings that cannot be, and what another
/// database has in the log's directory, or that it owns it.
fn check_beginning(request: &Request) -> Result<()> {
    let start = beginning(request, Lineage(0))?;
    if look_at_log_dir(request, &start.root.settings)? == Some(true) {
        start.check_log(request)?;
        let mark = start.source.dir.join(LOCK_FILE);
        if request.vfs.metadata(&mark).map_err(|e| Error::io(e, "look for", &mark))?.is_some() {
            lock(request, &mark)?;
        }
    }
    Ok(())
}

fn create(request: &Request) -> std::result::Result<Opened, Refused> {
    let mut start = beginning(request, Lineage(request.entropy.next_u64()))?;
    start.check(request)?;
    prepare_log_dir(request, &start.root.settings)?;
    start.slots = Some(RootSlots::create(&*request.vfs, &request.home, &start.root)?);
    bring_up(request, start)
}

fn open_home(request: &Request) -> std::result::Result<Opened, Refused> {
    let (slots, mut root) = read_root(request)?;
    refuse_log_manifest(request)?;
    let source = Source::home(log_dir(&request.home, &root.settings));
    check_log_dir(request, &root, &source)?;
    let fallen = fall_back(request, &mut root)?;
    let kind = fallen.map_or(RecoveryKind::Newest, |from| RecoveryKind::FellBack { from });
    let opened = bring_up(request, Start { slots, root, kind, source, changed: fallen.is_some() })?;
    if !request.read_only {
        survey::remove_debris(request, &opened.catalog)?;
    }
    Ok(opened)
}

/// A root record and a manifest in one directory (DB-3).
fn open_with_manifest(request: &Request, manifest: Manifest) -> std::result::Result<Opened, Refused> {
    let (slots, root) = read_root(request)?;
    if root.restored_from == Some(manifest.backup) {
        if request.refuse_recovery {
            return Err(needs_recovery(request, "a restore was interrupted").into());
        }
        // Until the replay is durable nothing has been removed, and the increments are as they were.
        let copied = manifest.root_record().is_ok_and(|at_copy| at_copy.newest.log == root.newest.log);
        let manifest = if copied { manifest.with_increments(&*request.vfs, &request.home)? } else { manifest };
        let manifest = narrow(request, manifest)?;
        let kind = RecoveryKind::Restored { backup: manifest.backup };
        let source = copied_log(request, &root, &manifest)?;
        let opened = bring_up(request, Start { slots, root, kind, source, changed: false })?;
        finish_restore(request, &opened, &manifest)?;
        return Ok(opened);
    }
    if root.pinned.as_ref().is_some_and(|p| p.backup == manifest.backup) {
        if !request.read_only && !request.refuse_recovery {
            retire_manifest(request)?;
        }
        return open_home(request);
    }
    Err(Error::new(
        ErrorKind::WrongBase,
        "the directory holds a database and the manifest of a backup that is not its own",
    )
    .at(&Manifest::path(&request.home), None)
    .remedy("a copy was laid over a database: restore the copy into an empty directory, or remove this manifest")
    .into())
}

fn open_copy(request: &Request, manifest: Manifest) -> std::result::Result<Opened, Refused> {
    manifest.check_opens()?;
    let manifest = narrow(request, manifest)?;
    let at = |e: Error| e.at(&Manifest::path(&request.home), None);
    let mut root = manifest.root_record().map_err(at)?;
    root.pinned = None;
    root.fork(Lineage(request.entropy.next_u64()));
    root.restored_from = Some(manifest.backup);
    if let Some(log) = &mut root.settings.log {
        // Two databases in one log directory would destroy each other.
        log.dir.take_if(|dir| Path::new(dir).is_absolute());
    }
    let kind = RecoveryKind::Restored { backup: manifest.backup };
    let source = copied_log(request, &root, &manifest)?;
    let mut start = Start { slots: None, root, kind, source, changed: false };
    // A catalog or a log that cannot be read, and settings that cannot be, are found before the copy is changed (K6).
    start.check(request)?;
    if !request.read_only {
        prepare_log_dir(request, &start.root.settings)?;
        start.slots = Some(RootSlots::create(&*request.vfs, &request.home, &start.root)?);
    }
    let opened = bring_up(request, start)?;
    finish_restore(request, &opened, &manifest)?;
    Ok(opened)
}

/// The log to replay: that of the copy, until a checkpoint of the history that goes on says otherwise.
fn copied_log(request: &Request, root: &RootRecord, manifest: &Manifest) -> Result<Source> {
    let log = manifest.log().map_err(|e| e.at(&Manifest::path(&request.home), None))?;
    let only = (manifest.kind == CopyKind::Targeted).then(|| manifest.tables.iter().map(|t| t.id).collect());
    match log {
        Some(log) if root.newest.log == Some(log.position) => {
            let (end, tolerant) = (manifest.log_end, request.tolerate_damage);
            let copied = Some(Copied { last: log.next.saturating_sub(1), end, tolerant });
            Ok(Source { dir: request.home.clone(), copied, only })
        }
        _ => Ok(Source { only, ..Source::home(log_dir(&request.home, &root.settings)) }),
    }
}

/// An increment from the log that was laid beside an opened database by hand (LI-7).
fn refuse_log_manifest(request: &Request) -> Result<()> {
    let names = log_manifests(&*request.vfs, &request.home)?;
    let Some(first) = names.first() else { return Ok(()) };
    let what = "the directory holds a database, and an increment from the log of another history";
    Err(Error::new(ErrorKind::WrongBase, what).at(&request.home.join(first), None).remedy(format!(
        "a copy that was opened takes no further increment: apply it to one that was not; without {} and the segments \
         that came with it the database is usable",
        names.join(", ")
    )))
}

/// Steps that a crash may repeat: drop what the copy does not hold, then retire the manifest, then forget it.
fn finish_restore(request: &Request, opened: &Opened, manifest: &Manifest) -> Result<()> {
    if request.read_only {
        forget_unlisted(&opened.catalog, manifest);
        return Ok(());
    }
    let surplus = unlisted(&opened.catalog, manifest);
    let stale = stale(&opened.catalog, manifest);
    opened.catalog.repair_slots()?;
    if !surplus.is_empty() {
        opened.checkpointer.change(|_| Ok(Some(Change::Drop(surplus))))?;
    }
    if !stale.is_empty() {
        let names = stale.into_iter().filter_map(|c| c.name);
        opened.checkpointer.take(&names.fold(CheckpointOptions::new().force(true), CheckpointOptions::drop))?;
    }
    retire_copied(request, manifest)?;
    opened.catalog.update_root(|root| root.restored_from = None)?;
    survey::remove_debris(request, &opened.catalog)
}

/// Tables that the catalog's file names and the copy does not hold: those left out of a targeted copy, and those dropped
/// between a named checkpoint and its backup.
fn unlisted(catalog: &Catalog, manifest: &Manifest) -> Vec<Arc<TableSlot>> {
    if manifest.kind == CopyKind::Full && manifest.root_record().is_ok_and(|root| root.newest.log.is_some()) {
        // The newest checkpoint of all tables; what its log has made since belongs to the copy too.
        return Vec::new();
    }
    catalog.tables().into_iter().filter(|t| !manifest.tables.iter().any(|m| m.id == t.id())).collect()
}

/// Checkpoints that the catalog's file names and the copy does not hold: those dropped between a named checkpoint and its
/// backup. Their blocks may have been written over.
fn stale(catalog: &Catalog, manifest: &Manifest) -> Vec<CheckpointRecord> {
    let held = |seq| seq == manifest.sequence || manifest.checkpoints.contains(&seq);
    // What this very recovery made before a crash is newer than the copy.
    catalog.checkpoints().into_iter().filter(|c| c.seq < manifest.sequence && !held(c.seq)).collect()
}

fn forget_unlisted(catalog: &Catalog, manifest: &Manifest) {
    catalog.forget(&unlisted(catalog, manifest));
    catalog.forget_checkpoints(&stale(catalog, manifest).into_iter().map(|c| c.seq).collect());
}

fn narrow(request: &Request, manifest: Manifest) -> Result<Manifest> {
    if request.restore_only.is_empty() { Ok(manifest) } else { manifest.narrowed(&request.restore_only) }
}

/// Removes what only the copy needed: segments, then the manifests of increments that list them, then that of the copy, which
/// alone says that this is an unfinished restore and not an increment laid over a database. Each is gone for good before the
/// next goes, so whatever a crash leaves is found again; that increments do not join any more is no matter then.
fn retire_copied(request: &Request, manifest: &Manifest) -> Result<()> {
    let vfs = &*request.vfs;
    let increments = log_manifests(vfs, &request.home)?;
    let listed = |m: &Manifest| m.segments().map(|(_, file)| file.name.clone()).collect::<Vec<_>>();
    let mut segments = listed(manifest);
    for name in &increments {
        segments.extend(Manifest::load_file(vfs, &request.home.join(name)).iter().flat_map(listed));
    }
    for names in [segments, increments].iter().filter(|names| !names.is_empty()) {
        for path in names.iter().map(|name| request.home.join(name)) {
            match vfs.remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(e, "remove", &path)),
                _ => {}
            }
        }
        vfs.sync_dir(&request.home).map_err(|e| Error::io(e, "sync the directory", &request.home))?;
    }
    retire_manifest(request)
}

fn retire_manifest(request: &Request) -> Result<()> {
    let path = Manifest::path(&request.home);
    match request.vfs.remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(e, "remove the manifest", &path)),
        _ => request.vfs.sync_dir(&request.home).map_err(|e| Error::io(e, "sync the directory", &request.home)),
    }
}

fn read_root(request: &Request) -> Result<(Option<RootSlots>, RootRecord)> {
    if !request.read_only {
        // Names that are seen may be durable nowhere: whoever made them may have died of a failed sync of the directory (V5).
        let synced = request.vfs.sync_dir(&request.home);
        synced.map_err(|e| Error::io(e, "sync the directory", &request.home))?;
    }
    let found = RootSlots::open(&*request.vfs, &request.home, !request.read_only)?;
    let (slots, root) = found.ok_or_else(|| Error::corrupt("the root record vanished").at(&request.home, None))?;
    Ok((Some(slots), root))
}

/// A crash with a backup open under `Pinned`: later checkpoints are abandoned, and their numbers are never given again.
fn fall_back(request: &Request, root: &mut RootRecord) -> Result<Option<CheckpointSeq>> {
    let Some(pinned) = root.pinned.take() else { return Ok(None) };
    if request.refuse_recovery {
        return Err(needs_recovery(request, "a backup was open when it was last used"));
    }
    let from = root.newest.seq;
    root.newest = pinned.record;
    root.fork(Lineage(request.entropy.next_u64()));
    Ok(Some(from))
}
