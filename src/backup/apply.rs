//! Rolling a copy forward by an increment.
//!
//! While ranges are being written, the copy is neither what it was nor what it will be: a new block may stand where the old
//! state had one. So the copy has no manifest in that time; the old one waits under another name, from which a run that
//! was interrupted takes up the work. Everything that can be refused is refused before the first change:
//!
//! ```text
//! 1  the manifests fit each other, the increment is whole, its pieces have their checksums, and so have those pieces of
//!    the copy that will be changed in part
//! 2  the increment's manifest written as Strandline.manifest.next, synced  what the copy is on its way to
//! 3  Strandline.manifest written as Strandline.manifest.base, synced, and
//!    removed, directory synced                                             no manifest: nothing opens the copy
//! 4  whole files written beside their place, synced, renamed; ranges written in place, synced; directory synced
//! 5  the new manifest written, synced, renamed, directory synced           the copy is what it will be
//! 6  the two other manifests removed, and the files that went; directory synced
//! ```
//!
//! Writing the same bytes to the same places again changes nothing, so every step may be repeated. Another increment may
//! take the place of the one that was interrupted when it leads at least as far in the same history: what it does not carry
//! was in the base, and is needed in the end, so it was needed on the way and nothing was written over it. One that ends
//! earlier needs blocks that may be gone, and is refused.
//!
//! An increment from the log is simpler: its segments are new files, and until the manifest lists them they are strangers
//! that nobody reads. So the copy stays what it was up to step 5, and the old manifest is never put aside. Increments from
//! the log that were laid beside the copy by hand become a part of it on the way.
//!
//! - **K4** The base and its increments in order equal a full copy at the same point, in every reachable block.
//! - **K6** A wrong, incomplete, damaged or opened copy is refused by name before it is changed. What of the copy stays as it is
//!   is not read, or applying would cost what a copy costs: damage there stays what it was, and verification finds it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::{File, OpenOptions, Vfs};

use super::increment::check_origin;
use super::segments::check_joins;
use crate::catalog::RootRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{
    BASE_FILE, COPY_SUFFIX, Content, CopyKind, MANIFEST_FILE, Manifest, ManifestFile, NEXT_FILE, PIECE, ROOT_FILE,
    Rolled, log_manifests, mixed, piece_checksum, read_zero_filled,
};
use crate::progress::{Meter, OnProgress};
use crate::types::{Extent, Origin};

/// What applying an increment has done.
#[derive(Clone)]
pub struct ApplyReport {
    /// Bytes written into the copy; 0 when it was there already.
    pub bytes: u64,
    /// Files that are not part of the copy any more.
    pub removed: Vec<String>,
    /// The manifest that the copy has now.
    pub manifest: Manifest,
}

/// Without the manifest, which lists every file and piece of the copy.
impl fmt::Debug for ApplyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, removed, origin) = (&self.bytes, &self.removed, self.manifest.origin());
        f.debug_struct("ApplyReport").field("bytes", bytes).field("removed", removed).field("origin", &origin).finish()
    }
}

/// Rolls the copy in `copy` forward by the increment in `increment`, of blocks or from the log. May be repeated after any
/// interruption, and after success, when it does nothing.
///
/// # Errors
/// `WrongBase` when the increment does not fit the copy, or when the copy was opened as a database; `InvalidArgument` when
/// the copy was rolled forward by increments of the other kind; `Corrupt` when either is damaged or not whole; `NotFound`
/// when one has no manifest; `Cancelled`; `Io`. What is refused is refused before the copy is changed; after `Cancelled` and
/// `Io` the call must be repeated before the copy can be used, unless the increment is one from the log: then the copy is
/// what it was.
pub fn apply(vfs: &dyn Vfs, increment: &Path, copy: &Path, progress: &mut OnProgress<'_>) -> Result<ApplyReport> {
    let new = Manifest::load_any(vfs, increment)?;
    let base = Base::find(vfs, copy)?;
    if matches!(new.kind, CopyKind::Log { .. }) {
        return apply_log(vfs, increment, copy, &new, &base, progress);
    }
    if !matches!(new.kind, CopyKind::Increment(_)) {
        return Err(Error::new(ErrorKind::WrongBase, no_increment(&new))
            .at(&increment.join(new.file_name()), None)
            .remedy("name the increment first, and then the copy that it rolls forward"));
    }
    base.check_fits(&new, copy)?;
    if base.begun.is_none() && base.has_all_of(&new) {
        let manifest = base.manifest;
        // An earlier run may have failed before its manifest was durable; what it needed may go only then.
        sync_dir(vfs, copy)?;
        clean_up(vfs, copy, &manifest)?;
        return Ok(ApplyReport { bytes: 0, removed: manifest.removed.clone(), manifest });
    }
    if base.begun.is_none() {
        base.manifest.check_present(vfs, copy)?;
    }
    new.check_present(vfs, increment)?;
    let mut work = Work::new(vfs, increment, copy, &new, &base.manifest, progress);
    work.check_pieces(&new)?;
    if base.begun.is_none() {
        work.check_base(&new, &base.manifest)?;
    }
    base.put_aside(&new, vfs, copy)?;
    let manifest = work.roll_forward(&new, &base)?;
    clean_up(vfs, copy, &manifest)?;
    Ok(ApplyReport { bytes: new.bytes(), removed: manifest.removed.clone(), manifest })
}

