//! From what was received, and what the basis has, to a generation in the store.

use std::ffi::OsStr;

use jiff::Timestamp;
use rustix::fs::FileType;

use super::{
    Error, Found, Result, Stored,
    anomaly::Judged,
    marks::{self, Marks},
    meta::proven_items,
    plan::{Planned, Policy},
    prove::{Bad, Effort, FILE_MODE, NEVER, WRONG, fault_of_file, look},
    receive::{half_dir, is_half_dir},
    staging::{FOLDER_MODE, Place, TREE},
    walk::{Cursor, split, walk_names},
    wanted::Wanted,
};
use crate::{
    manifest::{
        Digest, Item, Kind, Receipt, Seal, entry::stored_path, merge::Origin, names, receipt::Verify,
    },
    sys::{
        self, Dir,
        copy::{CopyError, hash_and_copy},
        durable, show, signals, stamp, users, words,
    },
};

/// How many paths an error names.
const NAMED: usize = 3;

/// Why a generation was not taken.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Ours, not the generation's.
    #[error(transparent)]
    Store(#[from] Error),
    /// Content is missing or wrong.
    #[error("missing or wrong: {}, the first: {}", words::files(.0.len() as u64), first(.0))]
    Content(Vec<Bad>),
    /// Something came that was not asked for.
    #[error("the far end sent what was not asked for: {}", first(.0))]
    NotAskedFor(Vec<Bad>),
}

fn first(bad: &[Bad]) -> String {
    let named: Vec<String> = bad.iter().take(NAMED).map(ToString::to_string).collect();
    named.join("; ")
}

impl From<sys::Error> for CheckError {
    fn from(e: sys::Error) -> Self {
        Self::Store(e.into())
    }
}

/// A whole generation in `tree/`: every file is there, and its content was proven as the policy asks.
#[derive(Debug)]
#[must_use = "only the commit makes it a stored generation"]
pub struct Checked {
    pub(super) place: Place,
    pub(super) found: Found,
    policy: Policy,
    counts: Counts,
}

/// How the content of a checked generation was proven; the sum is its number of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Files hashed on arrival.
    pub hashed: u64,
    /// Files that were linked and read again.
    pub reread: u64,
    /// Files that were only linked (or are empty), and with [`Verify::None`] those that rsync vouched for.
    pub linked: u64,
}

/// How a commit ended.
#[derive(Debug)]
pub enum Committed {
    /// It is durable in the store.
    New(Stored),
    /// The same generation was there already, and stays as it is.
    Already(Stored),
}

/// What a commit does, by what is stored under the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// Nothing is there: it is stored.
    Store,
    /// The same is there, and stays.
    Already,
    /// Something else is there, and stays: nothing is ever overwritten.
    OtherSeal,
}

/// What a commit of this seal does where this is stored under its id.
pub fn commit(seal: &Seal, stored: Option<&Seal>) -> Commit {
    match stored {
        None => Commit::Store,
        Some(there) if there == seal => Commit::Already,
        Some(_) => Commit::OtherSeal,
    }
}

impl Planned {
    /// Builds the generation, once rsync has exited: received files move to the tree, known ones are linked. Unless the
    /// policy is [`Verify::None`], every received file has been hashed as it lies there now.
    pub fn check(mut self, effort: &Effort) -> std::result::Result<Checked, CheckError> {
        self.refuse_what_was_not_asked_for()?;
        let hash = self.policy.verify != Verify::None;
        let mut bad = self.bad(hash)?;
        if hash && !bad.is_empty() {
            // Not every file was proven beside the transfer, or as it lies there now.
            self.settle(effort)?;
            bad = self.bad(hash)?;
        }
        if !bad.is_empty() {
            return Err(CheckError::Content(bad));
        }
        let hashed = self.wanted.proven();
        let data = self.place.tree.create_dir(names::DATA, FOLDER_MODE)?;
        data.set_mode(FOLDER_MODE)?;
        self.fill(&data)?;
        self.place.write(names::GENERATION, &self.generation, FILE_MODE)?;
        let Self { place, found, policy, plan, .. } = self;
        let linked = found.generation.files.saturating_sub(hashed + plan.reread);
        Ok(Checked { place, found, policy, counts: Counts { hashed, reread: plan.reread, linked } })
    }

