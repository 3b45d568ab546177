//! The names of the files of a home or copy, and which of them a manifest may list.
//!
//! A manifest or a stream may come from anywhere, and a restore creates the files that it names. So a name must be one
//! plain component, and must not be the name of a file whose presence means something by itself: a root record laid
//! beside a manifest, say, would turn a copy into a contradiction.

pub use crate::catalog::ROOT_FILE;
use crate::error::{Error, Result};
use crate::log::{segment_name, segment_number};
use crate::types::TableId;

/// The file of the manifest.
pub const MANIFEST_FILE: &str = "Strandline.manifest";
/// Where the manifest of a copy waits while an increment is being applied.
pub const BASE_FILE: &str = "Strandline.manifest.base";
/// The manifest of the increment that is being applied to a copy.
pub const NEXT_FILE: &str = "Strandline.manifest.next";
/// What the name of the manifest of an increment from the log begins with; the numbers of its first and last segments follow.
const LOG_MANIFEST_PREFIX: &str = "Strandline.manifest.log.";
/// Digits of the number of a segment in a name.
const SEGMENT_DIGITS: usize = 10;
/// The file whose lock says that a process has the home open.
pub const LOCK_FILE: &str = "Strandline.lock";
/// What a file is called after its own name while it is being copied.
pub const COPY_SUFFIX: &str = ".copy";

/// What a file of a copy is. It decides the file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileRole {
    /// The file of the catalog.
    Catalog,
    /// The file of a table.
    Table(TableId),
    /// A segment of the log.
    Segment(u32),
}

impl FileRole {
    /// The name of the file in the copy.
    #[must_use]
    pub fn file_name(self) -> String {
        match self {
            Self::Catalog => TableId::CATALOG.file_name(),
            Self::Table(id) => id.file_name(),
            Self::Segment(number) => segment_name(number),
        }
    }

    /// The table whose file it is; `None` for what is no table's.
    #[must_use]
    pub const fn table(self) -> Option<TableId> {
        match self {
            Self::Table(id) => Some(id),
            Self::Catalog | Self::Segment(_) => None,
        }
    }
}

/// The name of the manifest of an increment from the log, from segment `first` up to but not including `next`. Increments of
/// different segments have different names, so that all may be laid beside one copy; their order is that of the log.
#[must_use]
pub fn log_manifest_name(first: u32, next: u32) -> String {
    format!("{LOG_MANIFEST_PREFIX}{first:0SEGMENT_DIGITS$}-{:0SEGMENT_DIGITS$}", next.saturating_sub(1))
}

/// True for a name that [`log_manifest_name`] gives.
#[must_use]
pub fn is_log_manifest(name: &str) -> bool {
    let numbers = name.strip_prefix(LOG_MANIFEST_PREFIX).and_then(|numbers| numbers.split_once('-'));
    let number = |n: &str| n.len() == SEGMENT_DIGITS && n.bytes().all(|b| b.is_ascii_digit());
    numbers.is_some_and(|(first, last)| number(first) && number(last))
}

/// Longest file name, in bytes.
const NAME_MAX: usize = 255;

/// Refuses a name that no copy may hold.
///
/// # Errors
/// `Corrupt` naming it.
pub fn check_file_name(name: &str) -> Result<()> {
    let plain = !name.is_empty()
        && name.len() + COPY_SUFFIX.len() <= NAME_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        && !name.starts_with('.');
    let reserved = [MANIFEST_FILE, BASE_FILE, NEXT_FILE, ROOT_FILE, LOCK_FILE].contains(&name)
        || name.starts_with(LOG_MANIFEST_PREFIX)
        || name.ends_with(COPY_SUFFIX);
    if plain && !reserved {
        return Ok(());
    }
    Err(Error::corrupt(format!("`{}` is no name for a file of a copy", name.escape_debug())))
}

/// True when a file of this name is a part of a home or copy, whole or half-written; anything else in the directory is
/// not the engine's.
#[must_use]
pub fn belongs(name: &str) -> bool {
    let name = name.strip_suffix(COPY_SUFFIX).unwrap_or(name);
    [MANIFEST_FILE, BASE_FILE, NEXT_FILE, ROOT_FILE, LOCK_FILE].contains(&name)
        || name == TableId::CATALOG.file_name()
        || is_log_manifest(name)
        || segment_number(name).is_some()
        || name
            .strip_prefix("table-")
            .and_then(|n| n.strip_suffix(".sl"))
            .is_some_and(|n| n.len() >= 8 && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_directory() {
        for good in ["Strandline.catalog", "table-00000001.sl", "table-123456789.sl", "StrandlineLog.0000000001"] {
            check_file_name(good).unwrap();
            assert!(belongs(good) && belongs(&format!("{good}.copy")));
        }
        for bad in
            ["", ".", "..", "a/b", "a\\b", "/etc/x", "a\0", "Strandline.root", "Strandline.manifest", "x.copy", "ä"]
        {
            assert!(check_file_name(bad).is_err(), "{bad}");
        }
        let log = log_manifest_name(7, 13);
        assert_eq!(log, "Strandline.manifest.log.0000000007-0000000012");
        assert!(check_file_name(&log).is_err() && belongs(&log) && is_log_manifest(&log));
        assert!(!belongs("StrandlineLog.1") && !is_log_manifest("Strandline.manifest.log.0000000007"));
        assert_eq!(FileRole::Segment(12).file_name(), "StrandlineLog.0000000012");
        assert!(!belongs("notes.txt") && !belongs("table-1.sl") && !belongs("table-0000000x.sl"));
    }
}
