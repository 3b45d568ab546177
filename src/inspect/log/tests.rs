//! Descriptions of segments, and the reader of a directory of them.

use strandline_vfs::mem::MemVfs;

use super::*;
use crate::log::{Log, LogOptions};
use crate::options::Durability;
use crate::record::{CommitEncoder, SchemaChange};
use crate::types::{CheckpointSeq, TableId};

fn lsn(segment: u32, offset: u32) -> Lsn {
    Lsn { segment, offset }
}

/// Three segments with a record of each kind.
fn three_segments() -> Arc<dyn Vfs> {
    let vfs: Arc<dyn Vfs> = Arc::new(MemVfs::new());
    vfs.create_dir(Path::new("log")).unwrap();
    let options = LogOptions {
        vfs: Arc::clone(&vfs),
        dir: PathBuf::from("log"),
        lineage: Lineage(7),
        unit: 512,
        segment_bytes: 100 << 10,
        next: 4,
        previous: lsn(3, 900),
        previous_writer: 2,
        writer: 3,
        kept: Vec::new(),
        doubt: None,
    };
    let log = Log::start(options);
    let put = |payload: &[u8]| {
        let ticket = log.append(payload, Durability::Sync).unwrap();
        log.wait(&ticket).unwrap();
    };
    let mut commit = CommitEncoder::new(9, 0);
    commit.put(TableId(2), b"k\0", b"v");
    commit.remove(TableId(3), b"\xff");
    put(&commit.finish());
    let change = SchemaChange::Drop { id: TableId(3) };
    put(&Record::Schema { seq: CheckpointSeq::major(2), change }.encode());
    log.switch().unwrap();
    put(&Record::Message("tide").encode());
    log.switch().unwrap();
    put(&Record::Checkpoint { seq: CheckpointSeq::major(3), position: lsn(5, 0) }.encode());
    log.close().unwrap();
    vfs
}

fn read(vfs: &Arc<dyn Vfs>) -> Vec<std::result::Result<Lsn, String>> {
    let entries = LogReader::open(vfs, Path::new("log")).unwrap();
    entries.map(|entry| entry.map(|e| e.lsn()).map_err(|e| e.to_string())).collect()
}

#[test]
fn a_segment_in_words() {
    let vfs = three_segments();
    let words = |name: &str, detail| super::super::describe_file(&*vfs, &Path::new("log").join(name), detail).unwrap();
    insta::assert_snapshot!(words("StrandlineLog.0000000004", Detail::Cells), @r#"
    StrandlineLog.0000000004: 1536 bytes
    log segment 4 lineage 0000000000000007 unit 512 writer 0000000000000003
    continues 3:900 of writer 0000000000000002
    record 4:512 15 bytes: commit of transaction 9
      table 2 put "k\x00" = "v"
      table 3 remove "\xff"
    record 4:1024 11 bytes: schema at 2: Drop { id: TableId(3) }
    2 records, 26 bytes, end at 4:1055
    "#);
    insta::assert_snapshot!(words("StrandlineLog.0000000005", Detail::Summary), @r#"
    StrandlineLog.0000000005: 1024 bytes
    log segment 5 lineage 0000000000000007 unit 512 writer 0000000000000003
    continues 4:1055 of writer 0000000000000003
    1 records, 5 bytes, end at 5:537
    "#);
}

#[test]
fn records_come_in_order_and_damage_ends_a_segment_only() {
    let vfs = three_segments();
    let whole = [lsn(4, 512), lsn(4, 1024), lsn(5, 512), lsn(6, 512)];
    assert_eq!(read(&vfs), whole.map(Ok));
    let first = Path::new("log/StrandlineLog.0000000004");
    let file = vfs.open(first, strandline_vfs::OpenOptions::write()).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1030).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 1030).unwrap();
    let got = read(&vfs);
    assert_eq!(got.len(), 4);
    assert!(got[1].as_ref().unwrap_err().contains("damaged"), "{got:?}");
    assert_eq!((&got[0], &got[2], &got[3]), (&Ok(whole[0]), &Ok(whole[2]), &Ok(whole[3])));
    file.write_all_at(&byte, 1030).unwrap();
    vfs.remove_file(Path::new("log/StrandlineLog.0000000005")).unwrap();
    let got = read(&vfs);
    assert!(got[2].as_ref().unwrap_err().contains("segment 5 is missing"), "{got:?}");
    assert_eq!(got[3], Ok(whole[3]));
}

#[test]
fn a_range_begins_and_ends_at_records() {
    let vfs = three_segments();
    let between = |first, last| {
        let reader = LogReader::open(&vfs, Path::new("log")).unwrap().between(first, last);
        reader.map(|reader| reader.map(|entry| entry.unwrap().lsn()).collect::<Vec<_>>())
    };
    assert_eq!(between(lsn(4, 1024), Some(lsn(5, 512))).unwrap(), [lsn(4, 1024), lsn(5, 512)]);
    assert_eq!(between(lsn(6, 512), None).unwrap(), [lsn(6, 512)]);
    for (first, last) in [(lsn(4, 600), None), (lsn(7, 512), None), (lsn(4, 512), Some(lsn(6, 0)))] {
        assert_eq!(between(first, last).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(between(lsn(5, 512), Some(lsn(4, 512))).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// The payloads that can be read, and whether anything was said to be wrong.
fn told(vfs: &Arc<dyn Vfs>) -> (Vec<LogEntry>, bool) {
    let mut reader = LogReader::open(vfs, Path::new("log")).unwrap();
    let mut wrong = false;
    let mut entries = Vec::new();
    for entry in &mut reader {
        match entry {
            Ok(entry) => entries.push(entry),
            Err(_) => wrong = true,
        }
    }
    (entries, wrong || reader.torn().is_some())
}

/// Whatever happens to a byte: no record comes out that was not written, and none is missing without a word.
#[test]
fn every_changed_byte_and_every_cut_is_told() {
    let vfs = three_segments();
    let (whole, wrong) = told(&vfs);
    assert!(whole.len() == 4 && !wrong);
    let honest = |what: &str| {
        let (entries, wrong) = told(&vfs);
        assert!(entries.iter().all(|entry| whole.contains(entry)), "{what}");
        assert!(wrong || entries == whole, "{what}: {} records and not a word", entries.len());
    };
    for segment in segments(&*vfs, Path::new("log")).unwrap() {
        let file = vfs.open(&segment.path, strandline_vfs::OpenOptions::write()).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        for at in 0..bytes.len() {
            file.write_all_at(&[bytes[at] ^ 0x55], at as u64).unwrap();
            honest(&format!("segment {} byte {at}", segment.number));
            file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
        for cut in (0..bytes.len()).rev() {
            // A cut last segment may be one that was being made, and one without a record never was.
            file.set_len(cut as u64).unwrap();
            if segment.number < 6 {
                honest(&format!("segment {} cut at {cut}", segment.number));
            } else {
                assert!(told(&vfs).0.iter().all(|entry| whole.contains(entry)));
            }
        }
        file.write_all_at(&bytes, 0).unwrap();
    }
}
