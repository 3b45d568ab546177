//! One suite of cases that every implementation of [`Vfs`] must pass.
//!
//! The operating system, plain memory and the simulated disk are only interchangeable while they agree, so what the traits
//! promise is written here as named cases. A case gets an empty directory and a fresh file system, checks one promise, and
//! says in its failure what was asked, what was expected and what came.
//!
//! - **C1** Cases use only names under the directory they were given, and leave nothing outside of it.
//! - **C2** Cases never crash anything: what survives a power cut (V2 to V5) is the simulated disk's own matter; here the
//!   calls must merely succeed.
//! - **C3** A case asks only for what the documentation of the traits says. Where an error kind is not promised there, any
//!   error will do.
//!
//! ```
//! use std::{path::PathBuf, sync::Arc};
//! use strandline_vfs::{conformance, mem::MemVfs};
//!
//! conformance::run_all(|| (Arc::new(MemVfs::new()), PathBuf::from("/")));
//! ```

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{File, OpenOptions, Vfs};

mod bytes;
mod names;
mod sharing;

/// One promise and the check of it.
#[derive(Clone, Copy)]
pub struct Case {
    name: &'static str,
    threads: bool,
    check: fn(&Place) -> Outcome,
}

/// Where a case runs: a file system and an empty directory in it.
#[derive(Debug)]
pub struct Place {
    vfs: Arc<dyn Vfs>,
    root: PathBuf,
    direct: bool,
}

/// What a case comes to.
pub type Outcome = Result<(), Failure>;

/// Why a case failed: what was asked, what was expected, what came.
#[derive(Debug)]
pub struct Failure(String);

impl Case {
    /// The name, unique in the suite.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// True when the case starts threads; a file system that belongs to one thread leaves such cases out.
    #[must_use]
    pub fn uses_threads(&self) -> bool {
        self.threads
    }

    /// Runs the case in `root`, an existing empty directory of `vfs`.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn run(&self, vfs: Arc<dyn Vfs>, root: &Path) -> Outcome {
        (self.check)(&Place { vfs, root: root.to_path_buf(), direct: false })
    }

    /// Like [`Case::run`], with every file opened with [`OpenOptions::direct`].
    ///
    /// # Errors
    /// As [`Case::run`].
    pub fn run_direct(&self, vfs: Arc<dyn Vfs>, root: &Path) -> Outcome {
        (self.check)(&Place { vfs, root: root.to_path_buf(), direct: true })
    }
}

/// All cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    [bytes::CASES, names::CASES, sharing::CASES].concat()
}

/// Runs all cases twice, with and without [`OpenOptions::direct`], each in the file system and directory that `make` gives
/// for it.
///
/// # Panics
/// When a case fails; the message names every case that did.
pub fn run_all(make: impl Fn() -> (Arc<dyn Vfs>, PathBuf)) {
    run_some(make, |_| true);
}

/// Like [`run_all`], for the cases that `choose` admits.
///
/// # Panics
/// As [`run_all`].
pub fn run_some(make: impl Fn() -> (Arc<dyn Vfs>, PathBuf), choose: impl Fn(&Case) -> bool) {
    let mut failures = Vec::new();
    for case in cases().iter().filter(|case| choose(case)) {
        let (vfs, root) = make();
        if let Err(failure) = case.run(vfs, &root) {
            failures.push(format!("{}: {failure}", case.name));
        }
        let (vfs, root) = make();
        if let Err(failure) = case.run_direct(vfs, &root) {
            failures.push(format!("{} (direct): {failure}", case.name));
        }
    }
    assert!(failures.is_empty(), "{} promises of the file system are broken:\n{}", failures.len(), failures.join("\n"));
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn open(&self, name: &str, options: OpenOptions) -> Result<Arc<dyn File>, Failure> {
        let options = OpenOptions { direct: self.direct, ..options };
        self.vfs.open(&self.path(name), options).told(&format!("open `{name}` with {options:?}"))
    }

    fn create(&self, name: &str) -> Result<Arc<dyn File>, Failure> {
        self.open(name, OpenOptions::create_new())
    }

    /// A new file that holds `content`.
    fn create_with(&self, name: &str, content: &[u8]) -> Result<Arc<dyn File>, Failure> {
        let file = self.create(name)?;
        write(&*file, content, 0)?;
        Ok(file)
    }

    fn open_error(&self, name: &str, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        self.vfs.open(&self.path(name), OpenOptions { direct: self.direct, ..options })
    }
}

