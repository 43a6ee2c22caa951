//! What changed in large files, beside the draft that they are in: so that the sink need not look for it. See
//! [`manifest::delta`](crate::manifest::delta). A delta only saves time: that one cannot be made fails nothing.

use std::{
    fs::File,
    io::BufWriter,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    cache::Known,
    collect::Error,
    copier::{self, At},
    linking,
};
use crate::{
    manifest::{
        Digest,
        delta::{self, Head, Writer},
        names,
    },
    sys::{
        self, Dir,
        copy::{self, Comparison, Content, CopyError, Target},
        durable, signals,
    },
};

/// So much may differ at the beginning of a file of which less than half differs.
const AT_FIRST: u64 = 64 << 20;

/// The deltas of a draft.
#[derive(Debug)]
pub struct Deltas {
    draft: Dir,
    owner: Option<(u32, u32)>,
    /// Bytes of the file system that stay free.
    reserve: u64,
    /// Temporary names that were given.
    begun: AtomicU64,
    /// Deltas that were finished.
    made: AtomicUsize,
}

/// A delta while its file is read.
#[derive(Debug)]
pub struct Making {
    at: At,
    head: Head,
    /// None once it is no gain any more, or could not be written.
    writer: Option<Writer<BufWriter<durable::Writer<File>>>>,
}

impl Deltas {
    /// For a draft. New files are given to `owner`, and so many bytes of the file system stay free.
    pub fn new(draft: &Dir, owner: Option<(u32, u32)>, reserve: u64) -> sys::Result<Self> {
        let draft = draft.try_clone()?;
        Ok(Self { draft, owner, reserve, begun: AtomicU64::new(0), made: AtomicUsize::new(0) })
    }

    /// Begins the delta of a file of `length` bytes whose previous version is known; `None` where it is not worth it, or
    /// cannot be made.
    pub fn begin(&self, known: &Known, length: u64) -> sys::Result<Option<Making>> {
        let needed = length.saturating_add(delta::largest(length)).saturating_add(self.reserve);
        if length < delta::SMALLEST
            || self.made.load(Ordering::Relaxed) >= delta::MOST
            || sys::room::Room::of(&self.draft)?.bytes_free < needed
        {
            return Ok(None);
        }
        let Ok(dir) = self.draft.ensure_dir(names::DELTA, 0o750) else { return Ok(None) };
        let name = format!(".making-{}", self.begun.fetch_add(1, Ordering::Relaxed)).into();
        let at = At { dir: Arc::new(dir), name };
        let head = Head { base: known.digest, length, block: delta::BLOCK };
        let Ok(file) = copier::make_file(&at, self.owner) else {
            remove_if_any(&at)?;
            return Ok(None);
        };
        let writer = Writer::new(BufWriter::new(durable::Writer::new(file, at.path())), &head).ok();
        Ok(Some(Making { at, head, writer }))
    }

    /// Ends it: it gets its name, unless the content is not what it was begun for, or that of before.
    pub fn finish(&self, making: Making, content: &Content) -> sys::Result<()> {
        let Making { at, head, writer } = making;
        let sha256 = Digest(content.sha256);
        let wanted = content.size == head.length && sha256 != head.base;
        let written = writer.filter(|_| wanted).and_then(|writer| writer.finish().ok());
        if written.is_none() || self.made.fetch_add(1, Ordering::Relaxed) >= delta::MOST {
            return durable::unlink_draft(&at.dir, &at.name);
        }
        // Two files of the same content, out of the same, have the same delta.
        match durable::replace_draft(&at.dir, &at.name, delta::name(&sha256, &head.base)) {
            Ok(()) => Ok(()),
            Err(_) => remove_if_any(&at),
        }
    }

