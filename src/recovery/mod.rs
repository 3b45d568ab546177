//! From a directory to an open database.
//!
//! ```text
//! what is there                          what is done (read-only: the same in memory, nothing written)
//! nothing                                a new database, if asked for; else NotFound
//! root record                            its newest checkpoint
//! root record with a pin                 a backup was open when the database died: its pinned checkpoint, and the
//!                                        history forks there (contract Pinned)
//! manifest, no root record               a copy: what the manifest says; the history forks
//! both                                   a restore that was interrupted, or a source that died with this backup open:
//!                                        finish it; any other pair: WrongBase
//! Strandline files, neither of the two   Corrupt, with the list of what was found
//! ```
//!
//! Nothing is scanned and nothing is replayed: the cost does not depend on how large the tables are. Every step can be
//! repeated: until the new root record is durable in both slots the old one says the same thing again, and no block is
//! written before that.
//!
//! - **R1** and **R2** make the newest record true; **K3** says which record holds after a crash with a backup open.
//!
//! # The place of the log
//!
//! A log will be replayed after the catalog is loaded and before anything is cleaned up, through the same commits as a
//! live transaction.

mod survey;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::{Lock, Vfs};

use crate::btree::TreeOptions;
use crate::cache::Cache;
use crate::catalog::{Catalog, Change, CheckpointRecord, Context, Health, RootRecord, RootSlots};
use crate::checkpoint::{CheckpointOptions, Checkpointer, Pins};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{LOCK_FILE, Manifest};
use crate::options::{Contract, Settings};
use crate::sync::{Clock, Entropy};
use crate::txn::{Epoch, TxnRegistry};
use crate::types::{CheckpointSeq, CommitSeq, Lineage};

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
}

/// Opens the directory.
///
/// # Errors
/// `NotFound`, `Busy`, `Corrupt`, `WrongBase`, `NeedsRecovery`, `Unsupported`, `InvalidArgument`, `Io`; what was taken
/// is released, and the directory is as recoverable as before.
pub fn open(request: Request) -> Result<Opened> {
    let found = survey(&request)?;
    refuse_early(&request, &found)?;
    let locks = take_locks(&request, &found)?;
    // Another owner may have finished its work between the look and the lock.
    let found = survey(&request)?;
    refuse_early(&request, &found)?;
    let opened = match found {
        Found::Nothing { .. } => create(&request),
        Found::Home { manifest: None } => open_home(&request),
        Found::Home { manifest: Some(manifest) } => open_with_manifest(&request, manifest),
        Found::Copy { manifest } => open_copy(&request, manifest),
    };
    opened.map(|o| Opened { locks, ..o })
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
        Found::Copy { .. } if request.refuse_recovery => Err(needs_recovery(request, "it is a copy")),
        Found::Copy { manifest } if !request.tolerate_damage => {
            manifest.check_opens()?;
            narrow(request, manifest.clone())?.check_present(&*request.vfs, &request.home)
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
        match vfs.lock(&path) {
            Ok(lock) => locks.push(lock),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(Error::new(ErrorKind::Busy, "another owner has the database open")
                    .at(&request.home, None)
                    .remedy("close it there first"));
            }
            // On a medium that cannot be written nobody else can own the home either.
            Err(_) if request.read_only => {}
            Err(e) => return Err(Error::io(e, "lock the database", &path)),
        }
    }
    Ok(locks)
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

fn create(request: &Request) -> Result<Opened> {
    let defaults = Settings::default();
    let settings = Settings {
        unit: request.unit.unwrap_or(defaults.unit),
        contract: request.contract.unwrap_or(defaults.contract),
        log: None,
    };
    settings.validate()?;
    let root = RootRecord::new(settings, Lineage(request.entropy.next_u64()));
    let slots = RootSlots::create(&*request.vfs, &request.home, &root)?;
    load(request, Some(slots), root, RecoveryKind::Created)
}

