//! The manifest: the list that makes a directory of copied files a database.
//!
//! A home is found through its root record. A copy has none: copying a root record that moves on while it is copied would
//! prove nothing. What stands in its place is the manifest, written last, which says what the root record said at the
//! instant of the backup (kept here as the root record's own bytes), which files belong to that state, how long they
//! are, and, once *sealed*, the checksum of every piece of them. A directory without a complete manifest is no copy, so a
//! backup that died half-way can never be taken for one.
//!
//! The file is: magic (8 bytes), format version (4), length of the body (8), body, CRC-32 of all that went before (4). It
//! is read whole or not at all; a file that is too short, too long, or fails its checksum is *incomplete*. The version
//! comes before anything whose meaning a later version may change, so that a newer manifest is refused by its version and
//! not as damage.
//!
//! Whoever copies the files may be the engine, `cp` or `tar`. The engine computes piece checksums while it copies; after a
//! foreign copier [`Manifest::seal`] computes them from what has arrived. An unsealed manifest is complete too: blocks
//! carry checksums of their own, so damage is seen on reading in any case; the seal lets it be seen without a walk.
//!
//! A copy of a database with a log holds the segments from its checkpoint's position on, and opening it replays them: up
//! to the end of the last one listed and not a record further. An *increment from the log* is a list of later segments with
//! a manifest of its own, under a name of its own ([`log_manifest_name`]), so that laying its files beside those of the
//! copy, with `cp`, does not replace what makes the copy one. [`Manifest::load_copy`] reads all of them together.
//!
//! - **K6** A wrong, incomplete or damaged copy is refused by name before it is changed. Here: nothing in a manifest is
//!   believed before its checksum, no length before it was compared with the bytes that are there, no file name that
//!   could lead out of the directory.
//! - **M1** Encoding is canonical: decoding and encoding again gives the same bytes.

mod format;
mod names;
mod rolling;

use std::fmt;
use std::path::{Path, PathBuf};

use strandline_vfs::{OpenOptions, Vfs};

use crate::error::{Error, ErrorKind, Result};
use crate::types::{CheckpointSeq, Extent, Lineage, Lsn, Origin, TableId};

pub use format::FORMAT_VERSION;
pub use names::{
    BASE_FILE, COPY_SUFFIX, FileRole, LOCK_FILE, MANIFEST_FILE, NEXT_FILE, ROOT_FILE, belongs, check_file_name,
    is_log_manifest, log_manifest_name,
};
pub use rolling::{CopyLog, log_manifests, mixed};

/// Bytes of a file that share one checksum in the manifest; the last piece of a file may be shorter.
pub const PIECE: usize = 1 << 20;

/// A manifest larger than this is not read: it would describe some hundred terabytes.
const MAX_LEN: u64 = 1 << 30;

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CopyKind {
    /// Every table of the checkpoint.
    Full,
    /// Only the tables that the manifest names. The catalog in the copy may know of more, which are to be forgotten when
    /// the copy is opened.
    Targeted,
    /// What changed since a checkpoint: not a copy by itself, but what rolls a copy of that checkpoint forward.
    Increment(Origin),
    /// Segments of the log, from `first` up to but not including `next`: not a copy by itself, but what rolls a copy forward
    /// whose log they continue.
    Log {
        /// Where the records end that those of the first segment follow; offset 0 when that is not known.
        previous: Lsn,
        /// Where the last of the tables began to be logged that were not from their beginning: a copy of a checkpoint before
        /// that lacks what such a table held then.
        complete: Lsn,
        /// The first segment.
        first: u32,
        /// The segment after the last; equal to `first` when there was nothing to carry.
        next: u32,
    },
}

/// How a full copy was rolled forward since it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rolled {
    /// By increments of blocks.
    Blocks,
    /// By increments from the log.
    Log,
}

impl fmt::Display for CopyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Targeted => f.write_str("targeted"),
            Self::Increment(base) => write!(f, "increment since {base}"),
            Self::Log { first, next, .. } if first == next => f.write_str("increment from the log, nothing"),
            Self::Log { first, next, .. } => write!(f, "increment from the log, segments {first} to {}", next - 1),
        }
    }
}

