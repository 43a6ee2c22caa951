//! What was asked for and is nowhere, twice there, or cannot be proven: said before anything is touched.

use std::{fs, path::Path};

use super::{ELEMENTS, Host, dumps, places::tar};
use crate::harness::{Lab, Ran, below, names};

fn to(host: &Host, name: &str, args: &[&str]) -> Ran {
    let to = host.lab.path(name);
    host.lab.run(&[&["restore", "--to", to.to_str().unwrap()], args].concat())
}

#[track_caller]
fn is_untouched(host: &Host) {
    assert_eq!([host.read("shop/index.html"), host.read("shop.conf")], ["new"; 2]);
    assert!(host.left_over().is_empty(), "{:?}", host.left_over());
    assert!(names(&host.lab.path("home/restored")).is_empty());
}

#[test]
fn a_path_that_is_in_nothing_is_refused_and_what_is_near_is_named() {
    let host = Host::new();
    host.old_in_place_of_new();
    let path = |name: &str| host.app(name).to_str().unwrap().to_owned();
    let (typo, good) = (path("shop/deep/err"), path("shop/index.html"));
    let words: &[&str] = &["nothing at", "shop/deep/err", "near it are: ", "shop/deep/er"];
    host.lab.run(&["restore", "--yes", "--path", &typo]).exits(15).says(words);
    host.lab.run(&["restore", "plan", "--path", &typo]).exits(15).says(words);
    // One that is there does not hide another that is not.
    host.lab.run(&["restore", "--yes", "--path", &good, "--path", &typo]).exits(15).says(words);
    to(&host, "out", &["--path", &good, "--path", &typo]).exits(15).says(words);
    assert!(!host.lab.path("out").exists());
    let elsewhere = path("shpo.conf");
    let ran = host.lab.run(&["restore", "--yes", "--path", &good, "--path", &elsewhere]).exits(15);
    ran.says(&["shpo.conf is in no path of the configuration", "its paths are: ", "shop.conf"]);
    is_untouched(&host);
    host.lab.run(&["restore", "--yes", "--path", &good]).exits(0);
    assert_eq!([host.read("shop/index.html"), host.read("shop/deep/er/page")], ["old", "new"]);
}

#[test]
fn a_path_that_is_in_no_archive_is_refused_and_one_that_is_comes_back() {
    let tree = "kind = \"tree\"\npaths = [\"{lab}/app/shop\"]";
    let host = Host::with(Lab::new(), &ELEMENTS.replace(tree, &tree.replace("tree", "archive")), "");
    let id = host.old_in_place_of_new();
    let (typo, good) = (host.app("shop/indx.html"), host.app("shop/index.html"));
    let (typo, good) = (typo.to_str().unwrap(), good.to_str().unwrap());
    let words: &[&str] = &["nothing at", "near it are: ", "shop/index.html"];
    host.lab.run(&["restore", "--yes", "--path", typo]).exits(15).says(words);
    to(&host, "out", &["--path", typo]).exits(15).says(words);
    tar(&host, &["-C", "home/transport-outgoing", "-cf", "one.tar", &id]);
    let one = host.lab.path("one.tar");
    to(&host, "out", &["--from", one.to_str().unwrap(), "--path", good]).exits(0);
    is_untouched(&host);
    host.lab.run(&["restore", "--yes", "--path", good]).exits(0);
    assert_eq!([host.read("shop/index.html"), host.read("shop/deep/er/page")], ["old", "new"]);
}

#[test]
fn a_place_that_is_not_there_is_a_mistake_of_the_command_line() {
    let host = Host::new();
    host.old_in_place_of_new();
    for args in [
        ["restore", "--yes", "--from", "/nowhere"].as_slice(),
        &["restore", "list", "--from", "/nowhere"],
        &["restore", "--to", "/tmp/never", "--from", "/nowhere"],
    ] {
        host.lab.run(args).exits(2).says(&["--from /nowhere: there is no such file or folder"]);
    }
    is_untouched(&host);
}

#[test]
fn an_element_that_is_not_there_is_no_drill() {
    let host = dumps::host(dumps::STEPS, "good old");
    let from = host.lab.path("home/restore");
    let drill = |args: &[&str]| {
        host.lab.run(&[&["restore", "drill", "--from", from.to_str().unwrap()], args].concat())
    };
    let id = names(&from).remove(0);
    drill(&["--element", "nosuch"]).exits(15).says(&["has no element nosuch", "it has: db, www"]);
    drill(&["--element", "www", "--element", "nosuch", &id]).exits(15).says(&["no element nosuch"]);
    assert!(!host.lab.path("state/restore/drill.toml").exists() && !host.lab.path("log").exists());
    let life = host.lab.run(&["explain", "shop", &id]);
    assert!(!life.out.contains("drilled"), "{life:?}");
    host.lab.run(&["restore", "--yes", "--element", "nosuch"]).exits(15).says(&["it has: db, www"]);
    to(&host, "out", &["--element", "nosuch"]).exits(15).says(&["it has: db, www"]);
    assert!(!host.lab.path("out").exists());
}

