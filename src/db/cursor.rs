//! Stepping through the rows of a table: cursors and iterators.

use std::ops::{Bound, RangeBounds};

use super::merge::{Direction, Merge};
use super::table::Table;
use super::transaction::Transaction;
use super::view::View;
use crate::btree::{ReaderCursor, TreeCursor};
use crate::catalog::TableUse;
use crate::error::Result;
use crate::page::Value;

/// A row, as iterators give it.
pub type Row = (Vec<u8>, Value);

/// Where [`Cursor::seek_near`] came to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Near {
    /// On the key itself.
    Exact,
    /// On the next larger key.
    After,
    /// On the next smaller key, because there is no larger one.
    Before,
}

/// A place among the rows of a table, moved by hand. Reading a row copies nothing.
///
/// A cursor starts outside the rows: `next` then goes to the first, `prev` to the last. Past either end a move gives
/// false, again and again, and a move back goes to the row at that end.
///
/// ```
/// # fn main() -> strandline::Result<()> {
/// # let vfs = std::sync::Arc::new(strandline_vfs::mem::MemVfs::new());
/// # let db = strandline::Options::new().vfs(vfs).create(true).open("/db")?;
/// # let people = db.create_table("people", strandline::TableOptions::new())?;
/// let tx = db.begin()?;
/// let mut cursor = tx.cursor(&people)?;
/// while cursor.next()? {
///     if let Some((key, value)) = cursor.row()? {
///         println!("{} = {}", key.escape_ascii(), value.escape_ascii());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cursor<'t> {
    rows: Rows<'t>,
    /// The value of the row, where it had to be read from blocks of its own.
    large: Option<Value>,
    _in_use: Option<TableUse>,
}

/// The rows of the live tree, or of a checkpoint. Two cases in place of a trait object, so that a step is inlined.
#[derive(Debug)]
enum Rows<'t> {
    Live(Merge<'t, TreeCursor>),
    Stored(Merge<'t, ReaderCursor>),
}

macro_rules! rows {
    ($self:ident, $rows:ident => $call:expr) => {
        match &$self.rows {
            Rows::Live($rows) => $call,
            Rows::Stored($rows) => $call,
        }
    };
    (mut $self:ident, $rows:ident => $call:expr) => {
        match &mut $self.rows {
            Rows::Live($rows) => $call,
            Rows::Stored($rows) => $call,
        }
    };
}

impl<'t> Cursor<'t> {
    pub(super) fn live(rows: Merge<'t, TreeCursor>, in_use: TableUse) -> Self {
        Self { rows: Rows::Live(rows), large: None, _in_use: Some(in_use) }
    }

    pub(super) fn stored(rows: Merge<'t, ReaderCursor>) -> Self {
        Self { rows: Rows::Stored(rows), large: None, _in_use: None }
    }

    fn step(&mut self, direction: Direction) -> Result<bool> {
        self.large = None;
        rows!(mut self, rows => rows.step(direction))
    }

    fn put_before(&mut self, key: &[u8]) {
        self.large = None;
        rows!(mut self, rows => rows.seek(key));
    }

    /// To the next row; false at the end.
    ///
    /// # Errors
    /// `Corrupt` with file and offset, `Io`.
    #[expect(clippy::should_implement_trait, reason = "a lending cursor cannot be an Iterator; Range is one")]
    pub fn next(&mut self) -> Result<bool> {
        self.step(Direction::Forward)
    }

    /// To the row before; false at the beginning.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn prev(&mut self) -> Result<bool> {
        self.step(Direction::Backward)
    }

    /// To the row of `key`; false when there is none, and the cursor then stands where it would be.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn seek(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        self.put_before(key);
        if self.step(Direction::Forward)? && self.key() == Some(key) {
            return Ok(true);
        }
        self.put_before(key);
        Ok(false)
    }

    /// To the row of `key`, else to the next larger, else to the next smaller; `None` when the table has no rows.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn seek_near(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Near>> {
        let key = key.as_ref();
        self.put_before(key);
        if self.step(Direction::Forward)? {
            return Ok(Some(if self.key() == Some(key) { Near::Exact } else { Near::After }));
        }
        self.put_before(key);
        Ok(self.step(Direction::Backward)?.then_some(Near::Before))
    }

    /// Back outside the rows, as the cursor was when it was made.
    pub fn reset(&mut self) {
        self.large = None;
        rows!(mut self, rows => rows.reset());
    }

    /// The key of the row; `None` when the cursor is on none.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        rows!(self, rows => rows.key())
    }

    /// The value of the row, to keep; `None` when the cursor is on none.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn value(&self) -> Result<Option<Value>> {
        match &self.large {
            Some(large) => Ok(Some(large.clone())),
            None => rows!(self, rows => rows.value()),
        }
    }

    /// Key and value of the row, borrowed until the next move; `None` when the cursor is on none.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn row(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let Some(key) = rows!(self, rows => rows.key()) else { return Ok(None) };
        if self.large.is_none() {
            if let Some(value) = rows!(self, rows => rows.inline_value()) {
                return Ok(Some((key, value)));
            }
            self.large = rows!(self, rows => rows.value())?;
        }
        let value = self.large.as_deref().unwrap_or_default();
        Ok(Some((key, value)))
    }
}

