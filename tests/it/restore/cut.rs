//! A restore that is killed at any instant: the application has the old or the new, and the next run ends in one of them.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Host, hidden, live::Mounted};
use crate::{
    harness::{Lab, findings},
    proof::proof,
};

const ELEMENTS: &str = r#"
[[source.element]]
name = "www"
kind = "tree"
paths = ["{lab}/app/a", "{lab}/app/b"]
exclude = ["cache/"]
services = ["tomcat"]

[[source.element]]
name = "db"
kind = "dump"
command = ["cat", "{lab}/db/live"]
file = "db.dump"
target = "live"
restore = ["sh", "-c", "cat >{lab}/db/$1", "-", "{target}"]
probe = ["sh", "-c", "test -e {lab}/db/$1", "-", "{target}"]
promote = ["sh", "-c", "mv {lab}/db/$1 {lab}/db/live", "-", "{target}"]
discard = ["sh", "-c", "rm -f {lab}/db/$1", "-", "{target}"]
"#;

/// A host of which `old` is to be restored over `new`.
fn host() -> Host {
    let host = Host::with(Lab::in_memory(), ELEMENTS, "");
    fs::create_dir(host.lab.path("db")).unwrap();
    fill(&host, "old");
    let id = host.init().collect();
    host.deliver(&id);
    fill(&host, "new");
    host
}

fn fill(host: &Host, word: &str) {
    for tree in ["a", "b"] {
        for i in 0..40 {
            host.write(&format!("{tree}/folder {}/file {i}", i % 5), &format!("{word} {}", "x".repeat(2000)));
        }
        host.write(&format!("{tree}/only-{word}"), word);
        host.write(&format!("{tree}/cache/c"), "of now");
    }
    for tree in ["a", "b"] {
        let other = if word == "old" { "new" } else { "old" };
        let gone = host.app(&format!("{tree}/only-{other}"));
        if gone.exists() {
            fs::remove_file(gone).unwrap();
        }
    }
    fs::write(host.lab.path("db/live"), word).unwrap();
}

/// Which state a tree is in; it is never neither.
fn state_of(host: &Host, tree: &str) -> String {
    let mut words = BTreeSet::new();
    for i in 0..40 {
        let text = host.read(&format!("{tree}/folder {}/file {i}", i % 5));
        words.insert(text.split(' ').next().unwrap().to_owned());
    }
    for word in ["old", "new"] {
        if host.app(&format!("{tree}/only-{word}")).exists() {
            words.insert(word.to_owned());
        }
    }
    assert_eq!(words.len(), 1, "{tree} is neither: {words:?}");
    assert_eq!(host.read(&format!("{tree}/cache/c")), "of now");
    words.pop_first().unwrap()
}

fn all(host: &Host) -> BTreeSet<String> {
    let mut states: BTreeSet<String> = ["a", "b"].map(|tree| state_of(host, tree)).into();
    states.insert(host.lab.text("db/live"));
    states
}

/// The phases of a run that nobody kills, each with the time of its start.
fn phases(host: &Host) -> Vec<(String, Duration)> {
    let begun = Instant::now();
    let mut phases = Vec::new();
    watch(host, &mut |_, phase| phases.push((phase.to_owned(), begun.elapsed())));
    phases
}