#[test]
fn a_dry_run_of_a_drill_says_where_and_by_what_and_does_nothing() {
    let host = dumps::host(dumps::STEPS, "good old");
    let from = host.lab.path("home/restore");
    let args = ["restore", "drill", "--dry-run", "--from", from.to_str().unwrap()];
    host.lab.run(&args).exits(0).says(&[
        "db (dump): 1 file, 8 B to ",
        "www (tree): ",
        "home/restored/.restoring-RANDOM/www",
        "prepare: sh -c",
        "live_handover_RANDOM",
        "discard: sh -c",
        "nothing was done",
    ]);
    let report = host.lab.run(&[&args[..], &["--json"]].concat()).exits(0).json();
    assert_eq!(report["plan"][0]["commands"].as_array().unwrap().len(), 4, "{report:#}");
    assert_eq!((&report["dry_run"], &report["tried"]), (&true.into(), &false.into()));
    let steps = report["plan"][0]["commands"].to_string();
    assert!(!steps.contains("promote"), "{steps}");
    assert!(!host.lab.path("log").exists() && !host.lab.path("state/restore/drill.toml").exists());
    assert!(names(&host.lab.path("home/restored")).is_empty());
}

#[test]
fn a_drill_that_could_not_begin_is_not_shown_as_one_that_found_something() {
    let host = dumps::host(
        &dumps::STEPS.replace("mkdir {lab}/databases/$1\", \"-\", \"{target}\"", "true\""),
        "good",
    );
    let from = host.lab.path("home/restore");
    let drill = ["restore", "drill", "--from", from.to_str().unwrap()];
    host.lab.run(&drill).exits(3).says(&["`prepare` of db lacks {target}"]);
    let status = host.lab.run(&["source", "status"]);
    assert!(status.out.contains("could not be tried: `prepare` of db lacks {target}"), "{status:?}");
    assert!(!status.out.contains("COULD NOT be restored"), "{status:?}");
    host.lab.run(&["source", "status", "--nagios"]).exits(2).says(&["the last drill could not begin"]);
    assert!(host.lab.text("state/restore/drill.toml").contains("ok = false"));
}

/// A file of the tree in a copy of a generation.
fn spoil(host: &Host, folder: &Path) {
    let file = below(&folder.join("data/www"), &host.app("shop")).join("index.html");
    fs::remove_file(&file).unwrap();
    fs::write(file, "OLD").unwrap();
}

#[test]
fn a_list_that_verifies_proves_tars_too_and_fails_where_something_is_damaged() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    let place = host.lab.path("home/restore");
    let temporary = host.lab.path("temporary");
    fs::create_dir(&temporary).unwrap();
    let list = |code: i32| {
        let mut command = host.lab.handover(&["restore", "list", "--verify", "--json"]);
        Ran::new(&command.env("TMPDIR", &temporary).output().unwrap()).exits(code).json()
    };
    assert_eq!(list(0)["candidates"][0]["condition"], "whole");
    tar(&host, &["-C", "home/restore", "-czf", "whole.tar.gz", &id]);
    spoil(&host, &place.join(&id));
    tar(&host, &["-C", "home/restore", "-czf", "torn.tar.gz", &id]);
    fs::remove_dir_all(place.join(&id)).unwrap();
    let only = |name: &str| {
        fs::copy(host.lab.path(name), place.join("a.tar.gz")).unwrap();
    };
    only("whole.tar.gz");
    assert_eq!(list(0)["candidates"][0]["condition"], "whole");
    only("torn.tar.gz");
    assert_eq!(list(13)["candidates"][0]["condition"], "torn");
    host.lab.run(&["restore", "list", "--verify"]).exits(13).says(&["a.tar.gz", "is torn", "index.html"]);
    // Without that word it is a look, which says so.
    let look = host.lab.run(&["restore", "list", "--json"]).exits(0).json();
    assert_eq!(look["candidates"][0]["condition"], "unread");
    // One that is cut where it begins is known by its name alone, and not passed over.
    fs::remove_file(place.join("a.tar.gz")).unwrap();
    fs::write(place.join(format!("{id}.tar.gz")), &fs::read(host.lab.path("whole.tar.gz")).unwrap()[..100])
        .unwrap();
    assert_eq!(list(13)["candidates"][0]["condition"], "torn");
    assert!(names(&temporary).is_empty(), "what was unpacked to be proven stays");
}

