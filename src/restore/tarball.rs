//! Generations in tars, as somebody made them by hand: `tar`, gzip or zstd.
//!
//! A tar is anybody's: only folders, regular files and further names of files before them are taken out, each name
//! checked, into a folder that only we can reach. What is in them is proven afterwards like any other generation. A few
//! bytes of it can stand for very many, so whatever is kept in memory has a bound.

use std::{
    cell::Cell,
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{self, BufReader, Read, Seek as _},
    os::unix::ffi::OsStrExt as _,
    rc::Rc,
};

use super::{
    error::{Error, Result},
    need::Need,
    write_out::split,
};
use crate::{
    config::Reserve,
    manifest::{GenerationId, generation, names},
    sys::{Dir, durable, show, signals},
};

/// How a tar is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Not at all.
    Plain,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

impl Format {
    /// By the end of a file's name.
    pub fn of(name: &OsStr) -> Option<Self> {
        let ends = |end: &str| name.as_bytes().to_ascii_lowercase().ends_with(end.as_bytes());
        match () {
            () if ends(".tar") => Some(Self::Plain),
            () if ends(".tar.gz") || ends(".tgz") => Some(Self::Gzip),
            () if ends(".tar.zst") || ends(".tzst") => Some(Self::Zstd),
            () => None,
        }
    }
}

/// What a tar holds.
#[derive(Debug, Default)]
pub struct Index {
    /// Folders that are or were to be generations.
    pub found: Vec<Inner>,
    /// Why it ends too early.
    pub cut: Option<String>,
    /// What all of them need unpacked: a further name of a file may lie in another one, so none is left out.
    pub need: Need,
    /// The same of the files that describe them.
    pub own: Need,
}

/// A folder of a tar that is or was to be a generation.
#[derive(Debug)]
pub struct Inner {
    /// Its path in the tar; empty for the top.
    pub folder: Vec<u8>,
    /// Its `generation.toml`.
    pub text: Option<Vec<u8>>,
}

/// A generation in a tar.
#[derive(Debug)]
pub struct Packed {
    /// The tar, open.
    pub file: File,
    /// How it is packed.
    pub format: Format,
    /// The folder in it.
    pub folder: Vec<u8>,
    /// What the tar needs unpacked.
    pub need: Need,
    /// What the files in it need that describe generations.
    pub own: Need,
}

impl Packed {
    /// Takes all out into an empty folder of ours, and gives the generation's. Room for it was asked for before.
    pub fn unpack(&self, to: &Dir) -> Result<Dir> {
        unpack(&self.file, self.format, &self.folder, to, &|_| true)
    }

    /// Takes out only what describes it, for a look; never more than half of the room there.
    pub fn describe(&self, to: &Dir) -> Result<Dir> {
        self.own.check(to, Reserve::Bytes(self.own.bytes), "a look at what describes the generation")?;
        let dir = unpack(&self.file, self.format, &self.folder, to, &describes)?;
        dir.ensure_dir(names::DATA, 0o700)?;
        Ok(dir)
    }
}

/// Whether a file of this name describes a generation, beside its `generation.toml`.
fn describes(name: &[u8]) -> bool {
    name == names::MANIFEST.as_bytes() || name == names::XATTRS.as_bytes()
}

/// Names, extended headers and maps of holes of one member.
const HEADERS: u64 = 2 << 20;
/// A path in a tar.
const PATH: usize = 8192;
/// Generations in one tar.
const GENERATIONS: usize = 1000;
/// Bytes of their `generation.toml` together.
const TEXTS: u64 = 64 << 20;
/// How deep the folder of a generation may lie.
const DEPTH: usize = 4;
/// Folders of that depth.
const FOLDERS: usize = 100_000;

/// The bytes of a tar, up to a place that moves on from member to member: what comes before the content of a member is
/// kept in memory, whatever size it gives itself.
struct Bounded<'f> {
    from: Box<dyn Read + 'f>,
    at: Rc<Cell<u64>>,
    end: Rc<Cell<u64>>,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.get().saturating_sub(self.at.get())).unwrap_or(usize::MAX);
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other("the headers of a member are larger than 2 MiB"));
        }
        let want = buffer.len().min(left);
        let n = self.from.read(&mut buffer[..want])?;
        self.at.set(self.at.get() + n as u64);
        Ok(n)
    }
}

/// A tar that is read from its beginning.
struct Open<'f> {
    archive: tar::Archive<Bounded<'f>>,
    at: Rc<Cell<u64>>,
    end: Rc<Cell<u64>>,
}

