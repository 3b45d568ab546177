//! What changed in a file since a checkpoint: a walk that stops at everything older.
//!
//! A block born for checkpoint b is reached by every checkpoint from b on until the tree gives it up for good. So a block
//! that is reachable now and was born at or before the origin O was reachable at O too, and a copy as of O has it. The
//! walk enters only addresses born after O: it reads the inner pages that changed, and of the leaves under them only those of
//! trees that have large values. What did not change costs nothing, however much there is of it.
//!
//! Other retained checkpoints between O and now are walked as well; those at or before O need nothing.
//!
//! - **K5** The ranges cover all changed blocks, and nothing else but what merging asks for.

use std::collections::BTreeMap;

use crate::block::{BlockSource, data_start};
use crate::btree::TreeRoot;
use crate::error::Result;
use crate::manifest::Content;
use crate::page::{CellValue, InnerImage, LeafImage, OverflowRef};
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
    /// A block of before was met, so the file and its header existed at `since`.
    old: bool,
    cost: WalkCost,
}

impl<'a> Changes<'a> {
    /// Nothing has been looked at yet.
    pub fn new(source: &'a dyn BlockSource, since: CheckpointSeq) -> Self {
        Self { source, since, new: BTreeMap::new(), old: false, cost: WalkCost::default() }
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
        self.page(root.addr, root.level, root.overflow)
    }

    fn page(&mut self, addr: BlockAddr, level: u8, overflow: bool) -> Result<()> {
        // A leaf need not be read to be copied, unless it may lead further.
        if !self.enter(addr) || (level == 0 && !overflow) {
            return Ok(());
        }
        let body = self.source.read_block(addr)?;
        let (inner_pages, leaves) = (u64::from(level > 0), u64::from(level == 0));
        self.cost += WalkCost { bytes_read: u64::from(addr.size), inner_pages, leaves };
        let at = |e: crate::Error| e.at(self.source.path(), Some(addr.offset));
        if level > 0 {
            for child in InnerImage::check(&body).map_err(at)?.children {
                self.page(child, level - 1, overflow)?;
            }
            return Ok(());
        }
        let leaf = LeafImage::check(body).map_err(at)?;
        if !leaf.has_overflow() {
            return Ok(());
        }
        for i in 0..leaf.len() {
            if let CellValue::Overflow(stored) = leaf.value(i) {
                for piece in OverflowRef::decode(stored).map_err(at)?.pieces {
                    self.enter(piece);
                }
            }
        }
        Ok(())
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
