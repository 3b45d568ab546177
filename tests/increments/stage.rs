//! A home in memory, copies of it, and ways to compare them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use strandline::backup::{self, Manifest, VerifyCopyOptions};
use strandline::btree::TreeOptions;
use strandline::progress::Progress;
use strandline::sync::{ManualClock, SeededEntropy};
use strandline::{BackupOptions, CheckpointRef, Database, Options, Origin, Workers};
use strandline_sim::oracle::structure::{self, Allowance, State};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{OpenOptions, Vfs};

pub fn go_on(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub fn options(vfs: &MemVfs) -> Options {
    Options::new()
        .vfs(Arc::new(vfs.clone()))
        .clock(Arc::new(ManualClock::new(1)))
        .entropy(Arc::new(SeededEntropy::new(7)))
        .workers(Workers::Manual)
        .unit(512)
}

pub fn open(vfs: &MemVfs) -> Database {
    options(vfs).create(true).open("/db").unwrap()
}

/// As [`options`], with pages so small that little data makes deep trees.
pub fn deep(vfs: &MemVfs) -> Options {
    let (fan_out, fold_versions, overflow_bytes) = (4, 8, 256);
    let tree =
        TreeOptions { leaf_bytes: 1024, fan_out, fold_versions, overflow_bytes, piece_bytes: 40_000, patch_share: 2 };
    options(vfs).tree(tree)
}

pub fn write(db: &Database, table: &str, rows: impl IntoIterator<Item = (String, Option<Vec<u8>>)>) {
    let table = db.table(table).unwrap();
    let mut txn = db.begin().unwrap();
    for (key, value) in rows {
        match value {
            Some(value) => txn.put(&table, key, value).unwrap(),
            None => drop(txn.delete(&table, key).unwrap()),
        }
    }
    txn.commit().unwrap();
}

pub fn row(i: u64, value: usize) -> (String, Option<Vec<u8>>) {
    (format!("key{i:06}"), Some(vec![i as u8; value]))
}

pub type Contents = BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>;

/// Every row of every table, and of every named checkpoint.
pub fn contents(db: &Database) -> Contents {
    let mut out = BTreeMap::new();
    let names: Vec<Option<String>> = db.checkpoints().unwrap().into_iter().map(|c| c.name).collect();
    for name in std::iter::once(None).chain(names.into_iter().filter(Option::is_some)) {
        let at = name.as_deref().map_or(CheckpointRef::Latest, CheckpointRef::Named);
        let view = db.view(at).unwrap();
        for table in view.tables().map(|t| t.name).collect::<Vec<_>>() {
            let rows = view.scan(&table).unwrap().map(|r| r.unwrap()).map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            out.insert(format!("{table}@{}", name.as_deref().unwrap_or("-")), rows);
        }
    }
    out
}

/// Takes a backup into `dir`: full, or since an origin.
pub fn take(db: &Database, dir: &str, since: Option<Origin>) -> Manifest {
    take_shaped(db, dir, since, Allowance::default())
}

pub fn take_shaped(db: &Database, dir: &str, since: Option<Origin>, shape: Allowance) -> Manifest {
    let mut options = BackupOptions::new().merge_gaps(shape.gap).granularity(shape.granule);
    if let Some(origin) = since {
        options = options.incremental_from(origin);
    }
    let open = db.backup(options).unwrap();
    let report = open.copy_to(dir, go_on).unwrap();
    open.finish().unwrap();
    report.manifest
}

pub fn apply(vfs: &MemVfs, increment: &str, copy: &str) -> strandline::Result<backup::ApplyReport> {
    backup::apply(vfs, Path::new(increment), Path::new(copy), &mut go_on)
}

pub fn assert_sound(vfs: &MemVfs, copy: &str) {
    let vfs: Arc<dyn Vfs> = Arc::new(vfs.clone());
    let report = backup::verify_copy(&vfs, Path::new(copy), VerifyCopyOptions::default(), &mut go_on).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.strangers, Vec::<String>::new());
}

/// What a database opened from the copy holds; the copy itself stays as it is.
pub fn restored(vfs: &MemVfs, copy: &str) -> Contents {
    let db = options(&vfs.duplicate()).read_only(true).open(copy).unwrap();
    contents(&db)
}

/// Covers: BI-2, BI-4, K4, K5. Lays the increment `inc` for `copy`, and the full copy of the same checkpoint, side by side, block
/// by block.
pub fn assert_exact(vfs: &MemVfs, copy: &str, inc: &str, full: &str, allowance: Allowance) {
    let [base, pinned] = [copy, full].map(|dir| State::of_copy(vfs, Path::new(dir)).unwrap());
    let (since, reported) = structure::reported(vfs, Path::new(inc)).unwrap();
    assert_eq!(structure::mono(&pinned), [] as [&str; 0]);
    assert_eq!(structure::walk(&pinned, since), [] as [&str; 0]);
    assert_eq!(structure::superset(&base, &pinned, &reported), [] as [&str; 0]);
    assert_eq!(structure::tight(&pinned, since, &reported, allowance), [] as [&str; 0]);
}

/// Covers: K4. The copy has every live block of the full copy.
pub fn assert_same_blocks(vfs: &MemVfs, copy: &str, full: &str) {
    let [chain, full] = [copy, full].map(|dir| State::of_copy(vfs, Path::new(dir)).unwrap());
    assert_eq!(structure::mono(&chain), [] as [&str; 0]);
    assert_eq!(structure::bytes_equal(&chain, &full), [] as [&str; 0]);
}

/// Every checkpoint of a history as it was when it was the newest.
#[derive(Default)]
pub struct Stamps(Vec<State>);

impl Stamps {
    /// What the newest checkpoint reaches was born when the earlier ones say.
    pub fn look(&mut self, vfs: &MemVfs) {
        let now = State::of_home(vfs, Path::new("/db")).unwrap();
        assert_eq!(structure::mono(&now), [] as [&str; 0]);
        for earlier in self.0.iter().filter(|earlier| earlier.seq < now.seq) {
            assert_eq!(structure::stamp(earlier, &now), [] as [&str; 0]);
            assert_eq!(structure::walk(&now, earlier.seq), [] as [&str; 0]);
        }
        self.0.push(now);
    }
}

pub fn remove(vfs: &MemVfs, dir: &str) {
    for entry in vfs.read_dir(Path::new(dir)).unwrap() {
        vfs.remove_file(&Path::new(dir).join(entry.name)).unwrap();
    }
    vfs.remove_dir(Path::new(dir)).unwrap();
}

pub fn rows_of(vfs: &MemVfs, dir: &str, table: &str) -> usize {
    let db = options(&vfs.duplicate()).read_only(true).open(dir).unwrap();
    let table = db.table(table).unwrap();
    db.begin().unwrap().scan(&table).unwrap().count()
}

/// The origin before the first checkpoint.
pub fn take_empty(db: &Database) -> Origin {
    let open = db.backup(BackupOptions::new()).unwrap();
    let origin = open.origin();
    open.finish().unwrap();
    origin
}

/// Every file of a directory with its bytes.
pub fn files(vfs: &MemVfs, dir: &str) -> BTreeMap<String, Vec<u8>> {
    let names = vfs.read_dir(Path::new(dir)).unwrap().into_iter().map(|entry| entry.name.into_string().unwrap());
    let bytes = |name: &String| {
        let file = vfs.open(&Path::new(dir).join(name), OpenOptions::read()).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    names.map(|name| (name.clone(), bytes(&name))).collect()
}

pub fn same_files(a: &MemVfs, b: &MemVfs, dir: &str) -> bool {
    files(a, dir) == files(b, dir)
}
