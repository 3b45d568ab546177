//! The whole interface against a model: a map per table, and a copy of all maps per snapshot and checkpoint.
//!
//! proptest makes the sequences and shrinks those that fail. Three transactions may run at once; checkpoints are named,
//! dropped and viewed; the device is full now and then; the database is closed, killed, backed up and replaced by its own copy.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use strandline::{CheckpointOptions, CheckpointRef, Database, ErrorKind, Transaction};
use strandline_vfs::Call;
use strandline_vfs::fault::{Fault, FaultVfs};

use crate::stage::*;

const TABLES: [&str; 2] = ["one", "two"];

/// All tables.
type State = BTreeMap<&'static str, Rows>;

#[derive(Clone, Debug)]
enum Op {
    Begin(usize),
    Put(usize, usize, u16, u16),
    Delete(usize, usize, u16),
    Truncate(usize, usize, u16, u16),
    Commit(usize),
    Rollback(usize),
    Read(usize, usize, u16),
    Scan(usize, usize, u16, bool),
    Checkpoint(Option<u8>, Option<u8>),
    View(Option<u8>),
    /// The device is full for one write, after some more: of a table's file, or of the catalog's.
    Full(u8, bool),
    Reopen,
    Crash,
    Copy,
}

fn op() -> impl Strategy<Value = Op> {
    let (t, name) = (0..3_usize, prop::option::of(0..3_u8));
    let table = 0..TABLES.len();
    prop_oneof![
        4 => t.clone().prop_map(Op::Begin),
        30 => (t.clone(), table.clone(), 0..400_u16, 0..3000_u16).prop_map(|(t, n, k, v)| Op::Put(t, n, k, v)),
        8 => (t.clone(), table.clone(), 0..400_u16).prop_map(|(t, n, k)| Op::Delete(t, n, k)),
        1 => (t.clone(), table.clone(), 0..400_u16, 0..200_u16).prop_map(|(t, n, k, l)| Op::Truncate(t, n, k, l)),
        8 => t.clone().prop_map(Op::Commit),
        2 => t.clone().prop_map(Op::Rollback),
        5 => (t.clone(), table.clone(), 0..400_u16).prop_map(|(t, n, k)| Op::Read(t, n, k)),
        2 => (t, table, 0..400_u16, any::<bool>()).prop_map(|(t, n, k, b)| Op::Scan(t, n, k, b)),
        4 => (name.clone(), name.clone()).prop_map(|(n, d)| Op::Checkpoint(n, d)),
        3 => name.prop_map(Op::View),
        2 => (0..12_u8, any::<bool>()).prop_map(|(n, catalog)| Op::Full(n, catalog)),
        1 => Just(Op::Reopen),
        1 => Just(Op::Crash),
        1 => Just(Op::Copy),
    ]
}

/// What a transaction sees: its snapshot under its own writes.
#[derive(Clone)]
struct Running {
    sees: State,
    since: u64,
    wrote: BTreeMap<(usize, u16), Option<Vec<u8>>>,
    lost: bool,
}

#[derive(Default)]
struct Model {
    now: State,
    commits: u64,
    /// The last commit that wrote a key.
    written: BTreeMap<(usize, u16), u64>,
    running: [Option<Running>; 3],
    named: BTreeMap<u8, State>,
    latest: Option<State>,
}

impl Model {
    /// True when another transaction was first.
    fn conflicts(&self, t: usize, table: usize, key: u16) -> bool {
        let mine = self.running[t].as_ref().unwrap();
        let claimed = self
            .running
            .iter()
            .enumerate()
            .any(|(o, r)| o != t && r.as_ref().is_some_and(|r| r.wrote.contains_key(&(table, key))));
        let later = self.written.get(&(table, key)).is_some_and(|seq| *seq > mine.since);
        !mine.wrote.contains_key(&(table, key)) && (claimed || later)
    }

    fn write(&mut self, t: usize, table: usize, key: u16, value: Option<Vec<u8>>) {
        let running = self.running[t].as_mut().unwrap();
        let rows = running.sees.entry(TABLES[table]).or_default();
        match &value {
            Some(v) => rows.insert(self::key(key), v.clone()),
            None => rows.remove(&self::key(key)),
        };
        running.wrote.insert((table, key), value);
    }

    fn commit(&mut self, running: Running) {
        self.commits += u64::from(!running.wrote.is_empty());
        for ((table, k), value) in running.wrote {
            self.written.insert((table, k), self.commits);
            let rows = self.now.entry(TABLES[table]).or_default();
            match value {
                Some(v) => rows.insert(key(k), v),
                None => rows.remove(&key(k)),
            };
        }
    }
}

fn key(k: u16) -> Vec<u8> {
    let mut key = format!("{:04}", k / 3).into_bytes();
    key.extend(std::iter::repeat_n(b'k', usize::from(k % 3) * 20));
    key
}

