//! The store's disk: full, not mounted, another one.

use std::{fs, path::PathBuf, process::Command};

use crate::harness::{Lab, TREE, findings, id_of, names};

/// A small file system in memory at the sink's home.
pub struct Disk(PathBuf);

impl Disk {
    pub fn new(lab: &Lab, size: &str) -> Self {
        let at = lab.path("sink");
        fs::create_dir_all(&at).unwrap();
        let options = format!("size={size},mode=0700");
        let args = ["-t", "tmpfs", "-o", &options, "none"];
        assert!(Command::new("mount").args(args).arg(&at).status().unwrap().success());
        Self(at)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().unwrap().success());
    }
}

#[test]
fn a_store_without_room_takes_nothing_loses_nothing_and_goes_on_when_there_is_room() {
    let lab = Lab::new();
    let _disk = Disk::new(&lab, "8m");
    lab.config("", TREE, "limits = { max_bytes = \"1GiB\" }");
    lab.write("file", vec![b'x'; 3 << 20]);
    let first = lab.init().both();
    let more =
        lab.write("more", (0..6_u32 << 20).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect::<Vec<u8>>());
    let second = id_of(&lab.source(0));
    let report = lab.sink(14);
    let said = findings(&report, "storage").concat();
    assert!(said.contains("there is no room for it") && said.contains("make room on the sink"), "{said}");
    assert_eq!(names(&lab.path("sink/store/shop")), [first.as_str()]);
    assert_eq!(lab.waiting(), [second.as_str()]);
    lab.run(&["sink", "verify"]).exits(0);
    fs::remove_file(more).unwrap();
    lab.source(4);
    // The large one still has no room, but it stays where it is; nothing is lost by it.
    lab.sink(14);
    assert!(lab.waiting().contains(&second));
    lab.run(&["sink", "verify"]).exits(0);
}

#[test]
fn what_may_go_goes_when_the_room_is_needed() {
    let lab = Lab::new();
    let _disk = Disk::new(&lab, "8m");
    lab.config("", TREE, "keep = 1");
    lab.init();
    let mut ids = Vec::new();
    for letter in [b'a', b'b', b'c', b'd', b'e'] {
        lab.write("file", vec![letter; 3 << 20]);
        ids.push(lab.both());
    }
    assert_eq!(names(&lab.path("sink/store/shop")), ids[4..]);
    lab.run(&["sink", "verify"]).exits(0);
}

#[test]
fn a_disk_that_fills_up_behind_our_back_ends_the_run_and_the_next_one_goes_on() {
    let lab = Lab::new();
    let disk = Disk::new(&lab, "16m");
    lab.write("file", vec![b'x'; 1 << 20]);
    let first = lab.init().both();
    lab.write("file", vec![b'y'; 2 << 20]);
    id_of(&lab.source(0));
    fs::write(disk.0.join("stranger"), vec![0; 13 << 20]).unwrap();
    let report = lab.sink(14);
    assert!(!findings(&report, "storage").is_empty());
    assert_eq!(names(&lab.path("sink/store/shop")), [first]);
    fs::remove_file(disk.0.join("stranger")).unwrap();
    lab.sink(0);
    lab.run(&["sink", "verify"]).exits(0);
    assert_eq!(fs::read(lab.restore(0).join("file")).unwrap(), vec![b'y'; 2 << 20]);
}

#[test]
fn a_store_that_is_not_mounted_is_an_error_and_not_an_empty_store() {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.init().both();
    let id = id_of(&lab.source(0));
    fs::rename(lab.path("sink"), lab.path("elsewhere")).unwrap();
    for made in [false, true] {
        if made {
            fs::create_dir(lab.path("sink")).unwrap();
        }
        let report = lab.sink(14);
        let said = findings(&report, "storage").concat();
        assert!(said.contains("mount it") && said.contains("handover sink init"), "{said}");
        lab.run(&["sink", "list"]).exits(14).says(&["mount it"]);
        assert_eq!(lab.waiting(), [id.as_str()]);
        assert_eq!(names(&lab.path("sink")), [""; 0], "nothing is made beside the disk");
    }
    fs::remove_dir(lab.path("sink")).unwrap();
    fs::rename(lab.path("elsewhere"), lab.path("sink")).unwrap();
    lab.sink(0);
}

#[test]
fn another_disk_in_the_place_of_the_store_is_refused() {
    let lab = Lab::new();
    lab.write("file", "x");
    lab.init().both();
    let marker = lab.path("sink/store/.handover-store");
    let ours = fs::read_to_string(&marker).unwrap();
    let mut other = ours.clone().into_bytes();
    let at = ours.rfind(|c: char| c.is_ascii_hexdigit()).unwrap();
    other[at] = if other[at] == b'0' { b'1' } else { b'0' };
    fs::write(&marker, other).unwrap();
    let report = lab.sink(14);
    let said = findings(&report, "storage").concat();
    assert!(said.contains("mount") && said.contains("sink/store"), "{said}");
    fs::write(&marker, ours).unwrap();
    lab.sink(0);
}

#[test]
fn an_offer_that_the_disk_cannot_hold_is_refused_before_anything_goes_for_it() {
    let lab = Lab::new();
    let _disk = Disk::new(&lab, "8m");
    lab.config("", TREE, "keep = 1");
    lab.write("file", vec![b'a'; 2 << 20]);
    let first = lab.init().both();
    lab.write("file", vec![b'b'; 2 << 20]);
    let second = lab.both();
    lab.write("file", vec![b'c'; 9 << 20]);
    let third = id_of(&lab.source(0));
    let report = lab.sink(14);
    let said = findings(&report, "storage").concat();
    for word in [
        third.as_str(),
        "can never fit",
        "9.0 MiB large",
        "8.0 MiB in all",
        "nothing was deleted",
        "larger disk",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("limits.max_bytes"), "{said}");
    // What is to be done is said where one looks, and not only that it is to be run again.
    lab.run(&["sink", "status"]).exits(0).says(&["can never fit", "larger disk"]);
    assert_eq!(names(&lab.path("sink/store/shop")), [second]);
    assert_eq!(names(&lab.path("sink/condemned/shop")), [first], "it can still be taken back");
}

#[test]
fn what_goes_early_for_room_is_named_in_the_report() {
    let lab = Lab::new();
    let _disk = Disk::new(&lab, "8m");
    lab.config("", TREE, "keep = 1");
    lab.init();
    let mut ids = Vec::new();
    for letter in [b'a', b'b'] {
        lab.write("file", vec![letter; 3 << 20]);
        ids.push(lab.both());
    }
    lab.write("file", vec![b'c'; 3 << 20]);
    lab.source(0);
    let report = lab.sink(0);
    let said = findings(&report, "warning").concat();
    assert!(said.contains(&ids[0]) && said.contains("room was needed"), "{report:#}");
    let condemned = report["sources"][0]["condemned"].to_string();
    assert!(condemned.contains(&ids[0]) && condemned.contains("room was needed"), "{condemned}");
}
