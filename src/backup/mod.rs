//! Online backup: what to copy, how to copy it, and how to know that the copy is good.
//!
//! A backup pins one checkpoint P. What P reaches is never overwritten while it is pinned (B1), and what is written
//! meanwhile P does not reach; so the files may be copied while the database works, in any order, by anyone. The bytes
//! that a table's file had at P are enough, and more do no harm. What the copy is, is said by the [`Manifest`], written
//! last. Of a database with a log the segments from P's position on travel too, closed, and opening the copy replays them.
//!
//! ```text
//! plan    P and its catalog  ->  the items to copy and the unsealed manifest
//! run     plan               ->  a sink: a directory, a stream; piece checksums on the way; the manifest last
//! verify  a copy             ->  presence, sizes, pieces, the log, then every block that the manifest's root reaches
//! restore a copy, a stream   ->  a fresh directory, by the same engine, verified
//! since   plan, origin       ->  the plan of an increment: what was born after the origin
//! log     segments           ->  the plan of an increment from the log: what a copy lacks of it
//! apply   increment, copy    ->  the copy rolled forward
//! accepts increment, copy    ->  the manifest to come, for those who write the ranges themselves
//! ```
//!
//! The pin itself, its place in the root record, and the guard that the caller holds are not here: this room is handed a
//! checkpoint that will stay.
//!
//! - **K1** Listed files exist, unshrunk, until the backup is closed. Here: a source shorter than listed is filled with
//!   zeros in the copy and reported, one that is missing is an error.
//! - **K6** A wrong, incomplete, damaged or opened copy is refused by name before it is changed.
//! - **K7** A run that does not come to its end leaves no manifest, and takes back what it wrote when it can.

mod apply;
mod by_hand;
mod changes;
mod copy;
mod directory;
mod increment;
mod plan;
mod restore;
mod segments;
mod stream;
mod verify;

pub use crate::audit::{Finding, OnDamage, Severity};
pub use crate::manifest::{Content, CopyKind, FileRole, Manifest, ManifestFile, ManifestTable, Rolled};
pub use crate::progress::{OnProgress, Progress};
pub use apply::{ApplyReport, apply};
pub use by_hand::accepts;
pub use changes::{Shape, WalkCost};
pub use copy::{BackupReport, CopyOptions, Sink, copy_to, run, stream_to};
pub use directory::DirectorySink;
pub use increment::{FilesAt, check_origin, increment};
pub use plan::{BackupItem, ItemContent, ItemKind, LogHead, Plan, PlanHead, PlanSegment, PlanTable};
pub use restore::{RestoreOptions, restore, restore_stream};
pub use segments::{header_of, of_one_history};
pub use stream::{Event, StreamSink, StreamSource};
pub use verify::{CopyReport, VerifyCopyOptions, verify_copy};

#[cfg(test)]
mod log_tests;
#[cfg(test)]
mod tests;
