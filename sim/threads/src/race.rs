//! The file system as a place where threads meet: before and after each call another one may be chosen to run.
//!
//! Two disks, as in all simulation: `/src` with the database, `/dst` with its copies. Locks of the disks themselves are plain
//! ones, held within a call and never across a point where another thread may run.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shuttle::sync::atomic::AtomicBool;
use strandline_sim::disk::SimDisk;
use strandline_vfs::{DirEntry, File, Lock, Metadata, OpenOptions, Vfs};

/// Where the database is.
pub const HOME: &str = "/src/db";
/// Where its copies are.
pub const COPIES: &str = "/dst";

/// A point at which another thread may be chosen to run.
#[derive(Clone, Debug)]
struct Point(Arc<AtomicBool>);

impl Point {
    fn around<T>(&self, call: impl FnOnce() -> T) -> T {
        self.0.load(Ordering::SeqCst);
        let answer = call();
        self.0.load(Ordering::SeqCst);
        answer
    }
}

/// Both disks, with a point before and after each call.
#[derive(Debug)]
pub struct RacingVfs {
    src: SimDisk,
    dst: SimDisk,
    point: Point,
}

impl RacingVfs {
    /// Must be made, used and dropped within one execution.
    #[must_use]
    pub fn new(src: SimDisk, dst: SimDisk) -> Self {
        Self { src, dst, point: Point(Arc::new(AtomicBool::new(false))) }
    }

    fn find(&self, path: &Path) -> io::Result<(&SimDisk, PathBuf)> {
        let (disk, rest) = match (path.strip_prefix("/src"), path.strip_prefix(COPIES)) {
            (Ok(rest), _) => (&self.src, rest),
            (_, Ok(rest)) => (&self.dst, rest),
            _ => return Err(io::Error::new(ErrorKind::NotFound, "no such disk")),
        };
        Ok((disk, Path::new("/").join(rest)))
    }

    fn on<T>(&self, path: &Path, call: impl FnOnce(&SimDisk, &Path) -> io::Result<T>) -> io::Result<T> {
        let (disk, path) = self.find(path)?;
        self.point.around(|| call(disk, &path))
    }
}

impl Vfs for RacingVfs {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        let file = self.on(path, |disk, path| disk.open(path, options))?;
        Ok(Arc::new(RacingFile { file, point: self.point.clone() }))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.on(path, |disk, path| disk.remove_file(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((here, from), (there, to)) = (self.find(from)?, self.find(to)?);
        if !std::ptr::eq(here, there) {
            return Err(ErrorKind::CrossesDevices.into());
        }
        self.point.around(|| here.rename(&from, &to))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.on(path, |disk, path| disk.create_dir(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.on(path, |disk, path| disk.remove_dir(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.on(path, |disk, path| disk.read_dir(path))
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        self.on(path, |disk, path| disk.metadata(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.on(path, |disk, path| disk.sync_dir(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.on(path, |disk, path| disk.lock(path))
    }
}

#[derive(Debug)]
struct RacingFile {
    file: Arc<dyn File>,
    point: Point,
}

impl File for RacingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.point.around(|| self.file.read_at(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.point.around(|| self.file.write_at(buf, offset))
    }

    fn len(&self) -> io::Result<u64> {
        self.point.around(|| self.file.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.point.around(|| self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.point.around(|| self.file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.point.around(|| self.file.sync_all())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.point.around(|| self.file.allocate(offset, len))
    }
}
