//! A restore that can be neither finished nor undone has an end all the same.

use std::fs;

use super::{Host, dumps::cut_promotion, hidden};
use crate::harness::names;

fn give_up(host: &Host, args: &[&str]) -> crate::harness::Ran {
    host.lab.run(&[&["restore", "undo", "--give-up"], args].concat())
}

#[test]
fn a_promotion_that_fails_again_and_again_can_be_given_up() {
    let (host, id) = cut_promotion();
    fs::rename(host.lab.path("databases"), host.lab.path("down")).unwrap();
    host.lab.run(&["restore", "--yes", &id]).exits(10).says(&["handover restore undo --give-up"]);
    let scratch = names(&host.lab.path("down")).into_iter().find(|name| name != "live").unwrap();
    give_up(&host, &["--dry-run"]).exits(0).says(&[&scratch, "is put back"]);
    give_up(&host, &[]).exits(15).says(&["nobody agreed", "--yes"]);
    assert!(host.lab.path("state/restore/journal.json").exists(), "a question changed something");
    give_up(&host, &["--yes"]).exits(3).says(&["db", &scratch, "only the application can tell"]);
    assert_eq!(host.read("shop/index.html"), "new");
    assert!(!host.lab.path("state/restore/journal.json").exists() && !host.lab.path("stopped").exists());
    assert!(hidden(&host.lab.path("app")).is_empty());
    // What is left of it is the operator's; another restore goes its way.
    fs::rename(host.lab.path("down"), host.lab.path("databases")).unwrap();
    assert!(names(&host.lab.path("databases")).contains(&scratch), "it was to stay");
    give_up(&host, &["--yes"]).exits(15).says(&["nothing to give up"]);
    host.restore(&["--yes", &id]).exits(0);
    assert_eq!([host.read("shop/index.html"), host.lab.text("databases/live/data")], ["old", "good old"]);
}

#[test]
fn nothing_is_drilled_while_a_restore_is_cut() {
    let (host, _) = cut_promotion();
    let from = host.lab.path("home/restore");
    host.lab
        .run(&["restore", "drill", "--from", from.to_str().unwrap()])
        .exits(15)
        .says(&["a restore was cut", "handover restore"]);
    assert!(host.lab.path("state/restore/journal.json").exists());
}
