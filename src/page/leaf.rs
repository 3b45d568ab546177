//! The encoded leaf, checked, and how to find a key in it.
//!
//! After the header and the shared prefix come two arrays with a number for every cell, then the cells:
//!
//! | bytes | field |
//! | --- | --- |
//! | 4 each | head: the first four bytes of the key after the prefix, as a number that orders like the bytes |
//! | 4 each | where the cell begins, counted from the first cell |
//! | | cells: length of the key's rest, the rest, length of the value twice (plus one if it is in overflow blocks), value |
//!
//! A search compares heads, which lie close together, and touches a cell only where heads are equal; a find costs the
//! header, two or three lines of heads and the cell.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use crate::codec::Reader;
use crate::error::{Error, Result};

use super::{FLAG_OVERFLOW, HEADER, Header, KIND_LEAF, OverflowRef, Value, check_padding, head32, shared_len};

/// What a cell holds beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellValue<'a> {
    /// The value.
    Inline(&'a [u8]),
    /// The stored form of an [`OverflowRef`].
    Overflow(&'a [u8]),
}

impl<'a> CellValue<'a> {
    /// The bytes, whatever they mean.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Inline(bytes) | Self::Overflow(bytes) => bytes,
        }
    }
}

/// A leaf whose bytes have been checked, or were built here. Cloning copies no bytes.
#[derive(Clone, Debug)]
pub struct LeafImage {
    bytes: Arc<[u8]>,
    count: u32,
    prefix: u32,
    overflow: bool,
}

impl LeafImage {
    /// Wraps what [`super::LeafBuilder`] made.
    pub(super) fn trust(bytes: Arc<[u8]>, count: u32, prefix: u32, overflow: bool) -> Self {
        Self { bytes, count, prefix, overflow }
    }

    /// A leaf without cells.
    #[must_use]
    pub fn empty() -> Self {
        super::LeafBuilder::new(&[]).finish()
    }

    /// Checks every byte of `body`.
    ///
    /// # Errors
    /// `Corrupt` when it is no leaf, breaks P1 or P2, or a length points outside; `Unsupported` for a newer format.
    pub fn check(body: Arc<[u8]>) -> Result<Self> {
        let header = Header::decode(&body, KIND_LEAF)?;
        let (count, prefix, cells) = (header.count as usize, header.prefix as usize, header.cells as usize);
        let need = count.checked_mul(8).and_then(|n| n.checked_add(HEADER)?.checked_add(prefix)?.checked_add(cells));
        if header.level != 0 || need.is_none_or(|need| need > body.len()) {
            return Err(Error::corrupt("the lengths in a leaf's header exceed its block"));
        }
        if count == 0 && (prefix != 0 || cells != 0 || header.flags != 0) {
            return Err(Error::corrupt("an empty leaf claims to hold something"));
        }
        let image = Self {
            bytes: body,
            count: header.count,
            prefix: header.prefix,
            overflow: header.flags & FLAG_OVERFLOW != 0,
        };
        image.check_cells(cells)?;
        check_padding(&image.bytes[image.cells_at() + cells..])?;
        Ok(image)
    }

    fn check_cells(&self, cells: usize) -> Result<()> {
        let area = &self.bytes[self.cells_at()..self.cells_at() + cells];
        let mut r = Reader::new(area);
        let (mut first, mut last): (&[u8], Option<&[u8]>) = (&[], None);
        let mut overflow = false;
        for i in 0..self.len() {
            if self.offset(i) != r.position() {
                return Err(Error::corrupt(format!("cell {i} of a leaf is not where it is said to be")));
            }
            let rest = r.bytes()?;
            let tag = r.varint()?;
            let len = usize::try_from(tag >> 1).map_err(|_| Error::corrupt("a value is larger than memory"))?;
            let value = r.take(len)?;
            if tag & 1 == 1 {
                OverflowRef::decode(value)?;
                overflow = true;
            }
            if head32(rest) != self.head(i) {
                return Err(Error::corrupt(format!("the head of cell {i} of a leaf differs from its key")));
            }
            match last {
                None => first = rest,
                Some(last) if last < rest => (),
                Some(_) => return Err(Error::corrupt(format!("cell {i} of a leaf is out of order"))),
            }
            last = Some(rest);
        }
        r.finish()?;
        if overflow != self.overflow || last.is_some_and(|last| shared_len(first, last) > 0) {
            return Err(Error::corrupt("a leaf is not encoded in the canonical way"));
        }
        Ok(())
    }

    /// The number of cells.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// True when there are no cells.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// True when some value is in overflow blocks.
    #[must_use]
    pub fn has_overflow(&self) -> bool {
        self.overflow
    }

    /// The encoded page.
    #[must_use]
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// What all keys begin with.
    #[inline]
    #[must_use]
    pub fn prefix(&self) -> &[u8] {
        &self.bytes[HEADER..self.heads_at()]
    }

    #[inline]
    fn heads_at(&self) -> usize {
        HEADER + self.prefix as usize
    }

    #[inline]
    fn cells_at(&self) -> usize {
        self.heads_at() + 8 * self.len()
    }

