//! The engine against a map, driven by a tape of small numbers.

use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use strandline::{
    BackupOptions, CheckpointOptions, CheckpointRef, Database, ErrorKind, Table, TableOptions, Transaction,
    VerifyOptions,
};
use strandline_vfs::mem::MemVfs;

use crate::stage::{self, Rows, quietly};

const TABLE: &str = "t";

/// What is true, what is durable, and what has a name.
#[derive(Default)]
struct Model {
    now: Rows,
    durable: Rows,
    named: BTreeMap<u8, Rows>,
}

/// Ends the use of one open database.
enum Turn {
    Close,
    Crash,
    Copy,
}

/// A program of puts, deletes, truncates, commits, rollbacks, reads, named checkpoints, drops, reopenings, deaths and copies.
pub fn tape(bytes: &[u8]) {
    // The program ends where the tape does.
    let _ = run(&mut Unstructured::new(bytes));
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let (mut vfs, mut dir, mut model, mut copies) = (MemVfs::new(), "home".to_owned(), Model::default(), 0);
    let unit = *u.choose(&[512, 4096])?;
    loop {
        let options = stage::options(&vfs).create(copies == 0);
        let db = if copies == 0 { options.unit(unit) } else { options }.open(&dir).expect("it opens");
        let table = db.create_table(TABLE, TableOptions::new()).expect("it is made or there");
        assert!(stage::rows(&db, TABLE).expect("it is read") == model.now, "after opening");
        match turn(&db, &table, &mut model, u)? {
            Turn::Close => {
                db.close().expect("it closes");
                model.durable = model.now.clone();
            }
            Turn::Crash => {
                vfs = vfs.duplicate();
                model.now = model.durable.clone();
            }
            Turn::Copy => {
                copies += 1;
                dir = format!("copy{copies}");
                let backup = db.backup(BackupOptions::new().fresh_checkpoint(true)).expect("it opens");
                backup.copy_to(&dir, quietly).expect("memory has room");
                backup.finish().expect("it ends");
                model.durable = model.now.clone();
            }
        }
    }
}

fn turn(db: &Database, table: &Table, model: &mut Model, u: &mut Unstructured<'_>) -> Result<Turn> {
    let mut open: Option<(Transaction<'_>, Rows)> = None;
    loop {
        if u.is_empty() {
            return Err(arbitrary::Error::NotEnoughData);
        }
        match u.int_in_range(0..=19_u8)? {
            0..=9 => {
                let (tx, sees) = open.get_or_insert_with(|| (db.begin().expect("it is open"), model.now.clone()));
                write(tx, table, sees, u)?;
            }
            10..=12 => {
                if let Some((tx, sees)) = open.take() {
                    tx.commit().expect("nobody else writes");
                    model.now = sees;
                }
            }
            13 => open = None,
            14 => {
                let (seen, expected) = match &open {
                    Some((tx, sees)) => {
                        (tx.scan(table).and_then(Iterator::collect::<strandline::Result<Vec<_>>>), sees)
                    }
                    None => (db.begin().and_then(|tx| tx.scan(table)?.collect()), &model.now),
                };
                let seen: Rows = seen.expect("it is read").into_iter().map(|(k, v)| (k, v.as_ref().to_vec())).collect();
                assert!(seen == *expected, "a scan");
            }
            15 | 16 => checkpoint(db, model, u)?,
            17 => look(db, model, u)?,
            18 => {
                let report = db.verify(&VerifyOptions::default()).expect("it is open");
                assert!(report.is_sound(), "{report}");
            }
            _ => {
                return Ok([Turn::Close, Turn::Crash, Turn::Copy]
                    .into_iter()
                    .nth(u.choose_index(3)?)
                    .unwrap_or(Turn::Close));
            }
        }
    }
}

fn key(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let n: u16 = u.int_in_range(0..=600)?;
    Ok(format!("{n:03}{}", "k".repeat(usize::from(n % 7) * 9)).into_bytes())
}

fn write(tx: &mut Transaction<'_>, table: &Table, sees: &mut Rows, u: &mut Unstructured<'_>) -> Result<()> {
    match u.int_in_range(0..=9_u8)? {
        0 | 1 => {
            let key = key(u)?;
            assert_eq!(tx.delete(table, &key).expect("nobody else writes"), sees.remove(&key).is_some());
        }
        2 => {
            let (a, b) = (key(u)?, key(u)?);
            let gone: Vec<_> =
                if a < b { sees.range(a.clone()..b.clone()).map(|(k, _)| k.clone()).collect() } else { vec![] };
            assert_eq!(tx.truncate(table, a..b).expect("nobody else writes"), gone.len() as u64);
            gone.iter().for_each(|k| drop(sees.remove(k)));
        }
        _ => {
            let (key, len) = (key(u)?, u.int_in_range(0..=255_u16)?);
            let len = if len > 250 { usize::from(len) * 40 } else { usize::from(len) };
            let value = vec![len as u8; len];
            tx.put(table, &key, &value).expect("there is memory for that");
            sees.insert(key, value);
        }
    }
    Ok(())
}

fn checkpoint(db: &Database, model: &mut Model, u: &mut Unstructured<'_>) -> Result<()> {
    let (name, drop): (Option<u8>, Option<u8>) = (u.arbitrary()?, u.arbitrary()?);
    let mut options = CheckpointOptions::new().force(true);
    if let Some(drop) = drop.map(|n| n % 5) {
        options = options.drop(format!("c{drop}"));
        model.named.remove(&drop);
    }
    if let Some(name) = name.map(|n| n % 5) {
        options = options.name(format!("c{name}"));
        model.named.insert(name, model.now.clone());
    }
    db.checkpoint(options).expect("nothing holds a checkpoint");
    model.durable = model.now.clone();
    Ok(())
}

fn look(db: &Database, model: &Model, u: &mut Unstructured<'_>) -> Result<()> {
    let n = u.int_in_range(0..=4_u8)?;
    match (db.view(CheckpointRef::Named(&format!("c{n}"))), model.named.get(&n)) {
        (Ok(view), Some(expected)) => {
            let rows: strandline::Result<Rows> =
                view.scan(TABLE).and_then(|r| r.map(|row| row.map(|(k, v)| (k, v.as_ref().to_vec()))).collect());
            assert!(rows.expect("it is read") == *expected, "a view");
        }
        (Err(e), None) => assert_eq!(e.kind(), ErrorKind::NotFound),
        (view, _) => panic!("a checkpoint that is there for one side only: {view:?}"),
    }
    Ok(())
}
