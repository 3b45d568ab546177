//! Deterministic simulation of storage: a disk that crashes, the dice that decide how, and the laws it obeys.
//!
//! - [`disk`]: a simulated disk for any code that touches files through `strandline-vfs`. It derives every image that a
//!   power cut may leave and boots each as a fresh disk.
//! - [`litmus`]: small programs with the exact set of images each may leave: what the disk promises, as data.
//! - [`tape`]: one source for every choice of a run, to replay, edit, enumerate and fuzz it.
//! - [`explore()`](explore::explore): crashes your own storage code, its recovery, and the recovery after that.
//!
//! These parts know no engine. The model, the oracle and the driver that put Strandline itself on the disk come with the
//! feature `strandline`, which is on by default.

#![forbid(unsafe_code)]

#[cfg(feature = "strandline")]
pub mod campaign;
pub mod disk;
#[cfg(feature = "strandline")]
pub mod driver;
#[cfg(feature = "strandline")]
pub mod engine;
#[cfg(feature = "strandline")]
pub mod exhaustive;
pub mod explore;
pub mod litmus;
#[cfg(feature = "strandline")]
pub mod model;
#[cfg(feature = "strandline")]
pub mod oracle;
#[cfg(feature = "strandline")]
pub mod planted;
pub mod tape;
#[cfg(feature = "strandline")]
pub mod workload;