/// Adds what was asked to an I/O error.
trait Told<T> {
    fn told(self, what: &str) -> Result<T, Failure>;
}

impl<T> Told<T> for io::Result<T> {
    fn told(self, what: &str) -> Result<T, Failure> {
        self.map_err(|e| Failure(format!("{what} failed: {e} ({:?})", e.kind())))
    }
}

fn write(file: &dyn File, content: &[u8], offset: u64) -> Outcome {
    file.write_all_at(content, offset).told(&format!("write {} bytes at {offset}", content.len()))
}

/// Expects `content` at `offset`.
fn expect_bytes(file: &dyn File, content: &[u8], offset: u64, why: &str) -> Outcome {
    let mut got = vec![0xee; content.len()];
    file.read_exact_at(&mut got, offset).told(&format!("read {} bytes at {offset} ({why})", content.len()))?;
    match (0..got.len()).find(|&i| got[i] != content[i]) {
        None => Ok(()),
        Some(i) => Err(Failure(format!(
            "{why}: the byte at {} should be {:#04x} and is {:#04x}",
            offset + i as u64,
            content[i],
            got[i]
        ))),
    }
}

fn expect_len(file: &dyn File, len: u64, why: &str) -> Outcome {
    expect_eq(file.len().told("ask for the length")?, len, &format!("length of the file, {why}"))
}

fn expect_eq<T: PartialEq + fmt::Debug>(got: T, expected: T, what: &str) -> Outcome {
    if got == expected { Ok(()) } else { Err(Failure(format!("{what}: expected {expected:?}, got {got:?}"))) }
}

fn expect_error<T>(got: io::Result<T>, kind: ErrorKind, what: &str) -> Outcome {
    match got {
        Err(e) if e.kind() == kind => Ok(()),
        Err(e) => Err(Failure(format!("{what}: expected the error {kind:?}, got {:?}: {e}", e.kind()))),
        Ok(_) => Err(Failure(format!("{what}: expected the error {kind:?}, got success"))),
    }
}

/// Expects an error whose kind is not promised (C3).
fn expect_any_error<T>(got: io::Result<T>, what: &str) -> Outcome {
    if got.is_ok() { Err(Failure(format!("{what}: expected an error, got success"))) } else { Ok(()) }
}

/// Bytes that differ from their neighbours and from run to run of `seed`, so that misplaced ones show.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8).wrapping_add(seed) | 1).collect()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Case({})", self.name)
    }
}

/// A table of cases: the name of each is the name of its function.
macro_rules! case_table {
    ($($name:ident),* $(,)?; threads: $($threaded:ident),* $(,)?) => {
        pub(super) const CASES: &[super::Case] = &[
            $(super::Case { name: stringify!($name), threads: false, check: $name },)*
            $(super::Case { name: stringify!($threaded), threads: true, check: $threaded },)*
        ];
    };
}
use case_table;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::MemVfs;
    use crate::os::OsVfs;

    #[test]
    fn memory_keeps_every_promise() {
        run_all(|| (Arc::new(MemVfs::new()), PathBuf::from("/")));
    }

    #[test]
    fn the_operating_system_keeps_every_promise() {
        let dir = tempfile::tempdir().unwrap();
        let count = std::cell::Cell::new(0);
        run_all(|| {
            count.set(count.get() + 1);
            let root = dir.path().join(count.get().to_string());
            OsVfs.create_dir(&root).unwrap();
            (Arc::new(OsVfs), root)
        });
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = cases().iter().map(Case::name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
