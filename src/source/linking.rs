//! Content that is stored already gets a further name: that of unchanged files from the generation before, a folder's
//! files at a time, as two threads that make names in the same folder wait for each other.

use std::{ffi::OsStr, ffi::OsString, fs::File, os::unix::ffi::OsStrExt as _, sync::Arc};

use rustix::fs::{FileType, Stat};

use super::{
    cache::Known,
    collect::{Attributes, Error, FileRecord, LinkKey, Record},
    copier::{self, At, Job, STORED_MODE, Shared},
};
use crate::{
    manifest::{Digest, entry::Time},
    sys::{
        self, Dir,
        copy::{self, CopyError},
        durable, signals, xattr,
    },
};

/// So many files go to a thread at a time.
const TOGETHER: usize = 128;

/// Unchanged files of one folder, in the order of the manifest.
#[derive(Debug)]
pub struct Batch {
    /// The originals' folder.
    from: Arc<Dir>,
    /// The folder of the generation before, and that of the draft.
    previous: Arc<Dir>,
    to: Arc<Dir>,
    /// The name in those two, where it is not the original's; then there is one file.
    stored: Option<OsString>,
    /// When the file system of the originals was last synced.
    synced: Time,
    files: Vec<(Stat, Known)>,
}

impl Batch {
    /// Of a folder, with no file yet.
    pub fn new(from: &Arc<Dir>, previous: &Arc<Dir>, to: &Arc<Dir>, synced: Time) -> Self {
        let (from, previous, to) = (Arc::clone(from), Arc::clone(previous), Arc::clone(to));
        Self { from, previous, to, stored: None, synced, files: Vec::new() }
    }

    /// Of one file that is stored under another name.
    pub fn of_one(from: &Arc<Dir>, previous: &At, to: &At, synced: Time) -> Self {
        Self { stored: Some(to.name.clone()), ..Self::new(from, &previous.dir, &to.dir, synced) }
    }

    /// Whether a further file of this folder belongs into it.
    pub fn takes(&self, from: &Arc<Dir>) -> bool {
        self.stored.is_none() && Arc::ptr_eq(&self.from, from) && self.files.len() < TOGETHER
    }

    /// Adds a file: what it is now, and what is known of it.
    pub fn add(&mut self, stat: &Stat, known: Known) {
        self.files.push((*stat, known));
    }

    /// How many files.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Links all of them; what cannot be is read, as a changed file is.
    pub fn link(self, shared: &Shared<'_>) -> Result<Vec<Record>, Error> {
        let Self { from, previous, to, stored, synced, files } = self;
        let mut records = Vec::with_capacity(files.len());
        for (stat, known) in files {
            signals::check()?;
            let name = name_of(&known.path);
            let stored = stored.as_deref().unwrap_or(name);
            let places = [(&*from, name), (&*previous, stored), (&*to, stored)];
            let attributes = take_unchanged(places, &known, shared.owner)?;
            records.push(match attributes {
                Some(attributes) => record(&stat, known, attributes),
                None => {
                    let at =
                        |dir: &Arc<Dir>, name: &OsStr| At { dir: Arc::clone(dir), name: name.to_owned() };
                    let (from, to) = (at(&from, name), at(&to, stored));
                    let path = known.path.clone();
                    let previous = Some((at(&previous, stored), known));
                    copier::copy_file(&Job { path, from, to, previous, synced }, shared)?
                }
            });
        }
        Ok(records)
    }
}

fn name_of(path: &[u8]) -> &OsStr {
    OsStr::from_bytes(path.rsplit(|b| *b == b'/').next().unwrap_or(path))
}

/// Links an unchanged file's content, and gives the file's attributes; `None` where the stored file is not what root
/// remembers.
fn take_unchanged(
    [(from, name), previous, to]: [(&Dir, &OsStr); 3],
    known: &Known,
    owner: Option<(u32, u32)>,
) -> Result<Option<Attributes>, Error> {
    let attributes = if known.plain {
        Attributes::new()
    } else {
        // An unreadable attribute is told by whoever reads the file next.
        let Ok(attributes) = xattr::of_name(from, name) else { return Ok(None) };
        attributes
    };
    Ok(link_checked(previous, to, known, owner)?.then_some(attributes))
}

