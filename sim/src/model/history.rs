//! Everything a reopened database could show, and which of it a crash may leave.
//!
//! What is durable grows along two lines: the *points*, one for each checkpoint and each change of the catalog, and the log,
//! one entry for each commit. Without a log the second line has one entry, and a crash leaves a point. With it a crash leaves
//! a pair: the newest root that was durable, and the log up to some entry replayed on top of it. Each line has its own
//! promises, so the pairs between them are all right.
//!
//! Every open begins an *era*. What the database shows then has been seen, so it is promised from there on, acknowledged
//! earlier or not (M3).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::log::{Level, LogChain, Logged};
use super::rows::Rows;
use super::visible::Visible;

/// One state that may be durable, from the call that could make it so.
#[derive(Clone)]
pub struct Point {
    /// What it shows when nothing is replayed.
    pub visible: Arc<Visible>,
    /// Its digest.
    pub fingerprint: u128,
    /// The event at which the call began.
    pub begun: u64,
    /// The event at which the call returned successfully.
    pub acked: Option<u64>,
    /// The call, for the report.
    pub why: String,
    /// The log entry that its rows reach up to: replay begins behind it.
    pub from: usize,
}

/// A backup, in events.
#[derive(Clone, Copy, Debug)]
struct Pin {
    open_ack: u64,
    close_call: u64,
    close_ack: u64,
    point: usize,
}

/// Something that an image may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The root record of a point, and the log replayed up to an entry.
    Root(usize, usize),
    /// The point that a backup pinned, and the log replayed up to an entry, changes of the catalog included.
    Fallen(usize, usize),
}

/// The time from one open to the next.
#[derive(Clone)]
struct Era {
    start: u64,
    points: Vec<Point>,
    log: LogChain,
    pins: Vec<Pin>,
    seen: RefCell<HashMap<State, u128>>,
}

/// The durable states of one disk, from its first event on. Events are numbers of that disk.
#[derive(Clone)]
pub struct History {
    eras: Vec<Era>,
}

/// What an image may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    era: usize,
    /// The states, those of older points first.
    pub states: Vec<State>,
    /// The newest acknowledged point at death: the promise.
    pub promised: usize,
    /// The newest point begun at birth.
    pub newest: usize,
    /// The entries of the log that are promised at death, and begun at birth.
    pub log: (usize, usize),
    /// A backup was open for some of the life, under the contract that falls back.
    pub pinned: bool,
}

const NEVER: u64 = u64::MAX;

impl Era {
    fn new(visible: Visible, log: bool, at: u64, why: &str) -> Self {
        let chain = LogChain::new(&visible, log, at);
        let fingerprint = visible.fingerprint();
        let (visible, why) = (Arc::new(visible), why.to_owned());
        let first = Point { visible, fingerprint, begun: at, acked: Some(at), why, from: 0 };
        Self { start: at, points: vec![first], log: chain, pins: Vec::new(), seen: RefCell::default() }
    }

    fn visible(&self, state: State) -> Visible {
        let (point, entry, catalog) = match state {
            State::Root(point, entry) => (point, entry, false),
            State::Fallen(point, entry) => (point, entry, true),
        };
        self.log.replayed(&self.points[point].visible, self.points[point].from, entry, catalog)
    }

    fn fingerprint(&self, state: State) -> u128 {
        match state {
            State::Root(point, _) | State::Fallen(point, _) if !self.log.is_on() => self.points[point].fingerprint,
            _ => *self.seen.borrow_mut().entry(state).or_insert_with(|| self.visible(state).fingerprint()),
        }
    }

    fn last_acked(&self) -> usize {
        self.promised(NEVER)
    }

    fn forget(&self) {
        self.seen.borrow_mut().clear();
    }

    fn promised(&self, at: u64) -> usize {
        self.points.iter().rposition(|p| p.acked.is_some_and(|a| a <= at)).unwrap_or(0)
    }

    fn newest(&self, at: u64) -> usize {
        self.points.iter().rposition(|p| p.begun <= at).unwrap_or(0)
    }

    /// Pairs of these points and these entries.
    fn pairs(&self, points: (usize, usize), log: (usize, usize)) -> Vec<State> {
        let entries = |p: usize| (log.0.max(self.points[p].from)..=log.1).map(move |n| State::Root(p, n));
        (points.0..=points.1).flat_map(entries).collect()
    }

