//! Commits that survive a crash: the log, what it promises at each durability, and what recovery makes of it.
//!
//! Where each rule of the log is shown, here unless another file is named (`files` is `log_files`, the rest `log_backup`):
//!
//! | rule | test |
//! | --- | --- |
//! | LG-1, LG-8 | `a_table_outside_the_log_is_at_its_checkpoint`, `no_backup_begins_while_a_table_is_taken_into_the_log` |
//! | LG-2 | `a_commit_that_returned_is_there_after_a_crash`, `what_was_not_committed_is_not_in_the_log` |
//! | LG-3, LG-4 | `each_durability_promises_what_it_says_when_the_process_dies`, `calls_to_a_log_that_is_not_there_are_refused` |
//! | LG-5 | `the_log_can_be_switched_off_and_on_and_nothing_committed_is_lost`, `the_log_may_stand_elsewhere` |
//! | LG-6, LG-7 | `segments_go_with_the_checkpoint_that_needs_them_no_more_unless_they_are_kept`, `an_open_backup_holds_the_log` |
//! | LG-9 | `a_recovery_that_fails_at_any_call_is_repeated`, files `a_full_device_at_recovery_is_told_and_can_be_read` |
//! | LG-10 | `damage_in_the_middle_of_the_log_is_reported_and_salvaged`, files `a_segment_that_was_made_must_be_there` |
//! | LG-11 | `with_a_backup_open_every_commit_and_every_table_survives`, `tables_made_renamed_and_dropped_travel` |
//! | LG-12 | `a_checkpoint_syncs_the_log_before_the_root_record`, of `tests/log_contracts.rs` |
//! | LI-1, LI-3 | `a_chain_of_increments_equals_the_source`, `without_a_checkpoint_the_same_segments_are_listed_again` |
//! | LI-2, LI-8 | `an_increment_that_makes_no_sense_is_refused_at_once`, `chains_of_both_kinds_are_refused` |
//! | LI-4 | `tables_made_renamed_and_dropped_travel`, `a_crash_with_a_backup_open_breaks_no_chain` |
//! | LI-5 | `an_increment_that_can_join_nothing_is_refused_when_it_is_opened` |
//! | LI-6 | `a_gap_is_refused_by_name`, `twins_do_not_take_each_others_increments` |
//! | LI-7 | `a_copy_that_was_opened_takes_no_increment` |
//! | LI-9 | `an_apply_that_dies_at_any_call_is_repeated` |

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strandline::maintenance::VerifyOptions;
use strandline::{
    BackupOptions, CheckpointOptions, Contract, Database, Durability, ErrorKind, Options, Recovery, RecoveryKind,
    TableOptions,
};
use strandline_vfs::fault::{Fault, FaultVfs};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{Call, Vfs};

use super::stage::{
    HOME, Rows, Stage, checkpoint, fill, filled, get, kind, names, put, rows, small, table, table_names, text,
    unchanged,
};

fn logged(stage: &Stage) -> Options {
    stage.options().create(true).log(true).log_segment_bytes_unchecked(16 << 10)
}

fn create(stage: &Stage) -> Database {
    logged(stage).open(HOME).unwrap()
}

fn segments(stage: &Stage) -> Vec<String> {
    stage.files(HOME).into_iter().filter(|name| name.starts_with("StrandlineLog.")).collect()
}

fn sound(db: &Database) {
    let report = db.verify(&VerifyOptions::new()).unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
}

/// Covers: L2, LG-2, LG-9.
#[test]
fn a_commit_that_returned_is_there_after_a_crash() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 300, "a");
    checkpoint(&db);
    fill(&db, "t", 100, "b");
    put(&db, "u", "k", "v");
    let after = stage.crash();
    let db = after.open();
    let mut expected: Rows = filled(300, "a");
    expected.extend(filled(100, "b"));
    assert_eq!(rows(&db, "t"), expected);
    assert_eq!(get(&db, "u", "k").unwrap(), "v");
    let replayed = db.recovery().replayed.clone().unwrap();
    assert_eq!((replayed.records, replayed.writes, replayed.skipped), (2, 101, 0));
    sound(&db);
    // What was recovered is a checkpoint by now: nothing is left to replay.
    let again = after.crash().open();
    assert_eq!(again.recovery().replayed, None);
    assert_eq!(rows(&again, "t"), expected);
}

