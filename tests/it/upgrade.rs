//! What an earlier version left behind is read by this one, and the next run goes on from it.
//!
//! `upgrade/format-1.tar.zst` holds the homes and the state of a source and a sink with two generations stored, one of them
//! pinned, and a third that waits; lab/fixture made it when format 1 was new. It is never made again.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::harness::{Lab, Ran, below, names};

/// Where the world was when it was made: this stands in the paths that were collected.
const MADE_AT: &str = "/var/tmp/handover-fixture";
/// An hour after the third generation was made.
const THEN: &str = "2026-11-23T12:45:00Z";

const CONFIG: &str = r#"
state = "{lab}/state"
[source]
name = "shop"
home = "{lab}/home"
keep = 2
reserve = "0B"
[[source.element]]
name = "www"
kind = "tree"
paths = ["{lab}/tree"]
[source.logs]
home = "{lab}/logs-home"
paths = ["{lab}/log/*.log*"]
[sink]
home = "{lab}/sink"
reserve = "0B"
anomaly = "off"
[[sink.source]]
name = "shop"
path = "{lab}/home"
[logsink]
home = "{lab}/logs"
reserve = "0B"
[[logsink.source]]
name = "shop"
path = "{lab}/logs-home"
"#;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/upgrade").join(name)
}

/// The world as it was left, in the folder of a lab.
fn world() -> Lab {
    let lab = Lab::new();
    lab.config_text(CONFIG);
    let archive = fixture("format-1.tar.zst");
    let options = [
        "--extract",
        "--zstd",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "--numeric-owner",
        "--same-owner",
    ];
    let mut tar = Command::new("tar");
    tar.args(options)
        .arg("--same-permissions")
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(lab.path(""));
    let unpacked = tar.output().unwrap();
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    lab
}

/// Runs handover on the day on which the world was left.
fn run(lab: &Lab, args: &[&str]) -> Ran {
    Ran::new(&lab.handover(args).env("HANDOVER_CLOCK", THEN).output().unwrap())
}

/// A tree as text.
fn described(folder: &Path) -> String {
    let described = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/describe"))
        .arg(folder)
        .output()
        .unwrap();
    assert!(described.status.success(), "{}", String::from_utf8_lossy(&described.stderr));
    String::from_utf8_lossy(&described.stdout).into_owned()
}

#[test]
fn generations_of_format_1_are_listed_verified_and_explained() {
    let lab = world();
    let listed = run(&lab, &["sink", "list", "--json"]).exits(0).json();
    let generations = listed.as_array().unwrap_or_else(|| panic!("{listed:#}"));
    assert_eq!(generations.len(), 2, "{listed:#}");
    assert_eq!(generations.iter().filter(|g| g["pinned"] == "pinned").count(), 1, "{listed:#}");
    run(&lab, &["sink", "verify"]).exits(0);
    run(&lab, &["logsink", "verify"]).exits(0);
    run(&lab, &["sink", "status"]).exits(0).says(&["shop"]);
    run(&lab, &["explain", "shop"]).exits(0).says(&["shop"]);
    let log = run(&lab, &["logsink", "cat", "shop", "--path", &format!("{MADE_AT}/log/app.log")]).exits(0);
    assert_eq!(log.out, "one\ntwo\nthree\n");
}

#[test]
fn a_generation_of_format_1_comes_back_as_it_was_collected() {
    let lab = world();
    let stored = names(&lab.path("sink/store/shop"));
    for (store, id) in [("sink/store/shop", &stored[1]), ("home/store", &stored[1])] {
        let to = lab.path(format!("to-{}", store.len()));
        let from = lab.path(store).join(id);
        let args = ["restore", "--from", from.to_str().unwrap(), "--to", to.to_str().unwrap()];
        run(&lab, &args).exits(0);
        let expected = std::fs::read(fixture("format-1.expected")).unwrap();
        let tree = below(&to, Path::new(MADE_AT)).join("tree");
        assert_eq!(described(&tree), String::from_utf8_lossy(&expected), "{store}");
        let packed = below(&to, Path::new(MADE_AT)).join("pack/file");
        assert_eq!(std::fs::read_to_string(packed).unwrap(), "packed\n");
        assert_eq!(std::fs::read_to_string(to.join("db/db.sql")).unwrap(), "line 1\nline 2\nline 3\n");
    }
}

#[test]
fn the_next_runs_go_on_from_what_format_1_left() {
    let lab = world();
    let [pinned, waiting] = [&names(&lab.path("sink/store/shop"))[1], &lab.waiting()[0]].map(String::clone);
    lab.write("numbers", (1..=20000).map(|n| format!("{n}\n")).collect::<String>());
    // The code of a run that is done while an earlier generation still waits.
    run(&lab, &["source", "run"]).exits(4);
    let report = run(&lab, &["sink", "run", "--json"]).exits(0).json();
    let stored = report["sources"][0]["stored"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!(stored.len(), 2, "{report:#}");
    assert_eq!(stored[0]["id"].as_str(), Some(waiting.as_str()), "{report:#}");
    assert_eq!(
        stored[1]["fetched"],
        Value::from(0),
        "its one file is known from the generation of the earlier version"
    );
    let kept = names(&lab.path("sink/store/shop"));
    assert!(kept.len() == 4 && kept.contains(&pinned), "{kept:?}");
    assert_eq!(names(&lab.path("home/store")).len(), 2, "the source prunes what the earlier version stored");
}
