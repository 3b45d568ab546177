//! `dump`: a table, or a part of it, as text.
//!
//! All rows of one run come from one transaction or from one checkpoint, so several tables in one dump agree.
//!
//! Key lines and value lines are made by a [`Form`]: print, hex, the two forms for people, or JSON. What is asked for is
//! found, and complained about, before the first line is written.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use strandline::Result;

use crate::args::DumpArgs;
use crate::home::{Home, usage};
use crate::json_dump;
use crate::packing::{Format, Value};
use crate::report::{Outcome, While, unsupported};
use crate::schema::record_of;
use crate::selection::{Dumped, Form, Row, Source, Wanted};
use crate::text::{Encoding, put_readable};

/// `dump`
pub fn dump(home: &Home, args: &DumpArgs) -> Outcome {
    if args.timestamp.is_some() {
        return unsupported("-t, reading at a timestamp,");
    }
    let form = form(home, args)?;
    if args.objects.len() > 1 && form != Form::Json {
        return usage("dump", "several objects need -j");
    }
    let db = home.read()?;
    let source = Source::open(&db, args.checkpoint.as_deref())?;
    let tables: Vec<Dumped> = args.objects.iter().map(|object| source.find(object)).collect::<Outcome<_>>()?;
    // Whatever is wrong with the question is found before anything is written.
    let mut wanted = Vec::new();
    for dumped in &tables {
        wanted.push((dumped, source.select(args, form, dumped)?));
    }
    let shown = args.file.as_ref().map_or("standard output".into(), |path| path.display().to_string());
    let out: Box<dyn Write> = match &args.file {
        Some(path) => Box::new(File::create(path).with(&shown)?),
        None => Box::new(io::stdout().lock()),
    };
    let mut printer = Printer { out: BufWriter::with_capacity(1 << 16, out), form, shown };
    printer.all(&source, wanted, args.reverse)?;
    drop((tables, source));
    home.close(db)
}

fn form(home: &Home, args: &DumpArgs) -> Outcome<Form> {
    let json = args.as_json || home.voice.json;
    match (json, args.pretty, args.hex) {
        (true, false, false) => Ok(Form::Json),
        (true, ..) => usage("dump", "JSON cannot be combined with -p or -x"),
        (false, true, true) => Ok(Form::People(Encoding::Hex)),
        (false, true, false) => Ok(Form::People(Encoding::Print)),
        (false, false, true) => Ok(Form::Plain(Encoding::Hex)),
        (false, false, false) => Ok(Form::Plain(Encoding::Print)),
    }
}

/// Writes the dump.
struct Printer<W: Write> {
    out: BufWriter<W>,
    form: Form,
    shown: String,
}

impl<W: Write> Printer<W> {
    fn all(&mut self, source: &Source<'_>, tables: Vec<(&Dumped, Wanted)>, reverse: bool) -> Outcome {
        if self.form == Form::Json {
            json_dump::begin(&mut self.out).with(&self.shown)?;
        }
        for (dumped, wanted) in tables {
            self.begin_table(dumped)?;
            match wanted {
                Wanted::Between(lower, upper) => {
                    let rows = source.rows(dumped, (lower, upper)).with(&dumped.object)?;
                    if reverse { self.rows(dumped, rows.rev())? } else { self.rows(dumped, rows)? }
                }
                Wanted::These(rows) => self.rows(dumped, rows.into_iter().map(Ok))?,
            }
            if self.form == Form::Json {
                json_dump::end_table(&mut self.out).with(&self.shown)?;
            }
        }
        if self.form == Form::Json {
            json_dump::end(&mut self.out).with(&self.shown)?;
        }
        self.out.flush().with(&self.shown)
    }

    fn begin_table(&mut self, dumped: &Dumped) -> Outcome {
        let config = dumped.shown_schema().config();
        let format = match self.form {
            Form::Json => return json_dump::begin_table(&mut self.out, &dumped.object, &config).with(&self.shown),
            Form::Plain(Encoding::Print) | Form::People(Encoding::Print) => "print",
            Form::Plain(Encoding::Hex) => "hex",
            Form::People(Encoding::Hex) => "print hex",
        };
        crate::dumpfile::write_header(&mut self.out, format, &[(dumped.object.clone(), config)]).with(&self.shown)
    }

    fn rows(&mut self, dumped: &Dumped, rows: impl Iterator<Item = Result<Row>>) -> Outcome {
        let mut line = Vec::new();
        for (i, row) in rows.enumerate() {
            let row = row.with(&dumped.object)?;
            line.clear();
            self.put_row(dumped, &row, i == 0, &mut line).with(&dumped.object)?;
            self.out.write_all(&line).with(&self.shown)?;
        }
        Ok(())
    }

    fn put_row(&self, dumped: &Dumped, row: &Row, first: bool, out: &mut Vec<u8>) -> Result<()> {
        let schema = dumped.shown_schema();
        let value = dumped.shown_value(row)?;
        match self.form {
            Form::Json => return json_dump::put_row(schema, &row.0, &value, first, out),
            Form::Plain(encoding) => {
                match schema.key.is_record_number() {
                    true => out.extend_from_slice(record_of(&schema.key, &row.0)?.to_string().as_bytes()),
                    false => encoding.encode(&row.0, out),
                }
                out.push(b'\n');
                encoding.encode(&value, out);
            }
            Form::People(encoding) => {
                put_columns(&schema.key, encoding, &row.0, out)?;
                out.push(b'\n');
                put_columns(&schema.value, encoding, &value, out)?;
            }
        }
        out.push(b'\n');
        Ok(())
    }
}

/// The columns of an item, joined by commas.
fn put_columns(format: &Format, encoding: Encoding, item: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let kinds = format.columns().iter().filter(|kind| kind.has_value());
    for (i, (value, kind)) in format.unpack(item)?.iter().zip(kinds).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        match value {
            Value::Bytes(text) if kind.is_text() => put_readable(text.split(|&b| b == 0).next().unwrap_or(text), out),
            Value::Bytes(bytes) => encoding.encode(bytes, out),
            number => out.extend_from_slice(number.to_string().as_bytes()),
        }
    }
    Ok(())
}
