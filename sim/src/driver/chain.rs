//! Increments of blocks: where they start, what they must bring, and what refuses them.
//!
//! An increment is judged three times. While it is made, nothing changes at the source. When it is applied, the copy must
//! be, in everything that counts, the full copy that could have been made at the same pin: that *shadow* is read from the
//! source for free, behind the engine's back. And whatever a power cut leaves of the copy in between is judged afterwards,
//! like every copy. What does not fit must be refused by the right word before a byte of the copy changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::Vfs;

use super::births::memory;
use super::copying::Wanted;
use super::fleet::Fleet;
use super::session::{Session, Step, expect, refusal, told};
use super::world::{Copy, Failure, Increment, Rolled, Seen, Stage};
use crate::disk::{Act, Call, Fault};
use crate::engine::{self, Answer, Files, Home, Since};
use crate::model::{Origin, Refusal, TableSet, Visible, summary, text_hash};
use crate::oracle::{Rule, observe};
use crate::workload::{From, label_name, table_name};

/// One number for what a set of tables holds.
pub(super) fn summary_hash(tables: &TableSet) -> u128 {
    text_hash(format!("{:?}", summary(tables)).as_bytes())
}

/// What applying an increment to a copy comes to.
enum Fit {
    /// The copy is of the new state.
    Rolls,
    /// It was there already.
    Stays,
    /// It is refused by one of these words.
    Refused(Vec<Refusal>),
}

/// Which answers are right.
type Answers = Vec<Result<(), Refusal>>;

impl Session<'_, '_> {
    /// What to ask for, and which answers are right as far as it decides.
    pub(super) fn resolve(&self, from: Option<From>, name: Option<&str>) -> Result<(Option<Since>, Answers), Failure> {
        let Some(from) = from else { return Ok((None, vec![Ok(())])) };
        let lineage = self.db.lineage();
        let highest = self.world.seen.iter().map(|s| s.origin.number).max().unwrap_or(0);
        let named = name.map(|name| self.db.number_of(Some(name))).transpose();
        let copied = named.map_err(|f| Failure::new(Rule::Contract, f.text))?.unwrap_or(u64::MAX);
        let labels = &self.world.live.checkpoints.labels;
        Ok(match from {
            From::Foreign => {
                let origin = Origin { lineage: 77, number: 1 << 20 };
                (Some(Since::Origin(origin)), vec![Err(Refusal::WrongBase)])
            }
            From::Future => {
                // Higher than any number that was given or will be; released ones end below it.
                let origin = Origin { lineage, number: highest + (1 << 40) };
                (Some(Since::Origin(origin)), vec![Err(Refusal::NotFound)])
            }
            From::Label(n) => {
                let label = label_name(n);
                let allowed = match labels.get(&label) {
                    None => vec![Err(Refusal::NotFound)],
                    Some(origin) if origin.number > copied => vec![Err(Refusal::Invalid)],
                    // Every origin that is listed works (BI-7).
                    Some(_) => vec![Ok(())],
                };
                (Some(Since::Label(label)), allowed)
            }
            From::Seen(n) => {
                let Some(seen) = self.seen_from(usize::from(n)) else { return Ok((None, vec![Ok(())])) };
                (Some(Since::Origin(seen.origin)), self.works(seen, copied))
            }
        })
    }

    fn seen_from(&self, n: usize) -> Option<&Seen> {
        let all = &self.world.seen;
        all.len().checked_sub(1 + n % all.len().max(1)).map(|at| &all[at])
    }

