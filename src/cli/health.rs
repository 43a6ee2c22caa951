//! `handover health`: whether the daemons of this host work, and what they look after is well. For a container, whose
//! health is its daemon's.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{
    Context,
    daemon::Role,
    monitor::{self, View},
    show,
    sink::{self, Sink},
    source,
};
use crate::{
    config::{self, Config, Surroundings},
    daemon::{Note, note},
    report::{Exit, health::Level},
    sys::{Dir, clock, lock},
};

/// A daemon that is so much later than it said is stuck.
const LATE: SignedDuration = SignedDuration::from_mins(5);
/// Without an ssh server for so long, no sink comes in.
const NO_SSH: SignedDuration = SignedDuration::from_secs(60);

/// What was found of one role.
#[derive(Serialize)]
struct Found {
    role: &'static str,
    well: bool,
    text: String,
}

/// Says it in a line for each daemon; 1 if one of them is not well. Docker knows no other code.
pub(super) fn run(context: &Context) -> Exit {
    let now = clock::now();
    let found: Vec<Found> = Role::ALL.into_iter().filter_map(|role| look(context, role, now)).collect();
    let well = !found.is_empty() && found.iter().all(|found| found.well);
    if context.json {
        show::json(&serde_json::json!({ "well": well, "daemons": found }));
        return if well { Exit::Ok } else { Exit::Internal };
    }
    if found.is_empty() {
        show::data(
            "unhealthy: no daemon was ever started with this state; start `handover sink daemon` or its like",
        );
    }
    for Found { role, well, text } in &found {
        let word = if *well { "healthy" } else { "unhealthy" };
        show::data(&format!("{word}: {role}: {text}"));
    }
    if well { Exit::Ok } else { Exit::Internal }
}

/// A role that had a daemon here; the configuration of no other role is looked at.
fn look(context: &Context, role: Role, now: Timestamp) -> Option<Found> {
    let found = |well, text: String| Some(Found { role: role.name(), well, text });
    let config = match config::load(&context.config, &Surroundings::here(), role.config()) {
        Ok(config) => config,
        Err(e) => {
            // Where the file cannot be read, nobody knows where the state is but systemd or the image.
            let first = e.to_string().lines().next().unwrap_or_default().to_owned();
            return found(false, format!("the configuration is wrong: {first}"));
        }
    };
    let state = config.state.join(role.name());
    let dir = Dir::open(&state).ok()?;
    let note = match Note::load(&dir) {
        Ok(note) if note.started.is_none() => return None,
        Ok(note) => note,
        Err(e) => return found(false, e.to_string()),
    };
    match lock::holder(&state.join(note::LOCK)) {
        Ok(Some(_)) => {}
        Ok(None) => return found(false, "its daemon is not at work".to_owned()),
        Err(e) => return found(false, e.to_string()),
    }
    if let Some(why) = stalled(&note, now) {
        return found(false, why);
    }
    let views = views(&config, role, now);
    let level = monitor::level(&views);
    found(matches!(level, Level::Ok | Level::Warning), monitor::summary(&views))
}

/// What is wrong with the daemon itself, by what it noted.
fn stalled(note: &Note, now: Timestamp) -> Option<String> {
    for (action, run) in &note.jobs {
        if let Some(next) = run.next.filter(|next| now.duration_since(*next) > LATE) {
            return Some(format!("its {action} was due at {next} and did not begin"));
        }
        match run.code {
            Some(code) if run.ended.is_some() && could_not_work(code) => {
                return Some(format!("its last {action} ended with exit code {code}: read the log"));
            }
            _ => {}
        }
    }
    let since = note.no_ssh_since.filter(|since| now.duration_since(*since) > NO_SSH);
    since.map(|since| format!("its ssh server is down since {since}"))
}

/// Whether a run could not do its work at all. Of all others the status knows how much they matter: a source that does not
/// answer is one when its newest data has become too old.
fn could_not_work(code: i32) -> bool {
    let working = [
        Exit::Ok,
        Exit::SomeFailed,
        Exit::PreviousTransportFailed,
        Exit::Busy,
        Exit::Unreachable,
        Exit::AlarmNotDelivered,
        Exit::Interrupted,
    ];
    working.into_iter().all(|exit| i32::from(exit.code()) != code)
}

fn views(config: &Config, role: Role, now: Timestamp) -> Vec<View> {
    match role {
        Role::Source => {
            config.source.iter().flat_map(|section| source::views(config, section, now)).collect()
        }
        Role::Sink(role) => config.sink_of(role).map_or_else(
            |_| Vec::new(),
            |section| {
                sink::views(&Sink::new(config, section), &section.sources.iter().collect::<Vec<_>>(), now)
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_is_late_or_cannot_work_is_not_well() {
        let now: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
        let minutes = SignedDuration::from_mins;
        let with = |run: note::Run| {
            let mut note = Note::default();
            *note.job("run") = run;
            stalled(&note, now)
        };
        let ended = |code| note::Run { began: Some(now), ended: Some(now), code: Some(code), next: None };
        assert_eq!(with(note::Run { next: Some(now - minutes(4)), ..note::Run::default() }), None);
        assert!(with(note::Run { next: Some(now - minutes(6)), ..note::Run::default() }).is_some());
        // At work for as long as it takes.
        assert_eq!(with(note::Run { began: Some(now - minutes(6000)), ..note::Run::default() }), None);
        assert!([0, 3, 4, 11, 12, 16, 130].into_iter().all(|code| with(ended(code)).is_none()));
        assert!([1, 2, 10, 13, 14, 101, 137].into_iter().all(|code| with(ended(code)).is_some()));
        let mut down = Note::default();
        down.no_ssh_since = Some(now - minutes(2));
        assert!(stalled(&down, now).unwrap().contains("ssh"));
    }
}
