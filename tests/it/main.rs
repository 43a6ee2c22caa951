//! What is tried on one machine without containers, from the outside.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test builds its world by plain means and fails by panicking; clippy knows tests by their attribute alone and not the helpers beside them"
)]

mod archive;
mod config;
mod deliver;
mod docs;
mod format;
mod harness;
mod heal;
mod kill;
mod layers;
mod logs;
mod logsink;
mod mail;
mod mistakes;
mod provider;
mod remote;
mod restore;
mod roundtrip;
mod sandbox;
mod sink;
mod source;
mod ssh;
mod status;
mod stolen_key;
