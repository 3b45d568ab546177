//! Where the next record goes, what is written, what is durable, and what was asked for.
//!
//! All of it is behind the log's one mutex; no I/O happens here. Places are compared as [`Lsn`]s: the end of the last
//! record that something is true of.
//!
//! Space for reservations is certain because everything else leaves it alone: with the next record beginning at `a`,
//! `a` rounded up to the unit plus all reservations, each rounded up too, never reaches past the space that the file has.
//! Padding a round does not change the left side, so no order of rounds and appends can use up what was promised.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use strandline_vfs::File;

use crate::error::{Error, ErrorKind, Result};
use crate::options::Durability;
use crate::types::Lsn;

use super::format::{RECORD_HEADER, RecordHeader, Seed, round_up};
use super::{Counters, LogEnd, ScanOptions, SegmentInfo, Ticket};

/// More space is taken when less than so many bytes are left: what a busy log writes in about the time that taking it lasts.
const AHEAD: u64 = 512 << 10;

/// The largest buffer that is kept for the next round, in bytes.
const SPARE_MAX: usize = 2 << 20;

/// Puts records one behind the other.
pub(super) struct Packer {
    seed: Seed,
    unit: u32,
    /// Records that nobody has written yet, and where in the file they begin.
    pub buffer: Vec<u8>,
    pub start: u64,
    /// Where the last record ends; the end of the segment's header while there is none.
    pub tail: u64,
}

/// The segment that is being written.
pub(super) struct Current {
    pub file: Arc<dyn File>,
    pub path: Arc<Path>,
    pub number: u32,
    pub records: Packer,
    /// The first record in the buffer: its frame is sealed again when a leader takes it.
    pub first: Option<(u64, RecordHeader)>,
    /// Where the last durable record ends; 0 while there is none.
    pub synced: u64,
    /// The file's own space ends here.
    pub space: u64,
    /// It does not grow beyond this.
    pub limit: u64,
    /// Nothing more is taken ahead: there was no space.
    pub short_of_space: bool,
}

/// What a leader takes.
pub(super) struct Round {
    pub file: Arc<dyn File>,
    pub path: Arc<Path>,
    pub bytes: Vec<u8>,
    pub at: u64,
    pub tail: u64,
    pub end: Lsn,
}

/// What an append must have done before there is room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Fits,
    /// Take space up to here.
    Lengthen(u64),
    /// Another segment.
    Switch,
}

pub(super) struct State {
    pub current: Option<Current>,
    /// Number of the next segment to be made.
    pub next: u32,
    /// Where the last record before the current segment ends.
    pub previous: Lsn,
    /// Who made the segment of `previous`, and who makes those to come.
    pub previous_writer: u64,
    pub writer: u64,
    /// What is handed to the system, what is durable, and what of each was ever asked for.
    pub written: Lsn,
    pub synced: Lsn,
    pub want_written: Lsn,
    pub want_synced: Lsn,
    /// Bytes promised to reservations, in whole units.
    pub reserved: u64,
    /// One thread has the turn to do I/O.
    pub busy: bool,
    /// That thread changes segments: appends wait.
    pub shut: bool,
    pub failure: Option<String>,
    pub closed: bool,
    pub spare: Vec<u8>,
    pub count: Counters,
    /// Closed segments, ascending.
    pub segments: Vec<SegmentInfo>,
    /// Records before the first segment that may not be durable.
    pub doubt: Option<(ScanOptions, LogEnd)>,
    /// Who keeps which segments, by a number of its own.
    pub holds: BTreeMap<u64, u32>,
    pub next_hold: u64,
}

impl Packer {
    /// Behind the header of a segment.
    pub fn new(seed: Seed, unit: u32) -> Self {
        Self { seed, unit, buffer: Vec::new(), start: unit.into(), tail: unit.into() }
    }

    /// Where a record would begin.
    fn place(&self) -> u64 {
        let at = self.start + self.buffer.len() as u64;
        let next = round_up(at, self.unit);
        if next - at < RECORD_HEADER as u64 { next } else { at }
    }

    /// Appends a record; returns where it begins, and its frame.
    pub fn push(&mut self, payload: &[u8], payload_crc: u32, synced: u32) -> (u64, RecordHeader) {
        let at = self.place();
        self.buffer.resize((at - self.start) as usize, 0);
        let header = RecordHeader { length: payload.len() as u32, synced, previous: self.tail as u32, payload_crc };
        self.buffer.extend_from_slice(&header.encode(&self.seed, at as u32));
        self.buffer.extend_from_slice(payload);
        self.tail = header.end(at as u32);
        (at, header)
    }
}

impl Current {
    /// Whether there is room for `bytes` in one piece besides what is reserved.
    pub fn room(&mut self, bytes: u64, reserved: u64) -> Room {
        let end = round_up(self.records.place() + bytes, self.records.unit) + reserved;
        if self.is_empty() {
            // A record larger than a segment gets one of its own.
            self.limit = self.limit.max(end);
        }
        match end {
            _ if end <= self.space => Room::Fits,
            _ if end <= self.limit => Room::Lengthen(end),
            _ => Room::Switch,
        }
    }

    /// Whether so little is left of the space that more should be taken before it is needed.
    pub fn is_low(&self) -> bool {
        let left = self.space.saturating_sub(self.records.place());
        self.space < self.limit && !self.short_of_space && left < AHEAD
    }

