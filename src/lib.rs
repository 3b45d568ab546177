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
//! | 2 | block page txn log |
//! | 1 | limits options sync types codec error progress record |

#![forbid(unsafe_code)]

pub mod audit;
pub mod backup;
pub mod block;
pub mod btree;
pub mod cache;
pub mod catalog;
pub mod checkpoint;
pub mod codec;
mod db;
mod error;
pub mod inspect;
pub mod limits;
pub mod log;
pub mod maintenance;
pub mod manifest;
pub mod options;
pub mod page;
pub mod progress;
pub mod record;
pub mod recovery;
pub mod sync;
pub mod txn;
mod types;

pub use backup::{BackupItem, BackupReport, CopyOptions, CopyReport, RestoreOptions, VerifyCopyOptions};
pub use checkpoint::{CheckpointOptions, CheckpointReport, Dropped, PinKind};
pub use db::{
    Backup, BackupOptions, CACHE_BYTES_DEFAULT, CACHE_BYTES_MIN, CatchUp, CheckpointInfo, CheckpointRef, Cursor,
    Database, LOG_SEGMENT_BYTES_DEFAULT, LOG_SEGMENT_BYTES_MAX, LOG_SEGMENT_BYTES_MIN, Near, Options, Range, Recovery,
    Row, Table, TableInfo, TableOptions, Transaction, View, Workers, check_table_name, restore, restore_stream,
    verify_copy,
};
pub use error::{Error, ErrorKind, Location, Result};
pub use maintenance::{Finding, OnDamage, Severity, VerifyOptions, VerifyReport};
pub use options::{Contract, Durability, LogSettings, Settings};
pub use page::Value;
pub use progress::{OnProgress, Progress};
pub use recovery::{RecoveryKind, RecoveryReport, Replayed};
pub use types::{BlockAddr, CheckpointSeq, CommitSeq, Extent, Lineage, LogPosition, Lsn, Origin, TableId};

/// The README, so that its code is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
