//! Barriers, images, recoveries, verdicts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::Vfs;

use super::observe::{self, Shown};
use super::rule::Rule;
use crate::disk::{AtomKind, Barrier, Choice, Damage, Event, Frame, Image, Limits, SimDisk, canonical};
use crate::driver::{self, Failure, Fleet, Marks, Stage, World};
use crate::engine::{self, Home};
use crate::model::{Allowed, History, Refusal, State, Visible, text_hash};
use crate::workload::{Config, Op, parse};

/// How hard to look.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Images per barrier.
    pub limits: Limits,
    /// Images per barrier of a recovery.
    pub nested_limits: Limits,
    /// One in so many recovered images is recovered with crashes; 0 for none.
    pub nested: u32,
    /// How often a crash may hit a recovery from a crash.
    pub depth: u32,
    /// Damaged in-flight sectors tried per barrier.
    pub torn: usize,
    /// Run the verifier on one in so many recovered images; 0 for none.
    pub verify: u32,
}

impl Effort {
    /// For campaigns.
    #[must_use]
    pub const fn swarm(seed: u64) -> Self {
        let mut limits = Limits::canonical(96);
        limits.seed = seed;
        let nested_limits = Limits::canonical(24);
        Self { limits, nested_limits, nested: 12, depth: 1, torn: 4, verify: 4 }
    }

    /// For one run of a campaign: one run in four is looked at hard. In the time that this takes many others are done, and
    /// what needs a rare history rather than a rare image is in those.
    #[must_use]
    pub const fn drawn(seed: u64) -> Self {
        let thorough = Self::swarm(seed);
        if seed.is_multiple_of(4) {
            return thorough;
        }
        let mut limits = Limits::canonical(20);
        limits.seed = seed;
        Self { limits, nested_limits: Limits::canonical(12), nested: 60, torn: 2, ..thorough }
    }

    /// For small scopes: every image of every barrier, and of every barrier of every recovery.
    #[must_use]
    pub const fn exhaustive() -> Self {
        let limits = Limits { choices: 4096, product: 1024, pairs: 16, random: 8, seed: 0 };
        let nested_limits = Limits { choices: 512, product: 256, pairs: 8, random: 4, seed: 0 };
        Self { limits, nested_limits, nested: 1, depth: 1, torn: 4, verify: 1 }
    }
}

/// What was done so far.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// Images judged: one for each choice at each barrier.
    pub states: u64,
    /// Different images among them.
    pub images: u64,
    /// Times the engine's recovery ran.
    pub recoveries: u64,
    /// Recoveries that were crashed themselves.
    pub nested: u64,
    /// Runs judged.
    pub worlds: u64,
    /// How often something worth counting happened.
    pub marks: Marks,
}

impl Count {
    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.states += other.states;
        self.images += other.images;
        self.recoveries += other.recoveries;
        self.nested += other.nested;
        self.worlds += other.worlds;
        for (mark, n) in &other.marks {
            *self.marks.entry(mark).or_default() += n;
        }
    }
}

/// How the disk kept its word, as far as an image tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// Whatever it promised is there.
    Kept,
    /// Since the sync at this event the log's promises are void: the sync succeeded, and failed later.
    Late(u64),
    /// Something else is missing that was promised. What the engine made of it can only be seen, or be an older state.
    Broken,
}

/// What came of opening an image.
enum Outcome {
    Shown(Shown),
    /// Opened, but something was wrong that no bounds are needed to see.
    Broken(Rule, String),
    Refused(Refusal, String),
    Panicked(String),
}

/// The judge, with all it has seen.
pub struct Judge {
    /// How hard it looks.
    pub effort: Effort,
    /// What it did.
    pub count: Count,
    verdicts: HashMap<(u64, u64), Arc<Outcome>>,
    crashed: BTreeSet<(u64, u64)>,
    /// Images of copies on which an interrupted increment was repeated.
    applied: BTreeSet<u64>,
}

