//! `handover source`.

mod undo;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Context, alarm,
    alarm::What,
    args::{SourceAction, SourceArgs, StatusArgs},
    authorize, fail, host,
    monitor::{self, View},
    progress::Display,
    setup, show, watch,
};
use crate::{
    config::{self, Config, ElementKind},
    manifest::Channel,
    notify::{Looked, Scope, Signal},
    report::{Exit, Finding, SourceRun, exit_of, runs::Activity},
    source::{
        run::{self, Setup, finding_of},
        status::{self, Standing},
    },
    store::handover_point::HandoverPoint,
    sys::{self, Dir, clock, progress::Progress},
};

pub(super) fn dispatch(context: &Context, args: SourceArgs) -> Exit {
    let action = args.action.unwrap_or(SourceAction::Run(args.run));
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
        SourceAction::Run(args) if args.dry_run => dry_run(source),
        SourceAction::Run(args) => collect(context, &config, source, args.timings),
        SourceAction::Init { user, dry_run } => setup::source(context, source, user.as_deref(), dry_run),
        SourceAction::Authorize(args) => authorize::run(context, source, &args),
        SourceAction::Gate(_) => fail(Exit::Usage, &"the gate is for the key of a sink alone"),
        SourceAction::Undo { id, dry_run } => undo::run(context, &state(&config), source, &id, dry_run),
        SourceAction::Status(how) => show_status(context, &config, source, &how),
        SourceAction::Watch => watch::source(context, &config, source),
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
            summary(&report);
        }
    }
    report.exit
}

/// Mails what has changed with this run.
fn tell(config: &Config, report: &SourceRun) -> Vec<Finding> {
    let scope = Scope {
        name: &report.source,
        findings: &report.findings,
        generation: report.generation.as_ref().map(|generation| generation.id.as_str()),
        looked: if report.complete { Looked::run() } else { Looked::nothing() },
    };
    alarm::deliver(config, RUN, report.exit, vec![scope])
}

fn summary(report: &SourceRun) {
    let Some(generation) = &report.generation else { return };
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
fn dry_run(source: &config::Source) -> Exit {
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
    match HandoverPoint::open(&source.home, Channel::Data).and_then(|point| point.waiting()) {
        Ok(listing) => {
            show::talk(&format!(
                "{} waiting at the Handover Point",
                show::count(listing.items.len() as u64, "generation", "generations")
            ));
            exit
        }
        Err(e) => fail(Exit::Configuration, &e),
    }
}

/// What the standing of this source is made from.
pub(super) fn place<'a>(source: &'a config::Source, state: &'a Path) -> status::Place<'a> {
    status::Place {
        name: source.name.as_str(),
        home: &source.home,
        channel: Channel::Data,
        state,
        alarm_after: source.alarm_after,
        max_waiting: source.max_waiting,
    }
}

fn show_status(context: &Context, config: &Config, source: &config::Source, how: &StatusArgs) -> Exit {
    let (now, state) = (clock::now(), state(config));
    match status::standing(&place(source, &state), now) {
        Ok(standing) if how.is_for_people() => table(context, &standing, now),
        Ok(standing) => {
            monitor::tell(context, how, &[monitor::of_source(&standing, source.alarm_after, now)])
        }
        Err(e) if how.is_for_people() => fail(Exit::Configuration, &e),
        Err(e) => {
            let finding = finding_of(&e.into(), source.name.as_str());
            let view = View::failed("source", Channel::Data, source.name.as_str(), &finding);
            monitor::tell(context, how, &[view])
        }
    }
}

fn table(context: &Context, standing: &Standing, now: jiff::Timestamp) -> Exit {
    if context.json {
        return show::json(standing);
    }
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
    if let Activity::Running { began } = standing.activity {
        show::data(&format!("a run is at work, for {}", show::age(began, now)));
    }
    monitor::concerns(&standing.concerns);
    Exit::Ok
}
