//! Random histories, one thread: puts, deletes, snapshots, evictions, checkpoints that overlap commits, dropped and
//! abandoned checkpoints, failing reads and full devices, reopening.

use std::collections::BTreeMap;
use std::ops::Bound;

use std::io::ErrorKind;

use quickcheck::{Arbitrary, Gen, QuickCheck};
use strandline_vfs::Call;
use strandline_vfs::fault::Fault;

use crate::txn::SnapshotGuard;
use crate::types::{CheckpointSeq, CommitSeq};

use super::world::{Rows, World, tiny};

#[derive(Clone, Debug)]
enum Op {
    /// Keys, each with what is written.
    Commit(Vec<(u16, u8)>),
    /// A run of new keys.
    Load(u16, u8),
    /// The deletion of a run of keys.
    Clear(u16, u8),
    Snapshot,
    Release(u8),
    Look(u8, u16, u16),
    /// Begins a checkpoint, or stores the tree for the one begun, or completes it.
    Checkpoint,
    Abandon,
    Drop(u8),
    /// Soon some reads, or writes, fail.
    Fail(bool, u8, u8),
    Reopen,
}

impl Arbitrary for Op {
    fn arbitrary(g: &mut Gen) -> Self {
        let n = u8::arbitrary(g);
        match n {
            0..=110 => {
                let many = usize::from(u8::arbitrary(g)) % 12 + 1;
                Self::Commit((0..many).map(|_| Arbitrary::arbitrary(g)).collect())
            }
            111..=115 => Self::Load(u16::arbitrary(g), u8::arbitrary(g)),
            116..=120 => Self::Clear(u16::arbitrary(g), u8::arbitrary(g)),
            121..=140 => Self::Snapshot,
            141..=165 => Self::Release(u8::arbitrary(g)),
            166..=190 => Self::Look(u8::arbitrary(g), u16::arbitrary(g), u16::arbitrary(g)),
            191..=235 => Self::Checkpoint,
            236..=240 => Self::Abandon,
            241..=246 => Self::Drop(u8::arbitrary(g)),
            247..=252 => Self::Fail(bool::arbitrary(g), u8::arbitrary(g), u8::arbitrary(g)),
            _ => Self::Reopen,
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        match self {
            Self::Commit(writes) => Box::new(writes.shrink().filter(|writes| !writes.is_empty()).map(Self::Commit)),
            Self::Load(from, many) => {
                let from = *from;
                Box::new(many.shrink().map(move |many| Self::Load(from, many)))
            }
            _ => Box::new(std::iter::empty()),
        }
    }
}

fn key(n: u16) -> Vec<u8> {
    match n % 300 {
        0 => Vec::new(),
        n if n % 7 == 0 => vec![b'a' + (n % 26) as u8],
        n if n % 5 == 0 => format!("user{n:05}{}", "x".repeat(usize::from(n % 40))).into_bytes(),
        n => format!("user{n:05}").into_bytes(),
    }
}

fn value(n: u8, seq: u64) -> Option<Vec<u8>> {
    let len = match n {
        0..=70 => return None,
        71..=230 => usize::from(n % 40),
        _ => 60 + usize::from(n) * 13 % 300,
    };
    Some(seq.to_le_bytes().iter().copied().cycle().take(len).collect())
}

#[derive(Clone, Copy)]
enum Running {
    Begun(CheckpointSeq, CommitSeq),
    Stored(CheckpointSeq, CommitSeq, Option<Option<crate::btree::TreeRoot>>),
}

struct History {
    world: World,
    snapshots: Vec<SnapshotGuard>,
    running: Option<Running>,
    drop: Option<usize>,
}

impl History {
    fn new(cache: usize) -> Self {
        let world = World::new(tiny(), cache);
        Self { world, snapshots: Vec::new(), running: None, drop: None }
    }

    fn commit(&mut self, writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
        if let Err(e) = self.world.commit(&writes) {
            assert_eq!(e.kind(), crate::ErrorKind::Io);
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Commit(writes) => {
                let seq = self.world.registry.visible().0 + 1;
                self.commit(writes.iter().map(|&(k, v)| (key(k), value(v, seq))).collect());
            }
            Op::Load(from, many) => {
                let put = |i: u8| (key(from.wrapping_add(u16::from(i))), Some(vec![i; usize::from(i % 50)]));
                self.commit((0..*many).map(put).collect());
            }
            Op::Clear(from, many) => {
                self.commit((0..*many).map(|i| (key(from.wrapping_add(u16::from(i))), None)).collect());
            }
            Op::Snapshot => self.snapshots.push(self.world.snapshot()),
            Op::Release(n) if !self.snapshots.is_empty() => {
                self.snapshots.swap_remove(usize::from(*n) % self.snapshots.len());
            }
            Op::Release(_) => (),
            Op::Look(n, a, b) => self.look(*n, &key(*a), &key(*b)),
            Op::Checkpoint => self.step_checkpoint(),
            Op::Abandon => {
                if let Some(Running::Begun(seq, _) | Running::Stored(seq, ..)) = self.running.take() {
                    self.world.abandon(seq);
                }
            }
            Op::Drop(n) => self.drop = Some(usize::from(*n) % 4),
            Op::Fail(reads, after, times) => {
                let fault =
                    if *reads { Fault::on(Call::Read) } else { Fault::on(Call::Write).error(ErrorKind::StorageFull) };
                self.world.faults.inject(fault.after(u64::from(*after) % 30).times(u64::from(*times) % 10 + 1));
            }
            Op::Reopen => self.reopen(),
        }
    }

