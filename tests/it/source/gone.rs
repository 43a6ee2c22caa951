//! A home whose disk is not mounted: it is missed, and no second one is made in its place, unless somebody says so.

use std::fs;

use crate::harness::{Lab, TREE, id_of, names};

/// What an unmounted disk leaves: nothing, or the empty folder on which it is mounted.
fn unmount(lab: &Lab, home: &str, mount_point: bool) {
    fs::rename(lab.path(home), lab.path("disk")).unwrap();
    if mount_point {
        fs::create_dir(lab.path(home)).unwrap();
    }
}

/// It fails where something was made on the mount point.
fn mount(lab: &Lab, home: &str) {
    if lab.path(home).exists() {
        fs::remove_dir(lab.path(home)).unwrap();
    }
    fs::rename(lab.path("disk"), lab.path(home)).unwrap();
}

#[test]
fn a_source_whose_home_is_not_mounted_says_so_and_makes_no_second_one() {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.init();
    for round in ["never run", "run"] {
        for mount_point in [true, false] {
            unmount(&lab, "home", mount_point);
            for command in [
                &["source", "run"][..],
                &["source", "run", "--dry-run"],
                &["source", "status"],
                &["source", "watch"],
                &["source", "init"],
                &["source", "init", "--dry-run"],
                &["source", "discard", "20200101T000000Z"],
                &["restore", "list"],
                &["restore", "--to", "out"],
                &["restore", "plan"],
            ] {
                let ran = lab.run(command).exits(14);
                ran.says(&["mount its disk", "handover source init --new-home"]);
            }
            lab.run(&["check", "--live"]).exits(10).says(&["mount its disk"]);
            mount(&lab, "home");
        }
        assert_eq!(lab.waiting().len(), usize::from(round == "run"));
        if round == "never run" {
            lab.source(0);
        }
    }
    // Mounted, all is as it was.
    lab.run(&["source", "init"]).exits(0).says(&["nothing to do"]);
    lab.sink(0);
}

#[test]
fn a_home_that_was_made_on_the_mount_point_by_hand_is_not_taken_for_the_one_that_is_known() {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.init().both();
    fs::rename(lab.path("home"), lab.path("disk")).unwrap();
    // An elder handover would have made it so.
    fs::create_dir(lab.path("home")).unwrap();
    for place in names(&lab.path("disk")) {
        fs::create_dir(lab.path("home").join(place)).unwrap();
    }
    lab.run(&["source"]).exits(14).says(&["never held a generation", "mount its disk"]);
    assert_eq!(lab.waiting(), [""; 0]);
    fs::write(lab.path("home/gate/gate.toml"), "format = 1\nlineage = \"of another\"\n").unwrap();
    lab.run(&["source"]).exits(14).says(&["lineage", "mount its disk"]);
    fs::remove_dir_all(lab.path("home")).unwrap();
    mount(&lab, "home");
    // What only the gate's file is missing from is the home all the same, and mended.
    fs::remove_file(lab.path("home/gate/gate.toml")).unwrap();
    lab.source(0);
    lab.sink(0);
}

#[test]
fn who_has_lost_a_home_for_good_begins_anew_and_who_moved_it_goes_on() {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.init();
    let first = lab.both();
    unmount(&lab, "home", true);
    lab.run(&["source", "init", "--new-home"]).exits(0);
    let report = lab.source(0);
    let second = id_of(&report);
    let report = lab.sink(0);
    assert_eq!(report["sources"][0]["stored"][0]["sequence"], 2, "{report:#}");
    assert_eq!(names(&lab.path("sink/store/shop")), [first, second]);
    // It does no harm to one that is there.
    lab.run(&["source", "init", "--new-home"]).exits(0);
    lab.run(&["source", "init"]).exits(0).says(&["nothing to do"]);

    // Moved, with all that is in it.
    fs::rename(lab.path("home"), lab.path("moved")).unwrap();
    let text = lab.text("handover.toml").replace("/home\"", "/moved\"");
    fs::write(lab.path("handover.toml"), text).unwrap();
    lab.run(&["source", "init"]).exits(0).says(&["nothing to do"]);
    lab.source(0);
    lab.sink(0);
}

#[test]
fn the_home_of_the_logs_is_missed_too() {
    let lab = Lab::new();
    lab.write("file", "x");
    fs::create_dir(lab.path("logs")).unwrap();
    fs::write(lab.path("logs/a.log"), "line\n").unwrap();
    lab.config("[source.logs]\nhome = \"{lab}/loghome\"\npaths = [\"{lab}/logs/*.log\"]", TREE, "");
    lab.init();
    lab.source(0);
    unmount(&lab, "loghome", true);
    let report = lab.source(14);
    assert!(report["generation"]["id"].is_string(), "the data was not handed over: {report:#}");
    lab.run(&["source", "init"]).exits(14).says(&["loghome", "mount its disk"]);
    mount(&lab, "loghome");
}

#[test]
fn a_sink_whose_home_is_not_mounted_makes_no_second_store_unless_somebody_says_so() {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.init().both();
    for mount_point in [true, false] {
        unmount(&lab, "sink", mount_point);
        for command in [&["sink", "init"][..], &["sink", "init", "--dry-run"], &["sink"], &["sink", "list"]] {
            lab.run(command).exits(14).says(&["mount it", "handover sink init --new-home"]);
        }
        mount(&lab, "sink");
    }
    lab.run(&["sink", "init"]).exits(0).says(&["nothing to do"]);
    unmount(&lab, "sink", true);
    lab.run(&["sink", "init", "--new-home"]).exits(0).says(&["is ready"]);
    lab.run(&["sink", "init"]).exits(0).says(&["nothing to do"]);
    lab.source(0);
    lab.sink(0);
    assert_eq!(names(&lab.path("sink/store/shop")).len(), 1);
    // The one that was believed lost is another store now.
    fs::remove_dir_all(lab.path("sink")).unwrap();
    mount(&lab, "sink");
    lab.run(&["sink"]).exits(14).says(&["mount it"]);
}
