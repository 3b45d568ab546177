//! Damaged files and failing calls, tried everywhere: a typed error, or the right rows, and never anything else.
//!
//! The walks of damage take one small database, or a copy of one, and spoil one thing at a time: every byte, every
//! length, whole files. What may come of it is decided by [`Truth`]: opening, reading and viewing either give an error of
//! a kind that damage may cause, or exactly the rows that were stored. The walks of failure let every single call of a
//! workload fail, with a full device or an error of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use strandline::{CheckpointOptions, CheckpointRef, Database, Error, ErrorKind, Result, TableOptions};
use strandline_vfs::Call;
use strandline_vfs::fault::{Fault, FaultVfs};

use crate::stage::*;

/// A database small enough to spoil each of its bytes: two tables, a named checkpoint, values in blocks of their own.
struct Truth {
    stage: Stage,
    dir: &'static str,
    now: BTreeMap<&'static str, Rows>,
    named: BTreeMap<&'static str, Rows>,
}

const TABLES: [&str; 2] = ["one", "two"];

impl Truth {
    fn new() -> Self {
        let stage = Stage::new();
        let db = stage.create();
        fill(&db, "one", 60, "old");
        fill(&db, "two", 5, "old");
        let two = db.table("two").unwrap();
        let mut tx = db.begin().unwrap();
        tx.put(&two, "large", vec![7; 5000]).unwrap();
        tx.commit().unwrap();
        named(&db, "x");
        let state = || TABLES.map(|name| (name, rows(&db, name))).into_iter().collect();
        let named = state();
        fill(&db, "one", 10, "new");
        checkpoint(&db);
        let now = state();
        back_up(&db, "copy");
        db.close().unwrap();
        Self { stage, dir: HOME, now, named }
    }

    fn copy() -> Self {
        Self { dir: "copy", ..Self::new() }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }

    /// Spoils a duplicate and looks at it; true when anybody noticed.
    fn spoil(&self, what: &str, spoil: impl FnOnce(&Stage)) -> bool {
        let stage = self.stage.crash();
        spoil(&stage);
        self.look(&stage, what, true)
    }

    /// Reads everything, in every way. `write` also goes on to use the database.
    fn look(&self, stage: &Stage, what: &str, write: bool) -> bool {
        let db = match stage.options().read_only(!write).open(self.dir) {
            Ok(db) => db,
            Err(e) => return self.noticed(what, &e),
        };
        let mut noticed = !db.recovery().strangers.is_empty() || db.recovery().slot_repaired;
        for (name, expected) in &self.now {
            noticed |= self.same(what, try_rows(&db, name), expected);
        }
        match db.view(CheckpointRef::Named("x")) {
            Err(e) => noticed |= self.noticed(what, &e),
            Ok(view) => {
                for (name, expected) in &self.named {
                    noticed |= self.same(what, view.scan(name).and_then(collect), expected);
                }
            }
        }
        if write {
            noticed |= self.go_on(stage, db, what);
        }
        noticed
    }

    /// Damage found once does not become wrong rows later.
    fn go_on(&self, stage: &Stage, db: Database, what: &str) -> bool {
        let wrote = (|| -> Result<()> {
            let t = db.create_table("one", TableOptions::new())?;
            let mut tx = db.begin()?;
            tx.put(&t, key(3), "changed")?;
            tx.commit()?;
            db.checkpoint(CheckpointOptions::new())?;
            db.close()
        })();
        if let Err(e) = wrote {
            return self.noticed(what, &e);
        }
        let db = match stage.options().open(self.dir) {
            Ok(db) => db,
            Err(e) => return self.noticed(what, &e),
        };
        let mut expected = self.now["one"].clone();
        expected.insert(key(3), b"changed".to_vec());
        self.same(what, try_rows(&db, "one"), &expected) | self.same(what, try_rows(&db, "two"), &self.now["two"])
    }

    fn same(&self, what: &str, found: Result<Rows>, expected: &Rows) -> bool {
        match found {
            Err(e) => self.noticed(what, &e),
            Ok(rows) => {
                assert!(rows == *expected, "wrong rows: {what}");
                false
            }
        }
    }

    /// The error must be one that says what is wrong, and where.
    fn noticed(&self, what: &str, e: &Error) -> bool {
        let damage = [ErrorKind::Corrupt, ErrorKind::Unsupported, ErrorKind::WrongBase];
        assert!(damage.contains(&e.kind()), "{what}: {e:?}");
        assert!(e.location().is_some(), "{what}: no place in {e:?}");
        assert!(e.remedy_text().is_some(), "{what}: no remedy in {e:?}");
        true
    }

