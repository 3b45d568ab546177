//! A tree with everything around it, a model of what it should hold, and a catalog's part in checkpoints.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use strandline_vfs::{Vfs, fault::FaultVfs, mem::MemVfs};

use crate::block::{BlockSource, BlockStore, DeadList, SpaceState, data_start, drop_entry};
use crate::btree::{Descend, Tree, TreeOptions, TreeReader, TreeRoot};
use crate::cache::Cache;
use crate::error::Result;
use crate::txn::{Epoch, SnapshotGuard, TxnRegistry};
use crate::types::{CheckpointSeq, CommitSeq, Extent, TableId};

pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
pub const UNIT: u32 = 512;
const TABLE: TableId = TableId(1);

pub fn tiny() -> TreeOptions {
    TreeOptions { leaf_bytes: 256, fan_out: 4, fold_versions: 5, overflow_bytes: 64, piece_bytes: 100, patch_share: 1 }
}

/// The versions of one key, oldest first.
type History = Vec<(u64, Option<Vec<u8>>)>;

/// Every version of every key.
#[derive(Clone, Default)]
pub struct Model(BTreeMap<Vec<u8>, History>);

impl Model {
    pub fn write(&mut self, key: &[u8], seq: CommitSeq, value: Option<Vec<u8>>) {
        self.0.entry(key.to_vec()).or_default().push((seq.0, value));
    }

    pub fn at(&self, snapshot: CommitSeq) -> Rows {
        let seen = |versions: &History| {
            versions.iter().rev().find(|(seq, _)| *seq <= snapshot.0).and_then(|(_, value)| value.clone())
        };
        self.0.iter().filter_map(|(key, versions)| Some((key.clone(), seen(versions)?))).collect()
    }

    pub fn newest(&self, key: &[u8]) -> CommitSeq {
        CommitSeq(self.0.get(key).and_then(|versions| versions.last()).map_or(0, |(seq, _)| *seq))
    }
}

/// A checkpoint that is kept.
pub struct Kept {
    pub seq: CheckpointSeq,
    pub root: Option<TreeRoot>,
    pub dead: DeadList,
    pub rows: Rows,
}

pub struct World {
    pub vfs: Arc<dyn Vfs>,
    pub faults: FaultVfs,
    pub options: TreeOptions,
    pub store: Arc<BlockStore>,
    pub cache: Arc<Cache>,
    pub epoch: Arc<Epoch>,
    pub registry: Arc<TxnRegistry>,
    pub tree: Arc<Tree>,
    pub model: Mutex<Model>,
    pub catalog: Mutex<Catalog>,
}

/// What the newest complete checkpoint recorded.
#[derive(Default)]
pub struct Catalog {
    pub kept: Vec<Kept>,
    pub space: Option<SpaceState>,
}

impl World {
    pub fn new(options: TreeOptions, cache: usize) -> Self {
        let faults = FaultVfs::new(Arc::new(MemVfs::new()));
        let vfs: Arc<dyn Vfs> = Arc::new(faults.clone());
        vfs.create_dir(Path::new("home")).unwrap();
        let live = CheckpointSeq::major(1);
        let (cache, epoch) = (Cache::new(cache), Arc::new(Epoch::new(live)));
        let registry = Arc::new(TxnRegistry::new(CommitSeq(0)));
        let store = store(&vfs, None, live);
        let tree = Tree::new(
            TABLE,
            Arc::clone(&store),
            Arc::clone(&cache),
            Arc::clone(&epoch),
            Arc::clone(&registry),
            None,
            options,
        );
        let (model, catalog) = (Mutex::default(), Mutex::default());
        Self { vfs, faults, options, store, cache, epoch, registry, tree, model, catalog }
    }

