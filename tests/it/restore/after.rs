//! What a restore says and leaves behind when it is done.

use super::Host;
use crate::harness::names;

#[test]
fn a_service_that_does_not_start_does_not_hide_that_the_rest_was_done() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    host.lab.fake("service", "[ \"$2\" != start ]");
    let ran = host.lab.run(&["restore", "--yes"]).exits(3);
    ran.says(&["start it by hand", &format!("{id} restored: 2 paths exchanged"), "the old is kept in"]);
    assert_eq!(host.read("shop/index.html"), "old");
}

#[test]
fn a_restore_of_a_part_leaves_the_generation_where_it_was_for_the_rest() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    let page = host.app("shop/index.html");
    host.restore(&["--yes", "--element", "conf"]).exits(0);
    host.restore(&["--yes", "--path", page.to_str().unwrap()]).exits(0);
    assert_eq!(names(&host.lab.path("home/restore")), [id.as_str()]);
    host.restore(&["--yes"]).exits(0);
    assert!(names(&host.lab.path("home/restore")).is_empty());
}

#[test]
fn where_nothing_was_delivered_the_other_places_are_named_and_can_be_restored_from() {
    let host = Host::new();
    let id = host.old_in_place_of_new();
    host.restore(&["--yes"]).exits(0);
    host.fill("newer");
    let home = host.lab.path("home");
    let places = ["store", "restored"].map(|place| home.join(place).to_str().unwrap().to_owned());
    let said = places.each_ref().map(|place| format!("--from {place}"));
    host.lab.run(&["restore", "--yes"]).exits(15).says(&[&said[0], &said[1]]);
    host.restore(&["--yes", "--from", &places[1]]).exits(0);
    assert_eq!(host.read("shop/index.html"), "old");
    assert_eq!(names(&home.join("restored")), [id.as_str()]);
}
