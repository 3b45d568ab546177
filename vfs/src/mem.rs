//! A file system in plain memory, for unit tests and for callers that want no files at all.
//!
//! It knows no crash: every write is at once as durable as it will ever be, so syncs have nothing to do and V2 to V5 hold
//! trivially. Use the simulated disk of `strandline-sim` to find out what a power cut leaves.
//!
//! Names form a tree of directories under one mutex; the bytes of a file live in an *inode* outside of it, under a lock of
//! its own, so that threads that use different files never meet. An inode keeps fixed chunks in a map by number, so a
//! byte at an offset of many gigabytes costs one chunk.
//!
//! - **M1** A chunk that is absent reads as zeros; so do the bytes of a chunk past the length of the file. Hence cutting
//!   a file must clear the rest of its last chunk.
//! - **M2** A handle holds the inode, never the name: a removed or replaced file works on until its last handle goes.
//! - **M3** Relative paths start at the root, which always exists; `.` and `..` are resolved lexically.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{DirEntry, File, FileKind, Lock, Metadata, OpenOptions, Vfs};

/// Bytes per chunk of a file.
const CHUNK: u64 = 16 * 1024;
/// Files end here, as they do on systems whose offsets are signed.
const MAX_LEN: u64 = i64::MAX as u64;

/// A file system in memory. Clones share the same files.
#[derive(Clone, Default)]
pub struct MemVfs {
    root: Arc<Mutex<Dir>>,
}

type Dir = BTreeMap<OsString, Entry>;

#[derive(Clone)]
enum Entry {
    File(Arc<Inode>),
    Dir(Dir),
}

#[derive(Default)]
struct Inode {
    bytes: RwLock<Bytes>,
    locked: AtomicBool,
}

#[derive(Clone, Default)]
struct Bytes {
    len: u64,
    chunks: BTreeMap<u64, Box<[u8]>>,
}

/// An open file: the inode (M2) and the right to write.
struct MemFile {
    inode: Arc<Inode>,
    write: bool,
}

struct MemLock {
    inode: Arc<Inode>,
}

impl MemVfs {
    /// An empty file system.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An independent copy of all names and bytes as they are now; open handles and locks stay with the original.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self { root: Arc::new(Mutex::new(duplicate_dir(&self.names()))) }
    }

    /// Memory taken by the contents of all files that still have a name, in bytes.
    #[must_use]
    pub fn used(&self) -> u64 {
        used_by(&self.names())
    }

    fn names(&self) -> MutexGuard<'_, Dir> {
        // A panic elsewhere cannot leave the tree half changed: every change is one map operation.
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vfs for MemVfs {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        options.check()?;
        let mut names = self.names();
        let (dir, name) = parent_of(&mut names, path, ErrorKind::IsADirectory)?;
        let inode = match dir.get(&name) {
            Some(Entry::Dir(_)) if !options.create_new => return Err(ErrorKind::IsADirectory.into()),
            Some(_) if options.create_new => return Err(ErrorKind::AlreadyExists.into()),
            Some(Entry::File(inode)) => Arc::clone(inode),
            _ if options.create || options.create_new => create_inode(dir, name),
            _ => return Err(ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(MemFile { inode, write: options.write }))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names();
        let (dir, name) = parent_of(&mut names, path, ErrorKind::IsADirectory)?;
        match dir.get(&name) {
            None => Err(ErrorKind::NotFound.into()),
            Some(Entry::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            Some(Entry::File(_)) => {
                dir.remove(&name);
                Ok(())
            }
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (source, target) = (steps_of(from), steps_of(to));
        let mut names = self.names();
        let moved = entry_at(&names, &source)?.ok_or(ErrorKind::NotFound)?;
        if source == target {
            return Ok(());
        }
        if target.starts_with(&source) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "a directory cannot move into itself"));
        }
        let moved_dir = matches!(moved, Entry::Dir(_));
        match (moved_dir, entry_at(&names, &target)?) {
            (false, Some(Entry::Dir(_))) => return Err(ErrorKind::IsADirectory.into()),
            (true, Some(Entry::File(_))) => return Err(ErrorKind::NotADirectory.into()),
            (true, Some(Entry::Dir(d))) if !d.is_empty() => return Err(ErrorKind::DirectoryNotEmpty.into()),
            _ => {}
        }
        // Everything that can fail has been looked at before the first change.
        parent_of(&mut names, to, ErrorKind::InvalidInput)?;
        let (dir, name) = parent_of(&mut names, from, ErrorKind::InvalidInput)?;
        let entry = dir.remove(&name).ok_or(ErrorKind::NotFound)?;
        let (dir, name) = parent_of(&mut names, to, ErrorKind::InvalidInput)?;
        dir.insert(name, entry);
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names();
        let (dir, name) = parent_of(&mut names, path, ErrorKind::AlreadyExists)?;
        if dir.contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        dir.insert(name, Entry::Dir(Dir::new()));
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names();
        let (dir, name) = parent_of(&mut names, path, ErrorKind::ResourceBusy)?;
        match dir.get(&name) {
            None => Err(ErrorKind::NotFound.into()),
            Some(Entry::File(_)) => Err(ErrorKind::NotADirectory.into()),
            Some(Entry::Dir(d)) if !d.is_empty() => Err(ErrorKind::DirectoryNotEmpty.into()),
            Some(Entry::Dir(_)) => {
                dir.remove(&name);
                Ok(())
            }
        }
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut names = self.names();
        let dir = descend(&mut names, &steps_of(path))?;
        Ok(dir.iter().map(|(name, entry)| DirEntry { name: name.clone(), kind: entry.kind() }).collect())
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        let steps = steps_of(path);
        if steps.is_empty() {
            return Ok(Some(Metadata { kind: FileKind::Directory, len: 0 }));
        }
        match entry_at(&self.names(), &steps) {
            Ok(entry) => Ok(entry.map(|e| Metadata { kind: e.kind(), len: e.len() })),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        descend(&mut self.names(), &steps_of(path)).map(|_| ())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut names = self.names();
        let (dir, name) = parent_of(&mut names, path, ErrorKind::IsADirectory)?;
        let inode = match dir.get(&name) {
            Some(Entry::Dir(_)) => return Err(ErrorKind::IsADirectory.into()),
            Some(Entry::File(inode)) => Arc::clone(inode),
            None => create_inode(dir, name),
        };
        if inode.locked.swap(true, Ordering::AcqRel) {
            return Err(io::Error::new(ErrorKind::WouldBlock, "another handle holds the lock"));
        }
        Ok(Box::new(MemLock { inode }))
    }
}

