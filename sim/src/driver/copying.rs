//! Backups: opened, copied by the engine, by a foreign program or through a pipe, and ended.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::{File, OpenOptions, Vfs};

use super::chain::summary_hash;
use super::session::{Session, Step, expect, refusal, told};
use super::world::{Base, Copy, Failure, Increment, Rolled, Stage};
use crate::disk::Call;
use crate::engine::{self, Ask, Item, Since};
use crate::model::{OpenBackup, Refusal};
use crate::oracle::Rule;
use crate::workload::{From, Trouble, checkpoint_name, label_name};

/// Bytes that the foreign copier moves at once.
const PIECE: u64 = 4096;

/// A foreign program at work: it copies the listed files piece by piece, while the database works on.
pub struct Copying {
    dir: PathBuf,
    items: Vec<Item>,
    manifest: Vec<u8>,
    at: usize,
    /// The range of the item that is at work, and the offset in it.
    range: (usize, u64),
    /// Bytes of the item that were copied.
    stored: u64,
    made: Made,
    /// Checksums are added in the end.
    seal: bool,
}

/// What comes of copying.
#[derive(Clone, Copy)]
enum Made {
    Copy(usize),
    Increment(usize),
}

/// What an operation asks of a backup.
pub(super) struct Wanted {
    pub name: Option<u8>,
    pub fresh: bool,
    pub since: Option<From>,
    pub label: Option<u8>,
    pub shape: u8,
}

impl Session<'_, '_> {
    pub(super) fn open_backup(&mut self, ask: &Wanted) -> Step {
        let name = ask.name.map(checkpoint_name);
        let live = &self.world.live;
        let unknown = name.as_ref().is_some_and(|n| live.checkpoints.named(n).is_none());
        let label = ask.label.map(label_name);
        let in_use = label.as_ref().is_some_and(|l| live.checkpoints.labels.contains_key(l));
        let (since, fits) = self.resolve(ask.since, name.as_deref())?;
        let mut allowed: Vec<Result<(), Refusal>> = Vec::new();
        allowed.extend(live.backup.is_some().then_some(Err(Refusal::Busy)));
        allowed.extend(unknown.then_some(Err(Refusal::NotFound)));
        allowed.extend(in_use.then_some(Err(Refusal::Invalid)));
        allowed.extend(fits.iter().filter(|f| f.is_err()));
        if fits.contains(&Ok(())) && live.backup.is_none() && !unknown && !in_use {
            allowed.push(Ok(()));
        }
        let may = allowed.contains(&Ok(()));
        let fresh = ask.fresh && name.is_none() && may;
        let taken = crate::model::Taken::default();
        self.world.src.mark("backup called");
        if fresh {
            let visible = self.world.live.after_checkpoint(None, &taken);
            self.begin_point(visible, "fresh checkpoint");
        }
        let asked = Ask { name: name.clone(), fresh, since: since.clone(), label: label.clone(), shape: ask.shape };
        let (from, pins) = (self.world.src.event(), self.db.pins());
        let before = self.db.number_of(None).ok();
        let answer = self.db.backup(&asked);
        let got = refusal(&answer, |_| ());
        told(expect(Rule::Contract, &got, &allowed), &answer)?;
        self.world.src.mark("backup opened");
        let Ok(backup) = answer else {
            return expect(Rule::Close, &self.db.pins().ok(), &[pins.ok()]).map_err(|f| f.at("after a refusal"));
        };
        if fresh && before == Some(backup.origin().number) {
            // Nothing had changed: the newest checkpoint, whatever its name, is as good as a new one.
            self.world.history.cancel();
            let unchanged = self.world.live.changed.is_empty() || self.owed;
            expect(Rule::Contract, &unchanged, &[true])?;
        } else if fresh {
            self.ack_point();
            self.world.live.checkpoint(None, &taken);
        } else {
            self.only_declared(from, "opening a backup")?;
        }
        if self.world.config.pinned {
            let at = self.world.src.event();
            self.world.history.pin(at);
            self.world.pinned_at = Some(at);
        }
        if self.world.logging && self.world.config.keep && name.is_none() && since.is_none() {
            self.world.base = Base::There;
        }
        let (origin, name) = (backup.origin(), name.as_deref());
        self.world.live.open_backup(name);
        let Some(open) = &mut self.world.live.backup else { return Ok(()) };
        let held = name.is_none().then(|| summary_hash(&open.copy.latest));
        (open.origin, open.label, open.shape) = (origin, label, ask.shape);
        open.since = since.map(|since| match since {
            Since::Origin(origin) => origin,
            Since::Label(label) => self.world.live.checkpoints.labels.get(&label).copied().unwrap_or_default(),
        });
        if self.world.logging && name.is_none() {
            open.copy = self.world.history.listed();
            open.log = Some((self.world.history.era(), self.world.history.from()));
        }
        expect(Rule::IdLife, &origin.lineage, &[self.db.lineage()]).map_err(|f| f.at("the origin of a backup"))?;
        let number = self.db.number_of(name).map_err(|f| Failure::new(Rule::IdLife, f.text))?;
        // Below 1 there are only changes of the catalog, which are not listed.
        if number > 0 {
            expect(Rule::IdLife, &origin.number, &[number]).map_err(|f| f.at("the origin of a backup"))?;
        }
        let since = open.since;
        self.world.see(origin, held)?;
        // What is pinned itself no crash takes back.
        self.world.seen.iter_mut().filter(|s| s.origin == origin).for_each(|s| s.under_pin = None);
        self.world.mark(if since.is_some() { "incremental backup" } else { "backup" });
        self.backup = Some(backup);
        self.shadow = None;
        Ok(())
    }

