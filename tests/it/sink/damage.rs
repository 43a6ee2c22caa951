//! Damage: on the way, at the Handover Point, in the store.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
};

use crate::harness::{Lab, findings, id_of, inode, names, settle};

/// Turns one bit, leaving size and times of the folder alone.
fn flip(path: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 0).unwrap();
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("file", "content of the file");
    lab.write("other", "content of the other");
    settle();
    lab.init();
    lab
}

#[test]
fn a_file_damaged_at_the_handover_point_is_rejected_read_afresh_and_then_taken() {
    let lab = lab();
    let first = id_of(&lab.source(0));
    flip(&lab.stored(format!("home/transport-outgoing/{first}"), "file"));
    let report = lab.sink(13);
    let said = findings(&report, "quarantined").concat();
    for word in [first.as_str(), "failed its check 2 times", "quarantine list", "quarantine drop shop"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(names(&lab.path("sink/store/shop")), [""; 0]);
    lab.run(&["sink", "quarantine", "list"]).exits(0).says(&["shop", &first, "tree/file"]);
    let aside = lab.run(&["sink", "quarantine", "list", "--json"]).json();
    assert_eq!(aside[0]["id"], first.as_str());
    lab.run(&["sink", "status"]).exits(0).says(&["quarantine"]);
    assert_eq!(lab.run(&["source", "status", "--json"]).json()["waiting"][0]["state"], "rejected");
    // Again: it is not fetched twice over, and it is not well before the source has collected afresh.
    let report = lab.sink(13);
    assert!(findings(&report, "quarantined").concat().contains("`handover source`"), "{report:#}");

    // The original never changed; only what the sink found damaged is read again.
    let report = lab.source(13);
    assert!(findings(&report, "verification").concat().contains("1 of its files are damaged here"));
    assert_eq!(report["generation"]["bytes_read"], "content of the file".len());
    let second = id_of(&report);
    let report = lab.sink(0);
    assert_eq!(report["sources"][0]["accepted"], serde_json::json!([second]));
    assert_eq!(fs::read(lab.restore(0).join("file")).unwrap(), b"content of the file");
    assert_eq!(lab.waiting(), [""; 0], "what was rejected is done with");
    // Nobody sits at a terminal, so nobody is asked, and nothing goes.
    let drop = ["sink", "quarantine", "drop", "shop"];
    lab.run(&drop).exits(2).says(&["nobody agreed", "--yes", &first]);
    lab.run(&[&drop[..], &["--dry-run"]].concat()).exits(0).says(&["would be removed"]);
    assert_eq!(names(&lab.path("sink/quarantine/shop")), [first.as_str()]);
    let dropped = lab.run(&[&drop[..], &["--yes", "--json"]].concat()).exits(0).json();
    assert_eq!((&dropped[0]["id"], &dropped[0]["action"]), (&first.as_str().into(), &"drop".into()));
    assert_eq!(lab.run(&["sink", "quarantine", "list", "--json"]).json(), serde_json::json!([]));
    lab.source(0);
    lab.sink(0);
}

#[test]
fn what_was_put_aside_is_fetched_again_when_asked_for() {
    let lab = lab();
    let first = id_of(&lab.source(0));
    let stored = lab.stored(format!("home/transport-outgoing/{first}"), "file");
    flip(&stored);
    lab.sink(13);
    flip(&stored);
    // As if the rejection had been lost: the source offers it again, and is told once more.
    let rejection = lab.path("home/transport-outgoing").join(&first).join("rejected.json");
    fs::remove_file(&rejection).unwrap();
    let report = lab.sink(13);
    assert!(findings(&report, "quarantined").concat().contains("`quarantine retry shop`"), "{report:#}");
    fs::remove_file(&rejection).unwrap();
    lab.run(&["sink", "quarantine", "retry", "shop", "--dry-run"]).exits(0).says(&["would be taken back"]);
    assert_eq!(names(&lab.path("sink/quarantine/shop")), [first.as_str()]);
    lab.run(&["sink", "quarantine", "retry", "shop"]).exits(0).says(&["was taken back"]);
    lab.sink(0);
    assert_eq!(names(&lab.path("sink/store/shop")), [first]);
}

#[test]
fn a_manifest_damaged_at_the_handover_point_is_rejected() {
    let lab = lab();
    let id = id_of(&lab.source(0));
    flip(&lab.path("home/transport-outgoing").join(&id).join("manifest.mtree"));
    let report = lab.sink(13);
    assert!(findings(&report, "quarantined").concat().contains("manifest.mtree"), "{report:#}");
    assert_eq!(names(&lab.path("sink/store/shop")), [""; 0]);
    lab.source(13);
    lab.sink(0);
}

#[test]
fn a_bit_turned_in_the_store_is_found_and_never_linked_into_the_next_generation() {
    let lab = lab();
    let first = lab.both();
    let stored = lab.stored(format!("sink/store/shop/{first}"), "file");
    lab.run(&["sink", "verify"]).exits(0).says(&["whole"]);
    flip(&stored);
    let ran = lab.run(&["sink", "verify"]).exits(13);
    ran.says(&["DAMAGED", "tree/file"]);
    lab.run(&["sink", "list"]).exits(0).says(&["DAMAGED (1 file)"]);
    lab.run(&["sink", "status"]).exits(0).says(&["damaged", "handover sink verify shop"]);
    lab.run(&["sink", "dump", "shop", &first, "/nowhere"]).exits(2);
    let path = lab.path("tree/file");
    lab.run(&["sink", "dump", "shop", &first, path.to_str().unwrap()]).exits(13).says(&["is damaged"]);
    let second = id_of(&lab.source(0));
    lab.sink(0);
    let fresh = lab.stored(format!("sink/store/shop/{second}"), "file");
    assert_ne!(inode(&fresh), inode(&stored));
    assert_eq!(fs::read(fresh).unwrap(), b"content of the file");
    lab.run(&["sink", "verify", "shop", &second]).exits(0);
    assert_eq!(fs::read(lab.restore(0).join("file")).unwrap(), b"content of the file");
}

#[test]
fn with_verify_all_a_bit_turned_in_the_store_is_found_before_it_is_linked() {
    let lab = lab();
    lab.config("", crate::harness::TREE, "verify = \"all\"");
    let first = lab.both();
    flip(&lab.stored(format!("sink/store/shop/{first}"), "file"));
    let second = id_of(&lab.source(0));
    let report = lab.sink(13);
    let said = findings(&report, "verification").concat();
    assert!(
        said.contains("damaged in our own store, so it is fetched") && said.contains("tree/file"),
        "{said}"
    );
    let fresh = lab.stored(format!("sink/store/shop/{second}"), "file");
    assert_eq!(fs::read(fresh).unwrap(), b"content of the file", "it was fetched instead");
    assert_eq!(report["sources"][0]["accepted"], serde_json::json!([second]));
    lab.run(&["sink", "list"]).says(&["DAMAGED (1 file)"]);
}

#[test]
fn a_damaged_generation_is_not_restored_as_if_it_were_whole() {
    let lab = lab();
    let first = lab.both();
    flip(&lab.stored(format!("sink/store/shop/{first}"), "file"));
    let restored = lab.restore(13);
    assert!(!restored.join("file").exists(), "damaged content is not written");
    assert_eq!(fs::read(restored.join("other")).unwrap(), b"content of the other");
}

#[test]
fn a_copy_in_any_folder_can_be_verified_without_a_configuration() {
    let lab = lab();
    let first = lab.both();
    let copy = lab.path("copy");
    let from = lab.path("sink/store/shop").join(first);
    assert!(std::process::Command::new("cp").arg("-r").args([&from, &copy]).status().unwrap().success());
    fs::remove_file(lab.path("handover.toml")).unwrap();
    let args = ["sink", "verify", "--path", copy.to_str().unwrap()];
    lab.run(&args).exits(0).says(&["whole"]);
    let prefix = copy.join("data/www");
    flip(&crate::harness::below(&prefix, &lab.path("tree/other")));
    lab.run(&args).exits(13).says(&["tree/other"]);
}
