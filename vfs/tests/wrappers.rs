//! The wrappers: transparent until told otherwise, and exact about what they record and strike.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_vfs::fault::{Fault, FaultVfs};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::trace::{Totals, TraceVfs};
use strandline_vfs::{Call, File, OpenOptions, Vfs, conformance};

fn mem() -> Arc<dyn Vfs> {
    Arc::new(MemVfs::new())
}

fn create(vfs: &dyn Vfs, name: &str) -> Arc<dyn File> {
    vfs.open(Path::new(name), OpenOptions::create()).unwrap()
}

#[test]
fn a_traced_file_system_keeps_every_promise() {
    conformance::run_all(|| (Arc::new(TraceVfs::new(mem(), "/")), PathBuf::from("/")));
}

#[test]
fn a_file_system_of_short_transfers_keeps_every_promise() {
    conformance::run_all(|| {
        let vfs = FaultVfs::new(mem());
        vfs.limit_transfers(Some(1_000), Some(777));
        vfs.limit_space(Some(1 << 40));
        (Arc::new(vfs), PathBuf::from("/"))
    });
}

#[test]
fn a_trace_shows_the_order_of_everything() {
    let vfs = TraceVfs::new(mem(), "/db");
    vfs.create_dir(Path::new("/db")).unwrap();
    let lock = vfs.lock(Path::new("/db/lock")).unwrap();
    vfs.open(Path::new("/db/none"), OpenOptions::read()).unwrap_err();
    let file = create(&vfs, "/db/log");
    file.write_all_at(&[1; 100], 0).unwrap();
    file.write_all_at(&[2; 50], 100).unwrap();
    file.write_all_at(&[3; 10], 500).unwrap();
    file.sync_data().unwrap();
    assert_eq!(file.read_at(&mut [0; 64], 480).unwrap(), 30);
    file.set_len(200).unwrap();
    file.allocate(0, 4_096).unwrap();
    file.sync_all().unwrap();
    vfs.rename(Path::new("/db/log"), Path::new("/db/log.1")).unwrap();
    vfs.sync_dir(Path::new("/db")).unwrap();
    vfs.create_dir(Path::new("/db")).unwrap_err();
    drop(lock);

    insta::assert_snapshot!(vfs.text(), @r"
    create_dir  .
    lock        lock
    open        none !NotFound
    create      log
    write       log 0+100
    write       log 100+50
    write       log 500+10
    sync_data   log
    read        log 480+64 =30
    set_len     log 200
    allocate    log 0+4096
    sync_all    log
    rename      log -> log.1
    sync_dir    .
    create_dir  . !AlreadyExists
    unlock      lock
    ");
    insta::assert_snapshot!(vfs.durability_text(), @r"
    create_dir  .
    create      log
    write       log 0+150
    write       log 500+10
    sync_data   log
    set_len     log 200
    allocate    log 0+4096
    sync_all    log
    rename      log -> log.1
    sync_dir    .
    create_dir  . !AlreadyExists
    ");
    insta::assert_snapshot!(vfs.totals_text(), @r"
    .      syncs     1  writes      0  bytes          0
    log    syncs     2  writes      3  bytes        160
    total  syncs     3  writes      3  bytes        160
    ");
}

#[test]
fn counting_keeps_no_events_and_can_begin_anew() {
    let vfs = TraceVfs::counting(mem(), "/");
    let (a, b) = (create(&vfs, "/a"), create(&vfs, "/b"));
    a.write_all_at(&[0; 10], 0).unwrap();
    b.sync_data().unwrap();
    b.read_at(&mut [0; 4], 0).unwrap();
    assert!(vfs.events().is_empty());
    let all = Totals { reads: 1, writes: 1, bytes_written: 10, syncs: 1, ..Totals::default() };
    assert_eq!(vfs.total(), all);
    assert_eq!(vfs.total_of("/a"), Totals { writes: 1, bytes_written: 10, ..Totals::default() });

    vfs.reset();
    vfs.record_events(true);
    a.sync_all().unwrap();
    assert_eq!(vfs.totals(), [(PathBuf::from("a"), Totals { syncs: 1, ..Totals::default() })]);
    assert_eq!(vfs.take_events().len(), 1);
    assert!(vfs.events().is_empty());
}

#[test]
fn a_fault_strikes_the_chosen_calls_only() {
    let vfs = FaultVfs::new(mem());
    let (log, data) = (create(&vfs, "/log.1"), create(&vfs, "/data"));
    vfs.inject(Fault::on(Call::Write).in_path("log").after(1).times(2).error(ErrorKind::Interrupted));
    data.write_at(b"x", 0).unwrap();
    log.write_at(b"x", 0).unwrap();
    for _ in 0..2 {
        assert_eq!(log.write_at(b"yy", 0).unwrap_err().kind(), ErrorKind::Interrupted);
        data.write_at(b"x", 0).unwrap();
    }
    assert_eq!(log.len().unwrap(), 1, "F1: a struck call has no effect");
    log.write_at(b"yy", 0).unwrap();
    assert_eq!((vfs.struck(), vfs.count(Call::Write)), (2, 7));
}

#[test]
fn a_fault_for_ever_lasts_until_it_is_healed() {
    let vfs = FaultVfs::new(mem());
    let file = create(&vfs, "/f");
    vfs.inject(Fault::on_any(Call::SYNCS).for_ever().system_error(5));
    for _ in 0..3 {
        assert_eq!(file.sync_all().unwrap_err().raw_os_error(), Some(5));
        assert_eq!(vfs.sync_dir(Path::new("/")).unwrap_err().raw_os_error(), Some(5));
    }
    vfs.heal();
    file.sync_all().unwrap();
    assert_eq!(vfs.count_any(Call::SYNCS), 7);
}

#[test]
fn of_two_faults_the_first_strikes_and_both_count() {
    let vfs = FaultVfs::new(mem());
    let file = create(&vfs, "/f");
    vfs.inject(Fault::on(Call::Write).error(ErrorKind::StorageFull));
    vfs.inject(Fault::on(Call::Write).after(1).error(ErrorKind::TimedOut));
    let kinds = [0, 1].map(|_| file.write_at(b"x", 0).unwrap_err().kind());
    assert_eq!(kinds, [ErrorKind::StorageFull, ErrorKind::TimedOut]);
    file.write_at(b"x", 0).unwrap();
}

#[test]
fn every_fallible_call_can_be_struck() {
    let vfs = FaultVfs::new(mem());
    let file = create(&vfs, "/f");
    let path = Path::new("/f");
    vfs.inject(Fault::on_any(Call::ALL).for_ever().error(ErrorKind::TimedOut));
    let errors = [
        vfs.open(path, OpenOptions::read()).map(drop),
        vfs.open(path, OpenOptions::create()).map(drop),
        file.read_at(&mut [0; 1], 0).map(drop),
        file.write_at(b"x", 0).map(drop),
        file.len().map(drop),
        file.set_len(1),
        file.allocate(0, 1),
        file.sync_data(),
        file.sync_all(),
        vfs.sync_dir(Path::new("/")),
        vfs.remove_file(path),
        vfs.rename(path, Path::new("/g")),
        vfs.create_dir(Path::new("/d")),
        vfs.remove_dir(Path::new("/d")),
        vfs.read_dir(Path::new("/")).map(drop),
        vfs.metadata(path).map(drop),
        vfs.lock(path).map(drop),
    ];
    assert!(errors.iter().all(|e| e.as_ref().is_err_and(|e| e.kind() == ErrorKind::TimedOut)), "{errors:?}");
    assert_eq!(errors.len(), Call::ALL.len() - 1, "all but the end of a lock");
}

#[test]
fn a_full_device_takes_what_fits_and_frees_what_is_removed() {
    let vfs = FaultVfs::new(mem());
    let old = create(&vfs, "/old");
    old.write_all_at(&[1; 500], 0).unwrap();
    vfs.limit_space(Some(100));

    let new = create(&vfs, "/new");
    assert_eq!(new.write_at(&[2; 150], 0).unwrap(), 100, "the part that fits");
    assert_eq!(new.write_at(&[2; 50], 100).unwrap_err().kind(), ErrorKind::StorageFull);
    new.write_all_at(&[3; 100], 0).unwrap();
    old.write_all_at(&[3; 500], 0).unwrap();
    assert_eq!(old.allocate(400, 101).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(old.len().unwrap(), 500);

    new.set_len(40).unwrap();
    assert_eq!(vfs.space_left(), Some(60));
    vfs.rename(Path::new("/new"), Path::new("/old")).unwrap();
    assert_eq!(vfs.space_left(), Some(560), "a replaced file gives its space back");
    vfs.remove_file(Path::new("/old")).unwrap();
    assert_eq!(vfs.space_left(), Some(600));
    vfs.limit_space(None);
    create(&vfs, "/big").write_all_at(&[0; 10_000], 0).unwrap();
}
