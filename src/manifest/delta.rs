//! What changed in a large file, block by block, beside the file it makes out of another. A delta is no part of a
//! generation: it saves a sink from looking for what the source knows already, and the result is proven by its own sha256.
//!
//! ```text
//! "handover delta 1\n"   sha256 of the base (32)   length of the result (8)   block size (4)
//! for each block that differs, in ascending order: its offset (8), a multiple of the block size, and its bytes: a whole
//!     block, or what is left of the result
//! 2^64-1 (8)             sha256 of all that is before it (32)
//! ```
//!
//! Numbers are little-endian. The result is the base, cut or filled up with zeros to its length, with these blocks put in.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::{Digest, Hashing};

/// Bytes of the blocks that are compared: a page of most databases. Small changes cost little, and 8 bytes beside them.
pub const BLOCK: u32 = 16 << 10;
/// Blocks that a reader takes: a power of two between these.
const BLOCKS: std::ops::RangeInclusive<u32> = 4 << 10..=1 << 20;
/// Smaller files have none: rsync is quick with them.
pub const SMALLEST: u64 = 16 << 20;
/// A generation has no more than this: they are named in an answer.
pub const MOST: usize = 1024;

const MAGIC: &[u8; 17] = b"handover delta 1\n";
const END: u64 = u64::MAX;
/// Bytes beside the blocks.
const FRAME: u64 = 17 + 32 + 8 + 4 + 8 + 32;

/// The largest delta that is worth it for a file of `length` bytes.
pub fn largest(length: u64) -> u64 {
    length / 2
}

/// What a delta makes out of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// sha256 of the base.
    pub base: Digest,
    /// Bytes of the result.
    pub length: u64,
    /// Bytes of a block.
    pub block: u32,
}

/// A delta that is offered beside a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// sha256 of the result.
    pub content: Digest,
    /// sha256 of the base.
    pub base: Digest,
    /// Bytes of the delta.
    pub bytes: u64,
}

impl Offered {
    /// The name of its file.
    pub fn name(&self) -> String {
        name(&self.content, &self.base)
    }
}

/// The name of the file that makes `content` out of `base`.
pub fn name(content: &Digest, base: &Digest) -> String {
    format!("{content}-{base}")
}

/// What a file of this name makes, and out of what.
pub fn parse_name(name: &[u8]) -> Option<(Digest, Digest)> {
    let (content, base) = name.split_at_checked(64)?;
    Some((Digest::parse(content).ok()?, Digest::parse(base.strip_prefix(b"-")?).ok()?))
}

/// Why a delta cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read at all, or ends too soon.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is not a delta as this version writes them.
    #[error("{0}")]
    Malformed(&'static str),
}

/// Writes a delta.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: Hashing<W>,
}

impl<W: Write> Writer<W> {
    /// Begins one.
    pub fn new(out: W, head: &Head) -> io::Result<Self> {
        let mut out = Hashing::new(out);
        out.write_all(MAGIC)?;
        out.write_all(&head.base.0)?;
        out.write_all(&head.length.to_le_bytes())?;
        out.write_all(&head.block.to_le_bytes())?;
        Ok(Self { out })
    }

    /// Adds a block, which begins at this byte of the result. They come in ascending order.
    pub fn block(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(&offset.to_le_bytes())?;
        self.out.write_all(bytes)
    }

    /// Bytes that it will have if it ends here.
    pub fn bytes(&self) -> u64 {
        self.out.bytes() + 8 + 32
    }

    /// Ends it.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&END.to_le_bytes())?;
        let digest = self.out.digest();
        let mut out = self.out.into_inner();
        out.write_all(&digest.0)?;
        out.flush()?;
        Ok(out)
    }
}

/// Reads a delta, one block at a time. What it gives lies within the result, in ascending order; that it was read to its
/// end, and is what was written, is known when [`Self::next`] has given `None`.
#[derive(Debug)]
pub struct Reader<R: Read> {
    input: Hashing<R>,
    head: Head,
    /// The first byte at which the next block may begin.
    from: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Begins to read.
    pub fn new(input: R) -> Result<Self, Error> {
        let mut input = Hashing::new(input);
        if bytes(&mut input)? != *MAGIC {
            return Err(Error::Malformed("it is no delta of this version"));
        }
        let base = Digest(bytes(&mut input)?);
        let length = u64::from_le_bytes(bytes(&mut input)?);
        let block = u32::from_le_bytes(bytes(&mut input)?);
        if !block.is_power_of_two() || !BLOCKS.contains(&block) {
            return Err(Error::Malformed("its block size is none of this version"));
        }
        if i64::try_from(length).is_err() {
            return Err(Error::Malformed("its result would be larger than a file can be"));
        }
        Ok(Self { input, head: Head { base, length, block }, from: 0, buffer: Vec::new() })
    }

