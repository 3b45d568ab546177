//! Increments: where one starts, applying them to a copy, and both in one step.
//!
//! An increment lives in a directory of its own until it is applied. `--into` makes that directory beside the copy, under
//! the copy's name with `.increment` after it, and removes it when it has been applied. If a run dies in between, the next
//! one finds the directory: a whole increment is applied before anything else, since the copy may have been half-way; an
//! unfinished one is removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use strandline::backup::{
    ApplyReport, CopyKind, Manifest, RestoreOptions, VerifyCopyOptions, apply, restore, restore_stream, verify_copy,
};
use strandline::manifest::{Rolled, mixed, must_be_vacant};
use strandline::{Error, ErrorKind, Origin, OriginRef};
use strandline_vfs::Vfs;
use strandline_vfs::os::OsVfs;

use crate::copies::{Meter, is_pipe, origin_of, state_of, take, tell};
use crate::copy_args::{BackupApplyArgs, BackupArgs, BackupConsolidateArgs};
use crate::home::{Home, usage};
use crate::report::{Failure, Outcome, Voice, While, say};

/// Where an increment starts: at a copy, when `from` has a slash or is there, else at an origin as it was printed, or a label.
pub fn origin(from: &str) -> Outcome<OriginRef> {
    if from.contains('/') || Path::new(from).exists() {
        let manifest = Manifest::load_copy(&OsVfs::new(), Path::new(from)).with(from)?;
        return match (manifest.kind, manifest.rolled) {
            (CopyKind::Log { .. }, _) => {
                let error = Error::new(ErrorKind::WrongBase, "an increment from the log is of no checkpoint");
                Err(error.remedy("give the directory of a backup, or its origin")).with(from)
            }
            // An increment by blocks could be taken, but not be applied to it.
            (_, Some(Rolled::Log)) => Err(mixed()).with(from),
            _ => Ok(manifest.origin().into()),
        };
    }
    named_origin(from)
}

/// An origin as it was printed, or a label, which has no colon.
pub fn named_origin(from: &str) -> Outcome<OriginRef> {
    if !from.contains(':') {
        return Ok(from.into());
    }
    let origin: strandline::Result<Origin> = from.parse();
    Ok(origin.with(from)?.into())
}

/// `backup apply`
pub fn apply_all(voice: Voice, args: &BackupApplyArgs) -> Outcome {
    let [increments @ .., copy] = &args.paths[..] else {
        return usage("backup", "`backup apply` takes increments and the copy that they are for");
    };
    let vfs = OsVfs::new();
    let mut told = Vec::new();
    for increment in increments {
        let report = match is_pipe(increment) {
            true => apply_stream(voice, copy)?,
            false => apply_one(voice, &vfs, increment, copy)?,
        };
        told.push(as_json(increment, &report));
        if Some(increment) == increments.last() {
            voice.step(state_of(&report.manifest))?;
        }
    }
    if args.prove {
        let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
        prove(voice, &vfs, copy)?;
    }
    if voice.json { say(serde_json::to_string_pretty(&told).unwrap_or_default()) } else { Ok(()) }
}

fn apply_one(voice: Voice, vfs: &dyn Vfs, increment: &Path, copy: &Path) -> Outcome<ApplyReport> {
    let mut meter = Meter::new(voice, |file| {
        format!("Applying {} to {}", increment.join(file).display(), copy.join(file).display())
    });
    let applied = apply(vfs, increment, copy, &mut meter.callback());
    meter.end(applied.with(increment.display()))
}

/// Takes an increment from standard input, beside the copy, and applies it. A run that dies in between is finished by the next one, as
/// with `--into`.
fn apply_stream(voice: Voice, copy: &Path) -> Outcome<ApplyReport> {
    let (vfs, place): (Arc<dyn Vfs>, _) = (Arc::new(OsVfs::new()), place_beside(copy)?);
    if place.exists() {
        finish_earlier(voice, &*vfs, &place, copy)?;
    }
    let mut meter = Meter::new(voice, |file| format!("Receiving {}", place.join(file).display()));
    let options = RestoreOptions::default();
    let received = restore_stream(&vfs, &mut io::stdin().lock(), &place, &options, &mut meter.callback());
    meter.end(received.with("standard input"))?;
    apply_and_clear(voice, &*vfs, &place, copy)
}

/// Applies what lies beside the copy, and removes it unless the copy may be half-way.
fn apply_and_clear(voice: Voice, vfs: &dyn Vfs, place: &Path, copy: &Path) -> Outcome<ApplyReport> {
    let applied = apply_one(voice, vfs, place, copy);
    if !must_be_repeated(&applied) {
        fs::remove_dir_all(place).with(place.display())?;
    }
    applied
}

fn as_json(increment: &Path, report: &ApplyReport) -> Value {
    json!({
        "increment": increment.display().to_string(),
        "origin": origin_of(&report.manifest),
        "log_end": report.manifest.log_end.map(|end| end.to_string()),
        "bytes": report.bytes,
        "removed": report.removed,
    })
}

