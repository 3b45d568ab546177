//! Patches: the few rows in which a leaf differs from the block that holds an earlier state of it.
//!
//! A leaf of many rows of which few have changed is not stored anew: its block stays, and the parent carries, beside the
//! block's address, a patch that says what became of the rows that changed. The next patch says what this one says and what
//! came since, and takes its place.
//!
//! Stored are the number of changes, the prefix that all their keys share with its length, and the changes in order of
//! keys: length of the key's rest, the rest, and a tag: 0 when the row went, else the length of the value twice (plus one if
//! it is in overflow blocks) plus one, and the value. All numbers are varints.

use std::ops::Range;
use std::sync::Arc;

use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};

use super::{CellValue, LeafBuilder, LeafImage, OverflowRef, shared_len};

/// Bytes that the keys of a patch have at most: many times what a leaf remembers.
const KEYS_MAX: u64 = 16 << 20;

/// A patch whose bytes have been checked, or were built here. Cloning copies no bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    bytes: Arc<[u8]>,
    overflow: bool,
}

impl Patch {
    /// The patch with these changes, in order of keys; `None`: the row went.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn new(changes: &[(&[u8], Option<CellValue<'_>>)]) -> Self {
        let (Some((first, _)), Some((last, _))) = (changes.first(), changes.last()) else {
            panic!("a patch changes something");
        };
        let prefix = &first[..shared_len(first, last)];
        let (mut out, mut any_overflow) = (Vec::new(), false);
        out.put_varint(changes.len() as u64);
        out.put_bytes(prefix);
        for (key, value) in changes {
            out.put_bytes(&key[prefix.len()..]);
            let Some(value) = value else {
                out.put_varint(0);
                continue;
            };
            let overflow = matches!(value, CellValue::Overflow(_));
            any_overflow |= overflow;
            out.put_varint(((value.bytes().len() as u64) << 1 | u64::from(overflow)) + 1);
            out.extend_from_slice(value.bytes());
        }
        Self { bytes: out.into(), overflow: any_overflow }
    }

    /// Checks every byte.
    ///
    /// # Errors
    /// `Corrupt` when it is no patch, breaks P1 or P2, or a length points outside.
    pub fn check(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes);
        let count = r.varint()?;
        let prefix = r.bytes()?;
        // What it is laid over a leaf for holds every key whole.
        if count.saturating_mul(prefix.len() as u64) > KEYS_MAX {
            return Err(Error::corrupt(format!("a patch of {count} keys that share {} bytes", prefix.len())));
        }
        let (mut first, mut last): (&[u8], Option<&[u8]>) = (&[], None);
        let mut overflow = false;
        for i in 0..count {
            let (rest, value) = change(&mut r)?;
            if let Some(CellValue::Overflow(stored)) = value {
                OverflowRef::decode(stored)?;
                overflow = true;
            }
            match last {
                None => first = rest,
                Some(last) if last < rest => (),
                Some(_) => return Err(Error::corrupt(format!("change {i} of a patch is out of order"))),
            }
            last = Some(rest);
        }
        r.finish()?;
        // One change alone has all of its key in the prefix.
        if last.is_none_or(|last| shared_len(first, last) > 0) {
            return Err(Error::corrupt("a patch is not encoded in the canonical way"));
        }
        Ok(Self { bytes: bytes.into(), overflow })
    }

    /// The stored form.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// True when some value is in overflow blocks.
    #[must_use]
    pub const fn has_overflow(&self) -> bool {
        self.overflow
    }

    /// The keys of the rows that changed, in order, each with its new value; `None`: the row went.
    pub fn changes(&self) -> impl Iterator<Item = (Vec<u8>, Option<CellValue<'_>>)> {
        let mut r = Reader::new(&self.bytes);
        let head = r.varint().and_then(|count| Ok((count, r.bytes()?)));
        // It was checked, or built here.
        let (count, prefix) = head.unwrap_or_default();
        (0..count).map_while(move |_| {
            let (rest, value) = change(&mut r).ok()?;
            Some(([prefix, rest].concat(), value))
        })
    }

    /// The new values, without the keys.
    pub fn values(&self) -> impl Iterator<Item = CellValue<'_>> {
        self.changes().filter_map(|(_, value)| value)
    }

    /// The leaf that the patch makes of its block.
    #[must_use]
    pub fn over(&self, base: &LeafImage) -> LeafImage {
        let mut parts: Vec<Part<'_>> = Vec::new();
        let mut at = 0;
        for (key, value) in self.changes() {
            let (end, next) = match base.search(&key) {
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
                Part::Row(key, value) => builder.push(&key, value),
            }
        }
        builder.finish()
    }
}

/// What the patched leaf is put together from.
enum Part<'a> {
    Run(Range<usize>),
    Row(Vec<u8>, CellValue<'a>),
}

impl Part<'_> {
    fn first(&self, base: &LeafImage) -> Vec<u8> {
        match self {
            Self::Run(cells) => base.key(cells.start),
            Self::Row(key, _) => key.clone(),
        }
    }

    fn last(&self, base: &LeafImage) -> Vec<u8> {
        match self {
            Self::Run(cells) => base.key(cells.end - 1),
            Self::Row(key, _) => key.clone(),
        }
    }
}

/// Reads one change: the rest of its key, and the new value.
fn change<'a>(r: &mut Reader<'a>) -> Result<(&'a [u8], Option<CellValue<'a>>)> {
    let rest = r.bytes()?;
    let Some(tag) = r.varint()?.checked_sub(1) else { return Ok((rest, None)) };
    let len = usize::try_from(tag >> 1).map_err(|_| Error::corrupt("a value is larger than memory"))?;
    let value = r.take(len)?;
    Ok((rest, Some(if tag & 1 == 1 { CellValue::Overflow(value) } else { CellValue::Inline(value) })))
}
