//! Copying and hashing file content in one pass, holes kept, memory constant.

use std::{cell::Cell, fs::File, os::unix::fs::FileExt as _, path::Path};

use rustix::fs::SeekFrom;
use sha2::{Digest as _, Sha256};

use super::{Error, step::step};

/// Large enough that calls do not matter, small enough that a dozen threads do not either.
const BUFFER: usize = 256 * 1024;

thread_local! {
    /// The buffer of this thread, between two files: to make one anew costs more than to read a small file.
    static BUFFERS: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What a pass over a file's content gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Bytes read, holes included.
    pub size: u64,
    /// sha256 of them.
    pub sha256: [u8; 32],
}

/// Reads `from` from its start to its end, hashing; with `to`, writes the same content to the new, empty file `to`,
/// leaving holes where `from` has them. `seen` is called with the bytes of each step: for progress and for stopping.
#[track_caller]
pub fn hash_and_copy(
    from: &File,
    to: Option<&File>,
    path: &Path,
    seen: &mut dyn FnMut(u64) -> std::result::Result<(), super::signals::Interrupted>,
) -> std::result::Result<Content, CopyError> {
    let looked = |e| CopyError::Read(Error::new("look at", path, e));
    let mut hasher = Sha256::new();
    let mut buffer = BUFFERS.with(Cell::take);
    buffer.resize(BUFFER, 0);
    let (mut offset, mut written) = (0_u64, 0_u64);
    let stat = rustix::fs::fstat(from).map_err(looked)?;
    let mut size = u64::try_from(stat.st_size).unwrap_or(0);
    // With a block for every byte there is no hole to look for: most files are small, and each look is a call.
    let solid = size > 0 && stat.st_blocks.unsigned_abs().saturating_mul(512) >= size;
    let mut next = if solid { Some((0, size)) } else { next_data(from, offset, path)? };
    while let Some((start, end)) = next {
        hash_zeros(&mut hasher, start - offset, seen)?;
        offset = start;
        while offset < end {
            let want = usize::try_from(end - offset).map_or(BUFFER, |left| left.min(BUFFER));
            let n = match from.read_at(&mut buffer[..want], offset) {
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(CopyError::Read(Error::new("read", path, e))),
            };
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            if let Some(to) = to {
                write_at(to, &buffer[..n], offset, path)
                    .map_err(|e| CopyError::Write(Error::new("write the copy of", path, e)))?;
                written = offset + n as u64;
            }
            offset += n as u64;
            seen(n as u64)?;
        }
        size = u64::try_from(rustix::fs::fstat(from).map_err(looked)?.st_size).unwrap_or(0);
        // If it shrank under our hands, the caller compares what it is with what it was.
        next = if end <= offset && offset < size { next_data(from, offset, path)? } else { None };
    }
    BUFFERS.set(buffer);
    if size > offset {
        hash_zeros(&mut hasher, size - offset, seen)?;
        offset = size;
    }
    if let Some(to) = to.filter(|_| written != offset) {
        to.set_len(offset).map_err(|e| CopyError::Write(Error::new("write the copy of", path, e)))?;
    }
    Ok(Content { size: offset, sha256: hasher.finalize().into() })
}

#[track_caller]
fn write_at(to: &File, bytes: &[u8], offset: u64, path: &Path) -> std::io::Result<()> {
    let mut written = Ok(());
    step(
        "copy",
        || vec![path.to_path_buf()],
        || {
            written = to.write_all_at(bytes, offset);
            Ok(())
        },
    )?;
    written
}

/// Shares the content of `from` with the new, empty file `to`, where the file system can: false where it cannot.
pub fn share(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

/// The stretches of a file of `size` bytes that hold data, as start and end, in order; the rest are holes.
pub fn data_of(file: &File, size: u64, path: &Path) -> std::result::Result<Vec<(u64, u64)>, CopyError> {
    let (mut found, mut offset) = (Vec::new(), 0);
    while offset < size
        && let Some((start, end)) = next_data(file, offset, path)?
        && start < size
    {
        offset = end.min(size);
        found.push((start, offset));
    }
    Ok(found)
}

/// Why a pass over a file ended early. The two sides differ: what cannot be read is a failure of one file, what cannot
/// be written is a failure of the run.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The original could not be read.
    #[error(transparent)]
    Read(Error),
    /// The copy could not be written.
    #[error(transparent)]
    Write(Error),
    /// The run was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] super::signals::Interrupted),
}

/// The next stretch of data at or after `offset`: start and end. `None` if only a hole or nothing is left.
fn next_data(file: &File, offset: u64, path: &Path) -> std::result::Result<Option<(u64, u64)>, CopyError> {
    let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        // A file system without holes, or a file that cannot seek: all of it is data.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => {
            return Ok((offset == 0).then_some((0, u64::MAX)));
        }
        Err(e) => return Err(CopyError::Read(Error::new("read", path, e))),
    };
    match rustix::fs::seek(file, SeekFrom::Hole(start)) {
        Ok(end) => Ok(Some((start, end))),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(e) => Err(CopyError::Read(Error::new("read", path, e))),
    }
}

fn hash_zeros(
    hasher: &mut Sha256,
    mut count: u64,
    seen: &mut dyn FnMut(u64) -> std::result::Result<(), super::signals::Interrupted>,
) -> std::result::Result<(), CopyError> {
    static ZEROS: [u8; 65536] = [0; 65536];
    while count > 0 {
        let n = count.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..usize::try_from(n).unwrap_or(0)]);
        count -= n;
        seen(n)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_file_with_holes_is_copied_with_its_holes_and_the_hash_counts_them_as_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let dir = super::super::Dir::open(folder.path()).unwrap();
        let from = dir.create_file("from", 0o600).unwrap();
        from.write_all_at(b"middle", 5_000_000).unwrap();
        from.set_len(20_000_000).unwrap();
        let to = dir.create_file("to", 0o600).unwrap();
        let content = hash_and_copy(&from, Some(&to), Path::new("from"), &mut |_| Ok(())).unwrap();
        assert_eq!(content.size, 20_000_000);
        assert_eq!(to.metadata().unwrap().len(), 20_000_000);
        assert!(to.metadata().unwrap().blocks() * 512 < 1_000_000, "holes were filled");
        let bytes = std::fs::read(folder.path().join("to")).unwrap();
        assert_eq!(<[u8; 32]>::from(Sha256::digest(&bytes)), content.sha256);
        assert_eq!(&bytes[5_000_000..5_000_006], b"middle");
    }

    #[test]
    fn the_data_of_a_file_is_what_is_no_hole() {
        let file = tempfile::tempfile_in(".").unwrap();
        file.set_len(1 << 30).unwrap();
        assert_eq!(data_of(&file, 1 << 30, Path::new("file")).unwrap(), []);
        file.write_all_at(b"x", 1 << 20).unwrap();
        file.write_all_at(b"x", (1 << 30) - 1).unwrap();
        let data = data_of(&file, 1 << 30, Path::new("file")).unwrap();
        assert!(data.iter().any(|(start, end)| (*start..*end).contains(&(1 << 20))), "{data:?}");
        assert_eq!(data.last().unwrap().1, 1 << 30);
        assert!(data.iter().map(|(start, end)| end - start).sum::<u64>() < 1 << 20, "{data:?}");
    }

    #[test]
    fn an_empty_file_has_the_hash_of_nothing() {
        let file = tempfile::tempfile().unwrap();
        let content = hash_and_copy(&file, None, Path::new("empty"), &mut |_| Ok(())).unwrap();
        assert_eq!(content, Content { size: 0, sha256: Sha256::digest(b"").into() });
    }
}
