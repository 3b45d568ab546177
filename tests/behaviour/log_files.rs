//! The files of a log: made, taken ahead of need, missing.

use std::sync::Arc;

use strandline::{Database, Durability, ErrorKind, Options};
use strandline_vfs::Call;
use strandline_vfs::fault::{Fault, FaultVfs};

use super::stage::{HOME, Stage, checkpoint, get, kind, put, rows, small, table, text};

fn logged(stage: &Stage) -> Options {
    stage.options().create(true).log(true).log_segment_bytes_unchecked(2 << 10)
}

fn segments(stage: &Stage) -> Vec<String> {
    stage.files(HOME).into_iter().filter(|name| name.starts_with("StrandlineLog.")).collect()
}

fn stat(db: &Database, name: &str) -> u64 {
    db.stats().unwrap().into_iter().find(|(n, _)| *n == name).unwrap().1
}

/// Homes with commits in the log that no checkpoint holds: a new one, one that has just recovered, one after a checkpoint,
/// and each with one segment and with several. With the number of commits.
fn homes() -> Vec<(&'static str, Stage, usize)> {
    let mut homes = Vec::new();
    for commits in [1, 20] {
        let commit = |db: &Database| (0..commits).for_each(|n| put(db, "t", &format!("k{n}"), "value"));
        let stage = Stage::new();
        let db = logged(&stage).open(HOME).unwrap();
        table(&db, "t");
        commit(&db);
        homes.push(("new", stage.crash(), commits));
        checkpoint(&db);
        put(&db, "t", "k", "in the segment of the position");
        checkpoint(&db);
        commit(&db);
        homes.push(("after a checkpoint", stage.crash(), commits));
        let recovered = stage.crash();
        drop(db);
        let db = recovered.options().log_segment_bytes_unchecked(2 << 10).open(HOME).unwrap();
        commit(&db);
        homes.push(("recovered", recovered.crash(), commits));
    }
    homes
}

/// Covers: LG-10. The last segments of a log, gone or emptied, with all that was acknowledged in them: an error that names the
/// file, and a salvage that keeps the rest. Those that no recovery needs do not matter.
#[test]
fn a_segment_that_was_made_must_be_there() {
    for (what, stage, commits) in homes() {
        let made = segments(&stage);
        let last = made.last().unwrap().clone();
        let gone = stage.crash();
        gone.remove(&format!("{HOME}/{last}"));
        let emptied = stage.crash();
        emptied.write(&format!("{HOME}/{last}"), &vec![0; stage.read(&format!("{HOME}/{last}")).len()]);
        let cut = stage.crash();
        cut.write(&format!("{HOME}/{last}"), b"");
        let all = stage.crash();
        made.iter().for_each(|name| all.remove(&format!("{HOME}/{name}")));
        for (how, damaged) in [("gone", gone), ("emptied", emptied), ("cut", cut), ("all gone", all)] {
            let before = damaged.contents(HOME);
            for read_only in [true, false] {
                let refused = damaged.options().read_only(read_only).open(HOME);
                assert_eq!(kind(refused), ErrorKind::Corrupt, "{what}, {commits} commits, {how}");
                let said = text(damaged.options().read_only(read_only).open(HOME));
                assert!(said.contains("StrandlineLog.") && said.contains("salvage"), "{said}");
            }
            super::stage::unchanged(&damaged, HOME, &before);
            let db = damaged.options().salvage(true).open(HOME).unwrap();
            assert!(rows(&db, "t").len() <= commits + 1, "{what}, {how}");
            put(&db, "t", "after", "x");
            drop(db);
            assert_eq!(get(&damaged.crash().open(), "t", "after").unwrap(), "x");
        }
    }
}

/// Covers: LG-10. What nothing can tell: records that were the last of all, taken away without a trace in the file.
#[test]
fn records_wiped_from_the_end_of_the_last_segment_are_a_torn_tail() {
    let stage = Stage::new();
    let db = logged(&stage).open(HOME).unwrap();
    table(&db, "t");
    put(&db, "t", "k", "v");
    let stage = stage.crash();
    let last = format!("{HOME}/{}", segments(&stage).last().unwrap());
    let mut bytes = stage.read(&last);
    bytes[1024..].fill(0);
    stage.write(&last, &bytes);
    assert_eq!(get(&stage.open(), "t", "k"), None, "the table is in the first round, the row was in the second");
}

