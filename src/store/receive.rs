//! What arrives, while rsync runs and after it has ended.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    os::unix::ffi::OsStrExt as _,
    sync::Arc,
};

use rustix::fs::FileType;

use super::{
    Error, Result,
    plan::{FETCH, Planned, ToFetch, WANTED},
    prove::{Bad, Effort, Job, Readers, Rule, Wrong, fault_of_file, look},
    walk::{Cursor, split, walk},
    wanted::{File, Wanted},
};
use crate::{
    manifest::GenerationId,
    sys::{self, durable, signals},
};

impl Planned {
    /// Removes from `recv/` what was not asked for, or is larger than was asked: what a killed rsync or a hostile sender
    /// left. Half files stay as long as their file is not proven, so that rsync goes on with them. For before a transfer is begun again; after a transfer that ended
    /// well, such a thing is the far end's doing, and [`Self::check`] refuses it.
    pub fn tidy(&self) -> Result<()> {
        let half_dir = half_dir(&self.place.id);
        walk(&self.place.recv, &mut |seen| {
            let stays = match seen.kind() {
                FileType::Directory => {
                    self.wanted.is_folder(seen.path) || self.holds_halves(seen.path, &half_dir)
                }
                FileType::RegularFile if seen.stat.st_nlink == 1 => {
                    let whole = self.wanted.get(seen.path);
                    let asked = whole.or_else(|| self.half(seen.path, &half_dir));
                    asked.is_some_and(|asked| seen.stat.st_size.unsigned_abs() <= asked.size)
                }
                _ => false,
            };
            if stays { Ok(()) } else { Ok(durable::remove_tree(seen.folder, seen.name)?) }
        })
    }

    /// What a half file is to become, if that is still asked for.
    fn half(&self, path: &[u8], half_dir: &[u8]) -> Option<&File> {
        self.wanted.get(&half_of(path, half_dir)?).filter(|asked| !asked.is_proven())
    }

    /// Whether it is a folder for halves of what was asked for.
    pub(super) fn holds_halves(&self, path: &[u8], half_dir: &[u8]) -> bool {
        let folder = split(path).0;
        is_half_dir(path, half_dir) && (folder.is_empty() || self.wanted.is_folder(folder))
    }

    /// Takes stock, when rsync is not running: hashes what has arrived and nobody proved yet, gives what is wrong, and
    /// makes the list anew of what is missing or wrong. Proven files stay proven: a transfer that failed goes on here.
    pub fn settle(&mut self, effort: &Effort) -> Result<Vec<Bad>> {
        let rule = Rule::Received(Arc::clone(&self.wanted));
        let readers = Readers::start(&self.place.recv, &rule, self.policy.now, effort)?;
        let mut cursor = Cursor::new(&self.place.recv)?;
        self.each_wanted(&mut |path| {
            let Some(asked) = self.wanted.get(path) else { return Ok(()) };
            let there = cursor.parent(path).and_then(|(dir, name)| dir.stat(name));
            match there {
                Ok(stat) if asked.is_proof_of(&stat) => {}
                Ok(stat) if look(&stat, asked.size).is_ok() => {
                    let (path, size, digest) = (path.to_vec(), asked.size, asked.digest);
                    readers.read(Job { asked: path.clone(), path, size, digest });
                }
                Ok(_) => asked.refute(),
                Err(e) => {
                    fault_of_file(e)?;
                    asked.refute();
                }
            }
            Ok(())
        })?;
        let wrong = readers.finish()?.bad;
        self.write_list()?;
        Ok(wrong.iter().map(Wrong::to_bad).collect())
    }

    fn write_list(&mut self) -> Result<()> {
        let mut list =
            BufWriter::new(durable::Writer::new(self.place.draft(FETCH)?, self.place.dir.join(FETCH)));
        let failed = |e| Error::Sys(sys::Error::new("write", self.place.dir.join(FETCH), e));
        let mut to_fetch = ToFetch::default();
        self.each_wanted(&mut |path| {
            let Some(asked) = self.wanted.get(path).filter(|asked| !asked.is_proven()) else { return Ok(()) };
            to_fetch.files += 1;
            to_fetch.bytes = to_fetch.bytes.saturating_add(asked.size);
            to_fetch.largest = to_fetch.largest.max(asked.size);
            list.write_all(path).and_then(|()| list.write_all(b"\0")).map_err(failed)
        })?;
        list.flush().map_err(failed)?;
        self.to_fetch = to_fetch;
        Ok(())
    }

