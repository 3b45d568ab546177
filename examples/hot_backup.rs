//! A hot backup, and the worst moment to lose the process: watch it, then judge.
//!
//! ```text
//! cargo run --release --example hot_backup            # the sources of all crates below ~/.cargo
//! cargo run --release --example hot_backup -- DIR     # any directory
//! ```
//!
//! Problem. "Your data survives a crash during a backup" is a sentence anybody
//! can write. This program makes it a thing one can see, on real files, with a
//! real kill, and lets another process be the judge.
//!
//! Algorithm. This process starts itself once more as a child (`child`). The
//! child loads files into a database (key: path, value: contents), goes on
//! changing them from several threads, takes checkpoints, takes one whole
//! backup, opens a second one - and is killed with SIGKILL at a random moment
//! while it is open. All that it promised it has told its parent over a pipe
//! (`wire`, `watch`). The parent then opens what is left (`judge`): the
//! database, which must be exactly the checkpoint that was complete when the
//! second backup was opened; the finished copy, which must be exactly the
//! checkpoint that the first backup pinned; the half-made copy, which must be
//! refused. What a state should hold, row by row, follows from three numbers
//! (`model`).
//!
//! Then ten increments are taken from the database that came back and applied to the finished copy, by processes that are
//! killed while they copy and while they apply (`chain`); what stands at the end must be what a full backup holds.
//!
//! It ends with exit code 1 if any promise was broken.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

#[path = "hot_backup/chain.rs"]
mod chain;
#[path = "hot_backup/child.rs"]
mod child;
#[path = "hot_backup/judge.rs"]
mod judge;
#[path = "hot_backup/model.rs"]
mod model;
#[path = "hot_backup/watch.rs"]
mod watch;
#[path = "hot_backup/wire.rs"]
mod wire;

use model::{Source, WRITERS};

/// Whatever can go wrong here is told to a person, so any error will do.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Loads files, changes them, backs up meanwhile, gets killed, and checks what is left.
#[derive(Parser)]
#[command(name = "hot_backup")]
struct Arguments {
    /// The files to load [default: the sources of all crates below ~/.cargo/registry, or else this project].
    dir: Option<PathBuf>,
    /// Load at most this many MiB of files.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=65536))]
    limit: u64,
    /// Where to put the database and the copies; removed at the end [default: below target].
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Leave the database and the copies where they are, to look at them.
    #[arg(long)]
    keep: bool,
    /// Kill so many milliseconds after the second backup was opened [default: a random time below 3000].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=60000))]
    kill_after: Option<u64>,
    /// For the program's own use: be the process that gets killed.
    #[arg(long, hide = true)]
    as_child: bool,
    /// For the program's own use: be the process that makes a link of the chain.
    #[arg(long, hide = true)]
    as_link: bool,
}

/// Where everything is, below one directory.
struct Layout(PathBuf);

impl Layout {
    fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    fn copy(&self) -> PathBuf {
        self.0.join("copy")
    }

    fn second_copy(&self) -> PathBuf {
        self.0.join("second-copy")
    }

    fn increment(&self) -> PathBuf {
        self.0.join("increment")
    }

    fn full(&self) -> PathBuf {
        self.0.join("full-copy")
    }

    fn plain(&self) -> PathBuf {
        self.0.join("plain-copy")
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = if arguments.as_child || arguments.as_link { be_child(&arguments) } else { be_parent(&arguments) };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hot_backup: {error}");
            ExitCode::FAILURE
        }
    }
}

fn be_child(arguments: &Arguments) -> Result<bool, Failure> {
    let work = arguments.work.as_deref().ok_or("--as-child and --as-link need --work")?;
    let layout = Layout(work.to_path_buf());
    match arguments.as_link {
        true => chain::link(&layout, &gather(arguments)?)?,
        false => child::run(&layout, gather(arguments)?)?,
    }
    Ok(true)
}

fn be_parent(arguments: &Arguments) -> Result<bool, Failure> {
    let source = gather(arguments)?;
    if source.files() < WRITERS {
        return Err(format!("{}: fewer than {WRITERS} files, name another directory", source.root().display()).into());
    }
    let base = match &arguments.work {
        Some(dir) => dir.clone(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
    };
    std::fs::create_dir_all(&base)?;
    let mut work = tempfile::Builder::new().prefix("hot_backup-").tempdir_in(&base)?;
    work.disable_cleanup(arguments.keep);
    let layout = Layout(work.path().to_path_buf());
    let seen = watch::watch(&layout, &source, arguments.limit, arguments.kill_after)?;
    let kept = judge::judge(&layout, &source, &seen)? && chain::chain(&layout, &source, arguments.limit)?;
    println!("\n{}", if kept { "Every promise was kept." } else { "A PROMISE WAS BROKEN." });
    if arguments.keep {
        println!("\nEverything is still in {}.", work.path().display());
    }
    Ok(kept)
}

/// The files: those of the directory named, of the registry, or of this project.
fn gather(arguments: &Arguments) -> Result<Source, Failure> {
    let root = match &arguments.dir {
        Some(dir) => dir.clone(),
        None => default_source(),
    };
    let source = Source::gather(&root, arguments.limit << 20);
    source.map_err(|error| format!("{}: {error}", root.display()).into())
}

fn default_source() -> PathBuf {
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    match cargo.map(|cargo| cargo.join("registry/src")) {
        Some(registry) if registry.is_dir() => registry,
        _ => PathBuf::from(env!("CARGO_MANIFEST_DIR")),
    }
}

/// Reads every writer's step count with `get`; a writer without one has done nothing.
fn steps_by(mut get: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, Failure>) -> Result<wire::Steps, Failure> {
    let mut steps = [0; WRITERS];
    for (writer, steps) in steps.iter_mut().enumerate() {
        if let Some(value) = get(model::progress_key(writer).as_bytes())? {
            *steps = std::str::from_utf8(&value)?.parse()?;
        }
    }
    Ok(steps)
}
