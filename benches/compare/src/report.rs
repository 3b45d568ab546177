//! The table, for people and as JSON.

use serde_json::{Value, json};

use crate::ledger::Ledger;
use crate::limits::Limit;
use crate::rows::{ROWS, Row, Unit};

/// The store that the ratios are about.
pub const OURS: &str = "strandline";

/// The best of the others in a row: its name and figure.
fn best_peer(ledger: &Ledger, row: &Row, peers: &[&'static str]) -> Option<(&'static str, f64)> {
    let others = peers.iter().filter(|&&name| name != OURS);
    let figures = others.filter_map(|&name| Some((name, ledger.median(row.id, name)?)));
    figures.reduce(|best, next| match (next.1 > best.1) == row.unit.more_is_better() {
        true => next,
        false => best,
    })
}

/// How many times as good as the best of the others we are; above one is better.
fn ratio(ledger: &Ledger, row: &Row, peers: &[&'static str]) -> Option<f64> {
    let ours = ledger.median(row.id, OURS)?;
    let (_, best) = best_peer(ledger, row, peers)?;
    Some(match row.unit.more_is_better() {
        true => ours / best,
        false => best / ours,
    })
}

fn figure(unit: Unit, figure: f64) -> String {
    match unit {
        Unit::PerSecond if figure >= 99_950.0 => format!("{:.0} k", figure / 1e3),
        Unit::PerSecond => format!("{:.1} k", figure / 1e3),
        Unit::Milliseconds if figure >= 99.5 => format!("{figure:.0} ms"),
        Unit::Milliseconds => format!("{figure:.2} ms"),
        Unit::MoreIsBetter | Unit::LessIsBetter => format!("{figure:.2}"),
    }
}

/// Prints the machine's limits and the table to standard output, as Markdown.
pub fn print(ledger: &Ledger, limits: &[Limit], peers: &[&'static str]) {
    println!("Limits of this machine:\n");
    for limit in limits {
        println!("- {}: {:.2} {}", limit.title, limit.figure, limit.unit);
    }
    println!("\nOperations a second (k: thousands) unless it says otherwise; median of the");
    println!("rounds. Last column: Strandline against the best of the others, above 1 is better.\n");
    let mut lines = vec![header(peers)];
    for row in ROWS {
        if peers.iter().any(|&name| ledger.median(row.id, name).is_some()) {
            lines.push(line(ledger, row, peers));
        }
    }
    print_aligned(&lines);
}

fn header(peers: &[&'static str]) -> Vec<String> {
    let mut cells = vec!["workload".to_string()];
    cells.extend(peers.iter().map(|name| name.to_string()));
    cells.push("ratio".into());
    cells
}

fn line(ledger: &Ledger, row: &Row, peers: &[&'static str]) -> Vec<String> {
    let best = best_peer(ledger, row, peers).map(|(name, _)| name);
    let mut cells = vec![row.title.to_string()];
    cells.extend(peers.iter().map(|&name| match ledger.median(row.id, name) {
        None => "-".to_string(),
        Some(median) if Some(name) == best => format!("**{}**", figure(row.unit, median)),
        Some(median) => figure(row.unit, median),
    }));
    cells.push(ratio(ledger, row, peers).map_or("-".into(), |ratio| format!("{ratio:.2}")));
    cells
}

fn print_aligned(lines: &[Vec<String>]) {
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    for (number, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        println!("| {} |", cells.join(" | "));
        if number == 0 {
            let rules: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
            println!("| {} |", rules.join(" | "));
        }
    }
}

/// The same as one JSON document.
pub fn json(ledger: &Ledger, limits: &[Limit], peers: &[&'static str], about: Value) -> Value {
    let limits: Vec<Value> =
        limits.iter().map(|limit| json!({"limit": limit.title, "figure": limit.figure, "unit": limit.unit})).collect();
    let rows: Vec<Value> = ROWS
        .iter()
        .map(|row| {
            let results: serde_json::Map<String, Value> = peers
                .iter()
                .filter_map(|&name| {
                    let median = ledger.median(row.id, name)?;
                    let samples = ledger.samples(row.id, name);
                    Some((name.to_string(), json!({"median": median, "samples": samples})))
                })
                .collect();
            json!({
                "row": row.id,
                "title": row.title,
                "unit": row.unit.name(),
                "more_is_better": row.unit.more_is_better(),
                "results": results,
                "best_peer": best_peer(ledger, row, peers).map(|(name, _)| name),
                "ratio": ratio(ledger, row, peers),
            })
        })
        .filter(|row| row["results"].as_object().is_some_and(|results| !results.is_empty()))
        .collect();
    json!({"about": about, "limits": limits, "rows": rows})
}
