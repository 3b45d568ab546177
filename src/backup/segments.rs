//! Whether the segments of a copy, or of an increment from the log, are the log that the manifest says.
//!
//! A manifest can be believed about sizes and checksums; but it was told them by whoever copied the files. Every segment says
//! itself which history it belongs to, which number it has and where the records end that it continues. So before an
//! increment is applied the headers must join, and a verification reads the log as the open of the copy will.
//!
//! - **K6** A log that is not whole, or not this copy's, is refused by name before anything is changed.

use std::path::Path;
use std::sync::Arc;

use strandline_vfs::{OpenOptions, Vfs};

use crate::error::{Error, ErrorKind, Result};
use crate::log::{SEGMENT_HEADER, ScanOptions, SegmentHeader, survey};
use crate::manifest::{CopyKind, Manifest, ManifestFile};
use crate::types::{Lineage, LogPosition, Lsn};

/// What the head of the segment in `path` says.
///
/// # Errors
/// `Corrupt`, `Unsupported`, `Io`, with the file.
pub fn header_of(vfs: &dyn Vfs, path: &Path) -> Result<SegmentHeader> {
    let io = |e| Error::io(e, "read a segment of the log", path);
    let missing = || Error::corrupt("a segment of the log is missing").at(path, None).remedy(REMEDY);
    let file = vfs.open(path, OpenOptions::read()).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => missing(),
        _ => io(e),
    })?;
    let mut head = [0; SEGMENT_HEADER];
    match file.read_exact_at(&mut head, 0) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Error::corrupt("the file is too short for a segment of the log").at(path, None).remedy(REMEDY))
        }
        Err(e) => Err(io(e)),
        Ok(()) => SegmentHeader::decode(&head).map_err(|e| e.at(path, Some(0)).remedy(REMEDY)),
    }
}

const REMEDY: &str = "copy the segment again, or take the increment again";

/// Whether the segments in `dir` that `longer` has beyond `base` continue the log of `base`, whose files are in `copy`.
///
/// # Errors
/// `WrongBase` for a segment of another history, or one that continues something else; `Corrupt` for a file that is no
/// segment or a segment under the name of another; `Io`.
pub fn check_joins(vfs: &dyn Vfs, dir: &Path, copy: &Path, base: &Manifest, longer: &Manifest) -> Result<()> {
    let Some(log) = base.log()? else { return Ok(()) };
    let mut before = base.log_end;
    let mut writer = match base.segments().next_back() {
        Some((_, file)) => Some(header_of(vfs, &copy.join(&file.name))?.writer),
        None => None,
    };
    for (number, file) in longer.segments().filter(|(number, _)| *number >= log.next) {
        let path = dir.join(&file.name);
        let header = header_of(vfs, &path)?;
        let wrong = |what: String| Error::new(ErrorKind::WrongBase, what).at(&path, Some(0)).remedy(REMEDY);
        if header.number != number {
            let what = format!("the file says that it is segment {} of a log", header.number);
            return Err(Error::corrupt(what).at(&path, Some(0)).remedy(REMEDY));
        }
        if header.lineage != log.position.lineage {
            let what = format!("the segment is of lineage {}, the copy of {}", header.lineage, log.position.lineage);
            return Err(wrong(what));
        }
        // Where the segment before ends is known exactly only of the last one of a copy. A recovery that cannot be sure of
        // its last records writes them once more, into the next segment: that one then continues what was sure.
        let joins = |end: Lsn| {
            let repeats = (log.position.lsn..=end).contains(&header.previous) || end.offset == 0;
            header.previous.segment == end.segment && (header.previous == end || repeats)
        };
        if let Some(end) = before.filter(|end| !joins(*end)) {
            return Err(wrong(format!(
                "the segment continues a log that ended at {}, not this one, at {end}",
                header.previous
            )));
        }
        if writer.is_some_and(|writer| writer != header.previous_writer) {
            let before = header.previous.segment;
            return Err(wrong(format!("the segment continues another segment {before} than the copy has")));
        }
        (before, writer) = (Some(Lsn { segment: number, offset: 0 }), Some(header.writer));
    }
    Ok(())
}

/// Reads the log of the copy or increment in `dir` from beginning to end; returns how many records it holds.
///
/// # Errors
/// `Corrupt` with file and offset; `WrongBase` for a segment of another history; `Unsupported`; `Io`.
pub fn read_log(vfs: &Arc<dyn Vfs>, dir: &Path, manifest: &Manifest) -> Result<u64> {
    let Some((first, last, end)) = bounds(manifest) else { return Ok(0) };
    let (unit, from) = match manifest.kind {
        CopyKind::Log { first: number, .. } => {
            let unit = header_of(&**vfs, &dir.join(&first.name))?.unit;
            (unit, LogPosition { lineage: manifest.lineage, lsn: Lsn { segment: number, offset: 0 } })
        }
        CopyKind::Full | CopyKind::Targeted | CopyKind::Increment(_) => {
            let root = manifest.root_record()?;
            let Some(from) = root.newest.log else { return Ok(0) };
            (root.settings.unit, from)
        }
    };
    let options = ScanOptions {
        vfs: Arc::clone(vfs),
        dir: dir.to_owned(),
        unit,
        from,
        last: Some(end.segment),
        made: None,
        closed: None,
        salvage: false,
    };
    let found = survey(&options)?;
    check_end(found.end, end, &dir.join(&last.name))?;
    Ok(found.records)
}

fn bounds(manifest: &Manifest) -> Option<(&ManifestFile, &ManifestFile, Lsn)> {
    let (_, first) = manifest.segments().next()?;
    let (_, last) = manifest.segments().next_back()?;
    Some((first, last, manifest.log_end?))
}

/// Whether a log that was read ends where the manifest says.
fn check_end(found: Lsn, expected: Lsn, path: &Path) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::corrupt(format!("the log of the copy ends at {found}, and should at {expected}"))
        .at(path, Some(found.offset.into()))
        .remedy("copy the segment again, or restore from another copy"))
}

/// The history of the segments that belong together with the last of `files`, and how many of them do, from the end.
///
/// # Errors
/// As [`header_of`].
pub fn of_one_history<'a>(
    vfs: &dyn Vfs,
    files: impl DoubleEndedIterator<Item = &'a Path>,
    lineage: Lineage,
) -> Result<usize> {
    let mut count = 0;
    for path in files.rev() {
        if header_of(vfs, path)?.lineage != lineage {
            break;
        }
        count += 1;
    }
    Ok(count)
}
