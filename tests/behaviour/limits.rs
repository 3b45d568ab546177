//! Limits: each is named when it is reached, and nothing else happens.

use strandline::limits::{KEY_MAX, VALUE_MAX};
use strandline::{ErrorKind, TableOptions};

use crate::stage::*;

/// Covers: CU-1.
#[test]
fn the_largest_key() {
    let stage = Stage::new();
    let db = stage.options().create(true).cache_bytes(64 << 20).open(HOME).unwrap();
    let t = table(&db, "t");
    let mut model = Rows::new();
    let mut tx = db.begin().unwrap();
    for byte in [0_u8, 1, 254, 255] {
        for len in [KEY_MAX, KEY_MAX - 1] {
            tx.put(&t, vec![byte; len], [byte; 3]).unwrap();
            model.insert(vec![byte; len], vec![byte; 3]);
        }
    }
    let e = tx.put(&t, vec![0; KEY_MAX + 1], "v").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert!(e.to_string().contains(&KEY_MAX.to_string()), "{e}");
    assert!(tx.get(&t, vec![0; KEY_MAX + 1]).unwrap().is_none());
    tx.commit().unwrap();
    for i in 0..50 {
        let mut tx = db.begin().unwrap();
        let k = [key(i), vec![b'x'; 30_000]].concat();
        tx.put(&t, &k, value(i, "v")).unwrap();
        model.insert(k, value(i, "v"));
        tx.commit().unwrap();
    }
    assert_eq!(rows(&db, "t"), model);
    db.close().unwrap();
    assert_eq!(rows(&stage.open(), "t"), model);
}

#[test]
fn the_largest_value_is_named() {
    const { assert!(VALUE_MAX >= 1 << 20) };
    let db = Stage::new().create();
    let t = table(&db, "t");
    let mut tx = db.begin().unwrap();
    // The zeros are never touched, so this costs address space only.
    let e = tx.put(&t, "k", vec![0; VALUE_MAX + 1]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert!(e.to_string().contains(&VALUE_MAX.to_string()), "{e}");
    tx.put(&t, "k", "v").unwrap();
    tx.commit().unwrap();
    assert_eq!(get(&db, "t", "k").as_deref(), Some("v"));
}

/// Covers: DB-5.
#[test]
fn allocation_units() {
    for bad in [0, 1, 500, 1000, 4097, 1 << 21] {
        let stage = Stage::new();
        let e = stage.options().create(true).unit(bad).open(HOME).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{bad}");
        assert!(stage.options().open(HOME).is_err(), "nothing was made");
    }
    for good in [512, 4096, 1 << 16] {
        let stage = Stage::new();
        let db = stage.options().create(true).unit(good).open(HOME).unwrap();
        fill(&db, "t", 300, "a");
        db.close().unwrap();
        let other = if good == 512 { 4096 } else { 512 };
        assert_eq!(kind(stage.options().unit(other).open(HOME)), ErrorKind::InvalidArgument, "it is fixed");
        assert_eq!(rows(&stage.options().unit(good).open(HOME).unwrap(), "t"), filled(300, "a"));
    }
}

#[test]
fn a_config_is_kept_word_for_word() {
    let stage = Stage::new();
    let db = stage.create();
    let config = format!("key_format=S,\n{{\"ä\": '{}'}}", "long ".repeat(5000));
    db.create_table("t", TableOptions::new().config(config.clone())).unwrap();
    db.close().unwrap();
    assert_eq!(stage.open().table("t").unwrap().config(), config);
}

/// Hundreds of tables in one catalog, and as many checkpoints.
#[test]
fn many_tables_and_many_checkpoints() {
    let stage = Stage::new();
    let db = stage.create();
    for i in 0..300 {
        table(&db, &format!("table with a rather long name and a number {i}"));
    }
    for i in 0..150 {
        put(&db, "t", "k", &format!("{i}"));
        named(&db, &format!("checkpoint number {i}"));
    }
    db.close().unwrap();
    let db = stage.open();
    assert_eq!((db.tables().unwrap().len(), names(&db).len()), (301, 150));
    for i in (0..150).step_by(7) {
        let seen = named_rows(&db, &format!("checkpoint number {i}"), "t");
        assert_eq!(seen[&b"k"[..]], format!("{i}").into_bytes());
    }
}