    /// Makes the delta of a stored file that is finished already, as a dump: it is read once more. An archive has none:
    /// whatever changes in it moves all that follows.
    pub fn compare(
        &self,
        stored: &At,
        previous: Option<&(At, Known)>,
        content: &Content,
    ) -> Result<(), Error> {
        let Some((before, known)) = previous.filter(|(_, known)| known.digest.0 != content.sha256) else {
            return Ok(());
        };
        let Some(base) = linking::open_stored(before, known, self.owner) else { return Ok(()) };
        let Some(mut making) = self.begin(known, content.size)? else { return Ok(()) };
        let new = stored.dir.open_file(&stored.name)?;
        match making.compare(&new, &base, &stored.path()) {
            _ if making.writer.is_none() => Ok(making.discard()?),
            Ok(content) => Ok(self.finish(making, &content)?),
            Err(CopyError::Interrupted(e)) => Err(e.into()),
            // It was written a moment ago.
            Err(CopyError::Read(e) | CopyError::Write(e)) => Err(e.into()),
        }
    }
}

/// Removes what is half made, if it was begun at all: that it stays is an error, as it takes room.
fn remove_if_any(at: &At) -> sys::Result<()> {
    match durable::unlink_draft(&at.dir, &at.name) {
        Err(e) if !e.is_not_found() => Err(e),
        _ => Ok(()),
    }
}

impl Making {
    /// Takes the next block that differs. False once it is no gain: it would be too large, or most of what was read so
    /// far differs, and why should the rest not.
    pub fn block(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let Some(writer) = &mut self.writer else { return false };
        let limit = delta::largest(self.head.length).min(AT_FIRST.saturating_add(offset / 2));
        let fits = writer.bytes() + 8 + bytes.len() as u64 <= limit;
        if !fits || writer.block(offset, bytes).is_err() {
            self.writer = None;
        }
        self.writer.is_some()
    }

    /// Throws it away.
    pub fn discard(self) -> sys::Result<()> {
        durable::unlink_draft(&self.at.dir, &self.at.name)
    }

    fn compare(&mut self, new: &File, base: &File, path: &Path) -> Result<Content, CopyError> {
        let block = self.head.block as usize;
        let mut changed = |offset, bytes: &[u8]| {
            if self.block(offset, bytes) {
                return Ok(());
            }
            // Nobody needs the rest.
            Err(CopyError::Read(sys::Error::new("compare", path, std::io::Error::other("it is no gain"))))
        };
        let mut comparison = Comparison { base, block, changed: &mut changed };
        copy::hash_and_compare(new, Target::Nothing, &mut comparison, path, &mut |_| signals::check())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::manifest::entry::Time;

    const MIB: u64 = 1 << 20;

    struct Case {
        folder: tempfile::TempDir,
        dir: Arc<Dir>,
        deltas: Deltas,
        stored: AtomicU64,
    }

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir_in(".").unwrap();
            let dir = Arc::new(Dir::open(folder.path()).unwrap());
            let deltas = Deltas::new(&dir, None, 0).unwrap();
            Self { folder, dir, deltas, stored: AtomicU64::new(0) }
        }

        /// A stored file, and what is known of it.
        fn stored(&self, name: &str, bytes: &[u8]) -> (At, Known) {
            let at = At { dir: Arc::clone(&self.dir), name: name.into() };
            copier::new_file(&at, None).unwrap().write_all(bytes).unwrap();
            let time = Time::default();
            let known = Known {
                path: name.into(),
                device: 0,
                inode: 0,
                size: bytes.len() as u64,
                mtime: time,
                ctime: time,
                settled: true,
                plain: true,
                digest: Digest::of(bytes),
                stored_inode: self.dir.stat(name).unwrap().st_ino,
            };
            (at, known)
        }

