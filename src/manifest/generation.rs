//! `generation.toml`: what a generation is, written last; its sha256 is the seal.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Digest, GenerationId, Seal};
use crate::sys::name::Name;

/// The version of the format that this program writes. 1: the first.
pub const FORMAT: u32 = 1;
/// No `generation.toml` is larger than this many bytes; a larger one is refused unread.
pub const LIMIT: u64 = 4 * 1024 * 1024;

/// What is transported: the same machinery, with other users, homes and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Application data, kept on both sides.
    Data,
    /// Logs; the source drops them once they are accepted.
    Logs,
}

impl Channel {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Logs => "logs",
        }
    }
}

impl std::fmt::Display for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The content of `generation.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// [`FORMAT`].
    pub format: u32,
    /// Its id.
    pub id: GenerationId,
    /// The source's counter: the order of generations of one lineage.
    pub sequence: u64,
    /// A random id that the source made once; a rebuilt host has another.
    pub lineage: String,
    /// The name that the source gives itself.
    pub source: Name,
    /// Data or logs.
    pub channel: Channel,
    /// Host name of the source.
    pub host: String,
    /// When collecting began.
    pub started: Timestamp,
    /// When it was sealed.
    pub finished: Timestamp,
    /// Version of handover that made it.
    pub version: String,
    /// The generation before it, if any.
    pub previous: Option<GenerationId>,
    /// Entries of the manifest.
    pub entries: u64,
    /// Regular files among them.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// sha256 of the other files.
    pub sha256: Sums,
    /// What was collected, in the order of the configuration.
    #[serde(default, rename = "element")]
    pub elements: Vec<Element>,
    /// The last drill on the source, if any.
    pub drill: Option<Drill>,
    /// The source's configuration without secrets, to be read by a person on the day the host is lost; never run from here.
    pub config: String,
}

/// sha256 of the four files beside `generation.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    /// Of `manifest.mtree`.
    pub manifest: Digest,
    /// Of `xattrs`.
    pub xattrs: Digest,
    /// Of `SHA256SUMS`.
    pub sha256sums: Digest,
    /// Of `README.txt`.
    pub readme: Digest,
}

/// One element as it was collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Element {
    /// Its name.
    pub name: Name,
    /// `tree`, `archive`, `dump` or `logs`.
    pub kind: String,
    /// Whether all of it is here and good.
    pub ok: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Regular files.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Files, folders or attributes that could not be read; each is a comment in the manifest.
    pub failed: u64,
    /// Files that kept changing while they were read.
    pub unstable: u64,
}

/// A drill as the source ran it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// The generation that was restored.
    pub id: GenerationId,
    /// When.
    pub at: Timestamp,
    /// Whether every probe passed.
    pub ok: bool,
    /// How long it took, in seconds.
    pub seconds: u64,
}

/// Why a `generation.toml` was refused.
#[derive(Debug, thiserror::Error)]
pub enum BadGeneration {
    /// Not the format.
    #[error("generation.toml cannot be read: {0}")]
    Syntax(String),
    /// Made by a newer handover.
    #[error("generation.toml has format {0}, this handover reads up to {FORMAT}: upgrade handover here")]
    Newer(u32),
}

impl Generation {
    /// The file's text and the seal that goes with it.
    pub fn to_text(&self) -> Result<(String, Seal), toml::ser::Error> {
        let text = toml::to_string(self)?;
        let seal = Digest::of(text.as_bytes());
        Ok((text, seal))
    }

    /// Reads the file's bytes, checking the format first, so that a newer one is called newer and not broken.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadGeneration> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let syntax = |e: String| BadGeneration::Syntax(crate::sys::show(e.trim().as_bytes()));
        let text = std::str::from_utf8(bytes).map_err(|e| syntax(e.to_string()))?;
        let version: Version = toml::from_str(text).map_err(|e| syntax(e.message().to_owned()))?;
        if version.format > FORMAT {
            return Err(BadGeneration::Newer(version.format));
        }
        toml::from_str(text).map_err(|e| syntax(e.message().to_owned()))
    }
}
