//! From a pinned checkpoint to the list of things to copy.
//!
//! The list is fixed when the backup is opened and never changes: the catalog's file first, so that a reader of a stream
//! meets the small file that explains the others before them, then a file per table in the order of their names, then the
//! segments of the log, the manifest last. Sizes are those that the checkpoint recorded, not those the files happen to have: whatever was
//! appended since belongs to later checkpoints.
//!
//! A backup of chosen tables copies the whole catalog too, since its blocks vouch for each other up to the root record; its
//! manifest names only the chosen tables, and opening the copy forgets the rest.
//!
//! An increment from the log is segments and a manifest, nothing else: it is of no checkpoint.

use std::path::{Path, PathBuf};

use super::changes::WalkCost;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Content, CopyKind, FileRole, Manifest, ManifestFile, ManifestTable};
use crate::types::{CheckpointSeq, Extent, Lineage, Lsn, Origin, TableId};

/// What the manifest says of the backup as a whole.
#[derive(Clone, Debug)]
pub struct PlanHead {
    /// The history of the database.
    pub lineage: Lineage,
    /// The checkpoint that is pinned.
    pub sequence: CheckpointSeq,
    /// Identity of the backup, as in the root record while it is open.
    pub backup: u64,
    /// Wall time, in milliseconds since 1970.
    pub time_ms: u64,
    /// The root record that the copy starts from, encoded.
    pub root: Vec<u8>,
    /// Older checkpoints that are retained and hence in the copy too, oldest first.
    pub checkpoints: Vec<CheckpointSeq>,
    /// Bytes of the catalog's file that belong to the checkpoint; `None` when it has no file yet.
    pub catalog_size: Option<u64>,
    /// Where the last record ends that the segments hold.
    pub log_end: Lsn,
}

/// A table at the pinned checkpoint.
#[derive(Clone, Debug)]
pub struct PlanTable {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TableId,
    /// Bytes of its file that belong to the checkpoint; `None` for a table without a file, which is restored empty.
    pub size: Option<u64>,
}

/// A closed segment of the log: it does not change any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanSegment {
    /// Its number.
    pub number: u32,
    /// Its file, in the log directory of the database.
    pub source: PathBuf,
    /// Bytes of the file.
    pub size: u64,
}

impl PlanSegment {
    fn file(&self) -> ManifestFile {
        let role = FileRole::Segment(self.number);
        ManifestFile { name: role.file_name(), role, size: self.size, content: Content::Whole, pieces: Vec::new() }
    }
}

/// What an increment from the log is.
#[derive(Clone, Debug)]
pub struct LogHead {
    /// The history that wrote the segments.
    pub lineage: Lineage,
    /// Identity of the backup; that of the full one for its catch-up.
    pub backup: u64,
    /// Wall time, in milliseconds since 1970.
    pub time_ms: u64,
    /// Where the records end that those of the first segment follow; offset 0 when that is not known.
    pub previous: Lsn,
    /// Where the last of the tables began to be logged that were not from their beginning.
    pub complete: Lsn,
    /// The number of the first segment, or of the one to come when there is none.
    pub first: u32,
    /// Where the last record ends.
    pub end: Lsn,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemKind {
    /// The catalog's file.
    Catalog,
    /// A table's file.
    Table,
    /// A segment of the log.
    Segment,
    /// The manifest: to be copied last.
    Manifest,
}

/// Which part of a file an item stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemContent {
    /// All of it, up to the size that the checkpoint recorded; the target is emptied first.
    Whole,
    /// The ranges; the rest is in the base.
    Ranges,
    /// Nothing: the base has it as it is. Such an item is listed so that all files are.
    Unchanged,
}

/// One file to copy, by any tool: the engine reads and writes its files through the system's page cache, so nobody who copies
/// them has to bypass it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupItem {
    name: String,
    source: PathBuf,
    ranges: Vec<Extent>,
    kind: ItemKind,
    content: ItemContent,
    table: Option<String>,
}

impl BackupItem {
    /// Its name relative to the copy.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The full path of the file to read.
    #[must_use]
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Bytes to copy.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.ranges.iter().map(|r| r.len).sum()
    }

    /// Which bytes of the source to copy, in order. One range from the start of the file for a whole item, and then more
    /// bytes after it do no harm; in an increment the ranges go back to back into the item's file.
    #[must_use]
    pub fn ranges(&self) -> &[Extent] {
        &self.ranges
    }

    /// Which part of the file is to be copied.
    #[must_use]
    pub fn content(&self) -> ItemContent {
        self.content
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> ItemKind {
        self.kind
    }

    /// The table whose file it is.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }
}

