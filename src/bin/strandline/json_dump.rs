//! The JSON form of a dump: writing tables and rows, and reading them back as a stream of events.
//!
//! ```text
//! {
//!     "WiredTiger Dump Version" : "1 (Strandline 0.1.0)",
//!     "table:people" : [
//!         {
//!             "config" : "key_format=S,value_format=S",
//!             "colgroups" : [],
//!             "indices" : []
//!         },
//!         {
//!             "data" : [
//! {
//! "key0" : "ann",
//! "value0" : "paris"
//! }
//!             ]
//!         }
//!     ]
//! }
//! ```
//!
//! White space is free on the way in; the order of the members is not, except inside a row: a table must be declared
//! before its rows come, since nothing is held back.

use std::io::{self, BufRead, Write};

use strandline::{Error, ErrorKind, Result};

use crate::json_text::{Token, Tokens, put_string};
use crate::packing::{Format, Value};
use crate::schema::Schema;

const VERSION_KEY: &str = "WiredTiger Dump Version";

/// Writes what comes before the first table.
pub fn begin(out: &mut impl Write) -> io::Result<()> {
    write!(out, "{{\n    \"{VERSION_KEY}\" : \"1 (Strandline {})\"", env!("CARGO_PKG_VERSION"))
}

/// Writes what comes before the rows of a table.
pub fn begin_table(out: &mut impl Write, name: &str, config: &str) -> io::Result<()> {
    let quoted = |text: &str| {
        let mut bytes = Vec::new();
        put_string(text.as_bytes(), true, &mut bytes);
        bytes
    };
    out.write_all(b",\n    ")?;
    out.write_all(&quoted(name))?;
    out.write_all(b" : [\n        {\n            \"config\" : ")?;
    out.write_all(&quoted(config))?;
    out.write_all(b",\n            \"colgroups\" : [],\n            \"indices\" : []\n        },\n")?;
    out.write_all(b"        {\n            \"data\" : [")
}

/// Writes what comes after the rows of a table.
pub fn end_table(out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"\n            ]\n        }\n    ]")
}

/// Writes what comes after the last table.
pub fn end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"\n}\n")
}

/// Appends one row; `first` says that none came before it in this table.
pub fn put_row(schema: &Schema, key: &[u8], value: &[u8], first: bool, out: &mut Vec<u8>) -> Result<()> {
    out.extend_from_slice(if first { b"\n{" } else { b",\n{" });
    let mut member_before = false;
    put_members(&schema.key, &schema.key_names(), key, &mut member_before, out)?;
    put_members(&schema.value, &schema.value_names(), value, &mut member_before, out)?;
    out.extend_from_slice(b"\n}");
    Ok(())
}

fn put_members(format: &Format, names: &[String], item: &[u8], before: &mut bool, out: &mut Vec<u8>) -> Result<()> {
    let kinds = format.columns().iter().filter(|kind| kind.has_value());
    for ((value, kind), name) in format.unpack(item)?.iter().zip(kinds).zip(names) {
        out.extend_from_slice(if std::mem::replace(before, true) { b",\n" } else { b"\n" });
        put_string(name.as_bytes(), true, out);
        out.extend_from_slice(b" : ");
        match value {
            Value::Bytes(bytes) => put_string(bytes, kind.is_text(), out),
            number => out.extend_from_slice(number.to_string().as_bytes()),
        }
    }
    Ok(())
}

