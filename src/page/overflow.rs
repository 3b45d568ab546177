//! Values too large for a leaf: what the leaf keeps of them, and the pieces that hold their bytes.
//!
//! A large value is cut into pieces, each a block of its own. The leaf's cell keeps the value's length and the address of
//! every piece, so giving a value up needs no read. 24 bytes per piece of a megabyte are little.

use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};
use crate::types::BlockAddr;

use super::{HEADER, Header, KIND_OVERFLOW, check_padding};

/// Where a large value is. Stored as length and number of pieces (variable-length), then the addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverflowRef {
    /// Bytes of the value.
    pub len: u64,
    /// The blocks that hold it, in order.
    pub pieces: Vec<BlockAddr>,
}

impl OverflowRef {
    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.len);
        out.put_varint(self.pieces.len() as u64);
        for piece in &self.pieces {
            piece.encode(out);
        }
    }

    /// Reads a stored form that takes all of `bytes`.
    ///
    /// # Errors
    /// `Corrupt` when it is malformed or its blocks are too small for its length.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes);
        let len = r.varint()?;
        let count = r.varint()?;
        if count.checked_mul(BlockAddr::ENCODED_LEN as u64) != Some(r.remaining() as u64) || count == 0 {
            return Err(Error::corrupt("a large value's list of pieces has the wrong length"));
        }
        let pieces = (0..count).map(|_| BlockAddr::decode(&mut r)).collect::<Result<Vec<_>>>()?;
        let room: u64 = pieces.iter().map(|piece| u64::from(piece.size)).sum();
        if len > room {
            return Err(Error::corrupt(format!("a value of {len} bytes cannot be in {room} bytes of blocks")));
        }
        Ok(Self { len, pieces })
    }
}

/// The page that holds one piece of a value.
#[must_use]
pub fn encode_piece(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + bytes.len());
    let count = u32::try_from(bytes.len()).expect("a piece is at most a few megabytes");
    Header { kind: KIND_OVERFLOW, level: 0, flags: 0, count, prefix: 0, cells: count }.encode(&mut out);
    out.extend_from_slice(bytes);
    out
}

/// The bytes of the piece that a page holds.
///
/// # Errors
/// `Corrupt` when the page is no overflow piece or malformed.
pub fn check_piece(body: &[u8]) -> Result<&[u8]> {
    let header = Header::decode(body, KIND_OVERFLOW)?;
    let rest = &body[HEADER..];
    let len = header.count as usize;
    if header
        != (Header { kind: KIND_OVERFLOW, level: 0, flags: 0, count: header.count, prefix: 0, cells: header.count })
        || len > rest.len()
    {
        return Err(Error::corrupt("the header of an overflow piece is malformed"));
    }
    check_padding(&rest[len..])?;
    Ok(&rest[..len])
}
