//! What a user of the host can do to logs that are not his: nothing.

use std::{fs, os::unix::fs::chown, path::PathBuf, process::Command};

use rustix::fs::{Mode, OFlags};

use super::Logs;
use crate::harness::{Lab, NOBODY, below, findings};

/// More than is needed to know a log under another name.
fn lines(name: &str, n: u32) -> String {
    (0..n).map(|n| format!("{name} {n}\n")).collect()
}

#[test]
fn a_copy_under_another_name_adds_nothing_to_a_log_that_is_there() {
    let logs = Logs::new();
    let text = lines("auth", 500);
    logs.write("auth.log", &text);
    logs.run(0);
    logs.write("app/zz.log", &format!("{text}forged\n"));
    logs.collect();
    logs.append("auth.log", "true\n");
    logs.collect();
    assert_eq!(logs.cat("auth.log"), format!("{text}true\n"));
    assert_eq!(logs.cat("app/zz.log"), format!("{text}forged\n"));
}

#[test]
fn a_copy_of_another_user_adds_nothing_to_a_log_that_is_gone() {
    let logs = Logs::new();
    let text = lines("auth", 500);
    logs.write("auth.log", &text);
    logs.run(0);
    logs.write("app/zz.log", &format!("{text}forged\n"));
    chown(logs.path("app/zz.log"), Some(NOBODY), None).unwrap();
    fs::remove_file(logs.path("auth.log")).unwrap();
    logs.collect();
    assert_eq!(logs.cat("auth.log"), text);
    assert_eq!(logs.cat("app/zz.log"), format!("{text}forged\n"));
}

#[test]
fn what_the_transport_user_puts_in_place_of_a_piece_leaves_no_line_out() {
    let logs = Logs::new();
    logs.write("app.log", "1\n2\n3\n");
    let id = logs.run(0)["logs"]["id"].as_str().unwrap().to_owned();
    let stored =
        below(&logs.0.path("logs/transport-outgoing").join(id).join("data/files"), &logs.path("app.log"));
    fs::remove_file(&stored).unwrap();
    fs::write(&stored, "8\n9\n3\n").unwrap();
    fs::remove_file(logs.path("app.log")).unwrap();
    logs.write("app.log.1", "8\n9\n");
    assert_eq!(logs.collect()["logs"]["bytes_read"], 4);
}

/// Makes folders in one another; their paths are longer than the system takes.
fn deep(logs: &Logs, name: &str, levels: u32) {
    fs::create_dir(logs.path(name)).unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir = rustix::fs::open(logs.path(name), flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        rustix::fs::mkdirat(&dir, "d", Mode::from(0o700)).unwrap();
        dir = rustix::fs::openat(&dir, "d", flags, Mode::empty()).unwrap();
    }
}

#[test]
fn folders_without_end_are_named_and_the_others_are_taken() {
    let logs = Logs::new();
    logs.write("app.log", "1\n");
    logs.write("d/d/d/shallow.log", "2\n");
    deep(&logs, "deep", 12_000);
    let report = logs.run(3);
    let said = findings(&report, "failed").concat();
    assert!(said.contains("more than 512 folders deep"), "{said}");
    assert_eq!((logs.cat("app.log"), logs.cat("d/d/d/shallow.log")), ("1\n".to_owned(), "2\n".to_owned()));
}

/// A small file system in memory, unmounted when it goes.
struct Disk(PathBuf);

impl Disk {
    fn new(at: PathBuf) -> Self {
        fs::create_dir(&at).unwrap();
        let args = ["-t", "tmpfs", "-o", "size=256m,mode=0755", "none"];
        assert!(Command::new("mount").args(args).arg(&at).status().unwrap().success());
        Self(at)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().unwrap().success());
    }
}

#[test]
fn a_file_of_holes_and_one_that_unpacks_without_end_stop_no_other_log() {
    let lab = Lab::new();
    let disk = Disk::new(lab.path("logs"));
    let logs = Logs::of(lab, "");
    let _disk = disk; // It goes before the lab.
    let text = logs.0.text("handover.toml").replace("reserve = \"0B\"", "reserve = \"64MiB\"");
    logs.0.config_text(&text);
    logs.write("app.log", "1\n");
    logs.write("z.log", "2\n");
    fs::File::create(logs.path("holes.log")).unwrap().set_len(8 << 40).unwrap();
    fs::File::create(logs.path("bomb.log")).unwrap().set_len(400 << 20).unwrap();
    logs.pack("gzip", "bomb.log");
    let report = logs.run(3);
    let said = findings(&report, "failed").concat();
    assert!(said.contains("bomb.log.gz: larger than the room that is left"), "{said}");
    assert!(said.contains("holes.log: it is nearly all holes"), "{said}");
    assert_eq!((logs.cat("app.log"), logs.cat("z.log")), ("1\n".to_owned(), "2\n".to_owned()));
}

#[test]
fn a_packed_log_without_room_is_not_unpacked_again_until_it_or_the_room_is_another() {
    let lab = Lab::new();
    let disk = Disk::new(lab.path("logs"));
    let logs = Logs::of(lab, "");
    let disk = disk; // It goes before the lab.
    let text = logs.0.text("handover.toml").replace("reserve = \"0B\"", "reserve = \"64MiB\"");
    logs.0.config_text(&text);
    fs::File::create(logs.path("bomb.log")).unwrap().set_len(400 << 20).unwrap();
    logs.pack("gzip", "bomb.log");
    // The times of the file must be at rest before it can be known again.
    crate::harness::settle();
    let unpacked = || {
        let cursor: serde_json::Value =
            serde_json::from_str(&logs.0.text("state/source/logs/cursor")).unwrap();
        let all = cursor["too_large"].as_array().unwrap();
        all.iter().map(|one| one["unpacked"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let fails = |logs: &Logs| {
        let said = findings(&logs.run(3), "failed").concat();
        assert!(said.contains("bomb.log.gz: larger than the room that is left"), "{said}");
    };
    logs.write("app.log", "1\n");
    fails(&logs);
    let first = unpacked();
    assert!(first.len() == 1 && first[0] > 64 << 20, "{first:?}");
    // With less room, another attempt would have come less far.
    fs::write(disk.0.join("stranger"), vec![1; 40 << 20]).unwrap();
    logs.append("app.log", "2\n");
    fails(&logs);
    fails(&logs);
    assert_eq!(unpacked(), first, "it was unpacked again");
    // Another file in its place is looked at.
    fs::remove_file(logs.path("bomb.log.gz")).unwrap();
    logs.write("bomb.log", "harmless\n");
    logs.pack("gzip", "bomb.log");
    logs.collect();
    assert_eq!(unpacked(), [0_u64; 0]);
    assert_eq!((logs.cat("app.log"), logs.cat("bomb.log")), ("1\n2\n".to_owned(), "harmless\n".to_owned()));
}
