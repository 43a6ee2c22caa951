//! Unpacking an archive below a folder, as if its members were entries of the manifest.
//!
//! The archive is proven as a whole before a single member is read, from a copy that nobody else can reach. It may still
//! be a hostile source's: names are checked by the reader, every folder is entered by handle, nothing is written through a
//! link or over something that is there, and memory is bounded. So nothing leaves the target, whatever it holds.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, BufReader, Seek as _},
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
};

use zstd::stream::read::Decoder;

use super::{
    selection::{Place, Places},
    write_out::{Error, Writer, split},
};
use crate::{
    manifest::{
        Entry, Kind,
        pax::{BadArchive, Body, Member, Reader, Stretch},
    },
    sys::{self, Dir, durable, random, signals},
};

type Archive<'f> = Reader<Decoder<'static, BufReader<&'f File>>>;

/// Why unpacking ended early.
enum Broken {
    /// This archive is not good; the others may be.
    Archive(String),
    /// Nothing can go on.
    Run(Error),
}

impl From<Error> for Broken {
    fn from(e: Error) -> Self {
        match e {
            Error::Sys(e) => e.into(),
            other => Self::Run(other),
        }
    }
}

impl From<sys::Error> for Broken {
    fn from(e: sys::Error) -> Self {
        if e.is_storage() { Self::Run(e.into()) } else { Self::Archive(e.to_string()) }
    }
}

impl From<BadArchive> for Broken {
    fn from(e: BadArchive) -> Self {
        Self::Archive(e.to_string())
    }
}

impl From<signals::Interrupted> for Broken {
    fn from(e: signals::Interrupted) -> Self {
        Self::Run(e.into())
    }
}

/// Files that are not wanted, of which another name is: their content comes with the first name only. They are written
/// aside, linked from there, and in the end the place aside is removed.
struct Aside {
    name: OsString,
    dir: Dir,
    wanted: HashSet<Vec<u8>>,
    written: HashMap<Vec<u8>, OsString>,
}

