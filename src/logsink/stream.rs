//! One log as a stream: its pieces in order, each byte once, each piece proven while it is read.

use std::{
    io::{self, Write},
    ops::Range,
};

use jiff::Timestamp;

use super::index::{Index, Log, Part, Trouble};
use crate::{
    manifest::Hashing,
    store::{self, SourceStore},
    sys::{show, signals},
};

/// Bytes that are held at a time.
const BUFFER: usize = 256 * 1024;

/// Why a stream ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// Our own store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Whoever reads it takes no more.
    #[error(transparent)]
    Output(io::Error),
}

impl From<signals::Interrupted> for Stopped {
    fn from(e: signals::Interrupted) -> Self {
        Self::Store(e.into())
    }
}

/// What is there of a log, by the time it was collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Bytes that are here, each counted once.
    pub bytes: u64,
    /// Bytes that are missing before one that is here.
    pub missing: u64,
    /// When the first of it was collected.
    pub first: Timestamp,
    /// When the last of it was collected.
    pub last: Timestamp,
}

/// How a piece joins what came before it.
struct Join {
    /// Bytes of the stream that are missing before it.
    missing: u64,
    /// Bytes of it that were there already.
    known: u64,
    /// Whether nothing of the log came before: what is missing then has gone by retention.
    first: bool,
}

/// Where one is in the streams of a log.
#[derive(Default)]
struct Position<'a> {
    stream: Option<&'a str>,
    offset: u64,
}

impl<'a> Position<'a> {
    fn join(&mut self, part: &'a Part) -> Join {
        let first = self.stream.is_none();
        if self.stream != Some(part.stream.as_str()) {
            (self.stream, self.offset) = (Some(part.stream.as_str()), 0);
        }
        let join = Join {
            missing: part.begin().saturating_sub(self.offset),
            known: self.offset.saturating_sub(part.offset).clamp(part.skip, part.length),
            first,
        };
        self.offset = self.offset.max(part.end());
        join
    }
}

/// What is there of a log within a time; none if there is nothing.
pub fn extent(parts: &[Part], within: &Range<Timestamp>) -> Option<Extent> {
    let mut position = Position::default();
    let mut extent: Option<Extent> = None;
    for part in parts {
        let join = position.join(part);
        if !within.contains(&part.taken) {
            continue;
        }
        let start = Extent { bytes: 0, missing: 0, first: part.taken, last: part.taken };
        let extent = extent.get_or_insert(start);
        extent.bytes = extent.bytes.saturating_add(part.length - join.known);
        extent.missing = extent.missing.saturating_add(join.missing);
        (extent.first, extent.last) = (extent.first.min(part.taken), extent.last.max(part.taken));
    }
    extent
}

/// Writes what was collected of a log within a time, in constant memory. What is missing or damaged is told, and the rest
/// follows. Of a damaged piece all is written that can be read of it.
pub fn write(
    store: &SourceStore,
    index: &Index,
    log: &Log,
    within: &Range<Timestamp>,
    out: &mut dyn Write,
    tell: &mut dyn FnMut(Trouble),
) -> Result<(), Stopped> {
    let mut position = Position::default();
    let mut last: Option<&Part> = None;
    for part in index.logs.get(log).into_iter().flatten() {
        let join = position.join(part);
        if !within.contains(&part.taken) {
            continue;
        }
        if join.missing > 0
            && let Some(text) = gap(index, log, part, last, &join)
        {
            tell(Trouble::missing(text));
        }
        last = Some(part);
        if join.known < part.length
            && let Some(why) = copy(store, index, part, join.known, out)?
        {
            let id = &index.generations[part.generation];
            tell(Trouble::damage(format!("{log}: {id}: {} is damaged: {why}", show(&part.path))));
        }
    }
    Ok(())
}

