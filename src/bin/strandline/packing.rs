//! Packing: how the columns of a key or a value become one run of bytes, compatibly with WiredTiger.
//!
//! Problem: tables of the command have typed columns (numbers, text, bytes), the engine has bytes. A packed key must
//! sort as its columns do, and a dump made by WiredTiger must mean the same here.
//!
//! Algorithm: a format is a string of letters, each with an optional size before it ([`Format::parse`]). An item is its
//! columns one after another. Integers take 1 to 9 bytes; the first byte tells the sign, the length and, for small
//! numbers, the number itself:
//!
//! | first byte | bytes after | value |
//! |---|---|---|
//! | `0001 nnnn` | 8 - n | below -8256: two's complement without its n leading 0xff bytes |
//! | `001x xxxx` | 1 | -8256 + 13 bits |
//! | `01xx xxxx` | 0 | -64 + 6 bits |
//! | `10xx xxxx` | 0 | 6 bits |
//! | `110x xxxx` | 1 | 64 + 13 bits |
//! | `1110 nnnn` | n | 8256 + n bytes, big-endian, at least one |
//!
//! Invariants:
//!
//! - Byte order of packed items is the order of their columns, from left to right. The one exception is a `u` that is
//!   not last: it sorts by length first.
//! - Unpacking arbitrary bytes never panics and never allocates more than the bytes at hand: it gives the columns, or
//!   says where the item does not fit its format.

use std::fmt;

use strandline::{Error, Result};

/// The most columns that one format may have; a repeat count such as `100000i` must not cost memory by itself.
const COLUMNS_MAX: usize = 10_000;

/// The largest size that may stand before a letter.
const SIZE_MAX: usize = 1 << 30;

/// Numbers below this need the form with a length.
const NEG_2_BYTES_MIN: i64 = -8256;
/// Numbers below this need two bytes or more.
const NEG_1_BYTE_MIN: i64 = -64;
/// Numbers from here on need two bytes or more.
const POS_2_BYTES_MIN: u64 = 64;
/// Numbers from here on need the form with a length.
const POS_MULTI_MIN: u64 = 8256;

/// What one column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `b`: a signed byte.
    SignedByte,
    /// `B`: an unsigned byte.
    Byte,
    /// `h i l q`: a signed number of so many bits.
    Signed(u32),
    /// `H I L Q`: an unsigned number of so many bits.
    Unsigned(u32),
    /// `r`: a record number.
    Record,
    /// `S`: text, closed by a NUL.
    Text,
    /// `nS`: text in exactly n bytes, cut or padded with NUL.
    TextOf(usize),
    /// `ns`: exactly n bytes of text.
    Chars(usize),
    /// `u` at the end: the bytes.
    Rest,
    /// `u` before others: a length, then the bytes.
    Counted,
    /// `nu`: exactly n bytes, cut or padded with NUL.
    BytesOf(usize),
    /// `nt`: n bits in one byte.
    Bits(u32),
    /// `nx`: n NUL bytes, no value.
    Padding(usize),
}

impl Kind {
    /// Whether the column holds a value at all; padding does not.
    pub fn has_value(self) -> bool {
        !matches!(self, Self::Padding(_))
    }

    /// Whether the column is text, as opposed to a number or plain bytes.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::TextOf(_) | Self::Chars(_))
    }
}

/// The value of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A signed number.
    Signed(i64),
    /// An unsigned number.
    Unsigned(u64),
    /// Text without its closing NUL, or bytes.
    Bytes(Vec<u8>),
}

/// The columns of a key or of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    text: String,
    columns: Vec<Kind>,
}

impl Format {
    /// Reads a format such as `iuS`.
    pub fn parse(text: &str) -> Result<Self> {
        let body = text.strip_prefix('.').unwrap_or(text);
        let mut columns = Vec::new();
        let mut rest = body.chars();
        let mut size: Option<usize> = None;
        while let Some(letter) = rest.next() {
            if let Some(digit) = letter.to_digit(10) {
                size = Some(grown(text, size, digit as usize)?);
                continue;
            }
            let last = rest.as_str().is_empty();
            let (kind, repeats) = column(text, letter, size.take(), last)?;
            if columns.len() + repeats > COLUMNS_MAX {
                return Err(bad_format(text, format!("more than {COLUMNS_MAX} columns")));
            }
            columns.extend(std::iter::repeat_n(kind, repeats));
        }
        if size.is_some() {
            return Err(bad_format(text, "a size without a letter at the end".to_owned()));
        }
        Ok(Self { text: text.to_owned(), columns })
    }

