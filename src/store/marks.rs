//! `marks.toml`: what this host noted about a stored generation later. It lies outside the seal, so that noting
//! something never changes what is kept.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Error, Result,
    anomaly::{Compared, Turned},
};
use crate::{
    manifest::{Digest, names},
    sys::{Dir, durable, name::Name, show},
};

/// The version of the format that this program writes. 1: the first.
pub const FORMAT: u32 = 1;
/// No more than this many damaged paths are named; they are counted beyond.
pub const PATHS: usize = 100;
/// Nor is all of a path shown that takes more bytes than these.
const SHOWN: usize = 1000;
/// A file that is larger is not read, and so never written.
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
    /// When a person said that it is as it should be, though it was suspicious; or that an earlier one was, which is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted: Option<Timestamp>,
    /// What is damaged in it.
    pub damage: Option<Damage>,
    /// What it lacked of earlier ones when it arrived, per element.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compared: Vec<Compared>,
    /// What made it suspicious when it was the newest and an earlier one was about to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turned: Option<Turned>,
    /// Elements of which a person said that they are replaced bit by bit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Name>,
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
            trusted: None,
            damage: None,
            compared: Vec::new(),
            turned: None,
            turns: Vec::new(),
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

    /// The marks as they stand in the file of this folder. What could not be read again is refused.
    pub(super) fn to_text(&self, dir: &Dir) -> Result<String> {
        let refused = |why: String| Error::Damaged { path: dir.path().to_path_buf(), why };
        let text = toml::to_string(self).map_err(|e| refused(e.to_string()))?;
        if text.len() as u64 > LIMIT {
            return Err(refused(format!("its {} would be larger than {LIMIT} bytes", names::MARKS)));
        }
        Ok(text)
    }

    /// Whether nothing is known to be damaged.
    pub fn is_whole(&self) -> bool {
        self.damage.is_none()
    }

    /// Notes a damaged file; one that is already named is not counted twice.
    pub fn add_damage(&mut self, path: &[u8], now: Timestamp) {
        let damage = self.damage.get_or_insert_with(|| Damage { found: now, count: 0, paths: Vec::new() });
        let mut shown = show(path);
        if shown.len() > SHOWN {
            // Two that differ only beyond it are two: the hash tells them apart.
            let start: String = shown.chars().take(SHOWN / 4).collect();
            shown = format!("{start}... (a path of {} bytes, sha256 {})", path.len(), Digest::of(path));
        }
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

    #[test]
    fn the_most_that_is_ever_noted_can_be_read_again_and_more_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let id: crate::manifest::GenerationId = "20261123T030000Z-2".parse().unwrap();
        let name = |n: usize| -> Name { format!("{}{n:06}", "e".repeat(58)).parse().unwrap() };
        let most = u64::MAX;
        let loss = crate::manifest::lost::Loss {
            files: most,
            bytes: most,
            lost_files: most,
            lost_bytes: most,
            left_files: most,
            left_bytes: most,
        };
        let compared: Vec<Compared> = (0..5000).map(|n| Compared::new(name(n), id.clone(), loss)).collect();
        let limits = crate::store::anomaly::Limits { shrink: Some(1), changed: Some(1) };
        let judged = crate::store::anomaly::judge(limits, compared.clone(), &[]);
        let losing = crate::store::anomaly::judge_last(limits, &compared, &[]);
        assert!(losing.suspicious.is_none(), "a new source is not judged");
        let turned =
            Turned { with: id, elements: judged.compared.iter().map(|c| c.element.clone()).collect() };
        let mut marks = Marks {
            compared: judged.compared,
            turns: turned.elements.clone(),
            turned: Some(turned),
            pinned: Some("p".repeat(100_000)),
            ..Marks::default()
        };
        for n in 0..u8::MAX {
            marks.add_damage(&[&[b'\n'; 4000][..], &[n]].concat(), now());
        }
        assert_eq!(marks.damage.as_ref().unwrap().count, u64::from(u8::MAX), "each is another one");
        marks.save(&dir).unwrap();
        assert_eq!(Marks::load(&dir).unwrap(), marks);
        let large = Marks { compared, ..Marks::default() };
        assert!(large.save(&dir).unwrap_err().to_string().contains("would be larger"));
        assert_eq!(Marks::load(&dir).unwrap(), marks, "those before it are still there");
    }
}
