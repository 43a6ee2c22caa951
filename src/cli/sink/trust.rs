//! `handover sink trust`: somebody has looked, and what seemed suspicious is as it should be.

use serde::Serialize;

use super::{Outcome, Sink};
use crate::{
    cli::{Context, fail, show},
    manifest::GenerationId,
    report::Exit,
    sink::brake,
    sys::{self, clock, name::Name},
};

/// What was trusted, or would be.
#[derive(Serialize)]
struct Trusted {
    source: String,
    trusted: Vec<One>,
    replaced_bit_by_bit: Vec<String>,
    still_suspicious: Vec<String>,
    dry_run: bool,
}

#[derive(Serialize)]
struct One {
    id: String,
    was_suspicious: String,
}

pub(super) fn trust(
    context: &Context,
    sink: &Sink<'_>,
    name: &Name,
    id: Option<&GenerationId>,
    dry_run: bool,
) -> Outcome {
    let (store, _lock) = sink.locked(name, "trust")?;
    let (_, state) = sink.open()?;
    let (stored, strange) = store.stored().map_err(|e| sink.refuse(&e))?;
    let which = brake::suspicious(&stored, id);
    // Nobody's word helps against what cannot be read.
    if let Some(finding) = brake::of_strange(name.as_str(), &strange).filter(|_| which.is_empty()) {
        return Err(fail(
            Exit::SomeFailed,
            &format!("{}\n  -> {}", finding.text, finding.fix.unwrap_or_default()),
        ));
    }
    if let Some(id) = id.filter(|id| !stored.iter().any(|s| s.id() == *id)) {
        let text =
            format!("{name} has no stored generation {id}: see `handover {} list {name}`", sink.config.role);
        return Err(fail(Exit::Usage, &text));
    }
    let turning = match dry_run {
        true => brake::turning(&stored, &which),
        false => brake::trust(&store, &state, &which, clock::now()).map_err(|e| sink.refuse(&e))?,
    };
    let all = brake::suspicious(&stored, None).into_iter();
    let still: Vec<String> = all.filter(|one| !which.contains(one)).map(|(id, _)| id.to_string()).collect();
    if context.json {
        let one = |(id, why): (GenerationId, String)| One { id: id.to_string(), was_suspicious: why };
        let trusted = which.into_iter().map(one).collect();
        return Ok(show::json(&Trusted {
            source: name.to_string(),
            trusted,
            replaced_bit_by_bit: turning.iter().map(ToString::to_string).collect(),
            still_suspicious: still,
            dry_run,
        }));
    }
    tell(name, &which, &still, dry_run);
    for element in turning {
        show::talk(&format!(
            "{name}: {element} is replaced bit by bit, said for the second time: that is not suspicious any more as long as it \
             goes on"
        ));
    }
    Ok(Exit::Ok)
}

fn tell(name: &Name, which: &[(GenerationId, String)], still: &[String], dry_run: bool) {
    let done = if dry_run { "would be trusted" } else { "is trusted" };
    for (id, why) in which {
        show::talk(&format!("{name}: {id} {done} (it was suspicious: {})", sys::show(why.as_bytes())));
    }
    match (which.is_empty(), still) {
        (true, []) => show::talk(&format!("{name}: nothing is suspicious, so there is nothing to do")),
        (true, _) => show::talk(&format!("{name}: it is not suspicious; these are: {}", still.join(", "))),
        (false, []) => {
            show::talk(&format!("{name}: the retention takes what is too much again with the next run"))
        }
        (false, _) => {
            show::talk(&format!("{name}: still suspicious, so nothing of it goes: {}", still.join(", ")))
        }
    }
}
