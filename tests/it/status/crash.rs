//! Killed between a step and the note of it: the folders decide.

use std::{fs, process::Stdio, time::Duration};

use crate::harness::{Lab, TREE, names};

/// Waits until something is so; a loaded machine may take its time.
fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("never: {what}");
}

fn texts(status: &serde_json::Value) -> String {
    let all = status["concerns"].as_array().unwrap().iter();
    all.map(|c| format!("{}: {}\n", c["level"].as_str().unwrap(), c["text"].as_str().unwrap())).collect()
}

#[test]
fn a_source_killed_after_publishing_has_handed_over_and_its_run_never_ended() {
    let lab = Lab::new();
    lab.write("a", "one");
    lab.init().both();
    let before = lab.run(&["source", "status", "--json"]).exits(0).json();
    assert_eq!(before["activity"]["state"], "idle", "{before:#}");
    lab.config("after = [[\"sleep\", \"600\"]]", TREE, "");
    let mut child = lab.handover(&["source"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("published", || lab.waiting().len() == 1);
    let status = lab.run(&["source", "status", "--json"]).exits(0).json();
    assert_eq!(status["activity"]["state"], "running", "{status:#}");
    lab.run(&["source", "status"]).exits(0).says(&["a run is at work"]);
    child.kill().unwrap();
    child.wait().unwrap();
    // The hook is a child that may outlive its parent; the lock is the parent's alone.
    let status = lab.run(&["source", "status", "--json"]).exits(0).json();
    assert_eq!(status["activity"]["state"], "never-ended", "{status:#}");
    assert_eq!(status["activity"]["began"], status["waiting"][0]["collected"]);
    assert_eq!(status["last_attempt"], before["last_attempt"], "that one is the last that ended");
    assert_eq!(status["last_success"], before["last_success"]);
    assert!(
        status["last_success_at"].as_str() > before["last_success_at"].as_str(),
        "what was handed over tells that it was: {status:#}"
    );
    assert_eq!(status["sequence"], 2);
    assert!(texts(&status).contains("and never ended"), "{status:#}");
    lab.run(&["source", "status", "--nagios"]).exits(1).says(&["never ended"]);
    lab.config("", TREE, "");
    lab.source(4);
    let status = lab.run(&["source", "status", "--json"]).exits(0).json();
    assert_eq!(status["activity"]["state"], "idle");
}

#[test]
fn a_sink_killed_between_storing_and_noting_says_what_is_stored() {
    let lab = Lab::new();
    lab.write("a", "one");
    let first = lab.init().both();
    let note = lab.path("state/sink/status-shop.json");
    let old = fs::read_to_string(&note).unwrap();
    lab.write("b", "two");
    let second = lab.both();
    // Exactly what a kill leaves: the generation is stored and accepted, the note tells of the run before and that one began.
    let began = format!("\"began\":\"{}\"", jiff::Timestamp::from_second(1_700_000_000).unwrap());
    fs::write(&note, old.replace("\"began\":null", &began)).unwrap();
    let status = lab.run(&["sink", "status", "--json"]).exits(0).json();
    let status = &status[0];
    assert_ne!(first, second);
    assert_eq!(status["newest_verified"], second.as_str());
    assert_eq!(status["generations"], 2);
    assert_eq!(status["activity"]["state"], "never-ended");
    let text = fs::read_to_string(lab.path(format!("sink/store/shop/{second}/receipt.toml"))).unwrap();
    let stored = text.lines().find_map(|l| l.strip_prefix("stored = ")).unwrap().trim_matches('"');
    assert_eq!(status["last_success_at"], stored, "the store tells of the later success");
    assert!(status["last_success"]["finished"].as_str().unwrap() < stored);
    lab.run(&["sink", "status"]).exits(0).says(&["never ended", "2023-11-14", "handover sink run shop"]);
    lab.sink(0);
    let status = lab.run(&["sink", "status", "--json"]).exits(0).json();
    assert_eq!((&status[0]["activity"]["state"], &status[0]["level"]), (&"idle".into(), &"ok".into()));
}

#[test]
fn a_note_that_cannot_be_read_is_said_and_what_the_folders_tell_is_told_all_the_same() {
    let lab = Lab::new();
    lab.write("a", "one");
    let id = lab.init().both();
    for (role, file) in [("source", "status.json"), ("sink", "status-shop.json")] {
        let note = lab.path("state").join(role).join(file);
        let whole = fs::read(&note).unwrap();
        fs::write(&note, &whole[..whole.len() / 2]).unwrap();
        lab.run(&[role, "status"]).exits(0).says(&["cannot be read", file]);
        lab.run(&[role, "status", "--nagios"]).exits(1).says(&["HANDOVER WARNING", "cannot be read"]);
        let status = lab.run(&[role, "status", "--json"]).exits(0).json();
        let status = if role == "sink" { &status[0] } else { &status };
        assert!(status["last_attempt"].is_null());
        assert!(status["last_success_at"].is_string(), "{status:#}");
    }
    assert_eq!(names(&lab.path("sink/store/shop")), [id]);
    lab.both();
    for role in ["source", "sink"] {
        lab.run(&[role, "status", "--nagios"]).exits(0);
    }
}
