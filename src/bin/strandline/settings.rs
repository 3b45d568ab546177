//! Commands about settings: init, which makes a database with settings of its own, and alter, which changes those of tables.
//!
//! What alter cannot do is found before it does anything, so a list of changes is refused as a whole.

use strandline::{Contract, Error, ErrorKind, Options};

use crate::args::{AlterArgs, InitArgs};
use crate::config::{Config, Standing, standing};
use crate::home::{Home, table_name, usage};
use crate::report::{Outcome, While};
use crate::schema::logged;
use crate::tables::{missing, settled};

/// `init`
pub fn init(home: &Home, args: &InitArgs) -> Outcome {
    let mut options = Options::new().contract(if args.latest { Contract::Latest } else { Contract::Pinned });
    if args.log {
        options = options.log(true).keep_log(args.keep_log);
    }
    if let Some(dir) = &args.log_dir {
        options = options.log_dir(dir);
    }
    home.init(options)
}

/// `alter`
pub fn alter(home: &Home, args: &AlterArgs) -> Outcome {
    if !args.pairs.len().is_multiple_of(2) {
        return usage("alter", "`alter` takes objects and settings in turn");
    }
    let mut changes = Vec::new();
    for pair in args.pairs.chunks_exact(2) {
        let name = table_name(&pair[0])?;
        let object = format!("table:{name}");
        let config = settled(&object, Config::parse(&pair[1]).with(&object)?)?;
        check(&config).with(&object)?;
        changes.push((name, logged(&config).with(&object)?));
    }
    let db = home.write()?;
    let tables = db.tables().with("alter")?;
    for (name, _) in &changes {
        if !tables.iter().any(|info| info.name == *name) {
            return Err(missing()).with(format_args!("table:{name}"));
        }
    }
    for (name, on) in changes {
        if let Some(on) = on {
            db.set_table_log(name, on).with(format_args!("table:{name}"))?;
        }
    }
    home.close(db)
}

/// Whether every key may be changed, or means nothing here anyway.
fn check(config: &Config) -> strandline::Result<()> {
    match config.entries().find(|(key, _)| *key != "log" && standing(key) == Standing::Understood) {
        None => Ok(()),
        Some((key, _)) => Err(Error::new(ErrorKind::Unsupported, format!("`{key}` of a table cannot be changed"))
            .remedy("dump the table, drop it, and load it with other settings")),
    }
}
