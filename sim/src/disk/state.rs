//! The disk behind its lock: the live tree, the base tree, and what is pending between them.
//!
//! - I1: base + all pending atoms = live, unless a failed sync, a poison mark or damage from outside set them apart on
//!   purpose.
//! - I2: reads look at the live tree only and never walk a chain.
//! - I3: nothing here depends on time, threads, addresses or iteration over unordered tables.
//! - I4: no atom is kept for an inode that no crash image can name.

use super::body::Page;
use super::event::{Call, Event, Record};
use super::fault::{Act, Plan};
use super::frame::Barrier;
use super::hash;
use super::pending::{Pending, Pledge, Slot, Value};
use super::pins::Pins;
use super::profile::{MetaOrder, Profile, TailFill};
use super::tree::{Ino, Kind, ROOT, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of files that are no more, by the number of the page they filled.
pub(crate) type Freed = BTreeMap<u64, Arc<Page>>;

/// Everything that one disk is.
pub(crate) struct State {
    pub(crate) profile: Profile,
    pub(crate) live: Tree,
    pub(crate) base: Arc<Tree>,
    pub(crate) pending: Pending,
    pub(crate) next_ino: Ino,
    /// The number that the next call takes; from 1 on, so that an image born at 0 holds nothing of this run.
    pub(crate) clock: u64,
    /// Counts processes: handles of an earlier one are dead.
    pub(crate) process: u64,
    /// Open files, and the handles on them.
    pub(crate) open: BTreeMap<Ino, BTreeSet<u64>>,
    pub(crate) next_handle: u64,
    pub(crate) locks: BTreeSet<Ino>,
    pub(crate) plan: Plan,
    pub(crate) pins: Pins,
    pub(crate) quota: Option<u64>,
    /// Sectors whose bytes a failed sync dropped; rewriting anything in their cache page brings them back.
    pub(crate) lost: BTreeMap<Ino, BTreeSet<u64>>,
    /// Files whose next sync reports an earlier failure, with the event of the sync that succeeded.
    pub(crate) late: BTreeMap<Ino, u64>,
    pub(crate) late_reports: Vec<(u64, u64, PathBuf)>,
    /// Handles that have not heard yet of a failed sync of their file; `None` for all, for ever.
    pub(crate) errors: BTreeMap<Ino, Option<BTreeSet<u64>>>,
    pub(crate) read_only: bool,
    /// Bytes are lost for good that a call had promised.
    pub(crate) betrayed: bool,
    /// What files held that are no more, by page: other files may show it before their own data come.
    pub(crate) freed: Arc<Freed>,
    pub(crate) barriers: Vec<Barrier>,
    pub(crate) recording: bool,
    pub(crate) every_instant: bool,
    pub(crate) epoch: u32,
    pub(crate) events: Vec<Event>,
    pub(crate) record: Record,
    pub(crate) label: Arc<str>,
    pub(crate) trace_hash: u64,
    /// The newest atom in the journal's chain.
    pub(crate) chain: u64,
}

/// What a call was given when it began.
pub(crate) struct Ticket {
    pub(crate) event: u64,
    pub(crate) act: Option<Act>,
}

impl State {
    /// A disk that holds exactly `tree`, durably.
    pub(crate) fn new(profile: Profile, tree: Tree) -> Self {
        let next_ino = tree.inos().max().unwrap_or(ROOT) + 1;
        Self {
            profile,
            base: Arc::new(tree.clone()),
            live: tree,
            pending: Pending::default(),
            next_ino,
            clock: 1,
            process: 0,
            open: BTreeMap::new(),
            next_handle: 1,
            locks: BTreeSet::new(),
            plan: Plan::default(),
            pins: Pins::default(),
            quota: None,
            lost: BTreeMap::new(),
            late: BTreeMap::new(),
            late_reports: Vec::new(),
            errors: BTreeMap::new(),
            read_only: false,
            betrayed: false,
            freed: Arc::default(),
            barriers: Vec::new(),
            recording: false,
            every_instant: false,
            epoch: 0,
            events: Vec::new(),
            record: Record::Changes,
            label: Arc::from(""),
            trace_hash: 0,
            chain: 0,
        }
    }

    /// Runs one call: takes a number, lets a planned fault strike, records the outcome.
    pub(crate) fn call<T>(
        &mut self,
        call: Call,
        path: &Path,
        range: (u64, u64),
        body: impl FnOnce(&mut Self, &Ticket) -> io::Result<T>,
    ) -> io::Result<T> {
        let ticket = Ticket { event: self.clock, act: self.plan.strike(call, path) };
        self.clock += 1;
        let result = match ticket.act {
            Some(Act::Error(kind)) => Err(io::Error::new(kind, format!("simulated fault in {call:?}"))),
            _ if self.read_only && call.changes() => {
                Err(super::tree::error(io::ErrorKind::ReadOnlyFilesystem, "the simulated disk is read-only by now"))
            }
            _ => body(self, &ticket),
        };
        self.note(call, path, range, ticket.event, result.as_ref().err().map(io::Error::kind));
        result
    }

    fn note(&mut self, call: Call, path: &Path, range: (u64, u64), index: u64, error: Option<io::ErrorKind>) {
        let what = hash::bytes(path.as_os_str().as_encoded_bytes());
        let outcome = error.map_or(0, |e| 1 + e as u64);
        let words = [call as u64, what, range.0, range.1, outcome];
        self.trace_hash = words.iter().fold(self.trace_hash, |h, &w| hash::mix(h, w));
        if self.record == Record::All || (self.record == Record::Changes && call.changes()) {
            let (path, label) = (Arc::from(path), Arc::clone(&self.label));
            self.events.push(Event { index, call, path, offset: range.0, len: range.1, error, label });
        }
        if self.every_instant && call.changes() {
            self.barrier(index, "instant");
        }
    }

    /// Records what a crash at this instant may leave.
    pub(crate) fn barrier(&mut self, event: u64, why: &'static str) {
        if self.recording {
            let barrier = self.snapshot(event, why);
            self.barriers.push(barrier);
        }
    }

    pub(crate) fn snapshot(&self, event: u64, why: &'static str) -> Barrier {
        let (mut base, mut atoms) = (Arc::clone(&self.base), Arc::clone(self.pending.atoms()));
        if !self.late.is_empty() {
            // What the journal holds is in every image, though not at home yet.
            let mut pending = self.pending.clone();
            let tree = Arc::make_mut(&mut base);
            let safe = pending.settle(true, |a| a.pledge == Pledge::Journaled);
            safe.iter().for_each(|atom| atom.apply(tree, self.profile.sector));
            atoms = Arc::clone(pending.atoms());
        }
        let (profile, betrayed, freed) = (self.profile.clone(), self.betrayed, Arc::clone(&self.freed));
        Barrier { event, epoch: self.epoch, why, base, atoms, profile, betrayed, freed }
    }

    /// Adds a version of a name or a length that the journal orders.
    pub(crate) fn push_meta(&mut self, event: u64, slot: Slot, value: Value, needs: Vec<u64>) -> u64 {
        let chained = self.profile.meta_order != MetaOrder::Free;
        let after = if chained { self.chain } else { 0 };
        let id = self.push_after(event, slot, value, needs, after);
        if chained && id != 0 {
            self.chain = id;
        }
        id
    }

    /// Adds a version; 0 when no image can ever show it (I4).
    pub(crate) fn push(&mut self, event: u64, slot: Slot, value: Value, needs: Vec<u64>) -> u64 {
        self.push_after(event, slot, value, needs, 0)
    }

    fn push_after(&mut self, event: u64, slot: Slot, value: Value, needs: Vec<u64>, after: u64) -> u64 {
        if self.base.get(slot.inode()).is_none() {
            return 0;
        }
        self.pending.push(event, slot, value, needs, after)
    }

    /// A new inode, in both trees; only a name can make an image show it.
    pub(crate) fn new_inode(&mut self, kind: &Kind) -> Ino {
        let ino = self.next_ino;
        self.next_ino += 1;
        self.live.insert(ino, kind.clone());
        Arc::make_mut(&mut self.base).insert(ino, kind.clone());
        ino
    }

    /// Forgets inodes that neither a handle nor any image can reach (I4).
    pub(crate) fn sweep(&mut self) {
        let named = self.nameable();
        self.note_freed(&named);
        let mut held = self.live.reached();
        held.extend(self.open.keys());
        self.live.retain(|ino| held.contains(&ino));
        if self.base.inos().any(|ino| !named.contains(&ino)) {
            Arc::make_mut(&mut self.base).retain(|ino| named.contains(&ino));
            self.pending.take(|a| !named.contains(&a.slot.inode()));
            self.late.retain(|ino, _| named.contains(ino));
            self.lost.retain(|ino, _| named.contains(ino));
        }
    }

    /// Remembers what the files held that no image can name any more.
    fn note_freed(&mut self, named: &BTreeSet<Ino>) {
        if self.profile.tail_fill != TailFill::Stale {
            return;
        }
        let gone: Vec<Ino> = self.base.inos().filter(|ino| !named.contains(ino)).collect();
        let files = gone.into_iter().filter_map(|ino| self.live.file(ino).or_else(|| self.base.file(ino)));
        let pages = files.flat_map(|f| (0..f.body.pages()).filter_map(|i| Some((i, Arc::clone(f.body.page(i)?)))));
        let pages: Vec<_> = pages.collect();
        if !pages.is_empty() {
            Arc::make_mut(&mut self.freed).extend(pages);
        }
    }

    /// Every inode that some image can name: through the base, through pending names, or both.
    fn nameable(&self) -> BTreeSet<Ino> {
        let mut pending: BTreeMap<Ino, Vec<Ino>> = BTreeMap::new();
        for a in self.pending.atoms().iter() {
            if let (Slot::Name(dir, _), Value::Name(Some(to))) = (&a.slot, &a.value) {
                pending.entry(*dir).or_default().push(*to);
            }
        }
        let mut seen = BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(dir) = todo.pop() {
            let durable = self.base.dir(dir).into_iter().flat_map(BTreeMap::values);
            for &child in durable.chain(pending.get(&dir).into_iter().flatten()) {
                if seen.insert(child) {
                    todo.push(child);
                }
            }
        }
        seen
    }
}
