//! The committed versions of a leaf that its image does not hold yet.
//!
//! Versions are entries of fixed size, sorted by key and newest first within a key, over an arena of bytes. A search compares
//! the first eight bytes of keys after what all keys of the leaf share; a filter of 64 bits lets most readers of a leaf with
//! few versions pass without a search.
//!
//! Adding a version drops those of its key that no snapshot needs: of two neighbours the older is needed only if a snapshot
//! lies at or above it and below the newer (T3). The bytes of dropped versions stay in the arena until the leaf is folded.

use std::ops::Range;

use crate::page::{CellValue, head64};
use crate::types::CommitSeq;

/// What a version says about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// The key is gone.
    Delete,
    /// The key has this value.
    Put(CellValue<'a>),
}

const DELETE: u32 = 0;
const INLINE: u32 = 1;
const OVERFLOW: u32 = 2;

/// One version. The key of further versions of a key is not stored again.
#[derive(Clone, Copy, Debug)]
struct Entry {
    head: u64,
    seq: u64,
    key_at: u32,
    key_len: u32,
    value_at: u32,
    /// Length times four, and what it is.
    value: u32,
}

impl Entry {
    /// True for two versions of one key: they share its place.
    fn same_key(&self, other: &Self) -> bool {
        (self.key_at, self.key_len) == (other.key_at, other.key_len)
    }
}

/// The versions of one leaf.
#[derive(Debug, Default)]
pub(super) struct Versions {
    entries: Vec<Entry>,
    arena: Vec<u8>,
    filter: u64,
    /// Bytes that all keys of the leaf share, left out of the heads.
    skip: usize,
    max_seq: u64,
    overflow: bool,
}