    fn allowed(&self, birth: u64, (death, trust): (u64, u64), same_boot: bool) -> (Vec<State>, bool) {
        let log = (self.log.promised(trust, same_boot), self.log.newest(birth));
        let normal = self.pairs((self.promised(death), self.newest(birth)), log);
        let fallen = |pin: &Pin| -> Vec<State> {
            let known = self.points[pin.point].begun <= birth;
            let from = log.0.max(self.points[pin.point].from);
            if known { (from..=log.1).map(|n| State::Fallen(pin.point, n)).collect() } else { Vec::new() }
        };
        let (mut states, mut pinned) = (normal, false);
        for pin in self.pins.iter().filter(|p| p.open_ack <= death && birth < p.close_ack) {
            let back = fallen(pin);
            let held = birth < pin.close_call;
            pinned |= held;
            states = match (held, death < pin.close_ack) {
                // At death it is open, or being closed: with the pin still there it falls back.
                (true, true) => back,
                // An image cannot hold a pin and outlive the end of the backup, unless both show the same.
                (true, false) => self.both(&states, &back),
                (false, true) => back.into_iter().chain(states).collect(),
                (false, false) => states,
            };
        }
        (states, pinned)
    }

    fn both(&self, some: &[State], others: &[State]) -> Vec<State> {
        let among = |state: &State| others.iter().any(|o| self.fingerprint(*o) == self.fingerprint(*state));
        some.iter().copied().filter(among).collect()
    }
}

impl Allowed {
    /// The number of the era that it speaks of.
    #[must_use]
    pub const fn era(&self) -> usize {
        self.era
    }
}

impl History {
    /// A history that begins with a state that is durable from the start.
    #[must_use]
    pub fn starting_with(visible: Visible) -> Self {
        Self { eras: vec![Era::new(visible, false, 0, "at the start")] }
    }

    fn last(&mut self) -> &mut Era {
        self.eras.last_mut().expect("there is one from the start on")
    }

    fn now(&self) -> &Era {
        self.eras.last().expect("there is one from the start on")
    }

    /// The database was opened, and by event `at` it showed this: from now on that is promised (M3).
    pub fn opened(&mut self, visible: Visible, log: bool, at: u64) {
        self.eras.push(Era::new(visible, log, at, "as opened"));
    }

    /// A call that will make `visible` durable begins. A *whole* one stores all rows; otherwise the rows are those of the
    /// last whole one.
    pub fn begin(&mut self, visible: Visible, at: u64, why: impl Into<String>, whole: bool) {
        let era = self.last();
        let from = if whole { era.log.last() } else { era.points[era.last_acked()].from };
        let fingerprint = visible.fingerprint();
        era.points.push(Point {
            visible: Arc::new(visible),
            fingerprint,
            begun: at,
            acked: None,
            why: why.into(),
            from,
        });
        era.forget();
    }

    /// The last call that began has returned successfully. A call that leaves what was promised before makes no point of
    /// its own: it may have written nothing.
    pub fn ack(&mut self, at: u64) {
        let era = self.last();
        era.forget();
        let Some((last, before)) = era.points.split_last_mut() else { return };
        // What a checkpoint holds is durable in the log too, or not needed there.
        era.log.ack(last.from, Level::Sync, at);
        let promised = before.iter().rposition(|p| p.acked.is_some()).unwrap_or(0);
        let same = (promised..before.len()).find(|&p| before[p].fingerprint == last.fingerprint);
        match same {
            Some(p) if p + 1 == before.len() && before[p].acked.is_some() => drop(era.points.pop()),
            // Calls failed in between; it may have been durable ever since it was first begun.
            Some(p) => (last.begun, last.acked) = (before[p].begun, Some(at)),
            None => last.acked = Some(at),
        }
    }

    /// The last call that began turned out to do nothing at all.
    pub fn cancel(&mut self) {
        self.last().points.pop();
        self.last().forget();
    }

    /// A call that appends a record to the log begins; nothing is noted without a log.
    pub fn begin_entry(&mut self, state: Logged, at: u64, why: impl Into<String>) {
        if self.last().log.is_on() {
            self.last().log.begin(state, at, why);
            self.last().forget();
        }
    }

    /// Everything in the log so far is promised at this level.
    pub fn ack_log(&mut self, level: Level, at: u64) {
        let last = self.last().log.last();
        self.last().log.ack(last, level, at);
    }

    /// The last record that was begun was refused: it is not in the log.
    pub fn cancel_entry(&mut self) {
        if self.last().log.is_on() {
            self.last().log.cancel();
            self.last().forget();
        }
    }

