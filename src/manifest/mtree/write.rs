//! Writing a manifest.

use std::io::{self, Write};

use super::{HEADER, Item, LINE, Limits, Totals, line, rules::Rules};
use crate::manifest::{Digest, Flaw, hashing::Hashing};

/// Writes a manifest item by item and hashes what it writes. Give it a buffered writer.
#[derive(Debug)]
pub struct Writer<W> {
    out: Hashing<W>,
    rules: Rules,
    line: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a manifest.
    pub fn new(out: W) -> io::Result<Self> {
        let mut out = Hashing::new(out);
        out.write_all(HEADER)?;
        Ok(Self { out, rules: Rules::new(Limits::NONE), line: Vec::new() })
    }

    /// Writes the next item, in the order of [`crate::manifest::entry::order`]. An item that a reader would refuse is an
    /// error of kind [`io::ErrorKind::InvalidInput`], and leaves the manifest as it was: the caller may report the file
    /// as failed and go on.
    pub fn item(&mut self, item: &Item) -> io::Result<()> {
        self.line.clear();
        line::write(item, &mut self.line);
        if self.line.len() > LINE {
            return Err(Flaw::Line.into());
        }
        self.rules.admit(item)?;
        self.out.write_all(&self.line)
    }

    /// What has been written so far.
    pub fn totals(&self) -> Totals {
        self.rules.totals()
    }

    /// Flushes it and gives the sha256 of the whole. Nothing is synced.
    pub fn finish(mut self) -> io::Result<(W, Digest)> {
        self.out.flush()?;
        let digest = self.out.digest();
        Ok((self.out.into_inner(), digest))
    }
}
