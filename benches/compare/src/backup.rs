//! Backup rows: how fast, and what it does to those who write meanwhile.
//!
//! Problem. A backup is judged by two things: its speed, for which copying the
//! closed files is the limit, and what the application feels of it.
//!
//! Algorithm. Speed: the store is loaded and made durable; its backup is
//! taken and every file of the copy synced. Then the store is closed and its
//! directory copied and synced by plain file copies. The figure is the second
//! time by the first. What is felt: one thread commits single puts all the
//! time and notes the longest of them in each phase; the phases are undisturbed,
//! while being made durable, undisturbed again, during backups. Backups are
//! repeated until the phase is long enough to count in.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::data::{Data, Model};
use crate::engine::{Engine, Session, Write};
use crate::files;
use crate::stories::{Case, put_rows};

/// How long a phase under a writer lasts at the least.
const PHASE: Duration = Duration::from_millis(500);

pub fn story(case: &mut Case<'_>) -> Result<()> {
    if !case.peer.has_backup && !case.wants("stall-durable") {
        return Ok(());
    }
    let mut engine = case.open()?;
    let mut model = case.load(&*engine)?;
    engine.make_durable()?;
    let copies = case.dir.with_file_name("copies");
    let mut copies = Copies::new(&copies)?;
    if case.peer.has_backup && case.wants("backup") {
        let own = copies.backup(&*engine)?;
        engine.close()?;
        let plain = copies.plain(&case.dir)?;
        case.note("backup", plain / own);
        engine = case.open()?;
    }
    if ["backup-commits", "stall-backup", "stall-durable"].iter().any(|row| case.wants(row)) {
        under_writer(case, &*engine, &mut model, &mut copies)?;
    }
    case.check(&*engine, &model)?;
    engine.close()?;
    copies.remove()
}

/// A full backup, then one row in a hundred changed, then an increment: the
/// bytes of its files by the bytes of the rows that changed.
pub fn increment(case: &mut Case<'_>) -> Result<()> {
    let engine = case.open()?;
    let mut model = case.load(&*engine)?;
    let base = case.dir.with_file_name("copies");
    let mut copies = Copies::new(&base)?;
    copies.backup(&*engine)?;
    let rows = case.data.uniform(case.data.len() / 100, case.seed + 8);
    put_rows(&mut *engine.session()?, case.data, &rows, 1000, &mut model)?;
    let to = base.join("increment");
    std::fs::create_dir_all(&to)?;
    engine.increment(&to)?;
    let changed = Data::bytes(rows.len()) as f64;
    case.note("increment-1pct", files::size(&to)? as f64 / changed);
    case.check(&*engine, &model)?;
    engine.close()?;
    copies.remove()
}

/// Where copies are put, each in a directory of its own.
struct Copies<'a> {
    base: &'a Path,
    made: usize,
}

impl<'a> Copies<'a> {
    fn new(base: &'a Path) -> Result<Self> {
        let copies = Copies { base, made: 0 };
        copies.remove()?;
        std::fs::create_dir_all(base)?;
        Ok(copies)
    }

    /// Seconds of a backup and the sync of its files.
    fn backup(&mut self, engine: &dyn Engine) -> Result<f64> {
        self.made += 1;
        let to = self.base.join(self.made.to_string());
        std::fs::create_dir_all(&to)?;
        let start = Instant::now();
        engine.backup(&to)?;
        files::sync_tree(&to)?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Seconds of copying the closed store's directory, and the sync.
    fn plain(&mut self, from: &Path) -> Result<f64> {
        self.made += 1;
        let to = self.base.join(self.made.to_string());
        let start = Instant::now();
        files::copy_and_sync(from, &to)?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn remove(&self) -> Result<()> {
        if self.base.exists() {
            std::fs::remove_dir_all(self.base)?;
        }
        Ok(())
    }
}

/// What the writing thread has done, phase by phase.
#[derive(Default)]
struct Tally {
    phase: AtomicUsize,
    commits: [AtomicU64; 4],
    longest_ns: [AtomicU64; 4],
    stop: AtomicBool,
}

fn under_writer(case: &mut Case<'_>, engine: &dyn Engine, model: &mut Model, copies: &mut Copies<'_>) -> Result<()> {
    let tally = Tally::default();
    let data = case.data;
    let with_backup = case.peer.has_backup;
    let rows = data.uniform(data.len(), case.seed + 9);
    let (written, seconds) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut session = engine.session()?;
            write_until_told(&mut *session, data, &rows, model, &tally)
        });
        let phases = phases(engine, copies, &tally, with_backup);
        tally.stop.store(true, Relaxed);
        let written = writer.join().expect("the writing thread panicked");
        (written, phases)
    });
    written?;
    let seconds = seconds?;
    let longest = |phase: usize| tally.longest_ns[phase].load(Relaxed) as f64 / 1e6;
    let rate = |phase: usize| tally.commits[phase].load(Relaxed) as f64 / seconds[phase];
    case.note("stall-durable", longest(1));
    if with_backup {
        case.note("stall-backup", longest(3));
        case.note("backup-commits", rate(3) / rate(2));
    }
    Ok(())
}

/// Walks through the phases; the seconds of each.
fn phases(engine: &dyn Engine, copies: &mut Copies<'_>, tally: &Tally, with_backup: bool) -> Result<[f64; 4]> {
    let mut seconds = [0.0; 4];
    let mut phase = |number: usize, work: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        tally.phase.store(number, Relaxed);
        let start = Instant::now();
        work()?;
        seconds[number] = start.elapsed().as_secs_f64();
        Ok(())
    };
    let mut rest = || -> Result<()> {
        std::thread::sleep(PHASE);
        Ok(())
    };
    phase(0, &mut rest)?;
    phase(1, &mut || engine.make_durable())?;
    if with_backup {
        phase(2, &mut rest)?;
        let until = Instant::now() + PHASE;
        phase(3, &mut || {
            while Instant::now() < until {
                copies.backup(engine)?;
            }
            Ok(())
        })?;
    }
    Ok(seconds)
}

fn write_until_told(
    session: &mut dyn Session,
    data: &Data,
    rows: &[u32],
    model: &mut Model,
    tally: &Tally,
) -> Result<()> {
    for &row in rows.iter().cycle() {
        if tally.stop.load(Relaxed) {
            break;
        }
        let version = model.advance(row);
        let write = [Write::Put(data.key(row), data.value(row, version))];
        let (before, start) = (tally.phase.load(Relaxed), Instant::now());
        session.write(&write)?;
        let (after, took) = (tally.phase.load(Relaxed), start.elapsed());
        // A commit that waited for a phase to begin or end belongs to both.
        for phase in before..=after {
            tally.longest_ns[phase].fetch_max(took.as_nanos() as u64, Relaxed);
        }
        tally.commits[after].fetch_add(1, Relaxed);
    }
    Ok(())
}