/// Forget verdicts beyond this many, to bound memory.
const VERDICTS: usize = 400_000;

impl Judge {
    /// A judge who has seen nothing.
    #[must_use]
    pub fn new(effort: Effort) -> Self {
        Self {
            effort,
            count: Count::default(),
            verdicts: HashMap::new(),
            crashed: BTreeSet::new(),
            applied: BTreeSet::new(),
        }
    }

    /// Judges everything that crashes of this world's disks may leave, at barriers from event `since` on. Gives back the
    /// barriers of the first disk.
    ///
    /// # Errors
    /// The first promise that does not hold.
    pub fn judge(&mut self, world: &World, since: u64) -> Result<Vec<Barrier>, Failure> {
        self.count.worlds += 1;
        for (mark, n) in &world.marks {
            *self.count.marks.entry(mark).or_default() += n;
        }
        if self.verdicts.len() > VERDICTS {
            self.verdicts.clear();
            self.crashed.clear();
            self.applied.clear();
        }
        world.src.mark("end");
        world.dst.mark("end");
        let (src, dst) = world.barriers();
        let limits = self.effort.limits.clone();
        let depth = self.effort.depth;
        for barrier in src.iter().filter(|b| b.event >= since) {
            self.source(world, barrier, &limits, depth)?;
        }
        if !world.copies.is_empty() {
            dst.iter().try_for_each(|barrier| self.copies(world, barrier, &limits, depth))?;
        }
        Ok(src)
    }

    fn source(&mut self, world: &World, barrier: &Barrier, limits: &Limits, depth: u32) -> Result<(), Failure> {
        let frame = barrier.frame();
        let choices = canonical(&frame, limits);
        for choice in &choices {
            let image = frame.image(choice);
            let word = word(world, &frame, choice, None);
            self.source_image(world, barrier, &image, (depth, false), word)
                .map_err(|f| f.at(describe(&world.src, &frame, choice, None)))?;
        }
        // A recovery may be cut in the middle of a sector as well; there are many more of those, so each gets less.
        let most = if depth > 0 { self.effort.torn } else { self.effort.torn / 2 };
        for (choice, atom, damage) in torn(&frame, &choices, most) {
            let image = frame.damaged(choice, atom, damage);
            // A copier reads free space too, and there a sector that cannot be read stays until it is written again.
            let depth = if damage == Damage::Unreadable { 0 } else { depth };
            let word = word(world, &frame, choice, Some(atom));
            self.source_image(world, barrier, &image, (depth, true), word)
                .map_err(|f| f.at(describe(&world.src, &frame, choice, Some((atom, damage)))))?;
        }
        Ok(())
    }

    fn source_image(
        &mut self,
        world: &World,
        barrier: &Barrier,
        image: &Image,
        (depth, damaged): (u32, bool),
        word: Word,
    ) -> Result<(), Failure> {
        self.count.states += 1;
        let (hash, birth) = image.hash_and_birth();
        let allowed = match word {
            Word::Late(ok) => world.history.allowed_without(birth, barrier.event, ok),
            Word::Kept | Word::Broken => world.history.allowed(birth, barrier.event),
        };
        self.note(&allowed);
        let outcome = self.outcome(image, hash, &world.config, &world.home, true);
        if word != Word::Kept && self.is_betrayed(&outcome, &world.history, &allowed, word) {
            return Ok(());
        }
        let state = match verdict(&outcome, &world.history, &allowed) {
            Err(_) if is_unseen(world, barrier, &outcome) => return Ok(()),
            other => {
                other.map_err(|f| f.at(format!("image {hash:016x} lived from event {birth} to {}", barrier.event)))?
            }
        };
        if depth > 0 && self.wants_crash(hash, &world.config) {
            let mut visible = world.history.visible(&allowed, state);
            if let Outcome::Shown(shown) = &*outcome {
                visible.newest.clone_from(&shown.newest);
            }
            // A damaged sector may become whole again when the recovery writes over its neighbours and is cut: then the
            // record that seemed torn holds after all, and no one has seen anything else.
            let print = |s: &State| world.history.fingerprint(&allowed, *s);
            let unseen = allowed.states.iter().filter(|_| damaged).map(print).collect();
            let fallen = |s: &State| matches!(s, State::Fallen(..));
            let pinned = allowed.pinned || allowed.states.iter().any(fallen);
            let mut after = world.after_cut(image.boot(), visible, barrier.event, pinned);
            after.unseen = unseen;
            self.crash_recovery(after, hash, depth - 1).map_err(|f| f.at(format!("recovery of image {hash:016x}")))?;
        }
        Ok(())
    }

