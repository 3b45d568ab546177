//! The log alone, on a disk that loses, tears and reorders what was not synced, at every instant of a run.
//!
//! - **L1** What is read is a prefix of what was appended, never with a hole.
//! - **L2** Whatever was acknowledged as synced is in it.
//! - **L4** A torn tail is no damage: every image opens, and so does every image of its recovery.
//! - **L5** A recovery that is cut reads the same again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use strandline::log::{Log, LogEnd, LogOptions, ScanOptions, Scanner, seal_tail, survey};
use strandline::{Durability, Lineage, LogPosition, Lsn};
use strandline_sim::disk::{self, Profile, SimDisk};
use strandline_sim::explore::{Crash, Found, Limits, explore};
use strandline_sim::tape::{Subject, Tape};
use strandline_vfs::Vfs;

const UNIT: u32 = 512;
const LINEAGE: Lineage = Lineage(77);
const BEGIN: Lsn = Lsn { segment: 1, offset: 0 };

/// Payloads that leave no room for a frame in their unit, just room, more than enough; and one that fills a segment.
const SIZES: [usize; 8] = [5, 100, 300, 491, 492, 493, 700, 3000];
const LEVELS: [Durability; 3] = [Durability::Sync, Durability::Write, Durability::Buffered];

type Records = Vec<Vec<u8>>;

/// What was begun and what was promised, by event.
#[derive(Default)]
struct Notes {
    /// Payloads in the order of the log, and when each was begun.
    appended: Vec<(u64, Vec<u8>)>,
    /// From this event on, that many records are durable.
    promised: Vec<(u64, usize)>,
}

fn scan(disk: &SimDisk) -> ScanOptions {
    ScanOptions {
        vfs: Arc::new(disk.clone()),
        dir: "log".into(),
        unit: UNIT,
        from: LogPosition { lineage: LINEAGE, lsn: BEGIN },
        last: None,
        made: None,
        closed: None,
        salvage: false,
    }
}

fn read(o: &ScanOptions) -> strandline::Result<(LogEnd, Records)> {
    let end = survey(o)?;
    let mut scanner = Scanner::new(o, &end);
    let mut records = Vec::new();
    while let Some((_, payload)) = scanner.next_record()? {
        records.push(payload.to_vec());
    }
    Ok((end, records))
}

fn resume(disk: &SimDisk, end: &LogEnd) -> Log {
    Log::start(LogOptions {
        vfs: Arc::new(disk.clone()),
        dir: "log".into(),
        lineage: LINEAGE,
        unit: UNIT,
        segment_bytes: 6 * u64::from(UNIT),
        next: end.next,
        previous: end.previous,
        previous_writer: end.previous_writer,
        writer: 1,
        kept: end.segments.clone(),
        doubt: None,
    })
}

/// One life after another of a process that appends at all levels. It dies without closing anything; what the system had in
/// its cache is still there in the next life, durable or not.
fn program(disk: &SimDisk, tape: &mut Tape, notes: &RefCell<Notes>, lives: usize, steps: usize) -> io::Result<()> {
    disk.create_dir(Path::new("log"))?;
    disk.sync_dir(Path::new(""))?;
    for life in 0..lives {
        let o = scan(disk);
        let (end, found) = read(&o).map_err(io::Error::other)?;
        let end = seal_tail(&o, &end).map_err(io::Error::other)?;
        let mut notes = notes.borrow_mut();
        // What was in memory only is gone with the process.
        notes.appended.truncate(found.len());
        notes.promised.push((disk.event(), found.len()));
        run(disk, tape, &mut notes, &resume(disk, &end), life, steps).map_err(io::Error::other)?;
    }
    Ok(())
}

