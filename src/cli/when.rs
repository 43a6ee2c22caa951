//! A time on the command line.

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

/// A time, as it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At this time.
    At(Timestamp),
    /// So long ago.
    Ago(SignedDuration),
}

/// The text is no time.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected 2026-11-23, 2026-11-23T03:00, either with Z or +01:00 after the time of day, or an age as 90m, 2h, 7d"
)]
pub struct BadWhen;

impl When {
    /// As a point in time.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(age) => now.checked_sub(age).unwrap_or(Timestamp::MIN),
        }
    }
}

impl std::str::FromStr for When {
    type Err = BadWhen;

    /// Without an offset it is local time; a date alone is its midnight.
    fn from_str(text: &str) -> Result<Self, BadWhen> {
        if let Some(age) = age(text) {
            return Ok(Self::Ago(age));
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self::At(at));
        }
        let local = text.parse::<DateTime>().map_err(|_| BadWhen)?;
        local.to_zoned(TimeZone::system()).map(|zoned| Self::At(zoned.timestamp())).map_err(|_| BadWhen)
    }
}

fn age(text: &str) -> Option<SignedDuration> {
    let (number, unit) = text.split_at(text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at))?);
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => return None,
    };
    Some(SignedDuration::from_secs(number.parse::<i64>().ok()?.saturating_mul(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_a_time_of_day_or_an_age() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse::<When>().unwrap().at(now).to_string();
        assert_eq!(at("2026-11-23T03:00:00Z"), "2026-11-23T03:00:00Z");
        assert_eq!(at("2026-11-23T03:00+01:00"), "2026-11-23T02:00:00Z");
        assert_eq!(at("2026-11-23 03:00Z"), "2026-11-23T03:00:00Z");
        assert_eq!((at("2h"), at("1w")), ("2026-11-23T10:00:00Z".into(), "2026-11-16T12:00:00Z".into()));
        for local in ["2026-11-23", "2026-11-23T03:00", "2026-11-23 03:00:07"] {
            assert!(matches!(local.parse(), Ok(When::At(_))), "{local}");
        }
        assert_eq!(at("99999999999999w").len(), at("-009999-01-02T01:59:59Z").len());
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for wrong in ["", "h", "2", "yesterday", "-2h", "2026-13-01", "99999999999999999999h", "2é", "03:00"]
        {
            assert!(wrong.parse::<When>().is_err(), "{wrong}");
        }
    }
}
