//! Versions that the disk has accepted but not promised: slots, atoms, needs, floors.
//!
//! A *slot* is what sticks alone: a sector, a length, a name. Each has a chain of versions; the *floor* is the one the last
//! durability call guaranteed, an *atom* is a version above it. An atom may *need* others. A crash image takes a prefix of
//! each chain such that every atom taken has its needs taken too (or at the floor). Since the previous version of the slot is
//! one more thing an atom cannot do without, a legal image is simply a set of atoms that is closed under "needs", and both
//! "only this atom" and "all but this atom" are closures.
//!
//! - A1: atoms stand in the order of issue; the newest of every slot, over the base, is the live tree.
//! - A2: needs point to older atoms or to atoms of the same call, so what was legal stays legal until a floor moves.
//! - A3: chains are never cut and never merged, except by moving a floor; moving a floor moves the floors of its needs.
//! - A4: the order of the journal stands apart from the other needs, in `after`: a call that leaps (`groups`) moves its own
//!   floors without it, and what can come home no more (`Atom::is_stuck`) holds up nobody behind it.

use super::body::{PAGE, Page};
use super::hash::Table;
use super::tree::{Ino, Kind, Name, Tree};
use std::sync::Arc;

/// What sticks alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Slot {
    /// One sector of a file, by index.
    Sector(Ino, u64),
    /// The length of a file.
    Size(Ino),
    /// One name in a directory.
    Name(Ino, Name),
}

impl Slot {
    /// The inode it belongs to.
    pub(crate) fn inode(&self) -> Ino {
        match self {
            Self::Sector(ino, _) | Self::Size(ino) | Self::Name(ino, _) => *ino,
        }
    }

    /// The inode of a sector or a length.
    pub(crate) fn file(&self) -> Option<Ino> {
        match self {
            Self::Sector(ino, _) | Self::Size(ino) => Some(*ino),
            Self::Name(..) => None,
        }
    }
}

/// One version of a slot.
#[derive(Clone)]
pub(crate) enum Value {
    /// The page that holds the sector, as it was after the write, and the bytes of the sector that were written.
    Sector(Arc<Page>, Written),
    Size(u64),
    Name(Option<Ino>),
}

/// The bytes of one sector that a write covered: first, and one past the last.
pub(crate) type Written = (u16, u16);

/// What was said about a version that is not at the floor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pledge {
    /// Nothing.
    #[default]
    Free,
    /// It is safe for the time being: in the journal, not at home yet. Every image holds it.
    Journaled,
    /// It could not be brought home: it may be there or not, and no later sync writes it again. Nobody had said otherwise.
    Failed,
    /// The same, and it had been said to be safe.
    Stuck,
    /// It was said to be safe and was not; a later sync may make that true.
    Lied,
}

/// A version above the floor.
#[derive(Clone)]
pub(crate) struct Atom {
    pub(crate) id: u64,
    /// The event that issued it; all atoms of one call share it.
    pub(crate) event: u64,
    pub(crate) slot: Slot,
    pub(crate) value: Value,
    /// The next older version of the slot, 0 when that is the floor (or has become it since).
    pub(crate) prev: u64,
    pub(crate) needs: Vec<u64>,
    /// The version before it in the journal's chain; 0 without a journal, or for the first one.
    pub(crate) after: u64,
    /// Of a length: where space begins that was taken and not written; `u64::MAX` when the length came with data.
    pub(crate) raw: u64,
    pub(crate) pledge: Pledge,
}

impl Atom {
    /// True when no sync will write it any more.
    pub(crate) fn is_stuck(&self) -> bool {
        matches!(self.pledge, Pledge::Stuck | Pledge::Failed)
    }

    /// True when a call that promises durability said that it is safe, and it is not.
    pub(crate) fn is_betrayed(&self) -> bool {
        matches!(self.pledge, Pledge::Stuck | Pledge::Lied)
    }

    /// Makes this version the one `tree` holds.
    pub(crate) fn apply(&self, tree: &mut Tree, sector: usize) {
        let Some(inode) = tree.get_mut(self.slot.inode()) else { return };
        inode.born = inode.born.max(self.event);
        match (&self.slot, &self.value, &mut inode.kind) {
            (Slot::Sector(_, index), Value::Sector(page, _), Kind::File(f)) => {
                let offset = index * sector as u64;
                f.heal(offset, sector as u64);
                if sector == PAGE {
                    f.body.put_page(*index, Some(Arc::clone(page)));
                } else {
                    f.body.copy_blocks(offset, sector, page);
                }
            }
            (Slot::Size(_), Value::Size(size), Kind::File(f)) => f.size = *size,
            (Slot::Name(_, name), Value::Name(Some(to)), Kind::Dir(names)) => {
                names.insert(Arc::clone(name), *to);
            }
            (Slot::Name(_, name), Value::Name(None), Kind::Dir(names)) => {
                names.remove(name);
            }
            _ => {}
        }
    }
}

/// All atoms of a disk.
#[derive(Clone, Default)]
pub(crate) struct Pending {
    atoms: Arc<Vec<Atom>>,
    newest: Table<Slot, u64>,
    last_id: u64,
}

impl Pending {
    pub(crate) fn atoms(&self) -> &Arc<Vec<Atom>> {
        &self.atoms
    }

