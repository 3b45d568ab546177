//! The file-system contract of a storage engine, and nothing else.
//!
//! An engine that touches files only through [`Vfs`] and [`File`] can run on the operating system, in plain memory, or on
//! a simulated disk that crashes. What it may assume is numbered here once; everything else it must make true itself.
//!
//! - **V1** A write is seen by every later read of the file, through whichever handle.
//! - **V2** A write is durable only after a successful [`File::sync_data`] or [`File::sync_all`] of that file. Until
//!   then any subset of its sectors may survive a crash, in any order.
//! - **V3** The same holds for the length of a file, independently of its data.
//! - **V4** Creating, renaming and removing a name is durable only after [`Vfs::sync_dir`] of the directory that holds
//!   it.
//! - **V5** After a failed sync the unsynced bytes are unknown for ever; a later success proves nothing about them.
//! - **V6** Bytes outside a write do not change.
//! - **V7** A read may fail, or return wrong bytes.
//!
//! There is no clock, no thread and no source of randomness here: a fake disk must not have to fake the world.
//!
//! # What is here
//!
//! | | |
//! | --- | --- |
//! | [`os`] | the operating system, with direct access where asked for |
//! | [`mem`] | plain memory, for unit tests; it knows no crash |
//! | [`overlay`] | a wrapper that shows another file system and keeps every change of it in memory |
//! | [`trace`] | a wrapper that records calls, to test the order of writes and syncs, or counts what they cost |
//! | [`fault`] | a wrapper that makes chosen calls fail, keeps transfers short, or fills the device |
//! | [`conformance`] | the suite that every implementation passes, yours included |
//!
//! A disk that loses, tears and reorders what was not synced is the crate `strandline-sim`.
//!
//! # How to use it
//!
//! Write storage code against `dyn Vfs`; production hands it [`os::OsVfs`], tests whatever they want to see:
//!
//! ```
//! use std::{io, path::Path, sync::Arc};
//! use strandline_vfs::{OpenOptions, Vfs, fault, mem::MemVfs, trace::TraceVfs};
//!
//! /// Replaces a file so that a crash leaves the old content or the new, never a mixture and never nothing.
//! fn replace(vfs: &dyn Vfs, dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
//!     let draft = dir.join(format!("{name}.draft"));
//!     let file = vfs.open(&draft, OpenOptions::create())?;
//!     file.set_len(0)?;
//!     file.write_all_at(content, 0)?;
//!     file.sync_all()?; // V2, V3: before the name points to it
//!     vfs.rename(&draft, &dir.join(name))?;
//!     vfs.sync_dir(dir) // V4
//! }
//!
//! let dir = Path::new("/");
//! let faulty = fault::FaultVfs::new(Arc::new(MemVfs::new()));
//! let vfs = TraceVfs::new(Arc::new(faulty.clone()), dir);
//! replace(&vfs, dir, "config", b"one")?;
//! let order: Vec<_> = vfs.events().iter().map(|event| event.call.name()).collect();
//! assert_eq!(order, ["create", "set_len", "write", "sync_all", "rename", "sync_dir"]);
//!
//! faulty.limit_space(Some(2)); // a full device must not cost the old content
//! assert_eq!(replace(&vfs, dir, "config", b"three").unwrap_err().kind(), io::ErrorKind::StorageFull);
//! let mut content = [0; 3];
//! vfs.open(&dir.join("config"), OpenOptions::read())?.read_exact_at(&mut content, 0)?;
//! assert_eq!(&content, b"one");
//! # Ok::<(), io::Error>(())
//! ```

mod call;
pub mod conformance;
pub mod fault;
pub mod mem;
pub mod os;
pub mod overlay;
pub mod trace;

pub use call::Call;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: a symbolic link, a device, a socket.
    Other,
}

/// What [`Vfs::metadata`] tells of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What the name stands for.
    pub kind: FileKind,
    /// Length in bytes; 0 for directories.
    pub len: u64,
}

/// One name in a directory, from [`Vfs::read_dir`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name, without its directory.
    pub name: OsString,
    /// What the name stands for.
    pub kind: FileKind,
}

/// How [`Vfs::open`] opens a file. Reading is always possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// The handle may write.
    pub write: bool,
    /// A missing file is created (needs `write`).
    pub create: bool,
    /// The file must not exist and is created (needs `write`); fails with `AlreadyExists` otherwise.
    pub create_new: bool,
    /// Bypass the system's page cache where that is possible. Buffers, offsets and lengths given by the caller need no
    /// alignment: the implementation copies through aligned buffers.
    pub direct: bool,
}

impl OpenOptions {
    /// Read only; the file must exist.
    #[must_use]
    pub const fn read() -> Self {
        Self { write: false, create: false, create_new: false, direct: false }
    }

