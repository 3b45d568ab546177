//! The bytes of a table file: its header, and the header of each block.
//!
//! File header, the first [`FILE_HEADER`] bytes, written once and never again (numbers little-endian):
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | `STRANDTB` |
//! | 8 | 4 | format version |
//! | 12 | 4 | CRC-32 of the 4096 bytes, this field taken as zero |
//! | 16 | 8 | table id |
//! | 24 | 4 | allocation unit in bytes |
//! | 28 | | zeros |
//!
//! The first 16 bytes and the reach of the checksum are the same in every format version, so a rotten version is told
//! from a new one. Block header, [`BLOCK_HEADER`] bytes, followed by the body and zeros up to the size:
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 2 | `SB` |
//! | 2 | 2 | zeros, for later use |
//! | 4 | 4 | CRC-32 of the offset (8 bytes), then of the block without this field, padding included |
//! | 8 | 4 | size of the block in the file |
//! | 12 | 4 | length of the body |
//! | 16 | 8 | table id |
//! | 24 | 8 | birth |
//!
//! - B4: a block is believed only if offset, size, table, birth and both checksums (its own and the one in the address)
//!   agree. The offset is covered by the checksum although it is not stored: a block that the disk put in the wrong
//!   place fails, and so does an intact block of another file or time.

use crate::codec::{Reader, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{BlockAddr, CheckpointSeq, TableId};

/// Bytes of the file header.
pub const FILE_HEADER: usize = 4096;
/// Bytes of a block's header.
pub const BLOCK_HEADER: usize = 32;
/// The largest block, header and padding included, in bytes.
pub const MAX_BLOCK: u32 = 1 << 30;
/// The version of the table file's format that this code writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

const FILE_MAGIC: &[u8; 8] = b"STRANDTB";
const BLOCK_MAGIC: &[u8; 2] = b"SB";
const CRC_AT: std::ops::Range<usize> = 4..8;

/// What stands at the start of a table file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The table that the file belongs to.
    pub table: TableId,
    /// Bytes of the allocation unit.
    pub unit: u32,
}

impl FileHeader {
    /// The stored form, [`FILE_HEADER`] bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FILE_HEADER);
        out.extend_from_slice(FILE_MAGIC);
        out.put_u32(FORMAT_VERSION);
        out.put_u32(0);
        out.put_u64(self.table.0);
        out.put_u32(self.unit);
        out.resize(FILE_HEADER, 0);
        let crc = crc32fast::hash(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the stored form; `bytes` may go on after it.
    ///
    /// # Errors
    /// `Corrupt` for anything but a whole header; `Unsupported` for a newer format version, which is named.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let remedy = "restore the file from a backup";
        let Some(bytes) = bytes.get(..FILE_HEADER) else {
            return Err(Error::corrupt("the file is too short for a table file's header").remedy(remedy));
        };
        let mut r = Reader::new(bytes);
        if r.take(8)? != FILE_MAGIC {
            return Err(Error::corrupt("this is no table file: it does not begin with `STRANDTB`").remedy(remedy));
        }
        let (version, stored) = (r.u32()?, r.u32()?);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..12]);
        crc.update(&[0; 4]);
        crc.update(&bytes[16..]);
        if crc.finalize() != stored {
            return Err(Error::corrupt("the checksum of the table file's header does not match").remedy(remedy));
        }
        if version != FORMAT_VERSION {
            let message = format!("the table file has format version {version}; this program reads {FORMAT_VERSION}");
            return Err(Error::new(ErrorKind::Unsupported, message).remedy("open it with the version that wrote it"));
        }
        let header = Self { table: TableId(r.u64()?), unit: r.u32()? };
        check_unit(header.unit).map_err(|e| Error::corrupt(e.message()).remedy(remedy))?;
        Ok(header)
    }
}

/// What a block says of itself. Nothing of it is proven before [`check_block`] agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// The table that it belongs to.
    pub table: TableId,
    /// The address that a parent would have for it.
    pub addr: BlockAddr,
    /// Bytes of the body.
    pub body_len: u32,
}

