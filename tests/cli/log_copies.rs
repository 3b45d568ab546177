//! backup --log, and increments from the log: applied, laid beside a copy with `cp`, restored.

use std::fs;

use serde_json::Value;

use crate::shell::Shell;

/// A home that keeps its log, with a row in `t`, and a full backup `base` of it.
fn with_base() -> Shell {
    let shell = Shell::new();
    shell.run(&["init", "--log", "--keep-log"]).silent();
    shell.create("key_format=S,value_format=S", "t");
    shell.run(&["write", "t", "k0", "before"]).silent();
    shell.run(&["backup", "base"]).silent();
    shell
}

/// Changes a row, makes a table and renames the one before, and takes the increment `inc{i}`.
fn step(shell: &Shell, i: u32, options: &[&str]) {
    let (key, table, place) = (format!("k{i}"), format!("made{i}"), format!("inc{i}"));
    shell.run(&["write", "-o", "t", "k0", &key, &key, "x"]).silent();
    shell.create("key_format=S,value_format=S", &table);
    shell.run(&["write", &table, "a", &key]).silent();
    if i > 1 {
        shell.run(&["rename", &format!("made{}", i - 1), &format!("renamed{i}")]).silent();
    }
    let line: Vec<&str> = ["backup", "--log"].iter().chain(options).copied().chain([place.as_str()]).collect();
    shell.run(&line).silent();
}

/// What is in a home, as text.
fn contents(shell: &Shell, home: &str) -> String {
    let tables = shell.run_on(home, &["list"]).output();
    let dumps = tables.lines().map(|table| shell.run_on(home, &["dump", table]).output());
    dumps.collect()
}

/// Lays the files of one directory beside those of another, as `cp` does.
fn lay(shell: &Shell, from: &str, to: &str) {
    for (name, bytes) in shell.bytes_of(from) {
        shell.write(&format!("{to}/{name}"), bytes);
    }
}

/// A copy of a copy.
fn twin(shell: &Shell, from: &str, to: &str) {
    fs::create_dir(shell.path(to)).unwrap();
    lay(shell, from, to);
}

#[track_caller]
fn kind(shell: &Shell, args: &[&str]) -> String {
    let run = shell.bare(&[&["--json"], args].concat(), "");
    assert_eq!(run.code, 1, "{args:?} {run:?}");
    serde_json::from_str::<Value>(&run.err).unwrap()["error"]["kind"].as_str().unwrap().to_owned()
}

#[test]
fn a_copy_is_rolled_forward_by_the_log_in_three_ways() {
    let shell = with_base();
    for i in 1..4 {
        step(&shell, i, if i == 2 { &["--remove-log"] } else { &[] });
    }
    let wanted = contents(&shell, "home");
    assert!(wanted.contains("renamed3") && wanted.contains("made3"), "{wanted}");
    shell.run(&["backup", "verify", "base", "inc1", "inc2", "inc3"]).silent();
    let base = shell.bytes_of("base");
    shell.bare(&["restore", "base", "inc1", "inc2", "inc3", "restored"], "").silent();
    assert_eq!(shell.bytes_of("base"), base, "restoring leaves the copy alone");
    twin(&shell, "base", "laid");
    for inc in ["inc1", "inc2", "inc3"] {
        lay(&shell, inc, "laid");
    }
    shell.bare(&["restore", "laid", "again"], "").silent();
    shell.bare(&["backup", "apply", "inc1", "inc2", "inc3", "base"], "").silent();
    shell.bare(&["backup", "apply", "inc2", "base"], "").silent();
    shell.run(&["backup", "verify", "base"]).silent();
    shell.bare(&["restore", "base", "last"], "").silent();
    for home in ["restored", "laid", "again", "base", "last"] {
        assert_eq!(contents(&shell, home), wanted, "{home}");
        shell.run_on(home, &["verify"]).silent();
    }
    for (home, copy) in [("part", "base"), ("other", "laid")] {
        shell.bare(&["restore", "-t", "made3", copy, home], "").silent();
        shell.run_on(home, &["list"]).prints("table:made3\n");
        shell.run_on(home, &["read", "made3", "a"]).prints("k3\n");
    }
    shell.bare(&["restore", "-t", "t", "laid", "inc3", "chosen"], "").silent();
    shell.run_on("chosen", &["list"]).prints("table:t\n");
}

