//! Every effect has its home here: folder handles, durable writes, copying, locks, the clock, signals,
//! child processes and the cage around rsync. Nothing in here knows what a backup is.

pub mod accounts;
pub mod child;
pub mod clock;
pub mod copy;
pub mod dir;
pub mod durable;
mod error;
mod hasher;
pub mod holders;
pub mod laps;
pub mod limits;
pub mod lock;
pub mod metadata;
pub mod mounts;
pub mod name;
pub mod program;
pub mod progress;
pub mod random;
pub mod room;
pub mod sandbox;
pub mod signals;
pub mod stamp;
mod step;
pub mod syslog;
pub mod trusted;
pub mod users;
pub mod words;
pub mod worker;
pub mod xattr;

pub use dir::Dir;
pub use error::{Error, Result, chain, show};
