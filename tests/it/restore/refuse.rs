//! What is refused, with what would be accepted; nothing is touched.

use std::{fs, os::unix::fs::symlink, path::Path};

use handover::manifest::Digest;

use super::{ELEMENTS, Host};
use crate::harness::{below, id_of, names};

#[track_caller]
fn refused(host: &Host, args: &[&str], words: &[&str]) {
    host.lab.run(&[&["restore"], args].concat()).exits(15).says(words);
    assert_eq!([host.read("shop/index.html"), host.read("shop.conf")], ["new"; 2]);
    assert!(host.left_over().is_empty(), "{:?}", host.left_over());
    assert_eq!(fs::read_dir(host.lab.path("home/restored")).unwrap().count(), 0);
}

/// A file of the tree in a generation in `restore/`.
fn stored(host: &Host, id: &str, name: &str) -> std::path::PathBuf {
    below(&host.lab.path("home/restore").join(id).join("data/www"), &host.app("shop")).join(name)
}

fn spoil(path: &Path, content: &str) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn without_a_terminal_nobody_agrees() {
    let host = Host::new();
    host.old_in_place_of_new();
    refused(&host, &[], &["nobody agreed", "--yes"]);
}

#[test]
fn an_empty_drop_point() {
    let host = Host::new();
    host.fill("new");
    host.init().collect();
    refused(&host, &["--yes"], &["no generation of data", "sink deliver", "--from"]);
}

#[test]
fn a_torn_newest_names_the_next_older_one() {
    let (host, newer, older) = Host::two();
    fs::remove_file(stored(&host, &newer, "deep/er/page")).unwrap();
    refused(&host, &["--yes"], &[&newer, "torn", "deep/er/page: it is missing", &older, "--allow-older"]);
    refused(&host, &["--yes", &newer], &["torn", &older]);
    host.restore(&["--yes", "--allow-older"]).exits(0);
    assert_eq!(host.read("shop/index.html"), "older");
}

#[test]
fn a_newest_with_wrong_content_is_found_out_before_anything_is_touched() {
    let (host, newer, older) = Host::two();
    spoil(&stored(&host, &newer, "index.html"), "NEWER");
    refused(&host, &["--yes"], &[&newer, "torn", "index.html", &older, "--allow-older"]);
    // What is not damaged can be had all the same.
    host.restore(&["--yes", "--element", "conf"]).exits(0);
    assert_eq!([host.read("shop.conf"), host.read("shop/index.html")], ["newer", "new"]);
}

#[test]
fn an_older_one_is_taken_where_that_is_allowed_and_the_tear_is_in_the_content() {
    let (host, newer, older) = Host::two();
    spoil(&stored(&host, &newer, "index.html"), "NEWER");
    let report = host.restore(&["--yes", "--allow-older"]).exits(0).json();
    assert_eq!(report["generation"]["id"], older.as_str());
    assert_eq!(report["candidates"][0]["condition"], "torn", "{report:#}");
    assert_eq!([host.read("shop/index.html"), host.read("shop.conf")], ["older"; 2]);
}

#[test]
fn a_generation_that_was_never_finished_is_torn_and_not_overlooked() {
    let (host, newer, older) = Host::two();
    fs::remove_file(host.lab.path("home/restore").join(&newer).join("generation.toml")).unwrap();
    refused(&host, &["--yes"], &[&newer, "generation.toml is missing", &older]);
    let list = host.lab.run(&["restore", "list", "--json"]).exits(0).json();
    assert_eq!(list["candidates"][0]["condition"], "torn");
    assert_eq!(list["candidates"][1]["condition"], "unverified");
    let list = host.lab.run(&["restore", "list", "--verify", "--json"]).exits(13).json();
    assert_eq!(list["candidates"][1]["condition"], "whole");
}

#[test]
fn an_element_that_had_failed_names_the_newest_that_has_it() {
    let host = Host::new();
    host.fill("old");
    let good = host.init().collect();
    fs::remove_file(host.app("shop.conf")).unwrap();
    let bad = id_of(&host.lab.source(3));
    host.fill("new");
    host.deliver(&good);
    host.deliver(&bad);
    refused(&host, &["--yes"], &["conf", "had failed", &good, "--allow-partial"]);
    host.restore(&["--yes", "--allow-partial"]).exits(0);
    assert_eq!([host.read("shop/index.html"), host.read("shop.conf")], ["old", "new"]);
}

