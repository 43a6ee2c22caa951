//! A small world with all roles on one machine, put back to its beginning by copying: always at the same path, since
//! generations know the paths of what is in them.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::harness::{HANDOVER, Lab, Ran, memory, names};

const CONFIG: &str = r#"
state = "{lab}/state"
[source]
name = "shop"
home = "{lab}/home"
reserve = "0B"
keep = 1
[[source.element]]
name = "www"
kind = "tree"
paths = ["{lab}/app/www"]
exclude = ["cache/"]
services = ["tomcat"]
[[source.element]]
name = "db"
kind = "dump"
command = ["cat", "{lab}/app/db/live"]
file = "db.dump"
target = "live"
restore = ["sh", "-c", "cat >{lab}/app/db/$1", "-", "{target}"]
probe = ["test", "-e", "{lab}/app/db/{target}"]
promote = ["mv", "{lab}/app/db/{target}", "{lab}/app/db/live"]
discard = ["rm", "-f", "{lab}/app/db/{target}"]
{logs}
[sink]
home = "{lab}/sink"
reserve = "0B"
{sink}
[[sink.source]]
name = "shop"
path = "{lab}/home"
[logsink]
home = "{lab}/logsink"
reserve = 0
keep = 1
[[logsink.source]]
name = "shop"
path = "{lab}/logs"
"#;

const LOGS: &str = "[source.logs]\nhome = \"{lab}/logs\"\npaths = [\"{lab}/app/log/*\"]";

const LARGE: &str = "app/www/large";

/// What is put back; all else in the lab stays.
pub const PARTS: [&str; 6] = ["app", "home", "logs", "sink", "logsink", "state"];

/// Every folder that holds sealed generations which nobody has condemned.
pub const PLACES: [&str; 5] = [
    "home/transport-outgoing",
    "home/store",
    "sink/store/shop",
    "logs/transport-outgoing",
    "logsink/store/shop",
];

/// A lab with the copy that it is put back to.
pub struct World {
    pub lab: Lab,
    saved: TempDir,
    /// What is damaged from the beginning.
    damaged: BTreeSet<String>,
}

impl World {
    /// One generation is stored on both sides, of data and of logs.
    pub fn new(sink: &str) -> Self {
        let lab = Lab::in_memory();
        lab.config_text(&CONFIG.replace("{sink}", sink).replace("{logs}", LOGS));
        lab.fake(
            "service",
            "case $2 in stop) : >{lab}/app/stopped;; start) rm -f {lab}/app/stopped;; status) [ ! -e {lab}/app/stopped ];; esac",
        );
        let saved = tempfile::tempdir_in(memory()).unwrap();
        let world = Self { lab, saved, damaged: BTreeSet::new() };
        for folder in ["app", "app/www", "app/www/cache", "app/www/sub", "app/db", "app/log"] {
            fs::create_dir(world.lab.path(folder)).unwrap();
        }
        world.write("app/www/same", "of old");
        world.write("app/www/sub/same", "of old, too");
        world.write("app/www/cache/hot", "not kept");
        fs::hard_link(world.lab.path("app/www/same"), world.lab.path("app/www/twin")).unwrap();
        world.change("one");
        for role in ["source", "sink", "logsink"] {
            world.lab.run(&[role, "init"]).exits(0);
        }
        world.round();
        world
    }

