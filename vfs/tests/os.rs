//! What the suite of conformance cannot see: that direct access is really used, and that a refusal of it is harmless.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::os::OsVfs;
use strandline_vfs::{File, FileKind, OpenOptions, Vfs, conformance};

fn direct(path: &Path) -> Arc<dyn File> {
    OsVfs.open(path, OpenOptions { direct: true, ..OpenOptions::create() }).unwrap()
}

/// Byte for byte against a plain vector, over lengths and offsets around block boundaries.
#[test]
fn direct_files_need_no_alignment() {
    let dir = tempfile::tempdir().unwrap();
    let file = direct(&dir.path().join("f"));
    let mut model = Vec::new();
    let edges = [0, 1, 511, 512, 4_095, 4_096, 4_097, 8_192, 12_289];
    for (i, (offset, len)) in edges.iter().flat_map(|o| edges.iter().map(move |l| (*o, *l))).enumerate() {
        let patch = vec![i as u8 + 1; len];
        file.write_all_at(&patch, offset as u64).unwrap();
        if len > 0 {
            model.resize(model.len().max(offset + len), 0);
            model[offset..offset + len].copy_from_slice(&patch);
        }
        assert_eq!(file.len().unwrap(), model.len() as u64, "{len} bytes at {offset}");
        let mut got = vec![0; model.len()];
        file.read_exact_at(&mut got, 0).unwrap();
        assert!(got == model, "{len} bytes at {offset}");
        let mut part = vec![0; model.len().saturating_sub(offset).min(len)];
        file.read_exact_at(&mut part, offset as u64).unwrap();
        assert!(part == model[offset..offset + part.len()], "reading {len} bytes at {offset}");
    }
}

/// The suite again on a file system in memory, which on many kernels refuses direct access.
#[cfg(target_os = "linux")]
#[test]
fn a_refusal_of_direct_access_is_harmless() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
    let count = std::cell::Cell::new(0);
    conformance::run_all(|| {
        count.set(count.get() + 1);
        let root: PathBuf = dir.path().join(count.get().to_string());
        OsVfs.create_dir(&root).unwrap();
        (Arc::new(OsVfs), root)
    });
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_listed_as_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    assert_eq!(OsVfs.metadata(&link).unwrap().unwrap().kind, FileKind::Directory);
    assert_eq!(OsVfs.read_dir(dir.path()).unwrap()[0].kind, FileKind::Other);
}

/// Another process must be kept out as well; `flock` is the one tool every Linux has to try it with.
#[cfg(target_os = "linux")]
#[test]
fn a_lock_excludes_other_processes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let lock = OsVfs.lock(&path).unwrap();
    let free = || std::process::Command::new("flock").arg("-n").arg(&path).arg("true").status().map(|s| s.success());
    let Ok(free_while_held) = free() else { return };
    assert!(!free_while_held);
    drop(lock);
    assert!(free().unwrap());
}
