//! What a copy comes to together with the increments from the log that lie beside it.
//!
//! The segments of a copy begin with that of its checkpoint's position. An increment from the log fits when it is of the
//! same history and its first segment is at most the one after the copy's last, or says that it continues that one; what
//! the copy has already must agree. Increments of blocks and increments from the log are not mixed on one copy, except for the catch-up
//! of the very backup that the copy is.
//!
//! - **K6** A segment that does not continue the log of the copy, in whichever way, is refused by name before anything is
//!   changed.

use std::path::Path;

use strandline_vfs::Vfs;

use super::{CopyKind, MANIFEST_FILE, Manifest, Rolled, is_log_manifest};
use crate::catalog::RootRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{LogPosition, Lsn};

/// The log of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyLog {
    /// Where its replay begins.
    pub position: LogPosition,
    /// The segment that would continue it.
    pub next: u32,
}

impl Manifest {
    /// The root record that the copy starts from.
    ///
    /// # Errors
    /// `Corrupt` when it is none, or of another checkpoint than the manifest says.
    pub fn root_record(&self) -> Result<RootRecord> {
        let root = RootRecord::decode(&self.root, 0)?;
        if (root.lineage, root.newest.seq) == (self.lineage, self.sequence) {
            return Ok(root);
        }
        Err(Error::corrupt("the manifest and the root record in it tell of different checkpoints"))
    }

    /// The log of the copy; `None` for one without: of a database that keeps none, or of a chosen checkpoint.
    ///
    /// # Errors
    /// `Corrupt` when the root record in the manifest cannot be believed, or its segments do not begin at the checkpoint's
    /// position.
    pub fn log(&self) -> Result<Option<CopyLog>> {
        let Some(position) = self.root_record()?.newest.log else {
            return match self.segments().next() {
                Some((_, file)) => Err(Error::corrupt(format!("{} belongs to a copy without a log", file.name))),
                None => Ok(None),
            };
        };
        let (first, last) = (self.segments().next(), self.segments().next_back());
        let Lsn { segment, offset } = position.lsn;
        let begins = first.map_or(offset == 0, |(n, _)| n == segment || (offset == 0 && n > segment));
        if !begins {
            return Err(Error::corrupt(format!("the log of the copy does not begin with segment {}", position.lsn)));
        }
        let next = last.map_or(position.lsn.segment, |(number, _)| number.saturating_add(1));
        Ok(Some(CopyLog { position, next }))
    }

    /// The manifest of this copy with the segments of the increment `by` as well. What the copy has already is left out; when
    /// that is everything, the manifest stays as it is.
    ///
    /// # Errors
    /// `WrongBase` when the increment does not continue the copy's log; `InvalidArgument` when the copy was rolled forward by
    /// blocks.
    pub fn extended(&self, by: &Self) -> Result<Self> {
        let CopyKind::Log { previous, complete, first, next } = by.kind else {
            return Err(wrong(format!("what shall continue the log is none: {}", by.kind)));
        };
        if self.kind != CopyKind::Full {
            return Err(wrong(format!("the log rolls a full copy forward, and this one is: {}", self.kind)));
        }
        let Some(log) = self.log()? else {
            return Err(wrong("the copy has no log that could be continued".to_owned()));
        };
        if by.lineage != log.position.lineage {
            let what = format!("the log is of lineage {}, the copy of {}", by.lineage, log.position.lineage);
            return Err(wrong(what));
        }
        if first > log.next && self.log_end.is_none_or(|end| end != previous) {
            let what = format!("the copy ends before segment {}, the increment begins with {first}", log.next);
            return Err(wrong(what));
        }
        if complete > log.position.lsn {
            let what = format!("a table was taken into the log at {complete}, and the copy is of {}", log.position.lsn);
            return Err(wrong(what).remedy("take a full backup: the log does not hold what the table held before"));
        }
        for (number, file) in by.segments().filter(|(number, _)| *number < log.next) {
            self.agrees(number, file, self.sealed && by.sealed)?;
        }
        let mut out = self.clone();
        if next <= log.next {
            return Ok(out);
        }
        if by.backup != self.backup {
            if self.rolled == Some(Rolled::Blocks) {
                return Err(mixed());
            }
            out.rolled = Some(Rolled::Log);
        }
        out.files.extend(by.segments().filter(|(number, _)| *number >= log.next).map(|(_, file)| file.clone()));
        out.log_end = by.log_end;
        out.removed.retain(|name| by.files.iter().all(|f| f.name != *name));
        out.sealed &= by.sealed;
        Ok(out)
    }

