//! Verification: VF-1, and that a sound database is sound after all kinds of work.

use strandline::{BackupOptions, CheckpointOptions, Database, VerifyOptions};

use crate::stage::*;

/// Errs on unsound.
pub fn sound(db: &Database) {
    let report = db.verify(&VerifyOptions::default()).unwrap();
    assert!(report.is_sound(), "{report}");
}

/// Covers: VF-1, V01, B2, B5. Empty, full, deep, with named checkpoints, after drops; open and reopened.
#[test]
fn a_sound_database() {
    let stage = Stage::new();
    let db = stage.create();
    sound(&db);
    for round in 0..6 {
        fill(&db, "t", 700, &format!("{round}"));
        let t = db.table("t").unwrap();
        let mut tx = db.begin().unwrap();
        tx.put(&t, key(round), vec![round as u8; 50_000]).unwrap();
        tx.truncate(&t, key(100 * round)..key(100 * round + 80)).unwrap();
        tx.commit().unwrap();
        named(&db, &format!("{round}"));
        sound(&db);
        table(&db, &format!("empty{round}"));
        sound(&db);
    }
    db.checkpoint(CheckpointOptions::new().drop("3")).unwrap();
    sound(&db);
    db.checkpoint(CheckpointOptions::new().drop("0").drop("4")).unwrap();
    sound(&db);
    fill(&db, "t", 700, "unsaved");
    sound(&db);
    db.drop_table("empty2", false).unwrap();
    db.rename_table("empty3", "full").unwrap();
    sound(&db);
    sound(&stage.crash().open());
    db.checkpoint(CheckpointOptions::new().drop_all()).unwrap();
    sound(&db);
    db.close().unwrap();
    sound(&stage.open());
    sound(&stage.options().read_only(true).open(HOME).unwrap());
}

/// Covers: FB-9, K1, B2. Verification while a backup is open, of the source and of what came of it.
#[test]
fn verifying_around_a_backup() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 700, "a");
    named(&db, "x");
    let backup = db.backup(BackupOptions::new()).unwrap();
    fill(&db, "t", 900, "b");
    checkpoint(&db);
    sound(&db);
    copy(&backup, "copy");
    let crashed = stage.crash();
    backup.finish().unwrap();
    sound(&db);
    let fallen = crashed.open();
    sound(&fallen);
    fill(&fallen, "t", 900, "c");
    checkpoint(&fallen);
    sound(&fallen);
    let restored = stage.open_at("copy");
    sound(&restored);
    fill(&restored, "t", 900, "c");
    checkpoint(&restored);
    sound(&restored);
    assert_eq!(named_rows(&restored, "x", "t"), filled(700, "a"));
}

/// Covers: VF-1, V02, B4. Damage is found with file and offset, in each table, and the rest is still looked at.
#[test]
fn damage_is_found() {
    let stage = Stage::new();
    let db = stage.create();
    for name in ["one", "two", "three"] {
        fill(&db, name, 2000, "a");
    }
    let files = ["one", "three"].map(|name| db.table(name).unwrap().id().file_name());
    db.close().unwrap();
    for file in &files {
        let path = format!("home/{file}");
        let mut bytes = stage.read(&path);
        let at = bytes.len() / 4 * 3 / 512 * 512;
        bytes[at..at + 512].fill(0);
        let early = bytes.len() / 4 + 40;
        bytes[early] ^= 0x10;
        stage.write(&path, &bytes);
    }
    let db = stage.open();
    let report = db.verify(&VerifyOptions::default()).unwrap();
    assert!(!report.is_sound());
    let text = report.to_string();
    for file in &files {
        assert!(text.contains(file.as_str()), "{text}");
    }
    assert!(report.findings.iter().all(|f| f.offset.is_some()), "{text}");
    assert_eq!(rows(&db, "two"), filled(2000, "a"));
}

/// Covers: VF-1. Data after the last checkpoint is no damage; a file that is too short is.
#[test]
fn tails() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 500, "a");
    let file = format!("home/{}", db.table("t").unwrap().id().file_name());
    db.close().unwrap();
    let good = stage.read(&file);
    stage.write(&file, &[&good[..], &[0xee; 3000]].concat());
    let db = stage.open();
    sound(&db);
    fill(&db, "t", 500, "b");
    checkpoint(&db);
    sound(&db);
    drop(db);
    for len in [0, 100, good.len() - 512] {
        let cut = stage.crash();
        let bytes = cut.read(&file);
        cut.write(&file, &bytes[..len]);
        let report = cut.open().verify(&VerifyOptions::default());
        assert!(report.is_err() || !report.unwrap().is_sound(), "cut to {len}");
    }
}

/// Covers: VF-1. Missing tables are named.
#[test]
fn chosen_tables() {
    let stage = Stage::new();
    let db = stage.create();
    fill(&db, "t", 100, "a");
    fill(&db, "u", 100, "a");
    checkpoint(&db);
    let chosen = VerifyOptions { tables: vec!["u".into()], ..VerifyOptions::default() };
    assert!(db.verify(&chosen).unwrap().is_sound());
    let missing = VerifyOptions { tables: vec!["v".into()], ..VerifyOptions::default() };
    assert_eq!(kind(db.verify(&missing)), strandline::ErrorKind::NotFound);
}
