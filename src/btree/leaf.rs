//! A leaf in memory: its image or the address of it, the versions since, and what the checkpoint needs to know.
//!
//! The shell ([`Leaf`]) is what an inner page points at; its contents ([`Body`]) stand behind a lock that is held for
//! a search or an insertion. A shell covers one range of keys for ever. When a split or a merge changes the range, new
//! shells take its place and the old one is marked *moved*: whoever still holds it starts again from the current root.
//!
//! The newest state of the leaf is the image with the versions laid over it. The image may be absent, namely on disk at
//! `addr`; versions may then still be present, because a write need not read the leaf it changes.
//!
//! On disk a leaf is a block and perhaps a patch (`PageAddr`). `changed` knows the keys whose rows in memory may differ from the
//! block, but for those that have versions: so the next checkpoint can store a patch.
//!
//! `first` and `last` say in which checkpoint's time the leaf was changed and not yet written: it must be part of what
//! checkpoint N writes iff `0 < first <= N`. `saved` is what the checkpoint in progress stores for the leaf, once that is
//! settled; from then on the leaf owes it nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use crate::cache::{Eviction, Resident};
use crate::page::{CellValue, LeafImage, OverflowRef, PageAddr, Patch, Value};
use crate::sync::racy::AtomicU32;
use crate::types::{CheckpointSeq, CommitSeq};

use super::patching::Changed;
use super::shared::Shared;
use super::versions::{Change, Versions};

/// Memory of a shell without contents.
const SHELL: usize = 256;

/// What an inner page points at.
pub(super) struct Leaf {
    pub body: RwLock<Body>,
    /// Commits that are about to insert here: the leaf neither moves nor leaves memory.
    pins: AtomicU32,
    used: AtomicBool,
    pub shared: Arc<Shared>,
}

/// The contents of a leaf.
pub(super) struct Body {
    pub image: Option<LeafImage>,
    pub versions: Versions,
    /// Where the image is stored, if it is.
    pub addr: Option<PageAddr>,
    /// How the image differs from the block at `addr`. Nothing while the image is not in memory.
    pub changed: Changed,
    /// Another leaf holds these keys now.
    pub moved: bool,
    /// Stands in the cache's ring.
    enlisted: bool,
    /// The checkpoint that must store the oldest change not yet written, as a raw number; 0 when nothing is to be written.
    pub first: u64,
    /// The checkpoint that must store the newest change.
    pub last: u64,
    /// The newest checkpoint for which `saved` holds, as a raw number.
    pub saved_at: u64,
    /// What that checkpoint stores for this leaf.
    pub saved: Option<PageAddr>,
    /// Versions that must be there before folding is tried again.
    pub fold_at: usize,
    /// Bytes of versions, dropped ones included, above which folding is tried all the same.
    pub fold_bytes: usize,
    charged: usize,
}

/// The answer of a leaf to a reader.
pub(super) enum Lookup {
    Absent,
    Value(Value),
    /// The value is in overflow blocks.
    Overflow(OverflowRef),
    /// The leaf must be read first.
    OnDisk(PageAddr),
    /// Ask the current root again.
    Moved,
}

impl Leaf {
    pub fn new(shared: &Arc<Shared>, body: Body) -> Arc<Self> {
        let leaf = Arc::new(Self {
            body: RwLock::new(body),
            pins: AtomicU32::new(0),
            used: AtomicBool::new(true),
            shared: Arc::clone(shared),
        });
        leaf.recharge(&mut leaf.body.write());
        leaf
    }

    /// Remembers for the cache that the leaf was used.
    #[inline]
    pub fn touch(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Keeps the leaf from moving and from leaving memory. The caller holds its lock, shared or not.
    pub fn pin(&self) {
        self.pins.fetch_add(1, Ordering::Relaxed);
    }

    pub fn unpin(&self) {
        self.pins.fetch_sub(1, Ordering::Release);
    }

    pub fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Acquire) > 0
    }

    /// Tells the cache what the leaf takes after a change. The caller holds the lock.
    pub fn recharge(self: &Arc<Self>, body: &mut Body) {
        self.discharge(body);
        if !body.enlisted && !body.moved && (body.image.is_some() || !body.versions.is_empty()) {
            body.enlisted = true;
            let weak = Arc::downgrade(self);
            self.shared.cache.enlist(weak);
        }
    }

    /// As [`Leaf::recharge`], of a leaf that has left the cache's ring.
    pub fn discharge(&self, body: &mut Body) {
        let now = body.memory();
        let cache = &self.shared.cache;
        if now >= body.charged {
            cache.charge(now - body.charged)
        } else {
            cache.discharge(body.charged - now)
        }
        body.charged = now;
    }

    /// What a snapshot sees of a key.
    #[inline]
    pub fn lookup(&self, snapshot: CommitSeq, key: &[u8]) -> Lookup {
        self.touch();
        let body = self.body.read();
        if body.moved {
            return Lookup::Moved;
        }
        if !body.versions.is_empty()
            && let Some(change) = body.versions.visible(key, snapshot)
        {
            return match change {
                Change::Delete => Lookup::Absent,
                Change::Put(CellValue::Inline(bytes)) => Lookup::Value(Value::from(bytes)),
                Change::Put(CellValue::Overflow(stored)) => Lookup::Overflow(trusted_reference(stored)),
            };
        }
        match (&body.image, &body.addr) {
            (Some(image), _) => find_in(image, key),
            (None, Some(addr)) => Lookup::OnDisk(addr.clone()),
            (None, None) => Lookup::Absent,
        }
    }

    /// True when some version of the key is newer than the snapshot; `None` when the leaf has moved.
    pub fn newer_than(&self, snapshot: CommitSeq, key: &[u8]) -> Option<bool> {
        let body = self.body.read();
        if body.moved {
            return None;
        }
        let versions = &body.versions;
        Some(versions.max_seq() > snapshot && versions.first_of(key).is_some_and(|i| versions.seq(i) > snapshot))
    }
}

