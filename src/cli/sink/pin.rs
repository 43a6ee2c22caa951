//! `handover sink pin`: what stays whatever the retention says.

use serde::Serialize;

use super::{Outcome, Sink};
use crate::{
    cli::{Context, fail, show},
    manifest::GenerationId,
    report::Exit,
    sys::{self, name::Name},
};

/// How a generation is pinned, and was.
#[derive(Serialize)]
struct Pinned<'a> {
    source: &'a str,
    id: &'a str,
    pinned: Option<&'a str>,
    was: Option<&'a str>,
    dry_run: bool,
}

/// Pins it for the reason in the label; without a label the retention has it again.
pub(super) fn pin(
    context: &Context,
    sink: &Sink<'_>,
    name: &Name,
    id: &GenerationId,
    label: Option<&str>,
    dry_run: bool,
) -> Outcome {
    let (store, _lock) = sink.locked(name, "pin")?;
    let Some(stored) = store.get(id).map_err(|e| sink.refuse(&e))? else {
        let text =
            format!("{name} has no generation {id} here: see `handover {} list {name}`", sink.config.role);
        return Err(fail(Exit::Usage, &text));
    };
    if !dry_run {
        let done = label.map_or_else(|| store.unpin(id), |label| store.pin(id, label));
        done.map_err(|e| sink.refuse(&e))?;
    }
    let was = stored.marks.pinned.map(|was| sys::show(was.as_bytes()));
    if context.json {
        let (source, id) = (name.as_str(), id.as_str());
        return Ok(show::json(&Pinned { source, id, pinned: label, was: was.as_deref(), dry_run }));
    }
    if !context.quiet || dry_run {
        let would = if dry_run { "would be" } else { "is" };
        let now = label.map_or_else(
            || "left to the retention".to_owned(),
            |label| format!("pinned ({})", sys::show(label.as_bytes())),
        );
        let before =
            was.map_or_else(|| "it was not pinned".to_owned(), |was| format!("it was pinned ({was})"));
        show::talk(&format!("{name}: {id} {would} {now}; {before}"));
    }
    Ok(Exit::Ok)
}
