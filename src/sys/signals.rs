//! SIGTERM, SIGINT and SIGHUP ask a run to stop: it stops at the next safe place, starts services again, and says so.
//! A daemon stops too, but for SIGHUP, by which it reads its configuration again.

use std::{
    io::Read as _,
    os::unix::net::UnixStream,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();
static RELOAD: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// A run was asked to stop.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Begins to listen. A second signal while the first is being obeyed is ignored; SIGKILL is always survivable.
pub fn listen() -> std::io::Result<()> {
    let flag = STOP.get_or_init(Arc::default);
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// What wakes a daemon: a signal to it, or the end of a child.
#[derive(Debug)]
pub struct Wakeups {
    woken: UnixStream,
}

impl Wakeups {
    /// Begins to listen, in the place of [`listen`]: SIGHUP does not ask to stop.
    pub fn listen() -> std::io::Result<Self> {
        let (stop, reload) = (STOP.get_or_init(Arc::default), RELOAD.get_or_init(Arc::default));
        let (woken, wake) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        // The flag first: who is woken finds it set.
        for (signal, flag) in [(SIGTERM, stop), (SIGINT, stop), (SIGHUP, reload)] {
            signal_hook::flag::register(signal, Arc::clone(flag))?;
        }
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGCHLD] {
            signal_hook::low_level::pipe::register(signal, wake.try_clone()?)?;
        }
        Ok(Self { woken })
    }

    /// Sleeps until something happens, at most so long.
    pub fn wait(&mut self, longest: Duration) -> std::io::Result<()> {
        let longest =
            Timespec { tv_sec: longest.as_secs().min(3600) as i64, tv_nsec: longest.subsec_nanos().into() };
        match rustix::event::poll(&mut [PollFd::new(&self.woken, PollFlags::IN)], Some(&longest)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let mut bytes = [0; 64];
        loop {
            match self.woken.read(&mut bytes) {
                Ok(n) if n > 0 => {}
                // Nothing is left.
                _ => return Ok(()),
            }
        }
    }
}

/// Whether a daemon was asked to read its configuration again, since this was last asked.
pub fn take_reload() -> bool {
    RELOAD.get().is_some_and(|flag| flag.swap(false, Ordering::Relaxed))
}

/// Whether the run was asked to stop.
pub fn stopping() -> bool {
    STOP.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Err if the run was asked to stop: for `?` at safe places.
pub fn check() -> Result<(), Interrupted> {
    if stopping() { Err(Interrupted) } else { Ok(()) }
}

/// Sleeps, unless the run is asked to stop.
pub fn pause(time: Duration) -> Result<(), Interrupted> {
    let end = std::time::Instant::now() + time;
    loop {
        check()?;
        let left = end.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}
