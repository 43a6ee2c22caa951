//! What a daemon remembers: the last run of each of its jobs, and when the next is due. `daemon.json`, format 1,
//! replaced atomically. A file that cannot be understood is as none.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::sys::{self, Dir, durable};

/// Its name in the state folder of a role.
pub const FILE: &str = "daemon.json";
/// The lock that the daemon of a role holds, beside it.
pub const LOCK: &str = "daemon-lock";
const FORMAT: u32 = 1;
const LIMIT: u64 = 1 << 20;
const MODE: u32 = 0o640;

/// What a start needs to know of the last run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// There was none.
    Never,
    /// It came to its end; when it began.
    Done(Timestamp),
    /// It did not come to its end: the machine stopped, or it was asked to.
    Cut,
}

/// One job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When the last run began.
    pub began: Option<Timestamp>,
    /// When it ended; none while it is at work, or if the end was never seen.
    pub ended: Option<Timestamp>,
    /// How it ended: its exit code, or 128 and the number of the signal that ended it.
    pub code: Option<i32>,
    /// When the next one begins.
    pub next: Option<Timestamp>,
}

impl Run {
    /// What is left to be done: a run that was asked to stop (130) is gone on with.
    pub fn last(&self) -> Last {
        match (self.began, self.ended, self.code) {
            (None, ..) => Last::Never,
            (Some(began), Some(_), code) if code != Some(130) => Last::Done(began),
            _ => Last::Cut,
        }
    }
}

/// What a daemon remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    format: u32,
    /// When the daemon began.
    pub started: Option<Timestamp>,
    /// Each job by its name, as `run`.
    pub jobs: BTreeMap<String, Run>,
    /// Since when the ssh server that it runs is down.
    #[serde(default)]
    pub no_ssh_since: Option<Timestamp>,
}

impl Default for Note {
    fn default() -> Self {
        Self { format: FORMAT, started: None, jobs: BTreeMap::new(), no_ssh_since: None }
    }
}

impl Note {
    /// Reads it.
    pub fn load(state: &Dir) -> sys::Result<Self> {
        let bytes = state.read_if_any(FILE, LIMIT)?.unwrap_or_default();
        let read: Option<Self> = serde_json::from_slice(&bytes).ok();
        Ok(read.filter(|note| note.format == FORMAT).unwrap_or_default())
    }

    /// Writes it: there is the old one or the new.
    pub fn save(&self, state: &Dir) -> sys::Result<()> {
        let text = serde_json::to_vec(self)
            .map_err(|e| sys::Error::new("write", state.join(FILE), std::io::Error::other(e)))?;
        durable::write_file(state, FILE, &text, MODE)
    }

    /// What is remembered of a job.
    pub fn job(&mut self, name: &str) -> &mut Run {
        self.jobs.entry(name.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_a_broken_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        assert_eq!(Note::load(&dir).unwrap(), Note::default());
        let mut note = Note::default();
        let began: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
        note.job("run").began = Some(began);
        note.save(&dir).unwrap();
        let mut read = Note::load(&dir).unwrap();
        assert_eq!(read, note);
        assert_eq!((read.job("run").last(), read.job("watch").last()), (Last::Cut, Last::Never));
        *note.job("run") = Run { began: Some(began), ended: Some(began), code: Some(12), next: None };
        assert_eq!(note.job("run").last(), Last::Done(began));
        note.job("run").code = Some(130);
        assert_eq!(note.job("run").last(), Last::Cut);
        durable::write_file(&dir, FILE, b"{", MODE).unwrap();
        assert_eq!(Note::load(&dir).unwrap(), Note::default());
    }
}
