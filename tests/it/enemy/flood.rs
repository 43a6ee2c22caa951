//! A hacked source that offers a thousand generations an hour, to push the good ones out.

use std::fs;

use handover::manifest::Generation;
use serde_json::{Value, json};

use super::{
    forge::Lie,
    gate::{Hosts, findings_of},
};
use crate::{harness::Ran, proof::proof};

const OFFERED: u32 = 1000;
const GOOD: [&str; 3] = ["20261101T000000Z", "20261101T000001Z", "20261101T000002Z"];

/// The digits of an id, so that what comes later is newer.
fn sequence(id: &str) -> u64 {
    id.bytes().filter(u8::is_ascii_digit).fold(0, |all, digit| all * 10 + u64::from(digit - b'0'))
}

fn numbered(generation: &mut Generation) {
    generation.sequence = sequence(generation.id.as_str());
}

/// Makes generations of the source `flood`, and an offer of each.
fn offer(hosts: &Hosts, ids: &[String]) {
    let (root, mut offers) = (hosts.lab.path("evil"), Vec::new());
    let folder = root.join("flood");
    let gens = hosts.lab.path("gens");
    fs::create_dir_all(&gens).unwrap();
    // What is beyond the day's number is never asked for: it is only said to be there.
    for (n, id) in ids.iter().enumerate() {
        if n < 6 {
            let id: &'static str = id.clone().leak();
            Lie::taken("flood").id(id).generation(numbered).forge(&root);
            let offers: Value =
                serde_json::from_slice(&fs::read(folder.join("offers.json")).unwrap()).unwrap();
            let seal = &offers["offers"][0]["seal"];
            fs::write(gens.join(format!("{id}.seal")), seal.as_str().unwrap()).unwrap();
            drop(fs::remove_dir_all(gens.join(id)));
            fs::rename(folder.join("gen"), gens.join(id)).unwrap();
        }
        let seal = fs::read_to_string(gens.join(format!("{id}.seal"))).unwrap_or_else(|_| "0".repeat(64));
        offers.push(
            json!({"id": id, "sequence": sequence(id), "seal": seal, "files": 1, "entries": 2, "bytes": 9,
            "manifest_bytes": 1000, "rejected": false, "reading": false}),
        );
    }
    let all = json!({"name": "flood", "lineage": "ab12", "channel": "data", "version": "0.1.0",
        "clock": jiff::Timestamp::now(), "offers": offers});
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("offers.json"), serde_json::to_vec(&all).unwrap()).unwrap();
    let line = "exec rsync --server --sender \"-IRS$6\" $LINE";
    for (part, place) in [("META", ""), ("DATA", "/data")] {
        fs::write(folder.join(format!("lie-send-{part}")), format!("cd ../../gens/$4{place} && {line}"))
            .unwrap();
    }
}

fn run(hosts: &Hosts, hour: u32) -> Ran {
    let mut command = hosts.lab.handover(&["sink", "run", "flood", "--json"]);
    Ran::new(&command.env("HANDOVER_CLOCK", format!("+{hour}h")).output().unwrap())
}

#[test]
fn a_thousand_generations_an_hour_push_no_good_one_out() {
    let lies = [Lie::taken("flood")];
    let hosts = Hosts::new(&lies, "keep = 2\nkeep_for = \"3d\"\nmax_per_day = 4\nundo_for = \"0s\"");
    offer(&hosts, &GOOD.map(str::to_owned));
    run(&hosts, 0).exits(0);
    assert_eq!(hosts.stored("flood"), GOOD);
    let (mut offered, mut lost, mut most) = (0, 0, 0);
    for hour in (8..72).step_by(8) {
        let id = |n: u32| format!("202611{:02}T{:02}{:02}{:02}Z", 2 + hour / 24, hour % 24, n / 60, n % 60);
        let ids: Vec<String> = (0..OFFERED).map(id).collect();
        offer(&hosts, &ids);
        let report = run(&hosts, hour).exits(3).json();
        let said = findings_of(&report, "flood");
        let told = said.iter().filter(|f| f["text"].as_str().unwrap().contains("max_per_day")).count();
        assert_eq!(told, 1, "{said:#?}");
        let stored = hosts.stored("flood");
        lost += GOOD.iter().filter(|good| !stored.iter().any(|id| id == *good)).count();
        (offered, most) = (offered + ids.len(), most.max(stored.len()));
    }
    proof("generations that a hacked source offered", offered, lost);
    assert_eq!(lost, 0, "{:?}", hosts.stored("flood"));
    // What is kept is bounded by the days of keep_for, not by what is offered.
    assert!((6..=4 * 4 + 2).contains(&most), "{most}");
}
