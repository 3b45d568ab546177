//! Planted bugs: is the tester worth what it costs?
//!
//! Each bug is a patch in `sim/bugs`, with a head that says what it breaks, where such a bug was seen, which rule should
//! catch it. The score is made in a copy of the sources: one patch at a time is applied, built into one target directory
//! and given to a campaign. A patch that no longer applies, a control run that fails, a bug that is not caught: each fails
//! the score.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

/// One planted bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bug {
    /// Its id, the name of its file.
    pub id: String,
    /// What it breaks, in a sentence.
    pub sentence: String,
    /// Rules that may catch it.
    pub rules: Vec<String>,
    /// The file.
    pub patch: PathBuf,
}

/// What became of one.
enum Verdict {
    Caught { rule: String, seconds: f64, states: u64 },
    Missed { states: u64 },
    Unfit(String),
}

/// Reads the heads of all patches in `dir`, sorted by id.
///
/// # Errors
/// Whatever the file system reports.
pub fn bugs(dir: &Path) -> io::Result<Vec<Bug>> {
    let mut bugs = Vec::new();
    for entry in fs::read_dir(dir)? {
        let patch = entry?.path();
        if patch.extension().is_some_and(|e| e == "patch") {
            let text = fs::read_to_string(&patch)?;
            bugs.push(head(&patch, &text));
        }
    }
    bugs.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(bugs)
}

fn head(patch: &Path, text: &str) -> Bug {
    let id = patch.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let fields: BTreeMap<&str, &str> =
        text.lines().take_while(|l| !l.starts_with("--- ")).filter_map(|l| l.split_once(':')).collect();
    let field = |name: &str| fields.get(name).map(|v| v.trim().to_owned()).unwrap_or_default();
    let rules = field("Rule").split_whitespace().map(str::to_owned).collect();
    Bug { id, sentence: field("Bug"), rules, patch: patch.to_owned() }
}

/// Plants the bugs named (all, when none is), prints a table. True when the control run is clean and every bug is caught.
///
/// # Errors
/// When sources cannot be copied or a build cannot be started.
pub fn score(ids: &[String], time: Duration, seed: u64, control: bool) -> io::Result<bool> {
    let root = root()?;
    let all = bugs(&root.join("sim/bugs"))?;
    let chosen: Vec<Bug> = all.into_iter().filter(|b| ids.is_empty() || ids.contains(&b.id)).collect();
    let tree = root.join("target/planted/tree");
    copy_sources(&root, &tree)?;
    let mut fine = true;
    if control {
        let verdict = campaign(&tree, time, seed)?;
        fine &= matches!(verdict, Verdict::Missed { .. });
        line("control", &verdict, "no bug at all", matches!(verdict, Verdict::Missed { .. }));
    }
    let (mut caught, mut took) = (0, Vec::new());
    for bug in &chosen {
        let verdict = plant(&tree, bug, time, seed)?;
        let good = matches!(&verdict, Verdict::Caught { .. });
        if let Verdict::Caught { seconds, .. } = verdict {
            caught += 1;
            took.push(seconds);
        }
        line(&bug.id, &verdict, &bug.sentence, good);
        fine &= good;
    }
    took.sort_by(f64::total_cmp);
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    println!("caught {caught} of {}; median {median:.2} s", chosen.len());
    Ok(fine)
}

fn line(id: &str, verdict: &Verdict, sentence: &str, good: bool) {
    let mark = if good { " " } else { "!" };
    match verdict {
        Verdict::Caught { rule, seconds, states } => {
            println!("{mark} {id:8} caught by {rule:11} {seconds:>7.2} s {states:>9} states  {sentence}");
        }
        Verdict::Missed { states } => {
            println!("{mark} {id:8} clean                          {states:>9} states  {sentence}")
        }
        Verdict::Unfit(why) => println!("{mark} {id:8} {why}"),
    }
}

/// The root of the workspace: this package's directory when Cargo runs the program, else the current one.
fn root() -> io::Result<PathBuf> {
    match env::var_os("CARGO_MANIFEST_DIR") {
        Some(dir) => Ok(Path::new(&dir).parent().map_or_else(|| PathBuf::from("."), Path::to_owned)),
        None => env::current_dir(),
    }
}

const SOURCES: [&str; 7] = ["Cargo.toml", "Cargo.lock", "src", "vfs", "sim", "fuzz", ".cargo"];

