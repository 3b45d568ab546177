//! Reconciling a leaf: from its image and its versions to the images that hold what one commit sees.
//!
//! Folding in memory, eviction and the checkpoint all turn a leaf into bytes, and all do it here, so there is one way a page
//! becomes bytes. A [`Plan`] lists, in order of keys, runs of unchanged cells and keys that have versions. For a limit L each
//! key's newest version at or below L becomes its cell (or its cell disappears), versions above L stay versions, and older
//! ones are dropped. The plan is then built as one leaf, or cut into several.
//!
//! Where versions fall only after the last cell of the image, the writer appends, and pages are filled to the brim; elsewhere
//! the content is shared out evenly.
//!
//! T3: the caller's limit is at or below the oldest snapshot in use, and at or below the snapshot of a checkpoint that has
//! yet to store the leaf. E2: only committed versions are ever in a leaf.

use std::ops::Range;

use crate::page::{CellValue, LeafBuilder, LeafImage, shared_len};
use crate::types::CommitSeq;

use super::versions::{Change, Versions};

/// What stands next in order of keys.
#[derive(Clone, Debug)]
enum Item {
    /// Cells of the image, unchanged.
    Run(Range<usize>),
    /// A key with versions: those that stay, and what becomes its cell.
    Key { key: usize, stay: Range<usize>, cell: Cell },
}

#[derive(Clone, Copy, Debug)]
enum Cell {
    Nothing,
    Image(usize),
    Version(usize),
}

/// How a leaf becomes one leaf or several.
pub(super) struct Plan<'a> {
    image: &'a LeafImage,
    versions: &'a Versions,
    items: Vec<Item>,
    /// The content only grows behind the image's last cell.
    appends: bool,
    /// Bytes of the prefix that sizes are computed with.
    prefix: usize,
}

/// One leaf to be.
pub(super) struct Part {
    /// Separates the part from the one before; empty for the first.
    pub low: Vec<u8>,
    pub image: LeafImage,
    pub versions: Versions,
}

/// Bytes of a page's header.
const PAGE: usize = 16;

fn varint_len(n: usize) -> usize {
    (usize::BITS - (n | 1).leading_zeros()).div_ceil(7) as usize
}

impl<'a> Plan<'a> {
    /// The plan that folds all versions at or below `limit` into the image.
    pub fn new(image: &'a LeafImage, versions: &'a Versions, limit: CommitSeq) -> Self {
        let mut items = Vec::with_capacity(2 * versions.len() + 1);
        let (mut cell, mut entry) = (0, 0);
        let mut appends = true;
        while entry < versions.len() {
            let group = versions.group(entry);
            let (at, found) = if cell == image.len() {
                (cell, false) // keys ascend, and every cell is behind us
            } else {
                match image.search(versions.key(entry)) {
                    Ok(at) => (at, true),
                    Err(at) => (at, false),
                }
            };
            appends &= at == image.len();
            if at > cell {
                items.push(Item::Run(cell..at));
            }
            cell = at + usize::from(found);
            let base = versions.visible_in(group.clone(), limit);
            let becomes = match base.map(|i| versions.change(i)) {
                Some(Change::Delete) => Cell::Nothing,
                Some(Change::Put(_)) => Cell::Version(base.unwrap_or_default()),
                None if found => Cell::Image(at),
                None => Cell::Nothing,
            };
            let stay = group.start..base.unwrap_or(group.end);
            if !stay.is_empty() || !matches!(becomes, Cell::Nothing) {
                items.push(Item::Key { key: entry, stay, cell: becomes });
            }
            entry = group.end;
        }
        if cell < image.len() {
            items.push(Item::Run(cell..image.len()));
        }
        let mut plan = Self { image, versions, items, appends, prefix: 0 };
        plan.prefix = plan.shared_prefix(&plan.items);
        plan
    }

    /// The stored references that are in no cell and no version any more when versions at or below `limit` are folded.
    pub fn dropped(image: Option<&LeafImage>, versions: &Versions, limit: CommitSeq, drop: &mut dyn FnMut(&[u8])) {
        if !versions.has_overflow() && image.is_none_or(|image| !image.has_overflow()) {
            return;
        }
        let mut entry = 0;
        while entry < versions.len() {
            let group = versions.group(entry);
            entry = group.end;
            let Some(base) = versions.visible_in(group.clone(), limit) else { continue };
            for i in base + 1..group.end {
                if let Change::Put(CellValue::Overflow(stored)) = versions.change(i) {
                    drop(stored);
                }
            }
            if let Some(image) = image
                && let Ok(at) = image.search(versions.key(group.start))
                && let CellValue::Overflow(stored) = image.value(at)
            {
                drop(stored);
            }
        }
    }

    fn first_key(&self, item: &Item) -> Vec<u8> {
        match item {
            Item::Run(cells) => self.image.key(cells.start),
            Item::Key { key, .. } => self.versions.key(*key).to_vec(),
        }
    }

    fn last_key(&self, item: &Item) -> Vec<u8> {
        match item {
            Item::Run(cells) => self.image.key(cells.end - 1),
            Item::Key { .. } => self.first_key(item),
        }
    }

    /// What the keys of all cells share.
    fn shared_prefix(&self, items: &[Item]) -> usize {
        let holds_cell = |item: &&Item| !matches!(item, Item::Key { cell: Cell::Nothing, .. });
        match (items.iter().find(holds_cell), items.iter().rev().find(holds_cell)) {
            (Some(first), Some(last)) => shared_len(&self.first_key(first), &self.last_key(last)),
            _ => 0,
        }
    }

