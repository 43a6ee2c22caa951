//! The source's side: from a draft to what the sink has accepted.
//!
//! ```text
//! <home>/                      root's: nothing in it can be swapped by the transport user
//!   collecting/<id>/           Draft: root's, 0700
//!   transport-outgoing/<id>/   Sealed, waiting          the transport user's, 0700; in a generation the folders are
//!   store/<id>/                Accepted, with receipt   the transport user's (so the gate can move and delete), the
//!   condemned/<id>/            until `undo_for` is over files root's (so it cannot alter content)
//!   gate/                      what the gate needs to know: root's, readable by the transport user
//!   restore/ restored/         the restore drop point and what was restored from it
//! ```
//!
//! The place is the state; each step is one rename. Two processes change places, the collector (root) and the gate (the
//! transport user): each holds a lock on `transport-outgoing/` while it does, for the moment that renames take. Who reads
//! a generation holds a shared lock on its folder, and what is being read is not condemned. Every step may be cut and
//! called again; [`HandoverPoint::recover`] finishes what a cut left behind.
//!
//! The transport user can put anything into its folders. What is wrong with one entry there is told as [`Strange`] and
//! stops nothing; nothing is followed, and nothing that is not ours is given away or written into.
//!
//! The log channel has no Source-Store: of an accepted generation `store/` keeps the receipt as `<id>.receipt.toml`, and
//! the generation itself is condemned, so that it can still be offered again until `undo_for` is over.

mod accept;
mod condemn;
pub mod decide;
pub mod deltas;
mod draft;
mod gate_files;
mod handing;
mod hold;
pub mod known;
mod layout;
mod owned;
mod recover;
mod reject;
mod rejected_paths;

use std::{ffi::OsStr, path::Path};

use jiff::Timestamp;
use serde::Serialize;

use self::hold::{Changing, is_read};
pub use self::{
    accept::Acceptance,
    condemn::{Condemned, Gone},
    draft::{Draft, Sealed},
    hold::Held,
    layout::Change,
    recover::Recovered,
    reject::{Rejected, Rejection, Rejections},
};
pub use super::note::{CONDEMNED_NOTE, Note};
use super::{Error, Found, Result, Strange, places};
use crate::{
    manifest::{GenerationId, Receipt, names, receipt},
    sys::{self, Dir, durable},
};

/// The folders of a source's home, open. See the module for who may do what in them.
#[derive(Debug)]
pub struct HandoverPoint {
    home: Dir,
    gate: Dir,
    outgoing: Dir,
    store: Dir,
    condemned: Dir,
    /// Only where they exist and this process may open them.
    private: Option<Private>,
    owner: Owner,
}

/// The folders that are not the gate's business.
#[derive(Debug)]
struct Private {
    collecting: Dir,
    restore: Option<Dir>,
    restored: Option<Dir>,
}

/// The transport user: the owner of `transport-outgoing/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// Where a generation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A draft.
    Collecting,
    /// At the Transport Handover Point.
    Waiting,
    /// In the Source-Store.
    Stored,
    /// Condemned, and can be taken back.
    Condemned,
}

/// What is in a folder: the generations in their order, and whatever else lies there, for the report.
#[derive(Debug)]
pub struct Listing<T> {
    /// The generations, in order.
    pub items: Vec<T>,
    /// What is not a generation, or is torn.
    pub strange: Vec<Strange>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { items: Vec::new(), strange: Vec::new() }
    }
}

impl<T> Listing<T> {
    /// What `look` makes of each generation in a folder.
    fn of(parent: &Dir, mut look: impl FnMut(Found, &Dir) -> Result<T>) -> Result<Self> {
        let (found, strange) = Found::list(parent)?;
        let mut listing = Self { items: Vec::new(), strange };
        for found in found {
            let id = found.id().clone();
            let looked = parent.open_dir(&id).map_err(Error::from).and_then(|dir| look(found, &dir));
            listing.items.extend(bear(looked, id.as_ref(), &mut listing.strange)?);
        }
        Ok(listing)
    }
}

/// What is wrong with one entry of a folder is told with its name; storage that fails, and being asked to stop, end all.
fn bear<T>(result: Result<T>, name: &OsStr, strange: &mut Vec<Strange>) -> Result<Option<T>> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(e) if e.is_storage() || matches!(e, Error::Interrupted(_)) => Err(e),
        Err(e) => {
            strange.push(Strange { name: name.to_owned(), why: e.to_string(), doubt: None });
            Ok(None)
        }
    }
}

/// A generation that waits for the sink.
#[derive(Debug)]
pub struct Waiting {
    /// The generation.
    pub found: Found,
    /// What the sink found damaged: it is not offered any more.
    pub rejected: Option<Rejected>,
    /// Whether a session reads it now.
    pub reading: bool,
    /// Since when it waits, by this host's clock.
    pub since: Timestamp,
}

/// A generation in the Source-Store.
#[derive(Debug)]
pub struct StoredHere {
    /// The generation.
    pub found: Found,
    /// The sink's word; missing only if somebody moved the generation here by hand.
    pub receipt: Option<Receipt>,
    /// When the receipt was written here, by this host's clock; of one without a receipt, when it was sealed.
    pub accepted: Timestamp,
}

