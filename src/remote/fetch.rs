//! Fetching files: rsync here in its cage, the sender at the far end, and every byte between them through this loop.

use std::{
    collections::HashSet,
    ffi::OsStr,
    num::NonZeroU64,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Error, Result, Stream, Tools,
    compression::{Came, Compression},
    error::Failure,
    resume,
    rsync::{self, Direction},
    session::{Job, Session, Whole},
};
use crate::{
    gate::protocol::{Caps, Part, Request},
    manifest::GenerationId,
    sys::{Dir, sandbox},
};

/// Files that one rsync is asked for. It compares every name that comes with every name that was asked for, so that all
/// at once takes time with the square of their number: half a minute for 60,000 files, hours for a million.
const PIECE: usize = 2000;
/// Pieces at a time: while one begins or ends, the other has the line. Each is a session of the connection, of which sshd
/// allows ten.
const AT_A_TIME: usize = 2;
/// Files of fewer bytes on the average are small: to hash some of them a little later holds up nothing.
const SMALL: u64 = 256 * 1024;
/// What rsync may say besides content, and for each file.
const OVERHEAD: u64 = 64 * 1024 * 1024;
const OVERHEAD_OF_FILE: u64 = 8 * 1024;

/// What is fetched, and how.
#[derive(Debug)]
pub struct Fetch<'a> {
    /// The programs that do it.
    pub tools: &'a Tools,
    /// The generation.
    pub id: &'a GenerationId,
    /// Which part of it: paths are below its folder, or below its `data/`.
    pub part: Part,
    /// The stored paths.
    pub files: &'a [Vec<u8>],
    /// Where they are put, under the same paths. Nothing in it may be shared with a store. Half files of an earlier
    /// attempt are continued. A file that is already there and is asked for is fetched again and replaced.
    pub recv: &'a Path,
    /// Folders with previous versions under the same paths: what is equal in them is not transferred.
    pub basis: &'a [PathBuf],
    /// Bytes that all these files have by their manifest: a sender that sends much more is stopped.
    pub limit: u64,
    /// Bytes of the largest of these files: no file here grows beyond.
    pub largest: u64,
    /// Bytes of the disk that stay free: a transport that comes to it is ended.
    pub floor: u64,
    /// Bytes per second.
    pub bandwidth: Option<NonZeroU64>,
    /// Compress on the line, where it pays: see [`Compression`].
    pub compress: bool,
    /// When to give up.
    pub deadlines: Deadlines,
}

/// When to give up.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Nothing moved for so long. rsync gives a sign of life every [`crate::gate::protocol::RSYNC_TIMEOUT`] / 2 seconds.
    pub stall: Duration,
    /// All of it took so long.
    pub total: Option<Duration>,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { stall: Duration::from_secs(300), total: None }
    }
}

/// Who is told how far a fetch is.
pub trait Progress {
    /// rsync has finished this file; it lies in `recv` under this path. A hint, as a hostile sender can have a hand in it,
    /// and can even have a file replaced later: whoever hashes it now keeps its inode, size and ctime, and hashes it again
    /// if they are others when the fetch is over.
    fn received(&mut self, path: &[u8]);
    /// So many more bytes have come over the line.
    fn bytes(&mut self, more: u64);
    /// So many more bytes have gone over the line.
    fn sent(&mut self, more: u64) {
        let _ = more;
    }
}

/// What was fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes that came over the line.
    pub wire_in: u64,
    /// Bytes that went over the line.
    pub wire_out: u64,
    /// Files that were received.
    pub files: u64,
    /// Paths that were asked for and did not come, though rsync ended well: the sender has no such file.
    pub missing: Vec<Vec<u8>>,
}

/// How a session with the sender is opened.
pub type Open<'a> = &'a dyn Fn(&Request) -> Result<Stream>;

