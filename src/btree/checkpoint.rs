//! Storing the state of one snapshot while commits go on.
//!
//! The checkpoint walks the inner pages as they were when it began, lowest first and in order of keys, so that its blocks lie
//! in the file in the order in which a scan will want them. It goes down only where a mark says that something changed.
//! For every leaf it takes what is settled, or settles it; then it stores the inner page above with the addresses it
//! collected, gives up the block the page had before, and clears the page's mark unless commits have marked it anew.
//!
//! Settling a leaf for checkpoint N with snapshot S: if the leaf has changed since it was last written and N must store the
//! change, its state at S is encoded and written, born N, and the former block is given up for N; else the leaf's block is
//! what N stores. Whatever happened to the leaf after S does not matter, because versions above S are not encoded, and
//! versions that S needs are not folded away before the leaf is settled.
//!
//! C1: exactly what the snapshot sees. B5: what is written here is born N, and all it refers to was born by then.

use std::sync::Arc;

use parking_lot::RwLockUpgradableReadGuard;

use crate::error::Result;
use crate::page::{LeafImage, PageAddr, encode_inner};
use crate::types::{BlockAddr, CheckpointSeq, CommitSeq};

use super::fold::Plan;
use super::inner::{Child, Inner};
use super::leaf::{Body, Leaf};
use super::options::TreeRoot;
use super::patching::Changed;
use super::shared::Shared;
use super::tree::Tree;

/// The leaf's state at a snapshot, ready to be put in place.
struct Stored {
    /// The image that the versions lie over, where it had to be read.
    read: Option<(LeafImage, Changed)>,
    /// The state, where it is stored, and how it differs from the block there; `None` when it has no cells.
    state: Option<(LeafImage, PageAddr, Changed)>,
}

impl Tree {
    /// Stores the state that checkpoint `ckpt`'s snapshot sees. `None` when nothing has changed since the last checkpoint;
    /// `Some(None)` when the tree has become empty. Called between the beginning and the end of the checkpoint
    /// (`txn::Epoch`), by one thread, not entered.
    ///
    /// # Errors
    /// `Io` and others from writing blocks, and from reading leaves that were changed without being read. The checkpoint is
    /// then to be abandoned; what it wrote stays useful.
    pub fn checkpoint(&self, ckpt: CheckpointSeq, snapshot: CommitSeq) -> Result<Option<Option<TreeRoot>>> {
        let root = {
            let mut structure = self.structure.lock();
            self.freeze(&mut structure);
            assert_eq!(structure.frozen.0, ckpt, "the checkpoint in progress is another one");
            structure.stored = false;
            structure.frozen.1.clone()
        };
        let Some(root) = root else { return Ok(None) };
        let stored = if root.state.owes(ckpt) { Some(self.store_root(&root, ckpt, snapshot)?) } else { None };
        let mut structure = self.structure.lock();
        structure.frozen.1 = None;
        structure.orphans.clear();
        structure.stored = stored.is_some();
        Ok(stored)
    }

    /// Forgets checkpoint `ckpt`, which failed, on this tree or on another: the next one stores what this one was to store.
    /// Called after the end of the checkpoint (`txn::Epoch::finish`) and before the next begins.
    pub fn abandon(&self, ckpt: CheckpointSeq) {
        let mut structure = self.structure.lock();
        if structure.frozen.0 != ckpt {
            return; // it never came here
        }
        for orphan in std::mem::take(&mut structure.orphans) {
            orphan.abandon(ckpt, &self.shared);
        }
        if std::mem::take(&mut structure.stored) {
            // What the tree stored is recorded nowhere. The root alone has to be stored again to be found.
            self.root.load().state.mark(self.shared.epoch.live());
        }
        structure.frozen.1 = None;
    }

    fn store_root(&self, root: &Inner, ckpt: CheckpointSeq, snapshot: CommitSeq) -> Result<Option<TreeRoot>> {
        let overflow = self.shared.has_overflow();
        let children = self.store_children(root, ckpt, snapshot)?;
        let (level, addr) = match children[..] {
            [] => (0, None),
            // A page above a single child is not worth a block, unless it carries a patch.
            [(_, PageAddr { addr, patch: None })] => (root.level - 1, Some(addr)),
            _ => (root.level, Some(self.shared.store.write(&encode_inner(root.level, &children), ckpt)?)),
        };
        root.state.settle(ckpt, addr.filter(|_| level == root.level), &self.shared);
        Ok(addr.map(|addr| TreeRoot { addr, level, overflow }))
    }

    /// Stores an inner page; `None` when nothing is below it.
    fn store_inner(&self, page: &Inner, ckpt: CheckpointSeq, snapshot: CommitSeq) -> Result<Option<BlockAddr>> {
        let children = self.store_children(page, ckpt, snapshot)?;
        let addr = match &children[..] {
            [] => None,
            children => Some(self.shared.store.write(&encode_inner(page.level, children), ckpt)?),
        };
        page.state.settle(ckpt, addr, &self.shared);
        Ok(addr)
    }

