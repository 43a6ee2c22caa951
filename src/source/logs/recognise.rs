//! Knowing the content of a file again: as that of a stream, wherever it was before and whatever it is called now.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    ops::Range,
    os::unix::ffi::OsStrExt as _,
};

use sha2::{Digest as _, Sha256};

use super::{
    content::{self, BUFFER, Content},
    cursor::{Stream, Taken},
    files::{Claims, Log},
};
use crate::{
    manifest::{Digest, names},
    store::handover_point::{Draft, HandoverPoint},
    sys::{self, Dir},
};

/// Content that agrees in so many bytes is the same log under whatever name. Less says so only of files of one log.
const SURE: u64 = 1024;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It begins with all that was taken of a stream; what comes then is new.
    Begins(usize),
    /// A stream begins with all of it: nothing is new.
    Within(usize),
    /// A stream of its own. What comes before `from` was taken with another one, as far as that can still be told.
    New { from: u64 },
}

/// What is there to compare with.
pub(super) struct Recogniser<'r, 'f> {
    pub streams: &'r [Stream],
    pub claims: &'r Claims,
    pub logs: &'r [Log<'f>],
    pub point: &'r HandoverPoint,
    pub draft: &'r Draft,
}

/// How far a file agrees with streams.
struct Agreement {
    /// For each stream the end of the last piece up to which it does.
    until: HashMap<usize, u64>,
    /// The length of the content, where it ended before the last mark.
    length: Option<u64>,
}

impl Recogniser<'_, '_> {
    /// What a file is. An error is one of reading or unpacking it.
    pub(super) fn known(&self, log: &Log<'_>) -> io::Result<Known> {
        let agreement = self.agreement(log)?;
        let whole = |index: &usize| agreement.until.get(index) == Some(&self.streams[*index].taken);
        let begins = (0..self.streams.len())
            .filter(|index| self.streams[*index].taken > 0 && whole(index))
            .filter(|index| {
                self.may_be(log, *index, self.streams[*index].taken) && self.may_extend(log, *index)
            })
            .max_by_key(|index| self.streams[*index].taken);
        if let Some(index) = begins {
            return Ok(Known::Begins(index));
        }
        let Some(length) = agreement.length else { return Ok(Known::New { from: 0 }) };
        let mut from = 0;
        for (index, stream) in self.streams.iter().enumerate() {
            if stream.taken < length || !self.may_be(log, index, length) {
                continue;
            }
            let until = agreement.until.get(&index).copied().unwrap_or(0);
            match self.agrees(log, index, until, length)? {
                Some(true) => return Ok(Known::Within(index)),
                Some(false) => {}
                // The stored piece is gone: what is proven counts, the rest is rather taken twice than missed.
                None => from = from.max(until),
            }
        }
        Ok(Known::New { from })
    }

    /// Reads the content once, as far as any stream goes.
    fn agreement(&self, log: &Log<'_>) -> io::Result<Agreement> {
        let mut marks: Vec<(u64, Digest, usize)> = Vec::new();
        for (index, stream) in self.streams.iter().enumerate() {
            marks.extend(stream.pieces.iter().map(|piece| (piece.end(), piece.until, index)));
        }
        marks.sort_unstable_by_key(|(end, _, index)| (*end, *index));
        let mut agreement = Agreement { until: HashMap::new(), length: None };
        let mut reader = log.content.reader()?;
        let (mut hasher, mut at) = (Sha256::new(), 0);
        for here in marks.chunk_by(|a, b| a.0 == b.0) {
            let end = here[0].0;
            at += content::pass(&mut reader, end - at, &mut |bytes| {
                hasher.update(bytes);
                Ok(())
            })?;
            if at < end {
                agreement.length = Some(at);
                return Ok(agreement);
            }
            let digest = Digest(hasher.clone().finalize().into());
            for (_, expected, index) in here.iter().filter(|(_, expected, _)| *expected == digest) {
                debug_assert_eq!(*expected, digest);
                agreement.until.insert(*index, end);
            }
        }
        // It may end exactly here.
        let more = content::pass(&mut reader, 1, &mut |_| Ok(()))?;
        agreement.length = (more == 0).then_some(at);
        Ok(agreement)
    }

