//! Barriers, and the images that a crash at one of them may leave.
//!
//! While no floor moves, versions are only added, and leaving them out stays allowed. So all images that were possible at
//! some instant are still possible just before the next floor moves: only those *barriers* need enumerating. An image lives
//! from its *birth*, the issue of the newest version in it (floors included), to its *death*, the barrier where it was
//! enumerated; one recovery judges all that time: what it recovers must have been *called* by the birth and must include
//! what was *acknowledged* by the death.
//!
//! - F1: a [`Choice`] is a set of atoms closed under needs; every choice made here is legal.
//! - F2: an image is durable and has no history: the disk booted from it has nothing pending.
//! - F3: versions on inodes that no name of the image reaches count neither for hash nor for birth.

use super::body::{BLOCK, PAGE};
use super::hash::{self, Dice};
use super::pending::{Atom, Slot, Value, Written, needs_of};
use super::profile::{Profile, TailFill};
use super::state::{Freed, State};
use super::sums::Sums;
use super::tree::{Ino, Tree};
use super::{AtomInfo, SimDisk};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// What a crash at one moment may leave, cheap to keep.
#[derive(Clone)]
pub struct Barrier {
    /// The death of the images found here: the event of the call about to return.
    pub event: u64,
    /// Counts [`SimDisk::turn`]; images of different epochs are judged by different contracts.
    pub epoch: u32,
    /// What made this moment a barrier.
    pub why: &'static str,
    pub(crate) base: Arc<Tree>,
    pub(crate) atoms: Arc<Vec<Atom>>,
    pub(crate) profile: Profile,
    /// Bytes are lost for good that a call had promised: no image has them.
    pub(crate) betrayed: bool,
    pub(crate) freed: Arc<Freed>,
}

/// Which atoms of a [`Frame`] an image holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Choice {
    bits: Vec<u64>,
}

impl Choice {
    pub(crate) fn empty(n: usize) -> Self {
        Self { bits: vec![0; n.div_ceil(64)] }
    }

    /// True when atom `i` is in the image.
    #[must_use]
    pub fn has(&self, i: usize) -> bool {
        self.bits.get(i / 64).is_some_and(|w| w >> (i % 64) & 1 == 1)
    }

    pub(crate) fn put(&mut self, i: usize, on: bool) {
        let bit = 1 << (i % 64);
        if on { self.bits[i / 64] |= bit } else { self.bits[i / 64] &= !bit }
    }

    /// How many atoms are in the image.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bits.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The atoms in the image, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.bits.len() * 64).filter(|&i| self.has(i))
    }
}

/// A barrier with the graph of needs drawn.
pub struct Frame {
    barrier: Barrier,
    needs: Vec<Vec<u32>>,
    needed_by: Vec<Vec<u32>>,
    sums: Sums,
    /// Files whose bytes may lie beyond their lengths in an image that was just put together.
    loose: BTreeSet<Ino>,
}

impl Barrier {
    /// Draws the graph of needs.
    #[must_use]
    pub fn frame(&self) -> Frame {
        let atoms = &self.atoms;
        let mut needs: Vec<Vec<u32>> = vec![Vec::new(); atoms.len()];
        let mut needed_by = vec![Vec::new(); atoms.len()];
        for (i, own) in needs.iter_mut().enumerate() {
            for n in needs_of(atoms, i, false) {
                own.push(n as u32);
                needed_by[n].push(i as u32);
            }
        }
        let sums = Sums::new(&self.base, atoms, self.profile.sector);
        let loose = self.base.loose().chain(atoms.iter().filter_map(|a| a.slot.file())).collect();
        Frame { barrier: self.clone(), needs, needed_by, sums, loose }
    }

    /// How many atoms are pending here.
    #[must_use]
    pub fn atoms(&self) -> usize {
        self.atoms.len()
    }
}

