//! Which segments of a directory are a log, and in what order.
//!
//! The newest segment with a whole header says which one it continues and where that one ends, and so on back to where the
//! log is wanted from. Numbers in between that nobody names were passed over: a segment whose making a crash cut short, or
//! one that a salvage has left behind. A file without a whole header above all others is such a wreck too, even when it
//! shows the head of a segment that was removed long ago, unless it holds a record, which is written only when the header is
//! durable.
//!
//! Nothing in the segments themselves tells that the newest of them is gone. So the home remembers the number of the last one
//! that was made; that one must be there with a whole header, or be older than what recovery needs.
//!
//! - L1: every segment named is there and whole; L4: all but the last have a known end.

use std::path::{Path, PathBuf};

use strandline_vfs::{FileKind, Vfs};

use crate::error::{Error, ErrorKind, Result};
use crate::types::Lsn;

use super::SegmentInfo;
use super::format::{Frame, SEGMENT_HEADER, Seed, SegmentHeader, segment_name, segment_number};
use super::scan::ScanOptions;
use super::walk::{Reading, Step, Walk};

/// What to do about damage.
pub(super) const REMEDY: &str = "restore a backup, or open the database with salvage, which keeps what is before it";

/// A segment, or a part of it, that the log goes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub path: PathBuf,
    pub header: SegmentHeader,
    /// Where its first record is looked for.
    pub start: u64,
    /// Where its last record ends, when a later segment knows.
    pub limit: Option<u64>,
}

/// A file in the place of a needed segment.
pub(super) struct Found {
    pub info: SegmentInfo,
    pub header: std::result::Result<SegmentHeader, Damage>,
}

/// What is wrong with a header.
pub(super) struct Damage {
    what: String,
    /// It is whole, but of another segment.
    misplaced: bool,
}