    /// Whether an increment up to `copied` may start there.
    fn works(&self, seen: &Seen, copied: u64) -> Vec<Result<(), Refusal>> {
        let labelled = self.world.live.checkpoints.labels.values().any(|o| *o == seen.origin);
        let fine = match () {
            () if seen.lost.is_some() => Err(Refusal::WrongBase),
            () if seen.origin.number > copied => Err(Refusal::Invalid),
            () => Ok(()),
        };
        match seen.released {
            // A label that came later has brought it back.
            Some(_) if labelled => vec![fine],
            Some((_, Some(_))) if !seen.unsure => vec![Err(Refusal::NotFound)],
            Some(_) => vec![fine, Err(Refusal::NotFound)],
            None if seen.unsure => vec![fine, Err(Refusal::NotFound), Err(Refusal::WrongBase)],
            None => vec![fine],
        }
    }

    /// The full copy that could be made now, behind the engine's back.
    pub(super) fn take_shadow(&mut self) -> Option<Arc<Files>> {
        if self.shadow.is_none() {
            let contents = self.world.src.contents();
            let read = |path: &Path| {
                let path = path.strip_prefix("/").unwrap_or(path);
                let path: PathBuf = path.components().skip(1).collect();
                let same = |p: &PathBuf| p.strip_prefix("/").unwrap_or(p) == path;
                contents.iter().find(|(p, _)| same(p)).and_then(|(_, bytes)| bytes.clone())
            };
            self.shadow = self.backup.as_ref().and_then(|b| b.shadow(read)).map(Arc::new);
        }
        self.shadow.clone()
    }

    /// A whole link of a chain.
    pub(super) fn link(&mut self, from: u8, how: u8, fresh: bool, hurt: u8) -> Step {
        if self.backup.is_some() {
            return Ok(());
        }
        let Some(copy) = self.copy_to_roll() else {
            let full = Wanted { name: None, fresh, since: None, label: None, shape: 0 };
            self.open_backup(&full)?;
            self.copy(how)?;
            return self.end_backup(false);
        };
        // The state of the copy, or an earlier one.
        let base = self.world.copies[copy].origin;
        let number = |s: &Seen| s.origin.number <= base.number && s.lost.is_none() && s.released.is_none() && !s.unsure;
        let fit: Vec<usize> = (0..self.world.seen.len()).rev().filter(|n| number(&self.world.seen[*n])).collect();
        let Some(&at) = fit.get(usize::from(from) % fit.len().max(1)) else { return Ok(()) };
        let back = self.world.seen.len() - 1 - at;
        let since = Some(From::Seen(back as u8));
        self.open_backup(&Wanted { name: None, fresh, since, label: None, shape: how / 3 % 5 })?;
        self.copy(how)?;
        self.end_backup(how % 7 == 6)?;
        let made = self.world.increments.len() - 1;
        if from > 0 {
            self.world.mark("increment from an older origin");
        }
        self.apply_to(made, copy, hurt)
    }

    /// Copies what the open backup lists, in one of three ways.
    fn copy(&mut self, how: u8) -> Step {
        match how % 3 {
            0 => self.copy_all(),
            1 => self.copy_step(u16::MAX),
            _ => self.stream(),
        }
    }

    /// The newest copy that increments of blocks may be applied to.
    fn copy_to_roll(&self) -> Option<usize> {
        let fits = |c: &Copy| c.is_complete() && c.spoiled.is_none() && !c.targeted && c.rolled != Some(Rolled::Log);
        self.world.copies.iter().rposition(fits)
    }

    /// Any increment, any copy.
    pub(super) fn apply_any(&mut self, increment: u8, copy: u8) -> Step {
        let whole: Vec<usize> =
            (0..self.world.increments.len()).rev().filter(|n| self.world.increments[*n].acked.is_some()).collect();
        let there: Vec<usize> = (0..self.world.copies.len()).rev().filter(|n| self.is_there(*n)).collect();
        let pick = |of: &[usize], n: u8| of.get(usize::from(n) % of.len().max(1)).copied();
        match (pick(&whole, increment), pick(&there, copy)) {
            (Some(increment), Some(copy)) => self.apply_to(increment, copy, 0),
            _ => Ok(()),
        }
    }

    fn is_there(&self, copy: usize) -> bool {
        self.world.copies[copy].is_complete() && self.copying.is_none()
    }

