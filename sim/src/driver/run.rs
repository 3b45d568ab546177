//! Runs a list of operations, from the first open to the last clean close.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::panics;
use super::session::Session;
use super::world::{Failure, World};
use crate::engine::{self, Db};
use crate::model::{Live, Taken};
use crate::oracle::{Rule, observe};
use crate::workload::{Op, Plan};

/// Where operations come from.
pub trait Source {
    /// The next one; `None` at the end.
    fn next(&mut self, world: &World) -> Option<Op>;
}

impl Source for std::slice::Iter<'_, Op> {
    fn next(&mut self, _: &World) -> Option<Op> {
        Iterator::next(self).cloned()
    }
}

impl Source for Plan<'_> {
    fn next(&mut self, world: &World) -> Option<Op> {
        self.next(&world.sight())
    }
}

/// A source that remembers what it gave.
pub struct Noted<'s> {
    source: &'s mut dyn Source,
    /// All operations so far.
    pub ops: Vec<Op>,
}

impl<'s> Noted<'s> {
    /// Remembers what `source` gives.
    pub fn new(source: &'s mut dyn Source) -> Self {
        Self { source, ops: Vec::new() }
    }
}

impl Source for Noted<'_> {
    fn next(&mut self, world: &World) -> Option<Op> {
        let op = self.source.next(world)?;
        self.ops.push(op.clone());
        Some(op)
    }
}

/// Runs all operations of `source`, sessions and restarts included, and closes the database at the end. A panic of the
/// engine is a failure like others.
///
/// # Errors
/// The first promise that did not hold.
pub fn run(world: &mut World, source: &mut dyn Source) -> Result<(), Failure> {
    let outcome = catch_unwind(AssertUnwindSafe(|| sessions(world, source)));
    let result = outcome.unwrap_or_else(|_| Err(Failure::new(Rule::Typed, panics::take())));
    result.map_err(|f| f.at(format!("after: {}", last(world))))
}

fn last(world: &World) -> String {
    world.done.last().map_or("the open".to_owned(), |(event, op)| format!("event {event}: {op}"))
}

fn sessions(world: &mut World, source: &mut dyn Source) -> Result<(), Failure> {
    loop {
        let home = world.next_open();
        let db = engine::open(&home)
            .map_err(|f| Failure::new(Rule::OpenOk, format!("the database does not open: {}", f.text)))?;
        world.src.mark("opened");
        let at = world.src.event();
        world.created.get_or_insert(at);
        check_opened(&db, world)?;
        let again = session(&db, world, source)?;
        close(db, world)?;
        if !again {
            return Ok(());
        }
        world.mark("restart");
    }
}

/// What an open database shows must be what the model says, before anything else is done.
fn check_opened(db: &Db, world: &mut World) -> Result<(), Failure> {
    let shown = observe::show(db).map_err(|f| Failure::new(Rule::Read, f.text))?;
    let visible = world.live.durable();
    if shown.fingerprint != visible.fingerprint() {
        return Err(Failure::new(Rule::Durable, format!("opened with {shown}, expected {visible}")));
    }
    let visible = crate::model::Visible { newest: shown.newest, ..visible };
    world.live = Live::resume(&visible);
    world.live.untouched = !db.has_checkpoint().map_err(|f| Failure::new(Rule::Read, f.text))?;
    Ok(())
}

/// True when the database is to be opened again.
fn session(db: &Db, world: &mut World, source: &mut dyn Source) -> Result<bool, Failure> {
    let mut session = Session::new(db, world);
    let mut again = false;
    while let Some(op) = source.next(session.world()) {
        session.step(&op)?;
        if op == Op::Restart {
            again = true;
            break;
        }
    }
    session.leave()?;
    Ok(again)
}

fn close(db: Db, world: &mut World) -> Result<(), Failure> {
    let taken = Taken::default();
    let visible = world.live.after_checkpoint(None, &taken);
    let at = world.src.event();
    world.history.begin(visible, at, "close");
    db.close().map_err(|f| Failure::new(Rule::Contract, format!("the database does not close: {}", f.text)))?;
    world.src.mark("closed");
    let at = world.src.event();
    world.history.ack(at);
    world.live.checkpoint(None, &taken);
    Ok(())
}
