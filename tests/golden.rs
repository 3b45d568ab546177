//! Golden files: what earlier versions wrote, this version reads.
//!
//! `corpus/format/v1` holds a home, a copy of it and a stream, as format version 1 wrote them. They are never written
//! again: when the format changes, a new directory joins them. Until the first release the one that there is may be made
//! anew with `STRANDLINE_BLESS=1 cargo test --test golden`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline::backup::{self, Manifest, RestoreOptions, VerifyCopyOptions};
use strandline::inspect::{Detail, describe_file, describe_home};
use strandline::progress::Progress;
use strandline::sync::{ManualClock, SeededEntropy};
use strandline::{BackupOptions, CheckpointOptions, CheckpointRef, Database, Options, TableOptions, Workers};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{OpenOptions, Vfs};

fn go_on(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/format/v1")
}

fn options(vfs: &Arc<dyn Vfs>) -> Options {
    Options::new()
        .vfs(Arc::clone(vfs))
        .clock(Arc::new(ManualClock::new(1_700_000_000_000)))
        .entropy(Arc::new(SeededEntropy::new(1)))
        .workers(Workers::Manual)
        .unit(512)
}

fn key(i: u32) -> String {
    format!("key{i:05}")
}

/// The row `i` as of the named checkpoint (`age` 0) and as of the newest (`age` 1).
fn value(i: u32, age: u32) -> Vec<u8> {
    if i == 77 { vec![i as u8 + age as u8; 20_000] } else { format!("value {i} of age {age}").into_bytes() }
}

/// Writes the golden home, its copy and its stream into `vfs`.
fn make(vfs: &Arc<dyn Vfs>) -> Vec<u8> {
    let db = options(vfs).create(true).open("/home").unwrap();
    let people = db.create_table("people", TableOptions::new()).unwrap();
    db.create_table("empty", TableOptions::new()).unwrap();
    let mut txn = db.begin().unwrap();
    for i in 0..300 {
        txn.put(&people, key(i), value(i, 0)).unwrap();
    }
    txn.commit().unwrap();
    db.checkpoint(CheckpointOptions::new().name("monday")).unwrap();
    let mut txn = db.begin().unwrap();
    for i in 50..100 {
        txn.put(&people, key(i), value(i, 1)).unwrap();
    }
    for i in 200..250 {
        txn.delete(&people, key(i)).unwrap();
    }
    txn.commit().unwrap();
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let open = db.backup(BackupOptions::new()).unwrap();
    open.copy_to("/copy", go_on).unwrap();
    let mut stream = Vec::new();
    open.stream_to(&mut stream, go_on).unwrap();
    open.finish().unwrap();
    db.close().unwrap();
    stream
}

/// Checks the content of the golden database.
fn check(db: &Database) {
    let names: Vec<String> = db.tables().unwrap().into_iter().map(|t| t.name).collect();
    assert_eq!(names, ["empty", "people"]);
    let people = db.table("people").unwrap();
    let txn = db.begin().unwrap();
    for i in 0..300 {
        let expected = (!(200..250).contains(&i)).then(|| value(i, u32::from((50..100).contains(&i))));
        assert_eq!(txn.get(&people, key(i)).unwrap().as_deref(), expected.as_deref(), "{i}");
    }
    assert_eq!(txn.scan(&people).unwrap().count(), 250);
    assert_eq!(txn.scan(&db.table("empty").unwrap()).unwrap().count(), 0);
    let monday = db.view(CheckpointRef::Named("monday")).unwrap();
    for i in 0..300 {
        assert_eq!(monday.get("people", key(i)).unwrap().as_deref(), Some(&value(i, 0)[..]), "{i}");
    }
}