    /// The format as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The columns, padding included.
    pub fn columns(&self) -> &[Kind] {
        &self.columns
    }

    /// How many columns hold a value.
    pub fn values(&self) -> usize {
        self.columns.iter().filter(|kind| kind.has_value()).count()
    }

    /// True for `r` alone: a table of numbered records.
    pub fn is_record_number(&self) -> bool {
        self.columns == [Kind::Record]
    }

    /// The one column of a format that has only one.
    pub fn single(&self) -> Option<Kind> {
        match self.columns[..] {
            [kind] => Some(kind),
            _ => None,
        }
    }

    /// Packs one value for each column that holds one.
    pub fn pack(&self, values: &[Value]) -> Result<Vec<u8>> {
        if values.len() != self.values() {
            let message = format!("format `{}` takes {} values, {} were given", self.text, self.values(), values.len());
            return Err(Error::invalid(message));
        }
        let mut out = Vec::new();
        let mut values = values.iter();
        for &kind in &self.columns {
            match kind {
                Kind::Padding(n) => out.resize(out.len() + n, 0),
                _ => {
                    if let Some(value) = values.next() {
                        pack_column(kind, value, &mut out)?;
                    }
                }
            }
        }
        Ok(out)
    }

    /// Unpacks an item into one value for each column that holds one.
    pub fn unpack(&self, item: &[u8]) -> Result<Vec<Value>> {
        let mut input = Input { item, at: 0 };
        let mut values = Vec::with_capacity(self.columns.len());
        for &kind in &self.columns {
            if let Some(value) = unpack_column(kind, &mut input).map_err(|why| self.misfit(why, input.at))? {
                values.push(value);
            }
        }
        if input.at != item.len() {
            return Err(self.misfit(format!("{} bytes are left over", item.len() - input.at), input.at));
        }
        Ok(values)
    }

    fn misfit(&self, why: impl fmt::Display, at: usize) -> Error {
        Error::invalid(format!("the item does not fit format `{}`: {why} at its byte {at}", self.text))
            .remedy("dump the table without -p and -j to see the items as they are stored")
    }
}

fn bad_format(text: &str, why: String) -> Error {
    Error::invalid(format!("bad format `{text}`: {why}"))
        .remedy("formats are made of b B h H i I l L q Q r S s u t x, each with an optional size before it")
}

fn grown(text: &str, size: Option<usize>, digit: usize) -> Result<usize> {
    let grown = size.unwrap_or(0) * 10 + digit;
    if grown > SIZE_MAX {
        return Err(bad_format(text, format!("a size above {SIZE_MAX}")));
    }
    Ok(grown)
}

/// The kind of column that `letter` stands for, and how many of it there are.
fn column(text: &str, letter: char, size: Option<usize>, last: bool) -> Result<(Kind, usize)> {
    let count = size.unwrap_or(1);
    Ok(match letter {
        'b' => (Kind::SignedByte, count),
        'B' => (Kind::Byte, count),
        'h' => (Kind::Signed(16), count),
        'i' | 'l' => (Kind::Signed(32), count),
        'q' => (Kind::Signed(64), count),
        'H' => (Kind::Unsigned(16), count),
        'I' | 'L' => (Kind::Unsigned(32), count),
        'Q' => (Kind::Unsigned(64), count),
        'r' => (Kind::Record, count),
        'S' => (size.map_or(Kind::Text, Kind::TextOf), 1),
        's' if count > 0 => (Kind::Chars(count), 1),
        's' => return Err(bad_format(text, "`s` needs a size of at least 1".to_owned())),
        'u' => match size {
            Some(n) => (Kind::BytesOf(n), 1),
            None if last => (Kind::Rest, 1),
            None => (Kind::Counted, 1),
        },
        't' if (1..=8).contains(&count) => (Kind::Bits(count as u32), 1),
        't' => return Err(bad_format(text, "`t` takes 1 to 8 bits".to_owned())),
        'x' => (Kind::Padding(count), 1),
        '<' | '>' | '@' => return Err(bad_format(text, format!("byte order `{letter}` cannot be chosen"))),
        other => return Err(bad_format(text, format!("unknown letter `{other}`"))),
    })
}

