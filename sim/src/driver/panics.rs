//! Panics of the engine, caught: message and place are kept for the report, nothing is printed.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
    static QUIET: RefCell<u32> = const { RefCell::new(0) };
}

static HOOK: Once = Once::new();

/// Keeps panics of this thread silent while it lives.
pub struct Hush(());

impl Hush {
    /// Begins.
    #[must_use]
    pub fn new() -> Self {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                if QUIET.with(|q| *q.borrow()) == 0 {
                    return before(info);
                }
                let payload = info.payload();
                let text = payload
                    .downcast_ref::<&str>()
                    .map(|s| (*s).to_owned())
                    .or_else(|| payload.downcast_ref::<String>().cloned())
                    .unwrap_or_default();
                let place = info.location().map_or(String::new(), |l| format!(" at {}:{}", l.file(), l.line()));
                let said = format!("panic: {text}{place}");
                let first = LAST.with(|l| l.borrow_mut().replace(said.clone()));
                if let Some(first) = first {
                    // A panic within a panic ends the process: this is the last chance to say what happened.
                    LAST.with(|l| *l.borrow_mut() = Some(first.clone()));
                    if std::thread::panicking() {
                        eprintln!("{first}, then {said}");
                    }
                }
            }));
        });
        QUIET.with(|q| *q.borrow_mut() += 1);
        Self(())
    }
}

impl Default for Hush {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Hush {
    fn drop(&mut self) {
        QUIET.with(|q| *q.borrow_mut() -= 1);
    }
}

/// The first panic since the last call.
#[must_use]
pub fn take() -> String {
    LAST.with(|l| l.borrow_mut().take()).unwrap_or_else(|| "panic".to_owned())
}
