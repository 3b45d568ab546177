//! The records of a log as they stand in its files, from the oldest segment that there is.
//!
//! The log of a home, of a copy, of an increment, or a directory of segments and nothing else: what counts is what is in
//! the files, not what a recovery would make of it. So nothing is recovered, nothing is changed and no lock is taken, and
//! damage ends a segment and not the reading: it is told in its place, and the next segment follows.
//!
//! Each segment says which one it continues and where that one ends. From these heads the reader knows the ends of all
//! segments but the last, and which numbers are missing and which were passed over: a file without a whole head that no
//! later segment continues is what the death of a process left of a segment in the making.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::Vfs;

use super::{Detail, line, newest_root, shown};
use crate::catalog::{ROOT_FILE, RootRecord, noted};
use crate::error::{Error, ErrorKind, Result};
use crate::log::{RECORD_HEADER, SegmentHeader, SegmentReader, Torn, gone, holds_records, segment_name, segments};
use crate::manifest::{MANIFEST_FILE, log_manifests};
use crate::record::{Op, Record};
use crate::types::{Lineage, Lsn};

/// Reads the log in a directory, record by record.
///
/// ```
/// # fn main() -> strandline::Result<()> {
/// # let dir = std::env::temp_dir().join(format!("strandline-doc-log-{}", std::process::id()));
/// # strandline::Options::new().create(true).log(true).keep_log(true).open(&dir)?.log_message("tide")?;
/// use strandline::inspect::LogReader;
/// use strandline::record::Record;
///
/// let vfs: std::sync::Arc<dyn strandline_vfs::Vfs> = std::sync::Arc::new(strandline_vfs::os::OsVfs::new());
/// for entry in LogReader::open(&vfs, &dir)? {
///     let entry = entry?; // after an error, the next segment
///     if let Record::Message(text) = entry.record()? {
///         println!("{}: {text}", entry.lsn());
///     }
/// }
/// # std::fs::remove_dir_all(dir).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LogReader {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    segments: Vec<Listed>,
    lineage: Option<Lineage>,
    /// The last segment that was made: it must be there.
    made: Option<u32>,
    /// The next segment to enter.
    next: usize,
    current: Option<SegmentReader>,
    first: Lsn,
    last: Lsn,
    torn: Option<Torn>,
}

/// A segment, and its head if it is whole.
#[derive(Debug)]
struct Listed {
    number: u32,
    path: Arc<Path>,
    header: Option<SegmentHeader>,
}

/// One record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    lsn: Lsn,
    path: Arc<Path>,
    payload: Vec<u8>,
}

impl LogEntry {
    /// Where the record begins.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Bytes that it takes in the segment, its frame included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (RECORD_HEADER + self.payload.len()) as u64
    }

    /// What it says.
    ///
    /// # Errors
    /// `Corrupt`, with file and offset, for a record that this program has not written.
    pub fn record(&self) -> Result<Record<'_>> {
        Record::decode(&self.payload).map_err(|e| self.placed(e))
    }

    /// An error about the record, with its place.
    #[must_use]
    pub fn placed(&self, error: Error) -> Error {
        error.at(&self.path, Some(u64::from(self.lsn.offset)))
    }
}

impl LogReader {
    /// Finds the log of the home, copy or increment in `dir`. A database without a log has an empty one.
    ///
    /// # Errors
    /// `NotFound` when there is neither a database nor a log; `Io`.
    pub fn open(vfs: &Arc<dyn Vfs>, dir: &Path) -> Result<Self> {
        let Place { dir, lineage: known, made } = place(&**vfs, dir)?;
        let mut listed = Vec::new();
        for segment in segments(&**vfs, &dir)? {
            let header = match SegmentReader::open(&**vfs, &segment.path) {
                Err(error) if error.kind() == ErrorKind::Io => return Err(error),
                opened => opened.ok().map(|reader| *reader.header()),
            };
            listed.push(Listed { number: segment.number, path: segment.path.into(), header });
        }
        let newest = listed.iter().rev().find_map(|s| s.header).map(|header| header.lineage);
        Ok(Self {
            vfs: Arc::clone(vfs),
            dir,
            segments: listed,
            lineage: known.or(newest),
            next: 0,
            current: None,
            first: Lsn::default(),
            last: Lsn { segment: u32::MAX, offset: u32::MAX },
            torn: None,
            made,
        })
    }

    /// Only the records from `first` to `last`, both included.
    ///
    /// # Errors
    /// `NotFound` when no record begins at one of the two; `InvalidArgument` when `last` comes before `first`; `Corrupt`; `Io`.
    pub fn between(mut self, first: Lsn, last: Option<Lsn>) -> Result<Self> {
        self.check(first)?;
        if let Some(last) = last {
            self.check(last)?;
            if last < first {
                return Err(Error::invalid(format!("the range ends at {last}, before {first}, where it begins"))
                    .remedy("give the earlier record first"));
            }
            self.last = last;
        }
        self.first = first;
        self.next = self.segments.partition_point(|s| s.number < first.segment);
        Ok(self)
    }

