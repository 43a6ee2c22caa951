//! What can go wrong on the way to the far end, and who failed.

use std::time::Duration;

use crate::sys::{self, show};

/// What went wrong between a sink and a source, by who failed. All texts are safe to show.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The far end cannot be reached.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The far end is there, but does not let us in, is not who it should be, or has no gate: a person must act.
    #[error("{why}")]
    Access {
        /// What is wrong.
        why: String,
        /// What to do about it.
        fix: String,
    },
    /// Another host than the one that was enrolled answers under its name: a person must find out why.
    #[error("{why}")]
    HostKey {
        /// What is wrong.
        why: String,
        /// What to do about it.
        fix: String,
    },
    /// The gate there said no.
    #[error("the gate there refused: {0}")]
    Gate(String),
    /// rsync there failed.
    #[error("rsync there failed: {0}")]
    RsyncThere(Failure),
    /// rsync here failed.
    #[error("rsync here failed: {0}")]
    RsyncHere(Failure),
    /// Nothing moved for too long.
    #[error("nothing was transferred for {} s: the far end or the line hangs", .0.as_secs())]
    Stalled(Duration),
    /// It took too long as a whole.
    #[error("not done within {} s: give it more time, or bandwidth", .0.as_secs())]
    Deadline(Duration),
    /// The far end, or rsync here, did not keep to the protocol.
    #[error("against the protocol: {0}")]
    Protocol(String),
    /// The disk here came to what stays free of it.
    #[error(
        "stopped, because no more than {free} bytes are free on the disk here, and {floor} are kept free (`reserve`)"
    )]
    Full {
        /// Bytes that were free.
        free: u64,
        /// Bytes that stay free.
        floor: u64,
    },
    /// The run was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] sys::signals::Interrupted),
    /// The system here refused something.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// handover here failed.
    #[error("{0}")]
    Us(String),
}

/// How an rsync ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{said}", .meaning, if .said.is_empty() { "" } else { ": " })]
pub struct Failure {
    /// Its exit code, if it was not killed.
    pub code: Option<i32>,
    /// What the code means.
    pub meaning: String,
    /// What it said.
    pub said: String,
}

/// The result of something that the far end takes part in.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of ours, on the way to do something.
    pub fn us(what: &str, why: impl std::fmt::Display) -> Self {
        Self::Us(format!("cannot {what}: {}", show(why.to_string().as_bytes())))
    }

    /// Whether the storage here is the cause: full, out of quota, read-only or broken. Only what rsync here says of
    /// itself counts; the text is not proof, as the far end can have a part in it.
    pub fn is_storage(&self) -> bool {
        match self {
            Self::Sys(e) => e.is_storage(),
            Self::Full { .. } => true,
            Self::RsyncHere(failure) => [libc::ENOSPC, libc::EDQUOT, libc::EIO, libc::EROFS, libc::ENODEV]
                .iter()
                .any(|errno| failure.said.contains(&format!("({errno})"))),
            _ => false,
        }
    }

    /// Whether the far end was not reached, or the line to it hung or broke: worth another try later.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Connect(_)
                | Self::Access { .. }
                | Self::HostKey { .. }
                | Self::Stalled(_)
                | Self::Deadline(_)
        )
    }

    /// Whether it may pass by itself within seconds: worth another try at once.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Stalled(_))
    }

    /// What to do about it, where that is known exactly.
    pub fn fix(&self) -> Option<&str> {
        match self {
            Self::Access { fix, .. } | Self::HostKey { fix, .. } => Some(fix),
            _ => None,
        }
    }
}
