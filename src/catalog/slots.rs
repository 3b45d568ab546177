//! The two slots of the root record, written in turn.
//!
//! ```text
//! Strandline.root:  slot 0 at byte 0   slot 1 at byte 65536
//! ```
//!
//! R1: at every instant at least one slot holds a valid record, the old truth or the new one. A new record goes first to
//! the slot that is not the only holder of the truth, is synced there, and is then mirrored to the other. A torn write
//! leaves the old truth in the other slot; rot in one slot leaves the same truth in the other. Only after the mirror is
//! durable may anything be reused that the old record reached (B3).
//!
//! R3: a record goes first to the slot of its generation's parity. When both slots read the same, that one was synced with
//! success; the other may stand in the cache only, if the sync of the mirror failed and the system forgot. So the first
//! record that an open database writes is preceded by the old one, once more, to the second slot.
//!
//! The file itself appears by a rename after both slots were synced, so a file of this name without a valid slot is
//! damage and never a database half made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::{File, OpenOptions, Vfs};

use super::record::{RootRecord, SLOT_BYTES};
use crate::error::{Error, ErrorKind, Result};

/// Where the slots begin: far apart, so that one unlucky erase block does not take both.
pub const SLOT_OFFSETS: [u64; 2] = [0, 65536];

/// The file's name in the home.
pub const ROOT_FILE: &str = "Strandline.root";

/// The name under which the file is prepared.
pub const ROOT_FILE_NEW: &str = "Strandline.root.new";

/// The open file and which slot holds what.
#[derive(Debug)]
pub struct RootSlots {
    file: Arc<dyn File>,
    path: PathBuf,
    /// The slot that alone holds the truth, until it is mirrored.
    sole_holder: Option<usize>,
    /// The slots were only read so far. After a failed sync the cache may show what the medium does not hold (V5), so what
    /// was read is written once more before the only copy that is surely durable may be written over: see R3.
    found: Option<Box<RootRecord>>,
}

impl RootSlots {
    /// Makes the file with `record` in both slots, durably.
    ///
    /// # Errors
    /// `Io`; the home then holds no root record.
    pub fn create(vfs: &dyn Vfs, home: &Path, record: &RootRecord) -> Result<Self> {
        let (new, path) = (home.join(ROOT_FILE_NEW), home.join(ROOT_FILE));
        let file = vfs.open(&new, OpenOptions::create()).map_err(|e| Error::io(e, "create the root record", &new))?;
        file.set_len(0).map_err(|e| Error::io(e, "empty the root record", &new))?;
        let slots = Self { file, path: new.clone(), sole_holder: None, found: None };
        slots.write(0, record)?;
        slots.write(1, record)?;
        slots.file.sync_all().map_err(|e| Error::io(e, "sync the root record", &new))?;
        vfs.rename(&new, &path).map_err(|e| Error::io(e, "put the root record in place", &path))?;
        vfs.sync_dir(home).map_err(|e| Error::io(e, "sync the directory", home))?;
        Ok(Self { path, ..slots })
    }

    /// Opens the file and finds the truth; `None` when there is no such file. Writes nothing.
    ///
    /// # Errors
    /// `Corrupt` when neither slot holds a valid record, `Unsupported` when the newer one is of a newer format, `Io`.
    pub fn open(vfs: &dyn Vfs, home: &Path, write: bool) -> Result<Option<(Self, RootRecord)>> {
        let path = home.join(ROOT_FILE);
        if vfs.metadata(&path).map_err(|e| Error::io(e, "look for the root record", &path))?.is_none() {
            return Ok(None);
        }
        let options = if write { OpenOptions::write() } else { OpenOptions::read() };
        let file = vfs.open(&path, options).map_err(|e| Error::io(e, "open the root record", &path))?;
        let (sole_holder, record) = choose([read(&*file, &path, 0), read(&*file, &path, 1)], &path)?;
        let found = Some(Box::new(record.clone()));
        Ok(Some((Self { file, path, sole_holder, found }, record)))
    }

    /// True when one slot alone holds the truth: the other is older, torn or rotten and must be repaired before anything
    /// is reused.
    #[must_use]
    pub const fn needs_mirror(&self) -> bool {
        self.sole_holder.is_some()
    }

    /// The slot that the next record goes to first, when that is not free to choose.
    #[must_use]
    pub fn next_slot(&self) -> Option<usize> {
        self.sole_holder.map(|holder| 1 - holder)
    }

