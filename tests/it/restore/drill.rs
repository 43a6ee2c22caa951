//! What a drill counts for: only one of all elements, that came to its end, is the proof of a generation.

use std::{fs, process::Stdio, thread, time::Duration};

use super::{
    Host,
    dumps::{STEPS, host},
};
use crate::harness::{Ran, below, names};

/// A host whose mails are kept.
fn host_with_mail(steps: &str, content: &str) -> Host {
    let host = host(steps, content);
    host.lab.fake("sendmail", "cat >>{lab}/mails");
    let program = host.lab.path("bin/sendmail");
    host.lab.config_text(&format!(
        "{}\n[mail]\nto = [\"ops@example.org\"]\nfrom = \"handover@shop.example.org\"\nsendmail = \"{}\"\n",
        host.lab.text("handover.toml"),
        program.display()
    ));
    host
}

fn drill(host: &Host, args: &[&str]) -> Ran {
    let from = host.lab.path("home/restore");
    host.lab.run(&[&["restore", "drill", "--from", from.to_str().unwrap()], args].concat())
}

fn mails(host: &Host) -> usize {
    let mails = fs::read_to_string(host.lab.path("mails")).unwrap_or_default();
    mails.lines().filter(|line| line.starts_with("Subject:")).count()
}

#[track_caller]
fn record_says(host: &Host, outcome: &str) {
    let record = host.lab.text("state/restore/drill.toml");
    assert!(record.contains(outcome), "{record}");
}

#[test]
fn a_drill_of_a_part_is_no_drill_of_the_whole_and_ends_no_alarm() {
    let host = host_with_mail(STEPS, "broken");
    drill(&host, &[]).exits(3).says(&["CANNOT be restored"]);
    assert_eq!(mails(&host), 1);
    let mail = host.lab.text("mails");
    assert!(mail.contains("drill failed") && mail.contains("restore drill"), "{mail}");
    let status = host.lab.run(&["source", "status"]);
    assert!(
        status.out.contains("last drill: ") && status.out.contains("COULD NOT be restored"),
        "{status:?}"
    );
    let nagios = host.lab.run(&["source", "status", "--nagios"]).exits(2);
    assert!(nagios.out.contains("the last drill failed") && nagios.out.contains("drill_age'="), "{nagios:?}");
    drill(&host, &["--element", "www"]).exits(0).says(&["www", "can be restored"]);
    record_says(&host, "ok = false");
    assert_eq!(mails(&host), 1, "{}", host.lab.text("mails"));
}

#[test]
fn a_drill_that_is_interrupted_says_nothing_of_the_generation_and_ends_no_alarm() {
    let waits = "\"[ ! -e {lab}/slow ] || { touch {lab}/in; while [ -e {lab}/in ]; do sleep 0.05; done; }; echo probe";
    let host = host_with_mail(&STEPS.replace("\"echo probe", waits), "broken");
    drill(&host, &[]).exits(3);
    fs::write(host.lab.path("slow"), "").unwrap();
    let from = host.lab.path("home/restore");
    let mut child = host.lab.handover(&["restore", "drill", "--from", from.to_str().unwrap()]);
    let mut child = child.stderr(Stdio::piped()).spawn().unwrap();
    while !host.lab.path("in").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it probed");
        thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    fs::remove_file(host.lab.path("in")).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(!said.contains("be restored"), "{said}");
    assert_eq!(mails(&host), 1, "{}", host.lab.text("mails"));
    record_says(&host, "ok = false");
}

#[test]
fn a_newest_that_is_torn_is_a_drill_that_failed_with_an_alarm() {
    let host = host_with_mail(STEPS, "good old");
    drill(&host, &[]).exits(0);
    record_says(&host, "ok = true");
    let place = host.lab.path("home/restore");
    let id = names(&place).remove(0);
    fs::remove_file(below(&place.join(&id).join("data/www"), &host.app("shop")).join("index.html")).unwrap();
    drill(&host, &[]).exits(3).says(&[&id, "torn", "index.html"]);
    record_says(&host, "ok = false");
    assert_eq!(mails(&host), 1);
    // A person who names one, and reads the answer, needs no alarm.
    drill(&host, &["20200101T000000Z"]).exits(15);
    assert_eq!(mails(&host), 1);
}

#[test]
fn a_drill_leaves_the_reserve_to_the_application() {
    let host = host_with_mail(STEPS, "good old");
    let text = host.lab.text("handover.toml").replace("reserve = \"0B\"", "reserve = \"1000000GiB\"");
    host.lab.config_text(&text);
    drill(&host, &[]).exits(14).says(&["not enough room"]);
    assert!(!host.lab.path("log").exists(), "a command was run all the same");
    assert!(names(&host.lab.path("home/restored")).is_empty());
}

#[test]
fn a_scratch_target_that_is_left_behind_is_named_beside_what_went_wrong_before() {
    let host = host_with_mail(&STEPS.replace("rm -rf", "false"), "broken");
    drill(&host, &[]).exits(3).says(&["probe failed", "live_handover_", "left behind", "discard failed"]);
}

#[test]
fn what_a_drill_that_was_killed_left_is_removed_by_the_next_and_that_is_said() {
    let waits = "\"[ ! -e {lab}/slow ] || { touch {lab}/in; while [ -e {lab}/in ]; do sleep 0.05; done; }; echo probe";
    let host = host(&STEPS.replace("\"echo probe", waits), "good old");
    fs::write(host.lab.path("slow"), "").unwrap();
    let from = host.lab.path("home/restore");
    let mut child =
        host.lab.handover(&["restore", "drill", "--from", from.to_str().unwrap()]).spawn().unwrap();
    while !host.lab.path("in").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it probed");
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(host.lab.path("slow")).unwrap();
    fs::remove_file(host.lab.path("in")).unwrap();
    let left = names(&host.lab.path("databases"));
    assert_eq!(left.len(), 2, "{left:?}");
    let scratch = left.iter().find(|name| *name != "live").unwrap();
    drill(&host, &[]).exits(0).says(&["the drill of", "was cut", &format!("discarded {scratch}")]);
    assert_eq!(names(&host.lab.path("databases")), ["live"]);
    assert!(names(&host.lab.path("home/restored")).is_empty());
    assert!(!host.lab.path("state/restore/drilling.json").exists());
    drill(&host, &[]).exits(0);
}
