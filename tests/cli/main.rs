//! The `strandline` command as a user meets it: every command, bad input, exit codes, and trade with WiredTiger's `wt`.

#![cfg(feature = "cli")]

mod checkpoints;
mod copies;
mod dump;
mod increments;
mod interop;
mod load;
mod log;
mod log_copies;
mod process;
mod rows;
mod shell;
mod tables;
mod usage;