fn sized(v: u16) -> Vec<u8> {
    // Mostly small; now and then one that needs blocks of its own.
    let len = if v.is_multiple_of(50) { usize::from(v) * 3 } else { usize::from(v % 60) };
    (0..len).map(|i| (i as u16 ^ v) as u8).collect()
}

struct Run<'db> {
    db: &'db Database,
    vfs: FaultVfs,
    open: [Option<Transaction<'db>>; 3],
}

/// False when the device was full: then nothing has happened.
fn passes<T: std::fmt::Debug>(done: strandline::Result<T>) -> bool {
    match done {
        Ok(_) => true,
        Err(e) => {
            let full = e.io_source().is_some_and(|s| s.kind() == std::io::ErrorKind::StorageFull);
            assert!(full, "{e:?}");
            false
        }
    }
}

/// What ends a run on one open database.
enum End {
    Reopen,
    Crash,
    Copy,
}

impl<'db> Run<'db> {
    fn step(&mut self, model: &mut Model, op: &Op) -> Option<End> {
        match *op {
            Op::Begin(t) => {
                self.open[t] = Some(self.db.begin().unwrap());
                let sees = model.now.clone();
                let since = model.commits;
                model.running[t] = Some(Running { sees, since, wrote: BTreeMap::new(), lost: false });
            }
            Op::Put(t, n, k, v) => self.write(model, t, n, k, Some(sized(v))),
            Op::Delete(t, n, k) => self.write(model, t, n, k, None),
            Op::Truncate(t, n, k, len) => self.truncate(model, t, n, k, len),
            Op::Commit(t) => {
                let (tx, running) = self.open[t].take().zip(model.running[t].take())?;
                if running.lost {
                    assert_eq!(kind(tx.commit()), ErrorKind::InvalidArgument);
                } else if passes(tx.commit()) {
                    model.commit(running);
                }
            }
            Op::Rollback(t) => {
                self.open[t] = None;
                model.running[t] = None;
            }
            Op::Read(t, n, k) => self.read(model, t, n, k),
            Op::Scan(t, n, k, back) => self.scan(model, t, n, k, back),
            Op::Checkpoint(name, drop) => self.checkpoint(model, name, drop),
            Op::View(name) => self.view(model, name),
            Op::Full(after, catalog) => {
                let file = if catalog { "Strandline.catalog" } else { "table-" };
                let fault = Fault::on_any([Call::Write, Call::Allocate]).in_path(file).after(after.into());
                self.vfs.inject(fault.error(std::io::ErrorKind::StorageFull));
            }
            Op::Reopen => return Some(End::Reopen),
            Op::Crash => return Some(End::Crash),
            Op::Copy => return Some(End::Copy),
        }
        None
    }

    fn write(&mut self, model: &mut Model, t: usize, n: usize, k: u16, value: Option<Vec<u8>>) {
        let Some(tx) = &mut self.open[t] else { return };
        let table = self.db.table(TABLES[n]).unwrap();
        let running = model.running[t].as_ref().unwrap();
        if running.lost {
            return;
        }
        let there = running.sees.get(TABLES[n]).is_some_and(|rows| rows.contains_key(&key(k)));
        if value.is_none() && !there {
            assert!(!tx.delete(&table, key(k)).unwrap());
            return;
        }
        let done = match &value {
            Some(v) => tx.put(&table, key(k), v).map(|()| true),
            None => tx.delete(&table, key(k)),
        };
        if model.conflicts(t, n, k) {
            assert_eq!(kind(done), ErrorKind::Conflict);
            model.running[t].as_mut().unwrap().lost = true;
        } else if passes(done) {
            model.write(t, n, k, value);
        }
    }

    fn truncate(&mut self, model: &mut Model, t: usize, n: usize, k: u16, len: u16) {
        let Some(tx) = &mut self.open[t] else { return };
        let running = model.running[t].as_ref().unwrap();
        if running.lost {
            return;
        }
        let table = self.db.table(TABLES[n]).unwrap();
        let (lo, hi) = (key(k), key(k.saturating_add(len)));
        let seen = running.sees.get(TABLES[n]);
        let inside: Vec<u16> = (0..400)
            .filter(|k| (&lo..&hi).contains(&&key(*k)) && seen.is_some_and(|r| r.contains_key(&key(*k))))
            .collect();
        let done = tx.truncate(&table, lo..hi);
        if inside.iter().any(|k| model.conflicts(t, n, *k)) {
            assert_eq!(kind(done), ErrorKind::Conflict);
            model.running[t].as_mut().unwrap().lost = true;
        } else {
            assert_eq!(done.unwrap(), inside.len() as u64);
            inside.into_iter().for_each(|k| model.write(t, n, k, None));
        }
    }

