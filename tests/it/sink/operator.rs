//! What an operator types when something is wrong: shown before it is done, said afterwards, never more than was meant.

use std::fs;

use crate::harness::{Lab, id_of, names, settle};

/// Three generations, of which the sink keeps two: the first is condemned.
fn lab() -> (Lab, Vec<String>) {
    let lab = Lab::new();
    lab.config("", crate::harness::TREE, "keep = 2");
    lab.write("a", "same");
    settle();
    lab.init();
    let ids = (0..3).map(|n| {
        lab.write("b", n.to_string());
        lab.both()
    });
    let ids = ids.collect();
    (lab, ids)
}

#[test]
fn a_dry_run_of_undo_or_pin_changes_nothing_and_says_what_the_real_one_does() {
    let (lab, ids) = lab();
    let stored = || names(&lab.path("sink/store/shop"));
    assert_eq!(stored(), ids[1..]);
    lab.run(&["sink", "undo", "shop", &ids[0], "--dry-run"]).exits(0).says(&["would be back and pinned"]);
    assert_eq!(stored(), ids[1..]);
    let json = lab.run(&["sink", "undo", "shop", &ids[0], "--json"]).exits(0).json();
    assert_eq!((&json["id"], &json["dry_run"]), (&ids[0].as_str().into(), &false.into()));
    assert_eq!(stored(), ids);

    let pinned = |id: &str| {
        let list = lab.run(&["sink", "list", "shop", "--json"]).exits(0).json();
        let row = list.as_array().unwrap().iter().find(|row| row["id"] == id).unwrap().clone();
        row["pinned"].clone()
    };
    let pin = |more: &[&str]| lab.run(&[&["sink", "pin", "shop", &ids[1]][..], more].concat());
    pin(&["--dry-run"]).exits(0).says(&["would be pinned (pinned)", "it was not pinned"]);
    assert!(pinned(&ids[1]).is_null());
    let json = pin(&["--label", "audit", "--json"]).exits(0).json();
    assert_eq!((&json["pinned"], &json["was"]), (&"audit".into(), &serde_json::Value::Null));
    assert_eq!(pinned(&ids[1]), "audit");
    pin(&["--remove", "--dry-run"]).exits(0).says(&["would be left to the retention", "(audit)"]);
    assert_eq!(pinned(&ids[1]), "audit");
    pin(&["--remove"]).exits(0);
    assert!(pinned(&ids[1]).is_null());
    lab.run(&["sink", "pin", "shop", "20200101T000000Z"]).exits(2).says(&["handover sink list shop"]);
}

#[test]
fn verify_goes_on_where_one_source_is_busy_and_says_what_to_do_about_damage() {
    let lab = Lab::new();
    lab.config_text(
        "state = \"{lab}/state\"\n[source]\nname = \"shop\"\nhome = \"{lab}/home\"\nreserve = \"0B\"\n\
         [[source.element]]\nname = \"www\"\nkind = \"tree\"\npaths = [\"{lab}/tree\"]\n\
         [sink]\nhome = \"{lab}/sink\"\nreserve = \"0B\"\n\
         [[sink.source]]\nname = \"blog\"\npath = \"{lab}/elsewhere\"\n\
         [[sink.source]]\nname = \"shop\"\npath = \"{lab}/home\"\n",
    );
    lab.write("a", "content");
    lab.init();
    let id = id_of(&lab.source(0));
    lab.run(&["sink", "run", "shop"]).exits(0);
    // The first of the list is busy, as while a run hangs.
    let mut hold = lab.program("flock", &[lab.path("state/sink/lock-blog").to_str().unwrap(), "cat"]);
    let mut held = hold.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let busy = || lab.run(&["sink", "verify", "blog"]).code == 11;
    while !busy() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let ran = lab.run(&["sink", "verify"]).exits(11).says(&["blog: another run holds the lock"]);
    assert!(ran.out.contains(&format!("shop {id}: whole")), "{ran:?}");
    let stored = lab.stored(format!("sink/store/shop/{id}"), "a");
    fs::remove_file(&stored).unwrap();
    fs::write(&stored, "CONTENT").unwrap();
    lab.run(&["sink", "verify"]).exits(13).says(&[
        "DAMAGED",
        "-> look at the disk",
        "handover sink verify shop --heal",
    ]);
    let json = lab.run(&["sink", "verify", "--json"]).exits(13).json();
    assert!(json[0]["next"].as_str().unwrap().contains("handover sink verify shop --heal"), "{json}");
    drop(held.stdin.take());
    held.wait().unwrap();
}

#[test]
fn what_is_no_failure_is_a_warning_and_names_are_said_once() {
    let lab = Lab::new();
    lab.config("", crate::harness::TREE, "");
    lab.write("a", "x");
    lab.init();
    lab.source(0);
    // Less than twice the reserve is free: nearly full, and the run is well.
    let room = rustix::fs::statvfs(lab.path("home")).unwrap();
    let reserve = room.f_bavail * room.f_frsize / 4 * 3;
    let text = lab.text("handover.toml").replacen("\"0B\"", &reserve.to_string(), 1);
    fs::write(lab.path("handover.toml"), text).unwrap();
    let watch = lab.run(&["source", "watch"]).exits(0).says(&["warning: home: ", "`reserve`"]);
    assert!(!watch.err.contains("error:"), "{}", watch.err);
    lab.config_text(
        "state = \"{lab}/state\"\n[sink]\nhome = \"{lab}/sink\"\n[[sink.source]]\nname = \"shop\"\npath = \"{lab}/home\"\n\
         [logsink]\nhome = \"{lab}/logs\"\n[[logsink.source]]\nname = \"shop\"\npath = \"{lab}/home2\"\n",
    );
    let ran = lab.run(&["explain", "nope"]).exits(2);
    assert!(ran.err.contains("there are: shop\n"), "{}", ran.err);
}