impl HandoverPoint {
    /// The path of the home, for messages.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// `restore/`: the restore drop point; none for the log channel or where only the gate's folders were opened.
    pub fn restore(&self) -> Option<&Dir> {
        self.private.as_ref()?.restore.as_ref()
    }

    /// `restored/`: what was restored; as [`Self::restore`].
    pub fn restored(&self) -> Option<&Dir> {
        self.private.as_ref()?.restored.as_ref()
    }

    /// The user and group of the transport user.
    pub fn transport_user(&self) -> (u32, u32) {
        (self.owner.uid, self.owner.gid)
    }

    /// Whom new files are given to when root makes them: root keeps them, the transport user's group reads them.
    /// `None` for an ordinary user, whose files simply stay its own.
    pub fn new_file_owner(&self) -> Option<(u32, u32)> {
        sys::users::is_root().then_some((0, self.owner.gid))
    }

    /// Where a generation is, and its folder.
    pub fn locate(&self, id: &GenerationId) -> Result<Option<(Place, Dir)>> {
        let collecting = self.private.as_ref().map(|p| (Place::Collecting, &p.collecting));
        let places = [
            (Place::Waiting, &self.outgoing),
            (Place::Stored, &self.store),
            (Place::Condemned, &self.condemned),
        ];
        for (place, parent) in places.into_iter().chain(collecting) {
            match parent.open_dir(id) {
                Ok(dir) => return Ok(Some((place, dir))),
                Err(e) if e.is_storage() => return Err(e.into()),
                // A link or a file of that name is no generation.
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Makes durable the moves of a run that was killed between a rename and the sync of its folders: what is found in
    /// a place is there to stay once this returns.
    pub fn sync_moves(&self) -> Result<()> {
        for dir in [&self.outgoing, &self.store, &self.condemned] {
            durable::sync_dir(dir)?;
        }
        Ok(durable::sync_dir(&self.private()?.collecting)?)
    }

    /// An id for a generation that begins now: one that no folder here and nothing in `known` (the ledger) bears.
    pub fn free_id(&self, now: Timestamp, known: impl Fn(&GenerationId) -> bool) -> Result<GenerationId> {
        let free = decide::free_id(now, |id| Ok::<_, Error>(known(id) || self.is_taken(id)?))?;
        free.ok_or_else(|| Error::Layout {
            path: self.home().to_path_buf(),
            why: "every id of this second is taken: wait a second and run again".to_owned(),
        })
    }

    fn is_taken(&self, id: &GenerationId) -> Result<bool> {
        let private =
            self.private.iter().flat_map(|p| [Some(&p.collecting), p.restore.as_ref(), p.restored.as_ref()]);
        for parent in private.flatten().chain([&self.outgoing, &self.store, &self.condemned]) {
            if parent.stat_if_any(id)?.is_some() {
                return Ok(true);
            }
        }
        Ok(self.store.stat_if_any(accept::receipt_name(id))?.is_some()
            || self.condemned.stat_if_any(condemn::deleting(id.as_ref()))?.is_some())
    }

    /// What waits for the sink.
    pub fn waiting(&self) -> Result<Listing<Waiting>> {
        self.list_waiting(&self.changing()?)
    }

    fn list_waiting(&self, _: &Changing) -> Result<Listing<Waiting>> {
        let mut room = reject::PATHS;
        Listing::of(&self.outgoing, |found, dir| {
            Ok(Waiting {
                rejected: Rejected::load(dir, &found, &mut room)?,
                reading: is_read(dir)?,
                since: found.generation.finished,
                found,
            })
        })
    }

    /// What the sink has accepted and is still here.
    pub fn stored(&self) -> Result<Listing<StoredHere>> {
        self.list_stored(&self.changing()?)
    }

    fn list_stored(&self, _: &Changing) -> Result<Listing<StoredHere>> {
        let mut listing = Listing::of(&self.store, |found, dir| {
            let receipt = receipt_in(dir, &found)?;
            let written = match receipt {
                Some(_) => dir.stat_if_any(names::RECEIPT)?,
                None => None,
            };
            let accepted = written
                .and_then(|s| Timestamp::new(s.st_mtime, i32::try_from(s.st_mtime_nsec).unwrap_or(0)).ok());
            Ok(StoredHere { accepted: accepted.unwrap_or(found.generation.finished), receipt, found })
        })?;
        listing.strange.retain(|s| !accept::is_receipt_name(&s.name));
        Ok(listing)
    }

    fn private(&self) -> Result<&Private> {
        self.private.as_ref().ok_or_else(|| Error::Layout {
            path: self.home().join(places::COLLECTING),
            why: "this is not for the gate: run as the owner of the home".to_owned(),
        })
    }
}

/// The receipt in a generation's folder, if it is one for this generation.
fn receipt_in(dir: &Dir, found: &Found) -> Result<Option<Receipt>> {
    let bytes = match dir.read_if_any(names::RECEIPT, receipt::LIMIT) {
        Err(e) if e.is_storage() => return Err(e.into()),
        other => other.ok().flatten(),
    };
    let receipt = bytes.and_then(|b| Receipt::parse(&b).ok());
    Ok(receipt.filter(|r| r.id == *found.id() && r.seal == found.seal))
}

/// The id that a name in a folder is.
fn id_of(name: &OsStr) -> Option<GenerationId> {
    name.to_str()?.parse().ok()
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests build by hand what a cut leaves behind")]
mod tests;
