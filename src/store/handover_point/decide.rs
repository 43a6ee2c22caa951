//! The decisions of the Handover Point, without effects: the same facts give the same answer. The steps beside this
//! file look, ask here, and act; the model of the protocol (`tests/model/`) asks the same functions.

use jiff::Timestamp;

use crate::{
    manifest::{GenerationId, Seal},
    store::retention::{self, Candidate, Decision, Policy, Verdict},
};

/// Which seals are where, of one id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// In the Source-Store.
    pub stored: Option<Seal>,
    /// In the receipt that is kept of accepted logs.
    pub receipt: Option<Seal>,
    /// At the Transport Handover Point.
    pub waiting: Option<Seal>,
    /// Among the condemned ones.
    pub condemned: Option<Seal>,
}

/// What a receipt does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiving {
    /// It is kept, and the generation moves.
    Move,
    /// The generation was accepted before: the first receipt wins.
    Already,
    /// The generation is not here any more.
    Gone,
    /// It is for other content: nothing changes.
    OtherSeal,
}

/// What a receipt for this seal does.
pub fn receive(seal: &Seal, at: &Whereabouts) -> Receiving {
    // Where it went last counts; a receipt of logs that still wait is one whose move was cut off.
    let settled = at.stored.or(if at.waiting.is_none() { at.receipt } else { None });
    match (settled, at.waiting, at.condemned) {
        (Some(there), _, _) if there == *seal => Receiving::Already,
        (None, Some(waiting), _) if waiting == *seal && at.receipt.is_none_or(|r| r == *seal) => {
            Receiving::Move
        }
        (None, None, None) => Receiving::Gone,
        (None, None, Some(condemned)) if condemned == *seal => Receiving::Gone,
        _ => Receiving::OtherSeal,
    }
}

/// What is to be done with a waiting generation when a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// Nothing: it waits.
    Waits,
    /// Its receipt is here: the move to the Source-Store was cut off, and is finished.
    Accepted,
    /// The Source-Store holds the same: this copy is condemned.
    Duplicate,
}

/// What a waiting generation is, by its seal, what bears its id in the Source-Store (the seal is `None` if that cannot
/// be read: then nothing is touched), and whether a receipt for it lies in it.
pub fn leftover(waiting: &Seal, stored: Option<Option<Seal>>, has_receipt: bool) -> Leftover {
    match stored {
        Some(Some(seal)) if seal == *waiting => Leftover::Duplicate,
        Some(_) => Leftover::Waits,
        None if has_receipt => Leftover::Accepted,
        None => Leftover::Waits,
    }
}

/// An id for a generation that begins now: the first of this second that is not taken. `None` if all are.
pub fn free_id<E>(
    now: Timestamp,
    taken: impl Fn(&GenerationId) -> Result<bool, E>,
) -> Result<Option<GenerationId>, E> {
    for attempt in 1..=999_999 {
        let id = GenerationId::at(now, attempt);
        if !taken(&id)? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Which of the candidates go so that `keep` stay, as indices, and why.
pub fn surplus(candidates: &[Candidate], keep: u32, now: Timestamp) -> Vec<(usize, String)> {
    let policy = Policy { last: keep, ..Policy::default() };
    let decisions = retention::decide(candidates, &policy, now);
    let goes = |(index, decision): (usize, Decision)| match decision.verdict {
        Verdict::Condemn(reason) => Some((index, reason.to_string())),
        Verdict::Keep(_) => None,
    };
    decisions.into_iter().enumerate().filter_map(goes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Digest;

    #[test]
    fn a_receipt_moves_only_what_waits_with_its_seal() {
        let (seal, other) = (Digest::of(b"this"), Digest::of(b"other"));
        let nowhere = Whereabouts::default();
        let receive = |at| receive(&seal, &at);
        assert_eq!(receive(nowhere), Receiving::Gone);
        assert_eq!(receive(Whereabouts { waiting: Some(seal), ..nowhere }), Receiving::Move);
        assert_eq!(receive(Whereabouts { waiting: Some(other), ..nowhere }), Receiving::OtherSeal);
        assert_eq!(receive(Whereabouts { stored: Some(seal), ..nowhere }), Receiving::Already);
        assert_eq!(
            receive(Whereabouts { stored: Some(other), waiting: Some(seal), ..nowhere }),
            Receiving::OtherSeal
        );
        assert_eq!(receive(Whereabouts { condemned: Some(seal), ..nowhere }), Receiving::Gone);
        assert_eq!(receive(Whereabouts { condemned: Some(other), ..nowhere }), Receiving::OtherSeal);
        // Of logs the receipt stays, and the generation may still wait where the move was cut off.
        assert_eq!(receive(Whereabouts { receipt: Some(seal), ..nowhere }), Receiving::Already);
        let cut = Whereabouts { receipt: Some(seal), waiting: Some(seal), ..nowhere };
        assert_eq!(receive(cut), Receiving::Move);
        assert_eq!(receive(Whereabouts { receipt: Some(other), ..cut }), Receiving::OtherSeal);
        assert_eq!(receive(Whereabouts { receipt: Some(other), ..nowhere }), Receiving::OtherSeal);
    }

    #[test]
    fn what_cannot_be_read_in_the_source_store_is_no_reason_to_condemn_what_waits() {
        let seal = Digest::of(b"this");
        assert_eq!(leftover(&seal, Some(None), true), Leftover::Waits);
        assert_eq!(leftover(&seal, Some(Some(Digest::of(b"other"))), true), Leftover::Waits);
        assert_eq!(leftover(&seal, Some(Some(seal)), false), Leftover::Duplicate);
        assert_eq!(leftover(&seal, None, true), Leftover::Accepted);
        assert_eq!(leftover(&seal, None, false), Leftover::Waits);
    }
}
