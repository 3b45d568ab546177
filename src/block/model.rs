//! The store against a model that is easy to believe: sets of blocks.
//!
//! The model keeps, for the live tree, for the checkpoint being written and for every retained checkpoint, the plain set
//! of blocks that it reaches. Random operations drive store and model alike: commits and the running checkpoint write and
//! give up blocks side by side, checkpoints finish, fail and drop others anywhere in the row, readers hold blocks, writes
//! fail, the power goes. At every checkpoint each unit of the file must be counted exactly once (B2), and every block of
//! a retained checkpoint must read back as it was written (B1), also those of the checkpoint that only the second slot
//! still names (B3).

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use quickcheck::{Arbitrary, Gen, QuickCheck};
use strandline_vfs::Call;
use strandline_vfs::fault::{Fault, FaultVfs};
use strandline_vfs::mem::MemVfs;

use super::*;
use crate::types::{BlockAddr, CheckpointSeq, Extent, TableId};

const UNIT: u32 = 512;
const PATH: &str = "t.sl";

type Blocks = BTreeSet<BlockAddr>;

#[derive(Clone, Debug)]
enum Op {
    /// A commit writes a block.
    Write(u16),
    /// A commit writes a block, and the device refuses.
    Refused(bool),
    /// A commit gives a block up.
    GiveUp(u16),
    /// A commit gives a block up that readers still need.
    Hold(u16),
    Release(u16),
    Begin,
    /// The running checkpoint writes a block, in place of one that it shares with the live tree or for a new page.
    Reconcile(u16, bool),
    /// The running checkpoint is written; it drops those retained ones whose bit is set.
    Finish(u8),
    /// The disk is full before the root record is written.
    Abandon,
    /// Both slots have the new root record.
    Settle,
    /// A change of the catalog, without this table, drops checkpoints.
    Minor(u8),
    /// The power goes; the new root record, if one was being written, is there or not.
    Crash(bool),
}

impl Arbitrary for Op {
    fn arbitrary(g: &mut Gen) -> Self {
        let n = u16::arbitrary(g);
        match u8::arbitrary(g) % 32 {
            0..=8 => Self::Write(n % 2000),
            9 => Self::Refused(n.is_multiple_of(2)),
            10..=14 => Self::GiveUp(n),
            15 => Self::Hold(n),
            16 => Self::Release(n),
            17..=18 => Self::Begin,
            19..=23 => Self::Reconcile(n, n.is_multiple_of(3)),
            24..=26 => Self::Finish(n as u8 & (n >> 8) as u8),
            27 => Self::Abandon,
            28..=29 => Self::Settle,
            30 => Self::Minor(n as u8 & (n >> 8) as u8),
            _ => Self::Crash(n.is_multiple_of(2)),
        }
    }
}

/// A retained checkpoint of the table.
#[derive(Clone, Debug)]
struct Retained {
    seq: CheckpointSeq,
    blocks: Blocks,
    dead: DeadList,
}

/// What a root record reaches.
#[derive(Clone, Debug, Default)]
struct Root {
    retained: Vec<Retained>,
    space: Option<SpaceState>,
}

struct Model {
    fault: FaultVfs,
    store: BlockStore,
    live: Blocks,
    live_seq: CheckpointSeq,
    running: Option<(CheckpointSeq, Blocks)>,
    /// The root record in both slots, and the one that may be in one of them.
    root: Root,
    next: Option<Root>,
    held: Vec<BlockAddr>,
    bodies: BTreeMap<BlockAddr, Vec<u8>>,
    count: u64,
}

fn pick(from: &Blocks, n: u16) -> Option<BlockAddr> {
    from.iter().nth(usize::from(n) % from.len().max(1)).copied()
}

impl Model {
    fn new() -> Self {
        let fault = FaultVfs::new(Arc::new(MemVfs::new()));
        let live_seq = CheckpointSeq::major(1);
        Self {
            store: open(&fault, None, live_seq),
            fault,
            live: Blocks::new(),
            live_seq,
            running: None,
            root: Root::default(),
            next: None,
            held: Vec::new(),
            bodies: BTreeMap::new(),
            count: 0,
        }
    }

