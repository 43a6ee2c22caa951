//! `handover source`.

mod undo;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use super::{
    Context, alarm,
    alarm::What,
    args::{SourceAction, SourceArgs, StatusArgs},
    authorize, daemon, fail, host,
    monitor::{self, View},
    progress::Display,
    setup, show, watch,
};
use crate::{
    config::{self, Config, ElementKind},
    manifest::Channel,
    notify::{Looked, Scope, Signal},
    report::{Collected, Exit, Finding, SourceRun, exit_of, runs::Activity},
    source::{
        channels,
        logs::matching,
        run::{self, Setup, finding_of},
        status::{self, Standing},
    },
    store::{self, handover_point::HandoverPoint},
    sys::{self, Dir, clock, progress::Progress},
};

pub(super) fn dispatch(context: &Context, args: SourceArgs) -> Exit {
    let action = args.action.unwrap_or(SourceAction::Run(args.run));
    if let SourceAction::Daemon(args) = &action {
        return daemon::source(context, args);
    }
    let what = match &action {
        SourceAction::Run(args) if !args.dry_run => Some(RUN),
        SourceAction::Watch => Some(watch::SOURCE),
        _ => None,
    };
    let config = match context.load_for(config::Role::Source, what) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let source = match config.source() {
        Ok(source) => source,
        Err(e) => return fail(Exit::Configuration, &e),
    };
    match action {
        SourceAction::Run(args) if args.dry_run => dry_run(&config, source),
        SourceAction::Run(args) => collect(context, &config, source, args.timings),
        SourceAction::Init(args) => setup::source(context, &config, source, &args),
        SourceAction::Authorize(args) => authorize::run(context, source, &args),
        SourceAction::Gate(_) => fail(Exit::Usage, &"the gate is for the key of a sink alone"),
        SourceAction::Discard(args) => {
            let state = state(&config);
            match undo::At::new(&state, source, args.channel) {
                Ok(at) => undo::discard(context, &at, &args),
                Err(exit) => exit,
            }
        }
        SourceAction::Undo { id, channel, dry_run } => {
            let state = state(&config);
            match undo::At::new(&state, source, channel) {
                Ok(at) => undo::run(context, &at, &id, dry_run),
                Err(exit) => exit,
            }
        }
        SourceAction::Status(how) => show_status(context, &config, source, &how),
        SourceAction::Watch => watch::source(context, &config, source),
        SourceAction::Daemon(_) => fail(Exit::Internal, &"the daemon reads its own configuration"),
    }
}

const RUN: What = What { role: "source", action: "run" };

pub(super) fn state(config: &Config) -> PathBuf {
    config.state.join(RUN.role)
}

fn collect(context: &Context, config: &Config, source: &config::Source, timings: bool) -> Exit {
    let mut said = alarm::ping(config, config::PingRole::Source, Signal::Start, "");
    let progress = Arc::new(Progress::default());
    let display = Display::start(context, vec![(source.name.to_string(), Arc::clone(&progress))]);
    let host = host();
    let state = state(config);
    let mut report = run::run(&Setup {
        config: source,
        state: &state,
        config_text: &config.without_secrets,
        own: &config.own,
        host: &host,
        progress: &progress,
        clock: &clock::now,
    });
    drop(display);
    said.extend(tell(config, &report));
    said.extend(alarm::ping_end(config, config::PingRole::Source, report.exit, &[&report.findings]));
    report.exit = report.exit.worst(exit_of(&said));
    report.findings.extend(said);
    if timings {
        show::timings(&report.source, &report.timings);
    }
    if context.json {
        show::json(&report);
    } else {
        show::findings(&report.source, &report.findings, context.quiet);
        if !context.quiet && show::is_terminal() {
            report.generation.iter().chain(&report.logs).for_each(summary);
        }
    }
    report.exit
}

/// Mails what has changed with this run.
fn tell(config: &Config, report: &SourceRun) -> Vec<Finding> {
    let scope = Scope {
        name: &report.source,
        findings: &report.findings,
        generation: report
            .generation
            .as_ref()
            .or(report.logs.as_ref())
            .map(|generation| generation.id.as_str()),
        looked: if report.complete { Looked::run() } else { Looked::nothing() },
    };
    alarm::deliver(config, RUN, report.exit, vec![scope])
}

fn summary(generation: &Collected) {
    let rows = generation
        .elements
        .iter()
        .map(|e| {
            let state = if e.ok {
                "ok".to_owned()
            } else {
                format!("FAILED: {}", e.reason.as_deref().unwrap_or_default())
            };
            vec![e.name.clone(), e.kind.clone(), e.files.to_string(), show::size(e.bytes), state]
        })
        .collect();
    show::talk(&show::table(&["element", "kind", "files#", "size#", "state"], rows));
    show::talk(&format!(
        "{} handed over: {}, {}, of which {} were read",
        generation.id,
        show::count(generation.files, "file", "files"),
        show::size(generation.bytes),
        show::size(generation.bytes_read),
    ));
}

/// Says what a run would do: which elements, from where, and what waits.
fn dry_run(config: &Config, source: &config::Source) -> Exit {
    let mut exit = Exit::Ok;
    for element in &source.elements {
        match &element.kind {
            ElementKind::Tree(files) | ElementKind::Archive(files) => {
                for path in &files.paths {
                    let there = Dir::open(path).is_ok() || std::fs::symlink_metadata(path).is_ok();
                    let state = if there { "would be collected" } else { "MISSING: the element would fail" };
                    if !there {
                        exit = Exit::SomeFailed;
                    }
                    show::talk(&format!(
                        "{}: {} {state}",
                        element.name,
                        sys::show(path.as_os_str().as_encoded_bytes())
                    ));
                }
            }
            ElementKind::Dump(dump) => {
                show::talk(&format!("{}: `{}` would be run", element.name, dump.command.join(" ")));
            }
        }
    }
    if let Some(logs) = &source.logs {
        exit = exit.worst(dry_run_logs(config, logs));
    }
    for (channel, home) in channels(source) {
        match HandoverPoint::open_known(home, channel, &state(config)).and_then(|point| point.waiting()) {
            Ok(listing) => show::talk(&format!(
                "{channel}: {} waiting at the Handover Point",
                show::count(listing.items.len() as u64, "generation", "generations")
            )),
            Err(e) => return refuse(&e),
        }
    }
    exit
}