fn no_increment(new: &Manifest) -> String {
    format!("what shall be applied is no increment but a {} copy", new.kind)
}

/// Adds the segments that the copy has not yet.
fn apply_log(
    vfs: &dyn Vfs,
    increment: &Path,
    copy: &Path,
    new: &Manifest,
    base: &Base,
    progress: &mut OnProgress<'_>,
) -> Result<ApplyReport> {
    if base.begun.is_some() {
        return Err(Error::new(
            ErrorKind::WrongBase,
            "an increment by blocks was applied to the copy and not finished",
        )
        .at(&copy.join(BASE_FILE), None)
        .remedy("apply that one again first"));
    }
    let base = &base.manifest;
    let mut manifest = base.extended(new).map_err(|e| e.at(&increment.join(new.file_name()), None))?;
    base.check_present(vfs, copy)?;
    new.check_present(vfs, increment)?;
    check_joins(vfs, increment, copy, base, &manifest)?;
    let mut work = Work::new(vfs, increment, copy, new, base, progress);
    work.check_pieces(new)?;
    let mut bytes = 0;
    for file in &mut manifest.files[base.files.len()..] {
        let pieces = work.file(file, None)?;
        file.pieces = pieces;
        bytes += file.size;
        work.meter.finish_file(&file.name)?;
    }
    manifest.sealed = base.sealed;
    sync_dir(vfs, copy)?;
    if manifest != Manifest::load(vfs, copy)? {
        manifest.store(vfs, copy)?;
    }
    clean_up(vfs, copy, &manifest)?;
    Ok(ApplyReport { bytes, removed: Vec::new(), manifest })
}

/// The copy as it is found.
pub(super) struct Base {
    pub manifest: Manifest,
    /// The increment with which an earlier run has begun to change the copy.
    pub begun: Option<Manifest>,
}

