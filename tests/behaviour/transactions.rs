//! Transactions: TX, and the writes of CU.

use strandline::ErrorKind;

use crate::stage::*;

/// Covers: TX-1, T1, L04.
#[test]
fn a_transaction_sees_its_snapshot_and_its_own_writes() {
    let db = Stage::new().create();
    let t = table(&db, "t");
    put(&db, "t", "a", "1");
    let mut tx = db.begin().unwrap();
    put(&db, "t", "a", "2");
    put(&db, "t", "b", "2");
    assert_eq!(tx.get(&t, "a").unwrap().unwrap().as_ref(), b"1");
    assert!(tx.get(&t, "b").unwrap().is_none());
    tx.put(&t, "c", "own").unwrap();
    assert_eq!(tx.get(&t, "c").unwrap().unwrap().as_ref(), b"own");
    assert!(tx.delete(&t, "c").unwrap());
    assert!(!tx.contains(&t, "c").unwrap());
    let later = db.begin().unwrap();
    assert_eq!(later.get(&t, "a").unwrap().unwrap().as_ref(), b"2");
}

/// Covers: TX-2, T2. The second writer learns it at the write, and may only roll back.
#[test]
fn the_first_writer_wins() {
    let db = Stage::new().create();
    let t = table(&db, "t");
    put(&db, "t", "k", "old");
    let (mut first, mut second) = (db.begin().unwrap(), db.begin().unwrap());
    first.put(&t, "k", "first").unwrap();
    second.put(&t, "other", "x").unwrap();
    let e = second.put(&t, "k", "second").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict);
    assert!(e.is_retryable());
    assert_eq!(kind(second.commit()), ErrorKind::InvalidArgument);
    first.commit().unwrap();
    assert_eq!(rows(&db, "t").len(), 1, "nothing of the second is there");
    assert_eq!(get(&db, "t", "k").as_deref(), Some("first"));
}

/// Covers: TX-2. A commit after the snapshot is a conflict too, and so is a delete.
#[test]
fn a_commit_after_the_snapshot_conflicts() {
    let db = Stage::new().create();
    let t = table(&db, "t");
    put(&db, "t", "k", "old");
    let mut tx = db.begin().unwrap();
    put(&db, "t", "k", "new");
    assert_eq!(kind(tx.put(&t, "k", "mine")), ErrorKind::Conflict);
    let mut tx = db.begin().unwrap();
    let mut deleting = db.begin().unwrap();
    assert!(deleting.delete(&t, "k").unwrap());
    deleting.commit().unwrap();
    assert_eq!(kind(tx.delete(&t, "k")), ErrorKind::Conflict);
    drop(tx);
    put(&db, "t", "k", "again");
}

/// Covers: TX-2. Who rolled back is in nobody's way.
#[test]
fn a_rollback_frees_its_keys() {
    let db = Stage::new().create();
    let t = table(&db, "t");
    let mut tx = db.begin().unwrap();
    tx.put(&t, "k", "never").unwrap();
    tx.rollback();
    let mut dropped = db.begin().unwrap();
    dropped.put(&t, "k", "neither").unwrap();
    drop(dropped);
    assert!(rows(&db, "t").is_empty());
    put(&db, "t", "k", "v");
    assert_eq!(get(&db, "t", "k").as_deref(), Some("v"));
}

/// Covers: TX-4. All tables or none, for every reader.
#[test]
fn a_commit_is_whole_over_all_tables() {
    let db = Stage::new().create();
    let tables: Vec<_> = (0..5).map(|i| table(&db, &format!("t{i}"))).collect();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..300_u32 {
                let mut tx = db.begin().unwrap();
                for t in &tables {
                    tx.put(t, "k", round.to_be_bytes()).unwrap();
                }
                tx.commit().unwrap();
            }
        });
        while !writer.is_finished() {
            let tx = db.begin().unwrap();
            let seen: Vec<_> = tables.iter().map(|t| tx.get(t, "k").unwrap().map(|v| v.as_ref().to_vec())).collect();
            assert!(seen.windows(2).all(|w| w[0] == w[1]), "{seen:?}");
        }
    });
}

