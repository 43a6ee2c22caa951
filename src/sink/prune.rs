//! Retention on the sink: after accept, so that its failure never blocks a source.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::candidates::{candidate, policy};
use crate::{
    config,
    manifest::GenerationId,
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
    let candidates: Vec<_> = stored.iter().map(candidate).collect();
    Ok(retention::decide(&candidates, &policy(source, sink, &stored), now))
}

/// What retention did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// What it condemned, each with the reason.
    pub condemned: Vec<(GenerationId, String)>,
    /// What was deleted because it had been condemned for `undo_for`.
    pub deleted: Vec<GenerationId>,
}

/// Condemns what retention says, and deletes what was condemned longer than `undo_for` ago.
pub fn prune(
    store: &Arc<SourceStore>,
    source: &config::SinkSource,
    sink: &config::Sink,
    now: Timestamp,
) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    for decision in decide(store, source, sink, now)? {
        if let Verdict::Condemn(reason) = &decision.verdict {
            let reason = reason.to_string();
            store.condemn(&decision.id, &reason, now)?;
            pruned.condemned.push((decision.id, reason));
        }
    }
    pruned.deleted = store.purge(undo_for(sink), now)?;
    Ok(pruned)
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
    let candidates: Vec<_> = stored.iter().map(candidate).collect();
    for id in retention::make_room(&candidates, &policy(source, sink, &stored), now) {
        if enough()? {
            return Ok(true);
        }
        store.condemn(&id, "room was needed for a newer generation", now)?;
        store.purge_one(&id)?;
    }
    enough()
}
