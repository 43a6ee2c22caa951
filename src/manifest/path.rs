//! Which paths a generation may name: what a hostile manifest must not smuggle into a store or a restored tree.

use super::{Flaw, entry::TOO_LONG};
use crate::sys::name::Name;

/// The longest name of a file on Linux.
pub const NAME_MAX: usize = 255;

/// A path that can be kept: `<element>/…`, at most [`TOO_LONG`] bytes, of names that can exist.
pub fn check(path: &[u8]) -> Result<(), Flaw> {
    check_up_to(path, TOO_LONG)
}

/// A path that is only spoken of (a socket, a failure): one name more may hang on the longest that can be kept.
pub fn check_mentioned(path: &[u8]) -> Result<(), Flaw> {
    check_up_to(path, TOO_LONG + 1 + NAME_MAX)
}

/// A path below any folder, as in an archive: the same rules, but no element. The error says what is wrong with it.
pub fn check_below(path: &[u8]) -> Result<(), &'static str> {
    check_names(path, TOO_LONG)
}

fn check_names(path: &[u8], limit: usize) -> Result<(), &'static str> {
    if path.len() > limit {
        return Err("is too long to be kept");
    }
    if path.contains(&0) {
        return Err("contains a NUL");
    }
    for name in path.split(|b| *b == b'/') {
        match name {
            b"" => return Err("is absolute, or has an empty component"),
            b"." | b".." => return Err("has a component that is `.` or `..`"),
            name if name.len() > NAME_MAX => return Err("has a component that is too long"),
            _ => {}
        }
    }
    Ok(())
}

fn check_up_to(path: &[u8], limit: usize) -> Result<(), Flaw> {
    check_names(path, limit).map_err(Flaw::Path)?;
    if !is_element(path.split(|b| *b == b'/').next().unwrap_or_default()) {
        return Err(Flaw::Path("does not begin with the name of an element"));
    }
    Ok(())
}

/// Elements have names that are safe everywhere; `.long`, where long paths are stored, is none.
fn is_element(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| Name::try_from(name.to_owned()).is_ok())
}

/// The folder that a path lies in; `None` at the top.
pub fn parent(path: &[u8]) -> Option<&[u8]> {
    path.iter().rposition(|b| *b == b'/').map(|slash| &path[..slash])
}

/// Whether `path` is `folder` or lies below it.
pub fn is_at_or_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_their_element_or_cannot_exist_are_refused() {
        let long = [b"e/", "x".repeat(256).as_bytes()].concat();
        let deep = "e/".repeat(2000) + "ab";
        let bad: [&[u8]; 14] = [
            b"",
            b"/etc",
            b"e//f",
            b"e/",
            b"./e",
            b"e/./f",
            b"e/../f",
            b"..",
            b".long/x",
            b"a b/x",
            b"\xff/x",
            b"e/\0",
            &long,
            deep.as_bytes(),
        ];
        for path in bad {
            assert!(check(path).is_err(), "{}", crate::sys::show(path));
        }
        for path in
            [&b"e"[..], b"e/.long", b"e/...", b"e/ \n\xff", deep[..4000].trim_end_matches('/').as_bytes()]
        {
            assert!(check(path).is_ok(), "{}", crate::sys::show(path));
        }
        assert!(check_mentioned(deep.as_bytes()).is_ok());
    }
}
