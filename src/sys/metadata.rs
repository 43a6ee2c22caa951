//! Owners, modes, times, links and devices of files that are written out. Never through a link.

use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, Uid};

use super::{Dir, Error, Result, step::step};

fn stamps(seconds: i64, nanoseconds: u32) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Gives an open file or folder to a user and group.
pub fn own(fd: impl AsFd, path: &Path, uid: u32, gid: u32) -> Result<()> {
    rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|e| Error::new("set the owner of", path, e))
}

/// Sets the permission bits of an open file or folder.
pub fn mode(fd: impl AsFd, path: &Path, mode: RawMode) -> Result<()> {
    rustix::fs::fchmod(fd, Mode::from(mode)).map_err(|e| Error::new("set the mode of", path, e))
}

/// Sets the time of the last change of an open file or folder.
pub fn time(fd: impl AsFd, path: &Path, seconds: i64, nanoseconds: u32) -> Result<()> {
    rustix::fs::futimens(fd, &stamps(seconds, nanoseconds))
        .map_err(|e| Error::new("set the time of", path, e))
}

/// As [`own`], for a name that cannot be opened: a link, fifo or device.
pub fn own_name(dir: &Dir, name: &OsStr, uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| Error::new("set the owner of", dir.join(name), e))
}

/// As [`mode`], for a fifo or device that we have just made. No link is followed: in a folder that is somebody's, another
/// file may have taken its place, and what is not a fifo or device with this one name is left as it is.
pub fn mode_name(dir: &Dir, name: &OsStr, mode: RawMode) -> Result<()> {
    let failed = |e: rustix::io::Errno| Error::new("set the mode of", dir.join(name), e);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(failed)?;
    let stat = rustix::fs::fstat(&fd).map_err(failed)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_made = matches!(kind, FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice);
    if !is_made || stat.st_nlink != 1 {
        return Err(failed(rustix::io::Errno::LOOP));
    }
    // By its handle; a path handle takes no fchmod.
    let handle = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::chmod(handle, Mode::from(mode)).map_err(failed)
}

/// As [`time`], for a name that cannot be opened.
pub fn time_name(dir: &Dir, name: &OsStr, seconds: i64, nanoseconds: u32) -> Result<()> {
    rustix::fs::utimensat(dir, name, &stamps(seconds, nanoseconds), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| Error::new("set the time of", dir.join(name), e))
}

/// Makes a symbolic link.
#[track_caller]
pub fn symlink(dir: &Dir, name: &OsStr, target: &[u8]) -> Result<()> {
    let make = || rustix::fs::symlinkat(OsStr::from_bytes(target), dir, name);
    step("symlink", || vec![dir.join(name)], make).map_err(|e| Error::new("make the link", dir.join(name), e))
}

/// What [`node`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A named pipe.
    Fifo,
    /// A character device with its major and minor number.
    Char(u32, u32),
    /// A block device with its major and minor number.
    Block(u32, u32),
}

/// Makes a fifo or device, closed to others until its mode is set.
#[track_caller]
pub fn node(dir: &Dir, name: &OsStr, node: Node) -> Result<()> {
    let (kind, device) = match node {
        Node::Fifo => (FileType::Fifo, 0),
        Node::Char(major, minor) => (FileType::CharacterDevice, rustix::fs::makedev(major, minor)),
        Node::Block(major, minor) => (FileType::BlockDevice, rustix::fs::makedev(major, minor)),
    };
    let make = || rustix::fs::mknodat(dir, name, kind, Mode::from(0o600), device);
    step("mknod", || vec![dir.join(name)], make).map_err(|e| Error::new("make the device", dir.join(name), e))
}