    /// What the newest point shows with the log replayed up to now: what a copy must show that a backup lists now.
    #[must_use]
    pub fn listed(&self) -> Visible {
        let era = self.now();
        era.visible(State::Fallen(era.last_acked(), era.log.last()))
    }

    /// What a copy that shows `base`, whose rows reach up to an entry of an era, shows with the log up to now. A table that
    /// was out of the log at any time since has what it had then (G2).
    #[must_use]
    pub fn rolled_forward(&self, base: &Visible, (era, from): (usize, usize)) -> Visible {
        let now = &self.now().log;
        let state = &now.entries()[now.last()].state;
        let based: HashMap<u32, &Rows> = base.latest.values().map(|rows| (rows.table(), rows)).collect();
        let entries = |n: usize| {
            let skipped = if n == era { from } else { 0 };
            self.eras[n].log.entries().iter().skip(skipped)
        };
        let since = || (era..self.eras.len()).flat_map(entries).map(|e| &e.state);
        let rows = |id: u32| {
            let out = since().find(|s| s.unlogged.contains(&id) && s.names.values().any(|t| *t == id));
            let at_base = since().next().is_some_and(|s| s.unlogged.contains(&id));
            let known = match out {
                _ if at_base => based.get(&id).copied(),
                Some(gap) => gap.rows.get(&id),
                None => state.rows.get(&id),
            };
            known.cloned().unwrap_or_else(|| Rows::of(id))
        };
        let latest = state.names.iter().map(|(name, id)| (name.clone(), rows(*id))).collect();
        let mut named = base.named.clone();
        for (_, tables) in &mut named {
            tables.retain(|_, rows| state.names.values().any(|id| *id == rows.table()));
        }
        Visible { latest, newest: None, named, unlogged: state.unlogged.clone(), ..base.clone() }
    }

    /// True when there was a log at all times since that era.
    #[must_use]
    pub fn logged_since(&self, log: Option<(usize, usize)>) -> bool {
        log.is_some_and(|(era, _)| self.eras[era..].iter().all(|e| e.log.is_on()))
    }

    /// The entry that the rows of the newest point reach up to.
    #[must_use]
    pub fn from(&self) -> usize {
        self.now().points[self.now().last_acked()].from
    }

    /// The number of this era.
    #[must_use]
    pub const fn era(&self) -> usize {
        self.eras.len() - 1
    }

    /// A backup that a crash falls back from was opened, acknowledged at this event. What was newest and
    /// acknowledged then is what it pins.
    pub fn pin(&mut self, acked: u64) {
        let era = self.last();
        let point = era.promised(acked);
        era.pins.push(Pin { open_ack: acked, close_call: NEVER, close_ack: NEVER, point });
    }

    /// The end of the backup is called for.
    pub fn unpin_called(&mut self, at: u64) {
        if let Some(pin) = self.last().pins.last_mut().filter(|p| p.close_call == NEVER) {
            pin.close_call = at;
        }
    }

    /// The backup is over.
    pub fn unpin_acked(&mut self, at: u64) {
        if let Some(pin) = self.last().pins.last_mut().filter(|p| p.close_ack == NEVER) {
            pin.close_ack = at;
        }
    }

    /// The states allowed to an image that lived from `birth` to `death` (M1).
    #[must_use]
    pub fn allowed(&self, birth: u64, death: u64) -> Allowed {
        self.bounds(birth, (death, death), false)
    }

    /// The same for an image that lacks bytes of the log which a sync had promised, and took back in the era of its death:
    /// what was acknowledged since that sync, at event `ok`, is no promise of the log any more.
    #[must_use]
    pub fn allowed_without(&self, birth: u64, death: u64, ok: u64) -> Allowed {
        self.bounds(birth, (death, death.min(ok)), false)
    }

    /// The event at which the era began that a moment belongs to.
    #[must_use]
    pub fn era_start(&self, at: u64) -> u64 {
        self.eras.iter().rev().find(|e| e.start <= at).map_or(0, |e| e.start)
    }

    /// The states that may be found at `at` by who opens the database after its process died, without a power cut.
    #[must_use]
    pub fn after_kill(&self, at: u64) -> Allowed {
        self.bounds(at, (at, at), true)
    }

    fn bounds(&self, birth: u64, (death, trust): (u64, u64), same_boot: bool) -> Allowed {
        let number = self.eras.iter().rposition(|e| e.start <= death).unwrap_or(0);
        let era = &self.eras[number];
        // Whatever was begun in earlier eras, what was seen at the start of this one is promised.
        let birth = birth.max(era.start);
        let (states, pinned) = era.allowed(birth, (death, trust), same_boot);
        let log = (era.log.promised(trust, same_boot), era.log.newest(birth));
        Allowed { era: number, states, promised: era.promised(death), newest: era.newest(birth), log, pinned }
    }

