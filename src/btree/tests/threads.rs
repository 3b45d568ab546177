//! Many threads on one small tree: committers, readers at snapshots, a checkpoint that always runs, a cache that is always
//! too small. Every reader compares with the model; every checkpoint is read back and its bytes are accounted for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::btree::TreeStats;

use super::world::{World, tiny};

/// A sequence without pattern; only its spread matters.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

const KEYS: u64 = 400;

fn key(n: u64) -> Vec<u8> {
    format!("{}row{n:06}", if n.is_multiple_of(3) { "a" } else { "b/long/prefix/" }).into_bytes()
}

/// Writes keys of its own; values say which commit wrote them.
fn write(world: &World, own: u64, of: u64, commits: u64) {
    let mut dice = Dice(own + 17);
    for round in 0..commits {
        let mut batch = BTreeMap::new();
        let start = dice.roll(KEYS);
        for i in 0..=dice.roll(20) {
            let n = if round.is_multiple_of(3) { (start + i) % KEYS } else { dice.roll(KEYS) };
            let len = if dice.roll(30) == 0 { 70 + dice.roll(200) } else { dice.roll(40) };
            // It grows, then changes, then shrinks.
            let stays = [1, 4, 8][(round * 3 / commits) as usize];
            let value = (dice.roll(stays) == 0).then(|| vec![round as u8; len as usize]);
            batch.insert(key(n * of + own), value);
        }
        world.commit(&batch).unwrap();
    }
}

fn read(world: &World, seed: u64, stop: &AtomicBool) -> usize {
    let (mut dice, mut done) = (Dice(seed), 0);
    while !stop.load(Ordering::Relaxed) {
        let guard = world.snapshot();
        let snapshot = guard.seq();
        let rows = world.model.lock().at(snapshot);
        for _ in 0..20 {
            let key = key(dice.roll(KEYS * 2));
            assert_eq!(world.tree.get(snapshot, &key).unwrap().as_deref(), rows.get(&key).map(Vec::as_slice), "T1");
        }
        if dice.roll(2) == 0 {
            assert_eq!(world.rows(snapshot), rows, "T3: a scan");
        } else {
            let mut cursor = world.tree.scan(snapshot, std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
            for (key, value) in rows.iter().rev() {
                assert!(cursor.prev().unwrap());
                assert_eq!(
                    (cursor.key(), &cursor.value().unwrap()[..]),
                    (&key[..], &value[..]),
                    "T3: a scan backwards"
                );
            }
            assert!(!cursor.prev().unwrap());
        }
        done += 1;
    }
    done
}

fn checkpoint(world: &World, stop: &AtomicBool) -> usize {
    let (mut dice, mut done) = (Dice(5), 0);
    while !stop.load(Ordering::Relaxed) {
        let (seq, snapshot) = world.epoch.begin(|| world.registry.visible());
        let stored = world.tree.checkpoint(seq, snapshot).unwrap();
        if dice.roll(8) == 0 {
            world.abandon(seq);
            continue;
        }
        let rows = world.model.lock().at(snapshot);
        let kept = world.catalog.lock().kept.len() as u64;
        world.complete(seq, stored, rows, (kept > 1).then(|| dice.roll(kept) as usize));
        done += 1;
    }
    done
}

/// Stops the others when the last writer is done, or one has failed.
struct Writer<'a>(&'a AtomicUsize, &'a AtomicBool);

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 || thread::panicking() {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

fn storm(cache: usize, commits: u64) -> TreeStats {
    let world = World::new(tiny(), cache);
    let (stop, writers) = (AtomicBool::new(false), AtomicUsize::new(2));
    thread::scope(|scope| {
        let (world, stop, writers) = (&world, &stop, &writers);
        let checkpoints = scope.spawn(|| checkpoint(world, stop));
        let readers: Vec<_> = (0..2).map(|seed| scope.spawn(move || read(world, seed, stop))).collect();
        for own in 0..2 {
            scope.spawn(move || {
                let _writer = Writer(writers, stop);
                write(world, own, 2, commits);
            });
        }
        assert!(checkpoints.join().unwrap() > 0);
        assert!(readers.into_iter().map(|reader| reader.join().unwrap()).sum::<usize>() > 0);
    });
    quiet(&world);
    world.tree.stats()
}

/// With nobody else about: rows come and go, and the rest is stored and read again.
fn quiet(world: &World) {
    let small: Vec<_> = (0..300).map(|n| format!("z{n:04}").into_bytes()).collect();
    world.commit(&small.iter().map(|key| (key.clone(), Some(vec![1; 2]))).collect()).unwrap();
    for run in small.chunks(5) {
        world.commit(&run.iter().map(|key| (key.clone(), None)).collect()).unwrap();
    }
    let (seq, snapshot) = world.epoch.begin(|| world.registry.visible());
    let stored = world.tree.checkpoint(seq, snapshot).unwrap();
    let rows = world.model.lock().at(snapshot);
    world.complete(seq, stored, rows.clone(), None);
    for _ in 0..3 {
        assert_eq!(world.rows(snapshot), rows);
    }
}

fn commits() -> u64 {
    std::env::var("STRANDLINE_COMMITS").ok().and_then(|n| n.parse().ok()).unwrap_or(400)
}

/// Covers: T1, T3, C1, B2, E1.
#[test]
fn a_storm_in_a_small_cache() {
    let stats = storm(20_000, commits());
    assert!(stats.splits > 0 && stats.merges > 0 && stats.evict_writes > 0 && stats.inner_evictions > 0, "{stats:?}");
}

/// Covers: T1, T3, C1, B2.
#[test]
fn a_storm_in_a_large_cache() {
    let stats = storm(1 << 22, commits());
    assert!(stats.splits > 0 && stats.merges > 0 && stats.evictions == 0, "{stats:?}");
}
