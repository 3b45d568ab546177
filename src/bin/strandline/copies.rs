//! Commands about copies: backup, backup verify, restore.
//!
//! The engine copies, checks and restores; this file says what, shows how far it has come, and tells what was made. A
//! backup does not write to the database, yet it needs it open for writing, since its pin must be durable.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::ProgressBar;
use serde_json::{Value, json};
use strandline::audit::Finding;
use strandline::backup::{
    BackupReport, CopyKind, CopyOptions, CopyReport, Manifest, ManifestFile, RestoreOptions, VerifyCopyOptions,
    restore as restore_copy, restore_stream, verify_copy,
};
use strandline::log::segment_name;
use strandline::manifest::Content;
use strandline::{Backup, BackupOptions, Database, Options, Progress};
use strandline_vfs::Vfs;
use strandline_vfs::os::OsVfs;

use crate::copy_args::{BackupArgs, BackupCommand, BackupVerifyArgs, RestoreArgs};
use crate::diff::diff;
use crate::home::{Home, table_name, usage};
use crate::increments;
use crate::origins::origins;
use crate::report::{Failure, Outcome, Voice, While, say};
use crate::tables::missing;

/// `backup`
pub fn backup(home: &Home, args: &BackupArgs) -> Outcome {
    match (&args.what, &args.dest, &args.into) {
        (Some(BackupCommand::Verify(args)), ..) => verify(home.voice, args),
        (Some(BackupCommand::Apply(args)), ..) => increments::apply_all(home.voice, args),
        (Some(BackupCommand::Consolidate(args)), ..) => increments::consolidate(home.voice, args),
        (Some(BackupCommand::Diff(args)), ..) => diff(home.voice, args),
        (Some(BackupCommand::Origins(args)), ..) => origins(home, args),
        (None, Some(dest), _) => copy(home, args, dest),
        (None, None, Some(into)) => increments::into_copy(home, args, into),
        (None, None, None) => usage("backup", "`backup` needs the directory to copy to"),
    }
}

fn copy(home: &Home, args: &BackupArgs, dest: &Path) -> Outcome {
    let taken = take(home, args, dest)?;
    tell(home.voice, &taken)
}

/// What a backup has made.
pub struct Taken {
    report: BackupReport,
    /// Segments of the log that were removed from the database afterwards.
    log_removed: Vec<u32>,
}

/// Takes a backup; what was made.
pub fn take(home: &Home, args: &BackupArgs, dest: &Path) -> Outcome<Taken> {
    if is_pipe(dest) && (home.voice.verbose || home.voice.json) {
        return usage("backup", "what -v and --json tell would stand in the middle of the stream");
    }
    let mut tables = Vec::new();
    for object in &args.tables {
        tables.push(table_name(object)?.to_owned());
    }
    let mut options = BackupOptions::new().fresh_checkpoint(args.fresh_checkpoint);
    if args.log {
        options = options.log_only();
    }
    if !tables.is_empty() {
        options = options.tables(tables);
    }
    if let Some(name) = &args.checkpoint {
        options = options.checkpoint(name);
    }
    if let Some(from) = &args.incremental_from {
        options = options.incremental_from(increments::origin(from)?).granularity(args.granularity.unwrap_or_default());
    }
    if let Some(label) = &args.label {
        options = options.label(label);
    }
    let db = home.write()?;
    let mut backup = db.backup(options).with(home.path.display())?;
    let options = CopyOptions { direct_io: args.direct_io };
    let taken = run(home.voice, &backup, dest, options).and_then(|report| {
        // Only what has been copied is given up, and found to be whole: a segment may have been damaged before.
        if args.remove_log && !is_pipe(dest) {
            let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
            verify_one(home.voice, &vfs, dest, false)?.into_result().with(dest.display())?;
        }
        let log_removed = if args.remove_log { backup.remove_log().with(home.path.display())? } else { Vec::new() };
        Ok(Taken { report, log_removed })
    });
    let finished = backup.finish().with(home.path.display());
    let taken = taken?;
    finished?;
    home.close(db)?;
    Ok(taken)
}

/// True for the name that stands for standard input or output.
pub fn is_pipe(path: &Path) -> bool {
    path == Path::new("-")
}

fn run(voice: Voice, backup: &Backup<'_>, dest: &Path, options: CopyOptions) -> Outcome<BackupReport> {
    let sources: Vec<(String, PathBuf)> =
        backup.items().iter().map(|item| (item.name().to_owned(), item.source().to_owned())).collect();
    let mut meter = Meter::new(voice, |file| {
        let source = sources.iter().find(|(name, _)| name == file).map_or(Path::new(file), |(_, source)| source);
        format!("Backing up {} to {}", source.display(), dest.join(file).display())
    });
    if is_pipe(dest) {
        let sent = backup.stream_to(&mut io::stdout().lock(), meter.callback());
        return meter.end(sent.with("standard output"));
    }
    let copied = backup.copy_to_vfs(&OsVfs::new(), dest, options, meter.callback());
    meter.end(copied.with(dest.display()))
}

