//! The rows of the catalog: tables and retained checkpoints.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use strandline_vfs::Vfs;

use super::{address, checkpoint_line, line};
use crate::block::{BlockSource, BlockStore};
use crate::btree::TreeReader;
use crate::catalog::{CatalogKey, CheckpointEntry, CheckpointRecord, Lists, Origins, TableEntry};
use crate::error::Result;
use crate::types::TableId;

/// What the catalog says that `record` locates.
pub fn catalog(out: &mut String, vfs: &Arc<dyn Vfs>, dir: &Path, unit: u32, record: &CheckpointRecord) {
    if let Err(e) = try_catalog(out, vfs, dir, unit, record) {
        line(out, format_args!("catalog: {e}"));
    }
}

fn try_catalog(out: &mut String, vfs: &Arc<dyn Vfs>, dir: &Path, unit: u32, record: &CheckpointRecord) -> Result<()> {
    let path = dir.join(TableId::CATALOG.file_name());
    let store = BlockStore::read_only(Arc::clone(vfs), path, TableId::CATALOG, unit, record.catalog_bytes)?;
    if let Some(at) = record.lists {
        let lists = Lists::decode(&store.read(at)?)?;
        let (size, available) = (lists.space.size, lists.space.available_bytes());
        line(out, format_args!("catalog size {size} available {available} dead {}", lists.dead.bytes()));
    }
    let source: Arc<dyn BlockSource> = Arc::new(store);
    let reader = TreeReader::open(source, record.catalog);
    let mut cursor = reader.scan(Bound::Unbounded, Bound::Unbounded);
    while cursor.next()? {
        match CatalogKey::decode(cursor.key())? {
            CatalogKey::Table(name) => table(out, &name, &TableEntry::decode(&cursor.value()?)?),
            CatalogKey::Checkpoint(_) => {
                let entry = CheckpointEntry::decode(&cursor.value()?)?;
                checkpoint_line(out, "older checkpoint", &entry.record);
            }
            CatalogKey::Label(label) => {
                let mut origins = Origins::default();
                origins.read_label(label, &cursor.value()?)?;
                origins.labels().for_each(|(label, origin)| line(out, format_args!("label {label} origin {origin}")));
            }
            CatalogKey::Released => {
                let mut origins = Origins::default();
                origins.read_released(&cursor.value()?)?;
                line(out, format_args!("some origins are released"));
            }
        }
    }
    Ok(())
}

fn table(out: &mut String, name: &str, entry: &TableEntry) {
    line(out, format_args!("table {name} id {} file {} config \"{}\"", entry.id.0, entry.id.file_name(), entry.config));
    for state in &entry.states {
        let root = state.root.map_or_else(|| "none".to_owned(), |r| format!("{} level {}", address(&r.addr), r.level));
        let dead = state.dead.bytes();
        line(out, format_args!("  state at {} root {root} size {} dead {dead}", state.seq, state.size));
    }
    if let Some(space) = &entry.space {
        line(out, format_args!("  space size {} available {}", space.size, space.available_bytes()));
    }
}
