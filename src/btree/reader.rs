//! A stored tree: what one checkpoint holds, read from its blocks.
//!
//! Nothing here touches the live tree. Views of old checkpoints, verification, and the walks behind increments use it. Pages are
//! checked when they are read; besides, each must lie within the fences that its parent sets (P1) and be no younger than its
//! parent (B5).
//!
//! [`TreeReader::walk`] visits every block in order, and asks before it goes down, so that a walk for an increment enters only
//! what was born after its origin.

use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::block::BlockSource;
use crate::error::{Error, Result};
use crate::page::{CellValue, InnerImage, LeafImage, OverflowRef, PageAddr, PageKind, Value};
use crate::types::BlockAddr;

use super::cursor::{Cursor, LeafSource, LeafView, ReaderCursor};
use super::leaf::{Lookup, find_in, trusted_reference};
use super::options::TreeRoot;
use super::shared::assemble;
use super::tree::Place;

/// Inner pages that a reader keeps.
const KEPT: usize = 512;

/// A tree as a checkpoint stored it.
pub struct TreeReader {
    source: Arc<dyn BlockSource>,
    root: Option<TreeRoot>,
    inner: Mutex<FxHashMap<u64, Arc<InnerImage>>>,
}

/// A block met on a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The block.
    pub addr: BlockAddr,
    /// What it holds.
    pub kind: PageKind,
}

/// Whether a walk reads the block and goes on below it. Overflow pieces have nothing below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descend {
    /// Read and check it, and visit what it refers to.
    Yes,
    /// Pass it by.
    No,
}

/// Asked at every block of a walk.
type Visitor<'a> = dyn FnMut(Visit) -> Result<Descend> + 'a;

impl TreeReader {
    /// The tree that `root` locates in `source`; an empty one without a root. Nothing is read yet.
    #[must_use]
    pub fn open(source: Arc<dyn BlockSource>, root: Option<TreeRoot>) -> Arc<Self> {
        Arc::new(Self { source, root, inner: Mutex::default() })
    }

    /// Where the tree begins; `None` when it is empty.
    #[must_use]
    pub const fn root(&self) -> Option<TreeRoot> {
        self.root
    }

