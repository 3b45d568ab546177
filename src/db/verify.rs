//! Verifying an open database, and what can be done with copies on the operating system's files.
//!
//! A verification reads what the newest checkpoint reaches, and what every older retained one does, straight from the
//! files. None of that may go while it is being read: so it holds the checkpoints and the tables like a view does, and a
//! drop of one of them gives `Busy` meanwhile. Commits and checkpoints go on.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use strandline_vfs::Vfs;
use strandline_vfs::os::OsVfs;

use super::database::Database;
use crate::backup::{self, BackupReport, CopyReport, RestoreOptions, VerifyCopyOptions};
use crate::catalog::UseKind;
use crate::checkpoint::Pin;
use crate::error::Result;
use crate::maintenance::{self, Subject, VerifyOptions, VerifyReport};
use crate::progress::{OnProgress, Progress};

impl Database {
    /// Verifies every block that a checkpoint reaches, the exact use of every file's bytes, and both slots of the root
    /// record. Rows that were committed since the newest checkpoint are not on disk yet and not looked at.
    ///
    /// # Errors
    /// `NotFound` naming a table that is asked for and not there; `Closed`; `Io`. Damage is in the report.
    pub fn verify(&self, options: &VerifyOptions) -> Result<VerifyReport> {
        self.verify_with(options, |_| ControlFlow::Continue(()))
    }

    /// As [`Database::verify`], telling `progress` how far it is.
    ///
    /// # Errors
    /// As [`Database::verify`]; `Cancelled` when `progress` asked to stop.
    pub fn verify_with(
        &self,
        options: &VerifyOptions,
        mut progress: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<VerifyReport> {
        let core = &self.core;
        core.check_open()?;
        let catalog = &core.catalog;
        let decided = core.checkpointer.pins().decide();
        let record = catalog.newest();
        let all = catalog.checkpoints();
        let _pins: Vec<Pin> = all.iter().map(|c| core.checkpointer.pins().pin_view(c.seq)).collect();
        let slots = catalog.tables().into_iter();
        let _uses = slots.map(|slot| slot.enter(UseKind::View)).collect::<Result<Vec<_>>>()?;
        drop(decided);
        let subject = Subject {
            vfs: &core.ctx.vfs,
            dir: core.ctx.home(),
            unit: core.ctx.settings.unit,
            record: &record,
            keep_table: &|id| catalog.find_id(id).is_some(),
            keep_checkpoint: &|seq| all.iter().any(|c| c.seq == seq),
        };
        let call: &mut OnProgress<'_> = &mut progress;
        maintenance::verify(&subject, options, call)
    }
}

fn os() -> Arc<dyn Vfs> {
    Arc::new(OsVfs::new())
}

fn silent(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Verifies a copy on the operating system's files: presence, sizes, checksums of pieces, every block. Writes nothing.
///
/// # Errors
/// `Corrupt` with file and offset for the first damage; as [`crate::backup::verify_copy`].
pub fn verify_copy(dir: impl AsRef<Path>) -> Result<CopyReport> {
    backup::verify_copy(&os(), dir.as_ref(), VerifyCopyOptions::default(), &mut silent)?.into_result()
}

/// Restores a copy into a directory that is missing or empty, on the operating system's files. What stands there then is a
/// verified copy: opening it makes it a database.
///
/// # Errors
/// As [`crate::backup::restore`].
pub fn restore(copy: impl AsRef<Path>, dest: impl AsRef<Path>) -> Result<BackupReport> {
    backup::restore(&os(), copy.as_ref(), dest.as_ref(), &RestoreOptions::default(), &mut silent)
}

/// Restores from the stream that [`crate::Backup::stream_to`] wrote, as [`restore`] does from a copy.
///
/// # Errors
/// As [`crate::backup::restore_stream`].
pub fn restore_stream(input: &mut dyn Read, dest: impl AsRef<Path>) -> Result<BackupReport> {
    backup::restore_stream(&os(), input, dest.as_ref(), &RestoreOptions::default(), &mut silent)
}
