//! What of which table a dump is to show: the database or a checkpoint, the table, its columns, the rows.
//!
//! Bounds and the key sought are written in the dump's own [`Form`]. Bounds are inclusive. Around a key sought there may
//! be a window of neighbours; where the key is missing, its nearest neighbour may stand for it: the next one, or the last
//! one when there is none after it.

use std::ops::Bound;

use strandline::{CheckpointRef, Database, Error, ErrorKind, Result, Table, Transaction, View};

use crate::args::DumpArgs;
use crate::home::table_and_columns;
use crate::json_dump;
use crate::report::{Outcome, While};
use crate::schema::{Projection, Schema, record_key};
use crate::tables::missing;
use crate::text::Encoding;

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// How items are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Whole items, for a loader.
    Plain(Encoding),
    /// Columns, for people.
    People(Encoding),
    /// JSON.
    Json,
}

/// The rows of a table that are asked for.
pub enum Wanted {
    /// All from one key to another.
    Between(Bound<Vec<u8>>, Bound<Vec<u8>>),
    /// These, in this order.
    These(Vec<Row>),
}

/// Where the rows come from.
pub enum Source<'db> {
    Now { db: &'db Database, transaction: Transaction<'db> },
    Then(View),
}

/// A table to be dumped, whole or some columns of it.
pub struct Dumped {
    /// `table:NAME`.
    pub object: String,
    name: String,
    table: Option<Table>,
    schema: Schema,
    projection: Option<Projection>,
}

impl Dumped {
    /// The schema of what is shown.
    pub fn shown_schema(&self) -> &Schema {
        self.projection.as_ref().map_or(&self.schema, |projection| &projection.shown)
    }

    /// The value of a row as far as it is shown.
    pub fn shown_value(&self, row: &Row) -> Result<Vec<u8>> {
        match &self.projection {
            Some(projection) => projection.value(&row.0, &row.1),
            None => Ok(row.1.clone()),
        }
    }
}

impl<'db> Source<'db> {
    /// The newest state, or a checkpoint.
    pub fn open(db: &'db Database, checkpoint: Option<&str>) -> Outcome<Self> {
        Ok(match checkpoint {
            None => Self::Now { db, transaction: db.begin().with("dump")? },
            Some("latest") => Self::Then(db.view(CheckpointRef::Latest).with("checkpoint latest")?),
            Some(name) => Self::Then(db.view(CheckpointRef::Named(name)).with(format_args!("checkpoint {name}"))?),
        })
    }

    /// The table that an object names.
    pub fn find(&self, object: &str) -> Outcome<Dumped> {
        let (name, columns) = table_and_columns(object)?;
        let object = format!("table:{name}");
        let tables = match self {
            Self::Now { db, .. } => db.tables().with(&object)?,
            Self::Then(view) => view.tables().collect(),
        };
        let info = tables.into_iter().find(|info| info.name == name);
        let info = info.ok_or_else(missing).with(&object)?;
        let schema = Schema::of(&info).with(&object)?;
        let projection = columns.map(|wanted| schema.project(&wanted)).transpose().with(&object)?;
        let table = match self {
            Self::Now { db, .. } => Some(db.table(name).with(&object)?),
            Self::Then(_) => None,
        };
        Ok(Dumped { object, name: name.to_owned(), table, schema, projection })
    }

    /// The rows that the options ask for.
    pub fn select(&self, args: &DumpArgs, form: Form, dumped: &Dumped) -> Outcome<Wanted> {
        if let Some(text) = &args.key {
            let key = key_from_text(form, &dumped.schema, text).with("-k")?;
            return self.around(args, text, &key, dumped).map(Wanted::These);
        }
        let bound = |text: &Option<String>| -> Result<Bound<Vec<u8>>> {
            match text {
                Some(text) => Ok(Bound::Included(key_from_text(form, &dumped.schema, text)?)),
                None => Ok(Bound::Unbounded),
            }
        };
        let (lower, upper) = (bound(&args.lower).with("-l")?, bound(&args.upper).with("-u")?);
        match (&lower, &upper) {
            (Bound::Included(l), Bound::Included(u)) if l > u => Ok(Wanted::These(Vec::new())),
            _ => Ok(Wanted::Between(lower, upper)),
        }
    }

    /// The record sought, and its neighbours.
    fn around(&self, args: &DumpArgs, text: &str, key: &[u8], dumped: &Dumped) -> Outcome<Vec<Row>> {
        let found = window(self, dumped, key, args.near, args.window).with(&dumped.object)?;
        let Some(mut rows) = found else {
            let error = Error::new(ErrorKind::NotFound, "not found");
            let remedy = if args.near { "the table is empty" } else { "-n gives the nearest record" };
            return Err(error.remedy(remedy)).with(text);
        };
        if args.reverse {
            rows.reverse();
        }
        Ok(rows)
    }

    /// The rows between two keys, in order; they may be taken from both ends.
    pub fn rows<'a>(
        &'a self,
        dumped: &'a Dumped,
        bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> Result<Box<dyn DoubleEndedIterator<Item = Result<Row>> + 'a>> {
        let owned = |row: Result<strandline::Row>| row.map(|(key, value)| (key, value.to_vec()));
        Ok(match (self, &dumped.table) {
            (Self::Now { transaction, .. }, Some(table)) => Box::new(transaction.range(table, bounds)?.map(owned)),
            (Self::Now { .. }, None) => return Err(missing()),
            (Self::Then(view), _) => Box::new(view.range(&dumped.name, bounds)?.map(owned)),
        })
    }
}

/// A key as the user writes it: in the encoding of this dump.
fn key_from_text(form: Form, schema: &Schema, text: &str) -> Result<Vec<u8>> {
    if form == Form::Json && json_dump::looks_like_members(text) {
        return json_dump::key_from_text(schema, text);
    }
    if schema.key.is_record_number() {
        return record_key(text.as_bytes());
    }
    let encoding = match form {
        Form::Plain(encoding) | Form::People(encoding) => encoding,
        Form::Json => Encoding::Print,
    };
    let mut key = Vec::new();
    encoding.decode(text.as_bytes(), &mut key).map_err(|_| {
        Error::invalid(format!("invalid hexadecimal in `{text}`"))
            .remedy("write keys as the dump does; text of format S ends in \\00, in hex in 00")
    })?;
    Ok(key)
}

/// Up to `count` records before and after the one sought; none when there is none.
fn window(source: &Source<'_>, dumped: &Dumped, key: &[u8], near: bool, count: u64) -> Result<Option<Vec<Row>>> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let from = |bound: Bound<Vec<u8>>| source.rows(dumped, (bound, Bound::Unbounded));
    let to = |bound: Bound<Vec<u8>>| source.rows(dumped, (Bound::Unbounded, bound));
    let mut centre = from(Bound::Included(key.to_vec()))?.next().transpose()?;
    if centre.as_ref().is_none_or(|row| row.0 != key) {
        if !near {
            return Ok(None);
        }
        if centre.is_none() {
            centre = to(Bound::Excluded(key.to_vec()))?.next_back().transpose()?;
        }
    }
    let Some(centre) = centre else { return Ok(None) };
    let before = to(Bound::Excluded(centre.0.clone()))?.rev().take(count).collect::<Result<Vec<_>>>()?;
    let after = from(Bound::Excluded(centre.0.clone()))?.take(count).collect::<Result<Vec<_>>>()?;
    Ok(Some(before.into_iter().rev().chain([centre]).chain(after).collect()))
}
