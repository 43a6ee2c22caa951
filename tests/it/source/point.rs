//! The Handover Point as the source sees it: what waits too long, what is too much, what is kept free, when to be quiet.

use std::time::{Duration, Instant};

use crate::harness::{Lab, TREE, findings, id_of, names};

fn clock(minutes: i64) -> String {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let at = now.checked_add(jiff::SignedDuration::from_mins(minutes)).unwrap();
    at.strftime("%H:%M").to_string()
}

#[test]
fn what_nobody_fetched_is_said_with_the_next_step_and_the_run_is_done_for_all_that() {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.init();
    let first = id_of(&lab.source(0));
    let ran = lab.run(&["source"]).exits(4);
    ran.says(&["has not been fetched", &first, "look at the sink", "handover sink status"]);
    assert_eq!(lab.waiting().len(), 2);
    lab.sink(0);
    lab.source(0);
}

#[test]
fn a_full_handover_point_gives_up_its_eldest_and_says_so() {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.config("max_waiting = 2", TREE, "");
    lab.init();
    let first = id_of(&lab.source(0));
    let second = id_of(&lab.source(4));
    let report = lab.source(4);
    let third = id_of(&report);
    let said = findings(&report, "handover-point-full").concat();
    assert!(
        said.contains(&first) && said.contains("max_waiting = 2") && said.contains("look at the sink"),
        "{said}"
    );
    let mut kept = vec![second, third];
    kept.sort();
    assert_eq!(lab.waiting(), kept);
    assert_eq!(names(&lab.path("home/condemned")).len(), 1, "it can be taken back");
}

#[test]
fn the_room_kept_for_the_application_is_not_taken() {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.init().both();
    let text = lab.text("handover.toml").replace("reserve = \"0B\"", "reserve = \"99%\"");
    lab.config_text(&text);
    let before = names(&lab.path("home/store"));
    let ran = lab.run(&["source"]).exits(14);
    ran.says(&["reserve", "make room", "nothing was handed over"]);
    assert_eq!((lab.waiting(), names(&lab.path("home/collecting"))), (vec![], vec![]));
    assert_eq!(names(&lab.path("home/store")), before);
}

#[test]
fn while_it_is_quiet_nothing_is_published_and_sigterm_ends_the_waiting() {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.config(&format!("quiet = \"{}-{}\"", clock(-30), clock(30)), TREE, "");
    lab.init();
    let mut command = lab.handover(&["source", "--verbose"]);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufReader::new(child.stderr.take().unwrap());
    let begun = Instant::now();
    let waits =
        std::io::BufRead::lines(lines).any(|line| line.unwrap().contains("waiting for the end of `quiet`"));
    assert!(waits, "it did not wait");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(lab.waiting(), [""; 0]);
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(90));
    assert_eq!((lab.waiting(), names(&lab.path("home/collecting"))), (vec![], vec![]));
}

#[test]
fn while_it_is_quiet_the_source_takes_no_receipt_and_the_next_sink_run_gives_it_again() {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.init();
    let id = id_of(&lab.source(0));
    // The gate knows the window from the last run of the source.
    let gate = lab.path("home/gate/gate.toml");
    let loud = std::fs::read_to_string(&gate).unwrap();
    let quiet = format!("[quiet]\nfrom = \"{}:00\"\nto = \"{}:00\"\n", clock(-30), clock(30));
    std::fs::write(&gate, format!("{loud}\n{quiet}")).unwrap();
    let report = lab.sink(0);
    let notes = findings(&report, "note").concat();
    assert!(notes.contains("quiet time") && notes.contains(&id), "{report:#}");
    assert_eq!(report["sources"][0]["accepted"], serde_json::json!([]));
    assert!(lab.path("sink/store/shop").join(&id).is_dir());
    assert_eq!(lab.waiting(), [id.as_str()]);
    std::fs::write(&gate, loud).unwrap();
    let report = lab.sink(0);
    assert_eq!(report["sources"][0]["accepted"], serde_json::json!([id]));
    assert_eq!(report["sources"][0]["stored"], serde_json::json!([]));
    assert_eq!(lab.waiting(), [""; 0]);
}
