//! What could be restored: generations in a folder, in whatever shape somebody put them there.
//!
//! The folder may be the transport user's or anybody's. Nothing is believed but what a hash proves, no link is followed,
//! and nothing is written there.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::PathBuf};

use rustix::fs::FileType;

use super::{
    error::{Error, Result},
    pick::order,
    proven::Proven,
    tarball::{self, Format, Packed},
};
use crate::{
    config::Reserve,
    manifest::{Digest, Generation, GenerationId, generation, names},
    store::Found,
    sys::{self, Dir, durable, random, show, signals},
};

/// How deep folders are looked into.
const DEPTH: usize = 4;

/// Something that could be restored, or that was to be and is torn.
#[derive(Debug)]
pub struct Candidate {
    /// Its place, for people.
    pub shown: PathBuf,
    /// Its place.
    pub place: Place,
    /// The id, by its `generation.toml` or, without one, by its name.
    pub id: GenerationId,
    /// What it says of itself; `None` without a good `generation.toml`.
    pub found: Option<Found>,
    /// How much of it was read so far.
    pub condition: Condition,
}

/// Where a candidate is.
#[derive(Debug)]
pub enum Place {
    /// A folder, and its name in the folder that was looked through, if it lies directly there.
    Folder(Dir),
    /// A folder in a tar.
    Tar(Packed),
}

/// What is known of a candidate's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Nothing of its content was looked at.
    Unread,
    /// Every file is there and has its size; no content was read.
    Unverified,
    /// Every hash is the one that the seal stands for.
    Whole,
    /// Something is missing or wrong.
    Torn(Vec<Torn>),
}

/// A piece that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The element; `None` if the generation cannot be judged at all.
    pub element: Option<Vec<u8>>,
    /// What, and why.
    pub text: String,
}

/// What was found in a place.
#[derive(Debug, Default)]
pub struct Catch {
    /// Candidates, the newest first.
    pub candidates: Vec<Candidate>,
    /// What else lies there, with the reason why it is no candidate.
    pub foreign: Vec<String>,
}

impl Candidate {
    /// Torn pieces that matter to a choice of elements (all, if the list is empty).
    pub fn torn(&self, elements: &[sys::name::Name]) -> Vec<&str> {
        let Condition::Torn(torn) = &self.condition else { return Vec::new() };
        let matters = |t: &&Torn| {
            t.element.as_ref().is_none_or(|e| {
                elements.is_empty()
                    || elements.iter().any(|wanted| wanted.as_str().as_bytes() == e.as_slice())
            })
        };
        torn.iter().filter(matters).map(|t| t.text.as_str()).collect()
    }

    /// Looks whether all is there: the files that describe it by their hashes, content by its size.
    pub fn look(&mut self) -> Result<()> {
        let (Place::Folder(dir), Some(found), Condition::Unread) =
            (&self.place, &self.found, &self.condition)
        else {
            return Ok(());
        };
        self.condition = match missing(dir, &found.generation) {
            Ok(torn) if torn.is_empty() => Condition::Unverified,
            Ok(torn) => Condition::Torn(torn),
            Err(e @ Error::Interrupted(_)) => return Err(e),
            Err(e) => Condition::Torn(vec![Torn { element: None, text: e.to_string() }]),
        };
        Ok(())
    }

    /// Reads all of it and compares every hash; a tar is unpacked for that to where temporary files are, and removed again.
    /// Gives why that could not be done, where it could not: then nothing is known of it.
    pub fn verify(&mut self) -> Result<Option<Error>> {
        self.look()?;
        let read = match (&self.place, &self.condition) {
            (Place::Folder(dir), Condition::Unverified) => read(dir),
            (Place::Tar(tar), Condition::Unread) => unpacked(tar),
            _ => return Ok(None),
        };
        let torn = match read {
            Ok(torn) => torn,
            Err(e @ Error::NoRoom { .. }) => return Ok(Some(e)),
            Err(Error::Sys(e)) if e.is_storage() && matches!(self.place, Place::Tar(_)) => {
                return Ok(Some(e.into()));
            }
            Err(Error::Damaged(text)) => vec![Torn { element: None, text }],
            Err(e) => return Err(e),
        };
        self.condition = if torn.is_empty() { Condition::Whole } else { Condition::Torn(torn) };
        Ok(None)
    }
}

