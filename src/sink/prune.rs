//! Retention on the sink: after accept, so that its failure never blocks a source.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::candidates::{candidates, policy};
use crate::{
    config,
    report::Condemned,
    store::{
        Result, SourceStore,
        retention::{self, Decision, Verdict},
    },
};

/// What retention says of every stored generation, with its reasons.
pub fn decide(
    store: &SourceStore,
    source: &config::SinkSource,
    sink: &config::Sink,
    now: Timestamp,
) -> Result<Vec<Decision>> {
    let (stored, _) = store.stored()?;
    let candidates = candidates(&stored);
    Ok(retention::decide(&candidates, &policy(source, sink, &stored), now))
}

/// Condemns what retention says, and deletes what was condemned longer than `undo_for` ago.
pub fn prune(
    store: &Arc<SourceStore>,
    source: &config::SinkSource,
    sink: &config::Sink,
    now: Timestamp,
) -> Result<Vec<Condemned>> {
    let mut condemned = Vec::new();
    for decision in decide(store, source, sink, now)? {
        if let Verdict::Condemn(reason) = &decision.verdict {
            let reason = reason.to_string();
            store.condemn(&decision.id, &reason, now)?;
            condemned.push(Condemned { id: decision.id.to_string(), reason });
        }
    }
    store.purge(undo_for(sink), now)?;
    Ok(condemned)
}

/// `undo_for` as the store counts it.
pub fn undo_for(sink: &config::Sink) -> SignedDuration {
    SignedDuration::try_from(sink.undo_for).unwrap_or(SignedDuration::MAX)
}

/// Makes room before a generation is fetched: condemned ones go before their time, the eldest first; then what would go
/// if the offer were already stored. Ends as soon as `enough` says so; false if it never did.
pub fn make_room(
    store: &Arc<SourceStore>,
    source: &config::SinkSource,
    sink: &config::Sink,
    now: Timestamp,
    enough: &dyn Fn() -> Result<bool>,
) -> Result<bool> {
    let (mut condemned, _) = store.condemned()?;
    condemned.sort_by_key(|c| c.at);
    for one in condemned {
        if enough()? {
            return Ok(true);
        }
        store.purge_one(one.found.id())?;
    }
    let (stored, _) = store.stored()?;
    let candidates = candidates(&stored);
    for id in retention::make_room(&candidates, &policy(source, sink, &stored), now) {
        if enough()? {
            return Ok(true);
        }
        store.condemn(&id, "room was needed for a newer generation", now)?;
        store.purge_one(&id)?;
    }
    enough()
}
