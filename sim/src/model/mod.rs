//! What the engine promises, as a pure value: no I/O, no threads, no errors of its own.
//!
//! The model is told every call and every acknowledgement. It knows which answer a live call must give, and which states a
//! crash may leave. It is small enough to be read at one sitting, because nothing checks it but the reader.
//!
//! - **State** ([`Rows`], [`TableSet`]): persistent maps that share structure, so every state that ever was is kept. Their
//!   *digest* is a 128-bit sum over hashed rows: two states compare in one instruction, whatever order they were read in.
//! - **Transactions** ([`Transactions`]): a snapshot, an overlay of own writes, and the rule that the first updater wins.
//! - **Checkpoints** ([`Checkpoints`]): which are retained, which drop is refused and why.
//! - **The log** ([`LogChain`]): commits and changes of the catalog in the order of their records, and how far each was
//!   promised to reach.
//! - **Durable states** ([`History`]): everything a reopened database could show: points, in the order they became
//!   possible, with the event at which each was called for and the event at which it was acknowledged, and on top of each
//!   as much of the log as can be there. A crash image that lived from *birth* to *death* must show a state that was
//!   allowed at every instant of that life (M1):
//!
//! | at instant t | the point | the log replayed on it |
//! | --- | --- | --- |
//! | no backup open, or contract `Latest` | the newest acknowledged at t, up to the newest begun at t | up to some entry between the last promised at t and the last begun at t |
//! | backup open (`Pinned`) | exactly the newest acknowledged when it was opened | the same, changes of the catalog included |
//! | the backup is being opened or closed | either of the two | |
//!
//! - **M1** Bounds meet: lower bound at death, upper bound at birth, and every instant between agrees.
//! - **M2** A point is a whole: the tables, and every named checkpoint with its contents. Half of one is no point. Rows of
//!   logged tables stand at one and the same entry of the log, those of others at the point (the transaction is split).
//! - **M3** What was seen after an open is promised from then on, whether it was acknowledged before or not.

mod checkpoint;
mod history;
mod live;
mod log;
mod rows;
mod txn;
mod visible;

pub use checkpoint::{Blocked, Checkpoints, Drop, Retained, Taken};
pub use history::{Allowed, History, Point, State};
pub use live::{Live, OpenBackup};
pub use log::{Entry, Level, LogChain, Logged};
pub use rows::{Bytes, Digest, Rows, Summary, TableSet, row_hash, text_hash};
pub use txn::{Refusal, RowsById, Transactions, Txn};
pub use visible::{Labels, Origin, Visible, fingerprint, summary};
