//! The manifest of a generation, proven: what it holds, what of it is missing, what it needs.
//!
//! The generation's folder may be anybody's: nothing in it is believed before its hash is the one that the seal stands
//! for, and the manifest is read by the strict reader, so that no path leads out of the target.

use std::{collections::HashSet, ffi::OsStr, fs::File, io::BufReader, os::unix::ffi::OsStrExt as _};

use rustix::fs::{FileType, Stat};

use super::{
    error as restore,
    need::Need,
    selection::{Place, Places},
    write_out::{Error, Writer, Written, split},
};
use crate::{
    config::Reserve,
    manifest::{
        Digest, Entry, Generation, Item, Kind, Limits,
        attributed::Attributed,
        entry::{self, Links},
        mtree, names, xattrs,
    },
    sys::{self, Dir, copy, progress::Progress, signals},
};

/// Refuses what would take more than half of the room for temporary files: it is anybody's, and only looked at.
fn has_room(size: u64, name: &str) -> Result<(), Error> {
    let need = Need { bytes: size, inodes: 0 };
    need.check(&Dir::open(std::env::temp_dir())?, Reserve::Bytes(size), &format!("a look at {name}")).map_err(
        |e| match e {
            restore::Error::NoRoom { text } => Error::NoRoom(text),
            restore::Error::Sys(e) => e.into(),
            e => Error::Damaged(e.to_string()),
        },
    )
}

type Reader<'f> = Attributed<mtree::Reader<BufReader<&'f File>>, xattrs::Reader<BufReader<&'f File>>>;

/// A generation whose manifest and attributes are what its seal stands for. Both were copied to where nobody else can
/// reach while they were hashed: what was proven is what is read.
#[derive(Debug)]
pub struct Proven {
    data: Dir,
    manifest: File,
    attributes: File,
}

/// What is called with an entry, and with what its stored file is.
type See<'s> = &'s mut dyn FnMut(&Entry, Option<&Stat>) -> Result<(), Error>;

/// What is wanted of a generation; an archive is one file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Wanted {
    /// Entries.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
}

