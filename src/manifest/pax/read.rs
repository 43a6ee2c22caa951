//! Reading an archive that anybody may have made: every name is checked, memory is bounded, nothing is believed.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use tar::{EntryType, Header};

use super::{
    ATTRIBUTE, BLOCK, GID, GNAME, LINK, MTIME, PATH, SIZE, SPARSE_MAJOR, SPARSE_MINOR, SPARSE_NAME,
    SPARSE_SIZE, Stretch, UID, UNAME, has_holes, padding,
};
use crate::{
    manifest::{
        Digest, Entry, Kind,
        entry::{Links, Time},
        path,
    },
    sys::{show, xattr::Attribute},
};

/// Attributes of one member, with all else that its records hold.
const RECORDS: u64 = 2 << 20;
/// Stretches of one file.
const STRETCHES: u64 = 1 << 22;
/// The longest target of a link on Linux.
const TARGET: usize = 4095;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadArchive {
    /// It cannot be read, or ends too early.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is no archive as we write them.
    #[error("it is no archive as handover writes them: {0}")]
    Format(&'static str),
    /// A member has a name that could lead out of the target.
    #[error("the name {} in it {why}", show(.name))]
    Name {
        /// The name.
        name: Vec<u8>,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A member of an archive. The entry's path is relative, without `.` and `..`; the digest of a file is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub entry: Entry,
    /// Its attributes, sorted by name.
    pub attributes: Vec<Attribute>,
    /// What follows.
    pub body: Body,
}

/// What a member consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Nothing more than its entry.
    None,
    /// Another name of this file of the archive.
    Same(Vec<u8>),
    /// Content, of which these stretches are read by [`Reader::content`], one after another.
    Data(Vec<Stretch>),
}

/// Reads an archive from its beginning.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Bytes of the member's content that were not read yet, and what fills up the last block.
    left: u64,
    padding: usize,
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

impl<R: Read> Reader<R> {
    /// Begins to read.
    pub fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0 }
    }

    /// The next member; `None` at the end. What was not read of the content before is passed over.
    #[expect(clippy::should_implement_trait, reason = "after an error there is no next one")]
    pub fn next(&mut self) -> Result<Option<Member>, BadArchive> {
        self.pass_over()?;
        let Some(header) = self.header()? else { return Ok(None) };
        if header.entry_type() != EntryType::XHeader {
            return self.member(&header, &Records::new()).map(Some);
        }
        let size = header.size()?;
        if size > RECORDS {
            return Err(BadArchive::Format("its records are too large"));
        }
        (self.left, self.padding) = (size, padding(size));
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.input.read_exact(&mut bytes)?;
        self.left = 0;
        self.pass_over()?;
        let records = records(&bytes)?;
        let header = self.header()?.ok_or(BadArchive::Format("records without a member"))?;
        self.member(&header, &records).map(Some)
    }

    /// Reads content of the member; 0 at its end.
    pub fn content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if want == 0 {
            return Ok(0);
        }
        match self.input.read(&mut buffer[..want])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.left -= n as u64;
                Ok(n)
            }
        }
    }

    fn pass_over(&mut self) -> io::Result<()> {
        let left = std::mem::take(&mut self.left) + std::mem::take(&mut self.padding) as u64;
        if io::copy(&mut self.input.by_ref().take(left), &mut io::sink())? == left {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn header(&mut self) -> Result<Option<Header>, BadArchive> {
        let mut header = Header::new_old();
        self.input.read_exact(header.as_mut_bytes())?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let sum =
            bytes.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) });
        if sum.sum::<u32>() != header.cksum()? || header.as_ustar().is_none() {
            return Err(BadArchive::Format("a header is damaged"));
        }
        Ok(Some(header))
    }

    fn member(&mut self, header: &Header, records: &Records) -> Result<Member, BadArchive> {
        let text = |key: &str| records.get(key.as_bytes()).cloned();
        let size = match number(records, SIZE)? {
            Some(size) => size,
            None => header.size()?,
        };
        let kind = header.entry_type();
        if size > 0 && kind != EntryType::Regular {
            return Err(BadArchive::Format("something that is no file has content"));
        }
        (self.left, self.padding) = (size, padding(size));
        let name =
            text(SPARSE_NAME).or_else(|| text(PATH)).unwrap_or_else(|| header.path_bytes().into_owned());
        let path = checked(if kind.is_dir() { name.strip_suffix(b"/").unwrap_or(&name) } else { &name })?;
        let target =
            text(LINK).or_else(|| header.link_name_bytes().map(|l| l.into_owned())).unwrap_or_default();
        let (kind, body) = match kind {
            EntryType::Regular => {
                let (size, data) = self.data(records, size)?;
                (file(size), Body::Data(data))
            }
            EntryType::Link => (file(0), Body::Same(checked(&target)?)),
            EntryType::Directory => (Kind::Dir, Body::None),
            EntryType::Symlink if target.is_empty() || target.len() > TARGET || target.contains(&0) => {
                return Err(BadArchive::Format("a link leads nowhere"));
            }
            EntryType::Symlink => (Kind::Link { target }, Body::None),
            EntryType::Fifo => (Kind::Fifo, Body::None),
            EntryType::Char | EntryType::Block => (device(header)?, Body::None),
            _ => return Err(BadArchive::Format("a member is of a kind that is not known")),
        };
        let entry = entry(header, records, path, kind)?;
        Ok(Member { entry, attributes: attributes(records), body })
    }

    /// The size of a file and where its data are.
    fn data(&mut self, records: &Records, stored: u64) -> Result<(u64, Vec<Stretch>), BadArchive> {
        let Some(size) = number(records, SPARSE_SIZE)? else {
            let all = Stretch { start: 0, length: stored };
            return Ok((stored, if stored == 0 { Vec::new() } else { vec![all] }));
        };
        if (number(records, SPARSE_MAJOR)?, number(records, SPARSE_MINOR)?) != (Some(1), Some(0)) {
            return Err(BadArchive::Format("holes are told in another way"));
        }
        let mut digits = Digits { input: &mut *self, block: [0; BLOCK], at: BLOCK };
        let count = digits.number()?;
        if count > STRETCHES {
            return Err(BadArchive::Format("a file has too many holes"));
        }
        let (mut data, mut end) = (Vec::new(), 0);
        for _ in 0..count {
            let stretch = Stretch { start: digits.number()?, length: digits.number()? };
            let after = stretch.start.checked_add(stretch.length).filter(|after| *after <= size);
            end =
                after.filter(|_| stretch.start >= end).ok_or(BadArchive::Format("holes are not in order"))?;
            if stretch.length > 0 {
                data.push(stretch);
            }
        }
        if has_holes(&data, self.left) {
            return Err(BadArchive::Format("the content of a file is not what its map says"));
        }
        Ok((size, data))
    }
}

