//! Persistent maps of rows, with a digest that does not care for order.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// Keys and values, shared.
pub type Bytes = Arc<[u8]>;

/// The sum of the hashes of all rows of a table, and their number. Equal contents have equal digests; unequal contents
/// have equal ones with probability 2^-128, unless somebody works at it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    /// Number of rows.
    pub rows: u64,
    /// Sum of [`row_hash`] over them, modulo 2^128.
    pub sum: u128,
}

impl Digest {
    /// Counts one more row.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(row_hash(key, value));
    }

    fn take(&mut self, key: &[u8], value: &[u8]) {
        self.rows -= 1;
        self.sum = self.sum.wrapping_sub(row_hash(key, value));
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows {:08x}", self.rows, (self.sum >> 96) as u32)
    }
}

/// The contents of one table at one moment. A clone shares the map.
#[derive(Clone, Default)]
pub struct Rows {
    map: Arc<BTreeMap<Bytes, Bytes>>,
    digest: Digest,
    table: u32,
}

impl Rows {
    /// No rows, of this table. A table keeps its number under whatever name; no number is given twice.
    #[must_use]
    pub fn of(table: u32) -> Self {
        Self { table, ..Self::default() }
    }

    /// The number of the table.
    #[must_use]
    pub const fn table(&self) -> u32 {
        self.table
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Bytes> {
        self.map.get(key)
    }

    /// Sets or removes one row.
    pub fn set(&mut self, key: &Bytes, value: Option<&Bytes>) {
        let map = Arc::make_mut(&mut self.map);
        let old = match value {
            Some(value) => {
                self.digest.add(key, value);
                map.insert(key.clone(), value.clone())
            }
            None => map.remove(key),
        };
        if let Some(old) = old {
            self.digest.take(key, &old);
        }
    }

    /// The rows within bounds, in key order.
    pub fn range<'a>(
        &'a self,
        lo: Bound<&'a [u8]>,
        hi: Bound<&'a [u8]>,
    ) -> Box<dyn DoubleEndedIterator<Item = (&'a Bytes, &'a Bytes)> + 'a> {
        if empty_bounds(lo, hi) { Box::new(std::iter::empty()) } else { Box::new(self.map.range::<[u8], _>((lo, hi))) }
    }

    /// All rows, in key order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Bytes, &Bytes)> {
        self.map.iter()
    }

    /// The digest, kept up to date.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

/// True when no key can lie within the bounds; `BTreeMap::range` would panic on some of these.
fn empty_bounds(lo: Bound<&[u8]>, hi: Bound<&[u8]>) -> bool {
    match (lo, hi) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(l), Bound::Included(h)) => l > h,
        (Bound::Included(l) | Bound::Excluded(l), Bound::Included(h) | Bound::Excluded(h)) => l >= h,
    }
}

/// The contents of all tables at one moment, by name.
pub type TableSet = BTreeMap<String, Rows>;

/// What an engine showed of a set of tables: the digest of each.
pub type Summary = BTreeMap<String, Digest>;

const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xd6e8_feb8_6659_fd93;

/// A 128-bit hash of one row. Keys and values are told apart by their lengths.
#[must_use]
pub fn row_hash(key: &[u8], value: &[u8]) -> u128 {
    let mut h = Mix { a: K0 ^ key.len() as u64, b: K1 ^ (value.len() as u64).rotate_left(32) };
    h.bytes(key);
    h.bytes(value);
    h.finish()
}

/// A 128-bit hash of any bytes.
#[must_use]
pub fn text_hash(bytes: &[u8]) -> u128 {
    row_hash(bytes, &[])
}

struct Mix {
    a: u64,
    b: u64,
}

impl Mix {
    fn bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn word(&mut self, w: u64) {
        self.a = fold(self.a ^ w, K0);
        self.b = fold(self.b ^ w.rotate_left(29), K1).wrapping_add(self.a);
    }

    fn finish(mut self) -> u128 {
        self.word(0);
        self.word(1);
        u128::from(self.a) << 64 | u128::from(self.b)
    }
}

/// Multiplies to 128 bits and adds the halves.
fn fold(x: u64, k: u64) -> u64 {
    let product = u128::from(x ^ k.rotate_left(17)) * u128::from(k);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(s: &str) -> Bytes {
        s.as_bytes().into()
    }

    #[test]
    fn digest_forgets_order_and_history() {
        let mut a = Rows::default();
        a.set(&bytes("x"), Some(&bytes("1")));
        a.set(&bytes("y"), Some(&bytes("2")));
        let kept = a.clone();
        let mut b = Rows::default();
        b.set(&bytes("y"), Some(&bytes("7")));
        b.set(&bytes("y"), Some(&bytes("2")));
        b.set(&bytes("z"), Some(&bytes("3")));
        b.set(&bytes("x"), Some(&bytes("1")));
        b.set(&bytes("z"), None);
        assert_eq!(a.digest(), b.digest());
        a.set(&bytes("x"), Some(&bytes("9")));
        assert_ne!(a.digest(), kept.digest());
        assert_eq!(kept.digest(), b.digest(), "a clone is not touched");
    }

    #[test]
    fn rows_are_told_apart() {
        assert_ne!(row_hash(b"ab", b"c"), row_hash(b"a", b"bc"));
        assert_ne!(row_hash(b"a", b""), row_hash(b"", b"a"));
        assert_ne!(row_hash(b"a\0", b""), row_hash(b"a", b""));
    }

    #[test]
    fn empty_ranges_do_not_panic() {
        let mut a = Rows::default();
        a.set(&bytes("m"), Some(&bytes("1")));
        let (b, z): (&[u8], &[u8]) = (b"b", b"z");
        assert_eq!(a.range(Bound::Included(z), Bound::Excluded(b)).count(), 0);
        assert_eq!(a.range(Bound::Excluded(z), Bound::Excluded(z)).count(), 0);
        assert_eq!(a.range(Bound::Included(b), Bound::Unbounded).count(), 1);
    }
}
