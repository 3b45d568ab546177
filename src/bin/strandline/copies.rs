//! Commands about copies: backup, backup verify, restore.
//!
//! The engine copies, checks and restores; this file says what, shows how far it has come, and tells what was made. A
//! backup does not write to the database, yet it needs it open for writing, since its pin must be durable.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::ProgressBar;
use serde_json::{Value, json};
use strandline::audit::Finding;
use strandline::backup::{
    BackupReport, CopyKind, CopyReport, ManifestFile, RestoreOptions, VerifyCopyOptions, restore as restore_copy,
    verify_copy,
};
use strandline::manifest::Content;
use strandline::{Backup, BackupOptions, Options, Progress};
use strandline_vfs::Vfs;
use strandline_vfs::os::OsVfs;

use crate::copy_args::{BackupArgs, BackupCommand, BackupVerifyArgs, RestoreArgs};
use crate::home::{Home, table_name, usage};
use crate::increments;
use crate::report::{Failure, Outcome, Voice, While, say, unsupported};

/// `backup`
pub fn backup(home: &Home, args: &BackupArgs) -> Outcome {
    match (&args.what, &args.dest, &args.into) {
        (Some(BackupCommand::Verify(args)), ..) => verify(home.voice, args),
        (Some(BackupCommand::Apply(args)), ..) => increments::apply_all(home.voice, args),
        (None, Some(dest), _) => copy(home, args, dest),
        (None, None, Some(into)) => increments::into_copy(home, args, into),
        (None, None, None) => usage("backup", "`backup` needs the directory to copy to"),
    }
}

fn copy(home: &Home, args: &BackupArgs, dest: &Path) -> Outcome {
    let report = take(home, args, dest)?;
    tell(home.voice, &report)
}

/// Takes a backup; what was made.
pub fn take(home: &Home, args: &BackupArgs, dest: &Path) -> Outcome<BackupReport> {
    check_later(args)?;
    let mut tables = Vec::new();
    for object in &args.tables {
        tables.push(table_name(object)?.to_owned());
    }
    let mut options = BackupOptions::new().fresh_checkpoint(args.fresh_checkpoint);
    if !tables.is_empty() {
        options = options.tables(tables);
    }
    if let Some(name) = &args.checkpoint {
        options = options.checkpoint(name);
    }
    if let Some(from) = &args.incremental_from {
        options = options.incremental_from(increments::origin(from)?);
    }
    let db = home.write()?;
    let backup = db.backup(options).with(home.path.display())?;
    let report = run(home.voice, &backup, dest);
    let finished = backup.finish().with(home.path.display());
    let report = report?;
    finished?;
    home.close(db)?;
    Ok(report)
}

/// Options of kinds of backup that are not there yet.
fn check_later(args: &BackupArgs) -> Outcome {
    let later = &args.later;
    let asked = [
        (args.log, "a backup of the log"),
        (later.label.is_some(), "--label"),
        (later.granularity.is_some(), "--granularity"),
        (later.direct_io, "--direct-io"),
    ];
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => unsupported(what),
        None => Ok(()),
    }
}

fn run(voice: Voice, backup: &Backup<'_>, dest: &Path) -> Outcome<BackupReport> {
    let sources: Vec<(String, PathBuf)> =
        backup.items().iter().map(|item| (item.name().to_owned(), item.source().to_owned())).collect();
    let mut meter = Meter::new(voice, |file| {
        let source = sources.iter().find(|(name, _)| name == file).map_or(Path::new(file), |(_, source)| source);
        format!("Backing up {} to {}", source.display(), dest.join(file).display())
    });
    let copied = backup.copy_to(dest, meter.callback());
    meter.end(copied.with(dest.display()))
}

/// What was made: one line with the origin for those who asked, or all of it as JSON.
pub fn tell(voice: Voice, report: &BackupReport) -> Outcome {
    let manifest = &report.manifest;
    if !voice.json {
        return voice.step(format_args!("origin {}", manifest.origin()));
    }
    let files: Vec<_> = manifest.files.iter().map(file_as_json).collect();
    let (kind, before) = match manifest.kind {
        CopyKind::Full => ("full", None),
        CopyKind::Targeted => ("targeted", None),
        CopyKind::Increment(origin) => ("increment", Some(origin.to_string())),
        CopyKind::Log { .. } => ("log", None),
    };
    let object = json!({
        "kind": kind,
        "lineage": manifest.lineage.to_string(),
        "origin_before": before,
        "origin": manifest.origin().to_string(),
        "tables": manifest.tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(),
        "files": files,
        "removed": manifest.removed,
        "bytes": report.bytes,
    });
    say(serde_json::to_string_pretty(&object).unwrap_or_default())
}

fn file_as_json(file: &ManifestFile) -> Value {
    let content = match file.content {
        Content::Whole => "whole",
        Content::Unchanged => "unchanged",
        Content::Ranges(_) => "ranges",
    };
    json!({ "name": file.name, "size": file.size, "content": content })
}

