//! Devices that are full or fail.

use strandline_vfs::fault::{Fault, FaultVfs};
use strandline_vfs::{Call, fault};

use super::*;

fn faulty() -> (FaultVfs, Arc<dyn Vfs>) {
    let vfs = fault::FaultVfs::new(Arc::new(mem()));
    let shared: Arc<dyn Vfs> = Arc::new(vfs.clone());
    (vfs, shared)
}

/// What a run of commits came to: what was accepted, and how much of it was acknowledged.
struct Ran {
    accepted: Vec<Vec<u8>>,
    acknowledged: usize,
    errors: Vec<Error>,
}

fn run(log: &Log) -> Ran {
    let mut ran = Ran { accepted: Vec::new(), acknowledged: 0, errors: Vec::new() };
    for n in 0..40usize {
        let payload = vec![n as u8; 1 + n * 97 % 1500];
        let level = [Sync, Write, Buffered][n % 3];
        match log.append(&payload, level) {
            Err(e) => ran.errors.push(e),
            Ok(ticket) => {
                ran.accepted.push(payload);
                match log.wait(&ticket) {
                    Ok(()) if level == Sync => ran.acknowledged = ran.accepted.len(),
                    Ok(()) => {}
                    Err(e) => ran.errors.push(e),
                }
            }
        }
        if n % 11 == 10
            && let Err(e) = log.switch()
        {
            ran.errors.push(e);
        }
    }
    ran
}

/// Covers: L2. Every call that changes files fails once, in turn.
#[test]
fn after_a_failed_write_or_sync_nothing_is_acknowledged() {
    for call in [Call::Create, Call::Allocate, Call::Write, Call::SyncData, Call::SyncAll, Call::SyncDir, Call::SetLen]
    {
        for nth in 0.. {
            let (faults, vfs) = faulty();
            faults.inject(Fault::on(call).after(nth));
            let log = start(&vfs);
            let ran = run(&log);
            if faults.struck() == 0 {
                assert!(nth > 0, "{call} is called");
                break;
            }
            let poisoned = log.check().is_err();
            assert!(!call.is_sync() || poisoned, "{call} {nth}: a failed sync poisons");
            if let Some(first) = ran.errors.first() {
                assert_eq!(first.kind(), ErrorKind::Io, "{call} {nth}: who meets the failure says so");
            }
            for later in ran.errors.iter().skip(1) {
                assert!(poisoned && later.kind() == ErrorKind::Poisoned, "{call} {nth}: {later:?}");
            }
            if poisoned {
                for refused in
                    [log.append(b"x", Buffered).err(), log.switch().err(), log.close().err(), log.reserve(5).err()]
                {
                    assert_eq!(refused.unwrap().kind(), ErrorKind::Poisoned);
                }
            } else {
                log.close().unwrap();
            }
            faults.heal();
            let found = payloads(&vfs, BEGIN);
            assert!(ran.accepted.starts_with(&found), "{call} {nth}: a prefix");
            assert!(found.len() >= ran.acknowledged, "{call} {nth}: nothing acknowledged is lost");
            assert!(poisoned || found.len() == ran.accepted.len());
        }
    }
}

#[test]
fn a_full_device_is_met_before_a_record_is_accepted() {
    for quota in (0..30_000).step_by(700) {
        let (faults, vfs) = faulty();
        let log = start(&vfs);
        faults.limit_space(Some(quota));
        let mut expected = Vec::new();
        let mut refused = 0;
        for n in 0..60u8 {
            let payload = vec![n; 1 + usize::from(n) * 41 % 1300];
            match commit(&log, &payload) {
                Ok(_) => expected.push(payload),
                Err(e) => {
                    assert_eq!(e.io_source().unwrap().kind(), std::io::ErrorKind::StorageFull, "{e}");
                    assert!(e.remedy_text().is_some());
                    refused += 1;
                    log.check().unwrap();
                }
            }
            if n == 40 {
                // Space was freed: writes go on.
                faults.limit_space(None);
            }
            assert!(n <= 40 || expected.last().unwrap()[0] == n);
        }
        assert!(refused > 0);
        assert_eq!(payloads(&vfs, BEGIN), expected, "quota {quota}");
        log.close().unwrap();
        assert_eq!(payloads(&vfs, BEGIN), expected);
    }
}

#[test]
fn what_is_reserved_is_there_when_the_device_is_full() {
    let (faults, vfs) = faulty();
    let log = start(&vfs);
    let mut expected = Vec::new();
    for round in 0..6u8 {
        let reservations: Vec<_> = (0..3).map(|_| log.reserve(900).unwrap()).collect();
        faults.limit_space(Some(0));
        for n in 0..50u8 {
            match commit(&log, &[n; 200]) {
                Ok(_) => expected.push(vec![n; 200]),
                Err(e) => assert_eq!(e.io_source().unwrap().kind(), std::io::ErrorKind::StorageFull),
            }
            if n == 25 && round % 2 == 0 {
                // Nothing was switched when the space for the next segment is not there.
                let end = log.end();
                assert!(log.switch().is_err());
                assert_eq!(log.end(), end);
            }
        }
        for reservation in reservations {
            let ticket = log.append_reserved(reservation, &[round; 900], Sync).unwrap();
            log.wait(&ticket).unwrap();
            expected.push(vec![round; 900]);
        }
        faults.limit_space(None);
    }
    log.close().unwrap();
    assert_eq!(payloads(&vfs, BEGIN), expected);
}

#[test]
fn short_transfers_and_interruptions_are_nothing() {
    let (faults, vfs) = faulty();
    faults.limit_transfers(Some(7), Some(13));
    for nth in 0..40 {
        faults.inject(Fault::on_any([Call::Read, Call::Write]).after(nth * 31).error(std::io::ErrorKind::Interrupted));
    }
    let log = start(&vfs);
    let ran = run(&log);
    assert!(ran.errors.is_empty());
    log.close().unwrap();
    assert_eq!(payloads(&vfs, BEGIN), ran.accepted);
}

#[test]
fn a_segment_whose_making_failed_is_made_again() {
    for call in [Call::Allocate, Call::Write] {
        let (faults, vfs) = faulty();
        let log = start(&vfs);
        faults.inject(Fault::on(call).error(std::io::ErrorKind::StorageFull).times(9));
        faults.inject(Fault::on(Call::RemoveFile).for_ever());
        assert_eq!(commit(&log, b"refused").unwrap_err().kind(), ErrorKind::Io);
        let (end, _) = read(&scan_options(&vfs, BEGIN)).unwrap();
        assert_eq!((end.end, end.next, end.previous), (BEGIN, 1, Lsn::default()), "the wreck means nothing");
        faults.heal();
        commit(&log, b"accepted").unwrap();
        assert_eq!(payloads(&vfs, BEGIN), [b"accepted"]);
    }
}

#[test]
fn a_segment_with_records_is_not_made_again() {
    let vfs: Arc<dyn Vfs> = Arc::new(mem());
    commit(&start(&vfs), b"precious").unwrap();
    let e = commit(&start(&vfs), b"by mistake").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Exists);
    assert_eq!(payloads(&vfs, BEGIN), [b"precious"]);
}

#[test]
fn what_cannot_be_removed_stays_listed() {
    let (faults, vfs) = faulty();
    let log = start(&vfs);
    for n in 0..5u8 {
        commit(&log, &[n]).unwrap();
        log.switch().unwrap();
    }
    faults.inject(Fault::on(Call::RemoveFile).after(2));
    assert_eq!(log.remove_before(9).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(log.segments().iter().map(|s| s.number).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(log.remove_before(9).unwrap(), [3, 4, 5]);
}
