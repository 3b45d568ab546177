//! What differs between two stored trees, reading only what may differ.
//!
//! Two trees of one history share every block that neither has written since they were one: such a block has the same
//! address in both, and below it nothing differs. So both trees are walked side by side in order of keys. While both stand
//! before a subtree and the two have one address that counts as shared, it is passed by; else the higher one is opened. Inside
//! leaves rows are compared, and as soon as both sides stand before a subtree again, whole subtrees can be passed by.
//!
//! Whether an address is shared is the caller's to say: two histories that have never met, or have parted, may have given one
//! place and one number to different blocks.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::error::Result;
use crate::page::{CellValue, LeafImage, PageAddr, Patch};
use crate::types::BlockAddr;

use super::leaf::trusted_reference;
use super::reader::TreeReader;

/// How a key differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Only the first tree has it.
    OnlyFirst,
    /// Only the second tree has it.
    OnlySecond,
    /// Its values differ.
    Value,
}

/// A subtree that was not looked at yet.
struct Subtree {
    at: PageAddr,
    level: u8,
    low: Option<Vec<u8>>,
    high: Option<Vec<u8>>,
}

impl Subtree {
    /// The two say the same, if their blocks are one. A large value that a patch names may be in blocks that are not.
    fn is_one(&self, other: &Self) -> bool {
        let large = self.at.patch.as_ref().is_some_and(Patch::has_overflow);
        self.at == other.at && self.level == other.level && !large
    }
}

/// One of the two trees, from a place on.
struct Side<'a> {
    tree: &'a TreeReader,
    /// What follows, the next one last.
    ahead: Vec<Subtree>,
    /// The leaf that is being read, and the next row in it.
    leaf: Option<(LeafImage, usize)>,
}

/// Told of a key that differs, and whether it follows the one before with nothing the same between them; false ends the walk.
pub type OnDifference<'a> = dyn FnMut(&[u8], Difference, bool) -> Result<bool> + 'a;

/// Calls `on` for every key that differs, in order of keys. `shared` says of an address that is in both
/// trees whether the blocks are one.
///
/// # Errors
/// `Corrupt` or `Io` of a block that had to be read; what `on` returns.
pub fn diff(
    first: &Arc<TreeReader>,
    second: &Arc<TreeReader>,
    shared: impl Fn(BlockAddr) -> bool,
    on: &mut OnDifference<'_>,
) -> Result<()> {
    let (mut a, mut b) = (Side::new(first), Side::new(second));
    let mut adjoins = false;
    loop {
        if a.leaf.is_none() && b.leaf.is_none() {
            match (a.ahead.last(), b.ahead.last()) {
                (None, None) => return Ok(()),
                (Some(x), Some(y)) if x.is_one(y) && shared(x.at.addr) => {
                    a.ahead.pop();
                    b.ahead.pop();
                    adjoins = false;
                }
                (x, y) => {
                    let level = |side: Option<&Subtree>| side.map(|s| s.level);
                    let order = level(x).cmp(&level(y));
                    if order.is_ge() {
                        a.open()?;
                    }
                    if order.is_le() {
                        b.open()?;
                    }
                }
            }
            continue;
        }
        let order = match (a.key(), b.key()) {
            (Some(x), Some(y)) => x.cmp(&y),
            // The other one's next subtree begins behind this row, or must be opened to know.
            (Some(x), None) if b.begins_after(&x) => Ordering::Less,
            (None, Some(y)) if a.begins_after(&y) => Ordering::Greater,
            (Some(_), None) => {
                b.open()?;
                continue;
            }
            (None, _) => {
                a.open()?;
                continue;
            }
        };
        let key = if order.is_le() { a.key() } else { b.key() }.unwrap_or_default();
        let difference = match order {
            Ordering::Less => Some(Difference::OnlyFirst),
            Ordering::Greater => Some(Difference::OnlySecond),
            Ordering::Equal if same_value(&a, &b, &shared)? => None,
            Ordering::Equal => Some(Difference::Value),
        };
        if let Some(difference) = difference
            && !on(&key, difference, adjoins)?
        {
            return Ok(());
        }
        adjoins = difference.is_some();
        if order.is_le() {
            a.next();
        }
        if order.is_ge() {
            b.next();
        }
    }
}

fn same_value(a: &Side<'_>, b: &Side<'_>, shared: &impl Fn(BlockAddr) -> bool) -> Result<bool> {
    let (Some(x), Some(y)) = (a.value(), b.value()) else { return Ok(false) };
    match (x, y) {
        (CellValue::Inline(x), CellValue::Inline(y)) => Ok(x == y),
        (CellValue::Overflow(x), CellValue::Overflow(y)) => {
            let (x, y) = (trusted_reference(x), trusted_reference(y));
            let one = x.len == y.len && x.pieces == y.pieces && x.pieces.iter().all(|piece| shared(*piece));
            Ok(one || (x.len == y.len && *a.tree.read_large(&x)? == *b.tree.read_large(&y)?))
        }
        (CellValue::Inline(inline), CellValue::Overflow(stored)) => {
            Ok(*b.tree.read_large(&trusted_reference(stored))? == *inline)
        }
        (CellValue::Overflow(stored), CellValue::Inline(inline)) => {
            Ok(*a.tree.read_large(&trusted_reference(stored))? == *inline)
        }
    }
}

impl<'a> Side<'a> {
    fn new(tree: &'a TreeReader) -> Self {
        let root = tree.root().map(|root| {
            let at = PageAddr::whole(root.addr);
            Subtree { at, level: root.level, low: None, high: None }
        });
        Self { tree, ahead: root.into_iter().collect(), leaf: None }
    }

    /// Goes into the next subtree: its children are ahead then, or its rows.
    fn open(&mut self) -> Result<()> {
        let Some(Subtree { at, level, low, high }) = self.ahead.pop() else { return Ok(()) };
        let fences = (low.as_deref(), high.as_deref());
        if level == 0 {
            self.leaf = Some((self.tree.read_leaf(&at, fences)?, 0));
            return Ok(());
        }
        let page = self.tree.read_inner(at.addr, level, fences)?;
        for (i, at) in page.children.into_iter().enumerate().rev() {
            let low = if i == 0 { low.clone() } else { Some(page.separators.key(i - 1).to_vec()) };
            let high = if i < page.separators.len() { Some(page.separators.key(i).to_vec()) } else { high.clone() };
            self.ahead.push(Subtree { at, level: level - 1, low, high });
        }
        Ok(())
    }

    fn key(&self) -> Option<Vec<u8>> {
        self.leaf.as_ref().map(|(leaf, at)| leaf.key(*at))
    }

    fn value(&self) -> Option<CellValue<'_>> {
        self.leaf.as_ref().map(|(leaf, at)| leaf.value(*at))
    }

    fn next(&mut self) {
        if let Some((leaf, at)) = &mut self.leaf {
            *at += 1;
            if *at == leaf.len() {
                self.leaf = None;
            }
        }
    }

    /// True when all that is ahead is known to lie behind `key`.
    fn begins_after(&self, key: &[u8]) -> bool {
        self.ahead.last().is_none_or(|next| next.low.as_deref().is_some_and(|low| low > key))
    }
}
