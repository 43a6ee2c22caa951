//! Death at every step, and an error at every step.
#![expect(clippy::print_stdout, reason = "whoever runs the test wants to see how much was tried")]

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use super::{
    is_long,
    steps::{self, Step, by_name, chosen, told, traced},
    verbs::{ALL, LARGE, Verb},
    world::{World, ran},
};
use crate::{
    harness::{Ran, names},
    kill::{nothing_is_left_of, picture::Picture},
    proof::proof,
};

const ERRORS: [&str; 4] = ["ENOSPC", "EIO", "EDQUOT", "EROFS"];

/// As many worlds are tried at a time.
const AT_A_TIME: usize = 2;

/// A step, and what befalls it.
struct Case {
    name: String,
    step: Step,
    action: &'static str,
}

/// The steps of a run that nothing befalls, and the states after it and after the next.
struct Uncut {
    steps: Vec<(String, Vec<Step>)>,
    states: [Picture; 2],
}

fn uncut(verb: &Verb, world: &World) -> Uncut {
    world.reset();
    (verb.ready)(world);
    let ran = ran(traced(&world.lab, &mut (verb.command)(world)));
    assert!(verb.good.contains(&ran.code), "{}: {ran:?}", verb.name);
    let steps = by_name(&told(&world.lab), &world.lab.path(""));
    // Once it is all that runs that night, and once it runs twice.
    (verb.later)(world);
    let once = (verb.picture)(world);
    world.reset();
    (verb.ready)(world);
    verb.again(world, "uncut");
    verb.again(world, "uncut");
    (verb.later)(world);
    Uncut { steps, states: [once, (verb.picture)(world)] }
}

fn verb(name: &str) -> &'static Verb {
    ALL.iter().chain(&LARGE).find(|verb| verb.name == name).unwrap()
}

/// Tries all cases, some at a time, each in a world of its own.
fn try_all(verb: &Verb, cases: &[Case], one: &(dyn Fn(&Verb, &World, &Uncut, &Case) + Sync)) {
    let (next, begun) = (AtomicUsize::new(0), Instant::now());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                let world = (verb.world)();
                let uncut = uncut(verb, &world);
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let tried = std::panic::AssertUnwindSafe(|| {
                        world.reset();
                        (verb.ready)(&world);
                        one(verb, &world, &uncut, case);
                    });
                    if let Err(why) = std::panic::catch_unwind(tried) {
                        let text = why.downcast_ref::<String>().cloned().unwrap_or_default();
                        failed
                            .lock()
                            .unwrap()
                            .push(format!("{} at {} ({}): {text}", case.action, case.name, case.step.line));
                    }
                }
            });
        }
    });
    println!("{}: {} cases in {:?}", verb.name, cases.len(), begun.elapsed());
    let failed = failed.into_inner().unwrap();
    let layer = format!(
        "{} at each step: {}",
        if cases[0].action.starts_with("kill") { "killed" } else { "an error" },
        verb.name
    );
    proof(&layer, cases.len(), failed.len());
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n\n"));
}

/// All that is left to do is done, and it ends as if nothing had been.
fn ends_alike(verb: &Verb, world: &World, uncut: &Uncut, when: &str) {
    verb.again(world, when);
    (verb.later)(world);
    let found = (verb.picture)(world);
    let mut differences = uncut.states.each_ref().map(|state| state.differences(&found));
    differences.sort_by_key(Vec::len);
    let mut least = std::mem::take(&mut differences[0]);
    least.truncate(12);
    assert!(
        least.is_empty(),
        "run again it ends otherwise than a run that nothing befell:\n{}",
        least.join("\n")
    );
}

fn dies(verb: &Verb, world: &World, uncut: &Uncut, case: &Case) {
    let before = world.whole("before");
    let mut command = (verb.command)(world);
    let output = traced(&world.lab, &mut command)
        .env("HANDOVER_FAULT", case.step.fault(case.action))
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(9), "it did not come to that step: {:?}", Ran::new(&output));
    nothing_is_left_of(&world.lab);
    world.keeps_the_promise(&before, "at once");
    ends_alike(verb, world, uncut, "after death");
    world.keeps_the_promise(&before, "after the next run");
}

