//! What the sink rejected: nothing else holds these logs, so that each piece is handed over again, as it is at the Handover
//! Point where it is whole there, else from the log where that still holds it.

use std::{ffi::OsStr, fs::File, io, os::unix::ffi::OsStrExt as _, path::Path};

use jiff::Timestamp;

use super::{
    content::{self, Content},
    cursor::{Cursor, Taken},
    making::{Filling, Making, NewFile, Original},
    recognise::open_below,
};
use crate::{
    manifest::{Bytes, GenerationId, Piece, names, pieces},
    report::{Finding, Kind},
    source::{
        collect::Error,
        copier::{self, At, Shared},
    },
    store::handover_point::HandoverPoint,
    sys::{self, Dir, show, signals},
};

/// Condemns what was rejected and is handed over again; what is not there any more is forgotten.
pub(super) fn clear(point: &HandoverPoint, cursor: &mut Cursor, now: Timestamp) -> Result<(), Error> {
    if cursor.again.is_empty() {
        return Ok(());
    }
    point.clear_repeated(&cursor.again, now)?;
    let waiting = point.waiting()?.items;
    cursor.again.retain(|id| waiting.iter().any(|w| w.found.id() == id));
    Ok(())
}

/// Takes the pieces of all rejected generations once more.
pub(super) fn take(
    point: &HandoverPoint,
    cursor: &mut Cursor,
    elements: &mut [Making<'_>],
    shared: &Shared<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    for waiting in point.waiting()?.items {
        let id = waiting.found.id().clone();
        if waiting.rejected.is_none() || cursor.again.contains(&id) {
            continue;
        }
        let repeated = repeat(point, cursor, elements, shared, &id)?;
        if repeated.known == 0 {
            let text = "it was rejected by the sink, and this host does not know any more what is in it";
            let fix = "look at its files; those that are whole can be copied to the log sink's host by hand";
            findings.push(Finding::new(Kind::Failed, id.as_str(), text).with_fix(fix));
            continue;
        }
        for lost in repeated.lost {
            let text = format!("{lost}: damaged at the Handover Point, and not in the log any more: lost");
            let fix = "look at the disk of this host; all else is handed over again";
            findings.push(Finding::new(Kind::Failed, id.as_str(), text).with_fix(fix));
        }
        cursor.again.push(id);
    }
    Ok(())
}

/// What became of a rejected generation.
#[derive(Default)]
struct Repeated {
    /// Pieces of it that the cursor knows.
    known: u64,
    /// Those that nothing holds any more, for people.
    lost: Vec<String>,
}

fn repeat(
    point: &HandoverPoint,
    cursor: &mut Cursor,
    elements: &mut [Making<'_>],
    shared: &Shared<'_>,
    id: &GenerationId,
) -> Result<Repeated, Error> {
    let mut repeated = Repeated::default();
    let data = point.locate(id)?.and_then(|(_, dir)| dir.open_dir(names::DATA).ok());
    let Cursor { streams, files, journal, .. } = cursor;
    let journal =
        journal.iter_mut().map(|j| (Bytes(pieces::JOURNAL.into()), &j.stream, j.order, &mut j.pieces));
    let streams = streams.iter_mut().map(|s| (s.log.clone(), &s.id, s.order, &mut s.pieces));
    for (log, stream, order, taken) in streams.chain(journal) {
        for piece in taken.iter_mut().filter(|piece| piece.generation == *id) {
            signals::check()?;
            repeated.known += 1;
            let Some(making) = elements.iter_mut().find(|making| making.name == piece.element) else {
                continue;
            };
            let to = making.new_file(&piece.stored.0)?;
            let stored = data.as_ref().and_then(|data| stored(data, piece));
            let mut whole = match stored {
                Some(file) => is_filled(&file, None, piece, &to, shared)?,
                None => false,
            };
            for seen in files.iter().filter(|seen| seen.stream.as_ref() == Some(stream)) {
                if !whole && let Some(file) = original(&seen.path.0) {
                    let path = Path::new(OsStr::from_bytes(&seen.path.0));
                    whole = is_filled(&file, Some(path), piece, &to, shared)?;
                }
            }
            if !whole {
                to.discard()?;
                let end = piece.end();
                repeated.lost.push(format!("{} from byte {} to {end}", show(&log.0), piece.offset));
                continue;
            }
            piece.generation = making.draft.id().clone();
            piece.stored = Bytes(to.stored.clone());
            let again = Piece {
                stored: Bytes(to.stored),
                log: log.clone(),
                stream: stream.clone(),
                order,
                offset: piece.offset,
                length: piece.length,
                found: log.clone(),
                taken: making.now,
                modified: making.now,
            };
            making.add(again, piece.sha256, Original::ours(making.now));
        }
    }
    Ok(repeated)
}

fn stored(data: &Dir, piece: &Taken) -> Option<File> {
    open_below(&data.open_dir(&piece.element).ok()?, &piece.stored.0).ok()
}

fn original(path: &[u8]) -> Option<File> {
    let path = Path::new(OsStr::from_bytes(path));
    let dir = std::sync::Arc::new(Dir::open(path.parent()?).ok()?);
    copier::open(&At { dir, name: path.file_name()?.to_owned() }).ok()
}

/// Fills a new file with a piece: from its stored file, or, given the path of a log, from the log. False if that does not
/// hold it; an error is one of our own side.
fn is_filled(
    file: &File,
    log: Option<&Path>,
    piece: &Taken,
    to: &NewFile,
    shared: &Shared<'_>,
) -> Result<bool, Error> {
    let empty = |e: io::Error| Error::from(sys::Error::new("empty", "the draft's file", e));
    to.file.set_len(0).map_err(empty)?;
    io::Seek::rewind(&mut &to.file).map_err(empty)?;
    let Ok(size) = file.metadata().map(|meta| meta.len()) else { return Ok(false) };
    let (content, offset) = match log {
        None => (Content { file, packing: None, size }, 0),
        Some(path) => match Content::of(file, path, size) {
            Ok(content) => (content, piece.offset),
            Err(_) => return Ok(false),
        },
    };
    let mut filling = Filling::new(shared);
    let read = content.reader_from(offset).and_then(|mut reader| {
        content::pass(&mut reader, piece.length, &mut |bytes| filling.write(to, bytes))
    });
    let (length, sha256) = filling.end()?;
    Ok(read.is_ok() && (length, sha256) == (piece.length, piece.sha256))
}
