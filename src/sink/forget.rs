//! Retiring a source: what is kept of it is condemned, can be taken back until `undo_for` is over, and is deleted then.
//! And the same under another name.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{candidates::is_frozen, prune::undo_for, status::lock_file};
use crate::{
    config,
    manifest::GenerationId,
    store::{Result, SinkStore, SourceStore, condemned::FORGOTTEN},
    sys::{Dir, lock},
};

/// A source of which something younger came may be alive: it is forgotten only if somebody says that this is known.
pub const RECENT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Why what stays is pinned.
pub const KEPT: &str = "kept when its source was forgotten";

/// What would become of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What is condemned.
    pub goes: Vec<GenerationId>,
    /// What stays, each with the reason.
    pub stays: Vec<(GenerationId, String)>,
    /// When the newest was stored, if that is less than [`RECENT`] ago.
    pub recent: Option<Timestamp>,
    /// Whether something of it is suspicious: then nothing goes before somebody has looked.
    pub frozen: bool,
    /// Until when it can be taken back.
    pub undo_until: Timestamp,
}

/// Decides: the newest `keep` whole generations stay, and so do pinned ones unless `pinned` says that they go too.
pub fn plan(
    store: &SourceStore,
    sink: &config::Sink,
    (keep, pinned): (usize, bool),
    now: Timestamp,
) -> Result<Plan> {
    let all = store.stored()?;
    let frozen = is_frozen(&all);
    let (stored, _) = all;
    let whole: Vec<&GenerationId> =
        stored.iter().rev().filter(|s| s.marks.is_whole()).take(keep).map(|s| s.id()).collect();
    let newest = stored.iter().map(|s| s.receipt.stored).max();
    // A clock that went back makes nothing old.
    let recent = newest.filter(|at| now.duration_since(*at) < RECENT);
    let undo_until = now.checked_add(undo_for(sink)).unwrap_or(Timestamp::MAX);
    let mut plan = Plan { goes: Vec::new(), stays: Vec::new(), recent, frozen, undo_until };
    for one in &stored {
        let why = match &one.marks.pinned {
            Some(why) if !pinned => Some(format!("it is pinned: {}", crate::sys::show(why.as_bytes()))),
            _ if whole.contains(&one.id()) => Some(format!("among the newest {keep}")),
            _ => None,
        };
        match why {
            Some(why) => plan.stays.push((one.id().clone(), why)),
            None => plan.goes.push(one.id().clone()),
        }
    }
    Ok(plan)
}

/// Does it, the eldest first; what stays is pinned, so that it also stays if the source is configured again.
pub fn forget(store: &SourceStore, plan: &Plan, now: Timestamp) -> Result<()> {
    for (id, _) in &plan.stays {
        if store.get(id)?.is_some_and(|one| one.marks.pinned.is_none()) {
            store.pin(id, KEPT)?;
        }
    }
    plan.goes.iter().try_for_each(|id| store.condemn(id, FORGOTTEN, now))
}

/// Deletes what was condemned of sources that are configured no more, once `undo_for` is over, and their folders once
/// they are empty: no run of their own does it. What is stored of them stays, whatever its age. A source of which somebody
/// changes something is left for the next time. Gives what went.
pub fn purge(
    store: &SinkStore,
    sink: &config::Sink,
    state: &Dir,
    now: Timestamp,
) -> Result<Vec<(String, GenerationId)>> {
    let mut gone = Vec::new();
    for name in store.sources()? {
        if sink.sources.iter().any(|source| source.name == name) {
            continue;
        }
        let what = format!("handover {} run", sink.role);
        let lock::Attempt::Held(_lock) = lock::try_exclusive(&state.join(lock_file(name.as_str())), &what)?
        else {
            continue;
        };
        let kept: Arc<SourceStore> = store.source(&name)?;
        kept.recover()?;
        // As of a source that is configured: what was condemned may be the last good copy.
        if is_frozen(&kept.stored()?) {
            continue;
        }
        gone.extend(kept.purge(undo_for(sink), now)?.into_iter().map(|id| (name.to_string(), id)));
        if kept.stored()?.0.is_empty() && kept.condemned()?.0.is_empty() {
            for id in kept.staged()? {
                kept.abandon(&id)?;
            }
        }
        store.remove_if_empty(&name)?;
    }
    Ok(gone)
}
