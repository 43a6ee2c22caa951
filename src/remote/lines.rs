//! What rsync here prints: a line for each file, when all of it has been written. The file gets its name after that line,
//! one file at a time: so a line tells that the file of the line before is there.

use std::{
    collections::HashSet,
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
};

use rustix::{fs::FileType, io::Errno};

use super::{
    Error, Progress, Result,
    rsync::{Direction, moved_path},
    said::Said,
};
use crate::sys::Dir;

/// No line with a name is longer: a path of 4096 bytes, all of them escaped.
const LINE: usize = 20 * 1024;

/// rsync's stdout, and which of the asked files have come.
pub struct Lines<'a> {
    stdout: Option<OwnedFd>,
    rest: Vec<u8>,
    too_long: bool,
    last: Option<Vec<u8>>,
    direction: Direction<'a>,
    /// Where received files are; none for what is sent, which is here anyway.
    recv: Option<Dir>,
    /// The folder of the last file that was looked at: most come in its company.
    near: Option<(Vec<u8>, Dir)>,
    /// What the paths begin with that rsync does not print.
    base: &'a [u8],
    waited_for: HashSet<&'a [u8]>,
    received: u64,
    /// Bytes of the files that have come.
    bytes: u64,
}

impl<'a> Lines<'a> {
    /// Reads `stdout`, which does not block, for files of `paths` that come into `folder` or go from there; rsync works in
    /// the folder `base` of it, with which all paths begin.
    pub fn new(
        stdout: OwnedFd,
        (folder, base): (&Path, &'a [u8]),
        paths: HashSet<&'a [u8]>,
        direction: Direction<'a>,
    ) -> Result<Self> {
        Ok(Self {
            stdout: Some(stdout),
            rest: Vec::new(),
            too_long: false,
            last: None,
            direction,
            recv: if direction == Direction::In { Some(Dir::open(folder)?) } else { None },
            near: None,
            base,
            waited_for: paths,
            received: 0,
            bytes: 0,
        })
    }

    /// The descriptor to wait for until it is readable.
    pub fn source(&self) -> Option<&OwnedFd> {
        self.stdout.as_ref()
    }

    /// Whether nothing more will come.
    pub fn is_closed(&self) -> bool {
        self.stdout.is_none()
    }

    /// Reads what there is now; says whether there was anything. Lines that name no file go to `said`.
    pub fn read(&mut self, said: &mut Said, progress: &mut dyn Progress) -> Result<bool> {
        let Some(stdout) = &self.stdout else { return Ok(false) };
        let mut bytes = vec![0; 64 * 1024];
        let count = match rustix::io::read(stdout, &mut bytes) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(e) => return Err(Error::us("listen to rsync", e)),
        };
        if count == 0 {
            self.stdout = None;
            return Ok(false);
        }
        for piece in bytes[..count].split_inclusive(|b| *b == b'\n') {
            self.rest.extend_from_slice(piece);
            if self.rest.last() == Some(&b'\n') {
                self.rest.pop();
                let line = std::mem::take(&mut self.rest);
                if !std::mem::take(&mut self.too_long) {
                    self.line(&line, said, progress)?;
                }
            } else if self.rest.len() > LINE {
                self.rest.clear();
                self.too_long = true;
            }
        }
        Ok(true)
    }

    fn line(&mut self, line: &[u8], said: &mut Said, progress: &mut dyn Progress) -> Result<()> {
        match moved_path(line, self.direction) {
            Some(path) => {
                let path = if self.base.is_empty() { path } else { [self.base, b"/", &path].concat() };
                let before = self.last.replace(path);
                before.map_or(Ok(()), |path| self.arrived(&path, progress))
            }
            None => {
                said.add(line);
                said.add(b"\n");
                Ok(())
            }
        }
    }

    /// Tells of a file that was asked for and is there as a regular file: each only once.
    fn arrived(&mut self, path: &[u8], progress: &mut dyn Progress) -> Result<()> {
        if self.waited_for.contains(path)
            && let Some(size) = self.size(path)?
        {
            self.waited_for.remove(path);
            self.received += 1;
            self.bytes += size;
            progress.received(path);
        }
        Ok(())
    }

