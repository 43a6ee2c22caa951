//! The element `files`: each log file is known again by its inode and its content, and what is new of it is taken.

use std::{
    collections::HashMap,
    io,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{
    content::{self, Content},
    cursor::{Cursor, HEAD, Seen, Stamp, Stream, Taken, TooLarge},
    making::{Filling, Making, NewFile, Original},
    name::LogName,
    recognise::{Known, Recogniser},
    scan::{Found, Scan},
};
use crate::{
    manifest::{Bytes, Digest, Piece},
    report::{Finding, Kind},
    source::{collect::Error, copier, copier::Shared},
    store::handover_point::HandoverPoint,
    sys::{random, show, signals},
};

/// A last piece that is larger is not read again to know a file that grows.
const LAST_PIECE: u64 = 64 << 20;
/// So much of the beginning of a file must be the same before and after it is read: else it was truncated meanwhile.
const FIRST: usize = 4096;
/// A plain file with more that is new must have a hundredth of it on the disk: holes cost their maker nothing, and us room.
const HOLLOW: u64 = 1 << 30;
const NO_ROOM: &str = "larger than the room that is left";

/// A log file as this run sees it.
pub(super) struct Log<'f> {
    pub found: &'f Found,
    pub stamp: Stamp,
    pub content: Content<'f>,
    pub name: LogName,
    /// Whether the last run saw this inode.
    pub known_inode: bool,
    first: Vec<u8>,
}

impl<'f> Log<'f> {
    fn of(found: &'f Found, now: Timestamp) -> io::Result<Self> {
        let stamp = Stamp::of(&found.stat, now);
        let content = Content::of(&found.file, &found.path, stamp.size)?;
        let mut log = Self {
            found,
            stamp,
            content,
            name: LogName::of(&found.path),
            known_inode: false,
            first: Vec::new(),
        };
        log.first = log.begin()?;
        Ok(log)
    }

    fn begin(&self) -> io::Result<Vec<u8>> {
        let mut first = vec![0; FIRST];
        let read = self.found.file.read_at(&mut first, 0)?;
        first.truncate(read.min(usize::try_from(self.stamp.size).unwrap_or(FIRST)));
        Ok(first)
    }

    /// The name of its log.
    pub(super) fn log(&self) -> &[u8] {
        self.name.log.as_os_str().as_bytes()
    }

