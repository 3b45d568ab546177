//! The naive model: all versions for ever, floors recomputed, every combination tried.

use std::collections::{BTreeMap, BTreeSet};

/// Path to letters, one per half sector.
pub type Image = BTreeMap<String, Vec<u8>>;

/// One call; lengths in half sectors.
#[derive(Clone, Debug)]
pub enum Op {
    Create(String),
    Write { file: String, half: usize, halves: usize, value: u8 },
    SetLen { file: String, halves: usize },
    SyncAll(String),
    SyncData(String),
    SyncDir(String),
    Remove(String),
    Rename(String, String),
}

const NAMES: [&str; 8] = ["a", "a", "a", "c", "d/b", "d/b", "d/c", "e"];

impl Op {
    pub fn from_words(x: u32, y: u32) -> Self {
        let name = |n: u32| NAMES[n as usize % NAMES.len()].to_string();
        let (file, small, value) = (name(y), (y >> 8) as usize, b'A' + (y >> 16) as u8 % 26);
        match x % 16 {
            0 | 1 => Self::Create(file),
            2..=6 => Self::Write { file, half: small % 5, halves: 1 + (x >> 8) as usize % 3, value },
            7 | 8 => Self::SetLen { file, halves: small % 6 },
            9 => Self::SyncAll(file),
            10 => Self::SyncData(file),
            11 => Self::SyncDir(if y.is_multiple_of(2) { "" } else { "d" }.into()),
            12 => Self::Remove(file),
            _ => Self::Rename(file, name(y >> 8)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Name(String),
    Size(usize),
    Sector(usize, usize),
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Names(Option<usize>),
    Halves(usize),
    Pair(u8, u8),
}

#[derive(Clone, Debug)]
struct Version {
    value: Value,
    needs: Vec<(Slot, usize)>,
}

#[derive(Default)]
pub struct Naive {
    chains: BTreeMap<Slot, Vec<Version>>,
    floors: BTreeMap<Slot, usize>,
    inodes: usize,
}

fn dir(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(d, _)| d)
}

impl Naive {
    pub fn prepared() -> Self {
        let mut m = Self::default();
        m.run(&Op::Create("a".into()));
        m.run(&Op::Write { file: "a".into(), half: 0, halves: 4, value: b'o' });
        m.run(&Op::Create("d/b".into()));
        m.run(&Op::Write { file: "d/b".into(), half: 0, halves: 2, value: b'p' });
        for (slot, chain) in &m.chains {
            m.floors.insert(slot.clone(), chain.len() - 1);
        }
        m
    }

    /// Index 0 of every chain is what was there before anything: no name, no length, zeros.
    fn chain(&mut self, slot: &Slot) -> &mut Vec<Version> {
        let first = match slot {
            Slot::Name(_) => Value::Names(None),
            Slot::Size(_) => Value::Halves(0),
            Slot::Sector(..) => Value::Pair(b'z', b'z'),
        };
        self.chains.entry(slot.clone()).or_insert_with(|| vec![Version { value: first, needs: vec![] }])
    }

    fn add(&mut self, slot: &Slot, value: Value) -> usize {
        let chain = self.chain(slot);
        chain.push(Version { value, needs: vec![] });
        chain.len() - 1
    }

    fn newest(&mut self, slot: &Slot) -> Value {
        self.chain(slot).last().unwrap().value.clone()
    }

    fn inode(&self, name: &str) -> Option<usize> {
        match self.chains.get(&Slot::Name(name.into()))?.last()?.value {
            Value::Names(to) => to,
            _ => None,
        }
    }

    fn size(&mut self, ino: usize) -> usize {
        match self.newest(&Slot::Size(ino)) {
            Value::Halves(n) => n,
            _ => unreachable!(),
        }
    }

    /// The call as it would be made now, or nothing when it would only fail.
    pub fn makes_sense(&self, op: &Op) -> Option<Op> {
        let there = |n: &String| self.inode(n).is_some();
        let ok = match op {
            Op::Create(f) => !there(f),
            Op::Write { file, .. } | Op::SetLen { file, .. } => there(file),
            Op::SyncAll(f) | Op::SyncData(f) | Op::Remove(f) => there(f),
            Op::SyncDir(_) => true,
            Op::Rename(f, t) => there(f) && f != t,
        };
        ok.then(|| op.clone())
    }

    pub fn run(&mut self, op: &Op) {
        match op {
            Op::Create(f) => {
                self.inodes += 1;
                let ino = self.inodes;
                self.add(&Slot::Name(f.clone()), Value::Names(Some(ino)));
                self.chain(&Slot::Size(ino));
            }
            Op::Write { file, half, halves, value } => self.write(file, *half, *halves, *value),
            Op::SetLen { file, halves } => self.set_len(file, *halves),
            Op::SyncAll(f) => self.sync(f, true),
            Op::SyncData(f) => self.sync(f, false),
            Op::SyncDir(d) => {
                let slots: Vec<Slot> =
                    self.chains.keys().filter(|s| matches!(s, Slot::Name(n) if dir(n) == d)).cloned().collect();
                self.raise(&slots);
            }
            Op::Remove(f) => drop(self.add(&Slot::Name(f.clone()), Value::Names(None))),
            Op::Rename(f, t) => self.rename(f, t),
        }
    }

    fn write(&mut self, file: &str, half: usize, halves: usize, value: u8) {
        let ino = self.inode(file).unwrap();
        let end = half + halves;
        for s in half / 2..end.div_ceil(2) {
            let slot = Slot::Sector(ino, s);
            let Value::Pair(mut x, mut y) = self.newest(&slot) else { unreachable!() };
            if (half..end).contains(&(2 * s)) {
                x = value;
            }
            if (half..end).contains(&(2 * s + 1)) {
                y = value;
            }
            self.add(&slot, Value::Pair(x, y));
        }
        if end > self.size(ino) {
            self.add(&Slot::Size(ino), Value::Halves(end));
        }
    }

    fn set_len(&mut self, file: &str, halves: usize) {
        let ino = self.inode(file).unwrap();
        let old = self.size(ino);
        if halves == old {
            return;
        }
        self.add(&Slot::Size(ino), Value::Halves(halves));
        for s in halves / 2..old.div_ceil(2) {
            let slot = Slot::Sector(ino, s);
            let Value::Pair(x, _) = self.newest(&slot) else { unreachable!() };
            self.add(&slot, Value::Pair(if halves > 2 * s { x } else { b'z' }, b'z'));
        }
    }

    fn sync(&mut self, file: &str, all: bool) {
        let ino = self.inode(file).unwrap();
        let mut slots: Vec<Slot> =
            self.chains.keys().filter(|s| matches!(s, Slot::Sector(i, _) if *i == ino)).cloned().collect();
        let size = Slot::Size(ino);
        let floor = self.floors.get(&size).copied().unwrap_or(0);
        let newest = self.size(ino);
        // Some length that may be found is too short for the data just made durable.
        let short = self.chain(&size)[floor..].iter().any(|v| matches!(v.value, Value::Halves(n) if n < newest));
        if all || short {
            slots.push(size);
        }
        self.raise(&slots);
    }

    fn rename(&mut self, from: &str, to: &str) {
        let ino = self.inode(from);
        let (old, new) = (Slot::Name(from.into()), Slot::Name(to.into()));
        let (n, o) = (self.add(&new, Value::Names(ino)), self.add(&old, Value::Names(None)));
        self.chain(&old)[o].needs.push((new.clone(), n));
        if dir(from) == dir(to) {
            self.chain(&new)[n].needs.push((old, o));
        }
    }

    /// Moves floors to the newest versions, and to whatever those and all below them need.
    fn raise(&mut self, slots: &[Slot]) {
        for slot in slots {
            let newest = self.chain(slot).len() - 1;
            self.floors.insert(slot.clone(), newest);
        }
        loop {
            let mut more = Vec::new();
            for (slot, &floor) in &self.floors {
                for v in &self.chains[slot][..=floor] {
                    more.extend(v.needs.iter().filter(|(s, k)| self.floors.get(s).copied().unwrap_or(0) < *k).cloned());
                }
            }
            if more.is_empty() {
                return;
            }
            for (slot, k) in more {
                let floor = self.floors.entry(slot).or_insert(0);
                *floor = k.max(*floor);
            }
        }
    }

    fn render(&self, index: &BTreeMap<&Slot, usize>) -> Image {
        let value = |slot: &Slot| index.get(slot).map(|&i| &self.chains[slot][i].value);
        let mut image = Image::new();
        for slot in self.chains.keys() {
            let (Slot::Name(name), Some(Value::Names(Some(ino)))) = (slot, value(slot)) else { continue };
            let Some(Value::Halves(halves)) = value(&Slot::Size(*ino)) else { continue };
            let half = |h: usize| match value(&Slot::Sector(*ino, h / 2)) {
                Some(Value::Pair(x, y)) => {
                    if h.is_multiple_of(2) {
                        *x
                    } else {
                        *y
                    }
                }
                _ => b'z',
            };
            image.insert(name.clone(), (0..*halves).map(half).collect());
        }
        image
    }

    /// What reads see.
    pub fn live(&self) -> Image {
        self.render(&self.chains.iter().map(|(s, c)| (s, c.len() - 1)).collect())
    }

    /// Every image that is legal now; nothing when there are too many combinations to try.
    pub fn images(&self) -> Option<BTreeSet<Image>> {
        let floor = |s: &Slot| self.floors.get(s).copied().unwrap_or(0);
        let slots: Vec<(&Slot, usize, usize)> = self.chains.iter().map(|(s, c)| (s, floor(s), c.len())).collect();
        let total = slots.iter().try_fold(1_usize, |n, (_, lo, hi)| n.checked_mul(hi - lo))?;
        if total > 4_000 {
            return None;
        }
        let mut images = BTreeSet::new();
        for mut n in 0..total {
            let mut index = BTreeMap::new();
            for (slot, lo, hi) in &slots {
                index.insert(*slot, lo + n % (hi - lo));
                n /= hi - lo;
            }
            if self.is_legal(&index) {
                images.insert(self.render(&index));
            }
        }
        Some(images)
    }

    fn is_legal(&self, index: &BTreeMap<&Slot, usize>) -> bool {
        index.iter().all(|(slot, &i)| {
            let floor = self.floors.get(slot).copied().unwrap_or(0);
            self.chains[*slot][..=i].iter().skip(floor + 1).all(|v| v.needs.iter().all(|(s, k)| index[s] >= *k))
        })
    }
}
