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
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use rustix::fs::{FileType, Stat};

use super::{
    Error, Result,
    meta::items,
    plan::Planned,
    prove::{Effort, WRONG, look, note_received},
    staging::RECV_MODE,
    walk::Cursor,
};
use crate::{
    manifest::{Digest, Item, Kind, delta, entry::stored_path},
    sys::{
        self, Dir,
        copy::{self, Content, CopyError},
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

    /// Makes files out of their previous versions and the deltas that have arrived, several at a time, and removes those.
    /// What was hashed on the way and is right is noted as proven; the rest is hashed by [`Self::settle`]. Gives the files
    /// that could not be made, and why.
    pub fn patch(&self, patches: &[Patch], effort: &Effort) -> Result<Vec<(Vec<u8>, String)>> {
        let Some(basis) = &self.basis else { return Ok(Vec::new()) };
        let Some(deltas) = self.place.dir.open_dir_if_any(DELTA)? else { return Ok(Vec::new()) };
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let maker = |number: usize| -> Result<Maker<'_>> {
            Ok(Maker {
                planned: self,
                deltas: &deltas,
                old: Cursor::new(&basis.data)?,
                recv: Cursor::making(&self.place.recv, RECV_MODE)?,
                made: if number == 0 { MADE.to_owned() } else { format!("{MADE}-{number}") },
                effort,
                stop: &stop,
            })
        };
        let makers = effort.threads.min(patches.len()).max(1);
        let makers = (0..makers).map(maker).collect::<Result<Vec<_>>>()?;
        let made: Vec<Result<Vec<_>>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                makers.into_iter().map(|maker| scope.spawn(|| maker.run(patches, &next))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(mistake()))).collect()
        });
        // Of several, the one that stopped the others tells why.
        let stopped = |made: &Result<_>| matches!(made, Err(Error::Interrupted(_)));
        let (others, first): (Vec<_>, Vec<_>) = made.into_iter().partition(stopped);
        let mut unmade = Vec::new();
        for some in first.into_iter().chain(others) {
            unmade.extend(some?);
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

fn mistake() -> Error {
    let why = std::io::Error::other("a thread ended with a mistake of handover itself");
    sys::Error::new("make files from", "what changed in them", why).into()
}

/// A thread that makes files.
struct Maker<'a> {
    planned: &'a Planned,
    deltas: &'a Dir,
    old: Cursor,
    recv: Cursor,
    /// The name of its file while it is made.
    made: String,
    effort: &'a Effort,
    /// Set when a thread has failed, so that the others end.
    stop: &'a AtomicBool,
}

