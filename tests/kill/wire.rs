//! What the process that will be killed tells its parent, over a pipe: a line for everything it begins, and one for
//! everything that was promised to it.
//!
//! A line is one write to the pipe, and what is in the pipe outlives the writer. Each begins and ends with a mark, so that
//! neither half a line nor what the test harness prints passes for one.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use strandline::Durability;

use crate::model::{State, Steps};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The database is open.
    Opened,
    /// A transaction is about to be committed.
    Begin {
        writer: usize,
        step: u64,
    },
    /// Its commit returned.
    Commit {
        writer: usize,
        step: u64,
        seq: u64,
        level: Durability,
    },
    /// `sync_log` returned; these commits had returned before it was called.
    Covered(Steps),
    /// A checkpoint is about to be taken; these commits have returned.
    Taking(Steps),
    /// The newest checkpoint, complete, and what it holds; whether this one has the name.
    Taken {
        state: State,
        named: bool,
    },
    /// A backup is about to be opened, is open, is about to be ended, was ended.
    Pinning,
    Pinned,
    Unpinning,
    Unpinned,
    /// The open backup was copied, durably; these commits had returned when it was opened, and these had begun then.
    Copied {
        copy: u64,
        done: Steps,
        begun: Steps,
    },
    /// A table is about to be made (1), renamed (2), dropped (3); it was; it was refused.
    Change {
        table: u64,
        to: u8,
    },
    Changed {
        table: u64,
    },
    Refused {
        table: u64,
    },
    /// A step of the keeper writes to such a table.
    Fill {
        table: u64,
        step: u64,
    },
}

const MARK: &str = "@";
const END: &str = ".";

impl Event {
    fn to_line(&self) -> String {
        let words = |steps: &Steps| steps.map(|step| step.to_string()).join(" ");
        let body = match self {
            Self::Opened => "opened".to_owned(),
            Self::Begin { writer, step } => format!("begin {writer} {step}"),
            Self::Commit { writer, step, seq, level } => format!("commit {writer} {step} {seq} {}", *level as u8),
            Self::Covered(steps) => format!("covered {}", words(steps)),
            Self::Taking(steps) => format!("taking {}", words(steps)),
            Self::Taken { state, named } => {
                format!("taken {} {} {}", words(&state.logged), words(&state.loose), u8::from(*named))
            }
            Self::Pinning => "pinning".to_owned(),
            Self::Pinned => "pinned".to_owned(),
            Self::Unpinning => "unpinning".to_owned(),
            Self::Unpinned => "unpinned".to_owned(),
            Self::Copied { copy, done, begun } => format!("copied {copy} {} {}", words(done), words(begun)),
            Self::Change { table, to } => format!("change {table} {to}"),
            Self::Changed { table } => format!("changed {table}"),
            Self::Refused { table } => format!("refused {table}"),
            Self::Fill { table, step } => format!("fill {table} {step}"),
        };
        format!("{MARK}{body} {END}\n")
    }

    /// The event of a line; `None` when the line is not whole or not ours.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix(MARK)?.strip_suffix(END)?.split_ascii_whitespace();
        let name = words.next()?;
        let numbers: Vec<u64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
        Some(match (name, numbers.as_slice()) {
            ("opened", []) => Self::Opened,
            ("begin", &[writer, step]) => Self::Begin { writer: writer as usize, step },
            ("commit", &[writer, step, seq, level]) => {
                Self::Commit { writer: writer as usize, step, seq, level: durability(level)? }
            }
            ("covered", steps) => Self::Covered(steps.try_into().ok()?),
            ("taking", steps) => Self::Taking(steps.try_into().ok()?),
            ("taken", [steps @ .., named]) => {
                let (logged, loose) = steps.split_at_checked(steps.len() / 2)?;
                let state = State { logged: logged.try_into().ok()?, loose: loose.try_into().ok()? };
                Self::Taken { state, named: *named == 1 }
            }
            ("copied", [copy, steps @ ..]) => {
                let (done, begun) = steps.split_at_checked(steps.len() / 2)?;
                Self::Copied { copy: *copy, done: done.try_into().ok()?, begun: begun.try_into().ok()? }
            }
            ("pinning", []) => Self::Pinning,
            ("pinned", []) => Self::Pinned,
            ("unpinning", []) => Self::Unpinning,
            ("unpinned", []) => Self::Unpinned,
            ("change", &[table, to]) => Self::Change { table, to: u8::try_from(to).ok()? },
            ("changed", &[table]) => Self::Changed { table },
            ("refused", &[table]) => Self::Refused { table },
            ("fill", &[table, step]) => Self::Fill { table, step },
            _ => return None,
        })
    }
}

fn durability(level: u64) -> Option<Durability> {
    [Durability::Buffered, Durability::Write, Durability::Sync].into_iter().find(|d| *d as u64 == level)
}

/// The end of the pipe that is written to.
pub struct Pipe(File);

impl Pipe {
    /// The standard output, past whatever the test harness captures.
    pub fn to_parent() -> Self {
        let out = std::io::stdout().as_fd().try_clone_to_owned().expect("an open standard output");
        let pipe = Self(File::from(out));
        // Ends the line that the harness has begun.
        pipe.write("\n");
        pipe
    }

    /// Tells the parent. Without one there is nothing left to do.
    pub fn tell(&self, event: &Event) {
        self.write(&event.to_line());
    }

    fn write(&self, line: &str) {
        if (&self.0).write_all(line.as_bytes()).is_err() {
            std::process::exit(1);
        }
    }
}

#[test]
fn a_line_is_read_as_it_was_written_and_half_a_line_is_not() {
    let state = State { logged: [1, 2, 3, 4], loose: [0, 2, 1, 0] };
    let all = [
        Event::Opened,
        Event::Begin { writer: 3, step: 7 },
        Event::Commit { writer: 0, step: 1, seq: 12, level: Durability::Write },
        Event::Covered([5, 6, 7, 8]),
        Event::Taken { state, named: true },
        Event::Copied { copy: 3, done: [1, 2, 3, 4], begun: [2, 3, 4, 5] },
        Event::Change { table: 9, to: 2 },
    ];
    for event in all {
        let line = event.to_line();
        let line = line.strip_suffix('\n').unwrap();
        assert_eq!(Event::parse(line), Some(event));
        assert!((0..line.len()).all(|cut| Event::parse(&line[..cut]).is_none()), "{line}");
    }
}