    /// Since event `from` nothing was changed at the source but the pin and the log.
    pub(super) fn only_declared(&self, from: u64, what: &str) -> Step {
        let declared = |path: &Path| {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            name.starts_with("Strandline.root") || name.starts_with("StrandlineLog.") || path == Path::new("/db")
        };
        let events = self.world.src.events();
        let changed = events.iter().rev().take_while(|e| e.index >= from);
        match changed.filter(|e| e.call.changes() && e.call != Call::Mark && !declared(&e.path)).last() {
            None => Ok(()),
            Some(e) => Err(Failure::new(Rule::ReadOnly, format!("{what} changes something else: {e}"))),
        }
    }

    pub(super) fn end_backup(&mut self, forget: bool) -> Step {
        self.copying = None;
        let label = self.world.live.backup.as_ref().and_then(|open| open.label.clone());
        // A guard that is dropped cannot tell that the disk failed.
        let forget = forget && self.world.trouble.is_none();
        let label = label.filter(|_| !forget && self.backup.is_some());
        if label.is_some() && self.owed {
            self.checkpoint(None, &[], true)?;
            self.owed = false;
        }
        let Some(backup) = self.backup.take() else { return Ok(()) };
        self.world.src.mark("backup ends");
        let at = self.world.src.event();
        self.world.history.unpin_called(at);
        let mut next = self.world.live.checkpoints.clone();
        if let Some(label) = &label {
            let origin = backup.origin();
            next.relabel(|labels| labels.extend([(label.clone(), origin)]));
            self.world.history.begin(next.visible(), at, format!("label {label}"), false);
        }
        let mut answer = Ok(());
        if forget {
            drop(backup);
        } else {
            answer = backup.finish();
        }
        let full = self.world.trouble == Some(Trouble::Full) && label.is_some();
        if !full {
            told(expect(Rule::Contract, &refusal(&answer, |()| ()), &[Ok(())]), &answer)?;
        }
        self.world.src.mark("backup ended");
        let at = self.world.src.event();
        self.world.history.unpin_acked(at);
        self.world.live.end_backup();
        if let Some(opened) = self.world.pinned_at.take() {
            self.world.unpinned.insert(opened, at);
        }
        self.made.clear();
        self.shadow = None;
        told(expect(Rule::Contract, &refusal(&answer, |()| ()), &[Ok(())]), &answer)?;
        if label.is_some() {
            let at = self.world.src.event();
            self.world.history.ack(at);
            next.unpin();
            self.world.live.checkpoints = next;
            self.world.mark("label");
        }
        let pins = self.db.pins().map_err(|f| Failure::new(Rule::Close, f.text))?;
        let views = self.views.len();
        if pins > views {
            return Err(Failure::new(Rule::Close, format!("{pins} pins are left with {views} views open")));
        }
        Ok(())
    }