    fn files(&self) -> Vec<String> {
        self.stage.files(self.dir).into_iter().filter(|f| f != "Strandline.lock").collect()
    }

    /// Every byte of every file, one bit at a time.
    fn flip_every_byte(&self) {
        for name in self.files() {
            let (path, mut noticed) = (self.path(&name), 0);
            let good = self.stage.read(&path);
            let stage = self.stage.crash();
            for at in 0..good.len() {
                // Between the slots of the root record there is nothing: a few samples are enough.
                if name == "Strandline.root" && (4096..65536).contains(&at) && at % 997 > 0 {
                    continue;
                }
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                let what = format!("{path}: byte {at}");
                // Opening for writing may repair; every so often that is tried too, on files of its own.
                noticed += u32::from(if at % 41 == 0 {
                    self.spoil(&what, |s| s.write(&path, &bad))
                } else {
                    stage.write(&path, &bad);
                    self.look(&stage, &what, false)
                });
            }
            assert!(noticed > 0, "no damage of {name} was ever noticed");
        }
    }
}

/// Covers: K6, B4, R1, P1, NB-1. A database: every byte of every file.
#[test]
fn every_byte_of_a_database() {
    Truth::new().flip_every_byte();
}

/// Covers: K6, B4, RS-5. A copy: every byte of every file.
#[test]
fn every_byte_of_a_copy() {
    Truth::copy().flip_every_byte();
}

/// Covers: RS-5, K6, VF-1. Cut at every length that could matter; extended; emptied; missing.
#[test]
fn every_length() {
    for truth in [Truth::new(), Truth::copy()] {
        for name in truth.files() {
            let path = truth.path(&name);
            let good = truth.stage.read(&path);
            let edges = good.len().saturating_sub(40)..good.len();
            for len in (0..good.len()).step_by(131).chain(0..40.min(good.len())).chain(edges) {
                truth.spoil(&format!("{path}: cut to {len}"), |s| s.write(&path, &good[..len]));
            }
            assert!(truth.spoil(&format!("{path}: missing"), |s| s.remove(&path)));
            assert!(truth.spoil(&format!("{path}: empty"), |s| s.write(&path, b"")));
            for more in [1, 511, 512, 100_000] {
                let longer = [&good[..], &vec![0x5a; more]].concat();
                truth.spoil(&format!("{path}: {more} bytes longer"), |s| s.write(&path, &longer));
            }
            for byte in [0, 0xff] {
                let filled = vec![byte; good.len()];
                assert!(truth.spoil(&format!("{path}: all {byte}"), |s| s.write(&path, &filled)));
            }
        }
    }
}

/// Covers: B4, K6. A file in the place of another, and blocks in each other's place.
#[test]
fn swapped() {
    for truth in [Truth::new(), Truth::copy()] {
        let files = truth.files();
        for a in &files {
            for b in files.iter().filter(|b| *b != a) {
                let bytes = truth.stage.read(&truth.path(b));
                assert!(truth.spoil(&format!("{b} in the place of {a}"), |s| s.write(&truth.path(a), &bytes)));
            }
        }
        for name in files.iter().filter(|f| f.ends_with(".sl") || f.ends_with("catalog")) {
            let path = truth.path(name);
            let good = truth.stage.read(&path);
            let blocks = good.len() / 512;
            for i in 8..blocks {
                for j in i + 1..blocks {
                    let mut bad = good.clone();
                    let (left, right) = bad.split_at_mut(j * 512);
                    left[i * 512..(i + 1) * 512].swap_with_slice(&mut right[..512]);
                    truth.spoil(&format!("{path}: units {i} and {j} swapped"), |s| s.write(&path, &bad));
                }
            }
        }
    }
}

