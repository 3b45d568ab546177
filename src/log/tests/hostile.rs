//! Files that were cut, flipped, zeroed, swapped, doubled, lengthened or taken away.
//!
//! A log is always read as a prefix of what was written. It may be a shorter one in silence only when what is missing was
//! synced by the last round, or never: nothing that was written later could have told. Everything else is damage, by name.

use super::*;

/// A log and what is known of it.
struct Image {
    vfs: MemVfs,
    written: Vec<Vec<u8>>,
    /// That many records were durable when the last round was written.
    told: usize,
    last: u32,
    /// Where the last round begins, in the last segment: with the frame that tells.
    teller: usize,
}

fn image() -> Image {
    let vfs = mem();
    let log = start(&(Arc::new(vfs.clone()) as Arc<dyn Vfs>));
    let (mut written, mut told, mut teller) = (Vec::new(), 0, 0);
    for n in 0..26usize {
        let payload = vec![n as u8 + 1; 1 + n * 131 % 640];
        let level = [Buffered, Sync, Buffered, Write, Buffered, Sync][n % 6];
        log.wait(&log.append(&payload, level).unwrap()).unwrap();
        written.push(payload);
        if n == 8 || n == 16 {
            log.switch().unwrap();
        }
        if n == 23 {
            told = written.len();
            teller = (log.end().offset as usize).next_multiple_of(UNIT as usize);
        }
    }
    // The last round: it was written when the 24 records before were durable.
    log.sync(Sync).unwrap();
    let last = log.end().segment;
    Image { vfs, written, told, last, teller }
}

impl Image {
    /// Reads a changed log; `Err` is damage that was named.
    fn judge(&self, vfs: &MemVfs, what: &str) -> std::result::Result<usize, Error> {
        self.judge_told(vfs, self.told, what)
    }

    /// The same where only the first `told` records are told of.
    fn judge_told(&self, vfs: &MemVfs, told: usize, what: &str) -> std::result::Result<usize, Error> {
        let vfs: Arc<dyn Vfs> = Arc::new(vfs.clone());
        let o = scan_options(&vfs, BEGIN);
        let salvaged = read(&ScanOptions { salvage: true, ..o.clone() });
        if let Ok((_, records)) = &salvaged {
            let kept: Vec<_> = records.iter().map(|(_, p)| p.clone()).collect();
            assert!(self.written.starts_with(&kept), "salvage makes nothing up: {what}");
        }
        match read(&o) {
            Ok((end, records)) => {
                let n = records.len();
                let kept: Vec<_> = records.into_iter().map(|(_, p)| p).collect();
                assert!(self.written.starts_with(&kept), "{what}: no prefix");
                assert!(n >= told, "{what}: {n} records in silence, {told} were told of");
                assert_eq!(salvaged.unwrap().0.end, end.end, "{what}");
                Ok(n)
            }
            Err(e) => {
                assert!([ErrorKind::Corrupt, ErrorKind::WrongBase].contains(&e.kind()), "{what}: {e:?}");
                assert!(e.location().is_some() && e.remedy_text().is_some(), "{what}: {e}");
                Err(e)
            }
        }
    }
}