    /// Whether a segment that the copy has is the one that the increment lists.
    fn agrees(&self, number: u32, file: &super::ManifestFile, sealed: bool) -> Result<()> {
        // Segments before the copy's position were never part of it.
        let Some((_, mine)) = self.segments().find(|(n, _)| *n == number) else { return Ok(()) };
        if mine.size == file.size && (!sealed || mine.pieces == file.pieces) {
            return Ok(());
        }
        Err(wrong(format!("{} is not the one that the copy has", file.name)))
    }

    /// The manifest of the copy in `dir`, with all increments from the log that lie beside it; that of an increment as it is.
    ///
    /// # Errors
    /// As [`Manifest::load`] and [`Manifest::extended`], with the file.
    pub fn load_copy(vfs: &dyn Vfs, dir: &Path) -> Result<Self> {
        match Self::load(vfs, dir) {
            // An increment is no copy, which the caller can say better than that there is nothing.
            Err(e) if e.kind() == ErrorKind::NotFound => Self::load_any(vfs, dir),
            loaded => loaded?.with_increments(vfs, dir),
        }
    }

    /// This manifest of the copy in `dir`, with all increments from the log that lie beside it.
    ///
    /// # Errors
    /// As [`Manifest::load_copy`].
    pub fn with_increments(mut self, vfs: &dyn Vfs, dir: &Path) -> Result<Self> {
        if matches!(self.kind, CopyKind::Full | CopyKind::Targeted) {
            for name in log_manifests(vfs, dir)? {
                let path = dir.join(name);
                self = self.extended(&Self::load_file(vfs, &path)?).map_err(|e| e.at(&path, None))?;
            }
        }
        Ok(self)
    }

    /// The manifest in `dir`, of a copy or of an increment of either kind.
    ///
    /// # Errors
    /// As [`Manifest::load`]; `InvalidArgument` when several increments from the log lie there.
    pub fn load_any(vfs: &dyn Vfs, dir: &Path) -> Result<Self> {
        let alone = match Self::load(vfs, dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => e,
            other => return other,
        };
        let names = log_manifests(vfs, dir)?;
        match &names[..] {
            [] => Err(alone),
            [name] => Self::load_file(vfs, &dir.join(name)),
            _ => Err(Error::invalid(format!(
                "several increments from the log lie in one directory: {}",
                names.join(", ")
            ))
            .at(dir, None)
            .remedy("keep each increment in a directory of its own, or lay them all beside the copy")),
        }
    }
}

/// The names of the manifests of increments from the log in `dir`, in the order of the log; none when `dir` is missing.
///
/// # Errors
/// `Io`.
pub fn log_manifests(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<String>> {
    let entries = match vfs.read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(e, "list the copy", dir)),
    };
    let names = entries.into_iter().map(|entry| entry.name.to_string_lossy().into_owned());
    Ok(names.filter(|name| is_log_manifest(name)).collect())
}

/// The error of a chain of increments of both kinds.
#[must_use]
pub fn mixed() -> Error {
    Error::invalid("increments by blocks and increments from the log cannot be mixed on one copy")
        .remedy("go on with increments of the kind that was applied before, or take a full backup")
}

fn wrong(what: String) -> Error {
    Error::new(ErrorKind::WrongBase, what).remedy(format!(
        "apply increments in the order in which they were taken, or take a full backup; if the files were laid beside \
         {MANIFEST_FILE} by hand, removing them makes the copy what it was"
    ))
}