fn fails(verb: &Verb, world: &World, uncut: &Uncut, case: &Case) {
    let before = world.whole("before");
    let mut command = (verb.command)(world);
    let ran = ran(traced(&world.lab, &mut command).env("HANDOVER_FAULT", case.step.fault(case.action)));
    let hit = told(&world.lab).iter().any(|step| step.result == "!");
    assert!(hit, "it did not come to that step: {ran:?}");
    let said = format!("{}\n{}", ran.out, ran.err);
    assert!(verb.failed.contains(&ran.code), "it ended with {}:\n{said}", ran.code);
    assert!(!said.contains("panicked"), "{said}");
    if ran.code != 0 && ran.code != 4 {
        let places = case.step.paths.iter().flat_map(|path| path.ancestors().take(3));
        let known: Vec<String> =
            places.filter_map(|p| p.file_name()).map(|n| n.to_string_lossy().into_owned()).collect();
        assert!(
            known.iter().any(|name| said.contains(name.as_str())),
            "nothing says where ({known:?}):\n{said}"
        );
    }
    world.keeps_the_promise(&before, "at once");
    if ran.code == 3 {
        // What could be collected without that element was handed over; what is good comes with the next one.
        verb.again(world, "after an error");
        return world.keeps_the_promise(&before, "after the next run");
    }
    if case.name.contains("home/collecting/ID/delta") {
        assert!([0, 4].contains(&ran.code) && ran.json()["complete"] == true, "{said}");
        return ends_alike_without_a_delta(verb, world, uncut);
    }
    ends_alike(verb, world, uncut, "after an error");
}

/// A delta that could not be made fails nothing: its generation is handed over without it, and the sink fetches the file.
fn ends_alike_without_a_delta(verb: &Verb, world: &World, uncut: &Uncut) {
    let id = world.lab.waiting().pop().unwrap();
    let deltas = fs::read_dir(world.lab.path("home/transport-outgoing").join(&id).join("delta"));
    let half_made: Vec<_> = deltas.into_iter().flatten().collect();
    assert!(half_made.is_empty(), "{half_made:?}");
    verb.again(world, "after an error");
    let differences = uncut.states[1].differences(&(verb.picture)(world));
    let of_the_delta = |line: &String| line.starts_with("missing: ") && line.contains("/delta");
    assert!(
        !differences.is_empty() && differences.iter().all(of_the_delta),
        "run again it lacks more than a delta:\n{}",
        differences.join("\n")
    );
    let report = world.lab.run(&["sink", "--json"]).exits(0).json();
    let stored = report["sources"][0]["stored"].as_array().unwrap();
    let without = stored.iter().find(|one| one["id"] == id.as_str()).unwrap();
    assert_eq!(without["patched"], 0, "{report:#}");
    world.lab.run(&["sink", "verify", "shop", &id]).exits(0);
}

/// Of the runs with a large file only what has to do with deltas, and the steps by which whole generations move: the others
/// are those of the runs without one.
fn is_tried(verb: &Verb, name: &str) -> bool {
    let is_large = LARGE.iter().any(|large| large.name == verb.name);
    !is_large || name.contains("/delta") || name.ends_with("/ID")
}

fn killed_everywhere(name: &str) {
    let verb = verb(name);
    let world = (verb.world)();
    let uncut = uncut(verb, &world);
    steps::compare(verb.name, &uncut.steps);
    drop(world);
    let mut cases = Vec::new();
    for (name, steps) in &uncut.steps {
        cases.extend(chosen(steps, is_long()).into_iter().map(|step| Case {
            name: name.clone(),
            step,
            action: "kill",
        }));
    }
    cases.retain(|case| is_tried(verb, &case.name));
    let (name, last) =
        uncut.steps.last().map(|(name, steps)| (name.clone(), steps.last().unwrap().clone())).unwrap();
    cases.push(Case { name, step: last, action: "killed" });
    println!("{}: {} points, {} deaths", verb.name, uncut.steps.len(), cases.len());
    try_all(verb, &cases, &dies);
}

fn refused_everywhere(name: &str) {
    let verb = verb(name);
    let uncut = uncut(verb, &(verb.world)());
    let mut cases = Vec::new();
    for (n, (name, steps)) in uncut.steps.iter().enumerate() {
        let iterations = if is_long() { steps.len() } else { 1 };
        for step in &steps[..iterations] {
            let many = if is_long() { ERRORS.len() } else { verb.errors };
            let errors = (0..many).map(|k| ERRORS[(n + k) % ERRORS.len()]);
            cases.extend(errors.map(|action| Case { name: name.clone(), step: step.clone(), action }));
        }
    }
    cases.retain(|case| is_tried(verb, &case.name));
    try_all(verb, &cases, &fails);
}

