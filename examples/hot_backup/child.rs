//! The process that gets killed: loads, changes, checkpoints, backs up.
//!
//! Problem. It must be doing everything at once when the kill comes, and all
//! that it promised must already be known to the parent.
//!
//! Algorithm. Writer threads commit without pause. One thread takes a
//! checkpoint every [`CHECKPOINT_EVERY`] and reports the state it holds once it
//! is complete. The main thread takes one whole backup and times it, copies the
//! same bytes with plain file copies and times that, then opens a second backup
//! and never closes it. Opening a backup and taking a checkpoint exclude each
//! other by `line`, so that the order of reports is the order of events; the
//! writers do not wait for it.

use std::fs::{self, File};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use strandline::{
    Backup, BackupOptions, CheckpointOptions, CheckpointRef, CheckpointSeq, Contract, Database, Options, Table,
    TableOptions, Transaction,
};

use crate::model::{self, Part, Source, WRITERS};
use crate::wire::{Event, Steps, Stretch};
use crate::{Failure, Layout};

/// Time between two checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(400);
/// Time in which nothing but the writers and the checkpoints runs.
const CALM: Duration = Duration::from_secs(2);
/// Bytes of file contents that one loading transaction takes.
const LOAD_BATCH_BYTES: usize = 1 << 20;

struct Child {
    db: Database,
    source: Source,
    files: Table,
    changes: Table,
    progress: Table,
    /// Held while a checkpoint is taken or a backup opened, and reported.
    line: Mutex<()>,
    pace: Pace,
}

#[derive(Default)]
struct Pace {
    files: AtomicU64,
    bytes: AtomicU64,
    commits: AtomicU64,
    longest_micros: AtomicU64,
}

/// Runs until killed; returns only if something failed.
pub fn run(layout: &Layout, source: Source) -> Result<(), Failure> {
    let db = Options::new().create(true).contract(Contract::Pinned).open(layout.home())?;
    let table = |name| db.create_table(name, TableOptions::new());
    let (files, changes, progress) = (table(model::FILES)?, table(model::CHANGES)?, table(model::PROGRESS)?);
    let child = Child { db, source, files, changes, progress, line: Mutex::default(), pace: Pace::default() };
    std::thread::scope(|scope| {
        let child = &child;
        for writer in 0..WRITERS {
            scope.spawn(move || or_die(child.write(writer)));
        }
        scope.spawn(move || or_die(child.checkpoint_for_ever()));
        scope.spawn(move || child.report_pace_for_ever());
        or_die(child.back_up(layout));
    });
    Ok(())
}

/// A thread that fails takes the process along: the others never end.
fn or_die<T>(result: Result<T, Failure>) -> T {
    result.unwrap_or_else(|error| {
        eprintln!("hot_backup: {error}");
        std::process::exit(1)
    })
}

