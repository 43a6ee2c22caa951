//! A source that is no more, one that is called otherwise, and a generation that nobody will fetch.

use std::{fs, process::Command};

use crate::harness::{Lab, Ran, TREE, findings, id_of, names, settle};

fn at(lab: &Lab, clock: &str, args: &[&str]) -> Ran {
    let mut command: Command = lab.handover(args);
    Ran::new(&command.env("HANDOVER_CLOCK", clock).output().unwrap())
}

/// The configuration without the source at the sink.
fn unconfigure(lab: &Lab) {
    let text = lab.text("handover.toml");
    fs::write(lab.path("handover.toml"), text.split("[[sink.source]]").next().unwrap()).unwrap();
}

#[test]
fn a_source_is_forgotten_only_on_purpose_and_comes_back_until_its_time_is_over() {
    let lab = Lab::new();
    lab.write("a", "x");
    settle();
    let first = lab.init().both();
    let second = lab.both();
    let stored = || names(&lab.path("sink/store/shop"));
    let forget = |more: &[&str]| lab.run(&[&["sink", "forget", "shop"][..], more].concat());
    forget(&["--yes", "--even-recent"]).exits(10).says(&["still configured", "[[sink.source]]"]);
    unconfigure(&lab);
    lab.run(&["sink", "list"]).exits(0).says(&[&first, &second, "shop is not configured", "forget shop"]);
    lab.run(&["sink", "ls", "shop", "newest"]).exits(0).says(&["tree/a"]);
    forget(&["--yes"]).exits(2).says(&["less than 7 days ago", "--even-recent"]);
    forget(&["--even-recent"]).exits(2).says(&["nobody agreed", "--yes"]);
    lab.run(&["sink", "pin", "shop", &first, "--label", "audit"]).exits(0);
    forget(&["--even-recent", "--dry-run"])
        .exits(0)
        .says(&[&format!("{second} would be condemned"), &format!("{first} stays: it is pinned: audit")]);
    lab.run(&["sink", "forget", "nope", "--yes"]).exits(2).says(&["there is no source nope"]);
    assert_eq!(stored(), [first.as_str(), &second]);

    // What looks suspicious is looked at first.
    let marks = lab.path("sink/store/shop").join(&second).join("marks.toml");
    fs::write(&marks, "format = 1\nsuspicious = \"emptied\"\n").unwrap();
    forget(&["--even-recent", "--yes"]).exits(2).says(&["suspicious", "handover sink trust shop"]);
    lab.run(&["sink", "trust", "shop"]).exits(0);
    assert_eq!(stored(), [first.as_str(), &second]);

    let json = forget(&["--even-recent", "--yes", "--json"]).exits(0).json();
    assert_eq!(json["goes"], serde_json::json!([second]));
    assert_eq!(stored(), [first.as_str()]);
    lab.run(&["sink", "undo", "shop", "--all", "--dry-run"]).exits(0).says(&[&second, "would be back"]);
    let back = lab.run(&["sink", "undo", "shop", "--all", "--json"]).exits(0).json();
    assert_eq!((&back[0]["id"], &back[0]["pinned"]), (&second.as_str().into(), &serde_json::Value::Null));
    assert_eq!(stored(), [first.as_str(), &second]);
    // With the newest kept, and pinned then.
    forget(&["--even-recent", "--pinned", "--keep", "1", "--yes"]).exits(0).says(&["among the newest 1"]);
    assert_eq!(stored(), [second.as_str()]);
    lab.run(&["sink", "list"]).exits(0).says(&["pinned: kept when its source was forgotten"]);

    // A week later it is old enough by itself. Nothing is deleted before `undo_for` is over, and all is then.
    at(&lab, "+200h", &["sink", "forget", "shop", "--pinned", "--yes"]).exits(0);
    at(&lab, "+223h", &["sink", "prune"]).exits(0);
    assert!(names(&lab.path("sink/condemned/shop")).contains(&second));
    at(&lab, "+225h", &["sink", "prune"]).exits(0).says(&[&second, "its source was forgotten"]);
    for place in ["store", "condemned", "incoming", "quarantine"] {
        assert!(!lab.path(format!("sink/{place}/shop")).exists(), "{place}");
    }
    lab.run(&["sink", "list", "shop"]).exits(2);
}

#[test]
fn the_last_source_is_forgotten_and_runs_delete_what_is_condemned() {
    let lab = Lab::new();
    lab.write("a", "x");
    let id = lab.init().both();
    unconfigure(&lab);
    // A configuration that was lost is no sink that is retired.
    lab.run(&["sink", "run"]).exits(10).says(&["generations are stored of shop", "sink forget NAME"]);
    lab.run(&["sink", "forget", "shop", "--even-recent", "--yes"]).exits(0);
    at(&lab, "+23h", &["sink", "run"]).exits(0).says(&["no source is configured", "sink enroll"]);
    assert_eq!(names(&lab.path("sink/condemned/shop")), [id.as_str()]);
    let report = at(&lab, "+25h", &["sink", "run", "--json"]).exits(0).json();
    assert!(findings(&report, "note").concat().contains(&id), "{report:#}");
    for place in ["store", "condemned", "incoming", "quarantine"] {
        assert!(!lab.path(format!("sink/{place}/shop")).exists(), "{place}");
    }
    let quiet = at(&lab, "+26h", &["sink", "run", "--quiet"]).exits(0);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
}