    /// Registers a copy, or an increment, that is about to be made.
    fn new_copy(&mut self, how: &str) -> Option<(Made, PathBuf)> {
        let open = self.world.live.backup.clone()?;
        let begun = self.world.dst.event();
        let OpenBackup { copy: expected, log, origin, since, shape, .. } = open;
        if let Some(since) = since {
            let number = self.world.increments.len();
            let dir = self.world.shelf.join(format!("{}increment-{number}", self.world.place));
            let shadow = self.take_shadow();
            let dir_of = dir.clone();
            let made = Increment { dir: dir_of, since, origin, expected, log, shadow, shape, begun, acked: None };
            self.world.increments.push(made);
            return Some((Made::Increment(number), dir));
        }
        let number = self.world.copies.len();
        let dir = self.world.new_place(how);
        let first = Stage { expected, origin, increment: None, begun, acked: None };
        self.world.copies.push(Copy {
            dir: dir.clone(),
            stages: vec![first],
            sealed: how != "foreign",
            log,
            unsure: false,
            origin,
            rolled: None,
            targeted: false,
            links: 0,
            spoiled: None,
        });
        self.made.push(number);
        Some((Made::Copy(number), dir))
    }

    fn is_made(&mut self, made: Made) {
        match made {
            Made::Copy(number) => self.copy_is_complete(number),
            Made::Increment(number) => {
                self.world.dst.mark("increment made");
                self.world.increments[number].acked = Some(self.world.dst.event());
                self.world.mark("increment made");
            }
        }
    }

    pub(super) fn copy_is_complete(&mut self, number: usize) {
        self.world.dst.mark("copied");
        let at = self.world.dst.event();
        if let Some(stage) = self.world.copies[number].stages.last_mut() {
            stage.acked = Some(at);
        }
        self.world.keep_shelf();
        self.world.mark("copy");
    }

    /// The newest copy that log increments may fit, among `some`.
    fn copy_with_log(&self, some: impl Fn(usize) -> bool) -> Option<usize> {
        let copies = self.world.copies.iter().enumerate();
        copies.rev().find(|(n, copy)| some(*n) && copy.log.is_some() && copy.is_complete()).map(|(n, _)| n)
    }

    /// A copy is about to be rolled forward to what is committed now.
    fn begin_stage(&mut self, number: usize) {
        let copy = &self.world.copies[number];
        // What the log adds, it adds to the checkpoint that was copied last.
        let base = copy.stages.iter().rfind(|s| s.increment.is_some()).or(copy.stages.first());
        let (Some(log), Some(base)) = (copy.log, base) else { return };
        let expected = self.world.history.rolled_forward(&base.expected, log);
        let begun = self.world.dst.event();
        let copy = &mut self.world.copies[number];
        let origin = copy.origin;
        copy.stages.push(Stage { expected, origin, increment: None, begun, acked: None });
    }

    /// A copy of the open backup gets the segments that were written since.
    pub(super) fn catch_up(&mut self) -> Step {
        let Some(number) = self.copy_with_log(|n| self.made.contains(&n)) else { return Ok(()) };
        let Some(mut backup) = self.backup.take() else { return Ok(()) };
        self.begin_stage(number);
        self.increments += 1;
        let dir = self.world.copies[number].dir.clone();
        let increment = self.world.shelf.join(format!("catch-up-{}-{}", self.world.opened(), self.increments));
        let fleet: Arc<dyn Vfs> = self.world.fleet.clone();
        let answer = backup.catch_up(&fleet, &increment, &dir);
        self.backup = Some(backup);
        told(expect(Rule::FullModel, &refusal(&answer, |()| ()), &[Ok(())]), &answer)?;
        self.copy_is_complete(number);
        self.world.mark("catch-up");
        self.check_copy(&dir)
    }

