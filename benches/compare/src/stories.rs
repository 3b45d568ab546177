//! The work: each story opens fresh stores and measures one or more rows.
//!
//! Problem. Rows are not independent (an overwrite needs a loaded store, a
//! delete comes last), and what a row leaves behind must not colour the next
//! store's figures.
//!
//! Algorithm. A [`Story`] is a sequence in one fresh directory with one store.
//! Rounds run every story with every store in turn; the order of the stores
//! rotates from round to round. Everything a story needs (rows drawn, keys
//! gathered) is made before its clock starts. A story that changed rows ends
//! with [`Case::check`]: a scan that must give exactly the rows and values
//! that the model holds. A wrong answer ends the run.

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::backup;
use crate::data::{Data, Model};
use crate::engine::{Engine, Peer, Promise, Session, Settings, Write};
use crate::files;
use crate::killed;
use crate::ledger::Ledger;

/// Rows of one commit where commits are not the question.
pub const BATCH: usize = 1000;

/// A key before all others. Not the empty one, which LMDB refuses.
const FIRST: &[u8] = b"\0";

/// What a store must have for a story to make sense.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    Cache,
    Increments,
    /// A commit that survives a kill without a sync.
    SurvivesKill,
}

/// A sequence of work in one fresh directory.
pub struct Story {
    pub rows: &'static [&'static str],
    pub needs: Needs,
    pub run: fn(&mut Case<'_>) -> Result<()>,
}

/// Every story.
pub const STORIES: &[Story] = &[
    Story {
        rows: &[
            "load",
            "size-load",
            "open",
            "get-1",
            "get-2",
            "scan",
            "scan-100",
            "overwrite",
            "size-churn",
            "mixed",
            "delete",
        ],
        needs: Needs::Nothing,
        run: life,
    },
    Story { rows: &["put-sorted"], needs: Needs::Nothing, run: put_sorted },
    Story { rows: &["put-random", "put-durable"], needs: Needs::Nothing, run: put_random },
    Story { rows: &["commit-1", "commit-2"], needs: Needs::Nothing, run: commits },
    Story { rows: &["buffered-1", "buffered-2"], needs: Needs::Nothing, run: commits_buffered },
    Story { rows: &["written-1", "written-2"], needs: Needs::SurvivesKill, run: commits_written },
    Story {
        rows: &["synced-1", "synced-4", "syncs-1", "syncs-4", "log-bytes-1", "log-bytes-4"],
        needs: Needs::Nothing,
        run: commits_synced,
    },
    Story { rows: &["put-synced"], needs: Needs::Nothing, run: put_synced },
    Story { rows: &["open-killed", "recovery"], needs: Needs::SurvivesKill, run: killed::story },
    Story { rows: &["small-put"], needs: Needs::Cache, run: small_put },
    Story {
        rows: &["small-get", "small-scan", "small-overwrite", "small-mixed", "small-delete"],
        needs: Needs::Cache,
        run: small_life,
    },
    Story {
        rows: &["backup", "backup-commits", "stall-backup", "stall-durable"],
        needs: Needs::Nothing,
        run: backup::story,
    },
    Story { rows: &["increment-1pct"], needs: Needs::Increments, run: backup::increment },
    Story { rows: &["durable-1pct"], needs: Needs::Nothing, run: durable_one_percent },
];

/// One story with one store in one round.
pub struct Case<'a> {
    pub data: &'a Data,
    pub peer: &'a Peer,
    pub dir: PathBuf,
    pub ledger: &'a mut Ledger,
    /// Rows asked for; empty for all.
    pub only: &'a [&'static str],
    pub seed: u64,
}

