//! The record of calls: what the disk was asked, in order.
//!
//! Every call takes the next event number when it begins. Promises are stated in the same numbers: who acknowledges
//! something to a client asks [`SimDisk::event`](super::SimDisk::event) at that moment, and so knows which images, each
//! with a birth and a death, must honour it.

use std::path::Path;
use std::sync::Arc;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of the file-system contract")]
pub enum Call {
    Open,
    Create,
    Read,
    Write,
    Len,
    SetLen,
    Allocate,
    SyncData,
    SyncAll,
    Remove,
    Rename,
    Link,
    CreateDir,
    RemoveDir,
    ReadDir,
    Stat,
    SyncDir,
    Lock,
    /// Not a call: the driver's own mark, a kill, or damage done from outside.
    Mark,
}

impl Call {
    /// True for calls that change what a crash may leave.
    #[must_use]
    pub const fn changes(self) -> bool {
        !matches!(self, Self::Open | Self::Read | Self::Len | Self::ReadDir | Self::Stat | Self::Lock)
    }

    /// True for calls that promise durability.
    #[must_use]
    pub const fn is_sync(self) -> bool {
        matches!(self, Self::SyncData | Self::SyncAll | Self::SyncDir)
    }
}

/// One recorded call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number; calls that are not recorded take numbers too.
    pub index: u64,
    /// What was called.
    pub call: Call,
    /// On what.
    pub path: Arc<Path>,
    /// First byte, for calls on ranges; the new length for `SetLen`.
    pub offset: u64,
    /// Bytes asked for.
    pub len: u64,
    /// The error the call returned.
    pub error: Option<std::io::ErrorKind>,
    /// What the driver said it was doing, see [`SimDisk::label`](super::SimDisk::label).
    pub label: Arc<str>,
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>5} {:?} {}", self.index, self.call, self.path.display())?;
        match self.call {
            Call::SetLen => write!(f, " to {}", self.offset)?,
            Call::Read | Call::Write | Call::Allocate => write!(f, " +{}..{}", self.offset, self.offset + self.len)?,
            _ => {}
        }
        if let Some(e) = self.error {
            write!(f, " = {e:?}")?;
        }
        if !self.label.is_empty() {
            write!(f, "   [{}]", self.label)?;
        }
        Ok(())
    }
}

/// Which calls are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Record {
    /// None.
    Off,
    /// Those that change something.
    #[default]
    Changes,
    /// All.
    All,
}