fn run(
    disk: &SimDisk,
    tape: &mut Tape,
    notes: &mut Notes,
    log: &Log,
    life: usize,
    steps: usize,
) -> strandline::Result<()> {
    for step in 0..steps {
        let payload = vec![(life * 50 + step + 1) as u8; *tape.pick(Subject::Workload, &SIZES)];
        let level = *tape.pick(Subject::Workload, &LEVELS);
        let begun = disk.event();
        let ticket = if tape.choose(Subject::Workload, 4) == 0 {
            log.append_reserved(log.reserve(payload.len())?, &payload, level)?
        } else {
            log.append(&payload, level)?
        };
        notes.appended.push((begun, payload));
        match tape.choose(Subject::Workload, 4) {
            0 => {}
            1 => drop(log.step()?),
            _ => {
                log.wait(&ticket)?;
                if level == Durability::Sync {
                    notes.promised.push((disk.event(), notes.appended.len()));
                }
            }
        }
        if tape.choose(Subject::Workload, 7) == 0 {
            log.switch()?;
            notes.promised.push((disk.event(), notes.appended.len()));
        }
    }
    Ok(())
}

/// Reads, judges, goes on for one record.
fn check(crash: &Crash, notes: &Notes, recovered: &RefCell<BTreeMap<u64, Records>>) -> Result<(), String> {
    let o = scan(&crash.disk);
    let (end, found) = read(&o).map_err(|e| format!("refused: {e}"))?;
    if let Some(parent) = crash.parent {
        let before = &recovered.borrow()[&parent];
        if !found.starts_with(before) || found.len() > before.len() + 2 {
            return Err(format!("{} records, {} were recovered before", found.len(), before.len()));
        }
    } else {
        let appended: Vec<&Vec<u8>> = notes.appended.iter().map(|(_, payload)| payload).collect();
        if !found.iter().eq(appended.iter().copied().take(found.len())) {
            return Err(format!("{} records are no prefix", found.len()));
        }
        let promised = notes.promised.iter().filter(|(e, _)| *e <= crash.death).map(|(_, n)| *n).max().unwrap_or(0);
        if found.len() < promised {
            return Err(format!("{} records, {promised} were promised", found.len()));
        }
        if !found.is_empty() && notes.appended[found.len() - 1].0 > crash.birth {
            return Err(format!("{} records, of the future", found.len()));
        }
    }
    recovered.borrow_mut().insert(crash.id, found.clone());
    let failed = |e: strandline::Error| format!("the recovery failed: {e}");
    if crash.disk.metadata(Path::new("log")).is_ok_and(|m| m.is_none()) {
        return Ok(());
    }
    let end = seal_tail(&o, &end).map_err(failed)?;
    let log = resume(&crash.disk, &end);
    for size in [600, 4000] {
        let ticket = log.append(&vec![0xee; size], Durability::Sync).map_err(failed)?;
        log.wait(&ticket).map_err(failed)?;
    }
    let (_, again) = read(&o).map_err(failed)?;
    if again.len() == found.len() + 2 { Ok(()) } else { Err(format!("{} records afterwards", again.len())) }
}

fn crash_everywhere(profile: Profile, seed: u64, limits: &Limits, lives: usize, steps: usize) -> Found {
    let (notes, recovered) = (RefCell::new(Notes::default()), RefCell::new(BTreeMap::new()));
    let run = |disk: &SimDisk, tape: &mut Tape| program(disk, tape, &notes, lives, steps);
    explore(profile, Tape::seeded(seed), limits, run, |crash| check(crash, &notes.borrow(), &recovered))
}

#[test]
fn nothing_acknowledged_is_lost_on_any_disk() {
    let limits = Limits { first: disk::Limits::canonical(96), crashes: 1, ..Limits::default() };
    let mut checks = 0;
    for profile in Profile::presets().into_iter().filter(Profile::is_honest) {
        for seed in 0..6 {
            let name = profile.name;
            let found = crash_everywhere(profile.clone(), seed, &limits, 3, 8);
            assert!(found.failures.is_empty(), "{name} {seed}: {}", found.failures[0]);
            checks += found.checks;
        }
    }
    assert!(checks > 3000, "{checks}");
}

#[test]
fn a_recovery_may_be_cut_too() {
    let limits =
        Limits { first: disk::Limits::canonical(24), nested: disk::Limits::canonical(12), ..Limits::default() };
    for seed in 0..2 {
        let found = crash_everywhere(Profile::strict(), seed, &limits, 2, 6);
        assert!(found.failures.is_empty(), "{seed}: {}", found.failures[0]);
    }
}
