//! Small programs, and exactly what a power cut right after each may leave.
//!
//! The disk is the ground that every other test stands on: too kind, and it hides bugs; too cruel, and it raises false
//! alarms. So its behaviour is written down as data, in a notation small enough to read and to run on real file systems.
//!
//! A sector is one letter: `o` old, `z` zero, digits and other letters what a program wrote; `(a/o)` is a sector whose
//! halves differ. `()` is an empty file, `-` none. A program is a list of steps with `;` between; `f=oo` makes a file that is
//! durable before the program starts. `ok f` and `err f` are syncs that must succeed and fail; `tear` and `noise` add what may
//! befall sectors that were being written; `s` is a stale sector of a file that was removed, `?` noise. An image is `f=1o,g=2`, or only the content when the program knows just `f`.
//!
//! - LT1: the reachable set must *equal* the declared set, under each preset declared.

use crate::disk::{
    Act, Call, Damage, Fault, Flush, Image, Limits, Profile, Report, SimDisk, SyncFailure, TailFill, canonical,
};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use strandline_vfs::{File, OpenOptions, Vfs};

/// One program with what it may leave.
#[derive(Clone, Copy, Debug)]
pub struct Litmus {
    /// Its name; equal numbers belong together.
    pub name: &'static str,
    /// The steps.
    pub program: &'static str,
    /// Preset names, and the images under each of them, both separated by blanks.
    pub expect: &'static [(&'static str, &'static str)],
}

/// All programs.
#[must_use]
pub fn programs() -> &'static [Litmus] {
    TABLE
}

const fn l(name: &'static str, program: &'static str, expect: &'static [(&'static str, &'static str)]) -> Litmus {
    Litmus { name, program, expect }
}

/// Every preset.
const ANY: &str = "alice_worst strict linux nvme_16k apfs ext4_writeback btrfs xfs ext4_ordered ext4_data_journal";
/// Those that let sectors, lengths and names stick alone.
const FREE: &str = "strict linux";
/// Those with a journal of names and lengths.
const J: &str = "btrfs xfs ext4_ordered ext4_data_journal";
/// Those whose journal holds no data.
const JX: &str = "btrfs xfs ext4_ordered";
/// All of these and the one that lets a length stick before its data: alike as far as names go.
const JN: &str = "ext4_writeback btrfs xfs ext4_ordered ext4_data_journal";
/// The one that shows stale bytes: before each program a file full of `s` was removed.
const WB: &str = "ext4_writeback";
/// The one whose journal holds data.
const DJ: &str = "ext4_data_journal";

