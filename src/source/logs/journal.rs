//! The element `journal`: the journal since its cursor, in journald's export format.

use std::{path::Path, time::Duration};

use super::{
    cursor::{Journal, Taken},
    making::{Filling, Making, NewFile, Original},
};
use crate::{
    manifest::{Bytes, Digest, Piece, pieces},
    source::{collect::Error, copier::Shared},
    sys::{
        child::{self, Failure, Job},
        program, random,
    },
};

const FILE: &str = "journal.export";
/// A journal that takes longer to be read is broken, or too large for one run; then all is as before.
const TIMEOUT: Duration = Duration::from_secs(6 * 3600);
/// Journald's cursors are some 150 bytes long.
const LONGEST_CURSOR: usize = 4096;

/// Takes the journal since the cursor; what is wrong with it is a failure of this element alone.
pub(super) fn take(
    directory: Option<&Path>,
    journal: &mut Option<Journal>,
    making: &mut Making<'_>,
    shared: &Shared<'_>,
) -> Result<(), Error> {
    let whole = Path::new("");
    if program::find("journalctl").is_none() {
        let why =
            "there is no journalctl on this host; install systemd, or remove `journald` from [source.logs]";
        making.fail(whole, why.to_owned());
        return Ok(());
    }
    let mut argv =
        ["journalctl", "--output=export", "--no-pager", "--quiet", "--all"].map(str::to_owned).to_vec();
    argv.extend(directory.map(|dir| format!("--directory={}", dir.display())));
    argv.extend(journal.as_ref().map(|known| format!("--after-cursor={}", known.cursor)));
    let to = making.new_file(FILE.as_bytes())?;
    let mut export = Export::default();
    let mut filling = Filling::new(shared);
    let mut keep = |bytes: &[u8]| {
        export.read(bytes);
        filling.write(&to, bytes)
    };
    let job = Job { argv: &argv, user: None, env: &[], timeout: TIMEOUT };
    let ended = child::run(&job, None, Some(&mut keep));
    let (length, sha256) = filling.end()?;
    match (ended, export.cursor) {
        (Err(Failure::Interrupted(e)), _) => Err(e.into()),
        (Err(e), _) => {
            making.fail(
                whole,
                format!("{e}; if there is no journal here, remove `journald` from [source.logs]"),
            );
            to.discard()
        }
        (Ok(()), None) => {
            if journal.is_none() && length == 0 {
                let why = "there is no entry in the journal: is journald running here? Else remove `journald` from [source.logs]";
                making.fail(whole, why.to_owned());
            }
            to.discard()
        }
        (Ok(()), Some(cursor)) => {
            let known = match journal.take() {
                Some(known) => known,
                None => first(making)?,
            };
            shared.read.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
            *journal = Some(add(making, known, cursor, to, (length, sha256)));
            Ok(())
        }
    }
}

/// Adds what was read as the next piece.
fn add(
    making: &mut Making<'_>,
    mut known: Journal,
    cursor: String,
    to: NewFile,
    (length, sha256): (u64, Digest),
) -> Journal {
    let piece = Piece {
        stored: Bytes(to.stored.clone()),
        log: Bytes(pieces::JOURNAL.as_bytes().to_vec()),
        stream: known.stream.clone(),
        order: known.order,
        offset: known.taken,
        length,
        found: Bytes(pieces::JOURNAL.as_bytes().to_vec()),
        taken: making.now,
        modified: making.now,
    };
    known.pieces.push(Taken {
        offset: known.taken,
        length,
        sha256,
        until: sha256, // The journal is known by its own cursor.
        generation: making.draft.id().clone(),
        element: making.name.to_owned(),
        stored: Bytes(to.stored),
    });
    making.add(piece, sha256, Original::ours(making.now));
    Journal { cursor, taken: known.taken + length, ..known }
}

fn first(making: &Making<'_>) -> Result<Journal, Error> {
    let order = u64::try_from(making.now.as_millisecond()).unwrap_or(0);
    Ok(Journal { stream: random::hex(16)?, order, cursor: String::new(), taken: 0, pieces: Vec::new() })
}

/// Reads the export format, to find the cursor of the last whole entry. A message may hold anything, also what looks
/// like a cursor: so fields with newlines, which come with their length, are passed over by that.
#[derive(Debug, Default)]
struct Export {
    line: Vec<u8>,
    state: Reading,
    /// Of the entry that is being read.
    next: Option<String>,
    /// Of the last whole one.
    cursor: Option<String>,
}

#[derive(Debug, Default)]
enum Reading {
    #[default]
    Line,
    /// The eight bytes of a field's length.
    Length(Vec<u8>),
    /// So many bytes of a field are to come, its newline with them.
    Field(u64),
}

impl Export {
    fn read(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.state {
                Reading::Field(left) => {
                    let skip = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    at += skip;
                    *left -= skip as u64;
                    if *left == 0 {
                        self.state = Reading::Line;
                    }
                }
                Reading::Length(read) => {
                    read.push(bytes[at]);
                    at += 1;
                    if let Ok(length) = <[u8; 8]>::try_from(read.as_slice()) {
                        self.state = Reading::Field(u64::from_le_bytes(length).saturating_add(1));
                    }
                }
                Reading::Line => {
                    let end = bytes[at..].iter().position(|b| *b == b'\n');
                    let part = &bytes[at..end.map_or(bytes.len(), |end| at + end)];
                    let room = LONGEST_CURSOR.saturating_sub(self.line.len());
                    self.line.extend_from_slice(&part[..part.len().min(room)]);
                    at += part.len() + usize::from(end.is_some());
                    if end.is_some() {
                        self.line();
                    }
                }
            }
        }
    }

    fn line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.cursor = self.next.take().or(self.cursor.take());
        } else if let Some(cursor) = line.strip_prefix(b"__CURSOR=") {
            self.next = String::from_utf8(cursor.to_vec()).ok();
        } else if !line.contains(&b'=') {
            self.state = Reading::Length(Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_looks_like_a_cursor_is_none() {
        let evil = b"hello\n__CURSOR=evil\n\n";
        let mut text = b"__CURSOR=one\nPRIORITY=6\nMESSAGE\n".to_vec();
        text.extend((evil.len() as u64).to_le_bytes());
        text.extend(evil);
        text.extend(b"\n_PID=1\n\n__CURSOR=two\nMESSAGE=__CURSOR=x\n\n__CURSOR=three\nMESSAGE=torn");
        for step in [1, 7, 1000] {
            let mut export = Export::default();
            text.chunks(step).for_each(|part| export.read(part));
            assert_eq!(export.cursor.as_deref(), Some("two"), "in steps of {step}");
        }
    }
}
