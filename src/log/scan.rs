//! What a log holds: [`survey`] reads all of it once and judges it, [`Scanner`] hands out its records.
//!
//! Nothing is changed. A survey comes first, so that a log that must be refused is refused before anything is done.
//!
//! - L5: a scan of the same files gives the same records, however often.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::{OpenOptions, Vfs};

use crate::error::{Error, Result};
use crate::types::{LogPosition, Lsn};

use super::SegmentInfo;
use super::chain::{self, Part, REMEDY};
use super::format::{SegmentHeader, segment_name};
use super::segment::DRAFT_SUFFIX;
use super::state::Packer;
use super::walk::{Behind, Break, Reading, Step, Walk};

/// Bytes that are copied at once.
const COPY_PIECE: usize = 256 << 10;

/// Which log to read, and how.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// The file system.
    pub vfs: Arc<dyn Vfs>,
    /// The directory of the segments. If there is none, there are no segments.
    pub dir: PathBuf,
    /// Allocation unit in bytes, as in the settings.
    pub unit: u32,
    /// Where to begin.
    pub from: LogPosition,
    /// No segment above this number counts.
    pub last: Option<u32>,
    /// A segment of this number was made, as somebody else knows ([`super::Notes::made`]): it must be there.
    pub made: Option<u32>,
    /// Records up to here were durable when the log was closed, as somebody else knows ([`super::Notes::closed`]).
    pub closed: Option<Lsn>,
    /// Damage ends the log and is no error.
    pub salvage: bool,
}

/// What a survey found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// Where the last record ends; where the survey began when there is none.
    pub end: Lsn,
    /// Records from there on.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Why the log ends here, when something follows that was never acknowledged or, with salvage, is damaged.
    pub torn: Option<Torn>,
    /// The highest number of a segment in the directory, whole or not; those above `last` count too.
    pub highest: u32,
    /// Records up to here are known to have been durable.
    pub synced: Lsn,
    /// The number for the next segment to be made: above all that hold records.
    pub next: u32,
    /// What that segment continues: `end`, or where the records before the survey's beginning end.
    pub previous: Lsn,
    /// Who made the segment of `previous`; 0 when there is none.
    pub previous_writer: u64,
    /// Segments below `next` that exist, those before the survey's beginning too, ascending.
    pub segments: Vec<SegmentInfo>,
    /// Names of segments above `last`.
    pub surplus: Vec<String>,
    parts: Vec<Part>,
}

/// Why a log ends before its bytes do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Where.
    pub lsn: Lsn,
    /// What is wrong there.
    pub what: String,
}

/// Reads the log once, from beginning to end.
///
/// # Errors
/// `Corrupt` with file and offset for damage to what was durable, a missing segment, a file in the wrong place;
/// `WrongBase` for a segment of another history; `Unsupported` for a newer format; `Io`.
pub fn survey(o: &ScanOptions) -> Result<LogEnd> {
    let mut all = chain::list(&*o.vfs, &o.dir)?;
    let highest = all.last().map_or(0, |s| s.number);
    let counted = all.partition_point(|s| o.last.is_none_or(|last| s.number <= last));
    let surplus = all.split_off(counted).iter().map(|s| segment_name(s.number)).collect();
    let needed = all.partition_point(|s| s.number < o.from.lsn.segment);
    let found = all[needed..].iter().map(|s| chain::look(o, s.clone())).collect::<Result<Vec<_>>>()?;
    let (parts, ends) = chain::chain(o, &found)?;
    let mut end = LogEnd {
        end: o.from.lsn,
        records: 0,
        bytes: 0,
        torn: None,
        highest,
        synced: o.from.lsn,
        next: o.from.lsn.segment,
        previous: o.from.lsn,
        previous_writer: 0,
        segments: Vec::new(),
        surplus,
        parts,
    };
    let empty = end.read(o)?;
    if let Some(closed) = o.closed {
        end.synced = end.synced.max(closed.min(end.end));
    }
    if let (None, Some(what)) = (&end.torn, ends) {
        end.torn = Some(Torn { lsn: end.end, what });
    }
    let used = found.iter().filter(|f| f.header.is_ok()).map(|f| f.info.number);
    let used = used.filter(|n| empty.is_none_or(|e| e.number != *n)).max();
    end.next = used.map_or(end.next, |n| end.next.max(n.saturating_add(1)));
    if o.salvage && end.torn.is_some() {
        let highest = all.last().map(|s| s.number).max(o.made);
        end.next = highest.map_or(end.next, |n| end.next.max(n.saturating_add(1)));
    }
    (end.previous, end.previous_writer) = match (end.end.offset, empty) {
        (0, Some(header)) => (header.previous, header.previous_writer),
        (0, None) => chain::end_before(o, &all[..needed]),
        _ => (end.end, end.parts.last().map_or(0, |part| part.header.writer)),
    };
    end.segments = all.into_iter().filter(|s| s.number < end.next).collect();
    Ok(end)
}

