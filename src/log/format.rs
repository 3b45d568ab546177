//! The bytes of a segment: its header, and the frame of a record.
//!
//! Header, the first allocation unit of the file, written once (numbers little-endian):
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | `STRANDLG` |
//! | 8 | 4 | format version |
//! | 12 | 4 | CRC-32 of the first 512 bytes, this field taken as zero |
//! | 16 | 4 | allocation unit in bytes |
//! | 20 | 4 | number of the segment |
//! | 24 | 8 | lineage |
//! | 32 | 4 | number of the segment that this one continues |
//! | 36 | 4 | where the last record of that segment ends; 0 when this one continues nothing |
//! | 40 | 8 | a number that the process drew which made the segment |
//! | 48 | 8 | that number of the segment that this one continues; 0 when it continues nothing |
//! | 56 | | zeros |
//!
//! Frame of a record, [`RECORD_HEADER`] bytes, followed by the payload:
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | CRC-32 of lineage (8 bytes), segment (4), offset of the record (4), then of the bytes 4 to 20 of the frame |
//! | 4 | 4 | length of the payload, never 0 |
//! | 8 | 4 | where the last record of this segment ends that was durable when this one was written; 0 when there was none |
//! | 12 | 4 | where the record before this one ends; in the first one of a segment the end of the segment's header |
//! | 16 | 4 | CRC-32 of the payload |
//!
//! Lineage and number tell histories apart that forked where somebody saw it. When the files of a home are copied by hand and
//! both go on, nobody sees it, and both write segments of the same lineage and number; the numbers that were drawn differ,
//! so a segment of the one never joins those of the other.
//!
//! A frame proves by itself that it was written here: what a damaged length would claim is never read, and a search for
//! survivors behind a break needs no payloads. The payload's checksum knows no place, so it is computed before a place is
//! taken, outside of every lock.
//!
//! A frame never straddles two units. Where fewer bytes are left in a unit, or where a frame of zeros stands, the next
//! record begins at the next multiple of the unit; a frame of zeros *at* a multiple is the end of what was written. What
//! padding there is needs no trust: the record after it says where the one before it ended.

use crate::codec::{Reader, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{Lineage, Lsn};

/// Bytes of a segment's header that mean something; the smallest unit.
pub const SEGMENT_HEADER: usize = 512;
/// Bytes of the frame before a payload.
pub const RECORD_HEADER: usize = 20;
/// The longest payload, in bytes.
pub const PAYLOAD_MAX: usize = 1 << 31;
/// The version of the log's format that this code writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"STRANDLG";
const PREFIX: &str = "StrandlineLog.";
const DIGITS: usize = 10;

/// The name of a segment's file.
#[must_use]
pub fn segment_name(number: u32) -> String {
    format!("{PREFIX}{number:010}")
}

/// No log comes to this number; a file that claims it is a stranger, and there is always room to count on.
const NUMBERS: u32 = 1 << 30;

/// The number of the segment that a file of this name is; `None` when the name is no segment's.
#[must_use]
pub fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix(PREFIX)?;
    let plain = digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().ok().filter(|n| *n < NUMBERS) } else { None }
}

/// `n` rounded up to a multiple of `unit`, which is a power of two.
pub(super) const fn round_up(n: u64, unit: u32) -> u64 {
    n.next_multiple_of(unit as u64)
}

/// What stands at the start of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Bytes of the allocation unit.
    pub unit: u32,
    /// The number of the segment.
    pub number: u32,
    /// The history that it belongs to.
    pub lineage: Lineage,
    /// Where the records end that the first one here follows; offset 0 when it follows none.
    pub previous: Lsn,
    /// Who made it: a number that every process draws anew.
    pub writer: u64,
    /// Who made the segment of `previous`; 0 when there is none.
    pub previous_writer: u64,
}

impl SegmentHeader {
    /// The stored form: `unit` bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.unit as usize);
        out.extend_from_slice(MAGIC);
        out.put_u32(FORMAT_VERSION);
        out.put_u32(0);
        out.put_u32(self.unit);
        out.put_u32(self.number);
        out.put_u64(self.lineage.0);
        out.put_u32(self.previous.segment);
        out.put_u32(self.previous.offset);
        out.put_u64(self.writer);
        out.put_u64(self.previous_writer);
        out.resize(SEGMENT_HEADER, 0);
        let crc = crc32fast::hash(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out.resize(self.unit as usize, 0);
        out
    }

