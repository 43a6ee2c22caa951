//! R: bring a generation back.
//!
//! Below a folder, with nothing else touched (`--to`): [`below`], [`write_out`]. Into the running application: [`find`] and
//! [`pick`] what, [`copy`] it to where it can be proven, [`plan`], [`build`] the new beside the old, [`exchange`] them; the
//! [`journal`] lets [`finish`] end or undo a run that was cut. And the [`drill`].

pub mod apply;
pub mod below;
mod beside;
mod bring;
pub mod build;
pub mod clean;
pub mod copy;
pub mod drill;
pub mod drilling;
pub mod dump;
pub mod error;
pub mod exchange;
pub mod find;
pub mod finish;
pub mod gate;
pub mod give_up;
pub mod held;
pub mod journal;
mod metadata;
pub mod need;
pub mod pick;
pub mod plan;
pub mod proven;
mod rehearsal;
pub mod restored;
pub mod run;
pub mod selection;
mod sought;
pub mod tarball;
pub mod trees;
pub mod undo;
pub mod units;
mod unpack;
pub mod write_out;
