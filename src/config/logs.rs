//! `[source.logs]`: logs, which go a way of their own: another home, another key, and no store on the source.

use std::{path::PathBuf, time::Duration};

use globset::GlobBuilder;

use super::{
    files,
    table::{Given, Read, Table},
    value,
};

pub(super) const HEADER: &str = "[source.logs]";
pub(super) const KEYS: &[&str] =
    &["home", "paths", "exclude", "journald", "journal_directory", "alarm_after", "max_waiting"];
const HOME: &str = "/home/logBackupSource";

/// Logs of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// Home of the transport user of the logs: their Handover Point.
    pub home: PathBuf,
    /// Globs of files, absolute; each component is one that compiles.
    pub paths: Vec<String>,
    /// Patterns in gitignore syntax, relative to `/`, each proven to compile.
    pub exclude: Vec<String>,
    /// Whether the journal is taken.
    pub journald: bool,
    /// The journal's folder, where it is not the usual one.
    pub journal_directory: Option<PathBuf>,
    /// Something waits longer than this: alarm.
    pub alarm_after: Duration,
    /// Generations that may wait at the Handover Point; then no new one is made. At least 1.
    pub max_waiting: u32,
}

impl Logs {
    /// Reads the section.
    pub(super) fn read(table: &Table<'_>) -> Self {
        let logs = Self {
            home: table.or("home", HOME.into(), value::home),
            paths: table.list("paths", "[\"/var/log/nginx/*.log*\"]", glob),
            exclude: table.list("exclude", "[\"*.swp\"]", files::pattern),
            journald: table.or("journald", false, value::flag),
            journal_directory: table.optional("journal_directory", value::path),
            alarm_after: table.or("alarm_after", super::ALARM_AFTER, value::deadline("26h")),
            max_waiting: table.or("max_waiting", 7, |given| {
                let why = "at least one generation must be able to wait for the sink";
                value::count(given, 1..=u32::MAX, why, 7)
            }),
        };
        if !logs.journald && (!table.has("paths") || table.is_empty_list("paths")) {
            table.wrong(
                "there is no log to collect; write for example paths = [\"/var/log/nginx/*.log*\"], or journald = true",
            );
        }
        if !logs.journald {
            table
                .refuse(&["journal_directory"], "it is for the journal; write journald = true, or remove it");
        }
        logs
    }
}

/// A glob: an absolute path in which each component may hold `*`, `?`, `[..]` and `{a,b}`, and one that is `**` stands
/// for any number of folders.
fn glob(given: &Given<'_>) -> Read<String> {
    let path = value::path(given)?;
    let text = path.to_string_lossy().into_owned();
    for part in text.split('/').filter(|part| !part.is_empty() && *part != "**") {
        if let Err(e) = GlobBuilder::new(part).literal_separator(true).build() {
            let why = crate::sys::show(e.kind().to_string().as_bytes());
            return Err(format!(
                "not a glob ({why}); write for example {}",
                given.written("\"/var/log/nginx/*.log*\"")
            ));
        }
    }
    if text.ends_with("/**") {
        return Err("`**` stands for folders; write /**/* for the files in all of them".to_owned());
    }
    Ok(text)
}
