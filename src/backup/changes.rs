//! What changed in a file since a checkpoint: a walk that stops at everything older.
//!
//! A block born for checkpoint b is reached by every checkpoint from b on until the tree gives it up for good. So a block
//! that is reachable now and was born at or before the origin O was reachable at O too, and a copy as of O has it. The
//! walk enters only addresses born after O: it reads the inner pages that changed, and of the leaves under them only those of
//! trees that have large values. A leaf that has got a patch travels with the inner page that carries it. What did not change costs nothing, however much there is of it.
//!
//! Other retained checkpoints between O and now are walked as well; those at or before O need nothing.
//!
//! - **K5** The ranges cover all changed blocks, and nothing else but what merging asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::block::{BlockSource, data_start};
use crate::btree::TreeRoot;
use crate::error::{Error, Result};
use crate::manifest::Content;
use crate::page::{CellValue, InnerImage, LeafImage, OverflowRef, PageAddr};
use crate::types::{BlockAddr, CheckpointSeq, Extent};

/// How ranges are shaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Gaps of up to that many bytes between changed blocks are carried along.
    pub gap: u64,
    /// Ranges begin and end at multiples of this many bytes, the end of the file excepted; 0 for exact ones.
    pub granule: u64,
}

/// What it took to find out what changed. It grows with what changed, and with the number of tables, and not with the
/// database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkCost {
    /// Bytes of files read: the catalog, and the changed pages that lead to others.
    pub bytes_read: u64,
    /// Inner pages that were looked at.
    pub inner_pages: u64,
    /// Leaves that were looked at, because their tree has large values.
    pub leaves: u64,
}

impl std::ops::AddAssign for WalkCost {
    fn add_assign(&mut self, other: Self) {
        self.bytes_read += other.bytes_read;
        self.inner_pages += other.inner_pages;
        self.leaves += other.leaves;
    }
}

/// Gathers what changed in one file.
pub struct Changes<'a> {
    source: &'a dyn BlockSource,
    since: CheckpointSeq,
    /// Blocks born after `since`: offset and size.
    new: BTreeMap<u64, u64>,
    /// Leaves whose values were looked at, by the offset of what their parent names first.
    leaves: BTreeSet<(u64, Option<Vec<u8>>)>,
    /// A block of before was met, so the file and its header existed at `since`.
    old: bool,
    cost: WalkCost,
}

impl<'a> Changes<'a> {
    /// Nothing has been looked at yet.
    pub fn new(source: &'a dyn BlockSource, since: CheckpointSeq) -> Self {
        Self { source, since, new: BTreeMap::new(), leaves: BTreeSet::new(), old: false, cost: WalkCost::default() }
    }

    /// The file was there at the origin.
    pub fn existed(&mut self) {
        self.old = true;
    }

    /// Walks a state.
    ///
    /// # Errors
    /// `Corrupt` with file and offset; `Io`.
    pub fn state(&mut self, root: &TreeRoot) -> Result<()> {
        self.page(&PageAddr::whole(root.addr), root.level, root.overflow)
    }

    fn page(&mut self, page: &PageAddr, level: u8, overflow: bool) -> Result<()> {
        if level == 0 {
            return self.leaf(page, overflow);
        }
        if !self.enter(page.addr) {
            return Ok(());
        }
        let body = self.read(page.addr)?;
        self.cost.inner_pages += 1;
        for child in InnerImage::check(&body).map_err(|e| self.at(e, page.addr))?.children {
            self.page(&child, level - 1, overflow)?;
        }
        Ok(())
    }

    /// A leaf need not be read to be copied, unless it may lead further; and so may its patch, which is as new as the page that
    /// carries it.
    fn leaf(&mut self, page: &PageAddr, overflow: bool) -> Result<()> {
        let addr = page.addr;
        self.enter(addr);
        // A block that was met under a patch may come again under another or without one, as an older state has it: with rows
        // that the patch has replaced. So it is leaves that are walked once, not blocks.
        let patch = page.patch.as_ref().map(|patch| patch.bytes().to_vec());
        if !overflow || !self.leaves.insert((addr.offset, patch)) {
            return Ok(());
        }
        if addr.birth <= self.since {
            return page.patch.as_ref().map_or(Ok(()), |patch| self.values(patch.values(), addr));
        }
        self.cost.leaves += 1;
        let mut leaf = LeafImage::check(self.read(addr)?).map_err(|e| self.at(e, addr))?;
        if let Some(patch) = &page.patch {
            // What the patch has replaced leads to blocks that may be another's by now.
            leaf = patch.over(&leaf);
        }
        self.values((0..leaf.len()).map(|i| leaf.value(i)), addr)
    }

    /// Notes the pieces of the large ones among the values of a leaf.
    fn values<'v>(&mut self, values: impl Iterator<Item = CellValue<'v>>, leaf: BlockAddr) -> Result<()> {
        for value in values {
            if let CellValue::Overflow(stored) = value {
                for piece in OverflowRef::decode(stored).map_err(|e| self.at(e, leaf))?.pieces {
                    self.enter(piece);
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, addr: BlockAddr) -> Result<Arc<[u8]>> {
        self.cost.bytes_read += u64::from(addr.size);
        self.source.read_block(addr)
    }

    fn at(&self, e: Error, addr: BlockAddr) -> Error {
        e.at(self.source.path(), Some(addr.offset))
    }

    /// What the walks so far have cost.
    pub fn cost(&self) -> WalkCost {
        self.cost
    }

    /// Notes a block; true when it is new and was not noted before.
    pub fn enter(&mut self, addr: BlockAddr) -> bool {
        if addr.birth <= self.since {
            self.old = true;
            return false;
        }
        self.new.insert(addr.offset, u64::from(addr.size)).is_none()
    }

    /// What must travel of the file, of which `size` bytes count: the new blocks, neighbours merged, and the file's header when
    /// the origin may not have had the file.
    pub fn content(mut self, unit: u32, size: u64, shape: Shape) -> Content {
        if !self.old {
            self.new.insert(0, data_start(unit));
        }
        if self.new.is_empty() {
            return Content::Unchanged;
        }
        let mut ranges: Vec<Extent> = Vec::new();
        let granule = shape.granule.max(1);
        for (offset, len) in self.new {
            let end = (offset + len).next_multiple_of(granule).min(size.max(offset + len));
            let offset = offset / granule * granule;
            match ranges.last_mut() {
                Some(last) if offset <= last.end().saturating_add(shape.gap) => {
                    last.len = end.max(last.end()) - last.offset;
                }
                _ => ranges.push(Extent { offset, len: end - offset }),
            }
        }
        Content::Ranges(ranges)
    }
}
