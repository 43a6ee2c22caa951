//! Copying and hashing file content in one pass, holes kept, memory constant.

use std::{cell::Cell, fs::File, num::NonZeroU64, os::unix::fs::FileExt as _, path::Path};

use rustix::fs::SeekFrom;
use sha2::{Digest as _, Sha256};

use super::{
    Error,
    hasher::{self, Hasher},
    step::step,
};

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
    seen: &mut Seen<'_>,
) -> std::result::Result<Content, CopyError> {
    let looked = |e| CopyError::Read(Error::new("look at", path, e));
    let unhashed = |e| CopyError::Read(Error::new("hash", path, e));
    let mut buffer = BUFFERS.with(Cell::take);
    buffer.resize(BUFFER, 0);
    let (mut offset, mut written) = (0_u64, 0_u64);
    let stat = rustix::fs::fstat(from).map_err(looked)?;
    let mut size = u64::try_from(stat.st_size).unwrap_or(0);
    let mut hasher = Hasher::new(size, BUFFER);
    // With a block for every byte there is no hole to look for: most files are small, and each look is a call.
    let solid = size > 0 && stat.st_blocks.unsigned_abs().saturating_mul(512) >= size;
    let mut next = if solid { Some((0, size)) } else { next_data(from, offset, path)? };
    while let Some((start, end)) = next {
        hash_zeros(&mut hasher, start - offset, path, seen)?;
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
            if let Some(to) = to {
                write_at(to, &buffer[..n], offset, path)
                    .map_err(|e| CopyError::Write(Error::new("write the copy of", path, e)))?;
                written = offset + n as u64;
            }
            buffer = hasher.take(buffer, n).map_err(unhashed)?;
            offset += n as u64;
            seen(n as u64)?;
        }
        size = u64::try_from(rustix::fs::fstat(from).map_err(looked)?.st_size).unwrap_or(0);
        // If it shrank under our hands, the caller compares what it is with what it was.
        next = if end <= offset && offset < size { next_data(from, offset, path)? } else { None };
    }
    BUFFERS.set(buffer);
    if size > offset {
        hash_zeros(&mut hasher, size - offset, path, seen)?;
        offset = size;
    }
    if let Some(to) = to.filter(|_| written != offset) {
        to.set_len(offset).map_err(|e| CopyError::Write(Error::new("write the copy of", path, e)))?;
    }
    Ok(Content { size: offset, sha256: hasher.finish().map_err(unhashed)? })
}

/// Told the bytes of each step; may end the work.
pub type Seen<'a> = dyn FnMut(u64) -> std::result::Result<(), super::signals::Interrupted> + 'a;

/// Told each block that differs, and where it begins; may end the work.
pub type Changed<'a> = dyn FnMut(u64, &[u8]) -> std::result::Result<(), CopyError> + 'a;

/// What a file is compared with while it is read.
pub struct Comparison<'a> {
    /// Its previous version.
    pub base: &'a File,
    /// Bytes of a block; a power of two, and not more than a buffer of this module.
    pub block: usize,
    /// Called with each block that differs, where it begins, in ascending order. What the base does not have counts as
    /// zeros there.
    pub changed: &'a mut Changed<'a>,
}

