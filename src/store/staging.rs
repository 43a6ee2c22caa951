//! `incoming/<source>/<id>/`: a generation while it is fetched. Its states are types, each made only here and in the
//! files beside: [`Staging`] -> [`WithMeta`] -> [`Planned`](super::plan::Planned) -> [`Checked`](super::place::Checked)
//! -> [`Stored`](super::Stored). What is not checked cannot be stored, because it does not compile.
//!
//! ```text
//! meta/         generation.toml, manifest.mtree, xattrs, README.txt as they arrive    written by rsync
//! recv/         content as it arrives, paths as below data/                           written by rsync
//! delta/        what changed in large files, while it is made use of                  written by rsync
//! tree/         the generation as it will be stored                                   written by us only
//! wanted.list   stored paths that are asked for, each ended by a NUL
//! fetch.list    those of them that are not here yet: rsync's --files-from
//! ```
//!
//! A staging that was cut is resumed: received files stay where rsync finds them, all else is made anew, and nothing
//! that is found is trusted before it was hashed. After a failed sync it is thrown away.

use std::{path::PathBuf, sync::Arc};

use rustix::fs::FileType;

use super::{
    Error, Found, Result, SourceStore,
    meta::{self, Expect, MetaError},
    walk::{Cursor, walk},
};
use crate::{
    manifest::{GenerationId, names},
    sys::{self, Dir, durable, durable::SyncHandle, show},
};

const META: &str = "meta";
const RECV: &str = "recv";
pub(super) const TREE: &str = "tree";
/// Mode of the folders of a generation.
pub(super) const FOLDER_MODE: u32 = 0o750;
/// Mode of the folders that rsync writes into.
pub(super) const RECV_MODE: u32 = 0o700;

/// The folders of a staging, carried from state to state. The sync handle is older than the first write.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) store: Arc<SourceStore>,
    pub(super) id: GenerationId,
    pub(super) dir: Dir,
    pub(super) meta: Dir,
    pub(super) recv: Dir,
    pub(super) tree: Dir,
    pub(super) sync: SyncHandle,
}

/// A generation of which nothing is known to be here.
#[derive(Debug)]
#[must_use = "a staging that is neither used nor abandoned stays on the disk"]
pub struct Staging {
    place: Place,
    dropped: Vec<String>,
}

/// A generation whose own files are here and hold together: they hash to the offered seal, the manifest is well-formed
/// and within the limits, and says what `generation.toml` says.
#[derive(Debug)]
#[must_use = "a staging that is neither used nor abandoned stays on the disk"]
pub struct WithMeta {
    pub(super) place: Place,
    pub(super) found: Found,
    pub(super) folders: u64,
    pub(super) generation: Vec<u8>,
}

impl SourceStore {
    /// Begins or resumes the staging of a generation. There is one per source: stagings of other ids go.
    pub fn stage(self: &Arc<Self>, id: &GenerationId) -> Result<Staging> {
        let sync = SyncHandle::open(&self.incoming)?;
        let mut dropped = Vec::new();
        for name in self.incoming.names()? {
            if name.to_str() != Some(id.as_str()) {
                durable::remove_tree(&self.incoming, &name)?;
                dropped.push(show(name.as_encoded_bytes()));
            }
        }
        let dir = self.incoming.ensure_dir(id, 0o700)?;
        let recv = dir.ensure_dir(RECV, RECV_MODE)?;
        salvage(&dir, &recv)?;
        let meta = dir.ensure_dir(META, RECV_MODE)?;
        let tree = dir.create_dir(TREE, FOLDER_MODE)?;
        tree.set_mode(FOLDER_MODE)?;
        Ok(Staging {
            place: Place { store: Arc::clone(self), id: id.clone(), dir, meta, recv, tree, sync },
            dropped,
        })
    }

    /// The ids of what is staged: at most one after [`Self::stage`].
    pub fn staged(&self) -> Result<Vec<GenerationId>> {
        let names = self.incoming.names()?;
        Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    /// Throws away what is staged of a generation, whatever its state was.
    pub fn abandon(&self, id: &GenerationId) -> Result<()> {
        Ok(durable::remove_tree(&self.incoming, id)?)
    }
}

impl Staging {
    /// What was staged of other generations, and went.
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// Where rsync puts `generation.toml`, `manifest.mtree`, `xattrs` and `README.txt`.
    pub fn meta_path(&self) -> PathBuf {
        self.place.meta.path().to_path_buf()
    }

    /// Takes the generation's own files, once rsync has ended: they are copied out of rsync's reach, hashed against
    /// the seal that was offered, and read in full. What comes later may trust them to be well-formed.
    pub fn meta(self, expect: &Expect) -> std::result::Result<WithMeta, MetaError> {
        let (found, folders, generation) = meta::take(&self.place, expect)?;
        Ok(WithMeta { place: self.place, found, folders, generation })
    }

    /// Throws it away.
    pub fn abandon(self) -> Result<()> {
        self.place.abandon()
    }
}

impl WithMeta {
    /// What the generation says of itself.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Throws it away.
    pub fn abandon(self) -> Result<()> {
        self.place.abandon()
    }
}

impl Place {
    pub(super) fn abandon(&self) -> Result<()> {
        self.store.abandon(&self.id)
    }

    /// Makes a draft file anew.
    pub(super) fn draft(&self, name: &str) -> Result<std::fs::File> {
        if self.dir.stat_if_any(name)?.is_some() {
            durable::unlink_draft(&self.dir, name)?;
        }
        Ok(self.dir.create_file(name, 0o600)?)
    }

    /// Writes a small file into the tree; the sync before the commit makes it durable.
    pub(super) fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let (file, path) = (self.tree.create_file(name, mode)?, self.tree.join(name));
        durable::write_all(&file, &path, bytes)?;
        Ok(sys::stamp::set_mode(&file, &path, mode)?)
    }
}

/// Takes back what an earlier attempt had already moved from `recv/` to the tree, and removes the tree. Files with
/// several names stay out: a file in `recv/` must never be one that the store has too.
fn salvage(dir: &Dir, recv: &Dir) -> Result<()> {
    if let Some(data) =
        dir.open_dir_if_any(TREE)?.map(|tree| tree.open_dir_if_any(names::DATA)).transpose()?.flatten()
    {
        let mut back = Cursor::making(recv, RECV_MODE)?;
        walk(&data, &mut |seen| {
            if seen.kind() != FileType::RegularFile || seen.stat.st_nlink != 1 || seen.stat.st_size == 0 {
                return Ok(());
            }
            let moved = back
                .parent(seen.path)
                .and_then(|(folder, name)| durable::rename_draft(seen.folder, seen.name, folder, name));
            match moved {
                // What is in the way came later, or is not a folder: then this file is fetched again.
                Err(e) if e.is_storage() => Err(Error::Sys(e)),
                Ok(()) | Err(_) => Ok(()),
            }
        })?;
    }
    Ok(durable::remove_tree(dir, TREE)?)
}
