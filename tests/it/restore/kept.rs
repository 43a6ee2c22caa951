//! What stays in `restored/`, and for how long.

use std::fs;

use super::{ELEMENTS, Host};
use crate::harness::{names, settle};

fn restore_one_more(host: &Host, word: &str) -> String {
    settle();
    host.fill(word);
    let id = host.collect();
    host.deliver(&id);
    host.restore(&["--yes", &id]).exits(0);
    id
}

#[test]
fn of_what_was_restored_the_newest_stays_and_what_somebody_put_there_stays_too() {
    let host = Host::new();
    host.fill("first");
    host.init();
    let restored = host.lab.path("home/restored");
    let first = restore_one_more(&host, "first");
    assert_eq!(names(&restored), [first.as_str()]);
    fs::create_dir(restored.join("20200101T000000Z")).unwrap();
    let second = restore_one_more(&host, "second");
    assert_eq!(names(&restored), ["20200101T000000Z", second.as_str()]);
    // Another folder under the name of one that was restored is not that one.
    fs::create_dir(restored.join("other")).unwrap();
    fs::remove_dir_all(restored.join(&second)).unwrap();
    fs::rename(restored.join("other"), restored.join(&second)).unwrap();
    let third = restore_one_more(&host, "third");
    assert_eq!(names(&restored), ["20200101T000000Z", second.as_str(), third.as_str()]);
}

#[test]
fn how_many_stay_is_configured_and_clean_keeps_to_it() {
    let host = Host::new();
    host.config(ELEMENTS, "[restore]\nkeep_restored = 2\n");
    host.fill("first");
    host.init();
    let restored = host.lab.path("home/restored");
    let ids = ["first", "second", "third"].map(|word| restore_one_more(&host, word));
    assert_eq!(names(&restored), ids[1..]);
    host.config(ELEMENTS, "[restore]\nkeep_restored = 0\n");
    let dry = host.lab.run(&["restore", "clean", "--dry-run", "--json"]).exits(0).json();
    assert_eq!(dry["restored"], serde_json::json!(ids[1..]));
    assert_eq!(names(&restored), ids[1..]);
    host.lab.run(&["restore", "clean", "--yes"]).exits(0);
    assert!(names(&restored).is_empty());
}
