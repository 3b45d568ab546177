//! What is done to the file of a segment: made, lengthened, finished. No lock is held here.
//!
//! Space is reserved and then filled with zeros: a write into reserved space that was never written makes the file system
//! note in its own journal that the space holds data now, so its sync costs about half as much again as that of an
//! overwrite. Large records are not worth it: they would be written twice.

use std::io;
use std::path::Path;
use std::sync::Arc;

use strandline_vfs::{File, OpenOptions, Vfs};

use crate::error::{Error, ErrorKind, Result};

use super::format::{Frame, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader, segment_name};

/// What a segment is called after its name while it is not yet what it will be.
pub(super) const DRAFT_SUFFIX: &str = ".copy";

/// Zeros are written in pieces of this many bytes.
const ZEROS: &[u8] = &[0; 64 << 10];

/// Why a segment was not made.
pub(super) enum Failure {
    /// Nothing of it can count: it may be tried again.
    Harmless(Error),
    /// A sync failed: what is on disk is unknown (V5).
    Unknown(Error),
}

/// Space to be taken in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    /// First byte.
    pub from: u64,
    /// First byte after it: what is wanted, and what will do when the device is nearly full.
    pub want: u64,
    /// See `want`.
    pub need: u64,
    /// Fill it with zeros.
    pub fill: bool,
}

/// Makes a segment: the file with its space and header, durable with its name. What an earlier attempt has left is replaced,
/// before or after a crash; as a whole, because a segment without a record may be one that is known to have been made.
/// Returns the file and where its space ends.
pub(super) fn make(
    vfs: &dyn Vfs,
    dir: &Path,
    header: &SegmentHeader,
    space: Space,
) -> std::result::Result<(Arc<dyn File>, u64), Failure> {
    let path = dir.join(segment_name(header.number));
    let replaces = stands(vfs, &path, header.number).map_err(Failure::Harmless)?;
    let draft = if replaces { dir.join(segment_name(header.number) + DRAFT_SUFFIX) } else { path.clone() };
    let file =
        vfs.open(&draft, OpenOptions::create()).map_err(|e| Failure::Harmless(Error::io(e, "create", &draft)))?;
    if replaces {
        file.set_len(0).map_err(|e| Failure::Harmless(Error::io(e, "cut", &draft)))?;
    }
    let prepared = prepare(&*file, &draft, header, space);
    let end = prepared.map_err(|e| {
        // Only to give the space back at once: without a whole header the file means nothing.
        let _ = vfs.remove_file(&draft);
        Failure::Harmless(e)
    })?;
    file.sync_all().map_err(|e| Failure::Unknown(Error::io(e, "sync", &draft)))?;
    if replaces {
        vfs.rename(&draft, &path).map_err(|e| Failure::Unknown(Error::io(e, "rename", &draft)))?;
    }
    vfs.sync_dir(dir).map_err(|e| Failure::Unknown(Error::io(e, "sync the directory", dir)))?;
    Ok((file, end))
}

/// Whether a file with anything in it stands in the place of a new segment. One with a record in it is not ours to replace.
fn stands(vfs: &dyn Vfs, path: &Path, number: u32) -> Result<bool> {
    let meta = vfs.metadata(path).map_err(|e| Error::io(e, "look at", path))?;
    if meta.is_none_or(|m| m.len == 0) {
        return Ok(false);
    }
    let file = vfs.open(path, OpenOptions::read()).map_err(|e| Error::io(e, "open", path))?;
    // What cannot be read is the wreck of an attempt, too; and what a crash has let through from a file that was removed.
    if holds_record(&*file, number).unwrap_or(false) {
        return Err(Error::new(ErrorKind::Exists, "a log segment of this number exists, and it holds records")
            .at(path, None)
            .remedy("move the file away"));
    }
    Ok(true)
}

fn holds_record(file: &dyn File, number: u32) -> io::Result<bool> {
    let mut bytes = [0; SEGMENT_HEADER];
    if file.len()? < SEGMENT_HEADER as u64 {
        return Ok(false);
    }
    file.read_exact_at(&mut bytes, 0)?;
    let Some(header) = SegmentHeader::decode(&bytes).ok().filter(|h| h.number == number) else { return Ok(false) };
    let mut frame = [0; RECORD_HEADER];
    if file.len()? < u64::from(header.unit) + RECORD_HEADER as u64 {
        return Ok(false);
    }
    file.read_exact_at(&mut frame, u64::from(header.unit))?;
    Ok(matches!(RecordHeader::decode(&frame, &header.seed(), header.unit), Frame::Record(_)))
}

fn prepare(file: &dyn File, path: &Path, header: &SegmentHeader, space: Space) -> Result<u64> {
    let end = lengthen(file, path, space)?;
    file.write_all_at(&header.encode(), 0).map_err(|e| Error::io(e, "write", path))?;
    Ok(end)
}

/// Takes space in the file, at least what is needed; returns where it ends. After an error nothing that counts has changed.
pub(super) fn lengthen(file: &dyn File, path: &Path, space: Space) -> Result<u64> {
    let take = |end: u64| -> io::Result<u64> {
        file.allocate(space.from, end - space.from)?;
        let mut at = space.from;
        while space.fill && at < end {
            let n = ZEROS.len().min((end - at) as usize);
            file.write_all_at(&ZEROS[..n], at)?;
            at += n as u64;
        }
        Ok(end)
    };
    match take(space.want) {
        Err(e) if e.kind() == io::ErrorKind::StorageFull && space.need < space.want => take(space.need),
        other => other,
    }
    .map_err(|e| Error::io(e, "take space for the log in", path))
}

/// What becomes of the space behind the last record of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It stays: it is promised to a record that may still come.
    Not,
    /// It goes from here on, a multiple of the unit: a file that was cut says nothing of its records.
    Padding(u64),
    /// It goes from here on, but only when the records are durable. Whoever finds a file of that length cannot know: the sync after
    /// the cut may have failed.
    Exactly(u64),
}

/// Writes the last bytes of a segment at `at`, cuts the file, and makes all of it durable. Returns the length of the file
/// when it was cut.
pub(super) fn finish(file: &dyn File, path: &Path, bytes: &[u8], at: u64, cut: Cut) -> Result<Option<u64>> {
    let sync = |e| Error::io(e, "sync", path);
    if !bytes.is_empty() {
        file.write_all_at(bytes, at).map_err(|e| Error::io(e, "write", path))?;
    }
    let len = match cut {
        Cut::Not => None,
        Cut::Padding(end) => Some(end),
        Cut::Exactly(tail) => {
            file.sync_data().map_err(sync)?;
            Some(tail)
        }
    };
    // A system that refuses to cut costs space and nothing else: zeros at the end are no damage.
    let len = len.filter(|len| file.set_len(*len).is_ok());
    file.sync_all().map_err(sync)?;
    Ok(len)
}
