//! What a tree is told, and what it tells: sizes, its stored root, its counters.

use crate::block::BLOCK_HEADER;
use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};
use crate::types::BlockAddr;

/// Sizes of pages. Stored trees do not depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeOptions {
    /// Bytes that a leaf's block should take at most, header included.
    pub leaf_bytes: usize,
    /// Children of an inner page at most.
    pub fan_out: usize,
    /// Versions of a leaf that make it worth folding.
    pub fold_versions: usize,
    /// Values longer than this go to blocks of their own.
    pub overflow_bytes: usize,
    /// Bytes of a large value in one block at most.
    pub piece_bytes: usize,
    /// What changed of a leaf is stored as a patch if that takes at most the n-th part of the leaf's block; 0: never.
    pub patch_share: usize,
}

impl Default for TreeOptions {
    fn default() -> Self {
        Self::with_leaf_bytes(8192)
    }
}

impl TreeOptions {
    /// The usual sizes around leaves of this many bytes.
    #[must_use]
    pub fn with_leaf_bytes(leaf_bytes: usize) -> Self {
        Self {
            leaf_bytes,
            fan_out: 256,
            fold_versions: 32,
            overflow_bytes: leaf_bytes / 4,
            piece_bytes: 1 << 20,
            patch_share: 4,
        }
    }

    /// The nearest sizes that a tree can work with.
    #[must_use]
    pub fn within_limits(self) -> Self {
        Self {
            leaf_bytes: self.leaf_bytes.clamp(128, 1 << 20),
            fan_out: self.fan_out.clamp(4, 1 << 12),
            fold_versions: self.fold_versions.clamp(1, 1 << 16),
            overflow_bytes: self.overflow_bytes.clamp(16, 1 << 20),
            piece_bytes: self.piece_bytes.clamp(16, 1 << 26),
            patch_share: self.patch_share,
        }
    }

    /// Bytes that an encoded leaf should have at most.
    pub(super) fn page_bytes(&self) -> usize {
        self.leaf_bytes.saturating_sub(BLOCK_HEADER)
    }
}

/// Where a stored tree begins. Stored as address, level and one byte of flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeRoot {
    /// The root page.
    pub addr: BlockAddr,
    /// Its level; 0 when it is a leaf.
    pub level: u8,
    /// Some value is, or once was, in overflow blocks.
    pub overflow: bool,
}

impl TreeRoot {
    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.addr.encode(out);
        out.put_u8(self.level);
        out.put_u8(u8::from(self.overflow));
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// `Corrupt` when the bytes end first or a flag is unknown.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (addr, level, flags) = (BlockAddr::decode(r)?, r.u8()?, r.u8()?);
        if flags > 1 {
            return Err(Error::corrupt(format!("unknown flags {flags:#04x} of a tree's root")));
        }
        Ok(Self { addr, level, overflow: flags == 1 })
    }
}

/// What a tree has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeStats {
    /// Levels of the tree in memory, leaves included.
    pub levels: u64,
    /// Leaves read from disk.
    pub page_ins: u64,
    /// Leaves rebuilt in memory.
    pub folds: u64,
    /// Leaves cut.
    pub splits: u64,
    /// Leaves merged into a neighbour.
    pub merges: u64,
    /// Leaves stored as a patch.
    pub patches: u64,
    /// Leaves that left memory.
    pub evictions: u64,
    /// Of these, leaves that had to be written.
    pub evict_writes: u64,
    /// Inner pages that left memory.
    pub inner_evictions: u64,
}
