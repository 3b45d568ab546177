//! The formats, read a second time.
//!
//! Nothing here is the engine's code: what a manifest, a root record, a row of the catalog, a block and a page look like is
//! written down at the heads of the engine's rooms, and this is another reader of the same description. It is naive on
//! purpose: it reads what it needs, skips the rest, and gives up with a sentence at the first thing it cannot believe.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Bytes of a stored address.
const ADDR: usize = 24;
/// Bytes of a block before its body.
const BLOCK_HEADER: usize = 32;

/// What was read, or why it cannot be believed.
pub type Read<T> = Result<T, String>;

/// Where a block is, as its parent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Addr {
    /// Byte offset in the file.
    pub offset: u64,
    /// Bytes of the block in the file.
    pub size: u32,
    /// Its checksum.
    pub sum: u32,
    /// The checkpoint that it was written for, as stored.
    pub birth: u64,
}

/// Where a tree begins.
#[derive(Clone, Copy, Debug)]
pub struct Root {
    pub addr: Addr,
    pub level: u8,
}

/// What is used of the record of a checkpoint.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub seq: u64,
    pub catalog: Option<Root>,
    pub lists: Option<Addr>,
    pub catalog_bytes: u64,
}

/// What is used of a root record.
#[derive(Clone, Debug)]
pub struct RootRecord {
    pub generation: u64,
    pub unit: u32,
    pub lineage: u64,
    pub newest: Checkpoint,
}

/// What is used of a manifest.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Where it starts, of an increment by blocks.
    pub since: Option<u64>,
    pub root: Vec<u8>,
    /// The older checkpoints that the copy holds.
    pub older: Vec<u64>,
    pub files: Vec<File>,
}

/// A file of a manifest.
#[derive(Clone, Debug)]
pub struct File {
    pub name: String,
    pub size: u64,
    /// The parts of it that travel.
    pub ranges: Vec<Range<u64>>,
}

/// What is used of a table's row.
#[derive(Clone, Debug)]
pub struct Table {
    pub id: u64,
    /// Number and root of each state, oldest first.
    pub states: Vec<(u64, Option<Root>)>,
    /// Bytes of the file; `None` while there is none.
    pub size: Option<u64>,
}

/// What a page leads to.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The children of an inner page.
    pub children: Vec<Addr>,
    /// By their place: how leaves differ from their blocks.
    pub patches: BTreeMap<usize, Patch>,
    /// The rows of a leaf, their values as stored there.
    pub rows: Vec<(Vec<u8>, Cell)>,
}

/// How a leaf differs from its block.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// The rows that are other ones.
    pub rows: Vec<(Vec<u8>, Cell)>,
    /// All keys that it speaks of, those included whose rows are gone.
    pub keys: BTreeSet<Vec<u8>>,
}

/// The value of a row.
#[derive(Clone, Debug)]
pub enum Cell {
    Inline(Vec<u8>),
    /// The blocks that hold it.
    Pieces(Vec<Addr>),
}

/// A place in bytes that are read from front to back.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Read<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n).ok_or("the bytes end too early")?;
        self.0 = rest;
        Ok(head)
    }

    fn number(&mut self, n: usize) -> Read<u64> {
        Ok(self.take(n)?.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn u8(&mut self) -> Read<u8> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Read<u32> {
        Ok(self.number(4)? as u32)
    }

    fn varint(&mut self) -> Read<u64> {
        let mut sum = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            sum |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(sum);
            }
        }
        Err("a number without an end".to_owned())
    }

    fn counted(&mut self) -> Read<&'a [u8]> {
        let len = self.varint()? as usize;
        self.take(len)
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        if self.u8()? == 0 { Ok(None) } else { read(self).map(Some) }
    }

    fn addr(&mut self) -> Read<Addr> {
        Ok(Addr { offset: self.number(8)?, size: self.u32()?, sum: self.u32()?, birth: self.number(8)? })
    }

    fn root(&mut self) -> Read<Root> {
        let root = Root { addr: self.addr()?, level: self.u8()? };
        self.u8().map(|_| root)
    }

    fn checkpoint(&mut self) -> Read<Checkpoint> {
        let seq = self.number(8)?;
        self.option(|b| b.counted())?;
        self.take(16)?;
        let (catalog, lists) = (self.option(Self::root)?, self.option(Self::addr)?);
        let catalog_bytes = self.number(8)?;
        self.option(|b| b.take(16))?;
        Ok(Checkpoint { seq, catalog, lists, catalog_bytes })
    }

    fn skip_dead(&mut self) -> Read<()> {
        for _ in 0..3 * self.varint()? {
            self.varint()?;
        }
        Ok(())
    }
}