    /// What the checkpoint stores for each child of a page, with the smallest key the child may hold.
    fn store_children<'a>(
        &self,
        page: &'a Inner,
        ckpt: CheckpointSeq,
        snapshot: CommitSeq,
    ) -> Result<Vec<(&'a [u8], PageAddr)>> {
        let mut out = Vec::with_capacity(page.children.len());
        let most = self.shared.cutoff(page);
        for (i, child) in page.children.iter().enumerate() {
            let addr = match child {
                Child::Disk(addr) => Some(PageAddr::whole(*addr)),
                Child::Leaf(leaf) => self.store_leaf(leaf, ckpt, snapshot, most)?,
                Child::Inner(inner) if inner.state.owes(ckpt) => {
                    self.store_inner(inner, ckpt, snapshot)?.map(PageAddr::whole)
                }
                Child::Inner(inner) => inner.state.disk().map(PageAddr::whole),
            };
            out.extend(addr.map(|addr| (page.low(i), addr)));
        }
        Ok(out)
    }

    /// Settles a leaf. Readers go on while it is written; writers of this leaf wait.
    fn store_leaf(
        &self,
        leaf: &Arc<Leaf>,
        ckpt: CheckpointSeq,
        snapshot: CommitSeq,
        most: usize,
    ) -> Result<Option<PageAddr>> {
        let body = leaf.body.upgradable_read();
        if body.saved_at >= ckpt.to_raw() {
            return Ok(body.saved.clone());
        }
        let owes = body.owes(ckpt);
        let stored = if owes { Some(self.shared.store_state(&body, ckpt, snapshot, most)?) } else { None };
        let mut body = RwLockUpgradableReadGuard::upgrade(body);
        self.shared.settled(&mut body, ckpt, snapshot, stored);
        leaf.recharge(&mut body);
        Ok(body.saved.clone())
    }
}

impl Shared {
    /// Settles a leaf for checkpoint `ckpt`: afterwards the checkpoint needs nothing of it.
    pub fn settle(&self, body: &mut Body, ckpt: CheckpointSeq, snapshot: CommitSeq) -> Result<()> {
        if body.saved_at < ckpt.to_raw() {
            // Whole: whoever settles a leaf before its turn does so because it leaves memory or changes its place.
            let stored = if body.owes(ckpt) { Some(self.store_state(body, ckpt, snapshot, 0)?) } else { None };
            self.settled(body, ckpt, snapshot, stored);
        }
        Ok(())
    }

    /// Stores the state at `snapshot`: as a patch of up to `most` bytes, or in a block born for `ckpt`.
    fn store_state(&self, body: &Body, ckpt: CheckpointSeq, snapshot: CommitSeq, most: usize) -> Result<Stored> {
        let read = match (&body.image, &body.addr) {
            (None, Some(addr)) => Some(self.read_leaf(addr)?),
            _ => None,
        };
        let base = body.image.as_ref().or(read.as_ref().map(|(image, _)| image));
        let state = match self.state_at(base, body, snapshot) {
            image if image.is_empty() => None,
            image => {
                let changed = read.as_ref().map_or(&body.changed, |(_, changed)| changed);
                let (addr, changed) = self.write_leaf(&image, (body, changed), snapshot, ckpt, most)?;
                Some((image, addr, changed))
            }
        };
        Ok(Stored { read, state })
    }

    /// The leaf as a commit sees it.
    pub fn state_at(&self, base: Option<&LeafImage>, body: &Body, commit: CommitSeq) -> LeafImage {
        match base {
            Some(base) if body.versions.is_empty() => base.clone(),
            Some(base) => Plan::new(base, &body.versions, commit).build_one(false, 0).0,
            None => Plan::new(&LeafImage::empty(), &body.versions, commit).build_one(false, 0).0,
        }
    }

    fn settled(&self, body: &mut Body, ckpt: CheckpointSeq, snapshot: CommitSeq, stored: Option<Stored>) {
        if let Some(Stored { read, state }) = stored {
            let resident = body.image.is_some();
            if let Some((image, _)) = read {
                body.image = Some(image);
            }
            let former = body.addr.take();
            let (state, changed) = state.map_or((None, None), |(state, addr, changed)| {
                body.addr = Some(addr);
                (Some(state), Some(changed))
            });
            self.replaced(former, body.addr.as_ref(), ckpt);
            body.written_for(ckpt);
            if body.versions.max_seq() <= snapshot.min(self.registry.oldest()) {
                // Nobody needs to see further back than what was just encoded.
                let release = &mut |stored: &[u8]| self.release_overflow(stored);
                Plan::dropped(body.image.as_ref(), &body.versions, snapshot, release);
                body.empty();
                body.image = match state {
                    Some(image) => resident.then_some(image),
                    None => Some(LeafImage::empty()),
                };
            } else if body.image.is_none() {
                body.image = Some(LeafImage::empty());
            }
            if body.image.is_some() {
                body.changed = changed.unwrap_or_default();
            }
        }
        body.saved = body.addr.clone();
        body.saved_at = ckpt.to_raw();
    }
}