impl fmt::Display for Rolled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocks => "rolled forward by blocks",
            Self::Log => "rolled forward by the log",
        })
    }
}

/// One table of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestTable {
    /// Its name at the checkpoint.
    pub name: String,
    /// Its id, which names its file.
    pub id: TableId,
}

/// Which part of a file travels with a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// All of it. Everything does in a full or targeted backup; in an increment, what the base does not have.
    #[default]
    Whole,
    /// Nothing: the base has it as it is.
    Unchanged,
    /// These ranges, ascending, apart from each other, below the file's size. Where they are stored they stand back to back.
    Ranges(Vec<Extent>),
}

/// One file of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    /// Name relative to the copy.
    pub name: String,
    /// What it is.
    pub role: FileRole,
    /// Bytes of the file that belong to the copy; a longer file does no harm.
    pub size: u64,
    /// Which part of it is stored beside this manifest.
    pub content: Content,
    /// CRC-32 of each piece of [`PIECE`] bytes of what is stored, in order; empty in an unsealed manifest.
    pub pieces: Vec<u32>,
}

impl ManifestFile {
    /// Bytes of the file that are stored beside the manifest.
    #[must_use]
    pub fn stored(&self) -> u64 {
        match &self.content {
            Content::Whole => self.size,
            Content::Unchanged => 0,
            Content::Ranges(ranges) => ranges.iter().map(|r| r.len).sum(),
        }
    }

    /// True when there is a file of this name beside the manifest.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.content != Content::Unchanged
    }

    /// The parts of the file that are stored, in order.
    #[must_use]
    pub fn ranges(&self) -> Vec<Extent> {
        match &self.content {
            Content::Whole => vec![Extent { offset: 0, len: self.size }],
            Content::Unchanged => Vec::new(),
            Content::Ranges(ranges) => ranges.clone(),
        }
    }
}

/// What a copy is: see the head of this room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What the copy holds.
    pub kind: CopyKind,
    /// How it came to be what it is, if not by one backup.
    pub rolled: Option<Rolled>,
    /// True when every file has its piece checksums.
    pub sealed: bool,
    /// The history that the checkpoint belongs to.
    pub lineage: Lineage,
    /// The checkpoint that was copied; zero in an increment from the log, which is of no checkpoint.
    pub sequence: CheckpointSeq,
    /// Identity of the backup, as in the root record of the source while the backup is open.
    pub backup: u64,
    /// When the backup was opened, in milliseconds since 1970; for people only.
    pub time_ms: u64,
    /// The root record that the copy starts from, encoded; nothing in an increment from the log.
    pub root: Vec<u8>,
    /// Older checkpoints that the copy holds beside its own, oldest first. The catalog in the copy may list more, which were
    /// dropped from the source since; they are to be forgotten when the copy is opened.
    pub checkpoints: Vec<CheckpointSeq>,
    /// The tables of the copy, those without a file included, in the order of their names.
    pub tables: Vec<ManifestTable>,
    /// The files of the copy, the catalog's first; segments of the log last, in their order.
    pub files: Vec<ManifestFile>,
    /// Where the last record ends that the segments hold; `None` when none are listed.
    pub log_end: Option<Lsn>,
    /// Files that an earlier state of the copy may have and this one has not.
    pub removed: Vec<String>,
}

