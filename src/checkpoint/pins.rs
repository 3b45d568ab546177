//! Who holds which checkpoint.
//!
//! - **K2** The checkpoint that a backup pins stays until the backup closes, and so does every checkpoint that existed when
//!   the backup was opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::types::CheckpointSeq;

/// What holds a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PinKind {
    /// A view reads it.
    View,
    /// A backup copies it, or was opened when it existed already.
    Backup,
}

impl PinKind {
    /// The word that people see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Backup => "backup",
        }
    }
}

#[derive(Debug, Default)]
struct Held {
    views: BTreeMap<CheckpointSeq, usize>,
    /// The checkpoint that the open backup copies, and the newest that was complete when it was opened.
    backup: Option<(CheckpointSeq, CheckpointSeq)>,
}

/// All pins of a database.
#[derive(Debug, Default)]
pub struct Pins {
    held: Mutex<Held>,
    decision: Mutex<()>,
}

impl Pins {
    /// Held while it is decided which checkpoint to pin, and by a checkpoint from its choice of what goes until that is
    /// gone: so nothing is pinned that is about to go.
    pub fn decide(&self) -> MutexGuard<'_, ()> {
        self.decision.lock()
    }

    /// Holds `seq` for a view until the pin goes.
    #[must_use]
    pub fn pin_view(self: &Arc<Self>, seq: CheckpointSeq) -> Pin {
        *self.held.lock().views.entry(seq).or_insert(0) += 1;
        Pin { pins: Arc::clone(self), seq }
    }

    /// Holds `copied`, and all that exists up to `newest`, for the one open backup; false when there is one already.
    #[must_use]
    pub fn open_backup(&self, copied: CheckpointSeq, newest: CheckpointSeq) -> bool {
        let mut held = self.held.lock();
        if held.backup.is_some() {
            return false;
        }
        held.backup = Some((copied, newest));
        true
    }

    /// The backup is over.
    pub fn close_backup(&self) {
        self.held.lock().backup = None;
    }

    /// The checkpoint that the open backup copies, and the newest that was complete when it was opened.
    #[must_use]
    pub fn backup(&self) -> Option<(CheckpointSeq, CheckpointSeq)> {
        self.held.lock().backup
    }

    /// True while the unnamed checkpoint `seq` must be kept although a newer one succeeded it. An open backup keeps every
    /// one that existed when it was opened (K2): a crash may fall back to the newest of them, whose catalog lists all.
    #[must_use]
    pub fn is_pinned(&self, seq: CheckpointSeq) -> bool {
        let held = self.held.lock();
        held.views.contains_key(&seq) || held.backup.is_some_and(|(copied, newest)| seq == copied || seq <= newest)
    }

    /// What forbids dropping or replacing `seq`, strongest reason first.
    #[must_use]
    pub fn holders(&self, seq: CheckpointSeq) -> Vec<PinKind> {
        let held = self.held.lock();
        let backup = held.backup.is_some_and(|(copied, newest)| seq <= newest || seq == copied);
        let view = held.views.contains_key(&seq);
        [(backup, PinKind::Backup), (view, PinKind::View)].into_iter().filter(|(on, _)| *on).map(|(_, k)| k).collect()
    }

    /// True while a view reads any checkpoint.
    #[must_use]
    pub fn has_views(&self) -> bool {
        !self.held.lock().views.is_empty()
    }
}

/// Holds one checkpoint for a view; dropping it lets go.
#[derive(Debug)]
pub struct Pin {
    pins: Arc<Pins>,
    seq: CheckpointSeq,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut held = self.pins.held.lock();
        if let Some(count) = held.views.get_mut(&self.seq) {
            *count -= 1;
            if *count == 0 {
                held.views.remove(&self.seq);
            }
        }
    }
}
