//! Programs that handover starts: no shell, no terminal, their own process group, a deadline, and an end when we are
//! asked to stop.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::{
        fd::AsFd,
        unix::{fs::FileExt as _, process::CommandExt as _},
    },
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::MemfdFlags,
    process::{Pid, PidfdFlags, Signal},
};

use super::{show, signals};

/// The search path for programs that handover names without a path.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is kept of a program's error output: its last lines say why.
const TAIL: u64 = 4096;
/// How long a program may take to end after SIGTERM before SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// A command with a clean environment: a `PATH`, `LC_ALL=C.UTF-8`, nothing else inherited.
#[expect(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| PATH.into()))
        .env("LC_ALL", "C.UTF-8");
    command
}

/// A program to run, as the application's side needs it.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// Program and arguments.
    pub argv: &'a [String],
    /// The user to run it as; needs root, unless it is ourselves.
    pub user: Option<&'a str>,
    /// Further environment.
    pub env: &'a [(&'static str, String)],
    /// It is ended after this time.
    pub timeout: Duration,
}

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It could not be started.
    #[error("cannot start {program}: {source}{hint}")]
    Start {
        /// The program.
        program: String,
        /// The system's answer.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The user does not exist, or we may not become that user.
    #[error("cannot run {program} as user {user}: {why}")]
    User {
        /// The program.
        program: String,
        /// The user.
        user: String,
        /// Why not.
        why: &'static str,
    },
    /// It ended with a failure.
    #[error("{program} ended with {status}{}", tail(.stderr))]
    Exit {
        /// The program.
        program: String,
        /// Exit code or signal.
        status: String,
        /// The last of its error output.
        stderr: String,
    },
    /// It did not end in time.
    #[error("{program} did not end within {} s and was ended", .timeout.as_secs())]
    Timeout {
        /// The program.
        program: String,
        /// The time it had.
        timeout: Duration,
    },
    /// What it said could not be read or kept.
    #[error("cannot read from or write for {program}: {source}")]
    Io {
        /// The program.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
    /// We were asked to stop, and ended it.
    #[error(transparent)]
    Interrupted(#[from] signals::Interrupted),
}

fn tail(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

/// Runs a program to its end. Its input is `stdin` or empty; its output goes to `output`, which is called with each
/// piece, or nowhere. An exit status other than 0 is a failure, with the last lines of its error output.
pub fn run(job: &Job<'_>, stdin: Option<File>, output: Option<&mut Sink<'_>>) -> Result<(), Failure> {
    run_with(job, stdin, output, true)
}

/// As [`run`], but goes on when handover was asked to stop: for what must be done even then, as starting a service.
pub fn run_always(job: &Job<'_>) -> Result<(), Failure> {
    run_with(job, None, None, false)
}

/// Where a program's output goes, piece by piece.
pub type Sink<'a> = dyn FnMut(&[u8]) -> io::Result<()> + Send + 'a;

fn run_with(
    job: &Job<'_>,
    stdin: Option<File>,
    output: Option<&mut Sink<'_>>,
    stoppable: bool,
) -> Result<(), Failure> {
    let program = show(job.argv.first().map_or("", String::as_str).as_bytes());
    let failed = |source| Failure::Io { program: program.clone(), source };
    let mut command = prepare(job, &program)?;
    command
        .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
        .stdout(if output.is_some() { Stdio::piped() } else { Stdio::null() })
        .process_group(0);
    // A file and not a pipe: a daemon that the program leaves behind may hold it for ever, and nobody waits for it.
    let errors = rustix::fs::memfd_create("stderr", MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(|e| failed(e.into()))?;
    command.stderr(errors.try_clone().map_err(failed)?);
    let mut child = command.spawn().map_err(|source| {
        let missing = source.kind() == io::ErrorKind::NotFound;
        let hint = if missing { ": install it, or name it with its whole path" } else { "" };
        Failure::Start { program: program.clone(), source, hint }
    })?;
    let stdout = child.stdout.take();
    let abandoned = AtomicBool::new(false);
    let (ended, copied) = thread::scope(|scope| {
        let copied = scope.spawn(|| match (stdout, output) {
            (Some(from), Some(to)) => pass(from, to, &abandoned),
            _ => Ok(()),
        });
        let ended = wait(&mut child, job.timeout, stoppable);
        let deadline = Instant::now() + GRACE;
        while !copied.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        abandoned.store(true, Ordering::Relaxed);
        (ended, copied.join().unwrap_or_else(|_| Err(io::Error::other("the reader failed"))))
    });
    match ended.map_err(failed)? {
        End::Status(status) if status.success() => copied.map_err(failed),
        End::Status(status) => {
            copied.map_err(failed)?;
            Err(Failure::Exit { program, status: describe(status), stderr: last_of(errors) })
        }
        End::Timeout => Err(Failure::Timeout { program, timeout: job.timeout }),
        End::Stopped => Err(signals::Interrupted.into()),
    }
}

/// Goes on as another user, with the same program and arguments: for root. Returns only if that failed.
pub fn go_on_as(user: &super::users::User, argv: &[std::ffi::OsString]) -> io::Error {
    let this = match std::env::current_exe() {
        Ok(this) => this,
        Err(e) => return e,
    };
    let mut command = command("setpriv");
    command.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]);
    command.args(["--init-groups", "--"]).arg(this).args(argv.iter().skip(1)).envs(std::env::vars_os());
    command.env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
    command.exec()
}

fn prepare(job: &Job<'_>, program: &str) -> Result<Command, Failure> {
    let refuse = |user: &str, why| Failure::User { program: program.to_owned(), user: user.to_owned(), why };
    let mut command = match job.user {
        None => plain(job.argv),
        Some(user) => {
            let account = super::users::find(user)
                .ok()
                .flatten()
                .ok_or_else(|| refuse(user, "there is no such user"))?;
            if account.uid == super::users::euid() {
                plain(job.argv)
            } else if super::users::is_root() {
                // setpriv also sets the supplementary groups, which the standard library would drop.
                let mut command = command("setpriv");
                command.args([format!("--reuid={}", account.uid), format!("--regid={}", account.gid)]);
                command.args(["--init-groups", "--"]).args(job.argv);
                command.envs(std::env::vars_os()).env("HOME", &account.home);
                command.env("USER", user).env("LOGNAME", user).current_dir("/");
                command
            } else {
                return Err(refuse(user, "only root can run programs as other users"));
            }
        }
    };
    command.envs(job.env.iter().map(|(key, value)| (key, value)));
    Ok(command)
}

/// The application's own commands see the environment that handover was started with: passwords come that way.
fn plain(argv: &[String]) -> Command {
    let mut command = command(argv.first().map_or("", String::as_str));
    command.args(argv.iter().skip(1)).envs(std::env::vars_os());
    command
}

/// Passes on all that comes until the end of it. When it is `abandoned` (the program has ended, and something that it
/// left behind still holds the pipe), what came may be incomplete: an error.
fn pass(mut from: ChildStdout, to: &mut Sink<'_>, abandoned: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut result = Ok(());
    loop {
        let mut fds = [PollFd::new(&from, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 200_000_000 })) {
            Ok(0) if abandoned.load(Ordering::Relaxed) => {
                return result
                    .and(Err(io::Error::other("it ended but left a process behind that holds its output")));
            }
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(e) => return result.and(Err(e.into())),
        }
        match from.read(&mut buffer) {
            Ok(0) => return result,
            // After a failed write the rest is read and dropped, so that the program ends instead of hanging.
            Ok(n) if result.is_ok() => result = to(&buffer[..n]),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return result.and(Err(e)),
        }
    }
}

/// The last lines that a program wrote to its error output, for people: on one line, without control characters.
fn last_of(errors: File) -> String {
    let size = errors.metadata().map_or(0, |m| m.len());
    let mut kept = vec![0; usize::try_from(size.min(TAIL)).unwrap_or(0)];
    let start = size.saturating_sub(TAIL);
    if errors.read_exact_at(&mut kept, start).is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&kept);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    show(lines[lines.len().saturating_sub(5)..].join(" | ").as_bytes())
}

