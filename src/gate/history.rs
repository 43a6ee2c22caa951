//! What this host knows of one generation: what root noted in `<home>/gate/history`, and what its place tells.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::protocol::{Event, History};
use crate::{
    manifest::{GenerationId, Receipt},
    store::{
        Found, Result,
        handover_point::{HandoverPoint, Place},
    },
    sys::{Dir, durable, show},
};

const MODE: u32 = 0o640;
const FILE: &str = "history";
/// Beyond this the older half is dropped: some 15000 generations.
const LIMIT: u64 = 4 * 1024 * 1024;

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Record {
    id: GenerationId,
    #[serde(flatten)]
    event: Event,
}

/// Notes something that happened to a generation, as `drilled`, `restored`, `deleted`; root's to write.
pub fn note(point: &HandoverPoint, id: &GenerationId, event: Event) -> Result<()> {
    point.tell_gate_more(FILE, &line(id, event)?, LIMIT)
}

/// Notes in a file of a folder that is this process's own: the sink's side of a history.
pub fn note_in(dir: &Dir, file: &str, id: &GenerationId, event: Event) -> Result<()> {
    let line = line(id, event)?;
    if dir.stat_if_any(file)?.is_some_and(|stat| stat.st_size.unsigned_abs() > LIMIT) {
        let bytes = dir.read(file, 2 * LIMIT)?;
        durable::write_file(dir, file, durable::younger_half(&bytes), MODE)?;
    }
    Ok(durable::append_line(dir, file, &line, MODE)?)
}

/// What was noted of a generation in a file of a folder, in the order in which it was noted.
pub fn noted_in(dir: &Dir, file: &str, id: &GenerationId) -> Result<Vec<Event>> {
    let bytes = dir.read_if_any(file, 2 * LIMIT)?.unwrap_or_default();
    // A line that a crash tore is passed over.
    let records = bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice::<Record>(line).ok());
    Ok(records.filter(|r| r.id == *id).map(|r| r.event).collect())
}

/// Writes down what the places tell of the condemned ones and is not noted yet, before they are deleted. Doing it
/// twice notes nothing twice.
pub fn keep(point: &HandoverPoint, now: Timestamp) -> Result<()> {
    for condemned in point.condemned()?.items {
        let id = condemned.found.id();
        let noted = noted_in(point.gate(), FILE, id)?;
        for event in of(point, id, now)?.events {
            if event.at != now && !noted.contains(&event) {
                note(point, id, event)?;
            }
        }
    }
    Ok(())
}

fn line(id: &GenerationId, event: Event) -> Result<String> {
    let record = Record { id: id.clone(), event };
    serde_json::to_string(&record).map_err(|e| crate::store::Error::Damaged {
        path: FILE.into(),
        why: format!("an event cannot be written down: {e}"),
    })
}

/// All that is known of a generation, the oldest first. What was noted is told rather than what the place tells of
/// the same; an unknown generation has no events.
pub fn of(point: &HandoverPoint, id: &GenerationId, now: Timestamp) -> Result<History> {
    let mut events = noted_in(point.gate(), FILE, id)?;
    for event in told_by_place(point, id, now)? {
        // Sealed and accepted is a generation once; other things may happen to it again.
        let once = matches!(event.what.as_str(), "sealed" | "accepted");
        if !events.iter().any(|e| e.what == event.what && (once || e.at == event.at)) {
            events.push(event);
        }
    }
    events.sort_by_key(|e| e.at);
    Ok(History { id: id.clone(), events })
}

fn event(at: Timestamp, what: &str, detail: String) -> Event {
    Event { at, what: what.to_owned(), detail }
}

fn accepted(at: Timestamp, receipt: Option<&Receipt>) -> Event {
    let detail = match receipt {
        Some(r) => {
            format!("by {} as its number {}, verify {}", show(r.sink.as_bytes()), r.sequence, r.verify)
        }
        None => "there is no receipt: it was moved here by hand".to_owned(),
    };
    event(at, "accepted", detail)
}

fn sealed(found: &Found) -> Event {
    event(found.generation.finished, "sealed", found.seal.to_string())
}

fn told_by_place(point: &HandoverPoint, id: &GenerationId, now: Timestamp) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    let place = point.locate(id)?.map(|(place, _)| place);
    match place {
        Some(Place::Waiting) => {
            if let Some(one) = point.waiting()?.items.into_iter().find(|w| w.found.id() == id) {
                events.push(sealed(&one.found));
                let rejected = one.rejected.map(|r| (r.at.unwrap_or(now), r.paths.len()));
                events
                    .extend(rejected.map(|(at, n)| event(at, "rejected", format!("{n} paths were damaged"))));
            }
        }
        Some(Place::Stored) => {
            if let Some(one) = point.stored()?.items.into_iter().find(|s| s.found.id() == id) {
                events.extend([sealed(&one.found), accepted(one.accepted, one.receipt.as_ref())]);
            }
        }
        Some(Place::Condemned) => {
            if let Some(one) = point.condemned()?.items.into_iter().find(|c| c.found.id() == id) {
                let (at, why) =
                    one.note.map_or((now, "put there by hand".into()), |note| (note.at, note.why));
                let receipt = one.receipt.as_ref();
                events.extend(receipt.map(|receipt| accepted(receipt.stored, Some(receipt))));
                events.extend([sealed(&one.found), event(at, "condemned", show(why.as_bytes()))]);
            }
        }
        Some(Place::Collecting) | None => {}
    }
    if events.is_empty() && matches!(place, Some(Place::Waiting | Place::Stored | Place::Condemned)) {
        events.push(event(now, "damaged", "what lies here is not a whole generation".into()));
    }
    events.extend(point.log_receipt(id)?.map(|(receipt, _)| accepted(receipt.stored, Some(&receipt))));
    Ok(events)
}
