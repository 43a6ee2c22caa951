//! B1: collect application data, seal a generation, publish it at the Transport Handover Point.

pub mod archive;
pub mod cache;
pub mod collect;
pub mod collecting;
pub mod copier;
mod delivery;
pub mod deltas;
mod dump;
mod grants;
pub mod home;
pub mod life;
pub mod linking;
pub mod logs;
mod packing;
pub mod run;
pub mod seal;
pub mod state;
pub mod status;
pub mod tree;
pub mod watch;

use std::path::Path;

use crate::{config, manifest::Channel};

/// The channels that a source has by its configuration, each with its home.
pub fn channels(source: &config::Source) -> Vec<(Channel, &Path)> {
    let data = (!source.elements.is_empty()).then_some((Channel::Data, source.home.as_path()));
    let logs = source.logs.as_ref().map(|logs| (Channel::Logs, logs.home.as_path()));
    data.into_iter().chain(logs).collect()
}