#[rustfmt::skip]
const TABLE: &[Litmus] = &[
    l("1", "f=oo; w f0=1; w f0=2", &[(ANY, "oo 1o 2o")]),
    l("2", "f=oo; w f01=11", &[(FREE, "oo 1o o1 11"), (JX, "oo 1o o1 11"), (WB, "oo 1o o1 11"), (DJ, "oo 1o 11"), ("nvme_16k", "oo 11")]),
    l("3", "f=oo; w f01=11; w f01=22", &[(FREE, "oo o1 o2 1o 11 12 2o 21 22"), (DJ, "oo 1o 11 21 22")]),
    l("4", "f=oo; w f0=1; w f1=2", &[(FREE, "oo 1o o2 12"), (JX, "oo 1o o2 12"), (DJ, "oo 1o 12"), ("nvme_16k", "oo 1o o2 12")]),
    l("5", "f=oo; w f0=1; sync f; w f1=2", &[(ANY, "1o 12")]),
    l("5 inside", "f=oo; w f0=1; sync f!", &[(ANY, "oo 1o")]),
    l("6", "f=o; w f0=1; kill; see f=1", &[(ANY, "o 1")]),
    l("7", "f=o; head f0=a; tail f0=b", &[(ANY, "o (a/o) (a/b)")]),
    l("8", "f=o; g=o; w f0=1; w g0=2; sync g", &[(FREE, "f=o,g=2 f=1,g=2"), (DJ, "f=1,g=2")]),
    l("9", "f=(); append f=1", &[(FREE, "() z 1"), (WB, "() s 1"), ("apfs", "() 1"), (J, "() 1"), ("alice_worst", "() ? 1")]),
    l("10", "f=(); append f=12", &[(FREE, "() zz 1z z2 12"), (WB, "() ss 1s s2 12"), (J, "() 12")]),
    l("11", "f=(); append f=1; append f=2", &[(FREE, "() z 1 zz 1z z2 12"), (WB, "() s 1 ss 1s s2 12"), (J, "() 1 12")]),
    l("12", "f=(); append f=1; sync f; append f=2", &[(FREE, "1 1z 12"), (WB, "1 1s 12"), (J, "1 12")]),
    l("13", "f=ab; set_len f 1", &[(FREE, "ab az a"), (JN, "ab a")]),
    l("14", "f=ab; set_len f 1; set_len f 2", &[(ANY, "ab az a")]),
    l("15", "f=ab; set_len f 1; sync f; set_len f 2", &[(FREE, "a az"), (J, "a az"), (WB, "a as")]),
    l("16", "f=ab; set_len f 1; sync_data f", &[("strict nvme_16k alice_worst", "az a"), ("linux", "a"), (JN, "a")]),
    l("16 again", "f=ab; set_len f 1; w f1=c; sync_data f", &[(ANY, "ac")]),
    l("17", "f=ab; set_len f 1; w f1=c", &[(FREE, "ab az a ac"), (J, "ab a ac")]),
    l("18", "create f; append f=1; sync f", &[(FREE, "- 1"), (JN, "1")]),
    l("18 named", "create f; append f=1; sync f; sync_dir .", &[(ANY, "1")]),
    l("19", "create f; append f=1; sync_dir .", &[(FREE, "() z 1"), (WB, "() s 1"), (JX, "() 1")]),
    l("20", "create f; create g; sync g", &[(FREE, "none f=() g=() f=(),g=()"), ("ext4_writeback xfs ext4_ordered ext4_data_journal", "f=(),g=()"), ("btrfs", "g=() f=(),g=()")]),
    l("21", "create f; create g; sync f", &[(FREE, "none f=() g=() f=(),g=()"), (JN, "f=() f=(),g=()")]),
    l("22", "f=o; t=n; rename t f", &[(FREE, "f=o,t=n f=n"), (JN, "f=o,t=n f=n"), ("alice_worst", "f=o,t=n f=n,t=n t=n f=o f=n none")]),
    l("22 named", "f=o; t=n; rename t f; sync_dir .", &[(ANY, "f=n")]),
    l("23", "f=o; create t; append t=n; rename t f; sync_dir .", &[(FREE, "f=() f=z f=n"), ("ext4_ordered ext4_data_journal", "f=n"), ("btrfs xfs", "f=() f=n"), (WB, "f=() f=o f=n")]),
    l("24", "f=o; create t; append t=n; sync t; rename t f", &[(FREE, "f=o f=o,t=n f=n"), (JN, "f=o,t=n f=n")]),
    l("24 named", "f=o; create t; append t=n; sync t; rename t f; sync_dir .", &[(ANY, "f=n")]),
    l("25", "create t; append t=n; rename t g; sync_dir .", &[(FREE, "g=() g=z g=n"), (WB, "g=() g=s g=n"), (JX, "g=() g=n"), (DJ, "g=n")]),
    l("26", "mkdir d; mkdir e; d/t=n; rename d/t e/f", &[(FREE, "d/t=n d/t=n,e/f=n e/f=n"), (JN, "d/t=n e/f=n"), ("alice_worst", "none d/t=n d/t=n,e/f=n e/f=n")]),
    l("27", "mkdir d; mkdir e; d/t=n; rename d/t e/f; sync_dir e", &[(FREE, "d/t=n,e/f=n e/f=n"), (JN, "e/f=n")]),
    l("28", "mkdir d; mkdir e; d/t=n; rename d/t e/f; sync_dir d", &[(FREE, "e/f=n"), (JN, "e/f=n"), ("alice_worst", "none e/f=n")]),
    l("29", "f=o; remove f; create f; append f=1; sync f", &[(FREE, "o - 1"), (JN, "1")]),
    l("30", "l1=o; link l1 l2; w l20=c; sync l2; remove l1", &[(FREE, "l1=c l1=c,l2=c l2=c none"), (JN, "l1=c,l2=c l2=c")]),
    l("31", "go; mkdir e; create e/f; append e/f=1; sync e/f; sync_dir e", &[(FREE, "none e/f=1"), (JN, "e/f=1")]),
    l("32", "f=(); append f=1; create g; sync g", &[(FREE, "f=() f=z f=1 f=(),g=() f=z,g=() f=1,g=()"), ("btrfs xfs ext4_ordered", "f=(),g=() f=1,g=()"), (WB, "f=(),g=() f=s,g=() f=1,g=()"), (DJ, "f=1,g=()")]),
    l("33", "a=1; c=2; rename a b; rename c a", &[(FREE, "a=1,c=2 b=1,c=2 a=2,b=1"), (JN, "a=1,c=2 b=1,c=2 a=2,b=1"), ("alice_worst", "a=1,c=2 a=1,b=1,c=2 c=2 b=1,c=2 a=2,c=2 a=2,b=1,c=2 a=1 a=1,b=1 none b=1 a=2 a=2,b=1")]),
    l("37", "f=o; w f0=1; fail f clean_keep_new; sync f; sync f; see f=1; evict f; see f=o", &[(ANY, "o")]),
    l("37 rewritten", "f=o; w f0=1; fail f clean_keep_new; sync f; w f0=1; sync f", &[(ANY, "1")]),
    l("38", "f=(); append f=1; fail f clean_keep_new; sync f", &[("strict", "() z")]),
    l("39", "f=o; w f0=1; fail f clean_revert; sync f; see f=o", &[(ANY, "o")]),
    l("40", "f=o; w f0=1; fail f late_report; sync f; sync f", &[(ANY, "o 1")]),
    l("41", "f=o; w f0=1; fail f dirty_retry; sync f; sync f", &[(ANY, "1")]),
    l("41 before", "f=o; w f0=1; fail f dirty_retry; sync f", &[(ANY, "o 1")]),
    l("42 open and removed", "f=o; g=o; hold f; remove f; w held0=1; sync_dir .", &[(ANY, "g=o")]),
    l("43 directory removed", "mkdir e; go; create e/t; sync_dir e; remove e/t; sync_dir e; rmdir e", &[(ANY, "none")]),
    l("44 allocate", "f=o; allocate f 2", &[(FREE, "o oz"), (J, "o oz"), (WB, "o os")]),
    l("45 gap", "f=(); w f1=1", &[(FREE, "() zz z1"), (J, "() z1")]),
    l("45 gap again", "f=(); w f1=1", &[("alice_worst", "() z? z1")]),
    l("46 shrink to a part", "f=a; half f", &[(FREE, "a (a/z) a."), (JN, "a a.")]),
    l("34 torn", "f=o; tear; w f0=1", &[("strict linux nvme_16k apfs xfs ext4_ordered", "o 1 (1/o) (o/1)")]),
    l("34 torn append", "f=(); tear; append f=1", &[("strict", "() z 1 (1/z) (z/1)")]),
    l("35 psow", "f=o; head f0=a; sync f; noise; tail f0=b", &[("strict linux", "(a/o) (a/b) (a/?)"), ("cheap_ssd", "(a/o) (a/b) ?")]),
    l("36 flush lies", "f=o; lies; w f0=1; sync f", &[("strict xfs", "o 1")]),
    l("36 and then not", "f=o; lies; w f0=1; sync f; honest; sync f", &[(ANY, "1")]),
    l("36 another file", "f=o; g=o; lies; w f0=1; sync f; honest; w g0=2; sync g", &[("strict", "f=1,g=2")]),
    l("36 a name", "lies; create f; sync_dir .", &[(FREE, "none f=()")]),
    l("40 one of two", "f=oo; w f01=12; fail f late_report; ok f; err f", &[("strict", "oo 1o o2 12"), ("ext4_data_journal", "oo 1o o2 12")]),
    l("40 before it is told", "f=oo; w f01=12; fail f late_report; ok f; w f0=3", &[(ANY, "12 32")]),
    l("40 never told", "f=o; w f0=1; fail f late_report; ok f; kill; see f=1", &[(ANY, "1")]),
    l("40 told once", "f=o; w f0=1; fail f late_report; ok f; err f; ok f; see f=1", &[(ANY, "o 1")]),
    l("40 rewritten", "f=o; w f0=1; fail f late_report; ok f; err f; w f0=1; ok f", &[(ANY, "1")]),
    l("40 length", "f=(); append f=1; fail f late_report; ok f; err f", &[("strict", "() z 1"), (WB, "() s 1"), ("xfs", "() 1")]),
    l("47 enospc", "f=o; w f0=1; fail f enospc_at_sync; err f; ok f; see f=1; evict f; see f=o", &[(ANY, "o")]),
    l("47 enospc, append", "f=(); append f=1; fail f enospc_at_sync; err f; ok f; see f=1", &[(ANY, "()")]),
    l("47 enospc, rewritten", "f=(); append f=1; fail f enospc_at_sync; err f; w f0=1; ok f", &[(ANY, "1")]),
    l("48 each handle hears once", "f=o; hold f; w f0=1; fail f clean_keep_new; err f; err held; ok held; ok f", &[(ANY, "o")]),
    l("48 not one opened later", "f=o; hold f; w f0=1; fail held clean_keep_new; err held; ok f", &[(ANY, "o")]),
    l("49 the first caller alone", "f=o; report first; hold f; w f0=1; fail f clean_keep_new; err f; ok held", &[(ANY, "o")]),
    l("50 all, for ever", "f=o; report all; hold f; w f0=1; fail f clean_keep_new; err f; err held; err held; err f", &[(ANY, "o")]),
    l("51 nobody", "f=o; report nobody; w f0=1; fail f clean_keep_new; ok f", &[(ANY, "o")]),
    l("51 nobody, dirty", "f=o; report nobody; w f0=1; fail f dirty_retry; ok f", &[(ANY, "o 1")]),
    l("52 read-only since", "f=o; sticky; w f0=1; fail f dirty_retry; err f; locked f; see f=1", &[(ANY, "o 1")]),
    l("52 remounted", "f=o; sticky; w f0=1; fail f dirty_retry; err f; locked f; remount; ok f", &[(ANY, "1")]),
    l("53 unreadable", "f=oo; bad f; blind f; w f0=1; see f=1; sync f", &[(ANY, "1o")]),
    l("54 sync_dir ignored", "create f; sync_dir .", &[("ntfs", "none f=()"), ("strict", "f=()")]),
    l("54 a sync carries the journal", "create f; append f=1; sync f", &[("ntfs", "1")]),
    l("54 an open file stays", "f=o; hold f; stays f", &[("ntfs", "o")]),
    l("55 stale space", "f=(); allocate f 2", &[("strict", "() zz"), (WB, "() ss"), ("ext4_ordered", "() zz")]),
    l("55 stale space, synced", "f=(); allocate f 2; sync f", &[(ANY, "zz")]),
    l("55 stale space, half written", "f=(); allocate f 2; w f0=1", &[(WB, "() ss 1s"), ("ext4_ordered", "() zz 1z")]),
    l("55 a gap is none", "f=(); w f1=1", &[(WB, "() zs z1")]),
    l("56 sync of a name leaps", "f=o; create g; create h; sync h; sync_dir .", &[("btrfs", "f=o,g=(),h=()")]),
    l("56 so does that of a child", "go; create g; mkdir e; create e/f; sync e/f", &[("btrfs", "e/f=() e/f=(),g=()"), ("ext4_ordered", "e/f=(),g=()"), ("strict", "none e/f=() e/f=(),g=() g=()")]),
    l("57 an append of a whole unit", "f=(); append f=12", &[("nvme_16k", "() zz 12")]),
    l("58 sync_data of an append", "f=o; append f=1; sync_data f", &[(ANY, "o1")]),
    l("59 two links, one synced", "l1=o; link l1 l2; link l1 l3; sync l3", &[("strict", "l1=o l1=o,l2=o l1=o,l3=o l1=o,l2=o,l3=o"), (JN, "l1=o,l2=o,l3=o")]),
    l("60 rename over, data not synced", "f=o; create t; append t=n; rename t f; sync f", &[("strict linux", "f=o f=o,t=n f=n"), (JN, "f=n")]),
];

