//! A restore that was cut: until it is finished or undone, the application may be half the old one and half the new.

use std::path::Path;

use crate::sys::{Dir, Result};

/// The journal of a restore, in `<state>/restore/`: it is there from before the first change until after the last.
pub const JOURNAL: &str = "journal.json";

/// Whether one was cut; `state` is root's folder of all roles.
pub fn is_there(state: &Path) -> Result<bool> {
    match Dir::open(state.join("restore")) {
        Ok(dir) => Ok(dir.stat_if_any(JOURNAL)?.is_some()),
        Err(e) if e.is_not_found() => Ok(false),
        Err(e) => Err(e),
    }
}
