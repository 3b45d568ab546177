//! How far a long operation has come, and whether its caller wants it to go on.
//!
//! Copies, restores and verifications may take hours. They call back after every piece or block, so that the caller can
//! draw a bar, and can stop them in an orderly way: [`ErrorKind::Cancelled`] then travels up like any error.

use std::ops::ControlFlow;

use crate::error::{Error, ErrorKind, Result};

/// How far a copy, a restore or a verification has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Bytes dealt with so far.
    pub bytes_done: u64,
    /// Bytes in all; the manifest is not counted.
    pub bytes_total: u64,
    /// Files finished.
    pub files_done: usize,
    /// Files in all.
    pub files_total: usize,
    /// The file in work, relative to the copy.
    pub file: &'a str,
}

/// Called after every piece; `Break` stops the operation with [`ErrorKind::Cancelled`].
pub type OnProgress<'a> = dyn FnMut(&Progress<'_>) -> ControlFlow<()> + 'a;

/// Counts, and asks the caller.
pub struct Meter<'a, 'b> {
    state: Progress<'static>,
    call: &'a mut OnProgress<'b>,
}

impl<'a, 'b> Meter<'a, 'b> {
    /// A meter at the start of `bytes_total` bytes in `files_total` files.
    pub fn new(bytes_total: u64, files_total: usize, call: &'a mut OnProgress<'b>) -> Self {
        Self { state: Progress { bytes_done: 0, bytes_total, files_done: 0, files_total, file: "" }, call }
    }

    /// `bytes` more of `file` are done.
    ///
    /// # Errors
    /// `Cancelled` when the caller wants no more; the same holds below.
    pub fn advance(&mut self, file: &str, bytes: u64) -> Result<()> {
        self.state.bytes_done += bytes;
        // A stream tells its size only at the end; a total below what was done would only confuse.
        self.state.bytes_total = self.state.bytes_total.max(self.state.bytes_done);
        self.tell(file)
    }

    /// `file` is finished.
    ///
    /// # Errors
    /// As [`Meter::advance`].
    pub fn finish_file(&mut self, file: &str) -> Result<()> {
        self.state.files_done += 1;
        self.state.files_total = self.state.files_total.max(self.state.files_done);
        self.tell(file)
    }

    /// More work was found.
    pub fn add_total(&mut self, bytes: u64, files: usize) {
        self.state.bytes_total += bytes;
        self.state.files_total += files;
    }

    /// Bytes done so far.
    #[must_use]
    pub fn bytes_done(&self) -> u64 {
        self.state.bytes_done
    }

    fn tell(&mut self, file: &str) -> Result<()> {
        match (self.call)(&Progress { file, ..self.state }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::new(ErrorKind::Cancelled, "stopped at the caller's wish")),
        }
    }
}
