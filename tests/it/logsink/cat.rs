//! A log is read as one stream, whatever generations and rotations lie between its lines.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use super::Logs;
use crate::logs::journal;

/// So many numbered lines, from one on.
fn lines(from: u32, count: u32) -> String {
    (from..from + count).map(|n| format!("line {n}\n")).collect()
}

/// Where the content of a log lies in a stored generation.
fn stored_file(logs: &Logs, id: &str, name: &str) -> PathBuf {
    let data = logs.lab().path(format!("logsink/store/shop/{id}/data/files"));
    crate::harness::below(&data, &PathBuf::from(logs.path(name)))
}

#[test]
fn a_log_is_one_stream_over_rotations_and_generations_to_the_byte() {
    let logs = Logs::new();
    let mut written = String::new();
    let mut write = |text: String| {
        logs.source.append("app.log", &text);
        written += &text;
    };
    write(lines(1, 100));
    logs.both();
    // Grown, and in the middle of a line.
    write(lines(101, 50) + "half a li");
    logs.both();
    write("ne\n".to_owned());
    // Renamed, with lines that were not collected yet, and a new one begun.
    logs.source.rename("app.log", "app.log.1");
    write(lines(200, 10));
    logs.both();
    // Twice between two runs, and the elder one packed, as logrotate does.
    write(lines(300, 5));
    logs.source.rename("app.log.1", "app.log.2");
    logs.source.rename("app.log", "app.log.1");
    logs.source.pack("gzip", "app.log.2");
    write(lines(400, 5));
    logs.source.rename("app.log.2.gz", "app.log.3.gz");
    logs.source.rename("app.log.1", "app.log.2");
    logs.source.rename("app.log", "app.log.1");
    write(lines(500, 5));
    logs.both();
    logs.both();
    let ran = logs.cat(&[]).exits(0);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), (written.as_str(), ""));
    let path = logs.path("app.log");
    assert_eq!(logs.cat(&["--path", &path]).exits(0).out, written);
    let list = logs.cat(&["--list", "--json"]).exits(0).json();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    assert_eq!(
        (list[0]["log"].as_str(), list[0]["bytes"].as_u64()),
        (Some(path.as_str()), Some(written.len() as u64))
    );
    assert_eq!(list[0]["missing"], 0);
    logs.cat(&["--list"]).exits(0).says(&[&path, &written.len().to_string(), "collected from"]);
}

#[test]
fn several_logs_come_one_after_the_other_each_below_its_name() {
    let logs = Logs::new();
    logs.source.append("a.log", "first\n");
    logs.source.append("b.log", "no end");
    logs.source.append("c.log", "third\n");
    logs.both();
    let [a, b, c] = ["a.log", "b.log", "c.log"].map(|name| logs.path(name));
    let all = format!("==> {a} <==\nfirst\n\n==> {b} <==\nno end\n\n==> {c} <==\nthird\n");
    assert_eq!(logs.cat(&[]).exits(0).out, all);
    assert_eq!(logs.cat(&["--path", &b]).exits(0).out, "no end");
    let two = logs.cat(&["--path", &c, "--path", &a]).exits(0).out;
    assert_eq!(two, format!("==> {c} <==\nthird\n\n==> {a} <==\nfirst\n"));
    logs.cat(&["--path", "/nowhere.log"])
        .exits(2)
        .says(&["has no log /nowhere.log", "handover logsink cat shop --list"]);
    logs.lab().run(&["logsink", "cat", "shpo"]).exits(2).says(&["there is no source shpo"]);
    assert_eq!(logs.cat(&["--journal"]).exits(0).out, "");
}

#[test]
fn a_time_chooses_by_when_a_piece_was_collected() {
    let logs = Logs::new();
    let mut taken = Vec::new();
    for line in ["one\n", "two\n", "three\n"] {
        logs.source.append("app.log", line);
        logs.both();
        let list = logs.cat(&["--list", "--json"]).exits(0).json();
        taken.push(list[0]["last"].as_str().unwrap().to_owned());
    }
    let cat = |args: &[&str]| {
        let ran = logs.cat(args).exits(0);
        // What lies outside of the time is not missed.
        assert_eq!(ran.err, "");
        ran.out
    };
    assert_eq!(cat(&["--since", &taken[1]]), "two\nthree\n");
    assert_eq!(cat(&["--until", &taken[1]]), "one\n");
    assert_eq!(cat(&["--since", &taken[1], "--until", &taken[2]]), "two\n");
    assert_eq!(cat(&["--since", "1h"]), "one\ntwo\nthree\n");
    assert_eq!(cat(&["--until", "1h"]), "");
    assert_eq!(cat(&["--since", "2000-01-01"]), "one\ntwo\nthree\n");
    logs.cat(&["--since", "yesterday"]).exits(2).says(&["an age as 90m, 2h, 7d"]);
}