/// Covers: CU-2.
#[test]
fn insert_update_and_delete_tell_what_was_there() {
    let db = Stage::new().create();
    let t = table(&db, "t");
    let mut tx = db.begin().unwrap();
    assert_eq!(kind(tx.update(&t, "k", "v")), ErrorKind::NotFound);
    tx.insert(&t, "k", "v1").unwrap();
    assert_eq!(kind(tx.insert(&t, "k", "v2")), ErrorKind::Exists);
    tx.update(&t, "k", "v3").unwrap();
    assert!(tx.delete(&t, "k").unwrap());
    assert!(!tx.delete(&t, "k").unwrap());
    tx.insert(&t, "k", "v4").unwrap();
    // A refusal of that kind leaves the transaction usable.
    tx.commit().unwrap();
    assert_eq!(get(&db, "t", "k").as_deref(), Some("v4"));
}

/// Covers: CU-1, L30.
#[test]
fn truncate_removes_a_range_as_a_whole() {
    let db = Stage::new().create();
    fill(&db, "t", 3000, "a");
    let t = db.table("t").unwrap();
    let mut tx = db.begin().unwrap();
    assert_eq!(tx.truncate(&t, key(100)..key(2900)).unwrap(), 2800);
    assert_eq!(tx.truncate(&t, key(100)..key(2900)).unwrap(), 0);
    assert_eq!(collect(tx.scan(&t).unwrap()).unwrap().len(), 200);
    tx.rollback();
    assert_eq!(rows(&db, "t").len(), 3000);
    let mut tx = db.begin().unwrap();
    assert_eq!(tx.truncate(&t, ..=key(9)).unwrap(), 10);
    assert_eq!(tx.truncate(&t, key(2990)..).unwrap(), 10);
    tx.put(&t, key(5), "back").unwrap();
    tx.commit().unwrap();
    let left = rows(&db, "t");
    assert_eq!(left.len(), 2981);
    assert_eq!(left[&key(5)], b"back");
    let mut tx = db.begin().unwrap();
    assert_eq!(tx.truncate::<&[u8]>(&t, ..).unwrap(), 2981);
    tx.commit().unwrap();
    assert!(rows(&db, "t").is_empty());
}

/// Covers: L06. Large values, over commit and rollback, checkpoint and crash.
#[test]
fn large_values() {
    let stage = Stage::new();
    let db = stage.options().create(true).cache_bytes(64 << 20).open(HOME).unwrap();
    let t = table(&db, "t");
    let large = |n: usize, len: usize| -> Vec<u8> { (0..len).map(|i| (i * 31 + n) as u8).collect() };
    let sizes = [0, 1, 100, 1000, 4096, 100_000, 3_000_000];
    let mut tx = db.begin().unwrap();
    for (i, len) in sizes.iter().enumerate() {
        tx.put(&t, key(i), large(i, *len)).unwrap();
    }
    tx.commit().unwrap();
    let mut tx = db.begin().unwrap();
    tx.put(&t, key(3), large(9, 2_000_000)).unwrap();
    tx.rollback();
    let expected: Rows = sizes.iter().enumerate().map(|(i, len)| (key(i), large(i, *len))).collect();
    assert_eq!(rows(&db, "t"), expected);
    named(&db, "one");
    let old = db.begin().unwrap();
    let mut tx = db.begin().unwrap();
    for i in 0..sizes.len() {
        tx.put(&t, key(i), large(i + 50, sizes[sizes.len() - 1 - i])).unwrap();
    }
    tx.commit().unwrap();
    checkpoint(&db);
    assert_eq!(collect(old.scan(&t).unwrap()).unwrap(), expected, "the old snapshot still reads the old values");
    drop(old);
    assert_eq!(named_rows(&db, "one", "t"), expected);
    let crashed = stage.crash().open();
    assert_eq!(rows(&crashed, "t"), rows(&db, "t"));
    assert_eq!(named_rows(&crashed, "one", "t"), expected);
}

/// Covers: TX-6.
#[test]
fn a_transaction_too_large_gets_full() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 200, "a");
    let t = db.table("t").unwrap();
    let mut tx = db.begin().unwrap();
    let mut written = 0;
    let e = loop {
        match tx.put(&t, format!("big-{written}"), vec![7; 10_000]) {
            Ok(()) => written += 1,
            Err(e) => break e,
        }
        assert!(written < 10_000, "a cache of 1 MiB took 100 MB");
    };
    assert_eq!(e.kind(), ErrorKind::Full);
    assert_eq!(tx.get(&t, key(7)).unwrap().unwrap().as_ref(), value(7, "a"), "what was there stays readable");
    assert_eq!(kind(tx.commit()), ErrorKind::InvalidArgument);
    assert_eq!(rows(&db, "t"), filled(200, "a"));
    fill(&db, "t", 200, "b");
    assert_eq!(rows(&db, "t"), filled(200, "b"));
}

