//! Damage in the store: found, named, and mended with as little as is needed.

use std::{
    fs::{self, File, FileTimes},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

/// A source and a sink in a folder.
struct Hosts {
    top: TempDir,
}

impl Hosts {
    fn new(files: &[&str]) -> Self {
        let this = Self { top: tempfile::tempdir().unwrap() };
        fs::create_dir(this.path("app")).unwrap();
        for name in files {
            fs::write(this.path("app").join(name), format!("content of {name}")).unwrap();
        }
        let top = this.top.path().display();
        let text = format!(
            "state = \"{top}/state\"\n\
             [source]\nname = \"shop\"\nhome = \"{top}/source\"\nreserve = 0\n\
             [[source.element]]\nname = \"www\"\nkind = \"tree\"\npaths = [\"{top}/app\"]\n\
             [sink]\nhome = \"{top}/sink\"\nreserve = 0\n\
             [[sink.source]]\nname = \"shop\"\npath = \"{top}/source\"\n"
        );
        fs::write(this.path("handover.toml"), text).unwrap();
        this.run(&["source", "init"], 0);
        this.run(&["sink", "init"], 0);
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// Runs handover, which must end with this code, and gives what it printed as JSON.
    fn run(&self, args: &[&str], code: i32) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_handover"))
            .args(["--json", "--config"])
            .arg(self.path("handover.toml"))
            .args(args)
            .env_remove("STATE_DIRECTORY")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Collects and fetches; gives the id, and how many files were fetched.
    fn back_up(&self) -> (String, u64) {
        self.run(&["source"], 0);
        let report = self.run(&["sink"], 0);
        let stored = &report["sources"][0]["stored"][0];
        (stored["id"].as_str().unwrap().to_owned(), stored["fetched"].as_u64().unwrap())
    }

    fn stored(&self, id: &str, name: &str) -> PathBuf {
        let below = self.path("app").strip_prefix("/").unwrap().join(name);
        self.path("sink/store/shop").join(id).join("data/www").join(below)
    }
}

/// Changes a byte as a failing disk does: nothing but the content tells.
fn rot(file: &Path) {
    let open = File::options().read(true).write(true).open(file).unwrap();
    let before = open.metadata().unwrap().modified().unwrap();
    open.write_all_at(b"X", 3).unwrap();
    open.set_times(FileTimes::new().set_modified(before)).unwrap();
}

#[test]
fn one_damaged_file_is_found_in_every_generation_that_shares_it_and_it_alone_is_fetched_again() {
    let hosts = Hosts::new(&["a", "b", "c", "d"]);
    let (one, all) = hosts.back_up();
    let (two, none) = hosts.back_up();
    assert_eq!((all, none), (4, 0));
    let shared = hosts.stored(&two, "b");
    assert_eq!(fs::metadata(&shared).unwrap().ino(), fs::metadata(hosts.stored(&one, "b")).unwrap().ino());
    rot(&shared);

    let verified = hosts.run(&["sink", "verify", "shop"], 13);
    let damaged = |report: &Value| report["damaged"].as_array().unwrap().len();
    let found: Vec<usize> = verified.as_array().unwrap().iter().map(damaged).collect();
    assert_eq!(found, [1, 1]);

    let (three, again) = hosts.back_up();
    assert_eq!(again, 1, "only what is damaged is fetched");
    assert_eq!(fs::read(hosts.stored(&three, "b")).unwrap(), b"content of b");
    assert_eq!(
        fs::metadata(hosts.stored(&three, "c")).unwrap().ino(),
        fs::metadata(hosts.stored(&one, "c")).unwrap().ino()
    );
    hosts.run(&["sink", "verify", "shop", &three], 0);
    // What was sealed and is damaged stays as it is, and is called so, until somebody has it put back.
    hosts.run(&["sink", "verify", "shop", &one], 13);
    // What would be put back is said, and nothing is changed, not even what is known of it.
    let marks = |id: &str| fs::read(hosts.path("sink/store/shop").join(id).join("marks.toml")).unwrap();
    let before = (marks(&one), marks(&three), fs::metadata(hosts.stored(&one, "b")).unwrap().ino());
    let planned = hosts.run(&["sink", "verify", "shop", "--heal", "--dry-run"], 13);
    let of: Vec<_> = planned
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["healed"].clone(), one["dry_run"].clone()))
        .collect();
    assert_eq!(of, [(1.into(), true.into()), (1.into(), true.into()), (0.into(), Value::Null)]);
    assert_eq!(before, (marks(&one), marks(&three), fs::metadata(hosts.stored(&one, "b")).unwrap().ino()));
    nothing_is_left_in_incoming(&hosts);
    let healed = hosts.run(&["sink", "verify", "shop", "--heal"], 0);
    let files: Vec<u64> =
        healed.as_array().unwrap().iter().map(|one| one["healed"].as_u64().unwrap()).collect();
    assert_eq!(files, [1, 1, 0]);
    let inode = |id: &str| fs::metadata(hosts.stored(id, "b")).unwrap().ino();
    assert_eq!((inode(&one), inode(&two)), (inode(&three), inode(&three)), "the good one is shared again");
    let status = hosts.run(&["sink", "status"], 0).to_string();
    assert!(status.contains(&one) || status.contains("shop"), "{status}");
    assert!(!status.contains("damaged: "), "{status}");
}

