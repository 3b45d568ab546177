//! Which segment of the log was made last, and where the log was closed, noted beside the root record.
//!
//! Nothing in a log tells that its last segment is gone. The root record could, but whoever writes it may be in the middle of
//! a checkpoint, and no commit waits for that; so the number stands by itself, in the same file:
//!
//! ```text
//! Strandline.root, at byte 16384 for even numbers and 49152 for odd ones:
//!   8 bytes  magic "STRANDLN"     u64  lineage of the log     u32  number     u32  0        u32  CRC-32 of all before it
//! at byte 32768, the end of a log that was closed:
//!   8 bytes  magic "STRANDLN"     u64  lineage of the log     u32  segment    u32  offset   u32  CRC-32 of all before it
//! ```
//!
//! A note is written when the segment is durable and before a record stands in it. A torn or rotten one leaves the one before
//! it, which promises less and nothing wrong; of a log with another lineage it says nothing.
//!
//! The other note is written after the last sync of a log has succeeded. Without it the records at the end of a log may have
//! been written by a process that died, and nothing in the files tells whether they are durable.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::{File, OpenOptions, Vfs};

use super::slots::ROOT_FILE;
use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};
use crate::types::{Lineage, Lsn};

const MAGIC: &[u8; 8] = b"STRANDLN";
const OFFSETS: [u64; 2] = [16_384, 49_152];
const CLOSED: u64 = 32_768;
const BYTES: usize = 28;

/// Where the notes are written.
#[derive(Debug)]
pub struct SegmentNotes {
    file: Arc<dyn File>,
    path: PathBuf,
    lineage: Lineage,
}

impl SegmentNotes {
    /// For the log of this lineage of the database in `home`, which has a root record.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(vfs: &dyn Vfs, home: &Path, lineage: Lineage) -> Result<Self> {
        let path = home.join(ROOT_FILE);
        let file = vfs.open(&path, OpenOptions::write()).map_err(|e| Error::io(e, "open", &path))?;
        Ok(Self { file, path, lineage })
    }

    /// Notes, durably, that the segment was made.
    ///
    /// # Errors
    /// `Io`.
    pub fn made(&self, number: u32) -> Result<()> {
        self.write(OFFSETS[number as usize % 2], Lsn { segment: number, offset: 0 })
    }

    /// Notes, durably, that the log was closed and where it ends.
    ///
    /// # Errors
    /// `Io`.
    pub fn closed(&self, end: Lsn) -> Result<()> {
        self.write(CLOSED, end)
    }

    fn write(&self, at: u64, place: Lsn) -> Result<()> {
        let mut out = Vec::with_capacity(BYTES);
        out.extend_from_slice(MAGIC);
        out.put_u64(self.lineage.0);
        out.put_u32(place.segment);
        out.put_u32(place.offset);
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        let written = self.file.write_all_at(&out, at).and_then(|()| self.file.sync_data());
        written.map_err(|e| Error::io(e, "write a note about the log to", &self.path).at(&self.path, Some(at)))
    }
}

/// What was noted of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// The last segment that was made.
    pub made: Option<u32>,
    /// Where the log ended when it was closed last.
    pub closed: Option<Lsn>,
}

/// What was noted for the log of this lineage. What cannot be read says nothing.
#[must_use]
pub fn noted(vfs: &dyn Vfs, home: &Path, lineage: Lineage) -> Noted {
    let Ok(file) = vfs.open(&home.join(ROOT_FILE), OpenOptions::read()) else { return Noted::default() };
    let read = |at: u64| {
        let mut bytes = [0; BYTES];
        file.read_exact_at(&mut bytes, at).ok()?;
        decode(&bytes, lineage).ok().flatten()
    };
    let made = OFFSETS.into_iter().filter_map(read).map(|place| place.segment).max();
    Noted { made, closed: read(CLOSED) }
}

fn decode(bytes: &[u8], lineage: Lineage) -> Result<Option<Lsn>> {
    let mut r = Reader::new(bytes);
    let (magic, of) = (r.take(MAGIC.len())?, r.u64()?);
    let place = Lsn { segment: r.u32()?, offset: r.u32()? };
    let whole = magic == MAGIC && r.u32()? == crc32fast::hash(&bytes[..BYTES - 4]);
    Ok((whole && of == lineage.0).then_some(place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use strandline_vfs::mem::MemVfs;

    #[test]
    fn the_newest_note_of_the_lineage_counts_and_damage_leaves_the_one_before() {
        let vfs = MemVfs::new();
        let (home, path) = (Path::new("h"), Path::new("h/Strandline.root"));
        vfs.create_dir(home).unwrap();
        vfs.open(path, OpenOptions::create()).unwrap();
        let (one, two) = (Lineage(1), Lineage(2));
        let made = |lineage| noted(&vfs, home, lineage).made;
        assert_eq!(made(one), None);
        let notes = SegmentNotes::open(&vfs, home, one).unwrap();
        for number in 7..10 {
            notes.made(number).unwrap();
            assert_eq!((made(one), made(two)), (Some(number), None));
        }
        let file = vfs.open(path, OpenOptions::write()).unwrap();
        for bit in 0..BYTES * 8 {
            let mut byte = [0];
            let at = OFFSETS[1] + bit as u64 / 8;
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], at).unwrap();
            assert_eq!(made(one), Some(8), "bit {bit}");
            file.write_all_at(&byte, at).unwrap();
        }
        SegmentNotes::open(&vfs, home, two).unwrap().made(3).unwrap();
        assert_eq!((made(one), made(two)), (Some(8), Some(3)));
        let end = Lsn { segment: 9, offset: 700 };
        notes.closed(end).unwrap();
        assert_eq!(noted(&vfs, home, one), Noted { made: Some(8), closed: Some(end) });
        assert_eq!(noted(&vfs, home, two).closed, None);
    }
}
