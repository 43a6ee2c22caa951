//! Extended attributes of files, folders and links: ACLs, capabilities, labels and what users keep there. No link is followed.

use std::{
    ffi::OsStr,
    os::fd::{AsFd, AsRawFd as _},
    path::{Path, PathBuf},
};

use rustix::{fs::XattrFlags, io::Errno};

use super::{Dir, Error, Result};

/// The name of an attribute (`user.comment`, `system.posix_acl_access`) and its value.
pub type Attribute = (Vec<u8>, Vec<u8>);

/// All attributes of an open file or folder that this process may see, sorted by name; none where the file system has none.
pub fn of_open(file: impl AsFd, path: &Path) -> Result<Vec<Attribute>> {
    let list = |buffer: &mut [u8]| rustix::fs::flistxattr(&file, buffer);
    let get = |name: &[u8], buffer: &mut [u8]| rustix::fs::fgetxattr(&file, name, buffer);
    all(&list, &get, path)
}

/// All attributes of a name in a folder, whatever it is: of a symbolic link its own, of a device or pipe without opening it.
pub fn of_name(dir: &Dir, name: impl AsRef<OsStr>) -> Result<Vec<Attribute>> {
    let at = by_handle(dir, name.as_ref());
    let list = |buffer: &mut [u8]| rustix::fs::llistxattr(&at, buffer);
    let get = |name: &[u8], buffer: &mut [u8]| rustix::fs::lgetxattr(&at, name, buffer);
    all(&list, &get, &dir.join(name))
}

/// Sets one attribute of an open file or folder.
pub fn set_on_open(file: impl AsFd, path: &Path, name: &[u8], value: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
        .map_err(|e| Error::new("set an attribute of", path, e))
}

/// Sets one attribute of a name in a folder; of a symbolic link its own.
pub fn set_on_name(dir: &Dir, name: impl AsRef<OsStr>, attribute: &[u8], value: &[u8]) -> Result<()> {
    let at = by_handle(dir, name.as_ref());
    rustix::fs::lsetxattr(&at, attribute, value, XattrFlags::empty())
        .map_err(|e| Error::new("set an attribute of", dir.join(name), e))
}

/// The kernel has no call for the attributes of a name in an open folder; the folder's entry in `/proc` is that folder,
/// whatever has been renamed meanwhile, and the last component is not followed.
fn by_handle(dir: &Dir, name: &OsStr) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()));
    path.push(name);
    path
}

type List<'a> = &'a dyn Fn(&mut [u8]) -> rustix::io::Result<usize>;
type Get<'a> = &'a dyn Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>;

/// Linux gives neither a longer list of names nor a longer value.
const MOST: usize = 64 * 1024;
/// Most files have no attributes or few; the kernel clears as much memory as it is asked to fill.
const FEW: usize = 1024;

/// Asks with a small buffer first, and once more with one that is always large enough.
fn ask(
    buffer: &mut Vec<u8>,
    call: &dyn Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<usize> {
    match call(buffer) {
        Err(Errno::RANGE) => {
            buffer.resize(MOST, 0);
            call(buffer)
        }
        other => other,
    }
}

fn all(list: List<'_>, get: Get<'_>, path: &Path) -> Result<Vec<Attribute>> {
    let failed = |e| Error::new("read the attributes of", path, e);
    let mut buffer = vec![0; FEW];
    let names = match ask(&mut buffer, list) {
        Ok(size) => buffer[..size].to_vec(),
        Err(Errno::OPNOTSUPP) => Vec::new(),
        Err(e) => return Err(failed(e)),
    };
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        match ask(&mut buffer, &|buffer| get(name, buffer)) {
            Ok(size) => found.push((name.to_vec(), buffer[..size].to_vec())),
            // Taken away between the list and the look, or listed by a file system that does not give it out.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_sorted_and_those_of_a_link_are_its_own() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let file = dir.create_file("file", 0o600).unwrap();
        std::os::unix::fs::symlink("file", folder.path().join("link")).unwrap();
        let path = dir.join("file");
        set_on_open(&file, &path, b"user.b", b"\x00\xff").unwrap();
        set_on_name(&dir, "file", b"user.a", b"").unwrap();
        let expected = vec![(b"user.a".to_vec(), vec![]), (b"user.b".to_vec(), vec![0, 0xff])];
        assert_eq!(of_open(&file, &path).unwrap(), expected);
        assert_eq!(of_name(&dir, "file").unwrap(), expected);
        assert_eq!(of_name(&dir, "link").unwrap(), []);
        if super::super::users::is_root() {
            set_on_name(&dir, "link", b"trusted.own", b"1").unwrap();
            assert_eq!(of_name(&dir, "link").unwrap(), [(b"trusted.own".to_vec(), b"1".to_vec())]);
            assert_eq!(of_open(&file, &path).unwrap(), expected);
        }
    }

    #[test]
    fn attributes_that_are_many_and_long_come_back_whole() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let file = dir.create_file("file", 0o600).unwrap();
        let path = dir.join("file");
        let long = |n: usize| format!("user.{}{n}", "n".repeat(200)).into_bytes();
        for n in 0..7 {
            set_on_open(&file, &path, &long(n), &[7; 300]).unwrap();
        }
        let found = of_open(&file, &path).unwrap();
        assert_eq!(found, (0..7).map(|n| (long(n), vec![7; 300])).collect::<Vec<_>>());
        let one = dir.create_file("one", 0o600).unwrap();
        set_on_open(&one, &dir.join("one"), b"user.long", &[7; 2000]).unwrap();
        assert_eq!(of_open(&one, &path).unwrap(), [(b"user.long".to_vec(), vec![7; 2000])]);
    }

    #[test]
    fn a_missing_name_is_an_error_and_not_a_file_without_attributes() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        assert!(of_name(&dir, "missing").unwrap_err().is_not_found());
    }

    #[test]
    fn a_file_system_without_attributes_gives_none() {
        let proc = Dir::open("/proc/self").unwrap();
        assert_eq!(of_name(&proc, "status").unwrap(), []);
    }
}