/// What was made: one line for those who asked, with the origin or how far the log goes; or all of it as JSON.
pub fn tell(voice: Voice, taken: &Taken) -> Outcome {
    let manifest = &taken.report.manifest;
    if !voice.json {
        for segment in &taken.log_removed {
            voice.step(format_args!("Removed {}", segment_name(*segment)))?;
        }
        voice.step(cost_of(&taken.report))?;
        return voice.step(state_of(manifest));
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
        "origin": origin_of(manifest),
        "log_end": manifest.log_end.map(|end| end.to_string()),
        "tables": manifest.tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(),
        "files": files,
        "removed": manifest.removed,
        "log_removed": taken.log_removed.iter().map(|segment| segment_name(*segment)).collect::<Vec<_>>(),
        "bytes": taken.report.bytes,
        "bytes_read": taken.report.read,
        "walk": {
            "bytes_read": taken.report.walk.bytes_read,
            "inner_pages": taken.report.walk.inner_pages,
            "leaves": taken.report.walk.leaves,
        },
    });
    say(serde_json::to_string_pretty(&object).unwrap_or_default())
}

/// The line that tells what moved, and what had to be read for it.
fn cost_of(report: &BackupReport) -> String {
    let walk = report.walk;
    let pages = match walk.leaves {
        0 => format!("{} inner pages", walk.inner_pages),
        leaves => format!("{} inner pages and {leaves} leaves", walk.inner_pages),
    };
    match report.manifest.kind {
        CopyKind::Increment(_) => format!("{} bytes, {} read, {pages} walked", report.bytes, report.read),
        _ => format!("{} bytes", report.bytes),
    }
}

/// Where an increment on top of this would start. An increment from the log is of no checkpoint, hence no origin.
pub fn origin_of(manifest: &Manifest) -> Option<String> {
    (!matches!(manifest.kind, CopyKind::Log { .. })).then(|| manifest.origin().to_string())
}

/// The line that tells what a copy or an increment has come to.
pub fn state_of(manifest: &Manifest) -> String {
    match (origin_of(manifest), manifest.log_end) {
        (Some(origin), _) => format!("origin {origin}"),
        (None, Some(end)) => format!("log to {end}"),
        (None, None) => "log empty".to_owned(),
    }
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
        "origin": origin_of(&report.manifest),
        "log_end": report.manifest.log_end.map(|end| end.to_string()),
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
    // What a stream holds is known when it has come.
    let has_log = is_pipe(copy) || Manifest::load_copy(&*vfs, copy).with(copy.display())?.segments().next().is_some();
    // Increments fit a whole copy only, and what the log makes of the tables is known when it has been replayed: then the
    // choice of tables comes last.
    let chosen_now = if increments.is_empty() && !has_log { tables.clone() } else { Vec::new() };
    let options = RestoreOptions { tables: chosen_now, ..RestoreOptions::default() };
    // A run that dies must not leave the copy without its increments for the whole.
    let place = if increments.is_empty() { dest.clone() } else { increments::workplace(&*vfs, dest)? };
    let restored = match is_pipe(copy) {
        true => restore_stream(&vfs, &mut io::stdin().lock(), &place, &options, &mut meter.callback()),
        false => restore_copy(&vfs, copy, &place, &options, &mut meter.callback()),
    };
    meter.end(restored.with(copy.display()))?;
    if !increments.is_empty() {
        increments::roll_forward(voice, &vfs, increments, &place)?;
        increments::put_in_place(&*vfs, &place, dest)?;
    }
    // Opening it once for writing makes it a database of its own.
    let db = Options::new().open(dest).with(dest.display())?;
    let kept = if tables.is_empty() { Ok(()) } else { keep_only(&db, &tables) };
    let closed = db.close().with(dest.display());
    if kept.is_err() {
        // The directory was empty before, so all that is in it is ours.
        let _ = std::fs::remove_dir_all(dest);
    }
    kept.and(closed)
}

/// Drops all other tables.
fn keep_only(db: &Database, tables: &[String]) -> Outcome {
    let there = db.tables().with("restore")?;
    if let Some(name) = tables.iter().find(|name| !there.iter().any(|info| info.name == **name)) {
        return Err(missing()).with(format_args!("table:{name}"));
    }
    for info in there.iter().filter(|info| !tables.contains(&info.name)) {
        db.drop_table(&info.name, true).with(format_args!("table:{}", info.name))?;
    }
    Ok(())
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
