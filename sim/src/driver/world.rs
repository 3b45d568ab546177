//! One run: the disks, the model beside them, and the record of what was done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fleet::Fleet;
use crate::disk::{Act, Barrier, Call, Fault, Image, Profile, Report, SimDisk, SyncFailure};
use crate::engine::{self, Home};
use crate::model::{History, Live, Origin, Refusal, Visible};
use crate::oracle::Rule;
use crate::oracle::structure::State;
use crate::workload::{Config, Sight, Trouble};

/// Moments of the second disk that are kept.
const SHELVES: usize = 12;

/// Every kind of call.
const CALLS: [Call; 13] = [
    Call::Create,
    Call::Write,
    Call::SetLen,
    Call::Allocate,
    Call::SyncData,
    Call::SyncAll,
    Call::Remove,
    Call::Rename,
    Call::Link,
    Call::CreateDir,
    Call::RemoveDir,
    Call::SyncDir,
    Call::Open,
];

/// Where the database lives, on the disk of that name.
pub const HOME: &str = "/src/db";
/// Where copies go: a disk of their own.
pub const COPIES: &str = "/dst";
/// The directory of the database on its own disk, without the fleet in front.
const HOME_ON_DISK: &str = "/db";

/// A promise that did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which one.
    pub rule: Rule,
    /// What was expected and what was seen, in words.
    pub text: String,
    /// How the moment was reached, outermost first: operations, images, recoveries.
    pub path: Vec<String>,
    /// The engine's refusal behind it, if it is one: where the disk fails on purpose, it is no failure.
    pub refused: Option<Refusal>,
}

impl Failure {
    /// A failure without a path yet.
    pub fn new(rule: Rule, text: impl Into<String>) -> Self {
        Self { rule, text: text.into(), path: Vec::new(), refused: None }
    }

    /// Says where it happened; the innermost place is said first.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.path.insert(0, place.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "FAIL {}: {}", self.rule, self.text)?;
        self.path.iter().try_for_each(|p| writeln!(f, "  {p}"))
    }
}

/// What a copy becomes by one act of copying: all of it, or an increment.
#[derive(Clone)]
pub struct Stage {
    /// The increment of blocks that makes it so, by its directory.
    pub increment: Option<PathBuf>,
    /// What it must show when it is opened afterwards (K1).
    pub expected: Visible,
    /// The checkpoint that it is of then.
    pub origin: Origin,
    /// The event of the second disk at which the act began.
    pub begun: u64,
    /// The event of the second disk at which it was complete.
    pub acked: Option<u64>,
}

/// A copy that somebody makes on the second disk.
#[derive(Clone)]
pub struct Copy {
    /// Its directory.
    pub dir: PathBuf,
    /// The full copy, and every increment that was applied to it.
    pub stages: Vec<Stage>,
    /// The engine made it, so every piece has a checksum.
    pub sealed: bool,
    /// Where the log goes on that fits it: the era and the entry of its checkpoint. `None`: no log increment fits.
    pub log: Option<(usize, usize)>,
    /// Segments that it lacks may have been removed, or a table's rows may be in neither it nor the log.
    pub unsure: bool,
    /// The checkpoint that it is of.
    pub origin: Origin,
    /// By what kind of increment it came forward.
    pub rolled: Option<Rolled>,
    /// It holds chosen tables only, so that no increment fits.
    pub targeted: bool,
    /// How many increments of blocks were applied.
    pub links: u32,
    /// The event of the second disk from which on it is no copy any more: somebody opened it.
    pub spoiled: Option<u64>,
}

/// By what kind of increment a copy came forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rolled {
    /// Of blocks.
    Blocks,
    /// Of the log.
    Log,
}

