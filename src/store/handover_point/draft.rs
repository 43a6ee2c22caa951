//! A generation while it is collected, and the step that publishes it.

use super::{HandoverPoint, Owner, handing, owned};
use crate::{
    manifest::{Generation, GenerationId, Seal, names},
    store::{Error, Result},
    sys::{Dir, durable, laps::Laps, users},
};

/// A generation that is being collected, in `collecting/<id>/`: nobody else sees it. One that is neither sealed nor
/// discarded is deleted at the next start.
#[derive(Debug)]
#[must_use = "seal it or discard it"]
pub struct Draft {
    id: GenerationId,
    collecting: Dir,
    outgoing: Dir,
    dir: Dir,
    data: Dir,
    owner: Owner,
    new_file_owner: Option<(u32, u32)>,
    sync: durable::SyncHandle,
}

/// A generation that is durable at the Transport Handover Point. Only [`Draft::seal`] makes one.
#[derive(Debug)]
pub struct Sealed {
    id: GenerationId,
    seal: Seal,
    laps: Laps,
}

impl HandoverPoint {
    /// Begins a draft.
    pub fn begin(&self, id: &GenerationId) -> Result<Draft> {
        let collecting = self.private()?.collecting.try_clone()?;
        let sync = durable::SyncHandle::open(&collecting)?;
        let dir = collecting.create_dir(id, 0o700)?;
        let data = dir.create_dir(names::DATA, 0o700)?;
        if let Some((_, gid)) = self.new_file_owner() {
            // Files are made with the group that they need; the mode of every folder is set again when it is handed over.
            data.give_to(users::euid(), gid)?;
            data.set_mode(0o2700)?;
        }
        Ok(Draft {
            id: id.clone(),
            data,
            outgoing: self.outgoing.try_clone()?,
            owner: self.owner,
            new_file_owner: self.new_file_owner(),
            collecting,
            dir,
            sync,
        })
    }
}

impl Draft {
    /// Its id.
    pub fn id(&self) -> &GenerationId {
        &self.id
    }

    /// Its folder.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Its `data/`.
    pub fn data(&self) -> &Dir {
        &self.data
    }

    /// Whom new files of the draft are given to, with mode 0440; see [`HandoverPoint::new_file_owner`].
    pub fn new_file_owner(&self) -> Option<(u32, u32)> {
        self.new_file_owner
    }

    /// Throws it away.
    pub fn discard(self) -> Result<()> {
        Ok(durable::remove_tree(&self.collecting, &self.id)?)
    }

    /// Publishes it: `generation.toml` is written last, the folders are handed to the transport user while nobody can
    /// reach them, everything is synced, and one rename makes it visible. If anything fails before that rename, above
    /// all the sync, the draft is thrown away: what was written since cannot be trusted. If this does not return Ok, the
    /// generation may still be offered (the power may fail right after the rename), but never a part of it.
    pub fn seal(self, generation: &Generation) -> Result<Sealed> {
        let published = self.publish(generation);
        match published {
            Ok((seal, laps)) => Ok(Sealed { id: self.id, seal, laps }),
            Err(e) => {
                if self.discard().is_err() {
                    // The first error says what is wrong; the next start deletes what is left of the draft.
                }
                Err(e)
            }
        }
    }

    fn publish(&self, generation: &Generation) -> Result<(Seal, Laps)> {
        let damaged = |why: String| Error::Damaged { path: self.dir.path().to_path_buf(), why };
        if generation.id != self.id {
            return Err(damaged(format!("it would be sealed as {}", generation.id)));
        }
        let (text, seal) =
            generation.to_text().map_err(|e| damaged(format!("it cannot be written down: {e}")))?;
        owned::fill(&self.dir, names::GENERATION.as_ref(), text.as_bytes(), 0o440, self.new_file_owner)?;
        let mut laps = Laps::default();
        laps.time("hand over", || handing::hand_over(&self.dir, self.owner, self.new_file_owner))?;
        laps.time("sync", || self.sync.sync())?;
        laps.time("publish", || durable::rename(&self.collecting, &self.id, &self.outgoing, &self.id))?;
        Ok((seal, laps))
    }
}

impl Sealed {
    #[cfg(test)]
    pub(crate) fn for_test(id: GenerationId, seal: Seal) -> Self {
        Self { id, seal, laps: Laps::default() }
    }

    /// Its id.
    pub fn id(&self) -> &GenerationId {
        &self.id
    }

    /// The sha256 of its `generation.toml`.
    pub fn seal(&self) -> Seal {
        self.seal
    }

    /// What sealing took.
    pub fn laps(&self) -> &Laps {
        &self.laps
    }
}
