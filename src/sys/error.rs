//! One error for what the operating system refuses: what was tried, on which path, and why not.

use std::{
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// What was tried on which path, and the system's answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", show(.path.as_os_str().as_bytes()))]
pub struct Error {
    /// A verb that fits "cannot …", as "open" or "rename".
    pub action: &'static str,
    /// The path as an operator knows it.
    pub path: PathBuf,
    /// The system's answer.
    #[source]
    pub source: io::Error,
}

/// The result of an effect.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error from what the system said.
    pub fn new(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self { action, path: path.as_ref().to_path_buf(), source: source.into() }
    }

    /// The error's errno, if the system gave one.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Whether the path does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the name is taken.
    pub fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists || self.errno() == Some(libc::ENOTEMPTY)
    }

    /// Whether the storage itself is the cause: full, out of quota, read-only, or broken.
    pub fn is_storage(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOSPC | libc::EDQUOT | libc::EIO | libc::EROFS | libc::ENODEV))
    }
}

/// A name or path for a person's eyes: control characters, invalid UTF-8 and direction marks are escaped, so that
/// nothing a hostile host chose can reach a terminal or a mail as it is.
pub fn show(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let unsafe_mark = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
            if c.is_control() || unsafe_mark || c == '\\' {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_is_shown_as_it_is() {
        assert_eq!(show(b"a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(show(b"caf\xc3\xa9 \xff"), "caf\u{e9} \\xff");
        assert_eq!(show("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }
}
