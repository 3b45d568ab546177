//! Snapshot isolation, judged by what was read alone.
//!
//! The numbers that the engine gives its commits play no part here; a number that is wrong on both sides would deceive
//! whoever believes it. Lists tell more: the last list of a key has all its appends in their order, and a read that shows
//! its first n elements came after the n-th and before the next.
//!
//! Three kinds of edge follow between committed transactions: *ww*, whose element comes next; *wr*, who read my element last;
//! *rw*, who appended next to what I read. Told before asked is an edge too. By Adya (1999) and Cerone and Gotsman (2018) a
//! history fits snapshot isolation iff no cycle is made of (ww, wr, told) each followed by at most one rw:
//!
//! - G0, G1c: a cycle of ww, of ww and wr; G-single, and all cycles without two rw in a row.
//! - G1a: an element of a transaction that was not committed is read; G1b: one that its own transaction had followed by
//!   another in the same list.
//! - A cycle with two rw in a row is write skew, which snapshot isolation allows: it is counted, because a history in which
//!   it never happens proves little.

use std::collections::BTreeMap;

use strandline_sim::oracle::Rule;

use crate::history::{End, Failure, History, Ran};
use crate::plan::{APPENDS, Element, Key};

/// What kinds of edge there are.
const KINDS: usize = 4;
const WW: usize = 0;
const WR: usize = 1;
const TOLD: usize = 2;
const RW: usize = 3;

/// A relation between transactions, by their places.
type Relation = Vec<Vec<bool>>;

struct Graph<'h> {
    txns: Vec<&'h Ran>,
    at: BTreeMap<u16, usize>,
    edges: [Relation; KINDS],
}

/// Judges a history; true when it holds write skew.
///
/// # Errors
/// The anomaly.
pub fn check(history: &History) -> Result<bool, Failure> {
    let mut graph = Graph::new(history);
    for at in 0..graph.txns.len() {
        graph.read(history, at)?;
    }
    graph.versions(history)?;
    graph.told();
    graph.judge()
}

fn si(text: String) -> Failure {
    Failure::new(Rule::Si, text)
}

impl<'h> Graph<'h> {
    fn new(history: &'h History) -> Self {
        let committed = |ran: &&Ran| matches!(ran.end, End::Committed { .. });
        let txns: Vec<&Ran> = history.txns.iter().filter(committed).collect();
        let at = txns.iter().enumerate().map(|(n, ran)| (ran.id, n)).collect();
        let none = vec![vec![false; txns.len()]; txns.len()];
        Self { txns, at, edges: std::array::from_fn(|_| none.clone()) }
    }

    fn writer(&self, element: Element) -> Option<usize> {
        self.at.get(&(element / APPENDS)).copied()
    }

    fn link(&mut self, kind: usize, from: usize, to: usize) {
        if from != to {
            self.edges[kind][from][to] = true;
        }
    }

    /// What transaction `at` read, against the last list of each key.
    fn read(&mut self, history: &History, at: usize) -> Result<(), Failure> {
        let ran = self.txns[at];
        // What became of a table that was dropped cannot be known from lists.
        for read in ran.reads.iter().filter(|read| !history.drops.contains_key(&read.key.0)) {
            let others: Vec<Element> = read.list.iter().copied().filter(|e| e / APPENDS != ran.id).collect();
            let last = history.last.get(&read.key).map_or(&[][..], Vec::as_slice);
            let name = format!("T{} reads t{}.{} as {:?}", ran.id, read.key.0, read.key.1, read.list);
            if let Some(e) = others.iter().find(|e| self.writer(**e).is_none()) {
                return Err(si(format!("G1a: {name}, but T{} was not committed", e / APPENDS)));
            }
            if !last.starts_with(&others) {
                return Err(si(format!("{name}, which is no beginning of the last list {last:?}")));
            }
            let next = last.get(others.len()).copied();
            if let (Some(&e), Some(next)) = (others.last(), next)
                && e / APPENDS == next / APPENDS
            {
                return Err(si(format!("G1b: {name} between two appends of T{}", e / APPENDS)));
            }
            if let Some(writer) = others.last().and_then(|e| self.writer(*e)) {
                self.link(WR, writer, at);
            }
            if let Some(writer) = next.and_then(|e| self.writer(e)) {
                self.link(RW, at, writer);
            }
        }
        Ok(())
    }

