//! Rooms keep to their layers, and this test keeps them to it.
//!
//! The table in the documentation of `src/lib.rs` says on which layer a room lives. A room may use rooms of lower layers
//! only; on the ground layer, 1, rooms may use each other. The sources are cut into tokens (comments and strings fall
//! away, and so does whatever is compiled for tests only), and every path that starts at the root of the crate is an edge:
//! `crate::room::..`, `crate::{room::.., other}`, names that the root re-exports, and `super::` chains that climb to it.
//!
//! - **L1** An edge leads to a lower layer, to the room itself, or from ground to ground.
//! - **L2** Every room has a row in the table, every name in the table is a room.
//! - **L3** Rooms name no disk, clock or thread of their own, but where [`AMBIENT`] says so; no room names the simulator.
//!
//! What a macro builds from pieces is not seen; nothing here does that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms of the table that are still to be built.
const NOT_YET_BUILT: &[&str] = &[];

/// The command stands outside of the engine: it uses the public face only.
const OUTSIDE: &[&str] = &["bin", "cli"];

/// Names of the ambient world, and the rooms that may use them.
const AMBIENT: &[(&[&str], &[&str])] = &[
    (&["std", "fs"], &[]),
    (&["std", "thread"], &["sync", "db"]),
    (&["Instant", "now"], &["sync"]),
    (&["SystemTime", "now"], &["sync"]),
    (&["strandline_sim"], &[]),
    (&["strandline_fuzz"], &[]),
];

type Layers = BTreeMap<String, u32>;

struct Source {
    path: PathBuf,
    text: String,
}