impl Base {
    pub fn find(vfs: &dyn Vfs, copy: &Path) -> Result<Self> {
        let root = copy.join(ROOT_FILE);
        if vfs.metadata(&root).map_err(|e| Error::io(e, "look for a root record", &root))?.is_some() {
            return Err(Error::new(ErrorKind::WrongBase, "the copy was opened as a database and has its own history")
                .at(&root, None)
                .remedy("apply increments to a copy that was never opened for writing"));
        }
        match Manifest::load(vfs, copy) {
            Ok(manifest) => return Ok(Self { manifest: manifest.with_increments(vfs, copy)?, begun: None }),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        // Increments from the log may lie beside a copy whose own manifest waits.
        let manifest = match Manifest::load_file(vfs, &copy.join(BASE_FILE)) {
            Ok(manifest) => manifest,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Manifest::load_copy(vfs, copy).map(|manifest| Self { manifest, begun: None });
            }
            Err(e) => return Err(e),
        };
        let next = copy.join(NEXT_FILE);
        match Manifest::load_file(vfs, &next) {
            Ok(begun) => Ok(Self { manifest, begun: Some(begun) }),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let what = "an increment was applied to the copy and not finished, and which one it was is not known";
                Err(Error::new(ErrorKind::WrongBase, what).at(&next, None).remedy("take a full backup"))
            }
            Err(e) => Err(e),
        }
    }

    /// Whether the copy is where the increment leads to: at its checkpoint, with as much of the log behind it.
    fn has_all_of(&self, new: &Manifest) -> bool {
        self.manifest.origin() == new.origin() && self.manifest.log_end >= new.log_end
    }

    /// K6: the increment starts from a state that the copy has passed, and ends in one that it has not left behind.
    pub fn check_fits(&self, new: &Manifest, copy: &Path) -> Result<()> {
        let wrong = |what: String| {
            Error::new(ErrorKind::WrongBase, what)
                .at(&copy.join(MANIFEST_FILE), None)
                .remedy("apply the increments in the order in which they were taken, or take a full backup")
        };
        let CopyKind::Increment(since) = new.kind else {
            return Err(wrong(no_increment(new)));
        };
        let base = &self.manifest;
        if base.kind != CopyKind::Full {
            return Err(wrong(format!("an increment rolls a full copy forward, and this one is: {}", base.kind)));
        }
        if base.rolled == Some(Rolled::Log) {
            return Err(mixed().at(&copy.join(MANIFEST_FILE), None));
        }
        let passed = |by: &Manifest, origin: Origin| -> Result<()> {
            check_origin(&RootRecord::decode(&by.root, 0)?, by.sequence, origin)
        };
        passed(base, since)
            .map_err(|e| wrong(format!("the copy is of {}, before {since}: {}", base.origin(), e.message())))?;
        passed(new, base.origin()).map_err(|e| {
            wrong(format!("the increment ends at {}, the copy is of {}: {}", new.origin(), base.origin(), e.message()))
        })?;
        if let Some(begun) = &self.begun {
            passed(new, begun.origin()).map_err(|_| {
                wrong(format!(
                    "an increment to {} was being applied, this one ends at {}",
                    begun.origin(),
                    new.origin()
                ))
                .remedy("apply the one that was interrupted again, or a later one")
            })?;
        }
        let begins = |f: &ManifestFile| f.ranges().first().is_some_and(|r| r.offset == 0);
        let missing = new.files.iter().find(|f| !begins(f) && !base.files.iter().any(|b| b.name == f.name));
        match missing {
            Some(f) => Err(wrong(format!("the increment has not all of {}, and the copy has nothing of it", f.name))),
            None => Ok(()),
        }
    }

    /// Notes where the copy is going, and takes its manifest away, durably one after the other.
    fn put_aside(&self, new: &Manifest, vfs: &dyn Vfs, copy: &Path) -> Result<()> {
        if self.begun.as_ref() != Some(new) {
            new.store_as(vfs, copy, NEXT_FILE)?;
        }
        if self.begun.is_some() {
            // The earlier run may have failed before this was durable, and nothing may be written until it is.
            return sync_dir(vfs, copy);
        }
        // Not renamed: where a rename is no single step a power cut could leave the copy without either.
        self.manifest.store_as(vfs, copy, BASE_FILE)?;
        let path = Manifest::path(copy);
        vfs.remove_file(&path).map_err(|e| Error::io(e, "take the manifest away", &path))?;
        sync_dir(vfs, copy)
    }
}

struct Work<'a, 'b, 'c> {
    vfs: &'a dyn Vfs,
    increment: &'a Path,
    copy: &'a Path,
    meter: Meter<'b, 'c>,
    /// The copy is sealed, and shall be afterwards.
    sums: bool,
    buf: Vec<u8>,
}

impl<'a, 'b, 'c> Work<'a, 'b, 'c> {
    fn new(
        vfs: &'a dyn Vfs,
        increment: &'a Path,
        copy: &'a Path,
        new: &Manifest,
        base: &Manifest,
        progress: &'b mut OnProgress<'c>,
    ) -> Self {
        let meter = Meter::new(new.bytes().saturating_mul(2), new.files.len(), progress);
        Self { vfs, increment, copy, meter, sums: base.sealed, buf: vec![0; PIECE] }
    }

