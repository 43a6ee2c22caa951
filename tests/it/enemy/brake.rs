//! The anomaly brake: data that was encrypted, emptied or replaced on its source is stored and told, and costs no good
//! generation; what only looks so to a careless eye is left alone.

use std::fs;

use serde_json::Value;

use crate::{
    harness::{Lab, Ran, TREE, findings, id_of, names},
    mail::server::{Server, Speaks, configure},
    proof::proof,
    sink::room::Disk,
};

pub const FILES: usize = 24;

/// A lab with this many files, and days that go by.
pub struct Days {
    pub lab: Lab,
    pub day: u32,
}

impl Days {
    pub fn new(sink: &str) -> Self {
        let lab = Lab::in_memory();
        lab.config("", TREE, sink);
        Self::of(lab)
    }

    fn of(lab: Lab) -> Self {
        (0..FILES).for_each(|n| drop(lab.write(&format!("{n}.txt"), text(n))));
        lab.init();
        Self { lab, day: 0 }
    }

    pub fn run(&self, args: &[&str], code: i32) -> Ran {
        self.ran(args).exits(code)
    }

    pub fn ran(&self, args: &[&str]) -> Ran {
        let mut command = self.lab.handover(args);
        Ran::new(&command.env("HANDOVER_CLOCK", format!("+{}h", self.day * 24)).output().unwrap())
    }

    /// A day with one run on each side; gives the id and the sink's report.
    pub fn next(&mut self, code: i32) -> (String, Value) {
        self.day += 1;
        let id = id_of(&self.run(&["source", "--json"], 0).json());
        (id, self.run(&["sink", "--json"], code).json())
    }

    /// So many days on which one file changes.
    pub fn good(&mut self, days: usize) -> Vec<String> {
        let day = |this: &mut Self| {
            this.lab.write("0.txt", format!("day {}\n", this.day));
            this.next(0).0
        };
        (0..days).map(|_| day(self)).collect()
    }

    pub fn stored(&self) -> Vec<String> {
        names(&self.lab.path("sink/store/shop"))
    }

    pub fn each_file(&self, change: impl Fn(usize, &std::path::Path)) {
        for n in 0..FILES {
            change(n, &self.lab.path("tree").join(format!("{n}.txt")));
        }
    }
}

pub fn text(n: usize) -> String {
    format!("invoice {n}\n").repeat(20)
}

pub fn noise(n: usize, day: u32) -> String {
    format!("{n} {day} \u{fffd} no key, no data\n").repeat(20)
}

#[test]
fn data_that_is_encrypted_halved_or_emptied_for_30_days_costs_no_good_generation_with_keep_3() {
    type Attack = fn(&Days);
    // In place, under other names, one half, all.
    let attacks: [(&str, Attack, u32); 4] = [
        ("encrypted", |days| days.each_file(|n, path| fs::write(path, noise(n, days.day)).unwrap()), 30),
        (
            "renamed",
            |days| {
                days.each_file(|n, path| {
                    drop(fs::remove_file(path));
                    fs::write(path.with_extension("locked"), noise(n, days.day)).unwrap();
                });
            },
            5,
        ),
        (
            "halved",
            |days| {
                days.each_file(|n, path| {
                    if n % 2 == 1 {
                        drop(fs::remove_file(path))
                    }
                })
            },
            5,
        ),
        ("emptied", |days| days.each_file(|_, path| fs::write(path, "").unwrap()), 5),
    ];
    for (name, attack, length) in attacks {
        let mut days = Days::new("keep = 3\nundo_for = \"0s\"");
        let good = days.good(5)[2..].to_vec();
        assert_eq!(days.stored(), good, "{name}");
        let (mut bad, mut lost) = (Vec::new(), 0);
        for _ in 0..length {
            attack(&days);
            let (id, report) = days.next(3);
            assert_eq!(findings(&report, "suspicious").len(), 1, "{name}: {report:#}");
            bad.push(id);
            lost += usize::from(!good.iter().all(|id| days.stored().contains(id)));
        }
        assert_eq!(days.stored(), [good.clone(), bad].concat(), "{name}: it is stored, and nothing goes");
        let last = days.lab.path("sink/store/shop").join(&good[2]);
        let to = days.lab.path("back");
        days.run(&["restore", "--from", last.to_str().unwrap(), "--to", to.to_str().unwrap()], 0);
        let back = crate::harness::below(&to, &days.lab.path("tree"));
        assert_eq!(fs::read_to_string(back.join("1.txt")).unwrap(), text(1), "{name}");
        proof("days of data that was destroyed", length as usize, lost);
    }
}