impl Case<'_> {
    /// Whether a row was asked for.
    pub fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.contains(&row)
    }

    /// Notes a figure, if its row was asked for.
    pub fn note(&mut self, row: &'static str, figure: f64) {
        if self.wants(row) {
            self.ledger.note(row, self.peer.name, figure);
        }
    }

    /// Notes operations a second since `start`.
    pub fn note_rate(&mut self, row: &'static str, operations: usize, start: Instant) {
        self.note(row, operations as f64 / start.elapsed().as_secs_f64());
    }

    /// Opens the store with a cache larger than the data.
    pub fn open(&self) -> Result<Box<dyn Engine>> {
        self.open_for(Promise::Nothing)
    }

    /// The same, with commits that promise something.
    pub fn open_for(&self, promise: Promise) -> Result<Box<dyn Engine>> {
        self.open_with(large_cache(self.data), promise)
    }

    /// Opens the store with a cache of a quarter of the data.
    pub fn open_small(&self) -> Result<Box<dyn Engine>> {
        self.open_with(Data::bytes(self.data.len()) as usize / 4, Promise::Nothing)
    }

    fn open_with(&self, cache_bytes: usize, promise: Promise) -> Result<Box<dyn Engine>> {
        open(self.peer, &self.dir, self.data, cache_bytes, promise, true)
    }

    /// Loads every row at version 1.
    pub fn load(&self, engine: &dyn Engine) -> Result<Model> {
        let data = self.data;
        let mut rows = (0..data.len() as u32).map(|row| (data.key(row), data.value(row, 1)));
        engine.load(&mut rows)?;
        Ok(Model::full(data))
    }

    /// The store must hold exactly the model.
    pub fn check(&self, engine: &dyn Engine, model: &Model) -> Result<()> {
        let data = self.data;
        let mut expected = model.present();
        let mut wrong = 0usize;
        let rows = engine.session()?.scan(FIRST, usize::MAX, &mut |key, value| {
            let right =
                expected.next().is_some_and(|row| data.key(row) == key && data.value(row, model.version(row)) == value);
            wrong += usize::from(!right);
        })?;
        let due = model.rows();
        let name = self.peer.name;
        ensure!(wrong == 0, "{name}: {wrong} of {rows} rows are not what was written");
        ensure!(rows == due, "{name}: {rows} rows where {due} were written");
        Ok(())
    }
}

/// A cache larger than the data.
pub fn large_cache(data: &Data) -> usize {
    (64 << 20) + Data::bytes(data.len()) as usize * 4
}

/// Opens a store in a directory.
pub fn open(
    peer: &Peer,
    dir: &Path,
    data: &Data,
    cache_bytes: usize,
    promise: Promise,
    checkpoints: bool,
) -> Result<Box<dyn Engine>> {
    let room_bytes = (256 << 20) + Data::bytes(data.len()) as usize * 16;
    std::fs::create_dir_all(dir)?;
    (peer.open)(dir, Settings { promise, checkpoints, cache_bytes, room_bytes })
}

fn life(case: &mut Case<'_>) -> Result<()> {
    let engine = case.open()?;
    let start = Instant::now();
    let mut model = case.load(&*engine)?;
    case.note_rate("load", case.data.len(), start);
    engine.close()?;
    let user = Data::bytes(case.data.len()) as f64;
    case.note("size-load", files::allocated(&case.dir)? as f64 / user);

    let start = Instant::now();
    let engine = case.open()?;
    engine.session()?.get(&[case.data.key(0)], &mut |_| ())?;
    case.note("open", start.elapsed().as_secs_f64() * 1e3);
    reads(case, &*engine)?;

    let engine = churn(case, engine, &mut model)?;
    if case.wants("mixed") {
        mixed(case, &*engine, &mut model, "mixed")?;
    }
    if case.wants("delete") {
        delete_half(case, &*engine, &mut model, "delete")?;
    }
    case.check(&*engine, &model)?;
    engine.close()
}

/// Overwrites a fifth of the rows three times, each time made durable; the
/// first is the row `overwrite`, the files after the last are `size-churn`.
fn churn(case: &mut Case<'_>, engine: Box<dyn Engine>, model: &mut Model) -> Result<Box<dyn Engine>> {
    if !case.wants("overwrite") && !case.wants("size-churn") {
        return Ok(engine);
    }
    overwrite(case, &*engine, model, "overwrite", 1)?;
    if !case.wants("size-churn") {
        return Ok(engine);
    }
    engine.make_durable()?;
    for pass in 2..=3 {
        overwrite(case, &*engine, model, "", pass)?;
        engine.make_durable()?;
    }
    engine.close()?;
    let user = Data::bytes(model.rows()) as f64;
    case.note("size-churn", files::allocated(&case.dir)? as f64 / user);
    case.open()
}

