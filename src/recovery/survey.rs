//! What a directory holds, judged by names alone.

use std::collections::BTreeSet;

use super::Request;
use crate::catalog::{Catalog, ROOT_FILE, ROOT_FILE_NEW};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{LOCK_FILE, Manifest, belongs, is_log_manifest};
use crate::types::TableId;

/// What a directory is.
pub(super) enum Found {
    /// No database: the directory is missing, or holds nothing of ours but what an interrupted creation leaves.
    Nothing {
        /// The directory is there.
        directory: bool,
    },
    /// A root record, and a manifest beside it if there is one.
    Home {
        /// The manifest.
        manifest: Option<Manifest>,
    },
    /// A complete manifest and no root record.
    Copy {
        /// The manifest.
        manifest: Manifest,
    },
}

/// Looks at the directory without writing.
pub(super) fn survey(request: &Request) -> Result<Found> {
    let home = &request.home;
    let meta = request.vfs.metadata(home).map_err(|e| Error::io(e, "look at", home))?;
    match meta.map(|m| m.kind) {
        None => return Ok(Found::Nothing { directory: false }),
        Some(strandline_vfs::FileKind::Directory) => {}
        Some(_) => return Err(Error::invalid("a database is a directory, this is a file").at(home, None)),
    }
    let names = names(request)?;
    let manifest = match Manifest::load(&*request.vfs, home) {
        Ok(manifest) => Some(manifest),
        // An incomplete manifest counts as absent (DB-2).
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => None,
        Err(e) => return Err(e),
    };
    if names.iter().any(|n| n == ROOT_FILE) {
        return Ok(Found::Home { manifest });
    }
    if let Some(manifest) = manifest {
        return Ok(Found::Copy { manifest: manifest.with_increments(&*request.vfs, home)? });
    }
    if names.iter().any(|n| is_log_manifest(n)) {
        return Ok(Found::Copy { manifest: Manifest::load_any(&*request.vfs, home)? });
    }
    let ours: Vec<&str> = names.iter().map(String::as_str).filter(|n| belongs(n) && *n != LOCK_FILE).collect();
    if ours.is_empty() {
        return Ok(Found::Nothing { directory: true });
    }
    Err(Error::corrupt(format!(
        "the directory holds files of a database ({}) but neither a root record nor a complete manifest",
        ours.join(", ")
    ))
    .at(home, None)
    .remedy("if it is an unfinished copy, remove it and back up again; if files are missing, put them back"))
}

/// Files in the directory that do not belong to the database, by name.
pub(super) fn strangers(request: &Request, catalog: &Catalog) -> Result<Vec<String>> {
    let mut known: BTreeSet<String> = catalog.tables().iter().map(|t| t.id().file_name()).collect();
    known.extend([TableId::CATALOG.file_name(), ROOT_FILE.to_owned(), LOCK_FILE.to_owned()]);
    known.extend(Manifest::path(&request.home).file_name().map(|n| n.to_string_lossy().into_owned()));
    let log_dir = catalog.context().settings.log.as_ref().and_then(|log| log.dir.clone());
    known.extend(log_dir.and_then(|dir| dir.split('/').next().map(str::to_owned)));
    Ok(names(request)?.into_iter().filter(|n| !known.contains(n)).collect())
}

/// Removes table files that no row of the catalog names: what a crash left of tables that were dropped, or made and
/// abandoned. Ids are never given twice, so such a file can belong to nobody.
pub(super) fn remove_debris(request: &Request, catalog: &Catalog) -> Result<()> {
    for name in strangers(request, catalog)? {
        if is_table_file(&name) || name == ROOT_FILE_NEW {
            let path = request.home.join(&name);
            request.vfs.remove_file(&path).map_err(|e| Error::io(e, "remove a file that no table owns", &path))?;
        }
    }
    Ok(())
}

fn names(request: &Request) -> Result<Vec<String>> {
    let entries = request.vfs.read_dir(&request.home).map_err(|e| Error::io(e, "list", &request.home))?;
    Ok(entries.into_iter().map(|e| e.name.to_string_lossy().into_owned()).collect())
}

fn is_table_file(name: &str) -> bool {
    name.strip_prefix("table-")
        .and_then(|n| n.strip_suffix(".sl"))
        .is_some_and(|n| n.len() >= 8 && n.bytes().all(|b| b.is_ascii_digit()))
}
