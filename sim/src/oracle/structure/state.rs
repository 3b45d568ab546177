//! What a root reaches: every block of every file, found by a walk that leaves nothing out.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use strandline_vfs::{OpenOptions, Vfs};

use super::bytes::{self, Addr, Cell, Checkpoint, Manifest, Page, Patch, Read, Root, RootRecord};

/// The files whose names the formats give.
const ROOT_FILE: &str = "Strandline.root";
const MANIFEST_FILE: &str = "Strandline.manifest";
const CATALOG_FILE: &str = "Strandline.catalog";
/// Where the slots of a root record begin, and their size.
const SLOTS: [u64; 2] = [0, 65_536];
const SLOT: usize = 4096;
/// Bytes before the first block of a file, unless the unit is larger.
const FILE_HEADER: u64 = 4096;

/// A block that some retained checkpoint reaches.
#[derive(Clone, Debug)]
pub struct Reached {
    /// Its address.
    pub addr: Addr,
    /// A digest of all its bytes.
    pub content: u64,
    /// The blocks that it names, as far as they count.
    pub children: Vec<Addr>,
    /// It was met as a page of its own, not only with a patch.
    whole: bool,
}

/// What the retained checkpoints reach of one file.
#[derive(Clone, Debug, Default)]
pub struct FileState {
    /// Bytes of the file that count.
    pub size: u64,
    /// Bytes before its first block.
    pub header: u64,
    /// A digest of them.
    pub header_content: u64,
    /// The blocks by offset.
    pub blocks: BTreeMap<u64, Reached>,
    /// What each retained checkpoint begins with: its number, and the block.
    pub roots: Vec<(u64, Addr)>,
}

/// What a root record reaches, the older checkpoints that are retained included.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The history.
    pub lineage: u64,
    /// The newest checkpoint, as stored.
    pub seq: u64,
    /// Bytes of an allocation unit.
    pub unit: u64,
    /// The files by name.
    pub files: BTreeMap<String, FileState>,
    /// What was wrong on the way: births that do not fit, blocks that are not what their parents say.
    pub broken: Vec<String>,
}

impl State {
    /// What the newest checkpoint of a home reaches.
    ///
    /// # Errors
    /// Why nothing can be said at all.
    pub fn of_home(fs: &dyn Vfs, home: &Path) -> Read<Self> {
        let file = fs.open(&home.join(ROOT_FILE), OpenOptions::read()).map_err(|e| said(ROOT_FILE, &e))?;
        let slots = SLOTS.iter().zip(0..).filter_map(|(at, slot)| {
            let mut bytes = vec![0; SLOT];
            file.read_exact_at(&mut bytes, *at).ok()?;
            bytes::root_record(&bytes, slot).ok()
        });
        let root = slots.max_by_key(|root| root.generation).ok_or("no slot of the root record can be read")?;
        Walk::new(fs, home, &root, None).all(&root.newest)
    }

    /// What a copy holds, by its manifest.
    ///
    /// # Errors
    /// As [`State::of_home`].
    pub fn of_copy(fs: &dyn Vfs, dir: &Path) -> Read<Self> {
        let manifest = manifest_in(fs, dir)?;
        let root = bytes::root_record(&manifest.root, 0)?;
        Walk::new(fs, dir, &root, Some(&manifest)).all(&root.newest)
    }
}

/// The manifest of a copy or an increment.
pub fn manifest_in(fs: &dyn Vfs, dir: &Path) -> Read<Manifest> {
    bytes::manifest(&whole(fs, &dir.join(MANIFEST_FILE))?)
}

fn said(name: &str, e: &dyn std::fmt::Display) -> String {
    format!("{name}: {e}")
}

fn whole(fs: &dyn Vfs, path: &Path) -> Read<Vec<u8>> {
    let read = || -> io::Result<Vec<u8>> {
        let file = fs.open(path, OpenOptions::read())?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    read().map_err(|e| said(&path.display().to_string(), &e))
}

/// FNV-1a: equal bytes, equal digest, and that is all that is asked of it.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

struct Walk<'a> {
    fs: &'a dyn Vfs,
    dir: &'a Path,
    /// The older checkpoints that count; all of them when there is no manifest.
    older: Option<Vec<u64>>,
    state: State,
}

