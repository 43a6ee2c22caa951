//! One element of a generation of logs while it is made: its stored files, and the list that says what they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::File,
    io,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use rustix::fs::Stat;
use sha2::{Digest as _, Sha256};

use crate::{
    manifest::{Digest, Entry, Kind, Piece, entry, entry::Time, generation, pieces},
    report::{self, Finding},
    source::{
        cache::Known,
        collect::{Book, Counts, Error, FileRecord, Record},
        copier::{self, At, Shared},
        dump,
    },
    store::handover_point::Draft,
    sys::{self, Dir, copy::CopyError, durable, show, users},
};

/// Stored paths are no longer than this below their element, so that none needs a place of its own.
const LONGEST: usize = 1500;
/// A piece beyond this that finds no room is left out, and the others are taken.
const SMALL: u64 = 16 << 20;

/// An element that is being made.
pub(super) struct Making<'a> {
    pub name: &'static str,
    pub draft: &'a Draft,
    pub now: Timestamp,
    folders: BTreeMap<Vec<u8>, Option<Stat>>,
    files: BTreeSet<Vec<u8>>,
    records: Vec<(Vec<u8>, Record)>,
    pieces: Vec<Piece>,
    /// What could not be read, and why, for people.
    failures: Vec<(Vec<u8>, String)>,
}

/// A new file of the draft.
pub(super) struct NewFile {
    /// Its path below the element.
    pub stored: Vec<u8>,
    pub file: File,
    at: At,
}

impl NewFile {
    /// Throws it away.
    pub(super) fn discard(self) -> Result<(), Error> {
        Ok(durable::unlink_draft(&self.at.dir, &self.at.name)?)
    }
}

/// What is written to a new file, hashed on its way.
pub(super) struct Filling<'s> {
    shared: &'s Shared<'s>,
    hasher: Sha256,
    length: u64,
    failed: Option<CopyError>,
}

impl<'s> Filling<'s> {
    pub(super) fn new(shared: &'s Shared<'s>) -> Self {
        Self { shared, hasher: Sha256::new(), length: 0, failed: None }
    }

    /// Writes some bytes. An error only ends what feeds it: [`Self::end`] tells it.
    pub(super) fn write(&mut self, to: &NewFile, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.shared.progress.add_bytes(bytes.len() as u64);
        let written = durable::write_all(&to.file, &to.at.path(), bytes)
            .map_err(CopyError::Write)
            .and_then(|()| copier::keep_reserve(self.shared, &to.file, bytes.len() as u64));
        written.map_err(|e| {
            self.failed = Some(e);
            io::ErrorKind::Other.into()
        })
    }

    /// Bytes that were given to it.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether there was no room for it because it is large itself; where nothing small fits either, no run can go on.
    pub(super) fn is_too_large(&self) -> bool {
        let full = |e: &sys::Error| matches!(e.errno(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG));
        self.length > SMALL && matches!(&self.failed, Some(CopyError::Write(e)) if full(e))
    }

    /// How much was written, and its sha256; an error is one of our own side.
    pub(super) fn end(self) -> Result<(u64, Digest), Error> {
        match self.failed {
            None => Ok((self.length, Digest(self.hasher.finalize().into()))),
            Some(CopyError::Write(e) | CopyError::Read(e)) => Err(e.into()),
            Some(CopyError::Interrupted(e)) => Err(e.into()),
        }
    }
}

/// What `stat` says of the original of a stored file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Original {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
}

impl Original {
    pub(super) fn of(stat: &Stat) -> Self {
        let mtime = copier::mtime(stat);
        Self { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, mtime }
    }

    /// Of what handover itself makes.
    pub(super) fn ours(now: Timestamp) -> Self {
        Self { mode: 0o600, uid: users::euid(), gid: users::egid(), mtime: dump::time(now) }
    }
}

