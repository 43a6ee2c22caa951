//! The tree of a generation is laid out: its folders, its empty files, and a name for each content that is here already.
//!
//! None of it needs what is fetched, so it is done beside the transfer; what arrived comes to its place in
//! [`Planned::check`](super::plan::Planned::check). Folders are made in the order of the manifest, names are given by several
//! threads.

use std::ffi::OsStr;

use jiff::Timestamp;

use super::{
    Error, Result,
    hands::{Dealer, InFolder, share_out},
    meta::proven_items,
    plan::{Basis, Planned},
    prove::{Effort, FILE_MODE, WRONG, look},
    staging::FOLDER_MODE,
    walk::{Cursor, split},
};
use crate::{
    manifest::{Digest, Item, Kind, entry::stored_path, merge::Origin, names},
    sys::{
        Dir,
        copy::{CopyError, hash_and_copy},
        show, signals, stamp, users,
    },
};

/// The word that a tree is laid out: what is missing in it is what is fetched.
#[derive(Debug)]
#[must_use = "the check asks for it"]
pub struct Laid {
    /// `data/` of the tree.
    pub(super) data: Dir,
}

/// A name that is to be given.
struct Name {
    /// The stored path in the new generation.
    stored: Vec<u8>,
    /// That in the basis, where it is another.
    old: Option<Vec<u8>>,
    size: u64,
    digest: Digest,
}

impl Planned {
    /// Lays out the tree, once.
    pub fn lay(&self, effort: &Effort) -> Result<Laid> {
        let data = self.place.tree.create_dir(names::DATA, FOLDER_MODE)?;
        data.set_mode(FOLDER_MODE)?;
        let mut namers = Vec::new();
        if let Some(basis) = &self.basis {
            for _ in 0..effort.threads.max(1) {
                let mut namer = Namer::new(basis, &data, self.policy.now)?;
                namers.push(move |name: Name| namer.name(&name));
            }
        }
        let mut tree = Cursor::making(&data, FOLDER_MODE)?;
        share_out(namers, |dealer| self.lay_out(&mut tree, dealer))?;
        Ok(Laid { data })
    }

