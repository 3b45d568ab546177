//! The accounting of a file's bytes in memory, between two checkpoints and while one runs.
//!
//! # What is kept
//! Time is cut into *intervals*, each ending with a checkpoint. One interval is live; while a checkpoint is being
//! written, the interval it ends is still open too, because the checkpoint goes on writing and giving up blocks while
//! commits work for the next. An interval knows the blocks born in it (`fresh`) and those given up in it that an older
//! checkpoint needs (`dead`). Beside them stand the ranges that may be taken (`available`) and those that must rest a
//! while (`pending`): a dropped checkpoint no longer needs them, but a slot of the root record may still name it; or a
//! write into them failed in a way that lets it reach the disk later.
//!
//! # Giving a block up
//! Let the state that interval *i* will become be without the block. The checkpoint before *i* reaches the block iff it
//! was born by then. If it was not, nobody ever will: the bytes are free at once. If it was, the block is dead, and
//! dropping checkpoints will free it in time.
//!
//! # What a checkpoint stores
//! When checkpoint N is about to become true, its available bytes are everything that N and the older ones do not reach:
//! the ranges that may be taken, the pending ones, the blocks born in the interval after N (written meanwhile for commits
//! that N does not hold), and freed blocks that a reader in memory still holds. Asking for that decides nothing; the
//! checkpoint becomes the newest only with [`Space::complete`], so one that fails half-way needs no undo.
//!
//! # Checkpoints that pass by
//! A table without changes takes no part in a checkpoint, and its store is not told. So intervals roll on by themselves:
//! the first block born or given up under a higher number opens the next interval. An interval that never became a
//! checkpoint (nothing in it was reachable, or the
//! device was full) is folded into the next.
//!
//! # Invariants
//! - B1: `take` hands out only bytes that no retained checkpoint and no root record that may be on disk reaches.
//! - B3: `pending` moves to `available` only when the caller says that both slots are durable.
//! - S1: a held block is not handed out before its last hold is gone, whatever the lists say.

use std::collections::BTreeMap;

use crate::types::{BlockAddr, CheckpointSeq, Extent};

use super::extents::ExtentSet;
use super::lists::{Dead, DeadList, SpaceState};

/// What a finished checkpoint has to store about a table's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Size and available bytes.
    pub state: SpaceState,
    /// The blocks given up in the interval that the checkpoint ends, and still reached by an older one.
    pub dead: DeadList,
}

/// One interval of time, ending with checkpoint `seq`.
#[derive(Debug, Default)]
struct Interval {
    seq: CheckpointSeq,
    /// The bytes born in it and not given up in it.
    fresh: ExtentSet,
    dead: Vec<Dead>,
}

impl Interval {
    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.dead.is_empty()
    }
}

/// The least number above.
const fn above(seq: CheckpointSeq) -> CheckpointSeq {
    CheckpointSeq::from_raw(seq.to_raw() + 1)
}

/// A block that readers in memory may still read.
#[derive(Debug)]
struct Held {
    len: u64,
    holds: u32,
    /// The lists are done with it: it becomes available with the last hold.
    free: bool,
}

/// The accounting of one file.
#[derive(Debug)]
pub struct Space {
    /// The newest complete checkpoint: no block born later is reached by a retained one.
    newest: CheckpointSeq,
    /// The first byte that was never taken.
    end: u64,
    available: ExtentSet,
    pending: ExtentSet,
    live: Interval,
    /// The interval whose checkpoint is being written.
    ending: Option<Interval>,
    /// Numbers up to this one that are not complete never will be.
    abandoned: CheckpointSeq,
    held: BTreeMap<u64, Held>,
}

impl Space {
    /// The accounting after the newest complete checkpoint left `state`; `live` is above the births of all its blocks.
    pub fn new(state: SpaceState, live: CheckpointSeq) -> Self {
        let newest = CheckpointSeq::from_raw(live.to_raw().saturating_sub(1));
        Self {
            newest,
            end: state.size,
            available: state.available.into_iter().collect(),
            pending: ExtentSet::new(),
            live: Interval { seq: live, ..Interval::default() },
            ending: None,
            abandoned: newest,
            held: BTreeMap::new(),
        }
    }

