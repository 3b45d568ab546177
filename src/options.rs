//! What is decided once for a database and remembered in it, and what holds for one open.

use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};

/// What a crash leaves while a backup is open (semantics: FB-13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contract {
    /// The newest checkpoint that was complete when the backup was opened, even if later ones completed since.
    #[default]
    Pinned,
    /// The newest complete checkpoint, as if no backup were open.
    Latest,
}

/// Settings that decide what the files mean: remembered in the root record and carried by a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Allocation unit of table files in bytes: a power of two from 512 to 1 MiB.
    pub unit: u32,
    /// What a crash leaves while a backup is open.
    pub contract: Contract,
}

/// The allocation unit where none is asked for.
pub const UNIT_DEFAULT: u32 = 4096;

impl Default for Settings {
    fn default() -> Self {
        Self { unit: UNIT_DEFAULT, contract: Contract::Pinned }
    }
}

impl Settings {
    /// Checks the values that a caller chose.
    ///
    /// # Errors
    /// `InvalidArgument` naming the limit.
    pub fn validate(&self) -> Result<()> {
        if self.unit.is_power_of_two() && (512..=1 << 20).contains(&self.unit) {
            return Ok(());
        }
        Err(Error::invalid(format!("allocation unit of {} bytes", self.unit))
            .remedy("choose a power of two from 512 to 1048576"))
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.unit);
        out.put_u8(match self.contract {
            Contract::Pinned => 0,
            Contract::Latest => 1,
        });
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
        let settings = Self { unit, contract };
        settings.validate().map_err(|e| Error::corrupt(e.message().to_owned()))?;
        Ok(settings)
    }
}