/// `backup verify`
fn verify(voice: Voice, args: &BackupVerifyArgs) -> Outcome {
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
    let (mut all_well, mut told) = (true, Vec::new());
    for dir in &args.dirs {
        match verify_one(voice, &vfs, dir, args.quick) {
            Ok(report) => {
                all_well &= report.is_sound();
                if voice.json { told.push(as_json(dir, &report)) } else { tell_findings(voice, dir, &report)? }
            }
            Err(Failure::Problem { what, error }) => {
                voice.problem(&what, &error);
                all_well = false;
            }
            Err(other) => return Err(other),
        }
    }
    if voice.json {
        say(serde_json::to_string_pretty(&told).unwrap_or_default())?;
    }
    if all_well { Ok(()) } else { Err(Failure::Told) }
}

fn verify_one(voice: Voice, vfs: &Arc<dyn Vfs>, dir: &Path, quick: bool) -> Outcome<CopyReport> {
    let mut meter = Meter::new(voice, |file| format!("Verifying {}", dir.join(file).display()));
    let options = VerifyCopyOptions { quick, ..VerifyCopyOptions::default() };
    let checked = verify_copy(vfs, dir, options, &mut meter.callback());
    meter.end(checked.with(dir.display()))
}

fn tell_findings(voice: Voice, dir: &Path, report: &CopyReport) -> Outcome {
    for stranger in &report.strangers {
        voice.warning(&dir.join(stranger).display().to_string(), "not part of the copy");
    }
    for finding in &report.findings {
        say(finding)?;
    }
    let manifest = &report.manifest;
    let (files, bytes) = (manifest.files.len(), manifest.bytes());
    voice.step(format_args!("{}: {files} files, {bytes} bytes, {} blocks", dir.display(), report.blocks))
}

fn as_json(dir: &Path, report: &CopyReport) -> Value {
    json!({
        "copy": dir.display().to_string(),
        "sound": report.is_sound(),
        "origin": report.manifest.origin().to_string(),
        "files": report.manifest.files.len(),
        "bytes": report.manifest.bytes(),
        "blocks": report.blocks,
        "rows": report.rows,
        "strangers": report.strangers,
        "findings": report.findings.iter().map(finding_as_json).collect::<Vec<_>>(),
    })
}

/// One thing that is not as it should be.
pub fn finding_as_json(finding: &Finding) -> Value {
    json!({
        "object": finding.object,
        "file": finding.file.display().to_string(),
        "offset": finding.offset,
        "severity": format!("{:?}", finding.severity).to_lowercase(),
        "what": finding.what,
    })
}

/// `restore`
pub fn restore(voice: Voice, args: &RestoreArgs) -> Outcome {
    let [copy, increments @ .., dest] = &args.paths[..] else {
        return usage("restore", "`restore` takes a copy and the directory of the new database");
    };
    let mut tables = Vec::new();
    for object in &args.tables {
        tables.push(table_name(object)?.to_owned());
    }
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
    let mut meter =
        Meter::new(voice, |file| format!("Restoring {} to {}", copy.join(file).display(), dest.join(file).display()));
    // Increments fit a whole copy only, so with them the choice of tables comes last.
    let chosen_now = if increments.is_empty() { tables.clone() } else { Vec::new() };
    let options = RestoreOptions { tables: chosen_now, ..RestoreOptions::default() };
    let restored = restore_copy(&vfs, copy, dest, &options, &mut meter.callback());
    meter.end(restored.with(copy.display()))?;
    let mut open = Options::new();
    if !increments.is_empty() {
        increments::roll_forward(voice, &vfs, increments, dest)?;
        if !tables.is_empty() {
            open = open.restore_only(tables);
        }
    }
    // Opening it once for writing makes it a database of its own.
    open.open(dest).with(dest.display())?.close().with(dest.display())
}

/// Shows how far a copy has come: a bar on a terminal, and a line for each file for those who asked.
pub struct Meter<F> {
    voice: Voice,
    bar: ProgressBar,
    file: String,
    line: F,
    failure: Option<Failure>,
}

impl<F: Fn(&str) -> String> Meter<F> {
    /// `line` makes the line about a file.
    pub fn new(voice: Voice, line: F) -> Self {
        Self { voice, bar: voice.bar(Some(0)), file: String::new(), line, failure: None }
    }

    /// What the engine calls.
    pub fn callback(&mut self) -> impl FnMut(&Progress<'_>) -> ControlFlow<()> {
        |progress| {
            self.bar.set_length(progress.bytes_total);
            self.bar.set_position(progress.bytes_done);
            if self.file != progress.file {
                progress.file.clone_into(&mut self.file);
                self.bar.set_message(self.file.clone());
                let told = self.bar.suspend(|| self.voice.step((self.line)(progress.file)));
                if let Err(failure) = told {
                    self.failure = Some(failure);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        }
    }

    /// The outcome, with the bar gone.
    pub fn end<T>(self, outcome: Outcome<T>) -> Outcome<T> {
        self.bar.finish_and_clear();
        match self.failure {
            Some(failure) => Err(failure),
            None => outcome,
        }
    }
}