#[test]
fn source_killed_at_each_step() {
    killed_everywhere("source");
}

#[test]
fn source_of_logs_killed_at_each_step() {
    killed_everywhere("source of logs");
}

#[test]
fn source_of_logs_with_an_error_at_each_step() {
    refused_everywhere("source of logs");
}

#[test]
fn accept_killed_at_each_step() {
    killed_everywhere("accept");
}

#[test]
fn sink_killed_at_each_step() {
    killed_everywhere("sink");
}

#[test]
fn logsink_killed_at_each_step() {
    killed_everywhere("logsink");
}

#[test]
fn restore_killed_at_each_step() {
    killed_everywhere("restore");
}

#[test]
fn restore_with_an_error_at_each_step() {
    refused_everywhere("restore");
}

#[test]
fn rename_killed_at_each_step() {
    killed_everywhere("rename");
}

#[test]
fn rename_with_an_error_at_each_step() {
    refused_everywhere("rename");
}

#[test]
fn heal_killed_at_each_step() {
    killed_everywhere("heal");
}

#[test]
fn heal_with_an_error_at_each_step() {
    refused_everywhere("heal");
}

#[test]
fn a_rename_that_is_cut_goes_on_whatever_runs_in_between() {
    let verb = verb("rename");
    let world = (verb.world)();
    let uncut = uncut(verb, &world);
    let stored = |name: &str| names(&world.lab.path("sink/store").join(name));
    let json = |args: &[&str]| world.lab.run(&[args, &["--json"]].concat());
    for step in uncut.steps.iter().flat_map(|(_, steps)| steps) {
        world.reset();
        (verb.ready)(&world);
        let before = stored("shop");
        let mut command = (verb.command)(&world);
        let fault = step.fault("kill");
        let killed = traced(&world.lab, &mut command).env("HANDOVER_FAULT", &fault).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{fault}");
        // By the old name all goes on; by the new one the source calls itself otherwise, and no more is wrong.
        let renamed = world.lab.text("handover.toml").contains("boutique");
        let night = json(&["sink", "run"]);
        assert_eq!(night.code, if renamed { 10 } else { 0 }, "{fault}: {night:?}");
        let name = if renamed { "boutique" } else { "shop" };
        assert_eq!(stored(name), before, "{fault}");
        let again = json(&["sink", "rename", "shop", "boutique"]);
        assert!([0, 2].contains(&again.code), "{fault}: {again:?}");
        assert_eq!(stored("boutique"), before, "{fault}");
        let list = json(&["sink", "list", "boutique"]).exits(0).json();
        let order: Vec<_> = list.as_array().unwrap().iter().map(|row| row["sequence"].as_u64()).collect();
        assert_eq!(order, [Some(1), Some(2)], "{fault}");
        for place in ["store", "condemned", "incoming", "quarantine"] {
            assert!(!world.lab.path("sink").join(place).join("shop").exists(), "{fault}: {place}");
        }
        assert!(!world.lab.path("sink/.renaming").exists(), "{fault}");
        assert!(!world.lab.path("state/sink/status-shop.json").exists(), "{fault}");
    }
}

#[test]
fn prune_killed_at_each_step() {
    killed_everywhere("prune");
}

#[test]
fn source_with_an_error_at_each_step() {
    refused_everywhere("source");
}

#[test]
fn accept_with_an_error_at_each_step() {
    refused_everywhere("accept");
}

#[test]
fn sink_with_an_error_at_each_step() {
    refused_everywhere("sink");
}

#[test]
fn logsink_with_an_error_at_each_step() {
    refused_everywhere("logsink");
}

#[test]
fn prune_with_an_error_at_each_step() {
    refused_everywhere("prune");
}

#[test]
fn source_of_a_large_file_killed_at_each_step() {
    killed_everywhere("source of a large file");
}

#[test]
fn accept_of_a_large_file_killed_at_each_step() {
    killed_everywhere("accept of a large file");
}

#[test]
fn sink_of_a_large_file_killed_at_each_step() {
    killed_everywhere("sink of a large file");
}

#[test]
fn sink_of_a_large_file_with_an_error_at_each_step() {
    refused_everywhere("sink of a large file");
}

#[test]
fn source_of_a_large_file_with_an_error_at_each_step() {
    refused_everywhere("source of a large file");
}

#[test]
fn accept_of_a_large_file_with_an_error_at_each_step() {
    refused_everywhere("accept of a large file");
}