/// What is missing or wrong in a generation's folder, by reading all of it.
fn read(dir: &Dir) -> Result<Vec<Torn>> {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(dir)));
    let effort = crate::store::prove::Effort::quiet(2);
    let report = crate::store::verify::verify_path(path.as_ref(), &effort)?;
    let torn = report.own.iter().map(|bad| Torn { element: None, text: bad.to_string() });
    let torn = torn.chain(report.content.iter().map(|bad| Torn {
        element: bad.path.split(|b| *b == b'/').next().map(<[u8]>::to_vec),
        text: bad.to_string(),
    }));
    Ok(torn.collect())
}

fn unpacked(tar: &Packed) -> Result<Vec<Torn>> {
    let above = Dir::open(std::env::temp_dir())?;
    tar.need.check(&above, Reserve::Bytes(0), "what is in the tar")?;
    let name = format!(".handover-{}", random::hex(6)?);
    let to = above.create_private(&name)?;
    let torn = tar.unpack(&to).and_then(|dir| read(&dir));
    durable::remove_tree(&above, &name)?;
    torn
}

fn missing(dir: &Dir, generation: &Generation) -> Result<Vec<Torn>> {
    let proven = Proven::new(dir, generation)?;
    let mut torn = Vec::new();
    proven.missing(&mut |path: &[u8], why| {
        let element = path.split(|b| *b == b'/').next().map(<[u8]>::to_vec);
        if torn.len() < 100 {
            torn.push(Torn { element, text: format!("{}: {why}", show(path)) });
        }
    })?;
    Ok(torn)
}

/// Looks through a folder: a generation itself, or a folder that holds generations or tars of them, in folders or not.
pub fn look_through(dir: &Dir) -> Result<Catch> {
    let mut catch = Catch::default();
    if dir.stat_if_any(names::GENERATION)?.is_some() {
        let name = dir.path().file_name().map(OsStr::to_owned).unwrap_or_default();
        catch.generation(dir.try_clone()?, &name);
    } else {
        catch.folder(dir, 0)?;
    }
    order(&mut catch.candidates);
    Ok(catch)
}

/// Looks into a tar.
pub fn look_into(dir: &Dir, name: &OsStr) -> Result<Catch> {
    let mut catch = Catch::default();
    match Format::of(name) {
        Some(format) => catch.tar(dir, name, format)?,
        None => {
            return Err(Error::refused(
                format!("{} is neither a folder nor a tar", show(dir.join(name).as_os_str().as_bytes())),
                "name a generation's folder, a folder that holds some, or a .tar, .tar.gz or .tar.zst of one",
            ));
        }
    }
    order(&mut catch.candidates);
    Ok(catch)
}

