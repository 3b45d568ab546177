//! Increments by blocks: a base and its increments equal the source, whatever happened in between.
//!
//! Covers: K4, K5, K6 of increments.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use strandline::backup::{self, Content, CopyKind, Manifest, VerifyCopyOptions};
use strandline::maintenance::VerifyOptions;
use strandline::progress::Progress;
use strandline::sync::{Entropy, ManualClock, SeededEntropy};
use strandline::{
    BackupOptions, CheckpointOptions, CheckpointRef, Database, ErrorKind, Options, Origin, TableOptions, Workers,
};
use strandline_vfs::fault::{Fault, FaultVfs};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::trace::TraceVfs;
use strandline_vfs::{Call, OpenOptions, Vfs};

use strandline_sim::oracle::structure::{self, Allowance, State};

fn go_on(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn options(vfs: &MemVfs) -> Options {
    Options::new()
        .vfs(Arc::new(vfs.clone()))
        .clock(Arc::new(ManualClock::new(1)))
        .entropy(Arc::new(SeededEntropy::new(7)))
        .workers(Workers::Manual)
        .unit(512)
}

fn open(vfs: &MemVfs) -> Database {
    options(vfs).create(true).open("/db").unwrap()
}

fn write(db: &Database, table: &str, rows: impl IntoIterator<Item = (String, Option<Vec<u8>>)>) {
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

fn row(i: u64, value: usize) -> (String, Option<Vec<u8>>) {
    (format!("key{i:06}"), Some(vec![i as u8; value]))
}

type Contents = BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>;

/// Every row of every table, and of every named checkpoint.
fn contents(db: &Database) -> Contents {
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
fn take(db: &Database, dir: &str, since: Option<Origin>) -> Manifest {
    take_shaped(db, dir, since, Allowance::default())
}

fn take_shaped(db: &Database, dir: &str, since: Option<Origin>, shape: Allowance) -> Manifest {
    let mut options = BackupOptions::new().merge_gaps(shape.gap).granularity(shape.granule);
    if let Some(origin) = since {
        options = options.incremental_from(origin);
    }
    let open = db.backup(options).unwrap();
    let report = open.copy_to(dir, go_on).unwrap();
    open.finish().unwrap();
    report.manifest
}

fn apply(vfs: &MemVfs, increment: &str, copy: &str) -> strandline::Result<backup::ApplyReport> {
    backup::apply(vfs, Path::new(increment), Path::new(copy), &mut go_on)
}

fn assert_sound(vfs: &MemVfs, copy: &str) {
    let vfs: Arc<dyn Vfs> = Arc::new(vfs.clone());
    let report = backup::verify_copy(&vfs, Path::new(copy), VerifyCopyOptions::default(), &mut go_on).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.strangers, Vec::<String>::new());
}

/// What a database opened from the copy holds; the copy itself stays as it is.
fn restored(vfs: &MemVfs, copy: &str) -> Contents {
    let db = options(&vfs.duplicate()).read_only(true).open(copy).unwrap();
    contents(&db)
}

/// Covers: BI-2, BI-4, K4, K5. Lays the increment `inc` for `copy`, and the full copy of the same checkpoint, side by side, block
/// by block.
fn assert_exact(vfs: &MemVfs, copy: &str, inc: &str, full: &str, allowance: Allowance) {
    let [base, pinned] = [copy, full].map(|dir| State::of_copy(vfs, Path::new(dir)).unwrap());
    let (since, reported) = structure::reported(vfs, Path::new(inc)).unwrap();
    assert_eq!(structure::mono(&pinned), [] as [&str; 0]);
    assert_eq!(structure::walk(&pinned, since), [] as [&str; 0]);
    assert_eq!(structure::superset(&base, &pinned, &reported), [] as [&str; 0]);
    assert_eq!(structure::tight(&pinned, since, &reported, allowance), [] as [&str; 0]);
}

/// Covers: K4. The copy has every live block of the full copy.
fn assert_same_blocks(vfs: &MemVfs, copy: &str, full: &str) {
    let [chain, full] = [copy, full].map(|dir| State::of_copy(vfs, Path::new(dir)).unwrap());
    assert_eq!(structure::mono(&chain), [] as [&str; 0]);
    assert_eq!(structure::bytes_equal(&chain, &full), [] as [&str; 0]);
}

/// Every checkpoint of a history as it was when it was the newest.
#[derive(Default)]
struct Stamps(Vec<State>);

impl Stamps {
    /// What the newest checkpoint reaches was born when the earlier ones say.
    fn look(&mut self, vfs: &MemVfs) {
        let now = State::of_home(vfs, Path::new("/db")).unwrap();
        assert_eq!(structure::mono(&now), [] as [&str; 0]);
        for earlier in self.0.iter().filter(|earlier| earlier.seq < now.seq) {
            assert_eq!(structure::stamp(earlier, &now), [] as [&str; 0]);
            assert_eq!(structure::walk(&now, earlier.seq), [] as [&str; 0]);
        }
        self.0.push(now);
    }
}

fn remove(vfs: &MemVfs, dir: &str) {
    for entry in vfs.read_dir(Path::new(dir)).unwrap() {
        vfs.remove_file(&Path::new(dir).join(entry.name)).unwrap();
    }
    vfs.remove_dir(Path::new(dir)).unwrap();
}

#[test]
fn an_increment_carries_what_changed() {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    for table in ["large", "idle", "gone"] {
        db.create_table(table, TableOptions::new()).unwrap();
        write(&db, table, (0..5_000).map(|i| row(i, 50)));
    }
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let full = take(&db, "/copy", None);
    assert_eq!(full.kind, CopyKind::Full);
    write(&db, "large", [row(77, 60), row(99_999, 3_000_000)]);
    db.drop_table("gone", false).unwrap();
    db.create_table("late", TableOptions::new()).unwrap();
    write(&db, "late", [row(1, 10)]);
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let increment = take(&db, "/inc", Some(full.origin()));
    assert_eq!(increment.kind, CopyKind::Increment(full.origin()));
    let content: Vec<(&str, bool, u64)> =
        increment.files.iter().map(|f| (f.name.as_str(), matches!(f.content, Content::Whole), f.stored())).collect();
    let [catalog, large, late, idle] =
        ["Strandline.catalog", "table-00000001.sl", "table-00000004.sl", "table-00000002.sl"]
            .map(|name| *content.iter().find(|c| c.0 == name).unwrap());
    assert!(catalog.2 < 10_000, "{catalog:?}");
    assert!(!large.1 && (3_000_000..3_050_000).contains(&large.2), "{large:?}");
    assert!(!late.1 && late.2 < 10_000, "a new table travels with its header: {late:?}");
    assert_eq!(idle.2, 0, "an idle table does not travel");
    let report = apply(&vfs, "/inc", "/copy").unwrap();
    assert_eq!(report.removed, ["table-00000003.sl"]);
    assert_sound(&vfs, "/copy");
    assert_eq!(restored(&vfs, "/copy"), contents(&db));
    let again = apply(&vfs, "/inc", "/copy").unwrap();
    assert_eq!(again.bytes, 0, "it was there already");
}

#[test]
fn an_increment_since_now_carries_nothing_of_the_tables() {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", (0..100).map(|i| row(i, 50)));
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let full = take(&db, "/copy", None);
    let nothing = take(&db, "/inc", Some(full.origin()));
    assert_eq!(nothing.bytes(), 0);
    assert_eq!(nothing.origin(), full.origin());
    apply(&vfs, "/inc", "/copy").unwrap();
    assert_sound(&vfs, "/copy");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    db.create_table("t", TableOptions::new()).unwrap();
    let mut origins = Vec::new();
    for i in 0..4 {
        write(&db, "t", [row(i, 50)]);
        db.checkpoint(CheckpointOptions::new()).unwrap();
        origins.push(take(&db, &format!("/full{i}"), None).origin());
    }
    take(&db, "/late", Some(origins[2]));
    let e = apply(&vfs, "/late", "/full1").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongBase, "a gap: {e}");
    assert_eq!(apply(&vfs, "/full3", "/full1").unwrap_err().kind(), ErrorKind::WrongBase, "no increment");
    assert_sound(&vfs, "/full1");
    apply(&vfs, "/late", "/full2").unwrap();
    assert_eq!(options(&vfs).open("/late").unwrap_err().kind(), ErrorKind::WrongBase, "an increment is no copy");

    let stranger = Origin { lineage: strandline::Lineage(1), ..origins[0] };
    let to_come = Origin { sequence: strandline::CheckpointSeq::major(1000), ..origins[0] };
    for (origin, kind) in [(stranger, ErrorKind::WrongBase), (to_come, ErrorKind::NotFound)] {
        let e = db.backup(BackupOptions::new().incremental_from(origin)).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
    }
    let tables = BackupOptions::new().incremental_from(origins[0]).tables(["t"]);
    assert_eq!(db.backup(tables).unwrap_err().kind(), ErrorKind::InvalidArgument);

    take(&db, "/inc", Some(origins[0]));
    options(&vfs).open("/full0").unwrap().close().unwrap();
    let e = apply(&vfs, "/inc", "/full0").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongBase, "an opened copy: {e}");
    options(&vfs).read_only(true).open("/full1").unwrap().close().unwrap();
    apply(&vfs, "/inc", "/full1").unwrap();
}

