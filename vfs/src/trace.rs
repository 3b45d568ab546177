//! A wrapper that records every call, to test durability contracts and to count what an operation costs.
//!
//! A storage engine is right about durability when the *order* of its writes, syncs and renames is right. That order is
//! plain text here, ready for a snapshot test:
//!
//! ```
//! use std::{path::Path, sync::Arc};
//! use strandline_vfs::{mem::MemVfs, trace::TraceVfs, OpenOptions, Vfs};
//!
//! let vfs = TraceVfs::new(Arc::new(MemVfs::new()), "/");
//! let file = vfs.open(Path::new("/new"), OpenOptions::create_new())?;
//! file.write_all_at(b"content", 0)?;
//! file.sync_all()?;
//! vfs.rename(Path::new("/new"), Path::new("/old"))?;
//! vfs.sync_dir(Path::new("/"))?;
//! assert_eq!(vfs.durability_text(), "\
//! create      new
//! write       new 0+7
//! sync_all    new
//! rename      new -> old
//! sync_dir    .
//! ");
//! assert_eq!(vfs.total().syncs, 2);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! - **R1** Events stand in the order in which the calls *returned*: a sync that stands after a write covers it only if it
//!   also began after it, which is certain for calls of one thread.
//! - **R2** A file is called by the name under which its handle was opened, relative to the root of the trace.
//! - **R3** Counters are always kept, and cost a few atomic additions a call; events are kept only when asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Call, DirEntry, File, Lock, Metadata, OpenOptions, Vfs};

mod text;

/// A file system that records what is asked of another one. Clones share the record.
#[derive(Clone)]
pub struct TraceVfs {
    inner: Arc<dyn Vfs>,
    record: Arc<Record>,
}

/// One call that returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What was called.
    pub call: Call,
    /// On what, relative to the root of the trace; the root itself is `.`.
    pub path: PathBuf,
    /// The new name, for [`Call::Rename`].
    pub target: Option<PathBuf>,
    /// Where in the file, in bytes; 0 where that makes no sense.
    pub offset: u64,
    /// How many bytes were asked for; the new length for [`Call::SetLen`].
    pub len: u64,
    /// How many bytes were moved, 0 for calls that move none; or the kind of the error.
    pub outcome: Result<u64, io::ErrorKind>,
}

/// What calls have cost. All numbers count successful calls only, but `errors`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Calls that read bytes.
    pub reads: u64,
    /// Bytes they read.
    pub bytes_read: u64,
    /// Calls that wrote bytes.
    pub writes: u64,
    /// Bytes they wrote.
    pub bytes_written: u64,
    /// Syncs of files and directories.
    pub syncs: u64,
    /// Calls that failed, `NotFound` included.
    pub errors: u64,
}

#[derive(Default)]
struct Counters {
    reads: AtomicU64,
    bytes_read: AtomicU64,
    writes: AtomicU64,
    bytes_written: AtomicU64,
    syncs: AtomicU64,
    errors: AtomicU64,
}

struct Record {
    root: PathBuf,
    keep_events: AtomicBool,
    events: Mutex<Vec<Event>>,
    total: Counters,
    files: Mutex<BTreeMap<PathBuf, Arc<Counters>>>,
}

struct TraceFile {
    inner: Arc<dyn File>,
    path: PathBuf,
    counters: Arc<Counters>,
    record: Arc<Record>,
}

struct TraceLock {
    inner: Option<Box<dyn Lock>>,
    path: PathBuf,
    record: Arc<Record>,
}

impl TraceVfs {
    /// Records every call to `inner`; paths are shown relative to `root`.
    pub fn new(inner: Arc<dyn Vfs>, root: impl Into<PathBuf>) -> Self {
        Self::with_events(inner, root.into(), true)
    }

    /// Counts calls and bytes only, cheaply enough for benchmarks. [`TraceVfs::record_events`] switches the rest on.
    pub fn counting(inner: Arc<dyn Vfs>, root: impl Into<PathBuf>) -> Self {
        Self::with_events(inner, root.into(), false)
    }

