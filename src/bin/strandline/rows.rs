//! Commands about single rows: read, write, loadtext.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use strandline::{Database, Error, ErrorKind, Table, Transaction};

use crate::args::{LoadtextArgs, ReadArgs, WriteArgs};
use crate::home::{Home, table_name, usage};
use crate::packing::{Kind, put_unsigned};
use crate::report::{Failure, Outcome, While};
use crate::schema::{Schema, item_from_argument, item_to_line, record_of};
use crate::tables::find;

/// The message about a key that must not be there; the words are those of `wt`.
pub const EXISTING_KEY: &str = "attempt to insert an existing key";

/// `read`
pub fn read(home: &Home, args: &ReadArgs) -> Outcome {
    let (object, keys) = split_object("read", &args.operands)?;
    let name = table_name(object)?;
    let object = &format!("table:{name}");
    let db = home.read()?;
    let (table, schema) = find(&db, name)?;
    let transaction = db.begin().with(object)?;
    let mut all_found = true;
    for argument in keys {
        let shown = argument.to_string_lossy();
        let key = item_from_argument(&schema.key, "key", argument.as_bytes()).with(object)?;
        match transaction.get(&table, &key).with(object)? {
            Some(value) => {
                let mut line = Vec::new();
                item_to_line(&schema.value, value.as_ref(), &mut line).with(object)?;
                line.push(b'\n');
                io::stdout().lock().write_all(&line).with("standard output")?;
            }
            None => {
                home.voice.problem(&shown, &Error::new(ErrorKind::NotFound, "not found"));
                all_found = false;
            }
        }
    }
    drop(transaction);
    home.close(db)?;
    if all_found { Ok(()) } else { Err(Failure::Told) }
}

/// The object and the operands after it.
fn split_object<'a>(command: &'static str, operands: &'a [OsString]) -> Outcome<(&'a str, &'a [OsString])> {
    match operands.split_first() {
        Some((object, rest)) if !rest.is_empty() => match object.to_str() {
            Some(object) => Ok((object, rest)),
            None => usage(command, "the object's name is not UTF-8"),
        },
        _ => usage(command, "an object and at least one key are needed"),
    }
}

/// `write`
pub fn write(home: &Home, args: &WriteArgs) -> Outcome {
    let (object, operands) = split_object("write", &args.operands)?;
    if args.remove && operands.len() != 1 {
        return usage("write", "`write -r` takes an object and one key");
    }
    if !args.remove && !args.append && operands.len() % 2 != 0 {
        return usage("write", "`write` takes an object, then keys and values in turn");
    }
    let name = table_name(object)?;
    let object = &format!("table:{name}");
    let db = home.create()?;
    let (table, schema) = find(&db, name)?;
    let mut transaction = db.begin().with(object)?;
    if args.remove {
        remove(&mut transaction, &table, &schema, &operands[0])?;
    } else if args.append {
        append(&mut transaction, &table, &schema, object, operands)?;
    } else {
        insert(&mut transaction, &table, &schema, object, operands, args.overwrite)?;
    }
    transaction.commit().with(object)?;
    home.close(db)
}

fn remove(transaction: &mut Transaction<'_>, table: &Table, schema: &Schema, argument: &OsString) -> Outcome {
    let shown = argument.to_string_lossy();
    let key = item_from_argument(&schema.key, "key", argument.as_bytes()).with(&shown)?;
    match transaction.delete(table, &key).with(&shown)? {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::NotFound, "not found")).with(shown),
    }
}

fn append(
    transaction: &mut Transaction<'_>,
    table: &Table,
    schema: &Schema,
    object: &str,
    values: &[OsString],
) -> Outcome {
    let mut number = last_record(transaction, table, schema).with(object)?;
    for argument in values {
        let value = item_from_argument(&schema.value, "value", argument.as_bytes()).with(object)?;
        number = number.checked_add(1).ok_or_else(no_number_left).with(object)?;
        let mut key = Vec::new();
        put_unsigned(&mut key, number);
        transaction.insert(table, &key, &value).with(object)?;
    }
    Ok(())
}

fn insert(
    transaction: &mut Transaction<'_>,
    table: &Table,
    schema: &Schema,
    object: &str,
    operands: &[OsString],
    overwrite: bool,
) -> Outcome {
    for pair in operands.chunks_exact(2) {
        let key = item_from_argument(&schema.key, "key", pair[0].as_bytes()).with(object)?;
        let value = item_from_argument(&schema.value, "value", pair[1].as_bytes()).with(object)?;
        put(transaction, table, &key, &value, overwrite).with(object)?;
    }
    Ok(())
}

