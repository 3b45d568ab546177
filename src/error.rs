//! One opaque error: what kind, where, and what to do about it.
//!
//! The disk's fault is [`ErrorKind::Corrupt`] or [`ErrorKind::Io`], the caller's fault is
//! [`ErrorKind::InvalidArgument`], our own fault is an assertion. An [`Error`] is one word wide, so a `Result` costs
//! nothing where nothing goes wrong.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, in the terms of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The system refused; a full device is here.
    Io,
    /// Damage, or a needed piece is missing.
    Corrupt,
    /// Another transaction wrote the key first: roll back and try again.
    Conflict,
    /// Held by a handle, a pin or another process.
    Busy,
    /// No such table, checkpoint, origin or key.
    NotFound,
    /// The name or the key is there already.
    Exists,
    /// The call makes no sense as given.
    InvalidArgument,
    /// A write to a read-only database or view.
    ReadOnly,
    /// The memory allowed is used up.
    Full,
    /// A known thing that Strandline does not do.
    Unsupported,
    /// An earlier failure made this handle unsafe: close it and open the database again.
    Poisoned,
    /// The database under this handle was closed.
    Closed,
    /// A copy, an origin or an increment does not fit.
    WrongBase,
    /// Recovery is needed and was forbidden.
    NeedsRecovery,
    /// The caller's progress callback asked to stop.
    Cancelled,
}

/// Where an error happened: a file, and a byte offset in it where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub file: PathBuf,
    /// Byte offset in the file.
    pub offset: Option<u64>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    location: Option<Location>,
    remedy: Option<String>,
    source: Option<io::Error>,
}

/// The one error of the engine: kind, place, message, remedy.
pub struct Error(Box<Inner>);

impl Error {
    /// An error of `kind` with a message; the place and the remedy are added by [`Error::at`] and [`Error::remedy`].
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), location: None, remedy: None, source: None }))
    }

    /// `InvalidArgument`.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// `Corrupt`.
    #[must_use]
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// The system's error while doing `what` to `file`.
    #[must_use]
    pub fn io(source: io::Error, what: &str, file: &Path) -> Self {
        let remedy = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free space on the device and try again",
            io::ErrorKind::PermissionDenied => "check the owner and the permissions of the file and its directory",
            io::ErrorKind::NotFound => "check the path",
            _ => "check the device and the system's log",
        };
        let mut e = Self::new(ErrorKind::Io, format!("cannot {what}: {source}")).at(file, None).remedy(remedy);
        e.0.source = Some(source);
        e
    }

    /// Adds the place, unless a more exact one is known already.
    #[must_use]
    pub fn at(mut self, file: &Path, offset: Option<u64>) -> Self {
        if self.0.location.as_ref().is_none_or(|l| l.offset.is_none() && l.file == file) {
            self.0.location = Some(Location { file: file.to_owned(), offset });
        }
        self
    }

    /// Adds what the reader can do about it, unless something closer to the cause was said already.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy.get_or_insert_with(|| remedy.into());
        self
    }

    /// Puts `context` and a colon before the message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// True when the same call, after rolling back its transaction or waiting, may succeed: `Conflict` and `Busy`.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Conflict | ErrorKind::Busy)
    }

    /// The file, and the byte offset where there is one.
    #[must_use]
    pub fn location(&self) -> Option<&Location> {
        self.0.location.as_ref()
    }

    /// The message alone, without place and remedy.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What the reader can do about it.
    #[must_use]
    pub fn remedy_text(&self) -> Option<&str> {
        self.0.remedy.as_deref()
    }

    /// The system's own error, where one is behind it.
    #[must_use]
    pub fn io_source(&self) -> Option<&io::Error> {
        self.0.source.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(l) = &self.0.location {
            write!(f, "{}", l.file.display())?;
            if let Some(offset) = l.offset {
                write!(f, " at byte {offset}")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}", self.0.message)?;
        if let Some(remedy) = &self.0.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn names_file_offset_and_remedy() {
        let e = Error::corrupt("checksum differs").at(Path::new("t.sl"), Some(4096)).remedy("restore it from a backup");
        assert_eq!(e.to_string(), "t.sl at byte 4096: checksum differs; restore it from a backup");
    }
}
