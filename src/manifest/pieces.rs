//! `data/<element>/.pieces.jsonl` of a generation of logs: which part of which log each stored file is.
//!
//! A log is a sequence of **streams**, each the content of one log file over its life, from the first byte that was ever
//! written to it to the last, under whatever names. Each generation holds the pieces of streams that were new. To read a
//! log as one: all pieces of its name, of all generations, sorted by [`Piece::key`].

use std::io::BufRead;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Bytes, lines::Lines};

/// The file's name in the element's folder.
pub const FILE: &str = ".pieces.jsonl";
/// The element of log files, and the one of the journal.
pub const FILES: &str = "files";
/// The element of the journal, and the name of its log.
pub const JOURNAL: &str = "journal";
/// The kind of these elements.
pub const KIND: &str = "logs";
/// No line is longer.
pub const LINE_LIMIT: usize = 64 * 1024;

/// A line of the file: one stored piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The stored file, as a path below the element's folder.
    pub stored: Bytes,
    /// The log that it belongs to: the path without what rotation adds to it, as `/var/log/nginx/access.log`; of the
    /// journal: `journal`.
    pub log: Bytes,
    /// The random id of its stream.
    pub stream: String,
    /// The streams of a log in the order of their content: the lower comes first. It never goes back, not even where a
    /// host was rebuilt.
    pub order: u64,
    /// Where in the stream it begins, in bytes.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
    /// The path under which it was found.
    pub found: Bytes,
    /// When it was taken.
    pub taken: Timestamp,
    /// The last change of the file that it was taken from, as seen then.
    pub modified: Timestamp,
}

impl Piece {
    /// By this the pieces of one log are sorted to read it from its beginning.
    pub fn key(&self) -> (u64, &str, u64) {
        (self.order, &self.stream, self.offset)
    }

    /// Its line, with the newline.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self).map(|line| line + "\n")
    }

    /// Reads a line; of what a newer handover added, only the rest is read.
    pub fn parse(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

/// Reads a list to its end: no more than `most` pieces, as each is a file of its own. It may come from a hostile host; that
/// it is whole, only its sha256 says.
pub fn each(list: impl BufRead, most: usize, visit: &mut dyn FnMut(Piece)) -> Result<(), String> {
    let (mut lines, mut count) = (Lines::new(list, LINE_LIMIT), 0);
    while let Some(line) = lines.next().map_err(|e| e.to_string())? {
        count += 1;
        if count > most {
            return Err(format!("it lists more pieces than there are files ({most})"));
        }
        visit(Piece::parse(line).map_err(|e| crate::sys::show(e.to_string().as_bytes()))?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_it_was_made_from() {
        let piece = Piece {
            stored: Bytes(b"var/log/\xff".to_vec()),
            log: Bytes(b"/var/log/access.log".to_vec()),
            stream: "00ff".to_owned(),
            order: 1_763_865_600_000,
            offset: 7,
            length: 9,
            found: Bytes(b"/var/log/access.log.1".to_vec()),
            taken: "2026-11-23T03:00:00Z".parse().unwrap(),
            modified: "2026-11-23T02:59:59Z".parse().unwrap(),
        };
        let line = piece.to_line().unwrap();
        assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
        assert_eq!(Piece::parse(line.as_bytes()).unwrap(), piece);
        assert!(Piece::parse(b"{}").is_err());
        let mut read = Vec::new();
        each(format!("{line}{line}").as_bytes(), 2, &mut |piece| read.push(piece)).unwrap();
        assert!(each(format!("{line}{line}").as_bytes(), 1, &mut |_| {}).is_err());
        assert_eq!(read, [piece.clone(), piece]);
        assert!(
            each(&b"{}\n"[..], 9, &mut |_| {}).is_err()
                && each(&b"x".repeat(LINE_LIMIT)[..], 9, &mut |_| {}).is_err()
        );
    }
}