    /// Whether a plain file says that it holds far more than it has on the disk.
    fn is_hollow(&self, from: u64) -> bool {
        let held = u64::try_from(self.found.stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let new = self.stamp.size.saturating_sub(from);
        self.content.packing.is_none() && new > HOLLOW && held < new / 100
    }

    /// Whether it was not truncated since it was opened.
    fn is_still(&self, end: u64) -> io::Result<bool> {
        let now = self.found.file.metadata()?.len();
        Ok(self.content.packing.is_some() || now >= end && self.begin()? == self.first)
    }
}

/// Who has a stream in this run: the place of the stream, and of the file.
pub(super) type Claims = HashMap<usize, usize>;

/// What came of taking a piece.
enum Took {
    /// All that was new; perhaps nothing.
    All,
    /// The file was truncated while it was read: the next run sees what it is then.
    Truncated,
    /// It cannot be unpacked to its end.
    Torn(io::Error),
    /// It is more than can be taken, and why: a failure of this file alone.
    TooMuch(&'static str),
}

/// Taking what is new of log files.
pub(super) struct Files<'m, 'a> {
    pub cursor: &'m mut Cursor,
    pub making: &'m mut Making<'a>,
    pub point: &'m HandoverPoint,
    pub shared: &'m Shared<'m>,
    pub findings: &'m mut Vec<Finding>,
}

impl Files<'_, '_> {
    /// Takes what is new of all files of a scan.
    pub(super) fn take_all(&mut self, scan: &Scan) -> Result<(), Error> {
        let mut logs: Vec<Log<'_>> = Vec::new();
        for found in &scan.files {
            match Log::of(found, self.making.now) {
                // Of several names of one file the first is enough; and an empty file says nothing yet.
                Ok(log) if log.stamp.size == 0 || logs.iter().any(|l| l.stamp.is_same_file(&log.stamp)) => {}
                Ok(mut log) => {
                    log.known_inode = self.cursor.files.iter().any(|f| f.stamp.is_same_file(&log.stamp));
                    logs.push(log);
                }
                Err(e) => self.making.fail(&found.path, e.to_string()),
            }
        }
        logs.sort_by(|a, b| a.name.cmp(&b.name));
        let too_large = std::mem::take(&mut self.cursor.too_large);
        let mut taking =
            Taking { files: self, logs: &logs, claims: Claims::new(), seen: Vec::new(), too_large };
        let mut strange = Vec::new();
        // What is written to has the first claim on its stream, then the others.
        let (current, rotated): (Vec<usize>, Vec<usize>) =
            (0..logs.len()).partition(|at| logs[*at].name.is_current());
        for at in current.into_iter().chain(rotated) {
            signals::check()?;
            if !taking.by_inode(at)? {
                strange.push(at);
            }
        }
        // The eldest first, so that new streams are numbered in the order of their content.
        strange.sort_unstable();
        for at in strange {
            signals::check()?;
            taking.by_content(at)?;
        }
        let Taking { seen, .. } = taking;
        self.cursor.files = seen;
        Ok(())
    }
}

struct Taking<'t, 'm, 'a, 'f> {
    files: &'t mut Files<'m, 'a>,
    logs: &'t [Log<'f>],
    claims: Claims,
    seen: Vec<Seen>,
    /// What was too large for the last run.
    too_large: Vec<TooLarge>,
}

impl Taking<'_, '_, '_, '_> {
    /// A file that the last run saw, and that still begins with what was taken. False: look at its content.
    fn by_inode(&mut self, at: usize) -> Result<bool, Error> {
        let log = &self.logs[at];
        let cursor = &self.files.cursor;
        let Some(seen) = cursor.files.iter().find(|seen| seen.stamp.is_same_file(&log.stamp)) else {
            return Ok(false);
        };
        let known = seen.stream.as_ref().and_then(|id| cursor.streams.iter().position(|s| s.id == *id));
        let Some(index) = known else { return Ok(false) };
        if log.stamp.is_unchanged_since(&seen.stamp) {
            self.claim(index, at);
            return Ok(true);
        }
        let stream = &cursor.streams[index];
        let grows = log.content.packing.is_none()
            && log.stamp.size >= stream.taken
            && stream.is_of(log.log(), log.found.stat.st_uid);
        if !grows || self.claims.contains_key(&index) {
            return Ok(false);
        }
        match begins_as_before(&log.content, stream) {
            Ok(true) => {
                self.claim(index, at);
                let from = self.files.cursor.streams[index].taken;
                self.take(at, index, from)?;
                Ok(true)
            }
            Ok(false) => Ok(false),
            Err(e) => self.unreadable(at, &e).map(|()| true),
        }
    }

    /// A file that is not known by its inode, or that is not what it was.
    fn by_content(&mut self, at: usize) -> Result<(), Error> {
        let log = &self.logs[at];
        if let Some(known) = self.is_still_too_large(log)? {
            self.files.cursor.too_large.push(known);
            self.files.making.fail(&log.found.path, NO_ROOM.to_owned());
            return Ok(());
        }
        let recogniser = Recogniser {
            streams: &self.files.cursor.streams,
            claims: &self.claims,
            logs: self.logs,
            point: self.files.point,
            draft: self.files.making.draft,
        };
        match recogniser.known(log) {
            Ok(Known::Begins(index)) => {
                self.claim(index, at);
                let from = self.files.cursor.streams[index].taken;
                self.take(at, index, from)
            }
            Ok(Known::Within(index)) => {
                self.claim(index, at);
                Ok(())
            }
            Ok(Known::New { from }) => {
                let index = self.begin_stream(log.name.log.as_os_str().as_bytes())?;
                self.claim(index, at);
                self.take(at, index, from)
            }
            Err(e) if log.content.packing.is_some() => self.torn(at, &e),
            Err(e) => self.unreadable(at, &e),
        }
    }

    /// A packed file that had no room in the last run, is still the same, and would have none now. Whoever can write a log
    /// could keep every run busy otherwise.
    fn is_still_too_large(&self, log: &Log<'_>) -> Result<Option<TooLarge>, Error> {
        let is_it = |known: &&TooLarge| log.stamp.is_unchanged_since(&known.stamp);
        let Some(known) = self.too_large.iter().find(is_it) else { return Ok(None) };
        let room = copier::room(self.files.shared, self.files.making.draft.data())?;
        // A little more room is no reason to try again.
        Ok((room <= known.unpacked.saturating_add(known.unpacked / 4)).then_some(*known))
    }