impl BlockHeader {
    /// Reads the header of the block at `offset`; `bytes` may go on after it.
    ///
    /// # Errors
    /// `Corrupt` when no block begins here: no magic, or sizes that cannot be.
    pub fn decode(bytes: &[u8], offset: u64) -> Result<Self> {
        let mut r = Reader::new(bytes);
        if r.take(2)? != BLOCK_MAGIC {
            return Err(Error::corrupt("no block begins here"));
        }
        let (_reserved, checksum, size, body_len) = (r.u16()?, r.u32()?, r.u32()?, r.u32()?);
        let (table, birth) = (TableId(r.u64()?), CheckpointSeq::from_raw(r.u64()?));
        if size > MAX_BLOCK || body_len as usize > body_capacity(size) {
            return Err(Error::corrupt(format!("the block says it has {size} bytes, and its body {body_len}")));
        }
        Ok(Self { table, addr: BlockAddr { offset, size, checksum, birth }, body_len })
    }
}

/// The most bytes that the body of a block of `size` bytes can have.
#[must_use]
pub const fn body_capacity(size: u32) -> usize {
    (size as usize).saturating_sub(BLOCK_HEADER)
}

/// Refuses an allocation unit that is no power of two from 512 bytes to 1 MiB.
///
/// # Errors
/// `InvalidArgument`.
pub fn check_unit(unit: u32) -> Result<()> {
    if unit.is_power_of_two() && (512..=1 << 20).contains(&unit) {
        Ok(())
    } else {
        Err(Error::invalid(format!("{unit} bytes is no allocation unit"))
            .remedy("choose a power of two from 512 bytes to 1 MiB; 4096 suits most devices"))
    }
}

/// Where the first block of a file may stand: after the header, at a multiple of the unit.
#[must_use]
pub const fn data_start(unit: u32) -> u64 {
    if unit as usize > FILE_HEADER { unit as u64 } else { FILE_HEADER as u64 }
}

/// The size in the file of a block whose body has `body` bytes.
///
/// # Errors
/// `InvalidArgument` above [`MAX_BLOCK`].
pub fn block_size(body: usize, unit: u32) -> Result<u32> {
    let size = (body as u64 + BLOCK_HEADER as u64).next_multiple_of(u64::from(unit));
    u32::try_from(size).ok().filter(|s| *s <= MAX_BLOCK).ok_or_else(|| {
        Error::invalid(format!("a block of {size} bytes is larger than the limit of {MAX_BLOCK}"))
            .remedy("store the value in several pieces")
    })
}

/// Encodes a block of `size` bytes at `offset` into `out`, whose old contents go, and returns its address.
pub fn encode_block(
    out: &mut Vec<u8>,
    body: &[u8],
    (offset, size): (u64, u32),
    table: TableId,
    birth: CheckpointSeq,
) -> BlockAddr {
    out.clear();
    out.reserve(size as usize);
    out.extend_from_slice(BLOCK_MAGIC);
    out.put_u16(0);
    out.put_u32(0);
    out.put_u32(size);
    out.put_u32(body.len() as u32);
    out.put_u64(table.0);
    out.put_u64(birth.to_raw());
    out.extend_from_slice(body);
    out.resize(size as usize, 0);
    let checksum = checksum(out, offset);
    out[CRC_AT].copy_from_slice(&checksum.to_le_bytes());
    BlockAddr { offset, size, checksum, birth }
}

fn checksum(block: &[u8], offset: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&offset.to_le_bytes());
    crc.update(&block[..CRC_AT.start]);
    crc.update(&block[CRC_AT.end..]);
    crc.finalize()
}

