//! One table's file: written to fresh space, read with checks.
//!
//! Accounting is behind one short mutex; no I/O happens under it. Many threads may write and read at once.
//!
//! The file is made when the first block is written, so an empty table costs nothing. The handle may be closed while
//! everything is synced, and is opened again when needed, so many tables need few handles.
//!
//! - B4: [`BlockStore::read`] returns only bytes that passed every check; before it allocates, the size in the address is
//!   checked against the file.
//! - V5: a failed sync leaves the bytes before it unknown for ever, so the store is poisoned: no later write or sync of it
//!   succeeds, and so no later checkpoint can claim them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use strandline_vfs::{File, OpenOptions, Vfs};

use crate::error::{Error, ErrorKind, Result};
use crate::types::{BlockAddr, CheckpointSeq, Extent, TableId};

use super::format::{FILE_HEADER, FileHeader, block_size, check_block, check_unit, data_start, encode_block};
use super::lists::{DeadList, SpaceState};
use super::space::{Settled, Space};

/// Bytes by which lists that describe a file may grow when their own block is taken from it.
const LISTS_SLACK: usize = 64;
/// Buffers kept for the next read or write, and the largest that is kept, in bytes.
const SPARE_BUFFERS: usize = 8;
const SPARE_BYTES: usize = 1 << 18;

/// Something that blocks can be read from.
pub trait BlockSource: Send + Sync {
    /// The body of the block at `addr`.
    ///
    /// # Errors
    /// `Corrupt` when it is not the block meant, with file and offset; `Io`.
    fn read_block(&self, addr: BlockAddr) -> Result<Arc<[u8]>>;

    /// The file, for messages.
    fn path(&self) -> &Path;
}

/// What a store has read and written since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Blocks read.
    pub reads: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Blocks written.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Syncs of the file.
    pub syncs: u64,
}

#[derive(Default)]
struct Count {
    reads: AtomicU64,
    bytes_read: AtomicU64,
    writes: AtomicU64,
    bytes_written: AtomicU64,
    syncs: AtomicU64,
}

/// The open file, and what is known about the name.
struct Handle {
    file: Option<Arc<dyn File>>,
    /// The file stands, with its header.
    exists: bool,
    /// Header and length of the file as found were checked.
    checked: bool,
    /// The name may not be durable yet.
    unnamed: bool,
}

/// A table's file as a no-overwrite store of blocks.
pub struct BlockStore {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    table: TableId,
    unit: u32,
    writable: bool,
    /// Size of the state that the store was made with: a shorter file is damaged.
    size: u64,
    handle: RwLock<Handle>,
    space: Mutex<Space>,
    /// No block reaches past this byte.
    end: AtomicU64,
    /// Writes finished, and how many of them the last good sync covers.
    written: AtomicU64,
    synced: AtomicU64,
    poisoned: AtomicBool,
    spare: Mutex<Vec<Vec<u8>>>,
    count: Count,
}

impl BlockStore {
    /// The store of a table whose newest complete checkpoint left `state`; `None` when it never had one. While there is no
    /// block in the state, a file that may stand at `path` counts as garbage. `live` is above the births of all blocks that the state reaches.
    /// No file is touched before the first read or write.
    ///
    /// # Errors
    /// `InvalidArgument` for a unit that is none; `Corrupt` for a state that fits no file.
    pub fn new(
        vfs: Arc<dyn Vfs>,
        path: impl Into<PathBuf>,
        table: TableId,
        unit: u32,
        state: Option<SpaceState>,
        live: CheckpointSeq,
    ) -> Result<Self> {
        check_unit(unit)?;
        let path = path.into();
        let state = state.unwrap_or_else(|| SpaceState::empty(unit));
        let exists = state.size > data_start(unit);
        state.check(unit).map_err(|e| e.at(&path, None))?;
        let (size, handle) = (state.size, Handle { file: None, exists, checked: false, unnamed: false });
        Ok(Self {
            vfs,
            path,
            table,
            unit,
            writable: true,
            size,
            handle: RwLock::new(handle),
            space: Mutex::new(Space::new(state, live)),
            end: AtomicU64::new(size),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            spare: Mutex::new(Vec::new()),
            count: Count::default(),
        })
    }

