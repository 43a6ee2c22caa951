//! The states of a generation on disk. The place on disk is the state: each step is one rename, made only here.
//!
//! On the source ([`handover_point`]): `collecting/` -> `transport-outgoing/` -> `store/` -> `condemned/`.
//! A delivery from a sink comes to `restore/` ([`drop_point`]): `.incoming-<id>/` -> `<id>/`.
//! On the sink ([`sink_store`], [`staging`]): `incoming/` -> `store/` -> `condemned/`, or `quarantine/`. A state cannot be
//! made from outside:
//!
//! ```compile_fail,E0616
//! fn unchecked(planned: handover::store::plan::Planned) -> handover::store::plan::Planned {
//!     let place = planned.place; // private: only `check` makes a `Checked` of it
//!     planned
//! }
//! ```
//!
//! ```compile_fail,E0382
//! # use handover::store::{place::Checked, Result};
//! fn twice(checked: Checked, now: jiff::Timestamp) -> Result<()> {
//!     checked.commit("sink", now, Default::default())?;
//!     checked.commit("sink", now, Default::default())?;
//!     Ok(())
//! }
//! ```

mod ahead;
pub mod anomaly;
mod compare;
pub mod condemned;
pub mod drilled;
pub mod drop_point;
pub mod error;
pub mod found;
pub mod handover_point;
mod hands;
pub mod heal;
pub mod lay;
pub mod ledger;
pub mod marks;
pub mod meta;
pub mod note;
pub mod order;
pub mod patch;
pub mod place;
pub mod plan;
pub mod prove;
pub mod quarantine;
pub mod receive;
pub mod retention;
#[cfg(test)]
pub(crate) mod sample;
pub mod sink_store;
pub mod source_store;
pub mod staging;
#[cfg(test)]
mod staging_tests;
pub mod verify;
mod walk;
mod wanted;

pub use error::{Error, Result};
pub use found::{Found, Strange};
pub use sink_store::SinkStore;
pub use source_store::{SourceStore, Stored};

/// Names of the folders in a home.
pub mod places {
    /// Drafts of the source: root's.
    pub const COLLECTING: &str = "collecting";
    /// The Transport Handover Point.
    pub const OUTGOING: &str = "transport-outgoing";
    /// The Source-Store or the Sink-Store.
    pub const STORE: &str = "store";
    /// What retention took away, until `undo_for` is over.
    pub const CONDEMNED: &str = "condemned";
    /// What is being fetched.
    pub const INCOMING: &str = "incoming";
    /// What failed its check twice.
    pub const QUARANTINE: &str = "quarantine";
    /// What the gate needs to know, written by `source`.
    pub const GATE: &str = "gate";
    /// The restore drop point.
    pub const RESTORE: &str = "restore";
    /// Generations that have been restored: root's.
    pub const RESTORED: &str = "restored";
    /// What handover makes in folders of the application while restoring begins so, and is never collected.
    pub const TEMPORARY: &str = ".handover-";
}
