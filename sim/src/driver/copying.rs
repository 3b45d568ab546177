//! Backups: opened, copied by the engine, by a foreign program or through a pipe, and ended.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::{OpenOptions, Vfs};

use super::session::{Session, Step, expect, refusal, told};
use super::world::{Base, Copy, Failure, Stage};
use crate::engine::{self, Item};
use crate::model::Refusal;
use crate::oracle::Rule;

/// Bytes that the foreign copier moves at once.
const PIECE: u64 = 4096;

/// A foreign program at work: it copies the listed files piece by piece, while the database works on.
pub struct Copying {
    dir: PathBuf,
    items: Vec<Item>,
    manifest: Vec<u8>,
    at: usize,
    offset: u64,
    copy: usize,
}

impl Session<'_, '_> {
    pub(super) fn open_backup(&mut self, name: Option<&str>, fresh: bool) -> Step {
        let live = &self.world.live;
        let fresh = fresh && name.is_none();
        let unknown = name.is_some_and(|n| live.checkpoints.named(n).is_none());
        let allowed = match (&live.backup, unknown) {
            (Some(_), true) => vec![Err(Refusal::Busy), Err(Refusal::NotFound)],
            (Some(_), false) => vec![Err(Refusal::Busy)],
            (None, true) => vec![Err(Refusal::NotFound)],
            (None, false) => vec![Ok(())],
        };
        let taken = crate::model::Taken::default();
        let point = fresh && live.backup.is_none();
        self.world.src.mark("backup called");
        if point {
            let visible = self.world.live.after_checkpoint(None, &taken);
            self.begin_point(visible, "fresh checkpoint");
        }
        let answer = self.db.backup(name, fresh);
        let got = refusal(&answer, |_| ());
        told(expect(Rule::Contract, &got, &allowed), &answer)?;
        self.world.src.mark("backup opened");
        let Ok(backup) = answer else { return Ok(()) };
        if point {
            self.ack_point();
            self.world.live.checkpoint(None, &taken);
        }
        if self.world.config.pinned {
            let at = self.world.src.event();
            self.world.history.pin(at);
        }
        if self.world.logging && self.world.config.keep && name.is_none() {
            self.world.base = Base::There;
        }
        self.world.live.open_backup(name);
        if let Some(open) = self.world.live.backup.as_mut().filter(|_| self.world.logging && name.is_none()) {
            open.copy = self.world.history.listed();
            open.log = Some((self.world.history.era(), self.world.history.from()));
        }
        self.world.mark("backup");
        self.backup = Some(backup);
        Ok(())
    }

    pub(super) fn end_backup(&mut self, forget: bool) -> Step {
        self.copying = None;
        let Some(backup) = self.backup.take() else { return Ok(()) };
        self.world.src.mark("backup ends");
        let at = self.world.src.event();
        self.world.history.unpin_called(at);
        // A guard that is dropped cannot tell that the disk failed.
        if forget && self.world.trouble.is_none() {
            drop(backup);
        } else {
            let answer = backup.finish();
            told(expect(Rule::Contract, &refusal(&answer, |()| ()), &[Ok(())]), &answer)?;
        }
        self.world.src.mark("backup ended");
        let at = self.world.src.event();
        self.world.history.unpin_acked(at);
        self.world.live.end_backup();
        self.made.clear();
        let pins = self.db.pins().map_err(|f| Failure::new(Rule::Close, f.text))?;
        let views = self.views.len();
        if pins > views {
            return Err(Failure::new(Rule::Close, format!("{pins} pins are left with {views} views open")));
        }
        Ok(())
    }

    /// Registers a copy that is about to be made.
    fn new_copy(&mut self, how: &str) -> Option<(usize, PathBuf)> {
        let open = self.world.live.backup.as_ref()?;
        let number = self.world.copies.len();
        let dir = self.world.shelf.join(format!("{how}-{number}"));
        let first = Stage { expected: open.copy.clone(), begun: self.world.dst.event(), acked: None };
        let (sealed, log) = (how != "foreign", open.log);
        self.world.copies.push(Copy { dir: dir.clone(), stages: vec![first], sealed, log, unsure: false });
        self.made.push(number);
        Some((number, dir))
    }

