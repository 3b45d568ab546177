//! Faults on demand: which call fails, and how.
//!
//! A plan is a list of [`Fault`]s. Each watches calls of some kinds on some paths, lets the first `after` of them pass and
//! strikes the next `times`. A failed sync has at least four meanings in the world, and no engine may rely on one of them;
//! [`SyncFailure`] names those that the disk plays.

use super::event::Call;
use std::io;
use std::path::Path;

/// Bytes that the kernel caches, fails and forgets together.
pub(crate) const CACHE_PAGE: u64 = 4096;

/// What a failed sync leaves behind.
///
/// | mode | reads then show | the next sync | durable | length |
/// | --- | --- | --- | --- | --- |
/// | `CleanKeepNew` | new until evicted, then old | succeeds, writes nothing | good pages, never the bad | may be durable |
/// | `CleanRevert` | old at once | succeeds | nothing of the call | reverts |
/// | `DirtyRetry` | new | may succeed | later perhaps | later perhaps |
/// | `LateReport` | new | fails; this one succeeds | until then all, from then on perhaps | with the data |
/// | `EnospcAtSync` | new until evicted, then old | succeeds | good pages, never the bad | no |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncFailure {
    /// The bad pages are clean and keep the new bytes: reads show them, the next sync succeeds and writes nothing, and a
    /// power cut loses them. Good pages became durable. (ext4 with ordered data, XFS.)
    CleanKeepNew,
    /// The bad pages and the length fall back to what is durable, at once. (btrfs.)
    CleanRevert,
    /// Everything stays dirty; the next sync may succeed. (BSD.)
    DirtyRetry,
    /// This call succeeds, and its bytes are safe in the journal. Bringing them home fails; the next sync of the file says
    /// so, and from then on each of them may be lost: no later sync writes it again. (ext4 with journaled data.)
    LateReport,
    /// There is no space for the bad pages, which is found out only now: they and the length are lost as those of
    /// `CleanKeepNew`, and the error is that of a full device. (Delayed allocation, thin volumes.)
    EnospcAtSync,
}

/// Who hears of a failed sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Report {
    /// The caller, and every other handle that was open then, once, at its next sync. (Linux.)
    #[default]
    Each,
    /// The caller alone.
    First,
    /// Every sync of the file from then on.
    All,
    /// Nobody: the call succeeds. (Old kernels, when somebody else's call came first.)
    Nobody,
}

impl Report {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Each, Self::First, Self::All, Self::Nobody];

    /// The word in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Each => "each",
            Self::First => "first",
            Self::All => "all",
            Self::Nobody => "nobody",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.name() == name)
    }
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// The call fails with this error and has no effect.
    Error(io::ErrorKind),
    /// A write puts this many bytes into the cache, then fails with the error.
    Partial(u64, io::ErrorKind),
    /// A read or write moves at most this many bytes (at least 1) and succeeds.
    Short(u64),
    /// A write is acknowledged and reads show it, but it never reaches the disk, whatever is synced.
    LostWrite,
    /// A write lands this many bytes away from where it belongs, within the same file; the right place keeps its old bytes.
    Misdirected(i64),
    /// A file sync fails, for the cache pages (4 KiB) that are listed, or for all with unsynced bytes when none is.
    Sync(SyncFailure, Vec<u64>),
}

/// One planned fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Kinds of calls it watches; empty for all.
    pub calls: Vec<Call>,
    /// Only paths that end in this text; empty for all.
    pub path: String,
    /// How many matching calls pass first.
    pub after: u64,
    /// How many it strikes then; `u64::MAX` for ever.
    pub times: u64,
    /// What happens.
    pub act: Act,
}

impl Fault {
    /// Fails the matching call number `n`, counted from 0, once.
    #[must_use]
    pub fn nth(calls: &[Call], n: u64, act: Act) -> Self {
        Self { calls: calls.to_vec(), path: String::new(), after: n, times: 1, act }
    }

    /// An I/O error at the matching call number `n`, counted from 0.
    #[must_use]
    pub fn eio(calls: &[Call], n: u64) -> Self {
        Self::nth(calls, n, Act::Error(io::ErrorKind::Other))
    }

    /// Only on paths that end in `suffix`.
    #[must_use]
    pub fn on(mut self, suffix: &str) -> Self {
        self.path = suffix.into();
        self
    }

    fn matches(&self, call: Call, path: &Path) -> bool {
        (self.calls.is_empty() || self.calls.contains(&call))
            && (self.path.is_empty() || path.to_string_lossy().ends_with(&self.path))
    }
}

/// The plan, and how often it struck.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    faults: Vec<Fault>,
    pub(crate) struck: u64,
}

impl Plan {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.faults.clear();
    }

    /// Counts one call and says what befalls it.
    pub(crate) fn strike(&mut self, call: Call, path: &Path) -> Option<Act> {
        let mut act = None;
        for f in self.faults.iter_mut().filter(|f| f.matches(call, path)) {
            if f.after > 0 {
                f.after -= 1;
            } else if f.times > 0 && act.is_none() {
                f.times = if f.times == u64::MAX { f.times } else { f.times - 1 };
                act = Some(f.act.clone());
            }
        }
        self.faults.retain(|f| f.times > 0);
        self.struck += u64::from(act.is_some());
        act
    }
}
