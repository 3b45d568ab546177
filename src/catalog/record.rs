//! The records that say where everything is: one checkpoint, and the root record of the database.
//!
//! ```text
//! CheckpointRecord                       RootRecord
//!   u64     sequence                       8 bytes  magic "STRANDRT"
//!   u8      1 if named, then the name      u32      format version
//!   u64     time, ms since 1970            u32      length of what follows, without the checksum
//!   u64     bytes of live blocks           u64      generation
//!   u8      1 if the catalog has rows,     settings (unit u32, contract u8, log)
//!           then its tree root             u64      lineage
//!   u8      1 if there is a list block,    varint   forks, each: u64 lineage, u64 last sequence of it
//!           then its address               u64      highest sequence ever given out
//!   u64     bytes of the catalog file      u64      next table id
//!   u8      1 if there is a log, then      u32      next log segment
//!           lineage u64, segment u32,      u8       1 if restored, then u64 backup id
//!           offset u32                     u8       1 if a full backup went out with the log, then
//!                                                   lineage u64, segment u32, offset u32
//!                                          CheckpointRecord  the newest checkpoint
//!                                          u8       1 if pinned, then u64 backup id, CheckpointRecord
//!                                          u32      CRC-32 of all before it and of the slot's number
//! ```
//!
//! Integers are little-endian. The version stands before the checksum and is believed only when the checksum agrees:
//! a torn slot must not look like a newer format.

use std::collections::BTreeMap;

use crate::btree::TreeRoot;
use crate::codec::{Reader, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::options::Settings;
use crate::types::{BlockAddr, CheckpointSeq, Lineage, LogPosition, Origin};

/// The format that this build writes; a file of a higher version is refused with `Unsupported`.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes of one slot. A record never outgrows it: names are limited, and so is the ancestry that is kept.
pub const SLOT_BYTES: usize = 4096;

/// How many forks of history are remembered; an origin from before them is refused like a foreign one.
const FORKS_MAX: usize = 64;

/// The longest name of a checkpoint or a table, in bytes.
pub const NAME_MAX: usize = 255;

const MAGIC: &[u8; 8] = b"STRANDRT";

/// One completed checkpoint: everything that is needed to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRecord {
    /// Its number.
    pub seq: CheckpointSeq,
    /// Its name; `None` for an unnamed one.
    pub name: Option<String>,
    /// When it was taken, in milliseconds since 1970; for people only.
    pub time_ms: u64,
    /// Bytes of blocks that it reaches, over all files.
    pub bytes: u64,
    /// The root of the catalog; `None` while the catalog is empty.
    pub catalog: Option<TreeRoot>,
    /// Where the lists of the catalog's own file are ([`super::Lists`]).
    pub lists: Option<BlockAddr>,
    /// Bytes of the catalog's file that belong to this checkpoint.
    pub catalog_bytes: u64,
    /// Where replay begins on top of it (C3); `None` when there is no log.
    pub log: Option<LogPosition>,
}

impl CheckpointRecord {
    /// The checkpoint before all others: an empty database.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            seq: CheckpointSeq::ZERO,
            name: None,
            time_ms: 0,
            bytes: 0,
            catalog: None,
            lists: None,
            catalog_bytes: 0,
            log: None,
        }
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.seq.to_raw());
        put_option(out, self.name.as_ref(), |out, name| out.put_bytes(name.as_bytes()));
        out.put_u64(self.time_ms);
        out.put_u64(self.bytes);
        put_option(out, self.catalog.as_ref(), |out, root| root.encode(out));
        put_option(out, self.lists.as_ref(), |out, addr| addr.encode(out));
        out.put_u64(self.catalog_bytes);
        put_option(out, self.log.as_ref(), |out, log| log.encode(out));
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// `Corrupt` when the bytes were not written by [`CheckpointRecord::encode`].
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let seq = CheckpointSeq::from_raw(r.u64()?);
        let name = take_option(r, |r| r.text().map(str::to_owned))?;
        if name.as_ref().is_some_and(|n| n.is_empty() || n.len() > NAME_MAX) {
            return Err(Error::corrupt("a checkpoint name is empty or too long"));
        }
        Ok(Self {
            seq,
            name,
            time_ms: r.u64()?,
            bytes: r.u64()?,
            catalog: take_option(r, TreeRoot::decode)?,
            lists: take_option(r, BlockAddr::decode)?,
            catalog_bytes: r.u64()?,
            log: take_option(r, LogPosition::decode)?,
        })
    }
}

