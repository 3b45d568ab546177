//! From a copy or a stream to a fresh directory that can be opened.
//!
//! A restore is a backup of a copy: the same engine moves the same files, and since the copy's manifest is sealed, every
//! piece is compared with it on the way. Choosing tables narrows the manifest; from a stream, where the manifest comes
//! last, the files of the others are removed again before it is written. The copy stays as it is, and what arises is
//! again a copy, complete with its manifest: opening it is what makes it a database.

use std::path::Path;
use std::sync::Arc;

use strandline_vfs::Vfs;

use super::changes::WalkCost;
use super::copy::{BackupReport, CopyOptions, Sink, run};
use super::directory::DirectorySink;
use super::plan::Plan;
use super::stream::{Event, StreamSource};
use super::verify::verify_blocks;
use crate::audit::{Finding, OnDamage, Severity};
use crate::error::{Error, Result};
use crate::manifest::{MANIFEST_FILE, Manifest, belongs};
use crate::progress::{Meter, OnProgress};

/// What to restore.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Only these tables; empty means all.
    pub tables: Vec<String>,
    /// Bypass the system's page cache.
    pub direct_io: bool,
}

/// Restores the copy in `copy`, or the chosen tables of it, to `dest`, and verifies every block there. `dest` is then a
/// copy of its own; opening it makes it a database.
///
/// # Errors
/// `NotFound` when `copy` has no manifest or does not hold a table that is asked for; `Corrupt` when it is damaged or not
/// whole; `Exists` when `dest` is not an empty directory; `Cancelled`; `Io`. Nothing is left of a restore that fails.
pub fn restore(
    vfs: &Arc<dyn Vfs>,
    copy: &Path,
    dest: &Path,
    options: &RestoreOptions,
    progress: &mut OnProgress<'_>,
) -> Result<BackupReport> {
    let report = restore_files(&**vfs, copy, dest, options, progress)?;
    verified(vfs, dest, report, progress)
}

/// Restores from a stream, as [`restore`] does from a copy. A stream of an increment becomes a directory for
/// [`crate::backup::apply`].
///
/// # Errors
/// `Corrupt`, naming the file and the offset in the stream, when the stream is cut or damaged; else as [`restore`].
pub fn restore_stream(
    vfs: &Arc<dyn Vfs>,
    input: &mut dyn std::io::Read,
    dest: &Path,
    options: &RestoreOptions,
    progress: &mut OnProgress<'_>,
) -> Result<BackupReport> {
    let report = restore_stream_files(&**vfs, input, dest, options, progress)?;
    verified(vfs, dest, report, progress)
}

/// Passes `report` on when the copy in `dest` is sound, and takes the copy away when it is not.
fn verified(
    vfs: &Arc<dyn Vfs>,
    dest: &Path,
    report: BackupReport,
    progress: &mut OnProgress<'_>,
) -> Result<BackupReport> {
    if report.manifest.check_opens().is_err() {
        // An increment has no blocks of its own to walk; it is verified when it is applied.
        return Ok(report);
    }
    let checked = verify_blocks(vfs, dest, &report.manifest, OnDamage::Stop, progress);
    let e = match checked
        .map(|audit| audit.findings.iter().find(|f| f.severity == Severity::Damage).map(Finding::to_error))
    {
        Ok(None) => return Ok(report),
        Ok(Some(e)) | Err(e) => e,
    };
    // The manifest goes first, so that no crash leaves a copy that was found to be damaged.
    let names = std::iter::once(MANIFEST_FILE).chain(report.manifest.files.iter().map(|f| f.name.as_str()));
    for name in names {
        let _ = vfs.remove_file(&dest.join(name));
    }
    let _ = vfs.remove_dir(dest);
    Err(e.context("the copy that was restored is damaged"))
}

/// Copies the copy in `copy` to `dest`, comparing every piece with the manifest; blocks are not looked at yet.
///
/// # Errors
/// As [`restore`].
pub fn restore_files(
    vfs: &dyn Vfs,
    copy: &Path,
    dest: &Path,
    options: &RestoreOptions,
    progress: &mut OnProgress<'_>,
) -> Result<BackupReport> {
    let mut manifest = Manifest::load_copy(vfs, copy)?;
    manifest.check_opens()?;
    if !options.tables.is_empty() {
        manifest = manifest.narrowed(&options.tables)?;
    }
    manifest.check_present(vfs, copy)?;
    let mut sink = DirectorySink::create(vfs, dest, options.direct_io)?;
    let plan = Plan::of_copy(copy, manifest);
    run(vfs, &plan, &mut sink, CopyOptions { direct_io: options.direct_io }, progress)
}

