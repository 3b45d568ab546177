//! The hash of an image that was not made.
//!
//! Most choices lead to images that were seen before, so an image should not be built before it is known to be new. The hash
//! of a file is a sum over its blocks: each pending sector version carries the difference it makes to the version before it,
//! and since a choice holds a prefix of every chain, adding up the differences it holds gives the sum of the file.
//!
//! - Z1: equals the hash and birth of the image made, whenever it answers. It declines (`None`) where names or cut lengths
//!   are involved, and the caller makes the image.

use super::body::{BLOCK, PAGE, Page};
use super::frame::Choice;
use super::hash::{self, share};
use super::pending::{Atom, Slot, Value};
use super::tree::{FileInode, Ino, Kind, Tree, file_hash};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a pending atom does to the hash.
enum Effect {
    /// The file by position, the first byte of the sector, the difference to the version before.
    Sector {
        file: usize,
        offset: u64,
        delta: u64,
    },
    Size {
        file: usize,
        size: u64,
    },
    /// On something no durable name reaches.
    Nothing,
    /// Too far-reaching for sums.
    Name,
}

/// A file that pending atoms change.
struct Changed {
    paths: Vec<u64>,
    size: u64,
    sum: u64,
    born: u64,
    /// Sums say nothing about it: bytes beyond its length, or unreadable sectors.
    odd: bool,
}

/// Everything about a frame that its hashes share.
pub(crate) struct Sums {
    constant: u64,
    born: u64,
    files: Vec<Changed>,
    effects: Vec<Effect>,
    sector: u64,
}

/// The bytes of one sector inside the page that holds it, and the number of its first block.
fn blocks(offset: u64, len: u64) -> (u64, std::ops::Range<usize>) {
    let first = (offset % PAGE as u64) as usize / BLOCK;
    (offset / BLOCK as u64, first..first + (len as usize / BLOCK))
}

fn shares(page: Option<&Page>, offset: u64, len: u64) -> u64 {
    let (index, range) = blocks(offset, len);
    let hashes = page.map_or(&[][..], |p| &p.hashes[range]);
    hashes.iter().enumerate().fold(0, |s: u64, (i, &h)| s.wrapping_add(share(index + i as u64, h)))
}

/// As [`shares`], with everything from `size` on read as zero.
fn shares_below(page: &Page, offset: u64, len: u64, size: u64) -> u64 {
    let (index, range) = blocks(offset, len);
    range.enumerate().fold(0, |s: u64, (i, b)| {
        let at = (index + i as u64) * BLOCK as u64;
        let keep = size.saturating_sub(at).min(BLOCK as u64) as usize;
        let mut bytes = [0; BLOCK];
        bytes[..keep].copy_from_slice(&page.bytes[b * BLOCK..b * BLOCK + keep]);
        s.wrapping_add(share(index + i as u64, hash::block(&bytes)))
    })
}

impl Sums {
    pub(crate) fn new(base: &Tree, atoms: &[Atom], sector: usize) -> Self {
        let mut at: BTreeMap<Ino, usize> = BTreeMap::new();
        let mut files = Vec::new();
        for ino in atoms.iter().filter_map(|a| a.slot.file()) {
            at.entry(ino).or_insert_with(|| {
                files.push(Changed::new(base.file(ino)));
                files.len() - 1
            });
        }
        let (mut constant, mut born) = (0_u64, 0);
        base.walk(&mut |path, ino, inode| match (&inode.kind, at.get(&ino)) {
            (Kind::File(_), Some(&i)) => {
                files[i].paths.push(path);
                files[i].born = inode.born;
            }
            (kind, _) => {
                constant = constant.wrapping_add(hash::mix(path, kind.hash()));
                born = born.max(inode.born);
            }
        });
        let effects = Self::effects(base, atoms, sector as u64, |ino| at[&ino]);
        Self { constant, born, files, effects, sector: sector as u64 }
    }

