//! What the writers do, as a function of how far they have come.
//!
//! Problem. After the kill somebody must say exactly what the database should
//! hold, and the process that knew is dead.
//!
//! Algorithm. Each writer owns every n-th file and takes numbered steps; what
//! step `s` of writer `w` does follows from `(w, s)` and the source files
//! alone. The first steps load the writer's files, one each; every later step
//! notes a change of some file, and now and then rewrites or deletes the file
//! itself. In the same transaction the writer stores its step count. So a
//! state of the database is determined by one number per writer, and whoever
//! has these numbers can compute every row.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use strandline::{Table, Transaction};

use crate::Failure;

/// Threads that write.
pub const WRITERS: usize = 3;

/// Table of path to contents.
pub const FILES: &str = "files";
/// Table of path to the newest change noted for it.
pub const CHANGES: &str = "changes";
/// Table of writer to its step count.
pub const PROGRESS: &str = "progress";

/// Files larger than this are loaded but neither rewritten nor deleted, so that a short
/// demonstration does not turn into a test of the disk's size.
const REWRITE_BYTES_MAX: u64 = 32 << 10;

/// The files that are the real input, in order of their paths.
pub struct Source {
    root: PathBuf,
    files: Vec<(String, u64)>,
}

impl Source {
    /// Gathers the files below `root` in path order until their sizes reach
    /// `limit` bytes. Hidden and `target` directories are left out.
    pub fn gather(root: &Path, limit: u64) -> io::Result<Source> {
        let mut all = Vec::new();
        walk(root, root, &mut all)?;
        all.sort();
        let mut bytes = 0;
        all.retain(|(_, size)| {
            let fits = bytes + size <= limit;
            bytes += if fits { *size } else { 0 };
            fits
        });
        Ok(Source { root: root.to_path_buf(), files: all })
    }

    pub fn files(&self) -> usize {
        self.files.len()
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, size)| size).sum()
    }

    /// The directory the files are below.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The indexes of the files that belong to a writer.
    pub fn owned(&self, writer: usize) -> Vec<usize> {
        (writer..self.files.len()).step_by(WRITERS).collect()
    }

    /// The key of a file.
    pub fn key(&self, file: usize) -> &[u8] {
        self.files[file].0.as_bytes()
    }

    fn read(&self, file: usize) -> io::Result<Vec<u8>> {
        fs::read(self.root.join(&self.files[file].0))
    }
}

fn walk(root: &Path, dir: &Path, found: &mut Vec<(String, u64)>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if kind.is_dir() && !name.to_string_lossy().starts_with('.') && name != "target" {
            walk(root, &entry.path(), found)?;
        } else if kind.is_file()
            && let Ok(path) = entry.path().strip_prefix(root)
            && let Some(path) = path.to_str()
        {
            found.push((path.to_string(), entry.metadata()?.len()));
        }
    }
    Ok(())
}

/// What a step does to the writer's files.
pub enum Action {
    /// Store the file's contents as version `version`.
    Store { file: usize, version: u64 },
    /// Take the file away.
    Remove { file: usize },
    /// Leave the file; only note a change.
    Note,
}

/// One writer's part of the state, advanced step by step.
pub struct Part {
    /// Whose part it is.
    pub writer: usize,
    owned: Vec<usize>,
    /// Steps taken.
    pub steps: u64,
    /// Version of each owned file that is present: 0 as in the source, `s` as
    /// rewritten at step `s`.
    versions: BTreeMap<usize, u64>,
    /// For each owned file the step that last noted a change.
    notes: BTreeMap<usize, u64>,
}

impl Part {
    pub fn new(source: &Source, writer: usize) -> Part {
        let owned = source.owned(writer);
        Part { writer, owned, steps: 0, versions: BTreeMap::new(), notes: BTreeMap::new() }
    }

    /// The part as it is after so many steps.
    pub fn at(source: &Source, writer: usize, steps: u64) -> Part {
        let mut part = Part::new(source, writer);
        while part.steps < steps {
            part.step(source);
        }
        part
    }

    /// Whether all of the writer's files have been loaded.
    pub fn loaded(&self) -> bool {
        self.steps >= self.owned.len() as u64
    }

    /// Whether there is nothing for this writer to do.
    pub fn idle(&self) -> bool {
        self.owned.is_empty()
    }

    /// Takes the next step. Gives what it does and, once loading is over, the
    /// file whose change is to be noted.
    pub fn step(&mut self, source: &Source) -> (Action, Option<usize>) {
        let step = self.steps;
        self.steps += 1;
        if step < self.owned.len() as u64 {
            let file = self.owned[step as usize];
            self.versions.insert(file, 0);
            return (Action::Store { file, version: 0 }, None);
        }
        let die = scramble((step << 8) | self.writer as u64);
        let file = self.owned[(die % self.owned.len() as u64) as usize];
        self.notes.insert(file, step);
        (self.change(source, file, step, die >> 32), Some(file))
    }

    fn change(&mut self, source: &Source, file: usize, step: u64, die: u64) -> Action {
        let small = source.files[file].1 <= REWRITE_BYTES_MAX;
        match die % 256 {
            0 if small && self.versions.remove(&file).is_some() => Action::Remove { file },
            0..=3 if small => {
                self.versions.insert(file, step);
                Action::Store { file, version: step }
            }
            _ => Action::Note,
        }
    }
}

/// Does what a step says; bytes stored.
pub fn carry_out(txn: &mut Transaction<'_>, files: &Table, source: &Source, action: &Action) -> Result<usize, Failure> {
    match *action {
        Action::Store { file, version } => {
            let contents = contents(source, file, version)?;
            txn.put(files, source.key(file), &contents)?;
            return Ok(contents.len());
        }
        Action::Remove { file } => {
            txn.delete(files, source.key(file))?;
        }
        Action::Note => {}
    }
    Ok(0)
}

/// The bytes of a version of a file.
pub fn contents(source: &Source, file: usize, version: u64) -> io::Result<Vec<u8>> {
    let mut bytes = source.read(file)?;
    if version > 0 {
        bytes.extend_from_slice(format!("\n-- rewritten at step {version}\n").as_bytes());
    }
    Ok(bytes)
}

/// The value that notes a change.
pub fn note(step: u64) -> String {
    format!("last changed at step {step}")
}

/// The key of a writer's step count.
pub fn progress_key(writer: usize) -> String {
    format!("writer {writer}")
}

/// Every row that the database must hold, by table, computed from the step
/// counts; contents are read from the source when asked for.
pub struct Expected {
    /// File and version of every path present.
    pub files: BTreeMap<Vec<u8>, (usize, u64)>,
    /// Step of the newest change of every path that has one.
    pub changes: BTreeMap<Vec<u8>, u64>,
}

impl Expected {
    pub fn at(source: &Source, steps: &[u64; WRITERS]) -> Expected {
        let mut expected = Expected { files: BTreeMap::new(), changes: BTreeMap::new() };
        for (writer, &steps) in steps.iter().enumerate() {
            let part = Part::at(source, writer, steps);
            let key = |file: &usize| source.key(*file).to_vec();
            expected.files.extend(part.versions.iter().map(|(file, version)| (key(file), (*file, *version))));
            expected.changes.extend(part.notes.iter().map(|(file, step)| (key(file), *step)));
        }
        expected
    }
}

/// Numbers without visible pattern from numbers with one (SplitMix64).
fn scramble(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
