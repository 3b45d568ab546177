//! Rolling a copy forward by hand: for those who write the ranges of an increment into the copy themselves, from the files of
//! the source while the backup is open, without a directory in between.
//!
//! [`accepts`] says first whether the increment fits, and what the copy's manifest is afterwards. Between the first range and
//! that manifest the copy is neither what it was nor what it will be, so the old manifest must be gone meanwhile:
//!
//! ```text
//! 1  accepts(increment, copy) -> the manifest to come
//! 2  remove the copy's manifest; sync the directory           nothing opens the copy
//! 3  write every range of every item, in any order: a whole item empties its file first, lengths never come from ranges,
//!    a file shorter than the manifest says is lengthened to it; sync the files and the directory
//! 4  write the manifest to come, sync it and the directory    the copy is what it will be; `Manifest::seal` may follow
//! ```
//!
//! After an interruption the whole of it is repeated with the same open backup, or the copy is restored: what a later
//! increment needs may have been written over, and no note of where the copy was going is left, as [`super::apply()`] leaves
//! one. Files that the manifest calls removed may be removed at any time after.

use std::path::Path;

use strandline_vfs::Vfs;

use super::apply::{Base, becomes};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{BASE_FILE, CopyKind, Manifest};

/// Whether the increment by blocks that `increment` describes may be written into the copy in `copy`, and the manifest that
/// the copy then has; it is not sealed. Nothing is written.
///
/// # Errors
/// `WrongBase` when the increment does not fit, is none by blocks, or when the copy was opened as a database or is in the
/// middle of an [`super::apply()`]; `InvalidArgument` when the copy was rolled forward by the log; `Corrupt` naming a file of
/// the copy that is missing or short; `NotFound` without a manifest; `Io`.
pub fn accepts(vfs: &dyn Vfs, increment: &Manifest, copy: &Path) -> Result<Manifest> {
    let base = Base::find(vfs, copy)?;
    if base.begun.is_some() {
        return Err(Error::new(ErrorKind::WrongBase, "an increment was applied to the copy and not finished")
            .at(&copy.join(BASE_FILE), None)
            .remedy("apply that one again first"));
    }
    base.check_fits(increment, copy)?;
    debug_assert!(matches!(increment.kind, CopyKind::Increment(_)), "no other kind fits");
    base.manifest.check_present(vfs, copy)?;
    Ok(becomes(increment, &base))
}
