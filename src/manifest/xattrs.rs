//! `xattrs`: extended attributes, ACLs, capabilities and labels, letter for letter as `getfattr --dump -e hex` writes
//! them and `setfattr --restore` reads them, in the order of the manifest.

use std::io::{self, BufRead, Write};

use super::{
    BadManifest, Digest, Flaw, entry::order, hashing::Hashing, lines::Lines, mtree::Limits, names, path,
};
use crate::sys::xattr::Attribute;

/// A path and its attributes, sorted by name.
pub type Attributes = (Vec<u8>, Vec<Attribute>);

/// The longest name of an attribute on Linux.
const NAME: usize = 255;
/// The largest value of an attribute on Linux.
const VALUE: usize = 64 * 1024;
/// Names and values of one file together.
const FILE: usize = 1024 * 1024;
/// The longest line: a value in hexadecimal digits with its name, every byte of it escaped.
const LINE: usize = 4 * NAME + 2 * VALUE + 16;

const FILE_KEY: &[u8] = b"# file: ";

/// Writes attributes file by file and hashes what it writes. Give it a buffered writer.
#[derive(Debug)]
pub struct Writer<W> {
    out: Hashing<W>,
    last: Vec<u8>,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins the file; one without attributes is empty.
    pub fn new(out: W) -> Self {
        Self { out: Hashing::new(out), last: Vec::new(), block: Vec::new() }
    }

    /// Writes the attributes of the next path, sorted by name; none at all is nothing to write. What a reader would
    /// refuse is an error of kind [`io::ErrorKind::InvalidInput`], and leaves the file as it was.
    pub fn attributes(&mut self, path: &[u8], list: &[Attribute]) -> io::Result<()> {
        if list.is_empty() {
            return Ok(());
        }
        check(&self.last, path, list)?;
        self.block.clear();
        self.block.extend_from_slice(FILE_KEY);
        escape(path, b"", &mut self.block);
        for (name, value) in list {
            self.block.push(b'\n');
            attribute(name, value, &mut self.block);
        }
        self.block.extend_from_slice(b"\n\n");
        self.last.clear();
        self.last.extend_from_slice(path);
        self.out.write_all(&self.block)
    }

    /// Flushes it and gives the sha256 of the whole. Nothing is synced.
    pub fn finish(mut self) -> io::Result<(W, Digest)> {
        self.out.flush()?;
        let digest = self.out.digest();
        Ok((self.out.into_inner(), digest))
    }
}

/// Reads attributes file by file from a host that may be hostile; memory is bounded by those of one file. It yields an
/// error once, and then no more. That the paths are those of a manifest is proven by [`super::attributed::Attributed`].
#[derive(Debug)]
pub struct Reader<R> {
    lines: Lines<R>,
    limit: u64,
    files: u64,
    last: Vec<u8>,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads within limits, of which the number of entries counts.
    pub fn new(input: R, limits: Limits) -> Self {
        let lines = Lines::new(input, LINE);
        Self { lines, limit: limits.entries, files: 0, last: Vec::new(), ended: false }
    }

    /// What it reads from.
    pub fn into_inner(self) -> R {
        self.lines.into_inner()
    }

    fn read(&mut self) -> Result<Option<Attributes>, Flaw> {
        let Some(line) = self.lines.next()? else { return Ok(None) };
        let path = line.strip_prefix(FILE_KEY).ok_or(Flaw::Expected("`# file: ` and a path"))?;
        let path = unescape(path, b"")?;
        let list = self.list()?;
        check(&self.last, &path, &list)?;
        self.files += 1;
        if self.files > self.limit {
            return Err(Flaw::Limit { what: "files with attributes", limit: self.limit });
        }
        self.last.clone_from(&path);
        Ok(Some((path, list)))
    }

