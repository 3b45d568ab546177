//! A value handed to the caller: a slice of memory that is shared with the page it came from.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The bytes of a value or a key. Cloning copies no bytes.
///
/// A value may share memory with the page it was read from, and keeps that memory alive; copy the bytes of a value that
/// is to be kept for long.
#[derive(Clone)]
pub struct Value {
    bytes: Arc<[u8]>,
    start: usize,
    len: usize,
}

impl Value {
    /// The part of `bytes` that begins at `start` and is `len` long.
    ///
    /// # Panics
    /// When there is no such part.
    #[must_use]
    pub fn slice(bytes: Arc<[u8]>, start: usize, len: usize) -> Self {
        assert!(start <= bytes.len() && len <= bytes.len() - start);
        Self { bytes, start, len }
    }
}

impl Deref for Value {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::from(Arc::<[u8]>::from(bytes))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(Arc::<[u8]>::from(bytes))
    }
}

impl From<Arc<[u8]>> for Value {
    fn from(bytes: Arc<[u8]>) -> Self {
        let len = bytes.len();
        Self { bytes, start: 0, len }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Value {}

impl PartialEq<[u8]> for Value {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl PartialEq<&[u8]> for Value {
    fn eq(&self, other: &&[u8]) -> bool {
        **self == **other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Value {
    fn eq(&self, other: &&[u8; N]) -> bool {
        **self == other[..]
    }
}

impl PartialEq<Vec<u8>> for Value {
    fn eq(&self, other: &Vec<u8>) -> bool {
        **self == other[..]
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}