/// Reads slot `slot` of a root record.
pub fn root_record(slot_bytes: &[u8], slot: u8) -> Read<RootRecord> {
    let mut b = Bytes(slot_bytes);
    if b.take(8)? != b"STRANDRT" || b.u32()? != 1 {
        return Err("no root record".to_owned());
    }
    let len = b.u32()? as usize;
    let body = b.take(len)?;
    let whole = [&slot_bytes[..16 + len], &[slot]].concat();
    if b.u32()? != crc(&[&whole]) {
        return Err("a root record without its checksum".to_owned());
    }
    let mut b = Bytes(body);
    let (generation, unit) = (b.number(8)?, b.u32()?);
    b.u8()?;
    if b.u8()? > 0 {
        b.counted()?;
    }
    let lineage = b.number(8)?;
    for _ in 0..b.varint()? {
        b.take(16)?;
    }
    b.take(8 + 8 + 4)?;
    b.option(|b| b.take(8))?;
    b.option(|b| b.take(16))?;
    Ok(RootRecord { generation, unit, lineage, newest: b.checkpoint()? })
}

/// Reads a manifest.
pub fn manifest(bytes: &[u8]) -> Read<Manifest> {
    let mut b = Bytes(bytes);
    if b.take(8)? != b"STRANDMF" || b.u32()? != 1 {
        return Err("no manifest".to_owned());
    }
    let len = b.number(8)? as usize;
    let body = b.take(len)?;
    if b.u32()? != crc(&[&bytes[..20 + len]]) {
        return Err("a manifest without its checksum".to_owned());
    }
    let mut b = Bytes(body);
    let since = match b.u8()? {
        0 | 1 => None,
        2 => {
            b.take(8)?;
            Some(b.number(8)?)
        }
        _ => return Err("an increment from the log has no blocks".to_owned()),
    };
    b.take(1 + 1 + 8 + 8 + 8 + 8)?;
    let root = b.counted()?.to_vec();
    let older = (0..b.varint()?).map(|_| b.number(8)).collect::<Read<Vec<_>>>()?;
    for _ in 0..b.varint()? {
        b.counted()?;
        b.varint()?;
    }
    let files = (0..b.varint()?).map(|_| file(&mut b)).collect::<Read<Vec<_>>>()?;
    Ok(Manifest { since, root, older, files })
}

fn file(b: &mut Bytes<'_>) -> Read<File> {
    let name = String::from_utf8_lossy(b.counted()?).into_owned();
    if b.u8()? > 0 {
        b.varint()?;
    }
    let size = b.varint()?;
    let mut ranges = Vec::new();
    match b.u8()? {
        0 => ranges.push(0..size),
        1 => {}
        _ => {
            let mut at = 0;
            for _ in 0..b.varint()? {
                let start = at + b.varint()?;
                at = start + b.varint()?;
                ranges.push(start..at);
            }
        }
    }
    for _ in 0..b.varint()? {
        b.u32()?;
    }
    Ok(File { name, size, ranges })
}

/// Reads the row of a table.
pub fn table(row: &[u8]) -> Read<Table> {
    let mut b = Bytes(row);
    let id = b.number(8)?;
    b.counted()?;
    b.take(1 + 8)?;
    let mut states = Vec::new();
    for _ in 0..b.varint()? {
        let seq = b.number(8)?;
        states.push((seq, b.option(Bytes::root)?));
        b.take(8)?;
        b.skip_dead()?;
    }
    Ok(Table { id, states, size: b.option(Bytes::varint)? })
}

/// Reads the row of a retained checkpoint.
pub fn checkpoint(row: &[u8]) -> Read<Checkpoint> {
    Bytes(row).checkpoint()
}

