//! Direct files: the two descriptors, the bounce buffer, and where a transfer is split. See O1 to O3 of [`super`].

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::OsFile;
use crate::File;

/// Alignment of every direct transfer, unless memory pages are larger (O1). No disk in use asks for more.
const MIN_BLOCK: usize = 4096;
/// Bytes moved by one call through a bounce buffer at most; a longer transfer comes back short.
const MAX_BOUNCE: usize = 1 << 20;

/// A file with a second descriptor that bypasses the page cache.
#[derive(Debug)]
pub(super) struct DirectFile {
    cached: OsFile,
    bypass: fs::File,
    block: usize,
    /// The bounce buffer of the last transfer, for the next one; a second thread makes one of its own.
    spare: Mutex<Vec<u8>>,
}

/// Opens `path` once more, bypassing the cache; `None` when the file system refuses (O3), or when the name has moved to
/// another file in the meantime.
pub(super) fn open_again(file: &fs::File, path: &Path, write: bool) -> Option<fs::File> {
    let flag = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()?;
    let bypass = fs::OpenOptions::new().read(true).write(write).custom_flags(flag).open(path).ok()?;
    let (a, b) = (file.metadata().ok()?, bypass.metadata().ok()?);
    (a.dev() == b.dev() && a.ino() == b.ino()).then_some(bypass)
}

impl DirectFile {
    pub(super) fn new(cached: OsFile, bypass: fs::File) -> Self {
        let block = MIN_BLOCK.max(rustix::param::page_size());
        Self { cached, bypass, block, spare: Mutex::new(Vec::new()) }
    }

    /// Hands `work` a buffer of `len` bytes that starts on a block boundary in memory.
    fn with_bounce<T>(&self, len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
        let mut buffer = std::mem::take(&mut *self.spare.lock().unwrap_or_else(PoisonError::into_inner));
        if buffer.len() < len + self.block {
            buffer = vec![0; len + self.block];
        }
        let skip = buffer.as_ptr().align_offset(self.block);
        let result = work(&mut buffer[skip..skip + len]);
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = buffer;
        result
    }

    fn is_aligned(&self, buf: &[u8]) -> bool {
        buf.as_ptr().align_offset(self.block) == 0
    }

    /// Reads the whole blocks around the wanted bytes and copies those out.
    fn read_through_bounce(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let within = (offset % self.block as u64) as usize;
        let wanted = buf.len().min(MAX_BOUNCE);
        let span = (within + wanted).next_multiple_of(self.block);
        self.with_bounce(span, |bounce| {
            let got = self.bypass.read_at(bounce, offset - within as u64)?;
            let n = got.saturating_sub(within).min(wanted);
            if n == 0 {
                // The end of the file, or a transfer cut short before the wanted bytes: the cache knows which.
                return self.cached.read_at(buf, offset);
            }
            buf[..n].copy_from_slice(&bounce[within..within + n]);
            Ok(n)
        })
    }

    /// Writes whole blocks; `buf` and `offset` are multiples of a block already.
    fn write_blocks(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        if self.is_aligned(buf) {
            return self.bypass.write_at(buf, offset);
        }
        let n = buf.len().min(MAX_BOUNCE);
        self.with_bounce(n, |bounce| {
            bounce.copy_from_slice(&buf[..n]);
            self.bypass.write_at(bounce, offset)
        })
    }
}

/// O3: this file system wants an alignment we do not know, or has no direct transfers after all.
fn is_refusal(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
}

impl File for DirectFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let block = self.block as u64;
        let aligned = offset.is_multiple_of(block) && buf.len().is_multiple_of(self.block) && self.is_aligned(buf);
        let got = if aligned { self.bypass.read_at(buf, offset) } else { self.read_through_bounce(buf, offset) };
        match got {
            Err(e) if is_refusal(&e) => self.cached.read_at(buf, offset),
            other => other,
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let within = (offset % self.block as u64) as usize;
        if within != 0 {
            let head = buf.len().min(self.block - within);
            return self.cached.write_at(&buf[..head], offset);
        }
        let whole = buf.len() - buf.len() % self.block;
        if whole == 0 {
            return self.cached.write_at(buf, offset);
        }
        match self.write_blocks(&buf[..whole], offset) {
            Err(e) if is_refusal(&e) => self.cached.write_at(buf, offset),
            other => other,
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.cached.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.cached.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        // One inode, one sync: it covers what either descriptor wrote.
        self.cached.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.cached.sync_all()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.cached.allocate(offset, len)
    }
}
