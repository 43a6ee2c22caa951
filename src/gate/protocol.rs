//! The words between a sink and a gate, version 1: requests on a command line, answers in JSON, and the one line by
//! which rsync is started on the sending side. Both ends read what they get as if the other were hostile.

use std::{any::Any, fmt, path::PathBuf, str::FromStr, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::manifest::{Channel, Digest, GenerationId, Seal, delta};

/// The version of the requests. 1: the first.
pub const VERSION: u32 = 1;
/// No request is longer than this many bytes.
pub const REQUEST_LIMIT: usize = 200;
/// No answer is larger than this many bytes.
pub const ANSWER_LIMIT: u64 = 64 * 1024 * 1024;
/// No list of rejected paths is larger than this many bytes.
pub const PATHS_LIMIT: u64 = 4 * 1024 * 1024;
/// Seconds without a byte after which either rsync gives up by itself, should nobody else end it before.
pub const RSYNC_TIMEOUT: u32 = 300;
/// The longest life of a sender. A slower transport is ended and goes on where it was with the next run.
pub const SEND_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Exit code of a gate that refuses a request, with the reason on stderr: none that rsync, ssh or a shell ends with.
pub const EXIT_REFUSED: u8 = 99;

/// What a sink may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Which generations wait; answered by [`Offers`].
    Offers,
    /// Which generations the Source-Store holds; answered by [`Stored`].
    Stored,
    /// What this host knows of one generation; answered by [`History`].
    History(GenerationId),
    /// Start rsync as the sender of a generation that waits or is stored.
    Send {
        /// Which generation.
        id: GenerationId,
        /// Which part of it.
        part: Part,
        /// What the rsync of the sink can do.
        caps: Caps,
    },
    /// It is durable at the sink; the receipt's text follows on stdin. Answered by [`Accepted`].
    Accept {
        /// Which generation.
        id: GenerationId,
        /// Its seal.
        seal: Seal,
    },
    /// It was damaged; the paths follow on stdin, each ended by a zero byte. Answered by [`Rejected`].
    Reject {
        /// Which generation.
        id: GenerationId,
        /// Its seal.
        seal: Seal,
    },
}

/// The parts of a generation that are sent by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The files beside `data/`: rsync runs in the generation's folder.
    Meta,
    /// The content: rsync runs in `data/`.
    Data,
    /// What changed in large files, where that is offered: rsync runs in `delta/`. Only for fetching.
    Delta,
}

/// The request is not one of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a request of `handover 1`: offers, stored, history ID, send ID META|DATA|DELTA CAPS, accept ID SEAL, reject ID SEAL"
)]
pub struct BadRequest;

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Meta => "META",
            Self::Data => "DATA",
            Self::Delta => "DELTA",
        })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "handover {VERSION} ")?;
        match self {
            Self::Offers => write!(f, "offers"),
            Self::Stored => write!(f, "stored"),
            Self::History(id) => write!(f, "history {id}"),
            Self::Send { id, part, caps } => write!(f, "send {id} {part} {caps}"),
            Self::Accept { id, seal } => write!(f, "accept {id} {seal}"),
            Self::Reject { id, seal } => write!(f, "reject {id} {seal}"),
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
        match words.as_slice() {
            ["handover", "1", "offers"] => Ok(Self::Offers),
            ["handover", "1", "stored"] => Ok(Self::Stored),
            ["handover", "1", "history", id] => Ok(Self::History(word(id)?)),
            ["handover", "1", "send", id, "META", caps] => {
                Ok(Self::Send { id: word(id)?, part: Part::Meta, caps: word(caps)? })
            }
            ["handover", "1", "send", id, "DATA", caps] => {
                Ok(Self::Send { id: word(id)?, part: Part::Data, caps: word(caps)? })
            }
            ["handover", "1", "send", id, "DELTA", caps] => {
                Ok(Self::Send { id: word(id)?, part: Part::Delta, caps: word(caps)? })
            }
            ["handover", "1", "accept", id, seal] => Ok(Self::Accept { id: word(id)?, seal: word(seal)? }),
            ["handover", "1", "reject", id, seal] => Ok(Self::Reject { id: word(id)?, seal: word(seal)? }),
            _ => Err(BadRequest),
        }
    }
}

fn word<T: FromStr>(text: &str) -> Result<T, BadRequest> {
    text.parse().map_err(|_| BadRequest)
}

/// What the sink's rsync says it can do: the end of its bundle of letters, `e.LsfxCIvu`, with a `z` before it where
/// the transfer is to be compressed. All that the gate takes from the sink's rsync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caps(String);

/// The text is not a set of capabilities.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not rsync's capabilities, as e.LsfxCIvu")]
pub struct BadCaps;

impl FromStr for Caps {
    type Err = BadCaps;

    /// `z`, if any, then `e`, digits, a dot, digits, letters; at most 24 bytes.
    fn from_str(text: &str) -> Result<Self, BadCaps> {
        let letters = text
            .strip_prefix('z')
            .unwrap_or(text)
            .strip_prefix('e')
            .and_then(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix('.'))
            .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()))
            .ok_or(BadCaps)?;
        let plain = letters.bytes().all(|b| b.is_ascii_alphabetic());
        if plain && text.len() <= 24 { Ok(Self(text.to_owned())) } else { Err(BadCaps) }
    }
}

