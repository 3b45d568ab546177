//! Configurations and operations drawn from dice.

use std::fmt;

use super::op::{Ends, From, KEYS, LABELS, Op, Trouble, checkpoint_name};
use crate::disk::Report;
use crate::model::{Drop, Level};

/// A source of choices: a number below `bound` (0 when `bound` is 0 or 1). Zero is the dullest choice.
pub trait Dice {
    /// The next choice.
    fn choose(&mut self, bound: u32) -> u32;

    /// True in one of `of` cases, never when the choices are dull.
    fn one_in(&mut self, of: u32) -> bool {
        self.choose(of) == of - 1
    }
}

/// How the engine is opened and what the workload is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Allocation unit, in bytes.
    pub unit: u32,
    /// Target size of leaves, in bytes.
    pub leaf: usize,
    /// Memory for pages, in bytes.
    pub cache: usize,
    /// A crash with a backup open falls back to the checkpoint it pinned.
    pub pinned: bool,
    /// Profile of the disks.
    pub profile: String,
    /// Different keys in use.
    pub keys: u16,
    /// Sizes of values are drawn up to this class.
    pub sizes: u32,
    /// Operations in the run.
    pub length: u32,
    /// Kinds of operation in use, one bit each.
    pub kinds: u64,
    /// The database has a log when it is made.
    pub log: bool,
    /// How large segments of the log grow, in bytes.
    pub segment: u32,
    /// No segment is removed unless that is asked for.
    pub keep: bool,
    /// How safe commits are that do not say it themselves.
    pub level: Level,
    /// A checkpoint is due after so many bytes of log; 0: never.
    pub every: u32,
    /// Who hears of a failed sync.
    pub report: Report,
    /// After a failed sync the disk is read-only until the database is closed.
    pub sticky: bool,
    /// Leaves are stored as patches where these take at most the n-th part; 0: never.
    pub patch: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            unit: 512,
            leaf: 512,
            cache: 1 << 20,
            pinned: true,
            profile: "strict".to_owned(),
            keys: KEYS,
            sizes: 3,
            length: 40,
            kinds: u64::MAX,
            log: false,
            segment: 4096,
            keep: false,
            level: Level::Sync,
            every: 0,
            report: Report::Each,
            sticky: false,
            patch: 0,
        }
    }
}

impl Config {
    /// Draws a configuration.
    pub fn draw(dice: &mut dyn Dice) -> Self {
        let pick = |dice: &mut dyn Dice, of: &[u32]| of[dice.choose(of.len() as u32) as usize];
        let unit = pick(dice, &[512, 512, 4096, 1024]);
        let leaf = pick(dice, &[512, 512, 1024, 4096]) as usize;
        let cache = pick(dice, &[1 << 20, 1 << 13, 1 << 14, 1 << 16]) as usize;
        let pinned = !dice.one_in(3);
        let keys = pick(dice, &[KEYS.into(), 8, 24, KEYS.into()]) as u16;
        let sizes = pick(dice, &[3, 4, 5, 7, 5]);
        let length = 10 + dice.choose(50);
        let log = dice.choose(3) != 0;
        let segment = pick(dice, &[4096, 2048, 16384, 1 << 20]);
        let keep = dice.one_in(3);
        let level = Level::ALL[pick(dice, &[0, 2, 1, 2]) as usize];
        let every = if dice.one_in(4) { 1000 + dice.choose(8000) } else { 0 };
        let patch = pick(dice, &[1, 0, 2, 1]) as usize;
        // Some runs are about one thing: chains of increments of blocks, or of the log.
        let about = [About::All, About::All, About::Blocks, About::Log][dice.choose(4) as usize];
        let (log, keep) = (log || about == About::Log, keep || about == About::Log);
        let length = if about == About::All { length } else { length.min(30) };
        let mut kinds = 0;
        for (kind, (what, _)) in KINDS.iter().enumerate() {
            let always = matches!(what, Kind::Put | Kind::Checkpoint | Kind::Commit) || about.needs(*what);
            if about.leaves(*what) {
                continue;
            }
            let rare = matches!(what, Kind::Fault | Kind::Kill | Kind::SetLog);
            if always || (if rare { dice.one_in(2) } else { dice.choose(3) != 2 }) {
                kinds |= 1 << kind;
            }
        }
        let profile = PROFILES[dice.choose(PROFILES.len() as u32) as usize].to_owned();
        let report = Report::ALL[pick(dice, &[0, 0, 0, 1, 2, 3]) as usize];
        let sticky = dice.one_in(4);
        Self {
            unit,
            leaf,
            cache,
            pinned,
            profile,
            keys,
            sizes,
            length,
            kinds,
            log,
            segment,
            keep,
            level,
            every,
            report,
            sticky,
            patch,
        }
    }