    /// What a state shows.
    #[must_use]
    pub fn visible(&self, allowed: &Allowed, state: State) -> Visible {
        self.eras[allowed.era].visible(state)
    }

    /// Its digest.
    #[must_use]
    pub fn fingerprint(&self, allowed: &Allowed, state: State) -> u128 {
        self.eras[allowed.era].fingerprint(state)
    }

    /// The allowed state that shows `fingerprint`, the newest if there are several.
    #[must_use]
    pub fn find(&self, allowed: &Allowed, fingerprint: u128) -> Option<State> {
        allowed.states.iter().rev().copied().find(|s| self.fingerprint(allowed, *s) == fingerprint)
    }

    /// Any state of the same era that shows `fingerprint`, and of all earlier ones, for the report.
    #[must_use]
    pub fn recognise(&self, allowed: &Allowed, fingerprint: u128) -> Option<(usize, State)> {
        (0..=allowed.era).rev().find_map(|number| {
            let era = &self.eras[number];
            let all = era.pairs((0, era.points.len() - 1), (0, era.log.last()));
            let fallen = all.iter().map(|s| match *s {
                State::Root(p, n) | State::Fallen(p, n) => State::Fallen(p, n),
            });
            let all: Vec<State> = fallen.chain(all.iter().copied()).collect();
            all.iter().rev().find(|s| era.fingerprint(**s) == fingerprint).map(|s| (number, *s))
        })
    }

    /// A state in words.
    #[must_use]
    pub fn describe(&self, era: usize, state: State) -> String {
        let era = &self.eras[era];
        let (point, entry, back) = match state {
            State::Root(point, entry) => (point, entry, ""),
            State::Fallen(point, entry) => (point, entry, " that the backup pinned"),
        };
        let point = format!("point {point}{back} ({})", era.points[point].why);
        if !era.log.is_on() {
            return point;
        }
        format!("{point} with the log up to entry {entry} ({})", era.log.entries()[entry].why)
    }

