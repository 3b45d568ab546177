//! Puts the engine on simulated disks, tells it what to do, and compares every answer with the model.

mod births;
mod chain;
mod copying;
mod durable;
mod fleet;
mod logging;
mod meanwhile;
mod panics;
mod run;
mod session;
mod world;

pub use fleet::Fleet;
pub use panics::{Hush, take as take_panic};
pub use run::{Noted, Source, run};
pub use session::Session;
pub use world::{COPIES, Copy, Failure, HOME, Increment, Marks, Rolled, Seen, Shelf, Stage, World};
