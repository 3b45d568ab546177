//! Crash any storage code in every way that matters.
//!
//! [`explore`] runs a program once on a simulated disk, derives the images that a power cut could have left at any moment of
//! it, boots each, and hands it to a check, which runs recovery and compares what it finds with what was promised. What the
//! check does to its disk is recorded as well and crashed in turn: a recovery that cannot be interrupted is found out.
//!
//! The check knows what was promised by event numbers. The program notes [`SimDisk::event`] before it begins something and
//! after it acknowledges something; an image born at `b` and dying at `d` may contain what began at `e <= b`, and must
//! contain what was acknowledged at `e <= d`.
//!
//! - X1: an image is checked again only when an earlier check of equal content does not settle it: one with an earlier birth,
//!   a later death and at least as many crashes still to come does. This assumes that promises only grow within an epoch.
//! - X2: everything is a function of the program, its tape and the limits.
//!
//! A log that appends records and syncs them, but forgot that a new file needs its *directory* synced:
//!
//! ```
//! use std::{cell::RefCell, path::Path};
//! use strandline_sim::{disk::{Profile, SimDisk}, explore::{Limits, explore}, tape::Tape};
//! use strandline_vfs::{OpenOptions, Vfs};
//!
//! fn crash_test(sync_directory: bool) -> Vec<String> {
//!     let acknowledged = RefCell::new(Vec::new()); // event numbers; record i holds the byte i + 1, 512 times
//!     let append = |disk: &SimDisk, _: &mut Tape| {
//!         let log = disk.open(Path::new("log"), OpenOptions::create())?;
//!         if sync_directory {
//!             disk.sync_dir(Path::new(""))?;
//!         }
//!         for i in 0..3_u8 {
//!             log.write_all_at(&[i + 1; 512], u64::from(i) * 512)?;
//!             log.sync_data()?;
//!             acknowledged.borrow_mut().push(disk.event());
//!         }
//!         Ok(())
//!     };
//!     let found = explore(Profile::strict(), Tape::dull(), &Limits::default(), append, |crash| {
//!         let promised = acknowledged.borrow().iter().filter(|&&e| e <= crash.death).count();
//!         let mut records = 0;
//!         if let Ok(log) = crash.disk.open(Path::new("log"), OpenOptions::read()) {
//!             let mut record = [0; 512];
//!             while log.read_exact_at(&mut record, records as u64 * 512).is_ok() && record == [records as u8 + 1; 512] {
//!                 records += 1;
//!             }
//!         }
//!         if records < promised { Err(format!("{records} records, {promised} were promised")) } else { Ok(()) }
//!     });
//!     found.failures.iter().map(ToString::to_string).collect()
//! }
//!
//! assert!(crash_test(true).is_empty());
//! let failures = crash_test(false);
//! assert!(failures[0].contains("0 records, 3 were promised"), "{}", failures[0]);
//! assert!(failures[0].contains("LOST"), "the report names what was lost: the name of the log");
//! ```

use crate::disk::{self, Barrier, Choice, Damage, Event, Frame, Image, Profile, SimDisk, canonical};
use crate::tape::Tape;
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

mod report;

pub use report::{Failure, Lost};

/// How far to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Images per barrier of the program.
    pub first: disk::Limits,
    /// Images per barrier of every recovery.
    pub nested: disk::Limits,
    /// Power cuts in a row: 1 crashes the program only, 2 also its recovery.
    pub crashes: u32,
    /// Damaged sectors to try per image: at most this many sectors, each in every way of `damage`.
    pub damaged: usize,
    /// The ways.
    pub damage: Vec<Damage>,
    /// Stop after this many checks.
    pub checks: u64,
    /// Stop after this many failures.
    pub failures: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first: disk::Limits::default(),
            nested: disk::Limits::canonical(256),
            crashes: 2,
            damaged: 1,
            damage: vec![Damage::Garbage(1), Damage::Unreadable],
            checks: 200_000,
            failures: 1,
        }
    }
}