    fn fits(&self, increment: &Increment, copy: &Copy) -> Fit {
        let (base, new) = (copy.origin, increment.origin);
        match () {
            () if copy.spoiled.is_some() || copy.targeted => Fit::Refused(vec![Refusal::WrongBase]),
            () if copy.rolled == Some(Rolled::Log) => Fit::Refused(vec![Refusal::Invalid, Refusal::WrongBase]),
            () if increment.since.number > base.number || base.number > new.number => {
                Fit::Refused(vec![Refusal::WrongBase])
            }
            // Of one checkpoint, the longer log is the later state.
            () if base == new && !self.is_longer(increment, copy) => Fit::Stays,
            () => Fit::Rolls,
        }
    }

    /// Whether the increment brings a log that goes further than the copy's.
    fn is_longer(&self, increment: &Increment, copy: &Copy) -> bool {
        self.log_end(&increment.dir) > self.log_end(&copy.dir)
    }

    fn log_end(&self, dir: &Path) -> Option<(u32, u32)> {
        engine::told(self.files_of(dir).get(engine::MANIFEST)?)?.log_end
    }

    /// Applies an increment to a copy, interrupted before if `hurt` says so, and compares.
    fn apply_to(&mut self, increment: usize, number: usize, hurt: u8) -> Step {
        let (made, copy) = (self.world.increments[increment].clone(), self.world.copies[number].clone());
        let fleet: Arc<dyn Vfs> = self.world.fleet.clone();
        let fit = self.fits(&made, &copy);
        if let Fit::Refused(words) = &fit {
            let before = self.files_of(&copy.dir);
            let answer = engine::apply(&fleet, &made.dir, &copy.dir);
            let allowed: Vec<Result<(), Refusal>> = words.iter().map(|w| Err(*w)).collect();
            told(expect(Rule::Refuse, &refusal(&answer, |()| ()), &allowed), &answer)?;
            self.world.mark("increment refused by a copy");
            let same = before == self.files_of(&copy.dir);
            return expect(Rule::Refuse, &same, &[true]).map_err(|f| f.at("whether a refusal left the copy alone"));
        }
        let rolls = matches!(fit, Fit::Rolls);
        let base = self.files_of(&copy.dir);
        if rolls {
            self.check_report(&made, &copy.dir, &base, &self.files_of(&made.dir))?;
        }
        let begun = self.world.dst.event();
        if rolls {
            let (expected, dir) = (made.expected.clone(), Some(made.dir.clone()));
            let next = Stage { expected, origin: made.origin, increment: dir, begun, acked: None };
            self.world.copies[number].stages.push(next);
            if hurt > 0 {
                self.interrupt(&made.dir, &copy.dir, hurt)?;
            }
        }
        let answer = engine::apply(&fleet, &made.dir, &copy.dir);
        told(expect(Rule::ChainFull, &refusal(&answer, |()| ()), &[Ok(())]), &answer)?;
        if !rolls {
            self.world.mark("increment that was there already");
            return self.check_copy(&copy.dir);
        }
        let rolled = &mut self.world.copies[number];
        (rolled.origin, rolled.log) = (made.origin, made.log);
        (rolled.rolled, rolled.links) = (Some(Rolled::Blocks), copy.links + 1);
        let links = rolled.links;
        if self.backup.is_some() && self.world.live.backup.as_ref().is_some_and(|open| open.origin == made.origin) {
            let open = increment + 1 == self.world.increments.len();
            self.made.extend(open.then_some(number));
        } else {
            self.world.copies[number].log = made.log.filter(|_| self.world.config.keep);
        }
        self.copy_is_complete(number);
        self.world.mark("increment applied");
        for (reached, mark) in [(2, "chain of 2"), (3, "chain of 3"), (5, "chain of 5"), (10, "chain of 10")] {
            if links == reached {
                self.world.mark(mark);
            }
        }
        self.check_copy(&copy.dir)?;
        self.check_chain(&made, &copy.dir, &base, copy.origin == made.origin)
    }

