//! The parent while the child lives: listens, shows, and kills.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use strandline::CheckpointSeq;

use crate::model::Source;
use crate::wire::{Event, Steps, Stretch};
use crate::{Failure, Layout};

/// Without news for so long the child is taken to hang.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Shown while bytes are on their way.
const BAR: &str = "{spinner} {prefix:<6} {wide_bar} {bytes}/{total_bytes}  {msg:>20}";
/// Shown while only writers and checkpoints run.
const LINE: &str = "{spinner} {prefix}  {msg}";

/// All that the child said.
#[derive(Default)]
pub struct Seen {
    /// The checkpoint that each backup pinned, in the order they were opened.
    pub pinned: Vec<(CheckpointSeq, Steps)>,
    /// Undisturbed stretches: one before the backup, one after.
    pub calm: Vec<Stretch>,
    /// The whole backup.
    pub backup: Stretch,
    /// The same bytes copied by plain file copies.
    pub plain: Stretch,
    /// Checkpoints that were completed after the second backup was opened.
    pub checkpoints_after: usize,
    /// Commits made after the second backup was opened, as far as we were told.
    pub commits_after: u64,
    /// Time between the opening of the second backup and the kill.
    pub killed_after: Duration,
    commits: u64,
    commits_at_pin: u64,
}

/// Starts the child, watches it, kills it; all that it said.
pub fn watch(layout: &Layout, source: &Source, limit: u64, kill_after: Option<u64>) -> Result<Seen, Failure> {
    println!(
        "{} files, {}, from {}",
        HumanCount(source.files() as u64),
        HumanBytes(source.bytes()),
        source.root().display()
    );
    let mut child = Command::new(std::env::current_exe()?)
        .arg(source.root())
        .args(["--as-child", "--limit", &limit.to_string(), "--work"])
        .arg(&layout.0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let listening = child.stdout.take().ok_or("the child has no standard output")?;
    let outcome = Watch::new(source, listen(listening)).until_killed(&mut child, kill_after);
    // Whatever went wrong, nothing of ours keeps running.
    let _ = child.kill();
    let status = child.wait()?;
    outcome.map_err(|error| format!("{error} (the child: {status})").into())
}

/// Events as they come, from a thread that reads them.
fn listen(from: ChildStdout) -> Receiver<Event> {
    let (tell, hear) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if let Some(event) = Event::parse(&line)
                && tell.send(event).is_err()
            {
                break;
            }
        }
    });
    hear
}

struct Watch<'a> {
    source: &'a Source,
    events: Receiver<Event>,
    bar: ProgressBar,
    started: Instant,
    last_pace: (Instant, u64),
    loaded: bool,
    copying: bool,
    checkpoint: Option<CheckpointSeq>,
    seen: Seen,
}

impl<'a> Watch<'a> {
    fn new(source: &'a Source, events: Receiver<Event>) -> Self {
        let now = Instant::now();
        let bar = ProgressBar::new(source.bytes());
        let watch = Watch {
            source,
            events,
            bar,
            started: now,
            last_pace: (now, 0),
            loaded: false,
            copying: false,
            checkpoint: None,
            seen: Seen::default(),
        };
        watch.bar.set_prefix("load");
        watch.show(BAR);
        watch
    }

    fn show(&self, style: &str) {
        self.bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    }

    fn until_killed(mut self, child: &mut Child, kill_after: Option<u64>) -> Result<Seen, Failure> {
        while self.seen.pinned.len() < 2 {
            match self.events.recv_timeout(SILENCE_MAX) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => return Err("the child has been silent for too long".into()),
                Err(RecvTimeoutError::Disconnected) => return Err("the child ended before it was killed".into()),
            }
        }
        let opened = Instant::now();
        let moment = Duration::from_micros(kill_after.map_or_else(|| die() % 3_000_000, |ms| ms * 1000));
        self.say(&format!("The process will be killed {:.2} s from now.", moment.as_secs_f64()));
        while let Some(left) = moment.checked_sub(opened.elapsed()) {
            match self.events.recv_timeout(left) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Err("the child ended before it was killed".into()),
            }
        }
        child.kill()?;
        self.seen.killed_after = opened.elapsed();
        // What it said before it died is in the pipe, and counts.
        while let Ok(event) = self.events.recv() {
            self.take(event);
        }
        self.bar.finish_and_clear();
        self.seen.commits_after = self.seen.commits - self.seen.commits_at_pin;
        println!("Killed (SIGKILL).");
        Ok(self.seen)
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| println!("{line}"));
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Pace { bytes, commits, .. } => self.pace(bytes, commits),
            Event::Loaded => self.finish_loading(),
            Event::Checkpoint { seq, .. } => {
                self.seen.checkpoints_after += usize::from(self.seen.pinned.len() == 2);
                self.checkpoint = Some(seq);
                self.calm_down();
            }
            Event::Pinned { seq, steps } => {
                self.seen.pinned.push((seq, steps));
                self.seen.commits_at_pin = self.seen.commits;
                let which = if self.seen.pinned.len() == 1 { "A" } else { "A second" };
                self.say(&format!("{which} backup is open and pins checkpoint {seq}."));
            }
            Event::Copied { bytes, of } => {
                self.copying = bytes < of;
                self.show(BAR);
                self.bar.set_prefix("backup");
                self.bar.set_length(of);
                self.bar.set_position(bytes);
            }
            Event::Calm(stretch) => self.seen.calm.push(stretch),
            Event::BackedUp(stretch) => {
                self.say(&rate_line("The backup is complete", &stretch));
                self.seen.backup = stretch;
                self.copying = false;
                self.calm_down();
            }
            Event::PlainCopy(stretch) => {
                self.say(&rate_line("The same bytes copied as plain files", &stretch));
                self.seen.plain = stretch;
            }
        }
    }

    /// From a bar to a line, unless something is being copied.
    fn calm_down(&self) {
        if let (Some(seq), false, true) = (self.checkpoint, self.copying, self.loaded) {
            self.show(LINE);
            self.bar.set_prefix(format!("checkpoint {seq}"));
        }
    }

    fn pace(&mut self, bytes: u64, commits: u64) {
        let (then, before) = self.last_pace;
        let rate = (commits - before) as f64 / then.elapsed().as_secs_f64().max(1e-3);
        self.last_pace = (Instant::now(), commits);
        self.seen.commits = commits;
        if !self.loaded {
            self.bar.set_position(bytes);
            self.bar.set_message(format!("{}/s", HumanBytes(self.per_second(bytes))));
        } else {
            self.bar.set_message(format!("{} commits/s", HumanCount(rate as u64)));
        }
    }

    fn finish_loading(&mut self) {
        self.loaded = true;
        let bytes = self.source.bytes();
        self.bar.set_position(bytes);
        self.say(&format!(
            "Loaded in {:.1} s ({}/s). {} threads now change the files, with checkpoints going on.",
            self.started.elapsed().as_secs_f64(),
            HumanBytes(self.per_second(bytes)),
            crate::WRITERS
        ));
    }

    fn per_second(&self, bytes: u64) -> u64 {
        (bytes as f64 / self.started.elapsed().as_secs_f64().max(1e-3)) as u64
    }
}

fn rate_line(what: &str, stretch: &Stretch) -> String {
    let rate = stretch.bytes as f64 / stretch.seconds().max(1e-6);
    let (bytes, rate) = (HumanBytes(stretch.bytes), HumanBytes(rate as u64));
    format!("{what}: {bytes} in {:.2} s ({rate}/s), synced.", stretch.seconds())
}

/// A number nobody could foresee: the standard library seeds its hasher so.
pub fn die() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