    /// The order of the appends to each key.
    fn versions(&mut self, history: &History) -> Result<(), Failure> {
        let mut found: BTreeMap<Element, Key> = BTreeMap::new();
        for (key, list) in &history.last {
            for pair in list.windows(2) {
                if let (Some(a), Some(b)) = (self.writer(pair[0]), self.writer(pair[1])) {
                    self.link(WW, a, b);
                }
            }
            found.extend(list.iter().map(|e| (*e, *key)));
        }
        let is_lost = |(key, e): &(Key, Element)| !history.drops.contains_key(&key.0) && found.get(e) != Some(key);
        let lost = self.txns.iter().find_map(|ran| ran.elements().find(is_lost));
        lost.map_or(Ok(()), |(_, e)| Err(si(format!("what T{} appended is not there in the end", e / APPENDS))))
    }

    /// Whoever began after another was told is after it.
    fn told(&mut self) {
        for a in 0..self.txns.len() {
            let End::Committed { acked, .. } = self.txns[a].end else { continue };
            for b in 0..self.txns.len() {
                if acked.tick < self.txns[b].began.tick {
                    self.link(TOLD, a, b);
                }
            }
        }
    }

    fn judge(&self) -> Result<bool, Failure> {
        let [ww, wr, told, rw] = &self.edges;
        let read = join(ww, wr);
        let all = join(&read, told);
        let steps: [(&str, Relation); 4] = [
            ("G0", ww.clone()),
            ("G1c", read),
            ("G1c with what was told", all.clone()),
            ("G-single", join(&all, &after(&all, rw))),
        ];
        for (name, relation) in steps {
            if let Some(at) = on_cycle(&relation) {
                let others: Vec<String> =
                    self.cycle(&relation, at).iter().map(|n| format!("T{}", self.txns[*n].id)).collect();
                return Err(si(format!("{name}: a cycle through {}", others.join(", "))));
            }
        }
        Ok(on_cycle(&join(&all, rw)).is_some())
    }

    /// All that lie on a cycle with `at`.
    fn cycle(&self, relation: &Relation, at: usize) -> Vec<usize> {
        let reach = closure(relation);
        (0..self.txns.len()).filter(|&n| reach[at][n] && reach[n][at]).collect()
    }
}

fn join(a: &Relation, b: &Relation) -> Relation {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| *a || *b).collect()).collect()
}

/// First `a`, then `b`.
fn after(a: &Relation, b: &Relation) -> Relation {
    let step = |row: &Vec<bool>, to: usize| row.iter().zip(b).any(|(on, from)| *on && from[to]);
    a.iter().map(|row| (0..a.len()).map(|to| step(row, to)).collect()).collect()
}

fn closure(relation: &Relation) -> Relation {
    let mut reach = relation.clone();
    for via in 0..reach.len() {
        let row = reach[via].clone();
        for from in reach.iter_mut().filter(|from| from[via]) {
            from.iter_mut().zip(&row).for_each(|(to, on)| *to |= *on);
        }
    }
    reach
}