type Member<'a, 'f> = tar::Entry<'a, Bounded<'f>>;

impl<'f> Open<'f> {
    /// Calls `see` with each member that has a path we take, and that path; ends early where `see` says so by an error.
    fn each(&mut self, see: &mut dyn FnMut(&mut Member<'_, 'f>, Vec<u8>) -> Result<()>) -> Result<()> {
        let cut = |e: io::Error| Error::Damaged(format!("the tar is cut or damaged: {e}"));
        for member in self.archive.entries().map_err(cut)? {
            signals::check()?;
            let mut member = member.map_err(cut)?;
            let header = member.header();
            let is_sparse = header.entry_type().is_gnu_sparse();
            let size = if is_sparse { header.entry_size().map_err(cut)? } else { member.size() };
            self.end.set(self.at.get().saturating_add(size).saturating_add(HEADERS));
            let path = member.path_bytes();
            if path.len() > PATH {
                return Err(Error::Damaged(format!("a name in it is longer than {PATH} bytes")));
            }
            if let Some(path) = clean(&path) {
                see(&mut member, path)?;
            }
        }
        Ok(())
    }
}

fn open(mut file: &File, format: Format) -> Result<Open<'_>> {
    let damaged = |e: std::io::Error| Error::Damaged(format!("it cannot be unpacked: {e}"));
    file.rewind().map_err(damaged)?;
    let from = BufReader::with_capacity(1 << 17, file);
    let reader: Box<dyn Read + '_> = match format {
        Format::Plain => Box::new(from),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
        Format::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(from).map_err(damaged)?),
    };
    let (at, end) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(HEADERS)));
    let bounded = Bounded { from: reader, at: Rc::clone(&at), end: Rc::clone(&end) };
    Ok(Open { archive: tar::Archive::new(bounded), at, end })
}

/// A path as we take it: relative, without `.`; `None` for one that leads elsewhere.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> =
        path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    (!parts.contains(&b"..".as_slice()) && !path.contains(&0)).then(|| parts.join(&b'/'))
}

/// Reads a tar once and tells what it holds.
pub fn index(file: &File, format: Format) -> Result<Index> {
    let mut indexing = Indexing::default();
    match open(file, format)?.each(&mut |member, path| indexing.member(member, &path)) {
        Err(Error::Damaged(why)) => indexing.index.cut = Some(why),
        other => other?,
    }
    let Indexing { mut index, needs, .. } = indexing;
    let is_taken = |path: &[u8]| index.found.iter().any(|inner| is_within(path, &inner.folder));
    let mut sums = [Need::default(), Need::default()];
    for (_, (need, own)) in needs.iter().filter(|(path, _)| is_taken(path)) {
        sums[0].and(*need);
        sums[1].and(*own);
    }
    [index.need, index.own] = sums;
    Ok(index)
}

#[derive(Default)]
struct Indexing {
    index: Index,
    /// By the upper part of their paths: no generation lies deeper.
    needs: HashMap<Vec<u8>, (Need, Need)>,
    texts: u64,
}

impl Indexing {
    fn member(&mut self, member: &mut Member<'_, '_>, path: &[u8]) -> Result<()> {
        let (folder, name) = split(path);
        if member.header().entry_type().is_dir() {
            if std::str::from_utf8(name).is_ok_and(|n| n.parse::<GenerationId>().is_ok()) {
                self.inner(path)?;
            }
        } else if name == names::GENERATION.as_bytes() && member.size() <= generation::LIMIT {
            self.texts += member.size();
            if self.texts > TEXTS {
                return Err(Error::Damaged(format!("its {} are larger than 64 MiB", names::GENERATION)));
            }
            let mut text = Vec::new();
            let read = member.read_to_end(&mut text);
            if let Some(inner) = self.inner(folder)? {
                inner.text = read.is_ok().then_some(text);
            }
        }
        let upper: Vec<u8> = folder.split(|b| *b == b'/').take(DEPTH).collect::<Vec<_>>().join(&b'/');
        if self.needs.len() >= FOLDERS && !self.needs.contains_key(&upper) {
            return Err(Error::Damaged(format!("it has more than {FOLDERS} folders beside each other")));
        }
        let (need, own) = self.needs.entry(upper).or_default();
        need.add(member.size());
        if describes(name) {
            if member.header().entry_type().is_gnu_sparse() {
                return Err(Error::Damaged(format!("a {} in it is made of holes", show(name))));
            }
            own.add(member.size());
        }
        Ok(())
    }

