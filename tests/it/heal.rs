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
    // What was sealed and is damaged stays as it is, and is called so.
    hosts.run(&["sink", "verify", "shop", &one], 13);
}
