//! `printlog`: the records of the log as JSON, one object for each, in their order.
//!
//! The log is read as it stands in its files: nothing is recovered, nothing is changed. User data are left out unless they
//! are asked for, so that a log can be shown to somebody who must not see them. Damage does not end the printing: it is told
//! on standard error, what can be read after it follows, and the exit code is 1. What is printed is JSON in any case.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use strandline::inspect::{LogEntry, LogReader};
use strandline::manifest::LOCK_FILE;
use strandline::record::{CommitRecord, Op, Record, SchemaChange};
use strandline::{Error, ErrorKind, Lsn, TableId};
use strandline_vfs::os::OsVfs;
use strandline_vfs::{Lock, Vfs};

use crate::args::PrintlogArgs;
use crate::home::{Home, usage};
use crate::json_text::put_string;
use crate::report::{Failure, Outcome, While};
use crate::text::Encoding;

/// `printlog`
pub fn printlog(home: &Home, args: &PrintlogArgs) -> Outcome {
    let range = match args.range.as_deref().map(log_range) {
        Some(None) => return usage("printlog", "-l takes FILE,OFFSET or FILE,OFFSET,FILE,OFFSET"),
        range => range.flatten(),
    };
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
    let shown = home.path.display().to_string();
    let _lock = lock(&*vfs, &home.path).with(&shown)?;
    let mut log = LogReader::open(&vfs, &home.path).map_err(|error| home.hinted(error)).with(&shown)?;
    if let Some((first, last)) = range {
        log = log.between(first, last).with("-l")?;
    }
    let target = args.file.as_ref().map_or("standard output".into(), |path| path.display().to_string());
    let out: Box<dyn Write> = match &args.file {
        Some(path) => Box::new(File::create(path).with(&target)?),
        None => Box::new(io::stdout().lock()),
    };
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let whole =
        if args.messages { texts(home, log, &mut out, &target) } else { all(home, args, log, &mut out, &target) };
    let whole = whole?;
    out.flush().with(&target)?;
    if whole { Ok(()) } else { Err(Failure::Told) }
}

/// A database that somebody else has open is left alone: its segments come and go.
fn lock(vfs: &dyn Vfs, home: &Path) -> strandline::Result<Option<Box<dyn Lock>>> {
    let path = home.join(LOCK_FILE);
    if !path.exists() {
        return Ok(None);
    }
    match vfs.lock(&path) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            Err(Error::new(ErrorKind::Busy, "another owner has the database open").remedy("close it there first"))
        }
        // Where nothing can be written nobody else can own it either.
        other => Ok(other.ok()),
    }
}

/// All records as a JSON array; false when something was wrong on the way.
fn all(home: &Home, args: &PrintlogArgs, mut log: LogReader, out: &mut impl Write, target: &str) -> Outcome<bool> {
    let (mut whole, mut object, mut between) = (true, Vec::new(), "\n");
    out.write_all(b"[").with(target)?;
    for entry in &mut log {
        object.clear();
        let put = entry.and_then(|entry| put_entry(&entry, args, &mut object));
        if let Err(error) = put {
            home.voice.problem(&home.path.display().to_string(), &error);
            whole = false;
            continue;
        }
        out.write_all(between.as_bytes()).with(target)?;
        out.write_all(&object).with(target)?;
        between = ",\n";
    }
    out.write_all(b"\n]\n").with(target)?;
    tell_torn(home, &log);
    Ok(whole)
}

/// The texts of the messages, one a line; false when something was wrong on the way.
fn texts(home: &Home, mut log: LogReader, out: &mut impl Write, target: &str) -> Outcome<bool> {
    let mut whole = true;
    for entry in &mut log {
        let written = entry.and_then(|entry| match entry.record()? {
            Record::Message(text) => Ok(Some(writeln!(out, "{text}"))),
            _ => Ok(None),
        });
        match written {
            Ok(done) => done.transpose().with(target).map(|_| ())?,
            Err(error) => {
                home.voice.problem(&home.path.display().to_string(), &error);
                whole = false;
            }
        }
    }
    tell_torn(home, &log);
    Ok(whole)
}

/// A torn tail is what the death of a process may leave, and no problem.
fn tell_torn(home: &Home, log: &LogReader) {
    if let Some(torn) = log.torn() {
        let what = format!("the log ends at {} with what was never finished: {}", torn.lsn, torn.what);
        home.voice.warning(&log.dir().display().to_string(), &what);
    }
}

