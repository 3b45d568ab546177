//! Backups, copies, increments: what the driver needs to know of them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline::audit::Severity;
use strandline::backup::{self, Content, CopyKind, Manifest};
use strandline::{BackupOptions, CheckpointSeq, Lineage, OriginRef, Progress};
use strandline_vfs::Vfs;

use super::{Answer, Db};
use crate::model::{Labels, Origin};

/// The name of the file that makes a directory of copied files a database.
pub const MANIFEST: &str = "Strandline.manifest";

/// The contents of a directory: names and bytes.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Where an increment starts, as a caller may say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// The origin itself.
    Origin(Origin),
    /// Its label.
    Label(String),
}

impl From<&Since> for OriginRef {
    fn from(since: &Since) -> Self {
        match since {
            Since::Origin(origin) => Self::Origin(strandline::Origin {
                lineage: Lineage(origin.lineage),
                sequence: CheckpointSeq::from_raw(origin.number),
            }),
            Since::Label(label) => Self::Name(label.clone()),
        }
    }
}

fn plain(origin: strandline::Origin) -> Origin {
    Origin { lineage: origin.lineage.0, number: origin.sequence.to_raw() }
}

/// What a backup is asked for.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// This named checkpoint instead of the newest.
    pub name: Option<String>,
    /// A checkpoint is taken first.
    pub fresh: bool,
    /// Only what changed since.
    pub since: Option<Since>,
    /// A name for its origin.
    pub label: Option<String>,
    /// How the ranges are shaped: 0 exactly, else one of a few ways.
    pub shape: u8,
}

impl Ask {
    fn options(&self) -> BackupOptions {
        let mut options = BackupOptions::new().fresh_checkpoint(self.fresh);
        if let Some(name) = &self.name {
            options = options.checkpoint(name.as_str());
        }
        if let Some(since) = &self.since {
            options = options.incremental_from(since);
        }
        if let Some(label) = &self.label {
            options = options.label(label.as_str());
        }
        match self.shape {
            1 => options.granularity(4096),
            2 => options.granularity(4096).consolidate(true),
            3 => options.granularity(64 << 10),
            4 => options.merge_gaps(1024),
            _ => options,
        }
    }
}

impl Db {
    /// Opens a backup of the log alone.
    ///
    /// # Errors
    /// Whatever the engine refuses; so for all calls below.
    pub fn log_backup(&self) -> Answer<Backup<'_>> {
        Ok(Backup(self.0.backup(BackupOptions::new().log_only())?))
    }

    /// Opens a backup.
    pub fn backup(&self, ask: &Ask) -> Answer<Backup<'_>> {
        Ok(Backup(self.0.backup(ask.options())?))
    }

    /// The name of the present history.
    #[must_use]
    pub fn lineage(&self) -> u64 {
        self.0.lineage().0
    }

    /// The labels and their origins.
    pub fn origins(&self) -> Answer<Labels> {
        Ok(self.0.origins()?.into_iter().map(|(label, origin)| (label, plain(origin))).collect())
    }

    /// Gives one up; `None`: all of them.
    pub fn release(&self, which: Option<&Since>) -> Answer<()> {
        match which {
            Some(since) => Ok(self.0.release_origin(since)?),
            None => Ok(self.0.release_origins()?),
        }
    }
}

/// One file to copy.
pub struct Item {
    /// Its name in the copy.
    pub name: String,
    /// Where it is.
    pub source: PathBuf,
    /// Which of its bytes: offset and length, in the order in which they stand in the copy.
    pub ranges: Vec<(u64, u64)>,
}

/// An open backup.
pub struct Backup<'d>(strandline::Backup<'d>);

impl Backup<'_> {
    /// The files to copy; the manifest is not among them.
    ///
    /// # Errors
    /// Whatever the engine refuses; so for all calls below.
    pub fn items(&self) -> Answer<Vec<Item>> {
        let ours = self.0.items().into_iter().filter(|i| i.name() != MANIFEST);
        let item = |i: strandline::backup::BackupItem| Item {
            name: i.name().to_owned(),
            source: i.source().to_owned(),
            ranges: i.ranges().iter().map(|r| (r.offset, r.len)).collect(),
        };
        // What does not travel is listed too.
        Ok(ours.filter(|i| !i.ranges().is_empty()).map(item).collect())
    }

    /// The bytes of the manifest.
    pub fn manifest(&self) -> Answer<Vec<u8>> {
        Ok(self.0.manifest())
    }

    /// Where an increment on top of it starts.
    #[must_use]
    pub fn origin(&self) -> Origin {
        plain(self.0.origin())
    }

    /// What a full copy of the same checkpoint holds, whatever this backup was asked for. `read` gives the contents of a
    /// file of the source.
    #[must_use]
    pub fn shadow(&self, read: impl Fn(&Path) -> Option<Vec<u8>>) -> Option<Files> {
        let items = self.0.items();
        let mut manifest = self.0.plan().manifest().clone();
        manifest.kind = CopyKind::Full;
        let mut files = Files::new();
        let home = items.last()?.source().parent()?.to_owned();
        for file in &mut manifest.files {
            let item = items.iter().find(|i| i.name() == file.name);
            let source = item.map_or_else(|| home.join(&file.name), |i| i.source().to_owned());
            file.content = Content::Whole;
            let mut bytes = read(&source)?;
            bytes.resize(file.size as usize, 0);
            files.insert(file.name.clone(), bytes);
        }
        files.insert(MANIFEST.to_owned(), manifest.encode());
        Some(files)
    }

    /// Copies everything.
    pub fn copy_to(&self, dir: &Path) -> Answer<()> {
        Ok(self.0.copy_to(dir, go_on).map(|_| ())?)
    }

    /// Writes everything as one stream.
    pub fn stream(&self, out: &mut Vec<u8>) -> Answer<()> {
        Ok(self.0.stream_to(out, go_on).map(|_| ())?)
    }

    /// Copies the segments that were closed since into a copy.
    pub fn catch_up(&mut self, vfs: &Arc<dyn Vfs>, increment: &Path, copy: &Path) -> Answer<()> {
        self.0.catch_up()?.copy_to(increment, go_on)?;
        apply(vfs, increment, copy)
    }

    /// Removes segments that were listed and that no checkpoint needs.
    pub fn remove_log(&mut self) -> Answer<()> {
        Ok(self.0.remove_log().map(|_| ())?)
    }

    /// Ends the backup.
    pub fn finish(self) -> Answer<()> {
        Ok(self.0.finish()?)
    }
}

