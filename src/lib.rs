//! Strandline: an embedded transactional key-value store whose heart is the online backup.
//!
//! # Layers
//!
//! Every room (module) of the engine may use the rooms of lower layers only; siblings are blind to each other. The test
//! `layers` reads this table and every `use crate::` in the source, and fails on an upward or sideways edge.
//!
//! | layer | rooms |
//! | --- | --- |
//! | 8 | db |
//! | 7 | recovery backup maintenance inspect |
//! | 6 | checkpoint manifest audit |
//! | 5 | catalog |
//! | 4 | btree |
//! | 3 | cache |
//! | 2 | block page txn |
//! | 1 | limits options sync types codec error progress |

#![forbid(unsafe_code)]

pub mod backup;
pub mod block;
pub mod btree;
pub mod cache;
pub mod codec;
mod error;
pub mod limits;
pub mod manifest;
pub mod page;
pub mod progress;
pub mod txn;
mod types;

pub use error::{Error, ErrorKind, Location, Result};
pub use types::{BlockAddr, CheckpointSeq, CommitSeq, Extent, Lineage, Origin, TableId};