/// The rows of a range of keys, from both ends. After an error it ends.
#[derive(Debug)]
pub struct Range<'t> {
    source: Source<'t>,
    lo: Bound<Vec<u8>>,
    hi: Bound<Vec<u8>>,
    /// Made by the first step from that end.
    front: Option<Cursor<'t>>,
    back: Option<Cursor<'t>>,
    done: bool,
}

/// Whose rows they are.
#[derive(Debug)]
pub(super) enum Source<'t> {
    Live(&'t Transaction<'t>, Table),
    Stored(&'t View, String),
}

impl<'t> Range<'t> {
    /// # Errors
    /// Those of the table: it is looked up at once.
    pub(super) fn new(source: Source<'t>, lo: Bound<Vec<u8>>, hi: Bound<Vec<u8>>) -> Result<Self> {
        let front = Some(source.cursor(&lo, &hi)?);
        Ok(Self { source, lo, hi, front, back: None, done: false })
    }

    fn take(&mut self, forward: bool) -> Result<Option<Row>> {
        if self.done {
            return Ok(None);
        }
        let (one, other) = if forward { (&mut self.front, &self.back) } else { (&mut self.back, &self.front) };
        let one = match one {
            Some(one) => one,
            none => none.insert(self.source.cursor(&self.lo, &self.hi)?),
        };
        self.done = true;
        if !(if forward { one.next()? } else { one.prev()? }) {
            return Ok(None);
        }
        // The two ends have met when one comes to a row that the other gave out.
        let met = match (one.key(), other.as_ref().and_then(Cursor::key)) {
            (Some(one), Some(other)) => {
                if forward {
                    one >= other
                } else {
                    one <= other
                }
            }
            _ => false,
        };
        let Some((key, value)) = one.key().map(<[u8]>::to_vec).zip(one.value()?).filter(|_| !met) else {
            return Ok(None);
        };
        self.done = false;
        Ok(Some((key, value)))
    }

    fn take_or_end(&mut self, forward: bool) -> Option<Result<Row>> {
        self.take(forward).transpose()
    }
}

impl<'t> Source<'t> {
    fn cursor(&self, lo: &Bound<Vec<u8>>, hi: &Bound<Vec<u8>>) -> Result<Cursor<'t>> {
        match self {
            Self::Live(transaction, table) => transaction.merged(table, lo.clone(), hi.clone()),
            Self::Stored(view, table) => view.one(table, lo.clone(), hi.clone()),
        }
    }
}

impl Iterator for Range<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take_or_end(true)
    }
}

impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take_or_end(false)
    }
}

/// Owned bounds of any range of keys.
pub(super) fn bounds<K: AsRef<[u8]>>(range: &impl RangeBounds<K>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let own = |b: Bound<&K>| b.map(|k| k.as_ref().to_vec());
    (own(range.start_bound()), own(range.end_bound()))
}

/// The bounds of all keys that begin with `prefix`.
pub(super) fn prefix_bounds(prefix: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let mut end = prefix.to_vec();
    while end.last() == Some(&0xff) {
        end.pop();
    }
    match end.last_mut() {
        Some(last) => {
            *last += 1;
            (Bound::Included(prefix.to_vec()), Bound::Excluded(end))
        }
        None => (Bound::Included(prefix.to_vec()), Bound::Unbounded),
    }
}

/// Bounds as the rooms below take them.
pub(super) fn as_slices<'a>(lo: &'a Bound<Vec<u8>>, hi: &'a Bound<Vec<u8>>) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (lo.as_ref().map(Vec::as_slice), hi.as_ref().map(Vec::as_slice))
}
