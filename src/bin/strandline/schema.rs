//! The schema of a table: its formats, the names of its columns, and the config text that says both.
//!
//! The engine keeps a table's config text and hands it back; this file gives it meaning. A table whose config names no
//! formats is plain bytes: `u` for keys and for values. The text always comes out with both formats in it, so a dump
//! says what its items are.

use strandline::{Error, ErrorKind, Result, TableInfo};

use crate::config::Config;
use crate::packing::{Format, Value};
use crate::text::{Encoding, record_number};

/// What the items of a table are.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The format of the keys.
    pub key: Format,
    /// The format of the values.
    pub value: Format,
    /// Names of the columns that were named: of the key, then of the value. Empty when none was.
    columns: Vec<String>,
    config: Config,
}

impl Schema {
    /// The schema that settled config text declares.
    pub fn new(mut config: Config) -> Result<Self> {
        for format in ["key_format", "value_format"] {
            if config.text(format).is_empty() && (format == "key_format" || config.raw(format).is_none()) {
                config.set(format, "u");
            }
        }
        let key = Format::parse(&config.text("key_format"))?;
        let value = Format::parse(&config.text("value_format"))?;
        let columns = config.list("columns")?;
        check_columns(&columns, &key, &value)?;
        if !config.list("colgroups")?.is_empty() {
            return Err(Error::new(ErrorKind::Unsupported, "column groups are not supported yet")
                .remedy("leave out `colgroups`; the rows are kept whole"));
        }
        Ok(Self { key, value, columns, config })
    }

    /// The schema that a text declares.
    #[cfg(test)]
    pub fn parse(config: &str) -> Result<Self> {
        Self::new(Config::parse(config)?)
    }

    /// The schema of a table, with what its config text says of the log brought to what is.
    pub fn of(info: &TableInfo) -> Result<Self> {
        let mut config = Config::parse(&info.config)?;
        if logged(&config)?.unwrap_or(true) != info.logged {
            config.set("log", &format!("(enabled={})", info.logged));
        }
        Self::new(config)
    }

    /// What the config text says of the log; nothing when it leaves that open.
    pub fn logged(&self) -> Result<Option<bool>> {
        logged(&self.config)
    }

    /// The config text, formats included.
    pub fn config(&self) -> String {
        self.config.to_string()
    }

    /// The settings, formats included.
    pub fn settings(&self) -> &Config {
        &self.config
    }

    /// Names of the key's columns: those declared, else `key0`, `key1` and so on.
    pub fn key_names(&self) -> Vec<String> {
        self.names(0, self.key.values(), "key")
    }

    /// Names of the value's columns: those declared, else `value0`, `value1` and so on.
    pub fn value_names(&self) -> Vec<String> {
        self.names(self.key.values(), self.value.values(), "value")
    }

    fn names(&self, first: usize, count: usize, stem: &str) -> Vec<String> {
        (0..count).map(|i| self.columns.get(first + i).cloned().unwrap_or_else(|| format!("{stem}{i}"))).collect()
    }

    /// The same table seen through a list of its columns only, as values.
    pub fn project(&self, wanted: &[String]) -> Result<Projection> {
        let names: Vec<String> = self.key_names().into_iter().chain(self.value_names()).collect();
        let letters: Vec<String> = letters(&self.key)?.into_iter().chain(letters(&self.value)?).collect();
        let mut places = Vec::new();
        let mut format = String::new();
        for name in wanted {
            let place = names.iter().position(|n| n == name).ok_or_else(|| {
                Error::invalid(format!("there is no column `{name}`"))
                    .remedy(format!("the columns are {}", names.join(", ")))
            })?;
            places.push(place);
            format.push_str(&letters[place]);
        }
        let mut config = self.config.clone();
        config.set("value_format", &format);
        let columns: Vec<&String> = names[..self.key.values()].iter().chain(wanted).collect();
        config.set("columns", &format!("({})", columns.iter().map(|c| c.as_str()).collect::<Vec<_>>().join(",")));
        let shown = Self {
            key: self.key.clone(),
            value: Format::parse(&format)?,
            columns: columns.into_iter().cloned().collect(),
            config,
        };
        Ok(Projection { from: self.clone(), shown, places })
    }
}

