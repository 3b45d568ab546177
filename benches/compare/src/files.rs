//! Files as the system sees them: sizes, copies, bytes written.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Bytes of disk that the files of a directory and those below it take up.
pub fn allocated(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += match about.is_dir() {
            true => allocated(&entry.path())?,
            false => about.blocks() * 512,
        };
    }
    Ok(bytes)
}

/// Bytes of the files of a directory.
pub fn size(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

/// The kind of the file system that a directory is on, and its device.
pub fn file_system(dir: &Path) -> Result<(String, String)> {
    let dir = dir.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut found: Option<(&Path, String, String)> = None;
    for line in mounts.lines() {
        let Some((place, kind)) = line.split_once(" - ") else { continue };
        let Some(at) = place.split(' ').nth(4).map(Path::new) else { continue };
        let mut kind = kind.split(' ').map(str::to_owned);
        let longer = found.as_ref().is_none_or(|(best, ..)| at.components().count() >= best.components().count());
        if let (true, true, Some(kind), Some(device)) = (dir.starts_with(at), longer, kind.next(), kind.next()) {
            found = Some((at, kind, device));
        }
    }
    found.map(|(_, kind, device)| (kind, device)).context("no mount holds the directory")
}

/// Copies a directory and syncs every file of the copy: what `cp -r` and
/// `sync` do.
pub fn copy_and_sync(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_and_sync(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    sync_tree(to)
}

/// Syncs every file below a directory, and the directories.
pub fn sync_tree(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync_tree(&entry.path())?,
            false => File::open(entry.path())?.sync_all()?,
        }
    }
    Ok(File::open(dir)?.sync_all()?)
}

/// Bytes this process has handed to the system in write calls so far.
pub fn bytes_written() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    let figure = line.context("/proc/self/io has no line wchar")?;
    Ok(figure.trim().parse()?)
}
