//! What the comparison asks of every store, and the stores.
//!
//! Problem. The peers differ in threads, handles and lifetimes: one has a
//! connection per thread, one a reader bound to a thread, one a single writer.
//!
//! Algorithm. An [`Engine`] is an open store shared by threads; a [`Session`]
//! is one thread's hold on it. A session's calls are whole transactions, so
//! that each store uses its own best form of one; the calls are large enough
//! (up to 1000 rows) or dear enough that the virtual call is noise.
//!
//! Terms, the same for all:
//! - `write` is one atomic commit, visible to all when it returns. What else it
//!   has promised then says [`Promise`]; where nothing is said, nothing: it is
//!   not synced and need not have left the process.
//! - a commit that survives loss of power has been synced, by whoever did it:
//!   `strace -f -e trace=fsync,fdatasync,msync,openat` shows it for each store.
//!   SQLite, fjall, RocksDB, canopydb and Strandline append to a log; redb
//!   syncs its file once a commit, LMDB its file, and its head through a
//!   descriptor that syncs at each write.
//! - `make_durable` returns when every earlier commit survives loss of power.
//! - `get` and `scan` read one snapshot.
//! - the cache of each is as large as [`Settings::cache_bytes`]; LMDB has none
//!   of its own and is left out where the cache is the question.

use std::path::Path;

use anyhow::Result;

#[cfg(feature = "canopydb")]
mod canopydb;
mod fjall;
mod lmdb;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sqlite;
mod strandline;

/// One change of a commit.
#[derive(Clone, Copy)]
pub enum Write<'a> {
    /// Store a value under a key, whether or not there is one.
    Put(&'a [u8], &'a [u8]),
    /// Take away a key that is there.
    Delete(&'a [u8]),
}

/// What a commit has promised when it returns, beside that all can see it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Nothing, in the fastest way the store has for that.
    Nothing,
    /// Nothing, but the store keeps a log, if it can, and the commit is in it soon.
    Soon,
    /// It survives a kill of the process.
    Process,
    /// It survives loss of power.
    Power,
}

/// How to open a store.
#[derive(Clone, Copy)]
pub struct Settings {
    /// What a commit promises.
    pub promise: Promise,
    /// Whether the log may be cut short meanwhile, for those that can be told.
    pub checkpoints: bool,
    /// Bytes the store may keep in memory.
    pub cache_bytes: usize,
    /// Bytes the store may come to hold, for those that must know.
    pub room_bytes: usize,
}

/// An open store.
pub trait Engine: Sync {
    /// One thread's hold on the store.
    fn session(&self) -> Result<Box<dyn Session + '_>>;

    /// Fills the empty store with rows in key order, in the fastest way the
    /// store offers for it. Not synced unless that way always syncs.
    fn load<'a>(&self, rows: &mut dyn Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()>;

    /// Returns when every earlier commit survives loss of power.
    fn make_durable(&self) -> Result<()>;

    /// Copies the store, while in use, into the empty directory `to`.
    fn backup(&self, to: &Path) -> Result<()>;

    /// Copies what changed since the last `backup` or `increment` of this
    /// handle, while in use, into the empty directory `to`.
    fn increment(&self, to: &Path) -> Result<()> {
        anyhow::bail!("this store has no increments: nothing goes to {}", to.display())
    }

    /// What the store's log has come to so far, for those that tell.
    fn log(&self) -> Option<LogFigures> {
        None
    }

    /// Closes the store in good order.
    fn close(self: Box<Self>) -> Result<()>;
}

/// What a log has come to.
#[derive(Clone, Copy)]
pub struct LogFigures {
    /// Commits in it.
    pub commits: u64,
    /// Syncs of it.
    pub syncs: u64,
    /// Bytes written to it.
    pub bytes: u64,
}

/// One thread's hold on a store.
pub trait Session {
    /// One commit.
    fn write(&mut self, batch: &[Write<'_>]) -> Result<()>;

    /// Reads each key in one snapshot and hands every answer, in order.
    fn get(&mut self, keys: &[&[u8]], each: &mut dyn FnMut(Option<&[u8]>)) -> Result<()>;

    /// Reads up to `limit` rows from `from` on in key order.
    fn scan(&mut self, from: &[u8], limit: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize>;
}

/// Where a commit is that was not synced, when the process is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AfterKill {
    /// Nowhere.
    Lost,
    /// In its place.
    There,
    /// In a log that the next open replays.
    Logged,
}

/// A store that takes part.
pub struct Peer {
    /// The name in the table and for `--peers`.
    pub name: &'static str,
    /// Opens the store in a directory, creating it if it is not there.
    pub open: fn(&Path, Settings) -> Result<Box<dyn Engine>>,
    /// Whether it has a cache of its own that can be bounded.
    pub has_cache: bool,
    /// Where a commit with [`Promise::Process`] is when the process was killed.
    pub after_kill: AfterKill,
    /// Whether it can copy itself while in use.
    pub has_backup: bool,
    /// Whether it can copy only what changed since its last copy.
    pub has_increments: bool,
}

/// All stores this program was built with, ours first.
pub fn peers() -> Vec<Peer> {
    vec![
        strandline::PEER,
        lmdb::PEER,
        redb::PEER,
        fjall::PEER,
        sqlite::PEER,
        #[cfg(feature = "rocksdb")]
        rocksdb::PEER,
        #[cfg(feature = "canopydb")]
        canopydb::PEER,
    ]
}
