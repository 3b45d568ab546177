//! What every test needs: a home in memory, and few words for the usual things.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use strandline::sync::{ManualClock, SeededEntropy};
use strandline::{
    Backup, CheckpointOptions, CheckpointRef, Database, ErrorKind, Options, Progress, Range, Result, Table,
    TableOptions, View, Workers,
};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{OpenOptions, Vfs};

/// Where a database lives unless a test says otherwise.
pub const HOME: &str = "home";

pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A file system in memory with a place for databases.
#[derive(Clone)]
pub struct Stage {
    pub vfs: MemVfs,
    clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
}

impl Stage {
    pub fn new() -> Self {
        let (clock, entropy) = (ManualClock::new(1_000), SeededEntropy::new(7));
        Self { vfs: MemVfs::new(), clock: Arc::new(clock), entropy: Arc::new(entropy) }
    }

    /// The files as they are now, as if every process had died.
    pub fn crash(&self) -> Self {
        Self { vfs: self.vfs.duplicate(), ..self.clone() }
    }

    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Small pages, a small unit and a small cache, so that little data makes deep trees.
    pub fn options(&self) -> Options {
        small(Arc::new(self.vfs.clone())).clock(self.clock.clone()).entropy(self.entropy.clone())
    }

    pub fn create(&self) -> Database {
        self.options().create(true).open(HOME).unwrap()
    }

    pub fn open(&self) -> Database {
        self.options().open(HOME).unwrap()
    }

    pub fn open_at(&self, dir: &str) -> Database {
        self.options().open(dir).unwrap()
    }

    pub fn files(&self, dir: &str) -> Vec<String> {
        let names = self.vfs.read_dir(Path::new(dir)).unwrap();
        names.into_iter().map(|e| e.name.into_string().unwrap()).collect()
    }

    pub fn read(&self, path: &str) -> Vec<u8> {
        let file = self.vfs.open(Path::new(path), OpenOptions::read()).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    pub fn write(&self, path: &str, bytes: &[u8]) {
        let file = self.vfs.open(Path::new(path), OpenOptions::create()).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }

    pub fn remove(&self, path: &str) {
        self.vfs.remove_file(Path::new(path)).unwrap();
    }

    /// Every file of a directory with its bytes.
    pub fn contents(&self, dir: &str) -> BTreeMap<String, Vec<u8>> {
        self.files(dir).into_iter().map(|name| (name.clone(), self.read(&format!("{dir}/{name}")))).collect()
    }
}

/// Fails, without printing them, when the files are not what they were.
pub fn unchanged(stage: &Stage, dir: &str, before: &BTreeMap<String, Vec<u8>>) {
    let now = stage.contents(dir);
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&now), names(before), "files came or went");
    for (name, bytes) in before {
        assert!(now[name] == *bytes, "{dir}/{name} was written");
    }
}

/// Options for little data on any file system.
pub fn small(vfs: Arc<dyn Vfs>) -> Options {
    Options::new()
        .vfs(vfs)
        .entropy(Arc::new(SeededEntropy::new(7)))
        .clock(Arc::new(ManualClock::new(1_000)))
        .workers(Workers::Manual)
        .unit(512)
        .leaf_bytes(1024)
        .cache_bytes(1 << 20)
}

/// The kind of the error; the result must be one.
pub fn kind<T: Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("this must be refused").kind()
}

/// The whole text of the error, place and remedy included.
pub fn text<T: Debug>(result: Result<T>) -> String {
    result.expect_err("this must be refused").to_string()
}

pub fn table(db: &Database, name: &str) -> Table {
    db.create_table(name, TableOptions::new()).unwrap()
}

pub fn put(db: &Database, name: &str, key: &str, value: &str) {
    let table = table(db, name);
    let mut tx = db.begin().unwrap();
    tx.put(&table, key, value).unwrap();
    tx.commit().unwrap();
}

pub fn get(db: &Database, name: &str, key: &str) -> Option<String> {
    let tx = db.begin().unwrap();
    let value = tx.get(&db.table(name).unwrap(), key).unwrap();
    value.map(|v| String::from_utf8(v.as_ref().to_vec()).unwrap())
}

/// `count` rows whose values say `tag`, over those that are there, in one transaction.
pub fn fill(db: &Database, name: &str, count: usize, tag: &str) {
    let table = table(db, name);
    let mut tx = db.begin().unwrap();
    for i in 0..count {
        tx.put(&table, key(i), value(i, tag)).unwrap();
    }
    tx.commit().unwrap();
}

pub fn key(i: usize) -> Vec<u8> {
    format!("key-{i:06}").into_bytes()
}

pub fn value(i: usize, tag: &str) -> Vec<u8> {
    format!("{tag}-{i}-{}", "x".repeat(i % 40)).into_bytes()
}

/// What [`fill`] leaves in an empty table.
pub fn filled(count: usize, tag: &str) -> Rows {
    (0..count).map(|i| (key(i), value(i, tag))).collect()
}

pub fn collect(range: Range<'_>) -> Result<Rows> {
    range.map(|row| row.map(|(key, value)| (key, value.as_ref().to_vec()))).collect()
}

pub fn rows(db: &Database, name: &str) -> Rows {
    try_rows(db, name).unwrap()
}

pub fn try_rows(db: &Database, name: &str) -> Result<Rows> {
    let table = db.table(name)?;
    let tx = db.begin()?;
    collect(tx.scan(&table)?)
}

pub fn view_rows(view: &View, name: &str) -> Rows {
    collect(view.scan(name).unwrap()).unwrap()
}

pub fn named_rows(db: &Database, checkpoint: &str, name: &str) -> Rows {
    view_rows(&db.view(CheckpointRef::Named(checkpoint)).unwrap(), name)
}

pub fn checkpoint(db: &Database) {
    db.checkpoint(CheckpointOptions::new()).unwrap();
}

pub fn named(db: &Database, name: &str) {
    db.checkpoint(CheckpointOptions::new().name(name)).unwrap();
}

/// The names of all named checkpoints, oldest first.
pub fn names(db: &Database) -> Vec<String> {
    db.checkpoints().unwrap().into_iter().filter_map(|c| c.name).collect()
}

pub fn table_names(db: &Database) -> Vec<String> {
    db.tables().unwrap().into_iter().map(|t| t.name).collect()
}

/// Goes on, whatever the progress.
pub fn quietly(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub fn copy(backup: &Backup<'_>, dir: &str) {
    backup.copy_to(dir, quietly).unwrap();
}

/// A fresh backup of everything into `dir`, begun and ended.
pub fn back_up(db: &Database, dir: &str) {
    let backup = db.backup(strandline::BackupOptions::new().fresh_checkpoint(true)).unwrap();
    copy(&backup, dir);
    backup.finish().unwrap();
}