fn pack_column(kind: Kind, value: &Value, out: &mut Vec<u8>) -> Result<()> {
    match kind {
        Kind::SignedByte => out.push((signed(value, 8)? as u8).wrapping_add(0x80)),
        Kind::Byte => out.push(unsigned(value, 8)? as u8),
        Kind::Signed(bits) => put_signed(out, signed(value, bits)?),
        Kind::Unsigned(bits) => put_unsigned(out, unsigned(value, bits)?),
        Kind::Record => put_unsigned(out, record(value)?),
        Kind::Bits(bits) => out.push(unsigned(value, bits)? as u8),
        Kind::Text => {
            let text = bytes(value)?;
            if text.contains(&0) {
                return Err(Error::invalid("text of format `S` cannot hold a NUL byte").remedy("use format `u`"));
            }
            out.extend_from_slice(text);
            out.push(0);
        }
        Kind::TextOf(n) | Kind::Chars(n) | Kind::BytesOf(n) => {
            let text = bytes(value)?;
            let end = out.len() + n;
            out.extend_from_slice(&text[..text.len().min(n)]);
            out.resize(end, 0);
        }
        Kind::Rest => out.extend_from_slice(bytes(value)?),
        Kind::Counted => {
            let text = bytes(value)?;
            put_unsigned(out, text.len() as u64);
            out.extend_from_slice(text);
        }
        Kind::Padding(_) => {}
    }
    Ok(())
}

fn unpack_column(kind: Kind, input: &mut Input<'_>) -> std::result::Result<Option<Value>, String> {
    Ok(Some(match kind {
        Kind::SignedByte => Value::Signed(i64::from(input.byte()?.wrapping_sub(0x80) as i8)),
        Kind::Byte | Kind::Bits(_) => Value::Unsigned(u64::from(input.byte()?)),
        Kind::Signed(_) => Value::Signed(input.signed()?),
        Kind::Unsigned(_) | Kind::Record => Value::Unsigned(input.unsigned()?),
        Kind::Text => Value::Bytes(input.text()?.to_vec()),
        Kind::TextOf(n) | Kind::Chars(n) | Kind::BytesOf(n) => Value::Bytes(input.take(n)?.to_vec()),
        Kind::Rest => Value::Bytes(input.take(input.left())?.to_vec()),
        Kind::Counted => {
            let n = input.unsigned()?;
            let n = usize::try_from(n).map_err(|_| format!("a length of {n}"))?;
            Value::Bytes(input.take(n)?.to_vec())
        }
        Kind::Padding(n) => {
            input.take(n)?;
            return Ok(None);
        }
    }))
}

fn signed(value: &Value, bits: u32) -> Result<i64> {
    let number = match *value {
        Value::Signed(n) => Some(n),
        Value::Unsigned(n) => i64::try_from(n).ok(),
        Value::Bytes(_) => return Err(Error::invalid("a number is needed here, not text")),
    };
    number
        .filter(|n| bits == 64 || (-(1i64 << (bits - 1))..1i64 << (bits - 1)).contains(n))
        .ok_or_else(|| Error::invalid(format!("{value} does not fit in {bits} bits, signed")))
}

fn unsigned(value: &Value, bits: u32) -> Result<u64> {
    let number = match *value {
        Value::Signed(n) => u64::try_from(n).ok(),
        Value::Unsigned(n) => Some(n),
        Value::Bytes(_) => return Err(Error::invalid("a number is needed here, not text")),
    };
    number
        .filter(|n| bits == 64 || *n < 1u64 << bits)
        .ok_or_else(|| Error::invalid(format!("{value} does not fit in {bits} bits, unsigned")))
}

fn record(value: &Value) -> Result<u64> {
    match unsigned(value, 64)? {
        0 => Err(Error::invalid("0 is no record number").remedy("record numbers begin at 1")),
        n => Ok(n),
    }
}

fn bytes(value: &Value) -> Result<&[u8]> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(Error::invalid("text is needed here, not a number")),
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed(n) => n.fmt(f),
            Self::Unsigned(n) => n.fmt(f),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).fmt(f),
        }
    }
}

