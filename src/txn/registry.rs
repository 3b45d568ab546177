//! Who reads at which commit.
//!
//! A snapshot is one number: it sees every commit up to and including it. The registry hands out the newest visible number
//! and remembers it until the reader is done, so that those who drop versions know what is still needed.
//!
//! Registration takes the number and announces it under one lock, so whoever asks for the active snapshots under the same
//! lock sees every reader that exists, and every later reader will see at least `visible`. Hence a version may go when a
//! newer version of its key is at or below the oldest active snapshot, where `visible` itself counts as active.
//!
//! T1: visible iff committed at or before the snapshot. T3: no version a permitted reader needs is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::sync::racy::{AtomicU64, Ordering};
use crate::types::CommitSeq;

/// The newest visible commit and the snapshots in use.
#[derive(Debug)]
pub struct TxnRegistry {
    visible: AtomicU64,
    /// Snapshots in use, each with the number of its readers.
    active: Mutex<BTreeMap<u64, usize>>,
}

impl TxnRegistry {
    /// Everything up to `visible` is committed; nobody reads yet.
    #[must_use]
    pub fn new(visible: CommitSeq) -> Self {
        Self { visible: AtomicU64::new(visible.0), active: Mutex::new(BTreeMap::new()) }
    }

    /// The newest visible commit.
    pub fn visible(&self) -> CommitSeq {
        CommitSeq(self.visible.load(Ordering::Acquire))
    }

    /// Makes all commits up to `seq` visible to readers that register from now on. With a log, whoever waited for the sync
    /// that made several commits durable may publish all of them; the others then find it done.
    pub fn publish(&self, seq: CommitSeq) {
        self.visible.fetch_max(seq.0, Ordering::AcqRel);
    }

    /// Takes a snapshot of what is visible and keeps it readable until the guard is dropped.
    pub fn register(self: &Arc<Self>) -> SnapshotGuard {
        let mut active = self.active.lock();
        let seq = self.visible();
        *active.entry(seq.0).or_insert(0) += 1;
        drop(active);
        SnapshotGuard { registry: Arc::clone(self), seq }
    }

    /// The oldest commit that some reader, present or future, takes for the newest.
    pub fn oldest(&self) -> CommitSeq {
        let active = self.active.lock();
        let visible = self.visible();
        active.first_key_value().map_or(visible, |(&seq, _)| CommitSeq(seq).min(visible))
    }

    /// All snapshots in use, ascending; `visible` is always among them.
    pub fn active(&self) -> Vec<CommitSeq> {
        let active = self.active.lock();
        let visible = self.visible();
        let mut all: Vec<_> = active.keys().map(|&seq| CommitSeq(seq)).collect();
        if all.last() != Some(&visible) {
            all.push(visible);
        }
        all
    }

    fn unregister(&self, seq: CommitSeq) {
        let mut active = self.active.lock();
        if let Some(readers) = active.get_mut(&seq.0) {
            *readers -= 1;
            if *readers == 0 {
                active.remove(&seq.0);
            }
        }
    }
}

/// A snapshot in use: what it sees is kept until the guard is dropped.
#[derive(Debug)]
pub struct SnapshotGuard {
    registry: Arc<TxnRegistry>,
    seq: CommitSeq,
}

impl SnapshotGuard {
    /// The newest commit that the snapshot sees.
    #[must_use]
    pub fn seq(&self) -> CommitSeq {
        self.seq
    }
}

impl Drop for SnapshotGuard {
    fn drop(&mut self) {
        self.registry.unregister(self.seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_reader_holds_the_horizon() {
        let registry = Arc::new(TxnRegistry::new(CommitSeq(5)));
        assert_eq!(registry.oldest(), CommitSeq(5));
        let first = registry.register();
        registry.publish(CommitSeq(6));
        let second = registry.register();
        let third = registry.register();
        registry.publish(CommitSeq(9));
        assert_eq!((first.seq(), second.seq()), (CommitSeq(5), CommitSeq(6)));
        assert_eq!(registry.oldest(), CommitSeq(5));
        assert_eq!(registry.active(), [CommitSeq(5), CommitSeq(6), CommitSeq(9)]);
        drop(first);
        drop(second);
        assert_eq!(registry.oldest(), CommitSeq(6));
        drop(third);
        assert_eq!(registry.active(), [CommitSeq(9)]);
    }
}