/// Everything a copier must know before a byte moves.
#[derive(Clone, Debug)]
pub struct Plan {
    manifest: Manifest,
    files: Vec<BackupItem>,
    walk: WalkCost,
}

impl Plan {
    /// The plan for a full backup of the home `home` with these segments of its log, or of the tables in `only` when it
    /// names any.
    ///
    /// # Errors
    /// `NotFound` naming a table in `only` that the checkpoint does not hold.
    pub fn new(
        home: &Path,
        head: PlanHead,
        mut tables: Vec<PlanTable>,
        segments: &[PlanSegment],
        only: &[String],
    ) -> Result<Self> {
        if let Some(missing) = only.iter().find(|name| !tables.iter().any(|t| t.name == **name)) {
            return Err(Error::new(ErrorKind::NotFound, format!("the checkpoint holds no table `{missing}`"))
                .remedy("list the tables; one made after the last checkpoint needs a fresh checkpoint first"));
        }
        tables.retain(|t| only.is_empty() || only.contains(&t.name));
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        let catalog = head.catalog_size.map(|size| (FileRole::Catalog, size));
        let sized = tables.iter().filter_map(|t| t.size.map(|size| (FileRole::Table(t.id), size)));
        let files = catalog.into_iter().chain(sized).map(|(role, size)| ManifestFile {
            name: role.file_name(),
            role,
            size,
            content: Content::Whole,
            pieces: Vec::new(),
        });
        let files = files.chain(segments.iter().map(PlanSegment::file));
        let manifest = Manifest {
            kind: if only.is_empty() { CopyKind::Full } else { CopyKind::Targeted },
            rolled: None,
            sealed: false,
            lineage: head.lineage,
            sequence: head.sequence,
            backup: head.backup,
            time_ms: head.time_ms,
            root: head.root,
            checkpoints: head.checkpoints,
            files: files.collect(),
            log_end: (!segments.is_empty()).then_some(head.log_end),
            tables: tables.into_iter().map(|t| ManifestTable { name: t.name, id: t.id }).collect(),
            removed: Vec::new(),
        };
        Ok(Self::of_manifest(home, manifest).with_segments(segments))
    }

    /// The plan for an increment from the log: these segments, which follow each other.
    #[must_use]
    pub fn log(home: &Path, head: &LogHead, segments: &[PlanSegment]) -> Self {
        let next = segments.last().map_or(head.first, |last| last.number + 1);
        let manifest = Manifest {
            kind: CopyKind::Log { previous: head.previous, complete: head.complete, first: head.first, next },
            lineage: head.lineage,
            backup: head.backup,
            time_ms: head.time_ms,
            files: segments.iter().map(PlanSegment::file).collect(),
            log_end: (!segments.is_empty()).then_some(head.end),
            ..Manifest::empty()
        };
        Self::of_manifest(home, manifest).with_segments(segments)
    }

    /// Reads segments from where they are, which need not be the home.
    fn with_segments(mut self, segments: &[PlanSegment]) -> Self {
        for item in self.files.iter_mut().filter(|item| item.kind == ItemKind::Segment) {
            if let Some(segment) = segments.iter().find(|s| item.source.file_name() == s.source.file_name()) {
                item.source.clone_from(&segment.source);
            }
        }
        self
    }

    /// Makes the plan of a full backup one of an increment since `base`: `content` says of each file what must travel.
    ///
    /// # Errors
    /// What `content` returns.
    pub fn since(self, home: &Path, base: Origin, mut content: impl FnMut(TableId) -> Result<Content>) -> Result<Self> {
        let segments = self.segments();
        let mut manifest = self.manifest;
        manifest.kind = CopyKind::Increment(base);
        for file in &mut manifest.files {
            file.content = match file.role {
                FileRole::Catalog => content(TableId::CATALOG)?,
                FileRole::Table(id) => content(id)?,
                FileRole::Segment(_) => Content::Whole,
            };
        }
        Ok(Self::of_manifest(home, manifest).with_segments(&segments))
    }

