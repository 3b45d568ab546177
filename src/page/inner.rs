//! The encoded inner page, and the separators that guide a search through one.
//!
//! An inner page with n children has n-1 separators: child i holds the keys at or above separator i-1 and below separator i.
//! Stored are the shared prefix of the separators, the addresses of all children, the separators' rests, each with its length,
//! and the patches of leaves (how many, then for each the number of the child, the length and the bytes). In memory the separators stand beside an array of heads, the first eight bytes after the shared prefix, so that choosing a
//! child is a search through numbers that lie close together.

use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};
use crate::types::BlockAddr;

use super::{FLAG_PATCHED, HEADER, Header, KIND_INNER, Patch, check_padding, head64, shared_len};

/// Where a page is: its block, and how the leaf differs from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageAddr {
    /// The block.
    pub addr: BlockAddr,
    /// What became of the rows that have changed since the block was written.
    pub patch: Option<Patch>,
}

impl PageAddr {
    /// A page that is as its block says.
    #[must_use]
    pub const fn whole(addr: BlockAddr) -> Self {
        Self { addr, patch: None }
    }
}

/// The keys between the children of an inner page, in order.
#[derive(Clone, Debug, Default)]
pub struct Separators {
    prefix: usize,
    heads: Vec<u64>,
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl Separators {
    /// Separators from strictly ascending keys.
    pub fn new<'a>(keys: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut out = Self::default();
        for key in keys {
            out.bytes.extend_from_slice(key);
            out.ends.push(u32::try_from(out.bytes.len()).expect("an inner page holds less than 4 GiB of keys"));
        }
        if let Some(last) = out.len().checked_sub(1) {
            out.prefix = shared_len(out.key(0), out.key(last));
        }
        out.heads = (0..out.len()).map(|i| head64(&out.key(i)[out.prefix..])).collect();
        out
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True when there is only one child.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Separator `i`.
    #[inline]
    #[must_use]
    pub fn key(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.bytes[start..self.ends[i] as usize]
    }

    /// All separators in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        (0..self.len()).map(|i| self.key(i))
    }

    /// The child that holds `key`: the number of separators at or below it.
    #[inline]
    #[must_use]
    pub fn child(&self, key: &[u8]) -> usize {
        self.search(key, true)
    }

    /// The child that holds the keys just below `key`: the number of separators below it.
    #[must_use]
    pub fn child_below(&self, key: &[u8]) -> usize {
        self.search(key, false)
    }

    /// The number of separators below `key`, or at it too if `equal`.
    #[inline]
    fn search(&self, key: &[u8], equal: bool) -> usize {
        if self.is_empty() {
            return 0;
        }
        let prefix = &self.key(0)[..self.prefix];
        let Some(rest) = key.strip_prefix(prefix) else {
            return if key < prefix { 0 } else { self.len() };
        };
        let head = head64(rest);
        let mut at = self.heads.partition_point(|&h| h < head);
        while at < self.len() && self.heads[at] == head {
            let separator = &self.key(at)[self.prefix..];
            if separator > rest || (separator == rest && !equal) {
                break;
            }
            at += 1;
        }
        at
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + 4 * self.ends.capacity() + 8 * self.heads.capacity()
    }
}

/// An inner page whose bytes have been checked.
#[derive(Clone, Debug)]
pub struct InnerImage {
    /// 1 for the parent of leaves.
    pub level: u8,
    /// The keys between the children.
    pub separators: Separators,
    /// The children.
    pub children: Vec<PageAddr>,
}

