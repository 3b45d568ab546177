//! Tests of the store on a file system in memory.

use std::path::Path;
use std::sync::Arc;

use strandline_vfs::fault::{Fault, FaultVfs};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{Call, OpenOptions, Vfs};

use super::*;
use crate::codec::{Reader, Writer};
use crate::error::ErrorKind;
use crate::types::{BlockAddr, CheckpointSeq, TableId};

const UNIT: u32 = 512;
const PATH: &str = "t.sl";

fn seq(n: u64) -> CheckpointSeq {
    CheckpointSeq::major(n)
}

fn store(vfs: &MemVfs, state: Option<SpaceState>, live: u64) -> BlockStore {
    BlockStore::new(Arc::new(vfs.clone()), PATH, TableId(7), UNIT, state, seq(live)).unwrap()
}

fn poke(vfs: &MemVfs, bytes: &[u8], offset: u64) {
    vfs.open(Path::new(PATH), OpenOptions::write()).unwrap().write_all_at(bytes, offset).unwrap();
}

/// A store with three blocks of checkpoint 1, reopened; and the addresses.
fn reopened(vfs: &MemVfs) -> (BlockStore, [BlockAddr; 3]) {
    let s = store(vfs, None, 1);
    let addrs = ["one", "two", "three"].map(|body| s.write(body.as_bytes(), seq(1)).unwrap());
    let state = s.finish_checkpoint(seq(1)).state;
    assert!(s.sync().unwrap());
    (store(vfs, Some(state), 2), addrs)
}

#[test]
fn what_was_written_is_read_after_reopening() {
    let vfs = MemVfs::new();
    let (s, addrs) = reopened(&vfs);
    for (addr, body) in addrs.iter().zip(["one", "two", "three"]) {
        assert_eq!(&*s.read(*addr).unwrap(), body.as_bytes());
    }
    s.close_handle();
    assert!(!s.is_open());
    assert_eq!(&*s.read_block(addrs[0]).unwrap(), b"one");
    assert_eq!(s.counters(), Counters { reads: 4, bytes_read: 4 * 512, ..Counters::default() });
}

#[test]
fn an_empty_table_has_no_file() {
    let vfs = MemVfs::new();
    let s = store(&vfs, None, 1);
    assert_eq!(s.finish_checkpoint(seq(1)), Settled { state: SpaceState::empty(UNIT), dead: DeadList::default() });
    assert!(!s.sync().unwrap());
    assert_eq!(vfs.metadata(Path::new(PATH)).unwrap(), None);
}

#[test]
fn only_a_new_file_asks_for_a_sync_of_the_directory() {
    let vfs = MemVfs::new();
    let s = store(&vfs, None, 1);
    s.write(b"x", seq(1)).unwrap();
    s.close_handle();
    assert!(s.is_unsynced() && s.is_open());
    assert!(s.sync().unwrap());
    s.write(b"x", seq(1)).unwrap();
    assert!(!s.sync().unwrap());
    assert!(!s.sync().unwrap());
    assert_eq!(s.counters().syncs, 2);
}

#[test]
fn addresses_that_are_none_are_refused_before_anything_is_read() {
    let vfs = MemVfs::new();
    let (s, [good, ..]) = reopened(&vfs);
    let bad = [
        BlockAddr { offset: 0, ..good },
        BlockAddr { offset: 512, ..good },
        BlockAddr { offset: good.offset + 1, ..good },
        BlockAddr { offset: u64::MAX - 511, ..good },
        BlockAddr { size: 0, ..good },
        BlockAddr { size: 513, ..good },
        BlockAddr { size: u32::MAX - 511, ..good },
    ];
    for addr in bad {
        let e = s.read(addr).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt);
        assert_eq!(e.location().unwrap().offset, Some(addr.offset));
    }
    assert_eq!(s.counters().bytes_read, 0);
}

