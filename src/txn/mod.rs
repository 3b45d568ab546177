//! Transactions without the tree: which commits a reader sees, who is writing which key, what a transaction has buffered,
//! and which checkpoint numbers writers and the checkpoint use.
//!
//! A transaction keeps its writes to itself until it commits, so the tree holds committed versions only. What is left to
//! coordinate is small, and each part is a file of this room: [`TxnRegistry`] (snapshots), [`Claims`] (conflicts between
//! running transactions), [`WriteBuffer`] (private writes), [`Epoch`] (the gate between commits and the checkpoint).

mod buffer;
mod claims;
mod epoch;
mod registry;

pub use buffer::{TableWrites, WriteBuffer};
pub use claims::Claims;
pub use epoch::{Entered, Epoch};
pub use registry::{SnapshotGuard, TxnRegistry};