/// The record of a file that is what it was. It stays settled: the sync that settled it is the one before it was read.
fn record(stat: &Stat, known: Known, attributes: Attributes) -> Record {
    Record::File(Box::new(FileRecord {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        links: LinkKey::of(stat),
        unstable: false,
        known: Known { plain: attributes.is_empty(), ..known },
        attributes,
    }))
}

/// If the content is what it was, the copy is dropped and the stored file of before gets a further name: its inode.
pub fn link_if_same(
    previous: Option<&(At, Known)>,
    to: &At,
    sha256: [u8; 32],
    owner: Option<(u32, u32)>,
) -> Result<Option<u64>, Error> {
    let Some((previous, known)) = previous.filter(|(_, known)| known.digest.0 == sha256) else {
        return Ok(None);
    };
    let temporary =
        At { dir: Arc::clone(&to.dir), name: format!(".handover-link-{}", known.stored_inode).into() };
    if link_checked(previous.parts(), temporary.parts(), known, owner)? {
        durable::replace_draft(&temporary.dir, &temporary.name, &to.name)?;
        return Ok(Some(known.stored_inode));
    }
    Ok(None)
}

/// Links a stored file of the generation before into the draft, and proves afterwards that it is what root remembers.
///
/// The transport user owns the folder that the stored file is in and may have put something else there. The new name
/// lies in a folder that only we can reach: so what is seen there, after the link was made, cannot be exchanged any more.
pub fn link_checked(
    (previous, name): (&Dir, &OsStr),
    (to, new_name): (&Dir, &OsStr),
    known: &Known,
    owner: Option<(u32, u32)>,
) -> Result<bool, Error> {
    match previous.link(name, to, new_name) {
        Ok(()) => {}
        Err(e) if e.is_storage() => return Err(e.into()),
        Err(_) => return Ok(false), // It is gone, or has as many names as it can have: the file is read again.
    }
    let same = is_remembered(&to.stat(new_name)?, known, owner);
    if !same {
        durable::unlink_draft(to, new_name)?;
    }
    Ok(same)
}

/// Whether a stored file is the one that root remembers.
fn is_remembered(stat: &Stat, known: &Known, owner: Option<(u32, u32)>) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_file()
        && stat.st_mode & 0o7777 == STORED_MODE
        && stat.st_uid == sys::users::euid()
        && owner.is_none_or(|(_, gid)| stat.st_gid == gid)
        && stat.st_ino == known.stored_inode
        && u64::try_from(stat.st_size) == Ok(known.size)
}

/// Opens a stored file of the generation before, if it is the one that root remembers: what else the transport user may
/// have put there is not read.
pub fn open_stored(at: &At, known: &Known, owner: Option<(u32, u32)>) -> Option<File> {
    let file = copier::open(at).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    is_remembered(&stat, known, owner).then_some(file)
}

/// Makes another name of a stored file of this draft; false if it has as many as the file system allows, and was copied.
pub fn link_or_copy(from: &At, to: &At, known: &Known, owner: Option<(u32, u32)>) -> Result<bool, Error> {
    match from.dir.link(&from.name, &to.dir, &to.name) {
        Ok(()) => Ok(true),
        Err(e) if e.errno() == Some(libc::EMLINK) => copy_stored(from, to, known, owner).map(|()| false),
        Err(e) => Err(e.into()),
    }
}

fn copy_stored(from: &At, to: &At, known: &Known, owner: Option<(u32, u32)>) -> Result<(), Error> {
    let (file, copy) = (from.dir.open_file(&from.name)?, copier::new_file(to, owner)?);
    let copied = copy::hash_and_copy(&file, Some(&copy), &from.path(), &mut |_| sys::signals::check());
    let content = copied.map_err(|e| match e {
        CopyError::Read(e) | CopyError::Write(e) => Error::Sys(e),
        CopyError::Interrupted(e) => Error::Interrupted(e),
    })?;
    if Digest(content.sha256) == known.digest {
        return Ok(());
    }
    let why = std::io::Error::other("what was stored a moment ago is not what was read: look at the disk");
    Err(sys::Error::new("copy", from.path(), why).into())
}