/// Covers: B4, R1. An older self of each file: the rows of now, those of then if all files are of then, or an error.
#[test]
fn older_selves() {
    let stage = Stage::new();
    let db = stage.create();
    let mut history: Vec<(BTreeMap<String, Vec<u8>>, Rows)> = Vec::new();
    for round in 0..6 {
        for name in TABLES {
            fill(&db, name, 100, &format!("{round}"));
        }
        checkpoint(&db);
        history.push((stage.contents(HOME), filled(100, &format!("{round}"))));
    }
    db.close().unwrap();
    let now = filled(100, "5");
    for (files, then) in &history {
        for (name, bytes) in files {
            let old = stage.crash();
            old.write(&format!("home/{name}"), bytes);
            let db = match old.options().open(HOME) {
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Corrupt, "{name}: {e}");
                    continue;
                }
                Ok(db) => db,
            };
            for table in TABLES {
                match try_rows(&db, table) {
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt, "{name}: {e}"),
                    // An older root record reaches older blocks, as long as nobody has written over them.
                    Ok(rows) => assert!(rows == now || (name == "Strandline.root" && rows == *then), "{name}"),
                }
            }
        }
        let whole = Stage::new();
        strandline_vfs::Vfs::create_dir(&whole.vfs, std::path::Path::new(HOME)).unwrap();
        for (name, bytes) in files {
            whole.write(&format!("home/{name}"), bytes);
        }
        assert_eq!(rows(&whole.open(), "one"), *then);
    }
}

/// A newer format is refused by its version, which is named, and nothing is written.
#[test]
fn newer_formats() {
    let truth = Truth::new();
    let table = truth.files().into_iter().find(|f| f.ends_with(".sl")).unwrap();
    let path = truth.path(&table);
    let mut bytes = truth.stage.read(&path);
    bytes[8..12].copy_from_slice(&77_u32.to_le_bytes());
    bytes[12..16].fill(0);
    let sum = crc32fast::hash(&bytes[..4096]);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    truth.stage.write(&path, &bytes);
    let db = truth.stage.open();
    let errors: Vec<Error> = TABLES.iter().filter_map(|name| try_rows(&db, name).err()).collect();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].kind(), ErrorKind::Unsupported);
    assert!(errors[0].to_string().contains("77") && errors[0].to_string().contains(&table), "{}", errors[0]);
    drop(db);

    let truth = Truth::copy();
    let path = truth.path("Strandline.manifest");
    let mut bytes = truth.stage.read(&path);
    bytes[8..12].copy_from_slice(&77_u32.to_le_bytes());
    let end = bytes.len() - 4;
    let sum = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum.to_le_bytes());
    truth.stage.write(&path, &bytes);
    let before = truth.stage.contents("copy");
    let e = truth.stage.options().open("copy").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("77"), "{e}");
    unchanged(&truth.stage, "copy", &before);
}

/// A workload whose calls may fail. Returns the states that a reopened database may be in, oldest first: that of the last
/// checkpoint that succeeded, and those that were tried since.
struct Workload {
    db: Database,
    now: Rows,
    allowed: Vec<Rows>,
    failures: Vec<Error>,
}

impl Workload {
    fn new(vfs: &FaultVfs) -> Result<Self> {
        let db = small(Arc::new(vfs.clone())).create(true).open(HOME)?;
        Ok(Self { db, now: Rows::new(), allowed: vec![Rows::new()], failures: Vec::new() })
    }

    fn commit(&mut self, round: usize) {
        let done = (|| -> Result<()> {
            let t = self.db.create_table("t", TableOptions::new())?;
            let mut tx = self.db.begin()?;
            for i in round * 10..round * 10 + 80 {
                tx.put(&t, key(i), value(i, &format!("{round}")))?;
            }
            tx.put(&t, "large", vec![round as u8; 3000])?;
            tx.commit().map(|_| ())
        })();
        match done {
            Err(e) => self.failures.push(e),
            Ok(()) => {
                for i in round * 10..round * 10 + 80 {
                    self.now.insert(key(i), value(i, &format!("{round}")));
                }
                self.now.insert(b"large".to_vec(), vec![round as u8; 3000]);
            }
        }
    }

    fn checkpoint(&mut self) {
        self.allowed.push(self.now.clone());
        match self.db.checkpoint(CheckpointOptions::new()) {
            Ok(_) => drop(self.allowed.drain(..self.allowed.len() - 1)),
            Err(e) => self.failures.push(e),
        }
    }

    fn back_up(&mut self, dir: &str) {
        let done = self.db.backup(strandline::BackupOptions::new()).and_then(|backup| {
            backup.copy_to(dir, quietly)?;
            backup.finish()
        });
        self.failures.extend(done.err());
    }

    fn run(&mut self) {
        for round in 0..4 {
            self.commit(round);
            self.checkpoint();
            self.commit(round + 1);
        }
        self.back_up("copy");
        self.commit(7);
        self.checkpoint();
    }
}

