//! The root record and its two slots.

use std::path::Path;

use strandline_vfs::File;

use super::{checkpoint_line, line};
use crate::catalog::{RootRecord, SLOT_OFFSETS, read_slot};

/// Both slots of a root file.
pub fn slots(out: &mut String, file: &dyn File, path: &Path) {
    for (n, offset) in SLOT_OFFSETS.iter().enumerate() {
        match read_slot(file, path, n) {
            Ok(root) => {
                line(out, format_args!("slot {n} at byte {offset}:"));
                record(out, &root);
            }
            Err(e) => line(out, format_args!("slot {n} at byte {offset}: {}", e.message())),
        }
    }
}

/// One root record.
pub fn record(out: &mut String, root: &RootRecord) {
    let settings = &root.settings;
    line(out, format_args!("root record generation {} lineage {}", root.generation, root.lineage));
    line(out, format_args!("settings unit {} contract {:?}", settings.unit, settings.contract));
    match &settings.log {
        None => line(out, format_args!("log off")),
        Some(log) => {
            let dir = log.dir.as_deref().unwrap_or("the home");
            let removal = if log.keep { "by call" } else { "automatic" };
            line(out, format_args!("log on, segments in {dir}, removal {removal}"));
        }
    }
    line(
        out,
        format_args!(
            "highest sequence {} next table {} next segment {}",
            root.max_seq, root.next_table, root.next_segment
        ),
    );
    for fork in &root.forks {
        line(out, format_args!("forked from {fork}"));
    }
    if let Some(backup) = root.restored_from {
        line(out, format_args!("restored from backup {backup:016x}"));
    }
    if let Some(log) = root.backed_up_from {
        line(out, format_args!("full backup with the log from {} of lineage {}", log.lsn, log.lineage));
    }
    checkpoint_line(out, "newest checkpoint", &root.newest);
    if let Some(pinned) = &root.pinned {
        line(out, format_args!("backup {:016x} is open", pinned.backup));
        checkpoint_line(out, "pinned checkpoint", &pinned.record);
    }
}