    /// Makes folders and empty files, and deals out the names. A folder comes before what is in it.
    fn lay_out(&self, tree: &mut Cursor, names: &mut Dealer<'_, Name>) -> Result<()> {
        let mut files = 0;
        for item in proven_items(&self.place.tree)? {
            signals::check()?;
            if names.is_over() {
                break;
            }
            let Item::Entry(entry) = item? else { continue };
            match entry.kind {
                Kind::Dir if stored_path(&entry.path) == entry.path => {
                    tree.folder(&entry.path)?;
                }
                Kind::File { size, digest, .. } => {
                    let stored = stored_path(&entry.path);
                    let origin = self.origins.get(files);
                    files += 1;
                    let old = match (origin, &self.basis) {
                        _ if self.wanted.get(&stored).is_some() => continue,
                        // What it shares its content with may still have to come.
                        (Some(Origin::Twin { .. }), _) => continue,
                        (Some(Origin::Empty), _) => {
                            make_empty(tree, &stored, self.policy.now)?;
                            continue;
                        }
                        (Some(Origin::Same), Some(_)) => None,
                        (Some(Origin::Known { old_stored }), Some(_)) => Some(old_stored.to_vec()),
                        (Some(Origin::Same | Origin::Known { .. } | Origin::Fetch { .. }) | None, _) => {
                            return Err(unplanned(tree.folder(b"")?, &stored));
                        }
                    };
                    // The folder for long paths is in no manifest.
                    tree.folder(split(&stored).0)?;
                    names.deal(Name { stored, old, size, digest });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn make_empty(tree: &mut Cursor, stored: &[u8], now: Timestamp) -> Result<()> {
    let (dir, name) = tree.parent(stored)?;
    let (file, path) = (dir.create_file(name, FILE_MODE)?, dir.join(name));
    stamp::set_mode(&file, &path, FILE_MODE)?;
    Ok(stamp::set_mtime(&file, &path, now)?)
}

impl InFolder for Name {
    fn folder(&self) -> &[u8] {
        split(&self.stored).0
    }
}

/// Gives names.
struct Namer {
    basis: Cursor,
    tree: Cursor,
    now: Timestamp,
}

impl Namer {
    fn new(basis: &Basis, data: &Dir, now: Timestamp) -> Result<Self> {
        Ok(Self { basis: Cursor::new(&basis.data)?, tree: Cursor::new(data)?, now })
    }

    fn name(&mut self, name: &Name) -> Result<()> {
        let (old_dir, old_name) = self.basis.parent(name.old.as_deref().unwrap_or(&name.stored))?;
        let (dir, new_name) = self.tree.parent(&name.stored)?;
        let known = Known { dir: old_dir, name: old_name, size: name.size, digest: name.digest };
        link(&known, dir, new_name, self.now)
    }
}

pub(super) fn unplanned(data: &Dir, stored: &[u8]) -> Error {
    let why = format!("{} has appeared in its manifest since it was planned", show(stored));
    Error::Damaged { path: data.path().to_path_buf(), why }
}

/// A file that is here already, and what it must be.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) dir: &'a Dir,
    pub(super) name: &'a OsStr,
    pub(super) size: u64,
    pub(super) digest: Digest,
}

/// Makes another name of a known file; where it has as many as the file system allows, a proven copy.
pub(super) fn link(known: &Known<'_>, dir: &Dir, name: &OsStr, now: Timestamp) -> Result<()> {
    match known.dir.link(known.name, dir, name) {
        Err(e) if e.errno() == Some(libc::EMLINK) => copy(known, dir, name, now),
        Err(e) => Err(e.into()),
        Ok(()) => {
            // What was linked is looked at, not what was there before: it may not have been planned so.
            let stat = dir.stat(name)?;
            let ours =
                if stat.st_uid == users::euid() { Ok(()) } else { Err("it has another owner".to_owned()) };
            let right = if stamp::mtime(&stat) == WRONG {
                Err("it was found wrong meanwhile".to_owned())
            } else {
                ours
            };
            right.and_then(|()| look(&stat, known.size)).map_err(|why| damaged(known, why))
        }
    }
}

fn copy(known: &Known<'_>, dir: &Dir, name: &OsStr, now: Timestamp) -> Result<()> {
    let (from, path) = (known.dir.open_file(known.name)?, known.dir.join(known.name));
    let (to, new_path) = (dir.create_file(name, FILE_MODE)?, dir.join(name));
    let content = hash_and_copy(&from, Some(&to), &path, &mut |_| signals::check()).map_err(|e| match e {
        CopyError::Read(e) | CopyError::Write(e) => Error::Sys(e),
        CopyError::Interrupted(e) => Error::Interrupted(e),
    })?;
    if content.sha256 != known.digest.0 || content.size != known.size {
        stamp::set_mtime(&from, &path, WRONG)?;
        return Err(damaged(known, "its content is not the one in the manifest".to_owned()));
    }
    stamp::set_mode(&to, &new_path, FILE_MODE)?;
    Ok(stamp::set_mtime(&to, &new_path, now)?)
}

fn damaged(known: &Known<'_>, why: String) -> Error {
    Error::Damaged { path: known.dir.join(known.name), why: format!("{why}; the next run fetches it") }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::store::sample::{at, put};

    #[test]
    fn where_no_more_names_are_allowed_a_proven_copy_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        put(&dir, b"old", b"content");
        let known = Known { dir: &dir, name: OsStr::new("old"), size: 7, digest: Digest::of(b"content") };
        let now = at("2026-11-23T04:00:00Z");
        // ext4 allows 65000 names; others more: there all of them are links.
        for i in 0..65_010 {
            link(&known, &dir, OsStr::new(&i.to_string()), now).unwrap();
        }
        let last = std::fs::metadata(folder.path().join("65009")).unwrap();
        assert_eq!(std::fs::read(folder.path().join("65009")).unwrap(), b"content");
        if dir.stat("old").unwrap().st_nlink < 65_011 {
            assert_eq!((last.mtime(), last.mode() & 0o7777), (now.as_second(), 0o440));
        }
        let wrong = Known { digest: Digest::of(b"CONTENT"), ..known };
        assert!(copy(&wrong, &dir, OsStr::new("wrong"), now).is_err());
        assert_eq!(stamp::mtime(&dir.stat("old").unwrap()), WRONG);
        assert!(link(&wrong, &dir, OsStr::new("never"), now).is_err(), "what is wrong is not linked");
    }
}
