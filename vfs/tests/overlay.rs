//! The overlay: a file system like any other to whoever uses it, and no change at all to its base.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use strandline_vfs::fault::{Fault, FaultVfs};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::os::OsVfs;
use strandline_vfs::overlay::OverlayVfs;
use strandline_vfs::trace::TraceVfs;
use strandline_vfs::{Call, FileKind, OpenOptions, Vfs, conformance};

/// Names that the cases of the suite use, and some that they do not.
const NAMES: [&str; 12] = ["f", "a", "b", "c", "d", "lock", "one", "two", "from", "to", "empty", "other"];

fn write(vfs: &dyn Vfs, path: &str, content: &[u8]) {
    vfs.open(Path::new(path), OpenOptions::create()).unwrap().write_all_at(content, 0).unwrap();
}

fn read(vfs: &dyn Vfs, path: &Path) -> Vec<u8> {
    let file = vfs.open(path, OpenOptions::read()).unwrap();
    let mut content = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut content, 0).unwrap();
    content
}

/// Every name under `dir`, with the bytes of files.
fn tree(vfs: &dyn Vfs, dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in vfs.read_dir(dir).unwrap() {
        let path = dir.join(&entry.name);
        if entry.kind == FileKind::Directory {
            all.extend(tree(vfs, &path));
            all.insert(path, None);
        } else {
            let content = read(vfs, &path);
            all.insert(path, Some(content));
        }
    }
    all
}

fn populated() -> MemVfs {
    let base = MemVfs::new();
    base.create_dir(Path::new("/place")).unwrap();
    base.create_dir(Path::new("/dir")).unwrap();
    base.create_dir(Path::new("/dir/inner")).unwrap();
    for (i, name) in NAMES.iter().enumerate() {
        write(&base, &format!("/{name}"), &vec![i as u8 + 1; 9_000 * i]);
        write(&base, &format!("/dir/{name}"), &vec![i as u8 + 101; 50_000]);
    }
    write(&base, "/dir/inner/f", b"deep");
    base
}

#[test]
fn an_overlay_keeps_every_promise() {
    conformance::run_all(|| (Arc::new(OverlayVfs::new(Arc::new(MemVfs::new()))), PathBuf::from("/")));
}

#[test]
fn it_keeps_them_beside_the_files_of_its_base() {
    conformance::run_all(|| (Arc::new(OverlayVfs::new(Arc::new(populated()))), PathBuf::from("/place")));
}

/// Every name that a case uses was in the base and is hidden: nothing of it may shine through.
#[test]
fn it_keeps_them_over_what_was_removed() {
    let (base, before) = (populated(), populated());
    conformance::run_all(|| {
        let overlay = OverlayVfs::new(Arc::new(base.clone()));
        for name in NAMES {
            overlay.remove_file(&Path::new("/dir").join(name)).unwrap();
        }
        overlay.remove_file(Path::new("/dir/inner/f")).unwrap();
        overlay.remove_dir(Path::new("/dir/inner")).unwrap();
        (Arc::new(overlay), PathBuf::from("/dir"))
    });
    assert_eq!(tree(&base, Path::new("/")), tree(&before, Path::new("/")), "O1");
}

#[test]
fn it_keeps_them_over_the_operating_system_and_writes_nothing_there() {
    let dir = tempfile::tempdir().unwrap();
    conformance::run_all(|| (Arc::new(OverlayVfs::new(Arc::new(OsVfs))), dir.path().to_path_buf()));
    assert_eq!(OsVfs.read_dir(dir.path()).unwrap(), vec![]);
}

/// Covers: O1.
#[test]
fn only_looking_reaches_the_base() {
    let base = Arc::new(TraceVfs::new(Arc::new(populated()), "/"));
    let overlay = OverlayVfs::new(Arc::clone(&base) as Arc<dyn Vfs>);
    let file = overlay.open(Path::new("/c"), OpenOptions::write()).unwrap();
    file.write_all_at(b"changed", 100).unwrap();
    file.set_len(20_000).unwrap();
    file.allocate(0, 30_000).unwrap();
    file.sync_all().unwrap();
    overlay.rename(Path::new("/dir"), Path::new("/moved")).unwrap();
    assert_eq!(read(&overlay, Path::new("/moved/inner/f")), b"deep");
    overlay.remove_file(Path::new("/moved/f")).unwrap();
    overlay.sync_dir(Path::new("/")).unwrap();
    let _lock = overlay.lock(Path::new("/lock")).unwrap();
    base.lock(Path::new("/lock")).unwrap();

    let looking = [Call::Open, Call::Read, Call::Len, Call::Metadata, Call::ReadDir, Call::Lock, Call::Unlock];
    assert!(base.events().iter().all(|event| looking.contains(&event.call)), "{}", base.text());
    assert_eq!(base.durability_text(), "");
}

