//! Many runs from consecutive seeds; and what a failing one is made into.
//!
//! A failure is told as a token: the tape with the policy put to `Walk` and the list of choices in the place of what the
//! policy drew (S1 of `schedule`). Then the list is made dull, as far as the same promise still breaks: all of it, its end,
//! halves, quarters, pairs, single choices. What is left are the places where the schedule had to depart from letting threads run on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use strandline_sim::explore::Limits;
use strandline_sim::tape::{Lists, Subject, Tape};

use crate::crash::{Verdict, judge, limits};
use crate::history::Failure;
use crate::plan::Plan;
use crate::run::{Outcome, run};
use crate::schedule::Policy;

/// A run that failed.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its tape: every choice, the scheduler's as choices of `Policy::Walk`.
    pub lists: Lists,
    /// What the threads did.
    pub plan: Plan,
    /// What broke.
    pub failure: Failure,
}

/// How often what happened.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// Runs.
    pub runs: u64,
    /// Decisions of the scheduler.
    pub steps: u64,
    /// Images that were opened.
    pub images: u64,
    /// What else is worth counting.
    pub marks: BTreeMap<&'static str, u64>,
}

impl Count {
    fn add(&mut self, outcome: &Outcome, verdict: Option<&Verdict>) {
        self.runs += 1;
        self.steps += outcome.steps;
        outcome.history.marks.iter().for_each(|(what, n)| *self.marks.entry(what).or_default() += n);
        let Some(verdict) = verdict else { return };
        self.images += verdict.images;
        *self.marks.entry("copy opened").or_default() += verdict.copies;
        *self.marks.entry("write skew").or_default() += u64::from(verdict.skew);
    }
}

/// Runs one tape and judges it. `salt` varies which images are opened.
pub fn run_tape(tape: &Tape, salt: u64, count: &mut Count) -> Result<(), Box<Found>> {
    let mut tape = tape.clone();
    // The policy is drawn first, so what it drew is the beginning of its list.
    let policy = Policy::draw(&mut tape);
    let drawn = tape.drawn()[Subject::Config as usize].len();
    let plan = Plan::draw(&mut tape, policy);
    let mut lists = tape.drawn().clone();
    lists[Subject::Config as usize].splice(..drawn, [0]);
    let outcome = run(&plan, tape);
    let judged = judge(&outcome, &plan.settings, &effort(salt));
    count.add(&outcome, judged.as_ref().ok());
    judged.map(drop).map_err(|failure| {
        lists[Subject::Schedule as usize] = outcome.choices;
        Box::new(Found { lists, plan, failure })
    })
}

/// Most runs are cheap, a few are looked at closely.
fn effort(salt: u64) -> Limits {
    match salt % 16 {
        0 | 8 => limits(24, 400, salt),
        // The recovery is cut, too.
        1 => Limits { crashes: 2, ..limits(4, 150, salt) },
        2..=6 => limits(6, 60, salt),
        _ => limits(3, 12, salt),
    }
}

impl Found {
    /// The run as one word.
    #[must_use]
    pub fn token(&self) -> String {
        let mut tape = Tape::from_lists(self.lists.clone());
        for (subject, list) in Subject::ALL.into_iter().zip(&self.lists) {
            for _ in list {
                tape.choose(subject, u64::MAX);
            }
        }
        tape.to_token()
    }

    /// The places where the schedule departs from letting threads run on.
    pub fn departures(&self) -> impl Iterator<Item = (usize, u64)> {
        let choices = &self.lists[Subject::Schedule as usize];
        choices.iter().enumerate().filter(|(_, choice)| **choice != 0).map(|(at, choice)| (at, *choice))
    }

    /// Makes the schedule dull as far as the same promise breaks, or until the time is up.
    #[must_use]
    pub fn shrink(self, salt: u64, time: Duration) -> Self {
        let mut shrink = Shrink { best: self, salt, until: Instant::now() + time };
        if shrink.attempt(Vec::clear) || shrink.still_fails() {
            shrink.cut_the_end();
            while shrink.pieces() | shrink.pairs() {}
        }
        shrink.best
    }
}

/// A failing run that is being made dull.
struct Shrink {
    best: Found,
    salt: u64,
    until: Instant,
}

