//! A wrapper that makes chosen calls fail, to see what an engine does with an error.
//!
//! A [`Fault`] says which calls it strikes (kinds, file, how many to let pass first), how often, and with which error. Several
//! may wait at once; of those that match a call the one injected first strikes. Besides, transfers can be kept short, and
//! the space on the device can be limited.
//!
//! ```
//! use std::{io::ErrorKind, path::Path, sync::Arc};
//! use strandline_vfs::{fault::{Fault, FaultVfs}, mem::MemVfs, Call, OpenOptions, Vfs};
//!
//! let vfs = FaultVfs::new(Arc::new(MemVfs::new()));
//! let file = vfs.open(Path::new("log"), OpenOptions::create())?;
//! vfs.inject(Fault::on(Call::SyncData).after(1).error(ErrorKind::StorageFull));
//! assert!(file.sync_data().is_ok());
//! assert_eq!(file.sync_data().unwrap_err().kind(), ErrorKind::StorageFull);
//! assert!(file.sync_data().is_ok());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! - **F1** A call that is struck does not reach the file system below, so it has no effect at all. A write that must fail
//!   half done is a short write followed by a fault.
//! - **F2** Calls are counted per fault, and only those that match it; nothing here depends on time or chance.
//! - **F3** Space is charged by the highest byte that a file was ever written or allocated to, gaps included; lengths set by
//!   `set_len` are free. A name removed or replaced gives its space back at once, even while handles are open.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Call, DirEntry, File, Lock, Metadata, OpenOptions, Vfs};

mod space;
use space::Space;

/// A file system that fails on demand. Clones share the faults.
#[derive(Clone)]
pub struct FaultVfs {
    inner: Arc<dyn Vfs>,
    plan: Arc<Mutex<Plan>>,
}

/// Which calls fail, how often, and how. Without further words: the first call of the kind, once, with an error like the
/// system's EIO.
#[derive(Clone, Debug)]
pub struct Fault {
    calls: Vec<Call>,
    name: Option<String>,
    skip: u64,
    times: u64,
    error: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Std(ErrorKind),
    System(i32),
}

#[derive(Default)]
struct Plan {
    faults: Vec<Fault>,
    struck: u64,
    counts: BTreeMap<Call, u64>,
    read_limit: Option<usize>,
    write_limit: Option<usize>,
    space: Space,
}

struct FaultFile {
    inner: Arc<dyn File>,
    path: PathBuf,
    id: space::FileId,
    plan: Arc<Mutex<Plan>>,
}

impl Fault {
    /// Strikes calls of one kind.
    #[must_use]
    pub fn on(call: Call) -> Self {
        Self::on_any([call])
    }

    /// Strikes calls of several kinds, such as [`Call::SYNCS`], [`Call::CHANGES`] or [`Call::ALL`].
    pub fn on_any(calls: impl IntoIterator<Item = Call>) -> Self {
        Self { calls: calls.into_iter().collect(), name: None, skip: 0, times: 1, error: Kind::Std(ErrorKind::Other) }
    }

    /// Lets this many matching calls pass first.
    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// Strikes this many matching calls; 1 unless said otherwise.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Strikes every matching call from the first on.
    #[must_use]
    pub fn for_ever(self) -> Self {
        self.times(u64::MAX)
    }

    /// Strikes only calls on paths that contain `part`. For a rename either name may.
    #[must_use]
    pub fn in_path(mut self, part: impl Into<String>) -> Self {
        self.name = Some(part.into());
        self
    }

    /// The kind of the error.
    #[must_use]
    pub fn error(mut self, kind: ErrorKind) -> Self {
        self.error = Kind::Std(kind);
        self
    }

    /// The error by the number that the system gives it, such as 5 for EIO on Unix.
    #[must_use]
    pub fn system_error(mut self, code: i32) -> Self {
        self.error = Kind::System(code);
        self
    }

    fn matches(&self, call: Call, paths: &[&Path]) -> bool {
        let named = |part: &String| paths.iter().any(|p| p.to_string_lossy().contains(part.as_str()));
        self.calls.contains(&call) && self.name.as_ref().is_none_or(named)
    }

    fn to_error(&self, call: Call) -> io::Error {
        match self.error {
            Kind::Std(kind) => io::Error::new(kind, format!("injected failure of {call}")),
            Kind::System(code) => io::Error::from_raw_os_error(code),
        }
    }
}

impl FaultVfs {
    /// Passes everything on to `inner` until told otherwise.
    pub fn new(inner: Arc<dyn Vfs>) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// Adds a fault.
    pub fn inject(&self, fault: Fault) {
        lock(&self.plan).faults.push(fault);
    }

    /// Takes all faults and limits away. The counts stay.
    pub fn heal(&self) {
        let mut plan = lock(&self.plan);
        plan.faults.clear();
        (plan.read_limit, plan.write_limit) = (None, None);
        plan.space.set_quota(None);
    }

