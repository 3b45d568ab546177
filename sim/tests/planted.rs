//! Every planted bug can still be planted: its head is complete and its patch applies. Nothing is built here.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, io};

use strandline_sim::planted::{bugs, sources};

/// Files that a patch changes.
fn touched(patch: &str) -> Vec<&str> {
    patch.lines().filter_map(|l| l.strip_prefix("+++ b/")).collect()
}

/// Applies the patch in a directory that holds just the files it changes.
fn applies(patch: &Path, root: &Path, scratch: &Path) -> io::Result<bool> {
    let text = fs::read_to_string(patch)?;
    for name in touched(&text) {
        let copy = scratch.join(name);
        fs::create_dir_all(copy.parent().unwrap_or(scratch))?;
        fs::copy(root.join(name), copy)?;
    }
    let mut command = Command::new("patch");
    command.args(["-p1", "--force", "--dry-run"]).current_dir(scratch);
    Ok(command.stdin(fs::File::open(patch)?).stdout(Stdio::null()).status()?.success())
}

#[test]
fn every_bug_can_be_planted() {
    let all = bugs().expect("heads are complete");
    let ids: BTreeSet<&str> = all.iter().map(|b| b.id.as_str()).collect();
    assert_eq!(ids.len(), all.len(), "ids are unique");
    assert!(all.len() >= 24, "a score of {} bugs says little", all.len());
    if Command::new("patch").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("there is no program `patch` here; heads alone were checked");
        return;
    }
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted");
    let root = sources();
    for bug in &all {
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(&scratch).unwrap();
        let fine = applies(&bug.patch, &root, &scratch);
        assert!(matches!(fine, Ok(true)), "{} does not apply any more: {fine:?}", bug.patch.display());
    }
}
