//! Elements: what is left out, and a failure of one that leaves the others alone.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Lab, NOBODY, findings, id_of, names};

/// A good element beside the one that is tried.
const GOOD: &str = "[[source.element]]\nname = \"good\"\nkind = \"dump\"\ncommand = [\"echo\", \"well\"]\nfile = \"good.txt\"\n";

fn dump(keys: &str) -> String {
    format!("{GOOD}[[source.element]]\nname = \"db\"\nkind = \"dump\"\nfile = \"db.dump\"\n{keys}\n")
}

fn tree(keys: &str) -> String {
    format!("{GOOD}[[source.element]]\nname = \"www\"\nkind = \"tree\"\n{keys}\n")
}

fn element<'a>(report: &'a Value, name: &str) -> &'a Value {
    let elements = report["generation"]["elements"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    elements.iter().find(|e| e["name"] == name).unwrap()
}

/// Runs the source: only `name` fails, for a reason with these words; all else is handed over, and says so itself.
#[track_caller]
fn fails_alone(lab: &Lab, name: &str, words: &[&str]) -> String {
    lab.init();
    let report = lab.source(3);
    assert_eq!(report["exit"], "some-failed");
    let failed = element(&report, name);
    assert_eq!(failed["ok"], false);
    assert_eq!(element(&report, "good")["ok"], true);
    let reason = failed["reason"].as_str().unwrap();
    let id = id_of(&report);
    let toml: toml::Table =
        lab.text(format!("home/transport-outgoing/{id}/generation.toml")).parse().unwrap();
    let noted =
        toml["element"].as_array().unwrap().iter().find(|e| e["name"].as_str() == Some(name)).unwrap();
    assert_eq!(noted["ok"].as_bool(), Some(false));
    assert_eq!(noted["reason"].as_str(), Some(reason));
    let said = findings(&report, "failed").concat();
    for word in words {
        assert!(reason.contains(word), "`{word}` is missing in: {reason}");
        assert!(said.contains(word), "`{word}` is missing in: {said}");
    }
    assert_eq!(lab.text(format!("home/transport-outgoing/{id}/data/good/good.txt")), "well\n");
    id
}

#[test]
fn patterns_leave_out_what_they_name_and_nothing_else() {
    let lab = Lab::new();
    for name in
        ["keep.txt", "a.tmp", "keep.tmp", "cache/x", "sub/cache/y", "top", "sub/top", "sub/deep/z.log"]
    {
        lab.write(name, name);
    }
    lab.config("", &tree("paths = [\"{lab}/tree\"]\nexclude = [\"*.tmp\", \"!keep.tmp\", \"cache/\", \"/top\", \"sub/**/*.log\"]"), "");
    let id = lab.init().both();
    let stored = lab.stored(format!("home/store/{id}"), "");
    assert_eq!(names(&stored), ["keep.tmp", "keep.txt", "sub"]);
    assert_eq!(names(&stored.join("sub")), ["deep", "top"]);
    assert_eq!(names(&stored.join("sub/deep")), [""; 0]);
    let manifest = lab.text(format!("home/store/{id}/manifest.mtree"));
    assert!(!manifest.contains("cache") && manifest.contains("sub/deep"), "{manifest}");
}

#[test]
fn a_folder_with_a_cache_tag_keeps_only_the_tag_when_asked() {
    let lab = Lab::new();
    lab.write("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# of a program");
    lab.write("cache/big", "x");
    lab.write("false/CACHEDIR.TAG", "no signature");
    lab.write("false/kept", "x");
    lab.config("", &tree("paths = [\"{lab}/tree\"]\nexclude_caches = true"), "");
    let id = lab.init().both();
    let stored = lab.stored(format!("home/store/{id}"), "");
    assert_eq!(names(&stored.join("cache")), ["CACHEDIR.TAG"]);
    assert_eq!(names(&stored.join("false")), ["CACHEDIR.TAG", "kept"]);
}

/// A file system in memory, unmounted when it goes.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    fn new(at: &'a Path) -> Self {
        fs::create_dir_all(at).unwrap();
        assert!(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(at).status().unwrap().success());
        Self(at)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(self.0).status().unwrap().success());
    }
}

