//! The scheduler: who runs next, from the tape.
//!
//! At every point where a thread takes or releases a lock, waits, wakes, or calls the file system, the threads that can run
//! are put into an order of dullness: the one that is running first, then the others as they were made, going round. The
//! choice is a place in that order, so zero is "go on", a tape of zeros is one thread after the other, and a schedule is the
//! short list of places where it departs from that.
//!
//! What draws the choices is the *policy*, itself drawn:
//!
//! - `Walk` asks the tape each time: on a seed a random walk, on a list of choices exactly these;
//! - `Sticky` goes on most of the time and sometimes walks: few switches, far apart;
//! - `Ranked` gives every thread a rank and lets the first rank run, whatever else can; at a few drawn steps the running
//!   thread falls to the last rank (Burckhardt and others 2010: a bug that needs d orderings is met with a chance that falls
//!   with the (d - 1)th power of the length, not with the number of schedules);
//! - `Starved` walks, but one thread runs only when no other can.
//!
//! Whoever has run for [`PATIENCE`] decisions in a row counts as yielding: a thread may wait for another by looking again and
//! again, as one does that met a page on the move, and a schedule that never lets the other run is not one of this world.
//!
//! - S1: whatever the policy, what it decided is remembered as choices of `Walk`; that list alone gives the same run.
//! - S2: the hash of a run covers every decision; equal tapes give equal hashes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};
use strandline_sim::tape::{Subject, Tape};

/// Decisions in a row for one thread while others could run.
pub const PATIENCE: u64 = 2000;

/// How choices are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// From the tape, each time.
    Walk,
    /// Goes on in all but one of so many cases.
    Sticky(u64),
    /// By rank, with so many falls within so many steps.
    Ranked(u64, u64),
    /// As `Walk`, but the thread of that number comes last.
    Starved(u64),
}

impl Policy {
    /// Draws one. Zero is `Walk`, so that a list of choices needs nothing before it.
    pub fn draw(tape: &mut Tape) -> Self {
        match tape.choose(Subject::Config, 8) {
            0 | 1 => Self::Walk,
            2 => Self::Sticky(4),
            3 => Self::Sticky(24),
            4..=6 => {
                let within = *tape.pick(Subject::Config, &[400, 1500, 5000]);
                Self::Ranked(tape.choose(Subject::Config, 4), within)
            }
            _ => Self::Starved(1 + tape.choose(Subject::Config, 6)),
        }
    }
}

/// What one execution draws from and leaves behind.
#[derive(Debug)]
pub struct Course {
    tape: Tape,
    policy: Policy,
    /// Every choice among several, as a place in the order of dullness.
    choices: Vec<u64>,
    hash: u64,
    steps: u64,
    ranks: BTreeMap<usize, u64>,
    falls: Vec<u64>,
    /// The rank for the next thread that falls: behind all others.
    last: u64,
    /// Who runs, and for how many decisions in a row.
    running: (usize, u64),
}

impl Course {
    /// A course that draws from `tape`.
    #[must_use]
    pub fn new(mut tape: Tape, policy: Policy) -> Self {
        let mut falls = Vec::new();
        if let Policy::Ranked(most, within) = policy {
            falls.extend((0..most).map(|_| 1 + tape.choose(Subject::Schedule, within)));
        }
        let (choices, ranks, running) = (Vec::new(), BTreeMap::new(), (0, 0));
        Self { tape, policy, choices, hash: 0, steps: 0, ranks, falls, last: 1 << 32, running }
    }

    /// The choices so far: as values for `Walk` they give the same run.
    #[must_use]
    pub fn choices(&self) -> &[u64] {
        &self.choices
    }

    /// A hash of every decision.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// How many decisions there were.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// True when the thread that runs has run for long enough.
    const fn is_overdue(&self) -> bool {
        self.running.1 >= PATIENCE
    }

    /// Chooses among `order`, which has the dullest first.
    fn choose(&mut self, order: &[usize], yields: bool) -> usize {
        let at = if order.len() < 2 { 0 } else { self.place(order, yields) };
        if order.len() > 1 {
            self.choices.push(at as u64);
        }
        self.steps += 1;
        let row = if self.running.0 == order[at] && order.len() > 1 { self.running.1 + 1 } else { 0 };
        self.running = (order[at], row);
        self.hash = (self.hash ^ order[at] as u64).wrapping_mul(0x0100_0000_01b3).rotate_left(17) ^ self.steps;
        order[at]
    }

