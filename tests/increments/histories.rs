//! Random histories, and everything that must hold of them.

use std::collections::BTreeMap;
use std::path::Path;

use strandline::backup::Manifest;
use strandline::maintenance::VerifyOptions;
use strandline::sync::{Entropy, SeededEntropy};
use strandline::{BackupOptions, CheckpointOptions, Database, Origin, TableOptions};
use strandline_sim::oracle::structure::Allowance;
use strandline_vfs::mem::MemVfs;

use crate::stage::*;

/// Random histories: changes in several tables, tables that come and go, named checkpoints that come and go, increments from
/// any earlier origin onto copies of any age.
#[test]
fn random_histories() {
    for seed in 0..12 {
        history(seed);
    }
}

fn history(seed: u64) {
    let chance = SeededEntropy::new(seed);
    let below = |n: u64| chance.next_u64() % n;
    let vfs = MemVfs::new();
    let mut db = deep(&vfs).create(true).open("/db").unwrap();
    let mut origins = vec![take_empty(&db)];
    let mut copies: Vec<String> = Vec::new();
    let mut stamps = Stamps::default();
    for round in 0..14 {
        for _ in 0..below(4) {
            change(&db, &below);
        }
        let mut checkpoint = CheckpointOptions::new();
        if below(3) == 0 {
            checkpoint = checkpoint.name(format!("n{}", below(3)));
        }
        if below(4) == 0 {
            checkpoint = checkpoint.drop(format!("n{}", below(3)));
        }
        db.checkpoint(checkpoint).unwrap();
        stamps.look(&vfs);
        if below(5) == 0 {
            db.close().unwrap();
            db = deep(&vfs).open("/db").unwrap();
        }
        back_up_an_older_one(&vfs, &db, &below);
        // Roll one copy forward from an origin that is not after it, and leave the others behind.
        if !copies.is_empty() && below(4) > 0 {
            let copy = &copies[below(copies.len() as u64) as usize];
            let at = Manifest::load(&vfs, Path::new(copy)).unwrap().origin();
            let usable: Vec<&Origin> = origins.iter().filter(|o| o.sequence <= at.sequence).collect();
            let since = *usable[below(usable.len() as u64) as usize];
            let shape =
                [Allowance::default(), Allowance { gap: 0, granule: 8192 }, Allowance { gap: 2048, granule: 0 }];
            let shape = shape[below(3) as usize];
            take_shaped(&db, "/inc", Some(since), shape);
            take(&db, "/shadow", None);
            assert_exact(&vfs, copy, "/inc", "/shadow", shape);
            apply(&vfs, "/inc", copy).unwrap_or_else(|e| panic!("seed {seed} round {round} since {since}: {e}"));
            assert_sound(&vfs, copy);
            assert_same_blocks(&vfs, copy, "/shadow");
            remove(&vfs, "/inc");
            remove(&vfs, "/shadow");
            assert_eq!(restored(&vfs, copy), contents(&db), "seed {seed} round {round} since {since} onto {at}");
            origins.push(Manifest::load(&vfs, Path::new(copy)).unwrap().origin());
        } else {
            let copy = format!("/copy{round}");
            origins.push(take(&db, &copy, None).origin());
            assert_eq!(restored(&vfs, &copy), contents(&db));
            copies.push(copy);
        }
    }
}

/// Backs up one of the named checkpoints. The copy holds it and the older ones that are still retained, and nothing of what was
/// dropped since, be it checkpoints or tables.
fn back_up_an_older_one(vfs: &MemVfs, db: &Database, below: &dyn Fn(u64) -> u64) {
    let names: Vec<String> = db.checkpoints().unwrap().into_iter().filter_map(|c| c.name).collect();
    if names.is_empty() {
        return;
    }
    let at = below(names.len() as u64) as usize;
    let open = db.backup(BackupOptions::new().checkpoint(&names[at])).unwrap();
    open.copy_to("/named", go_on).unwrap();
    open.finish().unwrap();
    assert_sound(vfs, "/named");
    let mut expected: Contents = contents(db);
    let latest = format!("@{}", names[at]);
    expected.retain(|key, _| names[..=at].iter().any(|name| key.ends_with(&format!("@{name}"))));
    let newest: Contents =
        expected.iter().filter_map(|(k, v)| Some((k.strip_suffix(&latest)?.to_owned() + "@-", v.clone()))).collect();
    expected.extend(newest);
    assert_eq!(restored(vfs, "/named"), expected);
    let copy = vfs.duplicate();
    let opened = options(&copy).open("/named").unwrap();
    assert_eq!(contents(&opened), expected);
    let damage = opened.verify(&VerifyOptions::new()).unwrap().findings;
    assert_eq!(damage, []);
    opened.checkpoint(CheckpointOptions::new().drop_all()).unwrap();
    assert_eq!(opened.verify(&VerifyOptions::new()).unwrap().findings, []);
    opened.close().unwrap();
    remove(vfs, "/named");
}

fn change(db: &Database, below: &dyn Fn(u64) -> u64) {
    let name = format!("t{}", below(4));
    let exists = db.tables().unwrap().iter().any(|t| t.name == name);
    match below(8) {
        0 if exists => db.drop_table(&name, true).unwrap(),
        1 if exists => {
            let other = format!("t{}", 4 + below(3));
            // The other name may be taken; then nothing happens.
            let _ = db.rename_table(&name, &other);
        }
        _ if !exists => drop(db.create_table(&name, TableOptions::new()).unwrap()),
        2 => {
            let (from, n) = (below(3_000), below(1_500));
            write(db, &name, (from..from + n).map(|i| (format!("key{i:06}"), None)));
        }
        3 => write(db, &name, [row(below(3_000), 5_000 + below(40_000) as usize)]),
        4 => {
            let from = below(3_000);
            write(db, &name, (from..from + 1_000).map(|i| row(i, 20)));
        }
        _ => {
            write(db, &name, (0..below(30)).map(|_| row(below(3_000), below(100) as usize)).collect::<BTreeMap<_, _>>())
        }
    }
}