fn on_cycle(relation: &Relation) -> Option<usize> {
    let reach = closure(relation);
    (0..reach.len()).find(|&n| reach[n][n])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Moment, Read};
    use crate::plan::Level;

    /// A history in a few words: for each transaction what it read and what it appended to, all of them at the same time
    /// unless a moment is given; then the last lists.
    struct Told(History);

    impl Told {
        fn new() -> Self {
            Self(History::default())
        }

        fn txn(mut self, id: u16, reads: &[(u8, &[Element])], appends: &[u8]) -> Self {
            let reads = reads.iter().map(|(key, list)| Read { key: (0, *key), own: 0, list: list.to_vec() }).collect();
            let (early, late) = (Moment { tick: 1, event: 0 }, Moment { tick: 9, event: 0 });
            self.0.txns.push(Ran {
                id,
                level: Some(Level::Sync),
                began: early,
                opened: early,
                snapshot: 0,
                reads,
                appends: appends.iter().map(|key| (0, *key)).collect(),
                end: End::Committed { seq: id.into(), called: early, acked: late },
            });
            self
        }

        fn rolled_back(mut self) -> Self {
            self.0.txns.last_mut().expect("a transaction").end = End::RolledBack;
            self
        }

        fn at(mut self, began: u64, acked: u64) -> Self {
            let ran = self.0.txns.last_mut().expect("a transaction");
            ran.began.tick = began;
            let (called, acked) = (ran.began, Moment { tick: acked, event: 0 });
            ran.end = End::Committed { seq: ran.id.into(), called, acked };
            self
        }

        fn last(mut self, lists: &[(u8, &[Element])]) -> Result<bool, String> {
            self.0.last = lists.iter().map(|(key, list)| ((0, *key), list.to_vec())).collect();
            check(&self.0).map_err(|f| f.text)
        }
    }

    fn is(found: &Result<bool, String>, anomaly: &str) -> bool {
        found.as_ref().is_err_and(|text| text.starts_with(anomaly))
    }

    #[test]
    fn one_after_another_is_clean() {
        let found = Told::new().txn(1, &[(0, &[])], &[0]).txn(2, &[(0, &[8])], &[0]).txn(3, &[(0, &[8, 16])], &[]);
        assert_eq!(found.last(&[(0, &[8, 16])]), Ok(false));
    }

    #[test]
    fn write_skew_is_allowed_and_counted() {
        let found = Told::new().txn(1, &[(0, &[]), (1, &[])], &[0]).txn(2, &[(0, &[]), (1, &[])], &[1]);
        assert_eq!(found.last(&[(0, &[8]), (1, &[16])]), Ok(true));
    }

    #[test]
    fn each_anomaly_has_its_name() {
        let dirty = Told::new().txn(1, &[], &[0]).txn(2, &[], &[0]).txn(3, &[], &[1]).txn(4, &[], &[1]);
        assert_eq!(dirty.last(&[(0, &[8, 16]), (1, &[24, 32])]), Ok(false));
        let g0 = Told::new().txn(1, &[], &[0, 1]).txn(2, &[], &[0, 1]).last(&[(0, &[8, 16]), (1, &[17, 9])]);
        assert!(is(&g0, "G0"), "{g0:?}");
        let g1a = Told::new().txn(1, &[], &[0]).rolled_back().txn(2, &[(0, &[8])], &[]).last(&[]);
        assert!(is(&g1a, "G1a"), "{g1a:?}");
        let g1b = Told::new().txn(1, &[], &[0, 0]).txn(2, &[(0, &[8])], &[]).last(&[(0, &[8, 9])]);
        assert!(is(&g1b, "G1b"), "{g1b:?}");
        let g1c = Told::new().txn(1, &[(1, &[16])], &[0]).txn(2, &[(0, &[8])], &[1]).last(&[(0, &[8]), (1, &[16])]);
        assert!(is(&g1c, "G1c"), "{g1c:?}");
        let lost = Told::new().txn(1, &[(0, &[])], &[0]).txn(2, &[(0, &[])], &[0]).last(&[(0, &[8, 16])]);
        assert!(is(&lost, "G-single"), "{lost:?}");
        let torn = Told::new().txn(1, &[], &[0, 1]).txn(2, &[(0, &[8]), (1, &[])], &[]).last(&[(0, &[8]), (1, &[9])]);
        assert!(is(&torn, "G-single"), "{torn:?}");
    }

    #[test]
    fn a_fork_of_two_readers_is_an_anomaly() {
        // Each of the readers sees one of two commits and not the other: no snapshot of one order shows that.
        let fork = Told::new().txn(1, &[], &[0]).txn(2, &[], &[1]);
        let fork = fork.txn(3, &[(0, &[8]), (1, &[])], &[]).txn(4, &[(0, &[]), (1, &[16])], &[]);
        let fork = fork.last(&[(0, &[8]), (1, &[16])]);
        assert!(is(&fork, "G-single"), "{fork:?}");
    }

    #[test]
    fn what_was_told_must_be_seen() {
        let stale = Told::new().txn(1, &[], &[0]).at(1, 2).txn(2, &[(0, &[])], &[]).at(3, 4).last(&[(0, &[8])]);
        assert!(is(&stale, "G-single"), "{stale:?}");
    }

    #[test]
    fn nothing_is_lost_and_lists_only_grow() {
        let gone = Told::new().txn(1, &[], &[0]).last(&[]);
        assert!(gone.is_err_and(|text| text.contains("not there in the end")));
        let forked = Told::new().txn(1, &[], &[0]).txn(2, &[], &[0]).txn(3, &[(0, &[16])], &[]).last(&[(0, &[8, 16])]);
        assert!(forked.is_err_and(|text| text.contains("no beginning")));
    }
}
