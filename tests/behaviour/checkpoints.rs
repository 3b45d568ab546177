//! Checkpoints: CK-1 to CK-14, CK-20, CK-21.

use std::time::Duration;

use strandline::sync::SystemClock;
use strandline::{CheckpointOptions, CheckpointRef, Database, ErrorKind};

use crate::stage::*;

fn take(db: &Database, options: CheckpointOptions) -> strandline::CheckpointReport {
    db.checkpoint(options).unwrap()
}

fn stat(db: &Database, name: &str) -> u64 {
    db.stats().unwrap().into_iter().find(|(n, _)| *n == name).unwrap().1
}

/// Covers: CK-2. A crash leaves the last completed checkpoint, of all tables alike.
#[test]
fn a_crash_leaves_the_last_checkpoint() {
    let stage = Stage::new();
    let db = stage.create();
    for round in 0..5 {
        let tag = format!("{round}");
        fill(&db, "one", 300, &tag);
        fill(&db, "two", 200, &tag);
        checkpoint(&db);
        fill(&db, "one", 300, "lost");
        fill(&db, "two", 200, "lost");
        let crashed = stage.crash().open();
        assert_eq!((rows(&crashed, "one"), rows(&crashed, "two")), (filled(300, &tag), filled(200, &tag)));
    }
}

/// Covers: CK-1, C1, C2, C31. Nothing uncommitted is in it, and no part of a transaction.
#[test]
fn a_running_transaction_is_not_in_a_checkpoint() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 200, "old");
    let t = db.table("t").unwrap();
    let mut tx = db.begin().unwrap();
    for i in 0..200 {
        tx.put(&t, key(i), "new").unwrap();
    }
    checkpoint(&db);
    tx.commit().unwrap();
    assert_eq!(rows(&stage.crash().open(), "t"), filled(200, "old"));
    checkpoint(&db);
    assert!(rows(&stage.crash().open(), "t").values().all(|v| v == b"new"));
}

/// Covers: CK-1, C14, C2. Commits race with checkpoints: each is wholly in or wholly out, over two tables.
#[test]
fn commits_race_with_checkpoints() {
    let stage = Stage::new();
    let db = stage.create();
    let (one, two) = (table(&db, "one"), table(&db, "two"));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..400_u32 {
                let mut tx = db.begin().unwrap();
                for i in 0..8 {
                    tx.put(&one, key(i * 97 % 50), round.to_be_bytes()).unwrap();
                }
                tx.put(&one, "round", round.to_be_bytes()).unwrap();
                tx.put(&two, "round", round.to_be_bytes()).unwrap();
                tx.commit().unwrap();
            }
        });
        while !writer.is_finished() {
            checkpoint(&db);
            let view = match db.view(CheckpointRef::Latest) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                view => view.unwrap(),
            };
            let (a, b) = (view.get("one", "round").unwrap(), view.get("two", "round").unwrap());
            assert_eq!(a.as_ref().map(AsRef::as_ref), b.as_ref().map(AsRef::as_ref));
            let all = view_rows(&view, "one");
            if let Some(round) = all.get(&b"round"[..]) {
                let now = (0..8).map(|i| &all[&key(i * 97 % 50)]);
                assert!(now.into_iter().all(|v| v == round), "all rows of one commit are of one round");
            }
        }
    });
    let crashed = stage.crash().open();
    assert_eq!(get_bytes(&crashed, "one"), get_bytes(&crashed, "two"));
}

fn get_bytes(db: &Database, name: &str) -> Option<Vec<u8>> {
    let tx = db.begin().unwrap();
    tx.get(&db.table(name).unwrap(), "round").unwrap().map(|v| v.as_ref().to_vec())
}

/// Covers: CK-3, B29.
#[test]
fn an_unnamed_checkpoint_replaces_earlier_unnamed_ones() {
    let db = Stage::new().create();
    for round in 0..5 {
        fill(&db, "t", 50, &format!("{round}"));
        checkpoint(&db);
        assert_eq!(db.checkpoints().unwrap().len(), 1);
    }
    // One that a view holds goes when the view is gone, also if nothing changes meanwhile.
    let view = db.view(CheckpointRef::Latest).unwrap();
    fill(&db, "t", 50, "5");
    checkpoint(&db);
    assert_eq!(db.checkpoints().unwrap().len(), 2);
    assert_eq!(view_rows(&view, "t"), filled(50, "4"));
    drop(view);
    checkpoint(&db);
    assert_eq!(db.checkpoints().unwrap().len(), 1);
}

