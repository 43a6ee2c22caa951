//! B2: fetch what sources offer, prove it, store it, accept it, prune.

pub mod candidates;
pub mod enroll;
pub mod fetch;
pub mod key;
pub mod one;
pub mod prune;
pub mod query;
pub mod run;
pub mod status;
pub mod watch;
