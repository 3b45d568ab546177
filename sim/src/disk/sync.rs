//! Calls that promise durability, and what is left when they fail.
//!
//! - S1: a barrier is recorded before any floor moves or any atom is dropped: those are the events after which fewer images
//!   are possible.
//! - S2: `sync_data` may leave a *shrunken* length pending, but never a length below which data it made durable would
//!   vanish.

use super::event::Call;
use super::fault::{Act, CACHE_PAGE, SyncFailure};
use super::pending::{Atom, Slot, Value};
use super::profile::{DirSync, SyncScope};
use super::state::{State, Ticket};
use super::tree::{Ino, error};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

fn eio() -> io::Error {
    error(ErrorKind::Other, "simulated I/O error in a sync")
}

impl State {
    /// Makes one file durable, or fails as planned.
    pub(crate) fn sync_file(&mut self, ino: Ino, call: Call, t: &Ticket) -> io::Result<()> {
        if self.late.remove(&ino) {
            return Err(eio());
        }
        if let Some(Act::Sync(failure, pages)) = &t.act {
            let (failure, pages) = (*failure, pages.iter().copied().collect());
            return self.fail_sync(ino, failure, &pages, t.event);
        }
        let size_too = call == Call::SyncAll || self.size_must_move(ino);
        let newest = self.newest_of(ino);
        self.settle(t.event, "sync of a file", |a| match a.slot {
            Slot::Sector(i, _) => i == ino,
            Slot::Size(i) => i == ino && size_too,
            Slot::Name(..) => a.id == newest,
        });
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

    /// The newest atom that a journal would have to write for this inode; 0 when only the file itself is synced.
    fn newest_of(&self, ino: Ino) -> u64 {
        if self.profile.fsync_scope == SyncScope::File {
            return 0;
        }
        let names = self.pending.atoms().iter().filter(|a| matches!(a.value, Value::Name(Some(to)) if to == ino));
        names.map(|a| a.id).max().unwrap_or(0)
    }

    /// Moves floors: records the barrier, takes the atoms and what they need, applies them to the base (S1).
    fn settle(&mut self, event: u64, why: &'static str, chosen: impl Fn(&Atom) -> bool) {
        if !self.pending.atoms().iter().any(&chosen) {
            return;
        }
        self.barrier(event, why);
        let atoms = self.pending.settle(&chosen);
        let base = Arc::make_mut(&mut self.base);
        for atom in &atoms {
            atom.apply(base, self.profile.sector);
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
        if matches!(t.act, Some(Act::Sync(..))) {
            return Err(eio());
        }
        self.settle(t.event, "sync of a directory", |a| matches!(a.slot, Slot::Name(d, _) if d == dir));
        self.sweep();
        Ok(())
    }

    fn fail_sync(&mut self, ino: Ino, how: SyncFailure, pages: &BTreeSet<u64>, event: u64) -> io::Result<()> {
        match how {
            SyncFailure::DirtyRetry => {}
            SyncFailure::LateReport => {
                self.late.insert(ino);
                return Ok(());
            }
            SyncFailure::CleanKeepNew => self.lose_pages(ino, pages, event),
            SyncFailure::CleanRevert => self.revert(ino, event),
        }
        Err(eio())
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
        self.pending.forget(|a| matches!(a.slot, Slot::Sector(i, s) if i == ino && is_bad(s)));
        self.settle(event, "failed sync", |a| matches!(a.slot, Slot::Sector(i, _) if i == ino));
    }

    /// Everything unsynced in the file is undone at once.
    fn revert(&mut self, ino: Ino, event: u64) {
        self.barrier(event, "failed sync");
        self.pending.forget(|a| a.slot.file() == Some(ino));
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