/// Covers: LG-3. Nothing of a transaction that was not committed comes back, and rolled-back work writes nothing.
#[test]
fn what_was_not_committed_is_not_in_the_log() {
    let stage = Stage::new();
    let db = create(&stage);
    let t = table(&db, "t");
    let before = db.stats().unwrap().into_iter().find(|(name, _)| *name == "log_records").unwrap().1;
    let mut gone = db.begin().unwrap();
    gone.put(&t, "gone", "x").unwrap();
    gone.rollback();
    let mut open = db.begin().unwrap();
    open.put(&t, "open", "x").unwrap();
    let after = db.stats().unwrap().into_iter().find(|(name, _)| *name == "log_records").unwrap().1;
    assert_eq!(before, after);
    put(&db, "t", "kept", "x");
    let found = rows(&stage.crash().open(), "t");
    assert_eq!(found.keys().cloned().collect::<Vec<_>>(), [b"kept".to_vec()]);
}

/// Covers: LG-3, LG-4.
#[test]
fn each_durability_promises_what_it_says_when_the_process_dies() {
    let stage = Stage::new();
    let db = create(&stage);
    let t = table(&db, "t");
    let commit = |key: &str, durability| {
        let mut tx = db.begin().unwrap();
        tx.put(&t, key, "x").unwrap();
        tx.commit_with(durability).unwrap();
    };
    commit("buffered", Durability::Buffered);
    assert_eq!(rows(&stage.crash().open(), "t").len(), 0);
    commit("written", Durability::Write);
    assert_eq!(rows(&stage.crash().open(), "t").len(), 2);
    commit("buffered again", Durability::Buffered);
    db.sync_log(Durability::Write).unwrap();
    assert_eq!(rows(&stage.crash().open(), "t").len(), 3);
    commit("left", Durability::Buffered);
    db.drive().unwrap();
    assert_eq!(rows(&stage.crash().open(), "t").len(), 4);
    let mut tx = db.begin_with(Durability::Sync).unwrap();
    tx.put(&t, "synced", "x").unwrap();
    assert_eq!(kind(tx.commit_with(Durability::Write)), ErrorKind::InvalidArgument);
}

#[test]
fn calls_to_a_log_that_is_not_there_are_refused() {
    let stage = Stage::new();
    let db = stage.create();
    table(&db, "t");
    assert_eq!(kind(db.sync_log(Durability::Sync)), ErrorKind::InvalidArgument);
    let logging = logged(&stage).open("/logged").unwrap();
    assert_eq!(kind(logging.sync_log(Durability::Buffered)), ErrorKind::InvalidArgument);
    assert_eq!(kind(db.log_message("hello")), ErrorKind::InvalidArgument);
    assert_eq!(kind(db.begin_with(Durability::Write).map(drop)), ErrorKind::InvalidArgument);
    assert_eq!(kind(db.begin().unwrap().commit_with(Durability::Write)), ErrorKind::InvalidArgument);
    assert_eq!(kind(db.set_table_log("t", true)), ErrorKind::InvalidArgument);
    assert_eq!(kind(db.set_checkpoint_every_log_bytes(Some(1))), ErrorKind::InvalidArgument);
    assert_eq!(db.remove_log().unwrap(), Vec::<u32>::new());
    drop(db);
    let refused = stage.options().checkpoint_every_log_bytes(Some(1 << 20)).open(HOME);
    assert_eq!(kind(refused), ErrorKind::InvalidArgument);
    assert_eq!(kind(stage.options().keep_log(true).open(HOME)), ErrorKind::InvalidArgument);
    for bytes in [0, (100 << 10) - 1, (2 << 30) + 1] {
        assert_eq!(kind(stage.options().log_segment_bytes(bytes).open(HOME)), ErrorKind::InvalidArgument);
    }
    stage.open();
}

