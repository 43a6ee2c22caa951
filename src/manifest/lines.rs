//! Lines of bounded length.

use std::io::{BufRead, Read as _};

use super::Flaw;

/// Reads lines, each no longer than a bound, however long the line is that a hostile host sends.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    limit: usize,
    number: u64,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Lines of at most `limit` bytes, their end included.
    pub fn new(input: R, limit: usize) -> Self {
        Self { input, limit, number: 0, line: Vec::new() }
    }

    /// The next line without its end; `None` after the last.
    pub fn next(&mut self) -> Result<Option<&[u8]>, Flaw> {
        self.number += 1;
        self.line.clear();
        let read = (&mut self.input).take(self.limit as u64).read_until(b'\n', &mut self.line)?;
        match self.line.strip_suffix(b"\n") {
            Some(line) => Ok(Some(line)),
            None if read == 0 => Ok(None),
            None => Err(Flaw::Line),
        }
    }

    /// The number of the line that was read last, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What it reads from.
    pub fn into_inner(self) -> R {
        self.input
    }
}