/// Fetches, blocking. Ok only if both rsyncs ended well. Whatever happens, no process is left behind, and what has
/// arrived stays in `recv` for the next attempt.
///
/// Pieces go two at a time, and their rsyncs would make a folder that both need at the same moment, one of them failing:
/// these are made here before.
pub fn run(open: Open<'_>, what: &Fetch<'_>, progress: &mut dyn Progress) -> Result<Fetched> {
    let paths = checked(what.files)?;
    if paths.is_empty() {
        return Ok(Fetched::default());
    }
    resume::adopt(what.recv, &paths, &rsync::partial_dir(what.id))?;
    let bounds = (most(what.limit, what.files.len()), what.floor);
    let mut whole = Whole::new(what.recv, what.bandwidth, what.deadlines, bounds)?;
    let start = |caps| open(&Request::Send { id: what.id.clone(), part: what.part, caps });
    let batches = what.limit / (what.files.len() as u64).max(1) < SMALL;
    let mut compression = Compression::new(what.compress, batches);
    let mut pieces = what.files.chunks(PIECE);
    let (mut last, mut all): (&[Vec<u8>], _) = (&[], Fetched::default());
    let mut sessions = Vec::new();
    let mut work = || {
        loop {
            while sessions.len() < AT_A_TIME
                && let Some(files) = pieces.next()
            {
                if let (Some(last), Some(first)) = (last.last(), files.first()) {
                    made_below(what.recv, common_folder(&[last.clone(), first.clone()]))?;
                }
                let how = How { compress: compression.next(), batches };
                sessions.push(start_piece(what, files, how, &start)?);
                last = files;
            }
            if sessions.is_empty() {
                return Ok(());
            }
            let (piece, came) = conclude_one(&mut whole, &mut sessions, progress)?;
            compression.learn(came);
            all.add(piece);
        }
    };
    match work() {
        Ok(()) => Ok(all),
        Err(e) => abandon(sessions, e),
    }
}

impl Fetched {
    fn add(&mut self, piece: Self) {
        self.wire_in += piece.wire_in;
        self.wire_out += piece.wire_out;
        self.files += piece.files;
        self.missing.extend(piece.missing);
    }
}

/// How a piece is fetched.
struct How {
    compress: bool,
    batches: bool,
}

/// Starts the rsync of a piece.
fn start_piece<'a>(
    what: &Fetch<'a>,
    files: &'a [Vec<u8>],
    How { compress, batches }: How,
    open: &'a dyn Fn(Caps) -> Result<Stream>,
) -> Result<Session<'a>> {
    let base = common_folder(files);
    let below = made_below(what.recv, base)?;
    let basis = below_bases(what.basis, base);
    let receiver =
        rsync::Receiver { relay: &what.tools.handover, id: what.id, basis: &basis, compress, batches };
    let job = Job {
        tools: what.tools,
        args: receiver.args()?,
        compressed: compress,
        policy: what.tools.receiver_policy(&below, &basis, what.largest.max(OVERHEAD_OF_FILE)),
        folder: what.recv,
        base,
        direction: Direction::In,
        files,
        open,
    };
    Session::start(job, files.iter().map(Vec::as_slice).collect())
}

/// The folder that all these paths have in common, as deep as it can be; empty if there is none. Both rsyncs begin
/// there, as they look at every folder on the way from where they begin to a file, several times for each file.
fn common_folder(files: &[Vec<u8>]) -> &[u8] {
    let Some((first, others)) = files.split_first() else { return b"" };
    let folder = |path: &[u8]| path.iter().rposition(|b| *b == b'/').unwrap_or(0);
    let mut common = &first[..folder(first)];
    for path in others {
        while !(path.starts_with(common) && (common.is_empty() || path.get(common.len()) == Some(&b'/'))) {
            common = &common[..folder(common)];
        }
    }
    common
}

/// Makes the folder `base` below `recv`, following no link, and gives its path.
fn made_below(recv: &Path, base: &[u8]) -> Result<PathBuf> {
    let mut dir = Dir::open(recv)?;
    for part in base.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
        dir = dir.ensure_dir(OsStr::from_bytes(part), 0o700)?;
    }
    Ok(dir.path().to_path_buf())
}

/// The folder `base` of each basis that has one.
fn below_bases(bases: &[PathBuf], base: &[u8]) -> Vec<PathBuf> {
    let below = bases.iter().map(|basis| basis.join(OsStr::from_bytes(base)));
    below.filter(|folder| folder.is_dir()).collect()
}

/// Runs these sessions until one has ended well, and takes it from them.
pub(super) fn conclude_one(
    whole: &mut Whole,
    sessions: &mut Vec<Session<'_>>,
    progress: &mut dyn Progress,
) -> Result<(Fetched, Came)> {
    let ended = whole.run(sessions, progress)?;
    sessions.swap_remove(ended).conclude(progress)
}

/// Ends what is under way, since one has failed: all of it, and tells why.
pub(super) fn abandon<T>(sessions: Vec<Session<'_>>, why: Error) -> Result<T> {
    let ended = sessions.into_iter().map(Session::abandon).fold(Ok(()), Result::and);
    ended.and(Err(why))
}

/// The bytes after which a far end is stopped that has to say so many about so many files.
pub(super) fn most(limit: u64, files: usize) -> u64 {
    let overhead = OVERHEAD_OF_FILE.saturating_mul(files as u64).saturating_add(OVERHEAD);
    limit.saturating_add(limit / 8).saturating_add(overhead)
}