    /// Begins to apply, and is stopped on the way.
    fn interrupt(&mut self, increment: &Path, copy: &Path, hurt: u8) -> Step {
        let fleet: Arc<dyn Vfs> = self.world.fleet.clone();
        let after = u64::from(hurt / 4);
        let calls = [Call::Create, Call::Write, Call::SetLen, Call::SyncAll, Call::SyncDir, Call::Rename, Call::Remove];
        let answer = match hurt % 4 {
            0 => engine::apply_some(&fleet, increment, copy, (hurt / 4).into()),
            1 => {
                self.world.dst.set_quota(Some(self.world.dst.used() + after / 4 * 4096));
                engine::apply(&fleet, increment, copy)
            }
            2 => {
                self.world.dst.inject(Fault::nth(&[Call::Write], after, Act::Error(std::io::ErrorKind::Other)));
                engine::apply(&fleet, increment, copy)
            }
            _ => {
                self.world.dst.inject(Fault::nth(&calls, after, Act::Error(std::io::ErrorKind::Other)));
                engine::apply(&fleet, increment, copy)
            }
        };
        self.world.dst.set_quota(None);
        self.world.dst.clear_faults();
        let got = refusal(&answer, |()| ());
        let allowed = [Ok(()), Err(Refusal::Damage), Err(Refusal::Other)];
        told(expect(Rule::Contract, &got, &allowed), &answer)?;
        if got.is_err() {
            self.world.mark("interrupted apply");
        }
        Ok(())
    }

    /// Names and bytes of a directory of the second disk, or of the first where the copies are there.
    fn files_of(&self, dir: &Path) -> Files {
        files_of(&self.world.dst.contents(), dir)
    }

    /// The copy is what a full copy at the same pin would be.
    fn check_chain(&self, made: &Increment, dir: &Path, base: &Files, same: bool) -> Step {
        let Some(shadow) = &made.shadow else { return Ok(()) };
        let chain = self.files_of(dir);
        let told = |files: &Files| files.get(engine::MANIFEST).and_then(|bytes| engine::told(bytes));
        let (Some(has), Some(wants)) = (told(&chain), told(shadow)) else {
            return Err(Failure::new(Rule::ChainFull, "a chain has no manifest that can be read"));
        };
        expect(Rule::Members, &has.tables, std::slice::from_ref(&wants.tables)).map_err(|f| f.at("tables"))?;
        expect(Rule::Members, &has.files, std::slice::from_ref(&wants.files)).map_err(|f| f.at("files"))?;
        expect(Rule::ChainFull, &has.checkpoints, &[wants.checkpoints]).map_err(|f| f.at("checkpoints"))?;
        expect(Rule::ChainFull, &(same || has.root == wants.root), &[true])
            .map_err(|f| f.at("whether the roots agree"))?;
        // Somebody may have laid segments beside the copy that it never needed; those stay.
        let laid = |name: &str| name.starts_with("StrandlineLog.") && base.contains_key(name);
        let strangers = chain.keys().find(|name| !shadow.contains_key(*name) && !laid(name));
        expect(Rule::Members, &strangers, &[None]).map_err(|f| f.at("a file that is not listed"))?;
        self.check_bytes(dir, &chain, shadow)?;
        let shows = self.shows(dir, &chain)?;
        let full = || self.shows(dir, shadow);
        if shows == made.expected.fingerprint() {
            return Ok(());
        }
        let rule = if full()? == made.expected.fingerprint() { Rule::ChainFull } else { Rule::FullModel };
        Err(Failure::new(rule, format!("a chain does not show what it should: {}", made.expected)))
    }