#[test]
fn another_file_system_is_left_out_and_named_unless_asked_for() {
    let lab = Lab::new();
    lab.write("file", "x");
    let at = lab.path("tree/mounted");
    let _mount = Mount::new(&at);
    fs::write(at.join("inside"), "y").unwrap();
    lab.init();
    let report = lab.source(0);
    let notes = findings(&report, "note").concat();
    assert!(notes.contains("tree/mounted is on another file system and was left out"), "{notes}");
    let stored = lab.stored(format!("home/transport-outgoing/{}", id_of(&report)), "mounted");
    assert_eq!(names(&stored), [""; 0]);
    lab.config("", &tree("paths = [\"{lab}/tree\"]\none_file_system = false"), "");
    let report = lab.source(4);
    let stored = lab.stored(format!("home/transport-outgoing/{}", id_of(&report)), "mounted");
    assert_eq!(names(&stored), ["inside"]);
}

#[test]
fn a_path_that_is_missing_fails_its_element_alone() {
    let lab = Lab::new();
    lab.write("there", "x");
    lab.config("", &tree("paths = [\"{lab}/tree\", \"{lab}/gone\"]"), "");
    let id = fails_alone(&lab, "www", &["/gone does not exist", "is it mounted"]);
    assert!(lab.stored(format!("home/transport-outgoing/{id}"), "there").exists());
}

#[test]
fn a_path_that_is_a_link_fails_its_element_and_says_where_to_go() {
    let lab = Lab::new();
    std::os::unix::fs::symlink("tree", lab.path("alias")).unwrap();
    lab.config("", &tree("paths = [\"{lab}/alias\"]"), "");
    fails_alone(&lab, "www", &["/alias is a symbolic link: name the path that it leads to"]);
}

#[test]
fn a_link_on_the_way_to_a_path_fails_its_element() {
    let lab = Lab::new();
    lab.write("sub/file", "x");
    std::os::unix::fs::symlink("tree", lab.path("alias")).unwrap();
    lab.config("", &tree("paths = [\"{lab}/alias/sub\"]"), "");
    fails_alone(&lab, "www", &["/alias is a symbolic link"]);
}

#[test]
fn an_empty_path_fails_its_element_unless_it_may_be_empty() {
    let lab = Lab::new();
    lab.config("", &tree("paths = [\"{lab}/tree\"]"), "");
    fails_alone(&lab, "www", &["is empty: is it mounted", "allow_empty = true"]);
    lab.config("", &tree("paths = [\"{lab}/tree\"]\nallow_empty = true"), "");
    lab.source(4);
}

#[test]
fn a_file_that_cannot_be_read_fails_its_element_alone() {
    let lab = Lab::of_user(NOBODY);
    let secret = lab.write("secret", "x");
    lab.write("open", "y");
    std::os::unix::fs::chown(&secret, Some(0), Some(0)).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    lab.config("", &tree("paths = [\"{lab}/tree\"]"), "");
    let id = fails_alone(&lab, "www", &["tree/secret", "Permission denied"]);
    assert!(lab.stored(format!("home/transport-outgoing/{id}"), "open").exists());
}

#[test]
fn a_dump_that_fails_is_told_with_its_last_words() {
    let lab = Lab::new();
    lab.config("", &dump("command = [\"sh\", \"-c\", \"echo half; echo no such database >&2; exit 7\"]"), "");
    let id = fails_alone(&lab, "db", &["exit code 7", "no such database"]);
    let half = lab.path(format!("home/transport-outgoing/{id}/data/db/db.dump"));
    assert!(!half.exists(), "half a dump must not look like one");
}

#[test]
fn a_dump_by_a_program_that_is_not_there_says_so() {
    let lab = Lab::new();
    lab.config("", &dump("command = [\"pg_dump_of_nowhere\"]"), "");
    fails_alone(&lab, "db", &["cannot start pg_dump_of_nowhere", "install it"]);
}

#[test]
fn an_empty_dump_is_no_dump() {
    let lab = Lab::new();
    lab.config("", &dump("command = [\"true\"]"), "");
    fails_alone(&lab, "db", &["the dump has 0 bytes"]);
}

#[test]
fn a_dump_smaller_than_min_size_is_no_dump() {
    let lab = Lab::new();
    lab.config("", &dump("command = [\"echo\", \"x\"]\nmin_size = \"1KiB\""), "");
    fails_alone(&lab, "db", &["min_size"]);
}

