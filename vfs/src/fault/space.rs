//! The limited space of a device: who has charged how much. See F3 of [`super`].
//!
//! A file is known by a number that survives renames; the map of names finds the number when a file is opened, renamed or
//! removed. The space of a file that was there before counts as charged, so that giving it back makes room.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A file that has been opened once.
pub(super) type FileId = u64;

#[derive(Default)]
pub(super) struct Space {
    left: Option<u64>,
    next: FileId,
    names: BTreeMap<PathBuf, FileId>,
    /// Bytes charged to each file that still has its name.
    charged: BTreeMap<FileId, u64>,
}

impl Space {
    pub(super) fn set_quota(&mut self, bytes: Option<u64>) {
        self.left = bytes;
    }

    pub(super) fn left(&self) -> Option<u64> {
        self.left
    }

    /// The number of a file that was opened and is `len` bytes long.
    pub(super) fn opened(&mut self, path: &Path, len: u64) -> FileId {
        if let Some(id) = self.names.get(path) {
            return *id;
        }
        let id = self.next;
        self.next += 1;
        self.names.insert(path.to_path_buf(), id);
        self.charged.insert(id, len);
        id
    }

    /// A name went; `len` is what it held, in case it was never opened here.
    pub(super) fn removed(&mut self, path: &Path, len: u64) {
        let charged = self.names.remove(path).and_then(|id| self.charged.remove(&id));
        self.give_back(charged.unwrap_or(len));
    }

    /// A file or directory changed its name, over one that held `replaced` bytes.
    pub(super) fn renamed(&mut self, from: &Path, to: &Path, replaced: Option<u64>) {
        if from == to {
            return;
        }
        if let Some(len) = replaced {
            self.removed(to, len);
        }
        let moved: Vec<_> = self.names.keys().filter(|name| name.starts_with(from)).cloned().collect();
        for old in moved {
            let below = old.strip_prefix(from).unwrap_or(Path::new(""));
            let new = if below.as_os_str().is_empty() { to.to_path_buf() } else { to.join(below) };
            if let Some(id) = self.names.remove(&old) {
                self.names.insert(new, id);
            }
        }
    }

    /// The file was cut to `len` bytes, or extended by a hole, which costs nothing.
    pub(super) fn cut(&mut self, id: FileId, len: u64) {
        if let Some(charged) = self.charged.get_mut(&id)
            && *charged > len
        {
            let given = *charged - len;
            *charged = len;
            self.give_back(given);
        }
    }

    /// Charges a write and returns how many of its bytes fit.
    pub(super) fn charge_write(&mut self, id: FileId, offset: u64, len: usize) -> io::Result<usize> {
        let Some(charged) = self.charged.get(&id).copied().filter(|_| len > 0) else { return Ok(len) };
        let end = offset.saturating_add(len as u64);
        let allowed = self.left.map_or(end, |left| end.min(charged.saturating_add(left)));
        if allowed <= offset {
            return Err(full());
        }
        self.charge_to(id, charged, allowed);
        Ok((allowed - offset) as usize)
    }

    /// Charges an allocation, whole or not at all.
    pub(super) fn charge_allocation(&mut self, id: FileId, offset: u64, len: u64) -> io::Result<()> {
        let Some(charged) = self.charged.get(&id).copied() else { return Ok(()) };
        let end = offset.saturating_add(len);
        if self.left.is_some_and(|left| end.saturating_sub(charged) > left) {
            return Err(full());
        }
        self.charge_to(id, charged, end);
        Ok(())
    }

    fn charge_to(&mut self, id: FileId, charged: u64, end: u64) {
        if end > charged {
            self.charged.insert(id, end);
            self.left = self.left.map(|left| left - (end - charged));
        }
    }

    fn give_back(&mut self, bytes: u64) {
        self.left = self.left.map(|left| left.saturating_add(bytes));
    }
}

fn full() -> io::Error {
    io::Error::new(ErrorKind::StorageFull, "the injected limit of space is reached")
}