/// The object of one record.
fn put_entry(entry: &LogEntry, args: &PrintlogArgs, out: &mut Vec<u8>) -> strandline::Result<()> {
    let (lsn, bytes) = (entry.lsn(), entry.bytes());
    let record = entry.record()?;
    let kind = match &record {
        Record::Commit(_) => "commit",
        Record::Schema { .. } => "schema",
        Record::Checkpoint { .. } => "checkpoint",
        Record::Message(_) => "message",
    };
    put(
        out,
        format_args!(
            "  {{ \"lsn\" : [{},{}], \"hdr_flags\" : \"\", \"rec_len\" : {bytes}, \"mem_len\" : {bytes}, \"type\" : \"{kind}\"",
            lsn.segment, lsn.offset
        ),
    );
    match record {
        Record::Commit(commit) => put_commit(commit, args, out).map_err(|error| entry.placed(error))?,
        Record::Schema { seq, change } => {
            put(out, format_args!(", \"sequence\" : \"{seq}\""));
            put_change(&change, out);
        }
        Record::Checkpoint { seq, position } => put(
            out,
            format_args!(", \"sequence\" : \"{seq}\", \"ckpt_lsn\" : [{},{}]", position.segment, position.offset),
        ),
        Record::Message(text) => put_text("message", text, out),
    }
    out.extend_from_slice(b" }");
    Ok(())
}

fn put_commit(commit: CommitRecord<'_>, args: &PrintlogArgs, out: &mut Vec<u8>) -> strandline::Result<()> {
    put(out, format_args!(", \"txnid\" : {},\n    \"ops\": [", commit.txn));
    let mut between = "\n";
    for op in commit.ops() {
        let (table, op) = op?;
        let (kind, items) = match op {
            Op::Put { key, value } => ("row_put", vec![("key", key), ("value", value)]),
            Op::Remove { key } => ("row_remove", vec![("key", key)]),
        };
        put(out, format_args!("{between}      {{ \"optype\": \"{kind}\""));
        put_table(table, out);
        if args.user_data {
            items.iter().for_each(|(name, item)| put_item(name, item, args.hex, out));
        } else {
            out.extend_from_slice(b", \"redacted\": true");
        }
        out.extend_from_slice(b" }");
        between = ",\n";
    }
    out.extend_from_slice(b"\n    ]");
    Ok(())
}

fn put_table(table: TableId, out: &mut Vec<u8>) {
    put(out, format_args!(", \"fileid\": {0}, \"fileid-hex\": \"{0:#x}\"", table.0));
}

/// A key or a value: bytes, hence one `\u00xx` for each that is not printable.
fn put_item(name: &str, item: &[u8], hex: bool, out: &mut Vec<u8>) {
    put(out, format_args!(", \"{name}\": "));
    put_string(item, true, out);
    if hex {
        put(out, format_args!(", \"{name}-hex\": \""));
        Encoding::Hex.encode(item, out);
        out.push(b'"');
    }
}

fn put_change(change: &SchemaChange, out: &mut Vec<u8>) {
    let kind = match change {
        SchemaChange::Create { .. } => "create",
        SchemaChange::Rename { .. } => "rename",
        SchemaChange::Drop { .. } => "drop",
        SchemaChange::Log { .. } => "log",
    };
    put(out, format_args!(", \"change\" : \"{kind}\""));
    put_table(change.table(), out);
    match change {
        SchemaChange::Create { name, config, log, .. } => {
            put_text("name", name, out);
            put_text("config", config, out);
            put(out, format_args!(", \"log\" : {log}"));
        }
        SchemaChange::Rename { name, .. } => put_text("name", name, out),
        SchemaChange::Drop { .. } => {}
        SchemaChange::Log { on, .. } => put(out, format_args!(", \"log\" : {on}")),
    }
}

/// Text is Unicode, unlike items.
fn put_text(name: &str, text: &str, out: &mut Vec<u8>) {
    put(out, format_args!(", \"{name}\" : {}", serde_json::Value::from(text)));
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    let _ = out.write_fmt(text);
}

/// The operand of `-l`: a place, or two.
fn log_range(text: &str) -> Option<(Lsn, Option<Lsn>)> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
    match numbers.as_deref() {
        Ok(&[segment, offset]) => Some((Lsn { segment, offset }, None)),
        Ok(&[segment, offset, last, end]) => Some((Lsn { segment, offset }, Some(Lsn { segment: last, offset: end }))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_one_place_or_two() {
        let (first, last) = (Lsn { segment: 1, offset: 512 }, Lsn { segment: 3, offset: 4096 });
        assert_eq!(log_range("1,512").unwrap(), (first, None));
        assert_eq!(log_range("1,512,3,4096").unwrap(), (first, Some(last)));
        for bad in ["", "1", "1,2,3", "1,2,3,4,5", "a,b", "-1,2", "1,4294967296", "1 ,2"] {
            assert!(log_range(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn items_and_text_are_json_whatever_is_in_them() {
        let hostile: Vec<u8> = (0..=255).collect();
        let mut out = b"{ \"a\": 1".to_vec();
        put_item("key", &hostile, true, &mut out);
        put_text("name", "\"\\\u{0}\u{7f}\u{2028}\u{e9}\n", &mut out);
        out.push(b'}');
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let key: Vec<u8> = json["key"].as_str().unwrap().chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        assert_eq!(key, hostile);
        assert_eq!(json["key-hex"].as_str().unwrap().len(), 512);
        assert_eq!(json["name"], "\"\\\u{0}\u{7f}\u{2028}\u{e9}\n");
    }
}