    /// The first byte that was never taken.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that may be taken, and bytes that may be soon.
    pub const fn free_bytes(&self) -> (u64, u64) {
        (self.available.bytes(), self.pending.bytes())
    }

    /// Takes `len` bytes for a block of this birth.
    pub fn take(&mut self, len: u64, birth: CheckpointSeq) -> Extent {
        let e = self.available.take(len).unwrap_or_else(|| self.extend(len));
        self.interval(birth).fresh.add(e);
        e
    }

    /// `len` bytes at the end of the file, beginning with the available ones there.
    fn extend(&mut self, len: u64) -> Extent {
        let last = self.available.iter().next_back();
        let offset = match last {
            Some(last) if last.end() == self.end => {
                self.available.remove(last);
                last.offset
            }
            _ => self.end,
        };
        self.end = offset + len;
        Extent { offset, len }
    }

    /// The write into bytes just taken failed. With `clean`, nothing of it can reach the disk later.
    pub fn untake(&mut self, e: Extent, birth: CheckpointSeq, clean: bool) {
        self.interval(birth).fresh.remove(e);
        if clean { self.free(e) } else { self.pending.add(e) }
    }

    /// The state that checkpoint `at` will hold does not reach the block.
    pub fn give_up(&mut self, addr: BlockAddr, at: CheckpointSeq) {
        let _ = self.interval(at); // opens it, if it is the first that happens in it
        let before = match &self.ending {
            Some(ending) if ending.seq != at => ending.seq,
            _ => self.newest,
        };
        let interval = self.interval(at);
        if addr.birth > before {
            interval.fresh.remove(addr.extent());
            self.free(addr.extent());
        } else {
            interval.dead.push(addr.into());
        }
    }

    /// Keeps the block's bytes from being taken until as many [`Space::release`] came.
    pub fn hold(&mut self, addr: BlockAddr) {
        let len = u64::from(addr.size);
        let held = self.held.entry(addr.offset).or_insert(Held { len, holds: 0, free: false });
        assert!(held.len == len && !held.free, "S1: the block at {} is held but gone", addr.offset);
        held.holds += 1;
    }

    /// Ends one hold.
    pub fn release(&mut self, addr: BlockAddr) {
        let held = self.held.get_mut(&addr.offset).expect("S1: a hold is released once");
        held.holds -= 1;
        if held.holds == 0 {
            let held = self.held.remove(&addr.offset).expect("it was just there");
            if held.free {
                self.available.add(addr.extent());
            }
        }
    }

    /// What checkpoint `seq`, in which the table takes part and all of whose blocks are written, has to store: where the
    /// file ends, the ranges that no checkpoint reaches, and the blocks that only older ones reach. Decides nothing.
    pub fn finish(&mut self, seq: CheckpointSeq) -> (u64, Vec<Extent>, Vec<Dead>) {
        self.end_interval(seq);
        let dead = self.ending.as_ref().map(|e| e.dead.clone()).unwrap_or_default();
        (self.end, self.unreached(), dead)
    }

    /// What a checkpoint that the table takes no part in has to store, if anything: the state as the newest complete one
    /// of the table leaves it.
    pub fn current(&self) -> (u64, Vec<Extent>) {
        let mut ranges = self.unreached();
        ranges.extend(self.ending.iter().flat_map(|e| e.fresh.iter()));
        (self.end, ranges)
    }

    /// The ranges that no checkpoint reaches, the one being written included.
    fn unreached(&self) -> Vec<Extent> {
        let held = self.held.iter().filter(|(_, h)| h.free).map(|(&offset, h)| Extent { offset, len: h.len });
        self.available.iter().chain(self.pending.iter()).chain(self.live.fresh.iter()).chain(held).collect()
    }

