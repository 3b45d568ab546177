//! The rows of the table: what is measured, in what unit, what is better.

/// How a row's figures read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Operations a second; more is better.
    PerSecond,
    /// Milliseconds; less is better.
    Milliseconds,
    /// A quotient of which more is better.
    MoreIsBetter,
    /// A quotient of which less is better.
    LessIsBetter,
}

impl Unit {
    /// Whether the larger of two figures is the better one.
    pub fn more_is_better(self) -> bool {
        matches!(self, Unit::PerSecond | Unit::MoreIsBetter)
    }

    /// The word for machine-readable output.
    pub fn name(self) -> &'static str {
        match self {
            Unit::PerSecond => "operations/second",
            Unit::Milliseconds => "milliseconds",
            Unit::MoreIsBetter | Unit::LessIsBetter => "ratio",
        }
    }
}

/// One row of the table.
pub struct Row {
    /// The name for `--only`.
    pub id: &'static str,
    /// What was measured.
    pub title: &'static str,
    /// How its figures read.
    pub unit: Unit,
}

const fn row(id: &'static str, title: &'static str, unit: Unit) -> Row {
    Row { id, title, unit }
}

use Unit::{LessIsBetter, Milliseconds, MoreIsBetter, PerSecond};

/// Every row, in the order of the table.
pub const ROWS: &[Row] = &[
    row("load", "bulk load, sorted", PerSecond),
    row("put-sorted", "put, sorted, 1000 a commit", PerSecond),
    row("put-random", "put, random, 1000 a commit", PerSecond),
    row("put-durable", "the same, made durable at the end", PerSecond),
    row("commit-1", "commit of one put, 1 thread", PerSecond),
    row("commit-2", "commit of one put, 2 threads", PerSecond),
    row("buffered-1", "commit of one put, in the log soon, 1 thread", PerSecond),
    row("buffered-2", "same, 2 threads", PerSecond),
    row("written-1", "commit of one put, survives a kill, 1 thread", PerSecond),
    row("written-2", "same, 2 threads", PerSecond),
    row("synced-1", "commit of one put, synced, 1 thread", PerSecond),
    row("synced-4", "same, 4 threads", PerSecond),
    row("syncs-1", "syncs a commit, 1 thread", LessIsBetter),
    row("syncs-4", "same, 4 threads", LessIsBetter),
    row("log-bytes-1", "KiB written to the log a commit, 1 thread", LessIsBetter),
    row("log-bytes-4", "same, 4 threads", LessIsBetter),
    row("put-synced", "put, random, 1000 a commit, synced", PerSecond),
    row("get-1", "get, random, 1 thread", PerSecond),
    row("get-2", "get, random, 2 threads", PerSecond),
    row("scan", "full scan, rows", PerSecond),
    row("scan-100", "scans of 100 rows", PerSecond),
    row("overwrite", "overwrite 20 %, random", PerSecond),
    row("mixed", "half gets, half puts, zipf", PerSecond),
    row("delete", "delete half, random", PerSecond),
    row("small-put", "small cache: put, random", PerSecond),
    row("small-overwrite", "small cache: overwrite 20 %", PerSecond),
    row("small-mixed", "small cache: half gets, half puts", PerSecond),
    row("small-delete", "small cache: delete half", PerSecond),
    row("small-get", "small cache: get, random", PerSecond),
    row("small-scan", "small cache: full scan, rows", PerSecond),
    row("backup", "full backup, speed against cp + sync", MoreIsBetter),
    row("backup-commits", "commits during a backup, against before", MoreIsBetter),
    row("stall-backup", "longest commit during a backup", Milliseconds),
    row("stall-durable", "longest commit while made durable", Milliseconds),
    row("increment-1pct", "1 % changed: increment's bytes / changed", LessIsBetter),
    row("durable-1pct", "1 % changed: bytes written / changed", LessIsBetter),
    row("open", "open after a clean close, first get", Milliseconds),
    row("open-killed", "open after a kill, first get", Milliseconds),
    row("recovery", "log replayed, speed against writing it", MoreIsBetter),
    row("size-load", "file bytes / user bytes, loaded", LessIsBetter),
    row("size-churn", "file bytes / user bytes, churned", LessIsBetter),
];