/// How a wait ended.
#[derive(Debug)]
pub enum End {
    /// The program ended by itself.
    Status(ExitStatus),
    /// It was ended after its time.
    Timeout,
    /// It was ended because we were asked to stop.
    Stopped,
}

/// Waits for a program that leads its own process group; ends the whole group after `timeout`, or (if `stoppable`)
/// when we are asked to stop: SIGTERM, then SIGKILL.
pub fn wait(child: &mut Child, timeout: Duration, stoppable: bool) -> io::Result<End> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(status) = wait_a_little(child)? {
            return Ok(End::Status(status));
        }
        let why = if stoppable && signals::stopping() {
            End::Stopped
        } else if Instant::now() >= deadline {
            End::Timeout
        } else {
            continue;
        };
        end_group(child)?;
        return Ok(why);
    }
}

/// Ends a program and its whole group, and reaps it.
pub fn end_group(child: &mut Child) -> io::Result<()> {
    let deadline = Instant::now() + GRACE;
    signal_group(child, Signal::TERM);
    while Instant::now() < deadline {
        if wait_a_little(child)?.is_some() {
            break;
        }
    }
    signal_group(child, Signal::KILL);
    child.wait().map(|_| ())
}

fn signal_group(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        && rustix::process::kill_process_group(pid, signal).is_err()
    {
        // Nobody is left in the group: that is what was wanted.
    }
}

/// Waits up to 0.2 s, without polling in between where the kernel has pidfds.
fn wait_a_little(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    match pid.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()) {
        Some(fd) => {
            let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
            match rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 200_000_000 })) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        None => thread::sleep(Duration::from_millis(20)),
    }
    child.try_wait()
}

/// An exit status in words.
pub fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    fn job(argv: &[String]) -> Job<'_> {
        Job { argv, user: None, env: &[], timeout: Duration::from_secs(20) }
    }

    #[test]
    fn output_arrives_whole_and_the_exit_status_decides() {
        let words = argv(&["sh", "-c", "printf one; printf two; exit 0"]);
        let mut got = Vec::new();
        run(
            &job(&words),
            None,
            Some(&mut |b| {
                got.extend_from_slice(b);
                Ok(())
            }),
        )
        .unwrap();
        assert_eq!(got, b"onetwo");
        let words = argv(&["sh", "-c", "echo first >&2; echo 'why \u{1b}[2J' >&2; exit 7"]);
        let message = run(&job(&words), None, None).unwrap_err().to_string();
        assert_eq!(message, "sh ended with exit code 7: first | why \\u{1b}[2J");
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_all_its_children() {
        let words = argv(&["sh", "-c", "sleep 1000 & wait"]);
        let short = Job { timeout: Duration::from_millis(300), ..job(&words) };
        let mut nothing = |_: &[u8]| Ok(());
        // The sleep holds the pipe: only ending the whole group lets this return.
        assert!(matches!(run(&short, None, Some(&mut nothing)), Err(Failure::Timeout { .. })));
    }

    #[test]
    fn a_missing_program_is_named() {
        let words = argv(&["no-such-program-here"]);
        let message = run(&job(&words), None, None).unwrap_err().to_string();
        assert!(message.starts_with("cannot start no-such-program-here: No such file"), "{message}");
    }
}
