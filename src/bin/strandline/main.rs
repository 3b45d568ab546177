//! The `strandline` command: a database from the shell, in the habits of WiredTiger's `wt`.
//!
//! ```text
//! args copy_args                          the command line and its help
//! home      opening the database that -h names; names of objects
//! report    problems, results, bars, exit codes
//! tables settings rows dump load checks               the commands; selection is what a dump shows
//! copies increments printlog
//! config schema packing                   what a table's items are
//! text dumpfile json_text json_dump       how they are written down
//! ```
//!
//! The command uses the engine's public face only, and adds what the engine does not know: typed columns. Exit codes: 0
//! done, 1 a problem, 2 wrong usage.

#![forbid(unsafe_code)]

mod args;
mod checks;
mod config;
mod copies;
mod copy_args;
mod diff;
mod dump;
mod dumpfile;
mod home;
mod increments;
mod json_dump;
mod json_text;
mod load;
mod origins;
mod packing;
mod printlog;
mod report;
mod rows;
mod schema;
mod selection;
mod settings;
mod tables;
mod text;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::FromArgMatches;
use clap::error::ErrorKind;

use crate::args::{Cli, Command};
use crate::home::Home;
use crate::report::{Outcome, Voice, unsupported};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let parsed = args::command().try_get_matches_from(&words).and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => {
            let voice = Voice { json: cli.json, verbose: cli.verbose, quiet: cli.quiet };
            voice.exit(run(&cli, voice))
        }
        Err(error) => parse_failure(&error, words.iter().any(|word| word == "--json")),
    }
}

fn run(cli: &Cli, voice: Voice) -> Outcome {
    let home =
        Home { path: cli.home.clone(), read_only: cli.read_only, recover: cli.recover, salvage: cli.salvage, voice };
    match &cli.command {
        Command::Alter(args) => settings::alter(&home, args),
        Command::Backup(args) => copies::backup(&home, args),
        Command::Create(args) => tables::create(&home, args),
        Command::Drop(args) => tables::drop(&home, args),
        Command::Dump(args) => dump::dump(&home, args),
        Command::Init(args) => settings::init(&home, args),
        Command::List(args) => tables::list(&home, args),
        Command::Load(args) => load::load(&home, args),
        Command::Loadtext(args) => rows::loadtext(&home, args),
        Command::Printlog(args) => printlog::printlog(&home, args),
        Command::Read(args) => rows::read(&home, args),
        Command::Rename(args) => tables::rename(&home, args),
        Command::Restore(args) => copies::restore(voice, args),
        Command::Stat(args) => checks::stat(&home, args),
        Command::Truncate(args) => tables::truncate(&home, args),
        Command::Verify(args) => checks::verify(&home, args),
        Command::Write(args) => rows::write(&home, args),
        Command::Compact(_) => unsupported("compact"),
        Command::Salvage(_) => unsupported("salvage"),
    }
}

/// Help and version are successes; everything else is wrong usage. Usage always goes to standard error; the text of the
/// long help is a result, and goes to standard output.
fn parse_failure(error: &clap::Error, json: bool) -> ExitCode {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayVersion => {
            print(&mut std::io::stdout().lock(), &text);
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelp => {
            let (usage, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
            print(&mut std::io::stderr().lock(), &format!("{usage}\n\n"));
            print(&mut std::io::stdout().lock(), rest);
            ExitCode::SUCCESS
        }
        ErrorKind::MissingSubcommand => wrong_usage(json, "no command given\n\nusage: strandline [OPTIONS] <COMMAND>"),
        _ => {
            let message = text.strip_prefix("error: ").unwrap_or(&text);
            let message = message.replace("\nUsage: ", "\nusage: ").replace("For more information, try '--help'.", "");
            wrong_usage(json, message.trim_end())
        }
    }
}

fn wrong_usage(json: bool, message: &str) -> ExitCode {
    Voice { json, verbose: false, quiet: true }.usage(message);
    ExitCode::from(2)
}

/// Whoever does not read the help does not need it.
fn print(to: &mut impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes());
}