/// A file on the way.
struct Source {
    name: String,
    table: u64,
    bytes: Vec<u8>,
}

impl<'a> Walk<'a> {
    fn new(fs: &'a dyn Vfs, dir: &'a Path, root: &RootRecord, manifest: Option<&Manifest>) -> Self {
        let state =
            State { lineage: root.lineage, seq: root.newest.seq, unit: u64::from(root.unit), ..State::default() };
        Self { fs, dir, older: manifest.map(|m| m.older.clone()), state }
    }

    fn all(mut self, newest: &Checkpoint) -> Read<State> {
        let mut rows = Vec::new();
        let (mut retained, mut tables) = (vec![newest.clone()], Vec::new());
        if newest.lists.is_some() {
            let catalog = self.open(CATALOG_FILE.to_owned(), 0, newest.catalog_bytes)?;
            self.checkpoint(&catalog, newest, &mut rows);
            for (key, row) in rows {
                match key.first() {
                    Some(1) => tables.push(bytes::table(&row)?),
                    Some(2) => retained.push(bytes::checkpoint(&row)?),
                    _ => {}
                }
            }
            retained.retain(|c| c.seq == newest.seq || self.older.as_ref().is_none_or(|o| o.contains(&c.seq)));
            for older in &retained[1..] {
                self.checkpoint(&catalog, older, &mut Vec::new());
            }
        }
        let numbers: Vec<u64> = retained.iter().map(|c| c.seq).collect();
        for table in tables {
            self.table(&table, &numbers)?;
        }
        Ok(self.state)
    }

    fn open(&mut self, name: String, table: u64, size: u64) -> Read<Source> {
        let bytes = whole(self.fs, &self.dir.join(&name))?;
        let header = FILE_HEADER.max(self.state.unit);
        let Some(head) = bytes.get(..header as usize) else {
            return Err(format!("{name}: no room for a header"));
        };
        let file = FileState { size, header, header_content: digest(head), ..FileState::default() };
        self.state.files.insert(name.clone(), file);
        Ok(Source { name, table, bytes })
    }

    /// The catalog's tree and the list block of one checkpoint.
    fn checkpoint(&mut self, catalog: &Source, record: &Checkpoint, rows: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        if let Some(lists) = record.lists {
            self.file(catalog).roots.push((record.seq, lists));
            self.enter(catalog, lists, record.seq, |_| Ok(Page::default()));
        }
        if let Some(root) = record.catalog {
            self.root(catalog, root, record.seq, rows);
        }
    }

    /// The states of a table that retained checkpoints need.
    fn table(&mut self, table: &bytes::Table, retained: &[u64]) -> Read<()> {
        let roots = table.states.iter().enumerate().filter(|(i, (seq, _))| {
            let next = table.states.get(i + 1).map_or(u64::MAX, |(next, _)| *next);
            next == u64::MAX || retained.iter().any(|c| (*seq..next).contains(c))
        });
        let roots: Vec<(u64, Root)> = roots.filter_map(|(_, (seq, root))| root.map(|root| (*seq, root))).collect();
        let Some(size) = table.size.filter(|size| *size > FILE_HEADER.max(self.state.unit)) else { return Ok(()) };
        let source = self.open(format!("table-{:08}.sl", table.id), table.id, size)?;
        for (seq, root) in roots {
            self.root(&source, root, seq, &mut Vec::new());
        }
        Ok(())
    }

    fn file(&mut self, source: &Source) -> &mut FileState {
        self.state.files.entry(source.name.clone()).or_default()
    }

    fn root(&mut self, source: &Source, root: Root, seq: u64, rows: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        self.file(source).roots.push((seq, root.addr));
        self.page(source, root.addr, root.level, seq, rows);
    }

    fn page(&mut self, source: &Source, addr: Addr, level: u8, parent: u64, rows: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        let Some(page) = self.enter(source, addr, parent, |body| bytes::page(body, level)) else { return };
        for (i, child) in page.children.iter().enumerate() {
            match page.patches.get(&i) {
                Some(patch) => self.patched(source, addr, patch, *child, rows),
                None => self.page(source, *child, level.saturating_sub(1), addr.birth, rows),
            }
        }
        self.rows(source, addr, page.rows, rows);
    }