    /// What it makes out of what.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The next block, and the byte of the result at which it begins; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "what it gives is lent")]
    pub fn next(&mut self) -> Result<Option<(u64, &[u8])>, Error> {
        let offset = u64::from_le_bytes(bytes(&mut self.input)?);
        if offset == END {
            return self.end().map(|()| None);
        }
        let block = u64::from(self.head.block);
        if offset < self.from || offset >= self.head.length || !offset.is_multiple_of(block) {
            return Err(Error::Malformed("a block of it lies where none can be"));
        }
        let count = block.min(self.head.length - offset);
        self.buffer.resize(usize::try_from(count).unwrap_or(0), 0);
        self.input.read_exact(&mut self.buffer)?;
        self.from = offset + count;
        Ok(Some((offset, &self.buffer)))
    }

    fn end(&mut self) -> Result<(), Error> {
        let digest = self.input.digest();
        if bytes(&mut self.input)? != digest.0 {
            return Err(Error::Malformed("its checksum is wrong"));
        }
        match self.input.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(Error::Malformed("something follows after its end")),
        }
    }
}

fn bytes<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Whether a delta of so many bytes can be one for a file of `length` bytes that is worth fetching.
pub fn is_plausible(bytes: u64, length: u64) -> bool {
    length >= SMALLEST && (FRAME..=largest(length)).contains(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head { base: Digest::of(b"base"), length: 40_000, block: BLOCK }
    }

    fn good() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &head()).unwrap();
        writer.block(0, &[1; BLOCK as usize]).unwrap();
        writer.block(32_768, &[2; 7_232]).unwrap();
        let bytes = writer.bytes();
        let written = writer.finish().unwrap();
        assert_eq!(written.len() as u64, bytes);
        written
    }

    fn read(bytes: &[u8]) -> Result<Vec<(u64, usize)>, Error> {
        let mut reader = Reader::new(bytes)?;
        let mut blocks = Vec::new();
        while let Some((offset, bytes)) = reader.next()? {
            blocks.push((offset, bytes.len()));
        }
        Ok(blocks)
    }

    /// With its checksum made right again.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.truncate(bytes.len() - 32);
        let digest = Digest::of(&bytes);
        bytes.extend(digest.0);
        bytes
    }

    #[test]
    fn a_delta_reads_back_as_it_was_written() {
        let bytes = good();
        assert_eq!(Reader::new(bytes.as_slice()).unwrap().head(), &head());
        assert_eq!(read(&bytes).unwrap(), [(0, 16_384), (32_768, 7_232)]);
        let empty = Writer::new(Vec::new(), &head()).unwrap().finish().unwrap();
        assert_eq!(empty.len() as u64, FRAME);
        assert_eq!(read(&empty).unwrap(), []);
    }

    #[test]
    fn what_is_torn_changed_or_followed_by_more_is_an_error() {
        let bytes = good();
        for cut in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in (0..bytes.len()).step_by(89) {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(read(&changed).is_err(), "changed at {at}");
        }
        assert!(read(&[&bytes[..], b"x"].concat()).is_err());
    }

    #[test]
    fn blocks_that_lie_where_none_can_be_are_refused_though_the_checksum_is_right() {
        let at = MAGIC.len() + 32 + 8 + 4;
        for offset in [1, 4096, 40_000, 49_152, 1 << 40, u64::MAX - 1] {
            let mut bytes = good();
            bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(offset));
            let refused = read(&sealed(bytes)).unwrap_err().to_string();
            assert!(refused.contains("lies where none can be"), "{offset}: {refused}");
        }
        // The same again, and going back.
        for offsets in [[0, 0], [16_384, 0]] {
            let mut writer = Writer::new(Vec::new(), &head()).unwrap();
            offsets.iter().for_each(|offset| writer.block(*offset, &[1; BLOCK as usize]).unwrap());
            assert!(read(&writer.finish().unwrap()).is_err(), "{offsets:?}");
        }
    }

    #[test]
    fn a_head_that_asks_for_much_memory_or_an_impossible_file_is_refused() {
        for (at, value) in [
            (57, u32::MAX.to_le_bytes().to_vec()),
            (57, (2_u32 << 20).to_le_bytes().to_vec()),
            (57, 0_u32.to_le_bytes().to_vec()),
            (57, 16_385_u32.to_le_bytes().to_vec()),
            (49, u64::MAX.to_le_bytes().to_vec()),
            (15, b"2".to_vec()),
        ] {
            let mut bytes = good();
            bytes[at..at + value.len()].copy_from_slice(&value);
            assert!(Reader::new(sealed(bytes).as_slice()).is_err(), "{at}: {value:?}");
        }
    }

    #[test]
    fn a_name_says_what_is_made_out_of_what() {
        let (content, base) = (Digest::of(b"new"), Digest::of(b"old"));
        let named = name(&content, &base);
        assert_eq!(parse_name(named.as_bytes()), Some((content, base)));
        for bad in
            ["", "x", &named[1..], &format!("{named}0"), &named.replace('-', "/"), &named.to_uppercase()]
        {
            assert_eq!(parse_name(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_gain_is_not_worth_it() {
        assert!(is_plausible(1 << 20, 64 << 20) && is_plausible(32 << 20, 64 << 20));
        assert!(!is_plausible((32 << 20) + 1, 64 << 20), "more than half");
        assert!(!is_plausible(1 << 10, (16 << 20) - 1), "a small file");
        assert!(!is_plausible(FRAME - 1, 64 << 20) && !is_plausible(u64::MAX, u64::MAX - 1));
    }
}
