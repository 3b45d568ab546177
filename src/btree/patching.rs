//! Storing the few rows of a leaf that changed instead of all of it.
//!
//! After one in a hundred rows of a table has changed at random, half of its leaves are touched, most of them in one row. To
//! write each of them anew is to write fifty times what changed, and a backup's increment moves as much. So where the
//! changes are few, what is stored is a *patch*: a small block with the rows that differ from the leaf's full block, which
//! stays where it is. The next patch over the same block says everything again, and takes the place of the one before; when
//! that would take more than a share of the leaf's size, the leaf is stored whole, and both blocks go.
//!
//! Reading a patched leaf reads two blocks and lays one over the other; from there on nobody sees a difference. In memory the
//! leaf remembers which keys differ from the full block ([`Changed`]): those that the patch named and those that were folded
//! since. Together with the keys of its versions that covers every row that may differ. More keys than that do no harm.
//!
//! - P3: a leaf's state is its full block with its patch laid over it; the full block is never younger than the patch (B5).
//! - F1: a block goes when neither the leaf's new address nor the base under it names it.

use std::collections::BTreeSet;

use crate::block::BLOCK_HEADER;
use crate::error::Result;
use crate::page::{CellValue, LeafImage, PageAddr, PatchImage, encode_patch};
use crate::types::{BlockAddr, CheckpointSeq, CommitSeq};

use super::leaf::Body;
use super::shared::{Counts, Shared};
use super::versions::Versions;

/// What remembering a key costs beside its bytes.
const PER_KEY: usize = 32;

/// The keys whose rows may differ from the leaf's full block.
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

    /// Reads and checks a leaf, and says how it differs from its full block.
    pub fn read_leaf(&self, at: PageAddr) -> Result<(LeafImage, Changed)> {
        let read = |addr: BlockAddr| self.store.read(addr);
        let wrong = |addr: BlockAddr| move |e: crate::Error| e.at(self.store.path(), Some(addr.offset));
        Counts::add(&self.counts.page_ins);
        let full = at.full();
        let Some(_) = at.base else {
            return Ok((LeafImage::check(read(full)?).map_err(wrong(full))?, Changed::default()));
        };
        let patch = PatchImage::check(read(at.addr)?).map_err(wrong(at.addr))?;
        let base = LeafImage::check(read(full)?).map_err(wrong(full))?;
        let mut changed = Changed::default();
        for (key, _) in patch.iter() {
            changed.add(key, self.changes_max());
        }
        Ok((patch.over(&base), changed))
    }

    /// Writes the state that a leaf has at `commit`, as a patch if that is worth it. `changed` says how the leaf's image
    /// differs from its full block. Returns where it is, and how it differs from the full block there.
    pub fn write_leaf(
        &self,
        state: &LeafImage,
        body: &Body,
        changed: &Changed,
        commit: CommitSeq,
        birth: CheckpointSeq,
    ) -> Result<(PageAddr, Changed)> {
        if let Some(at) = body.addr
            && self.options.patch_share > 0
            && !changed.many
        {
            let mut changed = changed.clone();
            changed.fold(&body.versions, commit, self.changes_max());
            if let Some(patch) = self.patch(state, &changed) {
                let addr = self.store.write(&patch, birth)?;
                Counts::add(&self.counts.patches);
                return Ok((PageAddr { addr, base: Some(at.full()) }, changed));
            }
        }
        Ok((PageAddr::whole(self.store.write(state.bytes(), birth)?), Changed::default()))
    }

    /// The patch that makes `state` of the full block; `None` when the whole is not much larger.
    fn patch(&self, state: &LeafImage, changed: &Changed) -> Option<Vec<u8>> {
        if changed.many || changed.keys.is_empty() {
            return None;
        }
        let block = |len: usize| (len + BLOCK_HEADER).next_multiple_of(self.store.unit() as usize);
        let most = block(state.bytes().len()) / self.options.patch_share;
        let changes: Vec<(&[u8], Option<CellValue<'_>>)> =
            changed.keys.iter().map(|key| (&**key, state.search(key).ok().map(|i| state.value(i)))).collect();
        let values: usize = changes.iter().map(|(_, value)| value.map_or(0, |v| v.bytes().len())).sum();
        if values > most {
            return None;
        }
        let patch = encode_patch(&changes);
        (block(patch.len()) <= most).then_some(patch)
    }

    /// Gives up the blocks of a leaf that its new address, if it has one, does not name.
    pub fn replaced(&self, old: Option<PageAddr>, new: Option<PageAddr>, at: CheckpointSeq) {
        let stays = |block: &BlockAddr| new.is_some_and(|new| new.blocks().any(|kept| kept == *block));
        for block in old.into_iter().flat_map(PageAddr::blocks).filter(|block| !stays(block)) {
            self.store.give_up(block, at);
        }
    }
}