    /// Whether a file may be one of a stream with which it agrees in so many bytes. Files that begin alike are not one
    /// log for that: a copy is one that rotation makes of the file that is written to, which is then truncated in its
    /// place, or one that agrees in much.
    fn may_be(&self, log: &Log<'_>, index: usize, agrees: u64) -> bool {
        let stream = &self.streams[index];
        let of_log = stream.log.0 == log.name.log.as_os_str().as_bytes();
        let rotated = of_log && !log.name.is_current();
        agrees >= SURE
            || match self.claims.get(&index) {
                None => rotated || of_log && agrees == stream.taken,
                Some(claim) => {
                    let copied = self.logs[*claim].name.is_current() || log.content.packing.is_some();
                    // The copy was seen first, and what it is made of is not truncated yet.
                    let original = of_log && log.known_inode && agrees == stream.taken;
                    rotated && copied || original
                }
            }
    }

    /// Whether a file that begins with all of a stream may add to it: under the name of another log only where nobody else
    /// has the stream.
    fn may_extend(&self, log: &Log<'_>, index: usize) -> bool {
        let stream = &self.streams[index];
        let is_free = !self.claims.contains_key(&index) || stream.log.0 == log.log();
        is_free && stream.is_of(log.log(), log.found.stat.st_uid)
    }

    /// Whether a file agrees with a stream from `from` to its end, compared with the content itself: of the file that has
    /// the stream, or of the stored pieces. None if neither is there any more.
    fn agrees(&self, log: &Log<'_>, index: usize, from: u64, length: u64) -> io::Result<Option<bool>> {
        if from == length {
            return Ok(Some(true));
        }
        if let Some(claim) = self.claims.get(&index).map(|at| &self.logs[*at])
            && claim.content.packing.is_none()
            && claim.stamp.size >= length
        {
            let (mut ours, mut theirs) = (log.content.reader_from(from)?, claim.content.reader_from(from)?);
            // That it differs says nothing: it may have been truncated since it was taken.
            if same(&mut ours, &mut theirs, length - from)? {
                return Ok(Some(true));
            }
        }
        let mut at = from;
        for piece in self.streams[index].pieces.iter().filter(|piece| piece.end() > from) {
            if at == length {
                break;
            }
            if piece.offset > at {
                return Ok(None);
            }
            let Ok(stored) = self.stored(piece) else { return Ok(None) };
            let end = piece.end().min(length);
            match same_as_stored(&mut log.content.reader_from(at)?, &stored, piece, at..end)? {
                Some(true) => at = end,
                other => return Ok(other),
            }
        }
        Ok((at == length).then_some(true))
    }

    /// The stored file of a piece, wherever its generation is on this host.
    fn stored(&self, piece: &Taken) -> Result<File, crate::store::Error> {
        let data = if piece.generation == *self.draft.id() {
            self.draft.data().try_clone()?
        } else {
            let gone = || sys::Error::new("find", piece.generation.as_str(), rustix::io::Errno::NOENT);
            let (_, dir) = self.point.locate(&piece.generation)?.ok_or_else(gone)?;
            dir.open_dir(names::DATA)?
        };
        Ok(open_below(&data.open_dir(&piece.element)?, &piece.stored.0)?)
    }
}

/// Opens a file below a folder, following no link.
pub(super) fn open_below(dir: &Dir, path: &[u8]) -> sys::Result<File> {
    let slash = path.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    let (folder, name) = path.split_at(slash);
    dir.descend(folder)?.open_file(std::ffi::OsStr::from_bytes(name))
}

/// Whether two readers give the same bytes.
fn same(ours: &mut impl Read, theirs: &mut impl Read, length: u64) -> io::Result<bool> {
    let (mut other, mut same) = (vec![0; BUFFER], true);
    let read = content::pass(ours, length, &mut |bytes| {
        let read = content::fill(theirs, &mut other[..bytes.len()])?;
        same &= other[..read] == *bytes;
        Ok(())
    })?;
    Ok(same && read == length)
}

/// Whether a reader gives a stretch of the stream that a stored piece holds. Its folder is the transport user's: what lies
/// there counts only where it is what was taken, proven in the same reading. None if it is not.
fn same_as_stored(
    ours: &mut impl Read,
    stored: &File,
    piece: &Taken,
    stretch: Range<u64>,
) -> io::Result<Option<bool>> {
    let meta = stored.metadata()?;
    if !meta.is_file() || meta.len() != piece.length {
        return Ok(None);
    }
    let inner = Content { file: stored, packing: None, size: piece.length }.reader()?;
    let mut theirs = Hashed { inner, hasher: Sha256::new() };
    content::pass(&mut theirs, stretch.start - piece.offset, &mut |_| Ok(()))?;
    let same = same(ours, &mut theirs, stretch.end - stretch.start)?;
    content::pass(&mut theirs, u64::MAX, &mut |_| Ok(()))?;
    Ok((Digest(theirs.hasher.finalize().into()) == piece.sha256).then_some(same))
}

/// Hashes what is read.
struct Hashed<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