/// Where a copy and its increments are put together: beside `dest`, so that nothing stands there before all of it does.
///
/// # Errors
/// When `dest` is not vacant, or when an earlier run has died there.
pub fn workplace(vfs: &dyn Vfs, dest: &Path) -> Outcome<PathBuf> {
    must_be_vacant(vfs, dest).with(dest.display())?;
    let Some(name) = dest.file_name() else { return usage("restore", "DEST needs a name of its own") };
    let mut unfinished = name.to_owned();
    unfinished.push(".unfinished");
    let place = dest.with_file_name(unfinished);
    if place.exists() {
        let error = Error::new(ErrorKind::Exists, "an earlier run died here, or another one is at work");
        return Err(error.remedy("if it is dead, remove the directory")).with(place.display());
    }
    Ok(place)
}

/// Gives what was put together its name.
pub fn put_in_place(vfs: &dyn Vfs, place: &Path, dest: &Path) -> Outcome {
    if dest.exists() {
        fs::remove_dir(dest).with(dest.display())?;
    }
    fs::rename(place, dest).with(dest.display())?;
    let parent = dest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    vfs.sync_dir(parent).with(parent.display())
}

/// Walks a copy from the root that its manifest has from the source: addresses carry checksums, so every block that is
/// reached is the source's own.
fn prove(voice: Voice, vfs: &Arc<dyn Vfs>, copy: &Path) -> Outcome {
    let mut meter = Meter::new(voice, |file| format!("Verifying {}", copy.join(file).display()));
    let checked = verify_copy(vfs, copy, VerifyCopyOptions::default(), &mut meter.callback());
    meter.end(checked.and_then(|report| report.into_result()).with(copy.display())).map(|_| ())
}

/// `backup consolidate`
pub fn consolidate(voice: Voice, args: &BackupConsolidateArgs) -> Outcome {
    let [copy, increments @ .., dest] = &args.paths[..] else {
        return usage("backup", "`backup consolidate` takes a copy, its increments, and the directory of the new copy");
    };
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
    let mut meter =
        Meter::new(voice, |file| format!("Copying {} to {}", copy.join(file).display(), dest.join(file).display()));
    let place = workplace(&*vfs, dest)?;
    let restored = restore(&vfs, copy, &place, &RestoreOptions::default(), &mut meter.callback());
    meter.end(restored.with(copy.display()))?;
    roll_forward(voice, &vfs, increments, &place)?;
    put_in_place(&*vfs, &place, dest)
}

/// Applies increments to a copy that was restored just now, and verifies it. Nothing is left of it when that fails.
pub fn roll_forward(voice: Voice, vfs: &Arc<dyn Vfs>, increments: &[PathBuf], dest: &Path) -> Outcome {
    let rolled = increments.iter().try_for_each(|increment| apply_one(voice, &**vfs, increment, dest).map(|_| ()));
    let verified = rolled.and_then(|()| prove(voice, vfs, dest));
    if verified.is_err() {
        // The directory was empty before, so all that is in it is ours.
        let _ = fs::remove_dir_all(dest);
    }
    verified
}

/// `backup --incremental-from FROM --into COPY`
pub fn into_copy(home: &Home, args: &BackupArgs, copy: &Path) -> Outcome {
    let (vfs, place) = (OsVfs::new(), place_beside(copy)?);
    if place.exists() {
        finish_earlier(home.voice, &vfs, &place, copy)?;
    }
    let taken = take(home, args, &place)?;
    apply_and_clear(home.voice, &vfs, &place, copy)?;
    tell(home.voice, &taken)
}

/// Whether the copy may be half-way, so that the increment is still needed. What does not fit was refused before that.
fn must_be_repeated(applied: &Outcome<ApplyReport>) -> bool {
    match applied {
        Err(Failure::Problem { error, .. }) => matches!(error.kind(), ErrorKind::Io | ErrorKind::Cancelled),
        Err(_) => true,
        Ok(_) => false,
    }
}

fn place_beside(copy: &Path) -> Outcome<PathBuf> {
    let full = fs::canonicalize(copy).with(copy.display())?;
    match full.file_name() {
        Some(name) => {
            let mut name = name.to_owned();
            name.push(".increment");
            Ok(full.with_file_name(name))
        }
        None => usage("backup", "--into needs the directory of a copy"),
    }
}

/// Applies what an earlier run had made and not finished with, and clears its place.
fn finish_earlier(voice: Voice, vfs: &dyn Vfs, place: &Path, copy: &Path) -> Outcome {
    match Manifest::load(vfs, place) {
        Ok(manifest) if matches!(manifest.kind, CopyKind::Increment(_)) => {
            let applied = apply_one(voice, vfs, place, copy);
            if must_be_repeated(&applied) {
                return applied.map(|_| ());
            }
        }
        Ok(_) => {
            let error = Error::new(ErrorKind::Exists, "this place is needed for the increment, and holds a copy");
            return Err(error.remedy("move it away")).with(place.display());
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => only_ours(place)?,
        Err(error) => return Err(error).with(place.display()),
    }
    fs::remove_dir_all(place).with(place.display())
}

/// An unfinished increment has nothing in it but the files of one.
fn only_ours(place: &Path) -> Outcome {
    for entry in fs::read_dir(place).with(place.display())? {
        let name = entry.with(place.display())?.file_name();
        if !name.to_str().is_some_and(strandline::manifest::belongs) {
            let error =
                Error::new(ErrorKind::Exists, "this place is needed for the increment, and holds something else");
            return Err(error.remedy("move it away")).with(place.display());
        }
    }
    Ok(())
}