fn spread(choice: &mut Choice, edges: &[Vec<u32>], from: impl IntoIterator<Item = usize>, on: bool) {
    let mut todo: Vec<usize> = from.into_iter().collect();
    while let Some(i) = todo.pop() {
        if choice.has(i) != on {
            choice.put(i, on);
            todo.extend(edges[i].iter().map(|&n| n as usize));
        }
    }
}

impl Frame {
    /// The barrier this was drawn from.
    #[must_use]
    pub fn barrier(&self) -> &Barrier {
        &self.barrier
    }

    /// How many atoms are pending.
    #[must_use]
    pub fn len(&self) -> usize {
        self.needs.len()
    }

    /// True when a crash here can leave one image only.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.needs.is_empty()
    }

    /// The image that lost everything pending.
    #[must_use]
    pub fn none(&self) -> Choice {
        Choice::empty(self.len())
    }

    /// The image that kept everything pending.
    #[must_use]
    pub fn all(&self) -> Choice {
        self.without([])
    }

    /// The least image that holds these atoms: they and their needs.
    #[must_use]
    pub fn with(&self, atoms: impl IntoIterator<Item = usize>) -> Choice {
        let mut c = self.none();
        spread(&mut c, &self.needs, atoms, true);
        c
    }

    /// The greatest image that lacks these atoms: all but them and their dependants.
    #[must_use]
    pub fn without(&self, atoms: impl IntoIterator<Item = usize>) -> Choice {
        let mut c = self.none();
        (0..self.len()).for_each(|i| c.put(i, true));
        spread(&mut c, &self.needed_by, atoms, false);
        c
    }

    /// `choice` with one atom added (and its needs) or dropped (and its dependants).
    #[must_use]
    pub fn toggled(&self, choice: &Choice, atom: usize) -> Choice {
        let mut c = choice.clone();
        let on = !c.has(atom);
        spread(&mut c, if on { &self.needs } else { &self.needed_by }, [atom], on);
        c
    }

    /// True when every atom taken has its needs taken (F1).
    #[must_use]
    pub fn is_legal(&self, choice: &Choice) -> bool {
        choice.iter().all(|i| i < self.len() && self.needs[i].iter().all(|&n| choice.has(n as usize)))
    }

    pub(crate) fn atom(&self, i: usize) -> &Atom {
        &self.barrier.atoms[i]
    }

    /// What atom `i` is, for reports and for generators of choices.
    #[must_use]
    pub fn info(&self, i: usize) -> AtomInfo {
        AtomInfo::of(self.atom(i), &self.barrier.profile)
    }

    /// Makes the image.
    #[must_use]
    pub fn image(&self, choice: &Choice) -> Image {
        let mut tree = Tree::clone(&self.barrier.base);
        for i in choice.iter() {
            self.atom(i).apply(&mut tree, self.barrier.profile.sector);
        }
        if self.barrier.profile.tail_fill != TailFill::Zeros {
            self.fill_tails(&mut tree, choice);
            self.fill_taken(&mut tree, choice);
        }
        tree.trim(&self.loose);
        Image { tree, profile: self.barrier.profile.clone(), freed: Arc::clone(&self.barrier.freed) }
    }

    /// What a sector shows that was never written: noise, or what a file held there that is no more.
    fn filling(&self, ino: Ino, index: u64) -> Option<Vec<u8>> {
        let len = self.barrier.profile.sector;
        if self.barrier.profile.tail_fill == TailFill::Garbage {
            return Some(noise(hash::mix(ino, index), len));
        }
        let (freed, offset) = (&self.barrier.freed, index as usize * len);
        let any = || freed.values().nth(hash::mix(ino, index) as usize % freed.len().max(1));
        // The allocator likes to give the same blocks in the same order again.
        let page = freed.get(&((offset / PAGE) as u64)).or_else(any)?;
        Some(page.bytes[offset % PAGE..offset % PAGE + len].to_vec())
    }

    /// Stale bytes in space that was taken and never written.
    fn fill_taken(&self, tree: &mut Tree, choice: &Choice) {
        if self.barrier.freed.is_empty() {
            return;
        }
        let len = self.barrier.profile.sector as u64;
        let taken = choice.iter().map(|i| self.atom(i)).filter(|a| a.raw != u64::MAX);
        let taken: Vec<(Ino, u64)> = taken.map(|a| (a.slot.inode(), a.raw)).collect();
        if taken.is_empty() {
            return;
        }
        let kept: BTreeSet<&Slot> = choice.iter().map(|i| &self.atom(i).slot).collect();
        for (ino, from) in taken {
            let durable = self.barrier.base.file(ino).map_or(0, |f| f.size);
            let size = tree.file(ino).map_or(0, |f| f.size);
            for index in from.max(durable).div_ceil(len)..size.div_ceil(len) {
                if !kept.contains(&Slot::Sector(ino, index))
                    && let (Some(bytes), Some(file)) = (self.filling(ino, index), tree.file_mut(ino))
                {
                    file.body.write(&bytes, index * len);
                }
            }
        }
    }

    /// Noise or stale bytes in the sectors that an extending write never reached.
    fn fill_tails(&self, tree: &mut Tree, choice: &Choice) {
        let len = self.barrier.profile.sector;
        for i in (0..self.len()).filter(|&i| !choice.has(i)) {
            let atom = self.atom(i);
            let Slot::Sector(ino, index) = atom.slot else { continue };
            let offset = index * len as u64;
            // Only where nothing was ever written: neither in the base nor by an older version in the image.
            let virgin = self.needs[i].iter().all(|&n| self.atom(n as usize).slot != atom.slot)
                && self.barrier.base.file(ino).is_some_and(|f| f.size <= offset);
            if let Some(file) = tree.file_mut(ino).filter(|f| virgin && offset < f.size)
                && let Some(bytes) = self.filling(ino, index)
            {
                file.body.write(&bytes, offset);
            }
        }
    }

    /// Hash and birth of the image of `choice`, without making it where that is possible.
    #[must_use]
    pub fn hash_and_birth(&self, choice: &Choice) -> (u64, u64) {
        let plain = match self.barrier.profile.tail_fill {
            TailFill::Zeros => true,
            TailFill::Garbage => false,
            TailFill::Stale => self.barrier.freed.is_empty(),
        };
        let fast = plain.then(|| self.sums.hash_and_birth(&self.barrier.atoms, choice)).flatten();
        fast.unwrap_or_else(|| self.image(choice).hash_and_birth())
    }

    /// The files of which this image lacks something that a call had promised: a sync that failed later than it said, or one
    /// that lied. The sector of a `damaged` atom, as for [`Frame::damaged`], lacks what it had. `None` when the disk kept its word; no
    /// files when it broke it so thoroughly that none can be named.
    #[must_use]
    pub fn broken_promises(&self, choice: &Choice, damaged: Option<usize>) -> Option<Vec<PathBuf>> {
        let hit = damaged.map(|i| &self.atom(i).slot);
        let gone = |i: usize| !choice.has(i) || hit == Some(&self.atom(i).slot);
        let lacking = |i: &usize| gone(*i) && self.atom(*i).is_betrayed();
        let inos: BTreeSet<Ino> = (0..self.len()).filter(lacking).map(|i| self.atom(i).slot.inode()).collect();
        if self.barrier.betrayed {
            return Some(Vec::new());
        }
        if inos.is_empty() {
            return None;
        }
        let mut tree = Tree::clone(&self.barrier.base);
        self.all().iter().for_each(|i| self.atom(i).apply(&mut tree, self.barrier.profile.sector));
        let mut paths = tree.paths(&inos);
        paths.extend(self.barrier.base.paths(&inos));
        Some(paths)
    }

    /// The sectors that were being written and are not in the image in their newest version: they may be damaged. Gives
    /// the first atom that is missing of each.
    #[must_use]
    pub fn in_flight(&self, choice: &Choice) -> Vec<usize> {
        let missing = |i: usize| !choice.has(i) && matches!(self.atom(i).slot, Slot::Sector(..));
        let first = |i: usize| self.needs[i].iter().all(|&n| choice.has(n as usize) || n as usize >= i);
        (0..self.len()).filter(|&i| missing(i) && first(i)).collect()
    }

    /// The image of `choice` with the sector of one atom, as from [`Frame::in_flight`], caught in the middle of its write.
    #[must_use]
    pub fn damaged(&self, choice: &Choice, atom: usize, damage: Damage) -> Image {
        let mut image = self.image(choice);
        let Slot::Sector(ino, index) = self.atom(atom).slot else { return image };
        let mut torn = Image { tree: image.tree.clone(), ..image.clone() };
        self.atom(atom).apply(&mut torn.tree, self.barrier.profile.sector);
        let all = (0, self.barrier.profile.sector as u16);
        let at_risk = match self.atom(atom).value {
            Value::Sector(_, written) if self.barrier.profile.psow => written,
            _ => all,
        };
        if damage != Damage::Unreadable || at_risk == all {
            image.harm((ino, index), &torn, damage, at_risk, self.atom(atom).event);
        }
        image
    }
}

