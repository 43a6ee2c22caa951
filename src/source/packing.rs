//! Packing what a walk meets into a `tar.zst`, in one pass: read, packed, compressed, hashed, written.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use rustix::fs::{FileType, Stat};
use zstd::{stream::raw::CParameter, stream::write::Encoder};

use super::{
    archive::{Told, shown},
    collect::{Attributes, Error, LinkKey, Record, below_element},
    copier::{self, At, Shared},
    tree::{self, Met},
};
use crate::{
    manifest::{
        Digest, Entry, Hashing, Kind,
        entry::Links,
        pax::{self, Stretch},
    },
    sys::{
        self,
        copy::{self, Content, CopyError},
        signals,
        users::Names,
        xattr,
    },
};

const LEVEL: i32 = 3;
/// What changes in one of these stretches, on average, does not change what is compressed of the others: so rsync finds
/// them again. Smaller ones would compress worse.
const STRETCH: u32 = 1 << 20;
const BUFFER: usize = 256 * 1024;

/// An archive that is being made.
pub(super) struct Packing<'a> {
    tar: pax::Writer<Encoder<'static, Hashing<Out<'a>>>>,
    path: PathBuf,
    shared: &'a Shared<'a>,
    users: Names,
    /// Files with several names: the one that they were packed under.
    packed: HashMap<(u64, u64), Vec<u8>>,
    lost: Told,
    unstable: Told,
    buffer: Vec<u8>,
}

/// An archive that was made.
pub(super) struct Packed {
    pub content: Content,
    pub lost: Told,
    pub unstable: Told,
}

/// The new file. The room that belongs to the application is kept, and a request to stop is heard.
struct Out<'a> {
    file: &'a File,
    shared: &'a Shared<'a>,
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.file;
        signals::check().map_err(|e| io::Error::other(CopyError::from(e)))?;
        let written = file.write(bytes)?;
        copier::keep_reserve(self.shared, file, written as u64).map_err(io::Error::other)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> Packing<'a> {
    /// Begins an archive in a new, empty file.
    pub(super) fn new(
        file: &'a File,
        path: &Path,
        shared: &'a Shared<'a>,
        threads: u32,
    ) -> Result<Self, Error> {
        let out = Hashing::new(Out { file, shared });
        let encoder = encoder(out, threads).map_err(|e| sys::Error::new("compress", path, e))?;
        Ok(Self {
            tar: pax::Writer::new(encoder),
            path: path.to_path_buf(),
            shared,
            users: Names::load(),
            packed: HashMap::new(),
            lost: Told::default(),
            unstable: Told::default(),
            buffer: vec![0; BUFFER],
        })
    }

    /// Packs the next thing.
    pub(super) fn take(&mut self, what: Met<'_>) -> Result<(), Error> {
        match what {
            Met::File { path, from, stat, .. } => self.file(&path, &from, stat),
            Met::Way(entry, attributes) | Met::Entry(entry, attributes) => self.entry(entry, &attributes),
            Met::Outside(Record::Failed { path, why }) => {
                self.lose(&path, &why);
                Ok(())
            }
            Met::Outside(Record::TooLong { folder }) => {
                self.lose(&folder, "a path below it is too long to be kept");
                Ok(())
            }
            Met::Outside(_) => Ok(()), // A socket lives with the program that made it.
        }
    }

    /// Ends the archive.
    pub(super) fn finish(self) -> Result<Packed, Error> {
        let ended = self.tar.finish().and_then(Encoder::finish);
        let out = ended.map_err(|e| write_failed(e, &self.path))?;
        let content = Content { size: out.bytes(), sha256: out.digest().0 };
        Ok(Packed { content, lost: self.lost, unstable: self.unstable })
    }

    fn entry(&mut self, entry: Entry, attributes: &Attributes) -> Result<(), Error> {
        let entry = self.named(entry);
        if entry.path.is_empty() {
            return Ok(()); // The folder that all is in; whoever unpacks it has one already.
        }
        self.tar.entry(&entry, attributes).map_err(|e| write_failed(e, &self.path))
    }

    /// The entry as it is in the archive: without the element's name, with those of its owners.
    fn named(&self, mut entry: Entry) -> Entry {
        entry.path = below_element(&entry.path).to_vec();
        entry.uname = self.users.user(entry.uid).map(|name| name.as_bytes().to_vec());
        entry.gname = self.users.group(entry.gid).map(|name| name.as_bytes().to_vec());
        entry
    }

    fn lose(&mut self, path: &[u8], why: &str) {
        self.lost.add(|| format!("{} ({why})", shown(path)));
    }

    fn file(&mut self, path: &[u8], from: &At, met: &Stat) -> Result<(), Error> {
        if let Some(first) = LinkKey::of(met).and_then(|key| self.packed.get(&key.id())) {
            let first = first.clone();
            let entry = self.named(entry_of(path, met));
            return self.tar.link(&entry, &first).map_err(|e| write_failed(e, &self.path));
        }
        match look(from) {
            Ok(Some(found)) => self.open_file(path, from, &found),
            Ok(None) => Ok(()), // It is gone: as if it had been gone before.
            Err(e) => {
                self.lose(path, &e.source.to_string());
                Ok(())
            }
        }
    }

    fn open_file(&mut self, path: &[u8], from: &At, found: &Looked) -> Result<(), Error> {
        let entry = self.named(entry_of(path, &found.stat));
        self.tar.file(&entry, &found.attributes, &found.data).map_err(|e| write_failed(e, &self.path))?;
        let mut whole = true;
        for stretch in &found.data {
            match self.stretch(&found.file, *stretch)? {
                Ok(all) => whole &= all,
                Err(e) => self.lose(path, &e.to_string()),
            }
        }
        if let Some(key) = LinkKey::of(&found.stat) {
            self.packed.insert(key.id(), entry.path);
        }
        let after = rustix::fs::fstat(&found.file).map_err(|e| sys::Error::new("look at", from.path(), e))?;
        if !whole || copier::stamp(&found.stat) != copier::stamp(&after) {
            self.unstable.add(|| shown(path));
        }
        self.shared.progress.add_files(1);
        Ok(())
    }

    /// Packs a stretch of a file. What was announced must come: where the file has become shorter (then it is not all), or
    /// can no longer be read, zeros come instead.
    fn stretch(&mut self, file: &File, stretch: Stretch) -> Result<io::Result<bool>, Error> {
        let (mut offset, end) = (stretch.start, stretch.start + stretch.length);
        let mut result = Ok(true);
        while offset < end {
            let want = usize::try_from(end - offset).map_or(BUFFER, |left| left.min(BUFFER));
            let read = match &result {
                Ok(true) => file.read_at(&mut self.buffer[..want], offset),
                _ => Ok(0),
            };
            let n = match read {
                Ok(0) => {
                    self.buffer[..want].fill(0);
                    result = result.map(|_| false);
                    want
                }
                Ok(n) => {
                    self.shared.read.fetch_add(n as u64, Ordering::Relaxed);
                    self.shared.progress.add_bytes(n as u64);
                    n
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    result = Err(e);
                    continue;
                }
            };
            signals::check()?;
            self.tar.content(&self.buffer[..n]).map_err(|e| write_failed(e, &self.path))?;
            offset += n as u64;
        }
        Ok(result)
    }
}