impl Entry {
    fn kind(&self) -> FileKind {
        match self {
            Entry::File(_) => FileKind::File,
            Entry::Dir(_) => FileKind::Directory,
        }
    }

    fn len(&self) -> u64 {
        match self {
            Entry::File(inode) => inode.read().len,
            Entry::Dir(_) => 0,
        }
    }
}

fn create_inode(dir: &mut Dir, name: OsString) -> Arc<Inode> {
    let inode = Arc::new(Inode::default());
    dir.insert(name, Entry::File(Arc::clone(&inode)));
    inode
}

fn duplicate_dir(dir: &Dir) -> Dir {
    let copy = |entry: &Entry| match entry {
        Entry::Dir(d) => Entry::Dir(duplicate_dir(d)),
        Entry::File(inode) => {
            Entry::File(Arc::new(Inode { bytes: RwLock::new(inode.read().clone()), locked: AtomicBool::new(false) }))
        }
    };
    dir.iter().map(|(name, entry)| (name.clone(), copy(entry))).collect()
}

fn used_by(dir: &Dir) -> u64 {
    dir.values()
        .map(|entry| match entry {
            Entry::Dir(d) => used_by(d),
            Entry::File(inode) => inode.read().chunks.len() as u64 * CHUNK,
        })
        .sum()
}

/// The names on the way from the root to `path` (M3).
fn steps_of(path: &Path) -> Vec<&OsStr> {
    let mut steps = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => steps.push(name),
            Component::ParentDir => drop(steps.pop()),
            Component::Prefix(prefix) => steps.push(prefix.as_os_str()),
            Component::RootDir | Component::CurDir => {}
        }
    }
    steps
}

fn descend<'a>(root: &'a mut Dir, steps: &[&OsStr]) -> io::Result<&'a mut Dir> {
    let mut dir = root;
    for step in steps {
        dir = match dir.get_mut(*step) {
            Some(Entry::Dir(d)) => d,
            Some(Entry::File(_)) => return Err(ErrorKind::NotADirectory.into()),
            None => return Err(ErrorKind::NotFound.into()),
        };
    }
    Ok(dir)
}

/// The directory that holds `path` and the name in it; `for_root` is the error when the path is the root itself.
fn parent_of<'a>(root: &'a mut Dir, path: &Path, for_root: ErrorKind) -> io::Result<(&'a mut Dir, OsString)> {
    let steps = steps_of(path);
    let Some((name, above)) = steps.split_last() else { return Err(for_root.into()) };
    Ok((descend(root, above)?, (*name).to_os_string()))
}

fn entry_at<'a>(root: &'a Dir, steps: &[&OsStr]) -> io::Result<Option<&'a Entry>> {
    let Some((name, above)) = steps.split_last() else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "the root has no name"));
    };
    let mut dir = root;
    for step in above {
        dir = match dir.get(*step) {
            Some(Entry::Dir(d)) => d,
            Some(Entry::File(_)) => return Err(ErrorKind::NotADirectory.into()),
            None => return Err(ErrorKind::NotFound.into()),
        };
    }
    Ok(dir.get(*name))
}

