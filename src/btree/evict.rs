//! Letting a leaf leave memory.
//!
//! A leaf may leave when no snapshot needs to see further back than its newest state: then the versions go, and the block on
//! disk is all there is. (So a leaf that is not in memory hides no commit that is newer than anybody's snapshot, and the
//! question whether there is one needs no read.) If the newest state is not on disk it is written first: for the checkpoint
//! in progress, if that has not got its share yet, and once more, born live, if there were changes since.
//!
//! Writing for the live tree needs the gate. This is called by readers and by commits that have entered already, so it
//! only tries, and leaves the leaf where it is when a checkpoint is just beginning. An error of the disk leaves it there too:
//! whoever wanted room is not the one to be told, and whoever writes will be.
//!
//! Leaves that are not in memory still have shells, and these stand in lowest inner pages. So a tree takes its own turn in the
//! cache's ring: it looks at some of its lowest inner pages and lets go of those that are as on disk and have no leaf in
//! memory. Their shells are marked moved, which sends whoever still holds one back to the root.
//!
//! E1: a pinned leaf stays. E2: what is not committed is not in a leaf. T3: versions that a snapshot needs stay.

use parking_lot::RwLockWriteGuard;

use crate::cache::{Eviction, Resident};
use crate::page::{LeafImage, PageAddr};
use crate::types::CommitSeq;

use super::fold::Plan;
use super::inner::{Child, Inner};
use super::leaf::{Body, Leaf};
use super::shared::{Counts, Shared};
use super::tree::{Place, Structure, Tree, fences, path_to};

/// Lowest inner pages that a tree looks at when its turn comes.
const PAGES: usize = 8;

/// Lets a leaf leave memory if it can.
pub(super) fn evict(leaf: &Leaf) -> Eviction {
    let Some(mut body) = leaf.body.try_write() else { return Eviction::Kept };
    let shared = &leaf.shared;
    if body.moved {
        body.delist();
        return Eviction::Gone;
    }
    if leaf.is_pinned() || body.versions.max_seq() > shared.registry.oldest() {
        return Eviction::Kept;
    }
    if body.first != 0 && write_newest(shared, &mut body).is_none() {
        // It may have been read, or written in part.
        leaf.discharge(&mut body);
        return Eviction::Kept;
    }
    let release = &mut |stored: &[u8]| shared.release_overflow(stored);
    Plan::dropped(body.image.as_ref(), &body.versions, CommitSeq(u64::MAX), release);
    body.empty();
    if body.addr.is_none() {
        body.image = Some(LeafImage::empty());
    }
    body.delist();
    leaf.discharge(&mut body);
    Counts::add(&shared.counts.evictions);
    Eviction::Gone
}

/// Brings the newest state of a leaf to disk. `None` when that cannot be done now.
fn write_newest(shared: &Shared, body: &mut Body) -> Option<()> {
    let _entered = shared.epoch.try_enter()?;
    if let Some((ckpt, snapshot)) = shared.epoch.running() {
        shared.settle(body, ckpt, snapshot).ok()?;
    }
    if body.first == 0 {
        return Some(());
    }
    let live = shared.epoch.live();
    if let (None, Some(addr)) = (&body.image, &body.addr) {
        let (image, changed) = shared.read_leaf(addr).ok()?;
        (body.image, body.changed) = (Some(image), changed);
    }
    let state = shared.state_at(body.image.as_ref(), body, CommitSeq(u64::MAX));
    let addr = if state.is_empty() { None } else { Some(shared.store.write(state.bytes(), live).ok()?) };
    let former = std::mem::replace(&mut body.addr, addr.map(PageAddr::whole));
    shared.replaced(former, body.addr.as_ref(), live);
    body.first = 0;
    Counts::add(&shared.counts.evict_writes);
    Some(())
}

impl Resident for Tree {
    fn take_use(&self) -> bool {
        false
    }

    /// Lets lowest inner pages go. The tree itself stays in the ring.
    fn evict(&self) -> Eviction {
        if let Some(mut structure) = self.structure.try_lock() {
            for _ in 0..PAGES {
                if !self.evict_next_inner(&mut structure) {
                    break;
                }
            }
        }
        Eviction::Kept
    }
}

impl Tree {
    /// Looks at the next lowest inner page, and lets it go if it can. False at the end of the tree.
    fn evict_next_inner(&self, structure: &mut Structure) -> bool {
        let root = self.root.load_full();
        if root.level < 2 {
            return false;
        }
        let path = path_to(&root, Place::At(&structure.hand));
        let above = if path.last().is_some_and(|(page, _)| page.level == 1) { path.len() - 1 } else { path.len() };
        let next = fences(&path[..above]).1.map(<[u8]>::to_vec);
        if let Some((page, _)) = path.get(above)
            && !page.state.is_dirty()
            && let Some(mut leaves) = idle_leaves(page)
            // Now that nobody can mark it: a leaf may have been changed and written since the first look, and even the
            // page itself, elsewhere.
            && !page.state.is_dirty()
            && let Some(disk) = page.state.disk()
        {
            // Readers who wait for one of the locks find the new root when they have it.
            self.root.store(self.with_child(&path[..above], Child::Disk(disk)));
            leaves.iter_mut().for_each(|body| body.moved = true);
            Counts::add(&self.shared.counts.inner_evictions);
        }
        let more = next.is_some();
        structure.hand = next.unwrap_or_default();
        more
    }
}

/// The locked leaves of a page, if none of them holds anything that is not on disk.
fn idle_leaves(page: &Inner) -> Option<Vec<RwLockWriteGuard<'_, Body>>> {
    let mut bodies = Vec::with_capacity(page.children.len());
    for child in &page.children {
        let Child::Leaf(leaf) = child else { return None };
        let body = leaf.body.try_write()?;
        if leaf.is_pinned() || body.moved || body.image.is_some() || !body.versions.is_empty() || body.first != 0 {
            return None;
        }
        bodies.push(body);
    }
    Some(bodies)
}
