//! What is large, old, damaged or empty.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use strandline_vfs::{Call, OpenOptions, fault::Fault};

use crate::btree::{TreeOptions, TreeReader};
use crate::error::ErrorKind;
use crate::limits::KEY_MAX;
use crate::types::CommitSeq;

use super::world::{World, tiny};

type Batch = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn batch<const N: usize>(writes: [(&[u8], Option<&[u8]>); N]) -> Batch {
    writes.into_iter().map(|(k, v)| (k.to_vec(), v.map(<[u8]>::to_vec))).collect()
}

fn checkpoint(world: &World, drop: Option<usize>) {
    let (seq, snapshot) = world.epoch.begin(|| world.registry.visible());
    let stored = world.tree.checkpoint(seq, snapshot).unwrap();
    let rows = world.model.lock().at(snapshot);
    world.complete(seq, stored, rows, drop);
}

#[test]
fn the_longest_keys_and_long_values() {
    for options in [tiny(), TreeOptions::default()] {
        let mut world = World::new(options, 1 << 30);
        let long = |n: u8| [vec![b'k'; KEY_MAX - 1], vec![n]].concat();
        let value = |n: u8| Some(vec![n; 70_000 + usize::from(n)]);
        for n in 0..40 {
            world.commit(&BTreeMap::from([(long(n), value(n)), (vec![n], value(n))])).unwrap();
        }
        checkpoint(&world, None);
        world.commit(&BTreeMap::from([(long(7), value(9)), (long(8), None), (Vec::new(), Some(Vec::new()))])).unwrap();
        checkpoint(&world, Some(0));
        world.reopen();
        let now = world.registry.visible();
        assert_eq!(world.tree.get(now, &long(7)).unwrap().unwrap(), value(9).unwrap());
        assert_eq!(world.tree.get(now, &long(8)).unwrap(), None);
        assert_eq!(world.tree.get(now, b"").unwrap().unwrap(), b"");
        assert_eq!(world.rows(now), world.model.lock().at(now));
    }
}

/// Covers: T3, S1. The blocks of a large value that was overwritten are not written again while a snapshot sees it.
#[test]
fn an_old_reader_keeps_a_large_value() {
    let world = World::new(tiny(), 1 << 20);
    let large = |n: u8| vec![n; 900];
    world.commit(&batch([(b"a", Some(&large(1))), (b"b", Some(b"small"))])).unwrap();
    let reader = world.snapshot();
    for n in 2..30 {
        world.commit(&batch([(b"a", Some(&large(n)))])).unwrap();
        if n % 5 == 0 {
            checkpoint(&world, Some(0));
        }
        assert_eq!(world.tree.get(reader.seq(), b"a").unwrap().unwrap(), large(1));
    }
    drop(reader);
    world.commit(&batch([(b"a", None)])).unwrap();
    for _ in 0..4 {
        world.commit(&batch([(b"b", Some(b"again"))])).unwrap();
        checkpoint(&world, Some(0));
    }
    let (bytes, available, _) = world.store.sizes();
    assert!(bytes - available <= 4096 + 3 * 512, "all large values are given back: {bytes} {available}");
}

/// A commit that cannot write a large value changes nothing and leaves nothing behind.
#[test]
fn a_failed_commit_leaves_nothing() {
    let world = World::new(tiny(), 1 << 20);
    world.commit(&batch([(b"a", Some(b"1"))])).unwrap();
    checkpoint(&world, None);
    world.faults.inject(Fault::on(Call::Write).after(2).error(std::io::ErrorKind::StorageFull));
    let failed = world.commit(&batch([(b"a", Some(b"2")), (b"b", Some(&[3; 900])), (b"c", None)]));
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(world.registry.visible(), CommitSeq(1));
    assert_eq!(world.tree.get(CommitSeq(1), b"a").unwrap().unwrap(), b"1");
    world.commit(&batch([(b"b", Some(&[4; 900]))])).unwrap();
    checkpoint(&world, None);
}

/// Covers: P1. Damage is an error that names file and byte, for those keys that need the damaged block.
#[test]
fn a_damaged_leaf_harms_its_own_keys() {
    let mut world = World::new(tiny(), 1 << 20);
    let rows: Batch = (0..200).map(|n| (format!("{n:04}").into_bytes(), Some(vec![1; 20]))).collect();
    world.commit(&rows).unwrap();
    checkpoint(&world, None);
    world.reopen();
    let root = world.catalog.lock().kept[0].root;
    let mut leaves = Vec::new();
    let walked = TreeReader::open(Arc::clone(&world.store) as _, root).walk(&mut |visit| {
        if visit.kind == crate::page::PageKind::Leaf {
            leaves.push(visit.addr);
        }
        Ok(crate::btree::Descend::Yes)
    });
    walked.unwrap();
    let file = world.vfs.open(Path::new("home/table"), OpenOptions::write()).unwrap();
    file.write_at(&[0xff; 3], leaves[1].offset + 100).unwrap();
    let now = world.registry.visible();
    assert!(world.tree.get(now, b"0000").unwrap().is_some());
    let bad = rows.keys().filter_map(|key| world.tree.get(now, key).err()).collect::<Vec<_>>();
    assert!(!bad.is_empty() && bad.len() < 40);
    for error in bad {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(error.location().unwrap().offset, Some(leaves[1].offset));
    }
}

/// A tree that was emptied is stored as none, and grows again.
#[test]
fn emptied_and_filled_again() {
    let mut world = World::new(tiny(), 1 << 20);
    for round in 0..3 {
        let rows: Batch = (0..300).map(|n| (format!("{n:04}").into_bytes(), Some(vec![round; 10]))).collect();
        world.commit(&rows).unwrap();
        checkpoint(&world, None);
        world.commit(&rows.keys().map(|key| (key.clone(), None)).collect()).unwrap();
        checkpoint(&world, None);
        assert_eq!(world.catalog.lock().kept.last().unwrap().root, None);
        if round == 1 {
            world.reopen();
        }
    }
}