/// A program in the middle of its run.
struct Run {
    disk: SimDisk,
    quiet: bool,
    inside: bool,
    held: Option<Arc<dyn File>>,
    /// What may befall the sectors that were being written.
    damage: Vec<Damage>,
}

const SECTOR: u64 = 512;

fn bytes(letters: &str) -> Vec<u8> {
    let byte = |c: u8| if c == b'z' { 0 } else { c };
    letters.bytes().filter(|c| !b"()".contains(c)).flat_map(|c| [byte(c); SECTOR as usize]).collect()
}

fn bad(step: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("cannot read the step `{step}`"))
}

/// `f01` is file `f` from sector 0 on; a name that starts with `l` keeps its first digit.
fn place(word: &str) -> (&str, u64) {
    let letters = word.find(|c: char| c.is_ascii_digit()).unwrap_or(word.len());
    let at = if word.starts_with('l') { (letters + 1).min(word.len()) } else { letters };
    (&word[..at], word[at..].bytes().next().map_or(0, |c| u64::from(c - b'0')))
}

impl Run {
    fn new(profile: &Profile) -> Self {
        let disk = SimDisk::new(profile.clone());
        disk.record_barriers(true);
        if profile.tail_fill == TailFill::Stale {
            // Blocks to be given to others.
            let removed = disk.open(Path::new("x"), OpenOptions::create()).and_then(|f| {
                f.write_all_at(&bytes(&"s".repeat(16)), 0)?;
                f.sync_all()?;
                disk.remove_file(Path::new("x"))
            });
            debug_assert!(removed.is_ok());
            disk.settle();
        }
        Self { disk, quiet: true, inside: false, held: None, damage: Vec::new() }
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        match &self.held {
            Some(file) if name == "held" => Ok(Arc::clone(file)),
            _ => self.disk.open(Path::new(name), OpenOptions::write()),
        }
    }