fn tell(event: &Event) {
    let mut out = std::io::stdout().lock();
    // A parent that no longer listens is gone; so are we.
    if writeln!(out, "{}", event.to_line()).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

impl Child {
    fn write(&self, writer: usize) -> Result<(), Failure> {
        let mut part = Part::new(&self.source, writer);
        while !part.idle() {
            if !part.loaded() {
                self.load_some(&mut part)?;
                continue;
            }
            let start = Instant::now();
            self.change_one(&mut part)?;
            self.pace.longest_micros.fetch_max(start.elapsed().as_micros() as u64, Relaxed);
            self.pace.commits.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// One transaction that loads the writer's next files.
    fn load_some(&self, part: &mut Part) -> Result<(), Failure> {
        let mut txn = self.db.begin()?;
        let (mut files, mut bytes) = (0, 0);
        while !part.loaded() && bytes < LOAD_BATCH_BYTES {
            let (action, _) = part.step(&self.source);
            bytes += model::carry_out(&mut txn, &self.files, &self.source, &action)?;
            files += 1;
        }
        self.commit(txn, part)?;
        self.pace.bytes.fetch_add(bytes as u64, Relaxed);
        self.pace.files.fetch_add(files, Relaxed);
        Ok(())
    }

    /// One transaction that changes one file.
    fn change_one(&self, part: &mut Part) -> Result<(), Failure> {
        let mut txn = self.db.begin()?;
        let step = part.steps;
        let (action, noted) = part.step(&self.source);
        model::carry_out(&mut txn, &self.files, &self.source, &action)?;
        if let Some(file) = noted {
            txn.put(&self.changes, self.source.key(file), model::note(step))?;
        }
        self.commit(txn, part)
    }

    /// Stores how far the writer has come in the same transaction, and commits.
    fn commit(&self, mut txn: Transaction<'_>, part: &Part) -> Result<(), Failure> {
        txn.put(&self.progress, model::progress_key(part.writer), part.steps.to_string())?;
        txn.commit()?;
        Ok(())
    }

    fn checkpoint_for_ever(&self) -> Result<(), Failure> {
        loop {
            std::thread::sleep(CHECKPOINT_EVERY);
            let _line = self.line.lock().expect("a thread that panics ends the process");
            let report = self.db.checkpoint(CheckpointOptions::new())?;
            if report.taken {
                let (seq, steps) = self.newest_checkpoint()?;
                tell(&Event::Checkpoint { seq, steps });
            }
        }
    }

    /// The newest complete checkpoint and the state it holds.
    fn newest_checkpoint(&self) -> Result<(CheckpointSeq, Steps), Failure> {
        let view = self.db.view(CheckpointRef::Latest)?;
        let steps = crate::steps_by(|key| Ok(view.get(model::PROGRESS, key)?.map(|value| value.to_vec())))?;
        Ok((view.seq(), steps))
    }

    fn report_pace_for_ever(&self) {
        loop {
            std::thread::sleep(Duration::from_millis(100));
            tell(&Event::Pace {
                files: self.pace.files.load(Relaxed),
                bytes: self.pace.bytes.load(Relaxed),
                commits: self.pace.commits.load(Relaxed),
            });
        }
    }

    /// Does some work and measures what the writers did meanwhile.
    fn stretch(&self, work: impl FnOnce() -> Result<u64, Failure>) -> Result<Stretch, Failure> {
        let commits = self.pace.commits.load(Relaxed);
        self.pace.longest_micros.store(0, Relaxed);
        let start = Instant::now();
        let bytes = work()?;
        Ok(Stretch {
            micros: start.elapsed().as_micros() as u64,
            bytes,
            commits: self.pace.commits.load(Relaxed) - commits,
            longest_micros: self.pace.longest_micros.load(Relaxed),
        })
    }

    fn calm(&self) -> Result<(), Failure> {
        let stretch = self.stretch(|| {
            std::thread::sleep(CALM);
            Ok(0)
        })?;
        tell(&Event::Calm(stretch));
        Ok(())
    }

    fn back_up(&self, layout: &Layout) -> Result<(), Failure> {
        while self.pace.files.load(Relaxed) < self.source.files() as u64 {
            std::thread::sleep(Duration::from_millis(5));
        }
        tell(&Event::Loaded);
        self.calm()?;
        let stretch = self.stretch(|| self.whole_backup(&layout.copy()))?;
        tell(&Event::BackedUp(stretch));
        self.calm()?;
        let stretch = self.stretch(|| plain_copy(&layout.copy(), &layout.plain()))?;
        tell(&Event::PlainCopy(stretch));
        fs::remove_dir_all(layout.plain())?;
        self.backup_without_end(&layout.second_copy())
    }

    /// Opens a backup of a fresh checkpoint and says what it holds.
    fn open_backup(&self) -> Result<Backup<'_>, Failure> {
        let _line = self.line.lock().expect("a thread that panics ends the process");
        let backup = self.db.backup(BackupOptions::new().fresh_checkpoint(true))?;
        // Nobody else takes a checkpoint now, so the newest is the one that was pinned.
        let (seq, steps) = self.newest_checkpoint()?;
        tell(&Event::Pinned { seq, steps });
        Ok(backup)
    }

    fn whole_backup(&self, to: &Path) -> Result<u64, Failure> {
        let backup = self.open_backup()?;
        let bytes = copy(&backup, to)?;
        backup.finish()?;
        Ok(bytes)
    }

    fn backup_without_end(&self, to: &Path) -> Result<(), Failure> {
        let backup = self.open_backup()?;
        copy(&backup, to)?;
        loop {
            std::thread::sleep(CALM);
        }
    }
}

/// Copies the backup into a directory, telling how far it is; its bytes.
fn copy(backup: &Backup<'_>, to: &Path) -> Result<u64, Failure> {
    let mut told = Instant::now();
    let report = backup.copy_to(to, |progress| {
        if told.elapsed() > Duration::from_millis(50) {
            told = Instant::now();
            tell(&Event::Copied { bytes: progress.bytes_done, of: progress.bytes_total });
        }
        ControlFlow::Continue(())
    })?;
    Ok(report.bytes)
}

/// Copies every file of a directory and syncs it, as `cp` and `sync` would:
/// the measure of a backup's speed, taken while the writers go on. Its bytes.
fn plain_copy(from: &Path, to: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        bytes += fs::copy(entry.path(), &target)?;
        File::open(&target)?.sync_all()?;
    }
    File::open(to)?.sync_all()?;
    Ok(bytes)
}
