//! Faults, pins, poison and damage: what strikes, whom, and what is left.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use strandline_sim::disk::{Act, Call, Damage, Fault, Limits, POISON, Profile, SimDisk, canonical};
use strandline_vfs::{File, OpenOptions, Vfs};

fn p(name: &str) -> &Path {
    Path::new(name)
}

fn file(disk: &SimDisk, name: &str, content: &[u8]) -> Arc<dyn File> {
    let f = disk.open(p(name), OpenOptions::create()).unwrap();
    f.write_all_at(content, 0).unwrap();
    f
}

fn content(disk: &SimDisk, name: &str) -> Vec<u8> {
    let f = disk.open(p(name), OpenOptions::read()).unwrap();
    let mut all = vec![0; f.len().unwrap() as usize];
    f.read_exact_at(&mut all, 0).unwrap();
    all
}

#[test]
fn a_full_disk_takes_a_prefix_then_nothing_and_recovers() {
    let disk = SimDisk::strict();
    let f = file(&disk, "f", &[1; 4096]);
    disk.set_quota(Some(8192));
    assert_eq!(f.write_at(&[2; 9000], 4096).unwrap(), 4096, "what fits is written");
    assert_eq!(f.write_at(&[2; 10], 8192).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(f.set_len(8193).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(f.allocate(0, 10_000).unwrap_err().kind(), ErrorKind::StorageFull);
    f.write_all_at(&[3; 8192], 0).expect("overwriting takes no space");
    assert_eq!(disk.used(), 8192);
    let g = disk.open(p("g"), OpenOptions::create()).unwrap();
    assert_eq!(g.write_at(b"x", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.remove_file(p("f")).unwrap();
    assert!(g.write_at(b"x", 0).is_err(), "an open file keeps its space");
    drop(f);
    g.write_all_at(b"x", 0).unwrap();
}

#[test]
fn the_nth_call_fails_once_and_only_on_its_path() {
    let disk = SimDisk::strict();
    let (f, g) = (file(&disk, "f", b"ab"), file(&disk, "g", b"cd"));
    disk.inject(Fault::eio(&[Call::Write], 1).on("f"));
    disk.inject(Fault::nth(&[Call::Read], 0, Act::Short(1)).on("g"));
    f.write_at(b"x", 0).unwrap();
    g.write_at(b"x", 0).unwrap();
    assert!(f.write_at(b"y", 1).is_err());
    assert_eq!(f.write_at(b"z", 1).unwrap(), 1);
    assert_eq!(content(&disk, "f"), b"xz");
    assert_eq!(g.read_at(&mut [0; 2], 0).unwrap(), 1);
    assert_eq!(disk.faults_struck(), 2);
    disk.inject(Fault::nth(&[Call::Write], 0, Act::Partial(1, ErrorKind::Other)));
    assert!(f.write_at(b"12", 0).is_err());
    assert_eq!(content(&disk, "f"), b"1z", "a part was written before the error");
}

#[test]
fn a_kill_keeps_the_cache_and_frees_the_locks() {
    let disk = SimDisk::strict();
    let f = file(&disk, "f", b"old");
    let lock = disk.lock(p("lock")).unwrap();
    assert_eq!(disk.lock(p("lock")).unwrap_err().kind(), ErrorKind::WouldBlock);
    disk.kill();
    assert!(f.read_at(&mut [0], 0).is_err(), "the handle died with its process");
    let again = disk.lock(p("lock")).expect("so did the lock");
    drop(lock);
    assert!(disk.lock(p("lock")).is_err(), "the dead lock takes nothing with it");
    drop(again);
    drop(disk.lock(p("lock")).unwrap());
    assert_eq!(content(&disk, "f"), b"old");
}

#[test]
fn a_pin_notices_every_kind_of_change() {
    let disk = SimDisk::strict();
    let f = file(&disk, "f", &[1; 3000]);
    file(&disk, "g", b"g");
    let pin = disk.pin(p("f"), 1000..2000).unwrap();
    f.write_at(&[2; 1000], 0).unwrap();
    f.write_at(&[2; 1000], 2000).unwrap();
    f.set_len(2000).unwrap();
    assert!(disk.breaches().is_empty());
    f.write_at(&[2; 2], 999).unwrap();
    f.set_len(1999).unwrap();
    disk.rename(p("g"), p("f")).unwrap();
    assert_eq!(disk.breaches().len(), 3);
    assert!(disk.unpin(pin) && !disk.unpin(pin) && disk.pins() == 0);
}

#[test]
fn poison_is_seen_by_readers_and_by_no_crash() {
    let disk = SimDisk::strict();
    let f = file(&disk, "f", &[1; 1024]);
    disk.settle();
    disk.poison(p("f"), 0..512).unwrap();
    assert_eq!(content(&disk, "f")[..512], [POISON; 512]);
    f.sync_all().unwrap();
    let frame = disk.snapshot().frame();
    assert_eq!(content(&frame.image(&frame.all()).boot(), "f"), [1; 1024]);
}

#[test]
fn damage_strikes_what_is_durable() {
    let disk = SimDisk::strict();
    file(&disk, "f", &[1; 1500]);
    file(&disk, "g", b"other");
    disk.settle();
    disk.flip(p("f"), 700, 3).unwrap();
    assert!(disk.flip(p("f"), 1500, 0).is_err() && disk.flip(p("no"), 0, 0).is_err());
    let reboot = |disk: &SimDisk| disk.snapshot().frame().image(&disk.snapshot().frame().none()).boot();
    assert_eq!(content(&reboot(&disk), "f")[700], 1 ^ 8);
    disk.make_unreadable(p("f"), 600..601).unwrap();
    let f = reboot(&disk).open(p("f"), OpenOptions::write()).unwrap();
    assert!(f.read_at(&mut [0; 100], 1000).is_err(), "512..1024 cannot be read");
    assert!(f.read_at(&mut [0; 100], 0).is_ok());
    f.write_all_at(&[9; 512], 512).unwrap();
    assert!(f.read_at(&mut [0; 100], 1000).is_ok(), "a write heals it");
    disk.swap(p("f"), p("g")).unwrap();
    disk.truncate(p("f"), 3).unwrap();
    assert_eq!(content(&reboot(&disk), "f"), b"oth");
    assert_eq!(disk.metadata(p("g")).unwrap().unwrap().len, 1500);
}

/// Litmus 34: a torn sector is a mixture of its old and its new bytes, either way round.
#[test]
fn torn_sectors_mix_old_and_new() {
    let disk = SimDisk::strict();
    let f = file(&disk, "f", &[b'o'; 512]);
    disk.settle();
    f.write_all_at(&[b'1'; 512], 0).unwrap();
    let frame = disk.snapshot().frame();
    let none = frame.none();
    assert_eq!(frame.in_flight(&none), [0]);
    assert!(frame.in_flight(&frame.all()).is_empty());
    for k in (8..512).step_by(8) {
        let head = content(&frame.damaged(&none, 0, Damage::TornHead(k)).boot(), "f");
        let tail = content(&frame.damaged(&none, 0, Damage::TornTail(k)).boot(), "f");
        assert!(head[..k].iter().all(|&b| b == b'1') && head[k..].iter().all(|&b| b == b'o'));
        assert!(tail[..k].iter().all(|&b| b == b'o') && tail[k..].iter().all(|&b| b == b'1'));
    }
    let noise = content(&frame.damaged(&none, 0, Damage::Garbage(5)).boot(), "f");
    assert!(noise.iter().any(|&b| b != b'1' && b != b'o'));
    let bad = frame.damaged(&none, 0, Damage::Unreadable).boot();
    let f = bad.open(p("f"), OpenOptions::write()).unwrap();
    assert!(f.read_at(&mut [0; 8], 0).is_err());
    f.write_all_at(&[2; 512], 0).unwrap();
    assert!(f.read_at(&mut [0; 8], 0).is_ok());
}

/// Litmus 35: with power-safe overwrite an interrupted write harms no byte outside its range.
#[test]
fn what_was_not_being_written_is_safe_only_under_psow() {
    for profile in [Profile::strict(), Profile::cheap_ssd()] {
        let safe = profile.psow;
        let disk = SimDisk::new(profile);
        let f = file(&disk, "f", &[b'a'; 256]);
        disk.settle();
        f.write_all_at(&[b'b'; 256], 256).unwrap();
        let frame = disk.snapshot().frame();
        let only_length = frame.with([1]);
        let hurt = content(&frame.damaged(&only_length, 0, Damage::Garbage(5)).boot(), "f");
        assert_eq!(hurt[..256] == [b'a'; 256], safe);
        let bad = frame.damaged(&only_length, 0, Damage::Unreadable).boot();
        let f = bad.open(p("f"), OpenOptions::read()).unwrap();
        assert_eq!(f.read_at(&mut [0; 8], 0).is_ok(), safe);
    }
}

#[test]
fn equal_runs_have_equal_traces() {
    let run = |last: u8| {
        let disk = SimDisk::strict();
        file(&disk, "f", &[1, 2, last]).sync_all().unwrap();
        disk.trace_hash()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4), "what is written enters the trace");
}

#[test]
fn a_large_frame_stays_within_its_limits() {
    let disk = SimDisk::strict();
    let f = file(&disk, "f", &[0; 1]);
    disk.settle();
    for i in 0..200_u64 {
        f.write_all_at(&[i as u8; 5000], i * 3000).unwrap();
    }
    let frame = disk.snapshot().frame();
    let choices = canonical(&frame, &Limits { choices: 700, ..Limits::default() });
    assert!((500..=700).contains(&choices.len()), "{}", choices.len());
    assert!(choices.iter().all(|c| frame.is_legal(c)));
}

#[test]
fn lost_and_misdirected_writes() {
    let disk = SimDisk::strict();
    let f = file(&disk, "f", &[1; 2048]);
    disk.settle();
    disk.inject(Fault::nth(&[Call::Write], 0, Act::LostWrite));
    disk.inject(Fault::nth(&[Call::Write], 1, Act::Misdirected(1024)));
    f.write_all_at(&[2; 512], 0).unwrap();
    f.write_all_at(&[3; 512], 512).unwrap();
    f.sync_all().unwrap();
    assert_eq!(content(&disk, "f")[..512], [2; 512], "the cache shows it");
    let frame = disk.snapshot().frame();
    let after = content(&frame.image(&frame.none()).boot(), "f");
    assert_eq!((after[0], after[512], after[1536]), (1, 1, 3));
}