/// Ends a command that the home refused.
pub(super) fn refuse(error: &store::Error) -> Exit {
    let exit = if error.is_storage() { Exit::Storage } else { Exit::Configuration };
    match error {
        store::Error::HomeGone { .. } => {
            fail(exit, &format_args!("{error}\n  -> {}", store::Error::HOME_GONE))
        }
        _ => fail(exit, error),
    }
}

fn dry_run_logs(config: &Config, logs: &config::Logs) -> Exit {
    match matching(logs, &config.own) {
        Ok(files) => {
            files.iter().for_each(|file| {
                show::talk(&format!(
                    "logs: {} would be looked at",
                    sys::show(file.as_os_str().as_encoded_bytes())
                ))
            });
            if files.is_empty() && !logs.paths.is_empty() {
                show::talk("logs: nothing matches the globs of [source.logs]");
            }
            Exit::Ok
        }
        Err(e) => fail(Exit::Configuration, &e),
    }
}

/// What the standing of this source is made from, of each of its channels; data first.
pub(super) fn places<'a>(source: &'a config::Source, state: &'a Path) -> Vec<status::Place<'a>> {
    let place = |(channel, home)| {
        let (alarm_after, max_waiting) = match (&source.logs, channel) {
            (Some(logs), Channel::Logs) => (logs.alarm_after, logs.max_waiting),
            _ => (source.alarm_after, source.max_waiting),
        };
        status::Place { name: source.name.as_str(), home, channel, state, alarm_after, max_waiting }
    };
    channels(source).into_iter().map(place).collect()
}

/// How all channels stand: as JSON the first with the logs beside it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    first: &'a Standing,
    logs: Option<&'a Standing>,
}

/// How each channel stands, for monitoring: one that cannot be looked at hides no other.
pub(super) fn views(config: &Config, source: &config::Source, now: jiff::Timestamp) -> Vec<View> {
    let state = state(config);
    let view = |place: status::Place<'_>| match status::standing(&place, now) {
        Ok(standing) => monitor::of_source(&standing, place.alarm_after, now),
        Err(e) => {
            let finding = finding_of(&e.into(), source.name.as_str());
            View::failed("source", place.channel, source.name.as_str(), &finding)
        }
    };
    places(source, &state).into_iter().map(view).collect()
}

fn show_status(context: &Context, config: &Config, source: &config::Source, how: &StatusArgs) -> Exit {
    let (now, state) = (clock::now(), state(config));
    if !how.is_for_people() {
        return monitor::tell(context, how, &views(config, source, now));
    }
    let standings: store::Result<Vec<Standing>> =
        places(source, &state).into_iter().map(|place| status::standing(&place, now)).collect();
    let standings = match standings {
        Ok(standings) => standings,
        Err(e) => return refuse(&e),
    };
    if let (true, Some(first)) = (context.json, standings.first()) {
        let logs = standings.iter().find(|standing| standing.channel == Channel::Logs);
        return show::json(&Shown { first, logs });
    }
    for standing in &standings {
        if standings.len() > 1 {
            show::data(&format!("{}:", standing.channel));
        }
        table(standing, now);
    }
    Exit::Ok
}

fn table(standing: &Standing, now: jiff::Timestamp) {
    let rows = standing.waiting.iter().chain(&standing.stored).map(|row| {
        vec![
            row.id.clone(),
            row.sequence.to_string(),
            show::age(row.collected, now),
            row.files.to_string(),
            show::size(row.bytes),
            row.state.to_owned(),
        ]
    });
    let head = ["generation", "sequence#", "age#", "files#", "size#", "state"];
    show::data(&show::table(&head, rows.collect()));
    if standing.condemned > 0 {
        let condemned = show::count(standing.condemned, "condemned generation", "condemned generations");
        show::data(&format!("{condemned} can be taken back"));
    }
    let ago = |at: Option<jiff::Timestamp>| {
        at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", show::age(at, now)))
    };
    let attempt = standing.last_attempt.as_ref();
    let how = attempt.map_or_else(String::new, |run| format!(", {}", run.exit.name()));
    show::data(&format!("last attempt: {}{how}", ago(attempt.map(|run| run.finished))));
    show::data(&format!("last success: {}", ago(standing.last_success_at)));
    show::data(&format!("newest data that a sink has: {}", ago(standing.accepted_at)));
    if standing.channel == Channel::Data {
        let how = standing.drill.as_ref().map_or_else(String::new, |drill| match &standing.drill_refused {
            Some(why) => format!(": {} could not be tried: {why}", drill.id),
            None => {
                let word = if drill.ok { "can be restored" } else { "COULD NOT be restored" };
                format!(": {} {word}, tried in {} s", drill.id, drill.seconds)
            }
        });
        show::data(&format!("last drill: {}{how}", ago(standing.drill.as_ref().map(|drill| drill.at))));
    }
    if let Activity::Running { began } = standing.activity {
        show::data(&format!("a run is at work, for {}", show::age(began, now)));
    }
    monitor::concerns(&standing.concerns);
}
