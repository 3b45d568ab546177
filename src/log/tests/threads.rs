//! Many threads, one log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use strandline_vfs::fault::{Fault, FaultVfs};
use strandline_vfs::{Call, DirEntry, File, Lock, Metadata};

use super::*;

/// A device whose syncs take their time, so that others arrive meanwhile.
#[derive(Clone)]
struct Slow {
    inner: MemVfs,
    syncs: Arc<AtomicU64>,
    /// What happens during a sync.
    meanwhile: Arc<dyn Fn() + Send + std::marker::Sync>,
}

struct SlowFile {
    inner: Arc<dyn File>,
    device: Slow,
}

impl std::fmt::Debug for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl std::fmt::Debug for SlowFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl Vfs for Slow {
    fn open(&self, path: &std::path::Path, options: OpenOptions) -> std::io::Result<Arc<dyn File>> {
        Ok(Arc::new(SlowFile { inner: self.inner.open(path, options)?, device: self.clone() }))
    }
    fn remove_file(&self, path: &std::path::Path) -> std::io::Result<()> {
        self.inner.remove_file(path)
    }
    fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
        self.inner.rename(from, to)
    }
    fn create_dir(&self, path: &std::path::Path) -> std::io::Result<()> {
        self.inner.create_dir(path)
    }
    fn remove_dir(&self, path: &std::path::Path) -> std::io::Result<()> {
        self.inner.remove_dir(path)
    }
    fn read_dir(&self, path: &std::path::Path) -> std::io::Result<Vec<DirEntry>> {
        self.inner.read_dir(path)
    }
    fn metadata(&self, path: &std::path::Path) -> std::io::Result<Option<Metadata>> {
        self.inner.metadata(path)
    }
    fn sync_dir(&self, path: &std::path::Path) -> std::io::Result<()> {
        self.inner.sync_dir(path)
    }
    fn lock(&self, path: &std::path::Path) -> std::io::Result<Box<dyn Lock>> {
        self.inner.lock(path)
    }
}

impl File for SlowFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.inner.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> std::io::Result<usize> {
        self.inner.write_at(buf, offset)
    }
    fn len(&self) -> std::io::Result<u64> {
        self.inner.len()
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.device.syncs.fetch_add(1, Ordering::Relaxed);
        (self.device.meanwhile)();
        self.inner.sync_data()
    }
    fn sync_all(&self) -> std::io::Result<()> {
        self.inner.sync_all()
    }
    fn allocate(&self, offset: u64, len: u64) -> std::io::Result<()> {
        self.inner.allocate(offset, len)
    }
}

/// `threads` threads commit `each` records; the order of appends is noted as it happened.
fn storm(log: &Log, threads: u8, each: u8, level: Durability) -> Vec<Vec<u8>> {
    let order = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for t in 0..threads {
            let order = &order;
            scope.spawn(move || {
                for n in 0..each {
                    let payload = [t, n, t ^ n, 7].repeat(1 + usize::from(t) * 20);
                    let ticket = {
                        let mut order = order.lock();
                        order.push(payload.clone());
                        log.append(&payload, level).unwrap()
                    };
                    log.wait(&ticket).unwrap();
                }
            });
        }
    });
    order.into_inner()
}

#[test]
fn four_threads_share_their_syncs() {
    let syncs = Arc::new(AtomicU64::new(0));
    let meanwhile = Arc::new(|| thread::sleep(Duration::from_millis(1)));
    let vfs: Arc<dyn Vfs> = Arc::new(Slow { inner: mem(), syncs: Arc::clone(&syncs), meanwhile });
    let log = Log::start(LogOptions { segment_bytes: 1 << 20, ..options(&vfs) });
    let order = storm(&log, 4, 50, Sync);
    assert_eq!(payloads(&vfs, BEGIN), order);
    let syncs = syncs.load(Ordering::Relaxed);
    assert!(syncs <= 150, "200 commits of four threads took {syncs} syncs");
    assert_eq!(log.counters().records, 200);
}