    fn place(&mut self, order: &[usize], yields: bool) -> usize {
        let many = order.len() as u64;
        match self.policy {
            Policy::Walk => self.tape.choose(Subject::Schedule, many) as usize,
            Policy::Sticky(of) if !self.tape.chance(Subject::Schedule, 1, of) => 0,
            Policy::Sticky(_) => self.tape.choose(Subject::Schedule, many) as usize,
            Policy::Ranked(..) => self.ranked(order, yields),
            Policy::Starved(victim) => {
                let rest: Vec<usize> = (0..order.len()).filter(|&i| order[i] as u64 != victim).collect();
                rest[self.tape.choose(Subject::Schedule, rest.len() as u64) as usize % rest.len()]
            }
        }
    }

    fn ranked(&mut self, order: &[usize], yields: bool) -> usize {
        for &task in order {
            if !self.ranks.contains_key(&task) {
                let rank = self.tape.choose(Subject::Schedule, 1 << 16);
                self.ranks.insert(task, rank);
            }
        }
        let falls = self.falls.contains(&self.steps).then_some(order[0]);
        if let Some(task) = if yields { order.last().copied() } else { falls } {
            self.last += 1;
            self.ranks.insert(task, self.last);
        }
        let first = order.iter().enumerate().min_by_key(|(_, task)| (self.ranks.get(task), **task));
        first.map_or(0, |(at, _)| at)
    }
}

/// One execution, steered by a course that the caller keeps a handle on.
#[derive(Debug)]
pub struct TapeScheduler {
    course: Arc<Mutex<Course>>,
    begun: bool,
}

impl TapeScheduler {
    /// A scheduler for one execution.
    #[must_use]
    pub const fn new(course: Arc<Mutex<Course>>) -> Self {
        Self { course, begun: false }
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scheduler for TapeScheduler {
    fn new_execution(&mut self) -> Option<Schedule> {
        (!std::mem::replace(&mut self.begun, true)).then(|| Schedule::new(0))
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, yields: bool) -> Option<TaskId> {
        let mut order: Vec<usize> = runnable.iter().map(|task| usize::from(task.id())).collect();
        order.sort_unstable();
        let current = current.map_or(0, usize::from);
        let yields = yields || self.course().is_overdue();
        // Whoever yields comes last, else whoever runs comes first; the others go round from there.
        let first = order.partition_point(|&task| if yields { task <= current } else { task < current });
        let around = first % order.len().max(1);
        order.rotate_left(around);
        let chosen = self.course().choose(&order, yields);
        runnable.iter().map(|task| task.id()).find(|id| usize::from(*id) == chosen)
    }

    fn next_u64(&mut self) -> u64 {
        self.course().tape.choose(Subject::App, u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(policy: Policy, values: &[u64]) -> Course {
        let mut lists = strandline_sim::tape::Lists::default();
        lists[Subject::Schedule as usize] = values.to_vec();
        Course::new(Tape::from_lists(lists), policy)
    }

    #[test]
    fn zero_lets_a_thread_run_on_and_every_choice_is_remembered() {
        let mut course = course(Policy::Walk, &[0, 2, 1]);
        let chosen: Vec<usize> = (0..4).map(|_| course.choose(&[3, 4, 1], false)).collect();
        assert_eq!(chosen, [3, 1, 4, 3]);
        assert_eq!(course.choose(&[9], false), 9, "no choice");
        assert_eq!(course.choices(), [0, 2, 1, 0]);
    }

    #[test]
    fn the_starved_thread_runs_when_no_other_can() {
        let mut course = course(Policy::Starved(3), &[0, 1, 0]);
        assert_eq!([course.choose(&[3, 4, 1], false), course.choose(&[3, 4, 1], false)], [4, 1]);
        assert_eq!(course.choose(&[3], false), 3);
    }

    #[test]
    fn the_first_rank_runs_until_it_falls() {
        // One fall, after two steps; ranks 5, 7.
        let mut course = course(Policy::Ranked(1, 100), &[1, 5, 7]);
        let chosen: Vec<usize> = (0..4).map(|_| course.choose(&[1, 2], false)).collect();
        assert_eq!(chosen, [1, 1, 2, 2]);
    }

    #[test]
    fn who_has_run_for_long_is_overdue() {
        let mut course = course(Policy::Walk, &[]);
        assert!((0..PATIENCE).all(|_| course.choose(&[1, 2], false) == 1));
        assert!(!course.is_overdue());
        course.choose(&[1, 2], false);
        assert!(course.is_overdue());
        course.choose(&[2, 1], true);
        assert!(!course.is_overdue());
    }
}
