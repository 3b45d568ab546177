//! The text form of a dump, compatible with WiredTiger's: reading it as a stream, and writing its parts.
//!
//! ```text
//! WiredTiger Dump (Strandline 0.1.0)
//! Format=print
//! Header
//! table:people
//! key_format=S,value_format=S
//! Data
//! ann\00
//! paris\00
//! ```
//!
//! Bytes, lines ended by one newline, the last one too. After `Header` come pairs of lines, a name and its config text;
//! after `Data` alternating key and value lines to the end of the file. The first line must only begin as above. Every
//! complaint names the line. A dump may be larger than memory: one line at a time is held.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use strandline::{Error, Result};

use crate::text::Encoding;

/// How every dump begins.
const MAGIC: &[u8] = b"WiredTiger Dump ";

/// A dump being read.
pub struct DumpReader<R> {
    input: R,
    /// What the input is called in errors.
    name: PathBuf,
    /// Lines read so far.
    lines: u64,
    /// How the items are written.
    pub encoding: Encoding,
    /// The names and config texts of the header, in the order of the file.
    pub header: Vec<(String, String)>,
    line: Vec<u8>,
}

/// The key line of a row, before anybody has decided what it means: a record number, or an item in the encoding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The line of the key as it stands in the file.
    pub key: Vec<u8>,
    /// The decoded value.
    pub value: Vec<u8>,
}

impl<R: BufRead> DumpReader<R> {
    /// Reads the header, up to and with the line `Data`.
    pub fn open(input: R, name: &Path) -> Result<Self> {
        let mut reader = Self {
            input,
            name: name.to_owned(),
            lines: 0,
            encoding: Encoding::Print,
            header: Vec::new(),
            line: Vec::new(),
        };
        reader.header_line()?;
        if !reader.line.starts_with(MAGIC) {
            return Err(reader.mismatch().remedy("the first line of a dump begins `WiredTiger Dump `"));
        }
        reader.header_line()?;
        reader.encoding = match &reader.line[..] {
            b"Format=print" => Encoding::Print,
            b"Format=hex" => Encoding::Hex,
            b"Format=print hex" => return Err(reader.mismatch().remedy("a dump made with -p is for people only")),
            _ => return Err(reader.mismatch().remedy("the second line is `Format=print` or `Format=hex`")),
        };
        reader.header_line()?;
        if reader.line != b"Header" {
            return Err(reader.mismatch().remedy("the third line is `Header`"));
        }
        reader.header_pairs()?;
        Ok(reader)
    }

    fn header_pairs(&mut self) -> Result<()> {
        loop {
            let name = self.header_text()?;
            if name == "Data" {
                break;
            }
            let config = self.header_text()?;
            if config == "Data" {
                return Err(self.mismatch().remedy("the header has a name without its config text"));
            }
            self.header.push((name, config));
        }
        if self.header.is_empty() { Err(self.mismatch().remedy("the header names no table")) } else { Ok(()) }
    }

    fn header_text(&mut self) -> Result<String> {
        self.header_line()?;
        match std::str::from_utf8(&self.line) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.mismatch()),
        }
    }

    fn header_line(&mut self) -> Result<()> {
        if self.next_line()? { Ok(()) } else { Err(self.mismatch()) }
    }

    /// The next row into `row`; false at the end of the file. The key is left as it stands: see [`Self::decode`].
    pub fn next(&mut self, row: &mut Row) -> Result<bool> {
        if !self.next_line()? {
            return Ok(false);
        }
        std::mem::swap(&mut row.key, &mut self.line);
        if !self.next_line()? {
            return Err(self.complain(self.lines + 1, "unexpected end-of-file").remedy("a key has no value"));
        }
        let decoded = self.encoding.decode(&self.line, &mut row.value);
        decoded.map_err(|_| self.invalid_hex(self.lines))?;
        Ok(true)
    }

    /// Decodes the key line of the row just read.
    pub fn decode(&self, line: &[u8], item: &mut Vec<u8>) -> Result<()> {
        self.encoding.decode(line, item).map_err(|_| self.invalid_hex(self.key_line()))
    }

    /// The line number of the key just read.
    pub fn key_line(&self) -> u64 {
        self.lines - 1
    }

    /// Reads one line without its newline; false at the end of the input.
    fn next_line(&mut self) -> Result<bool> {
        self.line.clear();
        let read = self.input.read_until(b'\n', &mut self.line);
        match read.map_err(|e| Error::io(e, "read the dump", &self.name))? {
            0 => Ok(false),
            _ => {
                self.lines += 1;
                if self.line.pop() != Some(b'\n') {
                    return Err(self
                        .complain(self.lines, "no newline terminator")
                        .remedy("the file was cut short; make the dump again"));
                }
                Ok(true)
            }
        }
    }

    fn mismatch(&self) -> Error {
        self.complain(self.lines.max(1), "input does not match WiredTiger dump format")
    }

    fn invalid_hex(&self, line: u64) -> Error {
        self.complain(line, "invalid hexadecimal").remedy("two hex digits are needed for each byte")
    }

    /// An error about a line of the input.
    pub fn complain(&self, line: u64, what: &str) -> Error {
        Error::invalid(format!("line {line}: {what}"))
    }
}

