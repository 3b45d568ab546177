//! One segment by itself: for those who look at a log instead of replaying it.
//!
//! A replay needs all of its segments and refuses damage in any of them. Whoever looks wants what there is: this reader
//! gives the records of one file up to where they break, and then says whether the break is damage or a torn tail. What it
//! cannot know is what later segments say; whoever has read their headers tells it where the records end.

use std::path::{Path, PathBuf};

use strandline_vfs::Vfs;

use crate::error::{Error, ErrorKind, Result};
use crate::types::{Lineage, Lsn};

use super::chain::{Part, REMEDY, list};
use super::format::{Frame, SEGMENT_HEADER, Seed, SegmentHeader, segment_number};
use super::scan::judge;
use super::walk::{Behind, Break, Reading, Step, Walk};
use super::{SegmentInfo, Torn};

/// The segments in a directory, ascending by number. A directory that is not there has none.
///
/// # Errors
/// `Io`.
pub fn segments(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<SegmentInfo>> {
    list(vfs, dir)
}

/// Whether the file holds the frame of a record of that segment, at a place where a round of records may begin. Needs no
/// whole head.
///
/// # Errors
/// `Io` when the file cannot be opened; what cannot be read in it holds nothing.
pub fn holds_records(vfs: &dyn Vfs, path: &Path, lineage: Lineage, number: u32) -> Result<bool> {
    let mut reading = Reading::open(vfs, path)?;
    let seed = Seed::new(lineage, number);
    let places = (SEGMENT_HEADER as u64..reading.len).step_by(SEGMENT_HEADER);
    let mut frames = places.map(|at| reading.frame(&seed, at));
    Ok(frames.any(|frame| matches!(frame, Ok(Frame::Record(_)))))
}

/// Reads the records of one segment.
#[derive(Debug)]
pub struct SegmentReader {
    part: Part,
    walk: Walk,
    ended: bool,
    torn: Option<Torn>,
}

impl SegmentReader {
    /// Opens the file and reads the header of the segment.
    ///
    /// # Errors
    /// `Corrupt` when there is no whole header, or one of another number than the name of the file says; `Unsupported` for a
    /// newer format; `Io`.
    pub fn open(vfs: &dyn Vfs, path: &Path) -> Result<Self> {
        let mut reading = Reading::open(vfs, path)?;
        let head = reading.bytes(0, SEGMENT_HEADER).map_err(|e| Error::io(e, "read", path))?;
        let header = SegmentHeader::decode(head).map_err(|e| match e.kind() {
            ErrorKind::Corrupt => e.at(path, Some(0)).remedy(REMEDY),
            _ => e.at(path, None),
        })?;
        let named = path.file_name().and_then(|name| name.to_str()).and_then(segment_number);
        if named.is_some_and(|number| number != header.number) {
            let message = format!("the file says that it is log segment {}", header.number);
            return Err(Error::corrupt(message).at(path, Some(0)).remedy("give it its name again"));
        }
        let start = u64::from(header.unit);
        let walk = Walk::new(reading, header.seed(), header.unit, start, None);
        let part = Part { path: path.to_owned(), header, start, limit: None };
        Ok(Self { part, walk, ended: false, torn: None })
    }

    /// The records end at byte `end` of the file, as the segment after this one says.
    #[must_use]
    pub fn until(mut self, end: u32) -> Self {
        self.part.limit = Some(u64::from(end));
        self.walk.limit = self.part.limit;
        self
    }

    /// What stands at the head of the segment.
    #[must_use]
    pub const fn header(&self) -> &SegmentHeader {
        &self.part.header
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &PathBuf {
        &self.part.path
    }

    /// The next record: where it begins, and its payload; `None` after the last, and after an error.
    ///
    /// # Errors
    /// `Corrupt` with file and offset where records that were durable cannot be read; `Io`.
    pub fn next_record(&mut self) -> Result<Option<(Lsn, &[u8])>> {
        if self.ended {
            return Ok(None);
        }
        match self.walk.step() {
            Step::Record { at, header } => {
                let lsn = self.lsn(at);
                self.ended = true;
                let payload = self.walk.payload(at, &header).map_err(|e| Error::io(e, "read", &self.part.path))?;
                self.ended = false;
                Ok(Some((lsn, payload)))
            }
            Step::End(broken) => self.end(&broken).map(|()| None),
        }
    }

    fn end(&mut self, broken: &Break) -> Result<()> {
        self.ended = true;
        let behind = judge(&mut self.walk, &self.part, broken).map_err(|what| {
            Error::corrupt(format!("the log is damaged: {what}")).at(&self.part.path, Some(broken.at)).remedy(REMEDY)
        })?;
        let unseen = (behind == Behind::Records).then(|| "records before others are missing".to_owned());
        self.torn = broken.what.clone().or(unseen).map(|what| Torn { lsn: self.lsn(broken.at), what });
        Ok(())
    }

    /// True when no record follows: the last was given, or an error.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.ended
    }

    /// After the last record: why the records end before the bytes do, as the death of a process may leave it.
    #[must_use]
    pub const fn torn(&self) -> Option<&Torn> {
        self.torn.as_ref()
    }

    /// Where the records end that were read so far.
    #[must_use]
    pub fn tail(&self) -> Lsn {
        self.lsn(self.walk.tail)
    }

    /// Places are 32 bits wide, and the walk stays within them.
    fn lsn(&self, at: u64) -> Lsn {
        Lsn { segment: self.part.header.number, offset: at as u32 }
    }
}