    /// Compares the pieces of a sealed increment with its manifest.
    fn check_pieces(&mut self, new: &Manifest) -> Result<()> {
        for file in new.files.iter().filter(|f| f.is_stored() && new.sealed) {
            let path = self.increment.join(&file.name);
            let handle = self.open(&path, OpenOptions::read())?;
            for (i, crc) in file.pieces.iter().enumerate() {
                let sum = piece_checksum(&*handle, &path, file.stored(), i)?;
                if sum != *crc {
                    return Err(Error::corrupt("the bytes do not have the checksum that the manifest says")
                        .at(&path, Some((i * PIECE) as u64))
                        .remedy("take the increment again"));
                }
                self.meter.advance(&file.name, piece_len(file.stored(), i))?;
            }
        }
        Ok(())
    }

    /// Compares those pieces of a sealed copy with its manifest that will be changed in part: what is damaged must not get a new
    /// checksum.
    fn check_base(&mut self, new: &Manifest, base: &Manifest) -> Result<()> {
        for (file, ranges) in new.files.iter().filter_map(|f| match &f.content {
            Content::Ranges(ranges) => Some((f, ranges)),
            Content::Whole | Content::Unchanged => None,
        }) {
            let Some(old) = base.files.iter().find(|old| old.name == file.name) else { continue };
            let path = self.copy.join(&old.name);
            let handle = self.open(&path, OpenOptions::read())?;
            for (i, crc) in old.pieces.iter().enumerate().filter(|(i, _)| is_touched(ranges, *i, old.size)) {
                self.meter.add_total(piece_len(old.size, i), 0);
                if piece_checksum(&*handle, &path, old.size, i)? != *crc {
                    return Err(Error::corrupt("the copy does not have the checksum that its manifest says")
                        .at(&path, Some((i * PIECE) as u64))
                        .remedy("this copy is damaged; use another one, or take a full backup"));
                }
                self.meter.advance(&file.name, piece_len(old.size, i))?;
            }
        }
        Ok(())
    }

    /// Steps 4 and 5. Returns the manifest that the copy has then.
    fn roll_forward(&mut self, new: &Manifest, base: &Base) -> Result<Manifest> {
        let mut manifest = becomes(new, base);
        manifest.sealed = self.sums;
        for (file, new) in manifest.files.iter_mut().zip(&new.files) {
            let old = base.manifest.files.iter().find(|f| f.name == new.name);
            file.pieces = self.file(new, old)?;
            self.meter.finish_file(&file.name)?;
        }
        sync_dir(self.vfs, self.copy)?;
        manifest.store(self.vfs, self.copy)?;
        Ok(manifest)
    }

    /// Brings one file of the copy to its new state; the checksums of its pieces, if the copy is sealed.
    fn file(&mut self, new: &ManifestFile, old: Option<&ManifestFile>) -> Result<Vec<u32>> {
        let path = self.copy.join(&new.name);
        match &new.content {
            Content::Unchanged => {}
            Content::Whole => self.replace(new, &path)?,
            Content::Ranges(ranges) => self.patch(new, ranges, &path)?,
        }
        let old = old.filter(|_| new.content != Content::Whole);
        if self.sums { self.pieces(new, old, &path) } else { Ok(Vec::new()) }
    }

    fn replace(&mut self, new: &ManifestFile, path: &Path) -> Result<()> {
        let draft = self.copy.join(format!("{}{COPY_SUFFIX}", new.name));
        let target = self.open(&draft, OpenOptions::create())?;
        target.set_len(0).map_err(|e| Error::io(e, "empty", &draft))?;
        self.transfer(new, &[Extent { offset: 0, len: new.size }], &*target, &draft)?;
        target.sync_all().map_err(|e| Error::io(e, "sync", &draft))?;
        drop(target);
        self.vfs.rename(&draft, path).map_err(|e| Error::io(e, "rename", &draft))
    }

    fn patch(&mut self, new: &ManifestFile, ranges: &[Extent], path: &Path) -> Result<()> {
        // A file that the copy has not yet comes with its header; what lies between its blocks belongs to nobody.
        let target = self.open(path, OpenOptions::create())?;
        self.transfer(new, ranges, &*target, path)?;
        // Lengths never come from ranges; but what the manifest lists must be there.
        if target.len().map_err(|e| Error::io(e, "look at the length of", path))? < new.size {
            target.set_len(new.size).map_err(|e| Error::io(e, "extend", path))?;
        }
        target.sync_all().map_err(|e| Error::io(e, "sync", path))
    }

