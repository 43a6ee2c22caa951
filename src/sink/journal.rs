//! What the sink did with each generation, a line each: `<state>/events-<source>`. What the folders tell is not in it;
//! it tells what happened on the way, and what became of generations that are gone.

use jiff::Timestamp;

use crate::{
    gate::{history, protocol::Event},
    manifest::GenerationId,
    store::Result,
    sys::Dir,
};

pub(super) fn file(name: &str) -> String {
    format!("events-{name}")
}

/// Notes something that happened to a generation of a source; the source's lock is held.
pub fn note(
    state: &Dir,
    name: &str,
    id: &GenerationId,
    (at, what): (Timestamp, &str),
    detail: String,
) -> Result<()> {
    history::note_in(state, &file(name), id, Event { at, what: what.to_owned(), detail })
}

/// What was noted of a generation, in the order in which it was noted.
pub fn of(state: &Dir, name: &str, id: &GenerationId) -> Result<Vec<Event>> {
    history::noted_in(state, &file(name), id)
}
