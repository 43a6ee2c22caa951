//! The provider's tier: the whole host, copied file by file at any instant, while handover works on it.
//!
//! A provider copies what it finds, one file after the other, and takes no notice of what is going on. Of a generation that
//! is moved or deleted meanwhile it may get a part. What must hold: each copy has a whole generation that is not older than
//! the one before the copy began, with `keep = 1`; and what is only a part is recognised and named.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Condvar, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::harness::{Lab, names};

/// Copies of each of the two homes.
const COPIES: u64 = 30;
/// More are taken only until enough of them were torn.
const AT_MOST: u64 = 200;

/// A copy, and which round was done when it began.
struct Copy {
    path: PathBuf,
    newest: u64,
}

/// Lets one round overlap with a copy, and not a second.
#[derive(Default)]
struct Day {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    done: u64,
    working: bool,
    copying: bool,
    rounds_left: u64,
    over: bool,
}

impl Day {
    /// Waits until a round may begin; not if all is over.
    fn begin_round(&self) -> bool {
        let may = |now: &mut Now| !now.over && now.copying && now.rounds_left == 0;
        let mut now = self.changed.wait_while(self.now.lock().unwrap(), may).unwrap();
        now.rounds_left = now.rounds_left.saturating_sub(1);
        now.working = !now.over;
        now.working
    }

    fn end_round(&self, number: u64) {
        let mut now = self.now.lock().unwrap();
        (now.done, now.working) = (number, false);
    }

    fn begin_copy(&self) -> u64 {
        let mut now = self.now.lock().unwrap();
        (now.copying, now.rounds_left) = (true, u64::from(!now.working));
        now.done
    }

    fn end_copy(&self) {
        self.now.lock().unwrap().copying = false;
        self.changed.notify_all();
    }

    fn end(&self) {
        self.now.lock().unwrap().over = true;
        self.changed.notify_all();
    }
}

#[test]
fn every_copy_of_the_hosts_holds_a_whole_generation_not_older_than_the_one_before() {
    let lab = Lab::in_memory();
    // A copy takes seconds here and hours at a provider's: what was condemned stays longer than that.
    lab.config("keep = 1\nundo_for = \"20s\"", crate::harness::TREE, "keep = 1\nundo_for = \"20s\"");
    for file in 0..40 {
        lab.write(&format!("folder {}/file {file}", file % 4), format!("{file}\n").repeat(200));
    }
    lab.init();
    // The tier has something to go back to from the second day on.
    round(&lab, 0);
    round(&lab, 1);

    let day = Day::default();
    day.end_round(1);
    let copies = thread::scope(|scope| {
        let working = scope.spawn(|| {
            for number in 2.. {
                if !day.begin_round() {
                    break;
                }
                round(&lab, number);
                day.end_round(number);
            }
        });
        let copies = take_copies(&lab, &day, || working.is_finished());
        day.end();
        working.join().unwrap();
        copies
    });

    let (mut whole, mut torn) = (0, 0);
    for copy in &copies {
        for home in ["home", "sink"] {
            let (good, bad) = held(&lab, copy, home);
            whole += good;
            torn += bad;
        }
    }
    println!(
        "{} copies during {} rounds: {whole} whole generations, {torn} torn ones, each named; from every copy a \
         whole one came back that was not older than the day before",
        2 * copies.len(),
        day.now.lock().unwrap().done
    );
    assert!(copies.len() as u64 >= COPIES);
    assert!(torn > 0, "no copy was torn: the test shows nothing");
}

#[test]
fn a_copy_of_a_sink_is_looked_at_on_a_host_that_is_no_source() {
    let lab = Lab::in_memory();
    lab.init();
    round(&lab, 0);
    lab.config_text("state = \"{lab}/other\"\n[sink]\nhome = \"{lab}/other-sink\"\n");
    let from = lab.path("sink");
    let list = ["restore", "list", "--verify", "--json", "--from", from.to_str().unwrap()];
    let listed = lab.run(&list).exits(0).json();
    assert_eq!(listed["candidates"][0]["condition"], "whole", "{listed:#}");
    fs::remove_file(
        from.join("store/shop").join(&names(&from.join("store/shop"))[0]).join("generation.toml"),
    )
    .unwrap();
    let listed = lab.run(&list).exits(13).json();
    assert!(listed["candidates"][0]["torn"][0].as_str().unwrap().contains("generation.toml"), "{listed:#}");
}

