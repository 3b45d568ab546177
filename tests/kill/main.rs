//! A real process, real files, a real kill, and every promise that had been made by then.
//!
//! The simulator crashes the engine in every way that a model of a disk allows. This test has no model: it starts a process
//! that commits from several threads at once, takes checkpoints, opens backups, makes, renames and drops tables, on the
//! operating system's files, and kills it (SIGKILL) at a random moment. What the process was promised it has told its parent
//! over a pipe (`wire`), which outlives it. The parent opens what is left and looks whether all of it was kept
//! (`promises`): with every kind of durability, with a table outside the log, with either contract for a crash during a
//! backup. Sometimes it kills the recovery, too, and sometimes it opens the database for reading only first. The copies
//! that were finished are opened as well. Then the next process goes on in the same database.
//!
//! In a run of all tests this is a few seconds. For more, with the figures shown:
//!
//! ```text
//! STRANDLINE_KILL_ROUNDS=1000 cargo test --release --test kill -- --nocapture
//! ```
//!
//! The database that broke a promise is left where the message says. `STRANDLINE_KILL_SEED` chooses when things happen,
//! but for what the system's scheduler adds.
//!
//! Covers: L1, L2, L5, T4, LG-3, LG-8, LG-9, FB-13, TB-9, DB-1, DB-6.

mod child;
mod model;
mod promises;
mod wire;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use strandline::{CheckpointRef, Database, ErrorKind, VerifyOptions, View};

use child::{Level, MARK, Orders};
use model::{Dice, History, Rows, State};
use promises::Promises;
use wire::Event;

/// Set in the process that is to be killed.
const ORDERS: &str = "STRANDLINE_KILL_ORDERS";
const HOME: &str = "STRANDLINE_KILL_HOME";
/// Rounds of each level in a run of all tests.
const ROUNDS: u64 = 35;

/// Not a test of its own: what the process to be killed runs.
#[test]
fn the_process_that_gets_killed() {
    let (Ok(orders), Some(home)) = (std::env::var(ORDERS), std::env::var_os(HOME)) else { return };
    child::run(Path::new(&home), Orders::parse(&orders)).expect("it works until it is killed");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn what_was_promised_survives_a_kill() {
    let rounds = number("STRANDLINE_KILL_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("STRANDLINE_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}");
    let figures: Vec<(Level, Figures)> = thread::scope(|scope| {
        let run = |level| scope.spawn(move || (level, Trial::new(level, seed).run(rounds)));
        let running = Level::ALL.map(run);
        running.into_iter().map(|trial| trial.join().unwrap_or_else(|_| panic!("a promise was broken"))).collect()
    });
    println!(
        "\n{:<9} {:>6} {:>8} {:>9} {:>9} {:>9} {:>9} {:>11} {:>8} {:>8} {:>8}",
        "level",
        "rounds",
        "in open",
        "begun",
        "promised",
        "beyond",
        "lost",
        "checkpoints",
        "changes",
        "backups",
        "copies"
    );
    for (level, f) in &figures {
        println!(
            "{:<9} {:>6} {:>8} {:>9} {:>9} {:>9} {:>9} {:>11} {:>8} {:>8} {:>8}",
            format!("{level:?}"),
            f.rounds,
            f.in_open,
            f.begun,
            f.firm,
            f.beyond,
            f.lost,
            f.checkpoints,
            f.changes,
            f.backups,
            f.copies
        );
        assert!(f.firm > 0 && f.checkpoints > 0, "{level:?}: the process was not given time to do anything");
    }
    println!("\nbeyond: found though not promised; lost: begun, not promised, not found");
}

/// What the rounds of a level came to.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    rounds: u64,
    /// Killed before the database was open.
    in_open: u64,
    begun: u64,
    firm: u64,
    beyond: u64,
    lost: u64,
    checkpoints: u64,
    changes: u64,
    /// Killed with a backup open.
    backups: u64,
    /// Copies that were finished before.
    copies: u64,
}

