//! The disk against a naive model of it.
//!
//! The model keeps every version of every slot of a raw list of calls, recomputes all floors from the beginning, tries every
//! combination of versions, and throws the illegal ones out. It shares no code with the disk and is far too slow for
//! anything but a handful of calls, where it must agree exactly: at every instant, and over the life of every image.

mod naive;

use naive::{Image, Naive, Op};
use quickcheck::{Arbitrary, Gen, QuickCheck};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use strandline_sim::disk::{Barrier, Limits, SimDisk, canonical};
use strandline_vfs::{File, OpenOptions, Vfs};

const HALF: usize = 256;

#[derive(Clone, Debug)]
struct Program(Vec<Op>);

impl Arbitrary for Program {
    fn arbitrary(g: &mut Gen) -> Self {
        let n = 1 + usize::arbitrary(g) % 10;
        Self((0..n).map(|_| Op::from_words(u32::arbitrary(g), u32::arbitrary(g))).collect())
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let ops = self.0.clone();
        Box::new((0..ops.len()).map(move |i| {
            let mut fewer = ops.clone();
            fewer.remove(i);
            Self(fewer)
        }))
    }
}

/// A disk with the directory `d` and the files `a` (two sectors) and `d/b` (one), all durable.
fn prepared() -> SimDisk {
    let disk = SimDisk::strict();
    disk.create_dir(Path::new("d")).unwrap();
    disk.open(Path::new("a"), OpenOptions::create()).unwrap().write_all_at(&[b'o'; 4 * HALF], 0).unwrap();
    disk.open(Path::new("d/b"), OpenOptions::create()).unwrap().write_all_at(&[b'p'; 2 * HALF], 0).unwrap();
    disk.settle();
    disk
}

fn open(disk: &SimDisk, name: &str) -> Arc<dyn File> {
    disk.open(Path::new(name), OpenOptions::write()).unwrap()
}

fn run(disk: &SimDisk, op: &Op) {
    match op {
        Op::Create(f) => drop(disk.open(Path::new(f), OpenOptions::create_new()).unwrap()),
        Op::Write { file, half, halves, value } => {
            open(disk, file).write_all_at(&vec![*value; halves * HALF], (half * HALF) as u64).unwrap();
        }
        Op::SetLen { file, halves } => open(disk, file).set_len((halves * HALF) as u64).unwrap(),
        Op::SyncAll(f) => open(disk, f).sync_all().unwrap(),
        Op::SyncData(f) => open(disk, f).sync_data().unwrap(),
        Op::SyncDir(d) => disk.sync_dir(Path::new(d)).unwrap(),
        Op::Remove(f) => disk.remove_file(Path::new(f)).unwrap(),
        Op::Rename(f, t) => disk.rename(Path::new(f), Path::new(t)).unwrap(),
    }
}

/// The letters of every file, one per half sector.
fn letters(contents: Vec<(std::path::PathBuf, Option<Vec<u8>>)>) -> Image {
    let halves = |b: Vec<u8>| b.chunks(HALF).map(|c| if c[0] == 0 { b'z' } else { c[0] }).collect::<Vec<u8>>();
    contents.into_iter().filter_map(|(p, b)| Some((p.display().to_string(), halves(b?)))).collect()
}

/// Every image of a barrier, with the earliest birth of each. Equal hashes must mean equal images, and the reverse.
fn images(barrier: &Barrier, hashes: &mut BTreeMap<u64, Image>) -> BTreeMap<Image, u64> {
    let (frame, mut out) = (barrier.frame(), BTreeMap::new());
    for choice in canonical(&frame, &Limits::exhaustive()) {
        assert!(frame.is_legal(&choice));
        let image = frame.image(&choice);
        let (hash, birth) = image.hash_and_birth();
        assert_eq!(frame.hash_and_birth(&choice), (hash, birth), "the sums are wrong");
        let content = letters(image.contents());
        assert_eq!(*hashes.entry(hash).or_insert_with(|| content.clone()), content, "one hash, two images");
        let least = out.entry(content).or_insert(birth);
        *least = birth.min(*least);
    }
    out
}

