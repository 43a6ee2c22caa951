//! Writing a generation out below a folder, with all its metadata, every byte proven on the way.
//!
//! The target is entered by handle only; what it holds is made by us.

use std::{collections::HashMap, ffi::OsStr, fs::File, os::unix::ffi::OsStrExt as _};

use super::selection::{Place, Places};
use crate::{
    manifest::{
        BadManifest, Digest, Entry, Kind,
        entry::{self, Links},
    },
    sys::{
        self, Dir,
        copy::{self, CopyError},
        durable, metadata,
        progress::Progress,
        show, signals,
        xattr::Attribute,
    },
};

/// What was written.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Entries that were asked for, those in archives included.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Files whose content is not what the seal stands for: they were not written. The first hundred.
    pub damaged: Vec<String>,
    /// How many they are.
    pub damaged_count: u64,
    /// What could not be set, as owners by an ordinary user: how often, and the first case of each kind.
    pub unset: Vec<(String, u64)>,
}

/// Why writing out ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The generation's own files are not what its seal stands for: nothing was written.
    #[error("the generation is damaged: {0}")]
    Damaged(String),
    /// There is not enough room even for a look; nothing was written.
    #[error("{0}")]
    NoRoom(String),
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] BadManifest),
    /// The system refused something.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// We were asked to stop.
    #[error(transparent)]
    Interrupted(#[from] signals::Interrupted),
}

impl From<CopyError> for Error {
    fn from(e: CopyError) -> Self {
        match e {
            CopyError::Read(e) | CopyError::Write(e) => e.into(),
            CopyError::Interrupted(e) => e.into(),
        }
    }
}

/// A folder that is being filled; its own metadata is set when it is left.
struct Folder {
    dir: Dir,
    path: Vec<u8>,
    later: Option<(Entry, Vec<Attribute>)>,
}

pub(super) struct Writer<'a> {
    data: Dir,
    /// The stored folder that the last file was in: the next is mostly in the same.
    from: Option<(Vec<u8>, Dir)>,
    folders: Vec<Folder>,
    links: HashMap<u64, Vec<u8>>,
    pub(super) written: Written,
    pub(super) progress: &'a Progress,
}

impl<'a> Writer<'a> {
    /// A writer of what is stored in `data`, into the folder `target`.
    pub(super) fn new(data: Dir, target: Dir, progress: &'a Progress) -> Self {
        Self {
            data,
            from: None,
            folders: vec![Folder { dir: target, path: Vec::new(), later: None }],
            links: HashMap::new(),
            written: Written::default(),
            progress,
        }
    }

    /// Writes an entry of the manifest, if it is wanted.
    pub(super) fn entry(
        &mut self,
        entry: &Entry,
        attributes: &[Attribute],
        places: &Places<'_>,
    ) -> Result<(), Error> {
        let (path, way) = match places.of(&entry.path) {
            Place::At { path, way } => (path, way),
            Place::Archive => return self.unpack(entry, places),
            Place::Nowhere | Place::Target => return Ok(()),
        };
        let dir = self.enter(split(path).0)?;
        match &entry.kind {
            Kind::File { size, digest, links } => {
                self.file(entry, attributes, &dir, path, (*size, *digest, *links))?
            }
            _ => self.without_content(entry, attributes, &dir, path)?,
        }
        self.written.entries += u64::from(!way);
        Ok(())
    }

    /// Makes a folder, link or device at a path, of which `dir` is the parent.
    pub(super) fn without_content(
        &mut self,
        entry: &Entry,
        attributes: &[Attribute],
        dir: &Dir,
        path: &[u8],
    ) -> Result<(), Error> {
        let name = OsStr::from_bytes(split(path).1);
        match &entry.kind {
            Kind::Dir => {
                let made = dir.ensure_dir(name, 0o700)?;
                let later = Some((entry.clone(), attributes.to_vec()));
                self.folders.push(Folder { dir: made, path: path.to_vec(), later });
            }
            Kind::File { .. } => {
                return Err(Error::Damaged("a file stands where none was expected".to_owned()));
            }
            Kind::Link { target } => {
                metadata::symlink(dir, name, target)?;
                self.name_metadata(entry, attributes, dir, name)?;
            }
            Kind::Fifo => self.node(entry, attributes, dir, name, metadata::Node::Fifo)?,
            Kind::Char { major, minor } => {
                self.node(entry, attributes, dir, name, metadata::Node::Char(*major, *minor))?
            }
            Kind::Block { major, minor } => {
                self.node(entry, attributes, dir, name, metadata::Node::Block(*major, *minor))?;
            }
        }
        Ok(())
    }