/// A backup that was open when the record was written, and the checkpoint that recovery must fall back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedRoot {
    /// The backup's id, as in its manifest.
    pub backup: u64,
    /// The newest checkpoint that was complete when the backup was opened.
    pub record: CheckpointRecord,
}

/// The one record that says what is true (R1, R2). Everything that it reaches was synced before it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootRecord {
    /// Counts the records written; of two valid slots the higher one holds.
    pub generation: u64,
    /// What was decided when the database was made.
    pub settings: Settings,
    /// The history that goes on.
    pub lineage: Lineage,
    /// The histories it came from, oldest first: each with the last of its checkpoints that belongs to this one too.
    pub forks: Vec<Origin>,
    /// No checkpoint of this lineage ever had a higher number.
    pub max_seq: CheckpointSeq,
    /// The id that the next table gets.
    pub next_table: u64,
    /// No log segment of this database ever had this number or a higher one while there was no log; with a log, the
    /// segments that there are count too.
    pub next_segment: u32,
    /// The backup whose copy this database was restored from, until its manifest is gone.
    pub restored_from: Option<u64>,
    /// Where the log of the newest full backup begins that was opened while the log is kept: increments from the log build on
    /// that copy as long as the log goes on.
    pub backed_up_from: Option<LogPosition>,
    /// The newest complete checkpoint.
    pub newest: CheckpointRecord,
    /// Set while a backup is open under [`crate::options::Contract::Pinned`].
    pub pinned: Option<PinnedRoot>,
}

impl RootRecord {
    /// The record of a new, empty database.
    #[must_use]
    pub const fn new(settings: Settings, lineage: Lineage) -> Self {
        Self {
            generation: 1,
            settings,
            lineage,
            forks: Vec::new(),
            max_seq: CheckpointSeq::ZERO,
            next_table: 1,
            next_segment: 1,
            restored_from: None,
            backed_up_from: None,
            newest: CheckpointRecord::empty(),
            pinned: None,
        }
    }

    /// Remembers that `lineage` forks after `seq` and goes on as `next`.
    pub fn fork(&mut self, next: Lineage) {
        self.forks.push(Origin { lineage: self.lineage, sequence: self.newest.seq });
        let surplus = self.forks.len().saturating_sub(FORKS_MAX);
        self.forks.drain(..surplus);
        self.lineage = next;
    }

    /// The last checkpoint that this history and another went through together, if they ever were one; of one lineage with
    /// no fork between them, any number that both may have.
    #[must_use]
    pub fn common(&self, other: &Self) -> Option<CheckpointSeq> {
        let mine = self.path();
        let theirs = other.path();
        let both = mine.iter().filter_map(|(lineage, last)| theirs.get(lineage).map(|other| *last.min(other)));
        both.max()
    }

    /// The lineages that the history went through, each up to a sequence.
    fn path(&self) -> BTreeMap<Lineage, CheckpointSeq> {
        let mut last = CheckpointSeq::from_raw(u64::MAX);
        let mut path = BTreeMap::from([(self.lineage, last)]);
        for fork in self.forks.iter().rev() {
            // A later fork may have gone back behind an earlier one.
            last = last.min(fork.sequence);
            path.insert(fork.lineage, last);
        }
        path
    }

    /// The bytes of slot number `slot`: the record, zeros up to [`SLOT_BYTES`].
    #[must_use]
    pub fn encode(&self, slot: u8) -> Vec<u8> {
        let mut body = Vec::with_capacity(512);
        body.put_u64(self.generation);
        self.settings.encode(&mut body);
        body.put_u64(self.lineage.0);
        body.put_varint(self.forks.len() as u64);
        for fork in &self.forks {
            body.put_u64(fork.lineage.0);
            body.put_u64(fork.sequence.to_raw());
        }
        body.put_u64(self.max_seq.to_raw());
        body.put_u64(self.next_table);
        body.put_u32(self.next_segment);
        put_option(&mut body, self.restored_from.as_ref(), |out, id| out.put_u64(*id));
        put_option(&mut body, self.backed_up_from.as_ref(), |out, log| log.encode(out));
        self.newest.encode(&mut body);
        put_option(&mut body, self.pinned.as_ref(), |out, pinned| {
            out.put_u64(pinned.backup);
            pinned.record.encode(out);
        });
        let mut out = Vec::with_capacity(SLOT_BYTES);
        out.extend_from_slice(MAGIC);
        out.put_u32(FORMAT_VERSION);
        out.put_u32(body.len() as u32);
        out.extend_from_slice(&body);
        let crc = checksum(&out, slot);
        out.put_u32(crc);
        assert!(out.len() <= SLOT_BYTES, "a root record outgrew its slot: {} bytes", out.len());
        out.resize(SLOT_BYTES, 0);
        out
    }

