//! One request over the connection, and how it ended.

use std::{
    io::Read as _,
    os::fd::OwnedFd,
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::pipe::PipeFlags;

use super::{Line, interpret};
use crate::{
    gate::protocol::EXIT_REFUSED,
    remote::{Error, FarEnd, Result, error::Failure, rsync, said::Said},
    sys::{self, sandbox, show},
};

/// What a shell says of a program that it does not find, or cannot start.
const NOT_FOUND: i32 = 127;
const NOT_STARTED: i32 = 126;
/// How long the rest of what it said may take to arrive when it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// An open session.
pub(super) struct Session {
    pub(super) reader: OwnedFd,
    pub(super) writer: OwnedFd,
    pub(super) end: End,
}

/// The end of a session. Dropped, it hangs up.
pub(super) struct End {
    // Before the line, so that it is dropped first.
    child: openssh::Child<Arc<openssh::Session>>,
    line: Arc<Line>,
    said: Arc<Mutex<Said>>,
    listening: JoinHandle<()>,
}

impl Session {
    pub(super) fn open(line: Arc<Line>, command: &str, limit: Duration) -> Result<Self> {
        let pipe =
            || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|e| Error::us("make pipes for ssh", e));
        let ((stdin, writer), (reader, stdout), (stderr, errors)) = (pipe()?, pipe()?, pipe()?);
        let opened = {
            let mut command = Arc::clone(&line.master).arc_raw_command(command);
            command.stdin(stdin).stdout(stdout).stderr(errors);
            line.wait(limit, true, command.spawn())?
        };
        let child = match opened {
            Some(Ok(child)) => child,
            Some(Err(e)) => return Err(line.broken(&sys::chain(&e))),
            None => return Err(Error::Stalled(limit)),
        };
        let said = Arc::<Mutex<Said>>::default();
        let into = Arc::clone(&said);
        let listening = std::thread::spawn(move || listen(stderr, &into));
        Ok(Self { reader, writer, end: End { child, line, said, listening } })
    }
}

fn listen(from: OwnedFd, into: &Mutex<Said>) {
    let (mut from, mut bytes) = (std::fs::File::from(from), [0; 4096]);
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        into.lock().unwrap_or_else(PoisonError::into_inner).add(&bytes[..count]);
    }
}

/// How the program at the far end ended.
enum Ended {
    /// With this exit code.
    Code(i32),
    /// By a signal, while the connection holds.
    Killed,
    /// It did not end in time.
    Late,
}

impl End {
    /// Waits for the end, and gives what was said on the way.
    fn wait(self, patience: Duration) -> Result<(Ended, String, Arc<Line>)> {
        let Self { child, line, said, listening } = self;
        let waited = line.wait(patience, false, child.wait())?;
        let deadline = Instant::now() + LAST_WORDS;
        while waited.is_some() && !listening.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let text = said.lock().unwrap_or_else(PoisonError::into_inner).text();
        let ended = match waited {
            None => Ended::Late,
            Some(Ok(status)) => code(status),
            Some(Err(openssh::Error::Remote(_))) => Ended::Code(NOT_FOUND),
            Some(Err(e)) => {
                // Either the line broke, or a signal ended the program there: only a line that answers tells.
                match line.wait(LAST_WORDS, false, line.master.check())? {
                    Some(Ok(())) => Ended::Killed,
                    _ => return Err(line.broken(&sys::chain(&e))),
                }
            }
        };
        Ok((ended, text, line))
    }

    /// The end of a question: all but success is an error.
    pub(super) fn answered(self, patience: Duration) -> Result<()> {
        match self.wait(patience)? {
            (Ended::Code(0), ..) => Ok(()),
            (Ended::Code(code), said, line) => Err(line.gate_failed(code, said).unwrap_or_else(|said| {
                Error::Gate(format!(
                    "it ended with exit code {code}{}{said}",
                    if said.is_empty() { "" } else { ": " }
                ))
            })),
            (Ended::Killed, said, _) => Err(Error::Gate(format!("it was killed. {said}").trim().to_owned())),
            (Ended::Late, ..) => Err(Error::Stalled(patience)),
        }
    }
}

impl FarEnd for End {
    fn finish(self: Box<Self>, patience: Duration) -> Result<()> {
        let failed = |meaning: &str, said| {
            Err(Error::RsyncThere(Failure { code: None, meaning: meaning.to_owned(), said }))
        };
        match self.wait(patience)? {
            (Ended::Code(code), said, line) => match line.gate_failed(code, said) {
                Ok(error) => Err(error),
                Err(said) => rsync::failure(Some(code), said).map_or(Ok(()), |f| Err(Error::RsyncThere(f))),
            },
            (Ended::Killed, said, _) => failed("it was killed", said),
            (Ended::Late, said, _) => failed("it did not end", said),
        }
    }
}

fn code(status: ExitStatus) -> Ended {
    status.code().map_or(Ended::Killed, Ended::Code)
}

impl Line {
    /// The error for a code that the gate or the shell before it ends with; `said` comes back if it is another one.
    fn gate_failed(&self, code: i32, said: String) -> std::result::Result<Error, String> {
        match code {
            code if code == i32::from(EXIT_REFUSED) => Ok(Error::Gate(said)),
            code if code == i32::from(sandbox::FAILED) => Ok(Error::Gate(said)),
            255 => Ok(self.broken(&said)),
            NOT_FOUND | NOT_STARTED => Ok(Error::Access {
                why: format!("handover cannot be started on {}: {said}", show(self.host.host.as_bytes())),
                fix: format!(
                    "install handover there, then run there as root: {}",
                    interpret::authorize_line(&self.host)
                ),
            }),
            _ => Err(said),
        }
    }
}
