//! Folding a leaf in memory, and changing the structure of the tree: cutting leaves and inner pages, merging leaves.
//!
//! A fold that leaves one leaf of fair size needs the leaf's lock and nothing else. What changes the structure holds the
//! structure lock: it settles the leaf for the checkpoint in progress, builds the new leaves, copies the path up to the root,
//! swaps the root, and marks the old leaf as moved, all under the leaf's lock; so a reader finds the old leaf, or waits for
//! the lock and is sent to the new ones.
//!
//! A leaf that some commit has pinned is folded in place at most; that commit will come by.
//!
//! A cut page has no block; the block of the page it came from is given up for the live tree (F1). Inner pages are not
//! merged: those without content are not stored, and so are gone when the tree is next opened.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::RwLockWriteGuard;

use crate::page::{LeafBuilder, LeafImage, Separators, shared_len};
use crate::txn::Entered;
use crate::types::CommitSeq;

use super::fold::{Part, Plan};
use super::inner::{Child, Inner, PageState};
use super::leaf::{Body, Leaf};
use super::shared::Counts;
use super::tree::{Path, Place, Structure, Tree, fences, path_to, skip_of};
use super::versions::Versions;

/// What a fold came to.
enum Folded {
    /// The leaf is in order, or cannot be helped now.
    Done,
    /// The leaf is too large or too small for one page.
    Reshape,
}

/// Children in the place of a child, each with the smallest key it may hold; that of the first is not looked at.
type Replacement = Vec<(Vec<u8>, Child)>;

impl Tree {
    /// Folds the leaf that holds `key`, and changes the structure where the leaf has become too large or too small.
    pub(super) fn reshape(&self, _entered: &Entered<'_>, leaf: &Arc<Leaf>, key: &[u8]) {
        let Some(body) = self.with_image(leaf) else { return };
        if let Folded::Done = self.fold(leaf, body) {
            return;
        }
        let mut structure = self.structure.lock();
        self.freeze(&mut structure);
        let root = self.root.load_full();
        let path = path_to(&root, Place::At(key));
        let Some((parent, at)) = path.last() else { return };
        if !matches!(&parent.children[*at], Child::Leaf(found) if Arc::ptr_eq(found, leaf)) {
            return;
        }
        if let Some(body) = self.with_image(leaf)
            && !leaf.is_pinned()
        {
            self.restructure(&mut structure, &path, leaf, body);
        }
    }