    /// True when an image that lacks what the disk had promised is refused as damaged, or, when it is not only the log that
    /// lacks it, shows an older state.
    fn is_betrayed(&mut self, outcome: &Outcome, history: &History, allowed: &Allowed, word: Word) -> bool {
        let mark = match outcome {
            Outcome::Refused(Refusal::Damage, _) => "broken promise of the disk, detected",
            Outcome::Broken(Rule::OpenOk | Rule::Verify, _) if word == Word::Broken => {
                "broken promise of the disk, detected"
            }
            Outcome::Shown(shown)
                if word == Word::Broken && history.recognise(allowed, shown.fingerprint).is_some() =>
            {
                "broken promise of the disk, an older state"
            }
            _ => {
                *self.count.marks.entry("late promise of the log at stake").or_default() += 1;
                return false;
            }
        };
        *self.count.marks.entry(mark).or_default() += 1;
        true
    }

    fn note(&mut self, allowed: &Allowed) {
        let mut mark = |what| *self.count.marks.entry(what).or_default() += 1;
        if allowed.states.len() > 1 {
            mark("several points allowed");
        }
        if allowed.log.1 > 0 {
            mark(if allowed.log.0 < allowed.log.1 {
                "commits at stake at the cut"
            } else {
                "commits promised at the cut"
            });
        }
        if allowed.pinned {
            mark("backup open at the cut");
            if allowed.log.1 > 0 {
                mark("backup open and commits in the log at the cut");
            }
            let back = |s: &State| matches!(*s, State::Fallen(p, _) if p + 1 < allowed.promised);
            if allowed.states.iter().any(back) {
                mark("fell back past two points");
            }
        }
    }

    /// Opens the image, unless that was done before.
    fn outcome(&mut self, image: &Image, hash: u64, config: &Config, home: &Path, create: bool) -> Arc<Outcome> {
        let place = (text_hash(format!("{} {config} {create}", home.display()).as_bytes()) >> 64) as u64;
        if let Some(known) = self.verdicts.get(&(hash, place)) {
            return Arc::clone(known);
        }
        self.count.images += 1;
        self.count.recoveries += 1;
        let verify = self.effort.verify > 0 && hash.is_multiple_of(self.effort.verify.into());
        let outcome = Arc::new(open_image(image.boot(), config, home, create, verify, hash));
        self.verdicts.insert((hash, place), Arc::clone(&outcome));
        outcome
    }

    fn wants_crash(&mut self, hash: u64, config: &Config) -> bool {
        let sampled = self.effort.nested > 0 && (hash >> 20).is_multiple_of(self.effort.nested.into());
        sampled && self.crashed.insert((hash, u64::from(config.pinned)))
    }