    /// An increment of the log is made, copied, and applied to the newest copy.
    pub(super) fn log_increment(&mut self, by_hand: bool) -> Step {
        let answer = self.db.log_backup();
        let may = self.world.logging && self.world.config.keep;
        let mut allowed = match self.world.base {
            _ if !may => vec![Err(Refusal::Invalid)],
            Base::There => vec![Ok(())],
            Base::Missing => vec![Err(Refusal::WrongBase)],
            Base::Unsure => vec![Ok(()), Err(Refusal::WrongBase)],
        };
        if may && self.world.base == Base::Missing {
            self.world.mark("increment without a full backup");
        }
        if self.world.live.backup.is_some() {
            allowed.push(Err(Refusal::Busy));
            allowed.retain(|a| a.is_err());
        }
        told(expect(Rule::Contract, &refusal(&answer, |_| ()), &allowed), &answer)?;
        let (Ok(backup), Some(number)) = (answer, self.copy_with_log(|_| true)) else { return Ok(()) };
        self.increments += 1;
        let increment = self.world.shelf.join(format!("log-{}-{}", self.world.opened(), self.increments));
        let failed = |f: engine::Fault| Failure::new(Rule::FullModel, format!("an increment is not made: {}", f.text));
        backup.copy_to(&increment).map_err(failed)?;
        backup.finish().map_err(failed)?;
        let before = self.world.copies[number].clone();
        self.begin_stage(number);
        let dir = before.dir.clone();
        let fleet: Arc<dyn Vfs> = self.world.fleet.clone();
        let applied = if by_hand {
            lay_over(&*fleet, &increment, &dir)
                .map_err(|e| Failure::new(Rule::Contract, format!("files cannot be copied: {e}")))?;
            engine::verify_copy(&fleet, &dir).map(|_| ())
        } else {
            engine::apply(&fleet, &increment, &dir)
        };
        let unsure = self.world.copies[number].unsure;
        let mut allowed = vec![Ok(())];
        if unsure || !self.world.history.logged_since(self.world.copies[number].log) {
            allowed.push(Err(Refusal::WrongBase));
        }
        if before.rolled == Some(Rolled::Blocks) {
            // LI-8; one that holds nothing new is let pass.
            allowed.push(Err(Refusal::Invalid));
            self.world.mark("increments of both kinds");
        }
        let got = refusal(&applied, |()| ());
        told(expect(Rule::FullModel, &got, &allowed), &applied)?;
        if got.is_err() {
            self.world.copies[number] = Copy { log: None, ..before };
            self.world.mark("increment that does not fit");
            if by_hand {
                // Whoever put the files there must take them away.
                self.world.copies.remove(number);
            }
            return Ok(());
        }
        // One that brought nothing new has not made it a copy of that kind.
        let by_log = engine::rolled_by_log(&fleet, &dir).then_some(Rolled::Log);
        self.world.copies[number].rolled = before.rolled.or(by_log);
        self.copy_is_complete(number);
        self.world.mark(if by_hand { "log increment, by hand" } else { "log increment" });
        self.check_copy(&dir)
    }

    pub(super) fn copy_all(&mut self) -> Step {
        let Some((made, dir)) = self.new_copy("copy") else { return Ok(()) };
        let Some(backup) = &self.backup else { return Ok(()) };
        let from = self.world.src.event();
        backup.copy_to(&dir).map_err(|f| Failure::new(Rule::FullModel, format!("copying failed: {}", f.text)))?;
        self.nothing_changed(from)?;
        self.is_made(made);
        self.check_copy(&dir)
    }

    pub(super) fn stream(&mut self) -> Step {
        let Some((made, dir)) = self.new_copy("stream") else { return Ok(()) };
        let Some(backup) = &self.backup else { return Ok(()) };
        let mut pipe = Vec::new();
        let failed = |f: engine::Fault| Failure::new(Rule::FullModel, format!("the stream failed: {}", f.text));
        backup.stream(&mut pipe).map_err(failed)?;
        let fleet: Arc<dyn Vfs> = self.world.fleet.clone();
        engine::restore_stream(&fleet, &pipe, &dir).map_err(failed)?;
        self.is_made(made);
        self.check_copy(&dir)
    }

    /// Copying has changed nothing at the source.
    fn nothing_changed(&self, from: u64) -> Step {
        let events = self.world.src.events();
        let mut since = events.iter().rev().take_while(|e| e.index >= from);
        match since.find(|e| e.call.changes() && e.call != Call::Mark) {
            None => Ok(()),
            Some(e) => Err(Failure::new(Rule::ReadOnly, format!("copying changes the source: {e}"))),
        }
    }

    pub(super) fn check_copy(&self, dir: &Path) -> Step {
        let fleet: Arc<dyn Vfs> = self.world.fleet.clone();
        let findings = engine::verify_copy(&fleet, dir).map_err(|f| Failure::new(Rule::Verify, f.text))?;
        expect(Rule::Verify, &findings, &[Vec::new()])
    }