/// The value of `log=(enabled=...)`; nothing when there is none.
pub fn logged(config: &Config) -> Result<Option<bool>> {
    let Some(raw) = config.raw("log") else { return Ok(None) };
    let bad = || {
        Error::invalid(format!("`log={raw}` does not say whether the table is logged"))
            .remedy("write log=(enabled=true) or log=(enabled=false)")
    };
    let inner = match raw.as_bytes() {
        [b'(', .., b')'] | [b'[', .., b']'] => Config::parse(&raw[1..raw.len() - 1])?,
        [] => return Ok(None),
        _ => return Err(bad()),
    };
    match inner.raw("enabled").map(|_| inner.text("enabled")).as_deref() {
        None => Ok(None),
        Some("true" | "1") => Ok(Some(true)),
        Some("false" | "0") => Ok(Some(false)),
        Some(_) => Err(bad()),
    }
}

/// A table seen through some of its columns.
#[derive(Clone, Debug)]
pub struct Projection {
    from: Schema,
    /// What is left to see.
    pub shown: Schema,
    places: Vec<usize>,
}

impl Projection {
    /// The projected value of a row.
    pub fn value(&self, key: &[u8], value: &[u8]) -> Result<Vec<u8>> {
        let mut all = self.from.key.unpack(key)?;
        all.extend(self.from.value.unpack(value)?);
        let chosen: Vec<Value> = self.places.iter().map(|&place| all[place].clone()).collect();
        self.shown.value.pack(&chosen)
    }
}

/// The letters of each column that holds a value, with their sizes.
fn letters(format: &Format) -> Result<Vec<String>> {
    let text = format.text().trim_start_matches('.');
    let mut out = Vec::new();
    let mut size = String::new();
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            size.push(letter);
            continue;
        }
        match letter {
            'S' | 's' | 'u' | 't' => out.push(format!("{size}{letter}")),
            'x' => {}
            _ => out.extend(std::iter::repeat_n(letter.to_string(), size.parse().unwrap_or(1))),
        }
        size.clear();
    }
    Ok(out)
}

fn check_columns(columns: &[String], key: &Format, value: &Format) -> Result<()> {
    let count = key.values() + value.values();
    if !columns.is_empty() && columns.len() != count {
        return Err(Error::invalid(format!(
            "{} columns are named, but formats `{}` and `{}` have {count}",
            columns.len(),
            key.text(),
            value.text()
        ))
        .remedy("name every column of the key, then every column of the value"));
    }
    match columns.iter().enumerate().find(|(i, name)| columns[..*i].contains(name)) {
        Some((_, twice)) => Err(Error::invalid(format!("column `{twice}` is named twice"))),
        None => Ok(()),
    }
}

/// A key or a value as it is given on the command line: text for `S`, a number for `r`, bytes for `u`.
pub fn item_from_argument(format: &Format, what: &str, argument: &[u8]) -> Result<Vec<u8>> {
    use crate::packing::Kind;
    match format.single() {
        Some(Kind::Record) => record_key(argument),
        Some(kind) if kind.is_text() => format.pack(&[Value::Bytes(argument.to_vec())]),
        Some(Kind::Rest) => Ok(argument.to_vec()),
        _ => Err(no_argument_form(format, what)),
    }
}

/// A value as `read` prints it, the other way of [`item_from_argument`].
pub fn item_to_line(format: &Format, item: &[u8], out: &mut Vec<u8>) -> Result<()> {
    use crate::packing::Kind;
    match format.single() {
        Some(kind) if kind.is_text() => {
            if let [Value::Bytes(text)] = &format.unpack(item)?[..] {
                out.extend_from_slice(text);
            }
            Ok(())
        }
        Some(Kind::Rest) => {
            Encoding::Print.encode(item, out);
            Ok(())
        }
        _ => Err(no_argument_form(format, "value")),
    }
}

fn no_argument_form(format: &Format, what: &str) -> Error {
    Error::invalid(format!(
        "this command needs a {what} of format S, u or, for keys, r; the table's is `{}`",
        format.text()
    ))
    .remedy("use dump and load, which take every format")
}