impl Catch {
    fn folder(&mut self, dir: &Dir, depth: usize) -> Result<()> {
        for name in dir.names()? {
            signals::check()?;
            if name.as_bytes().starts_with(b".") {
                continue;
            }
            let Some(stat) = dir.stat_if_any(&name)? else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => self.inner(dir, &name, depth)?,
                FileType::RegularFile => match Format::of(&name) {
                    Some(format) => self.tar(dir, &name, format)?,
                    None => self.strange(dir, &name, "no generation, and no tar"),
                },
                FileType::Symlink => self.strange(dir, &name, "a symbolic link, which is not followed"),
                _ => self.strange(dir, &name, "neither a file nor a folder"),
            }
        }
        Ok(())
    }

    fn strange(&mut self, dir: &Dir, name: &OsStr, why: &str) {
        self.foreign.push(format!("{}: {why}", show(dir.join(name).as_os_str().as_bytes())));
    }

    fn inner(&mut self, dir: &Dir, name: &OsStr, depth: usize) -> Result<()> {
        let inner = match dir.open_dir(name) {
            Ok(inner) => inner,
            Err(e) if e.is_storage() => return Err(e.into()),
            Err(e) => {
                self.strange(dir, name, &e.to_string());
                return Ok(());
            }
        };
        let is_one = inner.stat_if_any(names::GENERATION)?.is_some();
        if is_one || name.to_str().is_some_and(|n| n.parse::<GenerationId>().is_ok()) {
            self.generation(inner, name);
        } else if depth < DEPTH {
            self.folder(&inner, depth + 1)?;
        }
        Ok(())
    }

    fn generation(&mut self, dir: Dir, name: &OsStr) {
        let shown = dir.path().to_path_buf();
        let read = dir.read_if_any(names::GENERATION, generation::LIMIT);
        let bytes = read.map_err(|e| e.to_string()).and_then(|bytes| bytes.ok_or_else(never_finished));
        self.push(shown, Place::Folder(dir), name, bytes);
    }

    /// Adds a candidate by the bytes of its `generation.toml`, or by why there are none.
    fn push(
        &mut self,
        shown: PathBuf,
        place: Place,
        name: &OsStr,
        bytes: std::result::Result<Vec<u8>, String>,
    ) {
        let parsed = bytes.and_then(|bytes| match Generation::parse(&bytes) {
            Ok(generation) => Ok(Found { generation, seal: Digest::of(&bytes) }),
            Err(e) => Err(e.to_string()),
        });
        let named = || name.to_str().and_then(|name| name.parse().ok());
        match (parsed, named()) {
            (Ok(found), _) => {
                let (id, condition) = (found.id().clone(), Condition::Unread);
                self.candidates.push(Candidate { shown, place, id, found: Some(found), condition });
            }
            (Err(why), Some(id)) => {
                let condition = Condition::Torn(vec![Torn { element: None, text: why }]);
                self.candidates.push(Candidate { shown, place, id, found: None, condition });
            }
            (Err(why), None) => self.foreign.push(format!("{}: {why}", show(shown.as_os_str().as_bytes()))),
        }
    }

    fn tar(&mut self, dir: &Dir, name: &OsStr, format: Format) -> Result<()> {
        let file = dir.open_file(name)?;
        let index = match tarball::index(&file, format) {
            Ok(index) => index,
            Err(Error::Damaged(why)) => {
                self.strange(dir, name, &why);
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        if index.found.is_empty() {
            let id = name.to_str().and_then(|n| n.split_once('.')).map(|(id, _)| id);
            match (&index.cut, id.filter(|id| id.parse::<GenerationId>().is_ok())) {
                // It is called as one, and there is no telling: that is not overlooked.
                (Some(why), Some(id)) => {
                    let (folder, shown) = (Vec::new(), dir.join(name));
                    let tar = Packed { file, format, folder, need: index.need, own: index.own };
                    self.push(shown, Place::Tar(tar), OsStr::new(id), Err(why.clone()));
                }
                (why, _) => self.strange(dir, name, why.as_deref().unwrap_or("no generation is in it")),
            }
            return Ok(());
        }
        for inner in index.found {
            let clone = file.try_clone().map_err(|e| sys::Error::new("open", dir.join(name), e))?;
            let last = inner.folder.rsplit(|b| *b == b'/').next().unwrap_or_default().to_vec();
            let shown = dir.join(name).join(OsStr::from_bytes(&inner.folder));
            let bytes = match (&index.cut, inner.text) {
                (Some(why), _) => Err(why.clone()),
                (None, Some(text)) => Ok(text),
                (None, None) => Err(never_finished()),
            };
            let packed =
                Packed { file: clone, format, folder: inner.folder, need: index.need, own: index.own };
            let place = Place::Tar(packed);
            self.push(shown, place, OsStr::from_bytes(&last), bytes);
        }
        Ok(())
    }
}

fn never_finished() -> String {
    format!("{} is missing, so it was never finished or is only a part", names::GENERATION)
}