fn reads(case: &mut Case<'_>, engine: &dyn Engine) -> Result<()> {
    let mut session = engine.session()?;
    // Warm the caches; the figure is of the second pass.
    session.scan(FIRST, usize::MAX, &mut |_, _| ())?;
    if case.wants("get-1") {
        get_random(case, engine, "get-1", 1)?;
    }
    if case.wants("get-2") {
        get_random(case, engine, "get-2", 2)?;
    }
    if case.wants("scan") {
        scan_all(case, engine, "scan")?;
    }
    if case.wants("scan-100") {
        let starts = case.data.uniform(case.data.len() / 50, case.seed);
        let mut touched = 0;
        let start = Instant::now();
        for &row in &starts {
            session.scan(case.data.key(row), 100, &mut |_, value| touched += touch(value))?;
        }
        case.note_rate("scan-100", starts.len(), start);
        ensure!(touched > 0, "nothing was scanned");
    }
    Ok(())
}

/// A scan of everything. Each row's value is touched, so that a store that
/// hands out places in a memory map must bring them in like any other.
fn scan_all(case: &mut Case<'_>, engine: &dyn Engine, row: &'static str) -> Result<()> {
    let mut session = engine.session()?;
    let (mut bytes, mut touched) = (0usize, 0u64);
    let start = Instant::now();
    let rows = session.scan(FIRST, usize::MAX, &mut |key, value| {
        bytes += key.len() + value.len();
        touched += touch(value);
    })?;
    case.note_rate(row, rows, start);
    ensure!(bytes as u64 == Data::bytes(rows), "the scan gave wrong lengths");
    ensure!(touched > 0, "the scan gave empty values");
    Ok(())
}

fn touch(value: &[u8]) -> u64 {
    value.first().map_or(0, |&byte| u64::from(byte)) + value.last().map_or(0, |&byte| u64::from(byte))
}

/// Gets of rows drawn at random, a snapshot for every [`BATCH`] of them; every
/// answer is checked.
fn get_random(case: &mut Case<'_>, engine: &dyn Engine, row: &'static str, threads: usize) -> Result<()> {
    let data = case.data;
    let count = data.len() / 2;
    let seed = case.seed;
    let elapsed = on_threads(threads, |thread| {
        let rows = data.uniform(count, seed + thread as u64);
        let keys: Vec<&[u8]> = rows.iter().map(|&row| data.key(row)).collect();
        let mut session = engine.session()?;
        Ok(move || {
            let mut wrong = 0usize;
            for (keys, rows) in keys.chunks(BATCH).zip(rows.chunks(BATCH)) {
                let mut rows = rows.iter();
                session.get(keys, &mut |value| {
                    let due = rows.next().map(|&row| data.value(row, 1));
                    wrong += usize::from(value != due);
                })?;
            }
            ensure!(wrong == 0, "{wrong} gets gave a wrong answer");
            Ok(())
        })
    })?;
    case.note(row, (count * threads) as f64 / elapsed);
    Ok(())
}

/// Runs prepared work on threads that start together; seconds until the last
/// is done.
fn on_threads<W>(threads: usize, prepare: impl Fn(usize) -> Result<W> + Sync) -> Result<f64>
where
    W: FnOnce() -> Result<()>,
{
    let ready = Barrier::new(threads);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let (ready, prepare) = (&ready, &prepare);
                scope.spawn(move || {
                    let work = prepare(thread);
                    ready.wait();
                    let start = Instant::now();
                    work?()?;
                    Ok(start.elapsed().as_secs_f64())
                })
            })
            .collect();
        let mut longest = 0.0f64;
        for thread in running {
            let seconds: Result<f64> = thread.join().expect("a measuring thread panicked");
            longest = longest.max(seconds?);
        }
        Ok(longest)
    })
}

/// Writes the rows' next versions, so many a commit.
pub fn put_rows(session: &mut dyn Session, data: &Data, rows: &[u32], batch: usize, model: &mut Model) -> Result<()> {
    let mut writes = Vec::with_capacity(batch);
    for rows in rows.chunks(batch) {
        writes.clear();
        writes.extend(rows.iter().map(|&row| {
            let version = model.advance(row);
            Write::Put(data.key(row), data.value(row, version))
        }));
        session.write(&writes)?;
    }
    Ok(())
}