/// Unpacks a stream into `dest`; blocks are not looked at yet.
///
/// # Errors
/// As [`restore_stream`].
pub fn restore_stream_files(
    vfs: &dyn Vfs,
    input: &mut dyn std::io::Read,
    dest: &Path,
    options: &RestoreOptions,
    progress: &mut OnProgress<'_>,
) -> Result<BackupReport> {
    let mut source = StreamSource::new(input)?;
    let mut sink = DirectorySink::create(vfs, dest, options.direct_io)?;
    let mut unpack = Unpack { sink: &mut sink, meter: Meter::new(0, 0, progress), files: Vec::new(), manifest: None };
    match unpack.all(&mut source).and_then(|()| unpack.seal(options)) {
        Ok(report) => Ok(report),
        Err(e) => {
            sink.abandon();
            Err(e)
        }
    }
}

struct Unpack<'a, 'b, 'c, 'd> {
    sink: &'a mut DirectorySink<'d>,
    meter: Meter<'b, 'c>,
    /// Name, size and piece checksums of what has come.
    files: Vec<(String, u64, Vec<u32>)>,
    /// The bytes of the manifest, once it has begun.
    manifest: Option<Vec<u8>>,
}

impl Unpack<'_, '_, '_, '_> {
    fn all(&mut self, source: &mut StreamSource<'_>) -> Result<()> {
        loop {
            match source.next_event()? {
                Event::File { name, size } => self.begin(name, size)?,
                Event::Piece { offset, bytes } => self.piece(offset, bytes)?,
                Event::End => return self.end_file(),
            }
        }
    }

    fn begin(&mut self, name: String, size: u64) -> Result<()> {
        self.end_file()?;
        if self.manifest.is_some() {
            return Err(disagrees(&format!("{name} comes after the manifest")));
        }
        if name == MANIFEST_FILE {
            self.manifest = Some(Vec::new());
            return Ok(());
        }
        if !belongs(&name) || self.files.iter().any(|f| f.0 == name) {
            return Err(disagrees(&format!("{name} does not belong there")));
        }
        self.sink.begin(&name, size)?;
        self.files.push((name, size, Vec::new()));
        Ok(())
    }

    fn piece(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if let Some(manifest) = &mut self.manifest {
            manifest.extend_from_slice(bytes);
            return Ok(());
        }
        let Some((name, _, crcs)) = self.files.last_mut() else { return Err(disagrees("a piece without a file")) };
        let crc = crc32fast::hash(bytes);
        crcs.push(crc);
        self.sink.piece(offset, bytes, crc)?;
        self.meter.advance(name, bytes.len() as u64)
    }

    /// The file in work, if any, is complete.
    fn end_file(&mut self) -> Result<()> {
        match self.files.last() {
            Some((name, ..)) if self.manifest.is_none() => {
                self.sink.end()?;
                self.meter.finish_file(name)
            }
            _ => Ok(()),
        }
    }

    fn seal(&mut self, options: &RestoreOptions) -> Result<BackupReport> {
        let bytes = self.manifest.take().ok_or_else(|| disagrees("the manifest is missing"))?;
        let whole = Manifest::decode(&bytes)?;
        let listed = whole.files.iter().filter(|f| f.is_stored()).map(|f| (&f.name, f.stored(), &f.pieces));
        if !whole.sealed || !listed.eq(self.files.iter().map(|(name, size, crcs)| (name, *size, crcs))) {
            return Err(disagrees("the manifest lists other files than have come"));
        }
        let wanted = if options.tables.is_empty() { whole.clone() } else { whole.narrowed(&options.tables)? };
        for file in whole.files.iter().filter(|f| !wanted.files.contains(f)) {
            self.sink.discard(&file.name)?;
        }
        self.sink.seal(&wanted)?;
        let bytes = wanted.bytes();
        let walk = WalkCost::default();
        Ok(BackupReport { files: wanted.files.len(), bytes, filled: 0, read: bytes, walk, manifest: wanted })
    }
}

/// A stream whose frames are sound but do not make a backup.
fn disagrees(what: &str) -> Error {
    Error::corrupt(format!("the stream is no whole backup: {what}"))
        .remedy("send the backup again, or restore from another copy")
}