/// One database, killed again and again.
struct Trial {
    level: Level,
    dir: tempfile::TempDir,
    dice: Dice,
    promises: Promises,
    history: History,
    figures: Figures,
}

type Tables = BTreeMap<u64, (u8, Option<u64>)>;

impl Trial {
    fn new(level: Level, seed: u64) -> Self {
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let mut dir = tempfile::Builder::new().prefix("kill-").tempdir_in(base).expect("a directory below target");
        // Until all went well.
        dir.disable_cleanup(true);
        let dice = Dice(seed ^ (level as u64) << 56);
        let promises = Promises::new(level.contract());
        Self { level, dir, dice, promises, history: History::default(), figures: Figures::default() }
    }

    fn run(mut self, rounds: u64) -> Figures {
        for round in 0..rounds {
            if let Err(broken) = self.round() {
                let (level, dir) = (self.level, self.dir.path().display());
                panic!(
                    "{level:?}, round {round}: {broken}\nthe database is left in {dir}\n{:#?}",
                    self.promises.in_short()
                );
            }
        }
        self.dir.disable_cleanup(false);
        self.figures
    }

    fn round(&mut self) -> Result<(), String> {
        let before = (self.promises.begun(), self.promises.checkpoints, self.promises.changes);
        let after = match self.dice.roll(10) {
            0 | 1 => self.dice.roll(12_000),
            2..6 => 10_000 + self.dice.roll(60_000),
            _ => 50_000 + self.dice.roll(300_000),
        };
        self.kill_one(false, after)?;
        while self.dice.roll(4) == 0 {
            let after = self.dice.roll(12_000);
            self.kill_one(true, after)?;
        }
        let f = &mut self.figures;
        f.rounds += 1;
        f.in_open += u64::from(!self.promises.opened);
        f.backups += u64::from(self.promises.backup_open());
        f.checkpoints += self.promises.checkpoints - before.1;
        f.changes += self.promises.changes - before.2;
        self.judge_copies()?;
        let (state, tables) = self.judge()?;
        let (begun, firm) = (self.promises.begun(), self.promises.firm());
        let found: u64 = state.logged.iter().sum();
        let f = &mut self.figures;
        f.begun += begun - before.0;
        f.firm += firm - before.0;
        f.beyond += found - firm;
        f.lost += begun - found;
        self.promises.settle(&state, &tables);
        self.history.0.push(state.logged);
        Ok(())
    }

    /// Starts a process, kills it so many microseconds later, and notes what it had been promised.
    fn kill_one(&mut self, only_open: bool, after: u64) -> Result<(), String> {
        let orders = Orders {
            level: self.level,
            round: self.history.0.len() as u64,
            seed: self.dice.roll(u64::MAX),
            next_table: self.promises.next_table(),
            only_open,
        };
        let mut child = start(&self.dir.path().join("home"), orders);
        let out = child.stdout.take().expect("it was piped");
        let listener = thread::spawn(move || -> Vec<Event> {
            let lines = BufReader::new(out).lines();
            lines.map_while(|line| line.ok()).filter_map(|line| Event::parse(&line)).collect()
        });
        thread::sleep(Duration::from_micros(after));
        let ended = child.try_wait().expect("it is our child");
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
        // What it said before it died is in the pipe, and counts.
        for event in listener.join().expect("the listener only listens") {
            self.promises.take(&event)?;
        }
        ended.map_or(Ok(()), |status| Err(format!("the process ended before it was killed: {status}")))
    }

