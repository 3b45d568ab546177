//! The sink that makes a directory.
//!
//! A file grows under `NAME.copy`. Finished files are synced and renamed a few at a time: the system writes the earlier
//! ones back while the later ones are still being copied, and a database of many small tables does not wait for the
//! device once per table in the middle of the work.
//!
//! The order at the end carries K7: all files synced, all renamed, the directory synced (now every name in the manifest is
//! durable), the manifest written and synced under another name, renamed, the directory synced again. A directory that
//! this sink made itself is made durable in its parent before anything else.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::{File, OpenOptions, Vfs};

use super::copy::Sink;
use crate::error::{Error, Result};
use crate::manifest::{COPY_SUFFIX, MANIFEST_FILE, Manifest, must_be_vacant};

/// So many finished files wait for their sync at most; each keeps a handle open.
const BATCH: usize = 16;

/// Writes a copy into a directory.
pub struct DirectorySink<'a> {
    vfs: &'a dyn Vfs,
    dir: PathBuf,
    /// This run made the directory, so a failed run removes it.
    made: bool,
    direct: bool,
    current: Option<Draft>,
    finished: Vec<Draft>,
    /// Names of all files begun, for taking them back.
    begun: Vec<String>,
}

struct Draft {
    name: String,
    size: u64,
    file: Arc<dyn File>,
}

impl<'a> DirectorySink<'a> {
    /// A sink that fills `dir`, which is made if it is missing (its parent must exist).
    ///
    /// # Errors
    /// `Exists` when `dir` is not an empty directory; `Io`.
    pub fn create(vfs: &'a dyn Vfs, dir: &Path, direct: bool) -> Result<Self> {
        let there = must_be_vacant(vfs, dir)?;
        if !there {
            vfs.create_dir(dir).map_err(|e| Error::io(e, "make the target directory", dir))?;
            let parent = match dir.parent() {
                Some(p) if !p.as_os_str().is_empty() => p,
                _ => Path::new("."),
            };
            if let Err(e) = vfs.sync_dir(parent) {
                let _ = vfs.remove_dir(dir);
                return Err(Error::io(e, "sync the directory", parent));
            }
        }
        let (current, finished, begun) = (None, Vec::new(), Vec::new());
        Ok(Self { vfs, dir: dir.to_owned(), made: !there, direct, current, finished, begun })
    }

    /// Removes a file that was copied already and shall not be part of the copy after all.
    ///
    /// # Errors
    /// `Io`.
    pub fn discard(&mut self, name: &str) -> Result<()> {
        self.settle()?;
        let path = self.dir.join(name);
        self.vfs.remove_file(&path).map_err(|e| Error::io(e, "remove", &path))
    }

    fn draft_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{COPY_SUFFIX}"))
    }

    /// Makes the finished files durable and gives them their names.
    fn settle(&mut self) -> Result<()> {
        for draft in &self.finished {
            draft.file.sync_all().map_err(|e| Error::io(e, "sync", &self.draft_path(&draft.name)))?;
        }
        for draft in std::mem::take(&mut self.finished) {
            let (from, to) = (self.draft_path(&draft.name), self.dir.join(&draft.name));
            // The handle goes first: some systems do not rename files that are open.
            drop(draft);
            self.vfs.rename(&from, &to).map_err(|e| Error::io(e, "rename", &from))?;
        }
        Ok(())
    }

    fn remove_if_there(&self, path: &Path) {
        // Nothing more can be done about an error here; the first one is what the caller must hear of.
        let _ = self.vfs.remove_file(path);
    }
}

impl Sink for DirectorySink<'_> {
    fn begin(&mut self, name: &str, size: u64) -> Result<()> {
        let path = self.draft_path(name);
        let options = OpenOptions { direct: self.direct, ..OpenOptions::create_new() };
        let file = self.vfs.open(&path, options).map_err(|e| Error::io(e, "create", &path))?;
        self.begun.push(name.to_owned());
        self.current = Some(Draft { name: name.to_owned(), size, file });
        Ok(())
    }

    fn piece(&mut self, offset: u64, bytes: &[u8], _crc: u32) -> Result<()> {
        let draft = self.current.as_ref().ok_or_else(no_file)?;
        draft.file.write_all_at(bytes, offset).map_err(|e| {
            let path = self.draft_path(&draft.name);
            Error::io(e, "write", &path).at(&path, Some(offset))
        })
    }

    fn end(&mut self) -> Result<()> {
        let draft = self.current.take().ok_or_else(no_file)?;
        debug_assert!(draft.file.len().is_ok_and(|len| len == draft.size) || self.direct, "a whole file was written");
        self.finished.push(draft);
        if self.finished.len() >= BATCH { self.settle() } else { Ok(()) }
    }

    fn seal(&mut self, manifest: &Manifest) -> Result<()> {
        self.settle()?;
        self.vfs.sync_dir(&self.dir).map_err(|e| Error::io(e, "sync the directory", &self.dir))?;
        manifest.store(self.vfs, &self.dir)
    }

    fn abandon(&mut self) {
        self.current = None;
        self.finished.clear();
        self.remove_if_there(&self.dir.join(MANIFEST_FILE));
        self.remove_if_there(&self.draft_path(MANIFEST_FILE));
        for name in &self.begun {
            self.remove_if_there(&self.draft_path(name));
            self.remove_if_there(&self.dir.join(name));
        }
        if self.made {
            let _ = self.vfs.remove_dir(&self.dir);
        }
    }
}

fn no_file() -> Error {
    Error::io(io::ErrorKind::InvalidInput.into(), "write outside of a file", Path::new(""))
}
