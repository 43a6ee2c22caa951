//! The words between a sink that delivers and a restore gate, version 1: the other direction of
//! [`protocol`](super::protocol), with requests of its own, so that neither gate ever answers what is asked of the other.

use std::{any::Any, fmt, path::PathBuf, str::FromStr, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::protocol::{Caps, Part, REQUEST_LIMIT, RSYNC_TIMEOUT, Refused, VERSION};
use crate::{
    manifest::{GenerationId, Seal, names},
    store::receive::half_dir,
};

/// The generation's own files that are delivered before its content: all that the seal speaks of, and itself.
pub const OWN_FILES: [&str; 5] =
    [names::GENERATION, names::MANIFEST, names::XATTRS, names::SUMS, names::README];

/// What a sink may ask a restore gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// What lies in the drop point; answered by [`Status`].
    Status,
    /// A generation is to come. Answered by [`Begun`].
    Begin {
        /// Which generation.
        id: GenerationId,
        /// Its seal.
        seal: Seal,
        /// Bytes of all its files.
        bytes: u64,
        /// Files and folders.
        entries: u64,
    },
    /// Start rsync as the receiver of a generation that has begun.
    Receive {
        /// Which generation.
        id: GenerationId,
        /// Which part of it.
        part: Part,
        /// What the rsync of the sink can do.
        caps: Caps,
    },
    /// All of it was sent: prove it, and show it to the restore. Answered by [`Published`].
    Publish {
        /// Which generation.
        id: GenerationId,
        /// Its seal.
        seal: Seal,
    },
}

/// The request is not one of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a request of `handover 1 restore`: status, begin ID SEAL BYTES ENTRIES, receive ID META|DATA CAPS, publish ID SEAL"
)]
pub struct BadRequest;

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "handover {VERSION} restore ")?;
        match self {
            Self::Status => write!(f, "status"),
            Self::Begin { id, seal, bytes, entries } => write!(f, "begin {id} {seal} {bytes} {entries}"),
            Self::Receive { id, part, caps } => write!(f, "receive {id} {part} {caps}"),
            Self::Publish { id, seal } => write!(f, "publish {id} {seal}"),
        }
    }
}

impl Request {
    /// Reads exactly what [`Display`](fmt::Display) writes: one space between words, nothing before, nothing after.
    pub fn parse(text: &str) -> Result<Self, BadRequest> {
        if text.len() > REQUEST_LIMIT {
            return Err(BadRequest);
        }
        let words: Vec<&str> = text.split(' ').collect();
        let request = match words.as_slice() {
            ["handover", "1", "restore", "status"] => Self::Status,
            ["handover", "1", "restore", "begin", id, seal, bytes, entries] => {
                Self::Begin { id: word(id)?, seal: word(seal)?, bytes: word(bytes)?, entries: word(entries)? }
            }
            ["handover", "1", "restore", "receive", id, part, caps] => {
                let part = match *part {
                    "META" => Part::Meta,
                    "DATA" => Part::Data,
                    _ => return Err(BadRequest),
                };
                Self::Receive { id: word(id)?, part, caps: word(caps)? }
            }
            ["handover", "1", "restore", "publish", id, seal] => {
                Self::Publish { id: word(id)?, seal: word(seal)? }
            }
            _ => return Err(BadRequest),
        };
        // What is read in more than one way is written in one.
        if request.to_string() == text { Ok(request) } else { Err(BadRequest) }
    }
}

fn word<T: FromStr>(text: &str) -> Result<T, BadRequest> {
    text.parse().map_err(|_| BadRequest)
}

impl Caps {
    /// The arguments of the rsync that receives: files and folders with content, no owner, mode, time, link or device;
    /// nothing is deleted. The current folder is the one that is written. Nothing in it comes from outside but the
    /// capabilities and the id, which are well-formed.
    ///
    /// Equal size is taken for equal content: what came before a cut is not read again here, but all of it is hashed
    /// before it is published, and what is wrong is thrown away then and sent once more.
    pub fn receiver_line(&self, id: &GenerationId) -> Vec<String> {
        vec![
            "--server".to_owned(),
            format!("-RS{self}"),
            "--log-format=%i".to_owned(),
            format!("--timeout={RSYNC_TIMEOUT}"),
            "--size-only".to_owned(),
            "--partial-dir".to_owned(),
            String::from_utf8_lossy(&half_dir(id)).into_owned(),
            "--no-implied-dirs".to_owned(),
            ".".to_owned(),
            ".".to_owned(),
        ]
    }

    /// The capabilities in what a local rsync asks its far end to run, if it asks for nothing but the one line of
    /// [`Self::receiver_line`].
    pub fn of_receiver_line(asked: &[String], id: &GenerationId) -> Option<Self> {
        let caps: Self = asked.get(1)?.strip_prefix("-RS")?.parse().ok()?;
        (caps.receiver_line(id) == asked).then_some(caps)
    }
}