    /// Reads the stored form; `bytes` may go on after it.
    ///
    /// # Errors
    /// `Corrupt` for anything but a whole header; `Unsupported` for a newer format version, which is named.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let Some(bytes) = bytes.get(..SEGMENT_HEADER) else {
            return Err(Error::corrupt("the file is too short for the header of a log segment"));
        };
        let mut r = Reader::new(bytes);
        if r.take(8)? != MAGIC {
            return Err(Error::corrupt("this is no log segment: it does not begin with `STRANDLG`"));
        }
        let (version, stored) = (r.u32()?, r.u32()?);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..12]);
        crc.update(&[0; 4]);
        crc.update(&bytes[16..]);
        if crc.finalize() != stored {
            return Err(Error::corrupt("the checksum of the log segment's header does not match"));
        }
        if version != FORMAT_VERSION {
            let message = format!("the log segment has format version {version}; this program reads {FORMAT_VERSION}");
            return Err(Error::new(ErrorKind::Unsupported, message).remedy("open it with the version that wrote it"));
        }
        let (unit, number, lineage) = (r.u32()?, r.u32()?, Lineage(r.u64()?));
        let previous = Lsn { segment: r.u32()?, offset: r.u32()? };
        if !unit.is_power_of_two() || (unit as usize) < SEGMENT_HEADER || unit > 1 << 20 {
            return Err(Error::corrupt(format!("the log segment's allocation unit is {unit} bytes")));
        }
        if previous.offset != 0 && previous.segment >= number {
            return Err(Error::corrupt(format!("log segment {number} says that it continues {previous}")));
        }
        Ok(Self { unit, number, lineage, previous, writer: r.u64()?, previous_writer: r.u64()? })
    }

    /// What makes the frames of this segment differ from those of all others.
    #[must_use]
    pub fn seed(&self) -> Seed {
        Seed::new(self.lineage, self.number)
    }
}

/// The part of a frame's checksum that a segment's records share.
#[derive(Clone, Debug)]
pub struct Seed(crc32fast::Hasher);

impl Seed {
    /// That of one segment.
    #[must_use]
    pub fn new(lineage: Lineage, segment: u32) -> Self {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&lineage.0.to_le_bytes());
        crc.update(&segment.to_le_bytes());
        Self(crc)
    }

    fn sum(&self, offset: u32, fields: &[u8]) -> u32 {
        let mut crc = self.0.clone();
        crc.update(&offset.to_le_bytes());
        crc.update(fields);
        crc.finalize()
    }
}

/// What a record says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of the payload.
    pub length: u32,
    /// Where the last record ends that was durable when this one was written; 0 when there was none in the segment.
    pub synced: u32,
    /// Where the record before this one ends.
    pub previous: u32,
    /// Checksum of the payload.
    pub payload_crc: u32,
}

/// What stands where a record may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Zeros.
    Empty,
    /// A frame that was written here.
    Record(RecordHeader),
    /// Something else.
    Broken,
}

impl RecordHeader {
    /// The stored form of the frame at `offset`.
    #[must_use]
    pub fn encode(&self, seed: &Seed, offset: u32) -> [u8; RECORD_HEADER] {
        let mut out = [0; RECORD_HEADER];
        let fields = [self.length, self.synced, self.previous, self.payload_crc];
        for (at, field) in (4..).step_by(4).zip(fields) {
            out[at..at + 4].copy_from_slice(&field.to_le_bytes());
        }
        let crc = seed.sum(offset, &out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// What the bytes at `offset` are.
    #[must_use]
    pub fn decode(bytes: &[u8; RECORD_HEADER], seed: &Seed, offset: u32) -> Frame {
        let field = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let header = Self { length: field(4), synced: field(8), previous: field(12), payload_crc: field(16) };
        if bytes.iter().all(|b| *b == 0) {
            return Frame::Empty;
        }
        let sane = (1..=PAYLOAD_MAX).contains(&(header.length as usize))
            && header.previous <= offset
            && header.synced <= header.previous;
        if sane && field(0) == seed.sum(offset, &bytes[4..]) { Frame::Record(header) } else { Frame::Broken }
    }

    /// The first byte after the payload of a record at `offset`.
    #[must_use]
    pub const fn end(&self, offset: u32) -> u64 {
        offset as u64 + RECORD_HEADER as u64 + self.length as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(segment_name(7), "StrandlineLog.0000000007");
        for number in [0, 1, 99, NUMBERS - 1] {
            assert_eq!(segment_number(&segment_name(number)), Some(number));
        }
        for bad in [
            "StrandlineLog.7",
            "StrandlineLog.1073741824",
            "StrandlineLog.4294967296",
            "StrandlineLog.+000000007",
            "StrandlineLog.0000000007.copy",
        ] {
            assert_eq!(segment_number(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let header = SegmentHeader {
            unit: 512,
            number: 9,
            lineage: Lineage(3),
            previous: Lsn { segment: 8, offset: 700 },
            writer: 5,
            previous_writer: 4,
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes).unwrap(), header);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bad).unwrap_err().kind(), ErrorKind::Corrupt, "bit {bit}");
        }
        let mut newer = bytes;
        newer[8] = 2;
        newer[12..16].fill(0);
        let crc = crc32fast::hash(&newer[..SEGMENT_HEADER]);
        newer[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&newer).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_frame_holds_at_its_place_only() {
        let header = RecordHeader { length: 9, synced: 512, previous: 600, payload_crc: 77 };
        let seed = Seed::new(Lineage(1), 2);
        let bytes = header.encode(&seed, 1024);
        assert_eq!(RecordHeader::decode(&bytes, &seed, 1024), Frame::Record(header));
        for (lineage, number, offset) in [(1, 2, 1536), (1, 3, 1024), (2, 2, 1024)] {
            let other = Seed::new(Lineage(lineage), number);
            assert_eq!(RecordHeader::decode(&bytes, &other, offset), Frame::Broken);
        }
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&bad, &seed, 1024), Frame::Broken, "bit {bit}");
        }
        assert_eq!(RecordHeader::decode(&[0; RECORD_HEADER], &seed, 1024), Frame::Empty);
    }
}
