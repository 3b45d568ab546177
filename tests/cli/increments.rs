//! backup --incremental-from, backup apply, restore with increments.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::shell::Shell;

/// A home with two tables, and a full backup `base` of it.
fn with_base() -> Shell {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "t");
    shell.create("key_format=r,value_format=S", "r");
    let many: Vec<String> = (0..400).flat_map(|i| [format!("k{i}"), "v".repeat(500)]).collect();
    let args: Vec<&str> = ["write", "t"].into_iter().chain(many.iter().map(String::as_str)).collect();
    shell.run(&args).silent();
    shell.run(&["backup", "base"]).silent();
    shell
}

/// What is in a home, as text.
fn contents(shell: &Shell, home: &str) -> String {
    let tables = shell.run_on(home, &["list"]).output();
    let dumps = tables.lines().map(|table| shell.run_on(home, &["dump", table]).output());
    dumps.collect()
}

fn step(shell: &Shell, i: u32) {
    let (key, table) = (format!("new{i}"), format!("made{i}"));
    shell.run(&["write", "-o", "t", "k7", &key, &key, "x"]).silent();
    shell.create("", &table);
    shell.run(&["write", &table, "a", "b"]).silent();
}

#[test]
fn a_copy_is_rolled_forward_step_by_step() {
    let shell = with_base();
    step(&shell, 1);
    let text = shell.run(&["-v", "backup", "--incremental-from", "base", "inc1"]).output();
    let origin = text.lines().last().unwrap().strip_prefix("origin ").unwrap().to_owned();
    assert!(text.lines().any(|line| line.contains(" bytes, ") && line.ends_with(" inner pages walked")), "{text}");
    step(&shell, 2);
    shell.run(&["drop", "r"]).silent();
    let json = shell.run(&["--json", "backup", "--incremental-from", &origin, "inc2"]).output();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["kind"].as_str(), json["origin_before"].as_str()), (Some("increment"), Some(origin.as_str())));
    assert!(json["files"].as_array().unwrap().iter().any(|file| file["content"] == "ranges"), "{json}");
    let number = |key: &str| json[key].as_u64().unwrap();
    assert_eq!(number("bytes_read"), number("bytes") + json["walk"]["bytes_read"].as_u64().unwrap(), "{json}");
    assert!(json["walk"]["inner_pages"].as_u64().unwrap() > 0, "{json}");
    shell.run(&["backup", "verify", "base", "inc1", "inc2"]).silent();
    let base = shell.bytes_of("base");
    shell.bare(&["restore", "base", "inc1", "inc2", "new"], "").silent();
    assert_eq!(shell.bytes_of("base"), base, "restoring leaves the copy alone");
    assert_eq!(contents(&shell, "new"), contents(&shell, "home"));
    shell.bare(&["restore", "-t", "made1", "base", "inc1", "inc2", "part"], "").silent();
    shell.run_on("part", &["list"]).prints("table:made1\n");
    shell.run_on("part", &["verify"]).silent();
    shell.bare(&["backup", "apply", "inc1", "inc2", "base"], "").silent();
    shell.bare(&["backup", "apply", "inc2", "base"], "").silent();
    shell.run(&["backup", "verify", "base"]).silent();
    assert_eq!(contents(&shell, "base"), contents(&shell, "home"));
}

#[test]
fn in_one_step() {
    let shell = with_base();
    for i in 0..3 {
        step(&shell, i);
        shell.run(&["backup", "--incremental-from", "base", "--into", "base"]).silent();
        assert!(!shell.path("base.increment").exists());
        shell.run(&["backup", "verify", "base"]).silent();
        assert_eq!(contents(&shell, "base"), contents(&shell, "home"));
    }
    let before = shell.bytes_of("base");
    shell.run(&["backup", "--incremental-from", "base", "--into", "base"]).silent();
    assert_eq!(shell.bytes_of("base").len(), before.len());
}

