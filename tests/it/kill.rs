//! Killed at any instant and run again, `source` and `sink` end where they end when nobody kills them.
//!
//! The instants are drawn from a seed that is printed; what a killed run was doing is read off its `--verbose` lines.
#![expect(clippy::print_stdout, reason = "whoever reads a failure needs the seed and the instants")]

pub(crate) mod picture;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::Stdio,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    harness::{Lab, memory, names, processes_with, settle},
    proof::proof,
};
use picture::{Picture, compare};

/// Draws the instants; another seed draws others: `HANDOVER_TEST_SEED=…`.
const SEED: u64 = 0x6861_6e64_6f76_6572;
/// Kills in each phase, and in all.
const EACH: usize = 3;
const ALL: usize = 30;

/// No instant is drawn from less: as long as it takes to hear of a phase.
const LEAST: Duration = Duration::from_micros(50);

/// A small random generator (splitmix64): the same instants on every machine.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("HANDOVER_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(SEED);
        println!("seed: HANDOVER_TEST_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A part of a time.
    fn part_of(&mut self, whole: Duration) -> Duration {
        whole.mul_f64((self.next() % 10_000) as f64 / 10_000.0)
    }
}

/// Two trees that nobody changes: `a` is in every generation, `b` comes with the second.
fn trees() -> TempDir {
    let dir = tempfile::Builder::new().prefix("handover-kill-").tempdir_in(memory()).unwrap();
    let mut dice = Dice(1);
    let mut noise = |len: usize| (0..len / 8).flat_map(|_| dice.next().to_le_bytes()).collect::<Vec<u8>>();
    for (tree, files) in [("a", 120), ("b", 240)] {
        for i in 0..files {
            let folder = dir.path().join(tree).join(format!("folder {}", i % 7));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("file {i}")), noise(4096 + 64 * i)).unwrap();
        }
        fs::write(dir.path().join(tree).join("large"), noise(6 << 20)).unwrap();
        fs::hard_link(dir.path().join(tree).join("large"), dir.path().join(tree).join("large too")).unwrap();
    }
    settle();
    dir
}

fn config(lab: &Lab, trees: &Path, which: &[&str]) {
    let paths: Vec<String> = which.iter().map(|t| format!("{:?}", trees.join(t).to_str().unwrap())).collect();
    let element =
        format!("[[source.element]]\nname = \"www\"\nkind = \"tree\"\npaths = [{}]", paths.join(", "));
    lab.config("", &element, "keep = 1");
}

/// One generation is stored on both sides; the next is to be collected.
fn before_source(trees: &Path) -> Lab {
    let lab = Lab::in_memory();
    config(&lab, trees, &["a"]);
    lab.init().both();
    config(&lab, trees, &["a", "b"]);
    lab
}

/// The same, and the next waits at the Handover Point.
fn before_sink(trees: &Path) -> Lab {
    let lab = before_source(trees);
    lab.source(0);
    lab
}

/// The phases that a run has begun.
#[derive(Default)]
struct Phases(Vec<String>);

impl Phases {
    /// The phase that a line of `--verbose` begins, without what differs from run to run; the second of a name is another.
    fn begin(&mut self, line: &str) -> Option<&str> {
        let step = line.strip_prefix("phase: shop: ")?;
        let words: Vec<&str> = step.split(' ').filter(|word| !word.starts_with("20")).collect();
        let name = words.join(" ").trim_end_matches(" of").to_owned();
        let before = self.0.iter().filter(|p| p.trim_end_matches(" again") == name).count();
        self.0.push(if before == 0 { name } else { format!("{name} again") });
        self.last()
    }

    fn last(&self) -> Option<&str> {
        self.0.last().map(String::as_str)
    }
}

/// A run that says its phases.
struct Run {
    child: std::process::Child,
    lines: Receiver<(Instant, String)>,
}