    /// Commits a batch, as the database would. No two callers write the same key at once.
    pub fn commit(&self, writes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Result<CommitSeq> {
        let entered = self.epoch.enter();
        let batch = writes.iter().map(|(k, v)| (k.as_slice(), v.as_deref()));
        let mut prepared = self.tree.prepare(&entered, batch)?;
        let mut model = self.model.lock();
        let seq = CommitSeq(self.registry.visible().0 + 1);
        self.tree.apply(&entered, &mut prepared, seq);
        for (key, value) in writes {
            model.write(key, seq, value.clone());
        }
        self.registry.publish(seq);
        drop(model);
        self.tree.tidy(&entered, prepared);
        Ok(seq)
    }

    pub fn snapshot(&self) -> SnapshotGuard {
        self.registry.register()
    }

    /// All rows that a snapshot sees, by a scan.
    pub fn rows(&self, snapshot: CommitSeq) -> Rows {
        let mut cursor = self.tree.scan(snapshot, std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let mut rows = Rows::new();
        while cursor.next().unwrap() {
            assert!(rows.last_key_value().is_none_or(|(last, _)| last.as_slice() < cursor.key()));
            rows.insert(cursor.key().to_vec(), cursor.value().unwrap().to_vec());
        }
        rows
    }

    /// Completes the checkpoint in progress as the database would: `stored` is what the tree made of it.
    pub fn complete(&self, seq: CheckpointSeq, stored: Option<Option<TreeRoot>>, rows: Rows, drop: Option<usize>) {
        self.faults.heal();
        let catalog = &mut *self.catalog.lock();
        let mut space = if let Some(root) = stored {
            let settled = self.store.finish_checkpoint(seq);
            catalog.kept.push(Kept { seq, root, dead: settled.dead, rows });
            settled.state
        } else {
            if let Some(newest) = catalog.kept.last() {
                assert_eq!(newest.rows, rows, "an unchanged tree has unchanged rows");
            } else {
                assert!(rows.is_empty());
            }
            self.store.space()
        };
        let mut freed = Vec::new();
        if let Some(drop) = drop
            && drop + 1 < catalog.kept.len()
        {
            let gone = catalog.kept.remove(drop);
            let pred = drop.checked_sub(1).map(|before| catalog.kept[before].seq);
            freed = drop_entry(pred, gone.dead, &mut catalog.kept[drop].dead);
            space.free(&freed);
        }
        self.store.retire(&freed);
        if stored.is_some() {
            self.store.complete_checkpoint(seq);
        }
        catalog.space = Some(space);
        self.epoch.finish();
        self.store.release_pending();
        self.check_kept(catalog);
    }

    /// Gives up on the checkpoint in progress.
    pub fn abandon(&self, seq: CheckpointSeq) {
        self.epoch.finish();
        self.tree.abandon(seq);
        self.store.abandon_checkpoint(seq);
    }

    /// Covers: B2, B5, C1. Every kept checkpoint reads as it should, and every byte is accounted for.
    fn check_kept(&self, catalog: &Catalog) {
        let Some(space) = &catalog.space else { return };
        let source: Arc<dyn BlockSource> = Arc::clone(&self.store) as _;
        for (i, kept) in catalog.kept.iter().enumerate() {
            let reader = TreeReader::open(Arc::clone(&source), kept.root);
            let mut cursor = reader.scan(std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
            let mut rows = Rows::new();
            while cursor.next().unwrap() {
                rows.insert(cursor.key().to_vec(), cursor.value().unwrap().to_vec());
            }
            assert_eq!(rows, kept.rows, "checkpoint {} reads back", kept.seq);
            let mut used = Vec::new();
            let walked = reader.walk(&mut |visit| {
                assert!(visit.addr.birth <= kept.seq);
                used.push(visit.addr.extent());
                Ok(Descend::Yes)
            });
            walked.unwrap();
            if i + 1 == catalog.kept.len() {
                self.check_partition(used, space, &catalog.kept);
            }
        }
    }

    fn check_partition(&self, mut ranges: Vec<Extent>, space: &SpaceState, kept: &[Kept]) {
        ranges.extend_from_slice(&space.available);
        ranges.extend(kept.iter().flat_map(|kept| kept.dead.entries()).map(|dead| dead.extent));
        ranges.sort_by_key(|range| range.offset);
        let mut at = data_start(UNIT);
        for range in ranges {
            assert_eq!(range.offset, at, "B2: bytes lost or counted twice before {}", range.offset);
            at = range.end();
        }
        assert_eq!(at, space.size.max(data_start(UNIT)), "B2: the end of the file");
    }

    /// Forgets all that is in memory and opens the newest checkpoint.
    pub fn reopen(&mut self) {
        self.faults.heal();
        let live = self.epoch.live().next_major();
        let catalog = self.catalog.get_mut();
        let newest = catalog.kept.last();
        let (root, rows) = newest.map_or((None, Rows::new()), |kept| (kept.root, kept.rows.clone()));
        self.store = store(&self.vfs, catalog.space.clone(), live);
        self.cache = Cache::new(self.cache.target());
        self.epoch = Arc::new(Epoch::new(live));
        self.registry = Arc::new(TxnRegistry::new(self.registry.visible()));
        self.tree = Tree::new(
            TABLE,
            Arc::clone(&self.store),
            Arc::clone(&self.cache),
            Arc::clone(&self.epoch),
            Arc::clone(&self.registry),
            root,
            self.options,
        );
        *self.model.get_mut() = Model::default();
        for (key, value) in rows {
            self.model.get_mut().write(&key, self.registry.visible(), Some(value));
        }
    }
}

fn store(vfs: &Arc<dyn Vfs>, state: Option<SpaceState>, live: CheckpointSeq) -> Arc<BlockStore> {
    Arc::new(BlockStore::new(Arc::clone(vfs), "home/table", TABLE, UNIT, state, live).unwrap())
}
