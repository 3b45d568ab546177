//! Many runs from consecutive seeds; and what a failing one is made into.
//!
//! A failure is told as a token: the tape with the policy put to `Walk` and the list of choices in the place of what the
//! policy drew (S1 of `schedule`). Then the list is made dull, as far as the same promise still breaks: all of it, halves,
//! quarters, single choices. What is left are the places where the schedule had to depart from letting threads run on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

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
fn effort(salt: u64) -> strandline_sim::explore::Limits {
    match salt % 8 {
        0 => limits(24, 400, salt),
        1..=3 => limits(6, 60, salt),
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
        let (began, mut best) = (Instant::now(), self);
        if !best.try_with(&[], salt) && !best.still_fails(salt) {
            return best;
        }
        let mut pieces = 1;
        loop {
            let places: Vec<usize> = best.departures().map(|(at, _)| at).collect();
            let size = places.len().div_ceil(pieces).max(1);
            let mut better = false;
            for piece in places.chunks(size) {
                if began.elapsed() > time {
                    return best;
                }
                better |= best.try_with(piece, salt);
            }
            if size == 1 && !better {
                return best;
            }
            pieces = if size == 1 { pieces } else { pieces * 2 };
        }
    }

    fn still_fails(&self, salt: u64) -> bool {
        let again = run_tape(&Tape::from_lists(self.lists.clone()), salt, &mut Count::default());
        again.is_err_and(|found| found.failure.rule == self.failure.rule)
    }

    /// Puts the choices at `places` to zero (all of them, when none is given) and keeps that if it fails the same way.
    fn try_with(&mut self, places: &[usize], salt: u64) -> bool {
        let mut lists = self.lists.clone();
        let choices = &mut lists[Subject::Schedule as usize];
        match places {
            [] => choices.clear(),
            places => places.iter().for_each(|at| choices[*at] = 0),
        }
        match run_tape(&Tape::from_lists(lists), salt, &mut Count::default()) {
            Err(found)
                if found.failure.rule == self.failure.rule
                    && found.departures().count() < self.departures().count() =>
            {
                *self = *found;
                true
            }
            _ => false,
        }
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
