//! Wrong usage, help, version, and how problems are told.

use crate::shell::Shell;

#[test]
fn wrong_usage_is_exit_2() {
    let shell = Shell::new();
    let lines: [&[&str]; 14] = [
        &[],
        &["frobnicate"],
        &["list", "-z"],
        &["create"],
        &["rename", "a"],
        &["read", "table:t"],
        &["write", "table:t", "k"],
        &["write", "-r", "table:t", "a", "b"],
        &["dump", "-j", "-x", "t"],
        &["dump", "a", "b"],
        &["dump", "-e", "t"],
        &["load", "object-without-config"],
        &["-C", "x", "list"],
        &["restore", "only-one"],
    ];
    for line in lines {
        shell.run(line).misuses();
    }
    assert!(!shell.path("home").exists(), "wrong usage makes no database");
}

#[test]
fn help_and_version_are_successes() {
    let shell = Shell::new();
    for line in [&["-?"][..], &["--help"], &["dump", "-?"], &["backup", "verify", "--help"]] {
        let run = shell.bare(line, "");
        assert_eq!(run.code, 0);
        assert!(run.err.starts_with("usage: strandline"), "{}", run.err);
        assert!(run.out.contains("Options:") || run.out.contains("options:"), "{}", run.out);
    }
    let help = shell.bare(&["--help"], "").out;
    for command in [
        "alter", "backup", "create", "drop", "dump", "init", "list", "load", "printlog", "read", "restore", "verify",
        "write",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
    }
    let version = shell.bare(&["-V"], "").output();
    assert!(version.starts_with("strandline "), "{version}");
}

#[test]
fn a_directory_that_is_no_database() {
    let shell = Shell::new();
    for home in [".", "missing"] {
        let run = shell.run_on(home, &["list"]);
        assert_eq!(run.code, 1);
        assert!(run.err.contains("-h"), "{}", run.err);
        assert!(run.err.lines().last().unwrap().starts_with("remedy: "), "{}", run.err);
    }
    assert!(!shell.path("missing").exists());
}

#[test]
fn problems_as_json() {
    let shell = Shell::new();
    shell.create("", "t");
    let run = shell.run(&["--json", "dump", "nothing"]);
    assert_eq!((run.code, run.out.as_str()), (1, ""));
    let error: serde_json::Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!(error["error"]["kind"], "NotFound");
    assert!(error["error"]["message"].as_str().unwrap().contains("table:nothing"));
    assert!(error["error"]["file"].is_null() && error["error"]["offset"].is_null());
    assert!(error["error"]["remedy"].is_string());
    let run = shell.run(&["--json", "frobnicate"]);
    assert_eq!(run.code, 2);
    assert!(serde_json::from_str::<serde_json::Value>(&run.err).is_ok(), "{}", run.err);
}

#[test]
fn what_is_not_there_yet_says_so() {
    let shell = Shell::new();
    shell.create("", "t");
    let lines: [&[&str]; 4] = [
        &["compact", "table:t"],
        &["salvage", "-F", "table:t"],
        &["dump", "-t", "5", "table:t"],
        &["drop", "index:t:i"],
    ];
    for line in lines {
        shell.run(line).fails_with("not supported yet");
    }
}

#[test]
fn read_only_refuses_to_write() {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "t");
    shell.run(&["write", "t", "k", "v"]).silent();
    let lines: [&[&str]; 6] = [
        &["-r", "create", "u"],
        &["-r", "write", "t", "a", "b"],
        &["-r", "drop", "t"],
        &["-r", "truncate", "t"],
        &["-r", "rename", "t", "u"],
        &["-r", "backup", "copy"],
    ];
    for line in lines {
        let run = shell.run(line);
        assert_eq!(run.code, 1, "{line:?}");
        assert!(run.err.contains("read-only"), "{line:?} {}", run.err);
    }
    shell.run(&["-r", "read", "t", "k"]).prints("v\n");
}

#[test]
fn reading_commands_change_nothing() {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "t");
    shell.run(&["write", "t", "k", "v"]).silent();
    let before = shell.bytes_of("home");
    let lines: [&[&str]; 6] =
        [&["list", "-cv"], &["dump", "t"], &["read", "t", "k"], &["stat"], &["verify"], &["dump", "-c", "latest", "t"]];
    for line in lines {
        shell.run(line).output();
        assert_eq!(shell.bytes_of("home"), before, "{line:?}");
    }
}
