//! Checkpoints by time: a service that is stepped, by a thread of its own or by the embedder.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::core::Core;
use crate::checkpoint::CheckpointOptions;
use crate::error::Result;

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
}

impl Timer {
    pub fn new(every: Option<Duration>) -> Self {
        Self { state: Mutex::new(State { every, ..State::default() }), changed: Condvar::new() }
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

/// Takes a checkpoint if one is due by the database's clock. The interval runs from the end of one to the start of the
/// next, so a slow checkpoint does not make the next one come sooner; a clock set back starts it anew.
pub(super) fn step(core: &Core) -> Result<bool> {
    let now = core.clock.now_ms();
    {
        let mut state = core.timer.state.lock();
        let Some(every) = state.every else { return Ok(false) };
        let last = *state.last_ms.get_or_insert(now);
        if now < last {
            state.last_ms = Some(now);
            return Ok(false);
        }
        if u128::from(now - last) < every.as_millis() {
            return Ok(false);
        }
    }
    let taken = core.checkpointer.take(&CheckpointOptions::new());
    core.timer.state.lock().last_ms = Some(core.clock.now_ms());
    core.catalog.close_surplus_files(core.open_files_max);
    taken.map(|report| report.taken)
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
                let pause = state.every.map_or(Duration::from_millis(500), |e| e.min(Duration::from_millis(500)));
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
