//! What a killed process had been promised, and whether it was kept.
//!
//! A commit that returned at level `Sync` or `Write`, everything that a `sync_log`, a checkpoint or a change of tables
//! covers, is *firm*: it must be found. A step that was begun may be found. Anything else must not. What is found must be
//! all up to some point in the order of commits, which their numbers tell. The table outside the log must be at the newest
//! checkpoint, or at the one that an open backup pins, where the contract says so.

use std::collections::BTreeMap;

use strandline::{Contract, Durability};

use crate::model::{State, Steps, WRITERS, further, within};
use crate::wire::Event;

/// One of the keeper's tables.
#[derive(Clone, Debug, Default)]
struct Extra {
    /// Made (1), renamed (2), dropped (3), durably; 0 before.
    is: u8,
    /// What it is about to become.
    becomes: Option<u8>,
    /// The steps that wrote to it.
    fills: Vec<u64>,
}

/// Whether a backup is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pin {
    No,
    /// Being opened, or being ended: the state outside the log that it pins.
    Perhaps(Steps),
    Yes(Steps),
}

/// All that is known of one database when its process has been killed.
#[derive(Clone, Debug)]
pub struct Promises {
    contract: Contract,
    begun: Steps,
    firm: Steps,
    /// The commits that returned in this round: number in the order of all, writer, step.
    commits: Vec<(u64, usize, u64)>,
    /// The state outside the log in the newest checkpoint, and whether another one was being taken.
    newest: Steps,
    taking: Option<Steps>,
    pin: Pin,
    /// The named checkpoint, while nothing is under way that may take it away.
    named: Option<State>,
    extras: BTreeMap<u64, Extra>,
    /// Copies that are complete: what must be in them, what may be, and their state outside the log.
    pub copies: BTreeMap<u64, (Steps, Steps, Steps)>,
    pub opened: bool,
    pub checkpoints: u64,
    pub changes: u64,
}

impl Promises {
    pub fn new(contract: Contract) -> Self {
        Self {
            contract,
            begun: Steps::default(),
            firm: Steps::default(),
            commits: Vec::new(),
            newest: Steps::default(),
            taking: None,
            pin: Pin::No,
            named: None,
            extras: BTreeMap::new(),
            copies: BTreeMap::new(),
            opened: false,
            checkpoints: 0,
            changes: 0,
        }
    }

    /// The number of the next table.
    pub fn next_table(&self) -> u64 {
        self.extras.last_key_value().map_or(1, |(table, _)| table + 1)
    }

    /// The commits that must be found, and those that may be.
    pub fn firm(&self) -> u64 {
        self.firm.iter().sum()
    }

    pub fn begun(&self) -> u64 {
        self.begun.iter().sum()
    }

    /// A backup was open, or being opened or ended.
    pub fn backup_open(&self) -> bool {
        self.pin != Pin::No
    }

    /// Without what makes a message too long to read.
    pub fn in_short(&self) -> Self {
        let mut short = Self { commits: Vec::new(), ..self.clone() };
        short.extras.retain(|_, extra| extra.is != 3 || extra.becomes.is_some());
        short
    }

    pub fn take(&mut self, event: &Event) -> Result<(), String> {
        match *event {
            Event::Opened => self.opened = true,
            Event::Begin { writer, step } => self.begun[writer] = step,
            Event::Commit { writer, step, seq, level } => {
                self.commits.push((seq, writer, step));
                if level >= Durability::Write {
                    self.firm[writer] = step;
                }
            }
            Event::Covered(steps) => self.firm = further(self.firm, steps),
            Event::Taking(steps) => {
                self.taking = Some(steps);
                self.named = None;
            }
            Event::Taken { state, named } => return self.taken(state, named),
            Event::Pinning | Event::Unpinning => {
                self.named = None;
                self.pin = Pin::Perhaps(match self.pin {
                    Pin::No => self.newest,
                    Pin::Perhaps(pinned) | Pin::Yes(pinned) => pinned,
                });
            }
            Event::Pinned => self.pin = Pin::Yes(self.newest),
            Event::Unpinned => self.pin = Pin::No,
            Event::Copied { copy, done, begun } => {
                let Pin::Yes(pinned) = self.pin else { return Err("a copy without a backup".to_owned()) };
                self.copies.insert(copy, (done, begun, pinned));
            }
            Event::Change { table, to } => self.extras.entry(table).or_default().becomes = Some(to),
            Event::Refused { table } => self.extras.entry(table).or_default().becomes = None,
            Event::Changed { table } => {
                self.changes += 1;
                let extra = self.extras.entry(table).or_default();
                extra.is = extra.becomes.take().ok_or("a change that was not announced")?;
            }
            Event::Fill { table, step } => self.extras.entry(table).or_default().fills.push(step),
        }
        Ok(())
    }

