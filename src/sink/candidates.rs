//! Stored generations as retention sees them.

use std::collections::BTreeSet;

use crate::{
    config,
    manifest::receipt::Verify,
    store::{
        Stored, Strange,
        retention::{Candidate, Policy},
    },
};

/// What retention must know of the stored generations: their order here and the sink's clock.
pub fn candidates(stored: &[Stored]) -> Vec<Candidate> {
    stored.iter().enumerate().map(|(place, one)| candidate(place, one)).collect()
}

fn candidate(place: usize, stored: &Stored) -> Candidate {
    let elements = &stored.found.generation.elements;
    Candidate {
        id: stored.id().clone(),
        sequence: place as u64,
        stored: stored.receipt.stored,
        whole: stored.marks.is_whole(),
        verified: is_verified(stored),
        elements_ok: elements.iter().filter(|e| e.ok).map(|e| e.name.clone()).collect::<BTreeSet<_>>(),
        pinned: stored.marks.pinned.is_some(),
        drilled: false,
    }
}

/// Whether its content was proven by hashing, at arrival or later.
pub fn is_verified(stored: &Stored) -> bool {
    stored.marks.is_whole() && (stored.receipt.verify != Verify::None || stored.marks.verified.is_some())
}

/// Whether something of a source is suspicious, or may be, as its marks cannot be read: then nothing of it goes.
pub fn is_frozen((stored, strange): &(Vec<Stored>, Vec<Strange>)) -> bool {
    stored.iter().any(|s| s.marks.suspicious.is_some()) || strange.iter().any(|s| s.doubt.is_some())
}

/// The policy of a source; one with something suspicious is frozen until somebody looked.
pub fn policy(source: &config::SinkSource, sink: &config::Sink, frozen: bool) -> Policy {
    let keep = source.keep;
    Policy {
        last: keep.last,
        daily: keep.daily,
        weekly: keep.weekly,
        monthly: keep.monthly,
        yearly: keep.yearly,
        keep_for: sink.keep_for,
        frozen,
    }
}
