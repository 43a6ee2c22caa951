//! The power fails: what was not synced may be on the disk or not, each by itself. After every call of a run the promise
//! holds on every disk that there may be, and the product goes on from it.
//!
//! A rename is one change; a write may be lost where its file's name is not, and the name where the file is not. Stricter
//! than any file system is that nothing but `fsync` of a file or folder and `syncfs` makes anything last.
#![expect(clippy::print_stdout, reason = "whoever runs the test wants to see how much was tried")]

mod disk;

use std::collections::{BTreeMap, HashSet};

use disk::{Run, Tree};

use crate::{
    crash::{
        is_long,
        steps::{told, traced},
        strace::seen,
        verbs::{ALL, Verb},
        world::{PARTS, PLACES, World, ran},
    },
    proof::proof,
};

/// Beside all and nothing, so many subsets by chance after each call.
const BY_CHANCE: usize = 3;
/// So many disks are made real, and the product goes on from them.
const REAL: usize = 30;

/// What each generation holds, by the home it belongs to and its id; without what is noted beside the sealed files.
type Sealed = BTreeMap<(bool, String), BTreeMap<String, Vec<u8>>>;

/// A run that was followed, and what is known of it.
struct Followed {
    world: World,
    run: Run,
    before: Vec<(bool, String)>,
    sealed: Sealed,
    /// The files of the application before the run and after it.
    app: [BTreeMap<String, Vec<u8>>; 2],
}

/// What a restore puts back.
const APP: &str = "app/www";

const BESIDE: [&str; 4] = ["receipt.toml", "condemned.toml", "marks.toml", "rejected.json"];

fn is_sealed(name: &str) -> bool {
    !BESIDE.contains(&name) && !name.starts_with('.')
}

fn sealed_in(tree: &Tree, known: &mut Sealed) {
    let condemned = ["home/condemned", "sink/condemned/shop", "logs/condemned", "logsink/condemned/shop"];
    for place in PLACES.into_iter().chain(condemned) {
        for id in
            tree.names(place).into_iter().filter(|name| name.starts_with("20") && !name.contains(".toml"))
        {
            let mut files = tree.files(&format!("{place}/{id}"));
            files.retain(|name, _| is_sealed(name));
            known.entry((place.starts_with("log"), id.to_owned())).or_insert(files);
        }
    }
}

/// Follows a run of a verb; `omit` is a step that it leaves out.
fn follow(verb: &Verb, omit: Option<&str>) -> Followed {
    let world = (verb.world)();
    world.reset();
    (verb.ready)(&world);
    let before = world.whole("before");
    let root = world.lab.path("");
    let base = Tree::read(&root, &PARTS);
    let mut command = (verb.command)(&world);
    if let Some(step) = omit {
        command.env("HANDOVER_FAULT", step);
    }
    let seen = seen(&world.lab, &command);
    let mut sealed = Sealed::new();
    sealed_in(&base, &mut sealed);
    sealed_in(&Tree::read(&root, &PARTS), &mut sealed);
    let before_run = base.files(APP);
    let run = Run::of(&root, base, &seen);
    // What was followed is what is there.
    let last = run.made.len() - 1;
    let end = run.after(last, &|_| true);
    for part in PARTS {
        let (followed, real) = (end.files(part), Tree::read(&root, &PARTS).files(part));
        let differ: Vec<_> = real
            .iter()
            .filter(|(name, content)| followed.get(*name) != Some(*content))
            .map(|(name, _)| name)
            .collect();
        assert!(
            differ.is_empty() && followed.len() == real.len(),
            "{}: not followed in {part}: {differ:?}",
            verb.name
        );
    }
    Followed { world, run, before, sealed, app: [before_run, end.files(APP)] }
}

