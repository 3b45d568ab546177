//! `load`: a dump, from here or from WiredTiger, into tables.
//!
//! Order: the header is read; names are changed (`-r`); settings of the command line are laid over those of the matching
//! entry; all of it is checked; only then is anything created; rows follow, a batch to a transaction. Rows before a bad
//! line stay loaded. It ends with the checkpoint that closing takes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use strandline::{Database, Error, ErrorKind, Result, Table, Transaction};

use crate::args::LoadArgs;
use crate::config::Config;
use crate::dumpfile::{DumpReader, Row};
use crate::home::{Home, usage};
use crate::json_dump::{self, Sink};
use crate::json_text::Tokens;
use crate::packing::put_unsigned;
use crate::report::{Failure, Outcome, Voice, While};
use crate::rows::{last_record, no_number_left, put};
use crate::schema::{Schema, record_key};
use crate::tables::ensure;

/// Rows, and bytes of them, after which a transaction is committed and the next one begun.
const ROWS_PER_COMMIT: usize = 1000;
const BYTES_PER_COMMIT: usize = 1 << 20;

/// `load`
pub fn load(home: &Home, args: &LoadArgs) -> Outcome {
    if !args.pairs.len().is_multiple_of(2) {
        return usage("load", "`load` takes objects and settings in turn");
    }
    if args.append && args.no_overwrite {
        return Err(Error::invalid("-a (append) and -n (no overwrite) exclude each other")).with("load");
    }
    let (input, shown, bar) = open_input(home.voice, args)?;
    let outcome = if args.as_json {
        let db = home.create()?;
        let loader = Loader::new(&db, home.voice, args);
        let loaded = load_json(loader, input, &shown);
        home.close(db).and(loaded)
    } else {
        // The header is checked before a database is made for it.
        let reader = DumpReader::open(input, &shown).with(shown.display())?;
        let plan = plan(args, reader.header.clone(), home.voice)?;
        let db = home.create()?;
        let loader = Loader::new(&db, home.voice, args);
        let loaded = load_text(loader, reader, plan, &shown);
        home.close(db).and(loaded)
    };
    bar.finish_and_clear();
    outcome
}

fn open_input(voice: Voice, args: &LoadArgs) -> Outcome<(Box<dyn BufRead>, PathBuf, ProgressBar)> {
    let (input, shown, total): (Box<dyn Read>, PathBuf, Option<u64>) = match &args.file {
        Some(path) => {
            let file = File::open(path).with(path.display())?;
            let about = file.metadata().with(path.display())?;
            (Box::new(file), path.clone(), about.is_file().then_some(about.len()))
        }
        None => (Box::new(io::stdin()), PathBuf::from("standard input"), None),
    };
    let bar = voice.bar(total);
    Ok((Box::new(BufReader::with_capacity(1 << 16, bar.wrap_read(input))), shown, bar))
}

/// What a header comes to: the table, and its settings.
struct Plan {
    name: String,
    config: Config,
}

fn plan(args: &LoadArgs, header: Vec<(String, String)>, voice: Voice) -> Outcome<Plan> {
    let mut plan = plan_of(args, header).with("load")?;
    let object = format!("table:{}", plan.name);
    for key in plan.config.settle().with(&object)? {
        voice.warning(&object, &format!("unknown key `{key}` in the config"));
    }
    // Whatever is wrong with the formats is found before anything is created.
    let schema = Schema::new(plan.config).with(&object)?;
    plan.config = schema.settings().clone();
    if args.append && !schema.key.is_record_number() {
        let message = format!("cannot append: the key format is `{}`, not `r`", schema.key.text());
        return Err(Error::invalid(message).remedy("leave out -a")).with(&object);
    }
    Ok(plan)
}

fn plan_of(args: &LoadArgs, header: Vec<(String, String)>) -> Result<Plan> {
    let mut entries = Vec::new();
    for (name, config) in header {
        let old = name.clone();
        let name = match &args.rename {
            Some(new) => renamed(&name, new)?,
            None => name,
        };
        entries.push((old, name, Config::parse(&config)?));
    }
    for pair in args.pairs.chunks_exact(2) {
        overlay(&mut entries, &pair[0], &pair[1])?;
    }
    let table = entries.iter().position(|(_, name, _)| name.starts_with("table:"));
    let (_, name, config) = match (table, entries.len()) {
        (Some(table), _) => entries.swap_remove(table),
        (None, 1) => entries.swap_remove(0),
        (None, _) => return Err(no_match("the header names no table")),
    };
    if let Some((_, other, _)) = entries.first() {
        return Err(match other.split_once(':') {
            _ if table.is_none() => no_match("the header names no table"),
            Some(("table", _)) => no_match("the header names two tables"),
            _ => Error::new(ErrorKind::Unsupported, format!("`{other}`: not supported yet"))
                .remedy("dump the table without its column groups and indexes"),
        });
    }
    Ok(Plan { name: loadable_name(&name)?.to_owned(), config })
}