#[test]
fn what_is_stored_of_a_source_that_is_not_configured_never_goes_by_itself() {
    let lab = Lab::new();
    lab.config("", TREE, "keep = 1");
    lab.write("a", "x");
    lab.init().both();
    lab.both();
    let (stored, condemned) = (names(&lab.path("sink/store/shop")), names(&lab.path("sink/condemned/shop")));
    assert_eq!((stored.len(), condemned.len()), (1, 1));
    unconfigure(&lab);
    at(&lab, "+9000h", &["sink", "prune"]).exits(0);
    assert_eq!(names(&lab.path("sink/store/shop")), stored);
    assert_eq!(names(&lab.path("sink/condemned/shop")), [""; 0], "what retention took has its time");
}

#[test]
fn a_source_that_calls_itself_otherwise_keeps_its_generations_and_its_order() {
    let lab = Lab::new();
    lab.write("a", "x");
    settle();
    let first = lab.init().both();
    let text = lab.text("handover.toml").replacen("name = \"shop\"", "name = \"boutique\"", 1);
    fs::write(lab.path("handover.toml"), text).unwrap();
    lab.source(0);
    let report = lab.run(&["sink", "--json"]).exits_with_failure().json();
    assert!(format!("{report}").contains("boutique"), "{report:#}");
    assert_eq!(names(&lab.path("sink/store/shop")), [first.as_str()], "a wrong name changed something");

    let rename = ["sink", "rename", "shop", "boutique"];
    lab.run(&[&rename[..], &["--dry-run"]].concat())
        .exits(0)
        .says(&["would be that of boutique", "would be boutique in"]);
    assert!(lab.path("sink/store/shop").exists());
    // As if it had been cut after the first of its moves.
    fs::rename(lab.path("sink/condemned/shop"), lab.path("sink/condemned/boutique")).unwrap();
    lab.run(&rename).exits(0).says(&["name = \"boutique\"", "--as shop"]);
    assert!(!lab.path("sink/store/shop").exists());
    let report = lab.sink(0);
    assert_eq!(findings(&report, "warning"), [""; 0], "another lineage? {report:#}");
    let stored = &report["sources"][0]["stored"][0];
    assert_eq!((&stored["linked"], &stored["fetched"]), (&1.into(), &0.into()), "{report:#}");
    let list = lab.run(&["sink", "list", "--json"]).exits(0).json();
    let order: Vec<_> =
        list.as_array().unwrap().iter().map(|row| row["sequence"].as_u64().unwrap()).collect();
    assert_eq!(order, [1, 2]);
    lab.run(&["explain", "boutique", &first]).exits(0).says(&["stored"]);
    let from = lab.path("sink/store/boutique");
    let out = lab.path("out");
    let to = ["restore", &first, "--from", from.to_str().unwrap(), "--to", out.to_str().unwrap()];
    lab.run(&[&to[..], &["--as", "shop"]].concat()).exits(0);
    // Into the application that calls itself otherwise now: only by the name that it had.
    let plan = ["restore", "plan", &first, "--from", from.to_str().unwrap()];
    lab.run(&plan).exits_with_failure().says(&["is not in"]);
    lab.run(&[&plan[..], &["--as", "shop"]].concat()).exits(0);
    lab.run(&rename).exits(2).says(&["neither configured nor stored"]);
    lab.run(&["sink", "rename", "boutique", "boutique"]).exits(2).says(&["it is called boutique already"]);

    // Two that both have something are two.
    fs::create_dir_all(lab.path("sink/store/other/20200101T000000Z")).unwrap();
    lab.run(&["sink", "rename", "boutique", "other"]).exits_with_failure().says(&["nothing was renamed"]);
    assert_eq!(names(&lab.path("sink/store/boutique")).len(), 2);
}

#[test]
fn a_waiting_generation_is_given_up_and_the_only_copy_only_if_somebody_says_so() {
    let lab = Lab::new();
    lab.write("a", "x");
    lab.init();
    let (first, second) = (id_of(&lab.source(0)), id_of(&lab.source(4)));
    let discard = |id: &str, more: &[&str]| lab.run(&[&["source", "discard", id][..], more].concat());
    let json = discard(&first, &["--dry-run", "--json"]).exits(0).json();
    assert_eq!((&json["only_copy"], &json["dry_run"]), (&false.into(), &true.into()));
    assert_eq!(lab.waiting(), [first.as_str(), &second]);
    // The younger one holds all that is in it.
    discard(&first, &[]).exits(0).says(&[&format!("handover source undo {first}")]);
    assert_eq!(lab.waiting(), [second.as_str()]);
    discard(&second, &[]).exits(2).says(&["nothing younger on this host", "nobody agreed", "--yes"]);
    discard(&second, &["--dry-run"]).exits(0).says(&["would be given up"]);
    assert_eq!(lab.waiting(), [second.as_str()]);
    discard(&second, &["--yes"]).exits(0);
    assert_eq!(lab.waiting(), [""; 0]);
    lab.run(&["explain", "shop", &second]).exits(0).says(&["given up"]);
    lab.run(&["source", "undo", &second]).exits(0);
    assert_eq!(lab.waiting(), [second.as_str()]);
    lab.sink(0);
    discard(&second, &["--yes"]).exits(2).says(&["does not wait", "none"]);
    discard(&second, &["--channel", "logs"]).exits(2).says(&["nothing of logs is collected here"]);
}