    /// Every stored path that was asked for, in the order of the manifest.
    pub(super) fn each_wanted(&self, visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let failed = |e| sys::Error::new("read", self.place.dir.join(WANTED), e);
        let list = BufReader::new(self.place.dir.open_file(WANTED)?);
        for path in list.split(0) {
            signals::check()?;
            visit(&path.map_err(failed)?)?;
        }
        Ok(())
    }

    /// Begins to prove received files beside the transfer.
    pub fn prover(&self, effort: &Effort) -> Result<Prover> {
        let rule = Rule::Received(Arc::clone(&self.wanted));
        let readers = Readers::start(&self.place.recv, &rule, self.policy.now, effort)?;
        Ok(Prover { readers, wanted: Arc::clone(&self.wanted) })
    }
}

/// Hashes received files beside the transfer. It only saves time: what it did not prove, or what changed since,
/// [`Planned::settle`] and [`Planned::check`] prove.
pub struct Prover {
    readers: Readers,
    wanted: Arc<Wanted>,
}

/// What was proven beside a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proven {
    /// Files that have the content they should have.
    pub good: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that have not.
    pub wrong: Vec<Bad>,
}

impl Prover {
    /// rsync says that it has finished a file (its stored path, below `data/`). It never waits, as the transfer would:
    /// what comes while the threads have enough to do is left to [`Planned::settle`].
    pub fn received(&self, stored: &[u8]) {
        if let Some(asked) = self.wanted.get(stored) {
            let (path, size, digest) = (stored.to_vec(), asked.size, asked.digest);
            self.readers.try_read(Job { asked: path.clone(), path, size, digest });
        }
    }

    /// Waits until all that was handed over is hashed.
    pub fn finish(self) -> Result<Proven> {
        let tally = self.readers.finish()?;
        let wrong = tally.bad.iter().map(Wrong::to_bad).collect();
        Ok(Proven { good: tally.files, bytes: tally.bytes, wrong })
    }
}

/// The folder beside a file in which rsync is told to keep what it has of it, when it is stopped.
pub fn half_dir(id: &GenerationId) -> Vec<u8> {
    format!(".part-{id}").into_bytes()
}

pub(super) fn is_half_dir(path: &[u8], half_dir: &[u8]) -> bool {
    split(path).1 == OsStr::from_bytes(half_dir)
}

/// The file of which this is a half: one in the folder for halves, or under rsync's temporary name `.NAME.XXXXXX`.
pub(super) fn half_of(path: &[u8], half_dir: &[u8]) -> Option<Vec<u8>> {
    let (folder, name) = split(path);
    let (folder, name) = if is_half_dir(folder, half_dir) {
        (split(folder).0, name.as_bytes())
    } else {
        let (name, random) = name.as_bytes().strip_prefix(b".")?.split_last_chunk::<7>()?;
        if random[0] != b'.' || !random[1..].iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        (folder, name)
    };
    if name.is_empty() {
        return None;
    }
    Some(if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_known_by_the_names_that_rsync_gives_them() {
        let whole =
            |path: &str| half_of(path.as_bytes(), b".part-x").map(|whole| String::from_utf8(whole).unwrap());
        assert_eq!(whole("e/sub/.part-x/a").as_deref(), Some("e/sub/a"));
        assert_eq!(whole("e/sub/.a.b.Xy12Zq").as_deref(), Some("e/sub/a.b"));
        assert_eq!(whole(".part-x/a").as_deref(), Some("a"));
        for none in ["e/a", "e/.a", "e/.a.Xy12Z", "e/.a.Xy12Z!", "e/a.Xy12Zq", "e/..Xy12Zq", "e/.part-y/a"] {
            assert_eq!(whole(none), None, "{none}");
        }
    }
}