    /// Reads the text form back.
    ///
    /// # Errors
    /// The word that makes no sense.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut config = Self::default();
        for word in text.split_whitespace() {
            let bad = || format!("`{word}` is no setting");
            let (name, value) = word.split_once('=').ok_or_else(bad)?;
            let number = || value.parse::<u32>().map_err(|_| bad());
            match name {
                "unit" => config.unit = number()?,
                "leaf" => config.leaf = number()? as usize,
                "cache" => config.cache = number()? as usize,
                "contract" => config.pinned = value == "Pinned",
                "profile" => config.profile = value.to_owned(),
                "keys" => config.keys = number()? as u16,
                "sizes" => config.sizes = number()?,
                "length" => config.length = number()?,
                "kinds" => config.kinds = value.parse().map_err(|_| bad())?,
                "log" => config.log = value == "on",
                "segment" => config.segment = number()?,
                "keep" => config.keep = value == "on",
                "commit" => config.level = Level::by_name(value).ok_or_else(bad)?,
                "every" => config.every = number()?,
                "report" => config.report = Report::by_name(value).ok_or_else(bad)?,
                "sticky" => config.sticky = value == "on",
                "patch" => config.patch = number()? as usize,
                _ => return Err(bad()),
            }
        }
        Ok(config)
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contract = if self.pinned { "Pinned" } else { "Latest" };
        let Self { unit, leaf, cache, profile, keys, sizes, length, kinds, .. } = self;
        write!(f, "unit={unit} leaf={leaf} cache={cache} contract={contract} profile={profile} ")?;
        write!(f, "keys={keys} sizes={sizes} length={length} kinds={kinds}")?;
        let on = |on| if on { "on" } else { "off" };
        let Self { segment, every, patch, .. } = self;
        let (log, keep, level) = (on(self.log), on(self.keep), self.level.name());
        write!(f, " log={log} segment={segment} keep={keep} commit={level} every={every} patch={patch}")?;
        // What only matters to failing syncs is said only when it is not as usual.
        if self.report != Report::Each {
            write!(f, " report={}", self.report.name())?;
        }
        if self.sticky { write!(f, " sticky=on") } else { Ok(()) }
    }
}

/// What a run is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    All,
    Blocks,
    Log,
}

impl About {
    /// Without these it would be about nothing.
    const fn needs(self, kind: Kind) -> bool {
        match self {
            Self::All => false,
            Self::Blocks => matches!(kind, Kind::Link | Kind::Create | Kind::DropTable | Kind::Restart),
            Self::Log => {
                matches!(kind, Kind::LogIncrement | Kind::Backup | Kind::CopyAll | Kind::EndBackup | Kind::CatchUp)
            }
        }
    }

    /// These only take its time.
    const fn leaves(self, kind: Kind) -> bool {
        let reads =
            matches!(kind, Kind::Get | Kind::Scan | Kind::ReadView | Kind::View | Kind::RollBack | Kind::LogMessage);
        match self {
            Self::All => false,
            Self::Blocks => reads || matches!(kind, Kind::LogIncrement | Kind::CatchUp),
            Self::Log => reads || matches!(kind, Kind::Link | Kind::Apply | Kind::Spoil),
        }
    }
}

