//! A restore, or the undoing of one, that was cut: until it is finished, the application may be half the one state and half the
//! other.

use std::path::Path;

use crate::sys::{Dir, Result};

/// The journal of a restore, in `<state>/restore/`: it is there from before the first change until after the last.
pub const JOURNAL: &str = "journal.json";
/// The same of `restore undo`.
pub const UNDOING: &str = "undoing.json";

/// What was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// What is so.
    pub text: &'static str,
    /// What finishes it.
    pub fix: &'static str,
}

/// A restore.
pub const RESTORE: Cut = Cut {
    text: "a restore was cut and is not finished",
    fix: "handover restore: it says whether it finishes or undoes, and does it",
};
/// The undoing of one.
pub const UNDO: Cut = Cut {
    text: "a `restore undo` was cut and is not finished",
    fix: "mend what stopped it, then handover restore undo: it goes on with what is not yet put back",
};

/// What was cut, if anything; `state` is root's folder of all roles.
pub fn look(state: &Path) -> Result<Option<Cut>> {
    let dir = match Dir::open(state.join("restore")) {
        Ok(dir) => dir,
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(e),
    };
    for (name, cut) in [(JOURNAL, RESTORE), (UNDOING, UNDO)] {
        if dir.stat_if_any(name)?.is_some() {
            return Ok(Some(cut));
        }
    }
    Ok(None)
}