/// What is wrong with the application: it is as it was or as it is to be, whole, and what was replaced is kept.
fn wrong_with_app(tree: &Tree, followed: &Followed, ended: bool) -> Option<String> {
    let [old, new] = &followed.app;
    let now = tree.files(APP);
    if now != *new && (ended || now != *old) {
        return Some(format!("{APP} is neither the old nor the new: {:?}", now.keys()));
    }
    let kept = tree.names("app").into_iter().find(|name| name.starts_with(".handover-replaced-"));
    let is_kept = old == new || kept.is_some_and(|kept| tree.files(&format!("app/{kept}/old/www")) == *old);
    (ended && !is_kept).then(|| "what was replaced is not kept".to_owned())
}

/// What is wrong on a disk; none if the promise holds. `ended`: the run had ended well, with what it was to bring about.
fn wrong(tree: &Tree, followed: &Followed, ended: bool) -> Option<String> {
    let mut whole = HashSet::new();
    for place in PLACES {
        for id in
            tree.names(place).into_iter().filter(|name| name.starts_with("20") && !name.contains(".toml"))
        {
            let one = (place.starts_with("log"), id.to_owned());
            let Some(sealed) = followed.sealed.get(&one) else {
                return Some(format!("{place}/{id} is none that was sealed"));
            };
            let torn = sealed.iter().find(|(name, content)| {
                tree.content(&format!("{place}/{id}/{name}")) != Some(content.as_slice())
            });
            if let Some((name, _)) = torn {
                return Some(format!("{place}/{id} is there and {name} is not, or torn"));
            }
            whole.insert((place.split('/').next().unwrap_or_default().to_owned(), one));
        }
    }
    let is_somewhere = |one: &(bool, String)| whole.iter().any(|(_, other)| other == one);
    for one @ (is_log, id) in &followed.before {
        let homes = if *is_log {
            ["logs/condemned", "logsink/condemned/shop"]
        } else {
            ["home/condemned", "sink/condemned/shop"]
        };
        let is_condemned = homes.iter().any(|place| tree.names(place).contains(&id.as_str()));
        let has_newer = whole.iter().any(|(_, (log, other))| log == is_log && other > id);
        if !(is_somewhere(one) || is_condemned && has_newer) {
            return Some(format!("{id} is nowhere whole"));
        }
    }
    // A receipt is the sink's word that it has it.
    for (is_log, id) in followed.sealed.keys() {
        let (home, sink) = if *is_log { ("logs", "logsink") } else { ("home", "sink") };
        let receipts = [
            format!("{home}/store/{id}/receipt.toml"),
            format!("{home}/transport-outgoing/{id}/receipt.toml"),
            format!("{home}/store/{id}.receipt.toml"),
        ];
        let has_receipt = receipts.iter().any(|file| tree.content(file).is_some_and(|text| !text.is_empty()));
        let is_stored = whole.contains(&(sink.to_owned(), (*is_log, id.clone())))
            || tree.names(&format!("{sink}/condemned/shop")).contains(&id.as_str());
        if has_receipt && !is_stored && !followed.is_given_by_hand() {
            return Some(format!("{id} has a receipt, and the sink has lost it"));
        }
    }
    if let Some(why) = wrong_with_app(tree, followed, ended) {
        return Some(why);
    }
    let newest = followed.sealed.keys().max_by_key(|(_, id)| id.clone());
    (ended && !newest.is_some_and(is_somewhere))
        .then(|| format!("{newest:?} was reported and is nowhere whole"))
}

impl Followed {
    /// Whether the receipt came from a sink that is not on this disk.
    fn is_given_by_hand(&self) -> bool {
        self.world.lab.path("receipt.toml").exists()
    }

    /// The disks that there may be after so many calls: each by what of the unsynced is there.
    fn disks(&self, calls: usize, chance: &mut u64) -> Vec<HashSet<usize>> {
        let unsynced = self.run.unsynced(calls);
        let all: HashSet<usize> = unsynced.iter().copied().collect();
        let mut disks = vec![HashSet::new(), all.clone()];
        // One alone is lost: where most is at stake, before something is made to last, and after a rename.
        let singly = is_long() || self.run.is_turning_point(calls);
        for one in unsynced.iter().filter(|_| singly) {
            disks.push(all.iter().copied().filter(|op| op != one).collect());
        }
        // One host loses its power and the other does not.
        for side in ["home", "sink", "logs", "logsink"] {
            let elsewhere = |op: &&usize| {
                self.run.ops[**op].what.split([' ', '/']).nth(1).is_none_or(|part| part != side)
            };
            disks.push(unsynced.iter().filter(elsewhere).copied().collect());
        }
        for _ in 0..if is_long() { 40 } else { BY_CHANCE } {
            let mut coin = || {
                *chance =
                    chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *chance >> 63 == 0
            };
            disks.push(unsynced.iter().copied().filter(|_| coin()).collect());
        }
        disks
    }

