//! The anomaly brake against those who take their time: what is destroyed in several days, of which none is suspicious by
//! itself, and what a person's word makes usual.

use std::fs;

use super::brake::{Days, FILES, noise, text};
use crate::{
    harness::{findings, names},
    proof::proof,
};

fn suspicious(report: &serde_json::Value) -> String {
    findings(report, "suspicious").concat()
}

/// Three encrypted copies beside each file, under names of their own.
fn copies_beside(days: &Days) {
    days.each_file(|n, path| {
        (0..3).for_each(|copy| fs::write(path.with_extension(format!("{copy}")), noise(n, copy)).unwrap());
    });
}

#[test]
fn what_is_encrypted_beside_and_deleted_the_day_after_costs_no_good_generation() {
    let mut days = Days::new("keep = 3\nundo_for = \"0s\"");
    days.good(5);
    copies_beside(&days);
    days.next(0);
    let good = days.stored();
    days.each_file(|_, path| fs::remove_file(path).unwrap());
    let (first, report) = days.next(3);
    let said = suspicious(&report);
    let words = format!("www has lost bit by bit what {} holds, which is about to go", good[0]);
    for words in [&words, &format!("{FILES} of its {FILES} files"), &format!("diff shop {} {first}", good[0])]
    {
        assert!(said.contains(words.as_str()), "{words}: {said}");
    }
    let mut lost = 0;
    for _ in 0..10 {
        let (_, report) = days.next(3);
        assert_eq!(findings(&report, "suspicious").len(), 1, "{report:#}");
        lost += usize::from(!good.iter().all(|id| days.stored().contains(id)));
    }
    proof("days of data that was destroyed", 10, lost);
    assert_eq!(lost, 0, "{:?}", days.stored());
    days.run(&["explain", "shop", &good[0]], 0).says(&["frozen"]);
    // Said once, it is settled: what is missing was seen.
    days.run(&["sink", "trust", "shop"], 0).says(&[&first, "is trusted"]);
    for _ in 0..8 {
        days.next(0);
    }
    assert_eq!(days.stored().len(), 3, "the retention takes again");
}

#[test]
fn what_would_freeze_a_source_is_said_beforehand_and_done_by_prune_too() {
    let mut days = Days::new("keep = 3");
    days.good(3);
    copies_beside(&days);
    days.next(0);
    days.lab.config("", crate::harness::TREE, "keep = 9");
    days.each_file(|_, path| fs::remove_file(path).unwrap());
    days.next(0);
    let before = days.stored();
    days.lab.config("", crate::harness::TREE, "keep = 1");
    for dry in [&["sink", "prune", "--dry-run"][..], &["sink", "--dry-run"]] {
        days.run(dry, 0).says(&["nothing would go", "bit by bit"]);
    }
    days.run(&["sink", "status"], 0);
    days.run(&["sink", "prune"], 3).says(&["looks suspicious", "bit by bit", "handover sink trust shop"]);
    assert_eq!(days.stored(), before);
    days.run(&["sink", "trust", "shop"], 0);
    days.run(&["sink", "prune"], 0);
    assert_eq!(days.stored().len(), 1);
}

/// A folder of which a third is another one every day.
fn turn(days: &Days, day: u32) {
    (0..10).for_each(|n| drop(days.lab.write(&format!("spool/{day}/{n}"), noise(n, day))));
    let old = days.lab.path("tree/spool").join((day - 3).to_string());
    if old.exists() {
        fs::remove_dir_all(old).unwrap();
    }
}

#[test]
fn a_folder_that_turns_over_within_what_is_kept_freezes_twice_and_no_more_as_long_as_it_goes_on() {
    let mut days = Days::new("keep = 3\nundo_for = \"0s\"");
    days.each_file(|_, path| fs::remove_file(path).unwrap());
    let mut day = 10;
    (8..10).for_each(|day| turn(&days, day));
    let mut frozen = Vec::new();
    while day < 30 {
        turn(&days, day);
        days.day += 1;
        days.run(&["source"], 0);
        let ran = days.ran(&["sink", "--json"]);
        if ran.code == 3 {
            assert!(suspicious(&ran.json()).contains("bit by bit"), "{}", ran.out);
            let said = days.run(&["sink", "trust", "shop"], 0);
            assert_eq!(said.err.contains("said for the second time"), frozen.len() == 1, "{}", said.err);
            frozen.push(day);
        } else {
            ran.exits(0);
        }
        day += 1;
    }
    assert_eq!(frozen.len(), 2, "{frozen:?}");
    assert!(days.stored().len() <= 4, "{:?}", days.stored());
    // It goes on no more: what was said of it holds no more either.
    (0..4).for_each(|_| drop(days.next(0)));
    let good = days.stored();
    let spool = days.lab.path("tree/spool");
    let all: Vec<_> = names(&spool).into_iter().map(|name| spool.join(name)).collect();
    (0..90).for_each(|n| drop(days.lab.write(&format!("locked/{n}"), noise(n, 99))));
    days.next(0);
    all.iter().for_each(|folder| fs::remove_dir_all(folder).unwrap());
    let (_, report) = days.next(3);
    assert!(suspicious(&report).contains("bit by bit"), "{report:#}");
    assert!(days.stored().contains(good.last().unwrap()));
}