    fn copy_is_complete(&mut self, number: usize) {
        self.world.dst.mark("copied");
        let at = self.world.dst.event();
        if let Some(stage) = self.world.copies[number].stages.last_mut() {
            stage.acked = Some(at);
        }
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
        let (Some(log), Some(first)) = (copy.log, copy.stages.first()) else { return };
        let expected = self.world.history.rolled_forward(&first.expected, log);
        let begun = self.world.dst.event();
        self.world.copies[number].stages.push(Stage { expected, begun, acked: None });
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
        self.begin_stage(number);
        let dir = self.world.copies[number].dir.clone();
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
        let got = refusal(&applied, |()| ());
        told(expect(Rule::FullModel, &got, &allowed), &applied)?;
        if got.is_err() {
            self.world.copies[number].stages.pop();
            self.world.copies[number].log = None;
            self.world.mark("increment that does not fit");
            if by_hand {
                // Whoever put the files there must take them away.
                self.world.copies.remove(number);
            }
            return Ok(());
        }
        self.copy_is_complete(number);
        self.world.mark(if by_hand { "log increment, by hand" } else { "log increment" });
        self.check_copy(&dir)
    }

    pub(super) fn copy_all(&mut self) -> Step {
        let Some((number, dir)) = self.new_copy("copy") else { return Ok(()) };
        let Some(backup) = &self.backup else { return Ok(()) };
        backup.copy_to(&dir).map_err(|f| Failure::new(Rule::FullModel, format!("copying failed: {}", f.text)))?;
        self.copy_is_complete(number);
        self.check_copy(&dir)
    }

    pub(super) fn stream(&mut self) -> Step {
        let Some((number, dir)) = self.new_copy("stream") else { return Ok(()) };
        let Some(backup) = &self.backup else { return Ok(()) };
        let mut pipe = Vec::new();
        let failed = |f: engine::Fault| Failure::new(Rule::FullModel, format!("the stream failed: {}", f.text));
        backup.stream(&mut pipe).map_err(failed)?;
        let fleet: Arc<dyn Vfs> = self.world.fleet.clone();
        engine::restore_stream(&fleet, &pipe, &dir).map_err(failed)?;
        self.copy_is_complete(number);
        self.check_copy(&dir)
    }

    fn check_copy(&self, dir: &Path) -> Step {
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
            self.copy_is_complete(copying.copy);
            self.world.mark("foreign copy");
            let fleet: Arc<dyn Vfs> = self.world.fleet.clone();
            let findings = engine::verify_copy(&fleet, &copying.dir).map_err(|f| Failure::new(Rule::Verify, f.text))?;
            expect(Rule::Verify, &findings, &[Vec::new()])?;
        }
        Ok(())
    }

    fn start_copying(&mut self) -> Step {
        let Some((copy, dir)) = self.new_copy("foreign") else { return Ok(()) };
        let Some(backup) = &self.backup else { return Ok(()) };
        let failed = |e: &dyn std::fmt::Display| Failure::new(Rule::Contract, format!("cannot start to copy: {e}"));
        let (items, manifest) =
            (backup.items().map_err(|f| failed(&f.text))?, backup.manifest().map_err(|f| failed(&f.text))?);
        self.world.fleet.create_dir(&dir).map_err(|e| failed(&e))?;
        self.copying = Some(Copying { dir, items, manifest, at: 0, offset: 0, copy });
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

impl Copying {
    /// Copies one piece; the manifest comes last, after everything else is durable. True when all is done.
    fn piece(&mut self, fs: &dyn Vfs) -> io::Result<bool> {
        let Some(item) = self.items.get(self.at) else { return self.finish(fs) };
        let target = fs.open(&self.dir.join(&item.name), OpenOptions::create())?;
        if self.offset < item.size {
            let mut piece = vec![0; PIECE.min(item.size - self.offset) as usize];
            fs.open(&item.source, OpenOptions::read())?.read_exact_at(&mut piece, self.offset)?;
            target.write_all_at(&piece, self.offset)?;
            self.offset += piece.len() as u64;
        }
        if self.offset >= item.size {
            target.sync_all()?;
            self.at += 1;
            self.offset = 0;
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
