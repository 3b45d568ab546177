//! The copy of the sources that bugs are planted in.
//!
//! Everything happens below `target/planted`: the copy in `tree`, what is built from it in `target`. A file that is the
//! same as in the copy is not touched, so that the next score builds only what changed; a bug costs one build of the
//! engine and of the campaign, nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use super::Verdict;
use super::bug::{BUGS, Bug, Mode};

/// A campaign that has not ended so long after its time hangs.
const GRACE: Duration = Duration::from_secs(90);
/// Address space that a campaign may use, in KiB: a broken engine must not take the machine with it.
const MEMORY_KIB: u64 = 6 << 20;

/// The copy.
pub struct Field {
    tree: PathBuf,
    target: PathBuf,
}

impl Field {
    /// Copies what belongs to the sources in `root`, by the word of git.
    ///
    /// # Errors
    /// When git does not answer or a file cannot be copied.
    pub fn copy(root: &Path) -> io::Result<Self> {
        let base = root.join("target/planted");
        let (tree, target) = (base.join("tree"), base.join("target"));
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()?;
        if !listed.status.success() {
            return Err(io::Error::other("git does not list the sources"));
        }
        let names = String::from_utf8_lossy(&listed.stdout).into_owned();
        let names: Vec<&Path> = names.split('\0').filter(|n| !n.is_empty()).map(Path::new).collect();
        for name in &names {
            // A file may be listed and deleted.
            if root.join(name).is_file() {
                copy_file(&root.join(name), &tree.join(name))?;
            }
        }
        remove_strangers(&tree, &tree, &|name| names.contains(&name) && root.join(name).is_file())?;
        Ok(Self { tree, target })
    }

    /// Runs `trial` with a bug planted, and takes it out again. The patch is that of the copy: it belongs to these sources,
    /// whatever happens meanwhile to those that they were copied from.
    ///
    /// # Errors
    /// Those of `trial`; when the patch cannot be taken out.
    pub fn plant(&self, bug: &Bug, trial: impl FnOnce() -> io::Result<Verdict>) -> io::Result<Verdict> {
        let patch = self.tree.join(BUGS).join(bug.patch.file_name().unwrap_or_default());
        let patch = patch.as_path();
        // A patch that applies only in part must leave nothing behind.
        if !apply(&self.tree, patch, &["--dry-run"])? || !apply(&self.tree, patch, &[])? {
            return Ok(Verdict::Unfit("the patch does not apply".to_owned()));
        }
        let verdict = trial();
        if !apply(&self.tree, patch, &["--reverse"])? {
            return Err(io::Error::other(format!("{} cannot be taken out again", patch.display())));
        }
        verdict
    }

    /// Builds a campaign and runs it.
    ///
    /// # Errors
    /// When neither can be started.
    pub fn campaign(&self, mode: Mode, time: Duration, seed: u64) -> io::Result<Verdict> {
        let (package, name) = mode.program();
        let built = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--quiet", "--profile", "planted", "--package", package, "--bin", name])
            .env("CARGO_TARGET_DIR", &self.target)
            .env_remove("CARGO_MANIFEST_DIR")
            .current_dir(&self.tree)
            .output()?;
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr);
            let error = said.lines().find(|l| l.starts_with("error")).unwrap_or("error").to_owned();
            return Ok(Verdict::Unfit(format!("it does not build: {error}")));
        }
        let said = self.tree.with_file_name("said");
        let began = Instant::now();
        let program = self.target.join("planted").join(name);
        let what = if mode == Mode::Driver { " run" } else { "" };
        let run = format!("ulimit -v {MEMORY_KIB}; exec {}{what} --terse", program.display());
        let run = format!("{run} --seconds {} --seed {seed}", time.as_secs());
        let child = Command::new("sh")
            .args(["-c", &run])
            .current_dir(&self.tree)
            .stdout(fs::File::create(&said)?)
            .stderr(Stdio::null())
            .spawn()?;
        let ended = wait(child, time + GRACE)?;
        let seconds = began.elapsed().as_secs_f64();
        Ok(verdict(&fs::read_to_string(&said)?, ended, seconds))
    }
}

/// Waits, but not for ever. `None` when the child had to be killed.
fn wait(mut child: std::process::Child, most: Duration) -> io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if began.elapsed() > most {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// What the campaign said in its one line: `CAUGHT rule seconds states ...`, `CLEAN seconds states`, `HANG ...`; or
/// nothing, when the engine took the process with it.
fn verdict(said: &str, ended: Option<ExitStatus>, seconds: f64) -> Verdict {
    let words: Vec<&str> = said.split_whitespace().collect();
    let number = |at: usize| words.get(at).and_then(|w| w.parse::<f64>().ok()).unwrap_or(0.0);
    let caught = |rule: &str| Verdict::Caught { rule: rule.to_owned(), seconds, states: 0 };
    match (words.first().copied(), ended) {
        (Some("CLEAN"), _) => Verdict::Clean { states: number(2) as u64 },
        (Some("CAUGHT"), _) => {
            let rule = words.get(1).copied().unwrap_or_default().to_owned();
            Verdict::Caught { rule, seconds: number(2), states: number(3) as u64 }
        }
        (Some("HANG"), _) | (_, None) => caught("live"),
        _ => caught("typed"),
    }
}

/// Applies a patch with the program of that name, or does what `how` says instead. True when that worked.
///
/// # Errors
/// When the program cannot be started.
pub fn apply(tree: &Path, patch: &Path, how: &[&str]) -> io::Result<bool> {
    let status = Command::new("patch")
        .args(["-p1", "--silent", "--force", "--no-backup-if-mismatch", "--reject-file=-"])
        .args(how)
        .current_dir(tree)
        .stdin(fs::File::open(patch)?)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(status.success())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let bytes = fs::read(from)?;
    if fs::read(to).ok().as_ref() != Some(&bytes) {
        fs::create_dir_all(to.parent().unwrap_or(to))?;
        fs::write(to, bytes)?;
    }
    Ok(())
}

/// Removes files below `dir` that do not belong there.
fn remove_strangers(tree: &Path, dir: &Path, belongs: &dyn Fn(&Path) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_strangers(tree, &path, belongs)?;
        } else if path.strip_prefix(tree).is_ok_and(|name| !belongs(name)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_tells_all() {
        assert_eq!(verdict("CLEAN 60.00 12345", None, 60.0), Verdict::Clean { states: 12345 });
        let caught = |rule: &str, seconds, states| Verdict::Caught { rule: rule.to_owned(), seconds, states };
        assert_eq!(verdict("CAUGHT open-ok 0.25 77 3\n", None, 9.0), caught("open-ok", 0.25, 77));
        assert_eq!(verdict("HANG live: seed 3", None, 80.0), caught("live", 80.0, 0));
        assert_eq!(verdict("", None, 150.0), caught("live", 150.0, 0));
    }
}
