//! The process that gets killed: writers that commit without pause, and a keeper that does everything else.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use strandline::{
    Backup, BackupOptions, CheckpointOptions, CheckpointRef, Contract, Database, Durability, ErrorKind, Options,
    Result, Table, TableOptions, Transaction,
};

use crate::model::{
    Dice, History, KEEPER, LINK, LOOSE, MORE, ROWS, Rows, State, Steps, WRITERS, link_key, progress_key, row,
};
use crate::wire::{Event, Pipe};

/// The name that the keeper's named checkpoints have, one after the other.
pub const MARK: &str = "mark";

/// What commits wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Sync,
    Write,
    Buffered,
    /// Each commit something else.
    Mixed,
}

impl Level {
    pub const ALL: [Self; 4] = [Self::Sync, Self::Write, Self::Buffered, Self::Mixed];

    /// The contract of the database that is written at this level: both get their turn.
    pub fn contract(self) -> Contract {
        if matches!(self, Self::Sync | Self::Buffered) { Contract::Pinned } else { Contract::Latest }
    }

    fn durability(self) -> Durability {
        match self {
            Self::Sync | Self::Mixed => Durability::Sync,
            Self::Write => Durability::Write,
            Self::Buffered => Durability::Buffered,
        }
    }

    /// How the database is opened, by the process that is killed and by its judge: small, so that the log changes segments
    /// and pages leave memory all the time.
    pub fn options(self) -> Options {
        let options = Options::new().create(true).log(true).contract(self.contract()).durability(self.durability());
        // A change of segments writes out what is buffered: with larger ones a kill finds something that nobody promised.
        let segment = if self == Self::Buffered { 2 << 20 } else { 100 << 10 };
        let options = options.log_segment_bytes(segment).cache_bytes(8 << 20);
        if self == Self::Write { options.log_dir("wal") } else { options }
    }
}

/// What the process is told to be.
#[derive(Clone, Copy, Debug)]
pub struct Orders {
    pub level: Level,
    pub round: u64,
    pub seed: u64,
    /// Number of the keeper's next table.
    pub next_table: u64,
    /// Open the database and do nothing else.
    pub only_open: bool,
}

impl Orders {
    pub fn to_text(self) -> String {
        let level = Level::ALL.iter().position(|level| *level == self.level).expect("one of them");
        format!("{level} {} {} {} {}", self.round, self.seed, self.next_table, u8::from(self.only_open))
    }

    pub fn parse(text: &str) -> Self {
        let numbers: Vec<u64> = text.split(' ').map(|n| n.parse().expect("a number")).collect();
        let &[level, round, seed, next_table, only_open] = numbers.as_slice() else { panic!("five orders: {text}") };
        Self { level: Level::ALL[level as usize], round, seed, next_table, only_open: only_open == 1 }
    }
}

struct Child {
    db: Database,
    pipe: Pipe,
    orders: Orders,
    rows: Table,
    more: Table,
    loose: Table,
    /// Where copies go.
    around: PathBuf,
    /// The last step of every writer whose commit has begun, and whose commit has returned.
    begun: [AtomicU64; WRITERS],
    done: [AtomicU64; WRITERS],
}

/// Works until it is killed; any failure ends the process, and the parent takes that for a broken promise.
pub fn run(home: &Path, orders: Orders) -> Result<()> {
    let pipe = Pipe::to_parent();
    let db = orders.level.options().open(home)?;
    pipe.tell(&Event::Opened);
    if orders.only_open {
        loop {
            thread::park();
        }
    }
    let (rows, more) = (db.create_table(ROWS, TableOptions::new())?, db.create_table(MORE, TableOptions::new())?);
    let loose = db.create_table(LOOSE, TableOptions::new().log(false))?;
    let around = home.parent().unwrap_or(home).to_owned();
    let (begun, done) = Default::default();
    let child = Child { db, pipe, orders, rows, more, loose, around, begun, done };
    child.mend_loose()?;
    let from = child.standing(&child.db.begin()?)?;
    for (counter, step) in child.done.iter().chain(&child.begun).zip(from.iter().cycle()) {
        counter.store(*step, Ordering::Relaxed);
    }
    thread::scope(|scope| {
        let child = &child;
        for (writer, &from) in from.iter().enumerate().take(KEEPER) {
            scope.spawn(move || or_die(child.write(writer, from)));
        }
        or_die(Keeper::new(child, from[KEEPER]).keep());
    });
    Ok(())
}

