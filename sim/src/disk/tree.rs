//! Files and directories by inode: the state of one layer of the disk.
//!
//! The disk holds two of these: the *live* tree, which reads see, and the *base* tree, which holds every slot's floor. A
//! crash image is a third, made from the base and chosen versions. All three share pages and directories.
//!
//! - R1: what no name reaches is not part of an image: it neither enters its hash nor its birth.
//! - R2: in an image a file holds zeros from its length on ([`Tree::trim`]); in a base tree data may lie beyond.

use super::body::{BLOCK, Body};
use super::hash;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Names an inode; never reused within one disk.
pub(crate) type Ino = u64;
/// The root directory.
pub(crate) const ROOT: Ino = 1;
/// One name in a directory.
pub(crate) type Name = Arc<OsStr>;

/// What an inode holds.
#[derive(Clone)]
pub(crate) enum Kind {
    File(FileInode),
    Dir(BTreeMap<Name, Ino>),
}

/// A regular file.
#[derive(Clone, Default)]
pub(crate) struct FileInode {
    pub(crate) size: u64,
    pub(crate) body: Body,
    /// Blocks of 512 bytes that cannot be read until they are rewritten.
    pub(crate) unreadable: BTreeSet<u64>,
}

/// One file or directory.
#[derive(Clone)]
pub(crate) struct Inode {
    pub(crate) kind: Kind,
    /// The newest event whose version this layer holds here.
    pub(crate) born: u64,
}

/// One layer of the disk.
#[derive(Clone)]
pub(crate) struct Tree {
    inodes: BTreeMap<Ino, Arc<Inode>>,
}

pub(crate) fn error(kind: io::ErrorKind, why: &str) -> io::Error {
    io::Error::new(kind, why)
}

fn not_found() -> io::Error {
    error(io::ErrorKind::NotFound, "no such file or directory")
}

/// The plain names of a path; `/` and `.` are skipped, `..` is refused.
fn parts(path: &Path) -> io::Result<Vec<&OsStr>> {
    let mut out = Vec::new();
    for c in path.components() {
        match c {
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(error(io::ErrorKind::InvalidInput, "a simulated path holds plain names only"));
            }
        }
    }
    Ok(out)
}

impl Tree {
    /// A tree with an empty root directory.
    pub(crate) fn new() -> Self {
        let root = Inode { kind: Kind::Dir(BTreeMap::new()), born: 0 };
        Self { inodes: BTreeMap::from([(ROOT, Arc::new(root))]) }
    }

    pub(crate) fn insert(&mut self, ino: Ino, kind: Kind) {
        self.inodes.insert(ino, Arc::new(Inode { kind, born: 0 }));
    }

    pub(crate) fn get(&self, ino: Ino) -> Option<&Inode> {
        self.inodes.get(&ino).map(Arc::as_ref)
    }

    pub(crate) fn get_mut(&mut self, ino: Ino) -> Option<&mut Inode> {
        self.inodes.get_mut(&ino).map(Arc::make_mut)
    }

    pub(crate) fn file(&self, ino: Ino) -> Option<&FileInode> {
        match &self.get(ino)?.kind {
            Kind::File(f) => Some(f),
            Kind::Dir(_) => None,
        }
    }

    pub(crate) fn file_mut(&mut self, ino: Ino) -> Option<&mut FileInode> {
        match &mut self.get_mut(ino)?.kind {
            Kind::File(f) => Some(f),
            Kind::Dir(_) => None,
        }
    }

    pub(crate) fn dir(&self, ino: Ino) -> Option<&BTreeMap<Name, Ino>> {
        match &self.get(ino)?.kind {
            Kind::Dir(names) => Some(names),
            Kind::File(_) => None,
        }
    }

    pub(crate) fn dir_mut(&mut self, ino: Ino) -> Option<&mut BTreeMap<Name, Ino>> {
        match &mut self.get_mut(ino)?.kind {
            Kind::Dir(names) => Some(names),
            Kind::File(_) => None,
        }
    }

    /// Every inode, in order.
    pub(crate) fn inos(&self) -> impl Iterator<Item = Ino> {
        self.inodes.keys().copied()
    }

