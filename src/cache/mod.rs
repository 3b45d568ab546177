//! How much memory pages and private writes take, and whose turn it is to leave.
//!
//! One cache serves all tables of a database. It counts bytes, and it ranks victims by second chance: pages that hold memory
//! stand in a ring; whoever needs room takes the oldest, lets it pass once if it was used since it was last asked, and
//! else asks it to leave. The page itself decides whether it can, and its tree does the writing: the cache knows
//! neither files nor trees.
//!
//! There is no queue and no thread behind it. The caller that pushed memory above the target evicts a few pages before it
//! returns, so those who fill the cache pay for it.
//!
//! E1: a pinned page stays (the page refuses). A page is in the ring at most once, as long as it holds memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};

/// Pages that one caller asks to leave, at most.
const TURNS: usize = 32;

/// A page that holds memory.
pub trait Resident: Send + Sync {
    /// True when it was used since the last call.
    fn take_use(&self) -> bool;

    /// Leaves memory if it can.
    fn evict(&self) -> Eviction;
}

/// What became of an eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// The page holds no memory now and has left the ring.
    Gone,
    /// The page stays in memory, hence in the ring.
    Kept,
}

/// The memory of one database.
pub struct Cache {
    target: usize,
    used: AtomicUsize,
    ring: Mutex<VecDeque<Weak<dyn Resident>>>,
    evicted: AtomicU64,
}

impl Cache {
    /// A cache that evicts while it holds more than `target` bytes.
    #[must_use]
    pub fn new(target: usize) -> Arc<Self> {
        Arc::new(Self {
            target,
            used: AtomicUsize::new(0),
            ring: Mutex::new(VecDeque::new()),
            evicted: AtomicU64::new(0),
        })
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes above which pages are evicted.
    pub fn target(&self) -> usize {
        self.target
    }

    /// Bytes above which nothing more is admitted.
    pub fn limit(&self) -> usize {
        self.target.saturating_add(self.target / 4).saturating_add(1 << 20)
    }

    /// Pages evicted so far.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Counts bytes that someone took.
    pub fn charge(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that someone gave back.
    pub fn discharge(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Lets a page that has come to hold memory stand in line.
    pub fn enlist(&self, page: Weak<dyn Resident>) {
        self.ring.lock().push_back(page);
    }

    /// Charges private writes, and makes room for them.
    ///
    /// # Errors
    /// `Full`, and nothing is charged, when the limit is passed and too little can be evicted.
    pub fn admit_write(&self, bytes: usize) -> Result<()> {
        self.charge(bytes);
        self.relieve();
        let mut rounds = self.ring.lock().len() / TURNS + 2;
        while self.used() > self.limit() {
            if rounds == 0 {
                self.discharge(bytes);
                return Err(Error::new(ErrorKind::Full, "the memory for pages and unfinished writes is used up")
                    .remedy("roll back, and use smaller transactions or a larger cache"));
            }
            rounds -= 1;
            self.relieve();
        }
        Ok(())
    }

    /// Evicts a few pages if more than the target is in use.
    #[inline]
    pub fn relieve(&self) {
        if self.used() > self.target {
            self.evict_some();
        }
    }

    #[cold]
    fn evict_some(&self) {
        for _ in 0..TURNS {
            if self.used() <= self.target {
                return;
            }
            let Some(next) = self.ring.lock().pop_front() else { return };
            let Some(page) = next.upgrade() else { continue };
            if page.take_use() || page.evict() == Eviction::Kept {
                self.ring.lock().push_back(next);
            } else {
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("target", &self.target).field("used", &self.used()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    struct Page {
        cache: Arc<Cache>,
        used: AtomicBool,
        pinned: bool,
    }

    impl Resident for Page {
        fn take_use(&self) -> bool {
            self.used.swap(false, Ordering::Relaxed)
        }
        fn evict(&self) -> Eviction {
            if self.pinned {
                return Eviction::Kept;
            }
            self.cache.discharge(1 << 20);
            Eviction::Gone
        }
    }

    fn page(cache: &Arc<Cache>, used: bool, pinned: bool) -> Arc<Page> {
        let page = Arc::new(Page { cache: Arc::clone(cache), used: AtomicBool::new(used), pinned });
        cache.charge(1 << 20);
        let weak: Weak<Page> = Arc::downgrade(&page);
        cache.enlist(weak);
        page
    }

    /// Covers: E1.
    #[test]
    fn second_chance_and_pins() {
        let cache = Cache::new(2 << 20);
        let _pages = [page(&cache, true, false), page(&cache, false, true), page(&cache, false, false)];
        cache.relieve();
        assert_eq!(
            (cache.used(), cache.evicted()),
            (2 << 20, 1),
            "the third: the first was used, the second is pinned"
        );
        cache.admit_write(1 << 20).unwrap();
        assert_eq!(cache.used(), 2 << 20, "the first made room");
        assert_eq!(cache.admit_write(4 << 20).unwrap_err().kind(), ErrorKind::Full);
        assert_eq!(cache.used(), 2 << 20);
    }
}