/// Covers: DB-5, LG-5. Switched between opens, with a crash in each state; segment numbers only grow.
#[test]
fn the_log_can_be_switched_off_and_on_and_nothing_committed_is_lost() {
    let stage = Stage::new();
    let mut seen = BTreeSet::new();
    let db = create(&stage);
    put(&db, "t", "1", "logged");
    let mut now = stage.crash();
    for round in 0..3 {
        let note = |stage: &Stage, seen: &mut BTreeSet<String>| {
            for name in segments(stage) {
                assert!(seen.last().is_none_or(|last| name >= *last), "{name} after {seen:?}");
                seen.insert(name);
            }
        };
        note(&now, &mut seen);
        let db = now.options().log(false).open(HOME).unwrap();
        assert_eq!(db.settings().log, None);
        put(&db, "t", &format!("off-{round}"), "x");
        checkpoint(&db);
        put(&db, "t", "lost", "x");
        now = now.crash();
        assert_eq!(segments(&now), Vec::<String>::new());
        let db = now.open();
        assert_eq!(db.settings().log, None, "remembered");
        assert_eq!(get(&db, "t", "lost"), None);
        drop(db);
        let db = now.options().log(true).log_segment_bytes_unchecked(16 << 10).open(HOME).unwrap();
        put(&db, "t", &format!("on-{round}"), "x");
        now = now.crash();
        let db = now.open();
        assert!(db.settings().log.is_some(), "remembered");
        assert!(get(&db, "t", &format!("off-{round}")).is_some() && get(&db, "t", &format!("on-{round}")).is_some());
        put(&db, "t", "more", "x");
        now = now.crash();
    }
    assert_eq!(get(&now.open(), "t", "1").unwrap(), "logged");
}

/// Covers: LG-1, LG-8, TB-8.
#[test]
fn a_table_outside_the_log_is_at_its_checkpoint() {
    let stage = Stage::new();
    let db = create(&stage);
    let (t, u) = (table(&db, "t"), db.create_table("u", TableOptions::new().log(false)).unwrap());
    let both = |value: &str| {
        let mut tx = db.begin().unwrap();
        tx.put(&t, "k", value).unwrap();
        tx.put(&u, "k", value).unwrap();
        tx.commit().unwrap();
    };
    let state = |stage: &Stage| {
        let db = stage.crash().open();
        sound(&db);
        (get(&db, "t", "k"), get(&db, "u", "k"))
    };
    both("1");
    assert_eq!(state(&stage), (Some("1".into()), None));
    checkpoint(&db);
    both("2");
    assert_eq!(state(&stage), (Some("2".into()), Some("1".into())));
    db.set_table_log("u", true).unwrap();
    assert!(db.tables().unwrap().iter().all(|t| t.logged));
    assert_eq!(state(&stage), (Some("2".into()), Some("2".into())));
    both("3");
    assert_eq!(state(&stage), (Some("3".into()), Some("3".into())));
    db.set_table_log("u", false).unwrap();
    both("4");
    assert_eq!(state(&stage), (Some("4".into()), Some("3".into())));
}

/// Covers: L3. Segments of a history that was left do not stay, whenever the crash came between.
#[test]
fn a_history_that_forked_leaves_no_segments_behind() {
    let stage = Stage::new();
    let db = create(&stage);
    put(&db, "t", "1", "x");
    checkpoint(&db);
    let backup = db.backup(BackupOptions::new()).unwrap();
    put(&db, "t", "2", "x");
    let crashed = stage.crash();
    drop(backup);
    for call in [Call::RemoveFile, Call::SyncDir] {
        let vfs = FaultVfs::new(Arc::new(crashed.crash().vfs));
        vfs.inject(Fault::on(call).in_path("StrandlineLog").error(std::io::ErrorKind::Other).for_ever());
        drop(small(Arc::new(vfs.clone())).open(HOME));
        vfs.heal();
        let db = small(Arc::new(vfs.clone())).open(HOME).unwrap();
        assert_eq!(rows(&db, "t").len(), 2);
        let names = vfs.read_dir(std::path::Path::new(HOME)).unwrap();
        let left = names.iter().filter(|e| e.name.to_str().unwrap().starts_with("StrandlineLog"));
        assert_eq!(left.count(), 0);
    }
}

/// Covers: CK-10. Opened again, with nothing changed, a checkpoint does no work.
#[test]
fn a_checkpoint_with_nothing_to_do_does_nothing_with_a_log_too() {
    let stage = Stage::new();
    let db = create(&stage);
    put(&db, "t", "1", "x");
    db.close().unwrap();
    let before = stage.contents(HOME);
    let db = stage.open();
    assert!(!db.checkpoint(CheckpointOptions::new()).unwrap().taken);
    db.close().unwrap();
    unchanged(&stage, HOME, &before);
}

