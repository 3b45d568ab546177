//! Cursors and ranges: CU-1.

use std::ops::Bound;

use strandline::Near;

use crate::stage::*;

/// Covers: CU-1. The end is not an error, again and again, and there is a way back.
#[test]
fn a_cursor_steps_both_ways() {
    let db = Stage::new().create();
    fill(&db, "t", 500, "a");
    let t = db.table("t").unwrap();
    let tx = db.begin().unwrap();
    let mut c = tx.cursor(&t).unwrap();
    assert_eq!((c.key(), c.value().unwrap().is_none()), (None, true));
    for i in 0..500 {
        assert!(c.next().unwrap());
        assert_eq!(c.key(), Some(&*key(i)));
        assert_eq!(c.value().unwrap().unwrap().as_ref(), value(i, "a"));
    }
    for _ in 0..3 {
        assert!(!c.next().unwrap());
        assert_eq!(c.key(), None);
    }
    for i in (0..500).rev() {
        assert!(c.prev().unwrap());
        assert_eq!(c.key(), Some(&*key(i)));
    }
    assert!(!c.prev().unwrap() && !c.prev().unwrap());
    assert!(c.next().unwrap());
    assert_eq!(c.key(), Some(&*key(0)));
    c.reset();
    assert_eq!(c.key(), None);
    assert!(c.prev().unwrap());
    assert_eq!(c.key(), Some(&*key(499)));
    // To and fro across the borders of pages.
    c.reset();
    let mut at = 0_usize;
    assert!(c.next().unwrap());
    for step in 0..2000_usize {
        let forward = !(step / 7).is_multiple_of(3);
        let moved = if forward { c.next() } else { c.prev() }.unwrap();
        match (moved, forward) {
            (true, true) => at += 1,
            (true, false) => at -= 1,
            (false, true) => assert!(c.prev().unwrap()),
            (false, false) => assert!(c.next().unwrap()),
        }
        assert_eq!(c.key(), Some(&*key(at)));
    }
}

/// Covers: CU-1.
#[test]
fn seeking() {
    let db = Stage::new().create();
    let t = table(&db, "t");
    let mut tx = db.begin().unwrap();
    assert_eq!(tx.cursor(&t).unwrap().seek_near("x").unwrap(), None);
    for i in (10..1000).step_by(10) {
        tx.put(&t, key(i), value(i, "a")).unwrap();
    }
    tx.commit().unwrap();
    let tx = db.begin().unwrap();
    let mut c = tx.cursor(&t).unwrap();
    assert!(c.seek(key(500)).unwrap());
    assert_eq!(c.key(), Some(&*key(500)));
    assert!(c.next().unwrap());
    assert_eq!(c.key(), Some(&*key(510)));
    assert!(!c.seek(key(505)).unwrap());
    assert!(c.next().unwrap());
    assert_eq!(c.key(), Some(&*key(510)), "a seek that missed stands between the rows");
    assert!(!c.seek(key(505)).unwrap());
    assert!(c.prev().unwrap());
    assert_eq!(c.key(), Some(&*key(500)));
    for (wanted, near, found) in [
        (500, Near::Exact, 500),
        (501, Near::After, 510),
        (0, Near::After, 10),
        (990, Near::Exact, 990),
        (991, Near::Before, 990),
    ] {
        assert_eq!(c.seek_near(key(wanted)).unwrap(), Some(near));
        assert_eq!(c.key(), Some(&*key(found)));
    }
}

