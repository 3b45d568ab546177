//! Tests of the command line: what parses, what does not, and the help.

use clap::FromArgMatches;
use clap::error::ErrorKind;

use super::*;
use crate::copy_args::BackupCommand;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words = std::iter::once("strandline").chain(line.split_whitespace());
    command().try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches))
}

#[test]
fn the_definition_is_sound() {
    command().debug_assert();
}

#[test]
fn global_options_come_before_the_command_and_letters_may_be_reused() {
    let cli = parse("-r -h home dump -rx -l -5 t").unwrap();
    assert!(cli.read_only && cli.home.ends_with("home"));
    let Command::Dump(dump) = cli.command else { panic!("{:?}", cli.command) };
    assert!(dump.reverse && dump.hex && dump.lower.as_deref() == Some("-5"));
    assert!(!parse("load -r other").unwrap().read_only);
    assert!(parse("list -v --json").unwrap().verbose);
}

#[test]
fn operands_may_begin_with_a_dash() {
    let Command::Write(write) = parse("write -o t k -5 -r x").unwrap().command else { panic!("not write") };
    assert!(write.overwrite && !write.remove);
    assert_eq!(write.operands.len(), 5);
}

#[test]
fn wrong_usage_is_refused() {
    for line in [
        "",
        "frobnicate",
        "list -z",
        "create",
        "rename a",
        "read t",
        "dump",
        "dump -j -x t",
        "dump -n t",
        "dump -w 1 t",
        "dump -e t",
        "drop a b",
        "backup",
        "restore a",
        "-C x list",
        "write -o -r t k",
        "backup --incremental-from x -t t d",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn help_and_version() {
    for (line, kind) in [
        ("-?", ErrorKind::DisplayHelp),
        ("--help", ErrorKind::DisplayHelp),
        ("dump -?", ErrorKind::DisplayHelp),
        ("-V", ErrorKind::DisplayVersion),
    ] {
        assert_eq!(parse(line).unwrap_err().kind(), kind, "{line}");
    }
    let help = parse("backup verify --help").unwrap_err().to_string();
    assert!(help.starts_with("usage: strandline backup verify"), "{help}");
}

#[test]
fn backup_takes_a_place_or_a_command() {
    let Command::Backup(backup) = parse("backup --fresh-checkpoint d").unwrap().command else { panic!("not backup") };
    assert!(backup.what.is_none() && backup.dest.is_some());
    let Command::Backup(backup) = parse("backup verify --quick a b").unwrap().command else { panic!("not backup") };
    assert!(matches!(backup.what, Some(BackupCommand::Verify(args)) if args.quick && args.dirs.len() == 2));
}