#[test]
fn rooms_use_lower_layers_only() {
    let broken = check(&sources(), NOT_YET_BUILT);
    assert!(broken.is_empty(), "{} breaches of the layers:\n{}", broken.len(), broken.join("\n"));
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(&root).unwrap().to_path_buf(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Every breach, in words. Paths of `sources` are relative to `src`.
fn check(sources: &[Source], not_yet_built: &[&str]) -> Vec<String> {
    let Some(root) = sources.iter().find(|s| s.path == Path::new("lib.rs")) else {
        return vec!["there is no lib.rs".to_owned()];
    };
    let mut broken = Vec::new();
    let layers = table(&root.text, &mut broken);
    let (rooms, exported) = face_of(&without_tests(tokens(&root.text)).0);
    for room in rooms.iter().filter(|r| !layers.contains_key(*r)) {
        broken.push(format!("L2: the room `{room}` is missing from the table"));
    }
    for name in layers.keys().filter(|n| !rooms.contains(*n) && !not_yet_built.contains(&n.as_str())) {
        broken.push(format!("L2: the table names `{name}`, which is no room"));
    }
    let for_tests = test_files(sources);
    for source in sources.iter().filter(|s| s.path != Path::new("lib.rs") && !for_tests.contains(&s.path)) {
        let modules = modules_of(&source.path);
        if OUTSIDE.contains(&modules[0].as_str()) || modules[0] == "main" {
            continue;
        }
        let tokens = without_tests(tokens(&source.text)).0;
        edges_of(source, &modules, &tokens, &layers, &exported, &mut broken);
        ambient_of(source, &modules[0], &tokens, &mut broken);
    }
    broken
}

/// L1.
fn edges_of(
    source: &Source,
    modules: &[String],
    tokens: &[Token],
    layers: &Layers,
    exported: &BTreeMap<String, String>,
    broken: &mut Vec<String>,
) {
    let from = &modules[0];
    for (line, name) in root_names(tokens, modules.len()) {
        let to = exported.get(&name).unwrap_or(&name);
        let place = format!("{}:{line}", source.path.display());
        match (layers.get(from), layers.get(to)) {
            _ if from == to => {}
            (Some(1), Some(1)) => {}
            (Some(above), Some(below)) if below < above => {}
            (Some(a), Some(b)) => {
                let way = if a == b { "sideways" } else { "upwards" };
                broken.push(format!("L1: {place}: `{from}` (layer {a}) reaches {way} to `{to}` (layer {b})"));
            }
            (_, None) if exported.contains_key(&name) => {} // another crate, which is below all layers
            (_, None) => broken.push(format!("L1: {place}: `{name}` at the root of the crate is no room of the table")),
            (None, _) => {} // reported under L2
        }
    }
}

/// L3.
fn ambient_of(source: &Source, room: &str, tokens: &[Token], broken: &mut Vec<String>) {
    for (path, allowed) in AMBIENT.iter().filter(|(_, allowed)| !allowed.contains(&room)) {
        for (i, token) in tokens.iter().enumerate().filter(|(_, t)| t.text == path[0]) {
            let mut names = Vec::new();
            if text(tokens, i + 1) == "::" {
                first_names(&tokens[i + 2..], &mut names);
            }
            if path.get(1).is_none_or(|wanted| names.iter().any(|(_, name)| name == wanted)) {
                let place = format!("{}:{}", source.path.display(), token.line);
                broken.push(format!("L3: {place}: `{}` is for {allowed:?} only", path.join("::")));
            }
        }
    }
}

/// The rows `| layer | rooms |` of the documentation.
fn table(root: &str, broken: &mut Vec<String>) -> Layers {
    let mut layers = Layers::new();
    for line in root.lines().filter_map(|l| l.trim().strip_prefix("//! |")) {
        let cells: Vec<&str> = line.trim_end_matches('|').split('|').map(str::trim).collect();
        let [layer, rooms] = cells[..] else { continue };
        let Ok(layer) = layer.parse() else { continue };
        for room in rooms.split_whitespace() {
            if layers.insert(room.to_owned(), layer).is_some() {
                broken.push(format!("L2: the table names `{room}` twice"));
            }
        }
    }
    if layers.is_empty() {
        broken.push("L2: lib.rs holds no table of layers".to_owned());
    }
    layers
}

/// The rooms that `lib.rs` declares, and for every name it re-exports the room or crate it comes from.
fn face_of(tokens: &[Token]) -> (BTreeSet<String>, BTreeMap<String, String>) {
    let (mut rooms, mut exported) = (BTreeSet::new(), BTreeMap::new());
    for (i, token) in tokens.iter().enumerate() {
        let Some(next) = tokens.get(i + 1) else { break };
        if token.text == "mod" && !OUTSIDE.contains(&next.text.as_str()) {
            rooms.insert(next.text.clone());
        }
        if token.text == "use" {
            let end = tokens[i..].iter().position(|t| t.text == ";").map_or(tokens.len(), |n| i + n);
            let path: Vec<&str> = tokens[i + 1..end].iter().map(|t| t.text.as_str()).collect();
            let path = path.strip_prefix(&["crate", "::"]).unwrap_or(&path);
            for name in path.iter().skip(1).filter(|n| is_name(n)) {
                exported.insert((*name).to_owned(), path[0].to_owned());
            }
        }
    }
    // A room keeps its own name, whatever else is called so.
    exported.retain(|name, _| !rooms.contains(name));
    (rooms, exported)
}

/// The names directly under the root of the crate that paths in these tokens go to, with their lines. `depth` is the number
/// of modules from the root to the file.
fn root_names(tokens: &[Token], depth: usize) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    let mut scopes: Vec<bool> = Vec::new(); // for every open brace: does it belong to a module?
    let mut i = 0;
    while i < tokens.len() {
        match tokens[i].text.as_str() {
            "{" => scopes.push(i >= 2 && tokens[i - 2].text == "mod"),
            "}" => drop(scopes.pop()),
            start @ ("crate" | "super") if starts_a_path(tokens, i) => {
                let deep = depth + scopes.iter().filter(|module| **module).count();
                let mut climbed = if start == "crate" { deep } else { 1 };
                while climbed < deep && text(tokens, i + 1) == "::" && text(tokens, i + 2) == "super" {
                    i += 2;
                    climbed += 1;
                }
                match text(tokens, i + 1) {
                    "::" if climbed == deep => first_names(&tokens[i + 2..], &mut names),
                    "as" if climbed == deep => names.push((tokens[i].line, "*".to_owned())),
                    _ => {}
                }
            }
            _ => {}
        }
        i += 1;
    }
    names
}

/// `$crate::` starts a path as `crate::` does, and `self::super::` climbs as `super::` does.
fn starts_a_path(tokens: &[Token], i: usize) -> bool {
    i == 0 || tokens[i - 1].text != "::" || (i >= 2 && tokens[i - 2].text == "self")
}

/// The first name of a path, or of every path in a group.
fn first_names(path: &[Token], names: &mut Vec<(usize, String)>) {
    if text(path, 0) != "{" {
        names.extend(path.first().map(|t| (t.line, t.text.clone())));
        return;
    }
    let (mut depth, mut fresh) = (0, false);
    for token in path {
        match token.text.as_str() {
            "{" => {
                depth += 1;
                fresh = depth == 1;
            }
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
            "," => fresh = depth == 1,
            name => {
                if fresh && name != "self" {
                    names.push((token.line, name.to_owned()));
                }
                fresh = false;
            }
        }
    }
}

/// `block/extent.rs` is `block::extent`, `block/mod.rs` is `block`.
fn modules_of(path: &Path) -> Vec<String> {
    let stem = path.with_extension("");
    let mut modules: Vec<String> = stem.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    if modules.len() > 1 && modules.last().is_some_and(|m| m == "mod") {
        modules.pop();
    }
    modules
}

/// The files of modules that are declared for tests only, and of all modules below them.
fn test_files(sources: &[Source]) -> BTreeSet<PathBuf> {
    let mut roots = Vec::new();
    for source in sources {
        let modules = if source.path == Path::new("lib.rs") { Vec::new() } else { modules_of(&source.path) };
        for name in without_tests(tokens(&source.text)).1 {
            roots.push([modules.as_slice(), &[name]].concat());
        }
    }
    let below = |path: &Path| roots.iter().any(|r| modules_of(path).starts_with(r));
    sources.iter().filter(|s| below(&s.path)).map(|s| s.path.clone()).collect()
}

/// The tokens without the items under `#[cfg(test)]`, and the names of the modules among those that have files of their own.
fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut i = 0;
    while i < tokens.len() {
        if !tokens[i..].iter().map(|t| t.text.as_str()).take(MARK.len()).eq(MARK) {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        let start = i + MARK.len();
        i = end_of_item(&tokens, start);
        let item = &tokens[start..i];
        if let Some(at) = item.iter().position(|t| t.text == "mod")
            && text(item, at + 2) == ";"
        {
            modules.push(item[at + 1].text.clone());
        }
    }
    (kept, modules)
}

/// Past the `;` or the closing brace that ends the item, attributes before it included.
fn end_of_item(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth -= 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            ";" if depth == 0 => return i + 1,
            _ => {}
        }
    }
    tokens.len()
}