/// A file that is open to be packed.
struct Looked {
    file: File,
    stat: Stat,
    attributes: Attributes,
    data: Vec<Stretch>,
}

/// Opens a file and looks at all but its content; `None` where it is gone.
fn look(from: &At) -> sys::Result<Option<Looked>> {
    let file = match copier::open(from) {
        Ok(file) => file,
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(e),
    };
    let path = from.path();
    let stat = rustix::fs::fstat(&file).map_err(|e| sys::Error::new("look at", &path, e))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        let changed = io::Error::other("it became something else while it was collected");
        return Err(sys::Error::new("read", &path, changed));
    }
    let attributes = xattr::of_open(&file, &path)?;
    let data = data_of(&file, &stat, &path)?;
    Ok(Some(Looked { file, stat, attributes, data }))
}

/// Where a file has data, in whole blocks of an archive, as GNU tar needs it.
fn data_of(file: &File, stat: &Stat, path: &Path) -> sys::Result<Vec<Stretch>> {
    const BLOCK: u64 = 512;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
    if blocks.saturating_mul(BLOCK) >= size {
        return Ok(if size == 0 { Vec::new() } else { vec![Stretch { start: 0, length: size }] });
    }
    let found = copy::data_of(file, size, path).map_err(|e| match e {
        CopyError::Read(e) | CopyError::Write(e) => e,
        CopyError::Interrupted(e) => sys::Error::new("read", path, io::Error::other(e)),
    })?;
    let mut data: Vec<Stretch> = Vec::new();
    for (start, end) in found {
        let (start, end) = (start / BLOCK * BLOCK, end.next_multiple_of(BLOCK).min(size));
        match data.last_mut() {
            Some(last) if last.start + last.length >= start => last.length = end - last.start,
            _ => data.push(Stretch { start, length: end - start }),
        }
    }
    Ok(data)
}

