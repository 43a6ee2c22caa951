//! `handover sink undo` and `quarantine retry, drop`: what was taken away or put aside.

use serde::Serialize;

use super::{Outcome, Sink, list};
use crate::{
    cli::{Context, args::QuarantineAction, ask, fail, show},
    manifest::GenerationId,
    report::Exit,
    store::{
        condemned::{Condemned, FORGOTTEN, TAKEN_BACK},
        quarantine::Quarantined,
    },
    sys::{self, name::Name},
};

/// What was taken back.
#[derive(Serialize)]
struct TakenBack {
    source: String,
    id: String,
    pinned: Option<String>,
    dry_run: bool,
}

/// What became of something that was put aside.
#[derive(Serialize)]
struct Aside {
    source: String,
    id: String,
    action: &'static str,
    dry_run: bool,
}

/// Takes a condemned generation back, or all: pinned, so that the retention that condemned it does not do so again.
pub(super) fn undo(
    context: &Context,
    sink: &Sink<'_>,
    name: &Name,
    id: Option<&GenerationId>,
    dry_run: bool,
) -> Outcome {
    let (store, _lock) = sink.locked(name, "undo")?;
    let condemned = store.condemned().map_err(|e| sink.refuse(&e))?.0;
    let chosen: Vec<&Condemned> =
        condemned.iter().filter(|c| id.is_none_or(|id| c.found.id() == id)).collect();
    if chosen.is_empty() {
        let ids: Vec<&str> = condemned.iter().map(|c| c.found.id().as_str()).collect();
        let there = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
        let wanted = id.map_or_else(String::new, |id| format!(" {id}"));
        let text = format!("{name} has no condemned generation{wanted}; what can be taken back: {there}");
        return Err(fail(Exit::Usage, &text));
    }
    let mut back = Vec::new();
    for one in chosen {
        let id = one.found.id();
        if store.get(id).map_err(|e| sink.refuse(&e))?.is_some() {
            let text = format!("{name} has {id} in the store too: nothing is taken back over it");
            return Err(fail(Exit::Usage, &text));
        }
        if !dry_run {
            store.undo(id).map_err(|e| sink.refuse(&e))?;
        }
        back.push(taken_back(name, one, dry_run));
    }
    match (&back[..], id) {
        ([one], Some(_)) if context.json => return Ok(show::json(one)),
        (all, _) if context.json => return Ok(show::json(&all)),
        (all, _) => all.iter().for_each(|one| tell(sink, one)),
    }
    Ok(Exit::Ok)
}

fn taken_back(name: &Name, one: &Condemned, dry_run: bool) -> TakenBack {
    let forgotten = one.reason == FORGOTTEN;
    let pinned = one.marks.pinned.as_deref().or((!forgotten).then_some(TAKEN_BACK));
    TakenBack {
        source: name.to_string(),
        id: one.found.id().to_string(),
        pinned: pinned.map(|why| sys::show(why.as_bytes())),
        dry_run,
    }
}

fn tell(sink: &Sink<'_>, TakenBack { source, id, pinned, dry_run }: &TakenBack) {
    let (is, role) = (if *dry_run { "would be" } else { "is" }, sink.config.role);
    show::talk(&match pinned {
        None => format!("{id} {is} back"),
        Some(pinned) => format!(
            "{id} {is} back and pinned ({pinned}), so that the retention leaves it; give it back to the retention with: \
             handover {role} pin {source} {id} --remove"
        ),
    });
}

/// What can be done with what was put aside.
pub(super) fn quarantine(context: &Context, sink: &Sink<'_>, action: &QuarantineAction) -> Outcome {
    let (name, verb, dry_run) = match action {
        QuarantineAction::List => return list::quarantine(context, sink),
        QuarantineAction::Retry { name, dry_run } => (name, "retry", *dry_run),
        QuarantineAction::Drop { name, dry_run, .. } => (name, "drop", *dry_run),
    };
    let (store, _lock) = sink.locked(name, &format!("quarantine {verb}"))?;
    let aside = store.quarantined().map_err(|e| sink.refuse(&e))?;
    let role = sink.config.role;
    if aside.is_empty() {
        let text = format!("nothing of {name} was put aside: see `handover {role} quarantine list`");
        return Err(fail(Exit::Usage, &text));
    }
    if let QuarantineAction::Drop { yes: false, dry_run: false, .. } = action {
        for Quarantined { id, reason, .. } in &aside {
            show::talk(&format!("{name}: {id}: {reason}"));
        }
        if !ask::agrees(context, "remove it from the disk? It cannot be taken back then. [y/N]") {
            return Err(ask::nobody_agreed("--yes"));
        }
    }
    for Quarantined { id, .. } in aside.iter().filter(|_| !dry_run) {
        let done = match action {
            QuarantineAction::Retry { .. } => store.retry_quarantined(id),
            _ => store.drop_quarantined(id),
        };
        done.map_err(|e| sink.refuse(&e))?;
    }
    if context.json {
        let row = |one: &Quarantined| Aside {
            source: name.to_string(),
            id: one.id.to_string(),
            action: verb,
            dry_run,
        };
        return Ok(show::json(&aside.iter().map(row).collect::<Vec<_>>()));
    }
    let would = if dry_run { "would be" } else { "was" };
    for Quarantined { id, .. } in &aside {
        let next = match action {
            QuarantineAction::Retry { .. } => format!(
                "taken back: `handover {role} run {name}` checks all of it again and goes on, if the source still offers \
                 it; one that it was told to be damaged it collects afresh"
            ),
            _ => format!(
                "removed from the disk; if the source still offers it, `handover {role} run {name}` fetches it anew"
            ),
        };
        show::talk(&format!("{name}: {id} {would} {next}"));
    }
    Ok(Exit::Ok)
}