#[test]
fn what_looks_suspicious_is_mailed_once_shown_everywhere_and_trusted_by_a_person() {
    let lab = Lab::new();
    let server = Server::start(&lab, Speaks::Plain);
    configure(&lab, "", "keep = 3", &format!("smtp+plain://127.0.0.1:{}", server.port), "");
    let mut days = Days::of(lab);
    let good = days.good(4);
    days.each_file(|n, path| fs::write(path, noise(n, 0)).unwrap());
    let (first, report) = days.next(3);
    let said = findings(&report, "suspicious").concat();
    for words in [
        format!("{first} looks suspicious, and nothing of this source goes"),
        format!("the content of {FILES} of its {FILES} files in {} is nowhere in it", good[3]),
        format!("handover sink diff shop {} {first}", good[3]),
        "handover sink trust shop".to_owned(),
    ] {
        assert!(said.contains(&words), "{words}: {said}");
    }
    let mailed =
        |server: &Server| server.subjects().iter().filter(|s| s.ends_with("shop: suspicious")).count();
    assert_eq!(mailed(&server), 1, "{:?}", server.subjects());
    let (second, report) = days.next(3);
    assert!(findings(&report, "suspicious").concat().contains("(and 1 after it)"), "{report:#}");
    assert_eq!(mailed(&server), 1, "told once: {:?}", server.subjects());
    days.run(&["sink", "status"], 0).says(&["frozen", &first, &second, "handover sink trust shop"]);
    days.run(&["sink", "list"], 0).says(&["SUSPICIOUS: www has changed"]);
    days.run(&["explain", "shop", &first], 0).says(&["suspicious", "handover sink trust shop", "frozen"]);
    days.run(&["sink", "prune"], 0);
    let before = days.stored();
    // Only said, then one of them, then all.
    let json = days.run(&["sink", "trust", "shop", "--dry-run", "--json"], 0).json();
    assert_eq!(
        (&json["trusted"][0]["id"], &json["trusted"][1]["id"]),
        (&first.clone().into(), &second.clone().into())
    );
    days.run(&["sink", "trust", "shop", "20200101T000000Z"], 2).says(&["no stored generation"]);
    days.run(&["sink", "trust", "shop", &good[3]], 0).says(&["it is not suspicious", &first]);
    days.run(&["sink", "trust", "shop", &first], 0).says(&[
        &first,
        "is trusted",
        "still suspicious",
        &second,
    ]);
    days.run(&["sink", "--quiet"], 3);
    assert_eq!(days.stored(), before, "nothing goes while one is suspicious");
    days.run(&["sink", "trust", "shop"], 0).says(&[&second, "is trusted"]);
    days.run(&["sink", "trust", "shop"], 0).says(&["nothing is suspicious"]);
    let (third, report) = days.next(0);
    assert!(findings(&report, "suspicious").is_empty(), "{report:#}");
    assert_eq!(days.stored(), [first.clone(), second, third], "the retention takes again");
    days.run(&["explain", "shop", &first], 0).says(&["trusted"]);
    let subjects = server.subjects();
    assert!(subjects.iter().any(|s| s.contains("well again: suspicious")), "{subjects:?}");
}

