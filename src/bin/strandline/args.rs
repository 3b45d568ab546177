//! What may stand on the command line, and the help that teaches it.
//!
//! The habits are those of WiredTiger's `wt`: options of one letter, global options before the command, operands last.
//! In `read`, `write` and `loadtext`-like commands everything after the first operand is an operand, so that a value may
//! begin with a dash.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

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
    /// Salvage the database while opening it
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
    Alter(Later),
    /// Known to `wt`, and not there yet
    #[command(hide = true)]
    Compact(Later),
    /// Known to `wt`, and not there yet
    #[command(hide = true)]
    Printlog(Later),
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

After a crash while a backup was open, a database is what it was at the newest checkpoint
before the backup began. With --latest it is what its newest complete checkpoint says.")]
pub struct InitArgs {
    /// After a crash during a backup, restore the newest completed checkpoint
    #[arg(long)]
    pub latest: bool,
    #[arg(long, hide = true)]
    pub log: bool,
    #[arg(long, hide = true)]
    pub keep_log: bool,
    #[arg(long, hide = true, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
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

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_long_help = "\
The copy is consistent: exactly one checkpoint of the database. It is the newest one that
is complete when the backup begins; --fresh-checkpoint takes one first, so that all that
was committed is in it. DEST is made if it is missing, and must be empty. Each file appears
under its name only when it is complete and on the device, the manifest last: a copy
without a manifest is unfinished, and nothing will accept it. With -v the last line is the
origin of the copy, LINEAGE:SEQUENCE. A DEST really called `verify` is written ./verify.

An increment has what changed since another backup. FROM is the directory of that backup, or
the origin that it printed. It goes into a directory of its own, for `backup apply` or
`restore`; with --into it is applied to a copy at once.

A database that a program has open is copied by that program, while it reads and writes:
see `Database::backup` in the engine's documentation. Here it is Busy.

Examples:
  strandline -h /srv/db backup --fresh-checkpoint /backups/monday
  strandline -h /srv/db backup -t table:people /backups/people
  strandline -h /srv/db backup --incremental-from /backups/monday /backups/tuesday
  strandline -h /srv/db backup --incremental-from /backups/monday --into /backups/monday
  strandline backup verify /backups/monday"
)]
pub struct BackupArgs {
    #[command(subcommand)]
    pub what: Option<BackupCommand>,
    /// Back up this checkpoint
    #[arg(long, value_name = "NAME", conflicts_with = "fresh_checkpoint")]
    pub checkpoint: Option<String>,
    /// Take a checkpoint first, and back it up
    #[arg(long)]
    pub fresh_checkpoint: bool,
    /// Only this table; may be repeated
    #[arg(short = 't', value_name = "OBJECT")]
    pub tables: Vec<String>,
    /// Only what changed since FROM: a copy, or an origin LINEAGE:SEQUENCE
    #[arg(long, value_name = "FROM", conflicts_with = "tables")]
    pub incremental_from: Option<String>,
    /// Roll this copy forward at once, instead of writing an increment to DEST
    #[arg(long, value_name = "COPY", requires = "incremental_from")]
    pub into: Option<PathBuf>,
    /// The directory to copy to
    #[arg(required_unless_present = "into", conflicts_with = "into")]
    pub dest: Option<PathBuf>,
    #[command(flatten)]
    pub later: LaterBackupArgs,
}

/// Options of backups that are not there yet.
#[derive(Debug, Args)]
pub struct LaterBackupArgs {
    #[arg(long, hide = true, conflicts_with = "incremental_from")]
    pub log: bool,
    #[arg(long, hide = true)]
    pub remove_log: bool,
    #[arg(long, hide = true, value_name = "TEXT")]
    pub label: Option<OsString>,
    #[arg(long, hide = true, value_name = "SIZE")]
    pub granularity: Option<OsString>,
    /// Accepted: neighbouring ranges of an increment are always merged
    #[arg(long, hide = true)]
    pub consolidate: bool,
    #[arg(long, hide = true)]
    pub direct_io: bool,
}

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Check copies, without opening a database
    #[command(after_long_help = "\
Checks that every file of the manifest is there with its size, that the bytes have the
checksums of the manifest, and every block in the files. Files that the manifest does not
name are reported; they are no damage.

Example:
  strandline backup verify --quick /backups/monday /backups/tuesday")]
    Verify(BackupVerifyArgs),
    /// Roll a copy forward by increments, in order
    #[command(after_long_help = "\
Each increment must fit the copy as it is then; one that does not is refused before anything
is changed. After an interruption the same command does the rest. A copy that was opened for
writing has a history of its own and takes no increments.

Example:
  strandline backup apply /backups/tuesday /backups/wednesday /backups/monday")]
    Apply(BackupApplyArgs),
}

#[derive(Debug, Args)]
pub struct BackupApplyArgs {
    /// The increments, then the copy
    #[arg(required = true, num_args = 2.., value_name = "INCREMENT COPY")]
    pub paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct BackupVerifyArgs {
    /// Stop after presence and sizes
    #[arg(long)]
    pub quick: bool,
    /// The copies
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
COPY stays as it is; increments given after it are applied in the new place, in order. DEST
is made if it is missing, and must be empty. The new database is verified, and opened once,
so that it is a database of its own.

Examples:
  strandline restore /backups/monday /srv/db
  strandline restore -t table:people /backups/monday /srv/people
  strandline restore /backups/monday /backups/tuesday /backups/wednesday /srv/db")]
pub struct RestoreArgs {
    /// Only this table; may be repeated
    #[arg(short = 't', value_name = "TABLE")]
    pub tables: Vec<String>,
    /// The copy, its increments if any, and the directory of the new database
    #[arg(required = true, num_args = 2.., value_name = "COPY INCREMENT DEST")]
    pub paths: Vec<PathBuf>,
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
