//! The operations, their text form and the rows they use.

use std::fmt;

use crate::disk::SyncFailure;
use crate::model::{Bytes, Drop, Level};

/// Number of different keys.
pub const KEYS: u16 = 64;

/// Bounds of a scan or a range truncate: key numbers, each with "this one too".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Where it starts; `None`: at the first key.
    pub lo: Option<(u16, bool)>,
    /// Where it ends; `None`: at the last key.
    pub hi: Option<(u16, bool)>,
}

/// One operation. `slot` names a running transaction, `None` stands for a transaction of its own, committed at once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the arguments of the calls they are named after")]
pub enum Op {
    Begin {
        slot: u8,
    },
    Put {
        slot: Option<u8>,
        table: u8,
        key: u16,
        value: u32,
        size: u32,
        level: Option<Level>,
    },
    Insert {
        slot: Option<u8>,
        table: u8,
        key: u16,
        value: u32,
        size: u32,
    },
    Update {
        slot: Option<u8>,
        table: u8,
        key: u16,
        value: u32,
        size: u32,
    },
    Delete {
        slot: Option<u8>,
        table: u8,
        key: u16,
    },
    Truncate {
        slot: Option<u8>,
        table: u8,
        ends: Ends,
    },
    Get {
        slot: Option<u8>,
        table: u8,
        key: u16,
    },
    Scan {
        slot: Option<u8>,
        table: u8,
        ends: Ends,
        pattern: u32,
    },
    Commit {
        slot: u8,
        level: Option<Level>,
    },
    RollBack {
        slot: u8,
    },
    /// Many rows in one transaction: keys from `key` on in steps, each with the next value.
    Batch {
        table: u8,
        key: u16,
        step: u16,
        count: u16,
        value: u32,
        size: u32,
        level: Option<Level>,
    },
    /// A batch that commits in the middle of the next checkpoint; of size 0: that removes the rows.
    Meanwhile {
        at: u16,
        table: u8,
        key: u16,
        step: u16,
        count: u16,
        value: u32,
        size: u32,
    },
    Checkpoint {
        name: Option<u8>,
        drops: Vec<Drop>,
        force: bool,
    },
    View {
        slot: u8,
        name: Option<u8>,
    },
    ReadView {
        slot: u8,
        pattern: u32,
    },
    CloseView {
        slot: u8,
    },
    Create {
        table: u8,
        unlogged: bool,
    },
    DropTable {
        table: u8,
        force: bool,
    },
    Rename {
        table: u8,
        to: u8,
    },
    /// Full, or since an origin; with a label for its own origin, and ranges in one of a few shapes.
    Backup {
        name: Option<u8>,
        fresh: bool,
        since: Option<From>,
        label: Option<u8>,
        shape: u8,
    },
    /// An increment from beginning to end: opened on the state of a copy or an earlier one, copied, ended, applied to that copy,
    /// interrupted on the way if `hurt` says so.
    Link {
        from: u8,
        how: u8,
        fresh: bool,
        hurt: u8,
    },
    /// An increment is applied to a copy, whether it fits or not; both counted from the newest.
    Apply {
        increment: u8,
        copy: u8,
    },
    /// An origin or a label is given up; `None`: all of them.
    Release {
        what: Option<From>,
    },
    /// A copy is restored to a directory of its own, all of it or one table.
    Restore {
        copy: u8,
        table: Option<u8>,
    },
    /// A copy is opened as a database: it is none any more.
    Spoil {
        copy: u8,
    },
    /// One piece of the copying that a foreign program does.
    CopyStep {
        pieces: u16,
    },
    /// The engine's own copier.
    CopyAll,
    /// Backup and restore through a pipe.
    Stream,
    EndBackup {
        forget: bool,
    },
    /// The segments since, into every copy of the open backup.
    CatchUp,
    /// An increment of segments, applied to the newest copy: by the engine or by copying its files.
    LogIncrement {
        by_hand: bool,
    },
    /// Everything before is with the system, or on the medium.
    SyncLog {
        level: Level,
    },
    LogMessage,
    /// Work that is due in the background.
    Drive,
    RemoveLog {
        backup: bool,
    },
    /// From the next open on there is a log, or none.
    SetLog {
        on: bool,
    },
    TableLog {
        table: u8,
        on: bool,
    },
    /// The process dies and the database is opened again, with what is in the page cache.
    Kill,
    /// Clean close, open again.
    Restart,
    /// Everything that can be read is read and compared.
    ReadAll {
        pattern: u32,
    },
    Verify,
    /// From now on the disk of the database fails, after some calls that pass.
    Fault {
        how: Trouble,
        after: u32,
    },
    /// It fails no more.
    Heal,
}

