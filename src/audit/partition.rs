//! B2: at a checkpoint every byte of a file is exactly one of header, reachable, dead, available.
//!
//! Reachable are the blocks of the newest state. Dead are those that only older retained states reach, as the dead lists
//! say; so every block that a walk over an older state met must be in one of the two (B1), and a block that is dead but
//! that no older state reaches is space that nobody will ever give back. The sweep lays all ranges in order of offset and
//! looks at what lies between neighbours.

use std::collections::BTreeMap;

use super::findings::Step;
use super::walk::Walker;
use crate::block::{Dead, SpaceState, data_start};
use crate::types::Extent;

/// What a range of bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Header,
    Reachable,
    Dead,
    Available,
}

impl Class {
    const fn name(self) -> &'static str {
        match self {
            Self::Header => "the header",
            Self::Reachable => "reachable",
            Self::Dead => "dead",
            Self::Available => "available",
        }
    }
}

/// Compares the walks of a file with its lists. `all_walked` says that every retained older state was walked.
///
/// # Errors
/// The halt that findings ask for.
pub fn check(walker: &mut Walker<'_>, space: &SpaceState, dead: &[Dead], unit: u32, all_walked: bool) -> Step {
    if let Err(e) = space.check(unit) {
        return walker.damage(None, e.message().to_owned());
    }
    let dead: BTreeMap<u64, Dead> = check_dead(walker, dead)?;
    older_blocks_are_dead(walker, &dead)?;
    if all_walked {
        dead_blocks_are_reached(walker, &dead)?;
    }
    sweep(walker, space, &dead, unit)
}

/// The dead blocks by offset; one listed twice is a finding.
fn check_dead(walker: &mut Walker<'_>, dead: &[Dead]) -> Step<BTreeMap<u64, Dead>> {
    let mut by_offset = BTreeMap::new();
    for d in dead {
        if by_offset.insert(d.extent.offset, *d).is_some() {
            walker.damage(d.extent.offset, "B2: a block is dead twice")?;
        }
    }
    Ok(by_offset)
}

/// B1: what only an older state reaches must be dead, neither available nor unknown.
fn older_blocks_are_dead(walker: &mut Walker<'_>, dead: &BTreeMap<u64, Dead>) -> Step {
    let stray: Vec<u64> = walker
        .reached
        .iter()
        .filter(|(_, r)| r.first > 0)
        .filter(|(offset, r)| dead.get(offset).is_none_or(|d| d.extent.len != u64::from(r.size) || d.birth != r.birth))
        .map(|(offset, _)| *offset)
        .collect();
    for offset in stray {
        walker.damage(offset, "B1: only an older checkpoint reaches the block, and no dead list has it")?;
    }
    Ok(())
}

fn dead_blocks_are_reached(walker: &mut Walker<'_>, dead: &BTreeMap<u64, Dead>) -> Step {
    let lost: Vec<Extent> = dead
        .values()
        .map(|d| d.extent)
        .filter(|e| walker.reached.get(&e.offset).is_none_or(|r| r.first == 0))
        .collect();
    for e in lost {
        walker.warning(e.offset, format!("B2: {} dead bytes that no retained checkpoint reaches", e.len))?;
    }
    Ok(())
}

/// Lays all ranges side by side from the start of the file to its size.
fn sweep(walker: &mut Walker<'_>, space: &SpaceState, dead: &BTreeMap<u64, Dead>, unit: u32) -> Step {
    let header = (Extent { offset: 0, len: data_start(unit) }, Class::Header);
    let reachable = walker.reached.iter().filter(|(_, r)| r.first == 0);
    let reachable = reachable.map(|(offset, r)| (Extent { offset: *offset, len: u64::from(r.size) }, Class::Reachable));
    let mut ranges: Vec<(Extent, Class)> = std::iter::once(header)
        .chain(reachable)
        .chain(dead.values().map(|d| (d.extent, Class::Dead)))
        .chain(space.available.iter().map(|e| (*e, Class::Available)))
        .collect();
    ranges.sort_unstable();
    let mut end = 0;
    let mut last = Class::Header;
    for (range, class) in ranges {
        if range.offset < end {
            let what = format!("B2: bytes {}..{end} are both {} and {}", range.offset, last.name(), class.name());
            walker.damage(range.offset, what)?;
        } else if range.offset > end {
            walker.damage(end, format!("B2: bytes {end}..{} are of no kind", range.offset))?;
        }
        if range.end() >= end {
            (end, last) = (range.end(), class);
        }
    }
    if end != space.size {
        walker.damage(space.size.min(end), format!("B2: the file has {} bytes, its parts end at {end}", space.size))?;
    }
    Ok(())
}
