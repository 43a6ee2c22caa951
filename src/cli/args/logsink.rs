//! `handover logsink`: what it can do beside what a sink can.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{SinkAction, SinkRunArgs, When};
use crate::sys::name::Name;

/// `handover logsink`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LogsinkArgs {
    /// What to do; without it: run
    #[command(subcommand)]
    pub action: Option<LogsinkAction>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become part of the help text")]
    pub run: SinkRunArgs,
}

/// What `handover logsink` can do.
#[derive(Debug, Subcommand)]
pub enum LogsinkAction {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become part of the help text")]
    Same(SinkAction),
    /// Print a source's log as one stream over all stored generations: in order, each byte once
    Cat(CatArgs),
}

/// `handover logsink cat`.
#[derive(Debug, Args)]
pub struct CatArgs {
    /// The source
    pub name: Name,
    /// Only this log, by its path on the source; several are printed one after the other. Without it: all
    #[arg(long, value_name = "LOG")]
    pub path: Vec<PathBuf>,
    /// The journal instead, in the export format: for systemd-journal-remote
    #[arg(long, conflicts_with = "path")]
    pub journal: bool,
    /// List the logs that are there instead
    #[arg(long)]
    pub list: bool,
    /// Only what was collected at this time or later: 2026-11-23, 2026-11-23T03:00, with Z or an offset, or an age as 2h
    #[arg(long, value_name = "TIME")]
    pub since: Option<When>,
    /// Only what was collected before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<When>,
}