/// An increment of blocks in a directory of its own.
#[derive(Clone)]
pub struct Increment {
    /// Its directory.
    pub dir: PathBuf,
    /// Where it starts.
    pub since: Origin,
    /// The checkpoint it brings.
    pub origin: Origin,
    /// What a copy must show once it is applied.
    pub expected: Visible,
    /// Where the log goes on then, see [`Copy::log`].
    pub log: Option<(usize, usize)>,
    /// A full copy at the same pin, taken for free.
    pub shadow: Option<Arc<engine::Files>>,
    /// How its ranges are shaped, see [`engine::Ask`].
    pub shape: u8,
    /// The event of the second disk at which it was begun.
    pub begun: u64,
    /// The one at which it was complete.
    pub acked: Option<u64>,
}

/// An origin that somebody may have noted.
#[derive(Clone, Debug)]
pub struct Seen {
    /// It.
    pub origin: Origin,
    /// The event of the first disk at which it was.
    pub at: u64,
    /// The event at which the backup was opened that was open then: a crash before its end takes the origin back.
    pub under_pin: Option<u64>,
    /// The event at which it was found to be taken back.
    pub lost: Option<u64>,
    /// The events of the first disk at which its release was called for and acknowledged.
    pub released: Option<(u64, Option<u64>)>,
    /// Whether it still works is not known.
    pub unsure: bool,
}

/// The second disk as it was at some event of the first, for those who go on from a crash of the first.
#[derive(Clone)]
pub struct Shelf {
    /// The event.
    pub at: u64,
    /// The disk.
    pub image: Image,
    /// The copies on it that were complete.
    pub copies: Vec<Copy>,
}

/// Whether the database has had a full backup that increments of its log build on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// None, or not since its log was switched on or a table was taken into it.
    Missing,
    /// One was opened.
    There,
    /// A call that decides it has failed half way.
    Unsure,
}

impl Copy {
    /// The last stage that was complete at event `at`, and those that had begun since.
    #[must_use]
    pub fn at(&self, at: u64) -> (Option<&Stage>, &[Stage]) {
        let done = self.stages.iter().rposition(|s| s.acked.is_some_and(|a| a <= at));
        let begun = self.stages.iter().rposition(|s| s.begun <= at).map_or(0, |n| n + 1);
        let from = done.map_or(0, |n| n + 1);
        (done.map(|n| &self.stages[n]), &self.stages[from..begun.max(from)])
    }

    /// The copy as it stands, elsewhere: for a world of its own.
    #[must_use]
    pub fn standing(&self, dir: &Path) -> Self {
        let stages = self.stages.iter().rev().filter(|s| s.acked.is_some()).take(1);
        let stages = stages.map(|s| Stage { begun: 0, acked: Some(0), increment: None, ..s.clone() }).collect();
        Self { dir: dir.to_owned(), stages, log: None, ..self.clone() }
    }

    /// True once it is whole.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.stages.last().is_some_and(|s| s.acked.is_some())
    }
}

