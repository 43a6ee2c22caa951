//! Large files that are made here out of their previous version and what changed in it, instead of being fetched.
//!
//! `incoming/<source>/<id>/delta/` is written by rsync. What lies there is a hostile host's: it is read as one block after
//! the other, each of which lies within the file that the manifest wants, and is written into nothing but a new file in
//! `recv/`. What comes of it is proven by its hash as all that arrives; if it is wrong, the file itself is fetched.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::BufReader,
    path::PathBuf,
};

use rustix::fs::{FileType, Stat};

use super::{
    Error, Result,
    meta::items,
    plan::Planned,
    prove::{WRONG, look},
    staging::RECV_MODE,
    walk::Cursor,
};
use crate::{
    manifest::{Digest, Item, Kind, delta, entry::stored_path},
    sys::{
        self, Dir,
        copy::{self, CopyError},
        durable, signals, stamp, users,
    },
};

const DELTA: &str = "delta";
/// In it, a file while it is made: what has its own name in `recv/` was made to the end.
const MADE: &str = ".made";

/// A file that can be made out of one that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// What is offered for it.
    pub offered: delta::Offered,
    /// The stored path of the file.
    pub stored: Vec<u8>,
    /// Bytes that it will have.
    pub size: u64,
    /// The stored path of the previous version, in the basis.
    old: Vec<u8>,
    old_size: u64,
}

/// Why a file could not be made; it is fetched then.
#[derive(Debug, thiserror::Error)]
enum Unmade {
    /// The delta, or the base, is not what it should be.
    #[error("{0}")]
    Flaw(String),
    /// Ours.
    #[error(transparent)]
    Ours(#[from] Error),
}

impl From<delta::Error> for Unmade {
    fn from(e: delta::Error) -> Self {
        Self::Flaw(e.to_string())
    }
}

impl From<sys::Error> for Unmade {
    fn from(e: sys::Error) -> Self {
        if e.is_storage() { Self::Ours(e.into()) } else { Self::Flaw(e.to_string()) }
    }
}

impl From<CopyError> for Unmade {
    fn from(e: CopyError) -> Self {
        match e {
            // The base cannot be read, or there is no room: whether the disk is to blame shows when the file is fetched.
            CopyError::Read(e) | CopyError::Write(e) => Self::Flaw(e.to_string()),
            CopyError::Interrupted(e) => Self::Ours(Error::Interrupted(e)),
        }
    }
}

impl Planned {
    /// What of the offered deltas is of use: the basis has what they build on, by its manifest, and they make a file that is
    /// still to be fetched.
    pub fn patches(&self, offered: &[delta::Offered]) -> Result<Vec<Patch>> {
        let Some(basis) = &self.basis else { return Ok(Vec::new()) };
        if offered.is_empty() {
            return Ok(Vec::new());
        }
        let bases: HashSet<Digest> = offered.iter().map(|one| one.base).collect();
        let mut here: HashMap<Digest, (Vec<u8>, u64)> = HashMap::new();
        for item in items(&basis.dir)? {
            if let Item::Entry(entry) = item?
                && let Kind::File { size, digest, .. } = entry.kind
                && bases.contains(&digest)
            {
                here.entry(digest).or_insert_with(|| (stored_path(&entry.path), size));
            }
        }
        let offered: HashMap<Digest, &delta::Offered> =
            offered.iter().filter(|one| here.contains_key(&one.base)).map(|one| (one.content, one)).collect();
        let mut patches = Vec::new();
        self.each_wanted(&mut |path| {
            if let Some(asked) = self.wanted.get(path).filter(|asked| !asked.is_proven())
                && let Some(offered) = offered.get(&asked.digest)
                && delta::is_plausible(offered.bytes, asked.size)
                && let Some((old, old_size)) = here.get(&offered.base)
                // Else a few bytes could demand that a hole as large as the disk is hashed.
                && asked.size <= old_size.saturating_add(offered.bytes)
            {
                let (stored, old) = (path.to_vec(), old.clone());
                patches.push(Patch {
                    offered: **offered,
                    stored,
                    size: asked.size,
                    old,
                    old_size: *old_size,
                });
            }
            Ok(())
        })?;
        Ok(patches)
    }

    /// Where rsync puts deltas. [`Self::patch`] removes it, and [`Self::drop_deltas`] what a failed attempt left.
    pub fn delta_path(&self) -> Result<PathBuf> {
        Ok(self.place.dir.ensure_dir(DELTA, RECV_MODE)?.path().to_path_buf())
    }

    /// Whether a delta has arrived whole, by its looks.
    pub fn has_delta(&self, offered: &delta::Offered) -> Result<bool> {
        let Some(dir) = self.place.dir.open_dir_if_any(DELTA)? else { return Ok(false) };
        Ok(dir.stat_if_any(offered.name())?.is_some_and(|stat| is_delta(&stat, offered)))
    }

