//! Reading a manifest that may come from a hostile host.

use std::io::BufRead;

use super::{HEADER, Item, LINE, Limits, Totals, line, rules::Rules};
use crate::manifest::{BadManifest, Flaw, lines::Lines, names};

/// Reads a manifest line by line. It yields an error once, and then no more.
///
/// A manifest that was cut at the end of a line reads well: only its sha256, kept in `generation.toml`, proves it whole
/// (see [`crate::manifest::hashing::Hashing`]).
#[derive(Debug)]
pub struct Reader<R> {
    lines: Lines<R>,
    rules: Rules,
    proven: bool,
    begun: bool,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads within limits.
    pub fn new(input: R, limits: Limits) -> Self {
        let (lines, rules) = (Lines::new(input, LINE), Rules::new(limits));
        Self { lines, rules, proven: false, begun: false, ended: false }
    }

    /// Reads what was read in full before, and is proven by its sha256 to be the same: neither spelling nor rules are
    /// looked at again, and there are no [`Self::totals`].
    pub fn proven(input: R) -> Self {
        Self { proven: true, ..Self::new(input, Limits::NONE) }
    }

    /// What has been read so far.
    pub fn totals(&self) -> Totals {
        self.rules.totals()
    }

    /// What it reads from.
    pub fn into_inner(self) -> R {
        self.lines.into_inner()
    }

    fn read(&mut self) -> Result<Option<Item>, Flaw> {
        if !self.begun {
            self.begun = true;
            self.header()?;
        }
        let Some(text) = self.lines.next()? else { return Ok(None) };
        if self.proven {
            return line::read_proven(text).map(Some);
        }
        let item = line::read(text)?;
        self.rules.admit(&item)?;
        Ok(Some(item))
    }

    fn header(&mut self) -> Result<(), Flaw> {
        for expected in HEADER.split_inclusive(|b| *b == b'\n') {
            if self.lines.next()? != expected.strip_suffix(b"\n") {
                return Err(Flaw::Header);
            }
        }
        Ok(())
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Item, BadManifest>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = !matches!(read, Ok(Some(_)));
        read.map_err(|flaw| BadManifest { file: names::MANIFEST, line: self.lines.number(), flaw })
            .transpose()
    }
}
