//! Commands that the operator wants run before and after collecting.

use std::time::Duration;

use crate::sys::child::{self, Failure, Job};

/// Runs commands one after the other; the first failure ends the list.
pub fn run_all(
    commands: &[Vec<String>],
    timeout: Duration,
    env: &[(&'static str, String)],
) -> Result<(), Failure> {
    commands.iter().try_for_each(|argv| child::run(&Job { argv, user: None, env, timeout }, None, None))
}

/// Runs every command, also after a failure and when we were asked to stop: what was prepared is put back.
pub fn run_always(
    commands: &[Vec<String>],
    timeout: Duration,
    env: &[(&'static str, String)],
) -> Vec<Failure> {
    commands
        .iter()
        .filter_map(|argv| child::run_always(&Job { argv, user: None, env, timeout }).err())
        .collect()
}
