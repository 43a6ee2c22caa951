//! Folders by handle: every name below a folder that somebody else can write to is reached one component at a time,
//! without following a link, so that nothing can be swapped between the look and the act.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, Stat};

use super::{Error, Result, step::step};

/// An open folder. The path serves messages only; every act goes through the handle.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens a folder that the operator named: links on the way are the operator's and are followed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let fd = rustix::fs::open(path, FOLDER, Mode::empty())
            .map_err(|e| Error::new("open the folder", path, e))?;
        Ok(Self { fd, path: path.to_path_buf() })
    }

    /// Makes the folder at a path that the operator named, with its parents (mode 0755, the folder itself `mode`), where missing.
    #[track_caller]
    pub fn create_all(path: impl AsRef<Path>, mode: RawMode) -> Result<Self> {
        let path = path.as_ref();
        match step("mkdir", || vec![path.to_path_buf()], || rustix::fs::mkdir(path, Mode::from(mode))) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(rustix::io::Errno::NOENT) => {
                let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
                let Some(parent) = parent else {
                    return Err(Error::new("create the folder", path, rustix::io::Errno::NOENT));
                };
                Self::create_all(parent, 0o755)?;
                match step("mkdir", || vec![path.to_path_buf()], || rustix::fs::mkdir(path, Mode::from(mode)))
                {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(e) => return Err(Error::new("create the folder", path, e)),
                }
            }
            Err(e) => return Err(Error::new("create the folder", path, e)),
        }
        Self::open(path)
    }

    /// The path for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a name in it, for messages.
    pub fn join(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(Path::new(name.as_ref()))
    }

    /// A second handle on the same folder.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self.fd.try_clone().map_err(|e| Error::new("open the folder", &self.path, e))?;
        Ok(Self { fd, path: self.path.clone() })
    }

    /// Opens a folder in this one; a link in its place is refused.
    pub fn open_dir(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        let name = name.as_ref();
        let fd = rustix::fs::openat(&self.fd, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|e| Error::new("open the folder", self.join(name), e))?;
        Ok(Self { fd, path: self.join(name) })
    }

    /// As [`Self::open_dir`], without changing the folder's access time where we may.
    pub fn open_dir_unseen(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        let name = name.as_ref();
        let flags = FOLDER | OFlags::NOFOLLOW | OFlags::NOATIME;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path: self.join(name) }),
            Err(rustix::io::Errno::PERM) => self.open_dir(name),
            Err(e) => Err(Error::new("open the folder", self.join(name), e)),
        }
    }

    /// Opens a folder in this one; a link in its place is followed, for one that the operator made.
    pub fn follow(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        let name = name.as_ref();
        let fd = rustix::fs::openat(&self.fd, name, FOLDER, Mode::empty())
            .map_err(|e| Error::new("open the folder", self.join(name), e))?;
        Ok(Self { fd, path: self.join(name) })
    }

    /// Opens a folder in this one if it is there.
    pub fn open_dir_if_any(&self, name: impl AsRef<OsStr>) -> Result<Option<Self>> {
        match self.open_dir(name) {
            Ok(dir) => Ok(Some(dir)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Opens the folder `relative` (components split by `/`) below this one, following no link.
    pub fn descend(&self, relative: &[u8]) -> Result<Self> {
        let mut dir = self.try_clone()?;
        for part in relative.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".") {
            if part == b".." {
                return Err(Error::new("leave the folder by", dir.join(".."), rustix::io::Errno::INVAL));
            }
            dir = dir.open_dir(OsStr::from_bytes(part))?;
        }
        Ok(dir)
    }

    /// Makes a folder in this one and opens it.
    #[track_caller]
    pub fn create_dir(&self, name: impl AsRef<OsStr>, mode: RawMode) -> Result<Self> {
        let name = name.as_ref();
        let make = || rustix::fs::mkdirat(&self.fd, name, Mode::from(mode));
        step("mkdir", || vec![self.join(name)], make)
            .map_err(|e| Error::new("create the folder", self.join(name), e))?;
        self.open_dir(name)
    }

    /// Makes a folder for us alone (0700) and opens it. Whoever may write to this folder could put another one in its
    /// place before it is opened: one that is not ours, not closed or not empty is an error.
    pub fn create_private(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        let name = name.as_ref();
        let dir = self.create_dir(name, 0o700)?;
        let stat = dir.stat_self()?;
        if stat.st_uid == super::users::euid() && stat.st_mode & 0o777 == 0o700 && dir.names()?.is_empty() {
            return Ok(dir);
        }
        let why = std::io::Error::other("another folder was put in its place");
        Err(Error::new("use the folder just made", self.join(name), why))
    }

    /// Opens a folder in this one, making it if it is missing.
    #[track_caller]
    pub fn ensure_dir(&self, name: impl AsRef<OsStr>, mode: RawMode) -> Result<Self> {
        match self.create_dir(name.as_ref(), mode) {
            Err(e) if e.is_taken() => self.open_dir(name),
            other => other,
        }
    }

    /// Opens a file for reading: no link is followed, and a fifo does not block.
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> Result<File> {
        let name = name.as_ref();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map_err(|e| Error::new("open", self.join(name), e))?;
        Ok(File::from(fd))
    }

    /// Makes a new file for writing and reading; a name that is taken is an error.
    #[track_caller]
    pub fn create_file(&self, name: impl AsRef<OsStr>, mode: RawMode) -> Result<File> {
        let name = name.as_ref();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || rustix::fs::openat(&self.fd, name, flags, Mode::from(mode));
        let fd = step("create", || vec![self.join(name)], make)
            .map_err(|e| Error::new("create", self.join(name), e))?;
        Ok(File::from(fd))
    }

    /// Reads a whole small file; one larger than `limit` bytes is an error, as is anything but a regular file.
    pub fn read(&self, name: impl AsRef<OsStr>, limit: u64) -> Result<Vec<u8>> {
        use std::io::Read as _;
        let name = name.as_ref();
        let file = self.open_file(name)?;
        let stat = rustix::fs::fstat(&file).map_err(|e| Error::new("read", self.join(name), e))?;
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(Error::new(
                "read",
                self.join(name),
                std::io::Error::other("it is not a regular file"),
            ));
        }
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::new("read", self.join(name), e))?;
        if bytes.len() as u64 > limit {
            let why = std::io::Error::other(format!("it is larger than {limit} bytes"));
            return Err(Error::new("read", self.join(name), why));
        }
        Ok(bytes)
    }

    /// As [`Self::read`], but `None` where the file is missing.
    pub fn read_if_any(&self, name: impl AsRef<OsStr>, limit: u64) -> Result<Option<Vec<u8>>> {
        match self.read(name, limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What a name in this folder is, without following a link.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> Result<Stat> {
        let name = name.as_ref();
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| Error::new("look at", self.join(name), e))
    }

    /// As [`Self::stat`], but `None` where the name is missing.
    pub fn stat_if_any(&self, name: impl AsRef<OsStr>) -> Result<Option<Stat>> {
        match self.stat(name) {
            Ok(stat) => Ok(Some(stat)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What this folder itself is.
    pub fn stat_self(&self) -> Result<Stat> {
        rustix::fs::fstat(&self.fd).map_err(|e| Error::new("look at", &self.path, e))
    }

    /// A handle on a name in this folder whatever it is, without opening it or following a link, and what it is.
    pub fn hold(&self, name: impl AsRef<OsStr>) -> Result<(OwnedFd, Stat)> {
        let name = name.as_ref();
        let failed = |e| Error::new("look at", self.join(name), e);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&handle).map_err(failed)?;
        Ok((handle, stat))
    }

    /// The target of a symbolic link in this folder.
    pub fn read_link(&self, name: impl AsRef<OsStr>) -> Result<Vec<u8>> {
        let name = name.as_ref();
        rustix::fs::readlinkat(&self.fd, name, Vec::new())
            .map(|target| target.into_bytes())
            .map_err(|e| Error::new("read the link", self.join(name), e))
    }

    /// The names in this folder, sorted by their bytes.
    pub fn names(&self) -> Result<Vec<OsString>> {
        let failed = |e| Error::new("list the folder", &self.path, e);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The names in this folder in no order, each with what it is, where the file system says that with the name.
    pub fn kinds(&self) -> Result<Vec<(OsString, Option<FileType>)>> {
        let failed = |e| Error::new("list the folder", &self.path, e);
        let mut kinds = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let kind = Some(entry.file_type()).filter(|kind| *kind != FileType::Unknown);
                kinds.push((OsString::from_vec(name.to_vec()), kind));
            }
        }
        Ok(kinds)
    }

    /// Makes `to_dir/to` another name of the file `name` here; a link is not followed.
    #[track_caller]
    pub fn link(&self, name: impl AsRef<OsStr>, to_dir: &Dir, to: impl AsRef<OsStr>) -> Result<()> {
        let (name, to) = (name.as_ref(), to.as_ref());
        let make = || rustix::fs::linkat(&self.fd, name, &to_dir.fd, to, AtFlags::empty());
        step("link", || vec![self.join(name), to_dir.join(to)], make)
            .map_err(|e| Error::new("link", to_dir.join(to), e))
    }

    /// Gives this folder to a user and group.
    pub fn give_to(&self, uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::fchown(&self.fd, Some(uid), Some(gid)).map_err(|e| Error::new("give away", &self.path, e))
    }

    /// Sets this folder's mode.
    pub fn set_mode(&self, mode: RawMode) -> Result<()> {
        rustix::fs::fchmod(&self.fd, Mode::from(mode))
            .map_err(|e| Error::new("set the mode of", &self.path, e))
    }
}

/// The target of a symbolic link that is held by [`Dir::hold`].
pub fn link_of(handle: impl AsFd, path: &Path) -> Result<Vec<u8>> {
    rustix::fs::readlinkat(handle, "", Vec::new())
        .map(|target| target.into_bytes())
        .map_err(|e| Error::new("read the link", path, e))
}

/// A file without a name, for us alone; gone when it is closed.
pub fn private_file() -> Result<File> {
    let place = std::env::temp_dir();
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    match rustix::fs::open(&place, flags, Mode::from(0o600)) {
        Ok(fd) => Ok(File::from(fd)),
        // Not every file system has nameless files; memory always has.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::NOENT) => {
            file_in_memory()
        }
        Err(e) => Err(Error::new("make a private file in", place, e)),
    }
}

/// The same in memory, whatever the disks say: for what is small.
pub fn file_in_memory() -> Result<File> {
    rustix::fs::memfd_create("handover", rustix::fs::MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(|e| Error::new("make a private file in", "memory", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        dir.create_dir("real", 0o700).unwrap().create_file("file", 0o600).unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("alias")).unwrap();
        assert!(dir.descend(b"real").is_ok());
        assert!(dir.descend(b"alias").is_err());
        assert!(dir.descend(b"real/../real").is_err());
        assert!(dir.open_file("alias").is_err());
    }

    #[test]
    fn a_file_over_the_limit_is_an_error_and_not_a_part_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        dir.create_file("five", 0o600)
            .and_then(|mut f| {
                use std::io::Write as _;
                f.write_all(b"12345").map_err(|e| Error::new("write", "five", e))
            })
            .unwrap();
        assert_eq!(dir.read("five", 5).unwrap(), b"12345");
        assert!(dir.read("five", 4).unwrap_err().to_string().contains("larger than 4 bytes"));
        assert_eq!(dir.read_if_any("six", 4).unwrap(), None);
    }
}