/// What makes sense now: the part of the model that the plan looks at.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Running transactions, and whether each was refused a write.
    pub running: Vec<(u8, bool)>,
    /// Tables by number.
    pub tables: Vec<u8>,
    /// Open views.
    pub views: Vec<u8>,
    /// A backup is open.
    pub backup: bool,
    /// The disk fails.
    pub faulty: bool,
    /// There is a log.
    pub log: bool,
    /// There is a copy that log increments fit on, or there may be no full backup, so that none is made.
    pub copy: bool,
    /// Copies that are whole.
    pub copies: usize,
    /// Increments that are.
    pub increments: usize,
    /// Origins that were seen.
    pub seen: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Put,
    Checkpoint,
    Commit,
    Begin,
    Insert,
    Update,
    Delete,
    Truncate,
    Get,
    Scan,
    RollBack,
    Batch,
    Meanwhile,
    View,
    ReadView,
    CloseView,
    Create,
    DropTable,
    Rename,
    Backup,
    CopyStep,
    CopyAll,
    Stream,
    EndBackup,
    Restart,
    ReadAll,
    Verify,
    Fault,
    Heal,
    SyncLog,
    LogMessage,
    Drive,
    RemoveLog,
    CatchUp,
    LogIncrement,
    Kill,
    SetLog,
    TableLog,
    Link,
    Apply,
    Release,
    Restore,
    Spoil,
}

/// Kinds and how often each is drawn, relative to the others.
const KINDS: [(Kind, u32); 43] = [
    (Kind::Put, 14),
    (Kind::Checkpoint, 11),
    (Kind::Commit, 9),
    (Kind::Begin, 6),
    (Kind::Insert, 4),
    (Kind::Update, 4),
    (Kind::Delete, 8),
    (Kind::Truncate, 3),
    (Kind::Get, 3),
    (Kind::Scan, 4),
    (Kind::RollBack, 2),
    (Kind::Batch, 7),
    (Kind::Meanwhile, 9),
    (Kind::View, 4),
    (Kind::ReadView, 3),
    (Kind::CloseView, 4),
    (Kind::Create, 3),
    (Kind::DropTable, 3),
    (Kind::Rename, 2),
    (Kind::Backup, 5),
    (Kind::CopyStep, 6),
    (Kind::CopyAll, 2),
    (Kind::Stream, 1),
    (Kind::EndBackup, 4),
    (Kind::Restart, 2),
    (Kind::ReadAll, 2),
    (Kind::Verify, 1),
    (Kind::Fault, 5),
    (Kind::Heal, 6),
    (Kind::SyncLog, 3),
    (Kind::LogMessage, 1),
    (Kind::Drive, 3),
    (Kind::RemoveLog, 2),
    (Kind::CatchUp, 4),
    (Kind::LogIncrement, 4),
    (Kind::Kill, 2),
    (Kind::SetLog, 1),
    (Kind::TableLog, 2),
    (Kind::Link, 10),
    (Kind::Apply, 4),
    (Kind::Release, 2),
    (Kind::Restore, 2),
    (Kind::Spoil, 1),
];

/// Kinds of disk that are drawn, half of the time the one that promises least.
///
/// Not drawn is `alice_worst`: on a disk that may lose both names of a rename over a file that is there, the last segment of
/// a log that was torn is not safe while recovery puts its copy in place. `--profile alice_worst` hunts there.
const PROFILES: [&str; 20] = [
    "strict",
    "strict",
    "strict",
    "strict",
    "strict",
    "strict",
    "strict",
    "strict",
    "strict",
    "strict",
    "ext4_writeback",
    "ext4_writeback",
    "linux",
    "linux",
    "nvme_16k",
    "ext4_ordered",
    "ext4_data_journal",
    "xfs",
    "btrfs",
    "apfs",
];
const SLOTS: u8 = 3;
const TABLES: u8 = 4;
/// Sizes of values by class; the last ones need overflow blocks.
const SIZES: [u32; 8] = [4, 12, 60, 200, 600, 0, 3000, 9000];

/// Draws operations one by one.
pub struct Plan<'d> {
    config: Config,
    dice: &'d mut dyn Dice,
    left: u32,
    value: u32,
}

impl<'d> Plan<'d> {
    /// A plan of `config.length` operations.
    pub fn new(config: &Config, dice: &'d mut dyn Dice) -> Self {
        Self { config: config.clone(), left: config.length, dice, value: 0 }
    }

    /// The next operation; `None` at the end.
    pub fn next(&mut self, sight: &Sight) -> Option<Op> {
        self.left = self.left.checked_sub(1)?;
        if sight.tables.is_empty() {
            return Some(self.create());
        }
        let kind = self.kind(sight);
        Some(self.op(kind, sight))
    }

