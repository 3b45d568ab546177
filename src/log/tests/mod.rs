//! Tests of the log: what is written is read, in every state of the files that somebody may leave.

mod faults;
mod hostile;
mod threads;

use std::path::PathBuf;
use std::sync::Arc;

use strandline_vfs::mem::MemVfs;
use strandline_vfs::trace::TraceVfs;
use strandline_vfs::{OpenOptions, Vfs};

use super::*;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Durability::{self, Buffered, Sync, Write};
use crate::types::LogPosition;

const UNIT: u32 = 512;
const LINEAGE: Lineage = Lineage(0xabcd);

fn dir() -> PathBuf {
    PathBuf::from("/log")
}

fn mem() -> MemVfs {
    let vfs = MemVfs::new();
    vfs.create_dir(&dir()).unwrap();
    vfs
}

fn options(vfs: &Arc<dyn Vfs>) -> LogOptions {
    LogOptions {
        vfs: Arc::clone(vfs),
        dir: dir(),
        lineage: LINEAGE,
        unit: UNIT,
        segment_bytes: 16 * u64::from(UNIT),
        next: 1,
        previous: Lsn::default(),
        previous_writer: 0,
        writer: 1,
        kept: Vec::new(),
        doubt: None,
    }
}

fn scan_options(vfs: &Arc<dyn Vfs>, from: Lsn) -> ScanOptions {
    let from = LogPosition { lineage: LINEAGE, lsn: from };
    ScanOptions {
        vfs: Arc::clone(vfs),
        dir: dir(),
        unit: UNIT,
        from,
        last: None,
        made: None,
        closed: None,
        salvage: false,
    }
}

const BEGIN: Lsn = Lsn { segment: 1, offset: 0 };

type Records = Vec<(Lsn, Vec<u8>)>;

fn read(o: &ScanOptions) -> Result<(LogEnd, Records)> {
    let end = survey(o)?;
    let mut scanner = Scanner::new(o, &end);
    let mut records = Vec::new();
    while let Some((lsn, payload)) = scanner.next_record()? {
        records.push((lsn, payload.to_vec()));
    }
    assert_eq!(records.len() as u64, end.records);
    assert_eq!(records.iter().map(|(_, p)| p.len() as u64).sum::<u64>(), end.bytes);
    Ok((end, records))
}

fn payloads(vfs: &Arc<dyn Vfs>, from: Lsn) -> Vec<Vec<u8>> {
    read(&scan_options(vfs, from)).unwrap().1.into_iter().map(|(_, p)| p).collect()
}

fn start(vfs: &Arc<dyn Vfs>) -> Log {
    Log::start(options(vfs))
}

/// Goes on where a survey ended.
fn resume(vfs: &Arc<dyn Vfs>, end: &LogEnd) -> Log {
    let (next, previous, kept) = (end.next, end.previous, end.segments.clone());
    Log::start(LogOptions { next, previous, previous_writer: end.previous_writer, kept, ..options(vfs) })
}