/// Covers: C01, CK-4, CK-18, K2. Nine named checkpoints over overlapping ranges, each as it was, before and after reopening.
#[test]
fn named_checkpoints_stay_as_they_were() {
    let stage = Stage::new();
    let mut db = stage.create();
    let mut model = Rows::new();
    let mut history = Vec::new();
    for n in 1..=9_usize {
        let t = table(&db, "t");
        let mut tx = db.begin().unwrap();
        for i in n * 50..n * 50 + 300 {
            tx.put(&t, key(i), value(i, &format!("{n}"))).unwrap();
            model.insert(key(i), value(i, &format!("{n}")));
        }
        for i in (0..n * 20).step_by(3) {
            tx.delete(&t, key(i)).unwrap();
            model.remove(&key(i));
        }
        tx.commit().unwrap();
        named(&db, &format!("c{n}"));
        history.push(model.clone());
        if n % 4 == 0 {
            db.close().unwrap();
            db = stage.open();
        }
        for (i, expected) in history.iter().enumerate() {
            assert_eq!(&named_rows(&db, &format!("c{}", i + 1), "t"), expected);
        }
    }
    assert_eq!(names(&db).len(), 9);
    // Dropping from the middle changes none of the others.
    for gone in [5, 2, 8, 1, 9] {
        take(&db, CheckpointOptions::new().drop(format!("c{gone}")));
        fill(&db, "other", 100, &format!("{gone}"));
        for name in names(&db) {
            let n: usize = name[1..].parse().unwrap();
            assert_eq!(named_rows(&db, &name, "t"), history[n - 1], "after dropping c{gone}");
        }
    }
    assert_eq!(names(&db), ["c3", "c4", "c6", "c7"]);
    db.close().unwrap();
    let db = stage.options().read_only(true).open(HOME).unwrap();
    assert_eq!(named_rows(&db, "c6", "t"), history[5]);
}

/// Covers: CK-4, CK-8. Replacing makes the new and removes the old in one step.
#[test]
fn a_name_can_be_taken_again() {
    let stage = Stage::new();
    let db = stage.create();
    put(&db, "t", "k", "1");
    named(&db, "x");
    put(&db, "t", "k", "2");
    let report = take(&db, CheckpointOptions::new().name("x"));
    assert_eq!(report.dropped.len(), 1);
    assert_eq!(names(&db), ["x"]);
    assert_eq!(named_rows(&db, "x", "t")[&b"k"[..]], b"2");
}

/// Covers: CK-4, CK-7, C06. One that is read cannot go; then nothing is dropped and nothing is made.
#[test]
fn one_blocked_drop_blocks_the_call() {
    let db = Stage::new().create();
    for n in 1..=3 {
        put(&db, "t", "k", &format!("{n}"));
        named(&db, &format!("{n}"));
    }
    let view = db.view(CheckpointRef::Named("2")).unwrap();
    put(&db, "t", "k", "later");
    let before = db.checkpoints().unwrap();
    for blocked in [
        CheckpointOptions::new().name("2").force(true),
        CheckpointOptions::new().drop("2"),
        CheckpointOptions::new().drop("1").drop("2").drop("3"),
        CheckpointOptions::new().drop_from("1"),
        CheckpointOptions::new().drop_to("3"),
        CheckpointOptions::new().drop_all(),
    ] {
        assert_eq!(kind(db.checkpoint(blocked)), ErrorKind::Busy);
        assert_eq!(db.checkpoints().unwrap(), before);
    }
    let latest = db.view(CheckpointRef::Latest).unwrap();
    assert_eq!(view_rows(&latest, "t")[&b"k"[..]], b"3");
    drop(latest);
    take(&db, CheckpointOptions::new().drop("1").drop("3"));
    assert_eq!(view_rows(&view, "t")[&b"k"[..]], b"2");
    drop(view);
    take(&db, CheckpointOptions::new().name("2").force(true));
    take(&db, CheckpointOptions::new().drop_all());
    assert_eq!(names(&db), [""; 0]);
}

