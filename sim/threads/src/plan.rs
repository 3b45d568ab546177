//! What the threads do: drawn from the tape before anything runs.
//!
//! A value is a list. A transaction reads lists and appends elements that nobody else ever appends, so a list that is read
//! later tells who wrote before whom: from what was read alone one can say which order the transactions are in, and whether
//! there is one (Kingsbury and Alvaro, "Elle", 2020). Few keys, small pages and a small cache bring splits, evictions and
//! conflicts within ten transactions.

use std::fmt;

use strandline_sim::tape::{Subject, Tape};

use crate::schedule::Policy;

/// A table and a key in it, by number.
pub type Key = (u8, u8);
/// Something that was appended: no two are equal.
pub type Element = u16;
/// Elements of one transaction: its number times this, and which of its appends.
pub const APPENDS: u16 = 8;
/// A table has at most so many keys.
pub const KEYS_MAX: u8 = 12;
/// Tables that exist before the threads begin.
pub const OLD_TABLES: u8 = 2;

/// How durable a commit is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// On the device.
    Sync,
    /// With the system.
    Write,
    /// Soon.
    Buffered,
}

/// Sizes and switches of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Size at which a leaf is split, in bytes.
    pub leaf: usize,
    /// Memory for pages, in bytes.
    pub cache: usize,
    /// Allocation unit of the files, in bytes.
    pub unit: u32,
    /// Size of a segment of the log, in bytes.
    pub segment: u64,
    /// Bytes that follow each list in its value.
    pub pad: usize,
    /// The threads begin above a checkpoint.
    pub base: bool,
    /// A backup is open as long as the threads run: a crash falls back to what it pins, and the log is all there is above.
    pub held: bool,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Its number, from 1.
    pub id: u16,
    /// It begins when the tables that it uses have been made, unless that takes long.
    pub waits: bool,
    /// What it reads first.
    pub reads: Vec<Key>,
    /// What it appends to, in turn; a key may come twice.
    pub appends: Vec<Key>,
    /// A table that it scans in the end.
    pub scan: Option<u8>,
    /// What the commit waits for; `None` rolls back.
    pub level: Option<Level>,
}

/// How a copy is rolled forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// It is not.
    No,
    /// By what the log has beyond it, while the backup is open.
    CatchUp,
    /// By an increment, the next backup.
    Increment,
}

/// Something a thread does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Runs a transaction.
    Txn(Txn),
    /// Makes a table.
    Create(u8),
    /// Drops a table, unless somebody uses it.
    Drop(u8),
    /// Gives a table its other name, unless somebody uses it.
    Rename(u8),
    /// Takes a checkpoint, named or not.
    Checkpoint(bool),
    /// Copies the database, and rolls the copy forward.
    Backup(u8, Forward),
    /// Reads the newest checkpoint.
    View,
    /// Makes all that is committed durable.
    SyncLog,
    /// Steps the services.
    Drive,
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The engine's settings.
    pub settings: Settings,
    /// What each thread does.
    pub threads: Vec<Vec<Act>>,
    /// How they are scheduled.
    pub policy: Policy,
}

impl Plan {
    /// Draws a plan for threads that are scheduled in this way.
    pub fn draw(tape: &mut Tape, policy: Policy) -> Self {
        let settings = Settings {
            leaf: *tape.pick(Subject::Config, &[512, 256]),
            cache: *tape.pick(Subject::Config, &[1 << 20, 8 << 10, 4 << 10]),
            unit: 512,
            segment: *tape.pick(Subject::Config, &[16 << 10, 4 << 10, 2 << 10]),
            pad: *tape.pick(Subject::Config, &[0, 40, 100, 180]),
            base: tape.chance(Subject::Config, 1, 2),
            held: tape.chance(Subject::Config, 1, 3),
        };
        let keys = 2 + tape.choose(Subject::Config, u64::from(KEYS_MAX) - 1) as u8;
        let mut draw = Draw { tape, keys, made: 0, next: 1, sync: 1 };
        let threads = draw.threads();
        Self { settings, threads, policy }
    }

    /// All transactions.
    pub fn txns(&self) -> impl Iterator<Item = &Txn> {
        self.threads.iter().flatten().filter_map(|act| if let Act::Txn(txn) = act { Some(txn) } else { None })
    }
}

struct Draw<'t> {
    tape: &'t mut Tape,
    keys: u8,
    /// Tables that some thread makes.
    made: u8,
    next: u16,
    /// A commit is durable in so many of four cases.
    sync: u64,
}