#[test]
fn a_damaged_piece_is_named_and_the_rest_is_printed() {
    let logs = Logs::new();
    for line in ["one\n", "two\n", "three\n"] {
        logs.source.append("app.log", line);
        logs.source.append("other.log", &format!("other {line}"));
        logs.both();
    }
    let id = logs.stored().remove(1);
    let file = stored_file(&logs, &id, "app.log");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(&file, "owt\n").unwrap();
    let path = logs.path("app.log");
    let ran = logs.cat(&["--path", &path]).exits(13);
    assert_eq!(ran.out, "one\nowt\nthree\n");
    assert!(ran.err.contains(&id) && ran.err.contains("app.log is damaged"), "{}", ran.err);
    // Another log has nothing to do with it.
    let ran = logs.cat(&["--path", &logs.path("other.log")]).exits(0);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("other one\nother two\nother three\n", ""));
    // A piece that is gone, and a list of pieces that is.
    fs::remove_file(&file).unwrap();
    let ran = logs.cat(&["--path", &path]).exits(13).says(&[&id, "app.log is damaged"]);
    assert_eq!(ran.out, "one\nthree\n");
    let list = logs.lab().path(format!("logsink/store/shop/{id}/data/files/.pieces.jsonl"));
    fs::remove_file(list).unwrap();
    let ran = logs.cat(&["--path", &path]).exits(13).says(&[
        &id,
        "its logs are missing",
        "4 bytes missing between",
    ]);
    assert_eq!(ran.out, "one\nthree\n");
}

#[test]
fn a_generation_that_is_gone_leaves_a_gap_that_is_said() {
    let logs = Logs::new();
    for line in ["one\n", "two\n", "three\n"] {
        logs.source.append("app.log", line);
        logs.both();
    }
    let stored = logs.stored();
    fs::remove_dir_all(logs.lab().path("logsink/store/shop").join(&stored[1])).unwrap();
    let ran = logs.cat(&[]).exits(0);
    assert_eq!(ran.out, "one\nthree\n");
    let path = logs.path("app.log");
    let gap = format!("{path}: 4 bytes missing between {} and {}", stored[0], stored[2]);
    assert!(ran.err.contains(&gap), "{}", ran.err);
    assert!(ran.err.contains("1 generation is not here between"), "{}", ran.err);
    let list = logs.cat(&["--list", "--json"]).exits(0).json();
    assert_eq!((list[0]["bytes"].as_u64(), list[0]["missing"].as_u64()), (Some(10), Some(4)), "{list}");
}

#[test]
fn the_journal_comes_out_as_an_export_that_journald_takes_back() {
    let logs = Logs::with("journald = true\njournal_directory = \"{lab}/journal\"");
    logs.source.append("app.log", "a line\n");
    journal::log(&logs.source, &["one", "two\nlines"]);
    logs.both();
    journal::log(&logs.source, &["three"]);
    logs.both();
    let output = logs.lab().handover(&["logsink", "cat", "shop", "--journal"]).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    assert_eq!(journal::messages_in(&logs.source, &output.stdout), ["one", "two\nlines", "three"]);
    // It is no text, so it is printed by its name alone.
    assert_eq!(logs.cat(&[]).exits(0).out, "a line\n");
    let list = logs.cat(&["--list", "--json"]).exits(0).json();
    let journals: Vec<_> =
        list.as_array().unwrap().iter().map(|row| row["journal"].as_bool().unwrap()).collect();
    assert_eq!(journals, [false, true], "{list}");
}

#[test]
fn whoever_reads_may_stop_reading() {
    let logs = Logs::new();
    logs.source.append("app.log", &lines(1, 200_000));
    logs.both();
    let command = format!("'{}' logsink cat shop | head -n 1", crate::harness::HANDOVER);
    let output =
        logs.lab().program("bash", &["-c", &format!("set -o pipefail; {command}")]).output().unwrap();
    assert_eq!(output.stdout, b"line 1\n");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
