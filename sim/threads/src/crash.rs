//! Power cuts in the middle of all this, and the copies, judged by the ordinary engine.
//!
//! The barriers of a run are those of its disk: one for every sync that returned, by whichever thread. Each image is opened
//! by the engine as it is shipped and must hold one state of the order that the commits were given:
//!
//! - `prefix`: the first n commits, whole, over all tables, for some n;
//! - `durable`: n is not below any commit that was durable by the death of the image, because it was told so, or because a
//!   transaction had seen it: nobody sees a durable commit that a crash could still take away (T4), and commits come back
//!   without a gap, so all before it are durable too;
//! - `no-future`: n is below every commit that was not called by the image's birth;
//! - tables likewise: those that were told to be there are, and no others than were called for; what was in a table that may
//!   have been dropped by then is not asked.
//!
//! A copy holds all that was told before its backup was called, and nothing that was called after it was open (K1).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use strandline_sim::disk::{self, SimDisk};
use strandline_sim::explore::{Limits, explore_disk};
use strandline_sim::oracle::Rule;

use crate::engines::{number_of, ordinary, other_name};
use crate::history::{Call, Failure, History, Lists, without};
use crate::order::Order;
use crate::plan::{Level, Settings};
use crate::run::Outcome;

/// The directory of the database on its own disk.
const HOME: &str = "/db";

/// What there is to judge by.
pub struct Court<'a> {
    /// What the threads saw.
    pub history: &'a History,
    /// The order of the commits.
    pub order: &'a Order,
    /// The settings of the database.
    pub settings: &'a Settings,
}

/// Bounds on what a state may hold.
struct Bounds {
    least: usize,
    most: usize,
    why: String,
}

impl Court<'_> {
    /// Cuts the power at every barrier; at most `checks` images are opened. Tells how many were.
    ///
    /// # Errors
    /// The first promise that broke.
    pub fn crash(&self, src: &SimDisk, limits: &Limits) -> Result<u64, Failure> {
        let mut broken = None;
        let found = explore_disk(src, "", limits, |crash| {
            let judged = self.image(&crash.disk, crash.birth, crash.death);
            judged.map_err(|failure| {
                let text = failure.text.clone();
                broken.get_or_insert(failure);
                text
            })
        });
        match (broken, found.failures.first()) {
            (Some(failure), Some(report)) => Err(in_words(failure, &report.to_string())),
            (None, Some(report)) => Err(Failure::new(Rule::Typed, report.to_string())),
            _ => Ok(found.checks),
        }
    }

    fn image(&self, disk: &SimDisk, birth: u64, death: u64) -> Result<(), Failure> {
        let (tables, lists) = self.open(disk, Path::new(HOME), Rule::OpenOk)?;
        let bounds = self.bounds(birth, death);
        self.state(&lists, &bounds, &self.history.dropped(birth))?;
        self.tables(&tables, birth, death)
    }

    fn tables(&self, names: &[String], birth: u64, death: u64) -> Result<(), Failure> {
        let tables: BTreeSet<u8> = names.iter().filter_map(|name| number_of(name).ok()).collect();
        let told = |call: &Call| call.acked.is_some_and(|acked| acked.event <= death);
        let gone = self.history.dropped(birth);
        let mut made = self.history.tables.iter().filter(|(table, call)| told(call) && !gone.contains(table));
        let missing = made.find(|(table, _)| !tables.contains(table));
        if let Some((table, _)) = missing {
            return Err(Failure::new(Rule::Durable, format!("t{table} was made and is gone")));
        }
        if let Some((table, _)) = self.history.drops.iter().find(|(table, call)| told(call) && tables.contains(table)) {
            return Err(Failure::new(Rule::Durable, format!("t{table} was dropped and is there")));
        }
        let called = |table: &u8| self.history.tables.get(table).is_some_and(|call| call.called.event <= birth);
        if let Some(table) = tables.iter().find(|table| !called(table)) {
            return Err(Failure::new(Rule::NoFuture, format!("t{table} is there and was not called for")));
        }
        for (table, call) in self.history.renames.iter().filter(|(table, _)| tables.contains(table)) {
            let renamed = names.contains(&other_name(*table));
            if told(call) && !renamed {
                return Err(Failure::new(Rule::Durable, format!("t{table} was renamed and has its old name")));
            }
            if call.called.event > birth && renamed {
                return Err(Failure::new(Rule::NoFuture, format!("t{table} has the name that it gets later")));
            }
        }
        match names.len() == tables.len() {
            true => Ok(()),
            false => Err(Failure::new(Rule::Prefix, format!("there are the tables {names:?}"))),
        }
    }

    fn open(&self, disk: &SimDisk, home: &Path, rule: Rule) -> Result<(Vec<String>, Lists), Failure> {
        let vfs = Arc::new(disk.clone());
        let refused = |e: String| Failure::new(rule, format!("{} does not open: {e}", home.display()));
        let db = ordinary::open(vfs, home, self.settings).map_err(|e| refused(e.to_string()))?;
        ordinary::dump(&db, self.settings.pad).map_err(refused)
    }

    /// What an image of this life may hold.
    fn bounds(&self, birth: u64, death: u64) -> Bounds {
        let commits = &self.order.commits;
        let most = commits.iter().position(|c| c.called.event > birth).unwrap_or(commits.len());
        let mut bounds = Bounds { least: 0, most, why: String::new() };
        let mut at_least = |n: usize, why: &dyn Fn() -> String| {
            if n > bounds.least {
                (bounds.least, bounds.why) = (n, why());
            }
        };
        for (at, c) in commits.iter().enumerate().filter(|(_, c)| c.level == Some(Level::Sync)) {
            if c.acked.event <= death {
                at_least(at + 1, &|| format!("T{} was told that it is durable", c.id));
            }
            let seen = self.history.txns.iter().find(|t| t.opened.event <= death && t.snapshot >= c.seq);
            if let Some(reader) = seen {
                at_least(at + 1, &|| format!("T{} had seen T{}, which is durable", reader.id, c.id));
            }
        }
        for call in self.history.syncs.iter().filter(|s| s.acked.is_some_and(|acked| acked.event <= death)) {
            at_least(self.order.told_before(call.called.tick), &|| "everything had been made durable".to_owned());
        }
        bounds
    }

    fn state(&self, lists: &Lists, bounds: &Bounds, gone: &BTreeSet<u8>) -> Result<(), Failure> {
        let Some((first, last)) = self.order.find(lists, gone) else {
            let order: Vec<String> = self.order.commits.iter().map(|c| format!("T{}", c.id)).collect();
            let text = format!("{lists:?} is no state between the commits {}", order.join(", "));
            return Err(Failure::new(Rule::Prefix, text));
        };
        if last < bounds.least {
            let id = self.order.commits[last].id;
            let text = format!("the first {last} commits are there, T{id} is not, of {}: {}", bounds.least, bounds.why);
            return Err(Failure::new(Rule::Durable, text));
        }
        if first > bounds.most {
            let text = format!("T{} is there and was not called for", self.order.commits[first - 1].id);
            return Err(Failure::new(Rule::NoFuture, text));
        }
        Ok(())
    }

    /// Opens the finished copies.
    ///
    /// # Errors
    /// K1.
    pub fn copies(&self, dst: &SimDisk) -> Result<u64, Failure> {
        let finished = self.history.copies.iter().filter(|(_, (_, done))| *done);
        let mut judged = 0;
        for (number, (call, _)) in finished {
            let (_, lists) = self.open(dst, Path::new(&format!("/b{number}")), Rule::FullModel)?;
            let opened = call.acked.map_or(u64::MAX, |acked| acked.tick);
            let (least, most) = (self.order.told_before(call.called.tick), self.order.called_before(opened));
            let why = "it was told before the backup was called".to_owned();
            let judge = self.state(&lists, &Bounds { least, most, why }, &self.history.dropped(u64::MAX));
            judge.map_err(|f| Failure::new(Rule::FullModel, format!("copy b{number}: {}", f.text)))?;
            judged += 1;
        }
        Ok(judged)
    }

    /// Opens what the last close left: nothing is missing, and the verifier finds nothing.
    ///
    /// # Errors
    /// What it finds.
    pub fn closed(&self, src: &SimDisk) -> Result<(), Failure> {
        let refused = |e: String| Failure::new(Rule::OpenOk, format!("after the close: {e}"));
        let db = ordinary::open(Arc::new(src.clone()), Path::new(HOME), self.settings);
        let db = db.map_err(|e| refused(e.to_string()))?;
        let (_, lists) = ordinary::dump(&db, self.settings.pad).map_err(refused)?;
        let gone = self.history.dropped(u64::MAX);
        if self.order.states.last().map(|last| without(last, &gone)) != Some(without(&lists, &gone)) {
            return Err(Failure::new(Rule::Durable, format!("after the close there is {lists:?}")));
        }
        let report = db.verify(&strandline::VerifyOptions::default()).map_err(|e| refused(e.to_string()))?;
        let damage = report.findings.iter().find(|f| f.severity == strandline::Severity::Damage);
        damage.map_or(Ok(()), |f| Err(Failure::new(Rule::Verify, f.to_string())))
    }
}