/// Covers: CU-1. Any bounds, from both ends, with the transaction's own writes among the rows.
#[test]
fn ranges_with_all_bounds_from_both_ends() {
    let db = Stage::new().create();
    fill(&db, "t", 300, "a");
    let t = db.table("t").unwrap();
    let mut tx = db.begin().unwrap();
    let mut model = filled(300, "a");
    for i in (0..400).step_by(3) {
        if i % 2 == 0 {
            tx.put(&t, key(i), "own").unwrap();
            model.insert(key(i), b"own".to_vec());
        } else {
            assert_eq!(tx.delete(&t, key(i)).unwrap(), model.remove(&key(i)).is_some());
        }
    }
    let edges = [0, 1, 2, 3, 99, 150, 298, 299, 300, 399, 500];
    let mut bounds = vec![Bound::Unbounded];
    bounds.extend(edges.iter().flat_map(|i| [Bound::Included(key(*i)), Bound::Excluded(key(*i))]));
    for lo in &bounds {
        for hi in &bounds {
            let range = (lo.clone(), hi.clone());
            let expected: Vec<(Vec<u8>, Vec<u8>)> = model
                .iter()
                .filter(|(k, _)| std::ops::RangeBounds::contains(&range, *k))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            let own = |row: strandline::Result<strandline::Row>| row.map(|(k, v)| (k, v.as_ref().to_vec())).unwrap();
            let forward: Vec<_> = tx.range(&t, range.clone()).unwrap().map(own).collect();
            assert_eq!(forward, expected, "{range:?}");
            let mut backward: Vec<_> = tx.range(&t, range.clone()).unwrap().rev().map(own).collect();
            backward.reverse();
            assert_eq!(backward, expected, "{range:?}");
            let mut both = tx.range(&t, range).unwrap();
            let (mut front, mut back) = (Vec::new(), Vec::new());
            loop {
                let turn = (front.len() + back.len()) % 3 == 0;
                match if turn { both.next_back() } else { both.next() } {
                    None => break,
                    Some(row) if turn => back.push(own(row)),
                    Some(row) => front.push(own(row)),
                }
            }
            assert!(both.next().is_none() && both.next_back().is_none());
            back.reverse();
            assert_eq!([front, back].concat(), expected);
        }
    }
}

/// Covers: CU-1.
#[test]
fn prefixes() {
    let db = Stage::new().create();
    let t = table(&db, "t");
    let keys: [&[u8]; 8] = [b"", b"a", b"ab", b"ab\xff", b"ab\xff\xff", b"ac", b"\xff", b"\xff\xff\x01"];
    let mut tx = db.begin().unwrap();
    for k in keys {
        tx.put(&t, k, "v").unwrap();
    }
    tx.commit().unwrap();
    let tx = db.begin().unwrap();
    for prefix in keys.iter().copied().chain([&b"b"[..], b"ab\xff\xff\xff"]) {
        let found: Vec<Vec<u8>> = tx.prefix(&t, prefix).unwrap().map(|r| r.unwrap().0).collect();
        let mut expected: Vec<&[u8]> = keys.iter().copied().filter(|k| k.starts_with(prefix)).collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "{prefix:?}");
    }
}

/// Covers: L07, C27. A long scan sees its snapshot although everything changes under it.
#[test]
fn a_scan_sees_its_snapshot() {
    let db = Stage::new().create();
    fill(&db, "t", 2000, "a");
    let t = db.table("t").unwrap();
    let tx = db.begin().unwrap();
    let mut seen = Rows::new();
    for (i, row) in tx.scan(&t).unwrap().enumerate() {
        let (k, v) = row.unwrap();
        seen.insert(k, v.as_ref().to_vec());
        if i % 400 == 0 {
            fill(&db, "t", 2000, &format!("later-{i}"));
            checkpoint(&db);
        }
        if i == 1000 {
            let mut tx = db.begin().unwrap();
            tx.truncate::<&[u8]>(&t, ..).unwrap();
            tx.commit().unwrap();
            checkpoint(&db);
        }
    }
    assert_eq!(seen, filled(2000, "a"));
}

/// Covers: CU-1. Keys of every shape keep their order.
#[test]
fn keys_of_every_shape() {
    let db = Stage::new().create();
    let t = table(&db, "t");
    let mut model = Rows::new();
    let mut tx = db.begin().unwrap();
    for len in [0_usize, 1, 2, 3, 4, 7, 8, 9, 60, 255, 256, 1000, 5000] {
        for byte in [0_u8, 1, 0x7f, 0x80, 0xff] {
            let mut k = vec![byte; len];
            tx.put(&t, &k, &k).unwrap();
            model.insert(k.clone(), k.clone());
            k.push(0);
            tx.put(&t, &k, "").unwrap();
            model.insert(k, Vec::new());
        }
    }
    tx.commit().unwrap();
    assert_eq!(rows(&db, "t"), model);
    checkpoint(&db);
    for (k, v) in &model {
        assert_eq!(db.begin().unwrap().get(&t, k).unwrap().unwrap().as_ref(), v);
    }
}
