//! The rows of a table as one transaction sees them: the tree at its snapshot, overlaid with what it wrote itself.
//!
//! Two sorted runs are stepped side by side; where both have a key the transaction's own write wins, and a deletion hides
//! the row. The place is a gap between rows or on a row; after a change of direction both runs are put at the row again.

use std::ops::Bound;
use std::sync::Arc;

use crate::btree::{ReaderCursor, TreeCursor};
use crate::error::Result;
use crate::page::Value;
use crate::txn::TableWrites;

/// What the two kinds of cursor over a tree have in common.
pub(super) trait Run {
    /// To the next row; false at the end of the bounds.
    fn next(&mut self) -> Result<bool>;
    /// To the row before; false at the beginning of the bounds.
    fn prev(&mut self) -> Result<bool>;
    /// Into the gap before the first key at or after `key`.
    fn seek(&mut self, key: &[u8]);
    /// Where a new cursor stands: before the first row for `next`, after the last for `prev`.
    fn reset(&mut self);
    /// The row's key.
    fn key(&self) -> &[u8];
    /// The row's value, if it is in the page itself.
    fn inline_value(&self) -> Option<&[u8]>;
    /// The row's value.
    fn value(&self) -> Result<Value>;
}

macro_rules! run {
    ($type:ty) => {
        impl Run for $type {
            fn next(&mut self) -> Result<bool> {
                <$type>::next(self)
            }
            fn prev(&mut self) -> Result<bool> {
                <$type>::prev(self)
            }
            fn seek(&mut self, key: &[u8]) {
                <$type>::seek(self, key);
            }
            fn reset(&mut self) {
                <$type>::reset(self);
            }
            fn key(&self) -> &[u8] {
                <$type>::key(self)
            }
            fn inline_value(&self) -> Option<&[u8]> {
                <$type>::inline_value(self)
            }
            fn value(&self) -> Result<Value> {
                <$type>::value(self)
            }
        }
    };
}

run!(TreeCursor);
run!(ReaderCursor);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    Backward,
}

/// Where the row comes from.
#[derive(Debug)]
enum At {
    /// Nowhere yet: before the first row and after the last.
    Fresh,
    /// In the gap before this key.
    Gap(Vec<u8>),
    /// On the tree's row.
    Tree,
    /// On a row that the transaction wrote.
    Write(Arc<[u8]>, Arc<[u8]>),
    /// Past the last row in this direction.
    End(Direction),
}

/// A key that the transaction wrote, and the value; `None` for a deletion.
type Write<'t> = (&'t Arc<[u8]>, &'t Option<Arc<[u8]>>);

/// A cursor over both.
#[derive(Debug)]
pub(super) struct Merge<'t, R> {
    run: R,
    writes: Option<&'t TableWrites>,
    lo: Bound<Vec<u8>>,
    hi: Bound<Vec<u8>>,
    at: At,
    direction: Direction,
    /// The tree stands on a row that was not given out yet.
    ahead: bool,
    /// The tree has no more rows in this direction.
    exhausted: bool,
}

impl<'t, R: Run> Merge<'t, R> {
    /// `make` makes a fresh cursor over the same bounds.
    pub fn new(run: R, writes: Option<&'t TableWrites>, lo: Bound<Vec<u8>>, hi: Bound<Vec<u8>>) -> Self {
        let writes = writes.filter(|w| !w.is_empty());
        let direction = Direction::Forward;
        Self { run, writes, lo, hi, at: At::Fresh, direction, ahead: false, exhausted: false }
    }

    /// The row's key.
    pub fn key(&self) -> Option<&[u8]> {
        match &self.at {
            At::Tree => Some(self.run.key()),
            At::Write(key, _) => Some(key),
            _ => None,
        }
    }

    /// The row's value, if it need not be read first.
    #[inline]
    pub fn inline_value(&self) -> Option<&[u8]> {
        match &self.at {
            At::Tree => self.run.inline_value(),
            At::Write(_, value) => Some(value),
            _ => None,
        }
    }

    /// The row's value.
    pub fn value(&self) -> Result<Option<Value>> {
        match &self.at {
            At::Tree => self.run.value().map(Some),
            At::Write(_, value) => Ok(Some(Value::from(Arc::clone(value)))),
            _ => Ok(None),
        }
    }

    /// Into the gap before the first row at or after `key`.
    pub fn seek(&mut self, key: &[u8]) {
        self.at = At::Gap(key.to_vec());
        (self.ahead, self.exhausted) = (false, false);
    }

    /// Outside the rows, as at first.
    pub fn reset(&mut self) {
        self.at = At::Fresh;
        (self.ahead, self.exhausted) = (false, false);
    }

    /// One row on; false at the end, again and again.
    #[inline]
    pub fn step(&mut self, direction: Direction) -> Result<bool> {
        if let (At::Tree, None) = (&self.at, self.writes)
            && direction == self.direction
        {
            // The common case: a scan of a table that the transaction did not write.
            if self.step_tree()? {
                return Ok(true);
            }
            self.at = At::End(direction);
            return Ok(false);
        }
        self.step_merged(direction)
    }

