//! Bytes in and out: little-endian integers, variable-length integers, length-prefixed strings.
//!
//! A [`Reader`] never trusts a length: it is checked against what is left before anything is sliced or allocated.

use crate::error::{Error, Result};

/// Appends encoded values to a byte vector.
pub trait Writer {
    /// One byte.
    fn put_u8(&mut self, v: u8);
    /// Two bytes, little-endian.
    fn put_u16(&mut self, v: u16);
    /// Four bytes, little-endian.
    fn put_u32(&mut self, v: u32);
    /// Eight bytes, little-endian.
    fn put_u64(&mut self, v: u64);
    /// One to ten bytes: seven bits each, lowest first, the high bit set on all but the last (LEB128).
    fn put_varint(&mut self, v: u64);
    /// A length as varint, then the bytes.
    fn put_bytes(&mut self, v: &[u8]);
}

impl Writer for Vec<u8> {
    fn put_u8(&mut self, v: u8) {
        self.push(v);
    }
    fn put_u16(&mut self, v: u16) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn put_u32(&mut self, v: u32) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn put_u64(&mut self, v: u64) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn put_varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.push(v as u8);
    }
    fn put_bytes(&mut self, v: &[u8]) {
        self.put_varint(v.len() as u64);
        self.extend_from_slice(v);
    }
}

/// Reads encoded values from a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read so far.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// `Corrupt` when fewer are left; the same holds for all methods below.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        if n > self.remaining() {
            return Err(Error::corrupt(format!("{n} bytes expected at byte {}, {} left", self.at, self.remaining())));
        }
        let out = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(out)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// One byte.
    ///
    /// # Errors
    /// As [`Reader::take`].
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes, little-endian.
    ///
    /// # Errors
    /// As [`Reader::take`].
    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    /// As [`Reader::take`].
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// As [`Reader::take`].
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A variable-length integer; only the shortest form is accepted, so that encoding is canonical.
    ///
    /// # Errors
    /// As [`Reader::take`]; `Corrupt` for more than 64 bits or a needless last byte.
    pub fn varint(&mut self) -> Result<u64> {
        let mut v = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            v |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    break;
                }
                return Ok(v);
            }
        }
        Err(Error::corrupt(format!("a variable-length integer before byte {} is malformed", self.at)))
    }

    /// A length, then that many bytes.
    ///
    /// # Errors
    /// As [`Reader::take`] and [`Reader::varint`].
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let n = self.varint()?;
        let n = usize::try_from(n).map_err(|_| Error::corrupt("a length is larger than memory"))?;
        self.take(n)
    }

    /// A length, then that many bytes of UTF-8.
    ///
    /// # Errors
    /// As [`Reader::bytes`]; `Corrupt` when the bytes are not UTF-8.
    pub fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::corrupt("a name is not UTF-8"))
    }

    /// Errs unless everything was read.
    ///
    /// # Errors
    /// `Corrupt` when bytes are left.
    pub fn finish(self) -> Result<()> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(Error::corrupt(format!("{} stray bytes after the last field", self.remaining())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn varint_round_trip(v: u64) -> bool {
            let mut out = Vec::new();
            out.put_varint(v);
            let mut r = Reader::new(&out);
            r.varint().unwrap() == v && r.remaining() == 0
        }

        fn reader_never_panics(bytes: Vec<u8>) -> bool {
            let mut r = Reader::new(&bytes);
            while r.remaining() > 0 && r.bytes().is_ok() {}
            let mut r = Reader::new(&bytes);
            while r.remaining() > 0 && r.varint().is_ok() {}
            true
        }
    }

    #[test]
    fn varint_is_canonical() {
        assert!(Reader::new(&[0x80, 0x00]).varint().is_err());
        assert!(Reader::new(&[0xff; 10]).varint().is_err());
        assert_eq!(Reader::new(&[0x80, 0x01]).varint().unwrap(), 128);
    }
}
