//! What an application does to a database: operations, and where they come from.
//!
//! An [`Op`] says everything in its own words (`put t0 k03 = #17 x60`), so a failing run reads as a list. Operations come from
//! a tape ([`Plan`]) that picks among those that make sense in the present state of the model, or from a list (the
//! exhaustive explorer, a saved case). One that makes no sense when it is reached, for instance the end of a backup that
//! no longer is open, does nothing: so any sublist of a list of operations is itself a run, which is what makes failing
//! runs easy to shorten.
//!
//! Swarm: each run first draws which kinds of operation it uses at all, and how sizes are spread. Runs that do little of
//! everything find less than runs that do much of a few things.

mod op;
mod plan;

pub use op::{Ends, From, KEYS, LABELS, Op, Trouble, checkpoint_name, key_of, label_name, parse, table_name, value_of};
pub use plan::{Config, Dice, Plan, Sight};
