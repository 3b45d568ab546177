//! The disk as a file system: open files, locks, and the calls of the contract.

use super::SimDisk;
use super::event::{Call, Event, Record};
use super::hash;
use super::state::{State, Ticket};
use super::tree::{Ino, Kind, error};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use strandline_vfs::{DirEntry, File, FileKind, Lock, Metadata, OpenOptions, Vfs};

/// One open file.
struct SimFile {
    disk: SimDisk,
    ino: Ino,
    handle: u64,
    process: u64,
    write: bool,
    path: Arc<Path>,
}

/// A held lock.
struct SimLock {
    disk: SimDisk,
    ino: Ino,
    process: u64,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("path", &self.path).field("inode", &self.ino).finish_non_exhaustive()
    }
}

impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimLock").field("inode", &self.ino).finish_non_exhaustive()
    }
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut s = self.disk.lock_state();
        if s.process == self.process {
            s.locks.remove(&self.ino);
        }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut s = self.disk.lock_state();
        if s.process == self.process {
            s.close(self.ino, self.handle);
        }
    }
}

impl State {
    fn hold(&mut self, ino: Ino) -> u64 {
        let handle = self.next_handle;
        self.next_handle += 1;
        self.open.entry(ino).or_default().insert(handle);
        handle
    }

    fn close(&mut self, ino: Ino, handle: u64) {
        if let Some(handles) = self.open.get_mut(&ino) {
            handles.remove(&handle);
            if handles.is_empty() {
                self.open.remove(&ino);
            }
        }
        if let Some(Some(owed)) = self.errors.get_mut(&ino) {
            owed.remove(&handle);
        }
    }

    pub(crate) fn note_mark(&mut self, what: &str, index: u64) {
        self.trace_hash = hash::mix(self.trace_hash, hash::bytes(what.as_bytes()));
        if self.record != Record::Off {
            let (path, label) = (Arc::from(Path::new(what)), Arc::clone(&self.label));
            self.events.push(Event { index, call: Call::Mark, path, offset: 0, len: 0, error: None, label });
        }
    }
}

impl SimFile {
    fn call<T>(
        &self,
        call: Call,
        range: (u64, u64),
        body: impl FnOnce(&mut State, &Ticket) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut s = self.disk.lock_state();
        if s.process != self.process {
            return Err(error(ErrorKind::Other, "the process that opened this file was killed"));
        }
        s.call(call, &self.path, range, body)
    }

    fn writing(&self) -> io::Result<()> {
        if self.write { Ok(()) } else { Err(error(ErrorKind::PermissionDenied, "the file is open for reading only")) }
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.call(Call::Read, (offset, buf.len() as u64), |s, t| s.read(self.ino, buf, offset, t))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.writing()?;
        self.call(Call::Write, (offset, buf.len() as u64), |s, t| {
            let n = s.write(self.ino, buf, offset, t);
            // The content enters the trace through the sum of the file, which is known already.
            s.trace_hash = hash::mix(s.trace_hash, s.live.file(self.ino).map_or(0, |f| f.body.sum()));
            n
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.call(Call::Len, (0, 0), |s, _| Ok(s.live.file(self.ino).map_or(0, |f| f.size)))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writing()?;
        self.call(Call::SetLen, (len, 0), |s, t| s.set_len(self.ino, len, t))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(Call::SyncData, (0, 0), |s, t| s.sync_file((self.ino, self.handle), Call::SyncData, t))
    }

    fn sync_all(&self) -> io::Result<()> {
        self.call(Call::SyncAll, (0, 0), |s, t| s.sync_file((self.ino, self.handle), Call::SyncAll, t))
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writing()?;
        self.call(Call::Allocate, (offset, len), |s, t| s.allocate(self.ino, offset, len, t))
    }
}

impl Vfs for SimDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        options.check()?;
        let mut s = self.lock_state();
        let creates = options.create_new || (options.create && s.live.lookup(path).is_err());
        let call = if creates { Call::Create } else { Call::Open };
        let ino = s.call(call, path, (0, 0), |s, t| s.open_file(path, options.create, options.create_new, t.event))?;
        let handle = s.hold(ino);
        let (disk, process) = (self.clone(), s.process);
        Ok(Arc::new(SimFile { disk, ino, handle, process, write: options.write, path: Arc::from(path) }))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.lock_state().call(Call::Remove, path, (0, 0), |s, t| s.remove_file(path, t))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.lock_state().call(Call::Rename, from, (0, 0), |s, t| {
            s.trace_hash = hash::mix(s.trace_hash, hash::bytes(to.as_os_str().as_encoded_bytes()));
            s.rename(from, to, t)
        })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.lock_state().call(Call::CreateDir, path, (0, 0), |s, t| s.create_dir(path, t))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.lock_state().call(Call::RemoveDir, path, (0, 0), |s, t| s.remove_dir(path, t))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.lock_state().call(Call::ReadDir, path, (0, 0), |s, _| {
            let ino = s.live.lookup(path)?;
            let names = s.live.dir(ino).ok_or_else(|| error(ErrorKind::NotADirectory, "not a directory"))?;
            let kind = |ino| if s.live.dir(ino).is_some() { FileKind::Directory } else { FileKind::File };
            Ok(names.iter().map(|(n, &ino)| DirEntry { name: n.as_ref().to_owned(), kind: kind(ino) }).collect())
        })
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        self.lock_state().call(Call::Stat, path, (0, 0), |s, _| match s.live.lookup(path) {
            Ok(ino) => Ok(s.live.get(ino).map(|inode| match &inode.kind {
                Kind::File(f) => Metadata { kind: FileKind::File, len: f.size },
                Kind::Dir(_) => Metadata { kind: FileKind::Directory, len: 0 },
            })),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.lock_state().call(Call::SyncDir, path, (0, 0), |s, t| s.sync_dir(path, t))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut s = self.lock_state();
        let creates = s.live.lookup(path).is_err();
        let ino = s.call(if creates { Call::Create } else { Call::Lock }, path, (0, 0), |s, t| {
            let ino = s.open_file(path, true, false, t.event)?;
            if s.locks.insert(ino) {
                Ok(ino)
            } else {
                Err(error(ErrorKind::WouldBlock, "another handle holds the lock"))
            }
        })?;
        Ok(Box::new(SimLock { disk: self.clone(), ino, process: s.process }))
    }
}