    /// Recovers the image with barriers recorded, lets a tail of work follow, and judges all of that (O2).
    fn crash_recovery(&mut self, mut world: World, hash: u64, depth: u32) -> Result<(), Failure> {
        self.count.nested += 1;
        world.chance = hash << 8;
        let tail = tail(hash);
        let in_recovery = |world: &World, f: Failure| match world.created {
            None if f.rule != Rule::Typed => Failure { rule: Rule::Idempotent, ..f },
            _ => f,
        };
        driver::run(&mut world, &mut tail.iter()).map_err(|f| in_recovery(&world, f))?;
        world.src.mark("end");
        let limits = self.effort.nested_limits.clone();
        let opened = world.created.unwrap_or(u64::MAX);
        let (src, dst) = world.barriers();
        for barrier in &src {
            self.source(&world, barrier, &limits, depth).map_err(|f| match f.rule {
                Rule::Typed | Rule::K2 => f,
                _ if barrier.event <= opened => Failure { rule: Rule::Idempotent, ..f },
                Rule::Durable if world.done.first().is_none_or(|(at, _)| barrier.event <= *at) => {
                    Failure { rule: Rule::ObservedStays, ..f }
                }
                _ => Failure { rule: Rule::Stay, ..f },
            })?;
        }
        if !world.copies.is_empty() {
            dst.iter().try_for_each(|barrier| self.copies(&world, barrier, &limits, 0))?;
        }
        for (mark, n) in world.marks.iter().filter(|(mark, _)| mark.contains("increment")) {
            *self.count.marks.entry(mark).or_default() += n;
        }
        if world.marks.contains_key("increment applied") {
            *self.count.marks.entry("increment after a power cut").or_default() += 1;
        }
        self.count.worlds += 1;
        Ok(())
    }

    /// Judges every copy on the second disk (O3).
    fn copies(&mut self, world: &World, barrier: &Barrier, limits: &Limits, depth: u32) -> Result<(), Failure> {
        let frame = barrier.frame();
        for choice in &canonical(&frame, limits) {
            let image = frame.image(choice);
            let hash = image.hash();
            for copy in world.copies.iter().filter(|c| c.spoiled.is_none_or(|at| barrier.event < at)) {
                self.count.states += 1;
                let outcome = self.outcome(&image, hash, &world.config, &copy.dir, false);
                let (done, begun) = copy.at(barrier.event);
                let complete = done.is_some() && begun.is_empty();
                let expected: Vec<&Visible> = begun.iter().rev().chain(done).map(|s| &s.expected).collect();
                let at = |f: Failure| {
                    let state = if complete { "complete" } else { "incomplete" };
                    let place = format!("copy {} ({state}) at event {}", copy.dir.display(), barrier.event);
                    f.at(place).at(describe(&world.dst, &frame, choice, None))
                };
                let shown = copy_verdict(&outcome, &expected, complete).map_err(at)?;
                if let Some(stage) = begun.last().filter(|s| !complete && s.increment.is_some()) {
                    self.go_on(world, &image, hash, (&copy.dir, stage)).map_err(at)?;
                }
                if let Some(expected) = shown
                    && depth > 0
                    && self.wants_crash(hash, &world.config)
                {
                    let newest = if let Outcome::Shown(s) = &*outcome { s.newest.clone() } else { None };
                    let visible = Visible { newest, ..expected.clone() };
                    let restored = world.at_copy(&image, copy, visible, barrier.event);
                    self.crash_recovery(restored, hash, 0)
                        .map_err(|f| f.at(format!("the copy {} is opened", copy.dir.display())))
                        .map_err(at)?;
                }
            }
        }
        Ok(())
    }
}

