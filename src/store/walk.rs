//! Ways through folders by handle, in any depth with few handles open: a hostile manifest may be 1500 folders deep,
//! and a process may have 1024 descriptors.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use rustix::fs::{FileType, RawMode, Stat};

use super::Result;
use crate::sys::{self, Dir, signals};

/// Folders held open on the way down; those deeper are opened anew each time.
const HELD: usize = 32;

/// A place below a root that moves from folder to folder, keeping the way open that two have in common: going through
/// paths in the order of a manifest costs one open per folder.
#[derive(Debug)]
pub(super) struct Cursor {
    root: Dir,
    /// The folders of the way, each with the length of its path in `at`.
    held: Vec<(usize, Dir)>,
    at: Vec<u8>,
    deep: Option<Dir>,
    make: Option<RawMode>,
}

impl Cursor {
    /// A cursor that opens what is there.
    pub(super) fn new(root: &Dir) -> Result<Self> {
        Ok(Self { root: root.try_clone()?, held: Vec::new(), at: Vec::new(), deep: None, make: None })
    }

    /// A cursor that makes the folders that are missing, with this mode whatever the umask.
    pub(super) fn making(root: &Dir, mode: RawMode) -> Result<Self> {
        Ok(Self { make: Some(mode), ..Self::new(root)? })
    }

    /// The folder at a path below the root; the empty path is the root.
    pub(super) fn folder(&mut self, path: &[u8]) -> sys::Result<&Dir> {
        if self.at != path {
            self.move_to(path)?;
        }
        Ok(self.deep.as_ref().or(self.held.last().map(|(_, dir)| dir)).unwrap_or(&self.root))
    }

    /// The folder that holds a path, and the path's last name.
    pub(super) fn parent<'a, 'p>(&'a mut self, path: &'p [u8]) -> sys::Result<(&'a Dir, &'p OsStr)> {
        let (folder, name) = split(path);
        Ok((self.folder(folder)?, name))
    }

    fn move_to(&mut self, path: &[u8]) -> sys::Result<()> {
        self.deep = None;
        while let Some((end, _)) = self.held.last() {
            if path.starts_with(&self.at[..*end]) && path.get(*end).is_none_or(|b| *b == b'/') {
                break;
            }
            self.held.pop();
        }
        self.at.truncate(self.held.last().map_or(0, |(end, _)| *end));
        let rest = path.get(self.at.len()..).unwrap_or_default();
        for part in rest.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            let here = self.deep.as_ref().or(self.held.last().map(|(_, dir)| dir)).unwrap_or(&self.root);
            let next = self.step(here, part)?;
            if !self.at.is_empty() {
                self.at.push(b'/');
            }
            self.at.extend_from_slice(part);
            if self.deep.is_none() && self.held.len() < HELD {
                self.held.push((self.at.len(), next));
            } else {
                self.deep = Some(next);
            }
        }
        Ok(())
    }

    fn step(&self, here: &Dir, part: &[u8]) -> sys::Result<Dir> {
        let name = OsStr::from_bytes(part);
        if part == b".." || part == b"." {
            return Err(sys::Error::new("leave the folder by", here.join(name), rustix::io::Errno::INVAL));
        }
        let Some(mode) = self.make else { return here.open_dir(name) };
        match here.create_dir(name, mode) {
            Ok(dir) => dir.set_mode(mode).map(|()| dir),
            Err(e) if e.is_taken() => here.open_dir(name),
            Err(e) => Err(e),
        }
    }
}

/// A path's folder and its last name.
pub(super) fn split(path: &[u8]) -> (&[u8], &OsStr) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], OsStr::from_bytes(&path[at + 1..])),
        None => (b"", OsStr::from_bytes(path)),
    }
}

/// Something that a walk came to.
pub(super) struct Seen<'a> {
    /// The path below the root.
    pub(super) path: &'a [u8],
    /// The folder that holds it, and its name there.
    pub(super) folder: &'a Dir,
    pub(super) name: &'a OsStr,
    pub(super) stat: Stat,
}