    fn step_tree(&mut self) -> Result<bool> {
        match self.direction {
            Direction::Forward => self.run.next(),
            Direction::Backward => self.run.prev(),
        }
    }

    fn step_merged(&mut self, direction: Direction) -> Result<bool> {
        if !self.turn(direction) {
            return Ok(false);
        }
        loop {
            // First the write: it is looked up from the place, and the tree's row may be the place.
            let write = self.next_write();
            if !self.ahead && !self.exhausted {
                self.ahead = self.step_tree()?;
                self.exhausted = !self.ahead;
            }
            let order = match (self.ahead, write) {
                (false, None) => {
                    self.at = At::End(direction);
                    return Ok(false);
                }
                (true, None) => std::cmp::Ordering::Less,
                (false, Some(_)) => std::cmp::Ordering::Greater,
                (true, Some((key, _))) => {
                    let order = self.run.key().cmp(key);
                    if direction == Direction::Forward { order } else { order.reverse() }
                }
            };
            if order.is_le() {
                self.ahead = false;
            }
            match write {
                Some((key, value)) if order.is_ge() => match value {
                    Some(value) => {
                        self.at = At::Write(Arc::clone(key), Arc::clone(value));
                        return Ok(true);
                    }
                    // A deletion hides the tree's row, if there is one, and is itself no row.
                    None => self.at = At::Write(Arc::clone(key), Arc::from([])),
                },
                _ => {
                    self.at = At::Tree;
                    return Ok(true);
                }
            }
        }
    }

    /// Puts the tree where stepping in `direction` goes on; false when that end was reached before.
    fn turn(&mut self, direction: Direction) -> bool {
        let same = self.direction == direction;
        match &self.at {
            At::End(end) if *end == direction => return false,
            At::Tree if same => return true,
            At::Write(..) if same => return true,
            _ => {}
        }
        self.direction = direction;
        let place = match &self.at {
            At::Fresh | At::End(_) => None,
            At::Gap(key) => Some(key.clone()),
            At::Tree => Some(self.run.key().to_vec()),
            At::Write(key, _) => Some(key.to_vec()),
        };
        let on_row = matches!(self.at, At::Tree | At::Write(..));
        match place {
            Some(mut key) => {
                // After a row, forwards means after its key; backwards means before it either way.
                if on_row && direction == Direction::Forward {
                    key.push(0);
                }
                self.run.seek(&key);
            }
            None => self.run.reset(),
        }
        (self.ahead, self.exhausted) = (false, false);
        true
    }

    /// The transaction's next write beyond the place.
    fn next_write(&self) -> Option<Write<'t>> {
        let writes = self.writes?;
        let forward = self.direction == Direction::Forward;
        let lo = self.lo.as_ref().map(Vec::as_slice);
        let hi = self.hi.as_ref().map(Vec::as_slice);
        let place = match &self.at {
            At::Fresh | At::End(_) => Bound::Unbounded,
            At::Gap(key) if forward => Bound::Included(key.as_slice()),
            At::Gap(key) => Bound::Excluded(key.as_slice()),
            At::Tree => Bound::Excluded(self.run.key()),
            At::Write(key, _) => Bound::Excluded(&**key),
        };
        let (lo, hi) = if forward { (tighter(lo, place, true), hi) } else { (lo, tighter(hi, place, false)) };
        if is_empty(lo, hi) {
            return None;
        }
        let mut range = writes.range::<[u8], _>((lo, hi));
        if forward { range.next() } else { range.next_back() }
    }
}

/// The bound that leaves fewer keys.
fn tighter<'a>(a: Bound<&'a [u8]>, b: Bound<&'a [u8]>, lower: bool) -> Bound<&'a [u8]> {
    let (ka, kb) = match (a, b) {
        (Bound::Unbounded, _) => return b,
        (_, Bound::Unbounded) => return a,
        (Bound::Included(ka) | Bound::Excluded(ka), Bound::Included(kb) | Bound::Excluded(kb)) => (ka, kb),
    };
    match ka.cmp(kb) {
        std::cmp::Ordering::Equal if matches!(a, Bound::Excluded(_)) => a,
        std::cmp::Ordering::Equal => b,
        std::cmp::Ordering::Less => {
            if lower {
                b
            } else {
                a
            }
        }
        std::cmp::Ordering::Greater => {
            if lower {
                a
            } else {
                b
            }
        }
    }
}

/// True when no key can lie between the bounds; the standard library's maps refuse such a range.
pub(super) fn is_empty(lo: Bound<&[u8]>, hi: Bound<&[u8]>) -> bool {
    match (lo, hi) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(a), Bound::Included(b)) => a > b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a >= b,
    }
}
