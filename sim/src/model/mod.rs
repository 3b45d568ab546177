//! What the engine promises, as a pure value: no I/O, no threads, no errors of its own.
//!
//! The model is told every call and every acknowledgement. It knows which answer a live call must give, and which states a
//! crash may leave. It is small enough to be read at one sitting, because nothing checks it but the reader.
//!
//! - **State** ([`Rows`], [`TableSet`]): persistent maps that share structure, so every state that ever was is kept. Their
//!   *digest* is a 128-bit sum over hashed rows: two states compare in one instruction, whatever order they were read in.
//! - **Transactions** ([`Transactions`]): a snapshot, an overlay of own writes, and the rule that the first updater wins.
//! - **Checkpoints** ([`Checkpoints`]): which are retained, which drop is refused and why.
//! - **Durable points** ([`History`]): everything a reopened database could show, in the order it became possible, with
//!   the event at which it was called for and the event at which it was acknowledged. A crash image that lived from
//!   *birth* to *death* must show a point that was allowed at every instant of that life (M1):
//!
//! | at instant t | allowed |
//! | --- | --- |
//! | no backup open, or contract `Latest` | the newest point acknowledged at t, up to the newest begun at t |
//! | backup open (`Pinned`) | exactly the newest point acknowledged when it was opened |
//! | the backup is being opened or closed | either of the two |
//!
//! - **M1** Bounds meet: lower bound at death, upper bound at birth, and every instant between agrees.
//! - **M2** A point is a whole: the tables, and every named checkpoint with its contents. Half of one is no point.

mod checkpoint;
mod history;
mod live;
mod rows;
mod txn;

pub use checkpoint::{Blocked, Checkpoints, Drop, Retained, Taken};
pub use history::{Allowed, History, Point, Visible, fingerprint, summary};
pub use live::{Live, OpenBackup};
pub use rows::{Bytes, Digest, Rows, Summary, TableSet, row_hash, text_hash};
pub use txn::{Refusal, RowsById, Transactions, Txn};