    fn kind(&mut self, sight: &Sight) -> Kind {
        let weight = |at: usize, (kind, weight): (Kind, u32)| {
            let on = self.config.kinds & (1 << at) != 0 && makes_sense(kind, sight);
            if on { weight } else { 0 }
        };
        let weights: Vec<u32> = KINDS.iter().enumerate().map(|(at, k)| weight(at, *k)).collect();
        let mut n = self.dice.choose(weights.iter().sum());
        for (at, w) in weights.iter().enumerate() {
            if n < *w {
                return KINDS[at].0;
            }
            n -= w;
        }
        Kind::Put
    }

    fn op(&mut self, kind: Kind, sight: &Sight) -> Op {
        let table = self.among(&sight.tables);
        match kind {
            Kind::Begin => Op::Begin { slot: free_slot(sight) },
            Kind::Put => {
                let (slot, key, value, size) = self.row(sight);
                let level = self.level(sight).filter(|_| slot.is_none());
                Op::Put { slot, table, key, value, size, level }
            }
            Kind::Insert => {
                let (slot, key, value, size) = self.row(sight);
                Op::Insert { slot, table, key, value, size }
            }
            Kind::Update => {
                let (slot, key, value, size) = self.row(sight);
                Op::Update { slot, table, key, value, size }
            }
            Kind::Delete => Op::Delete { slot: self.slot(sight), table, key: self.key() },
            Kind::Truncate => Op::Truncate { slot: self.slot(sight), table, ends: self.ends() },
            Kind::Get => Op::Get { slot: self.slot(sight), table, key: self.key() },
            Kind::Scan => Op::Scan { slot: self.slot(sight), table, ends: self.ends(), pattern: self.dice.choose(16) },
            Kind::Commit => Op::Commit { slot: self.running(sight), level: self.level(sight) },
            Kind::RollBack => Op::RollBack { slot: self.running(sight) },
            Kind::Batch => self.batch(table, sight),
            Kind::Meanwhile => self.meanwhile(table),
            Kind::Checkpoint => self.checkpoint(),
            Kind::View => Op::View { slot: free_view(sight), name: self.name(2) },
            Kind::ReadView => Op::ReadView { slot: self.among(&sight.views), pattern: self.dice.choose(16) },
            Kind::CloseView => Op::CloseView { slot: self.among(&sight.views) },
            Kind::Create => self.create(),
            Kind::DropTable => Op::DropTable { table, force: self.dice.one_in(2) },
            Kind::Rename => Op::Rename { table, to: self.dice.choose(TABLES.into()) as u8 },
            Kind::Backup => {
                let (name, fresh, label) = (self.name(4), self.dice.one_in(5), self.label());
                Op::Backup { name, fresh, since: self.since(sight), label, shape: self.dice.choose(5) as u8 }
            }
            Kind::Link => {
                let from = if self.dice.one_in(3) { self.dice.choose(6) as u8 } else { 0 };
                let (how, fresh) = (self.dice.choose(45) as u8, !self.dice.one_in(4));
                let hurt = if self.dice.one_in(3) { self.dice.choose(80) as u8 } else { 0 };
                Op::Link { from, how, fresh, hurt }
            }
            Kind::Apply => Op::Apply { increment: self.dice.choose(3) as u8, copy: self.dice.choose(3) as u8 },
            Kind::Release => Op::Release {
                what: match self.dice.choose(4) {
                    0 | 1 => Some(From::Label(self.dice.choose(LABELS.into()) as u8)),
                    2 => Some(From::Seen(self.dice.choose(6) as u8)),
                    _ => None,
                },
            },
            Kind::Restore => {
                let table = self.dice.one_in(2).then(|| self.dice.choose(TABLES.into()) as u8);
                Op::Restore { copy: self.dice.choose(2) as u8, table }
            }
            Kind::Spoil => Op::Spoil { copy: self.dice.choose(3) as u8 },
            Kind::CopyStep => Op::CopyStep { pieces: 1 + self.dice.choose(12) as u16 },
            Kind::CopyAll => Op::CopyAll,
            Kind::Stream => Op::Stream,
            Kind::EndBackup => Op::EndBackup { forget: self.dice.one_in(3) },
            Kind::Restart => Op::Restart,
            Kind::ReadAll => Op::ReadAll { pattern: self.dice.choose(16) },
            Kind::Verify => Op::Verify,
            Kind::Fault => {
                let how = Trouble::ALL[self.dice.choose(Trouble::ALL.len() as u32) as usize];
                let most = if how == Trouble::Die { 40 } else { 8 };
                Op::Fault { how, after: self.dice.choose(most) }
            }
            Kind::Heal => Op::Heal,
            Kind::SyncLog => Op::SyncLog { level: if self.dice.one_in(3) { Level::Write } else { Level::Sync } },
            Kind::LogMessage => Op::LogMessage,
            Kind::Drive => Op::Drive,
            Kind::RemoveLog => Op::RemoveLog { backup: sight.backup && self.dice.one_in(2) },
            Kind::CatchUp => Op::CatchUp,
            Kind::LogIncrement => Op::LogIncrement { by_hand: self.dice.one_in(2) },
            Kind::Kill => Op::Kill,
            Kind::SetLog => Op::SetLog { on: self.dice.one_in(2) },
            Kind::TableLog => Op::TableLog { table, on: self.dice.one_in(2) },
        }
    }