/// Where an increment starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// An origin that was seen, counted from the newest.
    Seen(u8),
    /// A label.
    Label(u8),
    /// An origin of another database.
    Foreign,
    /// One that is still to come.
    Future,
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seen(n) => write!(f, "{n}"),
            Self::Label(n) => f.write_str(&label_name(*n)),
            Self::Foreign => f.write_str("foreign"),
            Self::Future => f.write_str("future"),
        }
    }
}

fn parse_from(word: &str) -> Option<From> {
    match word {
        "foreign" => Some(From::Foreign),
        "future" => Some(From::Future),
        _ => match (0..LABELS).find(|n| label_name(*n) == word) {
            Some(n) => Some(From::Label(n)),
            None => word.parse().ok().map(From::Seen),
        },
    }
}

/// How many labels there are.
pub const LABELS: u8 = 4;

/// The `n`-th label.
#[must_use]
pub fn label_name(n: u8) -> String {
    ["mon", "tue", "wed", "monday"][usize::from(n) % 4].to_owned()
}

/// How a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is full.
    Full,
    /// One write fails.
    Write,
    /// One sync fails, and the cache shows what the medium does not hold.
    SyncKeep,
    /// One sync fails, and what was not synced is gone at once.
    SyncRevert,
    /// One write is short; the next goes on.
    Short,
    /// One write is interrupted.
    Interrupt,
    /// One sync fails, and everything stays to be written; the next may succeed.
    SyncDirty,
    /// One sync succeeds and fails when the file is synced the next time: what it promised may be lost from then on.
    SyncLate,
    /// One sync finds the disk full, and what was not synced is lost.
    SyncFull,
    /// The process is dead from some call on: none of its calls changes anything any more.
    Die,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Full,
        Self::Write,
        Self::SyncKeep,
        Self::SyncRevert,
        Self::Short,
        Self::Interrupt,
        Self::SyncDirty,
        Self::Die,
        Self::SyncLate,
        Self::SyncFull,
    ];

    /// How the disk fails when a sync is what fails.
    #[must_use]
    pub const fn sync_failure(self) -> Option<SyncFailure> {
        Some(match self {
            Self::SyncKeep => SyncFailure::CleanKeepNew,
            Self::SyncRevert => SyncFailure::CleanRevert,
            Self::SyncDirty => SyncFailure::DirtyRetry,
            Self::SyncLate => SyncFailure::LateReport,
            Self::SyncFull => SyncFailure::EnospcAtSync,
            Self::Full | Self::Write | Self::Short | Self::Interrupt | Self::Die => return None,
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Write => "write",
            Self::SyncKeep => "sync-keep",
            Self::SyncRevert => "sync-revert",
            Self::Short => "short",
            Self::Interrupt => "interrupt",
            Self::SyncDirty => "sync-dirty",
            Self::SyncLate => "sync-late",
            Self::SyncFull => "sync-full",
            Self::Die => "die",
        }
    }
}

/// Name of the `n`-th table.
pub fn table_name(n: u8) -> String {
    format!("t{n}")
}

/// Name of the `n`-th named checkpoint. One is a prefix of another on purpose.
pub fn checkpoint_name(n: u8) -> String {
    ["a", "ab", "b", "June01"][usize::from(n) % 4].to_owned()
}

/// The `n`-th key, in order of `n`. Some are long, so that pages hold few of them; all share a prefix.
#[must_use]
pub fn key_of(n: u16) -> Bytes {
    let mut key = format!("k{n:03}").into_bytes();
    match n % 16 {
        7 => key.extend(std::iter::repeat_n(b'~', 150)),
        12 => key.push(0),
        _ => {}
    }
    key.into()
}

