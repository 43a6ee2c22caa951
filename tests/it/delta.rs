//! Large files that changed a little: what changed crosses the wire, and where the disks share content, it alone is
//! written.

mod reflink;

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use handover::manifest::{
    Digest,
    delta::{Head, Writer},
};
use serde_json::Value;

use crate::harness::{Lab, TREE, below, findings, id_of, names};

const MIB: usize = 1 << 20;
/// The blocks in which files are compared.
const BLOCK: usize = 16 << 10;

/// Bytes that no compression makes small.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open("/dev/urandom").unwrap().take(length as u64).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Writes anew one block of a hundred, far from each other.
fn change(path: &Path, round: u8) {
    let file = File::options().write(true).open(path).unwrap();
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    for at in (0..length - BLOCK).step_by(100 * BLOCK) {
        file.write_all_at(&[round; BLOCK], at as u64).unwrap();
    }
}

/// What the last run said of its only fetched generation.
#[track_caller]
fn fetched(report: &Value) -> &Value {
    let stored = report["sources"][0]["stored"].as_array().unwrap();
    assert_eq!(stored.len(), 1, "{report:#}");
    &stored[0]
}

#[track_caller]
fn number(report: &Value, key: &str) -> u64 {
    fetched(report)[key].as_u64().unwrap_or_else(|| panic!("{key}: {report:#}"))
}

/// A lab with some large files, of which one generation is on both sides.
fn lab(large: &[&str]) -> Lab {
    let lab = Lab::new();
    lab.write("small", "small");
    for name in large {
        lab.write(name, noise(64 * MIB));
    }
    lab.init();
    lab.both();
    lab
}

/// The deltas that wait.
fn deltas(lab: &Lab, id: &str) -> Vec<PathBuf> {
    let folder = lab.path("home/transport-outgoing").join(id).join("delta");
    names(&folder).iter().map(|name| folder.join(name)).collect()
}

#[track_caller]
fn same_at_the_sink(lab: &Lab, files: &[&str]) {
    let restored = lab.restore(0);
    for name in files {
        let path = lab.path("tree").join(name);
        assert!(fs::read(restored.join(name)).unwrap() == fs::read(path).unwrap(), "{name}");
    }
}

#[test]
fn of_large_files_that_changed_grew_or_were_cut_what_changed_crosses_the_wire() {
    let files = ["changed", "grown", "cut", "moved/on"];
    let lab = lab(&files);
    change(&lab.path("tree/changed"), 1);
    let mut grown = fs::read(lab.path("tree/grown")).unwrap();
    grown.extend(noise(MIB));
    lab.write("grown", &grown);
    File::options().write(true).open(lab.path("tree/cut")).unwrap().set_len(40 * MIB as u64 + 77).unwrap();
    // Everything in it moved: blocks tell nothing, and rsync looks for it.
    let moved = fs::read(lab.path("tree/moved/on")).unwrap();
    lab.write("moved/on", [b"x", &moved[..]].concat());
    let id = id_of(&lab.source(0));
    assert_eq!(deltas(&lab, &id).len(), 3);
    // They are in nobody's way: what waits is restored as ever.
    let (from, to) = (lab.path("home/transport-outgoing"), lab.path("from-the-source"));
    let args = ["restore", "--from", from.to_str().unwrap(), "--to", to.to_str().unwrap()];
    lab.run(&args).exits(0);
    assert!(fs::read(below(&to, &lab.path("tree/grown"))).unwrap() == grown);
    let report = lab.sink(0);
    assert!(findings(&report, "warning").is_empty(), "{report:#}");
    assert_eq!((number(&report, "fetched"), number(&report, "patched")), (4, 3));
    let (wire, delta) = (number(&report, "wire"), number(&report, "delta_bytes"));
    // 41 blocks, 1 MiB that was added, and one block with an end of its own at most.
    let expected = (41 * (BLOCK + 8) + MIB + 2 * BLOCK) as u64;
    assert!(delta > MIB as u64 && delta < expected + 1000, "{delta} of {expected}");
    assert!(wire < delta + 700_000, "{wire}: the one that moved costs some checksums");
    let timings = report["sources"][0]["timings"].as_array().unwrap();
    assert!(timings.iter().any(|t| t["phase"] == "delta"), "{report:#}");
    same_at_the_sink(&lab, &files);
    // What was accepted has no need of them.
    assert!(!lab.path("home/store").join(&id).join("delta").exists());
    assert!(!lab.path("sink/store/shop").join(&id).join("delta").exists());
    assert!(names(&lab.path("sink/incoming/shop")).is_empty());
    lab.run(&["sink", "verify"]).exits(0);
}

