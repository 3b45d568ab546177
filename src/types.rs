//! The small types that every room shares: sequence numbers, ids, addresses, lineage.
//!
//! Newtypes wherever two numbers could be taken for each other. All of them are plain values; none does I/O.

use std::fmt;
use std::str::FromStr;

use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};

/// The number of a checkpoint: growing, never given twice in one lineage.
///
/// A number has two parts. The *major* part counts checkpoints of the whole database. The *minor* part counts the
/// changes of the catalog (a table created, dropped, renamed) that were made durable between two of them. Blocks of
/// tables are always born under a number whose minor part is 0, so a catalog change, which writes no table, takes a
/// number below every block that the tables have written since their last checkpoint: an increment that starts from it
/// still sees those blocks as new.
///
/// ```
/// use strandline::CheckpointSeq;
/// let seq: CheckpointSeq = "7.2".parse().unwrap();
/// assert!(seq > CheckpointSeq::major(7) && seq < CheckpointSeq::major(8));
/// assert_eq!(seq.to_string(), "7.2");
/// assert_eq!(CheckpointSeq::major(7).to_string(), "7");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CheckpointSeq(u64);

/// Bits of a sequence number that hold its minor part.
const MINOR_BITS: u32 = 20;

impl CheckpointSeq {
    /// Before every checkpoint.
    pub const ZERO: Self = Self(0);

    /// The number of the `n`-th checkpoint of the whole database.
    #[must_use]
    pub const fn major(n: u64) -> Self {
        Self(n << MINOR_BITS)
    }

    /// The number as it is stored.
    #[must_use]
    pub const fn to_raw(self) -> u64 {
        self.0
    }

    /// The number from its stored form.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The smallest number of a checkpoint of the whole database above this one.
    #[must_use]
    pub const fn next_major(self) -> Self {
        Self(((self.0 >> MINOR_BITS) + 1) << MINOR_BITS)
    }

    /// True for the number of a change of the catalog alone.
    #[must_use]
    pub const fn is_minor(self) -> bool {
        self.0 & ((1 << MINOR_BITS) - 1) != 0
    }

    /// The next number for a change of the catalog alone; `None` when the minor part is used up and a checkpoint of the
    /// whole database must come first.
    #[must_use]
    pub const fn next_minor(self) -> Option<Self> {
        let next = self.0 + 1;
        if next & ((1 << MINOR_BITS) - 1) == 0 { None } else { Some(Self(next)) }
    }
}

impl fmt::Display for CheckpointSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = (self.0 >> MINOR_BITS, self.0 & ((1 << MINOR_BITS) - 1));
        if minor == 0 { write!(f, "{major}") } else { write!(f, "{major}.{minor}") }
    }
}

impl fmt::Debug for CheckpointSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{self}")
    }
}

impl FromStr for CheckpointSeq {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("`{text}` is no checkpoint sequence")).remedy("write it as `7` or `7.2`");
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        let major: u64 = major.parse().map_err(|_| bad())?;
        let minor: u64 = minor.parse().map_err(|_| bad())?;
        if major >> (64 - MINOR_BITS) != 0 || minor >> MINOR_BITS != 0 {
            return Err(bad());
        }
        Ok(Self(major << MINOR_BITS | minor))
    }
}

/// The number of a commit. A snapshot is one such number: it sees every commit up to and including it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommitSeq(pub u64);

/// The id of a table and of its file. Never given twice in the life of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u64);

impl TableId {
    /// The catalog's own id.
    pub const CATALOG: Self = Self(0);

    /// The name of the file that holds this table, relative to the home.
    #[must_use]
    pub fn file_name(self) -> String {
        if self == Self::CATALOG { "Strandline.catalog".to_owned() } else { format!("table-{:08}.sl", self.0) }
    }
}

/// Where a block is and how to know it again. Kept by the parent; the block alone is never believed (B4).
///
/// Stored as 24 bytes, little-endian: offset 8, size 4, checksum 4, birth 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockAddr {
    /// Byte offset in the table file.
    pub offset: u64,
    /// Bytes the block takes in the file, its header and padding included: a multiple of the allocation unit.
    pub size: u32,
    /// Checksum of the block, as in its header.
    pub checksum: u32,
    /// The checkpoint for which the block was written.
    pub birth: CheckpointSeq,
}

impl BlockAddr {
    /// Bytes of the stored form.
    pub const ENCODED_LEN: usize = 24;

    /// The bytes of the file that the block takes.
    #[must_use]
    pub const fn extent(&self) -> Extent {
        Extent { offset: self.offset, len: self.size as u64 }
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.offset);
        out.put_u32(self.size);
        out.put_u32(self.checksum);
        out.put_u64(self.birth.to_raw());
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// `Corrupt` when the bytes end first.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { offset: r.u64()?, size: r.u32()?, checksum: r.u32()?, birth: CheckpointSeq::from_raw(r.u64()?) })
    }
}

/// A range of bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

impl Extent {
    /// The first byte after the range.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// The identity of one history of a database. It changes when the history forks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage(pub u64);

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Where an increment starts: a checkpoint of one lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The history that the checkpoint belongs to.
    pub lineage: Lineage,
    /// The checkpoint.
    pub sequence: CheckpointSeq,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.lineage, self.sequence)
    }
}

impl FromStr for Origin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!("`{text}` is no origin")).remedy("write it as a backup printed it: LINEAGE:SEQUENCE")
        };
        let (lineage, sequence) = text.split_once(':').ok_or_else(bad)?;
        if lineage.len() != 16 {
            return Err(bad());
        }
        let lineage = u64::from_str_radix(lineage, 16).map_err(|_| bad())?;
        Ok(Self { lineage: Lineage(lineage), sequence: sequence.parse()? })
    }
}

/// A place in the log: a segment, and a byte of its file. Order of places is order of time.
///
/// Offset 0 stands for the start of a segment that need not exist yet.
///
/// ```
/// use strandline::Lsn;
/// assert!(Lsn { segment: 2, offset: 0 } > Lsn { segment: 1, offset: 4096 });
/// assert_eq!(Lsn { segment: 2, offset: 512 }.to_string(), "2:512");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn {
    /// The segment's number; numbers only grow and are never given twice.
    pub segment: u32,
    /// Byte offset in the segment's file.
    pub offset: u32,
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// Where replay begins: what was committed before it is in the checkpoint that remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogPosition {
    /// The history that wrote the segments from here on; they carry it.
    pub lineage: Lineage,
    /// The first record to replay.
    pub lsn: Lsn,
}

impl LogPosition {
    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.lineage.0);
        out.put_u32(self.lsn.segment);
        out.put_u32(self.lsn.offset);
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// `Corrupt` when the bytes end first.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { lineage: Lineage(r.u64()?), lsn: Lsn { segment: r.u32()?, offset: r.u32()? } })
    }
}