impl Manifest {
    /// The manifest of nothing: no lineage, no files.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            kind: CopyKind::Full,
            rolled: None,
            sealed: false,
            lineage: Lineage(0),
            sequence: CheckpointSeq::ZERO,
            backup: 0,
            time_ms: 0,
            root: Vec::new(),
            checkpoints: Vec::new(),
            tables: Vec::new(),
            files: Vec::new(),
            log_end: None,
            removed: Vec::new(),
        }
    }

    /// Where an increment on top of this copy would start.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        Origin { lineage: self.lineage, sequence: self.sequence }
    }

    /// Bytes that are stored beside the manifest.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, f| sum.saturating_add(f.stored()))
    }

    /// The segments of the log that it lists, in order.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = (u32, &ManifestFile)> {
        self.files.iter().filter_map(|f| match f.role {
            FileRole::Segment(number) => Some((number, f)),
            _ => None,
        })
    }

    /// The table called `name`.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&ManifestTable> {
        self.tables.iter().find(|t| t.name == name)
    }

    /// The manifest of the same copy with the tables in `only` and no others.
    ///
    /// # Errors
    /// `NotFound` naming a table that the copy does not hold; `WrongBase` for an increment.
    pub fn narrowed(&self, only: &[String]) -> Result<Self> {
        self.check_opens()?;
        if let Some(missing) = only.iter().find(|name| self.table(name).is_none()) {
            return Err(Error::new(ErrorKind::NotFound, format!("the copy holds no table `{missing}`"))
                .remedy("print the manifest to see which tables it holds"));
        }
        let mut out = self.clone();
        out.kind = CopyKind::Targeted;
        out.rolled = None;
        out.tables.retain(|t| only.contains(&t.name));
        let tables = &out.tables;
        out.files.retain(|f| f.role.table().is_none_or(|id| tables.iter().any(|t| t.id == id)));
        Ok(out)
    }

    /// The bytes of the manifest's file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        format::encode(self)
    }

    /// Reads the bytes of a manifest's file.
    ///
    /// # Errors
    /// `Corrupt` for an incomplete or damaged one, `Unsupported` for one of a newer format.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        format::decode(bytes)
    }

    /// The name of its file.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self.kind {
            CopyKind::Log { first, next, .. } => log_manifest_name(first, next),
            CopyKind::Full | CopyKind::Targeted | CopyKind::Increment(_) => MANIFEST_FILE.to_owned(),
        }
    }

    /// Where the manifest of the copy in `dir` stands.
    #[must_use]
    pub fn path(dir: &Path) -> PathBuf {
        dir.join(MANIFEST_FILE)
    }

    /// Reads the manifest of the copy in `dir`.
    ///
    /// # Errors
    /// `NotFound` when there is none; `Corrupt`, with the file, when it is incomplete; `Unsupported` when it is of a newer
    /// format; `Io`.
    pub fn load(vfs: &dyn Vfs, dir: &Path) -> Result<Self> {
        Self::load_file(vfs, &Self::path(dir))
    }

    /// Reads a manifest that stands under another name.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn load_file(vfs: &dyn Vfs, path: &Path) -> Result<Self> {
        let len = match vfs.metadata(path).map_err(|e| Error::io(e, "look for the manifest", path))? {
            Some(meta) => meta.len,
            None => {
                return Err(Error::new(ErrorKind::NotFound, "there is no manifest, so this is no complete copy")
                    .at(path, None)
                    .remedy("repeat the backup into an empty directory"));
            }
        };
        if len > MAX_LEN {
            return Err(incomplete(format!("a manifest of {len} bytes cannot be")).at(path, None));
        }
        let file = vfs.open(path, OpenOptions::read()).map_err(|e| Error::io(e, "open the manifest", path))?;
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => incomplete("the manifest is being cut").at(path, None),
            _ => Error::io(e, "read the manifest", path),
        })?;
        Self::decode(&bytes).map_err(|e| e.at(path, None))
    }

    /// Makes this the manifest of `dir`, durably: written beside its place, synced, renamed, the directory synced.
    ///
    /// # Errors
    /// `Io`. The directory then has its earlier manifest, or none, or (when the last sync failed) possibly this one.
    pub fn store(&self, vfs: &dyn Vfs, dir: &Path) -> Result<()> {
        self.store_as(vfs, dir, &self.file_name())
    }

    /// Puts this manifest under another name into `dir`, as [`Manifest::store`] does.
    ///
    /// # Errors
    /// `Io`.
    pub fn store_as(&self, vfs: &dyn Vfs, dir: &Path, name: &str) -> Result<()> {
        let (path, draft) = (dir.join(name), dir.join(format!("{name}{COPY_SUFFIX}")));
        write_new(vfs, &draft, &self.encode()).map_err(|e| Error::io(e, "write the manifest", &draft))?;
        vfs.rename(&draft, &path).map_err(|e| Error::io(e, "name the manifest", &path))?;
        vfs.sync_dir(dir).map_err(|e| Error::io(e, "sync the directory", dir))
    }

    /// Seals the copy or increment in `dir` after a foreign copier brought the files: computes the checksums of all pieces from what is
    /// there and writes the manifest anew. A sealed one is left as it is.
    ///
    /// # Errors
    /// As [`Manifest::load`]; `Corrupt` naming a file that is missing or shorter than listed; `Io`.
    pub fn seal(vfs: &dyn Vfs, dir: &Path) -> Result<Self> {
        let mut manifest = Self::load_any(vfs, dir)?;
        if manifest.sealed {
            return Ok(manifest);
        }
        manifest.check_present(vfs, dir)?;
        for file in manifest.files.iter_mut().filter(|f| f.is_stored()) {
            file.pieces = checksums(vfs, &dir.join(&file.name), file.stored())?;
        }
        manifest.sealed = true;
        manifest.store(vfs, dir)?;
        Ok(manifest)
    }

    /// Whether this describes something that can be opened: an increment cannot.
    ///
    /// # Errors
    /// `WrongBase` for an increment.
    pub fn check_opens(&self) -> Result<()> {
        match self.kind {
            CopyKind::Increment(base) => {
                Err(Error::new(ErrorKind::WrongBase, format!("this is no copy but an increment since {base}"))
                    .remedy("apply it to a copy of that checkpoint, and open that copy"))
            }
            CopyKind::Log { .. } => Err(Error::new(ErrorKind::WrongBase, format!("this is no copy: {}", self.kind))
                .remedy("apply it to the copy that it continues, and open that copy")),
            CopyKind::Full | CopyKind::Targeted => Ok(()),
        }
    }

    /// Whether the files of the copy in `dir` are there and long enough.
    ///
    /// # Errors
    /// `Corrupt` naming every file that is missing or short; `Io`.
    pub fn check_present(&self, vfs: &dyn Vfs, dir: &Path) -> Result<()> {
        let wrong = self.missing(vfs, dir)?;
        let Some((first, _)) = wrong.first() else { return Ok(()) };
        let list: Vec<String> = wrong.iter().map(|(name, what)| format!("{name} {what}")).collect();
        Err(Error::corrupt(format!("the copy is not whole: {}", list.join(", ")))
            .at(&dir.join(first), None)
            .remedy("copy the named files again, or restore from another copy"))
    }

    /// The files of the copy that are missing or shorter than listed, each with what is wrong.
    ///
    /// # Errors
    /// `Io`.
    pub fn missing(&self, vfs: &dyn Vfs, dir: &Path) -> Result<Vec<(String, String)>> {
        let mut out = Vec::new();
        for file in self.files.iter().filter(|f| f.is_stored()) {
            let path = dir.join(&file.name);
            match vfs.metadata(&path).map_err(|e| Error::io(e, "look for a file of the copy", &path))? {
                None => out.push((file.name.clone(), "is missing".to_owned())),
                Some(meta) if meta.kind != strandline_vfs::FileKind::File => {
                    out.push((file.name.clone(), "is no file".to_owned()));
                }
                Some(meta) if meta.len < file.stored() => {
                    out.push((file.name.clone(), format!("has {} of {} bytes", meta.len, file.stored())));
                }
                Some(_) => {}
            }
        }
        Ok(out)
    }

    /// The names in `dir` that are not of this copy.
    ///
    /// # Errors
    /// `Io`.
    pub fn strangers(&self, vfs: &dyn Vfs, dir: &Path) -> Result<Vec<String>> {
        let names = vfs.read_dir(dir).map_err(|e| Error::io(e, "list the copy", dir))?;
        let names = names.into_iter().map(|entry| entry.name.to_string_lossy().into_owned());
        let ours = |n: &str| n == MANIFEST_FILE || is_log_manifest(n);
        Ok(names.filter(|n| !ours(n) && !self.files.iter().any(|f| f.name == *n && f.is_stored())).collect())
    }

    /// Whether the items of this backup may be written into `dir`: it must be missing or empty. Whether an increment may be written
    /// into a copy, `backup::accepts` tells.
    ///
    /// # Errors
    /// `Exists` when something is there; `Io`.
    pub fn accepts(&self, vfs: &dyn Vfs, dir: &Path) -> Result<()> {
        must_be_vacant(vfs, dir).map(|_| ())
    }
}

