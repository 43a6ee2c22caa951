//! SIGTERM, SIGINT and SIGHUP ask a run to stop: it stops at the next safe place, starts services again, and says so.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// A run was asked to stop.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Begins to listen. A second signal while the first is being obeyed is ignored; SIGKILL is always survivable.
pub fn listen() -> std::io::Result<()> {
    let flag = STOP.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
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
pub fn pause(time: std::time::Duration) -> Result<(), Interrupted> {
    let end = std::time::Instant::now() + time;
    loop {
        check()?;
        let left = end.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(std::time::Duration::from_millis(100)));
    }
}
