//! The records of one segment, one after the other, and what follows where they break.
//!
//! Memory is bounded by a window, or by one record when somebody wants its payload; a frame has proved itself and a record
//! lies within its file before its length is believed.
//!
//! A sector that a write was interrupted in may refuse to be read until it is written again, so a read that fails twice is
//! a break like any other, and what it is worth is decided by what follows it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use strandline_vfs::{File, OpenOptions, Vfs};

use crate::error::{Error, Result};

use super::format::{Frame, RECORD_HEADER, RecordHeader, Seed, round_up};

/// Bytes that are read at once.
const WINDOW: usize = 128 << 10;

/// The file of a segment, read through a window.
#[derive(Debug)]
pub(super) struct Reading {
    file: Arc<dyn File>,
    /// Length in bytes; behind it are zeros. Places are 32 bits wide, so no more than that counts.
    pub len: u64,
    window: Vec<u8>,
    at: u64,
}

impl Reading {
    pub fn open(vfs: &dyn Vfs, path: &Path) -> Result<Self> {
        let file = vfs.open(path, OpenOptions::read()).map_err(|e| Error::io(e, "open", path))?;
        let len = file.len().map_err(|e| Error::io(e, "look at the length of", path))?;
        Ok(Self { file, len: len.min(u64::from(u32::MAX)), window: Vec::new(), at: 0 })
    }

    /// `n` bytes at `offset`, zeros where the file has ended.
    pub fn bytes(&mut self, offset: u64, n: usize) -> io::Result<&[u8]> {
        let inside = self.at <= offset && offset + n as u64 <= self.at + self.window.len() as u64;
        if !inside {
            // Where the window meets something unreadable, what is wanted may still be readable.
            let fits = self.len.saturating_sub(offset).min(WINDOW as u64) as usize;
            self.fill(offset, fits.max(n)).or_else(|_| self.fill(offset, n)).or_else(|_| self.fill(offset, n))?;
        }
        let from = (offset - self.at) as usize;
        Ok(&self.window[from..from + n])
    }

    fn fill(&mut self, offset: u64, n: usize) -> io::Result<()> {
        let mut window = std::mem::take(&mut self.window);
        window.clear();
        window.resize(n, 0);
        let mut got = 0;
        while got < n {
            match self.file.read_at(&mut window[got..], offset + got as u64) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        // A file that grew behind the length that was seen does not count from there on.
        let there = self.len.saturating_sub(offset).min(n as u64) as usize;
        window[there..].fill(0);
        (self.window, self.at) = (window, offset);
        Ok(())
    }

    /// The frame at `offset`.
    pub fn frame(&mut self, seed: &Seed, offset: u64) -> io::Result<Frame> {
        let mut frame = [0; RECORD_HEADER];
        frame.copy_from_slice(self.bytes(offset, RECORD_HEADER)?);
        Ok(RecordHeader::decode(&frame, seed, offset as u32))
    }

    /// Whether the payload of the record at `offset` is whole.
    fn is_whole(&mut self, offset: u64, header: &RecordHeader) -> io::Result<bool> {
        let (mut at, end) = (offset + RECORD_HEADER as u64, header.end(offset as u32));
        let mut crc = crc32fast::Hasher::new();
        while at < end {
            let n = WINDOW.min((end - at) as usize);
            crc.update(self.bytes(at, n)?);
            at += n as u64;
        }
        Ok(crc.finalize() == header.payload_crc)
    }
}

/// A step along the records.
#[derive(Debug)]
pub(super) enum Step {
    /// A whole record.
    Record {
        /// Where it begins.
        at: u64,
        /// Its frame.
        header: RecordHeader,
    },
    /// No record follows.
    End(Break),
}

/// Where and why the records end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Break {
    pub at: u64,
    /// What is wrong there; `None` where nothing was ever written, or the known end was reached.
    pub what: Option<String>,
}

/// A place in the records of a segment.
#[derive(Debug)]
pub(super) struct Walk {
    pub reading: Reading,
    pub seed: Seed,
    pub unit: u32,
    /// Where the next frame is looked for.
    at: u64,
    /// Where the last record ends.
    pub tail: u64,
    /// The records end here, as somebody else knows.
    pub limit: Option<u64>,
}

impl Walk {
    /// At `start`, the end of a record or of the segment's header.
    pub fn new(reading: Reading, seed: Seed, unit: u32, start: u64, limit: Option<u64>) -> Self {
        Self { reading, seed, unit, at: start, tail: start, limit }
    }

    /// The next record, its payload checked.
    pub fn step(&mut self) -> Step {
        match self.look() {
            Ok(step) => {
                if let Step::Record { at, header } = &step {
                    self.at = header.end(*at as u32);
                    self.tail = self.at;
                }
                step
            }
            Err(e) => Step::End(Break { at: self.at, what: Some(format!("it cannot be read: {e}")) }),
        }
    }

    fn look(&mut self) -> io::Result<Step> {
        loop {
            let end = |at: u64, what: Option<&str>| Ok(Step::End(Break { at, what: what.map(str::to_owned) }));
            if self.limit.is_some_and(|limit| self.tail >= limit) || self.at >= self.reading.len {
                return end(self.at, None);
            }
            let next = round_up(self.at, self.unit);
            if next - self.at < RECORD_HEADER as u64 && next > self.at {
                self.at = next;
                continue;
            }
            let at = self.at;
            let header = match self.reading.frame(&self.seed, at)? {
                Frame::Empty if next == at => return end(at, None),
                Frame::Empty => {
                    self.at = next;
                    continue;
                }
                Frame::Broken => return end(at, Some("the frame of a record is damaged")),
                Frame::Record(header) => header,
            };
            if u64::from(header.previous) != self.tail {
                return end(self.tail, Some("a record is missing"));
            }
            if header.end(at as u32) > self.limit.unwrap_or(self.reading.len).min(self.reading.len) {
                return end(at, Some("a record reaches past the end"));
            }
            if !self.reading.is_whole(at, &header)? {
                return end(at, Some("the checksum of a record does not match"));
            }
            return Ok(Step::Record { at, header });
        }
    }

    /// The payload of the record that [`Walk::step`] has just given.
    pub fn payload(&mut self, at: u64, header: &RecordHeader) -> io::Result<&[u8]> {
        self.reading.bytes(at + RECORD_HEADER as u64, header.length as usize)
    }

    /// What stands behind the end of the records: whether frames do, and whether one of them tells that records behind
    /// the end were durable. A round that was written after another had become durable begins at a multiple of the unit,
    /// and its first frame tells.
    pub fn behind(&mut self) -> Behind {
        let mut behind = Behind::Nothing;
        let mut at = round_up(self.tail, self.unit);
        while at < self.reading.len {
            // What cannot be read tells nothing.
            if let Ok(Frame::Record(header)) = self.reading.frame(&self.seed, at) {
                if u64::from(header.synced) > self.tail {
                    return Behind::Durable(at);
                }
                behind = Behind::Records;
            }
            at += u64::from(self.unit);
        }
        behind
    }
}

/// See [`Walk::behind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    Nothing,
    /// Records that nobody was told of.
    Records,
    /// The record here was written when records behind the end were durable.
    Durable(u64),
}