/// Checks the bytes read at `addr` (B4) and returns the body.
///
/// # Errors
/// `Corrupt`, saying which of the checks failed.
pub fn check_block<'a>(block: &'a [u8], addr: &BlockAddr, table: TableId) -> Result<&'a [u8]> {
    if block.len() != addr.size as usize || block.len() < BLOCK_HEADER {
        return Err(Error::corrupt(format!("{} bytes are no block of {} bytes", block.len(), addr.size)));
    }
    let header = BlockHeader::decode(block, addr.offset)?;
    if header.addr.checksum != checksum(block, addr.offset) {
        return Err(Error::corrupt("the block's checksum does not match its bytes"));
    }
    // From here on the bytes are what some writer wrote here; the question is whether they are the block meant.
    if header.table != table {
        return Err(Error::corrupt(format!("the block belongs to table {}, not to table {}", header.table.0, table.0)));
    }
    if header.addr.birth != addr.birth {
        let born = header.addr.birth;
        return Err(Error::corrupt(format!("the block was written for checkpoint {born}, not for {}", addr.birth)));
    }
    if header.addr != *addr {
        return Err(Error::corrupt("the block is another one than its parent refers to"));
    }
    Ok(&block[BLOCK_HEADER..BLOCK_HEADER + header.body_len as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: TableId = TableId(7);

    fn sample(body: &[u8]) -> (Vec<u8>, BlockAddr) {
        let mut out = vec![0xee; 3];
        let size = block_size(body.len(), 512).unwrap();
        let addr = encode_block(&mut out, body, (8192, size), TABLE, CheckpointSeq::major(3));
        (out, addr)
    }

    /// Covers: B4. Every single flipped bit of a block, its padding included, is seen.
    #[test]
    fn every_flipped_bit_of_a_block_is_seen() {
        let (good, addr) = sample(b"the line of wrack");
        assert_eq!(check_block(&good, &addr, TABLE).unwrap(), b"the line of wrack");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let e = check_block(&bad, &addr, TABLE).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Corrupt, "bit {bit}");
        }
    }

    /// Covers: B4. An intact block at another place, of another table, birth, size or content is not believed.
    #[test]
    fn only_the_block_meant_is_believed() {
        let (good, addr) = sample(b"body");
        let other = |a: BlockAddr, t: TableId| check_block(&good, &a, t).unwrap_err().to_string();
        assert!(other(addr, TableId(8)).contains("belongs to table 7"));
        assert!(other(BlockAddr { offset: 4096, ..addr }, TABLE).contains("checksum"));
        assert!(other(BlockAddr { birth: CheckpointSeq::major(4), ..addr }, TABLE).contains("checkpoint 3"));
        assert!(other(BlockAddr { checksum: !addr.checksum, ..addr }, TABLE).contains("another one"));
        assert!(other(BlockAddr { size: 1024, ..addr }, TABLE).contains("no block of 1024"));
    }

    #[test]
    fn header_round_trip_and_damage() {
        let header = FileHeader { table: TABLE, unit: 4096 };
        let good = header.encode();
        assert_eq!(FileHeader::decode(&good).unwrap(), header);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert_eq!(FileHeader::decode(&bad).unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
            assert_eq!(FileHeader::decode(&good[..at]).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut newer = FileHeader { table: TABLE, unit: 4096 }.encode();
        newer[8] = 9;
        newer[12..16].fill(0);
        let crc = crc32fast::hash(&newer);
        newer[12..16].copy_from_slice(&crc.to_le_bytes());
        let e = FileHeader::decode(&newer).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.message().contains("version 9"), "{e}");
    }

    #[test]
    fn units() {
        for unit in [0, 1, 256, 4095, 5000, 1 << 21] {
            assert_eq!(check_unit(unit).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        assert_eq!((data_start(512), data_start(4096), data_start(65536)), (4096, 4096, 65536));
        assert_eq!(block_size(0, 512).unwrap(), 512);
        assert_eq!(block_size(480, 512).unwrap(), 512);
        assert_eq!(block_size(481, 512).unwrap(), 1024);
        assert!(block_size(MAX_BLOCK as usize, 4096).is_err());
    }

    quickcheck::quickcheck! {
        fn arbitrary_bytes_are_refused(bytes: Vec<u8>) -> bool {
            let _ = BlockHeader::decode(&[&BLOCK_MAGIC[..], &bytes].concat(), 0);
            let addr = BlockAddr { offset: 0, size: bytes.len() as u32, checksum: 0, birth: CheckpointSeq::ZERO };
            check_block(&bytes, &addr, TABLE).is_err() && FileHeader::decode(&bytes).is_err()
        }

        fn block_round_trip(body: Vec<u8>) -> bool {
            let (block, addr) = sample(&body);
            block.len() == addr.size as usize && check_block(&block, &addr, TABLE).unwrap() == body
        }
    }
}