    #[inline]
    fn number(&self, at: usize) -> u32 {
        match self.bytes[at..].first_chunk::<4>() {
            Some(bytes) => u32::from_le_bytes(*bytes),
            None => 0,
        }
    }

    #[inline]
    pub(super) fn head(&self, i: usize) -> u32 {
        self.number(self.heads_at() + 4 * i)
    }

    #[inline]
    fn offset(&self, i: usize) -> usize {
        self.number(self.heads_at() + 4 * (self.len() + i)) as usize
    }

    /// Where cell `i` begins among the cells; for `i` = number of cells, where the last ends.
    pub(super) fn cell_bounds(&self, cells: &Range<usize>) -> Range<usize> {
        let at = |i| if i == self.len() { self.cells_len() } else { self.offset(i) };
        at(cells.start)..at(cells.end)
    }

    fn cells_len(&self) -> usize {
        self.number(12) as usize
    }

    /// The stored bytes of some cells, as they follow each other.
    pub(super) fn raw_cells(&self, bounds: Range<usize>) -> &[u8] {
        &self.bytes[self.cells_at() + bounds.start..self.cells_at() + bounds.end]
    }

    /// Bytes that some cells take in the page, their heads and offsets included, with this page's prefix.
    #[must_use]
    pub fn cells_size(&self, cells: Range<usize>) -> usize {
        self.cell_bounds(&cells).len() + 8 * cells.len()
    }

    /// The key of cell `i` after the prefix.
    #[inline]
    #[must_use]
    pub fn rest(&self, i: usize) -> &[u8] {
        let at = self.cells_at() + self.offset(i);
        let (len, at) = quick_varint(&self.bytes, at);
        &self.bytes[at..at + len]
    }

    /// The whole key of cell `i`.
    #[must_use]
    pub fn key(&self, i: usize) -> Vec<u8> {
        [self.prefix(), self.rest(i)].concat()
    }

    /// The value of cell `i`.
    #[inline]
    #[must_use]
    pub fn value(&self, i: usize) -> CellValue<'_> {
        self.cell(i).1
    }

    /// The key after the prefix, and the value, of cell `i`.
    #[inline]
    #[must_use]
    pub fn cell(&self, i: usize) -> (&[u8], CellValue<'_>) {
        let (rest, tag, at) = self.cell_parts(i);
        let value = &self.bytes[at..at + (tag >> 1)];
        (rest, if tag & 1 == 0 { CellValue::Inline(value) } else { CellValue::Overflow(value) })
    }

    /// The inline value of cell `i` as a slice of the shared page; `None` when it is in overflow blocks.
    #[must_use]
    pub fn shared_value(&self, i: usize) -> Option<Value> {
        let (_, tag, at) = self.cell_parts(i);
        (tag & 1 == 0).then(|| Value::slice(Arc::clone(&self.bytes), at, tag >> 1))
    }

    /// The key's rest, the length and flag of the value, and where the value begins.
    #[inline]
    fn cell_parts(&self, i: usize) -> (&[u8], usize, usize) {
        let at = self.cells_at() + self.offset(i);
        let (len, at) = quick_varint(&self.bytes, at);
        let rest = &self.bytes[at..at + len];
        let (tag, at) = quick_varint(&self.bytes, at + len);
        (rest, tag, at)
    }

    /// The cell with this key, or where it would stand.
    ///
    /// # Errors
    /// The index of the first cell with a larger key when no cell has the key.
    #[inline]
    pub fn search(&self, key: &[u8]) -> std::result::Result<usize, usize> {
        let prefix = self.prefix();
        let Some(rest) = key.strip_prefix(prefix) else {
            return Err(if key < prefix { 0 } else { self.len() });
        };
        let head = head32(rest);
        let heads = &self.bytes[self.heads_at()..self.heads_at() + 4 * self.len()];
        let (heads, _) = heads.as_chunks::<4>();
        let mut at = heads.partition_point(|h| u32::from_le_bytes(*h) < head);
        while at < self.len() && u32::from_le_bytes(heads[at]) == head {
            match self.rest(at).cmp(rest) {
                Ordering::Less => at += 1,
                Ordering::Equal => return Ok(at),
                Ordering::Greater => return Err(at),
            }
        }
        Err(at)
    }

    /// How cell `i` compares with a key.
    #[inline]
    #[must_use]
    pub fn compare(&self, i: usize, key: &[u8]) -> Ordering {
        let prefix = self.prefix();
        match key.strip_prefix(prefix) {
            Some(rest) => self.rest(i).cmp(rest),
            None => prefix.cmp(key).then(Ordering::Greater),
        }
    }
}

/// A variable-length integer in bytes that have been checked, and where it ends.
#[inline]
fn quick_varint(bytes: &[u8], mut at: usize) -> (usize, usize) {
    let first = bytes[at];
    if first < 0x80 {
        return (first as usize, at + 1);
    }
    let (mut v, mut shift) = (0usize, 0);
    loop {
        let byte = bytes[at];
        v |= ((byte & 0x7f) as usize) << shift;
        at += 1;
        shift += 7;
        if byte & 0x80 == 0 || shift > 56 {
            return (v, at);
        }
    }
}
