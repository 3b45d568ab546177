//! What a checkpoint stores about the space of a table's file.
//!
//! [`SpaceState`] belongs to the newest checkpoint: how long the file is and which bytes of it are available. A
//! [`DeadList`] belongs to every retained checkpoint: the blocks that the tree gave up in the interval that ended with it,
//! although the checkpoint before still reaches them. Dropping a checkpoint moves entries between the lists of its two
//! neighbours and never looks at a tree: see [`drop_entry`].
//!
//! - B2: header, reachable, dead and available bytes partition the file below `size`, at each retained checkpoint.
//! - D1: both encodings are canonical: ranges ascend, do not overlap, and in a `SpaceState` do not touch each other or the
//!   end of the file.

use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};
use crate::types::{BlockAddr, CheckpointSeq, Extent};

use super::format::data_start;

/// The space of a table's file as its newest checkpoint leaves it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SpaceState {
    /// Bytes of the file that belong to the state; what the file holds beyond is garbage.
    pub size: u64,
    /// The bytes that nothing retained reaches: ranges in order, merged.
    pub available: Vec<Extent>,
}

impl SpaceState {
    /// The state of a file with nothing but its header.
    #[must_use]
    pub const fn empty(unit: u32) -> Self {
        Self { size: data_start(unit), available: Vec::new() }
    }

    /// A state whose bytes in `available`, ranges below `end` in any order, are available. Available bytes at the end
    /// are cut off.
    ///
    /// # Panics
    /// When two of the ranges overlap.
    #[must_use]
    pub fn new(end: u64, mut available: Vec<Extent>) -> Self {
        available.sort_unstable();
        available.dedup_by(|e, before| {
            assert!(before.end() <= e.offset, "B2: the bytes at {} are available twice", e.offset);
            let touch = before.end() == e.offset;
            before.len += if touch { e.len } else { 0 };
            touch
        });
        let mut state = Self { size: end, available };
        while let Some(last) = state.available.pop_if(|last| last.end() == state.size) {
            state.size = last.offset;
        }
        state
    }

    /// Adds ranges that dropped checkpoints no longer need.
    ///
    /// # Panics
    /// When a byte of them is available already.
    pub fn free(&mut self, ranges: &[Extent]) {
        if !ranges.is_empty() {
            let mut available = std::mem::take(&mut self.available);
            available.extend_from_slice(ranges);
            *self = Self::new(self.size, available);
        }
    }

    /// How many bytes are available.
    #[must_use]
    pub fn available_bytes(&self) -> u64 {
        self.available.iter().map(|e| e.len).sum()
    }

    /// Appends the stored form: the size, then the number of ranges, then for each the gap before it and its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.size);
        out.put_varint(self.available.len() as u64);
        let mut at = 0;
        for e in &self.available {
            out.put_varint(e.offset - at);
            out.put_varint(e.len);
            at = e.end();
        }
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// `Corrupt` for anything that [`SpaceState::encode`] does not write (D1).
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let size = r.varint()?;
        let count = count(r, 2)?;
        let mut available = Vec::with_capacity(count);
        let mut at = 0;
        for i in 0..count {
            let e = next_range(r, at)?;
            if (i > 0 && e.offset == at) || e.end() >= size {
                return Err(Error::corrupt(format!("available bytes {}..{} out of order", e.offset, e.end())));
            }
            at = e.end();
            available.push(e);
        }
        Ok(Self { size, available })
    }

    /// Checks that the state fits a file with this allocation unit.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn check(&self, unit: u32) -> Result<()> {
        let (unit, start) = (u64::from(unit), data_start(unit));
        let block = |e: &&Extent| e.offset.is_multiple_of(unit) && e.len.is_multiple_of(unit) && e.offset >= start;
        if self.size < start || !self.size.is_multiple_of(unit) || self.size > i64::MAX as u64 {
            return Err(Error::corrupt(format!("{} bytes cannot be the size of a table file", self.size)));
        }
        match self.available.iter().find(|e| !block(e)) {
            None => Ok(()),
            Some(e) => Err(Error::corrupt(format!("available bytes {}..{} are no blocks", e.offset, e.end()))),
        }
    }
}

/// A block that the live tree gave up while a retained checkpoint still needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dead {
    /// Where the block is.
    pub extent: Extent,
    /// The checkpoint for which it was written.
    pub birth: CheckpointSeq,
}