/// What befalls a sector whose write was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The first `.0` bytes (a multiple of 8) are new, the rest old.
    TornHead(usize),
    /// The first `.0` bytes (a multiple of 8) are old, the rest new.
    TornTail(usize),
    /// Noise from this seed: in the bytes that were being written, or without power-safe overwrite in the whole sector.
    Garbage(u64),
    /// Reading it fails until it is rewritten. Under power-safe overwrite only of a sector that was written whole.
    Unreadable,
}

/// One disk that a crash may leave.
#[derive(Clone)]
pub struct Image {
    pub(crate) tree: Tree,
    pub(crate) profile: Profile,
    freed: Arc<Freed>,
}

impl Image {
    /// Content hash: equal for equal names, lengths, bytes and unreadable sectors.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.tree.hash_and_birth().0
    }

    /// The first event after which this image was possible.
    #[must_use]
    pub fn birth(&self) -> u64 {
        self.tree.hash_and_birth().1
    }

    /// Hash and birth in one walk.
    #[must_use]
    pub fn hash_and_birth(&self) -> (u64, u64) {
        self.tree.hash_and_birth()
    }

    /// A disk that holds this image, durably and without history.
    #[must_use]
    pub fn boot(&self) -> SimDisk {
        let mut tree = self.tree.clone();
        tree.forget_births();
        let freed = Arc::clone(&self.freed);
        SimDisk::from_state(State { freed, ..State::new(self.profile.clone(), tree) })
    }

    /// Every file with its bytes, and every directory with `None`, by path.
    #[must_use]
    pub fn contents(&self) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        self.tree.contents()
    }

    fn harm(&mut self, (ino, index): (Ino, u64), new: &Self, damage: Damage, (from, to): Written, event: u64) {
        let sector = self.profile.sector;
        let offset = index * sector as u64;
        let mut fresh = vec![0; sector];
        if let Some(f) = new.tree.file(ino) {
            f.body.read(&mut fresh, offset);
        }
        if let Some(inode) = self.tree.get_mut(ino) {
            inode.born = inode.born.max(event);
        }
        let Some(file) = self.tree.file_mut(ino) else { return };
        match damage {
            Damage::TornHead(k) => file.body.write(&fresh[..k.min(sector)], offset),
            Damage::TornTail(k) => file.body.write(&fresh[k.min(sector)..], offset + k.min(sector) as u64),
            Damage::Garbage(seed) => {
                file.body.write(&noise(seed, sector)[from as usize..to as usize], offset + u64::from(from));
            }
            Damage::Unreadable => {
                let per = (sector / BLOCK) as u64;
                file.unreadable.extend(index * per..(index + 1) * per);
            }
        }
        file.body.cut(file.size);
    }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(hash::mix(seed, len as u64));
    (0..len.div_ceil(8)).flat_map(|_| dice.next().to_le_bytes()).take(len).collect()
}
