//! Retention on the sink: after accept, so that its failure never blocks a source.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{
    brake,
    candidates::{candidates, is_frozen, policy},
};
use crate::{
    config,
    manifest::GenerationId,
    report::{Condemned, Finding, Kind},
    store::{
        self, Error, Result, SourceStore, Stored, Strange,
        anomaly::Losing,
        retention::{self, Decision, Policy, Verdict},
    },
};

/// What retention says of every stored generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The verdicts with their reasons; the eldest first.
    pub decisions: Vec<Decision>,
    /// What the newest lacks of what would go. Where that is too much, nothing goes.
    pub losing: Losing,
}

/// What retention says of every stored generation, with its reasons.
pub fn decide(
    store: &SourceStore,
    source: &config::SinkSource,
    sink: &config::Sink,
    now: Timestamp,
) -> Result<Decided> {
    decide_on(store, source, sink, &store.stored()?, now)
}

fn decide_on(
    store: &SourceStore,
    source: &config::SinkSource,
    sink: &config::Sink,
    all: &(Vec<Stored>, Vec<Strange>),
    now: Timestamp,
) -> Result<Decided> {
    let (candidates, policy) = (candidates(&all.0), policy(source, sink, is_frozen(all)));
    let decisions = retention::decide(&candidates, &policy, now);
    let going = decisions.iter().filter(|decision| decision.is_condemned()).map(|decision| &decision.id);
    let losing = brake::losing(source, store, &all.0, &going.collect())?;
    let decisions = match losing.suspicious {
        Some(_) => retention::decide(&candidates, &Policy { frozen: true, ..policy }, now),
        None => decisions,
    };
    Ok(Decided { decisions, losing })
}

/// What retention did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// What it condemned, each with the reason.
    pub condemned: Vec<(GenerationId, String)>,
    /// What was deleted because it had been condemned for `undo_for`.
    pub deleted: Vec<GenerationId>,
    /// What lacks too much of what was about to go, and why: nothing went.
    pub suspicious: Option<(GenerationId, String)>,
    /// What could not be condemned.
    pub findings: Vec<Finding>,
}

/// Condemns what retention says, and deletes what was condemned longer than `undo_for` ago.
pub fn prune(
    store: &Arc<SourceStore>,
    source: &config::SinkSource,
    sink: &config::Sink,
    now: Timestamp,
) -> Result<Pruned> {
    let all = store.stored()?;
    let Decided { decisions, losing } = decide_on(store, source, sink, &all, now)?;
    let suspicious = brake::freeze(store, &all.0, &losing)?;
    brake::forget_calm(store, &all.0, &losing)?;
    let mut pruned = Pruned { suspicious, ..Pruned::default() };
    for decision in decisions {
        if let Verdict::Condemn(reason) = &decision.verdict {
            let reason = reason.to_string();
            brake::pass_on(store, &all.0, &decision.id)?;
            match store.condemn(&decision.id, &reason, now) {
                Ok(()) => pruned.condemned.push((decision.id, reason)),
                Err(e @ (Error::OtherSeal { .. } | Error::Damaged { .. })) => {
                    let text = format!(
                        "it should be condemned, but what is condemned under its id is not the same: {e}"
                    );
                    let fix = "compare both by their seals; move the one that you do not want out of the store by hand";
                    pruned
                        .findings
                        .push(Finding::new(Kind::Verification, decision.id.as_str(), text).with_fix(fix));
                }
                Err(e) => return Err(e),
            }
        }
    }
    // What was condemned before something looked suspicious may be the last good copy: it can be taken back meanwhile.
    if !is_frozen(&store.stored()?) {
        pruned.deleted = store.purge(undo_for(sink), now)?;
    }
    Ok(pruned)
}

/// `undo_for` as the store counts it.
pub fn undo_for(sink: &config::Sink) -> SignedDuration {
    SignedDuration::try_from(sink.undo_for).unwrap_or(SignedDuration::MAX)
}

