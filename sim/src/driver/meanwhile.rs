//! Commits in the middle of a checkpoint.
//!
//! A checkpoint lets commits go on while it writes, and its hardest bugs are about those: a page written with a row that
//! came too late, a page that left memory half-way, two tables stored at two moments. The driver has one thread; but every
//! call that the checkpoint makes to the file system is a moment at which other threads could have run, and there the
//! fleet lets an armed [`Job`] run to its end, on the same thread, before the call goes on. So an interleaving is a number:
//! which call.
//!
//! Not every call will do. While a leaf is written its lock is held, and a commit to it would wait for ever; the same goes
//! for a file that is just being made. So jobs run before inner pages, blocks of the catalog and slots of the root record
//! are written, and before syncs; and before a leaf is written those that write to other tables.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use strandline_vfs::File;

use super::session::{Session, Step, expect, read_failed, same_rows};
use super::world::Failure;
use crate::disk::SimDisk;
use crate::engine::{Answer, Db, ReadRows};
use crate::model::{Bytes, Refusal};
use crate::oracle::Rule;
use crate::workload::{key_of, table_name, value_of};

/// The slot of a job's transaction.
const MEANWHILE: u8 = 254;

/// A transaction of its own, armed for the next checkpoint: it reads a table, writes some rows of it, and commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// How many moments pass before it runs.
    pub at: u16,
    /// The table's name.
    pub table: String,
    /// The name of its file.
    pub file: String,
    /// The rows; `None` removes.
    pub writes: Vec<(Bytes, Option<Bytes>)>,
}

/// What a job met. The model checks it after the checkpoint, when it has got so far itself.
struct Done {
    job: Job,
    rows: Answer<ReadRows>,
    /// One answer for each write tried.
    writes: Vec<Answer<bool>>,
    commit: Option<Answer<()>>,
    /// The events of the disk before and after the commit.
    events: (u64, u64),
}

struct Armed {
    db: Db,
    disk: SimDisk,
    jobs: Vec<Job>,
    passed: u16,
    done: Vec<Done>,
}

/// Where jobs wait for their moment.
#[derive(Clone, Default)]
pub struct Moments(Arc<Mutex<Option<Armed>>>);

impl fmt::Debug for Moments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moments")
    }
}

