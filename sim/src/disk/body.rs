//! The bytes of one file: a persistent radix tree of 4 KiB pages.
//!
//! Thousands of images derived from one run share nearly all their pages, so a body is cheap to clone (one counter per
//! 64 KiB) and copies only the page that changes. Every page knows the content hash of its 512-byte blocks and the body
//! knows the sum of their shares, so that the hash of a whole file is read off, never computed by walking.
//!
//! - P1: `sum` = sum over all blocks of `share(index, hash)`; holes and zeros add nothing (H1).
//! - P2: a body knows no length; who owns it cuts what lies beyond.

use super::hash::{self, share};
use std::sync::Arc;

/// Bytes in a page.
pub(crate) const PAGE: usize = 4096;
/// Bytes in a hashed block, the smallest sector.
pub(crate) const BLOCK: usize = 512;
const BLOCKS: usize = PAGE / BLOCK;
const FANOUT: usize = 16;

/// One page with the hashes of its blocks.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) bytes: [u8; PAGE],
    pub(crate) hashes: [u64; BLOCKS],
}

impl Page {
    pub(crate) const ZERO: Self = Self { bytes: [0; PAGE], hashes: [0; BLOCKS] };

    /// Brings the hashes of the blocks that `from..to` touches up to date.
    fn rehash(&mut self, from: usize, to: usize) {
        for b in from / BLOCK..to.div_ceil(BLOCK) {
            self.hashes[b] = hash::block(&self.bytes[b * BLOCK..(b + 1) * BLOCK]);
        }
    }

    fn shares(&self, index: u64) -> u64 {
        self.hashes
            .iter()
            .enumerate()
            .fold(0_u64, |s, (b, &h)| s.wrapping_add(share(index * BLOCKS as u64 + b as u64, h)))
    }
}

type Chunk = [Option<Arc<Page>>; FANOUT];

/// The bytes of a file, without a length.
#[derive(Clone, Default)]
pub(crate) struct Body {
    chunks: Vec<Option<Arc<Chunk>>>,
    sum: u64,
}

impl Body {
    /// The sum of the shares of all blocks (P1).
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    pub(crate) fn page(&self, index: u64) -> Option<&Arc<Page>> {
        let chunk = self.chunks.get(index as usize / FANOUT)?.as_ref()?;
        chunk[index as usize % FANOUT].as_ref()
    }

    /// One past the last page present.
    pub(crate) fn pages(&self) -> u64 {
        (self.chunks.len() * FANOUT) as u64
    }

    fn slot(&mut self, index: u64) -> &mut Option<Arc<Page>> {
        let (c, p) = (index as usize / FANOUT, index as usize % FANOUT);
        if self.chunks.len() <= c {
            self.chunks.resize(c + 1, None);
        }
        let chunk = self.chunks[c].get_or_insert_with(|| Arc::new([const { None }; FANOUT]));
        &mut Arc::make_mut(chunk)[p]
    }

    /// Replaces a whole page.
    pub(crate) fn put_page(&mut self, index: u64, page: Option<Arc<Page>>) {
        let old = self.page(index).map_or(0, |p| p.shares(index));
        let new = page.as_ref().map_or(0, |p| p.shares(index));
        self.sum = self.sum.wrapping_sub(old).wrapping_add(new);
        if page.is_some() || self.page(index).is_some() {
            *self.slot(index) = page;
        }
    }

    /// Changes bytes `from..to` of one page by `change`, which is given exactly those bytes.
    pub(crate) fn edit(&mut self, index: u64, from: usize, to: usize, change: impl FnOnce(&mut [u8])) {
        let page = self.slot(index).get_or_insert_with(|| Arc::new(Page::ZERO));
        let page = Arc::make_mut(page);
        let (first, last) = (from / BLOCK, to.div_ceil(BLOCK));
        let before: u64 = Self::part(page, index, first, last);
        change(&mut page.bytes[from..to]);
        page.rehash(from, to);
        let after: u64 = Self::part(page, index, first, last);
        self.sum = self.sum.wrapping_sub(before).wrapping_add(after);
    }

    fn part(page: &Page, index: u64, first: usize, last: usize) -> u64 {
        (first..last).fold(0, |s: u64, b| s.wrapping_add(share(index * BLOCKS as u64 + b as u64, page.hashes[b])))
    }

    /// Copies `len` bytes at `offset` from `source`, the page of the same index in another body; whole blocks only.
    pub(crate) fn copy_blocks(&mut self, offset: u64, len: usize, source: &Page) {
        let (index, from) = (offset / PAGE as u64, (offset % PAGE as u64) as usize);
        let (first, last) = (from / BLOCK, (from + len) / BLOCK);
        let page = self.slot(index).get_or_insert_with(|| Arc::new(Page::ZERO));
        let page = Arc::make_mut(page);
        let before = Self::part(page, index, first, last);
        page.bytes[from..from + len].copy_from_slice(&source.bytes[from..from + len]);
        page.hashes[first..last].copy_from_slice(&source.hashes[first..last]);
        let after = Self::part(page, index, first, last);
        self.sum = self.sum.wrapping_sub(before).wrapping_add(after);
    }

