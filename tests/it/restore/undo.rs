//! `restore undo`: what it does when it cannot, and how it goes on.

use std::{fs, process::Stdio, thread, time::Duration};

use super::{Host, live::Mounted, run};

/// A host that was restored from `new` to `old`.
fn restored(host: &Host) {
    host.old_in_place_of_new();
    host.restore(&["--yes"]).exits(0);
}

#[test]
fn an_undo_in_place_without_room_changes_nothing_and_loses_nothing_however_often_it_is_tried() {
    let host = Host::new();
    let _small = Mounted::tmpfs(&host.app(""), "nr_inodes=400");
    fs::create_dir(host.app("shop")).unwrap();
    let _bind = Mounted::bind(&host.app("shop"), &host.lab.path("elsewhere"));
    restored(&host);
    let fill = host.app("fill");
    fs::create_dir(&fill).unwrap();
    let mut full = 0;
    while fs::write(fill.join(full.to_string()), "").is_ok() {
        full += 1;
    }
    for _ in 0..3 {
        host.lab.run(&["restore", "undo", "--yes"]).exits_with_failure();
        assert_eq!([host.read("shop/index.html"), host.read("shop.conf")], ["old"; 2]);
        assert!(!host.lab.path("stopped").exists(), "nothing has changed, so the service runs again");
    }
    fs::remove_dir_all(&fill).unwrap();
    host.lab.run(&["restore", "undo", "--yes"]).exits(0);
    assert_eq!(
        [host.read("shop/index.html"), host.read("shop.conf"), host.read("shop/only-new")],
        ["new"; 3]
    );
    host.lab.run(&["restore", "undo", "--yes"]).exits(0);
    assert_eq!([host.read("shop/index.html"), host.read("shop/deep/er/page")], ["old"; 2]);
    assert!(!host.app("shop/only-new").exists());
}

#[test]
fn an_undo_that_stops_half_way_goes_on_where_it_stopped_and_until_then_nothing_else_runs() {
    let host = Host::new();
    restored(&host);
    let conf = host.app("shop.conf");
    let other = host.lab.path("other");
    fs::write(&other, "busy").unwrap();
    run("mount", &["--bind", other.to_str().unwrap(), conf.to_str().unwrap()]);
    for _ in 0..2 {
        let ran = host.lab.run(&["restore", "undo", "--yes"]).exits_with_failure();
        assert!(ran.err.contains("it goes on with what is not yet put back"), "{ran:?}");
        assert_eq!(host.read("shop/index.html"), "new", "put back once, and not again");
        assert!(host.lab.path("stopped").exists(), "half of each must not run");
    }
    let collect = host.lab.run(&["source"]).exits_with_failure();
    assert!(collect.err.contains("restore undo"), "{collect:?}");
    host.restore(&["--yes"]).exits(15);
    host.lab.run(&["restore", "clean", "--yes"]).exits(15);
    run("umount", &[conf.to_str().unwrap()]);
    host.lab.run(&["restore", "undo", "--yes"]).exits(0);
    assert_eq!(
        [host.read("shop/index.html"), host.read("shop.conf"), host.read("shop/only-new")],
        ["new"; 3]
    );
    assert!(!host.lab.path("stopped").exists());
    host.collect();
    host.lab.run(&["restore", "undo", "--yes"]).exits(0);
    assert_eq!([host.read("shop/index.html"), host.read("shop.conf")], ["old"; 2]);
}

/// The states that the files are in.
fn states(host: &Host) -> Vec<String> {
    let mut words: Vec<String> = (0..200).map(|i| host.read(&format!("shop/many/{i}"))).collect();
    words.extend([host.read("shop/index.html"), host.read("shop.conf")]);
    words.sort();
    words.dedup();
    words
}

