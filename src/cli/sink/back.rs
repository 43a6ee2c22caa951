//! `handover sink undo` and `quarantine retry, drop`: what was taken away or put aside.

use serde::Serialize;

use super::{Outcome, Sink, list};
use crate::{
    cli::{Context, args::QuarantineAction, fail, show},
    manifest::GenerationId,
    report::Exit,
    store::{condemned::TAKEN_BACK, quarantine::Quarantined},
    sys::{self, name::Name},
};

/// What was taken back.
#[derive(Serialize)]
struct TakenBack<'a> {
    source: &'a str,
    id: &'a str,
    pinned: &'a str,
}

/// Takes a condemned generation back, pinned, so that the retention that condemned it does not do so again.
pub(super) fn undo(context: &Context, sink: &Sink<'_>, name: &Name, id: &GenerationId) -> Outcome {
    let (store, _lock) = sink.locked(name, "undo")?;
    let condemned = store.condemned().map_err(|e| sink.refuse(&e))?.0;
    let role = sink.config.role;
    let Some(one) = condemned.iter().find(|c| c.found.id() == id) else {
        let ids: Vec<&str> = condemned.iter().map(|c| c.found.id().as_str()).collect();
        let there = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
        return Err(fail(
            Exit::Usage,
            &format!("{name} has no condemned generation {id}; what can be taken back: {there}"),
        ));
    };
    let pinned = sys::show(one.marks.pinned.as_deref().unwrap_or(TAKEN_BACK).as_bytes());
    store.undo(id).map_err(|e| sink.refuse(&e))?;
    if context.json {
        return Ok(show::json(&TakenBack { source: name.as_str(), id: id.as_str(), pinned: &pinned }));
    }
    show::talk(&format!(
        "{id} is back and pinned ({pinned}), so that the retention leaves it; give it back to the retention with: \
         handover {role} pin {name} {id} --remove"
    ));
    Ok(Exit::Ok)
}

/// What can be done with what was put aside.
pub(super) fn quarantine(context: &Context, sink: &Sink<'_>, action: &QuarantineAction) -> Outcome {
    let (name, verb) = match action {
        QuarantineAction::List => return list::quarantine(context, sink),
        QuarantineAction::Retry { name } => (name, "retry"),
        QuarantineAction::Drop { name } => (name, "drop"),
    };
    let (store, _lock) = sink.locked(name, &format!("quarantine {verb}"))?;
    let aside = store.quarantined().map_err(|e| sink.refuse(&e))?;
    let role = sink.config.role;
    if aside.is_empty() {
        let text = format!("nothing of {name} was put aside: see `handover {role} quarantine list`");
        return Err(fail(Exit::Usage, &text));
    }
    for Quarantined { id, .. } in &aside {
        let (done, next) = match action {
            QuarantineAction::Retry { .. } => (
                store.retry_quarantined(id),
                format!(
                    "was taken back: `handover {role} run {name}` checks all of it again and goes on, if the source still \
                     offers it; one that it was told to be damaged it collects afresh"
                ),
            ),
            _ => (
                store.drop_quarantined(id),
                format!(
                    "was removed from the disk; if the source still offers it, `handover {role} run {name}` fetches it anew"
                ),
            ),
        };
        done.map_err(|e| sink.refuse(&e))?;
        show::talk(&format!("{name}: {id} {next}"));
    }
    Ok(Exit::Ok)
}
