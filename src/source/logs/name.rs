//! What rotation adds to the name of a log.

use std::{
    ffi::OsStr,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gz,
    Bz2,
    Xz,
    Zst,
}

impl Packing {
    /// By the end of a name.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.as_bytes() {
            b"gz" => Some(Self::Gz),
            b"bz2" => Some(Self::Bz2),
            b"xz" => Some(Self::Xz),
            b"zst" => Some(Self::Zst),
            _ => None,
        }
    }

    /// What a file packed so begins with.
    pub(super) fn magic(self) -> &'static [u8] {
        match self {
            Self::Gz => b"\x1f\x8b",
            Self::Bz2 => b"BZh",
            Self::Xz => b"\xfd7zXZ\0",
            Self::Zst => b"\x28\xb5\x2f\xfd",
        }
    }
}

/// A name of a log file: which log it is of, and how old it is among the others by its name alone. The eldest come first:
/// dated ones by their date, then numbered ones from the highest down, then the one that is written to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LogName {
    pub log: PathBuf,
    pub age: Age,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Age {
    Dated(Vec<u8>),
    Numbered(std::cmp::Reverse<u64>),
    Current,
}

impl LogName {
    /// Takes off what logrotate and its like add: `.gz`, then `.1`, `-20261123`, `.2026-11-23`, also before an extension
    /// (`access-20261123.log`, `access.1.log`).
    pub(super) fn of(path: &Path) -> Self {
        let plain = match Packing::of(path) {
            Some(_) => path.with_extension(""),
            None => path.to_path_buf(),
        };
        let current = |path: &Path| Self { log: path.to_path_buf(), age: Age::Current };
        let Some(name) = plain.file_name().map(OsStr::as_bytes) else { return current(path) };
        let dot = name.iter().rposition(|b| *b == b'.').filter(|dot| *dot > 0);
        let inner = dot.map(|dot| (&name[..dot], &name[dot..]));
        let found = split(name, b"").or_else(|| inner.and_then(|(stem, extension)| split(stem, extension)));
        match found {
            Some((log, age)) => Self { log: plain.with_file_name(std::ffi::OsString::from_vec(log)), age },
            // Packed, and by its name the only one: it was rotated all the same.
            None if plain != path => Self { log: plain, age: Age::Numbered(std::cmp::Reverse(0)) },
            None => current(path),
        }
    }

    /// Whether by its name it is the file that is written to.
    pub(super) fn is_current(&self) -> bool {
        self.age == Age::Current
    }
}

/// Takes a number or a date off the end of a name; the extension is put back.
fn split(name: &[u8], extension: &[u8]) -> Option<(Vec<u8>, Age)> {
    let is_of_date = |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'T' | b':' | b'.');
    let mut start = name.len() - name.iter().rev().take_while(|b| is_of_date(b)).count();
    // What divides it from the name is not of the date itself.
    while start < name.len() && !name[start].is_ascii_digit() {
        start += 1;
    }
    let (stem, tail) = name.split_at(start);
    let (divider, stem) = stem.split_last()?;
    if stem.is_empty() || tail.is_empty() || !matches!(divider, b'.' | b'-' | b'_') {
        return None;
    }
    let digits: Vec<u8> = tail.iter().copied().filter(u8::is_ascii_digit).collect();
    let log = [stem, extension].concat();
    if digits.len() == tail.len() && digits.len() <= 5 && *divider == b'.' {
        let number = std::str::from_utf8(&digits).ok()?.parse().ok()?;
        return Some((log, Age::Numbered(std::cmp::Reverse(number))));
    }
    let begins_as_date = digits.starts_with(b"19") || digits.starts_with(b"20");
    (begins_as_date && (8..=14).contains(&digits.len())).then_some((log, Age::Dated(digits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> String {
        LogName::of(Path::new(name)).log.to_string_lossy().into_owned()
    }

    #[test]
    fn all_names_of_a_log_are_of_the_same_log() {
        for name in [
            "access.log",
            "access.log.1",
            "access.log.12.gz",
            "access.log-20261123",
            "access.log-20261123.zst",
            "access.log.2026-11-23",
            "access.log-2026-11-23_030000.xz",
            "access-20261123.log",
            "access.1.log",
            "access.log.gz",
        ] {
            assert_eq!(log(&format!("/var/log/{name}")), "/var/log/access.log", "{name}");
        }
        for name in ["app-2.log", "8080.log", "node.js", "v1.2", "access.log.old", "x.123456", "7", ".1"] {
            let path = format!("/var/log/{name}");
            let expected = if name == "v1.2" { "/var/log/v1" } else { &path };
            assert_eq!(log(&path), expected, "{name}");
        }
    }

    #[test]
    fn the_eldest_comes_first_and_the_one_that_is_written_to_last() {
        let names = ["a.log-20261101.gz", "a.log-20261123", "a.log.10.gz", "a.log.2.gz", "a.log.1", "a.log"];
        let ordered: Vec<LogName> = names.iter().map(|name| LogName::of(Path::new(name))).collect();
        assert!(ordered.is_sorted() && ordered.windows(2).all(|two| two[0] != two[1]), "{ordered:?}");
        assert!(ordered[5].is_current() && !ordered[4].is_current());
    }
}
