//! What a cut left behind is finished or taken away, before anything new begins. Running it twice changes nothing.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
};

use jiff::Timestamp;

use super::{
    CONDEMNED_NOTE, HandoverPoint,
    decide::{Leftover, leftover},
    hold::Changing,
    owned, receipt_in,
};
use crate::{
    manifest::{GenerationId, names, receipt},
    store::{Found, Result},
    sys::{Dir, durable, show},
};

/// Something that recovery did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// A draft was deleted: it was never a generation.
    Draft(OsString),
    /// A deletion was finished.
    Deletion(OsString),
    /// A generation whose receipt was here already was moved to where accepted ones are.
    Acceptance(GenerationId),
    /// A generation waited although the Source-Store holds the same one; the waiting one was condemned.
    Duplicate(GenerationId),
}

impl std::fmt::Display for Recovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Draft(name) => write!(f, "deleted the unfinished draft {}", show(name.as_bytes())),
            Self::Deletion(name) => write!(f, "finished deleting {}", show(name.as_bytes())),
            Self::Acceptance(id) => write!(f, "finished accepting {id}"),
            Self::Duplicate(id) => write!(f, "condemned the waiting copy of {id}, which was accepted before"),
        }
    }
}

impl HandoverPoint {
    /// Deletes drafts, finishes deletions and acceptances, and sweeps temporary files. For the start of a collect, when no
    /// other collect runs.
    pub fn recover(&self, now: Timestamp) -> Result<Vec<Recovered>> {
        let mut done = Vec::new();
        let collecting = &self.private()?.collecting;
        for name in collecting.names()? {
            durable::remove_tree(collecting, &name)?;
            done.push(Recovered::Draft(name));
        }
        {
            let changing = self.changing()?;
            for dir in [&self.gate, &self.outgoing, &self.store] {
                sweep(dir)?;
            }
            self.recover_waiting(now, &changing, &mut done)?;
            for found in Found::list(&self.store)?.0 {
                let dir = self.store.open_dir(found.id())?;
                sweep(&dir)?;
                durable::remove_file(&dir, CONDEMNED_NOTE)?;
            }
        }
        done.extend(self.finish_deletions()?.into_iter().map(Recovered::Deletion));
        Ok(done)
    }

    fn recover_waiting(&self, now: Timestamp, changing: &Changing, done: &mut Vec<Recovered>) -> Result<()> {
        for found in Found::list(&self.outgoing)?.0 {
            let dir = self.outgoing.open_dir(found.id())?;
            sweep(&dir)?;
            durable::remove_file(&dir, CONDEMNED_NOTE)?;
            let id = found.id().clone();
            let stored = self.store.open_dir_if_any(&id)?;
            let stored = stored.map(|dir| Found::load(&dir, &id).ok().map(|s| s.seal));
            match leftover(&found.seal, stored, receipt_in(&dir, &found)?.is_some()) {
                Leftover::Waits => {}
                Leftover::Duplicate => {
                    self.condemn(&self.outgoing, &found, "the Source-Store holds the same", now, changing)?;
                    done.push(Recovered::Duplicate(id));
                }
                Leftover::Accepted => {
                    let receipt = dir.read(names::RECEIPT, receipt::LIMIT)?;
                    self.finish_accept(&found, &receipt, now, changing)?;
                    done.push(Recovered::Acceptance(id));
                }
            }
        }
        Ok(())
    }
}

/// Removes the temporary files that a cut left in a folder. Only for who holds the lock for changes: there, no temporary
/// file is anybody's.
pub(super) fn sweep(dir: &Dir) -> Result<()> {
    for name in dir.names()? {
        if owned::is_temporary(&name) && is_file(dir, &name)? {
            durable::remove_file(dir, &name)?;
        }
    }
    Ok(())
}

fn is_file(dir: &Dir, name: &OsStr) -> Result<bool> {
    let stat = dir.stat_if_any(name)?;
    Ok(stat.is_some_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_file()))
}
