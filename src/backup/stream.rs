//! A backup as one stream of bytes: for a pipe, a tape, a socket.
//!
//! ```text
//! magic (8)  version (4)  crc (4)
//! frame*     tag (1)  length of the payload (4)  crc (4)  payload
//! ```
//!
//! Frames, in this order: for each file *file* (name, size) and its *pieces* (offset, bytes); then the same for the
//! manifest, under its own name; then *end* (number of files, bytes in all). The checksum of a frame covers tag, length
//! and payload, so every changed byte is seen; a piece says its offset and the end says the totals, so a frame lost, doubled
//! or moved is seen; and without the end mark nothing is believed. A reader needs the memory of one frame, whatever a
//! length claims.
//!
//! - **S1** What restores from a stream is exactly what was put in, or the restore fails naming the file and the offset
//!   in the stream.
//! - **S2** Nothing after the end mark is read, so a stream may be a part of a longer one.

use std::io::{self, Read, Write};
use std::path::Path;

use super::copy::Sink;
use crate::codec::{Reader, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{MANIFEST_FILE, Manifest, PIECE, check_file_name};

const MAGIC: &[u8; 8] = b"STRANDST";
const VERSION: u32 = 1;
const TAG_FILE: u8 = 1;
const TAG_PIECE: u8 = 2;
const TAG_END: u8 = 3;
/// Longest payload: a piece and its offset.
const PAYLOAD_MAX: usize = PIECE + 8;
const FRAME_HEAD: usize = 1 + 4 + 4;

/// What a stream is called where an error names a file.
const STREAM: &str = "(stream)";

/// Writes a backup as a stream.
pub struct StreamSink<'a> {
    out: &'a mut dyn Write,
    /// Bytes written so far.
    at: u64,
    files: u64,
    bytes: u64,
}

impl<'a> StreamSink<'a> {
    /// A sink that writes to `out`, beginning with the head of the stream.
    ///
    /// # Errors
    /// `Io`.
    pub fn new(out: &'a mut dyn Write) -> Result<Self> {
        let mut head = MAGIC.to_vec();
        head.put_u32(VERSION);
        let crc = crc32fast::hash(&head);
        head.put_u32(crc);
        let mut sink = Self { out, at: 0, files: 0, bytes: 0 };
        sink.write(&head)?;
        Ok(sink)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let at = self.at;
        self.out.write_all(bytes).map_err(|e| stream_io(e, "write the stream", at))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// One frame whose payload is `start` and then `rest`; `rest_crc` is the checksum of `rest`.
    fn frame(&mut self, tag: u8, start: &[u8], rest: &[u8], rest_crc: u32) -> Result<()> {
        let mut head = vec![tag];
        head.put_u32((start.len() + rest.len()) as u32);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head);
        crc.update(start);
        // The large part was summed once already; sums are combined, not computed again.
        crc.combine(&crc32fast::Hasher::new_with_initial_len(rest_crc, rest.len() as u64));
        head.put_u32(crc.finalize());
        head.extend_from_slice(start);
        self.write(&head)?;
        self.write(rest)
    }
}

impl Sink for StreamSink<'_> {
    fn begin(&mut self, name: &str, size: u64) -> Result<()> {
        let mut payload = Vec::new();
        payload.put_bytes(name.as_bytes());
        payload.put_u64(size);
        self.files += 1;
        self.frame(TAG_FILE, &payload, &[], 0)
    }

    fn piece(&mut self, offset: u64, bytes: &[u8], crc: u32) -> Result<()> {
        debug_assert!(bytes.len() <= PIECE);
        self.bytes += bytes.len() as u64;
        self.frame(TAG_PIECE, &offset.to_le_bytes(), bytes, crc)
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }

    fn seal(&mut self, manifest: &Manifest) -> Result<()> {
        let bytes = manifest.encode();
        self.begin(MANIFEST_FILE, bytes.len() as u64)?;
        let mut offset = 0;
        for piece in bytes.chunks(PIECE) {
            self.piece(offset, piece, crc32fast::hash(piece))?;
            offset += piece.len() as u64;
        }
        let mut end = Vec::new();
        end.put_u64(self.files);
        end.put_u64(self.bytes);
        self.frame(TAG_END, &end, &[], 0)?;
        let at = self.at;
        self.out.flush().map_err(|e| stream_io(e, "write the stream", at))
    }

    fn abandon(&mut self) {
        // A stream cannot be taken back; without its end mark nothing restores from it.
    }
}

/// What comes next in a stream.
#[derive(Debug)]
pub enum Event<'a> {
    /// A file begins; the one before was complete.
    File {
        /// Its name: a plain file name.
        name: String,
        /// Its size in bytes.
        size: u64,
    },
    /// The next bytes of the file.
    Piece {
        /// Where they belong.
        offset: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The stream is complete.
    End,
}

/// Reads a backup from a stream.
pub struct StreamSource<'a> {
    input: &'a mut dyn Read,
    at: u64,
    files: u64,
    bytes: u64,
    /// Name, size, and bytes that have come, of the file in work.
    file: Option<(String, u64, u64)>,
    payload: Vec<u8>,
}