impl Seen<'_> {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// Comes to everything below a folder, following no link; a folder comes before what is in it.
pub(super) fn walk(root: &Dir, visit: &mut dyn FnMut(&Seen<'_>) -> Result<()>) -> Result<()> {
    let mut cursor = Cursor::new(root)?;
    let mut pending = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        signals::check()?;
        let folder = cursor.folder(&path)?;
        for name in folder.names()? {
            // What vanishes between the listing and the look is not there.
            let Some(stat) = folder.stat_if_any(&name)? else { continue };
            let mut inner = path.clone();
            if !inner.is_empty() {
                inner.push(b'/');
            }
            inner.extend_from_slice(name.as_bytes());
            let seen = Seen { path: &inner, folder, name: &name, stat };
            visit(&seen)?;
            // The visitor may have removed it.
            if seen.kind().is_dir() && folder.stat_if_any(&name)?.is_some() {
                pending.push(inner);
            }
        }
    }
    Ok(())
}

/// Comes to the path and kind of everything below a folder, in no order, following no link; a folder comes before what is
/// in it. Where the file system tells the kind with the name, nothing else is asked.
pub(super) fn walk_names(root: &Dir, visit: &mut dyn FnMut(&[u8], FileType) -> Result<()>) -> Result<()> {
    let mut cursor = Cursor::new(root)?;
    let mut pending = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        signals::check()?;
        let folder = cursor.folder(&path)?;
        let mut inner = path.clone();
        if !inner.is_empty() {
            inner.push(b'/');
        }
        let above = inner.len();
        for (name, kind) in folder.kinds()? {
            let kind = match kind {
                Some(kind) => kind,
                None => match folder.stat_if_any(&name)? {
                    Some(stat) => FileType::from_raw_mode(stat.st_mode),
                    None => continue,
                },
            };
            inner.truncate(above);
            inner.extend_from_slice(name.as_bytes());
            visit(&inner, kind)?;
            if kind.is_dir() {
                pending.push(inner.clone());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_of_a_thousand_folders_needs_few_handles_and_is_found_again() {
        let home = tempfile::tempdir().unwrap();
        let root = Dir::open(home.path()).unwrap();
        let deep = vec!["d"; 1200].join("/").into_bytes();
        let mut making = Cursor::making(&root, 0o750).unwrap();
        making.folder(&deep).unwrap().create_file("file", 0o600).unwrap();
        assert!(making.held.len() <= HELD);
        let side = [&deep[..], b"/side"].concat();
        making.folder(&side).unwrap();
        let mut cursor = Cursor::new(&root).unwrap();
        assert!(cursor.folder(&deep).unwrap().open_file("file").is_ok());
        assert!(cursor.folder(b"d/d").unwrap().open_file("file").is_err());
        assert!(cursor.folder(&side).is_ok());
        let mut files = 0;
        walk(&root, &mut |seen| {
            files += usize::from(seen.kind().is_file());
            Ok(())
        })
        .unwrap();
        assert_eq!(files, 1);
        let mut found = Vec::new();
        walk_names(&root, &mut |path, kind| {
            found.push((path.to_vec(), kind));
            Ok(())
        })
        .unwrap();
        assert_eq!(found.len(), 1202);
        assert!(found.contains(&([&deep[..], b"/file"].concat(), FileType::RegularFile)));
        assert!(found.contains(&(side, FileType::Directory)));
    }

    #[test]
    fn a_name_that_only_begins_alike_is_another_folder() {
        let home = tempfile::tempdir().unwrap();
        let root = Dir::open(home.path()).unwrap();
        let mut making = Cursor::making(&root, 0o750).unwrap();
        making.folder(b"a/b").unwrap().create_file("one", 0o600).unwrap();
        making.folder(b"a/bc").unwrap().create_file("two", 0o600).unwrap();
        making.folder(b"").unwrap().create_file("three", 0o600).unwrap();
        for path in ["a/b/one", "a/bc/two", "three"] {
            assert!(home.path().join(path).exists(), "{path}");
        }
        assert!(making.folder(b"a/../x").is_err());
    }

    #[test]
    fn a_link_in_the_way_stops_the_cursor() {
        let home = tempfile::tempdir().unwrap();
        let root = Dir::open(home.path()).unwrap();
        root.create_dir("real", 0o700).unwrap();
        std::os::unix::fs::symlink("real", home.path().join("alias")).unwrap();
        assert!(Cursor::new(&root).unwrap().folder(b"alias").is_err());
        assert!(Cursor::making(&root, 0o750).unwrap().folder(b"alias").is_err());
    }
}