/// One crash to be judged.
pub struct Crash {
    /// The disk as the power cut left it. What the check does to it is recorded and crashed in turn.
    pub disk: SimDisk,
    /// What was begun at an event up to this may be there.
    pub birth: u64,
    /// What was acknowledged at an event up to this must be there.
    pub death: u64,
    /// The epoch of the barrier, see [`SimDisk::turn`].
    pub epoch: u32,
    /// How many power cuts led here: 1, or more when recoveries were cut.
    pub depth: u32,
    /// Names this crash, for checks that keep notes.
    pub id: u64,
    /// The crash whose recovery was cut.
    pub parent: Option<u64>,
}

/// What came of an exploration.
#[derive(Debug, Default)]
pub struct Found {
    /// Barriers that were enumerated.
    pub barriers: u64,
    /// Images that were derived.
    pub images: u64,
    /// Images that were checked, those of nested crashes included.
    pub checks: u64,
    /// What went wrong.
    pub failures: Vec<Failure>,
}

/// The life and rank of an image that was checked (X1).
#[derive(Clone, Copy)]
struct Seen {
    birth: u64,
    death: u64,
    depth: u32,
}

/// An image on its way to the check.
struct Candidate<'a> {
    frame: &'a Frame,
    choice: &'a Choice,
    damage: Option<(usize, Damage)>,
}

impl Candidate<'_> {
    fn hash_and_birth(&self) -> (u64, u64) {
        match self.damage {
            None => self.frame.hash_and_birth(self.choice),
            Some(_) => self.image().hash_and_birth(),
        }
    }

    fn image(&self) -> Image {
        match self.damage {
            None => self.frame.image(self.choice),
            Some((atom, damage)) => self.frame.damaged(self.choice, atom, damage),
        }
    }
}

/// Where in the chain of crashes an image stands.
#[derive(Clone, Copy)]
struct Above {
    /// The life of the outermost image, when this is a nested crash.
    life: Option<(u64, u64, u32)>,
    parent: Option<u64>,
    depth: u32,
}

struct Explorer<'l, C> {
    limits: &'l Limits,
    check: C,
    found: Found,
    seen: BTreeMap<(u32, u64), Vec<Seen>>,
    next_id: u64,
    token: String,
}

/// Runs `program` once and checks what power cuts may leave of it; see the module for how.
///
/// A panic in the check is a failure like any other. An error of the program is not: programs may run into planned faults.
pub fn explore(
    profile: Profile,
    mut tape: Tape,
    limits: &Limits,
    mut program: impl FnMut(&SimDisk, &mut Tape) -> io::Result<()>,
    check: impl FnMut(&Crash) -> Result<(), String>,
) -> Found {
    let disk = SimDisk::new(profile);
    disk.record_barriers(true);
    let _ = program(&disk, &mut tape);
    let token = tape.to_token();
    explore_disk(&disk, &token, limits, check)
}

/// As [`explore`], for a disk that a program has already run on while it recorded barriers. The token is for reports.
pub fn explore_disk(
    disk: &SimDisk,
    token: &str,
    limits: &Limits,
    check: impl FnMut(&Crash) -> Result<(), String>,
) -> Found {
    disk.mark("end");
    let (barriers, events) = (disk.take_barriers(), disk.events());
    let (found, seen) = (Found::default(), BTreeMap::new());
    let mut x = Explorer { limits, check, found, seen, next_id: 0, token: token.into() };
    x.barriers(&barriers, &events, Above { life: None, parent: None, depth: 1 });
    x.found
}