    /// A disk that is made real has other inodes than the one that was followed. What a journal of a restore names by its
    /// inode would be another folder there; how such a one goes on is tried by killing it at each step.
    fn can_be_made(&self, calls: usize, kept: &HashSet<usize>) -> bool {
        let disk = self.run.after(calls, &|op| kept.contains(&op));
        let journal = disk.content("state/restore/journal.json").map(String::from_utf8_lossy);
        journal
            .is_none_or(|journal| journal.contains("\"units\": []") || journal.contains("\"folder\": null"))
    }

    /// Tries every disk until so many were wrong; gives how many there were, what is wrong, and those to be made real.
    fn try_all(&self, enough: usize) -> Tried {
        let mut tried = Tried::default();
        let (mut chance, mut known) = (0x6861_6e64, HashSet::new());
        let moments = self.run.made.len();
        for calls in 0..moments {
            if tried.wrong.len() >= enough {
                break;
            }
            for kept in self.disks(calls, &mut chance) {
                let is_kept = |op: usize| kept.contains(&op);
                if !known.insert((self.run.kind(calls, &is_kept), calls + 1 == moments)) {
                    continue;
                }
                tried.disks += 1;
                if let Some(why) = wrong(&self.run.after(calls, &is_kept), self, calls + 1 == moments) {
                    tried.wrong.push(format!("after call {calls}: {why}"));
                }
                tried.all.push((calls, kept));
            }
        }
        tried.moments = moments;
        tried
    }
}

#[derive(Default)]
struct Tried {
    moments: usize,
    disks: usize,
    wrong: Vec<String>,
    all: Vec<(usize, HashSet<usize>)>,
}

/// The product goes on from such a disk: all that is left to do is done, and every stored file is what it was.
fn goes_on(verb: &Verb, followed: &Followed, calls: usize, kept: &HashSet<usize>) {
    let when = format!(
        "{} after call {calls}, {} of {} unsynced changes kept",
        verb.name,
        kept.len(),
        followed.run.unsynced(calls).len()
    );
    let world = &followed.world;
    followed.run.after(calls, &|op| kept.contains(&op)).write(&world.lab.path(""));
    verb.again(world, &when);
    (verb.later)(world);
    let app = Tree::read(&world.lab.path(""), &["app"]).files(APP);
    assert_eq!(app, followed.app[1], "{when}: run again, the application is not as it is to be");
    for role in ["sink", "logsink"] {
        let ran = world.lab.run(&[role]);
        assert_eq!(ran.code, 0, "{when}: {role}: {}\n{}", ran.out, ran.err);
        world.lab.run(&[role, "verify"]).exits(0);
    }
    world.keeps_the_promise(&followed.before, &when);
}

/// A restore of files: what a database makes of a power failure is its own affair.
const RESTORE: Verb = Verb {
    name: "restore",
    command: |world| world.lab.handover(&["restore", "--yes", "--json", "--element", "www"]),
    ..crate::crash::verbs::RESTORE
};

fn verb(name: &str) -> &'static Verb {
    if name == RESTORE.name { &RESTORE } else { ALL.iter().find(|verb| verb.name == name).unwrap() }
}

