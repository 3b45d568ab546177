//! The order that the engine claims, and whether everything that was seen fits it.
//!
//! The engine numbers its commits and says which number a snapshot sees up to. That is a claim about every read: it shows
//! the appends of all commits up to that number, in the order of the numbers, and then the transaction's own.
//!
//! - T1 Commits have different numbers, and the state after the n-th is the first n, whole.
//! - T2 Of two transactions that append to one key, one saw the other: nobody appends to a list that he did not read last.
//! - T5 A snapshot sees all that was acknowledged before it was asked for, and nothing that was called for after it was had.

use std::collections::BTreeSet;

use strandline_sim::oracle::Rule;

use crate::history::{Call, Failure, History, Lists, Moment, Ran, without};
use crate::plan::{Element, Key, Level};

/// A commit that wrote something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its transaction.
    pub id: u16,
    /// Its number.
    pub seq: u64,
    /// What it waited for.
    pub level: Option<Level>,
    /// Before the call.
    pub called: Moment,
    /// After it.
    pub acked: Moment,
}

/// All commits by number, and the states between them.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Ascending.
    pub commits: Vec<Commit>,
    /// `states[n]`: after the first n.
    pub states: Vec<Lists>,
}

impl Order {
    /// The order of a history.
    ///
    /// # Errors
    /// When two commits have one number (T1).
    pub fn of(history: &History) -> Result<Self, Failure> {
        let mut order = Self { commits: Vec::new(), states: vec![Lists::new()] };
        for ran in history.commits() {
            let Some((seq, called, acked)) = ran.commit() else { continue };
            if order.commits.last().is_some_and(|last| last.seq == seq) {
                return Err(Failure::new(Rule::Si, format!("T{} and another have both number {seq}", ran.id)));
            }
            let mut state = order.states.last().cloned().unwrap_or_default();
            ran.elements().for_each(|(key, element)| state.entry(key).or_default().push(element));
            order.commits.push(Commit { id: ran.id, seq, level: ran.level, called, acked });
            order.states.push(state);
        }
        Ok(order)
    }

    /// How many commits have a number up to `seq`.
    #[must_use]
    pub fn up_to(&self, seq: u64) -> usize {
        self.commits.partition_point(|c| c.seq <= seq)
    }

    /// The first and the last state that hold exactly these lists, the tables `gone` aside.
    #[must_use]
    pub fn find(&self, lists: &Lists, gone: &BTreeSet<u8>) -> Option<(usize, usize)> {
        let lists = without(lists, gone);
        let fits = |state: &Lists| without(state, gone) == lists;
        let first = self.states.iter().position(fits)?;
        Some((first, self.states.iter().rposition(fits)?))
    }

    fn list(&self, n: usize, key: Key) -> &[Element] {
        self.states[n].get(&key).map_or(&[], Vec::as_slice)
    }

    /// Checks all that was seen while the threads ran.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn check(&self, history: &History) -> Result<(), Failure> {
        history.txns.iter().try_for_each(|ran| {
            self.snapshot(ran)?;
            self.reads(ran)?;
            self.overwrites(ran)
        })?;
        self.views(history)?;
        let last = self.states.last().cloned().unwrap_or_default();
        let gone = history.dropped(u64::MAX);
        if without(&history.last, &gone) != without(&last, &gone) {
            let text = format!("in the end there is {:?}, committed was {last:?}", history.last);
            return Err(Failure::new(Rule::Read, text));
        }
        Ok(())
    }

    /// How many commits had been acknowledged before a moment, those that lie between them counted.
    #[must_use]
    pub fn told_before(&self, tick: u64) -> usize {
        self.commits.iter().rposition(|c| c.acked.tick < tick).map_or(0, |at| at + 1)
    }

    /// How many commits there are before the first that was called for after a moment.
    #[must_use]
    pub fn called_before(&self, tick: u64) -> usize {
        self.commits.iter().position(|c| c.called.tick > tick).unwrap_or(self.commits.len())
    }

    /// A view of the newest checkpoint shows one state, with all that was told before that checkpoint was called.
    fn views(&self, history: &History) -> Result<(), Failure> {
        let gone = history.dropped(u64::MAX);
        for (call, lists) in &history.views {
            let done = |c: &&Call| c.acked.is_some_and(|acked| acked.tick < call.called.tick);
            let before = history.checkpoints.iter().filter(done).map(|c| self.told_before(c.called.tick));
            let least = before.max().unwrap_or(0);
            let most = self.called_before(call.acked.map_or(u64::MAX, |acked| acked.tick));
            let fits = self.find(lists, &gone).is_some_and(|(first, last)| first <= most && last >= least);
            if !fits {
                let text = format!("a view shows {lists:?}, which is no state from {least} to {most} commits");
                return Err(Failure::new(Rule::Named, text));
            }
        }
        Ok(())
    }

    /// T5.
    fn snapshot(&self, ran: &Ran) -> Result<(), Failure> {
        let sees = |c: &&Commit| c.seq <= ran.snapshot;
        let missed = self.commits.iter().filter(|c| c.acked.tick < ran.began.tick).find(|c| !sees(c));
        let early = self.commits.iter().filter(|c| c.called.tick > ran.opened.tick).find(sees);
        let text = match (missed, early) {
            (Some(c), _) => {
                format!("T{} sees up to {}, not {}, which T{} was told before", ran.id, ran.snapshot, c.seq, c.id)
            }
            (_, Some(c)) => format!("T{} sees up to {}, and so T{}, which committed later", ran.id, ran.snapshot, c.id),
            _ => return Ok(()),
        };
        Err(Failure::new(Rule::Si, text))
    }

    /// T1.
    fn reads(&self, ran: &Ran) -> Result<(), Failure> {
        let n = self.up_to(ran.snapshot);
        for read in &ran.reads {
            let own = ran.elements().take(read.own).filter(|(key, _)| *key == read.key).map(|(_, e)| e);
            let expected: Vec<Element> = self.list(n, read.key).iter().copied().chain(own).collect();
            if read.list != expected {
                let (table, key) = read.key;
                let text = format!(
                    "T{} at snapshot {} reads t{table}.{key} as {:?}; it holds {expected:?} there",
                    ran.id, ran.snapshot, read.list
                );
                return Err(Failure::new(Rule::Read, text));
            }
        }
        Ok(())
    }

    /// T2.
    fn overwrites(&self, ran: &Ran) -> Result<(), Failure> {
        let Some((seq, ..)) = ran.commit() else { return Ok(()) };
        for &key in &ran.appends {
            let (seen, before) = (self.list(self.up_to(ran.snapshot), key), self.list(self.up_to(seq - 1), key));
            if seen != before {
                let (table, key) = key;
                let text =
                    format!("T{} saw t{table}.{key} as {seen:?} and replaced {before:?}: an update is lost", ran.id);
                return Err(Failure::new(Rule::Si, text));
            }
        }
        Ok(())
    }
}
