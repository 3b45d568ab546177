//! Scans, in both directions, over the live tree at a snapshot or over a stored tree.
//!
//! A cursor looks at one leaf at a time. It takes what its snapshot sees of that leaf (the shared image and a copy of the
//! few visible versions) and lets the leaf go: no lock and no pin outlives a call, and commits, splits and evictions go on
//! underneath. From the leaf's bounds it knows where the next one begins. Since one snapshot sees every leaf, it does not
//! matter that leaves are looked at one after another.
//!
//! A cursor stands between two records, or before the first or after the last: `next` passes the record after, `prev` the one
//! before.

use std::cmp::Ordering;
use std::ops::{Bound, Range};
use std::sync::Arc;

use crate::error::Result;
use crate::page::{CellValue, LeafImage, OverflowRef, Value};
use crate::types::CommitSeq;

use super::inner::{Child, Inner};
use super::leaf::{Body, Leaf, trusted_reference};
use super::reader::TreeReader;
use super::tree::{Place, Tree};
use super::versions::Change;

/// Where a cursor gets its leaves from.
pub trait LeafSource {
    /// What there is to see of the leaf at a place.
    ///
    /// # Errors
    /// `Corrupt` or `Io`.
    fn leaf(&self, place: Place<'_>) -> Result<LeafView>;

    /// A value from its overflow blocks.
    ///
    /// # Errors
    /// `Corrupt` or `Io`.
    fn large(&self, reference: &OverflowRef) -> Result<Value>;
}

/// What a snapshot sees of one leaf.
#[derive(Clone, Debug)]
pub struct LeafView {
    image: LeafImage,
    /// Keys and values of visible versions.
    bytes: Arc<[u8]>,
    /// The records in order; empty when they are just the cells of the image.
    rows: Vec<Row>,
    low: Option<Vec<u8>>,
    high: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Row {
    Cell(usize),
    Version { key: Range<usize>, value: Range<usize>, large: bool },
}

impl LeafView {
    /// An image as it is.
    pub(super) fn stored(image: LeafImage, low: Option<&[u8]>, high: Option<&[u8]>) -> Self {
        let (low, high) = (low.map(<[u8]>::to_vec), high.map(<[u8]>::to_vec));
        Self { image, bytes: Arc::from([]), rows: Vec::new(), low, high }
    }

    /// What a snapshot sees of a leaf whose image is in memory.
    fn live(image: &LeafImage, body: &Body, snapshot: CommitSeq, low: Option<&[u8]>, high: Option<&[u8]>) -> Self {
        let mut view = Self::stored(image.clone(), low, high);
        if !body.versions.is_empty() {
            view.overlay(body, snapshot);
        }
        view
    }

    fn overlay(&mut self, body: &Body, snapshot: CommitSeq) {
        let versions = &body.versions;
        let (mut cell, mut entry) = (0, 0);
        let mut bytes = Vec::new();
        let mut rows = Vec::with_capacity(self.image.len() + versions.len());
        while entry < versions.len() {
            let group = versions.group(entry);
            let key = versions.key(entry);
            entry = group.end;
            let Some(seen) = versions.visible_in(group, snapshot) else { continue };
            let at = self.image.search(key);
            let upto = at.unwrap_or_else(|at| at);
            rows.extend((cell..upto).map(Row::Cell));
            cell = upto + usize::from(at.is_ok());
            if let Change::Put(value) = versions.change(seen) {
                let start = bytes.len();
                bytes.extend_from_slice(key);
                let middle = bytes.len();
                bytes.extend_from_slice(value.bytes());
                let large = matches!(value, CellValue::Overflow(_));
                rows.push(Row::Version { key: start..middle, value: middle..bytes.len(), large });
            }
        }
        if cell == 0 && rows.is_empty() {
            return;
        }
        rows.extend((cell..self.image.len()).map(Row::Cell));
        if rows.is_empty() {
            self.image = LeafImage::empty();
        }
        (self.rows, self.bytes) = (rows, Arc::from(bytes));
    }

