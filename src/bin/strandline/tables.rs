//! Commands about tables as a whole: create, drop, rename, truncate, and the listing of them.

use serde_json::json;
use strandline::{CheckpointInfo, Database, Error, ErrorKind, Table, TableInfo, TableOptions};

use crate::args::{CreateArgs, DropArgs, ListArgs, ObjectArg, RenameArgs};
use crate::config::Config;
use crate::home::{Home, table_name};
use crate::report::{Outcome, While, say};
use crate::schema::Schema;

/// `create`
pub fn create(home: &Home, args: &CreateArgs) -> Outcome {
    let name = table_name(&args.object)?;
    let object = format!("table:{name}");
    let config = settled(&object, Config::parse(&args.config).with(&object)?)?;
    let db = home.create()?;
    ensure(&db, name, config)?;
    home.close(db)
}

/// The config with nothing in it that nobody knows.
pub fn settled(object: &str, mut config: Config) -> Outcome<Config> {
    match config.settle().with(object)?.first() {
        None => Ok(config),
        Some(key) => Err(Error::invalid(format!("unknown key `{key}` in the config"))
            .remedy("known are key_format, value_format, columns, app_metadata and the settings of `wt create`"))
        .with(object),
    }
}

/// Creates a table, or finds that it is there with the same formats. Formats that the config does not name are taken as
/// they are there.
pub fn ensure(db: &Database, name: &str, config: Config) -> Outcome<(Table, Schema)> {
    let object = format!("table:{name}");
    if let Some(info) = db.tables().with(&object)?.into_iter().find(|info| info.name == name) {
        let existing = Schema::of(&info).with(&object)?;
        agree(&existing, &config).with(&object)?;
        return Ok((db.table(name).with(&object)?, existing));
    }
    let schema = Schema::new(config).with(&object)?;
    let mut options = TableOptions::new().config(schema.config());
    if let Some(logged) = schema.logged().with(&object)? {
        options = options.log(logged);
    }
    Ok((db.create_table(name, options).with(&object)?, schema))
}

fn agree(existing: &Schema, wanted: &Config) -> strandline::Result<()> {
    for (key, there) in [("key_format", existing.key.text()), ("value_format", existing.value.text())] {
        let given = wanted.text(key);
        if wanted.raw(key).is_some() && given != there {
            return Err(Error::invalid(format!("the table exists, with {key}={there}, not {given}"))
                .remedy("drop the table first, or choose another name"));
        }
    }
    Ok(())
}

/// A table that must be there, and its schema.
pub fn find(db: &Database, name: &str) -> Outcome<(Table, Schema)> {
    let object = format!("table:{name}");
    let tables = db.tables().with(&object)?;
    let Some(info) = tables.into_iter().find(|info| info.name == name) else {
        return Err(missing()).with(&object);
    };
    Ok((db.table(name).with(&object)?, Schema::of(&info).with(&object)?))
}

/// What to say about a table that is not there.
pub fn missing() -> Error {
    Error::new(ErrorKind::NotFound, "no such table").remedy("`strandline list` shows the tables; -h names the database")
}

/// `drop`
pub fn drop(home: &Home, args: &DropArgs) -> Outcome {
    let name = table_name(&args.object)?;
    let db = home.write()?;
    match db.drop_table(name, args.force) {
        Err(error) if args.force && error.kind() == ErrorKind::NotFound => {}
        other => other.with(format_args!("table:{name}"))?,
    }
    home.close(db)
}

/// `rename`
pub fn rename(home: &Home, args: &RenameArgs) -> Outcome {
    let (from, to) = (table_name(&args.object)?, table_name(&args.new_name)?);
    let db = home.write()?;
    db.rename_table(from, to).with(format_args!("table:{from}"))?;
    home.close(db)
}

/// `truncate`
pub fn truncate(home: &Home, args: &ObjectArg) -> Outcome {
    let name = table_name(&args.object)?;
    let object = format!("table:{name}");
    let db = home.write()?;
    let (table, _) = find(&db, name)?;
    let removed = remove_all(&db, &table).with(&object)?;
    home.voice.step(format_args!("Removed {removed} rows of {object}"))?;
    home.close(db)
}

/// Removes all rows, a batch to a transaction, so that a table may be larger than memory. The batches become durable
/// together, by the checkpoint that closing takes.
fn remove_all(db: &Database, table: &Table) -> strandline::Result<u64> {
    const ROWS_PER_COMMIT: usize = 20_000;
    let mut removed = 0;
    loop {
        let mut transaction = db.begin()?;
        let last = transaction.scan(table)?.take(ROWS_PER_COMMIT).last().transpose()?;
        let Some((last, _)) = last else { return Ok(removed) };
        removed += transaction.truncate(table, ..=last)?;
        transaction.commit()?;
    }
}

