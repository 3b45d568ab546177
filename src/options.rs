//! What is decided once for a database and remembered in it, and what holds for one open.

use std::path::{Component, Path};

use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};

/// What a crash leaves while a backup is open (semantics: FB-13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contract {
    /// The newest checkpoint that was complete when the backup was opened, even if later ones completed since; with a log,
    /// every durable commit on top of it. The checkpoints taken meanwhile are given up, so the history forks there for increments
    /// by blocks; the log goes on, and increments from it still join what was copied before.
    #[default]
    Pinned,
    /// The newest complete checkpoint, as if no backup were open.
    Latest,
}

/// When a commit that has returned survives (semantics: LG-3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// It is in the engine's memory, and is written soon: it survives neither a crash of the process nor one of the system.
    Buffered,
    /// It was handed to the system: it survives a crash of the process, not one of the system.
    Write,
    /// It is on the device: it survives both.
    #[default]
    Sync,
}

/// How a database keeps its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// The directory of the segments, relative to the home or absolute; the home itself when there is none.
    pub dir: Option<String>,
    /// Segments that no recovery needs stay until they are removed by a call, so that increments can carry them.
    pub keep: bool,
}

/// Settings that decide what the files mean: remembered in the root record and carried by a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Allocation unit of table files in bytes: a power of two from 512 to 1 MiB. Synced writes to the log are padded to it.
    pub unit: u32,
    /// What a crash leaves while a backup is open.
    pub contract: Contract,
    /// The log; `None` when there is none, and then a commit is durable with the next checkpoint.
    pub log: Option<LogSettings>,
}

fn leads_out(dir: &Path) -> bool {
    !dir.is_absolute() && dir.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
}

/// The longest path of a log directory, in bytes.
pub const LOG_DIR_MAX: usize = 1024;

/// The allocation unit where none is asked for.
pub const UNIT_DEFAULT: u32 = 4096;

impl Default for Settings {
    fn default() -> Self {
        Self { unit: UNIT_DEFAULT, contract: Contract::Pinned, log: None }
    }
}

impl Settings {
    /// Checks the values that a caller chose.
    ///
    /// # Errors
    /// `InvalidArgument` naming the limit.
    pub fn validate(&self) -> Result<()> {
        if !self.unit.is_power_of_two() || !(512..=1 << 20).contains(&self.unit) {
            return Err(Error::invalid(format!("allocation unit of {} bytes", self.unit))
                .remedy("choose a power of two from 512 to 1048576"));
        }
        match self.log.as_ref().and_then(|log| log.dir.as_ref()) {
            Some(dir) if dir.is_empty() || dir.len() > LOG_DIR_MAX => {
                Err(Error::invalid(format!("a log directory's path of {} bytes", dir.len()))
                    .remedy(format!("choose one of 1 to {LOG_DIR_MAX} bytes")))
            }
            // A copy keeps a relative path. One that leads out of the home would lead it to the log of the source.
            Some(dir) if leads_out(Path::new(dir)) => {
                Err(Error::invalid(format!("the log directory `{dir}` is relative and leads out of the home"))
                    .remedy("name a directory outside of the home by its absolute path"))
            }
            _ => Ok(()),
        }
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.unit);
        out.put_u8(match self.contract {
            Contract::Pinned => 0,
            Contract::Latest => 1,
        });
        let Some(log) = &self.log else { return out.put_u8(0) };
        out.put_u8(if log.keep { 2 } else { 1 });
        out.put_bytes(log.dir.as_deref().unwrap_or_default().as_bytes());
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// `Corrupt` for values that were never written.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let unit = r.u32()?;
        let contract = match r.u8()? {
            0 => Contract::Pinned,
            1 => Contract::Latest,
            n => return Err(Error::corrupt(format!("unknown contract {n}"))),
        };
        let log = match r.u8()? {
            0 => None,
            n @ (1 | 2) => {
                let dir = r.text()?;
                Some(LogSettings { dir: (!dir.is_empty()).then(|| dir.to_owned()), keep: n == 2 })
            }
            n => return Err(Error::corrupt(format!("unknown state of the log {n}"))),
        };
        let settings = Self { unit, contract, log };
        settings.validate().map_err(|e| Error::corrupt(e.message().to_owned()))?;
        Ok(settings)
    }
}