    /// The bytes of a regular file that is there; of what is sent, nobody asks.
    fn size(&mut self, path: &[u8]) -> Result<Option<u64>> {
        let Some(recv) = &self.recv else { return Ok(Some(0)) };
        let at = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let (folder, name) = (&path[..at], OsStr::from_bytes(&path[at..]));
        let near = self.near.take().filter(|(near, _)| near == folder);
        let dir = near.map_or_else(|| recv.descend(folder), |(_, dir)| Ok(dir));
        let found = dir.and_then(|dir| {
            let found = dir.stat_if_any(name);
            self.near = Some((folder.to_vec(), dir));
            found
        });
        match found {
            Ok(stat) => Ok(stat
                .filter(|stat| FileType::from_raw_mode(stat.st_mode).is_file())
                .map(|stat| stat.st_size.unsigned_abs())),
            Err(e) if e.is_storage() => Err(e.into()),
            Err(_) => Ok(None),
        }
    }

    /// Bytes of the files that have come.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// After both rsyncs ended well: tells of the last file, and of those whose line was lost. Returns how many files
    /// have come, and the paths of those that have not. Of what was sent, only what rsync told of counts: it is silent
    /// about what the far end had.
    pub fn finish(&mut self, progress: &mut dyn Progress) -> Result<(u64, Vec<Vec<u8>>)> {
        if self.recv.is_none() {
            let last = self.last.take();
            last.map_or(Ok(()), |path| self.arrived(&path, progress))?;
            return Ok((self.received, Vec::new()));
        }
        let mut left: Vec<&'a [u8]> = self.waited_for.iter().copied().collect();
        left.sort_unstable();
        let mut missing = Vec::new();
        for path in left {
            self.arrived(path, progress)?;
            if self.waited_for.contains(path) {
                missing.push(path.to_vec());
            }
        }
        Ok((self.received, missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen(Vec<Vec<u8>>);

    impl Progress for Seen {
        fn received(&mut self, path: &[u8]) {
            self.0.push(path.to_vec());
        }
        fn bytes(&mut self, _more: u64) {}
    }

    #[test]
    fn a_file_is_told_of_when_the_next_line_has_come_and_only_if_it_was_asked_for_and_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let recv = Dir::open(folder.path()).unwrap();
        for name in ["a", "b", "c", "not-asked"] {
            recv.create_file(name, 0o600).unwrap();
        }
        let (read, write) = rustix::pipe::pipe().unwrap();
        let paths = [&b"a"[..], b"b", b"c", b"gone"].into();
        let mut lines = Lines::new(read, (folder.path(), b""), paths, Direction::In).unwrap();
        let (mut said, mut seen) = (Said::default(), Seen::default());
        rustix::io::write(&write, b"got >f+++++++++ 1 a\nhello\ngot >f+++++").unwrap();
        assert!(lines.read(&mut said, &mut seen).unwrap());
        assert!(seen.0.is_empty());
        rustix::io::write(&write, b"++++ 1 not-asked\ngot >f+++++++++ 1 gone\ngot >f+++++++++ 1 a\n")
            .unwrap();
        rustix::io::write(&write, b"got >f+++++++++ 1 b\n").unwrap();
        assert!(lines.read(&mut said, &mut seen).unwrap());
        assert_eq!(seen.0, [b"a"]);
        drop(write);
        assert!(!lines.read(&mut said, &mut seen).unwrap());
        assert!(lines.is_closed());
        assert_eq!(lines.finish(&mut seen).unwrap(), (3, vec![b"gone".to_vec()]));
        assert_eq!(seen.0, [b"a", b"b", b"c"]);
        assert_eq!(said.text(), "hello");
    }

    #[test]
    fn what_rsync_prints_is_below_the_folder_in_which_it_works() {
        let folder = tempfile::tempdir().unwrap();
        let recv = Dir::open(folder.path()).unwrap();
        recv.create_dir("www", 0o700).unwrap().create_file("a", 0o600).unwrap();
        recv.create_file("a", 0o600).unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let paths = [&b"www/a"[..]].into();
        let mut lines = Lines::new(read, (folder.path(), b"www"), paths, Direction::In).unwrap();
        let (mut said, mut seen) = (Said::default(), Seen::default());
        rustix::io::write(&write, b"got >f+++++++++ 1 a\ngot >f+++++++++ 1 b\n").unwrap();
        assert!(lines.read(&mut said, &mut seen).unwrap());
        assert_eq!(seen.0, [b"www/a"]);
    }
}
