//! What a daemon says: a line for each run, and what its children say. With `--json` all of it is lines of JSON.

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::{
    cli::{Context, show},
    report::{Exit, Finding, Kind},
    sys::{self, clock},
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

/// Says what is wrong with the daemon itself.
pub(super) fn trouble(context: &Context, text: &str) {
    if context.json {
        one(&serde_json::json!({ "at": clock::now(), "text": text }));
    } else {
        show::talk(text);
    }
}

/// Says what a child said: nothing of it reaches a terminal, or breaks a line, as it is.
pub(super) fn heard(json: bool, from: &str, bytes: &[u8]) {
    let text = told(json, from, bytes, clock::now());
    text.iter().for_each(|text| show::data(text));
}

fn told(json: bool, from: &str, bytes: &[u8], now: Timestamp) -> Option<String> {
    let text = sys::show(bytes.strip_suffix(b"\n").unwrap_or(bytes).trim_ascii_end());
    if text.is_empty() {
        return None;
    }
    if !json {
        return Some(text);
    }
    serde_json::to_string(&serde_json::json!({ "at": now, "from": from, "text": text })).ok()
}

/// Passes on what a child says, line by line.
#[derive(Debug)]
pub(super) struct Voice(JoinHandle<()>);

impl Voice {
    /// A line is never longer than this: what is, is told in pieces.
    const LONGEST: u64 = 8192;
    /// So long it is waited for the last words of a child that has ended. Who holds the pipe longer is none of it.
    const LAST_WORDS: Duration = Duration::from_secs(1);

    /// Listens until whoever writes has gone.
    pub(super) fn new(json: bool, from: String, said: io::PipeReader) -> Self {
        Self(thread::spawn(move || {
            let mut said = BufReader::new(said);
            let mut line = Vec::new();
            loop {
                line.clear();
                match said.by_ref().take(Self::LONGEST).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => heard(json, &from, &line),
                }
            }
        }))
    }

    /// The child has ended: what it said last is said before anything else.
    pub(super) fn end(self) {
        let until = Instant::now() + Self::LAST_WORDS;
        while !self.0.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_says_is_one_line_without_orders_to_a_terminal() {
        let now: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
        let hostile = b"Invalid user \x1b[2J\x07\"}\r\xff from 192.0.2.1\r\n";
        let text = told(false, "sshd", hostile, now).unwrap();
        assert!(text.chars().all(|c| !c.is_control()) && text.contains("from 192.0.2.1"), "{text}");
        let line = told(true, "sshd", hostile, now).unwrap();
        assert!(!line.contains(['\n', '\x1b']), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((value["from"].as_str(), value["text"].as_str()), (Some("sshd"), Some(text.as_str())));
        assert_eq!(value["at"], "2026-11-23T03:00:00Z");
        assert_eq!(told(true, "sshd", b"\r\n", now), None);
    }
}