    /// Whether a record begins there.
    fn check(&self, lsn: Lsn) -> Result<()> {
        let missing = || {
            Error::new(ErrorKind::NotFound, format!("no record begins at {lsn}"))
                .remedy("a listing of the whole log shows where records begin")
        };
        let at = self.segments.iter().position(|s| s.number == lsn.segment).ok_or_else(missing)?;
        let mut reader = self.reader(at)?;
        while let Some((found, _)) = reader.next_record()? {
            if found == lsn {
                return Ok(());
            }
            if found > lsn {
                break;
            }
        }
        Err(missing())
    }

    /// The reader of a segment, which knows where the segment ends if a later one says so.
    fn reader(&self, at: usize) -> Result<SegmentReader> {
        let segment = &self.segments[at];
        let reader = SegmentReader::open(&*self.vfs, &segment.path)?;
        let lineage = reader.header().lineage;
        let later = self.segments[at + 1..].iter().rev().filter_map(|s| s.header.as_ref());
        let mut ends = later.filter(|h| h.lineage == lineage && h.previous.segment == segment.number);
        Ok(match ends.find(|h| h.previous.offset != 0) {
            Some(header) => reader.until(header.previous.offset),
            None => reader,
        })
    }

    /// After the last record: why the log ends before its bytes do, as the death of a process may leave it.
    #[must_use]
    pub const fn torn(&self) -> Option<&Torn> {
        self.torn.as_ref()
    }

    /// The directory of the segments.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn step(&mut self) -> Result<Option<LogEntry>> {
        loop {
            let Some(reader) = &mut self.current else {
                if !self.enter()? {
                    return Ok(None);
                }
                continue;
            };
            match reader.next_record()? {
                Some((lsn, _)) if lsn > self.last => {
                    self.next = self.segments.len();
                    self.current = None;
                }
                Some((lsn, payload)) if lsn >= self.first => {
                    let path = Arc::clone(&self.segments[self.next - 1].path);
                    return Ok(Some(LogEntry { lsn, path, payload: payload.to_vec() }));
                }
                Some(_) => {}
                None => {
                    self.torn = reader.torn().cloned();
                    self.current = None;
                }
            }
        }
    }

    /// Goes to the next segment; false when there is none. What is wrong with it is told first, and it is read all the same
    /// where it can be.
    fn enter(&mut self) -> Result<bool> {
        let at = self.next;
        let Some(segment) = self.segments.get(at).filter(|s| s.number <= self.last.segment) else {
            return self.check_made().map(|()| false);
        };
        self.next += 1;
        let reader = match self.reader(at) {
            Err(error) if error.kind() == ErrorKind::Corrupt && self.is_wreck(at)? => {
                let lsn = Lsn { segment: segment.number, offset: 0 };
                self.torn = Some(Torn { lsn, what: error.message().to_owned() });
                return Ok(true);
            }
            other => other?,
        };
        let header = *reader.header();
        if self.lineage.is_some_and(|ours| ours != header.lineage) {
            return Err(self.foreign(segment, &header));
        }
        self.torn = None;
        self.current = Some(reader);
        let before = &self.segments[..at];
        let oldest = before.iter().map(|s| s.number).find(|number| *number >= self.first.segment);
        let wanted = header.previous.offset != 0 && oldest.is_some_and(|oldest| oldest <= header.previous.segment);
        if wanted && before.iter().all(|s| s.number != header.previous.segment) {
            let (missing, by) = (header.previous.segment, header.number);
            return Err(Error::corrupt(format!("log segment {missing} is missing, and segment {by} continues it"))
                .at(&self.dir.join(segment_name(missing)), None)
                .remedy("restore a backup"));
        }
        Ok(true)
    }

    /// Errs once, at the end, when the last segment that was made is not there.
    fn check_made(&mut self) -> Result<()> {
        match self.made.take().filter(|made| *made <= self.last.segment) {
            Some(made) if self.segments.iter().all(|s| s.number != made) => Err(gone(&self.dir, made)),
            _ => Ok(()),
        }
    }

    /// A file without a whole head that nobody continues, and without a record: one is written only behind a whole head.
    fn is_wreck(&self, at: usize) -> Result<bool> {
        let segment = &self.segments[at];
        let mut later = self.segments[at + 1..].iter().filter_map(|s| s.header.as_ref());
        let continued = later.any(|h| h.previous.offset != 0 && h.previous.segment == segment.number);
        let ours = self.lineage.map(|lineage| holds_records(&*self.vfs, &segment.path, lineage, segment.number));
        Ok(!continued && !ours.transpose()?.unwrap_or(false))
    }

    fn foreign(&self, segment: &Listed, header: &SegmentHeader) -> Error {
        let ours = self.lineage.unwrap_or(header.lineage);
        let message = format!("log segment {} belongs to the history {}, not to {ours}", header.number, header.lineage);
        Error::new(ErrorKind::WrongBase, message)
            .at(&segment.path, None)
            .remedy("move the file away: it comes from another database, or from a history that was given up")
    }
}

