//! A program in a process group of its own: waited for with a limit, and ended with all that it started.

use std::{
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, PidfdFlags, Signal},
};

use super::{Error, Result};

/// How long a program may take to tidy up after it was told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// A running program with its group. Dropped, it is killed and reaped: nothing is left behind.
#[derive(Debug)]
pub struct Running {
    /// The program; its pipes may be taken from it.
    pub child: Child,
    pid: Pid,
    watch: OwnedFd,
    reaped: bool,
}

impl Running {
    /// Starts it in a group of its own.
    pub fn start(mut command: Command, what: &str) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let mut child = command.process_group(0).spawn().map_err(|e| Error::us(what, e))?;
        let pid = Pid::from_child(&child);
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(watch) => Ok(Self { child, pid, watch, reaped: false }),
            Err(e) => {
                let killed = child.kill().and_then(|()| child.wait());
                Err(Error::us(what, killed.err().unwrap_or_else(|| e.into())))
            }
        }
    }

    /// Becomes readable when the program has ended.
    pub fn watch(&self) -> &OwnedFd {
        &self.watch
    }

    /// Waits until the program has ended, at most so long. It is not reaped, so its group stays addressable.
    pub fn ended_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(&self.watch, PollFlags::IN)];
            let timeout = left.try_into().ok();
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                Ok(0) if left.is_zero() => return false,
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Asks the group to stop, so that rsync keeps what it has of a file; kills it if it does not.
    pub fn stop(&mut self) {
        if !self.reaped && !self.ended_within(Duration::ZERO) {
            self.signal(Signal::TERM);
            if !self.ended_within(GRACE) {
                self.signal(Signal::KILL);
            }
        }
    }

    /// Ends what is left of the group after the program itself has ended, or all of it, and reaps the program.
    pub fn reap(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::KILL);
        let status = self.child.wait().map_err(|e| Error::us("wait for a program", e))?;
        self.reaped = true;
        Ok(status)
    }

    /// Reaps the program, which has ended, and lets live what it started.
    pub fn leave(mut self) -> Result<ExitStatus> {
        let status = self.child.wait().map_err(|e| Error::us("wait for a program", e))?;
        self.reaped = true;
        Ok(status)
    }

    fn signal(&self, signal: Signal) {
        // Until it is reaped, its id is not given to another.
        if !self.reaped && rustix::process::kill_process_group(self.pid, signal).is_err() {
            // A group that is gone needs no signal.
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped && self.reap().is_err() {
            // It was killed; the system reaps it with us.
        }
    }
}