    /// Ends the preparation: all that was made so far is durable.
    fn go(&mut self) {
        if std::mem::take(&mut self.quiet) {
            self.disk.settle();
            drop(self.disk.take_barriers());
        }
    }

    fn step(&mut self, step: &str) -> io::Result<()> {
        let words: Vec<&str> = step.split_whitespace().collect();
        match (self.quiet, words.as_slice()) {
            (true, ["mkdir", name]) => self.disk.create_dir(Path::new(name)),
            (true, [made]) if made.contains('=') => {
                let (name, content) = made.split_once('=').ok_or_else(|| bad(step))?;
                self.disk.open(Path::new(name), OpenOptions::create())?.write_all_at(&bytes(content), 0)
            }
            (_, ["go"]) => {
                self.go();
                Ok(())
            }
            (_, words) => {
                self.go();
                self.data_step(words)
                    .or_else(|| self.name_step(words))
                    .or_else(|| self.fault_step(words))
                    .ok_or_else(|| bad(step))?
            }
        }
    }

    fn data_step(&mut self, words: &[&str]) -> Option<io::Result<()>> {
        Some(match *words {
            ["w" | "head" | "tail", what] => self.write(words[0], what.split_once('=')?),
            ["append", what] => self.append(what.split_once('=')?),
            ["set_len", name, n] => {
                let sectors: u64 = n.parse().ok()?;
                self.open(name).and_then(|f| f.set_len(sectors * SECTOR))
            }
            ["half", name] => self.open(name).and_then(|f| f.set_len(f.len()? - SECTOR / 2)),
            ["allocate", name, n] => {
                let sectors: u64 = n.parse().ok()?;
                self.open(name).and_then(|f| f.allocate(0, sectors * SECTOR))
            }
            // A failed sync is part of the programs about failed syncs.
            ["sync", name] => self.open(name.trim_end_matches('!')).map(|f| {
                self.inside = name.ends_with('!');
                drop(f.sync_all());
            }),
            ["sync_data", name] => self.open(name).map(|f| drop(f.sync_data())),
            _ => return None,
        })
    }