/// Where the content goes that is read for a comparison.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// Nowhere.
    Nothing,
    /// To this new, empty file; blocks of zeros become holes.
    New(&'a File),
    /// To this one, which has the content of the base (see [`share`]): only what differs is written.
    Clone(&'a File),
}

/// Reads `from` from its start to its end, comparing and hashing, and writes it to `target`: the other way besides
/// [`hash_and_copy`], for files of which a previous version is here. A base that cannot be read differs everywhere.
#[track_caller]
pub fn hash_and_compare(
    from: &File,
    target: Target<'_>,
    comparison: &mut Comparison<'_>,
    path: &Path,
    seen: &mut Seen<'_>,
) -> std::result::Result<Content, CopyError> {
    let looked = |e| CopyError::Read(Error::new("look at", path, e));
    let unhashed = |e| CopyError::Read(Error::new("hash", path, e));
    let length = u64::try_from(rustix::fs::fstat(from).map_err(looked)?.st_size).unwrap_or(0);
    let (mut hasher, mut offset) = (Hasher::new(length, BUFFER), 0_u64);
    let (mut new, mut old) = (vec![0_u8; BUFFER], vec![0_u8; BUFFER]);
    let unwritten = |e| CopyError::Write(Error::new("write the copy of", path, e));
    loop {
        let read =
            read_full_at(from, &mut new, offset).map_err(|e| CopyError::Read(Error::new("read", path, e)))?;
        let bytes = &new[..read];
        // A clone is what is written into, so it is what is compared with, whatever became of the base meanwhile.
        let before = if let Target::Clone(to) = target { to } else { comparison.base };
        let known = read_full_at(before, &mut old[..read], offset).ok();
        old[known.unwrap_or(0)..].fill(0);
        for (index, block) in bytes.chunks(comparison.block).enumerate() {
            let start = index * comparison.block;
            let at = offset + start as u64;
            let differs = known.is_none() || *block != old[start..start + block.len()];
            if differs {
                (comparison.changed)(at, block)?;
            }
            match target {
                Target::Clone(to) if differs => write_at(to, block, at, path).map_err(unwritten)?,
                Target::New(to) if !hasher::is_zero(block) => {
                    write_at(to, block, at, path).map_err(unwritten)?;
                }
                _ => {}
            }
        }
        new = hasher.take(new, read).map_err(unhashed)?;
        offset += read as u64;
        seen(read as u64)?;
        if read < BUFFER {
            break;
        }
    }
    if let Target::New(to) | Target::Clone(to) = target {
        to.set_len(offset).map_err(unwritten)?;
    }
    Ok(Content { size: offset, sha256: hasher.finish().map_err(unhashed)? })
}

/// Bytes of a file that [`hash_and_patch`] has in memory.
pub const WINDOW: usize = 1 << 20;
/// Blocks of zeros of so many bytes become holes there.
const HOLE: usize = 16 * 1024;
/// The write-back of what was written is begun after so many bytes.
const EARLY: u64 = 16 << 20;

/// What changes in a file while it is written anew: its blocks in ascending order.
pub trait Blocks {
    /// Why there is no next one.
    type Error: From<CopyError>;
    /// Puts the blocks that lie in the window that begins at `offset` into it.
    fn put(&mut self, window: &mut [u8], offset: u64) -> std::result::Result<(), Self::Error>;
}

/// Reads `base` in order, puts `blocks` in, writes what comes of it to the new, empty file `to`, of `length` bytes, and
/// hashes it in the same pass. What the base does not have counts as zeros; blocks of zeros become holes.
#[track_caller]
pub fn hash_and_patch<B: Blocks>(
    base: &File,
    to: &File,
    (length, blocks): (u64, &mut B),
    path: &Path,
    seen: &mut Seen<'_>,
) -> std::result::Result<Content, B::Error> {
    let unwritten = |e| CopyError::Write(Error::new("write the copy of", path, e));
    let (mut hasher, mut window) = (Sha256::new(), vec![0_u8; WINDOW]);
    let (mut offset, mut begun) = (0_u64, 0_u64);
    while offset < length {
        let size = usize::try_from(length - offset).map_or(WINDOW, |left| left.min(WINDOW));
        let bytes = &mut window[..size];
        let known = read_full_at(base, bytes, offset)
            .map_err(|e| CopyError::Read(Error::new("read the previous version of", path, e)))?;
        bytes[known..].fill(0);
        blocks.put(bytes, offset)?;
        hasher.update(&*bytes);
        write_solid(to, bytes, offset, path).map_err(unwritten)?;
        offset += size as u64;
        if offset - begun >= EARLY {
            write_back(to, begun, offset - begun);
            begun = offset;
        }
        seen(size as u64).map_err(CopyError::Interrupted)?;
    }
    to.set_len(length).map_err(unwritten)?;
    Ok(Content { size: length, sha256: hasher.finalize().into() })
}

/// Writes what is not zeros, neighbours together.
#[track_caller]
fn write_solid(to: &File, bytes: &[u8], offset: u64, path: &Path) -> std::io::Result<()> {
    let (mut from, mut end) = (0, 0);
    for block in bytes.chunks(HOLE) {
        if hasher::is_zero(block) {
            if from < end {
                write_at(to, &bytes[from..end], offset + from as u64, path)?;
            }
            from = end + block.len();
        }
        end += block.len();
    }
    if from < end { write_at(to, &bytes[from..end], offset + from as u64, path) } else { Ok(()) }
}

/// Begins to write what a file has in memory to the disk, without waiting for it: the sync at the end waits for less then.
/// Only a hint.
pub fn write_back(file: &File, offset: u64, length: u64) {
    if rustix::fs::fadvise(file, offset, NonZeroU64::new(length), rustix::fs::Advice::DontNeed).is_err() {
        // Then it is written when the kernel thinks so, or by the sync.
    }
}

/// Reads until the buffer is full or the file ends.
fn read_full_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Writes bytes of a copy of `path` at their place.
#[track_caller]
pub fn write_at(to: &File, bytes: &[u8], offset: u64, path: &Path) -> std::io::Result<()> {
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
    hasher: &mut Hasher,
    mut count: u64,
    path: &Path,
    seen: &mut Seen<'_>,
) -> std::result::Result<(), CopyError> {
    while count > 0 {
        let n = count.min(BUFFER as u64);
        hasher
            .zeros(usize::try_from(n).unwrap_or(0))
            .map_err(|e| CopyError::Read(Error::new("hash", path, e)))?;
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

    /// Some content, the offsets of the blocks in which it differs from a base, and where it went.
    fn compared(base: &[u8], new: &[u8], clone: bool) -> (Vec<u64>, Vec<u8>, Content) {
        let file = |bytes: &[u8]| {
            let file = tempfile::tempfile_in(".").unwrap();
            file.write_all_at(bytes, 0).unwrap();
            file
        };
        let (from, before) = (file(new), file(base));
        let to = file(if clone { base } else { b"" });
        let target = if clone { Target::Clone(&to) } else { Target::New(&to) };
        let mut differ = Vec::new();
        let mut changed = |at: u64, bytes: &[u8]| {
            assert_eq!(bytes, &new[usize::try_from(at).unwrap()..][..bytes.len()]);
            differ.push(at);
            Ok(())
        };
        let mut comparison = Comparison { base: &before, block: 4096, changed: &mut changed };
        let content =
            hash_and_compare(&from, target, &mut comparison, Path::new("x"), &mut |_| Ok(())).unwrap();
        let mut written = vec![0; usize::try_from(to.metadata().unwrap().len()).unwrap()];
        to.read_exact_at(&mut written, 0).unwrap();
        (differ, written, content)
    }

    #[test]
    fn what_is_compared_differs_where_it_does_and_arrives_whole_in_a_new_file_or_a_clone() {
        let old: Vec<u8> = (0..700_001_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let changed = |at: usize| {
            let mut new = old.clone();
            new[at] ^= 1;
            new
        };
        let mut zeros_in_between = old.clone();
        zeros_in_between[8192..16_384].fill(0);
        for (new, blocks) in [
            (old.clone(), vec![]),
            (changed(0), vec![0]),
            (changed(4096), vec![4096]),
            (changed(700_000), vec![696_320]),
            (changed(262_144), vec![262_144]),
            (zeros_in_between, vec![8192, 12_288]),
            (old[..300_000].to_vec(), vec![]),
            ([&old[..], &[1; 5000]].concat(), vec![696_320, 700_416, 704_512]),
            ([&old[..], &[0; 9000]].concat(), vec![]),
            (vec![], vec![]),
        ] {
            for clone in [false, true] {
                let (differ, written, content) = compared(&old, &new, clone);
                assert_eq!(differ, blocks, "{} bytes", new.len());
                assert!(written == new, "{} bytes, {clone}", new.len());
                assert_eq!(content, Content { size: new.len() as u64, sha256: Sha256::digest(&new).into() });
            }
        }
    }

    /// Blocks of a few bytes at their offsets.
    struct Few(Vec<(u64, Vec<u8>)>);

    impl Blocks for Few {
        type Error = CopyError;

        fn put(&mut self, window: &mut [u8], offset: u64) -> std::result::Result<(), CopyError> {
            for (at, bytes) in &self.0 {
                if (offset..offset + window.len() as u64).contains(at) {
                    window[usize::try_from(at - offset).unwrap()..][..bytes.len()].copy_from_slice(bytes);
                }
            }
            Ok(())
        }
    }

    #[test]
    fn what_is_patched_in_one_pass_is_the_base_cut_or_filled_up_with_the_blocks_in_it_and_its_holes() {
        let (file, before) = (|| tempfile::tempfile_in(".").unwrap(), 3_000_000_u64);
        let old: Vec<u8> = (0..before).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let base = file();
        base.write_all_at(&old, 0).unwrap();
        for length in [0, 1_500_000, before, 40_000_000] {
            let to = file();
            let blocks = [(0, 9), (1_048_576 - 4096, 4096), (1_048_576, 4096), (32_768_000, 4096)];
            let blocks = blocks.into_iter().filter(|(at, size)| at + size <= length);
            let blocks = blocks.map(|(at, size)| (at, vec![7; usize::try_from(size).unwrap()]));
            let mut few = Few(blocks.collect());
            let mut expected = old.clone();
            expected.resize(usize::try_from(length).unwrap(), 0);
            for (at, bytes) in &few.0 {
                expected[usize::try_from(*at).unwrap()..][..bytes.len()].copy_from_slice(bytes);
            }
            let content =
                hash_and_patch(&base, &to, (length, &mut few), Path::new("x"), &mut |_| Ok(())).unwrap();
            assert_eq!(content, Content { size: length, sha256: Sha256::digest(&expected).into() });
            let mut written = vec![0; expected.len()];
            to.read_exact_at(&mut written, 0).unwrap();
            assert!(written == expected && to.metadata().unwrap().len() == length, "{length} bytes");
            assert!(to.metadata().unwrap().blocks() * 512 < 4_000_000, "holes were filled");
        }
    }

    #[test]
    fn an_empty_file_has_the_hash_of_nothing() {
        let file = tempfile::tempfile().unwrap();
        let content = hash_and_copy(&file, None, Path::new("empty"), &mut |_| Ok(())).unwrap();
        assert_eq!(content, Content { size: 0, sha256: Sha256::digest(b"").into() });
    }
}