impl<'a> Making<'a> {
    pub(super) fn new(name: &'static str, draft: &'a Draft, now: Timestamp) -> Self {
        Self {
            name,
            draft,
            now,
            folders: BTreeMap::new(),
            files: BTreeSet::from([pieces::FILE.as_bytes().to_vec()]),
            records: Vec::new(),
            pieces: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Whether there is nothing new in it.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Notes something that could not be read (an empty path: the element as a whole); the rest goes on.
    pub(super) fn fail(&mut self, path: &Path, why: String) {
        let path = path.as_os_str().as_bytes().to_vec();
        if !self.failures.iter().any(|(other, _)| *other == path) {
            self.failures.push((path, why));
        }
    }

    /// Makes a file at the place of `path`, or, where another one has that place, at one like it.
    pub(super) fn new_file(&mut self, path: &[u8]) -> Result<NewFile, Error> {
        let stored = self.free(path.strip_prefix(b"/").unwrap_or(path));
        let at = self.place(&stored)?;
        let file = copier::new_file(&at, self.draft.new_file_owner())?;
        self.files.insert(stored.clone());
        Ok(NewFile { stored, file, at })
    }

    /// A path that no file has and that needs no file as a folder.
    fn free(&self, wanted: &[u8]) -> Vec<u8> {
        let wanted = if wanted.len() > LONGEST {
            format!("~long/{}", Digest::of(wanted)).into_bytes()
        } else {
            wanted.to_vec()
        };
        let is_free = |path: &[u8]| {
            !self.files.contains(path)
                && !self.folders.contains_key(path)
                && above(path).all(|folder| !self.files.contains(folder))
        };
        let others = (2..).map(|n: u64| [format!("~{n}/").as_bytes(), &wanted].concat());
        std::iter::once(wanted.clone()).chain(others).find(|path| is_free(path)).unwrap_or_default()
    }

    /// The folder of a stored path, made with those above it.
    fn place(&mut self, stored: &[u8]) -> Result<At, Error> {
        let mut dir = self.draft.data().ensure_dir(self.name, 0o750)?;
        let mut done = 0;
        while let Some(slash) = stored[done..].iter().position(|b| *b == b'/') {
            dir = dir.ensure_dir(OsStr::from_bytes(&stored[done..done + slash]), 0o750)?;
            let path = &stored[..done + slash];
            if !self.folders.contains_key(path) {
                let original = Path::new("/").join(OsStr::from_bytes(path));
                self.folders.insert(path.to_vec(), Dir::open(original).and_then(|d| d.stat_self()).ok());
            }
            done += slash + 1;
        }
        Ok(At { dir: Arc::new(dir), name: OsStr::from_bytes(&stored[done..]).to_owned() })
    }

    /// Adds a file that was written to its end.
    pub(super) fn add(&mut self, piece: Piece, sha256: Digest, original: Original) {
        self.record(&piece.stored.0, piece.length, sha256, original);
        self.pieces.push(piece);
    }

    fn record(&mut self, stored: &[u8], size: u64, digest: Digest, original: Original) {
        let path = self.path(stored);
        let known = Known {
            path: path.clone(),
            device: 0,
            inode: 0,
            size,
            mtime: original.mtime,
            ctime: Time::default(),
            settled: false, // Only the log channel's own cursor knows what need not be read again.
            plain: true,
            digest,
            stored_inode: 0,
        };
        let record = FileRecord {
            mode: original.mode,
            uid: original.uid,
            gid: original.gid,
            links: None,
            attributes: Vec::new(),
            unstable: false,
            known,
        };
        self.records.push((path, Record::File(Box::new(record))));
    }

    fn path(&self, stored: &[u8]) -> Vec<u8> {
        [self.name.as_bytes(), b"/", stored].concat()
    }

    /// Writes the element to the book. None if there is nothing to say of it.
    pub(super) fn finish(mut self, book: &mut Book<'_>) -> Result<Option<generation::Element>, Error> {
        if self.is_empty() && self.failures.is_empty() {
            durable::remove_tree(self.draft.data(), self.name)?;
            return Ok(None);
        }
        let mut failed = Vec::new();
        for (path, why) in self.failures.clone() {
            // A failure stands below its folder, which is listed before it; one of the whole element after that.
            let path = path.strip_prefix(b"/").unwrap_or(&path);
            let place = if path.is_empty() { Vec::new() } else { self.free(path) };
            self.place(&place)?;
            failed.push((place, why));
        }
        self.list()?;
        let mut counts = Counts::default();
        book.write(dump::folder_of(self.name.as_ref(), dump::time(self.now)), &mut counts)?;
        for (folder, stat) in std::mem::take(&mut self.folders) {
            let original =
                stat.as_ref().map_or(Original { mode: 0o700, ..Original::ours(self.now) }, Original::of);
            let path = self.path(&folder);
            let entry = Entry {
                path: path.clone(),
                mode: original.mode,
                uid: original.uid,
                gid: original.gid,
                uname: None,
                gname: None,
                mtime: original.mtime,
                kind: Kind::Dir,
            };
            self.records.push((path, Record::Entry(entry, Vec::new())));
        }
        for (place, why) in failed {
            let path = if place.is_empty() { self.name.into() } else { self.path(&place) };
            self.records.push((path.clone(), Record::Failed { path, why }));
        }
        // A failure stands after the entry of the same path: what was there first stays first.
        self.records.sort_by(|a, b| entry::order(&a.0, &b.0));
        for (_, record) in std::mem::take(&mut self.records) {
            book.write(record, &mut counts)?;
        }
        Ok(Some(self.judge(&counts)?))
    }

    /// The list of pieces, which is a stored file like any other.
    fn list(&mut self) -> Result<(), Error> {
        let at = self.place(pieces::FILE.as_bytes())?;
        let file = copier::new_file(&at, self.draft.new_file_owner())?;
        let mut text = String::new();
        for piece in &self.pieces {
            text += &piece.to_line().map_err(|_| Error::Internal("the list of pieces cannot be written"))?;
        }
        durable::write_all(&file, &at.path(), text.as_bytes())?;
        let digest = Digest(Sha256::digest(&text).into());
        self.record(pieces::FILE.as_bytes(), text.len() as u64, digest, Original::ours(self.now));
        Ok(())
    }

    fn judge(&self, counts: &Counts) -> Result<generation::Element, Error> {
        let name = self.name.parse().map_err(|_| Error::Internal("the name of an element of logs"))?;
        let reason = self.reason();
        Ok(generation::Element {
            name,
            kind: pieces::KIND.to_owned(),
            ok: reason.is_none(),
            reason,
            files: counts.files,
            bytes: counts.bytes,
            failed: self.failures.len() as u64,
            unstable: 0,
        })
    }

    /// What failed, if anything did.
    fn reason(&self) -> Option<String> {
        const FEW: usize = 5;
        let shown: Vec<String> = self
            .failures
            .iter()
            .take(FEW)
            .map(|(path, why)| match path.as_slice() {
                b"" => show(why.as_bytes()),
                path => format!("{}: {}", show(path), show(why.as_bytes())),
            })
            .collect();
        let more = self.failures.len().saturating_sub(FEW);
        let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
        (!shown.is_empty()).then(|| format!("{}{more}", shown.join("; ")))
    }

    /// The finding that goes with it.
    pub(super) fn finding(&self) -> Option<Finding> {
        let text = format!("could not be read: {}", self.reason()?);
        let fix = "mend it and run again; all other logs are taken, and what was taken stays noted";
        Some(Finding::new(report::Kind::Failed, format!("logs {}", self.name), text).with_fix(fix))
    }
}

/// The folders above a path, the path itself not among them.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| &path[..at])
}