impl Judge {
    /// A power cut has interrupted an increment that was being applied: applied again, it brings the copy to its new state.
    fn go_on(&mut self, world: &World, image: &Image, hash: u64, (dir, stage): (&Path, &Stage)) -> Result<(), Failure> {
        // Campaigns meet many such images of one act; small scopes look at all.
        if self.effort.nested > 1 && !hash.is_multiple_of(5) {
            return Ok(());
        }
        let (Some(increment), true) =
            (&stage.increment, self.applied.insert(hash ^ text_hash(dir.as_os_str().as_encoded_bytes()) as u64))
        else {
            return Ok(());
        };
        let disk = image.boot();
        let name = dir.components().nth(1).map(|c| c.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
        let fleet: Arc<dyn Vfs> = Arc::new(Fleet::new(&[(&name, disk.clone())]));
        let again = || engine::apply(&fleet, increment, dir);
        match catch_unwind(AssertUnwindSafe(again)) {
            Err(_) => return Err(Failure::new(Rule::Typed, driver::take_panic())),
            Ok(Err(f)) => {
                return Err(Failure::new(
                    Rule::ChainFull,
                    format!("an interrupted increment cannot be repeated: {}", f.text),
                ));
            }
            Ok(Ok(())) => {}
        }
        *self.count.marks.entry("apply repeated after a power cut").or_default() += 1;
        let outcome = open_image(disk, &world.config, dir, false, true, hash);
        copy_verdict(&outcome, &[&stage.expected], true)
            .map(|_| ())
            .map_err(|f| Failure { rule: if f.rule == Rule::FullModel { Rule::ChainFull } else { f.rule }, ..f })
            .map_err(|f| f.at("the interrupted increment was applied again"))
    }
}

/// Opens a disk with the engine's recovery and reads everything.
fn open_image(disk: SimDisk, config: &Config, home: &Path, create: bool, verify: bool, hash: u64) -> Outcome {
    let name = home.components().nth(1).map(|c| c.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
    let fleet = Arc::new(Fleet::new(&[(&name, disk.clone())]));
    let home = Home { vfs: fleet, dir: home.to_owned(), config: config.clone(), create, salt: !hash, log: None };
    let look = || {
        let db = match engine::open(&home) {
            Ok(db) => db,
            Err(f) => return Outcome::Refused(f.refusal, f.text),
        };
        let outcome = match observe::show(&db) {
            Ok(shown) => Outcome::Shown(shown),
            Err(f) => Outcome::Broken(Rule::OpenOk, format!("it opens but does not read: {}", f.text)),
        };
        let pins = db.pins().unwrap_or(0);
        let outcome = match outcome {
            Outcome::Shown(_) if pins > 0 => Outcome::Broken(Rule::K3, format!("{pins} pins after recovery")),
            other => other,
        };
        let outcome = match (outcome, verify.then(|| db.verify())) {
            (Outcome::Shown(_), Some(Ok(findings))) if !findings.is_empty() => {
                Outcome::Broken(Rule::Verify, findings.join("; "))
            }
            (Outcome::Shown(_), Some(Err(f))) => Outcome::Broken(Rule::Verify, f.text),
            (other, _) => other,
        };
        // The process dies here; what its last close would write is nobody's concern.
        disk.kill();
        drop(db);
        outcome
    };
    catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|_| Outcome::Panicked(driver::take_panic()))
}

/// Whether the image has all that the disk promised; if not, what that means. A failure that is reported late takes back
/// what the log promised, until the next open has made that durable in another way.
fn word(world: &World, frame: &Frame, choice: &Choice, damaged: Option<usize>) -> Word {
    let Some(paths) = frame.broken_promises(choice, damaged) else { return Word::Kept };
    let (late, at) = (world.src.late_reports(), frame.barrier().event);
    let told = |path: &PathBuf| late.iter().filter(|(_, told, file)| *told <= at && file == path).collect::<Vec<_>>();
    let is_log = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(SEGMENT));
    if paths.is_empty() || !paths.iter().all(|p| is_log(p) && !told(p).is_empty()) {
        return Word::Broken;
    }
    let start = world.history.era_start(at);
    let since = paths.iter().flat_map(told).filter(|(_, told, _)| *told >= start).map(|(ok, ..)| *ok).min();
    since.map_or(Word::Kept, Word::Late)
}

/// How the names of segments of the log begin.
const SEGMENT: &str = "StrandlineLog.";