    /// Forgets every inode that `keep` refuses.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(Ino) -> bool) {
        self.inodes.retain(|&ino, _| keep(ino));
    }

    /// The directory that holds the last name of `path`, and that name.
    pub(crate) fn parent(&self, path: &Path) -> io::Result<(Ino, Name)> {
        let parts = parts(path)?;
        let Some((last, dirs)) = parts.split_last() else {
            return Err(error(io::ErrorKind::InvalidInput, "the root directory has no name"));
        };
        let mut at = ROOT;
        for name in dirs {
            at = *self.names(at)?.get(*name).ok_or_else(not_found)?;
        }
        self.names(at)?;
        Ok((at, Name::from(*last)))
    }

    fn names(&self, ino: Ino) -> io::Result<&BTreeMap<Name, Ino>> {
        self.dir(ino).ok_or_else(|| error(io::ErrorKind::NotADirectory, "not a directory"))
    }

    /// What `path` names.
    pub(crate) fn lookup(&self, path: &Path) -> io::Result<Ino> {
        if parts(path)?.is_empty() {
            return Ok(ROOT);
        }
        let (dir, name) = self.parent(path)?;
        self.names(dir)?.get(&name).copied().ok_or_else(not_found)
    }

    /// Cuts these files at their lengths (R2).
    pub(crate) fn trim(&mut self, files: &BTreeSet<Ino>) {
        for ino in files {
            let Some(inode) = self.inodes.get_mut(ino) else { continue };
            let Kind::File(f) = &inode.kind else { continue };
            if f.body.reaches_beyond(f.size)
                && let Kind::File(f) = &mut Arc::make_mut(inode).kind
            {
                f.body.cut(f.size);
            }
        }
    }

    /// The files that hold bytes beyond their lengths.
    pub(crate) fn loose(&self) -> impl Iterator<Item = Ino> {
        let loose = |f: &FileInode| f.body.reaches_beyond(f.size);
        self.inodes.iter().filter(move |(_, i)| matches!(&i.kind, Kind::File(f) if loose(f))).map(|(&ino, _)| ino)
    }

    /// Calls `visit` with path hash, number and inode of everything a name reaches, the root included (R1).
    pub(crate) fn walk<'a>(&'a self, visit: &mut impl FnMut(u64, Ino, &'a Inode)) {
        self.walk_from(ROOT, 0, &mut Vec::new(), visit);
    }

    fn walk_from<'a>(&'a self, ino: Ino, path: u64, above: &mut Vec<Ino>, visit: &mut impl FnMut(u64, Ino, &'a Inode)) {
        // A rename between directories may leave both names, so an image may hold a directory inside itself.
        let Some(inode) = self.get(ino).filter(|_| !above.contains(&ino)) else { return };
        visit(path, ino, inode);
        if let Kind::Dir(names) = &inode.kind {
            above.push(ino);
            for (name, &child) in names {
                self.walk_from(child, hash::mix(path, hash::bytes(name.as_encoded_bytes())), above, visit);
            }
            above.pop();
        }
    }

    /// Content hash of all that names reach, and the newest event in it.
    pub(crate) fn hash_and_birth(&self) -> (u64, u64) {
        let (mut sum, mut born) = (0_u64, 0);
        self.walk(&mut |path, _, inode| {
            born = born.max(inode.born);
            sum = sum.wrapping_add(hash::mix(path, inode.kind.hash()));
        });
        (sum, born)
    }

    /// Every inode that a name reaches.
    pub(crate) fn reached(&self) -> BTreeSet<Ino> {
        let mut seen = BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(ino) = todo.pop() {
            for &child in self.dir(ino).into_iter().flat_map(BTreeMap::values) {
                if seen.insert(child) {
                    todo.push(child);
                }
            }
        }
        seen
    }
}

impl Kind {
    /// Content hash of a file, or of being a directory.
    pub(crate) fn hash(&self) -> u64 {
        match self {
            Self::Dir(_) => 1,
            Self::File(f) => file_hash(f.size, f.body.sum(), &f.unreadable.iter().copied().collect::<Vec<_>>()),
        }
    }
}

/// Content hash of a file with this length, sum of blocks, and unreadable blocks.
pub(crate) fn file_hash(size: u64, sum: u64, unreadable: &[u64]) -> u64 {
    let bad = unreadable.iter().fold(2, |h, &b| hash::mix(h, b));
    hash::mix(bad, hash::mix(size, sum))
}

impl FileInode {
    /// True when one of the blocks in the range cannot be read.
    pub(crate) fn is_unreadable(&self, offset: u64, len: u64) -> bool {
        len > 0 && self.unreadable.range(offset / BLOCK as u64..(offset + len).div_ceil(BLOCK as u64)).next().is_some()
    }

    /// A write makes the blocks it touches readable again.
    pub(crate) fn heal(&mut self, offset: u64, len: u64) {
        if !self.unreadable.is_empty() {
            let (from, to) = (offset / BLOCK as u64, (offset + len).div_ceil(BLOCK as u64));
            self.unreadable.retain(|b| !(from..to).contains(b));
        }
    }
}

impl Tree {
    /// Marks everything as if it had always been there.
    pub(crate) fn forget_births(&mut self) {
        for inode in self.inodes.values_mut().filter(|i| i.born != 0) {
            Arc::make_mut(inode).born = 0;
        }
    }

    /// Every file with its bytes and every directory with `None`, by path.
    pub(crate) fn contents(&self) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let mut out = Vec::new();
        self.contents_of(ROOT, &PathBuf::new(), &mut Vec::new(), &mut out);
        out
    }

    /// Every path that names one of these inodes.
    pub(crate) fn paths(&self, inos: &BTreeSet<Ino>) -> Vec<PathBuf> {
        let mut out = Vec::new();
        self.paths_of(ROOT, &PathBuf::new(), &mut Vec::new(), &mut |path, ino| {
            if inos.contains(&ino) {
                out.push(path.to_owned());
            }
        });
        out
    }

    fn paths_of(&self, ino: Ino, at: &Path, above: &mut Vec<Ino>, visit: &mut impl FnMut(&Path, Ino)) {
        visit(at, ino);
        let Some(names) = self.dir(ino).filter(|_| !above.contains(&ino)) else { return };
        above.push(ino);
        for (name, &child) in names {
            self.paths_of(child, &at.join(name.as_ref()), above, visit);
        }
        above.pop();
    }

    fn contents_of(&self, ino: Ino, at: &Path, above: &mut Vec<Ino>, out: &mut Vec<(PathBuf, Option<Vec<u8>>)>) {
        let Some(names) = self.dir(ino).filter(|_| !above.contains(&ino)) else { return };
        above.push(ino);
        for (name, &child) in names {
            let path = at.join(name.as_ref());
            if let Some(f) = self.file(child) {
                let mut bytes = vec![0; f.size as usize];
                f.body.read(&mut bytes, 0);
                out.push((path, Some(bytes)));
            } else {
                out.push((path.clone(), None));
                self.contents_of(child, &path, above, out);
            }
        }
        above.pop();
    }
}