    /// A leaf of a block and what the page above says of it: what that does not speak of counts in the block.
    fn patched(&mut self, source: &Source, above: Addr, patch: &Patch, leaf: Addr, rows: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        let read = |body: &[u8]| {
            let mut page = bytes::page(body, 0)?;
            page.rows.retain(|(key, _)| !patch.keys.contains(key));
            Ok(page)
        };
        if let Some(full) = self.note(source, leaf, above.birth, false, read) {
            self.rows(source, leaf, full.rows, rows);
        }
        self.rows(source, above, patch.rows.clone(), rows);
        rows.sort();
    }

    fn rows(&mut self, source: &Source, addr: Addr, found: Vec<(Vec<u8>, Cell)>, rows: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        for (key, cell) in found {
            match cell {
                Cell::Inline(value) => rows.push((key, value)),
                Cell::Pieces(pieces) => {
                    for piece in &pieces {
                        self.enter(source, *piece, addr.birth, |_| Ok(Page::default()));
                    }
                    if source.table == 0 {
                        rows.push((key, value_of(source, &pieces)));
                    }
                }
            }
        }
    }

    /// Notes a block, unless it was met before, and what it leads to; rule `mono` is looked at here.
    fn enter(
        &mut self,
        source: &Source,
        addr: Addr,
        parent: u64,
        read: impl FnOnce(&[u8]) -> Read<Page>,
    ) -> Option<Page> {
        let known = self.file(source).blocks.get(&addr.offset).is_some_and(|known| known.addr == addr && known.whole);
        if known && source.table > 0 {
            return None;
        }
        self.note(source, addr, parent, true, read)
    }

    /// Notes a block, and what it leads to. A block under a patch is not `whole`: another patch may leave other rows.
    fn note(
        &mut self,
        source: &Source,
        addr: Addr,
        parent: u64,
        whole: bool,
        read: impl FnOnce(&[u8]) -> Read<Page>,
    ) -> Option<Page> {
        let place = format!("{} {}+{}", source.name, addr.offset, addr.size);
        if addr.birth > parent {
            let what = format!("{place}: born for {}, under a parent of {}", shown(addr.birth), shown(parent));
            self.state.broken.push(what);
        }
        let block = part(&source.bytes, addr);
        let page = bytes::body(block, addr, source.table).and_then(read);
        let mut children = page.as_ref().map(leads_to).unwrap_or_default();
        let before = self.file(source).blocks.get(&addr.offset).filter(|known| known.addr == addr);
        let whole = whole || before.is_some_and(|known| known.whole);
        children.extend(before.iter().flat_map(|known| known.children.iter().copied()));
        children.sort();
        children.dedup();
        let reached = Reached { addr, content: digest(block), children, whole };
        let other = self.file(source).blocks.insert(addr.offset, reached).filter(|other| other.addr != addr);
        if let Some(other) = other {
            self.state.broken.push(format!("{place}: two blocks of one state stand here, {:?} too", other.addr));
        }
        page.map_err(|why| self.state.broken.push(format!("{place}: {why}"))).ok()
    }
}

fn part(bytes: &[u8], addr: Addr) -> &[u8] {
    let start = usize::try_from(addr.offset).unwrap_or(usize::MAX);
    bytes.get(start..start.saturating_add(addr.size as usize)).unwrap_or_default()
}

fn value_of(source: &Source, pieces: &[Addr]) -> Vec<u8> {
    let bodies = pieces.iter().filter_map(|p| bytes::body(part(&source.bytes, *p), *p, source.table).ok());
    bodies.filter_map(|body| bytes::piece(body).ok()).flatten().copied().collect()
}

fn leads_to(page: &Page) -> Vec<Addr> {
    let patched = page.patches.values().flat_map(|patch| patch.rows.iter());
    let pieces = page.rows.iter().chain(patched).flat_map(|(_, cell)| match cell {
        Cell::Inline(_) => [].iter(),
        Cell::Pieces(pieces) => pieces.iter(),
    });
    page.children.iter().chain(pieces).copied().collect()
}

/// A number of a checkpoint as people write it.
pub fn shown(seq: u64) -> String {
    match seq & 0xf_ffff {
        0 => (seq >> 20).to_string(),
        minor => format!("{}.{minor}", seq >> 20),
    }
}
