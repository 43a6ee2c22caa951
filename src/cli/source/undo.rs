//! `handover source undo`: a generation that this host condemned comes back to where it was.

use std::path::Path;

use serde::Serialize;

use crate::{
    cli::{Context, fail, show},
    config,
    gate::{history, protocol::Event},
    manifest::{Channel, GenerationId},
    report::Exit,
    store::{
        self,
        handover_point::{HandoverPoint, Place},
    },
    sys::{Dir, clock, lock},
};

/// What was taken back, and where it is now.
#[derive(Serialize)]
struct TakenBack<'a> {
    id: &'a str,
    place: Place,
    dry_run: bool,
}

/// Takes it back, or says what would be done.
pub(in crate::cli) fn run(
    context: &Context,
    state: &Path,
    source: &config::Source,
    id: &GenerationId,
    dry_run: bool,
) -> Exit {
    match undo(context, state, source, id, dry_run) {
        Ok(exit) => exit,
        Err(e) if e.is_storage() => fail(Exit::Storage, &e),
        Err(e) => fail(Exit::Configuration, &e),
    }
}

fn undo(
    context: &Context,
    state: &Path,
    source: &config::Source,
    id: &GenerationId,
    dry_run: bool,
) -> store::Result<Exit> {
    let state = Dir::create_all(state, 0o700)?;
    let _lock = match lock::try_exclusive(&state.join("lock"), "handover source undo")? {
        lock::Attempt::Held(lock) => lock,
        lock::Attempt::Busy(who) => {
            return Ok(fail(Exit::Busy, &format!("another run holds the lock: {who}")));
        }
    };
    let point = HandoverPoint::open(&source.home, Channel::Data)?;
    let Some(place) = point.undo_place(id)? else {
        let condemned = point.condemned()?.items;
        let ids: Vec<&str> = condemned.iter().map(|c| c.found.id().as_str()).collect();
        let there = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
        let text = format!("there is no condemned generation {id}; what can be taken back: {there}");
        return Ok(fail(Exit::Usage, &text));
    };
    if !dry_run {
        point.undo(id)?;
        let (at, detail) = (clock::now(), "by handover source undo".to_owned());
        history::note(&point, id, Event { at, what: "undone".to_owned(), detail })?;
    }
    if context.json {
        return Ok(show::json(&TakenBack { id: id.as_str(), place, dry_run }));
    }
    let would = if dry_run { "would be" } else { "is" };
    show::talk(&match place {
        Place::Stored => format!(
            "{id} {would} back in the Source-Store; `keep` counts again when the sink next accepts one: raise it, or \
             restore from this one before"
        ),
        _ => format!("{id} {would} waiting at the Handover Point again, and is offered to the sink"),
    });
    Ok(Exit::Ok)
}
