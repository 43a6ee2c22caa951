//! `SHA256SUMS`: what coreutils need to prove a generation, derived from the manifest: source and sink write the same bytes.

use std::io::{self, Write};

use super::{Digest, Entry, Item, Kind, entry::stored_path, hashing::Hashing, names};

/// Why `SHA256SUMS` could not be derived.
#[derive(Debug, thiserror::Error)]
pub enum Error<E: std::error::Error + 'static> {
    /// The manifest could not be read.
    #[error(transparent)]
    Manifest(E),
    /// The file could not be written.
    #[error("cannot write SHA256SUMS: {0}")]
    Write(#[source] io::Error),
}

/// Writes `SHA256SUMS` beside a manifest, entry by entry. Give it a buffered writer.
#[derive(Debug)]
pub struct Writer<W> {
    out: Hashing<W>,
    text: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins it.
    pub fn new(out: W) -> Self {
        Self { out: Hashing::new(out), text: Vec::new() }
    }

    /// The line of an entry of the manifest, if it is a stored file; in the order of the manifest.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let Kind::File { digest, .. } = &entry.kind else { return Ok(()) };
        let path = [names::DATA.as_bytes(), b"/", &stored_path(&entry.path)].concat();
        line(&path, *digest, &mut self.text);
        self.out.write_all(&self.text)
    }

    /// Ends it with a line for each of `others` (name and sha256: the manifest, `xattrs`, `README.txt`), and gives the
    /// sha256 of the whole. Nothing is synced.
    pub fn finish(mut self, others: &[(&str, Digest)]) -> io::Result<Digest> {
        for (name, digest) in others {
            line(name.as_bytes(), *digest, &mut self.text);
            self.out.write_all(&self.text)?;
        }
        self.out.flush()?;
        Ok(self.out.digest())
    }
}

/// As [`Writer`], for a manifest that is there.
pub fn write<E: std::error::Error + 'static>(
    items: impl Iterator<Item = Result<Item, E>>,
    others: &[(&str, Digest)],
    out: impl Write,
) -> Result<Digest, Error<E>> {
    let mut sums = Writer::new(out);
    for item in items {
        let Item::Entry(entry) = item.map_err(Error::Manifest)? else { continue };
        sums.entry(&entry).map_err(Error::Write)?;
    }
    sums.finish(others).map_err(Error::Write)
}

/// As coreutils 9 does: a name with a backslash or an end of line is escaped, and a backslash before the sum says so.
fn line(path: &[u8], digest: Digest, text: &mut Vec<u8>) {
    text.clear();
    if path.iter().any(|b| matches!(b, b'\\' | b'\n' | b'\r')) {
        text.push(b'\\');
    }
    text.extend_from_slice(&digest.hex());
    text.extend_from_slice(b"  ");
    for byte in path {
        match byte {
            b'\\' => text.extend_from_slice(b"\\\\"),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            plain => text.push(*plain),
        }
    }
    text.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{BadManifest, Entry, entry::Links};
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, process::Stdio};

    fn file(path: &[u8], content: &[u8]) -> Item {
        let links = Links::Many { nlink: 2, inode: 1 };
        let kind = Kind::File { size: content.len() as u64, digest: Digest::of(content), links };
        let path = path.to_vec();
        Item::Entry(Entry {
            path,
            mode: 0,
            uid: 0,
            gid: 0,
            uname: None,
            gname: None,
            mtime: Default::default(),
            kind,
        })
    }

    fn sha256sum(folder: &std::path::Path) -> bool {
        let mut command = crate::sys::child::command("sha256sum");
        command.args(["--check", "--strict", "--quiet", names::SUMS]).current_dir(folder);
        command.stderr(Stdio::null()).stdout(Stdio::null()).status().expect("apt install coreutils").success()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test builds its folder by plain means")]
    fn coreutils_find_every_file_and_every_change_whatever_the_names() {
        let long: Vec<u8> = [b"e".as_slice(), "/0123456789".repeat(300).as_bytes()].concat();
        let names: [&[u8]; 9] =
            [b"e/a", b"e/a b", b"e/\\", b"e/\\n", b"e/n\nl", b"e/r\rr", b"e/\xff\t\x01", b"e/ *\"'", &long];
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("README.txt"), "read").unwrap();
        std::fs::create_dir_all(folder.path().join("data/.long")).unwrap();
        std::fs::create_dir_all(folder.path().join("data/e")).unwrap();
        let mut items: Vec<Result<Item, BadManifest>> = vec![Ok(Item::Socket(b"e/s".to_vec()))];
        for name in names {
            let stored = stored_path(name);
            std::fs::write(folder.path().join("data").join(OsStr::from_bytes(&stored)), name).unwrap();
            items.push(Ok(file(name, name)));
        }
        let mut text = Vec::new();
        let digest = write(items.into_iter(), &[("README.txt", Digest::of(b"read"))], &mut text).unwrap();
        assert_eq!(digest, Digest::of(&text));
        assert_eq!(text.iter().filter(|b| **b == b'\n').count(), names.len() + 1);
        std::fs::write(folder.path().join("SHA256SUMS"), &text).unwrap();
        assert!(sha256sum(folder.path()));
        for name in names {
            let path = folder.path().join("data").join(OsStr::from_bytes(&stored_path(name)));
            std::fs::write(&path, "changed").unwrap();
            assert!(!sha256sum(folder.path()), "{}", crate::sys::show(name));
            std::fs::write(&path, name).unwrap();
        }
    }
}
