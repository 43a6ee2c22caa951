//! Looking into the store: texts for people, JSON for programs.

use crate::harness::{Lab, settle};

/// Two generations: `a` stays, `b` changes, `c` goes, `d` comes.
fn lab() -> (Lab, String, String) {
    let lab = Lab::new();
    for (name, content) in [("a", "same"), ("b", "before"), ("c", "gone")] {
        lab.write(name, content);
    }
    settle();
    let first = lab.init().both();
    lab.write("b", "after");
    lab.write("d\u{1b}[31m", "new");
    std::fs::remove_file(lab.path("tree/c")).unwrap();
    let second = lab.both();
    (lab, first, second)
}

#[test]
fn ls_shows_what_is_in_a_generation_and_no_name_reaches_the_terminal_raw() {
    let (lab, first, second) = lab();
    let tree = lab.path("tree");
    let tree = tree.to_str().unwrap();
    let ran = lab.run(&["sink", "ls", "shop"]).exits(0).says(&["/tree/a", "0644 root:root", "d\\u{1b}[31m"]);
    assert!(!ran.out.contains('\u{1b}'));
    let json = lab.run(&["sink", "ls", "shop", &first, tree, "--json"]).exits(0).json();
    let rows = json.as_array().unwrap();
    let of = |name: &str| rows.iter().find(|r| r["path"].as_str().unwrap().ends_with(name)).unwrap();
    assert_eq!(rows.len(), 4, "the folder and three files");
    assert_eq!((of("/a")["kind"].as_str(), of("/a")["size"].as_u64()), (Some("file"), Some(4)));
    assert_eq!(of("/c")["digest"].as_str().unwrap().len(), 64);
    let ran = lab.run(&["sink", "ls", "shop", &second, &format!("{tree}/a")]).exits(0);
    assert_eq!(ran.out.lines().count(), 1);
    // A path without a generation is one in the newest.
    let ran = lab.run(&["sink", "ls", "shop", &format!("{tree}/b")]).exits(0);
    assert_eq!(ran.out.lines().count(), 1);
    assert_eq!(lab.run(&["sink", "ls", "shop", &second, &format!("{tree}/b")]).exits(0).out, ran.out);
    assert_eq!(lab.run(&["sink", "ls", "shop", &format!("{tree}/")]).exits(0).out.lines().count(), 4);
    for json in [&["--json"][..], &[]] {
        let ls = ["sink", "ls", "shop", "/no/such/path"];
        lab.run(&[&ls[..], json].concat()).exits(2).says(&[&second, "has no no/such/path", "sink find shop"]);
    }
    lab.run(&["sink", "verify", "--path", "/no/such/path"]).exits(2).says(&["/no/such/path"]);
    lab.run(&["sink", "verify", "--path", &format!("{tree}/a")]).exits(2).says(&["folder of a generation"]);
    lab.run(&["sink", "ls", "shop", tree, tree]).exits(2).says(&["two paths"]);
    lab.run(&["sink", "ls", "shop", "nonsense"]).exits(2);
    lab.run(&["sink", "ls", "shop", "20200101T000000Z"]).exits(2).says(&["handover sink list shop"]);
}

#[test]
fn find_tells_which_generations_hold_a_file_and_where_it_changed() {
    let (lab, first, second) = lab();
    lab.run(&["sink", "find", "shop", "b"]).exits(0).says(&[&first, &second, "new or changed"]);
    let hits = lab.run(&["sink", "find", "shop", "c", "--json"]).exits(0).json();
    let hits = hits.as_array().unwrap();
    assert_eq!((hits.len(), hits[0]["id"].as_str()), (1, Some(first.as_str())));
    let path = lab.path("tree/a");
    let hits = lab.run(&["sink", "find", "shop", path.to_str().unwrap(), "--json"]).exits(0).json();
    let mut changed: Vec<bool> =
        hits.as_array().unwrap().iter().map(|h| h["changed"].as_bool().unwrap()).collect();
    changed.sort_unstable();
    assert_eq!(changed, [false, true]);
}

#[test]
fn diff_names_what_came_went_and_changed() {
    let (lab, first, second) = lab();
    let json = lab.run(&["sink", "diff", "shop", &first, &second, "--json"]).exits(0).json();
    let found = |name: &str| {
        let row = json.as_array().unwrap().iter().find(|r| r["path"].as_str().unwrap().ends_with(name));
        row.map(|r| r["change"].as_str().unwrap())
    };
    assert_eq!(
        [found("/a"), found("/b"), found("/c"), found("d\\u{1b}[31m")],
        [None, Some("changed"), Some("removed"), Some("added")]
    );
    lab.run(&["sink", "diff", "shop", &first]).exits(0).says(&["changed", "removed", "added", "tree/b"]);
}

#[test]
fn dump_prints_a_file_as_it_is() {
    let (lab, first, _) = lab();
    let path = lab.path("tree/b");
    let dump = |id: &str| lab.run(&["sink", "dump", "shop", id, path.to_str().unwrap()]).exits(0).out;
    assert_eq!(dump(&first), "before");
    assert_eq!(dump("newest"), "after");
    let folder = lab.path("tree");
    lab.run(&["sink", "dump", "shop", "newest", folder.to_str().unwrap()])
        .exits(2)
        .says(&["not a regular file"]);
}

#[test]
fn status_and_list_say_how_each_source_stands() {
    let (lab, first, second) = lab();
    lab.run(&["sink", "status"]).exits(0).says(&["newest verified", "shop", "next step", "none"]);
    let status = lab.run(&["sink", "status", "--json"]).exits(0).json();
    assert_eq!(status[0]["newest_verified"], second.as_str());
    assert_eq!(status[0]["generations"], 2);
    lab.run(&["sink", "list"]).exits(0).says(&[&first, &second, "stored, verified"]);
    lab.run(&["source", "status"]).exits(0).says(&[&second, "accepted", "last success"]);
    let json = lab.run(&["source", "status", "--json"]).json();
    assert_eq!(json["stored"].as_array().unwrap().len(), 2);
    assert_eq!(json["last_success"]["generation"]["id"], second.as_str());
}

#[test]
fn when_all_is_well_nothing_is_said_without_a_terminal() {
    let (lab, ..) = lab();
    for args in [["source", "run"], ["sink", "run"]] {
        let ran = lab.run(&args).exits(0);
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""), "cron would send a mail");
    }
}