#[test]
fn every_flipped_byte() {
    let image = image();
    let mut refused = 0;
    for number in 1..=image.last {
        let bytes = bytes_of(&image.vfs, number);
        for at in 0..bytes.len() {
            let vfs = image.vfs.duplicate();
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            put_bytes(&vfs, number, &bad);
            refused += usize::from(image.judge(&vfs, &format!("byte {at} of {number}")).is_err());
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn every_cut() {
    let image = image();
    for number in 1..=image.last {
        let bytes = bytes_of(&image.vfs, number);
        let mut shortest = usize::MAX;
        for len in (0..bytes.len()).rev() {
            let vfs = image.vfs.duplicate();
            put_bytes(&vfs, number, &bytes[..len]);
            if number < image.last {
                // Only padding may be missing.
                let whole = image.judge(&vfs, &format!("{number} cut at {len}"));
                assert!(whole.is_err() || whole.unwrap() == image.written.len());
                continue;
            }
            // What a cut takes away leaves no trace: the log is a prefix that gets shorter and shorter.
            let o = scan_options(&(Arc::new(vfs) as Arc<dyn Vfs>), BEGIN);
            let (_, records) = read(&o).unwrap();
            assert!(records.len() <= shortest);
            shortest = records.len();
        }
    }
}

#[test]
fn zeros_anywhere() {
    let image = image();
    for number in 1..=image.last {
        let bytes = bytes_of(&image.vfs, number);
        for size in [1, 20, 100, 512, 1024, 4096] {
            for at in (0..bytes.len()).step_by(size.min(37)) {
                let vfs = image.vfs.duplicate();
                let mut bad = bytes.clone();
                let end = bad.len().min(at + size);
                bad[at..end].fill(0);
                put_bytes(&vfs, number, &bad);
                let what = format!("{size} zeros at {at} of {number}");
                // The frame that tells can go together with what it tells of.
                let untold = number == image.last && at < image.teller && end > image.teller;
                let _ = image.judge_told(&vfs, if untold { 0 } else { image.told }, &what);
            }
        }
    }
}

/// Covers: L1. Zeros from a record on, up to the unit's end, look like padding.
#[test]
fn holes_that_look_like_padding() {
    let image = image();
    let shared: Arc<dyn Vfs> = Arc::new(image.vfs.duplicate());
    for (lsn, _) in read(&scan_options(&shared, BEGIN)).unwrap().1 {
        let bytes = bytes_of(&image.vfs, lsn.segment);
        let (from, unit) = (lsn.offset as usize, UNIT as usize);
        for end in [1, 2, 3].map(|n| (from + 1).next_multiple_of(unit) + (n - 1) * unit) {
            let (vfs, mut bad) = (image.vfs.duplicate(), bytes.clone());
            let end = end.min(bad.len());
            bad[from..end].fill(0);
            put_bytes(&vfs, lsn.segment, &bad);
            let untold = lsn.segment == image.last && end > image.teller;
            let _ = image.judge_told(&vfs, if untold { 0 } else { image.told }, &format!("zeros from {lsn} to {end}"));
        }
    }
}

#[test]
fn sectors_swapped_or_doubled() {
    let image = image();
    for number in 1..=image.last {
        let bytes = bytes_of(&image.vfs, number);
        let sectors = bytes.len() / 512;
        for (a, b) in (0..sectors).flat_map(|a| (0..sectors).map(move |b| (a, b))) {
            for swap in [true, false] {
                let vfs = image.vfs.duplicate();
                let mut bad = bytes.clone();
                bad.copy_within(a * 512..(a + 1) * 512, b * 512);
                if swap {
                    bad[a * 512..(a + 1) * 512].copy_from_slice(&bytes[b * 512..(b + 1) * 512]);
                }
                put_bytes(&vfs, number, &bad);
                // Two sectors are damaged by a swap; when the teller is one, nobody tells of the other.
                let untold = swap && number == image.last && a.max(b) == image.teller / 512;
                let told = if untold { 0 } else { image.told };
                let _ = image.judge_told(&vfs, told, &format!("sectors {a} and {b} of {number}, swapped {swap}"));
            }
        }
    }
}

#[test]
fn lengthened_files() {
    let image = image();
    for number in 1..=image.last {
        for (n, fill) in [(1, 0), (511, 0), (5000, 0), (1, 7), (700, 0xff), (5000, 1)] {
            let vfs = image.vfs.duplicate();
            let mut longer = bytes_of(&vfs, number);
            longer.extend(std::iter::repeat_n(fill, n));
            put_bytes(&vfs, number, &longer);
            let whole = image.judge(&vfs, &format!("{n} times {fill} behind {number}"));
            assert_eq!(whole.unwrap(), image.written.len());
        }
        // A segment behind itself.
        let vfs = image.vfs.duplicate();
        let bytes = bytes_of(&vfs, number);
        put_bytes(&vfs, number, &[&bytes[..], &bytes[..]].concat());
        assert_eq!(image.judge(&vfs, "twice").unwrap(), image.written.len());
    }
}

#[test]
fn missing_doubled_renamed_and_foreign_segments() {
    let image = image();
    assert!(image.last >= 3);
    let name = |n| dir().join(segment_name(n));
    for number in 1..image.last {
        let vfs = image.vfs.duplicate();
        vfs.remove_file(&name(number)).unwrap();
        let e = image.judge(&vfs, "removed").unwrap_err();
        assert_eq!(e.location().unwrap().file, name(number), "{e}");
    }
    for (from, to) in [(1, 2), (2, 1), (1, image.last + 1), (2, image.last + 7), (image.last, image.last + 1)] {
        let vfs = image.vfs.duplicate();
        put_bytes(&vfs, to, &bytes_of(&image.vfs, from));
        let e = image.judge(&vfs, "doubled").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt);
        assert_eq!(e.location().unwrap().file, name(to), "{e}");
    }
    let other = mem();
    let log = Log::start(LogOptions { lineage: Lineage(9), ..options(&(Arc::new(other.clone()) as Arc<dyn Vfs>)) });
    for _ in 0..image.last + 1 {
        commit(&log, b"foreign").unwrap();
        log.switch().unwrap();
    }
    for number in 1..=image.last + 1 {
        let vfs = image.vfs.duplicate();
        put_bytes(&vfs, number, &bytes_of(&other, number));
        let e = image.judge(&vfs, "foreign").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::WrongBase);
        assert_eq!(e.location().unwrap().file, name(number), "{e}");
    }
}

#[test]
fn what_lies_before_or_above_does_not_matter() {
    let image = image();
    let vfs: Arc<dyn Vfs> = Arc::new(image.vfs.duplicate());
    let (end, records) = read(&scan_options(&vfs, BEGIN)).unwrap();
    let later = records.iter().filter(|(lsn, _)| lsn.segment > 1).count();
    put_bytes(&*vfs, 1, b"rotten");
    let o = scan_options(&vfs, Lsn { segment: 2, offset: 0 });
    assert_eq!(read(&o).unwrap().1.len(), later);
    put_bytes(&*vfs, end.highest + 3, b"a wreck");
    let (seen, _) = read(&o).unwrap();
    assert_eq!((seen.end, seen.highest, seen.next), (end.end, end.highest + 3, end.next));
    // A copy's list knows of two segments; the third was laid beside it.
    let listed = ScanOptions { last: Some(2), ..scan_options(&vfs, Lsn { segment: 2, offset: 0 }) };
    let (seen, _) = read(&listed).unwrap();
    assert_eq!(seen.end.segment, 2);
    assert_eq!(seen.surplus, [segment_name(3), segment_name(end.highest + 3)]);
}

#[test]
fn a_place_to_begin_must_be_there() {
    let image = image();
    let vfs: Arc<dyn Vfs> = Arc::new(image.vfs.duplicate());
    let (end, records) = read(&scan_options(&vfs, BEGIN)).unwrap();
    let inside = records.iter().find(|(lsn, _)| lsn.segment == 2).unwrap().0;
    for (segment, offset) in [(end.highest + 1, 4096), (end.highest, 1 << 30)] {
        let o = scan_options(&vfs, Lsn { segment, offset });
        assert_eq!(read(&o).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(read(&ScanOptions { salvage: true, ..o }).unwrap().1.len(), 0);
    }
    assert_eq!(read(&scan_options(&vfs, Lsn { segment: end.highest + 5, offset: 0 })).unwrap().1.len(), 0);
    let o = scan_options(&vfs, Lsn { offset: inside.offset + 1, ..inside });
    assert_eq!(read(&o).unwrap_err().kind(), ErrorKind::Corrupt);
    vfs.remove_file(&dir().join(segment_name(2))).unwrap();
    assert_eq!(read(&scan_options(&vfs, inside)).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn after_a_salvage_the_log_goes_on() {
    let image = image();
    for (number, at) in [(1, 600), (2, 700), (2, 0), (image.last, 530)] {
        let vfs: Arc<dyn Vfs> = Arc::new(image.vfs.duplicate());
        let mut bad = bytes_of(&*vfs, number);
        bad[at] ^= 4;
        put_bytes(&*vfs, number, &bad);
        let o = scan_options(&vfs, BEGIN);
        assert_eq!(read(&o).unwrap_err().kind(), ErrorKind::Corrupt, "{number} at {at}");
        let (end, records) = read(&ScanOptions { salvage: true, ..o.clone() }).unwrap();
        assert!(end.torn.is_some() && end.next > image.last);
        let log = resume(&vfs, &end);
        commit(&log, b"after the salvage").unwrap();
        // The segments that the salvage gave up are passed over.
        let (again, after) = read(&o).unwrap();
        assert_eq!(after.len(), records.len() + 1, "{number} at {at}");
        assert_eq!(after.last().unwrap().1, b"after the salvage");
        assert_eq!(again.torn, None);
    }
}

quickcheck::quickcheck! {
    /// Arbitrary bytes as a segment, with a header that is right: no panic, and what is read can be written.
    fn noise_behind_a_header(noise: Vec<u8>, twice: bool) -> bool {
        let vfs = mem();
        let mut bytes = SegmentHeader { unit: UNIT, number: 1, lineage: LINEAGE, previous: Lsn::default(), writer: 1, previous_writer: 0 }.encode();
        bytes.extend_from_slice(&noise);
        if twice {
            bytes.extend_from_slice(&noise);
        }
        put_bytes(&vfs, 1, &bytes);
        let o = scan_options(&(Arc::new(vfs) as Arc<dyn Vfs>), BEGIN);
        read(&o).unwrap().1.is_empty()
    }
}