impl From<BlockAddr> for Dead {
    fn from(addr: BlockAddr) -> Self {
        Self { extent: addr.extent(), birth: addr.birth }
    }
}

/// The blocks given up in one interval between two retained checkpoints, by offset.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DeadList {
    entries: Vec<Dead>,
}

impl DeadList {
    /// The list of these blocks, in any order.
    ///
    /// # Panics
    /// When two of them overlap: a block was given up twice.
    #[must_use]
    pub fn new(mut entries: Vec<Dead>) -> Self {
        entries.sort_unstable();
        for pair in entries.windows(2) {
            let [a, b] = [pair[0].extent, pair[1].extent];
            assert!(a.end() <= b.offset, "B2: the block at {} was given up twice", b.offset);
        }
        Self { entries }
    }

    /// The blocks by offset.
    #[must_use]
    pub fn entries(&self) -> &[Dead] {
        &self.entries
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that the blocks take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|d| d.extent.len).sum()
    }

    /// Bytes of the blocks that were born after `seq`; of all without one.
    #[must_use]
    pub fn bytes_born_after(&self, seq: Option<CheckpointSeq>) -> u64 {
        self.entries.iter().filter(|d| seq.is_none_or(|seq| d.birth > seq)).map(|d| d.extent.len).sum()
    }

    /// Appends the stored form: the number of blocks, then for each the gap before it, its length and its birth.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.entries.len() as u64);
        let mut at = 0;
        for d in &self.entries {
            out.put_varint(d.extent.offset - at);
            out.put_varint(d.extent.len);
            // The minor part of a birth is nearly always zero: rotated to the top it costs nothing.
            out.put_varint(d.birth.to_raw().rotate_right(20));
            at = d.extent.end();
        }
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// `Corrupt` for anything that [`DeadList::encode`] does not write (D1).
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let count = count(r, 3)?;
        let mut entries = Vec::with_capacity(count);
        let mut at = 0;
        for _ in 0..count {
            let extent = next_range(r, at)?;
            entries.push(Dead { extent, birth: CheckpointSeq::from_raw(r.varint()?.rotate_left(20)) });
            at = extent.end();
        }
        Ok(Self { entries })
    }
}

/// A count of entries of at least `least` bytes each, checked against what is left before anyone allocates.
fn count(r: &mut Reader<'_>, least: usize) -> Result<usize> {
    let count = r.varint()?;
    usize::try_from(count).ok().filter(|n| *n <= r.remaining() / least).ok_or_else(|| {
        Error::corrupt(format!("a list says it has {count} entries, but only {} bytes follow", r.remaining()))
    })
}

/// A range given as gap after `at` and length; not empty, and within what an offset in a file can be.
fn next_range(r: &mut Reader<'_>, at: u64) -> Result<Extent> {
    let (gap, len) = (r.varint()?, r.varint()?);
    let offset = at.checked_add(gap);
    let end = offset.and_then(|o| o.checked_add(len)).filter(|end| *end <= i64::MAX as u64);
    match (offset, end) {
        (Some(offset), Some(_)) if len > 0 => Ok(Extent { offset, len }),
        _ => Err(Error::corrupt(format!("a range of {len} bytes, {gap} after byte {at}, is none of a file"))),
    }
}