    /// The file is one of the stream; the first of them is the one that has it.
    fn claim(&mut self, index: usize, at: usize) {
        self.claims.entry(index).or_insert(at);
        let stream = &mut self.files.cursor.streams[index];
        stream.seen = self.files.making.now;
        let log = &self.logs[at];
        let path = Bytes(log.found.path.as_os_str().as_bytes().to_vec());
        self.seen.push(Seen { path, stamp: log.stamp, stream: Some(stream.id.clone()) });
    }

    fn begin_stream(&mut self, log: &[u8]) -> Result<usize, Error> {
        let now = self.files.making.now;
        let order = self.files.cursor.next_order(log, now);
        self.files.cursor.streams.push(Stream {
            id: random::hex(16)?,
            log: Bytes(log.to_vec()),
            order,
            taken: 0,
            sha256: Digest::of(b""),
            hasher: content::freeze(&Sha256::new()),
            head: Digest::of(b""),
            pieces: Vec::new(),
            seen: now,
            uid: None,
        });
        Ok(self.files.cursor.streams.len() - 1)
    }

    fn take(&mut self, at: usize, index: usize, from: u64) -> Result<(), Error> {
        let took = self.files.take_piece(&self.logs[at], index, from);
        match took {
            Ok(Took::All) => Ok(()),
            Ok(Took::Truncated) => {
                self.unseen(at);
                Ok(())
            }
            Ok(Took::Torn(e)) => {
                self.unseen(at);
                if self.logs[at].content.packing.is_some() {
                    self.torn(at, &e)
                } else {
                    self.unreadable(at, &e)
                }
            }
            Ok(Took::TooMuch(why)) => {
                self.unseen(at);
                self.files.making.fail(&self.logs[at].found.path, why.to_owned());
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// What was noted of a file of which nothing could be taken is not so.
    fn unseen(&mut self, at: usize) {
        let stamp = self.logs[at].stamp;
        self.seen.retain(|seen| !seen.stamp.is_same_file(&stamp));
    }

    fn unreadable(&mut self, at: usize, e: &io::Error) -> Result<(), Error> {
        signals::check()?;
        self.files.making.fail(&self.logs[at].found.path, e.to_string());
        Ok(())
    }

    /// A packed file that ends too early may be being written: the next run looks again. One that has not changed since
    /// then is damaged, and is taken as it lies there.
    fn torn(&mut self, at: usize, e: &io::Error) -> Result<(), Error> {
        signals::check()?;
        let log = &self.logs[at];
        let path = log.found.path.as_os_str().as_bytes();
        let before = self.files.cursor.files.iter().find(|seen| seen.stamp.is_same_file(&log.stamp));
        let is_old = before.is_some_and(|s| s.stream.is_none() && log.stamp.is_unchanged_since(&s.stamp));
        if !is_old {
            let text = format!(
                "cannot be unpacked to its end ({e}): it may be being written; the next run looks again"
            );
            self.files.findings.push(Finding::new(Kind::Note, show(path), text));
            self.seen.push(Seen { path: Bytes(path.to_vec()), stamp: log.stamp, stream: None });
            return Ok(());
        }
        let index = self.begin_stream(path)?;
        self.claim(index, at);
        let raw = Log {
            found: log.found,
            stamp: log.stamp,
            content: log.content.as_it_is(),
            name: log.name.clone(),
            known_inode: log.known_inode,
            first: log.first.clone(),
        };
        if let Took::TooMuch(why) = self.files.take_piece(&raw, index, 0)? {
            self.unseen(at);
            self.seen.push(Seen { path: Bytes(path.to_vec()), stamp: log.stamp, stream: None });
            self.files.making.fail(&log.found.path, why.to_owned());
            return Ok(());
        }
        let text = format!("is damaged ({e}) and was taken as it is, as a log of its own");
        self.files.findings.push(Finding::new(Kind::Warning, show(path), text));
        Ok(())
    }
}

/// Whether a file that is at least as long still begins as it did: by its head and the last piece that was taken.
fn begins_as_before(content: &Content<'_>, stream: &Stream) -> io::Result<bool> {
    if content.digest(0, stream.taken.min(HEAD))? != stream.head {
        return Ok(false);
    }
    match stream.pieces.last().filter(|piece| piece.length <= LAST_PIECE) {
        Some(last) => Ok(content.digest(last.offset, last.length)? == last.sha256),
        None => Ok(true),
    }
}

impl Files<'_, '_> {
    /// Takes what a file holds from an offset on as the next piece of a stream.
    fn take_piece(&mut self, log: &Log<'_>, index: usize, from: u64) -> Result<Took, Error> {
        let stream = &self.cursor.streams[index];
        let (mut whole, start) = match content::thaw(&stream.hasher) {
            Some(hasher) => (hasher, stream.taken),
            None => (Sha256::new(), 0),
        };
        if log.content.packing.is_none() && log.stamp.size <= from {
            return Ok(Took::All);
        }
        if log.is_hollow(from) {
            return Ok(Took::TooMuch("it is nearly all holes, and larger than what it has on the disk"));
        }
        let stored = stored_name(log);
        let to = self.making.new_file(&stored)?;
        let mut filling = Filling::new(self.shared);
        let read = log.content.reader_from(start).and_then(|mut reader| {
            content::pass(&mut reader, from - start, &mut |bytes| {
                whole.update(bytes);
                Ok(())
            })?;
            content::pass(&mut reader, u64::MAX, &mut |bytes| {
                whole.update(bytes);
                filling.write(&to, bytes)
            })
        });
        if filling.is_too_large() {
            to.discard()?;
            if log.content.packing.is_some() {
                self.cursor.too_large.push(TooLarge { stamp: log.stamp, unpacked: filling.length() });
            }
            return Ok(Took::TooMuch(NO_ROOM));
        }
        let (length, sha256) = filling.end()?;
        if let Err(e) = read {
            to.discard()?;
            signals::check()?;
            return Ok(Took::Torn(e));
        }
        let end = from + length;
        let head =
            if start < HEAD || from == 0 { log.content.digest(0, end.min(HEAD)) } else { Ok(stream.head) };
        match (log.is_still(end), head) {
            (Ok(true), Ok(_)) if length == 0 => to.discard().map(|()| Took::All),
            (Ok(true), Ok(head)) => {
                self.keep(log, index, to, Part { offset: from, length, sha256, whole, head });
                Ok(Took::All)
            }
            (Ok(false), _) => to.discard().map(|()| Took::Truncated),
            (Err(e), _) | (_, Err(e)) => to.discard().map(|()| Took::Torn(e)),
        }
    }

    fn keep(&mut self, log: &Log<'_>, index: usize, to: NewFile, part: Part) {
        let Part { offset, length, sha256, whole, head } = part;
        self.shared.read.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
        let stream = &mut self.cursor.streams[index];
        stream.hasher = content::freeze(&whole);
        stream.sha256 = Digest(whole.finalize().into());
        stream.taken = offset + length;
        stream.head = head;
        stream.uid = Some(log.found.stat.st_uid);
        stream.pieces.push(Taken {
            offset,
            length,
            sha256,
            until: stream.sha256,
            generation: self.making.draft.id().clone(),
            element: self.making.name.to_owned(),
            stored: Bytes(to.stored.clone()),
        });
        let piece = Piece {
            stored: Bytes(to.stored),
            log: stream.log.clone(),
            stream: stream.id.clone(),
            order: stream.order,
            offset,
            length,
            found: Bytes(log.found.path.as_os_str().as_bytes().to_vec()),
            taken: self.making.now,
            modified: log.stamp.modified(),
        };
        self.making.add(piece, sha256, Original::of(&log.found.stat));
    }
}

/// A part of a stream that was read.
struct Part {
    offset: u64,
    length: u64,
    sha256: Digest,
    /// Of the stream from its beginning to the end of the part.
    whole: Sha256,
    head: Digest,
}

/// The place of a file in the generation: its path, of one that is unpacked without what says that it is packed.
fn stored_name(log: &Log<'_>) -> Vec<u8> {
    let path = match log.content.packing {
        Some(_) => log.found.path.with_extension(""),
        None => log.found.path.clone(),
    };
    path.as_os_str().as_bytes().to_vec()
}
