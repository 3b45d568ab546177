//! Armed pins: ranges that nobody may write.
//!
//! A backup promises that what it pinned stays. A pin on the disk makes a breach fail at the very call that commits it,
//! long before anybody reads the damaged copy.

use super::tree::Ino;
use std::collections::BTreeMap;
use std::ops::Range;

/// A pin; give it back to [`SimDisk::unpin`](super::SimDisk::unpin).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinId(u64);

/// One breach of a pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The pin.
    pub pin: PinId,
    /// The event of the offending call.
    pub event: u64,
    /// The bytes it was about to change, in the pinned file.
    pub range: Range<u64>,
}

struct Pin {
    ino: Ino,
    range: Range<u64>,
}

/// All pins of a disk.
#[derive(Default)]
pub(crate) struct Pins {
    pins: BTreeMap<PinId, Pin>,
    last: u64,
    pub(crate) breaches: Vec<Breach>,
    /// Panic at the offending call instead of only recording it.
    pub(crate) panics: bool,
}

impl Pins {
    pub(crate) fn add(&mut self, ino: Ino, range: Range<u64>) -> PinId {
        self.last += 1;
        let id = PinId(self.last);
        self.pins.insert(id, Pin { ino, range });
        id
    }

    pub(crate) fn remove(&mut self, id: PinId) -> bool {
        self.pins.remove(&id).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.pins.len()
    }

    /// Notes every pin that a change of these bytes breaks.
    pub(crate) fn check(&mut self, ino: Ino, offset: u64, len: u64, event: u64) {
        let end = offset.saturating_add(len);
        for (&pin, p) in self.pins.iter().filter(|(_, p)| p.ino == ino) {
            if p.range.start < end && offset < p.range.end {
                let breach = Breach { pin, event, range: offset..end };
                assert!(!self.panics, "a pinned range is about to change: {breach:?}");
                self.breaches.push(breach);
            }
        }
    }
}