#[test]
fn a_dump_that_its_check_refuses_is_no_dump() {
    let lab = Lab::new();
    let keys = "command = [\"echo\", \"x\"]\ncheck = [\"sh\", \"-c\", \"grep -q y || { echo not a dump >&2; exit 3; }\"]";
    lab.config("", &dump(keys), "");
    fails_alone(&lab, "db", &["not a dump", "exit code 3"]);
    lab.config("", &dump(&keys.replace("grep -q y", "grep -q x")), "");
    lab.source(4);
}

#[test]
fn a_dump_that_hangs_is_ended_with_all_its_children() {
    let lab = Lab::new();
    let keys = "command = [\"sh\", \"-c\", \"echo begun; sleep 987654 & wait\"]\ntimeout = \"1s\"";
    lab.config("", &dump(keys), "");
    let begun = Instant::now();
    fails_alone(&lab, "db", &["did not end within 1 s"]);
    assert!(begun.elapsed() < Duration::from_secs(120));
    assert_eq!(crate::harness::processes_with("987654"), [""; 0]);
}

#[test]
fn a_dump_into_a_file_is_taken_and_leaves_nothing_behind() {
    let lab = Lab::new();
    lab.config("", &dump("command = [\"sh\", \"-c\", \"echo content > $0\", \"{file}\"]"), "");
    let id = lab.init().both();
    assert_eq!(lab.text(format!("sink/store/shop/{id}/data/db/db.dump")), "content\n");
    assert_eq!(names(&lab.path("state/source/scratch")), [""; 0]);
}

#[test]
fn a_dump_runs_as_the_user_that_was_named() {
    let lab = Lab::new();
    lab.config("", &dump("user = \"nobody\"\ncommand = [\"id\", \"-u\"]"), "");
    let id = lab.init().both();
    assert_eq!(lab.text(format!("sink/store/shop/{id}/data/db/db.dump")), "65534\n");
}

#[test]
fn when_no_element_gives_anything_nothing_is_handed_over() {
    let lab = Lab::new();
    lab.config(
        "",
        "[[source.element]]\nname = \"db\"\nkind = \"dump\"\nfile = \"d\"\ncommand = [\"false\"]",
        "",
    );
    lab.init();
    let report = lab.source(3);
    assert_eq!(report["generation"], Value::Null);
    assert_eq!(lab.waiting(), [""; 0]);
    assert_eq!(names(&lab.path("home/collecting")), [""; 0]);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_taken_and_said_to_be_unstable() {
    let lab = Lab::new();
    let path = lab.write("log", vec![b'x'; 200 << 20]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write as _;
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                file.write_all(b"more\n").unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        lab.init();
        let report = lab.source(0);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        report
    });
    assert_eq!(element(&report, "www")["unstable"], 1);
    let warnings = findings(&report, "warning").concat();
    assert!(warnings.contains("kept changing while") && warnings.contains("tree/log"), "{warnings}");
    // It is whole for all that: what was read is what was hashed.
    lab.sink(0);
    lab.run(&["sink", "verify"]).exits(0);
}

#[test]
fn hooks_run_before_and_after_and_a_failure_before_stops_the_run() {
    let lab = Lab::new();
    lab.write("file", "x");
    let log = |word: &str| format!("[\"sh\", \"-c\", \"echo {word} $HANDOVER_SOURCE >> {{lab}}/log\"]");
    let keys = |before: &str| format!("before = [{before}]\nafter = [{}]", log("after"));
    lab.config(&keys(&log("before")), crate::harness::TREE, "");
    lab.init();
    lab.source(0);
    assert_eq!(lab.text("log"), "before shop\nafter shop\n");
    let before = lab.waiting();
    lab.config(&keys("[\"false\"]"), crate::harness::TREE, "");
    let report = lab.source(3);
    assert!(findings(&report, "failed").concat().contains("nothing was collected"));
    assert_eq!(lab.waiting(), before);
    assert_eq!(lab.text("log"), "before shop\nafter shop\nafter shop\n", "`after` runs whatever happened");
    lab.config(&format!("after = [[\"false\"], {}]", log("second")), crate::harness::TREE, "");
    let report = lab.source(3);
    assert!(findings(&report, "failed").concat().contains("a command of `after` failed"));
    assert!(lab.text("log").ends_with("second shop\n"), "a failure does not stop the rest of `after`");
    assert_eq!(lab.waiting().len(), 2, "what was collected is handed over");
}
