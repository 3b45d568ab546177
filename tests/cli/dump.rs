//! dump: its forms, bounds and windows.

use crate::shell::Shell;

fn people() -> Shell {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "t");
    shell.run(&["write", "t", "ann", "a\\b", "bob", "é", "cyd", "x"]).silent();
    shell
}

#[test]
fn the_exact_text() {
    let shell = people();
    let version = env!("CARGO_PKG_VERSION");
    shell.run(&["dump", "table:t"]).prints(&format!(
        "WiredTiger Dump (Strandline {version})\nFormat=print\nHeader\ntable:t\nkey_format=S,value_format=S\nData\n\
         ann\\00\na\\\\b\\00\nbob\\00\n\\c3\\a9\\00\ncyd\\00\nx\\00\n"
    ));
    shell.run(&["dump", "-x", "t"]).prints(&format!(
        "WiredTiger Dump (Strandline {version})\nFormat=hex\nHeader\ntable:t\nkey_format=S,value_format=S\nData\n\
         616e6e00\n615c6200\n626f6200\nc3a900\n63796400\n7800\n"
    ));
    let json = shell.run(&["dump", "-j", "t"]).output();
    assert_eq!(
        json,
        format!(
            "{{\n    \"WiredTiger Dump Version\" : \"1 (Strandline {version})\",\n    \"table:t\" : [\n        {{\n            \
             \"config\" : \"key_format=S,value_format=S\",\n            \"colgroups\" : [],\n            \"indices\" : []\n        \
             }},\n        {{\n            \"data\" : [\n{{\n\"key0\" : \"ann\",\n\"value0\" : \"a\\\\b\"\n}},\n{{\n\"key0\" : \
             \"bob\",\n\"value0\" : \"\\u00c3\\u00a9\"\n}},\n{{\n\"key0\" : \"cyd\",\n\"value0\" : \"x\"\n}}\n            ]\n        \
             }}\n    ]\n}}\n"
        )
    );
    assert_eq!(shell.run(&["--json", "dump", "t"]).output(), json);
}

#[test]
fn to_a_file() {
    let shell = people();
    shell.run(&["dump", "-f", "out", "t"]).silent();
    assert_eq!(shell.read("out"), shell.run(&["dump", "t"]).output());
    shell.run(&["dump", "-f", "no/such/place", "t"]).fails_with("no/such/place");
    shell.run(&["dump", "-f", "other", "missing"]).fails("table:missing: no such table");
    assert!(!shell.path("other").exists());
}

#[test]
fn for_people() {
    let shell = Shell::new();
    shell.create("key_format=r,value_format=Siu,columns=(id,name,age,photo)", "t");
    let head = crate::shell::head("table:t", "key_format=r,value_format=Siu,columns=(id,name,age,photo)");
    shell.feed(&["load"], format!("{head}7\nann\\00\\c0\\ec\\01a\n")).silent();
    assert_eq!(shell.rows(&["-p", "t"]), ["7", "ann,300,\\01a"]);
    assert_eq!(shell.rows(&["-px", "t"]), ["7", "ann,300,0161"]);
    assert!(shell.run(&["dump", "-px", "t"]).output().contains("\nFormat=print hex\n"));
    assert_eq!(shell.rows(&["t"]), ["7", "ann\\00\\c0\\ec\\01a"]);
    assert_eq!(shell.rows(&["-x", "t"]), ["7", "616e6e00c0ec0161"]);
    assert_eq!(shell.rows(&["-p", "table:t(age,id)"]), ["7", "300,7"]);
    let projected = shell.run(&["dump", "table:t(age)"]).output();
    assert!(projected.contains("key_format=r,value_format=i,columns=(id,age)"), "{projected}");
    shell.run(&["dump", "table:t(height)"]).fails_with("no column `height`");
}

