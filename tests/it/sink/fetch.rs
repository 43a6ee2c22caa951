//! What is fetched, and what is only linked.

use std::fs;

use serde_json::Value;

use crate::harness::{Lab, TREE, findings, inode, names, settle};

/// What the last run said of its only fetched generation.
fn fetched(report: &Value) -> &Value {
    let stored = report["sources"][0]["stored"].as_array().unwrap();
    assert_eq!(stored.len(), 1, "{report:#}");
    &stored[0]
}

/// A lab with a file of 2 MB that no compression makes small, and 50 small ones.
fn lab() -> Lab {
    let lab = Lab::new();
    let mut state = 7_u32;
    let noise = (0..2_000_000).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    lab.write("big", noise.collect::<Vec<u8>>());
    for i in 0..50 {
        lab.write(&format!("small/{i}"), format!("content {i}"));
    }
    lab.init();
    lab
}

#[test]
fn when_nothing_changed_some_kilobytes_cross_the_wire_and_every_file_is_linked() {
    let lab = lab();
    let first = lab.both();
    lab.source(0);
    let report = lab.sink(0);
    let second = fetched(&report);
    assert_eq!((second["fetched"].as_u64(), second["linked"].as_u64()), (Some(0), Some(51)), "{second}");
    assert!(second["wire"].as_u64().unwrap() < 20_000, "{second}");
    let second = second["id"].as_str().unwrap();
    for name in ["big", "small/7", "small/49"] {
        let inode = |id: &str| inode(&lab.stored(format!("sink/store/shop/{id}"), name));
        assert_eq!(inode(&first), inode(second), "{name}");
    }
}

#[test]
fn a_renamed_file_is_not_fetched_again() {
    let lab = lab();
    lab.both();
    fs::rename(lab.path("tree/big"), lab.path("tree/moved")).unwrap();
    fs::rename(lab.path("tree/small"), lab.path("tree/folder")).unwrap();
    lab.source(0);
    let report = lab.sink(0);
    assert_eq!(fetched(&report)["fetched"], 0);
    assert!(fetched(&report)["wire"].as_u64().unwrap() < 30_000);
    assert_eq!(fs::read(lab.restore(0).join("moved")).unwrap(), fs::read(lab.path("tree/moved")).unwrap());
}

#[test]
fn of_a_large_file_that_changed_a_little_only_the_change_crosses_the_wire() {
    let lab = lab();
    lab.both();
    let mut content = fs::read(lab.path("tree/big")).unwrap();
    content[1_000_000..1_000_005].copy_from_slice(b"hello");
    lab.write("big", &content);
    lab.source(0);
    let report = lab.sink(0);
    assert_eq!(fetched(&report)["fetched"], 1);
    assert!(fetched(&report)["wire"].as_u64().unwrap() < 200_000, "{report:#}");
    assert_eq!(fs::read(lab.restore(0).join("big")).unwrap(), content);
}

#[test]
fn verify_decides_what_is_hashed_on_arrival_and_the_receipt_says_it() {
    for (verify, hashed, reread) in [("none", 0, 0), ("transferred", 1, 0), ("all", 1, 50)] {
        let lab = lab();
        lab.config("", TREE, &format!("verify = \"{verify}\""));
        lab.both();
        settle();
        lab.write("new", "one new file");
        fs::remove_file(lab.path("tree/small/0")).unwrap();
        let id = lab.source(0)["generation"]["id"].as_str().unwrap().to_owned();
        let report = lab.sink(0);
        let one = fetched(&report);
        let counts = |key: &str| one[key].as_u64().unwrap();
        assert_eq!(
            (counts("fetched"), counts("hashed"), counts("reread")),
            (1, hashed, reread),
            "{verify}: {one}"
        );
        let receipt: toml::Table = lab.text(format!("home/store/{id}/receipt.toml")).parse().unwrap();
        assert_eq!(receipt["verify"].as_str(), Some(verify));
        let list = lab.run(&["sink", "list", "--json"]).json();
        assert_eq!(list[1]["verified"], verify != "none", "{list:#}");
    }
}