impl<'a> StreamSource<'a> {
    /// A reader of `input`, which must begin with the head of a stream.
    ///
    /// # Errors
    /// `Corrupt` when it is no stream, `Unsupported` when it is one of a newer format, `Io`.
    pub fn new(input: &'a mut dyn Read) -> Result<Self> {
        let mut source = Self { input, at: 0, files: 0, bytes: 0, file: None, payload: Vec::new() };
        let mut head = [0; 16];
        source.fill(&mut head)?;
        let mut r = Reader::new(&head[8..]);
        let (version, crc) = (r.u32()?, r.u32()?);
        if &head[..8] != MAGIC || crc != crc32fast::hash(&head[..12]) {
            return Err(source.damaged("this is no stream of a backup", 0));
        }
        if version != VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the stream has format version {version}, this engine reads version {VERSION}"),
            )
            .remedy("use the version of Strandline that made the stream, or a newer one"));
        }
        Ok(source)
    }

    /// The next event.
    ///
    /// # Errors
    /// `Corrupt`, with the file in work and the offset in the stream, when the stream is cut or damaged; `Io`.
    pub fn next_event(&mut self) -> Result<Event<'_>> {
        let start = self.at;
        let tag = self.frame()?;
        self.event(tag, start)
    }

    fn event(&mut self, tag: u8, start: u64) -> Result<Event<'_>> {
        let mut r = Reader::new(&self.payload);
        match tag {
            TAG_FILE => {
                let parsed = r.text().map(str::to_owned).and_then(|name| Ok((name, r.u64()?)));
                let (name, size) = parsed.map_err(|e| self.damaged(e.message(), start))?;
                self.begin(&name, size).map_err(|e| self.damaged(e.message(), start))?;
                Ok(Event::File { name, size })
            }
            TAG_PIECE => {
                let offset = r.u64().map_err(|e| self.damaged(e.message(), start))?;
                let len = r.remaining() as u64;
                let bytes = self.bytes + len;
                match &mut self.file {
                    Some((_, size, done)) if *done == offset && len > 0 && len <= *size - *done => *done += len,
                    _ => return Err(self.damaged("a piece is out of place", start)),
                }
                self.bytes = bytes;
                Ok(Event::Piece { offset, bytes: &self.payload[8..] })
            }
            TAG_END => {
                let totals = (r.u64().ok(), r.u64().ok());
                self.file_is_whole().map_err(|e| self.damaged(e.message(), start))?;
                if totals != (Some(self.files), Some(self.bytes)) {
                    return Err(self.damaged("the totals at the end do not agree", start));
                }
                Ok(Event::End)
            }
            other => Err(self.damaged(&format!("{other} is no kind of frame"), start)),
        }
    }

    fn begin(&mut self, name: &str, size: u64) -> Result<()> {
        if name != MANIFEST_FILE {
            check_file_name(name)?;
        }
        self.file_is_whole()?;
        self.files += 1;
        self.file = Some((name.to_owned(), size, 0));
        Ok(())
    }

    fn file_is_whole(&self) -> Result<()> {
        match &self.file {
            Some((_, size, done)) if done != size => Err(Error::corrupt(format!("{done} of {size} bytes have come"))),
            _ => Ok(()),
        }
    }

    /// Reads one frame into `payload` and checks it; returns its tag.
    fn frame(&mut self) -> Result<u8> {
        let start = self.at;
        let mut head = [0; FRAME_HEAD];
        self.fill(&mut head)?;
        let mut r = Reader::new(&head[1..]);
        let (len, crc) = (r.u32()? as usize, r.u32()?);
        if len > PAYLOAD_MAX {
            return Err(self.damaged("a frame is longer than any can be", start));
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(len, 0);
        let read = self.fill(&mut payload);
        self.payload = payload;
        read?;
        let mut sum = crc32fast::Hasher::new();
        sum.update(&head[..5]);
        sum.update(&self.payload);
        if sum.finalize() != crc {
            return Err(self.damaged("a frame does not have its checksum", start));
        }
        Ok(head[0])
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<()> {
        let at = self.at;
        self.input.read_exact(buf).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("the stream ends too early", at),
            _ => stream_io(e, "read the stream", at),
        })?;
        self.at += buf.len() as u64;
        Ok(())
    }

    /// The error of a stream that cannot be believed at offset `at`.
    fn damaged(&self, what: &str, at: u64) -> Error {
        let file =
            self.file.as_ref().map_or_else(String::new, |(name, _, done)| format!(" in {name} after {done} bytes"));
        Error::corrupt(format!("the stream is cut or damaged{file}: {what}"))
            .at(Path::new(STREAM), Some(at))
            .remedy("send the backup again, or restore from another copy")
    }
}

fn stream_io(e: io::Error, what: &str, at: u64) -> Error {
    Error::io(e, what, Path::new(STREAM)).at(Path::new(STREAM), Some(at))
}
