//! Storing the few rows of a leaf that changed instead of all of it.
//!
//! After one in a hundred rows of a table has changed at random, half of its leaves are touched, most of them in one row. To
//! write each of them anew is to write fifty times what changed, and a backup's increment moves as much. So where the
//! changes are few, the leaf's block stays, and the page above, which is to be written anyway, carries a *patch*: the rows
//! that differ from the block. The next patch of the leaf says everything again, and takes the place of the one before.
//!
//! A patch is at most a share of the leaf's size, and the patches of one inner page together are bounded too, because a change
//! of one row writes all of them: when they get too many, the leaves with the largest are written whole ([`Shared::cutoff`]).
//! Only a checkpoint makes patches. What leaves memory between two is written whole: it is to take no memory.
//!
//! Reading a patched leaf reads its block and lays the patch over it; from there on nobody sees a difference. In memory the
//! leaf remembers which keys differ from the block ([`Changed`]): those that the patch named and those that were folded
//! since. Together with the keys of its versions that covers every row that may differ. More keys than that do no harm.
//!
//! - P3: a leaf's state is its block with the patch of its parent laid over it.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::page::{CellValue, LeafImage, PageAddr, Patch};
use crate::types::{CheckpointSeq, CommitSeq};

use super::inner::{Child, Inner};
use super::leaf::Body;
use super::shared::{Counts, Shared};
use super::versions::Versions;

/// What remembering a key costs beside its bytes.
const PER_KEY: usize = 32;
/// The patches of an inner page together are at most as large as so many leaves.
const LEAVES: usize = 4;

/// The keys whose rows may differ from the leaf's block.
#[derive(Clone, Debug, Default)]
pub(super) struct Changed {
    keys: BTreeSet<Box<[u8]>>,
    bytes: usize,
    /// There were more than are worth remembering.
    many: bool,
}

impl Changed {
    fn add(&mut self, key: &[u8], max: usize) {
        if self.many || self.keys.contains(key) {
            return;
        }
        self.bytes += key.len() + PER_KEY;
        if self.bytes > max {
            *self = Self { many: true, ..Self::default() };
        } else {
            self.keys.insert(key.into());
        }
    }

    /// Remembers the keys that have versions at or below `limit`; no more than `max` bytes of them.
    pub fn fold(&mut self, versions: &Versions, limit: CommitSeq, max: usize) {
        let mut entry = 0;
        while entry < versions.len() && !self.many {
            let group = versions.group(entry);
            entry = group.end;
            if versions.visible_in(group.clone(), limit).is_some() {
                self.add(versions.key(group.start), max);
            }
        }
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        self.bytes
    }
}

impl Shared {
    /// Bytes of keys that a leaf remembers. A patch of more keys than that would be too large.
    pub fn changes_max(&self) -> usize {
        self.options.leaf_bytes / self.options.patch_share.max(1)
    }

    /// Reads and checks a leaf, and says how it differs from its block.
    pub fn read_leaf(&self, at: &PageAddr) -> Result<(LeafImage, Changed)> {
        let body = self.store.read(at.addr)?;
        Counts::add(&self.counts.page_ins);
        let image = LeafImage::check(body).map_err(|e| e.at(self.store.path(), Some(at.addr.offset)))?;
        let mut changed = Changed::default();
        let Some(patch) = &at.patch else { return Ok((image, changed)) };
        for (key, _) in patch.changes() {
            changed.add(&key, self.changes_max());
        }
        Ok((patch.over(&image), changed))
    }

    /// Stores the state that a leaf has at `commit`: as a patch of at most `most` bytes, or whole. `changed` says how the leaf's
    /// image differs from its block. Returns where it is, and how it differs from the block there.
    pub fn write_leaf(
        &self,
        state: &LeafImage,
        (body, changed): (&Body, &Changed),
        commit: CommitSeq,
        birth: CheckpointSeq,
        most: usize,
    ) -> Result<(PageAddr, Changed)> {
        let most = most.min(state.bytes().len().checked_div(self.options.patch_share).unwrap_or(0));
        if let Some(at) = &body.addr
            && most > 0
            && !changed.many
        {
            let mut changed = changed.clone();
            changed.fold(&body.versions, commit, self.changes_max());
            if let Some(patch) = patch_of(state, &changed, most) {
                Counts::add(&self.counts.patches);
                return Ok((PageAddr { addr: at.addr, patch: Some(patch) }, changed));
            }
        }
        Ok((PageAddr::whole(self.store.write(state.bytes(), birth)?), Changed::default()))
    }

    /// How large a patch may be that the checkpoint puts into `page`, so that they do not become too many together.
    pub fn cutoff(&self, page: &Inner) -> usize {
        // Above a single leaf there need not be a page at all.
        if page.level > 1 || page.children.len() == 1 || self.options.patch_share == 0 {
            return 0;
        }
        let bound = LEAVES * self.options.leaf_bytes;
        let sizes = page.children.iter().filter_map(|child| match child {
            Child::Leaf(leaf) => Some(leaf.body.read().patch_guess()),
            _ => None,
        });
        let mut sizes: Vec<usize> = sizes.filter(|size| *size > 0).collect();
        let mut total: usize = sizes.iter().sum();
        if total <= bound {
            return usize::MAX;
        }
        // To some way below, so that the next checkpoint need not do it again.
        sizes.sort_unstable();
        while total > bound / 4 * 3
            && let Some(largest) = sizes.pop()
        {
            total -= largest;
            // Equal ones go together: what is given back lets all of its size pass.
            while sizes.last() == Some(&largest) {
                sizes.pop();
                total -= largest;
            }
        }
        sizes.last().copied().unwrap_or(0)
    }

    /// Gives up the block of a leaf if its new address, if it has one, is another.
    pub fn replaced(&self, old: Option<PageAddr>, new: Option<&PageAddr>, at: CheckpointSeq) {
        if let Some(old) = old
            && new.is_none_or(|new| new.addr != old.addr)
        {
            self.store.give_up(old.addr, at);
        }
    }
}

/// The patch that makes `state` of the block; `None` when it would be larger than `most` bytes.
fn patch_of(state: &LeafImage, changed: &Changed, most: usize) -> Option<Patch> {
    if changed.many || changed.keys.is_empty() {
        return None;
    }
    let changes: Vec<(&[u8], Option<CellValue<'_>>)> =
        changed.keys.iter().map(|key| (&**key, state.search(key).ok().map(|i| state.value(i)))).collect();
    let values: usize = changes.iter().map(|(_, value)| value.map_or(0, |v| v.bytes().len())).sum();
    if values > most {
        return None;
    }
    let patch = Patch::new(&changes);
    (patch.bytes().len() <= most).then_some(patch)
}
