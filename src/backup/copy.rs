//! The copy engine: from the files of a plan into a sink.
//!
//! A piece of 1 MiB is read, its checksum is computed while it is warm in the processor's cache, and it goes to the sink;
//! one buffer serves the whole run, so a copy of any size takes the memory of one piece. The checksums that gather on the
//! way seal the manifest, which the sink gets last, after it has made everything else durable.
//!
//! When the plan is that of a sealed copy (a restore), the pieces must have the checksums that the manifest says, and the
//! first one that has not ends the run with the place: a restore never makes a good-looking copy of a damaged one.

use std::io;
use std::path::Path;

use strandline_vfs::{File, OpenOptions, Vfs};

use super::changes::WalkCost;
use super::directory::DirectorySink;
use super::plan::{BackupItem, Plan};
use super::stream::StreamSink;
use crate::error::{Error, Result};
use crate::manifest::{Manifest, PIECE, read_zero_filled};
use crate::progress::{Meter, OnProgress};
use crate::types::Extent;

/// How to copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOptions {
    /// Bypass the system's page cache on both sides, where the file system can.
    pub direct_io: bool,
}

/// What a copy, or a restore, has done.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// Files copied, the manifest not counted.
    pub files: usize,
    /// Bytes copied.
    pub bytes: u64,
    /// How many of these lay past the end of their source and were written as zeros: space that a file had reserved and
    /// never used.
    pub filled: u64,
    /// Bytes read for it from the source: those copied, and those that it took to find out which to copy.
    pub read: u64,
    /// What of these it took to find out which to copy.
    pub walk: WalkCost,
    /// The manifest of the copy, sealed.
    pub manifest: Manifest,
}

/// Where the files of a backup go. The engine calls `begin`, any number of `piece`s in order, `end`, for each file; then
/// `seal` once. When anything fails it calls `abandon` instead and reports the first error.
pub trait Sink {
    /// A file begins.
    ///
    /// # Errors
    /// Whatever stands in the way; the same holds for the methods below.
    fn begin(&mut self, name: &str, size: u64) -> Result<()>;

    /// The next bytes of the file, and their CRC-32.
    ///
    /// # Errors
    /// As [`Sink::begin`].
    fn piece(&mut self, offset: u64, bytes: &[u8], crc: u32) -> Result<()>;

    /// The file is complete.
    ///
    /// # Errors
    /// As [`Sink::begin`].
    fn end(&mut self) -> Result<()>;

    /// All files are complete: make them durable, and then the manifest.
    ///
    /// # Errors
    /// As [`Sink::begin`].
    fn seal(&mut self, manifest: &Manifest) -> Result<()>;

    /// The run has failed: take back what can be taken back, the manifest first of all.
    fn abandon(&mut self);
}

/// Copies the files of `plan` into the directory `dir`, which must be missing or empty.
///
/// Each file is written as `NAME.copy`, synced and renamed; the directory is synced before and after the manifest is put
/// there, so that no crash leaves a manifest without all its files.
///
/// # Errors
/// `Exists`; `Corrupt` when a listed file is missing or, in a restore, damaged; `Cancelled`; `Io`. What was written is
/// removed again as far as that works; a manifest never stays.
pub fn copy_to(
    source: &dyn Vfs,
    plan: &Plan,
    target: &dyn Vfs,
    dir: &Path,
    options: CopyOptions,
    progress: &mut OnProgress<'_>,
) -> Result<BackupReport> {
    let mut sink = DirectorySink::create(target, dir, options.direct_io)?;
    run(source, plan, &mut sink, options, progress)
}

/// Writes the files of `plan` into `out` as one stream, which restores from any [`io::Read`].
///
/// # Errors
/// As [`copy_to`], without `Exists`. What was written has no end mark and is refused by a restore.
pub fn stream_to(
    source: &dyn Vfs,
    plan: &Plan,
    out: &mut dyn io::Write,
    options: CopyOptions,
    progress: &mut OnProgress<'_>,
) -> Result<BackupReport> {
    run(source, plan, &mut StreamSink::new(out)?, options, progress)
}

/// Copies the files of `plan` into a sink.
///
/// # Errors
/// Those of the sink; `Corrupt`, `Cancelled` and `Io` as [`copy_to`].
pub fn run(
    source: &dyn Vfs,
    plan: &Plan,
    sink: &mut dyn Sink,
    options: CopyOptions,
    progress: &mut OnProgress<'_>,
) -> Result<BackupReport> {
    let meter = Meter::new(plan.bytes(), plan.files().len(), progress);
    let mut run = Run { source, sink, options, meter, filled: 0, buf: Vec::new() };
    match run.all(plan) {
        Ok(manifest) => {
            let (bytes, walk) = (run.meter.bytes_done(), plan.walk());
            let read = bytes - run.filled + walk.bytes_read;
            Ok(BackupReport { files: plan.files().len(), bytes, filled: run.filled, read, walk, manifest })
        }
        Err(e) => {
            run.sink.abandon();
            Err(e)
        }
    }
}

