//! [`Log`]: appending, group commit, switching.
//!
//! One mutex guards the accounting and is held for moments; whoever does I/O takes the *turn* (`busy`), lets go of the mutex
//! and takes it again to note what was reached. There is one turn, so a round, a lengthening and a switch never overlap.
//! Appends go on during a round and a lengthening: they go into a buffer that the thread with the turn does not touch. Only
//! while a segment is being changed (`shut`) do they wait, because where they belong is not decided yet.
//!
//! - L2: a waiter returns only when `written` and `synced` have passed what its ticket says. A round moves them to where
//!   the log ended when its bytes were taken, never to where it ends when the I/O is done.
//! - V5: after a failed write or sync of anything that counts, the log is poisoned for ever. The thread that met the
//!   failure returns it; everybody else, waiting or later, gets `Poisoned`.
//! - A full device is met when space is taken, before a record is accepted: that changes nothing, and may be tried again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex, MutexGuard};
use strandline_vfs::{File, Vfs};

use crate::error::{Error, ErrorKind, Result};
use crate::options::Durability;
use crate::types::{Lineage, Lsn};

use super::format::{PAYLOAD_MAX, RECORD_HEADER, SegmentHeader, round_up, segment_name};
use super::scan::seal_tail;
use super::segment::{self, Cut, Failure, Space};
use super::state::{Current, Packer, Room, State};
use super::{Counters, LogOptions, Notes, SegmentInfo, Ticket};

/// Space is taken in pieces of so many bytes, or of the size of the segment when that is smaller: as much again as the
/// segment has, within these limits. The first sync into a piece costs many times any other, because the file's length
/// and its map change with it; a busy log should meet that seldom, and a small database should not pay for it.
const CHUNK: (u64, u64) = (1 << 20, 4 << 20);
/// A record of a quarter of a piece, or of so many bytes, is not worth filling its space with zeros first.
const FILL_MAX: u64 = 256 << 10;
/// The largest segment but for those that one record fills alone, in bytes.
const SEGMENT_MAX: u64 = 1 << 31;
/// An append writes the buffer out itself when it has grown to this many bytes.
const BUFFER_MAX: usize = 1 << 20;

type Guard<'a> = MutexGuard<'a, State>;

/// The log of one open database.
pub struct Log {
    pub(super) vfs: Arc<dyn Vfs>,
    pub(super) dir: PathBuf,
    lineage: Lineage,
    unit: u32,
    segment_bytes: u64,
    pub(super) state: Mutex<State>,
    changed: Condvar,
    notes: OnceLock<Box<dyn Notes>>,
}

/// Space for one record that is certain to be there; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation<'a> {
    log: &'a Log,
    bytes: u64,
}

impl Log {
    /// Begins a log. No file is touched before the first append.
    #[must_use]
    pub fn start(o: LogOptions) -> Self {
        let begin = Lsn { segment: o.next, offset: 0 };
        let state = State {
            current: None,
            next: o.next,
            previous: o.previous,
            previous_writer: o.previous_writer,
            writer: o.writer,
            written: begin,
            synced: begin,
            want_written: begin,
            want_synced: begin,
            reserved: 0,
            busy: false,
            shut: false,
            failure: None,
            closed: false,
            spare: Vec::new(),
            count: Counters::default(),
            segments: o.kept,
            doubt: o.doubt,
            holds: Default::default(),
            next_hold: 0,
        };
        Self {
            vfs: o.vfs,
            dir: o.dir,
            lineage: o.lineage,
            unit: o.unit,
            segment_bytes: round_up(o.segment_bytes.clamp(2 * u64::from(o.unit), SEGMENT_MAX), o.unit),
            state: Mutex::new(state),
            changed: Condvar::new(),
            notes: OnceLock::new(),
        }
    }

    /// What must be remembered outside of the log goes there. To be called before the first append.
    pub fn note_with(&self, notes: impl Notes + 'static) {
        let first = self.notes.set(Box::new(notes));
        debug_assert!(first.is_ok(), "there is one who notes");
    }