/// What a reader of a dump does with it.
pub trait Sink {
    /// A table begins: the names and config texts of the table and of what belongs to it.
    fn table(&mut self, header: Vec<(String, String)>) -> Result<Schema>;
    /// A row of the table begun last.
    fn row(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<()>;
}

/// Reads a whole dump into `sink`.
pub fn read<R: BufRead>(tokens: &mut Tokens<R>, sink: &mut impl Sink) -> Result<()> {
    tokens.mark(b'{')?;
    if tokens.words("the dump's version")? != VERSION_KEY {
        return Err(tokens
            .complain("input does not match WiredTiger JSON dump format")
            .remedy(format!("the first member is \"{VERSION_KEY}\"")));
    }
    tokens.mark(b':')?;
    let version = tokens.words("the dump's version")?;
    check_version(tokens, &version)?;
    while tokens.more(b'}')? {
        let name = tokens.words("the name of a table")?;
        tokens.mark(b':')?;
        tokens.mark(b'[')?;
        let header = read_header(tokens, name)?;
        let schema = sink.table(header)?;
        tokens.mark(b',')?;
        read_data(tokens, &schema, sink)?;
        tokens.mark(b']')?;
    }
    match tokens.next()? {
        None => Ok(()),
        Some(stray) => Err(tokens.complain(format!("{stray} after the end of the dump"))),
    }
}

fn check_version<R: BufRead>(tokens: &Tokens<R>, version: &str) -> Result<()> {
    let number = version.split([' ', '(']).next().unwrap_or_default();
    match number.parse::<u64>() {
        Ok(1) => Ok(()),
        Ok(n) if n > 1 => Err(Error::new(ErrorKind::Unsupported, format!("version {n} of the JSON dump format"))
            .remedy("make the dump with an older release, or without -j")),
        _ => Err(tokens.complain(format!("`{version}` is no version of the JSON dump format"))),
    }
}

/// The first element of a table: its config, groups and indexes.
fn read_header<R: BufRead>(tokens: &mut Tokens<R>, name: String) -> Result<Vec<(String, String)>> {
    let (mut config, mut parts) = (None, Vec::new());
    tokens.mark(b'{')?;
    loop {
        let member = tokens.words("`config`, `colgroups` or `indices`")?;
        tokens.mark(b':')?;
        match member.as_str() {
            "config" => config = Some(tokens.words("config text")?),
            "colgroups" | "indices" => read_parts(tokens, &mut parts)?,
            other => return Err(tokens.complain(format!("unknown member `{other}` of a table"))),
        }
        if !tokens.more(b'}')? {
            break;
        }
    }
    let config = config.ok_or_else(|| tokens.complain("a table without `config`"))?;
    parts.insert(0, (name, config));
    Ok(parts)
}

fn read_parts<R: BufRead>(tokens: &mut Tokens<R>, parts: &mut Vec<(String, String)>) -> Result<()> {
    tokens.mark(b'[')?;
    let mut open = match tokens.need("`{` or `]`")? {
        Token::Mark(b'{') => true,
        Token::Mark(b']') => false,
        other => return Err(tokens.complain(format!("`{{` or `]` was expected, not {other}"))),
    };
    while open {
        let (mut name, mut config) = (None, None);
        loop {
            let member = tokens.words("`uri` or `config`")?;
            tokens.mark(b':')?;
            match member.as_str() {
                "uri" => name = Some(tokens.words("a name")?),
                "config" => config = Some(tokens.words("config text")?),
                other => return Err(tokens.complain(format!("unknown member `{other}`"))),
            }
            if !tokens.more(b'}')? {
                break;
            }
        }
        match (name, config) {
            (Some(name), Some(config)) => parts.push((name, config)),
            _ => return Err(tokens.complain("`uri` and `config` are needed")),
        }
        open = tokens.more(b']')?;
        if open {
            tokens.mark(b'{')?;
        }
    }
    Ok(())
}

/// The second element of a table: its rows.
fn read_data<R: BufRead>(tokens: &mut Tokens<R>, schema: &Schema, sink: &mut impl Sink) -> Result<()> {
    tokens.mark(b'{')?;
    if tokens.words("`data`")? != "data" {
        return Err(tokens.complain("`data` was expected"));
    }
    tokens.mark(b':')?;
    tokens.mark(b'[')?;
    let names = (schema.key_names(), schema.value_names());
    match tokens.need("`{` or `]`")? {
        Token::Mark(b']') => {}
        Token::Mark(b'{') => loop {
            let mut members = read_row(tokens)?;
            let key = pack_members(tokens, &schema.key, &names.0, &mut members)?;
            let value = pack_members(tokens, &schema.value, &names.1, &mut members)?;
            if let Some((stray, _)) = members.first() {
                return Err(tokens.complain(format!("the table has no column `{stray}`")));
            }
            sink.row(key, value)?;
            if !tokens.more(b']')? {
                break;
            }
            tokens.mark(b'{')?;
        },
        other => return Err(tokens.complain(format!("`{{` or `]` was expected, not {other}"))),
    }
    tokens.mark(b'}')
}

/// The members of a row whose opening brace has been read.
fn read_row<R: BufRead>(tokens: &mut Tokens<R>) -> Result<Vec<(String, Value)>> {
    let mut members = Vec::new();
    loop {
        let name = tokens.words("the name of a column")?;
        tokens.mark(b':')?;
        let value = match tokens.need("a value")? {
            Token::Text(text) => Value::Bytes(text),
            Token::Number(n) => number(n).ok_or_else(|| tokens.complain(format!("{n} does not fit in 64 bits")))?,
            other => return Err(tokens.complain(format!("a string or a number was expected, not {other}"))),
        };
        members.push((name, value));
        if !tokens.more(b'}')? {
            return Ok(members);
        }
    }
}

fn number(n: i128) -> Option<Value> {
    i64::try_from(n).map(Value::Signed).or_else(|_| u64::try_from(n).map(Value::Unsigned)).ok()
}

fn pack_members<R: BufRead>(
    tokens: &Tokens<R>,
    format: &Format,
    names: &[String],
    members: &mut Vec<(String, Value)>,
) -> Result<Vec<u8>> {
    let mut values = Vec::with_capacity(names.len());
    for name in names {
        let at = members.iter().position(|(n, _)| n == name);
        let at = at.ok_or_else(|| tokens.complain(format!("a row without column `{name}`")))?;
        values.push(members.remove(at).1);
    }
    format.pack(&values).map_err(|e| match e.remedy_text() {
        Some(remedy) => tokens.complain(e.message()).remedy(remedy),
        None => tokens.complain(e.message()),
    })
}

/// A key written as members of a row, such as `"key0" : "ann"`, with or without braces.
pub fn key_from_text(schema: &Schema, text: &str) -> Result<Vec<u8>> {
    let inner = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
    let line = format!("{inner}}}");
    let mut tokens = Tokens::new(line.as_bytes(), std::path::Path::new("key"));
    let mut members = read_row(&mut tokens)?;
    let key = pack_members(&tokens, &schema.key, &schema.key_names(), &mut members)?;
    match (members.first(), tokens.next()?) {
        (None, None) => Ok(key),
        _ => Err(tokens.complain("the key has more than its columns")),
    }
}

/// Whether a kind of column can be given to [`key_from_text`] only, since the text is JSON.
pub fn looks_like_members(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with('{') || (text.starts_with('"') && text.contains(':'))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[derive(Default)]
    struct Kept {
        tables: Vec<Vec<(String, String)>>,
        rows: Vec<(Vec<u8>, Vec<u8>)>,
    }

    impl Sink for Kept {
        fn table(&mut self, header: Vec<(String, String)>) -> Result<Schema> {
            let schema = Schema::parse(&header[0].1)?;
            self.tables.push(header);
            Ok(schema)
        }

        fn row(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<()> {
            self.rows.push((key, value));
            Ok(())
        }
    }

    fn read_all(text: &str) -> Result<Kept> {
        let mut kept = Kept::default();
        read(&mut Tokens::new(text.as_bytes(), Path::new("dump")), &mut kept)?;
        Ok(kept)
    }

    fn dump(config: &str, rows: &[(Vec<u8>, Vec<u8>)]) -> String {
        let schema = Schema::parse(config).unwrap();
        let mut out = Vec::new();
        begin(&mut out).unwrap();
        for name in ["table:a", "table:b\""] {
            begin_table(&mut out, name, &schema.config()).unwrap();
            for (i, (key, value)) in rows.iter().enumerate() {
                put_row(&schema, key, value, i == 0, &mut out).unwrap();
            }
            end_table(&mut out).unwrap();
        }
        end(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_byte_survives() {
        let all: Vec<u8> = (0..=255).collect();
        let text: Vec<u8> = (1..=255).chain([0]).collect();
        let rows = [(vec![0x81], [&[0x40][..], &text, &all].concat()), (vec![0x85], [&[0x8a][..], &[0], &[]].concat())];
        let text = dump("key_format=r,value_format=iSu,columns=(id,n,s,b)", &rows);
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["table:a"][1]["data"][1]["n"], 10);
        let kept = read_all(&text).unwrap();
        assert_eq!(kept.tables.len(), 2);
        assert_eq!(kept.tables[1][0].0, "table:b\"");
        assert_eq!(kept.rows[..2], rows);
        assert_eq!(kept.rows[2..], rows);
    }

    #[test]
    fn empty_tables_and_free_space() {
        assert_eq!(read_all(&dump("", &[])).unwrap().tables.len(), 2);
        let text = r#"{"WiredTiger Dump Version":"1 (9)","table:t":[{"indices":[],"colgroups":[{"uri":"colgroup:t:a",
            "config":"x=y"}],"config":"key_format=S,value_format=S"},{"data":[{"value0":"v","key0":"k"}]}]}"#;
        let kept = read_all(text).unwrap();
        assert_eq!(kept.tables[0][1], ("colgroup:t:a".to_owned(), "x=y".to_owned()));
        assert_eq!(kept.rows, [(b"k\0".to_vec(), b"v\0".to_vec())]);
    }

    #[test]
    fn broken_dumps_fail_cleanly() {
        let whole = dump("key_format=S,value_format=S", &[(b"k\0".to_vec(), b"v\0".to_vec())]);
        let whole = whole.trim_end();
        for cut in 0..whole.len() {
            assert!(read_all(&whole[..cut]).is_err(), "{}", &whole[..cut]);
        }
        assert!(read_all(&format!("{whole},")).is_err());
        assert!(read_all(&whole.replace("\"key0\"", "\"other\"")).is_err());
        assert!(read_all(&whole.replace("\"v\"", "7")).is_err());
        assert_eq!(read_all(&whole.replace("\"1 (", "\"2 (")).err().unwrap().kind(), ErrorKind::Unsupported);
        assert_eq!(read_all("{\"table:t\":[]}").err().unwrap().kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn keys_as_members() {
        let schema = Schema::parse("key_format=Si,value_format=S").unwrap();
        let want = b"a\0\x85";
        assert_eq!(key_from_text(&schema, r#""key0" : "a", "key1" : 5"#).unwrap(), want);
        assert_eq!(key_from_text(&schema, r#"{"key0" : "a","key1" : 5}"#).unwrap(), want);
        assert!(key_from_text(&schema, r#""key0" : "a""#).is_err());
        assert!(looks_like_members(r#" "key0" : "a""#) && !looks_like_members("a\\00"));
    }
}