/// True when the image is of an open that had not succeeded yet, and shows what the disk might have shown before it.
fn is_unseen(world: &World, barrier: &Barrier, outcome: &Outcome) -> bool {
    let before = world.created.is_none_or(|at| barrier.event <= at);
    before && matches!(outcome, Outcome::Shown(shown) if world.unseen.contains(&shown.fingerprint))
}

/// The state that was recovered (O1).
fn verdict(outcome: &Outcome, history: &History, allowed: &Allowed) -> Result<State, Failure> {
    let shown = match outcome {
        Outcome::Shown(shown) => shown,
        Outcome::Broken(rule, text) => return Err(Failure::new(*rule, text.clone())),
        Outcome::Refused(kind, text) => {
            return Err(Failure::new(Rule::OpenOk, format!("recovery refuses ({kind:?}): {text}")));
        }
        Outcome::Panicked(text) => return Err(Failure::new(Rule::Typed, text.clone())),
    };
    if let Some(state) = history.find(allowed, shown.fingerprint) {
        return Ok(state);
    }
    let same = history.recognise(allowed, shown.fingerprint);
    let era = allowed.era();
    let tables = |s: &State| crate::model::summary(&history.visible(allowed, *s).latest) == shown.latest;
    let late = |s: State| match s {
        State::Root(p, n) | State::Fallen(p, n) => p > allowed.newest || n > allowed.log.1,
    };
    let rule = match same {
        Some((e, s)) if e == era && late(s) && !allowed.pinned => Rule::NoFuture,
        _ if allowed.pinned && allowed.log.1 == 0 => Rule::K2,
        Some(_) => Rule::Durable,
        None if allowed.states.iter().any(tables) => Rule::Named,
        None if allowed.pinned => Rule::K2,
        None => Rule::Prefix,
    };
    let name = |s: State| history.describe(era, s);
    let got = same.map_or_else(|| format!("no state that ever was: {shown}"), |(e, s)| history.describe(e, s));
    let wanted: Vec<String> = allowed.states.iter().take(8).map(|&s| name(s)).collect();
    let last = allowed.states.last().map(|&s| history.visible(allowed, s).to_string()).unwrap_or_default();
    let pinned = if allowed.pinned { ", a backup was open" } else { "" };
    Err(Failure::new(
        rule,
        format!("recovered {got}; allowed: {}{pinned}; the last of them shows {last}", wanted.join(", ")),
    ))
}

/// What the copy shows, when it opened: one of `expected`.
fn copy_verdict<'e>(
    outcome: &Outcome,
    expected: &[&'e Visible],
    complete: bool,
) -> Result<Option<&'e Visible>, Failure> {
    match outcome {
        Outcome::Panicked(text) => Err(Failure::new(Rule::Typed, text.clone())),
        Outcome::Refused(_, text) if complete => {
            Err(Failure::new(Rule::FullModel, format!("a complete copy is refused: {text}")))
        }
        Outcome::Refused(..) => Ok(None),
        Outcome::Broken(rule, text) => {
            let rule = if complete { *rule } else { Rule::Refuse };
            Err(Failure::new(rule, format!("the copy opens but is broken: {text}")))
        }
        Outcome::Shown(shown) => {
            let same = expected.iter().find(|e| e.fingerprint() == shown.fingerprint);
            let rule = if complete { Rule::FullModel } else { Rule::Refuse };
            let wanted: Vec<String> = expected.iter().map(ToString::to_string).collect();
            let text = || format!("the copy shows {shown}, expected {}", wanted.join(" or "));
            same.map(|e| Some(*e)).ok_or_else(|| Failure::new(rule, text()))
        }
    }
}

