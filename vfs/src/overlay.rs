//! A file system that shows another one and keeps every change of it in memory.
//!
//! A database that was not closed must be recovered before it can be read, and recovery writes. Where nothing may be
//! written - a read-only open, a look at evidence, a rehearsal - the writing must happen somewhere else: an
//! [`OverlayVfs`] reads through to its base and keeps what was written, created, renamed, cut and removed to itself. When
//! its last clone and handle go, all that was changed is forgotten.
//!
//! # How
//!
//! Names form a tree of directories, as in [`crate::mem`], but a directory may have a place in the base. A name is looked
//! up here first, and in the base when nothing here speaks of it; a name removed here leaves a *gap* that hides the base's.
//! A file is an inode with a place in the base or without one, and a map of fixed chunks that were written. A chunk
//! changes by being copied whole from the base first.
//!
//! - **O1** The base is only ever asked for names, lengths and bytes, through handles that cannot write; no call that
//!   could change it, or lock it, or make it durable, reaches it.
//! - **O2** A byte is, in this order: that of a chunk that is here; the base's, when its offset is below the part of the
//!   base that still shows; zero. A cut lowers that part for ever, so what was cut never comes back.
//! - **O3** One name is one inode for all its handles, from the first open on, so that a write through one is seen
//!   through all (V1). A handle holds the inode, never the name.
//! - **O4** Locks and syncs are the overlay's own affair: locks exclude only others of this overlay, syncs have nothing
//!   to do.
//!
//! The base must stand still meanwhile: whoever lays an overlay over files that others may write takes their lock, in the
//! base, first. Paths are resolved lexically, and a relative path is not known to mean the same as an absolute one.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{DirEntry, File, FileKind, Lock, Metadata, OpenOptions, Vfs};

/// Bytes per chunk of a file: what a write of one byte copies from the base.
const CHUNK: u64 = 16 * 1024;
/// Files end here, as they do on systems whose offsets are signed.
const MAX_LEN: u64 = i64::MAX as u64;

/// Shows a base and keeps all changes in memory. Clones share the changes.
///
/// ```
/// use std::{io, path::Path, sync::Arc};
/// use strandline_vfs::{OpenOptions, Vfs, mem::MemVfs, overlay::OverlayVfs};
///
/// let (base, file) = (MemVfs::new(), Path::new("/f"));
/// base.open(file, OpenOptions::create())?.write_all_at(b"one", 0)?;
///
/// let overlay = OverlayVfs::new(Arc::new(base.clone()));
/// overlay.open(file, OpenOptions::write())?.write_all_at(b"T", 0)?;
/// let mut content = [0; 3];
/// overlay.open(file, OpenOptions::read())?.read_exact_at(&mut content, 0)?;
/// assert_eq!(&content, b"Tne");
/// base.open(file, OpenOptions::read())?.read_exact_at(&mut content, 0)?;
/// assert_eq!(&content, b"one");
/// # Ok::<(), io::Error>(())
/// ```
#[derive(Clone)]
pub struct OverlayVfs {
    base: Arc<dyn Vfs>,
    /// By what a path begins with: a root, or nothing for relative paths.
    roots: Arc<Mutex<BTreeMap<PathBuf, Dir>>>,
}

/// What is known here of a directory: where its other names are found, and what speaks before them.
#[derive(Default)]
struct Dir {
    base: Option<PathBuf>,
    names: BTreeMap<OsString, Entry>,
}

enum Entry {
    File(Arc<Inode>),
    Dir(Dir),
    /// Hides the base's name.
    Gap,
}

struct Inode {
    kind: FileKind,
    base: Option<Base>,
    bytes: RwLock<Bytes>,
    locked: AtomicBool,
}

/// A file of the base, opened at the first need.
struct Base {
    path: PathBuf,
    file: OnceLock<Arc<dyn File>>,
}