impl Writer<'_> {
    /// Unpacks the archive that an entry of the manifest stands for.
    pub(super) fn unpack(&mut self, entry: &Entry, places: &Places<'_>) -> Result<(), Error> {
        let Kind::File { digest, .. } = entry.kind else {
            self.damaged(entry, "it is no file");
            return Ok(());
        };
        let root = self.root()?.try_clone()?;
        let name = OsString::from(format!(".handover-archive-{}", random::hex(6)?));
        let Some(file) = self.proven(entry, &root, &name, digest)? else { return Ok(()) };
        durable::unlink_draft(&root, &name)?; // The open file stays, for us alone.
        match self.members(&file, &root, places) {
            Ok(()) => {}
            Err(Broken::Archive(why)) => {
                self.damaged(entry, &format!("not all of the archive was unpacked: {why}"));
            }
            Err(Broken::Run(e)) => return Err(e),
        }
        self.leave_to(1)
    }

    fn members(&mut self, file: &File, root: &Dir, places: &Places<'_>) -> Result<(), Broken> {
        let firsts = if places.are_all() { HashSet::new() } else { firsts(file, places)? };
        if firsts.is_empty() {
            return self.all(file, places, None);
        }
        let name = OsString::from(format!(".handover-links-{}", random::hex(6)?));
        let dir = root.create_dir(&name, 0o700)?;
        let mut aside = Aside { name, dir, wanted: firsts, written: HashMap::new() };
        let done = self.all(file, places, Some(&mut aside));
        durable::remove_tree(root, &aside.name)?;
        done
    }

    fn all(&mut self, file: &File, places: &Places<'_>, mut aside: Option<&mut Aside>) -> Result<(), Broken> {
        let mut archive = open(file)?;
        while let Some(member) = archive.next()? {
            signals::check()?;
            match places.inside(&member.entry.path) {
                Place::At { path, way } => {
                    self.member(&member, &mut archive, (path, places), aside.as_deref())?;
                    self.written.entries += u64::from(!way);
                }
                _ => {
                    if let Some(aside) = aside.as_deref_mut() {
                        self.aside(&member, &mut archive, aside)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn member(
        &mut self,
        member: &Member,
        archive: &mut Archive<'_>,
        (path, places): (&[u8], &Places<'_>),
        aside: Option<&Aside>,
    ) -> Result<(), Broken> {
        let dir = self.enter(split(path).0)?;
        let name = OsStr::from_bytes(split(path).1);
        match &member.body {
            Body::None => Ok(self.without_content(&member.entry, &member.attributes, &dir, path)?),
            Body::Data(data) => {
                let size = self.content(member, data, archive, &dir, name)?;
                self.count(size);
                Ok(())
            }
            Body::Same(first) => {
                match aside.and_then(|aside| aside.written.get(first).map(|name| (&aside.dir, name))) {
                    Some((aside, written)) => aside.link(written, &dir, name)?,
                    None => {
                        let Place::At { path: first, .. } = places.inside(first) else {
                            return Err(Broken::Archive(
                                "a file is to be another one that is not there".to_owned(),
                            ));
                        };
                        let (parent, first) = split(first);
                        self.root()?.descend(parent)?.link(OsStr::from_bytes(first), &dir, name)?;
                    }
                }
                self.count(0);
                Ok(())
            }
        }
    }

    fn aside(&mut self, member: &Member, archive: &mut Archive<'_>, aside: &mut Aside) -> Result<(), Broken> {
        let Body::Data(data) = &member.body else { return Ok(()) };
        if !aside.wanted.remove(&member.entry.path) {
            return Ok(());
        }
        let name = OsString::from(aside.written.len().to_string());
        let size = self.content(member, data, archive, &aside.dir, &name)?;
        self.written.bytes += size;
        aside.written.insert(member.entry.path.clone(), name);
        Ok(())
    }

    /// Writes a file, its holes left out, with all its metadata; gives its size.
    fn content(
        &mut self,
        member: &Member,
        data: &[Stretch],
        archive: &mut Archive<'_>,
        dir: &Dir,
        name: &OsStr,
    ) -> Result<u64, Broken> {
        let Kind::File { size, .. } = member.entry.kind else {
            return Err(Broken::Archive("something that is no file has content".to_owned()));
        };
        let path = dir.join(name);
        let written = |e| sys::Error::new("write", &path, e);
        let file = dir.create_file(name, 0o600)?;
        file.set_len(size).map_err(written)?;
        let mut buffer = vec![0; 256 * 1024];
        for stretch in data {
            let (mut offset, end) = (stretch.start, stretch.start + stretch.length);
            while offset < end {
                signals::check()?;
                let want = usize::try_from(end - offset).map_or(buffer.len(), |l| l.min(buffer.len()));
                let n = archive.content(&mut buffer[..want]).map_err(BadArchive::from)?;
                if n == 0 {
                    return Err(BadArchive::from(io::Error::from(io::ErrorKind::UnexpectedEof)).into());
                }
                file.write_all_at(&buffer[..n], offset).map_err(written)?;
                self.progress.add_bytes(n as u64);
                offset += n as u64;
            }
        }
        self.open_metadata(&member.entry, &member.attributes, &file, &path)?;
        Ok(size)
    }
}

/// Reads an archive from its beginning.
fn open(mut file: &File) -> Result<Archive<'_>, BadArchive> {
    file.rewind()?;
    Ok(Reader::new(Decoder::with_buffer(BufReader::with_capacity(1 << 17, file))?))
}

/// Calls `see` with the path of each member of an archive; whether it could be read to its end.
pub(super) fn names(file: &File, see: &mut dyn FnMut(&[u8])) -> Result<bool, Error> {
    let Ok(mut archive) = open(file) else { return Ok(false) };
    loop {
        signals::check()?;
        match archive.next() {
            Ok(Some(member)) => see(&member.entry.path),
            Ok(None) => return Ok(true),
            Err(_) => return Ok(false),
        }
    }
}

/// Names of files that are not wanted, but of which another name is.
fn firsts(file: &File, places: &Places<'_>) -> Result<HashSet<Vec<u8>>, Broken> {
    let is_wanted = |path: &[u8]| matches!(places.inside(path), Place::At { .. });
    let mut found = HashSet::new();
    let mut archive = open(file)?;
    while let Some(member) = archive.next()? {
        signals::check()?;
        if let Body::Same(first) = member.body
            && is_wanted(&member.entry.path)
            && !is_wanted(&first)
        {
            found.insert(first);
        }
    }
    Ok(found)
}
