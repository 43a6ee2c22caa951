//! What is tried on one machine without containers, from the outside.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test builds its world by plain means and fails by panicking; clippy knows tests by their attribute alone and not the helpers beside them"
)]

mod archive;
mod config;
mod crash;
mod daemon;
mod deliver;
mod delta;
mod docs;
mod enemy;
mod format;
mod harness;
mod heal;
mod init;
mod kill;
mod layers;
mod logs;
mod logsink;
mod mail;
mod mistakes;
mod power;
mod proof;
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
mod upgrade;
