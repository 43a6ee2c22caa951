//! Which loader a program needs: the kernel executes it too, so the cage must allow it.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::{ffi::OsStringExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
};

const PT_INTERP: u32 = 3;
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// The loader that a 64-bit little-endian ELF program names; `None` for a static one, a script or what cannot be read.
pub(super) fn loader(program: &Path) -> Option<PathBuf> {
    let file = File::open(program).ok()?;
    let header: [u8; HEADER] = read(&file, 0)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = number(&header, 32, 8)?;
    let count = number(&header, 56, 2)?;
    for index in 0..count {
        let entry: [u8; PROGRAM_HEADER] = read(&file, table.checked_add(index * PROGRAM_HEADER as u64)?)?;
        if number(&entry, 0, 4)? == u64::from(PT_INTERP) {
            let length = usize::try_from(number(&entry, 32, 8)?).ok().filter(|n| *n <= 4096)?;
            let mut name = vec![0; length];
            file.read_exact_at(&mut name, number(&entry, 8, 8)?).ok()?;
            name.truncate(name.iter().position(|b| *b == 0)?);
            return Some(OsString::from_vec(name).into());
        }
    }
    None
}

fn read<const N: usize>(file: &File, offset: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    bytes.get(at..at + length).map(|b| b.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_of_a_linked_program_is_found_and_a_text_has_none() {
        let sh = loader(Path::new("/bin/sh"));
        assert!(sh.as_ref().is_none_or(|path| path.exists()), "{sh:?}");
        assert_eq!(loader(Path::new("/etc/passwd")), None);
        assert_eq!(loader(Path::new("/nowhere")), None);
    }
}