/// What an image says about a key.
#[inline]
pub(super) fn find_in(image: &LeafImage, key: &[u8]) -> Lookup {
    let Ok(i) = image.search(key) else { return Lookup::Absent };
    match image.shared_value(i) {
        Some(value) => Lookup::Value(value),
        None => Lookup::Overflow(trusted_reference(image.value(i).bytes())),
    }
}

/// A reference that was checked when its page was, or written by us.
pub(super) fn trusted_reference(stored: &[u8]) -> OverflowRef {
    OverflowRef::decode(stored).expect("the reference was checked with its page")
}

impl Resident for Leaf {
    fn take_use(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    fn evict(&self) -> Eviction {
        super::evict::evict(self)
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        self.shared.cache.discharge(self.body.get_mut().charged);
    }
}

impl Body {
    /// A leaf whose image is on disk.
    pub fn on_disk(addr: PageAddr, skip: usize) -> Self {
        Self { addr: Some(addr), ..Self::new(None, Versions::new(skip)) }
    }

    /// A leaf in memory that no checkpoint knows.
    pub fn new(image: Option<LeafImage>, versions: Versions) -> Self {
        Self {
            image,
            versions,
            addr: None,
            changed: Changed::default(),
            moved: false,
            enlisted: false,
            first: 0,
            last: 0,
            saved_at: 0,
            saved: None,
            fold_at: 0,
            fold_bytes: 0,
            charged: 0,
        }
    }

    fn memory(&self) -> usize {
        let patch = self.patch().map_or(0, |patch| patch.bytes().len());
        let image = self.image.as_ref().map_or(0, |image| image.bytes().len());
        SHELL + self.versions.memory() + self.changed.memory() + patch + image
    }

    fn patch(&self) -> Option<&Patch> {
        self.addr.as_ref()?.patch.as_ref()
    }

    /// About how large a patch of the leaf would be; 0 when there is nothing to patch.
    pub fn patch_guess(&self) -> usize {
        let now = self.patch().map_or(0, |patch| patch.bytes().len());
        match &self.addr {
            Some(_) if self.first != 0 => now.max(self.changed.memory()) + self.versions.arena_len(),
            _ => now,
        }
    }

    /// True when checkpoint `ckpt` has not settled what it stores for this leaf, and it is not what is on disk.
    pub fn owes(&self, ckpt: CheckpointSeq) -> bool {
        self.saved_at < ckpt.to_raw() && self.first != 0 && self.first <= ckpt.to_raw()
    }

    /// Notes a change in the time of checkpoint `live`. True when the pages above must be told.
    pub fn mark(&mut self, live: CheckpointSeq) -> bool {
        let live = live.to_raw();
        if self.first == 0 {
            self.first = live;
        }
        std::mem::replace(&mut self.last, live) != live
    }

    /// Notes that the state stored by checkpoint `ckpt` is on disk: only later changes are left to write.
    pub fn written_for(&mut self, ckpt: CheckpointSeq) {
        self.first = if self.last > ckpt.to_raw() { self.last } else { 0 };
    }

    /// Gives up being this range's leaf. Address and saved state stay for the checkpoint in progress.
    pub fn leave(&mut self) -> (Option<LeafImage>, Versions) {
        self.moved = true;
        self.changed = Changed::default();
        (self.image.take(), std::mem::take(&mut self.versions))
    }

    /// Forgets image and versions; what is left is on disk.
    pub fn empty(&mut self) {
        let skip = self.versions.skip();
        self.image = None;
        self.changed = Changed::default();
        self.versions = Versions::new(skip);
        (self.fold_at, self.fold_bytes) = (0, 0);
    }

    /// No longer stands in the cache's ring.
    pub fn delist(&mut self) {
        self.enlisted = false;
    }
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("pins", &self.pins).finish_non_exhaustive()
    }
}