/// Covers: CK-5, C09, C39.
#[test]
fn names_of_checkpoints() {
    let db = Stage::new().create();
    put(&db, "t", "k", "v");
    for bad in
        ["all", "latest", "Strandline", "StrandlineCheckpoint.1", "{", "}", "a,b", "a:b", "[x]", "\\", "'", "\"", "a\n"]
    {
        let new = CheckpointOptions::new;
        assert_eq!(kind(db.checkpoint(new().name(bad))), ErrorKind::InvalidArgument, "{bad:?}");
        assert_eq!(kind(db.view(CheckpointRef::Named(bad))), ErrorKind::InvalidArgument, "{bad:?}");
        if bad != "all" {
            for options in [new().drop(bad), new().drop_from(bad), new().drop_to(bad)] {
                assert_eq!(kind(db.checkpoint(options)), ErrorKind::InvalidArgument, "{bad:?}");
            }
        }
    }
    assert!(db.checkpoints().unwrap().is_empty(), "none of them took a checkpoint");
    // Names are compared whole: one that begins another is a name of its own.
    for name in ["W", "Wired", "WiredTiger", "Wire"] {
        put(&db, "t", "k", name);
        named(&db, name);
    }
    take(&db, CheckpointOptions::new().drop("W"));
    take(&db, CheckpointOptions::new().drop("Wired"));
    assert_eq!(names(&db), ["WiredTiger", "Wire"]);
    assert_eq!(named_rows(&db, "Wire", "t")[&b"k"[..]], b"Wire");
    // An empty name means unnamed.
    take(&db, CheckpointOptions::new().name(""));
    assert_eq!(names(&db), ["WiredTiger", "Wire"]);
}

/// Covers: CK-6, C03. Every form of drop; the call takes a checkpoint too, and says what went.
#[test]
fn drops_are_options_of_a_checkpoint() {
    let setup = || {
        let db = Stage::new().create();
        for n in ["a", "b", "c", "d"] {
            put(&db, "t", n, n);
            named(&db, n);
        }
        db
    };
    let new = CheckpointOptions::new;
    for (options, left) in [
        (new().drop("b").drop("nobody"), vec!["a", "c", "d"]),
        (new().drop("b").drop("d"), vec!["a", "c"]),
        (new().drop_from("c"), vec!["a", "b"]),
        (new().drop_from("nobody"), vec!["a", "b", "c", "d"]),
        (new().drop_to("b"), vec!["c", "d"]),
        (new().drop_to("all").drop("all"), vec!["a", "b", "c", "d"]),
        (new().drop_from("all"), vec![]),
        (new().drop_all(), vec![]),
    ] {
        let db = setup();
        put(&db, "t", "later", "x");
        let report = take(&db, options.clone());
        assert!(report.taken);
        assert_eq!(names(&db), left, "{options:?}");
        let dropped = report.dropped.iter().filter(|d| d.name.is_some()).count();
        assert_eq!(dropped, 4 - left.len(), "{options:?}");
        let latest = db.view(CheckpointRef::Latest).unwrap();
        assert_eq!(view_rows(&latest, "t").len(), 5);
        if left.is_empty() {
            assert_eq!(db.checkpoints().unwrap().len(), 1, "exactly one fresh unnamed checkpoint");
        }
    }
}

/// Covers: CK-9.
#[test]
fn drop_from_a_name_and_take_it_again() {
    let db = Stage::new().create();
    for n in ["May", "June", "July"] {
        put(&db, "t", "k", n);
        named(&db, n);
    }
    take(&db, CheckpointOptions::new().drop_from("June").name("June"));
    assert_eq!(names(&db), ["May", "June"]);
    assert_eq!(named_rows(&db, "June", "t")[&b"k"[..]], b"July", "of the present data");
}

/// Covers: CK-8. A drop never leaves a table without a checkpoint.
#[test]
fn dropping_all_keeps_the_data() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "changed", 100, "a");
    fill(&db, "idle", 100, "a");
    named(&db, "x");
    fill(&db, "changed", 100, "b");
    take(&db, CheckpointOptions::new().drop_all());
    let crashed = stage.crash().open();
    assert_eq!(rows(&crashed, "changed"), filled(100, "b"));
    assert_eq!(rows(&crashed, "idle"), filled(100, "a"));
}

/// Covers: CK-10, C19, C23.
#[test]
fn a_checkpoint_with_nothing_to_do() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "busy", 100, "a");
    fill(&db, "idle", 100, "a");
    let first = take(&db, CheckpointOptions::new());
    assert!(first.taken);
    let syncs = stat(&db, "syncs");
    let again = take(&db, CheckpointOptions::new());
    assert!(!again.taken && again.seq == first.seq);
    assert_eq!(stat(&db, "syncs"), syncs, "nothing was done");
    assert!(take(&db, CheckpointOptions::new().force(true)).taken);
    assert!(take(&db, CheckpointOptions::new().name("x")).taken);
    db.close().unwrap();
    let db = stage.open();
    fill(&db, "busy", 100, "b");
    let written = stat(&db, "block_bytes_written");
    take(&db, CheckpointOptions::new().name("y"));
    let cost = stat(&db, "block_bytes_written") - written;
    assert!(cost < 40 << 10, "{cost} bytes for a hundred small rows");
    assert_eq!(named_rows(&db, "y", "idle"), filled(100, "a"), "a table that was not even open is in it");
    assert_eq!(named_rows(&db, "y", "busy"), filled(100, "b"));
    assert_eq!(named_rows(&db, "x", "busy"), filled(100, "a"));
}