fn entry_of(path: &[u8], stat: &Stat) -> Entry {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    // The archive as a whole is hashed, its files are not.
    let kind = Kind::File { size, digest: Digest([0; 32]), links: Links::One };
    tree::entry_of(path.to_vec(), stat, kind)
}

fn encoder<W: Write>(out: W, threads: u32) -> io::Result<Encoder<'static, W>> {
    let mut encoder = Encoder::new(out, LEVEL)?;
    for parameter in [
        CParameter::NbWorkers(threads.max(1)),
        CParameter::JobSize(STRETCH),
        CParameter::RSyncable(true),
        CParameter::ChecksumFlag(true),
    ] {
        encoder.set_parameter(parameter)?;
    }
    Ok(encoder)
}

/// What cannot be written is a failure of the run; an error of our own comes back as it was.
fn write_failed(e: io::Error, path: &Path) -> Error {
    match e.downcast::<CopyError>() {
        Ok(CopyError::Read(e) | CopyError::Write(e)) => e.into(),
        Ok(CopyError::Interrupted(e)) => e.into(),
        Err(e) => sys::Error::new("write", path, e).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicU64};

    use super::*;
    use crate::sys::{Dir, progress::Progress};

    #[test]
    fn what_cannot_be_read_is_named_what_is_gone_is_not_and_what_became_shorter_is_filled_up() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open(folder.path()).unwrap());
        std::os::unix::fs::symlink("elsewhere", folder.path().join("link")).unwrap();
        let mut file = dir.create_file("file", 0o600).unwrap();
        file.write_all(b"12345").unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        let progress = Progress::default();
        let shared = Shared {
            owner: None,
            reserve: 0,
            progress: &progress,
            since_room: AtomicU64::new(0),
            read: AtomicU64::new(0),
            deltas: None,
        };
        let out = dir.create_file("out", 0o600).unwrap();
        let mut packing = Packing::new(&out, Path::new("out"), &shared, 1).unwrap();
        let synced = crate::manifest::entry::Time::default();
        for name in ["link", "gone", "file"] {
            let (path, from) = (format!("www/srv/{name}"), At { dir: Arc::clone(&dir), name: name.into() });
            packing.take(Met::File { path: path.into(), from, stat: &stat, synced }).unwrap();
        }
        // It was longer when it was looked at.
        let data = vec![Stretch { start: 0, length: 700 }];
        file.set_len(700).unwrap();
        let longer = rustix::fs::fstat(&file).unwrap();
        file.set_len(5).unwrap();
        let found = Looked { file, stat: longer, attributes: Attributes::new(), data };
        let from = At { dir: Arc::clone(&dir), name: "file".into() };
        packing.open_file(b"www/srv/shorter", &from, &found).unwrap();
        let packed = packing.finish().unwrap();
        assert_eq!(packed.lost.count, 1);
        assert!(packed.lost.first.unwrap().starts_with("/srv/link (Too many levels"));
        assert_eq!(packed.unstable, Told { count: 1, first: Some("/srv/shorter".to_owned()) });

        let bytes = std::fs::read(folder.path().join("out")).unwrap();
        assert_eq!(packed.content, Content { size: bytes.len() as u64, sha256: Digest::of(&bytes).0 });
        let bytes = zstd::decode_all(bytes.as_slice()).unwrap();
        let mut reader = pax::Reader::new(bytes.as_slice());
        assert_eq!(reader.next().unwrap().unwrap().entry.path, b"srv/file");
        assert_eq!(reader.next().unwrap().unwrap().entry.path, b"srv/shorter");
        let mut content = [1; 700];
        assert_eq!(reader.content(&mut content).unwrap(), 700);
        assert_eq!((&content[..6], content[699]), (&b"12345\0"[..], 0));
        assert_eq!(reader.next().unwrap(), None);
    }

    #[test]
    fn the_same_things_are_packed_into_the_same_bytes_by_any_number_of_threads() {
        let text: Vec<u8> =
            (0..9_000_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 26).to_le_bytes()).collect();
        let pack = |threads, piece| {
            let mut encoder = encoder(Vec::new(), threads).unwrap();
            text.chunks(piece).for_each(|bytes| encoder.write_all(bytes).unwrap());
            encoder.finish().unwrap()
        };
        let one = pack(1, 1 << 20);
        assert!(one.len() < text.len() / 2);
        assert!(one == pack(1, 1 << 20), "the same threads");
        assert!(one == pack(3, 1 << 20), "more threads");
    }
}
