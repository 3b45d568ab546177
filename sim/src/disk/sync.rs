//! Calls that promise durability, and what is left when they fail.
//!
//! - S1: a barrier is recorded before any floor moves or any atom is dropped: those are the events after which fewer images
//!   are possible.
//! - S2: `sync_data` may leave a *shrunken* length pending, but never a length below which data it made durable would
//!   vanish.
//! - S3: a sync that is said to fail later (`LateReport`) moves floors as any other would, but takes them back when it fails.
//!   Only then does the disk break its word, and images say so ([`Frame::broken_promises`](super::Frame::broken_promises)).

use super::event::Call;
use super::fault::{Act, CACHE_PAGE, Report, SyncFailure};
use super::hash;
use super::pending::{Atom, Pledge, Slot, Value};
use super::profile::{DirSync, Flush, MetaOrder, SyncScope};
use super::state::{State, Ticket};
use super::tree::{Ino, error};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

fn eio() -> io::Error {
    error(ErrorKind::Other, "simulated I/O error in a sync")
}

/// What a sync of a file covers.
struct Reach {
    ino: Ino,
    size: bool,
    names: BTreeSet<u64>,
}

impl Reach {
    fn covers(&self, atom: &Atom) -> bool {
        // What failed once is clean in the cache, and is not written again.
        !atom.is_stuck()
            && match atom.slot {
                Slot::Sector(i, _) => i == self.ino,
                Slot::Size(i) => i == self.ino && self.size,
                Slot::Name(..) => self.names.contains(&atom.id),
            }
    }
}

impl State {
    /// Makes one file durable, or fails as planned.
    pub(crate) fn sync_file(&mut self, (ino, handle): (Ino, u64), call: Call, t: &Ticket) -> io::Result<()> {
        if self.hears_of_failure(ino, handle) {
            return Err(eio());
        }
        let reach = Reach { ino, size: call == Call::SyncAll || self.size_must_move(ino), names: self.names_of(ino) };
        if let Some(ok) = self.late.remove(&ino) {
            self.fail_late(ino, (ok, t.event));
            return self.report(ino, handle, &reach, ErrorKind::Other, true);
        }
        if let Some(Act::Sync(failure, pages)) = &t.act {
            let (failure, pages) = (*failure, pages.iter().copied().collect());
            return self.fail_sync(handle, failure, &pages, &reach, t.event);
        }
        self.promise(t.event, "sync of a file", |a| reach.covers(a));
        Ok(())
    }

    /// True when `sync_data` needs the newest length (S2).
    fn size_must_move(&self, ino: Ino) -> bool {
        let sizes = self.pending.atoms().iter().filter_map(|a| match (&a.slot, &a.value) {
            (Slot::Size(i), Value::Size(n)) if *i == ino => Some(*n),
            _ => None,
        });
        let floor = self.base.file(ino).map_or(0, |f| f.size);
        let (least, newest) = sizes.fold((floor, floor), |(least, _), n| (least.min(n), n));
        self.profile.sync_data_shrinks || newest > least
    }

    /// The names that a sync of this inode makes durable too.
    fn names_of(&self, ino: Ino) -> BTreeSet<u64> {
        let names = |ino: Ino| {
            let atoms = self.pending.atoms().iter();
            atoms.filter(move |a| matches!(a.value, Value::Name(Some(to)) if to == ino))
        };
        match self.profile.fsync_scope {
            SyncScope::File => BTreeSet::new(),
            SyncScope::Journal => names(ino).map(|a| a.id).max().into_iter().collect(),
            SyncScope::NewName => {
                let (mut out, mut todo) = (BTreeSet::new(), vec![ino]);
                while let Some(ino) = todo.pop() {
                    for name in names(ino).filter(|a| out.insert(a.id)) {
                        todo.push(name.slot.inode());
                    }
                }
                out
            }
        }
    }

    fn leaps(&self) -> bool {
        self.profile.meta_order == MetaOrder::Groups
    }

