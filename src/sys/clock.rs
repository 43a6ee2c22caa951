//! The only place that asks what time it is. Decisions take the time as an argument.

use jiff::Timestamp;

/// The current time, UTC.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
