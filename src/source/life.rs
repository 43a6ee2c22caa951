//! The life of one generation as the source knows it: its gate's history, its place, and what retention says.

use jiff::Timestamp;

use super::status::Place;
use crate::{
    gate::history,
    manifest::GenerationId,
    report::life::{Life, Moment, Whereabouts},
    store::{
        Result,
        handover_point::{HandoverPoint, Place as Where},
        retention::Verdict,
    },
    sys::show,
};

/// The side that tells.
const SIDE: &str = "source";

/// What the source knows of a generation; nothing if it never made it. `keep` is that of its retention.
pub fn of(place: &Place<'_>, keep: u32, id: &GenerationId, now: Timestamp) -> Result<Life> {
    let point = HandoverPoint::open_known(place.home, place.channel, place.state)?;
    let mut life = Life { now: Vec::new(), events: Vec::new() };
    for event in history::of(&point, id, now)?.events {
        let detail = show(event.detail.as_bytes());
        life.events.push(Moment { at: event.at, by: SIDE.to_owned(), what: event.what, detail });
    }
    if let Some((there, dir)) = point.locate(id)? {
        let (stays, because) = verdict(&point, there, keep, id, now)?;
        life.now.push(Whereabouts {
            side: SIDE.to_owned(),
            place: word(there).to_owned(),
            path: show(dir.path().as_os_str().as_encoded_bytes()),
            stays,
            because,
        });
    }
    Ok(life)
}

fn word(there: Where) -> &'static str {
    match there {
        Where::Collecting => "collecting",
        Where::Waiting => "transport-outgoing",
        Where::Stored => "store",
        Where::Condemned => "condemned",
    }
}

fn verdict(
    point: &HandoverPoint,
    there: Where,
    keep: u32,
    id: &GenerationId,
    now: Timestamp,
) -> Result<(Option<bool>, Vec<String>)> {
    Ok(match there {
        Where::Collecting => (None, vec!["it is being collected, or the next run deletes it".to_owned()]),
        Where::Waiting => (None, vec!["it waits for the sink".to_owned()]),
        Where::Condemned => {
            let note = point.condemned()?.items.into_iter().find(|c| c.found.id() == id);
            let why =
                note.and_then(|c| c.note).map_or_else(|| "put there by hand".to_owned(), |note| note.why);
            (Some(false), vec![show(why.as_bytes())])
        }
        Where::Stored => match point.verdicts(keep, now)?.into_iter().find(|d| d.id == *id) {
            Some(d) => match d.verdict {
                Verdict::Keep(reasons) => (Some(true), reasons.iter().map(ToString::to_string).collect()),
                Verdict::Condemn(reason) => (Some(false), vec![reason.to_string()]),
            },
            None => (None, vec!["it is not a whole generation".to_owned()]),
        },
    })
}

/// The ids of all that is here, the newest last: for who asked for one that is not.
pub fn known(place: &Place<'_>) -> Result<Vec<GenerationId>> {
    let point = HandoverPoint::open_known(place.home, place.channel, place.state)?;
    let condemned = point.condemned()?.items.into_iter().map(|c| c.found.id().clone());
    let stored = point.stored()?.items.into_iter().map(|s| s.found.id().clone());
    let waiting = point.waiting()?.items.into_iter().map(|w| w.found.id().clone());
    Ok(condemned.chain(stored).chain(waiting).collect())
}