/// Covers: BI-2, K4. Of a database with a log an increment may lead to the checkpoint that the copy has, and further into the log.
#[test]
fn an_increment_that_has_only_more_of_the_log_is_applied() {
    let vfs = MemVfs::new();
    let db = options(&vfs).create(true).log(true).open("/db").unwrap();
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", [row(1, 50)]);
    let first = take(&db, "/copy", None);
    let early = take(&db, "/early", Some(first.origin()));
    write(&db, "t", [row(2, 50)]);
    let more = take(&db, "/more", Some(first.origin()));
    assert_eq!(more.origin(), first.origin());
    apply(&vfs, "/more", "/copy").unwrap();
    assert_sound(&vfs, "/copy");
    assert_eq!(rows_of(&vfs, "/copy", "t"), 2);
    let behind = apply(&vfs, "/early", "/copy").unwrap();
    assert_eq!((behind.bytes, rows_of(&vfs, "/copy", "t")), (0, 2), "what it had already it keeps");
    assert!(early.log_end < more.log_end);
}

fn rows_of(vfs: &MemVfs, dir: &str, table: &str) -> usize {
    let db = options(&vfs.duplicate()).read_only(true).open(dir).unwrap();
    let table = db.table(table).unwrap();
    db.begin().unwrap().scan(&table).unwrap().count()
}