    /// Makes what was read hold in both slots, durably, when only one of them said so: after a sync that failed, that one may
    /// stand in the cache alone, and the medium may still have the record before it. Nothing may be written over that only
    /// that record reaches, not even by a recovery. Returns the generation under which it was written, if it was.
    ///
    /// # Errors
    /// As [`RootSlots::publish`].
    pub fn settle(&mut self) -> Result<Option<u64>> {
        // Where both said so, what was read stays, for R3.
        let Some(holder) = self.sole_holder else { return Ok(None) };
        let Some(found) = self.found.take() else { return Ok(None) };
        let mut record = *found;
        record.generation += if (record.generation + 1) % 2 == (1 - holder) as u64 { 1 } else { 2 };
        self.publish(&record)?;
        self.mirror(&record)?;
        Ok(Some(record.generation))
    }

    /// Makes `record` the truth: durable in one slot when this returns.
    ///
    /// # Errors
    /// `Io`; which record is the truth is then unknown until the database is opened again.
    pub fn publish(&mut self, record: &RootRecord) -> Result<()> {
        let found = self.found.take();
        if let (None, Some(found)) = (self.sole_holder, found) {
            self.write(second_slot(&found), &found)?;
            self.sync()?;
        }
        let slot = self.next_slot().unwrap_or(1 - second_slot(record));
        self.write(slot, record)?;
        self.sync()?;
        self.sole_holder = Some(slot);
        Ok(())
    }

    /// Writes the truth to the other slot too, durably.
    ///
    /// # Errors
    /// `Io`; the truth still stands in the first slot.
    pub fn mirror(&mut self, record: &RootRecord) -> Result<()> {
        if let Some(holder) = self.sole_holder {
            self.write(1 - holder, record)?;
            self.sync()?;
            self.sole_holder = None;
        }
        Ok(())
    }

    fn write(&self, slot: usize, record: &RootRecord) -> Result<()> {
        let bytes = record.encode(slot as u8);
        self.file
            .write_all_at(&bytes, SLOT_OFFSETS[slot])
            .map_err(|e| Error::io(e, "write the root record", &self.path).at(&self.path, Some(SLOT_OFFSETS[slot])))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io(e, "sync the root record", &self.path))
    }
}

/// The slot that a record is mirrored to (R3).
const fn second_slot(record: &RootRecord) -> usize {
    1 - (record.generation % 2) as usize
}

/// Reads one slot of a root file.
///
/// # Errors
/// `Corrupt` with file and offset, `Unsupported`, `Io`.
pub fn read(file: &dyn File, path: &Path, slot: usize) -> Result<RootRecord> {
    let offset = SLOT_OFFSETS[slot];
    let mut bytes = vec![0; SLOT_BYTES];
    match file.read_exact_at(&mut bytes, offset) {
        Ok(()) => RootRecord::decode(&bytes, slot as u8).map_err(|e| e.at(path, Some(offset))),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Error::corrupt(format!("the file ends before slot {slot} of the root record does"))
                .at(path, Some(offset)))
        }
        Err(e) => Err(Error::io(e, "read the root record", path).at(path, Some(offset))),
    }
}

/// The record that holds, and the slot that alone has it.
fn choose(slots: [Result<RootRecord>; 2], path: &Path) -> Result<(Option<usize>, RootRecord)> {
    let remedy = "restore the database from a backup";
    match slots {
        [Ok(a), Ok(b)] if a == b => Ok((None, a)),
        [Ok(a), Ok(b)] => {
            if a.generation == b.generation {
                return Err(Error::corrupt("both slots of the root record claim to be newest and differ")
                    .at(path, None)
                    .remedy(remedy));
            }
            Ok(if a.generation > b.generation { (Some(0), a) } else { (Some(1), b) })
        }
        // A newer format in one slot is the truth of a newer release: never fall back behind it.
        [Err(e), _] | [_, Err(e)] if e.kind() == ErrorKind::Unsupported => Err(e),
        // A slot that cannot be read is as good as a damaged one: power went while it was written. What was acknowledged
        // stands in both (R1), so the other one is not behind it.
        [Ok(a), Err(e)] if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Io) => Ok((Some(0), a)),
        [Err(e), Ok(b)] if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Io) => Ok((Some(1), b)),
        [Err(a), Err(b)] if a.kind() == ErrorKind::Corrupt && b.kind() == ErrorKind::Corrupt => {
            Err(a.context("neither slot of the root record is valid").remedy(remedy))
        }
        [Err(e), _] | [_, Err(e)] => Err(e),
    }
}
