//! Time and chance, handed in from outside.
//!
//! No room asks the system for the time or for randomness: both come through these traits, so that a simulation owns
//! them and a run can be repeated. Time is for people to read and for timers; nothing is ever ordered by it.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The atomics whose order between threads decides something, rather than counts it. They are the processor's own; where a
/// scheduler owns the locks it owns these, too, so that it can let another thread run in between.
#[cfg(not(scheduled))]
pub(crate) use std::sync::atomic as racy;

#[cfg(scheduled)]
pub(crate) use parking_lot::atomic as racy;

/// Where the time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Milliseconds since 1970-01-01 00:00 UTC.
    fn now_ms(&self) -> u64;
}

/// Where chance comes from: the identity of a lineage and of a backup.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// 64 bits that nobody could foretell.
    fn next_u64(&self) -> u64;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
    }
}

/// The randomness with which the standard library seeds its hash maps.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn next_u64(&self) -> u64 {
        RandomState::new().build_hasher().finish()
    }
}

/// A clock that stands until it is moved.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now_ms`.
    #[must_use]
    pub const fn new(now_ms: u64) -> Self {
        Self(AtomicU64::new(now_ms))
    }

    /// Moves the clock on.
    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A sequence that is the same in every run: for simulation and tests. Never for a real database, whose lineages must
/// differ from those of all others.
#[derive(Debug, Default)]
pub struct SeededEntropy(AtomicU64);

impl SeededEntropy {
    /// The sequence that `seed` starts.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Entropy for SeededEntropy {
    /// The finaliser of SplitMix64 (Steele, Lea, Flood 2014) over a Weyl sequence.
    fn next_u64(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
