//! The note of the last runs, one file for each role and source: last attempt and last success are separate, and that
//! a run began is noted before it does anything. A run that was killed so stays in the note as begun; whether its
//! lock is still held tells it from one that is at work. The file is replaced atomically: there is the old note or the
//! new.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::sys::{self, Dir, durable, lock};

const LIMIT: u64 = 16 << 20;
const MODE: u32 = 0o640;

/// The last runs; `R` is what is noted of one that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Runs<R> {
    /// When the last run began, if its end was not noted.
    #[serde(default = "none")]
    pub began: Option<Timestamp>,
    /// The last run that ended, however it ended.
    pub last_attempt: Option<R>,
    /// The last that ended well.
    pub last_success: Option<R>,
    /// How often a check has failed, in all runs since the file was made.
    #[serde(default)]
    pub verify_failures: u64,
}

fn none() -> Option<Timestamp> {
    None
}

impl<R> Default for Runs<R> {
    fn default() -> Self {
        Self { began: None, last_attempt: None, last_success: None, verify_failures: 0 }
    }
}

/// What was read of the note.
#[derive(Debug, Clone, PartialEq)]
pub struct Noted<R> {
    /// The last runs; none where the file is missing or cannot be read.
    pub runs: Runs<R>,
    /// Why the file cannot be read; the next run writes it anew.
    pub unreadable: Option<String>,
}

/// What a role is doing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Activity {
    /// No run is at work, and the last one came to its end.
    Idle,
    /// A run is at work.
    Running {
        /// Since when.
        began: Timestamp,
    },
    /// The last run was killed, or the machine stopped, before it came to its end.
    NeverEnded {
        /// When it began.
        began: Timestamp,
    },
}

impl<R: Serialize + DeserializeOwned> Runs<R> {
    /// Reads the note. A file that is there and cannot be understood is said, not hidden.
    pub fn read(dir: &Dir, file: &str) -> Noted<R> {
        let unreadable = |why: String| {
            let path = sys::show(dir.join(file).as_os_str().as_encoded_bytes());
            Noted {
                runs: Self::default(),
                unreadable: Some(format!("{path}: {}", sys::show(why.as_bytes()))),
            }
        };
        match dir.read_if_any(file, LIMIT) {
            Ok(None) => Noted { runs: Self::default(), unreadable: None },
            Ok(Some(bytes)) => match serde_json::from_slice(&bytes) {
                Ok(runs) => Noted { runs, unreadable: None },
                Err(e) => unreadable(e.to_string()),
            },
            Err(e) => unreadable(e.to_string()),
        }
    }

    /// Notes that a run begins; whoever calls holds the lock.
    pub fn begin(dir: &Dir, file: &str, now: Timestamp) -> sys::Result<()> {
        let mut runs = Self::read(dir, file).runs;
        runs.began = Some(now);
        runs.write(dir, file)
    }

    /// Notes that the run ended.
    pub fn finish(dir: &Dir, file: &str, run: R, well: bool, verify_failures: u64) -> sys::Result<()>
    where
        R: Clone,
    {
        let mut runs = Self::read(dir, file).runs;
        if well {
            runs.last_success = Some(run.clone());
        }
        runs.last_attempt = Some(run);
        runs.began = None;
        runs.verify_failures += verify_failures;
        runs.write(dir, file)
    }

    fn write(&self, dir: &Dir, file: &str) -> sys::Result<()> {
        let text = serde_json::to_vec(self)
            .map_err(|e| sys::Error::new("write", dir.join(file), std::io::Error::other(e)))?;
        durable::write_file(dir, file, &text, MODE)
    }

    /// What the note and the lock tell together.
    pub fn activity(&self, lock: &Path) -> sys::Result<Activity> {
        Ok(match self.began {
            None => Activity::Idle,
            Some(began) if lock::holder(lock)?.is_some() => Activity::Running { began },
            Some(began) => Activity::NeverEnded { began },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "status.json";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_run_that_never_ended_is_told_from_one_at_work_and_from_one_that_ended() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let (path, began) = (folder.path().join("lock"), at("2026-11-23T03:00:00Z"));
        let activity = || Runs::<String>::read(&dir, FILE).runs.activity(&path).unwrap();
        assert_eq!(activity(), Activity::Idle);
        let held = lock::try_exclusive(&path, "a run").unwrap();
        Runs::<String>::begin(&dir, FILE, began).unwrap();
        assert_eq!(activity(), Activity::Running { began });
        drop(held);
        assert_eq!(activity(), Activity::NeverEnded { began });
        Runs::finish(&dir, FILE, "well".to_owned(), true, 0).unwrap();
        assert_eq!(activity(), Activity::Idle);
    }

    #[test]
    fn a_failure_leaves_the_last_success_and_what_failed_its_check_is_counted_on() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        Runs::finish(&dir, FILE, "well".to_owned(), true, 1).unwrap();
        Runs::finish(&dir, FILE, "bad".to_owned(), false, 2).unwrap();
        let runs = Runs::<String>::read(&dir, FILE).runs;
        assert_eq!((runs.last_attempt.as_deref(), runs.last_success.as_deref()), (Some("bad"), Some("well")));
        assert_eq!(runs.verify_failures, 3);
    }

    #[test]
    fn a_note_that_cannot_be_read_is_said_and_written_anew_by_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        durable::write_file(&dir, FILE, b"{\"last_attempt\":", MODE).unwrap();
        let noted = Runs::<String>::read(&dir, FILE);
        assert_eq!(noted.runs, Runs::default());
        assert!(noted.unreadable.unwrap().contains("status.json"));
        Runs::finish(&dir, FILE, "well".to_owned(), true, 0).unwrap();
        assert_eq!(Runs::<String>::read(&dir, FILE).unreadable, None);
    }
}
