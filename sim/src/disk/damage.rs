//! Harm from outside: rot, wrong lengths, swapped files, poison, and pins on ranges.
//!
//! Everything here but poison and pins strikes the durable bytes and what reads see alike, at once; the versions that are
//! pending stay pending. Tests that damage a file should do so on a quiet disk.

use super::SimDisk;
use super::body::BLOCK;
use super::pins::{Breach, PinId};
use super::state::State;
use super::tree::{FileInode, Ino, error};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What poisoned bytes read as.
pub const POISON: u8 = 0xDB;

impl State {
    fn harmed(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.live.lookup(path)?;
        if self.live.file(ino).is_some() { Ok(ino) } else { Err(error(ErrorKind::IsADirectory, "not a file")) }
    }

    /// Changes a file in both layers.
    fn harm(&mut self, ino: Ino, mut change: impl FnMut(&mut FileInode)) {
        let event = self.clock;
        self.clock += 1;
        self.barrier(event, "damage");
        if let Some(f) = self.live.file_mut(ino) {
            change(f);
        }
        if let Some(f) = Arc::make_mut(&mut self.base).file_mut(ino) {
            change(f);
        }
        self.note_mark("damage", event);
    }
}

fn inside(file: Option<&FileInode>, range: &Range<u64>) -> io::Result<()> {
    if file.is_some_and(|f| range.start <= range.end && range.end <= f.size) {
        return Ok(());
    }
    Err(error(ErrorKind::InvalidInput, "the range does not lie within the file"))
}

impl SimDisk {
    /// Flips one bit (0 to 7) of the byte at `offset`.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`; `InvalidInput` beyond the end of the file.
    pub fn flip(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let mut s = self.lock_state();
        let ino = s.harmed(path)?;
        inside(s.live.file(ino), &(offset..offset + 1))?;
        s.harm(ino, |f| {
            let mut byte = [0];
            f.body.read(&mut byte, offset);
            f.body.write(&[byte[0] ^ (1 << (bit & 7))], offset);
        });
        Ok(())
    }

    /// Overwrites bytes within the file, behind everybody's back (a misdirected or lost write).
    ///
    /// # Errors
    /// As [`SimDisk::flip`].
    pub fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut s = self.lock_state();
        let ino = s.harmed(path)?;
        inside(s.live.file(ino), &(offset..offset.saturating_add(bytes.len() as u64)))?;
        s.harm(ino, |f| f.body.write(bytes, offset));
        Ok(())
    }

    /// Makes the sectors that the range touches fail to read until they are rewritten.
    ///
    /// # Errors
    /// As [`SimDisk::flip`].
    pub fn make_unreadable(&self, path: &Path, range: Range<u64>) -> io::Result<()> {
        let mut s = self.lock_state();
        let ino = s.harmed(path)?;
        inside(s.live.file(ino), &range)?;
        let block = BLOCK as u64;
        s.harm(ino, |f| f.unreadable.extend(range.start / block..range.end.div_ceil(block)));
        Ok(())
    }

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`.
    pub fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut s = self.lock_state();
        let ino = s.harmed(path)?;
        s.harm(ino, |f| {
            f.size = len;
            f.body.cut(len);
        });
        Ok(())
    }

    /// Exchanges the contents of two files.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`.
    pub fn swap(&self, a: &Path, b: &Path) -> io::Result<()> {
        let mut s = self.lock_state();
        let (a, b) = (s.harmed(a)?, s.harmed(b)?);
        let (live_a, live_b) = (s.live.file(a).cloned(), s.live.file(b).cloned());
        let (base_a, base_b) = (s.base.file(a).cloned(), s.base.file(b).cloned());
        let mut layers = [live_b, base_b].into_iter();
        s.harm(a, |f| *f = layers.next().flatten().unwrap_or_default());
        let mut layers = [live_a, base_a].into_iter();
        s.harm(b, |f| *f = layers.next().flatten().unwrap_or_default());
        Ok(())
    }

    /// Fills a range with [`POISON`] in the live tree alone: whoever still reads these bytes, which were given up, finds
    /// out at once. What is durable, and so every crash image, is not touched.
    ///
    /// # Errors
    /// As [`SimDisk::flip`].
    pub fn poison(&self, path: &Path, range: Range<u64>) -> io::Result<()> {
        let mut s = self.lock_state();
        let ino = s.harmed(path)?;
        inside(s.live.file(ino), &range)?;
        if let Some(f) = s.live.file_mut(ino) {
            f.body.fill(range.start, range.end - range.start, POISON);
        }
        Ok(())
    }

    /// The cache drops its clean pages of this file: bytes that a failed sync lost are gone from reads too.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`.
    pub fn evict(&self, path: &Path) -> io::Result<()> {
        let mut s = self.lock_state();
        let ino = s.harmed(path)?;
        s.evict(ino);
        Ok(())
    }

    /// Arms a pin: from now on every change of these bytes of the file, its removal or replacement is a [`Breach`].
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`.
    pub fn pin(&self, path: &Path, range: Range<u64>) -> io::Result<PinId> {
        let mut s = self.lock_state();
        let ino = s.harmed(path)?;
        Ok(s.pins.add(ino, range))
    }

    /// Takes a pin back; false when it was not there.
    #[must_use]
    pub fn unpin(&self, pin: PinId) -> bool {
        self.lock_state().pins.remove(pin)
    }

    /// How many pins are armed.
    #[must_use]
    pub fn pins(&self) -> usize {
        self.lock_state().pins.len()
    }

    /// The breaches of pins so far.
    #[must_use]
    pub fn breaches(&self) -> Vec<Breach> {
        self.lock_state().pins.breaches.clone()
    }

    /// Makes a breach panic at the offending call.
    pub fn panic_on_breach(&self, on: bool) {
        self.lock_state().pins.panics = on;
    }
}
