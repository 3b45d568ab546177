//! What may stand on the command line, and the help that teaches it.
//!
//! The habits are those of WiredTiger's `wt`: options of one letter, global options before the command, operands last.
//! In `read`, `write` and `loadtext`-like commands everything after the first operand is an operand, so that a value may
//! begin with a dash.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

use crate::copy_args::{BackupArgs, RestoreArgs};

/// The heading of the options that every command has.
const GLOBAL: &str = "Global options";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "strandline",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    subcommand_required = true,
    arg_required_else_help = false,
    about = "Works with a Strandline database: an embedded key-value store whose heart is the online backup",
    after_long_help = "\
Examples:
  strandline -h /srv/db create -c key_format=S,value_format=S table:people
  strandline -h /srv/db write table:people ann paris bob oslo
  strandline -h /srv/db read table:people ann
  strandline -h /srv/db dump table:people > people.dump
  strandline -h /srv/new load -f people.dump
  strandline -h /srv/db backup /backups/monday
  strandline restore /backups/monday /srv/restored
  strandline -h /srv/logged init --log --keep-log
  strandline -h /srv/logged backup --log --remove-log /backups/tuesday

Objects are written table:NAME, or NAME alone. Commands that only read change nothing in
the directory. Exit codes: 0 done, 1 a problem, 2 wrong usage.
`strandline COMMAND --help` tells more about a command."
)]
pub struct Cli {
    /// The database's directory
    #[arg(short = 'h', value_name = "HOME", default_value = ".", help_heading = GLOBAL)]
    pub home: PathBuf,
    /// Open read-only, whatever the command; one that writes then fails
    #[arg(short = 'r', help_heading = GLOBAL)]
    pub read_only: bool,
    /// Let a command that only reads recover the database for good
    #[arg(short = 'R', help_heading = GLOBAL)]
    pub recover: bool,
    /// Salvage while opening: a damaged log ends where the damage is, and all before it is kept
    #[arg(short = 'S', help_heading = GLOBAL)]
    pub salvage: bool,
    /// Tell each step on standard output
    #[arg(short = 'v', global = true, help_heading = GLOBAL)]
    pub verbose: bool,
    /// No progress bars
    #[arg(short = 'q', global = true, help_heading = GLOBAL)]
    pub quiet: bool,
    /// Machine-readable output, errors included
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// The version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = GLOBAL)]
    pub version: Option<bool>,
    /// This help; --help tells more than -?
    #[arg(short = '?', long, action = ArgAction::Help, global = true, help_heading = GLOBAL)]
    pub help: Option<bool>,
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Change settings of tables
    Alter(AlterArgs),
    /// Copy the database, or check a copy
    Backup(BackupArgs),
    /// Create a table
    Create(CreateArgs),
    /// Remove a table
    Drop(DropArgs),
    /// Write a table as text
    Dump(DumpArgs),
    /// Make a new database
    Init(InitArgs),
    /// List tables, and their checkpoints
    List(ListArgs),
    /// Read a dump into tables
    Load(LoadArgs),
    /// Read plain lines into a table
    Loadtext(LoadtextArgs),
    /// Print the log
    Printlog(PrintlogArgs),
    /// Print values
    Read(ReadArgs),
    /// Give a table another name
    Rename(RenameArgs),
    /// Make a database from a copy
    Restore(RestoreArgs),
    /// Print counters
    Stat(StatArgs),
    /// Remove all rows of a table
    Truncate(ObjectArg),
    /// Check tables for damage
    Verify(VerifyArgs),
    /// Insert or remove rows
    Write(WriteArgs),
    /// Known to `wt`, and not there yet
    #[command(hide = true)]
    Compact(Later),
    /// Known to `wt`, and not there yet
    #[command(hide = true)]
    Salvage(Later),
}

