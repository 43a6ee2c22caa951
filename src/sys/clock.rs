//! The only place that asks what time it is. Decisions take the time as an argument.

use jiff::Timestamp;

/// The current time, UTC.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    #[cfg(debug_assertions)]
    let now = now.saturating_add(shift::given(now)).unwrap_or(now);
    now
}

/// Days that a test does not wait for. What an operator installs is built without debug assertions, and has nothing of
/// this: no variable of the environment makes its clock wrong.
#[cfg(debug_assertions)]
mod shift {
    use std::sync::OnceLock;

    use jiff::{SignedDuration, Timestamp};

    /// `HANDOVER_CLOCK`: what is added to the clock, as `+26h`, or the time that it is at the first question, as RFC 3339.
    pub(super) fn given(now: Timestamp) -> SignedDuration {
        static SHIFT: OnceLock<SignedDuration> = OnceLock::new();
        *SHIFT.get_or_init(|| {
            std::env::var("HANDOVER_CLOCK").map_or(SignedDuration::ZERO, |text| parse(&text, now))
        })
    }

    #[expect(clippy::panic, reason = "a test with a clock that it did not ask for proves nothing")]
    fn parse(text: &str, now: Timestamp) -> SignedDuration {
        let shift = text.strip_prefix('+').and_then(|shift| shift.parse().ok());
        let time = || text.parse::<Timestamp>().ok().map(|time| time.duration_since(now));
        shift.or_else(time).unwrap_or_else(|| panic!("HANDOVER_CLOCK={text}: write +26h, or a time"))
    }
}
