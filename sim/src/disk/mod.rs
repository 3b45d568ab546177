//! A disk that loses, tears, reorders and damages writes as real ones do, and can tell everything a power cut may leave.
//!
//! Storage code runs on a [`SimDisk`] through the file-system contract. Reads see a *live* tree. Below it lies a *base* tree
//! of what is guaranteed, and between the two the *atoms*: versions of single sectors, lengths and names that were issued
//! and not yet promised. A durability call moves atoms into the base. What a crash may leave at any moment is the base plus
//! any set of atoms that is closed under their needs; [`Barrier`] keeps such a moment, [`Frame`] enumerates it, and every
//! [`Image`] boots as a fresh disk on which recovery can be run, recorded and crashed in turn.
//!
//! ```
//! use std::path::Path;
//! use strandline_sim::disk::{Profile, SimDisk};
//! use strandline_vfs::{OpenOptions, Vfs};
//!
//! let disk = SimDisk::new(Profile::strict());
//! let file = disk.open(Path::new("f"), OpenOptions::create())?;
//! disk.sync_dir(Path::new(""))?;
//! file.write_at(b"hello", 0)?;
//! let frame = disk.snapshot().frame();
//! assert_eq!(frame.len(), 2, "one sector and one length, each of which may stick alone");
//! let lost = frame.image(&frame.none()).boot();
//! assert_eq!(lost.metadata(Path::new("f"))?.expect("the name was synced").len, 0);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! What each part guards: `hash` H1-H2, `body` P1-P2, `tree` R1-R2, `pending` A1-A3, `state` I1-I4, `sync` S1-S2, `frame`
//! F1-F3, `sums` Z1.

mod body;
mod canon;
mod damage;
mod data;
mod event;
mod fault;
mod frame;
mod handle;
mod hash;
mod names;
mod pending;
mod pins;
mod profile;
mod state;
mod sums;
mod sync;
mod tree;

pub use canon::{Limits, canonical};
pub use damage::POISON;
pub use event::{Call, Event, Record};
pub use fault::{Act, Fault, Report, SyncFailure};
pub use frame::{Barrier, Choice, Damage, Frame, Image};
pub use pins::{Breach, PinId};
pub use profile::{AppendOrder, DirSync, Flush, MetaOrder, Profile, RenameOrder, SyncScope, TailFill};

use parking_lot::{Mutex, MutexGuard};
use pending::{Atom, Slot, Value};
use state::State;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tree::Tree;

/// A simulated disk. Clones are handles on the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.lock_state();
        f.debug_struct("SimDisk")
            .field("profile", &s.profile.name)
            .field("event", &s.clock)
            .field("pending", &s.pending.atoms().len())
            .finish_non_exhaustive()
    }
}

/// What a pending version is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtomKind {
    /// Bytes of a file.
    Sector {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// The length of a file.
    Length(u64),
    /// A name in a directory.
    Name {
        /// The name.
        name: OsString,
        /// The inode it names, or `None` when it is gone.
        to: Option<u64>,
    },
}

/// One pending version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtomInfo {
    /// The call that issued it.
    pub event: u64,
    /// The file or directory it belongs to.
    pub inode: u64,
    /// What it changes.
    pub kind: AtomKind,
}

impl AtomInfo {
    fn of(atom: &Atom, profile: &Profile) -> Self {
        let len = profile.sector as u64;
        let (inode, kind) = match (&atom.slot, &atom.value) {
            (Slot::Sector(ino, index), _) => (*ino, AtomKind::Sector { offset: index * len, len }),
            (Slot::Name(ino, name), Value::Name(to)) => {
                (*ino, AtomKind::Name { name: name.as_ref().to_owned(), to: *to })
            }
            (Slot::Name(ino, name), _) => (*ino, AtomKind::Name { name: name.as_ref().to_owned(), to: None }),
            (Slot::Size(ino), Value::Size(n)) => (*ino, AtomKind::Length(*n)),
            (Slot::Size(ino), _) => (*ino, AtomKind::Length(0)),
        };
        Self { event: atom.event, inode, kind }
    }
}

