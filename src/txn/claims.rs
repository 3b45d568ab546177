//! Which running transaction is writing which key.
//!
//! First updater wins without waiting: a transaction *claims* a key before it buffers a write to it, and whoever finds the
//! key claimed by another gets `Conflict` at the write, not at the commit. The claim is given back after the commit was
//! published or the transaction rolled back; from then on a rival finds the committed version in the tree instead. So a key
//! that was claimed and has no version newer than the claimant's snapshot cannot get one until the claimant ends.
//!
//! T2: first updater wins.
//!
//! The table is cut into shards by a print of the key, so two writers rarely meet on one lock. It is never iterated, so the
//! order within a shard influences nothing.

use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::error::{Error, ErrorKind, Result};
use crate::types::TableId;

const SHARDS: usize = 64;

/// The keys being written, each with the transaction that writes it.
#[derive(Debug)]
pub struct Claims {
    shards: Vec<Mutex<FxHashMap<Claim, u64>>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Claim {
    table: TableId,
    key: Arc<[u8]>,
}

impl Default for Claims {
    fn default() -> Self {
        Self::new()
    }
}

impl Claims {
    /// Nothing is claimed.
    #[must_use]
    pub fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    fn shard(&self, claim: &Claim) -> &Mutex<FxHashMap<Claim, u64>> {
        &self.shards[(FxBuildHasher.hash_one(claim) >> 32) as usize % SHARDS]
    }

    /// Claims `key` of `table` for transaction `txn`. True when it was not this transaction's already.
    ///
    /// # Errors
    /// `Conflict` when another transaction holds the key.
    pub fn claim(&self, txn: u64, table: TableId, key: &Arc<[u8]>) -> Result<bool> {
        let claim = Claim { table, key: Arc::clone(key) };
        match self.shard(&claim).lock().entry(claim) {
            Entry::Vacant(free) => {
                free.insert(txn);
                Ok(true)
            }
            Entry::Occupied(held) if *held.get() == txn => Ok(false),
            Entry::Occupied(_) => Err(Error::new(ErrorKind::Conflict, "another transaction is writing this key")
                .remedy("roll back and run the transaction again")),
        }
    }

    /// Gives back the claims of `txn` on `keys`; keys that it does not hold are passed over.
    pub fn release<'a>(&self, txn: u64, table: TableId, keys: impl IntoIterator<Item = &'a Arc<[u8]>>) {
        for key in keys {
            let claim = Claim { table, key: Arc::clone(key) };
            if let Entry::Occupied(held) = self.shard(&claim).lock().entry(claim)
                && *held.get() == txn
            {
                held.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers: T2.
    #[test]
    fn first_updater_wins() {
        let claims = Claims::new();
        let (a, b): (Arc<[u8]>, Arc<[u8]>) = (Arc::from(*b"a"), Arc::from(*b"b"));
        let (one, two) = (TableId(1), TableId(2));
        assert!(claims.claim(7, one, &a).unwrap());
        assert!(!claims.claim(7, one, &a).unwrap());
        assert_eq!(claims.claim(8, one, &a).unwrap_err().kind(), ErrorKind::Conflict);
        assert!(claims.claim(8, two, &a).unwrap());
        claims.release(8, one, [&a]);
        assert!(claims.claim(8, one, &a).is_err());
        claims.release(7, one, [&a, &b]);
        assert!(claims.claim(8, one, &a).unwrap());
    }
}