fn read(vfs: &Arc<dyn Vfs>, path: &Path) -> Vec<u8> {
    let file = vfs.open(path, OpenOptions::read()).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The golden files, in memory.
fn load() -> (Arc<dyn Vfs>, Vec<u8>) {
    let vfs: Arc<dyn Vfs> = Arc::new(MemVfs::new());
    for dir in ["home", "copy"] {
        vfs.create_dir(&Path::new("/").join(dir)).unwrap();
        for entry in std::fs::read_dir(golden().join(dir)).unwrap() {
            let entry = entry.unwrap();
            let file = vfs.open(&Path::new("/").join(dir).join(entry.file_name()), OpenOptions::create()).unwrap();
            file.write_all_at(&std::fs::read(entry.path()).unwrap(), 0).unwrap();
        }
    }
    (vfs, std::fs::read(golden().join("backup.stream")).unwrap())
}

fn bless() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemVfs::new());
    let stream = make(&vfs);
    let _ = std::fs::remove_dir_all(golden());
    for dir in ["home", "copy"] {
        std::fs::create_dir_all(golden().join(dir)).unwrap();
        for entry in vfs.read_dir(&Path::new("/").join(dir)).unwrap() {
            let bytes = read(&vfs, &Path::new("/").join(dir).join(&entry.name));
            std::fs::write(golden().join(dir).join(&entry.name), bytes).unwrap();
        }
    }
    std::fs::write(golden().join("backup.stream"), stream).unwrap();
}

#[test]
fn the_golden_files_read_as_ever() {
    if std::env::var_os("STRANDLINE_BLESS").is_some() {
        bless();
    }
    let (vfs, stream) = load();
    insta::assert_snapshot!(describe_home(&vfs, Path::new("/home")).unwrap(), @r#"
    Strandline.catalog: 6144 bytes
    Strandline.lock: 0 bytes
    Strandline.root: 69632 bytes
    table-00000001.sl: 62464 bytes
    root record generation 7 lineage 910a2dec89025cc1
    settings unit 512 contract Pinned
    log off
    highest sequence 2 next table 3 next segment 1
    newest checkpoint 2 name - time 1700000000000 ms bytes 39424 catalog 5120+512 birth 2 sum 63fb2156 level 0 lists 5632+512 birth 2 sum 234ad55c catalog-bytes 6144
    catalog size 6144 available 0 dead 1024
    table empty id 2 file table-00000002.sl config ""
    table people id 1 file table-00000001.sl config ""
      state at 1 root 34304+512 birth 1 sum e5a7f644 level 1 size 34816 dead 0
      state at 2 root 61952+512 birth 2 sum 42b8f211 level 1 size 62464 dead 29184
      space size 62464 available 0
    older checkpoint 1 name monday time 1700000000000 ms bytes 39936 catalog 4096+512 birth 1 sum ac9f6f72 level 0 lists 4608+512 birth 1 sum 495fd90b catalog-bytes 5120
    "#);
    insta::assert_snapshot!(describe_file(&*vfs, Path::new("/copy/Strandline.manifest"), Detail::Summary).unwrap(), @r"
    Strandline.manifest: 4242 bytes
    manifest version 1, full, sealed
    origin 910a2dec89025cc1:2
    backup beeb8da1658eec67, time 1700000000000 ms
    checkpoint 1
    table empty id 2
    table people id 1
    file Strandline.catalog size 6144 pieces 1
    file table-00000001.sl size 62464 pieces 1
    total 68608 bytes in 2 files
    root record generation 5 lineage 910a2dec89025cc1
    settings unit 512 contract Pinned
    log off
    highest sequence 2 next table 3 next segment 1
    newest checkpoint 2 name - time 1700000000000 ms bytes 39424 catalog 5120+512 birth 2 sum 63fb2156 level 0 lists 5632+512 birth 2 sum 234ad55c catalog-bytes 6144
    ");
    let report = backup::verify_copy(&vfs, Path::new("/copy"), VerifyCopyOptions::default(), &mut go_on).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.rows, 250);
    let whole = RestoreOptions::default();
    backup::restore_stream(&vfs, &mut &stream[..], Path::new("/streamed"), &whole, &mut go_on).unwrap();
    assert_eq!(
        Manifest::load(&*vfs, Path::new("/streamed")).unwrap(),
        Manifest::load(&*vfs, Path::new("/copy")).unwrap()
    );
    for dir in ["/home", "/copy", "/streamed"] {
        let read_only = options(&vfs).read_only(true).open(dir).unwrap();
        check(&read_only);
        read_only.close().unwrap();
        let db = options(&vfs).open(dir).unwrap();
        check(&db);
        db.close().unwrap();
    }
}
