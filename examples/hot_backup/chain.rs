//! Ten increments on top of the finished copy, each taken and applied by a process that is killed on the way.
//!
//! Problem. A chain of increments is as good as its weakest link, and a link is weakest while it is being made or applied.
//!
//! Algorithm. Each link is the work of a process of its own: it opens the database, takes hundreds of steps more with every
//! writer, takes a checkpoint, takes an increment since the state that the copy has, and applies it to the copy. It says on its
//! standard output where it is. The parent kills it with SIGKILL in some of these places, a random moment later, and starts
//! it again until the link is done: what the killed one has left must never be in the way. After the last link a full backup is
//! taken, and the copy at the end of the chain must be the same: by the differences that the engine finds, by every block,
//! by every row, by the digest of all rows.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use indicatif::HumanBytes;
use strandline::backup::{Manifest, apply};
use strandline::{BackupOptions, CheckpointOptions, CheckpointRef, Database, Options, TableOptions, verify_copy};
use strandline_vfs::os::OsVfs;

use crate::judge::compare;
use crate::model::{self, Part, Source};
use crate::{Failure, Layout, watch};

/// Links of the chain.
const LINKS: usize = 10;
/// Steps that each writer takes for a link.
const STEPS: u64 = 150;
/// What a link's process says before it begins with each of its parts.
const PARTS: [&str; 4] = ["writing", "copying", "applying", "done"];

/// The process of one link. It may find the database, the increment and the copy in any state that a kill leaves.
pub fn link(layout: &Layout, source: &Source) -> Result<(), Failure> {
    let increment = layout.increment();
    if Manifest::load(&OsVfs::new(), &increment).is_err() {
        if increment.exists() {
            fs::remove_dir_all(&increment)?;
        }
        let origin = Manifest::load(&OsVfs::new(), &layout.copy())?.origin();
        say(PARTS[0])?;
        let db = Options::new().open(layout.home())?;
        write_more(&db, source)?;
        db.checkpoint(CheckpointOptions::new())?;
        say(PARTS[1])?;
        let backup = db.backup(BackupOptions::new().incremental_from(origin))?;
        backup.copy_to(&increment, |_| ControlFlow::Continue(()))?;
        backup.finish()?;
        db.close()?;
    }
    say(PARTS[2])?;
    let report = apply(&OsVfs::new(), &increment, &layout.copy(), &mut |_| ControlFlow::Continue(()))?;
    fs::remove_dir_all(&increment)?;
    say(&format!("{} {}", PARTS[3], report.bytes))
}

fn say(part: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{part}")?;
    Ok(out.flush()?)
}

/// Takes every writer some steps further, from where the database says that it is.
fn write_more(db: &Database, source: &Source) -> Result<(), Failure> {
    let table = |name| db.create_table(name, TableOptions::new());
    let (files, changes, progress) = (table(model::FILES)?, table(model::CHANGES)?, table(model::PROGRESS)?);
    let steps = {
        let txn = db.begin()?;
        crate::steps_by(|key| Ok(txn.get(&progress, key)?.map(|value| value.to_vec())))?
    };
    for (writer, &steps) in steps.iter().enumerate() {
        let mut part = Part::at(source, writer, steps);
        if part.idle() {
            continue;
        }
        for _ in 0..STEPS {
            let mut txn = db.begin()?;
            let step = part.steps;
            let (action, noted) = part.step(source);
            model::carry_out(&mut txn, &files, source, &action)?;
            if let Some(file) = noted {
                txn.put(&changes, source.key(file), model::note(step))?;
            }
            txn.put(&progress, model::progress_key(writer), part.steps.to_string())?;
            txn.commit()?;
        }
    }
    Ok(())
}