    /// The states that one damaged place of the log may leave at `at` when nothing is reported, and the entry that is in all
    /// of them.
    #[must_use]
    pub fn witnessed(&self, at: u64) -> (usize, Allowed) {
        let mut allowed = self.allowed(at, at);
        let era = &self.eras[allowed.era];
        let least = era.log.witnessed(at);
        let points = (era.promised(at), era.newest(at));
        allowed.states.extend(era.pairs(points, (least, era.log.newest(at))));
        if let Some(pin) = era.pins.iter().find(|p| p.open_ack <= at && at < p.close_ack) {
            allowed.states.extend((least..=era.log.newest(at)).map(|n| State::Fallen(pin.point, n)));
        }
        (least, allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Rows, TableSet};

    /// A state unlike those of other numbers.
    fn state(n: u8) -> Visible {
        Visible { named: vec![(format!("c{n}"), TableSet::new())], ..Visible::default() }
    }

    fn history() -> History {
        // Points: 0 at the start, 1 called 10 acknowledged 20, 2 called 30 acknowledged 40, 3 called 50.
        let mut h = History::starting_with(Visible::default());
        for (n, call, ack) in [(1, 10, 20), (2, 30, 40)] {
            h.begin(state(n), call, "checkpoint", true);
            h.ack(ack);
        }
        h.begin(state(3), 50, "checkpoint", true);
        h
    }

    fn points(h: &History, birth: u64, death: u64) -> Vec<usize> {
        let point = |s: &State| match *s {
            State::Root(p, _) | State::Fallen(p, _) => p,
        };
        let mut points: Vec<usize> = h.allowed(birth, death).states.iter().map(point).collect();
        points.sort_unstable();
        points.dedup();
        points
    }

    #[test]
    fn upper_bound_at_birth_lower_bound_at_death() {
        let h = history();
        assert_eq!(points(&h, 5, 9), [0]);
        assert_eq!(points(&h, 5, 19), [0]);
        assert_eq!(points(&h, 12, 19), [0, 1]);
        assert_eq!(points(&h, 12, 25), [1]);
        assert_eq!(points(&h, 5, 25), Vec::<usize>::new(), "no such image is legal");
        assert_eq!(points(&h, 55, 60), [2, 3]);
    }

    #[test]
    fn a_call_that_changes_nothing_makes_no_point() {
        let mut h = history();
        h.ack(60);
        h.begin(state(3), 70, "close", true);
        h.ack(80);
        assert_eq!(points(&h, 55, 90), [3]);
    }

    #[test]
    fn an_open_backup_falls_back_to_its_pin() {
        let mut h = History::starting_with(Visible::default());
        h.begin(state(1), 10, "checkpoint", true);
        h.ack(20);
        h.pin(26);
        h.begin(state(2), 30, "checkpoint", true);
        h.ack(40);
        h.unpin_called(50);
        h.unpin_acked(60);
        h.begin(state(3), 70, "checkpoint", true);
        h.ack(80);
        assert_eq!(points(&h, 21, 30), [1]);
        assert_eq!(points(&h, 35, 45), [1], "a later checkpoint is forgotten");
        assert_eq!(points(&h, 45, 55), [1]);
        assert_eq!(points(&h, 52, 58), [1, 2], "while it is being closed, either");
        assert_eq!(points(&h, 52, 65), [2]);
        assert_eq!(points(&h, 62, 66), [2]);
        assert_eq!(points(&h, 72, 75), [2, 3]);
        assert!(h.allowed(45, 55).pinned && !h.allowed(62, 66).pinned);
    }

    /// A database with one table that was opened with a log at event 5, and a commit at every tenth event.
    fn logged(commits: u8) -> History {
        let mut rows = Rows::of(0);
        let visible = Visible { latest: [("t".to_owned(), rows.clone())].into(), ..Visible::default() };
        let mut h = History::starting_with(Visible::default());
        h.opened(visible, true, 5);
        for n in 1..=commits {
            let key: Arc<[u8]> = [n].as_slice().into();
            rows.set(&key, Some(&key));
            let names = [("t".to_owned(), 0)].into();
            let state = Logged { rows: [(0, rows.clone())].into(), names, ..Logged::default() };
            h.begin_entry(state, u64::from(n) * 10, "commit");
        }
        h
    }

    fn entries(h: &History, birth: u64, death: u64) -> Vec<usize> {
        let entry = |s: &State| match *s {
            State::Root(_, n) | State::Fallen(_, n) => n,
        };
        h.allowed(birth, death).states.iter().map(entry).collect()
    }

    #[test]
    fn a_promise_for_a_commit_covers_those_before_it() {
        let mut h = logged(3);
        assert_eq!(entries(&h, 35, 40), [0, 1, 2, 3]);
        h.ack_log(Level::Write, 41);
        assert_eq!(entries(&h, 35, 50), [0, 1, 2, 3], "the power takes what is not on the medium");
        assert_eq!(h.after_kill(50).states, [State::Root(0, 3)]);
        h.ack_log(Level::Sync, 60);
        assert_eq!(entries(&h, 35, 70), [3]);
        assert_eq!(entries(&h, 15, 40), [0, 1], "nothing that was not called when it was born");
    }

    #[test]
    fn what_was_seen_is_promised() {
        let mut h = logged(2);
        let seen = h.allowed(25, 25);
        let visible = h.visible(&seen, State::Root(0, 1));
        h.opened(visible.clone(), true, 30);
        assert_eq!(h.allowed(15, 29).states.len(), 2);
        let after = h.allowed(15, 35);
        assert_eq!(after.states, [State::Root(0, 0)]);
        assert_eq!(h.fingerprint(&after, State::Root(0, 0)), visible.fingerprint());
    }

    #[test]
    fn a_fallen_database_keeps_its_commits_and_loses_the_names() {
        let mut h = logged(1);
        h.ack_log(Level::Sync, 12);
        h.pin(20);
        let named = |h: &History| Visible { named: vec![("a".to_owned(), TableSet::new())], ..h.listed() };
        let with_name = named(&h);
        h.begin(with_name, 22, "checkpoint a", true);
        h.ack(25);
        let allowed = h.allowed(24, 30);
        assert_eq!(allowed.states, [State::Fallen(0, 1)]);
        let visible = h.visible(&allowed, State::Fallen(0, 1));
        assert!(visible.named.is_empty() && visible.latest["t"].digest().rows == 1);
        h.unpin_called(40);
        h.unpin_acked(50);
        assert_eq!(h.allowed(45, 48).states, [State::Fallen(0, 1), State::Root(1, 1)]);
        assert_eq!(h.allowed(45, 60).states, [State::Root(1, 1)]);
    }
}
