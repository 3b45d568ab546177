//! A walk over every block that one root reaches, by a reader of its own.
//!
//! The tree's own reader stops at the first block that it cannot believe, as it must. This one notes what is wrong and goes
//! on with the next child, and it looks at more than a reader needs: that no block is reached twice in one state, that no
//! two blocks overlap, that fences and births hold at every step (P1, B5), that every piece of every large value is there.
//!
//! Several states of one file are walked in turn, newest first. They share most blocks; a block that an earlier walk has
//! seen under the same address is not read again, nor is what is under it. To know blocks again costs some dozens of
//! bytes of memory for each.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::findings::{Finding, Findings, Severity, Step, is_finding};
use crate::block::BlockSource;
use crate::btree::TreeRoot;
use crate::error::{Error, Result};
use crate::page::{CellValue, InnerImage, LeafImage, OverflowRef, PageAddr, Patch, check_piece};
use crate::types::{BlockAddr, CheckpointSeq};

/// A block that was reached.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    /// Bytes it takes.
    pub size: u32,
    /// Its checksum, to know it again.
    checksum: u32,
    /// When it was written.
    pub birth: CheckpointSeq,
    /// The walk that reached it first: 0 is the newest state.
    pub first: u32,
    /// The walk that reached it last.
    last: u32,
}

/// Called for every block read, with the bytes it takes; its error ends the audit.
pub type Tick<'a> = dyn FnMut(u64) -> Result<()> + 'a;

/// Called for every row, with key and value; its error is a finding.
pub type OnRow<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// The walks over the states of one file.
pub struct Walker<'a> {
    source: &'a dyn BlockSource,
    object: &'a str,
    findings: &'a mut Findings,
    tick: &'a mut Tick<'a>,
    /// Every block reached so far, by offset.
    pub reached: BTreeMap<u64, Reached>,
    /// The walk that goes on.
    pass: u32,
    /// The root says that there may be large values.
    large_values: bool,
    /// Rows of the newest state.
    pub rows: u64,
}

/// What a page is expected to be, from its parent.
#[derive(Clone, Copy)]
struct Place<'k> {
    addr: BlockAddr,
    /// How the leaf differs from its block.
    patch: Option<&'k Patch>,
    level: u8,
    /// Keys are at or above this,
    low: &'k [u8],
    /// and below that.
    high: Option<&'k [u8]>,
    /// The birth of the parent; for the root, the checkpoint.
    parent: CheckpointSeq,
}

impl<'a> Walker<'a> {
    /// A walker over the blocks of `source`.
    pub fn new(
        source: &'a dyn BlockSource,
        object: &'a str,
        findings: &'a mut Findings,
        tick: &'a mut Tick<'a>,
    ) -> Self {
        Self { source, object, findings, tick, reached: BTreeMap::new(), pass: 0, large_values: true, rows: 0 }
    }

    /// Walks the state under `root` as checkpoint `seq` holds it. A row that is met for the first time is given to
    /// `on_row`.
    ///
    /// # Errors
    /// The halt that findings ask for.
    pub fn state(&mut self, root: &TreeRoot, seq: CheckpointSeq, mut on_row: Option<&mut OnRow<'_>>) -> Step {
        self.large_values = root.overflow;
        let top = Place { addr: root.addr, patch: None, level: root.level, low: &[], high: None, parent: seq };
        self.page(top, &mut on_row)
    }

    /// Reads one block that stands outside of any tree, as checkpoint `seq` holds it.
    ///
    /// # Errors
    /// The halt that findings ask for.
    pub fn lone_block(&mut self, addr: BlockAddr, seq: CheckpointSeq) -> Step<Option<Arc<[u8]>>> {
        self.block(addr, seq)
    }

    /// The states walked from now on are older ones.
    pub fn next_pass(&mut self) {
        self.pass += 1;
    }

    /// Notes damage at `offset`.
    ///
    /// # Errors
    /// The halt that findings ask for.
    pub fn damage(&mut self, offset: impl Into<Option<u64>>, what: impl Into<String>) -> Step {
        self.note(offset.into(), Severity::Damage, what.into())
    }