/// Makes the chain and judges its end. False if a promise was broken.
pub fn chain(layout: &Layout, source: &Source, limit: u64) -> Result<bool, Failure> {
    println!("\nTen increments on top of the finished copy, each by a process that may be killed");
    let (start, mut moved, mut kills) = (Instant::now(), 0, [0; PARTS.len()]);
    for number in 1..=LINKS {
        // Every third link is left in peace; the others die once in each part, in turn more often in one of them.
        let mut left = if number % 3 == 0 { [0; 3] } else { [usize::from(number % 2 == 0), 1, 1 + number % 2] };
        let bytes = loop {
            if let Some(bytes) = run_link(layout, source, limit, &mut left, &mut kills)? {
                break bytes;
            }
        };
        moved += bytes;
    }
    println!(
        "  made:      {LINKS} links, {} moved in {:.1} s; killed {} times while writing, {} while copying, {} while applying",
        HumanBytes(moved),
        start.elapsed().as_secs_f64(),
        kills[0],
        kills[1],
        kills[2]
    );
    end_of_chain(layout, source)
}

/// Runs the process of a link, and kills it where that is still due; the bytes applied, once it has come to its end.
fn run_link(
    layout: &Layout,
    source: &Source,
    limit: u64,
    left: &mut [usize; 3],
    kills: &mut [usize; PARTS.len()],
) -> Result<Option<u64>, Failure> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(source.root())
        .args(["--as-link", "--limit", &limit.to_string(), "--work"])
        .arg(&layout.0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let listening = child.stdout.take().ok_or("the child has no standard output")?;
    let mut done = None;
    for line in BufReader::new(listening).lines() {
        let line = line?;
        let (word, bytes) = line.split_once(' ').unwrap_or((&line, "0"));
        let part = PARTS.iter().position(|part| *part == word).ok_or_else(|| format!("the child said {line:?}"))?;
        if part == PARTS.len() - 1 {
            done = Some(bytes.parse()?);
        } else if left[part] > 0 {
            left[part] -= 1;
            std::thread::sleep(Duration::from_micros(watch::die() % 40_000));
            child.kill()?;
            // It may have been faster.
            kills[part] += usize::from(!child.wait()?.success());
        }
    }
    let status = child.wait()?;
    match (done, status.code()) {
        (Some(bytes), _) => Ok(Some(bytes)),
        (None, Some(code)) => Err(format!("a link failed with exit code {code}").into()),
        (None, None) => Ok(None),
    }
}

/// The copy at the end of the chain against a full backup of the same state.
fn end_of_chain(layout: &Layout, source: &Source) -> Result<bool, Failure> {
    let db = Options::new().open(layout.home())?;
    let full = db.backup(BackupOptions::new())?;
    full.copy_to(layout.full(), |_| ControlFlow::Continue(()))?;
    full.finish()?;
    db.close()?;
    println!("  promised:  what a full backup of the same checkpoint holds, in every block");
    let open = |dir: &Path| Options::new().read_only(true).open(dir);
    let (chain, full) = (open(&layout.copy())?, open(&layout.full())?);
    let (mine, theirs) = (chain.view(CheckpointRef::Latest)?, full.view(CheckpointRef::Latest)?);
    let diff = mine.diff(&theirs)?;
    let same = diff.is_same() && mine.seq() == theirs.seq();
    println!("  compared:  {}", if same { "no difference" } else { "BROKEN: the two differ" });
    let report = verify_copy(layout.copy())?;
    println!("  verified:  complete and sealed, every checksum, {} blocks", report.blocks);
    let steps = crate::steps_by(|key| Ok(theirs.get(model::PROGRESS, key)?.map(|value| value.to_vec())))?;
    let digests = [compare(&chain, source, &steps)?, compare(&full, source, &steps)?];
    match digests.map(|found| found.map(|found| found.digest.finalize())) {
        [Ok(a), Ok(b)] if a == b => println!("  came back: every row as it must be (digest {a:08x}, twice)"),
        [a, b] => {
            println!("  BROKEN:    {a:08x?} and {b:08x?}");
            return Ok(false);
        }
    }
    Ok(same)
}