#[test]
fn what_is_new_small_moved_added_to_or_always_so_is_not_suspicious() {
    // A new source: nothing is usual yet.
    let mut days = Days::new("keep = 9");
    days.good(2);
    days.each_file(|n, path| fs::write(path, noise(n, 0)).unwrap());
    days.next(0);
    // All moved into a folder, and ten times as much beside it.
    let tree = days.lab.path("tree");
    fs::create_dir(tree.join("moved")).unwrap();
    days.each_file(|n, path| fs::rename(path, tree.join(format!("moved/{n}"))).unwrap());
    days.next(0);
    (0..FILES * 10).for_each(|n| drop(days.lab.write(&format!("more/{n}"), format!("more {n}"))));
    days.next(0);
    // An element that is another one every day.
    let mut days = Days::new("keep = 9");
    for day in 0..7 {
        days.each_file(|n, path| fs::write(path, noise(n, day)).unwrap());
        days.next(0);
    }
    // But one that is gone of a sudden is so all the same.
    days.each_file(|_, path| fs::remove_file(path).unwrap());
    let (_, report) = days.next(3);
    assert!(findings(&report, "suspicious").concat().contains("www has shrunk: 0 files"), "{report:#}");
    // Few files.
    let lab = Lab::in_memory();
    lab.write("only", "one");
    lab.init();
    let mut days = Days { lab, day: 0 };
    for day in 0..5 {
        days.lab.write("only", format!("another {day}"));
        days.next(0);
    }
}

#[test]
fn a_frozen_source_without_room_gets_nothing_and_loses_nothing() {
    let lab = Lab::new();
    let _disk = Disk::new(&lab, "6m");
    lab.config("", TREE, "keep = 1\nundo_for = \"0s\"");
    let mut days = Days::of(lab);
    let good = days.good(4).pop().unwrap();
    let large = |n: usize, day: u32| noise(n, day).repeat(160);
    for day in 0.. {
        days.each_file(|n, path| fs::write(path, large(n, day)).unwrap());
        days.day += 1;
        let waits = days.run(&["source", "--json"], 0).json();
        let output = days.lab.handover(&["sink", "--json"]).output().unwrap();
        let ran = Ran::new(&output);
        if ran.code == 14 {
            let said = findings(&ran.json(), "storage").concat();
            assert!(said.contains("nothing goes for it, since its source is frozen"), "{said}");
            assert!(said.contains("handover sink trust shop"), "{said}");
            assert!(days.lab.waiting().contains(&id_of(&waits)));
            break;
        }
        ran.exits(3);
        assert!(day < 20, "the disk is never full");
    }
    assert!(days.stored().contains(&good), "{:?}", days.stored());
    // What waits is another one again, and a word holds only for what was seen.
    days.run(&["sink", "trust", "shop"], 0);
    days.run(&["sink"], 3);
    days.run(&["sink", "trust", "shop"], 0);
    days.run(&["sink"], 0);
    assert_eq!(days.stored().len(), 1, "room is made again");
}

#[test]
fn limits_are_set_for_each_source_and_can_be_switched_off() {
    for (sink, code) in [
        ("", 3),
        ("anomaly = \"off\"", 0),
        ("anomaly = { changed = \"off\" }", 0),
        ("anomaly = { changed = \"100%\" }", 3),
    ] {
        let mut days = Days::new(&format!("keep = 3\n{sink}"));
        days.good(3);
        days.each_file(|n, path| fs::write(path, noise(n, 0)).unwrap());
        days.next(code);
    }
}

#[test]
fn an_element_that_is_not_in_it_any_more_is_suspicious_and_one_that_failed_is_kept_anyway() {
    let db = "[[source.element]]\nname = \"db\"\nkind = \"dump\"\nfile = \"d\"\ncommand = [\"cat\", \"{lab}/rows\"]";
    let lab = Lab::in_memory();
    lab.config("", &format!("{TREE}\n{db}"), "keep = 3");
    fs::write(lab.path("rows"), "rows ".repeat(1 << 19)).unwrap();
    let mut days = Days::of(lab);
    days.good(3);
    fs::remove_file(days.lab.path("rows")).unwrap();
    days.day += 1;
    days.run(&["source"], 3);
    days.run(&["sink"], 0);
    // The one that failed is not what the next one is compared with.
    fs::write(days.lab.path("rows"), "rows").unwrap();
    let (_, report) = days.next(3);
    assert!(
        findings(&report, "suspicious").concat().contains("db has shrunk: 1 file with 4 bytes"),
        "{report:#}"
    );
    days.run(&["sink", "trust", "shop"], 0);
    days.next(0);
    days.lab.config("", db, "keep = 3");
    let (_, report) = days.next(3);
    assert!(findings(&report, "suspicious").concat().contains("www has shrunk: 0 files"), "{report:#}");
}
