//! What a transfer is asked for: the expected size and digest of each file, and whether it is proven, in 64 bytes each.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::Stat;

use crate::manifest::Digest;

/// A stored path, as the first half of its sha256: a source that could make two paths collide would only harm itself.
type Key = u128;

pub(super) fn key(path: &[u8]) -> Key {
    let mut half = [0; 16];
    half.copy_from_slice(&Digest::of(path).0[..16]);
    Key::from_be_bytes(half)
}

/// A file that is asked for.
#[derive(Debug)]
pub(super) struct File {
    key: Key,
    pub(super) size: u64,
    pub(super) digest: Digest,
    /// The fingerprint of the inode that was proven, or 0.
    proof: AtomicU64,
}

/// All files that are asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// In the order of their keys, once [`Self::seal`] has run.
    files: Vec<File>,
    folders: HashSet<Key>,
    bytes: u64,
}

impl Wanted {
    pub(super) fn add(&mut self, stored: &[u8], size: u64, digest: Digest) {
        self.files.push(File { key: key(stored), size, digest, proof: AtomicU64::new(0) });
        self.bytes = self.bytes.saturating_add(size);
        let mut folder = stored;
        while let Some(at) = folder.iter().rposition(|b| *b == b'/') {
            folder = &folder[..at];
            if !self.folders.insert(key(folder)) {
                break;
            }
        }
    }

    /// Sorts, so that files are found.
    pub(super) fn seal(&mut self) {
        self.files.sort_unstable_by_key(|file| file.key);
    }

    pub(super) fn get(&self, stored: &[u8]) -> Option<&File> {
        if self.files.is_empty() {
            return None;
        }
        let key = key(stored);
        self.files.binary_search_by_key(&key, |file| file.key).ok().and_then(|at| self.files.get(at))
    }

    pub(super) fn is_folder(&self, path: &[u8]) -> bool {
        self.folders.contains(&key(path))
    }

    pub(super) fn files(&self) -> u64 {
        self.files.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn largest(&self) -> u64 {
        self.files.iter().map(|file| file.size).max().unwrap_or(0)
    }

    pub(super) fn proven(&self) -> u64 {
        self.files.iter().filter(|file| file.is_proven()).count() as u64
    }
}

impl File {
    /// Notes that the inode, as it is now, has the content.
    pub(super) fn prove(&self, stat: &Stat) {
        self.proof.store(fingerprint(stat), Ordering::Release);
    }

    /// Notes that what is there does not have the content.
    pub(super) fn refute(&self) {
        self.proof.store(0, Ordering::Release);
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proof.load(Ordering::Acquire) != 0
    }

    /// Whether this is the inode that was proven, unchanged since: any write, link or change of mode sets its ctime.
    pub(super) fn is_proof_of(&self, stat: &Stat) -> bool {
        self.proof.load(Ordering::Acquire) == fingerprint(stat)
    }
}

fn fingerprint(stat: &Stat) -> u64 {
    let mut hasher = DefaultHasher::new();
    (stat.st_dev, stat.st_ino, stat.st_size, stat.st_ctime, stat.st_ctime_nsec).hash(&mut hasher);
    hasher.finish() | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_with_all_folders_on_the_way() {
        assert_eq!(std::mem::size_of::<File>(), 64);
        let mut wanted = Wanted::default();
        for i in 0..1000 {
            wanted.add(format!("www/{}/{i}", i % 7).as_bytes(), i, Digest::of(&i.to_be_bytes()));
        }
        wanted.seal();
        assert_eq!((wanted.files(), wanted.bytes()), (1000, 499_500));
        let file = wanted.get(b"www/4/844").unwrap();
        assert_eq!((file.size, file.digest), (844, Digest::of(&844_u64.to_be_bytes())));
        assert!(wanted.get(b"www/4/845").is_none());
        assert!(wanted.is_folder(b"www") && wanted.is_folder(b"www/6"));
        assert!(!wanted.is_folder(b"www/7") && !wanted.is_folder(b"www/4/844"));
    }

    #[test]
    fn a_proof_is_of_the_inode_as_it_was_and_of_no_other() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let stat = || rustix::fs::stat(file.path()).unwrap();
        let mut wanted = Wanted::default();
        wanted.add(b"a", 0, Digest::of(b""));
        let asked = wanted.get(b"a").unwrap();
        assert!(!asked.is_proof_of(&stat()));
        asked.prove(&stat());
        assert!(asked.is_proven() && asked.is_proof_of(&stat()));
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::io::Write::write_all(&mut file.as_file(), b"x").unwrap();
        assert!(!asked.is_proof_of(&stat()));
        asked.refute();
        assert!(!asked.is_proven());
    }
}