/// A value that occurs once in a run: `number` and filler, `size` bytes long (at least 4, except 0).
#[must_use]
pub fn value_of(number: u32, size: u32) -> Bytes {
    if size == 0 {
        return Bytes::from([].as_slice());
    }
    let mut value = number.to_le_bytes().to_vec();
    let mut x = number.wrapping_mul(0x9e37_79b9) | 1;
    while value.len() < size as usize {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        value.push(x as u8);
    }
    value.into()
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lo {
            None => write!(f, "..")?,
            Some((k, true)) => write!(f, "k{k}..")?,
            Some((k, false)) => write!(f, "k{k}<..")?,
        }
        match self.hi {
            None => Ok(()),
            Some((k, true)) => write!(f, "=k{k}"),
            Some((k, false)) => write!(f, "k{k}"),
        }
    }
}

/// How safe a commit is to be, when that is not the default.
struct At(Option<Level>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |level| write!(f, " {}", level.name()))
    }
}

struct In(Option<u8>);

impl fmt::Display for In {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |s| write!(f, " in {s}"))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin { slot } => write!(f, "begin {slot}"),
            Self::Put { slot, table, key, value, size, level } => {
                write!(f, "put t{table} k{key} = #{value} x{size}{}{}", In(*slot), At(*level))
            }
            Self::Insert { slot, table, key, value, size } => {
                write!(f, "insert t{table} k{key} = #{value} x{size}{}", In(*slot))
            }
            Self::Update { slot, table, key, value, size } => {
                write!(f, "update t{table} k{key} = #{value} x{size}{}", In(*slot))
            }
            Self::Delete { slot, table, key } => write!(f, "delete t{table} k{key}{}", In(*slot)),
            Self::Truncate { slot, table, ends } => write!(f, "truncate t{table} {ends}{}", In(*slot)),
            Self::Get { slot, table, key } => write!(f, "get t{table} k{key}{}", In(*slot)),
            Self::Scan { slot, table, ends, pattern } => write!(f, "scan t{table} {ends} ~{pattern}{}", In(*slot)),
            Self::Commit { slot, level } => write!(f, "commit {slot}{}", At(*level)),
            Self::RollBack { slot } => write!(f, "rollback {slot}"),
            Self::Batch { table, key, step, count, value, size, level } => {
                write!(f, "batch t{table} k{key} +{step} *{count} = #{value} x{size}{}", At(*level))
            }
            Self::Meanwhile { at, table, key, step, count, value, size } => {
                write!(f, "meanwhile @{at} t{table} k{key} +{step} *{count} = #{value} x{size}")
            }
            Self::Checkpoint { name, drops, force } => {
                write!(f, "checkpoint")?;
                if let Some(n) = name {
                    write!(f, " {}", checkpoint_name(*n))?;
                }
                for drop in drops {
                    match drop {
                        Drop::Name(n) => write!(f, " drop={n}")?,
                        Drop::From(n) => write!(f, " from={n}")?,
                        Drop::To(n) => write!(f, " to={n}")?,
                        Drop::All => write!(f, " drop-all")?,
                    }
                }
                if *force { write!(f, " force") } else { Ok(()) }
            }
            Self::View { slot, name } => {
                write!(f, "view {slot}")?;
                name.map_or(Ok(()), |n| write!(f, " {}", checkpoint_name(n)))
            }
            Self::ReadView { slot, pattern } => write!(f, "read-view {slot} ~{pattern}"),
            Self::CloseView { slot } => write!(f, "close-view {slot}"),
            Self::Create { table, unlogged } => {
                write!(f, "create t{table}{}", if *unlogged { " unlogged" } else { "" })
            }
            Self::DropTable { table, force } => {
                write!(f, "drop-table t{table}{}", if *force { " force" } else { "" })
            }
            Self::Rename { table, to } => write!(f, "rename t{table} t{to}"),
            Self::Backup { name, fresh, since, label, shape } => {
                write!(f, "backup")?;
                if let Some(n) = name {
                    write!(f, " {}", checkpoint_name(*n))?;
                }
                if *fresh {
                    write!(f, " fresh")?;
                }
                if let Some(since) = since {
                    write!(f, " since={since}")?;
                }
                if let Some(n) = label {
                    write!(f, " label={}", label_name(*n))?;
                }
                if *shape > 0 { write!(f, " shape={shape}") } else { Ok(()) }
            }
            Self::Link { from, how, fresh, hurt } => {
                write!(f, "link from={from} how={how} hurt={hurt}{}", if *fresh { " fresh" } else { "" })
            }
            Self::Apply { increment, copy } => write!(f, "apply increment={increment} copy={copy}"),
            Self::Release { what: None } => write!(f, "release all"),
            Self::Release { what: Some(what) } => write!(f, "release {what}"),
            Self::Restore { copy, table } => {
                write!(f, "restore copy={copy}")?;
                table.map_or(Ok(()), |t| write!(f, " t{t}"))
            }
            Self::Spoil { copy } => write!(f, "spoil copy={copy}"),
            Self::CopyStep { pieces } => write!(f, "copy-step *{pieces}"),
            Self::CopyAll => write!(f, "copy-all"),
            Self::Stream => write!(f, "stream"),
            Self::EndBackup { forget } => write!(f, "end-backup{}", if *forget { " forget" } else { "" }),
            Self::CatchUp => write!(f, "catch-up"),
            Self::LogIncrement { by_hand } => write!(f, "log-increment{}", if *by_hand { " by-hand" } else { "" }),
            Self::SyncLog { level } => write!(f, "sync-log {}", level.name()),
            Self::LogMessage => write!(f, "log-message"),
            Self::Drive => write!(f, "drive"),
            Self::RemoveLog { backup } => write!(f, "remove-log{}", if *backup { " backup" } else { "" }),
            Self::SetLog { on } => write!(f, "set-log {}", if *on { "on" } else { "off" }),
            Self::TableLog { table, on } => write!(f, "table-log t{table} {}", if *on { "on" } else { "off" }),
            Self::Kill => write!(f, "kill"),
            Self::Restart => write!(f, "restart"),
            Self::ReadAll { pattern } => write!(f, "read-all ~{pattern}"),
            Self::Verify => write!(f, "verify"),
            Self::Fault { how, after } => write!(f, "fault {} *{after}", how.name()),
            Self::Heal => write!(f, "heal"),
        }
    }
}

