//! Locks: one process changes places at a time, and what is read is not condemned.

use super::{HandoverPoint, Place};
use crate::{
    manifest::GenerationId,
    store::{Found, Result},
    sys::{self, Dir, lock, users},
};

/// A generation that is kept from being condemned as long as this lives. The lock goes with the open folder: a program
/// that inherits the descriptor inherits it.
#[derive(Debug)]
pub struct Held {
    /// The open folder.
    pub dir: Dir,
    /// The generation.
    pub found: Found,
    /// Where it was when it was opened.
    pub place: Place,
}

/// Proof that no other process changes places.
#[derive(Debug)]
pub(super) struct Changing {
    _lock: Dir,
}

const PATIENCE: std::time::Duration = std::time::Duration::from_millis(20);
const ATTEMPTS: u32 = 1500;

impl HandoverPoint {
    /// Holds a waiting or stored generation for reading. `None` if it is in neither place; `id` alone decides, so that
    /// a damaged one is an error and not an absence.
    pub fn hold(&self, id: &GenerationId) -> Result<Option<Held>> {
        let _changing = self.changing()?;
        for (place, parent) in [(Place::Waiting, &self.outgoing), (Place::Stored, &self.store)] {
            let Some(dir) = parent.open_dir_if_any(id)? else { continue };
            let found = Found::load(&dir, id)?;
            // Whoever condemns holds the lock on changes, so nobody holds this folder exclusively for long.
            if !wait_for(ATTEMPTS, || lock::try_shared_on(&dir, dir.path()))? {
                let why = std::io::Error::other("another process has held it for half a minute");
                return Err(sys::Error::new("lock", dir.path(), why).into());
            }
            return Ok(Some(Held { dir, found, place }));
        }
        Ok(None)
    }

    /// Waits until no other process changes places.
    pub(super) fn changing(&self) -> Result<Changing> {
        self.changing_within(ATTEMPTS)
    }

    /// The same with a number of attempts. What a gate does under this lock takes moments, so a process of the transport
    /// user that keeps it is frozen, or no gate: root ends it. Cut like that, a gate's work is done or not done, as ever.
    pub(super) fn changing_within(&self, attempts: u32) -> Result<Changing> {
        // A new open file description: locks belong to those, and two threads must exclude each other too.
        let dir = self.outgoing.open_dir(".")?;
        let held = || lock::try_exclusive_on(&dir, dir.path());
        if !wait_for(attempts, held)? {
            let uid = self.owner.uid;
            let freed = users::is_root()
                && uid != 0
                && wait_for(attempts, || {
                    lock::end_holders(&dir, uid);
                    held()
                })?;
            if !freed {
                let why = format!(
                    "another handover process has held it for half a minute (if none is at work, somebody keeps it on \
                     purpose: `pkill -KILL -u {uid}` ends all of the transport user's)"
                );
                return Err(sys::Error::new("lock", dir.path(), std::io::Error::other(why)).into());
            }
        }
        Ok(Changing { _lock: dir })
    }
}

impl Held {
    /// Lets the lock pass to a program that replaces this process: its descriptor stays open there.
    pub fn pass_on(&self) -> sys::Result<()> {
        rustix::io::fcntl_setfd(&self.dir, rustix::io::FdFlags::empty())
            .map_err(|e| sys::Error::new("pass on", self.dir.path(), e))
    }
}

/// Waits until an attempt at a lock succeeds; false if it never did.
fn wait_for(attempts: u32, attempt: impl Fn() -> sys::Result<bool>) -> Result<bool> {
    for _ in 0..attempts {
        if attempt()? {
            return Ok(true);
        }
        sys::signals::check()?;
        std::thread::sleep(PATIENCE);
    }
    Ok(false)
}

/// Whether somebody reads a generation. Asking takes the lock for a moment, which only those who hold the lock on
/// changes do, so that no reader is turned away by it.
pub(super) fn is_read(dir: &Dir) -> Result<bool> {
    let asked = dir.open_dir(".")?;
    Ok(!lock::try_exclusive_on(&asked, asked.path())?)
}
