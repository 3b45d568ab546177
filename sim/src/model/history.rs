//! Everything a reopened database could show, and which of it a crash may leave.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::rows::{Summary, TableSet, text_hash};

/// What an open database shows of its durable state: all tables, and every named checkpoint, oldest first (M2).
#[derive(Clone, Default)]
pub struct Visible {
    /// The tables of the newest checkpoint.
    pub latest: TableSet,
    /// The name of the newest checkpoint, when it has one.
    pub newest: Option<String>,
    /// The named checkpoints and their tables.
    pub named: Vec<(String, TableSet)>,
}

/// The digest of one [`Visible`]; equal ones are the same state.
#[must_use]
pub fn fingerprint<'a>(latest: &Summary, named: impl Iterator<Item = (&'a str, &'a Summary)>) -> u128 {
    let mut bytes = Vec::new();
    let mut put = |name: &str, tables: &Summary| {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend((tables.len() as u64).to_le_bytes());
        for (table, digest) in tables {
            bytes.extend((table.len() as u64).to_le_bytes());
            bytes.extend(table.as_bytes());
            bytes.extend(digest.rows.to_le_bytes());
            bytes.extend(digest.sum.to_le_bytes());
        }
    };
    put("", latest);
    for (name, tables) in named {
        put(name, tables);
    }
    text_hash(&bytes)
}

/// The digests of a set of tables.
#[must_use]
pub fn summary(tables: &TableSet) -> Summary {
    tables.iter().map(|(name, rows)| (name.clone(), rows.digest())).collect()
}

impl Visible {
    /// See [`fingerprint`].
    #[must_use]
    pub fn fingerprint(&self) -> u128 {
        let named: Vec<_> = self.named.iter().map(|(n, t)| (n.as_str(), summary(t))).collect();
        fingerprint(&summary(&self.latest), named.iter().map(|(n, s)| (*n, s)))
    }
}

impl fmt::Display for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", summary(&self.latest))?;
        for (name, tables) in &self.named {
            write!(f, ", `{name}` {:?}", summary(tables))?;
        }
        Ok(())
    }
}

/// One state that may be durable, from the call that could make it so.
#[derive(Clone)]
pub struct Point {
    /// What it shows.
    pub visible: Arc<Visible>,
    /// Its digest.
    pub fingerprint: u128,
    /// The event at which the call began.
    pub begun: u64,
    /// The event at which the call returned successfully.
    pub acked: Option<u64>,
    /// The call, for the report.
    pub why: String,
}

/// A backup, in events.
#[derive(Clone, Copy, Debug)]
struct Pin {
    open_ack: u64,
    close_call: u64,
    close_ack: u64,
    point: usize,
}

/// The durable points of one disk, from its first event on. Events are numbers of that disk.
#[derive(Clone, Default)]
pub struct History {
    points: Vec<Point>,
    pins: Vec<Pin>,
}

/// The points that an image may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Their numbers, ascending.
    pub points: Vec<usize>,
    /// The newest acknowledged one at death: the promise.
    pub promised: usize,
    /// The newest one begun at birth.
    pub newest: usize,
    /// A backup was open for some of the life, under the contract that falls back.
    pub pinned: bool,
}

const NEVER: u64 = u64::MAX;

impl History {
    /// A history whose first point is durable from the start.
    #[must_use]
    pub fn starting_with(visible: Visible) -> Self {
        let mut history = Self::default();
        history.begin(visible, 0, "as opened");
        history.ack(0);
        history
    }

    /// A call that will make `visible` durable begins.
    pub fn begin(&mut self, visible: Visible, at: u64, why: impl Into<String>) {
        let fingerprint = visible.fingerprint();
        let point = Point { visible: Arc::new(visible), fingerprint, begun: at, acked: None, why: why.into() };
        self.points.push(point);
    }

    /// The last call that began has returned successfully. A call that leaves what was promised before makes no point of
    /// its own: it may have written nothing.
    pub fn ack(&mut self, at: u64) {
        let Some((last, before)) = self.points.split_last_mut() else { return };
        let promised = before.iter().rposition(|p| p.acked.is_some());
        let same = promised.filter(|&p| before[p].fingerprint == last.fingerprint);
        match same {
            Some(p) if p + 1 == before.len() => drop(self.points.pop()),
            // Calls failed in between; it may have been durable ever since it was first begun.
            Some(p) => (last.begun, last.acked) = (before[p].begun, Some(at)),
            None => last.acked = Some(at),
        }
    }

    /// The last call that began turned out to do nothing at all.
    pub fn cancel(&mut self) {
        self.points.pop();
    }

    /// After a failure the database was opened, and by event `at` it showed `point`: that is promised from now on, whatever
    /// was begun after it. It may have been durable ever since it was begun.
    pub fn adopt(&mut self, point: usize, at: u64) {
        if point + 1 < self.points.len() {
            let found = &self.points[point];
            let again = Point { why: format!("{}, found again", found.why), acked: None, ..found.clone() };
            self.points.push(again);
        }
        if let Some(last) = self.points.last_mut() {
            last.acked.get_or_insert(at);
        }
    }