impl fmt::Display for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Caps {
    /// The capabilities in what a local rsync asks its far end to run, if it asks for nothing but the one line of
    /// [`Self::sender_line`].
    pub fn of_line<'a>(asked: &'a [String]) -> Option<Self> {
        let bundle: &'a str = asked.get(2)?.strip_prefix("-IRS")?;
        let caps: Self = bundle.parse().ok()?;
        (caps.sender_line() == asked).then_some(caps)
    }

    /// The arguments of the rsync that sends: read-only, the files that the receiver lists and no others, no owner,
    /// mode, time, link or device. The current folder is the one that is sent. Nothing in it comes from outside but
    /// the capabilities.
    pub fn sender_line(&self) -> Vec<String> {
        vec![
            "--server".to_owned(),
            "--sender".to_owned(),
            format!("-IRS{}", self.0),
            format!("--timeout={RSYNC_TIMEOUT}"),
            "--files-from=-".to_owned(),
            "--from0".to_owned(),
            "--no-implied-dirs".to_owned(),
            ".".to_owned(),
            ".".to_owned(),
        ]
    }
}

/// The answer to [`Request::Offers`]. Fields that this version does not know are ignored: a newer source may say more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offers {
    /// The name that the source gives itself.
    pub name: String,
    /// Its lineage.
    pub lineage: String,
    /// What it hands over here.
    pub channel: Channel,
    /// Version of handover there.
    pub version: String,
    /// The time there.
    pub clock: Timestamp,
    /// What waits, in order.
    pub offers: Vec<Offer>,
}

/// A generation that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its id.
    pub id: GenerationId,
    /// Its place in the order.
    pub sequence: u64,
    /// Its seal.
    pub seal: Seal,
    /// Regular files.
    pub files: u64,
    /// Entries of the manifest.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Bytes of what [`Part::Meta`] sends.
    pub manifest_bytes: u64,
    /// A sink found it damaged; it is not offered again.
    pub rejected: bool,
    /// Another session reads it.
    pub reading: bool,
    /// What changed in its large files, for [`Part::Delta`]. An older source tells of none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deltas: Vec<delta::Offered>,
}

/// The answer to [`Request::Stored`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// What the Source-Store holds, in order.
    pub generations: Vec<StoredOffer>,
}

/// A generation in the Source-Store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOffer {
    /// Its id.
    pub id: GenerationId,
    /// Its place in the order.
    pub sequence: u64,
    /// Its seal.
    pub seal: Seal,
    /// When it was accepted.
    pub accepted: Timestamp,
}

/// The answer to [`Request::History`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Which generation.
    pub id: GenerationId,
    /// What happened to it, oldest first.
    pub events: Vec<Event>,
}

/// Something that happened to a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// A word for it, as `sealed` or `accepted`.
    pub what: String,
    /// More about it.
    pub detail: String,
}

/// The answer to [`Request::Accept`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// What became of it.
    pub outcome: AcceptOutcome,
    /// sha256 of the receipt that the source keeps: the first one it got, if it keeps one.
    pub receipt: Option<Digest>,
}

/// What became of an accepted generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceptOutcome {
    /// It is accepted now.
    Accepted,
    /// It was accepted before.
    Already,
    /// Retention of the source took it meanwhile.
    Gone,
    /// Not now: accept it in the next run.
    Later,
}

/// The answer to [`Request::Reject`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// What became of it.
    pub outcome: RejectOutcome,
    /// How many paths were noted, to be read afresh by the next collect.
    pub paths: u64,
}

/// What became of a rejected generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RejectOutcome {
    /// It is not offered any more.
    Rejected,
    /// It is not there any more.
    Gone,
}

/// The gate says no; the text is for the operator of the sink.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// A folder that rsync may send, held as long as the guard lives: nothing in it moves away meanwhile.
pub struct SendFolder {
    /// The generation's folder, or its `data/`.
    pub path: PathBuf,
    /// What keeps it in place.
    pub guard: Box<dyn Any + Send>,
}

impl fmt::Debug for SendFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendFolder").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What answers: the gate itself, in process or at the end of an ssh session.
pub trait Answer: Send + Sync {
    /// Answers any request but [`Request::Send`], which is refused here.
    fn answer(&self, request: &Request, stdin: &[u8]) -> Result<Vec<u8>, Refused>;

    /// The folder to send for [`Request::Send`].
    fn sender(&self, id: &GenerationId, part: Part) -> Result<SendFolder, Refused>;
}

/// An answer's text.
pub fn to_json(answer: &impl Serialize) -> Result<Vec<u8>, Refused> {
    serde_json::to_vec(answer).map_err(|e| Refused(format!("the answer cannot be written: {e}")))
}

/// Reads an answer; the error is safe to show.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|e| crate::sys::show(e.to_string().as_bytes()))
}