    /// Writes a block and checks that its place was free to take.
    fn write(&mut self, len: usize, birth: CheckpointSeq) -> BlockAddr {
        self.count += 1;
        let body = self.count.to_le_bytes().repeat(1 + len / 8);
        let addr = self.store.write(&body, birth).unwrap();
        for other in self.needed() {
            let apart = other.extent().end() <= addr.offset || addr.extent().end() <= other.offset;
            assert!(apart, "B1: {addr:?} was written over {other:?}");
        }
        self.bodies.insert(addr, body);
        addr
    }

    /// Every block that somebody may still read.
    fn needed(&self) -> Blocks {
        let mut all = self.live.clone();
        all.extend(self.running.iter().flat_map(|(_, b)| b));
        all.extend(self.held.iter());
        for root in std::iter::once(&self.root).chain(self.next.iter()) {
            all.extend(root.retained.iter().flat_map(|r| &r.blocks));
        }
        all
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Write(len) => {
                let addr = self.write(len.into(), self.live_seq);
                self.live.insert(addr);
            }
            Op::Refused(full) => {
                let kind = if full { ErrorKind::StorageFull } else { ErrorKind::Other };
                self.fault.inject(Fault::on(Call::Write).error(kind));
                assert!(self.store.write(b"refused", self.live_seq).is_err());
                self.fault.heal();
            }
            Op::GiveUp(n) => self.give_up(n, false),
            Op::Hold(n) => self.give_up(n, true),
            Op::Release(n) if !self.held.is_empty() => {
                let addr = self.held.swap_remove(usize::from(n) % self.held.len());
                self.store.release(addr);
            }
            Op::Begin if self.running.is_none() && self.next.is_none() => {
                self.running = Some((self.live_seq, self.live.clone()));
                self.live_seq = self.live_seq.next_major();
            }
            Op::Reconcile(n, replace) => self.reconcile(n, replace),
            Op::Finish(drops) => self.finish(drops),
            Op::Abandon => {
                if let Some((seq, _)) = self.running.take() {
                    self.store.abandon_checkpoint(seq);
                }
            }
            Op::Settle => {
                if let Some(root) = self.next.take() {
                    self.store.release_pending();
                    self.root = root;
                }
            }
            Op::Minor(drops) => self.minor(drops),
            Op::Crash(written) => self.crash(written),
            Op::Release(_) | Op::Begin => {}
        }
    }

    fn give_up(&mut self, n: u16, hold: bool) {
        let Some(addr) = pick(&self.live, n) else { return };
        self.live.remove(&addr);
        if hold {
            self.store.hold(addr);
            self.held.push(addr);
        }
        self.store.give_up(addr, self.live_seq);
    }

    fn reconcile(&mut self, n: u16, replace: bool) {
        let Some((seq, blocks)) = self.running.take() else { return };
        let mut blocks = blocks;
        let shared: Blocks = blocks.intersection(&self.live).copied().collect();
        if let (true, Some(old)) = (replace, pick(&shared, n)) {
            self.store.give_up(old, seq);
            blocks.remove(&old);
            self.live.remove(&old);
        }
        self.running = Some((seq, blocks));
        let new = self.write(usize::from(n % 1500), seq);
        self.live.insert(new);
        self.running.as_mut().unwrap().1.insert(new);
    }

    fn finish(&mut self, drops: u8) {
        let Some((seq, blocks)) = self.running.take() else { return };
        let mut retained = self.root.retained.clone();
        let Settled { mut state, dead } = self.store.finish_checkpoint(seq);
        retained.push(Retained { seq, blocks, dead });
        let freed = drop_some(&mut retained, drops);
        state.free(&freed);
        let root = Root { retained, space: Some(state) };
        check_partition(&root);
        assert!(self.store.sync().is_ok());
        self.store.complete_checkpoint(seq);
        self.store.retire(&freed);
        self.next = Some(root);
    }

    /// Works on the state of the newest checkpoint, whatever is going on, except between two slots.
    fn minor(&mut self, drops: u8) {
        if self.next.is_some() || self.root.space.is_none() {
            return;
        }
        let freed = drop_some(&mut self.root.retained, drops);
        let mut state = self.store.space();
        state.free(&freed);
        self.root.space = Some(state);
        check_partition(&self.root);
        self.store.retire(&freed);
        self.store.release_pending();
    }

    fn crash(&mut self, written: bool) {
        if let Some(root) = self.next.take().filter(|_| written) {
            self.root = root;
        }
        self.running = None;
        self.held.clear();
        self.live = self.root.retained.last().map(|r| r.blocks.clone()).unwrap_or_default();
        self.live_seq = self.live_seq.next_major();
        self.store = open(&self.fault, self.root.space.clone(), self.live_seq);
    }

    /// Everything that is needed reads as it was written.
    fn check_contents(&self) {
        for addr in self.needed() {
            assert_eq!(*self.store.read(addr).unwrap(), self.bodies[&addr][..]);
        }
    }
}

