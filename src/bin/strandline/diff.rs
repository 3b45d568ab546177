//! `backup diff`: whether two copies, or databases, hold the same, and where they differ.

use std::path::Path;

use serde_json::{Value, json};
use strandline::{CheckpointRef, Database, KeyRange, Options, StateDiff, TableDiff, View};

use crate::copy_args::BackupDiffArgs;
use crate::report::{Failure, Outcome, Voice, While, say};
use crate::text::Encoding;

/// Silent, exit 0, if both hold the same; else a line per difference, exit 1.
pub fn diff(voice: Voice, args: &BackupDiffArgs) -> Outcome {
    let (first, second) = (open(&args.first)?, open(&args.second)?);
    let (a, b) = (view(&first, &args.first)?, view(&second, &args.second)?);
    let found = match (&a, &b) {
        (Some(a), Some(b)) => a.diff(b).with(args.first.display())?,
        // Without any checkpoint there is nothing in it.
        (a, b) => StateDiff { only_first: tables(a), only_second: tables(b), tables: Vec::new() },
    };
    if voice.json {
        say(serde_json::to_string_pretty(&as_json(&found)).unwrap_or_default())?;
    } else {
        tell(args, &found)?;
    }
    if found.is_same() { Ok(()) } else { Err(Failure::Told) }
}

fn open(dir: &Path) -> Outcome<Database> {
    Options::new().read_only(true).open(dir).with(dir.display())
}

fn view(db: &Database, dir: &Path) -> Outcome<Option<View>> {
    match db.view(CheckpointRef::Latest) {
        Ok(view) => Ok(Some(view)),
        Err(e) if e.kind() == strandline::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with(dir.display()),
    }
}

fn tables(view: &Option<View>) -> Vec<String> {
    view.iter().flat_map(View::tables).map(|table| table.name).collect()
}

fn tell(args: &BackupDiffArgs, found: &StateDiff) -> Outcome {
    let only = |name: &String, dir: &Path| say(format!("table:{name}: only in {}", dir.display()));
    found.only_first.iter().try_for_each(|name| only(name, &args.first))?;
    found.only_second.iter().try_for_each(|name| only(name, &args.second))?;
    for table in &found.tables {
        say(format!(
            "table:{}: {} values differ, {} keys only in {}, {} only in {}",
            table.name,
            table.values,
            table.only_first,
            args.first.display(),
            table.only_second,
            args.second.display()
        ))?;
        for range in &table.ranges {
            say(format!("\t{}", as_text(range)))?;
        }
        if told(table) < table.values + table.only_first + table.only_second {
            say("\t...")?;
        }
    }
    Ok(())
}

fn told(table: &TableDiff) -> u64 {
    table.ranges.iter().map(|range| range.keys).sum()
}

fn as_text(range: &KeyRange) -> String {
    let (first, last) = (print_text(&range.first), print_text(&range.last));
    if range.keys == 1 { first } else { format!("{first} to {last}, {} keys", range.keys) }
}

fn as_json(found: &StateDiff) -> Value {
    let tables: Vec<_> = found
        .tables
        .iter()
        .map(|table| {
            let range =
                |r: &KeyRange| json!({ "first": print_text(&r.first), "last": print_text(&r.last), "keys": r.keys });
            json!({
                "table": table.name,
                "values": table.values,
                "only_first": table.only_first,
                "only_second": table.only_second,
                "ranges": table.ranges.iter().map(range).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "same": found.is_same(), "only_first": found.only_first, "only_second": found.only_second, "tables": tables })
}

/// A key as a dump prints it.
fn print_text(key: &[u8]) -> String {
    let mut out = Vec::new();
    Encoding::Print.encode(key, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
