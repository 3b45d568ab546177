//! What the user is told: problems on standard error, results on standard output, bars in between.
//!
//! A problem is one line `strandline: WHAT: MESSAGE`, then a line with the remedy where there is one; with `--json` it is
//! one object. The exit code is 1 for a problem and 2 for wrong usage. Bars go to standard error, and only if that is a
//! terminal that nobody asked to stay quiet.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use strandline::{Error, ErrorKind};

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// A problem with something that has a name; exit 1.
    Problem {
        /// What the problem is with: a table, a file, a directory.
        what: String,
        /// The problem.
        error: Error,
    },
    /// Wrong usage of this command that the parser could not see; exit 2.
    Usage(&'static str, String),
    /// All there is to say has been said; exit 1.
    Told,
    /// Whoever read the output has gone; exit 1, and nothing to say.
    OutputClosed,
}

/// The result of a command.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Says what was being worked on when something failed.
pub trait While<T> {
    /// Turns an error into a problem with `what`.
    fn with(self, what: impl std::fmt::Display) -> Outcome<T>;
}

impl<T> While<T> for strandline::Result<T> {
    fn with(self, what: impl std::fmt::Display) -> Outcome<T> {
        self.map_err(|error| Failure::Problem { what: what.to_string(), error })
    }
}

impl<T> While<T> for io::Result<T> {
    fn with(self, what: impl std::fmt::Display) -> Outcome<T> {
        self.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => {
                let what = what.to_string();
                let error = Error::new(ErrorKind::Io, error.to_string());
                Failure::Problem { what, error: error.remedy("check the path, its permissions and the space left") }
            }
        })
    }
}

/// How to talk to this user.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    /// `--json`.
    pub json: bool,
    /// `-v`.
    pub verbose: bool,
    /// `-q`.
    pub quiet: bool,
}

/// What the engine tells to do, and how that is done here.
const IN_FLAGS: [(&str, &str); 6] = [
    ("open the database with salvage, which keeps", "repeat the command with -S, which keeps"),
    ("open it with salvage", "repeat the command with -S"),
    (
        "open the database with `keep_log`, and take a full backup first",
        "only a database that was made with `init --log --keep-log` keeps its log; back it up in full, or by blocks",
    ),
    ("open the database with `keep_log` to remove them by call", "leave out --remove-log"),
    (
        "open it with the log switched on: it is remembered",
        "a log is switched on when the database is made: init --log",
    ),
    ("switch the log on as well, or leave them out", "give --log as well, or leave out --log-dir and --keep-log"),
];

/// A remedy in the words of the command.
fn in_flags(remedy: &str) -> String {
    IN_FLAGS.iter().fold(remedy.to_owned(), |text, (call, flag)| text.replace(call, flag))
}

impl Voice {
    /// Tells of a problem on standard error.
    pub fn problem(self, what: &str, error: &Error) {
        let location = error.location();
        if self.json {
            let object = json!({ "error": {
                "kind": format!("{:?}", error.kind()),
                "message": format!("{what}: {}", error.message()),
                "file": location.map(|l| l.file.display().to_string()),
                "offset": location.and_then(|l| l.offset),
                "remedy": error.remedy_text().map(in_flags),
            }});
            return self.complain(&object.to_string());
        }
        let mut line = format!("strandline: {what}: ");
        if let Some(place) = location {
            let file = place.file.display().to_string();
            match place.offset {
                Some(offset) => line.push_str(&format!("{file} at byte {offset}: ")),
                None if file != what => line.push_str(&format!("{file}: ")),
                None => {}
            }
        }
        line.push_str(error.message());
        if let Some(remedy) = error.remedy_text().filter(|remedy| !remedy.is_empty()) {
            line.push_str("\nremedy: ");
            line.push_str(&in_flags(remedy));
        }
        self.complain(&line);
    }

    /// A short note on standard error that is no problem.
    pub fn warning(self, what: &str, message: &str) {
        if !self.json {
            self.complain(&format!("strandline: {what}: warning: {message}"));
        }
    }

    /// Tells of wrong usage on standard error.
    pub fn usage(self, message: &str) {
        if self.json {
            let message = message.lines().next().unwrap_or_default();
            let error = json!({ "kind": "Usage", "message": message, "file": null, "offset": null, "remedy":
                "strandline --help" });
            self.complain(&json!({ "error": error }).to_string());
        } else {
            self.complain(&format!("strandline: {message}"));
        }
    }

    fn complain(self, text: &str) {
        // Nobody is left to be told when standard error is gone.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// One line per step, for those who asked.
    pub fn step(self, text: impl std::fmt::Display) -> Outcome {
        if self.verbose && !self.json { say(text) } else { Ok(()) }
    }

    /// Ends the command with what happened.
    pub fn exit(self, outcome: Outcome) -> ExitCode {
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failure::Told | Failure::OutputClosed) => ExitCode::from(1),
            Err(Failure::Problem { what, error }) => {
                self.problem(&what, &error);
                ExitCode::from(1)
            }
            Err(Failure::Usage(command, message)) => {
                self.usage(&format!("{message}\n\n{}", crate::args::usage_of(command)));
                ExitCode::from(2)
            }
        }
    }

    /// A bar that counts bytes up to `total`, or only up where the total is not known.
    pub fn bar(self, total: Option<u64>) -> ProgressBar {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        let hidden = self.quiet || self.json;
        bar.set_draw_target(if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
        let template = match total {
            Some(_) => "{bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta} {wide_msg}",
            None => "{spinner} {bytes} {bytes_per_sec} {wide_msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        bar
    }
}

/// A line on standard output.
pub fn say(text: impl std::fmt::Display) -> Outcome {
    writeln!(io::stdout().lock(), "{text}").with("standard output")
}

/// A problem of our own making: the thing is known, and not there yet.
pub fn unsupported<T>(what: &str) -> Outcome<T> {
    let error = Error::new(ErrorKind::Unsupported, "not supported yet");
    Err(Failure::Problem { what: what.to_owned(), error })
}