/// Copies what the build needs. Files that are the same keep their times, so that Cargo builds no more than it must.
fn copy_sources(from: &Path, to: &Path) -> io::Result<()> {
    for name in SOURCES {
        copy_tree(&from.join(name), &to.join(name))?;
    }
    // Targets that the copy leaves out must not be asked for.
    for name in ["benches", "examples", "tests"] {
        if from.join(name).is_dir() {
            copy_tree(&from.join(name), &to.join(name))?;
        }
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_file() {
        let bytes = fs::read(from)?;
        if fs::read(to).ok().as_ref() != Some(&bytes) {
            fs::create_dir_all(to.parent().unwrap_or(to))?;
            fs::write(to, bytes)?;
        }
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        if name != "target" {
            copy_tree(&from.join(&name), &to.join(&name))?;
        }
    }
    for entry in fs::read_dir(to)? {
        let path = entry?.path();
        let gone = path.file_name().is_some_and(|n| !from.join(n).exists());
        if gone && path.is_file() {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn plant(tree: &Path, bug: &Bug, time: Duration, seed: u64) -> io::Result<Verdict> {
    if !patch(tree, &bug.patch, false)? {
        return Ok(Verdict::Unfit("the patch does not apply any more".to_owned()));
    }
    let verdict = campaign(tree, time, seed);
    if !patch(tree, &bug.patch, true)? {
        return Err(io::Error::other(format!("the patch {} cannot be taken back", bug.id)));
    }
    verdict
}

fn patch(tree: &Path, file: &Path, back: bool) -> io::Result<bool> {
    let mut command = Command::new("patch");
    command.args(["-p1", "--silent", "--no-backup-if-mismatch", "--fuzz=2"]).current_dir(tree);
    if back {
        command.arg("--reverse");
    } else {
        // A patch that applies in part only must leave nothing behind.
        let mut dry = Command::new("patch");
        dry.args(["-p1", "--silent", "--dry-run", "--force", "--fuzz=2"]).current_dir(tree);
        if !dry.stdin(fs::File::open(file)?).stdout(Stdio::null()).status()?.success() {
            return Ok(false);
        }
    }
    Ok(command.stdin(fs::File::open(file)?).stdout(Stdio::null()).status()?.success())
}

/// Builds the tree and runs a campaign on it.
fn campaign(tree: &Path, time: Duration, seed: u64) -> io::Result<Verdict> {
    let target = tree.parent().unwrap_or(tree).join("target");
    let built = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--profile", "planted", "--package", "strandline-sim", "--bin", "sim"])
        .env("CARGO_TARGET_DIR", &target)
        .current_dir(tree)
        .stderr(Stdio::piped())
        .output()?;
    if !built.status.success() {
        let said = String::from_utf8_lossy(&built.stderr);
        let error = said.lines().find(|l| l.starts_with("error")).unwrap_or("error").to_owned();
        return Ok(Verdict::Unfit(format!("does not build: {error}")));
    }
    let began = Instant::now();
    let ran = Command::new(target.join("planted/sim"))
        .args(["run", "--terse", "--seconds", &time.as_secs().to_string(), "--seed", &seed.to_string()])
        .current_dir(tree)
        .stderr(Stdio::piped())
        .output()?;
    let said = String::from_utf8_lossy(&ran.stdout);
    let words: Vec<&str> = said.split_whitespace().collect();
    let number = |at: usize| words.get(at).and_then(|w| w.parse().ok()).unwrap_or(0.0);
    Ok(match words.first().copied() {
        Some("CLEAN") => Verdict::Missed { states: number(2) as u64 },
        Some("CAUGHT") => {
            let rule = words.get(1).copied().unwrap_or_default().to_owned();
            Verdict::Caught { rule, seconds: number(2), states: number(3) as u64 }
        }
        Some("HANG") => Verdict::Caught { rule: "live".to_owned(), seconds: began.elapsed().as_secs_f64(), states: 0 },
        // The engine took the whole process with it.
        _ => Verdict::Caught { rule: "typed".to_owned(), seconds: began.elapsed().as_secs_f64(), states: 0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read() {
        let text = "Bug: root written before data synced\nRule: open-ok durable\nOrigin: own\n\n--- a/x\n+++ b/x\n";
        let bug = head(Path::new("sim/bugs/C01.patch"), text);
        assert_eq!((bug.id.as_str(), bug.sentence.as_str()), ("C01", "root written before data synced"));
        assert_eq!(bug.rules, ["open-ok", "durable"]);
    }
}