fn filter_bit(head: u64) -> u64 {
    1 << (head.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}

impl Versions {
    /// No versions, of a leaf whose keys share their first `skip` bytes.
    pub fn new(skip: usize) -> Self {
        Self { skip, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that all keys of the leaf share.
    pub fn skip(&self) -> usize {
        self.skip
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The newest commit that has a version here.
    pub fn max_seq(&self) -> CommitSeq {
        CommitSeq(self.max_seq)
    }

    /// True when some version may refer to overflow blocks.
    pub fn has_overflow(&self) -> bool {
        self.overflow
    }

    /// Bytes of keys and values, dropped ones included.
    pub fn arena_len(&self) -> usize {
        self.arena.len()
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        self.arena.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    pub fn key(&self, i: usize) -> &[u8] {
        let e = &self.entries[i];
        &self.arena[e.key_at as usize..(e.key_at + e.key_len) as usize]
    }

    pub fn seq(&self, i: usize) -> CommitSeq {
        CommitSeq(self.entries[i].seq)
    }

    pub fn change(&self, i: usize) -> Change<'_> {
        let e = &self.entries[i];
        let bytes = &self.arena[e.value_at as usize..(e.value_at + (e.value >> 2)) as usize];
        match e.value & 3 {
            DELETE => Change::Delete,
            INLINE => Change::Put(CellValue::Inline(bytes)),
            _ => Change::Put(CellValue::Overflow(bytes)),
        }
    }

    /// Bytes that entry `i` is charged when a leaf is cut: its value and bookkeeping.
    pub fn entry_size(&self, i: usize) -> usize {
        size_of::<Entry>() + (self.entries[i].value >> 2) as usize
    }

    /// The entries of the key that entry `start` is the first of.
    pub fn group(&self, start: usize) -> Range<usize> {
        let len = self.entries[start..].iter().take_while(|e| e.same_key(&self.entries[start])).count();
        start..start + len
    }

    /// The first entry with a key at or above `key`, and whether it has that key.
    fn find(&self, key: &[u8], head: u64) -> (usize, bool) {
        let mut at = self.entries.partition_point(|e| e.head < head);
        let same = self.entries[at..].partition_point(|e| e.head == head);
        if same == 0 {
            return (at, false);
        }
        let rest = &self.entries[at..at + same];
        at += rest.partition_point(|e| self.arena[e.key_at as usize..(e.key_at + e.key_len) as usize] < *key);
        (at, at < self.len() && self.entries[at].head == head && self.key(at) == key)
    }

    fn head(&self, key: &[u8]) -> u64 {
        head64(key.get(self.skip..).unwrap_or_default())
    }

    /// The first entry, hence the newest version, of a key.
    pub fn first_of(&self, key: &[u8]) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let head = self.head(key);
        if self.filter & filter_bit(head) == 0 {
            return None;
        }
        let (at, found) = self.find(key, head);
        found.then_some(at)
    }

    /// What a snapshot sees of a key, if one of its versions is visible.
    #[inline]
    pub fn visible(&self, key: &[u8], snapshot: CommitSeq) -> Option<Change<'_>> {
        let first = self.first_of(key)?;
        self.visible_in(self.group(first), snapshot).map(|i| self.change(i))
    }

    /// The newest entry of a group that a snapshot sees.
    pub fn visible_in(&self, group: Range<usize>, snapshot: CommitSeq) -> Option<usize> {
        group.into_iter().find(|&i| self.entries[i].seq <= snapshot.0)
    }

    fn store(&mut self, bytes: &[u8]) -> u32 {
        let at = u32::try_from(self.arena.len()).expect("the versions of one leaf take less than 4 GiB");
        self.arena.extend_from_slice(bytes);
        at
    }

    fn entry(&mut self, key: &[u8], known: Option<(u32, u32)>, change: Change<'_>, seq: CommitSeq) -> Entry {
        let head = self.head(key);
        let (key_at, key_len) = known.unwrap_or_else(|| (self.store(key), key.len() as u32));
        let (bytes, kind) = match change {
            Change::Delete => (&[][..], DELETE),
            Change::Put(CellValue::Inline(bytes)) => (bytes, INLINE),
            Change::Put(CellValue::Overflow(bytes)) => (bytes, OVERFLOW),
        };
        self.overflow |= kind == OVERFLOW;
        self.filter |= filter_bit(head);
        self.max_seq = self.max_seq.max(seq.0);
        let value_at = self.store(bytes);
        Entry { head, seq: seq.0, key_at, key_len, value_at, value: (bytes.len() as u32) << 2 | kind }
    }

    /// Appends a version whose key is at or above all others, and older than those of its key.
    pub fn append(&mut self, key: &[u8], change: Change<'_>, seq: CommitSeq) {
        let known = match self.entries.last() {
            Some(e) if self.key(self.len() - 1) == key => Some((e.key_at, e.key_len)),
            _ => None,
        };
        let entry = self.entry(key, known, change, seq);
        self.entries.push(entry);
    }

    /// Appends versions whose keys are above all others.
    pub fn extend(&mut self, other: &Self) {
        for i in 0..other.len() {
            self.append(other.key(i), other.change(i), other.seq(i));
        }
    }

    /// Makes room for what a commit is about to insert.
    pub fn reserve(&mut self, entries: usize, bytes: usize) {
        if entries > 4 {
            self.entries.reserve(entries);
            self.arena.reserve(bytes);
        } else if self.entries.capacity() - self.len() < entries {
            self.entries.reserve_exact(entries.max(8));
        }
    }

    /// Adds the newest version of a key. `active` are the snapshots in use, ascending; the stored references of versions
    /// that nobody needs any more are handed to `dropped`. Returns where the entry stands.
    pub fn insert(
        &mut self,
        key: &[u8],
        change: Change<'_>,
        seq: CommitSeq,
        active: &[CommitSeq],
        dropped: &mut dyn FnMut(&[u8]),
    ) {
        let head = self.head(key);
        let last = self.len().checked_sub(1);
        let (at, found) = match last {
            None => (0, false),
            Some(last) if (self.entries[last].head, self.key(last)) < (head, key) => (last + 1, false),
            Some(_) => self.find(key, head),
        };
        let known = found.then(|| (self.entries[at].key_at, self.entries[at].key_len));
        let entry = self.entry(key, known, change, seq);
        self.entries.insert(at, entry);
        if found {
            self.trim(at, active, dropped);
        }
    }

    /// Drops the versions of the group at `start` that no snapshot needs. The newest always stays.
    fn trim(&mut self, start: usize, active: &[CommitSeq], dropped: &mut dyn FnMut(&[u8])) {
        let mut newer = self.entries[start].seq;
        let mut at = start + 1;
        while at < self.len() && self.entries[at].same_key(&self.entries[start]) {
            let seq = self.entries[at].seq;
            let reader = active.partition_point(|r| r.0 < seq);
            if active.get(reader).is_some_and(|r| r.0 < newer) {
                newer = seq;
                at += 1;
                continue;
            }
            if let Change::Put(CellValue::Overflow(reference)) = self.change(at) {
                dropped(reference);
            }
            self.entries.remove(at);
        }
    }

    /// How many versions are at or below a commit.
    pub fn count_upto(&self, seq: CommitSeq) -> usize {
        if self.max_seq <= seq.0 { self.len() } else { self.entries.iter().filter(|e| e.seq <= seq.0).count() }
    }

    /// The same versions for a leaf whose keys share their first `skip` bytes.
    pub fn with_skip(mut self, skip: usize) -> Self {
        if self.skip == skip {
            return self;
        }
        let mut out = Self::new(skip);
        for i in 0..self.len() {
            out.append(self.key(i), self.change(i), self.seq(i));
        }
        self.entries.clear();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seqs(of: &Versions) -> Vec<u64> {
        (0..of.len()).map(|i| of.seq(i).0).collect()
    }

    /// Covers: T3.
    #[test]
    fn versions_between_readers_go() {
        let mut v = Versions::new(1);
        let put = |v: &mut Versions, seq, active: &[u64]| {
            let active: Vec<_> = active.iter().copied().map(CommitSeq).collect();
            v.insert(b"key", Change::Put(CellValue::Inline(b"x")), CommitSeq(seq), &active, &mut |_| ());
        };
        put(&mut v, 1, &[0]);
        put(&mut v, 2, &[1]);
        put(&mut v, 3, &[2]);
        assert_eq!(seqs(&v), [3, 2], "1 is needed by nobody");
        put(&mut v, 4, &[2, 3]);
        assert_eq!(seqs(&v), [4, 3, 2], "2 has a reader");
        put(&mut v, 5, &[2, 4]);
        assert_eq!(seqs(&v), [5, 4, 2]);
        put(&mut v, 6, &[5]);
        assert_eq!(seqs(&v), [6, 5]);
        assert_eq!(v.visible(b"key", CommitSeq(5)), Some(Change::Put(CellValue::Inline(b"x"))));
        assert_eq!(v.visible(b"key", CommitSeq(4)), None);
        assert_eq!(v.visible(b"kez", CommitSeq(9)), None);
    }

    quickcheck::quickcheck! {
        fn finds_what_was_inserted(keys: Vec<Vec<u8>>, probe: Vec<u8>) -> bool {
            let mut v = Versions::new(0);
            let mut model = std::collections::BTreeMap::new();
            for (i, key) in keys.iter().enumerate() {
                let seq = CommitSeq(i as u64 + 1);
                v.insert(key, Change::Delete, seq, &[], &mut |_| ());
                model.insert(key.clone(), seq);
            }
            v.len() == model.len()
                && model.iter().enumerate().all(|(i, (k, s))| v.first_of(k) == Some(i) && v.seq(i) == *s)
                && v.first_of(&probe).is_some() == model.contains_key(&probe)
        }
    }
}