fn no_match(why: &str) -> Error {
    Error::invalid("input does not match WiredTiger dump format").remedy(why)
}

/// The name of the table that a header's only or first entry stands for.
fn loadable_name(name: &str) -> Result<&str> {
    match name.split_once(':') {
        Some(("table", name)) => Ok(name),
        Some(("file", name)) => Ok(name.strip_suffix(".wt").unwrap_or(name)),
        Some((kind @ ("lsm" | "tiered" | "index" | "colgroup"), _)) => {
            Err(Error::new(ErrorKind::Unsupported, format!("a dump of `{kind}:` cannot be loaded"))
                .remedy("dump the table it belongs to"))
        }
        _ => Err(no_match("names begin `table:` or `file:`")),
    }
}

/// `kind:old:rest` under a new name.
fn renamed(name: &str, new: &str) -> Result<String> {
    let new = new.strip_prefix("table:").unwrap_or(new);
    let (kind, rest) = name.split_once(':').ok_or_else(|| no_match("a name in the header has no kind"))?;
    Ok(match rest.split_once(':') {
        Some((_, part)) => format!("{kind}:{new}:{part}"),
        None => format!("{kind}:{new}"),
    })
}

/// Lays settings of the command line over the one entry whose name begins like `object`.
fn overlay(entries: &mut [(String, String, Config)], object: &str, config: &str) -> Result<()> {
    let over = Config::parse(config)?;
    if over.raw("key_format").is_some() || over.raw("value_format").is_some() {
        return Err(Error::invalid("an object's key or value format may not be modified"));
    }
    let mut matches: Vec<&mut Config> = Vec::new();
    for (old, name, config) in entries {
        if name.starts_with(object) || old.starts_with(object) {
            matches.push(config);
        }
    }
    match &mut matches[..] {
        [one] => {
            one.merge(&over);
            Ok(())
        }
        [] => Err(Error::invalid(format!("`{object}` does not match any object of the dump"))),
        _ => Err(Error::invalid(format!("`{object}` matches more than one object of the dump"))),
    }
}

/// Writes rows, a batch to a transaction.
struct Loader<'a> {
    db: &'a Database,
    voice: Voice,
    args: &'a LoadArgs,
    target: Option<Target>,
    transaction: Option<Transaction<'a>>,
    rows: usize,
    bytes: usize,
}

struct Target {
    object: String,
    table: Table,
    schema: Schema,
    /// The highest record number given so far, when appending.
    number: u64,
    loaded: u64,
}

impl<'a> Loader<'a> {
    fn new(db: &'a Database, voice: Voice, args: &'a LoadArgs) -> Self {
        Self { db, voice, args, target: None, transaction: None, rows: 0, bytes: 0 }
    }

    /// Creates or finds the table that the next rows are for.
    fn begin_table(&mut self, plan: Plan) -> Outcome {
        self.end_table()?;
        let object = format!("table:{}", plan.name);
        let (table, schema) = ensure(self.db, &plan.name, plan.config)?;
        let number = match self.args.append {
            true => last_record(&self.db.begin().with(&object)?, &table, &schema).with(&object)?,
            false => 0,
        };
        self.target = Some(Target { object, table, schema, number, loaded: 0 });
        Ok(())
    }

    fn end_table(&mut self) -> Outcome {
        self.commit().with("commit")?;
        match self.target.take() {
            Some(target) => self.voice.step(format_args!("Loaded {} rows into {}", target.loaded, target.object)),
            None => Ok(()),
        }
    }

    fn commit(&mut self) -> Result<()> {
        (self.rows, self.bytes) = (0, 0);
        match self.transaction.take() {
            Some(transaction) => transaction.commit().map(|_| ()),
            None => Ok(()),
        }
    }

    /// Writes one row; when appending the key is replaced.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        let Some(target) = &mut self.target else { return Ok(()) };
        if self.transaction.is_none() {
            self.transaction = Some(self.db.begin().with(&target.object)?);
        }
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        if self.args.append {
            target.number = target.number.checked_add(1).ok_or_else(no_number_left).with(&target.object)?;
            let mut next = Vec::new();
            put_unsigned(&mut next, target.number);
            put(transaction, &target.table, &next, value, false).with(&target.object)?;
        } else {
            put(transaction, &target.table, key, value, !self.args.no_overwrite).with(&target.object)?;
        }
        target.loaded += 1;
        self.rows += 1;
        self.bytes += key.len() + value.len();
        if self.rows >= ROWS_PER_COMMIT || self.bytes >= BYTES_PER_COMMIT {
            self.commit().with(target_name(&self.target))?;
        }
        Ok(())
    }
}

fn target_name(target: &Option<Target>) -> String {
    target.as_ref().map(|target| target.object.clone()).unwrap_or_default()
}

fn load_text(mut loader: Loader<'_>, mut reader: DumpReader<impl BufRead>, plan: Plan, shown: &Path) -> Outcome {
    loader.begin_table(plan)?;
    let loaded = load_rows(&mut loader, &mut reader, shown);
    // Rows before a bad line stay.
    loader.end_table().and(loaded)
}

