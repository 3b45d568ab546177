//! Several disks behind one file system: the first name of a path chooses.
//!
//! The source of a backup, its copies and what is restored from them lose their power separately, so each stands on a disk of
//! its own, with its own events. The engine sees one tree.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::{DirEntry, File, FileKind, Lock, Metadata, OpenOptions, Vfs};

use super::meanwhile::{Moments, Watched};
use crate::disk::SimDisk;

/// Disks by the first name of a path.
#[derive(Debug, Clone)]
pub struct Fleet {
    disks: Vec<(String, SimDisk)>,
    moments: Moments,
}

impl Fleet {
    /// A file system whose root directory holds one directory for each disk.
    #[must_use]
    pub fn new(disks: &[(&str, SimDisk)]) -> Self {
        let disks = disks.iter().map(|(name, disk)| ((*name).to_owned(), disk.clone())).collect();
        Self { disks, moments: Moments::default() }
    }

    /// Where jobs wait for a moment in the middle of a checkpoint.
    #[must_use]
    pub fn moments(&self) -> Moments {
        self.moments.clone()
    }

    fn find(&self, path: &Path) -> io::Result<(&SimDisk, PathBuf)> {
        let path = path.strip_prefix("/").unwrap_or(path);
        let mut parts = path.components();
        let first = parts.next().map(|c| c.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
        let found = self.disks.iter().find(|(name, _)| *name == first);
        let (_, disk) = found.ok_or_else(|| io::Error::new(ErrorKind::NotFound, "no such disk"))?;
        Ok((disk, Path::new("/").join(parts.as_path())))
    }
}

impl Vfs for Fleet {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        let (disk, path) = self.find(path)?;
        Ok(Watched::wrap(disk.open(&path, options)?, &path, &self.moments))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (disk, path) = self.find(path)?;
        disk.remove_file(&path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (here, from) = self.find(from)?;
        let (there, to) = self.find(to)?;
        if !std::ptr::eq(here, there) {
            return Err(ErrorKind::CrossesDevices.into());
        }
        here.rename(&from, &to)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (disk, path) = self.find(path)?;
        disk.create_dir(&path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let (disk, path) = self.find(path)?;
        disk.remove_dir(&path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        if path == Path::new("/") {
            let entry = |name: &String| DirEntry { name: name.into(), kind: FileKind::Directory };
            return Ok(self.disks.iter().map(|(name, _)| entry(name)).collect());
        }
        let (disk, path) = self.find(path)?;
        disk.read_dir(&path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        if path == Path::new("/") {
            return Ok(Some(Metadata { kind: FileKind::Directory, len: 0 }));
        }
        let (disk, path) = self.find(path)?;
        disk.metadata(&path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if path == Path::new("/") {
            return Ok(());
        }
        let (disk, path) = self.find(path)?;
        disk.sync_dir(&path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let (disk, path) = self.find(path)?;
        disk.lock(&path)
    }
}
