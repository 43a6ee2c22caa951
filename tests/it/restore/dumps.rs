//! Dumps: loaded beside the live one, probed, promoted; and the drill, which never promotes.
//!
//! The "database" is a folder for each of its databases; `good` in its data is what the probe wants.

use std::{fs, thread, time::Duration};

use super::{Host, number};
use crate::harness::{Lab, findings, names};

fn db(steps: &str) -> String {
    format!(
        r#"
[[source.element]]
name = "db"
kind = "dump"
command = ["cat", "{{lab}}/databases/live/data"]
file = "db.dump"
target = "live"
{steps}

[[source.element]]
name = "www"
kind = "tree"
paths = ["{{lab}}/app/shop"]
services = ["tomcat"]
"#
    )
}

pub(super) const STEPS: &str = r#"
prepare = ["sh", "-c", "echo prepare $1 >>{lab}/log; mkdir {lab}/databases/$1", "-", "{target}"]
restore = ["sh", "-c", "echo restore $1 >>{lab}/log; cat >{lab}/databases/$1/data", "-", "{target}"]
probe = ["sh", "-c", "echo probe $1 >>{lab}/log; grep -q good {lab}/databases/$1/data", "-", "{target}"]
promote = ["sh", "-c", "set -e; echo promote $1 >>{lab}/log; mv {lab}/databases/live {lab}/databases/before; mv {lab}/databases/$1 {lab}/databases/live", "-", "{target}"]
discard = ["sh", "-c", "echo discard $1 >>{lab}/log; rm -rf {lab}/databases/$1", "-", "{target}"]
"#;

/// A generation of `good old` in `restore/`, and `good new` is live.
pub(super) fn host(steps: &str, content: &str) -> Host {
    let host = Host::with(Lab::new(), &db(steps), "");
    fs::create_dir_all(host.lab.path("databases/live")).unwrap();
    fs::write(host.lab.path("databases/live/data"), content).unwrap();
    host.fill("old");
    let id = host.init().collect();
    host.deliver(&id);
    fs::write(host.lab.path("databases/live/data"), "good new").unwrap();
    host.fill("new");
    host
}

fn databases(host: &Host) -> Vec<String> {
    names(&host.lab.path("databases"))
}

/// What the commands were, with the scratch name as `scratch`.
fn log(host: &Host) -> Vec<String> {
    let log = fs::read_to_string(host.lab.path("log")).unwrap_or_default();
    log.lines()
        .map(|line| {
            let (step, target) = line.split_once(' ').unwrap();
            let target = if target.starts_with("live_handover_") { "scratch" } else { target };
            format!("{step} {target}")
        })
        .collect()
}

#[test]
fn the_hint_of_undo_says_that_promoted_dumps_stay() {
    let host = host(STEPS, "good old");
    let ran = host.lab.run(&["restore", "--yes"]).exits(0);
    assert!(ran.err.contains("`handover restore undo` puts the files back; dumps stay"), "{ran:?}");
    host.lab.run(&["restore", "undo", "--yes"]).exits(0);
    assert_eq!([host.read("shop/index.html"), host.lab.text("databases/live/data")], ["new", "good old"]);
}

#[test]
fn a_dump_is_loaded_and_probed_beside_the_live_one_before_it_takes_its_place() {
    let host = host(STEPS, "good old");
    let report = host.restore(&["--yes"]).exits(0).json();
    assert_eq!((number(&report, "promoted"), number(&report, "exchanged")), (1, 1), "{report:#}");
    assert_eq!(log(&host), ["prepare scratch", "restore scratch", "probe scratch", "promote scratch"]);
    assert_eq!(host.lab.text("databases/live/data"), "good old");
    assert_eq!(
        (host.lab.text("databases/before/data"), host.read("shop/index.html")),
        ("good new".into(), "old".into())
    );
}

#[test]
fn a_dump_that_fails_its_probe_is_discarded_and_all_is_as_it_was() {
    let host = host(STEPS, "broken");
    let report = host.restore(&["--yes"]).exits(3).json();
    assert!(findings(&report, "failed")[0].contains("probe failed"), "{report:#}");
    assert_eq!(log(&host), ["prepare scratch", "restore scratch", "probe scratch", "discard scratch"]);
    assert_eq!(
        (databases(&host), host.lab.text("databases/live/data")),
        (vec!["live".into()], "good new".into())
    );
    assert_eq!(host.read("shop/index.html"), "new");
    assert!(host.left_over().is_empty());
}

#[test]
fn when_the_promotion_fails_the_files_are_put_back() {
    let host = host(&STEPS.replace("set -e; echo promote $1 >>{lab}/log;", "exit 1;"), "good old");
    host.restore(&["--yes"]).exits(3);
    assert_eq!(
        (host.lab.text("databases/live/data"), host.read("shop/index.html")),
        ("good new".into(), "new".into())
    );
    assert!(host.left_over().is_empty());
}