#[test]
fn a_damaged_increment_is_refused_before_the_copy_is_changed() {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", (0..500).map(|i| row(i, 50)));
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let full = take(&db, "/copy", None);
    write(&db, "t", [row(7, 60)]);
    db.checkpoint(CheckpointOptions::new()).unwrap();
    take(&db, "/inc", Some(full.origin()));
    let file = vfs.open(Path::new("/inc/table-00000001.sl"), OpenOptions::write()).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100).unwrap();
    file.write_all_at(&[!byte[0]], 100).unwrap();
    assert_eq!(apply(&vfs, "/inc", "/copy").unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(Manifest::load(&vfs, Path::new("/copy")).unwrap(), full);
    assert_sound(&vfs, "/copy");
}

/// Random histories: changes in several tables, tables that come and go, named checkpoints that come and go, increments from
/// any earlier origin onto copies of any age.
#[test]
fn random_histories() {
    for seed in 0..12 {
        history(seed);
    }
}

fn history(seed: u64) {
    let chance = SeededEntropy::new(seed);
    let below = |n: u64| chance.next_u64() % n;
    let vfs = MemVfs::new();
    let mut db = open(&vfs);
    let mut origins = vec![take_empty(&db)];
    let mut copies: Vec<String> = Vec::new();
    let mut stamps = Stamps::default();
    for round in 0..14 {
        for _ in 0..below(4) {
            change(&db, &below);
        }
        let mut checkpoint = CheckpointOptions::new();
        if below(3) == 0 {
            checkpoint = checkpoint.name(format!("n{}", below(3)));
        }
        if below(4) == 0 {
            checkpoint = checkpoint.drop(format!("n{}", below(3)));
        }
        db.checkpoint(checkpoint).unwrap();
        stamps.look(&vfs);
        if below(5) == 0 {
            db.close().unwrap();
            db = open(&vfs);
        }
        back_up_an_older_one(&vfs, &db, &below);
        // Roll one copy forward from an origin that is not after it, and leave the others behind.
        if !copies.is_empty() && below(4) > 0 {
            let copy = &copies[below(copies.len() as u64) as usize];
            let at = Manifest::load(&vfs, Path::new(copy)).unwrap().origin();
            let usable: Vec<&Origin> = origins.iter().filter(|o| o.sequence <= at.sequence).collect();
            let since = *usable[below(usable.len() as u64) as usize];
            let shape =
                [Allowance::default(), Allowance { gap: 0, granule: 8192 }, Allowance { gap: 2048, granule: 0 }];
            let shape = shape[below(3) as usize];
            take_shaped(&db, "/inc", Some(since), shape);
            take(&db, "/shadow", None);
            assert_exact(&vfs, copy, "/inc", "/shadow", shape);
            apply(&vfs, "/inc", copy).unwrap_or_else(|e| panic!("seed {seed} round {round} since {since}: {e}"));
            assert_sound(&vfs, copy);
            assert_same_blocks(&vfs, copy, "/shadow");
            remove(&vfs, "/inc");
            remove(&vfs, "/shadow");
            assert_eq!(restored(&vfs, copy), contents(&db), "seed {seed} round {round} since {since} onto {at}");
            origins.push(Manifest::load(&vfs, Path::new(copy)).unwrap().origin());
        } else {
            let copy = format!("/copy{round}");
            origins.push(take(&db, &copy, None).origin());
            assert_eq!(restored(&vfs, &copy), contents(&db));
            copies.push(copy);
        }
    }
}