    fn with_events(inner: Arc<dyn Vfs>, root: PathBuf, keep: bool) -> Self {
        let record = Record {
            root,
            keep_events: AtomicBool::new(keep),
            events: Mutex::default(),
            total: Counters::default(),
            files: Mutex::default(),
        };
        Self { inner, record: Arc::new(record) }
    }

    /// Switches the keeping of events on or off; the counters run on.
    pub fn record_events(&self, keep: bool) {
        self.record.keep_events.store(keep, Relaxed);
    }

    /// The events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        lock(&self.record.events).clone()
    }

    /// The events so far, which the record then forgets. Counters run on.
    #[must_use]
    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut *lock(&self.record.events))
    }

    /// Forgets all events and sets all counters to 0.
    pub fn reset(&self) {
        lock(&self.record.events).clear();
        self.record.total.reset();
        // Open handles hold the counters of their files, so they are set back, not thrown away.
        lock(&self.record.files).values().for_each(|c| c.reset());
    }

    /// What all calls have cost.
    #[must_use]
    pub fn total(&self) -> Totals {
        self.record.total.totals()
    }

    /// What the calls on one file or directory have cost, by the name of R2.
    #[must_use]
    pub fn total_of(&self, path: impl AsRef<Path>) -> Totals {
        let path = self.record.relative(path.as_ref());
        lock(&self.record.files).get(&path).map(|c| c.totals()).unwrap_or_default()
    }

    /// What the calls on each file and directory have cost, sorted by name; those that cost nothing are left out.
    #[must_use]
    pub fn totals(&self) -> Vec<(PathBuf, Totals)> {
        let files = lock(&self.record.files);
        let all = files.iter().map(|(path, c)| (path.clone(), c.totals()));
        all.filter(|(_, t)| *t != Totals::default()).collect()
    }

    /// All events as text, one line each.
    #[must_use]
    pub fn text(&self) -> String {
        text::of_events(&self.events())
    }

    /// The events that matter to durability as text: changes, syncs, and whatever failed. Successful writes to one file that
    /// follow each other without a gap become one line.
    #[must_use]
    pub fn durability_text(&self) -> String {
        text::of_durability(&self.events())
    }

    /// Syncs and bytes written per file and in total, as a table.
    #[must_use]
    pub fn totals_text(&self) -> String {
        text::of_totals(&self.totals(), self.total())
    }
}

impl Record {
    fn relative(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        if below.as_os_str().is_empty() { PathBuf::from(".") } else { below.to_path_buf() }
    }

    fn counters(&self, path: &Path) -> Arc<Counters> {
        let mut files = lock(&self.files);
        if let Some(counters) = files.get(path) {
            return Arc::clone(counters);
        }
        Arc::clone(files.entry(path.to_path_buf()).or_default())
    }

    fn keep(&self, event: impl FnOnce() -> Event) {
        if self.keep_events.load(Relaxed) {
            lock(&self.events).push(event());
        }
    }

    /// Notes a call of the file system that moves no bytes.
    fn note<T>(&self, call: Call, path: &Path, target: Option<&Path>, result: io::Result<T>) -> io::Result<T> {
        let outcome = result.as_ref().map(|_| 0).map_err(io::Error::kind);
        self.total.count(call, outcome);
        if call.is_sync() {
            self.counters(&self.relative(path)).count(call, outcome);
        }
        self.keep(|| Event {
            call,
            path: self.relative(path),
            target: target.map(|t| self.relative(t)),
            offset: 0,
            len: 0,
            outcome,
        });
        result
    }
}