impl Inode {
    fn read(&self) -> RwLockReadGuard<'_, Bytes> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Bytes> {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bytes {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> usize {
        let there = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < there {
            let (number, within) = chunk_of(offset + done as u64);
            let n = (CHUNK as usize - within).min(there - done);
            let out = &mut buf[done..done + n];
            match self.chunks.get(&number) {
                Some(chunk) => out.copy_from_slice(&chunk[within..within + n]),
                None => out.fill(0),
            }
            done += n;
        }
        there
    }

    fn write_at(&mut self, buf: &[u8], offset: u64) {
        let mut done = 0;
        while done < buf.len() {
            let (number, within) = chunk_of(offset + done as u64);
            let n = (CHUNK as usize - within).min(buf.len() - done);
            let chunk = self.chunks.entry(number).or_insert_with(|| vec![0; CHUNK as usize].into_boxed_slice());
            chunk[within..within + n].copy_from_slice(&buf[done..done + n]);
            done += n;
        }
        if !buf.is_empty() {
            self.len = self.len.max(offset + buf.len() as u64);
        }
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (number, within) = chunk_of(len);
            self.chunks.split_off(&len.div_ceil(CHUNK));
            // M1: what the cut hides must not come back when the file grows again.
            if let Some(chunk) = self.chunks.get_mut(&number) {
                chunk[within..].fill(0);
            }
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

impl MemFile {
    fn may_write(&self) -> io::Result<()> {
        if self.write {
            return Ok(());
        }
        Err(io::Error::new(ErrorKind::PermissionDenied, "the handle was opened for reading only"))
    }
}

impl File for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.inode.read().read_at(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.may_write()?;
        end_of(offset, buf.len() as u64)?;
        self.inode.write().write_at(buf, offset);
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

impl Lock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.inode.locked.store(false, Ordering::Release);
    }
}

impl fmt::Debug for MemVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemVfs").field("names", &self.names().len()).finish()
    }
}

impl fmt::Debug for MemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemFile").field("len", &self.inode.read().len).field("write", &self.write).finish()
    }
}

impl fmt::Debug for MemLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemLock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_and_duplicates_do_not() {
        let vfs = MemVfs::new();
        let path = Path::new("/a");
        vfs.open(path, OpenOptions::create()).unwrap().write_all_at(b"one", 0).unwrap();
        let (shared, copy) = (vfs.clone(), vfs.duplicate());
        vfs.open(path, OpenOptions::write()).unwrap().write_all_at(b"two", 0).unwrap();

        let read = |vfs: &MemVfs| {
            let mut buf = [0; 3];
            vfs.open(path, OpenOptions::read()).unwrap().read_exact_at(&mut buf, 0).unwrap();
            buf
        };
        assert_eq!(&read(&shared), b"two");
        assert_eq!(&read(&copy), b"one");
    }

    #[test]
    fn a_sparse_file_costs_only_what_was_written() {
        let vfs = MemVfs::new();
        let file = vfs.open(Path::new("a"), OpenOptions::create()).unwrap();
        file.write_all_at(b"x", 1 << 50).unwrap();
        assert_eq!(file.len().unwrap(), (1 << 50) + 1);
        assert_eq!(vfs.used(), CHUNK);
        file.set_len(10).unwrap();
        assert_eq!(vfs.used(), 0);
    }

    #[test]
    fn paths_are_resolved_lexically() {
        let vfs = MemVfs::new();
        vfs.create_dir(Path::new("d")).unwrap();
        vfs.open(Path::new("/d/../d/./f"), OpenOptions::create()).unwrap();
        assert!(vfs.metadata(Path::new("d//f")).unwrap().is_some());
        assert_eq!(vfs.open(Path::new("/"), OpenOptions::read()).unwrap_err().kind(), ErrorKind::IsADirectory);
    }

    #[test]
    fn a_directory_moves_with_all_it_holds_but_not_into_itself() {
        let vfs = MemVfs::new();
        vfs.create_dir(Path::new("a")).unwrap();
        vfs.create_dir(Path::new("a/b")).unwrap();
        vfs.open(Path::new("a/b/f"), OpenOptions::create()).unwrap();
        let into_itself = vfs.rename(Path::new("a"), Path::new("a/b/c")).unwrap_err();
        assert_eq!(into_itself.kind(), ErrorKind::InvalidInput);
        vfs.rename(Path::new("a"), Path::new("z")).unwrap();
        assert!(vfs.metadata(Path::new("z/b/f")).unwrap().is_some());
        assert!(vfs.metadata(Path::new("a")).unwrap().is_none());
    }
}
