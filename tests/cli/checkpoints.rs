//! Named checkpoints, which programs take, as the command shows and uses them.

use strandline::{CheckpointOptions, Database, Options};

use crate::shell::Shell;

fn put(db: &Database, key: &str, value: &str) {
    let table = db.table("t").unwrap();
    let mut transaction = db.begin().unwrap();
    transaction.put(&table, [key.as_bytes(), b"\0"].concat(), [value.as_bytes(), b"\0"].concat()).unwrap();
    transaction.commit().unwrap();
}

/// `k` was `old` when June01 was taken, then `middle`, and is `new`; `later` came after June01.
fn three_states() -> Shell {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "t");
    let db = Options::new().open(shell.path("home")).unwrap();
    put(&db, "k", "old");
    db.checkpoint(CheckpointOptions::new().name("June01")).unwrap();
    put(&db, "k", "middle");
    db.checkpoint(CheckpointOptions::new().name("J")).unwrap();
    db.close().unwrap();
    shell.create("", "later");
    shell.run(&["write", "-o", "t", "k", "new"]).silent();
    shell
}

#[test]
fn they_are_listed_and_aligned() {
    let shell = three_states();
    let text = shell.run(&["list", "-c", "table:t"]).output();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('\t') && !line.starts_with("\t\t")).collect();
    assert_eq!(lines.len(), 3, "{text}");
    let width = lines[0].find(": ").unwrap();
    assert!(lines.iter().all(|line| line.find(": ") == Some(width)), "{text}");
    assert!(lines[0].trim_start().starts_with("June01: ") && lines[1].trim_start().starts_with("J: "), "{text}");
    assert!(lines[2].starts_with("\t StrandlineCheckpoint."), "{text}");
    let json: serde_json::Value = serde_json::from_str(&shell.run(&["--json", "list"]).output()).unwrap();
    assert_eq!(json[0]["checkpoints"].as_array().unwrap().len(), 3);
    assert_eq!(json[1]["checkpoints"][0]["name"], "June01");
}

#[test]
fn they_are_dumped() {
    let shell = three_states();
    assert_eq!(shell.rows(&["-c", "June01", "t"]), ["k\\00", "old\\00"]);
    assert_eq!(shell.rows(&["-c", "J", "t"]), ["k\\00", "middle\\00"]);
    assert_eq!(shell.rows(&["-c", "latest", "t"]), ["k\\00", "new\\00"]);
    shell.run(&["dump", "-c", "Jun", "t"]).fails_with("Jun");
    shell.run(&["dump", "-c", "June01", "later"]).fails("table:later: no such table");
}

#[test]
fn they_are_backed_up() {
    let shell = three_states();
    shell.run(&["backup", "--checkpoint", "J", "copy"]).silent();
    shell.run(&["backup", "verify", "copy"]).silent();
    shell.bare(&["restore", "copy", "new"], "").silent();
    shell.run_on("new", &["read", "t", "k"]).prints("middle\n");
    shell.run_on("new", &["list"]).prints("table:t\n");
    assert_eq!(
        shell.run_on("new", &["dump", "-c", "June01", "t"]).output(),
        shell.run(&["dump", "-c", "June01", "t"]).output()
    );
    shell.run_on("new", &["verify"]).silent();
    shell.run(&["backup", "whole"]).silent();
    shell.run_on("whole", &["read", "t", "k"]).prints("new\n");
    assert_eq!(
        shell.run_on("whole", &["dump", "-c", "J", "t"]).output(),
        shell.run(&["dump", "-c", "J", "t"]).output()
    );
}

#[test]
fn changes_of_a_table_leave_them_alone() {
    let shell = three_states();
    shell.run(&["-v", "truncate", "t"]).prints("Removed 1 rows of table:t\n");
    assert!(shell.rows(&["t"]).is_empty());
    assert_eq!(shell.rows(&["-c", "June01", "t"]), ["k\\00", "old\\00"]);
    shell.run(&["rename", "t", "renamed"]).silent();
    assert!(shell.rows(&["renamed"]).is_empty());
    shell.run(&["verify"]).silent();
}