impl Counters {
    fn count(&self, call: Call, outcome: Result<u64, io::ErrorKind>) {
        let Ok(bytes) = outcome else {
            self.errors.fetch_add(1, Relaxed);
            return;
        };
        match call {
            Call::Read => {
                self.reads.fetch_add(1, Relaxed);
                self.bytes_read.fetch_add(bytes, Relaxed);
            }
            Call::Write => {
                self.writes.fetch_add(1, Relaxed);
                self.bytes_written.fetch_add(bytes, Relaxed);
            }
            call if call.is_sync() => {
                self.syncs.fetch_add(1, Relaxed);
            }
            _ => {}
        }
    }

    fn totals(&self) -> Totals {
        Totals {
            reads: self.reads.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            writes: self.writes.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed),
            syncs: self.syncs.load(Relaxed),
            errors: self.errors.load(Relaxed),
        }
    }

    fn reset(&self) {
        let Counters { reads, bytes_read, writes, bytes_written, syncs, errors } = self;
        [reads, bytes_read, writes, bytes_written, syncs, errors].into_iter().for_each(|c| c.store(0, Relaxed));
    }
}

impl Vfs for TraceVfs {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        let call = if options.create || options.create_new { Call::Create } else { Call::Open };
        let inner = self.record.note(call, path, None, self.inner.open(path, options))?;
        let path = self.record.relative(path);
        let counters = self.record.counters(&path);
        Ok(Arc::new(TraceFile { inner, path, counters, record: Arc::clone(&self.record) }))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.record.note(Call::RemoveFile, path, None, self.inner.remove_file(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.record.note(Call::Rename, from, Some(to), self.inner.rename(from, to))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.record.note(Call::CreateDir, path, None, self.inner.create_dir(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.record.note(Call::RemoveDir, path, None, self.inner.remove_dir(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.record.note(Call::ReadDir, path, None, self.inner.read_dir(path))
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        self.record.note(Call::Metadata, path, None, self.inner.metadata(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.record.note(Call::SyncDir, path, None, self.inner.sync_dir(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let inner = self.record.note(Call::Lock, path, None, self.inner.lock(path))?;
        let record = Arc::clone(&self.record);
        Ok(Box::new(TraceLock { inner: Some(inner), path: path.to_path_buf(), record }))
    }
}

impl TraceFile {
    fn note<T>(
        &self,
        call: Call,
        offset: u64,
        len: u64,
        result: io::Result<T>,
        moved: impl Fn(&T) -> u64,
    ) -> io::Result<T> {
        let outcome = result.as_ref().map(moved).map_err(io::Error::kind);
        self.counters.count(call, outcome);
        self.record.total.count(call, outcome);
        self.record.keep(|| Event { call, path: self.path.clone(), target: None, offset, len, outcome });
        result
    }
}

impl File for TraceFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let result = self.inner.read_at(buf, offset);
        self.note(Call::Read, offset, buf.len() as u64, result, |n| *n as u64)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.note(Call::Write, offset, buf.len() as u64, self.inner.write_at(buf, offset), |n| *n as u64)
    }

    fn len(&self) -> io::Result<u64> {
        self.note(Call::Len, 0, 0, self.inner.len(), |_| 0)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.note(Call::SetLen, 0, len, self.inner.set_len(len), |()| 0)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note(Call::SyncData, 0, 0, self.inner.sync_data(), |()| 0)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.note(Call::SyncAll, 0, 0, self.inner.sync_all(), |()| 0)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.note(Call::Allocate, offset, len, self.inner.allocate(offset, len), |()| 0)
    }
}

impl Lock for TraceLock {}

impl Drop for TraceLock {
    fn drop(&mut self) {
        drop(self.inner.take());
        let _ = self.record.note(Call::Unlock, &self.path, None, Ok(()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for TraceVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceVfs").field("inner", &self.inner).field("total", &self.total()).finish()
    }
}

impl fmt::Debug for TraceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceFile").field("inner", &self.inner).field("path", &self.path).finish()
    }
}

impl fmt::Debug for TraceLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceLock").field("path", &self.path).finish()
    }
}
