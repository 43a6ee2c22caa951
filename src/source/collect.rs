//! The book of a generation: manifest, attributes, checksums and cache, written as one stream in the order of the
//! manifest, while files are still being read by others.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::BufWriter,
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use rustix::fs::Stat;

use super::{
    cache::{self, Known},
    copier::{self, At},
    linking,
};
use crate::{
    gate,
    manifest::{Digest, Entry, Item, Kind, entry, entry::Links, mtree, names, sums, xattrs},
    store,
    sys::{self, Dir, durable::Writer, progress::Progress, show, signals::Interrupted, users::Names},
};

/// Extended attributes: names and values, sorted by name.
pub type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// What ends a collection: nothing that is wrong with one file does.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused something on our own side.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// The Handover Point refused something.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What the gate needs could not be written.
    #[error(transparent)]
    Gate(#[from] gate::Error),
    /// We were asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// A file of the draft, or the new cache, cannot be written.
    #[error("cannot write {name}: {source}")]
    Book {
        /// The file.
        name: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A mistake of ours.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl Error {
    /// Whether the storage itself is the cause.
    pub fn is_storage(&self) -> bool {
        match self {
            Self::Sys(e) => e.is_storage(),
            Self::Store(e) | Self::Gate(gate::Error::Store(e)) => e.is_storage(),
            Self::Book { source, .. } => {
                sys::Error::new("write", "", std::io::Error::from(source.kind())).is_storage()
                    || matches!(
                        source.raw_os_error(),
                        Some(libc::ENOSPC | libc::EDQUOT | libc::EIO | libc::EROFS)
                    )
            }
            Self::Interrupted(_) | Self::Internal(_) | Self::Gate(gate::Error::Facts { .. }) => false,
        }
    }
}

/// The identity of a file that has several names.
#[derive(Debug, Clone, Copy)]
pub struct LinkKey {
    device: u64,
    inode: u64,
    nlink: u32,
}

impl LinkKey {
    /// The key, if the file has several names.
    pub fn of(stat: &Stat) -> Option<Self> {
        let nlink = u32::try_from(stat.st_nlink).unwrap_or(u32::MAX);
        (nlink > 1).then_some(Self { device: stat.st_dev, inode: stat.st_ino, nlink })
    }

    /// Device and inode.
    pub fn id(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// A regular file that is stored.
#[derive(Debug)]
pub struct FileRecord {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Its identity, if it has several names.
    pub links: Option<LinkKey>,
    /// Extended attributes.
    pub attributes: Attributes,
    /// It kept changing while it was read.
    pub unstable: bool,
    /// What the cache will know of it, with the path.
    pub known: Known,
}

/// One thing that was found.
#[derive(Debug)]
pub enum Record {
    /// A regular file.
    File(Box<FileRecord>),
    /// A further name of a file that came before.
    Twin {
        /// The path.
        path: Vec<u8>,
        /// Which file.
        key: LinkKey,
        /// Where the further name of the content goes.
        stored: At,
    },
    /// Anything without content.
    Entry(Entry, Attributes),
    /// What only the cache is told.
    Remember(Box<Known>),
    /// A socket.
    Socket(Vec<u8>),
    /// Something that could not be read.
    Failed {
        /// The path.
        path: Vec<u8>,
        /// Why.
        why: String,
    },
    /// Something whose path is too long to be kept: counted, but it has no place in the manifest.
    TooLong {
        /// The path of the folder that holds it.
        folder: Vec<u8>,
    },
    /// It was gone when it was to be read: as if it had been gone before.
    Vanished,
}

/// A record that is there, or will be.
#[derive(Debug)]
pub enum Slot {
    /// It is there.
    Ready(Record),
    /// A thread is reading it.
    Pending(Receiver<Result<Record, Error>>),
    /// A thread is linking so many.
    Linking(Receiver<Result<Vec<Record>, Error>>, usize),
}

/// What an element came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Entries of the manifest.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// What could not be read.
    pub failed: u64,
    /// What kept changing.
    pub unstable: u64,
    /// The first failure, for people.
    pub first_failure: Option<String>,
    /// The first file that kept changing, for people.
    pub first_unstable: Option<String>,
}

impl Counts {
    /// Counts a failure.
    pub fn fail(&mut self, text: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(text);
    }
}

struct Linked {
    number: u64,
    record: FileRecord,
    /// The stored path that has room for further names.
    content: Vec<u8>,
}

/// `SHA256SUMS` while it is written.
pub type Sums = sums::Writer<BufWriter<Writer<File>>>;

/// The book of a draft.
pub struct Book<'a> {
    mtree: mtree::Writer<BufWriter<Writer<File>>>,
    xattrs: xattrs::Writer<BufWriter<Writer<File>>>,
    sums: Sums,
    cache: Option<cache::Writer<BufWriter<Writer<File>>>>,
    users: Names,
    links: HashMap<(u64, u64), Linked>,
    data: Dir,
    owner: Option<(u32, u32)>,
    progress: &'a Progress,
}

/// A book that was written to its end: what it holds, and its sha256.
#[derive(Debug)]
pub struct Closed {
    /// What the manifest holds.
    pub totals: mtree::Totals,
    /// Of the manifest.
    pub manifest: Digest,
    /// Of the attributes.
    pub xattrs: Digest,
    /// Has a line for each stored file, and none yet for the files beside `data/`.
    pub sums: Sums,
}

fn bad(name: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Book { name, source }
}

/// Each of them grows by a hundred bytes and more for every file.
fn buffered(file: File, path: PathBuf) -> BufWriter<Writer<File>> {
    BufWriter::with_capacity(1 << 16, Writer::new(file, path))
}

impl<'a> Book<'a> {
    /// Opens the book in a draft; `cache` is the new cache's file, empty, where a next run is to know these files.
    pub fn open(
        draft: &Dir,
        cache: Option<File>,
        owner: Option<(u32, u32)>,
        progress: &'a Progress,
    ) -> Result<Self, Error> {
        let file = |name: &'static str| {
            let at = At { dir: std::sync::Arc::new(draft.try_clone()?), name: name.into() };
            copier::new_file(&at, owner).map(|file| buffered(file, draft.join(name)))
        };
        Ok(Self {
            mtree: mtree::Writer::new(file(names::MANIFEST)?).map_err(bad(names::MANIFEST))?,
            xattrs: xattrs::Writer::new(file(names::XATTRS)?),
            sums: sums::Writer::new(file(names::SUMS)?),
            cache: cache
                .map(|file| cache::Writer::new(buffered(file, "cache.new".into())))
                .transpose()
                .map_err(bad("cache.new"))?,
            users: Names::load(),
            links: HashMap::new(),
            data: draft.open_dir(names::DATA)?,
            owner,
            progress,
        })
    }

    /// Writes slots until no more come.
    pub fn write_all(&mut self, slots: Receiver<Vec<Slot>>, counts: &mut Counts) -> Result<(), Error> {
        for slot in slots.into_iter().flatten() {
            let ended = |_| Error::Internal("a copying thread ended without an answer");
            match slot {
                Slot::Ready(record) => self.write(record, counts)?,
                Slot::Pending(reply) => self.write(reply.recv().map_err(ended)??, counts)?,
                Slot::Linking(reply, _) => {
                    for record in reply.recv().map_err(ended)?? {
                        self.write(record, counts)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes one record.
    pub fn write(&mut self, record: Record, counts: &mut Counts) -> Result<(), Error> {
        match record {
            Record::Entry(entry, attributes) => {
                counts.entries += 1;
                self.entry(entry, &attributes)
            }
            Record::File(file) => self.file(*file, counts),
            Record::Twin { path, key, stored } => self.twin(path, key, &stored, counts),
            Record::Remember(known) => self.remember(&known),
            Record::Socket(path) => self.item(&Item::Socket(path)),
            Record::Failed { path, why } => {
                counts.fail(format!("/{}: {why}", show(below_element(&path))));
                self.item(&Item::failed(path, &why))
            }
            Record::TooLong { folder } => {
                let limit = entry::TOO_LONG;
                counts.fail(format!(
                    "a path below /{} is longer than {limit} bytes",
                    show(below_element(&folder))
                ));
                Ok(())
            }
            Record::Vanished => Ok(()),
        }
    }

    fn file(&mut self, mut file: FileRecord, counts: &mut Counts) -> Result<(), Error> {
        counts.entries += 1;
        counts.files += 1;
        counts.bytes += file.known.size;
        self.progress.add_files(1);
        if file.unstable {
            counts.unstable += 1;
            counts
                .first_unstable
                .get_or_insert_with(|| format!("/{}", show(below_element(&file.known.path))));
        }
        let attributes = std::mem::take(&mut file.attributes);
        let links = match file.links {
            None => Links::One,
            Some(key) => Links::Many { nlink: key.nlink, inode: self.links.len() as u64 + 1 },
        };
        self.remember(&file.known)?;
        self.entry(Self::entry_of(&file, file.known.path.clone(), links), &attributes)?;
        if let (Some(key), Links::Many { inode, .. }) = (file.links, links) {
            file.attributes = attributes;
            let content = entry::stored_path(&file.known.path);
            self.links.insert(key.id(), Linked { number: inode, record: file, content });
        }
        Ok(())
    }

    fn twin(&mut self, path: Vec<u8>, key: LinkKey, stored: &At, counts: &mut Counts) -> Result<(), Error> {
        let Some(first) = self.links.get_mut(&key.id()) else {
            let why = "its first name could not be read".to_owned();
            return self.write(Record::Failed { path, why }, counts);
        };
        let slash = first.content.iter().rposition(|b| *b == b'/').unwrap_or(0);
        let from = At {
            dir: std::sync::Arc::new(self.data.descend(&first.content[..slash])?),
            name: OsStr::from_bytes(&first.content[slash + 1..]).to_owned(),
        };
        if !linking::link_or_copy(&from, stored, &first.record.known, self.owner)? {
            // As many names as the file system allows: the copy takes over, here and in the cache.
            first.content = entry::stored_path(&path);
            first.record.known.stored_inode = stored.dir.stat(&stored.name)?.st_ino;
        }
        let first = &*first;
        counts.entries += 1;
        counts.files += 1;
        self.progress.add_files(1);
        let known = Known { path: path.clone(), ..first.record.known.clone() };
        let nlink = first.record.links.map_or(2, |key| key.nlink);
        let links = Links::Many { nlink, inode: first.number };
        let entry = Self::entry_of(&first.record, path, links);
        let attributes = first.record.attributes.clone();
        self.remember(&known)?;
        self.entry(entry, &attributes)
    }

    fn entry_of(file: &FileRecord, path: Vec<u8>, links: Links) -> Entry {
        Entry {
            path,
            mode: file.mode,
            uid: file.uid,
            gid: file.gid,
            uname: None,
            gname: None,
            mtime: file.known.mtime,
            kind: Kind::File { size: file.known.size, digest: file.known.digest, links },
        }
    }

    fn entry(&mut self, mut entry: Entry, attributes: &Attributes) -> Result<(), Error> {
        entry.uname = self.users.user(entry.uid).map(|name| name.as_bytes().to_vec());
        entry.gname = self.users.group(entry.gid).map(|name| name.as_bytes().to_vec());
        if !attributes.is_empty() {
            self.xattrs.attributes(&entry.path, attributes).map_err(bad(names::XATTRS))?;
        }
        self.sums.entry(&entry).map_err(bad(names::SUMS))?;
        self.item(&Item::Entry(entry))
    }

    fn remember(&mut self, known: &Known) -> Result<(), Error> {
        match &mut self.cache {
            Some(cache) => cache.add(known).map_err(bad("cache.new")),
            None => Ok(()),
        }
    }

    fn item(&mut self, item: &Item) -> Result<(), Error> {
        self.mtree.item(item).map_err(bad(names::MANIFEST))
    }

    /// Closes the book; the cache is synced, the draft's files are synced with the draft.
    pub fn finish(self) -> Result<Closed, Error> {
        let flush =
            |mut out: BufWriter<Writer<File>>, name| std::io::Write::flush(&mut out).map_err(bad(name));
        let totals = self.mtree.totals();
        let (out, manifest) = self.mtree.finish().map_err(bad(names::MANIFEST))?;
        flush(out, names::MANIFEST)?;
        let (out, xattrs) = self.xattrs.finish().map_err(bad(names::XATTRS))?;
        flush(out, names::XATTRS)?;
        if let Some(cache) = self.cache {
            let cache = cache.finish().map_err(bad("cache.new"))?;
            let file = cache.into_inner().map_err(|e| bad("cache.new")(e.into_error()))?;
            file.sync()?;
        }
        Ok(Closed { totals, manifest, xattrs, sums: self.sums })
    }
}

/// The path on the source, without its leading slash: the manifest's path without the element's name.
pub fn below_element(path: &[u8]) -> &[u8] {
    path.iter().position(|b| *b == b'/').map_or(b"", |slash| &path[slash + 1..])
}

/// Slots on their way to the book, many at a time: to wake it for each costs more than what it then does.
#[derive(Debug)]
pub struct Slots {
    out: SyncSender<Vec<Slot>>,
    held: Vec<Slot>,
    /// Records in them.
    records: usize,
}

impl Slots {
    /// So many records go at a time.
    const TOGETHER: usize = 64;

    /// The way to a book, and its end for [`Book::write_all`]; some `waiting` records may be on it.
    pub fn new(waiting: usize) -> (Self, Receiver<Vec<Slot>>) {
        let (out, slots) = sync_channel(waiting / Self::TOGETHER);
        (Self { out, held: Vec::new(), records: 0 }, slots)
    }

    /// Sends a slot; an error means that the book was closed by an error of its own, which it tells.
    pub fn send(&mut self, slot: Slot) -> Result<(), Error> {
        self.records += if let Slot::Linking(_, files) = &slot { *files } else { 1 };
        self.held.push(slot);
        if self.records < Self::TOGETHER { Ok(()) } else { self.flush() }
    }

    /// Sends what is held back: to be called after the last one.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.records = 0;
        let held = std::mem::replace(&mut self.held, Vec::with_capacity(Self::TOGETHER));
        self.out.send(held).map_err(|_| Error::Internal("the book was closed"))
    }
}