    fn len(&self) -> usize {
        if self.rows.is_empty() { self.image.len() } else { self.rows.len() }
    }

    fn row(&self, i: usize) -> Row {
        if self.rows.is_empty() { Row::Cell(i) } else { self.rows[i].clone() }
    }

    fn compare(&self, i: usize, key: &[u8]) -> Ordering {
        match self.row(i) {
            Row::Cell(cell) => self.image.compare(cell, key),
            Row::Version { key: own, .. } => self.bytes[own].cmp(key),
        }
    }

    /// The first record at or above a key; above it if `above`.
    fn position(&self, key: &[u8], above: bool) -> usize {
        if self.rows.is_empty() && !above {
            return self.image.search(key).unwrap_or_else(|at| at);
        }
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            match self.compare(middle, key) {
                Ordering::Less => from = middle + 1,
                Ordering::Equal => return middle + usize::from(above),
                Ordering::Greater => to = middle,
            }
        }
        from
    }
}

/// A scan over the records of a range, in both directions.
#[derive(Debug)]
pub struct Cursor<S> {
    source: S,
    low: Bound<Vec<u8>>,
    high: Bound<Vec<u8>>,
    view: Option<LeafView>,
    /// The records of the view that are in the range, and the gap in which the cursor stands.
    range: Range<usize>,
    gap: usize,
    /// The record passed last.
    row: Option<usize>,
    key: Vec<u8>,
    /// Bytes at the start of `key` that are the view's prefix.
    prefix: usize,
    /// A position that was asked for and not gone to yet.
    sought: Option<Vec<u8>>,
}

/// A scan over the live tree.
pub type TreeCursor = Cursor<LiveSource>;

/// A scan over a stored tree.
pub type ReaderCursor = Cursor<Arc<TreeReader>>;

fn own(bound: Bound<&[u8]>) -> Bound<Vec<u8>> {
    bound.map(<[u8]>::to_vec)
}

impl<S: LeafSource> Cursor<S> {
    /// A cursor over the records between two bounds. It stands before the first for [`Cursor::next`], and after the last for
    /// [`Cursor::prev`], until it is first moved.
    pub fn new(source: S, low: Bound<&[u8]>, high: Bound<&[u8]>) -> Self {
        Self {
            source,
            low: own(low),
            high: own(high),
            view: None,
            range: 0..0,
            gap: 0,
            row: None,
            key: Vec::new(),
            prefix: 0,
            sought: None,
        }
    }

    /// Stands before the first record at or above `key`. Nothing is read before the next move.
    pub fn seek(&mut self, key: &[u8]) {
        self.row = None;
        self.sought = Some(key.to_vec());
    }

    /// Stands where a new cursor stands.
    pub fn reset(&mut self) {
        (self.row, self.view, self.sought) = (None, None, None);
    }

    /// Passes the next record. False at the end of the range, where the cursor stays.
    ///
    /// # Errors
    /// `Corrupt` or `Io` from a page that had to be read.
    #[expect(clippy::should_implement_trait, reason = "it lends what it passes, which an iterator cannot")]
    pub fn next(&mut self) -> Result<bool> {
        if self.sought.is_some() || self.view.is_none() {
            self.start(true)?;
        }
        while self.gap >= self.range.end {
            self.row = None;
            let Some(high) = self.view.as_mut().and_then(|view| view.high.take()) else { return Ok(false) };
            let beyond = match &self.high {
                Bound::Included(bound) => high > *bound,
                Bound::Excluded(bound) => high >= *bound,
                Bound::Unbounded => false,
            };
            let loaded = if beyond { Ok(false) } else { self.load(Place::At(&high)).map(|()| true) };
            match loaded {
                Ok(true) => self.gap = self.place_of(&high),
                other => {
                    self.view.iter_mut().for_each(|view| view.high = Some(high.clone()));
                    return other;
                }
            }
        }
        self.show(self.gap);
        self.gap += 1;
        Ok(true)
    }

