//! Runs the command in a directory of its own, and says what came of it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    /// It succeeded and said nothing.
    #[track_caller]
    pub fn silent(self) {
        assert_eq!((self.code, self.out.as_str(), self.err.as_str()), (0, "", ""));
    }

    /// It succeeded, and printed this.
    #[track_caller]
    pub fn prints(self, want: &str) {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        assert_eq!(self.out, want);
    }

    /// It succeeded; what it printed.
    #[track_caller]
    pub fn output(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// It failed with exit code 1, and the first line on standard error is this.
    #[track_caller]
    pub fn fails(self, want: &str) {
        assert_eq!(self.code, 1, "{self:?}");
        assert_eq!(self.err.lines().next().unwrap_or_default(), format!("strandline: {want}"));
    }

    /// It failed with exit code 1, and standard error has this somewhere.
    #[track_caller]
    pub fn fails_with(self, part: &str) {
        assert_eq!(self.code, 1, "{self:?}");
        assert!(self.err.starts_with("strandline: ") && self.err.contains(part), "{}", self.err);
    }

    /// It was wrong usage.
    #[track_caller]
    pub fn misuses(self) {
        assert_eq!(self.code, 2, "{self:?}");
        assert!(self.err.starts_with("strandline: ") && self.err.contains("usage: strandline"), "{}", self.err);
        assert_eq!(self.out, "");
    }
}

/// A place with a database in `home`, and room for files beside it.
pub struct Shell {
    dir: tempfile::TempDir,
    home: String,
}

impl Shell {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), home: "home".to_owned() }
    }

    /// The same place with another database.
    pub fn at(self, home: &str) -> Self {
        Self { home: home.to_owned(), ..self }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        String::from_utf8(fs::read(self.path(name)).unwrap()).unwrap()
    }

    /// Every file of a directory with its bytes.
    pub fn bytes_of(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(self.path(name))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    /// Runs the command on `home`.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Run {
        self.run_on(&self.home, args)
    }

    /// Runs the command on another home.
    #[track_caller]
    pub fn run_on(&self, home: &str, args: &[&str]) -> Run {
        let all: Vec<&str> = ["-h", home].into_iter().chain(args.iter().copied()).collect();
        self.bare(&all, "")
    }

    /// Runs the command on `home` with something on standard input.
    #[track_caller]
    pub fn feed(&self, args: &[&str], input: impl AsRef<[u8]>) -> Run {
        let all: Vec<&str> = ["-h", self.home.as_str()].into_iter().chain(args.iter().copied()).collect();
        self.bare(&all, input)
    }

    /// Runs the command with exactly these words.
    #[track_caller]
    pub fn bare(&self, args: &[&str], input: impl AsRef<[u8]>) -> Run {
        run_in(self.dir.path(), Path::new(env!("CARGO_BIN_EXE_strandline")), args, input.as_ref())
    }

    /// Creates a table with these formats.
    #[track_caller]
    pub fn create(&self, formats: &str, object: &str) {
        self.run(&["create", "-c", formats, object]).silent();
    }

    /// The lines of a dump after its header.
    #[track_caller]
    pub fn rows(&self, args: &[&str]) -> Vec<String> {
        let all: Vec<&str> = ["dump"].into_iter().chain(args.iter().copied()).collect();
        let text = self.run(&all).output();
        text.lines().skip_while(|line| *line != "Data").skip(1).map(str::to_owned).collect()
    }
}

/// Runs a program in a directory.
pub fn run_in(dir: &Path, program: &Path, args: &[&str], input: &[u8]) -> Run {
    let mut child = Command::new(program)
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that fails early does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The head of a dump in print for one table.
pub fn head(object: &str, config: &str) -> String {
    format!("WiredTiger Dump (any)\nFormat=print\nHeader\n{object}\n{config}\nData\n")
}