    /// Moves floors, unless the device lies: then nothing moves until it empties its cache after all.
    fn promise(&mut self, event: u64, why: &'static str, chosen: impl Fn(&Atom) -> bool) {
        let Flush::Lies(often) = self.profile.flush else { return self.settle(event, why, chosen) };
        if hash::mix(event, 0x1e55) % 1000 < u64::from(often) {
            let leaps = self.leaps();
            return self.pending.pledge(leaps, Pledge::Lied, chosen);
        }
        self.settle(event, why, |a| chosen(a) || a.pledge == Pledge::Lied);
    }

    /// Moves floors: records the barrier, takes the atoms and what they need, applies them to the base (S1).
    fn settle(&mut self, event: u64, why: &'static str, chosen: impl Fn(&Atom) -> bool) {
        if !self.pending.atoms().iter().any(&chosen) {
            return;
        }
        self.barrier(event, why);
        let leaps = self.leaps();
        let atoms = self.pending.settle(leaps, &chosen);
        self.lay_down(&atoms, if leaps { event } else { 0 });
    }

    /// Puts atoms into the base. One that leapt over others is as young as the call that let it.
    fn lay_down(&mut self, atoms: &[Atom], born: u64) {
        let base = Arc::make_mut(&mut self.base);
        for atom in atoms {
            atom.apply(base, self.profile.sector);
            if let Some(inode) = base.get_mut(atom.slot.inode()).filter(|i| i.born < born) {
                inode.born = born;
            }
        }
    }

    pub(crate) fn sync_dir(&mut self, path: &Path, t: &Ticket) -> io::Result<()> {
        let dir = self.live.lookup(path)?;
        if self.live.dir(dir).is_none() {
            return Err(error(ErrorKind::NotADirectory, "not a directory"));
        }
        match self.profile.dir_sync {
            DirSync::Works => {}
            DirSync::Ignored => return Ok(()),
            DirSync::Unsupported => return Err(error(ErrorKind::Unsupported, "directories cannot be synced")),
        }
        if let Some(Act::Sync(how, _)) = t.act {
            self.read_only |= self.profile.read_only_after;
            let full = how == SyncFailure::EnospcAtSync;
            return Err(if full { error(ErrorKind::StorageFull, "no space for a directory") } else { eio() });
        }
        let own = if self.leaps() { self.names_of(dir) } else { BTreeSet::new() };
        let here = |a: &Atom| matches!(a.slot, Slot::Name(d, _) if d == dir);
        self.promise(t.event, "sync of a directory", |a| here(a) || own.contains(&a.id));
        self.sweep();
        Ok(())
    }

    fn fail_sync(
        &mut self,
        handle: u64,
        how: SyncFailure,
        pages: &BTreeSet<u64>,
        reach: &Reach,
        event: u64,
    ) -> io::Result<()> {
        let ino = reach.ino;
        match how {
            SyncFailure::DirtyRetry => {}
            SyncFailure::LateReport => {
                self.journal(reach, event);
                return Ok(());
            }
            SyncFailure::CleanKeepNew => self.lose_pages(ino, pages, event),
            SyncFailure::EnospcAtSync => {
                self.lose_pages(ino, pages, event);
                self.pending.take(|a| !a.is_stuck() && a.slot == Slot::Size(ino));
            }
            SyncFailure::CleanRevert => self.revert(ino, event),
        }
        let full = how == SyncFailure::EnospcAtSync;
        let kind = if full { ErrorKind::StorageFull } else { ErrorKind::Other };
        self.report(ino, handle, reach, kind, how != SyncFailure::DirtyRetry)
    }

    /// A sync of the file has failed; `lost` when what it had to write will never be written.
    fn report(&mut self, ino: Ino, handle: u64, reach: &Reach, kind: ErrorKind, lost: bool) -> io::Result<()> {
        self.read_only |= self.profile.read_only_after;
        match self.profile.report {
            Report::Nobody => {
                self.betrayed |= lost;
                let leaps = self.leaps();
                self.pending.pledge(leaps, Pledge::Lied, |a| reach.covers(a));
                return Ok(());
            }
            Report::First => {}
            Report::Each => {
                let others = self.open.get(&ino).into_iter().flatten().copied().filter(|&other| other != handle);
                let owed = others.collect();
                self.errors.insert(ino, Some(owed));
            }
            Report::All => drop(self.errors.insert(ino, None)),
        }
        Err(error(kind, "simulated failure of a sync"))
    }