    fn refuse_what_was_not_asked_for(&self) -> std::result::Result<(), CheckError> {
        let mut bad = Vec::new();
        let half_dir = half_dir(&self.place.id);
        walk_names(&self.place.recv, &mut |path, kind| {
            let asked = match kind {
                FileType::Directory => self.wanted.is_folder(path) || self.holds_halves(path, &half_dir),
                // What lies in a folder for halves is left behind, whatever it is.
                _ => self.wanted.get(path).is_some() || is_half_dir(split(path).0, &half_dir),
            };
            if !asked {
                bad.push(Bad { path: path.to_vec(), why: "it was not asked for".to_owned() });
            }
            Ok(())
        })?;
        if bad.is_empty() { Ok(()) } else { Err(CheckError::NotAskedFor(bad)) }
    }

    /// What is missing or wrong: with `hashed`, all that is not proven; without, what cannot be it by its looks.
    fn bad(&self, hashed: bool) -> Result<Vec<Bad>> {
        let mut bad = Vec::new();
        let mut cursor = Cursor::new(&self.place.recv)?;
        self.each_wanted(&mut |path| {
            let Some(asked) = self.wanted.get(path) else { return Ok(()) };
            let why = match cursor.parent(path).and_then(|(dir, name)| dir.stat(name)) {
                Ok(stat) if stat.st_nlink != 1 || stat.st_uid != users::euid() => {
                    Some("it has another owner or another name".to_owned())
                }
                Ok(stat) => look(&stat, asked.size).err().or_else(|| {
                    (hashed && !asked.is_proof_of(&stat))
                        .then(|| "its content is not the one in the manifest".to_owned())
                }),
                Err(e) => Some(fault_of_file(e)?),
            };
            bad.extend(why.map(|why| Bad { path: path.to_vec(), why }));
            Ok(())
        })?;
        Ok(bad)
    }

