//! A table's file as a no-overwrite store of blocks.
//!
//! # The problem
//! Checkpoints must stay readable while the tree goes on changing, must cost only what changed, and must give their space
//! back when they are dropped; a crash at any instant must leave the last one whole. So a block, once written, is never
//! touched again until no retained checkpoint can reach it.
//!
//! # The parts
//! - `format`: the file header, the block header, and what is checked before a block is believed (B4).
//! - `extents`: sets of byte ranges, and the choice of where the next block goes.
//! - `lists`: what a checkpoint stores about space: [`SpaceState`] and [`DeadList`], and how dropping a checkpoint
//!   merges them ([`drop_entry`]).
//! - `space`: the accounting in memory between two checkpoints and during one.
//! - `store`: the file itself, [`BlockStore`].
//!
//! # Where the lists are kept
//! This room has no place for its own lists in the file: they are values in the catalog, and the catalog's own lists are
//! a block that the root record locates. So a table file holds its header and blocks, nothing else, and writing a list
//! never changes the list.
//!
//! # Invariants
//! - **B1** Nothing that a retained checkpoint reaches is overwritten: only ranges in no retained state are allocated.
//! - **B2** At each retained checkpoint every byte below its size is exactly one of header, reachable, dead, available.
//! - **B3** What a checkpoint frees is allocated again only after both slots hold the root record that does not reach it.
//! - **B4** A block is believed only if offset, size, table, birth and both checksums agree.

mod extents;
mod format;
mod lists;
#[cfg(test)]
mod model;
mod space;
mod store;
#[cfg(test)]
mod tests;

pub use extents::ExtentSet;
pub use format::{
    BLOCK_HEADER, BlockHeader, FILE_HEADER, FORMAT_VERSION, FileHeader, MAX_BLOCK, body_capacity, check_block,
    check_unit, data_start,
};
pub use lists::{Dead, DeadList, SpaceState, drop_entry};
pub use space::Settled;
pub use store::{BlockSource, BlockStore, Counters};