impl SimDisk {
    /// An empty disk of this kind.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self::from_state(State::new(profile, Tree::new()))
    }

    /// An empty disk that promises nothing beyond the contract.
    #[must_use]
    pub fn strict() -> Self {
        Self::new(Profile::strict())
    }

    pub(crate) fn from_state(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The kind of disk.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.lock_state().profile.clone()
    }

    /// The number the next call will take. A promise made now, asked for *before* any call of the work it promises (an
    /// upper bound) or after the last (a lower bound), compares directly with births and deaths of images: an image born at
    /// `b` may contain what was called at event `e <= b`, one that dies at `d` must contain what was acknowledged at
    /// `e <= d`.
    #[must_use]
    pub fn event(&self) -> u64 {
        self.lock_state().clock
    }

    /// Takes an event number and records a barrier: call it where what is promised changes.
    pub fn mark(&self, why: &'static str) -> u64 {
        let mut s = self.lock_state();
        let event = s.clock;
        s.clock += 1;
        s.barrier(event, why);
        event
    }

    /// As [`SimDisk::mark`], and begins a new epoch: from here on another contract judges (a backup opens or closes).
    pub fn turn(&self, why: &'static str) -> u64 {
        let event = self.mark(why);
        self.lock_state().epoch += 1;
        event
    }

    /// What the driver is doing, for the events that follow.
    pub fn label(&self, what: &str) {
        self.lock_state().label = Arc::from(what);
    }

    /// Records barriers from now on, or no longer.
    pub fn record_barriers(&self, on: bool) {
        self.lock_state().recording = on;
    }

    /// Records a barrier after every changing call, to prove that barriers alone suffice. Slow.
    pub fn record_every_instant(&self, on: bool) {
        let mut s = self.lock_state();
        s.every_instant = on;
        s.recording |= on;
    }

    /// The barriers recorded so far, oldest first; the disk keeps none of them.
    #[must_use]
    pub fn take_barriers(&self) -> Vec<Barrier> {
        std::mem::take(&mut self.lock_state().barriers)
    }

    /// What a crash right now may leave.
    #[must_use]
    pub fn snapshot(&self) -> Barrier {
        let s = self.lock_state();
        s.snapshot(s.clock, "now")
    }

    /// Which calls the disk keeps a record of.
    pub fn record_events(&self, what: Record) {
        self.lock_state().record = what;
    }

    /// The calls recorded so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock_state().events.clone()
    }

    /// A rolling hash over every call: equal for equal runs.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.lock_state().trace_hash
    }

    /// Makes everything durable at once, as if the disk had been idle for long; no call, no barrier.
    pub fn settle(&self) {
        let mut s = self.lock_state();
        s.pending = pending::Pending::default();
        s.chain = 0;
        s.lost.clear();
        s.late.clear();
        s.errors.clear();
        s.base = Arc::new(s.live.clone());
        Arc::make_mut(&mut s.base).forget_births();
        s.sweep();
    }

    /// The process dies: its handles fail from now on and its locks are gone; what it wrote stays in the cache.
    pub fn kill(&self) {
        let event = self.mark("kill");
        let mut s = self.lock_state();
        s.process += 1;
        s.open.clear();
        s.locks.clear();
        s.note_mark("kill", event);
    }

    /// Every file with its bytes and every directory with `None`, by path, as reads see them now.
    #[must_use]
    pub fn contents(&self) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        self.lock_state().live.contents()
    }

    /// Gives the file `from` a second name.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`; `PermissionDenied` for a directory.
    pub fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.lock_state().call(Call::Link, from, (0, 0), |s, t| s.link(from, to, t))
    }

    /// Plans a fault.
    pub fn inject(&self, fault: Fault) {
        self.lock_state().plan.add(fault);
    }

    /// Cancels all planned faults.
    pub fn clear_faults(&self) {
        self.lock_state().plan.clear();
    }

    /// The disk is well again: what waits in the journal comes home, nobody hears of failures that were not reported yet, and
    /// files can be changed. What was lost stays lost.
    pub fn remount(&self) {
        let mut s = self.lock_state();
        let event = s.clock;
        s.clock += 1;
        s.come_home();
        s.read_only = false;
        s.errors.clear();
        s.note_mark("remount", event);
    }

    /// Changes what is a matter of the mount, in the middle of a run: who hears of failures, whether the device lies.
    pub fn revise_mount(&self, change: impl FnOnce(&mut Profile)) {
        change(&mut self.lock_state().profile);
    }

    /// The syncs that succeeded and failed later: the event of the call that said all was well, that of the call that failed,
    /// and the path of the file when it did.
    #[must_use]
    pub fn late_reports(&self) -> Vec<(u64, u64, PathBuf)> {
        self.lock_state().late_reports.clone()
    }

    /// How many faults have struck.
    #[must_use]
    pub fn faults_struck(&self) -> u64 {
        self.lock_state().plan.struck
    }

    /// Limits the bytes that files may take, each rounded up to 4 KiB and holes counted; `None` lifts the limit.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.lock_state().quota = bytes;
    }

    /// The bytes that files take, counted as for [`SimDisk::set_quota`].
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock_state().used()
    }
}