    /// Passes the record before. False at the start of the range, where the cursor stays.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub fn prev(&mut self) -> Result<bool> {
        if self.sought.is_some() || self.view.is_none() {
            self.start(false)?;
        }
        while self.gap <= self.range.start {
            self.row = None;
            let Some(low) = self.view.as_mut().and_then(|view| view.low.take()) else { return Ok(false) };
            let beyond = match &self.low {
                Bound::Included(bound) | Bound::Excluded(bound) => low <= *bound,
                Bound::Unbounded => false,
            };
            let loaded = if beyond { Ok(false) } else { self.load(Place::Below(&low)).map(|()| true) };
            match loaded {
                Ok(true) => self.gap = self.place_of(&low),
                other => {
                    self.view.iter_mut().for_each(|view| view.low = Some(low.clone()));
                    return other;
                }
            }
        }
        self.gap -= 1;
        self.show(self.gap);
        Ok(true)
    }

    /// The key of the record passed last; empty when there is none.
    pub fn key(&self) -> &[u8] {
        if self.row.is_some() { &self.key } else { &[] }
    }

    /// The value of the record passed last, if it is in the leaf itself.
    pub fn inline_value(&self) -> Option<&[u8]> {
        let view = self.view.as_ref()?;
        match view.row(self.row?) {
            Row::Cell(i) => match view.image.value(i) {
                CellValue::Inline(bytes) => Some(bytes),
                CellValue::Overflow(_) => None,
            },
            Row::Version { value, large: false, .. } => Some(&view.bytes[value]),
            Row::Version { .. } => None,
        }
    }

    /// The value of the record passed last; empty when there is none.
    ///
    /// # Errors
    /// `Corrupt` or `Io` from a large value's blocks.
    pub fn value(&self) -> Result<Value> {
        let (Some(view), Some(row)) = (&self.view, self.row) else { return Ok(Value::from(&[][..])) };
        match view.row(row) {
            Row::Cell(i) => match view.image.shared_value(i) {
                Some(value) => Ok(value),
                None => self.source.large(&trusted_reference(view.image.value(i).bytes())),
            },
            Row::Version { value, large: true, .. } => self.source.large(&trusted_reference(&view.bytes[value])),
            Row::Version { value, .. } => Ok(Value::slice(Arc::clone(&view.bytes), value.start, value.len())),
        }
    }

    /// Goes to the position asked for, or to the end that the first move starts from.
    fn start(&mut self, forward: bool) -> Result<()> {
        let sought = self.sought.take();
        let went = match (&sought, forward) {
            (Some(key), true) => self.load(Place::At(key)),
            (Some(key), false) => self.load(Place::Below(key)),
            (None, true) => match self.low.clone() {
                Bound::Included(key) | Bound::Excluded(key) => self.load(Place::At(&key)),
                Bound::Unbounded => self.load(Place::At(&[])),
            },
            (None, false) => match self.high.clone() {
                Bound::Included(key) => self.load(Place::At(&key)),
                Bound::Excluded(key) => self.load(Place::Below(&key)),
                Bound::Unbounded => self.load(Place::Last),
            },
        };
        if let Err(e) = went {
            self.sought = sought;
            return Err(e);
        }
        self.gap = match (&sought, &self.view) {
            (Some(key), Some(_)) => self.place_of(key),
            _ if forward => self.range.start,
            _ => self.range.end,
        };
        Ok(())
    }

    /// The gap before the first record of the view and the range that is at or above a key. A leaf that was loaded at a
    /// bound need not begin or end there: it may have been merged with the one that the cursor comes from.
    fn place_of(&self, key: &[u8]) -> usize {
        let Some(view) = &self.view else { return self.range.start };
        let at = match key {
            _ if view.low.as_deref() == Some(key) => 0,
            _ if view.high.as_deref() == Some(key) => view.len(),
            key => view.position(key, false),
        };
        at.clamp(self.range.start, self.range.end)
    }

