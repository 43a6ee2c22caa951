//! The part of a daemon that decides and remembers: when the next run of each job is due, and what became of the last.
//! `handover source daemon` and its like wait, start the runs as children, and print; that is in `cli`.
//!
//! ```text
//! <state>/<role>/daemon.json   the last run of each job, and when the next is due   (note)
//! <state>/<role>/daemon-lock   held by the daemon of the role: there is one
//! ```

pub mod job;
pub mod note;

pub use job::{Job, Skipped, Timing};
pub use note::{Last, Note};
