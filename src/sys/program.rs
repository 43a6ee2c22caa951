//! Where programs are: looked up once, then named by their absolute path.

use std::{ffi::OsStr, path::PathBuf};

use rustix::fs::Access;

use super::child;

/// The absolute path of a program, by `PATH` (the usual one where there is none); `None` if it is not installed.
pub fn find(name: &str) -> Option<PathBuf> {
    find_in(&std::env::var_os("PATH").unwrap_or_else(|| child::PATH.into()), name)
}

/// As [`find`], but first where programs of the system are, whatever `PATH` says.
pub fn find_fixed(name: &str) -> Option<PathBuf> {
    find_in(OsStr::new(child::PATH), name).or_else(|| find(name))
}

fn find_in(path: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| file.is_file() && rustix::fs::access(file, Access::EXEC_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_by_its_absolute_path() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("no-such-program-anywhere"), None);
    }
}