impl Draw<'_> {
    fn below(&mut self, bound: u64) -> u64 {
        self.tape.choose(Subject::Workload, bound)
    }

    fn threads(&mut self) -> Vec<Vec<Act>> {
        self.sync = self.below(5);
        let mut threads: Vec<Vec<Act>> = Vec::new();
        if self.tape.chance(Subject::Workload, 1, 2) {
            self.made = 1 + self.below(4) as u8;
            threads.push((0..self.made).map(|n| Act::Create(OLD_TABLES + n)).collect());
            if self.tape.chance(Subject::Workload, 1, 3) {
                // By the same thread or by another one.
                let table = self.below(u64::from(OLD_TABLES + self.made)) as u8;
                let act = if self.below(2) == 0 { Act::Drop(table) } else { Act::Rename(table) };
                let own = self.below(2) == 0;
                if own { threads[0].push(act) } else { threads.push(vec![act]) }
            }
        }
        for _ in 0..2 + self.below(2) {
            let acts = 1 + self.below(4);
            threads.push((0..acts).map(|_| Act::Txn(self.txn())).collect());
        }
        for _ in 0..self.below(3) {
            let acts = 1 + self.below(3);
            threads.push((0..acts).map(|_| self.service()).collect());
        }
        if self.tape.chance(Subject::Workload, 1, 3) {
            let forward = [Forward::No, Forward::CatchUp, Forward::Increment][self.below(3) as usize];
            threads.push(vec![Act::Backup(0, forward)]);
        }
        if self.tape.chance(Subject::Workload, 1, 2) {
            let acts = 1 + self.below(3);
            threads.push((0..acts).map(|_| self.reader()).collect());
        }
        threads
    }

    fn service(&mut self) -> Act {
        match self.below(7) {
            0..=2 => Act::Checkpoint(false),
            3 => Act::Checkpoint(true),
            4 => Act::SyncLog,
            5 => Act::View,
            _ => Act::Drive,
        }
    }

    fn key(&mut self) -> Key {
        let new = self.made > 0 && self.tape.chance(Subject::Workload, 1, 2);
        let table =
            if new { u64::from(OLD_TABLES) + self.below(self.made.into()) } else { self.below(OLD_TABLES.into()) };
        (table as u8, self.below(self.keys.into()) as u8)
    }

    fn number(&mut self) -> u16 {
        self.next += 1;
        self.next - 1
    }

    fn txn(&mut self) -> Txn {
        let id = self.number();
        let reads = (0..self.below(3)).map(|_| self.key()).collect();
        let appends = (0..1 + self.below(3)).map(|_| self.key()).collect();
        let scan = self.tape.chance(Subject::Workload, 1, 8).then(|| self.key().0);
        let durable = self.sync > 0 && self.below(4) < self.sync;
        let level = match self.below(8) {
            7 => None,
            _ if durable => Some(Level::Sync),
            n if n % 2 == 0 => Some(Level::Write),
            _ => Some(Level::Buffered),
        };
        let waits = self.tape.chance(Subject::Workload, 1, 2);
        Txn { id, waits, reads, appends, scan, level }
    }

    fn reader(&mut self) -> Act {
        let id = self.number();
        let reads = (0..1 + self.below(4)).map(|_| self.key()).collect();
        let scan = Some(self.key().0);
        Act::Txn(Txn { id, waits: false, reads, appends: Vec::new(), scan, level: Some(Level::Sync) })
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Txn(txn) => {
                write!(f, "T{}{}:", txn.id, if txn.waits { " waits" } else { "" })?;
                txn.reads.iter().try_for_each(|(t, k)| write!(f, " read t{t}.{k}"))?;
                txn.appends.iter().try_for_each(|(t, k)| write!(f, " append t{t}.{k}"))?;
                txn.scan.iter().try_for_each(|t| write!(f, " scan t{t}"))?;
                match txn.level {
                    Some(level) => write!(f, " commit {level:?}"),
                    None => write!(f, " roll back"),
                }
            }
            Self::Create(table) => write!(f, "create t{table}"),
            Self::Drop(table) => write!(f, "drop t{table}"),
            Self::Checkpoint(named) => write!(f, "checkpoint{}", if *named { " named" } else { "" }),
            Self::Rename(table) => write!(f, "rename t{table}"),
            Self::Backup(n, Forward::No) => write!(f, "backup to b{n}"),
            Self::Backup(n, forward) => write!(f, "backup to b{n}, {forward:?}"),
            Self::View => write!(f, "view"),
            Self::SyncLog => write!(f, "sync the log"),
            Self::Drive => write!(f, "drive"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.settings)?;
        self.threads.iter().enumerate().try_for_each(|(n, acts)| {
            let acts: Vec<String> = acts.iter().map(ToString::to_string).collect();
            writeln!(f, "  thread {}: {}", n + 1, acts.join(" / "))
        })
    }
}
