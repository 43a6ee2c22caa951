//! `handover sink verify`: every hash again.

use std::{path::Path, sync::Arc};

use serde::Serialize;

use super::{Outcome, Sink, refuse};
use crate::{
    cli::{Context, fail, progress::Display, show},
    config::SinkRole,
    manifest::GenerationId,
    report::Exit,
    store::{self, SourceStore, Stored, prove::Effort, verify::VerifyReport},
    sys::{self, clock, name::Name, progress::Progress},
};

/// Of one source, or of all.
pub(super) fn all(context: &Context, sink: &Sink<'_>, name: Option<&Name>, ids: &[GenerationId]) -> Outcome {
    let names: Vec<Name> = name.into_iter().cloned().collect();
    let mut exit = Exit::Ok;
    for source in sink.named(&names)? {
        let (store, _lock) = sink.locked(&source.name, "verify")?;
        exit = exit.worst(one(context, sink, &source.name, &store, ids)?);
    }
    Ok(exit)
}

#[derive(Serialize)]
struct Verified {
    source: String,
    id: String,
    files: u64,
    bytes: u64,
    whole: bool,
    damaged: Vec<String>,
}

fn verified(source: &str, id: &str, report: &VerifyReport) -> Verified {
    let bad = report.own.iter().chain(&report.content).map(ToString::to_string);
    let extra = report.extra.iter().map(|path| format!("{}: it does not belong here", sys::show(path)));
    Verified {
        source: source.to_owned(),
        id: id.to_owned(),
        files: report.files,
        bytes: report.bytes,
        whole: report.is_whole(),
        damaged: bad.chain(extra).collect(),
    }
}

fn tell_verified(context: &Context, all: &[Verified]) -> Exit {
    if context.json {
        show::json(&all);
    } else {
        for one in all {
            let state = if one.whole { "whole" } else { "DAMAGED" };
            let text =
                format!("{} {}: {state}, {} files, {}", one.source, one.id, one.files, show::size(one.bytes));
            if !one.whole || !context.quiet {
                show::data(text.trim_start());
            }
            one.damaged.iter().for_each(|line| show::data(&format!("  {line}")));
        }
    }
    if all.iter().all(|v| v.whole) { Exit::Ok } else { Exit::VerificationFailed }
}

fn effort(progress: &Arc<Progress>) -> Effort {
    let progress = Arc::clone(progress);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 8);
    Effort { threads, progress: Arc::new(move |bytes| progress.add_bytes(bytes)) }
}

fn one(
    context: &Context,
    sink: &Sink<'_>,
    name: &Name,
    store: &SourceStore,
    ids: &[GenerationId],
) -> Outcome {
    let progress = Arc::new(Progress::default());
    let display = Display::start(context, vec![(name.to_string(), Arc::clone(&progress))]);
    let (stored, strange) = store.stored().map_err(|e| sink.refuse(&e))?;
    let chosen: Vec<&Stored> = stored.iter().filter(|s| ids.is_empty() || ids.contains(s.id())).collect();
    if let Some(missing) = ids.iter().find(|id| !stored.iter().any(|s| s.id() == *id)) {
        return Err(fail(
            Exit::Usage,
            &format!(
                "{name} has no whole generation {missing} here: see `handover {} list {name}`",
                sink.config.role
            ),
        ));
    }
    let mut all = Vec::new();
    for one in chosen {
        progress.begin(format!("verifying {}", one.id()), 0, one.found.generation.bytes);
        let report = store.verify(one.id(), clock::now(), &effort(&progress)).map_err(|e| sink.refuse(&e))?;
        all.push(verified(name.as_str(), one.id().as_str(), &report));
    }
    drop(display);
    let torn = strange.iter().filter(|_| ids.is_empty()).map(|s| Verified {
        source: name.to_string(),
        id: sys::show(s.name.as_encoded_bytes()),
        files: 0,
        bytes: 0,
        whole: false,
        damaged: vec![s.why.clone()],
    });
    all.extend(torn);
    Ok(tell_verified(context, &all))
}

/// Reads a generation in any folder.
pub(super) fn path(context: &Context, role: SinkRole, path: &Path) -> Exit {
    let progress = Arc::new(Progress::default());
    let display = Display::start(context, vec![("verify".to_owned(), Arc::clone(&progress))]);
    let report = store::verify::verify_path(path, &effort(&progress));
    drop(display);
    match report {
        Ok(report) => {
            let shown = sys::show(path.as_os_str().as_encoded_bytes());
            tell_verified(context, &[verified("", &shown, &report)])
        }
        Err(e) => refuse(role, &e),
    }
}