/// Makes room before a generation is fetched. Condemned ones go before their time: first those whose `undo_for` is over,
/// then the eldest. After them goes what would go if the offer were already stored. The last whole copy never goes. What
/// went is added to `gone`, whatever comes of it. Ends as soon as `enough` says so; false if it never did, or if the source
/// is frozen: then nothing goes.
pub fn make_room(
    store: &Arc<SourceStore>,
    source: &config::SinkSource,
    sink: &config::Sink,
    now: Timestamp,
    enough: &dyn Fn() -> Result<bool>,
    gone: &mut Vec<Condemned>,
) -> Result<bool> {
    let all = store.stored()?;
    let (candidates, policy) = (candidates(&all.0), policy(source, sink, is_frozen(&all)));
    if policy.frozen {
        return enough();
    }
    let going = retention::make_room(&candidates, &policy, now);
    let losing = brake::losing(source, store, &all.0, &going.iter().collect())?;
    if brake::freeze(store, &all.0, &losing)?.is_some() {
        return enough();
    }
    for (id, reason) in purgeable(&all.0, store.condemned()?.0, undo_for(sink), now) {
        if enough()? {
            return Ok(true);
        }
        store.purge_one(&id)?;
        gone.push(Condemned { id: id.to_string(), reason });
    }
    for id in going {
        if enough()? {
            return Ok(true);
        }
        let reason = "room was needed for a newer generation; it was deleted for good";
        brake::pass_on(store, &all.0, &id)?;
        store.condemn(&id, reason, now)?;
        store.purge_one(&id)?;
        gone.push(Condemned { id: id.to_string(), reason: reason.to_owned() });
    }
    enough()
}

/// The condemned generations that may be deleted for good, in the order in which they go, each with the reason. Where no
/// stored one is whole, the newest whole one among them is the last copy, and stays.
fn purgeable(
    stored: &[Stored],
    mut condemned: Vec<store::condemned::Condemned>,
    undo_for: SignedDuration,
    now: Timestamp,
) -> Vec<(GenerationId, String)> {
    if !stored.iter().any(|s| s.marks.is_whole())
        && let Some(last) = condemned.iter().rposition(|c| c.marks.is_whole())
    {
        condemned.remove(last);
    }
    let is_over = |at: Timestamp| retention::undo_is_over(at, undo_for.unsigned_abs(), now);
    condemned.sort_by_key(|c| (!c.at.is_some_and(is_over), c.at.unwrap_or(now)));
    let reason = |c: &store::condemned::Condemned| {
        let when =
            if c.at.is_some_and(is_over) { "its undo_for was over" } else { "before its undo_for was over" };
        format!(
            "room was needed for a newer generation; it was deleted for good, {when} (condemned: {})",
            c.reason
        )
    };
    condemned.iter().map(|c| (c.found.id().clone(), reason(c))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sample::{Sample, Sink, at, id};

    const IDS: [&str; 3] = ["20261121T030000Z", "20261122T030000Z", "20261123T030000Z"];

    fn condemned() -> Sink {
        let sink = Sink::new();
        for (number, id) in (1..).zip(IDS) {
            sink.store(&Sample::new(id, number, &[(b"a", b"aaa")]));
        }
        // The second was condemned first.
        sink.shop.condemn(&id(IDS[1]), "old", at("2026-11-22T05:00:00Z")).unwrap();
        sink.shop.condemn(&id(IDS[0]), "old", at("2026-11-23T04:00:00Z")).unwrap();
        sink
    }

    fn ids(sink: &Sink) -> Vec<(String, bool)> {
        let (stored, condemned) = (sink.shop.stored().unwrap().0, sink.shop.condemned().unwrap().0);
        let day = SignedDuration::from_hours(24);
        let all = purgeable(&stored, condemned, day, at("2026-11-23T06:00:00Z"));
        all.into_iter().map(|(id, why)| (id.to_string(), why.contains("before its undo_for"))).collect()
    }

    #[test]
    fn what_may_go_early_goes_after_what_was_to_go_anyway() {
        let sink = condemned();
        assert_eq!(ids(&sink), [(IDS[1].to_owned(), false), (IDS[0].to_owned(), true)]);
    }

    #[test]
    fn the_last_whole_copy_is_never_deleted_for_room() {
        let sink = condemned();
        sink.shop.mark(&id(IDS[2]), &mut |m| m.add_damage(b"data/a", at("2026-11-23T05:00:00Z"))).unwrap();
        assert_eq!(ids(&sink), [(IDS[0].to_owned(), true)], "of two the newer one stays");
    }
}