#[derive(Clone, Debug)]
struct Token {
    line: usize,
    text: String,
}

fn text(tokens: &[Token], i: usize) -> &str {
    tokens.get(i).map_or("", |t| t.text.as_str())
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c == '_' || c.is_alphanumeric())
}

/// Names, `::`, and single signs; no comments, strings or characters.
fn tokens(source: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let skipped = blank(rest).or_else(|| comment(rest)).or_else(|| literal(rest));
        let len = skipped.unwrap_or_else(|| {
            let len = match first {
                _ if is_name(rest) => name_len(rest),
                ':' if rest.starts_with("::") => 2,
                c => c.len_utf8(),
            };
            found.push(Token { line, text: rest[..len].trim_start_matches("r#").to_owned() });
            len
        });
        line += rest[..len].matches('\n').count();
        rest = &rest[len..];
    }
    found
}

fn name_len(rest: &str) -> usize {
    let raw = if rest.starts_with("r#") { 2 } else { 0 };
    raw + rest[raw..].find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len() - raw)
}

fn blank(rest: &str) -> Option<usize> {
    let len = rest.len() - rest.trim_start().len();
    (len > 0).then_some(len)
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    Some(rest.len())
}

/// The length of the string or character that begins here, with its prefix. A lifetime is none: it loses its quote and
/// becomes a name, which harms nothing.
fn literal(rest: &str) -> Option<usize> {
    let prefix = rest.len() - rest.trim_start_matches(['b', 'c', 'r']).len();
    let body = &rest[prefix..];
    let hashes = body.len() - body.trim_start_matches('#').len();
    if prefix <= 2 && rest[..prefix].ends_with('r') && body[hashes..].starts_with('"') {
        let close = format!("\"{}", "#".repeat(hashes));
        let start = prefix + hashes + 1;
        return Some(rest[start..].find(&close).map_or(rest.len(), |n| start + n + close.len()));
    }
    if prefix <= 1 && body.starts_with('"') {
        return Some(prefix + quoted_len(body, '"'));
    }
    let mut after = body.strip_prefix('\'').filter(|_| prefix <= 1)?.chars();
    let (first, second) = (after.next()?, after.next()?);
    let character = first == '\\' || second == '\'';
    Some(prefix + if character { quoted_len(body, '\'') } else { 1 })
}

fn quoted_len(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (i, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return i + 1,
            _ => {}
        }
    }
    body.len()
}

// The test of the test: a small crate with one breach at a time.

const LIB: &str = "
//! | layer | rooms |
//! | --- | --- |
//! | 3 | top |
//! | 2 | left right |
//! | 1 | ground error |
pub mod top; mod left; mod right; mod ground; mod error;
pub use error::{Error, Kind as ErrorKind};
pub use right::Right;
pub use strandline_vfs as vfs;
";