impl<C: FnMut(&Crash) -> Result<(), String>> Explorer<'_, C> {
    fn is_done(&self) -> bool {
        self.found.failures.len() >= self.limits.failures || self.found.checks >= self.limits.checks
    }

    /// The latest barrier first: its images die last, so they settle equal ones of earlier barriers (X1).
    fn barriers(&mut self, barriers: &[Barrier], events: &[Event], above: Above) {
        for barrier in barriers.iter().rev() {
            let frame = barrier.frame();
            let limits = if above.depth == 1 { &self.limits.first } else { &self.limits.nested };
            self.found.barriers += 1;
            for choice in canonical(&frame, limits) {
                self.choice(&frame, &choice, events, above);
                if self.is_done() {
                    return;
                }
            }
        }
    }

    fn choice(&mut self, frame: &Frame, choice: &Choice, events: &[Event], above: Above) {
        self.candidate(&Candidate { frame, choice, damage: None }, events, above);
        for atom in frame.in_flight(choice).into_iter().take(self.limits.damaged) {
            for &damage in &self.limits.damage {
                self.candidate(&Candidate { frame, choice, damage: Some((atom, damage)) }, events, above);
            }
        }
    }

    fn candidate(&mut self, c: &Candidate<'_>, events: &[Event], above: Above) {
        if self.is_done() {
            return;
        }
        self.found.images += 1;
        let (hash, born) = c.hash_and_birth();
        let barrier = c.frame.barrier();
        let (birth, death, epoch) = above.life.unwrap_or((born, barrier.event, barrier.epoch));
        if self.is_settled((epoch, hash), Seen { birth, death, depth: above.depth }) {
            return;
        }
        let (disk, id) = (c.image().boot(), self.next_id);
        self.next_id += 1;
        disk.record_barriers(above.depth < self.limits.crashes);
        let crash = Crash { disk, birth, death, epoch, depth: above.depth, id, parent: above.parent };
        match self.judge(&crash) {
            Err(verdict) => {
                let failure = self.explain(c, events, &crash, verdict);
                self.found.failures.push(failure);
            }
            Ok(()) if above.depth < self.limits.crashes => {
                crash.disk.mark("end of recovery");
                let (barriers, events) = (crash.disk.take_barriers(), crash.disk.events());
                let below = Above { life: Some((birth, death, epoch)), parent: Some(id), depth: above.depth + 1 };
                self.barriers(&barriers, &events, below);
            }
            Ok(()) => {}
        }
    }

    /// True when an equal image was checked that asked at least as much; notes this one otherwise.
    fn is_settled(&mut self, key: (u32, u64), now: Seen) -> bool {
        let seen = self.seen.entry(key).or_default();
        if seen.iter().any(|s| s.birth <= now.birth && s.death >= now.death && s.depth <= now.depth) {
            return true;
        }
        seen.retain(|s| !(now.birth <= s.birth && now.death >= s.death && now.depth <= s.depth));
        seen.push(now);
        false
    }

    fn judge(&mut self, crash: &Crash) -> Result<(), String> {
        self.found.checks += 1;
        let check = &mut self.check;
        catch_unwind(AssertUnwindSafe(|| check(crash))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(format!("panic: {}", text.unwrap_or_default()))
        })
    }

    /// Shrinks the choice towards keep-all while the check still fails, and finds the kept atoms without which it would not.
    fn explain(&mut self, c: &Candidate<'_>, events: &[Event], crash: &Crash, verdict: String) -> Failure {
        let mut choice = c.choice.clone();
        if c.damage.is_none() {
            for i in (0..c.frame.len()).rev().filter(|&i| !c.choice.has(i)) {
                let fuller = c.frame.toggled(&choice, i);
                if !choice.has(i) && self.fails(c.frame, &fuller, crash) {
                    choice = fuller;
                }
            }
        }
        let lost: Vec<usize> = (0..c.frame.len()).filter(|&i| !choice.has(i)).collect();
        let mut guilty = Vec::new();
        for i in choice.iter().take(64) {
            let less = c.frame.toggled(&choice, i);
            if c.damage.is_none() && !self.fails(c.frame, &less, crash) {
                guilty.push(i);
            }
        }
        report::failure(c.frame, events, crash, verdict, &self.token, (&lost, &guilty), c.damage)
    }

    fn fails(&mut self, frame: &Frame, choice: &Choice, like: &Crash) -> bool {
        let image = frame.image(choice);
        let birth = if like.depth == 1 { image.birth() } else { like.birth };
        let (disk, id) = (image.boot(), self.next_id);
        self.next_id += 1;
        let crash =
            Crash { disk, birth, death: like.death, epoch: like.epoch, depth: like.depth, id, parent: like.parent };
        self.judge(&crash).is_err()
    }
}