/// Covers: CK-14.
#[test]
fn checkpoints_by_time() {
    let stage = Stage::new();
    let db = stage.options().checkpoint_every(Some(Duration::from_secs(10))).create(true).open(HOME).unwrap();
    put(&db, "t", "k", "v");
    assert!(!db.drive().unwrap());
    stage.clock().advance(9_000);
    assert!(!db.drive().unwrap());
    stage.clock().advance(2_000);
    assert!(db.drive().unwrap());
    assert_eq!(get(&stage.crash().open(), "t", "k").as_deref(), Some("v"));
    stage.clock().advance(20_000);
    assert!(!db.drive().unwrap(), "nothing changed");
    put(&db, "t", "k", "w");
    db.set_checkpoint_every(None);
    stage.clock().advance(100_000);
    assert!(!db.drive().unwrap());
}

/// Covers: C33. The engine's own thread does the same.
#[test]
fn checkpoints_by_a_thread() {
    let stage = Stage::new();
    let options = stage.options().workers(strandline::Workers::Threads).clock(std::sync::Arc::new(SystemClock));
    let db = options.create(true).checkpoint_every(Some(Duration::from_millis(20))).open(HOME).unwrap();
    put(&db, "t", "k", "v");
    for _ in 0..500 {
        if !db.checkpoints().unwrap().is_empty() {
            assert_eq!(get(&stage.crash().open(), "t", "k").as_deref(), Some("v"));
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no checkpoint within five seconds");
}

/// Covers: CK-20.
#[test]
fn checkpoints_are_listed() {
    let stage = Stage::new();
    let db = stage.create();
    assert!(db.checkpoints().unwrap().is_empty());
    fill(&db, "t", 500, "a");
    named(&db, "x");
    stage.clock().advance(500);
    fill(&db, "t", 500, "b");
    checkpoint(&db);
    let view = db.view(CheckpointRef::Named("x")).unwrap();
    let list = db.checkpoints().unwrap();
    assert_eq!(list.iter().map(|c| c.name.as_deref()).collect::<Vec<_>>(), [Some("x"), None]);
    assert!(list[0].seq < list[1].seq);
    assert_eq!(list[1].time_ms - list[0].time_ms, 500);
    assert!(list.iter().all(|c| c.bytes > 10_000));
    assert!(list[0].exclusive_bytes > 10_000, "all leaves of x are its own: {list:?}");
    assert_eq!((list[0].pinned_by.len(), list[1].pinned_by.len()), (1, 0));
    drop(view);
}

/// Covers: CK-21, B2. What dropped checkpoints free is used again: files stay bounded.
#[test]
fn space_comes_back() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 2000, "a");
    checkpoint(&db);
    let size = || stage.contents(HOME).values().map(Vec::len).sum::<usize>();
    let first = size();
    for round in 0..30 {
        fill(&db, "t", 2000, &format!("{round}"));
        if round % 3 == 0 {
            named(&db, &format!("n{round}"));
            take(&db, CheckpointOptions::new().drop_to(format!("n{}", round.max(3) - 3)));
        } else {
            checkpoint(&db);
        }
    }
    assert!(size() < first * 6, "{first} bytes grew to {}", size());
    assert_eq!(rows(&db, "t"), filled(2000, "29"));
}

/// Covers: C48. A hundred rounds of change and crash.
#[test]
fn a_hundred_crashes() {
    let mut stage = Stage::new();
    stage.create().close().unwrap();
    let mut model = Rows::new();
    for round in 0..100_usize {
        let db = stage.open();
        assert_eq!(try_rows(&db, "t").unwrap_or_default(), model);
        let t = table(&db, "t");
        let mut tx = db.begin().unwrap();
        for i in (round * 37 % 500..600).step_by(17) {
            tx.put(&t, key(i), value(i, &format!("{round}"))).unwrap();
        }
        tx.delete(&t, key(round * 13 % 600)).unwrap();
        tx.commit().unwrap();
        if round % 3 > 0 {
            checkpoint(&db);
            model = rows(&db, "t");
        }
        fill(&db, "t", 20, "lost");
        let crashed = stage.crash();
        drop(db);
        stage = crashed;
    }
}