    /// Writes what is stored in the increment, back to back, to `ranges` of the target.
    fn transfer(&mut self, new: &ManifestFile, ranges: &[Extent], target: &dyn File, path: &Path) -> Result<()> {
        let source_path = self.increment.join(&new.name);
        let source = self.open(&source_path, OpenOptions::read())?;
        let mut stored = 0;
        for range in ranges {
            let mut at = range.offset;
            while at < range.end() {
                let len = usize::try_from(range.end() - at).unwrap_or(PIECE).min(PIECE);
                let buf = &mut self.buf[..len];
                read_zero_filled(&*source, buf, stored).map_err(|e| Error::io(e, "read", &source_path))?;
                target.write_all_at(buf, at).map_err(|e| Error::io(e, "write", path).at(path, Some(at)))?;
                at += len as u64;
                stored += len as u64;
                self.meter.advance(&new.name, len as u64)?;
            }
        }
        Ok(())
    }

    /// The checksums of a file's pieces: those of before where nothing was written and the piece is as long as it was.
    fn pieces(&self, new: &ManifestFile, old: Option<&ManifestFile>, path: &Path) -> Result<Vec<u32>> {
        let file = self.open(path, OpenOptions::read())?;
        let touched = new.ranges();
        (0..new.size.div_ceil(PIECE as u64) as usize)
            .map(|i| {
                let (start, len) = ((i * PIECE) as u64, piece_len(new.size, i));
                let untouched = !is_touched(&touched, i, new.size);
                let known = old.filter(|o| untouched && o.size > start && piece_len(o.size, i) == len);
                match known.and_then(|o| o.pieces.get(i)) {
                    Some(crc) => Ok(*crc),
                    None => piece_checksum(&*file, path, new.size, i),
                }
            })
            .collect()
    }

    fn open(&self, path: &Path, options: OpenOptions) -> Result<Arc<dyn File>> {
        self.vfs.open(path, options).map_err(|e| Error::io(e, "open", path))
    }
}

/// The manifest, without checksums, of what `base` is once the increment `new` was applied to it.
pub(super) fn becomes(new: &Manifest, base: &Base) -> Manifest {
    let mut manifest = Manifest { kind: CopyKind::Full, rolled: Some(Rolled::Blocks), sealed: false, ..new.clone() };
    for file in &mut manifest.files {
        (file.content, file.pieces) = (Content::Whole, Vec::new());
    }
    let stays = |name: &String| new.files.iter().any(|f| f.name == *name);
    // An increment whose place this one took may have brought files that came and went.
    let before = base.manifest.files.iter().chain(base.begun.iter().flat_map(|begun| &begun.files)).map(|f| &f.name);
    let gone = before.chain(&base.manifest.removed).chain(&new.removed);
    manifest.removed = gone.filter(|name| !stays(name)).cloned().collect();
    manifest.removed.sort_unstable();
    manifest.removed.dedup();
    manifest
}

/// Bytes of piece `i` of `size` bytes.
fn piece_len(size: u64, i: usize) -> u64 {
    (size - (i * PIECE) as u64).min(PIECE as u64)
}

/// Whether a range reaches into piece `i` of `size` bytes.
fn is_touched(ranges: &[Extent], i: usize, size: u64) -> bool {
    let (start, end) = ((i * PIECE) as u64, (i * PIECE) as u64 + piece_len(size, i));
    ranges.iter().any(|r| r.end() > start && r.offset < end)
}

/// Step 6.
fn clean_up(vfs: &dyn Vfs, copy: &Path, manifest: &Manifest) -> Result<()> {
    let by_hand = log_manifests(vfs, copy)?;
    let names = [BASE_FILE, NEXT_FILE].into_iter().chain(manifest.removed.iter().chain(&by_hand).map(String::as_str));
    let mut changed = false;
    for path in names.map(|name| copy.join(name)).collect::<Vec<PathBuf>>() {
        match vfs.remove_file(&path) {
            Ok(()) => changed = true,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(e, "remove", &path)),
        }
    }
    if changed { sync_dir(vfs, copy) } else { Ok(()) }
}

fn sync_dir(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    vfs.sync_dir(dir).map_err(|e| Error::io(e, "sync the directory", dir))
}