/// The segments in a directory, ascending. A directory that is not there has none.
pub(super) fn list(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<SegmentInfo>> {
    let entries = match vfs.read_dir(dir) {
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        other => other.map_err(|e| Error::io(e, "list the directory", dir))?,
    };
    let mut found = Vec::new();
    for entry in &entries {
        let Some(number) = entry.name.to_str().and_then(segment_number) else { continue };
        let path = dir.join(&entry.name);
        if entry.kind == FileKind::Directory {
            let what = "a directory stands in the place of a log segment";
            return Err(Error::corrupt(what).at(&path, None).remedy("put the segment back, or remove the directory"));
        }
        let meta = vfs.metadata(&path).map_err(|e| Error::io(e, "look at", &path))?;
        found.push(SegmentInfo { number, bytes: meta.map_or(0, |m| m.len), path });
    }
    found.sort_by_key(|s| s.number);
    Ok(found)
}

/// The header of a segment that is needed.
pub(super) fn look(o: &ScanOptions, info: SegmentInfo) -> Result<Found> {
    let mut reading = Reading::open(&*o.vfs, &info.path)?;
    let damage = |what: String| Damage { what, misplaced: false };
    let header = match reading.bytes(0, SEGMENT_HEADER).map(SegmentHeader::decode) {
        Ok(Ok(header)) if header.lineage != o.from.lineage && !begun(&mut reading, &header) => {
            Err(damage("a segment of another history, without a record".to_owned()))
        }
        Ok(Ok(header)) => {
            let begun = begun(&mut reading, &header);
            check(o, &info, header, begun)?
        }
        Ok(Err(e)) if e.kind() == ErrorKind::Corrupt => Err(damage(e.message().to_owned())),
        Ok(Err(e)) => return Err(e.at(&info.path, None)),
        Err(e) => Err(damage(format!("the header of a log segment cannot be read: {e}"))),
    };
    Ok(Found { info, header })
}

/// Whether a segment has a record. One that has none means nothing, whoever made it.
fn begun(reading: &mut Reading, header: &SegmentHeader) -> bool {
    // What cannot be read may be a record.
    !matches!(reading.frame(&header.seed(), u64::from(header.unit)), Ok(Frame::Empty | Frame::Broken))
}

fn check(
    o: &ScanOptions,
    info: &SegmentInfo,
    header: SegmentHeader,
    begun: bool,
) -> Result<std::result::Result<SegmentHeader, Damage>> {
    if header.number != info.number {
        let what = format!("the file says that it is log segment {}", header.number);
        // A file system may show what its blocks held before, in a file whose making a crash cut short: a segment that was
        // removed, because no recovery needs it; or of an earlier attempt, without a record.
        return Ok(Err(Damage { what, misplaced: begun && header.number >= o.from.lsn.segment }));
    }
    if header.lineage != o.from.lineage {
        let (ours, theirs) = (o.from.lineage, header.lineage);
        let message = format!("log segment {} belongs to the history {theirs}, not to {ours}", info.number);
        let remedy = "move the file away: it comes from another database, or from before this one parted from it";
        return Err(Error::new(ErrorKind::WrongBase, message).at(&info.path, None).remedy(remedy));
    }
    if header.unit != o.unit {
        let what = format!("its allocation unit is {} bytes, the database's {}", header.unit, o.unit);
        return Ok(Err(Damage { what, misplaced: false }));
    }
    Ok(Ok(header))
}

impl Found {
    fn whole(&self) -> Result<&SegmentHeader> {
        self.header.as_ref().map_err(|damage| self.damaged(damage))
    }

    fn damaged(&self, damage: &Damage) -> Error {
        let error = Error::corrupt(damage.what.clone()).at(&self.info.path, Some(0));
        error.remedy(if damage.misplaced { "give it its name again, or remove it when it is a copy" } else { REMEDY })
    }
}

/// The parts of the log from `o.from` on. `found`: all segments at or above, ascending.
/// With salvage also why it ends early, if it does.
pub(super) fn chain(o: &ScanOptions, found: &[Found]) -> Result<(Vec<Part>, Option<String>)> {
    match back(o, found).and_then(|parts| wrecks(o, found).map(|()| parts)) {
        Err(e) if o.salvage => Ok((forth(o, found), Some(e.to_string()))),
        other => other.map(|parts| (parts, None)),
    }
}

/// From the newest whole segment back to where the log is wanted from.
fn back(o: &ScanOptions, found: &[Found]) -> Result<Vec<Part>> {
    // A file that gives itself the number of another one that may be needed is no wreck, wherever it stands.
    for f in found {
        if let Err(damage) = f.header.as_ref()
            && damage.misplaced
        {
            return Err(f.damaged(damage));
        }
    }
    let from = o.from.lsn;
    if let Some(made) = o.made {
        let there = found.iter().find(|f| f.info.number == made);
        there.ok_or_else(|| gone(&o.dir, made))?.whole()?;
    }
    let mut parts = Vec::new();
    let mut next = found.iter().rfind(|f| f.header.is_ok());
    let mut limit = None;
    while let Some(f) = next {
        let header = f.whole()?;
        let first = f.info.number == from.segment;
        parts.push(part(o, f, header, limit));
        if first {
            next = None;
            continue;
        }
        let previous = header.previous;
        if previous.offset == 0 || previous.segment < from.segment {
            let between = found.iter().find(|f| f.info.number < header.number && f.header.is_ok());
            if from.offset != 0 || between.is_some() {
                return Err(missing(o, between.map_or(from.segment, |f| f.info.number), header.number));
            }
            break;
        }
        limit = Some(u64::from(previous.offset));
        let before = named(o, found, previous.segment, header.number)?;
        if before.whole()?.writer != header.previous_writer {
            return Err(stranger(f, previous.segment));
        }
        next = Some(before);
    }
    parts.reverse();
    let begins = parts.first().map(|p| p.header.number);
    if from.offset != 0 && begins != Some(from.segment) {
        named(o, found, from.segment, from.segment).and_then(|f| f.whole().map(|_| ()))?;
    }
    Ok(parts)
}

/// As far as the segments join from the first on: what a salvage keeps.
fn forth(o: &ScanOptions, found: &[Found]) -> Vec<Part> {
    let sound = || found.iter().filter_map(|f| f.header.as_ref().ok().map(|h| (f, h)));
    let mut parts: Vec<Part> = Vec::new();
    let first = sound().find(|(f, _)| f.info.number == o.from.lsn.segment);
    let mut next = match first {
        // The numbers from there on may have been passed over, but then nothing was written under them.
        None if o.from.lsn.offset == 0 => {
            sound().next().filter(|(_, h)| h.previous.offset == 0 || h.previous.segment < o.from.lsn.segment)
        }
        first => first,
    };
    while let Some((f, header)) = next {
        // Of two that continue the same one, the older was left behind by an earlier salvage.
        next = sound().rfind(|(_, h)| {
            h.previous.offset != 0 && (h.previous.segment, h.previous_writer) == (header.number, header.writer)
        });
        let limit = next.map(|(_, h)| u64::from(h.previous.offset));
        parts.push(part(o, f, header, limit));
    }
    parts
}

fn part(o: &ScanOptions, f: &Found, header: &SegmentHeader, limit: Option<u64>) -> Part {
    let wanted = if f.info.number == o.from.lsn.segment { u64::from(o.from.lsn.offset) } else { 0 };
    Part { path: f.info.path.clone(), header: *header, start: wanted.max(u64::from(o.unit)), limit }
}

/// Errs when a segment without a whole header, newer than all whole ones, holds a record.
fn wrecks(o: &ScanOptions, found: &[Found]) -> Result<()> {
    let newest = found.iter().rposition(|f| f.header.is_ok()).map_or(0, |n| n + 1);
    for f in &found[newest..] {
        let Err(damage) = &f.header else { continue };
        let seed = Seed::new(o.from.lineage, f.info.number);
        let mut reading = Reading::open(&*o.vfs, &f.info.path)?;
        let mut at = u64::from(o.unit);
        while at < reading.len {
            if matches!(reading.frame(&seed, at), Ok(Frame::Record(_))) {
                return Err(f.damaged(damage).context("a log segment holds records, but"));
            }
            at += u64::from(o.unit);
        }
    }
    Ok(())
}

fn named<'f>(o: &ScanOptions, found: &'f [Found], number: u32, by: u32) -> Result<&'f Found> {
    found.iter().find(|f| f.info.number == number).ok_or_else(|| missing(o, number, by))
}