fn loses_nothing(name: &str) {
    let verb = verb(name);
    let followed = follow(verb, None);
    let tried = followed.try_all(usize::MAX);
    println!(
        "{name}: {} calls, {} changes, {} moments, {} disks",
        tried.moments - 1,
        followed.run.ops.len(),
        tried.moments,
        tried.disks
    );
    let mut wrong = tried.wrong;
    proof(&format!("the power fails: disks after {name}"), tried.disks, wrong.len());
    wrong.truncate(20);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried.moments > 15 && tried.disks > tried.moments, "too little was tried");
    let real = if is_long() { tried.all.len() } else { REAL };
    let step = (tried.all.len() / real).max(1);
    let mut chosen: Vec<_> = tried.all.iter().step_by(step).collect();
    chosen.retain(|(calls, kept)| followed.can_be_made(*calls, kept));
    assert!(chosen.len() > 10, "too few were made real");
    for (calls, kept) in &chosen {
        goes_on(verb, &followed, *calls, kept);
    }
    proof("the power fails: the next run goes on", chosen.len(), 0);
}

/// A step that must not be left out: the call, and the name of a step that the same line of the code asks for.
struct Mutant {
    verb: &'static str,
    what: &'static str,
    call: &'static str,
    line_of: &'static str,
    /// Whether it is the last step of that name, and not the first.
    last: bool,
}

const MUTANTS: [Mutant; 6] = [
    Mutant {
        verb: "restore",
        what: "no syncfs before the new takes the place of the old",
        call: "syncfs",
        line_of: "syncfs app/.handover-restore-ID.*/new",
        last: true,
    },
    Mutant {
        verb: "source",
        what: "no syncfs before a generation is published",
        call: "syncfs",
        line_of: "syncfs home/collecting",
        last: false,
    },
    Mutant {
        verb: "source",
        what: "no fsync of the folders after a generation is published",
        call: "fsync",
        line_of: "rename home/collecting/ID -> home/transport-outgoing/ID",
        last: false,
    },
    Mutant {
        verb: "sink",
        what: "no syncfs before a generation is stored",
        call: "syncfs",
        line_of: "syncfs sink/incoming/shop",
        last: false,
    },
    Mutant {
        verb: "sink",
        what: "no fsync of the folders after a generation is stored",
        call: "fsync",
        line_of: "rename sink/incoming/shop/ID/tree -> sink/store/shop/ID",
        last: false,
    },
    Mutant {
        verb: "logsink",
        what: "no syncfs before logs are stored",
        call: "syncfs",
        line_of: "syncfs logsink/incoming/shop",
        last: false,
    },
];

#[test]
fn each_sync_that_is_left_out_is_noticed() {
    for mutant in &MUTANTS {
        let verb = verb(mutant.verb);
        let world = (verb.world)();
        world.reset();
        (verb.ready)(&world);
        ran(traced(&world.lab, &mut (verb.command)(&world)));
        let root = world.lab.path("");
        let mut steps: Vec<_> =
            told(&world.lab).into_iter().filter(|step| step.name(&root) == mutant.line_of).collect();
        let step = if mutant.last { steps.pop() } else { steps.into_iter().next() };
        let step = step.unwrap_or_else(|| panic!("{} has no step {}", mutant.verb, mutant.line_of));
        drop(world);
        let tried = follow(verb, Some(&format!("omit {} {} 0", mutant.call, step.line))).try_all(1);
        println!(
            "{}: {} of {} disks are wrong: {:?}",
            mutant.what,
            tried.wrong.len(),
            tried.disks,
            tried.wrong.first()
        );
        assert!(!tried.wrong.is_empty(), "{}: nothing noticed", mutant.what);
    }
}

#[test]
fn source_loses_nothing_with_the_power() {
    loses_nothing("source");
}

#[test]
fn source_of_logs_loses_nothing_with_the_power() {
    loses_nothing("source of logs");
}

#[test]
fn accept_loses_nothing_with_the_power() {
    loses_nothing("accept");
}

#[test]
fn sink_loses_nothing_with_the_power() {
    loses_nothing("sink");
}

#[test]
fn logsink_loses_nothing_with_the_power() {
    loses_nothing("logsink");
}

#[test]
fn prune_loses_nothing_with_the_power() {
    loses_nothing("prune");
}

#[test]
fn restore_loses_nothing_with_the_power() {
    loses_nothing("restore");
}
