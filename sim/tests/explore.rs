//! The explorer against a small engine with bugs planted one at a time.
//!
//! The engine keeps a log of numbered, sealed records, and now and then writes the state to a snapshot file that it
//! renames into place before it cuts the log. Each flaw is a way in which such engines have failed; each must be found, and
//! the sound engine must pass.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use strandline_sim::disk::{Damage, Profile, SimDisk};
use strandline_sim::explore::{Found, Limits, explore};
use strandline_sim::tape::Tape;
use strandline_vfs::{File, OpenOptions, Vfs};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    NoSync,
    NoDirSync,
    NoChecksum,
    SnapshotNotSynced,
    SnapshotNameNotSynced,
    TornTailKept,
    CutBeforeRename,
}

const FLAWS: [Flaw; 7] = [
    Flaw::NoSync,
    Flaw::NoDirSync,
    Flaw::NoChecksum,
    Flaw::SnapshotNotSynced,
    Flaw::SnapshotNameNotSynced,
    Flaw::TornTailKept,
    Flaw::CutBeforeRename,
];

const RECORD: usize = 16;

fn checksum(n: u64) -> u64 {
    (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn record(n: u64) -> [u8; RECORD] {
    let mut r = [0; RECORD];
    r[..8].copy_from_slice(&n.to_le_bytes());
    r[8..].copy_from_slice(&checksum(n).to_le_bytes());
    r
}

/// Number and seal of a record.
fn parse(r: &[u8], flaw: Flaw) -> Option<(u64, u64)> {
    let word = |r: &[u8]| u64::from_le_bytes(r.try_into().expect("eight bytes"));
    let (n, seal) = (word(&r[..8]), word(&r[8..]));
    (seal == checksum(n) || flaw == Flaw::NoChecksum && n != 0).then_some((n, seal))
}

fn read(disk: &SimDisk, name: &str) -> io::Result<Vec<u8>> {
    let f = match disk.open(Path::new(name), OpenOptions::read()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut all = vec![0; f.len()? as usize];
    let mut at = 0;
    while at < all.len() {
        // An unreadable sector is where the log ends.
        match f.read_at(&mut all[at..], at as u64) {
            Ok(0) => break,
            Ok(n) => at += n,
            Err(_) => {
                all.truncate(at / 512 * 512);
                break;
            }
        }
    }
    Ok(all)
}

struct Engine<'a> {
    disk: &'a SimDisk,
    flaw: Flaw,
    count: u64,
    seal: u64,
    log_at: u64,
}

impl<'a> Engine<'a> {
    /// Recovers the count of records and their seals, and makes the log end where the last good record does.
    fn open(disk: &'a SimDisk, flaw: Flaw) -> io::Result<Self> {
        let snapshot = read(disk, "snapshot")?;
        let mut last = (0, checksum(0));
        if !snapshot.is_empty() {
            let first = snapshot.get(..RECORD).and_then(|r| parse(r, flaw));
            last = first.ok_or_else(|| io::Error::other("the snapshot is damaged"))?;
        }
        let (log, mut log_at) = (read(disk, "log")?, 0);
        for r in log.chunks_exact(RECORD) {
            match parse(r, flaw) {
                Some(next) if next.0 == last.0 + 1 => last = next,
                Some((n, _)) if n <= last.0 => {}
                _ => break,
            }
            log_at += RECORD as u64;
        }
        let mut engine = Self { disk, flaw, count: last.0, seal: last.1, log_at };
        let file = engine.log()?;
        if flaw == Flaw::TornTailKept {
            engine.log_at = file.len()?.div_ceil(RECORD as u64) * RECORD as u64;
        } else if file.len()? > log_at {
            file.set_len(log_at)?;
            file.sync_all()?;
        }
        Ok(engine)
    }

    fn log(&self) -> io::Result<std::sync::Arc<dyn File>> {
        let new = self.disk.metadata(Path::new("log"))?.is_none();
        let log = self.disk.open(Path::new("log"), OpenOptions::create())?;
        if new && self.flaw != Flaw::NoDirSync {
            self.disk.sync_dir(Path::new(""))?;
        }
        Ok(log)
    }

    fn append(&mut self) -> io::Result<()> {
        self.count += 1;
        let log = self.log()?;
        log.write_all_at(&record(self.count), self.log_at)?;
        self.log_at += RECORD as u64;
        if self.flaw == Flaw::NoSync { Ok(()) } else { log.sync_data() }
    }

    fn snapshot(&mut self) -> io::Result<()> {
        if self.flaw == Flaw::CutBeforeRename {
            self.cut()?;
        }
        let draft = self.disk.open(Path::new("draft"), OpenOptions::create())?;
        draft.write_all_at(&record(self.count), 0)?;
        if self.flaw != Flaw::SnapshotNotSynced {
            draft.sync_all()?;
        }
        self.disk.rename(Path::new("draft"), Path::new("snapshot"))?;
        if self.flaw != Flaw::SnapshotNameNotSynced {
            self.disk.sync_dir(Path::new(""))?;
        }
        self.cut()
    }

    fn cut(&mut self) -> io::Result<()> {
        self.log_at = 0;
        let log = self.log()?;
        log.set_len(0)?;
        log.sync_all()
    }
}

/// Two records, a snapshot, two more records; then a crash, a recovery with one more record, and another crash.
fn crash(flaw: Flaw) -> Found {
    let mut limits = Limits { damaged: 2, ..Limits::default() };
    limits.damage.extend([8, 24, 40].map(Damage::TornHead));
    crash_with(flaw, &limits, false)
}

fn crash_with(flaw: Flaw, limits: &Limits, every_instant: bool) -> Found {
    let acknowledged = RefCell::new(Vec::new());
    let called = RefCell::new(Vec::new());
    let program = |disk: &SimDisk, _: &mut Tape| {
        disk.record_every_instant(every_instant);
        let mut engine = Engine::open(disk, flaw)?;
        for step in 0..5 {
            if step == 2 {
                engine.snapshot()?;
                continue;
            }
            called.borrow_mut().push(disk.event());
            engine.append()?;
            acknowledged.borrow_mut().push(disk.event());
        }
        Ok(())
    };
    explore(Profile::strict(), Tape::dull(), limits, program, |crash| {
        let up_to = |list: &RefCell<Vec<u64>>, e| list.borrow().iter().filter(|&&at| at <= e).count() as u64;
        let (lo, hi) = (up_to(&acknowledged, crash.death), up_to(&called, crash.birth) + u64::from(crash.depth) - 1);
        let mut engine = Engine::open(&crash.disk, flaw).map_err(|e| format!("cannot open: {e}"))?;
        if !(lo..=hi).contains(&engine.count) {
            return Err(format!("{} records, promised {lo}, begun {hi}", engine.count));
        }
        if engine.seal != checksum(engine.count) {
            return Err(format!("record {} is not what was written", engine.count));
        }
        let recovered = engine.count;
        engine.append().map_err(|e| format!("cannot append: {e}"))?;
        let again = Engine::open(&crash.disk, flaw).map_err(|e| format!("cannot open again: {e}"))?;
        if again.count == recovered + 1 {
            Ok(())
        } else {
            Err(format!("{} after {recovered} and one more", again.count))
        }
    })
}

#[test]
fn the_sound_engine_passes() {
    let found = crash(Flaw::None);
    assert!(found.failures.is_empty(), "{}", found.failures[0]);
    assert!(found.checks > 20 && found.barriers > 10, "{found:?}");
}

#[test]
fn every_flaw_is_found() {
    for flaw in FLAWS {
        let found = crash(flaw);
        assert_eq!(found.failures.len(), 1, "{flaw:?} was not found in {} checks", found.checks);
        println!("{flaw:?} after {} checks: {}", found.checks, found.failures[0]);
    }
}

/// Barriers alone find what a barrier at every instant finds.
#[test]
fn barriers_miss_no_flaw() {
    for flaw in FLAWS {
        let limits = Limits { crashes: 1, failures: usize::MAX, damage: Vec::new(), ..Limits::default() };
        let verdicts = |every| {
            let found = crash_with(flaw, &limits, every);
            found.failures.into_iter().map(|f| f.verdict).collect::<std::collections::BTreeSet<_>>()
        };
        let (all, some) = (verdicts(true), verdicts(false));
        assert_eq!(all.is_empty(), some.is_empty(), "{flaw:?}: {all:?}, {some:?}");
    }
}

#[test]
fn a_panic_in_recovery_is_a_failure() {
    let program = |disk: &SimDisk, _: &mut Tape| {
        disk.open(Path::new("f"), OpenOptions::create())?;
        disk.sync_dir(Path::new(""))
    };
    let found = explore(Profile::strict(), Tape::dull(), &Limits::default(), program, |crash| {
        assert!(crash.disk.metadata(Path::new("f")).unwrap().is_none(), "there is an f");
        Ok(())
    });
    assert!(found.failures[0].verdict.contains("there is an f"));
}