#[test]
fn what_a_run_that_died_left_is_finished_or_cleared() {
    let shell = with_base();
    step(&shell, 1);
    shell.run(&["backup", "--incremental-from", "base", "base.increment"]).silent();
    // As after a crash in the middle of applying it: the manifest has been put aside.
    fs::copy(shell.path("base.increment/Strandline.manifest"), shell.path("base/Strandline.manifest.next")).unwrap();
    fs::rename(shell.path("base/Strandline.manifest"), shell.path("base/Strandline.manifest.base")).unwrap();
    assert_eq!(shell.run_on("base", &["list"]).code, 1);
    step(&shell, 2);
    shell.run(&["backup", "--incremental-from", "./base", "--into", "base"]).silent();
    assert_eq!(contents(&shell, "base"), contents(&shell, "home"));
    fs::create_dir(shell.path("base.increment")).unwrap();
    shell.write("base.increment/Strandline.catalog.copy", "half");
    shell.run(&["backup", "--incremental-from", "base", "--into", "base"]).silent();
    fs::create_dir(shell.path("base.increment")).unwrap();
    shell.write("base.increment/diary", "mine");
    shell.run(&["backup", "--incremental-from", "base", "--into", "base"]).fails_with("base.increment");
    assert_eq!(shell.read("base.increment/diary"), "mine");
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_changes() {
    let shell = with_base();
    step(&shell, 1);
    shell.run(&["backup", "--incremental-from", "base", "inc1"]).silent();
    step(&shell, 2);
    shell.run(&["backup", "--incremental-from", "inc1", "inc2"]).silent();
    let base = shell.bytes_of("base");
    let kind = |args: &[&str]| {
        let run = shell.bare(&[&["--json"], args].concat(), "");
        assert_eq!(run.code, 1, "{args:?} {run:?}");
        serde_json::from_str::<serde_json::Value>(&run.err).unwrap()["error"]["kind"].as_str().unwrap().to_owned()
    };
    assert_eq!(kind(&["backup", "apply", "inc2", "base"]), "WrongBase");
    assert_eq!(kind(&["backup", "apply", "base", "base"]), "WrongBase");
    assert_eq!(kind(&["restore", "base", "inc2", "new"]), "WrongBase");
    assert_eq!(kind(&["restore", "inc1", "new"]), "WrongBase");
    assert!(!shell.path("new").exists());
    assert_eq!(shell.bytes_of("base"), base);
    assert_eq!(kind(&["-h", "home", "backup", "--incremental-from", "0123456789abcdef:1", "x"]), "WrongBase");
    assert_eq!(kind(&["-h", "home", "backup", "--incremental-from", "monday", "x"]), "NotFound");
    assert_eq!(kind(&["-h", "home", "backup", "--incremental-from", "home/", "x"]), "NotFound");
    shell.run(&["backup", "--incremental-from", "base", "-t", "t", "x"]).misuses();
    shell.run(&["backup", "--incremental-from", "base", "--log", "x"]).misuses();
    shell.run(&["backup", "--into", "base"]).misuses();
    assert!(!shell.path("x").exists());
    // A copy that was opened for writing has a history of its own.
    shell.run_on("base", &["create", "own"]).silent();
    assert_eq!(kind(&["backup", "apply", "inc1", "base"]), "WrongBase");
    assert_ne!(shell.run(&["backup", "--incremental-from", "inc1", "--into", "base"]).code, 0);
    assert!(!shell.path("base.increment").exists());
}

/// A chain through pipes: a full backup and two increments, none of which lies in a directory of its own.
#[test]
fn through_a_pipe() {
    let shell = with_base();
    let sh = |script: &str| {
        let programs = Path::new(env!("CARGO_BIN_EXE_strandline")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let run =
            Command::new("sh").args(["-c", script]).current_dir(shell.path(".")).env("PATH", path).output().unwrap();
        assert!(run.stderr.is_empty() && run.stdout.is_empty() && run.status.success(), "{script}: {run:?}");
    };
    step(&shell, 1);
    sh("strandline -h home backup --incremental-from base - | strandline backup apply - base");
    assert_eq!(contents(&shell, "base"), contents(&shell, "home"));
    assert!(!shell.path("base.increment").exists());
    shell.run(&["backup", "verify", "base"]).silent();
    step(&shell, 2);
    shell.run(&["backup", "--incremental-from", "base", "inc"]).silent();
    sh("strandline -h home backup - > full.stream && strandline restore - new < full.stream");
    assert_eq!(contents(&shell, "new"), contents(&shell, "home"));
    sh("strandline restore -t made1 - part < full.stream");
    shell.run_on("part", &["list"]).prints("table:made1\n");
    let stream = fs::read(shell.path("full.stream")).unwrap();
    let feed = |args: &[&str], bytes: &[u8]| shell.bare(args, bytes);
    feed(&["restore", "-", "cut"], &stream[..stream.len() - 9]).fails_with("cut or damaged");
    assert!(!shell.path("cut").exists());
    // A stream of a full copy is no increment.
    let before = shell.bytes_of("base");
    feed(&["backup", "apply", "-", "base"], &stream).fails_with("no increment");
    assert_eq!(shell.bytes_of("base"), before);
    assert!(!shell.path("base.increment").exists());
    shell.run(&["-v", "backup", "-"]).misuses();
    shell.run(&["backup", "--direct-io", "direct"]).silent();
    shell.run(&["backup", "verify", "direct"]).silent();
}

/// One step, killed at a moment that comes later from round to round; the same command again makes up for it.
#[test]
fn in_one_step_killed_and_repeated() {
    let shell = with_base();
    let args = ["backup", "--incremental-from", "base", "--into", "base"];
    let began = Instant::now();
    shell.run(&args).silent();
    let whole = began.elapsed();
    let rounds = 12;
    let mut unfinished = 0;
    for round in 0..rounds {
        step(&shell, round + 10);
        let mut child = Command::new(env!("CARGO_BIN_EXE_strandline"))
            .args(["-h", "home"])
            .args(args)
            .current_dir(shell.path("."))
            .spawn()
            .unwrap();
        std::thread::sleep(whole * (round + 1) / rounds);
        // It may be done already.
        let _ = child.kill();
        unfinished += u32::from(!child.wait().unwrap().success());
        shell.run(&args).silent();
        assert!(!shell.path("base.increment").exists());
        shell.run(&["backup", "verify", "base"]).silent();
        assert_eq!(contents(&shell, "base"), contents(&shell, "home"), "round {round}");
    }
    assert!(unfinished > 0, "no run was killed");
}

/// A consolidation, killed at a moment that comes later from round to round: there is a whole copy, or none.
#[test]
fn consolidation_killed_and_repeated() {
    let shell = with_base();
    step(&shell, 1);
    shell.run(&["backup", "--incremental-from", "base", "inc1"]).silent();
    step(&shell, 2);
    shell.run(&["backup", "--incremental-from", "inc1", "inc2"]).silent();
    let before = shell.bytes_of("base");
    let args = ["backup", "consolidate", "base", "inc1", "inc2", "whole"];
    let (began, rounds) = (Instant::now(), 8);
    shell.bare(&args, "").silent();
    let whole = began.elapsed();
    for round in 0..rounds {
        fs::remove_dir_all(shell.path("whole")).unwrap();
        let mut child =
            Command::new(env!("CARGO_BIN_EXE_strandline")).args(args).current_dir(shell.path(".")).spawn().unwrap();
        std::thread::sleep(whole * (round + 1) / rounds);
        let _ = child.kill();
        let done = child.wait().unwrap().success();
        assert_eq!(shell.bytes_of("base"), before);
        if shell.path("whole.unfinished").exists() {
            shell.bare(&args, "").fails_with("an earlier run died here");
            fs::remove_dir_all(shell.path("whole.unfinished")).unwrap();
        }
        if !shell.path("whole/Strandline.manifest").exists() {
            assert!(!done && !shell.path("whole").exists(), "round {round}");
            shell.bare(&args, "").silent();
        }
        shell.run(&["backup", "verify", "whole"]).silent();
        assert_eq!(contents(&shell, "whole"), contents(&shell, "home"));
    }
}

/// Labels, granules, the proof after `apply`, and the release of origins.
#[test]
fn an_increment_from_a_label() {
    let shell = with_base();
    shell.run(&["backup", "--label", "monday", "monday"]).silent();
    shell.run(&["backup", "--label", "monday", "again"]).fails_with("the label `monday` is in use");
    step(&shell, 1);
    shell.run(&["backup", "--incremental-from", "monday", "exact"]).silent();
    shell.run(&["backup", "--incremental-from", "base", "--granularity", "64K", "wide"]).silent();
    shell
        .run(&["backup", "--incremental-from", "base", "--granularity", "1", "no"])
        .fails_with("granularity of 1 bytes");
    assert_eq!(shell.run(&["backup", "--incremental-from", "base", "--granularity", "many", "no"]).code, 2);
    shell.run(&["backup", "--incremental-from", "friday", "no"]).fails_with("no origin has the label `friday`");
    let origins = shell.run(&["backup", "origins"]).output();
    assert!(origins.starts_with("monday\t") && origins.lines().count() == 1, "{origins}");
    let json = shell.run(&["--json", "backup", "origins"]).output();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["label"], "monday");
    shell.bare(&["backup", "apply", "--prove", "wide", "base"], "").silent();
    assert_eq!(contents(&shell, "base"), contents(&shell, "home"));
    shell.run(&["backup", "origins", "--release", "monday"]).silent();
    shell.run(&["backup", "origins", "--release", "monday"]).fails_with("no origin has the label `monday`");
    shell.run(&["backup", "origins", "--release-all"]).silent();
    shell.run(&["backup", "--incremental-from", "./monday", "no"]).fails_with("was released");
}

/// A chain becomes one copy, and copies are compared.
#[test]
fn copies_are_consolidated_and_compared() {
    let shell = with_base();
    step(&shell, 1);
    shell.run(&["backup", "--incremental-from", "base", "inc1"]).silent();
    step(&shell, 2);
    shell.run(&["backup", "--incremental-from", "inc1", "inc2"]).silent();
    shell.run(&["backup", "full"]).silent();
    shell.bare(&["backup", "consolidate", "base", "inc1", "inc2", "whole"], "").silent();
    shell.bare(&["backup", "verify", "whole"], "").silent();
    shell.bare(&["backup", "diff", "whole", "full"], "").silent();
    shell.bare(&["backup", "diff", "home", "whole"], "").silent();
    shell.bare(&["backup", "consolidate", "base", "inc2", "gap"], "").fails_with("");
    assert!(!shell.path("gap").join("Strandline.manifest").exists());
    let told = shell.bare(&["backup", "diff", "base", "full"], "");
    assert_eq!((told.code, told.err.as_str()), (1, ""));
    let lines: Vec<&str> = told.out.lines().collect();
    assert_eq!(lines[..2], ["table:made1: only in full", "table:made2: only in full"]);
    assert_eq!(lines[2], "table:t: 1 values differ, 0 keys only in base, 2 only in full");
    assert!(lines[3..].contains(&"\tk7\\00"), "{told:?}");
    let json = shell.bare(&["--json", "backup", "diff", "base", "full"], "");
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json["same"].as_bool(), json["tables"][0]["values"].as_u64()), (Some(false), Some(1)));
    shell.bare(&["backup", "diff", "base", "nowhere"], "").fails_with("nowhere");
}
