//! Numbers about a running database. All are cheap to read and none is exact to the last commit.

use super::core::Core;
use crate::log::{self, SegmentInfo};
use crate::manifest::MANIFEST_FILE;

/// Every gauge and counter, in the order of the names.
pub(super) fn collect(core: &Core) -> Vec<(&'static str, u64)> {
    let tables = core.catalog.tables();
    let open: Vec<_> = tables.iter().filter_map(|t| t.if_open()).collect();
    let (mut files, mut io) = (0, core.catalog.store().counters());
    let (mut file_bytes, mut available) = (0, 0);
    for table in &open {
        let c = table.store.counters();
        io.reads += c.reads;
        io.bytes_read += c.bytes_read;
        io.writes += c.writes;
        io.bytes_written += c.bytes_written;
        io.syncs += c.syncs;
        files += u64::from(table.store.is_open());
        let (end, free, pending) = table.store.sizes();
        file_bytes += end;
        available += free + pending;
    }
    let log = core.log().map(|log| log.counters()).unwrap_or_default();
    let segments = segments(core);
    let checkpoints = core.catalog.checkpoints();
    let newest = checkpoints.last().map_or(0, |c| c.bytes);
    vec![
        ("backup_open", u64::from(core.checkpointer.pins().backup().is_some())),
        ("block_bytes_read", io.bytes_read),
        ("block_bytes_written", io.bytes_written),
        ("block_reads", io.reads),
        ("block_writes", io.writes),
        ("cache_bytes", core.ctx.cache.used() as u64),
        ("cache_bytes_max", core.ctx.cache.target() as u64),
        ("cache_evictions", core.ctx.cache.evicted()),
        ("checkpoints", checkpoints.len() as u64),
        ("commit", core.ctx.registry.visible().0),
        ("file_bytes", file_bytes),
        ("file_bytes_available", available),
        ("files_open", files),
        ("log_bytes", log.bytes),
        ("log_records", log.records),
        ("log_segment_bytes", segments.iter().map(|s| s.bytes).sum()),
        ("log_segments", segments.len() as u64),
        ("log_short_of_space", log.short),
        ("log_syncs", log.syncs),
        ("log_written_bytes", log.written),
        ("newest_checkpoint_bytes", newest),
        ("oldest_snapshot", core.ctx.registry.oldest().0),
        ("syncs", io.syncs),
        ("tables", tables.len() as u64),
        ("tables_open", open.len() as u64),
    ]
}

/// The segments that exist. A database that is only read does not run its log, but has one.
fn segments(core: &Core) -> Vec<SegmentInfo> {
    let settings = core.catalog.root().settings.log;
    match (core.log(), settings) {
        (Some(log), _) => log.segments(),
        (None, None) => Vec::new(),
        (None, Some(settings)) => {
            let (vfs, home) = (&*core.ctx.vfs, &core.ctx.home);
            // The segments of a copy stand beside its manifest.
            let copy = vfs.metadata(&home.join(MANIFEST_FILE)).is_ok_and(|there| there.is_some());
            let dir = settings.dir.filter(|_| !copy).map_or_else(|| home.clone(), |dir| home.join(dir));
            log::segments(vfs, &dir).unwrap_or_default()
        }
    }
}
