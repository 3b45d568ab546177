//! The gate between those who change the live tree and the checkpoint, and the checkpoint numbers that it guards.
//!
//! Every block carries the number of the checkpoint it was written for. At any moment one number is *live*: what commits
//! and evictions write now will first be part of that checkpoint. While a checkpoint runs there is a second number, its
//! own, below the live one. Whoever writes or gives up blocks for the live tree stays *entered* from the moment it reads the
//! live number until all it wrote is part of the tree; beginning a checkpoint waits for all who are entered, moves the
//! numbers, and lets them in again. It does no I/O in between, so a commit waits for a checkpoint only as long as the
//! commits that were under way take.
//!
//! Invariants: the pair (checkpoint, its snapshot) and the live number change only while nobody is entered, so both are
//! constant for whoever is (C3: a commit is wholly before the checkpoint's snapshot, or wholly after it).

use parking_lot::{RwLock, RwLockReadGuard};

use crate::sync::racy::{AtomicU64, Ordering};
use crate::types::{CheckpointSeq, CommitSeq};

/// The gate, the live number, and the checkpoint in progress.
#[derive(Debug)]
pub struct Epoch {
    gate: RwLock<()>,
    live: AtomicU64,
    /// The checkpoint in progress; 0 when none is.
    running: AtomicU64,
    snapshot: AtomicU64,
}

/// The right to change the live tree. Held for one operation, never twice by one thread.
#[derive(Debug)]
pub struct Entered<'a> {
    _gate: RwLockReadGuard<'a, ()>,
}

impl Epoch {
    /// No checkpoint in progress; new blocks are born `live`.
    #[must_use]
    pub fn new(live: CheckpointSeq) -> Self {
        Self {
            gate: RwLock::new(()),
            live: AtomicU64::new(live.to_raw()),
            running: AtomicU64::new(0),
            snapshot: AtomicU64::new(0),
        }
    }

    /// Waits until no checkpoint is just beginning, then enters.
    pub fn enter(&self) -> Entered<'_> {
        Entered { _gate: self.gate.read() }
    }

    /// Enters unless a checkpoint is just beginning or ending. Never waits, so a thread that has entered already may try.
    pub fn try_enter(&self) -> Option<Entered<'_>> {
        self.gate.try_read().map(|gate| Entered { _gate: gate })
    }

    /// The number that blocks written now are born under.
    pub fn live(&self) -> CheckpointSeq {
        CheckpointSeq::from_raw(self.live.load(Ordering::Acquire))
    }

    /// The checkpoint in progress and the snapshot that it stores.
    pub fn running(&self) -> Option<(CheckpointSeq, CommitSeq)> {
        match self.running.load(Ordering::Acquire) {
            0 => None,
            raw => Some((CheckpointSeq::from_raw(raw), CommitSeq(self.snapshot.load(Ordering::Acquire)))),
        }
    }

    /// Begins the checkpoint with the live number; the next number for a checkpoint of the whole database becomes live.
    /// `snapshot` is called while nobody is entered. Returns the checkpoint's number and snapshot.
    pub fn begin(&self, snapshot: impl FnOnce() -> CommitSeq) -> (CheckpointSeq, CommitSeq) {
        let gate = self.gate.write();
        let number = self.live();
        let snapshot = self.move_numbers(number, number.next_major(), snapshot);
        drop(gate);
        (number, snapshot)
    }

    /// Makes `live` the live number, for a tree that writes blocks for a checkpoint before that begins (the catalog's).
    ///
    /// # Panics
    /// When `live` is below the live number.
    pub fn set_live(&self, live: CheckpointSeq) {
        let _gate = self.gate.write();
        assert!(live >= self.live(), "checkpoint numbers only grow");
        self.live.store(live.to_raw(), Ordering::Release);
    }

    /// Begins checkpoint `number` and makes `next` live, for a tree whose numbers do not simply count up (the catalog's).
    ///
    /// # Panics
    /// When `number` is below the live number or `next` is not above `number`: blocks would be born out of order.
    pub fn begin_as(
        &self,
        number: CheckpointSeq,
        next: CheckpointSeq,
        snapshot: impl FnOnce() -> CommitSeq,
    ) -> CommitSeq {
        let _gate = self.gate.write();
        assert!(number >= self.live() && next > number, "checkpoint numbers only grow");
        self.move_numbers(number, next, snapshot)
    }

    fn move_numbers(
        &self,
        number: CheckpointSeq,
        next: CheckpointSeq,
        snapshot: impl FnOnce() -> CommitSeq,
    ) -> CommitSeq {
        assert!(self.running().is_none(), "one checkpoint at a time");
        let snapshot = snapshot();
        self.snapshot.store(snapshot.0, Ordering::Release);
        self.running.store(number.to_raw(), Ordering::Release);
        self.live.store(next.to_raw(), Ordering::Release);
        snapshot
    }

    /// Ends the checkpoint in progress, whether it was completed or abandoned.
    pub fn finish(&self) {
        let _gate = self.gate.write();
        self.running.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_move_only_while_nobody_is_entered() {
        let epoch = Epoch::new(CheckpointSeq::major(3));
        let (number, snapshot) = epoch.begin(|| CommitSeq(9));
        assert_eq!((number, snapshot), (CheckpointSeq::major(3), CommitSeq(9)));
        assert_eq!(epoch.live(), CheckpointSeq::major(4));
        assert_eq!(epoch.running(), Some((number, snapshot)));
        let entered = epoch.enter();
        assert!(epoch.gate.try_write().is_none());
        drop(entered);
        epoch.finish();
        assert_eq!(epoch.running(), None);
        let minor = CheckpointSeq::major(4).next_minor().unwrap();
        epoch.begin_as(minor, minor.next_minor().unwrap(), || CommitSeq(10));
        assert_eq!(epoch.running(), Some((minor, CommitSeq(10))));
    }
}
