//! The life of one generation as the sink knows it: from its store, its journal, and its retention.

use jiff::{SignedDuration, Timestamp};

use super::{journal, prune, status::Place};
use crate::{
    config,
    gate::protocol::Event,
    manifest::{Generation, GenerationId, Receipt},
    report::life::{Life, Moment, Whereabouts},
    store::{Result, SourceStore, Stored, retention::Verdict},
    sys::{show, words},
};

/// What is told twice is noted a moment later.
const SAME: SignedDuration = SignedDuration::from_secs(2);

/// What the sink knows of a generation; nothing if it never saw it.
pub fn of(place: &Place<'_>, source: &config::SinkSource, id: &GenerationId, now: Timestamp) -> Result<Life> {
    let kept = place.store.source(&source.name)?;
    let mut told = journal::of(place.state, source.name.as_str(), id)?;
    let mut life = Life::default();
    let mut is = |state: &str, stays, because| life.now.push(here(place, &kept, state, id, stays, because));
    let (stored, strange) = kept.stored()?;
    if let Some(one) = stored.iter().find(|s| s.id() == id) {
        let (stays, mut because) = verdict(&kept, place, source, id, now)?;
        because.extend(one.marks.suspicious.as_ref().map(|why| {
            let name = &source.name;
            format!("suspicious: {why}; if that is right: handover {} trust {name} {id}", place.config.role)
        }));
        is("store", stays, because);
        told.extend(of_stored(one));
    }
    for torn in strange.iter().filter(|s| s.name.to_str() == Some(id.as_str())) {
        is("store", None, vec![format!("it cannot be read: {}", torn.why)]);
    }
    if let Some(one) = kept.condemned()?.0.into_iter().find(|c| c.found.id() == id) {
        is("condemned", Some(false), vec![one.reason.clone()]);
        told.extend(of_receipt(&one.found.generation, &one.receipt));
        told.extend(one.at.map(|at| event(at, "condemned", one.reason)));
    }
    if let Some(one) = kept.quarantined()?.into_iter().find(|q| q.id == *id) {
        is("quarantine", None, vec![one.reason.clone()]);
        told.extend(one.at.map(|at| event(at, "put aside", one.reason)));
    }
    if kept.staged()?.contains(id) {
        is("incoming", None, vec!["it is half fetched: the next run goes on".to_owned()]);
    }
    told.sort_by_key(|e| e.at);
    for event in &told {
        // The folders and the journal tell of the same; stored is a generation once.
        let same =
            |m: &Moment| m.what == event.what && (m.what == "stored" || event.at.duration_since(m.at) < SAME);
        if !life.events.iter().any(same) {
            life.events.push(moment(place.config.role.name(), event));
        }
    }
    Ok(life)
}

/// What retention says of a stored generation, with its reasons.
fn verdict(
    kept: &SourceStore,
    place: &Place<'_>,
    source: &config::SinkSource,
    id: &GenerationId,
    now: Timestamp,
) -> Result<(Option<bool>, Vec<String>)> {
    let decisions = prune::decide(kept, source, place.config, now)?.decisions;
    Ok(decisions.into_iter().find(|d| d.id == *id).map_or((None, Vec::new()), |d| match d.verdict {
        Verdict::Keep(reasons) => (Some(true), reasons.iter().map(ToString::to_string).collect()),
        Verdict::Condemn(reason) => (Some(false), vec![reason.to_string()]),
    }))
}

fn of_stored(stored: &Stored) -> Vec<Event> {
    let mut events = of_receipt(&stored.found.generation, &stored.receipt);
    events.extend(
        stored
            .marks
            .verified
            .map(|at| event(at, "verified", "all of it was read again and every hash is right".to_owned())),
    );
    events.extend(stored.marks.damage.as_ref().map(|damage| {
        let text = format!("{}: {}", words::files(damage.count), damage.paths.join(", "));
        event(damage.found, "damaged", text)
    }));
    events
}

fn of_receipt(generation: &Generation, receipt: &Receipt) -> Vec<Event> {
    let failed: Vec<&str> = generation.elements.iter().filter(|e| !e.ok).map(|e| e.name.as_str()).collect();
    let collected = format!(
        "on {}: {}, {} bytes{}{}",
        show(generation.host.as_bytes()),
        words::files(generation.files),
        generation.bytes,
        if failed.is_empty() { "" } else { "; failed: " },
        failed.join(", ")
    );
    let stored = format!(
        "as number {}, verify {}: {} hashed, {} read again, {} only linked",
        receipt.sequence,
        receipt.verify,
        words::files(receipt.hashed),
        receipt.reread,
        receipt.linked
    );
    vec![
        event(generation.started, "collecting began", String::new()),
        event(generation.finished, "collected", collected),
        event(receipt.stored, "stored", stored),
    ]
}

/// A moment in the words of a side.
pub fn moment(side: &str, event: &Event) -> Moment {
    Moment {
        at: event.at,
        by: side.to_owned(),
        what: event.what.clone(),
        detail: show(event.detail.as_bytes()),
    }
}

fn event(at: Timestamp, what: &str, detail: String) -> Event {
    Event { at, what: what.to_owned(), detail }
}

fn here(
    place: &Place<'_>,
    kept: &SourceStore,
    state: &str,
    id: &GenerationId,
    stays: Option<bool>,
    because: Vec<String>,
) -> Whereabouts {
    let folder = place.config.home.join(state).join(kept.name().as_str()).join(id.as_str());
    Whereabouts {
        side: place.config.role.to_string(),
        place: state.to_owned(),
        path: show(folder.as_os_str().as_encoded_bytes()),
        stays,
        because,
    }
}