/// Covers: B4.
#[test]
fn damage_is_named_with_file_and_offset() {
    let vfs = MemVfs::new();
    let (s, [_, two, three]) = reopened(&vfs);
    poke(&vfs, b"!", two.offset + 40);
    let e = s.read(two).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    let place = e.location().unwrap();
    assert_eq!((place.file.as_path(), place.offset), (Path::new(PATH), Some(two.offset)));
    assert!(e.remedy_text().is_some());
    assert_eq!(&*s.read(three).unwrap(), b"three");
}

#[test]
fn damaged_files_are_refused_at_the_first_touch() {
    type Damage = (&'static str, fn(&MemVfs));
    let damages: [Damage; 5] = [
        ("missing", |v| v.remove_file(Path::new(PATH)).unwrap()),
        ("has 4096 bytes", |v| v.open(Path::new(PATH), OpenOptions::write()).unwrap().set_len(4096).unwrap()),
        ("STRANDTB", |v| poke(v, b"LOST", 0)),
        ("checksum", |v| poke(v, b"!", 3000)),
        ("that of table 9", |v| poke(v, &FileHeader { table: TableId(9), unit: UNIT }.encode(), 0)),
    ];
    for (message, damage) in damages {
        let vfs = MemVfs::new();
        let (s, [one, ..]) = reopened(&vfs);
        damage(&vfs);
        for _ in 0..2 {
            let e = s.read(one).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
            assert!(e.to_string().contains(message), "{e}");
            assert!(e.to_string().contains(PATH), "{e}");
        }
        assert_eq!(s.write(b"more", seq(2)).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn a_read_only_store_writes_nothing() {
    let vfs = MemVfs::new();
    let (_, [one, ..]) = reopened(&vfs);
    let s = BlockStore::read_only(Arc::new(vfs), PATH, TableId(7), UNIT, 4096 + 512).unwrap();
    assert_eq!(&*s.read(one).unwrap(), b"one");
    assert_eq!(s.write(b"x", seq(2)).unwrap_err().kind(), ErrorKind::ReadOnly);
}

/// The block that holds the lists counts as reachable in the lists that it holds.
#[test]
fn lists_that_describe_their_own_file() {
    let vfs = MemVfs::new();
    let s = store(&vfs, None, 1);
    let blocks: Vec<_> = (0..100).map(|_| s.write(&[0; 400], seq(1)).unwrap()).collect();
    for b in blocks.iter().step_by(2) {
        s.give_up(*b, seq(1));
    }
    let encode = |settled: Settled| {
        let mut out = Vec::new();
        settled.state.encode(&mut out);
        settled.dead.encode(&mut out);
        (out, settled)
    };
    let (addr, settled) = s.write_lists(seq(1), encode).unwrap();
    let body = s.read(addr).unwrap();
    let mut r = Reader::new(&body);
    let state = SpaceState::decode(&mut r).unwrap();
    assert_eq!((&state, &DeadList::decode(&mut r).unwrap()), (&settled.state, &settled.dead));
    assert_eq!(settled, s.finish_checkpoint(seq(1)));
    let list: ExtentSet = state.available.iter().copied().collect();
    assert!(!list.overlaps(addr.extent()));
    let reachable = u64::from(addr.size) + 50 * u64::from(UNIT);
    assert_eq!(state.size, data_start(UNIT) + reachable + state.available_bytes());
}

#[test]
fn the_stored_form_is_guarded_against_nonsense() {
    let vfs = Arc::new(MemVfs::new());
    let odd = SpaceState { size: 5000, available: vec![] };
    let e = BlockStore::new(vfs.clone(), PATH, TableId(7), UNIT, Some(odd), seq(1)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    let e = BlockStore::new(vfs, PATH, TableId(7), 1000, None, seq(1)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    let mut out = Vec::new();
    out.put_varint(8192);
    assert!(SpaceState::decode(&mut Reader::new(&out)).is_err());
}

fn failing(state: Option<SpaceState>, live: u64) -> (FaultVfs, BlockStore) {
    let vfs = FaultVfs::new(Arc::new(MemVfs::new()));
    let s = BlockStore::new(Arc::new(vfs.clone()), PATH, TableId(7), UNIT, state, seq(live)).unwrap();
    (vfs, s)
}

/// A full device, wherever it strikes, costs nothing but the write.
#[test]
fn a_full_device_leaves_everything_as_it_was() {
    let (vfs, s) = failing(None, 1);
    let mut refused = 0;
    let addr = loop {
        vfs.limit_space(Some(100));
        match s.write(&[1; 600], seq(1)) {
            Ok(addr) => break addr,
            Err(e) => assert_eq!(e.io_source().unwrap().kind(), std::io::ErrorKind::StorageFull),
        }
        refused += 1;
    };
    assert_eq!(refused, (4096 + 1024) / 100);
    assert_eq!(addr.offset, data_start(UNIT));
    assert_eq!(&*s.read(addr).unwrap(), &[1; 600]);
    assert_eq!(s.finish_checkpoint(seq(1)).state, SpaceState { size: 4096 + 1024, available: vec![] });
}

#[test]
fn short_transfers_are_completed() {
    let (vfs, s) = failing(None, 1);
    vfs.limit_transfers(Some(7), Some(100));
    let body: Vec<u8> = (0..3000).map(|i| i as u8).collect();
    let addr = s.write(&body, seq(1)).unwrap();
    assert_eq!(*s.read(addr).unwrap(), body[..]);
}

/// Covers: V5. What a failed sync may have lost is never claimed again.
#[test]
fn a_failed_sync_poisons() {
    let (vfs, s) = failing(None, 1);
    let addr = s.write(b"x", seq(1)).unwrap();
    vfs.inject(Fault::on(Call::SyncData));
    assert_eq!(s.sync().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(s.sync().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(s.write(b"x", seq(1)).unwrap_err().kind(), ErrorKind::Poisoned);
    s.close_handle();
    assert!(s.is_open());
    assert_eq!(&*s.read(addr).unwrap(), b"x");
}

#[test]
fn errors_of_the_system_are_named_and_pass() {
    let (vfs, s) = failing(None, 1);
    let addr = s.write(b"x", seq(1)).unwrap();
    assert!(s.sync().unwrap());
    for call in [Call::Read, Call::Open, Call::Write] {
        s.close_handle();
        vfs.inject(Fault::on(call).system_error(5));
        let e = if call == Call::Write { s.write(b"y", seq(1)).unwrap_err() } else { s.read(addr).unwrap_err() };
        assert_eq!(e.kind(), ErrorKind::Io, "{e}");
        assert!(e.to_string().contains(PATH), "{e}");
        assert_eq!(&*s.read(addr).unwrap(), b"x");
    }
    let next = s.write(b"y", seq(1)).unwrap();
    assert_eq!(next.offset, addr.offset + 1024, "the place of the failed write rests");
}

/// Threads write, read and give up blocks under both numbers while a checkpoint is finished again and again.
#[test]
fn many_threads() {
    let s = &store(&MemVfs::new(), None, 1);
    let kept: Vec<Vec<BlockAddr>> = std::thread::scope(|scope| {
        let work = |id: u64| {
            let mut kept = Vec::new();
            for i in 0..300u64 {
                let birth = seq(1 + i % 2);
                let body = [id, i].map(u64::to_le_bytes).concat();
                let addr = s.write(&body, birth).unwrap();
                assert_eq!(*s.read(addr).unwrap(), body[..]);
                if i % 3 == 0 { s.give_up(addr, birth) } else { kept.push(addr) }
            }
            kept
        };
        let threads: Vec<_> = (0..4).map(|id| scope.spawn(move || work(id))).collect();
        for _ in 0..50 {
            let settled = s.finish_checkpoint(seq(1));
            assert!(settled.dead.is_empty());
        }
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let all: ExtentSet = kept.concat().iter().map(BlockAddr::extent).collect();
    let first = kept.concat().iter().filter(|a| a.birth == seq(1)).count() as u64 * 512;
    let state = s.finish_checkpoint(seq(1)).state;
    assert_eq!(all.bytes(), 4 * 200 * 512);
    assert_eq!(state.size, data_start(UNIT) + first + state.available_bytes());
}
