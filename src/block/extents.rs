//! Sets of byte ranges, and the choice of the next range to write.
//!
//! # Algorithm
//! A set keeps its ranges in a map by offset; neighbours are merged, so the set of bytes determines the map. A second
//! index by (length, offset) answers "which range fits". Taking `n` bytes looks at the [`PROBES`] smallest lengths that
//! fit and takes, among the first range of each, the one at the lowest offset: close to best fit, so that large runs
//! survive, and close to first fit, so that the file stays dense and a checkpoint, which writes pages in key order,
//! fills holes in file order. If any range fits, one is found. Everything is O(log n).
//!
//! # Invariants
//! - X1: ranges are not empty, disjoint, and no two touch.
//! - X2: both indexes hold the same ranges.
//! - X3: adding bytes that are in the set already, or removing bytes that are not, is a fault of the accounting above
//!   (a range freed twice would be written twice) and is asserted, in release builds too.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::Extent;

/// How many distinct lengths are looked at for one allocation.
const PROBES: usize = 8;

/// A set of bytes, as disjoint ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtentSet {
    by_offset: BTreeMap<u64, u64>,
    by_len: BTreeSet<(u64, u64)>,
    bytes: u64,
}

impl ExtentSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { by_offset: BTreeMap::new(), by_len: BTreeSet::new(), bytes: 0 }
    }

    /// How many bytes are in the set.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many ranges the set consists of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_offset.len()
    }

    /// True when no byte is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_offset.is_empty()
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Extent> + '_ {
        self.by_offset.iter().map(|(&offset, &len)| Extent { offset, len })
    }

    /// The ranges in order, as a list.
    #[must_use]
    pub fn to_vec(&self) -> Vec<Extent> {
        self.iter().collect()
    }

    /// True when all bytes of `e` are in the set.
    #[must_use]
    pub fn contains(&self, e: Extent) -> bool {
        self.by_offset.range(..=e.offset).next_back().is_some_and(|(&o, &l)| o + l >= e.end())
    }

    /// True when a byte of `e` is in the set.
    #[must_use]
    pub fn overlaps(&self, e: Extent) -> bool {
        self.by_offset.range(..e.end()).next_back().is_some_and(|(&o, &l)| o + l > e.offset)
    }

    /// Adds the bytes of `e`. An empty range is nothing.
    ///
    /// # Panics
    /// When a byte of it is in the set already (X3).
    pub fn add(&mut self, e: Extent) {
        if e.len == 0 {
            return;
        }
        assert!(!self.overlaps(e), "X3: bytes {}..{} are in the set already", e.offset, e.end());
        let mut merged = e;
        if let Some((&o, &l)) = self.by_offset.range(..e.offset).next_back()
            && o + l == e.offset
        {
            self.unlink(Extent { offset: o, len: l });
            merged = Extent { offset: o, len: l + merged.len };
        }
        if let Some(&l) = self.by_offset.get(&e.end()) {
            self.unlink(Extent { offset: e.end(), len: l });
            merged.len += l;
        }
        self.link(merged);
    }

    /// Removes the bytes of `e`. An empty range is nothing.
    ///
    /// # Panics
    /// When a byte of it is not in the set (X3).
    pub fn remove(&mut self, e: Extent) {
        if e.len == 0 {
            return;
        }
        let found = self.by_offset.range(..=e.offset).next_back().map(|(&offset, &len)| Extent { offset, len });
        let whole = found.filter(|w| w.end() >= e.end());
        let Some(whole) = whole else { panic!("X3: bytes {}..{} are not in the set", e.offset, e.end()) };
        self.unlink(whole);
        self.link(Extent { offset: whole.offset, len: e.offset - whole.offset });
        self.link(Extent { offset: e.end(), len: whole.end() - e.end() });
    }

    /// Removes `len` bytes that lie side by side and says where they were; `None` when no range is long enough.
    pub fn take(&mut self, len: u64) -> Option<Extent> {
        let whole = self.fitting(len)?;
        self.unlink(whole);
        self.link(Extent { offset: whole.offset + len, len: whole.len - len });
        Some(Extent { offset: whole.offset, len })
    }

    /// The range to take `len` bytes from.
    fn fitting(&self, len: u64) -> Option<Extent> {
        let (mut least, mut best) = (len, None::<Extent>);
        for _ in 0..PROBES {
            let Some(&(l, offset)) = self.by_len.range((least, 0)..).next() else { break };
            if best.is_none_or(|b| offset < b.offset) {
                best = Some(Extent { offset, len: l });
            }
            least = l + 1;
        }
        best
    }

    fn link(&mut self, e: Extent) {
        if e.len > 0 {
            self.by_offset.insert(e.offset, e.len);
            self.by_len.insert((e.len, e.offset));
            self.bytes += e.len;
        }
    }

    fn unlink(&mut self, e: Extent) {
        self.by_offset.remove(&e.offset);
        self.by_len.remove(&(e.len, e.offset));
        self.bytes -= e.len;
    }
}

