//! backup, backup verify, restore.

use std::fs;

use crate::shell::Shell;

fn people() -> Shell {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "people");
    shell.create("key_format=r,value_format=S", "staff");
    shell.run(&["write", "people", "ann", "paris", "bob", "oslo"]).silent();
    shell.run(&["write", "-a", "staff", "ann"]).silent();
    shell
}

#[test]
fn a_copy_is_silent_verifies_and_restores() {
    let shell = people();
    shell.run(&["backup", "copy"]).silent();
    shell.run(&["backup", "verify", "copy"]).silent();
    shell.run(&["backup", "verify", "--quick", "copy"]).silent();
    let before = shell.bytes_of("copy");
    shell.bare(&["restore", "copy", "new"], "").silent();
    assert_eq!(shell.bytes_of("copy"), before, "restoring leaves the copy alone");
    for table in ["people", "staff"] {
        assert_eq!(shell.run_on("new", &["dump", table]).output(), shell.run(&["dump", table]).output());
    }
    shell.run_on("new", &["write", "people", "cyd", "rome"]).silent();
    shell.run_on("new", &["verify"]).silent();
    shell.run_on("new", &["read", "people", "cyd"]).prints("rome\n");
}

#[test]
fn a_copy_can_be_read_where_it_stands() {
    let shell = people();
    shell.run(&["backup", "copy"]).silent();
    let before = shell.bytes_of("copy");
    shell.run_on("copy", &["list"]).prints("table:people\ntable:staff\n");
    shell.run_on("copy", &["read", "people", "ann"]).prints("paris\n");
    shell.run_on("copy", &["verify"]).silent();
    assert_eq!(shell.run_on("copy", &["dump", "people"]).output(), shell.run(&["dump", "people"]).output());
    assert_eq!(shell.bytes_of("copy"), before);
    shell.run(&["backup", "verify", "copy"]).silent();
}

#[test]
fn each_file_is_told_and_the_origin_comes_last() {
    let shell = people();
    let text = shell.run(&["-v", "backup", "copy"]).output();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("Backing up ") && lines[0].contains(" to copy/"), "{text}");
    let origin = lines.last().unwrap().strip_prefix("origin ").unwrap();
    assert_eq!(origin.split_once(':').unwrap().0.len(), 16);
    let json: serde_json::Value = serde_json::from_str(&shell.run(&["--json", "backup", "second"]).output()).unwrap();
    assert_eq!(json["kind"], "full");
    assert!(json["bytes"].as_u64().unwrap() > 0);
    assert!(json["files"].as_array().unwrap().iter().all(|file| file["name"].is_string() && file["size"].is_u64()));
    let report: serde_json::Value =
        serde_json::from_str(&shell.run(&["--json", "backup", "verify", "second"]).output()).unwrap();
    assert_eq!(report[0]["origin"], json["origin"]);
}

#[test]
fn the_destination_must_be_empty() {
    let shell = people();
    fs::create_dir(shell.path("empty")).unwrap();
    shell.run(&["backup", "empty"]).silent();
    shell.run(&["backup", "empty"]).fails_with("empty");
    assert_eq!(shell.run(&["backup", "no/such/parent"]).code, 1);
    shell.write("file", "x");
    assert_eq!(shell.run(&["backup", "file"]).code, 1);
    shell.bare(&["restore", "empty", "home"], "").fails_with("home");
    shell.run(&["backup", "./verify"]).silent();
    shell.run(&["backup", "verify", "verify"]).silent();
}

#[test]
fn chosen_tables() {
    let shell = people();
    shell.run(&["backup", "-t", "table:people", "part"]).silent();
    shell.bare(&["restore", "part", "a"], "").silent();
    shell.run_on("a", &["list"]).prints("table:people\n");
    shell.run(&["backup", "all"]).silent();
    shell.bare(&["restore", "-t", "staff", "all", "b"], "").silent();
    shell.run_on("b", &["list"]).prints("table:staff\n");
    shell.run(&["backup", "-t", "nothing", "c"]).fails_with("nothing");
    assert!(!shell.path("c").exists());
    shell.bare(&["restore", "-t", "nothing", "all", "d"], "").fails_with("nothing");
}

#[test]
fn damage_is_found_and_named() {
    let shell = people();
    shell.run(&["backup", "copy"]).silent();
    let (name, bytes) = shell.bytes_of("copy").into_iter().find(|(name, _)| name.ends_with(".sl")).unwrap();
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    damaged[5000] ^= 1;
    shell.write(&format!("copy/{name}"), &damaged);
    let run = shell.run(&["backup", "verify", "copy"]);
    assert_eq!(run.code, 1);
    assert!((run.out + &run.err).contains(&name));
    shell.run(&["backup", "verify", "--quick", "copy"]).silent();
    shell.bare(&["restore", "copy", "new"], "").fails_with(&name);
    shell.write(&format!("copy/{name}"), &bytes[..bytes.len() - 1]);
    assert_eq!(shell.run(&["backup", "verify", "--quick", "copy"]).code, 1);
    fs::remove_file(shell.path("copy").join(&name)).unwrap();
    assert_eq!(shell.run(&["backup", "verify", "copy"]).code, 1);
}

#[test]
fn strangers_are_reported_and_are_no_damage() {
    let shell = people();
    shell.run(&["backup", "copy"]).silent();
    shell.write("copy/notes.txt", "x");
    let run = shell.run(&["backup", "verify", "copy"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("notes.txt"), "{}", run.err);
    shell.run(&["backup", "verify", "home"]).fails_with("home");
}

#[test]
fn a_checkpoint_by_name() {
    let shell = people();
    shell.run(&["backup", "--checkpoint", "June01", "copy"]).fails_with("June01");
    shell.run(&["backup", "--fresh-checkpoint", "copy"]).silent();
    shell.run(&["backup", "--fresh-checkpoint", "--checkpoint", "x", "other"]).misuses();
}
