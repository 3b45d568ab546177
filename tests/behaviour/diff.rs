//! Whether two states are the same, and where they differ.

use std::collections::BTreeMap;

use proptest::prelude::*;
use strandline::{CheckpointOptions, CheckpointRef, Database, KeyRange, StateDiff, TableDiff};

use super::stage::{HOME, Rows, Stage, back_up, fill, key, named, rows, table, value};

fn latest(db: &Database) -> strandline::View {
    db.view(CheckpointRef::Latest).unwrap()
}

fn counter(db: &Database, name: &str) -> u64 {
    db.stats().unwrap().into_iter().find(|(n, _)| *n == name).unwrap().1
}

#[test]
fn a_copy_equals_its_source_and_little_is_read_to_know() {
    let stage = Stage::new();
    let db = stage.create();
    for name in ["a", "b"] {
        fill(&db, name, 3000, name);
    }
    back_up(&db, "copy");
    let copy = stage.options().read_only(true).open("copy").unwrap();
    let copied = latest(&copy);
    let before = counter(&copy, "block_bytes_read");
    assert!(latest(&db).diff(&copied).unwrap().is_same());
    assert_eq!(counter(&copy, "block_bytes_read"), before, "every block is shared");
    let t = table(&db, "a");
    let mut tx = db.begin().unwrap();
    tx.put(&t, key(1500), "other").unwrap();
    tx.put(&t, key(1501), "other").unwrap();
    tx.delete(&t, key(1502)).unwrap();
    tx.put(&t, "zzz", "new").unwrap();
    tx.commit().unwrap();
    fill(&db, "c", 5, "c");
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let diff = copied.diff(&latest(&db)).unwrap();
    let range = |first: Vec<u8>, last: Vec<u8>, keys| KeyRange { first, last, keys };
    let a = TableDiff {
        name: "a".into(),
        only_first: 1,
        only_second: 1,
        values: 2,
        ranges: vec![range(key(1500), key(1502), 3), range(b"zzz".into(), b"zzz".into(), 1)],
    };
    assert_eq!(diff, StateDiff { only_first: vec![], only_second: vec!["c".into()], tables: vec![a] });
    let read = counter(&copy, "block_bytes_read") - before;
    let all: u64 = copy.tables().unwrap().iter().map(|t| t.file_bytes).sum();
    assert!(read < all / 20, "{read} of {all} bytes were read");
}

/// A copy that was opened and written goes its own way: numbers and places may be given twice, and are not believed.
#[test]
fn histories_that_parted_are_compared_by_content() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 500, "a");
    back_up(&db, "copy");
    let copy = stage.open_at("copy");
    for (db, tag) in [(&db, "b"), (&copy, "b")] {
        fill(db, "t", 300, tag);
        db.checkpoint(CheckpointOptions::new()).unwrap();
    }
    assert!(latest(&db).diff(&latest(&copy)).unwrap().is_same());
    fill(&copy, "t", 20, "c");
    copy.checkpoint(CheckpointOptions::new()).unwrap();
    fill(&db, "t", 20, "d");
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let diff = latest(&db).diff(&latest(&copy)).unwrap();
    assert_eq!(diff.tables[0].values, 20);
    let other = Stage::new();
    let stranger = other.create();
    fill(&stranger, "t", 500, "a");
    fill(&stranger, "t", 300, "b");
    fill(&stranger, "t", 20, "d");
    stranger.checkpoint(CheckpointOptions::new()).unwrap();
    assert!(latest(&db).diff(&latest(&stranger)).unwrap().is_same());
}

type Change = (u16, Option<u8>);

fn apply(db: &Database, changes: &[Change]) {
    let t = table(db, "t");
    let mut tx = db.begin().unwrap();
    for (k, v) in changes {
        let k = usize::from(*k);
        match v {
            // Some values are too large for a page.
            Some(v) => tx.put(&t, key(k), value(k, &"v".repeat(usize::from(*v) * 7))).unwrap(),
            None => drop(tx.delete(&t, key(k)).unwrap()),
        }
    }
    tx.commit().unwrap();
}

fn expected(a: &Rows, b: &Rows) -> BTreeMap<Vec<u8>, (bool, bool)> {
    let keys = a.keys().chain(b.keys());
    let differ = keys.filter(|k| a.get(*k) != b.get(*k));
    differ.map(|k| (k.clone(), (a.contains_key(k), b.contains_key(k)))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// Against the naive way: all rows of both, compared.
    #[test]
    fn the_difference_is_what_the_rows_say(
        first in prop::collection::vec((0_u16..400, prop::option::weighted(0.9, any::<u8>())), 1..400),
        second in prop::collection::vec((0_u16..400, prop::option::weighted(0.7, any::<u8>())), 0..60),
    ) {
        let stage = Stage::new();
        let db = stage.create();
        apply(&db, &first);
        named(&db, "first");
        let before = rows(&db, "t");
        apply(&db, &second);
        db.checkpoint(CheckpointOptions::new().force(true)).unwrap();
        let after = rows(&db, "t");
        let diff = db.view(CheckpointRef::Named("first")).unwrap().diff(&latest(&db)).unwrap();
        let expected = expected(&before, &after);
        let found = diff.tables.first().cloned().unwrap_or_default();
        let count = |f: fn(&(bool, bool)) -> bool| expected.values().filter(|v| f(v)).count() as u64;
        prop_assert_eq!(found.only_first, count(|v| *v == (true, false)));
        prop_assert_eq!(found.only_second, count(|v| *v == (false, true)));
        prop_assert_eq!(found.values, count(|v| *v == (true, true)));
        let told: u64 = found.ranges.iter().map(|r| r.keys).sum();
        prop_assert!(told == expected.len() as u64 || found.ranges.len() == 64);
        for range in &found.ranges {
            prop_assert!(expected.contains_key(&range.first) && expected.contains_key(&range.last));
            let inside = expected.range(range.first.clone()..=range.last.clone()).count() as u64;
            prop_assert_eq!(inside, range.keys);
            let same = before.range(range.first.clone()..=range.last.clone()).filter(|(k, _)| !expected.contains_key(*k));
            prop_assert_eq!(same.count(), 0);
        }
        prop_assert_eq!(stage.files(HOME).is_empty(), false);
    }
}