    /// The digest of what a copy shows when it is opened somewhere else.
    fn shows(&self, dir: &Path, files: &Files) -> Result<u128, Failure> {
        let failed = |text: String| Failure::new(Rule::ChainFull, text);
        let vfs = memory(dir, files).map_err(|e| failed(format!("a copy cannot be laid down: {e}")))?;
        let config = self.world.config.clone();
        let home = Home { vfs: Arc::new(vfs), dir: dir.to_owned(), config, create: false, salt: 99, log: None };
        let db = engine::open(&home).map_err(|f| failed(format!("a chain does not open: {}", f.text)))?;
        let shown = observe::show(&db).map_err(|f| failed(format!("a chain does not read: {}", f.text)))?;
        Ok(shown.fingerprint)
    }

    /// An origin or a label is given up.
    pub(super) fn release(&mut self, what: Option<From>) -> Step {
        let (since, mut allowed) = self.resolve(what, None)?;
        if what.is_some() && since.is_none() {
            return Ok(());
        }
        if self.owed {
            self.checkpoint(None, &[], true)?;
            self.owed = false;
        }
        // It is no question of whether an increment could start there now, but of whether it is known.
        if let Some(Since::Origin(_)) = &since {
            allowed = allowed.into_iter().map(|a| if a == Err(Refusal::NotFound) { a } else { Ok(()) }).collect();
            if matches!(what, Some(From::Future)) {
                allowed = vec![Ok(())];
            }
        }
        if let Some(Since::Label(label)) = &since {
            let known = self.world.live.checkpoints.labels.contains_key(label);
            allowed = vec![if known { Ok(()) } else { Err(Refusal::NotFound) }];
        }
        // Releasing what never was keeps nobody from anything.
        if matches!(what, Some(From::Future | From::Foreign)) {
            return Ok(());
        }
        let at = self.world.src.event();
        let gone = |s: &Seen| match &since {
            None => true,
            Some(Since::Origin(origin)) => s.origin == *origin,
            Some(Since::Label(_)) => false,
        };
        let before = self.world.seen.clone();
        let may = allowed.contains(&Ok(()));
        let mut next = self.world.live.checkpoints.clone();
        if may {
            next.relabel(|labels| match &since {
                None => labels.clear(),
                Some(Since::Label(label)) => labels.retain(|known, _| known != label),
                Some(Since::Origin(origin)) => labels.retain(|_, o| o != origin),
            });
            self.world.history.begin(next.visible(), at, "release of origins", false);
            let going = self.world.seen.iter_mut().filter(|s| gone(s) && s.released.is_none());
            going.for_each(|s| s.released = Some((at, None)));
        }
        let answer = self.db.release(since.as_ref());
        let got = refusal(&answer, |()| ());
        told(expect(Rule::IdLife, &got, &allowed), &answer)?;
        if got.is_err() {
            if may {
                self.world.history.cancel();
                self.world.seen = before;
            }
            return Ok(());
        }
        self.ack_point();
        let acked = Some(self.world.src.event());
        for seen in self.world.seen.iter_mut().filter(|s| gone(s)) {
            seen.released = seen.released.map(|(at, before)| (at, before.or(acked)));
        }
        self.world.live.checkpoints = next;
        self.world.mark("origins released");
        Ok(())
    }

