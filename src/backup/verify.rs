//! Whether a copy is good, without opening it.
//!
//! Questions, each costlier than the one before: is there a complete manifest; are its files there, long enough; do all
//! pieces have their checksums; is the log whole from the checkpoint's position to its end; does every block that the
//! manifest's root record reaches say what it should. Opening
//! the copy would answer the last one too, but an opened copy is a database of its own and takes no increments any more.

use std::path::Path;
use std::sync::Arc;

use strandline_vfs::{OpenOptions, Vfs};

use super::segments::read_log;
use crate::audit::{AuditOptions, AuditReport, Finding, OnDamage, Severity, Subject, audit};
use crate::error::{ErrorKind, Result};
use crate::manifest::{CopyKind, MANIFEST_FILE, Manifest, ManifestFile, PIECE, read_zero_filled};
use crate::progress::{Meter, OnProgress};

/// How to verify a copy.
#[derive(Clone, Copy, Debug)]
pub struct VerifyCopyOptions {
    /// Stop after presence and sizes.
    pub quick: bool,
    /// When to stop after damage.
    pub on_damage: OnDamage,
}

impl Default for VerifyCopyOptions {
    fn default() -> Self {
        Self { quick: false, on_damage: OnDamage::GoOn }
    }
}

/// What verifying a copy has shown.
#[derive(Clone, Debug)]
pub struct CopyReport {
    /// The manifest of the copy.
    pub manifest: Manifest,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// Names in the directory that do not belong to the copy; they do no harm.
    pub strangers: Vec<String>,
    /// Blocks read.
    pub blocks: u64,
    /// Rows in the newest state of all tables, without what the log adds.
    pub rows: u64,
    /// Records of the log beyond the checkpoint.
    pub log_records: u64,
}

impl CopyReport {
    /// True when there is no damage.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|f| f.severity < Severity::Damage)
    }

    /// The report, or the first damage as an error.
    ///
    /// # Errors
    /// `Corrupt` with file and offset.
    pub fn into_result(self) -> Result<Self> {
        match self.findings.iter().find(|f| f.severity == Severity::Damage) {
            Some(f) => Err(f.to_error()),
            None => Ok(self),
        }
    }
}

/// Verifies the copy in `dir`, with the increments from the log that lie beside it: presence, sizes, pieces, log, blocks; of
/// an increment, all but blocks. Writes nothing.
///
/// # Errors
/// `NotFound` when there is no manifest, `Corrupt` when it is incomplete, `Unsupported` when it is of a newer format; `Io`
/// where the directory cannot be read; `Cancelled`. Damage of files is in the report.
pub fn verify_copy(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    options: VerifyCopyOptions,
    progress: &mut OnProgress<'_>,
) -> Result<CopyReport> {
    let manifest = Manifest::load_copy(&**vfs, dir)?;
    let strangers = manifest.strangers(&**vfs, dir)?;
    let mut report = CopyReport { manifest, findings: Vec::new(), strangers, blocks: 0, rows: 0, log_records: 0 };
    for (name, what) in report.manifest.missing(&**vfs, dir)? {
        report.findings.push(finding("copy", dir, &name, None, Severity::Damage, format!("the file {what}")));
    }
    let stop = |report: &CopyReport| options.on_damage == OnDamage::Stop && !report.is_sound();
    if options.quick || stop(&report) {
        return Ok(report);
    }
    verify_pieces(&**vfs, dir, &mut report, options.on_damage, progress)?;
    if stop(&report) {
        return Ok(report);
    }
    verify_log(vfs, dir, &mut report)?;
    let increment = matches!(report.manifest.kind, CopyKind::Increment(_) | CopyKind::Log { .. });
    if stop(&report) || increment {
        return Ok(report);
    }
    let blocks = verify_blocks(vfs, dir, &report.manifest, options.on_damage, progress)?;
    report.findings.extend(blocks.findings);
    (report.blocks, report.rows) = (blocks.blocks, blocks.rows);
    Ok(report)
}

