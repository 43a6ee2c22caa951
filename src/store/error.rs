//! What can go wrong with a store.

use std::path::PathBuf;

use crate::{
    manifest::GenerationId,
    sys::{self, show},
};

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused something.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// The run was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] sys::signals::Interrupted),
    /// The store's marker is missing: an unmounted disk must not look like an empty store.
    #[error("{} is not the store that was set up (its marker is {found}): is the disk mounted?", show(.path.as_os_str().as_encoded_bytes()))]
    NotMounted {
        /// The folder that should be the store.
        path: PathBuf,
        /// `missing`, or what the marker says instead.
        found: String,
    },
    /// The home of a source that the state knows is not in its place.
    #[error("{} is not the home that was set up ({why}): is its disk mounted?", show(.path.as_os_str().as_encoded_bytes()))]
    HomeGone {
        /// The home.
        path: PathBuf,
        /// What is there instead.
        why: String,
    },
    /// A folder is missing, of the wrong owner, or on another file system.
    #[error("{}: {why}", show(.path.as_os_str().as_encoded_bytes()))]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What is wrong, with the fix.
        why: String,
    },
    /// A generation's own files do not hold together.
    #[error("{} is damaged: {why}", show(.path.as_os_str().as_encoded_bytes()))]
    Damaged {
        /// The generation's folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The same id is here with another seal.
    #[error("generation {id} is already here with another seal: the one here stays as it is")]
    OtherSeal {
        /// The id.
        id: GenerationId,
    },
}

/// The result of an act on a store.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What to do where the home of a source is gone.
    pub const HOME_GONE: &str = "mount its disk, then run again; only where it is gone for good, or is to be another: `handover source init --new-home`";

    /// Whether the storage itself is the cause.
    pub fn is_storage(&self) -> bool {
        match self {
            Self::Sys(e) => e.is_storage(),
            Self::NotMounted { .. } | Self::HomeGone { .. } => true,
            Self::Interrupted(_) | Self::Layout { .. } | Self::Damaged { .. } | Self::OtherSeal { .. } => {
                false
            }
        }
    }
}