/// Believes a block, or says why not; its body.
pub fn body(block: &[u8], addr: Addr, table: u64) -> Read<&[u8]> {
    let mut b = Bytes(block);
    if b.take(4)? != b"SB\0\0" {
        return Err("no block".to_owned());
    }
    let (sum, size, len) = (b.u32()?, b.u32()?, b.u32()? as usize);
    let (of, birth) = (b.number(8)?, b.number(8)?);
    let in_block = Addr { offset: addr.offset, size, sum, birth };
    if in_block != addr || of != table {
        return Err(format!("the block says {in_block:?} of table {of}, its parent {addr:?} of table {table}"));
    }
    if crc(&[&addr.offset.to_le_bytes(), &block[..4], &block[8..]]) != sum {
        return Err("a block without its checksum".to_owned());
    }
    block.get(BLOCK_HEADER..BLOCK_HEADER + len).ok_or_else(|| "a body longer than its block".to_owned())
}

/// Reads a page of that level; only an overflow piece leads nowhere and has none.
pub fn page(body: &[u8], level: u8) -> Read<Page> {
    let mut b = Bytes(body);
    let kind = if level == 0 { 1 } else { 2 };
    if (b.u8()?, b.u8()?) != (kind, level) {
        return Err(format!("no page of level {level}"));
    }
    let flags = b.number(2)?;
    let (count, prefix, cells) = (b.u32()? as usize, b.u32()? as usize, b.u32()? as usize);
    let prefix = b.take(prefix)?;
    let mut page = Page::default();
    if level > 0 {
        page.children = (0..count).map(|_| b.addr()).collect::<Read<Vec<_>>>()?;
        b.take(cells)?;
        let patches = if flags & 2 > 0 { b.u32()? } else { 0 };
        for _ in 0..patches {
            page.patches.insert(b.u32()? as usize, patch(b.counted()?)?);
        }
        return Ok(page);
    }
    b.take(8 * count)?;
    for _ in 0..count {
        let key = [prefix, b.counted()?].concat();
        let tag = b.varint()?;
        page.rows.push((key, cell(&mut b, tag)?));
    }
    Ok(page)
}

fn patch(bytes: &[u8]) -> Read<Patch> {
    let mut b = Bytes(bytes);
    let (count, prefix) = (b.varint()?, b.counted()?);
    let mut patch = Patch::default();
    for _ in 0..count {
        let key = [prefix, b.counted()?].concat();
        let tag = b.varint()?;
        if tag > 0 {
            patch.rows.push((key.clone(), cell(&mut b, tag - 1)?));
        }
        patch.keys.insert(key);
    }
    Ok(patch)
}

fn cell(b: &mut Bytes<'_>, tag: u64) -> Read<Cell> {
    let value = b.take((tag >> 1) as usize)?;
    Ok(if tag & 1 == 0 { Cell::Inline(value.to_vec()) } else { Cell::Pieces(pieces(value)?) })
}

fn pieces(stored: &[u8]) -> Read<Vec<Addr>> {
    let mut b = Bytes(stored);
    b.varint()?;
    let count = b.varint()?;
    if b.0.len() as u64 != count * ADDR as u64 {
        return Err("a large value's addresses are cut".to_owned());
    }
    (0..count).map(|_| b.addr()).collect()
}

/// The bytes of a value in an overflow piece.
pub fn piece(body: &[u8]) -> Read<&[u8]> {
    let mut b = Bytes(body);
    b.take(4)?;
    let len = b.u32()? as usize;
    b.take(8)?;
    b.take(len)
}

/// What eight bits do to a CRC-32.
const STEPS: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut bit = 0;
        table[i] = i as u32;
        while bit < 8 {
            table[i] = if table[i] & 1 == 1 { table[i] >> 1 ^ 0xedb8_8320 } else { table[i] >> 1 };
            bit += 1;
        }
        i += 1;
    }
    table
};

/// CRC-32 of the parts, a byte at a time.
fn crc(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    !bytes.fold(!0, |sum, byte| STEPS[((sum ^ u32::from(*byte)) & 0xff) as usize] ^ sum >> 8)
}
