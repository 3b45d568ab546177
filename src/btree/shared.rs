//! What all pages of a tree need: its file, the database's memory, the snapshots and the checkpoint numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::block::BlockStore;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::page::{OverflowRef, Value, check_piece, encode_piece};
use crate::txn::{Epoch, TxnRegistry};
use crate::types::{BlockAddr, CheckpointSeq, TableId};

use super::TreeOptions;

pub(super) struct Shared {
    pub table: TableId,
    pub store: Arc<BlockStore>,
    pub cache: Arc<Cache>,
    pub epoch: Arc<Epoch>,
    pub registry: Arc<TxnRegistry>,
    pub options: TreeOptions,
    /// Some value is, or once was, in overflow blocks. Never turns back.
    overflow: AtomicBool,
    pub counts: Counts,
}

/// What the tree has done since it was opened.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub page_ins: AtomicU64,
    pub folds: AtomicU64,
    pub splits: AtomicU64,
    pub merges: AtomicU64,
    pub patches: AtomicU64,
    pub evictions: AtomicU64,
    pub evict_writes: AtomicU64,
    pub inner_evictions: AtomicU64,
}

impl Counts {
    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub fn new(
        table: TableId,
        store: Arc<BlockStore>,
        cache: Arc<Cache>,
        epoch: Arc<Epoch>,
        registry: Arc<TxnRegistry>,
        options: TreeOptions,
        overflow: bool,
    ) -> Arc<Self> {
        let (overflow, counts) = (AtomicBool::new(overflow), Counts::default());
        Arc::new(Self { table, store, cache, epoch, registry, options, overflow, counts })
    }

    pub fn has_overflow(&self) -> bool {
        self.overflow.load(Ordering::Acquire)
    }

    /// Writes a large value and returns the stored form of its reference. On failure nothing is left behind.
    pub fn write_overflow(&self, value: &[u8], birth: CheckpointSeq) -> Result<Vec<u8>> {
        self.overflow.store(true, Ordering::Release);
        let mut reference = OverflowRef { len: value.len() as u64, pieces: Vec::new() };
        for piece in value.chunks(self.options.piece_bytes) {
            match self.store.write(&encode_piece(piece), birth) {
                Ok(addr) => reference.pieces.push(addr),
                Err(e) => {
                    reference.pieces.iter().for_each(|&addr| self.store.give_up(addr, birth));
                    return Err(e);
                }
            }
        }
        let mut stored = Vec::new();
        reference.encode(&mut stored);
        Ok(stored)
    }

    /// Reads a large value.
    pub fn read_overflow(&self, reference: &OverflowRef) -> Result<Value> {
        assemble(reference, self.store.path(), |addr| self.store.read(addr))
    }

    /// The newest state does not refer to the value any more, but readers in memory may: its blocks stay until
    /// [`Shared::release_overflow`].
    pub fn supersede_overflow(&self, stored: &[u8], live: CheckpointSeq) {
        for piece in super::leaf::trusted_reference(stored).pieces {
            self.store.hold(piece);
            self.store.give_up(piece, live);
        }
    }

    /// No reader in memory can come for the superseded value any more.
    pub fn release_overflow(&self, stored: &[u8]) {
        for piece in super::leaf::trusted_reference(stored).pieces {
            self.store.release(piece);
        }
    }
}

/// Bytes of a large value for which memory is taken before they were read.
const ASSEMBLE_AHEAD: usize = 16 << 20;

/// Puts a large value together from its pieces.
pub(super) fn assemble(
    reference: &OverflowRef,
    path: &std::path::Path,
    read: impl Fn(BlockAddr) -> Result<Arc<[u8]>>,
) -> Result<Value> {
    let len = usize::try_from(reference.len).map_err(|_| Error::corrupt("a value is larger than memory"))?;
    // What a page says of lengths is believed as far as blocks bear it out.
    let mut out = Vec::with_capacity(len.min(ASSEMBLE_AHEAD));
    for &addr in &reference.pieces {
        let body = read(addr)?;
        out.extend_from_slice(check_piece(&body).map_err(|e| e.at(path, Some(addr.offset)))?);
    }
    if out.len() != len {
        let at = reference.pieces.first().map(|piece| piece.offset);
        return Err(Error::corrupt(format!("a value of {len} bytes has pieces of {} bytes", out.len())).at(path, at));
    }
    Ok(Value::from(out))
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("table", &self.table).finish_non_exhaustive()
    }
}
