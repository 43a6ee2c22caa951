//! Every call that changes a disk, or makes a change last, passes here: tests have it fail, or the process die in its place.
//!
//! A step is known by its system call and by the line that asked for it (of a helper of this layer: the line that asked the
//! helper), and counted there; what it is about is told with it. A release is built without debug assertions, and has
//! nothing of this: no variable of the environment makes it fail.

use std::{fs::File, io::Write, panic::Location, path::PathBuf};

use rustix::io;

/// Does a step that gives something, as a descriptor.
#[track_caller]
pub(super) fn step<T>(
    call: &'static str,
    paths: impl FnOnce() -> Vec<PathBuf>,
    act: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    step_of(call, Location::caller(), paths, act)
}

/// The same for one that another line of the code asked for.
fn step_of<T>(
    call: &'static str,
    line: &'static Location<'static>,
    paths: impl FnOnce() -> Vec<PathBuf>,
    act: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    #[cfg(debug_assertions)]
    {
        let (step, _) = faults::begin(call, line, &paths())?;
        let done = act();
        faults::end(step, done.is_ok());
        done
    }
    #[cfg(not(debug_assertions))]
    {
        let (_, _, _) = (call, line, paths);
        act()
    }
}

/// Does a step that only makes others last; a test may leave it out.
#[track_caller]
pub(super) fn sync(
    call: &'static str,
    path: impl FnOnce() -> PathBuf,
    act: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    #[cfg(debug_assertions)]
    {
        let (step, left_out) = faults::begin(call, Location::caller(), &[path()])?;
        let done = if left_out { Ok(()) } else { act() };
        faults::end(step, done.is_ok());
        done
    }
    #[cfg(not(debug_assertions))]
    {
        let (_, _) = (call, path);
        act()
    }
}

/// What writes to a disk, each piece as a step.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    path: PathBuf,
    line: &'static Location<'static>,
}

impl<W> Writer<W> {
    /// Writes to a file, whose path is told with each step.
    #[track_caller]
    pub fn new(to: W, path: impl Into<PathBuf>) -> Self {
        Self { to, path: path.into(), line: Location::caller() }
    }
}

impl Writer<File> {
    /// Makes what was written last.
    #[track_caller]
    pub fn sync(&self) -> super::Result<()> {
        super::durable::sync_file(&self.to, &self.path)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut done = Ok(0);
        step_of(
            "write",
            self.line,
            || vec![self.path.clone()],
            || {
                done = self.to.write(bytes);
                Ok(())
            },
        )?;
        done
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// `HANDOVER_STEPS=FILE`: each step is appended there as a line of call, line of the code, count, result and paths,
/// separated by tabs. `HANDOVER_FAULT="ACTION CALL LINE COUNT"`: at that step the process dies as by SIGKILL (`kill` before
/// it is done, `killed` after), it fails (`ENOSPC`, `EDQUOT`, `EIO`, `EROFS`), or it is left out (`omit`; count 0: each time).
#[cfg(debug_assertions)]
mod faults {
    use std::{
        collections::HashMap,
        fs::{File, OpenOptions},
        io::Write as _,
        os::unix::ffi::OsStrExt as _,
        panic::Location,
        path::PathBuf,
        sync::{LazyLock, Mutex, PoisonError},
    };

    use rustix::io::{Errno, Result};

    static SEEN: LazyLock<Mutex<HashMap<(&'static str, &'static Location<'static>), u64>>> =
        LazyLock::new(Mutex::default);
    static TRACE: LazyLock<Option<File>> = LazyLock::new(|| {
        let file = std::env::var_os("HANDOVER_STEPS")?;
        OpenOptions::new().append(true).create(true).open(file).ok()
    });
    static FAULT: LazyLock<Option<Fault>> =
        LazyLock::new(|| std::env::var("HANDOVER_FAULT").ok().map(|text| Fault::parse(&text)));

    struct Fault {
        action: Action,
        call: String,
        line: String,
        count: u64,
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Action {
        Kill,
        Killed,
        Omit,
        Fail(Errno),
    }

    impl Fault {
        #[expect(clippy::panic, reason = "a test without the fault that it asked for proves nothing")]
        fn parse(text: &str) -> Self {
            let words: Vec<&str> = text.split(' ').collect();
            let [action, call, line, count] = words[..] else { panic!("HANDOVER_FAULT={text}") };
            let action = match action {
                "kill" => Action::Kill,
                "killed" => Action::Killed,
                "omit" => Action::Omit,
                "ENOSPC" => Action::Fail(Errno::NOSPC),
                "EDQUOT" => Action::Fail(Errno::DQUOT),
                "EIO" => Action::Fail(Errno::IO),
                "EROFS" => Action::Fail(Errno::ROFS),
                other => panic!("HANDOVER_FAULT={text}: no action {other}"),
            };
            let count = count.parse().unwrap_or_else(|_| panic!("HANDOVER_FAULT={text}: no count"));
            Self { action, call: call.to_owned(), line: line.to_owned(), count }
        }
    }

    /// A step that has begun.
    pub(super) struct Begun {
        told: Vec<u8>,
        dies: bool,
    }

    /// Counts a step and lets the fault happen that is asked for here; whether the step is to be left out.
    pub(super) fn begin(
        call: &'static str,
        line: &'static Location<'static>,
        paths: &[PathBuf],
    ) -> Result<(Begun, bool)> {
        let count = {
            let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
            let count = seen.entry((call, line)).or_default();
            *count += 1;
            *count
        };
        let mut told = format!("{call}\t{line}\t{count}\t").into_bytes();
        told.push(b'?');
        for path in paths {
            told.push(b'\t');
            told.extend(path.as_os_str().as_bytes());
        }
        told.push(b'\n');
        let here =
            |f: &&Fault| f.call == call && f.line == line.to_string() && (f.count == count || f.count == 0);
        let action = FAULT.as_ref().filter(here).map(|fault| fault.action);
        let mut begun = Begun { told, dies: action == Some(Action::Killed) };
        match action {
            Some(Action::Kill) => {
                tell(&mut begun.told, b'!');
                die();
            }
            Some(Action::Fail(errno)) => {
                tell(&mut begun.told, b'!');
                return Err(errno);
            }
            _ => {}
        }
        Ok((begun, action == Some(Action::Omit)))
    }

    /// Tells how a step ended: `+` or `-`.
    pub(super) fn end(mut step: Begun, well: bool) {
        tell(&mut step.told, if well { b'+' } else { b'-' });
        if step.dies {
            die();
        }
    }

    fn tell(line: &mut [u8], result: u8) {
        let Some(mut file) = TRACE.as_ref() else { return };
        if let Some(mark) = line.iter_mut().find(|b| **b == b'?') {
            *mark = result;
        }
        if file.write_all(line).is_err() {
            // A trace with a gap is another than the one that is expected: the test notices.
        }
    }

    fn die() {
        if rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).is_err() {
            // Then the test waits until it is told to stop.
        }
        loop {
            std::thread::park();
        }
    }
}