/// The answer to [`Request::Status`]. Fields that this version does not know are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of handover there.
    pub version: String,
    /// The time there.
    pub clock: Timestamp,
    /// Bytes that may still be written there.
    pub free: u64,
    /// Generations that lie there whole, as far as can be said without reading them.
    pub delivered: Vec<GenerationId>,
    /// Generations that are on their way.
    pub incoming: Vec<GenerationId>,
}

/// The answer to [`Request::Begin`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Whether it lies there already, with this seal: only [`Request::Publish`] is left, which proves it.
    pub there: bool,
    /// Bytes that had come before.
    pub had: u64,
}

/// The answer to [`Request::Publish`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// What became of it.
    pub outcome: Outcome,
    /// Files whose content was compared.
    pub files: u64,
    /// Bytes that were read for it.
    pub bytes: u64,
    /// How many files were missing or wrong.
    pub wrong: u64,
    /// The first of them, and why.
    pub damaged: Vec<String>,
}

/// What became of a generation that was to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is whole, and lies where the restore looks.
    Published,
    /// It was published before, and is whole.
    Already,
    /// It is not whole: what was wrong has been thrown away, and is to be sent again.
    Damaged,
}

/// A folder into which rsync may receive, held as long as the guard lives.
pub struct ReceiveFolder {
    /// The folder, by a handle that a program inherits.
    pub path: PathBuf,
    /// No file can grow beyond this many bytes.
    pub largest: u64,
    /// What keeps others out meanwhile.
    pub guard: Box<dyn Any + Send>,
}

impl fmt::Debug for ReceiveFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiveFolder").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Is called every now and then while something takes long, so that whoever waits knows that somebody is there.
pub type Alive = Arc<dyn Fn() + Send + Sync>;

/// What answers: the restore gate itself, in process or at the end of an ssh session.
pub trait Receive: Send + Sync {
    /// Answers any request but [`Request::Receive`], which is refused here.
    fn answer(&self, request: &Request, alive: Alive) -> Result<Vec<u8>, Refused>;

    /// The folder to receive into for [`Request::Receive`].
    fn receiver(&self, id: &GenerationId, part: Part) -> Result<ReceiveFolder, Refused>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{gate::protocol, manifest::Digest};

    fn id() -> GenerationId {
        "20261123T030000Z".parse().unwrap()
    }

    #[test]
    fn every_request_reads_back_as_it_was_written_and_none_is_one_of_the_other_gate() {
        let (seal, caps): (_, Caps) = (Digest::of(b"x"), "e.LsfxCIvu".parse().unwrap());
        let receive = |part| Request::Receive { id: id(), part, caps: caps.clone() };
        let begin = Request::Begin { id: id(), seal, bytes: u64::MAX, entries: u64::MAX };
        let all = [
            Request::Status,
            begin,
            receive(Part::Meta),
            receive(Part::Data),
            Request::Publish { id: id(), seal },
        ];
        for request in all {
            let text = request.to_string();
            assert!(text.len() <= REQUEST_LIMIT, "{text}");
            assert_eq!(Request::parse(&text), Ok(request));
            assert!(protocol::Request::parse(&text).is_err(), "{text}");
            for bad in [format!(" {text}"), format!("{text} "), format!("{text} x"), format!("{text}\n")] {
                assert_eq!(Request::parse(&bad), Err(BadRequest), "{bad:?}");
            }
        }
        let seal = "0".repeat(64);
        for bad in [
            "handover 1 offers".to_owned(),
            "handover 1 restore".to_owned(),
            format!("handover 1 restore begin {} {seal} +1 1", id()),
            format!("handover 1 restore begin {} {seal} 01 1", id()),
            format!("handover 1 restore begin ../x {seal} 1 1"),
            format!("handover 1 restore begin {} {} 1 1", id(), &seal[1..]),
            format!("handover 1 restore receive {} ROOT e.x", id()),
            format!("handover 1 restore receive {} DATA --x", id()),
        ] {
            assert_eq!(Request::parse(&bad), Err(BadRequest), "{bad}");
        }
    }

    #[test]
    fn a_line_that_asks_for_more_than_the_fixed_one_has_no_capabilities() {
        let caps: Caps = "ze.LsfxCIvu".parse().unwrap();
        let line = caps.receiver_line(&id());
        assert_eq!(
            line.join(" "),
            "--server -RSze.LsfxCIvu --log-format=%i --timeout=300 --size-only --partial-dir .part-20261123T030000Z \
             --no-implied-dirs . ."
        );
        assert_eq!(Caps::of_receiver_line(&line, &id()), Some(caps));
        let mut other = line.clone();
        other.insert(2, "--delete".to_owned());
        assert_eq!(Caps::of_receiver_line(&other, &id()), None);
        assert_eq!(Caps::of_receiver_line(&[], &id()), None);
    }
}
