//! Where increments start: the labels that backups have left, and giving them up.

use serde_json::json;

use crate::copy_args::BackupOriginsArgs;
use crate::home::Home;
use crate::increments::named_origin;
use crate::report::{Outcome, While, say};

/// `backup origins`
pub fn origins(home: &Home, args: &BackupOriginsArgs) -> Outcome {
    if args.release.is_empty() && !args.release_all {
        return list(home);
    }
    let db = home.write()?;
    for which in &args.release {
        db.release_origin(named_origin(which)?).with(which)?;
    }
    if args.release_all {
        db.release_origins().with(home.path.display())?;
    }
    home.close(db)
}

/// One label a line, with its origin.
fn list(home: &Home) -> Outcome {
    let db = home.read()?;
    let origins = db.origins().with(home.path.display())?;
    if home.voice.json {
        let all: Vec<_> =
            origins.iter().map(|(label, origin)| json!({ "label": label, "origin": origin.to_string() })).collect();
        return say(serde_json::to_string_pretty(&all).unwrap_or_default());
    }
    origins.iter().try_for_each(|(label, origin)| say(format!("{label}\t{origin}")))
}
