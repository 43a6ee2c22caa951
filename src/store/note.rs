//! `condemned.toml`: when and why a generation was condemned. It lies beside the sealed files, outside the seal, and is
//! written before the move, so that it goes where the folder goes, a provider's copy included.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Error, Result};
use crate::sys::{Dir, show};

/// The name of the file.
pub const CONDEMNED_NOTE: &str = "condemned.toml";
/// 1: the first.
const FORMAT: u32 = 1;
const LIMIT: u64 = 64 * 1024;

/// When and why a generation was condemned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    format: u32,
    /// When, by this host's clock.
    pub at: Timestamp,
    /// Why, for people; safe to show once it was read.
    #[serde(alias = "reason")]
    pub why: String,
}

impl Note {
    /// A note of now.
    pub fn new(why: &str, at: Timestamp) -> Self {
        Self { format: FORMAT, at, why: why.to_owned() }
    }

    /// Reads the note in a generation's folder. One that cannot be understood is as none: its time then begins anew.
    pub fn read(dir: &Dir) -> Result<Option<Self>> {
        let bytes = match dir.read_if_any(CONDEMNED_NOTE, LIMIT) {
            Err(e) if e.is_storage() => return Err(e.into()),
            other => other.ok().flatten(),
        };
        let note = bytes.and_then(|b| toml::from_str::<Self>(&String::from_utf8_lossy(&b)).ok());
        Ok(note
            .filter(|note| note.format <= FORMAT)
            .map(|note| Self { why: show(note.why.as_bytes()), ..note }))
    }

    /// The text of the file in a generation's folder.
    pub(super) fn to_text(&self, dir: &Dir) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Damaged {
            path: dir.path().to_path_buf(),
            why: format!("{CONDEMNED_NOTE} cannot be written down: {e}"),
        })
    }
}
