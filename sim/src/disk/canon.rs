//! Which images to try first when there are too many to try all.
//!
//! A bug that is one missing order, "a must be durable before b", shows in the image that lacks a alone, or holds b alone.
//! So the canonical set is linear in the number of atoms, and catches nearly everything that random subsets find late:
//! none, all; only and all-but each atom, each call, each file; prefixes and suffixes in order of issue; pairs left out;
//! then seeded subsets of several densities. Where the full product is small, it is simply all of it. Where even the linear
//! set is too large, every kind gets a share of the limit and takes members evenly spaced, at a place the seed decides.

use super::frame::{Choice, Frame};
use super::hash::{Dice, mix};
use super::pending::Slot;
use std::collections::{BTreeMap, BTreeSet};

/// How many images to derive from a barrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// At most this many choices per barrier.
    pub choices: usize,
    /// Enumerate everything when the product of the chains is at most this.
    pub product: usize,
    /// Leave out pairs of atoms when there are at most this many atoms.
    pub pairs: usize,
    /// Seeded random choices.
    pub random: usize,
    /// Their seed.
    pub seed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { choices: 4096, product: 4096, pairs: 24, random: 32, seed: 0 }
    }
}

impl Limits {
    /// Everything, always; for small cases.
    #[must_use]
    pub const fn exhaustive() -> Self {
        Self { choices: usize::MAX, product: usize::MAX, pairs: 0, random: 0, seed: 0 }
    }

    /// Canonical choices only, at most `choices` of them.
    #[must_use]
    pub const fn canonical(choices: usize) -> Self {
        Self { choices, product: 64, pairs: 8, random: 8, seed: 0 }
    }
}

struct Found {
    seen: BTreeSet<Choice>,
    out: Vec<Choice>,
    most: usize,
}

impl Found {
    fn add(&mut self, c: Choice) {
        if !self.is_full() && self.seen.insert(c.clone()) {
            self.out.push(c);
        }
    }

    fn is_full(&self) -> bool {
        self.out.len() >= self.most
    }
}

/// Legal choices of a frame, the most telling first, without repetition.
#[must_use]
pub fn canonical(frame: &Frame, limits: &Limits) -> Vec<Choice> {
    let mut found = Found { seen: BTreeSet::new(), out: Vec::new(), most: limits.choices.max(1) };
    found.add(frame.all());
    found.add(frame.none());
    if !product(frame, limits.product, &mut found) {
        let mut dice = Dice::new(limits.seed ^ mix(frame.barrier().event, frame.len() as u64));
        let share = limits.choices / 16;
        singles(frame, &spaced(frame.len(), share * 4, &mut dice), &mut found);
        let groups = groups(frame);
        for i in spaced(groups.len(), share * 2, &mut dice) {
            found.add(frame.without(groups[i].iter().copied()));
            found.add(frame.with(groups[i].iter().copied()));
        }
        for i in spaced(frame.len(), share, &mut dice) {
            found.add(frame.with(0..i));
            found.add(frame.without(0..i));
        }
        pairs(frame, limits.pairs, &mut found);
        random(frame, limits.random, &mut dice, &mut found);
    }
    found.out
}

/// At most `most` of the numbers below `n`, evenly spaced, newest first.
fn spaced(n: usize, most: usize, dice: &mut Dice) -> Vec<usize> {
    let step = n.div_ceil(most.max(1)).max(1);
    let first = dice.below(step as u64) as usize;
    (first..n).step_by(step).collect::<Vec<_>>().into_iter().rev().collect()
}

/// The atoms of every chain, oldest first.
fn chains(frame: &Frame) -> Vec<Vec<usize>> {
    let mut chains: BTreeMap<&Slot, Vec<usize>> = BTreeMap::new();
    for i in 0..frame.len() {
        chains.entry(&frame.atom(i).slot).or_default().push(i);
    }
    chains.into_values().collect()
}

/// All legal choices, when there are few enough.
fn product(frame: &Frame, most: usize, found: &mut Found) -> bool {
    let chains = chains(frame);
    let total = chains.iter().try_fold(1_usize, |n, c| n.checked_mul(c.len() + 1));
    if total.is_none_or(|n| n > most) {
        return false;
    }
    let mut index = vec![0; chains.len()];
    let mut choice = frame.none();
    while !found.is_full() {
        if frame.is_legal(&choice) {
            found.add(choice.clone());
        }
        let Some(c) = index.iter().zip(&chains).position(|(&i, chain)| i < chain.len()) else { return true };
        for (i, chain) in index.iter_mut().zip(&chains).take(c) {
            *i = 0;
            chain.iter().for_each(|&a| choice.put(a, false));
        }
        choice.put(chains[c][index[c]], true);
        index[c] += 1;
    }
    true
}

fn singles(frame: &Frame, atoms: &[usize], found: &mut Found) {
    for &i in atoms {
        found.add(frame.without([i]));
        found.add(frame.with([i]));
    }
}

/// Whole files and whole calls.
fn groups(frame: &Frame) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<(bool, u64), Vec<usize>> = BTreeMap::new();
    for i in 0..frame.len() {
        let atom = frame.atom(i);
        groups.entry((false, atom.event)).or_default().push(i);
        let (Slot::Sector(ino, _) | Slot::Size(ino) | Slot::Name(ino, _)) = &atom.slot;
        groups.entry((true, *ino)).or_default().push(i);
    }
    groups.into_values().collect()
}

fn pairs(frame: &Frame, most: usize, found: &mut Found) {
    let n = if frame.len() <= most { frame.len() } else { 0 };
    for a in 0..n {
        for b in 0..a {
            found.add(frame.without([a, b]));
        }
    }
}

fn random(frame: &Frame, rounds: usize, dice: &mut Dice, found: &mut Found) {
    for round in 0..rounds {
        let density = [128, 32, 224, 8, 248][round % 5];
        let picked: Vec<usize> = (0..frame.len()).filter(|_| dice.below(256) < density).collect();
        found.add(if round % 2 == 0 { frame.with(picked) } else { frame.without(picked) });
    }
}