/// Reads the log as the open of the copy will.
fn verify_log(vfs: &Arc<dyn Vfs>, dir: &Path, report: &mut CopyReport) -> Result<()> {
    match read_log(vfs, dir, &report.manifest) {
        Ok(records) => report.log_records = records,
        Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::WrongBase) => {
            let (file, offset) =
                e.location().map_or((dir.join(MANIFEST_FILE), None), |place| (place.file.clone(), place.offset));
            let (severity, what) = (Severity::Damage, e.message().to_owned());
            report.findings.push(Finding { object: "log".to_owned(), file, offset, severity, what });
        }
        Err(e) => return Err(e),
    }
    Ok(())
}

/// Compares every piece of every file with the manifest.
fn verify_pieces(
    vfs: &dyn Vfs,
    dir: &Path,
    report: &mut CopyReport,
    on_damage: OnDamage,
    progress: &mut OnProgress<'_>,
) -> Result<()> {
    if report.manifest.files.iter().any(|f| f.stored() > 0 && f.pieces.is_empty()) {
        let what = "not sealed: there are no checksums of pieces to compare with".to_owned();
        report.findings.push(finding("manifest", dir, MANIFEST_FILE, None, Severity::Warning, what));
    }
    let mut meter = Meter::new(report.manifest.bytes(), report.manifest.files.len(), progress);
    for file in report.manifest.files.iter().filter(|f| f.is_stored()) {
        for (offset, what) in wrong_pieces(vfs, dir, file, &mut meter)? {
            report.findings.push(finding("copy", dir, &file.name, Some(offset), Severity::Damage, what));
            if on_damage != OnDamage::GoOn {
                break;
            }
        }
        if on_damage == OnDamage::Stop && !report.is_sound() {
            break;
        }
    }
    Ok(())
}

/// The pieces of a file that cannot be read or do not have their checksum. A missing file has none: that was said before.
fn wrong_pieces(
    vfs: &dyn Vfs,
    dir: &Path,
    file: &ManifestFile,
    meter: &mut Meter<'_, '_>,
) -> Result<Vec<(u64, String)>> {
    let mut wrong = Vec::new();
    let Ok(handle) = vfs.open(&dir.join(&file.name), OpenOptions::read()) else { return Ok(wrong) };
    let mut buf = vec![0; PIECE];
    for (i, crc) in file.pieces.iter().enumerate() {
        let offset = i as u64 * PIECE as u64;
        let len = usize::try_from(file.stored() - offset).unwrap_or(PIECE).min(PIECE);
        match read_zero_filled(&*handle, &mut buf[..len], offset) {
            Ok(_) if crc32fast::hash(&buf[..len]) == *crc => {}
            Ok(_) => wrong.push((offset, format!("the piece of {len} bytes does not have its checksum"))),
            Err(e) => wrong.push((offset, format!("cannot read: {e}"))),
        }
        meter.advance(&file.name, len as u64)?;
    }
    meter.finish_file(&file.name)?;
    Ok(wrong)
}

/// Walks everything that the manifest's root record reaches.
pub fn verify_blocks(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    manifest: &Manifest,
    on_damage: OnDamage,
    progress: &mut OnProgress<'_>,
) -> Result<AuditReport> {
    let root = match manifest.root_record() {
        Ok(root) => root,
        Err(e) => {
            let what = e.message().to_owned();
            let findings = vec![finding("manifest", dir, MANIFEST_FILE, None, Severity::Damage, what)];
            return Ok(AuditReport { findings, ..AuditReport::default() });
        }
    };
    let subject = Subject {
        vfs,
        dir,
        unit: root.settings.unit,
        record: &root.newest,
        keep_table: &|id| manifest.tables.iter().any(|t| t.id == id),
        keep_checkpoint: &|seq| manifest.checkpoints.binary_search(&seq).is_ok(),
    };
    let options = AuditOptions { on_damage, tables: Vec::new() };
    audit(&subject, &options, &mut Meter::new(0, 0, progress))
}

fn finding(object: &str, dir: &Path, name: &str, offset: Option<u64>, severity: Severity, what: String) -> Finding {
    Finding { object: object.to_owned(), file: dir.join(name), offset, severity, what }
}