impl Moments {
    /// A moment at which other threads could run, except that no one can write to the table with the file `busy`.
    fn pass(&self, busy: Option<&str>) {
        // What a job does passes by here too, and finds nothing armed.
        let Some(mut armed) = self.take() else { return };
        let may = |job: &Job| job.at <= armed.passed && busy != Some(&job.file);
        let (now, later) = armed.jobs.into_iter().partition(may);
        armed.jobs = later;
        armed.passed += 1;
        armed.done.extend(Vec::into_iter(now).map(|job| run(&armed.db, &armed.disk, job)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(armed);
    }

    fn take(&self) -> Option<Armed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn run(db: &Db, disk: &SimDisk, job: Job) -> Done {
    let refused = |f| Done { job: job.clone(), rows: Err(f), writes: Vec::new(), commit: None, events: (0, 0) };
    let mut txn = match db.begin() {
        Ok(txn) => txn,
        Err(f) => return refused(f),
    };
    let all = std::ops::Bound::Unbounded;
    let rows = txn.scan(&job.table, all, all, 0);
    let mut writes = Vec::new();
    for (key, value) in &job.writes {
        writes.push(match value {
            Some(value) => txn.put(&job.table, key, value).map(|()| true),
            None => txn.delete(&job.table, key),
        });
        if writes.last().is_some_and(Result::is_err) {
            txn.roll_back();
            return Done { job, rows, writes, commit: None, events: (0, 0) };
        }
    }
    let called = disk.event();
    let commit = Some(txn.commit(None));
    Done { job, rows, writes, commit, events: (called, disk.event()) }
}

impl Session<'_, '_> {
    /// Arms a job for the next checkpoint.
    pub(super) fn meanwhile(&mut self, at: u16, table: u8, keys: impl Iterator<Item = u16>, value: u32, size: u32) {
        let write = |(n, key)| (key_of(key), (size > 0).then(|| value_of(value + n, size)));
        let writes = (0..).zip(keys).map(write).collect();
        self.armed.push(Job { at, table: table_name(table), file: String::new(), writes });
    }

    /// Calls a checkpoint with the armed jobs, as far as their tables exist.
    pub(super) fn with_jobs<T>(&mut self, call: impl FnOnce(&Db) -> T) -> T {
        let mut jobs = std::mem::take(&mut self.armed);
        jobs.retain_mut(|job| {
            let file = self.db.file_of(&job.table);
            let there = self.world.live.tables.contains_key(&job.table) && file.is_ok();
            job.file = file.unwrap_or_default();
            there
        });
        // A checkpoint on a failing disk may end anywhere; jobs within it would have to be judged by where.
        if jobs.is_empty() || self.world.trouble.is_some() {
            return call(self.db);
        }
        let armed = Armed { db: self.db.clone(), disk: self.world.src.clone(), jobs, passed: 0, done: Vec::new() };
        let moments = self.world.fleet.moments();
        *moments.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(armed);
        let answer = call(self.db);
        self.met = moments.take().map(|armed| armed.done).unwrap_or_default().into();
        answer
    }

    /// Checks what the jobs met and lets the model do the same. The model has taken the checkpoint.
    pub(super) fn check_jobs(&mut self) -> Step {
        std::mem::take(&mut self.met).0.into_iter().try_for_each(|done| {
            let table = done.job.table.clone();
            self.check_job(done).map_err(|f| f.at(format!("a commit to {table} in the middle of it")))
        })
    }

    fn check_job(&mut self, done: Done) -> Step {
        self.world.mark("commit within a checkpoint");
        let Some(&id) = self.world.live.tables.get(&done.job.table) else { return Ok(()) };
        let full = self.may_be_full();
        let txns = &mut self.world.live.txns;
        txns.begin(MEANWHILE);
        let all = std::ops::Bound::Unbounded;
        let rows = done.rows.map_err(|f| read_failed(&f))?;
        same_rows(&rows, &txns.running[&MEANWHILE].rows(id), all, all)?;
        for ((key, value), answer) in done.job.writes.iter().zip(&done.writes) {
            let there = value.is_some() || txns.running[&MEANWHILE].get(id, key).is_some();
            let conflict = there && txns.conflicts(MEANWHILE, id, key);
            let mut allowed = vec![if conflict { Err(Refusal::Conflict) } else { Ok(there) }];
            if full {
                allowed.push(Err(Refusal::Full));
            }
            expect(Rule::Si, &answer.as_ref().map(|b| *b).map_err(|f| f.refusal), &allowed)?;
            if let Ok(true) = answer {
                txns.write(MEANWHILE, id, key, value.clone());
            }
        }
        match done.commit {
            Some(Ok(())) => {
                if let Some(logged) = self.world.live.logged_after(MEANWHILE) {
                    self.world.history.begin_entry(logged, done.events.0, "commit in the middle of a checkpoint");
                    self.world.history.ack_log(self.world.config.level, done.events.1);
                }
                self.world.live.commit(MEANWHILE);
            }
            Some(Err(f)) if full && f.refusal == Refusal::Full => txns.roll_back(MEANWHILE),
            Some(Err(f)) => return Err(Failure::new(Rule::Contract, format!("it is refused: {}", f.text))),
            None => txns.roll_back(MEANWHILE),
        }
        Ok(())
    }
}

/// What the jobs of one checkpoint met.
#[derive(Default)]
pub struct Met(Vec<Done>);

impl From<Vec<Done>> for Met {
    fn from(done: Vec<Done>) -> Self {
        Self(done)
    }
}

/// A file whose calls are moments.
#[derive(Debug)]
pub struct Watched {
    file: Arc<dyn File>,
    name: String,
    moments: Moments,
    /// Notes about segments of the log go through this handle: the log lets nobody commit meanwhile.
    notes: AtomicBool,
}

impl Watched {
    /// Wraps a file of a database; others stay as they are.
    pub fn wrap(file: Arc<dyn File>, path: &Path, moments: &Moments) -> Arc<dyn File> {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let ours = name == "Strandline.catalog" || name == "Strandline.root" || is_table(&name);
        if ours { Arc::new(Self { file, name, moments: moments.clone(), notes: AtomicBool::new(false) }) } else { file }
    }

    /// Lets jobs run before a sync.
    fn before_sync(&self) {
        if !self.notes.load(Ordering::Relaxed) {
            self.moments.pass(None);
        }
    }

    /// Lets jobs run before these bytes are written, unless a lock is held that any commit may need.
    fn before_write(&self, bytes: &[u8]) {
        const BLOCK: &[u8] = b"SB";
        const BODY: usize = 32;
        const INNER: u8 = 2;
        const NOTE: &[u8] = b"STRANDLN";
        if bytes.starts_with(NOTE) {
            return self.notes.store(true, Ordering::Relaxed);
        }
        let block = bytes.starts_with(BLOCK);
        if !is_table(&self.name) && (block || self.name == "Strandline.root") {
            self.moments.pass(None);
        } else if block {
            let leaf = bytes.get(BODY) != Some(&INNER);
            self.moments.pass(leaf.then_some(&self.name));
        }
    }
}

fn is_table(name: &str) -> bool {
    name.starts_with("table-") && name.ends_with(".sl")
}

impl File for Watched {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.before_write(buf);
        self.file.write_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.before_sync();
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.before_sync();
        self.file.sync_all()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }
}