/// Runs a restore; `at` is told each phase as it begins.
fn watch(host: &Host, at: &mut dyn FnMut(&mut Child, &str)) -> bool {
    let mut child = host
        .lab
        .handover(&["restore", "--yes", "--verbose"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let from = BufReader::new(child.stderr.take().unwrap());
    for line in from.lines().map_while(Result::ok) {
        if let Some(phase) = line.strip_prefix("phase: shop: ") {
            at(&mut child, phase);
        }
    }
    child.wait().unwrap().success()
}

/// Killed at an instant of the phase with this number; whether that came in time.
fn kill(host: &Host, number: usize, after: Duration) -> bool {
    let mut seen = 0;
    let ended_well = watch(host, &mut |child, _| {
        if seen == number {
            thread::sleep(after);
            child.kill().unwrap();
        }
        seen += 1;
    });
    !ended_well
}

/// After a kill: each path and the dump are old or new; the source does not collect; the next run finishes or undoes and says
/// which, and everything is of one state.
fn check(host: &Host, when: &str, exchanged: bool) -> &'static str {
    if exchanged {
        for tree in ["a", "b"] {
            state_of(host, tree);
        }
    }
    let unfinished = host.lab.path("state/restore/journal.json").exists();
    if unfinished {
        let report = host.lab.run(&["source", "--json"]).exits(3).json();
        assert!(findings(&report, "failed")[0].contains("a restore was cut"), "{when}: {report:#}");
        host.lab.run(&["restore", "clean", "--yes"]).exits(15);
    }
    // The generation that was to be restored is away: the next run can only finish or undo.
    let aside = host.lab.path("aside");
    fs::rename(host.lab.path("home/restore"), &aside).unwrap();
    fs::create_dir(host.lab.path("home/restore")).unwrap();
    fs::set_permissions(host.lab.path("home/restore"), fs::metadata(&aside).unwrap().permissions()).unwrap();
    std::os::unix::fs::chown(
        host.lab.path("home/restore"),
        Some(std::os::unix::fs::MetadataExt::uid(&fs::metadata(&aside).unwrap())),
        Some(std::os::unix::fs::MetadataExt::gid(&fs::metadata(&aside).unwrap())),
    )
    .unwrap();
    let ran = host.restore(&["--yes"]);
    let report = ran.json();
    let said = findings(&report, "warning").join("\n");
    let outcome = match (unfinished, said.contains("it was finished"), said.contains("it was undone")) {
        (true, true, false) => "finished",
        (true, false, true) => "undone",
        (false, false, false) => "nothing to do",
        _ => panic!("{when}: {report:#}"),
    };
    let states = all(host);
    assert_eq!(states.len(), 1, "{when}: {outcome}, and yet of two states: {states:?}");
    match outcome {
        "finished" => assert_eq!(states.first().unwrap(), "old", "{when}"),
        "undone" => assert_eq!(states.first().unwrap(), "new", "{when}"),
        _ => {}
    }
    assert!(!host.lab.path("state/restore/journal.json").exists());
    assert!(!host.lab.path("stopped").exists(), "{when}: the service was left stopped");
    assert!(hidden(&host.lab.path("app")).iter().all(|n| n.contains("-replaced-")), "{when}");
    let scratch: Vec<_> = fs::read_dir(host.lab.path("db")).unwrap().collect();
    assert_eq!(scratch.len(), 1, "{when}: a scratch target is left: {scratch:?}");
    host.lab.run(&["restore", "clean", "--yes"]).exits(0);
    assert!(hidden(&host.lab.path("app")).is_empty());
    host.lab.run(&["source"]);
    assert!(
        !host
            .lab
            .path("home/restored")
            .read_dir()
            .unwrap()
            .any(|e| { e.unwrap().file_name().to_string_lossy().starts_with(".restoring-") })
    );
    outcome
}

#[test]
fn killed_as_each_phase_begins_and_at_twenty_random_instants_it_ends_in_the_old_or_the_new() {
    let whole = host();
    let phases = phases(&whole);
    assert_eq!(all(&whole), BTreeSet::from(["old".to_owned()]));
    assert!(phases.len() >= 10, "{phases:?}");
    let names: Vec<&str> = phases.iter().map(|(phase, _)| phase.split('/').next().unwrap().trim()).collect();
    println!("phases: {names:?}");
    let seed = std::env::var("HANDOVER_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x5eed_u64);
    println!("seed: HANDOVER_TEST_SEED={seed}");
    let mut random = seed;
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % 1000
    };
    let mut outcomes = Vec::new();
    for at in 0..phases.len() + 20 {
        // The phases from `building` on change something: most of the random instants are there.
        let (index, part) = if at < phases.len() { (at, 0) } else { (2 + at % (phases.len() - 2), next()) };
        let end = phases.get(index + 1).map_or(phases[index].1 + Duration::from_millis(5), |(_, end)| *end);
        let length = end - phases[index].1;
        let host = host();
        // Paths differ from lab to lab, and with them the phases that name one: the index counts.
        let killed = kill(&host, index, length.mul_f64(part as f64 / 1000.0));
        let when = format!("{} + {part}/1000 of {length:?}, killed: {killed}", names[index]);
        outcomes.push(check(&host, &when, true));
        println!("{when}: {}", outcomes.last().unwrap());
    }
    let count = |word: &str| outcomes.iter().filter(|o| **o == word).count();
    println!(
        "undone {}, finished {}, nothing to do {}",
        count("undone"),
        count("finished"),
        count("nothing to do")
    );
    proof("killed at any instant, run again", outcomes.len(), 0);
    assert!(count("undone") >= 5 && count("finished") >= 1, "the kills hit nothing: {outcomes:?}");
}

#[test]
fn killed_while_a_path_is_changed_in_place_the_next_run_puts_the_old_back_or_has_the_new() {
    let make = || {
        let host = host();
        let mounts =
            ["a", "b"].map(|tree| Mounted::bind(&host.app(tree), &host.lab.path(format!("seen {tree}"))));
        (host, mounts)
    };
    let (whole, mounts) = make();
    let phases = phases(&whole);
    drop(mounts);
    let names: Vec<&str> = phases.iter().map(|(phase, _)| phase.split('/').next().unwrap().trim()).collect();
    println!("phases: {names:?}");
    let first = names.iter().position(|name| name.starts_with("copying")).unwrap();
    let mut outcomes = Vec::new();
    for at in 0..12_u32 {
        let index = (first + at as usize % 4).min(phases.len() - 2);
        let length = phases[index + 1].1 - phases[index].1;
        let (host, _mounts) = make();
        let killed = kill(&host, index, length * (at * 7 % 12) / 12);
        let when = format!("{} + {at}/12 of {length:?}, killed: {killed}", names[index]);
        outcomes.push(check(&host, &when, false));
        println!("{when}: {}", outcomes.last().unwrap());
    }
    assert!(outcomes.iter().filter(|o| **o == "undone").count() >= 3, "the kills hit nothing: {outcomes:?}");
}

#[test]
fn a_signal_puts_back_what_was_there_and_starts_the_services() {
    let host = host();
    // The service is slow to stop, and the signal comes meanwhile.
    host.lab.fake(
        "service",
        "case $2 in stop) touch {lab}/stopped {lab}/in; while [ -e {lab}/in ]; do sleep 0.05; done;; start) rm -f {lab}/stopped;; status) ;; esac",
    );
    let mut child = host.lab.handover(&["restore", "--yes", "--json"]).stdout(Stdio::null()).spawn().unwrap();
    while !host.lab.path("in").exists() {
        thread::sleep(Duration::from_millis(20));
    }
    let pid = i32::try_from(child.id()).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    fs::remove_file(host.lab.path("in")).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(all(&host), BTreeSet::from(["new".to_owned()]));
    assert!(!host.lab.path("stopped").exists() && !host.lab.path("state/restore/journal.json").exists());
    assert!(hidden(&host.lab.path("app")).is_empty());
}