    /// The value of a key.
    ///
    /// # Errors
    /// `Corrupt` or `Io`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        let Some((image, ..)) = self.find(Place::At(key))? else { return Ok(None) };
        match find_in(&image, key) {
            Lookup::Value(value) => Ok(Some(value)),
            Lookup::Overflow(reference) => self.read_large(&reference).map(Some),
            _ => Ok(None),
        }
    }

    /// A scan over the records between two bounds.
    #[must_use]
    pub fn scan(self: &Arc<Self>, low: Bound<&[u8]>, high: Bound<&[u8]>) -> ReaderCursor {
        Cursor::new(Arc::clone(self), low, high)
    }

    /// Visits every block of the tree, parents before children and in order of keys, and checks what it reads.
    ///
    /// # Errors
    /// The visitor's; `Corrupt` or `Io` of a block that had to be read.
    pub fn walk(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        match self.root {
            None => Ok(()),
            Some(root) => self.walk_page(&PageAddr::whole(root.addr), root.addr, root.level, (None, None), visitor),
        }
    }

    fn walk_page(
        &self,
        page: &PageAddr,
        parent: BlockAddr,
        level: u8,
        fences: (Option<&[u8]>, Option<&[u8]>),
        visitor: &mut Visitor<'_>,
    ) -> Result<()> {
        let addr = page.addr;
        let kind = if level == 0 { PageKind::Leaf } else { PageKind::Inner(level) };
        let descend = visitor(Visit { addr, kind })? == Descend::Yes;
        if level == 0 {
            // The patch is as new as the parent, however old the block.
            let owner = if page.patch.is_some() { parent } else { addr };
            let leaf = if descend { Some(self.read_leaf(page, fences)?) } else { None };
            return match (leaf, &page.patch) {
                (Some(leaf), _) if !leaf.has_overflow() => Ok(()),
                (Some(leaf), _) => self.walk_values((0..leaf.len()).map(|i| leaf.value(i)), owner, visitor),
                (None, Some(patch)) => self.walk_values(patch.values(), owner, visitor),
                (None, None) => Ok(()),
            };
        }
        if !descend {
            return Ok(());
        }
        let page = self.read_inner(addr, level, fences)?;
        for (i, child) in page.children.iter().enumerate() {
            let low = if i == 0 { fences.0 } else { Some(page.separators.key(i - 1)) };
            let high = if i < page.separators.len() { Some(page.separators.key(i)) } else { fences.1 };
            self.walk_page(child, addr, level - 1, (low, high), visitor)?;
        }
        Ok(())
    }

    /// Visits the pieces of the large ones among the values of a leaf.
    fn walk_values<'v>(
        &self,
        values: impl Iterator<Item = CellValue<'v>>,
        leaf: BlockAddr,
        visitor: &mut Visitor<'_>,
    ) -> Result<()> {
        for value in values {
            let CellValue::Overflow(stored) = value else { continue };
            let reference = trusted_reference(stored);
            let mut read = 0;
            for &addr in &reference.pieces {
                if addr.birth > leaf.birth {
                    return Err(self.corrupt(leaf, "a leaf is older than a value it refers to"));
                }
                if visitor(Visit { addr, kind: PageKind::Overflow })? == Descend::Yes {
                    let body = self.source.read_block(addr)?;
                    let piece = crate::page::check_piece(&body).map_err(|e| self.at(e, addr))?;
                    read += piece.len() as u64;
                }
            }
            if read > reference.len {
                return Err(self.corrupt(leaf, "a value's pieces are longer than the value"));
            }
        }
        Ok(())
    }

    /// The leaf at a place with its bounds; `None` when the tree is empty.
    #[expect(clippy::type_complexity, reason = "an image and two bounds")]
    fn find(&self, place: Place<'_>) -> Result<Option<(LeafImage, Option<Vec<u8>>, Option<Vec<u8>>)>> {
        let Some(TreeRoot { addr, mut level, .. }) = self.root else { return Ok(None) };
        let mut at = PageAddr::whole(addr);
        let (mut low, mut high): (Option<Vec<u8>>, Option<Vec<u8>>) = (None, None);
        while level > 0 {
            let page = self.inner_page(at.addr, level, (low.as_deref(), high.as_deref()))?;
            let child = place.child(&page.separators);
            if child > 0 {
                low = Some(page.separators.key(child - 1).to_vec());
            }
            if child < page.separators.len() {
                high = Some(page.separators.key(child).to_vec());
            }
            at = page.children[child].clone();
            level -= 1;
        }
        let image = self.read_leaf(&at, (low.as_deref(), high.as_deref()))?;
        Ok(Some((image, low, high)))
    }

    fn inner_page(
        &self,
        addr: BlockAddr,
        level: u8,
        fences: (Option<&[u8]>, Option<&[u8]>),
    ) -> Result<Arc<InnerImage>> {
        if let Some(page) = self.inner.lock().get(&addr.offset) {
            return Ok(Arc::clone(page));
        }
        let page = Arc::new(self.read_inner(addr, level, fences)?);
        let mut kept = self.inner.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(addr.offset, Arc::clone(&page));
        Ok(page)
    }

    pub(super) fn read_inner(
        &self,
        addr: BlockAddr,
        level: u8,
        (low, high): (Option<&[u8]>, Option<&[u8]>),
    ) -> Result<InnerImage> {
        let body = self.source.read_block(addr)?;
        let page = InnerImage::check(&body).map_err(|e| self.at(e, addr))?;
        if page.level != level {
            return Err(self.corrupt(addr, "an inner page is of the wrong level"));
        }
        if page.children.iter().any(|child| child.addr.birth > addr.birth) {
            return Err(self.corrupt(addr, "an inner page is older than one of its children"));
        }
        let (first, last) = (page.separators.iter().next(), page.separators.iter().next_back());
        if first.zip(low).is_some_and(|(key, low)| key <= low) || last.zip(high).is_some_and(|(key, high)| key >= high)
        {
            return Err(self.corrupt(addr, "an inner page holds keys outside its fences"));
        }
        Ok(page)
    }

    pub(super) fn read_leaf(&self, at: &PageAddr, (low, high): (Option<&[u8]>, Option<&[u8]>)) -> Result<LeafImage> {
        let addr = at.addr;
        let mut image = LeafImage::check(self.source.read_block(addr)?).map_err(|e| self.at(e, addr))?;
        if let Some(patch) = &at.patch {
            image = patch.over(&image);
        }
        let Some(last) = image.len().checked_sub(1) else {
            return Err(self.corrupt(addr, "a stored leaf is empty"));
        };
        if low.is_some_and(|low| image.compare(0, low).is_lt())
            || high.is_some_and(|high| image.compare(last, high).is_ge())
        {
            return Err(self.corrupt(addr, "a leaf holds keys outside its fences"));
        }
        Ok(image)
    }

    pub(super) fn read_large(&self, reference: &OverflowRef) -> Result<Value> {
        assemble(reference, self.source.path(), |addr| self.source.read_block(addr))
    }

    fn corrupt(&self, addr: BlockAddr, what: &str) -> Error {
        self.at(Error::corrupt(what), addr)
    }

    fn at(&self, error: Error, addr: BlockAddr) -> Error {
        error.at(self.source.path(), Some(addr.offset)).remedy("restore the database from a backup")
    }
}

impl LeafSource for Arc<TreeReader> {
    fn leaf(&self, place: Place<'_>) -> Result<LeafView> {
        Ok(match self.find(place)? {
            Some((image, low, high)) => LeafView::stored(image, low.as_deref(), high.as_deref()),
            None => LeafView::stored(LeafImage::empty(), None, None),
        })
    }

    fn large(&self, reference: &OverflowRef) -> Result<Value> {
        self.read_large(reference)
    }
}

impl std::fmt::Debug for TreeReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeReader").field("root", &self.root).finish_non_exhaustive()
    }
}
