//! One run: the plan's threads on the scheduled engine, under one course of scheduling.
//!
//! A run is a function of plan and course. It happens on a system thread of its own: when the engine panics or deadlocks the
//! execution cannot be unwound as a whole, what it leaves on that thread is given up, and the campaign goes on.
//!
//! Whatever a thread notes, it notes between two points at which another may run, so the notes of a run are in the order in
//! which things happened. Nobody holds the history across such a point.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use strandline_scheduled::{
    BackupOptions, CheckpointOptions, Database, Durability, Error, ErrorKind, Table, TableOptions, Transaction,
};
use strandline_sim::disk::{Profile, SimDisk};
use strandline_sim::oracle::Rule;
use strandline_sim::tape::Tape;
use strandline_vfs::Vfs;

use crate::engines::{encode, key_bytes, other_name, scheduled, table_name};
use crate::history::{Call, End, Failure, History, Moment, Ran, Read};
use crate::plan::{APPENDS, Act, Element, KEYS_MAX, Key, Level, OLD_TABLES, Plan, Txn};
use crate::race::{HOME, RacingVfs};
use crate::schedule::{Course, TapeScheduler};

mod acts;
mod panics;

/// The name of the system thread of a run.
const THREAD: &str = "schedule";

/// Decisions after which a run is thought to go round in circles.
const STEPS_MAX: usize = 400_000;
/// How often a transaction looks whether a table has been made.
const TURNS_MAX: u32 = 300;
/// Stack of a thread, in bytes.
const STACK: usize = 1 << 20;

/// What a run left.
pub struct Outcome {
    /// What the threads saw.
    pub history: History,
    /// The disk of the database, with the barriers of the run.
    pub src: SimDisk,
    /// The disk of the copies.
    pub dst: SimDisk,
    /// Every choice of the scheduler, for `Policy::Walk`.
    pub choices: Vec<u64>,
    /// A hash over decisions and calls: equal for equal tapes.
    pub hash: u64,
    /// Decisions.
    pub steps: u64,
    /// The run did not come to its end: a panic, a deadlock, a livelock.
    pub broken: Option<Failure>,
}

