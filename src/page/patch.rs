//! The encoded patch: the few rows in which a leaf differs from a block that holds all of an earlier state.
//!
//! A leaf of many rows of which few have changed is not stored anew: its block stays as the *base*, and a small block beside
//! it, the patch, says what became of the rows that changed. The parent names both blocks. There is one patch over a base
//! at most: the next one says what this one says and what came since, and takes its place.
//!
//! After the header and the prefix that all its keys share come the changes, in order of keys: length of the key's rest, the
//! rest, and a tag: 0 when the row went, else the length of the value twice (plus one if it is in overflow blocks) plus one,
//! and the value.

use std::ops::Range;
use std::sync::Arc;

use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};

use super::{
    CellValue, FLAG_OVERFLOW, HEADER, Header, KIND_PATCH, LeafBuilder, LeafImage, OverflowRef, check_padding,
    shared_len,
};

/// A patch whose bytes have been checked.
#[derive(Clone, Debug)]
pub struct PatchImage {
    bytes: Arc<[u8]>,
    overflow: bool,
    changes: Vec<(Vec<u8>, New)>,
}

/// What became of a row.
#[derive(Clone, Debug)]
enum New {
    Gone,
    Inline(Range<usize>),
    Overflow(Range<usize>),
}

impl PatchImage {
    /// Checks every byte of `body`.
    ///
    /// # Errors
    /// `Corrupt` when it is no patch, breaks P1 or P2, or a length points outside; `Unsupported` for a newer format.
    pub fn check(body: Arc<[u8]>) -> Result<Self> {
        let header = Header::decode(&body, KIND_PATCH)?;
        let (count, prefix, cells) = (header.count as usize, header.prefix as usize, header.cells as usize);
        let need = HEADER.checked_add(prefix).and_then(|n| n.checked_add(cells));
        let overflow = header.flags & FLAG_OVERFLOW != 0;
        if header.level != 0 || count == 0 || need.is_none_or(|need| need > body.len()) {
            return Err(Error::corrupt("the header of a patch is malformed"));
        }
        let mut r = Reader::new(&body[HEADER..]);
        let prefix = r.take(prefix)?.to_vec();
        let at = HEADER + prefix.len();
        let changes = check_changes(r.take(cells)?, at, &prefix, count)?;
        check_padding(r.take(r.remaining())?)?;
        let found = changes.iter().any(|(_, new)| matches!(new, New::Overflow(_)));
        let ends = changes.first().zip(changes.last());
        if found != overflow || ends.is_some_and(|((a, _), (b, _))| shared_len(a, b) != prefix.len()) {
            return Err(Error::corrupt("a patch is not encoded in the canonical way"));
        }
        Ok(Self { bytes: body, overflow, changes })
    }

    /// The number of rows that it changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// True when it changes nothing, which no stored patch does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// True when some value is in overflow blocks.
    #[must_use]
    pub const fn has_overflow(&self) -> bool {
        self.overflow
    }

    /// The keys of the rows that changed, in order, each with its new value; `None`: the row went.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<CellValue<'_>>)> {
        self.changes.iter().map(|(key, new)| {
            let value = match new {
                New::Gone => None,
                New::Inline(at) => Some(CellValue::Inline(&self.bytes[at.clone()])),
                New::Overflow(at) => Some(CellValue::Overflow(&self.bytes[at.clone()])),
            };
            (&key[..], value)
        })
    }

    /// The leaf that the patch makes of its base.
    #[must_use]
    pub fn over(&self, base: &LeafImage) -> LeafImage {
        let mut parts: Vec<Part<'_>> = Vec::with_capacity(2 * self.len() + 1);
        let mut at = 0;
        for (key, value) in self.iter() {
            let (end, next) = match base.search(key) {
                Ok(i) => (i, i + 1),
                Err(i) => (i, i),
            };
            if at < end {
                parts.push(Part::Run(at..end));
            }
            at = next;
            parts.extend(value.map(|value| Part::Row(key, value)));
        }
        if at < base.len() {
            parts.push(Part::Run(at..base.len()));
        }
        let (first, last) = (parts.first().map(|p| p.first(base)), parts.last().map(|p| p.last(base)));
        let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
        let mut builder = LeafBuilder::new(&first[..shared_len(&first, &last)]);
        for part in parts {
            match part {
                Part::Run(cells) => builder.push_run(base, cells),
                Part::Row(key, value) => builder.push(key, value),
            }
        }
        builder.finish()
    }
}

/// What the patched leaf is put together from.
enum Part<'a> {
    Run(Range<usize>),
    Row(&'a [u8], CellValue<'a>),
}

impl Part<'_> {
    fn first(&self, base: &LeafImage) -> Vec<u8> {
        match self {
            Self::Run(cells) => base.key(cells.start),
            Self::Row(key, _) => key.to_vec(),
        }
    }

    fn last(&self, base: &LeafImage) -> Vec<u8> {
        match self {
            Self::Run(cells) => base.key(cells.end - 1),
            Self::Row(key, _) => key.to_vec(),
        }
    }
}

fn check_changes(cells: &[u8], at: usize, prefix: &[u8], count: usize) -> Result<Vec<(Vec<u8>, New)>> {
    let mut r = Reader::new(cells);
    let mut changes: Vec<(Vec<u8>, New)> = Vec::new();
    for i in 0..count {
        let key = [prefix, r.bytes()?].concat();
        if changes.last().is_some_and(|(last, _)| *last >= key) {
            return Err(Error::corrupt(format!("change {i} of a patch is out of order")));
        }
        let new = match r.varint()?.checked_sub(1) {
            None => New::Gone,
            Some(tag) => {
                let len = usize::try_from(tag >> 1).map_err(|_| Error::corrupt("a value is larger than memory"))?;
                let value = r.take(len)?;
                let range = at + r.position() - len..at + r.position();
                if tag & 1 == 1 {
                    OverflowRef::decode(value)?;
                    New::Overflow(range)
                } else {
                    New::Inline(range)
                }
            }
        };
        changes.push((key, new));
    }
    r.finish()?;
    Ok(changes)
}

/// The patch with these changes, in order of keys.
///
/// # Panics
/// When there is none, or they take 4 GiB.
#[must_use]
pub fn encode_patch(changes: &[(&[u8], Option<CellValue<'_>>)]) -> Vec<u8> {
    let (Some((first, _)), Some((last, _))) = (changes.first(), changes.last()) else {
        panic!("a patch changes something");
    };
    let prefix = &first[..shared_len(first, last)];
    let (mut cells, mut flags) = (Vec::new(), 0);
    for (key, value) in changes {
        cells.put_bytes(&key[prefix.len()..]);
        let Some(value) = value else {
            cells.put_varint(0);
            continue;
        };
        let overflow = matches!(value, CellValue::Overflow(_));
        flags |= if overflow { FLAG_OVERFLOW } else { 0 };
        cells.put_varint(((value.bytes().len() as u64) << 1 | u64::from(overflow)) + 1);
        cells.extend_from_slice(value.bytes());
    }
    let mut out = Vec::with_capacity(HEADER + prefix.len() + cells.len());
    let cells_len = u32::try_from(cells.len()).expect("a patch is small");
    let (count, prefix_len) = (changes.len() as u32, prefix.len() as u32);
    Header { kind: KIND_PATCH, level: 0, flags, count, prefix: prefix_len, cells: cells_len }.encode(&mut out);
    out.extend_from_slice(prefix);
    out.extend_from_slice(&cells);
    out
}