#[test]
fn bounds_are_inclusive() {
    let shell = people();
    let keys = |args: &[&str]| -> Vec<String> { shell.rows(args).into_iter().step_by(2).collect() };
    assert_eq!(keys(&["-l", "bob\\00", "t"]), ["bob\\00", "cyd\\00"]);
    assert_eq!(keys(&["-u", "bob\\00", "t"]), ["ann\\00", "bob\\00"]);
    assert_eq!(keys(&["-l", "b\\00", "-u", "c\\00", "t"]), ["bob\\00"]);
    assert_eq!(keys(&["-r", "-u", "bob\\00", "t"]), ["bob\\00", "ann\\00"]);
    assert!(keys(&["-l", "z\\00", "-u", "a\\00", "t"]).is_empty());
    assert_eq!(keys(&["-x", "-l", "626F6200", "t"]), ["626f6200", "63796400"]);
    shell.run(&["dump", "-l", "a\\0", "t"]).fails_with("invalid hexadecimal");
}

#[test]
fn one_key_and_its_neighbours() {
    let shell = people();
    let keys = |args: &[&str]| -> Vec<String> { shell.rows(args).into_iter().step_by(2).collect() };
    assert_eq!(keys(&["-k", "bob\\00", "t"]), ["bob\\00"]);
    assert_eq!(keys(&["-k", "bob\\00", "-w", "1", "t"]), ["ann\\00", "bob\\00", "cyd\\00"]);
    assert_eq!(keys(&["-k", "ann\\00", "-w", "1", "t"]), ["ann\\00", "bob\\00"]);
    assert_eq!(keys(&["-k", "cyd\\00", "-w", "5", "-r", "t"]), ["cyd\\00", "bob\\00", "ann\\00"]);
    assert_eq!(keys(&["-k", "b\\00", "-n", "t"]), ["bob\\00"]);
    assert_eq!(keys(&["-k", "z\\00", "-n", "t"]), ["cyd\\00"]);
    let run = shell.run(&["dump", "-k", "b\\00", "t"]);
    assert_eq!(run.out, "", "nothing is written for a key that is not there");
    run.fails_with("b\\00: not found");
    let json = shell.run(&["dump", "-j", "-k", "\"key0\" : \"bob\"", "t"]).output();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["table:t"][1]["data"].as_array().unwrap().len(), 1);
    shell.create("", "empty");
    shell.run(&["dump", "-n", "-k", "x", "empty"]).fails_with("x: not found");
}

#[test]
fn several_tables_in_json() {
    let shell = people();
    shell.create("key_format=r,value_format=Q,columns=(id,n)", "numbers");
    shell
        .feed(
            &["load"],
            crate::shell::head("table:numbers", "key_format=r,value_format=Q")
                + "5\n\\e8\\ff\\ff\\ff\\ff\\ff\\ff\\df\\bf\n",
        )
        .silent();
    let json = shell.run(&["dump", "-j", "t", "numbers"]).output();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["table:t"][1]["data"].as_array().unwrap().len(), 3);
    assert_eq!(json["table:numbers"][1]["data"][0]["n"], u64::MAX);
    assert_eq!(json["table:numbers"][1]["data"][0]["id"], 5);
}

#[test]
fn as_of_a_checkpoint() {
    let shell = people();
    assert_eq!(shell.rows(&["-c", "latest", "t"]), shell.rows(&["t"]));
    shell.run(&["dump", "-c", "June01", "t"]).fails_with("June01");
}

#[test]
fn items_that_do_not_fit_their_format() {
    let shell = Shell::new();
    shell.feed(&["load"], crate::shell::head("table:t", "key_format=S,value_format=S") + "k\\00\nno end\n").silent();
    assert_eq!(shell.rows(&["t"]), ["k\\00", "no end"]);
    shell.run(&["dump", "-p", "t"]).fails_with("does not fit format `S`");
    shell.run(&["dump", "-j", "t"]).fails_with("does not fit format `S`");
    shell.run(&["read", "t", "k"]).fails_with("does not fit format `S`");
}
