//! A commit's way into the tree: prepare, apply, tidy.
//!
//! *Prepare* does all that can fail or take time: it writes large values to blocks of their own, finds the leaves that the
//! batch touches, and pins them, so that they neither move nor leave memory. *Apply* then only inserts versions: it cannot
//! fail, so a commit is all or nothing. *Tidy*, after the commit was published, folds and splits what has grown.
//!
//! A leaf that is not in memory need not be read: versions are laid over an image that may be on disk. Only where values
//! live in overflow blocks the leaf is read, because the commit must know which blocks it supersedes.
//!
//! T2 is the caller's: it holds the claims on all keys, so no other commit writes them between prepare and apply.
//! F1: the blocks of a superseded large value are given up by the commit that supersedes it, and held for readers.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::page::CellValue;
use crate::txn::Entered;
use crate::types::{CheckpointSeq, CommitSeq};

use super::inner::{Child, Inner};
use super::leaf::{Body, Leaf};
use super::options::TreeOptions;
use super::shared::Shared;
use super::tree::{Place, Tree};
use super::versions::Change;

/// Bytes of keys and values that one commit may bring to one leaf.
const LEAF_BATCH: usize = 1 << 31;

/// A batch of writes that is ready to be applied. Dropped without being applied, it leaves nothing behind.
pub struct Prepared<'b> {
    writes: Vec<Write<'b>>,
    parts: Vec<Part>,
    shared: Arc<Shared>,
    birth: CheckpointSeq,
    applied: bool,
}

struct Write<'b> {
    key: &'b [u8],
    value: New<'b>,
}

enum New<'b> {
    Delete,
    Inline(&'b [u8]),
    /// The stored form of a reference to blocks already written.
    Overflow(Vec<u8>),
}

impl New<'_> {
    fn change(&self) -> Change<'_> {
        match self {
            Self::Delete => Change::Delete,
            Self::Inline(bytes) => Change::Put(CellValue::Inline(bytes)),
            Self::Overflow(stored) => Change::Put(CellValue::Overflow(stored)),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Delete => 0,
            Self::Inline(bytes) => bytes.len(),
            Self::Overflow(stored) => stored.len(),
        }
    }
}

/// A pinned leaf and the writes that belong to it.
struct Part {
    leaf: Arc<Leaf>,
    writes: Range<usize>,
    untidy: bool,
}