/// The numbers of a map of holes, one a line, in whole blocks.
struct Digits<'a, R> {
    input: &'a mut Reader<R>,
    block: [u8; BLOCK],
    at: usize,
}

impl<R: Read> Digits<'_, R> {
    fn number(&mut self) -> Result<u64, BadArchive> {
        const WRONG: BadArchive = BadArchive::Format("a map of holes is damaged");
        let mut value: Option<u64> = None;
        loop {
            if self.at == BLOCK {
                self.input.left = self.input.left.checked_sub(BLOCK as u64).ok_or(WRONG)?;
                self.input.input.read_exact(&mut self.block)?;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            match byte {
                b'0'..=b'9' => {
                    let next = value
                        .unwrap_or(0)
                        .checked_mul(10)
                        .and_then(|v| v.checked_add(u64::from(byte - b'0')));
                    value = Some(next.ok_or(WRONG)?);
                }
                b'\n' => return value.ok_or(WRONG),
                _ => return Err(WRONG),
            }
        }
    }
}

fn file(size: u64) -> Kind {
    Kind::File { size, digest: Digest([0; 32]), links: Links::One }
}

fn device(header: &Header) -> Result<Kind, BadArchive> {
    let numbers = (header.device_major()?, header.device_minor()?);
    let (Some(major), Some(minor)) = numbers else {
        return Err(BadArchive::Format("a device has no numbers"));
    };
    Ok(match header.entry_type() {
        EntryType::Char => Kind::Char { major, minor },
        _ => Kind::Block { major, minor },
    })
}

