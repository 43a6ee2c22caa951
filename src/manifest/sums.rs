//! `SHA256SUMS`: what coreutils need to prove a generation, derived from the manifest: source and sink write the same bytes.

use std::io::{self, Write};

use super::{Digest, Item, Kind, entry::stored_path, hashing::Hashing, names};

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

/// Writes a line for every stored file in the order of the manifest, then one for each of `others` (name and sha256:
/// the manifest, `xattrs`, `README.txt`), and gives the sha256 of the whole. Give it a buffered writer; nothing is synced.
pub fn write<E: std::error::Error + 'static>(
    items: impl Iterator<Item = Result<Item, E>>,
    others: &[(&str, Digest)],
    out: impl Write,
) -> Result<Digest, Error<E>> {
    let mut out = Hashing::new(out);
    let mut text = Vec::new();
    for item in items {
        let Item::Entry(entry) = item.map_err(Error::Manifest)? else { continue };
        if let Kind::File { digest, .. } = &entry.kind {
            let path = [names::DATA.as_bytes(), b"/", &stored_path(&entry.path)].concat();
            line(&path, *digest, &mut text);
            out.write_all(&text).map_err(Error::Write)?;
        }
    }
    for (name, digest) in others {
        line(name.as_bytes(), *digest, &mut text);
        out.write_all(&text).map_err(Error::Write)?;
    }
    out.flush().map_err(Error::Write)?;
    Ok(out.digest())
}

/// As coreutils 9 does: a name with a backslash or an end of line is escaped, and a backslash before the sum says so.
fn line(path: &[u8], digest: Digest, text: &mut Vec<u8>) {
    text.clear();
    if path.iter().any(|b| matches!(b, b'\\' | b'\n' | b'\r')) {
        text.push(b'\\');
    }
    text.extend_from_slice(format!("{digest}  ").as_bytes());
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
