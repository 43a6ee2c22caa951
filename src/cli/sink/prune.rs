//! `handover sink prune`: what stays, what goes, and why.

use serde::Serialize;

use super::{Outcome, Sink};
use crate::{
    cli::{Context, show},
    report::{self, Exit},
    sink::{brake, forget, journal, prune},
    store::{condemned::FORGOTTEN, retention::Verdict},
    sys::{clock, name::Name},
};

#[derive(Serialize)]
struct Planned {
    source: String,
    id: String,
    goes: bool,
    reasons: Vec<String>,
}

/// Says it, and changes nothing.
pub(super) fn plan(context: &Context, sink: &Sink<'_>, names: &[Name]) -> Outcome {
    let (store, _) = sink.open()?;
    let mut rows = Vec::new();
    for source in sink.named(names)? {
        let kept = store.source(&source.name).map_err(|e| sink.refuse(&e))?;
        let decided = prune::decide(&kept, source, sink.config, clock::now()).map_err(|e| sink.refuse(&e))?;
        if let Some((_, why)) = &decided.losing.suspicious {
            show::talk(&format!("{}: nothing would go, and it would be suspicious: {why}", source.name));
        }
        for decision in decided.decisions {
            let (goes, reasons) = match &decision.verdict {
                Verdict::Keep(reasons) => (false, reasons.iter().map(ToString::to_string).collect()),
                Verdict::Condemn(reason) => (true, vec![reason.to_string()]),
            };
            rows.push(Planned {
                source: source.name.to_string(),
                id: decision.id.to_string(),
                goes,
                reasons,
            });
        }
    }
    if context.json {
        return Ok(show::json(&rows));
    }
    let lines = rows.iter().map(|r| {
        let verdict = if r.goes { "goes" } else { "stays" };
        vec![r.source.clone(), r.id.clone(), verdict.to_owned(), r.reasons.join("; ")]
    });
    show::data(&show::table(&["source", "generation", "verdict", "because"], lines.collect()));
    Ok(Exit::Ok)
}

/// Does it.
pub(super) fn now(context: &Context, sink: &Sink<'_>, names: &[Name]) -> Outcome {
    let mut exit = Exit::Ok;
    for source in sink.named(names)? {
        let (store, _lock) = sink.locked(&source.name, "prune")?;
        let recovered = store.recover().map_err(|e| sink.refuse(&e))?;
        if !context.quiet {
            let finished = recovered.deleted.iter();
            finished
                .for_each(|id| show::talk(&format!("{}: the deletion of {id} was finished", source.name)));
        }
        let pruned = prune::prune(&store, source, sink.config, clock::now()).map_err(|e| sink.refuse(&e))?;
        let mut findings = pruned.findings;
        if let Some((id, why)) = pruned.suspicious {
            let (_, state) = sink.open()?;
            let noted = journal::note(&state, source.name.as_str(), &id, (clock::now(), "suspicious"), why);
            noted.map_err(|e| sink.refuse(&e))?;
            let all = store.stored().map_err(|e| sink.refuse(&e))?;
            findings.extend(brake::finding(sink.config.role, source.name.as_str(), &all));
        }
        show::findings(source.name.as_str(), &findings, context.quiet);
        exit = exit.worst(report::exit_of(&findings));
        if !context.quiet {
            let condemned = pruned.condemned.iter();
            condemned.for_each(|(id, why)| show::talk(&format!("{}: {id} condemned: {why}", source.name)));
        }
    }
    if names.is_empty() {
        let (store, state) = sink.open()?;
        let gone = forget::purge(&store, sink.config, &state, clock::now()).map_err(|e| sink.refuse(&e))?;
        if !context.quiet {
            gone.iter().for_each(|(name, id)| show::talk(&format!("{name}: {id} deleted: {FORGOTTEN}")));
        }
    }
    Ok(exit)
}
