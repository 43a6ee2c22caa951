//! A question and its answer over a session: bounded in size, and in time.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    fs::OFlags,
    io::Errno,
};

use super::TICK;
use crate::{
    remote::{Deadlines, Error, Result},
    sys::signals,
};

/// Writes the whole question and reads the whole answer, both at once: neither end waits for the other.
pub(super) fn converse(
    (reader, writer): (OwnedFd, OwnedFd),
    question: &[u8],
    limit: u64,
    Deadlines { stall, total }: Deadlines,
) -> Result<Vec<u8>> {
    for fd in [&reader, &writer] {
        rustix::fs::fcntl_setfl(fd, OFlags::NONBLOCK).map_err(|e| Error::us("prepare a pipe", e))?;
    }
    let (mut answer, mut question, mut writer) = (Vec::new(), question, Some(writer));
    let begun = Instant::now();
    let mut moved = begun;
    loop {
        let wrote = step(&mut writer, &mut question)?;
        let (read, over) = read(&reader, &mut answer)?;
        if over {
            return Ok(answer);
        }
        if answer.len() as u64 > limit {
            return Err(Error::Protocol(format!("the answer is larger than {limit} bytes")));
        }
        signals::check()?;
        if wrote + read > 0 {
            moved = Instant::now();
        } else if moved.elapsed() > stall {
            return Err(Error::Stalled(stall));
        }
        if let Some(total) = total.filter(|total| begun.elapsed() > *total) {
            return Err(Error::Deadline(total));
        }
        wait(&reader, writer.as_ref(), TICK)?;
    }
}

/// Writes what can be written now; closes the writer when all is. A far end that does not want to hear the rest says
/// why with its exit code.
fn step(writer: &mut Option<OwnedFd>, left: &mut &[u8]) -> Result<usize> {
    let Some(to) = writer else { return Ok(0) };
    match if left.is_empty() { Ok(0) } else { rustix::io::write(to, left) } {
        Ok(count) => {
            *left = &left[count..];
            if left.is_empty() {
                *writer = None;
            }
            Ok(count)
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(Errno::PIPE) => {
            *writer = None;
            Ok(0)
        }
        Err(e) => Err(Error::us("write to ssh", e)),
    }
}

fn read(reader: &OwnedFd, into: &mut Vec<u8>) -> Result<(usize, bool)> {
    let mut bytes = [0; 16 * 1024];
    match rustix::io::read(reader, &mut bytes) {
        Ok(0) => Ok((0, true)),
        Ok(count) => {
            into.extend_from_slice(&bytes[..count]);
            Ok((count, false))
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok((0, false)),
        Err(e) => Err(Error::us("read from ssh", e)),
    }
}

fn wait(reader: &OwnedFd, writer: Option<&OwnedFd>, limit: Duration) -> Result<()> {
    let mut fds = vec![PollFd::new(reader, PollFlags::IN)];
    fds.extend(writer.map(|fd| PollFd::new(fd, PollFlags::OUT)));
    match rustix::event::poll(&mut fds, limit.try_into().ok().as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(Error::us("wait for ssh", e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadlines() -> Deadlines {
        Deadlines { stall: Duration::from_millis(100), total: None }
    }

    #[test]
    fn an_answer_that_never_ends_or_never_comes_is_given_up() {
        let (reader, far) = rustix::pipe::pipe().unwrap();
        let (_far, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&far, &[b'x'; 9000]).unwrap();
        assert!(matches!(converse((reader, writer), b"", 8000, deadlines()), Err(Error::Protocol(_))));
        let (reader, _far) = rustix::pipe::pipe().unwrap();
        let (_far, writer) = rustix::pipe::pipe().unwrap();
        assert!(matches!(converse((reader, writer), b"q", 8000, deadlines()), Err(Error::Stalled(_))));
    }

    #[test]
    fn a_far_end_that_does_not_listen_can_still_answer() {
        let (reader, far) = rustix::pipe::pipe().unwrap();
        let (deaf, writer) = rustix::pipe::pipe().unwrap();
        drop(deaf);
        rustix::io::write(&far, b"no").unwrap();
        drop(far);
        let question = vec![b'q'; 1 << 20];
        assert_eq!(converse((reader, writer), &question, 8000, deadlines()).unwrap(), b"no");
    }
}