impl Maker<'_> {
    fn run(mut self, patches: &[Patch], next: &AtomicUsize) -> Result<Vec<(Vec<u8>, String)>> {
        let mut unmade = Vec::new();
        while let Some(patch) = patches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let made = self.go_on().map_err(|e| Unmade::Ours(Error::Interrupted(e)));
            match made.and_then(|()| self.make(patch)) {
                Ok(()) => {}
                Err(Unmade::Ours(e)) => {
                    self.stop.store(true, Ordering::Relaxed);
                    return Err(e);
                }
                Err(Unmade::Flaw(why)) => {
                    let (dir, name) = self.recv.parent(&patch.stored)?;
                    durable::remove_tree(dir, name)?;
                    unmade.push((patch.stored.clone(), why));
                }
            }
        }
        Ok(unmade)
    }

    fn go_on(&self) -> std::result::Result<(), signals::Interrupted> {
        if self.stop.load(Ordering::Relaxed) { Err(signals::Interrupted) } else { signals::check() }
    }

    fn make(&mut self, patch: &Patch) -> std::result::Result<(), Unmade> {
        let mut delta = self.delta(patch)?;
        let base = self.base(patch)?;
        durable::remove_tree(self.deltas, &self.made)?;
        let to = self.deltas.create_file(&self.made, 0o600)?;
        let content = self.fill(&mut delta, &base, &to)?;
        let (dir, name) = self.recv.parent(&patch.stored)?;
        durable::remove_tree(dir, name)?;
        durable::rename(self.deltas, &self.made, dir, name).map_err(|e| Unmade::Flaw(e.to_string()))?;
        // After the rename: it is a change of the inode, and a proof is of the inode as it is.
        if let Some(asked) = self.planned.wanted.get(&patch.stored)
            && content.is_some_and(|made| made.sha256 == asked.digest.0 && made.size == asked.size)
        {
            note_received(asked, &to, &dir.join(name), self.planned.policy.now)?;
        }
        Ok(())
    }

    /// The delta, if it is the one that was offered.
    fn delta(&self, patch: &Patch) -> std::result::Result<delta::Reader<BufReader<File>>, Unmade> {
        let flaw = |why: &str| Unmade::Flaw(why.to_owned());
        let name = patch.offered.name();
        let Ok(file) = self.deltas.open_file(&name) else { return Err(flaw("its delta did not come")) };
        if !is_delta(&stamp::stat(&file, &self.deltas.join(&name))?, &patch.offered) {
            return Err(flaw("its delta is not as it was offered"));
        }
        let delta = delta::Reader::new(BufReader::with_capacity(1 << 16, file))?;
        let head = delta.head();
        if head.base != patch.offered.base || head.length != patch.size {
            return Err(flaw("its delta is one of other files"));
        }
        Ok(delta)
    }

    /// The previous version, unless it is known to be damaged.
    fn base(&mut self, patch: &Patch) -> std::result::Result<File, Unmade> {
        let (dir, name) = self.old.parent(&patch.old)?;
        let base = dir.open_file(name).map_err(|e| Unmade::Flaw(e.to_string()))?;
        let stat = stamp::stat(&base, &dir.join(name))?;
        look(&stat, patch.old_size).map_err(Unmade::Flaw)?;
        if stamp::mtime(&stat) == WRONG {
            return Err(Unmade::Flaw("its previous version is damaged here".to_owned()));
        }
        Ok(base)
    }

    /// Where the file system shares content, a clone gets what changed; elsewhere all is written in one pass, which hashes
    /// it too and gives what it hashed.
    fn fill(
        &self,
        delta: &mut delta::Reader<BufReader<File>>,
        base: &File,
        to: &File,
    ) -> std::result::Result<Option<Content>, Unmade> {
        let path = self.deltas.join(&self.made);
        let unwritten = |e| CopyError::Write(sys::Error::new("write", &path, e));
        let length = delta.head().length;
        if !copy::share(base, to) {
            let mut seen = |bytes| {
                (self.effort.progress)(bytes);
                self.go_on()
            };
            let mut blocks = Blocks { delta, next: None };
            blocks.advance()?;
            return Ok(Some(copy::hash_and_patch(base, to, (length, &mut blocks), &path, &mut seen)?));
        }
        to.set_len(length).map_err(unwritten)?;
        while let Some((offset, bytes)) = delta.next()? {
            copy::write_at(to, bytes, offset, &path).map_err(unwritten)?;
            self.go_on().map_err(|e| Unmade::Ours(Error::Interrupted(e)))?;
        }
        Ok(None)
    }
}

/// The blocks of a delta, one ahead.
struct Blocks<'a> {
    delta: &'a mut delta::Reader<BufReader<File>>,
    next: Option<(u64, Vec<u8>)>,
}

impl Blocks<'_> {
    fn advance(&mut self) -> std::result::Result<(), delta::Error> {
        let mut buffer = self.next.take().map(|(_, buffer)| buffer).unwrap_or_default();
        self.next = self.delta.next()?.map(|(offset, bytes)| {
            buffer.clear();
            buffer.extend_from_slice(bytes);
            (offset, buffer)
        });
        Ok(())
    }
}

impl copy::Blocks for Blocks<'_> {
    type Error = Unmade;

    /// A block is a power of two of bytes and begins at a multiple of them, so it lies in one window.
    fn put(&mut self, window: &mut [u8], offset: u64) -> std::result::Result<(), Unmade> {
        while let Some((at, block)) = &self.next
            && let Some(from) = at.checked_sub(offset).and_then(|from| usize::try_from(from).ok())
            && from < window.len()
        {
            let to = from.saturating_add(block.len());
            let place = window.get_mut(from..to);
            place
                .ok_or_else(|| Unmade::Flaw("a block of its delta is too large".to_owned()))?
                .copy_from_slice(block);
            self.advance()?;
        }
        Ok(())
    }
}