/// Disks, model, record.
pub struct World {
    /// The settings of the run.
    pub config: Config,
    /// The directory of the database.
    pub home: PathBuf,
    /// The directory of the copies.
    pub shelf: PathBuf,
    /// Both disks as one file system.
    pub fleet: Arc<Fleet>,
    /// The disk of the database.
    pub src: SimDisk,
    /// The disk of the copies.
    pub dst: SimDisk,
    /// What the open database must answer.
    pub live: Live,
    /// What a crash of the first disk may leave.
    pub history: History,
    /// What a crash of the second disk may leave.
    pub copies: Vec<Copy>,
    /// Operations so far with the event at which each began.
    pub done: Vec<(u64, String)>,
    /// How often something worth counting happened.
    pub marks: Marks,
    /// How the first disk fails at present.
    pub trouble: Option<Trouble>,
    /// How it failed earlier while the database was open: a call may have met that without being harmed itself.
    pub hurt: Option<Trouble>,
    /// The event of the first disk at which the first open had succeeded.
    pub created: Option<u64>,
    /// Fingerprints of other states that the disk, when it was given to this world, might as well have shown: until the
    /// first open has succeeded nobody has seen which one it is.
    pub unseen: Vec<u128>,
    /// Increments on the second disk.
    pub increments: Vec<Increment>,
    /// Origins that were seen, oldest first.
    pub seen: Vec<Seen>,
    /// What each checkpoint held that was seen, and the event at which.
    pub identities: BTreeMap<Origin, (u128, u64)>,
    /// Names of histories that the database must not have once it is open: those of what it was copied from.
    pub taken: BTreeSet<u64>,
    /// The name of its history, once it was open.
    pub lineage: Option<u64>,
    /// The live blocks of checkpoints of this history, as they were when each was the newest.
    pub births: Vec<State>,
    /// What is made on the second disk has this in its name, so that nobody takes the place of another.
    pub place: String,
    /// How many copies were begun, those that were taken away again included.
    pub placed: u32,
    /// The event of the first disk at which the present backup was opened.
    pub pinned_at: Option<u64>,
    /// When backups were over, by when they were opened.
    pub unpinned: BTreeMap<u64, u64>,
    /// The second disk at earlier moments.
    pub shelves: Vec<Shelf>,
    /// Numbers of checkpoints that were acknowledged, each with the event at which.
    pub numbers: Vec<(u64, u64)>,
    /// There is a log at present.
    pub logging: bool,
    /// Whether increments of the log have something to build on.
    pub base: Base,
    /// Whether there is to be one from the next open on, if that is to change.
    pub log_wanted: Option<bool>,
    /// What the chance of each open is made of: the names of histories are drawn, and no two worlds may draw the same.
    pub chance: u64,
    opened: u64,
}

/// Counters that show that rules met real premises.
pub type Marks = BTreeMap<&'static str, u64>;

