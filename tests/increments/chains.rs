//! Arbitrary chains of increments, each link of any shape and moved in any way, beside a full copy of the same checkpoint.
//!
//! A case is a list of [`Op`]s. One copy is taken early and rolled forward by every link, from the origin of the link before
//! it or of any earlier one. After each link the copy holds the rows of the source, and every live block of the full copy.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use strandline::backup::{self, Manifest, RestoreOptions};
use strandline::{BackupOptions, CheckpointOptions, Database, ErrorKind, Origin, TableOptions};
use strandline_sim::oracle::structure::Allowance;
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{OpenOptions, Vfs};

use crate::stage::*;

#[derive(Clone, Debug)]
enum Op {
    Create(u8),
    Drop(u8),
    Rename(u8, u8),
    Put { table: u8, from: u16, rows: u16, len: u32 },
    Delete { table: u8, from: u16, rows: u16 },
    Checkpoint { name: Option<u8>, drop: Option<u8> },
    Reopen,
    Crash,
    Link { back: u8, shape: u8, way: Way },
}

/// How an increment comes to the copy.
#[derive(Clone, Debug)]
enum Way {
    /// By way of a directory.
    Whole,
    /// The same, stopped so many times after some pieces.
    Stopped(Vec<u8>),
    /// By way of a stream.
    Streamed,
    /// Range by range, straight from the source.
    ByHand,
}

fn op() -> impl Strategy<Value = Op> {
    let table = 0..5u8;
    let len = prop_oneof![4 => 0..100u32, 2 => 100..5_000u32, 1 => 0..=1u32 << 20];
    let way = prop_oneof![
        2 => Just(Way::Whole),
        2 => prop::collection::vec(0..6u8, 1..4).prop_map(Way::Stopped),
        1 => Just(Way::Streamed),
        2 => Just(Way::ByHand),
    ];
    prop_oneof![
        2 => table.clone().prop_map(Op::Create),
        1 => table.clone().prop_map(Op::Drop),
        1 => (table.clone(), table.clone()).prop_map(|(from, to)| Op::Rename(from, to)),
        6 => (table.clone(), 0..400u16, 0..200u16, len).prop_map(|(table, from, rows, len)| {
            // What is large is few.
            let rows = rows.min(if len > 9_999 { 2 } else { 200 });
            Op::Put { table, from, rows, len }
        }),
        2 => (table, 0..400u16, 0..300u16).prop_map(|(table, from, rows)| Op::Delete { table, from, rows }),
        3 => (prop::option::weighted(0.4, 0..3u8), prop::option::weighted(0.3, 0..3u8))
            .prop_map(|(name, drop)| Op::Checkpoint { name, drop }),
        1 => Just(Op::Reopen),
        1 => Just(Op::Crash),
        5 => (0..4u8, 0..4u8, way).prop_map(|(back, shape, way)| Op::Link { back, shape, way }),
    ]
}

const SHAPES: [Allowance; 4] = [
    Allowance { gap: 0, granule: 0 },
    Allowance { gap: 4096, granule: 0 },
    Allowance { gap: 0, granule: 4096 },
    Allowance { gap: 0, granule: 1 << 20 },
];

struct Chain {
    vfs: MemVfs,
    db: Option<Database>,
    /// Where the copy has been, oldest first.
    origins: Vec<Origin>,
    links: usize,
}

impl Chain {
    fn new() -> Self {
        let vfs = MemVfs::new();
        let db = deep(&vfs).create(true).open("/db").unwrap();
        db.create_table("t0", TableOptions::new()).unwrap();
        write(&db, "t0", (0..100).map(|i| row(i, 40)));
        db.checkpoint(CheckpointOptions::new()).unwrap();
        let origins = vec![take(&db, "/copy", None).origin()];
        Self { vfs, db: Some(db), origins, links: 0 }
    }

    fn db(&self) -> &Database {
        self.db.as_ref().unwrap()
    }

    fn play(&mut self, op: &Op) {
        let name = |table: u8| format!("t{table}");
        let there = |table: u8| self.db().tables().unwrap().iter().any(|t| t.name == name(table));
        match op {
            Op::Create(table) => drop(self.db().create_table(&name(*table), TableOptions::new()).unwrap()),
            Op::Drop(table) if there(*table) => self.db().drop_table(&name(*table), true).unwrap(),
            Op::Rename(from, to) if there(*from) => {
                let taken = there(*to);
                let renamed = self.db().rename_table(&name(*from), &name(*to));
                assert_eq!(renamed.is_err(), taken, "{renamed:?}");
            }
            Op::Put { table, from, rows, len } if there(*table) => {
                let rows = (*from..from + rows).map(|i| row(i.into(), *len as usize));
                write(self.db(), &name(*table), rows);
            }
            Op::Delete { table, from, rows } if there(*table) => {
                let rows = (*from..from + rows).map(|i| (row(i.into(), 0).0, None));
                write(self.db(), &name(*table), rows);
            }
            Op::Checkpoint { name, drop } => {
                let mut options = CheckpointOptions::new();
                options = name.iter().fold(options, |o, n| o.name(format!("n{n}")));
                options = drop.iter().filter(|d| Some(**d) != *name).fold(options, |o, n| o.drop(format!("n{n}")));
                self.db().checkpoint(options).unwrap();
            }
            Op::Reopen => {
                self.db.take().unwrap().close().unwrap();
                self.db = Some(deep(&self.vfs).open("/db").unwrap());
            }
            Op::Crash => {
                // What the old handle still does happens on another disk.
                self.vfs = self.vfs.duplicate();
                self.db = Some(deep(&self.vfs).open("/db").unwrap());
            }
            Op::Link { back, shape, way } => self.link(*back, SHAPES[*shape as usize], way),
            Op::Drop(_) | Op::Rename(..) | Op::Put { .. } | Op::Delete { .. } => {}
        }
    }