/// Covers: LG-11, TB-9, FB-13. Under `Pinned` the state falls back behind the schema changes, and the log brings them back.
#[test]
fn with_a_backup_open_every_commit_and_every_table_survives() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 50, "a");
    checkpoint(&db);
    let backup = db.backup(BackupOptions::new()).unwrap();
    fill(&db, "t", 20, "b");
    fill(&db, "new", 30, "c");
    db.checkpoint(CheckpointOptions::new().name("meanwhile")).unwrap();
    fill(&db, "gone", 10, "d");
    db.rename_table("new", "newer").unwrap();
    db.drop_table("gone", true).unwrap();
    fill(&db, "new", 5, "e");
    checkpoint(&db);
    put(&db, "newer", "last", "x");
    let expect = |db: &Database| {
        let mut t = filled(50, "a");
        t.extend(filled(20, "b"));
        assert_eq!(rows(db, "t"), t);
        assert_eq!(rows(db, "newer").len(), 31);
        assert_eq!(rows(db, "new"), filled(5, "e"));
        assert_eq!(table_names(db), ["new", "newer", "t"]);
        sound(db);
    };
    let crashed = stage.crash();
    let fallen = crashed.open();
    expect(&fallen);
    assert!(matches!(fallen.recovery().kind, RecoveryKind::FellBack { .. }));
    assert_eq!(names(&fallen), Vec::<String>::new(), "names of checkpoints taken meanwhile are lost");
    assert_ne!(fallen.lineage(), db.lineage());
    fill(&fallen, "other", 10, "f");
    expect_other(&crashed.crash());
    backup.finish().unwrap();
    let kept = stage.crash().open();
    expect(&kept);
    assert_eq!(names(&kept), ["meanwhile"]);
    let latest = stage.crash();
    latest.options().contract(Contract::Latest).open(HOME).unwrap();
}

fn expect_other(stage: &Stage) {
    assert_eq!(rows(&stage.open(), "other"), filled(10, "f"));
}

/// Covers: DB-6, DB-7.
#[test]
fn a_home_with_a_log_to_replay_opens_read_only_and_nothing_is_written() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 200, "a");
    checkpoint(&db);
    fill(&db, "t", 200, "b");
    let after = stage.crash();
    let before = after.contents(HOME);
    assert_eq!(kind(after.options().recovery(Recovery::Refuse).open(HOME)), ErrorKind::NeedsRecovery);
    let read_only = after.options().read_only(true).recovery(Recovery::Refuse).open(HOME);
    assert_eq!(kind(read_only), ErrorKind::NeedsRecovery);
    unchanged(&after, HOME, &before);
    let db = after.options().read_only(true).open(HOME).unwrap();
    assert_eq!(rows(&db, "t"), filled(200, "b"));
    assert_eq!(kind(db.checkpoint(CheckpointOptions::new())), ErrorKind::ReadOnly);
    assert_eq!(kind(db.sync_log(Durability::Sync)), ErrorKind::ReadOnly);
    let t = db.table("t").unwrap();
    assert_eq!(kind(db.begin().unwrap().put(&t, "k", "v")), ErrorKind::ReadOnly);
    assert_eq!(kind(after.options().open(HOME)), ErrorKind::Busy);
    db.close().unwrap();
    unchanged(&after, HOME, &before);
    assert_eq!(rows(&after.open(), "t"), filled(200, "b"));
}

/// Covers: L3, LG-6, LG-7.
#[test]
fn segments_go_with_the_checkpoint_that_needs_them_no_more_unless_they_are_kept() {
    let stage = Stage::new();
    let db = create(&stage);
    for round in 0..8 {
        fill(&db, "t", 200, &format!("r{round}"));
    }
    assert!(segments(&stage).len() > 3);
    checkpoint(&db);
    assert!(segments(&stage).len() <= 1, "{:?}", segments(&stage));
    assert_eq!(kind(db.remove_log()), ErrorKind::InvalidArgument);
    put(&db, "t", "k", "v");
    checkpoint(&db);
    assert!(segments(&stage).len() <= 2, "{:?}", segments(&stage));
    db.close().unwrap();
    let db = stage.options().keep_log(true).log_segment_bytes_unchecked(16 << 10).open(HOME).unwrap();
    for round in 0..4 {
        fill(&db, "t", 200, &format!("u{round}"));
    }
    let kept = segments(&stage).len();
    assert_eq!(db.remove_log().unwrap(), Vec::<u32>::new(), "without a checkpoint nothing goes");
    checkpoint(&db);
    assert_eq!(segments(&stage).len(), kept);
    assert!(!db.remove_log().unwrap().is_empty());
    assert!(segments(&stage).len() <= 1);
}

