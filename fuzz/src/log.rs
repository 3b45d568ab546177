//! A log of up to two segments made of arbitrary bytes, and records made of arbitrary bytes.
//!
//! The first two bytes say how long the first segment is; the rest is the second. The bytes are tried as they are, with the
//! checksums made right, and with the chain of records made right too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline::log::{
    Log, LogOptions, RECORD_HEADER, RecordHeader, ScanOptions, Scanner, Seed, seal_tail, segment_name, survey,
};
use strandline::record::{CommitEncoder, Op, Record};
use strandline::{Durability, ErrorKind, Lineage, LogPosition, Lsn};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{OpenOptions, Vfs};

/// The history that the segments belong to.
pub const LINEAGE: Lineage = Lineage(0x11);
/// The allocation unit.
pub const UNIT: u32 = 512;

/// The log and its records.
pub fn log(bytes: &[u8]) {
    record(bytes);
    let Some((len, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (first, second) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*len))));
    for (sums, chain) in [(false, false), (true, false), (true, true)] {
        let mut segments = [first.to_vec(), second.to_vec()];
        if sums {
            for (number, segment) in (1..).zip(&mut segments) {
                make_right(segment, number, chain);
            }
        }
        for offset in [0, UNIT, 700] {
            judge(&segments, offset);
        }
    }
}

/// Makes the checksums of a segment right, and with `chain` also what each record says of the one before it.
fn make_right(bytes: &mut [u8], number: u32, chain: bool) {
    let unit = UNIT as usize;
    if bytes.len() < unit {
        return;
    }
    bytes[12..16].fill(0);
    let sum = crc32fast::hash(&bytes[..unit]);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    let seed = Seed::new(LINEAGE, number);
    let (mut at, mut tail) = (unit, unit);
    while let Some(frame) = bytes.get(at..at + RECORD_HEADER) {
        let field = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        let next = at.next_multiple_of(unit);
        if field(4) == 0 || next - at < RECORD_HEADER && next > at {
            at = if next > at { next } else { next + unit };
            continue;
        }
        let Some(payload) = bytes.get(at + RECORD_HEADER..(at + RECORD_HEADER).saturating_add(field(4) as usize))
        else {
            return;
        };
        let previous = if chain { tail as u32 } else { field(12) };
        let payload_crc = crc32fast::hash(payload);
        let header = RecordHeader { length: field(4), synced: field(8).min(previous), previous, payload_crc };
        bytes[at..at + RECORD_HEADER].copy_from_slice(&header.encode(&seed, at as u32));
        at += RECORD_HEADER + header.length as usize;
        tail = at;
    }
}

/// Whatever is accepted reads the same with salvage, can be sealed, and can go on.
fn judge(segments: &[Vec<u8>], offset: u32) {
    let vfs = MemVfs::new();
    for (number, bytes) in (1..).zip(segments).filter(|(_, bytes)| !bytes.is_empty()) {
        let file = vfs.open(&PathBuf::from(segment_name(number)), OpenOptions::create());
        file.and_then(|f| f.write_all_at(bytes, 0)).expect("memory has room");
    }
    let from = LogPosition { lineage: LINEAGE, lsn: Lsn { segment: 1, offset } };
    let o = ScanOptions {
        vfs: Arc::new(vfs),
        dir: PathBuf::new(),
        unit: UNIT,
        from,
        last: None,
        made: None,
        closed: None,
        salvage: false,
    };
    let salvaged = read(&ScanOptions { salvage: true, ..o.clone() });
    let records = match read(&o) {
        Ok(records) => records,
        Err(e) => {
            assert!(matches!(e, ErrorKind::Corrupt | ErrorKind::WrongBase | ErrorKind::Unsupported), "{e:?}");
            assert!(e != ErrorKind::Corrupt || salvaged.is_ok(), "a salvage keeps what is before the damage");
            return;
        }
    };
    assert_eq!(salvaged.as_ref(), Ok(&records));
    for (_, payload) in &records {
        record(payload);
    }
    go_on(&o, records.into_iter().map(|(_, payload)| payload).collect());
}

