//! `handover restore --to`.

use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use super::{
    super::{Context, args::RestoreRunArgs, fail, progress::Display, show},
    id, there,
};
use crate::{
    config::{self, Config},
    manifest::Channel,
    report::{Exit, Finding, exit_of},
    restore::{
        below::{self, Ask, Below},
        pick::Wish,
    },
    store::{handover_point::HandoverPoint, ledger, places},
    sys::{Dir, progress::Progress},
};

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    below: Option<Below>,
    findings: Vec<Finding>,
    exit: Exit,
}

pub(super) fn run(context: &Context, args: &RestoreRunArgs, to: &Path) -> Result<Exit, Exit> {
    there(args.from.as_deref())?;
    let mut ask = ask(context, args, to)?;
    let progress = Arc::new(Progress::default());
    let display = Display::start(context, vec![("restore".to_owned(), Arc::clone(&progress))]);
    let mut findings = Vec::new();
    let done = below::run(&mut ask, &progress, &mut findings);
    drop(display);
    let subject = ask.wish.source.as_ref().map_or("restore", |name| name.as_str()).to_owned();
    let below = done.map_err(|e| findings.push(e.finding(&subject))).ok();
    let report = Report { below, exit: exit_of(&findings), findings };
    tell(context, &report, &subject);
    Ok(report.exit)
}

/// With a place that is named no configuration is needed; what there is says who this host is, and what it knows.
fn ask<'a>(context: &Context, args: &RestoreRunArgs, to: &'a Path) -> Result<Ask<'a>, Exit> {
    let config = match &args.from {
        Some(_) => config::load(&context.config, &config::Surroundings::here(), config::Role::Restore).ok(),
        None => Some(context.load(config::Role::Restore)?),
    };
    let here = config.as_ref().and_then(|config| config.source.as_ref()).map(|source| source.name.clone());
    let places = match &args.from {
        Some(from) => vec![from.clone()],
        None => looked(config.as_ref())?,
    };
    let state = config.as_ref().map(|config| config.state.join("source"));
    let ledger = state.and_then(|state| Dir::open(state).and_then(|state| ledger::read(&state)).ok());
    Ok(Ask {
        wish: Wish {
            id: id(&args.id),
            source: args.as_name.clone().or_else(|| here.clone()),
            channel: Channel::Data,
            elements: args.element.clone(),
            allow_older: args.allow_older,
            allow_partial: args.allow_partial,
            allow_torn: args.allow_partial,
            trust: args.trust,
        },
        is_named: args.as_name.is_some() || args.from.is_none(),
        places,
        home: config.map(|config| config.restore.home),
        here,
        ledger: ledger.unwrap_or_default(),
        paths: args.path.iter().map(|path| relative(path)).collect(),
        to,
        dry_run: args.dry_run,
    })
}

fn looked(config: Option<&Config>) -> Result<Vec<PathBuf>, Exit> {
    let config = config.ok_or(Exit::Configuration)?;
    config.source().map_err(|e| {
        fail(Exit::Configuration, &format!("{e}\nor name where the generation is: --from DIR"))
    })?;
    let known = HandoverPoint::check_known(&config.restore.home, Channel::Data, &config.state.join("source"));
    known.map_err(|e| super::super::source::refuse(&e))?;
    Ok([places::RESTORE, places::STORE].map(|place| config.restore.home.join(place)).to_vec())
}

fn relative(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().position(|b| *b != b'/').unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| *b != b'/').map_or(start, |last| last + 1);
    bytes[start..end].to_vec()
}

fn tell(context: &Context, report: &Report, subject: &str) {
    if context.json {
        show::json(report);
        return;
    }
    let damaged = report.below.iter().flat_map(|below| &below.written).flat_map(|written| &written.damaged);
    damaged.for_each(|line| show::talk(&format!("error: damaged and not written: {line}")));
    let written = report.below.iter().flat_map(|below| &below.written);
    for (what, count) in written.flat_map(|written| &written.unset) {
        show::talk(&format!("warning: {what}: {}", show::count(*count, "time", "times")));
    }
    show::findings(subject, &report.findings, context.quiet);
    if let Some(below) = &report.below {
        outcome(context, below);
    }
}

fn outcome(context: &Context, below: &Below) {
    let what =
        |files: u64, bytes: u64| format!("{}, {}", show::count(files, "file", "files"), show::size(bytes));
    let Below { id, why, to, wanted, written, .. } = below;
    match written {
        None => {
            let what = what(wanted.files, wanted.bytes);
            show::talk(&format!("would write {id} ({why}): {what} to {to}"));
        }
        Some(written) if written.damaged_count == 0 && !context.quiet => {
            let what = what(written.files, written.bytes);
            show::talk(&format!("{id} ({why}) written to {to}: {what}, every file proven"));
        }
        Some(_) => {}
    }
}