    fn read(&mut self, model: &Model, t: usize, n: usize, k: u16) {
        let table = self.db.table(TABLES[n]).unwrap();
        let (found, expected) = match (&self.open[t], &model.running[t]) {
            (Some(_), Some(running)) if running.lost => return,
            (Some(tx), Some(running)) => (tx.get(&table, key(k)).unwrap(), running.sees.get(TABLES[n])),
            _ => (self.db.begin().unwrap().get(&table, key(k)).unwrap(), model.now.get(TABLES[n])),
        };
        let expected = expected.and_then(|rows| rows.get(&key(k)));
        assert_eq!(found.as_ref().map(AsRef::as_ref), expected.map(Vec::as_slice));
    }

    fn scan(&mut self, model: &Model, t: usize, n: usize, k: u16, back: bool) {
        let (Some(tx), Some(running)) = (&self.open[t], &model.running[t]) else { return };
        if running.lost {
            return;
        }
        let table = self.db.table(TABLES[n]).unwrap();
        let own = |row: strandline::Result<strandline::Row>| row.map(|(k, v)| (k, v.as_ref().to_vec())).unwrap();
        let range = tx.range(&table, key(k)..).unwrap();
        let found: Vec<_> =
            if back { range.rev().take(50).map(own).collect() } else { range.take(50).map(own).collect() };
        let empty = Rows::new();
        let rows = running.sees.get(TABLES[n]).unwrap_or(&empty).range(key(k)..);
        let copy = |(k, v): (&Vec<u8>, &Vec<u8>)| (k.clone(), v.clone());
        let expected: Vec<_> =
            if back { rows.rev().take(50).map(copy).collect() } else { rows.take(50).map(copy).collect() };
        assert_eq!(found, expected);
    }

    fn checkpoint(&mut self, model: &mut Model, name: Option<u8>, drop: Option<u8>) {
        let mut options = CheckpointOptions::new().force(true);
        let mut named = model.named.clone();
        if let Some(d) = drop {
            options = options.drop(format!("c{d}"));
            named.remove(&d);
        }
        if let Some(n) = name {
            options = options.name(format!("c{n}"));
            named.insert(n, model.now.clone());
        }
        if passes(self.db.checkpoint(options)) {
            model.named = named;
            model.latest = Some(model.now.clone());
        }
    }

    fn view(&mut self, model: &Model, name: Option<u8>) {
        let text = name.map(|n| format!("c{n}"));
        let which = text.as_deref().map_or(CheckpointRef::Latest, CheckpointRef::Named);
        let expected = name.map_or(model.latest.as_ref(), |n| model.named.get(&n));
        match (self.db.view(which), expected) {
            (view, None) => assert_eq!(kind(view), ErrorKind::NotFound),
            (view, Some(state)) => {
                let view = view.unwrap();
                for name in TABLES {
                    assert_eq!(view_rows(&view, name), state.get(name).cloned().unwrap_or_default());
                }
            }
        }
    }
}

/// Opens, runs until something ends the run, and goes on where that leads.
fn run(ops: &[Op], cache: usize) {
    let mut stage = Stage::new();
    let mut dir = HOME.to_owned();
    let mut model = Model::default();
    let mut ops = ops.iter();
    let mut copies = 0;
    loop {
        let vfs = FaultVfs::new(Arc::new(stage.vfs.clone()));
        let options = stage.options().vfs(Arc::new(vfs.clone())).cache_bytes(cache);
        let db = options.create(copies == 0).open(&dir).unwrap();
        TABLES.iter().for_each(|name| drop(table(&db, name)));
        for name in TABLES {
            assert_eq!(rows(&db, name), model.now.get(name).cloned().unwrap_or_default());
        }
        let mut run = Run { db: &db, vfs: vfs.clone(), open: [None, None, None] };
        let end = ops.by_ref().find_map(|op| run.step(&mut model, op));
        drop(run);
        vfs.heal();
        model.running = [None, None, None];
        model.written.clear();
        crate::verify::sound(&db);
        match end {
            None => return,
            Some(End::Crash) => {
                stage = stage.crash();
                model.now = model.latest.clone().unwrap_or_default();
                drop(db);
            }
            Some(End::Reopen) => {
                db.close().unwrap();
                if model.latest.as_ref() != Some(&model.now) {
                    model.latest = Some(model.now.clone());
                }
            }
            Some(End::Copy) => {
                copies += 1;
                dir = format!("copy{copies}");
                back_up(&db, &dir);
                model.latest = Some(model.now.clone());
            }
        }
    }
}

/// How many sequences; `PROPTEST_CASES` for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Covers: T1, T2, T3, C1, C2, K2, R1, TX-1, TX-2, CK-1, CK-4, CK-16.
    #[test]
    fn interface_and_model_agree(ops in prop::collection::vec(op(), 1..300)) {
        run(&ops, 1 << 20);
    }

    /// The same with hardly any memory, so that everything is evicted all the time.
    #[test]
    fn interface_and_model_agree_with_little_memory(ops in prop::collection::vec(op(), 1..300)) {
        run(&ops, 96 << 10);
    }
}