#[test]
fn what_a_person_said_outlasts_the_generation_that_it_was_said_of() {
    let mut days = Days::new("keep = { last = 2, weekly = 2 }\nundo_for = \"0s\"");
    days.each_file(|_, path| fs::remove_file(path).unwrap());
    (8..10).for_each(|day| turn(&days, day));
    let mut trusted = Vec::new();
    for day in 10..70 {
        turn(&days, day);
        days.day += 1;
        days.run(&["source"], 0);
        let ran = days.ran(&["sink", "--json"]);
        if ran.code == 3 {
            assert!(suspicious(&ran.json()).contains("bit by bit"), "{}", ran.out);
            days.run(&["sink", "trust", "shop"], 0);
            trusted.push(days.stored().pop().unwrap());
        } else {
            ran.exits(0);
        }
    }
    assert_eq!(trusted.len(), 2, "{trusted:?}");
    let stored = days.stored();
    assert!(!stored.contains(&trusted[0]) && stored.len() <= 4, "{stored:?}");
}

#[test]
fn one_word_of_a_person_makes_nothing_usual_and_a_word_each_day_does() {
    let mut days = Days::new("keep = 9");
    days.good(4);
    days.each_file(|n, path| fs::write(path, noise(n, 0)).unwrap());
    for _ in 0..5 {
        days.next(3);
    }
    days.run(&["sink", "trust", "shop"], 0);
    days.next(0);
    days.each_file(|n, path| fs::write(path, noise(n, 1)).unwrap());
    let (_, report) = days.next(3);
    assert!(suspicious(&report).contains("www has changed"), "{report:#}");
    // Another one every day, and a person who looks every day.
    let mut days = Days::new("keep = 9");
    days.good(4);
    let mut words = 0;
    for day in 0..12 {
        days.each_file(|n, path| fs::write(path, noise(n, day)).unwrap());
        days.day += 1;
        days.run(&["source"], 0);
        if days.ran(&["sink"]).code == 3 {
            days.run(&["sink", "trust", "shop"], 0);
            words += 1;
            assert_eq!(words, day + 1, "once it is usual it stays so");
        }
    }
    assert_eq!(words, 4);
}

#[test]
fn what_shrinks_every_day_is_not_usual_in_every_other_way() {
    let mut days = Days::new("keep = 9");
    days.each_file(|_, path| fs::remove_file(path).unwrap());
    let mut left = 480;
    (0..left).for_each(|n| drop(days.lab.write(&format!("queue/{n}"), text(n))));
    let queue = days.lab.path("tree/queue");
    for _ in 0..4 {
        days.next(0);
        (left / 2..left).for_each(|n| fs::remove_file(queue.join(n.to_string())).unwrap());
        left /= 2;
    }
    (0..left).for_each(|n| fs::write(queue.join(n.to_string()), noise(n, 0)).unwrap());
    let (_, report) = days.next(3);
    assert!(suspicious(&report).contains("www has changed"), "{report:#}");
}

#[test]
fn marks_that_cannot_be_read_are_taken_for_a_suspicion() {
    let mut days = Days::new("keep = 2\nundo_for = \"0s\"");
    let good = days.good(4).pop().unwrap();
    days.each_file(|n, path| fs::write(path, noise(n, 0)).unwrap());
    let (bad, _) = days.next(3);
    let folder = days.lab.path("sink/store/shop").join(&bad);
    let marks = folder.join("marks.toml");
    let text = fs::read_to_string(&marks).unwrap();
    fs::write(&marks, "format = 1\nsuspici").unwrap();
    days.each_file(|n, path| fs::write(path, noise(n, 0)).unwrap());
    for _ in 0..3 {
        let (_, report) = days.next(3);
        assert!(suspicious(&report).contains("nothing of this source goes"), "{report:#}");
    }
    assert!(days.stored().contains(&good), "{:?}", days.stored());
    days.run(&["sink", "status"], 0).says(&["frozen", &bad]);
    days.run(&["sink", "trust", "shop"], 0);
    let (_, report) = days.next(3);
    assert!(suspicious(&report).contains(&format!("{bad} cannot be read")), "{report:#}");
    assert!(days.stored().contains(&good));
    // Marks that can be read and a generation that cannot: what they say counts.
    fs::write(&marks, text).unwrap();
    fs::write(folder.join("generation.toml"), "").unwrap();
    let (_, report) = days.next(3);
    assert!(suspicious(&report).contains("www has changed"), "{report:#}");
    assert!(days.stored().contains(&good));
    fs::rename(&folder, days.lab.path("aside")).unwrap();
    days.next(0);
    assert!(!days.stored().contains(&good));
}