/// Every copy of a file below a folder.
fn copies(folder: &Path, name: &str) -> Vec<PathBuf> {
    let (mut found, mut pending) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else if entry.file_name() == name {
                found.push(entry.path());
            }
        }
    }
    found
}

/// Makes the source forget what it had: from here on it neither answers nor helps.
fn out_of_reach(hosts: &Hosts) {
    fs::rename(hosts.path("source"), hosts.path("source-is-down")).unwrap();
}

fn nothing_is_left_in_incoming(hosts: &Hosts) {
    let left: Vec<_> = fs::read_dir(hosts.path("sink/incoming/shop")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_no_other_generation_has_whole_is_healed_from_the_source_while_it_has_it() {
    let hosts = Hosts::new(&["a", "b"]);
    let (one, _) = hosts.back_up();
    let (two, _) = hosts.back_up();
    rot(&hosts.stored(&two, "a"));
    let bad = fs::metadata(hosts.stored(&two, "a")).unwrap().ino();
    let healed = hosts.run(&["sink", "verify", "shop", "--heal"], 0);
    for verified in healed.as_array().unwrap() {
        assert_eq!(
            (verified["healed"].as_u64(), verified["whole"].as_bool()),
            (Some(1), Some(true)),
            "{healed:#}"
        );
    }
    for id in [&one, &two] {
        let file = hosts.stored(id, "a");
        assert_eq!(fs::read(&file).unwrap(), b"content of a");
        let meta = fs::metadata(&file).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.ino() == bad), (0o440, false));
    }
    nothing_is_left_in_incoming(&hosts);
    hosts.run(&["sink", "verify", "shop"], 0);
}

#[test]
fn what_is_rotten_at_the_source_too_stays_marked_and_is_said() {
    let hosts = Hosts::new(&["a", "b"]);
    let (one, _) = hosts.back_up();
    rot(&hosts.stored(&one, "a"));
    let there = copies(&hosts.path("source/store"), "a");
    assert_eq!(there.len(), 1);
    rot(&there[0]);
    let left = hosts.run(&["sink", "verify", "shop", "--heal"], 13);
    assert_eq!((left[0]["healed"].as_u64(), left[0]["whole"].as_bool()), (Some(0), Some(false)), "{left:#}");
    assert!(left[0]["source_said"].as_str().unwrap().contains("damaged or gone too"), "{left:#}");
    assert!(left[0]["next"].as_str().unwrap().contains("--from DIR"), "{left:#}");
    assert_ne!(fs::read(hosts.stored(&one, "a")).unwrap(), b"content of a");
    nothing_is_left_in_incoming(&hosts);
    let status = hosts.run(&["sink", "status"], 0).to_string();
    assert!(status.contains(&format!("damaged: {one}")), "{status}");
}

