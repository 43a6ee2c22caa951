//! `handover source`.

use std::{path::PathBuf, sync::Arc};

use serde::Serialize;

use super::{
    Context,
    args::{SourceAction, SourceArgs},
    authorize, fail, host,
    progress::Display,
    setup, show,
};
use crate::{
    config::{self, Config, ElementKind},
    manifest::Channel,
    report::{Collected, Exit, SourceRun},
    source::{
        channels,
        logs::matching,
        run::{self, Setup},
        status,
    },
    store::handover_point::HandoverPoint,
    sys::{self, Dir, clock, progress::Progress},
};

pub(super) fn dispatch(context: &Context, args: SourceArgs) -> Exit {
    let action = args.action.unwrap_or(SourceAction::Run(args.run));
    let config = match context.load(config::Role::Source) {
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
        SourceAction::Init { users, dry_run } => setup::source(context, source, &users, dry_run),
        SourceAction::Authorize(args) => authorize::run(context, source, &args),
        SourceAction::Gate(_) => fail(Exit::Usage, &"the gate is for the key of a sink alone"),
        SourceAction::Status => show_status(context, &config, source),
    }
}

fn state(config: &Config) -> PathBuf {
    config.state.join("source")
}

fn collect(context: &Context, config: &Config, source: &config::Source, timings: bool) -> Exit {
    let progress = Arc::new(Progress::default());
    let display = Display::start(context, vec![(source.name.to_string(), Arc::clone(&progress))]);
    let host = host();
    let state = state(config);
    let report = run::run(&Setup {
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
        match HandoverPoint::open(home, channel).and_then(|point| point.waiting()) {
            Ok(listing) => show::talk(&format!(
                "{channel}: {} waiting at the Handover Point",
                show::count(listing.items.len() as u64, "generation", "generations")
            )),
            Err(e) => return fail(Exit::Configuration, &e),
        }
    }
    exit
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
    channel: Channel,
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
            row.channel.to_string(),
            row.id.clone(),
            row.sequence.to_string(),
            row.files.to_string(),
            show::size(row.bytes),
            row.state.to_owned(),
        ]
    });
    let head = ["channel", "generation", "sequence#", "files#", "size#", "state"];
    show::data(&show::table(&head, rows.collect()));
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
    let (mut waiting, mut stored) = (Vec::new(), Vec::new());
    for (channel, home) in channels(source) {
        let point = HandoverPoint::open(home, channel)?;
        let row = |found: &crate::store::Found, state| StatusRow {
            channel,
            id: found.id().to_string(),
            sequence: found.generation.sequence,
            seal: found.seal.to_string(),
            files: found.generation.files,
            bytes: found.generation.bytes,
            state,
        };
        waiting.extend(point.waiting()?.items.iter().map(|w| {
            let state = match (&w.rejected, w.reading) {
                (Some(_), _) => "rejected",
                (None, true) => "being fetched",
                (None, false) => "waiting",
            };
            row(&w.found, state)
        }));
        stored.extend(point.stored()?.items.iter().map(|s| row(&s.found, "accepted")));
    }
    let runs = status::read(&state(config))?;
    Ok(Status {
        source: source.name.to_string(),
        waiting,
        stored,
        last_attempt: runs.last_attempt,
        last_success: runs.last_success,
    })
}
