//! The encoded page: what the body of a tree's block says.
//!
//! There are three kinds. A *leaf* holds cells of key and value; an *inner* page holds the addresses of its children and the
//! keys that separate them; an *overflow* piece holds part of a value that is too large for a leaf. All start with the same
//! sixteen bytes:
//!
//! | bytes | field |
//! | --- | --- |
//! | 1 | kind: 1 leaf, 2 inner, 3 overflow |
//! | 1 | level: 0 for a leaf and an overflow piece, 1 for the parent of leaves, and so on |
//! | 2 | flags: bit 0, some cell refers to overflow blocks; bit 1, the inner page carries patches of leaves |
//! | 4 | count: cells of a leaf, children of an inner page, bytes of an overflow piece |
//! | 4 | bytes of the prefix that all keys of the page share |
//! | 4 | bytes of the cells |
//!
//! Zeros may follow the last cell, because a block is a multiple of the allocation unit.
//!
//! A page read from disk is bytes and nothing more until [`LeafImage::check`] or [`InnerImage::check`] has looked at every
//! length, the order of the keys and the form of every cell; only the checked types have accessors, and these trust what
//! was checked. Checking arbitrary bytes never panics and allocates nothing that the bytes do not pay for.
//!
//! P1: keys strictly ascend (within the page; the fences are the tree's to check).
//! P2: encoding is canonical: one content, one sequence of bytes. So the prefix is the longest possible, integers are the
//! shortest possible, cells lie in order without gaps, and what is reserved is zero.

mod builder;
mod inner;
mod leaf;
mod overflow;
mod patch;
mod value;

pub use builder::LeafBuilder;
pub use inner::{InnerImage, PageAddr, Separators, encode_inner};
pub use leaf::{CellValue, LeafImage};
pub use overflow::{OverflowRef, check_piece, encode_piece};
pub use patch::Patch;
pub use value::Value;

use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};

pub(crate) const KIND_LEAF: u8 = 1;
pub(crate) const KIND_INNER: u8 = 2;
pub(crate) const KIND_OVERFLOW: u8 = 3;
/// Some cell of the leaf refers to overflow blocks.
pub(crate) const FLAG_OVERFLOW: u16 = 1;
/// The inner page carries patches of some of its leaves.
const FLAG_PATCHED: u16 = 2;
/// Bytes before the prefix.
pub(crate) const HEADER: usize = 16;

/// The first sixteen bytes of every page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    kind: u8,
    level: u8,
    flags: u16,
    count: u32,
    prefix: u32,
    cells: u32,
}

impl Header {
    fn encode(self, out: &mut Vec<u8>) {
        out.put_u8(self.kind);
        out.put_u8(self.level);
        out.put_u16(self.flags);
        out.put_u32(self.count);
        out.put_u32(self.prefix);
        out.put_u32(self.cells);
    }

    /// Reads a header and refuses what this version does not know.
    fn decode(bytes: &[u8], kind: u8) -> Result<Self> {
        let mut r = Reader::new(bytes);
        let header =
            Self { kind: r.u8()?, level: r.u8()?, flags: r.u16()?, count: r.u32()?, prefix: r.u32()?, cells: r.u32()? };
        if header.kind != kind {
            return Err(Error::corrupt(format!("a page of kind {} stands where kind {kind} belongs", header.kind)));
        }
        let known = if kind == KIND_INNER { FLAG_PATCHED } else { FLAG_OVERFLOW };
        if header.flags & !known != 0 {
            return Err(Error::corrupt(format!("unknown flags {:#06x} in a page", header.flags)));
        }
        Ok(header)
    }
}

/// The kind of the page that a block's body holds, and its level.
///
/// # Errors
/// `Corrupt` when there is no such kind.
pub fn kind_of(body: &[u8]) -> Result<PageKind> {
    match (body.first(), body.get(1)) {
        (Some(&KIND_LEAF), Some(0)) => Ok(PageKind::Leaf),
        (Some(&KIND_INNER), Some(&level)) if level > 0 => Ok(PageKind::Inner(level)),
        (Some(&KIND_OVERFLOW), Some(0)) => Ok(PageKind::Overflow),
        _ => Err(Error::corrupt("the block holds no page of a known kind")),
    }
}

/// The kinds of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// Cells of key and value.
    Leaf,
    /// Children of one level below, with the keys between them.
    Inner(u8),
    /// A piece of a large value.
    Overflow,
}

/// How many bytes two keys have in common from their start.
#[must_use]
pub fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// The first four bytes as a number that orders like the bytes do; a short key is filled up with zeros, so equal heads
/// say nothing.
#[inline]
pub(crate) fn head32(key: &[u8]) -> u32 {
    match key.first_chunk::<4>() {
        Some(head) => u32::from_be_bytes(*head),
        None => {
            let mut head = [0; 4];
            head[..key.len()].copy_from_slice(key);
            u32::from_be_bytes(head)
        }
    }
}

/// As `head32`, of eight bytes.
#[inline]
#[must_use]
pub fn head64(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; 8];
            head[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(head)
        }
    }
}

/// The bytes after the page must be the block's padding.
fn check_padding(rest: &[u8]) -> Result<()> {
    if rest.iter().all(|&b| b == 0) { Ok(()) } else { Err(Error::corrupt("stray bytes after the page")) }
}

#[cfg(test)]
mod tests;