#[test]
fn an_undo_that_is_killed_at_any_instant_ends_in_one_state_when_it_is_run_again() {
    let host = Host::new();
    let fill = |word: &str| {
        host.fill(word);
        (0..200).for_each(|i| host.write(&format!("shop/many/{i}"), word));
    };
    fill("old");
    let _bind = Mounted::bind(&host.app("shop"), &host.lab.path("elsewhere"));
    let id = host.init().collect();
    host.deliver(&id);
    fill("new");
    host.restore(&["--yes"]).exits(0);
    let undoing = host.lab.path("state/restore/undoing.json");
    let mut cuts = 0;
    for i in 0..24 {
        let before = states(&host);
        assert_eq!(before.len(), 1, "{before:?}");
        let mut child = host.lab.handover(&["restore", "undo", "--yes", "--json"]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !undoing.exists() && child.try_wait().unwrap().is_none() {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(i % 12));
        child.kill().unwrap();
        child.wait().unwrap();
        if undoing.exists() {
            cuts += 1;
            host.lab.run(&["source"]).exits_with_failure();
            host.lab.run(&["restore", "undo", "--yes"]).exits(0);
            assert_ne!(states(&host), before, "{i}: it went on to its end");
            assert!(!host.lab.path("stopped").exists(), "{i}");
        }
        assert_eq!(states(&host).len(), 1, "{i}");
    }
    println!("cut in the middle: {cuts} of 24");
    assert!(cuts > 0, "the kills hit nothing");
}

#[test]
fn a_restore_that_was_cut_is_named_by_undo_by_the_list_and_by_the_status_of_the_source() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    let journal = format!(
        "{{\"format\":1,\"id\":\"{id}\",\"started\":\"2026-01-01T00:00:00Z\",\"phase\":\"building\",\
         \"units\":[],\"dumps\":[],\"copy\":\"\",\"delivered\":null}}"
    );
    fs::create_dir_all(host.lab.path("state/restore")).unwrap();
    let status = || host.lab.run(&["source", "status", "--json"]);
    let before = status();
    assert!(!before.out.contains("was cut"), "{before:?}");
    fs::write(host.lab.path("state/restore/journal.json"), journal).unwrap();
    let undo = host.lab.run(&["restore", "undo", "--yes"]).exits(15);
    assert!(undo.err.contains(&format!("the restore of {id} was cut")), "{undo:?}");
    let list = host.lab.run(&["restore", "list"]).exits(0);
    assert!(list.err.contains("a restore was cut and is not finished"), "{list:?}");
    let list = host.lab.run(&["restore", "list", "--json"]).exits(0).json();
    assert_eq!(list["findings"][0]["kind"], "warning", "{list:#}");
    let after = status();
    assert!(after.out.contains("critical") && after.out.contains("a restore was cut"), "{after:?}");
    host.restore(&["--yes"]).exits(0);
    assert!(!status().out.contains("was cut"));
}

#[test]
fn what_an_earlier_restore_replaced_is_not_put_back_as_if_the_last_one_had() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    host.deliver_as(&id, "again");
    host.restore(&["--yes"]).exits(0);
    // The second one finds nothing there, so it keeps nothing.
    fs::remove_dir_all(host.app("shop")).unwrap();
    fs::remove_file(host.app("shop.conf")).unwrap();
    host.restore(&["--yes"]).exits(0);
    let undo = host.lab.run(&["restore", "undo", "--yes"]).exits(15);
    assert!(undo.err.contains("nothing is kept of what the last restore"), "{undo:?}");
    assert_eq!([host.read("shop/index.html"), host.read("shop.conf")], ["old"; 2]);
}

#[test]
fn clean_asks_before_it_removes_and_nobody_answers_without_a_terminal() {
    let host = Host::new();
    host.init();
    host.lab.run(&["restore", "clean"]).exits(0);
    restored(&host);
    let kept = host.left_over();
    for args in [&["restore", "clean"][..], &["restore", "clean", "--json"]] {
        let refused = host.lab.run(args).exits(15);
        assert!(refused.err.contains("give --yes"), "{refused:?}");
    }
    assert_eq!(host.left_over(), kept);
    host.lab.run(&["restore", "clean", "--yes"]).exits(0);
    assert!(host.left_over().is_empty());
}
