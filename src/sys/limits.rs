//! Limits of this process.

use rustix::process::{Resource, Rlimit};

/// Lets this process open as many files as it may: a walk holds a few for each folder on its way down. Where that is
/// refused, the limit of before holds, and a walk that needs more says so.
pub fn raise_open_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_err() {
        // As documented.
    }
}
