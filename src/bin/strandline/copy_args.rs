//! What may stand on the command line of backup, backup verify, backup apply and restore.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_long_help = "\
The copy is consistent: exactly one checkpoint of the database. It is the newest one that is
complete when the backup begins; --fresh-checkpoint takes one first, so that all that was
committed is in it. Of a database with a log the copy has the log as well, and with it all
that was committed, unless it is of chosen tables or of a named checkpoint. DEST is made if
it is missing, and must be empty. Each file appears under its name only when it is complete
and on the device, the manifest last: a copy without a manifest is unfinished, and nothing
will accept it. `-` writes one stream to standard output instead, for `restore -` and
`backup apply -` elsewhere. With -v the last line is the origin of the copy, LINEAGE:SEQUENCE. A DEST
really called `verify` is written ./verify.

An increment has what changed since another backup. FROM is the directory of that backup, the
origin that it printed, or the label that --label gave it. It goes into a directory of its own, for `backup apply` or
`restore`; with --into it is applied to a copy at once.

With --log the increment is of the log: it has every commit up to now, and needs neither a
checkpoint nor an origin, but a database that keeps its log (`init --log --keep-log`). The
log goes on growing until --remove-log, or a program, removes what is no longer needed. A
copy takes increments of the one kind or of the other.

A database that a program has open is copied by that program, while it reads and writes:
see `Database::backup` in the engine's documentation. Here it is Busy.

Examples:
  strandline -h /srv/db backup --fresh-checkpoint /backups/monday
  strandline -h /srv/db backup -t table:people /backups/people
  strandline -h /srv/db backup --incremental-from /backups/monday /backups/tuesday
  strandline -h /srv/db backup --incremental-from /backups/monday --into /backups/monday
  strandline -h /srv/db backup --incremental-from monday - | ssh there strandline backup apply - /backups/db
  strandline -h /srv/db backup --log --remove-log /backups/tuesday-log
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
    /// Only what changed since FROM: a copy, an origin LINEAGE:SEQUENCE, or a label
    #[arg(long, value_name = "FROM", conflicts_with = "tables")]
    pub incremental_from: Option<String>,
    /// Only the log: what was committed since the last full backup or increment of the log
    #[arg(long, conflicts_with_all = ["checkpoint", "fresh_checkpoint", "tables", "incremental_from", "into"])]
    pub log: bool,
    /// Then remove the segments of the log that no recovery needs
    // A conflict of what is required lifts the requirement, so it is said twice.
    #[arg(long, requires = "log", conflicts_with_all = ["incremental_from", "checkpoint", "fresh_checkpoint", "tables"])]
    pub remove_log: bool,
    /// Roll this copy forward at once, instead of writing an increment to DEST
    #[arg(long, value_name = "COPY", requires = "incremental_from")]
    pub into: Option<PathBuf>,
    /// The directory to copy to, or `-` for a stream on standard output
    #[arg(required_unless_present = "into", conflicts_with = "into")]
    pub dest: Option<PathBuf>,
    /// Remember the origin under this name, for --incremental-from
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["log", "tables"])]
    pub label: Option<String>,
    /// Let the ranges of an increment begin and end at multiples of SIZE: bytes, or a number with K, M or G
    #[arg(long, value_name = "SIZE", requires = "incremental_from", conflicts_with = "log", value_parser = size)]
    pub granularity: Option<u64>,
    /// Accepted: neighbouring ranges are always merged in what is written
    #[arg(long, hide = true)]
    pub consolidate: bool,
    /// Bypass the system's page cache while copying, where the file systems can
    #[arg(long)]
    pub direct_io: bool,
}

/// A number of bytes, as people write it.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: Option<u64> = digits.parse().ok();
    number.and_then(|n| n.checked_mul(1 << shift)).ok_or_else(|| "not a number of bytes; write 65536 or 64K".to_owned())
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
Increments are of changed blocks or of the log, and a copy takes those of one kind. Each
must fit the copy as it is then; one that does not is refused before anything is changed.
After an interruption the same command does the rest. A copy that was opened for writing has
a history of its own and takes no increments.

Example:
  strandline backup apply /backups/tuesday /backups/wednesday /backups/monday")]
    Apply(BackupApplyArgs),
    /// Make one full copy of a copy and its increments, without the database
    #[command(after_long_help = "\
COPY stays as it is; the increments are applied in the new place, in order, and every block
is verified there. DEST is made if it is missing, and must be empty. What arises is a copy
like any other: it takes the increments that come next.

Example:
  strandline backup consolidate /backups/monday /backups/tuesday /backups/new")]
    Consolidate(BackupConsolidateArgs),
    /// Tell whether two copies hold the same, and where they differ
    #[command(after_long_help = "\
Compares two copies or databases, each as its newest checkpoint and its log say. Silent and
exit 0 when they hold the same; else a line for each table that differs, with the ranges of
keys below it, and exit 1. Of copies of one database only what differs is read. Nothing is
changed, and a copy goes on taking increments.

Example:
  strandline backup diff /backups/monday /backups/tuesday")]
    Diff(BackupDiffArgs),
    /// List the labels of origins, or release some
    #[command(after_long_help = "\
One label a line, with the origin that an increment can start from. --release forgets a
label; given an origin, LINEAGE:SEQUENCE, it is refused from then on. --release-all forgets
every label and refuses every origin up to now: the next chain starts with a full backup.

Example:
  strandline -h /srv/db backup origins --release monday")]
    Origins(BackupOriginsArgs),
}

#[derive(Debug, Args)]
pub struct BackupConsolidateArgs {
    /// The copy, its increments, and the directory of the new copy
    #[arg(required = true, num_args = 2.., value_name = "COPY INCREMENT DEST")]
    pub paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct BackupDiffArgs {
    /// A copy or a database
    #[arg(value_name = "A")]
    pub first: PathBuf,
    /// Another one
    #[arg(value_name = "B")]
    pub second: PathBuf,
}

#[derive(Debug, Args)]
pub struct BackupOriginsArgs {
    /// Release this label or origin; may be repeated
    #[arg(long, value_name = "WHICH")]
    pub release: Vec<String>,
    /// Release all of them
    #[arg(long)]
    pub release_all: bool,
}

#[derive(Debug, Args)]
pub struct BackupApplyArgs {
    /// Then walk the whole copy from its root, and compare every block with what its parent says
    #[arg(long)]
    pub prove: bool,
    /// The increments, `-` for a stream on standard input, then the copy
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
COPY stays as it is; increments given after it, of blocks or of the log, are applied in the
new place, in order. With -t the other tables are dropped at the end. DEST is made if it is
missing, and must be empty. The new database is verified, and opened once, so that it is a
database of its own.

Examples:
  strandline restore /backups/monday /srv/db
  strandline restore -t table:people /backups/monday /srv/people
  strandline restore /backups/monday /backups/tuesday /backups/wednesday /srv/db")]
pub struct RestoreArgs {
    /// Only this table; may be repeated
    #[arg(short = 't', value_name = "TABLE")]
    pub tables: Vec<String>,
    /// The copy, `-` for a stream on standard input; its increments if any; the directory of the new database
    #[arg(required = true, num_args = 2.., value_name = "COPY INCREMENT DEST")]
    pub paths: Vec<PathBuf>,
}
