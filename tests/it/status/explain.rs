//! `handover explain`.

use std::fs;

use crate::harness::{Lab, TREE, settle};

fn words(json: &serde_json::Value) -> Vec<(String, String)> {
    let text = |m: &serde_json::Value, key: &str| m[key].as_str().unwrap().to_owned();
    json["events"].as_array().unwrap().iter().map(|m| (text(m, "by"), text(m, "what"))).collect()
}

fn has(all: &[(String, String)], by: &str, what: &str) -> usize {
    let at = all.iter().position(|(b, w)| b == by && w == what);
    at.unwrap_or_else(|| panic!("{by} {what} is missing in {all:?}"))
}

/// A sink alone, as on a host of its own: what the source knows comes through its gate.
fn sink_only(lab: &Lab, home: &str, keys: &str) {
    lab.config_text(&format!(
        "state = \"{{lab}}/state\"\n[sink]\nhome = \"{{lab}}/sink\"\nreserve = \"0B\"\n{keys}\n\
         [[sink.source]]\nname = \"shop\"\npath = \"{{lab}}/{home}\"\n"
    ));
}

#[test]
fn the_whole_life_is_told_in_order_of_time_with_the_part_of_the_source() {
    let lab = Lab::new();
    lab.write("a", "one");
    settle();
    let first = lab.init().both();
    lab.write("b", "two");
    let second = lab.both();
    sink_only(&lab, "home", "keep = 1");
    lab.run(&["sink", "prune"]).exits(0);
    let json = lab.run(&["explain", "shop", &first, "--json"]).exits(0).json();
    let events = words(&json);
    let times: Vec<&str> =
        json["events"].as_array().unwrap().iter().map(|m| m["at"].as_str().unwrap()).collect();
    assert!(times.windows(2).all(|w| w[0].parse::<jiff::Timestamp>().unwrap() <= w[1].parse().unwrap()));
    let order = ["fetching", "fetched", "checked", "stored", "accepted", "condemned"];
    let places: Vec<usize> = order.iter().map(|what| has(&events, "sink", what)).collect();
    assert!(places.is_sorted(), "{events:?}");
    assert!(has(&events, "source", "sealed") < places[0]);
    has(&events, "source", "accepted");
    assert_eq!(events.iter().filter(|(by, what)| by == "sink" && what == "stored").count(), 1, "told once");
    assert_eq!((&json["now"][0]["place"], &json["now"][0]["stays"]), (&"condemned".into(), &false.into()));
    assert!(json["now"][0]["because"][0].as_str().unwrap().contains("not among the last 1"), "{json:#}");
    let path = json["now"][0]["path"].as_str().unwrap();
    assert!(fs::metadata(path).unwrap().is_dir(), "{path}");
    let ran = lab.run(&["explain", "shop"]).exits(0);
    ran.says(&[&second, "it stays: newest; newest verified", "collected", "sink/store/shop"]);
}

#[test]
fn what_is_deleted_is_still_known_and_says_why_it_went() {
    let lab = Lab::new();
    lab.config("undo_for = \"0s\"\nkeep = 1", TREE, "undo_for = \"0s\"\nkeep = 1");
    lab.write("a", "one");
    let first = lab.init().both();
    for n in 0..3 {
        lab.write("b", format!("{n}"));
        lab.both();
    }
    assert!(!lab.path(format!("sink/condemned/shop/{first}")).exists());
    assert!(!lab.path(format!("home/condemned/{first}")).exists());
    let json = lab.run(&["explain", "shop", &first, "--json"]).exits(0).json();
    let events = words(&json);
    for by in ["source", "sink"] {
        assert!(has(&events, by, "condemned") < has(&events, by, "deleted"), "{events:?}");
    }
    has(&events, "source", "sealed");
    has(&events, "source", "accepted");
    assert_eq!(json["now"].as_array().unwrap().len(), 0);
    lab.run(&["explain", "shop", &first]).exits(0).says(&["it is not here any more"]);
}

#[test]
fn a_source_that_cannot_be_asked_is_said_and_the_own_part_is_told() {
    let lab = Lab::new();
    lab.write("a", "one");
    let id = lab.init().both();
    sink_only(&lab, "nowhere", "");
    let ran = lab.run(&["explain", "shop", &id]).exits(0);
    ran.says(&["stored", "shop itself could not be asked", "nowhere"]);
    let json = lab.run(&["explain", "shop", &id, "--json"]).exits(0).json();
    assert!(words(&json).iter().all(|(by, _)| by == "sink"));
    assert_eq!(json["not_asked"].as_array().unwrap().len(), 1);
}

#[test]
fn on_the_source_its_own_part_is_told_with_what_restore_noted() {
    let lab = Lab::new();
    lab.write("a", "one");
    let id = lab.init().both();
    let waiting = lab.source(0)["generation"]["id"].as_str().unwrap().to_owned();
    // As restore writes it.
    let line = format!(
        "{{\"id\":\"{id}\",\"at\":\"2030-01-01T00:00:00Z\",\"what\":\"drilled\",\"detail\":\"in 3 s\"}}\n"
    );
    let history = lab.path("home/gate/history");
    fs::write(&history, line).unwrap();
    lab.config_text(&format!(
        "state = \"{{lab}}/state\"\n[source]\nname = \"shop\"\nhome = \"{{lab}}/home\"\nreserve = \"0B\"\n{TREE}\n"
    ));
    let json = lab.run(&["explain", "shop", &id, "--json"]).exits(0).json();
    let events = words(&json);
    assert_eq!(events.last().unwrap(), &("source".to_owned(), "drilled".to_owned()));
    assert!(has(&events, "source", "sealed") < has(&events, "source", "accepted"));
    assert_eq!(json["now"][0]["stays"], true);
    let ran = lab.run(&["explain", "shop", &waiting]).exits(0);
    ran.says(&["it waits for the sink", "transport-outgoing"]);
}

#[test]
fn what_is_unknown_ends_with_2_and_says_what_there_is() {
    let lab = Lab::new();
    lab.write("a", "one");
    lab.init();
    lab.run(&["explain", "shop"]).exits(2).says(&["no generation of shop is known here"]);
    let id = lab.both();
    lab.run(&["explain", "shpo"]).exits(2).says(&["there is no source shpo", "shop"]);
    lab.run(&["explain", "shop", "20200101T000000Z"]).exits(2).says(&["nothing is known", &id]);
}
