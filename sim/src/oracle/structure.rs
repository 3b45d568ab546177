//! What births promise, looked at block by block.
//!
//! Increments rest on one fact: a block's birth says which checkpoints have it. The engine never checks that, it relies on
//! it; and a copy that was rolled forward wrongly may open well, and read well, until somebody asks for the one row that
//! did not travel. So here every block of a home or a copy is laid beside its birth, and what an increment reports beside
//! the blocks. Nothing of the engine's code takes part: the formats are read anew ([`bytes`](self)), the walk is
//! exhaustive, and the rules are set operations.
//!
//! - `mono` A block is no younger than its parent, a root no younger than its checkpoint; the block says the birth that
//!   its address says. ([`mono`])
//! - `stamp` What a later checkpoint has at a place where an earlier one had other bytes, or none, was born after it; what
//!   both have was not. The earlier state is the disk's own history: kept by whoever calls. ([`stamp`])
//! - `walk` Entering only what was born after a checkpoint reaches all that was born after it. ([`walk`])
//! - `superset` Every live byte in which the base and the pinned state differ is reported. ([`superset`])
//! - `tight` Nothing else is, but what granules and gaps add that were asked for. ([`tight`])
//! - `bytes` A copy rolled forward has every live block of the state that it was rolled to. ([`bytes_equal`])

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use strandline_vfs::Vfs;

mod bytes;
mod state;

pub use bytes::Addr;
pub use state::{FileState, Reached, State};

use state::{manifest_in, shown};

/// What an increment says that it carries: ranges of each file, in order.
pub type Reported = BTreeMap<String, Vec<Range<u64>>>;

/// What an increment may carry beside what changed, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    /// Gaps up to this length between changed blocks.
    pub gap: u64,
    /// Ranges begin and end at multiples of this; 0 for exact ones.
    pub granule: u64,
}

/// What the manifest of an increment says, and where it starts; the log is left out, which has no blocks.
///
/// # Errors
/// Why it is no manifest of an increment by blocks.
pub fn reported(fs: &dyn Vfs, increment: &Path) -> Result<(u64, Reported), String> {
    let manifest = manifest_in(fs, increment)?;
    let since = manifest.since.ok_or("this is no increment by blocks")?;
    let files = manifest.files.into_iter().filter(|file| !file.name.starts_with("StrandlineLog."));
    let files = files.map(|file| {
        let beyond = file.ranges.iter().any(|r| r.end > file.size);
        if beyond { Err(format!("{}: a range beyond its {} bytes", file.name, file.size)) } else { Ok(file) }
    });
    files.map(|file| file.map(|f| (f.name, f.ranges))).collect::<Result<_, _>>().map(|files| (since, files))
}

/// Rule `mono`.
#[must_use]
pub fn mono(state: &State) -> Vec<String> {
    state.broken.clone()
}

/// Rule `stamp`: of two checkpoints of one history, the earlier one as it was found when it was the newest.
#[must_use]
pub fn stamp(earlier: &State, later: &State) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, file) in &later.files {
        let before = earlier.files.get(name);
        for block in file.blocks.values() {
            let addr = block.addr;
            let old = before.and_then(|f| f.blocks.get(&addr.offset));
            let same = old.is_some_and(|old| old.addr.size == addr.size && old.content == block.content);
            if same != (addr.birth <= earlier.seq) {
                let had = if same { "had it" } else { "did not have it" };
                let (born, at) = (shown(addr.birth), shown(earlier.seq));
                broken.push(format!("{name} {}+{}: born for {born}, and {at} {had}", addr.offset, addr.size));
            }
        }
    }
    broken
}

/// Rule `walk`.
#[must_use]
pub fn walk(state: &State, since: u64) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, file) in &state.files {
        let mut met = BTreeSet::new();
        let mut ahead: Vec<Addr> = file.roots.iter().map(|(_, addr)| *addr).collect();
        while let Some(addr) = ahead.pop() {
            if addr.birth > since && met.insert(addr.offset) {
                ahead.extend(file.blocks.get(&addr.offset).iter().flat_map(|b| b.children.iter().copied()));
            }
        }
        let missed = file.blocks.values().filter(|b| b.addr.birth > since && !met.contains(&b.addr.offset));
        broken.extend(missed.map(|b| {
            format!("{name} {}+{}: born for {}, and hidden", b.addr.offset, b.addr.size, shown(b.addr.birth))
        }));
    }
    broken
}

