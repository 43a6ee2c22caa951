//! B1: collect application data, seal a generation, publish it at the Transport Handover Point.

pub mod archive;
pub mod cache;
pub mod collect;
pub mod collecting;
pub mod copier;
pub mod dump;
mod grants;
pub mod life;
mod packing;
pub mod run;
pub mod seal;
pub mod state;
pub mod status;
pub mod tree;
pub mod watch;