/// Writes one row; without `overwrite` the key must be new.
pub fn put(
    transaction: &mut Transaction<'_>,
    table: &Table,
    key: &[u8],
    value: &[u8],
    overwrite: bool,
) -> strandline::Result<()> {
    if overwrite {
        return transaction.put(table, key, value);
    }
    transaction.insert(table, key, value).map_err(|error| match error.kind() {
        ErrorKind::Exists => Error::new(ErrorKind::Exists, EXISTING_KEY),
        _ => error,
    })
}

/// The highest record number of a table, 0 when it has none. The table must have keys of format `r`.
pub fn last_record(transaction: &Transaction<'_>, table: &Table, schema: &Schema) -> strandline::Result<u64> {
    if !schema.key.is_record_number() {
        return Err(Error::invalid(format!("cannot append: the key format is `{}`, not `r`", schema.key.text()))
            .remedy("leave out -a, and give the keys"));
    }
    match transaction.scan(table)?.next_back().transpose()? {
        Some((key, _)) => record_of(&schema.key, &key),
        None => Ok(0),
    }
}

/// What to say when the highest record number is taken.
pub fn no_number_left() -> Error {
    Error::new(ErrorKind::Full, "the highest record number is taken").remedy("load the rows into a new table")
}

/// `loadtext`
pub fn loadtext(home: &Home, args: &LoadtextArgs) -> Outcome {
    let name = table_name(&args.object)?;
    let (source, shown): (Box<dyn BufRead>, &Path) = match &args.file {
        Some(path) => (Box::new(BufReader::new(File::open(path).with(path.display())?)), path),
        None => (Box::new(io::stdin().lock()), Path::new("standard input")),
    };
    let db = home.write()?;
    let (table, schema) = find(&db, name)?;
    let columns = (schema.key.single(), schema.value.single());
    if !matches!(columns, (Some(Kind::Record | Kind::Text), Some(Kind::Text))) {
        let message = format!(
            "plain lines need keys of format r or S and values of format S, not `{}` and `{}`",
            schema.key.text(),
            schema.value.text()
        );
        return Err(Error::invalid(message).remedy("use load, which takes every format"))
            .with(format_args!("table:{name}"));
    }
    let mut lines = Lines { source, shown, count: 0 };
    let loaded = load_lines(&db, &table, &schema, &mut lines);
    // What was read before a bad line stays.
    home.close(db)?;
    home.voice.step(format_args!("Loaded {} rows into table:{}", loaded?, name))
}

struct Lines<'a> {
    source: Box<dyn BufRead>,
    shown: &'a Path,
    count: u64,
}

impl Lines<'_> {
    /// The next line, packed as text.
    fn next(&mut self) -> Outcome<Option<Vec<u8>>> {
        let mut line = Vec::new();
        if self.source.read_until(b'\n', &mut line).with(self.shown.display())? == 0 {
            return Ok(None);
        }
        self.count += 1;
        let complain = |what: &str| Error::invalid(format!("line {}: {what}", self.count));
        if line.pop() != Some(b'\n') {
            return Err(complain("no newline terminator").remedy("end the last line, too")).with(self.shown.display());
        }
        if line.contains(&0) {
            return Err(complain("a NUL byte in text")).with(self.shown.display());
        }
        line.push(0);
        Ok(Some(line))
    }
}

fn load_lines(db: &Database, table: &Table, schema: &Schema, lines: &mut Lines<'_>) -> Outcome<u64> {
    const ROWS_PER_COMMIT: u64 = 1000;
    let numbered = schema.key.is_record_number();
    let mut transaction = db.begin().with("begin")?;
    let mut number = if numbered { last_record(&transaction, table, schema).with("append")? } else { 0 };
    let mut rows = 0;
    let outcome = loop {
        let row = next_row(lines, numbered, &mut number);
        let (key, value) = match row {
            Ok(Some(row)) => row,
            Ok(None) => break Ok(rows),
            Err(failure) => break Err(failure),
        };
        transaction.put(table, &key, &value).with(lines.shown.display())?;
        rows += 1;
        if rows % ROWS_PER_COMMIT == 0 {
            transaction.commit().with("commit")?;
            transaction = db.begin().with("begin")?;
        }
    };
    transaction.commit().with("commit")?;
    outcome
}

/// A key and a value: two lines, or a fresh number and one line.
fn next_row(lines: &mut Lines<'_>, numbered: bool, number: &mut u64) -> Outcome<Option<(Vec<u8>, Vec<u8>)>> {
    let Some(first) = lines.next()? else { return Ok(None) };
    if numbered {
        *number = number.checked_add(1).ok_or_else(no_number_left).with("append")?;
        let mut key = Vec::new();
        put_unsigned(&mut key, *number);
        return Ok(Some((key, first)));
    }
    match lines.next()? {
        Some(second) => Ok(Some((first, second))),
        None => {
            Err(Error::invalid(format!("line {}: unexpected end-of-file", lines.count + 1))
                .remedy("a key has no value"))
            .with(lines.shown.display())
        }
    }
}
