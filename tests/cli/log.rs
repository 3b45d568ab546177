//! A database with a log: init, create, alter, stat, -S, and printlog.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use strandline::{CheckpointOptions, Database, Options, TableOptions};

use crate::shell::{Run, Shell};

/// A key or value of every byte.
fn hostile() -> Vec<u8> {
    (0..=255).collect()
}

/// A home that keeps its log, with one text table `t`.
fn with_log() -> Shell {
    let shell = Shell::new();
    shell.run(&["init", "--log", "--keep-log"]).silent();
    shell.create("key_format=S,value_format=S", "t");
    shell
}

/// What a process leaves that dies with commits in its log: the home `crashed`, with a commit in each of `n` rounds.
fn crashed(n: usize) -> Shell {
    let shell = Shell::new();
    let db = Options::new().create(true).log(true).open(shell.path("home")).unwrap();
    let table = db.create_table("t", TableOptions::new().config("key_format=S,value_format=S")).unwrap();
    db.checkpoint(CheckpointOptions::new()).unwrap();
    for i in 0..n {
        let mut transaction = db.begin().unwrap();
        transaction.put(&table, format!("k{i}\0"), format!("v{i}\0")).unwrap();
        transaction.commit().unwrap();
    }
    fs::create_dir(shell.path("crashed")).unwrap();
    for (name, bytes) in shell.bytes_of("home") {
        shell.write(&format!("crashed/{name}"), bytes);
    }
    db.close().unwrap();
    shell.at("crashed")
}

/// The last segment that has records, and its name.
fn last_segment(shell: &Shell, home: &str) -> (PathBuf, String) {
    let names = shell.bytes_of(home).into_iter().map(|(name, _)| name);
    let name = names.filter(|name| name.starts_with("StrandlineLog.")).max().unwrap();
    (shell.path(home).join(&name), name)
}

