//! How grave it is how things stand: the same for the table, JSON, Nagios and Prometheus.

use serde::Serialize;

use super::Kind;

/// The levels of the Nagios plugin guidelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well.
    Ok,
    /// What is stored is good and young enough; something wants a look.
    Warning,
    /// What is stored is too old or damaged, or will soon be lost.
    Critical,
    /// It could not be found out.
    Unknown,
}

impl Level {
    /// Nagios's exit code; also the value of `handover_health`.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    /// The word in Nagios's line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The graver of two: what is known to be bad comes before what is not known.
    pub fn worst(self, other: Self) -> Self {
        let gravity = |level| match level {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Unknown => 2,
            Self::Critical => 3,
        };
        if gravity(other) > gravity(self) { other } else { self }
    }

    /// How grave it is that somebody could not look, for this kind of reason.
    pub fn of_failure(kind: Kind) -> Self {
        match kind {
            Kind::Storage | Kind::Verification | Kind::Damaged => Self::Critical,
            _ => Self::Unknown,
        }
    }
}

/// Something that is not as it should be, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Concern {
    /// How grave it is.
    pub level: Level,
    /// What it is, safe to show.
    pub text: String,
    /// What to do next.
    pub next: String,
}

impl Concern {
    /// A concern that warns.
    pub fn warning(text: impl Into<String>, next: impl Into<String>) -> Self {
        Self { level: Level::Warning, text: text.into(), next: next.into() }
    }

    /// A concern that cannot wait.
    pub fn critical(text: impl Into<String>, next: impl Into<String>) -> Self {
        Self { level: Level::Critical, text: text.into(), next: next.into() }
    }
}

/// The level of all concerns together.
pub fn level(concerns: &[Concern]) -> Level {
    concerns.iter().fold(Level::Ok, |level, concern| level.worst(concern.level))
}

/// The concerns with the gravest first; those of one level stay in their order.
pub fn gravest_first(mut concerns: Vec<Concern>) -> Vec<Concern> {
    concerns.sort_by_key(|c| std::cmp::Reverse(if c.level == Level::Critical { 1 } else { 0 }));
    concerns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_decides_and_comes_first() {
        let concerns = vec![Concern::warning("a", ""), Concern::critical("b", ""), Concern::warning("c", "")];
        assert_eq!(level(&concerns), Level::Critical);
        let texts: Vec<String> = gravest_first(concerns).into_iter().map(|c| c.text).collect();
        assert_eq!(texts, ["b", "a", "c"]);
        assert_eq!(level(&[]), Level::Ok);
        assert_eq!(Level::Unknown.worst(Level::Critical), Level::Critical);
        assert_eq!(Level::Warning.worst(Level::Unknown), Level::Unknown);
    }
}