#[test]
fn a_dump_that_grew_is_fetched_by_what_was_added() {
    let lab = Lab::new();
    lab.config(
        "",
        "[[source.element]]\nname = \"db\"\nkind = \"dump\"\ncommand = [\"cat\", \"{lab}/live\"]\nfile = \"db.dump\"",
        "",
    );
    let mut live = noise(20 * MIB);
    fs::write(lab.path("live"), &live).unwrap();
    lab.init();
    lab.both();
    live.extend(noise(MIB));
    fs::write(lab.path("live"), &live).unwrap();
    let id = id_of(&lab.source(0));
    assert_eq!(deltas(&lab, &id).len(), 1);
    let report = lab.sink(0);
    assert_eq!((number(&report, "fetched"), number(&report, "patched")), (1, 1), "{report:#}");
    assert!(number(&report, "wire") < 2 * MIB as u64, "{report:#}");
    lab.run(&["sink", "verify"]).exits(0);
    assert!(fs::read(lab.path("sink/store/shop").join(&id).join("data/db/db.dump")).unwrap() == live);
}

#[test]
fn generations_that_wait_behind_each_other_each_bring_what_changed_since_the_one_before() {
    let lab = lab(&["a"]);
    for round in 1..=2 {
        change(&lab.path("tree/a"), round);
        lab.source(if round == 1 { 0 } else { 4 });
    }
    let report = lab.sink(0);
    let stored = report["sources"][0]["stored"].as_array().unwrap();
    assert_eq!(stored.len(), 2);
    for one in stored {
        assert_eq!((one["fetched"].as_u64(), one["patched"].as_u64()), (Some(1), Some(1)), "{one}");
    }
    same_at_the_sink(&lab, &["a"]);
}

#[test]
fn where_no_sink_ever_took_anything_nothing_is_made_for_one() {
    let lab = Lab::new();
    lab.write("a", noise(17 * MIB));
    lab.init();
    lab.source(0);
    change(&lab.path("tree/a"), 1);
    let id = id_of(&lab.source(4));
    assert!(deltas(&lab, &id).is_empty());
}

/// Something that is done to the deltas that wait.
type Harm = fn(&Lab, &Path);

/// The deltas that wait, one large file, and what a sink makes of it.
fn harmed(harm: Harm) -> (Lab, Value) {
    let lab = lab(&["a"]);
    change(&lab.path("tree/a"), 1);
    let id = id_of(&lab.source(0));
    let deltas = deltas(&lab, &id);
    assert_eq!(deltas.len(), 1);
    harm(&lab, &deltas[0]);
    let report = lab.sink(0);
    assert_eq!(number(&report, "patched"), 0, "{report:#}");
    assert!(number(&report, "fetched") > 0, "{report:#}");
    same_at_the_sink(&lab, &["a"]);
    (lab, report)
}

