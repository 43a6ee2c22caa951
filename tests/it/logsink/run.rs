//! What goes over, what is kept, and what is refused.

use std::fs;

use super::Logs;
use crate::harness::{Lab, TREE, findings, names};

#[test]
fn a_source_with_logs_only_hands_them_over_and_drops_what_was_accepted() {
    let logs = Logs::new();
    logs.source.append("app.log", "one\n");
    let report = logs.both();
    let stored = logs.stored();
    assert_eq!(report["sources"][0]["accepted"], serde_json::json!(stored), "{report:#}");
    let [id] = stored.as_slice() else { panic!("{stored:?}") };
    assert_eq!(names(&logs.lab().path("logs/transport-outgoing")), [""; 0]);
    // There is no Source-Store for logs: the receipt stays, and the generation can be taken back for a day.
    assert_eq!(names(&logs.lab().path("logs/store")), [format!("{id}.receipt.toml")]);
    assert_eq!(names(&logs.lab().path("logs/condemned")), [id.as_str()]);
    let receipt = |path: String| logs.lab().text(path);
    assert_eq!(
        receipt(format!("logs/store/{id}.receipt.toml")),
        receipt(format!("logsink/store/shop/{id}/receipt.toml"))
    );
    let text: toml::Table =
        logs.lab().text(format!("logsink/store/shop/{id}/generation.toml")).parse().unwrap();
    assert_eq!(text["channel"].as_str(), Some("logs"));
    logs.lab().run(&["logsink", "verify"]).exits(0).says(&[id, "whole"]);
    logs.lab().run(&["logsink", "status"]).exits(0).says(&["shop", "ok", "none"]);
    logs.lab().run(&["logsink", "ls", "shop"]).exits(0).says(&["app.log"]);
    // Nothing new, nothing offered.
    let report = logs.fetch(0);
    assert_eq!(report["sources"][0]["stored"], serde_json::json!([]));
}

#[test]
fn a_receipt_that_was_lost_is_given_again_and_the_source_drops_then() {
    let logs = Logs::new();
    logs.source.append("app.log", "one\n");
    logs.both();
    let id = logs.stored().remove(0);
    // As if the answer had been cut before anything moved: it waits again.
    let lab = logs.lab();
    fs::rename(lab.path("logs/condemned").join(&id), lab.path("logs/transport-outgoing").join(&id)).unwrap();
    for left in ["receipt.toml", "condemned.toml"] {
        let left = lab.path("logs/transport-outgoing").join(&id).join(left);
        if left.exists() {
            fs::remove_file(left).unwrap();
        }
    }
    fs::remove_file(lab.path(format!("logs/store/{id}.receipt.toml"))).unwrap();
    let report = logs.fetch(0);
    assert_eq!(report["sources"][0]["accepted"], serde_json::json!([id]));
    assert_eq!(names(&lab.path("logs/transport-outgoing")), [""; 0]);
    assert_eq!(names(&lab.path("logs/store")), [format!("{id}.receipt.toml")]);
}

#[test]
fn the_log_sink_keeps_its_own_number_of_generations() {
    let logs = Logs::new();
    logs.configure("keep = 2");
    for line in ["one\n", "two\n", "three\n"] {
        logs.source.append("app.log", line);
        logs.both();
    }
    let stored = logs.stored();
    assert_eq!(stored.len(), 2);
    let ran = logs.cat(&[]).exits(0);
    assert_eq!(ran.out, "two\nthree\n");
    assert!(ran.err.contains(&format!("4 bytes missing before {}", stored[0])), "{}", ran.err);
    // What is condemned can be taken back, and pinned.
    let list = logs.lab().run(&["logsink", "list", "--json"]).json();
    let gone = list.as_array().unwrap().iter().find(|row| row["state"] == "condemned").unwrap();
    let gone = gone["id"].as_str().unwrap().to_owned();
    logs.lab().run(&["logsink", "undo", "shop", &gone]).exits(0).says(&["handover logsink pin shop"]);
    logs.lab().run(&["logsink", "pin", "shop", &gone]).exits(0);
    logs.source.append("app.log", "four\n");
    logs.both();
    // The pinned one stays and another went: a hole, which is said where it is.
    let ran = logs.cat(&[]).exits(0);
    assert_eq!(ran.out, "one\nthree\nfour\n");
    assert!(ran.err.contains(&format!("4 bytes missing between {gone} and {}", stored[1])), "{}", ran.err);
    assert!(ran.err.contains("1 generation is not here between"), "{}", ran.err);
}

