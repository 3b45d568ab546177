//! Going down the tree, reading, and faulting pages in.
//!
//! A reader loads the root once and goes down through immutable pages. Three things send it back to the (then current) root:
//! an inner page that is not in memory, and was read; a leaf that has moved; a block that was gone because the leaf was
//! written anew between looking and reading. Each time the tree has made progress, so it cannot go on for ever.
//!
//! A page read from disk is put in place by a copy of the path above it, which changes nothing that a page says. It has to
//! be in the place where it was looked for: the current root is asked again under the structure lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::block::BlockStore;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::page::{InnerImage, LeafImage, PageAddr, Separators, Value, shared_len};
use crate::txn::{Epoch, TxnRegistry};
use crate::types::{BlockAddr, CheckpointSeq, CommitSeq, TableId};

use super::inner::{Child, Inner, PageState};
use super::leaf::{Body, Leaf, Lookup, find_in};
use super::options::{TreeOptions, TreeRoot, TreeStats};
use super::shared::Shared;
use super::versions::Versions;

/// The tree of one table.
pub struct Tree {
    pub(super) shared: Arc<Shared>,
    pub(super) root: ArcSwap<Inner>,
    pub(super) structure: Mutex<Structure>,
}

/// What a change of structure guards.
#[derive(Debug, Default)]
pub(super) struct Structure {
    /// The newest checkpoint that has begun on this tree, and the root it walks until it is done with it.
    pub frozen: (CheckpointSeq, Option<Arc<Inner>>),
    /// Inner pages that left the live tree while the checkpoint in progress had yet to write them.
    pub orphans: Vec<Arc<PageState>>,
    /// The newest checkpoint has stored something of this tree.
    pub stored: bool,
    /// Where the search for inner pages that can leave memory goes on.
    pub hand: Vec<u8>,
}

/// Inner pages from the root down, each with the index of the child taken.
pub(super) type Path = Vec<(Arc<Inner>, usize)>;

/// Where in the order of keys a leaf is looked for.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The leaf that holds this key.
    At(&'a [u8]),
    /// The leaf that holds the keys just below this one.
    Below(&'a [u8]),
    /// The last leaf.
    Last,
}

impl Place<'_> {
    /// The child to go down to.
    #[inline]
    pub(super) fn child(self, separators: &Separators) -> usize {
        match self {
            Self::At(key) => separators.child(key),
            Self::Below(key) => separators.child_below(key),
            Self::Last => separators.len(),
        }
    }
}

/// Bytes that all keys of a range share.
pub(super) fn skip_of(low: Option<&[u8]>, high: Option<&[u8]>) -> usize {
    match (low, high) {
        (Some(low), Some(high)) => shared_len(low, high),
        _ => 0,
    }
}

impl Tree {
    /// The tree that `root` locates in `store`; an empty one without a root. Nothing is read yet.
    #[must_use]
    pub fn new(
        table: TableId,
        store: Arc<BlockStore>,
        cache: Arc<Cache>,
        epoch: Arc<Epoch>,
        registry: Arc<TxnRegistry>,
        root: Option<TreeRoot>,
        options: TreeOptions,
    ) -> Arc<Self> {
        let overflow = root.is_some_and(|root| root.overflow);
        let shared = Shared::new(table, store, cache, epoch, registry, options, overflow);
        let (level, child) = match root {
            Some(TreeRoot { addr, level, .. }) if level > 0 => (level.saturating_add(1), Child::Disk(addr)),
            Some(TreeRoot { addr, .. }) => {
                (1, Child::Leaf(Leaf::new(&shared, Body::on_disk(PageAddr::whole(addr), 0))))
            }
            None => (1, Child::Leaf(Leaf::new(&shared, Body::new(Some(LeafImage::empty()), Versions::new(0))))),
        };
        let top = Inner::new(&shared, level, Default::default(), vec![child], PageState::clean(None));
        let tree = Arc::new(Self { shared, root: ArcSwap::new(top), structure: Mutex::default() });
        let weak = Arc::downgrade(&tree);
        tree.shared.cache.enlist(weak);
        tree
    }

    /// The table that the tree belongs to.
    #[must_use]
    pub fn table(&self) -> TableId {
        self.shared.table
    }

    /// The file that the tree is stored in.
    #[must_use]
    pub fn store(&self) -> &Arc<BlockStore> {
        &self.shared.store
    }