/// A thread that fails takes the process along: the others never end.
fn or_die(result: Result<()>) {
    if let Err(error) = result {
        eprintln!("the process to be killed failed: {error}");
        std::process::exit(1);
    }
}

impl Child {
    /// The table outside the log has fallen back behind the others; it is made equal to them again, in one transaction.
    fn mend_loose(&self) -> Result<()> {
        let mut tx = self.db.begin()?;
        tx.truncate::<&[u8]>(&self.loose, ..)?;
        let mut due: Rows =
            tx.scan(&self.more)?.map(|row| row.map(|(k, v)| (k.to_vec(), v.to_vec()))).collect::<Result<_>>()?;
        for writer in 0..WRITERS {
            let key = progress_key(writer);
            if let Some(value) = tx.get(&self.rows, &key)? {
                due.insert(key.into_bytes(), value.to_vec());
            }
        }
        for (key, value) in due {
            tx.put(&self.loose, key, value)?;
        }
        tx.commit().map(drop)
    }

    /// How far a transaction sees the writers.
    fn standing(&self, tx: &Transaction<'_>) -> Result<Steps> {
        let mut at = Steps::default();
        for (writer, at) in at.iter_mut().enumerate() {
            let value = tx.get(&self.rows, progress_key(writer))?;
            *at = value.map_or(0, |value| first_number(&value));
        }
        Ok(at)
    }

    fn write(&self, writer: usize, from: u64) -> Result<()> {
        let mut dice = Dice(self.orders.seed ^ (writer as u64 + 1) << 32);
        for step in from + 1.. {
            self.step(writer, step, &mut dice, |_| Ok(()))?;
            if dice.roll(500) == 0 {
                thread::sleep(Duration::from_millis(dice.roll(8)));
            }
        }
        Ok(())
    }

