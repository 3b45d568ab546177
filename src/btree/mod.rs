//! The tree of one table: in memory, on disk, and the way between.
//!
//! # Shape
//! A B+tree of immutable inner pages under one root that is swapped whole, over leaves behind locks of their own. A reader
//! goes down without a lock, and locks one leaf for the time of a search. A leaf is an immutable encoded image with the
//! committed versions since (`leaf`, `versions`); when these get many, the leaf is folded: rebuilt in memory, and cut if it
//! has grown too large (`fold`, `shape`).
//!
//! # Who does what
//! - `tree`: going down, reading, faulting pages in.
//! - `commit`: preparing and applying a sorted batch of writes; `shape`: what follows: folding, splitting, merging.
//! - `checkpoint`: writing the state of one snapshot while commits go on; `evict`: making room; `patching`: storing the few
//!   rows of a leaf that changed instead of all of it.
//! - `cursor`: scans over the live tree or a stored one; `reader`: a stored tree, for views, verification, backups.
//!
//! # The checkpoint and everyone else
//! A checkpoint walks the inner pages as they were when it began (it keeps that root), and stores for each leaf what its
//! snapshot sees. Whoever is about to change what the checkpoint needs does the checkpoint's work for that leaf first: a
//! split or an eviction *settles* the leaf (stores its state for the checkpoint) and only then goes on. So nothing has to be
//! kept in memory for the checkpoint, and it needs no page that is not there.
//!
//! # Order of locks
//! Gate (`txn::Epoch`), structure of a tree, leaf, then the small ones (page state, store, cache). The checkpoint takes no
//! gate. Readers take a leaf's lock alone.
//!
//! # Invariants
//! - P1, B5: checked on what is read from disk: keys within fences, children not younger than parents.
//! - C1: a stored tree holds exactly what its snapshot sees.
//! - T3, E1, E2: see `fold`, `evict`.
//! - F1: every block is given up exactly once, by whoever makes the state that does not reach it: for the checkpoint in
//!   progress by the settling of a page, for the live tree by the change of structure or of value.

mod checkpoint;
mod commit;
mod cursor;
mod diff;
mod evict;
mod fold;
mod inner;
mod leaf;
mod options;
mod patching;
mod reader;
mod shape;
mod shared;
mod tree;
mod versions;

#[cfg(test)]
mod tests;

pub use commit::Prepared;
pub use cursor::{Cursor, LeafSource, ReaderCursor, TreeCursor};
pub use diff::{Difference, diff};
pub use options::{TreeOptions, TreeRoot, TreeStats};
pub use reader::{Descend, TreeReader, Visit};
pub use tree::{Place, Tree};