struct Run<'a, 'b, 'c> {
    source: &'a dyn Vfs,
    sink: &'a mut dyn Sink,
    options: CopyOptions,
    meter: Meter<'b, 'c>,
    filled: u64,
    buf: Vec<u8>,
}

impl Run<'_, '_, '_> {
    fn all(&mut self, plan: &Plan) -> Result<Manifest> {
        let mut manifest = plan.manifest().clone();
        let stored = manifest.files.iter_mut().filter(|f| f.is_stored());
        for (item, entry) in plan.files().iter().zip(stored) {
            // A copy with an increment beside it may be sealed in part.
            let expected = (!entry.pieces.is_empty()).then(|| std::mem::take(&mut entry.pieces));
            entry.pieces = self.file(item, expected.as_deref())?;
        }
        manifest.sealed = true;
        self.sink.seal(&manifest)?;
        Ok(manifest)
    }

    /// Copies the chosen parts of one file, back to back, and returns the checksums of the pieces.
    fn file(&mut self, item: &BackupItem, expected: Option<&[u32]>) -> Result<Vec<u32>> {
        let file = self.open(item.source())?;
        self.sink.begin(item.name(), item.size())?;
        let mut pieces = Vec::new();
        let mut parts = Parts::new(item.ranges());
        let mut offset = 0;
        loop {
            let filled = parts
                .fill(&*file, &mut self.buf)
                .map_err(|(e, at)| Error::io(e, "read a file to copy", item.source()).at(item.source(), Some(at)))?;
            if filled.len == 0 {
                break;
            }
            self.filled += filled.absent;
            let buf = &self.buf[..filled.len];
            let crc = crc32fast::hash(buf);
            if expected.and_then(|e| e.get(pieces.len())).is_some_and(|want| *want != crc) {
                return Err(Error::corrupt("the bytes do not have the checksum that the manifest says")
                    .at(item.source(), Some(filled.at))
                    .remedy("this copy is damaged; use another one"));
            }
            self.sink.piece(offset, buf, crc)?;
            pieces.push(crc);
            offset += filled.len as u64;
            self.meter.advance(item.name(), filled.len as u64)?;
        }
        self.sink.end()?;
        self.meter.finish_file(item.name())?;
        Ok(pieces)
    }

    fn open(&self, path: &Path) -> Result<std::sync::Arc<dyn File>> {
        let options = OpenOptions { direct: self.options.direct_io, ..OpenOptions::read() };
        self.source.open(path, options).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::corrupt("a file to copy is missing")
                .at(path, None)
                .remedy("verify the database or the copy; restore the file from another copy"),
            _ => Error::io(e, "open a file to copy", path),
        })
    }
}

/// The parts of a file, handed out in pieces that go across their borders.
struct Parts<'a> {
    left: std::slice::Iter<'a, Extent>,
    /// What is left of the part in work.
    now: Extent,
}

struct Filled {
    /// Bytes in the buffer; 0 at the end.
    len: usize,
    /// How many of them lay past the end of the file.
    absent: u64,
    /// Where the first of them was.
    at: u64,
}

impl<'a> Parts<'a> {
    fn new(parts: &'a [Extent]) -> Self {
        Self { left: parts.iter(), now: Extent { offset: 0, len: 0 } }
    }

    /// Fills `buf` with the next [`PIECE`] bytes, or what is left. An error comes with the offset in the file.
    fn fill(&mut self, file: &dyn File, buf: &mut Vec<u8>) -> std::result::Result<Filled, (io::Error, u64)> {
        let mut filled = Filled { len: 0, absent: 0, at: 0 };
        while filled.len < PIECE {
            if self.now.len == 0 {
                match self.left.next() {
                    Some(part) => self.now = *part,
                    None => break,
                }
                continue;
            }
            let take = usize::try_from(self.now.len).unwrap_or(PIECE).min(PIECE - filled.len);
            if buf.len() < filled.len + take {
                buf.resize(filled.len + take, 0);
            }
            let at = self.now.offset;
            let got = read_zero_filled(file, &mut buf[filled.len..filled.len + take], at).map_err(|e| (e, at))?;
            if filled.len == 0 {
                filled.at = at;
            }
            filled.absent += (take - got) as u64;
            filled.len += take;
            self.now = Extent { offset: at + take as u64, len: self.now.len - take as u64 };
        }
        Ok(filled)
    }
}