    /// True when this handle is to hear of a failure that was met by another, or earlier.
    fn hears_of_failure(&mut self, ino: Ino, handle: u64) -> bool {
        match self.errors.get_mut(&ino) {
            None => false,
            Some(None) => true,
            Some(Some(owed)) => owed.remove(&handle),
        }
    }

    /// The call succeeds: what it covers is safe in the journal, and the journal is what cannot be brought home.
    fn journal(&mut self, reach: &Reach, event: u64) {
        let ino = reach.ino;
        self.barrier(event, "sync that fails later");
        let leaps = self.leaps();
        self.pending.pledge(leaps, Pledge::Journaled, |a| reach.covers(a));
        let theirs = |a: &Atom| a.slot.file().filter(|i| *i == ino || self.late.contains_key(i)).is_none();
        let others = self.pending.take(|a| a.pledge == Pledge::Journaled && theirs(a));
        self.lay_down(&others, if leaps { event } else { 0 });
        self.late.insert(ino, event);
    }

    /// What was journaled cannot be brought home, and what was written since fails with it.
    fn fail_late(&mut self, ino: Ino, (ok, now): (u64, u64)) {
        let lost = self.lost.entry(ino).or_default();
        self.pending.revise(|a| {
            if a.slot.file() == Some(ino) {
                a.pledge = if a.pledge == Pledge::Journaled { Pledge::Stuck } else { Pledge::Failed };
                if let Slot::Sector(_, sector) = a.slot {
                    lost.insert(sector);
                }
            }
        });
        let path = self.live.paths(&BTreeSet::from([ino])).pop().unwrap_or_default();
        self.late_reports.push((ok, now, path));
    }

    /// What is safe in the journal comes home.
    pub(crate) fn come_home(&mut self) {
        let atoms = self.pending.take(|a| a.pledge == Pledge::Journaled);
        self.lay_down(&atoms, 0);
        self.late.clear();
    }

    /// Good pages become durable; the bad ones stay in the cache, clean and doomed.
    fn lose_pages(&mut self, ino: Ino, pages: &BTreeSet<u64>, event: u64) {
        let per = CACHE_PAGE / self.profile.sector as u64;
        let is_bad = |s: u64| pages.is_empty() || pages.contains(&(s / per));
        self.barrier(event, "failed sync");
        let atoms = Arc::clone(self.pending.atoms());
        let sectors = atoms.iter().filter_map(|a| match a.slot {
            Slot::Sector(i, s) if i == ino && is_bad(s) => Some(s),
            _ => None,
        });
        self.lost.entry(ino).or_default().extend(sectors);
        self.pending.take(|a| !a.is_stuck() && matches!(a.slot, Slot::Sector(i, s) if i == ino && is_bad(s)));
        self.settle(event, "failed sync", |a| !a.is_stuck() && matches!(a.slot, Slot::Sector(i, _) if i == ino));
    }

    /// Everything unsynced in the file is undone at once.
    fn revert(&mut self, ino: Ino, event: u64) {
        self.barrier(event, "failed sync");
        self.pending.take(|a| !a.is_stuck() && a.slot.file() == Some(ino));
        let stuck = self.pending.atoms().iter().filter_map(|a| match a.slot {
            Slot::Sector(i, sector) if i == ino => Some(sector),
            _ => None,
        });
        self.lost.entry(ino).or_default().extend(stuck);
        self.reload(ino);
    }

    /// The cache forgets what is durable nowhere: the live file becomes what base and pending versions say.
    pub(crate) fn evict(&mut self, ino: Ino) {
        self.reload(ino);
        self.lost.remove(&ino);
    }

    fn reload(&mut self, ino: Ino) {
        let Some(inode) = self.base.get(ino).cloned() else { return };
        self.live.insert(ino, inode.kind);
        let atoms = Arc::clone(self.pending.atoms());
        for atom in atoms.iter().filter(|a| a.slot.file() == Some(ino)) {
            atom.apply(&mut self.live, self.profile.sector);
        }
        if let Some(file) = self.live.file_mut(ino) {
            file.body.cut(file.size);
        }
    }
}