    /// Bytes that `n` cells of the image take more than there, because less is shared.
    fn widening(&self, cells: usize) -> usize {
        cells * self.image.prefix().len().saturating_sub(self.prefix)
    }

    fn cell_size(&self, key: usize, value: CellValue<'_>) -> usize {
        let (key, value) = (self.versions.key(key).len() - self.prefix, value.bytes().len());
        8 + varint_len(key) + key + varint_len(2 * value) + value
    }

    fn size(&self, item: &Item) -> usize {
        match item {
            Item::Run(cells) => self.image.cells_size(cells.clone()) + self.widening(cells.len()),
            Item::Key { key, stay, cell } => {
                let kept: usize = stay.clone().map(|i| self.versions.entry_size(i)).sum();
                kept + match *cell {
                    Cell::Nothing => 0,
                    Cell::Image(i) => self.image.cells_size(i..i + 1) + self.widening(1),
                    Cell::Version(i) => match self.versions.change(i) {
                        Change::Put(value) => self.cell_size(*key, value),
                        Change::Delete => 0,
                    },
                }
            }
        }
    }

    /// Bytes of the whole content as one page, the versions that stay included.
    pub fn total(&self) -> usize {
        PAGE + self.prefix + self.items.iter().map(|item| self.size(item)).sum::<usize>()
    }

    /// True when nothing is left at all.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The whole content as one leaf. Versions above the limit are left out unless `stay`.
    pub fn build_one(&self, stay: bool, skip: usize) -> (LeafImage, Versions) {
        self.build(&self.items, stay, skip)
    }

    fn build(&self, items: &[Item], stay: bool, skip: usize) -> (LeafImage, Versions) {
        let prefix = self.prefix_bytes(items);
        let mut builder = LeafBuilder::new(&prefix);
        let mut versions = Versions::new(skip);
        for item in items {
            match item {
                Item::Run(cells) => builder.push_run(self.image, cells.clone()),
                Item::Key { key, stay: kept, cell } => {
                    match *cell {
                        Cell::Nothing => (),
                        Cell::Image(i) => builder.push_run(self.image, i..i + 1),
                        Cell::Version(i) => {
                            if let Change::Put(value) = self.versions.change(i) {
                                builder.push(self.versions.key(*key), value);
                            }
                        }
                    }
                    for i in kept.clone().filter(|_| stay) {
                        versions.append(self.versions.key(*key), self.versions.change(i), self.versions.seq(i));
                    }
                }
            }
        }
        (builder.finish(), versions)
    }

    fn prefix_bytes(&self, items: &[Item]) -> Vec<u8> {
        let len = self.shared_prefix(items);
        let with_cell = items.iter().find(|item| !matches!(item, Item::Key { cell: Cell::Nothing, .. }));
        with_cell.map(|item| self.first_key(item)[..len].to_vec()).unwrap_or_default()
    }

    /// The content cut into leaves of at most about `max` bytes. `skip` tells from a part's two bounds, where known, how
    /// much its keys share.
    pub fn build_parts(&self, max: usize, skip: impl Fn(Option<&[u8]>, Option<&[u8]>) -> usize) -> Vec<Part> {
        let groups = self.cut(max);
        let lows: Vec<Vec<u8>> = (0..groups.len())
            .map(|i| match i.checked_sub(1).map(|before| &groups[before]) {
                Some(before) => self.separator(before, &groups[i]),
                None => Vec::new(),
            })
            .collect();
        let bound = |i: usize| lows.get(i).filter(|_| i > 0).map(Vec::as_slice);
        let built = groups.iter().enumerate().map(|(i, items)| self.build(items, true, skip(bound(i), bound(i + 1))));
        let built: Vec<_> = built.collect();
        let parts = lows.into_iter().zip(built);
        parts.map(|(low, (image, versions))| Part { low, image, versions }).collect()
    }

    /// The shortest key above all of one group and not above the next.
    fn separator(&self, before: &[Item], after: &[Item]) -> Vec<u8> {
        let last = before.last().map(|item| self.last_key(item)).unwrap_or_default();
        let mut first = after.first().map(|item| self.first_key(item)).unwrap_or_default();
        first.truncate(shared_len(&last, &first) + 1);
        first
    }

    /// Cuts the items into groups of about equal size, or, for an appending writer, into full ones and a rest.
    fn cut(&self, max: usize) -> Vec<Vec<Item>> {
        let room = max.saturating_sub(PAGE + self.prefix).max(1);
        let total: usize = self.items.iter().map(|item| self.size(item)).sum();
        let even = total / total.div_ceil(room).max(1) + 1;
        let mut groups: Vec<Vec<Item>> = vec![Vec::new()];
        let mut filled = 0;
        for item in self.single_items() {
            let size = self.size(&item);
            // An even share is passed by the item that crosses it, a full page never.
            let full = if self.appends { filled + size > room } else { filled >= even || filled + size > room };
            if full && filled > 0 {
                groups.push(Vec::new());
                filled = 0;
            }
            filled += size;
            let group = groups.last_mut().expect("there is always one");
            match (group.last_mut(), &item) {
                (Some(Item::Run(run)), Item::Run(next)) if run.end == next.start => run.end = next.end,
                _ => group.push(item),
            }
        }
        groups
    }

    /// The items, with every cell of a run by itself.
    fn single_items(&self) -> impl Iterator<Item = Item> + '_ {
        self.items.iter().flat_map(|item| match item {
            Item::Run(cells) => cells.clone().map(|i| Item::Run(i..i + 1)).collect::<Vec<_>>(),
            key => vec![key.clone()],
        })
    }
}
