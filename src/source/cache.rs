//! What root remembers of every file it stored: so that an unchanged file is neither read nor copied, only linked.
//!
//! A binary file in the order of the manifest, read and written as a stream beside the walk:
//! a header of magic and version; records of a 2-byte path length, the path, and the fields of [`Known`], all numbers
//! little-endian; a record of length 0 ends it, so that a torn file is recognised.

use std::{
    cmp::Ordering,
    io::{self, Read, Write},
};

use crate::manifest::{
    Digest,
    entry::{self, Time},
};

const MAGIC: &[u8] = b"handover cache 1\n";

/// A file as it was when it was read, and where its content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Path as in the manifest.
    pub path: Vec<u8>,
    /// Device of the original.
    pub device: u64,
    /// Inode of the original.
    pub inode: u64,
    /// Size of the original and of the stored file.
    pub size: u64,
    /// Time of the last change of content.
    pub mtime: Time,
    /// Time of the last change of anything.
    pub ctime: Time,
    /// Both times were older by 2 s than the sync before the read: a later change cannot have left them as they are.
    pub settled: bool,
    /// It has no extended attributes.
    pub plain: bool,
    /// sha256 of the content.
    pub digest: Digest,
    /// Inode of the stored file.
    pub stored_inode: u64,
}

/// Writes a cache.
#[derive(Debug)]
pub struct Writer<W: Write>(W);

impl<W: Write> Writer<W> {
    /// Begins a cache.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        Ok(Self(out))
    }

    /// Adds a record; they must come in the order of the manifest.
    pub fn add(&mut self, known: &Known) -> io::Result<()> {
        let length = u16::try_from(known.path.len()).map_err(io::Error::other)?;
        self.0.write_all(&length.to_le_bytes())?;
        self.0.write_all(&known.path)?;
        for number in [known.device, known.inode, known.size, known.stored_inode] {
            self.0.write_all(&number.to_le_bytes())?;
        }
        for time in [known.mtime, known.ctime] {
            self.0.write_all(&time.seconds.to_le_bytes())?;
            self.0.write_all(&time.nanoseconds.to_le_bytes())?;
        }
        self.0.write_all(&[u8::from(known.settled) | u8::from(known.plain) << 1])?;
        self.0.write_all(&known.digest.0)
    }

    /// Ends the cache.
    pub fn finish(mut self) -> io::Result<W> {
        self.0.write_all(&0_u16.to_le_bytes())?;
        self.0.flush()?;
        Ok(self.0)
    }
}

/// Reads a cache beside a walk.
#[derive(Debug)]
pub struct Reader<R: Read> {
    input: R,
    next: Option<Known>,
}

impl<R: Read> Reader<R> {
    /// Begins to read; anything that is not a cache of this version is an error.
    pub fn new(mut input: R) -> io::Result<Self> {
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(io::Error::other("not a cache of this version"));
        }
        let mut reader = Self { input, next: None };
        reader.next = reader.record()?;
        Ok(reader)
    }

    /// The record of a path. Paths must be asked for in the order of the manifest; records in between are passed over.
    pub fn find(&mut self, path: &[u8]) -> io::Result<Option<Known>> {
        while let Some(known) = &self.next {
            match entry::order(&known.path, path) {
                Ordering::Less => self.next = self.record()?,
                Ordering::Equal => {
                    let found = self.next.take();
                    self.next = self.record()?;
                    return Ok(found);
                }
                Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    fn record(&mut self) -> io::Result<Option<Known>> {
        let length = u16::from_le_bytes(self.bytes()?);
        if length == 0 {
            return Ok(None);
        }
        let mut path = vec![0; usize::from(length)];
        self.input.read_exact(&mut path)?;
        let [device, inode, size, stored_inode] =
            [self.number()?, self.number()?, self.number()?, self.number()?];
        let (mtime, ctime) = (self.time()?, self.time()?);
        let [flags] = self.bytes()?;
        let (settled, plain) = (flags & 1 != 0, flags & 2 != 0);
        let digest = Digest(self.bytes()?);
        Ok(Some(Known { path, device, inode, size, mtime, ctime, settled, plain, digest, stored_inode }))
    }

    fn time(&mut self) -> io::Result<Time> {
        let seconds = i64::from_le_bytes(self.bytes()?);
        let nanoseconds = u32::from_le_bytes(self.bytes()?);
        Ok(Time { seconds, nanoseconds })
    }

    fn number(&mut self) -> io::Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(path: &str, inode: u64) -> Known {
        let time = Time { seconds: -5, nanoseconds: 999_999_999 };
        Known {
            path: path.into(),
            device: 1,
            inode,
            size: u64::MAX,
            mtime: time,
            ctime: Time::default(),
            settled: inode.is_multiple_of(2),
            plain: inode.is_multiple_of(3),
            digest: Digest::of(path.as_bytes()),
            stored_inode: inode + 1,
        }
    }

    #[test]
    fn records_are_found_in_order_and_others_passed_over() {
        let mut writer = Writer::new(Vec::new()).unwrap();
        let all = [known("a/b", 1), known("a/c", 2), known("a-b", 3), known("z", 6)];
        all.iter().for_each(|k| writer.add(k).unwrap());
        let bytes = writer.finish().unwrap();
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        assert_eq!(reader.find(b"a/a").unwrap(), None);
        assert_eq!(reader.find(b"a/c").unwrap().as_ref(), Some(&all[1]));
        assert_eq!(reader.find(b"a-b").unwrap().as_ref(), Some(&all[2]));
        assert_eq!(reader.find(b"b").unwrap(), None);
        assert_eq!(reader.find(b"z").unwrap().as_ref(), Some(&all[3]));
        assert_eq!(reader.find(b"zz").unwrap(), None);
    }

    #[test]
    fn a_torn_cache_is_an_error_wherever_it_is_torn() {
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.add(&known("a", 1)).unwrap();
        let bytes = writer.finish().unwrap();
        for cut in 0..bytes.len() {
            let read = Reader::new(&bytes[..cut]).and_then(|mut r| r.find(b"b"));
            assert!(read.is_err(), "cut at {cut}");
        }
    }
}
