//! What can be wrong with a manifest or an `xattrs` file, and where.

use std::io;

/// Why a file of a generation was refused, at which line. The file may come from a hostile host: its words are escaped.
#[derive(Debug, thiserror::Error)]
#[error("{file}{}: {flaw}", at(*.line))]
pub struct BadManifest {
    /// `manifest.mtree` or `xattrs`.
    pub file: &'static str,
    /// Counted from 1; 0 where it is no single line.
    pub line: u64,
    /// What is wrong.
    #[source]
    pub flaw: Flaw,
}

fn at(line: u64) -> String {
    if line == 0 { String::new() } else { format!(", line {line}") }
}

impl BadManifest {
    /// The system's answer, where the file could not be read at all: then nothing is said about its content.
    pub fn read_error(&self) -> Option<&io::Error> {
        match &self.flaw {
            Flaw::Read(e) => Some(e),
            _ => None,
        }
    }
}

/// What is wrong with a line, or with an item that was to be written.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// The system refused to read it.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// The first lines are not those of the format.
    #[error("this is not the beginning of the format that this handover reads")]
    Header,
    /// A line without an end, or without bounds.
    #[error("the line is cut off, or longer than any that handover writes")]
    Line,
    /// Not the grammar.
    #[error("{0} was expected here")]
    Expected(&'static str),
    /// It can be read, but is not how handover writes it: another spelling of a number or an escape, something twice or too much.
    #[error("the line is not spelled the one way that handover writes it")]
    Spelling,
    /// A path that must not be followed.
    #[error("the path {0}")]
    Path(&'static str),
    /// Not in order, or there already.
    #[error("the path is not in order, or is listed twice")]
    Order,
    /// What a path lies in was not listed.
    #[error("the folder of this path is not listed before it")]
    Parent,
    /// A field that no file has.
    #[error("the {0} is not one that a file can have")]
    Field(&'static str),
    /// Names of one file that do not agree, or a number out of turn.
    #[error("the names of one hard-linked file do not agree: {0}")]
    Links(&'static str),
    /// More than was allowed.
    #[error("more {what} than the limit of {limit}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// Attributes of something that is no entry of the manifest; its path, escaped.
    #[error("it has attributes of {0}, which the manifest does not list")]
    Stray(String),
}

impl From<Flaw> for io::Error {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Read(e) => e,
            flaw => Self::new(io::ErrorKind::InvalidInput, flaw),
        }
    }
}