    /// The target folder.
    pub(super) fn root(&self) -> Result<&Dir, Error> {
        self.folders.first().map(|f| &f.dir).ok_or_else(|| Error::Damaged("no folder".to_owned()))
    }

    /// Leaves folders until the one at `parent` is the last; those between were met before, as the manifest has them first.
    pub(super) fn enter(&mut self, parent: &[u8]) -> Result<Dir, Error> {
        match self.folders.iter().rposition(|f| f.path == parent) {
            Some(keep) => self.leave_to(keep + 1)?,
            None => {
                // A folder of an element that was left already, when two elements share the way to their paths.
                self.leave_to(1)?;
                let dir = self.root()?.descend(parent)?;
                self.folders.push(Folder { dir, path: parent.to_vec(), later: None });
            }
        }
        match self.folders.last() {
            Some(folder) => Ok(folder.dir.try_clone()?),
            None => Err(Error::Damaged("no folder".to_owned())),
        }
    }

    pub(super) fn leave_to(&mut self, keep: usize) -> Result<(), Error> {
        while self.folders.len() > keep {
            let Some(Folder { dir, later: Some((entry, attributes)), .. }) = self.folders.pop() else {
                continue;
            };
            let path = dir.path().to_path_buf();
            self.open_metadata(&entry, &attributes, &dir, &path)?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        entry: &Entry,
        attributes: &[Attribute],
        dir: &Dir,
        path: &[u8],
        (size, digest, links): (u64, Digest, Links),
    ) -> Result<(), Error> {
        let name = OsStr::from_bytes(split(path).1);
        if let Links::Many { inode, .. } = links
            && let Some(first) = self.links.get(&inode)
        {
            let (parent, first) = split(first);
            self.root()?.descend(parent)?.link(OsStr::from_bytes(first), dir, name)?;
            self.count(size);
            return Ok(());
        }
        let Some(file) = self.proven(entry, dir, name, digest)? else { return Ok(()) };
        self.open_metadata(entry, attributes, &file, &dir.join(name))?;
        if let Links::Many { inode, .. } = links {
            self.links.insert(inode, path.to_vec());
        }
        self.count(size);
        Ok(())
    }

    pub(super) fn count(&mut self, size: u64) {
        self.written.files += 1;
        self.written.bytes += size;
        self.progress.add_files(1);
    }

    /// Copies a stored file and proves the copy; `None` if it was not what it should be, and then it is not there.
    pub(super) fn proven(
        &mut self,
        entry: &Entry,
        dir: &Dir,
        name: &OsStr,
        digest: Digest,
    ) -> Result<Option<File>, Error> {
        let stored = entry::stored_path(&entry.path);
        let from = match self.stored(&stored) {
            Ok(file) => file,
            Err(e) if e.is_storage() => return Err(e.into()),
            Err(e) => {
                self.damaged(entry, &e.to_string());
                return Ok(None);
            }
        };
        let to = dir.create_file(name, 0o600)?;
        let progress = self.progress;
        let mut seen = |bytes| {
            progress.add_bytes(bytes);
            signals::check()
        };
        let why = match copy::hash_and_copy(&from, Some(&to), &dir.join(name), &mut seen) {
            Ok(content) if Digest(content.sha256) == digest => return Ok(Some(to)),
            Ok(_) => "its content is not what the seal stands for".to_owned(),
            Err(CopyError::Read(e)) => e.to_string(),
            Err(e) => return Err(e.into()),
        };
        durable::unlink_draft(dir, name)?;
        self.damaged(entry, &why);
        Ok(None)
    }

    fn stored(&mut self, stored: &[u8]) -> sys::Result<File> {
        let (parent, name) = split(stored);
        if self.from.as_ref().is_none_or(|(path, _)| path != parent) {
            self.from = Some((parent.to_vec(), self.data.descend(parent)?));
        }
        match &self.from {
            Some((_, dir)) => dir.open_file(OsStr::from_bytes(name)),
            None => Err(sys::Error::new("open", self.data.path(), rustix::io::Errno::NOENT)),
        }
    }

    pub(super) fn damaged(&mut self, entry: &Entry, why: &str) {
        self.written.damaged_count += 1;
        if self.written.damaged.len() < 100 {
            self.written.damaged.push(format!("{}: {why}", show(&entry.path)));
        }
    }
}

/// Folder and name of a path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}
