//! Writing an archive, member by member.

use std::io::{self, Write};

use tar::{EntryType, Header};

use super::{
    ATTRIBUTE, BLOCK, GID, GNAME, LINK, MTIME, PATH, SIZE, SPARSE_MAJOR, SPARSE_MINOR, SPARSE_NAME,
    SPARSE_SIZE, Stretch, UID, UNAME, acl, has_holes, padding,
};
use crate::{
    manifest::{Entry, Kind, entry::Time},
    sys::xattr::Attribute,
};

/// The largest numbers that a header of 1988 has room for; larger ones go into extended records.
const LARGEST_ID: u32 = 0o7_777_777;
const LARGEST_SIZE: u64 = 0o77_777_777_777;
const LARGEST_TIME: i64 = 0o77_777_777_777;
/// The room for the name of an owner.
const OWNER: usize = 32;

/// Writes members one after another. Paths of entries are those of the archive: relative, without the element's name.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    /// Bytes of content that are still to come, and what then fills up the last block.
    left: u64,
    padding: usize,
}

/// What a member's header says beside what its entry says.
struct Shape<'a> {
    kind: EntryType,
    /// Bytes that follow the header.
    size: u64,
    link: &'a [u8],
    /// Size of a file with holes.
    sparse: Option<u64>,
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    pub fn new(out: W) -> Self {
        Self { out, left: 0, padding: 0 }
    }

    /// Writes a member without content: a folder, link or device.
    pub fn entry(&mut self, entry: &Entry, attributes: &[Attribute]) -> io::Result<()> {
        let (kind, link): (_, &[u8]) = match &entry.kind {
            Kind::Dir => (EntryType::Directory, b""),
            Kind::Link { target } => (EntryType::Symlink, target),
            Kind::Fifo => (EntryType::Fifo, b""),
            Kind::Char { .. } => (EntryType::Char, b""),
            Kind::Block { .. } => (EntryType::Block, b""),
            Kind::File { .. } => return Err(misuse("a file has content")),
        };
        self.header(entry, attributes, &Shape { kind, size: 0, link, sparse: None })
    }

    /// Writes a further name of the file that the member `first` is.
    pub fn link(&mut self, entry: &Entry, first: &[u8]) -> io::Result<()> {
        self.header(entry, &[], &Shape { kind: EntryType::Link, size: 0, link: first, sparse: None })
    }

    /// Begins a file, of which `data` holds something, in order; the bytes of all of it must follow by [`Self::content`].
    pub fn file(&mut self, entry: &Entry, attributes: &[Attribute], data: &[Stretch]) -> io::Result<()> {
        let Kind::File { size, .. } = entry.kind else { return Err(misuse("only a file has content")) };
        let kind = EntryType::Regular;
        if !has_holes(data, size) {
            self.header(entry, attributes, &Shape { kind, size, link: b"", sparse: None })?;
            (self.left, self.padding) = (size, padding(size));
            return Ok(());
        }
        let map = map_of(data, size);
        let bytes: u64 = data.iter().map(|stretch| stretch.length).sum();
        let stored = map.len() as u64 + bytes;
        self.header(entry, attributes, &Shape { kind, size: stored, link: b"", sparse: Some(size) })?;
        (self.left, self.padding) = (bytes, padding(bytes));
        self.out.write_all(&map)
    }

    /// The next bytes of the file that was begun.
    pub fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left =
            self.left.checked_sub(bytes.len() as u64).ok_or_else(|| misuse("more content than announced"))?;
        self.out.write_all(bytes)?;
        if self.left == 0 {
            self.out.write_all(&[0; BLOCK][..std::mem::take(&mut self.padding)])?;
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.must_be_whole()?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn must_be_whole(&self) -> io::Result<()> {
        if self.left == 0 { Ok(()) } else { Err(misuse("less content than announced")) }
    }

    fn header(&mut self, entry: &Entry, attributes: &[Attribute], shape: &Shape<'_>) -> io::Result<()> {
        self.must_be_whole()?;
        let mut name = entry.path.clone();
        if shape.kind.is_dir() {
            name.push(b'/');
        }
        let records = records(entry, attributes, shape, &name);
        if !records.is_empty() {
            let mut header = Header::new_ustar();
            put(&mut header.as_old_mut().name, b"././@PaxHeader");
            header.set_entry_type(EntryType::XHeader);
            header.set_size(records.len() as u64);
            header.set_mode(0o600);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_cksum();
            self.out.write_all(header.as_bytes())?;
            self.out.write_all(&records)?;
            self.out.write_all(&[0; BLOCK][..padding(records.len() as u64)])?;
        }
        self.out.write_all(ustar(entry, shape, &name)?.as_bytes())
    }
}