/// The words for what is missing before a piece. What is before the first one, where a time was asked for, is not missed.
fn gap(index: &Index, log: &Log, part: &Part, last: Option<&Part>, join: &Join) -> Option<String> {
    let id = &index.generations[part.generation];
    let missing = join.missing;
    match last {
        Some(last) => {
            let before = &index.generations[last.generation];
            Some(format!("{log}: {missing} bytes missing between {before} and {id}"))
        }
        None if join.first => {
            Some(format!("{log}: {missing} bytes missing before {id}, with which what is stored here begins"))
        }
        None => None,
    }
}

/// Writes a piece but for its first bytes; what is wrong with it, if anything.
fn copy(
    store: &SourceStore,
    index: &Index,
    part: &Part,
    known: u64,
    out: &mut dyn Write,
) -> Result<Option<String>, Stopped> {
    let file = match store.content(&index.generations[part.generation], &part.path) {
        Ok(file) => file,
        Err(e) if e.is_storage() => return Err(e.into()),
        Err(e) => return Ok(Some(e.to_string())),
    };
    let mut proven = Hashing::new(file);
    let mut buffer = vec![0; BUFFER];
    let mut skip = known;
    loop {
        signals::check()?;
        let read = match io::Read::read(&mut proven, &mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Ok(Some(format!("it cannot be read: {e}"))),
        };
        let skipped = usize::try_from(skip).map_or(read, |skip| skip.min(read));
        skip -= skipped as u64;
        out.write_all(&buffer[skipped..read]).map_err(Stopped::Output)?;
    }
    let whole = proven.bytes() == part.length && proven.digest() == part.digest;
    Ok((!whole).then(|| "what was printed of it is not what was sealed".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Digest;

    fn part(stream: &str, order: u64, offset: u64, length: u64, day: u8) -> Part {
        Part {
            generation: 0,
            path: b"files/x".to_vec(),
            digest: Digest::of(b""),
            order,
            stream: stream.to_owned(),
            offset,
            length,
            skip: 0,
            taken: at(day),
            arrived: 1,
        }
    }

    fn at(day: u8) -> Timestamp {
        format!("2026-11-{day:02}T03:00:00Z").parse().unwrap()
    }

    /// Bytes and missing bytes.
    fn of(parts: &[Part], days: Range<u8>) -> Option<(u64, u64)> {
        extent(parts, &(at(days.start)..at(days.end))).map(|e| (e.bytes, e.missing))
    }

    #[test]
    fn each_byte_counts_once_and_what_is_missing_is_counted() {
        let whole = [part("a", 1, 0, 10, 1), part("a", 1, 10, 5, 2), part("b", 2, 0, 7, 3)];
        assert_eq!(of(&whole, 1..30), Some((22, 0)));
        let twice =
            [part("a", 1, 0, 10, 1), part("a", 1, 0, 4, 1), part("a", 1, 8, 6, 2), part("a", 1, 12, 2, 2)];
        assert_eq!(of(&twice, 1..30), Some((14, 0)));
        let holes = [part("a", 1, 3, 7, 1), part("a", 1, 15, 5, 2), part("b", 2, 2, 7, 3)];
        assert_eq!(of(&holes, 1..30), Some((19, 10)));
        assert_eq!(of(&[], 1..30), None);
    }

    #[test]
    fn what_was_collected_at_another_time_is_neither_here_nor_missing() {
        let parts =
            [part("a", 1, 0, 10, 1), part("a", 1, 10, 5, 2), part("a", 1, 20, 5, 3), part("b", 2, 0, 7, 4)];
        assert_eq!(of(&parts, 2..3), Some((5, 0)));
        assert_eq!(of(&parts, 2..4), Some((10, 5)));
        assert_eq!(of(&parts, 1..2), Some((10, 0)));
        assert_eq!(of(&parts, 5..9), None);
        let extent = extent(&parts, &(at(2)..at(9))).unwrap();
        assert_eq!((extent.first, extent.last), (at(2), at(4)));
    }

    #[test]
    fn a_length_that_no_file_can_have_overflows_nothing() {
        let parts =
            [part("a", 1, u64::MAX, u64::MAX, 1), part("a", 1, 0, u64::MAX, 1), part("a", 1, 9, 1, 1)];
        assert!(of(&parts, 1..2).is_some());
    }
}
