//! The verbs that are cut, each in a world in which it has something to do.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::world::{World, copy, ran};
use crate::{
    harness::{Ran, names},
    kill::picture::Picture,
};

/// A verb, and how it is tried.
pub struct Verb {
    pub name: &'static str,
    /// So many of the four errors are tried at each step, by turns: fewer where a run takes long.
    pub errors: usize,
    /// A world that is saved where the verb has something to do.
    pub world: fn() -> World,
    /// What a world needs beyond that which a copy of it does not have.
    pub ready: fn(&World),
    pub command: fn(&World) -> Command,
    /// How a run may end that nothing befell, and the next one.
    pub good: &'static [i32],
    /// How a run may end in which a step failed.
    pub failed: &'static [i32],
    /// Who else runs that night, and finishes what the gate on the source was cut in.
    pub later: fn(&World),
    pub picture: fn(&World) -> Picture,
}

impl Verb {
    /// Runs it to its good end.
    pub fn again(&self, world: &World, when: &str) -> Ran {
        let ran = ran(&mut (self.command)(world));
        assert!(
            self.good.contains(&ran.code),
            "{when}: the next run ended with {}\n{}\n{}",
            ran.code,
            ran.out,
            ran.err
        );
        ran
    }
}

fn nothing(_: &World) {}

fn collect(world: &World) {
    let ran = world.lab.run(&["source"]);
    assert!([0, 4].contains(&ran.code), "{ran:?}");
}

pub const ALL: [Verb; 9] = [RESTORE, RENAME, HEAL, SOURCE, SOURCE_OF_LOGS, ACCEPT, SINK, LOGSINK, PRUNE];

/// A further generation is collected.
const SOURCE: Verb = Verb {
    name: "source",
    errors: 2,
    world: || {
        let world = World::new("keep = 1");
        world.without_logs();
        world.save();
        world
    },
    // Only files that this very copy has stored are linked.
    ready: |world| {
        world.lab.run(&["source"]).exits(0);
        world.change("two");
    },
    command: |world| world.lab.handover(&["source", "--json"]),
    good: &[0, 4],
    failed: &[14, 3, 4, 0],
    later: nothing,
    picture: |world| Picture::without_times(&world.lab, &["home", "app"], &[]),
};

/// The same of logs alone.
const SOURCE_OF_LOGS: Verb = Verb {
    name: "source of logs",
    errors: 1,
    world: || {
        let world = World::new("keep = 1");
        world.without_data();
        world.change("two");
        world.save();
        world
    },
    ready: nothing,
    command: |world| world.lab.handover(&["source", "--json"]),
    good: &[0, 4],
    failed: &[14, 3, 4, 0],
    later: nothing,
    picture: |world| Picture::without_times(&world.lab, &["logs", "app"], &[]),
};

/// The gate is given the receipt of what waits.
const ACCEPT: Verb = Verb {
    name: "accept",
    errors: 4,
    world: || {
        let world = waiting("keep = 1");
        world.receipt();
        world
    },
    ready: nothing,
    command: |world| world.accept(&receipt(world)),
    good: &[0],
    failed: &[99, 0],
    later: nothing,
    picture: |world| Picture::without_times(&world.lab, &["home", "app"], &[]),
};

/// What waits is fetched and stored.
const SINK: Verb = Verb {
    name: "sink",
    errors: 2,
    world: || waiting("keep = 1"),
    ready: nothing,
    command: |world| world.lab.handover(&["sink", "--json"]),
    good: &[0],
    failed: &[14, 3, 12, 0],
    later: collect,
    picture: |world| Picture::without_times(&world.lab, &["home", "sink"], &[]),
};

/// The same of logs.
const LOGSINK: Verb = Verb {
    name: "logsink",
    errors: 1,
    world: || waiting("keep = 1"),
    ready: nothing,
    command: |world| world.lab.handover(&["logsink", "--json"]),
    good: &[0],
    failed: &[14, 3, 12, 0],
    later: collect,
    picture: |world| Picture::without_times(&world.lab, &["logs", "logsink"], &[]),
};

/// Two of three generations go, and of those before what can be taken back no longer.
const PRUNE: Verb = Verb {
    name: "prune",
    errors: 4,
    world: || {
        let world = World::new("keep = 3\nundo_for = \"0s\"");
        for word in ["two", "three"] {
            world.change(word);
            world.round();
        }
        world.lab.config_text(&world.lab.text("handover.toml").replace("keep = 3", "keep = 1"));
        world.save();
        world
    },
    ready: nothing,
    command: |world| world.lab.handover(&["sink", "prune", "--json"]),
    good: &[0],
    failed: &[14, 3, 0],
    later: nothing,
    picture: |world| Picture::without_times(&world.lab, &["home", "sink"], &[]),
};

