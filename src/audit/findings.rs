//! What an audit finds, and when it stops.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};

/// When an audit stops after damage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDamage {
    /// One finding per table, then on to the next table.
    #[default]
    NextTable,
    /// List all that can be found.
    GoOn,
    /// Stop at the first finding.
    Stop,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is lost and no answer will be wrong, but it should not be so.
    Warning,
    /// Something cannot be read, or an invariant does not hold.
    Damage,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it belongs to: `table:NAME`, `catalog`, `root record`, `manifest`.
    pub object: String,
    /// The file.
    pub file: PathBuf,
    /// Byte offset in the file, where there is one.
    pub offset: Option<u64>,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
}

impl Finding {
    /// The finding as an error: `Corrupt`, with file and offset.
    #[must_use]
    pub fn to_error(&self) -> Error {
        Error::corrupt(format!("{}: {}", self.object, self.what))
            .at(&self.file, self.offset)
            .remedy("restore what is damaged from a backup")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.file.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        let warning = if self.severity == Severity::Warning { "warning: " } else { "" };
        write!(f, ": {warning}{}", self.what)
    }
}

/// Why a walk does not go on.
#[derive(Debug)]
pub enum Halt {
    /// Enough was found in this table.
    Table,
    /// Enough was found.
    All,
    /// The caller wants no more, or something failed that says nothing about the database.
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

/// A step of a walk.
pub type Step<T = ()> = std::result::Result<T, Halt>;

/// All findings so far, and the rule for stopping.
#[derive(Debug)]
pub struct Findings {
    on_damage: OnDamage,
    list: Vec<Finding>,
}

impl Findings {
    /// None yet.
    #[must_use]
    pub const fn new(on_damage: OnDamage) -> Self {
        Self { on_damage, list: Vec::new() }
    }

    /// Notes a finding, and says whether to go on.
    ///
    /// # Errors
    /// The halt that the caller asked for.
    pub fn note(&mut self, finding: Finding) -> Step {
        let damage = finding.severity == Severity::Damage;
        self.list.push(finding);
        match self.on_damage {
            OnDamage::NextTable if damage => Err(Halt::Table),
            OnDamage::Stop if damage => Err(Halt::All),
            _ => Ok(()),
        }
    }

    /// Ends the part of the audit that belongs to one table: true when the audit goes on with the next.
    ///
    /// # Errors
    /// What failed.
    pub fn table_done(&self, step: Step) -> Result<bool> {
        match step {
            Ok(()) | Err(Halt::Table) => Ok(true),
            Err(Halt::All) => Ok(false),
            Err(Halt::Failed(e)) => Err(e),
        }
    }

    /// Whether there is any damage.
    #[must_use]
    pub fn damaged(&self) -> bool {
        self.list.iter().any(|f| f.severity == Severity::Damage)
    }

    /// The list.
    #[must_use]
    pub fn into_list(self) -> Vec<Finding> {
        self.list
    }
}

/// True for errors that tell about the bytes read and are findings therefore; the others end the audit.
#[must_use]
pub fn is_finding(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Io | ErrorKind::Unsupported)
}
