//! rsync's line here, its exit codes in words, its version, and what it prints.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use super::{Error, Result, error::Failure};
use crate::{
    gate::{
        self,
        protocol::{Caps, RSYNC_TIMEOUT},
    },
    manifest::GenerationId,
    sys::{child, sandbox, show},
};

/// The name that rsync here is given for the far end; the relay knows where it is.
pub const FAR: &str = "far";
/// What a line on stdout begins with that names a file; then comes which way it went.
const MARK: &[u8] = b"got ";
/// What the line says, and when it is printed: with %b in it, it comes after the file instead of before it.
const OUT_FORMAT: &str = "--out-format=got %i %b %n";

/// Which way content goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction<'a> {
    /// To us: the far end sends.
    In,
    /// To a restore gate, this generation: the far end receives.
    Out(&'a GenerationId),
}

impl Direction<'_> {
    /// The capabilities in what rsync here asks its far end to run, if that is the one line for this direction.
    pub fn caps(self, asked: &[String]) -> Option<Caps> {
        match self {
            Self::In => Caps::of_line(asked),
            Self::Out(id) => Caps::of_receiver_line(asked, id),
        }
    }

    /// What the far end will run.
    pub fn line(self, caps: &Caps) -> Vec<String> {
        match self {
            Self::In => caps.sender_line(),
            Self::Out(id) => caps.receiver_line(id),
        }
    }

    /// Whether the first complaint came from the far side: rsync puts its role before what it says, `rsync: [sender] …`.
    /// `None` if there is none but its last line, which tells of a failure and not of its cause.
    pub fn far_complains(self, said: &str) -> Option<bool> {
        let role = said.split("rsync: [").nth(1)?;
        let sender = role.starts_with("sender]") || role.starts_with("Sender]");
        Some(sender == (self == Self::In))
    }
}

/// What differs between receivers.
#[derive(Debug)]
pub struct Receiver<'a> {
    /// The relay's program: handover itself.
    pub relay: &'a Path,
    /// The generation that is fetched.
    pub id: &'a GenerationId,
    /// Folders with previous versions under the same paths; never written.
    pub basis: &'a [PathBuf],
    /// Compress what goes over the line.
    pub compress: bool,
    /// Tell of files in batches: worth it for many small ones, as each line wakes whoever listens.
    pub batches: bool,
}

impl Receiver<'_> {
    /// The arguments of the rsync that receives into its current folder. The list of files comes on stdin.
    ///
    /// `-I`, because otherwise equal size and time win over content. Never `--inplace` or `--append`, which write into
    /// what may be shared; never `-l -D -H -A -X -p -t -o -g`, so that only regular files and folders of ours arise.
    pub fn args(&self) -> Result<Vec<OsString>> {
        let mut args: Vec<OsString> = [
            "--files-from=-",
            "--from0",
            "--no-implied-dirs",
            "--no-dirs", // only files are asked for; with it, rsync has no pattern `NAME/*` to try on every name that comes
            "-I",
            "-S",
            "-8",     // names on stdout: only control characters escaped, each name in one piece
            "--no-s", // the far end's line is given as arguments, whatever this build's default is
            "--no-motd",
            OUT_FORMAT,
        ]
        .map(OsString::from)
        .into();
        args.push(format!("--timeout={RSYNC_TIMEOUT}").into());
        args.push(format!("--partial-dir={}", partial_dir(self.id)).into());
        args.extend(self.compress.then(|| "-z".into()));
        args.extend(self.batches.then(|| "--outbuf=B".into()));
        for basis in self.basis {
            let mut arg = OsString::from("--copy-dest=");
            arg.push(std::path::absolute(basis).map_err(|e| Error::us("find the basis", e))?);
            args.push(arg);
        }
        args.push("-e".into());
        args.push(relay_command(self.relay)?);
        args.extend([format!("{FAR}:.").into(), ".".into()]);
        Ok(args)
    }
}