    /// Transfers at most this many bytes per call, at least 1; `None` for no limit.
    pub fn limit_transfers(&self, read: Option<usize>, write: Option<usize>) {
        let mut plan = lock(&self.plan);
        plan.read_limit = read.map(|n| n.max(1));
        plan.write_limit = write.map(|n| n.max(1));
    }

    /// From now on files may grow by this many bytes in total; what goes beyond fails with `StorageFull`, a write after the
    /// part that still fitted. `None` for no limit.
    pub fn limit_space(&self, bytes: Option<u64>) {
        lock(&self.plan).space.set_quota(bytes);
    }

    /// Bytes that files may still grow by, under [`FaultVfs::limit_space`].
    #[must_use]
    pub fn space_left(&self) -> Option<u64> {
        lock(&self.plan).space.left()
    }

    /// How often a kind of call was made, struck calls included.
    #[must_use]
    pub fn count(&self, call: Call) -> u64 {
        lock(&self.plan).counts.get(&call).copied().unwrap_or(0)
    }

    /// How many calls of any of these kinds were made.
    pub fn count_any(&self, calls: impl IntoIterator<Item = Call>) -> u64 {
        calls.into_iter().map(|call| self.count(call)).sum()
    }

    /// How many calls were struck by a fault.
    #[must_use]
    pub fn struck(&self) -> u64 {
        lock(&self.plan).struck
    }

    fn allow(&self, call: Call, paths: &[&Path]) -> io::Result<()> {
        lock(&self.plan).allow(call, paths)
    }
}

impl Plan {
    /// Counts the call, and fails when a fault strikes it.
    fn allow(&mut self, call: Call, paths: &[&Path]) -> io::Result<()> {
        *self.counts.entry(call).or_default() += 1;
        let mut struck = None;
        for fault in self.faults.iter_mut().filter(|f| f.matches(call, paths)) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if struck.is_none() && fault.times > 0 {
                fault.times = if fault.times == u64::MAX { u64::MAX } else { fault.times - 1 };
                struck = Some(fault.to_error(call));
            }
        }
        match struck {
            None => Ok(()),
            Some(error) => {
                self.struck += 1;
                Err(error)
            }
        }
    }
}

impl Vfs for FaultVfs {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        let call = if options.create || options.create_new { Call::Create } else { Call::Open };
        self.allow(call, &[path])?;
        let inner = self.inner.open(path, options)?;
        let len = inner.len()?;
        let id = lock(&self.plan).space.opened(path, len);
        Ok(Arc::new(FaultFile { inner, path: path.to_path_buf(), id, plan: Arc::clone(&self.plan) }))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.allow(Call::RemoveFile, &[path])?;
        let len = self.inner.metadata(path)?.map_or(0, |m| m.len);
        self.inner.remove_file(path)?;
        lock(&self.plan).space.removed(path, len);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.allow(Call::Rename, &[from, to])?;
        let replaced = self.inner.metadata(to)?.map(|m| m.len);
        self.inner.rename(from, to)?;
        lock(&self.plan).space.renamed(from, to, replaced);
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.allow(Call::CreateDir, &[path])?;
        self.inner.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.allow(Call::RemoveDir, &[path])?;
        self.inner.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.allow(Call::ReadDir, &[path])?;
        self.inner.read_dir(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        self.allow(Call::Metadata, &[path])?;
        self.inner.metadata(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.allow(Call::SyncDir, &[path])?;
        self.inner.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.allow(Call::Lock, &[path])?;
        self.inner.lock(path)
    }
}

impl FaultFile {
    fn allow(&self, call: Call) -> io::Result<MutexGuard<'_, Plan>> {
        let mut plan = lock(&self.plan);
        plan.allow(call, &[&self.path])?;
        Ok(plan)
    }
}

impl File for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let limit = self.allow(Call::Read)?.read_limit.unwrap_or(buf.len());
        let n = buf.len().min(limit);
        self.inner.read_at(&mut buf[..n], offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut plan = self.allow(Call::Write)?;
        let n = buf.len().min(plan.write_limit.unwrap_or(buf.len()));
        let n = plan.space.charge_write(self.id, offset, n)?;
        drop(plan);
        self.inner.write_at(&buf[..n], offset)
    }

    fn len(&self) -> io::Result<u64> {
        drop(self.allow(Call::Len)?);
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        drop(self.allow(Call::SetLen)?);
        self.inner.set_len(len)?;
        lock(&self.plan).space.cut(self.id, len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        drop(self.allow(Call::SyncData)?);
        self.inner.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        drop(self.allow(Call::SyncAll)?);
        self.inner.sync_all()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.allow(Call::Allocate)?.space.charge_allocation(self.id, offset, len)?;
        self.inner.allocate(offset, len)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for FaultVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultVfs").field("inner", &self.inner).field("faults", &lock(&self.plan).faults).finish()
    }
}

impl fmt::Debug for FaultFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultFile").field("inner", &self.inner).field("path", &self.path).finish()
    }
}
