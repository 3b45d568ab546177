//! What changes under a reader: structure between the steps of a scan, and versions that pile up behind an old snapshot.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::btree::TreeOptions;

use super::world::World;

fn key(n: u32) -> Vec<u8> {
    format!("{n:06}").into_bytes()
}

fn put(world: &World, keys: impl Iterator<Item = u32>, value: &[u8]) {
    world.commit(&keys.map(|n| (key(n), Some(value.to_vec()))).collect()).unwrap();
}

/// Leaves with few rows, among deletions that are too few to be folded away by themselves.
fn sparse() -> World {
    let world = World::new(TreeOptions::default(), 1 << 24);
    put(&world, 0..200, &[7; 300]);
    for from in (0..200).step_by(10) {
        let gone: BTreeMap<_, _> = (from..from + 9).map(|n| (key(n), None)).collect();
        world.commit(&gone).unwrap();
    }
    world
}

/// Covers: T1. A scan goes on behind the row where it stood, although the leaf that it left has been merged with the next.
#[test]
fn a_scan_passes_every_row_once_while_leaves_merge() {
    for forward in [true, false] {
        let mut merged = 0;
        for pause in 1..20 {
            let world = sparse();
            let snapshot = world.snapshot();
            let mut cursor = world.tree.scan(snapshot.seq(), Bound::Unbounded, Bound::Unbounded);
            let mut step = || if forward { cursor.next().unwrap() } else { cursor.prev().unwrap() };
            let mut passed = (0..pause).filter(|_| step()).count();
            for from in (0..200).step_by(5) {
                let new = (b'a'..b'm').map(|c| ([key(from), vec![c]].concat(), Some(vec![c])));
                world.commit(&new.collect()).unwrap();
            }
            merged += world.tree.stats().merges;
            passed += std::iter::from_fn(|| step().then_some(())).count();
            assert_eq!(passed, 20, "forward {forward}, pause after {pause}");
        }
        assert!(merged > 0, "the test must make leaves merge");
    }
}

/// What a key was before is not kept for a reader that sees none of it: the bytes go, not only the entries.
#[test]
fn a_hot_key_takes_no_more_memory_the_longer_somebody_reads() {
    let world = World::new(TreeOptions::default(), 1 << 24);
    put(&world, 0..1, &[1; 1000]);
    let old = world.snapshot();
    for _ in 0..2000 {
        put(&world, 0..1, &[2; 1000]);
    }
    assert!(world.cache.used() < 100_000, "{} bytes for two versions", world.cache.used());
    drop(old);
}