    /// No record was ever appended to it.
    pub const fn is_empty(&self) -> bool {
        self.records.tail == self.records.unit as u64
    }

    /// The end of the last record. Before the first one, the start of a segment that nobody needs yet.
    pub const fn end(&self) -> Lsn {
        Lsn { segment: self.number, offset: if self.is_empty() { 0 } else { self.records.tail as u32 } }
    }

    fn push(&mut self, payload: &[u8], payload_crc: u32) {
        let pushed = self.records.push(payload, payload_crc, self.synced as u32);
        self.first.get_or_insert(pushed);
    }

    /// Takes what is in the buffer; padded to the unit when it is to be synced, so that nothing is ever written beside it
    /// (L6).
    fn take(&mut self, pad: bool, spare: Vec<u8>) -> Round {
        let end = self.end();
        let records = &mut self.records;
        if let Some((at, mut header)) = self.first.take() {
            // Rounds before this one may have become durable since the record was appended; this is what a reader needs to
            // know of a break in them.
            header.synced = self.synced as u32;
            let within = (at - records.start) as usize;
            records.buffer[within..within + RECORD_HEADER].copy_from_slice(&header.encode(&records.seed, at as u32));
        }
        let mut bytes = std::mem::replace(&mut records.buffer, spare);
        let at = records.start;
        let written = at + bytes.len() as u64;
        records.start = if pad { round_up(written, records.unit) } else { written };
        if !bytes.is_empty() {
            bytes.resize((records.start - at) as usize, 0);
        }
        Round { file: Arc::clone(&self.file), path: Arc::clone(&self.path), bytes, at, tail: records.tail, end }
    }
}

impl State {
    /// Where the next record goes, or after padding.
    pub fn end(&self) -> Lsn {
        self.current.as_ref().map_or(Lsn { segment: self.next, offset: 0 }, Current::end)
    }

    /// Where the last record ends, in whichever segment.
    pub fn last_end(&self) -> Lsn {
        self.current.as_ref().filter(|c| !c.is_empty()).map_or(self.previous, Current::end)
    }

    /// Who made the segment of [`State::last_end`].
    pub fn last_writer(&self) -> u64 {
        self.current.as_ref().filter(|c| !c.is_empty()).map_or(self.previous_writer, |_| self.writer)
    }

    /// The current segment, finished, is now a closed one. `bytes`: the length of its file, when it was cut.
    pub fn retire(&mut self, bytes: Option<u64>) {
        (self.previous, self.previous_writer) = (self.last_end(), self.last_writer());
        if let Some(old) = self.current.take() {
            let (number, path) = (old.number, old.path.to_path_buf());
            self.segments.push(SegmentInfo { number, path, bytes: bytes.unwrap_or(old.space) });
        }
        // Whatever was asked for so far is done; and so is what is asked for before the next record.
        let begin = Lsn { segment: self.next, offset: 0 };
        (self.written, self.synced) = (begin, begin);
    }

    /// Errs when the log takes nothing more.
    pub fn check(&self) -> Result<()> {
        if let Some(failure) = &self.failure {
            return Err(Error::new(ErrorKind::Poisoned, format!("writing the log failed earlier: {failure}"))
                .remedy("close the database and open it again"));
        }
        if self.closed {
            return Err(Error::new(ErrorKind::Closed, "the log is closed"));
        }
        Ok(())
    }

    pub fn covers(&self, ticket: &Ticket) -> bool {
        self.written >= ticket.written && self.synced >= ticket.synced
    }

    /// A ticket for everything so far. A commit becomes visible after those before it, so whatever was asked for before is
    /// waited for too.
    pub fn ticket(&self, level: Durability) -> Ticket {
        let end = self.end();
        let written = if level >= Durability::Write { end } else { self.want_written };
        let synced = if level >= Durability::Sync { end } else { self.want_synced };
        Ticket { written, synced, end }
    }

    /// Appends a record for which there is room.
    pub fn push(&mut self, payload: &[u8], payload_crc: u32, level: Durability) -> Ticket {
        // Both are our own: room was made under this very lock.
        let current = self.current.as_mut().expect("room was made for the record");
        current.push(payload, payload_crc);
        let end = round_up(current.records.tail, current.records.unit);
        assert!(end + self.reserved <= current.space, "there is room for the record and for what is reserved");
        self.count.records += 1;
        self.count.bytes += (RECORD_HEADER + payload.len()) as u64;
        let ticket = self.ticket(level);
        (self.want_written, self.want_synced) = (ticket.written, ticket.synced);
        ticket
    }

    /// Takes the turn and the buffer for a round.
    pub fn take(&mut self, pad: bool) -> Option<Round> {
        let current = self.current.as_mut()?;
        self.busy = true;
        Some(current.take(pad, std::mem::take(&mut self.spare)))
    }

    /// Notes what a round has reached.
    pub fn reached(&mut self, mut round: Round, synced: bool) {
        self.count.written += round.bytes.len() as u64;
        self.written = self.written.max(round.end);
        if synced {
            self.count.syncs += 1;
            self.synced = self.synced.max(round.end);
            if let Some(current) = self.current.as_mut().filter(|c| c.number == round.end.segment && !c.is_empty()) {
                current.synced = round.tail;
            }
        }
        if round.bytes.capacity() <= SPARE_MAX {
            round.bytes.clear();
            self.spare = round.bytes;
        }
    }
}