    fn load(&mut self, place: Place<'_>) -> Result<()> {
        let view = self.source.leaf(place)?;
        let start = match &self.low {
            Bound::Included(key) => view.position(key, false),
            Bound::Excluded(key) => view.position(key, true),
            Bound::Unbounded => 0,
        };
        let end = match &self.high {
            Bound::Included(key) => view.position(key, true),
            Bound::Excluded(key) => view.position(key, false),
            Bound::Unbounded => view.len(),
        };
        self.range = start..end.max(start);
        self.key.clear();
        self.key.extend_from_slice(view.image.prefix());
        self.prefix = self.key.len();
        self.view = Some(view);
        Ok(())
    }

    #[inline]
    fn show(&mut self, row: usize) {
        self.row = Some(row);
        let Some(view) = &self.view else { return };
        if view.rows.is_empty() {
            self.key.truncate(self.prefix);
            self.key.extend_from_slice(view.image.rest(row));
            return;
        }
        match &view.rows[row] {
            Row::Cell(i) => {
                self.key.clear();
                self.key.extend_from_slice(view.image.prefix());
                self.key.extend_from_slice(view.image.rest(*i));
            }
            Row::Version { key, .. } => {
                self.key.clear();
                self.key.extend_from_slice(&view.bytes[key.clone()]);
            }
        }
    }
}

/// The live tree as a snapshot sees it.
#[derive(Debug)]
pub struct LiveSource {
    tree: Arc<Tree>,
    snapshot: CommitSeq,
}

/// The leaf at a place with its bounds.
type Placed<'a> = (&'a Arc<Leaf>, Option<&'a [u8]>, Option<&'a [u8]>);

fn leaf_at<'a>(root: &'a Inner, place: Place<'_>) -> Option<Placed<'a>> {
    let (mut page, mut low, mut high) = (root, None, None);
    loop {
        let at = place.child(&page.separators);
        if at > 0 {
            low = Some(page.separators.key(at - 1));
        }
        if at < page.separators.len() {
            high = Some(page.separators.key(at));
        }
        match &page.children[at] {
            Child::Inner(next) => page = next,
            Child::Leaf(leaf) => return Some((leaf, low, high)),
            Child::Disk(_) => return None,
        }
    }
}

impl LeafSource for LiveSource {
    fn leaf(&self, place: Place<'_>) -> Result<LeafView> {
        let view = self.look(place);
        self.tree.shared.cache.relieve();
        view
    }

    fn large(&self, reference: &OverflowRef) -> Result<Value> {
        self.tree.shared.read_overflow(reference)
    }
}

impl LiveSource {
    fn look(&self, place: Place<'_>) -> Result<LeafView> {
        loop {
            let root = self.tree.root.load();
            let Some((leaf, low, high)) = leaf_at(&root, place) else {
                drop(root);
                self.tree.fault(place)?;
                continue;
            };
            leaf.touch();
            let body = leaf.body.read();
            if body.moved {
                continue;
            }
            if let Some(image) = &body.image {
                return Ok(LeafView::live(image, &body, self.snapshot, low, high));
            }
            let Some(addr) = body.addr.clone() else {
                return Ok(LeafView::live(&LeafImage::empty(), &body, self.snapshot, low, high));
            };
            drop(body);
            let leaf = Arc::clone(leaf);
            drop(root);
            self.tree.page_in(&leaf, &addr)?;
        }
    }
}

impl Tree {
    /// A scan over what a snapshot, which stays registered as long as the cursor, sees between two bounds.
    #[must_use]
    pub fn scan(self: &Arc<Self>, snapshot: CommitSeq, low: Bound<&[u8]>, high: Bound<&[u8]>) -> TreeCursor {
        Cursor::new(LiveSource { tree: Arc::clone(self), snapshot }, low, high)
    }
}