/// Writes over a part of a delta.
fn overwrite(delta: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(delta).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn a_delta_that_is_torn_or_wrong_costs_one_warning_and_the_file_comes_as_a_whole() {
    let harms: [(Harm, &str); 4] = [
        (|_, delta| overwrite(delta, 100_000, b"turned"), "its checksum is wrong"),
        (
            |_, delta| {
                let file = File::options().write(true).open(delta).unwrap();
                file.set_len(file.metadata().unwrap().len() - 20_000).unwrap();
            },
            "cannot be read",
        ),
        (|_, delta| overwrite(delta, 0, b"something"), "no delta of this version"),
        (|_, delta| overwrite(delta, 49, &(1_u64 << 40).to_le_bytes()), "of other files"),
    ];
    for (harm, says) in harms {
        let (_lab, report) = harmed(harm);
        let warnings = findings(&report, "warning");
        assert_eq!(warnings.len(), 1, "{report:#}");
        assert!(warnings[0].contains(says) && warnings[0].contains("fetched as a whole"), "{warnings:?}");
    }
}

/// A delta that is well-formed, for the file that it is named for, and of this content.
fn forge(delta: &Path, base: Option<Digest>, blocks: &[u64]) {
    let name = delta.file_name().unwrap().as_encoded_bytes();
    let (_, named) = handover::manifest::delta::parse_name(name).unwrap();
    let head = Head { base: base.unwrap_or(named), length: 64 * MIB as u64, block: BLOCK as u32 };
    let mut writer = Writer::new(Vec::new(), &head).unwrap();
    blocks.iter().for_each(|at| writer.block(*at, &[6; BLOCK]).unwrap());
    fs::remove_file(delta).unwrap();
    fs::write(delta, writer.finish().unwrap()).unwrap();
}

#[test]
fn a_delta_that_lies_makes_nothing_but_the_file_that_was_sealed() {
    let harms: [(Harm, &str); 6] = [
        (|_, delta| forge(delta, None, &[0, 3 * BLOCK as u64]), "made something else of it"),
        (|_, delta| forge(delta, None, &[]), "made something else of it"),
        (|_, delta| forge(delta, Some(Digest::of(b"")), &[0]), "of other files"),
        (|_, delta| forge(delta, None, &[BLOCK as u64, 0]), "lies where none can be"),
        (|_, delta| forge(delta, None, &[64 * MIB as u64]), "lies where none can be"),
        // There is nothing but the head, and more than is worth fetching.
        (|_, delta| File::options().write(true).open(delta).unwrap().set_len(1 << 40).unwrap(), ""),
    ];
    let tried = harms.len();
    for (harm, says) in harms {
        let (lab, report) = harmed(harm);
        let warnings = findings(&report, "warning");
        assert_eq!(warnings.len(), usize::from(!says.is_empty()), "{says}: {report:#}");
        assert!(warnings.iter().all(|warning| warning.contains(says)), "{says}: {warnings:?}");
        assert!(names(&lab.path("sink/incoming/shop")).is_empty(), "{says}");
        lab.run(&["sink", "verify"]).exits(0);
    }
    crate::proof::proof("a delta that lies", tried, 0);
}

#[test]
fn a_link_or_a_folder_in_the_place_of_a_delta_is_none() {
    let harms: [Harm; 3] = [
        |_, delta| {
            fs::remove_file(delta).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", delta).unwrap();
        },
        |_, delta| {
            fs::remove_file(delta).unwrap();
            fs::create_dir(delta).unwrap();
        },
        |lab, delta| {
            let folder = delta.parent().unwrap();
            fs::rename(folder, lab.path("elsewhere")).unwrap();
            std::os::unix::fs::symlink(lab.path("elsewhere"), folder).unwrap();
        },
    ];
    for harm in harms {
        let (_lab, report) = harmed(harm);
        assert!(findings(&report, "warning").is_empty(), "{report:#}");
    }
}

#[test]
fn without_a_delta_as_from_an_older_source_the_file_comes_as_ever_and_nothing_is_said() {
    let (_lab, report) = harmed(|_, delta| fs::remove_dir_all(delta.parent().unwrap()).unwrap());
    assert!(findings(&report, "warning").is_empty(), "{report:#}");
}

#[test]
fn a_delta_whose_base_is_not_here_is_not_fetched() {
    // As at a second sink, or one that was set up anew.
    let (_lab, report) = harmed(|lab, _| {
        for id in names(&lab.path("sink/store/shop")) {
            fs::remove_dir_all(lab.path("sink/store/shop").join(id)).unwrap();
        }
    });
    assert!(findings(&report, "warning").is_empty(), "{report:#}");
}

#[test]
fn a_base_that_is_damaged_here_makes_something_else_and_the_file_itself_is_fetched() {
    let (_lab, report) = harmed(|lab, _| {
        let id = &names(&lab.path("sink/store/shop"))[0];
        let stored = lab.stored(format!("sink/store/shop/{id}"), "a");
        let file = File::options().write(true).open(stored).unwrap();
        // Not where the delta puts something.
        file.write_all_at(b"rotten", 30 * MIB as u64 + 5).unwrap();
    });
    let warnings = findings(&report, "warning");
    assert!(warnings.iter().any(|w| w.contains("its delta made something else of it")), "{report:#}");
}

#[test]
fn with_any_verify_what_was_made_of_a_delta_is_proven() {
    for verify in ["none", "transferred", "all"] {
        let lab = Lab::new();
        lab.config("", TREE, &format!("verify = \"{verify}\""));
        lab.write("a", noise(17 * MIB));
        lab.init();
        lab.both();
        change(&lab.path("tree/a"), 1);
        lab.source(0);
        let report = lab.sink(0);
        assert_eq!((number(&report, "patched"), number(&report, "hashed")), (1, 1), "{verify}: {report:#}");
        same_at_the_sink(&lab, &["a"]);
    }
}

#[test]
fn a_waiting_generation_that_is_given_up_gives_its_deltas_up_too() {
    let lab = Lab::new();
    lab.config("max_waiting = 1", TREE, "");
    lab.write("a", noise(17 * MIB));
    lab.init();
    lab.both();
    change(&lab.path("tree/a"), 1);
    let first = id_of(&lab.source(0));
    assert_eq!(deltas(&lab, &first).len(), 1);
    change(&lab.path("tree/a"), 2);
    let ran = lab.run(&["source", "--json"]);
    let second = id_of(&ran.json());
    assert!(lab.path("home/condemned").join(&first).join("data").is_dir(), "{ran:?}");
    assert!(!lab.path("home/condemned").join(&first).join("delta").exists());
    assert_eq!(deltas(&lab, &second).len(), 1);
    // Its base never arrived.
    let report = lab.sink(0);
    assert_eq!((number(&report, "fetched"), number(&report, "patched")), (1, 0));
    same_at_the_sink(&lab, &["a"]);
}