fn go_on(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Unpacks a stream into a directory.
///
/// # Errors
/// Whatever the engine refuses; so for all functions below.
pub fn restore_stream(vfs: &Arc<dyn Vfs>, stream: &[u8], dir: &Path) -> Answer<()> {
    let mut stream = stream;
    let options = strandline::RestoreOptions::default();
    Ok(backup::restore_stream(vfs, &mut stream, dir, &options, &mut go_on).map(|_| ())?)
}

/// Restores a copy, or one table of it, into a directory.
pub fn restore(vfs: &Arc<dyn Vfs>, copy: &Path, dir: &Path, table: Option<&str>) -> Answer<()> {
    let tables = table.into_iter().map(str::to_owned).collect();
    let options = strandline::RestoreOptions { tables, ..strandline::RestoreOptions::default() };
    Ok(backup::restore(vfs, copy, dir, &options, &mut go_on).map(|_| ())?)
}

/// What is wrong with a copy.
pub fn verify_copy(vfs: &Arc<dyn Vfs>, dir: &Path) -> Answer<Vec<String>> {
    let options = backup::VerifyCopyOptions::default();
    let report = backup::verify_copy(vfs, dir, options, &mut go_on)?;
    let damage = report.findings.iter().filter(|f| f.severity == Severity::Damage);
    Ok(damage.map(ToString::to_string).collect())
}

/// Adds the checksums that a foreign copier left out.
pub fn seal(vfs: &Arc<dyn Vfs>, dir: &Path) -> Answer<()> {
    Ok(Manifest::seal(&**vfs, dir).map(|_| ())?)
}

/// Rolls a copy forward by an increment.
pub fn apply(vfs: &Arc<dyn Vfs>, increment: &Path, copy: &Path) -> Answer<()> {
    Ok(backup::apply(&**vfs, increment, copy, &mut go_on).map(|_| ())?)
}

/// As [`apply`], but stopped when `pieces` pieces were moved.
pub fn apply_some(vfs: &Arc<dyn Vfs>, increment: &Path, copy: &Path, mut pieces: u32) -> Answer<()> {
    let mut stop = |_: &Progress<'_>| match pieces.checked_sub(1) {
        Some(left) => {
            pieces = left;
            ControlFlow::Continue(())
        }
        None => ControlFlow::Break(()),
    };
    Ok(backup::apply(&**vfs, increment, copy, &mut stop).map(|_| ())?)
}

/// Whether a copy came forward by the log, with the increments that lie beside it.
#[must_use]
pub fn rolled_by_log(vfs: &Arc<dyn Vfs>, dir: &Path) -> bool {
    Manifest::load_copy(&**vfs, dir).is_ok_and(|m| m.rolled == Some(backup::Rolled::Log))
}

/// What a manifest says, as far as the driver compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The root record.
    pub root: Vec<u8>,
    /// Older checkpoints.
    pub checkpoints: Vec<u64>,
    /// Tables, each with the name of its file.
    pub tables: Vec<(String, String)>,
    /// Files and their sizes.
    pub files: Vec<(String, u64)>,
    /// Where the log ends: a segment and an offset.
    pub log_end: Option<(u32, u32)>,
    /// The name of the first segment that the copy needs, there or to come.
    pub log_from: Option<String>,
}

/// Reads a manifest; `None` when it cannot be.
#[must_use]
pub fn told(manifest: &[u8]) -> Option<Told> {
    let manifest = Manifest::decode(manifest).ok()?;
    let log = manifest.log().ok().flatten();
    Some(Told {
        log_from: log.map(|log| strandline::log::segment_name(log.position.lsn.segment)),
        checkpoints: manifest.checkpoints.iter().map(|seq| seq.to_raw()).collect(),
        tables: manifest.tables.iter().map(|t| (t.name.clone(), t.id.file_name())).collect(),
        files: manifest.files.iter().map(|f| (f.name.clone(), f.size)).collect(),
        root: manifest.root,
        log_end: manifest.log_end.map(|lsn| (lsn.segment, lsn.offset)),
    })
}
