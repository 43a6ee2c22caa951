//! What is kept, what goes, and how it is taken back.

use serde_json::Value;

use crate::harness::{Lab, TREE, id_of, names};

const DUMP: &str = "[[source.element]]\nname = \"db\"\nkind = \"dump\"\nfile = \"db.dump\"\ncommand = [\"cat\", \"{lab}/database\"]";

/// Runs `count` rounds; gives the ids.
fn rounds(lab: &Lab, count: usize) -> Vec<String> {
    (0..count).map(|_| lab.both()).collect()
}

fn lab(sink: &str) -> Lab {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.config("", TREE, sink);
    lab.init();
    lab
}

fn ids(list: &Value, state: &str) -> Vec<String> {
    let rows = list.as_array().unwrap().iter();
    rows.filter(|r| r["state"] == state).map(|r| r["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_newest_are_kept_and_what_goes_can_be_taken_back() {
    let lab = lab("keep = 2");
    let all = rounds(&lab, 4);
    assert_eq!(names(&lab.path("sink/store/shop")).len(), 2);
    let list = lab.run(&["sink", "list", "--json"]).json();
    assert_eq!(ids(&list, "stored"), all[2..]);
    assert_eq!(ids(&list, "condemned"), all[..2]);
    let undone = lab.run(&["sink", "undo", "shop", &all[0]]).exits(0);
    undone.says(&[&all[0], "pinned (taken back)", "--remove"]);
    lab.run(&["sink", "list"]).exits(0).says(&["pinned: taken back"]);
    lab.run(&["sink", "prune"]).exits(0);
    assert!(names(&lab.path("sink/store/shop")).contains(&all[0]), "what was taken back went again");
    lab.run(&["sink", "pin", "shop", &all[0], "--remove"]).exits(0);
    let plan = lab.run(&["sink", "prune", "--dry-run"]).exits(0);
    plan.says(&[&all[0], "goes", "stays"]);
    let plan = lab.run(&["sink", "prune", "--dry-run", "--json"]).json();
    let goes = plan.as_array().unwrap().iter().filter(|r| r["goes"] == true).collect::<Vec<_>>();
    assert_eq!((goes.len(), goes[0]["id"].as_str()), (1, Some(all[0].as_str())));
    assert!(plan.as_array().unwrap().iter().all(|r| !r["reasons"].as_array().unwrap().is_empty()));
    lab.run(&["sink", "prune"]).exits(0).says(&[&all[0], "condemned"]);
    let unknown = lab.run(&["sink", "undo", "shop", "20200101T000000Z"]).exits(2);
    unknown.says(&["20200101T000000Z", &all[0], &all[1]]);
    lab.run(&["sink", "statsu"]).exits(2).says(&["did you mean `handover sink status`"]);
    lab.run(&["sink", "quarantine", "retry", "shop"]).exits(2).says(&["nothing of shop was put aside"]);
}

#[test]
fn after_undo_for_what_was_condemned_is_gone() {
    let lab = lab("keep = 1\nundo_for = \"0s\"");
    let all = rounds(&lab, 3);
    lab.run(&["sink", "prune"]).exits(0);
    assert_eq!(names(&lab.path("sink/store/shop")), all[2..]);
    assert_eq!(names(&lab.path("sink/condemned/shop")), [""; 0]);
}

#[test]
fn the_newest_good_copy_of_each_element_stays_however_old() {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.config("", &format!("{TREE}\n{DUMP}"), "keep = 2");
    lab.init();
    std::fs::write(lab.path("database"), "rows").unwrap();
    let all = rounds(&lab, 2);
    std::fs::remove_file(lab.path("database")).unwrap();
    for _ in 0..3 {
        lab.source(3);
        lab.sink(0);
    }
    let kept = names(&lab.path("sink/store/shop"));
    assert_eq!(kept.len(), 3, "{kept:?}");
    assert!(kept.contains(&all[1]), "the last one with a good db went");
    let plan = lab.run(&["sink", "prune", "--dry-run", "--json"]).json();
    let row = plan.as_array().unwrap().iter().find(|r| r["id"] == all[1].as_str()).unwrap();
    assert!(row["reasons"].to_string().contains("db"), "{row}");
    lab.run(&["sink", "list"]).exits(0).says(&["failed: db"]);
}

#[test]
fn what_is_pinned_stays_until_it_is_unpinned() {
    let lab = lab("keep = 1");
    let first = lab.both();
    lab.run(&["sink", "pin", "shop", &first, "--label", "before the move"]).exits(0);
    rounds(&lab, 2);
    assert!(names(&lab.path("sink/store/shop")).contains(&first));
    lab.run(&["sink", "list"]).exits(0).says(&["pinned: before the move"]);
    lab.run(&["sink", "prune", "--dry-run"]).exits(0).says(&["pinned"]);
    lab.run(&["sink", "pin", "shop", &first, "--remove"]).exits(0);
    lab.run(&["sink", "prune"]).exits(0).says(&[&first]);
    assert!(!names(&lab.path("sink/store/shop")).contains(&first));
}

#[test]
fn nothing_younger_than_keep_for_goes() {
    let lab = lab("keep = 1\nkeep_for = \"7d\"");
    let all = rounds(&lab, 3);
    let mut expected = all;
    expected.sort();
    assert_eq!(names(&lab.path("sink/store/shop")), expected);
}

#[test]
fn a_source_that_offers_too_often_is_held_back_with_a_word() {
    let lab = lab("max_per_day = 2");
    rounds(&lab, 2);
    let third = id_of(&lab.source(0));
    let report = lab.sink(3);
    assert!(crate::harness::findings(&report, "failed").concat().contains("max_per_day"), "{report:#}");
    assert_eq!(lab.waiting(), [third]);
}

#[test]
fn the_source_keeps_its_own_number_of_generations() {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.config("keep = 2\nundo_for = \"0s\"", TREE, "");
    lab.init();
    let all = rounds(&lab, 4);
    let mut kept = all[2..].to_vec();
    kept.sort();
    assert_eq!(names(&lab.path("home/store")), kept);
    lab.source(0);
    assert_eq!(names(&lab.path("home/condemned")), [""; 0], "the next run deletes what was condemned");
}

#[test]
fn what_the_source_condemned_can_be_taken_back() {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.config("keep = 1", TREE, "");
    lab.init();
    let all = rounds(&lab, 2);
    let dry = lab.run(&["source", "undo", &all[0], "--dry-run"]).exits(0);
    dry.says(&["would be back in the Source-Store"]);
    assert_eq!(names(&lab.path("home/condemned")), all[..1]);
    lab.run(&["source", "undo", &all[0]]).exits(0).says(&["is back in the Source-Store"]);
    assert!(names(&lab.path("home/store")).contains(&all[0]));
    lab.run(&["source", "undo", &all[0]]).exits(2).says(&["what can be taken back: none"]);
}
