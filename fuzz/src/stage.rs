//! A database in memory for targets that open one.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use strandline::sync::{ManualClock, SeededEntropy};
use strandline::{
    BackupOptions, CheckpointOptions, CheckpointRef, Database, ErrorKind, Options, Progress, Result, TableOptions,
    VerifyOptions, Workers,
};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{OpenOptions, Vfs};

/// The rows of a table.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Small pages and little memory, so that few bytes of input go a long way.
pub fn options(vfs: &MemVfs) -> Options {
    Options::new()
        .vfs(Arc::new(vfs.clone()))
        .clock(Arc::new(ManualClock::new(1)))
        .entropy(Arc::new(SeededEntropy::new(1)))
        .workers(Workers::Manual)
        .leaf_bytes(1024)
        .cache_bytes(128 << 10)
}

/// The rows of a table, as a new transaction sees them.
pub fn rows(db: &Database, table: &str) -> Result<Rows> {
    let tx = db.begin()?;
    tx.scan(&db.table(table)?)?.map(|row| row.map(|(k, v)| (k, v.as_ref().to_vec()))).collect()
}

/// Reads whatever can be read, in every way. What comes of it does not matter, only that it comes.
pub fn look_everywhere(vfs: &MemVfs, dir: &str, db: &Database) {
    for table in db.tables().unwrap_or_default() {
        let _ = rows(db, &table.name);
        if let (Ok(tx), Ok(t)) = (db.begin(), db.table(&table.name)) {
            let _ = (tx.get(&t, "key-1"), tx.range(&t, &b"k"[..]..).map(|r| r.rev().take(20).count()));
        }
    }
    for checkpoint in db.checkpoints().unwrap_or_default() {
        let which = checkpoint.name.as_deref().map_or(CheckpointRef::Latest, CheckpointRef::Named);
        if let Ok(view) = db.view(which) {
            let tables: Vec<_> = view.tables().map(|t| t.name).collect();
            for table in tables {
                let _ = view.scan(&table).map(Iterator::count);
            }
        }
    }
    let _ = db.verify(&VerifyOptions::default());
    inspect(vfs, dir);
}

/// Describes every file, whether it can be opened or not.
pub fn inspect(vfs: &MemVfs, dir: &str) {
    let shared: Arc<dyn Vfs> = Arc::new(vfs.clone());
    let dir = Path::new(dir);
    let _ = strandline::inspect::describe_home(&shared, dir);
    for entry in vfs.read_dir(dir).unwrap_or_default() {
        let detail = strandline::inspect::Detail::Cells;
        let _ = strandline::inspect::describe_file(vfs, &dir.join(entry.name), detail);
    }
}

/// Errs never: a callback for progress.
pub fn quietly(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The bytes of a file.
pub fn read(vfs: &MemVfs, path: &str) -> Vec<u8> {
    let file = vfs.open(Path::new(path), OpenOptions::read()).expect("the file is there");
    let mut bytes = vec![0; file.len().expect("memory does not fail") as usize];
    file.read_exact_at(&mut bytes, 0).expect("memory does not fail");
    bytes
}

/// Replaces a file.
pub fn write(vfs: &MemVfs, path: &str, bytes: &[u8]) {
    let file = vfs.open(Path::new(path), OpenOptions::create()).expect("memory does not fail");
    file.set_len(0).and_then(|()| file.write_all_at(bytes, 0)).expect("memory does not fail");
}

/// A small database in `home` and a copy of it in `copy`, with the rows of its two tables.
pub fn sample() -> (MemVfs, BTreeMap<&'static str, Rows>) {
    let vfs = MemVfs::new();
    let build = || -> Result<BTreeMap<&'static str, Rows>> {
        let db = options(&vfs).create(true).unit(512).open("home")?;
        for (name, count) in [("one", 60), ("two", 3)] {
            let table = db.create_table(name, TableOptions::new())?;
            let mut tx = db.begin()?;
            for i in 0..count {
                tx.put(&table, format!("key-{i}"), vec![i as u8; i * 3])?;
            }
            tx.put(&table, "large", vec![9; 5000])?;
            tx.commit()?;
            db.checkpoint(CheckpointOptions::new().name(name))?;
        }
        let backup = db.backup(BackupOptions::new())?;
        backup.copy_to("copy", quietly)?;
        backup.finish()?;
        let rows = ["one", "two"].into_iter().map(|name| Ok((name, rows(&db, name)?))).collect();
        db.close()?;
        rows
    };
    let rows = build().expect("memory does not fail");
    (vfs, rows)
}

/// True for what damage may cause.
pub fn is_damage(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::WrongBase | ErrorKind::NotFound)
}
