//! The content of a log file: as it is, or unpacked; never beyond the size that was seen when it was opened.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    os::unix::fs::FileExt as _,
    path::Path,
};

use sha2::{
    Digest as _, Sha256,
    digest::common::hazmat::{SerializableState as _, SerializedState},
};

use super::name::Packing;
use crate::{manifest::Digest, sys::signals};

pub(super) const BUFFER: usize = 256 * 1024;
/// Memory for unpacking `.xz`, in KiB: `xz -9` needs half of it. The file itself says how much it wants, up to 4 GiB.
const XZ_MEMORY: u32 = 128 * 1024;

/// An open log file.
#[derive(Debug)]
pub(super) struct Content<'a> {
    pub file: &'a File,
    pub packing: Option<Packing>,
    /// The file's size when it was seen: the content's only where it is not packed.
    pub size: u64,
}

/// Reads a part of a file, at its own place.
struct Part<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let want = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<'a> Content<'a> {
    /// A file that only bears the name of a packed one is taken as it is.
    pub(super) fn of(file: &'a File, path: &Path, size: u64) -> io::Result<Self> {
        let mut packing = Packing::of(path);
        if let Some(named) = packing {
            let mut begin = vec![0; named.magic().len()];
            let read = Part { file, at: 0, end: size }.read(&mut begin)?;
            packing = Some(named).filter(|named| begin[..read] == *named.magic());
        }
        Ok(Self { file, packing, size })
    }

    /// The same, as it lies there.
    pub(super) fn as_it_is(&self) -> Self {
        Self { packing: None, ..*self }
    }

    /// Reads from the beginning.
    pub(super) fn reader(&self) -> io::Result<Box<dyn Read + 'a>> {
        let raw = Part { file: self.file, at: 0, end: self.size };
        Ok(match self.packing {
            None => Box::new(raw),
            Some(Packing::Gz) => Box::new(flate2::read::MultiGzDecoder::new(raw)),
            Some(Packing::Bz2) => Box::new(bzip2::read::MultiBzDecoder::new(raw)),
            Some(Packing::Xz) => {
                Box::new(lzma_rust2::XzReader::new_mem_limit(BufReader::new(raw), true, XZ_MEMORY))
            }
            Some(Packing::Zst) => Box::new(zstd::stream::read::Decoder::new(raw)?),
        })
    }

    /// Reads from an offset: what is packed is unpacked up to there.
    pub(super) fn reader_from(&self, offset: u64) -> io::Result<Box<dyn Read + 'a>> {
        if self.packing.is_none() {
            return Ok(Box::new(Part { file: self.file, at: offset, end: self.size }));
        }
        let mut reader = self.reader()?;
        let skipped = pass(&mut reader, offset, &mut |_| Ok(()))?;
        if skipped < offset { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(reader) }
    }

    /// The sha256 of a stretch; of less where the content ends before.
    pub(super) fn digest(&self, offset: u64, length: u64) -> io::Result<Digest> {
        let mut hasher = Sha256::new();
        pass(&mut self.reader_from(offset)?, length, &mut |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        Ok(Digest(hasher.finalize().into()))
    }
}

/// Reads up to so many bytes, giving each buffer away; gives how many there were. Hears when handover is to stop.
pub(super) fn pass(
    reader: &mut impl Read,
    length: u64,
    give: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut passed = 0;
    while passed < length {
        signals::check().map_err(io::Error::other)?;
        let want = usize::try_from(length - passed).map_or(BUFFER, |left| left.min(BUFFER));
        match reader.read(&mut buffer[..want]) {
            Ok(0) => break,
            Ok(read) => {
                give(&buffer[..read])?;
                passed += read as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(passed)
}

/// Fills a buffer as far as the reader goes; gives how far.
pub(super) fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// A hasher as text, to go on with it another day.
pub(super) fn freeze(hasher: &Sha256) -> String {
    hasher.serialize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hasher of such a text.
pub(super) fn thaw(text: &str) -> Option<Sha256> {
    let pair = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
    let bytes: Vec<u8> = (0..text.len() / 2).map(pair).collect::<Option<_>>()?;
    Sha256::deserialize(&SerializedState::<Sha256>::try_from(bytes.as_slice()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hasher_goes_on_where_it_was_put_down() {
        for length in [0, 1, 63, 64, 65, 1000] {
            let bytes = vec![7_u8; length];
            let mut hasher = thaw(&freeze(&Sha256::new().chain_update(&bytes))).unwrap();
            hasher.update(b"more");
            assert_eq!(Digest(hasher.finalize().into()), Digest::of(&[&bytes[..], b"more"].concat()));
        }
        for bad in ["", "zz", "00"] {
            assert!(thaw(bad).is_none());
        }
    }

    #[test]
    fn what_was_packed_by_any_of_the_programs_is_read_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let text = (0..50_000).map(|n| format!("line {n}\n")).collect::<String>();
        let plain = folder.path().join("log");
        crate::sys::durable::write_file(
            &crate::sys::Dir::open(folder.path()).unwrap(),
            "log",
            text.as_bytes(),
            0o600,
        )
        .unwrap();
        for (program, end) in [("gzip", "gz"), ("bzip2", "bz2"), ("xz", "xz"), ("zstd", "zst")] {
            let path = plain.with_extension(end);
            let packed = crate::sys::child::command("sh")
                .args(["-c", "exec \"$0\" -c \"$1\" > \"$2\"", program])
                .args([&plain, &path])
                .status();
            assert!(packed.unwrap().success(), "{program}");
            let file = File::open(&path).unwrap();
            let content = Content::of(&file, &path, file.metadata().unwrap().len()).unwrap();
            assert!(content.packing.is_some());
            assert_eq!(content.digest(0, u64::MAX).unwrap(), Digest::of(text.as_bytes()), "{program}");
            assert_eq!(content.digest(5, 7).unwrap(), Digest::of(&text.as_bytes()[5..12]), "{program}");
            let torn = Content { size: content.size / 2, ..content };
            assert!(torn.digest(0, u64::MAX).is_err(), "{program}");
        }
        let file = File::open(&plain).unwrap();
        let misnamed = Content::of(&file, Path::new("x.gz"), 4).unwrap();
        assert!(misnamed.packing.is_none());
        assert_eq!(misnamed.digest(0, 99).unwrap(), Digest::of(b"line"), "never beyond what was seen");
    }

    #[test]
    fn a_packed_file_does_not_say_how_much_memory_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let packed = crate::sys::child::command("sh").args(["-c", "echo line | xz -c"]).output().unwrap();
        let mut bytes = packed.stdout;
        // The header of the first block: its size, flags, filter, size of properties, dictionary (40: 4 GiB), crc.
        let end = 12 + (usize::from(bytes[12]) + 1) * 4 - 4;
        assert_eq!(bytes[12..][..4], [2, 0, 0x21, 1]);
        bytes[16] = 40;
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[12..end]);
        bytes[end..end + 4].copy_from_slice(&crc.sum().to_le_bytes());
        let dir = crate::sys::Dir::open(folder.path()).unwrap();
        crate::sys::durable::write_file(&dir, "log.xz", &bytes, 0o600).unwrap();
        let file = dir.open_file("log.xz").unwrap();
        let content = Content::of(&file, Path::new("log.xz"), bytes.len() as u64).unwrap();
        let refused = content.digest(0, u64::MAX).unwrap_err().to_string();
        assert!(refused.contains("memory"), "{refused}");
    }
}