    /// The id that the next atom will get; those of one call follow each other, so a call can name its own in advance.
    pub(crate) fn next_id(&self) -> u64 {
        self.last_id + 1
    }

    /// Adds a version on top of the slot's chain.
    pub(crate) fn push(&mut self, event: u64, slot: Slot, value: Value, needs: Vec<u64>, after: u64) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        let prev = self.newest.insert(slot.clone(), id).unwrap_or(0);
        Arc::make_mut(&mut self.atoms).push(Atom {
            id,
            event,
            slot,
            value,
            prev,
            needs,
            after,
            raw: u64::MAX,
            pledge: Pledge::Free,
        });
        id
    }

    /// The atom with this id, while it is pending.
    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Atom> {
        let at = self.atoms.binary_search_by_key(&id, |a| a.id).ok()?;
        Arc::make_mut(&mut self.atoms).get_mut(at)
    }

    /// The newest length of a file that was issued, is pending and can still come home.
    pub(crate) fn size_of(&self, ino: Ino) -> Option<u64> {
        let id = self.newest.get(&Slot::Size(ino))?;
        let at = self.atoms.binary_search_by_key(id, |a| a.id).ok()?;
        match self.atoms[at].value {
            Value::Size(size) if !self.atoms[at].is_stuck() => Some(size),
            _ => None,
        }
    }

    /// Removes the atoms that `chosen` picks and all they need (A3), and returns them in order of issue. A leap leaves those
    /// that only the journal puts before them.
    pub(crate) fn settle(&mut self, leap: bool, chosen: impl FnMut(&Atom) -> bool) -> Vec<Atom> {
        match self.closure(leap, chosen) {
            Some(marks) => self.remove(&marks),
            None => Vec::new(),
        }
    }

    /// Says something about the atoms that `chosen` picks and all they need.
    pub(crate) fn pledge(&mut self, leap: bool, pledge: Pledge, chosen: impl FnMut(&Atom) -> bool) {
        if let Some(marks) = self.closure(leap, chosen) {
            let marked = Arc::make_mut(&mut self.atoms).iter_mut().zip(marks).filter(|(_, m)| *m);
            marked.for_each(|(atom, _)| atom.pledge = pledge);
        }
    }

    /// Calls `change` on every atom.
    pub(crate) fn revise(&mut self, change: impl FnMut(&mut Atom)) {
        Arc::make_mut(&mut self.atoms).iter_mut().for_each(change);
    }

    fn closure(&self, leap: bool, chosen: impl FnMut(&Atom) -> bool) -> Option<Vec<bool>> {
        let mut marks: Vec<bool> = self.atoms.iter().map(chosen).collect();
        if !marks.contains(&true) {
            return None;
        }
        close(&self.atoms, &mut marks, leap);
        Some(marks)
    }

    /// Takes the atoms that `lost` picks, and only those, out: they are no longer pending.
    pub(crate) fn take(&mut self, lost: impl FnMut(&Atom) -> bool) -> Vec<Atom> {
        let marks: Vec<bool> = self.atoms.iter().map(lost).collect();
        if marks.contains(&true) { self.remove(&marks) } else { Vec::new() }
    }

    fn remove(&mut self, marks: &[bool]) -> Vec<Atom> {
        let (mut out, mut kept) = (Vec::new(), Vec::new());
        for (atom, &taken) in self.atoms.iter().zip(marks) {
            if taken { &mut out } else { &mut kept }.push(atom.clone());
        }
        for atom in &out {
            if self.newest.get(&atom.slot) == Some(&atom.id) {
                self.newest.remove(&atom.slot);
            }
        }
        // A chain whose newest versions went goes on from what is left of it.
        for atom in kept.iter().filter(|a: &&Atom| !self.newest.contains_key(&a.slot)).collect::<Vec<_>>() {
            self.newest.insert(atom.slot.clone(), atom.id);
        }
        self.atoms = Arc::new(kept);
        out
    }
}

/// Where the atom with this id stands, while it is pending.
pub(crate) fn position(atoms: &[Atom], id: u64) -> Option<usize> {
    if id == 0 { None } else { atoms.binary_search_by_key(&id, |a| a.id).ok() }
}

/// The atoms that one cannot do without, by position.
pub(crate) fn needs_of(atoms: &[Atom], i: usize, leap: bool) -> impl Iterator<Item = usize> {
    let mut before = if leap { None } else { position(atoms, atoms[i].after) };
    // The journal goes on without what can come home no more (A4).
    while let Some(b) = before
        && atoms[b].is_stuck()
    {
        before = position(atoms, atoms[b].after);
    }
    let direct = atoms[i].needs.iter().chain([&atoms[i].prev]);
    direct.filter_map(|&id| position(atoms, id)).chain(before)
}

/// Extends `marks` by everything the marked atoms need.
fn close(atoms: &[Atom], marks: &mut [bool], leap: bool) {
    let mut todo: Vec<usize> = (0..atoms.len()).filter(|&i| marks[i]).collect();
    while let Some(i) = todo.pop() {
        for n in needs_of(atoms, i, leap) {
            if !marks[n] {
                marks[n] = true;
                todo.push(n);
            }
        }
    }
}