/// The arguments of the rsync that delivers its current folder, or what of it the list on stdin names: the other side of
/// [`Caps::receiver_line`]. No owner, mode, time, link or device goes with it.
pub fn deliver_args(relay: &Path, id: &GenerationId, compress: bool) -> Result<Vec<OsString>> {
    let mut args: Vec<OsString> = [
        "--files-from=-",
        "--from0",
        "--no-implied-dirs",
        "--size-only",
        "-S",
        "-8",
        "--no-s",
        "--no-motd",
        OUT_FORMAT,
    ]
    .map(OsString::from)
    .into();
    args.push(format!("--timeout={RSYNC_TIMEOUT}").into());
    args.push(format!("--partial-dir={}", partial_dir(id)).into());
    args.extend(compress.then(|| "-z".into()));
    args.push("-e".into());
    args.push(relay_command(relay)?);
    args.extend([".".into(), format!("{FAR}:.").into()]);
    Ok(args)
}

/// rsync splits it at spaces outside of quotes.
fn relay_command(relay: &Path) -> Result<OsString> {
    let path = relay.as_os_str();
    if path.as_bytes().contains(&b'\'') {
        return Err(Error::us("start rsync", format_args!("a quote is in {}", show(path.as_bytes()))));
    }
    let command = [b"'", path.as_bytes(), b"' ", super::relay::ENTRY.as_bytes()].concat();
    Ok(OsString::from_vec(command))
}

/// Where rsync keeps half a file, in the folder of that file: a name that no file of this generation has, as the id came
/// after them.
pub fn partial_dir(id: &GenerationId) -> String {
    format!(".part-{id}")
}

/// The path in a line of stdout that names a file that was received (or sent), decoded; `None` for any other line.
/// Whoever sends can make rsync print such lines too: a path is a hint, to be checked.
pub fn moved_path(line: &[u8], direction: Direction<'_>) -> Option<Vec<u8>> {
    let arrow: &[u8] = if direction == Direction::In { b">f" } else { b"<f" };
    let rest = line.strip_prefix(MARK)?.strip_prefix(arrow)?;
    let (_flags, rest) = split_at_space(rest)?;
    let (bytes, path) = split_at_space(rest)?;
    let plain = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit) && !path.is_empty();
    plain.then(|| unescape(path))
}

fn split_at_space(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == b' ')?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// rsync writes a byte that it does not print as `\#` and three octal digits, and a backslash so where what follows it
/// would look like that.
fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        match text {
            [b'\\', b'#', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                out.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                text = after;
            }
            _ => {
                out.push(*first);
                text = rest;
            }
        }
    }
    out
}

/// How an rsync ended, in words; `None` if well. `said` is what it said on stderr, safe to show.
pub fn failure(code: Option<i32>, said: String) -> Option<Failure> {
    let meaning = match code {
        Some(0) => return None,
        Some(code) => format!("{} (code {code})", meaning(code)),
        None => "it was killed".to_owned(),
    };
    Some(Failure { code, meaning, said })
}

/// What rsync's exit codes mean, for all that it documents.
pub fn meaning(code: i32) -> &'static str {
    match code {
        0 => "success",
        1 => "wrong usage: the two versions of rsync do not understand each other",
        2 => "the two versions of rsync have no protocol in common",
        3 => "a file or folder to read or write could not be selected",
        4 => "something was asked for that the other rsync does not support",
        5 => "the session could not be begun",
        10 => "the line between the two broke",
        11 => "reading or writing a file failed",
        12 => "the stream between the two broke off or is garbled",
        13 => "it could not print its messages",
        14 => "its own processes could not talk to each other",
        15 => "one of its processes crashed",
        16 => "one of its processes was killed",
        19 => "it was ended by a signal of its own",
        20 => "it was told to stop",
        21 => "waiting for one of its processes failed",
        22 => "it ran out of memory",
        23 => "some files could not be transferred",
        24 => "some files vanished while they were read",
        25 => "deletions were cut short",
        30 => "the other side was silent for too long",
        35 => "the connection was not answered",
        124 => "the command on the far side failed",
        125 => "the command on the far side was killed",
        126 => "rsync cannot be run",
        127 => "rsync is not installed",
        _ => "an exit code that rsync does not document",
    }
}