/// Appends a packed unsigned number.
pub fn put_unsigned(out: &mut Vec<u8>, n: u64) {
    match n {
        0..POS_2_BYTES_MIN => out.push(0x80 | n as u8),
        POS_2_BYTES_MIN..POS_MULTI_MIN => {
            let n = n - POS_2_BYTES_MIN;
            out.extend([0xc0 | (n >> 8) as u8, n as u8]);
        }
        _ => {
            let bytes = (n - POS_MULTI_MIN).to_be_bytes();
            let zeros = bytes.iter().take_while(|&&b| b == 0).count().min(7);
            out.push(0xe0 | (8 - zeros) as u8);
            out.extend_from_slice(&bytes[zeros..]);
        }
    }
}

/// Appends a packed signed number.
pub fn put_signed(out: &mut Vec<u8>, n: i64) {
    match n {
        0.. => put_unsigned(out, n as u64),
        NEG_1_BYTE_MIN..0 => out.push(0x40 | (n - NEG_1_BYTE_MIN) as u8),
        NEG_2_BYTES_MIN..NEG_1_BYTE_MIN => {
            let n = n - NEG_2_BYTES_MIN;
            out.extend([0x20 | (n >> 8) as u8, n as u8]);
        }
        _ => {
            let bytes = n.to_be_bytes();
            let ones = bytes.iter().take_while(|&&b| b == 0xff).count();
            out.push(0x10 | ones as u8);
            out.extend_from_slice(&bytes[ones..]);
        }
    }
}

/// The item being unpacked.
struct Input<'a> {
    item: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn left(&self) -> usize {
        self.item.len() - self.at
    }

    fn take(&mut self, n: usize) -> std::result::Result<&'a [u8], String> {
        if n > self.left() {
            return Err(format!("{n} bytes are needed, {} are left", self.left()));
        }
        let taken = &self.item[self.at..self.at + n];
        self.at += n;
        Ok(taken)
    }

    fn byte(&mut self) -> std::result::Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn text(&mut self) -> std::result::Result<&'a [u8], String> {
        let rest = &self.item[self.at..];
        let end = rest.iter().position(|&b| b == 0).ok_or("text without its closing NUL")?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    /// The bytes after a first byte with a length, as a number on top of `fill`.
    fn number(&mut self, len: usize, fill: u64) -> std::result::Result<u64, String> {
        Ok(self.take(len)?.iter().fold(fill, |n, &b| n << 8 | u64::from(b)))
    }

    fn unsigned(&mut self) -> std::result::Result<u64, String> {
        let first = self.byte()?;
        match first {
            0x80..=0xbf => Ok(u64::from(first & 0x3f)),
            0xc0..=0xdf => Ok(POS_2_BYTES_MIN + self.number(1, u64::from(first & 0x1f))?),
            0xe1..=0xe8 => self
                .number(usize::from(first & 0x0f), 0)?
                .checked_add(POS_MULTI_MIN)
                .ok_or_else(|| "a number beyond 64 bits".to_owned()),
            0x10..=0x7f => Err("a negative number where none can be".to_owned()),
            _ => Err(format!("first byte {first:02x} begins no number")),
        }
    }

    fn signed(&mut self) -> std::result::Result<i64, String> {
        match self.item.get(self.at) {
            Some(&first @ 0x10..=0x17) => {
                self.at += 1;
                let len = 8 - usize::from(first & 0x0f);
                let n = self.number(len, u64::MAX)? as i64;
                if n >= NEG_2_BYTES_MIN { Err("a long form for a small number".to_owned()) } else { Ok(n) }
            }
            Some(&first @ 0x20..=0x3f) => {
                self.at += 1;
                Ok(NEG_2_BYTES_MIN + self.number(1, u64::from(first & 0x1f))? as i64)
            }
            Some(&first @ 0x40..=0x7f) => {
                self.at += 1;
                Ok(NEG_1_BYTE_MIN + i64::from(first & 0x3f))
            }
            _ => i64::try_from(self.unsigned()?).map_err(|_| "a number beyond 63 bits".to_owned()),
        }
    }
}

#[cfg(test)]
#[path = "packing_tests.rs"]
mod tests;
