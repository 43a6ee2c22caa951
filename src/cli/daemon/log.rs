//! What a daemon says: a line for each run.

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::{
    cli::{Context, show},
    report::{Exit, Finding, Kind},
};

/// All exit codes that a run has by itself.
const KNOWN: [Exit; 11] = [
    Exit::Ok,
    Exit::SomeFailed,
    Exit::PreviousTransportFailed,
    Exit::Configuration,
    Exit::Busy,
    Exit::Unreachable,
    Exit::VerificationFailed,
    Exit::Storage,
    Exit::AlarmNotDelivered,
    Exit::Interrupted,
    Exit::Internal,
];

/// A run, as a line of JSON.
#[derive(Serialize)]
pub(super) struct Ran<'a> {
    pub(super) at: Timestamp,
    pub(super) role: &'a str,
    pub(super) action: &'a str,
    pub(super) exit: &'a str,
    pub(super) code: i32,
    pub(super) seconds: i64,
    pub(super) next: Timestamp,
}

/// A time as the host's clock shows it.
pub(super) fn local(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// Says a line.
pub(super) fn line(context: &Context, now: Timestamp, text: &str) {
    if context.json {
        one(&serde_json::json!({ "at": now, "text": text }));
    } else {
        show::data(&format!("{} {text}", local(now, &TimeZone::system())));
    }
}

/// Says a value in one line, as programs read a log.
pub(super) fn one(value: &impl Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        show::data(&text);
    }
}

/// The name of an exit code.
pub(super) fn name(code: i32) -> &'static str {
    KNOWN.into_iter().find(|exit| i32::from(exit.code()) == code).map_or("crashed", Exit::name)
}

/// A run that ended as none ends by itself could tell nobody.
pub(super) fn crash(subject: &str, code: i32) -> Option<Finding> {
    if name(code) != "crashed" {
        return None;
    }
    let how = match code {
        129.. => format!("signal {}", code - 128),
        _ => format!("exit code {code}"),
    };
    let text = format!("`handover {subject}` ended with {how} and could tell nobody");
    let fix = format!("run `handover {subject}` by hand and read what it says; is there enough memory?");
    Some(Finding::new(Kind::Internal, subject, text).with_fix(fix))
}
