//! Ids of generations: UTC start times that sort as text.

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// The id of a generation: its UTC start time, `20261123T030000Z`, or `20261123T030000Z-2` and so on where that was taken.
///
/// Ids name; they do not order (the clock of a source may jump): order is by sequence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GenerationId(String);

/// The text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id of a generation, as 20261123T030000Z")]
pub struct BadId;

impl GenerationId {
    /// The id for a start time; `attempt` 1 is the plain one, 2 and more add the suffix.
    pub fn at(time: Timestamp, attempt: u32) -> Self {
        let stamp = time.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
        Self(if attempt <= 1 { stamp } else { format!("{stamp}-{attempt}") })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The time that the id tells.
    pub fn time(&self) -> Option<Timestamp> {
        jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", self.0.get(..16)?)
            .ok()
            .and_then(|civil| civil.to_zoned(TimeZone::UTC).ok())
            .map(|zoned| zoned.timestamp())
    }
}

impl TryFrom<String> for GenerationId {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        let (stamp, suffix) = text.split_at_checked(16).ok_or(BadId)?;
        let shape = stamp.bytes().enumerate().all(|(i, b)| match i {
            8 => b == b'T',
            15 => b == b'Z',
            _ => b.is_ascii_digit(),
        });
        let numbered = match suffix.strip_prefix('-') {
            None => suffix.is_empty(),
            Some(n) => n.len() <= 6 && !n.starts_with(['0', '+']) && n.parse::<u32>().is_ok_and(|n| n >= 2),
        };
        let id = Self(text.clone());
        if shape && numbered && id.time().is_some() { Ok(id) } else { Err(BadId) }
    }
}

impl std::str::FromStr for GenerationId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        Self::try_from(text.to_owned())
    }
}

impl From<GenerationId> for String {
    fn from(id: GenerationId) -> Self {
        id.0
    }
}

impl std::fmt::Display for GenerationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<std::ffi::OsStr> for GenerationId {
    fn as_ref(&self) -> &std::ffi::OsStr {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_real_time_and_nothing_else() {
        let time: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
        let id = GenerationId::at(time, 1);
        assert_eq!(id.as_str(), "20261123T030000Z");
        assert_eq!(id.time(), Some(time));
        assert_eq!(GenerationId::at(time, 2).time(), Some(time));
        assert_eq!(GenerationId::at(time, 2).as_str(), "20261123T030000Z-2");
        for bad in [
            "",
            "20261123T030000",
            "20261323T030000Z",
            "20261123T030000Z-1",
            "20261123T030000Z-02",
            "20261123T030000Z/..",
            "20261123T030000Z-+3",
            "../../etc",
            "20261123T030000Zé",
        ] {
            assert!(bad.parse::<GenerationId>().is_err(), "{bad:?}");
        }
    }
}
