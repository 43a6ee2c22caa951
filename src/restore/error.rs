//! Why a restore ended.

use super::write_out;
use crate::{
    manifest::BadManifest,
    report::{Finding, Kind},
    store,
    sys::{self, child::Failure, copy::CopyError, signals},
};

/// Why a restore ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is refused as it is; nothing was touched.
    #[error("{text}")]
    Refused {
        /// Why.
        text: String,
        /// What would be accepted.
        fix: String,
    },
    /// What was asked for by its name is nowhere: a mistake of whoever asks, and nothing is known by it. Nothing was touched.
    #[error("{text}")]
    Unknown {
        /// What.
        text: String,
        /// What there is.
        fix: String,
    },
    /// Content is not what its seal stands for.
    #[error("{0}")]
    Damaged(String),
    /// The configuration does not fit.
    #[error("{text}")]
    Configuration {
        /// What is wrong.
        text: String,
        /// How to mend it.
        fix: String,
    },
    /// A step of an element failed.
    #[error("{element}: {text}")]
    Step {
        /// The element.
        element: String,
        /// Which step, and why.
        text: String,
    },
    /// There is not enough room; nothing was touched.
    #[error("{text}")]
    NoRoom {
        /// Where, for what, and the figures.
        text: String,
    },
    /// Another run holds the lock.
    #[error("another run holds the lock: {0}")]
    Busy(String),
    /// The system refused something.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// A store refused something.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] BadManifest),
    /// We were asked to stop.
    #[error(transparent)]
    Interrupted(#[from] signals::Interrupted),
    /// A mistake of ours.
    #[error("internal: {0}")]
    Internal(&'static str),
}

const NO_ROOM: &str = "make room there; what a restore has replaced and kept goes by `handover restore clean`, and a part is restored \
                       with --element or --path";

/// The result of a step of a restore.
pub type Result<T> = std::result::Result<T, Error>;

impl From<write_out::Error> for Error {
    fn from(e: write_out::Error) -> Self {
        match e {
            write_out::Error::Damaged(why) => Self::Damaged(why),
            write_out::Error::NoRoom(text) => Self::NoRoom { text },
            write_out::Error::Manifest(e) => e.into(),
            write_out::Error::Sys(e) => e.into(),
            write_out::Error::Interrupted(e) => e.into(),
        }
    }
}

impl From<CopyError> for Error {
    fn from(e: CopyError) -> Self {
        match e {
            CopyError::Read(e) | CopyError::Write(e) => e.into(),
            CopyError::Interrupted(e) => e.into(),
        }
    }
}

impl Error {
    /// A refusal.
    pub fn refused(text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Refused { text: text.into(), fix: fix.into() }
    }

    /// A command of an element that failed.
    pub fn of_command(element: &str, what: &str, e: Failure) -> Self {
        match e {
            Failure::Interrupted(e) => e.into(),
            e => Self::Step { element: element.to_owned(), text: format!("{what} failed: {e}") },
        }
    }

    /// What it is called in a report.
    pub fn finding(&self, subject: &str) -> Finding {
        let kind = match self {
            Self::Refused { .. } | Self::Unknown { .. } => Kind::RestoreRefused,
            Self::Configuration { .. } | Self::Store(store::Error::Layout { .. }) => Kind::Configuration,
            Self::Busy(_) => Kind::Busy,
            Self::Interrupted(_) | Self::Store(store::Error::Interrupted(_)) => Kind::Interrupted,
            Self::Damaged(_) | Self::Manifest(_) | Self::Store(store::Error::Damaged { .. }) => {
                Kind::Verification
            }
            Self::Internal(_) => Kind::Internal,
            Self::NoRoom { .. } => Kind::Storage,
            Self::Sys(e) if e.is_storage() => Kind::Storage,
            Self::Store(e) if e.is_storage() => Kind::Storage,
            Self::Sys(_) | Self::Store(_) | Self::Step { .. } => Kind::Failed,
        };
        let finding = Finding::new(kind, subject, self.to_string());
        match self {
            Self::Refused { fix, .. } | Self::Unknown { fix, .. } | Self::Configuration { fix, .. } => {
                finding.with_fix(fix.clone())
            }
            Self::NoRoom { .. } => finding.with_fix(NO_ROOM),
            Self::Store(store::Error::HomeGone { .. }) => finding.with_fix(store::Error::HOME_GONE),
            Self::Damaged(_) | Self::Manifest(_) => finding.with_fix(
                "try an older generation, or the same from another place: `handover restore list` shows them",
            ),
            _ => finding,
        }
    }
}