/// A version of rsync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What to think of a version of rsync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Use it.
    Good,
    /// Use it, and tell the operator.
    Warn(String),
    /// Do not use it.
    Refuse(String),
}

impl Version {
    /// The first that checks on the receiving side that nothing comes but what was asked for.
    pub const OLDEST: Self = Self(3, 2, 5);
    /// The first without the holes that a hostile sender could use.
    pub const SAFE: Self = Self(3, 5, 0);

    /// Reads the first line of `rsync --version`.
    pub fn parse(text: &str) -> Option<Self> {
        let version = text.lines().next()?.strip_prefix("rsync")?.trim_start().strip_prefix("version")?;
        let version = version.split_whitespace().next()?.trim_start_matches('v');
        let mut numbers = version.split('.').map(|part| {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            part[..digits].parse::<u32>()
        });
        Some(Self(
            numbers.next()?.ok()?,
            numbers.next()?.ok()?,
            numbers.next().map_or(Some(0), |third| third.ok())?,
        ))
    }

    /// Whether a sink should receive with it.
    pub fn verdict(self) -> Verdict {
        if self < Self::OLDEST {
            Verdict::Refuse(format!(
                "rsync {self} is too old: it takes files that were not asked for; use {} or newer",
                Self::OLDEST
            ))
        } else if self < Self::SAFE {
            Verdict::Warn(format!(
                "rsync {self} has holes that a hacked source could use, unless your distribution mended them; {} has not",
                Self::SAFE
            ))
        } else {
            Verdict::Good
        }
    }
}

/// Asks an rsync for its version.
pub fn version(rsync: &Path) -> Result<Version> {
    let shown = show(rsync.as_os_str().as_bytes());
    let output = child::command(rsync)
        .arg("--version")
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|e| Error::us("ask rsync for its version", format_args!("{shown}: {e}")))?;
    Version::parse(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| Error::us("ask rsync for its version", format_args!("{shown} does not tell")))
}

/// The programs that work here.
#[derive(Debug, Clone)]
pub struct Tools {
    /// handover itself: the cage and the relay.
    pub handover: PathBuf,
    /// rsync.
    pub rsync: PathBuf,
    /// Nothing runs without Landlock.
    pub sandbox_required: bool,
}

impl Tools {
    /// Finds rsync by `PATH` and takes this very program for handover.
    pub fn find(sandbox_required: bool) -> Result<Self> {
        let rsync = crate::sys::program::find("rsync")
            .ok_or_else(|| Error::Us("rsync is not installed here: install it".to_owned()))?;
        let handover = std::env::current_exe().map_err(|e| Error::us("find this program", e))?;
        Ok(Self { handover, rsync, sandbox_required })
    }

    /// The cage in which rsync sends a folder: it can read that, and write nothing.
    pub fn sender_policy(&self, folder: &Path) -> sandbox::Policy {
        sandbox::Policy { required: self.sandbox_required, ..gate::sender_policy(&self.rsync, folder) }
    }

    /// The cage in which rsync delivers a folder: it can read that, start the relay, and write nothing.
    pub fn deliver_policy(&self, folder: &Path) -> sandbox::Policy {
        let policy = sandbox::Policy::of_programs([&self.rsync, &self.handover]).reading(folder);
        sandbox::Policy { required: self.sandbox_required, ..policy }
    }

