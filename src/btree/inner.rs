//! Inner pages in memory: immutable, swapped whole.
//!
//! A search goes down through inner pages without a lock. A change of structure copies the pages from the changed one up to
//! the root and swaps the root; whoever is still on an old path finds the same leaves or ones that have moved.
//!
//! What does change about an inner page is whether a checkpoint must write it, and where it is on disk. That is its
//! [`PageState`], shared by all copies of what is logically one page. The rule of marking: whoever changes a leaf in the
//! time of checkpoint N marks every page above it with N, under the leaf's lock; whoever changes structure marks every page
//! above, and every new page, with N. Both happen while N is live (see `txn::Epoch`), so a page that misses a mark because
//! it was copied at that moment has the same mark from the copy.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::page::Separators;
use crate::sync::racy::{AtomicU64, Ordering};
use crate::types::{BlockAddr, CheckpointSeq};

use super::leaf::Leaf;
use super::shared::Shared;

/// A child of an inner page.
#[derive(Clone, Debug)]
pub(super) enum Child {
    Leaf(Arc<Leaf>),
    Inner(Arc<Inner>),
    /// An inner page that is not in memory.
    Disk(BlockAddr),
}

/// An inner page.
#[derive(Debug)]
pub(super) struct Inner {
    /// 1 for the parent of leaves.
    pub level: u8,
    pub separators: Separators,
    pub children: Vec<Child>,
    pub state: Arc<PageState>,
    charged: usize,
    shared: Arc<Shared>,
}

/// What the checkpoint knows of an inner page.
#[derive(Debug, Default)]
pub(super) struct PageState {
    /// The newest mark.
    last: AtomicU64,
    inner: Mutex<Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    /// The oldest mark not yet written, as a raw number; 0 for none.
    first: u64,
    /// The newest checkpoint that wrote the page.
    written: u64,
    disk: Option<BlockAddr>,
    /// No longer part of the live tree.
    retired: bool,
}

impl Inner {
    pub fn new(
        shared: &Arc<Shared>,
        level: u8,
        separators: Separators,
        children: Vec<Child>,
        state: Arc<PageState>,
    ) -> Arc<Self> {
        debug_assert_eq!(separators.len() + 1, children.len());
        let charged = 128 + separators.memory() + children.capacity() * size_of::<Child>();
        shared.cache.charge(charged);
        Arc::new(Self { level, separators, children, state, charged, shared: Arc::clone(shared) })
    }

    /// The child that holds a key.
    #[inline]
    pub fn child(&self, key: &[u8]) -> &Child {
        &self.children[self.separators.child(key)]
    }

    /// The smallest key that child `i` may hold; empty for the first, whose bound is the page's own.
    pub fn low(&self, i: usize) -> &[u8] {
        if i == 0 { &[] } else { self.separators.key(i - 1) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.cache.discharge(self.charged);
    }
}

impl PageState {
    /// A page that is on disk as it is.
    pub fn clean(disk: Option<BlockAddr>) -> Arc<Self> {
        Arc::new(Self { last: AtomicU64::new(0), inner: Mutex::new(Marks { disk, ..Marks::default() }) })
    }

    /// A page that no checkpoint has written yet.
    pub fn fresh(live: CheckpointSeq) -> Arc<Self> {
        let state = Self::default();
        state.mark(live);
        Arc::new(state)
    }

    /// Notes a change below in the time of checkpoint `live`.
    #[inline]
    pub fn mark(&self, live: CheckpointSeq) {
        let live = live.to_raw();
        if self.last.load(Ordering::Acquire) == live {
            return;
        }
        let mut marks = self.inner.lock();
        if marks.first == 0 {
            marks.first = live;
        }
        self.last.store(live, Ordering::Release);
    }

    /// True when checkpoint `ckpt` has to write the page and has not done so.
    pub fn owes(&self, ckpt: CheckpointSeq) -> bool {
        self.inner.lock().owes(ckpt)
    }

    /// True when some coming checkpoint has to write the page.
    pub fn is_dirty(&self) -> bool {
        self.inner.lock().first != 0
    }

    /// Where the page is on disk, if it was ever written.
    pub fn disk(&self) -> Option<BlockAddr> {
        self.inner.lock().disk
    }

    /// Checkpoint `ckpt` has stored the page at `disk`, or found it empty.
    pub fn settle(&self, ckpt: CheckpointSeq, disk: Option<BlockAddr>, shared: &Shared) {
        let mut marks = self.inner.lock();
        let last = self.last.load(Ordering::Acquire);
        marks.first = if last > ckpt.to_raw() { last } else { 0 };
        marks.written = ckpt.to_raw();
        if let Some(old) = std::mem::replace(&mut marks.disk, disk) {
            shared.store.give_up(old, ckpt);
        }
        if marks.retired
            && let Some(new) = disk
        {
            shared.store.give_up(new, shared.epoch.live());
        }
    }

    /// The live tree has other pages in this one's place. True when the checkpoint in progress has yet to write it: it
    /// then gives the block up itself.
    pub fn retire(&self, shared: &Shared) -> bool {
        let mut marks = self.inner.lock();
        marks.retired = true;
        if shared.epoch.running().is_some_and(|(ckpt, _)| marks.owes(ckpt)) {
            return true;
        }
        if let Some(disk) = marks.disk {
            shared.store.give_up(disk, shared.epoch.live());
        }
        false
    }

    /// The checkpoint that was to write this retired page was abandoned.
    pub fn abandon(&self, ckpt: CheckpointSeq, shared: &Shared) {
        let marks = self.inner.lock();
        if marks.owes(ckpt)
            && let Some(disk) = marks.disk
        {
            shared.store.give_up(disk, shared.epoch.live());
        }
    }
}

impl Marks {
    fn owes(&self, ckpt: CheckpointSeq) -> bool {
        self.first != 0 && self.first <= ckpt.to_raw() && self.written < ckpt.to_raw()
    }
}