/// Whatever stands after a command that is not there yet.
#[derive(Debug, Args)]
pub struct Later {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub rest: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
CONFIG is text such as log=(enabled=false), which takes a table out of the log: its rows are
then as durable as the last checkpoint, and no longer as every commit. log=(enabled=true)
takes it in again. Formats and columns stay what they were when the table was made.

Example:
  strandline alter table:sessions 'log=(enabled=false)' table:people 'log=(enabled=true)'")]
pub struct AlterArgs {
    /// Objects and settings in turn
    #[arg(required = true, num_args = 2.., value_name = "OBJECT CONFIG")]
    pub pairs: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ObjectArg {
    /// table:NAME
    pub object: String,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
CONFIG is text such as key_format=S,value_format=S,columns=(name,city). A format has a
letter for each column:
  S  text                 h i l q  signed numbers      5S, 5s  exactly five bytes of text
  u  bytes                H I L Q  unsigned numbers    5u      exactly five bytes
  r  record number (keys) b B      one byte            3t      three bits
Without a config, keys and values are plain bytes (u). A table that is there already stays
as it is, if its formats are the same. A database is made in HOME where there is none.
In a database with a log, log=(enabled=false) keeps the table out of it.

Examples:
  strandline create -c key_format=S,value_format=S table:people
  strandline create -c 'key_format=r,value_format=Si,columns=(id,name,age)' table:staff")]
pub struct CreateArgs {
    /// Formats, column names and other settings
    #[arg(short = 'c', value_name = "CONFIG", default_value = "", hide_default_value = true)]
    pub config: String,
    /// table:NAME
    pub object: String,
}

#[derive(Debug, Args)]
pub struct DropArgs {
    /// Succeed if there is no such table
    #[arg(short = 'f')]
    pub force: bool,
    /// table:NAME
    pub object: String,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
The plain form, -x and -j can be loaded again, here and by WiredTiger's `wt load`. KEY,
LOWER and UPPER are written as the dump writes keys: text of format S ends in \\00 (in hex:
00), record numbers are decimal. With -j a key may also be written as its members, such as
'\"key0\" : \"ann\"'.

Examples:
  strandline dump table:people > people.dump
  strandline dump -p -l 'ann\\00' -u 'bob\\00' table:people
  strandline dump -k 'ann\\00' -n -w 2 table:people
  strandline dump -c latest -j table:people table:staff")]
pub struct DumpArgs {
    /// As of this checkpoint; `latest` is the newest
    #[arg(short = 'c', value_name = "CHECKPOINT")]
    pub checkpoint: Option<String>,
    /// Write to this file
    #[arg(short = 'f', value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// As JSON, the only form that takes several objects
    #[arg(short = 'j', conflicts_with_all = ["pretty", "hex"])]
    pub as_json: bool,
    /// This record only
    #[arg(short = 'k', value_name = "KEY", allow_hyphen_values = true, conflicts_with_all = ["lower", "upper"])]
    pub key: Option<String>,
    /// From this key on
    #[arg(short = 'l', value_name = "LOWER", allow_hyphen_values = true)]
    pub lower: Option<String>,
    /// Where KEY is missing, the record nearest to it
    #[arg(short = 'n', requires = "key")]
    pub near: bool,
    /// For people: columns unpacked, joined by commas; cannot be loaded
    #[arg(short = 'p')]
    pub pretty: bool,
    /// In descending order
    #[arg(short = 'r')]
    pub reverse: bool,
    /// As of a timestamp
    #[arg(short = 't', value_name = "TIMESTAMP", allow_hyphen_values = true, hide = true)]
    pub timestamp: Option<String>,
    /// Up to this key, itself included
    #[arg(short = 'u', value_name = "UPPER", allow_hyphen_values = true)]
    pub upper: Option<String>,
    /// Also up to N records before KEY and N after it
    #[arg(short = 'w', value_name = "N", requires = "key", default_value = "0", hide_default_value = true)]
    pub window: u64,
    /// Items as hex digits
    #[arg(short = 'x')]
    pub hex: bool,
    /// table:NAME, or table:NAME(column,...) for some columns
    #[arg(required = true, value_name = "OBJECT")]
    pub objects: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
The settings are remembered in the database. `create`, `load` and `write` make a database
with default settings by themselves; `init` is for other settings.

Without a log, what was committed is durable with the next checkpoint; each command of this
tool takes one at its end. With --log every commit is durable by itself, also in programs
that hold the database open: what has returned is there after a crash. Segments of the log
are removed when a checkpoint has made them superfluous; with --keep-log they stay until a
`backup --log --remove-log` or a program removes them, so that increments of the log can
carry them. With --log-dir they stand in another directory, on another device perhaps.

After a crash while a backup was open, a database without a log is what it was at the newest
checkpoint before the backup began. With --latest it is what its newest complete checkpoint
says. With a log nothing that was committed is lost either way.

Examples:
  strandline -h /srv/db init --log
  strandline -h /srv/db init --log --keep-log --log-dir /fast/db-log")]
pub struct InitArgs {
    /// Keep a log: every commit is durable when it returns
    #[arg(long)]
    pub log: bool,
    /// Keep segments of the log until they are removed by a call
    #[arg(long, requires = "log")]
    pub keep_log: bool,
    /// The directory of the log: within HOME, or an absolute path
    #[arg(long, value_name = "DIR", requires = "log")]
    pub log_dir: Option<String>,
    /// After a crash during a backup, restore the newest completed checkpoint
    #[arg(long)]
    pub latest: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "With -v each name is followed by the table's config text.")]
pub struct ListArgs {
    /// After each table its checkpoints, oldest first
    #[arg(short = 'c')]
    pub checkpoints: bool,
    /// Only names that begin like this
    pub prefix: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Reads what `strandline dump` or WiredTiger's `wt dump` wrote (not with -p). Tables are
created where they are missing; rows replace those that are there. OBJECT is the beginning
of a name in the dump, CONFIG are settings laid over those of the dump. Rows before a bad
line stay loaded.

Examples:
  wt -h old dump table:people | strandline -h new load
  strandline load -f people.dump -r persons
  strandline load -j -f everything.json
  strandline load -f people.dump table:people app_metadata=imported")]
pub struct LoadArgs {
    /// Drop the record numbers of the dump and append its rows
    #[arg(short = 'a')]
    pub append: bool,
    /// Read this file, not standard input
    #[arg(short = 'f', value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The dump is JSON
    #[arg(short = 'j')]
    pub as_json: bool,
    /// Fail at a key that is there already
    #[arg(short = 'n')]
    pub no_overwrite: bool,
    /// Load under this name
    #[arg(short = 'r', value_name = "NAME")]
    pub rename: Option<String>,
    /// Objects and settings in turn
    #[arg(value_name = "OBJECT CONFIG")]
    pub pairs: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Values have format S. With keys of format S, lines are a key and its value in turn, and
replace what is there; with keys of format r every line is a value and is appended.

Example:
  printf 'ann\\nparis\\n' | strandline loadtext table:people")]
pub struct LoadtextArgs {
    /// Read this file, not standard input
    #[arg(short = 'f', value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// table:NAME
    pub object: String,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Prints a JSON array with an object for each record, in order: the commits, the changes of the
schema, the checkpoints, and the messages that programs wrote. Keys and values are left out
(\"redacted\": true) unless -u asks for them. HOME may also be a copy, or an increment of the
log. The log is read as it is: nothing is recovered and nothing is changed.

LSN is the number of a file and an offset in it, as the output gives them: 3,4096. A second
pair makes it a range, both ends included. Damage is told on standard error, and what can be
read after it is still printed; the exit code is 1 then.

Examples:
  strandline -h /srv/db printlog
  strandline -h /srv/db printlog -u -l 3,4096,3,8192
  strandline -h /srv/db printlog -m
  strandline -h /backups/tuesday-log printlog -ux -f tuesday.json")]
pub struct PrintlogArgs {
    /// Write to this file
    #[arg(short = 'f', value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// From this record on, or from the first to the second
    #[arg(short = 'l', value_name = "LSN[,LSN]")]
    pub range: Option<String>,
    /// Only the texts of messages, one a line
    #[arg(short = 'm')]
    pub messages: bool,
    /// Show keys and values
    #[arg(short = 'u')]
    pub user_data: bool,
    /// With -u, keys and values also as hex digits
    #[arg(short = 'x')]
    pub hex: bool,
}

#[derive(Debug, Args)]
pub struct ReadArgs {
    /// table:NAME, then keys: text for format S, numbers for r, bytes for u
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, allow_hyphen_values = true, value_name = "OBJECT KEY")]
    pub operands: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct RenameArgs {
    /// table:NAME
    pub object: String,
    /// table:NAME, the new one
    pub new_name: String,
}

#[derive(Debug, Args)]
pub struct StatArgs {
    /// Accepted; all counters are cheap
    #[arg(short = 'f')]
    pub fast: bool,
    /// table:NAME
    pub object: Option<String>,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Stop at the first bad table
    #[arg(short = 'a')]
    pub abort: bool,
    /// Go on after damage in a table
    #[arg(short = 'c')]
    pub go_on: bool,
    /// Warnings count as damage
    #[arg(short = 'S')]
    pub strict: bool,
    #[arg(short = 's', hide = true)]
    pub stable: bool,
    /// table:NAME; all tables by default
    #[arg(value_name = "OBJECT")]
    pub objects: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  strandline write table:people ann paris bob oslo     insert two rows; a key that is there is an error
  strandline write -o table:people ann rome            insert or replace
  strandline write -r table:people ann                 remove
  strandline write -a table:staff ann bob              append two values (keys of format r)")]
pub struct WriteArgs {
    /// Append: operands are values, the keys are the next record numbers
    #[arg(short = 'a', conflicts_with_all = ["overwrite", "remove"])]
    pub append: bool,
    /// Replace what is there
    #[arg(short = 'o', conflicts_with = "remove")]
    pub overwrite: bool,
    /// Remove one key
    #[arg(short = 'r')]
    pub remove: bool,
    /// table:NAME, then keys and values in turn
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, allow_hyphen_values = true, value_name = "OBJECT KEY VALUE")]
    pub operands: Vec<OsString>,
}

/// The parser, with usage lines in the words of this tool.
pub fn command() -> clap::Command {
    with_template(Cli::command())
}

/// The usage line of one command.
pub fn usage_of(name: &str) -> String {
    let mut command = command();
    command.build();
    let usage = command.find_subcommand_mut(name).map(|command| command.render_usage().to_string());
    usage.unwrap_or_default().replacen("Usage: ", "usage: ", 1)
}

fn with_template(command: clap::Command) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let command = command.help_template("usage: {usage}\n\n{about-with-newline}\n{all-args}{after-help}");
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, with_template))
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
