//! What is in a file, in words: for any file of a home or copy, whole or broken.
//!
//! The rooms that own a format decode it; here the pieces are put into lines. Nothing is written, nothing is opened as a
//! database, no lock is taken, and damage never ends the description: it becomes a line of it, and the next thing that can
//! be read follows. What a file is, is told by its first bytes and not by its name, so a file that was renamed or found
//! lying about is described too.
//!
//! [`describe_file`] looks at one file from its first byte to its last. [`describe_home`] goes the way that an open goes:
//! root record or manifest, catalog, tables. [`LogReader`] reads the records of a log as they stand there.

mod blocks;
mod log;
mod page;
mod root;
mod rows;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use strandline_vfs::{File, OpenOptions, Vfs};

use crate::catalog::{CheckpointRecord, ROOT_FILE, RootRecord, SLOT_OFFSETS, read_slot};
use crate::error::{Error, Result};
use crate::manifest::{MANIFEST_FILE, Manifest};

pub use log::{LogEntry, LogReader};

/// How much to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// A line per file and what stands at its head.
    #[default]
    Summary,
    /// A line per block, too.
    Blocks,
    /// A line per cell of every page, too.
    Cells,
}

/// The kinds of files, by their first eight bytes.
const ROOT: &[u8; 8] = b"STRANDRT";
const TABLE: &[u8; 8] = b"STRANDTB";
const MANIFEST: &[u8; 8] = b"STRANDMF";
const STREAM: &[u8; 8] = b"STRANDST";
const SEGMENT: &[u8; 8] = b"STRANDLG";

/// Describes one file: a root record, a table's file, the catalog's file, a manifest, a segment of the log.
///
/// # Errors
/// `Io` when the file cannot be opened or its beginning cannot be read; damage is part of the description.
pub fn describe_file(vfs: &dyn Vfs, path: &Path, detail: Detail) -> Result<String> {
    let file = vfs.open(path, OpenOptions::read()).map_err(|e| Error::io(e, "open", path))?;
    let len = file.len().map_err(|e| Error::io(e, "look at the length of", path))?;
    let mut head = [0; 8];
    let got = read_some(&*file, &mut head, 0).map_err(|e| Error::io(e, "read", path))?;
    let mut out = String::new();
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    line(&mut out, format_args!("{name}: {len} bytes"));
    match &head {
        // A root file with a rotten first slot has only its name left to be known by.
        ROOT => root::slots(&mut out, &*file, path),
        _ if name == ROOT_FILE => root::slots(&mut out, &*file, path),
        TABLE => blocks::table(&mut out, &*file, len, detail),
        MANIFEST => describe_manifest(&mut out, vfs, path),
        SEGMENT => log::segment(&mut out, vfs, path, detail),
        STREAM => line(&mut out, format_args!("a backup as a stream: restore it to look into it")),
        _ if got == 0 => line(&mut out, format_args!("empty")),
        _ if name.starts_with("table-") || name.starts_with("Strandline.catalog") => {
            blocks::table(&mut out, &*file, len, detail);
        }
        _ => line(&mut out, format_args!("no file of Strandline: it begins with \"{}\"", head[..got].escape_ascii())),
    }
    Ok(out)
}

/// Describes a home or copy: its root record or manifest, the checkpoints and tables that its catalog names.
///
/// # Errors
/// `Io` when the directory cannot be read; damage is part of the description.
pub fn describe_home(vfs: &Arc<dyn Vfs>, dir: &Path) -> Result<String> {
    let names = vfs.read_dir(dir).map_err(|e| Error::io(e, "list the directory", dir))?;
    let mut out = String::new();
    for entry in &names {
        let meta = vfs.metadata(&dir.join(&entry.name));
        let len = meta.ok().flatten().map_or_else(|| "?".to_owned(), |m| m.len.to_string());
        line(&mut out, format_args!("{}: {len} bytes", entry.name.to_string_lossy()));
    }
    let has = |name: &str| names.iter().any(|e| e.name == name);
    if has(MANIFEST_FILE) {
        describe_manifest(&mut out, &**vfs, &dir.join(MANIFEST_FILE));
        if let Ok(root) = Manifest::load(&**vfs, dir).and_then(|m| RootRecord::decode(&m.root, 0)) {
            rows::catalog(&mut out, vfs, dir, root.settings.unit, &root.newest);
        }
    }
    if has(ROOT_FILE) {
        match newest_root(&**vfs, &dir.join(ROOT_FILE)) {
            Ok(root) => {
                root::record(&mut out, &root);
                rows::catalog(&mut out, vfs, dir, root.settings.unit, &root.newest);
            }
            Err(e) => line(&mut out, format_args!("root record: {e}")),
        }
    }
    Ok(out)
}

/// The record of the higher generation among the slots that can be read.
fn newest_root(vfs: &dyn Vfs, path: &Path) -> Result<RootRecord> {
    let file = vfs.open(path, OpenOptions::read()).map_err(|e| Error::io(e, "open", path))?;
    let slots = (0..SLOT_OFFSETS.len()).map(|n| read_slot(&*file, path, n));
    slots
        .reduce(|a, b| match (a, b) {
            (Ok(a), Ok(b)) => Ok(if b.generation > a.generation { b } else { a }),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
            (Err(e), Err(_)) => Err(e),
        })
        .unwrap_or_else(|| Err(Error::corrupt("no slot")))
}

fn describe_manifest(out: &mut String, vfs: &dyn Vfs, path: &Path) {
    let dir = path.parent().unwrap_or(Path::new(""));
    match Manifest::load(vfs, dir) {
        Ok(manifest) => {
            line(out, format_args!("{manifest}"));
            match RootRecord::decode(&manifest.root, 0) {
                Ok(root) => root::record(out, &root),
                Err(e) => line(out, format_args!("its root record is damaged: {e}")),
            }
        }
        Err(e) => line(out, format_args!("manifest: {e}")),
    }
}

/// A checkpoint in one line.
fn checkpoint_line(out: &mut String, what: &str, record: &CheckpointRecord) {
    let name = record.name.as_deref().unwrap_or("-");
    let catalog =
        record.catalog.map_or_else(|| "none".to_owned(), |r| format!("{} level {}", address(&r.addr), r.level));
    let lists = record.lists.map_or_else(|| "none".to_owned(), |a| address(&a));
    line(
        out,
        format_args!(
            "{what} {} name {name} time {} ms bytes {} catalog {catalog} lists {lists} catalog-bytes {}",
            record.seq, record.time_ms, record.bytes, record.catalog_bytes
        ),
    );
}

/// An address in words: offset and size, birth, checksum.
fn address(addr: &crate::types::BlockAddr) -> String {
    format!("{}+{} birth {} sum {:08x}", addr.offset, addr.size, addr.birth, addr.checksum)
}

/// Bytes as text, with a mark where they were cut.
fn shown(bytes: &[u8]) -> String {
    const MAX: usize = 48;
    let cut = &bytes[..bytes.len().min(MAX)];
    let more = if bytes.len() > MAX { format!("\"... {} bytes", bytes.len()) } else { "\"".to_owned() };
    format!("\"{}{more}", cut.escape_ascii())
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

/// Reads as much of `buf` as the file has from `offset` on.
fn read_some(file: &dyn File, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
    crate::manifest::read_zero_filled(file, buf, offset)
}

#[cfg(test)]
mod tests;