/// Covers: LG-5. The log stands in a directory of its own, which is remembered; two databases cannot share it.
#[test]
fn the_log_may_stand_elsewhere() {
    let stage = Stage::new();
    let db = logged(&stage).log_dir("wal").open(HOME).unwrap();
    put(&db, "t", "k", "v");
    assert_eq!(segments(&stage), Vec::<String>::new());
    assert_eq!(stage.files("home/wal").len(), 2);
    let after = stage.crash();
    let db = after.open();
    assert_eq!(get(&db, "t", "k").unwrap(), "v");
    drop(db);
    assert_eq!(kind(after.options().log_dir("other").open(HOME)), ErrorKind::InvalidArgument);
    let here = stage.crash();
    let _one = logged(&here).log_dir("/wal").open("/one").unwrap();
    assert_eq!(kind(logged(&here).log_dir("/wal").open("/two")), ErrorKind::Busy);
}

/// Covers: LI-7. A restored copy numbers its segments far from those of its source, so that increments laid over it by
/// mistake are refused, and it is well again without them.
#[test]
fn a_restored_copy_and_its_source_do_not_share_names() {
    let stage = Stage::new();
    let db = logged(&stage).keep_log(true).open(HOME).unwrap();
    fill(&db, "t", 50, "a");
    super::stage::back_up(&db, "copy");
    let copy = stage.open_at("copy");
    fill(&copy, "t", 20, "b");
    fill(&db, "t", 20, "c");
    let mine: Vec<String> = stage.files("copy").into_iter().filter(|n| n.starts_with("StrandlineLog.")).collect();
    assert!(mine.iter().all(|name| !segments(&stage).contains(name)) && !mine.is_empty(), "{mine:?}");
}

/// Covers: LG-5, RS-6. A stranger with the name of a segment that no log ever comes to takes no numbers away.
#[test]
fn a_stranger_numbered_beyond_all_logs_does_not_matter() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 50, "a");
    super::stage::back_up(&db, "copy");
    let other = Stage::new();
    put(&create(&other), "t", "k", "v");
    let bytes = other.read(&format!("{HOME}/{}", segments(&other)[0]));
    for number in ["4294967290", "2147483647", "2147483648"] {
        let now = stage.crash();
        now.write(&format!("copy/StrandlineLog.{number}"), &bytes);
        put(&now.open_at("copy"), "t", "k", "v");
        let crashed = now.crash();
        assert_eq!(get(&crashed.open_at("copy"), "t", "k").unwrap(), "v", "{number}");
    }
}

/// Covers: DB-2. What cannot be a log's directory is refused, and nothing is begun.
#[test]
fn a_log_directory_that_cannot_be_leaves_nothing_behind() {
    let stage = Stage::new();
    for dir in ["Strandline.root", "table-00000001.sl", "Strandline.manifest/log"] {
        assert_eq!(kind(logged(&stage).log_dir(dir).open(HOME)), ErrorKind::InvalidArgument, "{dir}");
    }
    drop(logged(&stage).log_dir("/wal").open("/one").map(|db| put(&db, "t", "k", "v")));
    assert_eq!(kind(logged(&stage).log_dir("/wal").open("/two")), ErrorKind::WrongBase);
    let gone = |dir: &str| stage.vfs.read_dir(std::path::Path::new(dir)).is_err();
    assert!(gone("/two") && gone(HOME), "not even the directory");
    let _open = logged(&stage).log_dir("/in-use").open("/owner").unwrap();
    assert_eq!(kind(logged(&stage).log_dir("/in-use").open("/second")), ErrorKind::Busy);
    assert_eq!(kind(logged(&stage).unit(3).open("/second")), ErrorKind::InvalidArgument);
    assert!(gone("/second"));
    let db = logged(&stage).log_dir("logs").open("/three").unwrap();
    put(&db, "t", "k", "v");
    assert_eq!(stage.crash().open_at("/three").recovery().strangers, Vec::<String>::new());
}

/// Covers: LG-10. A log on a device that is not mounted is no empty log.
#[test]
fn a_log_directory_that_is_not_there_is_told() {
    let stage = Stage::new();
    let db = logged(&stage).log_dir("/mnt").open(HOME).unwrap();
    put(&db, "t", "k", "v");
    let after = stage.crash();
    let there = after.contents("/mnt");
    for name in there.keys() {
        after.remove(&format!("/mnt/{name}"));
    }
    let before = after.contents(HOME);
    for read_only in [false, true] {
        let refused = after.options().read_only(read_only).open(HOME);
        assert_eq!(kind(refused), ErrorKind::Corrupt);
    }
    unchanged(&after, HOME, &before);
    for (name, bytes) in &there {
        after.write(&format!("/mnt/{name}"), bytes);
    }
    assert_eq!(get(&after.open(), "t", "k").unwrap(), "v");
}

