//! What the child tells its parent: one line of text per event, on stdout.
//!
//! A line ends with a mark, so that a line cut short by the kill is not
//! mistaken for a whole one.

use strandline::CheckpointSeq;

use crate::model::WRITERS;

/// The step count of every writer: which state of the database is meant.
pub type Steps = [u64; WRITERS];

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Files and bytes loaded and commits made so far.
    Pace { files: u64, bytes: u64, commits: u64 },
    /// All files are loaded.
    Loaded,
    /// A checkpoint is complete and durable, and holds this state.
    Checkpoint { seq: CheckpointSeq, steps: Steps },
    /// A time in which nothing special happened.
    Calm(Stretch),
    /// A backup is open; it pins the checkpoint that holds this state.
    Pinned { seq: CheckpointSeq, steps: Steps },
    /// Bytes of the backup copied, of so many.
    Copied { bytes: u64, of: u64 },
    /// The backup is complete and closed: from opening it to the finished copy.
    BackedUp(Stretch),
    /// The same bytes were copied with plain file copies and synced.
    PlainCopy(Stretch),
}

/// What went on in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// How long it was.
    pub micros: u64,
    /// Bytes copied in it.
    pub bytes: u64,
    /// Commits made in it.
    pub commits: u64,
    /// The longest of them.
    pub longest_micros: u64,
}

impl Stretch {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.micros as f64 / 1e6
    }

    /// Commits a second.
    pub fn rate(&self) -> f64 {
        self.commits as f64 / self.seconds().max(1e-6)
    }

    fn words(&self) -> String {
        format!("{} {} {} {}", self.micros, self.bytes, self.commits, self.longest_micros)
    }
}

const END: &str = ".";

impl Event {
    /// The line, without its newline.
    pub fn to_line(&self) -> String {
        let words = |steps: &Steps| steps.map(|s| s.to_string()).join(" ");
        let body = match self {
            Event::Pace { files, bytes, commits } => format!("pace {files} {bytes} {commits}"),
            Event::Loaded => "loaded".to_string(),
            Event::Checkpoint { seq, steps } => format!("checkpoint {seq} {}", words(steps)),
            Event::Calm(stretch) => format!("calm {}", stretch.words()),
            Event::Pinned { seq, steps } => format!("pinned {seq} {}", words(steps)),
            Event::Copied { bytes, of } => format!("copied {bytes} {of}"),
            Event::BackedUp(stretch) => format!("backed-up {}", stretch.words()),
            Event::PlainCopy(stretch) => format!("plain-copy {}", stretch.words()),
        };
        format!("{body} {END}")
    }

    /// The event of a line, or nothing if the line is not whole.
    pub fn parse(line: &str) -> Option<Event> {
        let mut words = line.strip_suffix(END)?.split_ascii_whitespace();
        let name = words.next()?;
        if let "checkpoint" | "pinned" = name {
            let seq = words.next()?.parse().ok()?;
            let steps: Vec<u64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
            let steps = steps.try_into().ok()?;
            return Some(if name == "pinned" {
                Event::Pinned { seq, steps }
            } else {
                Event::Checkpoint { seq, steps }
            });
        }
        let numbers = words.map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
        Some(match (name, numbers.as_slice()) {
            ("pace", &[files, bytes, commits]) => Event::Pace { files, bytes, commits },
            ("loaded", &[]) => Event::Loaded,
            ("calm", numbers) => Event::Calm(stretch(numbers)?),
            ("copied", &[bytes, of]) => Event::Copied { bytes, of },
            ("backed-up", numbers) => Event::BackedUp(stretch(numbers)?),
            ("plain-copy", numbers) => Event::PlainCopy(stretch(numbers)?),
            _ => return None,
        })
    }
}

fn stretch(numbers: &[u64]) -> Option<Stretch> {
    let &[micros, bytes, commits, longest_micros] = numbers else { return None };
    Some(Stretch { micros, bytes, commits, longest_micros })
}