    /// One step, again and again until nobody else is faster.
    fn step(
        &self,
        writer: usize,
        step: u64,
        dice: &mut Dice,
        also: impl Fn(&mut Transaction<'_>) -> Result<()>,
    ) -> Result<()> {
        let level = match self.orders.level {
            Level::Mixed => [Durability::Sync, Durability::Write, Durability::Buffered][dice.roll(3) as usize],
            level => level.durability(),
        };
        loop {
            let at_begin = dice.roll(2) == 0;
            let tx = if at_begin { self.db.begin_with(level)? } else { self.db.begin()? };
            match self.try_step(tx, writer, step, (!at_begin).then_some(level), &also) {
                Err(e) if e.kind() == ErrorKind::Conflict => thread::yield_now(),
                Err(e) => return Err(e),
                Ok(seq) => {
                    self.pipe.tell(&Event::Commit { writer, step, seq, level });
                    self.done[writer].store(step, Ordering::Release);
                    return Ok(());
                }
            }
        }
    }

    fn try_step(
        &self,
        mut tx: Transaction<'_>,
        writer: usize,
        step: u64,
        level: Option<Durability>,
        also: &impl Fn(&mut Transaction<'_>) -> Result<()>,
    ) -> Result<u64> {
        let saw = self.standing(&tx)?.map(|step| step.to_string()).join(" ");
        for table in [&self.rows, &self.more, &self.loose] {
            let name = if table.id() == self.rows.id() { ROWS } else { MORE };
            match row(name, writer, step, self.orders.round) {
                (key, Some(value)) => tx.put(table, key, value)?,
                (key, None) => drop(tx.delete(table, key)?),
            }
        }
        for table in [&self.rows, &self.loose] {
            tx.put(table, progress_key(writer), format!("{step} {} {saw}", self.orders.round))?;
        }
        if step.is_multiple_of(LINK) {
            let link = tx.get(&self.rows, "chain")?.map_or(0, |head| first_number(&head)) + 1;
            tx.put(&self.rows, "chain", link.to_string())?;
            tx.put(&self.rows, link_key(link), format!("{link} {writer} {step}"))?;
        }
        also(&mut tx)?;
        self.begun[writer].store(step, Ordering::Release);
        self.pipe.tell(&Event::Begin { writer, step });
        let seq = match level {
            Some(level) => tx.commit_with(level)?,
            None => tx.commit()?,
        };
        Ok(seq.0)
    }

    /// The commits that have returned.
    fn done(&self) -> Steps {
        std::array::from_fn(|writer| self.done[writer].load(Ordering::Acquire))
    }

    /// The commits that have begun.
    fn begun(&self) -> Steps {
        std::array::from_fn(|writer| self.begun[writer].load(Ordering::Acquire))
    }

    /// Takes a checkpoint and tells what it holds.
    fn checkpoint(&self, named: bool) -> Result<()> {
        self.pipe.tell(&Event::Taking(self.done()));
        let options = CheckpointOptions::new();
        self.db.checkpoint(if named { options.name(MARK) } else { options })?;
        let view = self.db.view(CheckpointRef::Latest)?;
        let mut state = State { logged: Steps::default(), loose: Steps::default() };
        for (table, steps) in [(ROWS, &mut state.logged), (LOOSE, &mut state.loose)] {
            for (writer, step) in steps.iter_mut().enumerate() {
                *step = view.get(table, progress_key(writer))?.map_or(0, |value| first_number(&value));
            }
        }
        self.pipe.tell(&Event::Taken { state, named: view.name() == Some(MARK) });
        Ok(())
    }
}

fn first_number(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).expect("we wrote it");
    text.split(' ').next().and_then(|n| n.parse().ok()).expect("we wrote it")
}

/// Where a copy is made.
pub fn copy_dir(around: &Path, copy: u64) -> PathBuf {
    around.join(format!("copy-{copy}"))
}

/// The names of the keeper's tables tell their numbers and whether they were renamed.
pub fn table_of(name: &str) -> Option<(u64, u8)> {
    let number = |rest: &str| rest.parse().ok();
    match (name.strip_prefix("made-"), name.strip_prefix("renamed-")) {
        (Some(rest), _) => Some((number(rest)?, 1)),
        (_, Some(rest)) => Some((number(rest)?, 2)),
        _ => None,
    }
}

fn name_of(table: u64, state: u8) -> String {
    format!("{}-{table}", if state == 1 { "made" } else { "renamed" })
}

/// Checkpoints, backups, tables: the thread that does what needs care about order.
struct Keeper<'c> {
    child: &'c Child,
    dice: Dice,
    step: u64,
    /// The open backup, and the commits that had returned and begun when it was opened.
    backup: Option<(Backup<'c>, Steps, Steps)>,
    copies: u64,
    next_table: u64,
    tables: Vec<(u64, u8)>,
}

impl<'c> Keeper<'c> {
    fn new(child: &'c Child, step: u64) -> Self {
        let orders = child.orders;
        let tables = child.db.tables().unwrap_or_default();
        let tables = tables.iter().filter_map(|info| table_of(&info.name)).collect();
        Self { child, dice: Dice(orders.seed), step, backup: None, copies: 0, next_table: orders.next_table, tables }
    }

    fn keep(mut self) -> Result<()> {
        loop {
            match self.dice.roll(16) {
                0..3 => self.child.checkpoint(false)?,
                // An open backup holds the one that has the name.
                3 => self.child.checkpoint(self.backup.is_none())?,
                4 | 5 => self.backup()?,
                6 | 7 => self.make()?,
                8 => self.rename()?,
                9 => self.remove()?,
                10 | 11 => self.fill()?,
                12 | 13 => self.sync()?,
                14 => self.child.db.log_message("the keeper was here")?,
                _ => thread::sleep(Duration::from_millis(self.dice.roll(20))),
            }
        }
    }

