//! create, drop, rename, truncate, init, list, stat, verify.

use crate::shell::Shell;

#[test]
fn create_is_silent_and_repeatable() {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "table:people");
    shell.create("key_format=S,value_format=S", "table:people");
    shell.create("key_format=S", "people");
    shell.run(&["create", "people"]).silent();
    shell.run(&["create", "-c", "key_format=u", "people"]).fails_with("key_format=S");
    shell.run(&["list"]).prints("table:people\n");
    shell.run(&["list", "-v"]).prints("table:people\nkey_format=S,value_format=S\n");
}

#[test]
fn create_refuses_what_it_cannot_do() {
    let shell = Shell::new();
    for (config, part) in [
        ("key_format=z", "unknown letter `z`"),
        ("key_format=<i", "byte order"),
        ("columns=(a,b,c)", "3 columns"),
        ("colour=red", "colour"),
        ("key_format=(", "bracket"),
        ("collator=reverse", "not supported"),
        ("type=lsm", "not supported"),
    ] {
        shell.run(&["create", "-c", config, "t"]).fails_with(part);
    }
    for object in ["lsm:t", "index:t:i", "file:", "table:", "table:a{b"] {
        assert_eq!(shell.run(&["create", object]).code, 1, "{object}");
    }
    shell.create("block_compressor=zstd,leaf_page_max=32KB,collator=,type=file,source=\"file:x.wt\"", "t");
    shell
        .run(&["list", "-v"])
        .prints("table:t\nblock_compressor=zstd,leaf_page_max=32KB,collator=,type=file,key_format=u,value_format=u\n");
}

#[test]
fn drop_and_rename() {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "a");
    shell.create("", "b");
    shell.run(&["write", "a", "k", "v"]).silent();
    shell.run(&["rename", "a", "table:c"]).silent();
    shell.run(&["read", "c", "k"]).prints("v\n");
    assert_eq!(shell.run(&["rename", "c", "b"]).code, 1);
    shell.run(&["rename", "a", "d"]).fails_with("table:a");
    shell.run(&["drop", "a"]).fails_with("table:a");
    shell.run(&["drop", "-f", "a"]).silent();
    shell.run(&["drop", "table:c"]).silent();
    shell.run(&["drop", "file:b.wt"]).silent();
    shell.run(&["list"]).silent();
}

#[test]
fn truncate_removes_all_rows() {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "t");
    shell.run(&["write", "t", "a", "1", "b", "2"]).silent();
    shell.run(&["truncate", "t"]).silent();
    assert!(shell.rows(&["t"]).is_empty());
    shell.run(&["truncate", "nothing"]).fails("table:nothing: no such table");
}

#[test]
fn init_makes_a_database_once() {
    let shell = Shell::new();
    shell.run(&["init", "--latest"]).silent();
    shell.run(&["list"]).silent();
    shell.run(&["init"]).fails_with("there is a database already");
}

#[test]
fn list_selects_by_leading_text() {
    let shell = Shell::new();
    shell.run(&["init"]).silent();
    shell.run(&["list"]).silent();
    for name in ["b", "a", "ab"] {
        shell.create("", name);
    }
    shell.run(&["list"]).prints("table:a\ntable:ab\ntable:b\n");
    shell.run(&["list", "table:a"]).prints("table:a\ntable:ab\n");
    shell.run(&["list", "table:x"]).fails("table:x: not found");
}

#[test]
fn list_shows_checkpoints() {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "t");
    shell.create("", "u");
    shell.run(&["write", "t", "a", "1"]).silent();
    let text = shell.run(&["list", "-c"]).output();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "table:t");
    assert!(lines[1].starts_with("\t StrandlineCheckpoint."), "{text}");
    assert!(lines[1].contains(" (size ") && lines[1].ends_with("B)"), "{text}");
    assert!(lines[2].starts_with("\t\tsequence: ") && lines[2].ends_with(", stable: 0, pinned-by: none"), "{text}");
    assert_eq!(&lines[3..5], ["", "table:u"]);
    let json: serde_json::Value = serde_json::from_str(&shell.run(&["--json", "list"]).output()).unwrap();
    assert_eq!(json[0]["name"], "table:t");
    assert_eq!(json[0]["config"], "key_format=S,value_format=S");
    assert_eq!(json[0]["checkpoints"][0]["pinned_by"], "none");
    assert!(json[0]["checkpoints"][0]["size"].is_u64());
}

#[test]
fn stat_prints_names_and_values() {
    let shell = Shell::new();
    shell.create("", "t");
    let text = shell.run(&["stat"]).output();
    assert!(!text.is_empty());
    for line in text.lines() {
        let (name, value) = line.split_once('=').unwrap();
        assert!(!name.is_empty() && value.parse::<u64>().is_ok(), "{line}");
    }
    shell.run(&["stat", "-f", "table:t"]).output();
    shell.run(&["stat", "table:x"]).fails("table:x: no such table");
    let json: serde_json::Value = serde_json::from_str(&shell.run(&["stat", "--json"]).output()).unwrap();
    assert!(json.is_object());
}

#[test]
fn verify_is_silent_when_all_is_well() {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "t");
    shell.create("", "u");
    shell.run(&["write", "t", "a", "1"]).silent();
    shell.run(&["verify"]).silent();
    shell.run(&["verify", "-c", "table:t"]).silent();
    shell.run(&["verify", "table:x"]).fails("table:x: no such table");
}

#[test]
fn verify_names_the_damage() {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "t");
    shell.create("", "u");
    shell.run(&["write", "t", "a", "1"]).silent();
    let (name, mut bytes) = shell.bytes_of("home").into_iter().find(|(name, _)| name.ends_with(".sl")).unwrap();
    for byte in &mut bytes[4096..] {
        *byte ^= 0x55;
    }
    shell.write(&format!("home/{name}"), &bytes);
    for args in [&["verify"][..], &["verify", "-a", "t"], &["verify", "-c"], &["verify", "-S", "t"]] {
        let run = shell.run(args);
        assert_eq!(run.code, 1, "{run:?}");
        assert!(
            run.out.starts_with("table:t: ") && run.out.contains(&name) && run.out.contains(" at byte "),
            "{run:?}"
        );
    }
    shell.run(&["verify", "u"]).silent();
    let json = shell.run(&["--json", "verify"]);
    assert_eq!(json.code, 1);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["findings"][0]["object"], "table:t");
    assert!(json["findings"][0]["offset"].is_u64());
    shell.run(&["read", "t", "a"]).fails_with(&name);
}
