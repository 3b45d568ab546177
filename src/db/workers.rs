//! Checkpoints by time and by what was logged, and what buffered commits left in memory: services that are stepped, by a
//! thread of their own or by the embedder.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::core::Core;
use super::options::LOG_SEGMENT_BYTES_MIN;
use crate::checkpoint::CheckpointOptions;
use crate::error::Result;
use crate::log::Log;

/// How long what a buffered commit appended may stay in memory.
const BUFFERED: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct State {
    every: Option<Duration>,
    /// When the last checkpoint by time ended, on the database's own clock.
    last_ms: Option<u64>,
    stop: bool,
}

/// When the next checkpoint is due.
#[derive(Debug, Default)]
pub(super) struct Timer {
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes to be logged between two checkpoints; 0 for no limit.
    every_bytes: AtomicU64,
    /// Bytes that had been logged when the last one began.
    last_bytes: AtomicU64,
}

impl Timer {
    pub fn new(every: Option<Duration>) -> Self {
        Self { state: Mutex::new(State { every, ..State::default() }), ..Self::default() }
    }

    pub fn set_bytes(&self, every: Option<u64>) {
        self.every_bytes.store(every.map_or(0, |n| n.max(LOG_SEGMENT_BYTES_MIN)), Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Something was logged: whoever takes checkpoints is told if one is due.
    pub fn logged(&self, log: Option<&Arc<Log>>) {
        if self.every_bytes.load(Ordering::Relaxed) > 0 && log.is_some_and(|log| self.is_due(log)) {
            self.changed.notify_all();
        }
    }

    fn is_due(&self, log: &Log) -> bool {
        let every = self.every_bytes.load(Ordering::Relaxed);
        every > 0 && log.counters().bytes.saturating_sub(self.last_bytes.load(Ordering::Relaxed)) >= every
    }

    /// A checkpoint begins.
    pub fn begins(&self, log: Option<&Arc<Log>>) {
        if let Some(log) = log {
            self.last_bytes.store(log.counters().bytes, Ordering::Relaxed);
        }
    }

    pub fn set(&self, every: Option<Duration>) {
        self.state.lock().every = every;
        self.changed.notify_all();
    }

    pub fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }
}

/// True when a checkpoint is due by the database's clock. The interval runs from the end of one to the start of the next, so
/// a slow checkpoint does not make the next one come sooner; a clock set back starts it anew.
fn is_time(core: &Core) -> bool {
    let now = core.clock.now_ms();
    let mut state = core.timer.state.lock();
    let Some(every) = state.every else { return false };
    let last = *state.last_ms.get_or_insert(now);
    if now < last {
        state.last_ms = Some(now);
        return false;
    }
    u128::from(now - last) >= every.as_millis()
}

/// Writes out what buffered commits left in memory, and takes a checkpoint if one is due. True when there was something.
pub(super) fn step(core: &Core) -> Result<bool> {
    let written = core.log().map_or(Ok(false), |log| core.logged(log.step()))?;
    if !is_time(core) && !core.log().is_some_and(|log| core.timer.is_due(log)) {
        return Ok(written);
    }
    let taken = core.checkpoint(&CheckpointOptions::new());
    core.timer.state.lock().last_ms = Some(core.clock.now_ms());
    taken.map(|report| report.taken || written)
}

/// A thread that steps the service until the database is closed.
pub(super) fn spawn(core: &Arc<Core>) -> std::io::Result<JoinHandle<()>> {
    let core: Weak<Core> = Arc::downgrade(core);
    thread::Builder::new().name("strandline-checkpoint".to_owned()).spawn(move || {
        while let Some(core) = core.upgrade() {
            {
                let mut state = core.timer.state.lock();
                if state.stop {
                    return;
                }
                let idle = if core.log().is_some() { BUFFERED } else { Duration::from_millis(500) };
                let pause = state.every.map_or(idle, |every| every.min(idle));
                core.timer.changed.wait_for(&mut state, pause.max(Duration::from_millis(1)));
                if state.stop {
                    return;
                }
            }
            // A failure poisons the database and is told to every later call; a full device may have space next time.
            let _ = step(&core);
        }
    })
}
