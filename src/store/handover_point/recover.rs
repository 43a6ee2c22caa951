//! What a cut left behind is finished or taken away, before anything new begins. Running it twice changes nothing.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
};

use jiff::Timestamp;

use super::{
    CONDEMNED_NOTE, HandoverPoint, Listing, bear,
    decide::{Leftover, leftover},
    deltas,
    hold::Changing,
    owned, receipt_in,
};
use crate::{
    manifest::{GenerationId, names, receipt},
    store::{Error, Found, Result},
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
    /// other collect runs. What is wrong with one entry stops nothing.
    pub fn recover(&self, now: Timestamp) -> Result<Listing<Recovered>> {
        let mut done = Listing::default();
        let collecting = &self.private()?.collecting;
        for name in collecting.names()? {
            durable::remove_tree(collecting, &name)?;
            done.items.push(Recovered::Draft(name));
        }
        {
            let changing = self.changing()?;
            for dir in [&self.gate, &self.outgoing, &self.store] {
                sweep(dir)?;
            }
            for found in Found::list(&self.outgoing)?.0 {
                let recovered = self.recover_waiting(&found, now, &changing);
                done.items.extend(bear(recovered, found.id().as_ref(), &mut done.strange)?.flatten());
            }
            for found in Found::list(&self.store)?.0 {
                let cleared = clear(&self.store, found.id()).and_then(|dir| deltas::remove(&dir));
                bear(cleared, found.id().as_ref(), &mut done.strange)?;
            }
        }
        let deletions = self.finish_deletions()?;
        done.items.extend(deletions.items.into_iter().map(Recovered::Deletion));
        done.strange.extend(deletions.strange);
        Ok(done)
    }

    fn recover_waiting(
        &self,
        found: &Found,
        now: Timestamp,
        changing: &Changing,
    ) -> Result<Option<Recovered>> {
        let id = found.id().clone();
        let dir = clear(&self.outgoing, &id)?;
        let stored = match self.store.open_dir(&id) {
            Ok(dir) => Some(Found::load(&dir, &id).ok().map(|s| s.seal)),
            Err(e) if e.is_not_found() => None,
            Err(e) if e.is_storage() => return Err(e.into()),
            // A link or a file: whatever it is, it is in the way.
            Err(_) => Some(None),
        };
        match leftover(&found.seal, stored, receipt_in(&dir, found)?.is_some()) {
            Leftover::Waits => Ok(None),
            Leftover::Duplicate => {
                self.condemn(&self.outgoing, found, "the Source-Store holds the same", now, changing)?;
                Ok(Some(Recovered::Duplicate(id)))
            }
            Leftover::Accepted => {
                let receipt = dir.read(names::RECEIPT, receipt::LIMIT)?;
                self.finish_accept(found, &receipt, now, changing)?;
                Ok(Some(Recovered::Acceptance(id)))
            }
        }
    }
}

/// Removes from a generation what a cut step left in it: temporary files, and the note of a condemnation that did not
/// come to its move.
fn clear(parent: &Dir, id: &GenerationId) -> Result<Dir> {
    let dir = parent.open_dir(id)?;
    sweep(&dir)?;
    durable::remove_file(&dir, CONDEMNED_NOTE).map_err(Error::from)?;
    Ok(dir)
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
