//! Runs a list of operations, from the first open to the last clean close.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::panics;
use super::session::{Session, expect};
use super::world::{Base, Failure, World};
use crate::engine::{self, Db};
use crate::model::{Live, State, Taken, Visible};
use crate::oracle::{Rule, observe};
use crate::workload::{Op, Plan, Trouble};

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

/// How a session ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// At the end of the operations.
    Over,
    /// The database is to be opened again.
    Again,
    /// The disk failed; the database is to be opened again, in whatever state it is.
    Failed,
}

fn sessions(world: &mut World, source: &mut dyn Source) -> Result<(), Failure> {
    let mut last = End::Again;
    let mut killed = false;
    loop {
        let before = world.src.event();
        let wanted = world.log_wanted;
        let home = world.next_open();
        let db = engine::open(&home)
            .map_err(|f| Failure::new(Rule::OpenOk, format!("the database does not open: {}", f.text)))?;
        world.src.mark("opened");
        let at = world.src.event();
        world.created.get_or_insert(at);
        let logging = db.has_log();
        if let Some(wanted) = wanted {
            expect(Rule::Contract, &logging, &[wanted]).map_err(|f| f.at("whether there is a log"))?;
            if world.opened() > 1 {
                world.mark(if wanted { "log switched on" } else { "log switched off" });
            }
        }
        if last == End::Failed {
            adopt(&db, world, before, killed)?;
        }
        check_opened(&db, world, logging)?;
        last = session(&db, world, source)?;
        if last != End::Failed {
            let closed = close(db, world);
            match closed {
                Err(f) if world.fails() && f.refused.is_some() => last = End::Failed,
                other => other?,
            }
        } else {
            // Dropping it may still take a checkpoint, unless the process is dead.
            if world.trouble != Some(Trouble::Die) {
                let visible = world.live.after_checkpoint(None, &Taken::default());
                let at = world.src.event();
                world.history.begin(visible, at, "dropped", true);
            }
            drop(db);
            killed = world.trouble == Some(Trouble::Die);
            world.src.mark("dead");
        }
        world.heal();
        if last == End::Over {
            return Ok(());
        }
        world.mark("restart");
    }
}

/// After a failure of the disk the database may open in any state that a crash could leave; from now on it is this one.
fn adopt(db: &Db, world: &mut World, before: u64, killed: bool) -> Result<(), Failure> {
    let shown = observe::show(db).map_err(|f| Failure::new(Rule::Read, f.text))?;
    let history = &world.history;
    let allowed = if killed { history.after_kill(before) } else { history.allowed(before, before) };
    // The oldest that fits: a later one may be a call that failed before it wrote anything.
    let fits = |s: &State| history.fingerprint(&allowed, *s) == shown.fingerprint;
    let Some(state) = allowed.states.iter().copied().find(fits) else {
        let states: Vec<String> = allowed.states.iter().map(|&s| history.visible(&allowed, s).to_string()).collect();
        let (rule, after) = if killed { (Rule::Durable, "the process died") } else { (Rule::Honest, "a disk failed") };
        return Err(Failure::new(
            rule,
            format!("after {after} it opens with {shown}, allowed: {}", states.join(" or ")),
        ));
    };
    let fallen = matches!(state, State::Fallen(..));
    if fallen {
        world.mark("fell back");
    }
    world.unsettle();
    world.reopened_after_failure(fallen);
    if killed && world.logging {
        world.mark(if allowed.states.len() > 1 { "killed with commits at stake" } else { "killed" });
    } else if world.logging {
        world.mark("recovery after a failure in the same boot");
    }
    world.live = Live::resume(&world.history.visible(&allowed, state));
    Ok(())
}

/// What an open database shows must be what the model says, before anything else is done. From then on it is promised.
fn check_opened(db: &Db, world: &mut World, logging: bool) -> Result<(), Failure> {
    let shown = observe::show(db).map_err(|f| Failure::new(Rule::Read, f.text))?;
    let visible = world.live.durable();
    if shown.fingerprint != visible.fingerprint() {
        return Err(Failure::new(Rule::Durable, format!("opened with {shown}, expected {visible}")));
    }
    let visible = Visible { newest: shown.newest, ..visible };
    world.live = Live::resume(&visible);
    world.live.untouched = !db.has_checkpoint().map_err(|f| Failure::new(Rule::Read, f.text))?;
    world.logging = logging;
    if !logging {
        world.base = Base::Missing;
    }
    let lineage = db.lineage();
    if world.taken.contains(&lineage) {
        return Err(Failure::new(Rule::SeqOnce, "a restored database goes on under the name of another history"));
    }
    world.lineage = Some(lineage);
    let at = world.src.event();
    world.history.opened(visible, logging, at);
    Ok(())
}

fn session(db: &Db, world: &mut World, source: &mut dyn Source) -> Result<End, Failure> {
    let mut session = Session::new(db, world);
    let mut end = End::Over;
    while let Some(op) = source.next(session.world()) {
        if !session.step(&op)? {
            session.forsake();
            return Ok(End::Failed);
        }
        if op == Op::Restart {
            end = End::Again;
            break;
        }
    }
    match session.leave() {
        Err(f) if session.world().fails() && f.refused.is_some() => {
            session.forsake();
            Ok(End::Failed)
        }
        other => other.map(|()| end),
    }
}

fn close(db: Db, world: &mut World) -> Result<(), Failure> {
    let taken = Taken::default();
    let visible = world.live.after_checkpoint(None, &taken);
    let at = world.src.event();
    world.history.begin(visible, at, "close", true);
    if let Err(f) = db.close() {
        let failure = Failure::new(Rule::Contract, format!("the database does not close: {}", f.text));
        return Err(Failure { refused: Some(f.refusal), ..failure });
    }
    world.src.mark("closed");
    let at = world.src.event();
    world.history.ack(at);
    world.live.checkpoint(None, &taken);
    Ok(())
}