#[test]
fn a_seal_that_the_ledger_does_not_know_must_be_given() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    fs::write(host.lab.path("state/source/ledger"), "").unwrap();
    let seal = Digest::of(&fs::read(host.waiting(&id).join("generation.toml")).unwrap()).to_string();
    refused(&host, &["--yes"], &["ledger", &seal, "--trust"]);
    let other = "0".repeat(64);
    refused(&host, &["--yes", "--trust", &other], &["ledger"]);
    host.restore(&["--yes", "--trust", &seal]).exits(0);
    assert_eq!(host.read("shop/index.html"), "old");
}

#[test]
fn a_generation_that_was_forged_under_an_id_of_ours_is_refused() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    let file = host.lab.path("home/restore").join(&id).join("generation.toml");
    let text = fs::read_to_string(&file).unwrap().replace("host = \"", "host = \"x");
    spoil(&file, &text);
    refused(&host, &["--yes"], &["another seal", "it was changed"]);
}

#[test]
fn a_generation_of_another_source_must_be_asked_for() {
    let host = Host::new();
    host.old_in_place_of_new();
    let text = fs::read_to_string(host.lab.path("handover.toml")).unwrap();
    fs::write(host.lab.path("handover.toml"), text.replace("\"shop\"\nhome", "\"market\"\nhome")).unwrap();
    refused(&host, &["--yes"], &["is of shop", "market", "--as shop"]);
    host.restore(&["--yes", "--as", "shop"]).exits(0);
    assert_eq!(host.read("shop/index.html"), "old");
}

#[test]
fn an_element_that_is_not_in_the_configuration_has_no_place() {
    let host = Host::new();
    host.old_in_place_of_new();
    host.config(&ELEMENTS.replace("name = \"conf\"", "name = \"other\""), "");
    refused(&host, &["--yes"], &["no element conf", "[[source.element]]", "--element", "--to DIR"]);
    host.config(&ELEMENTS.replace("{lab}/app/shop\"", "{lab}/app/elsewhere\""), "");
    refused(&host, &["--yes"], &["in no path of the configuration", "--to DIR"]);
}

#[test]
fn a_link_that_was_planted_in_the_drop_point_is_not_followed() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    let place = host.lab.path("home/restore");
    fs::rename(place.join(&id), host.lab.path("aside")).unwrap();
    symlink(host.lab.path("aside"), place.join(&id)).unwrap();
    refused(&host, &["--yes"], &["no generation of data"]);
    // Nor one within a generation.
    fs::remove_file(place.join(&id)).unwrap();
    fs::rename(host.lab.path("aside"), place.join(&id)).unwrap();
    let file = stored(&host, &id, "index.html");
    fs::rename(&file, host.lab.path("index.html")).unwrap();
    symlink(host.lab.path("index.html"), &file).unwrap();
    refused(&host, &["--yes"], &["torn", "index.html"]);
}

#[test]
fn logs_are_no_data() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    let file = host.lab.path("home/restore").join(&id).join("generation.toml");
    let text = fs::read_to_string(&file).unwrap().replace("channel = \"data\"", "channel = \"logs\"");
    spoil(&file, &text);
    refused(&host, &["--yes"], &["no generation of data"]);
}

#[test]
fn another_run_holds_the_lock() {
    let host = Host::new();
    host.old_in_place_of_new();
    host.lab.fake(
        "service",
        "[ \"$2\" != stop ] || { touch {lab}/in; while [ -e {lab}/in ]; do sleep 0.05; done; }",
    );
    let mut child = host.lab.handover(&["restore", "--yes", "--json"]).spawn().unwrap();
    while !host.lab.path("in").exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    host.restore(&["--yes"]).exits(11);
    host.lab.run(&["source"]).exits(11).says(&["handover restore"]);
    fs::remove_file(host.lab.path("in")).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(names(&host.lab.path("home/restore")).is_empty());
}

#[test]
fn a_generation_that_is_not_known_here_is_not_written_where_others_can_enter() {
    let host = Host::new();
    host.fill("old");
    let id = host.init().collect();
    fs::remove_file(host.lab.path("state/source/ledger")).unwrap();
    let (open, own) = (host.lab.path("open"), host.lab.path("own"));
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let from = host.lab.path("home/transport-outgoing").join(&id);
    let restore = |to: &Path, more: &[&str]| {
        let args = ["restore", "--from", from.to_str().unwrap(), "--to", to.to_str().unwrap()];
        host.lab.run(&[&args, more].concat())
    };
    restore(&open, &[]).exits(15).says(&["others can enter", "--trust"]);
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
    restore(&own, &[]).exits(0);
    let seal = Digest::of(&fs::read(from.join("generation.toml")).unwrap()).to_string();
    restore(&open, &["--trust", &seal]).exits(0);
}