    fn sync(&mut self) -> Result<()> {
        let done = self.child.done();
        let level = if self.dice.roll(2) == 0 { Durability::Sync } else { Durability::Write };
        self.child.db.sync_log(level)?;
        self.child.pipe.tell(&Event::Covered(done));
        // Nothing else that covers commits comes soon, so a kill now shows whether this call did.
        thread::sleep(Duration::from_millis(self.dice.roll(16)));
        Ok(())
    }

    /// Opens a backup, or ends the one that is open, copied or not.
    fn backup(&mut self) -> Result<()> {
        let pipe = &self.child.pipe;
        match self.backup.take() {
            None => {
                pipe.tell(&Event::Pinning);
                let done = self.child.done();
                let backup = self.child.db.backup(BackupOptions::new())?;
                self.backup = Some((backup, done, self.child.begun()));
                pipe.tell(&Event::Pinned);
            }
            Some((backup, done, begun)) => {
                if self.dice.roll(2) == 0 {
                    let copy = self.copies;
                    self.copies += 1;
                    backup.copy_to(copy_dir(&self.child.around, copy), |_| ControlFlow::Continue(()))?;
                    pipe.tell(&Event::Copied { copy, done, begun });
                }
                pipe.tell(&Event::Unpinning);
                backup.finish()?;
                pipe.tell(&Event::Unpinned);
            }
        }
        Ok(())
    }

    fn make(&mut self) -> Result<()> {
        if self.tables.len() > 5 {
            return self.remove();
        }
        let table = self.next_table;
        self.next_table += 1;
        self.child.pipe.tell(&Event::Change { table, to: 1 });
        self.child.db.create_table(&name_of(table, 1), TableOptions::new().exclusive(true))?;
        self.child.pipe.tell(&Event::Changed { table });
        self.tables.push((table, 1));
        Ok(())
    }

    fn rename(&mut self) -> Result<()> {
        let Some(at) = self.tables.iter().position(|(_, state)| *state == 1) else { return Ok(()) };
        let (table, state) = self.tables[at];
        let done = self.change(table, 2, |db| db.rename_table(&name_of(table, state), &name_of(table, 2)))?;
        if done {
            self.tables[at].1 = 2;
        }
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        if self.tables.is_empty() {
            return Ok(());
        }
        let at = self.dice.roll(self.tables.len() as u64) as usize;
        let (table, state) = self.tables[at];
        if self.change(table, 3, |db| db.drop_table(&name_of(table, state), true))? {
            self.tables.swap_remove(at);
        }
        Ok(())
    }

    /// False when a backup forbids it.
    fn change(&self, table: u64, to: u8, work: impl Fn(&Database) -> Result<()>) -> Result<bool> {
        self.child.pipe.tell(&Event::Change { table, to });
        match work(&self.child.db) {
            Err(e) if e.kind() == ErrorKind::Busy && self.backup.is_some() => {
                self.child.pipe.tell(&Event::Refused { table });
                Ok(false)
            }
            Err(e) => Err(e),
            Ok(()) => {
                self.child.pipe.tell(&Event::Changed { table });
                Ok(true)
            }
        }
    }

    /// A step that writes to one of the keeper's tables as well.
    fn fill(&mut self) -> Result<()> {
        let step = self.step + 1;
        let target = self.tables.last().copied();
        let table = target.map(|(table, state)| self.child.db.table(&name_of(table, state))).transpose()?;
        if let Some((table, _)) = target {
            self.child.pipe.tell(&Event::Fill { table, step });
        }
        self.child.step(KEEPER, step, &mut self.dice, |tx| {
            table.as_ref().map_or(Ok(()), |table| tx.put(table, "fill", step.to_string()))
        })?;
        self.step = step;
        Ok(())
    }
}

/// Reads a whole table of a database.
pub fn rows_of(db: &Database, table: &str) -> Result<Rows> {
    match db.table(table) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Rows::new()),
        table => {
            let tx = db.begin()?;
            tx.scan(&table?)?.map(|row| row.map(|(k, v)| (k.to_vec(), v.to_vec()))).collect()
        }
    }
}

/// The state that a database is in now.
pub fn state_of(db: &Database, history: &History) -> std::result::Result<State, String> {
    State::read(history, |table| rows_of(db, table).unwrap_or_else(|e| panic!("{table}: {e}")))
}