        fn compare(&self, old: &(At, Known), new: &[u8]) -> Vec<String> {
            let name = format!("new-{}", self.stored.fetch_add(1, Ordering::Relaxed));
            let (at, known) = self.stored(&name, new);
            let content = Content { size: known.size, sha256: known.digest.0 };
            self.deltas.compare(&at, Some(old), &content).unwrap();
            let there = std::fs::read_dir(self.folder.path().join("delta"));
            let names = there.map(|d| d.map(|e| e.unwrap().file_name().into_string().unwrap()).collect());
            names.unwrap_or_default()
        }
    }

    fn noise(length: u64) -> Vec<u8> {
        let mut state = 7_u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_le_bytes()
        };
        (0..length / 4).flat_map(next).collect()
    }

    #[test]
    fn a_file_that_changed_or_grew_a_little_gets_a_delta_and_no_other_does() {
        let case = Case::new();
        let bytes = noise(17 * MIB);
        let old = case.stored("old", &bytes);
        assert!(case.compare(&old, &bytes[..(15 * MIB) as usize]).is_empty(), "it is small");
        assert!(case.compare(&old, &noise(17 * MIB + 4)[4..]).is_empty(), "all of it moved");
        assert!(case.compare(&old, &bytes).is_empty(), "it is the same");
        let mut changed = [&bytes[..], b"grown"].concat();
        changed[9_000_000] ^= 1;
        let names = case.compare(&old, &changed);
        assert_eq!(names, [delta::name(&Digest::of(&changed), &old.1.digest)]);
        let file = case.dir.open_dir("delta").unwrap().open_file(&names[0]).unwrap();
        assert!(file.metadata().unwrap().len() < 34_000);
        let mut reader = delta::Reader::new(file).unwrap();
        let mut made = bytes.clone();
        made.resize(changed.len(), 0);
        while let Some((at, block)) = reader.next().unwrap() {
            made[usize::try_from(at).unwrap()..][..block.len()].copy_from_slice(block);
        }
        assert!(made == changed);
    }

    #[test]
    fn what_was_put_in_the_place_of_the_previous_version_is_not_compared_with() {
        let case = Case::new();
        let mut bytes = noise(17 * MIB);
        let old = case.stored("old", &bytes);
        bytes[0] ^= 1;
        // Something that the transport user may not read would tell by the delta what is in it.
        let other = case.stored("other", &bytes);
        durable::rename(&case.dir, "old", &case.dir, "kept").unwrap();
        rustix::fs::symlinkat("kept", &*case.dir, "old").unwrap();
        bytes[0] ^= 2;
        assert!(case.compare(&old, &bytes).is_empty(), "a link");
        durable::remove_file(&case.dir, "old").unwrap();
        durable::rename(&case.dir, "other", &case.dir, "old").unwrap();
        assert!(case.compare(&old, &bytes).is_empty(), "another file");
        assert_eq!(case.compare(&(old.0, other.1), &bytes).len(), 1, "the one that is remembered");
    }

    #[test]
    fn where_there_is_no_room_for_it_none_is_begun() {
        let mut case = Case::new();
        let (_, known) = case.stored("old", b"old");
        assert!(case.deltas.begin(&known, 32 * MIB).unwrap().is_some());
        case.deltas.reserve = u64::MAX;
        assert!(case.deltas.begin(&known, 32 * MIB).unwrap().is_none());
        case.deltas.reserve = 0;
        case.deltas.made.store(delta::MOST, Ordering::Relaxed);
        assert!(case.deltas.begin(&known, 32 * MIB).unwrap().is_none(), "there are enough");
    }

    #[test]
    fn a_file_whose_length_is_not_what_was_announced_gets_none() {
        let case = Case::new();
        let (_, known) = case.stored("old", &noise(17 * MIB));
        let mut making = case.deltas.begin(&known, 18 * MIB).unwrap().unwrap();
        making.block(0, &[1; 16_384]);
        let content = Content { size: 17 * MIB, sha256: [1; 32] };
        case.deltas.finish(making, &content).unwrap();
        assert_eq!(case.dir.open_dir("delta").unwrap().names().unwrap().len(), 0);
    }
}
