//! `handover logsink` from the outside: logs go over, are kept and dropped at the source, and are read as one.

mod cat;
mod run;

use std::{fs, io::Write as _};

use serde_json::Value;

use crate::harness::{Lab, Ran};

/// A source that has logs and nothing else, and the log sink beside it.
///
/// ```text
/// log/   the logs        logs/     home of the source's logs       logsink/   the log sink's home
/// ```
pub(crate) struct Logs {
    pub lab: Lab,
}

impl Logs {
    pub fn new() -> Self {
        let logs = Self { lab: Lab::new() };
        fs::create_dir(logs.lab.path("log")).unwrap();
        logs.configure("");
        logs.lab.run(&["source", "init"]).exits(0);
        logs.lab.run(&["logsink", "init"]).exits(0);
        logs
    }

    /// Writes the configuration with these keys of `[logsink]`.
    pub fn configure(&self, logsink: &str) {
        self.lab.config_text(&format!(
            "state = \"{{lab}}/state\"\n[source]\nname = \"shop\"\nhome = \"{{lab}}/home\"\nreserve = 0\n\
             [source.logs]\nhome = \"{{lab}}/logs\"\npaths = [\"{{lab}}/log/*.log*\"]\n\
             [logsink]\nhome = \"{{lab}}/logsink\"\nreserve = 0\n{logsink}\n\
             [[logsink.source]]\nname = \"shop\"\npath = \"{{lab}}/logs\"\n"
        ));
    }

    /// Appends to a log.
    pub fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.lab.path("log").join(name);
        let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    /// The path by which a log is known.
    pub fn path(&self, name: &str) -> String {
        self.lab.path("log").join(name).to_str().unwrap().to_owned()
    }

    /// Renames a log, as rotation does.
    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.lab.path("log").join(from), self.lab.path("log").join(to)).unwrap();
    }

    /// Collects and fetches; the report of the log sink.
    #[track_caller]
    pub fn both(&self) -> Value {
        self.lab.run(&["source", "run"]).exits(0);
        self.fetch(0)
    }

    /// `handover logsink`, with its report.
    #[track_caller]
    pub fn fetch(&self, code: i32) -> Value {
        self.lab.run(&["logsink", "--json"]).exits(code).json()
    }

    /// `handover logsink cat shop` with more arguments.
    pub fn cat(&self, more: &[&str]) -> Ran {
        self.lab.run(&[&["logsink", "cat", "shop"], more].concat())
    }

    /// The ids that the log sink has stored, in order.
    pub fn stored(&self) -> Vec<String> {
        let list = self.lab.run(&["logsink", "list", "--json"]).exits(0).json();
        let rows = list.as_array().unwrap().iter().filter(|row| row["state"] == "stored");
        rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }
}