    fn write(&self, how: &str, (place_, letters): (&str, &str)) -> io::Result<()> {
        let (name, sector) = place(place_);
        let (data, half) = (bytes(letters), SECTOR as usize / 2);
        let offset = sector * SECTOR;
        let file = self.open(name)?;
        match how {
            "head" => file.write_all_at(&data[..half], offset),
            "tail" => file.write_all_at(&data[half..], offset + half as u64),
            _ => file.write_all_at(&data, offset),
        }
    }

    fn append(&self, (name, letters): (&str, &str)) -> io::Result<()> {
        let file = self.open(name)?;
        file.write_all_at(&bytes(letters), file.len()?)
    }

    fn name_step(&mut self, words: &[&str]) -> Option<io::Result<()>> {
        let path = |i: usize| Path::new(words[i]);
        Some(match *words {
            ["create", name] => self.disk.open(Path::new(name), OpenOptions::create_new()).map(drop),
            ["mkdir", name] => self.disk.create_dir(Path::new(name)),
            ["rmdir", name] => self.disk.remove_dir(Path::new(name)),
            ["remove", name] => self.disk.remove_file(Path::new(name)),
            ["rename", _, _] => self.disk.rename(path(1), path(2)),
            ["link", _, _] => self.disk.link(path(1), path(2)),
            ["sync_dir", name] => self.disk.sync_dir(Path::new(name)),
            ["hold", name] => self.open(name).map(|f| self.held = Some(f)),
            _ => return None,
        })
    }