    /// Reads slot number `slot`.
    ///
    /// # Errors
    /// `Unsupported` for a whole record of a newer format; `Corrupt` for anything else that was not written by
    /// [`RootRecord::encode`] for this very slot.
    pub fn decode(bytes: &[u8], slot: u8) -> Result<Self> {
        let mut r = Reader::new(bytes);
        if r.take(MAGIC.len())? != MAGIC {
            return Err(Error::corrupt("the slot does not begin with the mark of a root record"));
        }
        let version = r.u32()?;
        let len = r.u32()? as usize;
        let body = r.take(len)?;
        let end = r.position();
        if r.u32()? != checksum(&bytes[..end], slot) {
            return Err(Error::corrupt("the checksum of the root record differs"));
        }
        if version != FORMAT_VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the root record has format version {version}, this build reads {FORMAT_VERSION}"),
            )
            .remedy("open it with the release that wrote it, or a newer one"));
        }
        Self::decode_body(&mut Reader::new(body))
    }

    fn decode_body(r: &mut Reader<'_>) -> Result<Self> {
        let generation = r.u64()?;
        let settings = Settings::decode(r)?;
        let lineage = Lineage(r.u64()?);
        let count = r.varint()?;
        if count > FORKS_MAX as u64 {
            return Err(Error::corrupt(format!("{count} forks of history")));
        }
        let mut forks = Vec::with_capacity(count as usize);
        for _ in 0..count {
            forks.push(Origin { lineage: Lineage(r.u64()?), sequence: CheckpointSeq::from_raw(r.u64()?) });
        }
        let record = Self {
            generation,
            settings,
            lineage,
            forks,
            max_seq: CheckpointSeq::from_raw(r.u64()?),
            next_table: r.u64()?,
            next_segment: r.u32()?,
            restored_from: take_option(r, Reader::u64)?,
            backed_up_from: take_option(r, LogPosition::decode)?,
            newest: CheckpointRecord::decode(r)?,
            pinned: take_option(r, |r| Ok(PinnedRoot { backup: r.u64()?, record: CheckpointRecord::decode(r)? }))?,
        };
        r.clone().finish()?;
        record.check()?;
        Ok(record)
    }

    /// Numbers only grow, and none is ever near the end of its range: there must be room to count on.
    fn check(&self) -> Result<()> {
        let room = 1 << 62;
        let pinned = self.pinned.as_ref().map_or(CheckpointSeq::ZERO, |p| p.record.seq);
        let highest = self.max_seq.max(self.newest.seq).max(pinned).to_raw();
        let positions = [Some(&self.newest), self.pinned.as_ref().map(|p| &p.record)].into_iter().flatten();
        let segment = positions.filter_map(|c| c.log).map(|log| log.lsn.segment).fold(self.next_segment, u32::max);
        if highest < room && self.generation < room && self.next_table < room && segment < 1 << 31 {
            Ok(())
        } else {
            Err(Error::corrupt("a number in the root record is larger than any that was ever given"))
        }
    }
}

/// CRC-32 of a record and of the slot it stands in, so that a slot copied over the other is not believed.
fn checksum(record: &[u8], slot: u8) -> u32 {
    let mut h = crc32fast::Hasher::new();
    h.update(record);
    h.update(&[slot]);
    h.finalize()
}

/// Appends one byte that says whether a value follows, and the value.
pub(super) fn put_option<T>(out: &mut Vec<u8>, value: Option<&T>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

/// Reads what [`put_option`] wrote.
pub(super) fn take_option<'a, T>(
    r: &mut Reader<'a>,
    take: impl FnOnce(&mut Reader<'a>) -> Result<T>,
) -> Result<Option<T>> {
    match r.u8()? {
        0 => Ok(None),
        1 => take(r).map(Some),
        n => Err(Error::corrupt(format!("{n} where 0 or 1 must stand"))),
    }
}