/// What was stored once is put in the place of what is there now.
pub const RESTORE: Verb = Verb {
    name: "restore",
    errors: 2,
    world: || {
        let world = World::new("keep = 1");
        world.without_logs();
        world.change("two");
        let id = names(&world.lab.path("home/store")).pop().unwrap();
        let (from, to) = (world.lab.path("home/store").join(&id), world.lab.path("home/restore").join(&id));
        copy(&from, &to, &mut HashMap::new());
        world.save();
        world
    },
    ready: nothing,
    command: |world| world.lab.handover(&["restore", "--yes", "--json"]),
    good: &[0, 15],
    failed: &[14, 15, 3, 0],
    later: nothing,
    picture: |world| Picture::of_application(&world.lab, "app", "state/restore"),
};

/// A source gets another name at the sink.
const RENAME: Verb = Verb {
    name: "rename",
    errors: 4,
    world: || World::saved("keep = 3"),
    ready: |world| {
        let text = world.lab.text("handover.toml");
        world.lab.config_text(&text.replace("boutique", "shop"));
    },
    command: |world| world.lab.handover(&["sink", "rename", "shop", "boutique", "--json"]),
    // The second time there is nothing of that name any more.
    good: &[0, 2],
    failed: &[14, 10, 0],
    later: nothing,
    picture: |world| Picture::without_times(&world.lab, &["home", "sink"], &[]),
};

/// What is damaged in the store is put back, out of each place that may have it.
const HEAL: Verb = Verb {
    name: "heal",
    errors: 2,
    world: || {
        let mut world = World::saved("keep = 3");
        let store = world.lab.path("sink/store/shop");
        let [one, two] = names(&store).try_into().unwrap();
        let content = Path::new("data/www").join(world.lab.path("app/www").strip_prefix("/").unwrap());
        let file = |id: &str, name: &str| store.join(id).join(&content).join(name);
        // A copy of the first generation has what is in that one alone.
        copy(&store.join(&one), &world.lab.path("copy"), &mut HashMap::new());
        rot(&file(&one, "page 0"));
        // The source has what the second one has too, where both are one file.
        fs::remove_file(world.lab.path("copy").join(&content).join("sub/same")).unwrap();
        rot(&file(&two, "sub/same"));
        // The first one has what the second has lost.
        fs::remove_file(file(&two, "twin")).unwrap();
        world.is_damaged(4);
        world.save();
        world
    },
    ready: nothing,
    command: |world| {
        let from = world.lab.path("copy");
        world.lab.handover(&["sink", "verify", "shop", "--heal", "--from", from.to_str().unwrap(), "--json"])
    },
    good: &[0],
    // What the source could not give is asked for again when the others have been looked at.
    failed: &[14, 0],
    later: nothing,
    picture: |world| Picture::without_times(&world.lab, &["home", "sink"], &[]),
};

/// Changes a file as a failing disk does: nothing but the content tells.
fn rot(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(b"X", 0).unwrap();
    file.set_modified(modified).unwrap();
}

/// The same where a large file changes a little: what changed goes beside the generation.
pub const LARGE: [Verb; 3] = [
    Verb {
        name: "source of a large file",
        errors: 1,
        world: || {
            let world = World::new("keep = 3");
            world.without_logs();
            world.with_large();
            world.save();
            world
        },
        ready: |world| {
            // However long it took to come to here, these files are at rest when they are read.
            crate::harness::settle();
            (SOURCE.ready)(world);
        },
        ..SOURCE
    },
    Verb {
        name: "accept of a large file",
        errors: 1,
        world: || {
            let world = large_waiting("keep = 1");
            world.receipt();
            world
        },
        ..ACCEPT
    },
    Verb { name: "sink of a large file", errors: 1, world: || large_waiting("keep = 1"), ..SINK },
];

/// A further generation waits.
fn waiting(sink: &str) -> World {
    let world = World::new(sink);
    world.change("two");
    world.lab.run(&["source"]).exits(0);
    world.save();
    world
}

/// As [`waiting`], and what waits brings what changed in a large file.
fn large_waiting(sink: &str) -> World {
    let world = World::new(sink);
    world.with_large();
    world.change("two");
    world.lab.run(&["source"]).exits(0);
    let id = world.lab.waiting().pop().unwrap();
    let deltas = world.lab.path("home/transport-outgoing").join(id).join("delta");
    assert_eq!(names(&deltas).len(), 1);
    world.save();
    world
}

fn receipt(world: &World) -> PathBuf {
    world.lab.path("receipt.toml")
}
