//! Which closed segments may go: L3.
//!
//! A segment leaves the list before its file goes, under the same lock under which holds are placed. So whoever holds first
//! and then looks at the list finds everything in it on the disk for as long as the hold lasts.

use std::sync::Arc;

use crate::error::{Error, Result};

use super::writer::Log;

/// Keeps segments from a number on; they may go again when it is dropped.
#[derive(Debug)]
pub struct Hold {
    log: Arc<Log>,
    key: u64,
}

impl Log {
    /// Keeps every segment numbered `from` or above until the guard is dropped.
    #[must_use]
    pub fn hold(self: &Arc<Self>, from: u32) -> Hold {
        let mut state = self.state.lock();
        let key = state.next_hold;
        state.next_hold += 1;
        state.holds.insert(key, from);
        Hold { log: Arc::clone(self), key }
    }

    /// Removes closed segments numbered below `segment`, the oldest first, up to the first that is held. Returns the numbers
    /// of those that went.
    ///
    /// # Errors
    /// `Io` when a file cannot be removed: it and the later ones are still there, and the call may be repeated.
    pub fn remove_before(&self, segment: u32) -> Result<Vec<u32>> {
        let mut state = self.state.lock();
        let limit = state.holds.values().copied().fold(segment, u32::min);
        let going = state.segments.partition_point(|s| s.number < limit);
        // Records that nobody needs any more need not be made durable either.
        state.doubt.take_if(|(_, end)| end.end.segment < limit);
        let kept = state.segments.split_off(going);
        let mut going = std::mem::replace(&mut state.segments, kept);
        drop(state);
        let (mut gone, mut failed) = (Vec::new(), None);
        for info in &going {
            match self.vfs.remove_file(&info.path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    failed = Some(Error::io(e, "remove", &info.path));
                    break;
                }
                _ => gone.push(info.number),
            }
        }
        going.drain(..gone.len());
        if !going.is_empty() {
            let mut state = self.state.lock();
            state.segments.splice(0..0, going);
            // Somebody else may have put some back meanwhile.
            state.segments.sort_by_key(|s| s.number);
        }
        if !gone.is_empty() && failed.is_none() {
            self.vfs.sync_dir(&self.dir).map_err(|e| Error::io(e, "sync the directory", &self.dir))?;
        }
        failed.map_or(Ok(gone), Err)
    }
}

impl Hold {
    /// Keeps only segments numbered `from` or above from now on; never more than before.
    pub fn raise(&self, from: u32) {
        if let Some(held) = self.log.state.lock().holds.get_mut(&self.key) {
            *held = from.max(*held);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.log.state.lock().holds.remove(&self.key);
    }
}
