//! Replays the fuzz corpus on stable, and what deterministic damage makes of it.
//!
//! `corpus/fuzz/<target>/` holds the seeds and everything a fuzzer found. A seed that the engine would no longer write, or
//! no longer reads, is a change of format.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use strandline_fuzz::{Mutations, TARGETS, seeds};

/// Damaged copies per input; the fuzzer does the rest. Targets that open a database take longer.
fn damaged(target: &str) -> usize {
    if matches!(target, "home" | "hostile" | "tape") { 100 } else { 2000 }
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/fuzz")
}

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = std::fs::read_dir(corpus().join(target)).unwrap_or_else(|e| panic!("no corpus for `{target}`: {e}"));
    let mut paths: Vec<PathBuf> = files.map(|f| f.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|p| (p.clone(), std::fs::read(p).unwrap())).collect()
}

#[test]
fn every_input_of_the_corpus_and_damaged_copies_of_it() {
    for (name, target) in TARGETS {
        for (i, (path, bytes)) in inputs(name).into_iter().enumerate() {
            println!("{}", path.display());
            target(&bytes);
            for damaged in Mutations::new(&bytes, i as u64).take(damaged(name)) {
                target(&damaged);
            }
        }
    }
}

#[test]
fn every_target_and_every_folder_of_the_corpus_is_known() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let folders = std::fs::read_dir(corpus()).unwrap().map(|d| d.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(targets, folders);
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml")).unwrap();
    for target in targets {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "no program for `{target}`");
    }
}

/// The committed seeds are what the engine writes: a golden file of each format.
#[test]
fn the_seeds_are_what_the_engine_writes() {
    for (target, name, bytes) in seeds() {
        let path = corpus().join(target).join(name);
        if std::env::var_os("STRANDLINE_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let committed = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let hint = "if that is meant, raise the version and run the test with STRANDLINE_BLESS=1";
        assert!(committed == bytes, "{}: the engine writes it differently now; {hint}", path.display());
    }
}