#[test]
fn a_copy_that_the_provider_gave_back_heals_when_nobody_else_can_and_none_of_its_tricks_is_believed() {
    let hosts = Hosts::new(&["a", "b", "c", "d"]);
    let (one, _) = hosts.back_up();
    let copy = hosts.path("given-back");
    assert!(Command::new("cp").arg("-a").arg(hosts.path("sink")).arg(&copy).status().unwrap().success());
    out_of_reach(&hosts);
    for name in ["a", "b", "c", "d"] {
        rot(&hosts.stored(&one, name));
    }
    let left = hosts.run(&["sink", "verify", "shop", "--heal"], 13);
    assert!(left[0]["source_said"].as_str().unwrap().contains("its gate cannot be opened"), "{left:#}");
    hosts.run(&["sink", "verify", "shop", "--heal", "--from", hosts.path("app").to_str().unwrap()], 2);
    // The copy is rotten in one file, has a link to the right content in place of another, and a fifo in that of a third.
    let of_copy = |name: &str| copies(&copy.join("store"), name).remove(0);
    rot(&of_copy("b"));
    fs::remove_file(of_copy("c")).unwrap();
    fs::remove_file(of_copy("d")).unwrap();
    let below = of_copy("a").parent().unwrap().to_owned();
    std::os::unix::fs::symlink(hosts.path("app/c"), below.join("c")).unwrap();
    assert!(Command::new("mkfifo").arg(below.join("d")).status().unwrap().success());
    let from = copy.to_str().unwrap();
    let planned = hosts.run(&["sink", "verify", "shop", "--heal", "--dry-run", "--from", from], 13);
    assert_eq!((&planned[0]["healed"], &planned[0]["dry_run"]), (&1.into(), &true.into()), "{planned:#}");
    assert_ne!(fs::read(hosts.stored(&one, "a")).unwrap(), b"content of a");
    nothing_is_left_in_incoming(&hosts);
    let healed = hosts.run(&["sink", "verify", "shop", "--heal", "--from", from], 13);
    assert_eq!(healed[0]["healed"], 1, "{healed:#}");
    assert_eq!(healed[0]["damaged"].as_array().unwrap().len(), 3, "{healed:#}");
    assert_eq!(fs::read(hosts.stored(&one, "a")).unwrap(), b"content of a");
    assert_ne!(
        fs::metadata(hosts.stored(&one, "a")).unwrap().ino(),
        fs::metadata(of_copy("a")).unwrap().ino(),
        "a new inode"
    );
    // A good copy, named by its generation, has the rest.
    for name in ["b", "c", "d"] {
        let file = below.join(name);
        drop(fs::remove_file(&file));
        fs::copy(hosts.path("app").join(name), file).unwrap();
    }
    let generation = copy.join("store/shop").join(&one);
    let healed = hosts.run(&["sink", "verify", "shop", "--heal", "--from", generation.to_str().unwrap()], 0);
    assert_eq!(healed[0]["healed"], 3, "{healed:#}");
    nothing_is_left_in_incoming(&hosts);
}

#[test]
fn what_a_cut_healing_left_is_gone_after_the_next_run() {
    let hosts = Hosts::new(&["a"]);
    let (one, _) = hosts.back_up();
    let incoming = hosts.path("sink/incoming/shop");
    // Cut between the exchange and the removal: the damaged inode has only this name left.
    fs::write(incoming.join(".deleting-healing"), "conXent of a").unwrap();
    fs::create_dir(incoming.join(".deleting-fetched")).unwrap();
    fs::write(incoming.join(".deleting-fetched/a"), "half").unwrap();
    hosts.run(&["sink"], 0);
    nothing_is_left_in_incoming(&hosts);
    hosts.run(&["sink", "verify", "shop", &one], 0);
}

#[test]
fn what_nobody_has_whole_is_not_healed_and_said() {
    let hosts = Hosts::new(&["a", "b"]);
    let (one, _) = hosts.back_up();
    let (two, _) = hosts.back_up();
    out_of_reach(&hosts);
    rot(&hosts.stored(&two, "a"));
    let left = hosts.run(&["sink", "verify", "shop", "--heal"], 13);
    for verified in left.as_array().unwrap() {
        assert_eq!(
            (verified["healed"].as_u64(), verified["whole"].as_bool()),
            (Some(0), Some(false)),
            "{left:#}"
        );
    }
    fs::remove_file(hosts.stored(&one, "b")).unwrap();
    let healed = hosts.run(&["sink", "verify", "shop", &one, "--heal"], 13);
    assert_eq!(healed[0]["healed"], 1, "what is missing altogether is put back too");
    assert_eq!(fs::read(hosts.stored(&one, "b")).unwrap(), b"content of b");
    let newest = hosts.run(&["sink", "verify", "shop", "newest"], 13);
    assert_eq!(newest[0]["id"].as_str(), Some(two.as_str()));
}

#[test]
fn what_the_source_has_only_in_its_newest_generation_heals_all_that_share_it_at_once() {
    let hosts = Hosts::new(&["a", "b"]);
    let (one, _) = hosts.back_up();
    let (two, _) = hosts.back_up();
    // The source has let go of the first one.
    fs::remove_dir_all(hosts.path("source/store").join(&one)).unwrap();
    rot(&hosts.stored(&two, "a"));
    let healed = hosts.run(&["sink", "verify", "shop", "--heal"], 0);
    let ids: Vec<_> = healed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [one.as_str(), &two], "told in their order");
    assert_eq!((&healed[0]["healed"], &healed[1]["healed"]), (&1.into(), &1.into()), "{healed:#}");
    // A copy has one, the other is healed by that: whichever is looked at first.
    let copy = hosts.path("given-back");
    fs::create_dir(&copy).unwrap();
    let of_one = hosts.path("sink/store/shop").join(&one);
    assert!(Command::new("cp").arg("-a").arg(of_one).arg(&copy).status().unwrap().success());
    out_of_reach(&hosts);
    rot(&hosts.stored(&two, "b"));
    hosts.run(&["sink", "verify", "shop", "--heal", "--from", copy.to_str().unwrap()], 0);
}
