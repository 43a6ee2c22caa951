//! What the gate needs to know of the source, written by `source` to `<home>/gate/gate.toml`: the gate reads no
//! configuration, so that the transport user needs no right to it.

use jiff::civil::Time;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::{
    manifest::Channel,
    store::handover_point::{HandoverPoint, known::GATE_FACTS as FILE},
    sys::name::Name,
};

/// 1: the first.
const FORMAT: u32 = 1;
const LIMIT: u64 = 64 * 1024;

/// The content of `gate.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateFacts {
    /// The name that the source gives itself.
    pub name: Name,
    /// Its lineage.
    pub lineage: String,
    /// Which channel this home serves.
    pub channel: Channel,
    /// How many accepted generations the Source-Store keeps.
    pub keep: u32,
    /// When nothing is moved.
    pub quiet: Option<Quiet>,
}

/// The time of day, by this host's wall clock, in which nothing is moved: the provider copies the host then. It may
/// span midnight; if both ends are the same it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// When it begins.
    pub from: Time,
    /// When it is over.
    pub to: Time,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    #[serde(flatten)]
    facts: GateFacts,
}

impl GateFacts {
    /// Writes them where the gate reads them; durable when it returns.
    pub fn write(&self, point: &HandoverPoint) -> Result<(), Error> {
        let file = File { format: FORMAT, facts: self.clone() };
        let text =
            toml::to_string(&file).map_err(|e| bad(point, format!("it cannot be written down: {e}")))?;
        Ok(point.tell_gate(FILE, text.as_bytes())?)
    }

    /// Reads what [`Self::write`] wrote.
    pub fn read(point: &HandoverPoint) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Some(bytes) = point.gate().read_if_any(FILE, LIMIT).map_err(crate::store::Error::from)? else {
            return Err(bad(point, "it is missing: `handover source run` writes it".to_owned()));
        };
        let text = String::from_utf8_lossy(&bytes);
        let broken = |e: toml::de::Error| {
            let why = crate::sys::show(e.message().as_bytes());
            bad(point, format!("it cannot be read ({why}): `handover source run` writes it anew"))
        };
        let version: Version = toml::from_str(&text).map_err(broken)?;
        if version.format > FORMAT {
            let why =
                format!("it has format {}, this handover reads {FORMAT}: upgrade handover", version.format);
            return Err(bad(point, why));
        }
        toml::from_str::<File>(&text).map(|file| file.facts).map_err(broken)
    }
}

impl Quiet {
    /// Whether nothing is moved at that time of day.
    pub fn contains(&self, wall: Time) -> bool {
        if self.from <= self.to {
            self.from <= wall && wall < self.to
        } else {
            self.from <= wall || wall < self.to
        }
    }
}

fn bad(point: &HandoverPoint, why: String) -> Error {
    Error::Facts { path: point.gate().join(FILE), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Time {
        text.parse().unwrap()
    }

    fn quiet(from: &str, to: &str, wall: &str) -> bool {
        Quiet { from: time(from), to: time(to) }.contains(time(wall))
    }

    #[test]
    fn quiet_begins_at_its_first_minute_and_is_over_at_its_last() {
        assert!(!quiet("02:00", "03:00", "01:59:59"));
        assert!(quiet("02:00", "03:00", "02:00"));
        assert!(quiet("02:00", "03:00", "02:59:59"));
        assert!(!quiet("02:00", "03:00", "03:00"));
    }

    #[test]
    fn quiet_may_span_midnight_and_be_empty() {
        assert!(quiet("23:00", "01:00", "23:30"));
        assert!(quiet("23:00", "01:00", "00:30"));
        assert!(!quiet("23:00", "01:00", "12:00"));
        assert!(!quiet("02:00", "02:00", "02:00"));
    }
}
