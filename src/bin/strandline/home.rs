//! Opening the database that `-h` names, as the command needs it, and the names of what is in it.
//!
//! Commands that read open read-only: recovery, where it is needed, happens in memory, nothing is written, and a copy
//! stays a copy. Commands that write open for writing; those that create may also make the database. Closing is part of
//! the command, since it takes the checkpoint that makes the changes durable, and that can fail.

use std::path::{Path, PathBuf};

use strandline::{Database, Error, ErrorKind, Options};

use crate::report::{Failure, Outcome, Voice, While};

/// The home and the global options about it.
#[derive(Clone, Debug)]
pub struct Home {
    /// `-h`.
    pub path: PathBuf,
    /// `-r`.
    pub read_only: bool,
    /// `-R`.
    pub recover: bool,
    /// `-S`.
    pub salvage: bool,
    /// How to talk.
    pub voice: Voice,
}

impl Home {
    /// For a command that changes nothing.
    pub fn read(&self) -> Outcome<Database> {
        if self.recover && !self.read_only {
            // Opening for writing recovers, closing makes it last.
            self.close(self.open(Options::new())?)?;
        }
        self.open(Options::new().read_only(true))
    }

    /// For a command that changes an existing database.
    pub fn write(&self) -> Outcome<Database> {
        self.open(Options::new().read_only(self.read_only))
    }

    /// For a command that makes a database where there is none.
    pub fn create(&self) -> Outcome<Database> {
        if self.read_only { self.write() } else { self.open(Options::new().create(true)) }
    }

    /// Makes a database with settings of its own, where there is none.
    pub fn init(&self, options: Options) -> Outcome {
        let there = self.path.read_dir().map(|mut entries| entries.next().is_some()).unwrap_or(false);
        if there && self.open(Options::new().read_only(true)).is_ok() {
            let error = Error::new(ErrorKind::Exists, "there is a database already");
            return Err(error.remedy("choose another directory with -h")).with(self.path.display());
        }
        if self.read_only {
            return Err(Error::new(ErrorKind::ReadOnly, "a database cannot be made read-only"))
                .with(self.path.display());
        }
        let db = self.open(options.create(true))?;
        self.close(db)
    }

    /// Ends the work on a database; for a writer this is what makes it durable.
    pub fn close(&self, db: Database) -> Outcome {
        db.close().with(self.path.display())
    }

    fn open(&self, options: Options) -> Outcome<Database> {
        options.salvage(self.salvage).open(&self.path).map_err(|error| self.hinted(error)).with(self.path.display())
    }

    /// Where there is no database, the directory is what to look at, and the engine does not know how it was given.
    pub fn hinted(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::NotFound {
            return error;
        }
        let forgotten = self.path == Path::new(".");
        Error::new(ErrorKind::NotFound, error.message()).remedy(match forgotten {
            true => "give the database's directory with -h",
            false => "check the directory given with -h; create, load, write and init make a database",
        })
    }
}

/// The table that an object names: `table:NAME`, `NAME` or `file:NAME.wt`.
pub fn table_name(object: &str) -> Outcome<&str> {
    let unsupported = |message: &str| {
        Err(Error::new(ErrorKind::Unsupported, message).remedy("objects are written table:NAME")).with(object)
    };
    match object.split_once(':') {
        None => Ok(object),
        Some(("table", name)) => Ok(name),
        Some(("file", name)) => Ok(name.strip_suffix(".wt").unwrap_or(name)),
        Some(("colgroup" | "index", _)) => unsupported("column groups and indexes are not supported yet"),
        Some((kind, _)) => unsupported(&format!("there are no objects of kind `{kind}`")),
    }
}

/// The table that an object names, and the columns that it wants of it: `table:NAME(column,column)`.
pub fn table_and_columns(object: &str) -> Outcome<(&str, Option<Vec<String>>)> {
    let (object, columns) = match object.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
        Some((object, "")) => (object, Some(Vec::new())),
        Some((object, list)) => (object, Some(list.split(',').map(|name| name.trim().to_owned()).collect())),
        None => (object, None),
    };
    Ok((table_name(object)?, columns))
}

/// Wrong usage of a command, found after parsing.
pub fn usage<T>(command: &'static str, message: impl Into<String>) -> Outcome<T> {
    Err(Failure::Usage(command, message.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_name_tables() {
        for object in ["t", "table:t", "file:t.wt", "file:t"] {
            assert_eq!(table_name(object).unwrap(), "t", "{object}");
        }
        for object in ["lsm:t", "index:t:i", "colgroup:t:g", ":t"] {
            assert!(table_name(object).is_err(), "{object}");
        }
        let (name, columns) = table_and_columns("table:t(a, b)").unwrap();
        assert_eq!((name, columns), ("t", Some(vec!["a".to_owned(), "b".to_owned()])));
        assert_eq!(table_and_columns("t").unwrap(), ("t", None));
    }
}
