//! `restore/`: the restore drop point, as a delivery fills it.
//!
//! ```text
//! restore/.incoming-<id>/       what is being delivered, in the shape of a generation     written by rsync
//! restore/.incoming-<id>.toml   what was announced of it                                  written by us
//! restore/<id>/                 delivered: every hash was proven against the seal
//! ```
//!
//! Its folder is locked while a delivery is written or proven. A cut leaves it as it is, and the next delivery of that
//! generation goes on; one that nobody touches for [`STALE`] goes when another begins. Nothing else in `restore/` is ever
//! changed: what an operator has put there by hand is the operator's.

mod tidy;

use std::{
    collections::HashSet,
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use self::tidy::{discard, strip, weigh};
use super::{
    Error, Found, Result, places,
    prove::Effort,
    receive::{half_dir, half_of, is_half_dir},
    verify::{VerifyReport, verify_sealed},
    walk::{split, walk},
};
use crate::{
    manifest::{GenerationId, Seal, names},
    sys::{self, Dir, durable, durable::SyncHandle, lock, room::Room, show, stamp},
};

/// Half a delivery that nobody has touched for so long is nobody's.
pub const STALE: SignedDuration = SignedDuration::from_hours(48);
/// Deliveries that may be half done at the same time: a key that was let in cannot fill the disk with beginnings.
const UNFINISHED: usize = 2;
/// Of the file system so much stays free for the application, in hundredths.
const RESERVE: u64 = 2;
const INCOMING: &str = ".incoming-";
const FORMAT: u32 = 1;
const LIMIT: u64 = 4096;

/// Why a delivery does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The drop point, or what lies in it.
    #[error(transparent)]
    Store(#[from] Error),
    /// Another session writes it.
    #[error("generation {0} is being delivered by another session: wait for its end")]
    Busy(GenerationId),
    /// It was never announced, or its delivery was swept.
    #[error("no delivery of generation {0} has begun here")]
    NotBegun(GenerationId),
    /// Another seal was announced.
    #[error("generation {0} was announced with another seal: begin again")]
    NotAnnounced(GenerationId),
    /// There is no room.
    #[error(
        "generation {id} needs {needed} more bytes and {inodes} inodes, and there is room for {free} bytes and {inodes_free} inodes \
         (2% of the disk stay free): make room there"
    )]
    NoRoom {
        /// Which.
        id: GenerationId,
        /// Bytes that are still to come.
        needed: u64,
        /// Files and folders.
        inodes: u64,
        /// Bytes that may be written.
        free: u64,
        /// Inodes that are left.
        inodes_free: u64,
    },
    /// Others are half done.
    #[error(
        "{} are half delivered already: finish one of them (`handover sink deliver NAME ID`), or remove its .incoming-… folder \
         there; one that nobody touches goes after two days",
        .0.iter().map(GenerationId::as_str).collect::<Vec<_>>().join(" and ")
    )]
    TooMany(Vec<GenerationId>),
    /// Something that is not this generation, whole, has its name.
    #[error("{} is in the way: {why}; move it away there", show(.path.as_os_str().as_encoded_bytes()))]
    InTheWay {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl From<sys::Error> for Refusal {
    fn from(e: sys::Error) -> Self {
        Self::Store(e.into())
    }
}

/// The open folder `restore/` of a home.
#[derive(Debug)]
pub struct DropPoint {
    restore: Dir,
}

/// What is announced of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// Its seal.
    pub seal: Seal,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Files and folders.
    pub entries: u64,
}

#[derive(Serialize, Deserialize)]
struct Note {
    format: u32,
    #[serde(flatten)]
    announced: Announced,
}

/// How a delivery begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// It lies here already; nothing is proven yet.
    There,
    /// It can come; so many bytes of it have.
    Coming(u64),
}

/// A delivery that can be written to; nobody else writes or proves it as long as this lives.
#[derive(Debug)]
pub struct Receiving {
    lock: Dir,
    /// What was announced.
    pub announced: Announced,
}

/// What became of a delivery that was to be published.
#[derive(Debug)]
pub enum Publication {
    /// It is whole and published now.
    Published(VerifyReport),
    /// It was published before, and is whole.
    Already(VerifyReport),
    /// It is not whole; what is wrong was thrown away.
    Damaged(VerifyReport),
}

impl DropPoint {
    /// Opens the drop point of a home.
    pub fn open(home: &Path) -> Result<Self> {
        let restore = Dir::open(home)?.open_dir(places::RESTORE).map_err(|e| Error::Layout {
            path: home.join(places::RESTORE),
            why: format!("{e}: `handover source init` makes it"),
        })?;
        Ok(Self { restore })
    }

    /// The folder itself.
    pub fn dir(&self) -> &Dir {
        &self.restore
    }

    /// What lies here by its own word, and what is on its way.
    pub fn list(&self) -> Result<(Vec<Found>, Vec<GenerationId>)> {
        let (found, _) = Found::list(&self.restore)?;
        Ok((found, self.incoming()?))
    }

