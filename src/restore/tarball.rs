//! Generations in tars, as somebody made them by hand: `tar`, gzip or zstd.
//!
//! A tar is anybody's: only folders, regular files and further names of files before them are taken out, each name
//! checked, into a folder that only we can reach. What is in them is proven afterwards like any other generation.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{BufReader, Read, Seek as _, Write as _},
    os::unix::ffi::OsStrExt as _,
};

use super::{
    error::{Error, Result},
    write_out::split,
};
use crate::{
    manifest::{GenerationId, generation, names},
    sys::{self, Dir, show, signals},
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
}

/// A folder of a tar that is or was to be a generation.
#[derive(Debug)]
pub struct Inner {
    /// Its path in the tar; empty for the top.
    pub folder: Vec<u8>,
    /// Its `generation.toml`.
    pub text: Option<Vec<u8>>,
    /// Bytes of the files in it.
    pub bytes: u64,
}

type Open<'f> = tar::Archive<Box<dyn Read + 'f>>;

fn open(mut file: &File, format: Format) -> Result<Open<'_>> {
    let damaged = |e: std::io::Error| Error::Damaged(format!("it cannot be unpacked: {e}"));
    file.rewind().map_err(damaged)?;
    let from = BufReader::with_capacity(1 << 17, file);
    let reader: Box<dyn Read + '_> = match format {
        Format::Plain => Box::new(from),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
        Format::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(from).map_err(damaged)?),
    };
    Ok(tar::Archive::new(reader))
}

/// A path as we take it: relative, without `.`; `None` for one that leads elsewhere.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> =
        path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    (!parts.contains(&b"..".as_slice()) && !path.contains(&0)).then(|| parts.join(&b'/'))
}

/// Reads a tar once and tells what it holds.
pub fn index(file: &File, format: Format) -> Result<Index> {
    let mut index = Index::default();
    let mut sizes: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut archive = open(file, format)?;
    let entries = archive.entries().map_err(|e| Error::Damaged(format!("it is no tar: {e}")))?;
    for entry in entries {
        signals::check()?;
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(e) => {
                index.cut = Some(format!("the tar is cut or damaged: {e}"));
                break;
            }
        };
        let Some(path) = clean(&entry.path_bytes()) else { continue };
        let (folder, name) = split(&path);
        if entry.header().entry_type().is_dir() {
            let last = split(&path).1.to_vec();
            if std::str::from_utf8(&last).is_ok_and(|n| n.parse::<GenerationId>().is_ok()) {
                index.inner(&path);
            }
        } else if name == names::GENERATION.as_bytes() && entry.size() <= generation::LIMIT {
            let mut text = Vec::new();
            let read = entry.read_to_end(&mut text);
            index.inner(folder).text = read.is_ok().then_some(text);
        }
        *sizes.entry(folder.to_vec()).or_default() += entry.size();
    }
    for inner in &mut index.found {
        inner.bytes = sizes.iter().filter(|(path, _)| is_within(path, &inner.folder)).map(|(_, n)| n).sum();
    }
    Ok(index)
}

impl Index {
    fn inner(&mut self, folder: &[u8]) -> &mut Inner {
        let at = self.found.iter().position(|inner| inner.folder == folder).unwrap_or_else(|| {
            self.found.push(Inner { folder: folder.to_vec(), text: None, bytes: 0 });
            self.found.len() - 1
        });
        &mut self.found[at]
    }
}

fn is_within(path: &[u8], above: &[u8]) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Takes all generations of a tar out into an empty folder of ours; gives the one at `folder`. A further name of a file may
/// lie in another generation of the same tar, so none is left out.
pub fn unpack(file: &File, format: Format, folder: &[u8], to: &Dir) -> Result<Dir> {
    let index = index(file, format)?;
    let mut archive = open(file, format)?;
    let cut = |e: std::io::Error| Error::Damaged(format!("the tar is cut or damaged: {e}"));
    for entry in archive.entries().map_err(cut)? {
        signals::check()?;
        let mut entry = entry.map_err(cut)?;
        let Some(path) = clean(&entry.path_bytes()) else { continue };
        if !index.found.iter().any(|inner| is_within(&path, &inner.folder)) {
            continue;
        }
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            make(to, &path)?;
        } else if kind.is_hard_link() {
            let first = entry.link_name_bytes().and_then(|name| clean(&name));
            let Some(first) = first else { continue };
            let from = to.descend(split(&first).0)?;
            from.link(OsStr::from_bytes(split(&first).1), &make(to, split(&path).0)?, name_of(&path))?;
        } else if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            write(&mut entry, &make(to, split(&path).0)?, name_of(&path))?;
        }
    }
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
    let mut file = dir.create_file(name, 0o400)?;
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
        file.write_all(&buffer[..n]).map_err(|e| sys::Error::new("write", dir.join(name), e))?;
    }
}