impl World {
    /// Empty disks, except for the directory that will hold the database.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let profile = Profile::by_name(&config.profile).unwrap_or_default();
        let src = SimDisk::new(Profile { report: config.report, read_only_after: config.sticky, ..profile });
        // The embedder made the directory long ago; its name is not what is tested.
        let made = strandline_vfs::Vfs::create_dir(&src, Path::new(HOME_ON_DISK));
        debug_assert!(made.is_ok());
        src.settle();
        let world = Self::on(src, Path::new(HOME), config, Visible::default());
        Self { log_wanted: config.log.then_some(true), ..world }
    }

    /// A world around a disk that exists, whose database in `home` shows `visible` when it is opened.
    #[must_use]
    pub fn on(src: SimDisk, home: &Path, config: &Config, visible: Visible) -> Self {
        Self::with(src.clone(), SimDisk::new(src.profile()), home, config, visible)
    }

    /// The same with a second disk that exists as well.
    #[must_use]
    pub fn with(src: SimDisk, dst: SimDisk, home: &Path, config: &Config, visible: Visible) -> Self {
        src.record_barriers(true);
        dst.record_barriers(true);
        let (here, there) = if home.starts_with(COPIES) { ("dst", "src") } else { ("src", "dst") };
        Self {
            config: config.clone(),
            home: home.to_owned(),
            shelf: Path::new("/").join(there),
            fleet: Arc::new(Fleet::new(&[(here, src.clone()), (there, dst.clone())])),
            src,
            dst,
            live: Live::resume(&visible),
            history: History::starting_with(visible),
            copies: Vec::new(),
            done: Vec::new(),
            marks: Marks::new(),
            trouble: None,
            hurt: None,
            created: None,
            unseen: Vec::new(),
            increments: Vec::new(),
            seen: Vec::new(),
            identities: BTreeMap::new(),
            taken: BTreeSet::new(),
            lineage: None,
            births: Vec::new(),
            place: String::new(),
            placed: 0,
            pinned_at: None,
            unpinned: BTreeMap::new(),
            shelves: Vec::new(),
            numbers: Vec::new(),
            logging: false,
            base: Base::Missing,
            log_wanted: None,
            chance: 0,
            opened: 0,
        }
    }

    /// How to open the database; each open has its own chance.
    pub fn next_open(&mut self) -> Home {
        self.opened += 1;
        self.hurt = None;
        let (dir, config) = (self.home.clone(), self.config.clone());
        let salt = self.chance.wrapping_add(self.opened);
        Home { vfs: self.fleet.clone(), dir, config, create: true, salt, log: self.log_wanted.take() }
    }

    /// How often the database was opened.
    #[must_use]
    pub const fn opened(&self) -> u64 {
        self.opened
    }

    /// Makes the first disk fail.
    pub fn fail(&mut self, how: Trouble, after: u32) {
        let writes = [Call::Write];
        let syncs = [Call::SyncData, Call::SyncAll];
        let after = u64::from(after);
        match how {
            Trouble::Full => self.src.set_quota(Some(self.src.used() + after / 2 * 4096)),
            Trouble::Write => self.src.inject(Fault::eio(&writes, after)),
            Trouble::SyncKeep | Trouble::SyncRevert | Trouble::SyncDirty | Trouble::SyncLate | Trouble::SyncFull => {
                if let Some(failure) = how.sync_failure() {
                    // What reads show must not fall back without a word: no program could work on such a disk.
                    let silent = self.config.report == Report::Nobody && failure == SyncFailure::CleanRevert;
                    let failure = if silent { SyncFailure::CleanKeepNew } else { failure };
                    self.src.inject(Fault::nth(&syncs, after, Act::Sync(failure, Vec::new())));
                }
            }
            Trouble::Die => {
                let calls: Vec<Call> = CALLS.into_iter().filter(|c| c.changes()).collect();
                let dead = Act::Error(std::io::ErrorKind::Other);
                self.src.inject(Fault { times: u64::MAX, ..Fault::nth(&calls, after, dead) });
            }
            Trouble::Short => self.src.inject(Fault::nth(&writes, after, Act::Short(7))),
            Trouble::Interrupt => {
                self.src.inject(Fault::nth(&writes, after, Act::Error(std::io::ErrorKind::Interrupted)))
            }
        }
        self.trouble = Some(how);
        self.mark("fault");
    }

    /// The first disk fails no more.
    pub fn heal(&mut self) {
        self.src.set_quota(None);
        self.src.clear_faults();
        self.src.remount();
        let passing = matches!(self.trouble, Some(Trouble::Full | Trouble::Short | Trouble::Interrupt));
        self.hurt = self.trouble.filter(|_| !passing).or(self.hurt);
        self.trouble = None;
    }

    /// True when refusals may be the disk's fault.
    #[must_use]
    pub const fn fails(&self) -> bool {
        self.trouble.is_some() || self.hurt.is_some()
    }

    /// Notes the number of a checkpoint that is acknowledged now. It must be new, whatever became of earlier ones.
    ///
    /// # Errors
    /// When it was given before.
    pub fn number(&mut self, number: u64) -> Result<(), Failure> {
        let highest = self.numbers.iter().map(|(_, n)| *n).max().unwrap_or(0);
        if number <= highest {
            let text = format!("checkpoint number {number:#x} is given although {highest:#x} was");
            return Err(Failure::new(Rule::SeqOnce, text));
        }
        self.numbers.push((self.src.event(), number));
        Ok(())
    }

    /// The last call has failed half way. A change of the catalog may be in the catalog and not in the log: then increments of
    /// the log join no copy from before. That a backup was opened may have been noted or not.
    pub fn unsettle(&mut self) {
        let last = self.done.last().map_or("", |(_, op)| op.as_str());
        let is = |words: &[&str]| words.iter().any(|word| last.starts_with(word));
        let (opens, changes) = (
            is(&["backup", "link"]),
            is(&["create", "drop-table", "rename", "table-log", "end-backup", "link", "release"]),
        );
        let died = !matches!(self.trouble, Some(Trouble::Full));
        if changes && died {
            self.copies.iter_mut().for_each(|copy| copy.unsure = true);
        }
        if opens || is(&["table-log"]) || (changes && died && self.base == Base::There) {
            self.base = Base::Unsure;
        }
    }

    /// A table is logged no more: it may have been the one that no full backup had from its beginning in the log.
    pub fn base_may_do(&mut self) {
        if self.base == Base::Missing && self.copies.iter().any(|c| c.log.is_some()) {
            self.base = Base::Unsure;
        }
    }

    /// Notes an origin. It must not have named another state before.
    ///
    /// # Errors
    /// When it did.
    pub fn see(&mut self, origin: Origin, held: Option<u128>) -> Result<(), Failure> {
        let at = self.src.event();
        if let Some(held) = held {
            let (before, since) = *self.identities.entry(origin).or_insert((held, at));
            if before != held {
                let text = format!("origin {origin} names one state at event {since} and another one at {at}");
                return Err(Failure::new(Rule::SeqOnce, text));
            }
        }
        if self.seen.iter().all(|s| s.origin != origin) {
            let under_pin = self.pinned_at;
            self.seen.push(Seen { origin, at, under_pin, lost: None, released: None, unsure: false });
        }
        Ok(())
    }

    /// The database was opened again after its disk failed or its process died, and fell back if `fallen` says so.
    pub fn reopened_after_failure(&mut self, fallen: bool) {
        let at = self.src.event();
        for seen in &mut self.seen {
            if fallen && seen.under_pin.is_some() && seen.under_pin == self.pinned_at {
                seen.lost.get_or_insert(at);
            }
            // What was released meanwhile is released in a checkpoint that may be gone.
            seen.unsure |= seen.released.is_some_and(|(_, acked)| acked.is_none());
        }
        if fallen && let Some(pinned_at) = self.pinned_at {
            let undone = |s: &&mut Seen| s.released.is_some_and(|(at, _)| at >= pinned_at);
            self.seen.iter_mut().filter(undone).for_each(|s| s.unsure = true);
        }
        if let Some(opened) = self.pinned_at.take() {
            self.unpinned.insert(opened, at);
        }
    }

    /// The world of those who go on after a power cut of the first disk at event `cut`: with this disk, which will show
    /// `visible`, and the second one as it was then.
    #[must_use]
    pub fn after_cut(&self, disk: SimDisk, visible: Visible, cut: u64, pinned: bool) -> Self {
        let shelf = self.shelves.iter().rev().find(|s| s.at <= cut);
        let mut world = match shelf {
            None => Self::on(disk, &self.home, &self.config, visible),
            Some(shelf) => Self::with(disk, shelf.image.boot(), &self.home, &self.config, visible),
        };
        world.copies = shelf.map(|s| s.copies.clone()).unwrap_or_default();
        world.seen = self.seen_at(cut, pinned);
        world.taken.clone_from(&self.taken);
        world.after(self, cut)
    }

    /// What had been acknowledged before the cut stays taken, even if the checkpoint itself is given up. Numbers of this world
    /// come later than all events of that one.
    fn after(mut self, before: &Self, cut: u64) -> Self {
        let taken = before.numbers.iter().filter(|(event, _)| *event <= cut);
        self.numbers = taken.map(|(_, number)| (0, *number)).collect();
        let held = before.identities.iter().filter(|(_, (_, event))| *event <= cut);
        self.identities = held.map(|(origin, (held, _))| (*origin, (*held, 0))).collect();
        self.seen.iter_mut().for_each(|s| s.at = 0);
        self.place = format!("{}again-", before.place);
        self
    }

    /// The world of somebody who opens a copy, as it is on an image of the second disk. The other copies on it stand on a disk
    /// of their own there, so that the restored database can roll them forward.
    #[must_use]
    pub fn at_copy(&self, image: &Image, copy: &Copy, visible: Visible, event: u64) -> Self {
        let (done, begun) = copy.at(event);
        // Of those that look alike the earliest: what it knows, the others know too.
        let shown = visible.fingerprint();
        let alike = begun.iter().chain(done).filter(|s| s.expected.fingerprint() == shown);
        let origin = alike.map(|s| s.origin).min_by_key(|o| o.number).unwrap_or_default();
        let mut world = Self::with(image.boot(), image.boot(), &copy.dir, &self.config, visible);
        let whole = |c: &&Copy| c.dir != copy.dir && c.is_complete() && c.at(event).1.is_empty() && c.spoiled.is_none();
        let last = |c: &&Copy| c.stages.last().is_some_and(|s| s.acked.is_some_and(|a| a <= event));
        let others =
            self.copies.iter().filter(|c| whole(c) && last(c) && !c.targeted && c.origin.number <= origin.number);
        let placed = |c: &Copy| c.standing(&world.shelf.join(c.dir.file_name().unwrap_or_default()));
        world.copies = others.map(placed).collect();
        world.seen =
            self.seen.iter().filter(|s| s.lost.is_none() && s.origin.number <= origin.number).cloned().collect();
        world.seen.iter_mut().for_each(|s| {
            s.unsure |= s.released.is_some();
            s.under_pin = None;
        });
        world.taken.extend(self.lineage);
        world.place = format!("{}there-", self.place);
        world
    }

    /// What somebody knows of the origins who opens the database after a power cut at event `cut`. With `pinned` it may have
    /// fallen back.
    #[must_use]
    pub fn seen_at(&self, cut: u64, pinned: bool) -> Vec<Seen> {
        let known = self.seen.iter().filter(|s| s.at <= cut && s.lost.is_none_or(|at| at > cut)).cloned();
        let known = known.map(|mut s| {
            s.released = s.released.filter(|(called, _)| *called <= cut);
            let half = s.released.is_some_and(|(_, acked)| acked.is_none_or(|a| a > cut));
            let open = |at: u64| self.unpinned.get(&at).is_none_or(|end| cut <= *end);
            s.unsure |= half || pinned && (s.under_pin.is_some_and(open) || s.released.is_some());
            (s.under_pin, s.lost) = (None, None);
            s
        });
        known.collect()
    }

    /// Keeps the second disk as it is now, for those who go on from a crash of the first.
    pub fn keep_shelf(&mut self) {
        let copies = self.copies.iter().filter(|c| c.is_complete() && c.spoiled.is_none());
        let copies: Vec<Copy> = copies.map(|c| c.standing(&c.dir)).collect();
        let frame = self.dst.snapshot().frame();
        let shelf = Shelf { at: self.src.event(), image: frame.image(&frame.all()), copies };
        if self.shelves.len() >= SHELVES {
            self.shelves.remove(0);
        }
        self.shelves.push(shelf);
    }

    /// A directory on the second disk that nobody has used.
    pub fn new_place(&mut self, how: &str) -> PathBuf {
        let number = self.placed;
        self.placed += 1;
        self.shelf.join(format!("{}{how}-{number}", self.place))
    }

    /// Counts something.
    pub fn mark(&mut self, what: &'static str) {
        *self.marks.entry(what).or_default() += 1;
    }

    /// What the plan may look at.
    #[must_use]
    pub fn sight(&self) -> Sight {
        let number = |name: &String| name.strip_prefix('t').and_then(|n| n.parse().ok());
        Sight {
            running: self.live.txns.running.iter().map(|(slot, t)| (*slot, t.doomed)).collect(),
            tables: self.live.tables.keys().filter_map(number).collect(),
            views: self.live.checkpoints.views().collect(),
            backup: self.live.backup.is_some(),
            faulty: self.trouble.is_some(),
            log: self.logging,
            copy: self.logging
                && self.config.keep
                && (self.base != Base::There || self.copies.iter().any(|c| c.log.is_some() && c.is_complete())),
            copies: self.copies.iter().filter(|c| c.is_complete() && c.spoiled.is_none()).count(),
            increments: self.increments.iter().filter(|i| i.acked.is_some()).count(),
            seen: self.seen.len(),
        }
    }

    /// The barriers recorded so far, of the first and the second disk.
    #[must_use]
    pub fn barriers(&self) -> (Vec<Barrier>, Vec<Barrier>) {
        (self.src.take_barriers(), self.dst.take_barriers())
    }
}
