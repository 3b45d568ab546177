//! Judges what crashes leave.
//!
//! [`Judge::judge`] takes a finished [`World`](crate::driver::World), derives the images of every barrier of its disks, opens
//! each with the engine's own recovery and compares what it shows with the points that the model's history allows for the
//! life of that image. Images are told apart by content hash: none is recovered twice, however often it occurs.
//!
//! - **O1** A recovered image must show a point allowed from its birth to its death, whole, under every rule.
//! - **O2** Recovery itself is crashed: each of its barriers is judged like any other, with the recovered state as the only
//!   point allowed. After recovery a short tail of work runs, and is crashed too.
//! - **O3** A directory of copies, cut at any barrier, opens as the state that its backup pinned, or, as long as the copy
//!   was not acknowledged, is refused. It never shows anything else.
//! - **O4** A damaged image gives errors or the right rows, never others, and the verifier notices what a reader notices.

mod damage;
mod judge;
pub mod observe;
mod rule;
pub mod structure;

pub use damage::damage;
pub use judge::{Count, Effort, Judge};
pub use observe::Shown;
pub use rule::Rule;