    fn step_checkpoint(&mut self) {
        let world = &self.world;
        self.running = match self.running.take() {
            None => {
                let (seq, snapshot) = world.epoch.begin(|| world.registry.visible());
                Some(Running::Begun(seq, snapshot))
            }
            Some(Running::Begun(seq, snapshot)) => match world.tree.checkpoint(seq, snapshot) {
                Ok(stored) => Some(Running::Stored(seq, snapshot, stored)),
                Err(e) => {
                    assert_eq!(e.kind(), crate::ErrorKind::Io);
                    world.abandon(seq);
                    None
                }
            },
            Some(Running::Stored(seq, snapshot, stored)) => {
                let rows = world.model.lock().at(snapshot);
                let drop = self.drop.take().or((world.catalog.lock().kept.len() > 4).then_some(0));
                world.complete(seq, stored, rows, drop);
                None
            }
        };
    }

    fn reopen(&mut self) {
        self.snapshots.clear();
        self.running = None;
        self.world.reopen();
    }

    fn look(&self, n: u8, a: &[u8], b: &[u8]) {
        self.world.faults.heal();
        let newest = self.world.snapshot();
        let snapshot = match self.snapshots.len() {
            0 => newest.seq(),
            len => self.snapshots[usize::from(n) % len].seq(),
        };
        let rows = self.world.model.lock().at(snapshot);
        let tree = &self.world.tree;
        for key in [a, b] {
            assert_eq!(tree.get(snapshot, key).unwrap().as_deref(), rows.get(key).map(Vec::as_slice));
            assert_eq!(tree.contains(snapshot, key).unwrap(), rows.contains_key(key));
            assert_eq!(tree.newer_than(snapshot, key), self.world.model.lock().newest(key) > snapshot, "T2");
        }
        let (low, high) = (a.min(b), a.max(b));
        let bounds = match n % 4 {
            0 => (Bound::Included(low), Bound::Excluded(high)),
            1 => (Bound::Excluded(low), Bound::Included(high)),
            2 => (Bound::Unbounded, Bound::Included(high)),
            _ => (Bound::Included(low), Bound::Unbounded),
        };
        self.look_at_range(snapshot, bounds, &rows, a);
    }

    fn look_at_range(&self, snapshot: CommitSeq, bounds: (Bound<&[u8]>, Bound<&[u8]>), rows: &Rows, seek: &[u8]) {
        let owned = (bounds.0.map(<[u8]>::to_vec), bounds.1.map(<[u8]>::to_vec));
        let empty = matches!((&owned.0, &owned.1), (Bound::Excluded(a), Bound::Excluded(b) | Bound::Included(b))
            | (Bound::Included(a), Bound::Excluded(b)) if a >= b);
        let expected: Vec<(Vec<u8>, Vec<u8>)> =
            if empty { Vec::new() } else { rows.range(owned).map(|(k, v)| (k.clone(), v.clone())).collect() };
        let mut cursor = self.world.tree.scan(snapshot, bounds.0, bounds.1);
        let mut forward = Vec::new();
        while cursor.next().unwrap() {
            forward.push((cursor.key().to_vec(), cursor.value().unwrap().to_vec()));
        }
        assert_eq!(forward, expected);
        let mut backward = Vec::new();
        while cursor.prev().unwrap() {
            backward.push((cursor.key().to_vec(), cursor.value().unwrap().to_vec()));
        }
        backward.reverse();
        assert_eq!(backward, expected);
        cursor.seek(seek);
        let at = expected.partition_point(|(k, _)| k.as_slice() < seek);
        assert_eq!(
            cursor.prev().unwrap().then(|| cursor.key().to_vec()),
            at.checked_sub(1).map(|i| expected[i].0.clone())
        );
        cursor.seek(seek);
        assert_eq!(cursor.next().unwrap().then(|| cursor.key().to_vec()), expected.get(at).map(|(k, _)| k.clone()));
    }

    fn finish(&mut self) {
        self.world.faults.heal();
        while self.running.is_some() {
            self.step_checkpoint();
        }
        for snapshot in &self.snapshots {
            assert_eq!(self.world.rows(snapshot.seq()), self.world.model.lock().at(snapshot.seq()), "T3");
        }
        for _ in 0..3 {
            self.step_checkpoint();
        }
        let visible = self.world.registry.visible();
        assert_eq!(self.world.rows(visible), self.world.model.lock().at(visible), "T1");
        self.reopen();
        assert_eq!(self.world.rows(visible), self.world.model.lock().at(visible));
    }
}

fn holds(ops: Vec<Op>, small: bool) -> bool {
    let mut history = History::new(if small { 6_000 } else { 1 << 20 });
    ops.iter().for_each(|op| history.run(op));
    history.finish();
    true
}

/// Covers: T1, T2, T3, B2, B5, C1, E2.
#[test]
fn random_histories_hold() {
    let tests = std::env::var("STRANDLINE_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    QuickCheck::new().rng(Gen::new(250)).tests(tests).quickcheck(holds as fn(Vec<Op>, bool) -> bool);
}