/// Covers: O2.
#[test]
fn what_was_cut_does_not_come_back() {
    let base = MemVfs::new();
    write(&base, "/f", &[7; 100_000]);
    let overlay = OverlayVfs::new(Arc::new(base));
    let file = overlay.open(Path::new("/f"), OpenOptions::write()).unwrap();
    file.set_len(40_001).unwrap();
    file.set_len(90_000).unwrap();
    let mut expected = vec![7; 40_001];
    expected.resize(90_000, 0);
    assert!(read(&overlay, Path::new("/f")) == expected);
    file.write_all_at(b"x", 50_000).unwrap();
    expected[50_000] = b'x';
    assert!(read(&overlay, Path::new("/f")) == expected);
    assert_eq!(overlay.used(), 16 * 1024, "one chunk was written");
}

#[test]
fn a_name_that_became_something_else_is_listed_as_what_it_is() {
    let overlay = OverlayVfs::new(Arc::new(populated()));
    overlay.remove_file(Path::new("/dir/inner/f")).unwrap();
    overlay.remove_dir(Path::new("/dir/inner")).unwrap();
    overlay.rename(Path::new("/dir/f"), Path::new("/dir/inner")).unwrap();
    let listed = overlay.read_dir(Path::new("/dir")).unwrap();
    let inner = listed.iter().find(|e| e.name == "inner").unwrap();
    assert_eq!(inner.kind, FileKind::File);
    assert!(listed.iter().all(|e| e.name != "f"));
    assert_eq!(read(&overlay, Path::new("/dir/inner")), vec![101; 50_000]);
}

/// A failed copy of a chunk must not become a chunk of zeros.
#[test]
fn errors_of_the_base_arrive_and_pass() {
    let base = FaultVfs::new(Arc::new(populated()));
    let overlay = OverlayVfs::new(Arc::new(base.clone()));
    let file = overlay.open(Path::new("/dir/f"), OpenOptions::write()).unwrap();
    base.inject(Fault::on(Call::Read).times(2).error(ErrorKind::TimedOut));
    assert_eq!(file.read_at(&mut [0; 10], 0).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(file.write_at(b"xx", 20_000).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(read(&overlay, Path::new("/dir/f")) == vec![101; 50_000]);
    base.inject(Fault::on(Call::Metadata).error(ErrorKind::TimedOut));
    assert_eq!(overlay.metadata(Path::new("/a")).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(overlay.metadata(Path::new("/a")).unwrap().unwrap().len, 9_000);
}

#[derive(Clone, Debug)]
enum Step {
    Write { name: u8, offset: u64, len: u16, byte: u8 },
    SetLen { name: u8, len: u64 },
    Remove { name: u8 },
    Rename { from: u8, to: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let (name, offset) = (0..6_u8, prop_oneof![0..60_000_u64, Just(16_384), Just(49_999)]);
    prop_oneof![
        4 => (name.clone(), offset.clone(), 0..20_000_u16, 1..=255_u8)
            .prop_map(|(name, offset, len, byte)| Step::Write { name, offset, len, byte }),
        2 => (name.clone(), offset).prop_map(|(name, len)| Step::SetLen { name, len }),
        1 => name.clone().prop_map(|name| Step::Remove { name }),
        1 => (name.clone(), name).prop_map(|(from, to)| Step::Rename { from, to }),
    ]
}

/// Applies a step; the outcome is compared, so errors must agree too.
fn apply(vfs: &dyn Vfs, step: &Step) -> Result<(), ErrorKind> {
    let path = |name: &u8| PathBuf::from(format!("/dir/{}", NAMES[*name as usize]));
    let done = match step {
        Step::Write { name, offset, len, byte } => vfs
            .open(&path(name), OpenOptions::create())
            .and_then(|f| f.write_all_at(&vec![*byte; usize::from(*len)], *offset)),
        Step::SetLen { name, len } => vfs.open(&path(name), OpenOptions::write()).and_then(|f| f.set_len(*len)),
        Step::Remove { name } => vfs.remove_file(&path(name)),
        Step::Rename { from, to } => vfs.rename(&path(from), &path(to)),
    };
    done.map_err(|e| e.kind())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// An overlay over a base is what a copy of the base would have become; the base is what it was.
    #[test]
    fn an_overlay_is_a_copy_that_costs_nothing(steps in prop::collection::vec(step(), 1..40)) {
        let (base, copy) = (populated(), populated());
        let overlay = OverlayVfs::new(Arc::new(base.clone()));
        for step in &steps {
            prop_assert_eq!(apply(&overlay, step), apply(&copy, step), "{:?}", step);
        }
        prop_assert!(tree(&overlay, Path::new("/")) == tree(&copy, Path::new("/")));
        prop_assert!(tree(&base, Path::new("/")) == tree(&populated(), Path::new("/")));
    }
}
