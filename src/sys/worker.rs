//! A program that a daemon keeps as a child for as long as it goes on: a run of handover itself, or an ssh server.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::{
    fs::MemfdFlags,
    process::{Pid, Signal},
};

use super::child;

/// What a daemon hears from systemd, and no child of it.
const OF_SYSTEMD: [&str; 4] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS"];

/// A child at work, in a process group of its own, which a key on the terminal does not reach. It goes on when this is
/// dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
}

impl Worker {
    /// Starts a program that writes where we do. It has our environment, but for what systemd said to us, and finds
    /// `input` on its standard input, from the beginning however often that is opened.
    pub fn start(program: &Path, args: &[OsString], input: &[u8]) -> io::Result<Self> {
        Ok(Self { child: command(program, args, input)?.spawn()? })
    }

    /// The same for one that writes to us: what it says, and what those say whom it starts.
    pub fn start_heard(
        program: &Path,
        args: &[OsString],
        input: &[u8],
    ) -> io::Result<(Self, io::PipeReader)> {
        let (reader, writer) = io::pipe()?;
        let mut command = command(program, args, input)?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn()?;
        Ok((Self { child }, reader))
    }

    /// How it ended, if it has: its exit code, or 128 and the number of the signal that ended it.
    pub fn ended(&mut self) -> io::Result<Option<i32>> {
        let code = |status: std::process::ExitStatus| {
            status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
        };
        Ok(self.child.try_wait()?.map(code))
    }

    /// Asks it to stop: it alone, as it ends what it has started itself.
    pub fn stop(&self) {
        self.signal(Signal::TERM, rustix::process::kill_process);
    }

    /// Ends it and all that it has started.
    pub fn kill(&self) {
        self.signal(Signal::KILL, rustix::process::kill_process_group);
    }

    fn signal(&self, signal: Signal, send: fn(Pid, Signal) -> rustix::io::Result<()>) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && send(pid, signal).is_err()
        {
            // It has ended, which was wanted.
        }
    }
}

fn command(program: &Path, args: &[OsString], input: &[u8]) -> io::Result<Command> {
    let mut stdin = File::from(rustix::fs::memfd_create("input", MemfdFlags::CLOEXEC)?);
    stdin.write_all(input)?;
    let environment = std::env::vars_os().filter(|(key, _)| OF_SYSTEMD.iter().all(|name| key != name));
    let mut command = child::command(program);
    command.args(args).envs(environment).process_group(0).stdin(Stdio::from(stdin));
    Ok(command)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn end(worker: &mut Worker) -> i32 {
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(code) = worker.ended().unwrap() {
                return code;
            }
            assert!(Instant::now() < limit);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn shell(script: &str, input: &[u8]) -> Worker {
        Worker::start(Path::new("sh"), &["-c".into(), script.into()], input).unwrap()
    }

    #[test]
    fn its_input_can_be_opened_twice_and_its_code_is_passed_on() {
        let script = "test \"$(cat /proc/self/fd/0)\" = x && test \"$(cat /proc/self/fd/0)\" = x && exit 7";
        assert_eq!(end(&mut shell(script, b"x")), 7);
    }

    #[test]
    fn it_is_asked_to_stop_or_ended() {
        let mut asked = shell("trap 'exit 5' TERM; kill -STOP $$; while :; do sleep 0.05; done", b"");
        // It stops itself once it listens; then it goes on and finds the signal.
        let pid = asked.child.id();
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        while !state().contains(") T ") {
            std::thread::sleep(Duration::from_millis(5));
        }
        asked.stop();
        asked.signal(Signal::CONT, rustix::process::kill_process);
        assert_eq!(end(&mut asked), 5);
        let mut killed = shell("sleep 1000", b"");
        killed.kill();
        assert_eq!(end(&mut killed), 137);
    }
}