fn bytes_of(vfs: &dyn Vfs, number: u32) -> Vec<u8> {
    let file = vfs.open(&dir().join(segment_name(number)), OpenOptions::read()).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn put_bytes(vfs: &dyn Vfs, number: u32, bytes: &[u8]) {
    let file = vfs.open(&dir().join(segment_name(number)), OpenOptions::create()).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

fn commit(log: &Log, payload: &[u8]) -> Result<Lsn> {
    let ticket = log.append(payload, Sync)?;
    log.wait(&ticket)?;
    Ok(ticket.end())
}

#[test]
fn what_was_appended_is_read_back() {
    let vfs: Arc<dyn Vfs> = Arc::new(mem());
    let log = start(&vfs);
    assert_eq!(log.end(), BEGIN);
    let mut expected = Vec::new();
    let mut ends = vec![BEGIN];
    for n in 0..200usize {
        let payload = vec![n as u8; 1 + n * 7 % 900];
        let level = [Sync, Buffered, Write, Buffered][n % 4];
        let ticket = log.append(&payload, level).unwrap();
        log.wait(&ticket).unwrap();
        expected.push(payload);
        ends.push(log.end());
        assert_eq!(ticket.end(), log.end());
    }
    log.sync(Write).unwrap();
    assert_eq!(payloads(&vfs, BEGIN), expected);
    for (n, from) in ends.iter().enumerate() {
        assert_eq!(payloads(&vfs, *from), expected[n..], "from {from}");
    }
    log.close().unwrap();
    let (end, _) = read(&scan_options(&vfs, BEGIN)).unwrap();
    assert_eq!((end.end, end.torn, end.next), (*ends.last().unwrap(), None, log.end().segment));
    assert_eq!(commit(&log, b"x").unwrap_err().kind(), ErrorKind::Closed);
    log.close().unwrap();
}

#[test]
fn a_synced_commit_is_one_write_and_one_sync() {
    let trace = TraceVfs::new(Arc::new(mem()), dir());
    let vfs: Arc<dyn Vfs> = Arc::new(trace.clone());
    let log = start(&vfs);
    commit(&log, b"the first makes the segment").unwrap();
    for _ in 0..5 {
        let before = trace.events().len();
        commit(&log, b"a record").unwrap();
        let calls: Vec<_> = trace.events()[before..].iter().map(|e| e.call.name()).collect();
        assert_eq!(calls, ["write", "sync_data"]);
    }
    assert_eq!(log.counters().records, 6);
}

#[test]
fn a_log_goes_on_in_a_new_segment_and_reads_as_one() {
    let vfs: Arc<dyn Vfs> = Arc::new(mem());
    let mut expected = Vec::new();
    let mut from = BEGIN;
    for life in 0..12u8 {
        let (end, _) = read(&scan_options(&vfs, from)).unwrap();
        let log = resume(&vfs, &end);
        for n in 0..life % 4 {
            expected.push(vec![life; 1 + usize::from(n) * 300]);
            commit(&log, expected.last().unwrap()).unwrap();
        }
        match life % 3 {
            0 => drop(log),
            1 => log.close().unwrap(),
            // A checkpoint of everything, and then nothing: the next life begins with a segment that is not there yet.
            _ => {
                log.switch().unwrap();
                from = log.end();
                assert_eq!(from.offset, 0);
            }
        }
        assert_eq!(payloads(&vfs, BEGIN), expected, "life {life}");
    }
}

#[test]
fn a_large_record_has_a_segment_of_its_own() {
    let vfs: Arc<dyn Vfs> = Arc::new(mem());
    let log = start(&vfs);
    let expected: Vec<Vec<u8>> = [10, 100_000, 10, 300_000, 400_000].map(|n| vec![n as u8; n]).to_vec();
    for payload in &expected {
        commit(&log, payload).unwrap();
    }
    assert_eq!(log.segments().iter().map(|s| s.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(payloads(&vfs, BEGIN), expected);
    for refused in [log.append(&[], Sync), log.append(&[], Buffered)] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn levels_do_what_they_say_and_no_more() {
    let trace = TraceVfs::new(Arc::new(mem()), dir());
    let vfs: Arc<dyn Vfs> = Arc::new(trace.clone());
    let log = start(&vfs);
    commit(&log, b"the segment").unwrap();
    let calls = |what: &dyn Fn()| {
        let before = trace.events().len();
        what();
        trace.events()[before..].iter().map(|e| e.call.name()).collect::<Vec<_>>()
    };
    let append = |level| calls(&|| log.wait(&log.append(b"record", level).unwrap()).unwrap());
    assert!(append(Buffered).is_empty());
    assert_eq!(append(Write), ["write"]);
    assert_eq!(calls(&|| log.sync(Sync).unwrap()), ["sync_data"], "all is written; padding is not");
    assert!(calls(&|| log.sync(Sync).unwrap()).is_empty());
    log.switch().unwrap();
    assert!(calls(&|| log.sync(Sync).unwrap()).is_empty(), "a switch leaves nothing to sync");
    commit(&log, b"the next segment").unwrap();
    assert!(append(Buffered).is_empty());
    assert_eq!(calls(&|| assert!(log.step().unwrap())), ["write"]);
    assert!(calls(&|| assert!(!log.step().unwrap())).is_empty());
    // A commit becomes visible after those before it: it waits for what they wait for.
    let (sync, buffered) = (log.append(b"a", Sync).unwrap(), log.append(b"b", Buffered).unwrap());
    assert_eq!(calls(&|| log.wait(&buffered).unwrap()), ["write", "sync_data"]);
    assert!(calls(&|| log.wait(&sync).unwrap()).is_empty());
    let (write, buffered) = (log.append(b"c", Write).unwrap(), log.append(b"d", Buffered).unwrap());
    assert_eq!(calls(&|| log.wait(&buffered).unwrap()), ["write"]);
    assert!(calls(&|| log.wait(&write).unwrap()).is_empty());
}

/// Covers: L6.
#[test]
fn what_was_synced_is_never_written_again() {
    let trace = TraceVfs::new(Arc::new(mem()), dir());
    let vfs: Arc<dyn Vfs> = Arc::new(trace.clone());
    let log = start(&vfs);
    for n in 0..300usize {
        let level = [Sync, Buffered, Write, Write, Buffered, Sync, Buffered][n % 7];
        log.wait(&log.append(&vec![1; 1 + n * 37 % 700], level).unwrap()).unwrap();
        match n % 50 {
            20 => log.sync(Sync).unwrap(),
            30 => drop(log.switch().unwrap()),
            _ => {}
        }
    }
    log.close().unwrap();
    let mut durable = std::collections::BTreeMap::new();
    let mut written = std::collections::BTreeMap::new();
    for event in trace.events() {
        let name = event.path.clone();
        match event.call.name() {
            "write" => {
                assert!(event.offset >= *durable.get(&name).unwrap_or(&0), "{event:?}");
                // Zeros that take space do not count as written, only what goes on from the last bytes that do.
                let end = written.entry(name).or_insert(u64::from(UNIT));
                if event.offset == *end || event.offset == end.next_multiple_of(u64::from(UNIT)) {
                    *end = event.offset + event.outcome.unwrap();
                }
            }
            "sync_data" | "sync_all" => {
                let end = written.get(&name).map_or(0, |end| end.next_multiple_of(u64::from(UNIT)));
                durable.insert(name, end);
            }
            _ => {}
        }
    }
    assert!(durable.len() > 10);
}

/// Covers: L3.
#[test]
fn segments_go_oldest_first_and_not_while_they_are_held() {
    let vfs: Arc<dyn Vfs> = Arc::new(mem());
    let log = Arc::new(start(&vfs));
    for n in 0..6u8 {
        commit(&log, &[n; 9]).unwrap();
        log.switch().unwrap();
    }
    commit(&log, b"current").unwrap();
    let numbers = || log.segments().iter().map(|s| s.number).collect::<Vec<_>>();
    assert_eq!(numbers(), [1, 2, 3, 4, 5, 6, 7]);
    let (all, some) = (log.hold(0), log.hold(3));
    assert!(log.remove_before(9).unwrap().is_empty());
    all.raise(2);
    assert_eq!(log.remove_before(9).unwrap(), [1]);
    drop(all);
    assert_eq!(log.remove_before(2).unwrap(), [0u32; 0]);
    assert_eq!(log.remove_before(9).unwrap(), [2]);
    drop(some);
    assert_eq!(log.remove_before(5).unwrap(), [3, 4]);
    assert_eq!(log.remove_before(9).unwrap(), [5, 6]);
    assert_eq!(numbers(), [7]);
    let names: Vec<_> = vfs.read_dir(&dir()).unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, [segment_name(7).as_str()]);
    assert_eq!(payloads(&vfs, Lsn { segment: 7, offset: 0 }), [b"current"]);
}

#[test]
fn a_reservation_is_good_across_switches() {
    let vfs: Arc<dyn Vfs> = Arc::new(mem());
    let log = start(&vfs);
    let reservation = log.reserve(3000).unwrap();
    let mut expected = Vec::new();
    for n in 0..40u8 {
        expected.push(vec![n; 700]);
        commit(&log, expected.last().unwrap()).unwrap();
        if n % 7 == 3 {
            log.switch().unwrap();
        }
    }
    let before = log.counters();
    let ticket = log.append_reserved(reservation, &[77; 3000], Sync).unwrap();
    assert_eq!(log.counters().taken, before.taken, "the space was there");
    log.wait(&ticket).unwrap();
    expected.push(vec![77; 3000]);
    drop(log.reserve(5000).unwrap());
    commit(&log, b"after").unwrap();
    expected.push(b"after".to_vec());
    log.close().unwrap();
    assert_eq!(payloads(&vfs, BEGIN), expected);
}

#[test]
fn a_sealed_tail_reads_the_same() {
    let vfs: Arc<dyn Vfs> = Arc::new(mem());
    let mut log = start(&vfs);
    let mut expected = Vec::new();
    for life in 0..4u8 {
        for n in 0..9u8 {
            expected.push(vec![n; 200 + usize::from(life)]);
            log.append(expected.last().unwrap(), [Sync, Write, Buffered][usize::from(n % 3)]).unwrap();
            log.sync(Write).unwrap();
        }
        let o = scan_options(&vfs, BEGIN);
        let (end, before) = read(&o).unwrap();
        assert!(end.is_in_doubt());
        let sealed = seal_tail(&o, &end).unwrap();
        assert!(!sealed.is_in_doubt() && sealed.records == end.records);
        let (again, after) = read(&o).unwrap();
        assert_eq!((again.end, again.next, again.previous), (sealed.end, sealed.next, sealed.previous));
        assert_eq!(again.segments, sealed.segments);
        assert!(again.is_in_doubt(), "nothing in the files says that it is durable");
        let payloads = |records: Records| records.into_iter().map(|(_, p)| p).collect::<Vec<_>>();
        assert_eq!((payloads(before), payloads(after)), (expected.clone(), expected.clone()));
        log = resume(&vfs, &again);
    }
}

#[test]
fn what_is_in_doubt_is_sealed_before_the_log_goes_on() {
    let vfs: Arc<dyn Vfs> = Arc::new(mem());
    commit(&start(&vfs), b"one").unwrap();
    let o = scan_options(&vfs, BEGIN);
    let (end, _) = read(&o).unwrap();
    let log = Log::start(LogOptions {
        next: end.next,
        previous: end.previous,
        previous_writer: end.previous_writer,
        writer: 1,
        kept: end.segments.clone(),
        doubt: Some((o.clone(), end)),
        ..options(&vfs)
    });
    assert_eq!(log.end().segment, 2);
    commit(&log, b"two").unwrap();
    assert_eq!(log.segments().iter().map(|s| s.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(payloads(&vfs, BEGIN), [b"one", b"two"]);
    assert_eq!(payloads(&vfs, Lsn { segment: 2, offset: 0 }), [b"one", b"two"]);
    log.close().unwrap();
    let (end, _) = read(&o).unwrap();
    assert!(end.is_in_doubt(), "a cut whose sync failed looks the same");
}
