//! Runs: drawn from a tape, read from a file, repeated, shortened, and by the thousand.
//!
//! A [`Case`] is a run written down: settings, operations and the seed from which crashes were chosen, in words. It replays
//! as long as the words mean something, whatever became of the generators since; this is the form in which failures are
//! kept. A tape's token replays a run with the generators as they are now, and is shorter to pass on.

mod case;
mod shrink;
mod swarm;

pub use case::{Case, run_case, run_tape};
pub use shrink::shrink;
pub use swarm::{Budget, Found, Progress, swarm};
