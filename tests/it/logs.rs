//! Logs on the source: each content once, through rotation, copies and compression.

mod hostile;
pub(crate) mod journal;
mod rotation;
mod steady;
mod way;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use handover::manifest::{Channel, Digest, Generation, Piece, pieces};
use serde_json::Value;

use crate::harness::{Lab, Ran, names};

/// A source that has only logs, in `log/` of its lab.
pub(crate) struct Logs(pub(crate) Lab);

impl Logs {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// With further keys of `[source.logs]`.
    pub(crate) fn with(keys: &str) -> Self {
        Self::of(Lab::new(), keys)
    }

    pub(crate) fn of(lab: Lab, keys: &str) -> Self {
        let logs = Self(lab);
        fs::create_dir(logs.0.path("log")).unwrap();
        logs.config(keys, "");
        logs.0.run(&["source", "init"]).exits(0);
        logs
    }

    /// Keys of `[source.logs]`, and elements.
    pub(crate) fn config(&self, keys: &str, elements: &str) {
        let paths = if keys.contains("paths =") { "" } else { "paths = [\"{lab}/log/**/*\"]\n" };
        self.0.config_text(&format!(
            "state = \"{{lab}}/state\"\n[source]\nname = \"shop\"\nhome = \"{{lab}}/home\"\nreserve = \"0B\"\n\
             [source.logs]\nhome = \"{{lab}}/logs\"\n{paths}{keys}\n{elements}"
        ));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path("log").join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn append(&self, name: &str, text: &str) {
        use std::io::Write as _;
        let mut file = fs::File::options().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// As logrotate's `copytruncate`.
    pub(crate) fn copy_truncate(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
        fs::File::options().write(true).open(self.path(from)).unwrap().set_len(0).unwrap();
    }

    /// Packs a file as the program of that name does: a new file, then the old one goes.
    pub(crate) fn pack(&self, program: &str, name: &str) {
        let mut command = std::process::Command::new(program);
        command.arg("-q").arg(self.path(name));
        if program == "zstd" {
            command.arg("--rm");
        }
        assert!(command.status().unwrap().success());
    }

    /// A run that ends so; gives its report.
    #[track_caller]
    pub(crate) fn run(&self, code: i32) -> Value {
        self.0.source(code)
    }

    /// A run that collects, whatever waits.
    #[track_caller]
    pub(crate) fn collect(&self) -> Value {
        let ran = self.0.run(&["source", "--json"]);
        assert!([0, 4].contains(&ran.code), "{ran:?}");
        ran.json()
    }

    pub(crate) fn waiting(&self) -> Vec<String> {
        names(&self.0.path("logs/transport-outgoing"))
    }

    pub(crate) fn store(&self) -> Store {
        let mut store = Store::default();
        for id in self.waiting() {
            store.read(&self.0.path("logs/transport-outgoing").join(id));
        }
        store
    }

    /// A log as it comes out of all generations together.
    #[track_caller]
    pub(crate) fn cat(&self, name: &str) -> String {
        self.store().cat(&self.path(name))
    }

    /// The gate, asked as a sink asks it.
    pub(crate) fn gate(&self, request: &str, stdin: &str) -> Ran {
        use std::{io::Write as _, process::Stdio};
        let home = self.0.path("logs");
        let args = ["source", "gate", "--channel", "logs", "--home", home.to_str().unwrap()];
        let mut command = self.0.handover(&args);
        command.env("SSH_ORIGINAL_COMMAND", request);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        Ran::new(&child.wait_with_output().unwrap())
    }
}

/// Pieces of logs with their content, from many generations.
#[derive(Default)]
pub(crate) struct Store {
    pieces: Vec<(Piece, Vec<u8>)>,
}

impl Store {
    /// Reads a generation, and proves what its lists say.
    #[track_caller]
    pub(crate) fn read(&mut self, folder: &Path) {
        let generation = Generation::parse(&fs::read(folder.join("generation.toml")).unwrap()).unwrap();
        assert_eq!(generation.channel, Channel::Logs);
        for element in &generation.elements {
            assert_eq!(element.kind, pieces::KIND);
            let data = folder.join("data").join(element.name.as_str());
            let list = fs::read(data.join(pieces::FILE)).unwrap();
            let mut stored = 1;
            for line in list.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                let piece = Piece::parse(line).unwrap();
                let name = String::from_utf8(piece.stored.0.clone()).unwrap();
                let content = fs::read(data.join(&name)).unwrap();
                assert_eq!(content.len() as u64, piece.length, "{name}");
                assert!(!content.is_empty(), "{name}");
                self.pieces.push((piece, content));
                stored += 1;
            }
            assert_eq!(element.files, stored, "{element:?}");
        }
        let sums = folder.join("SHA256SUMS");
        let status = std::process::Command::new("sha256sum")
            .args(["--quiet", "-c"])
            .arg(&sums)
            .current_dir(folder)
            .status();
        assert!(status.unwrap().success());
        let sums = fs::read(&sums).unwrap();
        assert_eq!(Digest::of(&sums), generation.sha256.sha256sums);
    }

    /// Every log: its streams in their order, each without a hole and without anything twice.
    pub(crate) fn logs(mut self) -> BTreeMap<PathBuf, String> {
        self.pieces.sort_by(|(a, _), (b, _)| a.key().cmp(&b.key()));
        let mut logs: BTreeMap<PathBuf, String> = BTreeMap::new();
        let mut ends: BTreeMap<String, u64> = BTreeMap::new();
        for (piece, content) in self.pieces {
            let end = ends.entry(piece.stream.clone()).or_insert(piece.offset);
            assert_eq!(*end, piece.offset, "{piece:?}");
            *end += piece.length;
            let log = PathBuf::from(String::from_utf8(piece.log.0).unwrap());
            logs.entry(log).or_default().push_str(std::str::from_utf8(&content).unwrap());
        }
        logs
    }

    #[track_caller]
    pub(crate) fn cat(self, log: &Path) -> String {
        let mut logs = self.logs();
        logs.remove(log).unwrap_or_else(|| panic!("{} is not in {:?}", log.display(), logs.keys()))
    }
}
