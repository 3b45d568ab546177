//! Backups: opened, copied by the engine, by a foreign program or through a pipe, and ended.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::{OpenOptions, Vfs};

use super::session::{Session, Step, expect, refusal, told};
use super::world::{Copy, Failure};
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
        self.world.live.open_backup(name);
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
        let pins = self.db.pins().map_err(|f| Failure::new(Rule::Close, f.text))?;
        let views = self.views.len();
        if pins > views {
            return Err(Failure::new(Rule::Close, format!("{pins} pins are left with {views} views open")));
        }
        Ok(())
    }

    /// Registers a copy that is about to be made.
    fn new_copy(&mut self, how: &str) -> Option<(usize, PathBuf)> {
        let expected = self.world.live.backup.as_ref()?.copy.clone();
        let number = self.world.copies.len();
        let dir = self.world.shelf.join(format!("{how}-{number}"));
        self.world.copies.push(Copy { dir: dir.clone(), expected, acked: None, sealed: how != "foreign" });
        Some((number, dir))
    }

    fn copy_is_complete(&mut self, number: usize) {
        self.world.dst.mark("copied");
        let at = self.world.dst.event();
        self.world.copies[number].acked = Some(at);
        self.world.mark("copy");
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