    fn fault_step(&mut self, words: &[&str]) -> Option<io::Result<()>> {
        Some(match *words {
            ["kill"] => {
                self.disk.kill();
                Ok(())
            }
            ["tear"] => {
                self.damage.extend([Damage::TornHead(SECTOR as usize / 2), Damage::TornTail(SECTOR as usize / 2)]);
                Ok(())
            }
            ["noise"] => {
                self.damage.push(Damage::Garbage(7));
                Ok(())
            }
            ["lies"] | ["honest"] | ["sticky"] => {
                self.disk.revise_mount(|p| match words[0] {
                    "lies" => p.flush = Flush::Lies(1000),
                    // It was not always.
                    "honest" => p.flush = Flush::Lies(0),
                    _ => p.read_only_after = true,
                });
                Ok(())
            }
            ["report", who] => {
                let report = Report::by_name(who)?;
                self.disk.revise_mount(|p| p.report = report);
                Ok(())
            }
            ["remount"] => {
                self.disk.remount();
                Ok(())
            }
            ["ok", name] => self.open(name).and_then(|f| f.sync_all()),
            ["err", name] => self.open(name).and_then(|f| refused(f.sync_all())),
            ["locked", name] => self.open(name).and_then(|f| refused(f.write_all_at(b"x", 0))),
            ["blind", name] => self.open(name).and_then(|f| refused(f.read_exact_at(&mut [0], 0))),
            ["stays", name] => refused(self.disk.remove_file(Path::new(name))),
            ["bad", name] => self.disk.make_unreadable(Path::new(name), 0..1),
            ["evict", name] => self.disk.evict(Path::new(name)),
            ["fail", name, how] => {
                let act = Act::Sync(failure(how)?, Vec::new());
                // Whoever holds a file knows it by the name it was opened by.
                let name = if name == "held" { "" } else { name };
                self.disk.inject(Fault::nth(&[Call::SyncAll], 0, act).on(name));
                Ok(())
            }
            ["see", what] => {
                let (name, letters) = what.split_once('=')?;
                let mut got = vec![0; bytes(letters).len()];
                let read = self.open(name).and_then(|f| f.read_exact_at(&mut got, 0));
                let same = got == bytes(letters);
                read.and_then(|()| if same { Ok(()) } else { Err(io::Error::other(format!("{what} was not seen"))) })
            }
            _ => return None,
        })
    }
}

/// A step that must fail.
fn refused(result: io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) => Err(io::Error::other("it succeeded")),
        Err(_) => Ok(()),
    }
}