/// Runs the workload once for each of its calls, with that call failing; `check` looks at what came of it.
fn fail_each(calls: &[Call], error: io::ErrorKind, check: impl Fn(&Workload, &Stage, u64)) {
    for nth in 0.. {
        let stage = Stage::new();
        let vfs = FaultVfs::new(Arc::new(stage.vfs.clone()));
        vfs.inject(Fault::on_any(calls.iter().copied()).after(nth).error(error));
        let mut work = match Workload::new(&vfs) {
            Ok(work) => work,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Io, "call {nth}: {e}");
                // A failed open lets go of everything, and leaves nothing that stands in the way.
                vfs.heal();
                Workload::new(&vfs).unwrap_or_else(|e| panic!("call {nth}: {e}"))
            }
        };
        work.run();
        if vfs.struck() == 0 {
            assert!(nth > 10, "the workload makes calls");
            return;
        }
        for e in &work.failures {
            assert!(matches!(e.kind(), ErrorKind::Io | ErrorKind::Poisoned), "call {nth}: {e:?}");
        }
        // Whatever happened, a process that dies now leaves one of the states that were to be durable.
        let left = stage.crash();
        let db = left.options().create(true).open(HOME).unwrap_or_else(|e| panic!("call {nth}: {e}"));
        let found =
            try_rows(&db, "t").or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(Rows::new()) } else { Err(e) });
        let found = found.unwrap_or_else(|e| panic!("call {nth}: {e}"));
        assert!(work.allowed.contains(&found), "call {nth}: a state that nobody asked for");
        check(&work, &stage, nth);
    }
}

/// Covers: DB-8. A full device at every write: the database goes on, and the next checkpoint has everything. Only a refused
/// write of the root record, whose file has its full size from the beginning, leaves a doubt that poisons.
#[test]
fn a_full_device_at_every_write() {
    let calls = [Call::Write, Call::Allocate, Call::Create, Call::CreateDir];
    fail_each(&calls, io::ErrorKind::StorageFull, |work, stage, nth| {
        let root = work.failures.first().and_then(Error::location).is_some_and(|l| l.file.ends_with("Strandline.root"));
        let seen = try_rows(&work.db, "t");
        let next = work.db.checkpoint(CheckpointOptions::new().force(true));
        if root {
            assert_eq!(kind(next), ErrorKind::Poisoned, "call {nth}: {:?}", work.failures);
            return;
        }
        assert!(seen.unwrap() == work.now, "call {nth}: reading goes on");
        next.unwrap_or_else(|e| panic!("call {nth}: {e}, after {:?}", work.failures));
        let db = stage.crash().open();
        assert_eq!(rows(&db, "t"), work.now, "call {nth}");
        crate::verify::sound(&db);
    });
}

/// Covers: DB-8, V5. An error of the device at every call that changes something.
#[test]
fn an_error_at_every_change() {
    fail_each(&Call::CHANGES, io::ErrorKind::Other, |_, _, _| {});
}

/// Covers: DB-8, V5. A sync that fails: what it may have lost is never claimed again.
#[test]
fn an_error_at_every_sync() {
    fail_each(&Call::SYNCS, io::ErrorKind::Other, |work, _, nth| {
        let at_home = |e: &Error| e.location().is_some_and(|l| l.file.starts_with(HOME));
        let failed = work.failures.iter().any(at_home);
        let next = work.db.checkpoint(CheckpointOptions::new().force(true));
        assert_eq!(next.is_err(), failed, "call {nth}: {:?}", work.failures);
        if failed {
            assert_eq!(kind(next), ErrorKind::Poisoned, "call {nth}");
        }
    });
}

/// Covers: V7. A read that fails is an error of that call and of no other.
#[test]
fn an_error_at_every_read() {
    let truth = Truth::new();
    for nth in 0.. {
        let stage = truth.stage.crash();
        let vfs = FaultVfs::new(Arc::new(stage.vfs.clone()));
        vfs.inject(Fault::on_any([Call::Read, Call::Open, Call::Metadata, Call::ReadDir]).after(nth));
        let opened = small(Arc::new(vfs.clone())).open(HOME);
        if let Ok(db) = &opened {
            for (name, expected) in &truth.now {
                match try_rows(db, name) {
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Io, "call {nth}: {e}"),
                    Ok(rows) => assert_eq!(rows, *expected),
                }
            }
            if vfs.struck() == 0 {
                return;
            }
            for (name, expected) in &truth.now {
                assert_eq!(rows(db, name), *expected, "call {nth}: the next read works");
            }
        } else {
            assert_eq!(kind(opened), ErrorKind::Io, "call {nth}");
            vfs.heal();
            drop(small(Arc::new(vfs)).open(HOME).unwrap());
        }
    }
}
