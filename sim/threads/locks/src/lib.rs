//! The engine's locks under a scheduler.
//!
//! The engine says `parking_lot` and means the crate of that name. The package that compiles it a second time hands it this
//! crate under the same name: mutexes and reader-writer locks are those of `shuttle-parking_lot`, where taking and
//! releasing is a point at which another thread may be chosen to run; the condition variable, which that crate lacks, is
//! here. So the engine's source has no trace of the scheduler, and the lock it is tested with is the lock it names.
//!
//! The engine takes atomics that decide something from here as well, when it is built with `cfg(scheduled)`, as the
//! second package does: a load or a store of one is a point, too.
//!
//! # The condition variable
//!
//! A waiter puts itself into the queue *before* it lets go of the mutex, and parks until somebody takes it out. Nothing runs
//! between the two as far as the queue is concerned, so a notification after the mutex was let go always finds the waiter:
//! a wake-up that is lost is the engine's fault, not this crate's. Nobody wakes without a notification: whoever waits in a
//! loop needs none, and a lost one then shows as a deadlock. Time does not pass under a scheduler, so a wait with a limit
//! ends when the waiter is next chosen to run, notified or not: both may happen on a real system.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as Plain, PoisonError};
use std::time::Duration;

pub use shuttle::sync::atomic;
use shuttle::thread::{self, Thread};
pub use shuttle_parking_lot::*;

/// A thread that waits, and whether it was taken out of the queue.
#[derive(Debug)]
struct Waiter {
    thread: Thread,
    called: AtomicBool,
}

/// A condition variable, as `parking_lot`'s.
#[derive(Debug, Default)]
pub struct Condvar {
    /// Never held while another thread may be chosen to run.
    queue: Plain<VecDeque<Arc<Waiter>>>,
}

/// How a wait with a limit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// True when the time was up.
    #[must_use]
    pub const fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    /// Nobody waits.
    #[must_use]
    pub const fn new() -> Self {
        Self { queue: Plain::new(VecDeque::new()) }
    }

    /// Lets go of the mutex, waits to be notified, takes the mutex again.
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        let me = Arc::new(Waiter { thread: thread::current(), called: AtomicBool::new(false) });
        self.queue().push_back(Arc::clone(&me));
        MutexGuard::unlocked(guard, || {
            while !me.called.load(Ordering::Acquire) {
                thread::park();
            }
        });
    }

    /// As [`Condvar::wait`], but not for long.
    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, _limit: Duration) -> WaitTimeoutResult {
        MutexGuard::unlocked(guard, thread::yield_now);
        WaitTimeoutResult(true)
    }

    /// Wakes the thread that has waited longest. True when there was one.
    pub fn notify_one(&self) -> bool {
        let first = self.queue().pop_front();
        first.into_iter().map(|waiter| call(&waiter)).count() > 0
    }

    /// Wakes all threads that wait; tells how many.
    pub fn notify_all(&self) -> usize {
        let all = std::mem::take(&mut *self.queue());
        all.into_iter().map(|waiter| call(&waiter)).count()
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Waiter>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn call(waiter: &Waiter) {
    waiter.called.store(true, Ordering::Release);
    waiter.thread.unpark();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meet(wake: impl Fn(&Mutex<u32>, &Condvar) + Send + Sync + 'static) {
        let wake = Arc::new(wake);
        shuttle::check_random(
            move || {
                let shared = Arc::new((Mutex::new(0), Condvar::new()));
                let waiters = (0..3).map(|_| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        let mut count = shared.0.lock();
                        while *count == 0 {
                            shared.1.wait(&mut count);
                        }
                    })
                });
                let waiters: Vec<_> = waiters.collect();
                wake(&shared.0, &shared.1);
                waiters.into_iter().for_each(|waiter| drop(waiter.join()));
            },
            200,
        );
    }

    #[test]
    fn nobody_who_waits_is_passed_over() {
        meet(|count, changed| {
            *count.lock() = 1;
            changed.notify_all();
        });
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_wake_up_before_the_change_is_lost() {
        meet(|count, changed| {
            changed.notify_all();
            *count.lock() = 1;
        });
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn one_wake_up_wakes_one() {
        meet(|count, changed| {
            *count.lock() = 1;
            changed.notify_one();
        });
    }
}