/// A failure with what the exploration says of its image: the report but for its first line and its tape, which are ours.
fn in_words(failure: Failure, report: &str) -> Failure {
    let lines = report.lines().skip(1).filter(|line| !line.trim_start().starts_with("tape"));
    let text = lines.fold(failure.text, |text, line| text + "\n" + line);
    Failure { text, ..failure }
}

/// How hard to look for one run: `width` images for each barrier.
#[must_use]
pub fn limits(width: usize, checks: u64, seed: u64) -> Limits {
    let first = disk::Limits { choices: width, product: 16, pairs: 0, random: width / 4, seed };
    Limits {
        first,
        nested: disk::Limits::canonical(4),
        crashes: 1,
        damaged: 0,
        damage: Vec::new(),
        checks,
        failures: 1,
    }
}

/// Everything there is to judge about a run.
///
/// # Errors
/// The first promise that broke.
pub fn judge(outcome: &Outcome, settings: &Settings, limits: &Limits) -> Result<Verdict, Failure> {
    if let Some(failure) = outcome.broken.clone().or_else(|| outcome.history.failure.clone()) {
        return Err(failure);
    }
    let history = &outcome.history;
    let order = Order::of(history)?;
    order.check(history)?;
    let skew = crate::cycles::check(history)?;
    let court = Court { history, order: &order, settings };
    let images = court.crash(&outcome.src, limits)?;
    let copies = court.copies(&outcome.dst)?;
    court.closed(&outcome.src)?;
    Ok(Verdict { images, copies, skew })
}

/// What a clean run was judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Images that were opened.
    pub images: u64,
    /// Copies that were opened.
    pub copies: u64,
    /// The history holds write skew.
    pub skew: bool,
}