/// Errs unless `dir` is missing or empty; tells whether it is there.
///
/// # Errors
/// `Exists`; `Io`.
pub fn must_be_vacant(vfs: &dyn Vfs, dir: &Path) -> Result<bool> {
    let look = |e| Error::io(e, "look at the target directory", dir);
    let vacant = match vfs.metadata(dir).map_err(look)? {
        None => return Ok(false),
        Some(meta) if meta.kind == strandline_vfs::FileKind::Directory => vfs.read_dir(dir).map_err(look)?.is_empty(),
        Some(_) => false,
    };
    if vacant {
        return Ok(true);
    }
    Err(Error::new(ErrorKind::Exists, "the target is not an empty directory")
        .at(dir, None)
        .remedy("name a directory that is empty or does not exist yet"))
}

/// CRC-32 of one piece of the first `size` bytes of a file; bytes past its end count as zeros.
///
/// # Errors
/// `Io`.
pub fn piece_checksum(file: &dyn strandline_vfs::File, path: &Path, size: u64, piece: usize) -> Result<u32> {
    let offset = piece as u64 * PIECE as u64;
    let mut buf = vec![0; usize::try_from(size - offset).unwrap_or(PIECE).min(PIECE)];
    read_zero_filled(file, &mut buf, offset).map_err(|e| Error::io(e, "read", path).at(path, Some(offset)))?;
    Ok(crc32fast::hash(&buf))
}

