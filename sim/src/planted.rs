//! Planted bugs: is the tester worth what it costs?
//!
//! A simulator is worth what it catches, and a clean run says nothing about that. So the engine is broken on purpose, in
//! one small and plausible way at a time: each bug is a patch in `sim/bugs`, with a head that says what it breaks, where
//! such a bug was seen, and which rule of the oracle should catch it. The score plants them one by one in a copy of the
//! sources, builds the campaign in one shared target directory, runs it until the first promise breaks or the time is up,
//! and takes the bug out again.
//!
//! A bug that only threads can meet says `Mode: threads` in its head; the campaign over schedules (`sim/threads`) then takes
//! the place of the driver's.
//!
//! Four things fail the score: a bug that is not caught; a control run, without any bug, that is not clean (a tester that
//! cries at everything catches everything); a patch that no longer applies, because a bug nobody can plant is one that
//! nobody looks for; a patch that no longer builds.

mod bug;
mod field;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

pub use bug::{Bug, Mode, bugs, sources};
use field::Field;

/// What to score, and how hard to try.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Ids of the bugs; all when empty.
    pub ids: Vec<String>,
    /// How long each campaign may run.
    pub time: Duration,
    /// The first seed of each campaign.
    pub seed: u64,
    /// Runs the engine as it is, too.
    pub control: bool,
    /// Prints one JSON document instead of a table.
    pub json: bool,
}

/// What a campaign came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// A promise broke.
    Caught {
        /// Which one.
        rule: String,
        /// When.
        seconds: f64,
        /// Crash states judged by then.
        states: u64,
    },
    /// All promises held.
    Clean {
        /// Crash states judged.
        states: u64,
    },
    /// There was no campaign.
    Unfit(String),
}

/// One line of the score.
#[derive(Clone, Debug)]
pub struct Line {
    /// The campaign.
    pub mode: Mode,
    /// The bug; `None` for the control run.
    pub bug: Option<Bug>,
    /// What came of it.
    pub verdict: Verdict,
}

impl Line {
    /// True when it went as it should.
    #[must_use]
    pub fn is_good(&self) -> bool {
        match self.verdict {
            Verdict::Caught { .. } => self.bug.is_some(),
            Verdict::Clean { .. } => self.bug.is_none(),
            Verdict::Unfit(_) => false,
        }
    }

    fn id(&self) -> &str {
        self.bug.as_ref().map_or(self.mode.control(), |b| &b.id)
    }

    /// The line of the table.
    fn row(&self) -> String {
        let mark = if self.is_good() { ' ' } else { '!' };
        let what = self.bug.as_ref().map_or("no bug at all", |b| &b.sentence);
        let verdict = match &self.verdict {
            Verdict::Caught { rule, seconds, states } => {
                let awaited = self.bug.as_ref().is_none_or(|b| b.rules.contains(rule));
                let rule = if awaited { rule.clone() } else { format!("({rule})") };
                format!("{rule:14} {seconds:>7.2} s {states:>9} states")
            }
            Verdict::Clean { states } => format!("{:14} {:>9} {states:>9} states", "-", ""),
            Verdict::Unfit(why) => why.clone(),
        };
        format!("{mark} {:8} {verdict}  {what}", self.id())
    }

    fn json(&self) -> String {
        let mut out = format!("{{\"id\": {}", quote(self.id()));
        if let Some(bug) = &self.bug {
            let _ = write!(out, ", \"bug\": {}, \"origin\": {}", quote(&bug.sentence), quote(&bug.origin));
        }
        let _ = match &self.verdict {
            Verdict::Caught { rule, seconds, states } => {
                write!(
                    out,
                    ", \"caught\": true, \"rule\": {}, \"seconds\": {seconds}, \"states\": {states}",
                    quote(rule)
                )
            }
            Verdict::Clean { states } => write!(out, ", \"caught\": false, \"states\": {states}"),
            Verdict::Unfit(why) => write!(out, ", \"caught\": false, \"unfit\": {}", quote(why)),
        };
        out.push('}');
        out
    }
}

/// Plants the bugs of a trial and prints the score. True when the control run is clean and every bug is caught.
///
/// # Errors
/// When the patches cannot be read, the sources cannot be copied, or no build can be started; `InvalidInput` for an id
/// that no bug has.
pub fn score(trial: &Trial) -> io::Result<bool> {
    let all = bugs()?;
    if let Some(id) = trial.ids.iter().find(|id| all.iter().all(|b| b.id != **id)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no bug is called {id}")));
    }
    let chosen: Vec<Bug> = all.into_iter().filter(|b| trial.ids.is_empty() || trial.ids.contains(&b.id)).collect();
    let modes: BTreeSet<Mode> = chosen.iter().map(|b| b.mode).collect();
    let field = Field::copy(&sources())?;
    let mut lines = Vec::new();
    let mut say = |line: Line| {
        if !trial.json {
            println!("{}", line.row());
        }
        lines.push(line);
    };
    for mode in modes.into_iter().filter(|_| trial.control) {
        say(Line { mode, bug: None, verdict: field.campaign(mode, trial.time, trial.seed)? });
    }
    for bug in chosen {
        let mode = bug.mode;
        let verdict = field.plant(&bug, || field.campaign(mode, trial.time, trial.seed))?;
        say(Line { mode, bug: Some(bug), verdict });
    }
    if trial.json {
        let rows: Vec<String> = lines.iter().map(Line::json).collect();
        println!("[\n  {}\n]", rows.join(",\n  "));
    } else {
        println!("{}", summary(&lines));
    }
    Ok(lines.iter().all(Line::is_good))
}

fn summary(lines: &[Line]) -> String {
    let planted = lines.iter().filter(|l| l.bug.is_some()).count();
    let mut took: Vec<f64> = lines
        .iter()
        .filter_map(|l| match l.verdict {
            Verdict::Caught { seconds, .. } if l.bug.is_some() => Some(seconds),
            _ => None,
        })
        .collect();
    took.sort_by(f64::total_cmp);
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    let slowest = took.last().copied().unwrap_or_default();
    format!("caught {} of {planted}; median {median:.2} s, slowest {slowest:.2} s", took.len())
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bug() -> Bug {
        Bug {
            id: "C01".to_owned(),
            sentence: "root \"first\"".to_owned(),
            origin: "own".to_owned(),
            rules: vec!["open-ok".to_owned()],
            features: vec!["A".to_owned()],
            mode: Mode::Driver,
            patch: "sim/bugs/C01-x.patch".into(),
        }
    }

    #[test]
    fn a_clean_control_and_a_caught_bug_are_good() {
        let caught = Verdict::Caught { rule: "open-ok".to_owned(), seconds: 0.5, states: 9 };
        let clean = Verdict::Clean { states: 7 };
        let line = |bug, verdict: &Verdict| Line { mode: Mode::Driver, bug, verdict: verdict.clone() };
        assert!(line(Some(bug()), &caught).is_good() && line(None, &clean).is_good());
        assert!(!line(None, &caught).is_good() && !line(Some(bug()), &clean).is_good());
        assert!(!line(Some(bug()), &Verdict::Unfit("gone".to_owned())).is_good());
        let lines = [line(None, &clean), line(Some(bug()), &caught), line(Some(bug()), &clean)];
        assert_eq!(summary(&lines), "caught 1 of 2; median 0.50 s, slowest 0.50 s");
        assert!(lines[1].json().contains(r#""bug": "root \"first\"", "origin": "own", "caught": true"#));
    }
}