    fn segments(&self) -> Vec<PlanSegment> {
        let numbered = self.manifest.segments().map(|(number, file)| (number, file.name.as_str()));
        numbered
            .filter_map(|(number, name)| {
                let item = self.files.iter().find(|item| item.name == name)?;
                Some(PlanSegment { number, source: item.source.clone(), size: item.size() })
            })
            .collect()
    }

    /// The plan for copying what is stored beside `manifest` in `dir`: a copy, or an increment.
    #[must_use]
    pub fn of_copy(dir: &Path, manifest: Manifest) -> Self {
        Self::with_ranges(dir, manifest, |f| vec![Extent { offset: 0, len: f.stored() }])
    }

    /// The plan for copying what `manifest` lists from the home `dir`.
    #[must_use]
    pub fn of_manifest(dir: &Path, manifest: Manifest) -> Self {
        Self::with_ranges(dir, manifest, ManifestFile::ranges)
    }

    /// The same plan in ranges of at most `granule` bytes each, cut at its multiples, for copiers that move one at a time. What
    /// they write is the same.
    #[must_use]
    pub fn in_pieces(mut self, granule: u64) -> Self {
        for item in self.files.iter_mut().filter(|_| granule > 0) {
            item.ranges = item.ranges.iter().flat_map(|range| cut(*range, granule)).collect();
        }
        self
    }

    fn with_ranges(dir: &Path, manifest: Manifest, ranges: impl Fn(&ManifestFile) -> Vec<Extent>) -> Self {
        let files = manifest.files.iter().filter(|f| f.is_stored()).map(|f| item(dir, &manifest, f, ranges(f)));
        Self { files: files.collect(), manifest, walk: WalkCost::default() }
    }

    /// The same plan, which was found at this cost.
    #[must_use]
    pub const fn with_walk(mut self, walk: WalkCost) -> Self {
        self.walk = walk;
        self
    }

    /// What it took to make the plan.
    #[must_use]
    pub const fn walk(&self) -> WalkCost {
        self.walk
    }

    /// The manifest of the copy to be; not sealed, unless it is that of a sealed copy.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The files to copy, without the manifest, and without those that an increment does not carry.
    #[must_use]
    pub fn files(&self) -> &[BackupItem] {
        &self.files
    }

    /// All items, those that an increment does not carry included, the manifest last. Its source is where the engine keeps it in
    /// `home` while the backup is open.
    #[must_use]
    pub fn items(&self, home: &Path) -> Vec<BackupItem> {
        let mut carried = self.files.iter().cloned();
        let listed = self.manifest.files.iter().filter_map(|f| match f.is_stored() {
            true => carried.next(),
            false => Some(item(home, &self.manifest, f, Vec::new())),
        });
        let mut items: Vec<BackupItem> = listed.collect();
        items.push(BackupItem {
            name: self.manifest.file_name(),
            source: home.join(self.manifest.file_name()),
            ranges: vec![Extent { offset: 0, len: self.manifest.encode().len() as u64 }],
            kind: ItemKind::Manifest,
            content: ItemContent::Whole,
            table: None,
        });
        items
    }

    /// Bytes to copy, the manifest not counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.manifest.bytes()
    }

    /// Where an increment on top of the copy would start.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.manifest.origin()
    }
}

fn item(dir: &Path, manifest: &Manifest, file: &ManifestFile, ranges: Vec<Extent>) -> BackupItem {
    BackupItem {
        name: file.name.clone(),
        source: dir.join(&file.name),
        ranges,
        kind: match file.role {
            FileRole::Catalog => ItemKind::Catalog,
            FileRole::Table(_) => ItemKind::Table,
            FileRole::Segment(_) => ItemKind::Segment,
        },
        content: match file.content {
            Content::Whole => ItemContent::Whole,
            Content::Ranges(_) => ItemContent::Ranges,
            Content::Unchanged => ItemContent::Unchanged,
        },
        table: manifest.tables.iter().find(|t| file.role.table() == Some(t.id)).map(|t| t.name.clone()),
    }
}

/// A range cut at the multiples of `granule`.
fn cut(range: Extent, granule: u64) -> impl Iterator<Item = Extent> {
    let mut offset = range.offset;
    std::iter::from_fn(move || {
        let len = (granule - offset % granule).min(range.end() - offset);
        let piece = Extent { offset, len };
        offset += len;
        (len > 0).then_some(piece)
    })
}
