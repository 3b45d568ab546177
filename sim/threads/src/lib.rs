//! Threads of the engine under a scheduler whose every choice comes from a tape.
//!
//! The simulator's other driver has one thread: what it calls interleaving is the order of operations, and no operation is
//! ever cut by another. Bugs between two lines of one function are out of its reach. Here the engine's own source is compiled
//! a second time (package `engine`) against locks of the same names (package `locks`) that belong to a scheduler: every
//! thread is a coroutine, one runs at a time, and who goes on at a lock, a wait or a call to the file system is drawn from
//! the tape. So a race is a list of numbers: it happens again, and it can be made shorter.
//!
//! - [`plan`]: what the threads do, drawn before anything runs.
//! - [`schedule`]: who runs next.
//! - [`race`]: the file system as a place where threads meet.
//! - [`run`](run::run): one run, and the [`history`] that it leaves.
//! - [`order`]: whether all that was seen fits the order that the engine claims; [`cycles`]: whether there is any.
//! - [`crash`]: what a power cut leaves, at any moment of all this.
//! - [`campaign`]: many seeds, and a failing schedule made short.
//!
//! Points are locks, waits, calls to the file system, and the atomics that the engine takes from `crate::sync::racy`: those
//! of snapshots, of the checkpoint's gate and of pins. Not seen here: what races between other atomics, which count; weak
//! memory order; anything of the real system.

#![forbid(unsafe_code)]

pub mod campaign;
pub mod crash;
pub mod cycles;
pub mod engines;
pub mod history;
pub mod order;
pub mod plan;
pub mod race;
pub mod run;
pub mod schedule;
