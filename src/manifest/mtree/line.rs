//! The one spelling of an item as a line, and its reading.

use super::Item;
use crate::manifest::{
    Digest, Entry, Flaw, Kind,
    entry::{Links, Time, stored_path},
};

/// Appends the line of an item, with its end.
pub(super) fn write(item: &Item, out: &mut Vec<u8>) {
    match item {
        Item::Entry(entry) => entry_line(entry, out),
        Item::Socket(path) => {
            out.extend_from_slice(b"# socket ./");
            escape(path, out);
        }
        Item::Failed { path, why } => {
            out.extend_from_slice(b"# failed ./");
            escape(path, out);
            out.extend_from_slice(b": ");
            escape_text(why.as_bytes(), out);
        }
    }
    out.push(b'\n');
}

fn entry_line(entry: &Entry, out: &mut Vec<u8>) {
    let kind = match &entry.kind {
        Kind::File { .. } => "file",
        Kind::Dir => "dir",
        Kind::Link { .. } => "link",
        Kind::Fifo => "fifo",
        Kind::Char { .. } => "char",
        Kind::Block { .. } => "block",
    };
    out.extend_from_slice(b"./");
    escape(&entry.path, out);
    out.extend_from_slice(b" type=");
    out.extend_from_slice(kind.as_bytes());
    put(out, format_args!(" mode=0{:03o}", entry.mode));
    out.extend_from_slice(b" uid=");
    put_number(u64::from(entry.uid), out);
    out.extend_from_slice(b" gid=");
    put_number(u64::from(entry.gid), out);
    for (key, name) in [(" uname=", &entry.uname), (" gname=", &entry.gname)] {
        if let Some(name) = name {
            out.extend_from_slice(key.as_bytes());
            escape(name, out);
        }
    }
    out.extend_from_slice(b" time=");
    put_time(entry.mtime, out);
    match &entry.kind {
        Kind::File { size, digest, links } => {
            // bsdtar must see one name: it would link whatever shares an inode in the store, not what did on the source.
            out.extend_from_slice(b" nlink=1");
            if let Links::Many { nlink, inode } = links {
                put(out, format_args!(" inode={inode} tags=nlink:{nlink}"));
            }
            out.extend_from_slice(b" size=");
            put_number(*size, out);
            out.extend_from_slice(b" sha256digest=");
            out.extend_from_slice(&digest.hex());
            let stored = stored_path(&entry.path);
            if stored != entry.path {
                out.extend_from_slice(b" contents=./");
                escape(&stored, out);
            }
        }
        Kind::Link { target } => {
            out.extend_from_slice(b" link=");
            escape(target, out);
        }
        Kind::Char { major, minor } | Kind::Block { major, minor } => {
            put(out, format_args!(" device=native,{major},{minor}"));
        }
        Kind::Dir | Kind::Fifo => {}
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    if out.write_fmt(text).is_err() {
        // Nothing that is written into memory fails.
    }
}

/// A number in decimal digits: the formatter takes longer for one than the rest of a line takes.
fn put_number(mut number: u64, out: &mut Vec<u8>) {
    let (mut digits, mut at) = ([0_u8; 20], 20);
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A time as a decimal fraction: half a second before 1970 is `-0.500000000`, as tar and `date` have it.
fn put_time(time: Time, out: &mut Vec<u8>) {
    let (whole, fraction) = if time.seconds < 0 && time.nanoseconds > 0 {
        ((time.seconds + 1).unsigned_abs(), 1_000_000_000_u32.saturating_sub(time.nanoseconds))
    } else {
        (time.seconds.unsigned_abs(), time.nanoseconds)
    };
    if time.seconds < 0 {
        out.push(b'-');
    }
    put_number(whole, out);
    // Nine digits and a one before them, which becomes the point.
    let point = out.len();
    put_number(1_000_000_000 + u64::from(fraction), out);
    out[point] = b'.';
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+,:@".contains(&byte)
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.iter().all(|byte| is_plain(*byte)) {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        if is_plain(*byte) { out.push(*byte) } else { octal(*byte, out) }
    }
}

/// Text for people: spaces and signs stay.
fn escape_text(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        if matches!(byte, b' '..=b'~') && *byte != b'\\' { out.push(*byte) } else { octal(*byte, out) }
    }
}

fn octal(byte: u8, out: &mut Vec<u8>) {
    out.extend([b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]);
}

/// Reads a line without its end. Whatever this takes and [`write`] would spell otherwise is refused by the comparison of
/// the two, so the parts need not be strict about spelling: there is one line for an item, and one item for a line.
pub(super) fn read(line: &[u8]) -> Result<Item, Flaw> {
    let item = read_proven(line)?;
    let mut again = Vec::with_capacity(line.len() + 1);
    write(&item, &mut again);
    if again.strip_suffix(b"\n") == Some(line) { Ok(item) } else { Err(Flaw::Spelling) }
}

/// The same for a line that [`read`] has taken before.
pub(super) fn read_proven(line: &[u8]) -> Result<Item, Flaw> {
    let item = if let Some(rest) = line.strip_prefix(b"# socket ./") {
        Item::Socket(unescape(rest)?)
    } else if let Some(rest) = line.strip_prefix(b"# failed ./") {
        let space = rest.iter().position(|b| *b == b' ').ok_or(Flaw::Expected("a reason"))?;
        let path = rest[..space].strip_suffix(b":").ok_or(Flaw::Expected("`: ` and a reason"))?;
        let why = String::from_utf8(unescape(&rest[space + 1..])?).map_err(|_| Flaw::Spelling)?;
        Item::Failed { path: unescape(path)?, why }
    } else if let Some(rest) = line.strip_prefix(b"./") {
        Item::Entry(read_entry(rest)?)
    } else {
        return Err(Flaw::Expected("`./` and a path, `# socket` or `# failed`"));
    };
    Ok(item)
}

fn read_entry(line: &[u8]) -> Result<Entry, Flaw> {
    let mut words = Words(line);
    let path = unescape(words.next())?;
    let kind = words.take("type=")?;
    let mode = u32::from_str_radix(text(words.take("mode=")?)?, 8).map_err(|_| Flaw::Field("mode"))?;
    let uid = number(words.take("uid=")?, "uid")?;
    let gid = number(words.take("gid=")?, "gid")?;
    let uname = words.take_if("uname=").map(unescape).transpose()?;
    let gname = words.take_if("gname=").map(unescape).transpose()?;
    let mtime = read_decimal(words.take("time=")?)?;
    let kind = read_kind(kind, &mut words)?;
    if words.0.is_empty() {
        Ok(Entry { path, mode, uid, gid, uname, gname, mtime, kind })
    } else {
        Err(Flaw::Expected("the end of the line"))
    }
}

fn read_kind(kind: &[u8], words: &mut Words<'_>) -> Result<Kind, Flaw> {
    Ok(match kind {
        b"file" => {
            words.take("nlink=1")?;
            let links = match words.take_if("inode=") {
                None => Links::One,
                Some(inode) => Links::Many {
                    inode: number(inode, "inode")?,
                    nlink: number(words.take("tags=nlink:")?, "number of names")?,
                },
            };
            let size = number(words.take("size=")?, "size")?;
            let digest =
                Digest::parse(words.take("sha256digest=")?).map_err(|_| Flaw::Field("sha256 value"))?;
            // What it says follows from the path; the comparison of the whole line checks it.
            let _ = words.take_if("contents=");
            Kind::File { size, digest, links }
        }
        b"dir" => Kind::Dir,
        b"fifo" => Kind::Fifo,
        b"link" => Kind::Link { target: unescape(words.take("link=")?)? },
        b"char" | b"block" => {
            let device = words.take("device=native,")?;
            let comma = device.iter().position(|b| *b == b',').ok_or(Flaw::Field("device"))?;
            let (major, minor) =
                (number(&device[..comma], "device")?, number(&device[comma + 1..], "device")?);
            if kind == b"char" { Kind::Char { major, minor } } else { Kind::Block { major, minor } }
        }
        _ => return Err(Flaw::Expected("type=file, dir, link, fifo, char or block")),
    })
}

/// What is left of a line, word by word, each after one space.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn next(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|b| *b == b' ').unwrap_or(self.0.len());
        let word = &self.0[..end];
        self.0 = self.0.get(end + 1..).unwrap_or_default();
        word
    }

    fn take(&mut self, key: &'static str) -> Result<&'a [u8], Flaw> {
        self.take_if(key).ok_or(Flaw::Expected(key))
    }

    fn take_if(&mut self, key: &str) -> Option<&'a [u8]> {
        self.0.starts_with(key.as_bytes()).then(|| &self.next()[key.len()..])
    }
}

