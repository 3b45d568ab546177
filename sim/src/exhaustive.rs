//! Every workload up to a length, every image of every barrier, every crash of every recovery.
//!
//! Small scopes find most of what large ones find: of the bugs planted in a toy engine, eight in ten need at most four
//! operations. The explorer walks the tree of workloads over a small alphabet. A workload is judged only at barriers from its
//! last operation on: what came before was judged when the walk was at its prefix. Operations that do nothing where they stand
//! (the end of a backup when none is open) are not walked, since the workload without them is walked too.

use std::thread;

use crate::driver::{self, Failure, Hush, World};
use crate::oracle::{Count, Effort, Judge};
use crate::workload::{Config, Op, parse};

/// Rows, checkpoints, tables, restarts.
pub const STORE: [&str; 10] = [
    "put t0 k1 = #0 x4",
    "put t0 k2 = #0 x4",
    "delete t0 k1",
    "checkpoint",
    "checkpoint a",
    "checkpoint drop=a",
    "create t1",
    "drop-table t0 force",
    "rename t0 t2",
    "restart",
];

/// Rows, checkpoints, backups, copies.
pub const BACKUP: [&str; 8] = [
    "put t0 k1 = #0 x4",
    "delete t0 k1",
    "checkpoint",
    "checkpoint a",
    "backup",
    "copy-all",
    "end-backup",
    "checkpoint drop=a",
];

/// Rows, tables, checkpoints, and chains of increments: the first link is a full copy, the next ones roll it forward.
pub const CHAIN: [&str; 8] = [
    "put t0 k1 = #0 x4",
    "link",
    "link from=1 how=1",
    "checkpoint",
    "checkpoint a",
    "create t1",
    "drop-table t0 force",
    "kill",
];

/// Commits of two kinds, changes of the catalog, deaths of the process; for a database with a log.
pub const LOG: [&str; 9] = [
    "put t0 k1 = #0 x4 sync",
    "put t0 k2 = #0 x4 buffered",
    "sync-log sync",
    "checkpoint",
    "checkpoint a",
    "create t1",
    "kill",
    "backup",
    "end-backup",
];

/// One failing workload.
pub struct Counterexample {
    /// Its operations.
    pub ops: Vec<Op>,
    /// What broke.
    pub failure: Failure,
}

/// Walks all workloads of up to `length` letters of `alphabet`, each after the creation of a table, on `jobs` threads.
///
/// # Errors
/// The first failure met.
pub fn exhaustive(
    alphabet: &[&str],
    length: usize,
    config: &Config,
    jobs: usize,
) -> Result<(u64, Count), Box<Counterexample>> {
    let letters: Vec<Op> = alphabet.iter().filter_map(|line| parse(line).ok()).collect();
    let walks: Vec<Result<(u64, Count), Box<Counterexample>>> = thread::scope(|scope| {
        let walk = |job| {
            let letters = &letters;
            scope.spawn(move || {
                let _hush = Hush::new();
                let judge = Judge::new(Effort::exhaustive());
                let mut walk = Walk { letters, length, config, judge, walked: 0, share: (job, jobs), turn: 0 };
                let start = vec![Op::Create { table: 0, unlogged: false }];
                walk.down(&start, State::default()).map(|()| (walk.walked, walk.judge.count))
            })
        };
        let threads: Vec<_> = (0..jobs).map(walk).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Ok((0, Count::default())))).collect()
    });
    let mut sum = (0, Count::default());
    for walk in walks {
        let (walked, count) = walk?;
        sum.0 += walked;
        sum.1.add(&count);
    }
    Ok(sum)
}

struct Walk<'a> {
    letters: &'a [Op],
    length: usize,
    config: &'a Config,
    judge: Judge,
    walked: u64,
    share: (usize, usize),
    turn: usize,
}

/// What decides whether a letter does anything.
#[derive(Clone, Copy, Default)]
struct State {
    backup: bool,
    named: bool,
    gone: bool,
}

impl Walk<'_> {
    fn down(&mut self, ops: &[Op], state: State) -> Result<(), Box<Counterexample>> {
        let depth = ops.len() - 1;
        // Threads share the work by the first two letters; the first thread takes what is shorter.
        let mine = depth >= 2 || self.share.0 == 0;
        if mine {
            self.one(ops)?;
        }
        if depth == self.length {
            return Ok(());
        }
        for n in 0..self.letters.len() {
            let Some(next) = state.after(&self.letters[n]) else { continue };
            if depth == 1 && (n + self.turn) % self.share.1 != self.share.0 {
                continue;
            }
            if depth == 0 {
                self.turn = n;
            }
            let mut longer = ops.to_vec();
            longer.push(numbered(&self.letters[n], ops.len() as u32));
            self.down(&longer, next)?;
        }
        Ok(())
    }

    fn one(&mut self, ops: &[Op]) -> Result<(), Box<Counterexample>> {
        self.walked += 1;
        let mut world = World::new(self.config);
        let result = driver::run(&mut world, &mut ops.iter());
        let since = if ops.len() > 1 { world.done.last().map_or(0, |(event, _)| *event) } else { 0 };
        let judged = result.and_then(|()| self.judge.judge(&world, since).map(|_| ()));
        judged.map_err(|failure| Box::new(Counterexample { ops: ops.to_vec(), failure }))
    }
}

impl State {
    /// The state after a letter; `None` when it does nothing here.
    fn after(self, op: &Op) -> Option<Self> {
        match op {
            Op::Backup { .. } => (!self.backup).then_some(Self { backup: true, ..self }),
            Op::Link { .. } => (!self.backup).then_some(self),
            Op::EndBackup { .. } => self.backup.then_some(Self { backup: false, ..self }),
            Op::CopyAll => self.backup.then_some(self),
            Op::Checkpoint { name: Some(_), .. } => Some(Self { named: true, ..self }),
            Op::Checkpoint { drops, .. } if !drops.is_empty() => self.named.then_some(Self { named: false, ..self }),
            Op::DropTable { .. } | Op::Rename { .. } => (!self.gone).then_some(Self { gone: true, ..self }),
            Op::Put { table: 0, .. } | Op::Delete { .. } => (!self.gone).then_some(self),
            Op::Restart | Op::Kill => Some(Self { backup: false, ..self }),
            _ => Some(self),
        }
    }
}

/// A put writes a value of its own wherever it stands.
fn numbered(op: &Op, number: u32) -> Op {
    match op {
        Op::Put { slot, table, key, size, level, .. } => {
            Op::Put { slot: *slot, table: *table, key: *key, value: number, size: *size, level: *level }
        }
        other => other.clone(),
    }
}
