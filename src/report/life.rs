//! The life of one generation, as one side knows it.

use jiff::Timestamp;
use serde::Serialize;

/// Something that happened to a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// When, by the clock of the side that tells it.
    pub at: Timestamp,
    /// Who tells it: `source`, `sink` or `logsink`.
    pub by: String,
    /// A word for it, as `sealed` or `stored`.
    pub what: String,
    /// More about it, safe to show.
    pub detail: String,
}

/// Where a generation is now, on one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Whereabouts {
    /// Which side: `source`, `sink` or `logsink`.
    pub side: String,
    /// The state, as `waiting` or `stored`.
    pub place: String,
    /// Its folder.
    pub path: String,
    /// Whether retention lets it stay; none where retention does not decide.
    pub stays: Option<bool>,
    /// Why it stays or goes.
    pub because: Vec<String>,
}

/// What one side knows of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Life {
    /// Where it is; empty if it is not there any more.
    pub now: Vec<Whereabouts>,
    /// What happened to it, in order of time.
    pub events: Vec<Moment>,
}

impl Life {
    /// Adds what another side knows.
    pub fn join(&mut self, other: Self) {
        self.now.extend(other.now);
        self.events.extend(other.events);
        self.events.sort_by_key(|moment| moment.at);
    }

    /// Whether nothing at all is known.
    pub fn is_unknown(&self) -> bool {
        self.now.is_empty() && self.events.is_empty()
    }
}