    fn link(&mut self, back: u8, shape: Allowance, way: &Way) {
        let since = self.origins[self.origins.len().saturating_sub(1 + back as usize)];
        let db = self.db();
        take(db, "/full", None);
        take_shaped(db, "/inc", Some(since), shape);
        assert_exact(&self.vfs, "/copy", "/inc", "/full", shape);
        match way {
            Way::Whole => drop(apply(&self.vfs, "/inc", "/copy").unwrap()),
            Way::Stopped(moments) => self.apply_in_pieces(moments),
            Way::Streamed => self.by_stream(since),
            Way::ByHand => self.by_hand(since, shape),
        }
        assert_sound(&self.vfs, "/copy");
        assert_same_blocks(&self.vfs, "/copy", "/full");
        assert_eq!(restored(&self.vfs, "/copy"), contents(self.db()));
        self.origins.push(Manifest::load(&self.vfs, Path::new("/copy")).unwrap().origin());
        self.links += 1;
        remove(&self.vfs, "/full");
        remove(&self.vfs, "/inc");
    }

    /// Stops at the wish of a caller after a few pieces, again and again, and then goes through.
    fn apply_in_pieces(&self, moments: &[u8]) {
        for moment in moments {
            let mut left = *moment;
            let mut stop = |_: &strandline::Progress<'_>| {
                left = left.wrapping_sub(1);
                if left == u8::MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let stopped = backup::apply(&self.vfs, Path::new("/inc"), Path::new("/copy"), &mut stop);
            assert!(stopped.is_ok() || stopped.is_err_and(|e| e.kind() == ErrorKind::Cancelled));
        }
        apply(&self.vfs, "/inc", "/copy").unwrap();
    }

    fn by_stream(&self, since: Origin) {
        let backup = self.db().backup(BackupOptions::new().incremental_from(since)).unwrap();
        let mut pipe = Vec::new();
        backup.stream_to(&mut pipe, go_on).unwrap();
        backup.finish().unwrap();
        let vfs: Arc<dyn Vfs> = Arc::new(self.vfs.clone());
        let options = RestoreOptions::default();
        backup::restore_stream(&vfs, &mut &pipe[..], Path::new("/piped"), &options, &mut go_on).unwrap();
        apply(&self.vfs, "/piped", "/copy").unwrap();
        remove(&self.vfs, "/piped");
    }

    fn by_hand(&self, since: Origin, shape: Allowance) {
        let options = BackupOptions::new().incremental_from(since).granularity(shape.granule).merge_gaps(shape.gap);
        let backup = self.db().backup(options).unwrap();
        let copy = Path::new("/copy");
        let becomes = backup::accepts(&self.vfs, backup.plan().manifest(), copy).unwrap();
        self.vfs.remove_file(&Manifest::path(copy)).unwrap();
        for item in backup.items().iter().filter(|item| item.name() != strandline::manifest::MANIFEST_FILE) {
            let source = self.vfs.open(item.source(), OpenOptions::read()).unwrap();
            let target = self.vfs.open(&copy.join(item.name()), OpenOptions::create()).unwrap();
            let mut bytes = Vec::new();
            for range in item.ranges() {
                bytes.resize(range.len as usize, 0);
                source.read_exact_at(&mut bytes, range.offset).unwrap();
                target.write_all_at(&bytes, range.offset).unwrap();
            }
        }
        backup.finish().unwrap();
        for name in &becomes.removed {
            let _ = self.vfs.remove_file(&copy.join(name));
        }
        becomes.store(&self.vfs, copy).unwrap();
        Manifest::seal(&self.vfs, copy).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Covers: BI-2 to BI-6, BI-11, BI-12, RS-2, K4, K5.
    #[test]
    fn arbitrary_chains(ops in prop::collection::vec(op(), 1..24)) {
        let mut chain = Chain::new();
        for op in &ops {
            chain.play(op);
        }
        chain.play(&Op::Link { back: 0, shape: 0, way: Way::Whole });
        prop_assert!(chain.links > 0);
    }
}

/// The cases above are worth something only if they meet what they are about.
#[test]
fn the_cases_are_varied() {
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..256 {
        let ops = prop::collection::vec(op(), 1..24).new_tree(&mut runner).unwrap().current();
        let links = ops.iter().filter(|op| matches!(op, Op::Link { .. })).count();
        *met.entry("chains of five").or_default() += usize::from(links >= 5);
        for op in &ops {
            let what = match op {
                Op::Put { len: 100_000.., rows: 1.., .. } => "large values",
                Op::Link { way: Way::ByHand, .. } => "by hand",
                Op::Link { way: Way::Stopped(_), .. } => "stopped",
                Op::Link { back: 1.., .. } => "from an older origin",
                Op::Rename(..) => "renamed",
                _ => continue,
            };
            *met.entry(what).or_default() += 1;
        }
    }
    assert!(met.len() == 6 && met.values().all(|n| *n > 20), "{met:?}");
}
