//! The journal of a restore into the running application: `<state>/restore/journal.json`.
//!
//! It is written and synced before each change of kind, so that a run that was cut at any instant can be judged by what
//! lies on the disk: each unit's device and inode say whether the old or the new is in its place. Before `Promoting`
//! everything can be put back and is; from then on the rest is done.
//!
//! `<state>/restore/replaced.json` lists what restores have replaced and kept, `last.json` names the last restore.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    error::{Error, Result},
    units::{How, Rules},
};
use crate::{
    app::unfinished::JOURNAL,
    manifest::GenerationId,
    sys::{self, Dir, durable},
};

const REPLACED: &str = "replaced.json";
const LAST: &str = "last.json";
const LIMIT: u64 = 16 << 20;

/// How far a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// All that was there is there again; what was made for the restore is still to be removed.
    PutBack,
    /// The new is being made beside the old; nothing of the application has changed.
    Building,
    /// The application's own procedure runs.
    Procedure,
    /// The new is being put in the place of the old. A cut here is undone.
    Exchanging,
    /// All files are in their place; dumps are being promoted. A cut here is finished.
    Promoting,
    /// All is done but the tidying.
    Done,
}

/// The journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// 1.
    pub format: u32,
    /// The generation.
    pub id: GenerationId,
    /// When the restore began.
    pub started: Timestamp,
    /// How far it is.
    pub phase: Phase,
    /// What is replaced.
    pub units: Vec<UnitRecord>,
    /// What is loaded and promoted.
    pub dumps: Vec<DumpRecord>,
    /// The copy that was proven, in the private folder.
    pub copy: String,
    /// What moves from `restore/` to `restored/` in the end.
    pub delivered: Option<PathBuf>,
}

/// A path that is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitRecord {
    /// The element.
    pub element: String,
    /// The path.
    pub root: PathBuf,
    /// How it is replaced.
    pub how: How,
    /// The folder beside it in which the new is made, and in which the old is kept.
    pub staging: PathBuf,
    /// The inode of that folder; `None` until it is made. Another one under its name is not ours.
    #[serde(default)]
    pub folder: Option<u64>,
    /// Device and inode of what was there.
    pub old: Option<(u64, u64)>,
    /// Device and inode of what is put there; `None` until it is made.
    pub new: Option<(u64, u64)>,
    /// Whether the copy of the old is complete, where the new is put in file by file.
    pub copied: bool,
    /// What stays as it is.
    pub rules: Rules,
}

/// A dump that is loaded and promoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DumpRecord {
    /// The element.
    pub element: String,
    /// What stands for `{target}`.
    pub target: String,
    /// How far it is.
    pub state: DumpState,
}

/// How far a dump is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DumpState {
    /// Nothing of it was begun.
    Planned,
    /// A scratch target may be there.
    Loading,
    /// It is loaded and probed.
    Loaded,
    /// It is being put in the place of the live one.
    Promoting,
    /// It is the live one.
    Promoted,
}

impl Journal {
    /// The journal of a restore that begins.
    pub fn new(id: GenerationId, started: Timestamp, copy: &str, delivered: Option<PathBuf>) -> Self {
        let (phase, copy) = (Phase::Building, copy.to_owned());
        Self { format: 1, id, started, phase, units: Vec::new(), dumps: Vec::new(), copy, delivered }
    }

    /// The one of a restore that was cut, if there is one.
    pub fn load(state: &Dir) -> Result<Option<Self>> {
        read(state, JOURNAL)
    }

    /// Writes it; durable when this returns.
    pub fn write(&self, state: &Dir) -> Result<()> {
        write(state, JOURNAL, self)
    }

    /// All is done, or all is as it was.
    pub fn close(state: &Dir) -> Result<()> {
        Ok(durable::remove_file(state, JOURNAL)?)
    }
}

/// Reads what [`write`] wrote, if it is there.
pub(super) fn read<T: DeserializeOwned>(state: &Dir, name: &str) -> Result<Option<T>> {
    let Some(bytes) = state.read_if_any(name, LIMIT)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        let why = std::io::Error::other(format!(
            "{e}: look at it, put the paths it names in order by hand, then remove it"
        ));
        sys::Error::new("read", state.join(name), why).into()
    })
}

/// Writes a file of root's folder of the role; durable when this returns.
pub(super) fn write<T: Serialize + ?Sized>(state: &Dir, name: &str, what: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(what).map_err(|_| Error::Internal("the journal has no text"))?;
    Ok(durable::write_file(state, name, &text, 0o600)?)
}

/// The last restore that came to its end, whether it replaced anything or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Last {
    /// The generation.
    pub id: GenerationId,
    /// When the restore began.
    pub at: Timestamp,
}

impl Last {
    /// The last one, if it was noted.
    pub fn load(state: &Dir) -> Result<Option<Self>> {
        read(state, LAST)
    }

    /// Notes it.
    pub fn note(state: &Dir, journal: &Journal) -> Result<()> {
        write(state, LAST, &Self { id: journal.id.clone(), at: journal.started })
    }
}

/// What a restore has replaced and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    /// The folder that holds it, beside the path; the old is in `old/` in it.
    pub folder: PathBuf,
    /// The inode of that folder.
    #[serde(default)]
    pub inode: Option<u64>,
    /// The path that it was.
    pub root: PathBuf,
    /// How it was replaced.
    pub how: How,
    /// The element.
    pub element: String,
    /// The generation that replaced it.
    pub id: GenerationId,
    /// When that restore began.
    pub at: Timestamp,
    /// What stayed as it was.
    pub rules: Rules,
}

impl Replaced {
    /// All that is kept, the eldest first.
    pub fn load(state: &Dir) -> Result<Vec<Self>> {
        Ok(read(state, REPLACED)?.unwrap_or_default())
    }

    /// Writes the list anew.
    pub fn store(state: &Dir, list: &[Self]) -> Result<()> {
        write(state, REPLACED, list)
    }
}