/// The packed form of a record number given as text.
pub fn record_key(text: &[u8]) -> Result<Vec<u8>> {
    let number = std::str::from_utf8(text).ok().and_then(record_number).ok_or_else(|| {
        Error::invalid(format!("`{}` is no record number", String::from_utf8_lossy(text)))
            .remedy("record numbers are decimal, or 0x and hex, from 1")
    })?;
    let mut key = Vec::new();
    crate::packing::put_unsigned(&mut key, number);
    Ok(key)
}

/// The number that a stored key of format `r` stands for.
pub fn record_of(format: &Format, key: &[u8]) -> Result<u64> {
    match format.unpack(key)?[..] {
        [Value::Unsigned(number)] => Ok(number),
        _ => Err(Error::invalid("the key is no record number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_default_to_bytes_and_are_written_out() {
        assert_eq!(Schema::parse("").unwrap().config(), "key_format=u,value_format=u");
        let schema = Schema::parse("columns=(id,name),key_format=r,value_format=S").unwrap();
        assert_eq!(schema.config(), "columns=(id,name),key_format=r,value_format=S");
        assert_eq!((schema.key_names(), schema.value_names()), (vec!["id".to_owned()], vec!["name".to_owned()]));
        let schema = Schema::parse("key_format=iS,value_format=S2xi").unwrap();
        assert_eq!(schema.key_names(), ["key0", "key1"]);
        assert_eq!(schema.value_names(), ["value0", "value1"]);
    }

    #[test]
    fn the_log_setting_is_read_and_shown_as_it_is() {
        let logged = |text: &str| Schema::parse(text).unwrap().logged();
        assert_eq!(logged("").unwrap(), None);
        for text in ["log=(enabled=true)", "log=(enabled)", "log=[enabled=1,other=2]"] {
            assert_eq!(logged(text).unwrap(), Some(true), "{text}");
        }
        assert_eq!(logged("log=(enabled=false)").unwrap(), Some(false));
        assert_eq!(logged("log=()").unwrap(), None);
        assert!(logged("log=false").is_err() && logged("log=(enabled=maybe)").is_err());
        let shown = |config: &str, logged| {
            let (name, config) = ("t".to_owned(), config.to_owned());
            Schema::of(&TableInfo { name, id: strandline::TableId(1), config, logged, file_bytes: 0 }).unwrap().config()
        };
        assert_eq!(shown("key_format=u,value_format=u", true), "key_format=u,value_format=u");
        let off = "key_format=u,value_format=u,log=(enabled=false)";
        assert_eq!(shown("key_format=u,value_format=u", false), off);
        assert_eq!(shown(off, false), off);
        assert_eq!(shown(off, true), "key_format=u,value_format=u,log=(enabled=true)");
    }

    #[test]
    fn columns_must_fit() {
        for bad in ["columns=(a)", "columns=(a,b,c)", "columns=(a,a)", "key_format=z"] {
            assert_eq!(Schema::parse(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn projections_repack_the_columns() {
        let schema = Schema::parse("key_format=r,value_format=2i3SS,columns=(id,a,b,c,d)").unwrap();
        let projection = schema.project(&["d".to_owned(), "a".to_owned()]).unwrap();
        assert_eq!(projection.shown.value.text(), "Si");
        assert_eq!(projection.shown.config(), "key_format=r,value_format=Si,columns=(id,d,a)");
        let number = Value::Signed(7);
        let text = Value::Bytes(b"x".to_vec());
        let row = schema.value.pack(&[number.clone(), number, text.clone(), text]).unwrap();
        assert_eq!(projection.value(&[0x81], &row).unwrap(), b"x\0\x87");
        assert!(schema.project(&["e".to_owned()]).is_err());
    }

    #[test]
    fn arguments_become_items() {
        let item =
            |format: &str, text: &str| item_from_argument(&Format::parse(format).unwrap(), "key", text.as_bytes());
        assert_eq!(item("S", "ab").unwrap(), b"ab\0");
        assert_eq!(item("u", "ab").unwrap(), b"ab");
        assert_eq!(item("r", "300").unwrap(), [0xc0, 0xec]);
        assert!(item("r", "x").is_err());
        assert!(item("iS", "x").is_err());
    }
}
