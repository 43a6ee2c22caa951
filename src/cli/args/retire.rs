//! `handover sink forget` and `rename`, `handover source discard`: what is no more, or is called otherwise.

use clap::Args;

use super::GateChannel;
use crate::{manifest::GenerationId, sys::name::Name};

/// `handover sink forget`.
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// The source; it must not be configured any more
    pub name: Name,
    /// Keep so many of its newest whole generations, pinned
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub keep: usize,
    /// Pinned ones too
    #[arg(long)]
    pub pinned: bool,
    /// Although the newest came less than 7 days ago
    #[arg(long)]
    pub even_recent: bool,
    /// Do not ask for the name: needed where nobody sits at a terminal
    #[arg(long)]
    pub yes: bool,
    /// Show what would go, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `handover sink rename`.
#[derive(Debug, Args)]
pub struct RenameArgs {
    /// The name until now
    pub old: Name,
    /// The name from now on, as the source calls itself
    pub new: Name,
    /// Leave the configuration as it is: what root has the owner of the store do
    #[arg(long, hide = true)]
    pub only_folders: bool,
    /// Show what would be changed, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `handover source discard`.
#[derive(Debug, Args)]
pub struct DiscardArgs {
    /// The generation
    pub id: GenerationId,
    /// Of which channel; without it: data
    #[arg(long, value_enum)]
    pub channel: Option<GateChannel>,
    /// Although nothing younger on this host holds what is in it; do not ask
    #[arg(long)]
    pub yes: bool,
    /// Show what would be given up, change nothing
    #[arg(long)]
    pub dry_run: bool,
}