    /// Checkpoint `seq`, in which the table takes part, is about to be true.
    pub fn complete(&mut self, seq: CheckpointSeq) {
        self.end_interval(seq);
        self.ending = None;
        self.newest = seq;
        self.abandoned = self.abandoned.max(seq);
    }

    /// Checkpoint `seq` will never be: what was written for it belongs to the next.
    pub fn abandon(&mut self, seq: CheckpointSeq) {
        if seq <= self.newest {
            return;
        }
        let mut live = std::mem::take(&mut self.live);
        if self.ending.as_ref().is_some_and(|e| e.seq == seq) {
            self.fold_into(&mut live);
        }
        // The number to come may be higher; then this interval, too, will be folded into the one that gets it.
        live.seq = live.seq.max(above(seq));
        self.live = live;
        self.abandoned = self.abandoned.max(seq);
    }

    /// The root record to come does not need these bytes any more.
    pub fn retire(&mut self, ranges: &[Extent]) {
        for &e in ranges {
            assert!(!self.available.overlaps(e), "B2: the retired bytes at {} are available", e.offset);
            self.pending.add(e);
        }
    }

    /// No root record on disk needs the pending bytes (B3).
    pub fn release_pending(&mut self) {
        for e in std::mem::take(&mut self.pending).iter() {
            self.free(e);
        }
    }

    /// Makes bytes available, except those of held blocks (S1).
    fn free(&mut self, e: Extent) {
        let mut at = e.offset;
        for (&offset, held) in self.held.range_mut(e.offset..e.end()) {
            held.free = true;
            self.available.add(Extent { offset: at, len: offset - at });
            at = offset + held.len;
        }
        self.available.add(Extent { offset: at, len: e.end() - at });
    }

    /// The interval that ends with checkpoint `at`.
    fn interval(&mut self, at: CheckpointSeq) -> &mut Interval {
        assert!(at > self.newest, "S2: checkpoint {at} is complete, nothing can change for it");
        if at <= self.abandoned {
            return &mut self.live;
        }
        if at >= self.live.seq {
            self.roll(at);
            return &mut self.live;
        }
        if self.ending.as_ref().is_none_or(|e| e.seq != at) {
            // A commit opened the live interval before the checkpoint wrote its first block.
            let mut ending = Interval { seq: at, ..Interval::default() };
            self.fold_into(&mut ending);
            self.ending = Some(ending);
        }
        self.ending.as_mut().expect("it was just set")
    }

    /// Opens the interval that ends with `at`, unless it is open.
    fn roll(&mut self, at: CheckpointSeq) {
        if at > self.live.seq && !self.live.is_empty() {
            self.end_live();
        }
        self.live.seq = at;
    }

    /// The live interval becomes the ending one.
    fn end_live(&mut self) {
        let next = Interval { seq: above(self.live.seq), ..Interval::default() };
        let mut old = std::mem::replace(&mut self.live, next);
        self.fold_into(&mut old);
        self.ending = Some(old);
    }

    /// Makes the interval that ends with `seq` the ending one.
    fn end_interval(&mut self, seq: CheckpointSeq) {
        let _ = self.interval(seq);
        if self.live.seq == seq {
            self.end_live();
        }
    }

