//! `receipt.toml`: the sink's word that a generation is durable in its store.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{GenerationId, Seal};

/// No receipt is larger than this many bytes.
pub const LIMIT: u64 = 4096;

/// How the content was proven before it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// Nothing was hashed: rsync's own checksum was trusted.
    None,
    /// Every received file was hashed; what was linked had been proven before, not longer ago than `relink_max_age`.
    Transferred,
    /// Every file was hashed, the linked ones too.
    All,
}

impl std::fmt::Display for Verify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Transferred => "transferred",
            Self::All => "all",
        })
    }
}

/// The sink's word: durable in my store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Version of this format: 1.
    pub format: u32,
    /// Which generation.
    pub id: GenerationId,
    /// Its seal.
    pub seal: Seal,
    /// The sink's own counter for this source.
    pub sequence: u64,
    /// When it was stored, by the sink's clock.
    pub stored: Timestamp,
    /// Host name of the sink.
    pub sink: String,
    /// UUID of the sink's store.
    pub store: String,
    /// How it was proven.
    pub verify: Verify,
    /// Files hashed on arrival.
    pub hashed: u64,
    /// Files that were linked and read again.
    pub reread: u64,
    /// Files that were only linked.
    pub linked: u64,
}

impl Receipt {
    /// The file's text.
    pub fn to_text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Reads the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
        toml::from_str(text).map_err(|e| crate::sys::show(e.message().as_bytes()))
    }
}
