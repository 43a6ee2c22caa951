//! `handover check --live`: the configuration against this host and the hosts it names.

mod sink;
mod source;

use std::path::Path;

use serde::Serialize;

use super::{Context, show};
use crate::{
    config::Config,
    remote::rsync,
    report::Exit,
    sys::{self, program, sandbox},
};

/// How one check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Error,
}

#[derive(Debug, Serialize)]
struct Row {
    role: &'static str,
    check: String,
    state: State,
    found: String,
    fix: Option<String>,
}

/// Looks at everything, and mends nothing.
struct Doctor {
    role: &'static str,
    rows: Vec<Row>,
}

impl Doctor {
    fn add(&mut self, check: impl Into<String>, state: State, found: impl Into<String>, fix: Option<String>) {
        self.rows.push(Row { role: self.role, check: check.into(), state, found: found.into(), fix });
    }

    fn ok(&mut self, check: impl Into<String>, found: impl Into<String>) {
        self.add(check, State::Ok, found, None);
    }

    fn warn(&mut self, check: impl Into<String>, found: impl Into<String>, fix: &str) {
        self.add(check, State::Warning, found, Some(fix.to_owned()));
    }

    fn error(&mut self, check: impl Into<String>, found: impl Into<String>, fix: &str) {
        self.add(check, State::Error, found, Some(fix.to_owned()));
    }
}

/// Checks all that the configuration points to; 10 if anything is wrong.
pub(super) fn run(context: &Context, config: &Config) -> Exit {
    let mut doctor = Doctor { role: "host", rows: Vec::new() };
    host(&mut doctor);
    if let Some(section) = &config.source {
        doctor.role = "source";
        source::check(&mut doctor, config, section);
    }
    for section in config.sinks() {
        doctor.role = section.role.name();
        sink::check(&mut doctor, config, section);
    }
    tell(context, &doctor.rows);
    if doctor.rows.iter().any(|row| row.state == State::Error) { Exit::Configuration } else { Exit::Ok }
}

fn tell(context: &Context, rows: &[Row]) {
    if context.json {
        show::json(&rows);
        return;
    }
    let shown: Vec<&Row> = rows.iter().filter(|row| !context.quiet || row.state != State::Ok).collect();
    if shown.is_empty() {
        return;
    }
    let word = |state| match state {
        State::Ok => "ok",
        State::Warning => "warning",
        State::Error => "ERROR",
    };
    let cells = |row: &&Row| {
        vec![row.role.to_owned(), row.check.clone(), word(row.state).to_owned(), row.found.clone()]
    };
    show::data(&show::table(&["role", "check", "state", "found"], shown.iter().map(cells).collect()));
    for row in shown {
        if let Some(fix) = &row.fix {
            show::data(&format!("{} {}: {}\n  -> {fix}", word(row.state), row.check, row.found));
        }
    }
}

fn host(doctor: &mut Doctor) {
    match program::find("rsync").map(|path| rsync::version(&path)) {
        None => doctor.error("rsync", "not installed", "install rsync, 3.5.0 or newer"),
        Some(Err(e)) => doctor.error("rsync", e.to_string(), "install rsync, 3.5.0 or newer"),
        Some(Ok(version)) => match version.verdict() {
            rsync::Verdict::Good => doctor.ok("rsync", version.to_string()),
            rsync::Verdict::Warn(why) => doctor.warn(
                "rsync",
                why,
                "install rsync 3.5.0 or newer, or make sure that your distribution has mended this one",
            ),
            rsync::Verdict::Refuse(why) => doctor.error("rsync", why, "install rsync 3.5.0 or newer"),
        },
    }
    let support = sandbox::support();
    match support.warning() {
        None => doctor.ok("sandbox", format!("Landlock {support}")),
        Some(why) => doctor.warn("sandbox", why, "use a kernel with Landlock (lsm=landlock,…)"),
    }
}

fn shown(path: &Path) -> String {
    sys::show(path.as_os_str().as_encoded_bytes())
}
