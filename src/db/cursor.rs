//! Stepping through the rows of a table: cursors and iterators.

use std::ops::{Bound, RangeBounds};

use super::merge::{Direction, Merge, Run};
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
#[derive(Debug)]
pub struct Cursor<'t> {
    rows: Box<dyn Rows + 't>,
    _in_use: Option<TableUse>,
}

/// What a cursor needs of the rows it moves over.
trait Rows: std::fmt::Debug {
    fn step(&mut self, direction: Direction) -> Result<bool>;
    fn seek(&mut self, key: &[u8]);
    fn reset(&mut self);
    fn key(&self) -> Option<&[u8]>;
    fn value(&self) -> Result<Option<Value>>;
}

impl<R: Run + std::fmt::Debug> Rows for Merge<'_, R> {
    fn step(&mut self, direction: Direction) -> Result<bool> {
        Merge::step(self, direction)
    }
    fn seek(&mut self, key: &[u8]) {
        Merge::seek(self, key);
    }
    fn reset(&mut self) {
        Merge::reset(self);
    }
    fn key(&self) -> Option<&[u8]> {
        Merge::key(self)
    }
    fn value(&self) -> Result<Option<Value>> {
        Merge::value(self)
    }
}

impl<'t> Cursor<'t> {
    pub(super) fn new<R: Run + std::fmt::Debug + 't>(rows: Merge<'t, R>, in_use: Option<TableUse>) -> Self {
        Self { rows: Box::new(rows), _in_use: in_use }
    }

    /// To the next row; false at the end.
    ///
    /// # Errors
    /// `Corrupt` with file and offset, `Io`.
    #[expect(clippy::should_implement_trait, reason = "a lending cursor cannot be an Iterator; Range is one")]
    pub fn next(&mut self) -> Result<bool> {
        self.rows.step(Direction::Forward)
    }

    /// To the row before; false at the beginning.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn prev(&mut self) -> Result<bool> {
        self.rows.step(Direction::Backward)
    }

    /// To the row of `key`; false when there is none, and the cursor then stands where it would be.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn seek(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        self.rows.seek(key);
        if self.rows.step(Direction::Forward)? && self.rows.key() == Some(key) {
            return Ok(true);
        }
        self.rows.seek(key);
        Ok(false)
    }

    /// To the row of `key`, else to the next larger, else to the next smaller; `None` when the table has no rows.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn seek_near(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Near>> {
        let key = key.as_ref();
        self.rows.seek(key);
        if self.rows.step(Direction::Forward)? {
            return Ok(Some(if self.rows.key() == Some(key) { Near::Exact } else { Near::After }));
        }
        self.rows.seek(key);
        Ok(self.rows.step(Direction::Backward)?.then_some(Near::Before))
    }

    /// Back outside the rows, as the cursor was when it was made.
    pub fn reset(&mut self) {
        self.rows.reset();
    }

    /// The key of the row; `None` when the cursor is on none.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.rows.key()
    }

    /// The value of the row; `None` when the cursor is on none.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn value(&self) -> Result<Option<Value>> {
        self.rows.value()
    }
}

/// The rows of a range of keys, from both ends. After an error it ends.
#[derive(Debug)]
pub struct Range<'t> {
    front: Cursor<'t>,
    back: Cursor<'t>,
    front_moved: bool,
    back_moved: bool,
    done: bool,
}

impl<'t> Range<'t> {
    pub(super) const fn new(front: Cursor<'t>, back: Cursor<'t>) -> Self {
        Self { front, back, front_moved: false, back_moved: false, done: false }
    }

    fn take(&mut self, forward: bool) -> Result<Option<Row>> {
        if self.done {
            return Ok(None);
        }
        let (one, other, moved) = if forward {
            self.front_moved = true;
            (&mut self.front, &self.back, self.back_moved)
        } else {
            self.back_moved = true;
            (&mut self.back, &self.front, self.front_moved)
        };
        if !(if forward { one.next()? } else { one.prev()? }) {
            self.done = true;
            return Ok(None);
        }
        // The two ends have met when one comes to a row that the other gave out.
        let met = moved && if forward { one.key() >= other.key() } else { one.key() <= other.key() };
        let Some(key) = one.key().filter(|_| !met) else {
            self.done = true;
            return Ok(None);
        };
        let row = (key.to_vec(), one.value()?.unwrap_or_else(|| Value::from(Vec::new())));
        Ok(Some(row))
    }

    fn take_or_end(&mut self, forward: bool) -> Option<Result<Row>> {
        let row = self.take(forward);
        self.done |= row.is_err();
        row.transpose()
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