    /// Makes the folders, and puts every file into its place. A folder comes before what is in it.
    fn fill(&self, data: &Dir) -> Result<()> {
        let mut placing = Placing::start(self, data)?;
        let mut files = 0;
        for item in proven_items(&self.place.tree)? {
            signals::check()?;
            let Item::Entry(entry) = item? else { continue };
            match entry.kind {
                Kind::Dir if stored_path(&entry.path) == entry.path => {
                    placing.tree.folder(&entry.path)?;
                }
                Kind::File { size, digest, .. } => {
                    let stored = stored_path(&entry.path);
                    match self.origins.get(files) {
                        Some(origin) => placing.file(&stored, (size, digest), origin)?,
                        None => return Err(unplanned(data, &stored)),
                    }
                    files += 1;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn unplanned(data: &Dir, stored: &[u8]) -> Error {
    let why = format!("{} has appeared in its manifest since it was planned", show(stored));
    Error::Damaged { path: data.path().to_path_buf(), why }
}

/// The building of the tree: four places that move along in the order of the manifest.
struct Placing<'a> {
    wanted: &'a Wanted,
    now: Timestamp,
    recv: Cursor,
    tree: Cursor,
    twins: Cursor,
    basis: Option<Cursor>,
}

impl<'a> Placing<'a> {
    fn start(planned: &'a Planned, data: &Dir) -> Result<Self> {
        Ok(Self {
            wanted: &planned.wanted,
            now: planned.policy.now,
            recv: Cursor::new(&planned.place.recv)?,
            tree: Cursor::making(data, FOLDER_MODE)?,
            twins: Cursor::new(data)?,
            basis: planned.basis.as_ref().map(|basis| Cursor::new(&basis.data)).transpose()?,
        })
    }

    fn file(&mut self, stored: &[u8], (size, digest): (u64, Digest), origin: Origin<'_>) -> Result<()> {
        if self.wanted.get(stored).is_some() {
            return self.take(stored);
        }
        let (from, old) = match (origin, &mut self.basis) {
            (Origin::Same, Some(basis)) => (basis, stored),
            (Origin::Known { old_stored }, Some(basis)) => (basis, old_stored),
            (Origin::Twin { first_stored }, _) => (&mut self.twins, first_stored),
            (Origin::Empty, _) => return self.make_empty(stored),
            (Origin::Same | Origin::Known { .. } | Origin::Fetch { .. }, _) => {
                return Err(unplanned(self.tree.folder(b"")?, stored));
            }
        };
        let (old_dir, old_name) = from.parent(old)?;
        let (dir, name) = self.tree.parent(stored)?;
        link(&Known { dir: old_dir, name: old_name, size, digest }, dir, name, self.now)
    }

    /// Moves a received file to the tree. One that was not hashed says so by its time.
    fn take(&mut self, stored: &[u8]) -> Result<()> {
        let (from, name) = self.recv.parent(stored)?;
        if !self.wanted.get(stored).is_some_and(|asked| asked.is_proven()) {
            let (file, path) = (from.open_file(name)?, from.join(name));
            stamp::set_mode(&file, &path, FILE_MODE)?;
            stamp::set_mtime(&file, &path, NEVER)?;
        }
        let (to, _) = self.tree.parent(stored)?;
        Ok(durable::rename_draft(from, name, to, name)?)
    }

    fn make_empty(&mut self, stored: &[u8]) -> Result<()> {
        let (dir, name) = self.tree.parent(stored)?;
        let (file, path) = (dir.create_file(name, FILE_MODE)?, dir.join(name));
        stamp::set_mode(&file, &path, FILE_MODE)?;
        Ok(stamp::set_mtime(&file, &path, self.now)?)
    }
}

/// A file that is here already, and what it must be.
#[derive(Clone, Copy)]
struct Known<'a> {
    dir: &'a Dir,
    name: &'a OsStr,
    size: u64,
    digest: Digest,
}

/// Makes another name of a known file; where it has as many as the file system allows, a proven copy.
fn link(known: &Known<'_>, dir: &Dir, name: &OsStr, now: Timestamp) -> Result<()> {
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

impl Checked {
    /// What the generation says of itself.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// How its content was proven.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Makes it a stored generation: the receipt goes in, all is written to the disk, one rename, both folders synced.
    /// If the disk refuses, the staging goes: what is in memory must not be taken for what is on the disk. `sink` is the
    /// name of this host, `judged` what [`Self::judge`] thinks of it.
    pub fn commit(self, sink: &str, now: Timestamp, judged: Judged) -> Result<Committed> {
        let Place { store, id, .. } = &self.place;
        let there = match store.store.stat_if_any(id)? {
            Some(_) => Some(Stored::load(&store.open(id)?, id)?),
            None => None,
        };
        match (commit(&self.found.seal, there.as_ref().map(|t| &t.found.seal)), there) {
            (Commit::OtherSeal, _) => return Err(Error::OtherSeal { id: id.clone() }),
            (Commit::Already, Some(stored)) => {
                self.place.abandon()?;
                return Ok(Committed::Already(stored));
            }
            (Commit::Already | Commit::Store, _) => {}
        }
        self.write_receipt(sink, now)?;
        self.write_marks(now, judged)?;
        if let Err(e) = self.place.sync.sync() {
            if self.place.abandon().is_err() {
                // The first error says what is wrong.
            }
            return Err(e.into());
        }
        durable::rename(&self.place.dir, TREE, &store.store, id)?;
        self.place.abandon()?;
        Ok(Committed::New(Stored::load(&store.open(id)?, id)?))
    }

    fn write_receipt(&self, sink: &str, now: Timestamp) -> Result<()> {
        let Place { store, id, .. } = &self.place;
        let Counts { hashed, reread, linked } = self.counts;
        let receipt = Receipt {
            format: 1,
            id: id.clone(),
            seal: self.found.seal,
            sequence: store.next_sequence()?,
            stored: now,
            sink: sink.to_owned(),
            store: store.store_id.clone(),
            verify: self.policy.verify,
            hashed,
            reread,
            linked,
        };
        let unwritable = |e: toml::ser::Error| Error::Damaged {
            path: self.place.tree.join(names::RECEIPT),
            why: e.to_string(),
        };
        self.place.write(names::RECEIPT, receipt.to_text().map_err(unwritable)?.as_bytes(), FILE_MODE)
    }

    /// What is thought of it is stored with it: there is no moment at which it counts and is not doubted.
    fn write_marks(&self, now: Timestamp, judged: Judged) -> Result<()> {
        let verified = (self.policy.verify == Verify::All).then_some(now);
        let Judged { compared, suspicious, turns } = judged;
        let marks = Marks { verified, suspicious, compared, turns, ..Marks::default() };
        if marks == Marks::default() {
            return Ok(());
        }
        self.place.write(names::MARKS, marks.to_text(&self.place.tree)?.as_bytes(), marks::MODE)
    }

    /// Throws it away.
    pub fn abandon(self) -> Result<()> {
        self.place.abandon()
    }
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
