//! Tests of the log.

use std::path::PathBuf;
use std::sync::Arc;

use strandline_vfs::Vfs;
use strandline_vfs::mem::MemVfs;
use strandline_vfs::trace::TraceVfs;

use super::*;
use crate::error::{ErrorKind, Result};
use crate::options::Durability::{Buffered, Sync, Write};
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
        kept: Vec::new(),
    }
}

fn scan_options(vfs: &Arc<dyn Vfs>, from: Lsn) -> ScanOptions {
    let from = LogPosition { lineage: LINEAGE, lsn: from };
    ScanOptions { vfs: Arc::clone(vfs), dir: dir(), unit: UNIT, from, last: None, salvage: false }
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

fn commit(log: &Log, payload: &[u8]) -> Result<Lsn> {
    let ticket = log.append(payload, Sync)?;
    log.wait(&ticket)?;
    Ok(ticket.end())
}

#[test]
fn what_was_appended_is_read_back() {
    let vfs: Arc<dyn Vfs> = Arc::new(mem());
    let log = Log::start(options(&vfs));
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
    let log = Log::start(options(&vfs));
    commit(&log, b"the first makes the segment").unwrap();
    for _ in 0..5 {
        let before = trace.events().len();
        commit(&log, b"a record").unwrap();
        let calls: Vec<_> = trace.events()[before..].iter().map(|e| e.call.name()).collect();
        assert_eq!(calls, ["write", "sync_data"]);
    }
    assert_eq!(log.counters().records, 6);
}
