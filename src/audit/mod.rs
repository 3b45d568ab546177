//! Whether the files of a home or a copy are what one checkpoint says they are.
//!
//! An audit begins at a checkpoint's record and believes nothing else. It walks the catalog's tree, reads from its rows
//! which tables there are, and walks every state of every table that a retained checkpoint needs: block by block, with the
//! checksums of block and parent (B4), births (B5), order and fences (P1), canonical encoding (P2), every piece of every
//! large value. Then it compares what it met with the space lists: every byte of every file must be exactly one of header,
//! reachable, dead, available (B2), and what older checkpoints reach must be reachable or dead (B1).
//!
//! It opens the files itself, for reading, and only looks below the sizes that the checkpoint recorded. So it works on a
//! closed home, on a copy, and beside a running database, as long as somebody keeps the checkpoint from being dropped.
//!
//! Damage is a list of findings, not an error: the question was whether there is any. Errors are what keeps the audit from
//! answering.

mod findings;
mod partition;
mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::{OpenOptions, Vfs};

pub use findings::{Finding, Findings, Halt, OnDamage, Severity, Step};
use walk::Walker;

use crate::block::{BlockSource, BlockStore, Dead, FILE_HEADER, FileHeader, data_start};
use crate::catalog::{CatalogKey, CheckpointEntry, CheckpointRecord, Lists, Origins, TableEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Meter;
use crate::types::{CheckpointSeq, TableId};

/// What an audit looks at.
pub struct Subject<'a> {
    /// The file system.
    pub vfs: &'a Arc<dyn Vfs>,
    /// The home or copy.
    pub dir: &'a Path,
    /// Allocation unit of its files, in bytes.
    pub unit: u32,
    /// The checkpoint.
    pub record: &'a CheckpointRecord,
    /// Which of the tables that the catalog names are still there; a table dropped since the checkpoint is not.
    pub keep_table: &'a dyn Fn(TableId) -> bool,
    /// Which of the older checkpoints that the catalog names are still retained.
    pub keep_checkpoint: &'a dyn Fn(CheckpointSeq) -> bool,
}

/// How to audit.
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    /// When to stop after damage.
    pub on_damage: OnDamage,
    /// Only these tables (and the catalog); empty means all.
    pub tables: Vec<String>,
}

/// What an audit met.
#[derive(Clone, Debug, Default)]
pub struct AuditReport {
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// Tables looked at.
    pub tables: usize,
    /// Blocks read.
    pub blocks: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Rows in the newest state of these tables.
    pub rows: u64,
}

impl AuditReport {
    /// True when there is no damage; warnings do not count.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|f| f.severity < Severity::Damage)
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let Self { tables, blocks, bytes, rows, findings } = self;
        write!(f, "{tables} tables, {blocks} blocks, {bytes} bytes, {rows} rows: {} findings", findings.len())
    }
}

/// Audits the catalog and the tables as one checkpoint holds them.
///
/// # Errors
/// `NotFound` naming a table that is asked for and not there; `Cancelled`.
pub fn audit(subject: &Subject<'_>, options: &AuditOptions, meter: &mut Meter<'_, '_>) -> Result<AuditReport> {
    let mut audit = Audit {
        subject,
        findings: Findings::new(options.on_damage),
        report: AuditReport::default(),
        tables: BTreeMap::new(),
        older: Vec::new(),
    };
    let step = audit.catalog(meter);
    if audit.findings.table_done(step)? {
        audit.choose(&options.tables)?;
        audit.all_tables(meter)?;
    }
    Ok(AuditReport { findings: audit.findings.into_list(), ..audit.report })
}

struct Audit<'a> {
    subject: &'a Subject<'a>,
    findings: Findings,
    report: AuditReport,
    /// The tables that the catalog names.
    tables: BTreeMap<String, TableEntry>,
    /// The older checkpoints that it names.
    older: Vec<CheckpointEntry>,
}

/// A file to be walked: what the findings call it, and what it must be.
struct Target<'a> {
    object: &'a str,
    path: PathBuf,
    table: TableId,
    size: u64,
}