    /// Removes the deltas that are here, whole or not, so that they take no room from what is fetched.
    pub fn drop_deltas(&self) -> Result<()> {
        if self.place.dir.stat_if_any(DELTA)?.is_some() {
            durable::remove_tree(&self.place.dir, DELTA)?;
        }
        Ok(())
    }

    /// Makes files out of their previous versions and the deltas that have arrived, and removes those. What was made is
    /// found, hashed and proven by [`Self::settle`]. Gives the files that could not be made, and why.
    pub fn patch(&self, patches: &[Patch], seen: &dyn Fn(u64)) -> Result<Vec<(Vec<u8>, String)>> {
        let Some(basis) = &self.basis else { return Ok(Vec::new()) };
        let Some(deltas) = self.place.dir.open_dir_if_any(DELTA)? else { return Ok(Vec::new()) };
        let (mut old, mut recv) = (Cursor::new(&basis.data)?, Cursor::making(&self.place.recv, RECV_MODE)?);
        let mut unmade = Vec::new();
        for patch in patches {
            signals::check()?;
            match make(patch, &deltas, &mut old, &mut recv, seen) {
                Ok(()) => {}
                Err(Unmade::Ours(e)) => return Err(e),
                Err(Unmade::Flaw(why)) => {
                    let (dir, name) = recv.parent(&patch.stored)?;
                    durable::remove_tree(dir, name)?;
                    unmade.push((patch.stored.clone(), why));
                }
            }
        }
        durable::remove_tree(&self.place.dir, DELTA)?;
        Ok(unmade)
    }

    /// Removes what was made and is not what it should be, so that rsync begins with the previous version.
    pub fn unmake(&self, patches: &[Patch]) -> Result<Vec<Vec<u8>>> {
        let mut recv = Cursor::new(&self.place.recv)?;
        let mut wrong = Vec::new();
        for patch in patches {
            if self.wanted.get(&patch.stored).is_some_and(|asked| !asked.is_proven()) {
                let Ok((dir, name)) = recv.parent(&patch.stored) else { continue };
                durable::remove_tree(dir, name)?;
                wrong.push(patch.stored.clone());
            }
        }
        Ok(wrong)
    }
}

fn is_delta(stat: &Stat, offered: &delta::Offered) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_file()
        && stat.st_nlink == 1
        && stat.st_uid == users::euid()
        && u64::try_from(stat.st_size) == Ok(offered.bytes)
}

fn make(
    patch: &Patch,
    deltas: &Dir,
    old: &mut Cursor,
    recv: &mut Cursor,
    seen: &dyn Fn(u64),
) -> std::result::Result<(), Unmade> {
    let flaw = |why: &str| Unmade::Flaw(why.to_owned());
    let name = patch.offered.name();
    let Ok(file) = deltas.open_file(&name) else { return Err(flaw("its delta did not come")) };
    if !is_delta(&stamp::stat(&file, &deltas.join(&name))?, &patch.offered) {
        return Err(flaw("its delta is not as it was offered"));
    }
    let mut delta = delta::Reader::new(BufReader::with_capacity(1 << 16, file))?;
    let head = *delta.head();
    if head.base != patch.offered.base || head.length != patch.size {
        return Err(flaw("its delta is one of other files"));
    }
    let (dir, name) = old.parent(&patch.old)?;
    let base = dir.open_file(name).map_err(|e| Unmade::Flaw(e.to_string()))?;
    let stat = stamp::stat(&base, &dir.join(name))?;
    look(&stat, patch.old_size).map_err(Unmade::Flaw)?;
    if stamp::mtime(&stat) == WRONG {
        return Err(flaw("its previous version is damaged here"));
    }
    durable::remove_tree(deltas, MADE)?;
    let to = deltas.create_file(MADE, 0o600)?;
    fill(&mut delta, &base, &to, &deltas.join(MADE), seen)?;
    let (dir, name) = recv.parent(&patch.stored)?;
    durable::remove_tree(dir, name)?;
    durable::rename(deltas, MADE, dir, name).map_err(|e| Unmade::Flaw(e.to_string()))
}

fn fill(
    delta: &mut delta::Reader<BufReader<File>>,
    base: &File,
    to: &File,
    path: &std::path::Path,
    seen: &dyn Fn(u64),
) -> std::result::Result<(), Unmade> {
    let unwritten = |e| CopyError::Write(sys::Error::new("write", path, e));
    let mut copied = |bytes| {
        seen(bytes);
        signals::check()
    };
    let length = delta.head().length;
    copy::clone_or_copy(base, to, length, path, &mut copied)?;
    to.set_len(length).map_err(unwritten)?;
    while let Some((offset, bytes)) = delta.next()? {
        copy::write_at(to, bytes, offset, path).map_err(unwritten)?;
        signals::check().map_err(|e| Unmade::Ours(Error::Interrupted(e)))?;
    }
    Ok(())
}