/// Covers: CK-14.
#[test]
fn so_many_bytes_of_log_bring_a_checkpoint() {
    let stage = Stage::new();
    let db = logged(&stage).checkpoint_every_log_bytes(Some(1)).open(HOME).unwrap();
    fill(&db, "t", 100, "a");
    db.drive().unwrap();
    assert_eq!(db.checkpoints().unwrap().len(), 0, "raised to the smallest segment");
    for round in 0..30 {
        fill(&db, "t", 200, &format!("r{round}"));
    }
    db.drive().unwrap();
    let first = db.checkpoints().unwrap().last().unwrap().seq;
    db.drive().unwrap();
    assert_eq!(db.checkpoints().unwrap().last().unwrap().seq, first);
}

fn failing() -> (FaultVfs, Database) {
    let vfs = FaultVfs::new(Arc::new(MemVfs::new()));
    let db = small(Arc::new(vfs.clone())).create(true).log(true).log_segment_bytes_unchecked(16 << 10);
    (vfs, db.open(HOME).unwrap())
}

/// Covers: R03. A commit that was refused for want of space is not in the log either, reads go on, and with space so do
/// writes.
#[test]
fn a_full_log_device_refuses_commits_and_nothing_else() {
    for space in [0, 100, 5_000, 20_000] {
        let (vfs, db) = failing();
        fill(&db, "t", 50, "a");
        vfs.limit_space(Some(space));
        let t = db.table("t").unwrap();
        let mut refused = 0;
        for i in 0..200 {
            let mut tx = db.begin().unwrap();
            tx.put(&t, "big", vec![b'x'; 4000]).unwrap();
            tx.put(&t, format!("n{i}"), "x").unwrap();
            if let Err(e) = tx.commit() {
                assert_eq!(e.kind(), ErrorKind::Io, "{e}");
                refused += 1;
            }
        }
        assert!(refused > 0);
        let there = rows(&db, "t");
        assert_eq!(there.len(), 50 + 200 - refused + usize::from(refused < 200));
        vfs.limit_space(None);
        put(&db, "t", "after", "x");
        let expected = rows(&db, "t");
        drop(db);
        let db = small(Arc::new(vfs.clone())).open(HOME).unwrap();
        assert_eq!(rows(&db, "t"), expected);
    }
}

/// Covers: L2. After a sync that failed no later success is believed; the next open says what is there.
#[test]
fn a_failed_sync_of_the_log_poisons() {
    let (vfs, db) = failing();
    put(&db, "t", "before", "x");
    vfs.inject(Fault::on(Call::SyncData).in_path("StrandlineLog").error(std::io::ErrorKind::Other));
    let t = db.table("t").unwrap();
    let mut tx = db.begin().unwrap();
    tx.put(&t, "maybe", "x").unwrap();
    assert_eq!(kind(tx.commit()), ErrorKind::Io);
    assert_eq!(get(&db, "t", "maybe"), None, "what may be lost is not seen");
    assert_eq!(get(&db, "t", "before").unwrap(), "x");
    vfs.heal();
    let mut tx = db.begin().unwrap();
    assert_eq!(kind(tx.put(&t, "later", "x")), ErrorKind::Poisoned);
    assert_eq!(kind(db.checkpoint(CheckpointOptions::new())), ErrorKind::Poisoned);
    drop(tx);
    drop(db);
    let db = small(Arc::new(vfs.clone())).open(HOME).unwrap();
    assert_eq!(get(&db, "t", "before").unwrap(), "x");
    put(&db, "t", "later", "x");
}