fn overwrite(case: &mut Case<'_>, engine: &dyn Engine, model: &mut Model, row: &'static str, pass: u64) -> Result<()> {
    let rows = case.data.uniform(case.data.len() / 5, case.seed + 100 + pass);
    let start = Instant::now();
    put_rows(&mut *engine.session()?, case.data, &rows, BATCH, model)?;
    if pass == 1 {
        case.note_rate(row, rows.len(), start);
    }
    Ok(())
}

fn mixed(case: &mut Case<'_>, engine: &dyn Engine, model: &mut Model, row: &'static str) -> Result<()> {
    let data = case.data;
    let rows = data.zipf(data.len() / 5, case.seed);
    let mut session = engine.session()?;
    let mut wrong = 0usize;
    let start = Instant::now();
    for (turn, &row) in rows.iter().enumerate() {
        if turn % 2 == 0 {
            let due = data.value(row, model.version(row));
            session.get(&[data.key(row)], &mut |value| {
                wrong += usize::from(value != Some(due));
            })?;
        } else {
            let version = model.advance(row);
            session.write(&[Write::Put(data.key(row), data.value(row, version))])?;
        }
    }
    case.note_rate(row, rows.len(), start);
    ensure!(wrong == 0, "{wrong} gets gave a wrong answer");
    Ok(())
}

fn delete_half(case: &mut Case<'_>, engine: &dyn Engine, model: &mut Model, row: &'static str) -> Result<()> {
    let rows = &case.data.order()[..case.data.len() / 2];
    let mut session = engine.session()?;
    let mut writes = Vec::with_capacity(BATCH);
    let start = Instant::now();
    for rows in rows.chunks(BATCH) {
        writes.clear();
        writes.extend(rows.iter().map(|&row| Write::Delete(case.data.key(row))));
        session.write(&writes)?;
    }
    case.note_rate(row, rows.len(), start);
    rows.iter().for_each(|&row| model.remove(row));
    Ok(())
}

fn put_sorted(case: &mut Case<'_>) -> Result<()> {
    let rows: Vec<u32> = (0..case.data.len() as u32).collect();
    let engine = case.open()?;
    let mut model = Model::empty(case.data);
    let start = Instant::now();
    put_rows(&mut *engine.session()?, case.data, &rows, BATCH, &mut model)?;
    case.note_rate("put-sorted", rows.len(), start);
    case.check(&*engine, &model)?;
    engine.close()
}

fn put_random(case: &mut Case<'_>) -> Result<()> {
    let rows = case.data.order();
    let engine = case.open()?;
    let mut model = Model::empty(case.data);
    let start = Instant::now();
    put_rows(&mut *engine.session()?, case.data, rows, BATCH, &mut model)?;
    case.note_rate("put-random", rows.len(), start);
    engine.make_durable()?;
    case.note_rate("put-durable", rows.len(), start);
    case.check(&*engine, &model)?;
    engine.close()
}

fn put_synced(case: &mut Case<'_>) -> Result<()> {
    let rows = case.data.order();
    let engine = case.open_for(Promise::Power)?;
    let mut model = Model::empty(case.data);
    let start = Instant::now();
    put_rows(&mut *engine.session()?, case.data, rows, BATCH, &mut model)?;
    case.note_rate("put-synced", rows.len(), start);
    case.check(&*engine, &model)?;
    engine.close()
}