/// Covers: LG-5, LG-10. The process dies at any call while segments are made and made again: the database opens, and
/// everything that was acknowledged is there.
#[test]
fn a_death_while_segments_are_made_refuses_no_open() {
    for n in 0.. {
        let stage = Stage::new();
        let vfs = FaultVfs::new(Arc::new(stage.vfs.clone()));
        let options = || small(Arc::new(vfs.clone())).create(true).log(true).log_segment_bytes_unchecked(2 << 10);
        let db = options().open(HOME).unwrap();
        table(&db, "t");
        drop(db);
        vfs.inject(Fault::on_any(Call::ALL).after(n).error(std::io::ErrorKind::Other).for_ever());
        let mut acknowledged = 0;
        if let Ok(db) = options().open(HOME) {
            let t = db.table("t").unwrap();
            for n in 0..12 {
                let mut tx = db.begin().unwrap();
                tx.put(&t, format!("k{n:02}"), [7; 300]).unwrap();
                if tx.commit().is_err() {
                    break;
                }
                acknowledged += 1;
            }
        }
        let struck = vfs.struck();
        vfs.heal();
        // Twice: the second process makes a segment anew that the first has made and not used.
        for _ in 0..2 {
            let db = options().open(HOME).unwrap_or_else(|e| panic!("call {n}: {e}"));
            assert!(rows(&db, "t").len() >= acknowledged, "call {n}");
        }
        if struck == 0 {
            return;
        }
    }
}

/// Covers: LG-9, DB-6. Records that may not be durable are copied before a kept log goes on behind them, which takes space: on
/// a full device the open says so, reading goes on, and with space all is there.
#[test]
fn a_full_device_at_recovery_is_told_and_can_be_read() {
    let stage = Stage::new();
    let db = logged(&stage).keep_log(true).open(HOME).unwrap();
    table(&db, "t");
    let mut tx = db.begin().unwrap();
    tx.put(&db.table("t").unwrap(), "k", "written").unwrap();
    tx.commit_with(Durability::Write).unwrap();
    let crashed = stage.crash();
    let vfs = FaultVfs::new(Arc::new(crashed.vfs.clone()));
    vfs.limit_space(Some(0));
    let open = |read_only| small(Arc::new(vfs.clone())).read_only(read_only).open(HOME);
    let refused = open(false).expect_err("there is no space");
    assert_eq!(refused.kind(), ErrorKind::Io);
    assert!(refused.to_string().contains("space"), "{refused}");
    assert_eq!(get(&open(true).unwrap(), "t", "k").unwrap(), "written");
    vfs.limit_space(None);
    assert_eq!(get(&open(false).unwrap(), "t", "k").unwrap(), "written");
}

/// Covers: R12. Space is taken before it is needed: commits wait for it when a segment begins, and seldom otherwise.
#[test]
fn commits_seldom_wait_for_space() {
    let stage = Stage::new();
    let db = stage.options().create(true).log(true).cache_bytes(64 << 20).open(HOME).unwrap();
    let t = table(&db, "t");
    for n in 0..600_u32 {
        let mut tx = db.begin().unwrap();
        tx.put(&t, n.to_be_bytes(), [9; 20_000]).unwrap();
        tx.commit_with(Durability::Write).unwrap();
    }
    assert!(stat(&db, "log_bytes") > 12_000_000);
    assert_eq!(stat(&db, "log_segments"), 1);
    assert_eq!(stat(&db, "log_short_of_space"), 1, "the first segment");
}

/// Covers: LG-3. While one thread takes space for the log, others commit into what is left.
#[test]
fn a_device_without_space_for_more_still_takes_what_there_is_space_for() {
    let stage = Stage::new();
    let vfs = FaultVfs::new(Arc::new(stage.vfs.clone()));
    let db = small(Arc::new(vfs.clone())).create(true).log(true).cache_bytes(64 << 20).open(HOME).unwrap();
    let t = table(&db, "t");
    put(&db, "t", "first", "x");
    vfs.limit_space(Some(0));
    let mut commits = 0;
    loop {
        let mut tx = db.begin().unwrap();
        tx.put(&t, u32::to_be_bytes(commits), [9; 200]).unwrap();
        if let Err(e) = tx.commit() {
            assert!(e.kind() == ErrorKind::Io && e.to_string().contains("space"), "{e}");
            break;
        }
        commits += 1;
    }
    assert!(commits > 1_000, "a megabyte was there: {commits}");
    vfs.limit_space(None);
    put(&db, "t", "more", "x");
    assert_eq!(rows(&stage.crash().open(), "t").len(), commits as usize + 2);
}