    /// Notes a warning.
    ///
    /// # Errors
    /// The halt that findings ask for.
    pub fn warning(&mut self, offset: impl Into<Option<u64>>, what: impl Into<String>) -> Step {
        self.note(offset.into(), Severity::Warning, what.into())
    }

    fn note(&mut self, offset: Option<u64>, severity: Severity, what: String) -> Step {
        let (object, file) = (self.object.to_owned(), self.source.path().to_owned());
        self.findings.note(Finding { object, file, offset, severity, what })
    }

    /// An error met at a block becomes a finding, unless it says nothing about the bytes.
    fn note_error(&mut self, addr: BlockAddr, e: Error) -> Step {
        if !is_finding(&e) {
            return Err(e.into());
        }
        let offset = e.location().and_then(|l| l.offset).unwrap_or(addr.offset);
        self.damage(offset, e.message())
    }

    fn page(&mut self, place: Place<'_>, on_row: &mut Option<&mut OnRow<'_>>) -> Step {
        // With patches, a block that is known may make another leaf, which leads to other large values.
        let again =
            place.level == 0 && (self.large_values || place.patch.is_some()) && self.is_known_from_before(place.addr);
        let nobody = &mut None;
        let on_row = if again { nobody } else { on_row };
        let Some(body) = self.block_or_again(place.addr, place.parent, again)? else { return Ok(()) };
        if place.level == 0 {
            match LeafImage::check(body) {
                Ok(leaf) => self.leaf(place, &place.patch.map_or_else(|| leaf.clone(), |p| p.over(&leaf)), on_row),
                Err(e) => self.note_error(place.addr, e),
            }
        } else {
            match InnerImage::check(&body) {
                Ok(inner) => self.inner(place, &inner, on_row),
                Err(e) => self.note_error(place.addr, e),
            }
        }
    }

    fn inner(&mut self, place: Place<'_>, page: &InnerImage, on_row: &mut Option<&mut OnRow<'_>>) -> Step {
        if page.level != place.level {
            let what = format!("an inner page of level {} stands where level {} belongs", page.level, place.level);
            return self.damage(place.addr.offset, what);
        }
        let keys = &page.separators;
        let outside =
            (0..keys.len()).find(|&i| keys.key(i) <= place.low || place.high.is_some_and(|h| keys.key(i) >= h));
        if let Some(i) = outside {
            self.damage(place.addr.offset, format!("separator {i} lies outside of the page's fences"))?;
        }
        for (i, PageAddr { addr, patch }) in page.children.iter().enumerate() {
            let low = if i == 0 { place.low } else { keys.key(i - 1) };
            let high = if i < keys.len() { Some(keys.key(i)) } else { place.high };
            let (addr, patch, parent) = (*addr, patch.as_ref(), place.addr.birth);
            let child = Place { addr, patch, level: place.level - 1, low, high, parent };
            self.page(child, on_row)?;
        }
        Ok(())
    }

    fn leaf(&mut self, place: Place<'_>, leaf: &LeafImage, on_row: &mut Option<&mut OnRow<'_>>) -> Step {
        if leaf.is_empty() {
            return Ok(());
        }
        let (first, last) = (leaf.key(0), leaf.key(leaf.len() - 1));
        if first.as_slice() < place.low || place.high.is_some_and(|h| last.as_slice() >= h) {
            self.damage(place.addr.offset, "a leaf holds keys outside of its fences")?;
        }
        if leaf.has_overflow() && !self.large_values {
            self.damage(place.addr.offset, "a leaf refers to large values, and its root says that there are none")?;
        }
        if self.pass == 0 {
            self.rows += leaf.len() as u64;
        }
        if !leaf.has_overflow() && on_row.is_none() {
            return Ok(());
        }
        // What a patch refers to is as new as the page that carries it.
        let youngest = if place.patch.is_some() { place.parent } else { place.addr.birth };
        for i in 0..leaf.len() {
            let value = match leaf.value(i) {
                CellValue::Inline(bytes) => Some(std::borrow::Cow::Borrowed(bytes)),
                CellValue::Overflow(stored) => {
                    self.large_value(place.addr, youngest, stored, on_row.is_some())?.map(std::borrow::Cow::Owned)
                }
            };
            if let (Some(on_row), Some(value)) = (on_row.as_deref_mut(), value)
                && let Err(e) = on_row(&leaf.key(i), &value)
            {
                self.note_error(place.addr, e)?;
            }
        }
        Ok(())
    }

