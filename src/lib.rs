//! `handover` brings the backups of application hosts to a backup host, proves that they arrived whole,
//! keeps the right number of them on both sides, and brings them back.
//!
//! The process, and the folder in which each step lives:
//!
//! ```text
//! source/   B1  collect data, seal a generation, publish it at the Transport Handover Point
//! gate/         what the source answers to a sink: offers, send, accept, reject
//! remote/       how a sink reaches a gate: in a folder of this machine, or over ssh
//! sink/     B2  fetch, check, store, accept, prune
//! logsink/  B3  the same for logs; what only logs have: they are read as one over all generations
//! restore/  R   bring a generation back
//! daemon/       when a run is due, and what became of the last
//! store/        the states of a generation on disk, retention, recovery: the only writer of store folders
//! manifest/     what a generation says of itself: mtree, checksums, xattrs, seal
//! app/          the application's side: services, hooks, dump and restore commands
//! config/       the file as written, checked and resolved
//! notify/       which facts of a run are worth waking somebody for
//! report        what happened in a run: one value for text, JSON, status and mail
//! sys/          every effect: durable writes, locks, clock, signals, child processes, the cage
//! cli/          arguments, text, JSON, exit codes: the only place that prints
//! ```
//!
//! Imports go downwards only; `tests/it/layers.rs` enforces it.

pub mod app;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod gate;
pub mod logsink;
pub mod manifest;
pub mod notify;
pub mod remote;
pub mod report;
pub mod restore;
pub mod sink;
pub mod source;
pub mod store;
pub mod sys;