impl Audit<'_> {
    fn target<'t>(&self, object: &'t str, table: TableId, size: u64) -> Target<'t> {
        Target { object, path: self.subject.dir.join(table.file_name()), table, size }
    }

    /// The catalog's own file; fills `tables` and `older` on the way.
    fn catalog(&mut self, meter: &mut Meter<'_, '_>) -> Step {
        let record = self.subject.record;
        let Some(lists_at) = record.lists else { return Ok(()) };
        let target = self.target("catalog", TableId::CATALOG, record.catalog_bytes);
        let (tables, older) = (&mut self.tables, &mut self.older);
        let subject = self.subject;
        let mut lists = None;
        let mut all_walked = true;
        let mut walk = |walker: &mut Walker<'_>| -> Step {
            read_rows(walker, record, tables, older)?;
            lists = read_lists(walker, record)?;
            walker.next_pass();
            for entry in older.iter() {
                if (subject.keep_checkpoint)(entry.record.seq) {
                    older_catalog(walker, &entry.record)?;
                    walker.next_pass();
                } else {
                    all_walked = false;
                }
            }
            if let Some(lists) = &lists {
                let dead: Vec<Dead> =
                    lists.dead.entries().iter().chain(older.iter().flat_map(|e| e.dead.entries())).copied().collect();
                if lists.space.size != record.catalog_bytes {
                    let what = format!(
                        "its lists speak of {} bytes, its checkpoint of {}",
                        lists.space.size, record.catalog_bytes
                    );
                    walker.damage(lists_at.offset, what)?;
                }
                partition::check(walker, &lists.space, &dead, subject.unit, all_walked)?;
            }
            Ok(())
        };
        walk_file(subject, &mut self.findings, &mut self.report, &target, meter, &mut walk)
    }

    /// Keeps the tables that shall be looked at.
    fn choose(&mut self, only: &[String]) -> Result<()> {
        let keep = self.subject.keep_table;
        self.tables.retain(|_, entry| keep(entry.id));
        // With a damaged catalog a table may only seem to be missing.
        if let Some(missing) = only.iter().find(|name| !self.tables.contains_key(*name) && !self.findings.damaged()) {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no table `{missing}`"))
                .remedy("list the tables to see their names"));
        }
        self.tables.retain(|name, _| only.is_empty() || only.contains(name));
        Ok(())
    }

    fn all_tables(&mut self, meter: &mut Meter<'_, '_>) -> Result<()> {
        let tables = std::mem::take(&mut self.tables);
        let bytes = tables.values().map(TableEntry::live_bytes).sum();
        meter.add_total(bytes, tables.len());
        for (name, entry) in tables {
            let step = self.table(&name, &entry, meter);
            if !self.findings.table_done(step)? {
                break;
            }
        }
        Ok(())
    }

    fn table(&mut self, name: &str, entry: &TableEntry, meter: &mut Meter<'_, '_>) -> Step {
        self.report.tables += 1;
        // A table without a single block has no file, or one that nobody looks at.
        let Some(space) = entry.space.as_ref().filter(|s| s.size > data_start(self.subject.unit)) else {
            return Ok(());
        };
        let object = format!("table:{name}");
        let target = self.target(&object, entry.id, space.size);
        let subject = self.subject;
        // A state is needed by the checkpoints from its own on, up to before the next state's; without any of them its
        // blocks may be gone.
        let retained: Vec<CheckpointSeq> =
            self.older.iter().map(|e| e.record.seq).filter(|seq| (subject.keep_checkpoint)(*seq)).collect();
        let mut all_walked = true;
        let mut walk = |walker: &mut Walker<'_>| -> Step {
            let mut next = None;
            for state in entry.states.iter().rev() {
                let needed = next.is_none_or(|n| retained.iter().any(|seq| (state.seq..n).contains(seq)));
                all_walked &= needed;
                if let Some(root) = state.root.filter(|_| needed) {
                    walker.state(&root, state.seq, None)?;
                }
                next = Some(state.seq);
                walker.next_pass();
            }
            let dead: Vec<Dead> = entry.states.iter().flat_map(|s| s.dead.entries()).copied().collect();
            partition::check(walker, space, &dead, subject.unit, all_walked)
        };
        walk_file(subject, &mut self.findings, &mut self.report, &target, meter, &mut walk)
    }
}

