//! What a thread of the engine said when it panicked.
//!
//! The scheduler ends an execution in which a thread panics, and its own panic tells only that. So the first words on a
//! run's system thread are kept as they are said, and nobody prints them: a broken engine panics as often as it is asked to.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;
use std::thread;

use super::THREAD;

thread_local! {
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs something; what the first panic said, if there was one.
pub(super) fn caught(run: impl FnOnce()) -> Option<String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(
            move |info| {
                if thread::current().name() == Some(THREAD) { keep(info) } else { before(info) }
            },
        ));
    });
    let ended = panic::catch_unwind(AssertUnwindSafe(run));
    let said = SAID.take();
    ended.err().map(|_| said.unwrap_or_default())
}

fn keep(info: &PanicHookInfo<'_>) {
    let text = info.payload_as_str().unwrap_or("a panic without words");
    let text = info.location().map_or_else(|| text.to_owned(), |place| format!("{text} ({place})"));
    SAID.with_borrow_mut(|said| {
        said.get_or_insert(text);
    });
}