#[test]
fn what_was_made_is_told() {
    let shell = with_base();
    shell.run(&["write", "t", "k1", "x"]).silent();
    let text = shell.run(&["backup", "-v", "--log", "--remove-log", "inc1"]).output();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("Backing up home/StrandlineLog.0000000001 to inc1/"), "{text}");
    assert!(lines.contains(&"Removed StrandlineLog.0000000001"), "{text}");
    assert!(lines.last().unwrap().starts_with("log to "), "{text}");
    assert!(!shell.path("home/StrandlineLog.0000000001").exists());
    assert!(shell.path("inc1/StrandlineLog.0000000001").exists());
    let json = shell.run(&["--json", "backup", "--log", "inc2"]).output();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["kind"].as_str(), json["origin"].is_null()), (Some("log"), true));
    assert!(
        json["files"].as_array().unwrap().iter().all(|f| f["name"].as_str().unwrap().starts_with("StrandlineLog."))
    );
    assert_eq!(json["log_removed"], Value::Array(Vec::new()));
    let told = shell.bare(&["--json", "backup", "apply", "inc1", "base"], "").output();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told[0]["bytes"].as_u64().unwrap() > 0 && told[0]["log_end"].is_string(), "{told}");
    let checked: Value = serde_json::from_str(&shell.run(&["--json", "backup", "verify", "inc1"]).output()).unwrap();
    assert_eq!((checked[0]["sound"].as_bool(), checked[0]["origin"].is_null()), (Some(true), true));
}

#[test]
fn the_log_of_a_copy_and_of_an_increment_is_printed() {
    let shell = with_base();
    step(&shell, 1, &[]);
    let home: Value = serde_json::from_str(&shell.run(&["printlog", "-u"]).output()).unwrap();
    let increment: Value = serde_json::from_str(&shell.run_on("inc1", &["printlog", "-u"]).output()).unwrap();
    assert_eq!(home, increment);
    let copy: Vec<Value> = serde_json::from_str(&shell.run_on("base", &["printlog", "-u"]).output()).unwrap();
    assert!(!copy.is_empty() && copy.iter().all(|record| home.as_array().unwrap().contains(record)));
    let before = shell.bytes_of("base");
    shell.run_on("base", &["printlog", "-m"]).silent();
    assert_eq!(shell.bytes_of("base"), before, "no lock file is made");
}

#[test]
fn options_that_do_not_go_together() {
    let shell = with_base();
    let lines: [&[&str]; 7] = [
        &["backup", "--remove-log", "x"],
        &["backup", "--log", "-t", "t", "x"],
        &["backup", "--log", "--incremental-from", "base", "x"],
        &["backup", "--log", "--checkpoint", "June01", "x"],
        &["backup", "--log", "--fresh-checkpoint", "x"],
        &["backup", "--log", "--into", "base"],
        &["backup", "--log"],
    ];
    for line in lines {
        shell.run(line).misuses();
    }
    assert!(!shell.path("x").exists());
    shell.run(&["-r", "backup", "--log", "x"]).fails_with("read-only");
    fs::create_dir(shell.path("full")).unwrap();
    shell.write("full/file", "x");
    shell.run(&["backup", "--log", "full"]).fails_with("full");
}