/// Walks the catalog's newest state and takes its rows, as far as they can be read.
fn read_rows(
    walker: &mut Walker<'_>,
    record: &CheckpointRecord,
    tables: &mut BTreeMap<String, TableEntry>,
    older: &mut Vec<CheckpointEntry>,
) -> Step {
    let Some(root) = record.catalog else { return Ok(()) };
    let mut on_row = |key: &[u8], value: &[u8]| -> Result<()> {
        match CatalogKey::decode(key)? {
            CatalogKey::Table(name) => {
                tables.insert(name, TableEntry::decode(value)?);
            }
            CatalogKey::Checkpoint(_) => older.push(CheckpointEntry::decode(value)?),
            CatalogKey::Label(label) => Origins::default().read_label(label, value)?,
            CatalogKey::Released => Origins::default().read_released(value)?,
        }
        Ok(())
    };
    walker.state(&root, record.seq, Some(&mut on_row))
}

/// Opens a file, checks its length and header, and lets `walk` walk it.
fn walk_file(
    subject: &Subject<'_>,
    findings: &mut Findings,
    report: &mut AuditReport,
    target: &Target<'_>,
    meter: &mut Meter<'_, '_>,
    walk: &mut dyn FnMut(&mut Walker<'_>) -> Step,
) -> Step {
    if never_made(subject, target) {
        return Ok(());
    }
    if let Some((offset, what)) = wrong_file(subject, target) {
        let (object, file) = (target.object.to_owned(), target.path.clone());
        return findings.note(Finding { object, file, offset, severity: Severity::Damage, what });
    }
    let store = BlockStore::read_only(Arc::clone(subject.vfs), &target.path, target.table, subject.unit, target.size)?;
    let name = target.table.file_name();
    let (mut blocks, mut bytes) = (0, 0);
    let mut tick = |n: u64| {
        blocks += 1;
        bytes += n;
        meter.advance(&name, n)
    };
    let mut walker = Walker::new(&store as &dyn BlockSource, target.object, findings, &mut tick);
    let step = walk(&mut walker);
    if target.table != TableId::CATALOG {
        report.rows += walker.rows;
    }
    report.blocks += blocks;
    report.bytes += bytes;
    step?;
    meter.finish_file(&name)?;
    Ok(())
}

/// A table that never wrote a block (its rows were gone before a checkpoint saw them) has a state, but no file.
fn never_made(subject: &Subject<'_>, target: &Target<'_>) -> bool {
    let empty = target.table != TableId::CATALOG && target.size <= data_start(subject.unit);
    empty && matches!(subject.vfs.metadata(&target.path), Ok(None))
}

/// What is wrong with a file as a whole: missing, too short, not this table's.
fn wrong_file(subject: &Subject<'_>, target: &Target<'_>) -> Option<(Option<u64>, String)> {
    let len = match subject.vfs.metadata(&target.path) {
        Ok(Some(meta)) => meta.len,
        Ok(None) => return Some((None, "the file is missing".to_owned())),
        Err(e) => return Some((None, format!("cannot look at the file: {e}"))),
    };
    if len < target.size {
        return Some((Some(len), format!("the file has {len} of {} bytes", target.size)));
    }
    let mut head = vec![0; FILE_HEADER];
    let read = subject.vfs.open(&target.path, OpenOptions::read()).and_then(|f| f.read_exact_at(&mut head, 0));
    if let Err(e) = read {
        return Some((Some(0), format!("cannot read the header: {e}")));
    }
    match FileHeader::decode(&head) {
        Err(e) => Some((Some(0), e.message().to_owned())),
        Ok(h) if h.table != target.table => Some((Some(0), format!("this is the file of table {}", h.table.0))),
        Ok(h) if h.unit != subject.unit => Some((Some(0), format!("its allocation unit is {} bytes", h.unit))),
        Ok(_) => None,
    }
}

/// An older checkpoint's catalog and list block.
fn older_catalog(walker: &mut Walker<'_>, record: &CheckpointRecord) -> Step {
    if let Some(root) = record.catalog {
        walker.state(&root, record.seq, None)?;
    }
    read_lists(walker, record).map(|_| ())
}

fn read_lists(walker: &mut Walker<'_>, record: &CheckpointRecord) -> Step<Option<Lists>> {
    let Some(addr) = record.lists else { return Ok(None) };
    let Some(body) = walker.lone_block(addr, record.seq)? else { return Ok(None) };
    match Lists::decode(&body) {
        Ok(lists) => Ok(Some(lists)),
        Err(e) => walker.damage(addr.offset, e.message().to_owned()).map(|()| None),
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