    /// What a snapshot, which is registered, sees of a key.
    ///
    /// # Errors
    /// `Corrupt` or `Io` from a page that had to be read.
    pub fn get(&self, snapshot: CommitSeq, key: &[u8]) -> Result<Option<Value>> {
        match self.find(snapshot, key)? {
            Lookup::Value(value) => Ok(Some(value)),
            Lookup::Overflow(reference) => self.shared.read_overflow(&reference).map(Some),
            _ => Ok(None),
        }
    }

    /// True when a snapshot, which is registered, sees the key. Does not read a large value.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn contains(&self, snapshot: CommitSeq, key: &[u8]) -> Result<bool> {
        Ok(matches!(self.find(snapshot, key)?, Lookup::Value(_) | Lookup::Overflow(_)))
    }

    fn find(&self, snapshot: CommitSeq, key: &[u8]) -> Result<Lookup> {
        loop {
            let root = self.root.load();
            let Some(leaf) = leaf_for(&root, key) else {
                drop(root);
                self.fault(Place::At(key))?;
                continue;
            };
            match leaf.lookup(snapshot, key) {
                Lookup::Moved => (),
                Lookup::OnDisk(addr) => {
                    let leaf = Arc::clone(leaf);
                    drop(root);
                    if let Some(image) = self.page_in(&leaf, &addr)? {
                        self.shared.cache.relieve();
                        return Ok(find_in(&image, key));
                    }
                }
                found => return Ok(found),
            }
        }
    }

    /// True when a commit newer than the snapshot, which is registered, has written the key. Reads nothing: a page leaves
    /// memory only when all it holds is visible to everyone.
    #[must_use]
    pub fn newer_than(&self, snapshot: CommitSeq, key: &[u8]) -> bool {
        loop {
            let root = self.root.load();
            let Some(leaf) = leaf_for(&root, key) else { return false };
            if let Some(newer) = leaf.newer_than(snapshot, key) {
                return newer;
            }
        }
    }

    /// True when the next checkpoint has something to store.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.root.load().state.is_dirty()
    }

    /// What the tree has done since it was opened.
    #[must_use]
    pub fn stats(&self) -> TreeStats {
        let counts = &self.shared.counts;
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        TreeStats {
            levels: u64::from(self.root.load().level) + 1,
            page_ins: get(&counts.page_ins),
            folds: get(&counts.folds),
            splits: get(&counts.splits),
            merges: get(&counts.merges),
            patches: get(&counts.patches),
            evictions: get(&counts.evictions),
            evict_writes: get(&counts.evict_writes),
            inner_evictions: get(&counts.inner_evictions),
        }
    }

    /// Reads the leaf's image and leaves it in memory. `None` when the leaf was written anew meanwhile: look again. The
    /// caller makes room when it is done with the leaf, not before: it might be this leaf that goes.
    pub(super) fn page_in(&self, leaf: &Arc<Leaf>, addr: &PageAddr) -> Result<Option<LeafImage>> {
        let read = self.shared.read_leaf(addr);
        let mut body = leaf.body.write();
        if body.moved || body.image.is_some() || body.addr.as_ref() != Some(addr) {
            return Ok(None);
        }
        let (image, changed) = read?;
        body.image = Some(image.clone());
        body.changed = changed;
        leaf.touch();
        leaf.recharge(&mut body);
        Ok(Some(image))
    }

    /// Brings the inner page that a search for a place misses into memory, if it is still missing.
    #[cold]
    pub(super) fn fault(&self, place: Place<'_>) -> Result<()> {
        let Some(addr) = missing(&self.root.load(), place) else { return Ok(()) };
        let read =
            self.shared.store.read(addr).and_then(|body| {
                InnerImage::check(&body).map_err(|e| e.at(self.shared.store.path(), Some(addr.offset)))
            });
        let _structure = self.structure.lock();
        let root = self.root.load_full();
        if missing(&root, place) != Some(addr) {
            return Ok(());
        }
        let image = read?;
        let path = path_to(&root, place);
        let page = self.admit(image, addr, &path)?;
        self.root.store(self.with_page(&path, page));
        Ok(())
    }

    /// The page in memory for an image read from `addr`, below `path`.
    fn admit(&self, image: InnerImage, addr: BlockAddr, path: &Path) -> Result<Arc<Inner>> {
        let corrupt = |what: &str| Err(Error::corrupt(what).at(self.shared.store.path(), Some(addr.offset)));
        if path.last().is_none_or(|(parent, _)| parent.level != image.level.wrapping_add(1)) {
            return corrupt("an inner page is of the wrong level");
        }
        if image.children.iter().any(|child| child.addr.birth > addr.birth) {
            return corrupt("an inner page is older than one of its children");
        }
        let (low, high) = fences(path);
        let separators = image.separators;
        if separators.iter().next().is_some_and(|key| low.is_some_and(|low| key <= low))
            || separators.iter().next_back().is_some_and(|key| high.is_some_and(|high| key >= high))
        {
            return corrupt("an inner page holds keys outside its fences");
        }
        let children = image.children.into_iter().enumerate().map(|(i, child)| {
            if image.level > 1 {
                return Child::Disk(child.addr);
            }
            let low = if i == 0 { low } else { Some(separators.key(i - 1)) };
            let high = if i < separators.len() { Some(separators.key(i)) } else { high };
            Child::Leaf(Leaf::new(&self.shared, Body::on_disk(child, skip_of(low, high))))
        });
        let children = children.collect();
        Ok(Inner::new(&self.shared, image.level, separators, children, PageState::clean(Some(addr))))
    }

    /// The root with `page` in the place that `path` leads to. A root above a single child that has no block of its own
    /// makes way for it.
    fn with_page(&self, path: &Path, page: Arc<Inner>) -> Arc<Inner> {
        if let [(top, _)] = &path[..]
            && top.children.len() == 1
            && !top.state.is_dirty()
            && top.state.disk().is_none()
        {
            return page;
        }
        self.with_child(path, Child::Inner(page))
    }

    /// The root with `child` in the place that `path` leads to, and nothing else changed.
    pub(super) fn with_child(&self, path: &[(Arc<Inner>, usize)], mut child: Child) -> Arc<Inner> {
        for (parent, at) in path.iter().rev() {
            let mut children = parent.children.clone();
            children[*at] = child;
            let (separators, state) = (parent.separators.clone(), Arc::clone(&parent.state));
            child = Child::Inner(Inner::new(&self.shared, parent.level, separators, children, state));
        }
        match child {
            Child::Inner(root) => root,
            _ => unreachable!("a path has at least one page"),
        }
    }

    /// Marks every page above a leaf, which cannot move meanwhile, as changed in the time of checkpoint `live`.
    pub(super) fn mark_path(&self, key: &[u8], live: CheckpointSeq) {
        let root = self.root.load();
        let mut page: &Inner = &root;
        loop {
            page.state.mark(live);
            match page.child(key) {
                Child::Inner(next) => page = next,
                _ => return,
            }
        }
    }
}