/// Drops a checkpoint: of the blocks given up in the interval after it, those born after its predecessor were reached by
/// it alone and are returned; the others, and its own dead blocks, are from now on its successor's.
///
/// `pred` is the retained checkpoint before the dropped one, `own` the dropped one's dead list, `succ` the dead list of
/// the retained checkpoint after it.
pub fn drop_entry(pred: Option<CheckpointSeq>, own: DeadList, succ: &mut DeadList) -> Vec<Extent> {
    let older = |d: &Dead| pred.is_some_and(|p| d.birth <= p);
    let (mut kept, free): (Vec<Dead>, Vec<Dead>) = std::mem::take(&mut succ.entries).into_iter().partition(older);
    kept.extend(own.entries);
    *succ = DeadList::new(kept);
    free.into_iter().map(|d| d.extent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead(offset: u64, birth: u64) -> Dead {
        Dead { extent: Extent { offset, len: 10 }, birth: CheckpointSeq::major(birth) }
    }

    #[test]
    fn dropping_frees_what_it_alone_reached() {
        // Retained: 2, 4, 6. Dropping 4 frees what was born in (2, 4] and given up in (4, 6].
        let own = DeadList::new(vec![dead(100, 1)]);
        let mut succ = DeadList::new(vec![dead(0, 2), dead(50, 3), dead(20, 4)]);
        let free = drop_entry(Some(CheckpointSeq::major(2)), own.clone(), &mut succ);
        assert_eq!(free.iter().map(|e| e.offset).collect::<Vec<_>>(), [20, 50]);
        assert_eq!(succ, DeadList::new(vec![dead(0, 2), dead(100, 1)]));
        // Dropping the first: everything given up after it goes.
        assert_eq!(drop_entry(None, DeadList::default(), &mut succ).len(), 2);
        assert!(succ.is_empty());
    }

    #[test]
    #[should_panic(expected = "given up twice")]
    fn giving_up_twice_is_seen() {
        let _ = DeadList::new(vec![dead(0, 2), dead(5, 3)]);
    }

    #[test]
    fn available_bytes_at_the_end_are_cut_off() {
        let e = |offset, len| Extent { offset, len };
        let mut state = SpaceState::new(1000, vec![e(900, 100), e(500, 10)]);
        assert_eq!(state, SpaceState { size: 900, available: vec![e(500, 10)] });
        state.free(&[e(510, 390)]);
        assert_eq!(state, SpaceState { size: 500, available: vec![] });
    }

    #[test]
    fn states_that_fit_no_file_are_refused() {
        let e = |offset, len| Extent { offset, len };
        assert!(SpaceState::empty(4096).check(4096).is_ok());
        assert!(SpaceState { size: 8192, available: vec![e(4096, 512)] }.check(512).is_ok());
        assert!(SpaceState { size: 8192, available: vec![e(4096, 512)] }.check(4096).is_err());
        assert!(SpaceState { size: 8192, available: vec![e(512, 512)] }.check(512).is_err());
        assert!(SpaceState { size: 0, available: vec![] }.check(512).is_err());
        assert!(SpaceState { size: 1 << 63, available: vec![] }.check(512).is_err());
    }

    quickcheck::quickcheck! {
        fn state_round_trip(gaps: Vec<(u16, u16)>) -> bool {
            let mut ranges = Vec::new();
            let mut at = 0;
            for (gap, len) in gaps {
                let e = Extent { offset: at + 1 + u64::from(gap), len: 1 + u64::from(len) };
                at = e.end();
                ranges.push(e);
            }
            let state = SpaceState::new(at + 1, ranges);
            let mut out = Vec::new();
            state.encode(&mut out);
            let mut r = Reader::new(&out);
            SpaceState::decode(&mut r).unwrap() == state && r.remaining() == 0
        }

        fn dead_round_trip(births: Vec<u64>) -> bool {
            let entries = births.iter().enumerate().map(|(i, b)| Dead {
                extent: Extent { offset: i as u64 * 512, len: 512 },
                birth: CheckpointSeq::from_raw(*b),
            });
            let list = DeadList::new(entries.collect());
            let mut out = Vec::new();
            list.encode(&mut out);
            let mut r = Reader::new(&out);
            DeadList::decode(&mut r).unwrap() == list && r.remaining() == 0
        }

        /// Covers: D1. Whatever decodes encodes to the same bytes again; nothing panics.
        fn arbitrary_bytes(bytes: Vec<u8>) -> bool {
            let mut r = Reader::new(&bytes);
            let mut out = Vec::new();
            let state = SpaceState::decode(&mut r).is_ok_and(|s| { s.encode(&mut out); true });
            assert!(!state || out == bytes[..r.position()]);
            let mut r = Reader::new(&bytes);
            out.clear();
            let list = DeadList::decode(&mut r).is_ok_and(|l| { l.encode(&mut out); true });
            !list || out == bytes[..r.position()]
        }
    }

    #[test]
    fn a_huge_count_allocates_nothing() {
        let mut bytes = Vec::new();
        bytes.put_varint(1 << 60);
        bytes.put_varint(1 << 60);
        assert!(SpaceState::decode(&mut Reader::new(&bytes)).is_err());
        assert!(DeadList::decode(&mut Reader::new(&bytes)).is_err());
    }
}