#[test]
fn data_is_not_taken_as_logs_nor_logs_as_data() {
    let lab = Lab::new();
    fs::create_dir(lab.path("log")).unwrap();
    fs::write(lab.path("log/app.log"), "a line\n").unwrap();
    lab.write("page", "hello");
    let configure = |data: &str, logs: &str| {
        lab.config_text(&format!(
            "state = \"{{lab}}/state\"\n[source]\nname = \"shop\"\nhome = \"{{lab}}/home\"\nreserve = 0\n{TREE}\n\
             [source.logs]\nhome = \"{{lab}}/logs\"\npaths = [\"{{lab}}/log/*.log*\"]\n\
             [sink]\nhome = \"{{lab}}/sink\"\nreserve = 0\n[[sink.source]]\nname = \"shop\"\npath = \"{{lab}}/{data}\"\n\
             [logsink]\nhome = \"{{lab}}/logsink\"\nreserve = 0\n[[logsink.source]]\nname = \"shop\"\npath = \"{{lab}}/{logs}\"\n"
        ));
    };
    configure("logs", "home");
    lab.init();
    lab.run(&["logsink", "init"]).exits(0);
    lab.source(0);
    let waiting = |home: &str| names(&lab.path(home).join("transport-outgoing"));
    let before = (waiting("home"), waiting("logs"));
    assert_eq!((before.0.len(), before.1.len()), (1, 1));
    for (role, offered, fetched, section) in
        [("sink", "logs", "data", "[[logsink.source]]"), ("logsink", "data", "logs", "[[sink.source]]")]
    {
        let report = lab.run(&[role, "--json"]).exits(10).json();
        let said = findings(&report, "configuration").concat();
        let texts =
            [format!("it hands over {offered} there, and {fetched} is fetched here"), section.to_owned()];
        assert!(texts.iter().all(|text| said.contains(text)), "{said}");
        assert_eq!(names(&lab.path(role).join("store/shop")), [""; 0]);
        assert_eq!(names(&lab.path(role).join("quarantine/shop")), [""; 0]);
        lab.run(&["check", "--live"]).exits(10).says(&["hands over", section]);
    }
    // Nothing was rejected: with the right homes each goes its way.
    assert_eq!((waiting("home"), waiting("logs")), before);
    configure("home", "logs");
    lab.sink(0);
    lab.run(&["logsink"]).exits(0);
    assert_eq!((waiting("home"), waiting("logs")), (vec![], vec![]));
    assert_eq!(names(&lab.path("sink/store/shop")), before.0);
    assert_eq!(names(&lab.path("logsink/store/shop")), before.1);
    lab.run(&["check", "--live"]).exits(0).says(&["logsink", "sink"]);
}

#[test]
fn a_log_sink_without_its_section_or_its_store_says_so_in_its_own_words() {
    let logs = Logs::new();
    logs.source.append("app.log", "one\n");
    logs.both();
    fs::rename(logs.lab().path("logsink"), logs.lab().path("unmounted")).unwrap();
    fs::create_dir(logs.lab().path("logsink")).unwrap();
    logs.lab().run(&["logsink"]).exits(14).says(&["mount it", "`handover logsink init`"]);
    logs.lab().run(&["logsink", "init"]).exits(14).says(&["mount it"]);
    logs.cat(&[]).exits(14).says(&["mount it"]);
    let text = logs.lab().text("handover.toml");
    logs.lab().config_text(text.split("[logsink]").next().unwrap());
    logs.lab().run(&["logsink"]).exits(10).says(&["there is no [logsink] section", "[[logsink.source]]"]);
}
