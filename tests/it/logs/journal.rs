//! The journal: a real one, made by systemd-journal-remote from an export.

use std::{io::Write as _, process::Stdio};

use super::Logs;
use crate::harness::findings;

/// Adds entries to the journal in `journal/` of the lab.
pub(crate) fn log(logs: &Logs, messages: &[&str]) {
    let folder = logs.0.path("journal");
    std::fs::create_dir_all(&folder).unwrap();
    let mut remote = std::process::Command::new("/lib/systemd/systemd-journal-remote")
        .arg("-o")
        .arg(folder.join("lab.journal"))
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = remote.stdin.take().unwrap();
    for message in messages {
        let time = jiff::Timestamp::now().as_microsecond();
        let head = format!("__REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={time}\n");
        let boot = "_BOOT_ID=4c3b2a19081706050403020100ffeedd\nMESSAGE\n";
        let mut entry = format!("{head}{boot}").into_bytes();
        entry.extend((message.len() as u64).to_le_bytes());
        entry.extend(message.as_bytes());
        entry.extend(b"\n\n");
        input.write_all(&entry).unwrap();
    }
    drop(input);
    assert!(remote.wait().unwrap().success());
}

/// The messages of all that was taken, as journald itself reads them from it.
fn messages(logs: &Logs) -> Vec<String> {
    let taken = logs.store().logs().remove(std::path::Path::new("journal")).unwrap_or_default();
    messages_in(logs, taken.as_bytes())
}

/// The messages of an export, as journald itself reads them from it.
pub(crate) fn messages_in(logs: &Logs, export: &[u8]) -> Vec<String> {
    let read = logs.0.path("read");
    std::fs::create_dir_all(&read).unwrap();
    let file = read.join("taken.journal");
    if file.exists() {
        std::fs::remove_file(&file).unwrap();
    }
    let mut remote = std::process::Command::new("/lib/systemd/systemd-journal-remote")
        .arg("-o")
        .arg(&file)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    remote.stdin.take().unwrap().write_all(export).unwrap();
    assert!(remote.wait().unwrap().success());
    let shown = std::process::Command::new("journalctl")
        .args(["--quiet", "--output=json", "--file"])
        .arg(&file)
        .output()
        .unwrap();
    let lines = String::from_utf8(shown.stdout).unwrap();
    let message = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["MESSAGE"].as_str().unwrap().to_owned()
    };
    lines.lines().map(message).collect()
}

pub(crate) const KEYS: &str = "paths = []\njournald = true\njournal_directory = \"{lab}/journal\"";

#[test]
fn the_journal_is_taken_since_its_cursor_each_entry_once() {
    let logs = Logs::with(KEYS);
    log(&logs, &["one", "two\nlines", "__CURSOR=none\n\n"]);
    let report = logs.run(0);
    assert_eq!(report["logs"]["elements"][0]["name"], "journal", "{report:#}");
    assert!(logs.collect()["logs"].is_null(), "nothing is new");
    log(&logs, &["four"]);
    logs.collect();
    assert_eq!(messages(&logs), ["one", "two\nlines", "__CURSOR=none\n\n", "four"]);
}

#[test]
fn where_there_is_no_journal_this_is_said_and_files_are_taken() {
    let keys = KEYS.replace("paths = []\n", "");
    let logs = Logs::with(&keys);
    logs.write("app.log", "1\n");
    let report = logs.run(3);
    let said = findings(&report, "failed").concat();
    assert!(said.contains("logs journal") && said.contains("remove `journald` from [source.logs]"), "{said}");
    assert_eq!(logs.cat("app.log"), "1\n");
    // An empty folder is none either, and no journalctl.
    std::fs::create_dir(logs.0.path("journal")).unwrap();
    let said = findings(&logs.run(3), "failed").concat();
    assert!(said.contains("there is no entry in the journal"), "{said}");
    let ran = logs.0.handover(&["source"]).env("PATH", logs.0.path("bin")).output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.code() == Some(3) && said.contains("there is no journalctl on this host"), "{said}");
}