/// Backs up one of the named checkpoints. The copy holds it and the older ones that are still retained, and nothing of what was
/// dropped since, be it checkpoints or tables.
fn back_up_an_older_one(vfs: &MemVfs, db: &Database, below: &dyn Fn(u64) -> u64) {
    let names: Vec<String> = db.checkpoints().unwrap().into_iter().filter_map(|c| c.name).collect();
    if names.is_empty() {
        return;
    }
    let at = below(names.len() as u64) as usize;
    let open = db.backup(BackupOptions::new().checkpoint(&names[at])).unwrap();
    open.copy_to("/named", go_on).unwrap();
    open.finish().unwrap();
    assert_sound(vfs, "/named");
    let mut expected: Contents = contents(db);
    let latest = format!("@{}", names[at]);
    expected.retain(|key, _| names[..=at].iter().any(|name| key.ends_with(&format!("@{name}"))));
    let newest: Contents =
        expected.iter().filter_map(|(k, v)| Some((k.strip_suffix(&latest)?.to_owned() + "@-", v.clone()))).collect();
    expected.extend(newest);
    assert_eq!(restored(vfs, "/named"), expected);
    let copy = vfs.duplicate();
    let opened = options(&copy).open("/named").unwrap();
    assert_eq!(contents(&opened), expected);
    let damage = opened.verify(&VerifyOptions::new()).unwrap().findings;
    assert_eq!(damage, []);
    opened.checkpoint(CheckpointOptions::new().drop_all()).unwrap();
    assert_eq!(opened.verify(&VerifyOptions::new()).unwrap().findings, []);
    opened.close().unwrap();
    remove(vfs, "/named");
}

/// The origin before the first checkpoint.
fn take_empty(db: &Database) -> Origin {
    let open = db.backup(BackupOptions::new()).unwrap();
    let origin = open.origin();
    open.finish().unwrap();
    origin
}