impl Extend<Extent> for ExtentSet {
    fn extend<T: IntoIterator<Item = Extent>>(&mut self, ranges: T) {
        for e in ranges {
            self.add(e);
        }
    }
}

impl FromIterator<Extent> for ExtentSet {
    fn from_iter<T: IntoIterator<Item = Extent>>(ranges: T) -> Self {
        let mut set = Self::new();
        set.extend(ranges);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::{Arbitrary, Gen};

    /// The twin that is easy to believe: one flag per byte.
    struct Naive(Vec<bool>);

    impl Naive {
        fn ranges(&self) -> Vec<Extent> {
            let mut out: Vec<Extent> = Vec::new();
            for (i, _) in self.0.iter().enumerate().filter(|(_, set)| **set) {
                match out.last_mut() {
                    Some(last) if last.end() == i as u64 => last.len += 1,
                    _ => out.push(Extent { offset: i as u64, len: 1 }),
                }
            }
            out
        }

        fn all(&self, e: Extent, value: bool) -> bool {
            self.0[e.offset as usize..e.end() as usize].iter().all(|b| *b == value)
        }

        fn fill(&mut self, e: Extent, value: bool) {
            self.0[e.offset as usize..e.end() as usize].fill(value);
        }

        fn fitting(&self, len: u64) -> Option<Extent> {
            let mut lens: Vec<u64> = self.ranges().iter().map(|e| e.len).filter(|l| *l >= len).collect();
            lens.sort_unstable();
            lens.dedup();
            lens.truncate(PROBES);
            self.ranges().into_iter().find(|e| lens.contains(&e.len))
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Add(Extent),
        Remove(Extent),
        Take(u64),
    }

    impl Arbitrary for Op {
        fn arbitrary(g: &mut Gen) -> Self {
            let e = Extent { offset: u64::arbitrary(g) % 500, len: u64::arbitrary(g) % 12 };
            match u8::arbitrary(g) % 4 {
                0 | 1 => Self::Add(e),
                2 => Self::Remove(e),
                _ => Self::Take(1 + e.len),
            }
        }
    }

    quickcheck::quickcheck! {
        fn behaves_like_one_flag_per_byte(ops: Vec<Op>) -> bool {
            let (mut set, mut naive) = (ExtentSet::new(), Naive(vec![false; 600]));
            for op in ops {
                match op {
                    Op::Add(e) if naive.all(e, false) => {
                        set.add(e);
                        naive.fill(e, true);
                    }
                    Op::Remove(e) if naive.all(e, true) => {
                        set.remove(e);
                        naive.fill(e, false);
                    }
                    Op::Take(len) => {
                        let expected = naive.fitting(len).map(|e| Extent { offset: e.offset, len });
                        if let Some(e) = expected {
                            naive.fill(e, false);
                        }
                        assert_eq!(set.take(len), expected);
                    }
                    Op::Add(e) | Op::Remove(e) => {
                        assert!(e.len == 0 || set.overlaps(e) || !set.contains(e));
                    }
                }
                assert_eq!(set.to_vec(), naive.ranges());
                assert_eq!(set.bytes(), naive.0.iter().filter(|b| **b).count() as u64);
                assert_eq!(set.by_len.len(), set.by_offset.len());
            }
            true
        }
    }

    #[test]
    #[should_panic(expected = "X3")]
    fn freeing_twice_is_seen() {
        let mut set = ExtentSet::new();
        set.add(Extent { offset: 0, len: 10 });
        set.add(Extent { offset: 9, len: 1 });
    }

    #[test]
    fn low_and_fitting_ranges_first() {
        let mut set: ExtentSet =
            [(100, 50), (200, 10), (300, 10), (0, 4)].map(|(offset, len)| Extent { offset, len }).into_iter().collect();
        assert_eq!(set.take(10), Some(Extent { offset: 100, len: 10 }), "the lowest that fits");
        assert_eq!(set.take(4), Some(Extent { offset: 0, len: 4 }));
        assert_eq!(set.take(41), None);
    }
}
