//! Many runs from consecutive seeds on a few threads, until the budget is spent or a promise breaks.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::case::{Case, run_tape_on};
use crate::driver::Failure;
use crate::oracle::{Count, Effort, Judge};
use crate::tape::Tape;

/// When a campaign ends.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// After so long.
    pub time: Duration,
    /// After so many judged states.
    pub states: u64,
    /// Threads; each takes every n-th seed.
    pub jobs: u32,
    /// The kind of disk; `None` to draw one for every run.
    pub profile: Option<&'static str>,
}

/// A failure of a campaign.
#[derive(Clone, Debug)]
pub struct Found {
    /// The seed of the run.
    pub seed: u64,
    /// The tape of the run, as one word.
    pub token: String,
    /// The run in words.
    pub case: Case,
    /// What broke.
    pub failure: Failure,
    /// How long the campaign had been running.
    pub after: Duration,
}

/// What a campaign is doing, for whoever watches: counts so far, and the seed that each thread is at, with the moment it
/// began.
pub struct Progress {
    /// States judged.
    pub states: AtomicU64,
    /// Runs judged.
    pub runs: AtomicU64,
    /// Per thread: the seed at work and when it began.
    pub at: Vec<Mutex<(u64, Instant)>>,
    started: Instant,
}

impl Progress {
    /// Nothing yet.
    #[must_use]
    pub fn new(jobs: u32) -> Self {
        let now = Instant::now();
        let at = (0..jobs.max(1)).map(|_| Mutex::new((0, now))).collect();
        Self { states: AtomicU64::new(0), runs: AtomicU64::new(0), at, started: now }
    }

    /// The run that has been at work longest.
    #[must_use]
    pub fn slowest(&self) -> (u64, Duration) {
        let now = Instant::now();
        let each = self.at.iter().map(|a| *a.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        each.map(|(seed, began)| (seed, now.saturating_duration_since(began)))
            .max_by_key(|(_, t)| *t)
            .unwrap_or_default()
    }
}

/// Runs seeds `first`, `first + 1`, ... until the budget is spent or one fails. Gives what was done and the first failure.
pub fn swarm(first: u64, budget: Budget, progress: &Progress) -> (Count, Option<Found>) {
    let jobs = budget.jobs.max(1);
    let stop = AtomicBool::new(false);
    let found: Mutex<Option<Found>> = Mutex::new(None);
    let total = Mutex::new(Count::default());
    thread::scope(|scope| {
        for job in 0..jobs {
            let (stop, found, total) = (&stop, &found, &total);
            scope.spawn(move || {
                let mut judge = Judge::new(Effort::swarm(0));
                let mut seed = first + u64::from(job);
                while !stop.load(Ordering::Relaxed) {
                    *lock(&progress.at[job as usize]) = (seed, Instant::now());
                    if let Some(failed) = one(seed, budget.profile, &mut judge, progress) {
                        lock(found).get_or_insert(failed);
                        stop.store(true, Ordering::Relaxed);
                    }
                    let states = progress.states.load(Ordering::Relaxed);
                    if progress.started.elapsed() >= budget.time || states >= budget.states {
                        stop.store(true, Ordering::Relaxed);
                    }
                    seed += u64::from(jobs);
                }
                // Nothing is at work here any more.
                *lock(&progress.at[job as usize]) = (seed, Instant::now() + Duration::from_secs(86_400));
                lock(total).add(&judge.count);
            });
        }
    });
    (into(total), into(found))
}

fn one(seed: u64, profile: Option<&str>, judge: &mut Judge, progress: &Progress) -> Option<Found> {
    let before = judge.count.states;
    judge.effort = Effort::drawn(seed);
    let mut tape = Tape::seeded(seed);
    let (mut case, result) = run_tape_on(profile, &mut tape, judge);
    progress.states.fetch_add(judge.count.states - before, Ordering::Relaxed);
    progress.runs.fetch_add(1, Ordering::Relaxed);
    let failure = result.err()?;
    failure.rule.name().clone_into(&mut case.rule);
    Some(Found { seed, token: tape.to_token(), case, failure, after: progress.started.elapsed() })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn into<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}
