//! The patches and their heads.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where the patches are.
pub const BUGS: &str = "sim/bugs";

/// Which campaign looks for a bug.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// The driver with one thread.
    #[default]
    Driver,
    /// The engine's threads under a scheduler.
    Threads,
}

impl Mode {
    /// The package and the program that runs the campaign.
    #[must_use]
    pub const fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Driver => ("strandline-sim", "sim"),
            Self::Threads => ("strandline-threads", "threads"),
        }
    }

    /// The name of its run without any bug.
    #[must_use]
    pub const fn control(self) -> &'static str {
        match self {
            Self::Driver => "control",
            Self::Threads => "threads",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [(Self::Driver, "driver"), (Self::Threads, "threads")]
            .into_iter()
            .find(|(_, name)| *name == word)
            .map(|(m, _)| m)
    }
}

/// One planted bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bug {
    /// The id: the name of its file up to the first dash.
    pub id: String,
    /// What it breaks, in a sentence.
    pub sentence: String,
    /// Where such a bug was seen: an engine and a number, `list` for one of the catalogue, `own` for one of this engine.
    pub origin: String,
    /// Rules that should catch it, the likeliest first.
    pub rules: Vec<String>,
    /// What the tester needs for that, by the letters of the catalogue.
    pub features: Vec<String>,
    /// The campaign that looks for it; the driver's unless the head says otherwise.
    pub mode: Mode,
    /// The patch.
    pub patch: PathBuf,
}

/// The root of the sources that this program was built from.
#[must_use]
pub fn sources() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// All bugs, by id.
///
/// # Errors
/// Whatever the file system reports; `InvalidData` for a head that lacks a field.
pub fn bugs() -> io::Result<Vec<Bug>> {
    let mut bugs = Vec::new();
    for entry in fs::read_dir(sources().join(BUGS))? {
        let patch = entry?.path();
        if patch.extension().is_some_and(|e| e == "patch") {
            let bug = Bug::parse(&patch, &fs::read_to_string(&patch)?);
            bugs.push(bug.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?);
        }
    }
    bugs.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(bugs)
}

impl Bug {
    /// Reads the head of a patch: everything before its first `---` line.
    ///
    /// # Errors
    /// What the head lacks.
    pub fn parse(patch: &Path, text: &str) -> Result<Self, String> {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy();
        let id = name.split('-').next().unwrap_or_default().to_owned();
        let head: Vec<&str> = text.lines().take_while(|l| !l.starts_with("--- ")).collect();
        let field = |name: &str| {
            let value = head.iter().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            let value = value.map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
            value.ok_or_else(|| format!("{} says no `{name}:`", patch.display()))
        };
        let mode = match field("Mode") {
            Ok(word) => Mode::parse(&word).ok_or_else(|| format!("{} has a strange `Mode:`", patch.display()))?,
            Err(_) => Mode::default(),
        };
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
        Ok(Self {
            id,
            sentence: field("Bug")?,
            origin: field("Origin")?,
            rules: words(field("Rule")?),
            features: words(field("Features")?),
            mode,
            patch: patch.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read() {
        let text = "Bug: root written first\nOrigin: WT-1\nRule: open-ok durable\nFeatures: A D\n\n--- a/x\n+++ b/x\n";
        let bug = Bug::parse(Path::new("sim/bugs/C01-root-first.patch"), text).unwrap();
        assert_eq!(
            (bug.id.as_str(), bug.sentence.as_str(), bug.origin.as_str()),
            ("C01", "root written first", "WT-1")
        );
        assert_eq!((bug.rules.len(), bug.features.len()), (2, 2));
        assert_eq!(bug.mode, Mode::Driver);
        let threads = Bug::parse(Path::new("L15.patch"), &text.replace("\n\n", "\nMode: threads\n\n")).unwrap();
        assert_eq!(threads.mode, Mode::Threads);
        let lame = text.replace("Rule: open-ok durable\n", "");
        assert!(Bug::parse(Path::new("C01.patch"), &lame).unwrap_err().contains("Rule"));
    }
}