/// More data than memory: everything is evicted and read again.
#[test]
fn more_data_than_memory() {
    let stage = Stage::new();
    let db = stage.options().create(true).cache_bytes(256 << 10).open(HOME).unwrap();
    for tag in ["a", "b", "c"] {
        let t = table(&db, "t");
        for batch in 0..40 {
            let mut tx = db.begin().unwrap();
            for i in batch * 500..(batch + 1) * 500 {
                tx.put(&t, key(i), value(i, tag)).unwrap();
            }
            tx.commit().unwrap();
        }
        assert_eq!(rows(&db, "t"), filled(20_000, tag));
        checkpoint(&db);
    }
    let (used, max) = gauges(&db);
    assert!(used <= max * 2, "{used} bytes in a cache of {max}");
    db.close().unwrap();
    assert_eq!(rows(&stage.open(), "t"), filled(20_000, "c"));
}

fn gauges(db: &strandline::Database) -> (u64, u64) {
    let stats = db.stats().unwrap();
    let of = |name| stats.iter().find(|(n, _)| *n == name).unwrap().1;
    (of("cache_bytes"), of("cache_bytes_max"))
}

/// Covers: TX-2, T2. Transfers among accounts by many threads: nothing is lost, nothing invented.
#[test]
fn many_threads_move_money() {
    let db = Stage::new().create();
    let t = table(&db, "accounts");
    let mut tx = db.begin().unwrap();
    for i in 0..20_u8 {
        tx.put(&t, [i], 100_i64.to_be_bytes()).unwrap();
    }
    tx.commit().unwrap();
    let read = |v: strandline::Value| i64::from_be_bytes(v.as_ref().try_into().unwrap());
    let transfer = |from: u8, to: u8| -> strandline::Result<()> {
        let mut tx = db.begin()?;
        let (a, b) = (read(tx.get(&t, [from])?.unwrap()), read(tx.get(&t, [to])?.unwrap()));
        tx.put(&t, [from], (a - 1).to_be_bytes())?;
        tx.put(&t, [to], (b + 1).to_be_bytes())?;
        tx.commit().map(|_| ())
    };
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            scope.spawn(move || {
                for i in 0..200_u32 {
                    let (from, to) = ([i + thread, i * 7 + thread * 3 + 1]).map(|n| (n % 20) as u8).into();
                    if from == to {
                        continue;
                    }
                    while let Err(e) = transfer(from, to) {
                        assert_eq!(e.kind(), ErrorKind::Conflict, "{e}");
                    }
                }
            });
        }
        scope.spawn(|| (0..20).for_each(|_| checkpoint(&db)));
        for _ in 0..50 {
            let tx = db.begin().unwrap();
            let sum: i64 = tx.scan(&t).unwrap().map(|row| read(row.unwrap().1)).sum();
            assert_eq!(sum, 2000);
        }
    });
    let tx = db.begin().unwrap();
    assert_eq!(tx.scan(&t).unwrap().map(|row| read(row.unwrap().1)).sum::<i64>(), 2000);
}

/// Covers: CU-1, TX-2. A range that cannot vanish as a whole stays as a whole, and nobody else is held up by the attempt.
#[test]
fn a_refused_truncate_changes_nothing() {
    let db = Stage::new().create();
    fill(&db, "t", 20, "a");
    let t = db.table("t").unwrap();
    let mut tx = db.begin().unwrap();
    tx.put(&t, key(3), "mine").unwrap();
    let mut other = db.begin().unwrap();
    other.put(&t, key(9), "theirs").unwrap();
    assert_eq!(kind(tx.truncate::<&[u8]>(&t, ..)), ErrorKind::Conflict);
    assert_eq!(tx.scan(&t).unwrap().count(), 20);
    assert_eq!(tx.get(&t, key(3)).unwrap().unwrap(), b"mine");
    other.put(&t, key(5), "theirs").unwrap();
    assert_eq!(kind(other.put(&t, key(3), "theirs")), ErrorKind::Conflict);
    assert_eq!(kind(tx.commit()), ErrorKind::InvalidArgument);
}