    fn taken(&mut self, state: State, named: bool) -> Result<(), String> {
        let before = self.taking.take().ok_or("a checkpoint that was not announced")?;
        if !within(&before, &state.logged) {
            return Err(format!("a checkpoint holds {:?}, and {before:?} was committed before it", state.logged));
        }
        self.checkpoints += 1;
        self.newest = state.loose;
        self.firm = further(self.firm, state.logged);
        self.named = (named && self.pin == Pin::No).then_some(state);
        Ok(())
    }

    /// Whether the state that was found keeps them.
    pub fn check(&self, found: &State) -> Result<(), String> {
        let at = &found.logged;
        if !within(&self.firm, at) {
            return Err(format!("promised: {:?}, found: {at:?}", self.firm));
        }
        if !within(at, &self.begun) {
            return Err(format!("begun: {:?}, found: {at:?}", self.begun));
        }
        type Commits<'a> = Vec<&'a (u64, usize, u64)>;
        let (there, lost): (Commits<'_>, Commits<'_>) = self.commits.iter().partition(|(_, w, step)| *step <= at[*w]);
        if let (Some(last), Some(first)) = (there.iter().max(), lost.iter().min())
            && last.0 > first.0
        {
            return Err(format!("commit {last:?} is there, and {first:?} before it is not"));
        }
        self.check_loose(&found.loose)
    }

    fn check_loose(&self, found: &Steps) -> Result<(), String> {
        let pins = self.contract == Contract::Pinned;
        let pinned = match self.pin {
            Pin::Perhaps(pinned) | Pin::Yes(pinned) if pins => Some(pinned),
            _ => None,
        };
        let falls_back = pins && matches!(self.pin, Pin::Yes(_));
        let newer = self.taking.is_some_and(|before| within(&before, found) && within(&self.newest, found));
        if pinned == Some(*found) || !falls_back && (newer || self.newest == *found) {
            return Ok(());
        }
        let (newest, taking, pin) = (&self.newest, &self.taking, &self.pin);
        Err(format!("outside the log: found {found:?}; newest {newest:?}, being taken {taking:?}, backup {pin:?}"))
    }

    /// Whether a copy holds what it must.
    pub fn check_copy(&self, copy: u64, found: &State) -> Result<(), String> {
        let Some((done, begun, pinned)) = self.copies.get(&copy) else { return Ok(()) };
        if within(done, &found.logged) && within(&found.logged, begun) && found.loose == *pinned {
            return Ok(());
        }
        Err(format!("copy {copy}: {found:?}, and it was {done:?} to {begun:?}, outside the log {pinned:?}"))
    }

    /// The state that the named checkpoint must hold, if it must be there.
    pub fn named(&self) -> Option<&State> {
        self.named.as_ref()
    }

    /// Whether the keeper's tables are as they must be: which of them there are, in which state, with which last step.
    pub fn check_tables(&self, found: &BTreeMap<u64, (u8, Option<u64>)>, at: &State) -> Result<(), String> {
        let last = at.logged[WRITERS - 1];
        for (table, extra) in &self.extras {
            let (is, filled) = found.get(table).copied().unwrap_or((if extra.is == 0 { 0 } else { 3 }, None));
            if is != extra.is && Some(is) != extra.becomes {
                return Err(format!("table {table} is {is}, and it was {} and to be {:?}", extra.is, extra.becomes));
            }
            let due = extra.fills.iter().copied().filter(|step| *step <= last).max();
            if matches!(is, 1 | 2) && filled != due {
                return Err(format!("table {table} holds step {filled:?} where {due:?} is due"));
            }
        }
        match found.keys().find(|table| !self.extras.contains_key(table)) {
            Some(table) => Err(format!("table {table} is there, and nobody made it")),
            None => Ok(()),
        }
    }

    /// What holds from now on: what was found, and what comes of it.
    pub fn settle(&mut self, found: &State, tables: &BTreeMap<u64, (u8, Option<u64>)>) {
        (self.begun, self.firm, self.newest) = (found.logged, found.logged, found.loose);
        (self.taking, self.pin, self.named, self.opened) = (None, Pin::No, None, false);
        self.commits.clear();
        self.copies.clear();
        for (table, extra) in &mut self.extras {
            extra.becomes = None;
            extra.is = tables.get(table).map_or(3, |(is, _)| *is);
            extra.fills.retain(|step| *step <= found.logged[WRITERS - 1]);
        }
    }
}