fn open_home(request: &Request) -> Result<Opened> {
    let (slots, mut root) = read_root(request)?;
    let fallen = fall_back(request, &mut root)?;
    let restate = restate(request, &mut root)?;
    let kind = fallen.map_or(RecoveryKind::Newest, |from| RecoveryKind::FellBack { from });
    let rewrite = restate || fallen.is_some();
    let opened = load(request, slots, root.clone(), kind)?;
    if !request.read_only {
        if rewrite {
            opened.catalog.update_root(|r| *r = root)?;
        }
        opened.catalog.repair_slots()?;
        survey::remove_debris(request, &opened.catalog)?;
    }
    Ok(opened)
}

/// A root record and a manifest in one directory (DB-3).
fn open_with_manifest(request: &Request, manifest: Manifest) -> Result<Opened> {
    let (_, root) = read_root(request)?;
    if root.restored_from == Some(manifest.backup) {
        if request.refuse_recovery {
            return Err(needs_recovery(request, "a restore was interrupted"));
        }
        let (slots, root) = read_root(request)?;
        let opened = load(request, slots, root, RecoveryKind::Restored { backup: manifest.backup })?;
        finish_restore(request, &opened, &narrow(request, manifest)?)?;
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
    .remedy("a copy was laid over a database: restore the copy into an empty directory, or remove this manifest"))
}

fn open_copy(request: &Request, manifest: Manifest) -> Result<Opened> {
    manifest.check_opens()?;
    let manifest = narrow(request, manifest)?;
    let at = |e: Error| e.at(&Manifest::path(&request.home), None);
    let mut root = RootRecord::decode(&manifest.root, 0).map_err(at)?;
    if root.newest.seq != manifest.sequence || root.lineage != manifest.lineage {
        return Err(at(Error::corrupt("the manifest and the root record in it tell of different checkpoints")));
    }
    restate(request, &mut root)?;
    root.pinned = None;
    root.fork(Lineage(request.entropy.next_u64()));
    root.restored_from = Some(manifest.backup);
    let kind = RecoveryKind::Restored { backup: manifest.backup };
    if request.read_only {
        let opened = load(request, None, root, kind)?;
        forget_unlisted(&opened.catalog, &manifest);
        return Ok(opened);
    }
    // A catalog that cannot be read is found before the copy is changed (K6).
    let opened = load(request, None, root.clone(), kind)?;
    opened.catalog.write_to(RootSlots::create(&*request.vfs, &request.home, &root)?);
    finish_restore(request, &opened, &manifest)?;
    Ok(opened)
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
    retire_manifest(request)?;
    opened.catalog.update_root(|root| root.restored_from = None)?;
    survey::remove_debris(request, &opened.catalog)
}

/// Tables that the catalog's file names and the copy does not hold: those left out of a targeted copy, and those dropped
/// between a named checkpoint and its backup.
fn unlisted(catalog: &Catalog, manifest: &Manifest) -> Vec<Arc<crate::catalog::TableSlot>> {
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

fn retire_manifest(request: &Request) -> Result<()> {
    let path = Manifest::path(&request.home);
    match request.vfs.remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(e, "remove the manifest", &path)),
        _ => request.vfs.sync_dir(&request.home).map_err(|e| Error::io(e, "sync the directory", &request.home)),
    }
}

fn read_root(request: &Request) -> Result<(Option<RootSlots>, RootRecord)> {
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

/// Settings that the caller states: the contract may change, the allocation unit may not.
fn restate(request: &Request, root: &mut RootRecord) -> Result<bool> {
    if let Some(unit) = request.unit.filter(|u| *u != root.settings.unit) {
        return Err(Error::invalid(format!(
            "allocation unit {unit} was asked for, the database has {}",
            root.settings.unit
        ))
        .remedy("leave the unit out: it is remembered"));
    }
    let changed = request.contract.filter(|c| *c != root.settings.contract && !request.read_only);
    if let Some(contract) = changed {
        root.settings.contract = contract;
    }
    Ok(changed.is_some())
}

/// Loads the catalog that `root` locates.
fn load(request: &Request, slots: Option<RootSlots>, root: RootRecord, kind: RecoveryKind) -> Result<Opened> {
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
    let checkpointer = Checkpointer::new(Arc::clone(&catalog), Arc::new(Pins::default()), Arc::clone(&request.clock));
    let report = RecoveryReport { kind, checkpoint, slot_repaired, strangers };
    Ok(Opened { catalog, checkpointer, report, locks: Vec::new() })
}