/// Covers: L2. A record that is appended while a round is at work is not in it.
#[test]
fn what_comes_during_a_round_belongs_to_the_next() {
    let (mem, syncs) = (mem(), Arc::new(AtomicU64::new(0)));
    let late = Arc::new(Mutex::new((None::<Arc<Log>>, None)));
    let meanwhile = Arc::new({
        let late = Arc::clone(&late);
        move || {
            let log = late.lock().0.take();
            if let Some(log) = log {
                let ticket = log.append(b"second", Sync).unwrap();
                late.lock().1 = Some(ticket);
            }
        }
    });
    let vfs: Arc<dyn Vfs> = Arc::new(Slow { inner: mem.clone(), syncs: Arc::clone(&syncs), meanwhile });
    let log = Arc::new(start(&vfs));
    commit(&log, b"zeroth").unwrap();
    late.lock().0 = Some(Arc::clone(&log));
    let first = commit(&log, b"first").unwrap();
    let second = late.lock().1.take().unwrap();
    assert_eq!(payloads(&vfs, BEGIN), [b"zeroth".to_vec(), b"first".to_vec()], "the second is in memory only");
    let before = syncs.load(Ordering::Relaxed);
    log.wait(&second).unwrap();
    assert_eq!(syncs.load(Ordering::Relaxed), before + 1);
    assert_eq!(payloads(&vfs, BEGIN).len(), 3);
    // The second was appended before the first was durable, and written after it: it tells.
    let mut bad = bytes_of(&mem, 1);
    bad[first.offset as usize - 1] ^= 1;
    put_bytes(&mem, 1, &bad);
    assert_eq!(read(&scan_options(&vfs, BEGIN)).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn many_small_segments_and_all_levels_at_once() {
    let vfs: Arc<dyn Vfs> = Arc::new(mem());
    let log = start(&vfs);
    let mut expected = Vec::new();
    let stop = AtomicU64::new(0);
    thread::scope(|scope| {
        let (stop, log) = (&stop, &log);
        let meddler = scope.spawn(move || {
            while stop.load(Ordering::Relaxed) == 0 {
                log.step().unwrap();
                log.switch().unwrap();
                log.sync(Sync).unwrap();
                let reservation = log.reserve(100).unwrap();
                drop((log.segments(), log.counters(), log.end(), reservation));
                thread::yield_now();
            }
        });
        for level in [Sync, Buffered, Write, Sync] {
            expected.extend(storm(log, 4, 60, level));
        }
        stop.store(1, Ordering::Relaxed);
        meddler.join().unwrap();
    });
    log.close().unwrap();
    assert_eq!(payloads(&vfs, BEGIN), expected);
}

/// Covers: L2. When a round fails, whoever was in it or came later learns it, and nobody hangs.
#[test]
fn a_failed_round_fails_everybody() {
    for nth in [0, 1, 5, 20] {
        let faults = FaultVfs::new(Arc::new(mem()));
        let vfs: Arc<dyn Vfs> = Arc::new(faults.clone());
        let log = start(&vfs);
        commit(&log, b"the segment").unwrap();
        faults.inject(Fault::on_any([Call::Write, Call::SyncData]).after(nth).in_path("StrandlineLog"));
        let (acknowledged, io) = (Mutex::new(Vec::new()), AtomicU64::new(0));
        thread::scope(|scope| {
            for t in 0..6u8 {
                let (log, acknowledged, io) = (&log, &acknowledged, &io);
                scope.spawn(move || {
                    for n in 0..50u8 {
                        match commit(log, &[t, n]) {
                            Ok(_) => acknowledged.lock().push(vec![t, n]),
                            Err(e) if e.kind() == ErrorKind::Io => drop(io.fetch_add(1, Ordering::Relaxed)),
                            Err(e) => assert_eq!(e.kind(), ErrorKind::Poisoned),
                        }
                    }
                });
            }
        });
        assert!(io.into_inner() <= 1, "one thread meets the failure");
        assert_eq!(faults.struck(), 1);
        faults.heal();
        let found = payloads(&vfs, BEGIN);
        for record in acknowledged.into_inner() {
            assert!(found.contains(&record));
        }
    }
}