impl Proven {
    /// Proves the manifest and the attributes in a generation's folder against its `generation.toml`.
    pub fn new(dir: &Dir, generation: &Generation) -> Result<Self, Error> {
        let prove = |name: &'static str, sum: Digest| {
            let from = dir.open_file(name)?;
            let size = from.metadata().map_err(|e| sys::Error::new("look at", dir.join(name), e))?.len();
            has_room(size, name)?;
            let copy = sys::dir::private_file()?;
            let content =
                copy::hash_and_copy(&from, Some(&copy), &dir.join(name), &mut |_| signals::check())?;
            if Digest(content.sha256) == sum {
                Ok(copy)
            } else {
                Err(Error::Damaged(format!("{name} is not what the seal stands for")))
            }
        };
        Ok(Self {
            data: dir.open_dir(names::DATA)?,
            manifest: prove(names::MANIFEST, generation.sha256.manifest)?,
            attributes: prove(names::XATTRS, generation.sha256.xattrs)?,
        })
    }

    fn entries(&self) -> Result<Reader<'_>, Error> {
        let from_start = |mut file: &'_ File, name| {
            std::io::Seek::rewind(&mut file).map_err(|e| sys::Error::new("read", name, e))
        };
        from_start(&self.manifest, names::MANIFEST)?;
        from_start(&self.attributes, names::XATTRS)?;
        Ok(Attributed::new(
            mtree::Reader::new(BufReader::with_capacity(1 << 18, &self.manifest), Limits::NONE),
            xattrs::Reader::new(BufReader::with_capacity(1 << 18, &self.attributes), Limits::NONE),
        ))
    }

    /// Opens what is stored for a path of the manifest; its content is not proven by that.
    pub fn open(&self, path: &[u8]) -> Result<File, Error> {
        let stored = entry::stored_path(path);
        let (parent, name) = split(&stored);
        Ok(self.data.descend(parent)?.open_file(OsStr::from_bytes(name))?)
    }

    /// Counts what is wanted.
    pub fn count(&self, places: &Places<'_>) -> Result<Wanted, Error> {
        let mut wanted = Wanted::default();
        self.each(&mut |entry| {
            if let Place::At { way: false, .. } | Place::Archive = places.of(&entry.path) {
                wanted.entries += 1;
                if let Kind::File { size, .. } = entry.kind {
                    wanted.files += 1;
                    wanted.bytes = wanted.bytes.saturating_add(size);
                }
            }
            Ok(())
        })?;
        Ok(wanted)
    }

    /// What writing out what is wanted needs: a file with several names once, a file with holes what is stored of it. What is in
    /// an archive is not known before it is unpacked: it counts as large as it is stored.
    pub fn need(&self, places: &Places<'_>) -> Result<Need, Error> {
        let (mut need, mut linked) = (Need::default(), HashSet::new());
        self.each_stored(&mut |entry, stat| {
            if !matches!(places.of(&entry.path), Place::At { .. } | Place::Archive) {
                return Ok(());
            }
            let Kind::File { size, links, .. } = entry.kind else {
                need.add(0);
                return Ok(());
            };
            let is_first = match links {
                Links::Many { inode, .. } => linked.insert(inode),
                _ => true,
            };
            if is_first {
                let held = stat.map_or(size, |s| u64::try_from(s.st_blocks).unwrap_or(0).saturating_mul(512));
                need.add(size.min(held));
            }
            Ok(())
        })?;
        Ok(need)
    }

    /// Tells what is not there or has another size, by its path in the manifest; no content is read.
    pub fn missing(&self, tell: &mut dyn FnMut(&[u8], &str)) -> Result<(), Error> {
        self.each_stored(&mut |entry, stat| {
            let Kind::File { size, .. } = entry.kind else { return Ok(()) };
            match stat {
                None => tell(&entry.path, "it is missing"),
                Some(stat) if !FileType::from_raw_mode(stat.st_mode).is_file() => {
                    tell(&entry.path, "it is no file");
                }
                Some(stat) if u64::try_from(stat.st_size) != Ok(size) => {
                    tell(&entry.path, "it has another size");
                }
                Some(_) => {}
            }
            Ok(())
        })
    }

    /// Calls `see` with each entry of the manifest, and with what its stored file is, if it is one and is there.
    pub fn each_stored(&self, see: See<'_>) -> Result<(), Error> {
        let mut folder: Option<(Vec<u8>, Option<Dir>)> = None;
        self.each(&mut |entry| {
            if !matches!(entry.kind, Kind::File { .. }) {
                return see(entry, None);
            }
            let stored = entry::stored_path(&entry.path);
            let (parent, name) = split(&stored);
            if folder.as_ref().is_none_or(|(known, _)| known != parent) {
                folder = Some((parent.to_vec(), self.data.descend(parent).ok()));
            }
            let stat = match &folder {
                Some((_, Some(dir))) => dir.stat_if_any(OsStr::from_bytes(name))?,
                _ => None,
            };
            see(entry, stat.as_ref())
        })
    }

    /// Calls `see` with each entry of the manifest, in its order.
    pub fn each(&self, see: &mut dyn FnMut(&Entry) -> Result<(), Error>) -> Result<(), Error> {
        for item in self.entries()? {
            signals::check()?;
            let (item, _) = item?;
            if let Some(entry) = item.entry() {
                see(entry)?;
            }
        }
        Ok(())
    }

    /// Writes what is wanted below `target`, which holds nothing that is in the way.
    pub fn write_out(
        &self,
        places: &Places<'_>,
        target: &Dir,
        progress: &Progress,
    ) -> Result<Written, Error> {
        let mut writer = Writer::new(self.data.try_clone()?, target.try_clone()?, progress);
        for item in self.entries()? {
            signals::check()?;
            let (item, attributes) = item?;
            if let Item::Entry(entry) = item {
                writer.entry(&entry, &attributes, places)?;
            }
        }
        writer.leave_to(0)?;
        Ok(writer.written)
    }
}