fn failure(word: &str) -> Option<SyncFailure> {
    Some(match word {
        "clean_keep_new" => SyncFailure::CleanKeepNew,
        "clean_revert" => SyncFailure::CleanRevert,
        "dirty_retry" => SyncFailure::DirtyRetry,
        "late_report" => SyncFailure::LateReport,
        "enospc_at_sync" => SyncFailure::EnospcAtSync,
        _ => return None,
    })
}

/// Runs a program on a disk of this kind and gives every image that a power cut right after it may leave.
///
/// # Errors
/// `InvalidInput` for a step that cannot be read; what a step of the program returned, when it failed.
pub fn reachable(program: &str, profile: &Profile) -> io::Result<BTreeSet<String>> {
    let mut run = Run::new(profile);
    for step in program.split(';') {
        run.step(step.trim())?;
    }
    let barrier = match run.disk.take_barriers().pop() {
        Some(last) if run.inside => last,
        _ => run.disk.snapshot(),
    };
    let frame = barrier.frame();
    let choices = canonical(&frame, &Limits::exhaustive());
    let mut images: BTreeSet<String> = choices.iter().map(|c| show(&frame.image(c))).collect();
    for choice in &choices {
        let hurt = frame.in_flight(choice).into_iter().flat_map(|i| run.damage.iter().map(move |d| (i, *d)));
        images.extend(hurt.map(|(i, damage)| show(&frame.damaged(choice, i, damage))));
    }
    Ok(images)
}

fn show(image: &Image) -> String {
    let file = |(path, bytes): (PathBuf, Option<Vec<u8>>)| Some(format!("{}={}", path.display(), content(&bytes?)));
    let files: Vec<String> = image.contents().into_iter().filter_map(file).collect();
    if files.is_empty() { String::from("none") } else { files.join(",") }
}

fn content(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return String::from("()");
    }
    bytes.chunks(SECTOR as usize).map(sector).collect()
}

fn sector(bytes: &[u8]) -> String {
    let letter = |b: &[u8]| match b {
        [first, rest @ ..] if rest.iter().all(|b| b == first) => {
            if *first == 0 {
                'z'
            } else {
                char::from(*first)
            }
        }
        _ => '?',
    };
    let (head, tail) = bytes.split_at(bytes.len().min(SECTOR as usize / 2));
    match (letter(head), letter(tail)) {
        (h, _) if tail.is_empty() => format!("{h}."),
        (h, t) if h == t => h.to_string(),
        (h, t) => format!("({h}/{t})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The short form, in which `f=` goes without saying.
    fn full(image: &str) -> String {
        match image {
            "-" | "none" => String::from("none"),
            _ if image.contains('=') => image.into(),
            _ => format!("f={image}"),
        }
    }

    /// LT1.
    #[test]
    fn every_program_leaves_exactly_what_is_declared() {
        let mut wrong = Vec::new();
        for l in programs() {
            for (presets, images) in l.expect {
                let expect: BTreeSet<String> = images.split(' ').map(full).collect();
                for preset in presets.split(' ') {
                    let profile = Profile::by_name(preset).expect("a preset");
                    match reachable(l.program, &profile) {
                        Ok(got) if got == expect => {}
                        other => wrong.push(format!(
                            "{} under {preset}: {}\n  want {expect:?}\n  got  {other:?}",
                            l.name, l.program
                        )),
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// The canonical choices are legal: they leave nothing that is not declared.
    #[test]
    fn canonical_choices_stay_within_the_declared_sets() {
        for l in programs() {
            let mut run = Run::new(&Profile::strict());
            if l.expect.iter().all(|(presets, _)| !presets.split(' ').any(|p| p == "strict")) {
                continue;
            }
            l.program.split(';').for_each(|s| run.step(s.trim()).expect("a step"));
            let all = reachable(l.program, &Profile::strict()).expect("a program");
            let frame = run.disk.snapshot().frame();
            let limits = Limits { product: 0, ..Limits::default() };
            let found: Vec<String> = canonical(&frame, &limits).iter().map(|c| show(&frame.image(c))).collect();
            assert!(
                run.inside || !run.damage.is_empty() || found.iter().all(|image| all.contains(image)),
                "{}: {found:?}",
                l.name
            );
        }
    }
}
