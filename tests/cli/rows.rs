//! read, write, loadtext.

use crate::shell::Shell;

#[test]
fn what_is_written_is_read() {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "t");
    shell.run(&["write", "table:t", "ann", "paris", "bob", "-5 °C", "", ""]).silent();
    shell.run(&["read", "t", "bob", "ann", ""]).prints("-5 °C\nparis\n\n");
    let run = shell.run(&["read", "t", "x", "ann", "y"]);
    assert_eq!((run.code, run.out.as_str()), (1, "paris\n"));
    assert_eq!(run.err, "strandline: x: not found\nstrandline: y: not found\n");
}

#[test]
fn an_existing_key_needs_overwriting() {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "t");
    shell.run(&["write", "t", "a", "1"]).silent();
    shell.run(&["write", "t", "b", "2", "a", "3"]).fails("table:t: attempt to insert an existing key");
    shell.run(&["read", "t", "b"]).fails("b: not found");
    shell.run(&["write", "-o", "t", "b", "2", "a", "3"]).silent();
    shell.run(&["read", "t", "a", "b"]).prints("3\n2\n");
}

#[test]
fn one_key_is_removed() {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "t");
    shell.run(&["write", "t", "a", "1"]).silent();
    shell.run(&["write", "-r", "t", "a"]).silent();
    shell.run(&["write", "-r", "t", "a"]).fails("a: not found");
}

#[test]
fn record_numbers() {
    let shell = Shell::new();
    shell.create("key_format=r,value_format=S", "t");
    shell.run(&["write", "-a", "t", "one", "two"]).silent();
    shell.run(&["write", "t", "300", "three hundred"]).silent();
    shell.run(&["write", "-a", "t", "next"]).silent();
    shell.run(&["read", "t", "1", "2", "300", "0x12d"]).prints("one\ntwo\nthree hundred\nnext\n");
    shell.run(&["write", "t", "0", "x"]).fails_with("`0` is no record number");
    shell.run(&["read", "t", "x"]).fails_with("`x` is no record number");
    shell.create("key_format=S,value_format=S", "s");
    shell.run(&["write", "-a", "s", "x"]).fails_with("the key format is `S`");
}

#[test]
fn plain_bytes_and_other_formats() {
    let shell = Shell::new();
    shell.create("", "bytes");
    shell.run(&["write", "bytes", "k", "v\n"]).silent();
    shell.run(&["read", "bytes", "k"]).prints("v\\0a\n");
    shell.create("key_format=S,value_format=iS", "pairs");
    shell.run(&["write", "pairs", "k", "v"]).fails_with("format");
    shell.run(&["read", "nothing", "k"]).fails("table:nothing: no such table");
    shell.run(&["write", "nothing", "k", "v"]).fails("table:nothing: no such table");
}

#[test]
fn lines_are_loaded() {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "t");
    shell.run(&["write", "t", "ann", "rome"]).silent();
    shell.feed(&["loadtext", "t"], "ann\nparis\nbob\n\n").silent();
    shell.run(&["read", "t", "ann", "bob"]).prints("paris\n\n");
    shell.create("key_format=r,value_format=S", "r");
    shell.write("lines", "one\ntwo\n");
    shell.run(&["loadtext", "-f", "lines", "r"]).silent();
    shell.run(&["loadtext", "-f", "lines", "r"]).silent();
    shell.run(&["read", "r", "1", "4"]).prints("one\ntwo\n");
}

#[test]
fn bad_lines_are_named() {
    let shell = Shell::new();
    shell.create("key_format=S,value_format=S", "t");
    shell.feed(&["loadtext", "t"], "a\n1\nb\n").fails("standard input: line 4: unexpected end-of-file");
    shell.feed(&["loadtext", "t"], "c\n3\nd").fails("standard input: line 3: no newline terminator");
    shell.run(&["read", "t", "a", "c"]).prints("1\n3\n");
    shell.run(&["loadtext", "-f", "missing", "t"]).fails_with("missing");
    shell.create("key_format=i,value_format=S", "numbers");
    shell.feed(&["loadtext", "numbers"], "1\na\n").fails_with("plain lines need keys of format r or S");
}