fn flip(path: &PathBuf, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[track_caller]
fn parse(run: Run) -> Vec<Value> {
    let text = run.output();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn types(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["type"].as_str().unwrap()).collect()
}

fn place(record: &Value) -> String {
    format!("{},{}", record["lsn"][0], record["lsn"][1])
}

#[test]
fn init_remembers_the_log() {
    let shell = Shell::new();
    shell.run(&["init", "--log", "--keep-log", "--log-dir", "segments", "--latest"]).silent();
    shell.create("key_format=S,value_format=S", "t");
    shell.run(&["write", "t", "a", "b"]).silent();
    assert!(shell.path("home/segments/StrandlineLog.0000000001").exists());
    let settings = Options::new().read_only(true).open(shell.path("home")).unwrap().settings();
    let log = settings.log.unwrap();
    assert_eq!((log.keep, log.dir.as_deref()), (true, Some("segments")));
    assert_eq!(settings.contract, strandline::Contract::Latest);
    let stat = shell.run(&["stat"]).output();
    let gauge = |name: &str| -> u64 {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap();
        line.parse().unwrap()
    };
    assert_eq!(gauge("log_segments"), fs::read_dir(shell.path("home/segments")).unwrap().count() as u64 - 1);
    assert!(gauge("log_segment_bytes") > 4096);
    for name in ["log_bytes", "log_records", "log_syncs", "log_written_bytes"] {
        gauge(name);
    }
    shell.run(&["init", "--log"]).fails_with("there is a database already");
    shell.run_on("other", &["init", "--keep-log"]).misuses();
    shell.run_on("other", &["init", "--log-dir", "x"]).misuses();
    assert!(!shell.path("other").exists());
    shell.write("file", "x");
    let file = shell.path("file").display().to_string();
    shell.run_on("other", &["init", "--log", "--log-dir", &file]).fails_with("the log's directory is a file");
    shell.run_on("other", &["init", "--log", "--log-dir", "../else"]).fails_with("leads out of the home");
}

#[test]
fn tables_are_taken_out_of_the_log_and_in_again() {
    let shell = with_log();
    shell.create("key_format=S,value_format=S,log=(enabled=false)", "u");
    shell.run(&["write", "u", "a", "b"]).silent();
    shell
        .run(&["list", "-v"])
        .prints("table:t\nkey_format=S,value_format=S\ntable:u\nkey_format=S,value_format=S,log=(enabled=false)\n");
    assert!(!types(&parse(shell.run(&["printlog"]))).contains(&"commit"), "an unlogged table has no records");
    shell
        .run(&["alter", "t", "log=(enabled=false)", "table:u", "log=(enabled=true),access_pattern_hint=random"])
        .silent();
    shell.run(&["list", "-v"]).prints(
        "table:t\nkey_format=S,value_format=S,log=(enabled=false)\n\
         table:u\nkey_format=S,value_format=S,log=(enabled=true)\n",
    );
    let dump = shell.run(&["dump", "t"]).output();
    assert!(dump.contains("log=(enabled=false)"), "{dump}");
    shell.at("again").feed(&["load"], dump).silent();
}

#[test]
fn alter_refuses_as_a_whole() {
    let shell = with_log();
    for (config, part) in [
        ("app_metadata=x", "`app_metadata` of a table cannot be changed"),
        ("key_format=u", "`key_format` of a table cannot be changed"),
        ("log=false", "does not say"),
        ("log=(enabled=perhaps)", "does not say"),
        ("colour=red", "colour"),
        ("log=(", "bracket"),
    ] {
        shell.run(&["alter", "t", "log=(enabled=false)", "t", config]).fails_with(part);
    }
    shell.run(&["alter", "t", "log=(enabled=false)", "missing", ""]).fails("table:missing: no such table");
    shell.run(&["alter", "t"]).misuses();
    shell.run(&["alter", "t", "log=(enabled=false)", "t"]).misuses();
    shell.run(&["-r", "alter", "t", "log=(enabled=false)"]).fails_with("read-only");
    shell.run(&["list", "-v"]).prints("table:t\nkey_format=S,value_format=S\n");
    let plain = shell.at("plain");
    plain.create("", "t");
    let run = plain.run(&["--json", "alter", "t", "log=(enabled=true)"]);
    assert!(run.code == 1 && run.err.contains("InvalidArgument"), "{run:?}");
}

#[test]
fn the_exact_text_of_a_small_log() {
    let shell = with_log();
    shell.run(&["write", "t", "k1", "v1"]).silent();
    shell.run(&["write", "-r", "t", "k1"]).silent();
    let schema = |fields: &str| {
        format!(
            "  {{ \"lsn\" : [1,4096], \"hdr_flags\" : \"\", \"rec_len\" : 62, \"mem_len\" : 62, \"type\" : \"schema\", \
             \"sequence\" : \"1.1\", \"change\" : \"create\", {fields} }},\n"
        )
    };
    let created = schema(
        "\"fileid\": 1, \"fileid-hex\": \"0x1\", \"name\" : \"t\", \"config\" : \"key_format=S,value_format=S\", \
         \"log\" : true",
    );
    let text = |put: &str, remove: &str| {
        format!(
            "[\n{created}  {{ \"lsn\" : [2,4096], \"hdr_flags\" : \"\", \"rec_len\" : 33, \"mem_len\" : 33, \"type\" : \
             \"commit\", \"txnid\" : 1,\n    \"ops\": [\n      {{ \"optype\": \"row_put\", \"fileid\": 1, \"fileid-hex\": \
             \"0x1\", {put} }}\n    ] }},\n  {{ \"lsn\" : [2,8192], \"hdr_flags\" : \"\", \"rec_len\" : 37, \"mem_len\" : 37, \
             \"type\" : \"checkpoint\", \"sequence\" : \"2\", \"ckpt_lsn\" : [2,4129] }},\n  {{ \"lsn\" : [3,4096], \
             \"hdr_flags\" : \"\", \"rec_len\" : 29, \"mem_len\" : 29, \"type\" : \"commit\", \"txnid\" : 1,\n    \"ops\": \
             [\n      {{ \"optype\": \"row_remove\", \"fileid\": 1, \"fileid-hex\": \"0x1\", {remove} }}\n    ] }},\n  {{ \
             \"lsn\" : [3,8192], \"hdr_flags\" : \"\", \"rec_len\" : 37, \"mem_len\" : 37, \"type\" : \"checkpoint\", \
             \"sequence\" : \"3\", \"ckpt_lsn\" : [3,4125] }}\n]\n"
        )
    };
    let redacted = "\"redacted\": true";
    shell.run(&["printlog"]).prints(&text(redacted, redacted));
    shell.run(&["printlog", "-x"]).prints(&text(redacted, redacted));
    shell.run(&["--json", "printlog"]).prints(&text(redacted, redacted));
    let key = "\"key\": \"k1\\u0000\"";
    shell.run(&["printlog", "-u"]).prints(&text(&format!("{key}, \"value\": \"v1\\u0000\""), key));
    let hex = format!("{key}, \"key-hex\": \"6b3100\"");
    shell
        .run(&["printlog", "-ux"])
        .prints(&text(&format!("{hex}, \"value\": \"v1\\u0000\", \"value-hex\": \"763100\""), &hex));
    shell.run(&["printlog", "-f", "out"]).silent();
    assert_eq!(shell.read("out"), text(redacted, redacted));
}

#[test]
fn every_kind_of_record_and_every_byte() {
    let shell = with_log();
    let message = "two lines\nand \"quotes\", \\, \u{1}, h\u{e4}user \u{1f30a}";
    let db = Options::new().open(shell.path("home")).unwrap();
    db.log_message(message).unwrap();
    db.create_table("na\u{ef}ve", TableOptions::new().config("a=\"\\\"\n")).unwrap();
    db.rename_table("na\u{ef}ve", "\u{1f30a}").unwrap();
    db.drop_table("\u{1f30a}", true).unwrap();
    let mut transaction = db.begin().unwrap();
    transaction.put(&db.table("t").unwrap(), hostile(), hostile()).unwrap();
    transaction.commit().unwrap();
    db.log_message("second").unwrap();
    db.close().unwrap();
    let records = parse(shell.run(&["printlog", "-ux"]));
    let known = ["schema", "message", "schema", "schema", "schema", "commit", "message", "checkpoint"];
    assert!(types(&records).ends_with(&known), "{:?}", types(&records));
    let at = records.len() - known.len();
    let (made, renamed, dropped) = (&records[at + 2], &records[at + 3], &records[at + 4]);
    assert_eq!((made["change"].as_str(), made["name"].as_str()), (Some("create"), Some("na\u{ef}ve")));
    assert_eq!(made["config"], "a=\"\\\"\n");
    assert_eq!((renamed["change"].as_str(), renamed["name"].as_str()), (Some("rename"), Some("\u{1f30a}")));
    assert_eq!((dropped["change"].as_str(), &dropped["fileid"]), (Some("drop"), &made["fileid"]));
    assert_eq!(records[at + 1]["message"], message);
    let op = &records[at + 5]["ops"][0];
    for (text, hex) in [("key", "key-hex"), ("value", "value-hex")] {
        let bytes: Vec<u32> = op[text].as_str().unwrap().chars().map(u32::from).collect();
        assert_eq!(bytes, (0..=255).collect::<Vec<u32>>(), "one \\u00xx for each byte");
        let digits: String = hostile().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(op[hex], digits.as_str());
    }
    shell.run(&["printlog", "-m"]).prints(&format!("{message}\nsecond\n"));
    let places: Vec<(u64, u64)> =
        records.iter().map(|r| (r["lsn"][0].as_u64().unwrap(), r["lsn"][1].as_u64().unwrap())).collect();
    assert!(places.is_sorted(), "{places:?}");
    let plain = shell.run(&["printlog"]).output();
    assert!(!plain.contains("key-hex") && !plain.contains("\\u0001\\u0002"), "user data are left out");
}

#[test]
fn ranges_are_inclusive_and_must_exist() {
    let shell = with_log();
    shell.run(&["write", "t", "a", "1"]).silent();
    shell.run(&["write", "t", "b", "2"]).silent();
    let all = parse(shell.run(&["printlog"]));
    for (i, first) in all.iter().enumerate() {
        assert_eq!(parse(shell.run(&["printlog", "-l", &place(first)])), all[i..]);
        for (j, last) in all.iter().enumerate() {
            let run = shell.run(&["printlog", "-l", &format!("{},{}", place(first), place(last))]);
            if j < i { run.fails_with("before") } else { assert_eq!(parse(run), all[i..=j]) }
        }
    }
    let first = place(&all[0]);
    for wrong in ["1,4097", "9,4096", "1,0", "0,0", &format!("{first},7,4096"), &format!("{first},1,5000")] {
        let run = shell.run(&["printlog", "-f", "out", "-l", wrong]);
        assert_eq!(run.out, "");
        run.fails_with("no record begins at");
    }
    for wrong in ["", "1", "1,2,3", "1:4096", "x,y", "1,2,3,4,5", "1,99999999999"] {
        shell.run(&["printlog", "-l", wrong]).misuses();
    }
    assert!(!shell.path("out").exists(), "nothing is written before the range is known");
}

#[test]
fn the_log_is_read_as_it_is() {
    let shell = crashed(3);
    let before = shell.bytes_of("crashed");
    let records = parse(shell.run(&["printlog", "-u"]));
    let commits: Vec<&Value> = records.iter().filter(|record| record["type"] == "commit").collect();
    assert_eq!(commits.len(), 3);
    assert_eq!(commits[2]["ops"][0]["key"], "k2\u{0}");
    assert_eq!(shell.bytes_of("crashed"), before, "nothing is recovered");
    // Reading commands recover in memory, and change nothing either.
    shell.run(&["read", "t", "k2"]).prints("v2\n");
    assert_eq!(shell.bytes_of("crashed"), before);
    shell.run(&["write", "t", "more", "x"]).silent();
    assert_eq!(shell.rows(&["t"]).len(), 8);
    shell.run(&["verify"]).silent();
}

#[test]
fn what_was_never_finished_is_no_problem() {
    let shell = crashed(2);
    let whole = parse(shell.run(&["printlog"]));
    let (path, _) = last_segment(&shell, "crashed");
    let end = usize::try_from(whole.last().unwrap()["lsn"][1].as_u64().unwrap()).unwrap();
    flip(&path, end + 22);
    let run = shell.run(&["printlog"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.starts_with("strandline: crashed: warning: the log ends at "), "{}", run.err);
    let records: Vec<Value> = serde_json::from_str(&run.out).unwrap();
    assert_eq!(records, whole[..whole.len() - 1]);
    shell.run(&["list"]).prints("table:t\n");
    // The segment after the last, as it was being made.
    shell.write("crashed/StrandlineLog.0000000009", [0; 100]);
    let run = shell.run(&["printlog", "-m"]);
    assert_eq!((run.code, run.out.as_str()), (0, ""), "{run:?}");
    assert!(run.err.contains("9:0"), "{}", run.err);
}

#[test]
fn damage_is_told_and_the_rest_is_printed() {
    let shell = crashed(4);
    let whole = parse(shell.run(&["printlog"]));
    let (path, name) = last_segment(&shell, "crashed");
    flip(&path, 4096 + 22);
    let run = shell.run(&["printlog", "-u"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains(&name) && run.err.contains("at byte 4096: the log is damaged"), "{}", run.err);
    assert!(serde_json::from_str::<Vec<Value>>(&run.out).unwrap().len() < whole.len());
    let error: Value = serde_json::from_str(&shell.run(&["--json", "printlog"]).err).unwrap();
    assert_eq!((error["error"]["kind"].as_str(), error["error"]["offset"].as_u64()), (Some("Corrupt"), Some(4096)));
    shell.run(&["printlog", "-l", &place(whole.last().unwrap())]).fails_with("damaged");
    flip(&path, 4096 + 22);
    // A damaged head, with records behind it.
    flip(&path, 20);
    shell.run(&["printlog"]).fails_with(&name);
    flip(&path, 20);
    assert_eq!(parse(shell.run(&["printlog"])), whole);
}

#[test]
fn a_missing_segment_and_one_of_another_database_are_told() {
    let shell = with_log();
    for key in ["a", "b", "c"] {
        shell.run(&["write", "t", key, "1"]).silent();
    }
    let whole = parse(shell.run(&["printlog"]));
    let gone = shell.path("home/StrandlineLog.0000000003");
    let bytes = fs::read(&gone).unwrap();
    fs::remove_file(&gone).unwrap();
    let run = shell.run(&["printlog"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("log segment 3 is missing, and segment 4 continues it"), "{}", run.err);
    let rest: Vec<Value> = serde_json::from_str(&run.out).unwrap();
    assert!(rest.iter().all(|record| record["lsn"][0] != 3) && rest.last() == whole.last());
    shell.write("home/StrandlineLog.0000000005", &bytes);
    shell.run(&["printlog"]).fails_with("the file says that it is log segment 3");
    fs::remove_file(shell.path("home/StrandlineLog.0000000005")).unwrap();
    fs::write(&gone, &bytes).unwrap();
    let other = with_log();
    other.run(&["write", "t", "x", "y"]).silent();
    let foreign = fs::read(other.path("home/StrandlineLog.0000000002")).unwrap();
    shell.write("home/StrandlineLog.0000000002", foreign);
    shell.run(&["printlog"]).fails_with("belongs to the history");
}

#[test]
fn salvage_keeps_what_is_before_the_damage() {
    let shell = crashed(4);
    let whole = parse(shell.run(&["printlog"]));
    let third = whole.iter().filter(|record| record["type"] == "commit").nth(2).unwrap()["lsn"][1].as_u64().unwrap();
    let (path, name) = last_segment(&shell, "crashed");
    flip(&path, usize::try_from(third).unwrap() + 22);
    let damaged = shell.bytes_of("crashed");
    shell.run(&["dump", "t"]).fails_with(&name);
    shell.run(&["write", "t", "x", "y"]).fails_with("with -S");
    assert_eq!(shell.bytes_of("crashed"), damaged, "what is refused is left as it is");
    let text = shell.run(&["-S", "dump", "-p", "t"]).output();
    assert!(text.ends_with("Data\nk0\nv0\nk1\nv1\n"), "{text}");
    assert_eq!(shell.bytes_of("crashed"), damaged, "a command that reads salvages in memory");
    shell.run(&["-S", "write", "t", "x", "y"]).silent();
    assert_eq!(shell.rows(&["t"]), ["k0\\00", "v0\\00", "k1\\00", "v1\\00", "x\\00", "y\\00"]);
    shell.run(&["verify"]).silent();
    assert!(shell.path(&format!("crashed/{name}.salvaged")).exists(), "what was given up can still be looked at");
    shell.run(&["-S", "list"]).prints("table:t\n");
}

#[test]
fn homes_without_a_log_and_directories_that_are_none() {
    let shell = Shell::new();
    shell.create("", "t");
    assert_eq!(parse(shell.run(&["printlog"])), Vec::<Value>::new());
    shell.run(&["printlog", "-m"]).silent();
    shell.run(&["printlog", "-l", "1,4096"]).fails_with("no record begins at 1:4096");
    for home in [".", "missing"] {
        let run = shell.run_on(home, &["printlog"]);
        assert!(run.code == 1 && run.err.contains("-h"), "{run:?}");
    }
    shell.run(&["printlog", "operand"]).misuses();
    shell.run(&["printlog", "-f", "no/such/place"]).fails_with("no/such/place");
}

#[test]
fn a_home_in_use_is_left_alone() {
    let shell = with_log();
    let db: Database = Options::new().open(shell.path("home")).unwrap();
    shell.run(&["printlog"]).fails_with("another owner has the database open");
    db.close().unwrap();
    shell.run(&["printlog"]).output();
}

#[test]
fn commits_of_a_program_are_there_after_its_death() {
    let shell = crashed(5);
    shell.run(&["list"]).prints("table:t\n");
    assert_eq!(shell.rows(&["t"]).len(), 10);
    shell.run(&["-R", "dump", "t"]).output();
    let records = parse(shell.run(&["printlog"]));
    assert!(!types(&records).contains(&"commit"), "recovered for good: {:?}", types(&records));
}

#[track_caller]
fn told(run: Run) -> String {
    assert!(run.code != 0, "{run:?}");
    run.err
}

/// What the engine would have a program do is told in flags.
#[test]
fn remedies_name_what_the_command_has() {
    let plain = Shell::new();
    plain.create("key_format=S,value_format=S", "t");
    let text = told(plain.run(&["backup", "--log", "inc"]));
    assert!(text.contains("init --log") && !text.contains("open it"), "{text}");
    let removed = Shell::new();
    removed.run(&["init", "--log"]).silent();
    removed.create("key_format=S,value_format=S", "t");
    let text = told(removed.run(&["backup", "--log", "inc"]));
    assert!(text.contains("init --log --keep-log") && !text.contains("`keep_log`"), "{text}");
    let broken = crashed(3);
    let (path, _) = last_segment(&broken, "crashed");
    fs::remove_file(path).unwrap();
    let text = told(broken.run(&["list"]));
    assert!(text.contains("is missing") && text.contains("-S") && !text.contains("open the database"), "{text}");
    let kept = with_log();
    let text = told(kept.run(&["backup", "--log", "inc"]));
    assert!(text.contains("full backup needed"), "{text}");
    assert!(!kept.path("inc").exists(), "nothing is written");
}

/// A log that is gone is no empty log.
#[test]
fn a_log_that_is_gone_is_told() {
    let shell = crashed(3);
    let (path, name) = last_segment(&shell, "crashed");
    fs::remove_file(path).unwrap();
    let text = told(shell.run(&["printlog"]));
    assert!(text.contains(&name) && text.contains("is missing"), "{text}");
    let elsewhere = Shell::new();
    elsewhere.run(&["init", "--log", "--log-dir", "wal"]).silent();
    elsewhere.create("key_format=S,value_format=S", "t");
    fs::remove_dir_all(elsewhere.path("home/wal")).unwrap();
    let text = told(elsewhere.run(&["printlog"]));
    assert!(text.contains("directory is not there"), "{text}");
}

/// What is refused leaves nothing, not even a lock file.
#[test]
fn a_refused_init_leaves_nothing() {
    let shell = Shell::new();
    shell.write("file", b"no directory");
    let file = shell.path("file").display().to_string();
    told(shell.run(&["init", "--log", "--log-dir", &file]));
    told(shell.run(&["init", "--keep-log"]));
    assert!(!shell.path("home").exists() || fs::read_dir(shell.path("home")).unwrap().next().is_none());
}
