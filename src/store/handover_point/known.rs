//! Whether a home is the one that root's state knows: an empty folder where its disk is not mounted must never become a
//! second one.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::HandoverPoint;
use crate::{
    manifest::Channel,
    store::{Error, Result, places},
    sys::{self, Dir},
};

/// The file in the state folder of a channel that knows the home: lineage and sequence.
pub const STATE: &str = "state.toml";
/// The file in `gate/` in which a run wrote the lineage.
pub const GATE_FACTS: &str = "gate.toml";
const LIMIT: u64 = 64 * 1024;

/// What of both files is compared.
#[derive(Default, Deserialize)]
struct Facts {
    #[serde(default)]
    lineage: String,
    #[serde(default)]
    sequence: u64,
}

impl HandoverPoint {
    /// As [`Self::open`]; a home that the state of the role (`<state>/source`) knows, and that is not in its place, is
    /// [`Error::HomeGone`].
    pub fn open_known(home: &Path, channel: Channel, state: &Path) -> Result<Self> {
        Self::check_known(home, channel, state)?;
        Self::open(home, channel)
    }

    /// Nothing where no home was ever made by this state, or where it is in its place; else [`Error::HomeGone`].
    pub fn check_known(home: &Path, channel: Channel, state: &Path) -> Result<()> {
        let Some(known) = known(&state_of(channel, state))? else { return Ok(()) };
        match gone(home, &known)? {
            None => Ok(()),
            Some(why) => Err(Error::HomeGone { path: home.to_path_buf(), why: why.to_owned() }),
        }
    }
}

/// The state folder of a channel in that of the role.
pub fn state_of(channel: Channel, state: &Path) -> PathBuf {
    match channel {
        Channel::Data => state.to_path_buf(),
        Channel::Logs => state.join("logs"),
    }
}

/// What the state knows; nothing where there is none, or where it may not be looked at: then the home is closed too.
fn known(state: &Path) -> Result<Option<Facts>> {
    let denied = |e: &sys::Error| e.errno() == Some(libc::EACCES);
    match Dir::open(state).and_then(|dir| dir.read_if_any(STATE, LIMIT)) {
        Ok(bytes) => Ok(bytes.map(|bytes| facts(&bytes).unwrap_or_default())),
        Err(e) if e.is_not_found() || denied(&e) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// What cannot be read is told by those who need it: here it only says that something is there.
fn facts(bytes: &[u8]) -> Option<Facts> {
    toml::from_str(&String::from_utf8_lossy(bytes)).ok()
}

/// Why the home is not the one that is known.
fn gone(home: &Path, known: &Facts) -> Result<Option<&'static str>> {
    let dir = match Dir::open(home) {
        Err(e) if e.is_not_found() => return Ok(Some("it is not there")),
        // Whoever opens it says why not.
        Err(_) => return Ok(None),
        Ok(dir) => dir,
    };
    let Some(gate) = dir.open_dir_if_any(places::GATE)? else {
        return Ok(holds_nothing(&dir)?.then_some("no Handover Point is in it"));
    };
    if known.sequence == 0 {
        return Ok(None);
    }
    Ok(match gate.read_if_any(GATE_FACTS, LIMIT)? {
        None if holds_nothing(&dir)? => Some("it never held a generation, and some were handed over there"),
        None => None,
        // What cannot be read is written anew by the next run.
        Some(bytes) => match facts(&bytes) {
            Some(there) if !there.lineage.is_empty() && there.lineage != known.lineage => {
                Some("its lineage is another one")
            }
            _ => None,
        },
    })
}

fn holds_nothing(home: &Dir) -> Result<bool> {
    for place in [places::OUTGOING, places::STORE, places::CONDEMNED] {
        if let Some(dir) = home.open_dir_if_any(place)?
            && !dir.names()?.is_empty()
        {
            return Ok(false);
        }
    }
    Ok(true)
}