    /// The leaf's contents for changing, with its image in memory; `None` when it has moved or cannot be read.
    fn with_image<'a>(&self, leaf: &'a Arc<Leaf>) -> Option<RwLockWriteGuard<'a, Body>> {
        loop {
            let body = leaf.body.write();
            if body.moved {
                return None;
            }
            if body.image.is_some() {
                return Some(body);
            }
            let addr = body.addr.clone()?;
            drop(body);
            self.page_in(leaf, &addr).ok()?;
        }
    }

    /// The newest commit that a fold of this leaf may fold.
    fn fold_limit(&self, body: &Body) -> CommitSeq {
        let oldest = self.shared.registry.oldest();
        match self.shared.epoch.running() {
            Some((ckpt, snapshot)) if body.owes(ckpt) => oldest.min(snapshot),
            _ => oldest,
        }
    }

    /// Folds the leaf in place if the result is one page of fair size.
    fn fold(&self, leaf: &Arc<Leaf>, mut guard: RwLockWriteGuard<'_, Body>) -> Folded {
        let limit = self.fold_limit(&guard);
        let body = &mut *guard;
        let Some(image) = &body.image else { return Folded::Done };
        let max = self.shared.options.page_bytes();
        let foldable = body.versions.count_upto(limit);
        let bulky = body.versions.arena_len() > 4 * max && body.versions.len() > foldable;
        if 2 * foldable < body.versions.len() && !bulky {
            body.fold_at = body.versions.len() + self.shared.options.fold_versions / 2;
            return Folded::Done;
        }
        let plan = Plan::new(image, &body.versions, limit);
        let total = plan.total();
        if plan.is_empty() || total > max || total < max / 4 {
            return Folded::Reshape;
        }
        let folded = plan.build_one(true, body.versions.skip());
        self.fold_in_place(leaf, body, limit, folded);
        Folded::Done
    }

    /// Puts what a fold up to `limit` made in place.
    fn fold_in_place(
        &self,
        leaf: &Arc<Leaf>,
        body: &mut Body,
        limit: CommitSeq,
        (folded, versions): (LeafImage, Versions),
    ) {
        self.release_dropped(body, limit);
        if body.addr.is_some() {
            body.changed.fold(&body.versions, limit, self.shared.changes_max());
        }
        body.image = Some(folded);
        body.fold_at = if versions.is_empty() { 0 } else { versions.len() + self.shared.options.fold_versions };
        body.fold_bytes = 2 * versions.arena_len();
        body.versions = versions;
        leaf.recharge(body);
        Counts::add(&self.shared.counts.folds);
    }

    /// Releases the large values that folding up to `limit` drops from memory.
    fn release_dropped(&self, body: &Body, limit: CommitSeq) {
        Plan::dropped(body.image.as_ref(), &body.versions, limit, &mut |stored| self.shared.release_overflow(stored));
    }

    /// Remembers the root as it is now for a checkpoint that has begun, before the first change after that.
    pub(super) fn freeze(&self, structure: &mut Structure) {
        if let Some((ckpt, _)) = self.shared.epoch.running()
            && structure.frozen.0 < ckpt
        {
            structure.frozen = (ckpt, Some(self.root.load_full()));
        }
    }

    fn restructure(
        &self,
        structure: &mut Structure,
        path: &Path,
        leaf: &Arc<Leaf>,
        mut body: RwLockWriteGuard<'_, Body>,
    ) {
        if self.settle_now(&mut body).is_err() {
            return;
        }
        let limit = self.fold_limit(&body);
        let Some(image) = &body.image else { return };
        let plan = Plan::new(image, &body.versions, limit);
        let (total, max) = (plan.total(), self.shared.options.page_bytes());
        if total > max {
            let (low, high) = fences(path);
            let parts = plan.build_parts(max, |a, b| skip_of(a.or(low), b.or(high)));
            if parts.len() > 1 {
                self.release_dropped(&body, limit);
                self.split(structure, path, leaf, body, parts);
                return;
            }
        } else if total < max / 4 && self.merge(structure, path, leaf, &mut body, limit) {
            return;
        }
        let Some(image) = &body.image else { return };
        let folded = Plan::new(image, &body.versions, limit).build_one(true, body.versions.skip());
        self.fold_in_place(leaf, &mut body, limit, folded);
    }

    /// Stores what the checkpoint in progress needs of the leaf, unless that is settled.
    fn settle_now(&self, body: &mut Body) -> crate::error::Result<()> {
        match self.shared.epoch.running() {
            Some((ckpt, snapshot)) => self.shared.settle(body, ckpt, snapshot),
            None => Ok(()),
        }
    }

    /// A leaf without a block, in place of ones that are settled for the checkpoint in progress.
    fn new_leaf(&self, image: LeafImage, versions: Versions) -> Arc<Leaf> {
        let mut body = Body::new(Some(image), versions);
        body.mark(self.shared.epoch.live());
        body.saved_at = self.shared.epoch.running().map_or(0, |(ckpt, _)| ckpt.to_raw());
        Leaf::new(&self.shared, body)
    }

    /// Gives up the block of a leaf that leaves the live tree.
    fn retire_leaf(&self, leaf: &Arc<Leaf>, body: &mut Body) {
        if let Some(addr) = body.addr.take() {
            self.shared.replaced(Some(addr), None, self.shared.epoch.live());
        }
        drop(body.leave());
        leaf.recharge(body);
    }

    fn split(
        &self,
        structure: &mut Structure,
        path: &Path,
        leaf: &Arc<Leaf>,
        mut body: RwLockWriteGuard<'_, Body>,
        parts: Vec<Part>,
    ) {
        let new: Replacement =
            parts.into_iter().map(|p| (p.low, Child::Leaf(self.new_leaf(p.image, p.versions)))).collect();
        let at = path.last().map_or(0, |(_, at)| *at);
        self.replace(structure, path, at..at + 1, new);
        self.retire_leaf(leaf, &mut body);
        Counts::add(&self.shared.counts.splits);
    }

    /// Merges a small leaf with a neighbour under the same parent. False when that cannot be done now.
    fn merge(
        &self,
        structure: &mut Structure,
        path: &Path,
        leaf: &Arc<Leaf>,
        body: &mut RwLockWriteGuard<'_, Body>,
        limit: CommitSeq,
    ) -> bool {
        let Some((parent, at)) = path.last() else { return false };
        let neighbours = [at.checked_sub(1), Some(at + 1).filter(|&next| next < parent.children.len())];
        for other_at in neighbours.into_iter().flatten() {
            let Child::Leaf(other) = &parent.children[other_at] else { continue };
            let Some(mut other_body) = other.body.try_write() else { continue };
            if other_body.moved || other.is_pinned() || self.settle_now(&mut other_body).is_err() {
                continue;
            }
            let left_first = other_at < *at;
            let skip = self.merged_skip(path, other_at.min(*at));
            let Some(merged) = self.merged(body, other, &mut other_body, left_first, limit, skip) else { continue };
            let first = other_at.min(*at);
            self.replace(structure, path, first..first + 2, vec![(Vec::new(), Child::Leaf(merged))]);
            self.retire_leaf(leaf, body);
            self.retire_leaf(other, &mut other_body);
            Counts::add(&self.shared.counts.merges);
            return true;
        }
        false
    }

    /// What the keys of the children `first` and `first + 1` below a path share.
    fn merged_skip(&self, path: &Path, first: usize) -> usize {
        let mut ends: Path = path.clone();
        let set = |ends: &mut Path, at| {
            if let Some(last) = ends.last_mut() {
                last.1 = at;
            }
        };
        set(&mut ends, first + 1);
        let high = fences(&ends).1.map(<[u8]>::to_vec);
        set(&mut ends, first);
        skip_of(fences(&ends).0, high.as_deref())
    }

    /// The leaf that two neighbours make together; `None` when it would not be small enough.
    fn merged(
        &self,
        body: &mut Body,
        other: &Arc<Leaf>,
        other_body: &mut Body,
        other_first: bool,
        limit: CommitSeq,
        skip: usize,
    ) -> Option<Arc<Leaf>> {
        let image = body.image.as_ref()?;
        let plan = Plan::new(image, &body.versions, limit);
        if plan.is_empty() {
            self.release_dropped(body, limit);
            return Some(self.take_over(other, other_body, skip));
        }
        let other_image = other_body.image.as_ref()?;
        let other_limit = self.fold_limit(other_body);
        let other_plan = Plan::new(other_image, &other_body.versions, other_limit);
        if 4 * (plan.total() + other_plan.total()) > 3 * self.shared.options.page_bytes() {
            return None;
        }
        let (mine, others) = (plan.build_one(true, skip), other_plan.build_one(true, skip));
        self.release_dropped(body, limit);
        self.release_dropped(other_body, other_limit);
        let (first, second) = if other_first { (others, mine) } else { (mine, others) };
        let image = join(&first.0, &second.0);
        let mut versions = first.1;
        versions.extend(&second.1);
        Some(self.new_leaf(image, versions))
    }

    /// A leaf with the contents and the block of `other`, for a larger range of keys.
    fn take_over(&self, other: &Arc<Leaf>, body: &mut Body, skip: usize) -> Arc<Leaf> {
        let (addr, changed) = (body.addr.take(), std::mem::take(&mut body.changed));
        let (image, versions) = body.leave();
        let mut new = Body::new(image, versions.with_skip(skip));
        (new.addr, new.changed, new.first, new.last) = (addr, changed, body.first, body.last);
        (new.saved_at, new.saved) = (body.saved_at, body.saved.clone());
        other.recharge(body);
        Leaf::new(&self.shared, new)
    }

    /// Puts other children in the place of some below a path, cuts pages that get too wide, and swaps the root.
    fn replace(&self, structure: &mut Structure, path: &Path, range: Range<usize>, new: Replacement) {
        let (mut lowest, mut new) = (Some(range), new);
        for (page, at) in path.iter().rev() {
            let place = lowest.take().unwrap_or(*at..at + 1);
            new = self.rebuild(structure, page, place, new);
        }
        let live = self.shared.epoch.live();
        let mut level = path.first().map_or(1, |(root, _)| root.level);
        while new.len() > 1 {
            level += 1;
            let separators = Separators::new(new.iter().skip(1).map(|(low, _)| low.as_slice()));
            let children: Vec<Child> = new.into_iter().map(|(_, child)| child).collect();
            let top = Inner::new(&self.shared, level, separators, children, PageState::fresh(live));
            new = self.cut(&top, None);
        }
        if let Some((_, Child::Inner(root))) = new.pop() {
            self.root.store(root);
        }
    }

    /// One page with other children in the place of `range`, or several pages where it gets too wide.
    fn rebuild(
        &self,
        structure: &mut Structure,
        page: &Arc<Inner>,
        range: Range<usize>,
        new: Replacement,
    ) -> Replacement {
        let live = self.shared.epoch.live();
        let appends = range.end == page.children.len();
        let kept = page.children.len() - range.len();
        let mut children = Vec::with_capacity(kept + new.len());
        children.extend_from_slice(&page.children[..range.start]);
        let lows: Vec<&[u8]> = (1..=range.start)
            .filter(|&i| i < page.children.len())
            .map(|i| page.low(i))
            .chain(new.iter().skip(1).map(|(low, _)| low.as_slice()))
            .chain((range.end.max(1)..page.children.len()).map(|i| page.low(i)))
            .collect();
        let separators = Separators::new(lows.into_iter());
        children.extend(new.into_iter().map(|(_, child)| child));
        children.extend_from_slice(&page.children[range.end..]);
        if children.len() <= self.shared.options.fan_out {
            page.state.mark(live);
            let state = Arc::clone(&page.state);
            return vec![(Vec::new(), Child::Inner(Inner::new(&self.shared, page.level, separators, children, state)))];
        }
        if page.state.retire(&self.shared) {
            structure.orphans.push(Arc::clone(&page.state));
        }
        let wide = Inner::new(&self.shared, page.level, separators, children, PageState::fresh(live));
        self.cut(&wide, appends.then_some(self.shared.options.fan_out * 7 / 8))
    }

    /// Cuts a new page into as many as its width needs: evenly, or into full ones of `full` children and a rest.
    fn cut(&self, wide: &Arc<Inner>, full: Option<usize>) -> Replacement {
        let (width, most) = (wide.children.len(), self.shared.options.fan_out);
        if width <= most {
            return vec![(Vec::new(), Child::Inner(Arc::clone(wide)))];
        }
        let share = full.unwrap_or(width.div_ceil(width.div_ceil(most))).max(2);
        let live = self.shared.epoch.live();
        let mut out = Vec::new();
        let mut at = 0;
        while at < width {
            // A last page of one child would be a waste.
            let end = if width - at <= share + 1 && width - at <= most { width } else { at + share };
            let separators = Separators::new((at + 1..end).map(|i| wide.low(i)));
            let children = wide.children[at..end].to_vec();
            let page = Inner::new(&self.shared, wide.level, separators, children, PageState::fresh(live));
            out.push((wide.low(at).to_vec(), Child::Inner(page)));
            at = end;
        }
        out
    }
}

/// One image with the cells of two, which follow each other.
fn join(first: &LeafImage, second: &LeafImage) -> LeafImage {
    let mut ends = [first, second].into_iter().filter(|image| !image.is_empty());
    let low = ends.clone().next().map(|image| image.key(0)).unwrap_or_default();
    let high = ends.next_back().map(|image| image.key(image.len() - 1)).unwrap_or_default();
    let mut builder = LeafBuilder::new(&low[..shared_len(&low, &high)]);
    builder.push_run(first, 0..first.len());
    builder.push_run(second, 0..second.len());
    builder.finish()
}