    /// The same with two generations, saved.
    pub fn saved(sink: &str) -> Self {
        let world = Self::new(sink);
        world.change("two");
        world.round();
        world.save();
        world
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.lab.path(name), text).unwrap();
    }

    /// From now on the source has a large file, which is on both sides already; it changes a little each time.
    pub fn with_large(&self) {
        fs::File::create(self.lab.path(LARGE)).unwrap().set_len(17 << 20).unwrap();
        self.round();
    }

    /// From now on the source has data only.
    pub fn without_logs(&self) {
        let root = self.lab.path("");
        let logs = LOGS.replace("{lab}", root.to_str().unwrap().trim_end_matches('/'));
        self.lab.config_text(&self.lab.text("handover.toml").replace(&logs, ""));
    }

    /// From now on the source has logs only.
    pub fn without_data(&self) {
        let text = self.lab.text("handover.toml");
        let (start, _) = text.split_once("[[source.element]]").unwrap();
        let (_, logs) = text.split_once("[source.logs]").unwrap();
        self.lab.config_text(&format!("{start}[source.logs]{logs}"));
    }

    /// The application goes on.
    pub fn change(&self, word: &str) {
        for i in 0..3 {
            self.write(&format!("app/www/page {i}"), &format!("{word} {i}"));
        }
        self.write(&format!("app/www/sub/only {word}"), word);
        self.write("app/db/live", word);
        if let Ok(large) = fs::File::options().write(true).open(self.lab.path(LARGE)) {
            large.write_all_at(word.as_bytes(), 9 << 20).unwrap();
        }
        let log = self.lab.path("app/log/access.log");
        let before = fs::read_to_string(&log).unwrap_or_default();
        fs::write(log, format!("{before}{word}\n")).unwrap();
    }

    /// All roles, one after the other.
    pub fn round(&self) {
        for role in ["source", "sink", "logsink"] {
            self.lab.run(&[role]).exits(0);
        }
    }

    /// This is what it is put back to from now on.
    pub fn save(&self) {
        for part in PARTS {
            let to = self.saved.path().join(part);
            if to.exists() {
                fs::remove_dir_all(&to).unwrap();
            }
            copy(&self.lab.path(part), &to, &mut HashMap::new());
        }
    }

    /// As it was saved.
    pub fn reset(&self) {
        for part in PARTS {
            let to = self.lab.path(part);
            if to.exists() {
                fs::remove_dir_all(&to).unwrap();
            }
            copy(&self.saved.path().join(part), &to, &mut HashMap::new());
        }
    }

    /// The gate of the data channel, about to be given the receipt of what waits, as the sink of another copy wrote it.
    pub fn accept(&self, receipt: &Path) -> Command {
        let waiting = self.lab.waiting();
        let text = fs::read_to_string(receipt).unwrap();
        let seal =
            text.lines().find_map(|line| line.strip_prefix("seal = \"")).unwrap().trim_end_matches('"');
        let id = text.lines().find_map(|line| line.strip_prefix("id = \"")).unwrap().trim_end_matches('"');
        assert!(waiting.is_empty() || waiting.iter().any(|waits| waits == id), "{waiting:?} {text}");
        let home = self.lab.path("home");
        let mut command = self
            .lab
            .program(HANDOVER, &["source", "gate", "--channel", "data", "--home", home.to_str().unwrap()]);
        command.env("SSH_ORIGINAL_COMMAND", format!("handover 1 accept {id} {seal}"));
        command.stdin(Stdio::from(fs::File::open(receipt).unwrap()));
        command
    }

    /// What the sink would answer the source with: the receipt of what waits now.
    pub fn receipt(&self) -> PathBuf {
        let id = self.lab.waiting().pop().unwrap();
        self.lab.run(&["sink"]).exits(0);
        let to = self.lab.path("receipt.toml");
        fs::copy(self.lab.path("sink/store/shop").join(id).join("receipt.toml"), &to).unwrap();
        self.reset();
        to
    }

    /// Every sealed generation that is in a place, by channel and id; nothing is damaged but what was from the beginning.
    pub fn whole(&self, when: &str) -> Vec<(bool, String)> {
        let (all, wrong) = self.look();
        let new: Vec<_> = wrong.difference(&self.damaged).collect();
        assert!(new.is_empty(), "{when}: {new:?}");
        all
    }

    /// From now on what is wrong in the places is known: so many files.
    pub fn is_damaged(&mut self, files: usize) {
        self.damaged = self.look().1;
        assert_eq!(self.damaged.len(), files, "{:?}", self.damaged);
    }

    fn look(&self) -> (Vec<(bool, String)>, BTreeSet<String>) {
        let (mut all, mut wrong) = (Vec::new(), BTreeSet::new());
        for place in PLACES {
            for id in names(&self.lab.path(place)) {
                let folder = self.lab.path(place).join(&id);
                if folder.is_dir() {
                    wrong.extend(what_is_wrong(&folder).iter().map(|what| format!("{place}/{id}: {what}")));
                    all.push((place.starts_with("log"), id));
                }
            }
        }
        (all, wrong)
    }

    /// The promise: what was sealed before is whole somewhere, or retention has condemned it, which never takes the newest.
    pub fn keeps_the_promise(&self, before: &[(bool, String)], when: &str) {
        let now = self.whole(when);
        for one @ (is_log, id) in before {
            let homes = if *is_log {
                ["logs/condemned", "logsink/condemned/shop"]
            } else {
                ["home/condemned", "sink/condemned/shop"]
            };
            let is_condemned = homes.iter().any(|place| self.lab.path(place).join(id).is_dir());
            let has_newer = now.iter().any(|(log, other)| log == is_log && other > id);
            assert!(now.contains(one) || (is_condemned && has_newer), "{when}: {id} is lost: {now:?}");
        }
    }
}

/// What of a generation is not whole, by its own sums.
pub fn what_is_wrong(folder: &Path) -> Vec<String> {
    use handover::manifest::Digest;
    let digest = |name: &str| fs::read(folder.join(name)).map(|b| Digest::of(&b).to_string()).ok();
    let torn = |name: &str| format!("{name} is torn");
    let text = fs::read_to_string(folder.join("generation.toml")).unwrap_or_default();
    let generation: toml::Table = text.parse().unwrap_or_default();
    let Some(sums) = generation.get("sha256").and_then(toml::Value::as_table) else {
        return vec![torn("generation.toml")];
    };
    let own = [
        ("manifest", "manifest.mtree"),
        ("xattrs", "xattrs"),
        ("sha256sums", "SHA256SUMS"),
        ("readme", "README.txt"),
    ];
    let own = own.iter().filter(|(key, name)| digest(name).as_deref() != sums[*key].as_str());
    let mut wrong: Vec<String> = own.map(|(_, name)| torn(name)).collect();
    let text = fs::read_to_string(folder.join("SHA256SUMS")).unwrap_or_default();
    let content = text.lines().filter_map(|line| line.split_once("  "));
    wrong.extend(
        content.filter(|(sum, name)| digest(name).as_deref() != Some(*sum)).map(|(_, name)| torn(name)),
    );
    wrong
}

/// A folder with everything in it: owners, modes, times, and which names are one file.
pub fn copy(from: &Path, to: &Path, linked: &mut HashMap<u64, PathBuf>) {
    let meta = fs::symlink_metadata(from).unwrap();
    if meta.is_dir() {
        fs::DirBuilder::new().mode(0o700).create(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name), linked);
        }
    } else if let Some(first) = linked.get(&meta.ino()) {
        fs::hard_link(first, to).unwrap();
        return;
    } else {
        fs::copy(from, to).unwrap();
        linked.insert(meta.ino(), to.to_owned());
        fs::File::open(to).unwrap().set_modified(meta.modified().unwrap()).unwrap();
    }
    std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid())).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777)).unwrap();
}

/// Runs a command to its end.
pub fn ran(command: &mut Command) -> Ran {
    Ran::new(&command.output().unwrap())
}