fn read(o: &ScanOptions) -> Result<Vec<(Lsn, Vec<u8>)>, ErrorKind> {
    let end = survey(o).map_err(|e| e.kind())?;
    let mut scanner = Scanner::new(o, &end);
    let mut records: Vec<(Lsn, Vec<u8>)> = Vec::new();
    while let Some((lsn, payload)) = scanner.next_record().expect("a survey has read it") {
        assert!(records.last().is_none_or(|(last, _)| *last < lsn), "L1");
        records.push((lsn, payload.to_vec()));
    }
    assert_eq!(records.len() as u64, end.records);
    Ok(records)
}

fn go_on(o: &ScanOptions, mut expected: Vec<Vec<u8>>) {
    let end = survey(o).and_then(|end| seal_tail(o, &end)).expect("it was accepted");
    let log = Log::start(LogOptions {
        vfs: Arc::clone(&o.vfs),
        dir: o.dir.clone(),
        lineage: LINEAGE,
        unit: UNIT,
        segment_bytes: 2048,
        next: end.next,
        previous: end.previous,
        previous_writer: end.previous_writer,
        writer: 1,
        kept: end.segments,
        doubt: None,
    });
    let ticket = log.append(b"and on", Durability::Sync).expect("memory has room");
    log.wait(&ticket).expect("memory does not fail");
    expected.push(b"and on".to_vec());
    let records = read(o).expect("nothing was damaged");
    assert!(records.into_iter().map(|(_, payload)| payload).eq(expected), "L1");
}

/// What is accepted as a record has one encoding.
fn record(bytes: &[u8]) {
    let Ok(record) = Record::decode(bytes) else { return };
    let Record::Commit(commit) = record else {
        assert_eq!(record.encode(), bytes, "D1");
        return;
    };
    let mut encoder = CommitEncoder::new(commit.txn, 0);
    for op in commit.ops() {
        match op {
            Ok((table, Op::Put { key, value })) => encoder.put(table, key, value),
            Ok((table, Op::Remove { key })) => encoder.remove(table, key),
            Err(_) => return,
        }
    }
    assert_eq!(encoder.finish(), bytes, "D1");
}

/// Two segments, of which the second ends torn.
pub fn a_log() -> Vec<u8> {
    let vfs = Arc::new(MemVfs::new());
    let log = Log::start(LogOptions {
        vfs: Arc::clone(&vfs) as Arc<dyn Vfs>,
        dir: PathBuf::new(),
        lineage: LINEAGE,
        unit: UNIT,
        segment_bytes: 2048,
        next: 1,
        previous: Lsn::default(),
        previous_writer: 0,
        writer: 1,
        kept: Vec::new(),
        doubt: None,
    });
    let mut commit = CommitEncoder::new(7, 0);
    commit.put(strandline::TableId(1), b"tide", b"low");
    commit.remove(strandline::TableId(2), b"spring");
    let records = [
        commit.finish(),
        Record::Message("high water").encode(),
        Record::Checkpoint { seq: strandline::CheckpointSeq::major(3), position: Lsn { segment: 1, offset: 700 } }
            .encode(),
        Record::Message(&"low water ".repeat(60)).encode(),
    ];
    let levels = [Durability::Buffered, Durability::Sync, Durability::Write, Durability::Sync];
    for _ in 0..2 {
        for (payload, level) in records.iter().zip(levels) {
            let ticket = log.append(payload, level).expect("memory has room");
            log.wait(&ticket).expect("memory does not fail");
        }
        log.switch().expect("memory does not fail");
    }
    let read = |number| {
        let file = vfs.open(Path::new(&segment_name(number)), OpenOptions::read()).expect("it was written");
        let mut bytes = vec![0; file.len().expect("memory does not fail") as usize];
        file.read_exact_at(&mut bytes, 0).expect("memory does not fail");
        bytes
    };
    let (first, mut second) = (read(1), read(2));
    second.truncate(second.len() - 300);
    let mut out = (first.len() as u16).to_le_bytes().to_vec();
    out.extend_from_slice(&first);
    out.extend_from_slice(&second);
    out
}