/// Covers: LG-10, VF. Every segment that recovery needs, damaged in every way: an error that names file and offset, and
/// nothing changed; `salvage` keeps what stands before.
#[test]
fn damage_in_the_middle_of_the_log_is_reported_and_salvaged() {
    let stage = Stage::new();
    let db = create(&stage);
    checkpoint(&db);
    for round in 0..6 {
        fill(&db, "t", 200, &format!("r{round}"));
    }
    let crashed = stage.crash();
    let all = segments(&crashed);
    assert!(all.len() >= 3, "{all:?}");
    let second = format!("{HOME}/{}", all[1]);
    let bytes = crashed.read(&second);
    let damages: Vec<(&str, Option<Vec<u8>>)> = vec![
        ("missing", None),
        ("cut", Some(bytes[..bytes.len() / 2].to_vec())),
        ("flipped", Some(bytes.iter().enumerate().map(|(i, b)| b ^ u8::from(i == bytes.len() / 2)).collect())),
        ("zeros", Some(vec![0; bytes.len()])),
        ("header", Some(bytes.iter().enumerate().map(|(i, b)| b ^ u8::from(i == 9)).collect())),
        ("doubled", Some(crashed.read(&format!("{HOME}/{}", all[0])))),
    ];
    for (what, content) in damages {
        let now = crashed.crash();
        match content {
            Some(bytes) => now.write(&second, &bytes),
            None => now.remove(&second),
        }
        let before = now.contents(HOME);
        let refused = text(now.options().open(HOME));
        assert!(refused.contains(&all[1]), "{what}: {refused}");
        assert_eq!(kind(now.options().open(HOME)), ErrorKind::Corrupt, "{what}");
        unchanged(&now, HOME, &before);
        let db = now.options().salvage(true).open(HOME).unwrap();
        let found = rows(&db, "t");
        assert!((0..6).any(|r| found == filled(200, &format!("r{r}"))), "{what}: a state that was committed");
        sound(&db);
        assert!(now.files(HOME).iter().any(|name| name.ends_with(".salvaged")), "{what}: set aside, not removed");
        put(&db, "t", "on", "x");
        assert_eq!(get(&now.crash().open(), "t", "on").unwrap(), "x", "{what}");
    }
}

/// Covers: L1. Records larger than a segment, from empty values to megabytes.
#[test]
fn records_of_every_size() {
    let stage = Stage::new();
    let db = stage.options().create(true).log(true).log_segment_bytes_unchecked(16 << 10).cache_bytes(64 << 20);
    let db = db.open(HOME).unwrap();
    let t = table(&db, "t");
    for size in [0, 1, 499, 500, 511, 512, 513, 4095, 16_000, 16_384, 20_000, 100_000, 3 << 20] {
        let mut tx = db.begin().unwrap();
        tx.put(&t, format!("{size:08}"), vec![7; size]).unwrap();
        tx.commit().unwrap();
        let crashed = stage.crash();
        let found = crashed.options().cache_bytes(64 << 20).open(HOME).unwrap();
        assert_eq!(rows(&found, "t"), rows(&db, "t"), "{size}");
    }
}

/// Covers: L5. However often a recovery is cut short, the state is the same.
#[test]
fn a_recovery_that_fails_at_any_call_is_repeated() {
    let stage = Stage::new();
    let db = create(&stage);
    fill(&db, "t", 60, "a");
    checkpoint(&db);
    let backup = db.backup(BackupOptions::new()).unwrap();
    fill(&db, "t", 60, "b");
    fill(&db, "new", 40, "c");
    checkpoint(&db);
    fill(&db, "new", 20, "d");
    let crashed = stage.crash();
    drop(backup);
    for n in 0.. {
        let vfs = FaultVfs::new(Arc::new(crashed.crash().vfs));
        vfs.inject(Fault::on_any(Call::ALL).after(n).error(std::io::ErrorKind::Other));
        let first = small(Arc::new(vfs.clone())).open(HOME);
        let whole = first.is_ok() && vfs.struck() == 0;
        drop(first);
        vfs.heal();
        let db = small(Arc::new(vfs.clone()) as Arc<dyn Vfs>).open(HOME).unwrap();
        assert_eq!(rows(&db, "t"), filled(60, "b"), "call {n}");
        let mut new = filled(40, "c");
        new.extend(filled(20, "d"));
        assert_eq!(rows(&db, "new"), new, "call {n}");
        if whole {
            break;
        }
    }
}