    /// A store that only reads: of the first `size` bytes of the file.
    ///
    /// # Errors
    /// As [`BlockStore::new`].
    pub fn read_only(
        vfs: Arc<dyn Vfs>,
        path: impl Into<PathBuf>,
        table: TableId,
        unit: u32,
        size: u64,
    ) -> Result<Self> {
        let state = SpaceState { size, available: Vec::new() };
        let store = Self::new(vfs, path, table, unit, Some(state), CheckpointSeq::from_raw(1))?;
        Ok(Self { writable: false, ..store })
    }

    /// The table whose file this is.
    #[must_use]
    pub const fn table(&self) -> TableId {
        self.table
    }

    /// The allocation unit in bytes.
    #[must_use]
    pub const fn unit(&self) -> u32 {
        self.unit
    }

    /// Writes `body` as a new block, born for checkpoint `birth`: the live one, or the one being written.
    ///
    /// # Errors
    /// `Io`: nothing has changed, and after a full device got space again the call may be repeated; `Poisoned` after a
    /// failed sync; `ReadOnly`; `InvalidArgument` for a body larger than a block can be.
    pub fn write(&self, body: &[u8], birth: CheckpointSeq) -> Result<BlockAddr> {
        let size = block_size(body.len(), self.unit)?;
        let file = self.file_to_write()?;
        let extent = self.take(size, birth);
        self.write_at(&*file, body, extent, birth)
    }

    /// Writes the block that holds the lists of this very file as checkpoint `ckpt` leaves it, and returns what `encode`
    /// made beside the bytes. The block's bytes are reserved before the lists are drawn up, with room for what the
    /// reservation itself changes in them; what is left over is padding. `encode` is called twice, and the second time
    /// counts.
    ///
    /// # Errors
    /// As [`BlockStore::write`].
    ///
    /// # Panics
    /// When the second encoding is longer than the first by more than the reservation can account for.
    pub fn write_lists<T>(
        &self,
        ckpt: CheckpointSeq,
        mut encode: impl FnMut(Settled) -> (Vec<u8>, T),
    ) -> Result<(BlockAddr, T)> {
        let file = self.file_to_write()?;
        let guess = encode(self.finish_checkpoint(ckpt)).0.len() + LISTS_SLACK;
        let extent = self.take(block_size(guess, self.unit)?, ckpt);
        let (body, out) = encode(self.finish_checkpoint(ckpt));
        assert!(body.len() <= guess, "the lists outgrew their reservation");
        Ok((self.write_at(&*file, &body, extent, ckpt)?, out))
    }

    fn take(&self, size: u32, birth: CheckpointSeq) -> Extent {
        let mut space = self.space.lock();
        let extent = space.take(u64::from(size), birth);
        self.end.fetch_max(space.end(), Ordering::Relaxed);
        extent
    }

    fn write_at(&self, file: &dyn File, body: &[u8], extent: Extent, birth: CheckpointSeq) -> Result<BlockAddr> {
        let mut buf = self.buffer();
        let place = (extent.offset, extent.len as u32);
        let addr = encode_block(&mut buf, body, place, self.table, birth);
        let done = file.write_all_at(&buf, extent.offset);
        self.written.fetch_add(1, Ordering::Release);
        self.put_back(buf);
        if let Err(e) = done {
            // A full device wrote nothing that matters; after any other error the bytes rest until the next checkpoint.
            let clean = matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            self.space.lock().untake(extent, birth, clean);
            return Err(Error::io(e, "write a block", &self.path).at(&self.path, Some(extent.offset)));
        }
        self.count.writes.fetch_add(1, Ordering::Relaxed);
        self.count.bytes_written.fetch_add(extent.len, Ordering::Relaxed);
        Ok(addr)
    }