/// CRC-32 of each piece of the first `size` bytes of a file; bytes past its end count as zeros.
///
/// # Errors
/// `Io`.
pub fn checksums(vfs: &dyn Vfs, path: &Path, size: u64) -> Result<Vec<u32>> {
    let file = vfs.open(path, OpenOptions::read()).map_err(|e| Error::io(e, "open a file of the copy", path))?;
    (0..size.div_ceil(PIECE as u64)).map(|piece| piece_checksum(&*file, path, size, piece as usize)).collect()
}

/// Fills `buf` from `offset`; what lies past the end of the file reads as zeros. Returns how many bytes were there.
///
/// # Errors
/// Whatever the file system reports.
pub fn read_zero_filled(file: &dyn strandline_vfs::File, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        match file.read_at(&mut buf[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    buf[got..].fill(0);
    Ok(got)
}

/// Writes a file that may be there half-written from an earlier run, and syncs it.
fn write_new(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let file = vfs.open(path, OpenOptions::create())?;
    file.set_len(0)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()
}

/// The error of a manifest that cannot be believed.
fn incomplete(what: impl fmt::Display) -> Error {
    Error::corrupt(format!("the manifest is incomplete or damaged: {what}"))
        .remedy("repeat the backup, or use another copy")
}

impl fmt::Display for Manifest {
    /// The manifest for people: a line per fact, table and file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "manifest version {FORMAT_VERSION}, {}", self.kind)?;
        if let Some(rolled) = self.rolled {
            write!(f, ", {rolled}")?;
        }
        writeln!(f, "{}", if self.sealed { ", sealed" } else { "" })?;
        match self.kind {
            CopyKind::Log { .. } => writeln!(f, "lineage {}", self.lineage)?,
            _ => writeln!(f, "origin {}", self.origin())?,
        }
        writeln!(f, "backup {:016x}, time {} ms", self.backup, self.time_ms)?;
        for seq in &self.checkpoints {
            writeln!(f, "checkpoint {seq}")?;
        }
        for t in &self.tables {
            writeln!(f, "table {} id {}", t.name, t.id.0)?;
        }
        for file in &self.files {
            write!(f, "file {} size {} pieces {}", file.name, file.size, file.pieces.len())?;
            match &file.content {
                Content::Whole => writeln!(f)?,
                Content::Unchanged => writeln!(f, " unchanged")?,
                Content::Ranges(ranges) => writeln!(f, " ranges {} bytes {}", ranges.len(), file.stored())?,
            }
        }
        if let Some(end) = self.log_end {
            writeln!(f, "log ends at {end}")?;
        }
        for name in &self.removed {
            writeln!(f, "removed {name}")?;
        }
        write!(f, "total {} bytes in {} files", self.bytes(), self.files.len())
    }
}

#[cfg(test)]
mod tests;