impl Shrink {
    fn choices(&self) -> &Vec<u64> {
        &self.best.lists[Subject::Schedule as usize]
    }

    fn still_fails(&self) -> bool {
        let again = run_tape(&Tape::from_lists(self.best.lists.clone()), self.salt, &mut Count::default());
        again.is_err_and(|found| found.failure.rule == self.best.failure.rule)
    }

    /// Runs with other choices, and keeps them if that fails in the same way with fewer departures, or sooner.
    fn attempt(&mut self, change: impl FnOnce(&mut Vec<u64>)) -> bool {
        if Instant::now() > self.until {
            return false;
        }
        let mut lists = self.best.lists.clone();
        change(&mut lists[Subject::Schedule as usize]);
        let Err(found) = run_tape(&Tape::from_lists(lists), self.salt, &mut Count::default()) else { return false };
        let size = |found: &Found| (found.departures().count(), found.lists[Subject::Schedule as usize].len());
        let better = found.failure.rule == self.best.failure.rule && size(&found) < size(&self.best);
        if better {
            self.best = *found;
        }
        better
    }

    /// Zeros instead of the last choices: half of them, a quarter, one.
    fn cut_the_end(&mut self) {
        let mut piece = self.choices().len() / 2;
        while piece > 0 {
            let keep = self.best.departures().last().map_or(0, |(at, _)| at + 1).saturating_sub(piece);
            if !self.attempt(|choices| choices.truncate(keep)) {
                piece /= 2;
            }
        }
    }

    /// Zeros instead of halves, quarters, single departures.
    fn pieces(&mut self) -> bool {
        let mut better = false;
        let mut size = self.best.departures().count().div_ceil(2);
        while size > 0 {
            better |= self.windows(size, size);
            size /= 2;
        }
        better
    }

    /// Two departures in a row are often there and back: one without the other shifts all that follows.
    fn pairs(&mut self) -> bool {
        self.windows(2, 1) | self.windows(3, 1)
    }

    /// Zeros instead of `size` departures in a row, from the last ones on; those begin `step` apart.
    fn windows(&mut self, size: usize, step: usize) -> bool {
        let (mut better, mut end) = (false, self.best.departures().count());
        while end > 0 {
            let places: Vec<usize> = self.best.departures().map(|(at, _)| at).collect();
            // A success may have left fewer.
            end = end.min(places.len());
            let window = &places[end.saturating_sub(size)..end];
            better |= self.attempt(|choices| window.iter().for_each(|at| choices[*at] = 0));
            end = end.saturating_sub(step);
        }
        better
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "FAIL {}: {}", self.failure.rule, self.failure.text)?;
        write!(f, "{}", self.plan)?;
        let departures: Vec<String> = self.departures().map(|(at, choice)| format!("{at}:{choice}")).collect();
        let all = self.lists[Subject::Schedule as usize].len();
        writeln!(f, "  of {all} choices these are not to run on: {}", departures.join(" "))?;
        writeln!(f, "  replay: cargo threads --replay {}", self.token())
    }
}

/// Runs seeds from `first` on, on `jobs` threads, until the time is up or one fails.
pub fn swarm(first: u64, time: Duration, jobs: u64) -> (Count, Option<(u64, Found, Duration)>) {
    let (began, stop, next) = (Instant::now(), AtomicBool::new(false), AtomicU64::new(first));
    let (total, found) = (Mutex::new(Count::default()), Mutex::new(None));
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let mut count = Count::default();
                while !stop.load(Ordering::Relaxed) && began.elapsed() < time {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if let Err(failed) = run_tape(&Tape::seeded(seed), seed, &mut count) {
                        stop.store(true, Ordering::Relaxed);
                        lock(&found).get_or_insert((seed, *failed, began.elapsed()));
                    }
                }
                lock(&total).merge(&count);
            });
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    (total.into_inner().unwrap_or_else(PoisonError::into_inner), found)
}

impl Count {
    fn merge(&mut self, other: &Self) {
        self.runs += other.runs;
        self.steps += other.steps;
        self.images += other.images;
        other.marks.iter().for_each(|(what, n)| *self.marks.entry(what).or_default() += n);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
