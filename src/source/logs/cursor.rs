//! `<state>/source/logs/cursor`: how far each log was taken, and by what its content is known again.
//!
//! It becomes valid with the publishing rename of the generation that holds what it says was taken; see
//! [`super::super::state`].

use std::io::BufReader;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

use crate::{
    manifest::{Bytes, Digest, GenerationId, entry::Time},
    source::{collect::Error, copier, state::State},
    sys::{self, durable},
};

const FORMAT: u32 = 1;
/// A stream of which nothing was seen for so long is forgotten: what then comes back is taken again.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(30 * 24);
/// The latest pieces of a stream that are remembered.
const PIECES: usize = 100;
/// The beginning of a file, by which it is known again without reading all of it.
pub(super) const HEAD: u64 = 64 * 1024;

/// What is known of all logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    pub format: u32,
    pub streams: Vec<Stream>,
    /// The files as the last run saw them.
    pub files: Vec<Seen>,
    pub journal: Option<Journal>,
    /// Rejected generations whose content is in a later one.
    #[serde(default)]
    pub again: Vec<GenerationId>,
    /// Packed files for which there was no room.
    #[serde(default)]
    pub too_large: Vec<TooLarge>,
}

/// The content of one log file over its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stream {
    pub id: String,
    pub log: Bytes,
    pub order: u64,
    /// Bytes that were taken.
    pub taken: u64,
    /// Of all these bytes.
    pub sha256: Digest,
    /// The same before its end, so that what is appended needs no second reading.
    pub hasher: String,
    /// Of the first [`HEAD`] bytes, or of all where there are fewer.
    pub head: Digest,
    /// The latest pieces, in their order.
    pub pieces: Vec<Taken>,
    /// When a file of it was last seen.
    pub seen: Timestamp,
    /// Who owned the file that the last piece was taken of.
    #[serde(default)]
    pub uid: Option<u32>,
}

impl Stream {
    /// Whether a file of a log and a user may add to it: else anyone could add lines to a log that he can read.
    pub(super) fn is_of(&self, log: &[u8], uid: u32) -> bool {
        self.log.0 == log || self.uid == Some(uid)
    }
}

/// A piece that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taken {
    pub offset: u64,
    pub length: u64,
    /// Of the piece.
    pub sha256: Digest,
    /// Of the stream from its beginning to the end of the piece.
    pub until: Digest,
    /// The generation that holds it, and where.
    pub generation: GenerationId,
    pub element: String,
    pub stored: Bytes,
}

impl Taken {
    pub(super) fn end(&self) -> u64 {
        self.offset + self.length
    }
}

/// A file as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub path: Bytes,
    pub stamp: Stamp,
    /// What it is a file of; none where it could not be unpacked.
    pub stream: Option<String>,
}

/// A packed file that was more than there was room for: it is not unpacked again before it, or the room, is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TooLarge {
    pub stamp: Stamp,
    /// So many bytes of it were unpacked before the room was used up.
    pub unpacked: u64,
}

/// What tells whether a file is still as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
    /// Both times were old enough when it was seen: a later change cannot have left them as they are.
    settled: bool,
}

impl Stamp {
    pub(super) fn of(stat: &Stat, now: Timestamp) -> Self {
        let (modified, changed) = (copier::mtime(stat), copier::ctime(stat));
        let now = Time {
            seconds: now.as_second(),
            nanoseconds: u32::try_from(now.subsec_nanosecond()).unwrap_or(0),
        };
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (modified.seconds, modified.nanoseconds),
            changed: (changed.seconds, changed.nanoseconds),
            settled: copier::settled(modified, now) && copier::settled(changed, now),
        }
    }

    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether nothing can have changed between an earlier stamp and this one.
    pub(super) fn is_unchanged_since(&self, earlier: &Self) -> bool {
        earlier.settled && Self { settled: true, ..*self } == *earlier
    }

    pub(super) fn modified(&self) -> Timestamp {
        let nanoseconds = i32::try_from(self.modified.1).unwrap_or(0);
        Timestamp::new(self.modified.0, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// How far the journal was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    /// The id of its stream.
    pub stream: String,
    pub order: u64,
    /// Journald's own cursor of the last entry.
    pub cursor: String,
    /// Bytes that were taken.
    pub taken: u64,
    /// The latest pieces.
    pub pieces: Vec<Taken>,
}

impl Cursor {
    /// The valid one; an empty one before the first generation. One that cannot be read is an error: everything would be
    /// taken once more.
    pub(super) fn read(state: &State) -> Result<Self, Error> {
        let Some(file) = state.cache()? else {
            return Ok(Self {
                format: FORMAT,
                streams: vec![],
                files: vec![],
                journal: None,
                again: vec![],
                too_large: vec![],
            });
        };
        let bad = |why: String| {
            let why = format!("{why}; remove the file to take all logs once more from their beginning");
            Error::from(sys::Error::new("read", state.dir().join("cursor"), std::io::Error::other(why)))
        };
        let cursor: Self = serde_json::from_reader(BufReader::new(file)).map_err(|e| bad(e.to_string()))?;
        if cursor.format != FORMAT {
            return Err(bad("it was written by a newer handover: upgrade handover here".to_owned()));
        }
        Ok(cursor)
    }

    /// Writes it as the new one, synced; it is not valid yet.
    pub(super) fn write_new(&mut self, state: &State, now: Timestamp) -> Result<(), Error> {
        self.streams.retain(|s| s.taken > 0 && now.duration_since(s.seen) < REMEMBERED);
        let journal = self.journal.iter_mut().map(|journal| &mut journal.pieces);
        for pieces in self.streams.iter_mut().map(|stream| &mut stream.pieces).chain(journal) {
            let surplus = pieces.len().saturating_sub(PIECES);
            pieces.drain(..surplus);
        }
        let path = state.dir().join("cursor.new");
        let text = serde_json::to_vec(self).map_err(|_| Error::Internal("the cursor cannot be written"))?;
        let file = state.new_cache()?;
        durable::write_all(&file, &path, &text)?;
        Ok(durable::sync_file(&file, &path)?)
    }

    /// The place of the next stream of a log: above all before, also above those of a state that was lost.
    pub(super) fn next_order(&self, log: &[u8], now: Timestamp) -> u64 {
        let last = self.streams.iter().filter(|s| s.log.0 == log).map(|s| s.order).max();
        let by_clock = u64::try_from(now.as_millisecond()).unwrap_or(0);
        last.map_or(by_clock, |last| by_clock.max(last + 1))
    }
}