/// Runs a plan; the scheduler draws from `tape`.
///
/// # Panics
/// When the system refuses a thread.
#[must_use]
pub fn run(plan: &Plan, tape: Tape) -> Outcome {
    let course = Arc::new(Mutex::new(Course::new(tape, plan.policy)));
    let stage = Stage::new(plan);
    let scheduler = TapeScheduler::new(Arc::clone(&course));
    let body = stage.clone();
    let thread = std::thread::Builder::new().name(THREAD.to_owned());
    let thread = thread.spawn(move || {
        panics::caught(|| {
            Runner::new(scheduler, config()).run(move || body.perform());
        })
    });
    let ended = thread.expect("a thread can be started").join();
    let broken = ended.unwrap_or_else(|_| Some(String::new())).map(|text| {
        let stuck = ["deadlock", "exceeded max_steps"].iter().any(|word| text.contains(word));
        Failure::new(if stuck { Rule::Live } else { Rule::Typed }, text)
    });
    let course = lock(&course);
    let history = stage.history().clone();
    let hash = course.hash() ^ stage.src.trace_hash().rotate_left(1) ^ stage.dst.trace_hash().rotate_left(2);
    let (choices, steps) = (course.choices().to_vec(), course.steps());
    Outcome { history, src: stage.src, dst: stage.dst, choices, hash, steps, broken }
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    config
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all threads of a run share.
#[derive(Clone)]
struct Stage {
    plan: Arc<Plan>,
    src: SimDisk,
    dst: SimDisk,
    history: Arc<Mutex<History>>,
}

impl Stage {
    fn new(plan: &Plan) -> Self {
        let (src, dst) = (SimDisk::new(Profile::strict()), SimDisk::new(Profile::strict()));
        // The embedder made the directory long ago; its name is not what is tested.
        let made = src.create_dir(Path::new("/db"));
        debug_assert!(made.is_ok());
        src.settle();
        Self { plan: Arc::new(plan.clone()), src, dst, history: Arc::default() }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    fn now(&self) -> Moment {
        let event = self.src.event();
        self.history().moment(event)
    }

    fn mark(&self, what: &'static str) {
        self.history().mark(what);
    }

    /// Everything, from the first open to the last.
    fn perform(&self) {
        let vfs: Arc<dyn Vfs> = Arc::new(RacingVfs::new(self.src.clone(), self.dst.clone()));
        let opened = scheduled::open(Arc::clone(&vfs), Path::new(HOME), &self.plan.settings);
        let db = match opened.and_then(|db| self.prepare(&db).map(|()| db)) {
            Ok(db) => Arc::new(db),
            Err(e) => return self.refused("the first open", &e),
        };
        self.src.record_barriers(true);
        if self.plan.settings.held {
            // A crash falls back to what it pins, until it ends.
            match db.backup(BackupOptions::new()) {
                Err(e) => return self.refused("the backup that is held", &e),
                Ok(held) => {
                    self.play(&db);
                    let ended = held.finish();
                    ended.unwrap_or_else(|e| self.refused("the end of the backup that is held", &e));
                }
            }
        } else {
            self.play(&db);
        }
        match scheduled::dump(&db, self.plan.settings.pad) {
            Ok((_, lists)) => self.history().last = lists,
            Err(e) => self.history().fail(Rule::Read, format!("after all threads: {e}")),
        }
        self.src.mark("the threads have ended");
        let Ok(db) = Arc::try_unwrap(db) else { return };
        if let Err(e) = db.close() {
            self.refused("the close", &e);
        }
    }

    /// Runs the threads to their end.
    fn play(&self, db: &Arc<Database>) {
        let threads = (1..).zip(&self.plan.threads).map(|(n, acts)| {
            let (stage, acts, db) = (self.clone(), acts.clone(), Arc::clone(db));
            let thread = shuttle::thread::Builder::new().name(format!("thread-{n}"));
            thread.spawn(move || acts.iter().for_each(|act| stage.act(&db, act)))
        });
        let threads: Vec<_> = threads.collect();
        for thread in threads {
            // A panic in a thread ends the whole execution.
            let _ = thread.map(shuttle::thread::JoinHandle::join);
        }
    }

    /// What stands before the threads begin.
    fn prepare(&self, db: &Database) -> Result<(), Error> {
        for table in 0..OLD_TABLES {
            let called = self.now();
            db.create_table(&table_name(table), TableOptions::new())?;
            let acked = Some(self.now());
            self.history().tables.insert(table, Call { called, acked });
        }
        if self.plan.settings.base {
            db.checkpoint(CheckpointOptions::new().force(true))?;
        }
        Ok(())
    }

    fn refused(&self, what: &str, e: &Error) {
        self.history().fail(Rule::Contract, format!("{what} was refused: {:?}: {e}", e.kind()));
    }

    fn act(&self, db: &Database, act: &Act) {
        let done = match act {
            Act::Txn(txn) => self.transact(db, txn),
            Act::Create(table) => self.create(db, *table),
            Act::Drop(table) => self.drop_table(db, *table),
            Act::Checkpoint(named) => self.checkpoint(db, *named),
            Act::Rename(table) => self.rename(db, *table),
            Act::Backup(number, forward) => self.back_up(db, *number, *forward),
            Act::View => self.view(db),
            Act::SyncLog => self.durable(|| db.sync_log(Durability::Sync)),
            Act::Drive => db.drive().map(drop),
        };
        if let Err(e) = done {
            self.refused(&act.to_string(), &e);
        }
    }

    /// Waits until the tables that a transaction uses have been made, but not for ever: one may never be.
    fn wait_for_tables(&self, db: &Database, txn: &Txn) {
        for table in txn.appends.iter().map(|key| key.0) {
            let mut turns = 0;
            while turns < TURNS_MAX && db.table(&table_name(table)).is_err() {
                turns += 1;
                shuttle::thread::yield_now();
            }
        }
    }

    fn transact(&self, db: &Database, txn: &Txn) -> Result<(), Error> {
        if txn.waits {
            self.wait_for_tables(db, txn);
        }
        let began = self.now();
        let mut open = db.begin()?;
        let opened = self.now();
        let at = {
            let mut history = self.history();
            history.txns.push(Ran::new(txn, began, opened, open.snapshot().0));
            history.txns.len() - 1
        };
        let mut performer = Performer { stage: self, db, at, pad: self.plan.settings.pad };
        let end = match performer.work(&mut open, txn) {
            Ok(()) => performer.end(open, txn.level)?,
            Err(e) if e.kind() == ErrorKind::NotFound && !self.history().drops.is_empty() => {
                self.mark("table gone");
                drop(open);
                End::RolledBack
            }
            Err(e) if matches!(e.kind(), ErrorKind::Conflict | ErrorKind::Full) => {
                self.mark(if e.kind() == ErrorKind::Full { "full" } else { "conflict" });
                drop(open);
                End::RolledBack
            }
            Err(e) => return Err(e),
        };
        self.history().txns[at].end = end;
        Ok(())
    }
}

/// One transaction at work; `at` is its place in the history.
struct Performer<'s> {
    stage: &'s Stage,
    db: &'s Database,
    at: usize,
    pad: usize,
}

impl Performer<'_> {
    fn work(&mut self, open: &mut Transaction<'_>, txn: &Txn) -> Result<(), Error> {
        for &key in &txn.reads {
            if let Some(table) = self.table(key.0)? {
                self.read(open, &table, key)?;
            }
        }
        for &key in &txn.appends {
            let Some(table) = self.table(key.0)? else { continue };
            let mut list = self.read(open, &table, key)?;
            let own = self.stage.history().txns[self.at].appends.len();
            list.push(txn.id * APPENDS + own as u16);
            open.put(&table, key_bytes(key.1), encode(&list, key, self.pad))?;
            self.stage.history().txns[self.at].appends.push(key);
        }
        if let Some(number) = txn.scan
            && let Some(table) = self.table(number)?
        {
            self.scan(open, &table, number, txn.id.is_multiple_of(2));
        }
        Ok(())
    }

    /// The table, once somebody has made it, by the name that it has.
    fn table(&self, number: u8) -> Result<Option<Table>, Error> {
        let renamed = self.stage.history().renames.contains_key(&number);
        let by = |name: String| self.db.table(&name);
        let found = by(table_name(number));
        let found = if found.is_err() && renamed { by(other_name(number)) } else { found };
        match found {
            Err(e) if e.kind() == ErrorKind::NotFound && self.may_lack(number) => Ok(None),
            table => table.map(Some),
        }
    }

    /// True for a table that is made or dropped while the threads run.
    fn may_lack(&self, number: u8) -> bool {
        number >= OLD_TABLES || self.stage.history().drops.contains_key(&number)
    }

    fn read(&self, open: &Transaction<'_>, table: &Table, key: Key) -> Result<Vec<Element>, Error> {
        let value = open.get(table, key_bytes(key.1))?;
        let list = value.map_or(Ok(Vec::new()), |value| crate::engines::decode(&value, key, self.pad));
        let mut history = self.stage.history();
        let list = list.unwrap_or_else(|e| {
            history.fail(Rule::Read, e);
            Vec::new()
        });
        let ran = &mut history.txns[self.at];
        ran.reads.push(Read { key, own: ran.appends.len(), list: list.clone() });
        Ok(list)
    }

    /// A scan reads every key that there is; those that are not there are read as empty.
    fn scan(&self, open: &Transaction<'_>, table: &Table, number: u8, back: bool) {
        let lists = scheduled::scan(open, table, number, self.pad, back);
        let mut history = self.stage.history();
        let lists = match lists {
            Ok(lists) => lists,
            // It was dropped under the handle.
            Err(_) if history.drops.contains_key(&number) => return,
            Err(e) => return history.fail(Rule::Read, e),
        };
        let ran = &mut history.txns[self.at];
        let own = ran.appends.len();
        let list = |key| lists.get(&(number, key)).cloned().unwrap_or_default();
        ran.reads.extend((0..KEYS_MAX).map(|key| Read { key: (number, key), own, list: list(key) }));
        history.mark("scan");
    }

    fn end(&self, open: Transaction<'_>, level: Option<Level>) -> Result<End, Error> {
        let Some(level) = level else {
            open.rollback();
            return Ok(End::RolledBack);
        };
        let called = self.stage.now();
        // Known before the answer, because a crash may come before it.
        let seq = open.commit_with(match level {
            Level::Sync => Durability::Sync,
            Level::Write => Durability::Write,
            Level::Buffered => Durability::Buffered,
        })?;
        let acked = self.stage.now();
        self.stage.mark("commit");
        Ok(End::Committed { seq: seq.0, called, acked })
    }
}