    /// Appends a record. The order of calls is the order in the log. Nothing is waited for but a change of segments, and
    /// space where more must be taken; [`Log::wait`] with the ticket waits for what the level promises.
    ///
    /// # Errors
    /// `Io` when there is no space: nothing was appended, and a later append may succeed. `InvalidArgument` for an empty
    /// payload or one above [`PAYLOAD_MAX`]. `Poisoned`, `Closed`. `Io` also when a segment could not be finished: that
    /// poisons the log.
    pub fn append(&self, payload: &[u8], level: Durability) -> Result<Ticket> {
        let bytes = frame(payload.len())?;
        let crc = crc32fast::hash(payload);
        let mut state = self.make_room(self.state.lock(), bytes)?;
        Ok(state.push(payload, crc, level))
    }

    /// Makes sure of space for a record of up to `payload` bytes: appending it cannot meet a full device any more.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn reserve(&self, payload: usize) -> Result<Reservation<'_>> {
        let bytes = round_up(frame(payload)?, self.unit);
        let mut state = self.make_room(self.state.lock(), bytes)?;
        state.reserved += bytes;
        Ok(Reservation { log: self, bytes })
    }

    /// Appends a record into reserved space.
    ///
    /// # Errors
    /// `Poisoned`, `Closed`; `InvalidArgument` for an empty payload.
    ///
    /// # Panics
    /// When the payload is longer than what was reserved, or reserved in another log.
    pub fn append_reserved(&self, r: Reservation<'_>, payload: &[u8], level: Durability) -> Result<Ticket> {
        let bytes = frame(payload.len())?;
        assert!(std::ptr::eq(self, r.log) && bytes <= r.bytes, "the reservation is for this record");
        let crc = crc32fast::hash(payload);
        let mut state = self.state.lock();
        state.check()?;
        while state.shut {
            self.changed.wait(&mut state);
            state.check()?;
        }
        state.reserved -= r.bytes;
        let ticket = state.push(payload, crc, level);
        drop(state);
        // What was promised has just been used.
        std::mem::forget(r);
        Ok(ticket)
    }

    /// A ticket for everything appended so far. `Buffered` waits only for what earlier commits asked for.
    pub fn pending(&self, level: Durability) -> Ticket {
        self.state.lock().ticket(level)
    }

    /// Waits until what the ticket says is done, and does it when nobody else is at it.
    ///
    /// # Errors
    /// `Io` when a write or sync failed in this call; `Poisoned` when one failed elsewhere; `Closed`. After an error it is
    /// unknown whether the record will be found again.
    pub fn wait(&self, t: &Ticket) -> Result<()> {
        let mut state = self.state.lock();
        while !state.covers(t) {
            state.check()?;
            if state.busy {
                self.changed.wait(&mut state);
            } else {
                let sync = state.synced < t.synced;
                state = self.round(state, sync)?;
            }
        }
        Ok(())
    }

    /// Where the last record ends, and so where the next one goes, but for padding. `offset` is 0 while the segment it
    /// goes to has no record yet.
    pub fn end(&self) -> Lsn {
        self.state.lock().end()
    }

    /// Writes, or writes and syncs, everything appended so far.
    ///
    /// # Errors
    /// As [`Log::wait`].
    pub fn sync(&self, level: Durability) -> Result<()> {
        self.wait(&self.pending(level))
    }

    /// Writes out what is buffered, unless somebody is at it. True when there was something.
    ///
    /// # Errors
    /// As [`Log::wait`].
    pub fn step(&self) -> Result<bool> {
        let state = self.state.lock();
        let waiting = state.current.as_ref().is_some_and(|c| !c.records.buffer.is_empty());
        if !waiting || state.busy || state.check().is_err() {
            return Ok(false);
        }
        drop(self.round(state, false)?);
        Ok(true)
    }

    /// Closes the current segment, all of it durable: what is appended from now on goes to the next one. A segment without
    /// a record stays. Returns where the last record of the log ends.
    ///
    /// # Errors
    /// As [`Log::wait`]. With a reservation outstanding also `Io` when there is no space: then nothing was switched.
    pub fn switch(&self) -> Result<Lsn> {
        let mut state = self.with_turn(self.state.lock())?;
        if state.current.as_ref().is_some_and(|c| !c.is_empty()) {
            state = self.close_segment(state, 0, false)?;
        }
        Ok(state.last_end())
    }

    /// All segments that exist: closed ones and the current one, ascending.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let state = self.state.lock();
        let current = state.current.as_ref().map(|c| SegmentInfo {
            number: c.number,
            path: c.path.to_path_buf(),
            bytes: c.space,
        });
        state.segments.iter().cloned().chain(current).collect()
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.state.lock().count
    }

    /// Whether the log takes records.
    ///
    /// # Errors
    /// `Poisoned` after a failed write or sync; `Closed`.
    pub fn check(&self) -> Result<()> {
        self.state.lock().check()
    }

    /// Writes, syncs and cuts the last segment. Afterwards nothing is taken any more; closing again does nothing.
    ///
    /// # Errors
    /// As [`Log::wait`].
    pub fn close(&self) -> Result<()> {
        let mut state = match self.with_turn(self.state.lock()) {
            Ok(state) => state,
            Err(e) if e.kind() == ErrorKind::Closed => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut noted = Ok(());
        if state.current.is_some() {
            state = self.close_segment(state, 0, true)?;
            let end = state.last_end();
            state.busy = true;
            let turn = self.let_go(state);
            noted = self.notes.get().map_or(Ok(()), |notes| notes.closed(end));
            state = turn.back(None);
        }
        // Only now: until then whoever waits is told of success, not that the log is closed.
        state.closed = true;
        self.changed.notify_all();
        drop(state);
        noted
    }

    /// The directory of the segments.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The history that the segments say they are of.
    #[must_use]
    pub const fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// Waits until nobody has the turn.
    fn with_turn<'a>(&'a self, mut state: Guard<'a>) -> Result<Guard<'a>> {
        loop {
            state.check()?;
            if !state.busy {
                return Ok(state);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Makes room for `bytes` in one piece.
    fn make_room<'a>(&'a self, mut state: Guard<'a>, bytes: u64) -> Result<Guard<'a>> {
        let mut counted = false;
        loop {
            state.check()?;
            let reserved = state.reserved;
            if round_up(bytes, self.unit) + reserved + 2 * u64::from(self.unit) > u64::from(u32::MAX) {
                return Err(Error::new(ErrorKind::Full, "space is reserved for more than a log segment can hold")
                    .remedy("try again when the operations under way are done"));
            }
            let full = state.current.as_ref().is_some_and(|c| c.records.buffer.len() >= BUFFER_MAX);
            let room = state.current.as_mut().map(|c| c.room(bytes, reserved));
            state.count.short += u64::from(!counted && room != Some(Room::Fits));
            counted |= room != Some(Room::Fits);
            state = match room {
                Some(Room::Fits) if !full && !state.shut => {
                    let low = state.current.as_ref().is_some_and(Current::is_low);
                    if state.busy || !low {
                        return Ok(state);
                    }
                    self.take_ahead(state)
                }
                _ if state.busy => {
                    self.changed.wait(&mut state);
                    state
                }
                Some(Room::Fits) => self.round(state, false)?,
                Some(Room::Lengthen(end)) => self.lengthen(state, end, bytes)?,
                Some(Room::Switch) => self.close_segment(state, bytes, false)?,
                None if state.doubt.is_some() => self.seal(state)?,
                None => self.make_segment(state, bytes)?,
            }
        }
    }

    /// One round: takes the buffer, writes it, syncs it if so asked, notes what was reached.
    fn round<'a>(&'a self, mut state: Guard<'a>, sync: bool) -> Result<Guard<'a>> {
        let Some(round) = state.take(sync) else { return Ok(state) };
        let (turn, path) = (self.let_go(state), &round.path);
        let mut result = Ok(());
        if !round.bytes.is_empty() {
            result = round.file.write_all_at(&round.bytes, round.at).map_err(|e| Error::io(e, "write", path));
        }
        if sync && result.is_ok() {
            result = round.file.sync_data().map_err(|e| Error::io(e, "sync", path));
        }
        let mut state = turn.back(result.as_ref().err());
        result?;
        state.reached(round, sync);
        Ok(state)
    }

    /// Takes more space in the current segment.
    fn lengthen<'a>(&'a self, mut state: Guard<'a>, end: u64, bytes: u64) -> Result<Guard<'a>> {
        let Some(c) = state.current.as_ref() else { return Ok(state) };
        let (file, path) = (Arc::clone(&c.file), Arc::clone(&c.path));
        let space = self.space(c.space, end, c.limit, bytes);
        state.busy = true;
        let turn = self.let_go(state);
        let taken = segment::lengthen(&*file, &path, space);
        // Nothing that counts was touched, so a failure harms nobody else.
        let mut state = turn.back(None);
        let taken = taken?;
        state.count.taken += taken - space.from;
        if let Some(c) = state.current.as_mut() {
            c.space = taken;
        }
        Ok(state)
    }

    /// Takes more space before it is needed. Without space nobody fails: what is left is still there.
    fn take_ahead<'a>(&'a self, state: Guard<'a>) -> Guard<'a> {
        let Some((file, path, from, limit)) =
            state.current.as_ref().map(|c| (Arc::clone(&c.file), Arc::clone(&c.path), c.space, c.limit))
        else {
            return state;
        };
        let mut state = state;
        state.busy = true;
        let turn = self.let_go(state);
        let taken = segment::lengthen(&*file, &path, self.space(from, from + u64::from(self.unit), limit, 0));
        let mut state = turn.back(None);
        if let Some(c) = state.current.as_mut() {
            c.short_of_space = taken.is_err();
            c.space = taken.as_ref().map_or(from, |end| *end);
        }
        state.count.taken += taken.map_or(0, |end| end - from);
        state
    }

    /// How far to lengthen a file whose space ends at `from`, when `need` is what a record of `bytes` wants.
    fn space(&self, from: u64, need: u64, limit: u64, bytes: u64) -> Space {
        let chunk = self.segment_bytes.min(from.clamp(CHUNK.0, CHUNK.1));
        let fill = bytes < FILL_MAX.min(chunk / 4);
        let want = if fill { limit.min(from + chunk).max(need) } else { need };
        Space { from, want, need, fill }
    }

    /// Before the log goes on behind records that may not be durable: makes them so.
    fn seal<'a>(&'a self, mut state: Guard<'a>) -> Result<Guard<'a>> {
        let Some((options, end)) = state.doubt.clone() else { return Ok(state) };
        state.busy = true;
        let turn = self.let_go(state);
        let sealed = seal_tail(&options, &end);
        // A failure leaves the log as it was: what was to be sealed is still what it was.
        let mut state = turn.back(None);
        let sealed = sealed?;
        state.doubt = None;
        let next = state.next;
        state.segments.extend(sealed.segments.into_iter().filter(|s| s.number >= next));
        state.next = sealed.next;
        (state.previous, state.previous_writer) = (sealed.previous, sealed.previous_writer);
        state.retire(None);
        Ok(state)
    }

    /// Makes the next segment, with room for `bytes` and for what is reserved.
    fn make_segment<'a>(&'a self, mut state: Guard<'a>, bytes: u64) -> Result<Guard<'a>> {
        let previous = state.last_end();
        let (writer, previous_writer) = (state.writer, state.last_writer());
        let (unit, number, lineage) = (self.unit, state.next, self.lineage);
        let header = SegmentHeader { unit, number, lineage, previous, writer, previous_writer };
        let need = u64::from(self.unit) + round_up(bytes, self.unit) + state.reserved;
        let limit = self.segment_bytes.max(need);
        let space = self.space(0, need, limit, bytes);
        (state.busy, state.shut) = (true, true);
        let turn = self.let_go(state);
        let made = segment::make(&*self.vfs, &self.dir, &header, space);
        match made.and_then(|made| self.noted(header.number).map(|()| made)) {
            Ok((file, end)) => {
                let mut state = turn.back(None);
                self.begin(&mut state, &header, file, end, limit);
                Ok(state)
            }
            Err(Failure::Harmless(e)) => {
                drop(turn.back(None));
                Err(e)
            }
            Err(Failure::Unknown(e)) => {
                drop(turn.back(Some(&e)));
                Err(e)
            }
        }
    }

    /// Has it noted elsewhere that the segment was made.
    fn noted(&self, number: u32) -> std::result::Result<(), Failure> {
        let noted = self.notes.get().map_or(Ok(()), |notes| notes.made(number));
        noted.map_err(|e| match e.io_source().map(std::io::Error::kind) {
            Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => Failure::Harmless(e),
            _ => Failure::Unknown(e),
        })
    }

    /// Notes that a segment was made.
    fn begin(&self, state: &mut State, header: &SegmentHeader, file: Arc<dyn File>, space: u64, limit: u64) {
        let start = u64::from(self.unit);
        state.retire(None);
        state.count.segments += 1;
        state.count.syncs += 1;
        state.count.written += start;
        state.count.taken += space;
        // The last number is never used up: a log that reached it could not be switched.
        state.next = header.number.saturating_add(1);
        state.current = Some(Current {
            file,
            path: self.dir.join(segment_name(header.number)).into(),
            number: header.number,
            records: Packer::new(header.seed(), self.unit),
            first: None,
            synced: 0,
            space,
            limit,
            short_of_space: false,
        });
    }

    /// Finishes the current segment: the rest written and padded, the file cut, all durable. With reservations the next one
    /// is made before the space of this one is given up, so that what was promised stays certain; unless the log is ending.
    fn close_segment<'a>(&'a self, mut state: Guard<'a>, bytes: u64, ending: bool) -> Result<Guard<'a>> {
        let moved = state.reserved > 0 && !ending;
        let Some(round) = state.take(true) else { return Ok(state) };
        state.shut = true;
        let turn = self.let_go(state);
        let cut = match (moved, ending) {
            (true, _) => Cut::Not,
            (_, true) => Cut::Exactly(round.tail),
            // The last round may have ended between two units.
            _ => Cut::Padding(round_up(round.tail, self.unit)),
        };
        let finished = segment::finish(&*round.file, &round.path, &round.bytes, round.at, cut);
        let mut state = turn.back(finished.as_ref().err());
        let cut = finished?;
        state.reached(round, true);
        if moved {
            // It stays the current one until the next is made: when that fails, nothing was switched.
            return self.make_segment(state, bytes);
        }
        state.retire(cut);
        Ok(state)
    }

    /// Lets go of the mutex for I/O; the turn was taken.
    fn let_go<'a>(&'a self, state: Guard<'a>) -> Turn<'a> {
        drop(state);
        Turn { log: self, over: false }
    }
}

/// The turn to do I/O. A thread that dies in it leaves the log poisoned, not hanging.
struct Turn<'a> {
    log: &'a Log,
    over: bool,
}

impl<'a> Turn<'a> {
    /// Gives the turn back, takes the mutex again, and poisons the log when what it did has failed.
    fn back(mut self, failure: Option<&Error>) -> Guard<'a> {
        self.over = true;
        self.end(failure.map(ToString::to_string))
    }

    fn end(&self, failure: Option<String>) -> Guard<'a> {
        let mut state = self.log.state.lock();
        (state.busy, state.shut) = (false, false);
        if state.failure.is_none() {
            state.failure = failure;
        }
        self.log.changed.notify_all();
        state
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.over {
            drop(self.end(Some("a thread died while it wrote the log".to_owned())));
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.log.state.lock().reserved -= self.bytes;
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.state.try_lock().map(|state| state.end());
        f.debug_struct("Log").field("dir", &self.dir).field("lineage", &self.lineage).field("end", &end).finish()
    }
}

/// Bytes that a record with such a payload takes.
fn frame(payload: usize) -> Result<u64> {
    match payload {
        0 => Err(Error::invalid("an empty log record")),
        n if n > PAYLOAD_MAX => {
            Err(Error::invalid(format!("a log record of {n} bytes is longer than the limit of {PAYLOAD_MAX} bytes"))
                .remedy("commit in several transactions"))
        }
        n => Ok((RECORD_HEADER + n) as u64),
    }
}
