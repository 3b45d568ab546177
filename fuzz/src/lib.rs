//! The bodies of the fuzz targets.
//!
//! A target is a function from bytes to nothing that panics when something is wrong. `cargo fuzz run <target>` feeds it
//! from libFuzzer; `cargo test` feeds it the committed corpus and mutations of it from a fixed seed; so what the fuzzer
//! once found stays found, on stable too. The programs in `fuzz_targets/` are only doors.
//!
//! What every target demands: no panic, no allocation that the input does not pay for, and whatever was accepted has
//! exactly one encoding (P2, D1): encoding it again gives the bytes that were read.

#![forbid(unsafe_code)]

mod catalog;
mod decode;
mod home;
mod hostile;
mod log;
mod mutate;
mod seeds;
mod stage;
mod tape;

pub use catalog::catalog;
pub use decode::{block, manifest, page, stream};
pub use home::home;
pub use hostile::hostile;
pub use log::log;
pub use mutate::Mutations;
pub use seeds::{Seed, seeds};
pub use tape::tape;

/// A target: panics when something is wrong.
pub type Target = fn(&[u8]);

/// Every target by name; the name is also that of its folder in the corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("block", block),
    ("catalog", catalog),
    ("home", home),
    ("hostile", hostile),
    ("log", log),
    ("manifest", manifest),
    ("page", page),
    ("stream", stream),
    ("tape", tape),
];

/// Runs a target on the files named on the command line.
///
/// # Errors
/// When a file cannot be read.
pub fn replay_arguments(target: Target) -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        target(&std::fs::read(path)?);
    }
    Ok(())
}
