//! What births promise, asked at checkpoints and of increments: see [`structure`].

use std::io;
use std::path::{Path, PathBuf};

use strandline_vfs::mem::MemVfs;
use strandline_vfs::{OpenOptions, Vfs};

use super::session::{Session, Step};
use super::world::{Failure, Increment};
use crate::engine::Files;
use crate::oracle::Rule;
use crate::oracle::structure::{self, Allowance, State};

/// Checkpoints whose blocks are remembered.
const REMEMBERED: usize = 4;

/// Lays files down in a directory of a file system in memory.
pub(super) fn memory(dir: &Path, files: &Files) -> io::Result<MemVfs> {
    let vfs = MemVfs::new();
    for parent in dir.ancestors().collect::<Vec<_>>().into_iter().rev().skip(1) {
        if vfs.metadata(parent)?.is_none() {
            vfs.create_dir(parent)?;
        }
    }
    for (name, bytes) in files {
        vfs.open(&dir.join(name), OpenOptions::create_new())?.write_all_at(bytes, 0)?;
    }
    Ok(vfs)
}

/// The first of these breaches, if there is any.
fn none(rule: Rule, breaches: &[String]) -> Step {
    breaches.first().map_or(Ok(()), |first| Err(Failure::new(rule, first.clone())))
}

fn unread(what: &str, why: &str) -> Failure {
    Failure::new(Rule::Verify, format!("{what} cannot be walked: {why}"))
}

/// The live blocks of a copy.
fn of_copy(what: &str, dir: &Path, files: &Files) -> Result<State, Failure> {
    let vfs = memory(dir, files).map_err(|e| unread(what, &e.to_string()))?;
    State::of_copy(&vfs, dir).map_err(|why| unread(what, &why))
}

impl Session<'_, '_> {
    /// A checkpoint was taken: the births in it agree with those in earlier ones.
    pub(super) fn check_births(&mut self) -> Step {
        let frame = self.world.src.snapshot().frame();
        let disk = frame.image(&frame.all()).boot();
        let home: PathBuf = Path::new("/").join(self.world.home.components().skip(2).collect::<PathBuf>());
        let now = State::of_home(&disk, &home).map_err(|why| unread("the home", &why))?;
        none(Rule::Mono, &structure::mono(&now))?;
        if self.world.births.first().is_some_and(|first| first.lineage != now.lineage) {
            self.world.births.clear();
        }
        for earlier in self.world.births.iter().filter(|earlier| earlier.seq < now.seq) {
            none(Rule::Stamp, &structure::stamp(earlier, &now))?;
            none(Rule::Walk, &structure::walk(&now, earlier.seq))?;
        }
        if self.world.births.len() == REMEMBERED {
            self.world.births.remove(1);
        }
        self.world.births.push(now);
        self.world.mark("births looked at");
        Ok(())
    }

    /// What an increment reports is what a copy needs, and little else.
    pub(super) fn check_report(&self, made: &Increment, dir: &Path, base: &Files, report: &Files) -> Step {
        let Some(shadow) = &made.shadow else { return Ok(()) };
        let (base, pinned) = (of_copy("a base", dir, base)?, of_copy("a full copy", dir, shadow)?);
        let vfs = memory(dir, report).map_err(|e| unread("an increment", &e.to_string()))?;
        let (since, reported) = structure::reported(&vfs, dir).map_err(|why| unread("an increment", &why))?;
        let (gap, granule) = match made.shape {
            1 | 2 => (0, 4096),
            3 => (0, 64 << 10),
            4 => (1024, 0),
            _ => (0, 0),
        };
        none(Rule::Walk, &structure::walk(&pinned, since))?;
        none(Rule::Superset, &structure::superset(&base, &pinned, &reported))?;
        none(Rule::Tight, &structure::tight(&pinned, since, &reported, Allowance { gap, granule }))
    }

    /// A chain has every live byte of the full copy.
    pub(super) fn check_bytes(&self, dir: &Path, chain: &Files, shadow: &Files) -> Step {
        let (chain, full) = (of_copy("a chain", dir, chain)?, of_copy("a full copy", dir, shadow)?);
        none(Rule::Mono, &structure::mono(&chain))?;
        none(Rule::Bytes, &structure::bytes_equal(&chain, &full))
    }
}