#[test]
fn a_tar_for_which_there_is_no_room_is_said_not_to_be_proven() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    let place = host.lab.path("home/restore");
    let hole = fs::File::create(place.join(&id).join("data/www/hole")).unwrap();
    hole.set_len(1 << 43).unwrap();
    drop(hole);
    tar(&host, &["-C", "home/restore", "-Scf", "home/restore/a.tar", &id]);
    fs::remove_dir_all(place.join(&id)).unwrap();
    let ran = host.lab.run(&["restore", "list", "--verify"]).exits(14);
    ran.says(&["a.tar", "is NOT proven: not enough room", "TMPDIR"]);
}

#[test]
fn of_the_same_generation_twice_the_whole_one_is_taken_and_the_torn_one_named() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    let place = host.lab.path("home/restore");
    tar(&host, &["-C", "home/restore", "-cf", "home/restore/a.tar", &id]);
    fs::remove_file(below(&place.join(&id).join("data/www"), &host.app("shop")).join("index.html")).unwrap();
    let torn = place.join(&id);
    let words: &[&str] = &[torn.to_str().unwrap(), "is torn", "a.tar", "is taken instead", "remove"];
    to(&host, "out", &[&id]).exits(0).says(words);
    host.lab.run(&["restore", "--yes", &id]).exits(0).says(words);
    assert_eq!(host.read("shop/index.html"), "old");
    // The tear is in the content: found only when it is read.
    let host = Host::new();
    let id = host.old_in_place_of_new();
    let place = host.lab.path("home/restore");
    tar(&host, &["-C", "home/restore", "-cf", "home/restore/a.tar", &id]);
    spoil(&host, &place.join(&id));
    host.lab.run(&["restore", "--yes"]).exits(0).says(&["is torn", "a.tar", "is taken instead"]);
    assert_eq!(host.read("shop/index.html"), "old");
}

#[test]
fn what_is_torn_everywhere_is_refused_with_its_place() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    let place = host.lab.path("home/restore");
    spoil(&host, &place.join(&id));
    tar(&host, &["-C", "home/restore", "-cf", "home/restore/a.tar", &id]);
    let at = place.join(&id);
    let ran = host.lab.run(&["restore", "--yes", &id]).exits(15);
    ran.says(&[at.to_str().unwrap(), "is torn", "bring another copy"]);
    is_untouched(&host);
}

#[test]
fn a_look_at_a_manifest_of_holes_reads_none_of_it() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    let folder = host.lab.path("home/restore").join(&id);
    fs::remove_file(folder.join("manifest.mtree")).unwrap();
    fs::File::create(folder.join("manifest.mtree")).unwrap().set_len(3 << 30).unwrap();
    tar(&host, &["-C", "home/restore", "-Scf", "holes.tar", &id]);
    let holes = host.lab.path("holes.tar");
    let begun = std::time::Instant::now();
    let ran = to(&host, "out", &["--from", holes.to_str().unwrap(), "--dry-run"]).exits(15);
    ran.says(&["manifest.mtree", "made of holes"]);
    // In a folder as well, where it does not fit.
    fs::File::create(folder.join("manifest.mtree")).unwrap().set_len(1 << 43).unwrap();
    to(&host, "out", &["--dry-run"]).exits(15).says(&["not enough room", "a look at manifest.mtree"]);
    host.lab.run(&["restore", "plan"]).exits(15).says(&["not enough room"]);
    assert!(begun.elapsed().as_secs() < 20, "it was read: {:?}", begun.elapsed());
}

#[test]
fn what_would_be_done_and_what_was_done_is_told_apart() {
    let host = Host::new();
    host.old_in_place_of_new();
    host.restore(&["--yes"]).exits(0);
    host.lab
        .run(&["restore", "undo", "--dry-run"])
        .exits(0)
        .says(&["this would be put back; nothing was done"]);
    host.lab.run(&["restore", "undo", "--yes"]).exits(0).says(&["this was put back", "again takes it back"]);
    host.lab
        .run(&["restore", "clean", "--dry-run"])
        .exits(0)
        .says(&["this would be removed; nothing was done"]);
    host.lab.run(&["restore", "clean", "--yes"]).exits(0).says(&["this was removed"]);
    host.lab.run(&["restore", "clean", "--dry-run"]).exits(0).says(&["there is nothing to remove"]);
}