    /// The generation in a folder; `None` where it lies too deep.
    fn inner(&mut self, folder: &[u8]) -> Result<Option<&mut Inner>> {
        if folder.split(|b| *b == b'/').count() > DEPTH {
            return Ok(None);
        }
        let found = &mut self.index.found;
        let at = match found.iter().position(|inner| inner.folder == folder) {
            Some(at) => at,
            None if found.len() >= GENERATIONS => {
                return Err(Error::Damaged(format!("it holds more than {GENERATIONS} generations")));
            }
            None => {
                found.push(Inner { folder: folder.to_vec(), text: None });
                found.len() - 1
            }
        };
        Ok(found.get_mut(at))
    }
}

fn is_within(path: &[u8], above: &[u8]) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Takes all generations of a tar out into an empty folder of ours, of their files those whose name `keep` takes; gives the one
/// at `folder`. A further name of a file may lie in another generation of the same tar, so none is left out.
fn unpack(file: &File, format: Format, folder: &[u8], to: &Dir, keep: &dyn Fn(&[u8]) -> bool) -> Result<Dir> {
    let index = index(file, format)?;
    open(file, format)?.each(&mut |member, path| {
        let kind = member.header().entry_type();
        if !index.found.iter().any(|inner| is_within(&path, &inner.folder)) {
            return Ok(());
        }
        if kind.is_dir() {
            return if keep(b"") { make(to, &path).map(drop) } else { Ok(()) };
        }
        if !keep(split(&path).1) {
            return Ok(());
        }
        if kind.is_hard_link() {
            let first = member.link_name_bytes().and_then(|name| clean(&name));
            let Some(first) = first else { return Ok(()) };
            let from = to.descend(split(&first).0)?;
            from.link(OsStr::from_bytes(split(&first).1), &make(to, split(&path).0)?, name_of(&path))?;
        } else if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            write(member, &make(to, split(&path).0)?, name_of(&path))?;
        }
        Ok(())
    })?;
    Ok(to.descend(folder)?)
}

fn name_of(path: &[u8]) -> &OsStr {
    OsStr::from_bytes(split(path).1)
}

fn make(to: &Dir, path: &[u8]) -> Result<Dir> {
    let mut dir = to.try_clone()?;
    for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
        dir = dir.ensure_dir(OsStr::from_bytes(part), 0o700)?;
    }
    Ok(dir)
}

fn write(from: &mut impl Read, dir: &Dir, name: &OsStr) -> Result<()> {
    let file = dir.create_file(name, 0o400)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        signals::check()?;
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) => {
                let name = show(name.as_bytes());
                return Err(Error::Damaged(format!("{name} cannot be taken out of the tar: {e}")));
            }
        };
        durable::write_all(&file, &dir.join(name), &buffer[..n])?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use tar::{EntryType, Header};

    fn header(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path("20261123T030000Z/x").unwrap();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        header
    }

    /// A packed tar of these members, each as large as it says, all of zeros.
    fn packed(members: &[Header]) -> File {
        let file = tempfile::tempfile().unwrap();
        let mut out = zstd::stream::write::Encoder::new(&file, 1).unwrap();
        for member in members {
            out.write_all(member.as_bytes()).unwrap();
            let size = member.entry_size().unwrap().min(64 << 20).next_multiple_of(512);
            io::copy(&mut io::repeat(0).take(size), &mut out).unwrap();
        }
        out.finish().unwrap();
        file
    }

    #[test]
    fn a_name_that_would_fill_memory_is_where_the_tar_ends() {
        for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
            let bomb = packed(&[header(EntryType::Regular, 1000), header(kind, 64 << 20)]);
            let index = index(&bomb, Format::Zstd).unwrap();
            let cut = index.cut.unwrap_or_default();
            assert!(cut.contains("larger than 2 MiB"), "{kind:?}: {cut}");
        }
        let whole = packed(&[header(EntryType::Regular, 3 << 20), header(EntryType::Regular, 1000)]);
        assert_eq!(index(&whole, Format::Zstd).unwrap().cut, None, "content has no such bound");
    }

    #[test]
    fn sizes_that_overflow_are_no_sum() {
        let folder = header(EntryType::Directory, 0);
        let huge = packed(&[folder, header(EntryType::Regular, u64::MAX - 1024)]);
        assert!(index(&huge, Format::Zstd).unwrap().cut.is_some());
    }
}
