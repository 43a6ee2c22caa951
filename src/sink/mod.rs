//! B2 and B3: fetch what sources offer, prove it, store it, accept it, prune. For data and for logs alike: which of the
//! two it is, the configuration says ([`SinkRole`]).

use crate::{config::SinkRole, manifest::Channel};

pub mod brake;
pub mod candidates;
pub mod choice;
pub mod deliver;
pub mod enroll;
pub mod fetch;
pub mod forget;
pub mod heal;
pub mod journal;
pub mod key;
pub mod life;
pub mod one;
mod patch;
mod preflight;
pub mod prune;
pub mod query;
pub mod rename;
pub mod run;
pub mod status;
pub mod watch;

/// What a sink of a role takes; all else it refuses.
pub fn channel(role: SinkRole) -> Channel {
    match role {
        SinkRole::Data => Channel::Data,
        SinkRole::Logs => Channel::Logs,
    }
}