#[test]
fn a_step_that_would_touch_the_live_one_is_refused_before_anything_runs() {
    for step in ["prepare", "restore", "probe", "discard"] {
        let at = STEPS.lines().find(|line| line.starts_with(step)).unwrap();
        let host = host(&STEPS.replace(at, &at.replace("\"{target}\"", "\"live\"")), "good old");
        host.restore(&["--yes"]).exits(10).says(&[step, "{target}"]);
        host.lab
            .run(&["restore", "drill", "--from", host.lab.path("home/restore").to_str().unwrap()])
            .exits(3)
            .says(&[step, "{target}", "live one"]);
        assert!(log(&host).is_empty());
    }
}

#[test]
fn a_drill_runs_the_probes_beside_the_live_one_and_never_promotes() {
    let host = host(STEPS, "good old");
    let from = host.lab.path("home/restore");
    let drill = ["restore", "drill", "--json", "--from", from.to_str().unwrap()];
    let report = host.lab.run(&drill).exits(0).json();
    assert_eq!(
        (report["ok"].as_bool(), report["elements"].as_array().unwrap().len()),
        (Some(true), 2),
        "{report:#}"
    );
    assert!(report["age_seconds"].as_i64().unwrap() >= 0);
    assert_eq!(log(&host), ["prepare scratch", "restore scratch", "probe scratch", "discard scratch"]);
    assert_eq!(
        (databases(&host), host.lab.text("databases/live/data")),
        (vec!["live".into()], "good new".into())
    );
    assert_eq!(fs::read_dir(host.lab.path("home/restored")).unwrap().count(), 0);
    assert!(host.lab.text("home/gate/history").contains("\"drilled\""));
    // The next generation carries it to the sink.
    let next = host.collect();
    let text = fs::read_to_string(host.waiting(&next).join("generation.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["drill"]["ok"].as_bool(), Some(true));
    assert_eq!(table["drill"]["id"].as_str(), report["generation"].as_str());
}

#[test]
fn a_dump_with_the_right_hashes_that_does_not_work_is_green_when_verified_and_red_when_drilled() {
    let host = host(STEPS, "broken");
    let from = host.lab.path("home/restore");
    let list = host.lab.run(&["restore", "list", "--verify", "--json"]).exits(0).json();
    assert_eq!(list["candidates"][0]["condition"], "whole");
    let report =
        host.lab.run(&["restore", "drill", "--json", "--from", from.to_str().unwrap()]).exits(3).json();
    assert_eq!(report["ok"], false, "{report:#}");
    assert!(findings(&report, "drill")[0].contains("db: db: probe failed"), "{report:#}");
    assert_eq!(databases(&host), ["live"]);
    let next = host.collect();
    assert!(fs::read_to_string(host.waiting(&next).join("generation.toml")).unwrap().contains("ok = false"));
}

#[test]
fn a_drill_of_what_was_not_made_here_is_refused() {
    let host = host(STEPS, "good old");
    fs::write(host.lab.path("state/source/ledger"), "").unwrap();
    let from = host.lab.path("home/restore");
    host.lab.run(&["restore", "drill", "--from", from.to_str().unwrap()]).exits(3).says(&["ledger"]);
    assert!(log(&host).is_empty());
}

/// A restore that was killed while it promoted; the promotion did nothing. Gives the id.
pub(super) fn cut_promotion() -> (Host, String) {
    let waits = "promote = [\"sh\", \"-c\", \"[ ! -e {lab}/cut ] || { touch {lab}/in; while [ -e {lab}/in ]; do sleep 0.05; done; exit 1; }; ";
    let host = host(&STEPS.replace("promote = [\"sh\", \"-c\", \"", waits), "good old");
    let id = names(&host.lab.path("home/restore")).remove(0);
    fs::write(host.lab.path("cut"), "").unwrap();
    let mut child = host.lab.handover(&["restore", "--yes", "--json"]).spawn().unwrap();
    while !host.lab.path("in").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it promoted");
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(host.lab.path("cut")).unwrap();
    fs::remove_file(host.lab.path("in")).unwrap();
    (host, id)
}

#[test]
fn after_a_cut_promotion_a_database_that_is_down_does_not_count_as_promoted() {
    let (host, id) = cut_promotion();
    fs::rename(host.lab.path("databases"), host.lab.path("down")).unwrap();
    let ran = host.lab.run(&["restore", "--yes", &id]).exits(10);
    ran.says(&["db: neither its scratch target", "start the database, then `handover restore`"])
        .says(&[&format!("finishing the restore of {id}, which was cut, failed"), "still stopped: tomcat"]);
    assert!(host.lab.path("state/restore/journal.json").exists() && host.lab.path("stopped").exists());
    fs::rename(host.lab.path("down"), host.lab.path("databases")).unwrap();
    host.restore(&["--yes", &id]).exits(0);
    assert_eq!(
        (host.lab.text("databases/live/data"), host.read("shop/index.html")),
        ("good old".into(), "old".into())
    );
    assert!(!host.lab.path("stopped").exists());
}

#[test]
fn a_run_that_finishes_what_was_cut_says_that_what_was_asked_for_was_not_begun() {
    let (host, _) = cut_promotion();
    host.lab.run(&["restore", "--yes"]).exits(15).says(&["it was finished", "was not begun", "run it again"]);
    assert_eq!(host.lab.text("databases/live/data"), "good old");
}
