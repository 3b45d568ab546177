//! The file system of the operating system.
//!
//! Reads and writes are positional, so a handle has no cursor to share. What std lacks comes from `rustix`: space reserved
//! by `fallocate`, and the flag that bypasses the page cache.
//!
//! *Direct* files. The kernel wants direct transfers aligned in memory, in the file and in length; callers of this crate
//! need not know. A direct file therefore has two descriptors, one direct and one ordinary. Whole aligned blocks go
//! through the direct one, by way of an aligned bounce buffer when the caller's is not; the ragged head and tail of a
//! write go through the ordinary one. Reading and patching a block ourselves instead would lose bytes when two handles
//! write different parts of one block (V6), and it would round the length of the file up.
//!
//! - **O1** A block is at least a memory page, so a page of the cache never mixes bytes of both descriptors: the kernel
//!   writes a dirty page back before a direct read of it, and drops it after a direct write.
//! - **O2** One call transfers head, middle or tail, never two of them; the short count makes the caller's loop fetch the
//!   rest, and an error never hides bytes that were written before it.
//! - **O3** A file system that refuses direct access, at the opening or at a transfer, is used through its cache.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use crate::{DirEntry, File, FileKind, Lock, Metadata, OpenOptions, Vfs};

#[cfg(any(target_os = "linux", target_os = "android"))]
mod direct;

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsVfs;

impl OsVfs {
    /// The file system of the operating system.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[derive(Debug)]
struct OsFile {
    file: fs::File,
}

/// Dropping it closes the file, which ends the lock even when the explicit unlock fails.
#[derive(Debug)]
struct OsLock {
    file: fs::File,
}

impl Vfs for OsVfs {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        options.check()?;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(options.write)
            .create(options.create)
            .create_new(options.create_new)
            .truncate(false)
            .open(path)?;
        // Some systems open a directory for reading and fail only at the first read.
        if file.metadata()?.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if options.direct
            && let Some(bypass) = direct::open_again(&file, path, options.write)
        {
            return Ok(Arc::new(direct::DirectFile::new(OsFile { file }, bypass)));
        }
        Ok(Arc::new(OsFile { file }))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            entries.push(DirEntry { name: entry.file_name(), kind: kind_of(entry.file_type()?) });
        }
        entries.sort();
        Ok(entries)
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let kind = kind_of(metadata.file_type());
        let len = if kind == FileKind::File { metadata.len() } else { 0 };
        Ok(Some(Metadata { kind, len }))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if !fs::metadata(path)?.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        sync_directory(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(OsLock { file })),
            Err(fs::TryLockError::WouldBlock) => {
                Err(io::Error::new(ErrorKind::WouldBlock, "another handle holds the lock"))
            }
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }

    /// Journalling file systems commit once for all syncs that wait at the same time, so the files are synced from a few
    /// threads at once: for thousands of small files that is several times faster than one after the other.
    fn sync_files(&self, files: &[Arc<dyn File>]) -> Vec<io::Result<()>> {
        if files.len() < 2 {
            return files.iter().map(|file| file.sync_data()).collect();
        }
        let share = files.len().div_ceil(SYNC_THREADS);
        std::thread::scope(|scope| {
            let sync = |part: &[Arc<dyn File>]| part.iter().map(|file| file.sync_data()).collect::<Vec<_>>();
            let work: Vec<_> = files.chunks(share).map(|part| (part.len(), scope.spawn(move || sync(part)))).collect();
            let lost = |n: usize| (0..n).map(|_| Err(io::Error::other("the syncing thread died"))).collect();
            work.into_iter().flat_map(|(n, part)| part.join().unwrap_or_else(|_| lost(n))).collect()
        })
    }
}

/// How many syncs wait at the same time, at most.
const SYNC_THREADS: usize = 16;

fn kind_of(file_type: fs::FileType) -> FileKind {
    if file_type.is_file() {
        FileKind::File
    } else if file_type.is_dir() {
        FileKind::Directory
    } else {
        FileKind::Other
    }
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    match fs::File::open(path)?.sync_all() {
        // Some network and user-space file systems have no such call for directories; there, V4 is the server's affair.
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

/// Windows offers no sync of a directory; NTFS journals its names by itself.
#[cfg(windows)]
fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

impl File for OsFile {
    #[cfg(unix)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buf, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(&self.file, buf, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, buf, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(&self.file, buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.checked_add(len).ok_or(ErrorKind::FileTooLarge)?;
        if len == 0 {
            return self.extend_to(end);
        }
        if reserve(&self.file, offset, len)? {
            return Ok(());
        }
        self.extend_to(end)
    }
}

impl OsFile {
    /// Lengthens the file to `end` when it is shorter. Only for systems that cannot reserve: a writer that extends the
    /// file further between the two calls would be cut off, so the owner of a file extends it from one thread at a time.
    fn extend_to(&self, end: u64) -> io::Result<()> {
        if self.len()? < end { self.file.set_len(end) } else { Ok(()) }
    }
}

/// Reserves space; `false` when this file system cannot.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn reserve(file: &fs::File, offset: u64, len: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::{Errno, retry_on_intr};

    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), offset, len)) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn reserve(_file: &fs::File, _offset: u64, _len: u64) -> io::Result<bool> {
    Ok(false)
}

impl Lock for OsLock {}

impl Drop for OsLock {
    fn drop(&mut self) {
        // A copy of the descriptor in a child process would otherwise keep the lock alive.
        let _ = self.file.unlock();
    }
}
