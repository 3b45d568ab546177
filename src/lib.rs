//! Strandline: an embedded transactional key-value store whose heart is the online backup.
//!
//! # Durability
//!
//! A database is durable by checkpoints or by commits. Without a log, the default, a crash leaves the last completed
//! [checkpoint](Database::checkpoint), whole and nothing else. With [`Options::log`] each commit is written ahead, and
//! [`Durability`] says what it waits for:
//!
//! - [`Durability::Sync`], the default: it is on the device, and survives a loss of power;
//! - [`Durability::Write`]: the system has it, and it survives the death of the process;
//! - [`Durability::Buffered`]: it is written soon, and survives neither until then.
//!
//! Set it for a database ([`Options::durability`]), a transaction ([`Database::begin_with`]) or a commit
//! ([`Transaction::commit_with`]); [`Database::sync_log`] makes up for what was committed with less. Commits come back in
//! their order and without a gap, so what is lost is lost from the end. Nobody sees a commit before it is as durable as it asked to
//! be. A table made with [`TableOptions::log`]`(false)` keeps the durability of checkpoints, for its part of a transaction, too.
//!
//! ```
//! # fn main() -> strandline::Result<()> {
//! # let dir = std::env::temp_dir().join(format!("strandline-doc-durable-{}", std::process::id()));
//! use strandline::{Durability, Options, TableOptions};
//!
//! let db = Options::new().create(true).log(true).open(&dir)?; // remembered
//! let table = db.create_table("t", TableOptions::new())?;
//! let mut txn = db.begin()?;
//! txn.put(&table, "k", "v")?;
//! txn.commit_with(Durability::Write)?; // survives the process
//! db.sync_log(Durability::Sync)?; // survives the machine
//! # drop(db);
//! # std::fs::remove_dir_all(dir).unwrap();
//! # Ok(())
//! # }
//! ```
//!
//! A backup of a database with a log holds its checkpoint and the log from there on, hence all that was committed before the
//! backup was opened; [`BackupOptions::log_only`] carries what came since. Recovery, at the next open of a home or a copy, replays
//! the log over the checkpoint. It ends where the log was torn by a crash, and refuses damage to what was durable, unless
//! [`Options::salvage`] says that what stands before it is to be kept.
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
    Database, KeyRange, LOG_SEGMENT_BYTES_DEFAULT, LOG_SEGMENT_BYTES_MAX, LOG_SEGMENT_BYTES_MIN, Near, Options,
    OriginRef, Range, Recovery, Row, StateDiff, Table, TableDiff, TableInfo, TableOptions, Transaction, View, Workers,
    check_table_name, restore, restore_stream, verify_copy,
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