impl LogEnd {
    /// Some of the records may be in the system's cache only.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.end.offset != 0 && self.synced < self.end
    }

    /// Walks through all parts. Gives the header of a last segment without any record: such a segment does not count, and
    /// is made anew.
    fn read(&mut self, o: &ScanOptions) -> Result<Option<SegmentHeader>> {
        let parts = std::mem::take(&mut self.parts);
        for part in &parts {
            let mut walk = part.walk(o)?;
            let broken = loop {
                match walk.step() {
                    Step::Record { at, header } => {
                        self.records += 1;
                        self.bytes += u64::from(header.length);
                        debug_assert!(at >= part.start);
                        self.durable(part, u64::from(header.synced));
                    }
                    Step::End(end) => break end,
                }
            };
            self.durable(part, part.start);
            let damage = if part.start > u64::from(o.unit) && walk.reading.len < part.start {
                Err("the file ends before the place where replay begins".to_owned())
            } else {
                judge(&mut walk, part, &broken)
            };
            let torn = damage.as_ref().err().cloned().or(broken.what.clone());
            if damage.is_err() && !o.salvage {
                let what = torn.unwrap_or_default();
                let error = Error::corrupt(format!("the log is damaged: {what}"));
                return Err(error.at(&part.path, Some(broken.at)).remedy(REMEDY));
            }
            let wanted = part.header.number == o.from.lsn.segment && o.from.lsn.offset != 0;
            let empty = walk.tail == u64::from(o.unit) && part.limit.is_none() && !wanted;
            if empty && torn.is_none() && damage == Ok(Behind::Nothing) {
                return Ok(Some(part.header));
            }
            self.end = Lsn { segment: part.header.number, offset: walk.tail as u32 };
            self.parts.push(Part { limit: Some(walk.tail), ..part.clone() });
            let unseen = (damage == Ok(Behind::Records)).then(|| "records before others are missing".to_owned());
            if let Some(what) = torn.or(unseen) {
                self.torn = Some(Torn { lsn: Lsn { segment: part.header.number, offset: broken.at as u32 }, what });
                break;
            }
        }
        Ok(None)
    }

    fn durable(&mut self, part: &Part, offset: u64) {
        self.synced = self.synced.max(Lsn { segment: part.header.number, offset: offset as u32 });
    }
}

/// Whether the end of a segment's records is what a crash may leave; if not, why.
pub(super) fn judge(walk: &mut Walk, part: &Part, broken: &Break) -> std::result::Result<Behind, String> {
    let what = || broken.what.clone().unwrap_or_else(|| "records are missing".to_owned());
    if let Some(limit) = part.limit {
        // The position that a scan begins at may lie at the very end.
        return if walk.tail == limit.max(part.start) {
            Ok(Behind::Nothing)
        } else {
            Err(format!("{}, and a later segment says that there are records up to byte {limit}", what()))
        };
    }
    match walk.behind() {
        Behind::Durable(at) => Err(format!("{}, and the record at byte {at} was written after it was durable", what())),
        other => Ok(other),
    }
}

impl Part {
    fn walk(&self, o: &ScanOptions) -> Result<Walk> {
        let reading = Reading::open(&*o.vfs, &self.path)?;
        Ok(Walk::new(reading, self.header.seed(), o.unit, self.start, self.limit))
    }
}

/// Hands out the records that a survey found.
#[derive(Debug)]
pub struct Scanner {
    options: ScanOptions,
    parts: Vec<Part>,
    next: usize,
    walk: Option<Walk>,
}

impl Scanner {
    /// From the beginning of the survey up to its end. No file is touched yet.
    #[must_use]
    pub fn new(o: &ScanOptions, end: &LogEnd) -> Self {
        Self { options: o.clone(), parts: end.parts.clone(), next: 0, walk: None }
    }

    /// The next record: where it begins, and its payload; `None` after the last.
    ///
    /// # Errors
    /// `Corrupt` when the log is not what the survey has seen; `Io`.
    pub fn next_record(&mut self) -> Result<Option<(Lsn, &[u8])>> {
        loop {
            let Some(part) = self.parts.get(self.next) else { return Ok(None) };
            if self.walk.is_none() {
                self.walk = Some(part.walk(&self.options)?);
            }
            let Some(walk) = self.walk.as_mut() else { return Ok(None) };
            match walk.step() {
                Step::Record { at, header } => {
                    let (lsn, path) = (Lsn { segment: part.header.number, offset: at as u32 }, &part.path);
                    // The borrow checker cannot see that this arm leaves the loop.
                    let walk = self.walk.as_mut().ok_or_else(|| Error::corrupt("no segment is being read"))?;
                    let payload = walk.payload(at, &header).map_err(|e| Error::io(e, "read", path))?;
                    return Ok(Some((lsn, payload)));
                }
                Step::End(end) => {
                    if Some(walk.tail) < part.limit.map(|limit| limit.max(part.start)) {
                        return Err(changed(part, end));
                    }
                    self.walk = None;
                    self.next += 1;
                }
            }
        }
    }
}

