//! One request of an ssh session: the line that the sink's key was allowed to send, and stdin and stdout.

use std::{
    io::{Read, Write},
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
};

use jiff::{Timestamp, civil::Time};

use super::{
    Gate, below,
    protocol::{self, Caps, PATHS_LIMIT, Part, Refused, Request},
    refuse,
};
use crate::{
    manifest::{GenerationId, names, receipt},
    store::handover_point::Held,
    sys::{self, Dir, sandbox},
};

/// What was done with a request.
#[derive(Debug)]
pub enum Served {
    /// The answer is on stdout; the text is what went wrong beside it, for this host's log.
    Answered(Option<String>),
    /// This process is to become rsync.
    Send(Box<Sending>),
}

/// A generation that rsync is to send, held until that rsync ends.
#[derive(Debug)]
pub struct Sending {
    held: Held,
    folder: Dir,
    pub(super) arguments: Vec<String>,
}

/// Serves one request. Everything that is not exactly a request is refused before anything is opened or read; what is
/// refused the caller logs, with the peer's address, and ends with a failure.
pub fn serve(
    gate: &Gate,
    line: &str,
    stdin: impl Read,
    mut stdout: impl Write,
    time: (Timestamp, Time),
) -> Result<Served, Refused> {
    let request = Request::parse(line).map_err(|e| Refused(e.to_string()))?;
    let stdin = match &request {
        Request::Offers | Request::Stored | Request::History(_) => Vec::new(),
        Request::Send { id, part, caps } => {
            return Ok(Served::Send(Box::new(Sending::new(gate, id, *part, caps)?)));
        }
        Request::Accept { .. } => read(stdin, receipt::LIMIT)?,
        Request::Reject { .. } => read(stdin, PATHS_LIMIT)?,
    };
    let answered = gate.answer_at(&request, &stdin, time.0, time.1)?;
    stdout.write_all(&answered.json).and_then(|()| stdout.flush()).map_err(|e| refuse::undelivered(&e))?;
    Ok(Served::Answered(answered.trouble))
}

fn read(stdin: impl Read, limit: u64) -> Result<Vec<u8>, Refused> {
    let mut bytes = Vec::new();
    stdin.take(limit + 1).read_to_end(&mut bytes).map_err(|e| refuse::unreadable(&e))?;
    if bytes.len() as u64 > limit { Err(refuse::too_long(limit)) } else { Ok(bytes) }
}

impl Sending {
    fn new(gate: &Gate, id: &GenerationId, part: Part, caps: &Caps) -> Result<Self, Refused> {
        let held = gate.hold(id)?;
        let folder = match part {
            Part::Meta => held.dir.open_dir(".").map_err(|e| refuse::store(&e.into()))?,
            Part::Data => below(&held, names::DATA)?,
            Part::Delta => below(&held, names::DELTA)?,
        };
        Ok(Self { held, folder, arguments: caps.sender_line() })
    }

    /// The folder that is sent.
    pub fn folder(&self) -> &Dir {
        &self.folder
    }

    /// Becomes rsync in its cage, in the folder by its handle: it may be moved by an accept meanwhile. The lock passes
    /// on to it, so that the generation is held until that rsync ends, at the latest after [`protocol::SEND_LIFETIME`]:
    /// a session that never ends must not hold it for ever. Returns only if that failed; the process may be
    /// locked in by then, so all that is left to do is to say why and exit.
    pub fn become_rsync(&self, rsync: &Path) -> Refused {
        let folder = match self.prepare() {
            Ok(folder) => folder,
            Err(e) => return refuse::unsendable(&e),
        };
        if let Err(e) = rustix::process::fchdir(&self.folder) {
            return refuse::unsendable(&sys::Error::new("enter", self.folder.path(), e));
        }
        sys::limits::end_after(protocol::SEND_LIFETIME);
        let policy = sender_policy(rsync, &folder);
        refuse::unsendable(&sandbox::enter_and_exec(&policy, rsync.as_os_str(), &self.arguments))
    }

    /// Lets the lock pass on, and names the folder by its handle.
    pub(super) fn prepare(&self) -> sys::Result<PathBuf> {
        self.held.pass_on()?;
        Ok(PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_fd().as_raw_fd())))
    }
}

/// The cage in which rsync sends a folder: it can read that, and write nothing.
pub fn sender_policy(rsync: &Path, folder: &Path) -> sandbox::Policy {
    sandbox::Policy::of_programs([rsync]).reading(folder)
}

/// The cage in which rsync receives a delivery into a folder: it can write that, and read nothing but what it needs to
/// start. No file can grow beyond `largest` bytes.
pub fn receiver_policy(rsync: &Path, folder: &Path, largest: u64) -> sandbox::Policy {
    sandbox::Policy { largest_file: Some(largest), ..sandbox::Policy::of_programs([rsync]).writing(folder) }
}