#[test]
fn several_waiting_generations_are_taken_in_their_order() {
    let lab = lab();
    let ids = [lab.source(0), lab.source(4), lab.source(4)].map(|r| crate::harness::id_of(&r));
    let report = lab.sink(0);
    let stored = report["sources"][0]["stored"].as_array().unwrap();
    let taken: Vec<&str> = stored.iter().map(|s| s["id"].as_str().unwrap()).collect();
    assert_eq!(taken, ids);
    let sequences: Vec<u64> = stored.iter().map(|s| s["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [1, 2, 3]);
    assert_eq!(lab.waiting(), [""; 0]);
}

#[test]
fn a_receipt_that_was_lost_is_given_again() {
    let lab = lab();
    let id = lab.both();
    // As if the answer had been cut before the generation moved: it waits again, without the receipt.
    fs::rename(lab.path("home/store").join(&id), lab.path("home/transport-outgoing").join(&id)).unwrap();
    fs::remove_file(lab.path("home/transport-outgoing").join(&id).join("receipt.toml")).unwrap();
    let report = lab.sink(0);
    assert_eq!(report["sources"][0]["accepted"], serde_json::json!([id]));
    assert_eq!(report["sources"][0]["stored"], serde_json::json!([]));
    assert_eq!((lab.waiting(), names(&lab.path("home/store"))), (vec![], vec![id.clone()]));
    let receipt = |place: &str| lab.text(format!("{place}/{id}/receipt.toml"));
    assert_eq!(receipt("home/store"), receipt("sink/store/shop"));
}

#[test]
fn one_source_that_fails_leaves_the_others_alone_and_gives_the_exit_code() {
    let lab = lab();
    let text = lab.text("handover.toml");
    let other = format!("[[sink.source]]\nname = \"aaa\"\npath = \"{}\"\n", lab.path("nowhere").display());
    lab.config_text(&format!("{text}{other}"));
    lab.source(0);
    let report = lab.sink(12);
    assert_eq!(report["exit"], "unreachable");
    let of = |name: &str| report["sources"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap();
    assert_eq!(of("shop")["accepted"].as_array().unwrap().len(), 1);
    assert!(of("aaa")["findings"][0]["text"].as_str().unwrap().contains("nowhere"), "{report:#}");
    let ran = lab.run(&["sink", "status"]).exits(0);
    ran.says(&["unreachable", "handover sink run aaa"]);
    // By name, only that one is run.
    lab.run(&["sink", "run", "shop"]).exits(0);
    lab.run(&["sink", "run", "shpo"]).exits(2).says(&["there is no source shpo", "shop"]);
}

#[test]
fn a_source_with_another_name_is_refused_with_both_ways_to_mend_it() {
    let lab = lab();
    let text = lab.text("handover.toml");
    let (source, sink) = text.split_once("[[sink.source]]").unwrap();
    lab.source(0);
    lab.config_text(&format!("{source}[[sink.source]]{}", sink.replace("shop", "shpo")));
    let report = lab.sink(10);
    let said = findings(&report, "configuration").concat();
    for word in ["calls itself shop", "is shpo here", "[source]", "[[sink.source]]"] {
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(names(&lab.path("sink/store/shpo")), [""; 0]);
}

#[test]
fn two_runs_of_one_source_do_not_meet_and_the_second_says_who_is_at_work() {
    let lab = lab();
    lab.source(0);
    lab.sink(0);
    let lock = fs::File::options().read(true).write(true).open(lab.path("state/sink/lock-shop")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let report = lab.sink(11);
    assert!(findings(&report, "busy").concat().contains("another run holds the lock"), "{report:#}");
    lab.run(&["sink", "prune"]).exits(11).says(&["another run holds the lock"]);
    drop(lock);
    lab.sink(0);
}

#[test]
fn a_dry_run_says_what_would_be_fetched_and_changes_nothing() {
    let lab = lab();
    let id = crate::harness::id_of(&lab.source(0));
    lab.run(&["sink", "run", "--dry-run"]).exits(0).says(&[&id, "would be fetched"]);
    assert_eq!(lab.waiting(), [id]);
    assert_eq!(names(&lab.path("sink/store/shop")), [""; 0]);
    assert_eq!(names(&lab.path("sink/incoming/shop")), [""; 0]);
}

#[test]
fn sigterm_ends_with_130_and_the_next_run_goes_on_from_there() {
    let lab = lab();
    lab.config("", TREE, "bandwidth = \"200KiB\"");
    let id = crate::harness::id_of(&lab.source(0));
    let mut child =
        lab.handover(&["sink", "--verbose"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut lines = std::io::BufRead::lines(lines).map(Result::unwrap);
    assert!(lines.any(|line| line.contains(": fetching 20")), "it never fetched");
    std::thread::sleep(std::time::Duration::from_secs(2));
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.concat().contains("what has arrived is kept"), "{rest:?}");
    assert_eq!((names(&lab.path("sink/store/shop")), lab.waiting()), (vec![], vec![id.clone()]));
    lab.config("", TREE, "");
    let report = lab.sink(0);
    assert!(fetched(&report)["wire"].as_u64().unwrap() < 1_900_000, "it began anew: {report:#}");
    assert_eq!(names(&lab.path("sink/store/shop")), [id]);
    lab.run(&["sink", "verify"]).exits(0);
}