/// The live parts of a file with their digests: its header, and its blocks.
fn parts(file: &FileState) -> impl Iterator<Item = (Range<u64>, u64)> {
    let blocks = file.blocks.values().map(|b| (b.addr.offset..b.addr.offset + u64::from(b.addr.size), b.content));
    std::iter::once((0..file.header, file.header_content)).chain(blocks)
}

/// Rule `superset`: `base` is a copy that the increment is for, before it is applied, `pinned` the state that it leads to.
#[must_use]
pub fn superset(base: &State, pinned: &State, reported: &Reported) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, file) in &pinned.files {
        let had: BTreeMap<u64, (Range<u64>, u64)> =
            base.files.get(name).map(|f| parts(f).map(|p| (p.0.start, p)).collect()).unwrap_or_default();
        let ranges = reported.get(name).map_or(&[][..], Vec::as_slice);
        for part in parts(file).filter(|part| had.get(&part.0.start) != Some(part)) {
            if !ranges.iter().any(|r| r.start <= part.0.start && part.0.end <= r.end) {
                broken.push(format!("{name} {:?}: not in the base, and not reported", part.0));
            }
        }
    }
    broken
}

/// Rule `tight`.
#[must_use]
pub fn tight(pinned: &State, since: u64, reported: &Reported, allowance: Allowance) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, ranges) in reported {
        let allowed = pinned.files.get(name).map(|file| allowed(file, since, allowance)).unwrap_or_default();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0].end > pair[1].start) {
            broken.push(format!("{name} {:?} and {:?}: out of order", pair[0], pair[1]));
        }
        for range in ranges.iter().filter(|r| !allowed.iter().any(|a| a.start <= r.start && r.end <= a.end)) {
            broken.push(format!("{name} {range:?}: reported, and nothing in it was born after {}", shown(since)));
        }
    }
    broken
}

/// What may travel of a file: new blocks, and the header of a file that has no old ones, rounded and with gaps closed.
fn allowed(file: &FileState, since: u64, allowance: Allowance) -> Vec<Range<u64>> {
    let granule = allowance.granule.max(1);
    let new = file.blocks.values().filter(|b| b.addr.birth > since).map(|b| b.addr);
    let fresh = new.clone().count() == file.blocks.len();
    let header = fresh.then_some(0..file.header);
    let mut out: Vec<Range<u64>> = Vec::new();
    for part in header.into_iter().chain(new.map(|a| a.offset..a.offset + u64::from(a.size))) {
        let (start, end) = (part.start / granule * granule, part.end.next_multiple_of(granule));
        match out.last_mut() {
            Some(last) if start <= last.end + allowance.gap => last.end = last.end.max(end),
            _ => out.push(start..end),
        }
    }
    out
}

/// Rule `bytes`: the live blocks of `pinned`, and the headers of its files, stand in `chain` at the same places.
#[must_use]
pub fn bytes_equal(chain: &State, pinned: &State) -> Vec<String> {
    let mut broken = Vec::new();
    if (chain.lineage, chain.seq) != (pinned.lineage, pinned.seq) {
        let (at, of) = (shown(chain.seq), shown(pinned.seq));
        broken.push(format!("the chain ends at {:x}:{at}, and not at {:x}:{of}", chain.lineage, pinned.lineage));
    }
    for (name, file) in &pinned.files {
        let there: BTreeMap<u64, u64> =
            chain.files.get(name).map(|f| parts(f).map(|(r, sum)| (r.start, sum)).collect()).unwrap_or_default();
        let differ = parts(file).filter(|(range, sum)| there.get(&range.start) != Some(sum));
        broken.extend(differ.map(|(range, _)| format!("{name} {range:?}: other bytes in the chain")));
    }
    broken
}