/// Commits of one put on a loaded store.
struct Commits {
    promise: Promise,
    /// How many commits, as a part of the rows, and at most.
    part: usize,
    most: usize,
    /// The rows of the table, each with its number of threads.
    rows: [(&'static str, usize); 2],
    /// Syncs and KiB of log for each of them, where that is a question.
    figures: [[&'static str; 2]; 2],
}

fn commits(case: &mut Case<'_>) -> Result<()> {
    let rows = [("commit-1", 1), ("commit-2", 2)];
    commit_ones(case, &Commits { promise: Promise::Nothing, part: 5, most: usize::MAX, rows, figures: [[""; 2]; 2] })
}

fn commits_buffered(case: &mut Case<'_>) -> Result<()> {
    let rows = [("buffered-1", 1), ("buffered-2", 2)];
    commit_ones(case, &Commits { promise: Promise::Soon, part: 5, most: usize::MAX, rows, figures: [[""; 2]; 2] })
}

fn commits_written(case: &mut Case<'_>) -> Result<()> {
    let rows = [("written-1", 1), ("written-2", 2)];
    commit_ones(case, &Commits { promise: Promise::Process, part: 5, most: usize::MAX, rows, figures: [[""; 2]; 2] })
}

fn commits_synced(case: &mut Case<'_>) -> Result<()> {
    let rows = [("synced-1", 1), ("synced-4", 4)];
    let figures = [["syncs-1", "log-bytes-1"], ["syncs-4", "log-bytes-4"]];
    commit_ones(case, &Commits { promise: Promise::Power, part: 20, most: 12_000, rows, figures })
}

fn commit_ones(case: &mut Case<'_>, what: &Commits) -> Result<()> {
    let data = case.data;
    let engine = case.open_for(what.promise)?;
    let mut model = case.load(&*engine)?;
    if what.promise != Promise::Nothing {
        engine.make_durable()?;
    }
    let rows = &data.order()[..(data.len() / what.part).min(what.most)];
    for (&(row, threads), figures) in what.rows.iter().zip(&what.figures) {
        if ![&[row], &figures[..]].concat().iter().any(|row| case.wants(row)) {
            continue;
        }
        let before = engine.log();
        // The parts are disjoint, so each thread keeps a model of its own.
        let parts: Vec<&[u32]> = rows.chunks(rows.len().div_ceil(threads)).collect();
        let models = &model;
        let seconds = on_threads(parts.len(), |thread| {
            let (mut session, mut model, part) = (engine.session()?, models.clone(), parts[thread]);
            Ok(move || put_rows(&mut *session, data, part, 1, &mut model))
        })?;
        case.note(row, rows.len() as f64 / seconds);
        if let (Some(before), Some(after), [syncs, bytes]) = (before, engine.log(), figures)
            && !syncs.is_empty()
        {
            let commits = (after.commits - before.commits) as f64;
            case.note(syncs, (after.syncs - before.syncs) as f64 / commits);
            case.note(bytes, (after.bytes - before.bytes) as f64 / 1024.0 / commits);
        }
        for &row in rows {
            model.advance(row);
        }
    }
    case.check(&*engine, &model)?;
    engine.close()
}

fn small_put(case: &mut Case<'_>) -> Result<()> {
    let rows = case.data.order();
    let engine = case.open_small()?;
    let mut model = Model::empty(case.data);
    let start = Instant::now();
    put_rows(&mut *engine.session()?, case.data, rows, BATCH, &mut model)?;
    case.note_rate("small-put", rows.len(), start);
    case.check(&*engine, &model)?;
    engine.close()
}

fn small_life(case: &mut Case<'_>) -> Result<()> {
    let engine = case.open_small()?;
    let mut model = case.load(&*engine)?;
    engine.make_durable()?;
    if case.wants("small-get") {
        get_random(case, &*engine, "small-get", 1)?;
    }
    if case.wants("small-scan") {
        scan_all(case, &*engine, "small-scan")?;
    }
    if case.wants("small-overwrite") {
        overwrite(case, &*engine, &mut model, "small-overwrite", 1)?;
    }
    if case.wants("small-mixed") {
        mixed(case, &*engine, &mut model, "small-mixed")?;
    }
    if case.wants("small-delete") {
        delete_half(case, &*engine, &mut model, "small-delete")?;
    }
    case.check(&*engine, &model)?;
    engine.close()
}

/// Bytes handed to the system for making a change of one row in a hundred
/// durable, by the bytes of those rows.
fn durable_one_percent(case: &mut Case<'_>) -> Result<()> {
    let engine = case.open()?;
    let mut model = case.load(&*engine)?;
    engine.make_durable()?;
    let rows = case.data.uniform(case.data.len() / 100, case.seed + 7);
    let before = files::bytes_written()?;
    put_rows(&mut *engine.session()?, case.data, &rows, BATCH, &mut model)?;
    engine.make_durable()?;
    let written = files::bytes_written()? - before;
    case.note("durable-1pct", written as f64 / Data::bytes(rows.len()) as f64);
    case.check(&*engine, &model)?;
    engine.close()
}

/// A fresh directory of a case below `base`.
pub fn fresh(base: &Path) -> Result<PathBuf> {
    let dir = base.join("case");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}