/// Paths that stay in `recv` and that rsync reads as paths: the list comes from a manifest that a source wrote.
pub(super) fn checked(files: &[Vec<u8>]) -> Result<HashSet<&[u8]>> {
    let plain = |path: &[u8]| {
        let parts = path.split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
        parts && !path.contains(&0) && !matches!(path.first(), Some(b'#' | b';')) && path.len() < 4096
    };
    match files.iter().find(|path| !plain(path)) {
        Some(bad) => Err(Error::Protocol(format!("{} is no path of a generation", crate::sys::show(bad)))),
        None => Ok(files.iter().map(Vec::as_slice).collect()),
    }
}

/// Who failed, if anybody: the gate, the line and the cage know for sure. Between two rsyncs the one that complains
/// counts, as the failure of one is soon that of the other; without a complaint, it is the far one if it failed at all.
pub(super) fn blame(
    code: Option<i32>,
    said: String,
    there: Result<()>,
    direction: Direction<'_>,
) -> Result<()> {
    if code == Some(i32::from(sandbox::FAILED)) {
        return Err(Error::Us(said));
    }
    let far = direction.far_complains(&said);
    match (rsync::failure(code, said), there) {
        (None, there) => there,
        (Some(here), Err(Error::RsyncThere(there))) if far.unwrap_or(here.code.is_some()) => {
            let said = [there.said.as_str(), here.said.as_str()].join("; ");
            Err(Error::RsyncThere(Failure { said: said.trim_start_matches("; ").to_owned(), ..there }))
        }
        (Some(here), Ok(())) if far == Some(true) => Err(Error::RsyncThere(here)),
        (Some(here), Ok(()) | Err(Error::RsyncThere(_))) => Err(Error::RsyncHere(here)),
        (Some(_), Err(other)) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leaves_the_folder_or_is_read_as_something_else() {
        for bad in ["", "/etc/passwd", "a/../b", "a//b", "./a", "a/", "#a", ";a", "a\0b"] {
            assert!(matches!(checked(&[bad.into()]), Err(Error::Protocol(_))), "{bad:?}");
        }
        assert_eq!(checked(&[b"a/#b\n".to_vec(), b"a/#b\n".to_vec()]).unwrap().len(), 1);
    }

    #[test]
    fn the_folder_in_common_is_one_of_whole_names_and_never_a_file() {
        let common = |paths: &[&str]| {
            let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
            String::from_utf8(common_folder(&paths).to_vec()).unwrap()
        };
        assert_eq!(common(&["www/a/b/1", "www/a/b/2", "www/a/b/c/3"]), "www/a/b");
        assert_eq!(common(&["www/a/bc/1", "www/a/b/1"]), "www/a");
        assert_eq!(common(&["www/a/b", "www/a/b/1"]), "www/a");
        assert_eq!(common(&["www/a", "db/a"]), "");
        assert_eq!(common(&["www/a/1", "top"]), "");
        assert_eq!(common(&["www/a/1"]), "www/a");
        assert_eq!(common(&["top"]), "");
        assert_eq!(common(&[]), "");
    }

    #[test]
    fn the_one_that_failed_first_is_blamed() {
        let failure = |code| rsync::failure(Some(code), "there".to_owned()).unwrap();
        let blame = |code, said, there| super::blame(code, said, there, Direction::In);
        let there = |code| Err(Error::RsyncThere(failure(code)));
        let complaint =
            |role| format!("rsync: [{role}] it is so; rsync error: x (code 11) at a.c(1) [{role}=3.5.0]");
        assert!(blame(Some(0), String::new(), Ok(())).is_ok());
        assert!(matches!(blame(Some(0), String::new(), there(23)), Err(Error::RsyncThere(_))));
        assert!(matches!(blame(Some(11), complaint("receiver"), there(12)), Err(Error::RsyncHere(_))));
        assert!(matches!(blame(Some(11), complaint("receiver"), Ok(())), Err(Error::RsyncHere(_))));
        assert!(matches!(blame(Some(23), complaint("sender"), there(23)), Err(Error::RsyncThere(_))));
        assert!(matches!(blame(Some(23), complaint("sender"), Ok(())), Err(Error::RsyncThere(_))));
        assert!(
            matches!(blame(Some(12), "x".into(), there(3)), Err(Error::RsyncThere(f)) if f.code == Some(3) && f.said == "there; x")
        );
        assert!(matches!(blame(None, String::new(), there(20)), Err(Error::RsyncHere(_))));
        assert!(matches!(blame(Some(12), String::new(), Ok(())), Err(Error::RsyncHere(_))));
        assert!(matches!(blame(Some(12), String::new(), Err(Error::Gate("no".into()))), Err(Error::Gate(_))));
        assert!(matches!(blame(Some(120), "cage".into(), Ok(())), Err(Error::Us(why)) if why == "cage"));
    }
}