    pub(super) fn copy_step(&mut self, pieces: u16) -> Step {
        if self.backup.is_none() {
            return Ok(());
        }
        if self.copying.is_none() {
            self.start_copying()?;
        }
        for _ in 0..pieces {
            let Some(mut copying) = self.copying.take() else { break };
            let fleet: Arc<dyn Vfs> = self.world.fleet.clone();
            let done = copying.piece(&*fleet).map_err(|e| Failure::new(Rule::Pins, format!("a copier failed: {e}")))?;
            if !done {
                self.copying = Some(copying);
                continue;
            }
            self.is_made(copying.made);
            self.world.mark("foreign copy");
            let fleet: Arc<dyn Vfs> = self.world.fleet.clone();
            // Where a rename passes through nothing, sealing puts at stake what is there.
            if copying.seal && self.world.dst.profile().replace_keeps_old {
                engine::seal(&fleet, &copying.dir)
                    .map_err(|f| Failure::new(Rule::Refuse, format!("a copy is not sealed: {}", f.text)))?;
            }
            let findings = engine::verify_copy(&fleet, &copying.dir).map_err(|f| Failure::new(Rule::Verify, f.text))?;
            expect(Rule::Verify, &findings, &[Vec::new()])?;
        }
        Ok(())
    }

    fn start_copying(&mut self) -> Step {
        let Some((made, dir)) = self.new_copy("foreign") else { return Ok(()) };
        let Some(backup) = &self.backup else { return Ok(()) };
        let failed = |e: &dyn std::fmt::Display| Failure::new(Rule::Contract, format!("cannot start to copy: {e}"));
        let (mut items, manifest) =
            (backup.items().map_err(|f| failed(&f.text))?, backup.manifest().map_err(|f| failed(&f.text))?);
        self.world.fleet.create_dir(&dir).map_err(|e| failed(&e))?;
        // Any order is right.
        let turn = self.world.copies.len() + self.world.increments.len();
        if turn % 2 == 1 {
            items.reverse();
        }
        let first = turn / 2 % items.len().max(1);
        items.rotate_left(first);
        let seal = turn.is_multiple_of(3);
        self.copying = Some(Copying { dir, items, manifest, at: 0, range: (0, 0), stored: 0, made, seal });
        Ok(())
    }
}

/// Copies the files of one directory into another as a careful user would, the manifest last.
fn lay_over(fs: &dyn Vfs, from: &Path, to: &Path) -> io::Result<()> {
    let mut names: Vec<_> = fs.read_dir(from)?.into_iter().map(|entry| entry.name).collect();
    names.sort_by_key(|name| name.to_string_lossy().starts_with(engine::MANIFEST));
    for name in names {
        let source = fs.open(&from.join(&name), OpenOptions::read())?;
        let mut bytes = vec![0; source.len()? as usize];
        source.read_exact_at(&mut bytes, 0)?;
        fs.sync_dir(to)?;
        let target = fs.open(&to.join(&name), OpenOptions::create())?;
        target.set_len(0)?;
        target.write_all_at(&bytes, 0)?;
        target.sync_all()?;
    }
    fs.sync_dir(to)
}

/// Reads as much as there is.
fn read_up_to(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let there = file.len()?.saturating_sub(offset).min(buf.len() as u64) as usize;
    file.read_exact_at(&mut buf[..there], offset)?;
    Ok(there)
}

impl Copying {
    /// Copies one piece; the manifest comes last, after everything else is durable. True when all is done.
    fn piece(&mut self, fs: &dyn Vfs) -> io::Result<bool> {
        let Some(item) = self.items.get(self.at) else { return self.finish(fs) };
        let target = fs.open(&self.dir.join(&item.name), OpenOptions::create())?;
        if let Some((offset, len)) = item.ranges.get(self.range.0).copied() {
            let at = self.range.1;
            let mut piece = vec![0; PIECE.min(len - at) as usize];
            let source = fs.open(&item.source, OpenOptions::read())?;
            let got = read_up_to(&*source, &mut piece, offset + at)?;
            // What the source has not, a copier leaves out.
            target.write_all_at(&piece[..got], self.stored)?;
            self.stored += piece.len() as u64;
            self.range =
                if at + piece.len() as u64 == len { (self.range.0 + 1, 0) } else { (self.range.0, at + PIECE) };
        }
        if self.range.0 >= item.ranges.len() {
            if target.len()? < self.stored {
                target.set_len(self.stored)?;
            }
            target.sync_all()?;
            self.at += 1;
            (self.range, self.stored) = ((0, 0), 0);
        }
        Ok(false)
    }

    fn finish(&self, fs: &dyn Vfs) -> io::Result<bool> {
        fs.sync_dir(&self.dir)?;
        let manifest = fs.open(&self.dir.join(engine::MANIFEST), OpenOptions::create())?;
        manifest.write_all_at(&self.manifest, 0)?;
        manifest.sync_all()?;
        fs.sync_dir(&self.dir)?;
        fs.sync_dir(self.dir.parent().unwrap_or(Path::new("/")))?;
        Ok(true)
    }
}