impl Run {
    fn start(lab: &Lab, role: &str) -> Self {
        let mut command = lab.handover(&[role, "--verbose"]);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        let from = BufReader::new(child.stderr.take().unwrap());
        let (to, lines) = channel();
        thread::spawn(move || {
            for line in from.lines() {
                if to.send((Instant::now(), line.unwrap())).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Runs to its end; gives each phase with how long it took.
    fn finish(mut self) -> Vec<(String, Duration)> {
        let (mut phases, mut begun) = (Phases::default(), Vec::new());
        for (at, line) in &self.lines {
            begun.extend(phases.begin(&line).map(|phase| (phase.to_owned(), at)));
        }
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let ends = begun.iter().skip(1).map(|(_, at)| *at).chain([Instant::now()]);
        begun.iter().zip(ends).map(|((phase, at), end)| (phase.clone(), end - *at)).collect()
    }

    /// Kills it so long after a phase has begun; gives the phase it was in, or none if it had ended before.
    fn killed_in(mut self, phase: &str, after: Duration) -> Option<String> {
        let mut phases = Phases::default();
        for (at, line) in &self.lines {
            if phases.begin(&line) == Some(phase) {
                thread::sleep(after.saturating_sub(at.elapsed()));
                break;
            }
        }
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        for (_, line) in &self.lines {
            phases.begin(&line);
        }
        let last = phases.last()?.to_owned();
        status.code().is_none().then_some(last)
    }
}

/// Nothing that the killed run had started is left after a moment, though only the run itself was killed.
pub(crate) fn nothing_is_left_of(lab: &Lab) {
    let root = lab.path("");
    let root = root.to_str().unwrap().trim_end_matches('/');
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let left = processes_with(root);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still there: {left:#?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Kills a role again and again until it was killed often enough in each phase; after each kill `again` runs it to its
/// end and looks whether it ended where it should.
fn kill_everywhere(role: &str, dice: &mut Dice, make: &dyn Fn() -> Lab, again: &dyn Fn(&Lab, &str)) {
    let phases = Run::start(&make(), role).finish();
    println!("{role}, uncut: {phases:?}");
    let mut lengths: BTreeMap<&str, Duration> = BTreeMap::new();
    for (phase, length) in &phases {
        lengths.entry(phase).or_insert(*length);
    }
    let order: Vec<&str> = phases.iter().map(|(p, _)| p.as_str()).fold(Vec::new(), |mut order, p| {
        if !order.contains(&p) {
            order.push(p);
        }
        order
    });
    let mut hits: BTreeMap<String, usize> = BTreeMap::new();
    let mut tries = 0;
    while hits.values().sum::<usize>() < ALL
        || order.iter().any(|p| hits.get(*p).copied().unwrap_or(0) < EACH)
    {
        tries += 1;
        assert!(tries < 6 * ALL, "too seldom within some phase: {hits:?} of {order:?}");
        // The phase that was hit least is next; a kill that comes late hits a later one, which counts for that one.
        let phase = *order.iter().min_by_key(|p| hits.get(**p).copied().unwrap_or(0)).unwrap();
        let after = dice.part_of(lengths[phase].mul_f64(0.9));
        let lab = make();
        let Some(hit) = Run::start(&lab, role).killed_in(phase, after) else {
            lengths.entry(phase).and_modify(|length| *length = (*length / 2).max(LEAST));
            continue;
        };
        if hit != phase {
            // It is shorter than it was measured.
            lengths.entry(phase).and_modify(|length| *length = (*length / 2).max(LEAST));
        }
        println!("{role} killed in `{hit}`, {after:?} after `{phase}` began");
        *hits.entry(hit.clone()).or_default() += 1;
        nothing_is_left_of(&lab);
        again(&lab, &hit);
    }
    println!("{role}: killed {hits:?}");
    proof("killed at any instant, run again", hits.values().sum(), 0);
}

fn generations(lab: &Lab) -> usize {
    names(&lab.path("home/transport-outgoing")).len() + names(&lab.path("home/store")).len()
}

#[test]
fn source_killed_at_any_instant_and_run_again_ends_as_if_it_had_not_been() {
    let trees = trees();
    let make = || before_source(trees.path());
    let uncut = make();
    uncut.source(0);
    let once = Picture::of(&uncut);
    uncut.source(4);
    let twice = Picture::of(&uncut);
    let again = |lab: &Lab, phase: &str| {
        // A run that was cut after its publishing rename counts as finished: the next one is a further one.
        let published = generations(lab) == 2;
        lab.source(if published { 4 } else { 0 });
        compare(if published { &twice } else { &once }, &Picture::of(lab), phase);
        let report = lab.source(4);
        assert_eq!(
            report["generation"]["bytes_read"], 0,
            "the cache is not that of the last generation ({phase})"
        );
    };
    kill_everywhere("source", &mut Dice::new(), &make, &again);
}

#[test]
fn sink_killed_at_any_instant_and_run_again_ends_as_if_it_had_not_been() {
    let trees = trees();
    let make = || before_sink(trees.path());
    let uncut = make();
    uncut.sink(0);
    let expected = Picture::of(&uncut);
    let again = |lab: &Lab, phase: &str| {
        lab.sink(0);
        compare(&expected, &Picture::of(lab), phase);
        lab.run(&["sink", "verify"]).exits(0);
    };
    kill_everywhere("sink", &mut Dice::new(), &make, &again);
}

/// Runs a role that dies in its `n`th call of these kinds in one of these folders, before the kernel does it; false if it
/// has fewer of them.
pub(crate) fn dies_in(lab: &Lab, role: &str, calls: &str, n: usize, places: &[String]) -> bool {
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:signal=KILL:when={n}"));
    let mut args = vec!["-f", "-qq", "-e", &trace, "-e", &inject, "-o", "/dev/null"];
    let places: Vec<String> =
        places.iter().map(|place| lab.path(place).to_str().unwrap().to_owned()).collect();
    args.extend(places.iter().flat_map(|place| ["-P", place]));
    args.extend([crate::harness::HANDOVER, role]);
    // It dies as what it traces does; a run that was not cut may end with a finding.
    lab.program("strace", &args).output().unwrap().status.code().is_none()
}

#[test]
fn a_killed_dump_leaves_nothing_in_the_next_generation() {
    let lab = Lab::new();
    let keys = "command = [\"sh\", \"-c\", \"echo half > {file}; test -e {lab}/well || { touch {lab}/begun; sleep 40; }; echo all >> {file}\"]";
    lab.config(
        "",
        &format!("[[source.element]]\nname = \"db\"\nkind = \"dump\"\nfile = \"db.dump\"\n{keys}"),
        "",
    );
    lab.init();
    let mut run = lab.handover(&["source"]).spawn().unwrap();
    while !lab.path("begun").exists() {
        thread::sleep(Duration::from_millis(10));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    fs::write(lab.path("well"), "").unwrap();
    let id = lab.both();
    assert_eq!(lab.text(format!("home/store/{id}/data/db/db.dump")), "half\nall\n");
}
