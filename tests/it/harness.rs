//! The built binary in a world of its own: its own folders, configuration, environment and, where asked, another user.

use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub const HANDOVER: &str = env!("CARGO_BIN_EXE_handover");
/// The search path of every program, with fakes of the test before it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// An ordinary user.
pub const NOBODY: u32 = 65534;

/// A source and a sink on one machine.
///
/// ```text
/// tree/   what is backed up        home/  the source's home      state/  of both
/// bin/    fakes, first in PATH     sink/  the sink's home        handover.toml
/// ```
pub struct Lab {
    root: TempDir,
    user: Option<u32>,
}

/// What a run of the binary gave.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn new(output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let status = output.status;
        Self {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap()),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test unless it ended with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Fails the test if it ended well, or as only a mistake in the product ends.
    #[track_caller]
    pub fn exits_with_failure(self) -> Self {
        assert!(![0, 1, 101].contains(&self.code) && self.code < 128, "{self:?}");
        self
    }

    /// Fails the test unless all these words were said, on stdout or stderr.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(
                self.out.contains(word) || self.err.contains(word),
                "`{word}` is missing in:\n{}\n{}",
                self.out,
                self.err
            );
        }
        self
    }

    /// stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}:\n{}\n{}", self.out, self.err))
    }
}

impl Lab {
    /// Empty folders, and a source `shop` with one element of kind tree.
    pub fn new() -> Self {
        Self::of(None)
    }

    /// The same for an ordinary user.
    pub fn of_user(uid: u32) -> Self {
        Self::of(Some(uid))
    }

    /// As [`Self::new`], in memory where there is room: for tests of many runs, of which none cuts the power.
    pub fn in_memory() -> Self {
        Self::at(tempfile::Builder::new().prefix("handover-it-").tempdir_in(memory()).unwrap(), None)
    }

    fn of(user: Option<u32>) -> Self {
        Self::at(tempfile::Builder::new().prefix("handover-it-").tempdir().unwrap(), user)
    }

    fn at(root: TempDir, user: Option<u32>) -> Self {
        let lab = Self { root, user };
        for name in ["tree", "bin", "user", "tmp"] {
            fs::create_dir(lab.path(name)).unwrap();
            lab.give(&lab.path(name));
        }
        lab.give(lab.root.path());
        lab.config("", TREE, "");
        lab
    }

    fn give(&self, path: &Path) {
        if let Some(uid) = self.user {
            std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
        }
    }

    /// Gives all that is in the tree to the lab's user.
    pub fn give_all(&self) {
        if let Some(uid) = self.user {
            let owner = format!("{uid}:{uid}");
            let tree = self.path("tree");
            let status = Command::new("chown").args(["-hR", &owner]).arg(tree).status().unwrap();
            assert!(status.success());
        }
    }

    /// A path in the lab.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes the configuration: keys of `[source]`, the elements, keys of `[sink]` (the source `shop` is added).
    /// `{lab}` stands for the lab's folder.
    pub fn config(&self, source: &str, elements: &str, sink: &str) {
        self.config_text(&format!(
            "state = \"{{lab}}/state\"\n[source]\nname = \"shop\"\nhome = \"{{lab}}/home\"\nreserve = \"0B\"\n{source}\n\
             {elements}\n[sink]\nhome = \"{{lab}}/sink\"\nreserve = \"0B\"\n{sink}\n\
             [[sink.source]]\nname = \"shop\"\npath = \"{{lab}}/home\"\n"
        ));
    }

    /// Writes the whole configuration.
    pub fn config_text(&self, text: &str) {
        let text = text.replace("{lab}", self.root.path().to_str().unwrap());
        fs::write(self.path("handover.toml"), text).unwrap();
    }

    /// The binary, ready to run.
    pub fn handover(&self, args: &[&str]) -> Command {
        self.program(HANDOVER, args)
    }