    fn effects(base: &Tree, atoms: &[Atom], sector: u64, at: impl Fn(Ino) -> usize) -> Vec<Effect> {
        let effect = |atom: &Atom| match (&atom.slot, &atom.value) {
            (Slot::Sector(ino, index), Value::Sector(page, _)) if base.file(*ino).is_some() => {
                let offset = index * sector;
                let new = shares(Some(page), offset, sector);
                let old = match older(atoms, atom) {
                    Some(p) => shares(Some(p), offset, sector),
                    None => {
                        let body = base.file(*ino).map(|f| &f.body);
                        shares(body.and_then(|b| b.page(offset / PAGE as u64)).map(Arc::as_ref), offset, sector)
                    }
                };
                Effect::Sector { file: at(*ino), offset, delta: new.wrapping_sub(old) }
            }
            (Slot::Size(ino), Value::Size(size)) if base.file(*ino).is_some() => {
                Effect::Size { file: at(*ino), size: *size }
            }
            (Slot::Name(dir, _), _) if base.get(*dir).is_some() => Effect::Name,
            _ => Effect::Nothing,
        };
        atoms.iter().map(effect).collect()
    }

    /// Hash and birth of the image of a choice (Z1).
    pub(crate) fn hash_and_birth(&self, atoms: &[Atom], choice: &Choice) -> Option<(u64, u64)> {
        let mut now: Vec<(u64, u64, u64)> = self.files.iter().map(|f| (f.size, f.sum, f.born)).collect();
        for i in choice.iter() {
            match self.effects[i] {
                Effect::Name => return None,
                Effect::Size { file, size } => now[file].0 = size,
                Effect::Sector { .. } | Effect::Nothing => {}
            }
        }
        if self.files.iter().zip(&now).any(|(f, n)| f.odd || n.0 < f.size) {
            return None;
        }
        self.add_sectors(atoms, choice, &mut now);
        let (mut sum, mut born) = (self.constant, self.born);
        for (file, n) in self.files.iter().zip(&now) {
            for &path in &file.paths {
                sum = sum.wrapping_add(hash::mix(path, file_hash(n.0, n.1, &[])));
                born = born.max(n.2);
            }
        }
        Some((sum, born))
    }

    fn add_sectors(&self, atoms: &[Atom], choice: &Choice, now: &mut [(u64, u64, u64)]) {
        let mut tails: BTreeMap<usize, usize> = BTreeMap::new();
        for i in choice.iter() {
            match self.effects[i] {
                Effect::Sector { file, offset, delta } => {
                    let (size, sum, born) = &mut now[file];
                    *born = atoms[i].event.max(*born);
                    if offset < *size {
                        *sum = sum.wrapping_add(delta);
                    }
                    if offset < *size && *size < offset + self.sector {
                        tails.insert(file, i);
                    }
                }
                Effect::Size { file, .. } => now[file].2 = atoms[i].event.max(now[file].2),
                Effect::Nothing | Effect::Name => {}
            }
        }
        for (file, i) in tails {
            let (Effect::Sector { offset, .. }, Value::Sector(page, _)) = (&self.effects[i], &atoms[i].value) else {
                continue;
            };
            let (size, sum, _) = &mut now[file];
            let whole = shares(Some(page), *offset, self.sector);
            *sum = sum.wrapping_sub(whole).wrapping_add(shares_below(page, *offset, self.sector, *size));
        }
    }
}

/// The page of the next older version of the same sector, while it is pending.
fn older<'a>(atoms: &'a [Atom], atom: &Atom) -> Option<&'a Page> {
    let i = atoms.binary_search_by_key(&atom.prev, |a| a.id).ok()?;
    match &atoms[i].value {
        Value::Sector(page, _) => Some(page),
        _ => None,
    }
}

impl Changed {
    fn new(file: Option<&FileInode>) -> Self {
        let (size, sum) = file.map_or((0, 0), |f| (f.size, f.body.sum()));
        let odd = file.is_some_and(|f| !f.unreadable.is_empty() || f.body.reaches_beyond(f.size));
        Self { paths: Vec::new(), size, sum, born: 0, odd }
    }
}