fn load_rows(loader: &mut Loader<'_>, reader: &mut DumpReader<impl BufRead>, shown: &Path) -> Outcome {
    let numbered = loader.target.as_ref().is_some_and(|target| target.schema.key.is_record_number());
    let (mut row, mut key) = (Row::default(), Vec::new());
    while reader.next(&mut row).with(shown.display())? {
        if numbered {
            key = record_key(&row.key)
                .map_err(|e| reader.complain(reader.key_line(), e.message()))
                .with(shown.display())?;
        } else {
            reader.decode(&row.key, &mut key).with(shown.display())?;
        }
        loader.put(&key, &row.value)?;
    }
    Ok(())
}

fn load_json(loader: Loader<'_>, input: impl BufRead, shown: &Path) -> Outcome {
    let mut sink = JsonSink { loader, failure: None };
    let read = json_dump::read(&mut Tokens::new(input, shown), &mut sink);
    let ended = sink.loader.end_table();
    if let Some(failure) = sink.failure {
        return Err(failure);
    }
    ended.and(read.with(shown.display()))
}

/// The loader as the reader of JSON sees it. A failure of the loader is kept, so that it names the table, not the input.
struct JsonSink<'a> {
    loader: Loader<'a>,
    failure: Option<Failure>,
}

impl JsonSink<'_> {
    fn keep<T>(&mut self, outcome: Outcome<T>) -> Result<T> {
        outcome.map_err(|failure| {
            self.failure = Some(failure);
            Error::new(ErrorKind::Cancelled, "stopped")
        })
    }
}

impl Sink for JsonSink<'_> {
    fn table(&mut self, header: Vec<(String, String)>) -> Result<Schema> {
        let begun = plan(self.loader.args, header, self.loader.voice).and_then(|plan| {
            let schema = Schema::new(plan.config.clone()).with(&plan.name)?;
            self.loader.begin_table(plan)?;
            Ok(schema)
        });
        self.keep(begun)
    }

    fn row(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<()> {
        let written = self.loader.put(&key, &value);
        self.keep(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(rename: Option<&str>, pairs: &[&str]) -> LoadArgs {
        LoadArgs {
            append: false,
            file: None,
            as_json: false,
            no_overwrite: false,
            rename: rename.map(str::to_owned),
            pairs: pairs.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    fn header(entries: &[(&str, &str)]) -> Vec<(String, String)> {
        entries.iter().map(|&(name, config)| (name.to_owned(), config.to_owned())).collect()
    }

    #[test]
    fn headers_become_tables() {
        let plan = plan_of(&args(None, &[]), header(&[("table:t", "key_format=S")])).unwrap();
        assert_eq!((plan.name.as_str(), plan.config.to_string().as_str()), ("t", "key_format=S"));
        assert_eq!(plan_of(&args(None, &[]), header(&[("file:t.wt", "")])).unwrap().name, "t");
        assert_eq!(plan_of(&args(Some("new"), &[]), header(&[("table:t", "")])).unwrap().name, "new");
        for (bad, kind) in [
            ("lsm:t", ErrorKind::Unsupported),
            ("index:t:i", ErrorKind::Unsupported),
            ("t", ErrorKind::InvalidArgument),
        ] {
            assert_eq!(plan_of(&args(None, &[]), header(&[(bad, "")])).err().unwrap().kind(), kind, "{bad}");
        }
        let indexed = header(&[("index:t:i", ""), ("table:t", "")]);
        assert_eq!(plan_of(&args(None, &[]), indexed).err().unwrap().kind(), ErrorKind::Unsupported);
        let two = header(&[("table:t", ""), ("table:u", "")]);
        assert_eq!(plan_of(&args(None, &[]), two).err().unwrap().kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn settings_of_the_command_line_come_last() {
        let table = header(&[("table:people", "key_format=S,app_metadata=a")]);
        let plan = plan_of(&args(None, &["table:peo", "app_metadata=b,log=(enabled=false)"]), table.clone()).unwrap();
        assert_eq!(plan.config.to_string(), "key_format=S,app_metadata=b,log=(enabled=false)");
        for name in ["table:people", "table:folk"] {
            assert!(plan_of(&args(Some("folk"), &[name, "app_metadata=b"]), table.clone()).is_ok(), "{name}");
        }
        for pair in [["table:x", "a=b"], ["table:p", "key_format=S"], ["table:p", "value_format=u"], ["table:p", "(("]]
        {
            assert!(plan_of(&args(None, &pair), table.clone()).is_err(), "{pair:?}");
        }
    }

    #[test]
    fn renaming_changes_the_table_in_every_name() {
        assert_eq!(renamed("table:t", "n").unwrap(), "table:n");
        assert_eq!(renamed("index:t:i", "n").unwrap(), "index:n:i");
        assert_eq!(renamed("table:t", "table:n").unwrap(), "table:n");
        assert!(renamed("t", "n").is_err());
    }
}
