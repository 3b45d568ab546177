//! What a caller can see, rule by rule, through the public interface alone.
//!
//! One module per capability; each test names the rules of `semantics.md`, the invariants and the rows of the conformance
//! catalogue that it shows (`Covers: CK-7`). Databases live in memory: nothing here is about what a power cut leaves,
//! which the simulation proves. "Crash" means that the process died: the files stay as they are, nothing is closed.

mod backup;
mod bad_input;
mod checkpoints;
mod cursors;
mod devices;
mod diff;
mod limits;
mod log;
mod log_backup;
mod log_files;
mod model;
mod origins;
mod read_only;
mod restore;
mod stage;
mod tables;
mod threads;
mod transactions;
mod verify;
mod views;