fn text(word: &[u8]) -> Result<&str, Flaw> {
    std::str::from_utf8(word).map_err(|_| Flaw::Spelling)
}

fn number<N: std::str::FromStr>(word: &[u8], what: &'static str) -> Result<N, Flaw> {
    text(word)?.parse().map_err(|_| Flaw::Field(what))
}

fn read_decimal(word: &[u8]) -> Result<Time, Flaw> {
    let wrong = || Flaw::Field("time");
    let (minus, digits) = match word.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let dot = digits.iter().position(|b| *b == b'.').ok_or_else(wrong)?;
    let whole: u64 = number(&digits[..dot], "time")?;
    let fraction: u32 = number(&digits[dot + 1..], "time")?;
    let (seconds, nanoseconds) = match (minus, fraction) {
        (false, _) => (i128::from(whole), fraction),
        (true, 0) => (-i128::from(whole), 0),
        (true, _) => (-i128::from(whole) - 1, 1_000_000_000_u32.checked_sub(fraction).ok_or_else(wrong)?),
    };
    Ok(Time { seconds: i64::try_from(seconds).map_err(|_| wrong())?, nanoseconds })
}

fn unescape(text: &[u8]) -> Result<Vec<u8>, Flaw> {
    if !text.contains(&b'\\') {
        return Ok(text.to_vec());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(3).ok_or(Flaw::Spelling)?;
        let value = digits.iter().try_fold(0_u16, |value, digit| {
            matches!(digit, b'0'..=b'7').then(|| value << 3 | u16::from(digit - b'0'))
        });
        out.push(value.and_then(|v| u8::try_from(v).ok()).ok_or(Flaw::Spelling)?);
        rest = after;
    }
    Ok(out)
}
