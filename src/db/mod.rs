//! The public handles, and the only place that starts threads.
//!
//! ```text
//! Options --open--> Database --begin--> Transaction --range, cursor--> rows
//!                      |---- checkpoint, view --> View
//!                      `---- backup --> Backup --> items, copy_to, stream_to
//! ```
//!
//! A transaction, a cursor and a backup borrow the database, so none outlives it. A view owns a share of it and gives
//! `Closed` afterwards.

mod backup;
mod core;
mod cursor;
mod database;
mod diff;
mod log_backup;
mod merge;
mod options;
mod stats;
mod table;
mod transaction;
mod verify;
mod view;
mod workers;

pub use backup::{Backup, BackupOptions, OriginRef};
pub use cursor::{Cursor, Near, Range, Row};
pub use database::{CheckpointInfo, Database};
pub use diff::{KeyRange, StateDiff, TableDiff};
pub use log_backup::CatchUp;
pub use options::{
    CACHE_BYTES_DEFAULT, CACHE_BYTES_MIN, LOG_SEGMENT_BYTES_DEFAULT, LOG_SEGMENT_BYTES_MAX, LOG_SEGMENT_BYTES_MIN,
    Options, Recovery, Workers,
};
pub use table::{Table, TableInfo, TableOptions, check_table_name};
pub use transaction::Transaction;
pub use verify::{restore, restore_stream, verify_copy};
pub use view::{CheckpointRef, View};