fn entry(header: &Header, records: &Records, path: Vec<u8>, kind: Kind) -> Result<Entry, BadArchive> {
    let id = |key, short: u64| -> Result<u32, BadArchive> {
        let id = number(records, key)?.unwrap_or(short);
        u32::try_from(id).map_err(|_| BadArchive::Format("an owner has too large a number"))
    };
    let owner = |key: &str, short: Option<&[u8]>| {
        let name = records.get(key.as_bytes()).map(Vec::as_slice).or(short).unwrap_or_default();
        (!name.is_empty()).then(|| name.to_vec())
    };
    let mtime = match records.get(MTIME.as_bytes()) {
        Some(text) => time(text).ok_or(BadArchive::Format("a time is no number"))?,
        None => {
            let seconds =
                i64::try_from(header.mtime()?).map_err(|_| BadArchive::Format("a time is too large"))?;
            Time { seconds, nanoseconds: 0 }
        }
    };
    Ok(Entry {
        path,
        mode: header.mode()? & 0o7777,
        uid: id(UID, header.uid()?)?,
        gid: id(GID, header.gid()?)?,
        uname: owner(UNAME, header.username_bytes()),
        gname: owner(GNAME, header.groupname_bytes()),
        mtime,
        kind,
    })
}

/// A name that stays below the target.
fn checked(name: &[u8]) -> Result<Vec<u8>, BadArchive> {
    match path::check_below(name) {
        Ok(()) => Ok(name.to_vec()),
        Err(why) => Err(BadArchive::Name { name: name.to_vec(), why }),
    }
}

fn records(mut bytes: &[u8]) -> Result<Records, BadArchive> {
    const WRONG: BadArchive = BadArchive::Format("a record is damaged");
    let mut found = Records::new();
    while !bytes.is_empty() {
        let space = bytes.iter().take(10).position(|b| *b == b' ').ok_or(WRONG)?;
        let length = decimal(&bytes[..space]).and_then(|l| usize::try_from(l).ok()).ok_or(WRONG)?;
        let record = bytes.get(space + 1..length).and_then(|r| r.strip_suffix(b"\n")).ok_or(WRONG)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or(WRONG)?;
        found.insert(record[..equals].to_vec(), record[equals + 1..].to_vec());
        bytes = &bytes[length..];
    }
    Ok(found)
}

fn number(records: &Records, key: &str) -> Result<Option<u64>, BadArchive> {
    match records.get(key.as_bytes()) {
        None => Ok(None),
        Some(text) => decimal(text).map(Some).ok_or(BadArchive::Format("a record is no number")),
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let point = text.iter().position(|b| *b == b'.');
    let (whole, fraction) = point.map_or((text, &b""[..]), |at| (&text[..at], &text[at + 1..]));
    let whole = i64::try_from(decimal(whole)?).ok()?;
    let mut digits = fraction.to_vec();
    digits.resize(9, b'0');
    let nanoseconds = u32::try_from(decimal(&digits)?).ok()?;
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds: whole, nanoseconds },
        (true, 0) => Time { seconds: -whole, nanoseconds },
        (true, _) => Time { seconds: -whole - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

fn attributes(records: &Records) -> Vec<Attribute> {
    let mut found: Vec<Attribute> = records
        .iter()
        .filter_map(|(key, value)| Some((unescape(key.strip_prefix(ATTRIBUTE)?), value.clone())))
        .collect();
    found.sort_unstable();
    found
}

fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            _ => (*first, after),
        };
        out.push(byte);
        rest = after;
    }
    out
}
