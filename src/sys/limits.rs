//! Limits of this process.

use std::time::Duration;

use rustix::process::{Resource, Rlimit};

/// Lets this process open as many files as it may: a walk holds a few for each folder on its way down. Where that is
/// refused, the limit of before holds, and a walk that needs more says so.
pub fn raise_open_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_err() {
        // As documented.
    }
}

/// Ends this process, and whatever program it becomes, after so long (whole seconds, at least one): by SIGALRM.
pub fn end_after(lifetime: Duration) {
    let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX).max(1);
    nix::unistd::alarm::set(seconds);
}
