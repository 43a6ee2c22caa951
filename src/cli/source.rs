//! `handover source`.

use std::{path::PathBuf, sync::Arc};

use serde::Serialize;

use super::{
    Context, alarm,
    alarm::What,
    args::{SourceAction, SourceArgs},
    authorize, fail, host,
    progress::Display,
    setup, show, watch,
};
use crate::{
    config::{self, Config, ElementKind},
    manifest::Channel,
    notify::{Looked, Scope, Signal},
    report::{Exit, Finding, SourceRun, exit_of},
    source::run::{self, Setup},
    source::status,
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
        SourceAction::Status => show_status(context, &config, source),
        SourceAction::Watch => watch::source(context, &config, source),
    }
}

const RUN: What = What { role: "source", action: "run" };

fn state(config: &Config) -> PathBuf {
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
    if let Err(e) = status::note(&state, &report) {
        show::talk(&format!("error: the status could not be written: {e}"));
    }
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

#[derive(Serialize)]
struct Status {
    source: String,
    waiting: Vec<StatusRow>,
    stored: Vec<StatusRow>,
    last_attempt: Option<SourceRun>,
    last_success: Option<SourceRun>,
}

#[derive(Serialize)]
struct StatusRow {
    id: String,
    sequence: u64,
    seal: String,
    files: u64,
    bytes: u64,
    state: &'static str,
}

fn show_status(context: &Context, config: &Config, source: &config::Source) -> Exit {
    let status = match read_status(config, source) {
        Ok(status) => status,
        Err(e) => return fail(Exit::Configuration, &e),
    };
    if context.json {
        return show::json(&status);
    }
    let rows = status.waiting.iter().chain(&status.stored).map(|row| {
        vec![
            row.id.clone(),
            row.sequence.to_string(),
            row.files.to_string(),
            show::size(row.bytes),
            row.state.to_owned(),
        ]
    });
    show::data(&show::table(&["generation", "sequence#", "files#", "size#", "state"], rows.collect()));
    let now = clock::now();
    let line = |what: &str, run: &Option<SourceRun>| match run {
        Some(run) => format!("{what}: {} ago, {}", show::age(run.finished, now), run.exit.name()),
        None => format!("{what}: never"),
    };
    show::data(&line("last attempt", &status.last_attempt));
    show::data(&line("last success", &status.last_success));
    Exit::Ok
}

fn read_status(config: &Config, source: &config::Source) -> Result<Status, crate::store::Error> {
    let point = HandoverPoint::open(&source.home, Channel::Data)?;
    let row = |found: &crate::store::Found, state| StatusRow {
        id: found.id().to_string(),
        sequence: found.generation.sequence,
        seal: found.seal.to_string(),
        files: found.generation.files,
        bytes: found.generation.bytes,
        state,
    };
    let listing = point.waiting()?;
    let waiting = listing.items.iter().map(|w| {
        let state = match (&w.rejected, w.reading) {
            (Some(_), _) => "rejected",
            (None, true) => "being fetched",
            (None, false) => "waiting",
        };
        row(&w.found, state)
    });
    let runs = status::read(&state(config))?;
    Ok(Status {
        source: source.name.to_string(),
        waiting: waiting.collect(),
        stored: point.stored()?.items.iter().map(|s| row(&s.found, "accepted")).collect(),
        last_attempt: runs.last_attempt,
        last_success: runs.last_success,
    })
}