    /// A program in the lab's environment, as the lab's user.
    pub fn program(&self, program: &str, args: &[&str]) -> Command {
        let mut command = match self.user {
            None => Command::new(program),
            Some(uid) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={uid}"), format!("--regid={uid}")]);
                command.args(["--clear-groups", "--", program]);
                command
            }
        };
        command
            .args(args)
            .env_clear()
            .env("PATH", format!("{}:{PATH}", self.path("bin").display()))
            .env("HOME", self.path("user"))
            .env("TMPDIR", self.path("tmp"))
            .env("TZ", "UTC")
            .env("HANDOVER_CONFIG", self.path("handover.toml"))
            .current_dir(self.root.path());
        command
    }

    /// Runs the binary to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::new(&self.handover(args).output().unwrap())
    }

    /// Makes both homes.
    pub fn init(&self) -> &Self {
        self.run(&["source", "init"]).exits(0);
        self.run(&["sink", "init"]).exits(0);
        self
    }

    /// `handover source`, with its report.
    #[track_caller]
    pub fn source(&self, code: i32) -> Value {
        self.run(&["source", "--json"]).exits(code).json()
    }

    /// `handover sink`, with its report.
    #[track_caller]
    pub fn sink(&self, code: i32) -> Value {
        self.run(&["sink", "--json"]).exits(code).json()
    }

    /// Both, one after the other; gives the id of the generation that went over.
    #[track_caller]
    pub fn both(&self) -> String {
        let id = id_of(&self.source(0));
        self.sink(0);
        assert!(self.path("sink/store/shop").join(&id).is_dir());
        assert!(self.path("home/store").join(&id).is_dir());
        id
    }

    /// Restores the newest generation of the Sink-Store into a new folder and gives the lab's tree in it.
    #[track_caller]
    pub fn restore(&self, code: i32) -> PathBuf {
        self.restore_with(code, &[])
    }

    /// The same, with more on the command line.
    #[track_caller]
    pub fn restore_with(&self, code: i32, more: &[&str]) -> PathBuf {
        let to = tempfile::Builder::new().prefix("restored-").tempdir_in(self.root.path()).unwrap().keep();
        self.give(&to);
        let from = self.path("sink/store/shop");
        let args = ["restore", "--from", from.to_str().unwrap(), "--to", to.to_str().unwrap()];
        self.run(&[&args, more].concat()).exits(code);
        below(&to, &self.path("tree"))
    }

    /// Writes a file of the tree.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path("tree").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        self.give(path.parent().unwrap());
        self.give(&path);
        path
    }

    /// Puts a script before all others in PATH.
    pub fn fake(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(
            &path,
            format!("#!/bin/sh\n{}\n", script.replace("{lab}", self.root.path().to_str().unwrap())),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Where the source stored a file of the tree: in a generation at the Handover Point or in a store.
    pub fn stored(&self, generation: impl AsRef<Path>, name: &str) -> PathBuf {
        let data = self.path(generation).join("data/www");
        below(&data, &self.path("tree")).join(name)
    }

    /// What waits at the Handover Point, by id.
    pub fn waiting(&self) -> Vec<String> {
        names(&self.path("home/transport-outgoing"))
    }

    /// A text file of the lab.
    pub fn text(&self, name: impl AsRef<Path>) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

/// One tree, `{lab}/tree`, as element `www`.
pub const TREE: &str =
    "[[source.element]]\nname = \"www\"\nkind = \"tree\"\npaths = [\"{lab}/tree\"]\nallow_empty = true";

/// An absolute path below another folder.
pub fn below(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path.strip_prefix("/").unwrap())
}

/// The id of the generation that a source run reports.
#[track_caller]
pub fn id_of(report: &Value) -> String {
    report["generation"]["id"].as_str().unwrap_or_else(|| panic!("{report:#}")).to_owned()
}

/// The names in a folder, sorted, without hidden ones; none if it is missing.
pub fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .map(|e| String::from_utf8_lossy(e.unwrap().file_name().as_bytes()).into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

/// The inode of a file.
#[track_caller]
pub fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).ino()
}

/// A folder in memory with room for many labs, or else the folder for temporary files.
pub fn memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let room = rustix::fs::statvfs(&memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    if room > 1 << 30 { memory } else { std::env::temp_dir() }
}

/// Waits until every file made so far is old enough for the rule of unchanged files.
pub fn settle() {
    std::thread::sleep(Duration::from_millis(2_150));
}

/// The texts of all findings of a kind in a report of `source`, or of the first source of a report of `sink`.
pub fn findings(report: &Value, kind: &str) -> Vec<String> {
    let own = report["findings"].as_array().into_iter().flatten();
    let of_sources = report["sources"].as_array().into_iter().flatten();
    let of_sources = of_sources.flat_map(|s| s["findings"].as_array().unwrap());
    own.chain(of_sources)
        .filter(|f| f["kind"] == kind)
        .map(|f| {
            let text = |key: &str| f[key].as_str().unwrap_or_default();
            format!("{}: {} -> {}", text("subject"), text("text"), text("fix"))
        })
        .collect()
}

/// The command lines of all processes of this machine in which a text stands, but for those of the test itself.
pub fn processes_with(text: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid == own || !pid.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        // A process may end while it is looked at.
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let folder = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if line.contains(text) || folder.to_string_lossy().contains(text) {
            found.push(format!("{pid} {line}"));
        }
    }
    found
}