/// In-flight sectors to damage, spread over the choices.
fn torn<'c>(frame: &Frame, choices: &'c [Choice], most: usize) -> Vec<(&'c Choice, usize, Damage)> {
    let mut out = Vec::new();
    let each = choices.len().div_ceil(most.max(1)).max(1);
    for (n, choice) in choices.iter().enumerate().step_by(each).take(most) {
        let flying = frame.in_flight(choice);
        if !flying.is_empty() {
            let mut dice = (frame.barrier().event << 20) + ((n as u64) << 8) + frame.len() as u64;
            let mut below = |bound: u64| {
                dice = dice.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ dice >> 29;
                (dice >> 33) % bound
            };
            // Records are mostly shorter than a sector, so a tear in its first half tells more.
            let (atom, cut) = (flying[below(flying.len() as u64) as usize], 8 * (1 + below(32)));
            let damage = match below(6) {
                0 => Damage::Garbage(7),
                1 => Damage::Unreadable,
                2 | 3 => Damage::TornTail(cut as _),
                _ => Damage::TornHead(cut as _),
            };
            out.push((choice, atom, damage));
        }
    }
    out
}

/// What follows a recovery before the next crash; which of the tails depends on the image.
fn tail(hash: u64) -> Vec<Op> {
    let lines: &[&str] = match hash >> 8 & 7 {
        4 => &["link from=0 how=0 fresh", "put t0 k1 = #900001 x60", "checkpoint", "link from=1 how=1 hurt=9"],
        5 => &[
            "put t0 k1 = #900001 x60",
            "link from=0 how=2 fresh",
            "backup since=0 label=mon",
            "end-backup",
            "release all",
        ],
        6 => &["create t3", "put t3 k1 = #900001 x60", "checkpoint", "link from=2 how=1", "link from=0 how=3"],
        0 => &["put t0 k1 = #900001 x60", "checkpoint", "delete t0 k1", "checkpoint b"],
        1 => &["backup", "batch t0 k3 +1 *12 = #900001 x60", "checkpoint", "copy-all", "end-backup", "checkpoint"],
        2 => &["create t3", "put t3 k1 = #900001 x60", "checkpoint a", "verify", "restart", "checkpoint drop-all"],
        _ => {
            &["batch t0 k0 +1 *20 = #900001 x60", "checkpoint", "truncate t0 ..", "checkpoint", "checkpoint", "verify"]
        }
    };
    lines.iter().filter_map(|line| parse(line).ok()).collect()
}

/// Where an image comes from: the barrier, what was lost, what was kept.
fn describe(disk: &SimDisk, frame: &Frame, choice: &Choice, damage: Option<(usize, Damage)>) -> String {
    let events: BTreeMap<u64, Event> = disk.events().into_iter().map(|e| (e.index, e)).collect();
    let barrier = frame.barrier();
    let mut text = format!("cut at event {} ({}):", barrier.event, barrier.why);
    let lost: Vec<usize> = (0..frame.len()).filter(|i| !choice.has(*i)).collect();
    let kept: Vec<usize> = choice.iter().collect();
    let mut list = |title: &str, atoms: &[usize]| {
        let calls: BTreeSet<u64> = atoms.iter().map(|&i| frame.info(i).event).collect();
        for call in calls.iter().take(12) {
            let what = events.get(call).map_or_else(|| call.to_string(), ToString::to_string);
            let parts: Vec<String> =
                atoms.iter().filter(|&&i| frame.info(i).event == *call).map(|&i| part(&frame.info(i).kind)).collect();
            text += &format!("\n      {title} {what} {{{}}}", parts.join(" "));
        }
        if calls.len() > 12 {
            text += &format!("\n      {title} {} more calls", calls.len() - 12);
        }
    };
    list("lost", &lost);
    list("kept", &kept);
    if let Some((atom, damage)) = damage {
        text += &format!("\n      damaged {:?} of event {}: {damage:?}", frame.info(atom).kind, frame.info(atom).event);
    }
    text
}

fn part(kind: &AtomKind) -> String {
    match kind {
        AtomKind::Sector { offset, .. } => format!("@{offset}"),
        AtomKind::Length(n) => format!("len={n}"),
        AtomKind::Name { name, to } => format!("{}{}", if to.is_some() { "+" } else { "-" }, name.to_string_lossy()),
    }
}