/// Covers: LG-9, LG-11, K3. Whoever finds a new table at once may commit to it: its making stands in the log before that.
#[test]
fn no_commit_to_a_table_stands_before_its_making() {
    const TABLES: usize = 1000;
    let stage = Stage::new();
    let db = create(&stage);
    let other = table(&db, "other");
    checkpoint(&db);
    let done = AtomicBool::new(false);
    let backup = db.backup(BackupOptions::new()).unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for n in 0..TABLES {
                let t = loop {
                    if let Ok(t) = db.table(&format!("t{n}")) {
                        break t;
                    }
                    std::hint::spin_loop();
                };
                let mut tx = db.begin().unwrap();
                tx.put(&t, "k", "v").unwrap();
                tx.commit().unwrap();
            }
        });
        // Where segments change, appends wait for one another.
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let mut tx = db.begin().unwrap();
                tx.put(&other, "k", [7; 6000]).unwrap();
                tx.commit().unwrap();
            }
        });
        for n in 0..TABLES {
            db.create_table(&format!("t{n}"), TableOptions::new()).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let after = stage.crash();
    drop(backup);
    let db = after.open();
    assert!(matches!(db.recovery().kind, RecoveryKind::FellBack { .. }));
    let lost: Vec<usize> = (0..TABLES).filter(|n| get(&db, &format!("t{n}"), "k").is_none()).collect();
    assert!(lost.is_empty(), "commits that had returned are gone: {lost:?}");
}

/// Covers: LG-3. A last checkpoint for which there is no space takes nothing from what the log has space for.
#[test]
fn closing_on_a_full_device_keeps_what_was_buffered() {
    let (vfs, db) = failing();
    fill(&db, "t", 10, "a");
    let t = db.table("t").unwrap();
    let mut tx = db.begin().unwrap();
    tx.put(&t, "buffered", "x").unwrap();
    tx.commit_with(Durability::Buffered).unwrap();
    vfs.limit_space(Some(0));
    assert_eq!(kind(db.close()), ErrorKind::Io);
    vfs.limit_space(None);
    let db = small(Arc::new(vfs.clone())).open(HOME).unwrap();
    assert_eq!(get(&db, "t", "buffered").unwrap(), "x");
}

/// Covers: LG-1, FB-13. A backup cannot begin while a table is on its way into the log: a crash would fall back to a state
/// that the log does not bring up to date.
#[test]
fn no_backup_begins_while_a_table_is_taken_into_the_log() {
    let mut seen = 0;
    for n in 0.. {
        let (vfs, db) = failing();
        db.create_table("t", TableOptions::new().log(false)).unwrap();
        fill(&db, "t", 50, "a");
        vfs.inject(Fault::on_any(Call::ALL).after(n).error(std::io::ErrorKind::StorageFull));
        let taken = db.set_table_log("t", true);
        let struck = vfs.struck();
        vfs.heal();
        if struck == 0 {
            taken.unwrap();
            break;
        }
        if taken.is_ok() || !db.tables().unwrap()[0].logged {
            continue;
        }
        match kind(db.backup(BackupOptions::new())) {
            ErrorKind::Poisoned => continue,
            refused => assert_eq!(refused, ErrorKind::Busy, "call {n}"),
        }
        seen += 1;
        checkpoint(&db);
        let backup = db.backup(BackupOptions::new()).unwrap();
        db.create_table("u", TableOptions::new().log(false)).unwrap();
        assert_eq!(kind(db.set_table_log("u", true)), ErrorKind::Busy);
        drop(backup);
    }
    assert!(seen > 0, "the table was never seen between the two");
}

/// Covers: LG-5. The log of a restored copy can never be that of its source.
#[test]
fn a_relative_log_directory_stays_in_the_home() {
    let stage = Stage::new();
    for dir in ["..", "../wal", "wal/../../wal"] {
        assert_eq!(kind(logged(&stage).log_dir(dir).open(HOME)), ErrorKind::InvalidArgument, "{dir}");
    }
    logged(&stage).log_dir("./wal/deep").open(HOME).map(drop).unwrap_err();
    logged(&stage).log_dir("./wal").open("/other").unwrap();
}

/// Covers: LG-10, R7. Files that only look like segments, and the heads of segments that nobody needs, keep no fork of the
/// history from opening.
#[test]
fn what_is_no_segment_takes_no_number() {
    let stage = Stage::new();
    let db = create(&stage);
    put(&db, "t", "a", "x");
    checkpoint(&db);
    let backup = db.backup(BackupOptions::new()).unwrap();
    put(&db, "t", "b", "x");
    let crashed = stage.crash();
    drop(backup);
    crashed.write(&format!("{HOME}/StrandlineLog.4294967295"), b"not a segment");
    let db = crashed.open();
    assert!(matches!(db.recovery().kind, RecoveryKind::FellBack { .. }));
    put(&db, "t", "c", "x");
    assert!(
        segments(&crashed).iter().any(|name| name.as_str() < "StrandlineLog.0000000100"),
        "{:?}",
        segments(&crashed)
    );
    assert_eq!(rows(&crashed.crash().open(), "t").len(), 3);
}