    fn list(&mut self) -> Result<Vec<Attribute>, Flaw> {
        let mut list = Vec::new();
        let mut size = 0;
        loop {
            let line = self.lines.next()?.ok_or(Flaw::Line)?;
            if line.is_empty() {
                return Ok(list);
            }
            let (name, value) = read_attribute(line)?;
            size += name.len() + value.len();
            if size > FILE {
                return Err(Flaw::Limit { what: "bytes of attributes in one file", limit: FILE as u64 });
            }
            list.push((name, value));
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Attributes, BadManifest>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = !matches!(read, Ok(Some(_)));
        read.map_err(|flaw| BadManifest { file: names::XATTRS, line: self.lines.number(), flaw }).transpose()
    }
}

fn check(last: &[u8], path: &[u8], list: &[Attribute]) -> Result<(), Flaw> {
    path::check(path)?;
    if order(last, path).is_ge() {
        return Err(Flaw::Order);
    }
    if list.is_empty() {
        return Err(Flaw::Expected("an attribute"));
    }
    let mut size = 0;
    let mut before: &[u8] = b"";
    for (name, value) in list {
        if name.is_empty() || name.len() > NAME || name.contains(&0) {
            return Err(Flaw::Field("name of an attribute"));
        }
        if value.len() > VALUE {
            return Err(Flaw::Limit { what: "bytes in an attribute", limit: VALUE as u64 });
        }
        if before >= name.as_slice() {
            return Err(Flaw::Order);
        }
        before = name;
        size += name.len() + value.len();
    }
    if size > FILE {
        return Err(Flaw::Limit { what: "bytes of attributes in one file", limit: FILE as u64 });
    }
    Ok(())
}

fn attribute(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    escape(name, b"=", out);
    out.extend_from_slice(b"=0x");
    for byte in value {
        out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

fn read_attribute(line: &[u8]) -> Result<Attribute, Flaw> {
    let equals = line.iter().position(|b| *b == b'=').ok_or(Flaw::Expected("`name=0x…`"))?;
    let name = unescape(&line[..equals], b"=")?;
    let digits = line[equals..].strip_prefix(b"=0x").ok_or(Flaw::Expected("`=0x` and a value"))?;
    if digits.len() % 2 != 0 {
        return Err(Flaw::Field("value of an attribute"));
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(Flaw::Spelling),
    };
    let byte = |pair: &[u8]| Ok(nibble(pair[0])? << 4 | nibble(pair[1])?);
    Ok((name, digits.chunks_exact(2).map(byte).collect::<Result<_, Flaw>>()?))
}

/// What getfattr escapes: what would end the line, the backslash, and, in names of attributes, `=`.
fn is_escaped(byte: u8, more: &[u8]) -> bool {
    matches!(byte, b'\n' | b'\r' | b'\\') || more.contains(&byte)
}

fn escape(bytes: &[u8], more: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        if is_escaped(*byte, more) {
            out.extend_from_slice(format!("\\{byte:03o}").as_bytes());
        } else {
            out.push(*byte);
        }
    }
}

fn unescape(text: &[u8], more: &[u8]) -> Result<Vec<u8>, Flaw> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let value = match byte {
            b'\\' => {
                let (digits, after) = rest.split_at_checked(3).ok_or(Flaw::Spelling)?;
                rest = after;
                let digits = std::str::from_utf8(digits).map_err(|_| Flaw::Spelling)?;
                let value = u8::from_str_radix(digits, 8).map_err(|_| Flaw::Spelling)?;
                if is_escaped(value, more) { value } else { return Err(Flaw::Spelling) }
            }
            b'\r' => return Err(Flaw::Spelling),
            plain => *plain,
        };
        out.push(value);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &[u8]) -> Result<Vec<Attributes>, BadManifest> {
        Reader::new(text, Limits { entries: 100, bytes: 0 }).collect()
    }

    fn written(files: &[Attributes]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (path, list) in files {
            writer.attributes(path, list).unwrap();
        }
        let (text, digest) = writer.finish().unwrap();
        assert_eq!(digest, Digest::of(&text));
        text
    }

    fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..most)
    }

    fn files() -> impl Strategy<Value = Vec<Attributes>> {
        let name = prop::collection::vec(1..=255_u8, 1..20);
        let list = prop::collection::btree_map(name.clone(), bytes(40), 1..4);
        let file = name.prop_map(|name| {
            let name: Vec<u8> = name.into_iter().map(|b| if b == b'/' { b'.' } else { b }).collect();
            [b"e/x".as_slice(), &name].concat()
        });
        prop::collection::btree_map(file, list.prop_map(|list| list.into_iter().collect()), 0..8)
            .prop_map(|files| files.into_iter().collect())
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(files in files()) {
            prop_assert_eq!(read(&written(&files)).unwrap(), files);
        }

        #[test]
        fn what_is_read_is_what_would_be_written(files in files(), at in any::<prop::sample::Index>(), with in bytes(6)) {
            let mut text = written(&files);
            let at = at.index(text.len() + 1);
            let end = (at + with.len() / 2).min(text.len());
            text.splice(at..end, with);
            if let Ok(files) = read(&text) {
                prop_assert_eq!(written(&files), text);
            }
        }

        #[test]
        fn garbage_is_refused_and_nothing_worse(text in bytes(300)) {
            let text = [b"# file: e/f\nuser.a=0x".as_slice(), &text].concat();
            if let Ok(files) = read(&text) {
                prop_assert_eq!(written(&files), text);
            }
        }
    }

    #[test]
    fn what_no_file_has_or_nobody_could_hold_is_refused() {
        let huge = format!("# file: e/f\nuser.a=0x{}\n\n", "00".repeat(VALUE + 1));
        let many: String = (0..20).map(|i| format!("user.{i:02}=0x{}\n", "00".repeat(VALUE))).collect();
        let many = format!("# file: e/f\n{many}\n");
        let bad = [
            "user.a=0x\n\n",
            "# file: e/f\n\n",
            "# file: e/f\nuser.a=0x\n",
            "# file: e/f\nuser.a=0x0\n\n",
            "# file: e/f\nuser.a=0xAA\n\n",
            "# file: e/f\nuser.a=\"text\"\n\n",
            "# file: e/f\nuser.b=0x\nuser.a=0x\n\n",
            "# file: e/f\nuser.a=0x\nuser.a=0x\n\n",
            "# file: e/f\n=0x\n\n",
            "# file: ../f\nuser.a=0x\n\n",
            "# file: e/\\057f\nuser.a=0x\n\n",
            "# file: e/g\nuser.a=0x\n\n# file: e/f\nuser.a=0x\n\n",
            "# file: e/f\nuser.a=0x\n\n# file: e/f\nuser.b=0x\n\n",
            &huge,
            &many,
        ];
        for text in bad {
            assert!(read(text.as_bytes()).is_err(), "{}", &text[..text.len().min(80)]);
        }
        let error = read(b"# file: e/f\nuser.a=0x\n\n# file: e/g\nuser.a=\n\n").unwrap_err();
        assert_eq!(error.to_string(), "xattrs, line 5: `=0x` and a value was expected here");
    }
}