/// One day: the data changes, is collected, fetched, moved and pruned.
fn round(lab: &Lab, number: u64) {
    lab.write("round", number.to_string());
    lab.write(&format!("folder {}/changed", number % 4), number.to_string().repeat(3000));
    lab.run(&["source", "run"]).exits(0);
    lab.run(&["sink", "run"]).exits(0);
}

fn take_copies(lab: &Lab, day: &Day, over: impl Fn() -> bool) -> Vec<Copy> {
    let mut copies = Vec::new();
    let mut torn = 0;
    while (copies.len() as u64) < COPIES || (torn == 0 && (copies.len() as u64) < AT_MOST) {
        assert!(!over(), "a round failed");
        // Arbitrary instants of a round, which takes some tenths of a second.
        thread::sleep(Duration::from_millis(copies.len() as u64 * 37 % 200));
        let path = lab.path(format!("provider/{}", copies.len()));
        let newest = day.begin_copy();
        for home in ["home", "sink"] {
            copy(&lab.path(home), &path.join(home));
        }
        day.end_copy();
        torn += half_folders(&path);
        copies.push(Copy { path, newest });
    }
    copies
}

/// Generations of a copy that have no `generation.toml`: a hint only, so that enough copies are taken.
fn half_folders(copy: &Path) -> u64 {
    ["home/transport-outgoing", "home/store", "home/condemned", "sink/store/shop", "sink/condemned/shop"]
        .iter()
        .flat_map(|place| names(&copy.join(place)).into_iter().map(move |id| copy.join(place).join(id)))
        .filter(|generation| !generation.join("generation.toml").exists())
        .count() as u64
}

/// Copies a folder as a backup program does that knows nothing of what is in it: names first, then one after the other;
/// what is gone by then is left out. Hard links become files.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let Ok(entries) = fs::read_dir(from) else { return };
    for entry in entries.flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let Ok(stat) = fs::symlink_metadata(&path) else { continue };
        if stat.is_dir() {
            copy(&path, &target);
        } else if stat.is_file() {
            // A provider is slower than memory: this is what makes the instants arbitrary.
            thread::sleep(Duration::from_micros(20 + stat.ino() % 7 * 30));
            if fs::copy(&path, &target).is_err() {
                let _ = fs::remove_file(&target);
            }
        } else {
            assert!(!stat.file_type().is_block_device(), "{}", path.display());
        }
    }
}

/// What `restore list` finds in one home of a copy (whole, torn), having restored the newest whole one.
fn held(lab: &Lab, copy: &Copy, home: &str) -> (u64, u64) {
    let from = copy.path.join(home);
    let listed = lab.run(&["restore", "list", "--verify", "--json", "--from", from.to_str().unwrap()]);
    let (code, listed) = (listed.code, listed.json());
    let candidates = listed["candidates"].as_array().unwrap();
    let is_whole = |c: &&Value| c["torn"].as_array().unwrap().is_empty();
    let torn: Vec<&Value> = candidates.iter().filter(|c| !is_whole(c)).collect();
    assert_eq!(code, if torn.is_empty() { 0 } else { 13 }, "{listed:#}");
    for one in &torn {
        assert!(
            !one["place"].as_str().unwrap().is_empty() && !one["torn"][0].as_str().unwrap().is_empty(),
            "{one:#}"
        );
    }

    let newest = candidates
        .iter()
        .find(is_whole)
        .unwrap_or_else(|| panic!("{}: nothing whole: {listed:#}", from.display()));
    assert_eq!(newest["condition"], "whole", "{newest:#}");
    let to = lab.path("out");
    let place = newest["place"].as_str().unwrap();
    lab.run(&["restore", "newest", "--from", place, "--to", to.to_str().unwrap()]).exits(0);
    let tree = crate::harness::below(&to, &lab.path("tree"));
    let number: u64 = fs::read_to_string(tree.join("round")).unwrap().parse().unwrap();
    let newest = copy.newest;
    assert!(
        (newest - 1..=newest + 1).contains(&number),
        "{}: round {number} came back, and {newest} was done when the copy began",
        from.display()
    );
    // All of it is of that one round.
    let changed = fs::read_to_string(tree.join(format!("folder {}/changed", number % 4))).unwrap();
    assert_eq!(changed, number.to_string().repeat(3000));
    assert_eq!(fs::read_dir(tree.join("folder 1")).unwrap().count(), if number > 0 { 11 } else { 10 });
    fs::remove_dir_all(&to).unwrap();
    ((candidates.len() - torn.len()) as u64, torn.len() as u64)
}