    /// Read and write; the file must exist.
    #[must_use]
    pub const fn write() -> Self {
        Self { write: true, create: false, create_new: false, direct: false }
    }

    /// Read and write; a missing file is created.
    #[must_use]
    pub const fn create() -> Self {
        Self { write: true, create: true, create_new: false, direct: false }
    }

    /// Read and write; the file must be new.
    #[must_use]
    pub const fn create_new() -> Self {
        Self { write: true, create: false, create_new: true, direct: false }
    }

    /// Refuses combinations that make no sense; every [`Vfs::open`] calls it first.
    ///
    /// # Errors
    /// `InvalidInput` when a file shall be created but not written.
    pub fn check(&self) -> io::Result<()> {
        if (self.create || self.create_new) && !self.write {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "creating a file needs the right to write"));
        }
        Ok(())
    }
}

/// One open file. All access is positional; a handle has no cursor, so threads may share it.
pub trait File: Send + Sync + fmt::Debug {
    /// Reads up to `buf.len()` bytes at `offset`; returns how many, 0 at the end of the file. May be short.
    ///
    /// # Errors
    /// Whatever the system reports; `Interrupted` is to be retried.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes up to `buf.len()` bytes at `offset`, extending the file when it reaches past the end; returns how many.
    /// May be short. A gap between the old end and `offset` reads as zeros.
    ///
    /// # Errors
    /// Whatever the system reports (`StorageFull` for a full device); after an error, which of the bytes were written is
    /// unknown.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// The length of the file in bytes.
    ///
    /// # Errors
    /// Whatever the system reports.
    fn len(&self) -> io::Result<u64>;

    /// True when the file holds no bytes.
    ///
    /// # Errors
    /// As [`File::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends the file to `len` bytes; an extension reads as zeros.
    ///
    /// # Errors
    /// Whatever the system reports.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes all earlier writes to this file durable, and the length as far as reading them back needs it (V2, V3).
    ///
    /// # Errors
    /// Whatever the system reports; see V5 for what an error means.
    fn sync_data(&self) -> io::Result<()>;

    /// Like [`File::sync_data`], and the length and other attributes too, a shrunken length included.
    ///
    /// # Errors
    /// As [`File::sync_data`].
    fn sync_all(&self) -> io::Result<()>;

    /// Reserves space for `len` bytes from `offset` and extends the length to cover them; they read as zeros where
    /// nothing was written. A system that cannot reserve extends the length only.
    ///
    /// # Errors
    /// `StorageFull` when the space is not there; whatever else the system reports.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Reads exactly `buf.len()` bytes at `offset`, through short reads and interruptions.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends first; else as [`File::read_at`].
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends inside the read")),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes all of `buf` at `offset`, through short writes and interruptions.
    ///
    /// # Errors
    /// `WriteZero` when a write makes no progress; else as [`File::write_at`].
    fn write_all_at(&self, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.write_at(buf, offset) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::WriteZero, "the write made no progress")),
                Ok(n) => {
                    buf = &buf[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// An advisory lock on a file, held until it is dropped or the process dies.
pub trait Lock: Send + Sync + fmt::Debug {}

/// A file system. Paths are used as they are given; nothing is resolved or created on the way.
pub trait Vfs: Send + Sync + fmt::Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, `InvalidInput` for options that make no sense, whatever else the system reports.
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>>;

    /// Removes the name of a file (V4). Handles that are open keep working.
    ///
    /// # Errors
    /// `NotFound`; whatever else the system reports.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Gives the file or directory `from` the name `to`, replacing a file there (V4).
    ///
    /// # Errors
    /// `NotFound`; whatever else the system reports.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes one directory (V4); its parent must exist.
    ///
    /// # Errors
    /// `AlreadyExists`, `NotFound`; whatever else the system reports.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes one empty directory (V4).
    ///
    /// # Errors
    /// `NotFound`, `DirectoryNotEmpty`; whatever else the system reports.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`; whatever else the system reports.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// What `path` names, or `None` when it names nothing. Symbolic links are followed.
    ///
    /// # Errors
    /// Whatever the system reports, except that the name is missing.
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>>;

    /// Makes all earlier changes of names in this directory durable (V4).
    ///
    /// # Errors
    /// Whatever the system reports.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes the exclusive advisory lock on the file `path`, creating it if it is missing.
    ///
    /// # Errors
    /// `WouldBlock` when another handle, of this process or another, holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;

    /// Syncs several files as [`File::sync_data`] syncs each; the results in the order of the files. A system that makes
    /// syncs of different files cheaper when they come together (one commit of a journal for many) does that here.
    fn sync_files(&self, files: &[Arc<dyn File>]) -> Vec<io::Result<()>> {
        files.iter().map(|file| file.sync_data()).collect()
    }
}