fn change(db: &Database, below: &dyn Fn(u64) -> u64) {
    let name = format!("t{}", below(4));
    let exists = db.tables().unwrap().iter().any(|t| t.name == name);
    match below(8) {
        0 if exists => db.drop_table(&name, true).unwrap(),
        1 if exists => {
            let other = format!("t{}", 4 + below(3));
            // The other name may be taken; then nothing happens.
            let _ = db.rename_table(&name, &other);
        }
        _ if !exists => drop(db.create_table(&name, TableOptions::new()).unwrap()),
        2 => {
            let (from, n) = (below(3_000), below(1_500));
            write(db, &name, (from..from + n).map(|i| (format!("key{i:06}"), None)));
        }
        3 => write(db, &name, [row(below(3_000), 5_000 + below(40_000) as usize)]),
        4 => {
            let from = below(3_000);
            write(db, &name, (from..from + 1_000).map(|i| row(i, 20)));
        }
        _ => {
            write(db, &name, (0..below(30)).map(|_| row(below(3_000), below(100) as usize)).collect::<BTreeMap<_, _>>())
        }
    }
}

/// Every call of the file system that changes something fails once; then the same call of `apply` finishes the work, and
/// until it has, nothing opens the copy.
#[test]
fn an_interrupted_apply_can_be_repeated() {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    for table in ["a", "b"] {
        db.create_table(table, TableOptions::new()).unwrap();
        write(&db, table, (0..500).map(|i| row(i, 50)));
    }
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let full = take(&db, "/copy", None);
    write(&db, "a", (0..500).step_by(9).map(|i| row(i, 60)));
    db.drop_table("b", false).unwrap();
    db.create_table("c", TableOptions::new()).unwrap();
    write(&db, "c", (0..500).map(|i| row(i, 50)));
    db.checkpoint(CheckpointOptions::new()).unwrap();
    take(&db, "/inc", Some(full.origin()));
    let expected = contents(&db);
    let changing =
        [Call::Create, Call::Write, Call::SetLen, Call::SyncAll, Call::SyncDir, Call::Rename, Call::RemoveFile];
    for calls in 0.. {
        let copy = vfs.duplicate();
        let faulty = FaultVfs::new(Arc::new(copy.clone()));
        faulty.inject(Fault::on_any(changing).after(calls));
        let interrupted = backup::apply(&faulty, Path::new("/inc"), Path::new("/copy"), &mut go_on);
        if interrupted.is_ok() {
            assert!(calls > 10, "{calls} calls");
            break;
        }
        let readable = Manifest::load(&copy, Path::new("/copy")).ok();
        if readable.as_ref().is_some_and(|m| m.origin() == full.origin()) {
            assert_eq!(readable.unwrap(), full, "untouched");
        }
        apply(&copy, "/inc", "/copy").unwrap_or_else(|e| panic!("after {calls} calls: {e}"));
        assert_sound(&copy, "/copy");
        assert_eq!(restored(&copy, "/copy"), expected, "after {calls} calls");
    }
}

/// Covers: RS-2, K6. After an interruption another increment takes the place of the one that was being applied if it leads at
/// least as far; one that ends earlier is refused, since what it needs of the copy may have been written over.
#[test]
fn another_increment_after_an_interruption() {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", (0..300).map(|i| row(i, 100)));
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let full = take(&db, "/copy", None);
    for (n, dir) in ["/near", "/middle", "/far"].into_iter().enumerate() {
        if n == 1 {
            db.create_table("passing", TableOptions::new()).unwrap();
            write(&db, "passing", [row(1, 10)]);
        } else if n == 2 {
            db.drop_table("passing", true).unwrap();
        }
        // Twice, so that what is given up first is written over then.
        for value in [101, 102] {
            write(&db, "t", (n as u64 * 40..300).map(|i| row(i, value + 2 * n)));
            db.checkpoint(CheckpointOptions::new()).unwrap();
        }
        take(&db, dir, Some(full.origin()));
    }
    let expected = contents(&db);
    let mut refused = 0;
    for calls in 0.. {
        let copy = vfs.duplicate();
        let faulty = FaultVfs::new(Arc::new(copy.clone()));
        faulty.inject(Fault::on_any(Call::CHANGES).after(calls));
        if backup::apply(&faulty, Path::new("/middle"), Path::new("/copy"), &mut go_on).is_ok() {
            break;
        }
        let before = copy.duplicate();
        match apply(&copy, "/near", "/copy") {
            Ok(_) => assert_sound(&copy, "/copy"),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::WrongBase, "after {calls} calls: {e}");
                assert!(same_files(&before, &copy, "/copy"), "after {calls} calls");
                refused += u64::from(e.to_string().contains("was being applied"));
            }
        }
        apply(&copy, "/far", "/copy").unwrap_or_else(|e| panic!("after {calls} calls: {e}"));
        assert_sound(&copy, "/copy");
        assert_eq!(restored(&copy, "/copy"), expected, "after {calls} calls");
    }
    assert!(refused > 3, "{refused}");
}