/// Reads the text form back.
///
/// # Errors
/// The word that makes no sense.
pub fn parse(line: &str) -> Result<Op, String> {
    let mut words = line.split_whitespace().peekable();
    let verb = words.next().ok_or("an empty line")?;
    let rest: Vec<&str> = words.collect();
    let bad = || format!("`{line}` is no operation");
    let has = |word: &str| rest.contains(&word);
    let slot = rest.windows(2).find(|w| w[0] == "in").and_then(|w| w[1].parse().ok());
    let number = |mark: char| rest.iter().find_map(|w| w.strip_prefix(mark)).and_then(|n| n.parse::<u32>().ok());
    let tables: Vec<u8> = rest.iter().filter_map(|w| w.strip_prefix('t')).filter_map(|n| n.parse().ok()).collect();
    let table = tables.first().copied();
    let key = number('k').and_then(|k| u16::try_from(k).ok());
    let first = rest.first().and_then(|w| w.parse::<u8>().ok());
    let name = rest.iter().find_map(|w| (0..4).find(|n| checkpoint_name(*n) == **w));
    let pattern = number('~').unwrap_or(0);
    let level = rest.iter().find_map(|w| Level::by_name(w));
    let set = |name: &str| rest.iter().find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
    let small = |name: &str| set(name).and_then(|n| n.parse().ok()).unwrap_or(0);
    let ends = || rest.iter().find(|w| w.contains("..")).and_then(|w| parse_ends(w)).ok_or_else(bad);
    let row = || -> Result<(u8, u16, u32, u32), String> {
        Ok((table.ok_or_else(bad)?, key.ok_or_else(bad)?, number('#').ok_or_else(bad)?, number('x').ok_or_else(bad)?))
    };
    Ok(match verb {
        "begin" => Op::Begin { slot: first.ok_or_else(bad)? },
        "commit" => Op::Commit { slot: first.ok_or_else(bad)?, level },
        "rollback" => Op::RollBack { slot: first.ok_or_else(bad)? },
        "put" => row().map(|(table, key, value, size)| Op::Put { slot, table, key, value, size, level })?,
        "insert" => row().map(|(table, key, value, size)| Op::Insert { slot, table, key, value, size })?,
        "update" => row().map(|(table, key, value, size)| Op::Update { slot, table, key, value, size })?,
        "delete" => Op::Delete { slot, table: table.ok_or_else(bad)?, key: key.ok_or_else(bad)? },
        "get" => Op::Get { slot, table: table.ok_or_else(bad)?, key: key.ok_or_else(bad)? },
        "truncate" => Op::Truncate { slot, table: table.ok_or_else(bad)?, ends: ends()? },
        "scan" => Op::Scan { slot, table: table.ok_or_else(bad)?, ends: ends()?, pattern },
        "meanwhile" => row().map(|(table, key, value, size)| Op::Meanwhile {
            at: number('@').unwrap_or(0) as u16,
            table,
            key,
            step: number('+').unwrap_or(1) as u16,
            count: number('*').unwrap_or(1) as u16,
            value,
            size,
        })?,
        "batch" => row().map(|(table, key, value, size)| Op::Batch {
            table,
            key,
            step: number('+').unwrap_or(1) as u16,
            count: number('*').unwrap_or(1) as u16,
            value,
            size,
            level,
        })?,
        "checkpoint" => Op::Checkpoint { name, drops: parse_drops(&rest), force: has("force") },
        "view" => Op::View { slot: first.ok_or_else(bad)?, name },
        "read-view" => Op::ReadView { slot: first.ok_or_else(bad)?, pattern },
        "close-view" => Op::CloseView { slot: first.ok_or_else(bad)? },
        "create" => Op::Create { table: table.ok_or_else(bad)?, unlogged: has("unlogged") },
        "drop-table" => Op::DropTable { table: table.ok_or_else(bad)?, force: has("force") },
        "rename" => Op::Rename { table: table.ok_or_else(bad)?, to: *tables.get(1).ok_or_else(bad)? },
        "backup" => {
            let label = set("label").and_then(|w| (0..LABELS).find(|n| label_name(*n) == w));
            let since = set("since").and_then(parse_from);
            Op::Backup { name, fresh: has("fresh"), since, label, shape: small("shape") }
        }
        "link" => Op::Link { from: small("from"), how: small("how"), fresh: has("fresh"), hurt: small("hurt") },
        "apply" => Op::Apply { increment: small("increment"), copy: small("copy") },
        "release" => match rest.first() {
            Some(&"all") => Op::Release { what: None },
            Some(word) => Op::Release { what: Some(parse_from(word).ok_or_else(bad)?) },
            None => return Err(bad()),
        },
        "restore" => Op::Restore { copy: small("copy"), table },
        "spoil" => Op::Spoil { copy: small("copy") },
        "copy-step" => Op::CopyStep { pieces: number('*').unwrap_or(1) as u16 },
        "copy-all" => Op::CopyAll,
        "stream" => Op::Stream,
        "end-backup" => Op::EndBackup { forget: has("forget") },
        "catch-up" => Op::CatchUp,
        "log-increment" => Op::LogIncrement { by_hand: has("by-hand") },
        "sync-log" => Op::SyncLog { level: level.ok_or_else(bad)? },
        "log-message" => Op::LogMessage,
        "drive" => Op::Drive,
        "remove-log" => Op::RemoveLog { backup: has("backup") },
        "set-log" => Op::SetLog { on: has("on") },
        "table-log" => Op::TableLog { table: table.ok_or_else(bad)?, on: has("on") },
        "kill" => Op::Kill,
        "restart" => Op::Restart,
        "read-all" => Op::ReadAll { pattern },
        "verify" => Op::Verify,
        "fault" => {
            let how = Trouble::ALL.into_iter().find(|t| has(t.name())).ok_or_else(bad)?;
            Op::Fault { how, after: number('*').unwrap_or(0) }
        }
        "heal" => Op::Heal,
        _ => return Err(bad()),
    })
}