fn source(path: &str, text: &str) -> Source {
    Source { path: PathBuf::from(path), text: text.to_owned() }
}

fn breaches(path: &str, text: &str) -> Vec<String> {
    check(&[source("lib.rs", LIB), source(path, text)], &[])
}

#[test]
fn a_wrong_edge_is_detected() {
    for (path, text) in [
        ("left.rs", "use crate::top::X;"),
        ("left.rs", "use crate::right::X;"),
        ("left/mod.rs", "fn f() { crate::right::g() }"),
        ("left/deep/er.rs", "type T = Vec<crate::right::X>;"),
        ("left.rs", "use crate::{error::{self, A}, right, ground::B};"),
        ("left.rs", "use crate::Right;"),
        ("left.rs", "use super::right::X;"),
        ("left/a.rs", "use super::super::{ground, right::X};"),
        ("left.rs", "mod inner { use super::super::right::X; }"),
        ("left.rs", "macro_rules! m { () => { $crate::right::f() } }"),
        ("left.rs", "use crate::*;"),
        ("left.rs", "use crate as all;"),
        ("left.rs", "const A: char = '\\''; const B: &str = r#\"\"\"#; use crate::right::X;"),
        ("left.rs", "fn f<'a>(x: &'a str) -> crate::right::X<'a> {}"),
        ("left.rs", "#[cfg(test)]\nuse a::b;\nuse crate::right::X;"),
        ("ground.rs", "use crate::left::X;"),
        ("left.rs", "use crate::nowhere::X;"),
        ("left.rs", "use std::fs::File;"),
        ("left.rs", "use std::{io, fs};"),
        ("left.rs", "let t = std::time::Instant::now();"),
        ("left.rs", "use strandline_sim::Disk;"),
    ] {
        assert_eq!(breaches(path, text).len(), 1, "{path}: {text}: {:?}", breaches(path, text));
    }
    let sideways = &breaches("left.rs", "\nuse crate::right::X;")[0];
    assert_eq!(sideways, "L1: left.rs:2: `left` (layer 2) reaches sideways to `right` (layer 2)");
}

#[test]
fn a_right_edge_is_left_alone() {
    for (path, text) in [
        ("top.rs", "use crate::{left::X, right::{Y, Z}, Error}; use super::ground;"),
        ("top/a.rs", "use super::b; use crate::top::c; pub(crate) fn f() {} pub(in crate::top) fn g() {}"),
        ("left.rs", "use crate::{Error, ErrorKind, ground, vfs};"),
        ("ground.rs", "use crate::error::Error;"),
        ("left.rs", "// use crate::right::X;\n/* /* */ crate::right */ /// crate::right\nfn f() {}"),
        ("left.rs", "const A: &str = \"crate::right::X \\\" crate::right\"; const B: &[u8] = br##\"crate::right\"##;"),
        ("left.rs", "#[cfg(test)] mod tests { use crate::right::X; fn f() { g({}) } }"),
        ("left.rs", "#[cfg(test)] #[path = \"x.rs\"] mod tests { use crate::right::X; }\nmod inner { use super::X; }"),
        ("bin/tool.rs", "use crate::right::X; use std::fs;"),
    ] {
        assert_eq!(breaches(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

#[test]
fn files_of_test_modules_are_passed_over() {
    let with = |declaration: &str| {
        let wrong = "use crate::right::X;";
        let left = source("left/mod.rs", declaration);
        check(&[source("lib.rs", LIB), left, source("left/tests.rs", wrong), source("left/tests/more.rs", wrong)], &[])
    };
    assert_eq!(with("#[cfg(test)]\nmod tests;"), Vec::<String>::new());
    assert_eq!(with("mod tests;").len(), 2);
}

#[test]
fn the_table_and_the_rooms_agree() {
    let lib = |text: &str, not_yet: &[&str]| check(&[source("lib.rs", text)], not_yet);
    assert_eq!(lib(LIB, &[]), Vec::<String>::new());
    assert_eq!(lib(&LIB.replace("mod left;", ""), &[]), ["L2: the table names `left`, which is no room"]);
    assert_eq!(lib(&LIB.replace("mod left;", ""), &["left"]), Vec::<String>::new());
    let new = lib(&LIB.replace("mod left;", "mod left; mod new;"), &[]);
    assert_eq!(new, ["L2: the room `new` is missing from the table"]);
    assert_eq!(lib(&LIB.replace("left right", "left right top"), &[]), ["L2: the table names `top` twice"]);
}