/// The header as of 1988; what has no room in it is in the records before it.
fn ustar(entry: &Entry, shape: &Shape<'_>, name: &[u8]) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    let fields = header.as_old_mut();
    // A tar that knows nothing of holes does not write something useless under the right name.
    let shown = if shape.sparse.is_some() { [b"GNUSparseFile.0/", name].concat() } else { name.to_vec() };
    put(&mut fields.name, &shown);
    put(&mut fields.linkname, shape.link);
    header.set_entry_type(shape.kind);
    header.set_size(if shape.size > LARGEST_SIZE { 0 } else { shape.size });
    header.set_mode(entry.mode);
    let id = |id| u64::from(if id > LARGEST_ID { 0 } else { id });
    header.set_uid(id(entry.uid));
    header.set_gid(id(entry.gid));
    header.set_mtime(u64::try_from(entry.mtime.seconds.clamp(0, LARGEST_TIME)).unwrap_or(0));
    let (major, minor) = match entry.kind {
        Kind::Char { major, minor } | Kind::Block { major, minor } => (major, minor),
        _ => (0, 0),
    };
    header.set_device_major(major)?;
    header.set_device_minor(minor)?;
    if let Some(fields) = header.as_ustar_mut() {
        put(&mut fields.uname, owner(&entry.uname));
        put(&mut fields.gname, owner(&entry.gname));
    }
    header.set_cksum();
    Ok(header)
}

/// A name of an owner where it has room, with the zero that ends it.
fn owner(name: &Option<Vec<u8>>) -> &[u8] {
    name.as_deref().filter(|name| name.len() < OWNER).unwrap_or_default()
}

/// The extended records: what the header has no room for.
fn records(entry: &Entry, attributes: &[Attribute], shape: &Shape<'_>, name: &[u8]) -> Vec<u8> {
    const ROOM: usize = 100;
    let mut out = Vec::new();
    let mut add = |key: &str, value: &[u8]| record(&mut out, key.as_bytes(), value);
    if let Some(size) = shape.sparse {
        add(SPARSE_MAJOR, b"1");
        add(SPARSE_MINOR, b"0");
        add(SPARSE_NAME, name);
        add(SPARSE_SIZE, size.to_string().as_bytes());
    } else if name.len() > ROOM {
        add(PATH, name);
    }
    if shape.link.len() > ROOM {
        add(LINK, shape.link);
    }
    if shape.size > LARGEST_SIZE {
        add(SIZE, shape.size.to_string().as_bytes());
    }
    for (key, id) in [(UID, entry.uid), (GID, entry.gid)] {
        if id > LARGEST_ID {
            add(key, id.to_string().as_bytes());
        }
    }
    for (key, name) in [(UNAME, &entry.uname), (GNAME, &entry.gname)] {
        if let Some(name) = name.as_ref().filter(|name| name.len() >= OWNER) {
            add(key, name);
        }
    }
    if entry.mtime.nanoseconds != 0 || !(0..=LARGEST_TIME).contains(&entry.mtime.seconds) {
        add(MTIME, time(entry.mtime).as_bytes());
    }
    for (name, value) in attributes {
        let acl = acl::RECORDS.iter().find(|(attribute, _)| attribute == name);
        if let Some((key, text)) = acl.and_then(|(_, key)| Some((key, acl::text(value)?))) {
            record(&mut out, key.as_bytes(), text.as_bytes());
        }
        record(&mut out, &[ATTRIBUTE, escape(name).as_slice()].concat(), value);
    }
    out
}

/// A record begins with its own length, the digits of the length included.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} ").as_bytes());
    for part in [key, b"=", value, b"\n"] {
        out.extend_from_slice(part);
    }
}

/// An attribute's name as GNU tar writes it: `=` would end the key.
fn escape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'%' => out.extend_from_slice(b"%25"),
            b'=' => out.extend_from_slice(b"%3D"),
            other => out.push(*other),
        }
    }
    out
}

/// A time as a decimal number; before 1970 the fraction counts away from zero, as the number does.
fn time(time: Time) -> String {
    let (whole, fraction) = (time.seconds, time.nanoseconds);
    if fraction == 0 {
        whole.to_string()
    } else if whole >= 0 {
        format!("{whole}.{fraction:09}")
    } else {
        format!("-{}.{:09}", (whole + 1).unsigned_abs(), 1_000_000_000 - fraction)
    }
}

/// GNU's map of a file with holes, filled up to a block: how many stretches, then start and length of each.
fn map_of(data: &[Stretch], size: u64) -> Vec<u8> {
    // The end is marked by an empty stretch where a hole comes last.
    let ends = data.last().is_some_and(|last| last.start + last.length == size);
    let end = (!ends).then_some(Stretch { start: size, length: 0 });
    let mut text = format!("{}\n", data.len() + usize::from(!ends));
    for stretch in data.iter().chain(&end) {
        text.push_str(&format!("{}\n{}\n", stretch.start, stretch.length));
    }
    let mut map = text.into_bytes();
    map.resize(map.len() + padding(map.len() as u64), 0);
    map
}

fn put(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

fn misuse(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
