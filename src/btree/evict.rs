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
//! E1: a pinned leaf stays. E2: what is not committed is not in a leaf. T3: versions that a snapshot needs stay.

use crate::cache::Eviction;
use crate::page::LeafImage;
use crate::types::CommitSeq;

use super::fold::Plan;
use super::leaf::{Body, Leaf};
use super::shared::{Counts, Shared};

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
    let base = match (&body.image, body.addr) {
        (None, Some(addr)) => Some(shared.read_leaf(addr).ok()?),
        (image, _) => image.clone(),
    };
    let state = shared.state_at(base.as_ref(), body, CommitSeq(u64::MAX));
    body.image = base;
    let addr = if state.is_empty() { None } else { Some(shared.store.write(state.bytes(), live).ok()?) };
    if let Some(old) = std::mem::replace(&mut body.addr, addr) {
        shared.store.give_up(old, live);
    }
    body.first = 0;
    Counts::add(&shared.counts.evict_writes);
    Some(())
}
