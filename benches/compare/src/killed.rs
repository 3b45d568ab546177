//! A store whose process was killed, opened again.
//!
//! Problem. What an open costs after a crash shows only after a real one: a
//! store that is closed, or dropped, tidies up first.
//!
//! Algorithm. This program runs itself once more. That process fills the store
//! with commits that survive a kill, each store with what it does by default
//! to keep its log short - but Strandline, for which the whole log is left to
//! be replayed -, says how long that took, and is killed. Opening and one get
//! are timed then; every row must be there.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::data::{Data, Model};
use crate::engine::{AfterKill, Peer, Promise};
use crate::stories::{BATCH, Case, large_cache, open, put_rows};

/// Fills a store, says how many seconds it took, and waits for the end.
pub fn fill(peer: &Peer, dir: &Path, records: usize) -> Result<()> {
    let data = Data::new(records);
    let engine = open(peer, dir, &data, large_cache(&data), Promise::Process, false)?;
    let mut model = Model::empty(&data);
    let start = Instant::now();
    put_rows(&mut *engine.session()?, &data, data.order(), BATCH, &mut model)?;
    println!("{}", start.elapsed().as_secs_f64());
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

/// Kills such a process and opens what it leaves.
pub fn story(case: &mut Case<'_>) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--be-killed", case.peer.name, "--records", &case.data.len().to_string(), "--dir"])
        .arg(&case.dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let told = BufReader::new(child.stdout.take().context("it was piped")?).read_line(&mut line);
    child.kill()?;
    child.wait()?;
    told?;
    let writing: f64 = line.trim().parse().context("the process that was to be killed failed")?;

    let start = Instant::now();
    let engine = open(case.peer, &case.dir, case.data, large_cache(case.data), Promise::Process, false)?;
    engine.session()?.get(&[case.data.key(0)], &mut |_| ())?;
    let opening = start.elapsed().as_secs_f64();
    case.note("open-killed", opening * 1e3);
    if case.peer.after_kill == AfterKill::Logged {
        case.note("recovery", writing / opening);
    }
    case.check(&*engine, &Model::full(case.data))?;
    engine.close()
}