    fn create(&mut self) -> Op {
        let table = self.dice.choose(TABLES.into()) as u8;
        Op::Create { table, unlogged: self.config.log && self.dice.one_in(4) }
    }

    /// Now and then a commit says itself how safe it is to be.
    fn level(&mut self, sight: &Sight) -> Option<Level> {
        (sight.log && self.dice.one_in(3)).then(|| Level::ALL[self.dice.choose(3) as usize])
    }

    fn row(&mut self, sight: &Sight) -> (Option<u8>, u16, u32, u32) {
        self.value += 1;
        (self.slot(sight), self.key(), self.value, self.size())
    }

    fn batch(&mut self, table: u8, sight: &Sight) -> Op {
        let count = 1 + self.dice.choose(24) as u16;
        let value = self.value + 1;
        self.value += u32::from(count);
        let (key, step, size) = (self.key(), 1 + self.dice.choose(3) as u16, self.size());
        Op::Batch { table, key, step, count, value, size, level: self.level(sight) }
    }

    fn meanwhile(&mut self, table: u8) -> Op {
        let count = 1 + self.dice.choose(12) as u16;
        let value = self.value + 1;
        self.value += u32::from(count);
        let (at, key, step) = (self.dice.choose(10) as u16, self.key(), 1 + self.dice.choose(3) as u16);
        let size = if self.dice.one_in(4) { 0 } else { self.size() };
        Op::Meanwhile { at, table, key, step, count, value, size }
    }

    fn checkpoint(&mut self) -> Op {
        let drops = match self.dice.choose(8) {
            5 => vec![Drop::Name(self.any_name())],
            6 => match self.dice.choose(4) {
                0 => vec![Drop::From(self.any_name())],
                1 => vec![Drop::To(self.any_name())],
                2 => vec![Drop::All],
                _ => vec![Drop::Name(self.any_name()), Drop::Name(self.any_name())],
            },
            _ => Vec::new(),
        };
        Op::Checkpoint { name: self.name(3), drops, force: self.dice.one_in(6) }
    }

    fn any_name(&mut self) -> String {
        // Now and then one that never exists.
        let n = self.dice.choose(5) as u8;
        if n == 4 { "unknown".to_owned() } else { checkpoint_name(n) }
    }

    fn name(&mut self, of: u32) -> Option<u8> {
        self.dice.one_in(of).then(|| self.dice.choose(4) as u8)
    }

    fn label(&mut self) -> Option<u8> {
        self.dice.one_in(3).then(|| self.dice.choose(LABELS.into()) as u8)
    }

    /// An increment, if there is anything to start from; now and then from nowhere.
    fn since(&mut self, sight: &Sight) -> Option<From> {
        let blocks = self.config.kinds & (1 << KINDS.iter().position(|k| k.0 == Kind::Link)?) != 0;
        if !blocks || sight.seen == 0 || self.dice.choose(2) == 0 {
            return None;
        }
        Some(match self.dice.choose(8) {
            0..=4 => From::Seen(self.dice.choose(5) as u8),
            5 | 6 => From::Label(self.dice.choose(LABELS.into()) as u8),
            _ if self.dice.one_in(2) => From::Foreign,
            _ => From::Future,
        })
    }