    /// A backup that a crash falls back from was opened, acknowledged at this event. What was newest and
    /// acknowledged then is what it pins.
    pub fn pin(&mut self, acked: u64) {
        let point = self.promised(acked);
        self.pins.push(Pin { open_ack: acked, close_call: NEVER, close_ack: NEVER, point });
    }

    /// The end of the backup is called for.
    pub fn unpin_called(&mut self, at: u64) {
        if let Some(pin) = self.pins.last_mut().filter(|p| p.close_call == NEVER) {
            pin.close_call = at;
        }
    }

    /// The backup is over.
    pub fn unpin_acked(&mut self, at: u64) {
        if let Some(pin) = self.pins.last_mut().filter(|p| p.close_ack == NEVER) {
            pin.close_ack = at;
        }
    }

    /// All points, oldest first.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The points allowed to an image that lived from `birth` to `death` (M1).
    #[must_use]
    pub fn allowed(&self, birth: u64, death: u64) -> Allowed {
        let mut points: Vec<usize> = (0..=self.newest(birth)).collect();
        let mut pinned = false;
        // Without a backup the bounds are monotone, so only the ends of each stretch matter.
        let mut at = birth;
        for pin in &self.pins {
            if pin.open_ack > death || pin.close_ack <= birth {
                continue;
            }
            if at < pin.open_ack {
                self.narrow(&mut points, at, pin.open_ack - 1, None);
            }
            if birth < pin.close_call {
                pinned = true;
                points.retain(|&p| p == pin.point);
            }
            if pin.close_call <= death {
                let from = at.max(pin.close_call);
                self.narrow(&mut points, from, death.min(pin.close_ack - 1), Some(pin.point));
            }
            at = at.max(pin.close_ack);
        }
        if at <= death {
            self.narrow(&mut points, at, death, None);
        }
        Allowed { points, promised: self.promised(death), newest: self.newest(birth), pinned }
    }

    fn narrow(&self, points: &mut Vec<usize>, from: u64, to: u64, or: Option<usize>) {
        let (first, last) = (self.normal(from), self.normal(to));
        points.retain(|p| (first.contains(p) && last.contains(p)) || Some(*p) == or);
    }

    fn normal(&self, at: u64) -> RangeInclusive<usize> {
        self.promised(at)..=self.newest(at)
    }

    fn promised(&self, at: u64) -> usize {
        self.points.iter().rposition(|p| p.acked.is_some_and(|a| a <= at)).unwrap_or(0)
    }

    fn newest(&self, at: u64) -> usize {
        self.points.iter().rposition(|p| p.begun <= at).unwrap_or(0)
    }
}

impl Allowed {
    /// The number of an allowed point that shows `fingerprint`, the newest if there are several.
    #[must_use]
    pub fn find(&self, history: &History, fingerprint: u128) -> Option<usize> {
        self.points.iter().rev().copied().find(|&p| history.points[p].fingerprint == fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state unlike those of other numbers.
    fn state(n: u8) -> Visible {
        Visible { named: vec![(format!("c{n}"), TableSet::new())], ..Visible::default() }
    }

    fn history() -> History {
        // Points: 0 at the start, 1 called 10 acknowledged 20, 2 called 30 acknowledged 40, 3 called 50.
        let mut h = History::starting_with(Visible::default());
        for (n, call, ack) in [(1, 10, 20), (2, 30, 40)] {
            h.begin(state(n), call, "checkpoint");
            h.ack(ack);
        }
        h.begin(state(3), 50, "checkpoint");
        h
    }

    #[test]
    fn upper_bound_at_birth_lower_bound_at_death() {
        let h = history();
        assert_eq!(h.allowed(5, 9).points, [0]);
        assert_eq!(h.allowed(5, 19).points, [0]);
        assert_eq!(h.allowed(12, 19).points, [0, 1]);
        assert_eq!(h.allowed(12, 25).points, [1]);
        assert_eq!(h.allowed(5, 25).points, Vec::<usize>::new(), "no such image is legal");
        assert_eq!(h.allowed(55, 60).points, [2, 3]);
    }

    #[test]
    fn a_call_that_changes_nothing_makes_no_point() {
        let mut h = history();
        h.ack(60);
        h.begin(state(3), 70, "close");
        h.ack(80);
        assert_eq!(h.allowed(55, 90).points, [3]);
    }

    #[test]
    fn an_open_backup_falls_back_to_its_pin() {
        let mut h = History::starting_with(Visible::default());
        h.begin(state(1), 10, "checkpoint");
        h.ack(20);
        h.pin(26);
        h.begin(state(2), 30, "checkpoint");
        h.ack(40);
        h.unpin_called(50);
        h.unpin_acked(60);
        h.begin(state(3), 70, "checkpoint");
        h.ack(80);
        assert_eq!(h.allowed(21, 30).points, [1]);
        assert_eq!(h.allowed(35, 45).points, [1], "a later checkpoint is forgotten");
        assert_eq!(h.allowed(45, 55).points, [1]);
        assert_eq!(h.allowed(52, 58).points, [1, 2], "while it is being closed, either");
        assert_eq!(h.allowed(52, 65).points, [2]);
        assert_eq!(h.allowed(62, 66).points, [2]);
        assert_eq!(h.allowed(72, 75).points, [2, 3]);
        assert!(h.allowed(45, 55).pinned && !h.allowed(62, 66).pinned);
    }
}
