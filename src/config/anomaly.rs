//! `anomaly`: how much of what is stored a new generation may lack before somebody has to look.

use super::{
    SinkRole,
    table::{Given, Read, Table},
    value,
};

/// The keys of `anomaly = { .. }`.
pub(super) const KEYS: &[&str] = &["shrink", "changed"];
const OFF: &str = "off";

/// How much of an element a new generation may lack before it is suspicious, in percent, 1 to 100. None: not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anomaly {
    /// So much of its files or bytes is gone.
    pub shrink: Option<u8>,
    /// So many of its files are gone or have other content.
    pub changed: Option<u8>,
}

impl Default for Anomaly {
    fn default() -> Self {
        Self { shrink: Some(50), changed: Some(80) }
    }
}

impl Anomaly {
    /// Nothing is judged.
    pub const NONE: Self = Self { shrink: None, changed: None };

    /// Whether nothing is judged.
    pub fn is_off(self) -> bool {
        self == Self::NONE
    }

    /// Reads `anomaly` of a section; what it leaves out is as in `default`. Logs are never judged: each generation of
    /// them holds other lines.
    pub(super) fn read(section: &Table<'_>, role: SinkRole, default: Self) -> Self {
        if role == SinkRole::Logs {
            return Self::NONE;
        }
        if !section.is_table("anomaly") {
            return section.or("anomaly", default, |given| match given.value.as_str() {
                Some(OFF) => Ok(Self::NONE),
                _ => given.expected("limits, or \"off\"", "{ shrink = \"50%\", changed = \"80%\" }"),
            });
        }
        let Some(table) = section.inner("anomaly", KEYS) else { return default };
        let read = Self {
            shrink: table.or("shrink", default.shrink, |given| percent(given, "\"50%\"")),
            changed: table.or("changed", default.changed, |given| percent(given, "\"80%\"")),
        };
        table.refuse_unknown();
        read
    }
}

fn percent(given: &Given<'_>, example: &'static str) -> Read<Option<u8>> {
    let text = value::text(given, example)?;
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
    match number {
        Some(percent @ 1..=100) => Ok(Some(percent)),
        _ if text == OFF => Ok(None),
        _ => given.expected("a part of what was there, \"1%\" to \"100%\", or \"off\"", example),
    }
}
