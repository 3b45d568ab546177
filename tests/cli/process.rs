//! The command among other processes: a home in use, runs that are killed, readers that go away.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strandline::Options;

use crate::shell::{Shell, head};

const TEXT: &str = "key_format=S,value_format=S";

fn start(shell: &Shell, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_strandline"))
        .args(["-h", "home"])
        .args(args)
        .current_dir(shell.path("."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_home_in_use_is_busy() {
    let shell = Shell::new();
    shell.create(TEXT, "t");
    let db = Options::new().open(shell.path("home")).unwrap();
    for args in [&["list"][..], &["dump", "t"], &["write", "t", "a", "1"], &["backup", "copy"], &["verify"]] {
        let run = shell.run(&[&["--json"], args].concat());
        assert_eq!((run.code, run.out.as_str()), (1, ""), "{args:?}");
        let error: serde_json::Value = serde_json::from_str(&run.err).unwrap();
        assert_eq!(error["error"]["kind"], "Busy", "{args:?}");
    }
    assert!(!shell.path("copy").exists());
    db.close().unwrap();
    shell.run(&["list"]).prints("table:t\n");
}

/// Feeds rows to `load` until something of them is on disk, and kills it.
fn killed_load(shell: &Shell) {
    let mut child = start(shell, &["load"]);
    let mut input = child.stdin.take().unwrap();
    input.write_all(head("table:big", TEXT).as_bytes()).unwrap();
    let value = "v".repeat(1000);
    for i in 0..20_000 {
        writeln!(input, "k{i:06}\\00\n{value}\\00").unwrap();
    }
    input.flush().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_load_that_is_killed_leaves_what_was_there() {
    let shell = Shell::new();
    shell.create(TEXT, "t");
    shell.run(&["write", "t", "a", "1"]).silent();
    killed_load(&shell);
    let before = shell.bytes_of("home");
    shell.run(&["read", "t", "a"]).prints("1\n");
    shell.run(&["verify"]).silent();
    assert_eq!(shell.bytes_of("home"), before, "readers recover in memory");
    shell.run(&["-R", "verify"]).silent();
    shell.run(&["read", "t", "a"]).prints("1\n");
    shell.feed(&["load"], head("table:big", TEXT) + "k\\00\nv\\00\n").silent();
    shell.run(&["read", "big", "k"]).prints("v\n");
    shell.run(&["verify"]).silent();
}

#[test]
fn a_backup_that_is_killed_leaves_no_copy() {
    let shell = Shell::new();
    let value = "v".repeat(4000);
    let rows: String = (0..20_000).map(|i| format!("k{i:06}\\00\n{value}\\00\n")).collect();
    shell.feed(&["load"], head("table:t", TEXT) + &rows).silent();
    let mut child = start(&shell, &["backup", "copy"]);
    let began = Instant::now();
    while !shell.path("copy").exists() && began.elapsed() < Duration::from_secs(10) {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    let finished = child.wait().unwrap().success();
    if !finished {
        assert!(!shell.path("copy/Strandline.manifest").exists());
        assert_eq!(shell.run(&["backup", "verify", "copy"]).code, 1);
        assert_eq!(shell.bare(&["restore", "copy", "new"], "").code, 1);
        assert_eq!(shell.run_on("copy", &["list"]).code, 1);
        assert!(!shell.path("new").exists());
    }
    shell.run(&["verify"]).silent();
    shell.run(&["read", "t", "k000000"]).prints(&format!("{value}\n"));
    shell.run(&["backup", "again"]).silent();
    shell.run(&["backup", "verify", "again"]).silent();
}

#[test]
fn a_reader_that_goes_away_ends_the_dump() {
    let shell = Shell::new();
    let rows: String = (0..50_000).map(|i| format!("k{i:06}\\00\nv\\00\n")).collect();
    shell.feed(&["load"], head("table:t", TEXT) + &rows).silent();
    let mut child = start(&shell, &["dump", "t"]);
    let mut output = child.stdout.take().unwrap();
    let mut some = [0; 100];
    output.read_exact(&mut some).unwrap();
    drop(output);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(some.starts_with(b"WiredTiger Dump "));
}

#[test]
fn damage_of_the_home_is_told_with_its_file() {
    let shell = Shell::new();
    shell.create(TEXT, "t");
    shell.run(&["write", "t", "a", "1"]).silent();
    for name in ["Strandline.root", "Strandline.catalog"] {
        let path = shell.path("home").join(name);
        let good = fs::read(&path).unwrap();
        fs::write(&path, vec![0x55; good.len()]).unwrap();
        let run = shell.run(&["--json", "list"]);
        assert_eq!(run.code, 1, "{name}");
        let error: serde_json::Value = serde_json::from_str(&run.err).unwrap();
        assert_eq!(error["error"]["kind"], "Corrupt", "{name}: {error}");
        assert!(error["error"]["file"].as_str().unwrap().contains(name), "{error}");
        assert_eq!(shell.run(&["create", "u"]).code, 1, "{name}: no new database over old files");
        fs::remove_file(&path).unwrap();
        assert_eq!(shell.run(&["create", "u"]).code, 1, "{name}: no new database over old files");
        fs::write(&path, good).unwrap();
        shell.run(&["list"]).prints("table:t\n");
    }
}