/// An error does not end it, but the segment that it is about.
impl Iterator for LogReader {
    type Item = Result<LogEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() && self.current.as_ref().is_some_and(SegmentReader::is_over) {
            self.current = None;
        }
        step.transpose()
    }
}

/// Where a log is, and what is known of it from elsewhere.
struct Place {
    dir: PathBuf,
    lineage: Option<Lineage>,
    /// The last segment that was made, if recovery would need it.
    made: Option<u32>,
}

/// The log that belongs to `dir`. A home of which no root record can be read may still have its log beside it.
fn place(vfs: &dyn Vfs, dir: &Path) -> Result<Place> {
    let root = dir.join(ROOT_FILE);
    if vfs.metadata(&root).map_err(|e| Error::io(e, "look for a database", dir))?.is_some() {
        return match newest_root(vfs, &root) {
            Ok(root) => place_of(vfs, dir, &root),
            Err(_) => Ok(Place { dir: dir.to_owned(), lineage: None, made: None }),
        };
    }
    let manifest = vfs.metadata(&dir.join(MANIFEST_FILE)).map_err(|e| Error::io(e, "look for a copy", dir))?;
    if manifest.is_none() && log_manifests(vfs, dir)?.is_empty() && segments(vfs, dir)?.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "there is no database, no copy and no log")
            .at(dir, None)
            .remedy("check the directory"));
    }
    Ok(Place { dir: dir.to_owned(), lineage: None, made: None })
}

fn place_of(vfs: &dyn Vfs, home: &Path, root: &RootRecord) -> Result<Place> {
    let elsewhere = root.settings.log.as_ref().and_then(|log| log.dir.as_ref());
    let dir = elsewhere.map_or_else(|| home.to_owned(), |log| home.join(log));
    let position = root.newest.log.filter(|_| root.settings.log.is_some());
    if position.is_some() && vfs.metadata(&dir).map_err(|e| Error::io(e, "look for the log", &dir))?.is_none() {
        return Err(Error::corrupt("the log's directory is not there")
            .at(&dir, None)
            .remedy("mount it, or put it back"));
    }
    let made = position.and_then(|log| noted(vfs, home, log.lineage).made.filter(|last| *last >= log.lsn.segment));
    Ok(Place { dir, lineage: root.newest.log.map(|log| log.lineage), made })
}

/// One segment: its head, its records, and how it ends.
pub(super) fn segment(out: &mut String, vfs: &dyn Vfs, path: &Path, detail: Detail) {
    let mut reader = match SegmentReader::open(vfs, path) {
        Ok(reader) => reader,
        Err(e) => return line(out, format_args!("log segment: {}", e.message())),
    };
    let SegmentHeader { unit, number, lineage, previous, writer, previous_writer } = *reader.header();
    line(out, format_args!("log segment {number} lineage {lineage} unit {unit} writer {writer:016x}"));
    line(out, format_args!("continues {previous} of writer {previous_writer:016x}"));
    let (mut records, mut bytes) = (0_u64, 0);
    loop {
        match reader.next_record() {
            Ok(Some((lsn, payload))) => {
                records += 1;
                bytes += payload.len();
                if detail > Detail::Summary {
                    record(out, lsn, payload, detail);
                }
            }
            Ok(None) => break,
            Err(e) => {
                line(out, format_args!("{}", e.message()));
                break;
            }
        }
    }
    line(out, format_args!("{records} records, {bytes} bytes, end at {}", reader.tail()));
    if let Some(torn) = reader.torn() {
        line(out, format_args!("torn at {}: {}", torn.lsn, torn.what));
    }
}

fn record(out: &mut String, lsn: Lsn, payload: &[u8], detail: Detail) {
    let what = match Record::decode(payload) {
        Ok(Record::Commit(commit)) => format!("commit of transaction {}", commit.txn),
        Ok(Record::Schema { seq, change }) => format!("schema at {seq}: {change:?}"),
        Ok(Record::Checkpoint { seq, position }) => format!("checkpoint {seq}, replay from {position}"),
        Ok(Record::Message(text)) => format!("message {}", shown(text.as_bytes())),
        Err(e) => e.message().to_owned(),
    };
    line(out, format_args!("record {lsn} {} bytes: {what}", payload.len()));
    let Ok(Record::Commit(commit)) = Record::decode(payload) else { return };
    for op in commit.ops().filter(|_| detail == Detail::Cells) {
        match op {
            Ok((table, Op::Put { key, value })) => {
                line(out, format_args!("  table {} put {} = {}", table.0, shown(key), shown(value)));
            }
            Ok((table, Op::Remove { key })) => line(out, format_args!("  table {} remove {}", table.0, shown(key))),
            Err(e) => line(out, format_args!("  {}", e.message())),
        }
    }
}

#[cfg(test)]
mod tests;