impl InnerImage {
    /// Checks every byte of `body`.
    ///
    /// # Errors
    /// `Corrupt` when it is no inner page, breaks P1 or P2, or a length points outside; `Unsupported` for a newer format.
    pub fn check(body: &[u8]) -> Result<Self> {
        let header = Header::decode(body, KIND_INNER)?;
        let (count, prefix, cells) = (header.count as usize, header.prefix as usize, header.cells as usize);
        let addresses = count.checked_mul(BlockAddr::ENCODED_LEN);
        let need = addresses.and_then(|n| n.checked_add(HEADER)?.checked_add(prefix)?.checked_add(cells));
        if header.level == 0 || count == 0 || need.is_none_or(|need| need > body.len()) {
            return Err(Error::corrupt("the header of an inner page is malformed"));
        }
        let mut r = Reader::new(&body[HEADER..]);
        let prefix = r.take(prefix)?;
        let children = (0..count).map(|_| BlockAddr::decode(&mut r).map(PageAddr::whole));
        let mut children = children.collect::<Result<Vec<_>>>()?;
        let separators = check_separators(r.take(cells)?, prefix, count - 1)?;
        if header.flags & FLAG_PATCHED != 0 {
            check_patches(&mut r, header.level, &mut children)?;
        }
        check_padding(r.take(r.remaining())?)?;
        Ok(Self { level: header.level, separators, children })
    }
}

/// Reads the patches of children.
fn check_patches(r: &mut Reader<'_>, level: u8, children: &mut [PageAddr]) -> Result<()> {
    let (count, mut next) = (r.u32()?, 0);
    if level != 1 || count == 0 {
        return Err(Error::corrupt("an inner page speaks of patches where there can be none"));
    }
    for _ in 0..count {
        let (child, patch) = (r.u32()? as usize, Patch::check(r.bytes()?)?);
        let Some(found) = children.get_mut(child).filter(|_| child >= next) else {
            return Err(Error::corrupt("the patches of an inner page are out of order"));
        };
        found.patch = Some(patch);
        next = child + 1;
    }
    Ok(())
}

fn check_separators(cells: &[u8], prefix: &[u8], count: usize) -> Result<Separators> {
    let mut r = Reader::new(cells);
    let mut rests: Vec<&[u8]> = Vec::new();
    for i in 0..count {
        let rest = r.bytes()?;
        if rests.last().is_some_and(|last| *last >= rest) {
            return Err(Error::corrupt(format!("separator {i} of an inner page is out of order")));
        }
        rests.push(rest);
    }
    r.finish()?;
    let canonical = match (rests.first(), rests.last()) {
        (Some(first), Some(last)) => shared_len(first, last) == 0,
        _ => prefix.is_empty(),
    };
    if !canonical {
        return Err(Error::corrupt("an inner page is not encoded in the canonical way"));
    }
    let keys: Vec<Vec<u8>> = rests.iter().map(|rest| [prefix, rest].concat()).collect();
    Ok(Separators::new(keys.iter().map(Vec::as_slice)))
}

/// The page with these children, each with the smallest key it may hold. The first key is not stored.
///
/// # Panics
/// When there is no child, the level is 0, or a child that is no leaf has a patch.
#[must_use]
pub fn encode_inner(level: u8, children: &[(&[u8], PageAddr)]) -> Vec<u8> {
    assert!(level > 0 && !children.is_empty(), "an inner page has children");
    let prefix = match (children.get(1), children.last()) {
        (Some((first, _)), Some((last, _))) => &first[..shared_len(first, last)],
        _ => &[],
    };
    let mut cells = Vec::new();
    for (key, _) in &children[1..] {
        cells.put_bytes(&key[prefix.len()..]);
    }
    let patches: Vec<(u32, &Patch)> =
        (0..).zip(children).filter_map(|(i, (_, c))| Some((i, c.patch.as_ref()?))).collect();
    assert!(patches.is_empty() || level == 1, "only leaves are patched");
    let mut out = Vec::with_capacity(HEADER + prefix.len() + children.len() * BlockAddr::ENCODED_LEN + cells.len());
    let flags = if patches.is_empty() { 0 } else { FLAG_PATCHED };
    let count = u32::try_from(children.len()).expect("an inner page has few children");
    let (prefix_len, cells_len) = (prefix.len() as u32, u32::try_from(cells.len()).expect("and short keys"));
    Header { kind: KIND_INNER, level, flags, count, prefix: prefix_len, cells: cells_len }.encode(&mut out);
    out.extend_from_slice(prefix);
    for (_, child) in children {
        child.addr.encode(&mut out);
    }
    out.extend_from_slice(&cells);
    if !patches.is_empty() {
        out.put_u32(patches.len() as u32);
    }
    for (child, patch) in patches {
        out.put_u32(child);
        out.put_bytes(patch.bytes());
    }
    out
}