struct Bytes {
    len: u64,
    /// Bytes of the base that show through (O2).
    shown: u64,
    chunks: BTreeMap<u64, Box<[u8]>>,
}

struct OverlayFile {
    inode: Arc<Inode>,
    write: bool,
}

struct OverlayLock {
    inode: Arc<Inode>,
}

impl OverlayVfs {
    /// Lays an overlay without any change over `base`.
    #[must_use]
    pub fn new(base: Arc<dyn Vfs>) -> Self {
        Self { base, roots: Arc::default() }
    }

    /// Memory taken by what was changed in files that still have a name, in bytes.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.roots().values().map(Dir::used).sum()
    }

    fn roots(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Dir>> {
        // A panic elsewhere cannot leave the tree half changed: every change is one map operation.
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `act` with the directory that holds `path`, and the name in it; `for_root` is the error for a root itself.
    fn in_parent<T>(
        &self,
        path: &Path,
        for_root: ErrorKind,
        act: impl FnOnce(&mut Dir, &OsStr) -> io::Result<T>,
    ) -> io::Result<T> {
        let place = Place::of(path);
        let Some((name, above)) = place.steps.split_last() else { return Err(for_root.into()) };
        act(place.root(&mut self.roots()).descend(above, &*self.base)?, name)
    }

    fn in_dir<T>(&self, path: &Path, act: impl FnOnce(&mut Dir) -> io::Result<T>) -> io::Result<T> {
        let place = Place::of(path);
        act(place.root(&mut self.roots()).descend(&place.steps, &*self.base)?)
    }
}

impl Vfs for OverlayVfs {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        options.check()?;
        self.in_parent(path, ErrorKind::IsADirectory, |dir, name| {
            let inode = match dir.find(name, &*self.base)? {
                Some(Entry::Dir(_)) if !options.create_new => return Err(ErrorKind::IsADirectory.into()),
                Some(_) if options.create_new => return Err(ErrorKind::AlreadyExists.into()),
                Some(Entry::File(inode)) => Arc::clone(inode),
                _ if options.create || options.create_new => dir.create(name),
                _ => return Err(ErrorKind::NotFound.into()),
            };
            inode.attach(&*self.base, options.direct)?;
            Ok(Arc::new(OverlayFile { inode, write: options.write }) as Arc<dyn File>)
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.in_parent(path, ErrorKind::IsADirectory, |dir, name| match dir.find(name, &*self.base)? {
            None => Err(ErrorKind::NotFound.into()),
            Some(Entry::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            Some(_) => {
                dir.take(name);
                Ok(())
            }
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (source, target) = (Place::of(from), Place::of(to));
        let source_is_dir = self.in_parent(from, ErrorKind::InvalidInput, |dir, name| {
            Ok(matches!(dir.find(name, &*self.base)?.ok_or(ErrorKind::NotFound)?, Entry::Dir(_)))
        })?;
        if source == target {
            return Ok(());
        }
        if source.origin == target.origin && target.steps.starts_with(&source.steps) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "a directory cannot move into itself"));
        }
        // Everything that can fail is looked at before the first change.
        self.in_parent(to, ErrorKind::InvalidInput, |dir, name| match (source_is_dir, dir.find(name, &*self.base)?) {
            (false, Some(Entry::Dir(_))) => Err(ErrorKind::IsADirectory.into()),
            (true, Some(Entry::File(_))) => Err(ErrorKind::NotADirectory.into()),
            (true, Some(Entry::Dir(d))) if !d.list(&*self.base)?.is_empty() => Err(ErrorKind::DirectoryNotEmpty.into()),
            _ => Ok(()),
        })?;
        let entry = self.in_parent(from, ErrorKind::InvalidInput, |dir, name| Ok(dir.take(name)))?;
        let entry = entry.ok_or(ErrorKind::NotFound)?;
        self.in_parent(to, ErrorKind::InvalidInput, |dir, name| {
            dir.names.insert(name.to_os_string(), entry);
            Ok(())
        })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.in_parent(path, ErrorKind::AlreadyExists, |dir, name| {
            if dir.find(name, &*self.base)?.is_some() {
                return Err(ErrorKind::AlreadyExists.into());
            }
            dir.names.insert(name.to_os_string(), Entry::Dir(Dir::default()));
            Ok(())
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.in_parent(path, ErrorKind::ResourceBusy, |dir, name| match dir.find(name, &*self.base)? {
            Some(Entry::File(_)) => Err(ErrorKind::NotADirectory.into()),
            Some(Entry::Dir(d)) if !d.list(&*self.base)?.is_empty() => Err(ErrorKind::DirectoryNotEmpty.into()),
            Some(Entry::Dir(_)) => {
                dir.take(name);
                Ok(())
            }
            _ => Err(ErrorKind::NotFound.into()),
        })
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.in_dir(path, |dir| dir.list(&*self.base))
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        if Place::of(path).steps.is_empty() {
            return self.base.metadata(path);
        }
        let found = self.in_parent(path, ErrorKind::InvalidInput, |dir, name| {
            Ok(dir.find(name, &*self.base)?.map(|entry| Metadata { kind: entry.kind(), len: entry.len() }))
        });
        match found {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            other => other,
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.in_dir(path, |_| Ok(()))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let inode =
            self.in_parent(path, ErrorKind::IsADirectory, |dir, name| match dir.find(name, &*self.base)? {
                Some(Entry::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
                Some(Entry::File(inode)) => Ok(Arc::clone(inode)),
                _ => Ok(dir.create(name)),
            })?;
        if inode.locked.swap(true, Ordering::AcqRel) {
            return Err(io::Error::new(ErrorKind::WouldBlock, "another handle holds the lock"));
        }
        Ok(Box::new(OverlayLock { inode }))
    }
}

/// A path, resolved lexically: what it begins with, and the names from there.
#[derive(PartialEq)]
struct Place<'a> {
    origin: PathBuf,
    steps: Vec<&'a OsStr>,
}

impl<'a> Place<'a> {
    fn of(path: &'a Path) -> Self {
        let mut place = Self { origin: PathBuf::new(), steps: Vec::new() };
        for component in path.components() {
            match component {
                Component::Normal(name) => place.steps.push(name),
                Component::ParentDir => drop(place.steps.pop()),
                Component::Prefix(_) | Component::RootDir => place.origin.push(component),
                Component::CurDir => {}
            }
        }
        place
    }

    fn root<'r>(&self, roots: &'r mut BTreeMap<PathBuf, Dir>) -> &'r mut Dir {
        let base = if self.origin.as_os_str().is_empty() { Path::new(".") } else { &self.origin };
        let new = || Dir { base: Some(base.to_path_buf()), names: BTreeMap::new() };
        roots.entry(self.origin.clone()).or_insert_with(new)
    }
}

impl Dir {
    /// What `name` is here, or in the base; what the base knows is kept, so that all handles meet (O3).
    fn find(&mut self, name: &OsStr, base: &dyn Vfs) -> io::Result<Option<&mut Entry>> {
        if let (None, Some(dir)) = (self.names.get(name), &self.base) {
            let path = dir.join(name);
            let Some(metadata) = base.metadata(&path)? else { return Ok(None) };
            let entry = match metadata.kind {
                FileKind::Directory => Entry::Dir(Self { base: Some(path), names: BTreeMap::new() }),
                kind => Entry::File(Arc::new(Inode::over(path, Metadata { kind, ..metadata }))),
            };
            self.names.insert(name.to_os_string(), entry);
        }
        Ok(self.names.get_mut(name).filter(|entry| !matches!(entry, Entry::Gap)))
    }

    fn descend(&mut self, steps: &[&OsStr], base: &dyn Vfs) -> io::Result<&mut Self> {
        let mut dir = self;
        for step in steps {
            dir = match dir.find(step, base)? {
                Some(Entry::Dir(d)) => d,
                Some(_) => return Err(ErrorKind::NotADirectory.into()),
                None => return Err(ErrorKind::NotFound.into()),
            };
        }
        Ok(dir)
    }

    fn list(&self, base: &dyn Vfs) -> io::Result<Vec<DirEntry>> {
        let mut all = BTreeSet::new();
        if let Some(dir) = &self.base {
            // Names of which nothing changed keep the kind the base lists them with: a link is listed as a link.
            let untouched = |name: &OsString| self.names.get(name).is_none_or(|e| e.shows(&dir.join(name)));
            all.extend(base.read_dir(dir)?.into_iter().filter(|entry| untouched(&entry.name)));
        }
        let listed: BTreeSet<OsString> = all.iter().map(|entry| entry.name.clone()).collect();
        let here = self.names.iter().filter(|(name, entry)| !matches!(entry, Entry::Gap) && !listed.contains(*name));
        all.extend(here.map(|(name, entry)| DirEntry { name: name.clone(), kind: entry.kind() }));
        Ok(all.into_iter().collect())
    }

    fn create(&mut self, name: &OsStr) -> Arc<Inode> {
        let inode = Arc::new(Inode::new());
        self.names.insert(name.to_os_string(), Entry::File(Arc::clone(&inode)));
        inode
    }

    /// Takes `name` out, and hides what the base may have under it.
    fn take(&mut self, name: &OsStr) -> Option<Entry> {
        match self.base {
            Some(_) => self.names.insert(name.to_os_string(), Entry::Gap),
            None => self.names.remove(name),
        }
    }

    fn used(&self) -> u64 {
        let of = |entry: &Entry| match entry {
            Entry::File(inode) => inode.read().chunks.len() as u64 * CHUNK,
            Entry::Dir(dir) => dir.used(),
            Entry::Gap => 0,
        };
        self.names.values().map(of).sum()
    }
}

impl Entry {
    fn kind(&self) -> FileKind {
        match self {
            Self::File(inode) => inode.kind,
            Self::Dir(_) | Self::Gap => FileKind::Directory,
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::File(inode) => inode.read().len,
            Self::Dir(_) | Self::Gap => 0,
        }
    }

    /// True when this is what the base has at `path`.
    fn shows(&self, path: &Path) -> bool {
        match self {
            Self::File(inode) => inode.base.as_ref().is_some_and(|base| base.path == path),
            Self::Dir(dir) => dir.base.as_deref() == Some(path),
            Self::Gap => false,
        }
    }
}

impl Inode {
    fn new() -> Self {
        Self::with(FileKind::File, None, 0)
    }

    fn over(path: PathBuf, metadata: Metadata) -> Self {
        Self::with(metadata.kind, Some(Base { path, file: OnceLock::new() }), metadata.len)
    }

    fn with(kind: FileKind, base: Option<Base>, len: u64) -> Self {
        let bytes = Bytes { len, shown: len, chunks: BTreeMap::new() };
        Self { kind, base, bytes: RwLock::new(bytes), locked: AtomicBool::new(false) }
    }

    /// Opens the file of the base, if there is one and it was not opened before (O1: for reading).
    fn attach(&self, vfs: &dyn Vfs, direct: bool) -> io::Result<()> {
        if let Some(base) = self.base.as_ref().filter(|base| base.file.get().is_none()) {
            let file = vfs.open(&base.path, OpenOptions { direct, ..OpenOptions::read() })?;
            base.file.get_or_init(|| file);
        }
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, Bytes> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Bytes> {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn base_file(&self) -> Option<&dyn File> {
        self.base.as_ref().and_then(|base| base.file.get()).map(|file| &**file)
    }
}

impl Bytes {
    fn read_at(&self, base: Option<&dyn File>, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let there = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < there {
            let at = offset + done as u64;
            let (number, within) = chunk_of(at);
            let n = match self.chunks.get(&number) {
                Some(chunk) => {
                    let n = (CHUNK as usize - within).min(there - done);
                    buf[done..done + n].copy_from_slice(&chunk[within..within + n]);
                    n
                }
                None => {
                    // One read of the base up to the next chunk that is here.
                    let next = self.chunks.range(number..).next().map_or(u64::MAX, |(next, _)| next * CHUNK);
                    let n = (next - at).min((there - done) as u64) as usize;
                    self.read_base(base, &mut buf[done..done + n], at)?;
                    n
                }
            };
            done += n;
        }
        Ok(there)
    }

    /// Bytes that no chunk holds: the base's as far as they show, then zeros (O2).
    fn read_base(&self, base: Option<&dyn File>, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let shown = self.shown.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (through, zeros) = buf.split_at_mut(shown);
        zeros.fill(0);
        match base {
            Some(file) => file.read_exact_at(through, offset),
            None => {
                through.fill(0);
                Ok(())
            }
        }
    }

    /// The chunk `number`, to be written; copied from the base first.
    fn chunk(&mut self, base: Option<&dyn File>, number: u64) -> io::Result<&mut [u8]> {
        if !self.chunks.contains_key(&number) {
            let mut chunk = vec![0; CHUNK as usize].into_boxed_slice();
            self.read_base(base, &mut chunk, number * CHUNK)?;
            self.chunks.insert(number, chunk);
        }
        self.chunks.get_mut(&number).map(|chunk| &mut chunk[..]).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn write_at(&mut self, base: Option<&dyn File>, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let (number, within) = chunk_of(offset + done as u64);
            let n = (CHUNK as usize - within).min(buf.len() - done);
            self.chunk(base, number)?[within..within + n].copy_from_slice(&buf[done..done + n]);
            done += n;
        }
        if !buf.is_empty() {
            self.len = self.len.max(offset + buf.len() as u64);
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (number, within) = chunk_of(len);
            self.chunks.split_off(&len.div_ceil(CHUNK));
            // What the cut hides must not come back when the file grows again.
            if let Some(chunk) = self.chunks.get_mut(&number) {
                chunk[within..].fill(0);
            }
            self.shown = self.shown.min(len);
        }
        self.len = len;
    }
}

/// The number of the chunk that holds `offset`, and where in it.
fn chunk_of(offset: u64) -> (u64, usize) {
    (offset / CHUNK, (offset % CHUNK) as usize)
}

/// `offset + len`, or the error for a file that would be too large.
fn end_of(offset: u64, len: u64) -> io::Result<u64> {
    offset.checked_add(len).filter(|end| *end <= MAX_LEN).ok_or_else(|| ErrorKind::FileTooLarge.into())
}

impl OverlayFile {
    fn may_write(&self) -> io::Result<()> {
        if self.write {
            return Ok(());
        }
        Err(io::Error::new(ErrorKind::PermissionDenied, "the handle was opened for reading only"))
    }
}

impl File for OverlayFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inode.read().read_at(self.inode.base_file(), buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.may_write()?;
        end_of(offset, buf.len() as u64)?;
        self.inode.write().write_at(self.inode.base_file(), buf, offset)?;
        Ok(buf.len())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inode.read().len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.may_write()?;
        end_of(len, 0)?;
        self.inode.write().set_len(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.may_write()?;
        let end = end_of(offset, len)?;
        let mut bytes = self.inode.write();
        bytes.len = bytes.len.max(end);
        Ok(())
    }
}

impl Lock for OverlayLock {}

impl Drop for OverlayLock {
    fn drop(&mut self) {
        self.inode.locked.store(false, Ordering::Release);
    }
}

impl fmt::Debug for OverlayVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OverlayVfs").field("base", &self.base).field("used", &self.used()).finish()
    }
}

impl fmt::Debug for OverlayFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OverlayFile").field("len", &self.inode.read().len).field("write", &self.write).finish()
    }
}

impl fmt::Debug for OverlayLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OverlayLock")
    }
}