    /// Opens what is left, and looks whether every promise was kept.
    fn judge(&mut self) -> Result<(State, Tables), String> {
        let home = self.dir.path().join("home");
        let how = self.dice.roll(3);
        let mut seen = None;
        if how < 2 {
            match self.level.options().create(false).read_only(true).open(&home) {
                Ok(db) => seen = Some(self.look(&db)?),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(format!("for reading: {e}")),
            }
        }
        if let (0, Some(seen)) = (how, &seen) {
            // The next process finds it as it was left.
            return Ok(seen.clone());
        }
        let db = self.level.options().open(&home).map_err(|e| e.to_string())?;
        let found = self.look(&db)?;
        if seen.is_some_and(|seen| seen != found) {
            return Err(format!("for reading there was another state than {found:?}"));
        }
        let damage = db.verify(&VerifyOptions::new()).map_err(|e| e.to_string())?.findings;
        if !damage.is_empty() {
            return Err(format!("verify: {damage:?}"));
        }
        db.close().map_err(|e| e.to_string())?;
        Ok(found)
    }

    /// Every copy that was finished is a database in the state that it was promised to be; every other is refused.
    fn judge_copies(&mut self) -> Result<(), String> {
        for copy in 0.. {
            let dir = child::copy_dir(self.dir.path(), copy);
            if !dir.exists() {
                return Ok(());
            }
            let promised = self.promises.copies.contains_key(&copy);
            let opened = self.level.options().create(false).open(&dir);
            match opened {
                Ok(db) => {
                    let state = child::state_of(&db, &self.history)?;
                    self.promises.check_copy(copy, &state)?;
                    self.figures.copies += u64::from(promised);
                }
                Err(e) if promised => return Err(format!("copy {copy}: {e}")),
                Err(_) => {}
            }
            std::fs::remove_dir_all(&dir).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn look(&self, db: &Database) -> Result<(State, Tables), String> {
        let state = child::state_of(db, &self.history)?;
        self.promises.check(&state)?;
        let mut tables = Tables::new();
        for info in db.tables().map_err(|e| e.to_string())? {
            if let Some((table, is)) = child::table_of(&info.name) {
                let rows = child::rows_of(db, &info.name).map_err(|e| e.to_string())?;
                let filled = rows.get(b"fill".as_slice()).and_then(|v| String::from_utf8_lossy(v).parse().ok());
                tables.insert(table, (is, filled));
            }
        }
        self.promises.check_tables(&tables, &state)?;
        self.look_at_checkpoints(db)?;
        Ok((state, tables))
    }

    /// Every checkpoint that is retained holds a state that was; the named one, the state that it was given.
    fn look_at_checkpoints(&self, db: &Database) -> Result<(), String> {
        for which in [CheckpointRef::Latest, CheckpointRef::Named(MARK)] {
            match db.view(which) {
                Ok(view) => {
                    let state = self.state_in(&view)?;
                    if let (CheckpointRef::Named(_), Some(due)) = (which, self.promises.named())
                        && state != *due
                    {
                        return Err(format!("checkpoint `{MARK}` holds {state:?} where {due:?} is due"));
                    }
                }
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    if matches!(which, CheckpointRef::Named(_)) && self.promises.named().is_some() {
                        return Err(format!("checkpoint `{MARK}` is gone"));
                    }
                }
                Err(e) => return Err(e.to_string()),
            }
        }
        Ok(())
    }

    fn state_in(&self, view: &View) -> Result<State, String> {
        let held: Vec<String> = view.tables().map(|info| info.name).collect();
        State::read(&self.history, |table| match held.iter().any(|name| name == table) {
            false => Rows::new(),
            true => {
                let rows = view.scan(table).unwrap_or_else(|e| panic!("{table}: {e}"));
                rows.map(|row| row.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap_or_else(|e| panic!("{e}"))).collect()
            }
        })
    }
}

/// This very program once more, as the process to be killed.
fn start(home: &Path, orders: Orders) -> Child {
    let program = std::env::current_exe().expect("a running program has a file");
    Command::new(program)
        .args(["--exact", "the_process_that_gets_killed", "--nocapture", "--test-threads=1"])
        .env(ORDERS, orders.to_text())
        .env(HOME, home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program can be started")
}