/// Writes the lines before the first row.
pub fn write_header(out: &mut impl Write, format: &str, objects: &[(String, String)]) -> io::Result<()> {
    write!(out, "WiredTiger Dump (Strandline {})\nFormat={format}\nHeader\n", env!("CARGO_PKG_VERSION"))?;
    for (name, config) in objects {
        write!(out, "{name}\n{config}\n")?;
    }
    out.write_all(b"Data\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(text: &[u8]) -> Result<DumpReader<&[u8]>> {
        DumpReader::open(text, Path::new("dump"))
    }

    fn rows(text: &[u8]) -> Result<Vec<Row>> {
        let mut reader = open(text)?;
        let (mut rows, mut row) = (Vec::new(), Row::default());
        while reader.next(&mut row)? {
            rows.push(row.clone());
        }
        Ok(rows)
    }

    const HEAD: &str = "WiredTiger Dump (any)\nFormat=print\nHeader\ntable:t\nkey_format=S\nData\n";

    fn with_head(rows: &str) -> Vec<u8> {
        format!("{HEAD}{rows}").into_bytes()
    }

    #[test]
    fn rows_are_read() {
        let reader = open(HEAD.as_bytes()).unwrap();
        assert_eq!(reader.header, [("table:t".to_owned(), "key_format=S".to_owned())]);
        assert_eq!(reader.encoding, Encoding::Print);
        let got = rows(&with_head("a\\00\nx\\\\\n\n\n")).unwrap();
        assert_eq!(got[0], Row { key: b"a\\00".to_vec(), value: b"x\\".to_vec() });
        assert_eq!(got[1], Row::default());
    }

    #[test]
    fn complaints_name_the_line() {
        let cases = [
            ("".to_owned(), "line 1: input does not match WiredTiger dump format"),
            ("Dump\n".to_owned(), "line 1: input does not match WiredTiger dump format"),
            ("WiredTiger Dump \nFormat=json\n".to_owned(), "line 2: input does not match WiredTiger dump format"),
            ("WiredTiger Dump \nFormat=hex\r\n".to_owned(), "line 2: input does not match WiredTiger dump format"),
            ("WiredTiger Dump \nFormat=hex\nData\n".to_owned(), "line 3: input does not match WiredTiger dump format"),
            (
                "WiredTiger Dump \nFormat=hex\nHeader\nData\n".to_owned(),
                "line 4: input does not match WiredTiger dump format",
            ),
            (
                "WiredTiger Dump \nFormat=hex\nHeader\ntable:t\nData\n".to_owned(),
                "line 5: input does not match WiredTiger dump format",
            ),
            (format!("{HEAD}k\n"), "line 8: unexpected end-of-file"),
            (format!("{HEAD}k\nv"), "line 8: no newline terminator"),
            (format!("{HEAD}k\nv\\0\n"), "line 8: invalid hexadecimal"),
        ];
        for (text, want) in cases {
            assert_eq!(rows(text.as_bytes()).unwrap_err().message(), want, "{text:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        let objects = [("table:t".to_owned(), "key_format=u".to_owned()), ("index:t:i".to_owned(), String::new())];
        write_header(&mut out, "hex", &objects).unwrap();
        out.extend_from_slice(b"00\nFF\n");
        let mut reader = open(&out).unwrap();
        assert_eq!(reader.header, objects);
        let mut row = Row::default();
        assert!(reader.next(&mut row).unwrap());
        assert_eq!(row.value, [0xff]);
    }

    proptest! {
        #[test]
        fn arbitrary_input_never_panics(tail: Vec<u8>, text in "(Data|table:t|[\\\\0-9a\n])*") {
            let _ = rows(&tail);
            let _ = rows(&[HEAD.as_bytes(), &tail].concat());
            let _ = rows(&[HEAD.as_bytes(), text.as_bytes()].concat());
        }
    }
}