fn open(fault: &FaultVfs, state: Option<SpaceState>, live: CheckpointSeq) -> BlockStore {
    BlockStore::new(Arc::new(fault.clone()), Path::new(PATH), TableId(7), UNIT, state, live).unwrap()
}

/// Drops those of the retained checkpoints, the last excepted, whose bit is set; returns what that frees.
fn drop_some(retained: &mut Vec<Retained>, drops: u8) -> Vec<Extent> {
    let mut freed = Vec::new();
    for i in (0..retained.len() - 1).rev() {
        if drops >> (i % 8) & 1 == 1 {
            let gone = retained.remove(i);
            let pred = i.checked_sub(1).map(|p| retained[p].seq);
            freed.extend(drop_entry(pred, gone.dead, &mut retained[i].dead));
        }
    }
    freed
}

/// Covers: B2. Each unit of the file counted exactly once.
fn check_partition(root: &Root) {
    let space = root.space.as_ref().unwrap();
    space.check(UNIT).unwrap();
    let newest = &root.retained.last().unwrap().blocks;
    let unit = u64::from(UNIT);
    let mut owner = vec![None; (space.size / unit) as usize];
    let mut mark = |what: &'static str, e: Extent| {
        for slot in &mut owner[(e.offset / unit) as usize..(e.end() / unit) as usize] {
            assert_eq!(slot.replace(what), None, "B2: {e:?} is {what} too");
        }
    };
    mark("header", Extent { offset: 0, len: data_start(UNIT) });
    newest.iter().for_each(|a| mark("reachable", a.extent()));
    space.available.iter().for_each(|e| mark("available", *e));
    root.retained.iter().flat_map(|r| r.dead.entries()).for_each(|d| mark("dead", d.extent));
    let missing = owner.iter().position(Option::is_none);
    assert_eq!(missing, None, "B2: a unit is nowhere");
    let older: Blocks = root.retained.iter().flat_map(|r| &r.blocks).filter(|a| !newest.contains(a)).copied().collect();
    let older: BTreeSet<Dead> = older.into_iter().map(Dead::from).collect();
    let dead: BTreeSet<Dead> = root.retained.iter().flat_map(|r| r.dead.entries()).copied().collect();
    assert_eq!(dead, older, "B2: dead is what older checkpoints reach and the newest does not");
}

/// Covers: B1, B2, B3, S1.
#[test]
fn store_and_model_agree() {
    fn agree(ops: Vec<Op>) -> bool {
        let mut model = Model::new();
        for op in &ops {
            model.step(op);
        }
        model.check_contents();
        model.step(&Op::Settle);
        model.step(&Op::Begin);
        model.step(&Op::Finish(0xff));
        model.step(&Op::Settle);
        model.check_contents();
        true
    }
    QuickCheck::new().tests(2000).rng(Gen::from_size_and_seed(250, 7)).quickcheck(agree as fn(Vec<Op>) -> bool);
}