/// Every file of a directory with its bytes.
fn files(vfs: &MemVfs, dir: &str) -> BTreeMap<String, Vec<u8>> {
    let names = vfs.read_dir(Path::new(dir)).unwrap().into_iter().map(|entry| entry.name.into_string().unwrap());
    let bytes = |name: &String| {
        let file = vfs.open(&Path::new(dir).join(name), OpenOptions::read()).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    names.map(|name| (name.clone(), bytes(&name))).collect()
}

fn same_files(a: &MemVfs, b: &MemVfs, dir: &str) -> bool {
    files(a, dir) == files(b, dir)
}

/// Covers: BI-2, FB-3. The catalog of a named checkpoint lists one that was dropped since and written over: an increment to the
/// named one does not look at it.
#[test]
fn an_increment_to_an_older_checkpoint_passes_what_was_dropped_since() {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", (0..300).map(|i| row(i, 100)));
    let base = take(&db, "/copy", None).origin();
    for (name, value) in [("a", 101), ("p", 102)] {
        write(&db, "t", (0..300).map(|i| row(i, value)));
        db.checkpoint(CheckpointOptions::new().name(name)).unwrap();
    }
    db.checkpoint(CheckpointOptions::new().drop("a")).unwrap();
    for value in 103..108 {
        write(&db, "t", (0..300).map(|i| row(i, value)));
        db.checkpoint(CheckpointOptions::new()).unwrap();
    }
    let backup = db.backup(BackupOptions::new().checkpoint("p").incremental_from(base)).unwrap();
    backup.copy_to("/more", go_on).unwrap();
    backup.finish().unwrap();
    apply(&vfs, "/more", "/copy").unwrap();
    assert_sound(&vfs, "/copy");
    assert!(restored(&vfs, "/copy").values().all(|rows| rows.iter().all(|(_, value)| value.len() == 102)));
}

/// The rules of births are no formality: each sees the one thing that it is for.
#[test]
fn each_rule_of_births_can_fail() {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", (0..3_000).map(|i| row(i, 50)));
    write(&db, "t", [row(1, 30_000)]);
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let full = take(&db, "/copy", None);
    let before = State::of_home(&vfs, Path::new("/db")).unwrap();
    write(&db, "t", [row(7, 60), row(2_500, 20_000)]);
    db.create_table("new", TableOptions::new()).unwrap();
    write(&db, "new", [row(1, 10)]);
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let now = State::of_home(&vfs, Path::new("/db")).unwrap();
    take(&db, "/inc", Some(full.origin()));
    let base = State::of_copy(&vfs, Path::new("/copy")).unwrap();
    let (since, reported) = structure::reported(&vfs, Path::new("/inc")).unwrap();
    assert_eq!(since, before.seq);
    let nothing = Allowance::default();
    let file = "table-00000001.sl";
    let newest = now.files[file].blocks.values().find(|b| b.addr.birth > since && b.children.is_empty()).unwrap().addr;
    let oldest = now.files[file].blocks.values().find(|b| b.addr.birth <= since).unwrap().addr;
    let reborn = |addr: structure::Addr, birth: u64| {
        let mut state = now.clone();
        state.files.get_mut(file).unwrap().blocks.get_mut(&addr.offset).unwrap().addr.birth = birth;
        state
    };
    assert_eq!(structure::stamp(&before, &now).len(), 0);
    assert_eq!(structure::stamp(&before, &reborn(newest, since)).len(), 1, "a new block with an old number");
    assert_eq!(structure::stamp(&before, &reborn(oldest, since + 1)).len(), 1, "an old block with a new one");
    assert_eq!(structure::walk(&reborn(oldest, since + 1), since).len(), 1, "a new block below an old one");
    let mut less = reported.clone();
    less.get_mut(file).unwrap().pop();
    assert!(!structure::superset(&base, &now, &less).is_empty());
    let mut short = reported.clone();
    short.get_mut("table-00000002.sl").unwrap()[0].start = 512;
    assert_eq!(structure::superset(&base, &now, &short).len(), 1, "the header of a new file");
    let mut more = reported.clone();
    let old = oldest.offset..oldest.offset + u64::from(oldest.size);
    more.insert(file.to_owned(), std::iter::once(old).collect());
    assert_eq!(structure::tight(&now, since, &more, nothing).len(), 1);
    let mut wide = reported.clone();
    wide.get_mut(file).unwrap().last_mut().unwrap().end += 512;
    assert_eq!(structure::tight(&now, since, &wide, nothing).len(), 1, "a range that ends too late");
    assert_eq!(structure::tight(&now, since, &reported, nothing).len(), 0);
    assert!(!structure::bytes_equal(&base, &now).is_empty());
    // A block whose header was written for another checkpoint is not what its address says.
    let home = vfs.open(Path::new("/db/table-00000001.sl"), OpenOptions::write()).unwrap();
    home.write_all_at(&[9], newest.offset + 24).unwrap();
    assert_eq!(structure::mono(&State::of_home(&vfs, Path::new("/db")).unwrap()).len(), 1);
}

/// What an increment after this change has cost, of a database of so many rows.
fn cost_of(rows: u64, changed: &[u64], large: bool) -> backup::BackupReport {
    let vfs = TraceVfs::counting(Arc::new(MemVfs::new()), "/");
    let db = Options::new().vfs(Arc::new(vfs.clone())).workers(Workers::Manual).create(true).open("/db").unwrap();
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", (0..rows).map(|i| row(i, 100)));
    if large {
        write(&db, "t", [row(3, 100_000)]);
    }
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let origin = take_empty(&db);
    write(&db, "t", changed.iter().map(|i| row(*i, 101)));
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let before = vfs.total().bytes_read;
    let open = db.backup(BackupOptions::new().incremental_from(origin)).unwrap();
    let report = open.copy_to("/inc", go_on).unwrap();
    let truly = vfs.total().bytes_read - before;
    // Beside what is counted, the header of each file is looked at.
    assert!((report.read..=report.read + 3 * 4096).contains(&truly), "{truly} {report:?}");
    assert_eq!(report.bytes + report.walk.bytes_read, report.read);
    open.finish().unwrap();
    report
}

/// Covers: BI-2 (what it costs). A database twice as large does not make the same change dearer, neither to find nor to carry, and
/// little is read that does not travel.
#[test]
fn the_cost_of_an_increment_follows_the_change() {
    let clustered: Vec<u64> = (5_000..5_100).collect();
    let random: Vec<u64> = (0..60).map(|i| i * 7_919 % 20_000).collect();
    for changed in [&clustered, &random] {
        let (once, twice) = (cost_of(20_000, changed, false), cost_of(40_000, changed, false));
        assert!(once.walk.inner_pages <= 4 && twice.walk.inner_pages <= once.walk.inner_pages + 2, "{twice:?}");
        assert_eq!((once.walk.leaves, twice.walk.leaves), (0, 0), "no leaf is read to be found");
        for report in [&once, &twice] {
            // Beside four pages, of the catalog and of the tree above the changed part, whatever there is.
            let (walk, moved) = (report.walk.bytes_read - 4 * 4096, report.bytes);
            assert!(walk * 5 <= moved, "read {} to move {moved}", report.read);
        }
        let within = |a: u64, b: u64| b <= a + a / 4 + 16 * 4096;
        assert!(within(once.walk.bytes_read, twice.walk.bytes_read), "{} {}", once.read, twice.read);
        assert!(within(once.bytes, twice.bytes), "{} {}", once.bytes, twice.bytes);
    }
    let with_large = cost_of(20_000, &random, true);
    assert!(with_large.walk.leaves > 0 && with_large.read <= 2 * with_large.bytes, "{with_large:?}");
}