fn missing(o: &ScanOptions, number: u32, by: u32) -> Error {
    let message = if by == number {
        format!("log segment {number} is missing, and the newest checkpoint needs it")
    } else {
        format!("log segment {number} is missing, and segment {by} continues it")
    };
    Error::corrupt(message).at(&o.dir.join(segment_name(number)), None).remedy(REMEDY)
}

/// The error of a segment that was made and is not there.
pub fn gone(dir: &Path, number: u32) -> Error {
    let message = format!("log segment {number} is missing: it was made, and commits may stand in it");
    Error::corrupt(message).at(&dir.join(segment_name(number)), None).remedy(
        "put it back, restore a backup, or open the database with salvage, which keeps what the segments before it hold",
    )
}

fn stranger(f: &Found, before: u32) -> Error {
    let message = format!("the segment continues another log segment {before} than the one here");
    let remedy =
        "put the one back that it belongs to: one of the two comes from a copy of the files that went its own way";
    Error::corrupt(message).at(&f.info.path, Some(0)).remedy(remedy)
}

/// Where the records end that the newest of these segments holds: what the next segment continues when the log begins
/// anew after it, and who made that segment. Nothing when it belongs to another history.
pub(super) fn end_before(o: &ScanOptions, older: &[SegmentInfo]) -> (Lsn, u64) {
    let Some(Ok(Found { header: Ok(header), info })) = older.last().map(|info| look(o, info.clone())) else {
        return (Lsn::default(), 0);
    };
    let Ok(reading) = Reading::open(&*o.vfs, &info.path) else { return (Lsn::default(), 0) };
    let start = u64::from(o.unit);
    let mut walk = Walk::new(reading, header.seed(), o.unit, start, None);
    while let Step::Record { .. } = walk.step() {}
    if walk.tail == start {
        return (header.previous, header.previous_writer);
    }
    (Lsn { segment: info.number, offset: walk.tail as u32 }, header.writer)
}