    /// Bytes that a delivery may still write here.
    pub fn room(&self) -> Result<Room> {
        let room = Room::of(&self.restore)?;
        let (bytes, inodes) = (room.bytes_total / 100 * RESERVE, room.inodes_total / 100 * RESERVE);
        let (bytes_free, inodes_free) =
            (room.bytes_free.saturating_sub(bytes), room.inodes_free.saturating_sub(inodes));
        Ok(Room { bytes_free, inodes_free, ..room })
    }

    /// Announces a generation: there must be room for what has not come yet.
    pub fn begin(
        &self,
        id: &GenerationId,
        announced: &Announced,
        now: Timestamp,
    ) -> std::result::Result<Beginning, Refusal> {
        if self.is_there(id, announced.seal)? {
            return Ok(Beginning::There);
        }
        self.sweep(id, now)?;
        self.allow(id)?;
        let folder = self.restore.ensure_dir(incoming(id), 0o700)?;
        let held = locked(&folder, id)?;
        let (had, files) = weigh(&held)?;
        let room = self.room()?;
        let needed = announced.bytes.saturating_sub(had);
        let inodes = announced.entries.saturating_sub(files);
        if room.bytes_free < needed || room.inodes_free < inodes {
            let (free, inodes_free) = (room.bytes_free, room.inodes_free);
            return Err(Refusal::NoRoom { id: id.clone(), needed, inodes, free, inodes_free });
        }
        held.ensure_dir(names::DATA, 0o700)?;
        let note = Note { format: FORMAT, announced: announced.clone() };
        let text = toml::to_string(&note).map_err(|e| self.bad_note(id, e.to_string()))?;
        durable::write_file(&self.restore, note_of(id), text.as_bytes(), 0o600)?;
        Ok(Beginning::Coming(had))
    }

    /// Refuses one more beside those that are half done. It is counted with this one among them, so that of two that begin at
    /// the same time none slips through.
    fn allow(&self, id: &GenerationId) -> std::result::Result<(), Refusal> {
        let is_known = self.restore.stat_if_any(incoming(id))?.is_some();
        self.restore.ensure_dir(incoming(id), 0o700)?;
        let others: Vec<GenerationId> = self.incoming()?.into_iter().filter(|other| other != id).collect();
        if is_known || others.len() < UNFINISHED {
            return Ok(());
        }
        durable::remove_empty(&self.restore, incoming(id))?;
        Err(Refusal::TooMany(others))
    }

    /// Opens a delivery that was announced, to be written to.
    pub fn receive(&self, id: &GenerationId) -> std::result::Result<Receiving, Refusal> {
        let announced = self.announced(id)?.ok_or_else(|| Refusal::NotBegun(id.clone()))?;
        let folder = self.restore.open_dir_if_any(incoming(id))?;
        let lock = locked(&folder.ok_or_else(|| Refusal::NotBegun(id.clone()))?, id)?;
        Ok(Receiving { lock, announced })
    }

    /// Proves every hash of a delivery against the seal and, if all is right, publishes it by one rename. What is wrong
    /// is removed, so that it is sent again; what belongs to no generation goes too.
    pub fn publish(
        &self,
        id: &GenerationId,
        seal: Seal,
        effort: &Effort,
    ) -> std::result::Result<Publication, Refusal> {
        if self.is_there(id, seal)? {
            let report = verify_sealed(&self.restore.open_dir(id)?, seal, effort)?;
            if report.is_whole() {
                // Left by a cut right after the rename.
                durable::remove_file(&self.restore, note_of(id))?;
                return Ok(Publication::Already(report));
            }
            return Err(self.in_the_way(id, "it is damaged"));
        }
        let Receiving { lock: dir, announced } = self.receive(id)?;
        if announced.seal != seal {
            return Err(Refusal::NotAnnounced(id.clone()));
        }
        let sync = SyncHandle::open(&self.restore)?;
        let report = verify_sealed(&dir, seal, effort)?;
        if !report.is_whole() {
            discard(&dir, &report)?;
            return Ok(Publication::Damaged(report));
        }
        if Found::load(&dir, id).is_err() {
            return Err(self.in_the_way(id, "its generation.toml names another generation"));
        }
        strip(&dir)?;
        if let Err(e) = sync.sync() {
            // What memory holds may not be on the disk: it is not resumed.
            durable::remove_tree(&self.restore, incoming(id))?;
            return Err(e.into());
        }
        durable::rename(&self.restore, incoming(id), &self.restore, id)?;
        durable::remove_file(&self.restore, note_of(id))?;
        Ok(Publication::Published(report))
    }