fn parse_drops(words: &[&str]) -> Vec<Drop> {
    let one = |w: &&str| match w.split_once('=') {
        Some(("drop", n)) => Some(Drop::Name(n.to_owned())),
        Some(("from", n)) => Some(Drop::From(n.to_owned())),
        Some(("to", n)) => Some(Drop::To(n.to_owned())),
        _ => (*w == "drop-all").then_some(Drop::All),
    };
    words.iter().filter_map(one).collect()
}

fn parse_ends(word: &str) -> Option<Ends> {
    let (lo, hi) = word.split_once("..")?;
    let number = |w: &str| w.strip_prefix('k')?.parse::<u16>().ok();
    let lo = match lo {
        "" => None,
        _ => match lo.strip_suffix('<') {
            Some(open) => Some((number(open)?, false)),
            None => Some((number(lo)?, true)),
        },
    };
    let hi = match hi {
        "" => None,
        _ => match hi.strip_prefix('=') {
            Some(closed) => Some((number(closed)?, true)),
            None => Some((number(hi)?, false)),
        },
    };
    Some(Ends { lo, hi })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ascend() {
        assert!((1..KEYS).all(|n| key_of(n - 1) < key_of(n)));
    }

    #[test]
    fn text_form_reads_back() {
        let ends = [
            Ends::default(),
            Ends { lo: Some((3, true)), hi: Some((9, false)) },
            Ends { lo: Some((3, false)), hi: Some((9, true)) },
        ];
        let mut ops = vec![
            Op::Begin { slot: 2 },
            Op::Put { slot: Some(1), table: 0, key: 3, value: 17, size: 60, level: None },
            Op::Put { slot: None, table: 0, key: 3, value: 17, size: 60, level: Some(Level::Buffered) },
            Op::Insert { slot: None, table: 1, key: 63, value: 1, size: 0 },
            Op::Update { slot: Some(0), table: 1, key: 0, value: 1, size: 5000 },
            Op::Delete { slot: None, table: 0, key: 9 },
            Op::Get { slot: Some(2), table: 0, key: 9 },
            Op::Commit { slot: 0, level: None },
            Op::Commit { slot: 2, level: Some(Level::Sync) },
            Op::RollBack { slot: 0 },
            Op::Batch { table: 1, key: 4, step: 3, count: 20, value: 9, size: 40, level: Some(Level::Write) },
            Op::Meanwhile { at: 7, table: 1, key: 4, step: 3, count: 20, value: 9, size: 0 },
            Op::Checkpoint { name: None, drops: vec![], force: false },
            Op::Checkpoint {
                name: Some(3),
                drops: vec![Drop::Name("x".into()), Drop::From("a".into()), Drop::To("ab".into()), Drop::All],
                force: true,
            },
            Op::View { slot: 0, name: None },
            Op::View { slot: 1, name: Some(1) },
            Op::ReadView { slot: 1, pattern: 6 },
            Op::CloseView { slot: 1 },
            Op::Create { table: 2, unlogged: false },
            Op::Create { table: 2, unlogged: true },
            Op::DropTable { table: 2, force: true },
            Op::Rename { table: 0, to: 3 },
            Op::Backup { name: Some(2), fresh: false, since: None, label: None, shape: 0 },
            Op::Backup { name: None, fresh: true, since: Some(From::Seen(3)), label: Some(3), shape: 2 },
            Op::Backup { name: Some(0), fresh: false, since: Some(From::Label(3)), label: None, shape: 0 },
            Op::Backup { name: None, fresh: false, since: Some(From::Foreign), label: Some(0), shape: 0 },
            Op::Link { from: 1, how: 7, fresh: true, hurt: 9 },
            Op::Apply { increment: 1, copy: 2 },
            Op::Release { what: None },
            Op::Release { what: Some(From::Label(1)) },
            Op::Release { what: Some(From::Seen(2)) },
            Op::Restore { copy: 1, table: Some(2) },
            Op::Restore { copy: 0, table: None },
            Op::Spoil { copy: 1 },
            Op::CopyStep { pieces: 3 },
            Op::CopyAll,
            Op::Stream,
            Op::EndBackup { forget: true },
            Op::CatchUp,
            Op::LogIncrement { by_hand: true },
            Op::SyncLog { level: Level::Write },
            Op::LogMessage,
            Op::Drive,
            Op::RemoveLog { backup: true },
            Op::SetLog { on: true },
            Op::TableLog { table: 1, on: false },
            Op::Kill,
            Op::Restart,
            Op::ReadAll { pattern: 5 },
            Op::Verify,
            Op::Fault { how: Trouble::SyncKeep, after: 3 },
            Op::Fault { how: Trouble::SyncLate, after: 0 },
            Op::Fault { how: Trouble::SyncFull, after: 1 },
            Op::Fault { how: Trouble::Die, after: 30 },
            Op::Heal,
        ];
        for ends in ends {
            ops.push(Op::Truncate { slot: None, table: 0, ends });
            ops.push(Op::Scan { slot: Some(1), table: 0, ends, pattern: 12 });
        }
        for op in ops {
            assert_eq!(parse(&op.to_string()).unwrap(), op, "{op}");
        }
    }
}
