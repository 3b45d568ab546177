//! Verification of a home: the root record, and everything that one checkpoint reaches.
//!
//! The work on blocks is the audit's; what is added here is the root record. Its two slots must both be whole and say the
//! same once a checkpoint is complete (R1). One of them torn or rotten loses nothing, but the next accident might, so it
//! is a warning.

use std::path::Path;

use strandline_vfs::{OpenOptions, Vfs};

use crate::audit::{AuditOptions, AuditReport, Finding, OnDamage, Severity, Subject, audit};
use crate::catalog::{ROOT_FILE, SLOT_OFFSETS, read_slot};
use crate::error::Result;
use crate::progress::{Meter, OnProgress};

/// A slot that is being written while it is read looks torn; so often it is read again before it counts as damaged.
const TRIES: usize = 3;

/// How to verify.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Only these tables (and the catalog); empty means all.
    pub tables: Vec<String>,
    /// When to stop after damage.
    pub on_damage: OnDamage,
    /// Warnings count as damage.
    pub strict: bool,
}

impl VerifyOptions {
    /// All tables, one finding for each.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only these tables, and the catalog.
    #[must_use]
    pub fn tables<S: Into<String>>(mut self, tables: impl IntoIterator<Item = S>) -> Self {
        self.tables = tables.into_iter().map(Into::into).collect();
        self
    }
}

/// Verifies the catalog and the tables of a home as one checkpoint holds them, and the root record.
///
/// # Errors
/// `NotFound` naming a table that is asked for and not there; `Cancelled`. Damage is in the report.
pub fn verify(subject: &Subject<'_>, options: &VerifyOptions, progress: &mut OnProgress<'_>) -> Result<AuditReport> {
    let audit_options = AuditOptions { on_damage: options.on_damage, tables: options.tables.clone() };
    let mut report = audit(subject, &audit_options, &mut Meter::new(0, 0, progress))?;
    let root = verify_root(&**subject.vfs, subject.dir);
    report.findings.splice(0..0, root);
    if options.strict {
        report.findings.iter_mut().for_each(|f| f.severity = Severity::Damage);
    }
    Ok(report)
}

/// What is wrong with the root record. In a copy, which has none, nothing is.
fn verify_root(vfs: &dyn Vfs, home: &Path) -> Vec<Finding> {
    let path = home.join(ROOT_FILE);
    let finding = |offset, severity, what: String| Finding {
        object: "root record".to_owned(),
        file: path.clone(),
        offset,
        severity,
        what,
    };
    let Ok(Some(_)) = vfs.metadata(&path) else { return Vec::new() };
    let file = match vfs.open(&path, OpenOptions::read()) {
        Ok(file) => file,
        Err(e) => return vec![finding(None, Severity::Damage, format!("cannot open it: {e}"))],
    };
    let slot = |n| {
        let mut tries = (0..TRIES).map(|_| read_slot(&*file, &path, n));
        let last = tries.next_back();
        tries.find(Result::is_ok).or(last).transpose()
    };
    let bad: Vec<(usize, String)> = (0..2).filter_map(|n| slot(n).err().map(|e| (n, e.message().to_owned()))).collect();
    let severity = if bad.len() == 2 { Severity::Damage } else { Severity::Warning };
    bad.into_iter().map(|(n, what)| finding(Some(SLOT_OFFSETS[n]), severity, format!("slot {n}: {what}"))).collect()
}