/// Runs the operations that make sense, on the disk and on the model; gives the model's images after each, and the events.
fn both(program: &Program, disk: &SimDisk) -> Option<Vec<(u64, BTreeSet<Image>)>> {
    let mut model = Naive::prepared();
    let mut instants = vec![(disk.event(), model.images()?)];
    for op in &program.0 {
        let Some(op) = model.makes_sense(op) else { continue };
        run(disk, &op);
        model.run(&op);
        assert_eq!(letters(disk.contents()), model.live(), "after {op:?}");
        instants.push((disk.event(), model.images()?));
    }
    Some(instants)
}

fn agrees_at_every_instant(program: Program) -> bool {
    let disk = prepared();
    let mut model = Naive::prepared();
    let mut hashes = BTreeMap::new();
    for op in &program.0 {
        let Some(op) = model.makes_sense(op) else { continue };
        run(&disk, &op);
        model.run(&op);
        let Some(expect) = model.images() else { return true };
        let got: BTreeSet<Image> = images(&disk.snapshot(), &mut hashes).into_keys().collect();
        assert_eq!(got, expect, "after {op:?}");
    }
    let contents: BTreeSet<&Image> = hashes.values().collect();
    contents.len() == hashes.len()
}

/// Barriers alone find every image of every instant, and each image's life covers all the instants at which it was possible.
fn barriers_suffice(program: Program) -> bool {
    let disk = prepared();
    disk.record_barriers(true);
    let Some(instants) = both(&program, &disk) else { return true };
    disk.mark("end");
    let mut hashes = BTreeMap::new();
    let barriers = disk.take_barriers();
    let lives: Vec<(u64, BTreeMap<Image, u64>)> = barriers.iter().map(|b| (b.event, images(b, &mut hashes))).collect();
    for (event, possible) in &instants {
        for image in possible {
            // `event` is the number of the call after the instant; the image holds what was issued before it.
            let covers = |(death, found): &(u64, BTreeMap<Image, u64>)| {
                death >= event && found.get(image).is_some_and(|birth| birth < event)
            };
            assert!(lives.iter().any(covers), "{image:?} at {event} is in no barrier");
        }
    }
    // And nothing else: every image of a barrier was possible at some instant of its life, its birth included.
    lives.iter().all(|(death, found)| {
        found.iter().all(|(image, birth)| {
            let alive = |(event, _): &&(u64, BTreeSet<Image>)| *birth < *event && event <= death;
            let mut life = instants.iter().filter(alive);
            life.clone().count() == 0 || life.any(|(_, possible)| possible.contains(image))
        })
    })
}

/// The earliest birth of an image is right: it was possible already at the instant right after that event.
fn births_are_not_too_early(program: Program) -> bool {
    let disk = prepared();
    disk.record_barriers(true);
    let Some(instants) = both(&program, &disk) else { return true };
    disk.mark("end");
    let mut hashes = BTreeMap::new();
    disk.take_barriers().iter().all(|b| {
        images(b, &mut hashes).into_iter().all(|(image, birth)| {
            let first = instants.iter().find(|(event, _)| *event > birth).expect("the end is an instant");
            first.1.contains(&image)
        })
    })
}

#[test]
fn the_disk_agrees_with_the_model_at_every_instant() {
    QuickCheck::new().tests(3_000).quickcheck(agrees_at_every_instant as fn(Program) -> bool);
}

#[test]
fn barriers_find_what_every_instant_finds() {
    QuickCheck::new().tests(3_000).quickcheck(barriers_suffice as fn(Program) -> bool);
}

#[test]
fn an_image_is_possible_from_its_birth() {
    QuickCheck::new().tests(3_000).quickcheck(births_are_not_too_early as fn(Program) -> bool);
}

#[test]
fn the_mode_that_records_every_instant_adds_no_image() {
    for seed in 0..400_u32 {
        let words = (0..6).map(|i| (seed.wrapping_mul(2_654_435_761).rotate_left(i * 5), seed ^ (i * 0x9e37)));
        let program = Program(words.map(|(a, b)| Op::from_words(a, b)).collect());
        let union = |every: bool| {
            let disk = prepared();
            disk.record_barriers(true);
            disk.record_every_instant(every);
            both(&program, &disk)?;
            disk.mark("end");
            let mut hashes = BTreeMap::new();
            disk.take_barriers().iter().for_each(|b| drop(images(b, &mut hashes)));
            Some(hashes.into_keys().collect::<BTreeSet<u64>>())
        };
        assert_eq!(union(true), union(false), "{program:?}");
    }
}