impl Tree {
    /// Makes a batch ready to be applied: `writes` are keys, strictly ascending, each with its new value or `None` for a
    /// deletion. The caller stays entered until the batch was tidied or dropped.
    ///
    /// # Errors
    /// `Io` and others from writing large values and reading pages; `Full` for more than two gigabytes in one place. Nothing
    /// is left behind.
    pub fn prepare<'b>(
        &self,
        _entered: &Entered<'_>,
        writes: impl IntoIterator<Item = (&'b [u8], Option<&'b [u8]>)>,
    ) -> Result<Prepared<'b>> {
        let birth = self.shared.epoch.live();
        let shared = Arc::clone(&self.shared);
        let mut prepared = Prepared { writes: Vec::new(), parts: Vec::new(), shared, birth, applied: false };
        for (key, value) in writes {
            prepared.add(key, value)?;
        }
        self.pin_leaves(&mut prepared)?;
        Ok(prepared)
    }

    fn pin_leaves(&self, prepared: &mut Prepared<'_>) -> Result<()> {
        let mut next = 0;
        while next < prepared.writes.len() {
            let (leaf, end) = self.pin_leaf(&prepared.writes[next..])?;
            let writes = next..next + end;
            next = writes.end;
            let bytes: usize = prepared.writes[writes.clone()].iter().map(|w| w.key.len() + w.value.len()).sum();
            prepared.parts.push(Part { leaf, writes, untidy: false });
            self.shared.cache.relieve();
            if bytes > LEAF_BATCH {
                return Err(Error::new(ErrorKind::Full, "more than two gigabytes of writes to neighbouring keys")
                    .remedy("use smaller transactions"));
            }
        }
        Ok(())
    }

    /// Pins the leaf of the first write; returns it with the number of writes that belong to it.
    fn pin_leaf(&self, writes: &[Write<'_>]) -> Result<(Arc<Leaf>, usize)> {
        loop {
            let key = writes[0].key;
            let root = self.root.load();
            let Some((leaf, high)) = leaf_and_high(&root, key) else {
                drop(root);
                self.fault(Place::At(key))?;
                continue;
            };
            let body = leaf.body.read();
            if body.moved {
                continue;
            }
            if let (None, Some(addr), true) = (&body.image, &body.addr, self.shared.has_overflow()) {
                let addr = addr.clone();
                drop(body);
                let leaf = Arc::clone(leaf);
                drop(root);
                self.page_in(&leaf, &addr)?;
                continue;
            }
            leaf.pin();
            drop(body);
            leaf.touch();
            let own = high.map_or(writes.len(), |high| ascending_below(writes, high));
            return Ok((Arc::clone(leaf), own));
        }
    }

    /// Inserts the batch as commit `seq`, which is not visible yet. Calls are made one at a time, in order of `seq`.
    pub fn apply(&self, _entered: &Entered<'_>, prepared: &mut Prepared<'_>, seq: CommitSeq) {
        assert!(!prepared.applied, "a batch is applied once");
        prepared.applied = true;
        let mut active = self.shared.registry.active();
        if let Some((_, snapshot)) = self.shared.epoch.running()
            && let Err(at) = active.binary_search(&snapshot)
        {
            active.insert(at, snapshot);
        }
        for part in &mut prepared.parts {
            let writes = &prepared.writes[part.writes.clone()];
            part.untidy = self.apply_to_leaf(&part.leaf, writes, seq, &active, prepared.birth);
        }
    }

    /// Inserts some writes into their leaf. True when the leaf is worth folding.
    fn apply_to_leaf(
        &self,
        leaf: &Arc<Leaf>,
        writes: &[Write<'_>],
        seq: CommitSeq,
        active: &[CommitSeq],
        live: CheckpointSeq,
    ) -> bool {
        let shared = &self.shared;
        let mut guard = leaf.body.write();
        let body = &mut *guard;
        assert!(!body.moved, "a pinned leaf stays");
        let overflow = shared.has_overflow();
        body.versions.reserve(writes.len(), writes.iter().map(|w| w.key.len() + w.value.len()).sum());
        for write in writes {
            if overflow {
                supersede(body, write.key, shared, live);
            }
            let mut drop = |stored: &[u8]| shared.release_overflow(stored);
            body.versions.insert(write.key, write.value.change(), seq, active, &mut drop);
        }
        if body.mark(live) {
            self.mark_path(writes[0].key, live);
        }
        leaf.recharge(body);
        worth_folding(body, &shared.options)
    }

    /// Folds, splits and merges the leaves that the batch has made large or small. The commit is published, and its own
    /// snapshot given back.
    pub fn tidy(&self, entered: &Entered<'_>, mut prepared: Prepared<'_>) {
        debug_assert!(prepared.applied);
        for part in std::mem::take(&mut prepared.parts) {
            part.leaf.unpin();
            if part.untidy {
                self.reshape(entered, &part.leaf, prepared.writes[part.writes.start].key);
            }
        }
        self.shared.cache.relieve();
    }
}

/// True when a leaf has so many versions, or such large ones, that it should be folded. A small image is cheap to fold, and
/// may be due for merging. Few versions may have left many bytes behind them: a key written again and again while somebody
/// reads an old state.
fn worth_folding(body: &Body, options: &TreeOptions) -> bool {
    let few = body.image.as_ref().map_or(options.fold_versions, |image| options.fold_versions.min(image.len() / 2 + 8));
    let many = body.versions.len() >= few || body.versions.arena_len() > options.leaf_bytes / 2;
    let littered = body.versions.arena_len() > body.fold_bytes.max(4 * options.leaf_bytes);
    littered || (many && body.versions.len() >= body.fold_at)
}

/// Gives up the blocks of the newest value of a key, if it has any, but keeps them for readers.
fn supersede(body: &Body, key: &[u8], shared: &Shared, live: CheckpointSeq) {
    if let Some(newest) = body.versions.first_of(key) {
        if let Change::Put(CellValue::Overflow(stored)) = body.versions.change(newest) {
            shared.supersede_overflow(stored, live);
        }
    } else if let Some(image) = &body.image
        && image.has_overflow()
        && let Ok(at) = image.search(key)
        && let CellValue::Overflow(stored) = image.value(at)
    {
        shared.supersede_overflow(stored, live);
    }
}

/// The leaf for a key, and the bound below which all keys are its own.
fn leaf_and_high<'a>(root: &'a Inner, key: &[u8]) -> Option<(&'a Arc<Leaf>, Option<&'a [u8]>)> {
    let (mut page, mut high) = (root, None);
    loop {
        let at = page.separators.child(key);
        if at < page.separators.len() {
            high = Some(page.separators.key(at));
        }
        match &page.children[at] {
            Child::Inner(next) => page = next,
            Child::Leaf(leaf) => return Some((leaf, high)),
            Child::Disk(_) => return None,
        }
    }
}

/// How many of the writes are below a bound; at least the first is. Most often only few are, so it looks close first.
fn ascending_below(writes: &[Write<'_>], high: &[u8]) -> usize {
    let mut step = 1;
    while step < writes.len() && writes[step].key < high {
        step *= 2;
    }
    let (from, to) = (step / 2, step.min(writes.len()));
    (from + writes[from..to].partition_point(|w| w.key < high)).max(1)
}

impl<'b> Prepared<'b> {
    fn add(&mut self, key: &'b [u8], value: Option<&'b [u8]>) -> Result<()> {
        debug_assert!(self.writes.last().is_none_or(|last| last.key < key), "writes come in order of keys");
        let value = match value {
            None => New::Delete,
            Some(bytes) if bytes.len() > self.shared.options.overflow_bytes => {
                New::Overflow(self.shared.write_overflow(bytes, self.birth)?)
            }
            Some(bytes) => New::Inline(bytes),
        };
        self.writes.push(Write { key, value });
        Ok(())
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        self.parts.iter().for_each(|part| part.leaf.unpin());
        if self.applied {
            return;
        }
        for write in &self.writes {
            if let New::Overflow(stored) = &write.value {
                for piece in super::leaf::trusted_reference(stored).pieces {
                    self.shared.store.give_up(piece, self.birth);
                }
            }
        }
    }
}

impl std::fmt::Debug for Prepared<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("writes", &self.writes.len()).finish_non_exhaustive()
    }
}