/// Paths for [`Request::Reject`], as bytes.
pub fn paths_to_bytes<'a>(paths: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    paths.into_iter().flat_map(|path| path.iter().copied().chain([0])).collect()
}

/// Reads the paths of [`Request::Reject`]: relative, no empty, `.` or `..` component, the last ended by a zero byte too.
pub fn parse_paths(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Refused> {
    let bad = |why: &str| Err(Refused(format!("the list of paths {why}")));
    if bytes.len() as u64 > PATHS_LIMIT {
        return bad("is too long");
    }
    let Some(rest) = bytes.strip_suffix(&[0]) else {
        return if bytes.is_empty() { Ok(Vec::new()) } else { bad("is cut off") };
    };
    let paths: Vec<Vec<u8>> = rest.split(|b| *b == 0).map(<[u8]>::to_vec).collect();
    let plain = |path: &Vec<u8>| path.split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
    if paths.iter().all(plain) { Ok(paths) } else { bad("names something outside of a generation") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> GenerationId {
        "20261123T030000Z".parse().unwrap()
    }

    #[test]
    fn every_request_reads_back_as_it_was_written() {
        let seal = Digest::of(b"x");
        let caps: Caps = "e.LsfxCIvu".parse().unwrap();
        let send = |part| Request::Send { id: id(), part, caps: caps.clone() };
        let all = [
            Request::Offers,
            Request::Stored,
            Request::History(id()),
            send(Part::Meta),
            send(Part::Data),
            send(Part::Delta),
            Request::Accept { id: id(), seal },
            Request::Reject { id: id(), seal },
        ];
        for request in all {
            let text = request.to_string();
            assert!(text.len() <= REQUEST_LIMIT);
            assert_eq!(Request::parse(&text), Ok(request));
            for bad in [format!(" {text}"), format!("{text} "), format!("{text} x"), text.replace(' ', "  ")]
            {
                assert_eq!(Request::parse(&bad), Err(BadRequest), "{bad:?}");
            }
            assert_eq!(Request::parse(&text.replace(" 1 ", " 2 ")), Err(BadRequest));
            assert_eq!(Request::parse(&format!("{text}\n")), Err(BadRequest));
        }
        assert_eq!(send(Part::Data).to_string(), "handover 1 send 20261123T030000Z DATA e.LsfxCIvu");
    }

    #[test]
    fn what_is_not_a_request_is_refused() {
        for bad in [
            "",
            "handover",
            "rsync --server --sender -e.L . /etc",
            "handover 1 send 20261123T030000Z data e.L",
            "handover 1 send ../../etc DATA e.L",
            "handover 1 send 20261123T030000Z DATA e.L;id",
            "handover 1 accept 20261123T030000Z 00",
            "handover\t1\toffers",
        ] {
            assert_eq!(Request::parse(bad), Err(BadRequest), "{bad:?}");
        }
        let long = format!("handover 1 history {}", "x".repeat(REQUEST_LIMIT));
        assert_eq!(Request::parse(&long), Err(BadRequest));
    }

    #[test]
    fn only_letters_that_name_capabilities_pass() {
        for good in ["e.LsfxCIvu", "e31.14iLsfx", "e.", "ze.LsfxCIvu"] {
            assert_eq!(good.parse::<Caps>().unwrap().to_string(), good);
        }
        for bad in ["", "e", ".L", "L", "e.L s", "e.L-", "e.L\n", "e.é", "ee.L", "zz", "e..L", "e.L=1"] {
            assert_eq!(bad.parse::<Caps>(), Err(BadCaps), "{bad:?}");
        }
        assert_eq!(format!("e.{}", "x".repeat(23)).parse::<Caps>(), Err(BadCaps));
    }

    #[test]
    fn a_line_that_asks_for_more_than_the_fixed_one_has_no_capabilities() {
        let caps: Caps = "ze.LsfxCIvu".parse().unwrap();
        let line = caps.sender_line();
        assert_eq!(
            line.join(" "),
            "--server --sender -IRSze.LsfxCIvu --timeout=300 --files-from=- --from0 --no-implied-dirs . ."
        );
        assert_eq!(Caps::of_line(&line), Some(caps));
        let mut other = line.clone();
        other.insert(3, "--remove-source-files".to_owned());
        assert_eq!(Caps::of_line(&other), None);
        assert_eq!(Caps::of_line(&line[..8]), None);
        assert_eq!(Caps::of_line(&[]), None);
    }

    #[test]
    fn rejected_paths_stay_in_the_generation() {
        let paths: Vec<&[u8]> = vec![b"www/a\nb", b"\xff"];
        assert_eq!(parse_paths(&paths_to_bytes(paths.clone())).unwrap(), paths);
        assert_eq!(parse_paths(b"").unwrap(), Vec::<Vec<u8>>::new());
        for bad in [&b"a"[..], b"/a\0", b"a/../b\0", b"\0", b"a\0\0"] {
            assert!(parse_paths(bad).is_err(), "{bad:?}");
        }
    }
}