#[test]
fn a_log_is_needed_and_it_must_be_kept() {
    let shell = Shell::new();
    shell.create("", "t");
    assert_eq!(kind(&shell, &["-h", "home", "backup", "--log", "x"]), "InvalidArgument");
    shell.run_on("removes", &["init", "--log"]).silent();
    assert_eq!(kind(&shell, &["-h", "removes", "backup", "--log", "x"]), "InvalidArgument");
    shell.run_on("removes", &["backup", "--log", "x"]).fails_with("remedy: ");
    assert!(!shell.path("x").exists());
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_changes() {
    let shell = with_base();
    step(&shell, 1, &["--remove-log"]);
    step(&shell, 2, &[]);
    let base = shell.bytes_of("base");
    let other = with_base();
    other.run(&["write", "t", "x", "y"]).silent();
    other.run(&["backup", "--log", "foreign"]).silent();
    twin(&other, "foreign", shell.path("foreign").to_str().unwrap());
    for wrong in ["inc2", "foreign"] {
        assert_eq!(kind(&shell, &["backup", "apply", wrong, "base"]), "WrongBase", "{wrong}");
        assert_eq!(kind(&shell, &["restore", "base", wrong, "new"]), "WrongBase", "{wrong}");
        assert!(!shell.path("new").exists());
        twin(&shell, "base", "laid");
        lay(&shell, wrong, "laid");
        let laid = shell.bytes_of("laid");
        assert_eq!(kind(&shell, &["-h", "laid", "list"]), "WrongBase", "{wrong}");
        assert_eq!(kind(&shell, &["-h", "laid", "write", "t", "a", "b"]), "WrongBase", "{wrong}");
        assert_eq!(shell.bytes_of("laid"), laid);
        for (name, _) in shell.bytes_of(wrong) {
            if !base.iter().any(|(n, _)| *n == name) {
                fs::remove_file(shell.path("laid").join(name)).unwrap();
            }
        }
        if wrong == "inc2" {
            shell.run_on("laid", &["read", "t", "k0"]).prints("before\n");
        }
        fs::remove_dir_all(shell.path("laid")).unwrap();
    }
    assert_eq!(kind(&shell, &["-h", "inc1", "list"]), "WrongBase");
    assert_eq!(kind(&shell, &["restore", "inc1", "new"]), "WrongBase");
    assert_eq!(kind(&shell, &["-h", "home", "backup", "--incremental-from", "inc1", "x"]), "WrongBase");
    assert_eq!(shell.bytes_of("base"), base);
    shell.bare(&["backup", "apply", "inc1", "inc2", "base"], "").silent();
    // A copy takes increments of one kind only.
    assert_eq!(kind(&shell, &["-h", "home", "backup", "--incremental-from", "base", "x"]), "InvalidArgument");
    assert!(!shell.path("x").exists());
}

#[test]
fn increments_of_both_kinds_are_not_mixed() {
    let shell = with_base();
    shell.run(&["write", "t", "k1", "x"]).silent();
    shell.run(&["backup", "--incremental-from", "base", "blocks"]).silent();
    shell.run(&["backup", "--log", "inc1"]).silent();
    twin(&shell, "base", "second");
    shell.bare(&["backup", "apply", "blocks", "base"], "").silent();
    let rolled = shell.bytes_of("base");
    shell.run(&["write", "t", "k2", "x"]).silent();
    shell.run(&["backup", "--log", "inc2"]).silent();
    assert_eq!(kind(&shell, &["backup", "apply", "inc2", "base"]), "InvalidArgument");
    assert_eq!(shell.bytes_of("base"), rolled);
    shell.bare(&["backup", "apply", "inc1", "second"], "").silent();
    assert_eq!(kind(&shell, &["backup", "apply", "blocks", "second"]), "InvalidArgument");
}

#[test]
fn a_copy_that_was_opened_for_writing_has_a_history_of_its_own() {
    let shell = with_base();
    step(&shell, 1, &[]);
    shell.run_on("base", &["read", "t", "k0"]).prints("before\n");
    shell.run_on("base", &["write", "t", "own", "x"]).silent();
    assert_eq!(kind(&shell, &["backup", "apply", "inc1", "base"]), "WrongBase");
    let before = shell.bytes_of("base");
    lay(&shell, "inc1", "base");
    assert_eq!(kind(&shell, &["-h", "base", "list"]), "WrongBase");
    assert_eq!(kind(&shell, &["-h", "base", "write", "t", "a", "b"]), "WrongBase");
    for (name, _) in shell.bytes_of("inc1") {
        fs::remove_file(shell.path("base").join(name)).unwrap();
    }
    for (name, bytes) in before {
        shell.write(&format!("base/{name}"), bytes);
    }
    shell.run_on("base", &["read", "t", "own"]).prints("x\n");
}

#[test]
fn damage_of_an_increment_is_found_and_named() {
    let shell = with_base();
    step(&shell, 1, &[]);
    let (name, bytes) =
        shell.bytes_of("inc1").into_iter().rfind(|(name, _)| name.starts_with("StrandlineLog.")).unwrap();
    let base = shell.bytes_of("base");
    let mut damaged = bytes.clone();
    damaged[4096 + 22] ^= 1;
    shell.write(&format!("inc1/{name}"), &damaged);
    let run = shell.run(&["backup", "verify", "inc1"]);
    assert!(run.code == 1 && (run.out.clone() + &run.err).contains(&name), "{run:?}");
    shell.run_on("inc1", &["printlog"]).fails_with(&name);
    assert_eq!(kind(&shell, &["backup", "apply", "inc1", "base"]), "Corrupt");
    assert_eq!(kind(&shell, &["restore", "base", "inc1", "new"]), "Corrupt");
    fs::remove_file(shell.path("inc1").join(&name)).unwrap();
    assert_eq!(kind(&shell, &["backup", "apply", "inc1", "base"]), "Corrupt");
    assert_eq!(shell.run(&["backup", "verify", "--quick", "inc1"]).code, 1);
    assert_eq!(shell.bytes_of("base"), base);
    shell.write(&format!("inc1/{name}"), &bytes);
    shell.bare(&["backup", "apply", "inc1", "base"], "").silent();
    assert_eq!(contents(&shell, "base"), contents(&shell, "home"));
}

#[test]
fn a_log_in_another_directory() {
    let shell = Shell::new();
    let elsewhere = shell.path("elsewhere");
    shell.run(&["init", "--log", "--keep-log", "--log-dir", elsewhere.to_str().unwrap()]).silent();
    shell.create("key_format=S,value_format=S", "t");
    shell.run(&["backup", "base"]).silent();
    step(&shell, 1, &["--remove-log"]);
    assert!(shell.path("inc1/StrandlineLog.0000000002").exists());
    let mine = shell.bytes_of("elsewhere");
    shell.bare(&["restore", "base", "inc1", "new"], "").silent();
    assert_eq!(contents(&shell, "new"), contents(&shell, "home"));
    // Two databases must not share a log.
    shell.run_on("new", &["write", "t", "own", "x"]).silent();
    assert_eq!(shell.bytes_of("elsewhere"), mine);
    let own = shell.run_on("new", &["printlog", "-u"]).output();
    assert!(own.contains("own"), "{own}");
}

/// What an increment of blocks does not carry must not be removed in its name.
#[test]
fn segments_are_removed_only_with_increments_of_the_log() {
    let shell = with_base();
    step(&shell, 1, &[]);
    let before = shell.bytes_of("home").into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    for other in [&["--incremental-from", "base"][..], &["--fresh-checkpoint"], &["-t", "t"]] {
        let line: Vec<&str> = ["backup", "--remove-log"].iter().chain(other).copied().chain(["blocks"]).collect();
        assert_eq!(shell.run(&line).code, 2, "{line:?}");
    }
    assert_eq!(shell.run(&["backup", "--log", "--granularity", "4K", "blocks"]).code, 2);
    assert_eq!(shell.bytes_of("home").into_iter().map(|(name, _)| name).collect::<Vec<_>>(), before);
}

/// A segment that was damaged at its source is found when it has been copied, and the originals stay.
#[test]
fn damaged_segments_are_not_removed() {
    let shell = with_base();
    step(&shell, 1, &[]);
    step(&shell, 2, &[]);
    let logged = |(name, _): &(String, Vec<u8>)| name.starts_with("StrandlineLog.");
    let (segment, mut bytes) = shell.bytes_of("home").into_iter().find(logged).unwrap();
    let path = format!("home/{segment}");
    let at = bytes.iter().rposition(|b| *b != 0).unwrap();
    bytes[at] ^= 1;
    shell.write(&path, bytes);
    let run = shell.run(&["backup", "--log", "--remove-log", "inc3"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains(&segment), "{run:?}");
    assert!(shell.bytes_of("home").iter().any(|(name, _)| *name == segment), "it is still there");
}