    /// Reads every piece of a large value; returns the value when `keep` asks for it and it is whole.
    fn large_value(
        &mut self,
        leaf: BlockAddr,
        youngest: CheckpointSeq,
        stored: &[u8],
        keep: bool,
    ) -> Step<Option<Vec<u8>>> {
        let large = match OverflowRef::decode(stored) {
            Ok(large) => large,
            Err(e) => return self.note_error(leaf, e).map(|()| None),
        };
        let (mut len, mut value, mut whole) = (0, Vec::new(), true);
        for piece in &large.pieces {
            let Some(body) = self.block(*piece, youngest)? else {
                whole = false;
                continue;
            };
            match check_piece(&body) {
                Ok(bytes) => {
                    len += bytes.len() as u64;
                    if keep {
                        value.extend_from_slice(bytes);
                    }
                }
                Err(e) => {
                    self.note_error(*piece, e)?;
                    whole = false;
                }
            }
        }
        if whole && len != large.len {
            self.damage(leaf.offset, format!("the pieces of a value of {} bytes have {len}", large.len))?;
            whole = false;
        }
        Ok((whole && keep).then_some(value))
    }

    /// Reads a block unless it is known already; `None` when there is nothing (more) to look at.
    fn block(&mut self, addr: BlockAddr, parent: CheckpointSeq) -> Step<Option<Arc<[u8]>>> {
        self.block_or_again(addr, parent, false)
    }

    /// As [`Walker::block`], of one that is looked at even if it is known, when `again`.
    fn block_or_again(&mut self, addr: BlockAddr, parent: CheckpointSeq, again: bool) -> Step<Option<Arc<[u8]>>> {
        if addr.birth > parent {
            let what = format!("B5: a block born for checkpoint {} under a parent born for {parent}", addr.birth);
            self.damage(addr.offset, what)?;
        }
        let new = self.is_new(addr)?;
        if !new && !again {
            return Ok(None);
        }
        match self.source.read_block(addr) {
            Ok(body) => {
                if new {
                    (self.tick)(u64::from(addr.size))?;
                }
                Ok(Some(body))
            }
            // Whoever read it first has noted what is wrong.
            Err(_) if !new => Ok(None),
            Err(e) => self.note_error(addr, e).map(|()| None),
        }
    }

    /// A newer state has reached the block.
    fn is_known_from_before(&self, addr: BlockAddr) -> bool {
        let of = |known: &Reached| (known.size, known.checksum, known.birth);
        let same = |known: &Reached| known.last != self.pass && of(known) == (addr.size, addr.checksum, addr.birth);
        self.reached.get(&addr.offset).is_some_and(same)
    }

    /// Remembers that the block is reached; true when it was not reached before.
    fn is_new(&mut self, addr: BlockAddr) -> Step<bool> {
        let pass = self.pass;
        if let Some(known) = self.reached.get_mut(&addr.offset)
            && (known.size, known.checksum, known.birth) == (addr.size, addr.checksum, addr.birth)
        {
            let twice = known.last == pass;
            known.last = pass;
            if twice {
                self.damage(addr.offset, "a block is reached twice in one state")?;
            }
            return Ok(false);
        }
        let end = addr.extent().len.saturating_add(addr.offset);
        let before = self.reached.range(..end).next_back();
        if let Some((offset, known)) = before
            && offset + u64::from(known.size) > addr.offset
        {
            let what = format!("B1: the block overlaps another one, of bytes {offset}+{}", known.size);
            self.damage(addr.offset, what)?;
            return Ok(false);
        }
        let reached = Reached { size: addr.size, checksum: addr.checksum, birth: addr.birth, first: pass, last: pass };
        self.reached.insert(addr.offset, reached);
        Ok(true)
    }
}
