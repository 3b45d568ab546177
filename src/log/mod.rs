//! The write-ahead log: numbered segment files, appended to by many, synced by one for all.
//!
//! # The problem
//! A commit that returned must survive a crash, a commit must cost one write and one sync and not one of each per
//! participant, and after a crash the reader must tell a tail that was never acknowledged from damage to what was.
//!
//! # The parts
//! - `format`: the header of a segment and the frame of a record.
//! - `segment`: what is done to one file: made, lengthened, finished.
//! - `state`: the accounting in memory: where the next record goes, what is written, what is durable, what was asked for.
//! - `writer`: [`Log`]: appending, group commit, switching.
//! - `retention`: which closed segments may go.
//! - `chain`: which segments of a directory are a log, and in what order.
//! - `walk`: the records of one segment, one after the other, and what follows where they break.
//! - `scan`: [`survey`] and [`Scanner`]: what a log holds, read back after a crash or from a copy.
//! - `file`: [`SegmentReader`]: one segment by itself, for those who only look.
//!
//! # How it works
//! An append takes its place in a buffer under a short lock; the order of appends is the order of the log. Whoever waits
//! first for durability becomes the *leader*: it takes the whole buffer, writes it, syncs once, and wakes all that it
//! covered. What is appended meanwhile forms the next round. Space is taken and filled with zeros ahead, so a round
//! overwrites and the file system's own journal stays out of it; a full device is met there, before a record is accepted.
//! More is taken when little is left, by one while the others still find room.
//!
//! A segment that was made is *noted* outside of the log before a record stands in it ([`Notes`]): nothing in a log
//! tells that its last segment is gone, and all that was acknowledged in it.
//!
//! A segment is written by the process that made it, and only forward: after a recovery a new one is begun. Its header
//! says where the records end that it continues, so the end of every segment but the last is known exactly, and numbers
//! may be passed over.
//!
//! # Torn or damaged
//! Where the chain of records breaks, everything acknowledged may have been before it: a torn tail, which is normal. It is
//! damage when anything says that bytes behind the break were durable once: a later segment, which is made only when the
//! one before is finished, or a later record, which says how far the log was durable when it was written. Rot in the very
//! last synced round cannot be told from a torn write, in this or any log.
//!
//! # Invariants
//! - **L1** No gaps: every record says where the one before it ended, every segment which one it continues.
//! - **L2** A commit of level `Sync` returns only after its bytes are synced; after a failed write or sync nothing does.
//! - **L3** A segment goes only when nobody needs it: not the current one, none that is held, the oldest first.
//! - **L4** Only the last segment may end torn.
//! - **L6** Bytes once synced are never written again: synced rounds are padded to the unit, and the next begins there.

mod chain;
mod file;
mod format;
mod retention;
mod scan;
mod segment;
mod state;
#[cfg(test)]
mod tests;
mod walk;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use strandline_vfs::Vfs;

use crate::error::Result;
use crate::types::{Lineage, Lsn};

pub use chain::gone;
pub use file::{SegmentReader, holds_records, segments};
pub use format::{
    FORMAT_VERSION, Frame, PAYLOAD_MAX, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, Seed, SegmentHeader, segment_name,
    segment_number,
};
pub use retention::Hold;
pub use scan::{LogEnd, ScanOptions, Scanner, Torn, seal_tail, survey};
pub use writer::{Log, Reservation};

/// How a log is begun.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The file system.
    pub vfs: Arc<dyn Vfs>,
    /// The directory of the segments; it exists.
    pub dir: PathBuf,
    /// The history that the segments belong to.
    pub lineage: Lineage,
    /// Allocation unit in bytes, as in the settings.
    pub unit: u32,
    /// A segment is closed before it gets larger than this, in bytes.
    pub segment_bytes: u64,
    /// Number of the first segment to be made: above all that ever existed.
    pub next: u32,
    /// Where the records end that the first one follows, as [`survey`] found it; offset 0 when it follows none.
    pub previous: Lsn,
    /// Who made the segment of `previous`, as [`survey`] found it; 0 when there is none.
    pub previous_writer: u64,
    /// A number that no other process draws: what it wrote is known by that.
    pub writer: u64,
    /// Older segments that exist, ascending.
    pub kept: Vec<SegmentInfo>,
    /// A survey whose last records may not be durable, and that nothing has made durable since: done before the first
    /// append, so that no segment ever continues what a power cut can take away. `next` and `previous` are the survey's.
    pub doubt: Option<(ScanOptions, LogEnd)>,
}

/// What is remembered of a log outside of it.
pub trait Notes: Send + Sync {
    /// The segment was made: it is durable, and no record stands in it yet. Must be durable when it returns, and wait for
    /// nobody.
    ///
    /// # Errors
    /// `Io`: for want of space the segment is not used, and otherwise the log is poisoned.
    fn made(&self, number: u32) -> Result<()>;

    /// The log was closed with success, and its last record ends there.
    ///
    /// # Errors
    /// `Io`.
    fn closed(&self, end: Lsn) -> Result<()>;
}

/// A segment that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub number: u32,
    /// Its file.
    pub path: PathBuf,
    /// Length of the file in bytes; of the current segment the space that it has taken.
    pub bytes: u64,
}

/// What a commit waits for: everything up to its own record that was to be written or synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    written: Lsn,
    synced: Lsn,
    end: Lsn,
}

impl Ticket {
    /// Where the record ends; for [`Log::pending`] where the log ended.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        self.end
    }
}

/// What a log has done since it was begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records appended.
    pub records: u64,
    /// Bytes of their frames and payloads.
    pub bytes: u64,
    /// Bytes written to files, headers and padding included, zeros to take space not.
    pub written: u64,
    /// Bytes of space taken ahead.
    pub taken: u64,
    /// Syncs of files, not of directories.
    pub syncs: u64,
    /// Segments made.
    pub segments: u64,
    /// How often a record came for which there was no room, so that space was taken, or segments changed, while it waited.
    pub short: u64,
}