    /// The body of the block at `addr`.
    ///
    /// # Errors
    /// `Corrupt` with file and offset when it is not the block meant (B4), or when the file is missing, shorter than its
    /// checkpoint says, or not this table's; `Unsupported` when a newer version wrote the file; `Io`.
    pub fn read(&self, addr: BlockAddr) -> Result<Arc<[u8]>> {
        let mut buf = self.buffer();
        let body = self.read_into(&mut buf, addr);
        let body = body.map_err(|e| {
            e.at(&self.path, Some(addr.offset))
                .remedy("verify the database to see what else is damaged, and restore it from a backup")
        });
        self.put_back(buf);
        body
    }

    fn read_into(&self, buf: &mut Vec<u8>, addr: BlockAddr) -> Result<Arc<[u8]>> {
        let (unit, size) = (u64::from(self.unit), u64::from(addr.size));
        let end = addr.offset.checked_add(size).filter(|end| *end <= self.end.load(Ordering::Relaxed));
        let aligned = addr.offset.is_multiple_of(unit) && size.is_multiple_of(unit);
        if !aligned || size == 0 || addr.offset < data_start(self.unit) || end.is_none() {
            return Err(Error::corrupt(format!("no block can stand at bytes {}+{size}", addr.offset)));
        }
        let file = self.file_to_read()?;
        buf.clear();
        buf.resize(size as usize, 0);
        file.read_exact_at(buf, addr.offset).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => Error::corrupt("the file ends inside the block"),
            _ => Error::io(e, "read a block", &self.path),
        })?;
        self.count.reads.fetch_add(1, Ordering::Relaxed);
        self.count.bytes_read.fetch_add(size, Ordering::Relaxed);
        check_block(buf, &addr, self.table).map(Arc::from)
    }

    /// The state that checkpoint `at` (the live one, or the one being written) will hold does not reach the block.
    ///
    /// # Panics
    /// When the block was given up before.
    pub fn give_up(&self, addr: BlockAddr, at: CheckpointSeq) {
        self.space.lock().give_up(addr, at);
    }

    /// Keeps the block's bytes from being written again, although it was or will be given up, because readers in memory
    /// may still come for it. Holds are counted.
    pub fn hold(&self, addr: BlockAddr) {
        self.space.lock().hold(addr);
    }

    /// Ends one hold.
    ///
    /// # Panics
    /// When there is none.
    pub fn release(&self, addr: BlockAddr) {
        self.space.lock().release(addr);
    }

    /// What checkpoint `ckpt`, in which the table takes part and all of whose blocks are written and given up, has to
    /// store. Changes nothing, may be repeated: either [`BlockStore::complete_checkpoint`] or
    /// [`BlockStore::abandon_checkpoint`] follows. What an abandoned checkpoint left behind is in it.
    #[must_use]
    pub fn finish_checkpoint(&self, ckpt: CheckpointSeq) -> Settled {
        let (end, ranges, dead) = self.space.lock().finish(ckpt);
        Settled { state: SpaceState::new(end, ranges), dead: DeadList::new(dead) }
    }

    /// What a checkpoint that the table takes no part in has to store, when it drops an older one. Changes nothing.
    #[must_use]
    pub fn space(&self) -> SpaceState {
        let (end, ranges) = self.space.lock().current();
        SpaceState::new(end, ranges)
    }

    /// The root record that makes checkpoint `ckpt` true, in which the table takes part, is about to be written: from now
    /// on it counts as retained.
    pub fn complete_checkpoint(&self, ckpt: CheckpointSeq) {
        self.space.lock().complete(ckpt);
    }

    /// Checkpoint `ckpt` will never be, and no root record that names it was written: its blocks belong to the next one,
    /// which must have a higher number. Does nothing for a table in which nothing happened for it.
    pub fn abandon_checkpoint(&self, ckpt: CheckpointSeq) {
        self.space.lock().abandon(ckpt);
    }

    /// The root record to come does not need these bytes: dropping checkpoints freed them.
    ///
    /// # Panics
    /// When a byte of them is free already.
    pub fn retire(&self, freed: &[Extent]) {
        self.space.lock().retire(freed);
    }

    /// Both slots hold a root record that does not need the retired bytes (B3): they may be written again.
    pub fn release_pending(&self) {
        self.space.lock().release_pending();
    }

    /// Bytes of the file in use or available; the part that may be written now; the part that may be soon.
    #[must_use]
    pub fn sizes(&self) -> (u64, u64, u64) {
        let space = self.space.lock();
        let (available, pending) = space.free_bytes();
        (space.end(), available, pending)
    }

    /// Syncs the file if it was written since the last sync. True when the file is new since the last call: its name is
    /// durable only after a sync of the directory (V4), which the caller can do once for many files.
    ///
    /// # Errors
    /// `Io`, and from then on `Poisoned` (V5).
    #[must_use = "the directory may have to be synced"]
    pub fn sync(&self) -> Result<bool> {
        Self::sync_all(&[self])
    }

    /// Syncs many files of one file system, as [`BlockStore::sync`] syncs each, in one call where several need it, so that
    /// the system can share what their syncs have in common. True when any file is new.
    ///
    /// # Errors
    /// `Io` for the first file that failed; each that did is `Poisoned` from then on (V5).
    #[must_use = "the directory may have to be synced"]
    pub fn sync_all(stores: &[&Self]) -> Result<bool> {
        let mut waiting = Vec::new();
        let mut files = Vec::new();
        for store in stores {
            store.check_poison()?;
            let covered = store.written.load(Ordering::Acquire);
            if covered != store.synced.load(Ordering::Acquire) {
                files.push(store.file_to_write()?);
                waiting.push((store, covered));
            }
        }
        let results = match (&waiting[..], &files[..]) {
            ([], _) => Vec::new(),
            (_, [file]) => vec![file.sync_data()],
            ([(store, _), ..], files) => store.vfs.sync_files(files),
        };
        let mut failed = None;
        for ((store, covered), result) in waiting.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    store.count.syncs.fetch_add(1, Ordering::Relaxed);
                    store.synced.fetch_max(covered, Ordering::AcqRel);
                }
                Err(e) => {
                    store.poisoned.store(true, Ordering::SeqCst);
                    failed.get_or_insert_with(|| Error::io(e, "sync", &store.path));
                }
            }
        }
        match failed {
            Some(e) => Err(e),
            None => Ok(stores.iter().fold(false, |new, store| new | std::mem::take(&mut store.handle.write().unnamed))),
        }
    }

    /// True when something was written since the last sync.
    #[must_use]
    pub fn is_unsynced(&self) -> bool {
        self.written.load(Ordering::Acquire) != self.synced.load(Ordering::Acquire)
    }

    /// True while the file's handle is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.handle.read().file.is_some()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes the file's handle until it is needed again; does nothing while something is unsynced.
    pub fn close_handle(&self) {
        let mut handle = self.handle.write();
        if !self.is_unsynced() && !self.poisoned.load(Ordering::SeqCst) {
            handle.file = None;
        }
    }

    /// What was read and written so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let c = &self.count;
        Counters {
            reads: get(&c.reads),
            bytes_read: get(&c.bytes_read),
            writes: get(&c.writes),
            bytes_written: get(&c.bytes_written),
            syncs: get(&c.syncs),
        }
    }

    fn check_poison(&self) -> Result<()> {
        if !self.poisoned.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Poisoned, "an earlier sync of the file failed, so its unsynced bytes are unknown")
            .at(&self.path, None)
            .remedy("close the database and open it again"))
    }

    fn file_to_write(&self) -> Result<Arc<dyn File>> {
        if !self.writable {
            return Err(Error::new(ErrorKind::ReadOnly, "the file is open for reading only").at(&self.path, None));
        }
        self.check_poison()?;
        let handle = self.handle.read();
        match &handle.file {
            Some(file) if handle.exists => Ok(Arc::clone(file)),
            _ => {
                drop(handle);
                self.open(true)
            }
        }
    }

    fn file_to_read(&self) -> Result<Arc<dyn File>> {
        if let Some(file) = &self.handle.read().file {
            return Ok(Arc::clone(file));
        }
        self.open(false)
    }

    fn open(&self, writing: bool) -> Result<Arc<dyn File>> {
        let mut handle = self.handle.write();
        if let Some(file) = handle.file.as_ref() {
            return Ok(Arc::clone(file));
        }
        let file = if handle.exists {
            let file = self.open_existing()?;
            if !handle.checked {
                self.check_file(&*file)?;
            }
            file
        } else if writing {
            let file = self.create()?;
            (handle.exists, handle.unnamed) = (true, true);
            file
        } else {
            return Err(Error::corrupt("the table has no file, hence no block"));
        };
        handle.checked = true;
        handle.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn open_existing(&self) -> Result<Arc<dyn File>> {
        let options = if self.writable { OpenOptions::write() } else { OpenOptions::read() };
        self.vfs.open(&self.path, options).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::corrupt("the table's file is missing")
                .at(&self.path, None)
                .remedy("put the file back, or restore the database from a backup"),
            _ => Error::io(e, "open the table's file", &self.path),
        })
    }

    fn create(&self) -> Result<Arc<dyn File>> {
        let file = self.vfs.open(&self.path, OpenOptions::create());
        let file = file.map_err(|e| Error::io(e, "create the table's file", &self.path))?;
        let header = FileHeader { table: self.table, unit: self.unit }.encode();
        file.write_all_at(&header, 0).map_err(|e| Error::io(e, "write the file's header", &self.path))?;
        Ok(file)
    }

    /// Checks the header and the length of a file as it was found.
    fn check_file(&self, file: &dyn File) -> Result<()> {
        let at = |e: Error| e.at(&self.path, Some(0));
        let len = file.len().map_err(|e| Error::io(e, "ask for the length of the table's file", &self.path))?;
        if len < self.size {
            let message = format!("the file has {len} bytes, its checkpoint says {}", self.size);
            return Err(at(Error::corrupt(message)).remedy("put the whole file back, or restore it from a backup"));
        }
        let mut header = [0; FILE_HEADER];
        file.read_exact_at(&mut header, 0).map_err(|e| Error::io(e, "read the file's header", &self.path))?;
        let header = FileHeader::decode(&header).map_err(at)?;
        if header == (FileHeader { table: self.table, unit: self.unit }) {
            return Ok(());
        }
        let (table, unit) = (header.table.0, header.unit);
        let message = format!("the file is that of table {table} with unit {unit}, not of table {}", self.table.0);
        Err(at(Error::corrupt(message)).remedy("put the right file back, or restore it from a backup"))
    }

    fn buffer(&self) -> Vec<u8> {
        self.spare.lock().pop().unwrap_or_default()
    }

    fn put_back(&self, buf: Vec<u8>) {
        let mut spare = self.spare.lock();
        if spare.len() < SPARE_BUFFERS && buf.capacity() <= SPARE_BYTES {
            spare.push(buf);
        }
    }
}

impl BlockSource for BlockStore {
    fn read_block(&self, addr: BlockAddr) -> Result<Arc<[u8]>> {
        self.read(addr)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl std::fmt::Debug for BlockStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockStore").field("path", &self.path).field("table", &self.table).finish_non_exhaustive()
    }
}