    /// Whether a generation with this seal lies here under its id. Anything else under that name is in the way.
    fn is_there(&self, id: &GenerationId, seal: Seal) -> std::result::Result<bool, Refusal> {
        if self.restore.stat_if_any(id)?.is_none() {
            return Ok(false);
        }
        match self.restore.open_dir(id).map_err(Error::from).and_then(|dir| Found::load(&dir, id)) {
            Ok(found) if found.seal == seal => Ok(true),
            Ok(_) => Err(self.in_the_way(id, "it has another seal")),
            Err(e) if e.is_storage() => Err(e.into()),
            Err(_) => Err(self.in_the_way(id, "it is no whole generation")),
        }
    }

    fn in_the_way(&self, id: &GenerationId, why: &str) -> Refusal {
        Refusal::InTheWay { path: self.restore.join(id), why: why.to_owned() }
    }

    fn incoming(&self) -> Result<Vec<GenerationId>> {
        let names = self.restore.names()?;
        Ok(names.iter().filter_map(|name| name.to_str()?.strip_prefix(INCOMING)?.parse().ok()).collect())
    }

    fn announced(&self, id: &GenerationId) -> Result<Option<Announced>> {
        let Some(bytes) = self.restore.read_if_any(note_of(id), LIMIT)? else { return Ok(None) };
        let note: Note = toml::from_str(&String::from_utf8_lossy(&bytes))
            .map_err(|e| self.bad_note(id, show(e.message().as_bytes())))?;
        if note.format > FORMAT {
            return Err(self.bad_note(id, format!("it has format {}: upgrade handover", note.format)));
        }
        Ok(Some(note.announced))
    }

    fn bad_note(&self, id: &GenerationId, why: String) -> Error {
        Error::Damaged { path: self.restore.join(note_of(id)), why }
    }

    /// Half deliveries of other generations that are nobody's any more.
    fn sweep(&self, but: &GenerationId, now: Timestamp) -> Result<()> {
        for id in self.incoming()?.into_iter().filter(|id| id != but) {
            let touched = self.restore.stat_if_any(note_of(&id))?;
            let old = touched.is_none_or(|stat| now.duration_since(stamp::mtime(&stat)) > STALE);
            let Some(dir) = self.restore.open_dir_if_any(incoming(&id))?.filter(|_| old) else { continue };
            if lock::try_exclusive_on(&dir, dir.path())? {
                durable::remove_tree(&self.restore, incoming(&id))?;
                durable::remove_file(&self.restore, note_of(&id))?;
            }
        }
        Ok(())
    }
}

impl Announced {
    /// Whether what has come, in bytes on the disk and in names, is more than can come of this: while rsync takes up half a
    /// file, that file is there twice.
    pub fn is_exceeded(&self, (bytes, entries): (u64, u64)) -> bool {
        let most = self.bytes.saturating_mul(2).saturating_add(self.entries.saturating_mul(8192));
        bytes > most.saturating_add(1 << 20) || entries > self.entries.saturating_mul(2).saturating_add(64)
    }
}

impl Receiving {
    /// Whether more has come than was announced. What vanishes meanwhile is looked at the next time.
    pub fn is_exceeded(&self) -> Result<bool> {
        match weigh(&self.lock) {
            Ok(weight) => Ok(self.announced.is_exceeded(weight)),
            Err(e) if e.is_storage() => Err(e),
            Err(_) => Ok(false),
        }
    }

    /// The folder for the content, or for the generation's own files: the way to it by a handle that passes on to a
    /// program, as the lock does. It ends with the returned handle.
    pub fn folder(&self, data: bool) -> Result<(PathBuf, Dir)> {
        let dir = self.lock.open_dir(if data { names::DATA } else { "." })?;
        for handle in [&self.lock, &dir] {
            rustix::io::fcntl_setfd(handle, rustix::io::FdFlags::empty())
                .map_err(|e| sys::Error::new("pass on", handle.path(), e))?;
        }
        Ok((PathBuf::from(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd())), dir))
    }

    /// Files, by their paths below a folder of [`Self::folder`], of which a kill left a half under a temporary name.
    pub fn halves(&self, folder: &Dir, id: &GenerationId) -> Result<HashSet<Vec<u8>>> {
        let (half_dir, mut halves) = (half_dir(id), HashSet::new());
        walk(folder, &mut |seen| {
            if seen.kind().is_file() && !is_half_dir(split(seen.path).0, &half_dir) {
                halves.extend(half_of(seen.path, &half_dir));
            }
            Ok(())
        })?;
        Ok(halves)
    }
}

fn incoming(id: &GenerationId) -> String {
    format!("{INCOMING}{id}")
}

fn note_of(id: &GenerationId) -> String {
    format!("{INCOMING}{id}.toml")
}

/// A locked handle of its own: locks belong to those.
fn locked(folder: &Dir, id: &GenerationId) -> std::result::Result<Dir, Refusal> {
    let held = folder.open_dir(".")?;
    if lock::try_exclusive_on(&held, held.path())? { Ok(held) } else { Err(Refusal::Busy(id.clone())) }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests build by hand what a delivery and its enemies leave")]
mod tests;