/// The leaf for a key, unless an inner page above it is not in memory.
#[inline]
pub(super) fn leaf_for<'a>(root: &'a Inner, key: &[u8]) -> Option<&'a Arc<Leaf>> {
    let mut page = root;
    loop {
        match page.child(key) {
            Child::Inner(next) => page = next,
            Child::Leaf(leaf) => return Some(leaf),
            Child::Disk(_) => return None,
        }
    }
}

/// The inner page that is missing on the way to a place.
fn missing(root: &Inner, place: Place<'_>) -> Option<BlockAddr> {
    let mut page = root;
    loop {
        match &page.children[place.child(&page.separators)] {
            Child::Inner(next) => page = next,
            Child::Leaf(_) => return None,
            Child::Disk(addr) => return Some(*addr),
        }
    }
}

/// The inner pages in memory on the way to a place.
pub(super) fn path_to(root: &Arc<Inner>, place: Place<'_>) -> Path {
    let mut path = Vec::new();
    let mut page = root;
    loop {
        let at = place.child(&page.separators);
        path.push((Arc::clone(page), at));
        match &page.children[at] {
            Child::Inner(next) => page = next,
            _ => return path,
        }
    }
}

/// The bounds of the keys below the place that a path leads to: at or above the first, below the second.
pub(super) fn fences(path: &[(Arc<Inner>, usize)]) -> (Option<&[u8]>, Option<&[u8]>) {
    let low = path.iter().rev().find(|(_, at)| *at > 0).map(|(page, at)| page.separators.key(at - 1));
    let high = path.iter().rev().find(|(page, at)| *at < page.separators.len());
    (low, high.map(|(page, at)| page.separators.key(*at)))
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("table", &self.shared.table).finish_non_exhaustive()
    }
}