/// `list`
pub fn list(home: &Home, args: &ListArgs) -> Outcome {
    let db = home.read()?;
    let prefix = args.prefix.as_deref().unwrap_or_default();
    let mut tables = db.tables().with("list")?;
    tables.retain(|info| object_of(info).starts_with(prefix));
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    if tables.is_empty() && args.prefix.is_some() {
        return Err(Error::new(ErrorKind::NotFound, "not found")).with(prefix);
    }
    let checkpoints = db.checkpoints().with("list")?;
    if home.voice.json {
        let all: Vec<_> = tables.iter().map(|info| as_json(info, &checkpoints)).collect();
        return say(serde_json::to_string_pretty(&all).unwrap_or_default());
    }
    for (i, info) in tables.iter().enumerate() {
        if args.checkpoints && i > 0 {
            say("")?;
        }
        say(object_of(info))?;
        if home.voice.verbose {
            say(config_of(info)?)?;
        }
        if args.checkpoints {
            list_checkpoints(&checkpoints)?;
        }
    }
    home.close(db)
}

fn object_of(info: &TableInfo) -> String {
    format!("table:{}", info.name)
}

fn config_of(info: &TableInfo) -> Outcome<String> {
    Ok(Schema::of(info).with(object_of(info))?.config())
}

/// The checkpoints of a database hold all of its tables, so every table lists the same ones.
fn list_checkpoints(checkpoints: &[CheckpointInfo]) -> Outcome {
    let names: Vec<String> = checkpoints.iter().map(shown_name).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) + 1;
    for (info, name) in checkpoints.iter().zip(&names) {
        say(format_args!("\t{name:>width$}: {} (size {})", date(info.time_ms), size(info.bytes)))?;
        say(format_args!("\t\tsequence: {}, stable: 0, pinned-by: {}", info.seq, pinned_by(info)))?;
    }
    Ok(())
}

fn shown_name(info: &CheckpointInfo) -> String {
    info.name.clone().unwrap_or_else(|| format!("StrandlineCheckpoint.{}", info.seq))
}

fn as_json(info: &TableInfo, checkpoints: &[CheckpointInfo]) -> serde_json::Value {
    let checkpoints: Vec<_> = checkpoints
        .iter()
        .map(|checkpoint| {
            json!({
                "name": shown_name(checkpoint),
                "sequence": checkpoint.seq.to_string(),
                "time": checkpoint.time_ms,
                "size": checkpoint.bytes,
                "stable": 0,
                "pinned_by": pinned_by(checkpoint),
            })
        })
        .collect();
    json!({ "name": object_of(info), "config": config_of(info).unwrap_or_default(), "checkpoints": checkpoints })
}

/// What keeps a checkpoint: a backup, a view, or nothing but its name or being the newest.
fn pinned_by(info: &CheckpointInfo) -> &'static str {
    info.pinned_by.iter().max().map_or("none", |kind| kind.as_str())
}

/// Local time in the C locale: `Fri Nov 20 09:08:15 2026`.
fn date(time_ms: u64) -> String {
    let known = i64::try_from(time_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match known {
        Some(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%a %b %e %H:%M:%S %Y").to_string(),
        None => "at an unknown time".to_owned(),
    }
}

/// Bytes in the largest unit that leaves a whole number, cut.
fn size(bytes: u64) -> String {
    let units = ["B", "KB", "MB", "GB", "TB", "PB"];
    let unit = (0..units.len()).rev().find(|&i| bytes >> (10 * i) > 0).unwrap_or(0);
    format!("{} {}", bytes >> (10 * unit), units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_cut_to_whole_units() {
        for (bytes, want) in [(0, "0 B"), (1023, "1023 B"), (8192, "8 KB"), (2047, "1 KB"), (5 << 40, "5 TB")] {
            assert_eq!(size(bytes), want);
        }
        assert_eq!(size(u64::MAX), "16383 PB");
    }

    #[test]
    fn dates_have_the_form_of_the_c_locale() {
        let text = date(1_795_165_695_000);
        assert_eq!((text.len(), &text[text.len() - 4..]), (24, "2026"), "{text}");
    }

    #[test]
    fn formats_of_an_existing_table_must_agree() {
        let existing = Schema::parse("key_format=S,value_format=u").unwrap();
        let agrees = |config: &str| agree(&existing, &Config::parse(config).unwrap()).is_ok();
        assert!(agrees("") && agrees("key_format=S") && agrees("value_format=u,app_metadata=x"));
        assert!(!agrees("key_format=u") && !agrees("key_format=S,value_format=S"));
    }
}
