//! The rules of births are no formality: each sees the one thing that it is for.

use std::path::Path;

use strandline::{CheckpointOptions, TableOptions};
use strandline_sim::oracle::structure::{self, Allowance, State};
use strandline_vfs::mem::MemVfs;
use strandline_vfs::{OpenOptions, Vfs};

use crate::stage::*;

#[test]
fn each_rule_of_births_can_fail() {
    let vfs = MemVfs::new();
    let db = open(&vfs);
    db.create_table("t", TableOptions::new()).unwrap();
    write(&db, "t", (0..3_000).map(|i| row(i, 50)));
    write(&db, "t", [row(1, 30_000)]);
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let full = take(&db, "/copy", None);
    let before = State::of_home(&vfs, Path::new("/db")).unwrap();
    write(&db, "t", [row(7, 60), row(2_500, 20_000)]);
    db.create_table("new", TableOptions::new()).unwrap();
    write(&db, "new", [row(1, 10)]);
    db.checkpoint(CheckpointOptions::new()).unwrap();
    let now = State::of_home(&vfs, Path::new("/db")).unwrap();
    take(&db, "/inc", Some(full.origin()));
    let base = State::of_copy(&vfs, Path::new("/copy")).unwrap();
    let (since, reported) = structure::reported(&vfs, Path::new("/inc")).unwrap();
    assert_eq!(since, before.seq);
    let nothing = Allowance::default();
    let file = "table-00000001.sl";
    let newest = now.files[file].blocks.values().find(|b| b.addr.birth > since && b.children.is_empty()).unwrap().addr;
    let oldest = now.files[file].blocks.values().find(|b| b.addr.birth <= since).unwrap().addr;
    let reborn = |addr: structure::Addr, birth: u64| {
        let mut state = now.clone();
        state.files.get_mut(file).unwrap().blocks.get_mut(&addr.offset).unwrap().addr.birth = birth;
        state
    };
    assert_eq!(structure::stamp(&before, &now).len(), 0);
    assert_eq!(structure::stamp(&before, &reborn(newest, since)).len(), 1, "a new block with an old number");
    assert_eq!(structure::stamp(&before, &reborn(oldest, since + 1)).len(), 1, "an old block with a new one");
    assert_eq!(structure::walk(&reborn(oldest, since + 1), since).len(), 1, "a new block below an old one");
    let mut less = reported.clone();
    less.get_mut(file).unwrap().pop();
    assert!(!structure::superset(&base, &now, &less).is_empty());
    let mut short = reported.clone();
    short.get_mut("table-00000002.sl").unwrap()[0].start = 512;
    assert_eq!(structure::superset(&base, &now, &short).len(), 1, "the header of a new file");
    let mut more = reported.clone();
    let old = oldest.offset..oldest.offset + u64::from(oldest.size);
    more.insert(file.to_owned(), std::iter::once(old).collect());
    assert_eq!(structure::tight(&now, since, &more, nothing).len(), 1);
    let mut wide = reported.clone();
    wide.get_mut(file).unwrap().last_mut().unwrap().end += 512;
    assert_eq!(structure::tight(&now, since, &wide, nothing).len(), 1, "a range that ends too late");
    assert_eq!(structure::tight(&now, since, &reported, nothing).len(), 0);
    assert!(!structure::bytes_equal(&base, &now).is_empty());
    // A block whose header was written for another checkpoint is not what its address says.
    let home = vfs.open(Path::new("/db/table-00000001.sl"), OpenOptions::write()).unwrap();
    home.write_all_at(&[9], newest.offset + 24).unwrap();
    assert_eq!(structure::mono(&State::of_home(&vfs, Path::new("/db")).unwrap()).len(), 1);
}
