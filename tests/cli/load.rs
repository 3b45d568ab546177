//! load: what a dump holds arrives, and bad input is named and leaves what came before it.

use crate::shell::{Shell, head};

const TEXT: &str = "key_format=S,value_format=S";

#[test]
fn there_and_back_in_every_form() {
    let shell = Shell::new();
    let all: String = (0..=255).map(|byte| format!("\\{byte:02x}")).collect();
    let text = head("table:t", "key_format=u,value_format=iuu,columns=(a,b,c,d)")
        + &format!("\n\\85\\80\nk\n\\7f\\c0\\c0{all}{all}\nz\n\\85\\80\n");
    shell.feed(&["load"], &text).silent();
    for form in [&[][..], &["-x"], &["-j"]] {
        let args: Vec<&str> = ["dump"].iter().chain(form).chain(&["t"]).copied().collect();
        let dumped = shell.run(&args).output();
        let again: &[&str] = if form == ["-j"] { &["load", "-j"] } else { &["load"] };
        for home in ["again", "again", "new"] {
            let other = Shell::new().at(home);
            other.feed(again, &dumped).silent();
            other.feed(again, &dumped).silent();
            assert_eq!(other.run(&args).output(), dumped, "{form:?}");
        }
    }
}

#[test]
fn record_numbers_keep_their_gaps_or_are_appended() {
    let shell = Shell::new();
    let text = head("table:t", "key_format=r,value_format=S") + "3\na\\00\n0x10\nb\\00\n";
    shell.feed(&["load"], &text).silent();
    assert_eq!(shell.rows(&["t"]), ["3", "a\\00", "16", "b\\00"]);
    shell.feed(&["load", "-a"], &text).silent();
    assert_eq!(shell.rows(&["t"])[4..], ["17", "a\\00", "18", "b\\00"]);
    let json = shell.run(&["dump", "-j", "t"]).output();
    shell.feed(&["load", "-a", "-j", "-r", "new"], json).silent();
    assert_eq!(shell.rows(&["new"]).into_iter().step_by(2).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    let bad = head("table:t", "key_format=r,value_format=S") + "x\na\\00\n";
    shell.feed(&["load"], bad).fails("standard input: line 7: `x` is no record number");
}

#[test]
fn appending_needs_record_numbers() {
    let shell = Shell::new();
    shell.feed(&["load", "-a"], head("table:t", TEXT)).fails_with("the key format is `S`");
    assert_eq!(shell.feed(&["load", "-a", "-n"], head("table:t", TEXT)).code, 1);
    assert!(!shell.path("home").exists());
}

#[test]
fn rows_replace_unless_told_not_to() {
    let shell = Shell::new();
    let text = |value: &str| head("table:t", TEXT) + &format!("a\\00\n1\\00\nk\\00\n{value}\\00\n");
    shell.feed(&["load"], text("v")).silent();
    shell.feed(&["load"], text("w")).silent();
    shell.run(&["read", "t", "k"]).prints("w\n");
    shell.feed(&["load", "-n"], text("x")).fails("table:t: attempt to insert an existing key");
    shell.run(&["read", "t", "k"]).prints("w\n");
}

#[test]
fn under_another_name_and_with_other_settings() {
    let shell = Shell::new();
    let text = head("table:old", "app_metadata=a,key_format=S,value_format=S") + "k\\00\nv\\00\n";
    shell.feed(&["load", "-r", "new", "table:new", "app_metadata=b"], &text).silent();
    shell.run(&["list", "-v"]).prints("table:new\napp_metadata=b,key_format=S,value_format=S\n");
    shell.feed(&["load", "table:other", "app_metadata=b"], &text).fails_with("does not match any object");
    shell.feed(&["load", "table:old", "key_format=u"], &text).fails_with("may not be modified");
    shell.run(&["list"]).prints("table:new\n");
    shell.feed(&["load"], head("file:plain.wt", TEXT)).silent();
    shell.run(&["list", "table:p"]).prints("table:plain\n");
}

#[test]
fn formats_of_an_existing_table_must_agree() {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=u", "t");
    shell.feed(&["load"], head("table:t", TEXT) + "k\\00\nv\\00\n").fails_with("value_format=u, not S");
    assert!(shell.rows(&["t"]).is_empty());
}

#[test]
fn bad_input_names_its_line() {
    let shell = Shell::new();
    let good = head("table:t", TEXT);
    for (text, want) in [
        (String::new(), "line 1: input does not match WiredTiger dump format"),
        ("Dump\n".to_owned(), "line 1: input does not match WiredTiger dump format"),
        (good.replace("print", "json"), "line 2: input does not match WiredTiger dump format"),
        (good.replace("print", "print hex"), "line 2: input does not match WiredTiger dump format"),
        (good.replace("Data\n", ""), "line 5: input does not match WiredTiger dump format"),
        (good.replace("key_format=S,value_format=S\n", ""), "line 5: input does not match WiredTiger dump format"),
    ] {
        shell.feed(&["load"], text).fails(&format!("standard input: {want}"));
    }
    assert!(!shell.path("home").exists(), "a bad header makes no database");
    for (key, rows, want) in [
        ("a", "a\\00\nv\\00\nk\\00\n", "line 10: unexpected end-of-file"),
        ("b", "b\\00\nv\\00\nk\\00\nv", "line 10: no newline terminator"),
        ("c", "c\\00\nv\\00\nk\\0\nv\\00\n", "line 9: invalid hexadecimal"),
        ("d", "d\\00\nv\\00\nk\\00\nv\\0g\n", "line 10: invalid hexadecimal"),
    ] {
        shell.write("input", format!("{good}{rows}"));
        shell.run(&["load", "-f", "input"]).fails(&format!("input: {want}"));
        shell.run(&["read", "t", key]).prints("v\n");
    }
    shell.run(&["load", "-f", "missing"]).fails_with("missing");
}

#[test]
fn bad_json_names_its_line() {
    let shell = Shell::new();
    shell.create(TEXT, "t");
    shell.run(&["write", "t", "k", "v"]).silent();
    let good = shell.run(&["dump", "-j", "t"]).output();
    for (text, part) in [
        (String::new(), "line 1: unexpected end-of-file"),
        (good.replace("\"1 (", "\"2 ("), "version 2"),
        (good.replace("\"v\"", "5"), "line 14: text is needed here"),
        (good.replace("value0", "value9"), "line 14: a row without column `value0`"),
        (format!("{good}x"), "line 19: a string, a number"),
        (good[..good.len() - 3].to_owned(), "unexpected end-of-file"),
    ] {
        shell.feed(&["load", "-j"], text).fails_with(part);
    }
}

#[test]
fn many_rows() {
    let shell = Shell::new();
    let rows: String = (0..5000).map(|i| format!("k{i:05}\\00\n{}\\00\n", "v".repeat(i % 700))).collect();
    shell.feed(&["-v", "load"], head("table:t", TEXT) + &rows).prints("Loaded 5000 rows into table:t\n");
    assert_eq!(shell.rows(&["t"]).len(), 10_000);
    shell.run(&["verify"]).silent();
}

#[test]
fn parts_of_tables_are_not_loaded() {
    let shell = Shell::new();
    for name in ["index:t:i", "colgroup:t:g", "lsm:t"] {
        shell.feed(&["load"], head(name, TEXT)).fails_with("cannot be loaded");
    }
    shell.feed(&["-v", "load"], head("table:t", "key_format=S,value_format=S,nobody=1")).err.contains("nobody");
}
