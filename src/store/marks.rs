//! `marks.toml`: what this host noted about a stored generation later. It lies outside the seal, so that noting
//! something never changes what is kept.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Error, Result, anomaly::Compared};
use crate::{
    manifest::names,
    sys::{Dir, durable, show},
};

/// The version of the format that this program writes. 1: the first.
pub const FORMAT: u32 = 1;
/// No more than this many damaged paths are named; they are counted beyond.
pub const PATHS: usize = 100;
const LIMIT: u64 = 1024 * 1024;
/// The permissions of the file.
pub(super) const MODE: u32 = 0o640;

/// What was noted about a stored generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marks {
    /// [`FORMAT`].
    pub format: u32,
    /// Somebody wants it kept whatever retention says; the text says why.
    pub pinned: Option<String>,
    /// When all of it was last read and found whole.
    pub verified: Option<Timestamp>,
    /// Why it looks as if something had happened to its content on the source.
    pub suspicious: Option<String>,
    /// What is damaged in it.
    pub damage: Option<Damage>,
    /// What it lacked of earlier ones when it arrived, per element.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compared: Vec<Compared>,
}

/// Damage in a stored generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// When it was first seen.
    pub found: Timestamp,
    /// How many files.
    pub count: u64,
    /// The first [`PATHS`] of them, as they are shown.
    pub paths: Vec<String>,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            format: FORMAT,
            pinned: None,
            verified: None,
            suspicious: None,
            damage: None,
            compared: Vec::new(),
        }
    }
}

impl Marks {
    /// Reads the marks in a generation's folder; without the file, nothing is marked. Marks of a newer format, or
    /// unreadable ones, are an error: a pin that is not understood must not be lost.
    pub fn load(dir: &Dir) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let damaged = |why: String| Error::Damaged {
            path: dir.path().to_path_buf(),
            why: format!("its {}: {}", names::MARKS, show(why.trim().as_bytes())),
        };
        let Some(bytes) = dir.read_if_any(names::MARKS, LIMIT)? else { return Ok(Self::default()) };
        let text = std::str::from_utf8(&bytes).map_err(|e| damaged(e.to_string()))?;
        let version: Version = toml::from_str(text).map_err(|e| damaged(e.message().to_owned()))?;
        if version.format > FORMAT {
            return Err(damaged(format!(
                "has format {}, this handover reads up to {FORMAT}: upgrade handover here",
                version.format
            )));
        }
        toml::from_str(text).map_err(|e| damaged(e.message().to_owned()))
    }

    /// Writes the marks durably: after a crash there are the old ones or the new.
    pub fn save(&self, dir: &Dir) -> Result<()> {
        Ok(durable::write_file(dir, names::MARKS, self.to_text(dir)?.as_bytes(), MODE)?)
    }

    /// The marks as they stand in the file of this folder.
    pub(super) fn to_text(&self, dir: &Dir) -> Result<String> {
        toml::to_string(self)
            .map_err(|e| Error::Damaged { path: dir.path().to_path_buf(), why: e.to_string() })
    }

    /// Whether nothing is known to be damaged.
    pub fn is_whole(&self) -> bool {
        self.damage.is_none()
    }

    /// Notes a damaged file; one that is already named is not counted twice.
    pub fn add_damage(&mut self, path: &[u8], now: Timestamp) {
        let damage = self.damage.get_or_insert_with(|| Damage { found: now, count: 0, paths: Vec::new() });
        let shown = show(path);
        if damage.paths.contains(&shown) {
            return;
        }
        damage.count += 1;
        if damage.paths.len() < PATHS {
            damage.paths.push(shown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T03:00:00Z".parse().unwrap()
    }

    #[test]
    fn what_is_marked_is_read_again_and_nothing_is_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        assert_eq!(Marks::load(&dir).unwrap(), Marks::default());
        let mut marks = Marks { pinned: Some("before the move".to_owned()), ..Marks::default() };
        marks.add_damage(b"www/a\n", now());
        marks.add_damage(b"www/a\n", now());
        marks.save(&dir).unwrap();
        let read = Marks::load(&dir).unwrap();
        assert_eq!(read, marks);
        assert!(!read.is_whole());
        assert_eq!(read.damage.unwrap().count, 1);
    }

    #[test]
    fn damage_beyond_the_limit_is_counted_and_not_named() {
        let mut marks = Marks::default();
        for i in 0..150 {
            marks.add_damage(format!("www/{i}").as_bytes(), now());
        }
        let damage = marks.damage.unwrap();
        assert_eq!((damage.count, damage.paths.len()), (150, PATHS));
    }

    #[test]
    fn marks_of_a_newer_format_are_refused_and_called_newer() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        durable::write_file(&dir, names::MARKS, b"format = 2\nnew = 1\n", 0o640).unwrap();
        assert!(Marks::load(&dir).unwrap_err().to_string().contains("upgrade handover"));
        durable::write_file(&dir, names::MARKS, b"format = 1\nnew = 1\n", 0o640).unwrap();
        assert!(Marks::load(&dir).is_err());
    }
}