    /// Reads at `offset`; holes read as zeros.
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) {
        for (at, from, to) in spans(offset, buf.len() as u64) {
            let start = (at * PAGE as u64 + from as u64 - offset) as usize;
            let part = &mut buf[start..start + (to - from)];
            match self.page(at) {
                Some(page) => part.copy_from_slice(&page.bytes[from..to]),
                None => part.fill(0),
            }
        }
    }

    /// Writes at `offset`.
    pub(crate) fn write(&mut self, data: &[u8], offset: u64) {
        for (at, from, to) in spans(offset, data.len() as u64) {
            let start = (at * PAGE as u64 + from as u64 - offset) as usize;
            self.edit(at, from, to, |b| b.copy_from_slice(&data[start..start + (to - from)]));
        }
    }

    /// Fills `len` bytes at `offset` with one value.
    pub(crate) fn fill(&mut self, offset: u64, len: u64, value: u8) {
        for (at, from, to) in spans(offset, len) {
            self.edit(at, from, to, |b| b.fill(value));
        }
    }

    /// Zeroes everything from `len` on, dropping whole pages.
    pub(crate) fn cut(&mut self, len: u64) {
        let keep = len.div_ceil(PAGE as u64);
        for index in keep..self.pages() {
            if self.page(index).is_some() {
                self.put_page(index, None);
            }
        }
        self.chunks.truncate((keep as usize).div_ceil(FANOUT));
        let from = (len % PAGE as u64) as usize;
        if from != 0 && self.page(keep - 1).is_some_and(|p| p.bytes[from..].iter().any(|&b| b != 0)) {
            self.edit(keep - 1, from, PAGE, |b| b.fill(0));
        }
    }

    /// True when a page or byte from `len` on may be other than zero.
    pub(crate) fn reaches_beyond(&self, len: u64) -> bool {
        let keep = len.div_ceil(PAGE as u64);
        let tail = (len % PAGE as u64) as usize;
        (keep..self.pages()).any(|i| self.page(i).is_some())
            || (tail != 0 && self.page(keep - 1).is_some_and(|p| p.bytes[tail..].iter().any(|&b| b != 0)))
    }

    /// True when the `len` bytes at `offset` are zeros or a hole.
    pub(crate) fn is_zero(&self, offset: u64, len: u64) -> bool {
        spans(offset, len).all(|(at, from, to)| self.page(at).is_none_or(|p| p.bytes[from..to].iter().all(|&b| b == 0)))
    }
}

/// The pages that a byte range touches: (page, first byte, one past the last byte).
pub(crate) fn spans(offset: u64, len: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let (page, end) = (PAGE as u64, offset + len);
    (offset / page..end.div_ceil(page)).filter_map(move |at| {
        let from = offset.max(at * page) - at * page;
        let to = end.min((at + 1) * page).saturating_sub(at * page);
        (from < to).then_some((at, from as usize, to as usize))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    fn walked(body: &Body) -> u64 {
        (0..body.pages()).filter_map(|i| body.page(i).map(|p| p.shares(i))).fold(0, u64::wrapping_add)
    }

    quickcheck! {
        fn behaves_like_a_vector_and_keeps_its_sum(ops: Vec<(u16, u16, u8)>) -> bool {
            let (mut body, mut plain) = (Body::default(), vec![0_u8; 140_000]);
            for (offset, len, value) in ops {
                let (offset, len) = (usize::from(offset), usize::from(len % 9000));
                match value % 5 {
                    0 => { body.cut(offset as u64); plain[offset..].fill(0); }
                    1 => { body.fill(offset as u64, len as u64, value); plain[offset..offset + len].fill(value); }
                    _ => { body.write(&vec![value; len], offset as u64); plain[offset..offset + len].fill(value); }
                }
            }
            let mut back = vec![1_u8; plain.len()];
            body.read(&mut back, 0);
            back == plain && body.sum() == walked(&body)
        }
    }

    #[test]
    fn a_clone_does_not_see_later_writes() {
        let mut a = Body::default();
        a.write(b"one", 10);
        let b = a.clone();
        a.write(b"two", 10);
        let mut buf = [0; 3];
        b.read(&mut buf, 10);
        assert_eq!(&buf, b"one");
        assert_ne!(a.sum(), b.sum());
    }

    #[test]
    fn written_zeros_hash_as_a_hole() {
        let mut a = Body::default();
        a.write(&[0; 5000], 3);
        assert_eq!(a.sum(), 0);
    }
}