    /// Restores a copy, or one table of it, into a directory of its own: that is a copy like others.
    pub(super) fn restore(&mut self, copy: u8, table: Option<u8>) -> Step {
        let there: Vec<usize> = (0..self.world.copies.len()).rev().filter(|n| self.is_there(*n)).collect();
        let Some(&from) = there.get(usize::from(copy) % there.len().max(1)) else { return Ok(()) };
        let from = self.world.copies[from].clone();
        let Some(stage) = from.stages.last().filter(|_| from.spoiled.is_none() && !from.targeted) else {
            return Ok(());
        };
        let name = table.map(table_name);
        let mut expected = stage.expected.clone();
        if let Some(name) = &name {
            // What the log does to the names of tables is another story.
            if self.log_end(&from.dir).is_some() {
                return Ok(());
            }
            match only(&expected, name) {
                Some(only) => expected = only,
                None => {
                    let dir = self.world.shelf.join("restored-nothing");
                    let fleet: Arc<dyn Vfs> = self.world.fleet.clone();
                    let answer = engine::restore(&fleet, &from.dir, &dir, Some(name));
                    return told(expect(Rule::Point, &refusal(&answer, |()| ()), &[Err(Refusal::NotFound)]), &answer);
                }
            }
        }
        let number = self.world.copies.len();
        let dir = self.world.new_place("restored");
        let begun = self.world.dst.event();
        let stages = vec![Stage { expected, origin: from.origin, increment: None, begun, acked: None }];
        // A part of a copy takes no increments.
        let targeted = name.is_some();
        let spare = Copy { dir: dir.clone(), stages, log: None, targeted, ..from.clone() };
        self.world.copies.push(spare);
        let fleet: Arc<dyn Vfs> = self.world.fleet.clone();
        let answer: Answer<()> = engine::restore(&fleet, &from.dir, &dir, name.as_deref());
        told(expect(Rule::Point, &refusal(&answer, |()| ()), &[Ok(())]), &answer)?;
        self.copy_is_complete(number);
        self.world.mark(if name.is_some() { "restore of one table" } else { "restore" });
        let files = self.files_of(&dir);
        let shows = self.shows(&dir, &files)?;
        let wanted = &self.world.copies[number].stages[0].expected;
        let rule = if name.is_some() { Rule::Point } else { Rule::FullModel };
        let text = format!("what was restored does not show {wanted}");
        if shows != wanted.fingerprint() {
            return Err(Failure::new(rule, text));
        }
        Ok(())
    }

    /// Somebody opens a copy as a database.
    pub(super) fn spoil(&mut self, copy: u8) -> Step {
        let there: Vec<usize> = (0..self.world.copies.len()).rev().filter(|n| self.is_there(*n)).collect();
        let Some(&number) = there.get(usize::from(copy) % there.len().max(1)) else { return Ok(()) };
        if self.world.copies[number].spoiled.is_some() {
            return Ok(());
        }
        let at = self.world.dst.event();
        self.world.copies[number].spoiled = Some(at);
        self.world.copies[number].log = None;
        let dir = self.world.copies[number].dir.clone();
        let vfs = Arc::new(Fleet::clone(&self.world.fleet));
        let config = self.world.config.clone();
        let home = Home { vfs, dir, config, create: false, salt: 1000 + at, log: None };
        let failed = |f: engine::Fault| Failure::new(Rule::FullModel, format!("a copy does not open: {}", f.text));
        let db = engine::open(&home).map_err(failed)?;
        let (lineage, ours) = (db.lineage(), self.db.lineage());
        if lineage == ours {
            return Err(Failure::new(Rule::SeqOnce, "a copy that was opened goes on under the name of its source"));
        }
        db.close().map_err(failed)?;
        self.world.mark("copy opened");
        Ok(())
    }
}

/// Names and bytes of a directory, from the contents of its disk.
pub(super) fn files_of(contents: &[(PathBuf, Option<Vec<u8>>)], dir: &Path) -> Files {
    let dir: PathBuf = dir.components().skip(2).collect();
    let member = |path: &PathBuf| {
        let path = path.strip_prefix("/").unwrap_or(path);
        path.parent().filter(|p| *p == dir)?;
        path.file_name().map(|n| n.to_string_lossy().into_owned())
    };
    contents.iter().filter_map(|(path, bytes)| Some((member(path)?, bytes.clone()?))).collect()
}

/// What is left when only one table is restored; `None` when the state has none of that name.
fn only(all: &Visible, name: &str) -> Option<Visible> {
    let id = all.latest.get(name)?.table();
    let mut out = all.clone();
    out.latest.retain(|_, rows| rows.table() == id);
    for (_, tables) in &mut out.named {
        tables.retain(|_, rows| rows.table() == id);
    }
    out.unlogged.retain(|t| *t == id);
    Some(out)
}
