//! What an increment costs, in counts.

use std::sync::Arc;

use strandline::{BackupOptions, CheckpointOptions, Options, TableOptions, Workers, backup};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::trace::TraceVfs;

use crate::stage::*;

/// What an increment after this change has cost, of a database of so many rows.
fn cost_of(rows: u64, changed: &[u64], large: bool) -> backup::BackupReport {
    let vfs = TraceVfs::counting(Arc::new(MemVfs::new()), "/");
    let db = Options::new().vfs(Arc::new(vfs.clone())).workers(Workers::Manual).create(true).open("/db").unwrap();
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", (0..rows).map(|i| row(i, 100)));
    if large {
        write(&db, "t", [row(3, 100_000)]);
    }
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let origin = take_empty(&db);
    write(&db, "t", changed.iter().map(|i| row(*i, 101)));
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let before = vfs.total().bytes_read;
    let open = db.backup(BackupOptions::new().incremental_from(origin)).unwrap();
    let report = open.copy_to("/inc", go_on).unwrap();
    let truly = vfs.total().bytes_read - before;
    // Beside what is counted, the header of each file is looked at.
    assert!((report.read..=report.read + 3 * 4096).contains(&truly), "{truly} {report:?}");
    assert_eq!(report.bytes + report.walk.bytes_read, report.read);
    open.finish().unwrap();
    report
}

/// Covers: BI-2 (what it costs). A database twice as large does not make the same change dearer, neither to find nor to carry, and
/// little is read that does not travel.
#[test]
fn the_cost_of_an_increment_follows_the_change() {
    let clustered: Vec<u64> = (5_000..5_100).collect();
    let random: Vec<u64> = (0..60).map(|i| i * 7_919 % 20_000).collect();
    for changed in [&clustered, &random] {
        let (once, twice) = (cost_of(20_000, changed, false), cost_of(40_000, changed, false));
        assert!(once.walk.inner_pages <= 4 && twice.walk.inner_pages <= once.walk.inner_pages + 2, "{twice:?}");
        assert_eq!((once.walk.leaves, twice.walk.leaves), (0, 0), "no leaf is read to be found");
        for report in [&once, &twice] {
            // What is walked is catalog and inner pages. Of those that changed all travels, the rows that changed in them; so
            // beside some pages of the catalog no more is read to find than to carry.
            let (walk, moved) = (report.walk.bytes_read.saturating_sub(8 * 4096), report.bytes);
            assert!(walk <= moved, "read {} to move {moved}", report.read);
        }
        let within = |a: u64, b: u64| b <= a + a / 4 + 16 * 4096;
        assert!(within(once.walk.bytes_read, twice.walk.bytes_read), "{} {}", once.read, twice.read);
        assert!(within(once.bytes, twice.bytes), "{} {}", once.bytes, twice.bytes);
    }
    let with_large = cost_of(20_000, &random, true);
    // Where whole leaves changed, they are read to find what they lead to.
    assert!(with_large.walk.bytes_read <= with_large.bytes + 8 * 4096, "{with_large:?}");
    let rewritten = cost_of(20_000, &(0..2_000).collect::<Vec<_>>(), true);
    assert!(rewritten.walk.leaves > 0 && rewritten.read <= 2 * rewritten.bytes + 8 * 4096, "{rewritten:?}");
}