    fn slot(&mut self, sight: &Sight) -> Option<u8> {
        let usable: Vec<u8> = sight.running.iter().filter(|(_, doomed)| !doomed).map(|(s, _)| *s).collect();
        if usable.is_empty() || self.dice.one_in(3) { None } else { Some(self.among(&usable)) }
    }

    fn running(&mut self, sight: &Sight) -> u8 {
        let slots: Vec<u8> = sight.running.iter().map(|(s, _)| *s).collect();
        self.among(&slots)
    }

    fn among(&mut self, of: &[u8]) -> u8 {
        of.get(self.dice.choose(of.len() as u32) as usize).copied().unwrap_or(0)
    }

    fn key(&mut self) -> u16 {
        // Transactions meet only where they touch the same rows, so some rows are dearer than others.
        let keys = if self.dice.one_in(3) { self.config.keys.min(4) } else { self.config.keys };
        self.dice.choose(keys.into()) as u16
    }

    fn size(&mut self) -> u32 {
        SIZES[self.dice.choose(self.config.sizes.clamp(1, 8)) as usize]
    }

    fn ends(&mut self) -> Ends {
        let mut end = || match self.dice.choose(4) {
            0 => None,
            _ => Some((self.dice.choose(self.config.keys.into()) as u16, self.dice.choose(2) == 0)),
        };
        let (lo, hi) = (end(), end());
        match (lo, hi) {
            // Mostly the right way round; sometimes empty on purpose.
            (Some(l), Some(h)) if l.0 > h.0 && !self.dice.one_in(4) => Ends { lo: Some(h), hi: Some(l) },
            _ => Ends { lo, hi },
        }
    }
}

fn free_slot(sight: &Sight) -> u8 {
    (0..SLOTS).find(|s| sight.running.iter().all(|(r, _)| r != s)).unwrap_or(0)
}

fn free_view(sight: &Sight) -> u8 {
    (0..SLOTS).find(|s| !sight.views.contains(s)).unwrap_or(0)
}

fn makes_sense(kind: Kind, sight: &Sight) -> bool {
    match kind {
        Kind::Begin => sight.running.len() < SLOTS.into(),
        Kind::Commit | Kind::RollBack => !sight.running.is_empty(),
        Kind::View => sight.views.len() < SLOTS.into(),
        Kind::ReadView | Kind::CloseView => !sight.views.is_empty(),
        Kind::CopyStep | Kind::CopyAll | Kind::Stream | Kind::EndBackup => sight.backup,
        Kind::Fault => !sight.faulty,
        Kind::Heal => sight.faulty,
        Kind::SyncLog | Kind::LogMessage | Kind::Drive | Kind::RemoveLog | Kind::TableLog => sight.log,
        Kind::CatchUp => sight.log && sight.backup,
        Kind::LogIncrement => sight.copy && !sight.backup,
        Kind::Link => !sight.backup,
        Kind::Apply => sight.copies > 0 && sight.increments > 0,
        Kind::Release => sight.seen > 0,
        Kind::Restore | Kind::Spoil => sight.copies > 0,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_back() {
        struct Last;
        impl Dice for Last {
            fn choose(&mut self, bound: u32) -> u32 {
                bound.saturating_sub(1)
            }
        }
        for config in [Config::default(), Config::draw(&mut Last)] {
            assert_eq!(Config::parse(&config.to_string()).unwrap(), config);
        }
    }

    #[test]
    fn dull_dice_make_a_plan() {
        struct Dull;
        impl Dice for Dull {
            fn choose(&mut self, _: u32) -> u32 {
                0
            }
        }
        let sight = Sight { tables: vec![0], ..Sight::default() };
        let mut dice = Dull;
        let mut plan = Plan::new(&Config { length: 2, ..Config::default() }, &mut dice);
        assert!(plan.next(&sight).is_some() && plan.next(&sight).is_some());
        assert!(plan.next(&sight).is_none());
    }
}