    /// Folds an ending interval that never became a checkpoint into the one after it.
    fn fold_into(&mut self, next: &mut Interval) {
        let Some(stale) = self.ending.take() else { return };
        self.abandoned = self.abandoned.max(stale.seq);
        next.fresh.extend(stale.fresh.iter());
        let newest = self.newest;
        next.dead.extend(stale.dead);
        for d in next.dead.extract_if(.., |d| d.birth > newest) {
            next.fresh.remove(d.extent);
            self.free(d.extent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Space {
        Space::new(SpaceState::empty(512), CheckpointSeq::major(1))
    }

    fn addr(e: Extent, birth: CheckpointSeq) -> BlockAddr {
        BlockAddr { offset: e.offset, size: e.len as u32, checksum: 0, birth }
    }

    fn seq(n: u64) -> CheckpointSeq {
        CheckpointSeq::major(n)
    }

    fn complete(s: &mut Space, n: u64) {
        s.finish(seq(n));
        s.complete(seq(n));
    }

    /// Covers: B1, B3.
    #[test]
    fn what_a_checkpoint_frees_is_taken_only_after_both_slots() {
        let mut s = space();
        let old = s.take(512, seq(1));
        complete(&mut s, 1);
        s.give_up(addr(old, seq(1)), seq(2));
        assert_ne!(s.take(512, seq(2)), old, "checkpoint 1 reaches it");
        assert_eq!(s.finish(seq(2)).2, [Dead { extent: old, birth: seq(1) }]);
        s.complete(seq(2));
        s.retire(&[old]);
        assert_ne!(s.take(512, seq(3)), old, "the second slot may still hold checkpoint 1");
        s.release_pending();
        assert_eq!(s.take(512, seq(3)), old);
    }

    #[test]
    fn blocks_of_the_next_interval_are_available_in_the_stored_state() {
        let mut s = space();
        let one = s.take(512, seq(1));
        let two = s.take(512, seq(2));
        let three = s.take(512, seq(1));
        assert_eq!(s.finish(seq(1)), (three.end(), vec![two], vec![]));
        s.give_up(addr(one, seq(1)), seq(2));
        assert_eq!(s.finish(seq(1)), (three.end(), vec![two], vec![]));
        s.complete(seq(1));
        let (_, free, dead) = s.finish(seq(2));
        assert_eq!((free, dead.len()), (vec![], 1));
    }

    #[test]
    fn a_checkpoint_that_passes_by_sees_the_last_state() {
        let mut s = space();
        let one = s.take(512, seq(1));
        complete(&mut s, 1);
        let two = s.take(512, seq(2));
        s.give_up(addr(one, seq(1)), seq(2));
        assert_eq!(s.current().1, [two]);
        let three = s.take(512, seq(3));
        assert_eq!(s.current().1, [three, two]);
        let (_, free, dead) = s.finish(seq(2));
        assert_eq!((free, dead.len()), (vec![three], 1));
    }

    /// Covers: S1.
    #[test]
    fn held_blocks_are_not_taken() {
        let mut s = space();
        let a = addr(s.take(512, seq(1)), seq(1));
        s.take(512, seq(1));
        s.hold(a);
        s.hold(a);
        s.give_up(a, seq(1));
        assert_eq!(s.free_bytes(), (0, 0));
        assert_eq!(s.current().1, [Extent { offset: 4608, len: 512 }, a.extent()]);
        s.release(a);
        assert_eq!(s.free_bytes(), (0, 0));
        s.release(a);
        assert_eq!(s.free_bytes(), (512, 0));
    }

    #[test]
    fn an_abandoned_checkpoint_belongs_to_the_next() {
        let mut s = space();
        let a = s.take(512, seq(1));
        let b = s.take(512, seq(1));
        s.take(512, seq(2));
        s.give_up(addr(a, seq(1)), seq(2));
        s.abandon(seq(1));
        assert_eq!(s.free_bytes(), (512, 0), "nobody will ever reach it");
        s.give_up(addr(b, seq(1)), seq(1));
        assert_eq!(s.free_bytes(), (1024, 0), "a late gift for the abandoned checkpoint");
        let (_, free, dead) = s.finish(seq(2));
        assert_eq!((free, dead), (vec![Extent { offset: a.offset, len: 1024 }], vec![]));
    }

    #[test]
    #[should_panic(expected = "S2")]
    fn nothing_changes_for_a_complete_checkpoint() {
        let mut s = space();
        complete(&mut s, 1);
        s.take(512, seq(1));
    }

    #[test]
    fn the_file_grows_from_its_available_end() {
        let mut s = space();
        let a = s.take(512, seq(1));
        s.untake(a, seq(1), true);
        assert_eq!(s.take(2048, seq(1)), Extent { offset: a.offset, len: 2048 });
        assert_eq!(s.end(), a.offset + 2048);
    }
}
