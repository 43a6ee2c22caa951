//! From what was received, and what the basis has, to a generation in the store.

use jiff::Timestamp;
use rustix::fs::FileType;

use super::{
    Error, Found, Result, Stored,
    anomaly::Judged,
    hands::{InFolder, share_out},
    lay::{Known, Laid, link},
    marks::{self, Marks},
    meta::proven_items,
    plan::{Planned, Policy},
    prove::{Bad, Effort, FILE_MODE, NEVER, fault_of_file, look},
    receive::{half_dir, is_half_dir},
    staging::{FOLDER_MODE, Place, TREE},
    walk::{Cursor, split, walk_names},
    wanted::Wanted,
};
use crate::{
    manifest::{Item, Kind, Receipt, Seal, entry::stored_path, merge::Origin, names, receipt::Verify},
    sys::{self, Dir, durable, signals, stamp, users, words},
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
    /// Completes the generation, once rsync has exited: received files move to the tree, which is laid out now if it was
    /// not beside the transfer. Unless the policy is [`Verify::None`], every received file has been hashed as it lies there now.
    pub fn check(mut self, laid: Option<Laid>, effort: &Effort) -> std::result::Result<Checked, CheckError> {
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
        let laid = laid.map_or_else(|| self.lay(effort), Ok)?;
        self.fill(&laid.data, effort)?;
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

    /// Puts what arrived into its place in the tree, and gives it the further names under which it is wanted.
    fn fill(&self, data: &Dir, effort: &Effort) -> Result<()> {
        let mut takers = Vec::new();
        for _ in 0..effort.threads.max(1) {
            let mut taker = Taker {
                wanted: &self.wanted,
                recv: Cursor::new(&self.place.recv)?,
                tree: Cursor::new(data)?,
            };
            takers.push(move |arrived: Arrived| taker.take(&arrived.0));
        }
        let mut tree = Cursor::making(data, FOLDER_MODE)?;
        share_out(takers, |dealer| {
            self.each_wanted(&mut |stored| {
                // The folder for long paths is in no manifest.
                tree.folder(split(stored).0)?;
                if !dealer.is_over() {
                    dealer.deal(Arrived(stored.to_vec()));
                }
                Ok(())
            })
        })?;
        if self.origins.has_twins() { self.name_twins(data) } else { Ok(()) }
    }

    fn name_twins(&self, data: &Dir) -> Result<()> {
        let (mut firsts, mut tree) = (Cursor::new(data)?, Cursor::making(data, FOLDER_MODE)?);
        let mut files = 0;
        for item in proven_items(&self.place.tree)? {
            signals::check()?;
            let Item::Entry(entry) = item? else { continue };
            let Kind::File { size, digest, .. } = entry.kind else { continue };
            if let Some(Origin::Twin { first_stored }) = self.origins.get(files) {
                let stored = stored_path(&entry.path);
                let (first_dir, first) = firsts.parent(first_stored)?;
                let (dir, name) = tree.parent(&stored)?;
                link(&Known { dir: first_dir, name: first, size, digest }, dir, name, self.policy.now)?;
            }
            files += 1;
        }
        Ok(())
    }
}

/// The stored path of a file that arrived.
struct Arrived(Vec<u8>);

impl InFolder for Arrived {
    fn folder(&self) -> &[u8] {
        split(&self.0).0
    }
}

/// Moves received files to the tree.
struct Taker<'a> {
    wanted: &'a Wanted,
    recv: Cursor,
    tree: Cursor,
}

impl Taker<'_> {
    /// Moves one. One that was not hashed says so by its time.
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