    /// The cage in which rsync receives: it can write below `recv`, read the basis, and start the relay. No file can
    /// grow beyond `limit` bytes.
    pub fn receiver_policy(&self, recv: &Path, basis: &[PathBuf], limit: u64) -> sandbox::Policy {
        let mut policy = sandbox::Policy::of_programs([&self.rsync, &self.handover]).writing(recv);
        policy.read.extend_from_slice(basis);
        sandbox::Policy { required: self.sandbox_required, largest_file: Some(limit), ..policy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_what_rsync_prints_of_them() {
        let line = |name: &str| [b"got >f+++++++++ 12 ", name.as_bytes()].concat();
        for (printed, name) in [
            ("www/a b", &b"www/a b"[..]),
            ("a\\#012b", b"a\nb"),
            ("\\#377\\#001", b"\xff\x01"),
            ("a\\#134#012", b"a\\#012"),
            ("a\\#999", b"a\\#999"),
            ("a\\#1", b"a\\#1"),
            ("a\\", b"a\\"),
            ("a\\#13\\#012", b"a\\#13\n"),
        ] {
            assert_eq!(moved_path(&line(printed), Direction::In).as_deref(), Some(name), "{printed}");
        }
    }

    #[test]
    fn other_lines_name_no_file() {
        for other in [
            "",
            "got cd+++++++++ 0 www/",
            "skipping non-regular file \"x\"",
            "got >f",
            "got >f. x a",
            "got >f. 1 ",
        ] {
            assert_eq!(moved_path(other.as_bytes(), Direction::In), None, "{other}");
        }
    }

    #[test]
    fn every_documented_code_has_its_own_words() {
        let documented = [
            0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 16, 19, 20, 21, 22, 23, 24, 25, 30, 35, 124, 125, 126,
            127,
        ];
        let words: std::collections::BTreeSet<_> = documented.iter().map(|code| meaning(*code)).collect();
        assert_eq!(words.len(), documented.len());
        assert!(!words.contains(meaning(77)));
        assert_eq!(failure(Some(0), String::new()), None);
        assert!(failure(None, String::new()).unwrap().to_string().contains("killed"));
    }

    #[test]
    fn the_side_that_complained_first_is_known() {
        let said = "rsync: [sender] open failed; rsync: [generator] x; rsync error: some files (code 23) [generator=3.5.0]";
        assert_eq!(Direction::In.far_complains(said), Some(true));
        assert_eq!(
            Direction::In.far_complains("rsync: [receiver] write failed: No space left on device (28)"),
            Some(false)
        );
        assert_eq!(
            Direction::In.far_complains("rsync error: some files (code 23) at main.c(1) [generator=3.5.0]"),
            None
        );
    }

    #[test]
    fn versions_are_judged_by_what_they_let_through() {
        let version = |text: &str| Version::parse(text);
        assert_eq!(version("rsync  version 3.5.0  protocol version 32\nx"), Some(Version(3, 5, 0)));
        assert_eq!(version("rsync  version v3.2.7pre1  protocol version 31"), Some(Version(3, 2, 7)));
        assert_eq!(version("rsync  version 3.4  protocol version 31"), Some(Version(3, 4, 0)));
        assert_eq!(version("openrsync: protocol version 29"), None);
        assert_eq!(Version(3, 5, 0).verdict(), Verdict::Good);
        assert!(matches!(Version(3, 4, 1).verdict(), Verdict::Warn(_)));
        assert!(matches!(Version(3, 2, 4).verdict(), Verdict::Refuse(_)));
    }

    #[test]
    fn a_receiver_never_gets_an_option_that_could_reach_what_is_stored() {
        let id = "20261123T030000Z".parse().unwrap();
        let basis = [PathBuf::from("/store/x/data")];
        let receiver = Receiver {
            relay: Path::new("/usr/bin/handover"),
            id: &id,
            basis: &basis,
            compress: true,
            batches: true,
        };
        let args: Vec<String> =
            receiver.args().unwrap().iter().map(|a| a.to_string_lossy().into_owned()).collect();
        for must in
            ["-I", "--from0", "--copy-dest=/store/x/data", "--partial-dir=.part-20261123T030000Z", "-z"]
        {
            assert!(args.iter().any(|arg| arg == must), "{must} in {args:?}");
        }
        for never in [
            "--inplace",
            "--append",
            "--link-dest",
            "--delete",
            "-a",
            "-p",
            "-t",
            "-H",
            "-A",
            "-X",
            "-D",
            "-l",
        ] {
            assert!(
                !args.iter().any(|arg| arg.starts_with(never) && !arg.starts_with("--partial")),
                "{never}"
            );
        }
        let relay = Receiver { relay: Path::new("/it's"), ..receiver };
        assert!(relay.args().is_err());
    }
}
