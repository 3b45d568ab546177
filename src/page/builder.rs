//! Building a leaf.
//!
//! The builder is told first what all keys share, because every cell is stored without it. Cells come in order of keys,
//! either one by one or as a run copied from another leaf: where both pages share the same prefix a run is copied whole,
//! which is most of what rebuilding a page after a few changes does.

use std::ops::Range;
use std::sync::Arc;

use crate::codec::Writer;

use super::{CellValue, FLAG_OVERFLOW, HEADER, Header, KIND_LEAF, LeafImage, head32};

/// A leaf in the making.
#[derive(Debug)]
pub struct LeafBuilder {
    prefix: Vec<u8>,
    heads: Vec<u32>,
    offsets: Vec<u32>,
    cells: Vec<u8>,
    overflow: bool,
}

impl LeafBuilder {
    /// A leaf all of whose keys begin with `prefix`, the longest for which that is so; empty for a leaf without cells.
    #[must_use]
    pub fn new(prefix: &[u8]) -> Self {
        Self {
            prefix: prefix.to_vec(),
            heads: Vec::with_capacity(128),
            offsets: Vec::with_capacity(128),
            cells: Vec::with_capacity(16 << 10),
            overflow: false,
        }
    }

    /// Adds a cell.
    pub fn push(&mut self, key: &[u8], value: CellValue<'_>) {
        self.push_parts(&key[self.prefix.len()..], &[], value);
    }

    /// Adds a cell whose key after this page's prefix is `a` and then `b`.
    fn push_parts(&mut self, a: &[u8], b: &[u8], value: CellValue<'_>) {
        self.offsets.push(self.cells.len() as u32);
        self.cells.put_varint((a.len() + b.len()) as u64);
        let at = self.cells.len();
        self.cells.extend_from_slice(a);
        self.cells.extend_from_slice(b);
        self.heads.push(head32(&self.cells[at..]));
        let (bytes, overflow) = match value {
            CellValue::Inline(bytes) => (bytes, false),
            CellValue::Overflow(bytes) => (bytes, true),
        };
        self.overflow |= overflow;
        self.cells.put_varint((bytes.len() as u64) << 1 | u64::from(overflow));
        self.cells.extend_from_slice(bytes);
    }

    /// Adds some cells of another leaf.
    pub fn push_run(&mut self, image: &LeafImage, cells: Range<usize>) {
        let (ours, theirs) = (self.prefix.len(), image.prefix().len());
        if ours == theirs && !image.has_overflow() {
            self.copy_run(image, cells);
        } else if ours <= theirs {
            for i in cells {
                let (rest, value) = image.cell(i);
                self.push_parts(&image.prefix()[ours..], rest, value);
            }
        } else {
            for i in cells {
                let (rest, value) = image.cell(i);
                self.push_parts(&rest[ours - theirs..], &[], value);
            }
        }
    }

    fn copy_run(&mut self, image: &LeafImage, cells: Range<usize>) {
        let bounds = image.cell_bounds(&cells);
        let here = self.cells.len();
        for i in cells {
            self.heads.push(image.head(i));
            self.offsets.push((here + image.cell_bounds(&(i..i)).start - bounds.start) as u32);
        }
        self.cells.extend_from_slice(image.raw_cells(bounds));
    }

    /// The finished leaf.
    ///
    /// # Panics
    /// When the cells take 4 GiB or more.
    #[must_use]
    pub fn finish(self) -> LeafImage {
        let count = self.heads.len();
        assert!(self.cells.len() < u32::MAX as usize, "a leaf holds less than 4 GiB");
        let mut out = Vec::with_capacity(HEADER + self.prefix.len() + 8 * count + self.cells.len());
        let flags = if self.overflow { FLAG_OVERFLOW } else { 0 };
        let (count, prefix, cells) = (count as u32, self.prefix.len() as u32, self.cells.len() as u32);
        Header { kind: KIND_LEAF, level: 0, flags, count, prefix, cells }.encode(&mut out);
        out.extend_from_slice(&self.prefix);
        for head in &self.heads {
            out.put_u32(*head);
        }
        for offset in &self.offsets {
            out.put_u32(*offset);
        }
        out.extend_from_slice(&self.cells);
        LeafImage::trust(Arc::from(out), count, prefix, self.overflow)
    }
}
