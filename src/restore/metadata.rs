//! Owners, modes, times and attributes of what is written out.

use std::{ffi::OsStr, path::Path};

use super::write_out::{Error, Writer};
use crate::{
    manifest::{Entry, entry::Time},
    sys::{
        self, Dir, metadata,
        xattr::{self, Attribute},
    },
};

impl Writer<'_> {
    /// Makes a fifo or device.
    pub(super) fn node(
        &mut self,
        entry: &Entry,
        attributes: &[Attribute],
        dir: &Dir,
        name: &OsStr,
        node: metadata::Node,
    ) -> Result<(), Error> {
        let made = metadata::node(dir, name, node);
        if !self.tolerate(made)? {
            return Ok(());
        }
        self.name_metadata(entry, attributes, dir, name)?;
        metadata::mode_name(dir, name, entry.mode)?;
        self.set_time(entry.mtime, |s, n| metadata::time_name(dir, name, s, n))
    }

    /// Metadata of what is open: the owner first, since it clears setuid and capabilities; the time last.
    pub(super) fn open_metadata(
        &mut self,
        entry: &Entry,
        attributes: &[Attribute],
        fd: &impl std::os::fd::AsFd,
        path: &Path,
    ) -> Result<(), Error> {
        let owned = metadata::own(fd, path, entry.uid, entry.gid);
        // Without the right owner, setuid and setgid would give away what was never meant.
        let mode = if self.tolerate(owned)? { entry.mode } else { entry.mode & 0o1777 };
        metadata::mode(fd, path, mode)?;
        for (name, value) in attributes {
            let set = xattr::set_on_open(fd, path, name, value);
            self.tolerate(set)?;
        }
        self.set_time(entry.mtime, |s, n| metadata::time(fd, path, s, n))
    }

    /// Metadata of a name that cannot be opened.
    pub(super) fn name_metadata(
        &mut self,
        entry: &Entry,
        attributes: &[Attribute],
        dir: &Dir,
        name: &OsStr,
    ) -> Result<(), Error> {
        let owned = metadata::own_name(dir, name, entry.uid, entry.gid);
        self.tolerate(owned)?;
        for (attribute, value) in attributes {
            let set = xattr::set_on_name(dir, name, attribute, value);
            self.tolerate(set)?;
        }
        self.set_time(entry.mtime, |s, n| metadata::time_name(dir, name, s, n))
    }

    fn set_time(&mut self, time: Time, set: impl FnOnce(i64, u32) -> sys::Result<()>) -> Result<(), Error> {
        let set = set(time.seconds, time.nanoseconds);
        self.tolerate(set).map(|_| ())
    }

    /// What only root or only another file system can do is counted and told; all else is an error.
    fn tolerate(&mut self, done: sys::Result<()>) -> Result<bool, Error> {
        let Err(e) = done else { return Ok(true) };
        match e.errno() {
            Some(libc::EPERM | libc::EACCES | libc::EOPNOTSUPP | libc::EINVAL) => {
                let text = format!("{}: {}", e.action, e.source);
                match self.written.unset.iter_mut().find(|(known, _)| *known == text) {
                    Some((_, count)) => *count += 1,
                    None => self.written.unset.push((text, 1)),
                }
                Ok(false)
            }
            _ => Err(e.into()),
        }
    }
}
