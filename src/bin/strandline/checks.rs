//! Commands that look at the engine's health: verify and stat.

use serde_json::{Map, Value, json};
use strandline::audit::{OnDamage, Severity};
use strandline::maintenance::VerifyOptions;

use crate::args::{StatArgs, VerifyArgs};
use crate::copies::{Meter, finding_as_json};
use crate::home::{Home, table_name};
use crate::report::{Failure, Outcome, While, say, unsupported};
use crate::tables::missing;

/// `verify`
pub fn verify(home: &Home, args: &VerifyArgs) -> Outcome {
    if args.stable {
        return unsupported("-s, verifying at a timestamp,");
    }
    let mut tables = Vec::new();
    for object in &args.objects {
        tables.push(table_name(object)?.to_owned());
    }
    let on_damage = match (args.abort, args.go_on) {
        (true, _) => OnDamage::Stop,
        (false, true) => OnDamage::GoOn,
        (false, false) => OnDamage::NextTable,
    };
    let db = home.read()?;
    let there = db.tables().with("verify")?;
    if let Some(name) = tables.iter().find(|name| !there.iter().any(|info| &info.name == *name)) {
        return Err(missing()).with(format_args!("table:{name}"));
    }
    let options = VerifyOptions { tables, on_damage, strict: args.strict };
    let mut meter = Meter::new(home.voice, |file| format!("Verifying {}", home.path.join(file).display()));
    let verified = db.verify_with(&options, meter.callback());
    let report = meter.end(verified.with("verify"))?;
    if home.voice.json {
        let findings: Vec<Value> = report.findings.iter().map(finding_as_json).collect();
        let object = json!({ "tables": report.tables, "blocks": report.blocks, "bytes": report.bytes,
            "rows": report.rows, "findings": findings });
        say(serde_json::to_string_pretty(&object).unwrap_or_default())?;
    } else {
        for finding in &report.findings {
            say(finding)?;
        }
        home.voice.step(format_args!("{} tables, {} blocks, {} rows", report.tables, report.blocks, report.rows))?;
    }
    home.close(db)?;
    let damaged = report.findings.iter().any(|finding| finding.severity == Severity::Damage);
    if damaged { Err(Failure::Told) } else { Ok(()) }
}

/// `stat`
pub fn stat(home: &Home, args: &StatArgs) -> Outcome {
    let db = home.read()?;
    let mut counters: Vec<(String, u64)> = match &args.object {
        None => db.stats().with("stat")?.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        Some(object) => {
            let name = table_name(object)?;
            let object = format!("table:{name}");
            let info = db.tables().with(&object)?.into_iter().find(|info| info.name == name);
            let info = info.ok_or_else(missing).with(&object)?;
            vec![("file_bytes".to_owned(), info.file_bytes), ("table_id".to_owned(), info.id.0)]
        }
    };
    counters.sort();
    if home.voice.json {
        let object: Map<String, Value> = counters.into_iter().map(|(name, value)| (name, value.into())).collect();
        say(serde_json::to_string_pretty(&object).unwrap_or_default())?;
    } else {
        for (name, value) in counters {
            say(format_args!("{name}={value}"))?;
        }
    }
    home.close(db)
}
