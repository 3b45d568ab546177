//! The README promises commands, files and rooms; this test looks whether they are there.
//!
//! Its Rust code is compiled and run as a documentation test of the library. What cannot be compiled is checked here: a
//! reader who follows a path or copies a command from the first page must not be the first to notice that it has gone.
//!
//! - **R1** Every path in the table "Reading the source" exists, and every room of `src` is in it.
//! - **R2** Every example, manifest and package that a `cargo` command names exists.
//! - **R3** A session that it shows prints what it shows, line by line.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("the README is there")
}

/// The part of the README under a heading.
fn section(text: &str, heading: &str) -> String {
    let start = text.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading:?}"));
    let body = &text[start + 1..];
    let end = body.find("\n## ").unwrap_or(body.len());
    body[..end].to_string()
}

/// The first cell of every line of the section's table.
fn rooms_listed(section: &str) -> Vec<String> {
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    cells.map(|(path, _)| path.to_string()).collect()
}

/// Every directory of `src` but those of the command.
fn rooms_there() -> Vec<String> {
    let entries = fs::read_dir(root().join("src")).expect("src is there");
    let dirs = entries.map(|entry| entry.expect("readable")).filter(|entry| entry.path().is_dir());
    let names = dirs.map(|entry| entry.file_name().into_string().expect("text"));
    names.filter(|name| name != "bin" && name != "cli").map(|name| format!("src/{name}")).collect()
}

/// Covers: R1.
#[test]
fn the_map_of_the_source_is_true() {
    let listed = rooms_listed(&section(&readme(), "Reading the source"));
    assert!(listed.len() > 10, "the table was not understood: {listed:?}");
    for path in &listed {
        let there = root().join(path);
        assert!(
            there.is_dir() || there.with_extension("rs").is_file(),
            "the README lists {path}, which does not exist"
        );
    }
    for room in rooms_there() {
        assert!(listed.contains(&room), "the README does not list {room}");
    }
}

/// Covers: R2.
#[test]
fn its_commands_name_things_that_exist() {
    let text = readme();
    let mut commands = 0;
    for line in text.lines().filter(|line| line.trim_start().starts_with("cargo ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            match pair[0] {
                "--example" => assert!(example(pair[1]).is_file(), "{line}: no such example"),
                "--manifest-path" => assert!(root().join(pair[1]).is_file(), "{line}: no such manifest"),
                _ => continue,
            }
            commands += 1;
        }
    }
    assert!(commands > 0, "no command of the README names an example or a manifest");
}

fn example(name: &str) -> PathBuf {
    root().join(Path::new("examples").join(name)).with_extension("rs")
}

/// The commands of all `console` blocks in order, each with the output that is shown after it.
#[cfg(feature = "cli")]
fn sessions(text: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    for block in text.split("\n```console\n").skip(1) {
        let block = block.split_once("\n```").expect("a block ends").0;
        for line in block.lines() {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push((command.to_string(), String::new())),
                (None, Some((_, output))) => *output += &format!("{line}\n"),
                (None, None) => panic!("output without a command: {line}"),
            }
        }
    }
    steps
}

/// Covers: R3.
#[cfg(feature = "cli")]
#[test]
fn its_sessions_print_what_it_shows() {
    let dir = tempfile::tempdir().expect("a directory");
    let programs = Path::new(env!("CARGO_BIN_EXE_strandline")).parent().expect("it is in a directory");
    let path = std::env::var("PATH").expect("there is a path");
    let steps = sessions(&readme());
    assert!(steps.len() > 20, "the sessions were not understood: {steps:?}");
    for (command, shown) in steps {
        let run = std::process::Command::new("sh")
            .args(["-c", &format!("{command} 2>&1")])
            .current_dir(dir.path())
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("LC_ALL", "C")
            .output()
            .expect("there is a shell");
        assert_eq!(String::from_utf8_lossy(&run.stdout), shown, "{command}");
    }
}
