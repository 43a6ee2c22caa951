//! `handover logsink` from the outside: logs go over, are kept and dropped at the source, and are read as one.

mod cat;
mod run;

use serde_json::Value;

use crate::{
    harness::{Lab, Ran},
    logs,
};

/// A source that has logs and nothing else, and the log sink beside it, with its home in `logsink/`.
struct Logs {
    source: logs::Logs,
    keys: &'static str,
}

impl Logs {
    fn new() -> Self {
        Self::with("")
    }

    /// With further keys of `[source.logs]`.
    fn with(keys: &'static str) -> Self {
        let logs = Self { source: logs::Logs::with(keys), keys };
        logs.configure("");
        logs.lab().run(&["logsink", "init"]).exits(0);
        logs
    }

    fn lab(&self) -> &Lab {
        &self.source.0
    }

    /// Writes the configuration with these keys of `[logsink]`.
    fn configure(&self, logsink: &str) {
        let text = format!(
            "[logsink]\nhome = \"{{lab}}/logsink\"\nreserve = 0\n{logsink}\n\
             [[logsink.source]]\nname = \"shop\"\npath = \"{{lab}}/logs\"\n"
        );
        self.source.config(self.keys, &text);
    }

    /// The path by which a log is known.
    fn path(&self, name: &str) -> String {
        self.source.path(name).to_str().unwrap().to_owned()
    }

    /// Collects and fetches; the report of the log sink.
    #[track_caller]
    fn both(&self) -> Value {
        self.source.run(0);
        self.fetch(0)
    }

    /// `handover logsink`, with its report.
    #[track_caller]
    fn fetch(&self, code: i32) -> Value {
        self.lab().run(&["logsink", "--json"]).exits(code).json()
    }

    /// `handover logsink cat shop` with more arguments.
    fn cat(&self, more: &[&str]) -> Ran {
        self.lab().run(&[&["logsink", "cat", "shop"], more].concat())
    }

    /// The ids that the log sink has stored, in order.
    fn stored(&self) -> Vec<String> {
        let list = self.lab().run(&["logsink", "list", "--json"]).exits(0).json();
        let rows = list.as_array().unwrap().iter().filter(|row| row["state"] == "stored");
        rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }
}