/// Makes durable what a survey has read, as far as that is in doubt: a process that died may have written what no sync has
/// covered since, and what was read from the system's cache then goes with the next power cut. To write it again in its
/// place would endanger what is durable there (L6), so the records in doubt are copied into a segment of their own, which
/// continues the log where it is known to be durable, and appears whole or not at all. Returns where the log ends now.
///
/// To be done before anything rests on the records, and before the log goes on.
///
/// # Errors
/// `Io`; `Corrupt` when the log is not what the survey has seen. The log reads as before.
pub fn seal_tail(o: &ScanOptions, end: &LogEnd) -> Result<LogEnd> {
    let (Some(last), true) = (end.parts.last(), end.is_in_doubt()) else { return Ok(end.clone()) };
    let number = last.header.number;
    let known = if end.synced.segment == number { u64::from(end.synced.offset) } else { 0 };
    let part = Part { start: sure_end(o, last, known)?, limit: Some(u64::from(end.end.offset)), ..last.clone() };
    let previous = Lsn { segment: number, offset: part.start as u32 };
    let header = SegmentHeader { number: end.next, previous, previous_writer: part.header.writer, ..part.header };
    let path = o.dir.join(segment_name(header.number));
    let draft = o.dir.join(segment_name(header.number) + DRAFT_SUFFIX);
    let tail = copy(o, &part, &header, &draft)?;
    o.vfs.rename(&draft, &path).map_err(|e| Error::io(e, "rename", &draft))?;
    o.vfs.sync_dir(&o.dir).map_err(|e| Error::io(e, "sync the directory", &o.dir))?;
    let mut sealed = end.clone();
    sealed.end = Lsn { segment: header.number, offset: tail };
    (sealed.synced, sealed.previous) = (sealed.end, sealed.end);
    sealed.previous_writer = header.writer;
    sealed.next = header.number.saturating_add(1);
    sealed.segments.push(SegmentInfo { number: header.number, path: path.clone(), bytes: u64::from(tail) });
    if let Some(last) = sealed.parts.last_mut() {
        last.limit = Some(part.start);
    }
    sealed.parts.push(Part { path, header, start: u64::from(o.unit), limit: Some(u64::from(tail)) });
    Ok(sealed)
}

/// Where the last record of a part ends that lies wholly before `known`. In a log that nobody forged that is `known`.
fn sure_end(o: &ScanOptions, part: &Part, known: u64) -> Result<u64> {
    let mut sure = part.start;
    let mut walk = part.walk(o)?;
    while sure < known && matches!(walk.step(), Step::Record { .. }) && walk.tail <= known {
        sure = walk.tail;
    }
    Ok(sure)
}

/// Writes the records of a part into a file of their own, durable; returns where they end.
fn copy(o: &ScanOptions, part: &Part, header: &SegmentHeader, path: &Path) -> Result<u32> {
    let file = o.vfs.open(path, OpenOptions::create()).map_err(|e| Error::io(e, "create", path))?;
    file.set_len(0).map_err(|e| Error::io(e, "cut", path))?;
    let write = |bytes: &[u8], at: u64| file.write_all_at(bytes, at).map_err(|e| Error::io(e, "write", path));
    write(&header.encode(), 0)?;
    let mut target = Packer::new(header.seed(), o.unit);
    let mut walk = part.walk(o)?;
    loop {
        match walk.step() {
            Step::Record { at, header } => {
                let payload = walk.payload(at, &header).map_err(|e| Error::io(e, "read", &part.path))?;
                target.push(payload, header.payload_crc, 0);
            }
            Step::End(broken) if Some(walk.tail) < part.limit => return Err(changed(part, broken)),
            Step::End(_) => break,
        }
        if target.buffer.len() >= COPY_PIECE {
            write(&target.buffer, target.start)?;
            target.start += target.buffer.len() as u64;
            target.buffer.clear();
        }
    }
    write(&target.buffer, target.start)?;
    file.sync_all().map_err(|e| Error::io(e, "sync", path))?;
    u32::try_from(target.tail).map_err(|_| Error::corrupt("records of more than a segment can hold").at(path, None))
}

fn changed(part: &Part, broken: Break) -> Error {
    let what = broken.what.unwrap_or_else(|| "records are missing".to_owned());
    Error::corrupt(format!("the log has changed while it was read: {what}"))
        .at(&part.path, Some(broken.at))
        .remedy(REMEDY)
}
