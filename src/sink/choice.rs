//! What is to be done with an offer: a pure decision.

use crate::{gate::protocol::Offer, manifest::Seal};

/// What the sink knows of an offer's id, and of the last day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// The seal of what is stored under it.
    pub stored: Option<Seal>,
    /// The seal of what was put aside because it failed its check twice.
    pub quarantined: Option<Seal>,
    /// The seal of what is condemned under it.
    pub condemned: Option<Seal>,
    /// How many generations came within a day, those that retention has taken since among them: else a hacked source
    /// could push the good ones out.
    pub today: usize,
}

/// What is to be done with an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It is stored, or was and is condemned since: the receipt was lost on its way, or was told to come later, and is
    /// given again. What retention has let go is not fetched once more.
    AcceptAgain,
    /// It is stored, or was and is condemned, with another seal: what is here stays, and the offer is not taken.
    OtherSeal {
        /// Whether what is here is condemned.
        condemned: bool,
    },
    /// It was rejected: the source has to collect afresh.
    Rejected,
    /// Another session reads it.
    Reading,
    /// It was put aside here.
    Quarantined,
    /// Too many came within a day.
    TooMany,
    /// It is fetched.
    Fetch,
}

/// What is to be done with an offer.
pub fn choose(offer: &Offer, known: &Known, max_per_day: u32) -> Choice {
    match known.stored {
        Some(seal) if seal == offer.seal => return Choice::AcceptAgain,
        Some(_) => return Choice::OtherSeal { condemned: false },
        None if known.condemned == Some(offer.seal) => return Choice::AcceptAgain,
        None => {}
    }
    if offer.rejected {
        Choice::Rejected
    } else if offer.reading {
        Choice::Reading
    } else if known.quarantined == Some(offer.seal) {
        Choice::Quarantined
    } else if known.condemned.is_some() {
        Choice::OtherSeal { condemned: true }
    } else if known.today >= usize::try_from(max_per_day).unwrap_or(usize::MAX) {
        Choice::TooMany
    } else {
        Choice::Fetch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Digest;

    #[test]
    fn nothing_that_is_here_is_overwritten_and_what_is_stored_is_accepted_again() {
        let (seal, other) = (Digest::of(b"this"), Digest::of(b"other"));
        let offer = Offer {
            id: "20261123T030000Z".parse().unwrap(),
            sequence: 1,
            seal,
            files: 0,
            entries: 0,
            bytes: 0,
            manifest_bytes: 0,
            deltas: Vec::new(),
            rejected: false,
            reading: false,
        };
        let nothing = Known::default();
        let choose = |known| choose(&offer, &known, 2);
        assert_eq!(choose(nothing), Choice::Fetch);
        assert_eq!(choose(Known { stored: Some(seal), today: 9, ..nothing }), Choice::AcceptAgain);
        assert_eq!(choose(Known { stored: Some(other), ..nothing }), Choice::OtherSeal { condemned: false });
        assert_eq!(
            choose(Known { condemned: Some(other), ..nothing }),
            Choice::OtherSeal { condemned: true }
        );
        assert_eq!(choose(Known { condemned: Some(seal), today: 9, ..nothing }), Choice::AcceptAgain);
        assert_eq!(choose(Known { quarantined: Some(seal), ..nothing }), Choice::Quarantined);
        assert_eq!(choose(Known { quarantined: Some(other), ..nothing }), Choice::Fetch);
        assert_eq!(choose(Known { today: 2, ..nothing }), Choice::TooMany);
    }
}
